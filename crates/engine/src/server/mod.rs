//! The server: listeners shared by one set of worker threads.
//!
//! ```text
//!   Server ── listen ──▶ one socket per worker and address
//!     └─ start ─▶ Worker (thread, event loop, clock, buffers)
//!                   ├─ front: events of the reactor → accept, or answer at once on the shared desk (fast)
//!                   └─ one task per connection that takes longer (exchange) ── Conn ── Wire ── Stream ── Socket
//!                        next head → call the service → write head and body → … → back to the front
//! ```

mod addresses;
mod clock;
mod conn;
mod exchange;
mod fast;
mod front;
mod incoming;
mod listener;
mod outgoing;
mod passing;
mod reactor;
mod socket;
mod sys;
mod worker;

pub use clock::coarse_now;
pub(crate) use exchange::serve_stream;
pub(crate) use incoming::Incoming;
pub use listener::{BindError, bind};
pub(crate) use outgoing::connect;
pub use passing::Pass;
pub(crate) use reactor::Key;
pub(crate) use socket::Socket;
pub(crate) use worker::{LocalTask, Worker};

use crate::{Peer, Service, Settings, Stop};
use addresses::Addresses;
use fast::Site;
use front::{Listening, Order};
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::thread::{self, JoinHandle};
use std::time::Duration;
use tokio::sync::mpsc;
use worker::{Plan, Start};

/// Changes to its listeners that a worker has not yet made: more are not asked for at once.
const ORDERS_WAITING: usize = 64;

/// Listeners and the workers that will serve them.
pub struct Server {
    settings: Settings,
    local_addrs: Vec<SocketAddr>,
    /// What each worker will serve and run.
    listening: Vec<Vec<Listening>>,
    background: Vec<Vec<Start>>,
    connections: Connections,
}

/// How many connections a server has open. Cheap to clone and to ask.
#[derive(Debug, Clone)]
pub struct Connections(Arc<[AtomicUsize]>);

impl Connections {
    /// The connections of all workers that are open now.
    pub fn open(&self) -> usize {
        self.0.iter().map(|worker| worker.load(Relaxed)).sum()
    }
}

/// A server that is running. Dropping it fires the stop and waits until its threads have ended.
#[derive(Debug)]
pub struct Running {
    local_addrs: Vec<SocketAddr>,
    stop: Stop,
    /// As in the settings, for listeners that come later.
    defer_accept: Duration,
    orders: Vec<mpsc::Sender<Order>>,
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
    /// The system does not let signals be watched.
    #[error("cannot watch for signals: {0}")]
    Signals(#[source] io::Error),
    /// A worker ended by a panic outside of any connection.
    #[error("a worker panicked")]
    Panicked,
}

impl Server {
    /// A server without listeners.
    pub fn new(settings: Settings) -> Self {
        let workers = settings.workers.unwrap_or_else(cores).max(1);
        let listening = (0..workers).map(|_| Vec::new()).collect();
        let background = (0..workers).map(|_| Vec::new()).collect();
        let connections = Connections((0..workers).map(|_| AtomicUsize::new(0)).collect());
        Self { settings, local_addrs: Vec::new(), listening, background, connections }
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
        self.bind(addr, move || fast::plain(make()))?;
        Ok(self)
    }

    /// As [`Server::listen`], for connections that do not begin with HTTP/1.1: `make` gives each worker what
    /// welcomes them.
    pub(crate) fn listen_raw<W: Welcome>(
        mut self,
        addr: SocketAddr,
        make: impl Fn() -> W + Send + Sync + 'static,
    ) -> Result<Self, BindError> {
        self.bind(addr, move || Box::new(fast::Raw(make())))?;
        Ok(self)
    }

    fn bind(
        &mut self,
        addr: SocketAddr,
        make: impl Fn() -> Box<dyn Site> + Send + Sync + 'static,
    ) -> Result<(), BindError> {
        let sockets = listener::bind(addr, self.listening.len())?;
        self.take_over(sockets, make).map_err(|error| BindError::Io { addr, error })
    }

    /// As [`Server::listen`], on sockets that listen already, all at one address: those of [`bind`], of a process
    /// before this one, or of a service manager. There may be more or fewer than workers.
    ///
    /// # Errors
    /// The system has no descriptor left, or there is no socket at all.
    pub fn listen_on<S: Service>(
        mut self,
        sockets: Vec<TcpListener>,
        make: impl Fn() -> S + Send + Sync + 'static,
    ) -> io::Result<Self> {
        self.take_over(sockets, move || fast::plain(make()))?;
        Ok(self)
    }

    /// As [`Server::listen_on`], for connections that do not begin with HTTP/1.1.
    pub(crate) fn listen_raw_on<W: Welcome>(
        mut self,
        sockets: Vec<TcpListener>,
        make: impl Fn() -> W + Send + Sync + 'static,
    ) -> io::Result<Self> {
        self.take_over(sockets, move || Box::new(fast::Raw(make())))?;
        Ok(self)
    }

    fn take_over(
        &mut self,
        sockets: Vec<TcpListener>,
        make: impl Fn() -> Box<dyn Site> + Send + Sync + 'static,
    ) -> io::Result<()> {
        self.local_addrs.push(address_of(&sockets)?);
        for (worker, listening) in share_out(sockets, self.listening.len(), self.settings.defer_accept, make)? {
            self.listening[worker].push(listening);
        }
        Ok(())
    }

    /// How many workers there will be.
    pub fn workers(&self) -> usize {
        self.listening.len()
    }

    /// Where to ask how many connections are open.
    pub fn connections(&self) -> Connections {
        self.connections.clone()
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
        let settings = Arc::new(self.settings);
        let addresses = Addresses::new(&settings);
        let (ended, alive) = mpsc::channel(1);
        let (local_addrs, defer_accept) = (self.local_addrs, settings.defer_accept);
        let (threads, orders) = (Vec::new(), Vec::new());
        let mut running = Running { local_addrs, stop, defer_accept, orders, threads, alive };
        for (number, (listening, background)) in self.listening.into_iter().zip(self.background).enumerate() {
            let (settings, addresses, stop) = (settings.clone(), addresses.clone(), running.stop.clone());
            let (sender, orders) = mpsc::channel(ORDERS_WAITING);
            running.orders.push(sender);
            let gauge = (self.connections.clone(), number);
            let plan = Plan { settings, stop, grace, addresses, listening, orders, gauge, background };
            let ended = ended.clone();
            let (ready, is_ready) = std::sync::mpsc::sync_channel(1);
            let thread = thread::Builder::new().name(format!("worker-{number}")).spawn(move || {
                let result = plan.run(&ready);
                drop(ended);
                result
            });
            running.threads.push(thread.map_err(RunError::Start)?);
            if is_ready.recv().is_err() {
                // It has ended before it began, and says why.
                running.stop.cancel();
                running.join_threads()?;
            }
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

    /// Begins to serve sockets that listen already, all at one address, beside those it serves: as
    /// [`Server::listen_on`].
    ///
    /// # Errors
    /// The system has no descriptor left, there is no socket at all, or the server is stopping.
    pub async fn listen_on<S: Service>(
        &mut self,
        sockets: Vec<TcpListener>,
        make: impl Fn() -> S + Send + Sync + 'static,
    ) -> io::Result<()> {
        self.open(sockets, move || fast::plain(make())).await
    }

    /// As [`Running::listen_on`], for connections that do not begin with HTTP/1.1.
    pub(crate) async fn listen_raw_on<W: Welcome>(
        &mut self,
        sockets: Vec<TcpListener>,
        make: impl Fn() -> W + Send + Sync + 'static,
    ) -> io::Result<()> {
        self.open(sockets, move || Box::new(fast::Raw(make()))).await
    }

    async fn open(
        &mut self,
        sockets: Vec<TcpListener>,
        make: impl Fn() -> Box<dyn Site> + Send + Sync + 'static,
    ) -> io::Result<()> {
        let addr = address_of(&sockets)?;
        for (worker, listening) in share_out(sockets, self.orders.len(), self.defer_accept, make)? {
            let sent = self.orders[worker].send(Order::Open(listening)).await;
            sent.map_err(|_| io::Error::other("the server is stopping"))?;
        }
        self.local_addrs.push(addr);
        Ok(())
    }

    /// Stops to listen at an address; what waits in its queue is still served, and open connections go on.
    pub async fn close(&mut self, addr: SocketAddr) {
        for orders in &self.orders {
            // A worker that has ended listens nowhere.
            let _ = orders.send(Order::Close(addr)).await;
        }
        self.local_addrs.retain(|other| *other != addr);
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

fn address_of(sockets: &[TcpListener]) -> io::Result<SocketAddr> {
    sockets.first().ok_or_else(|| io::Error::other("no socket to listen on"))?.local_addr()
}

/// Gives every worker at least one socket and leaves none out: a socket without a worker would take connections that
/// nobody answers, so workers beyond their number share.
fn share_out(
    mut sockets: Vec<TcpListener>,
    workers: usize,
    defer_accept: Duration,
    make: impl Fn() -> Box<dyn Site> + Send + Sync + 'static,
) -> io::Result<Vec<(usize, Listening)>> {
    for copied in 0..workers.saturating_sub(sockets.len()) {
        sockets.push(sockets[copied].try_clone()?);
    }
    let make = Arc::new(make);
    let shares = sockets.into_iter().enumerate().map(|(number, listener)| {
        let make = make.clone();
        listener.set_nonblocking(true)?;
        // Also where it is zero: whoever had the socket before may have wanted otherwise.
        if let Err(error) = sockopt::defer_accept(&listener, defer_accept) {
            tracing::debug!(%error, "connections are taken before they say anything");
        }
        Ok((number % workers, Listening { listener, make: Box::new(move || make()) }))
    });
    shares.collect()
}

fn cores() -> usize {
    thread::available_parallelism().map_or(1, std::num::NonZero::get)
}
