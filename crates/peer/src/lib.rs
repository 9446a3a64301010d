//! A running chat node: dials, listens, keeps its history, talks to peers and to the tracker.
//!
//! [`run`] is all of it: commands of a user interface go in, notices come out. The protocol between peers is `p2p`'s, what
//! messages are is `chat`'s, where they are kept is the [`chat::History`] handed in; here they meet sockets and clocks.

mod api;
mod backoff;
mod channel;
mod core;
mod event;
pub mod key;
pub mod link;
mod membership;
mod people;
mod session;
mod settings;
mod socket;
mod sse;
mod sync;
mod tracker;
mod wire;

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use chat::client::{Command, Notice};
use chat::{History, StoreError};
use tokio::net::TcpListener;
use tokio::runtime;
use tokio::sync::mpsc;
use tokio::task::LocalSet;

pub use api::API_FILE;
pub use key::KeyError;
pub use settings::{DEFAULT_CHANNEL, Pace, Settings, TrackerUrl, TrackerUrlError};

/// Fires once, when the peer is to stop.
pub type Stop = engine::Stop;

/// Why a peer does not run, or runs no longer.
#[derive(Debug, thiserror::Error)]
pub enum PeerError {
    /// There is no device key.
    #[error(transparent)]
    Key(#[from] KeyError),
    /// The address to listen at is taken or not ours.
    #[error("cannot listen for peers at {address}: {source}; choose another --peer-port")]
    Listen {
        /// Which address.
        address: SocketAddr,
        /// What the system said.
        source: io::Error,
    },
    /// The tracker's certificate cannot be judged.
    #[error("the tracker cannot be spoken to over TLS: {0}")]
    Tracker(String),
    /// The tracker does not take this user.
    #[error("the tracker refuses {user}: {detail}")]
    Refused {
        /// As whom we came.
        user: String,
        /// The tracker's words, made printable.
        detail: String,
    },
    /// The history cannot be read or written.
    #[error("the message history failed: {0}")]
    History(#[from] StoreError),
    /// The runtime or the crypto library could not be set up.
    #[error("cannot start: {0}")]
    Start(String),
}

/// Runs a peer until `stop` fires, the user quits, or the user interface is gone. Blocks the calling thread: the peer
/// has its own runtime on it.
///
/// # Errors
/// Only what makes running pointless: no key, no port, a refusing tracker that never knew us, a failing history.
/// Everything else is a [`Notice::Trouble`] and gets better by itself.
pub fn run(
    settings: Settings,
    history: Arc<dyn History>,
    commands: mpsc::Receiver<Command>,
    notices: mpsc::Sender<Notice>,
    stop: Stop,
) -> Result<(), PeerError> {
    let held = key::load_or_make(&settings.data_dir)?;
    let api = settings.api.map(|address| api::serve(address, &settings.data_dir, settings.channel.clone()));
    let (_served, calls) = api.transpose()?.unzip();
    let runtime = runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|error| PeerError::Start(error.to_string()))?;
    let done = LocalSet::new().block_on(&runtime, converse(settings, &held, history, calls, commands, notices, stop));
    // name look-ups may still hang on a thread of their own; nothing waits for them
    runtime.shutdown_background();
    done
}

async fn converse(
    settings: Settings,
    held: &key::HeldKey,
    history: Arc<dyn History>,
    calls: Option<mpsc::Receiver<api::Call>>,
    commands: mpsc::Receiver<Command>,
    notices: mpsc::Sender<Notice>,
    stop: Stop,
) -> Result<(), PeerError> {
    let address = settings.listen;
    let listener = TcpListener::bind(address).await.map_err(|source| PeerError::Listen { address, source })?;
    let (events, inbox) = mpsc::channel(core::EVENTS_AHEAD_MAX);
    let core = core::Core::new(settings, held, history, events)?;
    core.run(listener, calls, inbox, commands, notices, stop).await
}
