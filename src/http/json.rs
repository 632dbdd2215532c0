//! The canonical form of JSON: RFC 8785.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::LazyLock;

use serde::de::{Deserialize, Deserializer, Error, MapAccess, SeqAccess, Visitor};
use serde::{Serialize, Serializer};

/// The largest number up to which all whole numbers are exact: RFC 7493, section 2.2.
const EXACT_MAX: f64 = 9_007_199_254_740_991.0;

/// The canonical form of this JSON. `None` if the bytes aren't JSON, or if two programs might read
/// them differently: RFC 8785 covers only the subset of JSON defined by RFC 7493.
pub(super) fn canonical(bytes: &[u8]) -> Option<Vec<u8>> {
    let value: Value = serde_json::from_slice(bytes).ok()?;
    serde_json_canonicalizer::to_vec(&value).ok()
}

/// A value that can be read in one way only.
enum Value {
    Null,
    Bool(bool),
    Number(f64),
    String(String),
    Array(Vec<Value>),
    Object(BTreeMap<String, Value>),
}

impl Serialize for Value {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Null => to.serialize_unit(),
            Self::Bool(bool) => to.serialize_bool(*bool),
            Self::Number(number) => to.serialize_f64(*number),
            Self::String(string) => to.serialize_str(string),
            Self::Array(values) => to.collect_seq(values),
            Self::Object(members) => to.collect_map(members),
        }
    }
}

impl<'de> Deserialize<'de> for Value {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        from.deserialize_any(Reader)
    }
}

struct Reader;

fn number<E: Error>(number: f64) -> Result<Value, E> {
    if number.abs() <= EXACT_MAX {
        Ok(Value::Number(number))
    } else {
        Err(E::custom("a number is not exact"))
    }
}

impl<'de> Visitor<'de> for Reader {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON that can be read in one way only")
    }

    fn visit_unit<E: Error>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E: Error>(self, bool: bool) -> Result<Value, E> {
        Ok(Value::Bool(bool))
    }

    #[expect(clippy::cast_precision_loss, reason = "what is not exact is refused")]
    fn visit_u64<E: Error>(self, whole: u64) -> Result<Value, E> {
        number(whole as f64)
    }

    #[expect(clippy::cast_precision_loss, reason = "what is not exact is refused")]
    fn visit_i64<E: Error>(self, whole: i64) -> Result<Value, E> {
        number(whole as f64)
    }

    fn visit_f64<E: Error>(self, float: f64) -> Result<Value, E> {
        number(float)
    }

    fn visit_str<E: Error>(self, string: &str) -> Result<Value, E> {
        Ok(Value::String(string.to_owned()))
    }

    fn visit_string<E: Error>(self, string: String) -> Result<Value, E> {
        Ok(Value::String(string))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut from: A) -> Result<Value, A::Error> {
        let mut values = Vec::new();
        while let Some(value) = from.next_element()? {
            values.push(value);
        }
        Ok(Value::Array(values))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut from: A) -> Result<Value, A::Error> {
        let mut members = BTreeMap::new();
        while let Some(name) = from.next_key::<String>()? {
            if *NUMBERS_ARE_TEXT && name == NUMBER_NAME {
                let text: String = from.next_value()?;
                return number(text.parse().map_err(A::Error::custom)?);
            }
            if members.insert(name, from.next_value()?).is_some() {
                return Err(A::Error::custom("a name is there twice"));
            }
        }
        Ok(Value::Object(members))
    }
}

/// How `serde_json` represents a number with its feature `arbitrary_precision`, which another crate
/// in the program may have turned on: as an object with this single name.
const NUMBER_NAME: &str = "$serde_json::private::Number";

static NUMBERS_ARE_TEXT: LazyLock<bool> = LazyLock::new(|| {
    let number = serde_json::from_str::<serde_json::Value>("1e2");
    number.map(|number| number.to_string()).ok().as_deref() != Some("100.0")
});

#[cfg(test)]
mod tests {
    use super::*;

    fn form(text: &str) -> Option<String> {
        canonical(text.as_bytes()).map(|form| String::from_utf8(form).expect("it is text"))
    }

    #[test]
    fn what_means_the_same_has_one_form() {
        for (one, other) in [
            (r#"{"a":1,"b":[1,2]}"#, " { \"b\" : [1, 2.0] , \"a\" : 1.0e0 } "),
            (r#""é\n/""#, r#""\u00e9\u000a\/""#),
            ("[0, 100, 0.5]", "[-0, 1e2, 5E-1]"),
            (r#"{"😀":1,"ﬀ":2}"#, r#"{"\ufb00":2,"\ud83d\ude00":1}"#),
        ] {
            assert_eq!(form(one), form(other));
            assert!(form(one).is_some(), "{one}");
        }
        assert_eq!(
            form(r#"{"b":2,"a":[true,null]}"#).as_deref(),
            Some(r#"{"a":[true,null],"b":2}"#)
        );
    }

    #[test]
    fn what_means_something_else_has_another_form() {
        let all = [
            r#"{"a":1}"#,
            r#"{"a":null}"#,
            "{}",
            "[1,2]",
            "[2,1]",
            r#"{"a":"1"}"#,
            r#"{"a":true}"#,
            r#"{"a":[1]}"#,
            "9007199254740991",
            "9007199254740990",
            "0.1",
            "0.10000000000000002",
            r#"{"$serde_json::private::Number":"1"}"#,
            "1",
            "null",
            r#""""#,
        ];
        for (at, one) in all.iter().enumerate() {
            for other in &all[at + 1..] {
                assert_ne!(form(one), form(other));
            }
            assert!(form(one).is_some(), "{one}");
        }
    }

    #[test]
    fn what_can_be_read_in_two_ways_has_none() {
        for text in [
            r#"{"a":1,"a":2}"#,
            r#"{"a":1,"a":1}"#,
            r#"[{"b":{"a":1,"\u0061":1}}]"#,
            "9007199254740993",
            "-9007199254740992",
            "9007199254740993.0",
            "1e300",
            "1e400",
            r#""\ud800""#,
            "",
            "{",
            "{} {}",
            "\u{feff}{}",
            "[1,]",
            "NaN",
        ] {
            assert_eq!(form(text), None, "{text}");
        }
        assert_eq!(canonical(b"\"\xff\""), None);
        assert_eq!(form(&"[".repeat(100_000)), None, "it is too deep");
    }
}
