//! One connection as its parts share it: the loop that answers requests, and the bodies that are
//! read from it. Every wait has a deadline.

use super::clock::{Millis, Pace, Timer};
use super::incoming::{self, BodyState};
use super::reactor::{HUNG_UP, Idle, READ_CLOSED, READABLE, Readiness};
use super::worker::Worker;
use crate::Peer;
#[cfg(target_os = "linux")]
use crate::file::FileBody;
use crate::pipes::Piped;
use crate::stream::Stream;
use crate::wire::Wire;
use http1::{Event, ParseError, RequestDecoder, RequestHead};
use std::cell::{Cell, RefCell};
use std::io;
use std::rc::Rc;
use std::task::{Context, Poll, Waker, ready};
use std::time::Duration;

/// A connection that has been quiet for so long goes back to the front.
const REST_AFTER: Duration = Duration::from_millis(500);
/// Most bytes of a file sent at a time: about what a socket has room for when it says that it has some.
#[cfg(target_os = "linux")]
const FILE_SLICE_BYTES: usize = 2 * 1024 * 1024;
/// Bytes of further requests that are received while one is being answered.
const AHEAD_BYTES_MAX: usize = 64 * 1024;

/// A connection. No borrow of `wire` is ever held while a service or its body is polled.
pub(super) struct Conn {
    pub(super) worker: Rc<Worker>,
    pub(super) peer: Rc<Peer>,
    pub(super) wire: RefCell<Wire<RequestDecoder>>,
    pub(super) body: BodyState,
    reading: Timer,
    writing: Timer,
    reading_pace: Pace,
    writing_pace: Pace,
    pub(super) requests_left: Cell<u32>,
    /// What the reactor says about the socket, where it is one of its own.
    readiness: Option<Rc<Readiness>>,
    /// Wakes the task that answers requests.
    task: RefCell<Option<Waker>>,
    /// Whether the front is to have it back as soon as nothing is under way.
    is_on_loan: Cell<bool>,
}

/// What the client does next.
pub(super) enum Next {
    /// It asks for something: the head is in the slot.
    Request,
    /// It sends what is no request.
    Malformed(ParseError),
    /// It has begun a request and does not go on.
    TooSlow,
    /// It says nothing more, or nothing for too long.
    Nothing,
    /// It has been quiet for a while and may be until this time.
    Rest(Millis),
}

/// What the connection waits for while it has no request.
#[derive(PartialEq)]
enum Waiting {
    NotYet,
    ForFirstByte {
        until: Millis,
    },
    ForHead,
    /// For a last request, since the server stops.
    ForLast,
}

impl Conn {
    pub(super) fn new(stream: Stream, peer: Rc<Peer>, worker: Rc<Worker>) -> Self {
        let decoder = RequestDecoder::new(worker.settings.limits.clone());
        Self::resume(stream, decoder, peer, worker)
    }

    /// A connection whose bytes were read so far by this decoder.
    pub(super) fn resume(stream: Stream, decoder: RequestDecoder, peer: Rc<Peer>, worker: Rc<Worker>) -> Self {
        let readiness = match &stream {
            Stream::Plain(socket) => Some(socket.readiness()),
            _ => None,
        };
        Self {
            peer,
            readiness,
            wire: RefCell::new(Wire::new(stream, decoder)),
            body: BodyState::default(),
            reading: Timer::default(),
            writing: Timer::default(),
            reading_pace: Pace::default(),
            writing_pace: Pace::default(),
            requests_left: Cell::new(worker.settings.requests_per_connection_max),
            task: RefCell::default(),
            is_on_loan: Cell::new(false),
            worker,
        }
    }

    /// Remembers the calling task as the one that answers requests.
    pub(super) async fn adopt(&self) {
        std::future::poll_fn(|cx| {
            *self.task.borrow_mut() = Some(cx.waker().clone());
            Poll::Ready(())
        })
        .await;
    }

    /// Has the front get it back as soon as nothing is under way: there its next request may go a shorter way.
    pub(super) fn lend(&self) {
        self.is_on_loan.set(true);
    }

    /// Wakes the task that answers requests, unless it is the one that calls.
    pub(super) fn wake_unless_running(&self, cx: &Context<'_>) {
        if let Some(task) = &*self.task.borrow()
            && !task.will_wake(cx.waker())
        {
            task.wake_by_ref();
        }
    }

    /// Wakes the task that last waited for bytes to read.
    pub(super) fn wake_reader(&self) {
        self.reading.wake();
    }

    pub(super) fn wake_if_due(&self, now: u64) {
        self.reading.wake_if_due(now);
        self.writing.wake_if_due(now);
    }

    pub(super) fn wake(&self) {
        self.reading.wake();
        self.writing.wake();
    }

    /// Whether the connection may carry another request after this one.
    pub(super) fn may_go_on(&self) -> bool {
        self.requests_left.get() > 0 && !self.worker.is_stopping()
    }

    /// Waits for the next head, having sent every answer that is ready. A head is put into `slot`: heads
    /// are large, and this way they are copied once.
    pub(super) async fn next(&self, is_first: bool, slot: &mut Option<RequestHead>) -> Next {
        let mut waiting = Waiting::NotYet;
        self.reading.disarm();
        let next = std::future::poll_fn(|cx| self.poll_next(cx, is_first, &mut waiting, slot)).await;
        self.reading.disarm();
        if let Next::Request = next {
            self.requests_left.set(self.requests_left.get().saturating_sub(1));
            self.reading_pace.reset();
            self.writing_pace.reset();
        }
        next
    }

    fn poll_next(
        &self,
        cx: &mut Context<'_>,
        is_first: bool,
        waiting: &mut Waiting,
        slot: &mut Option<RequestHead>,
    ) -> Poll<Next> {
        loop {
            {
                let wire = &mut *self.wire.borrow_mut();
                // Between two requests there is mostly nothing to look at.
                let event = if wire.input.is_empty() { Ok(None) } else { wire.decoder.poll(&mut wire.input) };
                match event {
                    Ok(Some(Event::Head(head))) => {
                        *slot = Some(head);
                        return Poll::Ready(Next::Request);
                    }
                    Ok(Some(_)) => continue, // the end of a body that was drained
                    Ok(None) => {}
                    Err(error) => return Poll::Ready(Next::Malformed(error)),
                }
            }
            ready!(self.wire.borrow_mut().poll_turn(cx));
            if ready!(self.poll_flush(cx)).is_err() || self.wire.borrow().is_eof {
                // Also in the middle of a head: whoever has closed the sending side will not finish it.
                return Poll::Ready(Next::Nothing);
            }
            match self.poll_fill(cx, false) {
                Poll::Ready(Ok(_)) => {}
                Poll::Ready(Err(_)) => return Poll::Ready(Next::Nothing),
                Poll::Pending => return self.poll_quiet(cx, is_first, waiting),
            }
        }
    }

    /// Nothing has come: how much longer is that all right?
    fn poll_quiet(&self, cx: &mut Context<'_>, is_first: bool, waiting: &mut Waiting) -> Poll<Next> {
        let settings = &self.worker.settings;
        let is_idle = {
            let wire = &mut *self.wire.borrow_mut();
            wire.release(&self.worker.buffers);
            wire.decoder.is_idle() && wire.input.is_empty()
        };
        let has_nothing = |readiness: &Rc<Readiness>| !readiness.is(READABLE | READ_CLOSED | HUNG_UP);
        if is_idle
            && self.is_on_loan.get()
            && !self.worker.is_stopping()
            && self.readiness.as_ref().is_some_and(has_nothing)
        {
            return Poll::Ready(Next::Rest(self.worker.clock.after(settings.keep_alive_timeout)));
        }
        if is_idle && self.worker.is_stopping() && *waiting != Waiting::ForLast {
            if settings.idle_grace.is_zero() {
                return Poll::Ready(Next::Nothing);
            }
            *waiting = Waiting::ForLast;
            self.reading.arm(self.worker.clock.after(settings.idle_grace));
        }
        if !is_idle && *waiting != Waiting::ForHead {
            *waiting = Waiting::ForHead;
            self.reading.arm(self.worker.clock.after(settings.head_timeout));
        } else if *waiting == Waiting::NotYet {
            let patience = if is_first { settings.head_timeout } else { settings.keep_alive_timeout };
            *waiting = Waiting::ForFirstByte { until: self.worker.clock.after(patience) };
            let first_look = if self.readiness.is_some() { patience.min(REST_AFTER) } else { patience };
            self.reading.arm(self.worker.clock.after(first_look));
        }
        if !self.reading.poll_expired(&self.worker.clock, cx) {
            return Poll::Pending;
        }
        Poll::Ready(match waiting {
            _ if !is_idle => Next::TooSlow,
            Waiting::ForFirstByte { until } if *until > self.worker.now() => {
                if self.readiness.as_ref().is_none_or(|readiness| readiness.is(READABLE | READ_CLOSED)) {
                    // Something is here; it was only not our turn to read it.
                    cx.waker().wake_by_ref();
                    return Poll::Pending;
                }
                Next::Rest(*until)
            }
            _ => Next::Nothing,
        })
    }

    /// Gives the connection back to the front, which waits for the next request without a task.
    pub(super) fn rest(&self, deadline: Millis) {
        let taken = self.wire.borrow_mut().take_socket();
        let Some(Stream::Plain(socket)) = taken else { return };
        socket.put_back(|fd| Idle {
            fd,
            site: 0,
            requests_left: self.requests_left.get(),
            tells_writable: false,
            deadline,
            addr: self.peer.addr,
            local_addr: self.peer.local_addr,
            counted: None,
        });
    }

    /// Reads once into the input; 0 is the end. No deadline: that is the caller's.
    pub(super) fn poll_fill(&self, cx: &mut Context<'_>, bulk: bool) -> Poll<io::Result<usize>> {
        self.wire.borrow_mut().poll_fill(cx, &self.worker.buffers, bulk)
    }

    /// Reads once for a body, within its deadline and rate.
    pub(super) fn poll_fill_body(&self, cx: &mut Context<'_>, bulk: bool) -> Poll<io::Result<usize>> {
        let settings = &self.worker.settings;
        let now = self.worker.now();
        if let Poll::Ready(read) = self.poll_fill(cx, bulk) {
            self.reading.disarm();
            let count = read?;
            // What was here long before anybody asked for it did not keep us waiting.
            let came = self.readiness.as_ref().map_or(now, |readiness| readiness.readable_at.get().min(now));
            let fast = self.reading_pace.handle_progress(count, came, settings.rate_min, settings.rate_grace);
            return Poll::Ready(if fast { Ok(count) } else { Err(io::ErrorKind::TimedOut.into()) });
        }
        self.reading_pace.handle_wait(now);
        self.reading.arm_once(|| self.worker.clock.after(settings.body_idle_timeout));
        if self.reading.poll_expired(&self.worker.clock, cx) {
            return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
        }
        Poll::Pending
    }

    /// Sends what is queued, within its deadline and rate.
    pub(super) fn poll_flush(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut progress = 0;
        let flushed = {
            let wire = &mut *self.wire.borrow_mut();
            if wire.is_flushed() {
                return Poll::Ready(Ok(()));
            }
            wire.poll_flush(cx, &mut progress)
        };
        if progress > 0 {
            self.handle_sent(progress)?;
        }
        if flushed.is_ready() {
            return flushed;
        }
        self.poll_blocked(cx).map(Err)
    }

    /// Counts bytes the client took; fails when it takes them too slowly.
    fn handle_sent(&self, count: usize) -> io::Result<()> {
        let settings = &self.worker.settings;
        let now = self.worker.now();
        self.writing.disarm();
        let room_came = self.readiness.as_ref().map_or(now, |readiness| readiness.writable_at.get().min(now));
        if self.writing_pace.handle_progress(count, room_came, settings.rate_min, settings.rate_grace) {
            return Ok(());
        }
        Err(io::ErrorKind::TimedOut.into())
    }

    /// The client takes nothing: how much longer is that all right?
    fn poll_blocked(&self, cx: &mut Context<'_>) -> Poll<io::Error> {
        self.writing_pace.handle_wait(self.worker.now());
        self.writing.arm_once(|| self.worker.clock.after(self.worker.settings.write_idle_timeout));
        if self.writing.poll_expired(&self.worker.clock, cx) {
            return Poll::Ready(io::ErrorKind::TimedOut.into());
        }
        Poll::Pending
    }

    /// Whether the system itself can send to the socket, from a file or a pipe.
    pub(super) fn is_plain(&self) -> bool {
        matches!(self.wire.borrow().stream(), Some(Stream::Plain(_)))
    }

    /// Sends what is queued and then from a file, within the deadline and rate; the bytes of the file that were sent.
    #[cfg(target_os = "linux")]
    pub(super) fn poll_send_file(&self, cx: &mut Context<'_>, file: &FileBody) -> Poll<io::Result<u64>> {
        ready!(self.poll_flush(cx))?;
        let sent = match self.wire.borrow().stream() {
            Some(Stream::Plain(socket)) => {
                let count = usize::try_from(file.left).unwrap_or(usize::MAX).min(FILE_SLICE_BYTES);
                socket.poll_send_file(cx, &file.file, file.offset, count)
            }
            _ => Poll::Ready(Err(io::ErrorKind::NotConnected.into())),
        };
        let Poll::Ready(sent) = sent else { return self.poll_blocked(cx).map(Err) };
        let sent = sent?;
        if sent == 0 {
            return Poll::Ready(Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the file is shorter than it was")));
        }
        self.handle_sent(sent)?;
        Poll::Ready(Ok(sent as u64))
    }

    /// Sends what is queued and then some of what is in the pipe, within the deadline and rate.
    pub(super) fn poll_send_piped(&self, cx: &mut Context<'_>, piped: &mut Piped) -> Poll<io::Result<()>> {
        ready!(self.poll_flush(cx))?;
        let sent = match self.wire.borrow().stream() {
            Some(Stream::Plain(socket)) => socket.poll_splice_out(cx, piped),
            _ => Poll::Ready(Err(io::ErrorKind::NotConnected.into())),
        };
        let Poll::Ready(sent) = sent else { return self.poll_blocked(cx).map(Err) };
        Poll::Ready(self.handle_sent(sent?))
    }

    /// Queues what the service says before its answer, unless something else is still to be sent; whether there was any.
    #[inline]
    pub(super) fn queue_hints(&self) -> bool {
        let has_any = self.peer.hints.is_waiting() && self.wire.borrow().unsent() == 0;
        if has_any {
            self.peer.hints.take(self.wire.borrow_mut().open_output(&self.worker.buffers));
        }
        has_any
    }

    pub(super) async fn flush(&self) -> io::Result<()> {
        std::future::poll_fn(|cx| self.poll_flush(cx)).await
    }

    /// While an answer is being made: sends earlier ones, and is ready when the client is gone. A
    /// client that has only closed its sending side is not gone.
    pub(super) fn poll_gone(&self, cx: &mut Context<'_>) -> Poll<()> {
        if let Poll::Ready(Err(_)) = self.poll_flush(cx) {
            return Poll::Ready(());
        }
        while !self.body.is_open() {
            {
                let wire = self.wire.borrow();
                if wire.is_eof || wire.input.len() >= AHEAD_BYTES_MAX {
                    break;
                }
            }
            match self.poll_fill(cx, false) {
                Poll::Ready(Ok(_)) => {}
                Poll::Ready(Err(_)) => return Poll::Ready(()),
                Poll::Pending => {
                    self.wire.borrow_mut().release(&self.worker.buffers);
                    break;
                }
            }
        }
        if self.wire.borrow().is_eof
            && !self.body.is_open()
            && let Some(readiness) = &self.readiness
        {
            if readiness.is(HUNG_UP) {
                return Poll::Ready(());
            }
            readiness.wait_read(cx); // nothing more can be read, but a reset can still come
        }
        Poll::Pending
    }

    /// As [`Conn::poll_gone`], while content of unknown length is awaited: whoever has closed the sending side and gets
    /// nothing for long has mostly left altogether, which looks the same until something is sent.
    pub(super) fn poll_left(&self, cx: &mut Context<'_>) -> Poll<()> {
        if self.poll_gone(cx).is_ready() {
            return Poll::Ready(());
        }
        let waits = self.wire.borrow().is_eof && !self.body.is_open();
        if waits {
            self.reading.arm_once(|| self.worker.clock.after(self.worker.settings.half_closed_timeout));
            if self.reading.poll_expired(&self.worker.clock, cx) {
                return Poll::Ready(());
            }
        }
        Poll::Pending
    }

    /// Content has come: the time of [`Conn::poll_left`] begins anew.
    pub(super) fn handle_content(&self) {
        if !self.body.is_open() {
            self.reading.disarm();
        }
    }

    /// Whether the client has sent something that nobody has read, as far as is known without asking. Closing answers
    /// that with a reset, and a reset may reach the client before it has read the answer (RFC 9112 §9.6).
    pub(super) fn may_be_sent_more(&self) -> bool {
        let wire = self.wire.borrow();
        let is_readable = || self.readiness.as_ref().is_some_and(|readiness| readiness.is(READABLE));
        !wire.is_eof && (!wire.input.is_empty() || is_readable())
    }

    /// Ends the connection so that the client can read the last answer: closes the sending side,
    /// then reads and forgets until the client has closed too (RFC 9112 §9.6).
    pub(super) async fn linger(&self) {
        incoming::take_over(self);
        if self.flush().await.is_err() {
            return;
        }
        self.reading.disarm();
        self.reading.arm(self.worker.clock.after(self.worker.settings.linger_timeout));
        let mut left = LINGER_BYTES_MAX;
        let mut is_shut = false;
        std::future::poll_fn(|cx| {
            if !std::mem::replace(&mut is_shut, true) {
                self.wire.borrow_mut().shutdown(cx);
            }
            loop {
                self.wire.borrow_mut().input.clear();
                if self.wire.borrow().is_eof || left == 0 {
                    return Poll::Ready(());
                }
                match self.poll_fill(cx, true) {
                    Poll::Ready(Ok(count)) => left = left.saturating_sub(count),
                    Poll::Ready(Err(_)) => return Poll::Ready(()),
                    Poll::Pending if self.reading.poll_expired(&self.worker.clock, cx) => return Poll::Ready(()),
                    Poll::Pending => return Poll::Pending,
                }
            }
        })
        .await;
    }
}

/// Most bytes read away from a client that goes on sending after it was refused.
const LINGER_BYTES_MAX: usize = 16 * 1024 * 1024;
