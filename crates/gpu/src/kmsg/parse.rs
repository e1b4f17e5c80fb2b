//! Reads records of the kernel log and the driver's lines in them.

use crate::pci::PciAddress;

/// One record of `/dev/kmsg`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record<'a> {
    /// The syslog facility; 0 is the kernel itself, anything else a program that
    /// wrote to `/dev/kmsg`.
    pub facility: u32,
    /// The syslog level, 0 (emergency) to 7 (debug).
    pub level: u8,
    /// Its place in this boot's log.
    pub sequence: u64,
    /// The kernel's clock when it was written, in microseconds since the boot.
    pub kernel_time_microseconds: u64,
    /// The first line of the text; the rest is key-value pairs of devices.
    pub message: &'a str,
}

impl Record<'_> {
    /// Whether the kernel itself wrote it. Any program may write the rest.
    pub fn is_kernel(&self) -> bool {
        self.facility == 0
    }
}

/// The text is not a record of the kernel log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not a kernel-log record: want PRIORITY,SEQUENCE,MICROSECONDS,FLAGS;TEXT")]
pub struct BadRecord;

/// Reads one record: `PRIORITY,SEQUENCE,MICROSECONDS,FLAGS[,MORE];TEXT`.
///
/// # Errors
///
/// When the text before the first semicolon is not of that form.
pub fn parse_record(text: &str) -> Result<Record<'_>, BadRecord> {
    let (prefix, body) = text.split_once(';').ok_or(BadRecord)?;
    let mut fields = prefix.split(',');
    let mut number = || digits(fields.next().unwrap_or_default()).ok_or(BadRecord);
    let priority = number()?;
    let sequence = number()?;
    let kernel_time_microseconds = number()?;
    fields.next().ok_or(BadRecord)?;
    Ok(Record {
        facility: u32::try_from(priority >> 3).map_err(|_| BadRecord)?,
        level: (priority & 7) as u8,
        sequence,
        kernel_time_microseconds,
        message: body.lines().next().unwrap_or_default(),
    })
}

/// A line of the driver.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Line<'a> {
    /// A GPU error: `NVRM: Xid (PCI:0000:3b:00): 79, …`.
    Xid {
        /// The GPU.
        address: PciAddress,
        /// The error code.
        code: u32,
        /// The MIG GPU instance it is about, if the line names one.
        gpu_instance: Option<u32>,
    },
    /// An NVSwitch error: `nvidia-nvswitch3: SXid (PCI:0000:c1:00.0): 28006, …`.
    Sxid {
        /// The switch.
        address: PciAddress,
        /// The driver's number of the switch.
        switch: u32,
        /// The error code.
        code: u32,
        /// Whether the driver calls it fatal; `None` when it does not say.
        fatal: Option<bool>,
        /// The NVLink link it is about, if the line names one.
        link: Option<u32>,
    },
    /// Raw words that follow a line of the same switch and code and add no event.
    SxidDetail,
    /// The name of a GPU: `NVRM: GPU at PCI:0000:3b:00: GPU-8d7f…`.
    GpuAt {
        /// The GPU.
        address: PciAddress,
        /// Its UUID.
        uuid: &'a str,
    },
}

/// Reads a line of the driver, or nothing if it is not one of those above.
///
/// The line must begin as the driver begins it, so that another line of the
/// kernel that quotes a program's words is not taken for one.
pub fn parse_message(message: &str) -> Option<Line<'_>> {
    let message = message.trim();
    if let Some(rest) = message.strip_prefix("NVRM: Xid (") {
        return parse_xid(rest);
    }
    if let Some(rest) = message.strip_prefix("NVRM: GPU at ") {
        return parse_gpu_at(rest);
    }
    parse_sxid(message.strip_prefix("nvidia-nvswitch")?)
}

/// `PCI:0000:3b:00 GPU-I:05): 94, …`
fn parse_xid(rest: &str) -> Option<Line<'static>> {
    let (inside, after) = rest.split_once("): ")?;
    let mut words = inside.split_whitespace();
    let address = words.next()?.parse().ok()?;
    let gpu_instance = words
        .find_map(|word| word.strip_prefix("GPU-I:"))
        .and_then(digits)
        .and_then(|instance| u32::try_from(instance).ok());
    let (code, _) = parse_code(after)?;
    Some(Line::Xid {
        address,
        code,
        gpu_instance,
    })
}

/// `3: SXid (PCI:0000:c1:00.0): 28006, Non-fatal, Link 46 …`
fn parse_sxid(rest: &str) -> Option<Line<'static>> {
    let (switch, rest) = rest.split_once(": SXid (")?;
    let switch = u32::try_from(digits(switch)?).ok()?;
    let (address, after) = rest.split_once("): ")?;
    let address = address.parse().ok()?;
    let (code, words) = parse_code(after)?;
    let (fatal, words) = if let Some(words) = words.strip_prefix("Fatal, ") {
        (Some(true), words)
    } else if let Some(words) = words.strip_prefix("Non-fatal, ") {
        (Some(false), words)
    } else {
        (None, words)
    };
    if fatal.is_none() && (words.starts_with("Severity ") || words.starts_with("Data {")) {
        return Some(Line::SxidDetail);
    }
    let link = words
        .strip_prefix("Link ")
        .and_then(|words| words.split_whitespace().next())
        .and_then(digits)
        .and_then(|link| u32::try_from(link).ok());
    Some(Line::Sxid {
        address,
        switch,
        code,
        fatal,
        link,
    })
}

/// `PCI:0000:3b:00: GPU-8d7f…`
fn parse_gpu_at(rest: &str) -> Option<Line<'_>> {
    let (address, uuid) = rest.split_once(": ")?;
    let legal = |c: char| c.is_ascii_alphanumeric() || c == '-';
    if !uuid.starts_with("GPU-") || uuid.len() > 64 || !uuid.chars().all(legal) {
        return None;
    }
    let address = address.parse().ok()?;
    Some(Line::GpuAt { address, uuid })
}

/// `79, words` or `79`.
fn parse_code(text: &str) -> Option<(u32, &str)> {
    let (code, words) = text.split_once(',').unwrap_or((text, ""));
    let code = u32::try_from(digits(code.trim_end())?).ok()?;
    Some((code, words.trim_start()))
}

/// A number of decimal digits alone.
fn digits(text: &str) -> Option<u64> {
    if text.is_empty() || !text.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    text.parse().ok()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::{Line, Record, parse_message, parse_record};
    use crate::pci::PciAddress;

    fn pci(text: &str) -> PciAddress {
        text.parse().expect(text)
    }

    fn xid(address: &str, code: u32) -> Option<Line<'static>> {
        Some(Line::Xid {
            address: pci(address),
            code,
            gpu_instance: None,
        })
    }

    #[test]
    fn driver_lines() {
        let sxid = |code, fatal, link| {
            Some(Line::Sxid {
                address: pci("0000:c1:00"),
                switch: 3,
                code,
                fatal,
                link,
            })
        };
        let cases = [
            (
                "NVRM: Xid (PCI:0000:3b:00): 79, pid='<unknown>', name=<unknown>, GPU has fallen off the bus.",
                xid("0000:3b:00", 79),
            ),
            (
                "NVRM: Xid (PCI:00000000:3B:00): 79, GPU has fallen off the bus.",
                xid("0000:3b:00", 79),
            ),
            (
                "NVRM: Xid (PCI:0018:01:00): 149, NETIR_LINK_EVT  Fatal   XC0 i0 Link 12 (0x004505c6 0x00000000)",
                xid("0018:01:00", 149),
            ),
            (
                "NVRM: Xid (0000:03:00): 14, Channel 00000001",
                xid("0000:03:00", 14),
            ),
            (
                "NVRM: Xid (PCI:0000:01:00): 999, what is this",
                xid("0000:01:00", 999),
            ),
            ("NVRM: Xid (PCI:0000:01:00): 48", xid("0000:01:00", 48)),
            ("NVRM: Xid (PCI:0000:01:00): 79, \n", xid("0000:01:00", 79)),
            (
                "NVRM: Xid (PCI:0000:01:00 GPU-I:05 GPU-CI:02): 94, pid=7194, Contained: CE User Channel (0x9). RST: No, D-RST: No",
                Some(Line::Xid {
                    address: pci("0000:01:00"),
                    code: 94,
                    gpu_instance: Some(5),
                }),
            ),
            (
                "NVRM: GPU at PCI:0000:3b:00: GPU-8d7f1d3a-0000-4111-8222-933344445555",
                Some(Line::GpuAt {
                    address: pci("0000:3b:00"),
                    uuid: "GPU-8d7f1d3a-0000-4111-8222-933344445555",
                }),
            ),
            (
                "nvidia-nvswitch3: SXid (PCI:0000:c1:00.0): 28006, Non-fatal, Link 46 MC TS crumbstore MCTO (First)",
                sxid(28006, Some(false), Some(46)),
            ),
            (
                "nvidia-nvswitch3: SXid (PCI:0000:c1:00.0): 20034, Fatal, Link 30 LTSSM Fault Up",
                sxid(20034, Some(true), Some(30)),
            ),
            (
                "nvidia-nvswitch3: SXid (PCI:0000:c1:00.0): 10001, Fatal, Host_priv_error",
                sxid(10001, Some(true), None),
            ),
            (
                "nvidia-nvswitch3: SXid (PCI:0000:c1:00.0): 10001, new words",
                sxid(10001, None, None),
            ),
            (
                "nvidia-nvswitch3: SXid (PCI:0000:c1:00.0): 28006, Severity 0 Engine instance 46 Sub-engine instance 00",
                Some(Line::SxidDetail),
            ),
            (
                "nvidia-nvswitch3: SXid (PCI:0000:c1:00.0): 28006, Data {0x00140004, 0x00100000}",
                Some(Line::SxidDetail),
            ),
        ];
        for (text, line) in cases {
            assert_eq!(parse_message(text), line, "{text}");
        }
    }

    #[test]
    fn other_lines_are_not_the_drivers() {
        let others = [
            "",
            "NVRM: loading NVIDIA UNIX x86_64 Kernel Module",
            "NVRM: Xid (PCI:0000:3b:00)",
            "NVRM: Xid (PCI:0000:3b:00): , x",
            "NVRM: Xid (PCI:0000:3b:00): -79, x",
            "NVRM: Xid (PCI:0000:3b:00): 99999999999, x",
            "NVRM: Xid (PCI:zz:3b:00): 79, x",
            "NVRM: Xid (): 79, x",
            "NVRM: Xid PCI:0000:3b:00: 79, x",
            "Killed process 51 (NVRM: Xid (PCI:0000:3b:00): 79, x)",
            "NVRM: GPU at PCI:0000:3b:00: not-a-uuid",
            "NVRM: GPU at PCI:0000:3b:00: GPU-\u{1b}[31m",
            "nvidia-nvswitch: SXid (PCI:0000:c1:00.0): 28006, Fatal, x",
            "nvidia-nvswitchX: SXid (PCI:0000:c1:00.0): 28006, Fatal, x",
            "nvidia-nvswitch3: using MSI",
        ];
        for text in others {
            assert_eq!(parse_message(text), None, "{text}");
        }
    }

    #[test]
    fn records() {
        let text = "3,22625,652513086584,-,caller=T1;NVRM: Xid (PCI:0000:3b:00): 79, a;b\n SUBSYSTEM=pci\n DEVICE=+pci:0000:3b:00.0\n";
        let record = Record {
            facility: 0,
            level: 3,
            sequence: 22625,
            kernel_time_microseconds: 652_513_086_584,
            message: "NVRM: Xid (PCI:0000:3b:00): 79, a;b",
        };
        assert_eq!(parse_record(text), Ok(record));
        // A program's own line has the facility "user".
        let forged = parse_record("11,5,6,-;NVRM: Xid (PCI:0000:3b:00): 79, x").unwrap();
        assert_eq!(
            (forged.facility, forged.level, forged.is_kernel()),
            (1, 3, false)
        );
    }

    #[test]
    fn what_is_no_record_is_refused() {
        let bad = [
            "",
            ";",
            "3,1,2;text",
            "3,1,2,-",
            "a,1,2,-;text",
            "3,,2,-;text",
            "3,-1,2,-;text",
            "+3,1,2,-;text",
            "3,1,99999999999999999999999,-;text",
            "99999999999999,1,2,-;text",
            " SUBSYSTEM=pci",
        ];
        for text in bad {
            assert!(parse_record(text).is_err(), "{text:?}");
        }
    }

    proptest! {
        #[test]
        fn no_text_panics(text in ".*") {
            let _ = parse_record(&text);
            let _ = parse_message(&text);
        }

        #[test]
        fn no_text_after_the_beginning_panics(
            begin in prop::sample::select(vec![
                "NVRM: Xid (", "NVRM: Xid (PCI:0000:3b:00", "NVRM: GPU at PCI:", "nvidia-nvswitch",
                "nvidia-nvswitch3: SXid (", "nvidia-nvswitch3: SXid (PCI:0000:c1:00.0): ",
            ]),
            text in r"[0-9a-f(): ,.GPU\-IéX\x00]{0,60}",
        ) {
            let _ = parse_message(&format!("{begin}{text}"));
        }

        #[test]
        fn every_xid_line_is_read(domain: u16, bus: u8, device in 0_u8..32, code: u32, words in "[^\n]*") {
            let line = format!("NVRM: Xid (PCI:{domain:04x}:{bus:02x}:{device:02x}): {code}, {words}");
            let address = PciAddress { domain: domain.into(), bus, device };
            prop_assert_eq!(parse_message(&line), Some(Line::Xid { address, code, gpu_instance: None }));
        }

        #[test]
        fn every_record_is_read(priority in 0_u64..200, sequence: u64, time: u64, text in "[^\n\r]*") {
            let written = format!("{priority},{sequence},{time},-;{text}\n KEY=value\n");
            let record = parse_record(&written).unwrap();
            prop_assert_eq!(u64::from(record.facility) * 8 + u64::from(record.level), priority);
            prop_assert_eq!(record.sequence, sequence);
            prop_assert_eq!(record.kernel_time_microseconds, time);
            prop_assert_eq!(record.message, text);
        }
    }
}
