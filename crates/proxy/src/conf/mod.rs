//! What the operator wrote in `proxy.conf`, parsed: listeners, upstreams, hosts, locations.
//!
//! ```text
//! file      = *( directive | upstream | host )
//! upstream  = "upstream" name "{" *directive "}"
//! host      = "host" 1*( name [ ":" port ] | "*." name [ ":" port ] | "default" ) "{" *( directive | location ) "}"
//! location  = "location" [ "=" ] path "{" *directive "}"
//! directive = word *word ";"                 ; after `dist_policy round-robin` the `;` may be missing
//! ```
//!
//! Words may be quoted with `"`; `#` starts a comment that ends with the line. Which directives there are, and
//! where, says `table`; what they mean, `config/proxy.reference.conf`. A location inherits what its host says and
//! it does not say itself.
//!
//! ```text
//! lexer ── tokens ──► tree ── statements ──► build (rules, upstreams) ──► Config
//!                                               └── warn: what is allowed and hardly meant
//! ```
//!
//! This module reads text and nothing else, except [`Config::load`], which reads one file, and
//! [`Config::check_file_and_others`], which looks at those that it names.

mod build;
mod delivery;
mod error;
mod files;
mod lexer;
mod model;
mod network;
mod rules;
mod suggest;
mod table;
mod tls;
mod tree;
mod upstreams;
mod value;
mod warn;

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use crate::access_log::LogSettings;

pub(crate) use value::normal_name;

pub use error::{ConfigError, ConfigWarning, LoadError};
pub use model::*;
pub use network::Network;

/// Longest configuration file read, in bytes. Thousands of hosts fit; a mistaken path to a log does not.
pub const CONFIG_BYTES_MAX: usize = 1024 * 1024;

/// Most mistakes reported for one file. After so many the rest is noise.
pub const ERRORS_MAX: usize = 20;

/// A whole proxy configuration, known to be complete: every location knows what answers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// Where to listen; empty: where the command line says.
    pub listen: Vec<Listen>,
    /// Every upstream: those with a block of their own, then those of single places.
    pub upstreams: Vec<Arc<Upstream>>,
    /// The `host` blocks in the order of the file.
    pub hosts: Vec<Host>,
    /// Peers whose `X-Forwarded-*` fields are believed (and extended) instead of replaced.
    pub trusted: Vec<Network>,
    /// Most requests that one client has at a time, on each worker; `None`: any number. No client must take all there
    /// is, so a file that says nothing has [`CLIENT_REQUESTS_DEFAULT`].
    pub client_requests_max: Option<u32>,
    /// How long the system keeps a connection to itself whose client has said nothing; zero: not at all, `None`: what
    /// the engine does by itself.
    pub defer_accept: Option<Duration>,
    /// The file with the secret of sticky cookies; `None`: one that ends with the process.
    pub sticky_key: Option<PathBuf>,
    /// Where answers are noted; `None`: nowhere.
    pub access_log: Option<LogSettings>,
    /// Where operators look; `None`: nowhere.
    pub admin: Option<SocketAddr>,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            listen: Vec::new(),
            upstreams: Vec::new(),
            hosts: Vec::new(),
            trusted: Vec::new(),
            client_requests_max: Some(CLIENT_REQUESTS_DEFAULT),
            defer_accept: None,
            sticky_key: None,
            access_log: None,
            admin: None,
        }
    }
}

/// What a look at a configuration brought.
#[derive(Debug, Clone)]
pub struct Checked {
    /// The configuration, or every mistake found, in the order of the file, at most [`ERRORS_MAX`].
    pub outcome: Result<Config, Vec<ConfigError>>,
    /// What is allowed and hardly meant, in the order of the file; looked for only where there is no mistake.
    pub warnings: Vec<ConfigWarning>,
}

impl Config {
    /// Parses `text`; `file_name` only appears in errors.
    ///
    /// # Errors
    /// Every mistake found, in the order of the file, at most [`ERRORS_MAX`].
    pub fn parse(file_name: &str, text: &str) -> Result<Self, Vec<ConfigError>> {
        Self::check(file_name, text).outcome
    }

    /// Parses `text` and also looks for what is allowed and hardly meant.
    pub fn check(file_name: &str, text: &str) -> Checked {
        let build::Built { config, flaws, warnings } = build::build(text);
        if !flaws.is_empty() {
            let errors = flaws.into_iter().take(ERRORS_MAX).map(|flaw| flaw.locate(file_name, text)).collect();
            // What looks odd beside a mistake is mostly its consequence.
            return Checked { outcome: Err(errors), warnings: Vec::new() };
        }
        let warnings = warnings.into_iter().map(|flaw| flaw.warning(file_name, text)).collect();
        Checked { outcome: Ok(config), warnings }
    }

    /// Reads and parses a file.
    ///
    /// # Errors
    /// [`LoadError::Unreadable`] when the file cannot be read, [`LoadError::Invalid`] with every mistake in it.
    pub fn load(path: &Path) -> Result<Self, LoadError> {
        Self::check_file(path)?.outcome.map_err(LoadError::Invalid)
    }

    /// Reads a file for [`Config::check`].
    ///
    /// # Errors
    /// [`LoadError::Unreadable`] when the file cannot be read, [`LoadError::Invalid`] when it is no text.
    pub fn check_file(path: &Path) -> Result<Checked, LoadError> {
        let (file, text) = read(path)?;
        Ok(Self::check(&file, &text))
    }

    /// As [`Config::check_file`], and reads the files that the configuration names: certificates and their keys,
    /// authorities, passwords, error pages, folders. Certificates that have ended at `now`, or soon will, are warned of.
    ///
    /// # Errors
    /// As [`Config::check_file`].
    pub fn check_file_and_others(path: &Path, now: SystemTime) -> Result<Checked, LoadError> {
        let (file, text) = read(path)?;
        let Checked { outcome, mut warnings } = Self::check(&file, &text);
        if outcome.is_err() {
            return Ok(Checked { outcome, warnings });
        }
        let looked = files::look(&text, now);
        let errors: Vec<ConfigError> =
            looked.flaws.into_iter().take(ERRORS_MAX).map(|flaw| flaw.locate(&file, &text)).collect();
        warnings.extend(looked.warnings.into_iter().map(|flaw| flaw.warning(&file, &text)));
        warnings.sort_by_key(|warning| (warning.line, warning.column));
        Ok(Checked { outcome: if errors.is_empty() { outcome } else { Err(errors) }, warnings })
    }

    /// All backend addresses that need no look-up, each once, in the order of [`Config::upstreams`].
    pub fn backends(&self) -> Vec<std::net::SocketAddr> {
        let mut all = Vec::new();
        for server in self.upstreams.iter().flat_map(|upstream| &upstream.servers) {
            if let ServerAddress::Ip(address) = server.address
                && !all.contains(&address)
            {
                all.push(address);
            }
        }
        all
    }
}

/// A file's name as it was given, and its text.
fn read(path: &Path) -> Result<(String, String), LoadError> {
    let file = path.display().to_string();
    let bytes = error::read_limited(path).map_err(|source| LoadError::Unreadable { file: file.clone(), source })?;
    let text = String::from_utf8(bytes).map_err(|error| LoadError::Invalid(vec![error::not_utf8(&file, &error)]))?;
    Ok((file, text))
}

/// Every directive and option that the parser understands, as `(directive, option)`; the option is empty for the directive itself.
pub fn vocabulary() -> impl Iterator<Item = (&'static str, &'static str)> {
    table::DIRECTIVES.iter().flat_map(|directive| {
        std::iter::once("").chain(directive.options.iter().copied()).map(|option| (directive.name, option))
    })
}
