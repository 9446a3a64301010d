//! The targets, by what they read.

pub(crate) mod chat_bytes;
#[path = "../../../crates/http1/tests/it/forward.rs"]
mod forward;
pub(crate) mod http;
pub(crate) mod proxy_conf;
mod transcript;
pub(crate) mod web;

use std::path::PathBuf;

/// A folder of the project.
fn project(folder: &str) -> PathBuf {
    PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/..")).join(folder)
}

/// Where to cut an input, from its first byte: the rest of the input in pieces of uneven length.
fn pieces(seed: u8, bytes: &[u8]) -> Vec<&[u8]> {
    let mut state = u32::from(seed) | 0x100;
    let mut rest = bytes;
    let mut pieces = Vec::new();
    while !rest.is_empty() {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        let length = (1 + (state >> 24) as usize % 24).min(rest.len());
        let (piece, after) = rest.split_at(length);
        pieces.push(piece);
        rest = after;
    }
    pieces
}
