//! What the filter language promises, held against random filters, packets and bytes.

mod code;
mod decisions;
mod execution;
mod language;
mod readers;
mod set;
mod specimen;
