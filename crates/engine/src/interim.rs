//! What a service says before its answer: early hints (103, RFC 8297), so that a browser fetches what it will need while
//! the answer is still being made.
//!
//! ```text
//!   service ── EarlyHints::send ──▶ HTTP/2: the stream itself
//!                                └▶ HTTP/1.1: bytes that wait at the connection until its task has seen that the
//!                                   service is not ready; gone with the request they were for
//! ```

use crate::{Fields, Peer, RequestHead, Version};
use bytes::Bytes;
use h2::server::SendResponse;
use http1::{Framing, ResponseSpec, StatusCode};
use std::cell::{Cell, RefCell};
use std::fmt;
use std::rc::Rc;

/// Bytes of hints that wait for one connection; what goes beyond is not said, which harms nobody.
const WAITING_BYTES_MAX: usize = 64 * 1024;

/// Says hints before the answer to one request. Clones say them for the same one; after the answer nothing is said.
#[derive(Clone)]
pub struct EarlyHints(Outlet);

#[derive(Clone)]
enum Outlet {
    Http1 { peer: Rc<Peer>, exchange: u32 },
    Http2(Stream),
}

/// An answer's stream, before the answer.
type Stream = Rc<RefCell<SendResponse<Bytes>>>;

/// Where hints for one request go: kept when a request is taken apart, see [`Request::into_parts`](crate::Request).
#[derive(Default)]
pub struct Hinting(Option<Stream>);

impl Hinting {
    pub(crate) fn by(stream: Stream) -> Self {
        Self(Some(stream))
    }

    /// A way to say hints before the answer to this request; `None` where its client could not read them (HTTP/1.0).
    pub fn open(&self, head: &RequestHead, peer: &Rc<Peer>) -> Option<EarlyHints> {
        if let Some(stream) = &self.0 {
            return Some(EarlyHints(Outlet::Http2(Rc::clone(stream))));
        }
        if head.version() == Version::Http10 {
            return None;
        }
        let exchange = peer.hints.open();
        Some(EarlyHints(Outlet::Http1 { peer: Rc::clone(peer), exchange }))
    }
}

impl EarlyHints {
    /// Says that the answer will probably have these fields, `Link` above all. Fields of the connection and the content
    /// have no place here and are left out.
    pub fn send(&self, fields: &Fields) {
        match &self.0 {
            Outlet::Http1 { peer, exchange } => peer.hints.add(*exchange, fields),
            Outlet::Http2(stream) => {
                let mut head = http::Response::new(());
                *head.status_mut() = http::StatusCode::EARLY_HINTS;
                crate::h2::head::copy_fields(fields, head.headers_mut());
                // Whoever has left, or has the answer already, needs no hint.
                let _ = stream.borrow_mut().send_informational(head);
            }
        }
    }

    /// Whether the client speaks HTTP/2, where hints are known to be understood.
    pub fn is_http2(&self) -> bool {
        matches!(self.0, Outlet::Http2(_))
    }
}

impl fmt::Debug for EarlyHints {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EarlyHints").field("is_http2", &self.is_http2()).finish()
    }
}

impl fmt::Debug for Hinting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Hinting").finish_non_exhaustive()
    }
}

/// Hints that wait at an HTTP/1.1 connection.
#[derive(Debug, Clone, Default)]
pub(crate) struct Waiting {
    /// Whether anybody may say hints, or did.
    is_open: Cell<bool>,
    /// Which request they are for.
    exchange: Cell<u32>,
    bytes: RefCell<Vec<u8>>,
}

impl Waiting {
    /// Another request begins: what was said for the one before is not said any more.
    #[inline]
    pub(crate) fn begin(&self) {
        if self.is_open.replace(false) {
            self.exchange.set(self.exchange.get().wrapping_add(1));
            self.bytes.borrow_mut().clear();
        }
    }

    fn open(&self) -> u32 {
        self.is_open.set(true);
        self.exchange.get()
    }

    fn add(&self, exchange: u32, fields: &Fields) {
        let bytes = &mut *self.bytes.borrow_mut();
        if !self.is_open.get() || exchange != self.exchange.get() {
            return;
        }
        let before = bytes.len();
        let spec = ResponseSpec {
            request_method: http1::Method::Get,
            request_version: Version::Http11,
            status: StatusCode::EARLY_HINTS,
            fields,
            framing: Framing::None,
            keep_alive: true,
            date: None,
        };
        http1::write_response_head(bytes, &spec);
        if bytes.len() > WAITING_BYTES_MAX {
            bytes.truncate(before);
        }
    }

    /// Whether there is something to say.
    #[inline]
    pub(crate) fn is_waiting(&self) -> bool {
        self.is_open.get() && !self.bytes.borrow().is_empty()
    }

    /// Appends what there is to say to `output`.
    pub(crate) fn take(&self, output: &mut Vec<u8>) {
        output.append(&mut self.bytes.borrow_mut());
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn hints_are_for_one_request_and_have_an_end() {
        let waiting = Waiting::default();
        let mut fields = Fields::new();
        fields.append("link", "</a.css>; rel=preload").unwrap();
        fields.append("connection", "close").unwrap();
        fields.append("content-length", "5").unwrap();
        waiting.begin();
        waiting.add(0, &fields);
        assert!(!waiting.is_waiting(), "nobody asked");
        let first = waiting.open();
        waiting.add(first, &fields);
        let mut output = b"before ".to_vec();
        assert!(waiting.is_waiting());
        waiting.take(&mut output);
        assert_eq!(
            String::from_utf8(output).unwrap(),
            "before HTTP/1.1 103 Early Hints\r\nlink: </a.css>; rel=preload\r\n\r\n"
        );
        waiting.add(first, &fields);
        waiting.begin();
        assert!(!waiting.is_waiting(), "what was left is for nobody");
        let second = waiting.open();
        waiting.add(first, &fields);
        assert!(!waiting.is_waiting(), "it is for a request that is over");
        (0..100_000).for_each(|_| waiting.add(second, &fields));
        assert!(waiting.bytes.borrow().len() <= WAITING_BYTES_MAX);
    }
}
