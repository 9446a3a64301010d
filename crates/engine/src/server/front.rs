//! The front of a worker: takes the events of its reactor, accepts connections, answers what can be answered at once
//! and wakes the tasks of all others.
//!
//! It is a task like others. Under load it asks for events again before it yields, so that one turn of the runtime is
//! shared by many requests; but never for long, because timers and other tasks wait meanwhile.

use super::addresses::TooMany;
use super::fast::{Desk, Served, Site};
use super::passing::{Heard, Pass, Stage};
use super::reactor::{HUNG_UP, Idle, Key, Occupant, READ_CLOSED, READABLE, WRITABLE};
use super::sys::{self, More};
use super::worker::Worker;
use mio::event::Event;
use mio::{Events, Poll as Queue};
use std::future::poll_fn;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::task::Poll;
use std::time::{Duration, Instant};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::sync::{mpsc, oneshot};
use tokio::time::Sleep;
use tokio_util::sync::WaitForCancellationFuture;

/// Events taken at a time.
const EVENTS_MAX: usize = 256;
/// Times the front asks for events before others have their turn.
const ROUNDS_MAX: usize = 8;
/// With fewer events than these there is little load, and asking again at once finds nothing.
const BUSY_EVENTS: usize = 4;
/// Connections accepted from one listener before others have their turn.
const ACCEPTS_MAX: usize = 64;
/// Connections that are told 503 at a time, beyond the limit; further ones are dropped.
const TURNED_AWAY_MAX: usize = 64;
/// Connections accepted after the stop, because they were queued before it.
const LAST_ONES_MAX: usize = 1024;
/// Pause after the system has no descriptor or memory for another connection.
const EXHAUSTED_PAUSE: Duration = Duration::from_millis(100);
/// The same trouble is logged once in this time.
const LOG_PAUSE: Duration = Duration::from_mins(1);

/// A listener, and what makes its site once it is on its worker.
pub(super) struct Listening {
    pub(super) listener: TcpListener,
    pub(super) make: Box<dyn FnOnce() -> Box<dyn Site> + Send>,
}

/// A change to the listeners of a worker that runs.
pub(super) enum Order {
    Open(Listening),
    Close(SocketAddr),
}

struct Door {
    /// None once it is closed: connections that came by it go on.
    listener: Option<TcpListener>,
    site: Box<dyn Site>,
    key: Key,
    /// Where clients connect to; unspecified where the listener has many addresses.
    addr: SocketAddr,
    /// Whether more may be queued.
    is_ready: bool,
}

struct Front {
    worker: Rc<Worker>,
    desk: Desk,
    doors: Vec<Door>,
    orders: mpsc::Receiver<Order>,
    /// Until when nothing is accepted.
    pause: Option<Pin<Box<Sleep>>>,
    trouble: Trouble,
}

/// Makes the front of a worker. `closed` is told when it has stopped to listen.
pub(super) fn run(
    worker: Rc<Worker>,
    queue: Queue,
    listening: Vec<Listening>,
    orders: mpsc::Receiver<Order>,
    closed: oneshot::Sender<()>,
) -> io::Result<impl Future<Output = io::Result<()>>> {
    let doors = listening.into_iter().enumerate().map(|(number, listening)| Door::open(&worker, number, listening));
    let doors = doors.collect::<io::Result<Vec<_>>>()?;
    #[expect(deprecated, reason = "its successor is unsafe, and the queue keeps its descriptor as long as it lives")]
    let queue = AsyncFd::with_interest(queue, Interest::READABLE)?;
    let desk = Desk::new(&worker);
    let front = Front { worker, desk, doors, orders, pause: None, trouble: Trouble::default() };
    Ok(front.serve(queue, closed))
}

/// Why the front goes on.
enum Woken {
    Ready,
    Ordered(Order),
    /// Answers are late.
    Late(Vec<Key>),
    Stop,
}

impl Door {
    fn open(worker: &Worker, number: usize, Listening { listener, make }: Listening) -> io::Result<Self> {
        let key = worker.reactor.add_listener(&listener, number)?;
        let addr = listener.local_addr()?;
        Ok(Self { listener: Some(listener), site: make(), key, addr, is_ready: true })
    }
}

impl Front {
    async fn serve(mut self, mut queue: AsyncFd<Queue>, closed: oneshot::Sender<()>) -> io::Result<()> {
        let mut events = Events::with_capacity(EVENTS_MAX);
        let stop = self.worker.stop.clone();
        let mut stopped = pin!(stop.cancelled());
        let mut closed = Some(closed);
        loop {
            let is_stopping = closed.is_none();
            match self.wait(&mut queue, &mut stopped, is_stopping).await? {
                Woken::Ready => {}
                Woken::Ordered(order) => self.obey(order),
                Woken::Late(clients) => clients.into_iter().for_each(|client| self.resume_late(client)),
                Woken::Stop => {
                    self.close();
                    closed.take().map(|closed| closed.send(()));
                }
            }
            while self.take_events(queue.get_mut(), &mut events)? {
                tokio::task::yield_now().await;
            }
        }
    }

    /// Waits until there are events, or connections to accept after a pause, or the stop.
    async fn wait(
        &mut self,
        queue: &mut AsyncFd<Queue>,
        stopped: &mut Pin<&mut WaitForCancellationFuture<'_>>,
        is_stopping: bool,
    ) -> io::Result<Woken> {
        poll_fn(|cx| {
            if !is_stopping && stopped.as_mut().poll(cx).is_ready() {
                return Poll::Ready(Ok(Woken::Stop));
            }
            if self.pause.as_mut().is_some_and(|pause| pause.as_mut().poll(cx).is_ready()) {
                self.pause = None;
                return Poll::Ready(Ok(Woken::Ready));
            }
            if !is_stopping && let Poll::Ready(Some(order)) = self.orders.poll_recv(cx) {
                return Poll::Ready(Ok(Woken::Ordered(order)));
            }
            let late = self.worker.reactor.take_late(cx);
            if !late.is_empty() {
                return Poll::Ready(Ok(Woken::Late(late)));
            }
            // Whatever comes from now on makes the descriptor ready again.
            queue.poll_read_ready_mut(cx).map_ok(|mut guard| {
                guard.clear_ready();
                Woken::Ready
            })
        })
        .await
    }

    fn obey(&mut self, order: Order) {
        match order {
            Order::Open(listening) => match Door::open(&self.worker, self.doors.len(), listening) {
                Ok(door) => self.doors.push(door),
                Err(error) => tracing::error!(%error, "a listener could not be added"),
            },
            Order::Close(addr) => {
                let meant: Vec<usize> =
                    (0..self.doors.len()).filter(|number| self.doors[*number].addr == addr).collect();
                for number in meant {
                    self.accept_last(number);
                    self.shut(number);
                }
            }
        }
    }

    /// Takes what is queued at a door that is about to close.
    fn accept_last(&mut self, number: usize) {
        self.doors[number].is_ready = true;
        self.wake_clock();
        for _ in 0..LAST_ONES_MAX {
            if !self.doors[number].is_ready || self.pause.is_some() {
                break;
            }
            self.accept(number);
        }
    }

    fn shut(&mut self, number: usize) {
        let door = &mut self.doors[number];
        door.is_ready = false;
        if let Some(listener) = door.listener.take() {
            self.worker.reactor.remove_listener(door.key, &listener);
        }
    }

    /// Handles what there is, for a while; whether there may be more.
    fn take_events(&mut self, queue: &mut Queue, events: &mut Events) -> io::Result<bool> {
        for _ in 0..ROUNDS_MAX {
            match queue.poll(events, Some(Duration::ZERO)) {
                Err(error) if error.kind() != io::ErrorKind::Interrupted => return Err(error),
                _ => {}
            }
            let mut count = 0;
            let mut has_woken = false;
            for event in &*events {
                count += 1;
                has_woken |= self.handle(event);
                if self.desk.outbox.is_full() {
                    has_woken |= self.send_all();
                }
            }
            let has_more = self.accept_all();
            has_woken |= self.send_all();
            if count < BUSY_EVENTS && !has_more {
                return Ok(false);
            }
            if has_woken {
                return Ok(true);
            }
        }
        Ok(true)
    }

    /// Handles one event; whether a task was woken.
    fn handle(&mut self, event: &Event) -> bool {
        let (key, occupant) = self.worker.reactor.take(event.token());
        match occupant {
            Occupant::Nobody | Occupant::Taken => {}
            Occupant::Listener(number) => self.doors[number].is_ready = true,
            Occupant::Held(readiness) => {
                let bits = bits_of(event);
                readiness.handle_event(bits, self.worker.now());
                return match readiness.passes_for.get() {
                    Some(client) => bits != WRITABLE && self.hear(client),
                    None => true,
                };
            }
            Occupant::Idle(idle) => {
                let bits = bits_of(event);
                if bits == WRITABLE {
                    self.worker.reactor.put(key, Occupant::Idle(idle));
                    return false;
                }
                return self.serve_at(key, idle, bits);
            }
            Occupant::Passing(idle, mut passing) => {
                let bits = bits_of(event);
                if bits != WRITABLE && passing.stage != Stage::Answered {
                    return self.resume(key, idle, passing, bits & (READABLE | READ_CLOSED));
                }
                passing.missed |= bits & !WRITABLE;
                self.worker.reactor.put(key, Occupant::Passing(idle, passing));
            }
        }
        false
    }

    /// Looks after a connection of which the events have said this; whether a task was woken.
    fn serve_at(&mut self, key: Key, idle: Idle, bits: u8) -> bool {
        let is_ending = bits & (READ_CLOSED | HUNG_UP) != 0;
        let site = &self.doors[idle.site as usize].site;
        let served = site.serve(&mut self.desk, &self.worker, Some(key), idle, is_ending);
        self.put_served(key, served)
    }

    /// Puts a connection where it belongs now; whether a task was woken.
    fn put_served(&mut self, key: Key, served: Served) -> bool {
        match served {
            Served::Idle(idle) => self.worker.reactor.put(key, Occupant::Idle(idle)),
            Served::Closed => self.worker.reactor.remove_connection(key),
            Served::Passing(idle, passing) => self.wait_for_answer(key, idle, passing),
            Served::Held => return true,
        }
        false
    }

    /// Has a request sent that was passed on.
    fn wait_for_answer(&mut self, key: Key, idle: Idle, passing: Box<Pass>) {
        passing.waits_at(key);
        self.worker.reactor.put(key, Occupant::Passing(idle, passing));
        self.desk.outbox.letters.push(key);
    }

    /// Takes what has come for a request that was passed on; whether a task was woken.
    fn hear(&mut self, client: Key) -> bool {
        let Some((idle, mut passing)) = self.worker.reactor.take_passing(client) else { return false };
        match passing.hear(&mut self.desk, &self.worker) {
            Heard::Answered => self.desk.outbox.letters.push(client),
            Heard::Nothing => {}
            Heard::Unusual => return self.resume(client, idle, passing, 0),
            Heard::Panicked => {
                drop(passing);
                let site = &self.doors[idle.site as usize].site;
                let served = site.give_up(&mut self.desk, &self.worker, client, idle);
                return self.put_served(client, served);
            }
        }
        self.worker.reactor.put(client, Occupant::Passing(idle, passing));
        false
    }

    /// Hands a request that was passed on to a task; whether one was woken.
    fn resume(&mut self, client: Key, idle: Idle, passing: Box<Pass>, bits: u8) -> bool {
        let site = &self.doors[idle.site as usize].site;
        let served = site.resume(&mut self.desk, &self.worker, client, idle, passing, bits);
        self.put_served(client, served)
    }

    fn resume_late(&mut self, client: Key) {
        if let Some((idle, passing)) = self.worker.reactor.take_passing(client) {
            self.resume(client, idle, passing, 0);
        }
    }

    /// Sends what is in the outbox; whether a task was woken.
    fn send_all(&mut self) -> bool {
        let (mut next, mut has_woken) = (0, false);
        while let Some(&client) = self.desk.outbox.letters.get(next) {
            next += 1;
            // Whoever is not there any more has taken what it was about along.
            let Some((idle, mut passing)) = self.worker.reactor.take_passing(client) else { continue };
            if passing.stage == Stage::Queued {
                passing.send(&self.desk.outbox);
            }
            match passing.stage {
                Stage::Waiting => self.worker.reactor.put(client, Occupant::Passing(idle, passing)),
                Stage::Queued => has_woken |= self.resume(client, idle, passing, 0),
                Stage::Answered => has_woken |= self.send_answer(client, idle, passing),
            }
        }
        if next > 0 {
            self.desk.outbox.clear();
        }
        has_woken
    }

    /// Sends an answer to its client, whose connection is idle then; whether a task was woken.
    fn send_answer(&mut self, client: Key, mut idle: Idle, mut passing: Box<Pass>) -> bool {
        match sys::send(&idle.fd, &self.desk.outbox.bytes[passing.letter.clone()], More::No) {
            Ok(count) => passing.letter.start += count,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(_) => {
                self.worker.reactor.remove_connection(client);
                return false;
            }
        }
        let missed = passing.missed;
        if !passing.letter.is_empty() {
            return self.resume(client, idle, passing, missed & (READABLE | READ_CLOSED));
        }
        drop(passing);
        idle.deadline = self.worker.clock.after(self.worker.settings.keep_alive_timeout);
        if missed != 0 {
            return self.serve_at(client, idle, missed);
        }
        self.worker.reactor.put(client, Occupant::Idle(idle));
        false
    }

    /// Nobody advances the clock while there is no connection.
    fn wake_clock(&self) {
        if self.worker.open() == 0 {
            self.worker.clock.refresh();
        }
    }

    /// Accepts what is queued; whether there may be more.
    fn accept_all(&mut self) -> bool {
        let mut has_more = false;
        if self.doors.iter().any(|door| door.is_ready) {
            self.wake_clock();
        }
        for number in 0..self.doors.len() {
            for _ in 0..ACCEPTS_MAX {
                if !self.doors[number].is_ready || self.pause.is_some() {
                    break;
                }
                self.accept(number);
            }
            has_more |= self.doors[number].is_ready && self.pause.is_none();
        }
        has_more
    }

    fn accept(&mut self, number: usize) {
        let door = &mut self.doors[number];
        let Some(listener) = &door.listener else {
            door.is_ready = false;
            return;
        };
        match sys::accept(listener) {
            Ok((fd, addr)) => self.welcome(number, fd, addr),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => door.is_ready = false,
            Err(error) if is_exhausted(&error) => {
                self.trouble.log(&error, self.worker.open());
                self.pause = Some(Box::pin(tokio::time::sleep(EXHAUSTED_PAUSE)));
            }
            Err(_) => {} // the client gave up before it was accepted
        }
    }

    fn welcome(&mut self, number: usize, fd: rustix::fd::OwnedFd, addr: SocketAddr) {
        let worker = &self.worker;
        let settings = &worker.settings;
        let open = worker.open();
        if open >= settings.connections_per_worker_max.saturating_add(TURNED_AWAY_MAX) {
            return;
        }
        let door = &self.doors[number];
        let mut local_addr = door.addr;
        if local_addr.ip().is_unspecified() {
            let Ok(addr) = sys::local_addr(&fd) else { return };
            local_addr = addr;
        }
        let (counted, is_one_too_many) = match worker.addresses.count(addr) {
            Ok(counted) => (counted, false),
            Err(TooMany) => match worker.addresses.count_refused(addr) {
                Ok(counted) => (Some(counted), true),
                Err(TooMany) => return,
            },
        };
        let has_room = open < settings.connections_per_worker_max && !is_one_too_many;
        let idle = Idle {
            fd,
            site: number as u32,
            requests_left: settings.requests_per_connection_max,
            tells_writable: false,
            deadline: worker.clock.after(settings.head_timeout),
            addr,
            local_addr,
            counted,
        };
        if !has_room {
            return door.site.turn_away(&mut self.desk, worker, idle);
        }
        let served = door.site.welcome(&mut self.desk, worker, idle);
        let (Served::Idle(idle) | Served::Passing(idle, _)) = &served else { return };
        // Without a place there is nothing to be told about it: it is closed.
        let Ok(key) = worker.reactor.add_connection(&idle.fd) else { return };
        self.put_served(key, served);
    }

    /// Takes what is queued and stops to listen; closes the connections that ask for nothing.
    fn close(&mut self) {
        self.worker.begin_stop(); // before clients can see that the listeners are gone
        self.pause = None;
        for number in 0..self.doors.len() {
            self.accept_last(number);
        }
        self.pause = None;
        let idle_grace = self.worker.settings.idle_grace;
        for token in self.worker.reactor.idle() {
            let (key, occupant) = self.worker.reactor.take(token);
            let Occupant::Idle(idle) = occupant else { continue };
            let site = &self.doors[idle.site as usize].site;
            match site.serve(&mut self.desk, &self.worker, Some(key), idle, false) {
                Served::Held => {}
                Served::Passing(idle, passing) => self.wait_for_answer(key, idle, passing),
                Served::Idle(mut idle) if !idle_grace.is_zero() => {
                    idle.deadline = idle.deadline.min(self.worker.clock.after(idle_grace));
                    self.worker.reactor.put(key, Occupant::Idle(idle));
                }
                Served::Idle(_) | Served::Closed => self.worker.reactor.remove_connection(key),
            }
        }
        for number in 0..self.doors.len() {
            self.shut(number);
        }
    }
}

fn bits_of(event: &Event) -> u8 {
    let mut bits = 0;
    if event.is_readable() {
        bits |= READABLE;
    }
    if event.is_writable() {
        bits |= WRITABLE;
    }
    if event.is_read_closed() {
        bits |= READ_CLOSED;
    }
    if event.is_error() || event.is_write_closed() {
        bits |= HUNG_UP;
    }
    bits
}

/// No descriptor or memory left: accepting again at once would only spin.
fn is_exhausted(error: &io::Error) -> bool {
    use rustix::io::Errno;
    error.raw_os_error().is_some_and(|code| {
        [Errno::MFILE, Errno::NFILE, Errno::NOBUFS, Errno::NOMEM].iter().any(|errno| errno.raw_os_error() == code)
    })
}

/// Says once a minute what is wrong instead of once a try.
#[derive(Default)]
struct Trouble {
    logged: Option<Instant>,
    unlogged: u64,
}

impl Trouble {
    fn log(&mut self, error: &io::Error, open: usize) {
        if self.logged.is_some_and(|at| at.elapsed() < LOG_PAUSE) {
            self.unlogged += 1;
            return;
        }
        tracing::error!(%error, open, unlogged = self.unlogged, "cannot accept connections; raise the open file limit");
        self.logged = Some(Instant::now());
        self.unlogged = 0;
    }
}
