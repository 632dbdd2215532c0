//! More callers than the disk can serve: the queue is bounded, refusals come at once, and no
//! waiting caller is forgotten when the disk recovers.

use std::collections::BTreeMap;
use std::sync::mpsc::{self, Receiver};
use std::thread;
use std::time::Duration;

use idemstore::sim::OpenOn;
use idemstore::{Begin, Bound, Error, Execution, Fingerprint, Key, ManualClock, Store, Timestamp};

use crate::support::door::{Door, LONG};
use crate::support::{Answers, SimDisk, Started, builder, key, size};

/// The most starts of one scope that can wait at one time: half of all that may.
const SHARE: u64 = 32 * 1024;
/// The operations that fit into one waiting batch.
const BATCH_ITEMS_MAX: usize = 1024;

fn store() -> (SimDisk, Door, Store) {
    let disk = SimDisk::new();
    let clock = ManualClock::new(Timestamp::from_unix_ms(1_000_000));
    // Room for everything that waits, so that the log isn't the bottleneck.
    let builder = builder(&clock).log_bytes(16 << 20);
    let store = builder.open_on(disk.clone()).expect("the store opens");
    let door = Door::on(&disk);
    (disk, door, store)
}

fn begin(store: &Store, name: &str) -> Begin {
    store.begin(&key(name), Fingerprint::of(name)).expect("begin answers")
}

/// The outcome of a caller's start, and its execution.
type Answer = (Start, Option<Execution>);

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Start {
    Started,
    Overloaded,
}

fn start_all(store: &Store, names: &[String]) -> Vec<Answer> {
    let permits = names.iter().map(|name| begin(store, name).fresh());
    let started = store.start_many(permits.collect::<Vec<_>>());
    let of_each = |started| match started {
        Ok(execution) => (Start::Started, Some(execution)),
        Err(Error::Overloaded { bound: Bound::ScopeShare }) => (Start::Overloaded, None),
        Err(other) => panic!("{other:?}"),
    };
    started.into_iter().map(of_each).collect()
}

fn receive<T>(receiver: &Receiver<T>) -> T {
    receiver.recv_timeout(LONG).expect("it is sent")
}

/// While the disk stands still: known results are answered, and one more start of the scope is
/// refused at once.
fn check_while_full(store: &Store) {
    for _ in 0..100 {
        begin(store, "done").replay();
        begin(store, "settled").replay();
        begin(store, "first").in_flight();
        let refused = begin(store, "one more").fresh().start().expect_err("the queue is full");
        let is_share = matches!(refused, Error::Overloaded { bound: Bound::ScopeShare });
        assert!(is_share, "{refused:?}");
        assert!(matches!(begin(store, "one more"), Begin::Fresh(_)));
    }
}

/// What is accepted however full the queue is: the ends of operations, and starts in other scopes.
fn hand_in_while_full(store: &Store, quiet: usize, held: [Execution; 3]) {
    let [completed, abandoned, mut checkpointed] = held;
    thread::scope(|scope| {
        scope.spawn(|| completed.complete("result").expect("it completes"));
        scope.spawn(|| abandoned.abandon().expect("it is abandoned"));
        scope.spawn(|| {
            checkpointed.checkpoint("half way").expect("it is stored");
            checkpointed.complete("result").expect("it completes");
        });
        for at in 0..quiet {
            scope.spawn(move || {
                let key = Key::scoped("quiet", format!("{at}")).expect("it is a key");
                let begin = store.begin(&key, Fingerprint::NONE).expect("begin answers");
                begin.fresh().start()?.complete("result").expect("it completes");
                Ok::<_, Error>(())
            });
        }
    });
    for at in 0..quiet {
        let key = Key::scoped("quiet", format!("{at}")).expect("it is a key");
        store.begin(&key, Fingerprint::NONE).expect("begin answers").replay();
    }
    begin(store, "completed").replay();
    begin(store, "checkpointed").replay();
    assert!(matches!(begin(store, "abandoned"), Begin::Fresh(_)));
}

#[test]
fn a_disk_that_stands_still_holds_up_a_bounded_number_of_starts_and_ends_what_was_started() {
    // Threads that each start a batch: the queue accepts those of 32 threads, and refuses the
    // others. With the usual size that is 65,536 callers.
    let threads = 32 + size("LOAD_THREADS", 32) as usize;
    let (_disk, door, store) = store();
    begin(&store, "settled").fresh().complete("result").expect("it completes");
    store.settle().expect("it settles");
    begin(&store, "done").fresh().complete("result").expect("it completes");
    let held = ["completed", "abandoned", "checkpointed"].map(|name| begin(&store, name).started());
    let (sender, receiver) = mpsc::channel();
    let answers = thread::scope(|scope| {
        let _opener = door.clone();
        door.close();
        let first = scope.spawn(|| begin(&store, "first").fresh().start().map(drop));
        door.wait_for_a_stall();
        for thread in 0..threads {
            let (store, sender) = (&store, sender.clone());
            scope.spawn(move || {
                let names: Vec<_> =
                    (0..BATCH_ITEMS_MAX).map(|at| format!("{thread} {at}")).collect();
                let answers = start_all(store, &names);
                sender.send((thread, answers)).expect("the test waits");
            });
        }
        // Once all surplus starts have been refused, the queue is full to the last place.
        let mut answers: Vec<_> = (32..threads).map(|_| receive(&receiver)).collect();
        let is_refused = |(_, of_thread): &(usize, Vec<Answer>)| {
            of_thread.iter().all(|(start, _)| *start == Start::Overloaded)
        };
        assert!(answers.iter().all(is_refused), "some were taken beyond the bound");
        check_while_full(&store);
        let ends = scope.spawn(|| hand_in_while_full(&store, 64, held));
        check_while_full(&store);
        assert!(receiver.try_recv().is_err(), "somebody was answered while the disk stood still");
        door.open();
        first.join().expect("the thread ends").expect("it starts");
        answers.extend((0..32).map(|_| receive(&receiver)));
        ends.join().expect("the thread ends");
        answers
    });
    check_answers(&store, answers, threads);
}

fn check_answers(store: &Store, answers: Vec<(usize, Vec<Answer>)>, threads: usize) {
    let mut counts = BTreeMap::<_, u64>::new();
    for (thread, answers) in answers {
        assert_eq!(answers.len(), BATCH_ITEMS_MAX);
        for (at, (start, execution)) in answers.into_iter().enumerate() {
            *counts.entry(start).or_default() += 1;
            drop(execution);
            let begin = begin(store, &format!("{thread} {at}"));
            match start {
                Start::Started => assert!(matches!(begin, Begin::Interrupted(_)), "{begin:?}"),
                Start::Overloaded => assert!(matches!(begin, Begin::Fresh(_)), "{begin:?}"),
            }
        }
    }
    let refused = (threads * BATCH_ITEMS_MAX) as u64 - SHARE;
    assert_eq!(counts[&Start::Started], SHARE);
    assert_eq!(counts.get(&Start::Overloaded).copied().unwrap_or_default(), refused);
    let stats = store.stats();
    assert_eq!((stats.in_flight, stats.waited_for), (0, 0));
    assert!(stats.batch_changes_max <= BATCH_ITEMS_MAX as u64);
}

#[test]
fn results_of_more_bytes_than_the_queue_has_places_for_are_all_stored() {
    const RESULT_LEN: usize = 4 << 20;
    // There are places for 16 of them.
    const CALLERS: usize = 24;
    let (disk, clock) = (SimDisk::new(), ManualClock::new(Timestamp::from_unix_ms(1_000_000)));
    let builder = builder(&clock).log_bytes(64 << 20).result_len_max(RESULT_LEN);
    let store = builder.open_on(disk.clone()).expect("the store opens");
    let door = Door::on(&disk);
    let executions: Vec<_> =
        (0..CALLERS).map(|at| begin(&store, &format!("{at}")).started()).collect();
    let (sender, receiver) = mpsc::channel();
    thread::scope(|scope| {
        let _opener = door.clone();
        door.close();
        scope.spawn(|| begin(&store, "first").fresh().start().map(drop));
        door.wait_for_a_stall();
        for execution in executions {
            let sender = sender.clone();
            scope.spawn(move || {
                let completed = execution.complete(vec![7; RESULT_LEN]);
                sender.send(completed.map(drop)).expect("the test waits");
            });
        }
        assert!(receiver.recv_timeout(Duration::from_millis(100)).is_err());
        door.open();
        for _ in 0..CALLERS {
            receive(&receiver).expect("it completes");
        }
    });
    for at in 0..CALLERS {
        assert_eq!(begin(&store, &format!("{at}")).replay().result(), vec![7; RESULT_LEN]);
    }
}

#[test]
fn many_who_wait_for_keys_in_flight_are_all_told_when_the_disk_goes_on() {
    const KEYS: usize = 10;
    const STACK_LEN: usize = 128 * 1024;
    let waiters = size("LOAD_WAITERS", 400) as usize;
    let (_disk, door, store) = store();
    let name = |at: usize| format!("key {}", at % KEYS);
    let executions: Vec<_> = (0..KEYS).map(|at| begin(&store, &name(at)).started()).collect();
    let answers: Vec<_> = thread::scope(|scope| {
        let _opener = door.clone();
        door.close();
        let completing: Vec<_> = executions
            .into_iter()
            .map(|execution| scope.spawn(move || execution.complete("result").map(drop)))
            .collect();
        door.wait_for_a_stall();
        let waiting: Vec<_> = (0..waiters)
            .map(|at| {
                let in_flight = begin(&store, &name(at)).in_flight();
                let timeout = if at % 4 == 3 { Duration::from_millis(1) } else { LONG };
                let wait = move || in_flight.wait(timeout).expect("wait answers");
                let thread = thread::Builder::new().stack_size(STACK_LEN);
                (at, thread.spawn_scoped(scope, wait).expect("it starts"))
            })
            .collect();
        // Callers that would not wait get their answer while the disk stands still.
        let (short, long): (Vec<_>, Vec<_>) = waiting.into_iter().partition(|(at, _)| at % 4 == 3);
        for (_, thread) in short {
            thread.join().expect("the thread ends").in_flight();
        }
        assert!(long.iter().all(|(_, thread)| !thread.is_finished()));
        door.open();
        for thread in completing {
            thread.join().expect("the thread ends").expect("it completes");
        }
        long.into_iter().map(|(_, thread)| thread.join().expect("the thread ends")).collect()
    });
    assert_eq!(answers.len(), waiters - waiters / 4);
    for answer in answers {
        assert_eq!(answer.replay().result(), b"result");
    }
    assert_eq!(store.stats().waited_for, 0);
}

#[test]
fn stats_are_told_while_the_disk_stands_still() {
    let (_disk, door, store) = store();
    let (sender, receiver) = mpsc::channel();
    thread::scope(|scope| {
        let opener = door.clone();
        door.close();
        scope.spawn(|| begin(&store, "first").fresh().start().map(drop));
        door.wait_for_a_stall();
        let store = &store;
        scope.spawn(move || sender.send(store.stats()).is_ok());
        let told = receiver.recv_timeout(Duration::from_secs(5));
        opener.open();
        assert!(told.is_ok(), "nobody is told");
    });
}

#[test]
fn a_completion_that_is_dropped_while_it_waits_for_a_place_is_stored_all_the_same() {
    use std::pin::pin;
    use std::task::{Context, Waker};

    const RESULT_LEN: usize = 4 << 20;
    // There are places for 16 of them.
    const CALLERS: usize = 17;
    let (disk, clock) = (SimDisk::new(), ManualClock::new(Timestamp::from_unix_ms(1_000_000)));
    let builder = builder(&clock).log_bytes(64 << 20).result_len_max(RESULT_LEN);
    let store = builder.open_on(disk.clone()).expect("the store opens");
    let door = Door::on(&disk);
    let mut context = Context::from_waker(Waker::noop());
    let executions = (0..CALLERS).map(|at| begin(&store, &format!("{at}")).started());
    let executions: Vec<_> = executions.collect();
    door.close();
    for execution in executions {
        let completing = pin!(execution.complete_async(vec![7; RESULT_LEN]));
        assert!(completing.poll(&mut context).is_pending());
    }
    door.open();
    for at in 0..CALLERS {
        let begin = match begin(&store, &format!("{at}")) {
            Begin::InFlight(in_flight) => in_flight.wait(LONG).expect("wait answers"),
            begin => begin,
        };
        assert_eq!(begin.replay().result(), vec![7; RESULT_LEN]);
    }
}
