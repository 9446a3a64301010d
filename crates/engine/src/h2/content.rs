//! Content of streams: received by flow control, sent by flow control, both with deadlines.

use super::head;
use super::patience::{Patience, TooSlow};
use crate::{Body, BodyError, Fields, Settings, Source};
use bytes::Bytes;
use h2::server::SendResponse;
use h2::{Reason, RecvStream, SendStream};
use std::cell::RefCell;
use std::future::poll_fn;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;
use std::task::{Context, Poll, ready};

/// Most bytes asked of flow control at a time.
const SLICE_BYTES: usize = 64 * 1024;

/// The content of a received request.
pub(super) struct Incoming {
    stream: RecvStream,
    /// Whoever waits for `100 Continue` is told by this, once.
    to_continue: Option<Rc<RefCell<SendResponse<Bytes>>>>,
    left: Option<u64>,
    received: u64,
    limit: u64,
    patience: Patience,
    trailers: Option<Fields>,
    has_ended: bool,
}

impl Incoming {
    pub(super) fn new(
        stream: RecvStream,
        length: Option<u64>,
        to_continue: Option<Rc<RefCell<SendResponse<Bytes>>>>,
        settings: &Settings,
    ) -> Self {
        let patience = Patience::new(settings.body_idle_timeout, settings.rate_min, settings.rate_grace);
        Self {
            stream,
            to_continue,
            left: length,
            received: 0,
            limit: settings.body_bytes_max,
            patience,
            trailers: None,
            has_ended: false,
        }
    }

    fn too_large(&self) -> bool {
        self.received.saturating_add(self.left.unwrap_or(0)) > self.limit
    }

    fn grant_continue(&mut self) {
        if let Some(respond) = self.to_continue.take() {
            let mut interim = http::Response::new(());
            *interim.status_mut() = http::StatusCode::CONTINUE;
            // A stream that is gone says so when its content is read.
            let _ = respond.borrow_mut().send_informational(interim);
        }
    }

    fn poll_content(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, BodyError>>> {
        let Some(data) = ready!(self.stream.poll_data(cx)) else {
            self.has_ended = true;
            return Poll::Ready(None);
        };
        let data = match data {
            Ok(data) => data,
            Err(error) => return Poll::Ready(Some(Err(lost(error)))),
        };
        let _ = self.stream.flow_control().release_capacity(data.len()); // fails only for more than was received
        self.received += data.len() as u64;
        self.left = self.left.map(|left| left.saturating_sub(data.len() as u64));
        if self.too_large() {
            return Poll::Ready(Some(Err(BodyError::TooLarge { max: self.limit })));
        }
        if self.patience.handle_progress(data.len()).is_err() {
            return Poll::Ready(Some(Err(BodyError::TimedOut)));
        }
        Poll::Ready(Some(Ok(data)))
    }

    fn poll_trailers(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, BodyError>>> {
        match ready!(self.stream.poll_trailers(cx)) {
            Ok(trailers) => {
                self.trailers = trailers.as_ref().map(head::received_trailers);
                Poll::Ready(None)
            }
            Err(error) => Poll::Ready(Some(Err(lost(error)))),
        }
    }
}

impl Source for Incoming {
    fn poll_chunk(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, BodyError>>> {
        if self.too_large() {
            return Poll::Ready(Some(Err(BodyError::TooLarge { max: self.limit })));
        }
        self.grant_continue();
        loop {
            if self.has_ended {
                return self.poll_trailers(cx);
            }
            match self.poll_content(cx) {
                Poll::Ready(None) => {}
                // Empty frames say nothing; how many there are is the meter's business.
                Poll::Ready(Some(Ok(data))) if data.is_empty() => {}
                Poll::Pending => {
                    return match self.patience.poll_wait(cx) {
                        Poll::Ready(TooSlow) => Poll::Ready(Some(Err(BodyError::TimedOut))),
                        Poll::Pending => Poll::Pending,
                    };
                }
                chunk @ Poll::Ready(_) => return chunk,
            }
        }
    }

    fn exact_len(&self) -> Option<u64> {
        self.left
    }

    fn trailers(&mut self) -> Option<Fields> {
        self.trailers.take()
    }

    fn set_limit(&mut self, max: u64) {
        self.limit = max;
    }
}

/// Why a stream has no more content.
fn lost(error: h2::Error) -> BodyError {
    if error.is_io() { error.into_io().map_or(BodyError::Closed, BodyError::Io) } else { BodyError::Closed }
}

/// Sends content to its end, trailers included.
///
/// # Errors
/// The content failed, or the client does not take it: the stream is to be reset with this reason.
pub(super) async fn send(
    stream: &mut SendStream<Bytes>,
    body: &mut Body,
    declared: Option<u64>,
    wants_trailers: bool,
    settings: &Settings,
) -> Result<(), Reason> {
    let mut patience = Patience::new(settings.write_idle_timeout, settings.rate_min, settings.rate_grace);
    let mut left = declared;
    while let Some(chunk) = next_chunk(stream, body).await? {
        if let Some(owed) = left {
            let Some(rest) = owed.checked_sub(chunk.len() as u64) else { return Err(Reason::INTERNAL_ERROR) };
            left = Some(rest);
        }
        let is_last = left == Some(0) && !wants_trailers;
        send_chunk(stream, chunk, is_last, &mut patience).await?;
        if is_last {
            return Ok(());
        }
    }
    if left.is_some_and(|left| left > 0) {
        return Err(Reason::INTERNAL_ERROR);
    }
    let sent = match body.trailers().filter(|_| wants_trailers) {
        Some(fields) => stream.send_trailers(head::trailers(&fields)),
        None => stream.send_data(Bytes::new(), true),
    };
    sent.map_err(|_| Reason::CANCEL)
}

/// Waits for content; fails when the client does not want it any more.
async fn next_chunk(stream: &mut SendStream<Bytes>, body: &mut Body) -> Result<Option<Bytes>, Reason> {
    poll_fn(|cx| match catch_unwind(AssertUnwindSafe(|| body.poll_chunk(cx))) {
        Ok(Poll::Ready(Some(Ok(chunk)))) => Poll::Ready(Ok(Some(chunk))),
        Ok(Poll::Ready(None)) => Poll::Ready(Ok(None)),
        Ok(Poll::Ready(Some(Err(error)))) => {
            tracing::debug!(%error, "answer broken off");
            Poll::Ready(Err(Reason::INTERNAL_ERROR))
        }
        Ok(Poll::Pending) => stream.poll_reset(cx).map(|_| Err(Reason::CANCEL)),
        Err(_) => {
            tracing::error!("the content's source panicked");
            Poll::Ready(Err(Reason::INTERNAL_ERROR))
        }
    })
    .await
}

async fn send_chunk(
    stream: &mut SendStream<Bytes>,
    mut chunk: Bytes,
    is_last: bool,
    patience: &mut Patience,
) -> Result<(), Reason> {
    while !chunk.is_empty() {
        stream.reserve_capacity(chunk.len().min(SLICE_BYTES));
        let room = poll_fn(|cx| poll_room(stream, patience, cx)).await?;
        let piece = chunk.split_to(room.min(chunk.len()));
        patience.handle_progress(piece.len()).map_err(|TooSlow| Reason::ENHANCE_YOUR_CALM)?;
        let is_end = is_last && chunk.is_empty();
        stream.send_data(piece, is_end).map_err(|_| Reason::CANCEL)?;
    }
    Ok(())
}

fn poll_room(
    stream: &mut SendStream<Bytes>,
    patience: &mut Patience,
    cx: &mut Context<'_>,
) -> Poll<Result<usize, Reason>> {
    if stream.capacity() > 0 {
        return Poll::Ready(Ok(stream.capacity()));
    }
    match stream.poll_capacity(cx) {
        Poll::Ready(Some(Ok(room))) => Poll::Ready(Ok(room)),
        Poll::Ready(_) => Poll::Ready(Err(Reason::CANCEL)),
        Poll::Pending => patience.poll_wait(cx).map(|TooSlow| Err(Reason::ENHANCE_YOUR_CALM)),
    }
}

/// The connection's own failures are no news to the one whose stream it was.
pub(super) fn is_worth_a_word(error: &h2::Error) -> bool {
    !error.get_io().is_some_and(|error| {
        matches!(
            error.kind(),
            io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe | io::ErrorKind::UnexpectedEof
        )
    })
}
