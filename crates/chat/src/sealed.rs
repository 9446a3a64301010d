//! An envelope with its signature: what travels and what is stored.

use crate::envelope::{Envelope, EnvelopeError};
use crate::ids::{EnvelopeId, Signature};
use crate::keys::DeviceKey;
use std::sync::Arc;

/// What the signature covers before the envelope's bytes; no other signature of this project starts with it.
pub const ENVELOPE_PREFIX: &[u8] = b"weaprous-envelope/1\n";

/// An envelope that was read but whose signature nobody has checked: enough to see whether it is worth checking.
#[derive(Debug)]
pub struct Unverified<'a> {
    bytes: &'a [u8],
    signature: Signature,
    envelope: Envelope,
}

impl<'a> Unverified<'a> {
    /// Reads an envelope that came from outside.
    pub fn parse(bytes: &'a [u8], signature: Signature) -> Result<Self, EnvelopeError> {
        Ok(Self { bytes, signature, envelope: Envelope::parse(bytes)? })
    }

    /// What the bytes claim.
    pub fn envelope(&self) -> &Envelope {
        &self.envelope
    }

    /// Checks the signature.
    pub fn verify(self) -> Result<Sealed, EnvelopeError> {
        self.envelope.device.verify(&signed_text(self.bytes), &self.signature)?;
        Ok(Sealed::assemble(self.bytes.to_vec(), self.signature, self.envelope))
    }
}

/// A signed envelope, verified when it was opened. Cheap to clone.
#[derive(Clone)]
pub struct Sealed(Arc<Inner>);

struct Inner {
    bytes: Box<[u8]>,
    signature: Signature,
    id: EnvelopeId,
    envelope: Envelope,
}

impl Sealed {
    /// Signs an envelope with the key of the device that it names.
    ///
    /// # Errors
    /// The envelope breaks a limit, or names another device.
    pub fn seal(key: &DeviceKey, envelope: &Envelope) -> Result<Self, EnvelopeError> {
        if envelope.device != key.id() {
            return Err(EnvelopeError::WrongDevice);
        }
        let bytes = envelope.to_bytes();
        // Reading it back is what proves that every reader will take it, and take it for the same.
        if Envelope::parse(&bytes)? != *envelope {
            return Err(EnvelopeError::NotCanonical);
        }
        let signature = key.sign(&signed_text(&bytes));
        Ok(Self::assemble(bytes, signature, envelope.clone()))
    }

    /// Reads an envelope that came from outside and verifies its signature.
    pub fn open(bytes: &[u8], signature: Signature) -> Result<Self, EnvelopeError> {
        Unverified::parse(bytes, signature)?.verify()
    }

    /// Reads an envelope that this program verified before it stored it. The signature is not checked again.
    pub fn from_storage(bytes: Vec<u8>, signature: Signature) -> Result<Self, EnvelopeError> {
        let envelope = Envelope::parse(&bytes)?;
        Ok(Self::assemble(bytes, signature, envelope))
    }

    fn assemble(bytes: Vec<u8>, signature: Signature, envelope: Envelope) -> Self {
        let id = EnvelopeId::of(&bytes);
        Self(Arc::new(Inner { bytes: bytes.into(), signature, id, envelope }))
    }

    /// The canonical bytes: JSON, hence UTF-8.
    pub fn bytes(&self) -> &[u8] {
        &self.0.bytes
    }

    /// The canonical bytes as text, as they stand in JSON answers.
    pub fn text(&self) -> &str {
        std::str::from_utf8(&self.0.bytes).expect("canonical bytes are JSON, which is UTF-8")
    }

    /// The device's signature.
    pub fn signature(&self) -> Signature {
        self.0.signature
    }

    /// The SHA-256 of the bytes.
    pub fn id(&self) -> EnvelopeId {
        self.0.id
    }

    /// What the bytes say.
    pub fn envelope(&self) -> &Envelope {
        &self.0.envelope
    }
}

impl PartialEq for Sealed {
    /// Two are equal when their bytes are; an Ed25519 signature adds nothing to that.
    fn eq(&self, other: &Self) -> bool {
        self.0.id == other.0.id
    }
}

impl Eq for Sealed {}

impl std::fmt::Debug for Sealed {
    /// Shows the place, never the text.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Envelope { channel, author, device, n, .. } = &self.0.envelope;
        write!(f, "Sealed({channel} {author} {device:?} n={n} {:?})", self.0.id)
    }
}

fn signed_text(bytes: &[u8]) -> Vec<u8> {
    [ENVELOPE_PREFIX, bytes].concat()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::envelope::{Body, ENVELOPE_BYTES_MAX, TEXT_BYTES_MAX};
    use crate::keys::BadSignature;

    fn envelope(key: &DeviceKey, body: Body) -> Envelope {
        Envelope {
            channel: "general".parse().unwrap(),
            author: "alice".parse().unwrap(),
            device: key.id(),
            n: 1,
            prev: None,
            lamport: 1,
            sent_at_ms: 0,
            body,
        }
    }

    fn text(text: impl Into<String>) -> Body {
        Body::Text { text: text.into() }
    }

    #[test]
    fn what_is_sealed_opens() {
        let key = DeviceKey::from_seed([1; 32]);
        let sealed = Sealed::seal(&key, &envelope(&key, text("hello"))).unwrap();
        let opened = Sealed::open(sealed.bytes(), sealed.signature()).unwrap();
        assert_eq!((opened.id(), opened.envelope()), (EnvelopeId::of(sealed.bytes()), sealed.envelope()));
        let stored = Sealed::from_storage(sealed.bytes().to_vec(), sealed.signature()).unwrap();
        assert_eq!(stored, sealed);
        assert!(!format!("{sealed:?}").contains("hello"), "no text in logs");
    }

    #[test]
    fn forgeries_are_refused() {
        let (alice, mallory) = (DeviceKey::from_seed([1; 32]), DeviceKey::from_seed([2; 32]));
        let sealed = Sealed::seal(&alice, &envelope(&alice, text("pay bob 1"))).unwrap();
        let forged = Err(EnvelopeError::Forged(BadSignature));
        let changed = sealed.text().replace("pay bob 1", "pay bob 9");
        assert_eq!(Sealed::open(changed.as_bytes(), sealed.signature()), forged);
        assert_eq!(Sealed::open(sealed.bytes(), Signature([0; 64])), forged);
        let by_mallory = mallory.sign(&signed_text(sealed.bytes()));
        assert_eq!(Sealed::open(sealed.bytes(), by_mallory), forged);
        let without_prefix = alice.sign(sealed.bytes());
        assert_eq!(Sealed::open(sealed.bytes(), without_prefix), forged, "the domain is part of what is signed");
        assert_eq!(Sealed::seal(&mallory, sealed.envelope()), Err(EnvelopeError::WrongDevice));
    }

    #[test]
    fn what_readers_would_refuse_is_never_sealed() {
        let key = DeviceKey::from_seed([1; 32]);
        let seal = |body| Sealed::seal(&key, &envelope(&key, body)).map(|_| ());
        let other = |kind: &str, raw: &str| Body::Other { kind: kind.to_owned(), raw: raw.into() };
        assert_eq!(seal(text("x".repeat(TEXT_BYTES_MAX))), Ok(()));
        assert_eq!(seal(text("x".repeat(TEXT_BYTES_MAX + 1))), Err(EnvelopeError::TextTooLong));
        assert_eq!(seal(text("\u{1}".repeat(ENVELOPE_BYTES_MAX / 6))), Err(EnvelopeError::TooLarge));
        assert_eq!(seal(text("")), Err(EnvelopeError::TextEmpty));
        assert_eq!(seal(other("later", r#"{"a":1}"#)), Ok(()));
        assert_eq!(seal(other("later", r#"{"a": 1}"#)), Err(EnvelopeError::NotCanonical));
        assert_eq!(seal(other("later", "no json")), Err(EnvelopeError::NotCanonical));
        assert_eq!(seal(other("text", r#"{"text":"hidden"}"#)), Err(EnvelopeError::NotCanonical));
        assert!(matches!(seal(other("a kind", "{}")), Err(EnvelopeError::Malformed(_))));
        let mut broken = envelope(&key, text("x"));
        broken.n = 2;
        assert_eq!(Sealed::seal(&key, &broken), Err(EnvelopeError::OutOfRange("prev")));
    }
}
