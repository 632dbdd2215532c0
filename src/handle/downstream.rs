//! Keys for the services that an operation calls.

use crate::key::{Fingerprint, Key};

/// What all downstream keys of one operation are derived from.
#[derive(Clone, Copy)]
pub(crate) struct Downstream([u8; 32]);

impl Downstream {
    pub(crate) fn new(secret: &[u8; 32], key: &Key, fingerprint: &Fingerprint) -> Self {
        let (algorithm, digest) = fingerprint.to_stored();
        let mut hasher = blake3::Hasher::new_keyed(secret);
        // The key is framed, with the length of its scope in front. Everything before it has a
        // fixed length.
        hasher.update(&[algorithm]).update(&digest).update(key.framed());
        Self(hasher.finalize().into())
    }

    /// Returns the key for this label, as 64 hexadecimal digits.
    pub(crate) fn key(&self, label: &str) -> String {
        blake3::keyed_hash(&self.0, label.as_bytes()).to_hex().to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn derived(secret: u8, scope: &str, key: &str, request: &str, label: &str) -> String {
        let key = Key::scoped(scope, key).expect("it is a key");
        Downstream::new(&[secret; 32], &key, &Fingerprint::of(request)).key(label)
    }

    #[test]
    fn each_part_makes_another_key() {
        let keys = [
            derived(1, "a", "bc", "request", "charge"),
            derived(2, "a", "bc", "request", "charge"),
            derived(1, "ab", "c", "request", "charge"),
            derived(1, "", "abc", "request", "charge"),
            derived(1, "a", "bc", "another", "charge"),
            derived(1, "a", "bc", "request", "refund"),
            derived(1, "a", "bc", "request", ""),
        ];
        for (at, key) in keys.iter().enumerate() {
            assert_eq!(key.len(), 64);
            assert!(!keys[..at].contains(key), "{at}");
        }
    }

    /// Keys must stay the same after every upgrade: a service that knows the old key would act
    /// again.
    #[test]
    fn the_key_of_an_operation_stays_what_it_is() {
        let key = Key::scoped("shop", "order-1").expect("it is a key");
        let fingerprint = Fingerprint::from_stored(1, [0xAB; 32]);
        let derived = Downstream::new(&[7; 32], &key, &fingerprint).key("charge");
        let framed = [&[1][..], &[0xAB; 32], b"\x04shoporder-1"].concat();
        let seed = blake3::keyed_hash(&[7; 32], &framed);
        assert_eq!(derived, blake3::keyed_hash(seed.as_bytes(), b"charge").to_hex().as_str());
        assert_eq!(derived, GOLDEN);
    }

    /// Computed by the Python package `blake3`.
    const GOLDEN: &str = "f48c264f3686dbf28f1ed49a4bce6280d51bd2a89658227003b2b1a3301904a8";
}
