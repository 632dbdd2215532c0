//! The name of an operation, and the digest that distinguishes two requests with the same name.

use std::cmp::Ordering;
use std::fmt;
use std::sync::LazyLock;

use blake3::hazmat::{ContextKey, HasherExt, hash_derive_key_context};

use crate::error::KeyError;
use crate::limits::{KEY_LEN_MAX, SCOPE_LEN_MAX};
use crate::sync::Arc;

/// An idempotency key: the client's name for one logical operation, 1 to 255 bytes, within an
/// optional scope.
///
/// The bytes are used as they are: they aren't normalised, and case matters. The scope is what the
/// server knows about the client (a tenant, an endpoint). It's framed separately from the key, so
/// that two different pairs of scope and key are never equal.
///
/// ```
/// use idemstore::Key;
///
/// let ours = Key::scoped("tenant-7", "order-1")?;
/// assert_ne!(ours, Key::new("order-1")?);
/// assert_ne!(Key::scoped("a", "bc")?, Key::scoped("ab", "c")?);
/// # Ok::<(), idemstore::KeyError>(())
/// ```
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Key {
    /// The length of the scope in one byte, the scope, then the key.
    framed: Arc<[u8]>,
}

impl Key {
    /// Creates a key without a scope.
    ///
    /// # Errors
    ///
    /// [`KeyError`] if the key is empty or longer than 255 bytes.
    pub fn new(key: impl AsRef<[u8]>) -> Result<Self, KeyError> {
        Self::scoped("", key)
    }

    /// Creates a key within a scope. An empty scope is the same as no scope.
    ///
    /// # Errors
    ///
    /// [`KeyError`] if the key is empty, or if the key or the scope is longer than 255 bytes.
    pub fn scoped(scope: impl AsRef<[u8]>, key: impl AsRef<[u8]>) -> Result<Self, KeyError> {
        let (scope, key) = (scope.as_ref(), key.as_ref());
        if key.is_empty() {
            return Err(KeyError::Empty);
        }
        if KEY_LEN_MAX < key.len() {
            return Err(KeyError::TooLong { len: key.len(), max: KEY_LEN_MAX });
        }
        // One byte stores the length of a scope, which bounds it.
        let Ok(scope_len) = u8::try_from(scope.len()) else {
            return Err(KeyError::ScopeTooLong { len: scope.len(), max: SCOPE_LEN_MAX });
        };
        let mut framed = Vec::with_capacity(1 + scope.len() + key.len());
        framed.push(scope_len);
        framed.extend_from_slice(scope);
        framed.extend_from_slice(key);
        Ok(Self { framed: framed.into() })
    }

    /// Returns the scope, which is empty if there is none.
    #[must_use]
    pub fn scope(&self) -> &[u8] {
        self.parts().0
    }

    /// Returns the key without its scope.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        self.parts().1
    }

    fn parts(&self) -> (&[u8], &[u8]) {
        let (scope_len, rest) =
            self.framed.split_first().expect("a key has its scope's length in front");
        rest.split_at(usize::from(*scope_len))
    }

    /// Returns scope and key in the one form that is stored, hashed and compared.
    pub(crate) fn framed(&self) -> &[u8] {
        &self.framed
    }

    /// Returns the key that these bytes are the [framed](Key::framed) form of, if they are one.
    pub(crate) fn from_framed(framed: &[u8]) -> Option<Self> {
        let (scope_len, rest) = framed.split_first()?;
        let (_, key) = rest.split_at_checked(usize::from(*scope_len))?;
        (1..=KEY_LEN_MAX).contains(&key.len()).then(|| Self { framed: framed.into() })
    }
}

/// Keys are ordered by scope, then by key, byte for byte.
impl Ord for Key {
    fn cmp(&self, other: &Self) -> Ordering {
        self.parts().cmp(&other.parts())
    }
}

impl PartialOrd for Key {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

macro_rules! key_from {
    ($($bytes:ty),*) => {$(
        /// A key outside any scope, as [`Key::new`] makes it.
        impl TryFrom<$bytes> for Key {
            type Error = KeyError;

            fn try_from(key: $bytes) -> Result<Self, KeyError> {
                Self::new(key)
            }
        }
    )*};
}

key_from!(&str, &[u8], String, Vec<u8>);

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Key(..)")
    }
}

/// A digest of the request, which detects that a key is reused for another request.
///
/// It's made by BLAKE3 in its key-derivation mode (which separates these digests from all others),
/// over the parts with their lengths in front, so that moving a byte from one part to the next
/// changes it. Two fingerprints are compared in constant time, and only if both were made by the
/// same algorithm: a record written by an older version never looks like another request.
///
/// ```
/// use idemstore::Fingerprint;
///
/// let request = Fingerprint::of_parts(["POST", "/orders", r#"{"sku":7}"#]);
/// assert!(request.matches(&Fingerprint::of_parts(["POST", "/orders", r#"{"sku":7}"#])));
/// assert!(!request.matches(&Fingerprint::of_parts(["POST", "/orders/", r#""sku":7}"#])));
/// ```
#[derive(Clone, Copy)]
pub struct Fingerprint {
    algorithm: u8,
    digest: blake3::Hash,
}

/// The algorithm that is stored with each digest.
const ALGORITHM_NONE: u8 = 0;
const ALGORITHM_BLAKE3: u8 = 1;
const ALGORITHM_KEYED_BLAKE3: u8 = 2;
const CONTEXT: &str = "idemstore 2026-11-24 request fingerprint v1";
static CONTEXT_KEY: LazyLock<ContextKey> = LazyLock::new(|| hash_derive_key_context(CONTEXT));
/// The most bytes of parts that are hashed together.
const GATHERED_LEN: usize = 512;

impl Fingerprint {
    /// No fingerprint: only the key decides, and this matches every request.
    pub const NONE: Self =
        Self { algorithm: ALGORITHM_NONE, digest: blake3::Hash::from_bytes([0; 32]) };

    /// Returns the fingerprint of a request that is one sequence of bytes.
    #[must_use]
    pub fn of(request: impl AsRef<[u8]>) -> Self {
        Self::of_parts([request])
    }

    /// Returns the fingerprint of a request that has several parts, in this order.
    #[must_use]
    pub fn of_parts<P: AsRef<[u8]>>(parts: impl IntoIterator<Item = P>) -> Self {
        let hasher = blake3::Hasher::new_from_context_key(&CONTEXT_KEY);
        Self { algorithm: ALGORITHM_BLAKE3, digest: digest(hasher, parts) }
    }

    /// Returns the fingerprint of a request whose content can be guessed, such as a card number:
    /// without `secret`, someone who reads the store's files can't test guesses one after the
    /// other.
    ///
    /// Keep the secret outside the store, and don't change it while records made with it exist:
    /// with another secret, every repeated request is a mismatch. A record whose fingerprint was
    /// made without a secret matches, as a fingerprint of any other algorithm does.
    ///
    /// ```
    /// use idemstore::Fingerprint;
    ///
    /// # let secret = [7; 32];
    /// let request = Fingerprint::keyed(&secret, ["POST", "/cards", "4111 1111 1111 1111"]);
    /// let other = Fingerprint::keyed(&secret, ["POST", "/cards", "4111 1111 1111 1112"]);
    /// assert!(!request.matches(&other));
    /// ```
    #[must_use]
    pub fn keyed<P: AsRef<[u8]>>(secret: &[u8; 32], parts: impl IntoIterator<Item = P>) -> Self {
        let hasher = blake3::Hasher::new_keyed(secret);
        Self { algorithm: ALGORITHM_KEYED_BLAKE3, digest: digest(hasher, parts) }
    }

    /// Returns whether both stand for the same request, as far as that can be known: fingerprints
    /// of different algorithms match, and [`Fingerprint::NONE`] matches every fingerprint.
    #[must_use]
    pub fn matches(&self, other: &Self) -> bool {
        // Comparing two `blake3::Hash` values takes the same time wherever they differ.
        self.algorithm != other.algorithm || self.digest == other.digest
    }

    pub(crate) fn to_stored(self) -> (u8, [u8; 32]) {
        (self.algorithm, *self.digest.as_bytes())
    }

    pub(crate) fn from_stored(algorithm: u8, digest: [u8; 32]) -> Self {
        Self { algorithm, digest: digest.into() }
    }
}

/// Returns the digest of the parts, each with its length in front.
fn digest<P: AsRef<[u8]>>(
    mut hasher: blake3::Hasher,
    parts: impl IntoIterator<Item = P>,
) -> blake3::Hash {
    // Short parts are hashed together: each update has the cost of hashing many bytes.
    let mut gathered = Vec::with_capacity(GATHERED_LEN);
    for part in parts {
        let part = part.as_ref();
        gathered.extend((part.len() as u64).to_le_bytes());
        if gathered.len() + part.len() <= GATHERED_LEN {
            gathered.extend(part);
        } else {
            hasher.update(&gathered).update(part);
            gathered.clear();
        }
    }
    hasher.update(&gathered).finalize()
}

impl fmt::Debug for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Fingerprint(..)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_in_the_order_of_their_scopes_and_then_of_their_own() {
        let key = |scope: &str, key: &str| Key::scoped(scope, key).expect("it is a key");
        let ordered = [key("", "z"), key("a", "b"), key("a", "bc"), key("ab", "a"), key("b", "a")];
        assert!(ordered.is_sorted());
        assert_eq!(Key::try_from("z"), Ok(key("", "z")));
        assert_eq!(Key::try_from(b"z".to_vec()), Ok(key("", "z")));
        assert_eq!(Key::try_from(""), Err(KeyError::Empty));
    }

    #[test]
    fn a_fingerprint_is_the_digest_of_its_parts_however_long_they_are() {
        let lens = [0, 1, 7, 400, 488, 495, 496, 497, 504, 512, 513, 5_000];
        for (first, second, third) in
            lens.iter().flat_map(|a| lens.iter().flat_map(move |b| lens.map(|c| (*a, *b, c))))
        {
            let parts = [vec![1; first], vec![2; second], vec![3; third], vec![4; 9]];
            let framed: Vec<u8> = parts
                .iter()
                .flat_map(|part| [&(part.len() as u64).to_le_bytes(), part.as_slice()].concat())
                .collect();
            let (algorithm, digest) = Fingerprint::of_parts(&parts).to_stored();
            let expected = blake3::derive_key(CONTEXT, &framed);
            assert_eq!((algorithm, digest), (ALGORITHM_BLAKE3, expected), "{first} {second}");
        }
    }

    #[test]
    fn a_keyed_fingerprint_is_the_keyed_digest_of_its_parts_and_an_algorithm_of_its_own() {
        let (secret, other) = ([7; 32], [8; 32]);
        let parts = ["POST", "/cards", "4111 1111 1111 1111"];
        let framed: Vec<u8> = parts
            .iter()
            .flat_map(|part| [&(part.len() as u64).to_le_bytes(), part.as_bytes()].concat())
            .collect();
        let keyed = Fingerprint::keyed(&secret, parts);
        let expected = *blake3::keyed_hash(&secret, &framed).as_bytes();
        assert_eq!(keyed.to_stored(), (ALGORITHM_KEYED_BLAKE3, expected));
        assert!(keyed.matches(&Fingerprint::keyed(&secret, parts)));
        assert!(!keyed.matches(&Fingerprint::keyed(&other, parts)));
        assert!(!keyed.matches(&Fingerprint::keyed(&secret, ["POST", "/cards", "4111"])));
        // A stored fingerprint without a secret matches, as one of any other algorithm does.
        assert!(keyed.matches(&Fingerprint::of_parts(parts)));
    }
}
