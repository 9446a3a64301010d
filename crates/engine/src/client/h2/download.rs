//! The content of an answer. Reading it sends what is left of the request; dropping it before its end resets the stream.

use super::connection::failure;
use super::directory::Slot;
use super::exchange::{Upload, UploadError};
use crate::client::deadline::Deadline;
use crate::h2::head::received_trailers;
use crate::{BodyError, Fields, Source};
use bytes::Bytes;
use h2::RecvStream;
use std::io;
use std::task::{Context, Poll, ready};
use std::time::Duration;

/// Content that is still arriving.
pub(super) struct Download {
    /// `None` once it has ended.
    parts: Option<Parts>,
    left: Option<u64>,
    deadline: Deadline,
    idle_timeout: Duration,
    trailers: Option<Fields>,
}

/// What is held as long as there is more to come. The streams go before the slot, which is somebody else's then.
struct Parts {
    upload: Upload,
    received: RecvStream,
    slot: Slot,
}

impl Download {
    pub(super) fn new(
        slot: Slot,
        upload: Upload,
        received: RecvStream,
        left: Option<u64>,
        idle_timeout: Duration,
    ) -> Self {
        let parts = Some(Parts { upload, received, slot });
        Self { parts, left, deadline: Deadline::default(), idle_timeout, trailers: None }
    }

    fn poll_content(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, BodyError>>> {
        let Some(parts) = &mut self.parts else { return Poll::Ready(None) };
        if let Poll::Ready(Err(UploadError::Body(error))) = parts.upload.poll(cx) {
            return Poll::Ready(Some(Err(error)));
        }
        loop {
            let Some(data) = ready!(parts.received.poll_data(cx)) else {
                let trailers = ready!(parts.received.poll_trailers(cx));
                return Poll::Ready(match trailers {
                    Ok(trailers) => {
                        self.trailers = trailers.as_ref().map(received_trailers);
                        None
                    }
                    Err(error) => Some(Err(lost(&error))),
                });
            };
            let data = match data {
                Ok(data) => data,
                Err(error) => return Poll::Ready(Some(Err(lost(&error)))),
            };
            let _ = parts.received.flow_control().release_capacity(data.len()); // fails only for more than was received
            self.deadline.clear();
            if !data.is_empty() {
                self.left = self.left.map(|left| left.saturating_sub(data.len() as u64));
                return Poll::Ready(Some(Ok(data)));
            }
        }
    }
}

impl Source for Download {
    fn poll_chunk(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, BodyError>>> {
        match self.poll_content(cx) {
            Poll::Ready(chunk) => {
                if !matches!(chunk, Some(Ok(_))) {
                    self.parts = None;
                }
                Poll::Ready(chunk)
            }
            Poll::Pending => {
                self.deadline.arm_once(self.idle_timeout);
                if !self.deadline.poll_expired(cx) {
                    return Poll::Pending;
                }
                if let Some(parts) = self.parts.take() {
                    parts.slot.state().suspect();
                }
                Poll::Ready(Some(Err(BodyError::TimedOut)))
            }
        }
    }

    fn exact_len(&self) -> Option<u64> {
        self.left
    }

    fn trailers(&mut self) -> Option<Fields> {
        self.trailers.take()
    }
}

/// Why there is no more content. A stream that was reset did not end properly, whatever the code.
fn lost(error: &h2::Error) -> BodyError {
    match failure(error).0 {
        crate::ClientErrorKind::Io(error) => BodyError::Io(error),
        crate::ClientErrorKind::Http2(error) => BodyError::Io(io::Error::other(error)),
        _ => BodyError::Closed,
    }
}
