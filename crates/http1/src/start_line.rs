//! Request lines and status lines (RFC 9112 §3, §4).

use crate::ascii::{is_field_value, is_token};
use crate::target::{self, Target};
use crate::{ErrorKind, Limits, Method, StatusCode, Version};
use std::ops::Range;

/// Longest method name looked at, in bytes; the longest registered one has 17.
pub(crate) const METHOD_BYTES_MAX: usize = 32;

/// A request line, with offsets from the front of the input.
#[derive(Debug, Clone)]
pub(crate) struct RequestLine {
    pub(crate) method: Method,
    pub(crate) version: Version,
    pub(crate) target: Target,
}

impl RequestLine {
    /// What stands where there is none.
    pub(crate) const EMPTY: Self = Self { method: Method::Get, version: Version::Http11, target: Target::EMPTY };
}

/// A status line, with offsets from the front of the input.
#[derive(Debug, Clone)]
pub(crate) struct StatusLine {
    pub(crate) status: StatusCode,
    pub(crate) version: Version,
    pub(crate) reason: Range<u16>,
}

/// Where a request line must have ended: method, target, version, two spaces and CRLF.
pub(crate) fn request_line_end_max(limits: &Limits) -> usize {
    (METHOD_BYTES_MAX + 1)
        .saturating_add(limits.target_bytes_max)
        .saturating_add(b" HTTP/1.1\r\n".len())
        .min(limits.head_bytes())
}

/// What is wrong with a request line that has no end where it must.
pub(crate) fn overlong_request_line(input: &[u8]) -> ErrorKind {
    if input.iter().take(METHOD_BYTES_MAX + 1).any(|&byte| byte == b' ') {
        ErrorKind::TargetTooLong
    } else {
        ErrorKind::Method
    }
}

/// Reads the request line that stands at the front of the input.
///
/// The method is judged last: an unknown one in an otherwise good line is a 501, not a 400.
pub(crate) fn request_line(line: &[u8], limits: &Limits) -> Result<RequestLine, ErrorKind> {
    if line == b"PRI * HTTP/2.0" {
        return Err(ErrorKind::Http2Preface);
    }
    let method_end = memchr::memchr(b' ', line).ok_or(ErrorKind::StartLine)?;
    let name = &line[..method_end];
    if !is_token(name) {
        return Err(ErrorKind::Method);
    }
    let target_start = method_end + 1;
    let target_end = target_start + memchr::memchr(b' ', &line[target_start..]).ok_or(ErrorKind::StartLine)?;
    if target_end - target_start > limits.target_bytes_max {
        return Err(ErrorKind::TargetTooLong);
    }
    let target = &line[target_start..target_end];
    let version = version(&line[target_end + 1..])?;
    let method = Method::from_bytes(name);
    let target = match method {
        Some(method) => target::parse(method, target, target_start)?,
        None if target::is_visible(target) => return Err(ErrorKind::UnknownMethod),
        None => return Err(ErrorKind::Target),
    };
    let method = method.ok_or(ErrorKind::UnknownMethod)?;
    Ok(RequestLine { method, version, target })
}

/// Reads the status line that stands at the front of the input. The space after the code may be
/// missing when there is no reason phrase, as some servers write it.
pub(crate) fn status_line(line: &[u8]) -> Result<StatusLine, ErrorKind> {
    let (prefix, rest) = line.split_at_checked(VERSION_BYTES).ok_or(ErrorKind::StartLine)?;
    let version = version(prefix)?;
    let [b' ', a, b, c, reason @ ..] = rest else {
        return Err(ErrorKind::Status);
    };
    let status = status_code([*a, *b, *c]).ok_or(ErrorKind::Status)?;
    let start = match reason {
        [] => line.len(),
        [b' ', phrase @ ..] if is_field_value(phrase) => line.len() - phrase.len(),
        _ => return Err(ErrorKind::Status),
    };
    Ok(StatusLine { status, version, reason: start as u16..line.len() as u16 })
}

/// Whether what has arrived of a status line can still become one.
pub(crate) fn may_be_status_line(input: &[u8]) -> bool {
    input.iter().zip(b"HTTP/").all(|(got, expect)| got == expect)
}

/// `HTTP/1.1` has this many bytes.
const VERSION_BYTES: usize = 8;

fn version(bytes: &[u8]) -> Result<Version, ErrorKind> {
    match bytes {
        b"HTTP/1.1" => Ok(Version::Http11),
        b"HTTP/1.0" => Ok(Version::Http10),
        [b'H', b'T', b'T', b'P', b'/', major, b'.', minor] if major.is_ascii_digit() && minor.is_ascii_digit() => {
            match major {
                b'1' => Ok(Version::Http11),
                _ => Err(ErrorKind::UnsupportedVersion),
            }
        }
        _ => Err(ErrorKind::Version),
    }
}

pub(crate) fn status_code(digits: [u8; 3]) -> Option<StatusCode> {
    let code =
        digits.iter().try_fold(0, |code, digit| digit.is_ascii_digit().then(|| code * 10 + u16::from(digit - b'0')))?;
    StatusCode::new(code)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn check(line: &str, expect: Result<(Method, Version), ErrorKind>) {
        let got = request_line(line.as_bytes(), &Limits::default());
        assert_eq!(got.map(|line| (line.method, line.version)), expect, "{line:?}");
    }

    #[test]
    fn parts_are_separated_by_exactly_one_space() {
        check("GET / HTTP/1.1", Ok((Method::Get, Version::Http11)));
        check("GET  / HTTP/1.1", Err(ErrorKind::Version));
        check("GET /  HTTP/1.1", Err(ErrorKind::Version));
        check("GET / HTTP/1.1 ", Err(ErrorKind::Version));
        check(" GET / HTTP/1.1", Err(ErrorKind::Method));
        check("GET\t/ HTTP/1.1", Err(ErrorKind::Method));
        check("GET /", Err(ErrorKind::StartLine));
        check("GET", Err(ErrorKind::StartLine));
        check("", Err(ErrorKind::StartLine));
    }

    #[test]
    fn later_minor_versions_are_read_as_1_1() {
        check("GET / HTTP/1.9", Ok((Method::Get, Version::Http11)));
        check("GET / HTTP/2.0", Err(ErrorKind::UnsupportedVersion));
        check("GET / HTTP/0.9", Err(ErrorKind::UnsupportedVersion));
        for bad in ["http/1.1", "HTTP/1.32", "HTTP/01.1", "HTTP/4294967295.1", "HTTP/1", "HTTP/1,1", ""] {
            check(&format!("GET / {bad}"), Err(ErrorKind::Version));
        }
    }

    #[test]
    fn an_unknown_method_is_told_from_a_malformed_line() {
        check("BREW /pot HTTP/1.1", Err(ErrorKind::UnknownMethod));
        check("get / HTTP/1.1", Err(ErrorKind::UnknownMethod));
        check("BREW /pot HTTP/1.x", Err(ErrorKind::Version));
        check("BR@W /pot HTTP/1.1", Err(ErrorKind::Method));
    }

    #[test]
    fn the_space_after_the_status_code_may_be_missing() {
        for line in ["HTTP/1.1 200 OK", "HTTP/1.1 200 ", "HTTP/1.1 200"] {
            assert_eq!(status_line(line.as_bytes()).unwrap().status, StatusCode::OK);
        }
        for line in
            ["HTTP/1.1 20 OK", "HTTP/1.1 2000", "HTTP/1.1  200", "HTTP/1.1 099 x", "HTTP/1.1 600 x", "HTTP/1.1 +20 x"]
        {
            assert_eq!(status_line(line.as_bytes()).unwrap_err(), ErrorKind::Status, "{line}");
        }
    }
}
