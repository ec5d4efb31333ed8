//! A web server that shows the kernel's tables to whoever asks.
//!
//! The library is the whole program but for its start, so that it can be tested on the host:
//!
//! - [`http`] reads requests and writes the heads of answers, within limits.
//! - [`connection`] takes one client from question to answer, and knows when to give up.
//! - [`server`] has all clients, and makes room when too many come.
//! - [`state`] reads the kernel's tables; [`site`] makes pages of them.
//!
//! A client may be slow, silent, greedy or hostile. It can fill what its connection was given, for
//! as long as the timeouts allow, and nothing of anybody else's.
#![cfg_attr(not(test), no_std)]
#![forbid(unsafe_code)]

extern crate alloc;

pub mod connection;
pub mod http;
pub mod server;
pub mod site;
pub mod state;
