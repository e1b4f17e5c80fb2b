//! Rows of nodes.

use std::collections::BTreeMap;
use std::sync::Arc;

use navarch_model::{
    Asked, BootId, Capabilities, CommandId, Description, DrainCause, Gpu, HealthStatus, Hold,
    HoldKind, IncidentId, InstanceId, Lifecycle, Node, NodeId, Notice, NoticeKind, PoolName,
    SessionId, Stamp, Time, Told,
};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::{OnDisk, rows, words};

words! {
    NoticeKindRow for NoticeKind { Uncordon = "uncordon", Cordon = "cordon", Drain = "drain" }
}

rows! {
    /// The command that a notice tells of.
    AskedRow for Asked {
        command: CommandId,
        kind: NoticeKind,
    }

    /// Something that the scheduler is to hear.
    NoticeRow for Notice {
        sequence: u64,
        kind: NoticeKind,
        reason: String,
        created: Stamp,
        asked: Option<Asked>,
        attempts: u32,
        unsure: bool,
        retry_at: Option<Time>,
        error: String,
    }
}

/// What a scheduler knows of a node. Where it was never told anything there is no row.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct ToldRow {
    last: NoticeKindRow,
    #[serde(default, skip_serializing_if = "is_zero")]
    receiver: u64,
    doubt: bool,
    sequence: u64,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    waiting: Vec<NoticeRow>,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    before: BTreeMap<HoldKindRow, HoldRow>,
}

#[expect(
    clippy::trivially_copy_pass_by_ref,
    reason = "serde passes a reference"
)]
fn is_zero(number: &u64) -> bool {
    *number == 0
}

impl OnDisk for Told {
    type Row = Option<ToldRow>;

    fn to_row(&self) -> Self::Row {
        let Self {
            last,
            receiver,
            doubt,
            sequence,
            waiting,
            before,
        } = self;
        (*self != Self::default()).then(|| ToldRow {
            last: last.to_row(),
            receiver: *receiver,
            doubt: *doubt,
            sequence: *sequence,
            waiting: waiting.to_row(),
            before: before.to_row(),
        })
    }

    fn from_row(row: Self::Row) -> Self {
        row.map_or_else(Self::default, |row| Self {
            last: NoticeKind::from_row(row.last),
            receiver: row.receiver,
            doubt: row.doubt,
            sequence: row.sequence,
            waiting: Vec::from_row(row.waiting),
            before: BTreeMap::from_row(row.before),
        })
    }
}

words! {
    LifecycleRow for Lifecycle { Registered = "registered", Terminated = "terminated" }
}

const CORDON: &str = "operator:cordon";
const DRAIN: &str = "operator:drain";
const GATE: &str = "gate:admission";
const SHRINK: &str = "drain:shrink";
const INTERRUPTION: &str = "drain:interruption";
const TERMINATING: &str = "drain:terminating";
const INCIDENT: &str = "incident:";
const DRAIN_FOR_INCIDENT: &str = "drain:incident:";
/// Then follow the owner, a slash and the name; neither has a slash.
const NAMED: &str = "named:cordon:";
const NAMED_DRAIN: &str = "named:drain:";

fn named(word: &str) -> Option<HoldKind> {
    let (rest, drains) = match word.strip_prefix(NAMED) {
        Some(rest) => (rest, false),
        None => (word.strip_prefix(NAMED_DRAIN)?, true),
    };
    let (owner, name) = rest.split_once('/')?;
    Some(HoldKind::Named {
        name: name.to_owned(),
        owner: owner.to_owned(),
        drains,
    })
}

/// A hold's kind as one word, so that it can be a key.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct HoldKindRow(HoldKind);

impl Serialize for HoldKindRow {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match &self.0 {
            HoldKind::OperatorCordon => serializer.serialize_str(CORDON),
            HoldKind::OperatorDrain => serializer.serialize_str(DRAIN),
            HoldKind::AdmissionGate => serializer.serialize_str(GATE),
            HoldKind::Drain(DrainCause::Shrink) => serializer.serialize_str(SHRINK),
            HoldKind::Drain(DrainCause::Interruption) => serializer.serialize_str(INTERRUPTION),
            HoldKind::Drain(DrainCause::Terminating) => serializer.serialize_str(TERMINATING),
            HoldKind::Incident(id) => serializer.collect_str(&format_args!("{INCIDENT}{id}")),
            HoldKind::Drain(DrainCause::Incident(id)) => {
                serializer.collect_str(&format_args!("{DRAIN_FOR_INCIDENT}{id}"))
            }
            HoldKind::Named {
                name,
                owner,
                drains,
            } => {
                let prefix = if *drains { NAMED_DRAIN } else { NAMED };
                serializer.collect_str(&format_args!("{prefix}{owner}/{name}"))
            }
        }
    }
}

impl<'de> Deserialize<'de> for HoldKindRow {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let word = String::deserialize(deserializer)?;
        let kind = match word.as_str() {
            CORDON => HoldKind::OperatorCordon,
            DRAIN => HoldKind::OperatorDrain,
            GATE => HoldKind::AdmissionGate,
            SHRINK => HoldKind::Drain(DrainCause::Shrink),
            INTERRUPTION => HoldKind::Drain(DrainCause::Interruption),
            TERMINATING => HoldKind::Drain(DrainCause::Terminating),
            other => {
                if let Some(id) = other.strip_prefix(DRAIN_FOR_INCIDENT) {
                    HoldKind::Drain(DrainCause::Incident(IncidentId::new(id)))
                } else if let Some(id) = other.strip_prefix(INCIDENT) {
                    HoldKind::Incident(IncidentId::new(id))
                } else if let Some(kind) = named(other) {
                    kind
                } else {
                    let message = format!("{word:?} is not a kind of hold");
                    return Err(serde::de::Error::custom(message));
                }
            }
        };
        Ok(Self(kind))
    }
}

impl OnDisk for HoldKind {
    type Row = HoldKindRow;

    fn to_row(&self) -> HoldKindRow {
        HoldKindRow(self.clone())
    }

    fn from_row(row: HoldKindRow) -> Self {
        row.0
    }
}

rows! {
    /// One GPU as its agent describes it.
    GpuRow for Gpu {
        index: i32,
        uuid: String,
        name: String,
        pci_bus_id: String,
        memory_total_bytes: i64,
        driver_version: String,
        cuda_version: String,
    }

    /// What an agent can do.
    CapabilitiesRow for Capabilities {
        full_reports: bool,
        command_results: bool,
        command_push: bool,
    }

    /// What an agent says of its machine.
    DescriptionRow for Description {
        provider: String,
        region: String,
        zone: String,
        instance_type: String,
        gpus: Vec<Gpu>,
        hostname: String,
        internal_ip: String,
        external_ip: String,
        kernel_version: String,
        labels: BTreeMap<String, String>,
        machine_id: String,
        agent_version: String,
        capabilities: Capabilities,
    }

    /// What is on record of a hold.
    HoldRow for Hold {
        reason: String,
        since: Stamp,
        expires: Option<Time>,
        drained: Option<Stamp>,
    }
}

/// A macro for the fields of a node that are in its row, named once.
macro_rules! node_row {
    ($($(#[$attribute:meta])* $field:ident: $type:ty),+ $(,)?) => {
        /// A registered agent, without its description, which is a row of its own.
        #[derive(Debug, Serialize, Deserialize)]
        #[serde(deny_unknown_fields)]
        pub(crate) struct NodeRow {
            $($(#[$attribute])* $field: <$type as OnDisk>::Row),+
        }

        impl NodeRow {
            /// The row of a node.
            pub(crate) fn new(node: &Node) -> Self {
                let Node { description: _, $($field),+ } = node;
                Self { $($field: <$type as OnDisk>::to_row($field)),+ }
            }

            /// The node of a row and its description.
            pub(crate) fn into_node(self, description: Arc<Description>) -> Node {
                Node { description, $($field: <$type as OnDisk>::from_row(self.$field)),+ }
            }
        }
    };
}

node_row! {
    id: NodeId,
    incarnation: u32,
    lifecycle: Lifecycle,
    instance: Option<InstanceId>,
    pool: Option<PoolName>,
    gpus_expected: u32,
    boot: Option<BootId>,
    session: Option<SessionId>,
    report_sequence: u64,
    holds: BTreeMap<HoldKind, Hold>,
    reported: HealthStatus,
    registered: Stamp,
    fresh_since: Stamp,
    silent_since: Option<Stamp>,
    terminated: Option<Stamp>,
    open_incidents: BTreeMap<IncidentId, HealthStatus>,
    address: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    told: Told,
}
