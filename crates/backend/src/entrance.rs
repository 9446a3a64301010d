//! Login, sign-up and logout: for forms with pages and redirects, for programs with JSON.

use crate::Backend;
use crate::page::{Filling, FormPage, LOGIN, SIGN_UP};
use accounts::{Account, AccountError};
use chat::UserName;
use serde::{Deserialize, Serialize};
use std::net::IpAddr;
use std::time::{SystemTime, UNIX_EPOCH};
use weaprous::SetCookie;
use weaprous::cookie::{CookieError, SameSite};
use weaprous::extract::{FromRequest, ViaBody};
use weaprous::prelude::*;
use weaprous::response::local_target;

/// The readable cookie of the original, for scripts to look at. It proves nothing.
const AUTH_COOKIE: &str = "auth";

/// Seconds after which a busy server is worth asking again.
const BUSY_RETRY_S: u64 = 1;

/// What was typed, and how the answer is to look.
pub(crate) struct Entry {
    username: String,
    password: String,
    next: Option<String>,
    by_program: bool,
}

#[derive(Deserialize)]
struct FormEntry {
    username: String,
    password: String,
    /// A page may hold the target twice, put there by us and by its own script: the first counts.
    #[serde(default)]
    next: Vec<String>,
}

#[derive(Deserialize)]
struct JsonEntry {
    username: String,
    password: String,
}

#[derive(Serialize)]
struct Entered<'a> {
    user: &'a str,
    token: &'a str,
}

#[derive(Deserialize)]
pub(crate) struct Target {
    next: Option<String>,
}

impl FromRequest<ViaBody> for Entry {
    async fn from_request(request: Request) -> Result<Self, Problem> {
        if request.has_json() {
            let Json(JsonEntry { username, password }) = request.read().await?;
            return Ok(Self { username, password, next: None, by_program: true });
        }
        let Form(FormEntry { username, password, next }) = request.read().await?;
        Ok(Self { username, password, next: next.into_iter().next(), by_program: false })
    }
}

/// `GET /login`, `GET /login.html`.
pub(crate) async fn show_login(
    Query(target): Query<Target>,
    State(backend): State<Backend>,
    request: Request,
) -> Result<Response, Problem> {
    show(&LOGIN, target.next.as_deref(), &backend, &request).await
}

/// `GET /signup`, `GET /signup.html`.
pub(crate) async fn show_sign_up(
    Query(target): Query<Target>,
    State(backend): State<Backend>,
    request: Request,
) -> Result<Response, Problem> {
    show(&SIGN_UP, target.next.as_deref(), &backend, &request).await
}

async fn show(page: &FormPage, next: Option<&str>, backend: &Backend, request: &Request) -> Result<Response, Problem> {
    match next.and_then(local_target) {
        None => page.plain(&backend.www, request).await,
        next => page.filled(&backend.www, StatusCode::OK, &Filling { next, ..Filling::default() }).await,
    }
}

/// `POST /login`.
pub(crate) async fn log_in(
    ClientAddr(from): ClientAddr,
    old: Option<Session>,
    State(backend): State<Backend>,
    entry: Entry,
) -> Result<Response, Problem> {
    let outcome = check(&backend, &entry, from).await;
    enter(&backend, &LOGIN, &entry, old.as_ref(), outcome).await
}

/// `POST /signup`.
pub(crate) async fn sign_up(
    ClientAddr(from): ClientAddr,
    old: Option<Session>,
    State(backend): State<Backend>,
    entry: Entry,
) -> Result<Response, Problem> {
    let outcome = make(&backend, &entry, from).await;
    enter(&backend, &SIGN_UP, &entry, old.as_ref(), outcome).await
}

/// `POST /logout`.
pub(crate) async fn log_out(
    session: Option<Session>,
    State(backend): State<Backend>,
    request: Request,
) -> Result<Response, Problem> {
    if let Some(session) = session {
        backend.sessions.end(&session).await.map_err(Problem::internal)?;
    }
    let removals = vec![backend.sessions.removal_cookie()?, backend.auth_cookie(false)?];
    if request.has_json() {
        return Ok((removals, StatusCode::NO_CONTENT).into_response());
    }
    Ok((removals, Redirect::see_other("/login.html")).into_response())
}

/// Why somebody does not get in.
enum Refusal {
    /// The name cannot be one.
    Name(String),
    Account(AccountError),
}

async fn check(backend: &Backend, entry: &Entry, from: IpAddr) -> Result<Account, Refusal> {
    // A name that cannot exist is as wrong as one that nobody has.
    let user = entry.username.parse::<UserName>().map_err(|_| Refusal::Account(AccountError::WrongPassword))?;
    let account = backend.accounts.check_password(&user, entry.password.clone(), from, now_ms()).await;
    account.map_err(Refusal::Account)
}

async fn make(backend: &Backend, entry: &Entry, from: IpAddr) -> Result<Account, Refusal> {
    let user = entry.username.parse::<UserName>().map_err(|error| Refusal::Name(error.to_string()))?;
    let account = backend.accounts.sign_up(&user, Some(entry.password.clone()), from, now_ms()).await;
    account.map_err(Refusal::Account)
}

/// Opens a session, or shows the form again with the reason.
async fn enter(
    backend: &Backend,
    page: &FormPage,
    entry: &Entry,
    old: Option<&Session>,
    outcome: Result<Account, Refusal>,
) -> Result<Response, Problem> {
    let account = match outcome {
        Ok(account) => account,
        Err(refusal) => return refuse(backend, page, entry, refusal.into_problem()).await,
    };
    let user = account.user.to_string();
    let session = backend.sessions.rotate(old, &user).await.map_err(Problem::internal)?;
    tracing::info!(user, "logged in");
    let cookies = vec![backend.auth_cookie(true)?, session.cookie];
    let unkept = [("cache-control", "no-store")];
    if entry.by_program {
        return Ok((cookies, unkept, Json(Entered { user: &user, token: &session.token })).into_response());
    }
    let next = entry.next.as_deref().and_then(local_target).unwrap_or("/");
    Ok((cookies, unkept, Redirect::see_other(next)).into_response())
}

async fn refuse(backend: &Backend, page: &FormPage, entry: &Entry, problem: Problem) -> Result<Response, Problem> {
    if entry.by_program {
        return Err(problem);
    }
    let filling = Filling {
        message: problem.detail_text(),
        username: Some(&entry.username),
        next: entry.next.as_deref().and_then(local_target),
    };
    let mut response = page.filled(&backend.www, problem.status(), &filling).await?;
    response.fields.extend(problem.fields()).map_err(Problem::internal)?;
    Ok(response)
}

impl Refusal {
    fn into_problem(self) -> Problem {
        let error = match self {
            Self::Name(reason) => return Problem::unprocessable(reason),
            Self::Account(error) => error,
        };
        let detail = error.to_string();
        match error {
            AccountError::WrongPassword => Problem::unauthorized(detail),
            AccountError::NameTaken => Problem::conflict(detail),
            AccountError::WeakPassword { .. } => Problem::unprocessable(detail),
            AccountError::RateLimited { retry_after_s } => Problem::too_many_requests(detail, retry_after_s),
            AccountError::Busy => Problem::unavailable(detail, BUSY_RETRY_S),
            other => Problem::internal(other),
        }
    }
}

impl Backend {
    fn auth_cookie(&self, is_in: bool) -> Result<SetCookie, CookieError> {
        let cookie =
            if is_in { CookieBuilder::new(AUTH_COOKIE, "true").path("/") } else { CookieBuilder::removal(AUTH_COOKIE) };
        cookie.same_site(SameSite::Lax).secure(self.secure_cookies).build()
    }
}

fn now_ms() -> u64 {
    let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since_epoch.as_millis()).unwrap_or(u64::MAX)
}
