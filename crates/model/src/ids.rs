//! Names and ids: one type each, so that none is taken for another.

use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

/// The longest id that any edge accepts, in bytes.
pub const MAX_ID_BYTES: usize = 256;

/// Why a text is not an id.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum IdError {
    /// The text is empty.
    #[error("is required")]
    Empty,
    /// The text is longer than [`MAX_ID_BYTES`].
    #[error("is {0} bytes long; the limit is {MAX_ID_BYTES}")]
    TooLong(usize),
    /// The text has a character that ids do not have.
    #[error("has the character {0:?} at byte {1}; use letters, digits and . _ - : @ + /")]
    BadCharacter(char, usize),
}

/// Checks what every id has in common: it is short, and safe in logs, paths of URLs and tables.
///
/// # Errors
///
/// Says what is wrong with the text, without naming the field.
pub fn check_id(text: &str) -> Result<(), IdError> {
    if text.is_empty() {
        return Err(IdError::Empty);
    }
    if text.len() > MAX_ID_BYTES {
        return Err(IdError::TooLong(text.len()));
    }
    let illegal = |byte: u8| !LEGAL[usize::from(byte)];
    let Some(at) = text.bytes().position(illegal) else {
        return Ok(());
    };
    // What comes before the first illegal byte is ASCII, so that a character begins there.
    let character = text[at..].chars().next().unwrap_or_default();
    Err(IdError::BadCharacter(character, at))
}

/// The bytes of which ids are made. A table, because every heartbeat has an id checked.
static LEGAL: [bool; 256] = {
    let mut legal = [false; 256];
    let mut byte = 0;
    while byte < legal.len() {
        legal[byte] = (byte as u8).is_ascii_alphanumeric()
            || matches!(byte as u8, b'.' | b'_' | b'-' | b':' | b'@' | b'+' | b'/');
        byte += 1;
    }
    legal
};

macro_rules! ids {
    ($($(#[$doc:meta])* $name:ident;)+) => {$(
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(Arc<str>);

        impl $name {
            /// Takes a text that is known to be an id: one we made, or one that was checked before.
            pub fn new(text: impl Into<Arc<str>>) -> Self {
                Self(text.into())
            }

            /// Takes a text from outside.
            ///
            /// # Errors
            ///
            /// See [`check_id`].
            pub fn parse(text: &str) -> Result<Self, IdError> {
                check_id(text)?;
                Ok(Self(text.into()))
            }

            /// The text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(&self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Debug::fmt(&self.0, f)
            }
        }

        impl std::borrow::Borrow<str> for $name {
            fn borrow(&self) -> &str {
                &self.0
            }
        }
    )+};
}

ids! {
    /// The random name of one store's fleet, in the tag of every machine it buys.
    FleetId;
    /// Our id of one attempt to have a machine; client token, unique name, tag and key.
    InstanceId;
    /// The cloud's id of a machine, an attribute that is unknown until the cloud says it.
    ProviderInstanceId;
    /// The id under which an agent registered.
    NodeId;
    /// Our id of an incident.
    IncidentId;
    /// Our id of a command.
    CommandId;
    /// The configured name of a pool.
    PoolName;
    /// The configured name of a provider.
    ProviderName;
    /// What changes with every boot of a host.
    BootId;
    /// What changes with every start of an agent.
    SessionId;
}

/// Where new ids come from: the operating system in production, a named stream in the simulator.
pub trait IdSource {
    /// 64 fresh bits.
    fn next_bits(&mut self) -> u64;
}

/// Letters of ids: lower case, without those that read alike.
const ALPHABET: &[u8; 32] = b"0123456789abcdefghjkmnpqrstvwxyz";

/// A fresh text of `prefix`, a dash and 12 letters (60 random bits), legal as a name in every cloud.
pub fn fresh(prefix: &str, ids: &mut dyn IdSource) -> String {
    let mut bits = ids.next_bits();
    let mut text = String::with_capacity(prefix.len() + 13);
    text.push_str(prefix);
    text.push('-');
    for _ in 0..12 {
        text.push(char::from(ALPHABET[(bits & 31) as usize]));
        bits >>= 5;
    }
    text
}

/// A fresh random UUID (version 4), the form that clients of the Go project expect of command ids.
pub fn fresh_uuid(ids: &mut dyn IdSource) -> String {
    let high = ids.next_bits() & !0xf000 | 0x4000;
    let low = ids.next_bits() & !(0b11 << 62) | (0b10 << 62);
    format!(
        "{:08x}-{:04x}-{:04x}-{:04x}-{:012x}",
        high >> 32,
        (high >> 16) & 0xffff,
        high & 0xffff,
        low >> 48,
        low & 0xffff_ffff_ffff
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Counter(u64);

    impl IdSource for Counter {
        fn next_bits(&mut self) -> u64 {
            self.0 = self
                .0
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1);
            self.0
        }
    }

    #[test]
    fn ids_from_outside_are_short_and_plain() {
        let long = "x".repeat(MAX_ID_BYTES + 1);
        for (text, problem) in [
            ("", Some(IdError::Empty)),
            (long.as_str(), Some(IdError::TooLong(MAX_ID_BYTES + 1))),
            ("a b", Some(IdError::BadCharacter(' ', 1))),
            ("a\nb", Some(IdError::BadCharacter('\n', 1))),
            ("nœud", Some(IdError::BadCharacter('œ', 1))),
            ("<script>", Some(IdError::BadCharacter('<', 0))),
            ("node-1.example:9_x@y+z/0", None),
            (&long[..MAX_ID_BYTES], None),
        ] {
            assert_eq!(NodeId::parse(text).err(), problem, "{text:?}");
        }
    }

    #[test]
    fn fresh_ids_are_legal_cloud_names_and_uuids_are_version_4() {
        let mut source = Counter(7);
        let id = fresh("nv", &mut source);
        assert_eq!(id.len(), 15);
        assert!(
            id.starts_with("nv-") && id.bytes().skip(3).all(|b| ALPHABET.contains(&b)),
            "{id}"
        );
        let uuid = fresh_uuid(&mut source);
        assert_eq!(uuid.len(), 36);
        assert_eq!(&uuid[14..15], "4", "{uuid}");
        assert!("89ab".contains(&uuid[19..20]), "{uuid}");
    }
}
