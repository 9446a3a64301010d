//! Writes heads and body framing: exactly one framing field, none where there must be none.

use crate::{Fields, Framing, Method, StatusCode, Version};
use bytes::BufMut;

/// What the head of a response is made of.
///
/// `Content-Length`, `Transfer-Encoding`, `Connection` and `Keep-Alive` in `fields` are not written:
/// they follow from the rest. (`Connection: close` in `fields` is obeyed; an `Upgrade` field brings
/// `Connection: upgrade` with it.) A `Date` in `fields` wins over `date`.
#[derive(Debug, Clone, Copy)]
pub struct ResponseSpec<'a> {
    /// The method of the request being answered: `HEAD` gets no body.
    pub request_method: Method,
    /// The version of the request being answered: HTTP/1.0 gets no chunks.
    pub request_version: Version,
    /// The status.
    pub status: StatusCode,
    /// The fields of the application.
    pub fields: &'a Fields,
    /// How the body ends; for `HEAD` and 304, how it would end for `GET`.
    pub framing: Framing,
    /// Whether the connection may live on.
    pub keep_alive: bool,
    /// The current date in IMF-fixdate form, if a `Date` is to be added.
    pub date: Option<&'a [u8]>,
}

/// What the head of a request is made of. The same fields as in [`ResponseSpec`] are not written.
#[derive(Debug, Clone, Copy)]
pub struct RequestSpec<'a> {
    /// The method.
    pub method: Method,
    /// The target in the form that suits the method: visible ASCII without spaces.
    pub target: &'a str,
    /// The fields, `Host` among them.
    pub fields: &'a Fields,
    /// How the body ends; `UntilClose` is not for requests.
    pub framing: Framing,
    /// False adds `Connection: close`.
    pub keep_alive: bool,
}

/// What became of a response head.
#[derive(Debug)]
pub struct Written {
    /// Writes the body.
    pub body: BodyEncoder,
    /// Whether the connection may live on: false whenever `Connection: close` was written or the
    /// body ends with the connection.
    pub keep_alive: bool,
}

/// A message that must not be sent. It is our side's mistake.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum EncodeError {
    /// More body bytes than the declared length.
    #[error("body is longer than declared")]
    TooLong,
    /// Fewer body bytes than the declared length: the connection must be closed.
    #[error("body is shorter than declared")]
    TooShort,
    /// The target is empty or holds a byte that no target has.
    #[error("invalid request target")]
    Target,
    /// A request without exactly one `Host`.
    #[error("a request needs exactly one Host")]
    Host,
    /// A request body cannot end with the connection.
    #[error("a request body needs a length or chunks")]
    Framing,
}

/// Writes the body of one message; it knows how the body ends and holds the writer to it.
#[derive(Debug)]
pub struct BodyEncoder {}

/// Appends a response head to `out`. For 1xx other than 101 the returned body is empty and the final
/// response is still to come.
pub fn write_response_head(_out: &mut impl BufMut, _spec: &ResponseSpec<'_>) -> Written {
    todo!()
}

/// Appends `HTTP/1.1 100 Continue` to `out`.
pub fn write_continue(out: &mut impl BufMut) {
    out.put_slice(b"HTTP/1.1 100 Continue\r\n\r\n");
}

/// Appends a request head to `out`.
///
/// # Errors
/// The target, `Host` or framing is not fit for a request; nothing was written.
pub fn write_request_head(_out: &mut impl BufMut, _spec: &RequestSpec<'_>) -> Result<BodyEncoder, EncodeError> {
    todo!()
}

impl BodyEncoder {
    /// Whether body bytes are to be dropped instead of sent (answers to `HEAD`, 204, 304).
    pub fn discards(&self) -> bool {
        todo!()
    }

    /// Whether the body ends when the connection closes.
    pub fn is_until_close(&self) -> bool {
        todo!()
    }

    /// Bytes still owed, where a length was declared.
    pub fn remaining(&self) -> Option<u64> {
        todo!()
    }

    /// Appends `data`, framed, to `out`.
    ///
    /// # Errors
    /// [`EncodeError::TooLong`]: nothing was written.
    pub fn data(&mut self, _out: &mut impl BufMut, _data: &[u8]) -> Result<(), EncodeError> {
        todo!()
    }

    /// Appends what stands before `len` bytes of data that the caller sends by itself (`writev`,
    /// `sendfile`). [`BodyEncoder::after_data`] follows them. A `len` of 0 writes nothing.
    ///
    /// # Errors
    /// [`EncodeError::TooLong`]: nothing was written.
    pub fn before_data(&mut self, _out: &mut impl BufMut, _len: u64) -> Result<(), EncodeError> {
        todo!()
    }

    /// Appends what stands after the data announced by [`BodyEncoder::before_data`].
    pub fn after_data(&mut self, _out: &mut impl BufMut) {
        todo!()
    }

    /// Appends the end of the body. Trailers are written only with chunks, and only those that are
    /// allowed there.
    ///
    /// # Errors
    /// [`EncodeError::TooShort`]: the connection must be closed without another message.
    pub fn finish(&mut self, _out: &mut impl BufMut, _trailers: Option<&Fields>) -> Result<(), EncodeError> {
        todo!()
    }

    /// Whether [`BodyEncoder::finish`] has been called with success.
    pub fn is_finished(&self) -> bool {
        todo!()
    }
}
