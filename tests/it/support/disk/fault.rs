//! How a disk fails, and how it lies.

use std::io;

use super::super::choice;

/// Which operation fails, and how.
#[derive(Clone, Copy, Debug)]
pub struct Fault {
    pub on: Op,
    /// How many of these operations still succeed.
    pub after: u64,
    /// Whether all later ones fail too.
    pub for_good: bool,
    pub kind: io::ErrorKind,
}

/// One or more kinds of operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Op {
    Read,
    LogRead,
    VaultRead,
    /// Includes creating, renaming and removing a name.
    Write,
    LogWrite,
    VaultWrite,
    Create,
    Rename,
    Remove,
    /// Of files and of names.
    Sync,
    LogSync,
    VaultSync,
    SyncNames,
    SetLen,
    Open,
    LogLen,
    VaultLen,
    Lock,
    List,
    /// All operations that change the disk or make changes durable.
    Any,
    /// Those on the vault's file, most of which redb makes.
    Vault,
    /// All except those.
    NoVault,
    /// All operations.
    Every,
}

impl Op {
    /// Each kind on its own.
    pub const SINGLE: [Self; 16] = [
        Self::LogRead,
        Self::VaultRead,
        Self::LogWrite,
        Self::VaultWrite,
        Self::Create,
        Self::Rename,
        Self::Remove,
        Self::LogSync,
        Self::VaultSync,
        Self::SyncNames,
        Self::SetLen,
        Self::Open,
        Self::LogLen,
        Self::VaultLen,
        Self::Lock,
        Self::List,
    ];

    /// Whether this includes the given kind.
    pub fn means(self, single: Self) -> bool {
        use Op::{
            Any, Create, Every, List, LogLen, LogRead, LogSync, LogWrite, NoVault, Open, Read,
            Remove, Rename, SetLen, Sync, SyncNames, Vault, VaultLen, VaultRead, VaultSync,
            VaultWrite, Write,
        };
        match self {
            Every => true,
            Any => !matches!(
                single,
                LogRead | VaultRead | Open | LogLen | VaultLen | Self::Lock | List
            ),
            Vault => matches!(single, VaultRead | VaultWrite | VaultSync | SetLen | VaultLen),
            NoVault => !Vault.means(single),
            Read => matches!(single, LogRead | VaultRead),
            Write => matches!(single, LogWrite | VaultWrite | Create | Rename | Remove),
            Sync => matches!(single, LogSync | VaultSync | SyncNames),
            same => same == single,
        }
    }
}

/// What a failing operation has done before it returns its error.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Manner {
    #[default]
    Nothing,
    /// Part of a write; otherwise nothing.
    Part,
    /// All of it.
    All,
    /// Nothing, and it panics instead of returning an error.
    Panic,
    /// All of it, and it panics.
    PanicLate,
}

/// What a failed sync leaves behind when it behaves as on Linux: what it should have synced is
/// marked clean, so no later sync writes it.
#[derive(Clone, Copy, Debug)]
pub struct FailedSync {
    pub persisted: Persisted,
    pub cache: Cache,
}

/// What has reached the disk nevertheless.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Persisted {
    Nothing,
    /// Chosen with this seed.
    Some(u64),
    All,
}

/// What a read sees afterwards.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cache {
    /// What was written. Only new writes are written back.
    Keeps,
    /// What was written. A write to a part of a page writes back the whole page.
    KeepsPages,
    /// What is on the disk, with the length that was written.
    Drops,
    /// What is on the disk.
    Reverts,
}

impl FailedSync {
    pub const CACHES: [Cache; 4] = [Cache::Keeps, Cache::KeepsPages, Cache::Drops, Cache::Reverts];

    /// The choice for each operation that should have been synced.
    pub(super) fn choices(self) -> Box<dyn FnMut(u64) -> u64> {
        match self.persisted {
            Persisted::Nothing => Box::new(|_| 0),
            Persisted::All => Box::new(|below| below - 1),
            Persisted::Some(seed) => Box::new(choice::by_seed(seed)),
        }
    }
}

/// The message of a disk that panics.
pub const SIMULATED: &str = "simulated";

/// An operation that fails.
#[derive(Debug)]
pub(super) struct Failure {
    pub(super) error: io::Error,
    pub(super) manner: Manner,
}

impl Failure {
    /// Returns the error, or panics without the hook's message. A thread that is already panicking
    /// is spared: a second panic would abort the process, and the test would tell us nothing.
    pub(super) fn say<T>(self) -> io::Result<T> {
        let panics = matches!(self.manner, Manner::Panic | Manner::PanicLate);
        if panics && !std::thread::panicking() {
            std::panic::resume_unwind(Box::new(SIMULATED));
        }
        Err(self.error)
    }
}
