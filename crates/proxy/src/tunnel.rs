//! After a 101: bytes in both directions until one side is done.
//!
//! Never looks at the bytes. A side that only stops sending is told on to the other, which may go on.

use std::cell::Cell;
use std::io;
use std::time::Duration;

use engine::Stop;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, split};
use tokio::time::{Instant, sleep_until};

/// Bytes in flight per direction.
const BUFFER_BYTES: usize = 16 * 1024;

/// Carries bytes both ways until both sides have ended, one fails, nothing moves for `idle_timeout`, or `stop` fires.
///
/// # Errors
/// One side failed: the other is to see that what it has is not all.
pub(crate) async fn splice<A, B>(client: A, upstream: B, idle_timeout: Duration, stop: &Stop) -> io::Result<()>
where
    A: AsyncRead + AsyncWrite + Unpin,
    B: AsyncRead + AsyncWrite + Unpin,
{
    let moved = Cell::new(Instant::now());
    let (client_read, client_write) = split(client);
    let (upstream_read, upstream_write) = split(upstream);
    let both = async {
        tokio::try_join!(pump(client_read, upstream_write, &moved), pump(upstream_read, client_write, &moved))
    };
    tokio::select! {
        ended = both => {
            ended.inspect_err(|error| tracing::debug!(%error, "tunnel broke"))?;
        }
        () = idle(&moved, idle_timeout) => tracing::debug!("tunnel closed after long silence"),
        () = stop.cancelled() => {}
    }
    Ok(())
}

/// Copies until the end of `from`, then ends `to`.
async fn pump(
    mut from: impl AsyncRead + Unpin,
    mut to: impl AsyncWrite + Unpin,
    moved: &Cell<Instant>,
) -> io::Result<()> {
    let mut buffer = vec![0; BUFFER_BYTES];
    loop {
        let count = from.read(&mut buffer).await?;
        moved.set(Instant::now());
        if count == 0 {
            return to.shutdown().await;
        }
        to.write_all(&buffer[..count]).await?;
    }
}

/// Returns when nothing has moved for so long.
async fn idle(moved: &Cell<Instant>, timeout: Duration) {
    loop {
        let deadline = moved.get() + timeout;
        if Instant::now() >= deadline {
            return;
        }
        sleep_until(deadline).await;
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use std::pin::Pin;
    use std::task::{Context, Poll, ready};
    use tokio::io::ReadBuf;

    fn run(test: impl Future<Output = ()>) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        runtime.block_on(async { tokio::time::timeout(Duration::from_secs(10), test).await.unwrap() });
    }

    #[test]
    fn a_side_that_stops_sending_still_receives() {
        run(async {
            let (mut client, near) = tokio::io::duplex(64);
            let (mut upstream, far) = tokio::io::duplex(64);
            let stop = Stop::new();
            let talk = async {
                client.write_all(b"question").await.unwrap();
                client.shutdown().await.unwrap();
                let mut heard = String::new();
                upstream.read_to_string(&mut heard).await.unwrap();
                assert_eq!(heard, "question");
                upstream.write_all(b"answer").await.unwrap();
                upstream.shutdown().await.unwrap();
                heard.clear();
                client.read_to_string(&mut heard).await.unwrap();
                assert_eq!(heard, "answer");
            };
            tokio::join!(splice(near, far, Duration::from_hours(1), &stop), talk).0.unwrap();
        });
    }

    #[test]
    fn a_side_that_fails_is_told() {
        run(async {
            let (_client, near) = tokio::io::duplex(64);
            let (mut upstream, far) = tokio::io::duplex(64);
            let far = Failing(far);
            upstream.write_all(b"x").await.unwrap();
            let ended = splice(near, far, Duration::from_hours(1), &Stop::new()).await;
            assert_eq!(ended.unwrap_err().kind(), io::ErrorKind::ConnectionReset);
        });
    }

    /// Fails when something is read.
    struct Failing(tokio::io::DuplexStream);

    impl AsyncRead for Failing {
        fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
            ready!(Pin::new(&mut self.0).poll_read(cx, buf))?;
            Poll::Ready(Err(io::ErrorKind::ConnectionReset.into()))
        }
    }

    impl AsyncWrite for Failing {
        fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
            Pin::new(&mut self.0).poll_write(cx, bytes)
        }

        fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
            Pin::new(&mut self.0).poll_flush(cx)
        }

        fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
            Pin::new(&mut self.0).poll_shutdown(cx)
        }
    }

    #[test]
    fn silence_ends_both_sides() {
        run(async {
            let (mut client, near) = tokio::io::duplex(64);
            let (mut upstream, far) = tokio::io::duplex(64);
            splice(near, far, Duration::from_millis(20), &Stop::new()).await.unwrap();
            assert_eq!(client.read(&mut [0]).await.unwrap(), 0);
            assert_eq!(upstream.read(&mut [0]).await.unwrap(), 0);
        });
    }

    #[test]
    fn a_stop_ends_both_sides() {
        run(async {
            let (mut client, near) = tokio::io::duplex(64);
            let (mut upstream, far) = tokio::io::duplex(64);
            let stop = Stop::new();
            stop.cancel();
            splice(near, far, Duration::from_hours(1), &stop).await.unwrap();
            assert_eq!(client.read(&mut [0]).await.unwrap(), 0);
            assert_eq!(upstream.read(&mut [0]).await.unwrap(), 0);
        });
    }
}
