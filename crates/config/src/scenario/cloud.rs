//! The simulated cloud of a scenario: what its providers have, and what they do wrong.

use std::collections::BTreeMap;
use std::time::Duration;

use super::ColdStart;

/// The simulated cloud, for pools.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Cloud {
    /// What providers are like.
    pub usual: Traits,
    /// What those are like that differ, by their names.
    pub providers: BTreeMap<String, Traits>,
    /// The most machines that the cloud has, by `PROVIDER/REGION/ZONE`; where parts are left out
    /// from the end, together in all that the name holds.
    pub capacity: BTreeMap<String, u32>,
    /// Dollars per hour of a machine, by the same names. The longest name that holds an offering
    /// counts.
    pub prices: BTreeMap<String, f64>,
}

impl Cloud {
    /// What a provider is like.
    #[must_use]
    pub fn traits(&self, provider: &str) -> &Traits {
        self.providers.get(provider).unwrap_or(&self.usual)
    }
}

/// What a provider is like.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Traits {
    /// How long machines boot.
    pub boot: ColdStart,
    /// The share of machines that never boot, from 0 to 1.
    pub never_boots: f64,
    /// The shortest and the longest time of a call on its way to the provider, and of its answer
    /// on the way back.
    pub latency: (Duration, Duration),
}

impl Traits {
    /// How long machines boot when the scenario does not say it: most ready within two minutes, as
    /// published reports of cloud machines have it.
    pub const USUAL_BOOT: ColdStart = ColdStart {
        min: Some(Duration::from_secs(30)),
        max: Some(Duration::from_secs(240)),
        mean: Some(Duration::from_secs(75)),
        stddev: Duration::from_secs(25),
    };
    /// How long calls take when the scenario does not say it.
    pub const USUAL_LATENCY: (Duration, Duration) =
        (Duration::from_millis(20), Duration::from_millis(400));
}

impl Default for Traits {
    fn default() -> Self {
        Self {
            boot: Self::USUAL_BOOT,
            never_boots: 0.0,
            latency: Self::USUAL_LATENCY,
        }
    }
}

/// What the cloud does wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CloudFault {
    /// Launches fail for lack of capacity.
    Capacity,
    /// Launches fail because a quota is used up.
    Quota,
    /// Launches fail for lack of permission.
    Auth,
    /// Calls are refused because there are too many.
    RateLimit,
    /// Launches succeed and their answers are lost.
    LostAnswers,
    /// Machines that are launched never boot.
    NeverBoots,
    /// Look-ups, listings and terminations fail.
    Outage,
    /// Calls take longer than their deadline.
    Slow,
    /// Listings are empty and claim to be complete.
    EmptyListings,
    /// Listings lack machines and say so.
    PartialListings,
    /// Listings show the past.
    StaleListings,
}

impl CloudFault {
    /// Every fault with its word.
    pub const WORDS: [(&'static str, Self); 11] = [
        ("capacity", Self::Capacity),
        ("quota", Self::Quota),
        ("auth", Self::Auth),
        ("rate_limit", Self::RateLimit),
        ("lost_answers", Self::LostAnswers),
        ("never_boots", Self::NeverBoots),
        ("outage", Self::Outage),
        ("slow", Self::Slow),
        ("empty_listings", Self::EmptyListings),
        ("partial_listings", Self::PartialListings),
        ("stale_listings", Self::StaleListings),
    ];

    /// Its word, as in scenario files and traces.
    #[must_use]
    pub fn word(self) -> &'static str {
        Self::WORDS
            .iter()
            .find(|(_, fault)| *fault == self)
            .map_or("", |(word, _)| word)
    }

    /// Whether it is about launches, so that it may be about one region or zone.
    #[must_use]
    pub const fn is_of_launches(self) -> bool {
        matches!(
            self,
            Self::Capacity
                | Self::Quota
                | Self::Auth
                | Self::RateLimit
                | Self::LostAnswers
                | Self::NeverBoots
        )
    }
}
