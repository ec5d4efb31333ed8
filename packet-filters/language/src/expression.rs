//! Filters in a few words of tcpdump's.
//!
//! `udp port 7`, `tcp port 80 and src host 10.0.2.2`, `arp`, `icmp`, `ip host 10.0.2.15`. The words are
//! about packets that arrive, over Ethernet and IPv4: a port or host is the one that they go to,
//! unless `src` stands before it, where tcpdump means either. What needs more than one filter or a
//! program is compiled on the host, and given as [`parse`](crate::parse) takes it.

use core::fmt;

use packet_filters::{Filter, FilterError};

use crate::{Builder, explain};

/// Why words are no filter. A word that is wrong is part of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ExpressionError<'a> {
    /// There is no word.
    Empty,
    /// This word means nothing, or nothing at this place.
    Unknown(&'a str),
    /// Behind this word stands no port or no address.
    Incomplete(&'a str),
    /// A port is one of TCP or UDP, which has to stand before it.
    PortOfWhat,
    /// The conditions do not make a filter together.
    Invalid(FilterError),
}

/// The filter of an expression.
///
/// # Errors
/// What is wrong with it.
pub fn expression(text: &str) -> Result<Filter, ExpressionError<'_>> {
    let mut words = text.split_whitespace().filter(|word| *word != "and");
    let first = words.next().ok_or(ExpressionError::Empty)?;
    let (mut builder, ports) = match first {
        "arp" => (Builder::ethertype(0x0806), false),
        "ip" => (Builder::ethertype(0x0800), false),
        "icmp" => (Builder::icmp(), false),
        "tcp" => (Builder::ipv4(6), true),
        "udp" => (Builder::ipv4(17), true),
        _ => return Err(ExpressionError::Unknown(first)),
    };
    while let Some(mut word) = words.next() {
        let direction = word;
        if matches!(direction, "src" | "dst") {
            word = words.next().ok_or(ExpressionError::Incomplete(direction))?;
        }
        let value = words.next().ok_or(ExpressionError::Incomplete(word));
        let source = direction == "src";
        builder = match word {
            "port" if !ports => return Err(ExpressionError::PortOfWhat),
            "port" => {
                let value = value?;
                let port = value.parse().map_err(|_| ExpressionError::Unknown(value))?;
                let builder = builder.unfragmented();
                if source { builder.source_port(port) } else { builder.destination_port(port) }
            }
            "host" if first != "arp" => {
                let value = value?;
                let ip = address(value).ok_or(ExpressionError::Unknown(value))?;
                if source { builder.source_ip(ip) } else { builder.destination_ip(ip) }
            }
            _ => return Err(ExpressionError::Unknown(word)),
        };
    }
    builder.build().map_err(ExpressionError::Invalid)
}

/// A dotted quad.
fn address(text: &str) -> Option<[u8; 4]> {
    text.parse::<core::net::Ipv4Addr>().ok().map(|address| address.octets())
}

impl fmt::Display for ExpressionError<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::Empty => write!(f, "no words"),
            Self::Unknown(word) => write!(f, "{word}: not understood here"),
            Self::Incomplete(word) => write!(f, "{word}: of what?"),
            Self::PortOfWhat => write!(f, "a port is of tcp or udp"),
            Self::Invalid(error) => explain(error).fmt(f),
        }
    }
}

impl core::error::Error for ExpressionError<'_> {}
