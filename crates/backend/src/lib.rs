//! Pages behind a login: sign-up, login, logout and the files of the site.
//!
//! Knows no database and no chat: accounts and sessions are given to it.

mod site;

pub use site::{Site, SiteError};

use accounts::Accounts;
use std::sync::Arc;
use weaprous::{App, Sessions};

/// What a backend is made of.
#[derive(Clone)]
pub struct BackendSettings {
    /// Who there is.
    pub accounts: Accounts,
    /// Who is logged in.
    pub sessions: Arc<Sessions>,
    /// The pages.
    pub www: Site,
    /// Images and shared styles, below `/static/` and wherever `www` has no such file.
    pub static_files: Site,
    /// Whether cookies are for TLS only.
    pub secure_cookies: bool,
}

/// The backend as an application.
pub fn app(settings: BackendSettings) -> App {
    App::new().sessions(settings.sessions)
}
