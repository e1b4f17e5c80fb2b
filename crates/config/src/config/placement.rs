//! Where the machines of a pool are bought.

use navarch_model::{CapacityKind, Price};
use serde::{Serialize, Serializer};

/// How the offerings of a pool are ordered.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Strategy {
    /// By the priority of their candidates, the lowest first.
    #[default]
    Priority,
    /// The cheapest first; what has no known price last.
    Cost,
    /// Those that have machines first, then by priority.
    Availability,
    /// By the weights of their candidates, so that each has its share of the machines.
    RoundRobin,
}

impl Strategy {
    /// Every strategy, with its word.
    pub const WORDS: [(&'static str, Self); 4] = [
        ("priority", Self::Priority),
        ("cost", Self::Cost),
        ("availability", Self::Availability),
        ("round-robin", Self::RoundRobin),
    ];

    /// The word for people and files.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Priority => "priority",
            Self::Cost => "cost",
            Self::Availability => "availability",
            Self::RoundRobin => "round-robin",
        }
    }

    /// Whether the order depends on what clouds list.
    pub const fn needs_listing(self) -> bool {
        matches!(self, Self::Cost | Self::Availability)
    }
}

/// The providers that a pool buys at, and how it chooses among them.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct PlacementConfig {
    /// How offerings are ordered.
    pub strategy: Strategy,
    /// Launch calls under way at a time; none means no limit of its own.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub parallel_launches: Option<u32>,
    /// Where machines are bought, in the order of the file.
    pub providers: Vec<CandidateConfig>,
}

/// One provider of a pool.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct CandidateConfig {
    /// The configured provider.
    pub name: String,
    /// The lowest is asked first.
    pub priority: i32,
    /// Its share of the machines beside the others' when the strategy is `round-robin`.
    pub weight: u32,
    /// The regions, in the order in which they are tried.
    pub regions: Vec<String>,
    /// The zones, in the order in which they are tried; none means that the cloud chooses.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub zones: Vec<String>,
    /// The cloud's name of the machine type.
    pub instance_type: String,
    /// How firmly machines are rented.
    #[serde(serialize_with = "capacity")]
    pub capacity: CapacityKind,
    /// The most that a machine may cost.
    #[serde(skip_serializing_if = "Option::is_none", serialize_with = "price")]
    pub max_price: Option<Price>,
}

impl CandidateConfig {
    /// Every region and zone, in the order in which they are tried. A zone whose name begins with
    /// the name of a region belongs to that one alone.
    #[must_use]
    pub fn places(&self) -> Vec<(&str, &str)> {
        let mut places = Vec::new();
        for region in &self.regions {
            let before = places.len();
            for zone in &self.zones {
                let owner = self.owner(zone);
                if owner.is_none_or(|owner| owner == region.as_str()) {
                    places.push((region.as_str(), zone.as_str()));
                }
            }
            if self.zones.is_empty() && places.len() == before {
                places.push((region.as_str(), ""));
            }
        }
        places
    }

    /// The region that the name of a zone says it is of.
    pub(crate) fn owner(&self, zone: &str) -> Option<&str> {
        self.regions
            .iter()
            .map(String::as_str)
            .filter(|region| zone.len() > region.len() && zone.starts_with(region))
            .max_by_key(|region| region.len())
    }
}

fn capacity<S: Serializer>(kind: &CapacityKind, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(kind.word())
}

fn price<S: Serializer>(price: &Option<Price>, serializer: S) -> Result<S::Ok, S::Error> {
    match price {
        Some(price) => serializer.serialize_str(&price.decimal()),
        None => serializer.serialize_none(),
    }
}
