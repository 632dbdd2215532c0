//! How a disk fails, and how it lies.

use std::io;

use super::super::choice;

/// Which operation fails, and how.
#[derive(Clone, Copy, Debug)]
pub struct Fault {
    pub on: Op,
    /// How many of them still succeed.
    pub after: u64,
    /// Whether all later ones fail too.
    pub for_good: bool,
    pub kind: io::ErrorKind,
}

/// An operation, or several of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Op {
    Read,
    LogRead,
    VaultRead,
    /// Also of a name: to create, to rename and to remove.
    Write,
    LogWrite,
    VaultWrite,
    Create,
    Rename,
    Remove,
    /// Of anything.
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
    /// All that change the disk or make it durable.
    Any,
    /// Those of the vault's file, most of which redb makes.
    Vault,
    /// All but those.
    NoVault,
    /// All that there are.
    Every,
}

impl Op {
    /// Each single operation.
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

    /// Whether this single operation is meant.
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

/// What an operation that fails has done before it says so.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Manner {
    #[default]
    Nothing,
    /// Of a write a part; else nothing.
    Part,
    /// All of it.
    All,
    /// Nothing, and it panics instead of saying so.
    Panic,
    /// All of it, and it panics.
    PanicLate,
}

/// What a sync that fails leaves behind, once it is as Linux has it: what it was to sync counts as
/// clean, so that no later sync writes it.
#[derive(Clone, Copy, Debug)]
pub struct FailedSync {
    pub persisted: Persisted,
    pub cache: Cache,
}

/// What has reached the disk all the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Persisted {
    Nothing,
    /// By this seed.
    Some(u64),
    All,
}

/// What a read sees afterwards.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cache {
    /// What was written. Only what is written anew is written back.
    Keeps,
    /// What was written. A write of a part of a page writes back all of it.
    KeepsPages,
    /// What is on the disk, and the length that was written.
    Drops,
    /// What is on the disk.
    Reverts,
}

impl FailedSync {
    pub const CACHES: [Cache; 4] = [Cache::Keeps, Cache::KeepsPages, Cache::Drops, Cache::Reverts];

    /// What becomes of each operation that was to be synced.
    pub(super) fn choices(self) -> Box<dyn FnMut(u64) -> u64> {
        match self.persisted {
            Persisted::Nothing => Box::new(|_| 0),
            Persisted::All => Box::new(|below| below - 1),
            Persisted::Some(seed) => Box::new(choice::by_seed(seed)),
        }
    }
}

/// What a disk that panics says.
pub const SIMULATED: &str = "simulated";

/// An operation that fails.
#[derive(Debug)]
pub(super) struct Failure {
    pub(super) error: io::Error,
    pub(super) manner: Manner,
}

impl Failure {
    /// Says so, or panics, with no message of the hook. A thread that panics already is spared: a
    /// second panic would end the process, and nothing would be learned.
    pub(super) fn say<T>(self) -> io::Result<T> {
        let panics = matches!(self.manner, Manner::Panic | Manner::PanicLate);
        if panics && !std::thread::panicking() {
            std::panic::resume_unwind(Box::new(SIMULATED));
        }
        Err(self.error)
    }
}
