//! The reverse proxy: configuration, routing, balancing, relay.
//!
//! One request's way through it: `route` finds the location for its host and path, `gate` lets it pass or not,
//! `group` picks a member that `health` believes in, as `balance` says, `queue` keeps it in line where all are busy,
//! `headers` rewrites the fields, `relay`
//! streams both bodies, and `retry` decides what may be sent again when an upstream fails. `background` looks up
//! names and checks on upstreams meanwhile.
//!
//! It buffers no long body unless it is told to, and never an event stream, never copies framing from one connection to the
//! other (both sides are serialised anew by the engine), and never tells a client the address of an upstream, nor what is
//! wrong with it in detail: that is for logs and operators.
//!
//! ```no_run
//! use std::{path::Path, time::Duration};
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let config = proxy::Config::load(Path::new("config/proxy.conf"))?;
//! let server = engine::Server::new(engine::Settings::default());
//! proxy::Proxy::new(&config)
//!     .listen(server, "127.0.0.1:8080".parse()?)?
//!     .run(engine::Stop::new(), Duration::from_secs(10))?;
//! # Ok(()) }
//! ```

mod access;
mod access_log;
mod admin;
mod affinity;
mod background;
mod balance;
mod buffering;
mod compressing;
pub mod conf;
mod control;
mod counters;
mod crowd;
mod folder;
mod gate;
mod group;
mod headers;
mod health;
mod hints;
mod legacy;
mod metrics;
mod observe;
mod pages;
mod passwords;
mod proxy;
mod queue;
mod rate;
mod readings;
mod refusals;
mod relay;
mod reload;
mod retry;
mod rewrite;
mod route;
mod tunnel;
mod upstream;

use std::sync::Arc;

pub use access_log::{LogError, LogFormat, LogSettings, LogTarget};
pub use admin::{Admin, AdminError, Token};
pub use conf::{Config, ConfigError, ConfigWarning, LoadError};
pub use counters::{Snapshot, UpstreamSnapshot};
pub use legacy::{Legacy, NoLegacy};
pub use metrics::{Durations, RouteCounts, ServerCounts, ServerStatus, State, Status};
pub use proxy::{OpenError, Proxy, UnknownServer};
pub use relay::Relay;
pub use reload::{Changes, Diff, diff};

/// Makes the service of each worker, for [`engine::Server::listen`]. It looks up no names and makes no health checks:
/// [`Proxy::listen`] does.
#[expect(clippy::needless_pass_by_value, reason = "a caller hands over its configuration for good")]
pub fn service(config: Arc<Config>) -> impl Fn() -> Relay + Send + Sync + use<> {
    Proxy::new(&config).service()
}
