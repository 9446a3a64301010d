//! The way of a request that can be answered at once: read into the worker's buffer, answered by the service when it
//! is asked for the first time, sent from the worker's buffer. No task, no allocation of the connection's own.
//!
//! Whatever takes longer goes on in a task: see [`Start`].

use super::conn::Conn;
use super::exchange::{
    ANSWERS_PER_TURN_MAX, Asked, COPY_BYTES_MAX, OUTPUT_BYTES_MAX, Outcome, Start, UNANSWERED, framing_of, is_refused,
    resume, write_head_to, write_usual_to,
};
use super::passing::{Outbox, Pass, Stage};
use super::reactor::{Held, Idle, Key, READ_CLOSED, READABLE};
use super::sys::{self, More};
use super::worker::Worker;
use super::{Socket, Welcome};
use crate::stream::Stream;
use crate::{Body, Peer, Request, Response, Service};
use bytes::{Buf as _, Bytes, BytesMut};
use http1::{Event, Framing, ParseError, RequestDecoder, RequestHead, StatusCode, Step, Version};
use std::cell::RefCell;
use std::io::{self, IoSlice};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

/// Bytes received at a time. Browsers send about 1 KiB; sixteen pipelined requests of theirs fit.
const RECEIVE_BYTES: usize = 32 * 1024;
/// Room for received heads; a service may hold on to its request, and then to all of it.
const INPUT_BYTES: usize = 8 * 1024;
/// Times a connection is read from before it has to take turns with the others, in a task.
const READS_MAX: usize = 4;
/// Most bytes of a file sent before the connection has to take turns with the others, in a task.
#[cfg(target_os = "linux")]
const FILE_BYTES_MAX: u64 = 512 * 1024;
/// Stands for a connection before there was any.
const NOBODY: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), 0);
/// Spare room above which the output buffer is given back.
const OUTPUT_SPARE_MAX: usize = 256 * 1024;

/// What all connections of a worker use in turn. Between two of them it is empty.
pub(super) struct Desk {
    pub(super) received: Box<[u8]>,
    /// What of it was not looked at yet. Heads are taken from where they were received, mostly all of them.
    unread: Range<usize>,
    /// What is not that simple: then nothing is unread any more.
    input: BytesMut,
    output: Vec<u8>,
    /// How much of `output` is sent.
    sent: usize,
    /// Sent after `output` without being copied into it.
    large: Bytes,
    decoder: RequestDecoder,
    head: Option<RequestHead>,
    /// Whether the request that was answered last had content.
    had_content: bool,
    peer: Rc<Peer>,
    /// Not of one connection: what is sent when all of them had their turn.
    pub(super) outbox: Outbox,
}

/// What became of a connection.
pub(super) enum Served {
    /// It waits for the next request.
    Idle(Idle),
    Closed,
    /// Its request was passed on, and is in the outbox.
    Passing(Idle, Box<Pass>),
    /// A task looks after it.
    Held,
}

/// What serves the connections of one listener.
pub(super) trait Site {
    /// Takes what a new connection has sent already, or makes a task for it.
    fn welcome(&self, desk: &mut Desk, worker: &Rc<Worker>, idle: Idle) -> Served {
        self.serve(desk, worker, None, idle, false)
    }

    /// Looks after a connection that may have become readable. `is_ending` says that its end is already here.
    fn serve(&self, desk: &mut Desk, worker: &Rc<Worker>, key: Option<Key>, idle: Idle, is_ending: bool) -> Served;

    /// Hands a connection whose request was passed on to a task, which goes on with the request; `bits` is what is known
    /// of reading.
    fn resume(
        &self,
        desk: &mut Desk,
        worker: &Rc<Worker>,
        key: Key,
        idle: Idle,
        passing: Box<Pass>,
        bits: u8,
    ) -> Served;

    /// Hands a connection to a task which says that the request cannot be answered.
    fn give_up(&self, desk: &mut Desk, worker: &Rc<Worker>, key: Key, idle: Idle) -> Served;

    /// Says that there is no room for a new connection.
    fn turn_away(&self, desk: &mut Desk, worker: &Rc<Worker>, idle: Idle);
}

/// Connections that begin with HTTP/1.1.
struct Plain<S, Call, Answer> {
    service: Rc<S>,
    call: Call,
    /// The answer that is being made; empty between two requests.
    answer: RefCell<Pin<Box<Option<Answer>>>>,
}

/// Serves HTTP/1.1 by this service.
pub(super) fn plain<S: Service>(service: S) -> Box<dyn Site> {
    site(Rc::new(service), |service: &S, request| service.call(request))
}

fn site<S, Call, Answer>(service: Rc<S>, call: Call) -> Box<dyn Site>
where
    S: Service,
    Call: Fn(&S, Request) -> Answer + 'static,
    Answer: Future<Output = Response> + 'static,
{
    Box::new(Plain { service, call, answer: RefCell::new(Box::pin(None)) })
}

/// Connections that begin with something else: each gets a task from the start.
pub(super) struct Raw<W>(pub(super) W);

/// Why the next request is not answered here.
enum Halt<Answer> {
    /// The client knows that the last answer was the last.
    Done,
    /// The connection is of no use any more.
    Broken,
    /// It was passed on.
    Passed(Box<Pass>),
    /// Boxed, because it is large and rare.
    Escalate(Box<Start<Answer>>),
}

impl<Answer> Halt<Answer> {
    #[cold]
    fn escalate(start: Start<Answer>) -> Self {
        Self::Escalate(Box::new(start))
    }
}

impl Desk {
    pub(super) fn new(worker: &Worker) -> Self {
        Self {
            received: vec![0; RECEIVE_BYTES].into(),
            unread: 0..0,
            input: BytesMut::with_capacity(INPUT_BYTES),
            output: Vec::new(),
            sent: 0,
            large: Bytes::new(),
            decoder: RequestDecoder::new(worker.settings.limits.clone()),
            head: None,
            had_content: false,
            peer: Rc::new(Peer::new(NOBODY, NOBODY, worker.stop.clone())),
            outbox: Outbox::default(),
        }
    }

    /// Whether nothing else of this connection is here or to be sent.
    fn has_nothing_else(&self) -> bool {
        !self.has_more() && self.output.is_empty() && self.large.is_empty()
    }

    /// What a service gets to know of a connection. It is made anew only while somebody holds on to the last one.
    fn peer(&mut self, worker: &Worker, idle: &Idle) -> Rc<Peer> {
        let is_same = self.peer.addr == idle.addr && self.peer.local_addr == idle.local_addr;
        if !is_same {
            match Rc::get_mut(&mut self.peer) {
                Some(peer) => (peer.addr, peer.local_addr) = (idle.addr, idle.local_addr),
                None => self.peer = Rc::new(Peer::new(idle.addr, idle.local_addr, worker.stop.clone())),
            }
        }
        self.peer.clone()
    }

    /// Receives once; 0 is the end.
    fn receive(&mut self, idle: &Idle) -> io::Result<usize> {
        let count = sys::recv(&idle.fd, &mut self.received)?;
        self.unread = 0..count;
        if !self.input.is_empty() {
            self.keep_unread();
        }
        Ok(count)
    }

    /// Whether anything was received that is not taken yet.
    #[inline]
    fn has_more(&self) -> bool {
        !self.unread.is_empty() || !self.input.is_empty()
    }

    /// Bytes that were received and not taken yet.
    fn left(&self) -> usize {
        self.unread.len() + self.input.len()
    }

    /// Moves what is unread to where it may stay for longer, and content be taken from.
    #[inline(never)]
    fn keep_unread(&mut self) {
        let unread = &self.received[std::mem::take(&mut self.unread)];
        if self.input.capacity() - self.input.len() < unread.len() {
            self.input.reserve(unread.len().max(INPUT_BYTES));
        }
        self.input.extend_from_slice(unread);
    }

    /// Takes the next head; false when it is not complete.
    #[inline]
    fn take_head(&mut self) -> Result<bool, ParseError> {
        if !self.unread.is_empty() {
            let length = self.decoder.take_head(&self.received[self.unread.clone()], &mut self.head)?;
            if length > 0 {
                self.unread.start += length;
                return Ok(true);
            }
            self.keep_unread();
        }
        self.poll_head()
    }

    /// Takes a head that is not of the common shapes, or stands behind content.
    #[inline(never)]
    fn poll_head(&mut self) -> Result<bool, ParseError> {
        let step = self.decoder.poll_into(&mut self.input, &mut self.head)?;
        Ok(matches!(step, Some(Step::Head)))
    }

    /// Sends what is queued; whether all of it went.
    fn flush(&mut self, idle: &Idle, more: More) -> io::Result<bool> {
        let head = &self.output[self.sent..];
        let len = head.len() + self.large.len();
        if len > 0 {
            let sent = match (head.is_empty(), self.large.is_empty()) {
                (_, true) => sys::send(&idle.fd, head, more),
                (true, false) => sys::send(&idle.fd, &self.large, more),
                (false, false) => sys::send_slices(&idle.fd, &[IoSlice::new(head), IoSlice::new(&self.large)]),
            };
            let sent = match sent {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(false),
                sent => sent?,
            };
            if sent < len {
                let of_output = sent.min(head.len());
                self.sent += of_output;
                self.large.advance(sent - of_output);
                return Ok(false); // the socket is full
            }
        }
        self.output.clear();
        self.sent = 0;
        if !self.large.is_empty() {
            self.large = Bytes::new();
        }
        Ok(true)
    }

    /// How the last answer is sent before the socket is closed: so that its last bytes and the end leave in one packet.
    /// Not behind content, after which old clients send a line end that nobody asked for: closing then drops what is
    /// not sent yet.
    fn with_the_end(&self) -> More {
        if self.had_content { More::No } else { More::Yes }
    }

    /// Clears the desk for the next connection, whatever state this one left it in.
    fn clear(&mut self, worker: &Worker) {
        self.unread = 0..0;
        self.input.clear();
        self.output.clear();
        self.sent = 0;
        self.large = Bytes::new();
        self.head = None;
        self.decoder = RequestDecoder::new(worker.settings.limits.clone());
        if self.output.capacity() > OUTPUT_SPARE_MAX {
            self.output = Vec::new();
        }
    }
}

impl<S, Call, Answer> Site for Plain<S, Call, Answer>
where
    S: Service,
    Call: Fn(&S, Request) -> Answer + 'static,
    Answer: Future<Output = Response> + 'static,
{
    fn serve(&self, desk: &mut Desk, worker: &Rc<Worker>, key: Option<Key>, mut idle: Idle, is_ending: bool) -> Served {
        for _ in 0..READS_MAX {
            let count = match desk.receive(&idle) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Served::Idle(idle),
                Ok(0) | Err(_) => return Served::Closed,
                Ok(count) => count,
            };
            let is_drained = count < RECEIVE_BYTES && !is_ending;
            let halt = match self.answer_all(desk, worker, &mut idle, is_drained) {
                Ok(()) => match desk.flush(&idle, More::No) {
                    Ok(true) => {
                        idle.deadline = worker.clock.after(worker.settings.keep_alive_timeout);
                        if is_drained {
                            return Served::Idle(idle);
                        }
                        continue;
                    }
                    Ok(false) => Halt::escalate(Start::Go(Outcome::KeepAlive)),
                    Err(_) => Halt::Broken,
                },
                // Closing would answer what is still on its way with a reset, and that may reach the client first.
                Err(Halt::Done) if count == RECEIVE_BYTES || desk.has_more() => {
                    Halt::escalate(Start::Go(Outcome::Close))
                }
                Err(Halt::Done) => match desk.flush(&idle, desk.with_the_end()) {
                    Ok(false) => Halt::escalate(Start::Go(Outcome::Done)),
                    _ => Halt::Broken,
                },
                Err(halt) => halt,
            };
            return match halt {
                Halt::Passed(passing) => Served::Passing(idle, passing),
                Halt::Escalate(start) => {
                    let known = if is_ending { READABLE | READ_CLOSED } else { READABLE };
                    self.escalate(desk, worker, key, idle, start, if is_drained { 0 } else { known })
                }
                Halt::Done | Halt::Broken => {
                    desk.clear(worker);
                    Served::Closed
                }
            };
        }
        self.escalate(desk, worker, key, idle, Box::new(Start::Read), READABLE | READ_CLOSED)
    }

    fn resume(
        &self,
        desk: &mut Desk,
        worker: &Rc<Worker>,
        key: Key,
        idle: Idle,
        mut passing: Box<Pass>,
        bits: u8,
    ) -> Served {
        let start = if passing.stage == Stage::Answered {
            desk.output.extend_from_slice(&desk.outbox.bytes[passing.letter.clone()]);
            Start::Go(Outcome::KeepAlive)
        } else {
            let begun = passing.begun(&desk.outbox);
            let is_loan = !passing.is_unusual;
            let Some(head) = passing.head.take() else { return self.give_up(desk, worker, key, idle) };
            let asked = Asked::of(&head);
            let request = Request::new(head, Body::Empty, desk.peer(worker, &idle));
            match catch_unwind(AssertUnwindSafe(|| passing.passage.resume(request, begun))) {
                Ok(answer) => Start::Passed { asked, answer, is_loan },
                Err(_) => return self.give_up(desk, worker, key, idle),
            }
        };
        self.escalate(desk, worker, Some(key), idle, Box::new(start), bits)
    }

    fn give_up(&self, desk: &mut Desk, worker: &Rc<Worker>, key: Key, idle: Idle) -> Served {
        tracing::error!(peer = %idle.addr, "the service panicked");
        let start = Box::new(Start::Refuse(StatusCode::INTERNAL_SERVER_ERROR, UNANSWERED));
        self.escalate(desk, worker, Some(key), idle, start, READABLE)
    }

    fn turn_away(&self, desk: &mut Desk, worker: &Rc<Worker>, idle: Idle) {
        let start = Box::new(Start::Refuse(StatusCode::SERVICE_UNAVAILABLE, "too many connections; try again later"));
        self.escalate(desk, worker, None, idle, start, READABLE);
    }
}

impl<S, Call, Answer> Plain<S, Call, Answer>
where
    S: Service,
    Call: Fn(&S, Request) -> Answer + 'static,
    Answer: Future<Output = Response> + 'static,
{
    /// Answers what was received, as far as that goes at once. `is_drained` says that nothing more is to be received.
    fn answer_all(
        &self,
        desk: &mut Desk,
        worker: &Rc<Worker>,
        idle: &mut Idle,
        is_drained: bool,
    ) -> Result<(), Halt<Answer>> {
        let peer = desk.peer(worker, idle);
        let mut answered = 0;
        while desk.has_more() {
            if answered == ANSWERS_PER_TURN_MAX {
                return Err(Halt::escalate(Start::Read));
            }
            answered += 1;
            match desk.take_head() {
                Ok(true) => {}
                Ok(false) => return Err(Halt::escalate(Start::Read)),
                Err(error) => {
                    tracing::debug!(peer = %idle.addr, %error, "malformed request");
                    return Err(Halt::escalate(Start::Refuse(error.status(), error.reason())));
                }
            }
            idle.requests_left = idle.requests_left.saturating_sub(1);
            self.answer_one(desk, worker, idle, &peer, is_drained)?;
        }
        Ok(())
    }

    /// Answers the request whose head is on the desk.
    fn answer_one(
        &self,
        desk: &mut Desk,
        worker: &Rc<Worker>,
        idle: &Idle,
        peer: &Rc<Peer>,
        is_drained: bool,
    ) -> Result<(), Halt<Answer>> {
        let Some(head) = &desk.head else { return Err(Halt::Broken) };
        let asked = Asked::of(head);
        let framing = head.framing();
        desk.had_content = !matches!(framing, Framing::None);
        let is_here = match framing {
            Framing::None => true,
            Framing::Length(length) => {
                length <= desk.left() as u64 && length <= worker.settings.body_bytes_max && !head.expects_continue()
            }
            _ => false,
        };
        let may_pass = S::PASSES
            && is_drained
            && asked.keep_alive
            && asked.version == Version::Http11
            && framing == Framing::None
            && idle.requests_left > 0
            && desk.has_nothing_else()
            && !worker.is_stopping();
        if may_pass && let Some(halt) = self.pass(desk, worker, peer) {
            return Err(halt);
        }
        if !is_here || is_refused(asked.method) {
            return Err(desk.head.take().map_or(Halt::Broken, |head| Halt::escalate(Start::Head(head))));
        }
        // The end of nothing needs no further bytes: the decoder then stands before the next request.
        let mut body = Body::Empty;
        if !desk.decoder.take_end() && take_body(desk, &mut body).is_err() {
            return Err(Halt::Broken);
        }
        let mut response = None;
        match self.call(&mut desk.head, &mut body, peer, &mut response) {
            Ok(Poll::Ready(())) => respond(desk, worker, idle, asked, &mut response),
            Ok(Poll::Pending) => {
                let answer = std::mem::replace(&mut *self.answer.borrow_mut(), Box::pin(None));
                Err(Halt::escalate(Start::Pending(asked, answer)))
            }
            Err(()) => {
                tracing::error!(peer = %idle.addr, "the service panicked");
                Err(Halt::escalate(Start::Refuse(StatusCode::INTERNAL_SERVER_ERROR, UNANSWERED)))
            }
        }
    }

    /// Asks the service to pass the request on whose head is on the desk; `None` if it does not.
    #[inline]
    fn pass(&self, desk: &mut Desk, worker: &Rc<Worker>, peer: &Rc<Peer>) -> Option<Halt<Answer>> {
        let Desk { head: slot, outbox, .. } = desk;
        let start = outbox.bytes.len();
        let head = slot.as_ref()?;
        let passed = catch_unwind(AssertUnwindSafe(|| self.service.pass(head, peer, &mut outbox.bytes)));
        match passed {
            Ok(None) => None,
            Ok(Some(pass)) => Some(Self::passed(desk, worker, peer, pass, start)),
            Err(_) => {
                outbox.bytes.truncate(start);
                tracing::error!(peer = %peer.addr, "the service panicked");
                Some(Halt::escalate(Start::Refuse(StatusCode::INTERNAL_SERVER_ERROR, UNANSWERED)))
            }
        }
    }

    fn passed(desk: &mut Desk, worker: &Worker, peer: &Rc<Peer>, mut pass: Box<Pass>, start: usize) -> Halt<Answer> {
        let Some(head) = desk.head.take() else { return Halt::Broken };
        desk.decoder.take_end();
        if pass.has_connection() {
            pass.begin(head, &desk.outbox, start, worker.now());
            return Halt::Passed(pass);
        }
        desk.outbox.bytes.truncate(start);
        let asked = Asked::of(&head);
        let request = Request::new(head, Body::Empty, peer.clone());
        let resumed = catch_unwind(AssertUnwindSafe(|| pass.passage.resume(request, None)));
        if let Ok(answer) = resumed {
            return Halt::escalate(Start::Passed { asked, answer, is_loan: true });
        }
        tracing::error!(peer = %peer.addr, "the service panicked");
        Halt::escalate(Start::Refuse(StatusCode::INTERNAL_SERVER_ERROR, UNANSWERED))
    }

    /// Asks the service once. Whoever is not ready is asked again in a task, so nobody need be woken from here.
    ///
    /// What is large passes through places of the caller's: this way it is copied less often.
    fn call(
        &self,
        head: &mut Option<RequestHead>,
        body: &mut Body,
        peer: &Rc<Peer>,
        response: &mut Option<Response>,
    ) -> Result<Poll<()>, ()> {
        let mut slot = self.answer.borrow_mut();
        let polled = catch_unwind(AssertUnwindSafe(|| {
            let Some(head) = head.take() else { return Poll::Pending };
            let request = Request::new(head, std::mem::take(body), peer.clone());
            slot.set(Some((self.call)(&self.service, request)));
            let Some(answer) = slot.as_mut().as_pin_mut() else { return Poll::Pending };
            let polled = answer.poll(&mut Context::from_waker(Waker::noop()));
            polled.map(|answered| {
                *response = Some(answered);
                slot.set(None);
            })
        }));
        polled.map_err(|_| {
            // What it left behind may panic as well when it is dropped.
            let left = std::mem::replace(&mut *slot, Box::pin(None));
            drop(slot);
            let _ = catch_unwind(AssertUnwindSafe(|| drop(left)));
        })
    }

    /// Hands the connection to a task, with what is on the desk; `bits` is what is known of reading.
    fn escalate(
        &self,
        desk: &mut Desk,
        worker: &Rc<Worker>,
        key: Option<Key>,
        idle: Idle,
        start: Box<Start<Answer>>,
        bits: u8,
    ) -> Served {
        let is_first = idle.requests_left == worker.settings.requests_per_connection_max;
        let (requests_left, peer) = (idle.requests_left, desk.peer(worker, &idle));
        let Some(socket) = hold(worker, key, idle, bits) else {
            desk.clear(worker);
            return Served::Closed;
        };
        desk.keep_unread();
        let fresh = RequestDecoder::new(worker.settings.limits.clone());
        let decoder = std::mem::replace(&mut desk.decoder, fresh);
        let conn = Conn::resume(Stream::Plain(socket), decoder, peer, worker.clone());
        conn.requests_left.set(requests_left);
        let input = match desk.input.len() {
            0 => BytesMut::new(),
            few @ ..INPUT_BYTES => {
                let copy = BytesMut::from(&desk.input[..few]);
                desk.input.clear();
                copy
            }
            _ => std::mem::take(&mut desk.input),
        };
        let output = std::mem::take(&mut desk.output);
        conn.wire.borrow_mut().resume(input, output, std::mem::take(&mut desk.sent), std::mem::take(&mut desk.large));
        let (conn, service) = (Rc::new(conn), self.service.clone());
        tokio::task::spawn_local(async move { resume(&conn, &*service, *start, is_first).await });
        Served::Held
    }
}

impl<W: Welcome> Site for Raw<W> {
    fn serve(&self, _: &mut Desk, worker: &Rc<Worker>, key: Option<Key>, idle: Idle, _: bool) -> Served {
        let peer = Peer::new(idle.addr, idle.local_addr, worker.stop.clone());
        let Some(socket) = hold(worker, key, idle, READABLE) else { return Served::Closed };
        tokio::task::spawn_local(self.0.welcome(worker, socket, peer));
        Served::Held
    }

    fn resume(&self, _: &mut Desk, _: &Rc<Worker>, _: Key, _: Idle, _: Box<Pass>, _: u8) -> Served {
        Served::Closed // nothing is ever passed on
    }

    fn give_up(&self, _: &mut Desk, _: &Rc<Worker>, _: Key, _: Idle) -> Served {
        Served::Closed
    }

    fn turn_away(&self, _: &mut Desk, _: &Rc<Worker>, _: Idle) {
        // Nothing can be said before a handshake: closing it has to do.
    }
}

/// Makes a socket for a task of a connection.
fn hold(worker: &Rc<Worker>, key: Option<Key>, idle: Idle, bits: u8) -> Option<Socket> {
    let key = match key {
        Some(key) => key,
        None => worker.reactor.add_connection(&idle.fd).ok()?,
    };
    let Idle { fd, tells_writable, counted, site, .. } = idle;
    let held = Held::new(&worker.reactor, key, bits, tells_writable);
    Some(Socket::new(fd, held, counted, site))
}

/// Takes the content of a request, all of which is here, and its end.
fn take_body(desk: &mut Desk, body: &mut Body) -> Result<(), ParseError> {
    desk.keep_unread();
    loop {
        match desk.decoder.poll(&mut desk.input)? {
            Some(Event::Data(data)) => *body = Body::Full(data),
            Some(Event::Head(_) | Event::Trailers(_)) => {}
            Some(Event::End) | None => return Ok(()),
        }
    }
}

/// Writes an answer, and sends what is too large to be copied.
fn respond<Answer>(
    desk: &mut Desk,
    worker: &Worker,
    idle: &Idle,
    asked: Asked,
    slot: &mut Option<Response>,
) -> Result<(), Halt<Answer>> {
    let Some(response) = slot else { return Err(Halt::Broken) };
    let is_short = match &mut response.body {
        Body::Empty | Body::Full(_) => true,
        body @ Body::Stream(_) => body.as_file().is_some(),
    };
    if !is_short || response.status.is_interim() || response.on_upgrade.is_some() {
        return Err(slot.take().map_or(Halt::Broken, |response| Halt::escalate(Start::Respond(asked, response))));
    }
    let keep_alive = asked.keep_alive && idle.requests_left > 0 && !worker.is_stopping();
    tracing::debug!(peer = %idle.addr, method = %asked.method, status = response.status.as_u16(), "answered");
    if let Body::Full(bytes) = &response.body
        && bytes.len() <= COPY_BYTES_MAX
        && let Some(keep_alive) = write_usual_to(&mut desk.output, worker, asked, response, bytes, keep_alive)
    {
        if keep_alive && desk.output.len() <= OUTPUT_BYTES_MAX {
            return Ok(()); // what mostly comes of the below
        }
        return after_answer(desk, idle, outcome_of(keep_alive, asked));
    }
    let framing = framing_of(response, asked);
    let (mut encoder, keep_alive) = write_head_to(&mut desk.output, worker, asked, response, framing, keep_alive);
    let after = outcome_of(keep_alive, asked);
    match &mut response.body {
        _ if encoder.discards() => {}
        Body::Empty => {}
        Body::Full(bytes) if bytes.len() <= COPY_BYTES_MAX => {
            return match encoder.whole(&mut desk.output, bytes) {
                Ok(()) => after_answer(desk, idle, after),
                Err(_) => Err(Halt::Broken),
            };
        }
        Body::Full(bytes) => {
            if encoder.before_data(&mut desk.output, bytes.len() as u64).is_err() {
                return Err(Halt::Broken);
            }
            desk.large = std::mem::take(bytes);
        }
        Body::Stream(_) => return send_file(desk, idle, asked, encoder, std::mem::take(&mut response.body), after),
    }
    if !encoder.discards() && encoder.finish(&mut desk.output, None).is_err() {
        return Err(Halt::Broken);
    }
    after_answer(desk, idle, after)
}

#[inline]
fn outcome_of(keep_alive: bool, asked: Asked) -> Outcome {
    match (keep_alive, asked.keep_alive) {
        (true, _) => Outcome::KeepAlive,
        (false, true) => Outcome::Close,
        (false, false) => Outcome::Done,
    }
}

#[inline]
fn after_answer<Answer>(desk: &mut Desk, idle: &Idle, after: Outcome) -> Result<(), Halt<Answer>> {
    if !desk.large.is_empty() || desk.output.len() > OUTPUT_BYTES_MAX {
        match desk.flush(idle, More::No) {
            Ok(true) => {}
            Ok(false) => return Err(Halt::escalate(Start::Go(after))),
            Err(_) => return Err(Halt::Broken),
        }
    }
    match after {
        Outcome::KeepAlive => Ok(()),
        Outcome::Done => Err(Halt::Done),
        after => Err(Halt::escalate(Start::Go(after))),
    }
}

/// Sends a file as far as the socket takes it at once.
#[cfg(target_os = "linux")]
fn send_file<Answer>(
    desk: &mut Desk,
    idle: &Idle,
    asked: Asked,
    mut encoder: http1::BodyEncoder,
    mut body: Body,
    after: Outcome,
) -> Result<(), Halt<Answer>> {
    let keep_alive = matches!(after, Outcome::KeepAlive);
    let mut room = FILE_BYTES_MAX;
    match desk.flush(idle, More::Yes) {
        Ok(true) => {}
        Ok(false) => room = 0,
        Err(_) => return Err(Halt::Broken),
    }
    while let Some(file) = body.as_file().filter(|file| file.left > 0) {
        let count = file.left.min(room);
        if count == 0 {
            return Err(Halt::escalate(Start::Body { asked, encoder, body, keep_alive }));
        }
        match sys::send_file(&idle.fd, &file.file, file.offset, count as usize) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => room = 0,
            Ok(0) | Err(_) => return Err(Halt::Broken), // shorter than was promised, or nobody is there
            Ok(sent) => {
                if encoder.before_data(&mut desk.output, sent as u64).is_err() {
                    return Err(Halt::Broken);
                }
                file.advance(sent as u64);
                room -= sent as u64;
            }
        }
    }
    if encoder.finish(&mut desk.output, None).is_err() {
        return Err(Halt::Broken);
    }
    after_answer(desk, idle, after)
}

#[cfg(not(target_os = "linux"))]
fn send_file<Answer>(
    _: &mut Desk,
    _: &Idle,
    asked: Asked,
    encoder: http1::BodyEncoder,
    body: Body,
    after: Outcome,
) -> Result<(), Halt<Answer>> {
    Err(Halt::escalate(Start::Body { asked, encoder, body, keep_alive: matches!(after, Outcome::KeepAlive) }))
}
