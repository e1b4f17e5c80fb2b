//! Which GPU is where: what was learned is kept, since a lost GPU cannot be asked.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::pci::PciAddress;

/// The most addresses that are remembered; a machine has a few dozen GPUs at most.
const CAPACITY: usize = 256;

/// GPUs by their address.
#[derive(Debug, Default)]
pub(crate) struct GpuMap {
    gpus: Mutex<BTreeMap<PciAddress, Known>>,
}

/// What is known of the GPU at an address.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Known {
    pub(crate) index: Option<u32>,
    pub(crate) uuid: Option<String>,
}

impl GpuMap {
    /// What is known of the GPU at `address`.
    pub(crate) fn find(&self, address: PciAddress) -> Known {
        self.lock().get(&address).cloned().unwrap_or_default()
    }

    /// The kernel said which GPU is at `address`. The driver's word stands.
    pub(crate) fn learn(&self, address: PciAddress, uuid: &str) {
        let mut gpus = self.lock();
        if gpus.len() >= CAPACITY && !gpus.contains_key(&address) {
            return;
        }
        let known = gpus.entry(address).or_default();
        if known.index.is_none() {
            known.uuid = Some(uuid.to_owned());
        }
    }

    /// The driver said which GPU is at `address`.
    pub(crate) fn set(&self, address: PciAddress, index: u32, uuid: &str) {
        let mut gpus = self.lock();
        if gpus.len() >= CAPACITY && !gpus.contains_key(&address) {
            return;
        }
        let known = Known {
            index: Some(index),
            uuid: Some(uuid.to_owned()),
        };
        gpus.insert(address, known);
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<PciAddress, Known>> {
        self.gpus.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::{CAPACITY, GpuMap, Known};
    use crate::pci::PciAddress;

    #[test]
    fn the_driver_outranks_the_kernel() {
        let map = GpuMap::default();
        let address: PciAddress = "0000:3b:00".parse().unwrap();
        assert_eq!(map.find(address), Known::default());
        map.learn(address, "GPU-kernel");
        assert_eq!(map.find(address).uuid.as_deref(), Some("GPU-kernel"));
        map.set(address, 3, "GPU-driver");
        map.learn(address, "GPU-kernel");
        let known = map.find(address);
        assert_eq!(
            (known.index, known.uuid.as_deref()),
            (Some(3), Some("GPU-driver"))
        );
    }

    #[test]
    fn memory_is_bounded() {
        let map = GpuMap::default();
        for domain in 0..1000 {
            let address = PciAddress {
                domain,
                bus: 0,
                device: 0,
            };
            map.learn(address, "GPU-a");
        }
        assert_eq!(map.lock().len(), CAPACITY);
    }
}
