//! Secret keys and what they sign: Ed25519 by `ring`. Signing is deterministic, so nothing here needs randomness;
//! whoever makes a key brings its 32 random bytes.

use crate::ids::{DeviceId, Signature, TrackerId};
use ring::signature::{ED25519, Ed25519KeyPair, KeyPair as _, UnparsedPublicKey};
use std::fmt;

/// A signature that its supposed key did not make.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the signature does not match")]
pub struct BadSignature;

/// A seed and the pair made from it.
struct Secret {
    seed: [u8; 32],
    pair: Ed25519KeyPair,
}

impl Secret {
    fn new(seed: [u8; 32]) -> Self {
        let pair = Ed25519KeyPair::from_seed_unchecked(&seed).expect("a seed is 32 bytes");
        Self { seed, pair }
    }

    fn public(&self) -> [u8; 32] {
        self.pair.public_key().as_ref().try_into().expect("an Ed25519 public key is 32 bytes")
    }

    fn sign(&self, message: &[u8]) -> Signature {
        Signature(self.pair.sign(message).as_ref().try_into().expect("an Ed25519 signature is 64 bytes"))
    }
}

impl Drop for Secret {
    fn drop(&mut self) {
        self.seed = [0; 32];
        std::hint::black_box(&self.seed); // the zeros must be written, although nobody reads them
    }
}

/// The secret key of a device. It never leaves the device; its public half is the [`DeviceId`].
pub struct DeviceKey(Secret);

impl DeviceKey {
    /// Makes the key that belongs to a seed of 32 secret random bytes.
    pub fn from_seed(seed: [u8; 32]) -> Self {
        Self(Secret::new(seed))
    }

    /// The seed, for saving the key.
    pub fn seed(&self) -> &[u8; 32] {
        &self.0.seed
    }

    /// The public half.
    pub fn id(&self) -> DeviceId {
        DeviceId(self.0.public())
    }

    /// Signs exactly `message`. Callers put their own domain prefix before it.
    pub fn sign(&self, message: &[u8]) -> Signature {
        self.0.sign(message)
    }
}

impl Clone for DeviceKey {
    fn clone(&self) -> Self {
        Self::from_seed(self.0.seed)
    }
}

impl fmt::Debug for DeviceKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "DeviceKey(secret of {:?})", self.id())
    }
}

impl DeviceId {
    /// Checks that this device signed exactly `message`.
    pub fn verify(&self, message: &[u8], signature: &Signature) -> Result<(), BadSignature> {
        verify(&self.0, message, signature)
    }
}

/// The secret key of a tracker, which signs rosters.
pub struct TrackerKey(Secret);

impl TrackerKey {
    /// Makes the key that belongs to a seed of 32 secret random bytes.
    pub fn from_seed(seed: [u8; 32]) -> Self {
        Self(Secret::new(seed))
    }

    /// The seed, for saving the key.
    pub fn seed(&self) -> &[u8; 32] {
        &self.0.seed
    }

    /// The public half.
    pub fn id(&self) -> TrackerId {
        TrackerId(self.0.public())
    }

    /// Signs exactly `message`. Callers put their own domain prefix before it.
    pub fn sign(&self, message: &[u8]) -> Signature {
        self.0.sign(message)
    }
}

impl Clone for TrackerKey {
    fn clone(&self) -> Self {
        Self::from_seed(self.0.seed)
    }
}

impl fmt::Debug for TrackerKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "TrackerKey(secret of {:?})", self.id())
    }
}

impl TrackerId {
    /// Checks that this tracker signed exactly `message`.
    pub fn verify(&self, message: &[u8], signature: &Signature) -> Result<(), BadSignature> {
        verify(&self.0, message, signature)
    }
}

fn verify(key: &[u8; 32], message: &[u8], signature: &Signature) -> Result<(), BadSignature> {
    UnparsedPublicKey::new(&ED25519, key).verify(message, &signature.0).map_err(|_| BadSignature)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_signature_is_good_for_its_key_and_message_alone() {
        let key = DeviceKey::from_seed([1; 32]);
        let signature = key.sign(b"hello");
        assert_eq!(key.id().verify(b"hello", &signature), Ok(()));
        assert_eq!(key.id().verify(b"hullo", &signature), Err(BadSignature));
        assert_eq!(DeviceKey::from_seed([2; 32]).id().verify(b"hello", &signature), Err(BadSignature));
        for index in 0..64 {
            let mut bent = signature;
            bent.0[index] ^= 1;
            assert_eq!(key.id().verify(b"hello", &bent), Err(BadSignature), "byte {index}");
        }
        let tracker = TrackerKey::from_seed([1; 32]);
        assert_eq!(tracker.id().verify(b"x", &tracker.sign(b"x")), Ok(()));
        assert_eq!(tracker.id().0, key.id().0, "the same seed gives the same key");
    }

    #[test]
    fn debug_shows_no_secret() {
        let shown = format!("{:?} {:?}", DeviceKey::from_seed([0xab; 32]), TrackerKey::from_seed([0xab; 32]));
        assert!(!shown.contains("171") && !shown.to_lowercase().contains("abab"), "{shown}");
    }

    #[test]
    fn a_saved_seed_makes_the_same_key() {
        let key = DeviceKey::from_seed([3; 32]);
        assert_eq!(DeviceKey::from_seed(*key.seed()).id(), key.id());
    }
}
