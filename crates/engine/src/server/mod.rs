//! The server: listeners shared by one set of worker threads.
//!
//! ```text
//!   Server ── listen ──▶ one socket per worker and address
//!     └─ start ─▶ Worker (thread, event loop, clock, buffers)
//!                   ├─ accept: one task per listener
//!                   └─ converse: one task per connection ── Conn ── Wire ── socket
//!                        next head → call the service → write head and body → …
//! ```

mod accept;
mod clock;
mod conn;
mod exchange;
mod incoming;
mod listener;
mod socket;
mod worker;

pub(crate) use exchange::serve_stream;
pub(crate) use incoming::Incoming;
pub use listener::BindError;
pub(crate) use socket::Socket;
pub(crate) use worker::{LocalTask, Worker};

use crate::{Peer, Service, Settings, Stop};
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::rc::Rc;
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::Duration;
use tokio::sync::mpsc;
use worker::{Plan, Start};

/// Listeners and the workers that will serve them.
pub struct Server {
    settings: Settings,
    local_addrs: Vec<SocketAddr>,
    /// What each worker will run.
    acceptors: Vec<Vec<Start>>,
    background: Vec<Vec<Start>>,
}

/// A server that is running. Dropping it fires the stop and waits until its threads have ended.
#[derive(Debug)]
pub struct Running {
    local_addrs: Vec<SocketAddr>,
    stop: Stop,
    threads: Vec<JoinHandle<io::Result<()>>>,
    /// Closed when the last worker has dropped its end.
    alive: mpsc::Receiver<()>,
}

/// The server could not run.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// A worker's thread or event loop could not be made.
    #[error("cannot start a worker: {0}")]
    Start(#[source] io::Error),
    /// A worker ended by a panic outside of any connection.
    #[error("a worker panicked")]
    Panicked,
}

impl Server {
    /// A server without listeners.
    pub fn new(settings: Settings) -> Self {
        let workers = settings.workers.unwrap_or_else(cores).max(1);
        let none = || (0..workers).map(|_| Vec::new()).collect();
        Self { settings, local_addrs: Vec::new(), acceptors: none(), background: none() }
    }

    /// Binds `addr` now; connections are served once the server runs, on every worker by a service
    /// of its own from `make`. Port 0 takes a free port.
    ///
    /// # Errors
    /// The address is in use, also by another server that shares its port, or cannot be had.
    pub fn listen<S: Service>(
        mut self,
        addr: SocketAddr,
        make: impl Fn() -> S + Send + Sync + 'static,
    ) -> Result<Self, BindError> {
        self.bind(addr, move || accept::Plain::new(make()))?;
        Ok(self)
    }

    /// As [`Server::listen`], for connections that do not begin with HTTP/1.1: `make` gives each worker what
    /// welcomes them.
    pub(crate) fn listen_raw<W: Welcome>(
        mut self,
        addr: SocketAddr,
        make: impl Fn() -> W + Send + Sync + 'static,
    ) -> Result<Self, BindError> {
        self.bind(addr, make)?;
        Ok(self)
    }

    fn bind<W: Welcome>(
        &mut self,
        addr: SocketAddr,
        make: impl Fn() -> W + Send + Sync + 'static,
    ) -> Result<(), BindError> {
        let sockets = listener::bind(addr, self.acceptors.len())?;
        let bound = sockets.first().and_then(|socket| socket.local_addr().ok()).unwrap_or(addr);
        self.local_addrs.push(bound);
        let make = Arc::new(make);
        for (acceptors, socket) in self.acceptors.iter_mut().zip(sockets) {
            let make = make.clone();
            acceptors.push(Box::new(move |worker| start_accepting(worker, socket, make())));
        }
        Ok(())
    }

    /// The bound addresses, in the order of [`Server::listen`].
    pub fn local_addrs(&self) -> &[SocketAddr] {
        &self.local_addrs
    }

    /// Runs a future on every worker beside its connections. It is dropped when the worker has
    /// drained; `Stop` tells it earlier.
    pub fn on_each_worker<Task>(mut self, make: impl Fn() -> Task + Send + Sync + 'static) -> Self
    where
        Task: Future<Output = ()> + 'static,
    {
        let make = Arc::new(make);
        for background in &mut self.background {
            let make = make.clone();
            background.push(Box::new(move |_| Box::pin(make())));
        }
        self
    }

    /// Runs a future on one of the workers: for the one background task of a program.
    pub fn on_one_worker<Task>(mut self, make: impl FnOnce() -> Task + Send + 'static) -> Self
    where
        Task: Future<Output = ()> + 'static,
    {
        self.background[0].push(Box::new(move |_| Box::pin(make())));
        self
    }

    /// Starts the workers and returns at once.
    ///
    /// # Errors
    /// A thread or event loop could not be made; those that were are stopped again.
    pub fn start(self, stop: Stop, grace: Duration) -> Result<Running, RunError> {
        drop(Plan::runtime().map_err(RunError::Start)?); // what fails for one fails for all: say so here
        let settings = Arc::new(self.settings);
        let (ended, alive) = mpsc::channel(1);
        let mut running = Running { local_addrs: self.local_addrs, stop, threads: Vec::new(), alive };
        for (number, (acceptors, background)) in self.acceptors.into_iter().zip(self.background).enumerate() {
            let plan = Plan { settings: settings.clone(), stop: running.stop.clone(), grace, acceptors, background };
            let ended = ended.clone();
            let thread = thread::Builder::new().name(format!("worker-{number}")).spawn(move || {
                let result = plan.run();
                drop(ended);
                result
            });
            running.threads.push(thread.map_err(RunError::Start)?);
        }
        Ok(running)
    }

    /// Serves until `stop` fires and open connections have ended, at most `grace` later. Blocks the
    /// calling thread: async callers use [`Server::start`] and [`Running::finished`].
    ///
    /// # Errors
    /// As [`Server::start`] and [`Running::join`].
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
        self.stop.cancel();
    }

    /// Returns when all workers have ended. Cancelling it changes nothing.
    pub async fn finished(&mut self) {
        while self.alive.recv().await.is_some() {}
    }

    /// Blocks until all workers have ended.
    ///
    /// # Errors
    /// One of them ended by a failure of its own.
    pub fn join(mut self) -> Result<(), RunError> {
        self.join_threads()
    }

    fn join_threads(&mut self) -> Result<(), RunError> {
        let mut result = Ok(());
        for thread in self.threads.drain(..) {
            match thread.join() {
                Ok(Ok(())) => {}
                Ok(Err(error)) => result = Err(RunError::Start(error)),
                Err(_) => result = Err(RunError::Panicked),
            }
        }
        result
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if !self.threads.is_empty() {
            self.stop.cancel();
            // The owner did not ask for the result.
            let _ = self.join_threads();
        }
    }
}

/// Takes over accepted connections of one listener on one worker.
pub(crate) trait Welcome: 'static {
    /// What becomes of one connection; it is open as long as the task runs. The task runs on the worker, is aborted
    /// when the grace of a stop has passed, and looks after its own deadlines until it calls [`serve_stream`].
    fn welcome(&self, worker: &Rc<Worker>, socket: Socket, peer: Peer) -> LocalTask;
}

fn start_accepting<W: Welcome>(worker: Rc<Worker>, socket: TcpListener, service: W) -> LocalTask {
    Box::pin(async move {
        match tokio::net::TcpListener::from_std(socket) {
            Ok(listener) => accept::accept(worker, listener, service).await,
            Err(error) => tracing::error!(%error, "a listener could not join its event loop"),
        }
    })
}

fn cores() -> usize {
    thread::available_parallelism().map_or(1, std::num::NonZero::get)
}
