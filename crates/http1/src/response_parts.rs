//! Response heads from parts, for protocols that carry them in another form (HTTP/2, RFC 9113 §8.3.2).
//!
//! As `assemble` does for requests: the parts are checked, written out as an HTTP/1.1 head and read by the one decoder,
//! so that a response is judged by the same rules and limits however it came. Never sees a body.

use crate::ascii::{is_field_value, is_token, trim};
use crate::{ErrorKind, Event, Framing, Limits, Method, ParseError, ResponseDecoder, ResponseHead};
use bytes::BytesMut;

/// What the head of a response consists of. Nothing in it was checked.
#[derive(Debug, Clone)]
pub struct ResponseParts<I> {
    /// The status.
    pub status: u16,
    /// Names and values of the fields.
    pub fields: I,
    /// Whether content follows, of the declared length or of any.
    pub has_content: bool,
    /// The method of the request that is answered.
    pub answers: Method,
}

impl ResponseHead {
    /// Makes a head of parts, as if it had come over HTTP/1.1. Content of undeclared length is [`Framing::Chunked`].
    ///
    /// # Errors
    /// What the decoder refuses, and besides: fields that concern one connection, whitespace around a value, and 101,
    /// which means nothing where a connection carries many exchanges (RFC 9113 §8.2.1, §8.2.2, §8.6).
    pub fn assemble<'a, I>(parts: ResponseParts<I>, limits: &Limits) -> Result<Self, ParseError>
    where
        I: Iterator<Item = (&'a [u8], &'a [u8])>,
    {
        let (has_content, answers) = (parts.has_content, parts.answers);
        let mut text = written(parts, limits).map_err(ParseError::response)?;
        let mut decoder = ResponseDecoder::new(limits.clone());
        decoder.expect(answers);
        let Some(Event::Head(mut head)) = decoder.poll(&mut text)? else {
            return Err(ParseError::response(ErrorKind::Status));
        };
        if !head.is_interim() {
            head.framed_elsewhere(match (has_content, head.framing()) {
                (true, Framing::Length(length)) => Framing::Length(length),
                (true, _) => Framing::Chunked,
                (false, _) => Framing::None,
            });
        }
        Ok(head)
    }
}

/// The head in the form of HTTP/1.1. What could end a line early was checked before.
fn written<'a, I>(parts: ResponseParts<I>, limits: &Limits) -> Result<BytesMut, ErrorKind>
where
    I: Iterator<Item = (&'a [u8], &'a [u8])>,
{
    if parts.status == SWITCHING_PROTOCOLS || !(100..=599).contains(&parts.status) {
        return Err(ErrorKind::Status);
    }
    let mut text = BytesMut::with_capacity(HEAD_BYTES_USUAL);
    text.extend_from_slice(b"HTTP/1.1 ");
    text.extend_from_slice(parts.status.to_string().as_bytes());
    text.extend_from_slice(b" \r\n");
    for (name, value) in parts.fields {
        if !is_token(name) {
            return Err(ErrorKind::FieldName);
        }
        if !is_field_value(value) || trim(value).len() != value.len() {
            return Err(ErrorKind::FieldValue);
        }
        if OF_CONNECTION.iter().any(|known| name.eq_ignore_ascii_case(known)) {
            return Err(ErrorKind::ConnectionField);
        }
        if text.len() + name.len() + value.len() > limits.head_bytes() {
            return Err(ErrorKind::HeadTooLong);
        }
        for part in [name, b": ", value, b"\r\n"] {
            text.extend_from_slice(part);
        }
    }
    text.extend_from_slice(b"\r\n");
    Ok(text)
}

const SWITCHING_PROTOCOLS: u16 = 101;

/// Room for an answer's usual head.
const HEAD_BYTES_USUAL: usize = 512;

/// Fields that must not occur where the connection is framed otherwise (RFC 9113 §8.2.2).
const OF_CONNECTION: [&[u8]; 5] = [b"connection", b"keep-alive", b"proxy-connection", b"transfer-encoding", b"upgrade"];

#[cfg(test)]
mod tests {
    use super::*;

    fn assemble(
        status: u16,
        fields: &[(&str, &str)],
        has_content: bool,
        answers: Method,
    ) -> Result<ResponseHead, ErrorKind> {
        let fields = fields.iter().map(|(name, value)| (name.as_bytes(), value.as_bytes()));
        let parts = ResponseParts { status, fields, has_content, answers };
        ResponseHead::assemble(parts, &Limits::default()).map_err(|error| error.kind())
    }

    #[test]
    fn content_ends_as_the_parts_say() {
        let check = |fields: &[(&str, &str)], has_content: bool, answers: Method, expect: Framing| {
            let head = assemble(200, fields, has_content, answers).expect("the head is sound");
            assert_eq!(head.framing(), expect, "{fields:?} {has_content}");
            assert!(head.keep_alive());
        };
        check(&[("content-length", "5")], true, Method::Get, Framing::Length(5));
        check(&[], true, Method::Get, Framing::Chunked);
        check(&[], false, Method::Get, Framing::None);
        check(&[("content-length", "5")], false, Method::Head, Framing::None);
        let head = assemble(200, &[("content-length", "5")], false, Method::Head).expect("the head is sound");
        assert_eq!(head.content_length(), Some(5));
    }

    #[test]
    fn fields_keep_their_order_and_number() {
        let fields = [("set-cookie", "a=1"), ("x", "\u{e9}"), ("set-cookie", "b=2"), ("empty", "")];
        let head = assemble(404, &fields, false, Method::Get).expect("the head is sound");
        assert_eq!(head.status().as_u16(), 404);
        let found: Vec<(&str, &[u8])> = head.fields().iter().collect();
        let expect: Vec<(&str, &[u8])> = fields.iter().map(|(name, value)| (*name, value.as_bytes())).collect();
        assert_eq!(found, expect);
    }

    #[test]
    fn what_http_1_would_not_take_is_not_taken() {
        let long = "x".repeat(Limits::default().head_bytes());
        for (status, fields, expect) in [
            (200, [("a b", "x")], ErrorKind::FieldName),
            (200, [("", "x")], ErrorKind::FieldName),
            (200, [("a", "x\r\nSet-Cookie: y")], ErrorKind::FieldValue),
            (200, [("a", " x")], ErrorKind::FieldValue),
            (200, [("connection", "close")], ErrorKind::ConnectionField),
            (200, [("Transfer-Encoding", "chunked")], ErrorKind::ConnectionField),
            (200, [("content-length", "5, 6")], ErrorKind::ContentLength),
            (200, [("a", long.as_str())], ErrorKind::HeadTooLong),
            (101, [("a", "x")], ErrorKind::Status),
            (99, [("a", "x")], ErrorKind::Status),
            (600, [("a", "x")], ErrorKind::Status),
        ] {
            assert_eq!(assemble(status, &fields, true, Method::Get).err(), Some(expect), "{status} {fields:?}");
        }
    }

    #[test]
    fn an_interim_head_is_one() {
        let head = assemble(103, &[("link", "</a>; rel=preload")], true, Method::Get).expect("the head is sound");
        assert!(head.is_interim() && head.field_str("link").is_some());
    }
}
