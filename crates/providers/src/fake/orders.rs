//! Faults of the cloud itself that a developer orders, and how a call meets them.

use std::time::Duration;

use navarch_model::{CloudStatus, ProviderError, ProviderErrorKind};
use serde::{Deserialize, Serialize};

/// The longest latency that can be ordered, and the longest age of a stale listing.
const MAX_DELAY: Duration = Duration::from_secs(3600);

/// The longest message of an ordered error, in bytes.
const MAX_MESSAGE_BYTES: usize = 1024;

/// The calls that faults tell apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Operation {
    /// Asking for a machine.
    Launch,
    /// Looking at one machine, by the cloud's id or by its name.
    Status,
    /// Listing machines.
    List,
    /// Ending a machine.
    Terminate,
    /// Asking what is sold.
    Offerings,
}

/// Where in a call an ordered latency lies.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LatencyWhen {
    /// The call is slow to take effect.
    #[default]
    Before,
    /// The call takes effect at once and its answer is slow.
    After,
}

/// How a listing is partial.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PartialHow {
    /// The later half of the machines is left out, and the listing looks whole.
    #[default]
    Missing,
    /// The first page holds half of its machines and the page after it fails.
    Error,
}

/// A fault of the cloud. One with a `count` ends after it struck that many calls; one without
/// stays until it is cleared.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "fault", rename_all = "snake_case", deny_unknown_fields)]
pub enum CloudFault {
    /// Calls are refused, and nothing is done.
    Error {
        /// What kind of error.
        error: ProviderErrorKind,
        /// Which calls; all when absent.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        operation: Option<Operation>,
        /// The cloud's words.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        message: Option<String>,
        /// How long the cloud asks callers to wait.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        retry_after_seconds: Option<u64>,
        /// How many calls are struck.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        count: Option<u32>,
    },
    /// Calls are slow.
    Latency {
        /// By how much.
        milliseconds: u64,
        /// Before or after the call takes effect.
        #[serde(default)]
        when: LatencyWhen,
        /// Which calls; all when absent.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        operation: Option<Operation>,
        /// How many calls are struck.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        count: Option<u32>,
    },
    /// Calls take effect and are not answered: the connection closes instead.
    LostAnswer {
        /// Which calls; launches when absent.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        operation: Option<Operation>,
        /// How many calls are struck.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        count: Option<u32>,
    },
    /// Machines launched from now on are running, says the cloud, and never boot.
    NeverBoots {
        /// How many machines are struck.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        count: Option<u32>,
    },
    /// One machine is lost, and the cloud forgets it. This happens once and is not kept.
    Vanish {
        /// The cloud's id of the machine, or its name.
        instance: String,
    },
    /// One spot machine is taken back: the cloud shows when, and then the machine goes.
    Interrupt {
        /// The cloud's id of the machine, or its name.
        instance: String,
        /// How long before it goes the cloud says so.
        #[serde(default)]
        notice_seconds: u64,
        /// When it goes, in microseconds since the Unix epoch. The cloud sets it.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        at: Option<i64>,
    },
    /// One machine stops doing anything while the cloud says that it runs.
    Hang {
        /// The cloud's id of the machine, or its name.
        instance: String,
    },
    /// The cloud shows one live machine in another state.
    Show {
        /// The cloud's id of the machine, or its name.
        instance: String,
        /// `running`, `stopped` or `impaired`.
        status: CloudStatus,
    },
    /// Listings show no machine.
    EmptyListing {
        /// How many listings are struck.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        count: Option<u32>,
    },
    /// Listings show some of the machines.
    PartialListing {
        /// In what way.
        #[serde(default)]
        how: PartialHow,
        /// How many listings are struck.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        count: Option<u32>,
    },
    /// Listings show what was there some time ago.
    StaleListing {
        /// How long ago.
        seconds: u64,
        /// How many listings are struck.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        count: Option<u32>,
    },
}

impl CloudFault {
    /// Says what is wrong with a fault that makes no sense.
    pub(crate) fn check(&self) -> Result<(), String> {
        let most = MAX_DELAY.as_secs();
        match self {
            Self::Error {
                message: Some(message),
                ..
            } if message.len() > MAX_MESSAGE_BYTES => Err(format!(
                "message: is {} bytes long; the limit is {MAX_MESSAGE_BYTES}",
                message.len()
            )),
            Self::Error {
                retry_after_seconds: Some(seconds),
                ..
            } if *seconds > most => Err(format!(
                "retry_after_seconds: is {seconds}; the most is {most}"
            )),
            Self::Latency { milliseconds, .. } if *milliseconds > most * 1000 => Err(format!(
                "milliseconds: is {milliseconds}; the most is {}",
                most * 1000
            )),
            Self::Interrupt { notice_seconds, .. } if *notice_seconds > most => Err(format!(
                "notice_seconds: is {notice_seconds}; the most is {most}"
            )),
            Self::StaleListing { seconds, .. } if *seconds > most => {
                Err(format!("seconds: is {seconds}; the most is {most}"))
            }
            Self::Show { status, .. }
                if !matches!(
                    status,
                    CloudStatus::Running | CloudStatus::Stopped | CloudStatus::Impaired
                ) =>
            {
                Err("status: must be running, stopped or impaired".to_owned())
            }
            _ if self.count() == Some(0) => {
                Err("count: is 0; leave it out for a fault that stays until cleared".to_owned())
            }
            _ => Ok(()),
        }
    }

    /// The machine that the fault is about, by the cloud's id or by name.
    pub(crate) fn instance_mut(&mut self) -> Option<&mut String> {
        match self {
            Self::Vanish { instance }
            | Self::Hang { instance }
            | Self::Show { instance, .. }
            | Self::Interrupt { instance, .. } => Some(instance),
            _ => None,
        }
    }

    /// Whether a machine is to go at its time.
    pub(crate) const fn interrupts(&self) -> bool {
        matches!(self, Self::Interrupt { .. })
    }

    fn count(&self) -> Option<u32> {
        match self {
            Self::Error { count, .. }
            | Self::Latency { count, .. }
            | Self::LostAnswer { count, .. }
            | Self::NeverBoots { count }
            | Self::EmptyListing { count }
            | Self::PartialListing { count, .. }
            | Self::StaleListing { count, .. } => *count,
            Self::Vanish { .. }
            | Self::Hang { .. }
            | Self::Show { .. }
            | Self::Interrupt { .. } => None,
        }
    }

    fn count_mut(&mut self) -> Option<&mut u32> {
        match self {
            Self::Error { count, .. }
            | Self::Latency { count, .. }
            | Self::LostAnswer { count, .. }
            | Self::NeverBoots { count }
            | Self::EmptyListing { count }
            | Self::PartialListing { count, .. }
            | Self::StaleListing { count, .. } => count.as_mut(),
            Self::Vanish { .. }
            | Self::Hang { .. }
            | Self::Show { .. }
            | Self::Interrupt { .. } => None,
        }
    }

    /// Whether the fault strikes this call, and if so what of `gate` it changes.
    fn strike(&self, operation: Operation, first_page: bool, gate: &mut Gate) -> bool {
        let meets = |wanted: &Option<Operation>| wanted.is_none_or(|wanted| wanted == operation);
        let lists = operation == Operation::List && first_page;
        match self {
            Self::Error {
                error,
                operation: wanted,
                message,
                retry_after_seconds,
                ..
            } if meets(wanted) && gate.error.is_none() => {
                gate.error = Some(ProviderError {
                    kind: *error,
                    message: message
                        .clone()
                        .unwrap_or_else(|| format!("ordered fault: {}", error.word())),
                    retry_after: retry_after_seconds.map(Duration::from_secs),
                });
            }
            Self::Latency {
                milliseconds,
                when,
                operation: wanted,
                ..
            } if meets(wanted) => {
                let latency = Duration::from_millis(*milliseconds);
                match when {
                    LatencyWhen::Before => gate.before += latency,
                    LatencyWhen::After => gate.after += latency,
                }
            }
            Self::LostAnswer {
                operation: wanted, ..
            } if wanted.unwrap_or(Operation::Launch) == operation && !gate.lost => {
                gate.lost = true;
            }
            Self::NeverBoots { .. } if operation == Operation::Launch && !gate.never_boots => {
                gate.never_boots = true;
            }
            Self::EmptyListing { .. } if lists => gate.listing.empty = true,
            Self::PartialListing { how, .. } if lists => gate.listing.partial = Some(*how),
            Self::StaleListing { seconds, .. } if lists => {
                gate.listing.stale = Some(Duration::from_secs(*seconds));
            }
            _ => return false,
        }
        true
    }
}

/// A fault on order.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Order {
    /// Names it, to clear it.
    pub id: u64,
    /// The fault, with the calls left to strike as its count.
    #[serde(flatten)]
    pub fault: CloudFault,
}

/// What the ordered faults do to one call.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Gate {
    pub(crate) before: Duration,
    pub(crate) after: Duration,
    pub(crate) error: Option<ProviderError>,
    pub(crate) lost: bool,
    pub(crate) never_boots: bool,
    pub(crate) listing: ListingFaults,
}

/// What the ordered faults do to one listing.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(crate) struct ListingFaults {
    pub(crate) empty: bool,
    pub(crate) partial: Option<PartialHow>,
    pub(crate) stale: Option<Duration>,
}

/// Lets a call pass the faults on order, and counts down those that strike it. An error spares
/// the counts of what would have struck the call later. `first_page` is false for the pages of
/// a listing that has begun.
pub(crate) fn pass(orders: &mut Vec<Order>, operation: Operation, first_page: bool) -> Gate {
    let mut gate = Gate::default();
    let refused = orders.iter().position(|order| {
        matches!(order.fault, CloudFault::Error { .. })
            && order.fault.strike(operation, first_page, &mut gate)
    });
    for (at, order) in orders.iter_mut().enumerate() {
        let slow = matches!(order.fault, CloudFault::Latency { .. });
        let struck = if refused.is_some() && !slow {
            refused == Some(at)
        } else {
            order.fault.strike(operation, first_page, &mut gate)
        };
        if struck && let Some(count) = order.fault.count_mut() {
            *count -= 1;
        }
    }
    orders.retain(|order| order.fault.count() != Some(0));
    gate
}

#[cfg(test)]
mod tests {
    use super::*;

    fn orders(faults: &str) -> Vec<Order> {
        let faults: Vec<CloudFault> = serde_json::from_str(faults).expect("valid faults");
        (1..)
            .zip(faults)
            .map(|(id, fault)| Order { id, fault })
            .collect()
    }

    #[test]
    fn counted_faults_strike_that_often_and_only_their_calls() {
        let mut orders = orders(
            r#"[{"fault":"error","error":"capacity","operation":"launch","count":2},
                {"fault":"lost_answer","count":1},
                {"fault":"latency","milliseconds":5,"operation":"list"}]"#,
        );
        assert_eq!(pass(&mut orders, Operation::Status, true), Gate::default());
        for _ in 0..2 {
            let gate = pass(&mut orders, Operation::Launch, true);
            let error = gate.error.expect("capacity was ordered");
            assert_eq!(error.kind, ProviderErrorKind::Capacity);
            assert!(!gate.lost, "an answer is not lost where there is an error");
        }
        let gate = pass(&mut orders, Operation::Launch, true);
        assert!(gate.lost && gate.error.is_none(), "{gate:?}");
        assert_eq!(pass(&mut orders, Operation::Launch, true), Gate::default());
        let gate = pass(&mut orders, Operation::List, false);
        assert_eq!(gate.before, Duration::from_millis(5));
        assert_eq!(orders.len(), 1, "only the fault without a count is left");
    }

    #[test]
    fn two_orders_of_one_fault_strike_one_call_each() {
        let mut orders = orders(
            r#"[{"fault":"lost_answer","count":1},{"fault":"lost_answer","count":1},
                {"fault":"error","error":"quota","count":1},{"fault":"error","error":"auth","count":1}]"#,
        );
        let kinds: Vec<_> = (0..2)
            .map(|_| pass(&mut orders, Operation::Launch, true).error)
            .map(|error| error.map(|error| error.kind))
            .collect();
        let expected = [ProviderErrorKind::Quota, ProviderErrorKind::Auth].map(Some);
        assert_eq!(kinds, expected);
        let lost: Vec<_> = (0..3)
            .map(|_| pass(&mut orders, Operation::Launch, true).lost)
            .collect();
        assert_eq!(lost, [true, true, false]);
    }

    #[test]
    fn listing_faults_strike_first_pages() {
        let mut orders = orders(
            r#"[{"fault":"empty_listing","count":1},{"fault":"stale_listing","seconds":60}]"#,
        );
        let later = pass(&mut orders, Operation::List, false);
        assert_eq!(later.listing, ListingFaults::default());
        assert!(pass(&mut orders, Operation::List, true).listing.empty);
        let gate = pass(&mut orders, Operation::List, true);
        assert!(!gate.listing.empty, "{gate:?}");
        assert_eq!(gate.listing.stale, Some(Duration::from_secs(60)));
    }

    #[test]
    fn senseless_faults_are_refused_with_the_field() {
        for (fault, problem) in [
            (r#"{"fault":"lost_answer","count":0}"#, "count: "),
            (
                r#"{"fault":"latency","milliseconds":3600001}"#,
                "milliseconds: ",
            ),
            (r#"{"fault":"stale_listing","seconds":3601}"#, "seconds: "),
            (
                r#"{"fault":"error","error":"quota","retry_after_seconds":9999}"#,
                "retry_after_seconds: ",
            ),
            (
                r#"{"fault":"show","instance":"x","status":"terminated"}"#,
                "status: ",
            ),
        ] {
            let parsed: CloudFault = serde_json::from_str(fault).expect(fault);
            let said = parsed.check().expect_err(fault);
            assert!(said.starts_with(problem), "{fault}: {said}");
        }
        for unreadable in [
            r#"{"fault":"fire"}"#,
            r#"{"fault":"lost_answer","cuont":1}"#,
            r#"{"fault":"error","error":"bad luck"}"#,
            r#"{"fault":"latency","milliseconds":-1}"#,
        ] {
            assert!(
                serde_json::from_str::<CloudFault>(unreadable).is_err(),
                "{unreadable}"
            );
        }
    }
}
