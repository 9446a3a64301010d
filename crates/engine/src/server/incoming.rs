//! The body of a received request, read from the socket as it is asked for.
//!
//! ```text
//!   expected ──first read──▶ open ──End──▶ done
//!      │  (100 Continue)       ├──error──▶ broken: the connection closes after the answer
//!      └──nobody will──▶ broken  └──answered──▶ taken over: drained up to a bound, or closed
//! ```

use super::conn::Conn;
use crate::{BodyError, Fields};
use bytes::Bytes;
use http1::{ErrorKind, Event, Framing, RequestHead, Trailers};
use std::cell::Cell;
use std::future::poll_fn;
use std::io;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

/// Where the body of the request being answered stands; kept beside the connection because it
/// outlives the service's handle on it.
#[derive(Default)]
pub(crate) struct BodyState {
    /// Only the handle with this number may read.
    owner: Cell<u64>,
    is_open: Cell<bool>,
    is_broken: Cell<bool>,
    is_abandoned: Cell<bool>,
    continue_owed: Cell<bool>,
    /// Bytes not yet read, where the length was declared.
    left: Cell<Option<u64>>,
}

impl BodyState {
    /// Whether some of the body is still on the wire.
    pub(super) fn is_open(&self) -> bool {
        self.is_open.get()
    }

    /// Takes the right to read away from the service.
    fn take_over(&self) {
        self.owner.set(self.owner.get() + 1);
    }

    /// Gives up on the body of a client that still waits for `100 Continue`: it may send it or not, and nobody
    /// can tell the bytes apart (RFC 9110 §10.1.1).
    fn forgo_continue(&self) {
        if self.continue_owed.replace(false) {
            self.is_broken.set(true);
        }
    }

    /// Whether the connection can carry another request, as far as it can be told now.
    pub(super) fn may_be_drained(&self, max: u64) -> bool {
        if self.is_broken.get() {
            return false;
        }
        if !self.is_open() {
            return true;
        }
        let hopeless = self.left.get().is_some_and(|left| left > max);
        !(hopeless && self.is_abandoned.get())
    }

    fn close(&self) {
        self.is_open.set(false);
        self.continue_owed.set(false);
    }
}

/// A service's handle on what is still to come of a request's body.
pub(crate) struct Incoming {
    conn: Rc<Conn>,
    owner: u64,
    limit: u64,
    received: u64,
    /// Boxed because it is rare, and a body is moved with every request.
    trailers: Option<Box<Trailers>>,
}

impl Incoming {
    /// Opens the body of a request, if it has one.
    pub(super) fn open(conn: &Rc<Conn>, head: &RequestHead) -> Option<Self> {
        let state = &conn.body;
        state.take_over();
        if head.framing().is_empty() {
            state.close();
            let wire = &mut *conn.wire.borrow_mut();
            // The end of nothing needs no further bytes: the decoder stands before the next request.
            let end = wire.decoder.poll(&mut wire.input);
            debug_assert!(matches!(end, Ok(Some(Event::End))), "{end:?}");
            return None;
        }
        state.is_open.set(true);
        state.is_abandoned.set(false);
        state.continue_owed.set(head.expects_continue());
        state.left.set(match head.framing() {
            Framing::Length(length) => Some(length),
            _ => None,
        });
        Some(Self::handle(conn, conn.worker.settings.body_bytes_max))
    }

    fn handle(conn: &Rc<Conn>, limit: u64) -> Self {
        Self { conn: conn.clone(), owner: conn.body.owner.get(), limit, received: 0, trailers: None }
    }

    pub(crate) fn poll_chunk(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, BodyError>>> {
        let state = &self.conn.body;
        if state.owner.get() != self.owner {
            return Poll::Ready(Some(Err(BodyError::Closed)));
        }
        if !state.is_open() {
            return Poll::Ready(None);
        }
        let chunk = ready!(self.poll_open(cx));
        let state = &self.conn.body;
        match &chunk {
            Some(Ok(_)) => {}
            Some(Err(_)) => state.is_broken.set(true),
            None => state.close(),
        }
        Poll::Ready(chunk)
    }

    fn poll_open(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, BodyError>>> {
        if self.exact_len().is_some_and(|left| left > self.limit - self.received.min(self.limit)) {
            return Poll::Ready(Some(Err(BodyError::TooLarge { max: self.limit })));
        }
        if grant_continue(&self.conn) {
            self.conn.wake_unless_running(cx); // its own task sends: a socket wakes only one writer
        }
        loop {
            match self.poll_event() {
                Ok(Some(Event::Data(data))) => return Poll::Ready(Some(self.count(data))),
                Ok(Some(Event::Trailers(trailers))) => {
                    self.trailers = Some(Box::new(trailers));
                    continue;
                }
                Ok(Some(Event::End)) => return Poll::Ready(None),
                Ok(Some(Event::Head(_))) => return Poll::Ready(Some(Err(BodyError::Closed))),
                Ok(None) => {}
                Err(error) => return Poll::Ready(Some(Err(error))),
            }
            let bulk = self.exact_len().is_none_or(|left| left > BULK_BYTES);
            match ready!(self.conn.poll_fill_body(cx, bulk)) {
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::TimedOut => {
                    return Poll::Ready(Some(Err(BodyError::TimedOut)));
                }
                Err(error) => return Poll::Ready(Some(Err(error.into()))),
            }
        }
    }

    fn poll_event(&self) -> Result<Option<Event<RequestHead>>, BodyError> {
        let wire = &mut *self.conn.wire.borrow_mut();
        let event = match wire.decoder.poll(&mut wire.input) {
            Ok(None) if wire.is_eof => wire.decoder.handle_eof(),
            polled => polled,
        };
        event.map_err(|error| match error.kind() {
            ErrorKind::Incomplete => BodyError::Closed,
            _ => BodyError::Malformed(error),
        })
    }

    fn count(&mut self, data: Bytes) -> Result<Bytes, BodyError> {
        let left = &self.conn.body.left;
        left.set(left.get().map(|left| left.saturating_sub(data.len() as u64)));
        self.received = self.received.saturating_add(data.len() as u64);
        if self.received > self.limit {
            return Err(BodyError::TooLarge { max: self.limit });
        }
        Ok(data)
    }

    pub(crate) fn exact_len(&self) -> Option<u64> {
        if self.conn.body.owner.get() == self.owner { self.conn.body.left.get() } else { None }
    }

    pub(crate) fn trailers(&mut self) -> Option<Fields> {
        self.trailers.take().map(|trailers| crate::body::own_fields(&trailers))
    }

    pub(crate) fn set_limit(&mut self, max: u64) {
        self.limit = max;
    }
}

impl Drop for Incoming {
    fn drop(&mut self) {
        if self.conn.body.owner.get() == self.owner {
            self.conn.body.is_abandoned.set(true);
        }
    }
}

/// What must happen before the head of an answer: a body that may still be read is asked for now, because behind the
/// head a `100 Continue` would be taken for content.
pub(super) fn prepare_answer(conn: &Conn) {
    if conn.body.is_abandoned.get() || conn.body.is_broken.get() {
        conn.body.forgo_continue();
    } else {
        grant_continue(conn);
    }
}

/// Queues `100 Continue` where it is owed; whether it was.
fn grant_continue(conn: &Conn) -> bool {
    let is_owed = conn.body.continue_owed.replace(false);
    if is_owed {
        let wire = &mut *conn.wire.borrow_mut();
        http1::write_continue(wire.open_output(&conn.worker.buffers));
    }
    is_owed
}

/// Reads a body away that nobody wants, so that the next request can be found behind it; whether
/// that worked within the bounds.
pub(super) async fn drain(conn: &Rc<Conn>) -> bool {
    take_over(conn);
    if conn.body.is_broken.get() || conn.flush().await.is_err() {
        return false;
    }
    let mut rest = Incoming::handle(conn, conn.worker.settings.drain_bytes_max);
    loop {
        match poll_fn(|cx| rest.poll_chunk(cx)).await {
            Some(Ok(_)) => {}
            Some(Err(_)) => return false,
            None => return true,
        }
    }
}

/// Takes the body away from the service, and tells whoever of its tasks still waits for it.
pub(super) fn take_over(conn: &Conn) {
    conn.body.take_over();
    if conn.body.is_open() {
        conn.wake_reader();
    }
}

/// Above this many bytes to come, larger reads pay.
const BULK_BYTES: u64 = 8 * 1024;
