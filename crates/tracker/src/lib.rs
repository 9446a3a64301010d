//! The tracker: accounts' devices, presence, channels, messages and events over HTTP, and the relay for peers.
//!
//! Knows no database and no socket: it holds a [`chat::Store`] and answers requests of the framework.

mod settings;

pub use settings::TrackerSettings;

use weaprous::App;

/// The tracker could not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// Its own key could not be read or made.
    #[error("cannot load the tracker's key: {0}")]
    Key(#[from] accounts::AccountError),
}

/// The tracker as an application. Its background work begins with the first request and ends with the server.
///
/// # Errors
/// The store does not give the tracker's key.
pub async fn app(settings: TrackerSettings) -> Result<App, StartError> {
    let _key = settings.accounts.tracker_key().await?;
    Ok(App::new())
}
