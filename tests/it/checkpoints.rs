//! Checkpoints: the last acknowledged one is returned, whatever happens in between.

use std::collections::BTreeMap;
use std::fs;
use std::io::ErrorKind;
use std::path::Path;
use std::thread;
use std::time::Duration;

use idemstore::sim::OpenOn;
use idemstore::{
    Begin, CheckpointError, CompleteError, Error, Execution, Fingerprint, ManualClock, Status,
    Store, Timestamp,
};
use redb::{ReadableDatabase, ReadableTableMetadata};

use crate::support::disk::{Fault, Op};
use crate::support::model::splitmix;
use crate::support::{
    Answers, Bench, RETENTION_MS, START_MS, SimDisk, Started, builder, key, size,
};

const LEN_MAX: usize = 16 * 1024;
/// The longest checkpoint that is kept in its record, and the shortest that gets a separate row.
const SMALL: usize = 512;
const LARGE: usize = 513;

fn bytes(len: usize) -> Vec<u8> {
    (0..len).map(|at| (at % 251) as u8).collect()
}

#[track_caller]
fn checkpoint(execution: &mut Execution, progress: impl AsRef<[u8]>) {
    execution.checkpoint(progress).expect("the checkpoint is stored");
}

/// An execution that has come this far.
#[track_caller]
fn reached(bench: &Bench, name: &str, progress: impl AsRef<[u8]>) -> Execution {
    let mut execution = bench.begin(name, "request").started();
    checkpoint(&mut execution, progress);
    execution
}

/// The last checkpoint of an interrupted operation.
#[track_caller]
fn last(bench: &Bench, name: &str) -> Option<Vec<u8>> {
    bench.begin(name, "request").interrupted().last_checkpoint().map(<[u8]>::to_vec)
}

#[test]
fn an_execution_without_a_checkpoint_has_none() {
    let bench = Bench::new();
    let execution = bench.begin("k", "request").started();
    assert_eq!(execution.last_checkpoint(), None);
    drop(execution);
    assert_eq!(last(&bench, "k"), None);
    assert_eq!(last(&bench.reopen(), "k"), None);
}

#[test]
fn a_checkpoint_outlives_its_execution_and_its_process() {
    for settle in [false, true] {
        let bench = Bench::new();
        let execution = reached(&bench, "k", "step 1");
        assert_eq!(execution.last_checkpoint(), Some(&b"step 1"[..]));
        if settle {
            bench.store.settle().expect("it settles");
        }
        drop(execution);
        assert_eq!(last(&bench, "k").as_deref(), Some(&b"step 1"[..]));
        let bench = bench.kill();
        assert_eq!(last(&bench, "k").as_deref(), Some(&b"step 1"[..]));
        let bench = bench.reopen();
        assert_eq!(last(&bench, "k").as_deref(), Some(&b"step 1"[..]));
        // Nothing that was not synced outlives this power cut.
        let bench = bench.cut(|_| 0);
        assert_eq!(last(&bench, "k").as_deref(), Some(&b"step 1"[..]));
    }
}

#[test]
fn a_later_checkpoint_takes_the_place_of_an_earlier_one() {
    for settle in [false, true] {
        let bench = Bench::new();
        let mut execution = reached(&bench, "k", "step 1");
        for progress in ["step 2", "", "step 3"] {
            if settle {
                bench.store.settle().expect("it settles");
            }
            checkpoint(&mut execution, progress);
            assert_eq!(execution.last_checkpoint(), Some(progress.as_bytes()));
        }
        let stats = bench.store.stats();
        assert_eq!((stats.records, stats.in_flight, stats.interrupted), (1, 1, 0));
        drop(execution);
        let stats = bench.store.stats();
        assert_eq!((stats.records, stats.in_flight, stats.interrupted), (1, 0, 1));
        assert_eq!(last(&bench, "k").as_deref(), Some(&b"step 3"[..]));
        let bench = bench.reopen();
        assert_eq!(last(&bench, "k").as_deref(), Some(&b"step 3"[..]));
        assert_eq!(bench.store.stats().records, 1);
    }
}

#[test]
fn a_retry_goes_on_from_the_checkpoint_of_the_attempt_before() {
    for settle in [false, true] {
        let bench = Bench::new();
        drop(reached(&bench, "k", "step 1"));
        let bench = if settle { bench.reopen() } else { bench.kill() };
        let retried = bench.begin("k", "request").interrupted().retry().expect("it starts again");
        assert_eq!(retried.last_checkpoint(), Some(&b"step 1"[..]));
        assert_eq!(retried.attempt(), 2);
        // The second attempt stores no checkpoint, and the third still sees the first's.
        let bench = bench.kill();
        drop(retried);
        let interrupted = bench.begin("k", "request").interrupted();
        assert_eq!(interrupted.attempt(), 2);
        let mut execution = interrupted.retry().expect("it starts again");
        assert_eq!(execution.last_checkpoint(), Some(&b"step 1"[..]));
        checkpoint(&mut execution, "step 2");
        drop(execution);
        let interrupted = bench.begin("k", "request").interrupted();
        assert_eq!(interrupted.attempt(), 3);
        assert_eq!(interrupted.last_checkpoint(), Some(&b"step 2"[..]));
    }
}

#[test]
fn checkpoints_of_every_length_come_back_byte_for_byte() {
    let lens = [0, 1, SMALL - 1, SMALL, LARGE, LARGE + 1, 4096, LEN_MAX - 1, LEN_MAX];
    let mut bench = Bench::new();
    for len in lens {
        drop(reached(&bench, &format!("{len}"), bytes(len)));
    }
    // From memory, from the vault, and from the vault of a process that was killed.
    for _ in 0..3 {
        for len in lens {
            assert!(last(&bench, &format!("{len}")) == Some(bytes(len)), "{len} bytes");
        }
        bench = bench.reopen().kill();
    }
}

#[test]
fn a_checkpoint_that_is_too_long_is_refused_and_changes_nothing() {
    let bench = Bench::new();
    let mut execution = reached(&bench, "k", "step 1");
    let before = bench.disk.bytes();
    let error = execution.checkpoint(bytes(LEN_MAX + 1)).expect_err("it is too long");
    let refused = matches!(
        error,
        CheckpointError::TooLarge { len, max: LEN_MAX } if len == LEN_MAX + 1
    );
    assert!(refused, "{error:?}");
    assert!(bench.disk.bytes() == before);
    assert_eq!(execution.last_checkpoint(), Some(&b"step 1"[..]));
    bench.begin("k", "request").in_flight();
    // The execution is unchanged.
    checkpoint(&mut execution, "step 2");
    execution.checkpoint(bytes(LEN_MAX + 1)).expect_err("it is too long");
    drop(execution);
    assert_eq!(last(&bench, "k").as_deref(), Some(&b"step 2"[..]));
    let execution = bench.begin("k", "request").interrupted().retry().expect("it starts again");
    execution.complete("result").expect("it completes");
    assert_eq!(bench.begin("k", "request").replay().result(), b"result");
}

#[test]
fn a_checkpoint_is_one_write_and_one_fsync_of_the_log() {
    let bench = Bench::new();
    let mut execution = bench.begin("k", "request").started();
    for len in [0, SMALL, LARGE, LEN_MAX] {
        let before = bench.disk.counts();
        checkpoint(&mut execution, bytes(len));
        let after = bench.disk.counts();
        assert_eq!(after.log_writes, before.log_writes + 1);
        assert_eq!(after.log_syncs, before.log_syncs + 1);
        // The vault is left alone until the log is settled.
        assert_eq!(after.vault_writes, before.vault_writes);
        assert_eq!(after.vault_syncs, before.vault_syncs);
        bench.store.settle().expect("it settles");
    }
}

#[test]
fn checkpoints_without_end_go_through_a_small_log() {
    // 400 kB of checkpoints from one operation through a log of 64 KiB.
    let bench = Bench::new();
    let mut execution = bench.begin("k", "request").started();
    for step in 0..400 {
        checkpoint(&mut execution, format!("{step:01000}"));
    }
    assert!(5 < bench.store.stats().settles, "the log was never full");
    assert_eq!(bench.store.stats().records, 1);
    let bench = bench.kill();
    drop(execution);
    assert_eq!(last(&bench, "k"), Some(format!("{:01000}", 399).into_bytes()));
    assert_eq!(bench.store.stats().records, 1);
}

#[test]
fn executions_side_by_side_have_their_own_checkpoints() {
    let clock = ManualClock::new(Timestamp::from_unix_ms(START_MS));
    // All keys share 16 hashes, so most lookups read another key's record first.
    let bench = Bench::with(SimDisk::new(), clock, 0b1111);
    thread::scope(|scope| {
        for thread in 0..8 {
            let bench = &bench;
            scope.spawn(move || {
                for step in 0..10 {
                    let name = format!("{thread} {step}");
                    let mut execution = reached(bench, &name, "step 1");
                    checkpoint(&mut execution, name.repeat(step * 30));
                }
            });
        }
    });
    let bench = bench.kill();
    for thread in 0..8 {
        for step in 0..10 {
            let name = format!("{thread} {step}");
            assert_eq!(last(&bench, &name), Some(name.repeat(step * 30).into_bytes()));
        }
    }
}

#[test]
fn a_checkpoint_ends_with_its_operation() {
    let bench = Bench::new();
    let restarted = |name| {
        let execution = bench.begin(name, "request").started();
        assert_eq!(execution.last_checkpoint(), None, "{name}");
        assert_eq!(execution.attempt(), 1, "{name}");
    };
    reached(&bench, "abandoned", "step 1").abandon().expect("it is abandoned");
    restarted("abandoned");

    drop(reached(&bench, "abandoned later", "step 1"));
    let interrupted = bench.begin("abandoned later", "request").interrupted();
    interrupted.abandon().expect("it is abandoned");
    restarted("abandoned later");

    reached(&bench, "forgotten", "step 1").complete("result").expect("it completes");
    let info = bench.store.get(&key("forgotten")).expect("get answers").expect("it is used");
    assert_eq!(info.last_checkpoint(), None);
    assert_eq!(bench.begin("forgotten", "request").replay().result(), b"result");
    assert!(bench.store.forget(&key("forgotten")).expect("forget answers"));
    restarted("forgotten");
}

#[test]
fn a_detached_execution_keeps_its_checkpoint() {
    for settle in [false, true] {
        let bench = Bench::new();
        reached(&bench, "k", "step 1").detach();
        let info = bench.store.get(&key("k")).expect("get answers").expect("it is used");
        assert_eq!(info.status(), Status::Executing);
        assert_eq!(info.last_checkpoint(), Some(&b"step 1"[..]));
        let bench = if settle { bench.reopen() } else { bench.kill() };
        assert_eq!(last(&bench, "k").as_deref(), Some(&b"step 1"[..]));
        bench.store.complete(&key("k"), "from elsewhere").expect("it completes");
        assert_eq!(bench.begin("k", "request").replay().result(), b"from elsewhere");
    }
}

#[test]
fn a_caller_that_waits_is_not_woken_by_a_checkpoint() {
    let bench = Bench::new();
    let mut execution = bench.begin("k", "request").started();
    let in_flight = bench.begin("k", "request").in_flight();
    let waiter = thread::spawn(move || in_flight.wait(Duration::MAX));
    for step in 0..20 {
        checkpoint(&mut execution, format!("step {step}"));
        thread::yield_now();
    }
    execution.complete("result").expect("it completes");
    let answer = waiter.join().expect("the thread ends").expect("wait answers");
    assert_eq!(answer.replay().result(), b"result");
}

#[test]
fn nobody_else_learns_of_a_checkpoint() {
    let bench = Bench::new();
    let execution = reached(&bench, "k", "step 1, which is secret");
    assert!(!format!("{execution:?}").contains("secret"));
    drop(execution);
    assert!(bench.begin("k", "another").mismatches());
    let interrupted = bench.begin("k", "request").interrupted();
    assert!(!format!("{interrupted:?}").contains("secret"));
    bench.begin("k", "request").in_flight();
}

#[test]
fn a_checkpoint_does_not_prolong_the_retention() {
    for settle in [false, true] {
        let bench = Bench::new();
        let mut execution = reached(&bench, "k", "step 1");
        bench.tick(RETENTION_MS - 1);
        checkpoint(&mut execution, "step 2");
        assert_eq!(execution.expires_at().as_unix_ms(), START_MS + RETENTION_MS);
        drop(execution);
        if settle {
            bench.store.settle().expect("it settles");
        }
        assert_eq!(last(&bench, "k").as_deref(), Some(&b"step 2"[..]));
        bench.tick(1);
        let execution = bench.begin("k", "another").started();
        assert_eq!(execution.last_checkpoint(), None);
        assert_eq!(execution.attempt(), 1);
    }
}

#[test]
fn a_checkpoint_is_taken_when_the_retention_is_over() {
    for completes in [false, true] {
        let bench = Bench::new();
        let mut execution = reached(&bench, "k", bytes(LARGE));
        bench.tick(10 * RETENTION_MS);
        bench.store.settle().expect("it settles");
        assert_eq!(bench.store.sweep().expect("it sweeps"), 0);
        checkpoint(&mut execution, "step 2");
        bench.store.settle().expect("it settles");
        assert_eq!(bench.store.sweep().expect("it sweeps"), 0);
        bench.begin("k", "request").in_flight();
        assert_eq!(execution.last_checkpoint(), Some(&b"step 2"[..]));
        if completes {
            // It begins a new retention from this point on.
            execution.complete("late").expect("it completes");
            bench.begin("k", "request").replay();
            bench.tick(RETENTION_MS);
        } else {
            drop(execution);
        }
        // It no longer counts once its holder is gone.
        let execution = bench.begin("k", "another").started();
        assert_eq!(execution.last_checkpoint(), None);
        bench.store.settle().expect("it settles");
        assert_eq!(bench.store.sweep().expect("it sweeps"), 1);
        assert_eq!(bench.store.stats().records, 1);
    }
}

fn fault(on: Op) -> Fault {
    Fault { on, after: 0, for_good: false, kind: ErrorKind::Other }
}

#[test]
fn a_checkpoint_that_was_not_synced_may_count_or_not() {
    let bench = Bench::new();
    let mut execution = reached(&bench, "k", "step 1");
    bench.disk.fail(fault(Op::Sync));
    let error = execution.checkpoint("step 2").expect_err("the disk has failed");
    assert!(matches!(error, CheckpointError::Store(Error::OutcomeUnknown(_))), "{error}");
    // What was acknowledged is shown.
    assert_eq!(execution.last_checkpoint(), Some(&b"step 1"[..]));
    // The frame was written, so it survives a kill, but perhaps not a power cut.
    let killed = Bench::on(bench.disk.after_kill(), bench.clock.clone());
    assert_eq!(last(&killed, "k").as_deref(), Some(&b"step 2"[..]));
    let cut = Bench::on(bench.disk.after_power_cut(|_| 0), bench.clock.clone());
    assert_eq!(last(&cut, "k").as_deref(), Some(&b"step 1"[..]));
}

#[test]
fn a_poisoned_store_takes_no_checkpoint() {
    let bench = Bench::new();
    let mut execution = reached(&bench, "k", "step 1");
    bench.disk.fail(fault(Op::Write));
    let error = bench.begin("other", "request").fresh().start().expect_err("the disk has failed");
    assert!(matches!(error, Error::OutcomeUnknown(_)), "{error}");
    let counts = bench.disk.counts();
    for _ in 0..2 {
        let error = execution.checkpoint("step 2").expect_err("the store is poisoned");
        assert!(matches!(error, CheckpointError::Store(Error::Poisoned(_))), "{error}");
    }
    assert_eq!(bench.disk.counts(), counts);
    assert_eq!(execution.last_checkpoint(), Some(&b"step 1"[..]));
    let completed = execution.complete("result").expect_err("the store is poisoned");
    assert!(matches!(completed, CompleteError::Store(Error::Poisoned(_))));
    let bench = bench.kill();
    assert_eq!(last(&bench, "k").as_deref(), Some(&b"step 1"[..]));
}

#[test]
fn a_checkpoint_that_is_too_long_is_called_one() {
    let bench = Bench::new();
    let mut execution = bench.begin("k", "request").started();
    let error = execution.checkpoint(vec![7; 16 * 1024 + 1]).expect_err("it is too long");
    let text = "the checkpoint has 16385 bytes, but `result_len_max` is 16384: store a shorter one";
    assert_eq!(error.to_string(), text);
}

#[test]
fn a_closed_store_takes_no_checkpoint() {
    let bench = Bench::new();
    let mut execution = reached(&bench, "k", "step 1");
    bench.store.clone().close().expect("the store closes");
    let error = execution.checkpoint("step 2").expect_err("the store is closed");
    assert!(matches!(error, CheckpointError::Store(Error::Closed)), "{error}");
    drop(execution);
    let bench = Bench::on(bench.disk, bench.clock);
    assert_eq!(last(&bench, "k").as_deref(), Some(&b"step 1"[..]));
}

/// What the store must report for a key.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
enum Stage {
    #[default]
    Free,
    Started {
        attempt: u32,
        checkpoint: Option<Vec<u8>>,
    },
    Completed,
}

/// The acknowledged state of a key, and the one requested last. They are the same once the call has
/// returned.
#[derive(Debug, Default)]
struct Known {
    acknowledged: Stage,
    asked: Stage,
}

type Notes = BTreeMap<String, Known>;

/// Records the requested state, makes the call, and records the acknowledgement.
fn noted<T, E>(
    notes: &mut Notes,
    name: &str,
    stage: Stage,
    call: impl FnOnce() -> Result<T, E>,
) -> Option<T> {
    let known = notes.entry(name.to_owned()).or_default();
    known.asked = stage;
    let value = call().ok()?;
    known.acknowledged = known.asked.clone();
    Some(value)
}

/// Operations of several steps, some of which are interrupted and continued; `None` once the disk
/// has failed.
fn work(store: &Store, notes: &mut Notes) -> Option<()> {
    for number in 0..6 {
        let name = format!("{number}");
        let request = Fingerprint::of("request");
        let Begin::Fresh(permit) = store.begin(&key(&name), request).ok()? else { return None };
        let stage =
            |attempt, len: Option<usize>| Stage::Started { attempt, checkpoint: len.map(bytes) };
        let mut execution = noted(notes, &name, stage(1, None), || permit.start())?;
        let mut attempt = 1;
        for (step, len) in [3, 700, 1_200, 0, 40].into_iter().enumerate() {
            noted(notes, &name, stage(attempt, Some(len)), || execution.checkpoint(bytes(len)))?;
            if step == number {
                store.settle().ok()?;
            }
            if step % 2 == number % 2 {
                drop(execution);
                let begin = store.begin(&key(&name), request).ok()?;
                let Begin::Interrupted(interrupted) = begin else { return None };
                attempt += 1;
                let again = stage(attempt, Some(len));
                execution = noted(notes, &name, again, || interrupted.retry())?;
            }
        }
        match number % 3 {
            0 => drop(noted(notes, &name, Stage::Completed, || execution.complete(bytes(900)))?),
            1 => noted(notes, &name, Stage::Free, || execution.abandon())?,
            _ => drop(execution),
        }
    }
    store.clone().close().ok().map(drop)
}

/// Each key must have its acknowledged state, or the one that was requested without an answer.
fn check(disk: SimDisk, clock: &ManualClock, notes: &Notes) {
    let store = builder(clock).open_on(disk).expect("the store opens after every crash");
    for (name, known) in notes {
        let begin = store.begin(&key(name), Fingerprint::of("request")).expect("begin answers");
        let stage = match &begin {
            Begin::Fresh(_) => Stage::Free,
            Begin::Interrupted(interrupted) => Stage::Started {
                attempt: interrupted.attempt(),
                checkpoint: interrupted.last_checkpoint().map(<[u8]>::to_vec),
            },
            Begin::Replay(completed) => {
                assert!(completed.result() == bytes(900));
                Stage::Completed
            }
            other => panic!("{name} is {other:?}"),
        };
        assert!([&known.acknowledged, &known.asked].contains(&&stage), "{name} is {stage:?}");
    }
}

/// The disk as a kill leaves it, and as several power cuts do.
fn images(disk: &SimDisk) -> Vec<SimDisk> {
    let cut = |image| {
        let mut seed = splitmix(image);
        disk.after_power_cut(|below| {
            seed = splitmix(seed);
            seed % below
        })
    };
    let cuts = (0..size("CRASH_IMAGES", 3)).map(cut);
    [disk.after_kill(), disk.after_power_cut(|_| 0)].into_iter().chain(cuts).collect()
}

#[test]
fn no_crash_after_any_write_loses_a_checkpoint_that_was_acknowledged() {
    for after in 0.. {
        let disk = SimDisk::new();
        let clock = ManualClock::new(Timestamp::from_unix_ms(START_MS));
        disk.fail(Fault { after, for_good: true, ..fault(Op::Any) });
        let mut notes = Notes::new();
        let worked = builder(&clock)
            .open_on(disk.clone())
            .is_ok_and(|store| work(&store, &mut notes).is_some());
        for image in images(&disk) {
            check(image, &clock, &notes);
        }
        if worked {
            assert!(100 < after, "only {after} writes");
            break;
        }
    }
}

/// The number of rows in the vault's tables `records` and `results`.
type Rows = (u64, u64);

/// Reads them with redb. The store must not be open.
fn rows(store: &Path) -> Rows {
    const RECORDS: redb::TableDefinition<(u64, u64), &[u8]> = redb::TableDefinition::new("records");
    const RESULTS: redb::TableDefinition<u64, &[u8]> = redb::TableDefinition::new("results");
    let database = redb::Database::open(store.join("vault.redb")).expect("redb works");
    let transaction = database.begin_read().expect("redb works");
    let records = transaction.open_table(RECORDS).expect("redb works").len();
    let results = transaction.open_table(RESULTS).expect("redb works").len();
    (records.expect("redb works"), results.expect("redb works"))
}

fn directory() -> tempfile::TempDir {
    tempfile::tempdir().expect("there is room for a directory")
}

/// When changes reach the vault.
#[derive(Clone, Copy, Debug)]
enum Settle {
    /// After each call.
    Each,
    /// All at once, when the store is closed.
    AtClose,
    /// When a copy of the files, as a kill leaves them, is opened.
    OnOpen,
}

/// A step of an operation.
type Way = fn(Course<'_>);

/// An operation under way.
struct Course<'s> {
    store: &'s Store,
    execution: Execution,
    settle: Settle,
}

impl Course<'_> {
    fn settle(&self) {
        if let Settle::Each = self.settle {
            self.store.settle().expect("it settles");
        }
    }

    fn at(mut self, len: usize) -> Self {
        checkpoint(&mut self.execution, bytes(len));
        self.settle();
        self
    }

    fn retry(mut self) -> Self {
        drop(self.execution);
        let begin = self.store.begin(&key("k"), Fingerprint::of("request")).expect("begin answers");
        self.execution = begin.interrupted().retry().expect("it starts again");
        self.settle();
        self
    }

    fn complete(self, len: usize) {
        self.execution.complete(bytes(len)).expect("it completes");
    }

    fn complete_digest(self) {
        self.execution.complete_digest(bytes(LARGE)).expect("it completes");
    }

    fn abandon(self) {
        self.execution.abandon().expect("it is abandoned");
    }
}

/// The rows left by an operation that takes these steps.
fn rows_after(settle: Settle, way: Way) -> Rows {
    let clock = ManualClock::new(Timestamp::from_unix_ms(START_MS));
    let (directory, killed) = (directory(), directory());
    let store = builder(&clock).open(directory.path()).expect("the store opens");
    let begin = store.begin(&key("k"), Fingerprint::of("request")).expect("begin answers");
    let execution = begin.started();
    way(Course { store: &store, execution, settle });
    if let Settle::OnOpen = settle {
        for name in ["vault.redb", "log-0", "log-1"] {
            fs::copy(directory.path().join(name), killed.path().join(name))
                .expect("there is room for a copy");
        }
        let store = builder(&clock).open(killed.path()).expect("the store opens");
        store.close().expect("the store closes");
        return rows(killed.path());
    }
    store.close().expect("the store closes");
    rows(directory.path())
}

#[test]
fn what_is_stored_apart_goes_with_what_it_belongs_to() {
    let ways: [(&str, Way, Rows); 15] = [
        ("no checkpoint", |it| drop(it), (1, 0)),
        ("small", |it| drop(it.at(SMALL)), (1, 0)),
        ("large", |it| drop(it.at(LARGE)), (1, 1)),
        ("large, small", |it| drop(it.at(LARGE).at(SMALL)), (1, 0)),
        ("small, large", |it| drop(it.at(SMALL).at(LARGE)), (1, 1)),
        ("large, larger", |it| drop(it.at(LARGE).at(LEN_MAX)), (1, 1)),
        ("large, retry", |it| drop(it.at(LARGE).retry()), (1, 1)),
        ("large, retry, small", |it| drop(it.at(LARGE).retry().at(0)), (1, 0)),
        ("large, small result", |it| it.at(LARGE).complete(SMALL), (1, 0)),
        ("large, large result", |it| it.at(LARGE).complete(LARGE), (1, 1)),
        ("small, large result", |it| it.at(SMALL).complete(LARGE), (1, 1)),
        ("large, retry, small result", |it| it.at(LARGE).retry().complete(0), (1, 0)),
        ("large, tombstone", |it| it.at(LARGE).complete_digest(), (1, 0)),
        ("large, abandon", |it| it.at(LARGE).abandon(), (0, 0)),
        ("large, small, abandon", |it| it.at(LARGE).at(1).abandon(), (0, 0)),
    ];
    for settle in [Settle::Each, Settle::AtClose, Settle::OnOpen] {
        for (name, way, expected) in ways {
            assert_eq!(rows_after(settle, way), expected, "{name}, settled {settle:?}");
        }
    }
}

#[test]
fn a_sweep_takes_a_large_checkpoint_with_it() {
    let clock = ManualClock::new(Timestamp::from_unix_ms(START_MS));
    let directory = directory();
    let store = builder(&clock).open(directory.path()).expect("the store opens");
    for number in 0..10 {
        let name = format!("{number}");
        let begin = store.begin(&key(&name), Fingerprint::of("request")).expect("begin answers");
        let mut execution = begin.started();
        checkpoint(&mut execution, bytes(LARGE + number));
    }
    store.settle().expect("it settles");
    clock.advance(Duration::from_millis(RETENTION_MS));
    assert_eq!(store.sweep().expect("it sweeps"), 10);
    store.close().expect("the store closes");
    assert_eq!(rows(directory.path()), (0, 0));
}

#[test]
fn a_checkpoint_that_is_damaged_is_no_reason_to_start_from_the_beginning() {
    const RESULTS: redb::TableDefinition<u64, &[u8]> = redb::TableDefinition::new("results");
    for missing in [false, true] {
        let clock = ManualClock::new(Timestamp::from_unix_ms(START_MS));
        let directory = directory();
        let open = || builder(&clock).open(directory.path()).expect("the store opens");
        let store = open();
        let begin = store.begin(&key("k"), Fingerprint::of("request")).expect("begin answers");
        checkpoint(&mut begin.started(), bytes(LARGE));
        store.close().expect("the store closes");

        let file = directory.path().join("vault.redb");
        let database = redb::Database::open(file).expect("redb works");
        let transaction = database.begin_write().expect("redb works");
        let mut results = transaction.open_table(RESULTS).expect("redb works");
        if missing {
            assert!(results.remove(0).expect("redb works").is_some());
        } else {
            let other = vec![0; LARGE];
            assert!(results.insert(0, other.as_slice()).expect("redb works").is_some());
        }
        drop(results);
        transaction.commit().expect("redb works");
        drop(database);

        let store = open();
        let answer = store.begin(&key("k"), Fingerprint::of("request"));
        assert!(matches!(answer, Err(Error::Corrupt { .. })), "{answer:?}");
        let answer = store.get(&key("k"));
        assert!(matches!(answer, Err(Error::Corrupt { .. })), "{answer:?}");
    }
}
