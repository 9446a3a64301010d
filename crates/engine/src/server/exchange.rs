//! One connection from its first request to its last: receive, call the service, answer.

use super::clock::Millis;
use super::conn::{Conn, Next};
use super::incoming::{self, Incoming};
use super::worker::Worker;
use crate::message::OnUpgrade;
use crate::passing::Resumed;
use crate::pipes::{Piece, Piped};
use crate::stream::Stream;
use crate::{Body, BodyError, Peer, Request, Response, Service, Upgraded};
use bytes::Bytes;
use http1::{BodyEncoder, Framing, Method, RequestHead, ResponseSpec, StatusCode, Version};
use std::future::poll_fn;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::task::{Context, Poll};

/// Body bytes up to this are copied behind the head; larger ones are written from where they lie.
pub(super) const COPY_BYTES_MAX: usize = 16 * 1024;
/// Output is sent at the latest when this much is waiting.
pub(super) const OUTPUT_BYTES_MAX: usize = 64 * 1024;

/// Requests of one connection answered in a row before the others of its worker have their turn: whoever sends many at
/// once is not to hold up anybody else.
pub(super) const ANSWERS_PER_TURN_MAX: u32 = 64;

/// What a server that refuses `TRACE` allows.
const ALLOWED_METHODS: &str = "GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS";

/// What an answer needs to know of its request.
#[derive(Debug, Clone, Copy)]
pub(super) struct Asked {
    pub(super) method: Method,
    pub(super) version: Version,
    pub(super) keep_alive: bool,
    wants_trailers: bool,
}

impl Asked {
    pub(super) fn of(head: &RequestHead) -> Self {
        Self {
            method: head.method(),
            version: head.version(),
            keep_alive: head.keep_alive(),
            wants_trailers: head.accepts_trailers(),
        }
    }
}

/// How a connection goes on after an answer.
pub(super) enum Outcome {
    KeepAlive,
    /// The answer was the last one, and the client may be sending: it is to be able to read it.
    Close,
    /// The answer was the last one, and the client knew that: it sends nothing more, or should not.
    Done,
    /// The client is gone, or must see that the answer is not complete.
    Abort,
    Upgrade(OnUpgrade),
    /// Nothing has come for a while: the front waits for the next request, until this time.
    Rest(Millis),
}

/// Where a task takes a connection up that the front could not finish with at once.
pub(super) enum Start<Answer> {
    /// Some of a head is here, or nothing at all.
    Read,
    /// A request whose content is not here yet.
    Head(RequestHead),
    /// The service has not answered at once. Its answer was polled once.
    Pending(Asked, Pin<Box<Option<Answer>>>),
    /// A request that was passed on, and is nothing for the front.
    Passed { asked: Asked, answer: Resumed, is_loan: bool },
    /// An answer that goes on for longer.
    Respond(Asked, Response),
    /// The head is queued or sent, and some of the content is still to be.
    Body { asked: Asked, encoder: BodyEncoder, body: Body, keep_alive: bool },
    /// All is queued; this is how it goes on then.
    Go(Outcome),
    /// No request, or one that nobody answers.
    Refuse(StatusCode, &'static str),
}

/// Answers all requests that come by a stream, such as one of TLS, with the deadlines, limits and the graceful stop of
/// its worker. Returns when the stream is closed.
pub(crate) async fn serve_stream<S: Service>(worker: &Rc<Worker>, stream: Stream, peer: Peer, service: &S) {
    let conn = Rc::new(Conn::new(stream, Rc::new(peer), worker.clone()));
    let _registered = worker.register(&conn);
    conn.adopt().await;
    go_on(&conn, service, Outcome::KeepAlive, true).await;
}

/// Takes up what the front has begun, and goes on with the connection until it ends or rests.
pub(super) async fn resume<S, Answer>(conn: &Rc<Conn>, service: &S, start: Start<Answer>, is_first: bool)
where
    S: Service,
    Answer: Future<Output = Response> + 'static,
{
    let _registered = conn.worker.register(conn);
    conn.adopt().await;
    let outcome = match start {
        Start::Read => Outcome::KeepAlive,
        Start::Head(head) => exchange(conn, service, &mut Some(head)).await,
        Start::Pending(asked, mut answer) => {
            let mut response = None;
            let called = finish(conn, answer.as_mut(), &mut response).await;
            drop(answer);
            after_call(conn, asked, called, &mut response).await
        }
        Start::Passed { asked, answer, is_loan } => {
            if is_loan {
                conn.lend();
            }
            let mut response = None;
            let called = finish(conn, pin!(Some(answer)), &mut response).await;
            after_call(conn, asked, called, &mut response).await
        }
        Start::Respond(asked, response) => respond(conn, asked, &mut Some(response)).await,
        Start::Body { asked, mut encoder, mut body, keep_alive } => {
            send_rest(conn, asked, &mut encoder, &mut body, keep_alive).await
        }
        // Nothing may be queued behind what is still to be sent from where it lies.
        Start::Go(outcome) => match conn.flush().await {
            Ok(()) => outcome,
            Err(_) => Outcome::Abort,
        },
        Start::Refuse(status, reason) => refuse(conn, status, reason).await,
    };
    go_on(conn, service, outcome, is_first).await;
}

async fn go_on<S: Service>(conn: &Rc<Conn>, service: &S, mut outcome: Outcome, mut is_first: bool) {
    let mut head = None;
    let mut answered = 0;
    while let Outcome::KeepAlive = outcome {
        answered += 1;
        if answered % ANSWERS_PER_TURN_MAX == 0 {
            tokio::task::yield_now().await;
        }
        outcome = match conn.next(is_first, &mut head).await {
            Next::Request => exchange(conn, service, &mut head).await,
            Next::Malformed(error) => {
                tracing::debug!(peer = %conn.peer.addr, %error, "malformed request");
                refuse(conn, error.status(), error.reason()).await
            }
            Next::TooSlow => refuse(conn, StatusCode::REQUEST_TIMEOUT, "the request did not come in time").await,
            Next::Nothing => {
                conn.wire.borrow_mut().say_goodbye();
                Outcome::Abort
            }
            Next::Rest(deadline) => Outcome::Rest(deadline),
        };
        is_first = false;
    }
    match outcome {
        Outcome::KeepAlive | Outcome::Abort => {}
        // Who is there to tell that the answer did not arrive?
        Outcome::Done => match conn.flush().await {
            Ok(()) if conn.may_be_sent_more() => conn.linger().await,
            Ok(()) => conn.wire.borrow_mut().say_goodbye(),
            Err(_) => {}
        },
        Outcome::Close => conn.linger().await,
        Outcome::Upgrade(on_upgrade) => talk(conn, on_upgrade).await,
        Outcome::Rest(deadline) => conn.rest(deadline),
    }
    // Closes the socket also when somebody still holds the body of a request.
    drop(conn.wire.borrow_mut().take_socket());
    incoming::take_over(conn);
}

async fn exchange<S: Service>(conn: &Rc<Conn>, service: &S, slot: &mut Option<RequestHead>) -> Outcome {
    let Some(head) = &*slot else { return Outcome::Abort };
    let asked = Asked::of(head);
    let body = Incoming::open(conn, head).map_or(Body::Empty, Body::incoming);
    if let Some(response) = refused_method(asked.method) {
        drop(body);
        return respond(conn, asked, &mut Some(response)).await;
    }
    let mut response = None;
    let called = call(conn, service, slot, body, &mut response).await;
    after_call(conn, asked, called, &mut response).await
}

async fn after_call(conn: &Rc<Conn>, asked: Asked, called: Called, response: &mut Option<Response>) -> Outcome {
    match called {
        Called::Answered => respond(conn, asked, response).await,
        Called::Panicked => {
            tracing::error!(peer = %conn.peer.addr, "the service panicked");
            refuse(conn, StatusCode::INTERNAL_SERVER_ERROR, UNANSWERED).await
        }
        Called::Gone => Outcome::Abort,
    }
}

/// What a client is told when the service panicked.
pub(super) const UNANSWERED: &str = "this request could not be answered";

/// Methods no service gets to see: this is no tunnel, and an echo of a request would show a script
/// the fields the browser hides from it (RFC 9110 §9.3.6, §9.3.8).
///
/// What follows a `CONNECT` may be somebody else's bytes, sent before the answer was known: none of it is a request.
pub(super) fn refused_method(method: Method) -> Option<Response> {
    is_refused(method).then(|| match method {
        Method::Connect => {
            refusal(StatusCode::NOT_IMPLEMENTED, "this server is no tunnel").field("connection", "close")
        }
        _ => refusal(StatusCode::METHOD_NOT_ALLOWED, "requests are not echoed").field("allow", ALLOWED_METHODS),
    })
}

#[inline]
pub(super) fn is_refused(method: Method) -> bool {
    matches!(method, Method::Connect | Method::Trace)
}

enum Called {
    /// The response is in the slot.
    Answered,
    Panicked,
    Gone,
}

/// Runs the service inside this connection's task; a panic ends this request only.
///
/// Head and response pass through slots because they are large: this way each is copied once.
async fn call<S: Service>(
    conn: &Conn,
    service: &S,
    head: &mut Option<RequestHead>,
    body: Body,
    response: &mut Option<Response>,
) -> Called {
    let mut answer = pin!(async {
        if let Some(head) = head.take() {
            *response = Some(service.call(Request::new(head, body, conn.peer.clone())).await);
        }
    });
    poll_call(conn, answer.as_mut()).await
}

/// Goes on with a call that was begun elsewhere.
async fn finish<Answer>(conn: &Conn, mut answer: Pin<&mut Option<Answer>>, response: &mut Option<Response>) -> Called
where
    Answer: Future<Output = Response>,
{
    let mut filling = pin!(async {
        if let Some(answer) = answer.as_mut().as_pin_mut() {
            *response = Some(answer.await);
        }
    });
    poll_call(conn, filling.as_mut()).await
}

async fn poll_call(conn: &Conn, mut call: Pin<&mut impl Future<Output = ()>>) -> Called {
    poll_fn(|cx| match catch_unwind(AssertUnwindSafe(|| call.as_mut().poll(cx))) {
        Ok(Poll::Ready(())) => Poll::Ready(Called::Answered),
        Ok(Poll::Pending) => {
            let gone = conn.poll_gone(cx);
            let has_more = gone.is_pending() && conn.queue_hints();
            if has_more { conn.poll_gone(cx) } else { gone }.map(|()| Called::Gone)
        }
        Err(_) => Poll::Ready(Called::Panicked),
    })
    .await
}

async fn respond(conn: &Rc<Conn>, asked: Asked, slot: &mut Option<Response>) -> Outcome {
    let Some(response) = slot else { return Outcome::Abort };
    if response.on_upgrade.is_some() && conn.body.is_open() {
        tracing::error!(peer = %conn.peer.addr, "an upgrade was answered before the request's content was read");
        return refuse(conn, StatusCode::INTERNAL_SERVER_ERROR, "unread content before an upgrade").await;
    }
    if response.status.is_interim() && response.on_upgrade.is_none() {
        tracing::error!(status = response.status.as_u16(), "a service answered with an interim status");
        *response = Response::new(StatusCode::INTERNAL_SERVER_ERROR);
    }
    let settings = &conn.worker.settings;
    incoming::prepare_answer(conn);
    let keep_alive = asked.keep_alive && conn.may_go_on() && conn.body.may_be_drained(settings.drain_bytes_max);
    let framing = framing_of(response, asked);
    let (mut encoder, keep_alive) = write_head(conn, asked, response, framing, keep_alive);
    tracing::debug!(peer = %conn.peer.addr, method = %asked.method, status = response.status.as_u16(), "answered");
    if let Some(on_upgrade) = response.on_upgrade.take() {
        return if conn.flush().await.is_ok() { Outcome::Upgrade(on_upgrade) } else { Outcome::Abort };
    }
    send_rest(conn, asked, &mut encoder, &mut response.body, keep_alive).await
}

/// Sends the content, whose head is queued; how the connection goes on then.
async fn send_rest(
    conn: &Rc<Conn>,
    asked: Asked,
    encoder: &mut BodyEncoder,
    body: &mut Body,
    keep_alive: bool,
) -> Outcome {
    let sent = send_body(conn, asked, encoder, body).await;
    match sent {
        Ok(()) if !keep_alive && !asked.keep_alive && !conn.body.is_open() => Outcome::Done,
        Ok(()) if !keep_alive => Outcome::Close,
        Ok(()) if !conn.body.is_open() || incoming::drain(conn).await => Outcome::KeepAlive,
        Ok(()) => Outcome::Close,
        Err(error) => {
            tracing::debug!(peer = %conn.peer.addr, %error, "answer broken off");
            break_off(conn, encoder).await;
            Outcome::Abort
        }
    }
}

/// How the answer's body ends. For `HEAD` and 304, how it would have ended, where that is known.
#[inline]
pub(super) fn framing_of(response: &Response, asked: Asked) -> Framing {
    let declared = || std::str::from_utf8(response.fields.get("content-length")?).ok()?.parse().ok();
    match response.body.exact_len() {
        Some(0) if asked.method == Method::Head || response.status == StatusCode::NOT_MODIFIED => {
            declared().map_or(Framing::None, Framing::Length)
        }
        Some(0) if response.status.forbids_body() => Framing::None,
        Some(length) => Framing::Length(length),
        None if asked.version == Version::Http11 => Framing::Chunked,
        None => Framing::UntilClose,
    }
}

fn write_head(
    conn: &Conn,
    asked: Asked,
    response: &Response,
    framing: Framing,
    keep_alive: bool,
) -> (BodyEncoder, bool) {
    let wire = &mut *conn.wire.borrow_mut();
    let output = wire.open_output(&conn.worker.buffers);
    write_head_to(output, &conn.worker, asked, response, framing, keep_alive)
}

/// Appends the head of an answer; how its content is written, and whether the connection lives on.
pub(super) fn write_head_to(
    output: &mut Vec<u8>,
    worker: &Worker,
    asked: Asked,
    response: &Response,
    framing: Framing,
    keep_alive: bool,
) -> (BodyEncoder, bool) {
    let date = worker.clock.date();
    let written = http1::write_response_head(output, &spec_of(asked, response, framing, keep_alive, &date));
    (written.body, written.keep_alive)
}

/// Appends a whole answer of the usual kind; whether the connection lives on. Nothing where it is of another kind.
#[inline]
pub(super) fn write_usual_to(
    output: &mut Vec<u8>,
    worker: &Worker,
    asked: Asked,
    response: &Response,
    content: &[u8],
    keep_alive: bool,
) -> Option<bool> {
    let date = worker.clock.date();
    let framing = Framing::Length(content.len() as u64);
    http1::write_usual_response(output, &spec_of(asked, response, framing, keep_alive, &date), content)
}

#[inline]
fn spec_of<'a>(
    asked: Asked,
    response: &'a Response,
    framing: Framing,
    keep_alive: bool,
    date: &'a [u8],
) -> ResponseSpec<'a> {
    ResponseSpec {
        request_method: asked.method,
        request_version: asked.version,
        status: response.status,
        fields: &response.fields,
        framing,
        keep_alive,
        date: Some(date),
    }
}

async fn send_body(conn: &Conn, asked: Asked, encoder: &mut BodyEncoder, body: &mut Body) -> Result<(), BodyError> {
    if encoder.discards() {
        *body = Body::Empty;
    }
    let trailers = match body {
        Body::Empty => None,
        Body::Full(bytes) => {
            send_chunk(conn, encoder, std::mem::take(bytes)).await?;
            None
        }
        Body::Stream(_) => {
            #[cfg(target_os = "linux")]
            send_file(conn, encoder, body).await?;
            while let Some(piece) = next_piece(conn, encoder, body).await {
                match piece? {
                    Piece::Chunk(chunk) => send_chunk(conn, encoder, chunk).await?,
                    Piece::Piped(piped) => send_piped(conn, encoder, piped).await?,
                }
            }
            body.trailers().filter(|_| asked.wants_trailers)
        }
    };
    if !encoder.discards() {
        let wire = &mut *conn.wire.borrow_mut();
        encoder.finish(wire.open_output(&conn.worker.buffers), trailers.as_ref()).map_err(ours)?;
    }
    if conn.wire.borrow().unsent() > OUTPUT_BYTES_MAX {
        conn.flush().await?;
    }
    Ok(())
}

/// Waits for content, sending meanwhile what there is; fails when the client is gone, or by a panic: the client is
/// to see that the content is not complete.
async fn next_piece(conn: &Conn, encoder: &BodyEncoder, body: &mut Body) -> Option<Result<Piece, BodyError>> {
    let may_last_for_ever = encoder.remaining().is_none();
    let takes_pipes = !may_last_for_ever && conn.is_plain();
    let mut poll = |cx: &mut Context<'_>| {
        if takes_pipes { body.poll_piece(cx) } else { body.poll_chunk(cx).map_ok(Piece::Chunk) }
    };
    poll_fn(|cx| match catch_unwind(AssertUnwindSafe(|| poll(cx))) {
        Ok(Poll::Ready(piece)) => {
            conn.handle_content();
            Poll::Ready(piece)
        }
        Ok(Poll::Pending) if may_last_for_ever => conn.poll_left(cx).map(|()| Some(Err(BodyError::Closed))),
        Ok(Poll::Pending) => conn.poll_gone(cx).map(|()| Some(Err(BodyError::Closed))),
        Err(_) => {
            tracing::error!(peer = %conn.peer.addr, "the content's source panicked");
            Poll::Ready(Some(Err(BodyError::Source("panicked".into()))))
        }
    })
    .await
}

/// Has the system send content that lies in a file, where it can.
#[cfg(target_os = "linux")]
async fn send_file(conn: &Conn, encoder: &mut BodyEncoder, body: &mut Body) -> Result<(), BodyError> {
    if !conn.is_plain() {
        return Ok(());
    }
    let Some(file) = body.as_file() else { return Ok(()) };
    while file.left > 0 {
        let sent = poll_fn(|cx| conn.poll_send_file(cx, file)).await?;
        // Only content of a known length lies in a file, so that nothing is written around it.
        encoder.before_data(&mut Vec::new(), sent).map_err(ours)?;
        file.advance(sent);
    }
    Ok(())
}

/// Has the system send content that it has put into a pipe.
async fn send_piped(conn: &Conn, encoder: &mut BodyEncoder, mut piped: Piped) -> Result<(), BodyError> {
    // Only content of a known length comes so, and nothing is written around it.
    encoder.before_data(&mut Vec::new(), piped.left() as u64).map_err(ours)?;
    while piped.left() > 0 {
        poll_fn(|cx| conn.poll_send_piped(cx, &mut piped)).await?;
    }
    Ok(())
}

async fn send_chunk(conn: &Conn, encoder: &mut BodyEncoder, chunk: Bytes) -> Result<(), BodyError> {
    if chunk.len() <= COPY_BYTES_MAX {
        let unsent = {
            let wire = &mut *conn.wire.borrow_mut();
            encoder.data(wire.open_output(&conn.worker.buffers), &chunk).map_err(ours)?;
            wire.unsent()
        };
        if unsent > OUTPUT_BYTES_MAX {
            conn.flush().await?;
        }
        return Ok(());
    }
    {
        let wire = &mut *conn.wire.borrow_mut();
        encoder.before_data(wire.open_output(&conn.worker.buffers), chunk.len() as u64).map_err(ours)?;
        wire.put_large(chunk);
    }
    conn.flush().await?;
    encoder.after_data(conn.wire.borrow_mut().open_output(&conn.worker.buffers));
    Ok(())
}

/// A service whose content does not have the length it declared.
fn ours(error: http1::EncodeError) -> BodyError {
    BodyError::Source(error.into())
}

/// Sends what was complete of an answer that has no proper end. Where the end of the connection would
/// look like the end of the content, the connection is reset.
async fn break_off(conn: &Conn, encoder: &BodyEncoder) {
    if encoder.is_until_close() {
        if let Some(socket) = conn.wire.borrow_mut().take_socket() {
            socket.reset();
        }
        return;
    }
    // The client may be the very reason.
    let _: io::Result<()> = conn.flush().await;
}

/// Answers by ourselves, in the service's stead, and closes.
async fn refuse(conn: &Rc<Conn>, status: StatusCode, detail: &str) -> Outcome {
    let asked = Asked { method: Method::Get, version: Version::Http11, keep_alive: false, wants_trailers: false };
    let mut response = refusal(status, detail);
    let framing = framing_of(&response, asked);
    let (mut encoder, _) = write_head(conn, asked, &response, framing, false);
    match send_body(conn, asked, &mut encoder, &mut response.body).await {
        Ok(()) => Outcome::Close,
        Err(_) => Outcome::Abort,
    }
}

fn refusal(status: StatusCode, detail: &str) -> Response {
    Response::text(status, format!("{status} {}: {detail}\n", status.reason()))
}

/// Hands the socket over, with what the client has already sent of the other protocol.
async fn talk(conn: &Conn, on_upgrade: OnUpgrade) {
    let upgraded = {
        let wire = &mut *conn.wire.borrow_mut();
        let early = std::mem::take(&mut wire.input).freeze();
        wire.take_socket().map(|socket| Upgraded::new(socket, early))
    };
    if let Some(upgraded) = upgraded {
        on_upgrade(upgraded).await;
    }
}
