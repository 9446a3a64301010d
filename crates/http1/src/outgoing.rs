//! Writes the body of one message and holds the writer to what the head declared.

use crate::trailers::{self, Verdict};
use crate::{EncodeError, Fields, Framing};
use bytes::BufMut;

/// Writes the body of one message; it knows how the body ends and holds the writer to it.
#[derive(Debug)]
pub struct BodyEncoder {
    state: State,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// No body is sent, whatever the application produces.
    Discard,
    /// Bytes still owed.
    Length(u64),
    Chunked,
    UntilClose,
    Finished {
        until_close: bool,
    },
}

impl BodyEncoder {
    /// A body that ends in this way; `None` is an empty one.
    pub fn new(framing: Framing) -> Self {
        let state = match framing {
            Framing::None => State::Length(0),
            Framing::Length(length) => State::Length(length),
            Framing::Chunked => State::Chunked,
            Framing::UntilClose => State::UntilClose,
        };
        Self { state }
    }

    pub(crate) fn discarding() -> Self {
        Self { state: State::Discard }
    }

    /// Whether body bytes are to be dropped instead of sent (answers to `HEAD`, 204, 304).
    pub fn discards(&self) -> bool {
        self.state == State::Discard
    }

    /// Whether the body ends when the connection closes.
    pub fn is_until_close(&self) -> bool {
        matches!(self.state, State::UntilClose | State::Finished { until_close: true })
    }

    /// Bytes still owed, where a length was declared.
    pub fn remaining(&self) -> Option<u64> {
        match self.state {
            State::Length(owed) => Some(owed),
            _ => None,
        }
    }

    /// Appends `data`, framed, to `out`. A discarded body takes any data and writes nothing.
    ///
    /// # Errors
    /// [`EncodeError::TooLong`]: nothing was written.
    pub fn data(&mut self, out: &mut impl BufMut, data: &[u8]) -> Result<(), EncodeError> {
        self.before_data(out, data.len() as u64)?;
        if !data.is_empty() && !self.discards() {
            out.put_slice(data);
            self.after_data(out);
        }
        Ok(())
    }

    /// Appends `data` as all of the body, and its end.
    ///
    /// # Errors
    /// [`EncodeError::TooLong`] or [`EncodeError::TooShort`]: the connection must be closed.
    #[inline]
    pub fn whole(&mut self, out: &mut impl BufMut, data: &[u8]) -> Result<(), EncodeError> {
        if self.state == State::Length(data.len() as u64) {
            out.put_slice(data);
            self.state = State::Finished { until_close: false };
            return Ok(());
        }
        self.data(out, data)?;
        if self.discards() { Ok(()) } else { self.finish(out, None) }
    }

    /// Appends what stands before `len` bytes of data that the caller sends by itself (`writev`,
    /// `sendfile`). [`BodyEncoder::after_data`] follows them. A `len` of 0 writes nothing, and then
    /// neither data nor `after_data` may follow; nor may they when the body is discarded.
    ///
    /// # Errors
    /// [`EncodeError::TooLong`]: nothing was written.
    pub fn before_data(&mut self, out: &mut impl BufMut, len: u64) -> Result<(), EncodeError> {
        match &mut self.state {
            _ if len == 0 => {}
            State::Discard | State::UntilClose => {}
            State::Length(owed) => *owed = owed.checked_sub(len).ok_or(EncodeError::TooLong)?,
            State::Chunked => write_hex_line(out, len),
            State::Finished { .. } => return Err(EncodeError::TooLong),
        }
        Ok(())
    }

    /// Appends what stands after the data announced by [`BodyEncoder::before_data`].
    pub fn after_data(&mut self, out: &mut impl BufMut) {
        if self.state == State::Chunked {
            out.put_slice(b"\r\n");
        }
    }

    /// Appends the end of the body. Trailers are written only with chunks, and only those that are
    /// allowed there (RFC 9110 §6.5.1). Calling it again writes nothing.
    ///
    /// # Errors
    /// [`EncodeError::TooShort`]: the connection must be closed without another message.
    pub fn finish(&mut self, out: &mut impl BufMut, trailers: Option<&Fields>) -> Result<(), EncodeError> {
        match self.state {
            State::Length(owed) if owed > 0 => return Err(EncodeError::TooShort),
            State::Chunked => {
                out.put_slice(b"0\r\n");
                for (name, value) in trailers.iter().flat_map(|trailers| trailers.iter()) {
                    if trailers::judge(name.as_bytes()) == Verdict::Keep {
                        out.put_slice(name.as_bytes());
                        out.put_slice(b": ");
                        out.put_slice(value);
                        out.put_slice(b"\r\n");
                    }
                }
                out.put_slice(b"\r\n");
            }
            _ => {}
        }
        self.state = State::Finished { until_close: self.is_until_close() };
        Ok(())
    }

    /// Whether [`BodyEncoder::finish`] has been called with success.
    pub fn is_finished(&self) -> bool {
        matches!(self.state, State::Finished { .. })
    }
}

/// The longest 64-bit number has this many hexadecimal digits.
const HEX_DIGITS_MAX: usize = 16;

/// A chunk size and CRLF.
fn write_hex_line(out: &mut impl BufMut, mut number: u64) {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let mut line = [0; HEX_DIGITS_MAX];
    let mut start = HEX_DIGITS_MAX;
    while number > 0 {
        start -= 1;
        line[start] = DIGITS[(number & 0xf) as usize];
        number >>= 4;
    }
    out.put_slice(&line[start..]);
    out.put_slice(b"\r\n");
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn chunks_carry_their_size_and_the_end_is_written_once() {
        let mut out = Vec::new();
        let mut body = BodyEncoder::new(Framing::Chunked);
        body.data(&mut out, b"hello").unwrap();
        body.data(&mut out, b"").unwrap();
        body.before_data(&mut out, 0x1af).unwrap();
        body.after_data(&mut out);
        body.finish(&mut out, None).unwrap();
        body.finish(&mut out, None).unwrap();
        assert_eq!(out, b"5\r\nhello\r\n1af\r\n\r\n0\r\n\r\n");
        assert_eq!(body.data(&mut out, b"x"), Err(EncodeError::TooLong));
    }

    #[test]
    fn a_declared_length_is_kept_exactly() {
        let mut out = Vec::new();
        let mut body = BodyEncoder::new(Framing::Length(3));
        body.data(&mut out, b"ab").unwrap();
        assert_eq!(body.remaining(), Some(1));
        assert_eq!(body.data(&mut out, b"cd"), Err(EncodeError::TooLong));
        assert_eq!(body.finish(&mut out, None), Err(EncodeError::TooShort));
        assert!(!body.is_finished());
        body.data(&mut out, b"c").unwrap();
        body.finish(&mut out, None).unwrap();
        assert_eq!(out, b"abc");
    }

    #[test]
    fn only_allowed_trailers_are_written_and_only_with_chunks() {
        let mut trailers = Fields::new();
        trailers.append("X-Sum", "1").unwrap();
        trailers.append("Content-Length", "9").unwrap();
        trailers.append("Authorization", "a").unwrap();
        let mut out = Vec::new();
        BodyEncoder::new(Framing::Chunked).finish(&mut out, Some(&trailers)).unwrap();
        BodyEncoder::new(Framing::UntilClose).finish(&mut out, Some(&trailers)).unwrap();
        assert_eq!(out, b"0\r\nX-Sum: 1\r\n\r\n");
    }

    #[test]
    fn a_discarded_body_takes_anything_and_writes_nothing() {
        let mut out = Vec::new();
        let mut body = BodyEncoder::discarding();
        body.data(&mut out, b"hello").unwrap();
        body.finish(&mut out, None).unwrap();
        assert_eq!(out, b"");
    }
}
