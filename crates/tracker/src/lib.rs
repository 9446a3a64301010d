//! The tracker: accounts' devices, presence, channels, messages and events over HTTP, and the relay for peers.
//!
//! Knows no database and no socket: it holds a [`chat::Store`] and answers requests of the framework. *Stored* is said
//! after the store's commit and never before. Never logs a text, a token, a password or a key.
//!
//! ```text
//! api/        requests ──▶ parsed ──▶ answers and problems
//!   writing     one writer per channel: who may, does it follow the chain, append, tell
//!   channels    what each log adds up to: membership, heads
//!   checkpoint  where in a long log the changes of membership lie
//!   roster      who is in a channel, signed
//!   presence    leases, and the news that one lapsed
//!   hub         news ──▶ every event stream
//!   relay       two streams joined
//! background  the log ──▶ hub, sweep of leases, tidying
//! ```

mod api;
mod background;
mod bindings;
mod caller;
mod challenges;
mod channels;
mod checkpoint;
mod devices;
mod hub;
mod input;
mod limits;
mod metrics;
mod presence;
mod relay;
mod roster;
mod routes;
mod settings;
mod tracker;
mod trouble;
mod writing;

pub use settings::TrackerSettings;

use std::sync::Arc;
use weaprous::App;

/// The tracker could not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// Its own key could not be read or made.
    #[error("cannot load the tracker's key: {0}")]
    Key(#[from] accounts::AccountError),
    /// The system gave no random bytes.
    #[error("no random bytes: {0}")]
    Random(#[from] getrandom::Error),
}

/// The tracker as an application. Its background work begins with the first request, on the worker that serves it, and
/// ends with the server.
///
/// # Errors
/// The store does not give the tracker's key, or the system no random bytes.
pub async fn app(settings: TrackerSettings) -> Result<App, StartError> {
    let key = settings.accounts.tracker_key().await?;
    let challenges = challenges::Challenges::new()?;
    Ok(routes::app(Arc::new(tracker::Tracker::new(settings, key, challenges))))
}

/// Every operation of the tracker, as `GET /path/{parameter}`: what `docs/openapi.yaml` has to describe.
pub fn operations() -> Vec<String> {
    routes::operations().into_iter().map(|operation| operation.name).collect()
}
