//! The idempotency key of a request, as its header has it.

use http::{HeaderMap, HeaderName, HeaderValue};

use super::Problem;
use crate::limits::KEY_LEN_MAX;

/// The key that a request has in this header, or `None` if it has no such header.
///
/// The draft asks for a string of RFC 8941: `"8e03978e-40d5-43dd-bc93-6894a57f9324"`. Many clients
/// send the bare key without the quotes, and both are the same key here. A value that could be read
/// in two ways is refused, and so is a header that is there twice: a proxy may join those with a
/// comma, so that a bare key has none.
pub(super) fn find(headers: &HeaderMap, name: &HeaderName) -> Result<Option<Vec<u8>>, Problem> {
    let mut values = headers.get_all(name).iter();
    match (values.next(), values.next()) {
        (None, _) => Ok(None),
        (Some(value), None) => parse(value).map(Some),
        (Some(_), Some(_)) => Err(Problem::KeyRepeated),
    }
}

fn parse(value: &HeaderValue) -> Result<Vec<u8>, Problem> {
    let value = value.as_bytes().trim_ascii();
    let key = match value.strip_prefix(b"\"") {
        Some(rest) => quoted(rest),
        None => value.iter().all(|byte| is_bare(*byte)).then(|| value.to_vec()),
    };
    match key {
        Some(key) if KEY_LEN_MAX < key.len() => Err(Problem::KeyTooLong),
        Some(key) if !key.is_empty() => Ok(key),
        _ => Err(Problem::KeyMalformed),
    }
}

/// What a string of RFC 8941 stands for, from the byte after its first quote to its last one.
fn quoted(rest: &[u8]) -> Option<Vec<u8>> {
    let mut key = Vec::with_capacity(rest.len());
    let mut bytes = rest.iter();
    loop {
        match bytes.next()? {
            // Parameters may follow in such a field, but the draft has none.
            b'"' => return bytes.as_slice().is_empty().then_some(key),
            b'\\' => match bytes.next()? {
                escaped @ (b'"' | b'\\') => key.push(*escaped),
                _ => return None,
            },
            byte @ b' '..=b'~' => key.push(*byte),
            _ => return None,
        }
    }
}

/// Whether a bare key may have this byte: visible, and none that has a meaning in a header.
fn is_bare(byte: u8) -> bool {
    byte.is_ascii_graphic() && !matches!(byte, b'"' | b'\\' | b',' | b';')
}
