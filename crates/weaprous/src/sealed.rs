//! Signed and encrypted cookies: what the client keeps for us and cannot forge, or not even read.
//!
//! A [`CookieKey`] comes from 32 or more secret bytes. The name of a cookie is bound in, so a value that was made for
//! `cart` is worth nothing as `user`; so is the time until which it counts, so a cookie that a client keeps longer
//! than its `Max-Age` is dead all the same. Keys are replaced without logging anybody out:
//! [`CookieKey::accept_old`] lists the ones that are still believed, while the new one seals.
//!
//! ```
//! use std::sync::Arc;
//! use std::time::Duration;
//! use weaprous::prelude::*;
//! use weaprous::sealed::CookieKey;
//! use weaprous::testing::Client;
//!
//! async fn choose(State(key): State<CookieKey>) -> Result<impl IntoResponse, Problem> {
//!     let cookie = key.encrypted("plan", "b", Duration::from_hours(1)).path("/").http_only().build()?;
//!     Ok((cookie, "chosen"))
//! }
//!
//! async fn show(State(key): State<CookieKey>, cookies: Cookies) -> String {
//!     key.decrypt(&cookies, "plan").unwrap_or_else(|| "none".to_owned())
//! }
//!
//! let key = CookieKey::from_secret(b"32 bytes or more, from a file that only we can read").expect("long enough");
//! let app = App::new().state(Arc::new(key)).route("/", [POST], choose).route("/", [GET], show);
//! let client = Client::new(app).keep_cookies();
//! assert_eq!(client.get("/").send().text(), "none");
//! client.post("/").send();
//! assert_eq!(client.get("/").send().text(), "b");
//! ```
//!
//! Signed values are HMAC-SHA256, encrypted ones ChaCha20-Poly1305 with a random nonce; the two keys are derived from
//! the secret by HKDF-SHA256 (RFC 5869), so one secret serves both. After 2³² cookies of one key the chance that a
//! nonce came twice is no longer negligible: replace the key before (at ten a second, that is after 13 years).

use crate::cookie::{COOKIE_BYTES_MAX, CookieBuilder, Cookies};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::aead::{self, Aad, LessSafeKey, Nonce, UnboundKey};
use ring::{hkdf, hmac};
use std::fmt;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Fewest bytes of secret a key is made from.
pub const SECRET_BYTES_MIN: usize = 32;
/// Most old keys that are still believed: each costs one more attempt for every forged cookie.
pub const OLD_KEYS_MAX: usize = 8;
/// Domain separation: keys of another version of this format are other keys.
const SALT: &[u8] = b"weaprous sealed cookies 1";
/// Bytes of the time until which a value counts: seconds since 1970, big-endian.
const EXPIRY_BYTES: usize = 8;
const NONCE_BYTES: usize = aead::NONCE_LEN;
const TAG_BYTES: usize = 32;

/// Seals and opens cookies.
#[derive(Clone)]
pub struct CookieKey {
    current: Keys,
    /// Still believed, never used to seal.
    old: Vec<Keys>,
}

#[derive(Clone)]
struct Keys {
    signing: hmac::Key,
    sealing: LessSafeKey,
}

/// A key could not be made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    /// The secret is too short to be one.
    #[error("a cookie key needs {SECRET_BYTES_MIN} bytes of secret or more; try `openssl rand -hex 32`")]
    TooShort,
    /// The system gave no random bytes.
    #[error("no random bytes")]
    Random,
    /// More than [`OLD_KEYS_MAX`] old keys.
    #[error("more than {OLD_KEYS_MAX} old keys; drop those whose cookies have expired")]
    TooManyOld,
}

impl CookieKey {
    /// The key of a secret: the same bytes give the same key, after a restart and on every machine.
    ///
    /// # Errors
    /// The secret has fewer than [`SECRET_BYTES_MIN`] bytes.
    pub fn from_secret(secret: &[u8]) -> Result<Self, KeyError> {
        if secret.len() < SECRET_BYTES_MIN {
            return Err(KeyError::TooShort);
        }
        let root = hkdf::Salt::new(hkdf::HKDF_SHA256, SALT).extract(secret);
        let derive = |purpose: &[u8]| {
            let mut key = [0; 32];
            let info = [purpose];
            let derived = root.expand(&info, hkdf::HKDF_SHA256).and_then(|okm| okm.fill(&mut key));
            derived.expect("one block of SHA-256 is no longer than HKDF gives");
            key
        };
        let signing = hmac::Key::new(hmac::HMAC_SHA256, &derive(b"sign"));
        let sealing = UnboundKey::new(&aead::CHACHA20_POLY1305, &derive(b"encrypt"));
        let sealing = LessSafeKey::new(sealing.expect("the cipher's keys have 32 bytes"));
        Ok(Self { current: Keys { signing, sealing }, old: Vec::new() })
    }

    /// A key that nobody else has: cookies made with it are worth nothing after a restart.
    ///
    /// # Errors
    /// The system gave no random bytes.
    ///
    /// ```
    /// use weaprous::sealed::{CookieKey, KeyError, SECRET_BYTES_MIN};
    ///
    /// let for_this_run = CookieKey::random()?;
    /// assert_eq!(CookieKey::from_secret(&[7; SECRET_BYTES_MIN - 1]).unwrap_err(), KeyError::TooShort);
    /// # Ok::<(), KeyError>(())
    /// ```
    pub fn random() -> Result<Self, KeyError> {
        let mut secret = [0; SECRET_BYTES_MIN];
        getrandom::fill(&mut secret).map_err(|_| KeyError::Random)?;
        Self::from_secret(&secret)
    }

    /// Also opens what this older key has sealed.
    ///
    /// ```
    /// use std::time::Duration;
    /// use weaprous::cookie::Cookies;
    /// use weaprous::sealed::CookieKey;
    ///
    /// let old = CookieKey::from_secret(&[1; 32])?;
    /// let cookie = old.signed("user", "ann", Duration::from_hours(1)).build()?;
    /// let sent_back = Cookies::parse([cookie.as_str().split(';').next().unwrap_or_default().as_bytes()]);
    ///
    /// let new = CookieKey::from_secret(&[2; 32])?;
    /// assert_eq!(new.verify(&sent_back, "user"), None);
    /// assert_eq!(new.accept_old(old)?.verify(&sent_back, "user").as_deref(), Some("ann"));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// There are [`OLD_KEYS_MAX`] of them already.
    pub fn accept_old(mut self, older: Self) -> Result<Self, KeyError> {
        self.old.push(older.current);
        self.old.extend(older.old);
        if self.old.len() > OLD_KEYS_MAX { Err(KeyError::TooManyOld) } else { Ok(self) }
    }

    /// A cookie whose value the client can read and not change. It counts for `lifetime`, which is its `Max-Age` too.
    pub fn signed(&self, name: &str, value: &str, lifetime: Duration) -> CookieBuilder {
        self.signed_until(name, value, lifetime, now() + lifetime)
    }

    /// A cookie whose value the client can neither read nor change. It counts for `lifetime`, which is its `Max-Age`
    /// too. Its length shows the value's.
    ///
    /// # Panics
    /// When the system gives no random bytes: without them nothing can be hidden.
    pub fn encrypted(&self, name: &str, value: &str, lifetime: Duration) -> CookieBuilder {
        self.encrypted_until(name, value, lifetime, now() + lifetime)
    }

    /// The value of a signed cookie: `None` if there is none, it was not made by this key for this name, or its time
    /// is over.
    pub fn verify(&self, cookies: &Cookies, name: &str) -> Option<String> {
        self.verify_at(cookies.get(name)?, name, now())
    }

    /// The value of an encrypted cookie, as [`CookieKey::verify`].
    pub fn decrypt(&self, cookies: &Cookies, name: &str) -> Option<String> {
        self.decrypt_at(cookies.get(name)?, name, now())
    }

    fn signed_until(&self, name: &str, value: &str, lifetime: Duration, until: Duration) -> CookieBuilder {
        let expiry = until.as_secs().to_be_bytes();
        let tag = hmac::sign(&self.current.signing, &signed_bytes(name, expiry, value.as_bytes()));
        let sealed = [tag.as_ref(), &expiry, value.as_bytes()].concat();
        CookieBuilder::new(name, URL_SAFE_NO_PAD.encode(sealed)).max_age(lifetime)
    }

    fn encrypted_until(&self, name: &str, value: &str, lifetime: Duration, until: Duration) -> CookieBuilder {
        let mut nonce = [0; NONCE_BYTES];
        getrandom::fill(&mut nonce).expect("the system gives random bytes");
        let mut sealed = [&until.as_secs().to_be_bytes(), value.as_bytes()].concat();
        self.current
            .sealing
            .seal_in_place_append_tag(Nonce::assume_unique_for_key(nonce), Aad::from(name.as_bytes()), &mut sealed)
            .expect("a cookie is shorter than the cipher's limit");
        let sealed = [&nonce[..], &sealed].concat();
        CookieBuilder::new(name, URL_SAFE_NO_PAD.encode(sealed)).max_age(lifetime)
    }

    fn verify_at(&self, sealed: &str, name: &str, now: Duration) -> Option<String> {
        let sealed = decode(sealed)?;
        let (tag, rest) = sealed.split_at_checked(TAG_BYTES)?;
        let (expiry, value) = rest.split_first_chunk::<EXPIRY_BYTES>()?;
        let signed = signed_bytes(name, *expiry, value);
        let is_ours = self.keys().any(|keys| hmac::verify(&keys.signing, &signed, tag).is_ok());
        (is_ours && counts(*expiry, now)).then(|| String::from_utf8(value.to_vec()).ok())?
    }

    fn decrypt_at(&self, sealed: &str, name: &str, now: Duration) -> Option<String> {
        let sealed = decode(sealed)?;
        let (nonce, sealed) = sealed.split_first_chunk::<NONCE_BYTES>()?;
        let opened = self.keys().find_map(|keys| {
            let mut opening = sealed.to_vec();
            let nonce = Nonce::assume_unique_for_key(*nonce);
            let plain = keys.sealing.open_in_place(nonce, Aad::from(name.as_bytes()), &mut opening).ok()?;
            Some(plain.to_vec())
        })?;
        let (expiry, value) = opened.split_first_chunk::<EXPIRY_BYTES>()?;
        counts(*expiry, now).then(|| String::from_utf8(value.to_vec()).ok())?
    }

    fn keys(&self) -> impl Iterator<Item = &Keys> {
        std::iter::once(&self.current).chain(&self.old)
    }
}

impl fmt::Debug for CookieKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CookieKey").field("old", &self.old.len()).finish_non_exhaustive()
    }
}

/// Name and value cannot run into each other: the length of the name stands before it.
fn signed_bytes(name: &str, expiry: [u8; EXPIRY_BYTES], value: &[u8]) -> Vec<u8> {
    [&(name.len() as u64).to_be_bytes()[..], name.as_bytes(), &expiry, value].concat()
}

/// Only the one canonical spelling: nothing of a cookie may be changed.
fn decode(sealed: &str) -> Option<Vec<u8>> {
    if sealed.len() > COOKIE_BYTES_MAX { None } else { URL_SAFE_NO_PAD.decode(sealed).ok() }
}

fn counts(expiry: [u8; EXPIRY_BYTES], now: Duration) -> bool {
    u64::from_be_bytes(expiry) > now.as_secs()
}

fn now() -> Duration {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    const HOUR: Duration = Duration::from_hours(1);
    const NOW: Duration = Duration::from_hours(500_000);

    fn key(byte: u8) -> CookieKey {
        CookieKey::from_secret(&[byte; 32]).unwrap()
    }

    /// The value as the client holds it.
    fn value_of(cookie: CookieBuilder) -> String {
        let cookie = cookie.build().unwrap();
        cookie.as_str().split_once('=').unwrap().1.split(';').next().unwrap().to_owned()
    }

    type Open = fn(&CookieKey, &str, &str, Duration) -> Option<String>;

    /// Both kinds, with how they are made and opened.
    fn both(key: &CookieKey, name: &str, value: &str) -> [(String, Open); 2] {
        [
            (value_of(key.signed_until(name, value, HOUR, NOW + HOUR)), CookieKey::verify_at),
            (value_of(key.encrypted_until(name, value, HOUR, NOW + HOUR)), CookieKey::decrypt_at),
        ]
    }

    #[test]
    fn what_was_sealed_opens_for_its_name_and_time_only() {
        for value in ["", "b", "any text; with = and é \r\n"] {
            for (sealed, open) in both(&key(1), "plan", value) {
                assert_eq!(open(&key(1), &sealed, "plan", NOW).as_deref(), Some(value));
                assert_eq!(open(&key(1), &sealed, "plan", NOW + Duration::from_secs(3599)).as_deref(), Some(value));
                assert_eq!(open(&key(1), &sealed, "plan", NOW + HOUR), None, "expired");
                assert_eq!(open(&key(1), &sealed, "plam", NOW), None, "another name");
                assert_eq!(open(&key(2), &sealed, "plan", NOW), None, "another key");
            }
        }
    }

    #[test]
    fn every_change_is_noticed() {
        for (sealed, open) in both(&key(1), "n", "value") {
            for place in 0..sealed.len() {
                for other in ["A", "_", "z", "=", "", "AA"] {
                    let changed = format!("{}{other}{}", &sealed[..place], &sealed[place + 1..]);
                    if changed != sealed {
                        assert_eq!(open(&key(1), &changed, "n", NOW), None, "{changed}");
                    }
                }
            }
        }
    }

    #[test]
    fn one_kind_is_never_taken_for_the_other() {
        let [(signed, verify), (encrypted, decrypt)] = both(&key(1), "n", "value");
        assert_eq!(decrypt(&key(1), &signed, "n", NOW), None);
        assert_eq!(verify(&key(1), &encrypted, "n", NOW), None);
    }

    #[test]
    fn names_and_values_do_not_run_into_each_other() {
        let sealed = value_of(key(1).signed_until("ab", "c", HOUR, NOW + HOUR));
        assert_eq!(key(1).verify_at(&sealed, "a", NOW), None);
    }

    #[test]
    fn encrypted_values_hide_what_they_are() {
        let seal = || value_of(key(1).encrypted_until("n", "secret", HOUR, NOW + HOUR));
        let bytes = URL_SAFE_NO_PAD.decode(seal()).unwrap();
        assert!(!bytes.windows(6).any(|window| window == b"secret"));
        assert_ne!(seal(), seal(), "the same value twice looks different");
    }

    #[test]
    fn keys_are_replaced_without_losing_cookies() {
        for (sealed, open) in both(&key(1), "n", "value") {
            let second = key(2).accept_old(key(1)).unwrap();
            assert_eq!(open(&second, &sealed, "n", NOW).as_deref(), Some("value"));
            let third = key(3).accept_old(second).unwrap();
            assert_eq!(open(&third, &sealed, "n", NOW).as_deref(), Some("value"));
            for (new, open) in both(&third, "n", "value") {
                assert_eq!(open(&key(1), &new, "n", NOW), None, "old keys seal nothing");
            }
        }
        let many = (0..8).fold(key(9), |all, byte| all.accept_old(key(byte)).unwrap());
        assert_eq!(many.accept_old(key(8)).err(), Some(KeyError::TooManyOld));
    }

    #[test]
    fn short_secrets_are_refused() {
        assert_eq!(CookieKey::from_secret(&[0; 31]).err(), Some(KeyError::TooShort));
        assert_ne!(
            value_of(CookieKey::random().unwrap().signed("n", "v", HOUR)),
            value_of(CookieKey::random().unwrap().signed("n", "v", HOUR))
        );
    }
}
