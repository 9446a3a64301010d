//! Cookies that keep a client at its backend. A cookie is a MAC over the backend's name, made with a key of the
//! proxy: clients cannot make one for a backend they were never sent to, and it tells nobody an address.

use std::fmt::Write as _;

use ring::hmac;
use ring::rand::{SecureRandom as _, SystemRandom};

/// Bytes of the MAC in a cookie: nobody guesses 128 bits.
const TOKEN_BYTES: usize = 16;

/// Bytes of a key: as many as the hash has.
pub(crate) const KEY_BYTES: usize = 32;

/// Makes and recognises cookies.
pub(crate) struct Sealer {
    secret: [u8; KEY_BYTES],
    key: hmac::Key,
}

impl Sealer {
    /// One with a key of its own: what another one made is not recognised.
    pub(crate) fn random() -> Self {
        let mut secret = [0; KEY_BYTES];
        let filled = SystemRandom::new().fill(&mut secret);
        filled.expect("the system has randomness, without which nothing here can be kept secret");
        Self::new(secret)
    }

    /// One that recognises what another one with the same key made.
    pub(crate) fn new(secret: [u8; KEY_BYTES]) -> Self {
        Self { key: hmac::Key::new(hmac::HMAC_SHA256, &secret), secret }
    }

    /// Its key, for a successor.
    pub(crate) fn secret(&self) -> [u8; KEY_BYTES] {
        self.secret
    }

    /// The cookie's value for a backend of an upstream.
    pub(crate) fn seal(&self, upstream: &str, backend: &str) -> String {
        let mac = hmac::sign(&self.key, message(upstream, backend).as_bytes());
        let mut token = String::with_capacity(2 * TOKEN_BYTES);
        for byte in &mac.as_ref()[..TOKEN_BYTES] {
            let _ = write!(token, "{byte:02x}");
        }
        token
    }

    /// Whether `value` was made for this backend.
    pub(crate) fn is_for(&self, value: &str, upstream: &str, backend: &str) -> bool {
        // Compared by their MACs, so that the time taken tells nothing about the right value.
        let ours = hmac::sign(&self.key, self.seal(upstream, backend).as_bytes());
        hmac::verify(&self.key, value.as_bytes(), ours.as_ref()).is_ok()
    }
}

fn message(upstream: &str, backend: &str) -> String {
    format!("{}:{upstream}:{backend}", upstream.len())
}

impl std::fmt::Debug for Sealer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Sealer")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cookie_is_good_for_one_backend_of_one_upstream_and_one_key() {
        let sealer = Sealer::random();
        let value = sealer.seal("app", "10.0.0.1:80");
        assert_eq!(value.len(), 32);
        assert!(!value.contains("10.0"), "{value}");
        assert!(sealer.is_for(&value, "app", "10.0.0.1:80"));
        assert!(!sealer.is_for(&value, "app", "10.0.0.2:80"));
        assert!(!sealer.is_for(&value, "ap", "p10.0.0.1:80"));
        assert!(!sealer.is_for(&value[..31], "app", "10.0.0.1:80"));
        assert!(!sealer.is_for("", "app", "10.0.0.1:80"));
        assert!(Sealer::new(sealer.secret()).is_for(&value, "app", "10.0.0.1:80"));
        assert!(!Sealer::random().is_for(&value, "app", "10.0.0.1:80"));
    }
}
