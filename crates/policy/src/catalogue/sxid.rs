//! NVSwitch errors (SXIDs) as data: one row per code.
//!
//! Source: NVIDIA's Fabric Manager user guide (DU-09883), appendix D.

use navarch_model::Repair;

use self::Severity::{AlwaysFatal, Fatal, NonFatal};

/// How far an NVSwitch error reaches.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Severity {
    /// The fabric goes on.
    NonFatal,
    /// The jobs on the GPUs behind the port end.
    Fatal,
    /// The whole fabric of the machine stops.
    AlwaysFatal,
}

impl Severity {
    /// The words for people.
    pub const fn phrase(self) -> &'static str {
        match self {
            NonFatal => "non-fatal",
            Fatal => "fatal to a port",
            AlwaysFatal => "always fatal to the fabric",
        }
    }

    /// The repair it requires: the guide resets the GPUs of a failed port, and the GPUs together
    /// with all switches when the fabric stopped, which takes a reboot.
    pub const fn repair(self) -> Repair {
        match self {
            NonFatal => Repair::None,
            Fatal => Repair::ResetGpu,
            AlwaysFatal => Repair::Reboot,
        }
    }
}

/// One row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sxid {
    /// The code.
    pub code: u32,
    /// What it means.
    pub name: &'static str,
    /// How far it reaches.
    pub severity: Severity,
}

/// The row of a code.
pub fn sxid(code: u32) -> Option<Sxid> {
    let at = ROWS.binary_search_by_key(&code, |row| row.0).ok()?;
    let (code, name, severity) = ROWS[at];
    Some(Sxid {
        code,
        name,
        severity,
    })
}

/// Every row, by code. The guide lists 10005 among the fatal codes; it says that an earlier fault is
/// over, and that costs no machine here.
#[rustfmt::skip]
static ROWS: [(u32, &str, Severity); 92] = [
    (10001, "host priv error", Fatal),
    (10002, "host priv timeout", Fatal),
    (10003, "host unhandled interrupt", AlwaysFatal),
    (10004, "host thermal event start", Fatal),
    (10005, "host thermal event end", NonFatal),
    (11001, "ingress invalid command", Fatal),
    (11004, "ingress invalid ACL", NonFatal),
    (11009, "ingress invalid VCSet", Fatal),
    (11012, "single-bit ECC errors", NonFatal),
    (11013, "ingress header DBE", Fatal),
    (11018, "ingress RID DBE", Fatal),
    (11019, "ingress RLAN DBE", Fatal),
    (11020, "ingress control parity", Fatal),
    (11021, "single-bit ECC errors", NonFatal),
    (11022, "single-bit ECC errors", NonFatal),
    (11023, "single-bit ECC errors", NonFatal),
    (12001, "egress crossbar overflow", Fatal),
    (12002, "egress packet route", Fatal),
    (12020, "egress sequence ID error", AlwaysFatal),
    (12021, "single-bit ECC errors", NonFatal),
    (12022, "egress input ECC DBE error", Fatal),
    (12023, "single-bit ECC errors", NonFatal),
    (12024, "egress output ECC DBE error", Fatal),
    (12025, "egress credit overflow", Fatal),
    (12026, "egress destination request ID error", Fatal),
    (12027, "egress destination response ID error", Fatal),
    (12028, "egress nonposted PRIV error", NonFatal),
    (12030, "egress control parity error", Fatal),
    (12031, "egress credit parity error", Fatal),
    (12032, "egress flit type mismatch", Fatal),
    (14017, "TS ATO timeout", Fatal),
    (15001, "route buffer over/underflow", Fatal),
    (15006, "route transdone over/underflow", Fatal),
    (15008, "single-bit ECC errors", NonFatal),
    (15009, "route GLT DBE", Fatal),
    (15010, "route parity", Fatal),
    (15011, "single-bit ECC errors", NonFatal),
    (15012, "route incoming DBE", Fatal),
    (15013, "route credit parity", Fatal),
    (19047, "NCISOC HDR ECC DBE Error", Fatal),
    (19048, "NCISOC DAT ECC DBE Error", Fatal),
    (19049, "single-bit ECC errors", NonFatal),
    (19054, "HDR RAM ECC DBE Error", Fatal),
    (19055, "single-bit ECC errors", NonFatal),
    (19056, "DAT0 RAM ECC DBE Error", Fatal),
    (19057, "single-bit ECC errors", NonFatal),
    (19058, "DAT1 RAM ECC DBE Error", Fatal),
    (19059, "single-bit ECC errors", NonFatal),
    (19060, "CREQ RAM HDR ECC DBE Error", Fatal),
    (19061, "CREQ RAM DAT ECC DBE Error", Fatal),
    (19062, "single-bit ECC errors", NonFatal),
    (19063, "Response RAM HDR ECC DBE Error", Fatal),
    (19064, "Response RAM DAT ECC DBE Error", Fatal),
    (19065, "single-bit ECC errors", NonFatal),
    (19066, "COM RAM HDR ECC DBE Error", Fatal),
    (19067, "COM RAM DAT ECC DBE Error", Fatal),
    (19068, "single-bit ECC errors", NonFatal),
    (19069, "RSP1 RAM HDR ECC DBE Error", Fatal),
    (19070, "RSP1 RAM DAT ECC DBE Error", Fatal),
    (19071, "single-bit ECC errors", NonFatal),
    (19084, "AN1 Heartbeat Timeout Error", NonFatal),
    (20001, "TX Replay Error", NonFatal),
    (20009, "RX Short Error Rate", NonFatal),
    (20012, "Broken/inconsistent connection", NonFatal),
    (20034, "LTSSM Fault Up", Fatal),
    (22003, "minion Halt", AlwaysFatal),
    (22011, "minion exterror", AlwaysFatal),
    (22013, "minion Link DLREQ interrupt", NonFatal),
    (23001, "ingress SRC-VC buffer overflow", AlwaysFatal),
    (23002, "ingress SRC-VC buffer underflow", AlwaysFatal),
    (23003, "egress DST-VC credit overflow", AlwaysFatal),
    (23004, "egress DST-VC credit underflow", AlwaysFatal),
    (23005, "ingress packet burst error", AlwaysFatal),
    (23006, "ingress packet sticky error", AlwaysFatal),
    (23007, "possible bubbles at ingress", AlwaysFatal),
    (23008, "ingress packet invalid dst error", AlwaysFatal),
    (23009, "ingress packet parity error", AlwaysFatal),
    (23010, "ingress SRC-VC buffer overflow", AlwaysFatal),
    (23011, "ingress SRC-VC buffer underflow", AlwaysFatal),
    (23012, "egress DST-VC credit overflow", AlwaysFatal),
    (23013, "egress DST-VC credit underflow", AlwaysFatal),
    (23014, "ingress packet burst error", AlwaysFatal),
    (23015, "ingress packet sticky error", AlwaysFatal),
    (23016, "possible bubbles at ingress", AlwaysFatal),
    (23017, "ingress credit parity error", AlwaysFatal),
    (24001, "single-bit ECC errors", NonFatal),
    (24002, "single-bit ECC errors", NonFatal),
    (24003, "single-bit ECC errors", NonFatal),
    (24004, "sourcetrack TCEN0 crumbstore DBE", Fatal),
    (24005, "sourcetrack TCEN0 TD crumbstore DBE", Fatal),
    (24006, "sourcetrack TCEN1 crumbstore DBE", Fatal),
    (24007, "sourcetrack timeout error", Fatal),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_sorted_and_found() {
        assert!(ROWS.windows(2).all(|pair| pair[0].0 < pair[1].0));
        assert_eq!(sxid(22003).map(|row| row.severity), Some(AlwaysFatal));
        assert_eq!(sxid(12345), None);
    }
}
