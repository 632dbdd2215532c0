//! The header that names the operation.

use idemstore::http::Problem;
use idemstore::{Begin, Key};

use super::support::{Call, SCOPE, Site, expect_order, expect_problem, post};

/// A header, and the key that it stands for.
fn accepted() -> Vec<(Vec<u8>, Vec<u8>)> {
    let long = "k".repeat(255);
    let rows: [(&str, &str); 15] = [
        // The examples of the draft, and the contract's.
        (r#""8e03978e-40d5-43dd-bc93-6894a57f9324""#, "8e03978e-40d5-43dd-bc93-6894a57f9324"),
        ("943ut39gbfw39gf2", "943ut39gbfw39gf2"),
        (r#""abc""#, "abc"),
        ("abc", "abc"),
        ("  abc \t", "abc"),
        (r#"  "abc"  "#, "abc"),
        // Strings of RFC 8941.
        (r#""a b""#, "a b"),
        (r#"" ""#, " "),
        (r#""a, b""#, "a, b"),
        (r#""a\"b""#, r#"a"b"#),
        (r#""a\\b""#, r"a\b"),
        (r#""\\\"""#, r#"\""#),
        (r#""a;b=1""#, "a;b=1"),
        // Bare keys.
        ("ab+/=-_.:~!#$%&'()*<>?@[]^`{|}", "ab+/=-_.:~!#$%&'()*<>?@[]^`{|}"),
        ("x", "x"),
    ];
    let mut rows: Vec<_> = rows
        .iter()
        .map(|(header, key)| (header.as_bytes().to_vec(), key.as_bytes().to_vec()))
        .collect();
    rows.push((long.clone().into_bytes(), long.clone().into_bytes()));
    rows.push((format!("\"{long}\"").into_bytes(), long.clone().into_bytes()));
    // What counts is the key's own length, not what its header needs for it.
    let escaped = format!("\"{}\"", r"\\".repeat(255));
    rows.push((escaped.into_bytes(), r"\".repeat(255).into_bytes()));
    rows
}

#[tokio::test]
async fn a_quoted_and_a_bare_key_are_taken_for_what_they_stand_for() {
    let site = Site::new(|layer| layer).await;
    for (at, (header, key)) in accepted().into_iter().enumerate() {
        let name = String::from_utf8_lossy(&header).into_owned();
        let call = Call::new("POST", "/orders").header("Idempotency-Key", &header).body("apples");
        expect_order(&site.send(&call).await, at + 1, false);
        let key = String::from_utf8(key).expect("it is text");
        let begin = site.begin(&key);
        assert!(matches!(begin, Begin::Replay(_)), "{name} is not {key}: {begin:?}");
        assert_eq!(site.records(), 1);
        // Different spellings of the same key.
        let key = Key::scoped(SCOPE, key).expect("it is a key");
        assert!(site.store.forget(&key).expect("it is free now"));
    }
}

#[tokio::test]
async fn the_same_key_is_the_same_in_either_form() {
    let site = Site::new(|layer| layer).await;
    expect_order(&site.send(&post("abc", "apples")).await, 1, false);
    expect_order(&site.send(&post(r#""abc""#, "apples")).await, 1, true);
    expect_order(&site.send(&post("ABC", "apples")).await, 2, false);
}

#[tokio::test]
async fn parameters_behind_a_quoted_key_are_ignored() {
    let site = Site::new(|layer| layer).await;
    let call = |header: &str| post(header, "apples");
    expect_order(&site.send(&call(r#""abc""#)).await, 1, false);
    for same in [r#""abc";a=1"#, r#""abc";a;b="x;y""#, r#""abc"; v=?1"#] {
        expect_order(&site.send(&call(same)).await, 1, true);
    }
}

#[tokio::test]
async fn what_is_no_key_is_refused_and_reaches_no_handler() {
    let site = Site::new(|layer| layer).await;
    let long = "k".repeat(256);
    let rows: [(&[u8], Problem); 23] = [
        (b"", Problem::KeyMalformed),
        (b"   ", Problem::KeyMalformed),
        (br#""""#, Problem::KeyMalformed),
        (br#"""#, Problem::KeyMalformed),
        (br#""abc"#, Problem::KeyMalformed),
        (br#"abc""#, Problem::KeyMalformed),
        (br#"a"b"#, Problem::KeyMalformed),
        (br#""a"b""#, Problem::KeyMalformed),
        (br#""a\b""#, Problem::KeyMalformed),
        (br#""a\"#, Problem::KeyMalformed),
        (br#""a\""#, Problem::KeyMalformed),
        (b"\"a\tb\"", Problem::KeyMalformed),
        (b"\"caf\xc3\xa9\"", Problem::KeyMalformed),
        (b"caf\xc3\xa9", Problem::KeyMalformed),
        (b"a b", Problem::KeyMalformed),
        (b"a\\b", Problem::KeyMalformed),
        // Several values in one header, as a proxy may join them.
        (b"abc, def", Problem::KeyMalformed),
        (b"abc,def", Problem::KeyMalformed),
        (br#""abc", "def""#, Problem::KeyMalformed),
        // Trailing text after a string that isn't a parameter, and any trailing text after a bare
        // key.
        (br#""abc";=1"#, Problem::KeyMalformed),
        (br#""abc" ;a=1"#, Problem::KeyMalformed),
        (b"abc;a=1", Problem::KeyMalformed),
        (long.as_bytes(), Problem::KeyTooLong),
    ];
    for (header, problem) in rows {
        let call = Call::new("POST", "/orders").header("Idempotency-Key", header).body("apples");
        expect_problem(&site.send(&call).await, problem);
    }
    let quoted = format!("\"{long}\"");
    expect_problem(&site.send(&post(&quoted, "apples")).await, Problem::KeyTooLong);
    let twice = post("abc", "apples").header("Idempotency-Key", "def");
    expect_problem(&site.send(&twice).await, Problem::KeyRepeated);
    let same_twice = post("abc", "apples").header("idempotency-key", "abc");
    expect_problem(&site.send(&same_twice).await, Problem::KeyRepeated);
    assert_eq!((site.desk.runs(), site.records()), (0, 0));
}

#[tokio::test]
async fn a_request_without_a_key_is_not_protected_unless_one_is_required() {
    let call = Call::new("POST", "/orders").body("apples");
    let site = Site::new(|layer| layer).await;
    expect_order(&site.send(&call).await, 1, false);
    expect_order(&site.send(&call).await, 2, false);
    assert_eq!(site.records(), 0);

    let site = Site::new(|layer| layer.require_key(true)).await;
    expect_problem(&site.send(&call).await, Problem::KeyMissing);
    assert_eq!((site.desk.runs(), site.records()), (0, 0));
}

#[tokio::test]
async fn the_header_can_have_another_name() {
    let name = http::HeaderName::from_static("x-request-key");
    let site = Site::new(|layer| layer.header(name).require_key(true)).await;
    let call = Call::new("POST", "/orders").header("X-Request-Key", "abc").body("apples");
    expect_order(&site.send(&call).await, 1, false);
    expect_order(&site.send(&call).await, 1, true);
    expect_problem(&site.send(&post("abc", "apples")).await, Problem::KeyMissing);
}

#[tokio::test]
async fn no_answer_shows_the_key() {
    let site = Site::new(|layer| layer).await;
    expect_order(&site.send(&post("secret-key", "apples")).await, 1, false);
    let mismatch = site.send(&post("secret-key", "pears")).await;
    expect_problem(&mismatch, Problem::KeyReused);
    let malformed = site.send(&post("secret-key secret-key", "pears")).await;
    expect_problem(&malformed, Problem::KeyMalformed);
    for answer in [mismatch, malformed] {
        assert!(!format!("{answer:?}{}", answer.text()).contains("secret-key"));
    }
}
