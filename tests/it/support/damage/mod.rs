//! Stores whose files were damaged or forged, and how the store reacts.

mod edit;
#[cfg(feature = "transaction")]
mod forge;
mod image;
mod look;

use arbitrary::{Result, Unstructured};
use idemstore::{ManualClock, Timestamp};

use super::SimDisk;
use edit::Edit;
use image::{Files, Image};
use look::{Calls, Look};

/// The most changes to the files.
const EDITS_MAX: usize = 6;

/// How the store reacts to its files.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Verdict {
    /// It does not open.
    Refused,
    /// It opens, and every answer is right.
    Right,
    /// It opens with forged files, for which no right answers are known.
    Forged,
}

/// Any bytes are a store, the changes to its files, and the calls that follow.
///
/// The open finds the damage, or the damage doesn't matter. A forger achieves no more than wrong
/// answers: no panic, no endless call, and typed errors only.
pub fn play(bytes: &[u8]) -> Verdict {
    let mut source = Unstructured::new(bytes);
    let image = Image::choose(source.arbitrary().unwrap_or_default());
    let calls = Calls(source.arbitrary().unwrap_or_default());
    let mut files = image.files.clone();
    let edits = edits(&mut source, &mut files).unwrap_or_default();
    let forged = edits.iter().any(Edit::is_forgery);
    let verdict = check(image, &files, calls, forged);
    let untouched = files == image.files;
    assert!(!untouched || forged || verdict == Verdict::Right, "{verdict:?} without a reason");
    verdict
}

/// Changes the files, as the bytes determine.
fn edits(source: &mut Unstructured<'_>, files: &mut Files) -> Result<Vec<Edit>> {
    let mut edits = Vec::new();
    while !source.is_empty() && edits.len() < EDITS_MAX {
        let edit = Edit::take(source)?;
        edit.apply(files);
        edits.push(edit);
    }
    Ok(edits)
}

fn check(image: &Image, files: &Files, calls: Calls, forged: bool) -> Verdict {
    let disk = SimDisk::new();
    for (name, bytes) in files {
        disk.put(name, bytes.clone());
    }
    let clock = ManualClock::new(Timestamp::from_unix_ms(image.now));
    let truths = image.truths(files).filter(|_| !forged);
    let look = Look { image, clock, calls, truths };
    if !look.open(disk.clone()) {
        return Verdict::Refused;
    }
    // Once more, on what a kill leaves of the result.
    let again = look.open(disk.after_kill());
    assert!(again || look.truths.is_none(), "it opens once and not twice");
    if look.truths.is_some() { Verdict::Right } else { Verdict::Forged }
}
