//! The engine over real sockets, seen from outside: raw bytes in, raw bytes out.
#![allow(clippy::unwrap_used, missing_docs)]

mod bodies;
mod client;
mod client_faults;
mod connections;
#[cfg(target_os = "linux")]
mod exhaustion;
mod limits;
mod stopping;
mod support;
mod upgrades;
