//! The relay: two devices that cannot reach each other meet here, and their streams are joined.
//!
//! ```text
//! caller  GET /api/v1/relay/{device} ── waits ──────────────┐ 101 ┌── bytes ──┐
//!                 │ event `relay` {token, from}             │     │           │
//! target          └─▶ GET /api/v1/relay/accept/{token} ── 101 ────┴── bytes ──┘
//! ```
//!
//! The tracker sees ciphertext only: the devices speak TLS with each other through it.

use crate::metrics::Counter;
use chat::{DeviceId, UserName};
use engine::Upgraded;
use std::cell::Cell;
use std::collections::HashMap;
use std::io;
use std::pin::{Pin, pin};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, DuplexStream, ReadBuf};
use tokio::sync::oneshot;
use tokio::time::Instant;
use weaprous::Stop;

/// The protocol that both sides switch to.
pub(crate) const RELAY_PROTOCOL: &str = "weaprous-relay/1";
/// Callers that may wait for one device.
const WAITING_PER_DEVICE_MAX: usize = 8;
/// Callers that may wait in all.
const WAITING_MAX: usize = 1024;
/// Streams one device may have open, as caller or as target.
const OPEN_PER_DEVICE_MAX: usize = 64;
/// Streams open in all: each holds two sockets and two buffers.
const OPEN_MAX: usize = 4096;
/// Bytes under way between the workers of the two ends, each way.
const BRIDGE_BYTES: usize = 16 * 1024;
/// How long one side's socket is waited for after both have agreed.
const SWITCH_WAIT: Duration = Duration::from_secs(5);

/// Why no stream is joined.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum RelayError {
    #[error("too many wait for this device already")]
    Crowded,
    #[error("too many relayed streams are open")]
    Full,
    #[error("nobody waits under this token; it was used, or the caller has left")]
    Unknown,
}

/// Who waits, and how many streams are open.
#[derive(Default)]
pub(crate) struct Relays(Mutex<Inner>);

#[derive(Default)]
struct Inner {
    waiting: HashMap<String, Waiting>,
    open: HashMap<DeviceId, usize>,
    open_all: usize,
}

struct Waiting {
    target: DeviceId,
    user: UserName,
    answer: oneshot::Sender<oneshot::Receiver<Brought>>,
}

/// A caller's place; given up when dropped.
pub(crate) struct Place<'a> {
    relays: &'a Relays,
    token: String,
    /// Resolves when the target has come, with what will bring its stream.
    pub(crate) answer: oneshot::Receiver<oneshot::Receiver<Brought>>,
}

impl Relays {
    /// Takes a place under an unguessable token.
    pub(crate) fn wait(&self, token: String, target: DeviceId, user: UserName) -> Result<Place<'_>, RelayError> {
        let mut inner = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let waiting_for_it = inner.waiting.values().filter(|waiting| waiting.target == target).count();
        if waiting_for_it >= WAITING_PER_DEVICE_MAX || inner.waiting.len() >= WAITING_MAX {
            return Err(RelayError::Crowded);
        }
        let (sender, answer) = oneshot::channel();
        inner.waiting.insert(token.clone(), Waiting { target, user, answer: sender });
        Ok(Place { relays: self, token, answer })
    }

    /// Answers a caller: what comes back takes the target's stream. The token is used up.
    pub(crate) fn accept(
        &self,
        token: &str,
        user: &UserName,
        device: &DeviceId,
    ) -> Result<oneshot::Sender<Brought>, RelayError> {
        let mut inner = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let meant = inner.waiting.get(token).is_some_and(|it| it.user == *user && it.target == *device);
        let waiting = if meant { inner.waiting.remove(token) } else { None };
        let (stream, brings) = oneshot::channel();
        match waiting.map(|waiting| waiting.answer.send(brings)) {
            Some(Ok(())) => Ok(stream),
            Some(Err(_)) | None => Err(RelayError::Unknown),
        }
    }

    /// Counts a stream between two devices until the result is dropped.
    pub(crate) fn open(self: &Arc<Self>, devices: [DeviceId; 2]) -> Result<OpenStream, RelayError> {
        let mut inner = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let full = |device: &DeviceId| inner.open.get(device).is_some_and(|open| *open >= OPEN_PER_DEVICE_MAX);
        if inner.open_all >= OPEN_MAX || devices.iter().any(full) {
            return Err(RelayError::Full);
        }
        inner.open_all += 1;
        for device in devices {
            *inner.open.entry(device).or_default() += 1;
        }
        Ok(OpenStream { relays: Arc::clone(self), devices })
    }

    pub(crate) fn open_count(&self) -> usize {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).open_all
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        self.relays.0.lock().unwrap_or_else(PoisonError::into_inner).waiting.remove(&self.token);
    }
}

/// A stream that is counted as open.
pub(crate) struct OpenStream {
    relays: Arc<Relays>,
    devices: [DeviceId; 2],
}

impl Drop for OpenStream {
    fn drop(&mut self) {
        let mut inner = self.relays.0.lock().unwrap_or_else(PoisonError::into_inner);
        inner.open_all -= 1;
        for device in self.devices {
            if let Some(open) = inner.open.get_mut(&device) {
                *open -= 1;
                if *open == 0 {
                    inner.open.remove(&device);
                }
            }
        }
    }
}

/// A target's stream on its way to the caller, which another worker may look after: the socket itself stays on the
/// worker that accepted it.
pub(crate) struct Brought {
    stream: DuplexStream,
    /// Dropped when the streams are no longer joined.
    _joined: oneshot::Sender<()>,
}

/// Brings a target's stream to its caller, until one of them ends.
pub(crate) async fn bring(mut target: Upgraded, caller: oneshot::Sender<Brought>) {
    let (mut near, far) = tokio::io::duplex(BRIDGE_BYTES);
    let (joined, is_over) = oneshot::channel();
    if caller.send(Brought { stream: far, _joined: joined }).is_err() {
        return; // it left meanwhile
    }
    // How it ends is seen by the one who joins both.
    let mut copying = pin!(tokio::io::copy_bidirectional(&mut target, &mut near));
    tokio::select! {
        _ = &mut copying => {}
        _ = is_over => drop(tokio::time::timeout(SWITCH_WAIT, copying).await), // what is under way still arrives
    }
}

/// Joins a caller's stream with the one that `brings` will give, until one side ends both ways, nothing has come for
/// `idle`, or the server stops.
pub(crate) async fn join(
    caller: Upgraded,
    brings: oneshot::Receiver<Brought>,
    idle: Duration,
    bytes: &Counter,
    stop: Stop,
) {
    let Ok(Ok(target)) = tokio::time::timeout(SWITCH_WAIT, brings).await else { return };
    let last = Cell::new(Instant::now());
    let mut caller = Metered { stream: caller, bytes, last: &last };
    let Brought { stream, _joined } = target;
    let mut target = Metered { stream, bytes, last: &last };
    tokio::select! {
        ended = tokio::io::copy_bidirectional(&mut caller, &mut target) => {
            if let Err(error) = ended {
                tracing::debug!(%error, "a relayed stream broke");
            }
        }
        () = silence(&last, idle) => tracing::debug!("a relayed stream was idle for too long"),
        () = stop.cancelled() => {}
    }
}

/// Returns when nothing has been read for `idle`.
async fn silence(last: &Cell<Instant>, idle: Duration) {
    loop {
        let until = last.get() + idle;
        if until <= Instant::now() {
            return;
        }
        tokio::time::sleep_until(until).await;
    }
}

/// Counts what is read, and notes when.
struct Metered<'a, S> {
    stream: S,
    bytes: &'a Counter,
    last: &'a Cell<Instant>,
}

impl<S: AsyncRead + Unpin> AsyncRead for Metered<'_, S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        let polled = Pin::new(&mut self.stream).poll_read(cx, buf);
        let read = buf.filled().len() - before;
        if read > 0 {
            self.bytes.add(read as u64);
            self.last.set(Instant::now());
        }
        polled
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Metered<'_, S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
