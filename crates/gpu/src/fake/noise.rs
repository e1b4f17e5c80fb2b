//! Readings that move plausibly and depend on nothing but the seed and the time.

use navarch_model::Time;

use crate::Readings;

/// A number from a text (FNV-1a, then mixed), the same in every build.
pub(super) fn hash(text: &str) -> u64 {
    let fold = |sum: u64, byte: u8| (sum ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
    mix(text.bytes().fold(0xcbf2_9ce4_8422_2325, fold))
}

/// Spreads the bits of a number over all of it (the finaliser of SplitMix64).
pub(super) const fn mix(number: u64) -> u64 {
    let mut z = number.wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// What makes the readings of one GPU.
pub(super) struct Load {
    /// What sets this GPU apart from all others.
    pub(super) seed: u64,
    /// How busy it is on average, 0 to 100.
    pub(super) utilization_percent: f64,
    /// Its memory.
    pub(super) memory_total_bytes: u64,
}

impl Load {
    /// What a healthy GPU of this load measures at `wall`.
    pub(super) fn readings(&self, wall: Time) -> Readings {
        let swing = 12.0 * self.wave(1, 60, wall) + 6.0 * self.wave(2, 7, wall);
        let utilization = (self.utilization_percent + swing).clamp(0.0, 100.0).round();
        // Power follows the work at once, temperature the work of the last minutes.
        let power = 75.0 + 5.6 * utilization + 10.0 * self.wave(3, 5, wall);
        let slow = self.utilization_percent + 12.0 * self.wave(1, 60, wall);
        let temperature = 31.0 + 0.33 * slow.clamp(0.0, 100.0) + 3.0 * self.wave(4, 240, wall);
        let share = (0.45 + 0.15 * self.wave(5, 300, wall)).clamp(0.0, 1.0);
        let used = (self.memory_total_bytes as f64 * share) as u64;
        Readings {
            temperature_celsius: Some(temperature.round() as i32),
            power_brake: Some(false),
            power_watts: Some((power * 1000.0).round() / 1000.0),
            utilization_percent: Some(utilization),
            memory_used_bytes: Some(used),
            memory_total_bytes: Some(self.memory_total_bytes),
            ecc_sbe_total: Some(0),
            ecc_dbe_total: Some(0),
            remapped_rows_correctable: Some(0),
            remapped_rows_uncorrectable: Some(0),
            row_remap_pending: Some(false),
            row_remap_failed: Some(false),
            recovery_action: Some(0),
            nvlinks_active: Some(super::fault::NVLINKS),
            nvlinks_inactive: Some(0),
            nvlink_errors_total: Some(0),
            pcie_replays_total: Some(0),
            pcie_link_generation: Some(5),
            pcie_link_width: Some(16),
            errors: Vec::new(),
        }
    }

    /// A curve between -1 and 1 that has a new random height every `seconds`.
    fn wave(&self, stream: u64, seconds: i64, wall: Time) -> f64 {
        let period = seconds * 1_000_000;
        let step = wall.0.div_euclid(period);
        let part = wall.0.rem_euclid(period) as f64 / period as f64;
        let height = |step: i64| {
            let bits = mix(self.seed ^ mix(stream) ^ mix(step.cast_unsigned()));
            (bits >> 11) as f64 / (1_u64 << 52) as f64 - 1.0
        };
        let smooth = part * part * (3.0 - 2.0 * part);
        let (from, to) = (height(step), height(step.saturating_add(1)));
        from + (to - from) * smooth
    }
}

/// The memory of a model, in bytes: what its name says, else what is known of it,
/// else 80 GiB.
pub(super) fn memory_bytes(model: &str) -> u64 {
    const GIB: u64 = 1 << 30;
    let named = model
        .split(|c: char| !c.is_ascii_alphanumeric())
        .find_map(|word| word.strip_suffix("GB")?.parse::<u64>().ok())
        .filter(|gigabytes| (1..=1024).contains(gigabytes));
    let known = [
        ("B300", 288),
        ("B200", 180),
        ("H200", 141),
        ("A100", 40),
        ("L40", 48),
        ("A10", 24),
        ("L4", 24),
        ("V100", 16),
        ("T4", 16),
    ];
    let by_model = || known.iter().find(|(name, _)| model.contains(name));
    named
        .or_else(|| by_model().map(|(_, gigabytes)| *gigabytes))
        .unwrap_or(80)
        * GIB
}

#[cfg(test)]
mod tests {
    use super::{Load, memory_bytes};
    use navarch_model::Time;
    use proptest::prelude::*;

    #[test]
    fn memory_by_model() {
        let cases = [
            ("NVIDIA H100 80GB HBM3", 80),
            ("NVIDIA A100-SXM4-40GB", 40),
            ("NVIDIA H200", 141),
            ("NVIDIA L4", 24),
            ("Tesla T4", 16),
            ("", 80),
            ("99999999999999999999GB", 80),
            ("0GB", 80),
        ];
        for (model, gib) in cases {
            assert_eq!(memory_bytes(model) >> 30, gib, "{model}");
        }
    }

    proptest! {
        #[test]
        fn readings_are_plausible_at_every_time(seed: u64, wall: i64, utilization in 0.0..=100.0) {
            let load = Load { seed, utilization_percent: utilization, memory_total_bytes: 80 << 30 };
            let readings = load.readings(Time(wall));
            // Below the 85 °C at which a policy begins to mind.
            prop_assert!((20..80).contains(&readings.temperature_celsius.unwrap()));
            prop_assert!((50.0..700.0).contains(&readings.power_watts.unwrap()));
            prop_assert!((0.0..=100.0).contains(&readings.utilization_percent.unwrap()));
            prop_assert!(readings.memory_used_bytes.unwrap() < 80 << 30);
            prop_assert_eq!(&readings, &load.readings(Time(wall)));
        }
    }

    #[test]
    fn readings_move_with_time_and_differ_by_gpu() {
        let load = |seed| Load {
            seed,
            utilization_percent: 50.0,
            memory_total_bytes: 80 << 30,
        };
        let power = |seed, second: i64| load(seed).readings(Time(second * 1_000_000)).power_watts;
        let distinct = |values: Vec<Option<f64>>| {
            let mut bits: Vec<_> = values.into_iter().flatten().map(f64::to_bits).collect();
            bits.sort_unstable();
            bits.dedup();
            bits.len()
        };
        assert!(distinct((0..60).map(|second| power(7, second)).collect()) > 50);
        assert!(distinct((0..60).map(|seed| power(seed, 1000)).collect()) > 50);
    }
}
