//! Turns received bytes into events, one message after the other.

use crate::{Limits, Method, ParseError, RequestHead, ResponseHead, Trailers};
use bytes::{Bytes, BytesMut};

/// What was read. Per message: `Head`, any number of `Data`, at most one `Trailers`, `End`.
///
/// An interim response ([`ResponseHead::is_interim`]) is a `Head` alone; a `Head` that switches
/// protocols (101, or 2xx to `CONNECT`) is the last event of all.
#[derive(Debug, Clone)]
pub enum Event<Head> {
    /// A start line and its fields.
    Head(Head),
    /// Some bytes of the body, never empty; how they are cut means nothing.
    Data(Bytes),
    /// Fields after the last chunk; absent if there were none.
    Trailers(Trailers),
    /// The message is complete.
    End,
}

/// Reads requests: the server role.
///
/// Events of the next pipelined request follow those of the first without a pause. A caller that
/// may switch protocols stops polling after that request's `End`: what is left in `input` then
/// belongs to the new protocol.
#[derive(Debug)]
pub struct RequestDecoder {}

impl RequestDecoder {
    /// Starts before the first request of a connection.
    pub fn new(_limits: Limits) -> Self {
        todo!()
    }

    /// Takes the next event from the front of `input`; `None` means that more bytes are needed.
    ///
    /// Bytes already looked at must stay at the front of `input` until they are taken here.
    ///
    /// # Errors
    /// The bytes are no request. The same error is returned ever after; `input` keeps the rest.
    pub fn poll(&mut self, _input: &mut BytesMut) -> Result<Option<Event<RequestHead>>, ParseError> {
        todo!()
    }

    /// Says that no bytes follow those polled so far. Call it when `poll` has returned `None`.
    ///
    /// # Errors
    /// [`Incomplete`](crate::ErrorKind::Incomplete) in the middle of a request.
    pub fn handle_eof(&mut self) -> Result<Option<Event<RequestHead>>, ParseError> {
        todo!()
    }

    /// Whether the decoder stands between two requests and has seen no byte of the next.
    pub fn is_idle(&self) -> bool {
        todo!()
    }

    /// Whether a head has been taken whose `End` has not.
    pub fn is_in_body(&self) -> bool {
        todo!()
    }
}

/// Reads responses: the client role.
#[derive(Debug)]
pub struct ResponseDecoder {}

impl ResponseDecoder {
    /// Starts before the first response of a connection.
    pub fn new(_limits: Limits) -> Self {
        todo!()
    }

    /// Announces that a request with this method was sent: its response is framed accordingly.
    /// Called once per request, in the order sent.
    pub fn expect(&mut self, _method: Method) {
        todo!()
    }

    /// How many announced requests have no complete final response yet.
    pub fn expected(&self) -> usize {
        todo!()
    }

    /// Takes the next event from the front of `input`; `None` means that more bytes are needed, or,
    /// after the protocol was switched, that the bytes are no longer HTTP.
    ///
    /// # Errors
    /// The bytes are no response, or nobody asked for one. The same error is returned ever after.
    pub fn poll(&mut self, _input: &mut BytesMut) -> Result<Option<Event<ResponseHead>>, ParseError> {
        todo!()
    }

    /// Says that no bytes follow those polled so far: `End` if that is how the body ends.
    ///
    /// # Errors
    /// [`Incomplete`](crate::ErrorKind::Incomplete) in the middle of a response,
    /// [`NoResponse`](crate::ErrorKind::NoResponse) when one is expected and not begun.
    pub fn handle_eof(&mut self) -> Result<Option<Event<ResponseHead>>, ParseError> {
        todo!()
    }

    /// Whether no response is under way or expected, so that the connection may be reused.
    pub fn is_idle(&self) -> bool {
        todo!()
    }

    /// Whether the connection no longer carries HTTP: a 101, or a 2xx to `CONNECT`, was taken.
    pub fn is_switched(&self) -> bool {
        todo!()
    }
}
