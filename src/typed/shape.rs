//! The shape of a value: the names and types of everything it contains, as serde sees them, without
//! the values themselves.
//!
//! The elements of a sequence and the entries of a map are summed, so their order does not matter:
//! a `HashMap` that was read back has another order. Everywhere else the order matters.

use std::fmt::{self, Display};

use serde::ser::{self, Serialize};

/// Returns a number that two values of the same shape share, and that two values of different
/// shapes almost certainly don't. Returns `None` if the value can't be serialised.
pub(crate) fn of<T: Serialize + ?Sized>(value: &T) -> Option<u64> {
    value.serialize(Shape).ok()
}

/// FNV-1a, which is stable, and good enough to notice an accident.
fn mix(state: u64, bytes: &[u8]) -> u64 {
    bytes
        .iter()
        .fold(state, |state, byte| (state ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01B3))
}

fn named(kind: &str, name: &str) -> u64 {
    mix(mix(mix(0xCBF2_9CE4_8422_2325, kind.as_bytes()), &[0xFF]), name.as_bytes())
}

fn within(outer: u64, inner: u64) -> u64 {
    mix(outer, &inner.to_le_bytes())
}

/// Serialises a value into the number of its shape.
#[derive(Clone, Copy)]
struct Shape;

/// A value of several parts that is being serialised.
struct Parts {
    shape: u64,
    /// The key of a map entry whose value comes next.
    key: u64,
    /// Whether the order of the parts counts.
    ordered: bool,
}

impl Parts {
    fn new(shape: u64, ordered: bool) -> Self {
        Self { shape, key: 0, ordered }
    }

    fn add(&mut self, part: u64) {
        let part = within(self.key, part);
        self.shape =
            if self.ordered { within(self.shape, part) } else { self.shape.wrapping_add(part) };
    }

    fn add_field<T: Serialize + ?Sized>(&mut self, name: &str, value: &T) -> Result<(), Failed> {
        self.add(within(named("field", name), value.serialize(Shape)?));
        Ok(())
    }

    fn add_value<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), Failed> {
        self.add(value.serialize(Shape)?);
        Ok(())
    }
}

/// The value failed to serialise. Its message may contain the value, so it isn't kept.
#[derive(Debug)]
struct Failed;

impl Display for Failed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the value cannot be serialised")
    }
}

impl std::error::Error for Failed {}

impl ser::Error for Failed {
    fn custom<T: Display>(_: T) -> Self {
        Self
    }
}

macro_rules! leaves {
    ($($method:ident($value:ty) $name:literal),* $(,)?) => {$(
        fn $method(self, _: $value) -> Result<u64, Failed> {
            Ok(named("value", $name))
        }
    )*};
}

impl ser::Serializer for Shape {
    type Ok = u64;
    type Error = Failed;
    type SerializeSeq = Parts;
    type SerializeTuple = Parts;
    type SerializeTupleStruct = Parts;
    type SerializeTupleVariant = Parts;
    type SerializeMap = Parts;
    type SerializeStruct = Parts;
    type SerializeStructVariant = Parts;

    leaves!(
        serialize_bool(bool) "bool",
        serialize_i8(i8) "i8",
        serialize_i16(i16) "i16",
        serialize_i32(i32) "i32",
        serialize_i64(i64) "i64",
        serialize_i128(i128) "i128",
        serialize_u8(u8) "u8",
        serialize_u16(u16) "u16",
        serialize_u32(u32) "u32",
        serialize_u64(u64) "u64",
        serialize_u128(u128) "u128",
        serialize_f32(f32) "f32",
        serialize_f64(f64) "f64",
        serialize_char(char) "char",
        serialize_str(&str) "str",
        serialize_bytes(&[u8]) "bytes",
        serialize_unit_struct(&'static str) "unit struct",
    );

    // bincode isn't a human-readable format, and many types serialise differently for one.
    fn is_human_readable(&self) -> bool {
        false
    }

    fn serialize_none(self) -> Result<u64, Failed> {
        Ok(named("option", "none"))
    }

    fn serialize_some<T: Serialize + ?Sized>(self, value: &T) -> Result<u64, Failed> {
        Ok(within(named("option", "some"), value.serialize(self)?))
    }

    fn serialize_unit(self) -> Result<u64, Failed> {
        Ok(named("value", "unit"))
    }

    fn serialize_unit_variant(
        self,
        name: &'static str,
        index: u32,
        variant: &'static str,
    ) -> Result<u64, Failed> {
        Ok(variant_of(name, index, variant))
    }

    fn serialize_newtype_struct<T: Serialize + ?Sized>(
        self,
        name: &'static str,
        value: &T,
    ) -> Result<u64, Failed> {
        Ok(within(named("newtype", name), value.serialize(self)?))
    }

    fn serialize_newtype_variant<T: Serialize + ?Sized>(
        self,
        name: &'static str,
        index: u32,
        variant: &'static str,
        value: &T,
    ) -> Result<u64, Failed> {
        Ok(within(variant_of(name, index, variant), value.serialize(self)?))
    }

    fn serialize_seq(self, _: Option<usize>) -> Result<Parts, Failed> {
        Ok(Parts::new(named("value", "sequence"), false))
    }

    fn serialize_tuple(self, _: usize) -> Result<Parts, Failed> {
        Ok(Parts::new(named("value", "tuple"), true))
    }

    fn serialize_tuple_struct(self, name: &'static str, _: usize) -> Result<Parts, Failed> {
        Ok(Parts::new(named("tuple struct", name), true))
    }

    fn serialize_tuple_variant(
        self,
        name: &'static str,
        index: u32,
        variant: &'static str,
        _: usize,
    ) -> Result<Parts, Failed> {
        Ok(Parts::new(variant_of(name, index, variant), true))
    }

    fn serialize_map(self, _: Option<usize>) -> Result<Parts, Failed> {
        Ok(Parts::new(named("value", "map"), false))
    }

    fn serialize_struct(self, name: &'static str, _: usize) -> Result<Parts, Failed> {
        Ok(Parts::new(named("struct", name), true))
    }

    fn serialize_struct_variant(
        self,
        name: &'static str,
        index: u32,
        variant: &'static str,
        len: usize,
    ) -> Result<Parts, Failed> {
        self.serialize_tuple_variant(name, index, variant, len)
    }
}

fn variant_of(name: &str, index: u32, variant: &str) -> u64 {
    within(within(named("enum", name), named("variant", variant)), index.into())
}

macro_rules! parts {
    ($($kind:ident { $($method:ident($($field:ident)?)),* })*) => {$(
        impl ser::$kind for Parts {
            type Ok = u64;
            type Error = Failed;

            $(parts!(@ $method $($field)?);)*

            fn end(self) -> Result<u64, Failed> {
                Ok(self.shape)
            }
        }
    )*};
    (@ $method:ident name) => {
        fn $method<T: Serialize + ?Sized>(
            &mut self,
            name: &'static str,
            value: &T,
        ) -> Result<(), Failed> {
            self.add_field(name, value)
        }
    };
    (@ serialize_key) => {
        fn serialize_key<T: Serialize + ?Sized>(&mut self, key: &T) -> Result<(), Failed> {
            self.key = key.serialize(Shape)?;
            Ok(())
        }
    };
    (@ $method:ident) => {
        fn $method<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), Failed> {
            self.add_value(value)
        }
    };
}

parts! {
    SerializeSeq { serialize_element() }
    SerializeTuple { serialize_element() }
    SerializeTupleStruct { serialize_field() }
    SerializeTupleVariant { serialize_field() }
    SerializeMap { serialize_key(), serialize_value() }
    SerializeStruct { serialize_field(name) }
    SerializeStructVariant { serialize_field(name) }
}
