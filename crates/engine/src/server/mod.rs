//! The server: listeners shared by one set of worker threads.

mod incoming;
mod listener;

pub(crate) use incoming::Incoming;
pub use listener::BindError;

use crate::{Service, Settings, Stop};
use std::net::SocketAddr;
use std::time::Duration;

/// Listeners and the workers that will serve them.
pub struct Server {
    settings: Settings,
    local_addrs: Vec<SocketAddr>,
}

/// A server that is running. Dropping it stops the server and waits until its threads have ended.
pub struct Running {
    local_addrs: Vec<SocketAddr>,
}

/// The server could not run.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// A worker's thread or event loop could not be made.
    #[error("cannot start a worker: {0}")]
    Start(#[source] std::io::Error),
    /// A worker ended by a panic outside of any connection.
    #[error("a worker panicked")]
    Panicked,
}

impl Server {
    /// A server without listeners.
    pub fn new(settings: Settings) -> Self {
        Self { settings, local_addrs: Vec::new() }
    }

    /// Binds `addr` now; connections are served once the server runs, on every worker by a service
    /// of its own from `make`. Port 0 takes a free port.
    pub fn listen<S: Service>(
        self,
        _addr: SocketAddr,
        _make: impl Fn() -> S + Send + Sync + 'static,
    ) -> Result<Self, BindError> {
        let _ = self.settings.workers;
        todo!()
    }

    /// The bound addresses, in the order of [`Server::listen`].
    pub fn local_addrs(&self) -> &[SocketAddr] {
        &self.local_addrs
    }

    /// Runs a future on every worker beside its connections. It is dropped when the worker has
    /// drained; `Stop` tells it earlier.
    pub fn on_each_worker<Task>(self, _make: impl Fn() -> Task + Send + Sync + 'static) -> Self
    where
        Task: Future<Output = ()> + 'static,
    {
        todo!()
    }

    /// Runs a future on one of the workers: for the one background task of a program.
    pub fn on_one_worker<Task>(self, _make: impl FnOnce() -> Task + Send + 'static) -> Self
    where
        Task: Future<Output = ()> + 'static,
    {
        todo!()
    }

    /// Starts the workers and returns at once.
    pub fn start(self, _stop: Stop, _grace: Duration) -> Result<Running, RunError> {
        todo!()
    }

    /// Serves until `stop` fires and open connections have ended, at most `grace` later. Blocks the
    /// calling thread: async callers use [`Server::start`] and [`Running::finished`].
    pub fn run(self, stop: Stop, grace: Duration) -> Result<(), RunError> {
        self.start(stop, grace)?.join()
    }
}

impl Running {
    /// The bound addresses, in the order of [`Server::listen`].
    pub fn local_addrs(&self) -> &[SocketAddr] {
        &self.local_addrs
    }

    /// Fires the stop given at start.
    pub fn stop(&self) {
        todo!()
    }

    /// Returns when all workers have ended.
    pub async fn finished(&mut self) {
        todo!()
    }

    /// Blocks until all workers have ended.
    pub fn join(self) -> Result<(), RunError> {
        todo!()
    }
}
