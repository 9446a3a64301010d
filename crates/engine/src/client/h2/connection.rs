//! One connection and the task that drives it.
//!
//! ```text
//!   Opening ──SETTINGS──▶ Open ──GOAWAY, idle, broken──▶ Closing ── last stream ──▶ (the task ends)
//!      ├── ALPN chose HTTP/1.1 ──▶ Http1
//!      └── refused, too slow, no HTTP/2 ──▶ Failed
//! ```

use super::queue::Queue;
use super::{Http2Error, STREAMS_MAX};
use crate::client::{Client, ClientErrorKind, ClientSettings};
use crate::h2::meter::{Meter, Metered, Watched};
use crate::stream::Stream;
use bytes::Bytes;
use h2::client::{Builder, SendRequest};
use h2::{Ping, PingPong};
use std::cell::{Cell, RefCell};
use std::future::{Future, poll_fn};
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::Notify;
use tokio::task::JoinHandle;
use tokio::time::{Instant, MissedTickBehavior, interval, timeout};

/// Bytes a server may send ahead on one stream: what a network of one millisecond carries at a gigabit per second.
const STREAM_WINDOW_BYTES: u32 = 128 * 1024;
/// The same for all streams together: all of them full, so that readers who take nothing hold up nobody but themselves.
const CONNECTION_WINDOW_BYTES: u32 = STREAM_WINDOW_BYTES * STREAMS_MAX as u32;
/// Bytes of requests that wait for the socket, per stream: two frames.
const SEND_BUFFER_BYTES: usize = 32 * 1024;
/// Resets that a server forces on us by broken frames, before the connection is given up.
const FORCED_RESETS_MAX: usize = 100;
/// Reads in a row before other tasks of the worker have their turn: a server that sends without end is not to hold up
/// those who judge it.
const READS_PER_TURN_MAX: u32 = 16;
/// How often deadlines are looked at, and so how late one may be noticed.
const TICK: Duration = Duration::from_millis(500);
/// Silence after which a server that owes answers is asked whether it is still there.
const PING_AFTER: Duration = Duration::from_secs(30);
/// How often at most it is asked: some servers take more than one in five minutes for an attack.
const PING_EVERY: Duration = Duration::from_secs(310);
/// How long it may take to say so: longer than any round trip.
const PING_PATIENCE: Duration = Duration::from_secs(10);
/// How long a connection that ends may take to say goodbye.
const LINGER: Duration = Duration::from_secs(5);

/// A connection, as those see it who have streams on it.
pub(super) struct Connection {
    pub(super) state: Rc<State>,
    /// Drives it; aborted with the last that knows the connection.
    driver: JoinHandle<()>,
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.driver.abort();
    }
}

/// What the connection's task and its users share.
pub(super) struct State {
    phase: RefCell<Phase>,
    /// Told about every new phase.
    pub(super) changed: Notify,
    /// Told about room.
    room: Rc<Queue>,
    /// Where to count that it was opened.
    opened: Option<Rc<Cell<u32>>>,
    /// Streams that are taken.
    streams: Cell<usize>,
    /// Requests that wait for it to be open.
    pub(super) waiting: Cell<usize>,
    /// Whether it has carried a request.
    was_used: Cell<bool>,
    idle_since: Cell<Instant>,
    /// Whether an answer has been too slow and nothing was heard since.
    is_suspected: Cell<bool>,
    suspicion: Notify,
    /// Why it was given up, where the streams themselves cannot tell.
    pub(super) fault: Cell<Option<Http2Error>>,
    /// Counts its frames, once it is open.
    watched: RefCell<Option<Rc<Watched<Stream>>>>,
}

pub(super) enum Phase {
    Opening,
    Open(SendRequest<Bytes>),
    /// No new streams.
    Closing,
    /// The server has chosen HTTP/1.1; whoever comes first may have the connection.
    Http1(Option<Stream>),
    Failed(ClientErrorKind),
}

/// What a look at a connection brought.
pub(super) enum Look {
    /// A stream of it, and whether it is the first.
    Room(SendRequest<Bytes>, bool),
    /// It is open, and all its streams are taken.
    Full,
    /// It is open, and the server allows no streams for now.
    Shut,
    Opening,
    /// It takes no new streams.
    Over,
    Http1(Option<Stream>),
}

impl Connection {
    /// Begins to open a connection, in a task of its own.
    pub(super) fn open(client: &Client, addr: SocketAddr, room: Rc<Queue>) -> Rc<Self> {
        let state = Rc::new(State {
            phase: RefCell::new(Phase::Opening),
            changed: Notify::new(),
            room,
            opened: client.opened.clone(),
            streams: Cell::new(0),
            waiting: Cell::new(0),
            was_used: Cell::new(false),
            idle_since: Cell::new(Instant::now()),
            is_suspected: Cell::new(false),
            suspicion: Notify::new(),
            fault: Cell::new(None),
            watched: RefCell::default(),
        });
        let driver = tokio::task::spawn_local(drive(client.clone(), addr, Rc::clone(&state)));
        Rc::new(Self { state, driver })
    }
}

impl State {
    /// Takes a stream, if there is one.
    pub(super) fn look(&self) -> Look {
        let phase = &mut *self.phase.borrow_mut();
        match phase {
            Phase::Opening => Look::Opening,
            Phase::Open(send) => {
                let mut send = send.clone();
                // Only a connection that is at its end says no.
                if let Poll::Ready(Err(_)) = send.poll_ready(&mut Context::from_waker(Waker::noop())) {
                    *phase = Phase::Closing;
                    return Look::Over;
                }
                if streams_max(&send) == 0 {
                    return Look::Shut;
                }
                if self.is_suspected.get() || self.streams.get() >= streams_max(&send) {
                    return Look::Full;
                }
                self.streams.set(self.streams.get() + 1);
                if let Some(watched) = &*self.watched.borrow() {
                    watched.meter.borrow_mut().handle_asked();
                }
                Look::Room(send, !self.was_used.replace(true))
            }
            Phase::Closing | Phase::Failed(_) => Look::Over,
            Phase::Http1(stream) => Look::Http1(stream.take()),
        }
    }

    /// How many streams it has at a time, as far as that is known.
    pub(super) fn capacity(&self) -> Option<usize> {
        match &*self.phase.borrow() {
            Phase::Open(send) => Some(streams_max(send)),
            _ => None,
        }
    }

    /// Gives a stream back.
    pub(super) fn leave(&self) {
        self.streams.set(self.streams.get() - 1);
        self.idle_since.set(Instant::now());
        self.room.wake();
    }

    /// An answer was too slow: until something is heard, no new requests.
    pub(super) fn suspect(&self) {
        self.is_suspected.set(true);
        self.suspicion.notify_one();
    }

    /// Whether it waits for requests.
    pub(super) fn is_idle(&self) -> bool {
        self.streams.get() == 0 && matches!(&*self.phase.borrow(), Phase::Open(_))
    }

    /// Takes no new streams from now on.
    pub(super) fn close(&self) {
        let phase = &mut *self.phase.borrow_mut();
        if let Phase::Open(_) | Phase::Opening = phase {
            *phase = Phase::Closing;
        }
        self.changed.notify_waiters();
        self.room.wake();
    }

    pub(super) fn is_opening(&self) -> bool {
        matches!(&*self.phase.borrow(), Phase::Opening)
    }

    /// Whether nobody has any more use for it than those who have streams on it.
    pub(super) fn is_over(&self) -> bool {
        matches!(&*self.phase.borrow(), Phase::Closing | Phase::Failed(_))
    }

    /// Whether it went away before it carried any request.
    pub(super) fn is_gone_unused(&self) -> bool {
        let is_gone = match &*self.phase.borrow() {
            Phase::Closing => true,
            Phase::Open(send) => {
                matches!(send.clone().poll_ready(&mut Context::from_waker(Waker::noop())), Poll::Ready(Err(_)))
            }
            Phase::Opening | Phase::Http1(_) | Phase::Failed(_) => false,
        };
        is_gone && !self.was_used.get()
    }

    /// Why it could not be opened.
    pub(super) fn failed(&self) -> Option<ClientErrorKind> {
        match &*self.phase.borrow() {
            Phase::Failed(kind) => Some(again(kind)),
            _ => None,
        }
    }

    fn becomes(&self, phase: Phase) {
        if let (Phase::Open(_) | Phase::Http1(_), Some(opened)) = (&phase, &self.opened) {
            opened.set(opened.get() + 1);
        }
        *self.phase.borrow_mut() = phase;
        self.changed.notify_waiters();
    }
}

/// How many streams a connection may have at a time.
fn streams_max(send: &SendRequest<Bytes>) -> usize {
    send.current_max_send_streams().min(STREAMS_MAX)
}

/// Opens the connection, and drives it until it ends.
async fn drive(client: Client, addr: SocketAddr, state: Rc<State>) {
    let settings = Rc::clone(&client.shared.settings);
    let opened = timeout(settings.connect_timeout, open(&client, addr)).await;
    drop(client); // whoever drops the last clone closes the pool, and this with it
    match opened {
        Ok(Ok(Opened::Http2(open))) => {
            let Open { mut connection, send, watched } = open;
            let pings = connection.ping_pong();
            *state.watched.borrow_mut() = Some(Rc::clone(&watched));
            state.becomes(Phase::Open(send));
            let driver =
                Driver { connection, watched, state: &state, settings: &settings, asked_at: None, closing_since: None };
            driver.run(pings).await;
            state.close();
        }
        Ok(Ok(Opened::Http1(stream))) => state.becomes(Phase::Http1(Some(stream))),
        Ok(Err(kind)) => state.becomes(Phase::Failed(kind)),
        Err(_) => state.becomes(Phase::Failed(ClientErrorKind::TimedOut)),
    }
}

/// Polls the connection until it ends; tells those who wait when the server allows more streams than before.
async fn driven(connection: &mut h2::client::Connection<Io, Bytes>, state: &State) -> Result<(), h2::Error> {
    let mut connection = Pin::new(connection);
    poll_fn(|cx| {
        let before = state.capacity();
        let polled = connection.as_mut().poll(cx);
        if state.capacity() > before {
            state.room.wake();
        }
        polled
    })
    .await
}

type Io = Paced<Metered<Stream>>;

struct Open {
    connection: h2::client::Connection<Io, Bytes>,
    send: SendRequest<Bytes>,
    watched: Rc<Watched<Stream>>,
}

#[expect(clippy::large_enum_variant, reason = "moved twice in the life of a connection")]
enum Opened {
    Http2(Open),
    Http1(Stream),
}

/// Connects, shakes hands and waits for the server's first word, which says how many streams there may be.
async fn open(client: &Client, addr: SocketAddr) -> Result<Opened, ClientErrorKind> {
    let stream = client.open_offering_http2(addr).await?;
    let has_chosen_http1 = matches!(&stream, Stream::SecureTokio(stream)
        if stream.get_ref().1.alpn_protocol() != Some(crate::tls::ALPN_H2));
    if has_chosen_http1 {
        return Ok(Opened::Http1(stream));
    }
    let meter = RefCell::new(Meter::of_server());
    let watched = Rc::new(Watched { io: RefCell::new(stream), meter, flooded: Notify::new() });
    let io = Paced { io: Metered(Rc::clone(&watched)), reads: 0 };
    let shaken = builder(&client.shared.settings).handshake::<_, Bytes>(io).await;
    let (send, mut connection) = shaken.map_err(|error| failure(&error).0)?;
    poll_fn(|cx| match Pin::new(&mut connection).poll(cx) {
        Poll::Ready(Ok(())) => Poll::Ready(Err(ClientErrorKind::Closed)),
        Poll::Ready(Err(error)) if error.is_io() => Poll::Ready(Err(failure(&error).0)),
        Poll::Ready(Err(_)) => Poll::Ready(Err(ClientErrorKind::Http2(Http2Error::NotSpoken))),
        Poll::Pending if watched.meter.borrow().flood().is_some() => {
            Poll::Ready(Err(ClientErrorKind::Http2(Http2Error::Flood)))
        }
        Poll::Pending if watched.meter.borrow().has_settings() => Poll::Ready(Ok(())),
        Poll::Pending => Poll::Pending,
    })
    .await?;
    Ok(Opened::Http2(Open { connection, send, watched }))
}

fn builder(settings: &ClientSettings) -> Builder {
    let mut builder = Builder::new();
    builder
        .enable_push(false)
        .initial_window_size(STREAM_WINDOW_BYTES)
        .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
        .initial_max_send_streams(STREAMS_MAX)
        .max_header_list_size(u32::try_from(settings.limits.head_bytes_max).unwrap_or(u32::MAX))
        .max_send_buffer_size(SEND_BUFFER_BYTES)
        .max_local_error_reset_streams(Some(FORCED_RESETS_MAX));
    builder
}

/// The task of an open connection.
struct Driver<'a> {
    connection: h2::client::Connection<Io, Bytes>,
    watched: Rc<Watched<Stream>>,
    state: &'a State,
    settings: &'a ClientSettings,
    /// When it was last asked whether the server is still there, and whether it has said so.
    asked_at: Option<(Instant, bool)>,
    closing_since: Option<Instant>,
}

impl Driver<'_> {
    async fn run(mut self, mut pings: Option<PingPong>) {
        let mut tick = interval(TICK);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let is_asked = matches!(self.asked_at, Some((_, false)));
            tokio::select! {
                biased;
                () = self.watched.flooded.notified() => {
                    tracing::info!(flood = ?self.watched.meter.borrow().flood(), "an upstream floods its connection; closed");
                    return self.state.fault.set(Some(Http2Error::Flood));
                }
                ended = driven(&mut self.connection, self.state) => {
                    if let Err(error) = ended {
                        tracing::debug!(%error, "HTTP/2 connection to a server ended");
                    }
                    return;
                }
                heard = answer(pings.as_mut()), if is_asked => self.handle_pong(heard),
                () = self.state.suspicion.notified() => self.ask(pings.as_mut()),
                _ = tick.tick() => {
                    if self.judge(pings.as_mut()) {
                        return;
                    }
                }
            }
        }
    }

    fn handle_pong(&mut self, is_alive: bool) {
        if let Some((_, has_answered)) = &mut self.asked_at {
            *has_answered = true;
        }
        if is_alive {
            self.state.is_suspected.set(false);
            self.state.room.wake();
        }
    }

    fn ask(&mut self, pings: Option<&mut PingPong>) {
        if matches!(self.asked_at, Some((_, false))) {
            return; // it has been, and not answered yet
        }
        if pings.is_some_and(|pings| pings.send_ping(Ping::opaque()).is_ok()) {
            self.asked_at = Some((Instant::now(), false));
        }
    }

    /// Looks at the deadlines that concern the connection as a whole; whether it is over.
    fn judge(&mut self, pings: Option<&mut PingPong>) -> bool {
        let (head_age, blocked, quiet) = {
            let meter = self.watched.meter.borrow();
            let blocked = meter.blocked_since.map_or(Duration::ZERO, |since| since.elapsed());
            (meter.head_age(), blocked, meter.moved_at.elapsed())
        };
        let has_no_answer = matches!(self.asked_at, Some((at, false)) if at.elapsed() > PING_PATIENCE);
        if has_no_answer || blocked > self.settings.write_idle_timeout || head_age > self.settings.head_timeout {
            self.state.fault.set(Some(Http2Error::Dead));
            return true;
        }
        let was_asked_lately = self.asked_at.is_some_and(|(at, _)| at.elapsed() < PING_EVERY);
        if self.state.streams.get() > 0 && quiet > PING_AFTER && !was_asked_lately {
            self.ask(pings);
        }
        if self.state.is_idle() && self.state.idle_since.get().elapsed() > self.settings.pool_idle_timeout {
            self.state.close();
        }
        if !matches!(&*self.state.phase.borrow(), Phase::Closing) {
            return false;
        }
        let since = *self.closing_since.get_or_insert_with(Instant::now);
        self.state.streams.get() == 0 && since.elapsed() > LINGER
    }
}

/// Waits for the answer to a PING; false when there will be none.
async fn answer(pings: Option<&mut PingPong>) -> bool {
    let Some(pings) = pings else { return false };
    poll_fn(|cx| pings.poll_pong(cx)).await.is_ok()
}

/// What a failure of `h2` means, and whether the server has said that it did not look at the request.
pub(super) fn failure(error: &h2::Error) -> (ClientErrorKind, bool) {
    let code = || error.reason().map_or(0, u32::from);
    if error.is_remote() && (error.is_go_away() || error.reason() == Some(h2::Reason::REFUSED_STREAM)) {
        return (ClientErrorKind::Http2(Http2Error::Refused), true);
    }
    if let Some(error) = error.get_io() {
        return (ClientErrorKind::of_lost_connection(io::Error::from(error.kind())), false);
    }
    let kind = if error.is_remote() { Http2Error::Reset(code()) } else { Http2Error::Broken(code()) };
    (ClientErrorKind::Http2(kind), false)
}

/// The same failure for another who waited for the same connection.
fn again(kind: &ClientErrorKind) -> ClientErrorKind {
    match kind {
        ClientErrorKind::Refused => ClientErrorKind::Refused,
        ClientErrorKind::TimedOut => ClientErrorKind::TimedOut,
        ClientErrorKind::Http2(error) => ClientErrorKind::Http2(*error),
        ClientErrorKind::Tls(error) => ClientErrorKind::Tls(error.again()),
        ClientErrorKind::Io(error) => ClientErrorKind::Io(io::Error::from(error.kind())),
        _ => ClientErrorKind::Closed,
    }
}

/// A stream that lets others have their turn after a number of reads.
struct Paced<IO> {
    io: IO,
    reads: u32,
}

impl<IO: AsyncRead + Unpin> AsyncRead for Paced<IO> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        self.reads += 1;
        if self.reads > READS_PER_TURN_MAX {
            self.reads = 0;
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        let read = Pin::new(&mut self.io).poll_read(cx, buf);
        if read.is_pending() {
            self.reads = 0;
        }
        read
    }
}

impl<IO: AsyncWrite + Unpin> AsyncWrite for Paced<IO> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write_vectored(cx, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }
}
