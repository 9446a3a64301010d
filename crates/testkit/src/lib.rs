//! For tests only: raw HTTP client, case files, other people's corpora, byte-wise splitting.
//!
//! Knows nothing of the crates it tests, so that a mistake in them cannot hide itself here.

pub mod cases;
mod client;
pub mod corpus;
mod seed;
mod split;
#[cfg(feature = "tls")]
pub mod tls;

pub use client::{RawClient, RawResponse};
pub use seed::{noise, seed};
pub use split::{at_every_byte, byte_by_byte};
