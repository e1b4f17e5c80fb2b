//! Recognises one XID that NVML and the kernel log both report.

use std::collections::VecDeque;
use std::time::Duration;

use navarch_model::Time;

use crate::pci::PciAddress;

/// How far apart the two reports of one XID may be. Too low reports it twice, and
/// a second fault within a day asks for a harder repair; too high takes a second
/// fault, missed by one source, for the first.
const WINDOW: Duration = Duration::from_secs(10);

/// The most reports that wait for their twin.
const CAPACITY: usize = 256;

/// Who reported.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Source {
    Nvml,
    KernelLog,
}

/// What makes two reports of an XID one: the GPU and the code.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct XidKey {
    pub(crate) address: PciAddress,
    pub(crate) code: u32,
}

/// The reports that only one source has made so far. Each is the twin of at most
/// one report of the other source, so two faults in a row stay two.
#[derive(Debug, Default)]
pub(crate) struct Pairing {
    alone: VecDeque<(Source, XidKey, Time)>,
}

impl Pairing {
    /// Whether the other source has reported this already, leaving everything as it is.
    pub(crate) fn has_twin(&self, source: Source, key: XidKey, wall: Time) -> bool {
        self.twin(source, key, wall).is_some()
    }

    /// Whether the other source has reported this already. The pair is complete
    /// then; if not, this report waits for its twin.
    pub(crate) fn is_twin(&mut self, source: Source, key: XidKey, wall: Time) -> bool {
        if let Some(at) = self.twin(source, key, wall) {
            self.alone.remove(at);
            return true;
        }
        self.alone.retain(|(_, _, old)| wall.since(*old) <= WINDOW);
        if self.alone.len() >= CAPACITY {
            self.alone.pop_front();
        }
        self.alone.push_back((source, key, wall));
        false
    }

    fn twin(&self, source: Source, key: XidKey, wall: Time) -> Option<usize> {
        self.alone
            .iter()
            .position(|(other, other_key, other_wall)| {
                *other != source && *other_key == key && near(*other_wall, wall)
            })
    }
}

fn near(a: Time, b: Time) -> bool {
    a.since(b).max(b.since(a)) <= WINDOW
}

#[cfg(test)]
mod tests {
    use super::{CAPACITY, Pairing, Source, XidKey};
    use Source::{KernelLog, Nvml};
    use navarch_model::Time;

    const SECOND: i64 = 1_000_000;

    fn key(code: u32) -> XidKey {
        let address = "0000:3b:00".parse().unwrap();
        XidKey { address, code }
    }

    #[test]
    fn each_report_has_one_twin() {
        // (source, code, second, is it the twin of an earlier report)
        let script = [
            (KernelLog, 79, 0, false),
            (Nvml, 79, 0, true),
            // The second fault of the kind is a fault of its own.
            (Nvml, 79, 1, false),
            (KernelLog, 79, 2, true),
            // Two in a row from one source are two.
            (KernelLog, 48, 3, false),
            (KernelLog, 48, 3, false),
            (Nvml, 48, 4, true),
            (Nvml, 48, 4, true),
            (Nvml, 48, 4, false),
            // Too far apart.
            (KernelLog, 31, 10, false),
            (Nvml, 31, 21, false),
            // The clock was set back: still one.
            (KernelLog, 62, 30, false),
            (Nvml, 62, 25, true),
        ];
        let mut pairing = Pairing::default();
        for (step, (source, code, second, twin)) in script.into_iter().enumerate() {
            let wall = Time(second * SECOND);
            assert_eq!(
                pairing.has_twin(source, key(code), wall),
                twin,
                "step {step}"
            );
            assert_eq!(
                pairing.is_twin(source, key(code), wall),
                twin,
                "step {step}"
            );
        }
    }

    #[test]
    fn memory_is_bounded() {
        let mut pairing = Pairing::default();
        for code in 0..10_000 {
            pairing.is_twin(KernelLog, key(code), Time(0));
        }
        assert_eq!(pairing.alone.len(), CAPACITY);
        assert!(pairing.has_twin(Nvml, key(9_999), Time(0)));
    }
}
