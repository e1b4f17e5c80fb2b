//! Decoding of XIDs 144 to 150, the NVLink errors of Blackwell and later.
//!
//! The kernel log carries words of hexadecimal: the interrupt information, which says which unit of
//! the link failed, and the error status, which says how. Drivers before R575 lay the interrupt
//! information out differently from later ones.
//!
//! Source: NVIDIA's XID catalogue, sheet "NVLink5 decode".

use self::Meaning::{AskDriver, Ignore, ResetGpu};
use self::Status::{Any, Bits, OneOf};

/// The first driver branch with the second layout of the interrupt information.
const SECOND_LAYOUT_BRANCH: u32 = 575;

/// What a decoded error asks for, from the mildest.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Meaning {
    /// Nothing.
    Ignore,
    /// What the driver says in XID 154.
    AskDriver,
    /// A reset of the GPU.
    ResetGpu,
}

impl Meaning {
    /// NVIDIA's word.
    pub const fn word(self) -> &'static str {
        match self {
            Ignore => "IGNORE",
            AskDriver => "XID_154_EVAL",
            ResetGpu => "RESET_GPU",
        }
    }
}

/// A decoded error.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Decoded {
    /// The unit of the link, in NVIDIA's words.
    pub unit: &'static str,
    /// What it asks for.
    pub meaning: Meaning,
}

/// Which error status a row is about.
#[derive(Debug, Clone, Copy)]
enum Status {
    /// Any, or none at all.
    Any,
    /// Any of these bits.
    Bits(u32),
    /// One of these values.
    OneOf(&'static [u32]),
}

impl Status {
    fn covers(self, status: Option<u32>) -> bool {
        match (self, status) {
            (Any, _) => true,
            (_, None) => false,
            (Bits(bits), Some(status)) => status & bits != 0,
            (OneOf(values), Some(status)) => values.contains(&status),
        }
    }
}

/// One row. Bits 25 to 20 of the interrupt information are the detail; the low bits are the unit:
/// ten bits in the first layout, seven in the second. `escalated` is the bit above the unit, where
/// the table tells both values apart.
#[derive(Debug)]
struct Row {
    xid: u16,
    unit: &'static str,
    first: u32,
    second: u32,
    escalated: Option<bool>,
    details: &'static [u32],
    status: Status,
    meaning: Meaning,
}

const fn row(
    xid: u16,
    unit: &'static str,
    first: u32,
    second: u32,
    status: Status,
    meaning: Meaning,
) -> Row {
    Row {
        xid,
        unit,
        first,
        second,
        escalated: None,
        details: &[0],
        status,
        meaning,
    }
}

const fn link_down(details: &'static [u32], meaning: Meaning) -> Row {
    Row {
        details,
        ..row(
            149,
            "NETIR_LINK_EVT",
            0b01110_00110,
            0b001_0001,
            Any,
            meaning,
        )
    }
}

const fn rx_pipe(escalated: bool, meaning: Meaning) -> Row {
    Row {
        escalated: Some(escalated),
        ..row(
            145,
            "RLW_RXPIPE",
            0b00110_00010,
            0b000_0110,
            Bits(0x7),
            meaning,
        )
    }
}

#[rustfmt::skip]
static ROWS: [Row; 34] = [
    row(144, "SAW_MVB",       0b00001_00001, 0b000_0001, Bits(0x0000_002d), Ignore),
    row(144, "SAW_MVB",       0b00001_00001, 0b000_0001, Bits(0x0000_0012), ResetGpu),
    row(145, "RLW_CTRL",      0b00011_00010, 0b000_0011, Bits(0x8000_0000), Ignore),
    row(145, "RLW_REMAP",     0b00100_00010, 0b000_0100, Bits(0x0000_003f), AskDriver),
    row(145, "RLW_REMAP",     0b00100_00010, 0b000_0100, Bits(0x0000_00c0), ResetGpu),
    row(145, "RLW_REMAP",     0b00100_00010, 0b000_0100, Bits(0x8000_0300), Ignore),
    row(145, "RLW_RSPCOL",    0b00101_00010, 0b000_0101, Bits(0x8000_0001), Ignore),
    row(145, "RLW_RSPCOL",    0b00101_00010, 0b000_0101, Bits(0x0000_0002), ResetGpu),
    rx_pipe(false, Ignore),
    rx_pipe(true, ResetGpu),
    row(145, "RLW_RXPIPE",    0b00110_00010, 0b000_0110, Bits(0x8000_0008), Ignore),
    row(145, "RLW_SRC_TRACK", 0b00111_00010, 0b000_0111, Bits(0x8000_0002), Ignore),
    row(145, "RLW_SRC_TRACK", 0b00111_00010, 0b000_0111, Bits(0x0000_000c), AskDriver),
    row(145, "RLW_SRC_TRACK", 0b00111_00010, 0b000_0111, Bits(0x0000_0031), ResetGpu),
    row(145, "RLW_TAGSTATE",  0b01000_00010, 0b000_1000, Bits(0x8001_0001), Ignore),
    row(145, "RLW_TAGSTATE",  0b01000_00010, 0b000_1000, Bits(0x0012_0002), ResetGpu),
    row(146, "TLW_CTRL",      0b01001_00011, 0b000_1001, Bits(0x8000_0003), Ignore),
    row(146, "TLW_CTRL",      0b01001_00011, 0b000_1001, Bits(0x0000_0004), ResetGpu),
    row(146, "TLW_RX",        0b01010_00011, 0b000_1010, Bits(0x8000_0003), Ignore),
    row(146, "TLW_RX",        0b01010_00011, 0b000_1010, Bits(0x0000_0004), ResetGpu),
    row(146, "TLW_RX",        0b01010_00011, 0b000_1011, Bits(0x8000_0003), Ignore),
    row(146, "TLW_RX",        0b01010_00011, 0b000_1011, Bits(0x0000_0004), ResetGpu),
    row(146, "TLW_TX",        0b01011_00011, 0b000_1100, Bits(0x8000_0003), Ignore),
    row(146, "TLW_TX",        0b01011_00011, 0b000_1100, Bits(0x0000_0004), ResetGpu),
    row(146, "TLW_TX",        0b01011_00011, 0b000_1101, Bits(0x8000_0003), Ignore),
    row(146, "TLW_TX",        0b01011_00011, 0b000_1101, Bits(0x0000_0004), ResetGpu),
    row(147, "TREX",          0b01100_00100, 0b000_1110, Bits(0x8000_0001), Ignore),
    row(148, "NVLPW",         0b00000_00101, 0b000_1111, Bits(0x8000_0000), Ignore),
    row(149, "NETIR",         0b00000_00110, 0b001_1000, Any,               ResetGpu),
    link_down(
        &[
            0b00_0000, 0b00_0001, 0b00_0010, 0b00_0100, 0b00_1010, 0b00_1111, 0b01_0000,
            0b01_0001, 0b01_0010, 0b01_0101, 0b01_0110, 0b10_0000, 0b10_0001, 0b10_0010,
            0b10_0011, 0b10_0100, 0b10_0101, 0b10_1010, 0b10_1011,
        ],
        ResetGpu,
    ),
    link_down(&[0b10_0110, 0b10_1000], Ignore),
    row(149, "NETIR_BER_EVENT",  0b10001_00110, 0b001_0011, OneOf(&[0, 1, 2, 3]), Ignore),
    row(149, "NETIR_MFDE_EVENT", 0b10010_00110, 0b001_0100, OneOf(&[1, 4, 5, 7]), ResetGpu),
    row(149, "NETIR_MFDE_EVENT", 0b10010_00110, 0b001_0100, OneOf(&[3]),          Ignore),
];

static MSE: Row = row(150, "MSE", 0, 0, OneOf(&[0, 0xffff_ffff]), ResetGpu);

impl Row {
    fn covers(&self, xid: u16, info: u32, status: Option<u32>, second_layout: bool) -> bool {
        let (unit, width) = if second_layout {
            (self.second, 7)
        } else {
            (self.first, 10)
        };
        self.xid == xid
            && info & ((1 << width) - 1) == unit
            && self.details.contains(&(info >> 20 & 0x3f))
            && self
                .escalated
                .is_none_or(|escalated| (info >> width & 1 == 1) == escalated)
            && self.status.covers(status)
    }
}

/// Decodes an error from its interrupt information and error status.
///
/// `branch` is the driver's major version. Without it both layouts are tried, rows whose unit
/// stands in `text` win, and of what remains the worst counts; so it does when the status has
/// several bits set. None when no row matches.
pub fn decode(
    xid: u16,
    info: u32,
    status: Option<u32>,
    branch: Option<u32>,
    text: &str,
) -> Option<Decoded> {
    let layouts: &[bool] = match branch {
        Some(branch) if branch < SECOND_LAYOUT_BRANCH => &[false],
        Some(_) => &[true],
        None => &[false, true],
    };
    let rows = || {
        ROWS.iter().chain(std::iter::once(&MSE)).filter(|row| {
            layouts
                .iter()
                .any(|&second| row.covers(xid, info, status, second))
        })
    };
    let named = || rows().filter(|row| text.contains(row.unit));
    let worst = named()
        .max_by_key(|row| row.meaning)
        .or_else(|| rows().max_by_key(|row| row.meaning))?;
    Some(Decoded {
        unit: worst.unit,
        meaning: worst.meaning,
    })
}

/// Takes the interrupt information and the error status out of the kernel's words, such as
/// `NETIR_LINK_EVT  Fatal   XC0 i0 Link 08 (0x004505c6 0x00000000 …)`.
pub fn words(text: &str) -> Option<(u32, Option<u32>)> {
    let open = text.rfind(['(', '['])?;
    let mut words = text[open + 1..]
        .split([' ', ',', ')', ']'])
        .filter(|word| !word.is_empty())
        .map_while(hex);
    Some((words.next()?, words.next()))
}

/// A number written `0x…`, of at most 32 bits.
pub(crate) fn hex(word: &str) -> Option<u32> {
    let digits = word
        .strip_prefix("0x")
        .or_else(|| word.strip_prefix("0X"))?;
    u32::from_str_radix(digits, 16).ok()
}

/// Whether the kernel's words call the error fatal; none when they do not say.
pub fn says_fatal(text: &str) -> Option<bool> {
    text.split_whitespace().find_map(|word| {
        if word.eq_ignore_ascii_case("fatal") {
            Some(true)
        } else if word.eq_ignore_ascii_case("nonfatal") || word.eq_ignore_ascii_case("non-fatal") {
            Some(false)
        } else {
            None
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    type Case = (
        u16,
        u32,
        Option<u32>,
        Option<u32>,
        Option<(&'static str, Meaning)>,
    );

    #[test]
    fn decodes_both_layouts() {
        let cases: &[Case] = &[
            (144, 0x21, Some(0x1), Some(570), Some(("SAW_MVB", Ignore))),
            (
                144,
                0x21,
                Some(0x12),
                Some(570),
                Some(("SAW_MVB", ResetGpu)),
            ),
            (
                144,
                0x01,
                Some(0x10),
                Some(575),
                Some(("SAW_MVB", ResetGpu)),
            ),
            (144, 0x01, Some(0x10), Some(570), None),
            (144, 0x01, Some(0x40), Some(575), None),
            (
                145,
                0x82,
                Some(0x40),
                Some(570),
                Some(("RLW_REMAP", ResetGpu)),
            ),
            (
                145,
                0x04,
                Some(0x40),
                Some(580),
                Some(("RLW_REMAP", ResetGpu)),
            ),
            (
                145,
                0x04,
                Some(0x1),
                Some(580),
                Some(("RLW_REMAP", AskDriver)),
            ),
            (
                145,
                0x04,
                Some(0x101),
                Some(580),
                Some(("RLW_REMAP", AskDriver)),
            ),
            (
                145,
                0x03,
                Some(0x8000_0000),
                Some(580),
                Some(("RLW_CTRL", Ignore)),
            ),
            (
                145,
                0x06,
                Some(0x1),
                Some(580),
                Some(("RLW_RXPIPE", Ignore)),
            ),
            (
                145,
                0x86,
                Some(0x1),
                Some(580),
                Some(("RLW_RXPIPE", ResetGpu)),
            ),
            (
                145,
                0xc2,
                Some(0x4),
                Some(570),
                Some(("RLW_RXPIPE", Ignore)),
            ),
            (
                145,
                0x4c2,
                Some(0x4),
                Some(570),
                Some(("RLW_RXPIPE", ResetGpu)),
            ),
            (
                145,
                0x4c2,
                Some(0x8),
                Some(570),
                Some(("RLW_RXPIPE", Ignore)),
            ),
            (147, 0x0e, Some(0x1), Some(580), Some(("TREX", Ignore))),
            (
                149,
                0x0045_05c6,
                Some(0),
                Some(570),
                Some(("NETIR_LINK_EVT", ResetGpu)),
            ),
            (
                149,
                0x0214_25c6,
                Some(0),
                None,
                Some(("NETIR_LINK_EVT", ResetGpu)),
            ),
            (
                149,
                0x0264_0011,
                Some(0),
                Some(580),
                Some(("NETIR_LINK_EVT", Ignore)),
            ),
            (
                149,
                0x0280_0011,
                None,
                Some(580),
                Some(("NETIR_LINK_EVT", Ignore)),
            ),
            (149, 0x0270_0011, Some(0), Some(580), None),
            (
                149,
                0x13,
                Some(2),
                Some(580),
                Some(("NETIR_BER_EVENT", Ignore)),
            ),
            (149, 0x13, Some(4), Some(580), None),
            (
                149,
                0x14,
                Some(5),
                Some(580),
                Some(("NETIR_MFDE_EVENT", ResetGpu)),
            ),
            (
                149,
                0x14,
                Some(3),
                Some(580),
                Some(("NETIR_MFDE_EVENT", Ignore)),
            ),
            (150, 0, Some(u32::MAX), None, Some(("MSE", ResetGpu))),
            (150, 0, None, None, None),
            (143, 0x21, Some(1), None, None),
        ];
        for &(xid, info, status, branch, expected) in cases {
            let decoded = decode(xid, info, status, branch, "");
            assert_eq!(
                decoded.map(|decoded| (decoded.unit, decoded.meaning)),
                expected,
                "{xid} {info:#x} {status:x?} {branch:?}"
            );
        }
    }

    #[test]
    fn the_units_name_settles_which_layout_it_is() {
        // 0x82 is RLW_REMAP in the first layout, and in the second TLW_CTRL has no such bits.
        let decoded = decode(
            145,
            0x82,
            Some(0x40),
            None,
            "RLW_REMAP Fatal XC0 i0 Link 10",
        );
        assert_eq!(decoded.map(|it| it.unit), Some("RLW_REMAP"));
    }

    #[test]
    fn reads_the_kernels_words() {
        let cases = [
            (
                "NETIR_LINK_EVT  Fatal   XC0 i0 Link 01 (0x021425c6 0x00000000 0x00000000)",
                Some((0x0214_25c6, Some(0))),
            ),
            (
                "NETIR_LINK_EVT Fatal Link 00 (0x016415c6)",
                Some((0x0164_15c6, None)),
            ),
            ("XC 1 i 2 Link 01 [0x0000000a]", Some((10, None))),
            ("RLW_REMAP Nonfatal XC0 i0 Link 02", None),
            ("(PCI:0000:01:00)", None),
            ("(0x123456789)", None),
            ("(", None),
            ("", None),
        ];
        for (text, expected) in cases {
            assert_eq!(words(text), expected, "{text}");
        }
        assert_eq!(says_fatal("RLW_REMAP Nonfatal XC0"), Some(false));
        assert_eq!(says_fatal("NETIR_LINK_EVT  Fatal   XC0"), Some(true));
        assert_eq!(says_fatal("something fatalistic"), None);
    }
}
