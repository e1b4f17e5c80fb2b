//! What is on disk: the store's own types, and their conversions from and to the model.
//!
//! A row is one JSON text. Its field names, words and shapes are a format that old databases
//! have, so they live here and not in the model, and `golden/rows.txt` pins them. A field that the
//! model gains needs a field here, with `#[serde(default)]` for the rows that lack it, and a
//! migration that raises the schema version, so that an older program refuses the database by its
//! number and not in the middle of a row. `golden/fields.txt` has the schema that brought each
//! field, and its test fails for one that came with none.

mod fleet;
mod incident;
mod instance;
mod node;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use navarch_model::{
    BootId, CommandId, EventKind, FleetId, HealthEventType, HealthStatus, HealthWatchSystem,
    IncidentId, InstanceId, NodeCommandType, NodeId, PoolName, ProviderInstanceId, ProviderName,
    SessionId, Stamp, Time,
};
use serde::Serialize;
use serde::de::DeserializeOwned;

pub(crate) use fleet::MetaRow;
pub(crate) use node::NodeRow;

/// A value of the model and its form on disk.
pub(crate) trait OnDisk: Sized {
    /// The form on disk.
    type Row: Serialize + DeserializeOwned;

    /// The form on disk of this value.
    fn to_row(&self) -> Self::Row;

    /// The value of a form on disk.
    fn from_row(row: Self::Row) -> Self;
}

/// The JSON text of a value.
pub(crate) fn encode<T: OnDisk>(value: &T) -> String {
    encode_row(&value.to_row())
}

/// Bytes for the text of a row before it has to grow, which costs as much as the rest of a short
/// one. Most rows are shorter.
const ROOM: usize = 1024;

/// The JSON text of a row.
pub(crate) fn encode_row(row: &impl Serialize) -> String {
    let mut text = Vec::with_capacity(ROOM);
    serde_json::to_writer(&mut text, row).expect("rows have texts as keys and no floats");
    String::from_utf8(text).expect("JSON is Unicode")
}

/// The value of a JSON text; the error says where it is wrong.
pub(crate) fn decode<T: OnDisk>(text: &str) -> Result<T, String> {
    decode_row(text).map(T::from_row)
}

/// The row of a JSON text.
pub(crate) fn decode_row<R: DeserializeOwned>(text: &str) -> Result<R, String> {
    serde_json::from_str(text).map_err(|error| error.to_string())
}

/// Types whose form in JSON is fixed by their meaning: plain values, ids, and words that are
/// part of a contract.
macro_rules! as_is {
    ($($name:ty),+ $(,)?) => {$(
        impl OnDisk for $name {
            type Row = Self;

            fn to_row(&self) -> Self {
                self.clone()
            }

            fn from_row(row: Self) -> Self {
                row
            }
        }
    )+};
}

as_is!(
    bool,
    i32,
    i64,
    u32,
    u64,
    String,
    BootId,
    CommandId,
    FleetId,
    IncidentId,
    InstanceId,
    NodeId,
    PoolName,
    ProviderInstanceId,
    ProviderName,
    SessionId,
    EventKind,
    HealthEventType,
    HealthStatus,
    HealthWatchSystem,
    NodeCommandType,
);

impl OnDisk for Time {
    /// Microseconds.
    type Row = i64;

    fn to_row(&self) -> i64 {
        self.0
    }

    fn from_row(row: i64) -> Self {
        Self(row)
    }
}

impl OnDisk for Stamp {
    /// Fleet time and Unix time, in microseconds.
    type Row = (i64, i64);

    fn to_row(&self) -> (i64, i64) {
        (self.core.0, self.wall.0)
    }

    fn from_row((core, wall): (i64, i64)) -> Self {
        Self {
            core: Time(core),
            wall: Time(wall),
        }
    }
}

impl OnDisk for Duration {
    /// Nanoseconds; more than 584 years are cut to that.
    type Row = u64;

    fn to_row(&self) -> u64 {
        u64::try_from(self.as_nanos()).unwrap_or(u64::MAX)
    }

    fn from_row(row: u64) -> Self {
        Self::from_nanos(row)
    }
}

impl<T: OnDisk> OnDisk for Option<T> {
    type Row = Option<T::Row>;

    fn to_row(&self) -> Self::Row {
        self.as_ref().map(T::to_row)
    }

    fn from_row(row: Self::Row) -> Self {
        row.map(T::from_row)
    }
}

impl<T: OnDisk> OnDisk for Arc<T> {
    type Row = T::Row;

    fn to_row(&self) -> Self::Row {
        (**self).to_row()
    }

    fn from_row(row: Self::Row) -> Self {
        Self::new(T::from_row(row))
    }
}

impl<T: OnDisk> OnDisk for Vec<T> {
    type Row = Vec<T::Row>;

    fn to_row(&self) -> Self::Row {
        self.iter().map(T::to_row).collect()
    }

    fn from_row(row: Self::Row) -> Self {
        row.into_iter().map(T::from_row).collect()
    }
}

impl<A: OnDisk, B: OnDisk> OnDisk for (A, B) {
    type Row = (A::Row, B::Row);

    fn to_row(&self) -> Self::Row {
        (self.0.to_row(), self.1.to_row())
    }

    fn from_row((first, second): Self::Row) -> Self {
        (A::from_row(first), B::from_row(second))
    }
}

impl<K, V> OnDisk for BTreeMap<K, V>
where
    K: OnDisk + Ord,
    K::Row: Ord,
    V: OnDisk,
{
    type Row = BTreeMap<K::Row, V::Row>;

    fn to_row(&self) -> Self::Row {
        self.iter()
            .map(|(key, value)| (key.to_row(), value.to_row()))
            .collect()
    }

    fn from_row(row: Self::Row) -> Self {
        row.into_iter()
            .map(|(key, value)| (K::from_row(key), V::from_row(value)))
            .collect()
    }
}

/// Rows with named fields. The types are those of the model; the names are those on disk.
macro_rules! rows {
    ($($(#[$doc:meta])* $row:ident for $model:ident {
        $($(#[$attribute:meta])* $field:ident: $type:ty),+ $(,)?
    })+) => {$(
        $(#[$doc])*
        #[derive(Debug, serde::Serialize, serde::Deserialize)]
        #[serde(deny_unknown_fields)]
        pub(crate) struct $row {
            $($(#[$attribute])* $field: <$type as $crate::rows::OnDisk>::Row),+
        }

        impl $crate::rows::OnDisk for $model {
            type Row = $row;

            fn to_row(&self) -> $row {
                let Self { $($field),+ } = self;
                $row {
                    $($field: <$type as $crate::rows::OnDisk>::to_row($field)),+
                }
            }

            fn from_row(row: $row) -> Self {
                Self {
                    $($field: <$type as $crate::rows::OnDisk>::from_row(row.$field)),+
                }
            }
        }
    )+};
}

/// Words on disk for the variants of an enum without data.
macro_rules! words {
    ($($row:ident for $model:ident { $($variant:ident = $word:literal),+ $(,)? })+) => {$(
        #[derive(Debug, serde::Serialize, serde::Deserialize)]
        pub(crate) enum $row {
            $(#[serde(rename = $word)] $variant),+
        }

        impl $crate::rows::OnDisk for $model {
            type Row = $row;

            fn to_row(&self) -> $row {
                match self { $(Self::$variant => $row::$variant),+ }
            }

            fn from_row(row: $row) -> Self {
                match row { $($row::$variant => Self::$variant),+ }
            }
        }
    )+};
}

pub(crate) use {rows, words};
