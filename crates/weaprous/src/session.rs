//! Login sessions: a random token with the client, its SHA-256 in the store, so that a stolen store opens no door.
//!
//! A token travels as the cookie `session` or as `Authorization: Bearer`; a request with the latter never falls back
//! to the cookie. Every login makes a new token (rotation), so a token planted beforehand is worth nothing.
//!
//! ```
//! use std::sync::Arc;
//! use std::time::Duration;
//! use weaprous::MemorySessions;
//! use weaprous::prelude::*;
//! use weaprous::testing::Client;
//!
//! async fn log_in(old: Option<Session>, State(sessions): State<Sessions>, name: String) -> Result<impl IntoResponse, Problem> {
//!     // A real one asks for a password here.
//!     let new = sessions.rotate(old.as_ref(), &name).await.map_err(Problem::internal)?;
//!     Ok((new.cookie, "welcome"))
//! }
//!
//! let sessions = Arc::new(Sessions::new(Arc::new(MemorySessions::new()), Duration::from_hours(12)));
//! let app = App::new()
//!     .state(Arc::clone(&sessions))
//!     .sessions(sessions)
//!     .route("/login", [POST], log_in)
//!     .route("/me", [GET], async |session: Session| session.user);
//! let client = Client::new(app).keep_cookies();
//! assert_eq!(client.get("/me").send().status(), StatusCode::UNAUTHORIZED);
//! client.post("/login").body("ann").send();
//! assert_eq!(client.get("/me").send().text(), "ann");
//! ```
//!
//! Where sessions are kept is up to [`SessionStorage`]; [`MemorySessions`] is the one that is here.

use crate::cookie::{CookieBuilder, CookieError, SameSite, SetCookie};
use crate::extract::FromParts;
use crate::problem::Problem;
use crate::request::Request;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::digest;
use serde::{Deserialize, Serialize};
use std::collections::HashMap;
use std::error::Error;
use std::fmt;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Name of the cookie that holds the token.
pub const SESSION_COOKIE: &str = "session";
/// Random bytes in a token: 128 bits.
const TOKEN_BYTES: usize = 16;
/// Characters of a token: base64url without padding.
const TOKEN_CHARS: usize = 22;
/// Sessions [`MemorySessions`] keeps; past it the one that ends first makes room.
pub const MEMORY_SESSIONS_MAX: usize = 100_000;

/// A boxed future that may move between threads.
pub type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// SHA-256 of a token: the name a session is stored under.
pub type SessionIdHash = [u8; 32];

/// What is stored of a session.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SessionRecord {
    /// Who logged in.
    pub user: String,
    /// When, in milliseconds since 1970.
    pub created_ms: u64,
    /// Until when it is valid, in milliseconds since 1970.
    pub expires_ms: u64,
}

/// The storage failed. The cause is for the log.
#[derive(Debug, thiserror::Error)]
#[error("session storage: {0}")]
pub struct StorageError(#[source] pub Box<dyn Error + Send + Sync>);

/// Where sessions are kept. It never sees a token.
///
/// ```
/// use std::collections::HashMap;
/// use std::sync::Mutex;
/// use weaprous::session::{BoxFuture, SessionIdHash, SessionRecord, SessionStorage, StorageError};
///
/// /// One session per user: a login elsewhere ends the one before.
/// #[derive(Default)]
/// struct OneEach(Mutex<HashMap<String, (SessionIdHash, SessionRecord)>>);
///
/// fn broken<E>(_: E) -> StorageError {
///     StorageError("another thread panicked".into())
/// }
///
/// impl SessionStorage for OneEach {
///     fn save(&self, id: SessionIdHash, record: SessionRecord) -> BoxFuture<'_, Result<(), StorageError>> {
///         Box::pin(async move {
///             self.0.lock().map_err(broken)?.insert(record.user.clone(), (id, record));
///             Ok(())
///         })
///     }
///     fn load(&self, id: SessionIdHash) -> BoxFuture<'_, Result<Option<SessionRecord>, StorageError>> {
///         Box::pin(async move {
///             let all = self.0.lock().map_err(broken)?;
///             Ok(all.values().find(|(known, _)| *known == id).map(|(_, record)| record.clone()))
///         })
///     }
///     fn remove(&self, id: SessionIdHash) -> BoxFuture<'_, Result<(), StorageError>> {
///         Box::pin(async move {
///             self.0.lock().map_err(broken)?.retain(|_, (known, _)| *known != id);
///             Ok(())
///         })
///     }
/// }
/// ```
pub trait SessionStorage: Send + Sync {
    /// Stores a session under its hash, durably as far as the storage is.
    fn save(&self, id_hash: SessionIdHash, record: SessionRecord) -> BoxFuture<'_, Result<(), StorageError>>;

    /// The session of this hash. One that has expired may still be given: the caller looks at the time.
    fn load(&self, id_hash: SessionIdHash) -> BoxFuture<'_, Result<Option<SessionRecord>, StorageError>>;

    /// Forgets a session; one that is not there is no error.
    fn remove(&self, id_hash: SessionIdHash) -> BoxFuture<'_, Result<(), StorageError>>;
}

/// Makes, checks and ends sessions.
///
/// ```
/// use std::sync::Arc;
/// use std::time::Duration;
/// use weaprous::{MemorySessions, Sessions};
///
/// # let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
/// # runtime.block_on(async {
/// let sessions = Sessions::new(Arc::new(MemorySessions::new()), Duration::from_hours(12)).secure_cookies(true);
/// let new = sessions.create("ann").await?;
/// let session = sessions.check(&new.token).await?.expect("it has just begun");
/// assert_eq!(session.user, "ann");
/// sessions.end(&session).await?;
/// assert_eq!(sessions.check(&new.token).await?, None);
/// # Ok::<(), weaprous::session::SessionError>(())
/// # }).unwrap();
/// ```
#[derive(Clone)]
pub struct Sessions {
    storage: Arc<dyn SessionStorage>,
    lifetime: Duration,
    secure: bool,
}

/// A session was asked for and could not be made, checked or ended. All of it is our side's failure.
#[derive(Debug, thiserror::Error)]
pub enum SessionError {
    /// The storage failed.
    #[error(transparent)]
    Storage(#[from] StorageError),
    /// The system gave no random bytes.
    #[error("no random bytes: {0}")]
    Random(getrandom::Error),
    /// The cookie was refused.
    #[error(transparent)]
    Cookie(#[from] CookieError),
}

/// A new session: the token is shown this once.
pub struct NewSession {
    /// For `Authorization: Bearer`.
    pub token: String,
    /// For browsers.
    pub cookie: SetCookie,
}

/// A valid session: extracting it answers 401 without one. `Option<Session>` takes what there is.
///
/// ```
/// use weaprous::prelude::*;
///
/// async fn private(session: Session) -> String {
///     format!("only for {}", session.user)
/// }
///
/// async fn public(session: Option<Session>) -> String {
///     session.map_or("hello, whoever you are".to_owned(), |session| format!("hello, {}", session.user))
/// }
/// App::new().route("/mine", [GET], private).route("/", [GET], public);
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Session {
    /// Who is logged in.
    pub user: String,
    /// Until when, in milliseconds since 1970.
    pub expires_ms: u64,
    id_hash: SessionIdHash,
}

impl Sessions {
    /// Sessions that end `lifetime` after the login.
    pub fn new(storage: Arc<dyn SessionStorage>, lifetime: Duration) -> Self {
        Self { storage, lifetime, secure: false }
    }

    /// Marks the cookie `Secure`: for sites that are reached over TLS only.
    pub fn secure_cookies(mut self, secure: bool) -> Self {
        self.secure = secure;
        self
    }

    /// Logs a user in.
    ///
    /// # Errors
    /// Nothing was stored.
    pub async fn create(&self, user: &str) -> Result<NewSession, SessionError> {
        let mut random = [0; TOKEN_BYTES];
        getrandom::fill(&mut random).map_err(SessionError::Random)?;
        let token = URL_SAFE_NO_PAD.encode(random);
        let cookie = CookieBuilder::new(SESSION_COOKIE, token.as_str())
            .path("/")
            .max_age(self.lifetime)
            .same_site(SameSite::Lax)
            .secure(self.secure)
            .http_only()
            .build()?;
        let created_ms = now_ms();
        let expires_ms = created_ms.saturating_add(u64::try_from(self.lifetime.as_millis()).unwrap_or(u64::MAX));
        let record = SessionRecord { user: user.to_owned(), created_ms, expires_ms };
        self.storage.save(hash(&token), record).await?;
        Ok(NewSession { token, cookie })
    }

    /// Logs a user in where another session may be open: that one ends.
    ///
    /// # Errors
    /// Nothing was stored, or the old session could not be ended: then there is no new one either.
    pub async fn rotate(&self, old: Option<&Session>, user: &str) -> Result<NewSession, SessionError> {
        if let Some(old) = old {
            self.end(old).await?;
        }
        self.create(user).await
    }

    /// The session of a token, if it is valid now.
    ///
    /// # Errors
    /// The storage failed.
    pub async fn check(&self, token: &str) -> Result<Option<Session>, StorageError> {
        if token.len() != TOKEN_CHARS {
            return Ok(None);
        }
        let id_hash = hash(token);
        let Some(record) = self.storage.load(id_hash).await? else { return Ok(None) };
        if record.expires_ms <= now_ms() {
            self.storage.remove(id_hash).await?;
            return Ok(None);
        }
        Ok(Some(Session { user: record.user, expires_ms: record.expires_ms, id_hash }))
    }

    /// Logs out.
    ///
    /// # Errors
    /// The storage failed: the session is still valid.
    pub async fn end(&self, session: &Session) -> Result<(), StorageError> {
        self.storage.remove(session.id_hash).await
    }

    /// The cookie that takes the session's cookie away from a browser.
    ///
    /// # Errors
    /// None in practice; the cookie is checked as all are.
    ///
    /// ```
    /// use weaprous::prelude::*;
    /// use weaprous::session::StorageError;
    ///
    /// async fn log_out(State(sessions): State<Sessions>, session: Session) -> Result<Response, Problem> {
    ///     sessions.end(&session).await.map_err(|error: StorageError| Problem::internal(error))?;
    ///     Ok((sessions.removal_cookie()?, Redirect::see_other("/")).into_response())
    /// }
    /// App::new().route("/logout", [POST], log_out);
    /// ```
    pub fn removal_cookie(&self) -> Result<SetCookie, CookieError> {
        CookieBuilder::removal(SESSION_COOKIE).same_site(SameSite::Lax).secure(self.secure).http_only().build()
    }
}

impl fmt::Debug for Sessions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sessions").field("lifetime", &self.lifetime).finish_non_exhaustive()
    }
}

impl fmt::Debug for NewSession {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("NewSession(secret)")
    }
}

/// The token of `Authorization: Bearer`, if that is the scheme.
pub(crate) fn bearer_token(request: &Request) -> Option<&str> {
    let (scheme, token) = request.field("authorization")?.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| token.trim_start())
}

impl FromParts for Option<Session> {
    async fn from_parts(request: &Request) -> Result<Self, Problem> {
        let Some(sessions) = &request.scope().sessions else {
            return Err(Problem::internal("the application has no sessions: call App::sessions"));
        };
        let token = bearer_token(request).or_else(|| request.cookie(SESSION_COOKIE));
        match token {
            Some(token) => sessions.check(token).await.map_err(Problem::internal),
            None => Ok(None),
        }
    }
}

impl FromParts for Session {
    async fn from_parts(request: &Request) -> Result<Self, Problem> {
        let session = Option::<Self>::from_parts(request).await?;
        session.ok_or_else(|| Problem::unauthorized("log in first, or send a valid token"))
    }
}

/// Sessions in memory: for tests and for programs whose users may log in again after a restart.
#[derive(Debug, Default)]
pub struct MemorySessions {
    records: Mutex<HashMap<SessionIdHash, SessionRecord>>,
}

impl MemorySessions {
    /// No sessions.
    pub fn new() -> Self {
        Self::default()
    }

    fn with<T>(&self, work: impl FnOnce(&mut HashMap<SessionIdHash, SessionRecord>) -> T) -> T {
        // A map is whole after every operation, whatever panicked in between.
        work(&mut self.records.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl SessionStorage for MemorySessions {
    fn save(&self, id_hash: SessionIdHash, record: SessionRecord) -> BoxFuture<'_, Result<(), StorageError>> {
        self.with(|records| {
            if records.len() >= MEMORY_SESSIONS_MAX
                && let Some(first) = records.iter().min_by_key(|(_, record)| record.expires_ms).map(|(id, _)| *id)
            {
                records.remove(&first);
            }
            records.insert(id_hash, record);
        });
        Box::pin(async { Ok(()) })
    }

    fn load(&self, id_hash: SessionIdHash) -> BoxFuture<'_, Result<Option<SessionRecord>, StorageError>> {
        let record = self.with(|records| records.get(&id_hash).cloned());
        Box::pin(async { Ok(record) })
    }

    fn remove(&self, id_hash: SessionIdHash) -> BoxFuture<'_, Result<(), StorageError>> {
        self.with(|records| records.remove(&id_hash));
        Box::pin(async { Ok(()) })
    }
}

fn hash(token: &str) -> SessionIdHash {
    let digest = digest::digest(&digest::SHA256, token.as_bytes());
    digest.as_ref().try_into().expect("SHA-256 has 32 bytes")
}

fn now_ms() -> u64 {
    let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since_epoch.as_millis()).unwrap_or(u64::MAX)
}
