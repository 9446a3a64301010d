//! One connection to a server and the exchange on it: sends the request while it reads the response,
//! because a server may answer before it has read everything.

use super::deadline::Deadline;
use super::pool::Destination;
use super::{ClientErrorKind, ClientSettings, Interims, OutgoingRequest, Stage};
use crate::buffers::Buffers;
use crate::pipes::{Piped, SPLICE_BYTES_MAX};
use crate::server::Socket;
use crate::stream::Stream;
use crate::wire::Wire;
use crate::{Body, BodyError, Upgraded};
use http1::{
    BodyEncoder, EncodeError, ErrorKind, Event, Framing, Method, RequestSpec, ResponseDecoder, ResponseHead, StatusCode,
};
use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::task::{Context, Poll, ready};
use std::time::Duration;
use tokio::time::Instant;

/// Body bytes up to this are copied behind what is waiting; larger ones are written from where they lie.
const COPY_BYTES_MAX: usize = 16 * 1024;
/// Output is sent at the latest when this much is waiting.
const OUTPUT_BYTES_MAX: usize = 64 * 1024;
/// Above this many bytes to come, larger reads pay.
const BULK_BYTES: u64 = 8 * 1024;
/// How long content is held back for a server that was asked whether it wants it: an old one never says
/// (RFC 9110 §10.1.1).
pub(super) const CONTINUE_PATIENCE: Duration = Duration::from_secs(1);

/// A connection, and the exchange that is under way on it.
pub(super) struct Link {
    to: Destination,
    wire: Wire<ResponseDecoder>,
    upload: Upload,
    deadline: Deadline,
    settings: Rc<ClientSettings>,
    /// For the current request.
    head_timeout: Duration,
    buffers: Rc<Buffers>,
    /// Told about heads that come before the final one.
    pub(super) interims: Option<Interims>,
    /// Whether anything of the current request was written.
    has_sent: bool,
    /// Whether anything came since the current request was begun.
    has_received: bool,
    /// When the current request was begun, until time has passed since.
    begun: Option<Instant>,
}

/// What is still to be sent of a request's body.
#[derive(Default)]
#[expect(clippy::struct_excessive_bools, reason = "each is true or not whatever the others are")]
struct Upload {
    body: Body,
    encoder: Option<BodyEncoder>,
    /// The server has been asked whether it wants the content, and has not said.
    awaits_continue: bool,
    /// A large chunk is being written; its end is still to be framed.
    owes_chunk_end: bool,
    /// Whether some of a stream is gone, so that the request cannot be sent again.
    has_streamed: bool,
    /// The server takes no more; what it answers may still be read.
    is_broken: bool,
}

/// Why there is no response.
pub(super) struct Failure {
    pub(super) stage: Stage,
    pub(super) kind: ClientErrorKind,
}

impl Link {
    /// Boxed, because it goes from hand to hand with every request.
    pub(super) fn new(
        to: Destination,
        socket: Stream,
        settings: Rc<ClientSettings>,
        buffers: Rc<Buffers>,
    ) -> Box<Self> {
        let decoder = ResponseDecoder::new(settings.limits.clone());
        Box::new(Self {
            to,
            wire: Wire::new(socket, decoder),
            upload: Upload::default(),
            deadline: Deadline::default(),
            head_timeout: settings.head_timeout,
            settings,
            buffers,
            interims: None,
            has_sent: false,
            has_received: false,
            begun: None,
        })
    }

    pub(super) fn addr(&self) -> SocketAddr {
        self.to.addr
    }

    pub(super) fn destination(&self) -> Destination {
        self.to
    }

    pub(super) fn is_stale(&mut self) -> bool {
        self.wire.is_stale()
    }

    pub(super) fn is_stale_now(&self) -> bool {
        self.wire.is_stale_now()
    }

    /// The socket, where it is one of a worker's own.
    pub(super) fn socket(&self) -> Option<&Socket> {
        match self.wire.stream() {
            Some(Stream::Plain(socket)) => Some(socket),
            _ => None,
        }
    }

    /// Takes up a request without content that others have begun: `unsent` of it was not sent, and `received` has come of
    /// its response. The time for the head of that, and since when it counts, are as in [`Link::begin`].
    pub(super) fn take_up(
        &mut self,
        method: Method,
        (head_timeout, now): (Option<Duration>, Option<Instant>),
        has_sent: bool,
        unsent: &[u8],
        received: &[u8],
    ) {
        self.wire.open_output(&self.buffers).extend_from_slice(unsent);
        self.wire.input.extend_from_slice(received);
        self.wire.decoder.expect(method);
        self.upload = Upload::default();
        self.head_timeout = head_timeout.unwrap_or(self.settings.head_timeout);
        self.deadline.clear();
        self.has_sent = has_sent;
        self.has_received = !received.is_empty();
        self.begun = now;
    }

    /// Queues the head and takes the body, unless it can be cloned.
    pub(super) fn begin(
        &mut self,
        request: &mut OutgoingRequest,
        head_timeout: Option<Duration>,
        now: Option<Instant>,
    ) -> Result<(), EncodeError> {
        let framing = match (&request.body, request.body.exact_len()) {
            (Body::Empty, _) => Framing::None,
            (_, Some(length)) => Framing::Length(length),
            (_, None) => Framing::Chunked,
        };
        let spec = RequestSpec {
            method: request.method,
            target: &request.target,
            fields: &request.fields,
            framing,
            keep_alive: true,
        };
        let encoder = http1::write_request_head(self.wire.open_output(&self.buffers), &spec)?;
        self.wire.decoder.expect(request.method);
        let body = match &mut request.body {
            Body::Empty => Body::Empty,
            Body::Full(bytes) => Body::Full(bytes.clone()),
            stream @ Body::Stream(_) => std::mem::take(stream),
        };
        let awaits_continue = matches!(body, Body::Stream(_)) && request.fields.contains("expect");
        self.upload = Upload { body, encoder: Some(encoder), awaits_continue, ..Upload::default() };
        self.head_timeout = head_timeout.unwrap_or(self.settings.head_timeout);
        self.deadline.clear();
        self.has_sent = false;
        self.has_received = false;
        self.begun = now;
        Ok(())
    }

    /// Whether repeating the request elsewhere cannot make anything happen twice.
    pub(super) fn may_repeat(&self, request: &OutgoingRequest) -> bool {
        !self.has_received && !self.upload.has_streamed && (!self.has_sent || request.method.is_idempotent())
    }

    /// Gives an unread body back to the request it came from.
    pub(super) fn restore(&mut self, request: &mut OutgoingRequest) {
        if matches!(self.upload.body, Body::Stream(_)) && !self.upload.has_streamed {
            request.body = std::mem::take(&mut self.upload.body);
        }
    }

    /// Sends, and reads until the head of the final response is there.
    pub(super) async fn head(&mut self) -> Result<ResponseHead, Failure> {
        std::future::poll_fn(|cx| {
            ready!(self.wire.poll_turn(cx));
            loop {
                let awaited = self.upload.awaits_continue;
                let polled = self.poll_head(cx);
                // What was held back may be sent now.
                if polled.is_ready() || awaited == self.upload.awaits_continue {
                    return polled;
                }
            }
        })
        .await
    }

    fn poll_head(&mut self, cx: &mut Context<'_>) -> Poll<Result<ResponseHead, Failure>> {
        let was_sending = !self.upload.is_done();
        let sending = match self.poll_upload(cx) {
            Poll::Ready(Err(UploadError::Body(error))) => {
                return Poll::Ready(Err(Failure { stage: Stage::Send, kind: ClientErrorKind::Body(error) }));
            }
            Poll::Ready(Err(UploadError::Ours(error))) => {
                return Poll::Ready(Err(Failure { stage: Stage::Send, kind: ClientErrorKind::Request(error) }));
            }
            Poll::Ready(Err(UploadError::Io(error))) => Some(Err(error)),
            Poll::Ready(Ok(())) => Some(Ok(())),
            Poll::Pending => None,
        };
        if was_sending && sending.is_some() {
            self.deadline.clear(); // from here on the time for the head counts
        }
        let failed = |kind| Poll::Ready(Err(Failure { stage: Stage::Head, kind }));
        loop {
            match self.poll_event() {
                Ok(Some(Event::Head(head))) if head.is_interim() => {
                    if head.status() == StatusCode::CONTINUE {
                        self.go_ahead();
                    }
                    if let Some(interims) = &self.interims {
                        interims(&head);
                    }
                }
                Ok(Some(Event::Head(head))) => {
                    self.interims = None;
                    self.deadline.clear();
                    if self.upload.awaits_continue {
                        // It does not want the content: whoever has it is told so by its drop.
                        self.upload.body = Body::Empty;
                    }
                    return Poll::Ready(Ok(head));
                }
                Ok(Some(_)) => return failed(ClientErrorKind::Closed),
                Ok(None) => match self.wire.poll_fill(cx, &self.buffers, false) {
                    Poll::Ready(Ok(count)) => self.has_received |= count > 0,
                    Poll::Ready(Err(error)) => return failed(ClientErrorKind::of_lost_connection(error)),
                    Poll::Pending => break,
                },
                Err(error) if matches!(error.kind(), ErrorKind::NoResponse | ErrorKind::Incomplete) => {
                    return failed(ClientErrorKind::Closed);
                }
                Err(error) => return failed(ClientErrorKind::Protocol(error)),
            }
        }
        if let Some(Err(error)) = sending {
            let kind = ClientErrorKind::of_lost_connection(error);
            return Poll::Ready(Err(Failure { stage: Stage::Send, kind }));
        }
        let (stage, patience) = match sending {
            Some(_) => (Stage::Head, self.head_timeout),
            None if self.upload.awaits_continue && self.wire.unsent() == 0 => (Stage::Head, CONTINUE_PATIENCE),
            None => (Stage::Send, self.settings.write_idle_timeout),
        };
        // While the body itself is awaited nobody can blame the server.
        if sending.is_some() || self.wire.unsent() > 0 || self.upload.awaits_continue {
            self.deadline.arm_once_from(self.begun.take(), patience);
        } else {
            self.deadline.clear();
        }
        if self.deadline.poll_expired(cx) {
            if self.upload.awaits_continue && self.wire.unsent() == 0 {
                self.go_ahead();
                return Poll::Pending;
            }
            return Poll::Ready(Err(Failure { stage, kind: ClientErrorKind::TimedOut }));
        }
        Poll::Pending
    }

    /// Sends the content that was held back.
    fn go_ahead(&mut self) {
        if std::mem::take(&mut self.upload.awaits_continue) {
            self.deadline.clear();
        }
    }

    /// Reads on in the response's body. `Head` never comes here.
    pub(super) fn poll_body(&mut self, cx: &mut Context<'_>, left: Option<u64>) -> Poll<Result<Event<()>, BodyError>> {
        if let Poll::Ready(Err(UploadError::Body(error))) = self.poll_upload(cx) {
            return Poll::Ready(Err(error));
        }
        loop {
            match self.poll_event() {
                Ok(Some(Event::Data(data))) => return Poll::Ready(Ok(Event::Data(data))),
                Ok(Some(Event::Trailers(trailers))) => return Poll::Ready(Ok(Event::Trailers(trailers))),
                Ok(Some(Event::End)) => return Poll::Ready(Ok(Event::End)),
                Ok(Some(Event::Head(_))) => return Poll::Ready(Err(BodyError::Closed)),
                Ok(None) => {}
                Err(error) if error.kind() == ErrorKind::Incomplete => return Poll::Ready(Err(BodyError::Closed)),
                Err(error) => return Poll::Ready(Err(BodyError::Malformed(error))),
            }
            let bulk = left.is_none_or(|left| left > BULK_BYTES);
            match self.wire.poll_fill(cx, &self.buffers, bulk) {
                Poll::Ready(Ok(_)) => self.deadline.clear(),
                Poll::Ready(Err(error)) => return Poll::Ready(Err(error.into())),
                Poll::Pending => return self.poll_idle(cx).map(Err),
            }
        }
    }

    /// As [`Link::poll_body`], where the system itself can move the next of the `left` bytes: those are in the pipe, and
    /// never more than belong to the body. `None` where they are to be read.
    pub(super) fn poll_splice(&mut self, cx: &mut Context<'_>, left: u64) -> Option<Poll<Result<Piped, BodyError>>> {
        if let Poll::Ready(Err(UploadError::Body(error))) = self.poll_upload(cx) {
            return Some(Poll::Ready(Err(error)));
        }
        let count = usize::try_from(left).unwrap_or(usize::MAX).min(SPLICE_BYTES_MAX);
        Some(match self.wire.poll_splice(cx, count)? {
            Poll::Ready(Ok(piped)) if piped.left() == 0 => Poll::Ready(Err(BodyError::Closed)),
            Poll::Ready(Ok(piped)) => {
                self.deadline.clear();
                let is_body = self.wire.decoder.skip(piped.left() as u64);
                Poll::Ready(if is_body { Ok(piped) } else { Err(BodyError::Closed) })
            }
            Poll::Ready(Err(error)) => Poll::Ready(Err(error.into())),
            Poll::Pending => self.poll_idle(cx).map(Err),
        })
    }

    /// Nothing comes of a body: how much longer is that all right?
    fn poll_idle(&mut self, cx: &mut Context<'_>) -> Poll<BodyError> {
        self.deadline.arm_once(self.settings.body_idle_timeout);
        if self.deadline.poll_expired(cx) { Poll::Ready(BodyError::TimedOut) } else { Poll::Pending }
    }

    /// The next event of what was received, if there is one without reading on.
    pub(super) fn poll_event(&mut self) -> Result<Option<Event<ResponseHead>>, http1::ParseError> {
        let wire = &mut self.wire;
        match wire.decoder.poll(&mut wire.input) {
            Ok(None) if wire.is_eof => wire.decoder.handle_eof(),
            polled => polled,
        }
    }

    /// How many received bytes are not yet taken.
    pub(super) fn received(&self) -> usize {
        self.wire.input.len()
    }

    /// Makes the connection ready for another request; whether that can be.
    pub(super) fn finish(&mut self, keep_alive: bool) -> bool {
        self.deadline.clear();
        let reusable = keep_alive
            && self.upload.is_done()
            && !self.upload.is_broken
            && self.wire.unsent() == 0
            && self.wire.decoder.is_idle()
            && self.wire.input.is_empty()
            && !self.wire.is_eof;
        self.wire.release(&self.buffers);
        reusable
    }

    /// The raw stream, after a 101.
    pub(super) fn into_upgraded(mut self: Box<Self>) -> Option<Upgraded> {
        let early = std::mem::take(&mut self.wire.input).freeze();
        self.wire.take_socket().map(|socket| Upgraded::new(socket, early))
    }

    /// Sends as much as goes. Ready when all is sent, or when nothing more can be.
    fn poll_upload(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), UploadError>> {
        loop {
            if self.upload.owes_chunk_end || self.upload.is_done() || self.wire.unsent() > OUTPUT_BYTES_MAX {
                ready!(self.poll_flush(cx))?;
            }
            if self.upload.is_done() {
                return Poll::Ready(Ok(()));
            }
            if self.upload.awaits_continue {
                ready!(self.poll_flush(cx))?;
                return Poll::Pending; // `poll_head` says when it goes on
            }
            if std::mem::take(&mut self.upload.owes_chunk_end)
                && let Some(encoder) = &mut self.upload.encoder
            {
                encoder.after_data(self.wire.open_output(&self.buffers));
            }
            self.upload.has_streamed |= matches!(self.upload.body, Body::Stream(_));
            match self.upload.body.poll_chunk(cx) {
                Poll::Ready(Some(Ok(chunk))) => self.queue(chunk).map_err(UploadError::Ours)?,
                Poll::Ready(Some(Err(error))) => return Poll::Ready(Err(UploadError::Body(error))),
                Poll::Ready(None) => self.end_upload().map_err(UploadError::Ours)?,
                Poll::Pending => {
                    ready!(self.poll_flush(cx))?;
                    return Poll::Pending;
                }
            }
        }
    }

    fn queue(&mut self, chunk: bytes::Bytes) -> Result<(), EncodeError> {
        let Some(encoder) = &mut self.upload.encoder else { return Ok(()) };
        let output = self.wire.open_output(&self.buffers);
        if chunk.len() <= COPY_BYTES_MAX {
            return encoder.data(output, &chunk);
        }
        encoder.before_data(output, chunk.len() as u64)?;
        self.wire.put_large(chunk);
        self.upload.owes_chunk_end = true;
        Ok(())
    }

    fn end_upload(&mut self) -> Result<(), EncodeError> {
        let trailers = self.upload.body.trailers();
        if let Some(mut encoder) = self.upload.encoder.take() {
            encoder.finish(self.wire.open_output(&self.buffers), trailers.as_ref())?;
        }
        self.upload.body = Body::Empty;
        Ok(())
    }

    fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), UploadError>> {
        if self.upload.is_broken {
            return Poll::Ready(Err(UploadError::Io(io::ErrorKind::BrokenPipe.into())));
        }
        let mut progress = 0;
        let flushed = self.wire.poll_flush(cx, &mut progress);
        if progress > 0 {
            self.has_sent = true;
            self.deadline.clear();
        }
        flushed.map_err(|error| {
            self.upload.is_broken = true;
            UploadError::Io(error)
        })
    }
}

impl Upload {
    /// Whether all of it is at least queued.
    fn is_done(&self) -> bool {
        self.encoder.is_none()
    }
}

enum UploadError {
    /// The request's own content failed.
    Body(BodyError),
    /// The request cannot be sent as it is.
    Ours(EncodeError),
    /// The server takes no more.
    Io(io::Error),
}

impl ClientErrorKind {
    /// A reset is a server that has closed while bytes were under way.
    pub(super) fn of_lost_connection(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::ConnectionReset
            | io::ErrorKind::BrokenPipe
            | io::ErrorKind::ConnectionAborted
            | io::ErrorKind::UnexpectedEof => Self::Closed,
            _ => Self::Io(error),
        }
    }
}
