//! The effective configuration as a tree of plain values, for people and for comparisons.

use std::fmt::Display;

use serde::ser::{
    Error as _, Impossible, Serialize, SerializeMap, SerializeSeq, SerializeStruct, Serializer,
};

use crate::config::Config;
use crate::secret::AS_WRITTEN;

/// A value of the effective configuration. Serialized, it is the value itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Plain {
    /// Nothing.
    Null,
    /// True or false.
    Flag(bool),
    /// A whole number.
    Number(i128),
    /// Text, words, durations and sizes.
    Text(String),
    /// Text whose variables stay variables.
    Written(String),
    /// A list.
    List(Vec<Plain>),
    /// A mapping in the order of the reference.
    Map(Vec<(String, Plain)>),
}

impl Plain {
    /// The configuration as people see it, without its secrets.
    pub(crate) fn shown(config: &Config) -> Self {
        Self::of(config, true)
    }

    /// The configuration with its secrets, for comparisons.
    pub(crate) fn revealed(config: &Config) -> Self {
        Self::of(config, false)
    }

    pub(crate) fn of(value: &impl Serialize, human: bool) -> Self {
        value
            .serialize(Builder { human })
            .expect("a configuration has plain maps of plain values")
    }

    /// The same as a file would have it: every `$` that is no variable written twice.
    pub(crate) fn escaped(self) -> Self {
        match self {
            Self::Text(text) => Self::Text(text.replace('$', "$$")),
            Self::List(list) => Self::List(list.into_iter().map(Self::escaped).collect()),
            Self::Map(entries) => Self::Map(
                entries
                    .into_iter()
                    .map(|(key, value)| (key, value.escaped()))
                    .collect(),
            ),
            other => other,
        }
    }
}

impl Serialize for Plain {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Null => serializer.serialize_unit(),
            Self::Flag(flag) => serializer.serialize_bool(*flag),
            Self::Number(number) => match u64::try_from(*number) {
                Ok(number) => serializer.serialize_u64(number),
                Err(_) => serializer.serialize_i128(*number),
            },
            Self::Text(text) | Self::Written(text) => serializer.serialize_str(text),
            Self::List(list) => serializer.collect_seq(list),
            Self::Map(entries) => {
                serializer.collect_map(entries.iter().map(|(key, value)| (key, value)))
            }
        }
    }
}

/// Makes the tree. Whoever asks whether a person reads it learns that from `human`.
#[derive(Clone, Copy)]
struct Builder {
    human: bool,
}

/// A value that has no place in a configuration.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
struct NotPlain(String);

impl serde::ser::Error for NotPlain {
    fn custom<T: Display>(message: T) -> Self {
        Self(message.to_string())
    }
}

type Never = Impossible<Plain, NotPlain>;

fn refused<T>() -> Result<T, NotPlain> {
    Err(NotPlain::custom(
        "no key of a configuration has such a value",
    ))
}

macro_rules! numbers {
    ($($name:ident($kind:ty)),* $(,)?) => {
        $(fn $name(self, value: $kind) -> Result<Plain, NotPlain> {
            Ok(Plain::Number(i128::from(value)))
        })*
    };
}

impl Serializer for Builder {
    type Ok = Plain;
    type Error = NotPlain;
    type SerializeSeq = Several;
    type SerializeTuple = Never;
    type SerializeTupleStruct = Never;
    type SerializeTupleVariant = Never;
    type SerializeMap = Entries;
    type SerializeStruct = Entries;
    type SerializeStructVariant = Never;

    fn is_human_readable(&self) -> bool {
        self.human
    }

    numbers! {
        serialize_i8(i8), serialize_i16(i16), serialize_i32(i32), serialize_i64(i64),
        serialize_u8(u8), serialize_u16(u16), serialize_u32(u32), serialize_u64(u64),
    }

    fn serialize_bool(self, value: bool) -> Result<Plain, NotPlain> {
        Ok(Plain::Flag(value))
    }

    fn serialize_f32(self, _: f32) -> Result<Plain, NotPlain> {
        refused()
    }

    fn serialize_f64(self, value: f64) -> Result<Plain, NotPlain> {
        // A fraction as a person would write it.
        Ok(Plain::Text(value.to_string()))
    }

    fn serialize_char(self, value: char) -> Result<Plain, NotPlain> {
        Ok(Plain::Text(value.to_string()))
    }

    fn serialize_str(self, value: &str) -> Result<Plain, NotPlain> {
        Ok(Plain::Text(value.to_owned()))
    }

    fn serialize_bytes(self, _: &[u8]) -> Result<Plain, NotPlain> {
        refused()
    }

    fn serialize_none(self) -> Result<Plain, NotPlain> {
        Ok(Plain::Null)
    }

    fn serialize_some<T: Serialize + ?Sized>(self, value: &T) -> Result<Plain, NotPlain> {
        value.serialize(self)
    }

    fn serialize_unit(self) -> Result<Plain, NotPlain> {
        Ok(Plain::Null)
    }

    fn serialize_unit_struct(self, _: &'static str) -> Result<Plain, NotPlain> {
        Ok(Plain::Null)
    }

    fn serialize_unit_variant(
        self,
        _: &'static str,
        _: u32,
        variant: &'static str,
    ) -> Result<Plain, NotPlain> {
        Ok(Plain::Text(variant.to_owned()))
    }

    fn serialize_newtype_struct<T: Serialize + ?Sized>(
        self,
        name: &'static str,
        value: &T,
    ) -> Result<Plain, NotPlain> {
        Ok(match value.serialize(self)? {
            Plain::Text(text) if name == AS_WRITTEN => Plain::Written(text),
            value => value,
        })
    }

    fn serialize_newtype_variant<T: Serialize + ?Sized>(
        self,
        _: &'static str,
        _: u32,
        variant: &'static str,
        value: &T,
    ) -> Result<Plain, NotPlain> {
        Ok(Plain::Map(vec![(
            variant.to_owned(),
            value.serialize(self)?,
        )]))
    }

    fn serialize_seq(self, _: Option<usize>) -> Result<Several, NotPlain> {
        Ok(Several {
            builder: self,
            list: Vec::new(),
        })
    }

    fn serialize_tuple(self, _: usize) -> Result<Never, NotPlain> {
        refused()
    }

    fn serialize_tuple_struct(self, _: &'static str, _: usize) -> Result<Never, NotPlain> {
        refused()
    }

    fn serialize_tuple_variant(
        self,
        _: &'static str,
        _: u32,
        _: &'static str,
        _: usize,
    ) -> Result<Never, NotPlain> {
        refused()
    }

    fn serialize_map(self, _: Option<usize>) -> Result<Entries, NotPlain> {
        Ok(Entries {
            builder: self,
            key: None,
            entries: Vec::new(),
        })
    }

    fn serialize_struct(self, _: &'static str, _: usize) -> Result<Entries, NotPlain> {
        self.serialize_map(None)
    }

    fn serialize_struct_variant(
        self,
        _: &'static str,
        _: u32,
        _: &'static str,
        _: usize,
    ) -> Result<Never, NotPlain> {
        refused()
    }
}

/// A list in the making.
struct Several {
    builder: Builder,
    list: Vec<Plain>,
}

impl SerializeSeq for Several {
    type Ok = Plain;
    type Error = NotPlain;

    fn serialize_element<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), NotPlain> {
        self.list.push(value.serialize(self.builder)?);
        Ok(())
    }

    fn end(self) -> Result<Plain, NotPlain> {
        Ok(Plain::List(self.list))
    }
}

/// A mapping in the making.
struct Entries {
    builder: Builder,
    key: Option<String>,
    entries: Vec<(String, Plain)>,
}

impl SerializeMap for Entries {
    type Ok = Plain;
    type Error = NotPlain;

    fn serialize_key<T: Serialize + ?Sized>(&mut self, key: &T) -> Result<(), NotPlain> {
        self.key = match key.serialize(self.builder)? {
            Plain::Text(key) => Some(key),
            _ => return refused(),
        };
        Ok(())
    }

    fn serialize_value<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), NotPlain> {
        let Some(key) = self.key.take() else {
            return refused();
        };
        self.entries.push((key, value.serialize(self.builder)?));
        Ok(())
    }

    fn end(self) -> Result<Plain, NotPlain> {
        Ok(Plain::Map(self.entries))
    }
}

impl SerializeStruct for Entries {
    type Ok = Plain;
    type Error = NotPlain;

    fn serialize_field<T: Serialize + ?Sized>(
        &mut self,
        key: &'static str,
        value: &T,
    ) -> Result<(), NotPlain> {
        self.entries
            .push((key.to_owned(), value.serialize(self.builder)?));
        Ok(())
    }

    fn end(self) -> Result<Plain, NotPlain> {
        Ok(Plain::Map(self.entries))
    }
}
