//! The reverse proxy: configuration, routing, balancing, relay.
//!
//! One request's way through it: `route` finds the location for its host and path, `balance` picks an
//! upstream that `health` believes in, `headers` rewrites the fields, `relay` streams both bodies, and
//! `retry` decides what may be sent again when an upstream fails.
//!
//! It never buffers a long body or an event stream, never copies framing from one connection to the
//! other (both sides are serialised anew by the engine), and never shows a client more of an upstream
//! than its `ip:port`.
//!
//! ```no_run
//! use std::{path::Path, sync::Arc, time::Duration};
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let config = proxy::Config::load(Path::new("config/proxy.conf"))?;
//! engine::Server::new(engine::Settings::default())
//!     .listen("127.0.0.1:8080".parse()?, proxy::service(Arc::new(config)))?
//!     .run(engine::Stop::new(), Duration::from_secs(10))?;
//! # Ok(()) }
//! ```

mod balance;
pub mod conf;
mod counters;
mod headers;
mod health;
mod pages;
mod proxy;
mod relay;
mod retry;
mod route;
mod tunnel;
mod upstream;

use std::sync::Arc;

pub use conf::{Config, ConfigError, LoadError};
pub use counters::{Snapshot, UpstreamSnapshot};
pub use proxy::Proxy;
pub use relay::Relay;

/// Makes the service of each worker, for [`engine::Server::listen`]; [`Proxy`] is for those who also
/// want to look at its counts.
#[expect(clippy::needless_pass_by_value, reason = "a caller hands over its configuration for good")]
pub fn service(config: Arc<Config>) -> impl Fn() -> Relay + Send + Sync + use<> {
    Proxy::new(&config).service()
}
