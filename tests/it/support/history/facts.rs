//! What a history keeps of requests, results and handles.

use idemstore::{Completed, Execution, Fingerprint, Interrupted, KeyInfo};

use super::spec::{Bytes, Facts, Info, Status};
use crate::support::model::splitmix;

pub fn fingerprint(request: u8) -> Fingerprint {
    Fingerprint::of([request])
}

/// A result or a checkpoint that has this name.
pub fn bytes(name: Bytes) -> Vec<u8> {
    let len = 8 + splitmix(name) as usize % 600;
    name.to_le_bytes().into_iter().cycle().take(len).collect()
}

/// The name of these bytes, all of which are as they were stored.
pub fn name_of(stored: &[u8]) -> Bytes {
    let name = stored.first_chunk().map(|name| u64::from_le_bytes(*name)).expect("it has a name");
    assert_eq!(stored, bytes(name), "these bytes were never stored");
    name
}

pub fn of_execution(execution: &Execution) -> Facts {
    Facts {
        begun: execution.begun_at().as_unix_ms(),
        expires: execution.expires_at().as_unix_ms(),
        attempt: execution.attempt(),
        progress: execution.last_checkpoint().map(name_of),
    }
}

pub fn of_interrupted(interrupted: &Interrupted) -> Facts {
    Facts {
        begun: interrupted.begun_at().as_unix_ms(),
        expires: interrupted.expires_at().as_unix_ms(),
        attempt: interrupted.attempt(),
        progress: interrupted.last_checkpoint().map(name_of),
    }
}

pub fn of_completed(completed: &Completed) -> Facts {
    let (begun, attempt) = (completed.begun_at().as_unix_ms(), completed.attempt());
    let expires = completed.expires_at().as_unix_ms();
    Facts { begun, expires, attempt, progress: None }
}

pub fn of_info(info: &KeyInfo) -> Info {
    let status = match info.status() {
        idemstore::Status::Reserved => Status::Reserved,
        idemstore::Status::Executing => Status::Executing,
        idemstore::Status::Interrupted => Status::Interrupted,
        _ => {
            let completed = info.completed().expect("no tombstone was stored");
            Status::Completed(name_of(completed.result()))
        }
    };
    Info { status, attempts: info.attempts(), progress: info.last_checkpoint().map(name_of) }
}
