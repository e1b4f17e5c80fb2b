//! The node status, derived from the axes and never stored.

use crate::{HealthStatus, HoldKind, Lifecycle, Node, NodeStatus};

/// What the status depends on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Axes {
    /// Whether the node may come back.
    pub lifecycle: Lifecycle,
    /// Whether an incident of severity unhealthy is open.
    pub unhealthy_incident: bool,
    /// Whether a hold that drains stands.
    pub drain_hold: bool,
    /// Whether any other hold stands.
    pub other_hold: bool,
}

impl Axes {
    /// TERMINATED before UNHEALTHY before DRAINING before CORDONED before ACTIVE.
    pub const fn status(self) -> NodeStatus {
        match self {
            Self {
                lifecycle: Lifecycle::Terminated,
                ..
            } => NodeStatus::Terminated,
            Self {
                unhealthy_incident: true,
                ..
            } => NodeStatus::Unhealthy,
            Self {
                drain_hold: true, ..
            } => NodeStatus::Draining,
            Self {
                other_hold: true, ..
            } => NodeStatus::Cordoned,
            _ => NodeStatus::Active,
        }
    }
}

impl Node {
    /// What the status depends on.
    pub fn axes(&self) -> Axes {
        Axes {
            lifecycle: self.lifecycle,
            unhealthy_incident: self
                .open_incidents
                .values()
                .any(|severity| *severity == HealthStatus::Unhealthy),
            drain_hold: self.holds.keys().any(HoldKind::drains),
            other_hold: self.holds.keys().any(|kind| !kind.drains()),
        }
    }

    /// What the control plane concludes about the node.
    pub fn status(&self) -> NodeStatus {
        self.axes().status()
    }

    /// The worst of the last full report and the open incidents.
    pub fn health(&self) -> HealthStatus {
        self.open_incidents
            .values()
            .copied()
            .fold(self.reported, HealthStatus::max)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn status_over_all_axes_is_the_table_written_by_hand() {
        use Lifecycle::{Registered, Terminated};
        // lifecycle, unhealthy incident, drain hold, other hold, status
        let table = [
            (Registered, false, false, false, "active"),
            (Registered, false, false, true, "cordoned"),
            (Registered, false, true, false, "draining"),
            (Registered, false, true, true, "draining"),
            (Registered, true, false, false, "unhealthy"),
            (Registered, true, false, true, "unhealthy"),
            (Registered, true, true, false, "unhealthy"),
            (Registered, true, true, true, "unhealthy"),
            (Terminated, false, false, false, "terminated"),
            (Terminated, false, false, true, "terminated"),
            (Terminated, false, true, false, "terminated"),
            (Terminated, false, true, true, "terminated"),
            (Terminated, true, false, false, "terminated"),
            (Terminated, true, false, true, "terminated"),
            (Terminated, true, true, false, "terminated"),
            (Terminated, true, true, true, "terminated"),
        ];
        for (lifecycle, unhealthy_incident, drain_hold, other_hold, status) in table {
            let axes = Axes {
                lifecycle,
                unhealthy_incident,
                drain_hold,
                other_hold,
            };
            assert_eq!(axes.status().short(), status, "{axes:?}");
        }
    }
}
