//! Files and directories: which of their contents are safe, and what a power cut may take.

use std::collections::BTreeMap;
use std::path::{Component, Path};
use std::sync::Arc;

use crate::image::{Entry, Image};

/// A file or a directory, whatever its names.
pub type NodeId = usize;

/// The root directory.
pub const ROOT: NodeId = 0;

#[derive(Debug)]
pub struct Disk {
    ignored: Option<Ignored>,
    nodes: Vec<Node>,
    /// Changes of all nodes so far.
    changes: u64,
}

/// The kind of sync that counts for nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Ignored {
    /// Those of the log's files.
    Log,
    /// Those of the vault's file.
    Vault,
    /// Those of directories.
    Names,
}

#[derive(Debug)]
pub struct Node {
    /// Its first name.
    name: String,
    /// What no power cut can take.
    pub safe: Content,
    /// The changes since then, oldest first.
    pub changes: Vec<Change>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Content {
    File(Vec<u8>),
    Folder(BTreeMap<String, NodeId>),
}

#[derive(Debug)]
pub struct Change {
    /// Numbered among the changes of all nodes, in the order in which they began.
    pub number: u64,
    pub edit: Edit,
    /// Whether the call has returned. Until then, its change may or may not be there at any time.
    pub is_finished: bool,
}

#[derive(Clone, Debug)]
pub enum Edit {
    Write { at: u64, bytes: Arc<[u8]> },
    SetLen(u64),
    LenAtLeast(u64),
    Link { name: String, node: NodeId },
    Unlink { name: String },
    Rename { from: String, to: String, node: NodeId },
}

impl Disk {
    pub fn empty(ignored: Option<Ignored>) -> Self {
        let mut disk = Self { ignored, nodes: Vec::new(), changes: 0 };
        disk.add("/", Content::Folder(BTreeMap::new()));
        disk
    }

    /// A disk with these files, all of them safe.
    pub fn holding(image: &Image, ignored: Option<Ignored>) -> Self {
        let mut disk = Self::empty(ignored);
        // A directory comes before its contents.
        for (path, entry) in image.entries() {
            let (folder, name) = disk.find_folder(ROOT, path).expect("directories come first");
            let node = match entry {
                Entry::Folder => disk.add_folder(&name),
                Entry::File(bytes) => disk.add(&name, Content::File(bytes.clone())),
            };
            disk.nodes[folder].safe.apply(&Edit::Link { name, node });
        }
        disk
    }

    pub fn node(&self, node: NodeId) -> &Node {
        &self.nodes[node]
    }

    /// Numbers of all changes that a power cut may take.
    pub fn unsafe_changes(&self) -> impl Iterator<Item = u64> {
        self.nodes.iter().flat_map(|node| node.changes.iter().map(|change| change.number))
    }

    /// Whether a power cut may take a name.
    pub fn has_unsafe_names(&self) -> bool {
        self.nodes.iter().any(|node| node.is_folder() && !node.changes.is_empty())
    }

    pub fn add_file(&mut self, name: &str) -> NodeId {
        self.add(name, Content::File(Vec::new()))
    }

    pub fn add_folder(&mut self, name: &str) -> NodeId {
        self.add(name, Content::Folder(BTreeMap::new()))
    }

    fn add(&mut self, name: &str, content: Content) -> NodeId {
        self.nodes.push(Node { name: name.to_owned(), safe: content, changes: Vec::new() });
        self.nodes.len() - 1
    }

    /// Records a change, and numbers it.
    pub fn change(&mut self, node: NodeId, edit: Edit, is_finished: bool) -> u64 {
        self.changes += 1;
        self.nodes[node].changes.push(Change { number: self.changes, edit, is_finished });
        self.changes
    }

    /// The call that made a change has returned: a write has written this many bytes, and a failed
    /// call has done nothing.
    pub fn finish(&mut self, node: NodeId, number: u64, result: i64) {
        let changes = &mut self.nodes[node].changes;
        let Ok(done) = usize::try_from(result) else {
            changes.retain(|change| change.number != number);
            return;
        };
        for change in changes.iter_mut().filter(|change| change.number == number) {
            change.is_finished = true;
            if let Edit::Write { bytes, .. } = &mut change.edit
                && done < bytes.len()
            {
                *bytes = bytes[..done].into();
            }
        }
    }

    /// What a sync that begins now covers: the changes whose calls have returned before.
    pub fn covered_by_sync(&self, node: NodeId) -> Vec<u64> {
        let finished = self.nodes[node].changes.iter().filter(|change| change.is_finished);
        finished.map(|change| change.number).collect()
    }

    /// A sync has returned. Returns whether it made anything safe.
    pub fn make_safe(&mut self, node: NodeId, covered: &[u64]) -> bool {
        let node = &mut self.nodes[node];
        if node.is_ignored(self.ignored) {
            return false;
        }
        let before = node.changes.len();
        let safe = &mut node.safe;
        node.changes.retain(|change| {
            let is_covered = covered.contains(&change.number);
            if is_covered {
                safe.apply(&change.edit);
            }
            !is_covered
        });
        node.changes.len() < before
    }

    /// What a file that was being written when its process ended really contains.
    pub fn settle(&mut self, real: &Image) {
        for (path, entry) in real.entries() {
            if let (Some(node), Entry::File(bytes)) = (self.find(ROOT, path), entry) {
                self.nodes[node].settle(bytes);
            }
        }
    }

    /// The node that a path leads to now.
    pub fn find(&self, from: NodeId, path: &Path) -> Option<NodeId> {
        path.components().try_fold(from, |node, part| match part {
            Component::Normal(name) => self.names(node)?.get(name.to_str()?).copied(),
            Component::CurDir => Some(node),
            _ => None,
        })
    }

    /// The directory that contains the last part of a path, and that part.
    pub fn find_folder(&self, from: NodeId, path: &Path) -> Option<(NodeId, String)> {
        let name = path.file_name()?.to_str()?.to_owned();
        let folder = self.find(from, path.parent()?)?;
        self.nodes[folder].is_folder().then_some((folder, name))
    }

    /// The names in a directory now.
    pub fn names(&self, folder: NodeId) -> Option<BTreeMap<String, NodeId>> {
        match self.nodes[folder].with(|change| change.is_finished) {
            Content::Folder(names) => Some(names),
            Content::File(_) => None,
        }
    }
}

impl Node {
    pub fn is_folder(&self) -> bool {
        matches!(self.safe, Content::Folder(_))
    }

    /// Its content with some of the changes.
    fn with(&self, mut is_there: impl FnMut(&Change) -> bool) -> Content {
        let mut content = self.safe.clone();
        for change in self.changes.iter().filter(|change| is_there(change)) {
            content.apply(&change.edit);
        }
        content
    }

    fn is_ignored(&self, ignored: Option<Ignored>) -> bool {
        match ignored {
            Some(Ignored::Log) => !self.is_folder() && self.name.starts_with("log"),
            Some(Ignored::Vault) => !self.is_folder() && self.name.starts_with("vault"),
            Some(Ignored::Names) => self.is_folder(),
            None => false,
        }
    }

    fn settle(&mut self, real: &[u8]) {
        for change in self.changes.iter_mut().filter(|change| !change.is_finished) {
            change.is_finished = true;
            change.edit = match &change.edit {
                Edit::Write { at, bytes } => {
                    let start = real.len().min(index(*at));
                    let end = real.len().min(start + bytes.len());
                    Edit::Write { at: *at, bytes: real[start..end].into() }
                }
                _ => Edit::SetLen(real.len() as u64),
            };
        }
    }
}

impl Content {
    pub fn apply(&mut self, edit: &Edit) {
        match self {
            Self::File(file) => apply_to_file(file, edit),
            Self::Folder(names) => apply_to_names(names, edit),
        }
    }
}

fn apply_to_file(file: &mut Vec<u8>, edit: &Edit) {
    match edit {
        Edit::Write { bytes, .. } if bytes.is_empty() => {}
        Edit::Write { at, bytes } => {
            let (start, end) = (index(*at), index(*at) + bytes.len());
            file.resize(file.len().max(end), 0);
            file[start..end].copy_from_slice(bytes);
        }
        Edit::SetLen(len) => file.resize(index(*len), 0),
        Edit::LenAtLeast(len) => file.resize(file.len().max(index(*len)), 0),
        Edit::Link { .. } | Edit::Unlink { .. } | Edit::Rename { .. } => {}
    }
}

fn apply_to_names(names: &mut BTreeMap<String, NodeId>, edit: &Edit) {
    match edit {
        Edit::Link { name, node } => {
            names.insert(name.clone(), *node);
        }
        Edit::Unlink { name } => {
            names.remove(name);
        }
        Edit::Rename { from, to, node } => {
            // If the file's first name was never safe, there's none to take away.
            if names.get(from) == Some(node) {
                names.remove(from);
            }
            names.insert(to.clone(), *node);
        }
        Edit::Write { .. } | Edit::SetLen(_) | Edit::LenAtLeast(_) => {}
    }
}

pub fn index(offset: u64) -> usize {
    usize::try_from(offset).expect("files of a trace fit memory")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn write(at: u64, bytes: &[u8]) -> Edit {
        Edit::Write { at, bytes: bytes.into() }
    }

    #[test]
    fn a_sync_covers_what_had_returned_before_it_began() {
        let mut disk = Disk::empty(None);
        let file = disk.add_file("log-0");
        disk.change(file, write(0, b"ab"), true);
        let late = disk.change(file, write(2, b"cd"), false);
        let covered = disk.covered_by_sync(file);
        disk.finish(file, late, 2);
        disk.change(file, write(4, b"ef"), true);
        assert!(disk.make_safe(file, &covered));
        assert_eq!(disk.node(file).safe, Content::File(b"ab".to_vec()));
        assert_eq!(disk.unsafe_changes().collect::<Vec<_>>(), [2, 3]);
    }

    #[test]
    fn a_sync_that_is_ignored_makes_nothing_safe() {
        for (ignored, is_safe) in [(Ignored::Log, false), (Ignored::Vault, true)] {
            let mut disk = Disk::empty(Some(ignored));
            let file = disk.add_file("log-0");
            disk.change(file, write(0, b"ab"), true);
            let covered = disk.covered_by_sync(file);
            assert_eq!(disk.make_safe(file, &covered), is_safe);
        }
    }

    #[test]
    fn a_call_that_fails_does_nothing_and_one_that_stops_does_a_part() {
        let mut disk = Disk::empty(None);
        let file = disk.add_file("log-0");
        let failed = disk.change(file, write(0, b"ab"), false);
        disk.finish(file, failed, -1);
        let part = disk.change(file, write(0, b"cdef"), false);
        disk.finish(file, part, 3);
        assert_eq!(disk.node(file).with(|_| true), Content::File(b"cde".to_vec()));
    }

    #[test]
    fn a_rename_takes_the_place_of_what_had_the_name() {
        let mut disk = Disk::empty(None);
        let (old, new) = (disk.add_file("vault"), disk.add_file("vault.new"));
        disk.change(ROOT, Edit::Link { name: "vault".to_owned(), node: old }, true);
        disk.change(ROOT, Edit::Link { name: "vault.new".to_owned(), node: new }, true);
        let (from, to) = ("vault.new".to_owned(), "vault".to_owned());
        disk.change(ROOT, Edit::Rename { from, to, node: new }, true);
        let names = disk.names(ROOT).expect("it is a directory");
        assert_eq!(names, BTreeMap::from([("vault".to_owned(), new)]));
    }

    #[test]
    fn what_a_killed_process_was_writing_is_what_the_file_has() {
        let mut disk = Disk::empty(None);
        let file = disk.add_file("log-0");
        disk.change(ROOT, Edit::Link { name: "log-0".to_owned(), node: file }, true);
        disk.change(file, write(0, b"abcd"), true);
        disk.change(file, write(2, b"xyz"), false);
        let mut real = Image::default();
        real.add("log-0".into(), Entry::File(b"abxy".to_vec()));
        disk.settle(&real);
        assert_eq!(disk.node(file).with(|_| true), Content::File(b"abxy".to_vec()));
        assert!(disk.node(file).changes.iter().all(|change| change.is_finished));
    }

    #[test]
    fn a_disk_goes_on_from_an_image() {
        let mut image = Image::default();
        image.add("a".into(), Entry::Folder);
        image.add("a/log-0".into(), Entry::File(b"ab".to_vec()));
        let disk = Disk::holding(&image, None);
        let file = disk.find(ROOT, Path::new("a/log-0")).expect("it is there");
        assert_eq!(disk.node(file).safe, Content::File(b"ab".to_vec()));
        assert_eq!(disk.unsafe_changes().count(), 0);
    }
}
