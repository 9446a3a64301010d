//! The body of a response. Reading it drives its connection; at its end the connection is kept for
//! the next request, and dropping it earlier closes the connection.

use super::link::Link;
use super::{ClientErrorKind, Shared};
use crate::pipes::{Piece, SPLICED_BYTES_MIN};
use crate::{Body, BodyError, Fields, Source};
use bytes::Bytes;
use http1::{Event, Framing, ResponseHead, Trailers};
use std::rc::Rc;
use std::task::{Context, Poll, ready};

/// A body that is still arriving.
struct Download {
    /// `None` once it has ended.
    link: Option<Box<Link>>,
    shared: Rc<Shared>,
    keep_alive: bool,
    /// Bytes still to come, where the length was declared.
    left: Option<u64>,
    /// Whether it is long enough for the system to move it by itself.
    is_large: bool,
    trailers: Option<Trailers>,
}

/// The body of the response with this head. One that is already here, or empty, needs no stream.
pub(super) fn body(shared: &Rc<Shared>, mut link: Box<Link>, head: &ResponseHead) -> Result<Body, ClientErrorKind> {
    let keep_alive = head.keep_alive();
    let left = match head.framing() {
        Framing::None => Some(0),
        Framing::Length(length) => Some(length),
        Framing::Chunked | Framing::UntilClose => None,
    };
    if left.is_some_and(|left| left <= link.received() as u64) {
        let bytes = all(&mut link)?;
        release(shared, link, keep_alive);
        return Ok(bytes.into());
    }
    let is_large = left.is_some_and(|left| left >= SPLICED_BYTES_MIN);
    let (link, shared) = (Some(link), shared.clone());
    Ok(Body::from_source(Download { link, shared, keep_alive, left, is_large, trailers: None }))
}

/// Takes a body that has been received completely.
fn all(link: &mut Link) -> Result<Bytes, ClientErrorKind> {
    let mut bytes = Bytes::new();
    loop {
        match link.poll_event().map_err(ClientErrorKind::Protocol)? {
            Some(Event::Data(data)) if bytes.is_empty() => bytes = data,
            Some(Event::End) => return Ok(bytes),
            _ => return Err(ClientErrorKind::Closed),
        }
    }
}

fn release(shared: &Shared, mut link: Box<Link>, keep_alive: bool) {
    if link.finish(keep_alive) {
        shared.pool.borrow_mut().put(link, &shared.settings);
    }
}

impl Source for Download {
    fn poll_chunk(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, BodyError>>> {
        let Some(link) = &mut self.link else { return Poll::Ready(None) };
        loop {
            match ready!(link.poll_body(cx, self.left)) {
                Ok(Event::Data(data)) => {
                    self.left = self.left.map(|left| left.saturating_sub(data.len() as u64));
                    return Poll::Ready(Some(Ok(data)));
                }
                Ok(Event::Trailers(trailers)) => self.trailers = Some(trailers),
                Ok(Event::Head(()) | Event::End) => break,
                Err(error) => {
                    self.link = None;
                    return Poll::Ready(Some(Err(error)));
                }
            }
        }
        if let Some(link) = self.link.take() {
            release(&self.shared, link, self.keep_alive);
        }
        Poll::Ready(None)
    }

    fn poll_piece(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Piece, BodyError>>> {
        let (Some(link), Some(left @ 1..), true) = (&mut self.link, self.left, self.is_large) else {
            return self.poll_chunk(cx).map_ok(Piece::Chunk);
        };
        let Some(polled) = link.poll_splice(cx, left) else { return self.poll_chunk(cx).map_ok(Piece::Chunk) };
        Poll::Ready(Some(match ready!(polled) {
            Ok(piped) => {
                self.left = Some(left - piped.left() as u64);
                Ok(Piece::Piped(piped))
            }
            Err(error) => {
                self.link = None;
                Err(error)
            }
        }))
    }

    fn exact_len(&self) -> Option<u64> {
        self.left
    }

    fn trailers(&mut self) -> Option<Fields> {
        self.trailers.take().map(|trailers| crate::body::own_fields(&trailers))
    }
}
