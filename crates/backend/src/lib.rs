//! Pages behind a login: sign-up, login, logout and the files of the site.
//!
//! Knows no database and no chat: accounts and sessions are given to it. The cookie `auth=true` is there for scripts
//! to look at and opens nothing; only a session does.

mod entrance;
mod page;
mod site;

pub use site::{Site, SiteError};

use accounts::Accounts;
use std::sync::Arc;
use weaprous::prelude::*;
use weaprous::{Csrf, Sessions, percent};

/// Longest login or sign-up form, in bytes: a name, a password and a target.
const FORM_BYTES_MAX: u64 = 16 * 1024;

/// What pages may do: everything of this site, nothing of another, no inline script. `form-action` and
/// `frame-ancestors` do not fall back to `default-src`.
const CONTENT_SECURITY_POLICY: &str = "default-src 'self'; object-src 'none'; frame-ancestors 'none'; \
                                       base-uri 'none'; form-action 'self'";

/// What a backend is made of.
#[derive(Clone)]
pub struct BackendSettings {
    /// Who there is.
    pub accounts: Accounts,
    /// Who is logged in.
    pub sessions: Arc<Sessions>,
    /// The pages. `login.html`, `signup.html` and `401.html` replace the built-in ones.
    pub www: Site,
    /// Images and shared styles, below `/static/` and wherever `www` has no such file.
    pub static_files: Site,
    /// Whether cookies are for TLS only.
    pub secure_cookies: bool,
}

/// What the handlers share.
struct Backend {
    accounts: Accounts,
    sessions: Arc<Sessions>,
    www: Site,
    static_files: Site,
    secure_cookies: bool,
}

/// The backend as an application.
pub fn app(settings: BackendSettings) -> App {
    let BackendSettings { accounts, sessions, www, static_files, secure_cookies } = settings;
    let sessions = Arc::new(Sessions::clone(&sessions).secure_cookies(secure_cookies));
    let backend = Backend { accounts, sessions: Arc::clone(&sessions), www, static_files, secure_cookies };
    App::new()
        .state(Arc::new(backend))
        .sessions(sessions)
        .layer(security_fields)
        .add_route(
            Route::new("/login", [POST], entrance::log_in).csrf(Csrf::NotCrossOrigin).body_bytes_max(FORM_BYTES_MAX),
        )
        .add_route(
            Route::new("/signup", [POST], entrance::sign_up).csrf(Csrf::NotCrossOrigin).body_bytes_max(FORM_BYTES_MAX),
        )
        .add_route(Route::new("/logout", [POST], entrance::log_out).body_bytes_max(FORM_BYTES_MAX))
        .route("/login", [GET], entrance::show_login)
        .route("/login.html", [GET], entrance::show_login)
        .route("/signup", [GET], entrance::show_sign_up)
        .route("/signup.html", [GET], entrance::show_sign_up)
        .route("/", [GET], members_page)
        .route("/index.html", [GET], members_page)
        .route("/chat.html", [GET], members_page)
        .route("/healthz", [GET], async || "ok\n")
        .route("/static/{path..}", [GET], static_file)
        .route("/{path..}", [GET], file)
}

/// Sent with every answer.
async fn security_fields(request: Request, next: Next) -> Response {
    let response = next.run(request).await;
    let fields = [
        ("content-security-policy", CONTENT_SECURITY_POLICY),
        ("x-content-type-options", "nosniff"),
        ("x-frame-options", "DENY"),
        // `no-referrer` would make browsers send `Origin: null` with our own forms.
        ("referrer-policy", "same-origin"),
    ];
    (fields, response).into_response()
}

/// A page for those who are logged in.
async fn members_page(session: Option<Session>, State(backend): State<Backend>, request: Request) -> Response {
    if session.is_none() {
        return page::unauthorized(&backend.www, &request).await;
    }
    let path = request.path().trim_start_matches('/');
    let path = percent::decode(path).unwrap_or_default(); // routed, so it decodes
    let response = backend.www.0.serve(&path, &request).await;
    ([("cache-control", "private, no-cache"), ("vary", "Cookie, Accept-Encoding")], response).into_response()
}

async fn static_file(Path(path): Path<String>, State(backend): State<Backend>, request: Request) -> Response {
    backend.static_files.0.serve(&path, &request).await
}

async fn file(Path(path): Path<String>, State(backend): State<Backend>, request: Request) -> Result<Response, Problem> {
    match backend.www.0.try_serve(&path, &request).await? {
        Some(response) => Ok(response),
        None => Ok(backend.static_files.0.serve(&path, &request).await),
    }
}
