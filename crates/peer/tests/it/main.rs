//! Peers on real sockets in one process: with each other, with strangers, with a tracker and without.
#![allow(clippy::unwrap_used)]

mod api;
mod direct;
mod hostile;
mod nonsense;
mod refused;
mod stage;
mod tracked;
