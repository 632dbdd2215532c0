//! Keys and fingerprints: every byte counts, and nothing else does.

use idemstore::{Fingerprint, Key, KeyError};

use crate::support::{Answers, Bench};

#[test]
fn a_key_has_1_to_255_bytes() {
    assert_eq!(Key::new("").map(drop), Err(KeyError::Empty));
    assert!(Key::new("k").is_ok());
    assert!(Key::new([b'k'; 255]).is_ok());
    assert_eq!(Key::new([b'k'; 256]).map(drop), Err(KeyError::TooLong { len: 256, max: 255 }));
}

#[test]
fn a_scope_has_0_to_255_bytes() {
    assert_eq!(Key::scoped("", "k"), Key::new("k"));
    assert!(Key::scoped([b's'; 255], [b'k'; 255]).is_ok());
    let too_long = Key::scoped([b's'; 256], "k").map(drop);
    assert_eq!(too_long, Err(KeyError::ScopeTooLong { len: 256, max: 255 }));
    assert_eq!(Key::scoped("s", "").map(drop), Err(KeyError::Empty));
}

#[test]
fn a_key_gives_back_its_parts() {
    let key = Key::scoped("tenant", "order").expect("it is a key");
    assert_eq!((key.scope(), key.as_bytes()), (&b"tenant"[..], &b"order"[..]));
}

/// Keys that some stores would treat as equal, or as special.
fn distinct_keys() -> Vec<Key> {
    let bare: [&[u8]; 13] = [
        b"k",
        b"K",
        b"k ",
        b" k",
        b"k\0",
        b"\0k",
        b"\0",
        b"\xFF",
        b"../k",
        b"a:b",
        b"a/b",
        "\u{e9}".as_bytes(),
        "e\u{301}".as_bytes(),
    ];
    let scoped = [("a", "bc"), ("ab", "c"), ("abc", "k"), ("k", "abc"), ("", "abc"), ("\0", "k")];
    let bare = bare.iter().map(Key::new);
    let long = [Key::new([b'k'; 254]), Key::new([b'k'; 255])];
    let scoped = scoped.iter().map(|(scope, key)| Key::scoped(scope, key));
    bare.chain(long).chain(scoped).collect::<Result<_, _>>().expect("all are keys")
}

#[test]
fn distinct_bytes_are_distinct_keys() {
    let mut bench = Bench::new();
    let fingerprint = Fingerprint::of("request");
    for (at, key) in distinct_keys().iter().enumerate() {
        let permit = bench.store.begin(key, fingerprint).expect("begin answers").fresh();
        permit.complete(at.to_le_bytes()).expect("it completes");
    }
    for _ in 0..2 {
        for (at, key) in distinct_keys().iter().enumerate() {
            let replay = bench.store.begin(key, fingerprint).expect("begin answers").replay();
            assert_eq!(replay.result(), at.to_le_bytes(), "key number {at}");
        }
        bench = bench.reopen();
    }
}

#[test]
fn the_parts_of_a_fingerprint_are_framed() {
    let of = |parts: &[&str]| Fingerprint::of_parts(parts);
    assert!(of(&["a", "bc"]).matches(&of(&["a", "bc"])));
    for other in [&["ab", "c"][..], &["abc"], &["a", "bc", ""], &["", "a", "bc"], &["bc", "a"]] {
        assert!(!of(&["a", "bc"]).matches(&of(other)), "{other:?}");
    }
}

#[test]
fn the_fingerprint_of_no_part_is_one_of_its_own() {
    let none: [&str; 0] = [];
    assert!(!Fingerprint::of_parts(none).matches(&Fingerprint::of("")));
    assert!(Fingerprint::of_parts(none).matches(&Fingerprint::of_parts(none)));
}

#[test]
fn a_fingerprint_is_compared_only_with_its_own_kind() {
    assert!(Fingerprint::NONE.matches(&Fingerprint::of("a")));
    assert!(Fingerprint::of("a").matches(&Fingerprint::NONE));
}
