//! Disks that lie, and what the harness reports about a store on them: if it found nothing wrong
//! here, it would never find anything.

use std::sync::atomic::Ordering;

use crate::support::SimDisk;
use crate::support::crashes::{Findings, at_each_operation_of};
use crate::support::disk::{Image, Op};

/// How many images of this script are wrong if these syncs are skipped.
fn wrong_if_it_lies(script: u64, syncs: Op) -> usize {
    let findings = Findings::default();
    let disk = SimDisk::new();
    disk.lie(syncs);
    at_each_operation_of(script, disk, |moment| {
        findings.check_power_cuts(&moment, Image::default(), 2, 0);
    });
    let (wrong, images) = (findings.wrong(), findings.images.load(Ordering::Relaxed));
    println!("script {script}, no {syncs:?}: {wrong} of {images} images are wrong");
    wrong
}

#[test]
fn a_disk_that_does_not_sync_is_found_out() {
    // The fixed script, and a random one.
    for script in [0, 1] {
        for syncs in [Op::Sync, Op::LogSync, Op::VaultSync, Op::SyncNames] {
            assert!(0 < wrong_if_it_lies(script, syncs), "script {script}, {syncs:?}");
        }
    }
}
