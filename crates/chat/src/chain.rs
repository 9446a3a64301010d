//! The chain of a device in a channel: `n` without holes, `prev` naming the envelope before, Lamport time rising.

use crate::envelope::Envelope;
use crate::ids::{DeviceId, EnvelopeId};
use serde::{Deserialize, Serialize};

/// The newest envelope of one device in one channel.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Head {
    /// Whose chain.
    pub device: DeviceId,
    /// Its number; the chain holds `1..=n`.
    pub n: u64,
    /// Its id, which the next envelope names as `prev`.
    pub id: EnvelopeId,
    /// Its Lamport time.
    pub lamport: u64,
}

impl Head {
    /// The head that a chain has once `envelope`, known as `id`, is its newest.
    pub fn of(envelope: &Envelope, id: EnvelopeId) -> Self {
        Self { device: envelope.device, n: envelope.n, id, lamport: envelope.lamport }
    }
}

/// Why an envelope cannot be added to its device's chain.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[serde(tag = "error", rename_all = "snake_case")]
pub enum AppendError {
    /// Earlier envelopes are missing: send those from `expected_n` first.
    #[error("envelopes from number {expected_n} on are missing")]
    Gap {
        /// The number that the chain needs next.
        expected_n: u64,
    },
    /// It contradicts what the chain holds: another envelope has this number, `prev` names something else, or Lamport
    /// time does not rise. The device signed two histories; only the first one seen is kept.
    #[error("the envelope contradicts the chain of its device")]
    Fork,
}

/// Checks that an envelope *not yet known by its id* comes next after `head`, the newest one held of its device in its
/// channel.
///
/// Every store applies this rule inside the transaction that appends.
pub fn check_chain(head: Option<&Head>, envelope: &Envelope) -> Result<(), AppendError> {
    let expected_n = head.map_or(1, |head| head.n + 1);
    if envelope.n > expected_n {
        return Err(AppendError::Gap { expected_n });
    }
    let follows = envelope.n == expected_n
        && envelope.prev == head.map(|head| head.id)
        && head.is_none_or(|head| envelope.lamport > head.lamport);
    if follows { Ok(()) } else { Err(AppendError::Fork) }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::envelope::Body;

    fn envelope(n: u64, prev: Option<EnvelopeId>, lamport: u64) -> Envelope {
        Envelope {
            channel: "general".parse().unwrap(),
            author: "alice".parse().unwrap(),
            device: DeviceId([1; 32]),
            n,
            prev,
            lamport,
            sent_at_ms: 0,
            body: Body::Join,
        }
    }

    #[test]
    fn rules_of_the_chain() {
        let (a, b) = (EnvelopeId([1; 32]), EnvelopeId([2; 32]));
        let head = Head { device: DeviceId([1; 32]), n: 3, id: a, lamport: 7 };
        assert_eq!(check_chain(None, &envelope(1, None, 1)), Ok(()));
        assert_eq!(check_chain(None, &envelope(2, Some(a), 1)), Err(AppendError::Gap { expected_n: 1 }));
        assert_eq!(check_chain(Some(&head), &envelope(4, Some(a), 8)), Ok(()));
        assert_eq!(check_chain(Some(&head), &envelope(4, Some(a), 7)), Err(AppendError::Fork), "lamport stands still");
        assert_eq!(check_chain(Some(&head), &envelope(4, Some(b), 8)), Err(AppendError::Fork), "another prev");
        assert_eq!(check_chain(Some(&head), &envelope(3, Some(b), 8)), Err(AppendError::Fork), "a number taken");
        assert_eq!(check_chain(Some(&head), &envelope(1, None, 1)), Err(AppendError::Fork));
        assert_eq!(check_chain(Some(&head), &envelope(5, Some(b), 9)), Err(AppendError::Gap { expected_n: 4 }));
    }
}
