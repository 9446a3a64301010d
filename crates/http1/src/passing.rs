//! Messages on their way through a proxy: heads written straight from the received ones, and whole responses read
//! without a decoder. For messages of the usual kind; [`RequestDecoder`](crate::RequestDecoder),
//! [`ResponseDecoder`] and the other writers are for all, and read and write the same.

use crate::ascii::{is_field_value, trim};
use crate::encode::{write_end, write_status_line, write_usual_start};
use crate::fields::Special;
use crate::{
    Fields, Framing, InvalidField, Limits, Method, ReceivedFields, RequestHead, ResponseHead, StatusCode, scan,
};

#[cfg(doc)]
use crate::ResponseDecoder;

/// An IMF-fixdate has this many bytes (RFC 9110 §5.6.7).
const DATE_BYTES: usize = 29;

/// Room for what a head has beside its received fields.
const OWN_BYTES_USUAL: usize = 256;

/// What [`read_whole_response`] has found.
#[derive(Debug)]
pub enum Whole {
    /// All of a final response with content of a known length, and nothing behind it. The number is where its content
    /// begins.
    Response(ResponseHead, usize),
    /// Perhaps the beginning of one.
    Partial,
    /// Anything else: [`ResponseDecoder`] says what.
    Unusual,
}

/// Reads a response to a request with this method, if it is of the usual kind and all of it is in `input`. Nothing is
/// taken and nothing is remembered.
pub fn read_whole_response(input: &[u8], limits: &Limits, answers: Method) -> Whole {
    let Some(mut found) = scan::response_head(input, limits) else {
        let has_ended = input.windows(4).any(|bytes| bytes == b"\r\n\r\n");
        return if has_ended || input.len() >= limits.head_bytes() { Whole::Unusual } else { Whole::Partial };
    };
    found.fields.set_bytes(&input[..found.length]);
    let Ok(head) = ResponseHead::new(found.line, &found.facts, found.fields, answers) else { return Whole::Unusual };
    let Framing::Length(length) = head.framing() else { return Whole::Unusual };
    if head.is_interim() || head.is_switching() || !head.keep_alive() {
        return Whole::Unusual;
    }
    match ((input.len() - found.length) as u64).cmp(&length) {
        std::cmp::Ordering::Equal => Whole::Response(head, found.length),
        std::cmp::Ordering::Less => Whole::Partial,
        std::cmp::Ordering::Greater => Whole::Unusual,
    }
}

/// Appends the head of a request without content: that of `head` with this `host`, the received fields for which `keep`
/// holds, and then `own`. Names of `own` are a program's own, in lower case.
///
/// `Host`, `TE`, `Upgrade` and the fields about the connection and the content are never passed on.
///
/// # Errors
/// A value of `own`, or the host, holds a control byte; nothing was written.
pub fn write_passed_request(
    out: &mut Vec<u8>,
    head: &RequestHead,
    host: &[u8],
    mut keep: impl FnMut(&[u8]) -> bool,
    own: &[(&'static str, &[u8])],
) -> Result<(), InvalidField> {
    let received = head.fields();
    out.reserve(received.bytes().len() + received.len() + host.len() + OWN_BYTES_USUAL);
    let start = out.len();
    out.extend_from_slice(head.method().as_str().as_bytes());
    out.push(b' ');
    out.extend_from_slice(head.target().as_bytes());
    out.extend_from_slice(b" HTTP/1.1\r\n");
    let never = !(Special::Date as u8);
    let written = write_own(out, "host", host).and_then(|()| {
        write_received(out, received, |name| Special::of(name) & never == 0 && keep(name));
        own.iter().try_for_each(|(name, value)| write_own(out, name, value))
    });
    if written.is_err() {
        out.truncate(start);
        return written;
    }
    let framing = if crate::encode::expects_content(head.method()) { Framing::Length(0) } else { Framing::None };
    write_end(out, framing, &Fields::new(), true, false);
    Ok(())
}

/// Appends a whole response to a request of HTTP/1.1 whose connection lives on: the status and the received fields for
/// which `keep` holds, then `own`, `content` and its length. `date` is written unless a `Date` is passed on.
///
/// `TE`, `Upgrade` and the fields about the connection and the content are never passed on.
///
/// # Errors
/// A value of `own` holds a control byte; nothing was written.
pub fn write_passed_response(
    out: &mut Vec<u8>,
    head: &ResponseHead,
    date: &[u8; DATE_BYTES],
    mut keep: impl FnMut(&[u8]) -> bool,
    own: &[(&'static str, &[u8])],
    content: &[u8],
) -> Result<(), InvalidField> {
    let received = head.fields();
    out.reserve(received.bytes().len() + received.len() + content.len() + OWN_BYTES_USUAL);
    let start = out.len();
    let never = !(Special::Date as u8 | Special::Host as u8);
    let mut passes = |name: &[u8]| Special::of(name) & never == 0 && keep(name);
    let mut names = received.iter_bytes().map(|(name, _)| name);
    let has_date = names.any(|name| name.len() == 4 && name.eq_ignore_ascii_case(b"date") && passes(name));
    match (head.status(), has_date) {
        (StatusCode::OK, false) => write_usual_start(out, date),
        (status, has_date) => {
            write_status_line(out, status);
            if !has_date {
                for part in [&b"Date: "[..], date, b"\r\n"] {
                    out.extend_from_slice(part);
                }
            }
        }
    }
    write_received(out, received, passes);
    let written = own.iter().try_for_each(|(name, value)| write_own(out, name, value));
    if written.is_err() {
        out.truncate(start);
        return written;
    }
    write_end(out, Framing::Length(content.len() as u64), &Fields::new(), true, false);
    out.extend_from_slice(content);
    Ok(())
}

/// Appends received fields as they came. They were judged when they were received.
#[inline]
fn write_received(out: &mut Vec<u8>, received: &ReceivedFields, mut keep: impl FnMut(&[u8]) -> bool) {
    for (name, value, line) in received.iter_lines() {
        if keep(name) {
            match line {
                Some(line) => out.extend_from_slice(line),
                None => write_line(out, name, value),
            }
        }
    }
}

#[inline]
fn write_own(out: &mut Vec<u8>, name: &'static str, value: &[u8]) -> Result<(), InvalidField> {
    debug_assert!(crate::ascii::is_token(name.as_bytes()), "a program's own names are tokens");
    let value = trim(value);
    if !is_field_value(value) {
        return Err(InvalidField::Value);
    }
    write_line(out, name.as_bytes(), value);
    Ok(())
}

#[inline]
fn write_line(out: &mut Vec<u8>, name: &[u8], value: &[u8]) {
    out.extend_from_slice(name);
    out.extend_from_slice(b": ");
    out.extend_from_slice(value);
    out.extend_from_slice(b"\r\n");
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::{Event, RequestDecoder, RequestSpec, ResponseDecoder, ResponseSpec, Version};
    use bytes::BytesMut;

    const DATE: &[u8; DATE_BYTES] = b"Sun, 06 Nov 1994 08:49:37 GMT";

    fn request(text: &str) -> RequestHead {
        match RequestDecoder::new(Limits::default()).poll(&mut BytesMut::from(text)) {
            Ok(Some(Event::Head(head))) => head,
            other => panic!("{text}: {other:?}"),
        }
    }

    fn read(text: &str) -> Whole {
        read_whole_response(text.as_bytes(), &Limits::default(), Method::Get)
    }

    fn is_kept(name: &[u8]) -> bool {
        !name.eq_ignore_ascii_case(b"x-dropped")
    }

    #[test]
    fn a_request_is_written_as_from_a_copy_of_its_fields() {
        for fields in [
            "",
            "A: 1\r\nb:2\r\nX-Dropped: 3\r\nA: \t4 \r\n",
            "Connection: keep-alive\r\nKeep-Alive: 5\r\nTE: x\r\nContent-Length: 0\r\nProxy-Connection: a\r\nC: d\r\n",
            "Cookie: a=\u{e9}\r\nDate: then\r\n",
        ] {
            for method in ["GET", "POST", "DELETE"] {
                let head = request(&format!("{method} /a?b HTTP/1.1\r\nHost: h\r\n{fields}\r\n"));
                let mut copy = Fields::new();
                copy.append("host", "other:1").unwrap();
                let passes = |name: &[u8]| {
                    is_kept(name) && !name.eq_ignore_ascii_case(b"host") && !name.eq_ignore_ascii_case(b"te")
                };
                copy.extend_received(head.fields(), passes).unwrap();
                copy.append("x-own", "5").unwrap();
                let spec = RequestSpec {
                    method: head.method(),
                    target: head.target(),
                    fields: &copy,
                    framing: Framing::None,
                    keep_alive: true,
                };
                let mut expect = Vec::new();
                crate::write_request_head(&mut expect, &spec).unwrap();
                let mut out = b"before".to_vec();
                write_passed_request(&mut out, &head, b"other:1", is_kept, &[("x-own", b"5")]).unwrap();
                let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
                assert_eq!(text(&out), format!("before{}", text(&expect)));
            }
        }
    }

    #[test]
    fn a_response_is_written_as_from_a_copy_of_its_fields() {
        for (status, fields) in [
            ("200 OK", ""),
            ("200 Fine", "Server: x\r\nDate: then\r\nConnection: keep-alive\r\nX-Dropped: 1\r\n"),
            ("404 No", "Set-Cookie: a\r\nset-cookie: b\r\nUpgrade: h2c\r\nTE: a\r\nHost: odd\r\n"),
            ("599 Odd", "date: then\r\nKeep-Alive: timeout=5\r\n"),
            ("599 ", ""),
        ] {
            let text = format!("HTTP/1.1 {status}\r\n{fields}Content-Length: 3\r\n\r\nabc");
            let Whole::Response(head, start) = read(&text) else { panic!("{text}") };
            assert_eq!(&text[start..], "abc");
            let mut copy = Fields::new();
            let passes = |name: &[u8]| {
                is_kept(name) && ![&b"upgrade"[..], b"te"].iter().any(|other| name.eq_ignore_ascii_case(other))
            };
            copy.extend_received(head.fields(), passes).unwrap();
            copy.append("x-own", "5").unwrap();
            let spec = ResponseSpec {
                request_method: Method::Get,
                request_version: Version::Http11,
                status: head.status(),
                fields: &copy,
                framing: Framing::Length(3),
                keep_alive: true,
                date: Some(DATE),
            };
            let mut expect = Vec::new();
            crate::write_response_head(&mut expect, &spec).body.whole(&mut expect, b"abc").unwrap();
            let mut out = Vec::new();
            write_passed_response(&mut out, &head, DATE, is_kept, &[("x-own", b"5")], b"abc").unwrap();
            assert_eq!(String::from_utf8(out).unwrap(), String::from_utf8(expect).unwrap());
        }
    }

    /// A field that is not passed on is no reason to leave out one of our own.
    #[test]
    fn a_date_that_is_dropped_is_replaced() {
        let Whole::Response(head, _) = read("HTTP/1.1 201 Made\r\nDate: then\r\nContent-Length: 0\r\n\r\n") else {
            panic!("it is whole")
        };
        for (keeps, date) in [(true, "then"), (false, "Sun, 06 Nov 1994 08:49:37 GMT")] {
            let mut out = Vec::new();
            write_passed_response(&mut out, &head, DATE, |_| keeps, &[], b"").unwrap();
            let text = String::from_utf8(out).unwrap().to_ascii_lowercase();
            let dates: Vec<&str> = text.lines().filter_map(|line| line.strip_prefix("date: ")).collect();
            assert_eq!(dates, [date.to_ascii_lowercase()]);
        }
    }

    /// What is around a value is not part of it (RFC 9110 §5.5): the host as well as fields of our own.
    #[test]
    fn space_around_our_own_values_is_not_written() {
        let mut out = Vec::new();
        let head = request("GET / HTTP/1.1\r\nHost: h\r\n\r\n");
        write_passed_request(&mut out, &head, b"\th ", is_kept, &[("x-own", b" \t5 6\t "), ("x-none", b" ")]).unwrap();
        let Whole::Response(head, _) = read("HTTP/1.1 200 OK\r\nDate: then\r\nContent-Length: 0\r\n\r\n") else {
            panic!("it is whole")
        };
        write_passed_response(&mut out, &head, DATE, is_kept, &[("x-own", b" 7\t")], b"").unwrap();
        let expect = "GET / HTTP/1.1\r\nhost: h\r\nx-own: 5 6\r\nx-none: \r\n\r\n\
                      HTTP/1.1 200 OK\r\nDate: then\r\nx-own: 7\r\nContent-Length: 0\r\n\r\n";
        assert_eq!(String::from_utf8(out).unwrap().to_ascii_lowercase(), expect.to_ascii_lowercase());
    }

    #[test]
    fn nothing_of_our_own_can_end_a_line_early() {
        let head = request("GET / HTTP/1.1\r\nHost: h\r\n\r\n");
        let mut out = b"before".to_vec();
        for (host, value) in [(&b"h\r\nx: y"[..], &b"1"[..]), (b"h", b"1\r\n"), (b"h", b"\0")] {
            assert!(write_passed_request(&mut out, &head, host, is_kept, &[("x-own", value)]).is_err(), "{value:?}");
        }
        let Whole::Response(head, _) = read("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n") else { panic!() };
        assert!(write_passed_response(&mut out, &head, DATE, is_kept, &[("x-own", b"a\nb")], b"").is_err());
        assert_eq!(out, b"before");
    }

    #[test]
    fn only_whole_final_responses_of_a_known_length_are_read() {
        let whole = "HTTP/1.1 200 OK\r\nServer: x\r\nContent-Length: 3\r\n\r\nabc";
        assert!(matches!(read(whole), Whole::Response(..)));
        for end in 0..whole.len() {
            assert!(matches!(read(&whole[..end]), Whole::Partial), "{end}");
        }
        for unusual in [
            "HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nabcd",
            "HTTP/1.1 200 OK\r\n\r\n",
            "HTTP/1.1 204 No Content\r\n\r\n",
            "HTTP/1.1 304 Not Modified\r\nContent-Length: 3\r\n\r\n",
            "HTTP/1.1 100 Continue\r\n\r\n",
            "HTTP/1.1 103 Early Hints\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n",
            "HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n",
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
            "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 0\r\n\r\n",
            "HTTP/1.1 200 OK\r\nContent-Length: 3\r\nContent-Length: 3\r\n\r\nabc",
            "HTTP/1.1 200 OK\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\nabc",
            "HTTP/1.0 200 OK\r\nContent-Length: 0\r\n\r\n",
            "nonsense\r\n\r\n",
        ] {
            assert!(matches!(read(unusual), Whole::Unusual), "{unusual}");
        }
        let endless = format!("HTTP/1.1 200 OK\r\nX: {}", "a".repeat(Limits::default().head_bytes()));
        assert!(matches!(read(&endless), Whole::Unusual));
    }

    #[test]
    fn what_is_read_whole_is_what_the_decoder_reads() {
        let text = "HTTP/1.1 201 Made\r\nLocation: /a\r\nConnection: keep-alive, X-Hop\r\nContent-Length: 2\r\n\r\nok";
        let mut decoder = ResponseDecoder::new(Limits::default());
        decoder.expect(Method::Get);
        let Ok(Some(Event::Head(expect))) = decoder.poll(&mut BytesMut::from(text)) else { panic!() };
        let Whole::Response(head, _) = read(text) else { panic!() };
        assert_eq!(format!("{head:?}"), format!("{expect:?}"));
    }
}
