//! The faults that a fake GPU can be given.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::MAX_MESSAGE_CHARS;

/// The most GPUs of one fake machine.
pub const MAX_GPUS: u32 = 64;

/// The NVLink links of a fake GPU.
pub(super) const NVLINKS: u32 = 18;

/// NVML's highest number of a recovery action.
const LAST_ACTION: u32 = 5;

/// The most memory errors of one injection.
const MAX_ECC_COUNT: u64 = 1_000_000_000;

/// A kind of fault, by the name it has in the debug API.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum FaultKind {
    /// An XID is reported once.
    Xid,
    /// A GPU's temperature is pinned.
    Thermal,
    /// A GPU counts memory errors.
    Memory,
    /// An NVLink link is down.
    Nvlink,
    /// Every call to the driver fails.
    BackendError,
    /// One GPU answers no call, or is gone.
    DeviceError,
    /// The machine came up without GPUs.
    BootFailure,
    /// A GPU waits to remap a bad memory row, or cannot.
    RowRemap,
    /// A GPU's PCIe link repeats packets and runs on fewer lanes.
    Pcie,
    /// The power supply brakes a GPU.
    Power,
    /// The driver asks for a repair of a GPU.
    RecoveryAction,
}

impl FaultKind {
    /// Every kind.
    pub const ALL: [Self; 11] = [
        Self::Xid,
        Self::Thermal,
        Self::Memory,
        Self::Nvlink,
        Self::BackendError,
        Self::DeviceError,
        Self::BootFailure,
        Self::RowRemap,
        Self::Pcie,
        Self::Power,
        Self::RecoveryAction,
    ];

    /// Its word, as in `POST /debug/inject/WORD` and on command lines.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Xid => "xid",
            Self::Thermal => "thermal",
            Self::Memory => "memory",
            Self::Nvlink => "nvlink",
            Self::BackendError => "backend-error",
            Self::DeviceError => "device-error",
            Self::BootFailure => "boot-failure",
            Self::RowRemap => "row-remap",
            Self::Pcie => "pcie",
            Self::Power => "power",
            Self::RecoveryAction => "recovery-action",
        }
    }

    /// The kind of a word; `_` counts as `-`.
    pub fn from_word(word: &str) -> Option<Self> {
        let word = word.replace('_', "-");
        Self::ALL.into_iter().find(|kind| kind.word() == word)
    }
}

impl fmt::Display for FaultKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.word())
    }
}

impl FromStr for FaultKind {
    type Err = FaultError;

    fn from_str(name: &str) -> Result<Self, FaultError> {
        Self::from_word(name)
            .ok_or_else(|| FaultError::UnknownKind(name.chars().take(64).collect()))
    }
}

/// A fault to inject. What is left out of its serialised form has a default.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case", deny_unknown_fields)]
pub enum Fault {
    /// An XID is reported once.
    Xid {
        /// The GPU, 0 by default.
        #[serde(default)]
        gpu: u32,
        /// The XID, 79 by default.
        #[serde(default = "default_code")]
        code: u32,
        /// The driver's words; made up by default.
        #[serde(default)]
        message: Option<String>,
    },
    /// A GPU's temperature is pinned until the fault is cleared.
    Thermal {
        /// The GPU, 0 by default.
        #[serde(default)]
        gpu: u32,
        /// Degrees Celsius, 98 by default.
        #[serde(default = "default_temperature")]
        temperature: i32,
        /// The driver's words; made up by default.
        #[serde(default)]
        message: Option<String>,
    },
    /// A GPU counts memory errors, which stay in its readings until the fault is
    /// cleared. Injected again, they add up.
    Memory {
        /// The GPU, 0 by default.
        #[serde(default)]
        gpu: u32,
        /// Corrected errors, 0 by default.
        #[serde(default)]
        sbe: u64,
        /// Errors not corrected, 0 by default.
        #[serde(default)]
        dbe: u64,
        /// The driver's words; made up by default.
        #[serde(default)]
        message: Option<String>,
    },
    /// An NVLink link is down and counts errors.
    Nvlink {
        /// The GPU, 0 by default.
        #[serde(default)]
        gpu: u32,
        /// The link, 0 by default.
        #[serde(default)]
        link: u32,
        /// The driver's words; made up by default.
        #[serde(default)]
        message: Option<String>,
    },
    /// Every call to the driver fails.
    BackendError {
        /// The driver's words; made up by default.
        #[serde(default)]
        message: Option<String>,
    },
    /// One GPU answers no call.
    DeviceError {
        /// The GPU, 0 by default.
        #[serde(default)]
        gpu: u32,
        /// Whether the driver does not even count it any more, as after a reboot.
        /// The indexes of the GPUs behind it move down then.
        #[serde(default)]
        missing: bool,
        /// The driver's words; made up by default.
        #[serde(default)]
        message: Option<String>,
    },
    /// The machine came up without GPUs.
    BootFailure {
        /// The driver's words; made up by default.
        #[serde(default)]
        message: Option<String>,
    },
    /// A bad memory row waits for the next reset to be remapped, or no row is left for
    /// it. On real GPUs the driver tells of it by XID 63, or 64.
    RowRemap {
        /// The GPU, 0 by default.
        #[serde(default)]
        gpu: u32,
        /// Whether no row is left.
        #[serde(default)]
        failed: bool,
        /// The driver's words; made up by default.
        #[serde(default)]
        message: Option<String>,
    },
    /// A PCIe link runs on half of its lanes and repeats a packet each millisecond,
    /// until the fault is cleared.
    Pcie {
        /// The GPU, 0 by default.
        #[serde(default)]
        gpu: u32,
        /// The driver's words; made up by default.
        #[serde(default)]
        message: Option<String>,
    },
    /// The power supply slows a GPU down, which then draws little.
    Power {
        /// The GPU, 0 by default.
        #[serde(default)]
        gpu: u32,
        /// The driver's words; made up by default.
        #[serde(default)]
        message: Option<String>,
    },
    /// The driver's recovery action for a GPU is not "none" until the fault is cleared.
    /// It shows in the readings and not as an XID; inject XID 154 for that.
    RecoveryAction {
        /// The GPU, 0 by default.
        #[serde(default)]
        gpu: u32,
        /// NVML's number of the action, 2 (node reboot) by default.
        #[serde(default = "default_action")]
        action: u32,
        /// The driver's words; made up by default.
        #[serde(default)]
        message: Option<String>,
    },
}

const fn default_code() -> u32 {
    79
}

const fn default_temperature() -> i32 {
    98
}

const fn default_action() -> u32 {
    2
}

impl Fault {
    /// Its kind.
    pub const fn kind(&self) -> FaultKind {
        match self {
            Self::Xid { .. } => FaultKind::Xid,
            Self::Thermal { .. } => FaultKind::Thermal,
            Self::Memory { .. } => FaultKind::Memory,
            Self::Nvlink { .. } => FaultKind::Nvlink,
            Self::BackendError { .. } => FaultKind::BackendError,
            Self::DeviceError { .. } => FaultKind::DeviceError,
            Self::BootFailure { .. } => FaultKind::BootFailure,
            Self::RowRemap { .. } => FaultKind::RowRemap,
            Self::Pcie { .. } => FaultKind::Pcie,
            Self::Power { .. } => FaultKind::Power,
            Self::RecoveryAction { .. } => FaultKind::RecoveryAction,
        }
    }

    /// The GPU it is on, by its place on the machine, if it is on one.
    pub const fn gpu(&self) -> Option<u32> {
        match self {
            Self::Xid { gpu, .. }
            | Self::Thermal { gpu, .. }
            | Self::Memory { gpu, .. }
            | Self::Nvlink { gpu, .. }
            | Self::DeviceError { gpu, .. }
            | Self::RowRemap { gpu, .. }
            | Self::Pcie { gpu, .. }
            | Self::Power { gpu, .. }
            | Self::RecoveryAction { gpu, .. } => Some(*gpu),
            Self::BackendError { .. } | Self::BootFailure { .. } => None,
        }
    }

    /// The words that came with it.
    pub fn message(&self) -> Option<&str> {
        match self {
            Self::Xid { message, .. }
            | Self::Thermal { message, .. }
            | Self::Memory { message, .. }
            | Self::Nvlink { message, .. }
            | Self::BackendError { message }
            | Self::DeviceError { message, .. }
            | Self::BootFailure { message }
            | Self::RowRemap { message, .. }
            | Self::Pcie { message, .. }
            | Self::Power { message, .. }
            | Self::RecoveryAction { message, .. } => message.as_deref(),
        }
    }

    /// Whether the other fault takes this one's place: it is of the same kind on
    /// the same part.
    pub(super) fn is_same_place(&self, other: &Self) -> bool {
        let part = |fault: &Self| match fault {
            Self::Xid { code, .. } => *code,
            Self::Nvlink { link, .. } => *link,
            _ => 0,
        };
        self.kind() == other.kind() && self.gpu() == other.gpu() && part(self) == part(other)
    }

    /// Whether a machine of `gpus` GPUs can have it.
    ///
    /// # Errors
    ///
    /// Says which field is out of range and what the range is.
    pub fn check(&self, gpus: u32) -> Result<(), FaultError> {
        if let Some(gpu) = self.gpu()
            && gpu >= gpus
        {
            return Err(FaultError::NoSuchGpu { gpu, count: gpus });
        }
        if let Some(text) = self.message()
            && text.chars().count() > MAX_MESSAGE_CHARS
        {
            return Err(FaultError::MessageTooLong);
        }
        let out_of_range = |field, range| Err(FaultError::OutOfRange { field, range });
        match *self {
            Self::Xid { code: 0, .. } => out_of_range("code", "1 or more"),
            Self::Thermal { temperature, .. } if !(-50..=200).contains(&temperature) => {
                out_of_range("temperature", "-50 to 200")
            }
            Self::Memory { sbe: 0, dbe: 0, .. } => {
                out_of_range("sbe and dbe", "1 or more for one of them")
            }
            Self::Memory { sbe, dbe, .. } if sbe.max(dbe) > MAX_ECC_COUNT => {
                out_of_range("sbe and dbe", "up to 1000000000")
            }
            Self::Nvlink { link, .. } if link >= NVLINKS => out_of_range("link", "0 to 17"),
            Self::RecoveryAction { action, .. } if !(1..=LAST_ACTION).contains(&action) => {
                out_of_range("action", "1 to 5")
            }
            _ => Ok(()),
        }
    }
}

/// Why a fault was refused. Nothing was recorded.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FaultError {
    /// There is no such kind of fault.
    #[error(
        "unknown fault kind {0:?}; use xid, thermal, memory, nvlink, backend-error, device-error, boot-failure, row-remap, pcie, power or recovery-action"
    )]
    UnknownKind(String),
    /// The machine has no such GPU.
    #[error("there is no GPU {gpu}; this machine has {count}, from 0")]
    NoSuchGpu {
        /// The GPU that was asked for.
        gpu: u32,
        /// How many there are.
        count: u32,
    },
    /// A number is outside its range.
    #[error("{field} is out of range; use {range}")]
    OutOfRange {
        /// The field.
        field: &'static str,
        /// What it may be.
        range: &'static str,
    },
    /// The message is too long.
    #[error("message is longer than {MAX_MESSAGE_CHARS} characters")]
    MessageTooLong,
    /// The machine has as many faults as are kept.
    #[error("this machine has {0} faults already; clear some first")]
    TooMany(usize),
    /// The new state could not be made durable.
    #[error("the fault could not be stored: {0}")]
    NotStored(String),
}
