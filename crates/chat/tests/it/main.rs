//! The crate from outside: the vectors of `docs/protocol.md`.
#![allow(clippy::unwrap_used)]

mod vectors;
