//! Programs whose disk fails on the way.

use std::io::ErrorKind;

use super::SimDisk;
use super::disk::{Fault, Op};
use super::ops::Program;

/// The most failures per program.
const FAULTS_MAX: usize = 3;

/// A sequence of operations, and the failures during it.
#[derive(Clone, Debug)]
pub struct FaultyProgram {
    pub faults: Vec<Failing>,
    pub program: Program,
}

/// What should fail.
#[derive(Clone, Copy, Debug)]
pub struct Failing {
    /// The disk is well up to this operation of the program.
    pub at: usize,
    on: Op,
    after: u64,
    for_good: bool,
    /// Chooses what a failed sync has left on the disk after all.
    pub seed: u64,
    /// Nothing fails, but the disk has room for only this many more bytes. With an odd seed the
    /// store has lost its reserved room.
    full: Option<u64>,
    /// If an open fails: whether the power is then cut.
    pub cut: bool,
}

impl FaultyProgram {
    /// Any bytes: a byte and four for each failure, and then the program as in `ops`.
    pub fn from_bytes(bytes: &[u8]) -> Self {
        let (count, rest) = bytes.split_first().unwrap_or((&0, &[]));
        let len = (usize::from(*count) % (FAULTS_MAX + 1) * 4).min(rest.len());
        let (faults, rest) = rest.split_at(len);
        let faults = faults.as_chunks().0.iter().copied().map(Failing::from_bytes).collect();
        Self { faults, program: Program::from_bytes(rest) }
    }
}

impl Failing {
    pub fn from_bytes(bytes: [u8; 4]) -> Self {
        let kinds = [Op::Read, Op::Write, Op::Sync, Op::VaultSync, Op::SetLen, Op::Any];
        Self {
            at: usize::from(bytes[0]) % 64,
            on: kinds[usize::from(bytes[1]) % kinds.len()],
            after: u64::from(bytes[2]) % 64,
            for_good: bytes[1] & 64 != 0,
            seed: bytes[3].into(),
            full: (bytes[2] & 128 != 0).then(|| u64::from(bytes[2] & 127) * 8 * 1024),
            cut: bytes[1] & 128 != 0,
        }
    }

    /// From now on the disk should fail.
    pub fn arm(self, disk: &SimDisk) {
        if let Some(free) = self.full {
            if self.seed % 2 == 1 {
                disk.lose_what_is_kept();
            }
            return disk.leave_free(free);
        }
        let Self { on, after, for_good, seed, .. } = self;
        disk.lose_what_a_failed_sync_had(seed);
        disk.fail(Fault { on, after, for_good, kind: ErrorKind::Other });
    }
}
