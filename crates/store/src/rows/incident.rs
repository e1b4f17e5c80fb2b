//! Rows of incidents.

use std::collections::BTreeMap;
use std::time::Duration;

use navarch_model::{
    BootId, Check, Ending, Evidence, FaultKey, FaultKind, HealthEventType, HealthStatus,
    HealthWatchSystem, Incident, IncidentId, NodeId, PoolName, Repair, Stamp,
};
use serde::{Deserialize, Serialize};

use super::{OnDisk, rows, words};

words! {
    FaultKindRow for FaultKind { Condition = "condition", Latched = "latched" }

    RepairRow for Repair {
        None = "none",
        RestartApp = "restart_app",
        ResetGpu = "reset_gpu",
        Reboot = "reboot",
        Replace = "replace",
    }
}

/// How an incident ended.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub(crate) enum EndingRow {
    /// Healthy reports.
    Recovered,
    /// A proven repair.
    Repaired {
        /// The rung.
        proof: RepairRow,
    },
    /// The rule's time passed.
    Expired,
    /// An operator.
    Operator {
        /// The operator's words.
        reason: String,
    },
    /// Another policy.
    PolicyChanged,
    /// The machine is gone.
    NodeTerminated,
    /// Another host.
    HostReplaced,
}

impl OnDisk for Ending {
    type Row = EndingRow;

    fn to_row(&self) -> EndingRow {
        match self {
            Self::Recovered => EndingRow::Recovered,
            Self::Repaired { proof } => EndingRow::Repaired {
                proof: proof.to_row(),
            },
            Self::Expired => EndingRow::Expired,
            Self::Operator { reason } => EndingRow::Operator {
                reason: reason.clone(),
            },
            Self::PolicyChanged => EndingRow::PolicyChanged,
            Self::NodeTerminated => EndingRow::NodeTerminated,
            Self::HostReplaced => EndingRow::HostReplaced,
        }
    }

    fn from_row(row: EndingRow) -> Self {
        match row {
            EndingRow::Recovered => Self::Recovered,
            EndingRow::Repaired { proof } => Self::Repaired {
                proof: Repair::from_row(proof),
            },
            EndingRow::Expired => Self::Expired,
            EndingRow::Operator { reason } => Self::Operator { reason },
            EndingRow::PolicyChanged => Self::PolicyChanged,
            EndingRow::NodeTerminated => Self::NodeTerminated,
            EndingRow::HostReplaced => Self::HostReplaced,
        }
    }
}

rows! {
    /// What an incident is about.
    FaultKeyRow for FaultKey {
        node: NodeId,
        gpu: Option<i32>,
        class: String,
    }

    /// The check that raised it.
    CheckRow for Check {
        rule: String,
        watch: String,
        gpu: Option<i32>,
    }

    /// One fact that speaks for it.
    EvidenceRow for Evidence {
        at: Stamp,
        happened: i64,
        event_type: HealthEventType,
        system: HealthWatchSystem,
        metrics: BTreeMap<String, String>,
        message: String,
        boot: Option<BootId>,
    }

    /// A fault and what is done about it.
    IncidentRow for Incident {
        id: IncidentId,
        key: FaultKey,
        pool: Option<PoolName>,
        kind: FaultKind,
        severity: HealthStatus,
        check: Check,
        citation: String,
        required: Repair,
        opened: Stamp,
        #[serde(default)]
        hit: Option<Stamp>,
        last_evidence: Stamp,
        evidence: Vec<Evidence>,
        evidence_count: u64,
        unhealthy_reports: u32,
        healthy_reports: u32,
        repaired: Option<(Stamp, Repair)>,
        flapping: bool,
        confirmed: bool,
        clear_after: Option<Duration>,
        closed: Option<(Stamp, Ending)>,
    }
}
