//! What a line of the journal says.

use std::collections::BTreeMap;

use navarch_core::Fact;
use navarch_core::agent::{Kept, Losses};
use navarch_model::{BootId, HealthEventType, HealthWatchSystem};
use serde::{Deserialize, Serialize};

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Line {
    Kept(Row),
    Gone(Vec<u64>),
    Lost { shed: u64, refused: u64 },
}

impl From<Losses> for Line {
    fn from(Losses { shed, refused }: Losses) -> Self {
        Self::Lost { shed, refused }
    }
}

/// A fact as it is stored.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Row {
    pub(super) place: u64,
    happened: i64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    gpu: Option<i32>,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    gpu_uuid: String,
    system: HealthWatchSystem,
    event_type: HealthEventType,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    metrics: BTreeMap<String, String>,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    message: String,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    watch: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    boot: Option<BootId>,
    #[serde(default)]
    count: u32,
}

impl From<&Kept> for Row {
    fn from(Kept { place, fact }: &Kept) -> Self {
        let fact = fact.clone();
        Self {
            place: *place,
            happened: fact.happened,
            gpu: fact.gpu,
            gpu_uuid: fact.gpu_uuid,
            system: fact.system,
            event_type: fact.event_type,
            metrics: fact.metrics,
            message: fact.message,
            watch: fact.watch,
            boot: fact.boot,
            count: fact.count,
        }
    }
}

impl From<Row> for Kept {
    fn from(row: Row) -> Self {
        Self {
            place: row.place,
            fact: Fact {
                happened: row.happened,
                gpu: row.gpu,
                gpu_uuid: row.gpu_uuid,
                system: row.system,
                event_type: row.event_type,
                metrics: row.metrics,
                message: row.message,
                watch: row.watch,
                boot: row.boot,
                count: row.count,
            },
        }
    }
}

/// Adds a line.
pub(super) fn push_line(lines: &mut Vec<u8>, line: &Line) {
    serde_json::to_writer(&mut *lines, line).expect("a line is plain data, and memory takes it");
    lines.push(b'\n');
}
