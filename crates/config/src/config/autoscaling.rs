//! How the size of a pool follows the work.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::ser::SerializeMap as _;
use serde::{Serialize, Serializer};

use super::schedule::Window;
use crate::duration;
use crate::secret::Secret;
use crate::url::Url;

/// How the size of a pool follows the work, and how fast.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Autoscaling {
    /// What recommends a size.
    #[serde(flatten)]
    pub autoscaler: Autoscaler,
    /// How long a lower or a higher size must have been recommended before it is asked for.
    pub stabilization: Paces,
    /// Most machines that one decision adds or takes.
    pub step: Steps,
}

// Thresholds and factors are finite: the loader sees to it.
impl Eq for Autoscaling {}

/// A wait for growth and one for shrinking.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Paces {
    /// Before the size rises.
    #[serde(serialize_with = "duration::serialize")]
    pub up: Duration,
    /// Before the size falls.
    #[serde(serialize_with = "duration::serialize")]
    pub down: Duration,
}

impl Paces {
    /// The waits after a change of size, of pools that do not say.
    pub const COOLDOWN: Self = Self {
        up: Duration::from_secs(300),
        down: Duration::from_secs(300),
    };
    /// The windows of stabilisation of pools that do not say.
    pub const STABILIZATION: Self = Self {
        up: Duration::ZERO,
        down: Duration::from_secs(300),
    };
}

/// Most machines that one decision adds or takes; none means as many as recommended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Steps {
    /// Added.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub up: Option<u32>,
    /// Taken.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub down: Option<u32>,
}

/// What recommends a size.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum Autoscaler {
    /// Follows the utilisation of the GPUs, step by step.
    Reactive {
        /// Above this percentage a step is added.
        scale_up_at: u32,
        /// Below this percentage a step is taken.
        scale_down_at: u32,
    },
    /// As many machines as the jobs that wait and run need.
    Queue {
        /// Jobs that one machine works on.
        jobs_per_node: u32,
        /// Who knows how many jobs there are; without one the size holds.
        #[serde(skip_serializing_if = "Option::is_none")]
        source: Option<Source>,
    },
    /// Other bounds within windows of time.
    Scheduled {
        /// The windows; the first that holds a moment counts.
        schedule: Vec<Window>,
        /// What decides within the bounds; none keeps the size.
        #[serde(skip_serializing_if = "Option::is_none")]
        fallback: Option<Box<Autoscaler>>,
    },
    /// Grows ahead of a rising trend of the utilisation.
    Predictive {
        /// Measurements that a trend is drawn through.
        lookback_window: u32,
        /// How much of the trend's rise is expected to follow.
        growth_factor: f64,
        /// Above this predicted percentage the pool grows.
        scale_up_at: u32,
        /// The percentage that it grows to.
        target_utilization: u32,
        /// What decides without such a trend; none keeps the size.
        #[serde(skip_serializing_if = "Option::is_none")]
        fallback: Option<Box<Autoscaler>>,
    },
    /// What several others recommend, as one.
    Composite {
        /// How.
        mode: Mode,
        /// The others.
        autoscalers: Vec<Autoscaler>,
    },
}

impl Autoscaler {
    /// The word for it in the file.
    #[must_use]
    pub const fn word(&self) -> &'static str {
        match self {
            Self::Reactive { .. } => "reactive",
            Self::Queue { .. } => "queue",
            Self::Scheduled { .. } => "scheduled",
            Self::Predictive { .. } => "predictive",
            Self::Composite { .. } => "composite",
        }
    }

    /// It and those within it, in the order of the file.
    pub fn all(&self) -> Vec<&Self> {
        let within: Vec<&Self> = match self {
            Self::Reactive { .. } | Self::Queue { .. } => Vec::new(),
            Self::Scheduled { fallback, .. } | Self::Predictive { fallback, .. } => {
                fallback.as_deref().into_iter().collect()
            }
            Self::Composite { autoscalers, .. } => autoscalers.iter().collect(),
        };
        let mut all = vec![self];
        all.extend(within.into_iter().flat_map(Self::all));
        all
    }

    /// The sources that it reads, in the order of the file.
    #[must_use]
    pub fn sources(&self) -> Vec<&Source> {
        self.all()
            .into_iter()
            .filter_map(|one| match one {
                Self::Queue { source, .. } => source.as_ref(),
                _ => None,
            })
            .collect()
    }

    /// How many measurements of the past it looks at.
    #[must_use]
    pub fn lookback(&self) -> usize {
        let of = |one: &Self| match one {
            Self::Predictive {
                lookback_window, ..
            } => *lookback_window as usize,
            _ => 0,
        };
        self.all().into_iter().map(of).max().unwrap_or(0)
    }
}

/// How several recommendations become one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Mode {
    /// The highest.
    #[default]
    Max,
    /// The lowest.
    Min,
    /// The mean, rounded up.
    Avg,
}

impl Mode {
    /// Every mode.
    pub const ALL: [Self; 3] = [Self::Max, Self::Min, Self::Avg];

    /// The word for it in the file.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Max => "max",
            Self::Min => "min",
            Self::Avg => "avg",
        }
    }
}

/// Who knows how many jobs there are. Pools with equal sources ask once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Source {
    /// What is asked.
    pub question: Question,
    /// Headers of the request.
    pub headers: BTreeMap<String, Secret>,
    /// Longest wait for the answer.
    pub timeout: Duration,
}

impl Serialize for Source {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        #[derive(Serialize)]
        struct Asked<'a> {
            url: &'a Url,
            #[serde(skip_serializing_if = "Option::is_none")]
            pointer: Option<&'a str>,
            #[serde(skip_serializing_if = "Option::is_none")]
            query: Option<&'a str>,
            #[serde(skip_serializing_if = "BTreeMap::is_empty")]
            headers: &'a BTreeMap<String, Secret>,
            #[serde(serialize_with = "duration::serialize")]
            timeout: Duration,
        }
        let (word, url, pointer, query) = match &self.question {
            Question::Http { url, pointer } => {
                let pointer = Some(pointer.as_str()).filter(|pointer| !pointer.is_empty());
                ("http", url, pointer, None)
            }
            Question::Prometheus { url, query } => ("prometheus", url, None, Some(query.as_str())),
        };
        let asked = Asked {
            url,
            pointer,
            query,
            headers: &self.headers,
            timeout: self.timeout,
        };
        let mut map = serializer.serialize_map(Some(1))?;
        map.serialize_entry(word, &asked)?;
        map.end()
    }
}

/// What a source is asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Question {
    /// A number in a JSON document.
    Http {
        /// Where it is.
        url: Url,
        /// Where in the document, as a JSON pointer; empty is the document itself.
        pointer: String,
    },
    /// The answer of a Prometheus server to a query.
    Prometheus {
        /// The server's root, without a query and a closing slash.
        url: Url,
        /// The query, whose answer is one number.
        query: String,
    },
}

impl Question {
    /// Where it is asked, for messages; see [`Url::place`].
    #[must_use]
    pub fn place(&self) -> String {
        let (Self::Http { url, .. } | Self::Prometheus { url, .. }) = self;
        url.place()
    }
}
