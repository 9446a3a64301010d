//! Identifiers that are bytes inside and URL-safe base64 without padding outside (RFC 4648 §5).

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::fmt;
use std::str::FromStr;

/// Text that is not an identifier: wrong length, wrong alphabet, padding or stray trailing bits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("expected {bytes} bytes as URL-safe base64 without padding")]
pub struct IdError {
    /// How many bytes the identifier has.
    pub bytes: usize,
}

/// Declares a byte-array newtype with its text form, ordering, hashing and serde as a string.
macro_rules! bytes_as_text {
    ($(#[$meta:meta])* $name:ident, $length:literal) => {
        $(#[$meta])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(pub [u8; $length]);

        impl $name {
            /// The raw bytes.
            pub const fn as_bytes(&self) -> &[u8; $length] {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(&URL_SAFE_NO_PAD.encode(self.0))
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                let text = URL_SAFE_NO_PAD.encode(self.0);
                write!(f, "{}({}…)", stringify!($name), &text[..8])
            }
        }

        impl FromStr for $name {
            type Err = IdError;

            fn from_str(text: &str) -> Result<Self, IdError> {
                let mut bytes = [0; $length];
                match URL_SAFE_NO_PAD.decode_slice(text, &mut bytes) {
                    Ok($length) => Ok(Self(bytes)),
                    _ => Err(IdError { bytes: $length }),
                }
            }
        }

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
                text.parse().map_err(serde::de::Error::custom)
            }
        }
    };
}

bytes_as_text! {
    /// A device: its Ed25519 public key. The text form has 43 characters.
    DeviceId, 32
}
bytes_as_text! {
    /// A tracker: its Ed25519 public key, under which it signs rosters.
    TrackerId, 32
}
bytes_as_text! {
    /// An envelope: the SHA-256 of its bytes.
    EnvelopeId, 32
}
bytes_as_text! {
    /// An Ed25519 signature (RFC 8032). The text form has 86 characters.
    Signature, 64
}

impl EnvelopeId {
    /// Computes the id of an envelope's bytes.
    pub fn of(bytes: &[u8]) -> Self {
        let digest = ring::digest::digest(&ring::digest::SHA256, bytes);
        Self(digest.as_ref().try_into().expect("SHA-256 gives 32 bytes"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_form_round_trips() {
        let id = DeviceId([7; 32]);
        assert_eq!(id.to_string().len(), 43);
        assert_eq!(id.to_string().parse(), Ok(id));
        let signature = Signature([9; 64]);
        assert_eq!(signature.to_string().len(), 86);
        assert_eq!(signature.to_string().parse(), Ok(signature));
    }

    #[test]
    fn text_that_is_not_exactly_the_id_is_refused() {
        let good = DeviceId([255; 32]).to_string();
        let cases = [
            String::new(),
            good[..42].to_owned(),
            format!("{good}="),
            format!("{good}A"),
            format!(" {good}"),
            good.replace('_', "/"),
            // the last character carries two bits that must be zero
            format!("{}9", &good[..42]),
            "é".repeat(21),
            "A".repeat(10_000),
        ];
        for case in cases {
            assert_eq!(case.parse::<DeviceId>(), Err(IdError { bytes: 32 }), "{case}");
        }
    }

    #[test]
    fn envelope_id_is_sha_256() {
        // FIPS 180-4: the empty message
        let expected = [
            0xe3, 0xb0, 0xc4, 0x42, 0x98, 0xfc, 0x1c, 0x14, 0x9a, 0xfb, 0xf4, 0xc8, 0x99, 0x6f, 0xb9, 0x24, 0x27, 0xae,
            0x41, 0xe4, 0x64, 0x9b, 0x93, 0x4c, 0xa4, 0x95, 0x99, 0x1b, 0x78, 0x52, 0xb8, 0x55,
        ];
        assert_eq!(EnvelopeId::of(b"").0, expected);
    }
}
