//! Files that were cut, that have grown, and that a later version has written.

use std::collections::BTreeMap;

use idemstore::OpenError;
use idemstore::sim::OpenOn;

use super::{Image, LOGS, Seen, VAULT, disk_of, tally};
use crate::support::{builder, size};

/// Lengths to cut a file at: each `ROT_CUT_STEP`-th one, and those next to page boundaries.
fn lengths(len: usize) -> Vec<usize> {
    let step = size("ROT_CUT_STEP", 1_009) as usize;
    let near_pages = (0..=len).step_by(4096).flat_map(|page| [page.saturating_sub(1), page]);
    let mut lengths: Vec<_> = (0..len).step_by(step).chain(near_pages).collect();
    lengths.sort_unstable();
    lengths.dedup();
    lengths.retain(|cut| *cut < len);
    lengths
}

#[test]
fn every_cut_is_noticed() {
    let image = Image::new();
    for name in [VAULT, LOGS[0], LOGS[1]] {
        let lengths = lengths(image.files[name].len());
        let tally = tally(&lengths, |cut| {
            image.check(&format!("a cut of {name} to {cut} bytes"), |files| {
                files.get_mut(name).expect("it is there").truncate(*cut);
            })
        });
        eprintln!("{name}: {tally:?}");
        assert!(tally.keys().eq([&Seen::Refused]), "{name}: {tally:?}");
    }
}

#[test]
fn what_a_wiped_end_of_the_log_held_is_gone_and_nothing_else() {
    // From some byte on everything is zeros, as if nothing had been written there. A damaged frame
    // is gone together with everything behind it, so nothing distinguishes this from a write that
    // was cut short.
    let image = Image::new();
    let last = image.frames.last().expect("there are frames").log;
    let lengths = lengths(image.files[last].len());
    let tally = tally(&lengths, |from| {
        image.check(&format!("zeros from byte {from} of {last} on"), |files| {
            files.get_mut(last).expect("it is there")[*from..].fill(0);
        })
    });
    eprintln!("{tally:?}");
    // The header is refused; if all frames of this segment are gone, the other segment's are left.
    let first = image.frames.iter().position(|frame| frame.log == last).expect("there are frames");
    let first = image.after(&image.known(first));
    assert!(tally.contains_key(&Seen::Refused) && tally.contains_key(&first));
    assert!(tally.contains_key(&Seen::After(image.last())), "{tally:?}");
    assert!(3 < tally.len(), "{tally:?}");
}

#[test]
fn what_is_behind_the_end_of_a_file_is_noticed_or_harmless() {
    let image = Image::new();
    let frame = image.frames.first().expect("there are frames");
    let frame = image.files[frame.log][frame.bytes.clone()].to_vec();
    let page = image.files[VAULT][..4096].to_vec();
    let garbage = [vec![0], vec![0; 4096], vec![0xFF; 511], frame, page, vec![0; 64 * 1024]];
    let mut seen = BTreeMap::<_, usize>::new();
    for name in [VAULT, LOGS[0], LOGS[1]] {
        for garbage in &garbage {
            let what = format!("{} more bytes of {name}", garbage.len());
            let found = image.check(&what, |files| {
                files.get_mut(name).expect("it is there").extend(garbage);
            });
            assert!(name == VAULT || found == Seen::Refused, "{what}");
            *seen.entry(found).or_default() += 1;
        }
    }
    eprintln!("{seen:?}");
}

#[test]
fn what_is_left_of_earlier_frames_behind_the_last_one_is_harmless() {
    let image = Image::new();
    let last = image.frames.last().expect("there are frames").clone();
    let free = last.bytes.end.next_multiple_of(8)..image.files[last.log].len();
    let mut copied = 0;
    for (number, frame) in image.frames.iter().enumerate() {
        let bytes = image.files[frame.log][frame.bytes.clone()].to_vec();
        if free.len() < bytes.len() {
            continue;
        }
        let seen = image.check(&format!("a copy of frame {number} behind the last"), |files| {
            let log = files.get_mut(last.log).expect("it is there");
            log[free.start..][..bytes.len()].copy_from_slice(&bytes);
        });
        assert_eq!(seen, Seen::After(image.last()));
        copied += 1;
    }
    assert!(10 < copied, "there is no room for a frame");
}

#[test]
fn a_store_of_a_later_version_is_refused_and_left_alone() {
    for (name, version) in [(LOGS[0], 3), (LOGS[1], 3), (LOGS[0], u32::MAX), (LOGS[1], 0)] {
        let image = Image::new();
        let mut files = image.files.clone();
        let log = files.get_mut(name).expect("it is there");
        log[8..12].copy_from_slice(&version.to_le_bytes());
        let disk = disk_of(&files);
        let error = builder(&image.clock).open_on(disk.clone()).expect_err("it is not ours");
        assert!(
            matches!(error, OpenError::UnsupportedVersion { found, .. } if found == version),
            "{error:?}"
        );
        for log in LOGS {
            assert!(disk.bytes()[log] == files[log], "{log} was changed");
        }
        // Once its version is restored, it is the same store as before.
        let mut files = disk.bytes();
        let log = files.get_mut(name).expect("it is there");
        log[8..12].copy_from_slice(&2_u32.to_le_bytes());
        assert_eq!(image.look(&files), Seen::After(image.last()));
    }
}
