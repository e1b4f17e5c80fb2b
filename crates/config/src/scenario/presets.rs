//! Published failure rates as data.
//!
//! The counts are those of the 54 days of the Llama 3 405B training on 16,384 H100 GPUs, which are
//! 2,048 machines and 110,592 node-days. How a count is split and how failures end are assumptions
//! of this project where the source says so.

use std::time::Duration;

use super::{FailureKind, Rate};

/// A set of published rates.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Preset {
    /// The Llama 3 405B training of 2024.
    Llama3,
    /// The cluster RSC-1 of "Revisiting Reliability": 6.50 failures for each 1000 node-days, 1.7
    /// times those of [`Preset::Llama3`].
    Rsc1,
}

impl Preset {
    /// Every preset with its word.
    pub const WORDS: [(&'static str, Self); 2] = [("llama3", Self::Llama3), ("rsc1", Self::Rsc1)];

    /// How many times the rates of [`TABLE`].
    const fn multiple(self) -> f64 {
        match self {
            Self::Llama3 => 1.0,
            Self::Rsc1 => 1.7,
        }
    }
}

/// The node-days that the counts of [`TABLE`] are from.
pub const NODE_DAYS: f64 = 110_592.0;

/// A line of the table.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Row {
    /// What breaks.
    pub kind: FailureKind,
    /// The XID, where the kind has several.
    pub xid: Option<u32>,
    /// How often it happened in [`NODE_DAYS`].
    pub count: f64,
    /// The share that no reboot repairs, from 0 to 1.
    pub permanent: f64,
    /// After how long it ends by itself, on average; none for never.
    pub mean_duration: Option<Duration>,
    /// Where the number is from, and what is assumed.
    pub source: &'static str,
}

const fn row(kind: FailureKind, count: f64, permanent: f64, source: &'static str) -> Row {
    Row {
        kind,
        xid: None,
        count,
        permanent,
        mean_duration: None,
        source,
    }
}

const fn with_xid(mut row: Row, xid: u32) -> Row {
    row.xid = Some(xid);
    row
}

/// The rates of [`Preset::Llama3`] as counts.
pub const TABLE: [Row; 15] = [
    row(
        FailureKind::GpuLost,
        130.0,
        0.5,
        "148 faulty GPUs, NVLink included; 12 % taken for NVLink and half of the rest for permanent",
    ),
    row(
        FailureKind::Nvlink,
        18.0,
        0.0,
        "12 % of the 148 faulty GPUs; the share is assumed",
    ),
    row(
        FailureKind::RowRemap,
        66.0,
        0.0,
        "72 HBM3 errors, of which 92 % are taken to be remapped, as on the Delta cluster",
    ),
    row(
        FailureKind::RowRemapFailed,
        6.0,
        1.0,
        "72 HBM3 errors, of which 8 % are taken not to be remapped",
    ),
    row(
        FailureKind::Memory,
        19.0,
        0.0,
        "19 SRAM errors; taken to end with a reset",
    ),
    with_xid(
        row(
            FailureKind::Xid,
            17.0,
            0.0,
            "17 failures of the GPU system processor; taken to end with a reset",
        ),
        119,
    ),
    Row {
        mean_duration: Some(Duration::from_secs(300)),
        ..row(
            FailureKind::Network,
            21.0,
            0.0,
            "35 failures of switches and cables, of which 60 % are taken to end within minutes",
        )
    },
    row(
        FailureKind::Network,
        14.0,
        1.0,
        "35 failures of switches and cables, of which 40 % are taken to need hands",
    ),
    row(
        FailureKind::MachineHang,
        13.0,
        1.0,
        "7 network cards, 2 IO boards, 2 CPUs and 2 memory modules; taken for machines that hang",
    ),
    row(
        FailureKind::MachineStop,
        8.0,
        1.0,
        "3 SSDs, 3 power supplies and 2 chassis; taken for machines that stop",
    ),
    row(
        FailureKind::MachineStop,
        32.0,
        0.0,
        "32 unplanned maintenances of hosts; taken for machines that the cloud stops",
    ),
    row(
        FailureKind::ThermalRamp,
        6.0,
        1.0,
        "6 thermal interfaces and sensors; taken to need hands",
    ),
    row(
        FailureKind::SilentCorruption,
        6.0,
        1.0,
        "6 silent data corruptions; taken to need hands",
    ),
    with_xid(
        row(
            FailureKind::XidBurst,
            21_600.0,
            0.0,
            "errors of programs, taken for 100 times the hardware failures above; two thirds as XID 31",
        ),
        31,
    ),
    with_xid(
        row(
            FailureKind::XidBurst,
            10_800.0,
            0.0,
            "errors of programs, taken for 100 times the hardware failures above; one third as XID 13",
        ),
        13,
    ),
];

/// The rates of a preset.
#[must_use]
pub fn rates(preset: Preset) -> Vec<Rate> {
    let word = match preset {
        Preset::Llama3 => "llama3",
        Preset::Rsc1 => "rsc1, 1.7 times llama3",
    };
    TABLE
        .iter()
        .map(|row| Rate {
            kind: row.kind,
            xid: row.xid,
            per_1000_node_days: row.count / NODE_DAYS * 1000.0 * preset.multiple(),
            permanent: row.permanent,
            mean_duration: row.mean_duration,
            source: format!("{word}: {}", row.source),
        })
        .collect()
}
