//! A file of a simulated disk.

use std::io;

use idemstore::sim::DiskFile;

use super::fault::{Failure, Manner, Op};
use super::{SimDisk, lock};

#[derive(Debug)]
pub struct SimFile {
    is_log: bool,
    file: usize,
    disk: SimDisk,
}

impl SimFile {
    /// Which of two operations this is: the log's or the vault's.
    fn op(&self, log: Op, vault: Op) -> Op {
        if self.is_log { log } else { vault }
    }

    pub(super) fn new(is_log: bool, file: usize, disk: SimDisk) -> Self {
        Self { is_log, file, disk }
    }
}

impl DiskFile for SimFile {
    fn len(&self) -> io::Result<u64> {
        let mut state = lock(&self.disk.state);
        if let (_, Err(failure)) = state.check(self.op(Op::LogLen, Op::VaultLen)) {
            drop(state);
            return failure.say();
        }
        Ok(state.files[self.file].live().len() as u64)
    }

    fn read_at(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let mut state = lock(&self.disk.state);
        if let (_, Err(failure)) = state.check(self.op(Op::LogRead, Op::VaultRead)) {
            drop(state);
            return failure.say();
        }
        if self.is_log {
            state.longest_log_read = state.longest_log_read.max(out.len());
        }
        let read = state.files[self.file].live().read(offset as usize, out);
        if read { Ok(()) } else { Err(io::ErrorKind::UnexpectedEof.into()) }
    }

    fn write_if_room_at(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        // The reserved room is set aside meanwhile.
        let state = &self.disk.state;
        let kept = lock(state).room.put_aside();
        let written = self.write_at(offset, bytes);
        lock(state).room.put_back(kept);
        written
    }

    fn write_at(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        let mut state = lock(&self.disk.state);
        let (number, mut checked) = state.check(self.op(Op::LogWrite, Op::VaultWrite));
        if checked.is_ok() && !state.take_room(self.file, offset, bytes.len() as u64) {
            state.was_full = true;
            let error = io::ErrorKind::StorageFull.into();
            checked = Err(Failure { error, manner: Manner::Nothing });
        }
        let written = match &checked {
            Ok(()) => {
                let counts = &mut state.counts;
                *(if self.is_log { &mut counts.log_writes } else { &mut counts.vault_writes }) += 1;
                bytes
            }
            Err(Failure { manner: Manner::All | Manner::PanicLate, .. }) => bytes,
            Err(Failure { manner: Manner::Part, .. }) => &bytes[..bytes.len() / 2],
            Err(_) => &[],
        };
        if !written.is_empty() {
            state.files[self.file].write(number, offset as usize, written);
        }
        drop(state);
        self.disk.changed();
        checked.or_else(Failure::say)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.disk.change(Op::SetLen, |state, number| {
            state.files[self.file].set_len(number, len as usize);
            state.room.cut(self.file, len);
        })
    }

    fn sync(&self) -> io::Result<()> {
        let op = self.op(Op::LogSync, Op::VaultSync);
        let mut state = lock(&self.disk.state);
        let (_, checked) = state.check(op);
        let (lies, failed_syncs) = (state.lies(op), state.failed_syncs);
        let file = &mut state.files[self.file];
        match (&checked, failed_syncs) {
            (Ok(()), _) if lies => {}
            (Ok(()) | Err(Failure { manner: Manner::All | Manner::PanicLate, .. }), _) => {
                file.sync();
            }
            (Err(_), Some(failed)) => file.fail_sync(failed),
            (Err(_), None) => {}
        }
        if checked.is_ok() {
            let counts = &mut state.counts;
            *(if self.is_log { &mut counts.log_syncs } else { &mut counts.vault_syncs }) += 1;
        }
        drop(state);
        self.disk.changed();
        checked.or_else(Failure::say)
    }
}
