//! The handshake, within a deadline.

use super::{ALPN_H2, Tls, TlsInfo};
use std::io;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt as _};
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;

/// A connection after its handshake.
pub(super) type TlsStream<IO> = tokio_rustls::server::TlsStream<IO>;

/// A connection, what the handshake said, and which protocol follows.
pub(super) struct Handshaken<IO> {
    pub(super) stream: TlsStream<IO>,
    pub(super) info: TlsInfo,
    pub(super) is_http2: bool,
}

/// Bytes of records that may wait for the socket, in either direction, per connection.
const BUFFER_BYTES_MAX: usize = 64 * 1024;

/// The answer to somebody who speaks plain HTTP: browsers show it, and people know what to type.
const PLAIN_HTTP: &[u8] = b"HTTP/1.1 400 Bad Request\r\ncontent-type: text/plain; charset=utf-8\r\n\
    content-length: 51\r\nconnection: close\r\n\r\n400 Bad Request: this port speaks TLS; use https://";

/// Shakes hands, or gives up after `patience`.
pub(super) async fn handshake<IO>(tls: &Tls, io: IO, patience: Duration) -> io::Result<Handshaken<IO>>
where
    IO: AsyncRead + AsyncWrite + Unpin,
{
    let snapshot = tls.snapshot();
    let acceptor = TlsAcceptor::from(snapshot.config.clone());
    let accepting = acceptor.accept_with(io, |connection| connection.set_buffer_limit(Some(BUFFER_BYTES_MAX)));
    let stream = match timeout(patience, accepting.into_fallible()).await {
        Ok(Ok(stream)) => stream,
        Ok(Err((error, io))) => {
            explain(&error, io, patience).await;
            return Err(error);
        }
        Err(_) => return Err(io::ErrorKind::TimedOut.into()),
    };
    let info = TlsInfo::new(stream.get_ref().1, snapshot);
    let is_http2 = info.alpn.as_deref() == Some(ALPN_H2);
    Ok(Handshaken { stream, info, is_http2 })
}

/// Tells a client without TLS what is wrong; others have got their alert.
async fn explain<IO: AsyncRead + AsyncWrite + Unpin>(error: &io::Error, mut io: IO, patience: Duration) {
    let inner = error.get_ref().and_then(|error| error.downcast_ref::<rustls::Error>());
    let is_no_tls = matches!(inner, Some(rustls::Error::InvalidMessage(rustls::InvalidMessage::InvalidContentType)));
    if is_no_tls {
        // Who does not take it, does not want it.
        let _ = timeout(patience, async {
            io.write_all(PLAIN_HTTP).await?;
            io.shutdown().await
        })
        .await;
    }
}
