//! A traced process: its open descriptors, and the calls that it is in.

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::disk::{Disk, Edit, NodeId, ROOT};
use crate::trace::{AT_FDCWD, Call, Place};

#[derive(Debug)]
pub struct Process {
    /// Where the root of the disk was while the trace was recorded.
    root: PathBuf,
    descriptors: HashMap<i32, Descriptor>,
    under_way: BTreeMap<u32, (Call, Begun)>,
}

#[derive(Clone, Copy, Debug)]
struct Descriptor {
    node: NodeId,
    /// Where the next write without an explicit offset goes.
    offset: u64,
}

/// What is known about a call when it begins.
#[derive(Debug)]
enum Begun {
    /// Its effect is known when it ends.
    Unknown,
    /// It makes this change.
    Change(NodeId, u64),
    /// It makes these changes safe.
    Sync(NodeId, Vec<u64>),
}

impl Process {
    pub fn new(root: &Path) -> Self {
        let root = root.to_owned();
        Self { root, descriptors: HashMap::new(), under_way: BTreeMap::new() }
    }

    /// A call begins. Returns whether a cut may leave something different from now on.
    pub fn begin(&mut self, disk: &mut Disk, thread: u32, call: &Call) -> bool {
        let begun = match call {
            Call::Close { fd } => {
                // Before the call returns, another thread may get the same number for another file.
                self.descriptors.remove(fd);
                Begun::Unknown
            }
            Call::Write { fd, at, bytes } => self.change(disk, *fd, |descriptor| Edit::Write {
                at: at.unwrap_or(descriptor.offset),
                bytes: Arc::clone(bytes),
            }),
            Call::SetLen { fd, len } => self.change(disk, *fd, |_| Edit::SetLen(*len)),
            Call::Allocate { fd, len } => self.change(disk, *fd, |_| Edit::LenAtLeast(*len)),
            Call::Sync { fd } => self.descriptors.get(fd).map_or(Begun::Unknown, |descriptor| {
                Begun::Sync(descriptor.node, disk.covered_by_sync(descriptor.node))
            }),
            _ => Begun::Unknown,
        };
        let is_change = matches!(begun, Begun::Change(..));
        self.under_way.insert(thread, (call.clone(), begun));
        is_change
    }

    fn change(&self, disk: &mut Disk, fd: i32, edit: impl FnOnce(&Descriptor) -> Edit) -> Begun {
        // Files outside the disk have no descriptor here.
        self.descriptors.get(&fd).map_or(Begun::Unknown, |descriptor| {
            Begun::Change(descriptor.node, disk.change(descriptor.node, edit(descriptor), false))
        })
    }

    /// This thread's call returns. Returns whether a cut may leave something different from now on.
    pub fn end(
        &mut self,
        disk: &mut Disk,
        thread: u32,
        result: Option<i64>,
    ) -> Result<bool, String> {
        // A call whose return was not seen stays under way.
        let Some(result) = result else { return Ok(false) };
        let Some((call, begun)) = self.under_way.remove(&thread) else {
            return Err(format!("thread {thread} ends a call that it has not begun"));
        };
        match begun {
            Begun::Change(node, number) => {
                disk.finish(node, number, result);
                self.move_on(&call, result);
                Ok(true)
            }
            Begun::Sync(node, covered) => Ok(result == 0 && disk.make_safe(node, &covered)),
            Begun::Unknown => Ok(0 <= result && self.perform(disk, &call, result)?),
        }
    }

    /// The next write continues after this one.
    fn move_on(&mut self, call: &Call, written: i64) {
        if let Call::Write { fd, at: None, .. } = call
            && let Some(descriptor) = self.descriptors.get_mut(fd)
        {
            descriptor.offset += u64::try_from(written).unwrap_or_default();
        }
    }

    /// A call whose effect is known when it ends. Returns whether it changed names.
    fn perform(&mut self, disk: &mut Disk, call: &Call, result: i64) -> Result<bool, String> {
        match call {
            Call::Open { place, create, truncate } => {
                Ok(self.open(disk, place, *create, *truncate, descriptor(result)))
            }
            Call::Duplicate { fd } => {
                // The number may have stood for a different file before.
                self.descriptors.remove(&descriptor(result));
                if let Some(copied) = self.descriptors.get(fd).copied() {
                    self.descriptors.insert(descriptor(result), copied);
                }
                Ok(false)
            }
            Call::MakeFolder { place } => {
                let Some((folder, name)) = self.find_folder(disk, place) else { return Ok(false) };
                let node = disk.add_folder(&name);
                disk.change(folder, Edit::Link { name, node }, true);
                Ok(true)
            }
            Call::Link { from, to } => {
                let Some((folder, name)) = self.find_folder(disk, to) else { return Ok(false) };
                let node = self.find(disk, from).ok_or("a link comes from elsewhere")?;
                disk.change(folder, Edit::Link { name, node }, true);
                Ok(true)
            }
            Call::Unlink { place } => {
                let Some((folder, name)) = self.find_folder(disk, place) else { return Ok(false) };
                disk.change(folder, Edit::Unlink { name }, true);
                Ok(true)
            }
            Call::Rename { from, to } => self.rename(disk, from, to),
            _ => Ok(false),
        }
    }

    fn open(
        &mut self,
        disk: &mut Disk,
        place: &Place,
        create: bool,
        truncate: bool,
        fd: i32,
    ) -> bool {
        let there = self.find(disk, place);
        let node = match (there, self.find_folder(disk, place)) {
            (Some(node), _) => node,
            (None, Some((folder, name))) if create => {
                let node = disk.add_file(&name);
                disk.change(folder, Edit::Link { name, node }, true);
                node
            }
            // It isn't on the disk.
            _ => return false,
        };
        self.descriptors.insert(fd, Descriptor { node, offset: 0 });
        if truncate && there.is_some() {
            disk.change(node, Edit::SetLen(0), true);
        }
        there.is_none() || truncate
    }

    fn rename(&self, disk: &mut Disk, from: &Place, to: &Place) -> Result<bool, String> {
        match (self.find_folder(disk, from), self.find_folder(disk, to)) {
            (None, None) => Ok(false),
            (Some((folder, from)), Some((other, to))) if folder == other => {
                let names = disk.names(folder).unwrap_or_default();
                let node = *names.get(&from).ok_or("what is renamed is not there")?;
                disk.change(folder, Edit::Rename { from, to, node }, true);
                Ok(true)
            }
            _ => Err("a rename from one directory to another is not modelled".to_owned()),
        }
    }

    /// The process has ended. Of the calls whose return was not seen, those count that changed
    /// names which are there. `is_real` compares the disk with the real one.
    pub fn finish(
        mut self,
        disk: &mut Disk,
        is_real: impl Fn(&Disk) -> bool,
    ) -> Result<(), String> {
        for (call, begun) in std::mem::take(&mut self.under_way).into_values() {
            if matches!(begun, Begun::Unknown) && !is_real(disk) {
                // Its return value doesn't matter: no code received it.
                self.perform(disk, &call, 0)?;
            }
        }
        Ok(())
    }

    /// The directory that contains a place, if that is on the disk, and the place's name in it.
    fn find_folder(&self, disk: &Disk, place: &Place) -> Option<(NodeId, String)> {
        let (from, path) = self.start(place)?;
        disk.find_folder(from, path)
    }

    fn find(&self, disk: &Disk, place: &Place) -> Option<NodeId> {
        let (from, path) = self.start(place)?;
        disk.find(from, path)
    }

    /// Where on the disk a path starts, and the rest of it. The process works in the root.
    fn start<'p>(&self, place: &'p Place) -> Option<(NodeId, &'p Path)> {
        if place.path.is_absolute() {
            return Some((ROOT, place.path.strip_prefix(&self.root).ok()?));
        }
        let folder = match place.folder {
            AT_FDCWD => ROOT,
            fd => self.descriptors.get(&fd)?.node,
        };
        Some((folder, &place.path))
    }
}

fn descriptor(result: i64) -> i32 {
    i32::try_from(result).expect("a descriptor is a small number")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::disk::Content;
    use crate::trace::{Event, parse};

    /// What is safe of a file after these calls, and how many of its changes aren't.
    fn after(calls: &[&str], path: &str) -> (String, usize) {
        let (mut disk, mut process) = (Disk::empty(None), Process::new(Path::new("/r")));
        for event in parse(&calls.join("\n")).expect("they are calls") {
            match event {
                Event::Begin { thread, call } => {
                    process.begin(&mut disk, thread, &call);
                }
                Event::End { thread, result } => {
                    process.end(&mut disk, thread, result).expect("it was begun");
                }
            }
        }
        let node = disk.node(disk.find(ROOT, Path::new(path)).expect("it is there"));
        let Content::File(safe) = &node.safe else { panic!("it is a file") };
        (String::from_utf8(safe.clone()).expect("it is text"), node.changes.len())
    }

    const MAKE_FOLDER: &str = r#"1 mkdir("\x2f\x72\x2f\x61", 0700) = 0"#;
    const OPEN_FOLDER: &str = r#"1 openat(AT_FDCWD, "\x2f\x72\x2f\x61", O_RDONLY|O_DIRECTORY) = 3"#;
    const CREATE: &str = r#"1 openat(3, "\x62", O_RDWR|O_CREAT, 0600) = 4"#;
    const WRITE: &str = r#"1 pwrite64(4, "\x68\x69", 2, 0) = 2"#;
    const SYNC: &str = "1 fdatasync(4) = 0";

    #[test]
    fn paths_start_at_the_directory_that_is_open() {
        let calls = [MAKE_FOLDER, OPEN_FOLDER, CREATE, WRITE, SYNC];
        assert_eq!(after(&calls, "a/b"), ("hi".to_owned(), 0));
        let rename = r#"1 renameat(3, "\x62", 3, "\x63") = 0"#;
        let calls = [&calls[..], &[rename]].concat();
        assert_eq!(after(&calls, "a/c"), ("hi".to_owned(), 0));
    }

    #[test]
    fn a_sync_that_fails_or_is_not_over_makes_nothing_safe() {
        for sync in ["1 fdatasync(4) = -1 EIO (Input/output error)", "1 fsync(4 <unfinished ...>"] {
            let calls = [MAKE_FOLDER, OPEN_FOLDER, CREATE, WRITE, sync];
            assert_eq!(after(&calls, "a/b"), (String::new(), 1));
        }
    }

    #[test]
    fn a_descriptor_is_free_when_its_close_begins() {
        let calls = [
            MAKE_FOLDER,
            OPEN_FOLDER,
            r#"1 openat(3, "\x63", O_RDWR|O_CREAT, 0600) = 4"#,
            "2 close(4 <unfinished ...>",
            CREATE,
            "2 <... close resumed>) = 0",
            WRITE,
            SYNC,
        ];
        assert_eq!(after(&calls, "a/b"), ("hi".to_owned(), 0));
    }

    #[test]
    fn a_copy_of_a_descriptor_is_of_the_same_file() {
        let copy = "1 fcntl(4, F_DUPFD_CLOEXEC, 3) = 5";
        let calls = [MAKE_FOLDER, OPEN_FOLDER, CREATE, WRITE, copy, "1 fsync(5) = 0"];
        assert_eq!(after(&calls, "a/b"), ("hi".to_owned(), 0));
    }

    #[test]
    fn writes_that_do_not_say_where_go_behind_each_other() {
        let (first, second) = (r#"1 write(4, "\x68", 1) = 1"#, r#"1 write(4, "\x69", 1) = 1"#);
        let calls = [MAKE_FOLDER, OPEN_FOLDER, CREATE, first, second, SYNC];
        assert_eq!(after(&calls, "a/b"), ("hi".to_owned(), 0));
    }
}
