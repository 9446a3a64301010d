//! HTTP/2 behind the same [`Service`] as HTTP/1.1 (RFC 9113). Framing, header compression and flow control are the `h2`
//! crate's; what a request and an answer mean, and what a client may cost, is decided here.
//!
//! ```text
//!   TlsStream ── Watched (counts frames, notes silence) ── h2 ──accept──▶ exchange, at once or in a task of its own
//!        ▲                                                                   RecvStream ▶ content::Incoming ▶ service
//!        │                                            extended CONNECT ▶ tunnel::Tunnel ▶ Upgraded
//!        └── deadlines, floods, stop ──▶ GOAWAY                              service ▶ content::send ▶ SendStream
//! ```

mod content;
mod date;
mod exchange;
pub(crate) mod head;
pub(crate) mod meter;
mod patience;
mod tunnel;

use crate::{Peer, Service, Settings};
use bytes::Bytes;
use content::is_worth_a_word;
use date::Dates;
use h2::Reason;
use h2::server::{Builder, Connection};
use meter::{Flood, Meter, Metered, Watched};
use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, Waker, ready};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::Notify;
use tokio::task::JoinSet;
use tokio::time::{Instant, Interval, interval, timeout};

/// Bytes a client may send ahead on one stream, and on all streams of a connection together.
const STREAM_WINDOW_BYTES: u32 = 256 * 1024;
const CONNECTION_WINDOW_BYTES: u32 = 1024 * 1024;
/// Bytes of answers that wait for the socket, per stream: two frames. A client that opens all streams with endless
/// windows and takes nothing makes us hold that for each of them.
const SEND_BUFFER_BYTES: usize = 32 * 1024;
/// Requests on one connection that nobody can read, and answers on it that end by a fault of either side: beyond it
/// the connection is given up. Further resets forced by broken frames are counted by `h2` (CVE-2025-8671).
const MALFORMED_MAX: u32 = 100;
const FORCED_RESETS_MAX: usize = 100;
const BROKEN_OFF_MAX: u32 = 500;
/// Streams that were reset before anybody took them, kept by `h2`.
const PENDING_RESETS_MAX: usize = 20;
/// Shortest and longest time between two looks at the deadlines, and how late one may be noticed.
const TICK_MIN: Duration = Duration::from_millis(10);
const TICK_MAX: Duration = Duration::from_secs(1);
const TICKS_PER_TIMEOUT: u32 = 8;
/// Most bytes read away from a client that goes on sending after it was refused.
const LINGER_BYTES_MAX: usize = 16 * 1024 * 1024;
/// Requests of one connection taken in a row before the others of its worker have their turn.
const ANSWERS_PER_TURN_MAX: u32 = 64;

/// What the streams of one connection share.
struct Shared<S> {
    service: Rc<S>,
    peer: Rc<Peer>,
    settings: Arc<Settings>,
    dates: Dates,
    malformed: Cell<u32>,
    broken_off: Cell<u32>,
}

/// Answers all requests of one connection, until it ends by itself or `peer.stop` fires and its streams have ended.
pub(crate) async fn serve<S, IO>(io: IO, service: Rc<S>, peer: Rc<Peer>, settings: Arc<Settings>)
where
    S: Service,
    IO: AsyncRead + AsyncWrite + Unpin,
{
    let watched = Rc::new(Watched { io: RefCell::new(io), meter: RefCell::new(Meter::new()), flooded: Notify::new() });
    let handshake = builder(&settings).handshake::<_, Bytes>(Metered(watched.clone()));
    let Ok(Ok(connection)) = timeout(settings.head_timeout, handshake).await else {
        return tracing::debug!(peer = %peer.addr, "no HTTP/2 preface");
    };
    let linger = settings.linger_timeout;
    let shared = Rc::new(Shared {
        service,
        peer,
        settings,
        dates: Dates::default(),
        malformed: Cell::new(0),
        broken_off: Cell::new(0),
    });
    let driver = Driver {
        connection,
        watched: watched.clone(),
        shared,
        begin: exchange::answer::<S>,
        first: Box::pin(None),
        streams: JoinSet::new(),
        requests: 0,
        idle_since: Instant::now(),
        going_since: None,
    };
    if driver.run().await == End::Refused {
        // It is to be able to read why: closing with unread bytes would discard the answer (RFC 9112 §9.6).
        let _ = timeout(linger, read_away(&watched.io)).await;
    }
}

fn builder(settings: &Settings) -> Builder {
    let mut builder = Builder::new();
    builder
        .initial_window_size(STREAM_WINDOW_BYTES)
        .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
        .max_concurrent_streams(settings.http2_streams_max)
        .max_header_list_size(u32::try_from(settings.limits.head_bytes_max).unwrap_or(u32::MAX))
        .max_send_buffer_size(SEND_BUFFER_BYTES)
        .enable_connect_protocol()
        .max_local_error_reset_streams(Some(FORCED_RESETS_MAX))
        .max_pending_accept_reset_streams(PENDING_RESETS_MAX);
    builder
}

/// How a connection ended.
#[derive(Debug, PartialEq, Eq)]
enum End {
    /// By itself, or by being dropped.
    Closed,
    /// By us, while the client may still be sending.
    Refused,
}

/// A request as `h2` hands it over, and where its answer goes.
type Accepted = (http::Request<h2::RecvStream>, h2::server::SendResponse<Bytes>);

/// What there is to do next for a connection.
#[expect(clippy::large_enum_variant, reason = "taken apart where it is made, and the large one is the usual one")]
enum Event {
    Flooded,
    Stopped,
    /// An answer that had a task is complete.
    Answered,
    Accepted(Option<Result<Accepted, h2::Error>>),
    Tick,
}

/// One connection under way.
struct Driver<S: Service, IO, Answer> {
    connection: Connection<Metered<IO>, Bytes>,
    watched: Rc<Watched<IO>>,
    shared: Rc<Shared<S>>,
    begin: fn(Rc<Shared<S>>, Accepted) -> Answer,
    /// The answer that is being tried for the first time; empty otherwise.
    first: Pin<Box<Option<Answer>>>,
    /// Those that were not ready then. Dropped means aborted: no service outlives its connection.
    streams: JoinSet<()>,
    requests: u32,
    /// Since when no request is being answered.
    idle_since: Instant,
    /// Since when the connection is to end as soon as its streams have.
    going_since: Option<Instant>,
}

impl<S: Service, IO: AsyncRead + AsyncWrite + Unpin, Answer: Future<Output = ()> + 'static> Driver<S, IO, Answer> {
    async fn run(mut self) -> End {
        let stop = self.shared.peer.stop.clone();
        let mut stopped = pin!(stop.cancelled());
        let mut tick = interval(tick_length(&self.shared.settings));
        let (mut has_stopped, mut in_a_row) = (false, 0);
        loop {
            let next = poll_fn(|cx| self.poll_event(cx, (!has_stopped).then_some(stopped.as_mut()), &mut tick));
            match next.await {
                Event::Flooded => {
                    let flood = self.watched.meter.borrow().flood();
                    return self.refuse(flood).await;
                }
                Event::Stopped => {
                    has_stopped = true;
                    self.go();
                }
                Event::Answered => self.idle_since = Instant::now(),
                Event::Accepted(Some(Ok(accepted))) => {
                    self.begin(accepted);
                    in_a_row += 1;
                    if in_a_row % ANSWERS_PER_TURN_MAX == 0 {
                        tokio::task::yield_now().await;
                    }
                }
                Event::Accepted(Some(Err(error))) => return self.ended(&error),
                Event::Accepted(None) => return End::Closed,
                Event::Tick => {
                    if let Some(end) = self.judge().await {
                        return end;
                    }
                }
            }
            if self.shared.malformed.get() > MALFORMED_MAX || self.shared.broken_off.get() > BROKEN_OFF_MAX {
                return self.refuse(None).await;
            }
        }
    }

    fn poll_event(
        &mut self,
        cx: &mut Context<'_>,
        stopped: Option<Pin<&mut impl Future<Output = ()>>>,
        tick: &mut Interval,
    ) -> Poll<Event> {
        if stopped.is_some_and(|stopped| stopped.poll(cx).is_ready()) {
            return Poll::Ready(Event::Stopped);
        }
        if !self.streams.is_empty() && self.streams.poll_join_next(cx).is_ready() {
            return Poll::Ready(Event::Answered);
        }
        let accepted = self.connection.poll_accept(cx);
        // What was read just now is not answered any more if there was too much of it.
        if self.watched.meter.borrow().flood().is_some() {
            return Poll::Ready(Event::Flooded);
        }
        match accepted {
            Poll::Ready(accepted) => Poll::Ready(Event::Accepted(accepted)),
            Poll::Pending => tick.poll_tick(cx).map(|_| Event::Tick),
        }
    }

    /// Asks for an answer. What is ready at once needs no task, and leaves together with others of its kind; whoever is
    /// not is asked again in a task, so nobody need be woken from here.
    fn begin(&mut self, accepted: Accepted) {
        self.requests += 1;
        if self.requests >= self.shared.settings.requests_per_connection_max {
            self.go();
        }
        let polled = catch_unwind(AssertUnwindSafe(|| {
            self.first.set(Some((self.begin)(self.shared.clone(), accepted)));
            let Some(answer) = self.first.as_mut().as_pin_mut() else { return Poll::Ready(()) };
            ready!(answer.poll(&mut Context::from_waker(Waker::noop())));
            self.first.set(None);
            Poll::Ready(())
        }));
        match polled {
            Ok(Poll::Ready(())) => self.idle_since = self.watched.meter.borrow().moved_at,
            Ok(Poll::Pending) => {
                let mut answer = std::mem::replace(&mut self.first, Box::pin(None));
                self.streams.spawn_local(async move {
                    if let Some(answer) = answer.as_mut().as_pin_mut() {
                        answer.await;
                    }
                });
            }
            Err(_) => {
                tracing::error!(peer = %self.shared.peer.addr, "what the service left behind panicked");
                let left = std::mem::replace(&mut self.first, Box::pin(None));
                let _ = catch_unwind(AssertUnwindSafe(|| drop(left)));
            }
        }
    }

    /// Lets streams under way finish and accepts no new ones (RFC 9113 §6.8).
    fn go(&mut self) {
        if self.going_since.is_none() {
            self.going_since = Some(Instant::now());
            self.connection.graceful_shutdown();
        }
    }

    fn ended(&self, error: &h2::Error) -> End {
        if is_worth_a_word(error) {
            tracing::debug!(peer = %self.shared.peer.addr, %error, "HTTP/2 connection ended");
        }
        // `h2` has said why by a GOAWAY, unless the socket itself failed.
        if error.is_io() { End::Closed } else { End::Refused }
    }

    /// Ends the connection now, and says why.
    async fn refuse(&mut self, flood: Option<Flood>) -> End {
        tracing::info!(peer = %self.shared.peer.addr, ?flood, "HTTP/2 connection abused; closed");
        self.streams.abort_all();
        self.close(Reason::ENHANCE_YOUR_CALM).await
    }

    async fn close(&mut self, reason: Reason) -> End {
        self.connection.abrupt_shutdown(reason);
        let closed = poll_fn(|cx| self.connection.poll_closed(cx));
        // A client that takes nothing is not waited for longer.
        let _ = timeout(self.shared.settings.linger_timeout, closed).await;
        End::Refused
    }

    /// Looks at the deadlines that concern the connection as a whole.
    async fn judge(&mut self) -> Option<End> {
        let settings = self.shared.settings.clone();
        let (head_age, blocked, quiet) = {
            let meter = self.watched.meter.borrow();
            let blocked = meter.blocked_since.map_or(Duration::ZERO, |since| since.elapsed());
            (meter.head_age(), blocked, meter.moved_at.elapsed())
        };
        if blocked > settings.write_idle_timeout {
            return Some(End::Closed);
        }
        if head_age > settings.head_timeout {
            return Some(self.close(Reason::PROTOCOL_ERROR).await);
        }
        if !self.streams.is_empty() {
            return None;
        }
        // No service is at work; what `h2` still has to send or to hear depends on the client alone.
        let is_first = self.requests == 0;
        let patience = if is_first { settings.head_timeout } else { settings.keep_alive_timeout };
        if self.idle_since.elapsed() > patience && !self.connection.has_streams() {
            self.go();
        }
        if self.connection.has_streams() && quiet > settings.write_idle_timeout {
            return Some(self.close(Reason::NO_ERROR).await);
        }
        let is_overdue = self.going_since.is_some_and(|since| since.elapsed() > settings.linger_timeout);
        if is_overdue && !self.connection.has_streams() {
            return Some(self.close(Reason::NO_ERROR).await);
        }
        None
    }
}

fn tick_length(settings: &Settings) -> Duration {
    let shortest = settings
        .head_timeout
        .min(settings.write_idle_timeout)
        .min(settings.keep_alive_timeout)
        .min(settings.linger_timeout);
    (shortest / TICKS_PER_TIMEOUT).clamp(TICK_MIN, TICK_MAX)
}

/// Reads and forgets, up to a bound.
async fn read_away<IO: AsyncRead + Unpin>(io: &RefCell<IO>) {
    let mut buffer = [0; 4096];
    let mut left = LINGER_BYTES_MAX;
    while left > 0 {
        let count = poll_fn(|cx| {
            let mut buffer = ReadBuf::new(&mut buffer);
            let read = Pin::new(&mut *io.borrow_mut()).poll_read(cx, &mut buffer);
            read.map_ok(|()| buffer.filled().len())
        });
        match count.await {
            Ok(0) | Err(_) => return,
            Ok(count) => left = left.saturating_sub(count),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn deadlines_are_looked_at_often_enough_and_not_too_often() {
        let tick = |shortest| {
            let long = Duration::from_hours(1);
            let mut settings = Settings { head_timeout: long, write_idle_timeout: long, ..Settings::default() };
            (settings.keep_alive_timeout, settings.linger_timeout) = (long, shortest);
            tick_length(&settings)
        };
        assert_eq!(tick(Duration::from_millis(1)), Duration::from_millis(10));
        assert_eq!(tick(Duration::from_secs(2)), Duration::from_millis(250), "an eighth");
        assert_eq!(tick(Duration::from_mins(30)), Duration::from_secs(1));
    }
}
