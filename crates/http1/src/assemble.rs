//! Request heads from parts, for protocols that carry them in another form (HTTP/2, RFC 9113 §8).
//!
//! The parts are checked, written out as an HTTP/1.1 head and read by the one decoder, so that a
//! request is judged by the same rules and limits however it came. Never sees a body.

use crate::ascii::{is_field_value, is_token, trim};
use crate::{ErrorKind, Event, Framing, Limits, ParseError, RequestDecoder, RequestHead, Version, target};
use bytes::BytesMut;

/// What a head consists of. Nothing in it was checked.
#[derive(Debug, Clone)]
pub struct RequestParts<'a, I> {
    /// The method.
    pub method: &'a [u8],
    /// Path and query, or `*`.
    pub target: &'a [u8],
    /// Host and port: it takes the place of a `Host` field.
    pub authority: Option<&'a [u8]>,
    /// The protocol an extended `CONNECT` asks for, `websocket` for one (RFC 8441): the head is then that of an HTTP/1.1
    /// request which offers to switch to it, a `GET` with `Upgrade`.
    pub protocol: Option<&'a [u8]>,
    /// Names and values of the fields.
    pub fields: I,
    /// Whether content follows, of the declared length or of any.
    pub has_content: bool,
    /// What the head says it came by.
    pub version: Version,
}

impl RequestHead {
    /// Makes a head of parts, judged as if it had come over HTTP/1.1. Several `Cookie` fields become one (RFC 9113 §8.2.3),
    /// and content of undeclared length is [`Framing::Chunked`].
    ///
    /// # Errors
    /// What the decoder refuses, and besides: fields that concern one connection, whitespace around a value, a `Host`
    /// that differs from the authority (RFC 9113 §8.2.1, §8.2.2, §8.3.1).
    pub fn assemble<'a, I>(parts: &RequestParts<'_, I>, limits: &Limits) -> Result<Self, ParseError>
    where
        I: Iterator<Item = (&'a [u8], &'a [u8])> + Clone,
    {
        let mut text = written(parts, limits).map_err(ParseError::request)?;
        let Some(Event::Head(mut head)) = RequestDecoder::new(limits.clone()).poll(&mut text)? else {
            return Err(ParseError::request(ErrorKind::StartLine));
        };
        match (parts.has_content, head.framing()) {
            (true, Framing::None) => head.set_framing(Framing::Chunked),
            (false, Framing::Length(length)) if length > 0 => {
                return Err(ParseError::request(ErrorKind::ContentLength));
            }
            _ => {}
        }
        head.set_version(parts.version);
        Ok(head)
    }
}

/// The head in the form of HTTP/1.1. What could end a line early was checked before.
fn written<'a, I>(parts: &RequestParts<'_, I>, limits: &Limits) -> Result<BytesMut, ErrorKind>
where
    I: Iterator<Item = (&'a [u8], &'a [u8])> + Clone,
{
    if !is_token(parts.method) {
        return Err(ErrorKind::Method);
    }
    if parts.target.len() > limits.target_bytes_max {
        return Err(ErrorKind::TargetTooLong);
    }
    if !target::is_visible(parts.target) {
        return Err(ErrorKind::Target);
    }
    let mut text = BytesMut::with_capacity(HEAD_BYTES_USUAL);
    let method = if parts.protocol.is_some() { b"GET" } else { parts.method };
    for part in [method, b" ", parts.target, b" HTTP/1.1\r\n"] {
        text.extend_from_slice(part);
    }
    if let Some(protocol) = parts.protocol {
        if !is_token(protocol) {
            return Err(ErrorKind::FieldValue);
        }
        write_field(&mut text, b"connection", b"upgrade");
        write_field(&mut text, b"upgrade", protocol);
    }
    if let Some(authority) = parts.authority {
        target::host_name_end(authority).ok_or(ErrorKind::Host)?;
        write_field(&mut text, b"host", authority);
    }
    let mut has_cookie = false;
    for (name, value) in parts.fields.clone() {
        check_field(name, value)?;
        if text.len() + name.len() + value.len() > limits.head_bytes() {
            return Err(ErrorKind::HeadTooLong);
        }
        match (name.len(), parts.authority) {
            (4, Some(authority)) if name.eq_ignore_ascii_case(b"host") => {
                if !value.eq_ignore_ascii_case(authority) {
                    return Err(ErrorKind::Host);
                }
            }
            (6, _) if name.eq_ignore_ascii_case(b"cookie") => {
                if !std::mem::replace(&mut has_cookie, true) {
                    write_cookies(&mut text, parts.fields.clone());
                }
            }
            _ => write_field(&mut text, name, value),
        }
    }
    text.extend_from_slice(b"\r\n");
    Ok(text)
}

fn check_field(name: &[u8], value: &[u8]) -> Result<(), ErrorKind> {
    if !is_token(name) {
        return Err(ErrorKind::FieldName);
    }
    if !is_field_value(value) || trim(value).len() != value.len() {
        return Err(ErrorKind::FieldValue);
    }
    let is_of_connection = OF_CONNECTION.iter().any(|known| name.eq_ignore_ascii_case(known));
    let is_te = name.len() == 2 && name.eq_ignore_ascii_case(b"te") && !value.eq_ignore_ascii_case(b"trailers");
    if is_of_connection || is_te { Err(ErrorKind::ConnectionField) } else { Ok(()) }
}

/// Joins the crumbs that compress better one by one (RFC 9113 §8.2.3). They are bounded by the limit on the head,
/// which the decoder enforces.
fn write_cookies<'a>(text: &mut BytesMut, fields: impl Iterator<Item = (&'a [u8], &'a [u8])>) {
    text.extend_from_slice(b"cookie: ");
    let mut is_first = true;
    for (name, value) in fields {
        // Also one that is yet to be checked: it can only be refused, and until then ends no line.
        if !name.eq_ignore_ascii_case(b"cookie") || !is_field_value(value) {
            continue;
        }
        if !std::mem::replace(&mut is_first, false) {
            text.extend_from_slice(b"; ");
        }
        text.extend_from_slice(value);
    }
    text.extend_from_slice(b"\r\n");
}

fn write_field(text: &mut BytesMut, name: &[u8], value: &[u8]) {
    for part in [name, b": ", value, b"\r\n"] {
        text.extend_from_slice(part);
    }
}

/// Room for a browser's head.
const HEAD_BYTES_USUAL: usize = 1024;

/// Fields that must not occur where the connection is framed otherwise (RFC 9113 §8.2.2).
const OF_CONNECTION: [&[u8]; 5] = [b"connection", b"keep-alive", b"proxy-connection", b"transfer-encoding", b"upgrade"];

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::Method;

    type Field = (&'static str, &'static str);

    fn assemble(
        target: &str,
        authority: Option<&str>,
        fields: &[Field],
        has_content: bool,
    ) -> Result<RequestHead, ErrorKind> {
        let fields = fields.iter().map(|(name, value)| (name.as_bytes(), value.as_bytes()));
        let authority = authority.map(str::as_bytes);
        let parts = RequestParts {
            method: b"POST",
            target: target.as_bytes(),
            authority,
            protocol: None,
            fields,
            has_content,
            version: Version::Http2,
        };
        RequestHead::assemble(&parts, &Limits::default()).map_err(|error| error.kind())
    }

    #[test]
    fn the_parts_are_a_head() {
        let head = assemble("/a?b", Some("h:1"), &[("accept", "*/*")], false).unwrap();
        assert_eq!((head.method(), head.path(), head.query()), (Method::Post, "/a", Some("b")));
        assert_eq!((head.host(), head.field("host")), ("h:1", Some(&b"h:1"[..])));
        assert_eq!((head.field_str("accept"), head.framing()), (Some("*/*"), Framing::None));
    }

    #[test]
    fn an_extended_connect_is_an_offer_to_switch() {
        let assemble = |protocol: &'static str, fields: &[Field]| {
            let fields = fields.iter().map(|(name, value)| (name.as_bytes(), value.as_bytes()));
            let parts = RequestParts {
                method: b"CONNECT",
                target: b"/chat",
                authority: Some(b"h"),
                protocol: Some(protocol.as_bytes()),
                fields,
                has_content: false,
                version: Version::Http2,
            };
            RequestHead::assemble(&parts, &Limits::default()).map_err(|error| error.kind())
        };
        let head = assemble("websocket", &[("sec-websocket-version", "13")]).unwrap();
        assert_eq!((head.method(), head.path(), head.version()), (Method::Get, "/chat", Version::Http2));
        assert!(head.upgrades_to("websocket") && !head.upgrades_to("other"));
        for protocol in ["", "a b", "a\r\nx: y"] {
            assert_eq!(assemble(protocol, &[]).unwrap_err(), ErrorKind::FieldValue, "{protocol:?}");
        }
        assert_eq!(assemble("websocket", &[("upgrade", "h2c")]).unwrap_err(), ErrorKind::ConnectionField);
    }

    #[test]
    fn cookie_crumbs_are_one_field() {
        let fields = [("cookie", "a=1"), ("x", "y"), ("cookie", "b=2"), ("cookie", "c=3")];
        let head = assemble("/", Some("h"), &fields, false).unwrap();
        let cookies: Vec<_> = head.fields_named("cookie").collect();
        assert_eq!(cookies, [b"a=1; b=2; c=3"]);
        assert_eq!(head.field_str("x"), Some("y"));
    }

    #[test]
    fn content_has_a_framing() {
        let framing =
            |fields: &[Field], has_content| assemble("/", Some("h"), fields, has_content).map(|head| head.framing());
        assert_eq!(framing(&[], true), Ok(Framing::Chunked));
        assert_eq!(framing(&[("content-length", "5")], true), Ok(Framing::Length(5)));
        let expecting = [("expect", "100-continue")];
        assert!(assemble("/", Some("h"), &expecting, true).unwrap().expects_continue());
        assert!(!assemble("/", Some("h"), &expecting, false).unwrap().expects_continue(), "nothing to wait for");
        assert_eq!(framing(&[("content-length", "0")], false), Ok(Framing::Length(0)));
        assert_eq!(framing(&[("content-length", "5")], false), Err(ErrorKind::ContentLength));
        assert_eq!(framing(&[("content-length", "5"), ("content-length", "5")], true), Err(ErrorKind::ContentLength));
    }

    #[test]
    fn fields_of_a_connection_are_refused() {
        for name in ["connection", "Keep-Alive", "proxy-connection", "transfer-encoding", "upgrade"] {
            assert_eq!(
                assemble("/", Some("h"), &[(name, "x")], false).unwrap_err(),
                ErrorKind::ConnectionField,
                "{name}"
            );
        }
        assert_eq!(assemble("/", Some("h"), &[("te", "gzip")], false).unwrap_err(), ErrorKind::ConnectionField);
        assert!(assemble("/", Some("h"), &[("te", "trailers")], false).is_ok());
    }

    #[test]
    fn nothing_can_end_a_line_early() {
        for target in ["", "/a b", "/\r\nx: y", "/\n", "/a\tb", "//h"] {
            assert_eq!(assemble(target, Some("h"), &[], false).unwrap_err(), ErrorKind::Target, "{target:?}");
        }
        for authority in ["", "h\r\nx: y", "a, b", "u@h", "h/"] {
            assert_eq!(assemble("/", Some(authority), &[], false).unwrap_err(), ErrorKind::Host, "{authority:?}");
        }
        for value in ["a\r\nb: c", "a\nb", "a\0", " a", "a\t"] {
            let fields = [("cookie", "good=1"), ("cookie", value)];
            assert_eq!(assemble("/", Some("h"), &fields, false).unwrap_err(), ErrorKind::FieldValue, "{value:?}");
        }
        for name in ["", "a b", "a:", ":path", "a\r\nb"] {
            assert_eq!(assemble("/", Some("h"), &[(name, "x")], false).unwrap_err(), ErrorKind::FieldName, "{name:?}");
        }
    }

    #[test]
    fn there_is_one_host() {
        assert!(assemble("/", Some("h"), &[("host", "H")], false).is_ok());
        assert!(assemble("/", None, &[("host", "h")], false).is_ok());
        assert_eq!(assemble("/", Some("h"), &[("host", "i")], false).unwrap_err(), ErrorKind::Host);
        assert_eq!(assemble("/", None, &[("host", "h"), ("host", "h")], false).unwrap_err(), ErrorKind::Host);
        assert_eq!(assemble("/", None, &[], false).unwrap_err(), ErrorKind::HostMissing);
    }

    #[test]
    fn the_limits_are_those_of_the_decoder() {
        let long = "/".to_owned() + &"a".repeat(8 * 1024);
        assert_eq!(assemble(&long, Some("h"), &[], false).unwrap_err(), ErrorKind::TargetTooLong);
        let many: Vec<Field> = vec![("x", "y"); 101];
        assert_eq!(assemble("/", Some("h"), &many, false).unwrap_err(), ErrorKind::TooManyFields);
        let big: &'static str = Box::leak("v".repeat(33 * 1024).into_boxed_str());
        assert_eq!(assemble("/", Some("h"), &[("x", big)], false).unwrap_err(), ErrorKind::HeadTooLong);
    }
}
