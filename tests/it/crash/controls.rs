//! Disks that lie, and what the harness says of a store on them: if it found nothing wrong, it
//! would find nothing at all.

use std::sync::atomic::Ordering;

use crate::support::SimDisk;
use crate::support::crashes::{Findings, at_each_operation};
use crate::support::disk::{Image, Op};

/// How many images are wrong, if these syncs are not done.
fn wrong_if_it_lies(syncs: Op) -> usize {
    let findings = Findings::default();
    let disk = SimDisk::new();
    disk.lie(syncs);
    at_each_operation(disk, |moment| {
        findings.check_power_cuts(&moment, Image::default(), 2, 0);
    });
    let (wrong, images) = (findings.wrong(), findings.images.load(Ordering::Relaxed));
    println!("no {syncs:?}: {wrong} of {images} images are wrong");
    wrong
}

#[test]
fn a_disk_that_does_not_sync_is_found_out() {
    for syncs in [Op::Sync, Op::LogSync, Op::VaultSync, Op::SyncNames] {
        assert!(0 < wrong_if_it_lies(syncs), "{syncs:?}");
    }
}
