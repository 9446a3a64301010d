//! What a device signs to prove to a tracker that it holds its key.

use crate::ids::{DeviceId, TrackerId};
use crate::names::UserName;

/// The first line of the text that is signed; no other signature of this project starts with it.
pub const CHALLENGE_PREFIX: &str = "weaprous-register/1\n";

/// The bytes to sign at registration. The tracker's id is in them, so that another tracker cannot pass them on.
pub fn challenge_text(tracker: &TrackerId, nonce: &str, user: &UserName, device: &DeviceId) -> Vec<u8> {
    format!("{CHALLENGE_PREFIX}tracker:{tracker}\nnonce:{nonce}\nuser:{user}\ndevice:{device}\n").into_bytes()
}
