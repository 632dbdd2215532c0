//! Stores whose files were damaged, or forged: what the store makes of them.

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

/// So many changes to the files at most.
const EDITS_MAX: usize = 6;

/// What a store has made of its files.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Verdict {
    /// It does not open.
    Refused,
    /// It opens, and every answer is right.
    Right,
    /// It opens with forged files, of which nobody knows what is right.
    Forged,
}

/// Any bytes are a store, what is done to its files, and what it is asked then.
///
/// Damage is found by the open, or does not matter. A forger gets no more than wrong answers out of it: no
/// panic, no endless call, and errors that are typed.
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

/// Changes the files, as the bytes say.
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
    // Once more, on what a kill leaves of what that has made of it.
    let again = look.open(disk.after_kill());
    assert!(again || look.truths.is_none(), "it opens once and not twice");
    if look.truths.is_some() { Verdict::Right } else { Verdict::Forged }
}
