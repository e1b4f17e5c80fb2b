//! Addresses on the PCI bus, however they are written.

use std::fmt;
use std::str::FromStr;

/// Where a GPU or switch is on the PCI bus. The function is left out: a GPU is
/// function 0, and kernel messages do not name it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PciAddress {
    /// The domain, or segment.
    pub domain: u32,
    /// The bus.
    pub bus: u8,
    /// The device on the bus, 0 to 31.
    pub device: u8,
}

/// The text is not an address on the PCI bus.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not a PCI address: want DOMAIN:BUS:DEVICE or DOMAIN:BUS:DEVICE.FUNCTION in hexadecimal")]
pub struct BadPciAddress;

impl FromStr for PciAddress {
    type Err = BadPciAddress;

    /// Reads `0000:3b:00.0`, with a domain of 1 to 8 digits in either case, with
    /// or without the function and a leading `PCI:`.
    fn from_str(text: &str) -> Result<Self, BadPciAddress> {
        let text = text.strip_prefix("PCI:").unwrap_or(text);
        let mut parts = text.split(':');
        let domain = hex(parts.next(), 8)?;
        let bus = hex(parts.next(), 2)?;
        let slot = parts.next().ok_or(BadPciAddress)?;
        if parts.next().is_some() {
            return Err(BadPciAddress);
        }
        let device = match slot.split_once('.') {
            Some((device, function)) => {
                if hex(Some(function), 1)? > 7 {
                    return Err(BadPciAddress);
                }
                device
            }
            None => slot,
        };
        let device = hex(Some(device), 2)?;
        if device > 31 {
            return Err(BadPciAddress);
        }
        let narrow = |value| u8::try_from(value).map_err(|_| BadPciAddress);
        Ok(Self {
            domain,
            bus: narrow(bus)?,
            device: narrow(device)?,
        })
    }
}

fn hex(text: Option<&str>, most_digits: usize) -> Result<u32, BadPciAddress> {
    let text = text.ok_or(BadPciAddress)?;
    let legal =
        (1..=most_digits).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_hexdigit());
    if !legal {
        return Err(BadPciAddress);
    }
    u32::from_str_radix(text, 16).map_err(|_| BadPciAddress)
}

impl fmt::Display for PciAddress {
    /// Writes the kernel's form, `0000:3b:00.0`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{:04x}:{:02x}:{:02x}.0",
            self.domain, self.bus, self.device
        )
    }
}

#[cfg(test)]
mod tests {
    use super::PciAddress;
    use proptest::prelude::*;

    #[test]
    fn every_spelling_is_one_address() {
        let same = [
            "0000:3b:00.0",
            "0000:3B:00",
            "00000000:3B:00.0",
            "PCI:0000:3b:00",
            "PCI:00000000:3B:00.0",
        ];
        for text in same {
            let address: PciAddress = text.parse().expect(text);
            assert_eq!(address.to_string(), "0000:3b:00.0", "{text}");
        }
        let wide: PciAddress = "00010018:01:00.0".parse().unwrap();
        assert_eq!(wide.to_string(), "10018:01:00.0");
    }

    #[test]
    fn what_is_no_address_is_refused() {
        let bad = [
            "",
            "3b",
            "0000:3b",
            "0000:3b:00:00",
            "0000:3b:20",
            "0000:3b:00.8",
            "0000:3b:00.",
            "000000000:3b:00",
            "0000:13b:00",
            "0000:+b:00",
            "0000: b:00",
            "0000:3b:é",
            "PCI:PCI:0:0:0",
        ];
        for text in bad {
            assert!(text.parse::<PciAddress>().is_err(), "{text}");
        }
    }

    proptest! {
        #[test]
        fn written_addresses_read_back(domain: u32, bus: u8, device in 0_u8..32) {
            let address = PciAddress { domain, bus, device };
            prop_assert_eq!(address.to_string().parse(), Ok(address));
        }

        #[test]
        fn no_text_panics(text in ".*") {
            let _ = text.parse::<PciAddress>();
        }
    }
}
