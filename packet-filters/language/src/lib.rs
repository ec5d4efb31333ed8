//! Packet filters as programs and people write them.
//!
//! A filter is a [`Filter`], and only what makes one is here: a const [`Builder`] for
//! programs, words of tcpdump's ([`expression`]), the canonical form of any atoms ([`filter`]), a text that is exact in both directions
//! ([`parse`], [`show`]), the bytes that the kernel takes ([`encode`]), and a packet that two filters
//! both match ([`witness`], [`Overlapping`]). Ring 0 needs none of it, and so nobody has to trust it.
#![no_std]
#![forbid(unsafe_code)]

mod builder;
mod canonical;
mod encoded;
mod expression;
mod text;
mod witness;

pub use builder::{Builder, Connection};
pub use canonical::filter;
pub use encoded::{Encoded, encode};
pub use expression::{ExpressionError, expression};
pub use packet_filters::Filter;
pub use text::{
    Explained, ParseError, ParseProblem, Shown, ShownAtom, explain, parse, parse_union, show,
    show_atom,
};
pub use witness::{Overlapping, witness};
