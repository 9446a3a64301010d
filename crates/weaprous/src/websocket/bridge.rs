//! The framing layer reads and writes blockingly; this lets it do so on a stream that never blocks.

use engine::Upgraded;
use std::io::{self, Read, Write};
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, Wake, Waker};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::Instant;

/// The stream, and when bytes last went either way. Where it would wait it says so by `WouldBlock`.
pub(super) struct Bridge {
    io: Upgraded,
    waker: Waker,
    pub(super) received_at: Instant,
    pub(super) sent_at: Instant,
}

/// Everybody who waits for the stream: one receives, several may send.
#[derive(Default)]
pub(super) struct Waiting(Mutex<Vec<Waker>>);

impl Waiting {
    /// Wakes this task when the stream has something new.
    pub(super) fn join(&self, waker: &Waker) {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if !all.iter().any(|known| known.will_wake(waker)) {
            all.push(waker.clone());
        }
    }
}

impl Wake for Waiting {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        let all = std::mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner));
        all.into_iter().for_each(Waker::wake);
    }
}

impl Bridge {
    pub(super) fn new(io: Upgraded, waiting: &Arc<Waiting>) -> Self {
        let now = Instant::now();
        Self { io, waker: Waker::from(Arc::clone(waiting)), received_at: now, sent_at: now }
    }
}

impl Read for Bridge {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let mut buf = ReadBuf::new(buf);
        match Pin::new(&mut self.io).poll_read(&mut Context::from_waker(&self.waker), &mut buf) {
            Poll::Ready(result) => {
                result?;
                self.received_at = Instant::now();
                Ok(buf.filled().len())
            }
            Poll::Pending => Err(io::ErrorKind::WouldBlock.into()),
        }
    }
}

impl Write for Bridge {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        match Pin::new(&mut self.io).poll_write(&mut Context::from_waker(&self.waker), buf) {
            Poll::Ready(result) => {
                self.sent_at = Instant::now();
                result
            }
            Poll::Pending => Err(io::ErrorKind::WouldBlock.into()),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match Pin::new(&mut self.io).poll_flush(&mut Context::from_waker(&self.waker)) {
            Poll::Ready(result) => result,
            Poll::Pending => Err(io::ErrorKind::WouldBlock.into()),
        }
    }
}
