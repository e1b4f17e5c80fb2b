//! Rows of the fleet as a whole: what it knows of itself, pools, events, commands.

use std::collections::BTreeMap;

use navarch_model::{
    AskedBy, AskedSize, Automation, AutomationSetting, Breaker, Command, CommandId, CommandState,
    Event, EventKind, FleetId, IncidentId, InstanceId, LastRepair, Meta, NodeCommandType, NodeId,
    OfferingMemory, Pool, PoolName, ProviderErrorKind, Stamp, Subject, Time,
};
use serde::{Deserialize, Serialize};

use super::{OnDisk, rows, words};

/// The part of [`Meta`] that commits set. The fleet's id and the epoch are columns, for the store
/// itself guards them.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct MetaRow {
    core_time: i64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    resumed: Option<i64>,
    last_event: u64,
    automation: AutomationSettingRow,
}

impl MetaRow {
    /// The row of what a fleet knows of itself.
    pub(crate) fn new(meta: &Meta) -> Self {
        let Meta {
            fleet: _,
            core_time,
            resumed,
            epoch: _,
            last_event,
            automation,
        } = meta;
        Self {
            core_time: core_time.to_row(),
            resumed: resumed.as_ref().map(Time::to_row),
            last_event: *last_event,
            automation: automation.to_row(),
        }
    }

    /// What a fleet knows of itself.
    pub(crate) fn into_meta(self, fleet: FleetId, epoch: u64) -> Meta {
        Meta {
            fleet,
            core_time: Time::from_row(self.core_time),
            resumed: self.resumed.map(Time::from_row),
            epoch,
            last_event: self.last_event,
            automation: AutomationSetting::from_row(self.automation),
        }
    }
}

words! {
    AutomationRow for Automation { Off = "off", Observe = "observe", On = "on" }

    AskedByRow for AskedBy { Operator = "operator", Autoscaler = "autoscaler" }

    ProviderErrorKindRow for ProviderErrorKind {
        Capacity = "capacity",
        Quota = "quota",
        Auth = "auth",
        Configuration = "configuration",
        RateLimit = "rate_limit",
        Transient = "transient",
        NotFound = "not_found",
        OutcomeUnknown = "outcome_unknown",
    }

    CommandStateRow for CommandState {
        Pending = "pending",
        Delivered = "delivered",
        Succeeded = "succeeded",
        Failed = "failed",
        Expired = "expired",
        Unconfirmed = "unconfirmed",
    }
}

rows! {
    /// A mode and who chose it.
    AutomationSettingRow for AutomationSetting {
        mode: Automation,
        reason: String,
        since: Option<Stamp>,
    }

    /// A guard that stops one kind of action after trouble.
    BreakerRow for Breaker {
        opened: Option<Stamp>,
        probe_at: Option<Time>,
        trips: u32,
        failures: u32,
        probe: Option<String>,
        #[serde(default)]
        fleet: bool,
        #[serde(default)]
        reset: Option<Stamp>,
    }

    /// What a pool remembers of buying one offering.
    OfferingMemoryRow for OfferingMemory {
        breaker: Breaker,
        proven: bool,
        refusals: u32,
        retry_at: Option<Time>,
        last_refusal: String,
        #[serde(default)]
        refused: Option<ProviderErrorKind>,
    }

    /// The last replacement for one signature.
    LastRepairRow for LastRepair {
        at: Stamp,
        instance: InstanceId,
    }

    /// The size that was asked for.
    AskedSizeRow for AskedSize {
        nodes: u32,
        by: AskedBy,
        reason: String,
        at: Stamp,
        raised: Option<Stamp>,
        lowered: Option<Stamp>,
    }

    /// What a pool remembers.
    PoolRow for Pool {
        name: PoolName,
        automation: Option<AutomationSetting>,
        #[serde(default)]
        asked: Option<AskedSize>,
        offerings: BTreeMap<String, OfferingMemory>,
        repair_breakers: BTreeMap<String, Breaker>,
        last_repairs: BTreeMap<String, LastRepair>,
    }

    /// What an event is about.
    SubjectRow for Subject {
        #[serde(default, skip_serializing_if = "Option::is_none")]
        pool: Option<PoolName>,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        instance: Option<InstanceId>,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        node: Option<NodeId>,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        incident: Option<IncidentId>,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        command: Option<CommandId>,
    }

    /// One entry of the record.
    EventRow for Event {
        sequence: u64,
        at: Stamp,
        last: Stamp,
        count: u32,
        kind: EventKind,
        subject: Subject,
        message: String,
        details: BTreeMap<String, String>,
    }

    /// A command for one node.
    CommandRow for Command {
        id: CommandId,
        node: NodeId,
        kind: NodeCommandType,
        parameters: BTreeMap<String, String>,
        issued: Stamp,
        expires: Time,
        state: CommandState,
        changed: Stamp,
        result: String,
    }
}
