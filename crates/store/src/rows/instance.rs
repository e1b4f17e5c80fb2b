//! Rows of instances and of machines that nobody claims.

use std::collections::BTreeMap;

use navarch_model::{
    CapacityKind, CloudStatus, EndCause, IncidentId, Instance, InstanceId, Interruption,
    LaunchCause, NodeId, Offering, Phase, PoolName, ProviderInstanceId, ProviderName, Sighting,
    Stamp, Time, Unclaimed,
};
use serde::{Deserialize, Serialize};

use super::{OnDisk, rows, words};

words! {
    PhaseRow for Phase {
        Requested = "requested",
        Launching = "launching",
        OutcomeUnknown = "outcome_unknown",
        PendingRegistration = "pending_registration",
        Running = "running",
        Terminating = "terminating",
        Terminated = "terminated",
        Failed = "failed",
    }

    CapacityKindRow for CapacityKind {
        OnDemand = "on_demand",
        Spot = "spot",
    }

    CloudStatusRow for CloudStatus {
        Running = "running",
        Stopped = "stopped",
        Impaired = "impaired",
        Terminating = "terminating",
        Terminated = "terminated",
        NotFound = "not_found",
    }
}

/// Why an instance was asked for.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub(crate) enum LaunchCauseRow {
    /// The pool was too small.
    Grow,
    /// It takes another's place.
    Replace {
        /// The other.
        instance: InstanceId,
    },
    /// It was found.
    Adopted,
}

impl OnDisk for LaunchCause {
    type Row = LaunchCauseRow;

    fn to_row(&self) -> LaunchCauseRow {
        match self {
            Self::Grow => LaunchCauseRow::Grow,
            Self::Replace { instance } => LaunchCauseRow::Replace {
                instance: instance.clone(),
            },
            Self::Adopted => LaunchCauseRow::Adopted,
        }
    }

    fn from_row(row: LaunchCauseRow) -> Self {
        match row {
            LaunchCauseRow::Grow => Self::Grow,
            LaunchCauseRow::Replace { instance } => Self::Replace { instance },
            LaunchCauseRow::Adopted => Self::Adopted,
        }
    }
}

/// Why an instance goes.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub(crate) enum EndCauseRow {
    /// An incident.
    Repair {
        /// Which.
        incident: IncidentId,
    },
    /// The pool was too large.
    Shrink,
    /// An operator.
    Operator,
    /// No registration in time.
    NeverRegistered,
    /// No answer to the launch.
    LaunchAbandoned,
    /// The launch was refused.
    LaunchRefused,
    /// Another offering was asked.
    Moved,
    /// The cloud took it.
    Vanished,
    /// The cloud said that it takes it back.
    Interruption,
}

impl OnDisk for EndCause {
    type Row = EndCauseRow;

    fn to_row(&self) -> EndCauseRow {
        match self {
            Self::Repair { incident } => EndCauseRow::Repair {
                incident: incident.clone(),
            },
            Self::Shrink => EndCauseRow::Shrink,
            Self::Operator => EndCauseRow::Operator,
            Self::NeverRegistered => EndCauseRow::NeverRegistered,
            Self::LaunchAbandoned => EndCauseRow::LaunchAbandoned,
            Self::LaunchRefused => EndCauseRow::LaunchRefused,
            Self::Moved => EndCauseRow::Moved,
            Self::Vanished => EndCauseRow::Vanished,
            Self::Interruption => EndCauseRow::Interruption,
        }
    }

    fn from_row(row: EndCauseRow) -> Self {
        match row {
            EndCauseRow::Repair { incident } => Self::Repair { incident },
            EndCauseRow::Shrink => Self::Shrink,
            EndCauseRow::Operator => Self::Operator,
            EndCauseRow::NeverRegistered => Self::NeverRegistered,
            EndCauseRow::LaunchAbandoned => Self::LaunchAbandoned,
            EndCauseRow::LaunchRefused => Self::LaunchRefused,
            EndCauseRow::Moved => Self::Moved,
            EndCauseRow::Vanished => Self::Vanished,
            EndCauseRow::Interruption => Self::Interruption,
        }
    }
}

rows! {
    /// What can be bought.
    OfferingRow for Offering {
        provider: ProviderName,
        region: String,
        zone: String,
        instance_type: String,
        #[serde(default = "on_demand")]
        capacity: CapacityKind,
    }

    /// What a look at the cloud said, and when.
    SightingRow for Sighting {
        status: CloudStatus,
        at: Stamp,
        in_a_row: u32,
    }

    /// A notice of the cloud that it takes a machine back.
    InterruptionRow for Interruption {
        seen: Stamp,
        at: Stamp,
    }

    /// One attempt to have a machine.
    InstanceRow for Instance {
        id: InstanceId,
        pool: PoolName,
        offering: Offering,
        labels: BTreeMap<String, String>,
        phase: Phase,
        phase_since: Stamp,
        created: Stamp,
        ready: Option<Stamp>,
        ended: Option<Stamp>,
        provider_id: Option<ProviderInstanceId>,
        node: Option<NodeId>,
        cause: LaunchCause,
        end: Option<EndCause>,
        attempt: u32,
        launches: u32,
        retry_at: Option<Time>,
        failures: u32,
        launch_deadline: Option<Time>,
        clean: bool,
        #[serde(default = "doubted")]
        doubted: bool,
        absent_listings: u32,
        was_active: bool,
        active_since: Option<Stamp>,
        sighting: Option<Sighting>,
        #[serde(default)]
        interruption: Option<Interruption>,
        message: String,
    }

    /// A machine with our fleet id that the store does not know.
    UnclaimedRow for Unclaimed {
        provider: ProviderName,
        provider_id: ProviderInstanceId,
        instance: Option<InstanceId>,
        first_seen: Stamp,
        sightings: u32,
    }
}

/// Before there were kinds, every machine was rented on demand.
const fn on_demand() -> CapacityKindRow {
    CapacityKindRow::OnDemand
}

/// Rows of old databases do not say: what is not known is doubted.
const fn doubted() -> bool {
    true
}
