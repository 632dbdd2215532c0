//! Results as typed values, and what happens when the type has changed.

use std::collections::{BTreeMap, HashMap, HashSet};

use idemstore::typed::encode;
use idemstore::{CompleteError, DecodeError, Effect, Fingerprint, Outcome};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize, Serializer};

use crate::support::{Answers, Bench, Started, key};

#[derive(Serialize, Deserialize, Debug, PartialEq, Clone)]
struct Receipt {
    number: u64,
    cents: i32,
    note: Option<String>,
    lines: Vec<Line>,
}

#[derive(Serialize, Deserialize, Debug, PartialEq, Clone)]
enum Line {
    Free,
    Item(String),
    Priced { name: String, cents: u32 },
    Pair(u8, u16),
}

fn receipt() -> Receipt {
    let priced = Line::Priced { name: "apple".to_owned(), cents: 25 };
    let lines = vec![Line::Free, Line::Item("pear".to_owned()), priced, Line::Pair(1, 2)];
    Receipt { number: 17, cents: -250, note: Some("thanks".to_owned()), lines }
}

/// Stores one value and reads another.
fn decode<T: DeserializeOwned + Serialize>(value: &impl Serialize) -> Result<T, DecodeError> {
    let bench = Bench::new();
    let completed = bench.begin("k", "request").started().complete_as(value);
    let in_memory = completed.expect("it completes").decode::<T>();
    let bench = bench.reopen();
    let replayed = bench.begin("k", "request").replay().decode::<T>();
    assert_eq!(in_memory.as_ref().err(), replayed.as_ref().err());
    replayed
}

#[track_caller]
fn comes_back<T: Serialize + DeserializeOwned + PartialEq + std::fmt::Debug>(value: &T) {
    assert_eq!(decode::<T>(value).as_ref(), Ok(value));
}

#[track_caller]
fn is_another<T: Serialize + DeserializeOwned + std::fmt::Debug>(value: &impl Serialize) {
    assert!(matches!(decode::<T>(value), Err(DecodeError::TypeChanged { .. })));
}

#[test]
fn values_come_back() {
    comes_back(&receipt());
    comes_back(&());
    comes_back(&(1_u8, -2_i64, 3.5_f64, 'x', "text".to_owned(), true, u128::MAX));
    comes_back(&Vec::<u32>::new());
    comes_back(&BTreeMap::from([(1, "one".to_owned()), (2, "two".to_owned())]));
    comes_back(&Some(Some(Option::<u8>::None)));
    comes_back(&[Line::Free, Line::Free]);
}

#[test]
fn long_values_of_small_numbers_come_back() {
    // Each is one byte when encoded, and much more in memory.
    for len in [1_000, 1_020, 16_000] {
        comes_back(&vec![0_u128; len]);
        comes_back(&vec![Some(1_u64); len / 2]);
        comes_back(&"x".repeat(len));
    }
}

#[test]
fn tables_without_an_order_come_back() {
    // Each table iterates in a different order, so the value isn't read in the order in which it
    // was written.
    for round in 0..20 {
        let lines = [Line::Free, Line::Pair(1, 2), Line::Item("x".to_owned())];
        let table: HashMap<_, _> =
            (0..50).map(|at| (at + round, lines[at % lines.len()].clone())).collect();
        comes_back(&table);
        comes_back(&(0..50).map(|at| format!("{at}")).collect::<HashSet<_>>());
    }
}

#[test]
fn a_type_that_has_changed_is_told_from_the_one_that_was_stored() {
    mod later {
        use super::*;

        #[derive(Serialize, Deserialize, Debug)]
        pub struct Renamed {
            pub number: u64,
            pub cents: i32,
        }

        pub mod field {
            use super::*;

            #[derive(Serialize, Deserialize, Debug)]
            pub struct Bill {
                pub number: u64,
                pub euros: i32,
            }
        }

        pub mod order {
            use super::*;

            #[derive(Serialize, Deserialize, Debug)]
            pub struct Bill {
                pub cents: i32,
                pub number: u64,
            }
        }

        pub mod kind {
            use super::*;

            #[derive(Serialize, Deserialize, Debug)]
            pub struct Bill {
                pub number: u64,
                pub cents: u32,
            }
        }

        pub mod longer {
            use super::*;

            #[derive(Serialize, Deserialize, Debug)]
            pub struct Bill {
                pub number: u64,
                pub cents: i32,
                pub paid: Option<bool>,
            }
        }

        pub mod shorter {
            use super::*;

            #[derive(Serialize, Deserialize, Debug)]
            pub struct Bill {
                pub number: u64,
            }
        }
    }
    #[derive(Serialize, Deserialize, Debug, PartialEq)]
    struct Bill {
        number: u64,
        cents: i32,
    }
    // bincode alone would read their bytes as if nothing had changed.
    let bill = Bill { number: 17, cents: 17 };
    comes_back(&bill);
    is_another::<later::Renamed>(&bill);
    is_another::<later::field::Bill>(&bill);
    is_another::<later::order::Bill>(&bill);
    is_another::<later::kind::Bill>(&bill);
    is_another::<later::longer::Bill>(&bill);
    is_another::<later::shorter::Bill>(&bill);
    is_another::<(u64, i32)>(&bill);
    is_another::<Receipt>(&bill);
}

#[test]
fn a_variant_that_has_changed_is_told_too() {
    #[derive(Serialize, Deserialize, Debug)]
    enum Was {
        Declined,
        Paid,
    }
    mod now {
        #[derive(serde::Serialize, serde::Deserialize, Debug)]
        pub enum Was {
            Paid,
            Declined,
        }
    }
    is_another::<now::Was>(&Was::Declined);
    is_another::<now::Was>(&Was::Paid);
    is_another::<u32>(&Was::Paid);
    is_another::<Option<u32>>(&5_u32);
    is_another::<String>(&vec![b'x']);
}

#[test]
fn the_error_names_the_type_and_nothing_of_the_value() {
    let error = decode::<u64>(&"a secret".to_owned()).expect_err("it is another type");
    assert_eq!(
        error.to_string(),
        "the result is not a `u64`: it has another type, or the type has changed since"
    );
}

#[test]
fn bytes_are_no_value() {
    let bench = Bench::new();
    for (at, bytes) in [&b""[..], b"\x01", b"done", &[1; 9], &[1; 100]].into_iter().enumerate() {
        let completed = bench.begin(&format!("{at}"), "request").fresh().complete(bytes);
        let decoded = completed.expect("it completes").decode::<Vec<u8>>();
        assert!(decoded.is_err(), "{bytes:?}");
    }
    let completed = bench.begin("k", "request").fresh().complete("done").expect("it completes");
    assert_eq!(completed.decode::<String>(), Err(DecodeError::NotTyped));
}

/// A value that refuses to be serialised, with a reason that reveals what it contains.
struct Refuses;

impl Serialize for Refuses {
    fn serialize<S: Serializer>(&self, _: S) -> Result<S::Ok, S::Error> {
        Err(serde::ser::Error::custom("a secret"))
    }
}

#[test]
fn a_value_without_an_encoding_gives_the_handle_back() {
    let bench = Bench::new();
    let execution = bench.begin("k", "request").started();
    let error = execution.complete_as(&Refuses).expect_err("it has no encoding");
    assert!(!format!("{error} {error:?}").contains("secret"));
    let CompleteError::NoEncoding { handle } = error else { panic!("{error}") };
    handle.complete_as(&receipt()).expect("it completes");
    assert!(encode(&Refuses).is_err());
}

#[test]
fn each_handle_and_each_call_with_bytes_takes_a_value() {
    let bench = Bench::new();
    let value = receipt();
    let check = |name: &str| {
        assert_eq!(bench.begin(name, "request").replay().decode::<Receipt>().as_ref(), Ok(&value));
    };
    bench.begin("permit", "request").fresh().complete_as(&value).expect("it completes");
    check("permit");
    drop(bench.begin("interrupted", "request").started());
    let interrupted = bench.begin("interrupted", "request").interrupted();
    interrupted.resolve_as(&value).expect("it completes");
    check("interrupted");
    let bytes = encode(&value).expect("it has an encoding");
    bench.begin("by key", "request").started().detach();
    bench.store.complete(&key("by key"), &bytes).expect("it completes");
    check("by key");
    let ran =
        bench.store.run(&key("run"), Fingerprint::of("request"), |_| Effect::<_, ()>::Done(&bytes));
    assert!(matches!(ran, Ok(Outcome::Done(_))));
    check("run");
    let execution = bench.begin("many", "request").started();
    bench.store.complete_many([(execution, &bytes)]).remove(0).expect("it completes");
    check("many");
}

#[test]
fn the_bytes_of_a_value_stay_what_they_are() {
    // Version, shape, value: later versions must be able to read stored results.
    let bytes = encode(&receipt()).expect("it has an encoding");
    let golden = [
        b"\x01\x3a\x68\xbb\xc8\xef\x8f\x3f\x40".as_slice(),
        b"\x11\xfb\xf3\x01\x01\x06thanks\x04\x00\x01\x04pear\x02\x05apple\x19\x03\x01\x02",
    ];
    assert_eq!(bytes, golden.concat());
}
