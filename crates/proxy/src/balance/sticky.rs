//! Cookies that keep a client at its backend. A cookie is a MAC over the backend's name, made with a key of the
//! proxy: clients cannot make one for a backend they were never sent to, and it tells nobody an address.

use std::fmt::Write as _;
use std::fs::File;
use std::io::{self, Read as _};
use std::path::Path;

use ring::rand::{SecureRandom as _, SystemRandom};
use ring::{digest, hmac};

/// Bytes of the MAC in a cookie: nobody guesses 128 bits.
const TOKEN_BYTES: usize = 16;

/// Longest file with a secret, in bytes. A mistaken path to something else is told by its length.
const FILE_BYTES_MAX: u64 = 4096;

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

    /// One with a secret that other proxies and later processes have as well.
    ///
    /// # Errors
    /// The file cannot be read, is shorter than a key, or is no secret's file at all.
    pub(crate) fn from_file(path: &Path) -> io::Result<Self> {
        let mut bytes = Vec::new();
        File::open(path)?.take(FILE_BYTES_MAX + 1).read_to_end(&mut bytes)?;
        let problem = if bytes.len() < KEY_BYTES {
            "it holds fewer than 32 bytes"
        } else if bytes.len() as u64 > FILE_BYTES_MAX {
            "it is too long to be a secret"
        } else {
            let digest = digest::digest(&digest::SHA256, &bytes);
            let secret = <[u8; KEY_BYTES]>::try_from(digest.as_ref()).expect("a digest is as long as a key");
            return Ok(Self::new(secret));
        };
        Err(io::Error::new(io::ErrorKind::InvalidData, problem))
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

    #[test]
    fn who_has_the_same_file_recognises_the_same_cookies() {
        let folder = tempfile::tempdir().expect("a folder");
        let file = |name: &str, bytes: &[u8]| {
            let path = folder.path().join(name);
            std::fs::write(&path, bytes).expect("a file");
            path
        };
        let (one, two) = (file("one", &[7; 32]), file("two", &[8; 32]));
        let value = Sealer::from_file(&one).expect("a secret").seal("app", "10.0.0.1:80");
        assert!(Sealer::from_file(&one).expect("a secret").is_for(&value, "app", "10.0.0.1:80"));
        assert!(!Sealer::from_file(&two).expect("a secret").is_for(&value, "app", "10.0.0.1:80"));
        for unfit in [file("short", &[7; 31]), file("long", &[7; 4097]), folder.path().join("none")] {
            assert!(Sealer::from_file(&unfit).is_err(), "{unfit:?}");
        }
    }
}
