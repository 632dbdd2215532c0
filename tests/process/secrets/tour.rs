//! A tour of the whole public API with secrets in everything that is passed to it. Everything that
//! it returns is shown.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

use idemstore::{
    Begin, Effect, Execution, Fingerprint, Key, ManualClock, Outcome, Store, SystemClock, Timestamp,
};
use redb::ReadableDatabase;

use super::canary::MARK;
use super::shown::Shown;
use crate::support::{Answers, Bench};

/// The panic message of these tests' operations. The text itself is no secret.
pub const PANIC: &str = "the operation panics";

/// The message of a caller's own error.
#[derive(Debug, thiserror::Error)]
#[error("the caller says {0}")]
pub struct Reason(pub &'static str);

pub fn secret_key(name: &str) -> Key {
    Key::scoped(format!("scope {MARK}"), format!("key {MARK} {name}")).expect("it is a key")
}

pub fn request() -> Fingerprint {
    Fingerprint::of_parts(["POST", MARK])
}

pub fn begin(store: &Store, name: &str) -> Begin {
    store.begin(&secret_key(name), request()).expect("begin answers")
}

/// More bytes than a test's store accepts.
pub fn too_long() -> String {
    MARK.repeat(2_000)
}

pub fn values(shown: &mut Shown) {
    let bench = Bench::new();
    arguments(shown);
    answers(shown, &bench);
    outcomes(shown, &bench.store);
    #[cfg(feature = "transaction")]
    transactions(shown, &bench.store);
    #[cfg(feature = "typed")]
    typed(shown, &bench.store);
    listed(shown, &bench);
    shown.store_key = store_key(bench);
}

fn arguments(shown: &mut Shown) {
    shown.value(&Key::new(MARK).expect("it is a key"));
    shown.value(&secret_key("shown"));
    shown.value(&request());
    shown.value(&Fingerprint::of(MARK));
    shown.value(&Timestamp::from_unix_ms(1));
    shown.value(&ManualClock::default());
    shown.value(&SystemClock::new());
    shown.value(&Store::builder().clock(ManualClock::default()));
}

/// Each answer of `begin`, and each handle that it returns.
fn answers(shown: &mut Shown, bench: &Bench) {
    let begin = |name| begin(&bench.store, name);
    shown.value(&begin("of one begin"));
    let permit = begin("k").fresh();
    shown.value(&permit);
    shown.value(&bench.store.get(&secret_key("k")).expect("it answers").expect("it is held"));
    shown.value(&begin("k"));
    shown.value(&begin("k").in_flight());
    let mut execution = permit.start().expect("it starts");
    execution.checkpoint(format!("checkpoint {MARK}")).expect("it is stored");
    shown.value(&execution);
    shown.value(&bench.store.begin(&secret_key("k"), Fingerprint::of("another")).expect("it is"));
    shown.value(&bench.store.get(&secret_key("k")).expect("it answers").expect("it is held"));
    drop(execution);
    shown.value(&begin("k"));
    let interrupted = begin("k").interrupted();
    shown.value(&interrupted);
    shown.value(&interrupted.resolve(format!("result {MARK}")).expect("it is resolved"));
    shown.value(&begin("k"));
    let permit = begin("tombstone").fresh();
    shown.value(&permit.complete_digest(too_long()).expect("it is completed"));
    shown.value(&begin("tombstone"));
    shown.value(&begin("long").fresh().complete(MARK.repeat(100)).expect("it is completed"));
    begin("executing").fresh().start().expect("it starts").detach();
    drop(begin("interrupted").fresh().start().expect("it starts"));
}

/// Each outcome of `run`. The closure's value belongs to the caller.
fn outcomes(shown: &mut Shown, store: &Store) {
    let mut run = |name: &str, say: fn() -> Effect<String, Reason>| {
        shown.value(&say());
        shown.value(&store.run(&secret_key(name), request(), |_| say()).expect("it runs"));
    };
    run("done", || Effect::Done(format!("result {MARK}")));
    run("done", || Effect::Done(format!("result {MARK}")));
    run("not done", || Effect::DidNotHappen(Reason(MARK)));
    run("unknown", || Effect::Unknown(Reason(MARK)));
    run("unknown", || Effect::Unknown(Reason(MARK)));
    run("tombstone", || Effect::Unknown(Reason(MARK)));
    run("executing", || Effect::Unknown(Reason(MARK)));
    let mismatch: Result<Outcome<Reason>, _> =
        store.run(&secret_key("done"), Fingerprint::of("another"), |_| Effect::Done(MARK));
    shown.value(&mismatch.expect("it runs"));
    let panicked = catch_unwind(AssertUnwindSafe(|| {
        let panics = |_: &mut Execution| -> Effect<&str, Reason> { panic!("{PANIC}") };
        drop(store.run(&secret_key("panics"), request(), panics));
    }));
    panicked.expect_err("its panic goes on to the caller");
}

#[cfg(feature = "transaction")]
fn transactions(shown: &mut Shown, store: &Store) {
    use idemstore::redb::TableDefinition;
    const ROWS: TableDefinition<&str, &str> = TableDefinition::new("rows");
    let permit = begin(store, "with a row").fresh();
    let completed = permit.complete_with(|transaction| {
        shown.value(transaction);
        transaction.open_table(ROWS)?.insert(MARK, format!("row {MARK}").as_str())?;
        Ok::<_, redb::Error>(MARK)
    });
    shown.value(&completed.expect("it is completed"));
    let panicked = catch_unwind(AssertUnwindSafe(|| {
        drop(store.transaction(|_| -> Result<(), Reason> { panic!("{PANIC}") }));
    }));
    panicked.expect_err("its panic goes on to the caller");
}

#[cfg(feature = "typed")]
fn typed(shown: &mut Shown, store: &Store) {
    let completed = begin(store, "typed").fresh().complete_as(&(MARK, 7)).expect("it completes");
    shown.error(&completed.decode::<u64>().expect_err("it is of another type"));
    shown.value(&completed);
    let bytes = idemstore::typed::encode(&(MARK, 7)).expect("it has an encoding");
    let completed = begin(store, "as bytes").fresh().complete(&bytes[1..]).expect("it completes");
    shown.error(&completed.decode::<String>().expect_err("it is no value"));
}

/// Every key, through `get` and through the list, in each of its five states.
fn listed(shown: &mut Shown, bench: &Bench) {
    let held = begin(&bench.store, "held").fresh();
    let again = begin(&bench.store, "interrupted").interrupted();
    let mut iter = bench.store.keys().older_than(Duration::ZERO);
    shown.value(&iter);
    for info in iter.by_ref() {
        let info = info.expect("it is listed");
        shown.value(&info);
        shown.value(&info.status());
        shown.value(&info.key());
    }
    drop((held, again));
    for name in ["interrupted", "executing", "k", "tombstone"] {
        let info = bench.store.get(&secret_key(name)).expect("it answers").expect("it is used");
        shown.value(&info.status());
    }
    shown.value(&iter);
    shown.value(&bench.store);
    shown.value(&bench.store.stats());
}

/// The secret that distinguishes a store's log from any other's.
fn store_key(bench: Bench) -> Vec<u8> {
    const META: redb::TableDefinition<&str, &[u8]> = redb::TableDefinition::new("meta");
    let Bench { disk, store, .. } = bench;
    store.close().expect("it closes");
    let file = tempfile::NamedTempFile::new().expect("there is room for a file");
    std::fs::write(file.path(), &disk.bytes()["vault.redb"]).expect("there is room for it");
    let database = redb::Database::open(file.path()).expect("redb works");
    let transaction = database.begin_read().expect("redb works");
    let meta = transaction.open_table(META).expect("redb works");
    meta.get("key").expect("redb works").expect("it is there").value().to_vec()
}
