//! The engine over real sockets, seen from outside: raw bytes in, raw bytes out.
#![allow(clippy::unwrap_used, missing_docs)]

mod bodies;
mod client;
mod client_faults;
mod client_h2;
mod client_h2_limits;
mod client_h2_queue;
mod client_tls;
mod connections;
mod corpus;
#[cfg(target_os = "linux")]
mod exhaustion;
mod fast;
mod files;
mod h2;
mod h2_abuse;
mod h2_frames;
mod h2_limits;
mod h2_tunnels;
mod limits;
mod listeners;
#[cfg(target_os = "linux")]
mod memory;
mod passing;
mod passing_parts;
mod proxied;
mod splicing;
mod stopping;
mod stress;
mod support;
mod tls;
mod tls_ends;
mod tls_support;
mod upgrades;
