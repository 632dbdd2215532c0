//! The files of a store, and what the names in a directory reveal about it.
//!
//! A store is created, copied and compacted under temporary names. Its files get their final names
//! once all of them are durable. Each of the three tasks has separate temporary names, so that what
//! a kill leaves of one is never mistaken for another.

use crate::canary;
use crate::error::{CopyError, OpenError};
use crate::local::disk::{Disk, LOCK};

/// All files of a store, the vault last.
pub(crate) const NAMES: [&str; 3] = [SEGMENTS[0], SEGMENTS[1], VAULT];

/// The names of the two files of the log.
pub(crate) const SEGMENTS: [&str; 2] = ["log-0", "log-1"];

/// The name of the vault's file.
pub(crate) const VAULT: &str = "vault.redb";

/// Temporary names, for files that aren't complete yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Temporary {
    /// Files of a store that is being created.
    New,
    /// Files of a backup that is being written.
    Part,
    /// The file of a vault that is being compacted.
    Compact,
}

impl Temporary {
    const ALL: [Self; 3] = [Self::New, Self::Part, Self::Compact];

    fn suffix(self) -> &'static str {
        match self {
            Self::New => ".init",
            Self::Part => ".part",
            Self::Compact => ".compact",
        }
    }

    /// The temporary name of this file.
    pub(crate) fn of(self, name: &str) -> String {
        format!("{name}{}", self.suffix())
    }

    /// Gives each file of the store that has a temporary name its final name. The files must be
    /// durable.
    ///
    /// The temporary names are made durable first. A power cut then leaves each file under one name
    /// or the other.
    pub(crate) fn name_all(self, disk: &dyn Disk) -> std::io::Result<()> {
        disk.sync_names()?;
        let there = disk.names()?;
        for name in NAMES {
            let temporary = self.of(name);
            if there.contains(&temporary) {
                disk.rename(&temporary, name)?;
            }
        }
        if canary::sings("leaves the directory unsynced") {
            return Ok(());
        }
        disk.sync_names()
    }
}

/// The file that a compaction by an earlier version left behind.
const OLD_COMPACT: &str = "vault.redb.new";

/// A name that an earlier version gave to incomplete files.
fn is_old_temporary(name: &str) -> bool {
    name.strip_suffix(".new").is_some_and(|name| NAMES.contains(&name))
}

/// What a directory contains.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Found {
    /// No store, and no files of anyone else's.
    Nothing,
    /// A complete store, which a kill has left without some of its names.
    Unnamed,
    Store,
}

impl Found {
    /// Inspects the names in a directory. `signed` means that it once held a whole store.
    pub(crate) fn in_directory(disk: &dyn Disk, signed: bool) -> Result<Self, OpenError> {
        let there = disk.names().map_err(|error| OpenError::io("list the directory", error))?;
        let has = |name: &str| there.iter().any(|there| there == name);
        let missing: Vec<_> = NAMES.into_iter().filter(|name| !has(name)).collect();
        let corrupt = |file, detail: &str| OpenError::Corrupt { file, detail: detail.to_owned() };
        let Some(first) = missing.first() else { return Ok(Self::Store) };
        if NAMES.iter().any(|name| has(&Temporary::Part.of(name))) {
            return Err(corrupt(
                VAULT,
                "the directory has an unfinished backup: delete it, or back up into it again",
            ));
        }
        // An unfinished compaction leaves its file beside a whole store. If the store isn't there,
        // the rest was lost.
        let compacted = has(&Temporary::Compact.of(VAULT)) || has(OLD_COMPACT);
        if missing.len() < NAMES.len() || signed || compacted {
            let made = missing.iter().all(|name| has(&Temporary::New.of(name)));
            return if made && !signed && !compacted {
                Ok(Self::Unnamed)
            } else {
                Err(corrupt(first, "it is missing, but other files of the store are there"))
            };
        }
        if there.iter().any(|name| !is_own(name)) {
            return Err(OpenError::NotEmpty);
        }
        Ok(Self::Nothing)
    }
}

/// Whether a file with this name may be in a directory where a store is created. The file system
/// itself puts `lost+found` there.
fn is_own(name: &str) -> bool {
    name == LOCK || name == "lost+found" || is_temporary(name)
}

fn is_temporary(name: &str) -> bool {
    let is = |temporary: Temporary| NAMES.iter().any(|whole| temporary.of(whole) == name);
    is_old_temporary(name) || Temporary::ALL.into_iter().any(is)
}

/// Whether files in this directory may be being renamed right now, so that listing it without the
/// lock may miss some.
pub(crate) fn may_be_changing(disk: &dyn Disk) -> bool {
    disk.names().is_ok_and(|there| there.iter().any(|name| name == LOCK))
}

/// Removes what a kill has left under temporary names.
pub(crate) fn remove_temporary(disk: &dyn Disk) -> Result<(), OpenError> {
    let remove = || -> std::io::Result<()> {
        let there = disk.names()?;
        there.iter().filter(|name| is_temporary(name)).try_for_each(|name| {
            match disk.remove(name) {
                // No version has created such a directory: it belongs to someone else.
                Err(error) if error.kind() == std::io::ErrorKind::IsADirectory => Ok(()),
                removed => removed,
            }
        })
    };
    remove().map_err(|error| OpenError::io("remove what was left unfinished", error))
}

/// Whether a copy can be written into a directory: it must be empty, except for what is left of an
/// unfinished copy.
pub(crate) fn check_room_for_copy(disk: &dyn Disk) -> Result<(), CopyError> {
    let there = disk.names()?;
    let has = |name: &String| there.contains(name);
    let missing = NAMES.into_iter().filter(|name| !there.iter().any(|there| there == name));
    let missing: Vec<_> = missing.map(|name| Temporary::Part.of(name)).collect();
    let is_unfinished = !missing.is_empty() && missing.iter().all(has);
    let may_be_there = |name: &String| is_own(name) || is_unfinished && NAMES.contains(&&**name);
    if there.iter().all(may_be_there) { Ok(()) } else { Err(CopyError::Exists) }
}

/// Removes what there is of an unfinished copy.
pub(crate) fn remove_copy(disk: &dyn Disk) -> std::io::Result<()> {
    let there = disk.names()?;
    let parts = NAMES.map(|name| Temporary::Part.of(name));
    let of_copy = |name: &&String| NAMES.contains(&&***name) || parts.contains(name);
    there.iter().filter(of_copy).try_for_each(|name| disk.remove(name))?;
    disk.sync_names()
}
