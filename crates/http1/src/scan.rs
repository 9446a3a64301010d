//! The common shapes of a head's lines, recognised in one pass of sixteen bytes at a step.
//!
//! What is recognised here is a part of what `start_line` and `section` accept, and is read the same. `None` means only
//! "not that simple": those judge it then, and only they refuse anything. Nothing here keeps state.

#![allow(clippy::needless_bitwise_bool, reason = "an early exit would keep a block from becoming vector instructions")]

use crate::ascii::control_bytes;
use crate::framing::Facts;
use crate::received::FieldSpan;
use crate::start_line::{self, METHOD_BYTES_MAX, RequestLine, StatusLine};
use crate::target::Target;
use crate::{Limits, Method, ReceivedFields, Version};

/// Bytes looked at in one step: what the smallest vector registers hold.
const BLOCK: usize = 16;

/// A whole head: what it begins with, its fields but for their bytes, and in `facts`, which are empty before, what they
/// say.
#[inline]
pub(crate) fn request_head(input: &[u8], limits: &Limits, facts: &mut Facts) -> Option<ScannedRequest> {
    let window = &input[..input.len().min(limits.head_bytes())];
    let (line, mut at) = request_line(window, limits)?;
    let mut fields = ReceivedFields::default();
    let spans = fields.spans_mut();
    while window.get(at..at + 2)? != b"\r\n" {
        let host = if facts.host.is_none() { host_line(window, at) } else { None };
        let (span, next_line) = if let Some((span, next_line)) = host {
            facts.host = Some(span);
            (span, next_line)
        } else {
            let (span, next_line) = field_line(window, at)?;
            facts.note_request(window, span).ok()?;
            (span, next_line)
        };
        if spans.len() == limits.fields_max {
            return None;
        }
        spans.push(span);
        at = next_line;
    }
    Some(ScannedRequest { line, fields, length: at + 2 })
}

/// What [`request_head`] has found.
pub(crate) struct ScannedRequest {
    pub(crate) line: RequestLine,
    pub(crate) fields: ReceivedFields,
    pub(crate) length: usize,
}

/// As [`request_head`], of a response: what it begins with, its fields' facts, and its fields but for their bytes.
#[inline]
pub(crate) fn response_head(input: &[u8], limits: &Limits) -> Option<ScannedResponse> {
    let window = &input[..input.len().min(limits.head_bytes())];
    let (line, mut at) = status_line(window)?;
    let mut fields = ReceivedFields::default();
    let spans = fields.spans_mut();
    let mut facts = Facts::default();
    while window.get(at..at + 2)? != b"\r\n" {
        let (span, next_line) = field_line(window, at)?;
        facts.note(window, span).ok()?;
        if spans.len() == limits.fields_max {
            return None;
        }
        spans.push(span);
        at = next_line;
    }
    Some(ScannedResponse { line, fields, facts, length: at + 2 })
}

/// What [`response_head`] has found.
pub(crate) struct ScannedResponse {
    pub(crate) line: StatusLine,
    pub(crate) fields: ReceivedFields,
    pub(crate) facts: Facts,
    pub(crate) length: usize,
}

/// A status line of the usual version with a reason phrase, and where the next line starts.
#[inline]
fn status_line(window: &[u8]) -> Option<(StatusLine, usize)> {
    const VERSION: &[u8; 9] = b"HTTP/1.1 ";
    let [digits @ .., b' '] = window.strip_prefix(VERSION)?.first_chunk::<4>()? else { return None };
    let status = start_line::status_code(*digits)?;
    let start = VERSION.len() + 4;
    let end = find_control(window, start);
    let next_line = end + 2;
    (window.get(end..next_line)? == b"\r\n").then_some(())?;
    Some((StatusLine { status, version: Version::Http11, reason: start as u16..end as u16 }, next_line))
}

/// A request line with an origin-form target and the usual version, and where the next line starts.
///
/// Its length needs no limit of its own: a method is one of those we know, and the target has its limit.
#[inline]
fn request_line(window: &[u8], limits: &Limits) -> Option<(RequestLine, usize)> {
    let (method, start) = if window.starts_with(b"GET ") {
        (Method::Get, 4)
    } else {
        let end = window.iter().take(METHOD_BYTES_MAX).position(|&byte| byte == b' ')?;
        (Method::from_bytes(&window[..end])?, end + 1)
    };
    let [b'/', second, ..] = window.get(start..)? else { return None };
    if *second == b'/' || method == Method::Connect {
        return None;
    }
    let path_end = find(window, start, |byte| !is_visible(byte) | (byte == b'?') | (byte == b'\\') | (byte == b'#'));
    let has_query = window.get(path_end) == Some(&b'?');
    let end = if has_query { find(window, path_end, |byte| !is_visible(byte) | (byte == b'#')) } else { path_end };
    let target_fits = end - start <= limits.target_bytes_max;
    let version_end = end + LINE_TAIL.len();
    if !target_fits || window.get(end..version_end)? != LINE_TAIL {
        return None;
    }
    let target = Target::origin(start, path_end, end);
    Some((RequestLine { method, version: Version::Http11, target }, version_end))
}

/// What follows the target.
const LINE_TAIL: &[u8; 11] = b" HTTP/1.1\r\n";

/// A field line whose name is letters, digits and hyphens and whose value is not empty, has no tabs, and one space
/// before it and none after; and where the next line starts.
#[inline]
fn field_line(window: &[u8], start: usize) -> Option<(FieldSpan, usize)> {
    let name_end = find(window, start, |byte| !is_letter(byte) & !byte.is_ascii_digit() & (byte != b'-'));
    let value_start = name_end + 2;
    if name_end == start || window.get(name_end..value_start)? != b": " {
        return None;
    }
    let value_end = find_control(window, value_start);
    let next_line = value_end + 2;
    if window.get(value_end..next_line)? != b"\r\n" {
        return None;
    }
    let value = &window[value_start..value_end];
    if *value.first()? == b' ' || *value.last()? == b' ' {
        return None;
    }
    Some((FieldSpan::new(start, name_end, value_start, value_end), next_line))
}

/// A `Host` line as browsers write it, judged on the way: its value is a name of letters, digits, dots and hyphens, and
/// perhaps a port. What [`field_line`] and [`is_host`] would say of it, in one pass.
#[inline]
fn host_line(window: &[u8], start: usize) -> Option<(FieldSpan, usize)> {
    let [name @ .., b':', b' '] = window.get(start..)?.first_chunk::<6>()? else { return None };
    // The bit folds the case; only a letter becomes a letter by it.
    if u32::from_le_bytes(*name) | 0x2020_2020 != u32::from_le_bytes(*b"host") {
        return None;
    }
    let value_start = start + 6;
    let name_end = find(window, value_start, |byte| !is_host_byte(byte));
    let end = match window.get(name_end)? {
        b':' => name_end + 1 + port_digits(*window.get(name_end + 1..)?.first_chunk()?)?,
        _ => name_end,
    };
    let is_line = name_end > value_start && window.get(end..end + 2)? == b"\r\n";
    is_line.then(|| (FieldSpan::new(start, start + 4, value_start, end), end + 2))
}

/// How many digits stand in front that make up a port; one at least.
#[inline]
fn port_digits(bytes: [u8; 8]) -> Option<usize> {
    const ONES: u64 = u64::MAX / 0xff;
    const LAST: u64 = u64::from_be_bytes(*b"\0\0\x0065535");
    let word = u64::from_le_bytes(bytes);
    // 0 to 9 where a digit stands. What else there is sets its highest bit by itself or when this is added; what is
    // carried over changes only bytes behind the first.
    let numbers = word ^ (ONES * 0x30);
    let others = (numbers | numbers.wrapping_add(ONES * 0x76)) & (ONES * 0x80);
    let count = (others.trailing_zeros() / u8::BITS) as usize;
    match count {
        1..PORT_DIGITS => Some(count),
        // Of equal length, digits compare as the numbers they make up.
        PORT_DIGITS => (u64::from_be_bytes(bytes) >> 24 <= LAST).then_some(count),
        _ => None,
    }
}

/// What host names are made of, but for what is rare.
const fn is_host_byte(byte: u8) -> bool {
    is_letter(byte) | byte.is_ascii_digit() | (byte == b'.') | (byte == b'-')
}

/// Whether the value is a host name of letters, digits, dots and hyphens, and perhaps a port.
#[inline]
pub(crate) fn is_host(input: &[u8], value: FieldSpan) -> bool {
    let range = value.value_range();
    let (start, end) = (usize::from(range.start), usize::from(range.end));
    let window = &input[..input.len().min(end + BLOCK)];
    let name_end = find(window, start, |byte| !is_host_byte(byte));
    if name_end == start || name_end >= end {
        return name_end == end && start < end;
    }
    window[name_end] == b':' && is_port(&window[name_end + 1..end])
}

/// Whether these are the digits of a port, written without more zeros in front than make up five digits.
#[inline]
fn is_port(digits: &[u8]) -> bool {
    if digits.is_empty() || digits.len() > PORT_DIGITS {
        return false;
    }
    let mut number = 0;
    for digit in digits.iter().map(|byte| u32::from(byte.wrapping_sub(b'0'))) {
        if digit > 9 {
            return false;
        }
        number = 10 * number + digit;
    }
    u16::try_from(number).is_ok()
}

/// How many digits the largest port has.
const PORT_DIGITS: usize = 5;

const fn is_letter(byte: u8) -> bool {
    (byte | 0x20).wrapping_sub(b'a') < 26
}

const fn is_visible(byte: u8) -> bool {
    byte.wrapping_sub(0x21) < 0x7f - 0x21
}

/// Where the first control byte at or after `from` is, HTAB included, or the end. A byte that is none may be taken for
/// one after a byte of 0xff: the caller looks at what it finds.
#[inline]
fn find_control(bytes: &[u8], from: usize) -> usize {
    let mut at = from;
    while let Some(word) = bytes.get(at..).and_then(<[u8]>::first_chunk) {
        let found = control_bytes(u64::from_le_bytes(*word));
        if found != 0 {
            return at + (found.trailing_zeros() / u8::BITS) as usize;
        }
        at += size_of::<u64>();
    }
    let rest = bytes.get(at..).unwrap_or_default();
    at + rest.iter().position(u8::is_ascii_control).unwrap_or(rest.len())
}

/// The first place at or after `from` whose byte `stops`, or the end.
///
/// `stops` is written without early exits, so that a block of it compiles to vector instructions.
#[inline]
fn find(bytes: &[u8], from: usize, stops: impl Fn(u8) -> bool) -> usize {
    let mut at = from;
    while let Some(block) = bytes.get(at..).and_then(<[u8]>::first_chunk) {
        let marks = marks(block, &stops);
        for half in marks.as_chunks().0 {
            let half = u64::from_le_bytes(*half);
            if half != 0 {
                return at + (half.trailing_zeros() / u8::BITS) as usize;
            }
            at += size_of_val(&half);
        }
    }
    let rest = bytes.get(at..).unwrap_or_default();
    at + rest.iter().position(|&byte| stops(byte)).unwrap_or(rest.len())
}

/// All bits of those bytes of a block that `stops`, no bits of the others. By itself, lest it be mixed with what is
/// around it and no longer be recognised as a vector's work.
#[inline(never)]
fn marks(block: &[u8; BLOCK], stops: impl Fn(u8) -> bool) -> [u8; BLOCK] {
    let mut marks = [0; BLOCK];
    for (mark, &byte) in marks.iter_mut().zip(block) {
        *mark = if stops(byte) { 0xff } else { 0 };
    }
    marks
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    /// Every byte at every place among harmless ones, found where a plain loop finds it.
    #[test]
    fn what_stops_is_found_wherever_it_stands() {
        let stops = |byte: u8| !is_visible(byte) | (byte == b'?');
        for length in 0..40 {
            for at in 0..length {
                for byte in 0..=u8::MAX {
                    let mut bytes = vec![b'x'; length];
                    bytes[at] = byte;
                    let expect = bytes.iter().position(|&byte| stops(byte)).unwrap_or(length);
                    assert_eq!(find(&bytes, 0, stops), expect, "{byte:#x} at {at} of {length}");
                    let expect = bytes.iter().position(u8::is_ascii_control).unwrap_or(length);
                    assert_eq!(find_control(&bytes, 0), expect, "{byte:#x} at {at} of {length}");
                }
            }
            assert_eq!(find(&vec![b'x'; length], 3, stops), length.max(3));
        }
    }

    /// Where it may be mistaken, it stops too early and never too late.
    #[test]
    fn no_control_byte_is_passed_over() {
        for (left, right) in [(0xff, 0x7e), (0xff, 0x7f), (0xff, 0), (0x80, 0x1f), (0x1f, 0x20), (0xfe, 0x7f)] {
            let mut bytes = [b'x'; 16];
            (bytes[4], bytes[5], bytes[9]) = (left, right, b'\r');
            let first = bytes.iter().position(u8::is_ascii_control).unwrap();
            assert!(find_control(&bytes, 0) <= first, "{left:#x} {right:#x}");
        }
    }

    fn check(line: &str, expect: Option<(&str, &str)>) {
        let got = field_line(line.as_bytes(), 0).map(|(span, next_line)| {
            assert_eq!(next_line, line.len());
            let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
            (text(span.name(line.as_bytes())), text(span.value(line.as_bytes())))
        });
        assert_eq!(got, expect.map(|(name, value)| (name.to_owned(), value.to_owned())), "{line:?}");
    }

    #[test]
    fn a_host_line_is_read_as_any_other_would_be() {
        let mut hosts: Vec<String> = ["", "a", "a.b-c", "127.0.0.1", "[::1]", "a_b", "a b", "a,b", "a\t", " a", "a "]
            .map(str::to_owned)
            .to_vec();
        hosts.extend([14, 15, 16, 17, 31, 32, 33, 60].map(|length| "x".repeat(length)));
        let ports =
            ["", ":", ":0", ":80", ":8080", ":65535", ":65536", ":99999", ":00080", ":000080", ":8a", ":-1", ": 1"];
        let rest = "\r\nAccept: */*\r\n\r\n";
        for (host, port) in hosts.iter().flat_map(|host| ports.map(|port| (host, port))) {
            for name in ["Host", "host", "HOST", "hosT", "Most", "(ost"] {
                let line = format!("{name}: {host}{port}{rest}");
                let window = line.as_bytes();
                let expect = field_line(window, 0).filter(|(span, _)| name != "Most" && is_host(window, *span));
                assert_eq!(host_line(window, 0), expect, "{line:?}");
            }
        }
        for line in ["", "Host", "Host:", "Host: ", "Host: a", "Host: a:80", "Host: a:80\r", "Host: a:80\n12345678"] {
            assert_eq!(host_line(line.as_bytes(), 0), None, "{line:?}");
        }
    }

    /// Every byte at every place of a port.
    #[test]
    fn a_port_ends_where_its_digits_end() {
        for at in 0..8 {
            for byte in 0..=u8::MAX {
                for filler in *b"05" {
                    let mut bytes = [filler; 8];
                    bytes[at] = byte;
                    let end = bytes.iter().position(|byte| !byte.is_ascii_digit()).unwrap_or(8);
                    let expect = is_port(&bytes[..end]).then_some(end);
                    assert_eq!(port_digits(bytes), expect, "{bytes:?}");
                }
            }
        }
    }

    #[test]
    fn only_the_plainest_lines_are_recognised() {
        check("Host: a\r\n", Some(("Host", "a")));
        check("Accept-Language: en-GB,en;q=0.9 \u{e9}\r\n", Some(("Accept-Language", "en-GB,en;q=0.9 \u{e9}")));
        for unusual in [
            "a:b\r\n",
            "a: \r\n",
            "a:  b\r\n",
            "a: b \r\n",
            "a: b\tc\r\n",
            "a_b: c\r\n",
            ": b\r\n",
            "a : b\r\n",
            "\r\n",
            "a: b\n",
            "a: b\rc\r\n",
            "a: b",
            "a: b\r",
            "a",
            "",
        ] {
            check(unusual, None);
        }
    }
}
