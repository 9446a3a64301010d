//! Connections whose request was passed on, while they wait for the answer: no task, no future.
//!
//! ```text
//!   fast: Service::pass ──▶ Queued ──sent──▶ Waiting ──whole answer──▶ Answered ──sent──▶ idle again
//!                              └──────────────┴── anything unusual ──▶ a task, which resumes the request
//! ```
//!
//! What is to be sent goes into the [`Outbox`] first: so a worker under load reads what many connections have sent, and
//! then sends to all of them without a pause. Whoever is at the other end of several stays awake meanwhile, where it
//! would go to sleep after each message and have to be woken for the next, at the sender's expense.

use super::clock::Millis;
use super::fast::Desk;
use super::reactor::Key;
use super::worker::Worker;
use crate::client::{Begun, Kept};
use crate::passing::Passage;
use http1::{RequestHead, Whole, read_whole_response};
use std::fmt;
use std::io;
use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind};

/// How long the front waits for an answer. Then a task does, which keeps the deadlines.
const PATIENCE: Millis = 1000;
/// Parts in which an answer may come before it is nothing for the front.
const PARTS_MAX: u8 = 4;
/// Bytes that wait in the outbox before they are sent ahead of time.
const OUTBOX_BYTES_MAX: usize = 256 * 1024;

/// A request that a service passes on: see [`Service::pass`](crate::Service::pass).
pub struct Pass<P: ?Sized = dyn Passage> {
    /// Set by the front.
    pub(super) head: Option<RequestHead>,
    /// None once the answer is written.
    kept: Option<Kept>,
    pub(super) stage: Stage,
    /// Where in the outbox that lies which is to be sent.
    pub(super) letter: Range<usize>,
    /// Whether some of the request was sent.
    has_sent: bool,
    /// What has come of the answer.
    received: Vec<u8>,
    parts: u8,
    since: Millis,
    /// Whether its answer is of a kind that the front does not take: the next one probably as well.
    pub(super) is_unusual: bool,
    /// What the events have said of the client while its answer was in the outbox.
    pub(super) missed: u8,
    /// What the service goes on with.
    pub(super) passage: P,
}

impl<P: Passage> Pass<P> {
    /// A request that is to be sent by this connection; `None` where it is to be resumed at once.
    pub fn new(passage: P, connection: Option<Kept>) -> Box<Self> {
        Box::new(Self {
            head: None,
            kept: connection,
            stage: Stage::Queued,
            letter: 0..0,
            has_sent: false,
            received: Vec::new(),
            parts: 0,
            since: 0,
            is_unusual: false,
            missed: 0,
            passage,
        })
    }
}

/// How far a request is that was passed on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stage {
    /// It is in the outbox.
    Queued,
    /// It is sent.
    Waiting,
    /// Its answer is in the outbox.
    Answered,
}

/// What became of a request when something has come for it.
pub(super) enum Heard {
    /// Not all of the answer is here.
    Nothing,
    /// The answer is in the outbox.
    Answered,
    /// It is nothing for the front.
    Unusual,
    /// The service panicked.
    Panicked,
}

/// What is to be sent when all has been read.
#[derive(Debug, Default)]
pub(super) struct Outbox {
    pub(super) bytes: Vec<u8>,
    /// The clients that it is for, or comes from.
    pub(super) letters: Vec<Key>,
}

impl Outbox {
    /// Whether it holds so much that it is to be sent at once.
    pub(super) fn is_full(&self) -> bool {
        self.bytes.len() > OUTBOX_BYTES_MAX
    }

    /// Empties it when all is sent.
    pub(super) fn clear(&mut self) {
        self.letters.clear();
        self.bytes.clear();
        if self.bytes.capacity() > 2 * OUTBOX_BYTES_MAX {
            self.bytes = Vec::new();
        }
    }
}

impl Pass {
    /// Takes over a request whose bytes are in the outbox from `start` on.
    pub(super) fn begin(&mut self, head: RequestHead, outbox: &Outbox, start: usize, now: Millis) {
        self.head = Some(head);
        self.letter = start..outbox.bytes.len();
        self.since = now;
    }

    /// Whether there is a connection to send it by.
    pub(super) fn has_connection(&self) -> bool {
        self.kept.is_some()
    }

    /// Has its answer brought to this place.
    pub(super) fn waits_at(&self, key: Key) {
        if let Some(kept) = &self.kept {
            kept.passes_for(Some(key));
        }
    }

    pub(super) fn is_late(&self, now: Millis) -> bool {
        self.since + PATIENCE <= now
    }

    /// Sends the request. While some of it does not go it stays queued.
    pub(super) fn send(&mut self, outbox: &Outbox) {
        let bytes = &outbox.bytes[self.letter.clone()];
        let sent = self.kept.as_ref().map_or(Err(io::ErrorKind::NotConnected.into()), |kept| kept.send(bytes));
        // Why it cannot be sent is seen once more by the task that resumes it.
        let count = sent.unwrap_or(0);
        self.letter.start += count;
        self.has_sent |= count > 0;
        if self.letter.is_empty() {
            self.stage = Stage::Waiting;
        }
    }

    /// Receives what has come for it, and writes the answer if all of it is here.
    pub(super) fn hear(&mut self, desk: &mut Desk, worker: &Worker) -> Heard {
        let Desk { received, outbox, .. } = desk;
        let Some(kept) = &self.kept else { return Heard::Nothing };
        let Some(method) = self.head.as_ref().map(RequestHead::method) else { return Heard::Unusual };
        if self.stage != Stage::Waiting {
            // The server speaks before it was asked, so this is not the answer: the request goes by another connection.
            self.kept = None;
            return Heard::Unusual;
        }
        if worker.is_stopping() {
            return Heard::Unusual; // the answer is to be the last one
        }
        let count = match kept.recv(received) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Heard::Nothing,
            Ok(0) | Err(_) => return Heard::Unusual,
            Ok(count) => count,
        };
        let is_all = count < received.len() && !kept.is_ending();
        if !self.received.is_empty() {
            self.received.extend_from_slice(&received[..count]);
        }
        let bytes = if self.received.is_empty() { &received[..count] } else { &self.received[..] };
        match read_whole_response(bytes, kept.limits(), method) {
            Whole::Response(head, start) => {
                let at = outbox.bytes.len();
                let (passage, out) = (&mut self.passage, &mut outbox.bytes);
                let date = worker.clock.date();
                let answered = catch_unwind(AssertUnwindSafe(|| passage.answer(&head, &bytes[start..], &date, out)));
                if let Ok(true) = answered {
                    self.letter = at..outbox.bytes.len();
                    self.stage = Stage::Answered;
                    if let Some(kept) = self.kept.take() {
                        kept.keep();
                    }
                    return Heard::Answered;
                }
                outbox.bytes.truncate(at);
                if answered.is_err() {
                    return Heard::Panicked;
                }
            }
            Whole::Partial if is_all && self.parts < PARTS_MAX => {
                self.parts += 1;
                self.remember(&received[..count]);
                return Heard::Nothing;
            }
            Whole::Partial | Whole::Unusual => {}
        }
        self.remember(&received[..count]);
        self.is_unusual = true;
        Heard::Unusual
    }

    /// Keeps the first part of an answer; the others are kept as they come.
    fn remember(&mut self, part: &[u8]) {
        if self.received.is_empty() {
            self.received.extend_from_slice(part);
        }
    }

    /// Its connection, for the task that resumes it.
    pub(super) fn begun(&mut self, outbox: &Outbox) -> Option<Box<Begun>> {
        let unsent = if self.stage == Stage::Queued { outbox.bytes[self.letter.clone()].to_vec() } else { Vec::new() };
        Some(Box::new(self.kept.take()?.begun(self.has_sent, unsent, std::mem::take(&mut self.received))))
    }
}

impl<P: ?Sized> fmt::Debug for Pass<P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pass").field("stage", &self.stage).field("since", &self.since).finish_non_exhaustive()
    }
}
