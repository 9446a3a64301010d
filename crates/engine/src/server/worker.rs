//! One worker: a thread, its event loop, and what its connections share.

use super::clock::{Clock, Millis};
use super::conn::Conn;
use crate::buffers::Buffers;
use crate::{Settings, Stop};
use std::cell::{Cell, RefCell};
use std::future::Future;
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;
use tokio::runtime::{Builder, LocalOptions, LocalRuntime};
use tokio::sync::Notify;

/// Shortest and longest time between two looks at the deadlines.
const TICK_MIN: Duration = Duration::from_millis(5);
const TICK_MAX: Duration = Duration::from_millis(250);
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
    is_stopping: Cell<bool>,
    slots: RefCell<Slots>,
    /// Told when the first connection comes and when the last one goes.
    changed: Notify,
}

/// What a worker's thread is given.
pub(super) struct Plan {
    pub(super) settings: Arc<Settings>,
    pub(super) stop: Stop,
    pub(super) grace: Duration,
    /// Accept loops: they end when they are told to stop.
    pub(super) acceptors: Vec<Start>,
    /// Tasks of the program.
    pub(super) background: Vec<Start>,
}

impl Plan {
    /// Makes the event loop, where failing can still be reported.
    pub(super) fn runtime() -> io::Result<LocalRuntime> {
        Builder::new_current_thread()
            .enable_all()
            .max_blocking_threads(BLOCKING_THREADS_MAX)
            .build_local(LocalOptions::default())
    }

    /// Runs until stopped and drained. The runtime owns every task: what is left is aborted.
    pub(super) fn run(self) -> io::Result<()> {
        let runtime = Self::runtime()?;
        runtime.block_on(self.serve());
        runtime.shutdown_timeout(BLOCKING_GRACE);
        Ok(())
    }

    async fn serve(self) {
        let worker = Rc::new(Worker {
            settings: self.settings,
            stop: self.stop.clone(),
            clock: Clock::new(),
            buffers: Buffers::default(),
            is_stopping: Cell::new(false),
            slots: RefCell::default(),
            changed: Notify::new(),
        });
        let ticker = tokio::task::spawn_local(tick(worker.clone()));
        for start in self.background {
            tokio::task::spawn_local(start(worker.clone()));
        }
        let acceptors: Vec<_> =
            self.acceptors.into_iter().map(|start| tokio::task::spawn_local(start(worker.clone()))).collect();
        self.stop.cancelled().await;
        worker.handle_stop();
        let drained = async {
            for acceptor in acceptors {
                // A panicked acceptor has nothing more to accept.
                let _ = acceptor.await;
            }
            worker.handle_stop(); // again, for those that were accepted last
            worker.until_empty().await;
        };
        if tokio::time::timeout(self.grace, drained).await.is_err() {
            let open = worker.open();
            tracing::warn!(open, "connections still open after the grace are aborted");
        }
        ticker.abort();
    }
}

/// Advances the clock and wakes whoever's deadline has passed, while there are connections.
async fn tick(worker: Rc<Worker>) {
    let pause = tick_length(&worker.settings);
    loop {
        while worker.open() == 0 {
            worker.changed.notified().await;
        }
        tokio::time::sleep(pause).await;
        worker.clock.refresh();
        worker.slots.borrow().each(|conn| conn.wake_if_due(worker.clock.now()));
    }
}

fn tick_length(settings: &Settings) -> Duration {
    let shortest = [
        settings.head_timeout,
        settings.body_idle_timeout,
        settings.write_idle_timeout,
        settings.keep_alive_timeout,
        settings.linger_timeout,
    ]
    .into_iter()
    .min()
    .unwrap_or(TICK_MAX);
    (shortest / TICKS_PER_TIMEOUT).clamp(TICK_MIN, TICK_MAX)
}

impl Worker {
    pub(crate) fn is_stopping(&self) -> bool {
        self.is_stopping.get()
    }

    /// How many connections are open.
    pub(super) fn open(&self) -> usize {
        self.slots.borrow().used
    }

    pub(super) fn now(&self) -> Millis {
        self.clock.now()
    }

    /// Keeps the connection's deadlines until the returned guard is dropped.
    pub(super) fn register(self: &Rc<Self>, conn: &Rc<Conn>) -> Registered {
        if self.open() == 0 {
            self.clock.refresh(); // nobody has advanced it while there was no connection
            self.changed.notify_waiters();
        }
        let slot = self.slots.borrow_mut().insert(conn.clone());
        Registered { worker: self.clone(), slot }
    }

    /// Lets idle connections end, and the others after the answer they are at.
    pub(super) fn handle_stop(&self) {
        self.is_stopping.set(true);
        self.slots.borrow().each(Conn::wake);
    }

    async fn until_empty(&self) {
        while self.open() > 0 {
            self.changed.notified().await;
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
        if self.worker.open() == 0 {
            self.worker.changed.notify_waiters();
        }
    }
}

/// Connections by number; freed numbers are used again.
#[derive(Default)]
struct Slots {
    conns: Vec<Option<Rc<Conn>>>,
    free: Vec<usize>,
    used: usize,
}

impl Slots {
    fn insert(&mut self, conn: Rc<Conn>) -> usize {
        self.used += 1;
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
        self.used -= 1;
    }

    fn each(&self, visit: impl Fn(&Conn)) {
        self.conns.iter().flatten().for_each(|conn| visit(conn));
    }
}
