//! Faults of machines that a developer can order, as the agent's debug API takes them.

pub use navarch_gpu::fake::FaultKind;
use serde::{Deserialize, Serialize};

/// A fault to put into a machine. Which fields matter depends on the kind; the agent fills in
/// the usual value for one that is absent and refuses one that makes no sense.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Fault {
    /// What breaks.
    pub kind: FaultKind,
    /// The index of the GPU, counted from 0.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gpu: Option<u32>,
    /// The XID code.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub code: Option<u32>,
    /// The text of the error.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
    /// The temperature in degrees Celsius.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub temperature: Option<i32>,
    /// Correctable (single-bit) memory errors.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sbe: Option<u64>,
    /// Uncorrectable (double-bit) memory errors.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dbe: Option<u64>,
    /// The index of the NVLink, counted from 0.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub link: Option<u32>,
    /// Whether the driver does not even count the GPU any more.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub missing: Option<bool>,
    /// Whether no memory row is left to remap to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failed: Option<bool>,
    /// NVML's number of the driver's recovery action.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub action: Option<u32>,
}

impl Fault {
    /// A fault of `kind` with every value left to the agent.
    pub fn new(kind: FaultKind) -> Self {
        Self {
            kind,
            gpu: None,
            code: None,
            message: None,
            temperature: None,
            sbe: None,
            dbe: None,
            link: None,
            missing: None,
            failed: None,
            action: None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The agent reads what we send as a fault of its GPUs; both sides must use the same words.
    #[test]
    fn agents_understand_every_fault() {
        for kind in FaultKind::ALL {
            let mut fault = Fault::new(kind);
            fault.message = Some("injected".to_owned());
            match kind {
                FaultKind::Xid => (fault.gpu, fault.code) = (Some(3), Some(79)),
                FaultKind::Thermal => fault.temperature = Some(97),
                FaultKind::Memory => (fault.sbe, fault.dbe) = (Some(1), Some(2)),
                FaultKind::Nvlink => fault.link = Some(4),
                FaultKind::DeviceError => fault.missing = Some(true),
                FaultKind::RowRemap => fault.failed = Some(true),
                FaultKind::RecoveryAction => fault.action = Some(4),
                FaultKind::Pcie | FaultKind::Power => fault.gpu = Some(2),
                FaultKind::BackendError | FaultKind::BootFailure => {}
            }
            let sent = serde_json::to_value(&fault).expect("plain data");
            let understood: navarch_gpu::fake::Fault =
                serde_json::from_value(sent.clone()).expect("understood");
            let mut back = serde_json::to_value(&understood).expect("plain data");
            assert_eq!(understood.kind(), kind);
            let back = back.as_object_mut().expect("an object");
            back.retain(|field, _| sent.get(field).is_some());
            assert_eq!(Some(&*back), sent.as_object());
        }
    }
}
