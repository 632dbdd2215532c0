//! Results as typed values.
//!
//! A value is encoded by bincode, behind a digest of its *shape*: the names and types of everything
//! that it contains. bincode itself stores none of these, and would silently read the bytes of one
//! type as those of another.

pub(crate) mod shape;

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::error::{CompleteError, DecodeError, EncodeError};
use crate::handle::{Completed, Execution, Interrupted, Permit};
use crate::local::codec;

/// The first byte of each typed result.
const VERSION: u8 = 1;
const SHAPE_LEN: usize = 8;

/// Encodes a value in the form that [`Execution::complete_as`] stores, for the calls that take
/// bytes: [`Store::run`](crate::Store::run), [`Store::complete_many`](crate::Store::complete_many)
/// and [`Store::complete`](crate::Store::complete).
///
/// # Errors
///
/// [`EncodeError`] if the value can't be encoded: for example, a sequence that does not know its
/// length.
#[doc(alias = "to_bytes")]
pub fn encode<T: Serialize + ?Sized>(value: &T) -> Result<Vec<u8>, EncodeError> {
    let shape = shape::of(value).ok_or(EncodeError)?;
    let encoded = codec::encode_typed(value).map_err(|_| EncodeError)?;
    Ok([&[VERSION], shape.to_le_bytes().as_slice(), encoded.as_slice()].concat())
}

fn from_bytes<T: Serialize + DeserializeOwned>(bytes: &[u8]) -> Result<T, DecodeError> {
    let wanted = std::any::type_name::<T>();
    let (version, rest) = bytes.split_first().ok_or(DecodeError::NotTyped)?;
    let (shape, encoded) = rest.split_first_chunk::<SHAPE_LEN>().ok_or(DecodeError::NotTyped)?;
    if *version != VERSION {
        return Err(DecodeError::NotTyped);
    }
    let changed = DecodeError::TypeChanged { wanted };
    let Ok(value) = codec::decode_typed::<T>(encoded) else { return Err(changed) };
    // The value that was read must have the same names and types as the one that was written.
    if shape::of(&value) == Some(u64::from_le_bytes(*shape)) { Ok(value) } else { Err(changed) }
}

impl Completed {
    /// Returns the result as the value that was passed to `complete_as`.
    ///
    /// # Errors
    ///
    /// [`DecodeError`] if the result was not stored by `complete_as`, or if it has another type:
    /// the names of structs, fields and variants, and the types of all values, must be the same.
    pub fn decode<T: Serialize + DeserializeOwned>(&self) -> Result<T, DecodeError> {
        from_bytes(self.result())
    }
}

macro_rules! typed {
    ($(
        $(#[$lint:meta])* $handle:ty, $typed:ident, $plain:ident, $typed_async:ident, $plain_async:ident;
    )*) => {$(
        impl $handle {
            /// Stores a value as the result. [`Completed::decode`] returns it.
            ///
            /// ```
            /// # use idemstore::{Begin, Fingerprint, Key, Store};
            /// # let directory = tempfile::tempdir()?;
            /// # let store = Store::open(directory.path().join("store"))?;
            /// # let (key, request) = (Key::new("order-1")?, Fingerprint::of("2 apples"));
            /// #[derive(serde::Serialize, serde::Deserialize, Debug, PartialEq)]
            /// struct Receipt {
            ///     number: u64,
            ///     cents: u32,
            /// }
            ///
            /// # let Begin::Fresh(permit) = store.begin(&key, request)? else { panic!("new") };
            /// permit.start()?.complete_as(&Receipt { number: 17, cents: 250 })?;
            ///
            /// # let Begin::Replay(completed) = store.begin(&key, request)? else { panic!() };
            /// assert_eq!(completed.decode::<Receipt>()?.number, 17);
            /// assert!(completed.decode::<(u64, u32)>().is_err());
            /// # Ok::<(), Box<dyn std::error::Error>>(())
            /// ```
            ///
            /// # Errors
            ///
            /// [`CompleteError`]; a value that can't be encoded also returns the handle.
            $(#[$lint])*
            pub fn $typed<T: Serialize + ?Sized>(
                self,
                value: &T,
            ) -> Result<Completed, CompleteError<Self>> {
                match encode(value) {
                    Ok(bytes) => self.$plain(bytes),
                    Err(EncodeError) => Err(CompleteError::NoEncoding { handle: self }),
                }
            }

            #[doc = concat!("[`", stringify!($handle), "::", stringify!($typed), "`] as a future, as ")]
            #[doc = concat!("[`", stringify!($handle), "::", stringify!($plain_async), "`] is one.")]
            ///
            /// # Errors
            ///
            /// [`CompleteError`]; a value that can't be encoded also returns the handle.
            pub async fn $typed_async<T: Serialize + ?Sized>(
                self,
                value: &T,
            ) -> Result<Completed, CompleteError<Self>> {
                match encode(value) {
                    Ok(bytes) => self.$plain_async(bytes).await,
                    Err(EncodeError) => Err(CompleteError::NoEncoding { handle: self }),
                }
            }
        }
    )*};
}

typed! {
    #[expect(clippy::result_large_err, reason = "the error gives back what the caller handed in")]
    Permit, complete_as, complete, complete_as_async, complete_async;
    Execution, complete_as, complete, complete_as_async, complete_async;
    Interrupted, resolve_as, resolve, resolve_as_async, resolve_async;
}
