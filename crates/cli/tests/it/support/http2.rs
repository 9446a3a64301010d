//! A client that speaks HTTP/2 over TLS: one connection, many requests, answers whole or as they come.

use bytes::Bytes;
use h2::client::SendRequest;
use http::HeaderMap;
use rustls::pki_types::{CertificateDer, ServerName};
use std::net::SocketAddr;
use std::time::Duration;
use tokio::task::JoinHandle;
use tokio::time::timeout;

/// How long any single thing may take. Far above what is needed: it ends a broken run, it measures nothing.
const PATIENCE: Duration = Duration::from_secs(30);

/// One connection.
pub(crate) struct Http2 {
    sender: SendRequest<Bytes>,
    authority: String,
    driver: JoinHandle<()>,
}

impl Http2 {
    /// Connects to `localhost` at this address; the server must choose HTTP/2.
    pub(crate) async fn connect(authority: &CertificateDer<'_>, addr: SocketAddr) -> Self {
        let socket = tokio::net::TcpStream::connect(addr).await.unwrap();
        let connector = tokio_rustls::TlsConnector::from(testkit::tls::client(authority, b"h2"));
        let stream = connector.connect(ServerName::try_from("localhost").unwrap(), socket).await.unwrap();
        assert_eq!(stream.get_ref().1.alpn_protocol(), Some(&b"h2"[..]));
        let (sender, connection) = h2::client::handshake(stream).await.unwrap();
        let driver = tokio::spawn(async move {
            let _ = connection.await; // tests look at what their streams say
        });
        Self { sender, authority: format!("localhost:{}", addr.port()), driver }
    }

    /// Sends a request and waits for the head of its answer.
    pub(crate) async fn ask(&self, method: &str, path: &str, fields: &[(&str, &str)], body: &str) -> Answer {
        let mut request = http::Request::builder().method(method).uri(format!("https://{}{path}", self.authority));
        for (name, value) in fields {
            request = request.header(*name, *value);
        }
        let mut sender = self.sender.clone().ready().await.unwrap();
        let (answer, mut content) = sender.send_request(request.body(()).unwrap(), body.is_empty()).unwrap();
        if !body.is_empty() {
            content.send_data(Bytes::copy_from_slice(body.as_bytes()), true).unwrap();
        }
        let answer = timeout(PATIENCE, answer).await.unwrap_or_else(|_| panic!("no answer to {method} {path}"));
        let (head, content) = answer.unwrap().into_parts();
        Answer { status: head.status.as_u16(), fields: head.headers, content, received: Vec::new() }
    }
}

impl Drop for Http2 {
    fn drop(&mut self) {
        self.driver.abort();
    }
}

/// An answer whose content may still be coming.
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) fields: HeaderMap,
    content: h2::RecvStream,
    received: Vec<u8>,
}

impl Answer {
    /// Status and the whole content.
    pub(crate) async fn text(mut self) -> (u16, String) {
        while self.receive().await {}
        (self.status, String::from_utf8(self.received).unwrap())
    }

    /// Reads on until the content holds `part` behind what was seen before.
    pub(crate) async fn sees(&mut self, part: &str) {
        loop {
            let text = String::from_utf8_lossy(&self.received).into_owned();
            if let Some(at) = text.find(part) {
                self.received.drain(..at + part.len());
                return;
            }
            assert!(self.receive().await, "the content ends without {part:?}: {text}");
        }
    }

    /// Whether there was more.
    async fn receive(&mut self) -> bool {
        let Some(chunk) = timeout(PATIENCE, self.content.data()).await.expect("something in time") else {
            return false;
        };
        let chunk = chunk.unwrap();
        self.content.flow_control().release_capacity(chunk.len()).unwrap();
        self.received.extend_from_slice(&chunk);
        true
    }
}
