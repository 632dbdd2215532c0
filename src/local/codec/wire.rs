//! The values that bincode writes, and their byte order: fields one after another, and a variant as
//! its number.
//!
//! bincode could derive these impls, at the cost of two more crates in every user's lock file.

use bincode::de::BorrowDecoder;
use bincode::enc::Encoder;
use bincode::error::{DecodeError, EncodeError};
use bincode::{BorrowDecode, Encode};

/// Encodes and decodes a struct as its fields, in this order.
macro_rules! fields {
    ($life:lifetime, $type:ty { $($field:ident),+ $(,)? }) => {
        impl<$life> Encode for $type {
            fn encode<E: Encoder>(&self, to: &mut E) -> Result<(), EncodeError> {
                $(self.$field.encode(to)?;)+
                Ok(())
            }
        }

        impl<$life, C> BorrowDecode<$life, C> for $type {
            fn borrow_decode<D: BorrowDecoder<$life, Context = C>>(
                from: &mut D,
            ) -> Result<Self, DecodeError> {
                Ok(Self { $($field: BorrowDecode::borrow_decode(from)?),+ })
            }
        }
    };
}

/// Encodes and decodes an enum as the number of its variant, followed by the variant's fields.
macro_rules! variants {
    ($life:lifetime, $type:ty {
        $($number:literal => $variant:ident { $($field:ident),* }),+ $(,)?
    }) => {
        impl<$life> Encode for $type {
            fn encode<E: Encoder>(&self, to: &mut E) -> Result<(), EncodeError> {
                match self {
                    $(Self::$variant { $($field),* } => {
                        u32::encode(&$number, to)?;
                        $($field.encode(to)?;)*
                    })+
                }
                Ok(())
            }
        }

        impl<$life, C> BorrowDecode<$life, C> for $type {
            fn borrow_decode<D: BorrowDecoder<$life, Context = C>>(
                from: &mut D,
            ) -> Result<Self, DecodeError> {
                match u32::borrow_decode(from)? {
                    $($number => Ok(Self::$variant {
                        $($field: BorrowDecode::borrow_decode(from)?),*
                    }),)+
                    _ => Err(DecodeError::Other("there is no such variant")),
                }
            }
        }
    };
}

#[cfg_attr(test, derive(Debug, PartialEq, wincode::SchemaRead, wincode::SchemaWrite))]
pub(super) struct WireRecord<'a> {
    pub(super) key: &'a [u8],
    pub(super) fingerprint_algorithm: u8,
    pub(super) fingerprint: [u8; 32],
    pub(super) begun_at: u64,
    pub(super) attempt: u32,
    pub(super) state: WireState<'a>,
}

fields!('de, WireRecord<'de> { key, fingerprint_algorithm, fingerprint, begun_at, attempt, state });

/// The fields that format 3 put in front of a record.
#[cfg_attr(test, derive(Debug, PartialEq, wincode::SchemaRead, wincode::SchemaWrite))]
pub(super) struct WireNoted<'a> {
    pub(super) keep: bool,
    pub(super) note: Option<&'a [u8]>,
    pub(super) record: WireRecord<'a>,
}

fields!('de, WireNoted<'de> { keep, note, record });

/// The place that a record left.
#[cfg_attr(test, derive(Debug, PartialEq, wincode::SchemaRead, wincode::SchemaWrite))]
pub(super) struct WirePlace {
    pub(super) expires_at: u64,
    pub(super) serial: u64,
}

fields!('de, WirePlace { expires_at, serial });

#[cfg_attr(test, derive(Debug, PartialEq, wincode::SchemaRead, wincode::SchemaWrite))]
pub(super) enum WireState<'a> {
    Started,
    Completed {
        completed_at: u64,
        result: &'a [u8],
    },
    /// The result has a separate row.
    CompletedApart {
        completed_at: u64,
        apart: WireApart,
    },
    StartedAt {
        checkpoint: &'a [u8],
    },
    /// The checkpoint has a separate row.
    StartedAtApart {
        apart: WireApart,
    },
    Digest {
        completed_at: u64,
        result_len: u64,
        result_digest: [u8; 32],
    },
}

variants!('de, WireState<'de> {
    0 => Started {},
    1 => Completed { completed_at, result },
    2 => CompletedApart { completed_at, apart },
    3 => StartedAt { checkpoint },
    4 => StartedAtApart { apart },
    5 => Digest { completed_at, result_len, result_digest },
});

/// Bytes that have a separate row.
#[derive(Clone, Copy)]
#[cfg_attr(test, derive(Debug, PartialEq, wincode::SchemaRead, wincode::SchemaWrite))]
pub(super) struct WireApart {
    pub(super) len: u32,
    pub(super) digest: [u8; 16],
}

fields!('de, WireApart { len, digest });

#[cfg_attr(test, derive(Debug, PartialEq, wincode::SchemaRead, wincode::SchemaWrite))]
pub(super) enum WireChange<'a> {
    /// As formats 1 and 2 wrote it.
    OldPut {
        expires_at: u64,
        serial: u64,
        record: WireRecord<'a>,
    },
    Remove {
        expires_at: u64,
        serial: u64,
    },
    Mark {
        serial: u64,
    },
    Wall {
        at: u64,
    },
    Put {
        from: Option<WirePlace>,
        expires_at: u64,
        serial: u64,
        noted: WireNoted<'a>,
    },
}

variants!('de, WireChange<'de> {
    0 => OldPut { expires_at, serial, record },
    1 => Remove { expires_at, serial },
    2 => Mark { serial },
    3 => Wall { at },
    4 => Put { from, expires_at, serial, noted },
});
