//! Looking at keys: `get`, `iter`, and what they leave unchanged.

use std::collections::BTreeMap;
use std::io::ErrorKind;
use std::time::Duration;

use idemstore::{Error, Fingerprint, Key, KeyInfo, Status, Store};

use crate::support::disk::{Fault, Op};
use crate::support::{Answers, Bench, RETENTION_MS, START_MS, Started, key};

#[track_caller]
fn get(bench: &Bench, name: &str) -> KeyInfo {
    bench.store.get(&key(name)).expect("get answers").expect("the key is used")
}

fn is_free(bench: &Bench, name: &str) -> bool {
    bench.store.get(&key(name)).expect("get answers").is_none()
}

#[test]
fn get_shows_each_state() {
    let bench = Bench::new();
    assert!(is_free(&bench, "k"));
    let permit = bench.begin("k", "request").fresh();
    bench.tick(1);
    let info = get(&bench, "k");
    assert_eq!((info.status(), info.attempts()), (Status::Reserved, 0));
    assert_eq!(info.begun_at().as_unix_ms(), START_MS);
    assert!(info.expires_at().is_none() && info.completed().is_none());

    let mut execution = permit.start().expect("it starts");
    execution.checkpoint("half way").expect("it is stored");
    let info = get(&bench, "k");
    assert_eq!((info.status(), info.attempts()), (Status::Executing, 1));
    assert_eq!(info.last_checkpoint(), Some(&b"half way"[..]));
    let expires_at = info.expires_at().expect("it is stored").as_unix_ms();
    assert_eq!(expires_at, START_MS + RETENTION_MS);

    drop(execution);
    let info = get(&bench, "k");
    assert_eq!(info.status(), Status::Interrupted);
    assert_eq!(info.last_checkpoint(), Some(&b"half way"[..]));
    let interrupted = bench.begin("k", "request").interrupted();
    assert_eq!(get(&bench, "k").status(), Status::Reserved);

    interrupted.retry().expect("it starts").detach();
    assert_eq!((get(&bench, "k").status(), get(&bench, "k").attempts()), (Status::Executing, 2));
    bench.store.complete(&key("k"), "result").expect("it completes");
    let info = get(&bench, "k");
    assert_eq!(info.status(), Status::Completed);
    assert_eq!(info.completed().expect("it is completed").result(), b"result");
    assert!(info.last_checkpoint().is_none() && info.not_kept().is_none());
}

#[test]
fn get_shows_what_is_settled_and_what_was_opened_again() {
    let mut bench = Bench::new();
    bench.complete("short", "request", "result");
    bench.begin("long", "request").fresh().complete([7; 5_000]).expect("it completes");
    let permit = bench.begin("tombstone", "request").fresh();
    permit.complete_digest([7; 5_000]).expect("it completes");
    let mut execution = bench.begin("interrupted", "request").started();
    execution.checkpoint([8; 5_000]).expect("it is stored");
    drop(execution);
    for _ in 0..2 {
        bench.store.settle().expect("it settles");
        assert_eq!(get(&bench, "short").completed().expect("it is").result(), b"result");
        assert_eq!(get(&bench, "long").completed().expect("it is").result(), [7; 5_000]);
        assert_eq!(get(&bench, "tombstone").not_kept().expect("it is").result_len(), 5_000);
        assert!(get(&bench, "tombstone").completed().is_none());
        assert_eq!(get(&bench, "interrupted").last_checkpoint(), Some(&[8; 5_000][..]));
        assert_eq!(get(&bench, "interrupted").status(), Status::Interrupted);
        assert!(is_free(&bench, "another"));
        bench = bench.reopen();
    }
}

#[test]
fn get_reserves_nothing_and_writes_nothing() {
    let bench = Bench::new();
    drop(bench.begin("interrupted", "request").started());
    bench.store.settle().expect("it settles");
    let before = (bench.disk.counts(), bench.store.stats().in_flight);
    assert!(is_free(&bench, "free"));
    assert_eq!(get(&bench, "interrupted").status(), Status::Interrupted);
    assert_eq!((bench.disk.counts(), bench.store.stats().in_flight), before);
    bench.begin("free", "request").fresh();
    bench.begin("interrupted", "request").interrupted();
}

#[test]
fn get_goes_by_the_same_boundary_as_begin() {
    for settled in [false, true] {
        let bench = Bench::new();
        bench.complete("k", "request", "result");
        if settled {
            bench.store.settle().expect("it settles");
        }
        bench.tick(RETENTION_MS - 1);
        assert_eq!(get(&bench, "k").status(), Status::Completed);
        bench.tick(1);
        assert!(is_free(&bench, "k"));
    }
    // A held key never becomes free.
    let bench = Bench::new();
    let _execution = bench.begin("k", "request").started();
    bench.tick(RETENTION_MS);
    assert_eq!(get(&bench, "k").status(), Status::Executing);
}

#[test]
fn get_works_on_a_poisoned_store_and_not_on_a_closed_one() {
    let bench = Bench::new();
    bench.complete("k", "request", "result");
    let fault = Fault { on: Op::Sync, after: 0, for_good: true, kind: ErrorKind::Other };
    bench.disk.fail(fault);
    assert!(bench.begin("other", "request").fresh().start().is_err());
    assert_eq!(get(&bench, "k").status(), Status::Completed);

    let bench = Bench::new();
    bench.store.clone().close().expect("the store closes");
    assert!(matches!(bench.store.get(&key("k")), Err(Error::Closed)));
    let mut all = bench.store.keys();
    assert!(matches!(all.next(), Some(Err(Error::Closed))));
    assert!(all.next().is_none());
}

/// Each listed key, with its state.
fn list(infos: impl Iterator<Item = Result<KeyInfo, Error>>) -> BTreeMap<Vec<u8>, Status> {
    let mut listed = BTreeMap::new();
    for info in infos {
        let info = info.expect("it can be read");
        let before = listed.insert(info.key().as_bytes().to_vec(), info.status());
        assert!(before.is_none(), "a key is listed twice");
    }
    listed
}

#[test]
fn iter_lists_by_state_and_age() {
    let bench = Bench::new();
    bench.complete("completed", "request", "result");
    let permit = bench.begin("tombstone", "request").fresh();
    permit.complete_digest("result").expect("it completes");
    drop(bench.begin("interrupted", "request").started());
    let _execution = bench.begin("executing", "request").started();
    bench.begin("detached", "request").started().detach();
    let _permit = bench.begin("reserved", "request").fresh();
    bench.begin("abandoned", "request").started().abandon().expect("it is abandoned");
    bench.tick(100);
    drop(bench.begin("young", "request").started());

    let names = |listed: BTreeMap<Vec<u8>, Status>| -> Vec<String> {
        listed.into_keys().map(|key| String::from_utf8(key).expect("it is a name")).collect()
    };
    let all = ["completed", "detached", "executing", "interrupted", "tombstone", "young"];
    // A key that is only reserved isn't stored, so it isn't listed.
    assert_eq!(names(list(bench.store.keys())), all);
    let of = |status| names(list(bench.store.keys().status(status)));
    assert_eq!(of(Status::Completed), ["completed"]);
    assert_eq!(of(Status::NotKept), ["tombstone"]);
    assert_eq!(of(Status::Interrupted), ["interrupted", "young"]);
    assert_eq!(of(Status::Executing), ["detached", "executing"]);
    assert_eq!(of(Status::Reserved), Vec::<String>::new());
    let age = Duration::from_millis(100);
    let old = bench.store.keys().status(Status::Interrupted).older_than(age);
    assert_eq!(names(list(old)), ["interrupted"]);
    assert_eq!(list(bench.store.keys().older_than(age + Duration::from_millis(1))).len(), 0);

    let reserved = bench.begin("interrupted", "request").interrupted();
    assert_eq!(of(Status::Reserved), ["interrupted"]);
    drop(reserved);
    bench.tick(RETENTION_MS - 100);
    // Expired, unless a caller holds it.
    assert_eq!(names(list(bench.store.keys())), ["detached", "executing", "young"]);
}

#[test]
fn iter_shows_each_key_as_it_is_when_it_comes_up() {
    let bench = Bench::new();
    for name in ["a", "b", "c", "d"] {
        drop(bench.begin(name, "request").started());
        bench.tick(1);
    }
    let mut all = bench.store.keys();
    let first = all.next().expect("there are four").expect("it can be read");
    assert_eq!((first.key().as_bytes(), first.status()), (&b"a"[..], Status::Interrupted));
    // Meanwhile other changes happen, in the log only.
    let interrupted = bench.begin("b", "request").interrupted();
    interrupted.resolve("result").expect("it completes");
    bench.begin("c", "request").interrupted().abandon().expect("it is abandoned");
    bench.begin("c", "another").fresh().complete("anew").expect("it completes");
    let rest: Vec<_> = all
        .map(|info| info.expect("it can be read"))
        .map(|info| (info.key().as_bytes().to_vec(), info.status()))
        .collect();
    let expected = [(b"b".to_vec(), Status::Completed), (b"d".to_vec(), Status::Interrupted)];
    assert_eq!(rest, expected);
}

#[test]
fn iter_reads_more_keys_than_one_part_has() {
    let bench = Bench::new();
    let names: Vec<_> = (0..2_500).map(|name| format!("{name:04}")).collect();
    let keys: Vec<_> = names.iter().map(|name| key(name)).collect();
    let begun = bench.store.begin_many(keys.iter().map(|key| (key, Fingerprint::NONE)));
    let permits = begun.into_iter().map(|begin| (begin.expect("begin answers").fresh(), "result"));
    for completed in bench.store.complete_many(permits) {
        completed.expect("it completes");
    }
    let listed = list(bench.store.keys());
    assert!(listed.into_keys().eq(names.into_iter().map(String::into_bytes)));
    // The store is swept while a listing is under way.
    let mut all = bench.store.keys();
    assert!(all.next().is_some());
    bench.tick(RETENTION_MS);
    assert_eq!(bench.store.sweep().expect("it sweeps"), 2_500);
    assert_eq!(all.count(), 0);
}

#[test]
fn nothing_secret_is_shown_by_debug() {
    let bench = Bench::new();
    bench.complete("secret-key", "request", "secret-result");
    let info = get(&bench, "secret-key");
    let shown = format!("{info:?} {:?} {:?}", info.completed(), bench.store.keys());
    assert!(!shown.contains("secret"), "{shown}");
}

#[test]
fn keys_of_two_scopes_are_two_keys() {
    let bench = Bench::new();
    let ours = Key::scoped("ours", "k").expect("it is a key");
    let begin = bench.store.begin(&ours, Fingerprint::NONE).expect("begin answers");
    begin.fresh().complete("result").expect("it completes");
    assert!(is_free(&bench, "k"));
    let info = bench.store.get(&ours).expect("get answers").expect("it is used");
    assert_eq!((info.key().scope(), info.key().as_bytes()), (&b"ours"[..], &b"k"[..]));
    let all: Vec<_> = bench.store.keys().map(|info| info.expect("it can be read")).collect();
    assert!(all.len() == 1 && *all[0].key() == ours);
    let store: &Store = &bench.store;
    assert!(!store.forget(&key("k")).expect("forget answers"));
    assert!(store.forget(&ours).expect("forget answers"));
}
