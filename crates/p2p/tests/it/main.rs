//! The peer protocol from outside: scenes between two or three nodes, a hostile other side, the simulator, and the vectors
//! of `docs/protocol.md`.
#![allow(clippy::unwrap_used)]

mod desk;
mod disk;
mod hostile;
mod random;
mod scenes;
mod sim;
mod sim_tests;
mod vectors;
