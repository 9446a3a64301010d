//! How far a message has come. Each state is claimed only when it is true on disk.

use crate::ids::DeviceId;
use serde::{Deserialize, Serialize};

/// The delivery state of an own message.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "state", rename_all = "snake_case")]
pub enum DeliveryState {
    /// Only this device has it.
    Queued,
    /// The tracker has it on disk, or a peer's device has stored and acknowledged it.
    Stored {
        /// Its place in the channel's log; `None` as long as only peers hold it.
        seq: Option<u64>,
    },
    /// These devices of others have stored and acknowledged it.
    Delivered {
        /// The devices, each once.
        devices: Vec<DeviceId>,
    },
    /// Somebody it was meant for has read it.
    Read,
}

impl DeliveryState {
    /// The state that follows from what is known: the log position, if any, and the devices of others that
    /// acknowledged.
    pub fn of(seq: Option<u64>, holders: &[DeviceId]) -> Self {
        match (seq, holders) {
            (_, [_, ..]) => Self::Delivered { devices: holders.to_vec() },
            (Some(_), []) => Self::Stored { seq },
            (None, []) => Self::Queued,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_state_claims_no_more_than_is_known() {
        let bob = DeviceId([2; 32]);
        assert_eq!(DeliveryState::of(None, &[]), DeliveryState::Queued);
        assert_eq!(DeliveryState::of(Some(3), &[]), DeliveryState::Stored { seq: Some(3) });
        assert_eq!(DeliveryState::of(None, &[bob]), DeliveryState::Delivered { devices: vec![bob] });
        assert_eq!(DeliveryState::of(Some(3), &[bob]), DeliveryState::Delivered { devices: vec![bob] });
    }
}
