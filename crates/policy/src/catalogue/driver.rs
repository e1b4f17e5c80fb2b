//! The driver's own verdict: NVML's GPU recovery action, which XID 154 reports in words.

use navarch_model::Repair;

use super::nvlink5::hex;

/// What the driver says a GPU needs (NVML field 230, `NVML_FI_DEV_GET_GPU_RECOVERY_ACTION`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RecoveryAction {
    /// Nothing.
    None,
    /// A reset.
    GpuReset,
    /// A reboot of the node.
    NodeReboot,
    /// The end of everything that talks to peers; the driver then says what else.
    DrainP2p,
    /// A reset once the present work is done.
    DrainAndReset,
    /// A restart of the IMEX domain, which spans machines.
    RecoverImexDomain,
}

impl RecoveryAction {
    /// Every action, by NVML's number.
    pub const ALL: [Self; 6] = [
        Self::None,
        Self::GpuReset,
        Self::NodeReboot,
        Self::DrainP2p,
        Self::DrainAndReset,
        Self::RecoverImexDomain,
    ];

    /// The action for NVML's number.
    pub fn from_number(number: u32) -> Option<Self> {
        Self::ALL.get(usize::try_from(number).ok()?).copied()
    }

    /// The action for a metric's text: NVML's number, or its name such as `node_reboot` or
    /// `Drain and Reset`.
    pub fn from_text(text: &str) -> Option<Self> {
        let text = text.trim();
        if let Ok(number) = text.parse() {
            return Self::from_number(number);
        }
        let same = |name: &str| {
            let letters = |c: &char| c.is_ascii_alphanumeric();
            name.chars()
                .filter(letters)
                .eq(text.chars().filter(letters).map(|c| c.to_ascii_lowercase()))
        };
        Self::ALL.into_iter().find(|action| {
            same(action.phrase())
                || match action {
                    Self::GpuReset => same("reset") || same("gpu reset required"),
                    Self::NodeReboot => same("reboot") || same("node reboot required"),
                    _ => false,
                }
        })
    }

    /// The action that XID 154 changed to, from words such as
    /// `GPU recovery action changed from 0x0 (None) to 0x2 (Node Reboot Required)`. The number
    /// counts: the words behind it differ between drivers.
    pub fn from_message(message: &str) -> Option<Self> {
        let (_, after) = message.rsplit_once(" to ")?;
        let number = after.split([' ', '(']).find(|word| !word.is_empty())?;
        Self::from_number(hex(number)?)
    }

    /// The words for people.
    pub const fn phrase(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::GpuReset => "gpu reset",
            Self::NodeReboot => "node reboot",
            Self::DrainP2p => "drain p2p",
            Self::DrainAndReset => "drain and reset",
            Self::RecoverImexDomain => "recover imex domain",
        }
    }

    /// The rung of our ladder. Draining peers ends applications, after which the driver names its
    /// next action; an IMEX domain recovers without any machine being at fault.
    pub const fn repair(self) -> Repair {
        match self {
            Self::None => Repair::None,
            Self::DrainP2p | Self::RecoverImexDomain => Repair::RestartApp,
            Self::GpuReset | Self::DrainAndReset => Repair::ResetGpu,
            Self::NodeReboot => Repair::Reboot,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::RecoveryAction::{self, *};

    #[test]
    fn metrics_name_actions_by_number_or_word() {
        let cases = [
            ("0", Some(None)),
            (" 4 ", Some(DrainAndReset)),
            ("node_reboot", Some(NodeReboot)),
            ("Node Reboot Required", Some(NodeReboot)),
            ("DRAIN_P2P", Some(DrainP2p)),
            ("reset", Some(GpuReset)),
            ("6", Option::None),
            ("-1", Option::None),
            ("N/A", Option::None),
            ("", Option::None),
        ];
        for (text, expected) in cases {
            assert_eq!(RecoveryAction::from_text(text), expected, "{text:?}");
        }
    }

    #[test]
    fn messages_name_actions_by_number() {
        let changed = |to: &str| format!("GPU recovery action changed from 0x0 (None) to {to}");
        let cases = [
            ("0x1 (GPU Reset Required)", Some(GpuReset)),
            ("0x1 (PF FLR)", Some(GpuReset)),
            ("0x2 (OS Reboot)", Some(NodeReboot)),
            ("0x0 (None)", Some(None)),
            ("0x9 (Whatever)", Option::None),
            ("", Option::None),
        ];
        for (to, expected) in cases {
            assert_eq!(
                RecoveryAction::from_message(&changed(to)),
                expected,
                "{to:?}"
            );
        }
        assert_eq!(RecoveryAction::from_message("0x2"), Option::None);
    }
}
