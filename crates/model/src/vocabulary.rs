//! The words that agents, clients and policies share, written from the wire contract.

use serde::{Deserialize, Deserializer, Serialize, Serializer};

macro_rules! vocabulary {
    ($(#[$doc:meta])* $name:ident { $($(#[$vdoc:meta])* $variant:ident = $number:literal, $full:literal, $short:literal;)+ }) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum $name {
            $($(#[$vdoc])* $variant = $number),+
        }

        impl $name {
            /// Every word, in the order of its number.
            pub const ALL: &'static [Self] = &[$(Self::$variant),+];

            /// The number on the wire.
            pub const fn number(self) -> i32 {
                self as i32
            }

            /// The word for a number on the wire, if there is one.
            pub fn from_number(number: i32) -> Option<Self> {
                Self::ALL.iter().copied().find(|word| word.number() == number)
            }

            /// The full name, as in the contract.
            pub const fn name(self) -> &'static str {
                match self { $(Self::$variant => $full),+ }
            }

            /// The word for a full name.
            pub fn from_name(name: &str) -> Option<Self> {
                Self::ALL.iter().copied().find(|word| word.name() == name)
            }

            /// The name without its prefix, in lower case, as policies and tables use it.
            pub const fn short(self) -> &'static str {
                match self { $(Self::$variant => $short),+ }
            }

            /// The word for a short name.
            pub fn from_short(short: &str) -> Option<Self> {
                Self::ALL.iter().copied().find(|word| word.short() == short)
            }
        }

        impl Default for $name {
            fn default() -> Self {
                Self::Unknown
            }
        }

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.serialize_str(self.short())
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let short = String::deserialize(deserializer)?;
                Self::from_short(&short).ok_or_else(|| {
                    serde::de::Error::custom(format!(concat!("{:?} is not a ", stringify!($name)), short))
                })
            }
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.pad(self.short())
            }
        }
    };
}

include!(concat!(env!("OUT_DIR"), "/vocabulary.rs"));
