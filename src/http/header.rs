//! The idempotency key in the header of a request.

use http::{HeaderMap, HeaderName, HeaderValue};

use super::Problem;
use crate::limits::KEY_LEN_MAX;

/// The key that a request has in this header, or `None` if it has no such header.
///
/// The draft asks for an RFC 9651 string: `"8e03978e-40d5-43dd-bc93-6894a57f9324"`. Many clients
/// send the bare key without the quotes, and both are the same key here. A value that could be read
/// in two ways is refused, and so is a header that appears twice: a proxy may join the two with a
/// comma, which is why a bare key can't have one.
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

/// The value of an RFC 9651 string, from the byte after its first quote. Parameters after it are
/// ignored, as the RFC requires for unknown ones; the draft defines none.
fn quoted(rest: &[u8]) -> Option<Vec<u8>> {
    let mut key = Vec::with_capacity(rest.len());
    let mut bytes = rest.iter();
    loop {
        match bytes.next()? {
            b'"' => return are_parameters(bytes.as_slice()).then_some(key),
            b'\\' => match bytes.next()? {
                escaped @ (b'"' | b'\\') => key.push(*escaped),
                _ => return None,
            },
            byte @ b' '..=b'~' => key.push(*byte),
            _ => return None,
        }
    }
}

/// Whether these bytes are parameters of RFC 9651, section 3.1.2: any number of `;name` or
/// `;name=value`. A value isn't checked, except for a string, which may have a `;` in it.
fn are_parameters(mut bytes: &[u8]) -> bool {
    while let Some(rest) = bytes.strip_prefix(b";") {
        let rest = skip(rest, |byte| byte == b' ');
        let is_name = |byte: u8| {
            byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"_-.*".contains(&byte)
        };
        if !rest.first().is_some_and(|first| first.is_ascii_lowercase() || *first == b'*') {
            return false;
        }
        let rest = skip(rest, is_name);
        bytes = match rest.strip_prefix(b"=") {
            None => rest,
            Some(value) => match value_end(value) {
                Some(rest) => rest,
                None => return false,
            },
        };
    }
    bytes.is_empty()
}

/// What follows the value at the start of these bytes, if there is one.
fn value_end(bytes: &[u8]) -> Option<&[u8]> {
    if let Some(string) = bytes.strip_prefix(b"\"") {
        let mut rest = string;
        loop {
            rest = match rest {
                [b'"', rest @ ..] => return Some(rest),
                [b'\\', b'"' | b'\\', rest @ ..]
                | [b' '..=b'!' | b'#'..=b'[' | b']'..=b'~', rest @ ..] => rest,
                _ => return None,
            };
        }
    }
    let rest = skip(bytes, |byte| byte.is_ascii_graphic() && !matches!(byte, b'"' | b',' | b';'));
    (rest.len() < bytes.len()).then_some(rest)
}

/// The rest of the bytes, from the first one that doesn't match.
fn skip(bytes: &[u8], is_one: impl Fn(u8) -> bool) -> &[u8] {
    let end = bytes.iter().position(|byte| !is_one(*byte)).unwrap_or(bytes.len());
    bytes.get(end..).unwrap_or_default()
}

/// Whether a bare key may have this byte: visible ASCII without a meaning in a header.
fn is_bare(byte: u8) -> bool {
    byte.is_ascii_graphic() && !matches!(byte, b'"' | b'\\' | b',' | b';')
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::Path;

    use serde_json::Value;

    use super::*;

    fn parsed(value: &str) -> Result<Vec<u8>, Problem> {
        parse(&HeaderValue::from_bytes(value.as_bytes()).map_err(|_| Problem::KeyMalformed)?)
    }

    /// The HTTP working group's test vectors for strings. They have none for a bare key, which is
    /// accepted here.
    #[test]
    fn strings_are_read_as_the_working_group_reads_them() {
        let vectors =
            Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/structured-fields");
        let mut read = 0;
        for name in ["string.json", "string-generated.json"] {
            // The published package doesn't have them.
            let Ok(text) = fs::read_to_string(vectors.join(name)) else { continue };
            let all: Vec<Value> = serde_json::from_str(&text).expect("they are JSON");
            for vector in &all {
                let name = vector["name"].as_str().expect("it has a name");
                let raw = vector["raw"].as_array().expect("it has lines");
                // A header that appears twice is refused before it's read.
                let [Value::String(raw)] = raw.as_slice() else { continue };
                let expected = vector["expected"][0].as_str();
                match (parsed(raw), expected) {
                    (Ok(key), Some(expected)) => assert_eq!(key, expected.as_bytes(), "{name}"),
                    (Err(Problem::KeyMalformed), None) => {}
                    (Err(Problem::KeyMalformed), Some(expected)) => assert!(expected.is_empty()),
                    (Err(Problem::KeyTooLong), Some(key)) => assert!(KEY_LEN_MAX < key.len()),
                    (Ok(key), None) => assert_eq!(key, b"'foo'", "{name}: it is a bare key"),
                    (other, _) => panic!("{name}: {other:?}"),
                }
                read += 1;
            }
        }
        assert!(read == 0 || 250 < read, "only {read} vectors were read");
    }

    #[test]
    fn parameters_behind_a_string_are_ignored_and_nothing_else_is() {
        for ignored in [
            "",
            ";a",
            ";a=1",
            ";a;b",
            "; a=?1;b=:aGk=:",
            ";*x.y-z_1=tok/en",
            ";a=\"x;y\"",
            ";a=\"\\\"\";b",
            ";a=-1.5",
            ";a=@1659578233",
        ] {
            assert_eq!(parsed(&format!("\"k\"{ignored}")), Ok(b"k".to_vec()), "{ignored}");
        }
        for refused in [
            "x",
            " x",
            ";",
            ";A=1",
            ";1",
            ";a=",
            ";a=\"",
            ";a=\"\\x\"",
            ",\"k\"",
            ";a=1,b",
            "\"",
            ";a b",
        ] {
            let parsed = parsed(&format!("\"k\"{refused}"));
            assert_eq!(parsed, Err(Problem::KeyMalformed), "{refused}");
        }
    }
}
