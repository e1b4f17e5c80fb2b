//! What a fake machine is, in a form that outlives the agent.

use navarch_model::Time;
use serde::{Deserialize, Serialize};

use super::UUID_PREFIX;
use super::fault::{Fault, FaultError, FaultKind, MAX_GPUS};
use super::noise::{hash, mix};

/// The version of the form below.
const VERSION: u32 = 1;

/// The most faults that are kept.
const MAX_FAULTS: usize = 256;

/// A fake machine: who it is, since when it runs, and what is wrong with it.
///
/// The agent stores it whenever it changes and hands it back after a restart, which
/// repairs nothing. Only [`clear`](FakeState::clear) stands for a repair.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FakeState {
    version: u32,
    /// What the machine's identity comes from, for example the instance id.
    pub seed: String,
    /// How many GPUs are built in.
    pub gpu_count: u32,
    /// Their model.
    pub model: String,
    /// The boots so far, from 1.
    pub boots: u64,
    /// What changes with every boot.
    pub boot_id: String,
    /// What is wrong, in the order of injection.
    pub faults: Vec<FaultRecord>,
    /// The last repair, if there was one.
    pub last_repair: Option<Repair>,
}

/// One fault of a machine.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FaultRecord {
    /// The fault, as injected last.
    pub fault: Fault,
    /// How many times it was injected.
    pub count: u32,
    /// When it was injected first, in Unix time.
    pub first_wall: Time,
    /// When it was injected last.
    pub last_wall: Time,
}

/// A repair: faults were taken away and the machine was booted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Repair {
    /// When, in Unix time.
    pub wall: Time,
    /// The kinds that were asked for.
    pub kinds: Vec<FaultKind>,
    /// How many faults it took away.
    pub cleared: u32,
    /// The boot id before it.
    pub previous_boot_id: String,
    /// The boot id since.
    pub boot_id: String,
}

/// Why a stored state cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StateError {
    /// It was written by a newer agent.
    #[error(
        "the fake machine's state has version {0}, newer than {VERSION}; use the agent that wrote it, or delete it for a new machine"
    )]
    Newer(u32),
    /// It belongs to another machine.
    #[error(
        "the fake machine's state belongs to {found:?}, not to {wanted:?}; use the right state directory, or delete the state for a new machine"
    )]
    OtherMachine {
        /// The seed in the state.
        found: String,
        /// The seed that was asked for.
        wanted: String,
    },
    /// It has a number of GPUs that no fake machine has.
    #[error("a fake machine has 0 to {MAX_GPUS} GPUs, not {0}")]
    GpuCount(u32),
}

impl FakeState {
    /// A new machine, booted for the first time.
    pub fn new(seed: &str, gpu_count: u32, model: &str) -> Self {
        Self {
            version: VERSION,
            seed: seed.to_owned(),
            gpu_count: gpu_count.min(MAX_GPUS),
            model: model.to_owned(),
            boots: 1,
            boot_id: boot_id_of(seed, 1),
            faults: Vec::new(),
            last_repair: None,
        }
    }

    /// Whether this build can run this state as the machine of `seed`.
    ///
    /// # Errors
    ///
    /// When the state is another machine's, is newer, or has an odd number of GPUs.
    pub fn check(&self, seed: &str) -> Result<(), StateError> {
        if self.version > VERSION {
            return Err(StateError::Newer(self.version));
        }
        if self.seed != seed {
            return Err(StateError::OtherMachine {
                found: self.seed.clone(),
                wanted: seed.to_owned(),
            });
        }
        if self.gpu_count > MAX_GPUS {
            return Err(StateError::GpuCount(self.gpu_count));
        }
        Ok(())
    }

    /// The UUID of the GPU in `slot`: different on every machine, the same for ever.
    pub fn uuid(&self, slot: u32) -> String {
        let high = mix(hash(&self.seed) ^ mix(u64::from(slot) + 1));
        let low = mix(high);
        format!(
            "{UUID_PREFIX}{:04x}-{:04x}-{:04x}-{:04x}-{:012x}",
            high & 0xffff,
            (high >> 16) & 0xffff,
            (high >> 32) & 0xffff,
            high >> 48,
            low >> 16
        )
    }

    /// Records a fault.
    ///
    /// # Errors
    ///
    /// When this machine cannot have it; nothing is recorded then.
    pub fn inject(&mut self, fault: &Fault, wall: Time) -> Result<(), FaultError> {
        fault.check(self.gpu_count)?;
        let same = |record: &&mut FaultRecord| record.fault.is_same_place(fault);
        if let Some(record) = self.faults.iter_mut().find(same) {
            let total = match (&record.fault, fault) {
                (
                    Fault::Memory { sbe, dbe, .. },
                    Fault::Memory {
                        gpu,
                        sbe: more_sbe,
                        dbe: more_dbe,
                        message,
                    },
                ) => Fault::Memory {
                    gpu: *gpu,
                    sbe: sbe.saturating_add(*more_sbe),
                    dbe: dbe.saturating_add(*more_dbe),
                    message: message.clone(),
                },
                _ => fault.clone(),
            };
            record.fault = total;
            record.count = record.count.saturating_add(1);
            record.last_wall = wall;
            return Ok(());
        }
        if self.faults.len() >= MAX_FAULTS {
            return Err(FaultError::TooMany(self.faults.len()));
        }
        self.faults.push(FaultRecord {
            fault: fault.clone(),
            count: 1,
            first_wall: wall,
            last_wall: wall,
        });
        Ok(())
    }

    /// Repairs the machine: takes away the faults of these kinds, leaves the others,
    /// and boots, whether there was such a fault or not.
    pub fn clear(&mut self, kinds: &[FaultKind], wall: Time) -> &Repair {
        let before = self.faults.len();
        self.faults
            .retain(|record| !kinds.contains(&record.fault.kind()));
        self.boots = self.boots.wrapping_add(1);
        let mut boot_id = boot_id_of(&self.seed, self.boots);
        if boot_id == self.boot_id {
            // The stored count was one too low.
            self.boots = self.boots.wrapping_add(1);
            boot_id = boot_id_of(&self.seed, self.boots);
        }
        let previous_boot_id = std::mem::replace(&mut self.boot_id, boot_id.clone());
        self.last_repair.insert(Repair {
            wall,
            kinds: kinds.to_vec(),
            cleared: (before - self.faults.len()) as u32,
            previous_boot_id,
            boot_id,
        })
    }

    /// The slots of the GPUs that the driver counts, by index.
    pub(super) fn visible(&self) -> Vec<u32> {
        let gone = |slot: &u32| {
            self.faults.iter().any(|record| {
                matches!(record.fault, Fault::DeviceError { gpu, missing: true, .. } if gpu == *slot)
            })
        };
        (0..self.gpu_count).filter(|slot| !gone(slot)).collect()
    }

    /// The fault of this kind on the GPU in `slot`, or on the machine.
    pub(super) fn find(&self, kind: FaultKind, slot: Option<u32>) -> Option<&Fault> {
        self.faults
            .iter()
            .map(|record| &record.fault)
            .find(|fault| fault.kind() == kind && fault.gpu() == slot)
    }
}

/// The id of one boot of one machine, in the form of Linux's.
fn boot_id_of(seed: &str, boots: u64) -> String {
    let high = mix(hash(seed) ^ mix(boots ^ 0xb007_0000_0000_0000));
    let low = mix(high);
    format!(
        "{:08x}-{:04x}-4{:03x}-{:04x}-{:012x}",
        high >> 32,
        (high >> 16) & 0xffff,
        high & 0xfff,
        0x8000 | (low >> 48 & 0x3fff),
        low & 0xffff_ffff_ffff
    )
}
