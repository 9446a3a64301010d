//! A name and a password that browsers ask for (Basic, RFC 7617). Only as safe as the connection: they travel readable.

use crate::handler::LocalBoxFuture;
use crate::layer::{Layer, Next};
use crate::layers::RateLimit;
use crate::problem::Problem;
use crate::request::Request;
use crate::response::IntoResponse;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use engine::{Response, StatusCode};
use ring::{hmac, rand};
use std::fmt;
use std::time::Duration;

/// Lets in who knows the one name and password; others get 401, and 429 after too many wrong ones.
///
/// ```
/// use weaprous::{layers::BasicAuth, prelude::*};
/// # let password = "from the configuration";
/// App::new().layer(BasicAuth::new("files", "alice", password)).route("/", [GET], async || "hello, alice");
/// ```
pub struct BasicAuth {
    realm: String,
    /// Both sides are hashed under a random key before they are compared: the time tells nothing.
    key: hmac::Key,
    expected: hmac::Tag,
    wrong: RateLimit,
}

/// Wrong passwords one client may try in [`WRONG_PERIOD`].
const WRONG_MAX: u32 = 20;
const WRONG_PERIOD: Duration = Duration::from_mins(1);
/// Longest credentials that are looked at, in bytes.
const CREDENTIALS_BYTES_MAX: usize = 1024;

impl BasicAuth {
    /// `realm` is shown by browsers; quotes and what cannot be sent are left out of it.
    ///
    /// # Panics
    /// If the system has no randomness.
    pub fn new(realm: &str, user: &str, password: &str) -> Self {
        let key =
            hmac::Key::generate(hmac::HMAC_SHA256, &rand::SystemRandom::new()).expect("the system has randomness");
        let expected = hmac::sign(&key, format!("{user}:{password}").as_bytes());
        let realm = realm.chars().filter(|c| (c.is_ascii_graphic() || *c == ' ') && !matches!(c, '"' | '\\')).collect();
        Self { realm, key, expected, wrong: RateLimit::new(WRONG_MAX, WRONG_PERIOD) }
    }

    fn is_right(&self, request: &Request) -> bool {
        let given = request.field("authorization").and_then(credentials);
        given.is_some_and(|given| hmac::verify(&self.key, &given, self.expected.as_ref()).is_ok())
    }

    fn refuse(&self, request: &Request) -> Response {
        // A browser asks without a password first; that is no guess.
        if request.field("authorization").is_some() {
            self.wrong.count(request);
        }
        let challenge = format!("Basic realm=\"{}\", charset=\"UTF-8\"", self.realm);
        let problem = Problem::new(StatusCode::UNAUTHORIZED).detail("a name and a password are needed");
        problem.own_field("www-authenticate", &challenge).into_response()
    }
}

/// `user:password` of an `Authorization` field.
fn credentials(field: &str) -> Option<Vec<u8>> {
    let (scheme, encoded) = field.split_once(' ')?;
    let is_readable = scheme.eq_ignore_ascii_case("basic") && encoded.len() <= CREDENTIALS_BYTES_MAX;
    STANDARD.decode(encoded.trim()).ok().filter(|_| is_readable)
}

impl Layer for BasicAuth {
    fn call(&self, request: Request, next: Next) -> LocalBoxFuture<'_, Response> {
        Box::pin(async move {
            // Asked before the password is looked at: who has guessed too often learns nothing from one more.
            if let Some(wait_s) = self.wrong.wait_s(&request) {
                return Problem::too_many_requests("too many wrong passwords", wait_s).into_response();
            }
            if self.is_right(&request) { next.run(request).await } else { self.refuse(&request) }
        })
    }
}

impl fmt::Debug for BasicAuth {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BasicAuth").field("realm", &self.realm).finish_non_exhaustive()
    }
}
