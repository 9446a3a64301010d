//! One request and its answer on a stream: sends while it receives, because a server may answer before it has read
//! everything.

use super::connection::failure;
use super::directory::Slot;
use super::download::Download;
use super::{Http2Error, Outcome, head};
use crate::client::deadline::Deadline;
use crate::client::link::CONTINUE_PATIENCE;
use crate::client::{Client, ClientErrorKind, ClientSettings, Failure, Interims, OutgoingRequest, Stage};
use crate::{Body, BodyError, EncodeError, ResponseHead};
use bytes::Bytes;
use h2::client::ResponseFuture;
use h2::{Reason, RecvStream, SendStream};
use http1::{Method, StatusCode};
use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Duration;

/// Most bytes asked of flow control at a time.
const SLICE_BYTES: usize = 64 * 1024;
/// Interim answers accepted before a final one, as over HTTP/1.1.
const INTERIM_MAX: u32 = 16;

/// A request under way.
pub(super) struct Exchange {
    slot: Slot,
    response: ResponseFuture,
    received: Option<RecvStream>,
    upload: Upload,
    deadline: Deadline,
    settings: Rc<ClientSettings>,
    head_timeout: Duration,
    method: Method,
    interims: Option<Interims>,
    interims_seen: u32,
    is_unseen: bool,
}

/// What is still to be sent of a request's content.
pub(super) struct Upload {
    /// `None` when all is sent, or nothing more can be.
    stream: Option<SendStream<Bytes>>,
    body: Body,
    chunk: Bytes,
    /// How much of the content is still to come, where it was declared.
    left: Option<u64>,
    awaits_continue: bool,
    /// Whether some of a stream is gone, so that the request cannot be sent again.
    has_streamed: bool,
    /// Whether the server is to take something and does not.
    is_blocked: bool,
}

/// Why content could not be sent.
pub(super) enum UploadError {
    /// It failed by itself.
    Body(BodyError),
    /// It is longer or shorter than declared.
    Ours(EncodeError),
}

impl Exchange {
    /// Sends the head, and takes the content unless it can be cloned.
    pub(super) fn begin(
        client: &Client,
        mut slot: Slot,
        request: &mut OutgoingRequest,
    ) -> Result<Self, (Failure, Outcome)> {
        let failed = |kind, outcome| (Failure { stage: Stage::Send, kind }, outcome);
        let length = match (&request.body, request.body.exact_len()) {
            (Body::Empty, _) => None,
            (_, length) => length,
        };
        let is_secure = client.tls.is_some();
        let message = head::request_head(request, is_secure, length).map_err(|kind| failed(kind, Outcome::Final))?;
        let is_empty = matches!(request.body, Body::Empty);
        let (response, stream) = slot.send.send_request(message, is_empty).map_err(|error| {
            // Nothing has been sent yet.
            failed(failure(&error).0, Outcome::Unseen)
        })?;
        let body = match &mut request.body {
            Body::Empty => Body::Empty,
            Body::Full(bytes) => Body::Full(bytes.clone()),
            stream @ Body::Stream(_) => std::mem::take(stream),
        };
        let settings = Rc::clone(&client.shared.settings);
        let upload = Upload {
            stream: (!is_empty).then_some(stream),
            awaits_continue: matches!(body, Body::Stream(_)) && request.fields.contains("expect"),
            body,
            chunk: Bytes::new(),
            left: length,
            has_streamed: false,
            is_blocked: false,
        };
        Ok(Self {
            slot,
            response,
            received: None,
            upload,
            deadline: Deadline::default(),
            head_timeout: client.head_timeout.unwrap_or(settings.head_timeout),
            settings,
            method: request.method,
            interims: client.interims.clone(),
            interims_seen: 0,
            is_unseen: false,
        })
    }

    /// Sends, and reads until the head of the final answer is there.
    pub(super) async fn head(&mut self) -> Result<ResponseHead, Failure> {
        poll_fn(|cx| self.poll_head(cx)).await
    }

    /// The answer, whose content goes on by itself.
    pub(super) fn into_response(self, head: ResponseHead) -> (ResponseHead, Body) {
        let Some(received) = self.received.filter(|received| !received.is_end_stream()) else {
            return (head, Body::Empty);
        };
        let left = match head.framing() {
            http1::Framing::Length(length) => Some(length),
            _ => None,
        };
        let idle_timeout = self.settings.body_idle_timeout;
        (head, Body::from_source(Download::new(self.slot, self.upload, received, left, idle_timeout)))
    }

    /// What a failure leaves open.
    pub(super) fn outcome(&self, failure: &Failure, request: &OutgoingRequest) -> Outcome {
        let is_ours = matches!(failure.kind, ClientErrorKind::Body(_) | ClientErrorKind::Request(_));
        if is_ours || self.upload.has_streamed || self.interims_seen > 0 || self.received.is_some() {
            Outcome::Final
        } else if self.is_unseen {
            Outcome::Unseen
        } else if request.method.is_idempotent() {
            Outcome::Repeatable
        } else {
            Outcome::Final
        }
    }

    /// Whether the server refused it unread, and goes on with others on the same connection.
    pub(super) fn is_refused_for_now(&self) -> bool {
        self.is_unseen && !self.slot.is_going()
    }

    /// Gives unread content back to the request it came from.
    pub(super) fn restore(self, request: &mut OutgoingRequest) {
        if matches!(self.upload.body, Body::Stream(_)) && !self.upload.has_streamed {
            request.body = self.upload.body;
        }
    }

    fn poll_head(&mut self, cx: &mut Context<'_>) -> Poll<Result<ResponseHead, Failure>> {
        loop {
            let was_sending = self.upload.stream.is_some();
            let sent = match self.upload.poll(cx) {
                Poll::Ready(Ok(())) => true,
                Poll::Ready(Err(error)) => {
                    let kind = match error {
                        UploadError::Body(error) => ClientErrorKind::Body(error),
                        UploadError::Ours(error) => ClientErrorKind::Request(error),
                    };
                    return Poll::Ready(Err(Failure { stage: Stage::Send, kind }));
                }
                Poll::Pending => false,
            };
            if was_sending && (sent || self.upload.moved()) {
                self.deadline.clear(); // from here on the time for the head counts, or for the next bytes
            }
            if let Poll::Ready(done) = self.poll_answer(cx) {
                return Poll::Ready(done);
            }
            let (stage, patience) = if sent {
                (Stage::Head, self.head_timeout)
            } else if self.upload.awaits_continue {
                (Stage::Head, CONTINUE_PATIENCE)
            } else if self.upload.is_blocked {
                (Stage::Send, self.settings.write_idle_timeout)
            } else {
                // While the content itself is awaited nobody can blame the server.
                self.deadline.clear();
                return Poll::Pending;
            };
            self.deadline.arm_once(patience);
            if !self.deadline.poll_expired(cx) {
                return Poll::Pending;
            }
            if !self.upload.awaits_continue {
                self.slot.state().suspect();
                return Poll::Ready(Err(Failure { stage, kind: ClientErrorKind::TimedOut }));
            }
            self.go_ahead();
        }
    }

    /// Sends the content that was held back.
    fn go_ahead(&mut self) {
        self.upload.awaits_continue = false;
        self.deadline.clear();
    }

    /// The final head, if it is here; interim ones are dealt with on the way.
    fn poll_answer(&mut self, cx: &mut Context<'_>) -> Poll<Result<ResponseHead, Failure>> {
        let failed = |kind| Poll::Ready(Err(Failure { stage: Stage::Head, kind }));
        let limits = &self.settings.limits;
        while let Poll::Ready(Some(Ok(interim))) = self.response.poll_informational(cx) {
            self.interims_seen += 1;
            let (parts, ()) = interim.into_parts();
            let head = match head::response_head(&parts, false, self.method, limits) {
                Ok(head) if self.interims_seen <= INTERIM_MAX => head,
                Ok(_) => return failed(ClientErrorKind::Http2(Http2Error::Flood)),
                Err(error) => return failed(ClientErrorKind::Protocol(error)),
            };
            if head.status() == StatusCode::CONTINUE && self.upload.awaits_continue {
                self.upload.awaits_continue = false;
                self.deadline.clear();
                cx.waker().wake_by_ref();
            }
            if let Some(interims) = &self.interims {
                interims(&head);
            }
        }
        match Pin::new(&mut self.response).poll(cx) {
            Poll::Ready(Ok(response)) => {
                let (parts, received) = response.into_parts();
                let has_content = !received.is_end_stream();
                self.received = Some(received);
                self.deadline.clear();
                if self.upload.awaits_continue {
                    self.upload.stop(); // it does not want the content
                }
                match head::response_head(&parts, has_content, self.method, limits) {
                    Ok(head) => Poll::Ready(Ok(head)),
                    Err(error) => failed(ClientErrorKind::Protocol(error)),
                }
            }
            Poll::Ready(Err(error)) => {
                let (kind, is_unseen) = failure(&error);
                self.is_unseen = is_unseen;
                failed(match self.slot.state().fault.get() {
                    Some(fault) => ClientErrorKind::Http2(fault),
                    None => kind,
                })
            }
            Poll::Pending => Poll::Pending,
        }
    }
}

impl Upload {
    /// Sends as much as goes. Ready when all is sent, or when the server takes no more.
    pub(super) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), UploadError>> {
        self.is_blocked = false;
        if self.awaits_continue {
            return Poll::Pending; // whoever waits for the answer says when it goes on
        }
        loop {
            let Some(stream) = &mut self.stream else { return Poll::Ready(Ok(())) };
            if !self.chunk.is_empty() {
                let Some(room) = room(stream, self.chunk.len(), cx) else {
                    self.is_blocked = true;
                    return Poll::Pending;
                };
                let piece = self.chunk.split_to(room.min(self.chunk.len()));
                let is_end = self.chunk.is_empty() && matches!(self.body, Body::Empty);
                if piece.is_empty() || stream.send_data(piece, is_end).is_err() || is_end {
                    self.stream = None; // what the server says to it, the answer says
                }
                continue;
            }
            self.has_streamed |= matches!(self.body, Body::Stream(_));
            match self.body.poll_chunk(cx) {
                Poll::Ready(Some(Ok(chunk))) => {
                    if let Some(left) = &mut self.left {
                        let Some(rest) = left.checked_sub(chunk.len() as u64) else {
                            self.give_up(Reason::CANCEL);
                            return Poll::Ready(Err(UploadError::Ours(EncodeError::TooLong)));
                        };
                        *left = rest;
                    }
                    self.chunk = chunk;
                }
                Poll::Ready(Some(Err(error))) => {
                    self.give_up(Reason::CANCEL);
                    return Poll::Ready(Err(UploadError::Body(error)));
                }
                Poll::Ready(None) => return Poll::Ready(self.finish()),
                Poll::Pending => {
                    if stream.poll_reset(cx).is_ready() {
                        self.stream = None;
                        continue;
                    }
                    return Poll::Pending;
                }
            }
        }
    }

    /// Whether it is not held up by the server.
    fn moved(&self) -> bool {
        !self.is_blocked
    }

    fn finish(&mut self) -> Result<(), UploadError> {
        if self.left.is_some_and(|left| left > 0) {
            self.give_up(Reason::CANCEL);
            return Err(UploadError::Ours(EncodeError::TooShort));
        }
        if let Some(mut stream) = self.stream.take() {
            // A stream that takes no more is one whose answer says why.
            let _ = match self.body.trailers() {
                Some(fields) => stream.send_trailers(crate::h2::head::trailers(&fields)),
                None => stream.send_data(Bytes::new(), true),
            };
        }
        self.body = Body::Empty;
        Ok(())
    }

    /// Ends the exchange: what was sent of the content must not be taken for all of it.
    fn give_up(&mut self, reason: Reason) {
        if let Some(stream) = &mut self.stream {
            stream.send_reset(reason);
        }
        self.stop();
    }

    /// Sends no more, and lets go of the content.
    fn stop(&mut self) {
        self.stream = None;
        self.body = Body::Empty;
        self.chunk = Bytes::new();
        self.awaits_continue = false;
    }
}

/// How much of `wanted` bytes may be sent now; `Some(0)` when the stream takes no more, `None` when it has to wait.
fn room(stream: &mut SendStream<Bytes>, wanted: usize, cx: &mut Context<'_>) -> Option<usize> {
    stream.reserve_capacity(wanted.min(SLICE_BYTES));
    if stream.capacity() > 0 {
        return Some(stream.capacity());
    }
    loop {
        match stream.poll_capacity(cx) {
            Poll::Ready(Some(Ok(0))) => {}
            Poll::Ready(Some(Ok(room))) => return Some(room),
            Poll::Ready(_) => return Some(0),
            Poll::Pending => return None,
        }
    }
}
