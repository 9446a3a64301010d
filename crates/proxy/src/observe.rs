//! One request as counts and log see it, from its head to the end of its answer.
//!
//! A [`Watch`] goes along with the request and then with its answer; when the last holder lets go of it the request is
//! over, however it ended, and is counted and logged. Nobody has to remember to say so.

use std::cell::{Cell, OnceCell, RefCell};
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use bytes::Bytes;
use engine::{
    Answer, Body, BodyError, ClientError, ClientErrorKind, EarlyHints, Fields, Peer, RequestHead, Response, Source,
    Version,
};
use smallvec::SmallVec;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::access;
use crate::access_log::{Entry, WorkerLog};
use crate::conf::Network;
use crate::crowd::Seat;
use crate::metrics::{Line, Reason, Route, RouteCells, ServerCells, class};
use crate::upstream::Upstream;

/// One request.
pub(crate) struct Watch {
    pub(crate) started: Instant,
    /// When the upstream's head was there, as long as the end of the answer is no later.
    heard_at: Cell<Option<Instant>>,
    route: RefCell<Option<Arc<Line<RouteCells>>>>,
    /// 0 until there is an answer.
    status: Cell<u16>,
    tries: Cell<u32>,
    upstream_took: Cell<Option<Duration>>,
    bytes_in: Cell<u64>,
    bytes_out: Cell<u64>,
    /// How many times its answer is handed on before it is sent; the last one counts.
    hands: Cell<u8>,
    /// Whether its end says nothing about how long an answer takes: a tunnel, an event stream.
    is_endless: Cell<bool>,
    is_tunnel: Cell<bool>,
    /// Connections opened for it, once somebody counts them.
    opened: OnceCell<Rc<Cell<u32>>>,
    id: OnceCell<Id>,
    /// Its place among those of its client.
    seat: Cell<Option<Seat>>,
    /// Where an upstream's hints go, if they go anywhere.
    pub(crate) hints: OnceCell<EarlyHints>,
    /// Boxed, because most requests are not logged, or not so that a moment counts.
    log: Option<Box<Logged>>,
}

/// What only the log wants to know.
struct Logged {
    log: WorkerLog,
    client: IpAddr,
    version: Version,
    method: String,
    target: String,
    host: String,
    referer: Option<Vec<u8>>,
    agent: Option<Vec<u8>>,
    route: RefCell<Option<String>>,
    upstream: Cell<Option<SocketAddr>>,
}

impl Watch {
    pub(crate) fn new(head: &RequestHead, peer: &Peer, log: Option<&WorkerLog>, trusted: &[Network]) -> Self {
        Self {
            started: Instant::now(),
            heard_at: Cell::new(None),
            route: RefCell::default(),
            status: Cell::new(0),
            tries: Cell::new(0),
            upstream_took: Cell::new(None),
            bytes_in: Cell::new(0),
            bytes_out: Cell::new(0),
            hands: Cell::new(0),
            is_endless: Cell::new(false),
            is_tunnel: Cell::new(false),
            opened: OnceCell::new(),
            id: OnceCell::new(),
            seat: Cell::new(None),
            hints: OnceCell::new(),
            log: log.map(|log| Box::new(Logged::new(head, peer, log.clone(), trusted))),
        }
    }

    /// Lets go of a request that is not over: it goes on with a watch of its own.
    pub(crate) fn withdraw(mut self) {
        debug_assert!(self.route.borrow().is_none(), "it is counted already");
        self.log = None;
    }

    /// Where the connections opened for it are counted.
    pub(crate) fn opened(&self) -> &Rc<Cell<u32>> {
        self.opened.get_or_init(Rc::default)
    }

    fn opened_count(&self) -> u32 {
        self.opened.get().map_or(0, |opened| opened.get())
    }

    /// Hints of upstreams go this way, if there is one.
    pub(crate) fn hint_by(&self, hints: Option<EarlyHints>) {
        if let Some(hints) = hints {
            let _ = self.hints.set(hints); // said once for each request
        }
    }

    /// Its client has one more, until it is over.
    pub(crate) fn seated(&self, seat: Seat) {
        self.seat.set(Some(seat));
    }

    /// It belongs to a route.
    pub(crate) fn routed(&self, name: &str, route: &Route) {
        let cells = Arc::clone(route.cells.mine());
        cells.in_flight.up();
        *self.route.borrow_mut() = Some(cells);
        if let Some(logged) = &self.log {
            *logged.route.borrow_mut() = Some(name.to_owned());
        }
    }

    /// An upstream is asked.
    fn asked(&self, upstream: SocketAddr) {
        self.tries.set(self.tries.get() + 1);
        if self.tries.get() > 1 {
            self.count(|cells| cells.retries.up());
        }
        if let Some(logged) = &self.log {
            logged.upstream.set(Some(upstream));
        }
    }

    /// It has become a connection that carries something else.
    pub(crate) fn becomes_tunnel(&self) {
        self.is_endless.set(true);
        if !self.is_tunnel.replace(true) {
            self.count(|cells| {
                cells.tunnels.up();
                cells.tunnels_open.up();
            });
        }
    }

    /// A client's connection whose bytes are counted.
    pub(crate) fn measured<S>(self: &Rc<Self>, stream: S) -> Measured<S> {
        Measured { stream, watch: Rc::clone(self) }
    }

    /// The upstream has answered.
    fn heard(&self, at: Instant, took: Duration) {
        self.heard_at.set(Some(at));
        self.upstream_took.set(Some(took));
    }

    /// The upstream broke its answer off.
    pub(crate) fn broken_off(&self) {
        self.count(|cells| cells.broken_off.up());
    }

    /// Its end says nothing about how long an answer takes.
    pub(crate) fn is_endless(&self) {
        self.is_endless.set(true);
    }

    /// What the client is told and how long that is, as far as that is known already.
    pub(crate) fn answered(self: &Rc<Self>, response: &Response) {
        self.status.set(response.status.as_u16());
        // Content that nobody counts on its way is counted now, as if all of it went.
        if Rc::strong_count(self) == 1 {
            self.sent(response.body.exact_len().map_or(0, |length| length as usize));
        } else {
            self.heard_at.set(None); // the end is yet to come
        }
    }

    /// An upstream has given the whole answer at once, with so many bytes of content.
    pub(crate) fn answered_at_once(&self, upstream: &Upstream, status: u16, count: usize) {
        self.asked(upstream.address);
        let cells = upstream.metrics.cells.mine();
        cells.attempts.up();
        self.answered_by(cells, status, self.started);
        self.status.set(status);
        self.sent(count);
    }

    /// Counts an upstream's answer to what it was asked at `begun`.
    fn answered_by(&self, cells: &ServerCells, status: u16, begun: Instant) {
        let now = Instant::now();
        let took = now.duration_since(begun);
        self.heard(now, took);
        cells.took.record(took);
        cells.classes[class(status)].up();
    }

    /// The answer is not the upstream's after all.
    pub(crate) fn is_answered_here(&self) {
        self.heard_at.set(None);
    }

    pub(crate) fn sent(&self, count: usize) {
        self.bytes_out.set(self.bytes_out.get() + count as u64);
        self.count(|cells| cells.bytes_out.add(count as u64));
    }

    /// The answer is handed on once more, changed or later: what those before count was not sent. The number of the new
    /// hand.
    pub(crate) fn handed_on(&self) -> u8 {
        self.hands.set(self.hands.get() + 1);
        self.hands.get()
    }

    /// A hand has let go of so much.
    pub(crate) fn sent_by(&self, hand: u8, count: usize) {
        if hand == self.hands.get() {
            self.sent(count);
        }
    }

    /// An answer's content, counted as it is now and not as it was before.
    pub(crate) fn count_sent(self: &Rc<Self>, body: Body) -> Body {
        Body::from_source(Sent { body, hand: self.handed_on(), watch: Rc::clone(self) })
    }

    /// The proxy does not let it pass.
    pub(crate) fn refused(&self, reason: Reason) {
        self.count(|cells| cells.refused[reason as usize].up());
    }

    pub(crate) fn received(&self, count: usize) {
        self.bytes_in.set(self.bytes_in.get() + count as u64);
        self.count(|cells| cells.bytes_in.add(count as u64));
    }

    /// The request's content, counted.
    pub(crate) fn count_content(self: &Rc<Self>, body: Body) -> Body {
        match body.exact_len() {
            Some(length) => {
                self.received(length as usize); // whoever sends less breaks off
                body
            }
            None => Body::from_source(Counted { body, watch: Rc::clone(self) }),
        }
    }

    /// The client's name for the request, if it may have one, or a new one.
    pub(crate) fn id(&self, head: &RequestHead, is_trusted: bool) -> &[u8] {
        self.id.get_or_init(|| {
            let given = if is_trusted { head.field("x-request-id").filter(|id| is_sound(id)) } else { None };
            given.map_or_else(new_id, Id::from_slice)
        })
    }

    /// The request's name, if it has one by now.
    pub(crate) fn known_id(&self) -> Option<&[u8]> {
        self.id.get().map(|id| &**id)
    }

    fn count(&self, count: impl FnOnce(&RouteCells)) {
        if let Some(cells) = &*self.route.borrow() {
            count(cells);
        }
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        let ended = self.heard_at.get().unwrap_or_else(Instant::now);
        let took = ended.duration_since(self.started);
        let status = self.status.get();
        self.count(|cells| {
            cells.in_flight.down();
            if self.is_tunnel.get() {
                cells.tunnels_open.down();
            }
            cells.ended(status, (!self.is_endless.get()).then_some(took));
        });
        let Some(logged) = &self.log else { return };
        let id = self.id.get_or_init(new_id);
        let upstream = logged.upstream.get().map(|upstream| upstream.to_string());
        logged.log.add(&Entry {
            client: logged.client,
            method: &logged.method,
            target: &logged.target,
            version: logged.version.as_str(),
            host: &logged.host,
            referer: logged.referer.as_deref(),
            agent: logged.agent.as_deref(),
            request_id: std::str::from_utf8(id).unwrap_or_default(), // it is ASCII
            status,
            bytes_in: self.bytes_in.get(),
            bytes_out: self.bytes_out.get(),
            route: logged.route.borrow().as_deref(),
            upstream: upstream.as_deref(),
            tries: self.tries.get(),
            took,
            upstream_took: self.upstream_took.get(),
        });
    }
}

/// One attempt with an upstream. Dropped before its end, nobody waits for it any more.
pub(crate) struct Attempt<'a> {
    watch: &'a Watch,
    upstream: &'a Upstream,
    begun: Instant,
    opened_before: u32,
    is_over: bool,
}

impl<'a> Attempt<'a> {
    pub(crate) fn begin(watch: &'a Watch, upstream: &'a Upstream, begun: Instant) -> Self {
        watch.asked(upstream.address);
        let cells = upstream.metrics.cells.mine();
        cells.attempts.up();
        if watch.tries.get() > 1 {
            cells.retries.up();
        }
        Self { watch, upstream, begun, opened_before: watch.opened_count(), is_over: false }
    }

    pub(crate) fn end(mut self, outcome: &Result<Answer, ClientError>) {
        self.is_over = true;
        let cells = self.upstream.metrics.cells.mine();
        match outcome {
            Ok(Answer::Response(head, _) | Answer::Upgraded(head, _)) => {
                self.watch.answered_by(cells, head.status().as_u16(), self.begun);
            }
            // Not the upstream's fault.
            Err(error) if matches!(error.kind, ClientErrorKind::Body(_) | ClientErrorKind::Request(_)) => {
                cells.classes[class(0)].up();
            }
            Err(error) => {
                cells.failures.up();
                if error.is_connect() {
                    cells.refused.up();
                }
            }
        }
    }
}

impl Drop for Attempt<'_> {
    fn drop(&mut self) {
        let opened = self.watch.opened_count() - self.opened_before;
        if self.is_over && opened == 0 {
            return;
        }
        let cells = self.upstream.metrics.cells.mine();
        cells.opened.add(u64::from(opened));
        if !self.is_over {
            cells.classes[class(0)].up();
        }
    }
}

impl Logged {
    fn new(head: &RequestHead, peer: &Peer, log: WorkerLog, trusted: &[Network]) -> Self {
        let field = |name: &str| head.field(name).map(<[u8]>::to_vec);
        Self {
            log,
            client: access::client(head, peer.addr.ip().to_canonical(), trusted),
            version: head.version(),
            method: head.method().to_string(),
            target: head.target().to_owned(),
            host: head.host().to_owned(),
            referer: field("referer"),
            agent: field("user-agent"),
            route: RefCell::default(),
            upstream: Cell::new(None),
        }
    }
}

/// Longest name of a request that is believed.
const ID_BYTES_MAX: usize = 128;

/// Whether a name of a request may go on: what logs and other programs take for one word.
fn is_sound(id: &[u8]) -> bool {
    let is_fine =
        |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.' | b':' | b'/' | b'+' | b'=');
    !id.is_empty() && id.len() <= ID_BYTES_MAX && id.iter().all(|byte| is_fine(*byte))
}

/// A request's name: ASCII. Those we make need no allocation.
type Id = SmallVec<[u8; 2 * ID_HALF_BYTES]>;

/// The hexadecimal digits of 64 bits.
const ID_HALF_BYTES: usize = 16;

/// A name for a request that no other has: not a secret, so it may be guessed.
fn new_id() -> Id {
    thread_local! {
        static NEXT: Cell<([u8; ID_HALF_BYTES], u64)> = {
            static THREADS: AtomicU64 = AtomicU64::new(1);
            use std::hash::{BuildHasher as _, RandomState};
            let random = RandomState::new();
            Cell::new((hex(random.hash_one(THREADS.fetch_add(1, Relaxed))), random.hash_one(0)))
        };
    }
    NEXT.with(|next| {
        let (thread, count) = next.get();
        next.set((thread, count.wrapping_add(1)));
        let mut id = [0; 2 * ID_HALF_BYTES];
        let (first, second) = id.split_at_mut(ID_HALF_BYTES);
        first.copy_from_slice(&thread);
        second.copy_from_slice(&hex(count));
        Id::from(id)
    })
}

/// Formatting would cost more than all else that is done for a name.
fn hex(number: u64) -> [u8; ID_HALF_BYTES] {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let mut text = [0; ID_HALF_BYTES];
    for (pair, byte) in text.chunks_exact_mut(2).zip(number.to_be_bytes()) {
        pair[0] = DIGITS[usize::from(byte >> 4)];
        pair[1] = DIGITS[usize::from(byte & 0xF)];
    }
    text
}

/// A client's connection after a 101, whose bytes are counted on their way.
pub(crate) struct Measured<S> {
    stream: S,
    watch: Rc<Watch>,
}

impl<S: AsyncRead + Unpin> AsyncRead for Measured<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let polled = Pin::new(&mut self.stream).poll_read(cx, buffer);
        self.watch.received(buffer.filled().len() - before);
        polled
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Measured<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let polled = Pin::new(&mut self.stream).poll_write(cx, bytes);
        if let Poll::Ready(Ok(count)) = &polled {
            self.watch.sent(*count);
        }
        polled
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

/// Content that is counted on its way.
struct Counted {
    body: Body,
    watch: Rc<Watch>,
}

impl Source for Counted {
    fn poll_chunk(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, BodyError>>> {
        let polled = self.body.poll_chunk(cx);
        if let Poll::Ready(Some(Ok(chunk))) = &polled {
            self.watch.received(chunk.len());
        }
        polled
    }

    fn exact_len(&self) -> Option<u64> {
        self.body.exact_len()
    }

    fn trailers(&mut self) -> Option<Fields> {
        self.body.trailers()
    }
}

/// An answer's content that is counted when it is sent.
struct Sent {
    body: Body,
    hand: u8,
    watch: Rc<Watch>,
}

impl Source for Sent {
    fn poll_chunk(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, BodyError>>> {
        let polled = self.body.poll_chunk(cx);
        if let Poll::Ready(Some(Ok(chunk))) = &polled {
            self.watch.sent_by(self.hand, chunk.len());
        }
        polled
    }

    fn exact_len(&self) -> Option<u64> {
        self.body.exact_len()
    }

    fn trailers(&mut self) -> Option<Fields> {
        self.body.trailers()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_requests_differ_and_are_sound() {
        let (one, two) = (new_id(), new_id());
        assert_ne!(one, two);
        assert!(is_sound(&one), "{one:?}");
        assert_eq!(hex(0x0123_4567_89ab_cdef), *b"0123456789abcdef");
        let elsewhere = std::thread::spawn(new_id).join().expect("the thread makes a name");
        assert_ne!(elsewhere[..16], one[..16], "threads do not share their first half");
    }

    #[test]
    fn only_one_harmless_word_goes_on_as_a_name() {
        for (id, expect) in
            [("abc-123", true), ("", false), ("a b", false), ("a\"b", false), ("é", false), (&"x".repeat(129), false)]
        {
            assert_eq!(is_sound(id.as_bytes()), expect, "{id}");
        }
    }
}
