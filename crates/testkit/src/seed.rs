//! One seed for every random test, printed so that a failure can be repeated.

use std::time::{SystemTime, UNIX_EPOCH};

/// The seed from the variable `WEAPROUS_SEED`, or else one from the clock. It is printed.
pub fn seed() -> u64 {
    let seed = std::env::var("WEAPROUS_SEED").ok().and_then(|text| text.parse().ok()).unwrap_or_else(from_clock);
    println!("seed: {seed} (repeat with WEAPROUS_SEED={seed})");
    seed
}

/// Bytes in which a part that is lost, doubled or exchanged shows: the same for the same seed.
pub fn noise(seed: u64, len: usize) -> Vec<u8> {
    let mut state = seed | 1; // never zero, where the generator would stand still
    let mut bytes = Vec::with_capacity(len + size_of::<u64>());
    while bytes.len() < len {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        bytes.extend_from_slice(&state.to_le_bytes());
    }
    bytes.truncate(len);
    bytes
}

fn from_clock() -> u64 {
    let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).expect("the clock stands after 1970");
    since_epoch.as_nanos() as u64
}
