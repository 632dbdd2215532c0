//! The files as a cut leaves them: what is safe is there, and the rest is left to chance.

use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::{fs, io};

use fastrand::Rng;

use crate::disk::{Change, Content, Disk, Edit, Node, NodeId, ROOT, index};

/// A disk writes this many bytes atomically.
const SECTOR_LEN: usize = 512;

/// Files and directories by path, each directory before its contents.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Image(BTreeMap<PathBuf, Entry>);

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Entry {
    Folder,
    File(Vec<u8>),
}

/// What a cut does to unsafe changes.
#[derive(Clone, Copy, Debug)]
enum Cut {
    /// The process is killed: the effects of all calls that have returned are there.
    Kill,
    /// All of them are gone.
    Nothing,
    /// Everything that began before this change is there. The change itself may be torn.
    UpTo(u64),
    /// Each change is there independently, with this chance in percent; names as `names`
    /// determines.
    Each { percent: u32, names: Option<u64> },
}

impl Cut {
    /// One of many, so that each kind comes often enough.
    fn any(disk: &Disk, rng: &mut Rng) -> Self {
        let changes: Vec<_> = disk.unsafe_changes().collect();
        let one = rng.choice(&changes).copied().unwrap_or_default();
        match rng.u32(..6) {
            0 => Self::Kill,
            1 => Self::Nothing,
            2 | 3 => Self::UpTo(one),
            _ => {
                let percent = *rng.choice(&[10, 50, 90]).expect("it is not empty");
                Self::Each { percent, names: rng.bool().then_some(one) }
            }
        }
    }
}

impl Image {
    /// What one cut leaves.
    pub fn of_cut(disk: &Disk, rng: &mut Rng) -> Self {
        let cut = Cut::any(disk, rng);
        Self::of(disk, |node| content(node, cut, rng))
    }

    /// What is there now, if nothing is cut.
    pub fn of_disk(disk: &Disk) -> Self {
        Self::of(disk, |node| {
            let mut content = node.safe.clone();
            node.changes.iter().for_each(|change| content.apply(&change.edit));
            content
        })
    }

    fn of(disk: &Disk, mut content: impl FnMut(&Node) -> Content) -> Self {
        let mut image = Self::default();
        image.add_folder(disk, ROOT, Path::new(""), &mut content);
        image
    }

    fn add_folder(
        &mut self,
        disk: &Disk,
        folder: NodeId,
        path: &Path,
        content: &mut impl FnMut(&Node) -> Content,
    ) {
        let Content::Folder(names) = content(disk.node(folder)) else { return };
        for (name, node) in names {
            let path = path.join(name);
            if disk.node(node).is_folder() {
                self.add(path.clone(), Entry::Folder);
                self.add_folder(disk, node, &path, content);
            } else if let Content::File(bytes) = content(disk.node(node)) {
                self.add(path, Entry::File(bytes));
            }
        }
    }

    pub fn add(&mut self, path: PathBuf, entry: Entry) {
        self.0.insert(path, entry);
    }

    pub fn entries(&self) -> impl Iterator<Item = (&Path, &Entry)> {
        self.0.iter().map(|(path, entry)| (path.as_path(), entry))
    }

    /// The contents of one of its directories.
    pub fn within(&self, folder: &str) -> Self {
        let entries = self.entries().filter_map(|(path, entry)| {
            let path = path.strip_prefix(folder).ok()?;
            (path != Path::new("")).then(|| (path.to_owned(), entry.clone()))
        });
        Self(entries.collect())
    }

    /// The paths that are in only one of the two images, or whose contents differ.
    pub fn differences<'i>(&'i self, other: &'i Self) -> Vec<&'i Path> {
        let differs = |path: &&PathBuf| self.0.get(*path) != other.0.get(*path);
        self.0.keys().chain(other.0.keys()).filter(differs).map(PathBuf::as_path).collect()
    }

    /// Whether both have the same files and directories, whatever their contents.
    pub fn has_paths_of(&self, other: &Self) -> bool {
        self.0.keys().eq(other.0.keys())
    }

    /// A number that distinguishes it from others.
    pub fn digest(&self) -> [u8; 32] {
        let mut hasher = blake3::Hasher::new();
        for (path, entry) in self.entries() {
            hasher.update(path.as_os_str().as_encoded_bytes()).update(b"\0");
            match entry {
                Entry::Folder => hasher.update(b"folder"),
                Entry::File(bytes) => {
                    hasher.update(&(bytes.len() as u64).to_le_bytes()).update(bytes)
                }
            };
        }
        hasher.finalize().into()
    }

    /// Writes it into a real, empty directory.
    pub fn write(&self, root: &Path) -> io::Result<()> {
        for (path, entry) in self.entries() {
            match entry {
                Entry::Folder => fs::create_dir(root.join(path))?,
                Entry::File(bytes) => fs::write(root.join(path), bytes)?,
            }
        }
        Ok(())
    }

    /// The contents of a real directory.
    pub fn read(root: &Path) -> io::Result<Self> {
        let mut image = Self::default();
        image.read_folder(root, Path::new(""))?;
        Ok(image)
    }

    fn read_folder(&mut self, root: &Path, folder: &Path) -> io::Result<()> {
        for entry in fs::read_dir(root.join(folder))? {
            let path = folder.join(entry?.file_name());
            if root.join(&path).is_dir() {
                self.add(path.clone(), Entry::Folder);
                self.read_folder(root, &path)?;
            } else {
                let bytes = fs::read(root.join(&path))?;
                self.add(path, Entry::File(bytes));
            }
        }
        Ok(())
    }
}

/// What a cut leaves of a file or of a directory.
fn content(node: &Node, cut: Cut, rng: &mut Rng) -> Content {
    let mut content = node.safe.clone();
    for change in &node.changes {
        match fate(change, node.is_folder(), cut, rng) {
            Fate::There => content.apply(&change.edit),
            Fate::Torn => tear(&mut content, &change.edit, rng),
            Fate::Missing => {}
        }
    }
    content
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    There,
    Missing,
    Torn,
}

fn fate(change: &Change, is_name: bool, cut: Cut, rng: &mut Rng) -> Fate {
    match cut {
        Cut::Kill if change.is_finished => Fate::There,
        Cut::Kill => any_fate(rng),
        Cut::UpTo(last) => fate_up_to(last, change, rng),
        Cut::Each { names: Some(last), .. } if is_name => fate_up_to(last, change, rng),
        Cut::Each { percent, .. } if rng.u32(..100) < percent => {
            if rng.u32(..4) == 0 {
                Fate::Torn
            } else {
                Fate::There
            }
        }
        Cut::Nothing | Cut::Each { .. } => Fate::Missing,
    }
}

fn fate_up_to(last: u64, change: &Change, rng: &mut Rng) -> Fate {
    match change.number.cmp(&last) {
        Ordering::Less => Fate::There,
        Ordering::Equal => any_fate(rng),
        Ordering::Greater => Fate::Missing,
    }
}

fn any_fate(rng: &mut Rng) -> Fate {
    *rng.choice(&[Fate::There, Fate::Missing, Fate::Torn]).expect("it is not empty")
}

/// Leaves some sectors of a write, or none. The file may have grown for the missing ones. Every
/// other change is there as a whole or not at all.
fn tear(content: &mut Content, edit: &Edit, rng: &mut Rng) {
    let Edit::Write { at, bytes } = edit else {
        if rng.bool() {
            content.apply(edit);
        }
        return;
    };
    if rng.bool() {
        content.apply(&Edit::LenAtLeast(*at + bytes.len() as u64));
    }
    let is_cut_short = rng.bool();
    for sector in sectors(*at, bytes.len()) {
        if rng.bool() {
            let at = *at + sector.start as u64;
            content.apply(&Edit::Write { at, bytes: bytes[sector].into() });
        } else if is_cut_short {
            return;
        }
    }
}

/// The parts of a write, one for each sector of its file.
fn sectors(at: u64, len: usize) -> impl Iterator<Item = Range<usize>> {
    let first = SECTOR_LEN - index(at % SECTOR_LEN as u64);
    let ends = std::iter::successors(Some(first.min(len)), move |end| {
        (*end < len).then(|| len.min(end + SECTOR_LEN))
    });
    let mut start = 0;
    ends.map(move |end| std::mem::replace(&mut start, end)..end)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    /// Everything that cuts leave of a file of three sectors that was overwritten.
    fn images(is_finished: bool, is_safe: bool) -> BTreeSet<Vec<u8>> {
        let mut disk = Disk::empty(None);
        let file = disk.add_file("log-0");
        disk.change(ROOT, Edit::Link { name: "log-0".to_owned(), node: file }, true);
        disk.change(file, Edit::Write { at: 0, bytes: [1; 1536].into() }, true);
        for node in [ROOT, file] {
            let covered = disk.covered_by_sync(node);
            disk.make_safe(node, &covered);
        }
        disk.change(file, Edit::Write { at: 0, bytes: [2; 1536].into() }, is_finished);
        if is_safe {
            let covered = disk.covered_by_sync(file);
            disk.make_safe(file, &covered);
        }
        let mut rng = Rng::with_seed(1);
        let contents = (0..1_000).map(|_| {
            let image = Image::of_cut(&disk, &mut rng);
            let Some(Entry::File(bytes)) = image.0.get(Path::new("log-0")) else {
                panic!("its name is safe")
            };
            bytes.chunks(SECTOR_LEN).map(|sector| sector[0]).collect()
        });
        contents.collect()
    }

    #[test]
    fn each_sector_is_the_old_one_or_the_new_one() {
        for is_finished in [false, true] {
            let images = images(is_finished, false);
            assert_eq!(images.len(), 8, "{images:?}");
        }
    }

    #[test]
    fn what_was_synced_is_there() {
        assert_eq!(images(true, true), BTreeSet::from([vec![2, 2, 2]]));
    }

    #[test]
    fn names_are_there_or_not() {
        let mut disk = Disk::empty(None);
        for name in ["a", "b"] {
            let node = disk.add_file(name);
            disk.change(ROOT, Edit::Link { name: name.to_owned(), node }, true);
        }
        let mut rng = Rng::with_seed(1);
        let cuts = (0..1_000).map(|_| Image::of_cut(&disk, &mut rng).0.into_keys().collect());
        let cuts: BTreeSet<Vec<_>> = cuts.collect();
        assert_eq!(cuts.len(), 4, "{cuts:?}");
    }

    #[test]
    fn sectors_lie_where_the_disk_has_them() {
        let ends = |at, len| sectors(at, len).map(|sector| sector.end).collect::<Vec<_>>();
        assert_eq!(ends(500, 1_000), [12, 524, 1_000]);
        assert_eq!(ends(512, 512), [512]);
        assert_eq!(ends(0, 100), [100]);
        assert_eq!(sectors(500, 1_000).map(|sector| sector.len()).sum::<usize>(), 1_000);
    }

    #[test]
    fn an_image_is_read_back_as_it_was_written() {
        let mut image = Image::default();
        image.add("a".into(), Entry::Folder);
        image.add("a/log-0".into(), Entry::File(b"ab".to_vec()));
        image.add("b".into(), Entry::Folder);
        let directory = tempfile::tempdir().expect("there is room");
        image.write(directory.path()).expect("it is empty");
        let read = Image::read(directory.path()).expect("it is there");
        assert_eq!(read, image);
        assert_eq!(read.digest(), image.digest());
        assert_eq!(image.within("a").entries().count(), 1);
        assert_eq!(image.differences(&image.within("a")).len(), 4);
    }
}
