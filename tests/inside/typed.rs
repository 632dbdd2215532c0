//! Typed results.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::Duration;

use crate::error::DecodeError;
use crate::handle::Completed;
use crate::local::codec::decode_typed;
use crate::sync::Arc;
use crate::typed::{encode, shape};

use super::Source;

/// A value with numbers, text, sequences, a map, and types with names.
type Value =
    (u64, Option<String>, Vec<i16>, BTreeMap<u8, Result<bool, char>>, (Duration, Option<IpAddr>));
/// The same, except for the type of its first part.
type Other =
    (i64, Option<String>, Vec<i16>, BTreeMap<u8, Result<bool, char>>, (Duration, Option<IpAddr>));

pub(super) fn run(bytes: &[u8]) {
    if let Ok(value) = decode(bytes) {
        comes_back(&value);
    }
    let Ok(value) = decode_typed::<Value>(bytes) else { return };
    comes_back(&value);
    // The same value as another writer might encode it, after the shape, which random input can't
    // match.
    let shape = shape::of(&value).expect("it has a shape").to_le_bytes();
    assert_eq!(decode(&[&[1], shape.as_slice(), bytes].concat()), Ok(value));
}

fn comes_back(value: &Value) {
    let bytes = encode(value).expect("it has an encoding");
    assert_eq!(decode(&bytes).as_ref(), Ok(value));
    let other = completed(&bytes).decode::<Other>();
    assert!(matches!(other, Err(DecodeError::TypeChanged { .. })), "read as another type");
}

fn decode(bytes: &[u8]) -> Result<Value, DecodeError> {
    completed(bytes).decode()
}

/// A completed operation with this result.
fn completed(result: &[u8]) -> Completed {
    let record = Arc::new(Source(&[]).record(0));
    Completed::new(record, crate::clock::Timestamp::default(), Arc::from(result))
}
