//! Faults of machines that a developer can order, as the agent's debug API takes them.

use serde::{Deserialize, Serialize};

/// The kinds of fault that an agent with fake GPUs can show.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum FaultKind {
    /// An XID error in the kernel log.
    Xid,
    /// A GPU that is too hot.
    Thermal,
    /// Memory errors.
    Memory,
    /// A broken NVLink.
    Nvlink,
    /// The GPU library fails as a whole.
    BackendError,
    /// The GPU library fails for one GPU.
    DeviceError,
    /// The GPUs do not come up at boot.
    BootFailure,
}

impl FaultKind {
    /// Every kind.
    pub const ALL: [Self; 7] = [
        Self::Xid,
        Self::Thermal,
        Self::Memory,
        Self::Nvlink,
        Self::BackendError,
        Self::DeviceError,
        Self::BootFailure,
    ];

    /// The word in paths and on command lines.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Xid => "xid",
            Self::Thermal => "thermal",
            Self::Memory => "memory",
            Self::Nvlink => "nvlink",
            Self::BackendError => "backend-error",
            Self::DeviceError => "device-error",
            Self::BootFailure => "boot-failure",
        }
    }

    /// The kind for a word; `_` counts as `-`.
    pub fn from_word(word: &str) -> Option<Self> {
        let word = word.replace('_', "-");
        Self::ALL.into_iter().find(|kind| kind.word() == word)
    }
}

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
                FaultKind::BackendError | FaultKind::BootFailure => {}
            }
            let sent = serde_json::to_value(&fault).expect("plain data");
            let understood: navarch_gpu::fake::Fault =
                serde_json::from_value(sent.clone()).expect("understood");
            let mut back = serde_json::to_value(&understood).expect("plain data");
            assert_eq!(understood.kind().name(), kind.word());
            let back = back.as_object_mut().expect("an object");
            back.retain(|field, _| sent.get(field).is_some());
            assert_eq!(Some(&*back), sent.as_object());
            assert_eq!(FaultKind::from_word(kind.word()), Some(kind));
        }
        let theirs = navarch_gpu::fake::FaultKind::ALL.len();
        assert_eq!(theirs, FaultKind::ALL.len(), "the agent knows another kind");
    }
}
