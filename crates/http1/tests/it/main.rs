//! The crate from outside: case files, properties, and other people's corpora.
#![allow(clippy::unwrap_used)]

mod boundaries;
mod cases;
mod conformance;
mod corpus;
mod differential;
mod forward;
mod properties;
mod transcript;
mod wire;
