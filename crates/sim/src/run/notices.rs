//! Which of the failures that were injected a conclusion of the control plane is about.
//!
//! An incident is held against what was broken by the watch that raised it, by the GPU, the XID and
//! the time of its evidence. Nothing here judges whether the conclusion is right.

use navarch_config::scenario::FailureKind;
use navarch_core::fleet::{SILENCE, STALE_REPORTS};
use navarch_model::{Evidence, HealthEventType, Incident};

use crate::record::Injection;

/// Whether an incident is about a failure.
pub(super) fn is_about(incident: &Incident, injection: &Injection) -> bool {
    if [SILENCE, STALE_REPORTS].contains(&incident.key.class.as_str()) {
        return is_silent(injection);
    }
    let (gpu, own) = (incident.check.gpu, injection.gpu);
    let other_gpu = gpu.is_some_and(|gpu| own.is_some_and(|own| i64::from(own) != i64::from(gpu)));
    if other_gpu {
        return false;
    }
    let latest = incident.evidence.len().saturating_sub(1);
    let mut evidence = incident.evidence.iter().enumerate();
    evidence.any(|(place, one)| shows(incident, one, place == latest, injection))
}

/// Whether a failure keeps its node from being heard.
fn is_silent(injection: &Injection) -> bool {
    match injection.kind {
        FailureKind::Network => injection.ended.is_none(),
        FailureKind::MachineHang
        | FailureKind::MachineStop
        | FailureKind::MachineVanish
        | FailureKind::SpotInterruption => true,
        _ => false,
    }
}

/// Whether a fact shows a failure: what a reading finds is there at its time, and an XID is no
/// older than the failure. The latest fact may stand for several, of which the first has its time.
fn shows(incident: &Incident, fact: &Evidence, latest: bool, injection: &Injection) -> bool {
    let begun = fact.happened >= injection.at.0;
    let over = injection.ended.is_some_and(|ended| fact.happened > ended.0);
    let reads = |kinds: &[FailureKind]| begun && !over && kinds.contains(&injection.kind);
    match fact.event_type {
        HealthEventType::Xid => {
            let code = fact.metrics.get("xid_code");
            let code = code.and_then(|code| code.parse().ok());
            (begun || latest) && code.is_some() && code == injection.xid
        }
        HealthEventType::Thermal => reads(&[FailureKind::Temperature, FailureKind::ThermalRamp]),
        HealthEventType::EccDbe => reads(&[FailureKind::Memory]),
        HealthEventType::Memory => reads(&[FailureKind::RowRemap, FailureKind::RowRemapFailed]),
        HealthEventType::Nvlink => reads(&[FailureKind::Nvlink]),
        HealthEventType::Pcie => reads(&[FailureKind::Pcie]),
        HealthEventType::Power => reads(&[FailureKind::Power]),
        HealthEventType::DriverError if incident.check.gpu.is_some() => {
            reads(&[FailureKind::Device])
        }
        HealthEventType::DriverError => reads(&[
            FailureKind::Nvml,
            FailureKind::Backend,
            FailureKind::DriverHang,
        ]),
        _ if incident.check.watch == "device_count" => {
            reads(&[FailureKind::GpuLost, FailureKind::Boot])
        }
        _ => false,
    }
}
