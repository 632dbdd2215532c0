//! Bytes that occur nowhere else, and the search for them in every form in which they may be shown.

use std::fmt::Write;

/// It is in every key, scope, request, result, checkpoint, row and path of these tests.
pub const MARK: &str = "qZ7vKx2jWb9Tn4";

/// This many consecutive bytes of a secret are a leak. A truncated text shows as much.
const RUN: usize = 6;

/// What must not be shown: each run of a secret's bytes, in each form in which bytes are printed.
pub struct Secret {
    name: &'static str,
    needles: Vec<String>,
}

impl Secret {
    pub fn new(name: &'static str, bytes: &[u8]) -> Self {
        assert!(RUN <= bytes.len(), "{name} is too short to be told from other bytes");
        Self { name, needles: bytes.windows(RUN).flat_map(forms).collect() }
    }

    /// The form in which a text shows this secret, if it does.
    pub fn find(&self, shown: &str) -> Option<String> {
        // A pretty `Debug` of bytes puts each on a separate line.
        let shown: String = shown.split_whitespace().collect();
        let found = self.needles.iter().find(|needle| shown.contains(*needle))?;
        Some(format!("{} as {found}", self.name))
    }
}

/// A run of bytes as text, as hexadecimal digits in both cases, as Base64, and as the lists of
/// numbers that `Debug` makes of bytes.
fn forms(run: &[u8]) -> Vec<String> {
    let hex = hex(run);
    let list = |each: fn(&u8) -> String| run.iter().map(each).collect::<Vec<_>>().join(",");
    let mut forms = vec![
        base64(run),
        list(|byte| format!("{byte}")),
        list(|byte| format!("{byte:x}")),
        list(|byte| format!("{byte:02X}")),
        list(|byte| format!("0x{byte:02x}")),
        hex.to_uppercase(),
        hex,
    ];
    forms.extend(str::from_utf8(run).map(str::to_owned));
    forms
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut hex, byte| {
        write!(hex, "{byte:02x}").expect("a string takes all");
        hex
    })
}

/// Base64 of bytes whose number is a multiple of three. Since each run is looked for, it doesn't
/// matter where in a longer text it begins.
fn base64(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let groups =
        bytes.chunks(3).map(|group| group.iter().fold(0, |sum, byte| sum << 8 | *byte as usize));
    groups
        .flat_map(|group| [18, 12, 6, 0].map(|shift| char::from(DIGITS[group >> shift & 63])))
        .collect()
}

#[test]
fn a_secret_is_found_in_every_form_and_wherever_it_is_cut() {
    let secret = Secret::new("mark", MARK.as_bytes());
    let bytes = MARK.as_bytes();
    let whole = [
        format!("before {MARK} after"),
        format!("{:?}", MARK.get(3..9).expect("it is long enough")),
        format!("{bytes:?}"),
        format!("{bytes:#?}"),
        format!("{bytes:x?}"),
        format!("{bytes:02X?}"),
        format!("{bytes:#04x?}"),
        hex(bytes).to_uppercase(),
        hex(bytes),
        // Each of the three alignments at which Base64 may begin.
        base64(&bytes[..12]),
        base64(&[b"x", &bytes[..11]].concat()),
        base64(&[b"xx", &bytes[..10]].concat()),
        format!("{:?}", String::from_utf8_lossy(&[b"\x05", bytes].concat())),
    ];
    for shown in &whole {
        assert!(secret.find(shown).is_some(), "{shown} was let through");
    }
    for shown in ["", "Key(..)", "[113, 90, 55, 118, 120]", &MARK[..5]] {
        assert_eq!(secret.find(shown), None);
    }
    assert_eq!(base64(b"Base64"), "QmFzZTY0");
}
