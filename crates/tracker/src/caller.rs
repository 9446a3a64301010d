//! Who is asking.

use crate::bindings::TokenHash;
use crate::tracker::Tracker;
use crate::trouble::Trouble;
use chat::{DeviceId, UserName};
use ring::digest;
use weaprous::FromParts;
use weaprous::prelude::*;
use weaprous::session::SESSION_COOKIE;

/// A user with a valid session: 401 without one.
#[derive(Clone)]
pub(crate) struct Caller {
    pub(crate) user: UserName,
    pub(crate) token: Token,
    pub(crate) expires_ms: u64,
}

/// What proves a session. Never shown.
#[derive(Clone)]
pub(crate) struct Token(pub(crate) String);

impl Token {
    /// What it is known by on disk.
    pub(crate) fn hash(&self) -> TokenHash {
        let digest = digest::digest(&digest::SHA256, self.0.as_bytes());
        digest.as_ref().try_into().expect("SHA-256 gives 32 bytes")
    }
}

impl FromParts for Caller {
    async fn from_parts(request: &Request) -> Result<Self, Problem> {
        let MaybeCaller(caller) = MaybeCaller::from_parts(request).await?;
        caller.ok_or_else(|| Problem::unauthorized("log in first, or register at /submit-info and send its token"))
    }
}

/// A [`Caller`], if there is a valid session.
pub(crate) struct MaybeCaller(pub(crate) Option<Caller>);

impl FromParts for MaybeCaller {
    async fn from_parts(request: &Request) -> Result<Self, Problem> {
        let Some(session) = Option::<Session>::from_parts(request).await? else { return Ok(Self(None)) };
        let user = session.user.parse().map_err(Problem::internal)?;
        let token = token(request).ok_or_else(|| Problem::internal("a session without a token"))?;
        Ok(Self(Some(Caller { user, token, expires_ms: session.expires_ms })))
    }
}

/// The token that the session was found by: a bearer's goes before the cookie's.
fn token(request: &Request) -> Option<Token> {
    let bearer = request.field("authorization").and_then(|field| {
        let (scheme, token) = field.split_once(' ')?;
        scheme.eq_ignore_ascii_case("bearer").then(|| token.trim_start())
    });
    bearer.or_else(|| request.cookie(SESSION_COOKIE)).map(|token| Token(token.to_owned()))
}

impl Tracker {
    /// The device that the caller's session speaks for, if one registered with it and still is theirs.
    pub(crate) async fn bound_device(&self, caller: &Caller) -> Result<Option<DeviceId>, Trouble> {
        let Some(device) = self.bindings.of(self.store(), &caller.token.hash()).await? else { return Ok(None) };
        Ok(self.device(&caller.user, &device).await?.map(|device| device.id))
    }
}
