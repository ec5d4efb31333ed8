//! The manifest: which programs start, with which arguments and under which contract.
//!
//! It travels as the file `manifest` of the boot archive, encoded with postcard. The host tool
//! writes it from the `[package.metadata.exo]` tables of the programs; `init` reads it and turns
//! every entry into an environment with a capability of its own.

use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;
use core::str::FromStr;

use serde::{Deserialize, Serialize};

/// Where the manifest lies in the boot archive.
pub const MANIFEST_PATH: &str = "manifest";

/// Everything that `init` starts, and how it behaves while they run.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Manifest {
    /// The programs, in the order in which they start.
    pub programs: Vec<Program>,
    /// Seed for everything random in this run. It is printed, so that a run can be repeated.
    pub seed: u64,
    /// Leave out the reports on starts and exits that are meant for people. Lines for the host
    /// (those that start with `@`) are printed all the same.
    pub quiet: bool,
    /// Go on after the last program that is not a service has ended, until the console sends a
    /// Ctrl-C (byte 3). Without it `init` then stops the services and ends.
    pub linger: bool,
}

impl Manifest {
    /// Encodes the manifest for the boot archive.
    ///
    /// # Errors
    /// Postcard fails only when memory runs out while the buffer grows.
    pub fn encode(&self) -> Result<Vec<u8>, postcard::Error> {
        postcard::to_allocvec(self)
    }

    /// Decodes what [`Manifest::encode`] made.
    ///
    /// # Errors
    /// Bytes that are truncated or not a manifest.
    pub fn decode(bytes: &[u8]) -> Result<Self, postcard::Error> {
        postcard::from_bytes(bytes)
    }
}

/// One program and its contract: what it is given at the start and how far it may go.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Program {
    /// Label on the console and name in the tables; unique within one manifest.
    pub name: String,
    /// Path of its ELF file in the boot archive, such as `bin/web`.
    pub path: String,
    /// Its arguments, one text; how it is split is the program's own business.
    pub args: String,
    /// Most frames of 4 KiB that it may hold, its own image and stacks included.
    pub frames: u32,
    /// Frames that revocation never goes below.
    pub floor: u32,
    /// Slices of processor time that it gets in each round.
    pub slices: u32,
    /// Over how many processors these are spread. It runs on one at a time; programs that are
    /// spread over one only are dealt to the processors in turn.
    pub cpus: u32,
    /// Most packet filters that it may install.
    pub filters: u32,
    /// Most rings that it may bind.
    pub rings: u32,
    /// Most environments that it may create.
    pub environments: u32,
    /// Frames donated to the kernel for its page tables and other kernel memory.
    pub kernel_frames: u32,
    /// The least notice, in microseconds, that whoever asks for its resources back must give.
    pub notice: u32,
    /// What it may receive from the network.
    pub ports: Vec<Port>,
    /// Capabilities beyond its own name.
    pub rights: Vec<Right>,
    /// A service runs as long as something else does: the run does not wait for it to end.
    pub service: bool,
}

/// Packets that a program may claim with its filters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Port {
    /// TCP segments to this port.
    Tcp(u16),
    /// UDP datagrams to this port.
    Udp(u16),
    /// ARP requests and replies.
    Arp,
    /// ICMP messages.
    Icmp,
}

/// A capability that a program gets beside the one for its own resources.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Right {
    /// Bind rings and send packets.
    Network,
    /// Lead packets to any program, and reserve them for it.
    Filters,
    /// Ask other environments for their resources back.
    Revoke,
    /// Receive what is typed on the console.
    Console,
}

/// Why a text names no port or no right.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ManifestError {
    /// Not one of `tcp:PORT`, `udp:PORT`, `arp`, `icmp`.
    UnknownPort,
    /// The number after `tcp:` or `udp:` is not between 1 and 65535.
    BadPortNumber,
    /// Not one of `network`, `filters`, `revoke`, `console`.
    UnknownRight,
}

impl fmt::Display for ManifestError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::UnknownPort => "a port is one of tcp:PORT, udp:PORT, arp, icmp",
            Self::BadPortNumber => "a port number is between 1 and 65535",
            Self::UnknownRight => "a right is one of network, filters, revoke, console",
        })
    }
}

impl core::error::Error for ManifestError {}

impl FromStr for Port {
    type Err = ManifestError;

    fn from_str(text: &str) -> Result<Self, ManifestError> {
        let number = |digits: &str| match digits.parse() {
            Ok(0) | Err(_) => Err(ManifestError::BadPortNumber),
            Ok(port) => Ok(port),
        };
        match text.split_once(':') {
            Some(("tcp", digits)) => number(digits).map(Self::Tcp),
            Some(("udp", digits)) => number(digits).map(Self::Udp),
            None if text == "arp" => Ok(Self::Arp),
            None if text == "icmp" => Ok(Self::Icmp),
            _ => Err(ManifestError::UnknownPort),
        }
    }
}

impl FromStr for Right {
    type Err = ManifestError;

    fn from_str(text: &str) -> Result<Self, ManifestError> {
        match text {
            "network" => Ok(Self::Network),
            "filters" => Ok(Self::Filters),
            "revoke" => Ok(Self::Revoke),
            "console" => Ok(Self::Console),
            _ => Err(ManifestError::UnknownRight),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::borrow::ToOwned;
    use alloc::vec;

    fn example() -> Manifest {
        let web = Program {
            name: "web".to_owned(),
            path: "bin/web".to_owned(),
            frames: 512,
            ports: vec![Port::Tcp(80), Port::Arp],
            rights: vec![Right::Network],
            service: true,
            ..Program::default()
        };
        Manifest { programs: vec![web], seed: 7, quiet: false, linger: true }
    }

    #[test]
    fn what_the_host_writes_is_what_the_guest_reads() {
        let bytes = example().encode().unwrap();
        assert_eq!(Manifest::decode(&bytes), Ok(example()));
    }

    #[test]
    fn a_truncated_manifest_is_refused_at_every_length() {
        let bytes = example().encode().unwrap();
        for length in 0..bytes.len() {
            assert!(Manifest::decode(&bytes[..length]).is_err(), "{length} bytes were accepted");
        }
    }

    #[test]
    fn ports_and_rights_have_one_spelling() {
        assert_eq!("tcp:80".parse(), Ok(Port::Tcp(80)));
        assert_eq!("udp:68".parse(), Ok(Port::Udp(68)));
        assert_eq!("arp".parse(), Ok(Port::Arp));
        assert_eq!("icmp".parse(), Ok(Port::Icmp));
        assert_eq!("tcp:0".parse::<Port>(), Err(ManifestError::BadPortNumber));
        assert_eq!("tcp:65536".parse::<Port>(), Err(ManifestError::BadPortNumber));
        assert_eq!("sctp:1".parse::<Port>(), Err(ManifestError::UnknownPort));
        assert_eq!("revoke".parse(), Ok(Right::Revoke));
        assert_eq!("root".parse::<Right>(), Err(ManifestError::UnknownRight));
    }
}
