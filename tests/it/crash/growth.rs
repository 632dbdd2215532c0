//! Crashes while the log grows.

use std::sync::atomic::{AtomicBool, Ordering};

use crate::support::crashes::{Findings, at_each_operation_while};
use crate::support::disk::Image;
use crate::support::{SimDisk, script, size};

/// Room for three lengths of a segment, the last of them less than twice the second.
const LOG_BYTES: u64 = 6 << 20;
const RESULT_LEN: usize = 400_000;

/// Kills and power cuts of each kind after every operation of a run in which both segments grow
/// twice.
#[test]
fn a_crash_while_the_log_grows_loses_nothing() {
    let findings = Findings::default();
    let (images, seed) = (size("CRASH_IMAGES", 3), size("CRASH_SEED", 0));
    // Whether a header was seen that had not reached the disk, and one that had.
    let [half_grown, grown] = [AtomicBool::new(false), AtomicBool::new(false)];
    let disk = SimDisk::new();
    let operations = at_each_operation_while(
        disk.clone(),
        |moment| {
            findings.check(&moment, &moment.disk.after_kill(), "kill");
            let kinds = [Image::default(), Image::ANY_NAME, Image::BEYOND];
            let kind = kinds[(moment.operation % 3) as usize];
            findings.check_power_cuts(&moment, kind, images, seed);
            for (name, file) in moment.disk.after_power_cut(|_| 0).bytes() {
                if name.starts_with("log") && 4096 <= file.len() {
                    let said =
                        |at: usize| u64::from_le_bytes(file[at..at + 8].try_into().expect("8"));
                    let said = said(20).max(said(2_048 + 20));
                    let (half, whole) = (said < file.len() as u64, said == LOG_BYTES / 2);
                    half_grown.fetch_or(half, Ordering::Relaxed);
                    grown.fetch_or(whole, Ordering::Relaxed);
                }
            }
        },
        |disk, clock, told| {
            let filled = script::fill(disk, clock, told, LOG_BYTES, (20, RESULT_LEN));
            filled.expect("the disk is well");
        },
    );
    findings.report(&format!("{operations} operations of a log that grows"));
    assert!(half_grown.into_inner() && grown.into_inner(), "it has not grown");
    for log in ["log-0", "log-1"] {
        assert_eq!(disk.bytes()[log].len() as u64, LOG_BYTES / 2, "{log}");
    }
}
