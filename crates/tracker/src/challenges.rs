//! Challenges for registering devices: random, valid for a minute, good for one registration.
//!
//! Asking for one costs no memory here: the tracker recognises its own by an HMAC, and remembers only those that were
//! used.

use crate::tracker::now_ms;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::hmac;
use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

/// How long a challenge can be answered, in milliseconds.
pub(crate) const CHALLENGE_MS: u64 = 60_000;
/// Used challenges remembered at once. A registration beyond that is refused until the oldest have expired.
const USED_MAX: usize = 50_000;

const RANDOM_BYTES: usize = 16;
const BODY_BYTES: usize = RANDOM_BYTES + 8;
const TAG_BYTES: usize = 16;

/// Makes and recognises challenges.
pub(crate) struct Challenges {
    secret: hmac::Key,
    /// When each used one expires.
    used: Mutex<HashMap<[u8; RANDOM_BYTES], u64>>,
}

/// Why an answer to a challenge does not count.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum BadChallenge {
    #[error("this nonce is none of this tracker's; get one from /api/v1/challenge")]
    Unknown,
    #[error("this nonce has expired; get a new one from /api/v1/challenge")]
    Expired,
    #[error("this nonce was used already; get a new one from /api/v1/challenge")]
    Used,
    #[error("too many registrations at once; try again in a minute")]
    Full,
}

impl Challenges {
    /// With a fresh secret: challenges of an earlier run are void.
    pub(crate) fn new() -> Result<Self, getrandom::Error> {
        let mut secret = [0; 32];
        getrandom::fill(&mut secret)?;
        Ok(Self { secret: hmac::Key::new(hmac::HMAC_SHA256, &secret), used: Mutex::default() })
    }

    pub(crate) fn issue(&self) -> Result<String, getrandom::Error> {
        self.issue_at(now_ms())
    }

    /// Takes a challenge: a second time it is no good. Call it when everything else about the registration is right.
    pub(crate) fn take(&self, nonce: &str) -> Result<(), BadChallenge> {
        self.take_at(nonce, now_ms())
    }

    fn issue_at(&self, now_ms: u64) -> Result<String, getrandom::Error> {
        let mut bytes = [0; BODY_BYTES + TAG_BYTES];
        getrandom::fill(&mut bytes[..RANDOM_BYTES])?;
        bytes[RANDOM_BYTES..BODY_BYTES].copy_from_slice(&(now_ms + CHALLENGE_MS).to_be_bytes());
        let tag = hmac::sign(&self.secret, &bytes[..BODY_BYTES]);
        bytes[BODY_BYTES..].copy_from_slice(&tag.as_ref()[..TAG_BYTES]);
        Ok(URL_SAFE_NO_PAD.encode(bytes))
    }

    fn take_at(&self, nonce: &str, now_ms: u64) -> Result<(), BadChallenge> {
        let mut bytes = [0; BODY_BYTES + TAG_BYTES];
        let length = URL_SAFE_NO_PAD.decode_slice(nonce, &mut bytes).map_err(|_| BadChallenge::Unknown)?;
        let (body, tag) = bytes.split_at(BODY_BYTES);
        let right = hmac::sign(&self.secret, body);
        let same =
            right.as_ref()[..TAG_BYTES].iter().zip(tag).fold(0, |differing, (one, other)| differing | (one ^ other));
        if length != bytes.len() || same != 0 {
            return Err(BadChallenge::Unknown);
        }
        let (random, expires) = body.split_at(RANDOM_BYTES);
        let expires_ms = u64::from_be_bytes(expires.try_into().expect("eight bytes"));
        if expires_ms <= now_ms {
            return Err(BadChallenge::Expired);
        }
        let mut used = self.used.lock().unwrap_or_else(PoisonError::into_inner);
        if used.len() >= USED_MAX {
            used.retain(|_, expires_ms| *expires_ms > now_ms);
            if used.len() >= USED_MAX {
                return Err(BadChallenge::Full);
            }
        }
        let random = random.try_into().expect("sixteen bytes");
        if used.insert(random, expires_ms).is_some() { Err(BadChallenge::Used) } else { Ok(()) }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_challenge_is_good_once_and_for_a_minute() {
        let challenges = Challenges::new().unwrap();
        let nonce = challenges.issue_at(1000).unwrap();
        assert_eq!(challenges.take_at(&nonce, 1000 + CHALLENGE_MS - 1), Ok(()));
        assert_eq!(challenges.take_at(&nonce, 1001), Err(BadChallenge::Used));
        let late = challenges.issue_at(1000).unwrap();
        assert_eq!(challenges.take_at(&late, 1000 + CHALLENGE_MS), Err(BadChallenge::Expired));
    }

    #[test]
    fn what_we_did_not_issue_is_unknown() {
        let challenges = Challenges::new().unwrap();
        let nonce = challenges.issue_at(1000).unwrap();
        let other_run = Challenges::new().unwrap().issue_at(1000).unwrap();
        let changed = format!("{}{}", if nonce.starts_with('A') { 'B' } else { 'A' }, &nonce[1..]);
        let long = "A".repeat(10_000);
        for nonce in ["", "x", &nonce[1..], &changed, &other_run, &long, "\0", "é"] {
            assert_eq!(challenges.take_at(nonce, 1000), Err(BadChallenge::Unknown), "{nonce}");
        }
        assert_eq!(challenges.take_at(&nonce, 1000), Ok(()), "a failed guess does not use it up");
    }
}
