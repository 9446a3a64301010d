//! What the operator wrote in `proxy.conf`, parsed: hosts, locations, backends.
//!
//! ```text
//! file      = *( trusted | host )
//! trusted   = "trusted_proxy" address [ "/" bits ] ";"
//! host      = "host" 1*( name [ ":" port ] | "default" ) "{" *( directive | location ) "}"
//! location  = "location" prefix "{" *directive "}"
//! directive = "proxy_pass" "http://" ip [ ":" port ] ";"      ; repeat it for several backends
//!           | "proxy_set_header" name value ";"
//!           | "dist_policy" "round-robin" [ ";" ]             ; the original files left it out
//!           | "connect_timeout" duration ";"
//!           | "response_timeout" duration ";"
//!           | "body_bytes_max" size ";"
//! ```
//!
//! Words may be quoted with `"`; `#` starts a comment that ends with the line. A location inherits what its
//! host says and it does not say itself.
//!
//! This module reads text and nothing else, except [`Config::load`], which reads one file.

mod error;
mod lexer;
mod model;
mod parser;
mod value;

use std::path::Path;

pub(crate) use value::normal_name;

pub use error::{ConfigError, LoadError};
pub use model::{Host, HostPattern, Location, Network, Part, Pass, Policy, SetHeader, Template, Variable};

/// Longest configuration file read, in bytes. Thousands of hosts fit; a mistaken path to a log does not.
pub const CONFIG_BYTES_MAX: usize = 1024 * 1024;

/// Most mistakes reported for one file. After so many the rest is noise.
pub const ERRORS_MAX: usize = 20;

/// A whole proxy configuration, known to be complete: every location has at least one backend.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Config {
    /// The `host` blocks in the order of the file.
    pub hosts: Vec<Host>,
    /// Peers whose `X-Forwarded-*` fields are believed (and extended) instead of replaced.
    pub trusted: Vec<Network>,
}

impl Config {
    /// Parses `text`; `file_name` only appears in errors.
    ///
    /// # Errors
    /// Every mistake found, in the order of the file, at most [`ERRORS_MAX`].
    pub fn parse(file_name: &str, text: &str) -> Result<Self, Vec<ConfigError>> {
        let (config, flaws) = parser::parse(text);
        if flaws.is_empty() {
            return Ok(config);
        }
        Err(flaws.into_iter().take(ERRORS_MAX).map(|flaw| flaw.locate(file_name, text)).collect())
    }

    /// Reads and parses a file.
    ///
    /// # Errors
    /// [`LoadError::Unreadable`] when the file cannot be read, [`LoadError::Invalid`] with every mistake in it.
    pub fn load(path: &Path) -> Result<Self, LoadError> {
        let file = path.display().to_string();
        let bytes = error::read_limited(path).map_err(|source| LoadError::Unreadable { file: file.clone(), source })?;
        let text =
            String::from_utf8(bytes).map_err(|error| LoadError::Invalid(vec![error::not_utf8(&file, &error)]))?;
        Self::parse(&file, &text).map_err(LoadError::Invalid)
    }

    /// All backend addresses, each once, in the order of the file.
    pub fn backends(&self) -> Vec<std::net::SocketAddr> {
        let mut all = Vec::new();
        for pass in self.passes() {
            for address in &pass.backends {
                if !all.contains(address) {
                    all.push(*address);
                }
            }
        }
        all
    }

    fn passes(&self) -> impl Iterator<Item = &Pass> {
        self.hosts.iter().flat_map(|host| host.root.iter().chain(host.locations.iter().map(|location| &location.pass)))
    }
}
