//! What NVIDIA says an error code asks for, and what the driver itself says.
//!
//! Three sources, in this order: the driver's own recovery action, the decoded detail of the error
//! (XIDs 144 to 150), the row of the catalogue. Every answer can say which of them it is.

pub mod driver;
pub mod nvlink5;
pub mod sxid;
mod xid;

use std::borrow::Cow;
use std::fmt;

use navarch_model::Repair;

pub use driver::RecoveryAction;
use nvlink5::{Decoded, Meaning};

/// What the catalogue wants done at once, in NVIDIA's terms.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Bucket {
    /// Nothing.
    Ignore,
    /// The application starts again.
    RestartApp,
    /// The GPU is reset.
    ResetGpu,
    /// The virtual machine starts again.
    RestartVm,
    /// The bare machine starts again.
    RestartBm,
    /// Somebody looks at cables and seats.
    CheckMechanicals,
    /// NVIDIA or the vendor is asked.
    ContactSupport,
    /// Driver or firmware is updated.
    UpdateSwFw,
    /// A reset if unified memory is in use, as CUDA programs do, else nothing.
    CheckUvm,
    /// A follow-on of another error; alone it is the application or the fabric manager.
    WorkflowXid45,
    /// Drain and reset, with diagnostics if no row was remapped.
    WorkflowXid48,
    /// The registers of an NVLink error decide.
    WorkflowNvlink,
    /// The decoded words of an NVLink error decide.
    WorkflowNvlink5,
    /// The driver's recovery action decides.
    Xid154,
    /// The catalogue does not say.
    Unpublished,
}

impl Bucket {
    /// NVIDIA's word.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Ignore => "IGNORE",
            Self::RestartApp => "RESTART_APP",
            Self::ResetGpu => "RESET_GPU",
            Self::RestartVm => "RESTART_VM",
            Self::RestartBm => "RESTART_BM",
            Self::CheckMechanicals => "CHECK_MECHANICALS",
            Self::ContactSupport => "CONTACT_SUPPORT",
            Self::UpdateSwFw => "UPDATE_SWFW",
            Self::CheckUvm => "CHECK_UVM",
            Self::WorkflowXid45 => "WORKFLOW_XID_45",
            Self::WorkflowXid48 => "WORKFLOW_XID_48",
            Self::WorkflowNvlink => "WORKFLOW_NVLINK_ERR",
            Self::WorkflowNvlink5 => "WORKFLOW_NVLINK5_ERR",
            Self::Xid154 => "XID_154",
            Self::Unpublished => "not published",
        }
    }

    /// The rung of our ladder; none where the bucket names no repair that a control plane can make.
    pub const fn repair(self) -> Option<Repair> {
        match self {
            Self::Ignore => Some(Repair::None),
            Self::RestartApp | Self::WorkflowXid45 => Some(Repair::RestartApp),
            Self::ResetGpu | Self::CheckUvm | Self::WorkflowXid48 | Self::WorkflowNvlink => {
                Some(Repair::ResetGpu)
            }
            Self::RestartVm | Self::RestartBm => Some(Repair::Reboot),
            // Nobody can walk to a rented machine.
            Self::CheckMechanicals => Some(Repair::Replace),
            Self::ContactSupport
            | Self::UpdateSwFw
            | Self::WorkflowNvlink5
            | Self::Xid154
            | Self::Unpublished => None,
        }
    }
}

/// One row of NVIDIA's XID catalogue.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Xid {
    /// The code.
    pub code: u16,
    /// NVIDIA's name.
    pub mnemonic: &'static str,
    /// What it means, in our words.
    pub name: &'static str,
    /// What to do at once.
    pub immediate: Bucket,
    /// What to look into afterwards, in NVIDIA's words; empty if nothing is published.
    pub investigatory: &'static str,
    /// The GPUs that raise it: A for A100, H for H100, B for B100, G for GB200.
    pub gpus: &'static str,
    /// Whether recent drivers follow it with their recovery action, XID 154.
    pub raises_recovery_action: bool,
    /// Whether any of these GPUs still raises it.
    pub in_use: bool,
}

/// Where the rows of [`xid`] come from.
pub const XID_SOURCE: &str = "NVIDIA XID catalogue";

/// The XID that reports the driver's recovery action.
const RECOVERY_ACTION_XID: u32 = 154;

/// The XID whose detail 171 and 172 give; they share its row.
const DOUBLE_BIT_XID: u32 = 48;

/// Every row, by code.
pub fn xids() -> &'static [Xid] {
    &xid::ROWS
}

/// The row of a code.
pub fn xid(code: u32) -> Option<&'static Xid> {
    let at = usize::try_from(code).ok()?.checked_sub(1)?;
    xid::ROWS.get(at)
}

/// What a code means, in words: `GPU fell off the bus`, `Unknown XID error 999`.
pub fn xid_text(code: u32) -> Cow<'static, str> {
    match xid(code) {
        Some(row) => Cow::Borrowed(row.name),
        None => Cow::Owned(format!("Unknown XID error {code}")),
    }
}

/// What is known about an error besides its code.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Facts<'a> {
    /// The driver's recovery action, read from NVML.
    pub recovery_action: Option<RecoveryAction>,
    /// The interrupt information of an NVLink error.
    pub intr_info: Option<u32>,
    /// The error status of an NVLink error.
    pub error_status: Option<u32>,
    /// The driver's major version.
    pub driver_branch: Option<u32>,
    /// Whether the kernel's words call an NVSwitch error fatal.
    pub switch_fatal: Option<bool>,
    /// The kernel's words.
    pub message: &'a str,
}

/// Who says what an error asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cite {
    /// The driver's recovery action, read from NVML.
    Driver(RecoveryAction),
    /// The driver's recovery action, in the words of XID 154.
    DriverMessage(RecoveryAction),
    /// The decoded words of an NVLink error.
    Decoded(u32, Decoded),
    /// The word "Fatal" in an NVLink error that the table does not decode.
    SaysFatal(u32),
    /// The row of the catalogue.
    Row(&'static Xid),
    /// The row of XID 48, which this code gives the detail of.
    Detail(&'static Xid),
    /// The catalogue has no such code.
    UnknownXid(u32),
    /// The row of an NVSwitch error.
    Switch(sxid::Sxid),
    /// The guide has no such NVSwitch error.
    UnknownSxid(u32),
}

impl fmt::Display for Cite {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Driver(action) => write!(f, "driver's recovery action: {}", action.phrase()),
            Self::DriverMessage(action) => {
                write!(f, "XID 154: driver's recovery action: {}", action.phrase())
            }
            Self::Decoded(code, decoded) => write!(
                f,
                "XID {code}: {XID_SOURCE}, NVLink5 unit {}, {}",
                decoded.unit,
                decoded.meaning.word()
            ),
            Self::SaysFatal(code) => write!(f, "XID {code}: the driver's words call it fatal"),
            Self::Row(row) if !row.in_use => {
                write!(f, "XID {}: {XID_SOURCE}, a code no longer in use", row.code)
            }
            Self::Row(row) => write!(
                f,
                "XID {}: {XID_SOURCE}, immediate action {}",
                row.code,
                row.immediate.word()
            ),
            Self::Detail(row) => write!(
                f,
                "XID {}: {XID_SOURCE}, detail of XID {DOUBLE_BIT_XID}",
                row.code
            ),
            Self::UnknownXid(code) => write!(f, "Unknown XID error {code}"),
            Self::Switch(row) => write!(
                f,
                "SXID {}: NVIDIA Fabric Manager guide, {}",
                row.code,
                row.severity.phrase()
            ),
            Self::UnknownSxid(code) => write!(f, "Unknown SXID error {code}"),
        }
    }
}

/// What an error asks for, and who says so.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Advice {
    /// The rung; none where nobody names one.
    pub repair: Option<Repair>,
    /// Who says so.
    pub cite: Cite,
}

impl Advice {
    /// The word for policies where nobody names a rung.
    pub const UNKNOWN: &'static str = "unknown";

    /// Every word for policies.
    pub const WORDS: [&'static str; 6] = [
        Repair::None.word(),
        Repair::RestartApp.word(),
        Repair::ResetGpu.word(),
        Repair::Reboot.word(),
        Repair::Replace.word(),
        Self::UNKNOWN,
    ];

    /// The word for policies: a rung, or `unknown`.
    pub fn word(&self) -> &'static str {
        self.repair.map_or(Self::UNKNOWN, Repair::word)
    }
}

/// What the driver's own recovery action asks for; none if it was not read.
pub fn advise_driver(facts: &Facts<'_>) -> Option<Advice> {
    let action = facts.recovery_action?;
    Some(Advice {
        repair: Some(action.repair()),
        cite: Cite::Driver(action),
    })
}

/// What an XID asks for. The driver's own recovery action wins over the decoded detail, which wins
/// over the table.
pub fn advise(code: u32, facts: &Facts<'_>) -> Advice {
    if let Some(advice) = advise_driver(facts) {
        return advice;
    }
    let Some(row) = xid(code) else {
        return Advice {
            repair: None,
            cite: Cite::UnknownXid(code),
        };
    };
    if code == RECOVERY_ACTION_XID
        && let Some(action) = RecoveryAction::from_message(facts.message)
    {
        return Advice {
            repair: Some(action.repair()),
            cite: Cite::DriverMessage(action),
        };
    }
    if row.immediate == Bucket::WorkflowNvlink5 {
        return advise_nvlink5(row, facts);
    }
    if matches!(code, 171 | 172) {
        return Advice {
            repair: Bucket::WorkflowXid48.repair(),
            cite: Cite::Detail(row),
        };
    }
    Advice {
        repair: row.immediate.repair(),
        cite: Cite::Row(row),
    }
}

/// The rung that an XID asks for; [`Repair::None`] also where nobody names one.
pub fn repair(code: u32, facts: &Facts<'_>) -> Repair {
    advise(code, facts).repair.unwrap_or_default()
}

/// What an NVSwitch error asks for.
pub fn advise_sxid(code: u32, facts: &Facts<'_>) -> Advice {
    if let Some(advice) = advise_driver(facts) {
        return advice;
    }
    match sxid::sxid(code) {
        Some(row) => Advice {
            repair: Some(row.severity.repair()),
            cite: Cite::Switch(row),
        },
        None => Advice {
            repair: (facts.switch_fatal == Some(true)).then_some(Repair::ResetGpu),
            cite: Cite::UnknownSxid(code),
        },
    }
}

fn advise_nvlink5(row: &'static Xid, facts: &Facts<'_>) -> Advice {
    let code = u32::from(row.code);
    let words = match facts.intr_info {
        Some(info) => Some((info, facts.error_status)),
        None => nvlink5::words(facts.message),
    };
    let decoded = words.and_then(|(info, status)| {
        nvlink5::decode(row.code, info, status, facts.driver_branch, facts.message)
    });
    if let Some(decoded) = decoded {
        let repair = match decoded.meaning {
            Meaning::Ignore => Some(Repair::None),
            Meaning::AskDriver => None,
            Meaning::ResetGpu => Some(Repair::ResetGpu),
        };
        return Advice {
            repair,
            cite: Cite::Decoded(code, decoded),
        };
    }
    if nvlink5::says_fatal(facts.message) == Some(true) {
        return Advice {
            repair: Some(Repair::ResetGpu),
            cite: Cite::SaysFatal(code),
        };
    }
    Advice {
        repair: None,
        cite: Cite::Row(row),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_stand_at_their_code() {
        for (at, row) in xids().iter().enumerate() {
            assert_eq!(usize::from(row.code), at + 1);
            assert!(!row.name.is_empty() && !row.mnemonic.is_empty(), "{row:?}");
            assert_eq!(
                row.in_use,
                row.gpus.len() + usize::from(matches!(row.code, 152 | 153)) > 0
            );
        }
        assert_eq!(xids().iter().filter(|row| row.in_use).count(), 111);
        assert!(xid(0).is_none() && xid(173).is_none() && xid(u32::MAX).is_none());
    }

    #[test]
    fn unknown_codes_have_a_text() {
        assert_eq!(xid_text(79), "GPU fell off the bus");
        assert_eq!(xid_text(999), "Unknown XID error 999");
    }

    #[test]
    fn precedence_is_driver_then_detail_then_table() {
        let fatal_link = "RLW_REMAP Fatal XC0 i0 Link 00 (0x00000004 0x00000040 0x00000000)";
        let ignored_link = "RLW_REMAP Nonfatal XC0 i0 Link 00 (0x00000004 0x00000100 0x00000000)";
        let reboot = Facts {
            recovery_action: Some(RecoveryAction::NodeReboot),
            ..Facts::default()
        };
        let nothing = Facts {
            recovery_action: Some(RecoveryAction::None),
            ..Facts::default()
        };
        let says = |message| Facts {
            message,
            ..Facts::default()
        };
        let cases: &[(u32, Facts<'_>, Option<Repair>, &str)] = &[
            (
                79,
                Facts::default(),
                Some(Repair::Reboot),
                "XID 79: NVIDIA XID catalogue, immediate action RESTART_BM",
            ),
            (
                13,
                reboot,
                Some(Repair::Reboot),
                "driver's recovery action: node reboot",
            ),
            (
                79,
                nothing,
                Some(Repair::None),
                "driver's recovery action: none",
            ),
            (
                145,
                says(fatal_link),
                Some(Repair::ResetGpu),
                "XID 145: NVIDIA XID catalogue, NVLink5 unit RLW_REMAP, RESET_GPU",
            ),
            (
                145,
                says(ignored_link),
                Some(Repair::None),
                "XID 145: NVIDIA XID catalogue, NVLink5 unit RLW_REMAP, IGNORE",
            ),
            (
                145,
                Facts {
                    message: fatal_link,
                    ..nothing
                },
                Some(Repair::None),
                "driver's recovery action: none",
            ),
            (
                149,
                says("NETIR_LINK_EVT Fatal"),
                Some(Repair::ResetGpu),
                "XID 149: the driver's words call it fatal",
            ),
            (
                149,
                says(""),
                None,
                "XID 149: NVIDIA XID catalogue, immediate action WORKFLOW_NVLINK5_ERR",
            ),
            (
                154,
                says("GPU recovery action changed from 0x0 (None) to 0x2 (OS Reboot)"),
                Some(Repair::Reboot),
                "XID 154: driver's recovery action: node reboot",
            ),
            (
                154,
                says("no such words"),
                None,
                "XID 154: NVIDIA XID catalogue, immediate action XID_154",
            ),
            (
                172,
                says(""),
                Some(Repair::ResetGpu),
                "XID 172: NVIDIA XID catalogue, detail of XID 48",
            ),
            (
                61,
                says(""),
                None,
                "XID 61: NVIDIA XID catalogue, a code no longer in use",
            ),
            (999, says(""), None, "Unknown XID error 999"),
        ];
        for (code, facts, repair, cite) in cases {
            let advice = advise(*code, facts);
            assert_eq!(advice.repair, *repair, "{code} {facts:?}");
            assert_eq!(advice.cite.to_string(), *cite);
        }
    }
}
