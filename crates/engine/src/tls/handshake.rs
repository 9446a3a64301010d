//! The handshake, within a deadline.

use super::{ALPN_H2, Tls, TlsInfo};
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, ReadBuf};
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

/// A connection, what the handshake said, and which protocol follows.
pub(super) struct Handshaken<IO> {
    pub(super) stream: TlsStream<Begun<IO>>,
    pub(super) info: TlsInfo,
    pub(super) is_http2: bool,
}

/// Bytes of records that may wait for the socket, in either direction, per connection.
const BUFFER_BYTES_MAX: usize = 64 * 1024;
/// How every TLS connection begins: the type of a handshake record (RFC 8446 §5.1).
const HANDSHAKE_RECORD: u8 = 0x16;

/// The answer to somebody who speaks plain HTTP: browsers show it, and people know what to type.
const PLAIN_HTTP: &[u8] = b"HTTP/1.1 400 Bad Request\r\ncontent-type: text/plain; charset=utf-8\r\n\
    content-length: 52\r\nconnection: close\r\n\r\n400 Bad Request: this port speaks TLS; use https://\n";

/// Shakes hands, or gives up after `patience`.
pub(super) async fn handshake<IO>(tls: &Tls, io: IO, patience: Duration) -> io::Result<Handshaken<IO>>
where
    IO: AsyncRead + AsyncWrite + Unpin,
{
    timeout(patience, shake(tls, io)).await.map_err(|_| io::Error::from(io::ErrorKind::TimedOut))?
}

async fn shake<IO>(tls: &Tls, mut io: IO) -> io::Result<Handshaken<IO>>
where
    IO: AsyncRead + AsyncWrite + Unpin,
{
    let mut first = [0];
    io.read_exact(&mut first).await?;
    let [first] = first;
    if first != HANDSHAKE_RECORD {
        if first.is_ascii_uppercase() {
            explain(&mut io).await?;
        }
        return Err(io::Error::new(io::ErrorKind::InvalidData, "no TLS"));
    }
    let snapshot = tls.snapshot();
    let acceptor = TlsAcceptor::from(snapshot.config.clone());
    let io = Begun { first: Some(first), io };
    let stream = acceptor.accept_with(io, |connection| connection.set_buffer_limit(Some(BUFFER_BYTES_MAX))).await?;
    let info = TlsInfo::new(stream.get_ref().1, snapshot);
    let is_http2 = info.alpn.as_deref() == Some(ALPN_H2);
    Ok(Handshaken { stream, info, is_http2 })
}

/// Tells a client without TLS what is wrong, and reads its request away, so that the answer is not lost with it.
async fn explain<IO: AsyncRead + AsyncWrite + Unpin>(io: &mut IO) -> io::Result<()> {
    io.write_all(PLAIN_HTTP).await?;
    io.shutdown().await?;
    let mut rest = [0; 4096];
    // One read suffices for the head of any browser; whoever sends more gets a reset.
    io.read(&mut rest).await.map(drop)
}

/// A connection whose first byte was looked at.
pub(super) struct Begun<IO> {
    first: Option<u8>,
    io: IO,
}

impl<IO: AsyncRead + Unpin> AsyncRead for Begun<IO> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if self.first.is_some() && buf.remaining() > 0 {
            buf.put_slice(self.first.take().as_slice());
            return Poll::Ready(Ok(()));
        }
        Pin::new(&mut self.io).poll_read(cx, buf)
    }
}

impl<IO: AsyncWrite + Unpin> AsyncWrite for Begun<IO> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write_vectored(cx, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }
}
