//! What distinguishes two requests: who can see it, and how it is compared.

use std::marker::PhantomData;

use idemstore::{Begin, Effect, Fingerprint, Outcome};

use super::canary::MARK;
use super::source;
use super::tour::{begin, secret_key, too_long};
use crate::support::{Answers, Bench, Started};

/// BLAKE3 over the framed parts of `tour::request`, as in `docs/FORMAT.md`.
pub fn digest_of_request() -> [u8; 32] {
    let mut hasher = blake3::Hasher::new_derive_key("idemstore 2026-11-24 request fingerprint v1");
    for part in ["POST", MARK] {
        hasher.update(&(part.len() as u64).to_le_bytes()).update(part.as_bytes());
    }
    *hasher.finalize().as_bytes()
}

/// Keys in every state that is stored.
fn states(bench: &Bench) -> Vec<&'static str> {
    let start = |name| begin(&bench.store, name).started();
    let mut names = vec!["completed", "long", "tombstone", "executing", "detached", "interrupted"];
    begin(&bench.store, "completed").fresh().complete(MARK).expect("it completes");
    begin(&bench.store, "long").fresh().complete(MARK.repeat(1_000)).expect("it completes");
    begin(&bench.store, "tombstone").fresh().complete_digest(too_long()).expect("it completes");
    std::mem::forget(start("executing"));
    start("detached").detach();
    drop(start("interrupted"));
    bench.tick(100);
    let mut far = start("far");
    far.checkpoint(MARK).expect("it is stored");
    drop(far);
    std::mem::forget(begin(&bench.store, "far").interrupted().retry().expect("it starts again"));
    drop(start("in hand"));
    std::mem::forget(begin(&bench.store, "in hand").interrupted());
    names.extend(["far", "in hand"]);
    names
}

#[test]
fn a_mismatch_is_the_same_whatever_is_stored() {
    let bench = Bench::new();
    let names = states(&bench);
    let mut said = Vec::new();
    for settled in [false, true] {
        if settled {
            bench.store.settle().expect("it settles");
        }
        for name in &names {
            let key = secret_key(name);
            let other = Fingerprint::of("another request");
            let answer = bench.store.begin(&key, other).expect("begin answers");
            // These patterns compile only as long as the variants have no fields.
            assert!(matches!(answer, Begin::Mismatch), "{name} is {answer:?}");
            let again = bench.store.begin_many([(&key, other)]).pop().expect("there is an answer");
            let outcome = bench.store.run(&key, other, |_| Effect::<&str, &str>::Unknown("it ran"));
            let outcome = outcome.expect("it answers");
            assert!(matches!(outcome, Outcome::Mismatch), "{name} is {outcome:?}");
            said.push(format!("{answer:?} {answer:#?} {again:?} {outcome:?} {outcome:#?}"));
        }
    }
    assert_eq!(said.len(), 16);
    said.dedup();
    assert_eq!(said, ["Mismatch Mismatch Ok(Mismatch) Mismatch Mismatch"]);
}

/// Whether a type can be compared with `==`: the inherent constant, which exists only if it can,
/// shadows the trait's.
struct Comparison<T>(PhantomData<T>);
trait Incomparable {
    const IS_THERE: bool = false;
}
impl<T> Incomparable for Comparison<T> {}
impl<T: PartialEq> Comparison<T> {
    const IS_THERE: bool = true;
}

/// This doesn't measure time. `blake3::Hash` promises that its `==` takes the same time wherever
/// the two differ; what is left to check is that nothing else compares.
#[test]
fn fingerprints_are_compared_by_one_function_that_takes_the_same_time_for_all() {
    const { assert!(!Comparison::<Fingerprint>::IS_THERE, "`==` may stop at the first difference") };
    const { assert!(Comparison::<blake3::Hash>::IS_THERE) };
    let mut bytes_given_out = Vec::new();
    for (path, text) in source::files() {
        let code: String = text.lines().map(|line| line.trim().to_owned() + "\n").collect();
        if path.ends_with("src/key.rs") {
            assert!(code.contains("algorithm: u8,\ndigest: blake3::Hash,\n}"));
            assert!(code.contains("self.digest == other.digest\n}"));
            assert_eq!(code.matches("digest ==").count(), 1, "it is compared once");
        } else if code.contains(".to_stored(") {
            bytes_given_out.push(path.rsplit("src/").next().unwrap_or_default().to_owned());
        }
    }
    bytes_given_out.sort();
    // As bytes it is hashed into keys for callees, written and, by tests, read again.
    let known = ["handle/downstream.rs", "local/codec/mod.rs", "local/codec/tests.rs"];
    assert_eq!(bytes_given_out, known);
}
