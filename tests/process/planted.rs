//! The files of a store are always created anew, readable only by their owner, whatever the umask
//! and whatever someone has put in their place before.

use std::fs::{self, Permissions};
use std::io;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, mpsc};
use std::thread;
use std::time::Duration;

use idemstore::sim::{Directory, Disk, DiskFile, OpenOn};
use idemstore::{Fingerprint, OpenError, Store};

use crate::support::{Answers, key, size};
use crate::turn;

/// Every name that a store gives to a file, permanently or temporarily.
const NAMES: [&str; 7] =
    ["lock", "log-0", "log-0.init", "log-1", "log-1.init", "vault.redb", "vault.redb.init"];
/// The permanent names.
const FINAL: [&str; 4] = ["lock", "log-0", "log-1", "vault.redb"];
const MINE: &str = "this is another's";

fn open(path: &Path) -> Result<Store, OpenError> {
    Store::builder().log_bytes(64 * 1024).result_len_max(1024).open(path)
}

fn mode(path: &Path) -> u32 {
    fs::symlink_metadata(path).expect("it is there").permissions().mode() & 0o7777
}

/// A directory that records the mode of each file as soon as the file exists.
#[derive(Debug)]
struct Watched {
    inner: Directory,
    path: PathBuf,
    modes: Arc<Mutex<Vec<(String, u32)>>>,
}

impl Watched {
    fn look(&self) {
        for name in NAMES {
            let path = self.path.join(name);
            if path.exists() {
                let mut modes = self.modes.lock().expect("nobody panics with it");
                modes.push((name.to_owned(), mode(&path)));
            }
        }
    }
}

impl Disk for Watched {
    fn enter(&mut self, make: bool) -> io::Result<()> {
        self.inner.enter(make)
    }

    fn names(&self) -> io::Result<Vec<String>> {
        self.inner.names()
    }

    fn lock(&mut self, wait: Duration) -> io::Result<bool> {
        self.inner.lock(wait)
    }

    fn sign(&self) -> io::Result<()> {
        self.inner.sign()
    }

    fn check(&self) -> io::Result<()> {
        self.inner.check()
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        self.inner.remove(name)
    }

    fn open(&self, name: &str) -> io::Result<Arc<dyn DiskFile>> {
        self.inner.open(name)
    }

    fn create(&self, name: &str) -> io::Result<Arc<dyn DiskFile>> {
        let file = self.inner.create(name);
        self.look();
        file
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        let renamed = self.inner.rename(from, to);
        self.look();
        renamed
    }

    fn sync_names(&self) -> io::Result<()> {
        self.inner.sync_names()
    }
}

const UMASK: &str = "IDEMSTORE_TEST_UMASK";

#[test]
fn every_file_is_its_owners_alone_under_every_umask() {
    let _turn = turn();
    if std::env::var_os(UMASK).is_some() {
        return check_modes();
    }
    let test = "planted::every_file_is_its_owners_alone_under_every_umask";
    for umask in ["000", "022", "077"] {
        let output = Command::new("sh")
            .args(["-c", &format!("umask {umask} && exec \"$0\" --exact {test} --nocapture")])
            .arg(std::env::current_exe().expect("it runs"))
            .env(UMASK, umask)
            .output()
            .expect("there is a shell");
        let said = String::from_utf8_lossy(&output.stdout);
        assert!(output.status.success() && said.contains("1 passed"), "{umask}: {said}");
    }
}

/// The modes of what is created with this process's umask.
fn check_modes() {
    let directory = tempfile::tempdir().expect("there is room for a directory");
    let probe = directory.path().join("probe");
    fs::write(&probe, "").expect("there is room for a file");
    let umask = u32::from_str_radix(&std::env::var(UMASK).expect("it is set"), 8);
    assert_eq!(mode(&probe), 0o666 & !umask.expect("it is a number"), "the shell has set none");
    let (above, path) = (directory.path().join("above"), directory.path().join("above/store"));
    let modes = Arc::new(Mutex::new(Vec::new()));
    let watched =
        Watched { inner: Directory::new(&path), path: path.clone(), modes: modes.clone() };
    let store = Store::builder().log_bytes(64 * 1024).result_len_max(1024).open_on(watched);
    let store = store.expect("it opens");
    let permit = store.begin(&key("k"), Fingerprint::NONE).expect("begin answers").fresh();
    permit.complete("result").expect("it completes");
    store.compact().expect("it is made smaller");
    let copy = directory.path().join("copy");
    store.backup(&copy).expect("it is copied");
    store.close().expect("it closes");
    let modes = modes.lock().expect("nobody panics with it");
    for (name, mode) in &*modes {
        assert_eq!(*mode, 0o600, "{name}");
    }
    for name in NAMES {
        assert!(modes.iter().any(|(seen, _)| seen == name), "{name} was never there");
    }
    for path in [&above, &path, &copy] {
        assert_eq!(mode(path), 0o700, "{}", path.display());
    }
    for path in FINAL.map(|name| copy.join(name)) {
        assert_eq!(mode(&path), 0o600, "{}", path.display());
    }
}

/// What someone may plant under the name of a file.
const PLANTS: [Plant; 9] = [
    Plant::Link,
    Plant::DanglingLink,
    Plant::LinkToDirectory,
    Plant::LinkToItself,
    Plant::HardLink,
    Plant::Fifo,
    Plant::Socket,
    Plant::Directory,
    Plant::OpenFile,
];

#[derive(Clone, Copy, Debug, PartialEq)]
enum Plant {
    Link,
    DanglingLink,
    LinkToDirectory,
    LinkToItself,
    HardLink,
    Fifo,
    Socket,
    Directory,
    /// A file that anyone may read and write, and that its creator holds open.
    OpenFile,
}

impl Plant {
    /// Puts it at `path`. What it leads to is in `elsewhere`.
    fn put(self, path: &Path, elsewhere: &Path) {
        match self {
            Self::Link => symlink(elsewhere.join("file"), path),
            Self::DanglingLink => symlink(elsewhere.join("nothing"), path),
            Self::LinkToDirectory => symlink(elsewhere, path),
            Self::LinkToItself => symlink(path, path),
            Self::HardLink => fs::hard_link(elsewhere.join("file"), path),
            Self::Fifo => Command::new("mkfifo").arg(path).status().map(|status| {
                assert!(status.success(), "FIFOs work here");
            }),
            Self::Socket => UnixListener::bind(path).map(drop),
            Self::Directory => fs::create_dir(path),
            Self::OpenFile => fs::write(path, "")
                .and_then(|()| fs::set_permissions(path, Permissions::from_mode(0o666))),
        }
        .expect("it can be put there");
    }
}

/// Opens a store in a separate directory with one thing planted in it. The call must return,
/// whatever that thing is: opening a FIFO would wait for the other side.
fn open_with(plant: Plant, name: &str, made_before: bool) -> Result<(), OpenError> {
    let directory = tempfile::tempdir().expect("there is room for a directory");
    let (path, elsewhere) = (directory.path().join("store"), directory.path().join("elsewhere"));
    fs::create_dir(&elsewhere).expect("there is room for a directory");
    fs::write(elsewhere.join("file"), MINE).expect("there is room for a file");
    fs::set_permissions(elsewhere.join("file"), Permissions::from_mode(0o644)).expect("it is ours");
    fs::create_dir(&path).expect("there is room for a directory");
    if made_before {
        open(&path).expect("it opens").close().expect("it closes");
        drop(fs::remove_file(path.join(name)));
    }
    let planted = path.join(name);
    plant.put(&planted, &elsewhere);
    let before = fs::symlink_metadata(&planted).expect("it is there").permissions();
    let (send, receive) = mpsc::channel();
    let opening = path.clone();
    thread::spawn(move || send.send(open(&opening).map(drop)));
    let opened = receive.recv_timeout(Duration::from_secs(60)).expect("the open does not end");
    // Nothing elsewhere was written, truncated, renamed, created or given another mode.
    let file = elsewhere.join("file");
    assert_eq!(fs::read(&file).expect("it is there"), MINE.as_bytes(), "{plant:?} as {name}");
    assert_eq!(mode(&file), 0o644, "{plant:?} as {name}");
    let others = fs::read_dir(&elsewhere).expect("it is there").count();
    assert_eq!(others, 1, "{plant:?} as {name}");
    match &opened {
        Ok(()) => check_whole(&path, plant, name),
        // What was refused is left unchanged.
        Err(_) => assert_eq!(
            fs::symlink_metadata(&planted).expect("it is there").permissions(),
            before,
            "{plant:?} as {name}"
        ),
    }
    opened
}

/// The store's files are its own: regular files without any other name, which only their owner may
/// read.
/// their owner may read.
fn check_whole(path: &Path, plant: Plant, name: &str) {
    use std::os::unix::fs::MetadataExt;
    for file in FINAL {
        let metadata = fs::symlink_metadata(path.join(file)).expect("it is there");
        let seen = (metadata.is_file(), metadata.nlink(), metadata.mode() & 0o7777);
        if (plant, file) == (Plant::OpenFile, name) {
            continue;
        }
        assert_eq!(seen, (true, 1, 0o600), "{file}, with {plant:?} as {name}");
    }
}

#[test]
fn what_is_planted_in_a_new_store_is_replaced_or_refused_and_never_followed() {
    let _turn = turn();
    let mut opened = Vec::new();
    for name in NAMES {
        for plant in PLANTS {
            let is_open = open_with(plant, name, false).is_ok();
            // A temporary name counts for nothing, and whatever has it is replaced; but a directory
            // isn't deleted for it.
            if !FINAL.contains(&name) {
                assert_eq!(is_open, plant != Plant::Directory, "{plant:?} as {name}");
            } else if is_open {
                opened.push((plant, name));
            }
        }
    }
    // Under its own name only an empty file is accepted, as the lock of a store that was never
    // created.
    assert_eq!(opened, [(Plant::OpenFile, "lock")]);
}

#[test]
fn what_is_planted_in_place_of_a_file_is_refused() {
    let _turn = turn();
    for name in FINAL {
        for plant in PLANTS {
            let refused = open_with(plant, name, true).is_err();
            // The lock is empty before the store exists, and is written anew.
            assert_eq!(refused, (plant, name) != (Plant::OpenFile, "lock"), "{plant:?} as {name}");
        }
    }
}

/// The rename that gives a vault its name doesn't lead out of the directory either.
#[test]
fn what_is_planted_while_a_store_is_open_is_not_followed_by_a_compaction() {
    let _turn = turn();
    for plant in PLANTS {
        let directory = tempfile::tempdir().expect("there is room for a directory");
        let (path, elsewhere) =
            (directory.path().join("store"), directory.path().join("elsewhere"));
        fs::create_dir(&elsewhere).expect("there is room for a directory");
        fs::write(elsewhere.join("file"), MINE).expect("there is room for a file");
        let store = open(&path).expect("it opens");
        plant.put(&path.join("vault.redb.compact"), &elsewhere);
        assert_eq!(store.compact().is_ok(), plant != Plant::Directory, "{plant:?}");
        let file = fs::read(elsewhere.join("file")).expect("it is there");
        assert_eq!(file, MINE.as_bytes(), "{plant:?}");
        check_whole(&path, plant, "vault.redb.compact");
        store.close().expect("it closes");
    }
}

/// Someone alternately puts the file and a link in its place while it is opened again and again.
/// What is opened is always the file.
#[test]
fn a_file_that_is_swapped_for_a_link_is_not_opened_elsewhere() {
    let directory = tempfile::tempdir().expect("there is room for a directory");
    let path = |name: &str| directory.path().join(name);
    fs::write(path("file"), "the store's own").expect("there is room for a file");
    fs::write(path("elsewhere"), MINE).expect("there is room for a file");
    fs::hard_link(path("file"), path("log-0")).expect("links work here");
    let done = AtomicBool::new(false);
    let (mut own, mut refused, mut followed) = (0, 0, 0);
    thread::scope(|scope| {
        scope.spawn(|| {
            while !done.load(Ordering::Relaxed) {
                symlink(path("elsewhere"), path("next")).expect("links work here");
                fs::rename(path("next"), path("log-0")).expect("it is ours");
                fs::hard_link(path("file"), path("next")).expect("links work here");
                fs::rename(path("next"), path("log-0")).expect("it is ours");
            }
        });
        let mut disk = Directory::new(directory.path());
        disk.enter(false).expect("it is there");
        while own + refused + followed < size("SWAPS", 20_000) || own == 0 || refused == 0 {
            match disk.open("log-0").map(|file| file.len()) {
                Ok(Ok(len)) if len == MINE.len() as u64 => followed += 1,
                Ok(_) => own += 1,
                Err(_) => refused += 1,
            }
        }
        done.store(true, Ordering::Relaxed);
    });
    assert_eq!(followed, 0, "{own} times the file was opened, and {refused} times nothing");
}
