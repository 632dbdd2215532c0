//! Nothing reveals what the caller passes in: no `Debug`, no error, no panic, no line of output.
//! Only the methods that exist for this purpose return it.

mod canary;
mod failures;
mod files;
mod fingerprints;
mod process;
mod shown;
mod source;
mod tour;

use std::collections::BTreeSet;

use crate::turn;
use canary::{MARK, Secret};
use shown::Shown;

/// These show a value of the caller's own type, as `Result` and `Option` do: what an operation
/// returns, before and after the store has seen it.
const SHOW_THEIR_PARAMETERS: &[&str] = if cfg!(feature = "transaction") {
    &["Effect", "Outcome", "TransactionError"]
} else {
    &["Effect", "Outcome"]
};

/// Everything that the public API shows, in every possible use.
fn all_of_it() -> Shown {
    let mut shown = Shown::default();
    tour::values(&mut shown);
    failures::errors(&mut shown);
    shown
}

fn secrets(shown: &Shown) -> [Secret; 3] {
    [
        Secret::new("what the caller handed in", MARK.as_bytes()),
        Secret::new("the fingerprint", &fingerprints::digest_of_request()),
        Secret::new("the key of the store", &shown.store_key),
    ]
}

#[test]
fn nothing_shows_a_key_a_request_a_result_or_what_they_are_stored_as() {
    let _turn = turn();
    let mut shown = all_of_it();
    let secrets = secrets(&shown);
    let mut leaking = BTreeSet::new();
    for (name, text) in std::mem::take(&mut shown.texts) {
        if let Some(found) = secrets.iter().find_map(|secret| secret.find(&text)) {
            let excepted = SHOW_THEIR_PARAMETERS.contains(&name.as_str());
            assert!(excepted, "{name} shows {found}: {text}");
            leaking.insert(name);
        }
    }
    // Proves that the search sees what is shown, and keeps the exceptions few.
    assert!(leaking.iter().eq(SHOW_THEIR_PARAMETERS), "an exception is not needed: {leaking:?}");
}

#[test]
fn every_public_type_and_every_variant_is_among_what_is_shown() {
    let _turn = turn();
    let shown = all_of_it();
    let types = source::public_types();
    assert!(20 < types.len(), "only {types:?} were found");
    let missing: Vec<_> = types.difference(&shown.types()).cloned().collect();
    assert!(missing.is_empty(), "{missing:?} are public, and `tour` and `failures` have none");
    let variants = source::public_variants();
    assert!(50 < variants.len(), "only {variants:?} were found");
    let missing: Vec<_> = variants.difference(&shown.variants).collect();
    assert!(missing.is_empty(), "{missing:?} are public, and `tour` and `failures` have none");
}

#[cfg(all(feature = "tracing", feature = "metrics"))]
#[test]
fn no_event_and_no_number_has_any_of_it() {
    let _turn = turn();
    let (shown, told) = crate::told::listen(all_of_it);
    assert!(200 < told.len(), "only {} events and numbers", told.len());
    let secrets = secrets(&shown);
    for line in told {
        let found = secrets.iter().find_map(|secret| secret.find(&line));
        assert!(found.is_none(), "{found:?} is told: {line}");
    }
}
