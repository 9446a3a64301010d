//! Writes heads: exactly one framing field, none where there must be none (RFC 9112 §6).

use crate::fields::Special;
use crate::outgoing::BodyEncoder;
use crate::{Fields, Framing, Method, StatusCode, Version, target, tokens};
use bytes::BufMut;

/// What the head of a response is made of.
///
/// `Content-Length`, `Transfer-Encoding`, `Connection`, `Keep-Alive` and `Proxy-Connection` in
/// `fields` are not written: they follow from the rest. (`Connection: close` in `fields` is obeyed;
/// an `Upgrade` field brings `Connection: upgrade` with it.) A `Date` in `fields` wins over `date`.
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
    /// How the body ends; for `HEAD` and 304, how it would end for `GET`. `None` becomes
    /// `Content-Length: 0` where a body could have been.
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
    /// More body bytes than the declared length, or bytes after the end.
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

/// Appends a response head to `out`. For 1xx other than 101 the returned body is empty and the final
/// response is still to come.
pub fn write_response_head(out: &mut impl BufMut, spec: &ResponseSpec<'_>) -> Written {
    let date = spec.date.filter(|_| !spec.fields.has(Special::Date));
    if let (StatusCode::OK, Some(Ok(date))) = (spec.status, date.map(<&[u8; DATE_BYTES]>::try_from)) {
        write_usual_start(out, date);
        return write_rest(out, spec);
    }
    write_status_line(out, spec.status);
    if spec.status.is_interim() && spec.status != StatusCode::SWITCHING_PROTOCOLS {
        write_fields(out, spec.fields);
        out.put_slice(b"\r\n");
        return Written { body: BodyEncoder::discarding(), keep_alive: true };
    }
    for part in date.iter().flat_map(|date| [&b"Date: "[..], date, b"\r\n"]) {
        out.put_slice(part);
    }
    write_rest(out, spec)
}

/// Appends a whole response of the usual kind, head and content: 200 in answer to HTTP/1.1, with the date, fields of the
/// application alone, and content of a known length. Whether the connection may live on; `None`, and nothing written,
/// where it is of another kind: then [`write_response_head`] begins it. Both write the same.
#[inline]
pub fn write_usual_response(out: &mut Vec<u8>, spec: &ResponseSpec<'_>, content: &[u8]) -> Option<bool> {
    let is_usual = spec.status == StatusCode::OK
        && spec.request_version == Version::Http11
        && spec.framing == Framing::Length(content.len() as u64)
        && spec.fields.has_nothing_special()
        && !matches!(spec.request_method, Method::Head | Method::Connect);
    let date: &[u8; DATE_BYTES] = spec.date?.try_into().ok()?;
    if !is_usual {
        return None;
    }
    let [media_type, fields] = spec.fields.wire();
    out.reserve(USUAL_BYTES_MAX + media_type.len() + fields.len() + content.len());
    write_usual_start(out, date);
    out.extend_from_slice(media_type);
    out.extend_from_slice(fields);
    write_usual_length(out, content.len());
    if !spec.keep_alive {
        out.truncate(out.len() - b"\r\n".len());
        out.extend_from_slice(b"Connection: close\r\n\r\n");
    }
    out.extend_from_slice(content);
    Some(spec.keep_alive)
}

/// More than a usual response has beside its fields and its content.
const USUAL_BYTES_MAX: usize = 128;

/// Appends `Content-Length` and the end of the head, with a number that mostly has two to four digits.
#[inline]
fn write_usual_length(out: &mut Vec<u8>, number: usize) {
    match number {
        0..=9 => write_length_line(out, number, *b"Content-Length: .\r\n\r\n"),
        10..=99 => write_length_line(out, number, *b"Content-Length: ..\r\n\r\n"),
        100..=999 => write_length_line(out, number, *b"Content-Length: ...\r\n\r\n"),
        1000..=9999 => write_length_line(out, number, *b"Content-Length: ....\r\n\r\n"),
        10_000..=99_999 => write_length_line(out, number, *b"Content-Length: .....\r\n\r\n"),
        _ => write_content_length(out, number as u64, true),
    }
}

/// Puts the digits in the place of the dots, and appends the line.
#[inline]
fn write_length_line<const LEN: usize>(out: &mut Vec<u8>, mut number: usize, mut line: [u8; LEN]) {
    for digit in line[b"Content-Length: ".len()..LEN - b"\r\n\r\n".len()].iter_mut().rev() {
        *digit = b'0' + (number % 10) as u8;
        number /= 10;
    }
    out.extend_from_slice(&line);
}

/// Writes what stands behind the date: the fields, and the end.
#[inline]
fn write_rest(out: &mut impl BufMut, spec: &ResponseSpec<'_>) -> Written {
    write_fields(out, spec.fields);
    let framing = response_framing(spec);
    let keep_alive = spec.keep_alive && framing != Framing::UntilClose && !lists_close(spec.fields);
    let (declared, body) = response_body(spec, framing);
    let revived = keep_alive && spec.request_version == Version::Http10;
    write_end(out, declared, spec.fields, keep_alive, revived);
    Written { body, keep_alive }
}

/// Appends `HTTP/1.1 100 Continue` to `out`.
pub fn write_continue(out: &mut impl BufMut) {
    out.put_slice(b"HTTP/1.1 100 Continue\r\n\r\n");
}

/// Appends a request head to `out`.
///
/// # Errors
/// The target, `Host` or framing is not fit for a request; nothing was written.
pub fn write_request_head(out: &mut impl BufMut, spec: &RequestSpec<'_>) -> Result<BodyEncoder, EncodeError> {
    if !target::is_visible(spec.target.as_bytes()) {
        return Err(EncodeError::Target);
    }
    if !spec.fields.has(Special::Host) || spec.fields.get_all("host").count() != 1 {
        return Err(EncodeError::Host);
    }
    if spec.framing == Framing::UntilClose {
        return Err(EncodeError::Framing);
    }
    out.put_slice(spec.method.as_str().as_bytes());
    out.put_slice(b" ");
    out.put_slice(spec.target.as_bytes());
    out.put_slice(b" HTTP/1.1\r\n");
    write_fields(out, spec.fields);
    let framing = match spec.framing {
        Framing::None if expects_content(spec.method) => Framing::Length(0),
        framing => framing,
    };
    write_end(out, framing, spec.fields, spec.keep_alive && !lists_close(spec.fields), false);
    Ok(BodyEncoder::new(framing))
}

/// Whether a request without content says so with `Content-Length: 0` (RFC 9110 §8.6).
pub(crate) fn expects_content(method: Method) -> bool {
    matches!(method, Method::Post | Method::Put | Method::Patch | Method::Query)
}

/// How the body would end if this response could have one.
fn response_framing(spec: &ResponseSpec<'_>) -> Framing {
    match (spec.framing, spec.request_version) {
        (Framing::Chunked, Version::Http10) => Framing::UntilClose,
        (framing, _) => framing,
    }
}

/// What the head says of the body, and what writes the body.
fn response_body(spec: &ResponseSpec<'_>, framing: Framing) -> (Framing, BodyEncoder) {
    let tunnel = spec.request_method == Method::Connect && spec.status.is_success();
    if spec.status.is_interim() || spec.status == StatusCode::NO_CONTENT || tunnel {
        return (Framing::None, BodyEncoder::discarding());
    }
    if spec.request_method == Method::Head || spec.status == StatusCode::NOT_MODIFIED {
        return (framing, BodyEncoder::discarding());
    }
    let framing = match framing {
        Framing::None => Framing::Length(0),
        framing => framing,
    };
    (framing, BodyEncoder::new(framing))
}

/// Writes what stands after the fields: how the body ends, `Connection` if there is anything to say, the empty line.
/// `revived` is a connection of an HTTP/1.0 client that lives on.
#[inline]
pub(crate) fn write_end(out: &mut impl BufMut, framing: Framing, fields: &Fields, keep_alive: bool, revived: bool) {
    let says_nothing = keep_alive && !revived && !fields.has(Special::Upgrade) && !fields.has(Special::Te);
    if let (Framing::Length(length), true) = (framing, says_nothing) {
        return write_content_length(out, length, true); // the most common end, in one piece
    }
    match framing {
        Framing::None | Framing::UntilClose => {}
        Framing::Chunked => out.put_slice(b"Transfer-Encoding: chunked\r\n"),
        Framing::Length(length) => write_content_length(out, length, false),
    }
    write_connection(out, fields, keep_alive, revived);
    out.put_slice(b"\r\n");
}

/// An IMF-fixdate has this many bytes (RFC 9110 §5.6.7).
const DATE_BYTES: usize = 29;

/// Writes how nearly every answer begins: the line of 200 and the date, put together here and copied once.
#[inline]
pub(crate) fn write_usual_start(out: &mut impl BufMut, date: &[u8; DATE_BYTES]) {
    const BEFORE: &[u8; 23] = b"HTTP/1.1 200 OK\r\nDate: ";
    let mut start = *b"HTTP/1.1 200 OK\r\nDate: .............................\r\n";
    start[BEFORE.len()..BEFORE.len() + DATE_BYTES].copy_from_slice(date);
    out.put_slice(&start);
}

pub(crate) fn write_status_line(out: &mut impl BufMut, status: StatusCode) {
    if let Some(line) = status.line() {
        out.put_slice(line.as_bytes());
    } else {
        out.put_slice(b"HTTP/1.1 ");
        out.put_slice(&status.digits());
        out.put_slice(b" \r\n");
    }
}

/// Writes what the application set, without what follows from the rest.
#[inline]
fn write_fields(out: &mut impl BufMut, fields: &Fields) {
    if fields.has(Special::Framing) || fields.has(Special::Connection) {
        for line in fields.wire_without(&[Special::Framing, Special::Connection]) {
            out.put_slice(line);
        }
    } else {
        for lines in fields.wire() {
            out.put_slice(lines);
        }
    }
}

/// Writes the one `Connection` field, if there is anything to say.
fn write_connection(out: &mut impl BufMut, fields: &Fields, keep_alive: bool, revived: bool) {
    let mut separator: &[u8] = b"Connection: ";
    let mut option = |out: &mut dyn FnMut(&[u8]), wanted: bool, name: &[u8]| {
        if wanted {
            out(separator);
            out(name);
            separator = b", ";
        }
    };
    let mut put = |bytes: &[u8]| out.put_slice(bytes);
    option(&mut put, fields.has(Special::Upgrade), b"upgrade");
    option(&mut put, fields.has(Special::Te), b"TE");
    option(&mut put, revived, b"keep-alive");
    option(&mut put, !keep_alive, b"close");
    if separator == b", " {
        out.put_slice(b"\r\n");
    }
}

#[inline]
fn lists_close(fields: &Fields) -> bool {
    fields.has(Special::Connection)
        && fields.get_all("connection").flat_map(tokens).any(|option| option.eq_ignore_ascii_case(b"close"))
}

/// The longest 64-bit number has this many decimal digits.
const DECIMAL_DIGITS_MAX: usize = 20;

/// Writes `Content-Length: number` and its line end, and the empty line if nothing else follows; put together from its
/// end and copied once.
fn write_content_length(out: &mut impl BufMut, mut number: u64, is_last: bool) {
    const NAME: &[u8; 16] = b"Content-Length: ";
    const END: &[u8; 4] = b"\r\n\r\n";
    const DIGITS_END: usize = NAME.len() + DECIMAL_DIGITS_MAX;
    let mut line = [0; DIGITS_END + END.len()];
    line[DIGITS_END..].copy_from_slice(END);
    let mut start = DIGITS_END;
    loop {
        start -= 1;
        line[start] = b'0' + (number % 10) as u8;
        number /= 10;
        if number == 0 {
            break;
        }
    }
    start -= NAME.len();
    line[start..start + NAME.len()].copy_from_slice(NAME);
    let end = if is_last { line.len() } else { DIGITS_END + 2 };
    out.put_slice(&line[start..end]);
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    /// What was written, and whether the connection lives on.
    type Image = (Vec<u8>, bool);

    /// What the two ways write of the same answer; the second perhaps nothing.
    fn both(spec: &ResponseSpec<'_>, content: &[u8]) -> (Image, Option<Image>) {
        let mut general = b"before".to_vec();
        let mut written = write_response_head(&mut general, spec);
        written.body.whole(&mut general, content).unwrap();
        let mut usual = b"before".to_vec();
        let keep_alive = write_usual_response(&mut usual, spec, content);
        if keep_alive.is_none() {
            assert_eq!(usual, b"before", "nothing is written of what is not usual");
        }
        ((general, written.keep_alive), keep_alive.map(|keep_alive| (usual, keep_alive)))
    }

    fn spec(fields: &Fields, length: usize) -> ResponseSpec<'_> {
        ResponseSpec {
            request_method: Method::Get,
            request_version: Version::Http11,
            status: StatusCode::OK,
            fields,
            framing: Framing::Length(length as u64),
            keep_alive: true,
            date: Some(b"Sun, 06 Nov 1994 08:49:37 GMT"),
        }
    }

    #[test]
    fn a_usual_response_is_written_the_same_in_one_go() {
        let mut fields = Fields::new();
        for (name, value) in [("content-type", "text/plain"), ("x-empty", ""), ("set-cookie", "a=b")] {
            for length in [0, 1, 9, 10, 99, 100, 999, 1000, 9999, 10_000, 10_001, 99_999, 100_000, 1_234_567] {
                for keep_alive in [true, false] {
                    let (general, usual) =
                        both(&ResponseSpec { keep_alive, ..spec(&fields, length) }, &vec![b'x'; length]);
                    assert_eq!(Some(general), usual, "{length} bytes, {keep_alive}");
                }
            }
            fields.append(name, value).unwrap();
        }
    }

    #[test]
    fn an_unusual_response_is_not() {
        let plain = Fields::new();
        let usual = spec(&plain, 2);
        assert!(both(&usual, b"ab").1.is_some());
        for unusual in [
            ResponseSpec { request_method: Method::Head, ..usual },
            ResponseSpec { request_method: Method::Connect, ..usual },
            ResponseSpec { request_version: Version::Http10, ..usual },
            ResponseSpec { status: StatusCode::NOT_FOUND, ..usual },
            ResponseSpec { status: StatusCode::NO_CONTENT, ..usual },
            ResponseSpec { framing: Framing::Chunked, ..usual },
            ResponseSpec { framing: Framing::UntilClose, ..usual },
            ResponseSpec { date: None, ..usual },
            ResponseSpec { date: Some(b"yesterday"), ..usual },
        ] {
            assert_eq!(both(&unusual, b"ab").1, None, "{unusual:?}");
        }
        for (name, value) in
            [("date", "x"), ("connection", "close"), ("content-length", "7"), ("te", "x"), ("upgrade", "x")]
        {
            let mut fields = Fields::new();
            fields.append(name, value).unwrap();
            assert_eq!(both(&spec(&fields, 2), b"ab").1, None, "{name}");
        }
        let mut out = Vec::new();
        assert_eq!(write_usual_response(&mut out, &usual, b"abc"), None, "not the length that was declared");
        assert!(out.is_empty());
    }
}
