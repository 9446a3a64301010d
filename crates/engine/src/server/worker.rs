//! One worker: a thread, its event loop, and what its connections share.

use super::Connections;
use super::addresses::Addresses;
use super::clock::{Clock, Millis};
use super::conn::Conn;
use super::front::{self, Listening, Order};
use super::outgoing::OnThread;
use super::reactor::Reactor;
use crate::buffers::Buffers;
use crate::{Settings, Stop};
use std::cell::{Cell, RefCell};
use std::future::Future;
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::mpsc::SyncSender;
use std::time::Duration;
use tokio::runtime::{Builder, LocalOptions, LocalRuntime};
use tokio::sync::{mpsc, oneshot};

/// Shortest and longest time between two looks at the deadlines.
const TICK_MIN: Duration = Duration::from_millis(5);
const TICK_MAX: Duration = Duration::from_millis(250);
/// Longest time in which every connection's deadline is looked at once.
const LATENESS_MAX: Duration = Duration::from_secs(1);
/// A deadline may be noticed late by this fraction of the shortest one.
const TICKS_PER_TIMEOUT: u32 = 8;
/// Threads one worker may have for blocking work such as hashing and disk.
const BLOCKING_THREADS_MAX: usize = 32;
/// How long blocking work may hold up the end of a worker that has drained.
const BLOCKING_GRACE: Duration = Duration::from_secs(2);

/// What runs on a worker's own thread: made there, so it need not be `Send`.
pub(crate) type LocalTask = Pin<Box<dyn Future<Output = ()>>>;
/// Makes a task once it is on its worker.
pub(super) type Start = Box<dyn FnOnce(Rc<Worker>) -> LocalTask + Send>;

/// Shared by everything on one worker.
pub(crate) struct Worker {
    pub(crate) settings: Arc<Settings>,
    pub(crate) stop: Stop,
    pub(super) clock: Clock,
    pub(super) buffers: Buffers,
    pub(super) reactor: Rc<Reactor>,
    pub(super) addresses: Arc<Addresses>,
    is_stopping: Cell<bool>,
    slots: RefCell<Slots>,
}

/// What a worker's thread is given.
pub(super) struct Plan {
    pub(super) settings: Arc<Settings>,
    pub(super) stop: Stop,
    pub(super) grace: Duration,
    pub(super) addresses: Arc<Addresses>,
    /// Listeners, and what serves their connections.
    pub(super) listening: Vec<Listening>,
    /// Listeners that come and go later.
    pub(super) orders: mpsc::Receiver<Order>,
    /// Where this worker says how many connections it has, and at which place.
    pub(super) gauge: (Connections, usize),
    /// Tasks of the program.
    pub(super) background: Vec<Start>,
}

impl Plan {
    fn runtime() -> io::Result<LocalRuntime> {
        Builder::new_current_thread()
            .enable_all()
            .max_blocking_threads(BLOCKING_THREADS_MAX)
            .build_local(LocalOptions::default())
    }

    /// Runs until stopped and drained; tells `ready` when it has begun. The runtime owns every task: what is left is aborted.
    pub(super) fn run(self, ready: &SyncSender<()>) -> io::Result<()> {
        let runtime = Self::runtime()?;
        let served = runtime.block_on(self.serve(ready));
        runtime.shutdown_timeout(BLOCKING_GRACE);
        served
    }

    async fn serve(self, ready: &SyncSender<()>) -> io::Result<()> {
        let poll = mio::Poll::new()?;
        let worker = Rc::new(Worker {
            reactor: Rc::new(Reactor::new(poll.registry().try_clone()?, self.gauge)),
            settings: self.settings,
            stop: self.stop.clone(),
            clock: Clock::new(),
            buffers: Buffers::default(),
            addresses: self.addresses,
            is_stopping: Cell::new(false),
            slots: RefCell::default(),
        });
        let _here = OnThread::new(&worker.reactor);
        let ticker = tokio::task::spawn_local(tick(worker.clone()));
        for start in self.background {
            tokio::task::spawn_local(start(worker.clone()));
        }
        let (closed, all_closed) = oneshot::channel();
        let front = front::run(worker.clone(), poll, self.listening, self.orders, closed)?;
        // Nobody waits any more where another worker could not begin.
        let _ = ready.send(());
        let mut front = tokio::task::spawn_local(tokio::task::unconstrained(front));
        let drained = async {
            self.stop.cancelled().await;
            // The front closes the listeners and the idle connections first.
            let _ = all_closed.await;
            worker.handle_stop();
            worker.until_empty().await;
        };
        let out_of_time = async {
            self.stop.cancelled().await;
            tokio::time::sleep(self.grace).await;
        };
        tokio::select! {
            () = drained => {}
            () = out_of_time => {
                tracing::warn!(open = worker.open(), "connections still open after the grace are aborted");
            }
            failed = &mut front => failed.map_err(io::Error::other)??,
        }
        ticker.abort();
        Ok(())
    }
}

/// Advances the clock, closes idle connections and wakes whoever's deadline has passed, while there are connections.
/// Each time it looks at some of them, so that a crowd costs a little all the time.
async fn tick(worker: Rc<Worker>) {
    let (pause, looks) = tick_length(&worker.settings);
    loop {
        while worker.open() == 0 {
            worker.reactor.changed.notified().await;
        }
        tokio::time::sleep(pause).await;
        worker.clock.refresh();
        let now = worker.clock.now();
        worker.reactor.close_overdue(now, worker.reactor.places().div_ceil(looks));
        worker.slots.borrow_mut().each_of_some(looks, |conn| conn.wake_if_due(now));
    }
}

/// The time between two ticks, and in how many of them every connection has been looked at once.
fn tick_length(settings: &Settings) -> (Duration, usize) {
    let shortest = [
        settings.head_timeout,
        settings.body_idle_timeout,
        settings.write_idle_timeout,
        settings.keep_alive_timeout,
        settings.linger_timeout,
        settings.half_closed_timeout,
    ]
    .into_iter()
    .min()
    .unwrap_or(TICK_MAX);
    let lateness = (shortest / TICKS_PER_TIMEOUT).max(TICK_MIN);
    let pause = lateness.min(TICK_MAX);
    (pause, (lateness.min(LATENESS_MAX).as_millis() / pause.as_millis()).max(1) as usize)
}

impl Worker {
    pub(crate) fn is_stopping(&self) -> bool {
        self.is_stopping.get()
    }

    /// How many connections are open.
    pub(super) fn open(&self) -> usize {
        self.reactor.connections()
    }

    pub(super) fn now(&self) -> Millis {
        self.clock.now()
    }

    /// Keeps the connection's deadlines until the returned guard is dropped.
    pub(super) fn register(self: &Rc<Self>, conn: &Rc<Conn>) -> Registered {
        let slot = self.slots.borrow_mut().insert(conn.clone());
        Registered { worker: self.clone(), slot }
    }

    /// From now on every answer is the last one of its connection.
    pub(super) fn begin_stop(&self) {
        self.is_stopping.set(true);
    }

    /// Lets idle connections end, and the others after the answer they are at.
    pub(super) fn handle_stop(&self) {
        self.begin_stop();
        self.slots.borrow().each(Conn::wake);
    }

    async fn until_empty(&self) {
        while self.open() > 0 {
            self.reactor.changed.notified().await;
        }
    }
}

/// A connection's place among the worker's. Dropping it frees the place.
pub(super) struct Registered {
    worker: Rc<Worker>,
    slot: usize,
}

impl Drop for Registered {
    fn drop(&mut self) {
        self.worker.slots.borrow_mut().remove(self.slot);
    }
}

/// Connections by number; freed numbers are used again.
#[derive(Default)]
struct Slots {
    conns: Vec<Option<Rc<Conn>>>,
    free: Vec<usize>,
    /// Where the search for overdue ones goes on.
    cursor: usize,
}

impl Slots {
    fn insert(&mut self, conn: Rc<Conn>) -> usize {
        if let Some(slot) = self.free.pop() {
            self.conns[slot] = Some(conn);
            return slot;
        }
        self.conns.push(Some(conn));
        self.conns.len() - 1
    }

    fn remove(&mut self, slot: usize) {
        self.conns[slot] = None;
        self.free.push(slot);
    }

    /// Visits the next part of them; after so many `parts` all have been.
    fn each_of_some(&mut self, parts: usize, visit: impl Fn(&Conn)) {
        for _ in 0..self.conns.len().div_ceil(parts) {
            let slot = self.cursor % self.conns.len();
            self.cursor = slot + 1;
            if let Some(conn) = &self.conns[slot] {
                visit(conn);
            }
        }
    }

    fn each(&self, visit: impl Fn(&Conn)) {
        self.conns.iter().flatten().for_each(|conn| visit(conn));
    }
}
