//! The order in which everybody shows a conversation.

use crate::ids::EnvelopeId;
use serde::{Deserialize, Serialize};

/// The place of a message in its channel: first what the log has numbered, by number; then what it has not, by Lamport
/// time and id. Equal on every client that knows the same things.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum OrderKey {
    /// In the tracker's log under this sequence number.
    Logged(u64),
    /// Not in the log as far as is known.
    Pending {
        /// Lamport time of the envelope.
        lamport: u64,
        /// Id of the envelope, which decides between equal times.
        id: EnvelopeId,
    },
}

impl OrderKey {
    /// The key of an envelope with this sequence number, if it has one.
    pub fn new(seq: Option<u64>, lamport: u64, id: EnvelopeId) -> Self {
        seq.map_or(Self::Pending { lamport, id }, Self::Logged)
    }

    /// The sequence number, if the log has given one.
    pub fn seq(&self) -> Option<u64> {
        match self {
            Self::Logged(seq) => Some(*seq),
            Self::Pending { .. } => None,
        }
    }
}
