//! One connection as its parts share it: the loop that answers requests, and the bodies that are
//! read from it. Every wait has a deadline.

use super::clock::{Pace, Timer};
use super::incoming::{self, BodyState};
use super::worker::Worker;
use crate::Peer;
use crate::stream::Stream;
use crate::wire::Wire;
use http1::{Event, ParseError, RequestDecoder, RequestHead};
use std::cell::{Cell, RefCell};
use std::io;
use std::rc::Rc;
use std::task::{Context, Poll, Waker, ready};

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
    requests_left: Cell<u32>,
    /// Wakes the task that answers requests.
    task: RefCell<Option<Waker>>,
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
}

/// What the connection waits for while it has no request.
#[derive(PartialEq)]
enum Waiting {
    NotYet,
    ForFirstByte,
    ForHead,
}

impl Conn {
    pub(super) fn new(socket: Stream, peer: Peer, worker: Rc<Worker>) -> Self {
        let decoder = RequestDecoder::new(worker.settings.limits.clone());
        Self {
            peer: Rc::new(peer),
            wire: RefCell::new(Wire::new(socket, decoder)),
            body: BodyState::default(),
            reading: Timer::default(),
            writing: Timer::default(),
            reading_pace: Pace::default(),
            writing_pace: Pace::default(),
            requests_left: Cell::new(worker.settings.requests_per_connection_max),
            task: RefCell::default(),
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
        if is_idle && self.worker.is_stopping() {
            return Poll::Ready(Next::Nothing);
        }
        if !is_idle && *waiting != Waiting::ForHead {
            *waiting = Waiting::ForHead;
            self.reading.arm(self.worker.clock.after(settings.head_timeout));
        } else if *waiting == Waiting::NotYet {
            *waiting = Waiting::ForFirstByte;
            let patience = if is_first { settings.head_timeout } else { settings.keep_alive_timeout };
            self.reading.arm(self.worker.clock.after(patience));
        }
        if !self.reading.poll_expired(&self.worker.clock, cx) {
            return Poll::Pending;
        }
        Poll::Ready(if is_idle { Next::Nothing } else { Next::TooSlow })
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
            let fast = self.reading_pace.handle_progress(count, now, settings.rate_min, settings.rate_grace);
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
        let settings = &self.worker.settings;
        let now = self.worker.now();
        if progress > 0 {
            self.writing.disarm();
            if !self.writing_pace.handle_progress(progress, now, settings.rate_min, settings.rate_grace) {
                return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
            }
        }
        if flushed.is_ready() {
            return flushed;
        }
        self.writing_pace.handle_wait(now);
        self.writing.arm_once(|| self.worker.clock.after(settings.write_idle_timeout));
        if self.writing.poll_expired(&self.worker.clock, cx) {
            return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
        }
        Poll::Pending
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
        Poll::Pending
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
