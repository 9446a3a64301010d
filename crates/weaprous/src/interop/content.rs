//! Content across the border between our bodies, which stay on their worker, and theirs, which may leave it.
//!
//! A request's content is not pushed: the reader says that it wants some, the [`Pump`] (which stays with the request)
//! reads it from the socket, and hands it over. So a client that waits for `100 Continue` gets it when the service
//! reads, and the client sends no faster than the service takes.

use super::{BoxError, bytes_of};
use bytes::Bytes;
use engine::{Body, BodyError, Fields, Source};
use http::HeaderMap;
use http_body::{Body as HttpBody, Frame, SizeHint};
use std::fmt;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

/// A request's content, for services that want an `http_body::Body` that is `Send`.
pub struct Content(Kind);

enum Kind {
    /// All of it, unless it was taken.
    Full(Option<Bytes>),
    Streamed(Arc<Channel>),
}

/// Feeds a [`Content`] as long as the request is being answered.
pub(super) struct Pump(Option<(Body, Arc<Channel>)>);

#[derive(Default)]
struct Channel(Mutex<Slot>);

#[derive(Default)]
struct Slot {
    is_wanted: bool,
    /// What the reader has not taken yet.
    ready: Option<Result<Frame<Bytes>, BodyError>>,
    is_over: bool,
    /// Bytes still to come, where that is known.
    left: Option<u64>,
    reader: Option<Waker>,
    pump: Option<Waker>,
}

impl Content {
    /// The content of a request, and what feeds it.
    pub(super) fn new(body: Body) -> (Self, Pump) {
        match body {
            Body::Empty => (Self(Kind::Full(None)), Pump(None)),
            Body::Full(bytes) => (Self(Kind::Full(Some(bytes))), Pump(None)),
            body @ Body::Stream(_) => {
                let slot = Slot { left: body.exact_len(), ..Slot::default() };
                let channel = Arc::new(Channel(Mutex::new(slot)));
                (Self(Kind::Streamed(Arc::clone(&channel))), Pump(Some((body, channel))))
            }
        }
    }
}

impl Channel {
    fn lock(&self) -> MutexGuard<'_, Slot> {
        // The slot is whole between any two statements.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl HttpBody for Content {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let channel = match &mut self.get_mut().0 {
            Kind::Full(bytes) => return Poll::Ready(bytes.take().map(|bytes| Ok(Frame::data(bytes)))),
            Kind::Streamed(channel) => channel,
        };
        let mut slot = channel.lock();
        if let Some(ready) = slot.ready.take() {
            return Poll::Ready(Some(ready));
        }
        if slot.is_over {
            return Poll::Ready(None);
        }
        slot.is_wanted = true;
        slot.reader = Some(cx.waker().clone());
        let pump = slot.pump.take();
        drop(slot); // the waker may run the pump at once
        if let Some(pump) = pump {
            pump.wake();
        }
        Poll::Pending
    }

    fn is_end_stream(&self) -> bool {
        match &self.0 {
            Kind::Full(bytes) => bytes.is_none(),
            Kind::Streamed(channel) => {
                let slot = channel.lock();
                slot.is_over && slot.ready.is_none()
            }
        }
    }

    fn size_hint(&self) -> SizeHint {
        let left = match &self.0 {
            Kind::Full(bytes) => Some(bytes.as_ref().map_or(0, |bytes| bytes.len() as u64)),
            Kind::Streamed(channel) => channel.lock().left,
        };
        left.map_or_else(SizeHint::default, SizeHint::with_exact)
    }
}

impl Pump {
    /// Reads what is wanted. The waker is called when there is more to do.
    pub(super) fn poll(&mut self, cx: &mut Context<'_>) {
        loop {
            let Some((body, channel)) = &mut self.0 else { return };
            {
                let mut slot = channel.lock();
                if !slot.is_wanted || slot.ready.is_some() {
                    slot.pump = Some(cx.waker().clone());
                    return;
                }
            }
            let Poll::Ready(chunk) = body.poll_chunk(cx) else { return };
            let is_over = !matches!(chunk, Some(Ok(_)));
            let trailers = if chunk.is_none() { body.trailers() } else { None };
            let left = body.exact_len();
            let mut slot = channel.lock();
            slot.is_wanted = false;
            slot.is_over = is_over;
            slot.left = left;
            slot.ready = match chunk {
                Some(chunk) => Some(chunk.map(Frame::data)),
                None => trailers
                    .and_then(|trailers| HeaderMap::try_from(&trailers).ok())
                    .map(|map| Ok(Frame::trailers(map))),
            };
            let reader = slot.reader.take();
            drop(slot);
            if is_over {
                self.0 = None;
            }
            if let Some(reader) = reader {
                reader.wake();
            }
        }
    }
}

impl Drop for Pump {
    /// Whoever still reads learns that no more will come.
    fn drop(&mut self) {
        let Some((_, channel)) = self.0.take() else { return };
        let mut slot = channel.lock();
        slot.is_over = true;
        slot.ready.get_or_insert(Err(BodyError::Closed));
        let reader = slot.reader.take();
        drop(slot);
        if let Some(reader) = reader {
            reader.wake();
        }
    }
}

/// A response's content, which keeps the request's flowing while it is sent.
pub(super) struct Answering<B> {
    body: Pin<Box<B>>,
    pump: Pump,
    /// Taken before it was asked for.
    first: Option<Result<Bytes, BodyError>>,
    trailers: Option<Fields>,
}

impl<B> Answering<B>
where
    B: HttpBody + 'static,
    B::Error: Into<BoxError>,
{
    pub(super) fn new(body: B, pump: Pump) -> Self {
        Self { body: Box::pin(body), pump, first: None, trailers: None }
    }

    /// All of the content, if it can be had without waiting.
    pub(super) fn poll_at_hand(&mut self, cx: &mut Context<'_>) -> Option<Bytes> {
        let len = self.body.size_hint().exact()?;
        if len == 0 {
            return Some(Bytes::new());
        }
        match self.poll_data(cx) {
            Poll::Ready(Some(Ok(bytes))) if bytes.len() as u64 == len => Some(bytes),
            Poll::Ready(first) => {
                self.first = first;
                None
            }
            Poll::Pending => None,
        }
    }

    fn poll_data(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, BodyError>>> {
        loop {
            match self.body.as_mut().poll_frame(cx) {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(None) => return Poll::Ready(None),
                Poll::Ready(Some(Err(error))) => return Poll::Ready(Some(Err(BodyError::Source(error.into())))),
                Poll::Ready(Some(Ok(frame))) => match frame.into_data() {
                    Ok(data) => {
                        let bytes = bytes_of(data);
                        if !bytes.is_empty() {
                            return Poll::Ready(Some(Ok(bytes)));
                        }
                    }
                    Err(frame) => {
                        let trailers = frame.into_trailers().ok();
                        self.trailers = trailers.and_then(|trailers| Fields::try_from(&trailers).ok());
                    }
                },
            }
        }
    }
}

impl<B> Source for Answering<B>
where
    B: HttpBody + 'static,
    B::Error: Into<BoxError>,
{
    fn poll_chunk(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, BodyError>>> {
        if let Some(first) = self.first.take() {
            return Poll::Ready(Some(first));
        }
        self.pump.poll(cx);
        self.poll_data(cx)
    }

    fn exact_len(&self) -> Option<u64> {
        let taken = match &self.first {
            Some(Ok(bytes)) => bytes.len() as u64,
            _ => 0,
        };
        self.body.size_hint().exact().map(|left| left + taken)
    }

    fn trailers(&mut self) -> Option<Fields> {
        self.trailers.take()
    }
}

impl fmt::Debug for Content {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Content").field("size", &self.size_hint().exact()).finish_non_exhaustive()
    }
}
