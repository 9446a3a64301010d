//! What a device signs to prove to a tracker that it holds its key.

use crate::ids::{DeviceId, TrackerId};
use crate::names::UserName;

/// The first line of the text that is signed; no other signature of this project starts with it.
pub const CHALLENGE_PREFIX: &str = "weaprous-register/1\n";

/// The bytes to sign at registration. The tracker's id is in them, so that another tracker cannot pass them on.
pub fn challenge_text(tracker: &TrackerId, nonce: &str, user: &UserName, device: &DeviceId) -> Vec<u8> {
    format!("{CHALLENGE_PREFIX}tracker:{tracker}\nnonce:{nonce}\nuser:{user}\ndevice:{device}\n").into_bytes()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn every_part_changes_the_text() {
        let text = |tracker: u8, nonce: &str, user: &str, device: u8| {
            challenge_text(&TrackerId([tracker; 32]), nonce, &user.parse().unwrap(), &DeviceId([device; 32]))
        };
        let base = text(1, "n", "alice", 2);
        assert!(base.starts_with(b"weaprous-register/1\ntracker:"));
        for other in
            [text(9, "n", "alice", 2), text(1, "m", "alice", 2), text(1, "n", "bob", 2), text(1, "n", "alice", 9)]
        {
            assert_ne!(base, other);
        }
    }
}
