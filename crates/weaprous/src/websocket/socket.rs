//! An open socket: messages in and out, keep-alive, and the close at its end.

use super::bridge::{Bridge, Waiting};
use super::{CLOSE_TIMEOUT, Closed, Message, WebSocketError, WebSocketLimits, close_code};
use crate::handler::LocalBoxFuture;
use bytes::Bytes;
use engine::{Stop, Upgraded};
use std::cell::RefCell;
use std::fmt;
use std::future::poll_fn;
use std::io::{self, Read as _};
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll};
use tokio::time::{Instant, Sleep};
use tungstenite::protocol::{CloseFrame, Role, WebSocketConfig, WebSocketContext};
use tungstenite::{Error, Message as Frame, error::ProtocolError};

/// Bytes read at a time: a socket that is idle holds this much.
const READ_BUFFER_BYTES: usize = 4 * 1024;
/// Bytes gathered before they are written.
const WRITE_BUFFER_BYTES: usize = 4 * 1024;
/// Frames that are looked at in a row before others have their turn: pings cost no message.
const FRAMES_PER_POLL_MAX: usize = 64;

/// An open WebSocket. All of it stays on the worker of its connection.
///
/// ```
/// use weaprous::prelude::*;
/// use weaprous::websocket::{WebSocketUpgrade, close_code};
///
/// async fn only_text(upgrade: WebSocketUpgrade) -> Response {
///     upgrade.on_upgrade(async |mut socket| {
///         while let Some(message) = socket.recv().await? {
///             match message.as_text() {
///                 Some(text) => socket.send(text.to_uppercase()).await?,
///                 None => return socket.close(close_code::UNSUPPORTED, "text only").await,
///             }
///         }
///         Ok(())
///     })
/// }
/// App::new().route("/", [GET], only_text);
/// ```
pub struct WebSocket {
    shared: Rc<Shared>,
    protocol: Option<String>,
}

/// Sends on a [`WebSocket`] while another task receives on it. Clones send on the same one.
///
/// ```
/// use std::sync::Arc;
/// use tokio::sync::broadcast;
/// use weaprous::prelude::*;
/// use weaprous::websocket::{WebSocketError, WebSocketUpgrade};
///
/// /// Everybody hears what anybody says.
/// async fn room(State(said): State<broadcast::Sender<String>>, upgrade: WebSocketUpgrade) -> Response {
///     upgrade.on_upgrade(async move |mut socket| {
///         let (sender, mut heard) = (socket.sender(), said.subscribe());
///         let telling = async {
///             while let Ok(text) = heard.recv().await {
///                 sender.send(text).await?;
///             }
///             Ok::<(), WebSocketError>(())
///         };
///         let listening = async {
///             while let Some(message) = socket.recv().await? {
///                 let _ = said.send(message.as_text().unwrap_or_default().to_owned());
///             }
///             Ok(())
///         };
///         tokio::select! {
///             result = telling => result,
///             result = listening => result,
///         }
///     })
/// }
/// App::new().state(Arc::new(broadcast::Sender::<String>::new(64))).route("/room", [GET], room);
/// ```
#[derive(Clone)]
pub struct WebSocketSender {
    shared: Rc<Shared>,
}

/// No borrow is held across an `await`.
struct Shared {
    inner: RefCell<Inner>,
    waiting: Arc<Waiting>,
    limits: WebSocketLimits,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fate {
    Alive,
    /// What comes is no WebSocket any more: it is read away, so that the client sees our close.
    Broken,
    /// There is nobody to talk to.
    Dead,
}

struct Inner {
    fate: Fate,
    context: WebSocketContext,
    bridge: Bridge,
    closed: Option<Closed>,
    /// A close was sent, or there is nobody to send one to.
    is_closing: bool,
    /// Since when somebody waits for a message without a break.
    waiting_since: Option<Instant>,
    /// When the other side must have answered our close.
    close_deadline: Option<Instant>,
    timer: Pin<Box<Sleep>>,
    was_pinged: bool,
    stop: Option<LocalBoxFuture<'static, ()>>,
}

/// Runs an application's side of a socket from its first byte to its last.
pub(super) async fn converse<F, Talk>(
    io: Upgraded,
    limits: WebSocketLimits,
    stop: Stop,
    protocol: Option<String>,
    talk: F,
) where
    F: FnOnce(WebSocket) -> Talk,
    Talk: Future<Output = Result<(), WebSocketError>>,
{
    let shared = Rc::new(Shared::new(io, limits, stop.clone()));
    let mut talk = pin!(talk(WebSocket { shared: Rc::clone(&shared), protocol }));
    let too_late = async {
        stop.cancelled().await;
        tokio::time::sleep(CLOSE_TIMEOUT).await;
    };
    let code = tokio::select! {
        result = &mut talk => match result {
            Ok(()) | Err(WebSocketError::Closed) => close_code::NORMAL,
            Err(error) => {
                tracing::debug!(%error, "a WebSocket ended early");
                close_code::INTERNAL_ERROR
            }
        },
        () = too_late => close_code::GOING_AWAY,
    };
    shared.begin_close(code, "");
    // Whoever does not answer in time is dropped all the same.
    while let Ok(Some(_)) = poll_fn(|cx| shared.poll_recv(cx)).await {}
}

impl WebSocket {
    /// The next message; `None` once the socket is closed. Cancelling loses nothing, so it can stand in a `select!`.
    ///
    /// Receive all the time: pings are answered and sent, closes and the server's stop noticed, only meanwhile.
    ///
    /// # Errors
    /// The client is gone or silent, or what it sends is no WebSocket. Nothing more comes then.
    pub async fn recv(&mut self) -> Result<Option<Message>, WebSocketError> {
        let shared = &self.shared;
        let mut patience = Patience(shared);
        let received = poll_fn(|cx| patience.0.poll_recv(cx)).await;
        patience.end();
        received
    }

    /// Sends a message, waiting while the client is behind. Cancelling sends the whole message or nothing of it.
    ///
    /// # Errors
    /// The socket is closed, or the client is gone or takes nothing.
    pub async fn send(&mut self, message: impl Into<Message>) -> Result<(), WebSocketError> {
        self.shared.send(message.into()).await
    }

    /// Something that sends while this receives.
    pub fn sender(&self) -> WebSocketSender {
        WebSocketSender { shared: Rc::clone(&self.shared) }
    }

    /// Says goodbye and waits until the client did, at most [`CLOSE_TIMEOUT`]. Messages that come meanwhile are
    /// dropped. A reason is for developers, and is cut at 123 bytes.
    ///
    /// # Errors
    /// As [`WebSocket::recv`].
    pub async fn close(&mut self, code: u16, reason: &str) -> Result<(), WebSocketError> {
        self.shared.begin_close(code, reason);
        while self.recv().await?.is_some() {}
        Ok(())
    }

    /// How the client closed, once it has: with a code, if it gave one.
    ///
    /// ```
    /// use weaprous::prelude::*;
    /// use weaprous::websocket::{Closed, WebSocket, WebSocketError, WebSocketUpgrade, close_code};
    ///
    /// /// Hears whoever speaks the right protocol out, and says how they left.
    /// async fn listen(mut socket: WebSocket) -> Result<(), WebSocketError> {
    ///     if socket.protocol() != Some("chat.v1") {
    ///         return socket.close(close_code::POLICY, "speak chat.v1").await;
    ///     }
    ///     while socket.recv().await?.is_some() {}
    ///     if let Some(Closed { code, reason }) = socket.closed() {
    ///         println!("left with {code}, {reason}");
    ///     }
    ///     Ok(())
    /// }
    ///
    /// async fn chat(upgrade: WebSocketUpgrade) -> Response {
    ///     let upgrade = upgrade.allow_any_origin().protocols(["chat.v1"]);
    ///     println!("somebody wants to speak {:?}", upgrade.protocol());
    ///     upgrade.on_upgrade(listen)
    /// }
    /// App::new().route("/chat", [GET], chat);
    /// ```
    pub fn closed(&self) -> Option<Closed> {
        self.shared.inner.borrow().closed.clone()
    }

    /// The subprotocol that was agreed upon.
    pub fn protocol(&self) -> Option<&str> {
        self.protocol.as_deref()
    }
}

impl WebSocketSender {
    /// As [`WebSocket::send`].
    ///
    /// # Errors
    /// As [`WebSocket::send`].
    pub async fn send(&self, message: impl Into<Message>) -> Result<(), WebSocketError> {
        self.shared.send(message.into()).await
    }
}

/// Forgets since when somebody waited, also when the waiting is cancelled.
struct Patience<'a>(&'a Shared);

impl Patience<'_> {
    fn end(&mut self) {
        self.0.inner.borrow_mut().waiting_since = None;
    }
}

impl Drop for Patience<'_> {
    fn drop(&mut self) {
        self.end();
    }
}

impl Shared {
    fn new(io: Upgraded, limits: WebSocketLimits, stop: Stop) -> Self {
        let config = WebSocketConfig::default()
            .read_buffer_size(READ_BUFFER_BYTES)
            .write_buffer_size(WRITE_BUFFER_BYTES)
            .max_message_size(Some(limits.message_bytes_max))
            .max_frame_size(Some(limits.frame_bytes_max));
        let waiting = Arc::new(Waiting::default());
        let inner = Inner {
            fate: Fate::Alive,
            context: WebSocketContext::new(Role::Server, Some(config)),
            bridge: Bridge::new(io, &waiting),
            closed: None,
            is_closing: false,
            waiting_since: None,
            close_deadline: None,
            timer: Box::pin(tokio::time::sleep(limits.ping_after)),
            was_pinged: false,
            stop: Some(Box::pin(async move { stop.cancelled().await })),
        };
        Self { inner: RefCell::new(inner), waiting, limits }
    }

    /// Queues a close, which the next look at the socket sends.
    fn begin_close(&self, code: u16, reason: &str) {
        self.inner.borrow_mut().begin_close(code, reason);
    }

    async fn send(&self, message: Message) -> Result<(), WebSocketError> {
        let frame = match message {
            Message::Text(text) => Frame::text(text),
            Message::Binary(bytes) => Frame::binary(bytes),
        };
        self.flushed().await?; // one message at a time is in our memory
        self.inner.borrow_mut().write(frame)?;
        self.flushed().await
    }

    /// Waits until everything is with the system, as long as the client takes some of it.
    async fn flushed(&self) -> Result<(), WebSocketError> {
        self.inner.borrow_mut().bridge.sent_at = Instant::now();
        loop {
            let deadline = self.inner.borrow().bridge.sent_at + self.limits.write_timeout;
            let flush = poll_fn(|cx| self.poll_flush(cx));
            match tokio::time::timeout_at(deadline, flush).await {
                Ok(result) => return result,
                Err(_) if self.inner.borrow().bridge.sent_at + self.limits.write_timeout > Instant::now() => {}
                Err(_) => return Err(WebSocketError::TimedOut),
            }
        }
    }

    fn poll_flush(&self, cx: &mut Context<'_>) -> Poll<Result<(), WebSocketError>> {
        let inner = &mut *self.inner.borrow_mut();
        if inner.is_closing {
            return Poll::Ready(Err(WebSocketError::Closed));
        }
        self.waiting.join(cx.waker());
        match inner.context.flush(&mut inner.bridge) {
            Err(Error::Io(error)) if error.kind() == io::ErrorKind::WouldBlock => Poll::Pending,
            result => Poll::Ready(result.map_err(|error| broken(&error))),
        }
    }

    fn poll_recv(&self, cx: &mut Context<'_>) -> Poll<Result<Option<Message>, WebSocketError>> {
        let inner = &mut *self.inner.borrow_mut();
        if let Some(stop) = &mut inner.stop
            && stop.as_mut().poll(cx).is_ready()
        {
            inner.stop = None;
            inner.begin_close(close_code::GOING_AWAY, "the server stops");
        }
        self.waiting.join(cx.waker());
        match inner.fate {
            Fate::Alive => {}
            Fate::Broken => return inner.poll_drain(cx, &self.limits),
            Fate::Dead => return Poll::Ready(Err(WebSocketError::Gone)),
        }
        for _ in 0..FRAMES_PER_POLL_MAX {
            match inner.context.read(&mut inner.bridge) {
                Ok(Frame::Text(_) | Frame::Binary(_)) if inner.close_deadline.is_some() => {}
                Ok(Frame::Text(text)) => return Poll::Ready(Ok(Some(Message::Text(text.as_str().to_owned())))),
                Ok(Frame::Binary(bytes)) => return Poll::Ready(Ok(Some(Message::Binary(bytes)))),
                Ok(Frame::Close(frame)) => {
                    inner.is_closing = true;
                    inner.closed = frame.map(|CloseFrame { code, reason }| Closed {
                        code: code.into(),
                        reason: reason.as_str().to_owned(),
                    });
                }
                Ok(Frame::Ping(_) | Frame::Pong(_) | Frame::Frame(_)) => {}
                Err(Error::Io(error)) if error.kind() == io::ErrorKind::WouldBlock => {
                    return inner.poll_silence(cx, &self.limits);
                }
                Err(Error::ConnectionClosed | Error::AlreadyClosed) => {
                    inner.is_closing = true;
                    return Poll::Ready(Ok(None));
                }
                Err(error) => return Poll::Ready(inner.fail(&error)),
            }
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    }
}

impl Inner {
    fn write(&mut self, frame: Frame) -> Result<(), WebSocketError> {
        match self.context.write(&mut self.bridge, frame) {
            Err(Error::Io(error)) if error.kind() == io::ErrorKind::WouldBlock => Ok(()), // it is in the buffer
            result => result.map_err(|error| broken(&error)),
        }
    }

    fn begin_close(&mut self, code: u16, reason: &str) {
        if self.close_deadline.is_none() {
            self.close_deadline = Some(Instant::now() + CLOSE_TIMEOUT);
        }
        if std::mem::replace(&mut self.is_closing, true) {
            return;
        }
        let frame = CloseFrame { code: code.into(), reason: cut(reason).into() };
        // What cannot be sent now is sent with the next read; what cannot be sent at all shows there.
        let _ = self.context.close(&mut self.bridge, Some(frame));
        let _ = self.context.flush(&mut self.bridge);
    }

    /// Nothing came: time for a ping, or to give up?
    fn poll_silence(
        &mut self,
        cx: &mut Context<'_>,
        limits: &WebSocketLimits,
    ) -> Poll<Result<Option<Message>, WebSocketError>> {
        let now = Instant::now();
        let since = (*self.waiting_since.get_or_insert(now)).max(self.bridge.received_at);
        if since == self.bridge.received_at && since + limits.ping_after > now {
            self.was_pinged = false;
        }
        loop {
            let now = Instant::now();
            let deadline = match self.close_deadline {
                Some(deadline) => deadline,
                None if self.was_pinged => since + limits.idle_timeout,
                None => since + limits.ping_after.min(limits.idle_timeout),
            };
            if now >= deadline {
                if self.close_deadline.is_some() {
                    return Poll::Ready(Ok(None));
                }
                if self.was_pinged || limits.idle_timeout <= limits.ping_after {
                    self.die();
                    return Poll::Ready(Err(WebSocketError::TimedOut));
                }
                self.was_pinged = true;
                self.write(Frame::Ping(Bytes::new()))?;
                // What the socket does not take now, it takes with the next read.
                let _ = self.context.flush(&mut self.bridge);
                continue;
            }
            self.timer.as_mut().reset(deadline);
            if self.timer.as_mut().poll(cx).is_pending() {
                return Poll::Pending;
            }
        }
    }

    /// Tells the client what was wrong, as far as it can still be told.
    fn fail(&mut self, error: &Error) -> Result<Option<Message>, WebSocketError> {
        let (code, result) = match error {
            Error::Capacity(_) => (close_code::TOO_LARGE, WebSocketError::TooLarge),
            Error::Utf8(_) => (close_code::INVALID_DATA, WebSocketError::Malformed(error.to_string())),
            Error::Protocol(ProtocolError::ResetWithoutClosingHandshake) | Error::Io(_) => {
                self.die();
                return Err(broken(error));
            }
            _ => (close_code::PROTOCOL_ERROR, WebSocketError::Malformed(error.to_string())),
        };
        self.begin_close(code, "");
        self.fate = Fate::Broken;
        Err(result)
    }

    fn die(&mut self) {
        self.is_closing = true;
        self.fate = Fate::Dead;
    }

    /// Reads and forgets until the client has closed, or its time is over: closing on unread bytes would take our
    /// close frame away from it.
    fn poll_drain(
        &mut self,
        cx: &mut Context<'_>,
        limits: &WebSocketLimits,
    ) -> Poll<Result<Option<Message>, WebSocketError>> {
        let _ = self.context.flush(&mut self.bridge); // the close may still be waiting
        let mut scrap = [0; READ_BUFFER_BYTES];
        for _ in 0..FRAMES_PER_POLL_MAX {
            match self.bridge.read(&mut scrap) {
                Ok(0) => return Poll::Ready(Ok(None)),
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return self.poll_silence(cx, limits),
                Err(_) => return Poll::Ready(Ok(None)),
            }
        }
        if self.close_deadline.is_some_and(|deadline| Instant::now() >= deadline) {
            return Poll::Ready(Ok(None));
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    }
}

fn broken(error: &Error) -> WebSocketError {
    match error {
        Error::ConnectionClosed
        | Error::AlreadyClosed
        | Error::Protocol(ProtocolError::SendAfterClosing | ProtocolError::ReceivedAfterClosing) => {
            WebSocketError::Closed
        }
        Error::Protocol(ProtocolError::ResetWithoutClosingHandshake) => WebSocketError::Gone,
        Error::Io(error) => match error.kind() {
            io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionReset | io::ErrorKind::UnexpectedEof => {
                WebSocketError::Gone
            }
            kind => WebSocketError::Io(kind.into()),
        },
        other => WebSocketError::Malformed(other.to_string()),
    }
}

/// Longest reason that fits into a close frame (RFC 6455 §5.5).
const REASON_BYTES_MAX: usize = 123;

fn cut(reason: &str) -> &str {
    &reason[..reason.floor_char_boundary(REASON_BYTES_MAX)]
}

impl fmt::Debug for WebSocket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WebSocket").field("protocol", &self.protocol).finish_non_exhaustive()
    }
}

impl fmt::Debug for WebSocketSender {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WebSocketSender").finish_non_exhaustive()
    }
}
