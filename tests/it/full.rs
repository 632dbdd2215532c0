//! A full disk: started operations finish, completed ones replay, and sweeping makes room.

use std::time::Duration;

use idemstore::sim::OpenOn;
use idemstore::{
    Begin, Bound, Error, Execution, Fingerprint, Key, ManualClock, OpenError, Store, Timestamp,
};

use crate::support::{Answers, RETENTION_MS, START_MS, SimDisk, builder, key};

const RESULT_LEN: usize = 256 * 1024;

fn open(disk: &SimDisk, clock: &ManualClock) -> Result<Store, OpenError> {
    let builder = builder(clock).result_len_max(RESULT_LEN).log_bytes(4 << 20);
    builder.open_on(disk.clone())
}

fn result(at: usize) -> Vec<u8> {
    vec![at.to_le_bytes()[0]; RESULT_LEN]
}

/// Starts operations until one is refused, each of which is completed once `width` are under way.
fn fill(store: &Store, width: usize) -> (usize, Bound) {
    let mut executions = Vec::<Execution>::new();
    for at in 0.. {
        let begin = store.begin(&key(&format!("{at}")), Fingerprint::NONE).expect("begin answers");
        match begin.fresh().start() {
            Ok(execution) => executions.push(execution),
            Err(Error::Overloaded { bound }) => {
                for (back, execution) in executions.into_iter().rev().enumerate() {
                    execution
                        .complete(result(at - 1 - back))
                        .expect("what was started is finished");
                }
                return (at, bound);
            }
            Err(other) => panic!("{other:?}"),
        }
        if executions.len() == width {
            executions.remove(0).complete(result(at + 1 - width)).expect("it completes");
        }
    }
    unreachable!("the disk is full some time")
}

fn check_replays(store: &Store, done: usize) {
    for at in 0..done {
        let begin = store.begin(&key(&format!("{at}")), Fingerprint::NONE).expect("begin answers");
        assert!(begin.replay().result() == result(at), "{at}");
    }
}

#[test]
fn what_was_started_is_finished_on_a_full_disk_and_swept_there() {
    for (free, width) in [(30 << 20, 1), (40 << 20, 8), (60 << 20, 40)] {
        let (disk, clock) = (SimDisk::new(), ManualClock::new(Timestamp::from_unix_ms(START_MS)));
        let store = open(&disk, &clock).expect("the store opens");
        disk.leave_free(free);
        let (done, bound) = fill(&store, width);
        assert!(matches!(bound, Bound::Disk { needed } if 0 < needed), "{bound:?}");
        assert!(width < done, "{done}");
        check_replays(&store, done);
        store.settle().expect("it settles");
        store.close().expect("the store closes");

        // Not one byte more is left for the next one.
        let store = open(&disk, &clock).expect("the store opens on a full disk");
        check_replays(&store, done);
        clock.advance(Duration::from_millis(RETENTION_MS));
        while 0 < store.sweep().expect("it is swept") {}
        let (again, _) = fill(&store, width);
        assert!(done <= 4 * again, "{done}, then {again}");
        check_replays(&store, again);
        assert!(!disk.was_full(), "the store has met a full disk");
    }
}

#[test]
fn a_kill_on_a_full_disk_costs_nothing_and_the_open_is_possible() {
    let (disk, clock) = (SimDisk::new(), ManualClock::new(Timestamp::from_unix_ms(START_MS)));
    let store = open(&disk, &clock).expect("the store opens");
    disk.leave_free(40 << 20);
    let (done, _) = fill(&store, 6);
    let image = disk.after_kill();
    // The reserved room still is: nothing else is left.
    let kept = 40 << 20;
    image.leave_free(kept);
    let reopened = open(&image, &clock).expect("the store opens");
    check_replays(&reopened, done);
    drop((store, reopened));
}

#[test]
fn an_open_that_finds_no_room_says_how_many_bytes_it_needs() {
    let clock = ManualClock::new(Timestamp::from_unix_ms(START_MS));
    let disk = SimDisk::new();
    disk.leave_free(1 << 20);
    let refused = open(&disk, &clock).expect_err("there is no room");
    let OpenError::DiskFull { needed } = refused else { panic!("{refused:?}") };
    assert!((1 << 20..64 << 20).contains(&needed), "{needed}");
    assert!(refused.to_string().contains(&needed.to_string()), "{refused}");
    disk.leave_free(needed);
    open(&disk, &clock).expect("now there is").close().expect("it closes");

    // A log that the vault has no room for.
    let disk = SimDisk::new();
    let store = open(&disk, &clock).expect("the store opens");
    for at in 0..6 {
        let begin = store.begin(&key(&format!("{at}")), Fingerprint::NONE).expect("begin answers");
        let Begin::Fresh(permit) = begin else { panic!("it is new") };
        permit.complete(result(at)).expect("it completes");
    }
    let image = disk.after_kill();
    image.leave_free(0);
    let refused = open(&image, &clock).expect_err("there is no room");
    let OpenError::DiskFull { needed } = refused else { panic!("{refused:?}") };
    image.leave_free(needed);
    check_replays(&open(&image, &clock).expect("now there is"), 6);
}

#[test]
fn what_a_sweep_frees_amid_what_stays_is_used_again() {
    let (disk, clock) = (SimDisk::new(), ManualClock::new(Timestamp::from_unix_ms(START_MS)));
    let store = open(&disk, &clock).expect("the store opens");
    disk.leave_free(30 << 20);
    let mut kept = Vec::new();
    let full = 'full: loop {
        for at in 0.. {
            let name = format!("{at}");
            let begin = store.begin(&key(&name), Fingerprint::NONE).expect("begin answers");
            let permit = begin.fresh();
            // Every second one remains.
            let stays = at % 2 == 0;
            let permit =
                if stays { permit.with_retention(Duration::from_secs(3_600)) } else { permit };
            match permit.start() {
                Ok(execution) => execution.complete(result(at)).expect("it completes"),
                Err(error) => break 'full error,
            };
            kept.extend(stays.then_some(at));
        }
    };
    assert!(matches!(full, Error::Overloaded { bound: Bound::Disk { .. } }), "{full:?}");
    clock.advance(Duration::from_millis(RETENTION_MS));
    store.settle().expect("it settles");
    while 0 < store.sweep().expect("it is swept") {}
    let mut again = 0;
    loop {
        let key = key(&format!("again {again}"));
        let begin = store.begin(&key, Fingerprint::NONE).expect("begin answers");
        match begin.fresh().start() {
            Ok(execution) => execution.complete(result(again)).expect("it completes"),
            Err(Error::Overloaded { bound: Bound::Disk { .. } }) => break,
            Err(error) => panic!("{error:?}"),
        };
        again += 1;
    }
    assert!(0 < again, "{} stay, and none came", kept.len());
    for at in kept {
        let begin = store.begin(&key(&format!("{at}")), Fingerprint::NONE).expect("begin answers");
        assert!(begin.replay().result() == result(at), "{at}");
    }
    assert!(!disk.was_full(), "the store has met a full disk");
}

#[test]
fn what_is_left_of_a_full_disk_is_shared_by_scope() {
    let (disk, clock) = (SimDisk::new(), ManualClock::new(Timestamp::from_unix_ms(START_MS)));
    let store = open(&disk, &clock).expect("the store opens");
    disk.leave_free(60 << 20);
    let (done, _) = fill(&store, 20);
    let quiet = |at: usize| {
        let key = Key::scoped("quiet", format!("{at}")).expect("it is a key");
        store.begin(&key, Fingerprint::NONE).expect("begin answers")
    };
    for at in 0..4 {
        let execution = quiet(at).fresh().start().expect("there is room left for others");
        execution.complete(result(at)).expect("it completes");
        // The loud scope may take what is left, and no more.
        let loud = store.begin(&key("loud"), Fingerprint::NONE).expect("begin answers");
        if let Ok(execution) = loud.fresh().start() {
            execution.abandon().expect("it is abandoned");
        }
    }
    store.settle().expect("it settles");
    for at in 0..4 {
        assert!(quiet(at).replay().result() == result(at));
    }
    check_replays(&store, done);
}
