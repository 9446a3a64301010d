//! Server-sent events (HTML Living Standard §9.2): one response that goes on, event by event.
//!
//! The producer is part of the response's body and runs only while the connection does: when the client leaves, it
//! is dropped; when the server stops, the stream ends. Nothing is spawned.

use crate::handler::LocalBoxFuture;
use crate::response::IntoResponse;
use bytes::{Bytes, BytesMut};
use engine::{Body, BodyError, Peer, Response, Source, StatusCode};
use serde::Serialize;
use std::cell::Cell;
use std::fmt::{self, Display, Write};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::time::{Instant, Sleep};

/// Silence after which a comment is sent: proxies cut idle streams after 30 to 60 seconds, and a client that left
/// without a word is noticed by the failing write.
pub const HEARTBEAT: Duration = Duration::from_secs(15);
/// Events the producer may be ahead of the socket; then `send` waits.
pub const EVENTS_AHEAD_MAX: usize = 64;
/// Bytes of waiting events that are put into one chunk.
const CHUNK_BYTES: usize = 16 * 1024;

thread_local! {
    /// The connection whose request is being answered: how an [`Sse`] made anywhere below a handler knows the stop.
    static PEER: Cell<Option<Rc<Peer>>> = const { Cell::new(None) };
}

/// Polls a request's future so that event streams made in it end when the server stops.
pub(crate) fn ending_with<T>(peer: &Rc<Peer>, poll: impl FnOnce() -> T) -> T {
    /// Puts back what was there, also when a handler panics.
    struct Before(Option<Rc<Peer>>);

    impl Drop for Before {
        fn drop(&mut self) {
            PEER.set(self.0.take());
        }
    }

    let _before = Before(PEER.replace(Some(Rc::clone(peer))));
    poll()
}

/// The connection whose request is being answered on this thread.
fn current_peer() -> Option<Rc<Peer>> {
    let peer = PEER.take();
    PEER.set(peer.clone());
    peer
}

/// A response that is a stream of events.
///
/// ```
/// use weaprous::prelude::*;
/// async fn count(LastEventId(last): LastEventId) -> Sse {
///     let first = last.and_then(|id| id.parse::<u64>().ok()).map_or(0, |id| id + 1);
///     Sse::new(move |sender| async move {
///         for number in first..10 {
///             sender.send(Event::new().id(number).data("tick")).await?;
///         }
///         Ok(())
///     })
/// }
/// App::new().route("/count", [GET], count);
/// ```
pub struct Sse(Stream);

/// Sends events; the stream ends when all clones are gone. A clone may go to another task or thread:
///
/// ```
/// use weaprous::prelude::*;
/// use weaprous::testing::Client;
///
/// let app = App::new().route("/", [GET], async || {
///     Sse::new(async |sender: SseSender| {
///         tokio::spawn(async move { sender.send(Event::new().data("from elsewhere")).await });
///         Ok(())
///     })
/// });
/// assert_eq!(Client::new(app).get("/").send().event().expect("one was sent").data, "from elsewhere");
/// ```
#[derive(Debug, Clone)]
pub struct SseSender(mpsc::Sender<Bytes>);

/// Why an event was not sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SendError {
    /// The client left or the server stops: the producer should end.
    #[error("the event stream has ended")]
    Ended,
    /// The event's name or id holds a line end or NUL, or its data cannot be serialised.
    #[error("the event cannot be written")]
    Invalid,
}

/// One event.
///
/// ```
/// use std::time::Duration;
/// use weaprous::prelude::*;
/// use weaprous::testing::Client;
///
/// let app = App::new().route("/", [GET], async || {
///     Sse::new(async |sender: SseSender| {
///         sender.send(Event::new().retry(Duration::from_secs(3)).event("task").id(7).json(&["buy", "bread"])).await
///     })
/// });
/// let event = Client::new(app).get("/").send().event().expect("one was sent");
/// assert_eq!((event.event.as_str(), event.data.as_str()), ("task", "[\"buy\",\"bread\"]"));
/// ```
#[derive(Debug, Clone, Default)]
pub struct Event {
    text: String,
    is_invalid: bool,
}

impl Event {
    /// An empty event; without data it only carries an id.
    pub fn new() -> Self {
        Self::default()
    }

    /// Names the event; without a name it is a `message`.
    pub fn event(self, name: &str) -> Self {
        self.line("event", name)
    }

    /// Gives the id a reconnecting client comes back with in `Last-Event-ID`.
    pub fn id(self, id: impl Display) -> Self {
        self.line("id", &id.to_string())
    }

    /// Tells the client how long to wait before it reconnects.
    pub fn retry(self, after: Duration) -> Self {
        self.line("retry", &after.as_millis().to_string())
    }

    /// Adds data; line ends inside it arrive as `\n`.
    pub fn data(mut self, data: impl AsRef<str>) -> Self {
        let data = data.as_ref().replace("\r\n", "\n").replace('\r', "\n");
        for line in data.split('\n') {
            self.push("data", line);
        }
        self
    }

    /// Adds a value as JSON.
    pub fn json(mut self, value: &impl Serialize) -> Self {
        match serde_json::to_string(value) {
            Ok(text) => self.push("data", &text), // JSON escapes line ends
            Err(_) => self.is_invalid = true,
        }
        self
    }

    fn line(mut self, name: &str, value: &str) -> Self {
        if value.contains(['\r', '\n', '\0']) {
            self.is_invalid = true;
        } else {
            self.push(name, value);
        }
        self
    }

    fn push(&mut self, name: &str, value: &str) {
        writeln!(self.text, "{name}: {value}").expect("a string takes everything");
    }

    fn into_bytes(mut self) -> Result<Bytes, SendError> {
        if self.is_invalid {
            return Err(SendError::Invalid);
        }
        self.text.push('\n');
        Ok(Bytes::from(self.text))
    }
}

impl SseSender {
    /// Sends an event, waiting while the client is behind. Cancelling sends nothing.
    ///
    /// # Errors
    /// The client is gone or the server stops, or the event cannot be written.
    pub async fn send(&self, event: Event) -> Result<(), SendError> {
        self.0.send(event.into_bytes()?).await.map_err(|_| SendError::Ended)
    }

    /// Returns when nobody listens any more.
    ///
    /// ```
    /// use std::time::Duration;
    /// use weaprous::prelude::*;
    /// use weaprous::sse::SendError;
    ///
    /// /// Opens something that is expensive to keep, for as long as somebody listens.
    /// async fn watch() -> Sse {
    ///     let stream = Sse::new(async |sender: SseSender| -> Result<(), SendError> {
    ///         sender.send(Event::new().data("watching")).await?;
    ///         sender.closed().await;
    ///         Ok(())
    ///     });
    ///     stream.heartbeat(Duration::from_secs(5))
    /// }
    /// App::new().route("/watch", [GET], watch);
    /// ```
    pub async fn closed(&self) {
        self.0.closed().await;
    }
}

impl Sse {
    /// A stream of what `produce` sends. It ends when `produce` and all senders have, when the client leaves, or when
    /// the server stops.
    pub fn new<F, Producing>(produce: F) -> Self
    where
        F: FnOnce(SseSender) -> Producing,
        Producing: Future<Output = Result<(), SendError>> + 'static,
    {
        let (sender, receiver) = mpsc::channel(EVENTS_AHEAD_MAX);
        let peer = current_peer();
        Self(Stream {
            producer: Some(Box::pin(produce(SseSender(sender)))),
            receiver,
            heartbeat: Box::pin(tokio::time::sleep(HEARTBEAT)),
            heartbeat_every: HEARTBEAT,
            stop: peer.map(|peer| Box::pin(async move { peer.stop.cancelled().await }) as LocalBoxFuture<'static, ()>),
        })
    }

    /// Sends a comment after this much silence, instead of [`HEARTBEAT`].
    pub fn heartbeat(mut self, every: Duration) -> Self {
        self.0.heartbeat_every = every;
        self.0.heartbeat.as_mut().reset(Instant::now() + every);
        self
    }
}

impl IntoResponse for Sse {
    fn into_response(self) -> Response {
        Response::new(StatusCode::OK)
            .field("content-type", "text/event-stream")
            .field("cache-control", "no-store")
            .field("x-accel-buffering", "no") // nginx would hold events back
            .with_body(Body::from_source(self.0))
    }
}

impl From<Sse> for Response {
    fn from(sse: Sse) -> Self {
        sse.into_response()
    }
}

impl fmt::Debug for Sse {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sse").finish_non_exhaustive()
    }
}

struct Stream {
    producer: Option<LocalBoxFuture<'static, Result<(), SendError>>>,
    receiver: mpsc::Receiver<Bytes>,
    heartbeat: Pin<Box<Sleep>>,
    heartbeat_every: Duration,
    stop: Option<LocalBoxFuture<'static, ()>>,
}

impl Source for Stream {
    fn poll_chunk(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, BodyError>>> {
        if self.stop.as_mut().is_some_and(|stop| stop.as_mut().poll(cx).is_ready()) {
            return Poll::Ready(None);
        }
        if let Some(producer) = &mut self.producer
            && let Poll::Ready(outcome) = producer.as_mut().poll(cx)
        {
            self.producer = None;
            if outcome == Err(SendError::Invalid) {
                tracing::error!("an event stream ended early: an event could not be written");
            }
        }
        match self.poll_events(cx) {
            Poll::Ready(Some(chunk)) => {
                self.heartbeat.as_mut().reset(Instant::now() + self.heartbeat_every);
                Poll::Ready(Some(Ok(chunk)))
            }
            Poll::Ready(None) => Poll::Ready(None),
            Poll::Pending => self.poll_heartbeat(cx),
        }
    }
}

impl Stream {
    /// All waiting events as one chunk; `None` at the end.
    fn poll_events(&mut self, cx: &mut Context<'_>) -> Poll<Option<Bytes>> {
        let first = match self.receiver.poll_recv(cx) {
            Poll::Ready(Some(event)) => event,
            other => return other,
        };
        let Ok(second) = self.receiver.try_recv() else { return Poll::Ready(Some(first)) };
        let mut chunk = BytesMut::from(first);
        chunk.extend_from_slice(&second);
        while chunk.len() < CHUNK_BYTES
            && let Ok(event) = self.receiver.try_recv()
        {
            chunk.extend_from_slice(&event);
        }
        Poll::Ready(Some(chunk.freeze()))
    }

    fn poll_heartbeat(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, BodyError>>> {
        if self.heartbeat.as_mut().poll(cx).is_pending() {
            return Poll::Pending;
        }
        self.heartbeat.as_mut().reset(Instant::now() + self.heartbeat_every);
        // The new deadline must be polled once to be waited for.
        if self.heartbeat.as_mut().poll(cx).is_ready() {
            cx.waker().wake_by_ref();
        }
        Poll::Ready(Some(Ok(Bytes::from_static(b":\n\n"))))
    }
}
