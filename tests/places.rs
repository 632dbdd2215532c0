//! Places on a real file system that can't hold a store, and several processes that compete for one
//! store.
//!
//! If a test needs something that isn't available here (a separate file system, a device), it says
//! so and ends.
//!
//! These tests start processes, and between fork and exec a child briefly holds a copy of every
//! lock of its parent. So they run one after the other, in a separate binary.

#![cfg(unix)]
#![expect(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a test that cannot go on has failed"
)]

use std::env;
use std::ffi::OsString;
use std::fs::{self, Permissions};
use std::io::{BufRead, BufReader, Write};
use std::os::unix::ffi::OsStringExt;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use idemstore::{Begin, Bound, CompleteError, Error, Fingerprint, Key, OpenError, Permit, Store};

const FILES: [&str; 3] = ["vault.redb", "log-0", "log-1"];
/// What this binary should do when a test has started it again, and with which directory.
const ROLE: &str = "IDEMSTORE_TEST_ROLE";
const PLACE: &str = "IDEMSTORE_TEST_PLACE";

fn open(path: &Path) -> Result<Store, OpenError> {
    let builder =
        Store::builder().log_bytes(64 * 1024).result_len_max(4 * 1024).background_thread(false);
    builder.wait_for_lock(Duration::ZERO).open(path)
}

fn directory() -> tempfile::TempDir {
    tempfile::tempdir().expect("there is room for a directory")
}

/// The right to continue alone.
fn alone() -> MutexGuard<'static, ()> {
    static ALONE: Mutex<()> = Mutex::new(());
    ALONE.lock().unwrap_or_else(PoisonError::into_inner)
}

fn begin(store: &Store, name: &str) -> Result<Begin, Error> {
    store.begin(&Key::new(name).expect("it is a key"), Fingerprint::of(name))
}

fn fresh(begin: Result<Begin, Error>) -> Result<Permit, Error> {
    match begin? {
        Begin::Fresh(permit) => Ok(permit),
        other => panic!("not fresh: {other:?}"),
    }
}

fn replayed(begin: Result<Begin, Error>) -> Result<Vec<u8>, Error> {
    match begin? {
        Begin::Replay(completed) => Ok(completed.result().to_vec()),
        other => panic!("not a replay: {other:?}"),
    }
}

fn is_stored(store: &Store, name: &str, result: &[u8]) -> bool {
    replayed(begin(store, name)).expect("begin answers") == result
}

/// This binary, started again, optionally by a shell script.
fn another_process(role: &str, place: &Path, wrapper: &[&str], script: &str) -> Command {
    let mut words: Vec<OsString> = wrapper.iter().map(Into::into).collect();
    if !script.is_empty() {
        words.extend(["sh", "-ec", &format!("{script}; exec \"$@\""), "sh"].map(Into::into));
    }
    words.push(env::current_exe().expect("it has a path").into());
    words.extend(["--ignored", "--exact", "as_another_process"].map(Into::into));
    let mut command = Command::new(&words[0]);
    command.args(&words[1..]).env(ROLE, role).env(PLACE, place);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

/// Everything that another process has printed, up to its end.
fn said_by(mut command: Command) -> Vec<String> {
    let output = command.stdin(Stdio::null()).output().expect("it starts");
    let stdout = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{stdout}{}", String::from_utf8_lossy(&output.stderr));
    stdout.lines().filter_map(|line| line.strip_prefix("said: ")).map(str::to_owned).collect()
}

/// Bypasses the harness, which would hide it.
fn say(what: &str) {
    let mut stdout = std::io::stdout();
    // The harness may have begun a line.
    writeln!(stdout, "\nsaid: {what}").and_then(|()| stdout.flush()).expect("somebody listens");
}

/// Whether this command can be run here, and succeeds.
fn works(words: &[&str]) -> bool {
    let mut command = Command::new(words[0]);
    let status = command.args(&words[1..]).stdout(Stdio::null()).stderr(Stdio::null()).status();
    status.is_ok_and(|status| status.success())
}

/// The kind of an error, without its details.
fn kind(error: &impl std::fmt::Debug) -> String {
    let shown = format!("{error:?}");
    shown.split([' ', '(', '{']).next().unwrap_or_default().to_owned()
}

#[test]
#[ignore = "what the other tests start as a process of its own"]
fn as_another_process() {
    let Ok(role) = env::var(ROLE) else { return };
    let place = PathBuf::from(env::var_os(PLACE).expect("it comes with the role"));
    match &*role {
        "open" => say(&open(&place).map_or_else(|error| kind(&error), |_| "opened".to_owned())),
        "hold" => hold(&place),
        "fill" => say(&format!("{} stored", fill(&place))),
        "fill and free" => fill_and_free(&place),
        other => panic!("no such role: {other}"),
    }
}

/// Holds the store until it is killed.
fn hold(place: &Path) {
    let store = open(place).expect("the store opens");
    for name in ["completed", "started"] {
        let permit = fresh(begin(&store, name)).expect("begin answers");
        let execution = permit.start().expect("it starts");
        if name == "completed" {
            execution.complete("result").expect("it completes");
        } else {
            std::mem::forget(execution);
        }
    }
    say("holds");
    let _ = std::io::stdin().read_line(&mut String::new());
}

struct Holder {
    process: Child,
    said: BufReader<ChildStdout>,
}

impl Holder {
    fn of(place: &Path) -> Self {
        let mut process = another_process("hold", place, &[], "").spawn().expect("it starts");
        let said = BufReader::new(process.stdout.take().expect("it is piped"));
        let mut holder = Self { process, said };
        let mut lines = (&mut holder.said).lines().map(|line| line.expect("it is text"));
        assert!(lines.any(|line| line == "said: holds"), "it has ended");
        holder
    }

    fn kill(mut self) {
        self.process.kill().expect("it is ours");
        self.process.wait().expect("it is ours");
    }
}

#[test]
fn a_store_is_open_in_one_process_by_whatever_name_until_that_is_killed() {
    let _alone = alone();
    let directory = directory();
    let (path, link) = (directory.path().join("store"), directory.path().join("link"));
    let copy = directory.path().join("copy");
    let holder = Holder::of(&path);
    symlink(&path, &link).expect("links work here");
    fs::create_dir(&copy).expect("there is room for a directory");
    for name in FILES {
        fs::hard_link(path.join(name), copy.join(name)).expect("links work here");
    }
    // A copy that shares one file only, and one whose file is the link.
    let part = directory.path().join("part");
    fs::create_dir(&part).expect("there is room for a directory");
    fs::hard_link(path.join(FILES[0]), part.join(FILES[0])).expect("links work here");
    let names = [&path, &link, &copy, &part, &link.join("..").join("store")];
    for name in names {
        // A directory that lacks files of a store is refused for that, locked or not.
        let expected = if *name == part { "Corrupt" } else { "Locked" };
        let error = format!("{:?}", open(name).expect_err("it is open elsewhere"));
        assert!(error.starts_with(expected), "{}: {error}", name.display());
        let said = said_by(another_process("open", name, &[], ""));
        assert!(said.len() == 1 && said[0].starts_with(expected), "{said:?}");
    }
    holder.kill();
    let store = open(&path).expect("a killed process holds no lock");
    assert!(is_stored(&store, "completed", b"result"));
    assert!(matches!(begin(&store, "started"), Ok(Begin::Interrupted(_))));
    // And the other way round.
    assert_eq!(said_by(another_process("open", &link, &[], "")), ["Locked"]);
    store.close().expect("the store closes");
    assert_eq!(said_by(another_process("open", &link, &[], "")), ["opened"]);
}

/// What is put where a file or a directory should be, and how to create it; `false` if that's
/// impossible.
type OddThing = (&'static str, fn(&Path) -> bool);

fn odd_things() -> Vec<OddThing> {
    vec![
        ("a link to a file", |path| {
            let target = path.with_extension("target");
            fs::write(&target, [b'x'; 8_192]).and_then(|()| symlink(&target, path)).is_ok()
        }),
        ("a link to nowhere", |path| symlink("nowhere", path).is_ok()),
        ("a link to itself", |path| symlink(path, path).is_ok()),
        ("a link to a full device", |path| symlink("/dev/full", path).is_ok()),
        ("a directory", |path| fs::create_dir(path).is_ok()),
        ("a socket", |path| UnixListener::bind(path).is_ok()),
        ("a FIFO", |path| {
            Command::new("mkfifo").arg(path).status().is_ok_and(|status| status.success())
        }),
        ("a device", |path| {
            let mut command = Command::new("mknod");
            command.arg(path).args(["c", "1", "7"]).stderr(Stdio::null());
            command.status().is_ok_and(|status| status.success())
        }),
    ]
}

/// What is at a path, and for a link, what it leads to.
fn look(path: &Path) -> (fs::FileType, Option<PathBuf>, Option<Vec<u8>>) {
    let file_type = fs::symlink_metadata(path).expect("it is there").file_type();
    let target = fs::read_link(path).ok();
    let is_readable = target.as_ref().is_some_and(|target| target.is_file());
    (file_type, target, is_readable.then(|| fs::read(path).expect("it is readable")))
}

#[test]
fn what_stands_in_place_of_a_file_is_refused_and_left_alone() {
    let _alone = alone();
    let mut refused = 0;
    for (what, make) in odd_things() {
        for name in FILES {
            let directory = directory();
            open(directory.path()).expect("the store opens").close().expect("the store closes");
            let path = directory.path().join(name);
            fs::rename(&path, directory.path().join("elsewhere")).expect("it is ours");
            if !make(&path) {
                eprintln!("left out: {what} cannot be made here");
                break;
            }
            let before = look(&path);
            let error = open(directory.path()).expect_err("it is no file");
            let is_typed = matches!(error, OpenError::NotAStore { .. } | OpenError::Io { .. });
            assert!(is_typed, "{what} as {name}: {error:?}");
            assert_eq!(look(&path), before, "{what} as {name}");
            // With the file back in its place it is the same store as before.
            fs::remove_file(&path).or_else(|_| fs::remove_dir(&path)).expect("it is ours");
            fs::rename(directory.path().join("elsewhere"), &path).expect("it is ours");
            open(directory.path()).expect("the store opens");
            refused += 1;
        }
    }
    assert!(6 * FILES.len() <= refused, "{refused}");
}

#[test]
fn what_stands_in_the_way_of_a_new_store_is_refused_or_replaced_and_never_followed() {
    let _alone = alone();
    let (mut refused, mut made) = (0, 0);
    for (what, make) in odd_things() {
        for name in FILES.into_iter().chain(["log-0.init", "log-1.init", "vault.redb.init"]) {
            let directory = directory();
            let path = directory.path().join(name);
            if !make(&path) {
                break;
            }
            let before = look(&path);
            match open(directory.path()) {
                Ok(_) => {
                    assert!(!FILES.contains(&name), "{what} as {name} was taken");
                    made += 1;
                }
                Err(OpenError::Corrupt { .. } | OpenError::NotEmpty | OpenError::Io { .. }) => {
                    assert_eq!(look(&path), before, "{what} as {name}");
                    refused += 1;
                }
                Err(error) => panic!("{what} as {name}: {error:?}"),
            }
            if let (_, Some(target), Some(bytes)) = before {
                assert!(fs::read(target).expect("it is there") == bytes, "{what} was followed");
            }
        }
    }
    assert!(0 < made && 0 < refused, "{made} {refused}");
}

#[test]
fn what_is_no_directory_is_refused_and_left_alone() {
    let _alone = alone();
    for (what, make) in odd_things() {
        let directory = directory();
        let path = directory.path().join("store");
        if what == "a directory" || !make(&path) {
            continue;
        }
        let before = look(&path);
        for path in [path.clone(), path.join("below")] {
            let error = open(&path).expect_err("it is no directory");
            let is_typed = matches!(error, OpenError::NotADirectory | OpenError::Io { .. });
            assert!(is_typed, "{what}: {error:?}");
        }
        assert_eq!(look(&path), before, "{what}");
    }
}

#[test]
fn a_store_is_made_where_its_name_can_be_made_durable_and_nowhere_else() {
    let _alone = alone();
    let directory = directory();
    let in_here = |name: &str| directory.path().join(name);
    let set_mode = |mode| fs::set_permissions(directory.path(), Permissions::from_mode(mode));
    // Root may list everything, unless it gives up that right.
    let gives_up = ["setpriv", "--bounding-set=-dac_override,-dac_read_search"];
    let wrapper = if works(&[&gives_up[..], &["true"]].concat()) { &gives_up[..] } else { &[] };
    let opened = |name: &str| said_by(another_process("open", &in_here(name), wrapper, ""));
    fs::create_dir(in_here("made")).expect("it is ours");
    for path in ["above/all/store", "made on the way/../store"] {
        assert_eq!(opened(path), ["opened"]);
    }

    // Names can be created and used, but the directory can't be listed or synced.
    set_mode(0o311).expect("it is ours");
    let shown = directory.path().display().to_string();
    if works(&[wrapper, &["ls", &shown]].concat()) {
        eprintln!("left out: this user may list everything");
        return;
    }
    let seen = ["made", "above/all/store", "above/new", "new", "new", "new/below"].map(opened);
    set_mode(0o700).expect("it is ours");
    let (opened, refused) = seen.split_at(3);
    assert!(opened.iter().all(|said| *said == ["opened"]), "{opened:?}");
    assert!(refused.iter().all(|said| *said == ["NotWritable"]), "{refused:?}");
    assert!(!in_here("new").exists(), "the next open would take it for somebody else's");
    open(&in_here("new/below")).expect("it opens");
}

#[test]
fn a_path_that_cannot_be_is_refused() {
    let _alone = alone();
    let directory = directory();
    let long = "n".repeat(256);
    let deep = vec!["n".repeat(200); 30].join("/");
    for name in [OsString::from_vec(b"a\0b".to_vec()), long.into(), deep.into()] {
        let error = open(&directory.path().join(name)).expect_err("there is no such path");
        assert!(matches!(error, OpenError::Io { .. }), "{error:?}");
    }
    let error = open(Path::new("")).expect_err("it is no path");
    assert!(matches!(error, OpenError::Io { .. }), "{error:?}");
    for path in ["/proc/self/store", "/proc/store", "/dev/null", "/dev/null/store", "/dev/full"] {
        let error = open(Path::new(path)).expect_err("nothing can be made there");
        assert!(!matches!(error, OpenError::Locked | OpenError::Corrupt { .. }), "{error:?}");
    }
    // Bytes that aren't text are a name like any other.
    let name = OsString::from_vec(b"\xFF\xFE \n store".to_vec());
    open(&directory.path().join(name)).expect("the store opens");
}

fn name_of(number: usize) -> String {
    format!("key {number}")
}

fn store_one(store: &Store, name: &str) -> Result<(), Error> {
    let execution = fresh(begin(store, name))?.start()?;
    match execution.complete([7; 3_000]) {
        Ok(_) => Ok(()),
        Err(CompleteError::Store(error)) => Err(error),
        Err(other) => panic!("{other:?}"),
    }
}

/// Stores results until that fails, and returns how many it has stored.
fn fill(place: &Path) -> usize {
    let store = match open(place) {
        Ok(store) => store,
        Err(OpenError::DiskFull { .. } | OpenError::Io { .. } | OpenError::Storage { .. }) => {
            return 0;
        }
        Err(other) => panic!("{other:?}"),
    };
    let first_error = |number: &usize| store_one(&store, &name_of(*number)).err();
    let (number, error) = (0..)
        .find_map(|number| Some((number, first_error(&number)?)))
        .expect("no disk is that large");
    // The store refuses to start what it couldn't finish, but it notices only late that a file may
    // not grow.
    let is_full = matches!(error, Error::Overloaded { bound: Bound::Disk { .. } });
    let is_typed = is_full || matches!(error, Error::OutcomeUnknown(_) | Error::Poisoned(_));
    assert!(is_typed, "{error:?}");
    // No answer is invented for a record that can't be read now.
    for name in (0..number).map(name_of) {
        match replayed(begin(&store, &name)) {
            Err(Error::Storage(_) | Error::Poisoned(_)) => {}
            result => assert_eq!(result.expect("begin answers"), [7; 3_000]),
        }
    }
    number
}

/// Everything that was stored is there, and the store still works.
fn check_stored(store: &Store, stored: usize) {
    for number in 0..stored {
        assert!(is_stored(store, &name_of(number), &[7; 3_000]));
    }
    let permit = fresh(begin(store, "more")).expect("begin answers");
    permit.complete("room").expect("it completes");
}

/// Fills the file system that the directory is on, and continues once there is room.
fn fill_and_free(place: &Path) {
    let (filler, store) = (place.join("filler"), place.join("store"));
    let stored = fill(&store);
    // There is still no room: the store either opens, or reports that it can't.
    match open(&store) {
        Ok(store) => {
            assert!((0..stored).all(|number| is_stored(&store, &name_of(number), &[7; 3_000])));
        }
        Err(OpenError::DiskFull { .. } | OpenError::Io { .. } | OpenError::Storage { .. }) => {}
        Err(other) => panic!("{other:?}"),
    }
    fs::remove_file(filler).expect("it is ours");
    let store = open(&store).expect("there is room now");
    check_stored(&store, stored);
    store.close().expect("the store closes");
    say(&format!("{stored} stored"));
}

fn number_stored(said: &[String]) -> usize {
    let said = said.last().and_then(|said| said.strip_suffix(" stored"));
    said.and_then(|number| number.parse().ok()).expect("it has said so")
}

#[test]
fn a_file_that_may_not_grow_further_costs_nothing_that_was_stored() {
    let _alone = alone();
    // The limit applies to the other process only: this one has none, and finds what was stored.
    let mut stored = Vec::new();
    for blocks in [64, 300, 700, 1_100] {
        let directory = directory();
        let path = directory.path().join("store");
        let script = format!("trap '' XFSZ; ulimit -f {blocks}");
        stored.push(number_stored(&said_by(another_process("fill", &path, &[], &script))));
        check_stored(&open(&path).expect("the store opens"), stored[stored.len() - 1]);
    }
    eprintln!("{stored:?}");
    assert!(stored[0] == 0 && 50 < stored[3], "{stored:?}");
}

/// Whether this user can mount a file system here.
fn has_own_mounts() -> bool {
    let has = works(&["unshare", "-rm", "true"]);
    if !has {
        eprintln!("left out: `unshare -rm` does not work here");
    }
    has
}

#[test]
fn a_full_file_system_costs_nothing_that_was_stored() {
    let _alone = alone();
    if !has_own_mounts() {
        return;
    }
    let (mut most, mut never_made) = (0, 0);
    for kilobytes in [32, 100, 160, 280, 400, 600, 1_000] {
        let directory = directory();
        let place = directory.path().display().to_string();
        let script = format!(
            "mount -t tmpfs -o size=1400k tmpfs {place}; \
             head -c {}k /dev/zero > {place}/filler",
            1_400 - kilobytes
        );
        let process =
            another_process("fill and free", directory.path(), &["unshare", "-rm"], &script);
        let stored = number_stored(&said_by(process));
        never_made += usize::from(stored == 0);
        most = most.max(stored);
    }
    assert!(50 < most && 0 < never_made, "{most} {never_made}");
}

#[test]
fn a_place_that_is_mounted_for_reading_only_is_said_to_be_so() {
    let _alone = alone();
    if !has_own_mounts() {
        return;
    }
    let directory = directory();
    let path = directory.path().join("store");
    let store = open(&path).expect("the store opens");
    let permit = fresh(begin(&store, "k")).expect("begin answers");
    permit.complete("result").expect("it completes");
    store.close().expect("the store closes");
    let shown = directory.path().display();
    let script = format!("mount --bind {shown} {shown}; mount -o remount,ro,bind {shown}");
    for path in [path.clone(), directory.path().join("new")] {
        let process = another_process("open", &path, &["unshare", "-rm"], &script);
        assert_eq!(said_by(process), ["NotWritable"], "{}", path.display());
    }
    assert!(!directory.path().join("new").exists());
    let store = open(&path).expect("the store opens");
    assert!(is_stored(&store, "k", b"result"));
}
