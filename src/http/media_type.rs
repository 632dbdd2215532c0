//! Parsing of `Content-Type`: RFC 9110, section 8.3.1.

use http::HeaderValue;

/// The media type without its parameters, in lower case.
pub(super) fn essence(value: &HeaderValue) -> Vec<u8> {
    let value = value.as_bytes();
    let end = value.iter().position(|byte| *byte == b';').unwrap_or(value.len());
    value.get(..end).unwrap_or_default().trim_ascii().to_ascii_lowercase()
}

/// Whether this essence is the media type of JSON: RFC 8259, and RFC 6839 for the suffix.
#[cfg(feature = "json")]
pub(super) fn is_json(essence: &[u8]) -> bool {
    essence == b"application/json"
        || essence.starts_with(b"application/") && essence.ends_with(b"+json")
}

/// The value of a parameter. `None` if it is missing, if it appears twice, or if the parameters
/// can't be parsed.
pub(super) fn parameter(value: &HeaderValue, wanted: &str) -> Option<Vec<u8>> {
    let value = value.as_bytes();
    let start = value.iter().position(|byte| *byte == b';')?;
    let (mut rest, mut found) = (value.get(start..)?.trim_ascii(), None);
    while !rest.is_empty() {
        rest = rest.strip_prefix(b";")?.trim_ascii_start();
        if rest.is_empty() {
            break;
        }
        let equals = rest.iter().position(|byte| *byte == b'=')?;
        let (name, after) = rest.split_at_checked(equals)?;
        let (read, left) = read_value(after.get(1..)?)?;
        if name.eq_ignore_ascii_case(wanted.as_bytes()) && found.replace(read).is_some() {
            return None;
        }
        rest = left.trim_ascii_start();
    }
    found
}

/// The value at the start of these bytes, a token or a quoted string, and what follows it.
fn read_value(bytes: &[u8]) -> Option<(Vec<u8>, &[u8])> {
    let Some(string) = bytes.strip_prefix(b"\"") else {
        let end = bytes.iter().position(|byte| *byte == b';').unwrap_or(bytes.len());
        let (token, rest) = bytes.split_at_checked(end)?;
        let token = token.trim_ascii_end();
        return (!token.is_empty()).then(|| (token.to_vec(), rest));
    };
    let (mut value, mut bytes) = (Vec::new(), string.iter());
    loop {
        match bytes.next()? {
            b'"' => return Some((value, bytes.as_slice())),
            b'\\' => value.push(*bytes.next()?),
            byte => value.push(*byte),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn boundary(value: &str) -> Option<String> {
        let value = HeaderValue::from_str(value).expect("it is a header");
        parameter(&value, "boundary").map(|found| String::from_utf8(found).expect("it is text"))
    }

    #[test]
    fn a_media_type_is_told_without_its_parameters() {
        for (value, expected) in [
            ("application/json", "application/json"),
            ("Application/JSON ; charset=utf-8", "application/json"),
            (";x", ""),
        ] {
            assert_eq!(essence(&HeaderValue::from_static(value)), expected.as_bytes());
        }
    }

    #[cfg(feature = "json")]
    #[test]
    fn json_has_more_than_one_media_type() {
        for (essence, expected) in [
            ("application/json", true),
            ("application/merge-patch+json", true),
            ("application/jsonl", false),
            ("text/json", false),
            ("image/x+json", false),
        ] {
            assert_eq!(is_json(essence.as_bytes()), expected, "{essence}");
        }
    }

    #[test]
    fn a_parameter_is_found_wherever_it_is() {
        for (value, expected) in [
            ("multipart/form-data; boundary=abc", "abc"),
            ("multipart/form-data;boundary=abc ;charset=utf-8", "abc"),
            ("multipart/form-data; charset=utf-8; Boundary=\"a;b\\\"c\"", "a;b\"c"),
            ("multipart/form-data; boundary=abc;", "abc"),
        ] {
            assert_eq!(boundary(value).as_deref(), Some(expected), "{value}");
        }
        for value in [
            "multipart/form-data",
            "multipart/form-data; boundary",
            "multipart/form-data; boundary=",
            "multipart/form-data; boundary=\"abc",
            "multipart/form-data; boundary=\"abc\"d",
            "multipart/form-data; boundary=a; boundary=b",
        ] {
            assert_eq!(boundary(value), None, "{value}");
        }
    }
}
