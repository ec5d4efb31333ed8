//! The addresses of the interface: static or by DHCP, as a program's arguments say.

use core::fmt;
use core::str::FromStr;

use smoltcp::wire::{Ipv4Address, Ipv4Cidr};

/// Where the interface's address comes from.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Address {
    /// It is known.
    Static {
        /// The address with the length of its network's prefix.
        address: Ipv4Cidr,
        /// The way to everywhere else.
        gateway: Option<Ipv4Address>,
    },
    /// A server assigns it. The contract then needs `udp:68`.
    Dhcp,
}

/// What a stack is made from.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Settings {
    /// Where the address comes from.
    pub address: Address,
    /// Seed for sequence numbers. One that others can guess lets them forge segments.
    pub seed: u64,
}

impl Default for Settings {
    /// The addresses that QEMU's user network has for its first guest.
    fn default() -> Self {
        let address = Address::Static {
            address: Ipv4Cidr::new(Ipv4Address::new(10, 0, 2, 15), 24),
            gateway: Some(Ipv4Address::new(10, 0, 2, 2)),
        };
        Self { address, seed: 0 }
    }
}

/// Why arguments are no settings.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum SettingsError {
    /// A word that is none of `dhcp`, `ip=…`, `gateway=…`.
    UnknownWord,
    /// What follows `ip=` is not an address with a prefix length, such as `10.0.2.15/24`.
    BadAddress,
    /// What follows `gateway=` is not an address, or one outside the network.
    BadGateway,
}

impl fmt::Display for SettingsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::UnknownWord => "expected `dhcp`, or `ip=ADDRESS/PREFIX` and `gateway=ADDRESS`",
            Self::BadAddress => "`ip=` takes a host's address with a prefix, as in 10.0.2.15/24",
            Self::BadGateway => "`gateway=` takes the address of a host in the same network",
        })
    }
}

impl core::error::Error for SettingsError {}

impl FromStr for Settings {
    type Err = SettingsError;

    /// Reads words such as `ip=10.0.2.15/24 gateway=10.0.2.2`, or `dhcp`. Without words the
    /// default stands; an address without a gateway has none.
    fn from_str(text: &str) -> Result<Self, SettingsError> {
        let mut settings = Self::default();
        let (mut own, mut router) = (None, None);
        for word in text.split_whitespace() {
            if word == "dhcp" {
                settings.address = Address::Dhcp;
            } else if let Some(cidr) = word.strip_prefix("ip=") {
                own = Some(host(cidr)?);
            } else if let Some(address) = word.strip_prefix("gateway=") {
                router = Some(address.parse().map_err(|_| SettingsError::BadGateway)?);
            } else {
                return Err(SettingsError::UnknownWord);
            }
        }
        if let Some(address) = own {
            settings.address = Address::Static { address, gateway: router };
        }
        match (settings.address, router) {
            (Address::Static { address, .. }, Some(router)) if !address.contains_addr(&router) => {
                Err(SettingsError::BadGateway)
            }
            (Address::Static { address, .. }, gateway @ Some(_)) => {
                settings.address = Address::Static { address, gateway };
                Ok(settings)
            }
            _ => Ok(settings),
        }
    }
}

/// A host's address with its prefix length: not the network's own, nor everybody's.
fn host(text: &str) -> Result<Ipv4Cidr, SettingsError> {
    let bad = SettingsError::BadAddress;
    let (address, prefix) = text.split_once('/').ok_or(bad)?;
    let address: Ipv4Address = address.parse().map_err(|_| bad)?;
    let prefix: u8 = prefix.parse().map_err(|_| bad)?;
    let unusable = address.is_unspecified() || address.is_multicast() || address.is_broadcast();
    if prefix > 32 || unusable {
        return Err(bad);
    }
    Ok(Ipv4Cidr::new(address, prefix))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_read() {
        assert_eq!("".parse(), Ok(Settings::default()));
        assert_eq!("dhcp".parse::<Settings>().unwrap().address, Address::Dhcp);
        let gateway = Some(Ipv4Address::new(192, 168, 7, 1));
        let address = Ipv4Cidr::new(Ipv4Address::new(192, 168, 7, 9), 24);
        let expected = Address::Static { address, gateway };
        let text = " ip=192.168.7.9/24  gateway=192.168.7.1";
        assert_eq!(text.parse::<Settings>().unwrap().address, expected);
        let alone = "ip=192.168.7.9/24".parse::<Settings>().unwrap().address;
        assert_eq!(alone, Address::Static { address, gateway: None });
    }

    #[test]
    fn nonsense_has_a_name() {
        for (text, error) in [
            ("ip", SettingsError::UnknownWord),
            ("ip=10.0.2.15", SettingsError::BadAddress),
            ("ip=10.0.2.15/33", SettingsError::BadAddress),
            ("ip=0.0.0.0/8", SettingsError::BadAddress),
            ("ip=255.255.255.255/8", SettingsError::BadAddress),
            ("ip=224.0.0.1/8", SettingsError::BadAddress),
            ("gateway=nowhere", SettingsError::BadGateway),
            ("gateway=10.0.3.2", SettingsError::BadGateway),
        ] {
            assert_eq!(text.parse::<Settings>(), Err(error), "{text}");
        }
    }
}
