//! What an XID leaves behind on a machine.
//!
//! The product has a table of its own, from which it concludes what to do. This one says what is
//! so, and was written apart from it, so that a slip in the other shows here.

/// What is left when an XID has been logged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Aftermath {
    /// Nothing: what failed was an application, or was corrected.
    Nothing,
    /// A GPU in a state that its reset or a boot ends.
    UntilBoot,
    /// Something that only hands on the machine end.
    ForGood,
}

/// Codes whose state lasts until a reset or a boot. From the column "Immediate Action" of NVIDIA's
/// XID catalogue those with a reset, a restart, or a workflow that ends in one; 171 and 172 give
/// the detail of 48. Where that column is empty, as of 166, 167 and 169, or leaves it to registers,
/// as of 144 to 150, those for which gpud's table of XIDs (2026-08) suggests a reboot.
const UNTIL_BOOT: [u32; 32] = [
    46, 48, 62, 64, 74, 79, 95, 109, 110, 119, 120, 136, 140, 143, 144, 145, 146, 147, 148, 149,
    150, 151, 155, 156, 158, 159, 163, 166, 167, 169, 171, 172,
];

/// The board lacks a power connector: `CHECK_MECHANICALS` in the same column.
const FOR_GOOD: [u32; 1] = [54];

impl Aftermath {
    pub(super) fn of(code: u32) -> Self {
        if FOR_GOOD.contains(&code) {
            Self::ForGood
        } else if UNTIL_BOOT.contains(&code) {
            Self::UntilBoot
        } else {
            Self::Nothing
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use navarch_model::Repair;
    use navarch_policy::catalogue;

    /// Codes of which the product's catalogue alone, without registers or the driver's own word,
    /// does not say that something is left.
    const LEFT_OPEN: [u32; 11] = [144, 145, 146, 147, 148, 149, 150, 163, 166, 167, 169];

    #[test]
    fn the_catalogue_asks_for_what_is_left_of_each_code() {
        for code in 1..=200 {
            let asked = catalogue::repair(code, &catalogue::Facts::default());
            let left = match asked {
                Repair::None | Repair::RestartApp => Aftermath::Nothing,
                Repair::ResetGpu | Repair::Reboot => Aftermath::UntilBoot,
                Repair::Replace => Aftermath::ForGood,
            };
            let open = LEFT_OPEN.contains(&code) && asked == Repair::None;
            assert!(
                open || left == Aftermath::of(code),
                "XID {code}: {:?} is left, the catalogue asks for {asked:?}",
                Aftermath::of(code)
            );
            assert!(!LEFT_OPEN.contains(&code) || open, "XID {code} is not open");
        }
    }
}
