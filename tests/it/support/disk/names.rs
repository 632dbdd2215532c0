//! The names in a directory: as reads see them, and as they are after a power cut.

use std::collections::BTreeMap;

use super::cut::Cut;

/// A name, and the number of its file.
pub type Map = BTreeMap<String, usize>;

#[derive(Clone, Default)]
pub struct Names {
    live: Map,
    /// As they were at the last sync.
    durable: Map,
    /// The operations since then, each with its number.
    pending: Vec<(u64, Change)>,
}

#[derive(Clone)]
enum Change {
    Link { name: String, file: usize },
    Unlink { name: String, file: usize },
    Rename { from: String, to: String, file: usize },
}

impl Names {
    /// All of them durable.
    pub fn durable(names: Map) -> Self {
        Self { live: names.clone(), durable: names, pending: Vec::new() }
    }

    pub fn live(&self) -> &Map {
        &self.live
    }

    /// The name, if it was in use, is no longer.
    pub fn unlink(&mut self, number: u64, name: &str) {
        if let Some(before) = self.live.get(name) {
            let file = *before;
            self.change(number, Change::Unlink { name: name.to_owned(), file });
        }
    }

    /// A new file gets this name. The file that had it loses it first.
    pub fn create(&mut self, number: u64, name: &str, file: usize) {
        self.unlink(number, name);
        self.change(number, Change::Link { name: name.to_owned(), file });
    }

    /// Returns whether there is such a file. If so, it has the other name now.
    pub fn rename(&mut self, number: u64, from: &str, to: &str) -> bool {
        let Some(file) = self.live.get(from).copied() else { return false };
        self.change(number, Change::Rename { from: from.to_owned(), to: to.to_owned(), file });
        true
    }

    fn change(&mut self, number: u64, change: Change) {
        change.apply(&mut self.live);
        self.pending.push((number, change));
    }

    pub fn sync(&mut self) {
        self.durable.clone_from(&self.live);
        self.pending.clear();
    }

    /// Gives a file a name that is immediately durable.
    pub fn put(&mut self, name: &str, file: usize) {
        self.live.insert(name.to_owned(), file);
        self.durable.insert(name.to_owned(), file);
    }

    /// Removes a name, durably and immediately.
    pub fn remove(&mut self, name: &str) {
        self.live.remove(name);
        self.durable.remove(name);
    }

    /// What a power cut leaves.
    pub fn after_cut(&self, cut: &mut Cut<'_>) -> Map {
        let numbers: Vec<_> = self.pending.iter().map(|(number, _)| *number).collect();
        let mut names = self.durable.clone();
        for ((_, change), there) in self.pending.iter().zip(cut.names(&numbers)) {
            if there {
                change.apply(&mut names);
            }
        }
        names
    }

    /// How many outcomes that has.
    pub fn ways(&self, any_name: bool) -> u64 {
        let pending = self.pending.len() as u32;
        if any_name { 1 << pending.min(63) } else { u64::from(pending) + 1 }
    }

    /// The operations that were not synced.
    pub fn unsynced(&self) -> impl Iterator<Item = u64> {
        self.pending.iter().map(|(number, _)| *number)
    }

    /// Every file that has a name, or may have one after a power cut.
    pub fn files(&self) -> impl Iterator<Item = usize> {
        let pending = self.pending.iter().map(|(_, change)| match change {
            Change::Link { file, .. }
            | Change::Unlink { file, .. }
            | Change::Rename { file, .. } => *file,
        });
        self.live.values().chain(self.durable.values()).copied().chain(pending)
    }
}

impl Change {
    fn apply(&self, names: &mut Map) {
        match self {
            Self::Link { name, file } => {
                names.insert(name.clone(), *file);
            }
            Self::Unlink { name, file } => take(names, name, *file),
            Self::Rename { from, to, file } => {
                take(names, from, *file);
                names.insert(to.clone(), *file);
            }
        }
    }
}

/// Removes a name from this file, if this file still has it.
fn take(names: &mut Map, name: &str, file: usize) {
    if names.get(name) == Some(&file) {
        names.remove(name);
    }
}
