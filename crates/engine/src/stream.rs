//! What carries the bytes of one connection.

use crate::server::Socket;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio_rustls::client::TlsStream;

/// A byte stream of another layer, such as TLS.
pub(crate) trait Transport: AsyncRead + AsyncWrite + Unpin + 'static {}

impl<T: AsyncRead + AsyncWrite + Unpin + 'static> Transport for T {}

/// What carries the bytes of one connection.
pub(crate) enum Stream {
    /// A socket of a worker's reactor: an accepted one, or a client's on a worker.
    Plain(Socket),
    /// A socket of the runtime: a client's elsewhere.
    Tokio(TcpStream),
    /// TLS around a socket of the runtime: a client's.
    SecureTokio(Box<TlsStream<TcpStream>>),
    /// Something around a socket.
    Secure(Box<dyn Transport>),
}

impl Stream {
    /// Closes it so that the other side sees a failure instead of an end.
    pub(crate) fn reset(self) {
        match self {
            Self::Plain(socket) => socket.reset(),
            // Without the option the other side sees a short message: nothing better is left to do.
            Self::Tokio(socket) => drop(socket2::SockRef::from(&socket).set_linger(Some(Duration::ZERO))),
            // The layer says by itself what a proper end is.
            Self::SecureTokio(_) | Self::Secure(_) => {}
        }
    }
}

impl std::fmt::Debug for Stream {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Plain(_) => "Plain",
            Self::Tokio(_) => "Tokio",
            Self::SecureTokio(_) | Self::Secure(_) => "Secure",
        })
    }
}

impl AsyncRead for Stream {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(socket) => Pin::new(socket).poll_read(cx, buf),
            Self::Tokio(socket) => Pin::new(socket).poll_read(cx, buf),
            Self::SecureTokio(stream) => Pin::new(stream).poll_read(cx, buf),
            Self::Secure(stream) => Pin::new(stream).poll_read(cx, buf),
        }
    }
}

impl AsyncWrite for Stream {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Plain(socket) => Pin::new(socket).poll_write(cx, bytes),
            Self::Tokio(socket) => Pin::new(socket).poll_write(cx, bytes),
            Self::SecureTokio(stream) => Pin::new(stream).poll_write(cx, bytes),
            Self::Secure(stream) => Pin::new(stream).poll_write(cx, bytes),
        }
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Plain(socket) => Pin::new(socket).poll_write_vectored(cx, slices),
            Self::Tokio(socket) => Pin::new(socket).poll_write_vectored(cx, slices),
            Self::SecureTokio(stream) => Pin::new(stream).poll_write_vectored(cx, slices),
            Self::Secure(stream) => Pin::new(stream).poll_write_vectored(cx, slices),
        }
    }

    fn is_write_vectored(&self) -> bool {
        match self {
            Self::Plain(socket) => socket.is_write_vectored(),
            Self::Tokio(socket) => socket.is_write_vectored(),
            Self::SecureTokio(stream) => stream.is_write_vectored(),
            Self::Secure(stream) => stream.is_write_vectored(),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(socket) => Pin::new(socket).poll_flush(cx),
            Self::Tokio(socket) => Pin::new(socket).poll_flush(cx),
            Self::SecureTokio(stream) => Pin::new(stream).poll_flush(cx),
            Self::Secure(stream) => Pin::new(stream).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(socket) => Pin::new(socket).poll_shutdown(cx),
            Self::Tokio(socket) => Pin::new(socket).poll_shutdown(cx),
            Self::SecureTokio(stream) => Pin::new(stream).poll_shutdown(cx),
            Self::Secure(stream) => Pin::new(stream).poll_shutdown(cx),
        }
    }
}
