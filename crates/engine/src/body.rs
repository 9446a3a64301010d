//! Message content: nothing, bytes at hand, or a stream that is produced as fast as it is taken.

use crate::file::FileBody;
use crate::pipes::Piece;
use crate::server::Incoming;
use crate::{Fields, ParseError, ReceivedFields, StatusCode};
use bytes::{Bytes, BytesMut};
use futures_core::Stream;
use std::error::Error;
use std::fs::File;
use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::{fmt, io};
use tokio::sync::mpsc;

/// Chunks a [`BodySender`] may be ahead of the reader.
const CHANNEL_CHUNKS_MAX: usize = 8;

/// The content of a message. Dropping a body that is not at its end says that the rest is not wanted.
#[derive(Debug, Default)]
pub enum Body {
    /// No content.
    #[default]
    Empty,
    /// All of it.
    Full(Bytes),
    /// Chunk by chunk, produced as fast as it is taken.
    Stream(BodyStream),
}

/// Content that arrives over time.
pub struct BodyStream {
    inner: Inner,
    state: State,
}

enum Inner {
    Incoming(Incoming),
    Channel(Channel),
    File(FileBody),
    Source(Box<dyn Source>),
}

impl Inner {
    fn poll_chunk(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, BodyError>>> {
        match self {
            Self::Incoming(incoming) => incoming.poll_chunk(cx),
            Self::Channel(channel) => channel.poll_chunk(cx),
            Self::File(file) => file.poll_chunk(cx),
            Self::Source(source) => source.poll_chunk(cx),
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Open,
    Ended,
    Failed,
}

/// Produces content. After the first `None` or error it is not polled again.
pub trait Source: 'static {
    /// The next bytes, `None` at the end, or why there is no proper end.
    fn poll_chunk(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, BodyError>>>;

    /// As [`Source::poll_chunk`], where whoever takes it can also take what only the system has seen. A source that hands
    /// on another body's content as it is hands this on as well, by [`Body::poll_piece`]; the two may be called in turns.
    fn poll_piece(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Piece, BodyError>>> {
        self.poll_chunk(cx).map_ok(Piece::Chunk)
    }

    /// How many bytes are still to come, where that is known. The message is then sent with a
    /// `Content-Length`, otherwise in chunks.
    fn exact_len(&self) -> Option<u64> {
        None
    }

    /// Changes how many bytes are accepted, where the source has such a limit.
    fn set_limit(&mut self, _max: u64) {}

    /// The fields that came after the content; asked once after the end.
    fn trailers(&mut self) -> Option<Fields> {
        None
    }
}

/// Why content ended before its end. None of these is ever shown to the other side as a clean end.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BodyError {
    /// It is longer than the limit of the one who reads it.
    #[error("content is longer than {max} bytes")]
    TooLarge {
        /// The limit in bytes.
        max: u64,
    },
    /// The sender went away in the middle.
    #[error("connection closed in the middle of the content")]
    Closed,
    /// Nothing came for too long, or it came too slowly.
    #[error("content arrives too slowly")]
    TimedOut,
    /// The framing is broken.
    #[error("malformed content: {0}")]
    Malformed(#[from] ParseError),
    /// The socket failed.
    #[error("connection failed: {0}")]
    Io(#[from] io::Error),
    /// The producer failed.
    #[error("content could not be produced: {0}")]
    Source(#[source] Box<dyn Error + Send + Sync>),
}

impl BodyError {
    /// The status for a request whose content failed so.
    pub fn status(&self) -> StatusCode {
        match self {
            Self::TooLarge { .. } => StatusCode::CONTENT_TOO_LARGE,
            Self::TimedOut => StatusCode::REQUEST_TIMEOUT,
            Self::Malformed(error) => error.status(),
            Self::Closed | Self::Io(_) => StatusCode::BAD_REQUEST,
            Self::Source(_) => StatusCode::INTERNAL_SERVER_ERROR,
        }
    }
}

impl Body {
    /// Content from a source of one's own.
    pub fn from_source(source: impl Source) -> Self {
        Self::streaming(Inner::Source(Box::new(source)))
    }

    /// Content from a stream of unknown length.
    pub fn from_stream<S, E>(stream: S) -> Self
    where
        S: Stream<Item = Result<Bytes, E>> + 'static,
        E: Into<Box<dyn Error + Send + Sync>> + 'static,
    {
        Self::from_source(Streamed { stream: Box::pin(stream), left: None })
    }

    /// Content from a stream that yields exactly `len` bytes; any other number breaks the message.
    pub fn from_sized_stream<S, E>(len: u64, stream: S) -> Self
    where
        S: Stream<Item = Result<Bytes, E>> + 'static,
        E: Into<Box<dyn Error + Send + Sync>> + 'static,
    {
        Self::from_source(Streamed { stream: Box::pin(stream), left: Some(len) })
    }

    /// Content that is sent from elsewhere, also from another thread. Dropping the sender ends it.
    pub fn channel() -> (BodySender, Self) {
        let (sender, receiver) = mpsc::channel(CHANNEL_CHUNKS_MAX);
        (BodySender { sender }, Self::streaming(Inner::Channel(Channel { receiver, left: None })))
    }

    /// As [`Body::channel`], for content of exactly `len` bytes.
    pub fn sized_channel(len: u64) -> (BodySender, Self) {
        let (sender, receiver) = mpsc::channel(CHANNEL_CHUNKS_MAX);
        (BodySender { sender }, Self::streaming(Inner::Channel(Channel { receiver, left: Some(len) })))
    }

    /// `len` bytes of a file from `offset` on. A plain socket gets them by `sendfile`, at most a slice at a time;
    /// elsewhere they are read in pieces on the blocking pool. A file that turns out to be shorter breaks the
    /// message off.
    pub fn from_file(file: impl Into<Arc<File>>, offset: u64, len: u64) -> Self {
        Self::streaming(Inner::File(FileBody::new(file.into(), offset, len)))
    }

    /// The file the content lies in, where it can be sent from there.
    pub(crate) fn as_file(&mut self) -> Option<&mut FileBody> {
        match self {
            Self::Stream(BodyStream { inner: Inner::File(file), state: State::Open }) => Some(file),
            _ => None,
        }
    }

    pub(crate) fn incoming(incoming: Incoming) -> Self {
        Self::streaming(Inner::Incoming(incoming))
    }

    fn streaming(inner: Inner) -> Self {
        Self::Stream(BodyStream { inner, state: State::Open })
    }

    /// The next chunk; `None` at the end. Cancelling loses nothing.
    pub async fn chunk(&mut self) -> Option<Result<Bytes, BodyError>> {
        poll_fn(|cx| self.poll_chunk(cx)).await
    }

    /// As [`Body::chunk`], for futures written by hand.
    pub fn poll_chunk(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, BodyError>>> {
        match self {
            Self::Empty => Poll::Ready(None),
            Self::Full(bytes) => {
                let bytes = std::mem::take(bytes);
                *self = Self::Empty;
                Poll::Ready((!bytes.is_empty()).then_some(Ok(bytes)))
            }
            Self::Stream(stream) => stream.poll_chunk(cx),
        }
    }

    /// As [`Body::poll_chunk`], for whoever hands content on without looking at it.
    pub fn poll_piece(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Piece, BodyError>>> {
        match self {
            Self::Stream(stream) => stream.poll_piece(cx),
            _ => self.poll_chunk(cx).map_ok(Piece::Chunk),
        }
    }

    /// All of it.
    ///
    /// # Errors
    /// [`BodyError::TooLarge`] as soon as it is certain that there are more than `max` bytes, before
    /// anything is read where the length was declared.
    pub async fn collect(mut self, max: u64) -> Result<Bytes, BodyError> {
        if self.exact_len().is_some_and(|len| len > max) {
            return Err(BodyError::TooLarge { max });
        }
        let Some(first) = self.chunk().await.transpose()? else { return Ok(Bytes::new()) };
        let Some(mut next) = self.chunk().await.transpose()? else { return within(first, max) };
        let mut all = BytesMut::from(within(first, max)?);
        loop {
            if (all.len() + next.len()) as u64 > max {
                return Err(BodyError::TooLarge { max });
            }
            all.extend_from_slice(&next);
            match self.chunk().await.transpose()? {
                Some(chunk) => next = chunk,
                None => return Ok(all.freeze()),
            }
        }
    }

    /// How many bytes are still to come, where that is known.
    pub fn exact_len(&self) -> Option<u64> {
        match self {
            Self::Empty => Some(0),
            Self::Full(bytes) => Some(bytes.len() as u64),
            Self::Stream(stream) => stream.exact_len(),
        }
    }

    /// Whether there certainly is no content.
    pub fn is_empty(&self) -> bool {
        self.exact_len() == Some(0)
    }

    /// Fields that came after the content, once it has ended.
    pub fn trailers(&mut self) -> Option<Fields> {
        let Self::Stream(stream) = self else { return None };
        if stream.state != State::Ended {
            return None;
        }
        match &mut stream.inner {
            Inner::Incoming(incoming) => incoming.trailers(),
            Inner::Source(source) => source.trailers(),
            Inner::Channel(_) | Inner::File(_) => None,
        }
    }

    /// Changes how many bytes of a request's content are accepted, from `body_bytes_max` of the
    /// settings to `max`: beyond it reading fails.
    pub fn set_limit(&mut self, max: u64) {
        match self {
            Self::Full(bytes) if bytes.len() as u64 > max => *self = Self::from_source(TooLarge { max }),
            Self::Stream(BodyStream { inner: Inner::Incoming(incoming), .. }) => incoming.set_limit(max),
            Self::Stream(BodyStream { inner: Inner::Source(source), .. }) => source.set_limit(max),
            _ => {}
        }
    }
}

/// Content that is here, and longer than it may be.
struct TooLarge {
    max: u64,
}

impl Source for TooLarge {
    fn poll_chunk(&mut self, _: &mut Context<'_>) -> Poll<Option<Result<Bytes, BodyError>>> {
        Poll::Ready(Some(Err(BodyError::TooLarge { max: self.max })))
    }
}

/// Received trailers as fields to send on.
pub(crate) fn own_fields(received: &ReceivedFields) -> Fields {
    let mut fields = Fields::new();
    for (name, value) in received.iter() {
        // What the parser accepted is valid, and its limits are below those of `Fields`.
        let _ = fields.append(name, value);
    }
    fields
}

fn within(bytes: Bytes, max: u64) -> Result<Bytes, BodyError> {
    if bytes.len() as u64 > max { Err(BodyError::TooLarge { max }) } else { Ok(bytes) }
}

impl BodyStream {
    fn poll_chunk(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, BodyError>>> {
        self.poll_inner(|inner| inner.poll_chunk(cx))
    }

    fn poll_piece(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Piece, BodyError>>> {
        self.poll_inner(|inner| match inner {
            Inner::Source(source) => source.poll_piece(cx),
            inner => inner.poll_chunk(cx).map_ok(Piece::Chunk),
        })
    }

    fn poll_inner<T>(
        &mut self,
        poll: impl FnOnce(&mut Inner) -> Poll<Option<Result<T, BodyError>>>,
    ) -> Poll<Option<Result<T, BodyError>>> {
        match self.state {
            State::Open => {}
            State::Ended => return Poll::Ready(None),
            State::Failed => return Poll::Ready(Some(Err(BodyError::Closed))),
        }
        let polled = ready!(poll(&mut self.inner));
        match &polled {
            Some(Ok(_)) => {}
            Some(Err(_)) => self.state = State::Failed,
            None => self.state = State::Ended,
        }
        Poll::Ready(polled)
    }

    fn exact_len(&self) -> Option<u64> {
        match (self.state, &self.inner) {
            (State::Failed, _) => None,
            (State::Ended, _) => Some(0),
            (State::Open, Inner::Incoming(incoming)) => incoming.exact_len(),
            (State::Open, Inner::Channel(channel)) => channel.left,
            (State::Open, Inner::File(file)) => Some(file.left),
            (State::Open, Inner::Source(source)) => source.exact_len(),
        }
    }
}

impl fmt::Debug for BodyStream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BodyStream").field("exact_len", &self.exact_len()).finish_non_exhaustive()
    }
}

impl From<Bytes> for Body {
    fn from(bytes: Bytes) -> Self {
        if bytes.is_empty() { Self::Empty } else { Self::Full(bytes) }
    }
}

impl From<Vec<u8>> for Body {
    fn from(bytes: Vec<u8>) -> Self {
        Bytes::from(bytes).into()
    }
}

impl From<String> for Body {
    fn from(text: String) -> Self {
        Bytes::from(text).into()
    }
}

impl From<&'static str> for Body {
    fn from(text: &'static str) -> Self {
        Bytes::from_static(text.as_bytes()).into()
    }
}

impl From<&'static [u8]> for Body {
    fn from(bytes: &'static [u8]) -> Self {
        Bytes::from_static(bytes).into()
    }
}

/// Feeds a [`Body::channel`].
#[derive(Debug, Clone)]
pub struct BodySender {
    sender: mpsc::Sender<Result<Bytes, BodyError>>,
}

/// Nobody wants the content any more: the client left, or the connection failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the reader of the content is gone")]
pub struct Gone;

impl BodySender {
    /// Hands over one chunk, waiting while the reader is behind. Cancelling hands over nothing.
    ///
    /// # Errors
    /// The reader is gone.
    pub async fn send(&self, chunk: impl Into<Bytes>) -> Result<(), Gone> {
        self.sender.send(Ok(chunk.into())).await.map_err(|_| Gone)
    }

    /// As [`BodySender::send`], for threads of the blocking pool.
    pub fn blocking_send(&self, chunk: impl Into<Bytes>) -> Result<(), Gone> {
        self.sender.blocking_send(Ok(chunk.into())).map_err(|_| Gone)
    }

    /// Breaks the message off: the reader sees an error instead of an end.
    pub async fn fail(self, error: impl Into<Box<dyn Error + Send + Sync>>) {
        // Nobody left to tell is fine.
        let _ = self.sender.send(Err(BodyError::Source(error.into()))).await;
    }

    /// Returns when the reader is gone.
    pub async fn closed(&self) {
        self.sender.closed().await;
    }

    /// Whether the reader is gone.
    pub fn is_closed(&self) -> bool {
        self.sender.is_closed()
    }
}

struct Channel {
    receiver: mpsc::Receiver<Result<Bytes, BodyError>>,
    left: Option<u64>,
}

impl Channel {
    fn poll_chunk(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, BodyError>>> {
        let chunk = ready!(self.receiver.poll_recv(cx));
        Poll::Ready(account(&mut self.left, chunk))
    }
}

struct Streamed<S> {
    stream: Pin<Box<S>>,
    left: Option<u64>,
}

impl<S, E> Source for Streamed<S>
where
    S: Stream<Item = Result<Bytes, E>> + 'static,
    E: Into<Box<dyn Error + Send + Sync>> + 'static,
{
    fn poll_chunk(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, BodyError>>> {
        let chunk = ready!(self.stream.as_mut().poll_next(cx));
        let chunk = chunk.map(|chunk| chunk.map_err(|error| BodyError::Source(error.into())));
        Poll::Ready(account(&mut self.left, chunk))
    }

    fn exact_len(&self) -> Option<u64> {
        self.left
    }
}

/// Holds a producer to the length it declared.
fn account(left: &mut Option<u64>, chunk: Option<Result<Bytes, BodyError>>) -> Option<Result<Bytes, BodyError>> {
    let Some(owed) = left else { return chunk };
    match chunk {
        Some(Ok(bytes)) => match owed.checked_sub(bytes.len() as u64) {
            Some(rest) => {
                *owed = rest;
                Some(Ok(bytes))
            }
            None => Some(Err(BodyError::Source("more bytes than declared".into()))),
        },
        None if *owed > 0 => Some(Err(BodyError::Source("fewer bytes than declared".into()))),
        other => other,
    }
}
