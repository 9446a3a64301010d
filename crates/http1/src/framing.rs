//! How a message body ends, decided once (RFC 9112 §6.3). Never reads the body: see `body`.
//!
//! [`Facts`] collects what the fields of one head say about the connection and the body while they
//! are parsed; `request_framing` and `response_framing` turn it into one answer.

use crate::ascii::{is_token, trim};
use crate::received::FieldSpan;
use crate::{ErrorKind, Method, StatusCode, Version, scan, target, tokens};

/// How a body ends. Nothing downstream looks at `Content-Length` or `Transfer-Encoding` again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Framing {
    /// There is no body.
    None,
    /// Exactly this many bytes.
    Length(u64),
    /// Chunks, then perhaps trailers.
    Chunked,
    /// Until the connection closes: only responses.
    UntilClose,
}

impl Framing {
    /// Whether the message has no body bytes at all: none, or a declared length of zero.
    pub const fn is_empty(self) -> bool {
        matches!(self, Self::None | Self::Length(0))
    }
}

/// What the fields of one head say about everything but the application.
#[derive(Debug, Default)]
pub(crate) struct Facts {
    pub(crate) host: Option<FieldSpan>,
    pub(crate) content_length: Option<u64>,
    expectation: Expectation,
    pub(crate) seen: Signs,
}

/// What was seen in a head: a bit for each [`Sign`].
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Signs(u8);

impl Signs {
    pub(crate) const NONE: Self = Self(0);

    pub(crate) fn has(self, sign: Sign) -> bool {
        self.0 & sign as u8 != 0
    }
}

/// What may be seen in a head.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Sign {
    /// `Transfer-Encoding: chunked`.
    Chunked = 1,
    ContentType = 2,
    /// `Connection` lists `close`.
    Close = 4,
    /// `Connection` lists `keep-alive`.
    KeepAlive = 8,
    /// `Connection` lists `upgrade`.
    UpgradeOption = 16,
    /// An `Upgrade` field.
    Upgrade = 32,
    /// A `TE` field.
    Te = 64,
}

/// What `Expect` asks for.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
enum Expectation {
    #[default]
    None,
    Continue,
    Unknown,
}

impl Facts {
    /// Takes notice of a request's field.
    #[inline]
    pub(crate) fn note_request(&mut self, input: &[u8], span: FieldSpan) -> Result<(), ErrorKind> {
        let name = span.name(input);
        match name.len() {
            2 if is(name, b"te") => self.see(Sign::Te),
            4 if is(name, b"host") => {
                let good = scan::is_host(input, span) || target::host_name_end(span.value(input)).is_some();
                if self.host.is_some() || !good {
                    return Err(ErrorKind::Host);
                }
                self.host = Some(span);
            }
            6 if is(name, b"expect") => {
                let value = span.value(input);
                let known = value.eq_ignore_ascii_case(b"100-continue") && self.expectation == Expectation::None;
                self.expectation = if known { Expectation::Continue } else { Expectation::Unknown };
            }
            12 if is(name, b"content-type") => {
                if self.has(Sign::ContentType) {
                    return Err(ErrorKind::ContentType);
                }
                self.see(Sign::ContentType);
            }
            _ => return self.note(input, span),
        }
        Ok(())
    }

    /// Takes notice of a response's field.
    #[inline]
    pub(crate) fn note(&mut self, input: &[u8], span: FieldSpan) -> Result<(), ErrorKind> {
        let name = span.name(input);
        match name.len() {
            7 if is(name, b"upgrade") => self.see(Sign::Upgrade),
            10 if is(name, b"connection") => self.note_connection(span.value(input)),
            14 if is(name, b"content-length") => {
                if self.content_length.is_some() {
                    return Err(ErrorKind::ContentLength);
                }
                self.content_length = Some(content_length(span.value(input))?);
            }
            17 if is(name, b"transfer-encoding") => {
                if self.has(Sign::Chunked) {
                    return Err(ErrorKind::TransferEncoding);
                }
                only_chunked(span.value(input))?;
                self.see(Sign::Chunked);
            }
            _ => {}
        }
        Ok(())
    }

    /// Whether no field but `Host` has said anything.
    #[inline]
    pub(crate) fn say_nothing_else(&self) -> bool {
        self.seen.0 == 0 && self.content_length.is_none() && self.expectation == Expectation::None
    }

    fn see(&mut self, sign: Sign) {
        self.seen.0 |= sign as u8;
    }

    fn has(&self, sign: Sign) -> bool {
        self.seen.has(sign)
    }

    fn note_connection(&mut self, value: &[u8]) {
        if is(value, b"keep-alive") {
            return self.see(Sign::KeepAlive); // what browsers send
        }
        if is(value, b"close") {
            return self.see(Sign::Close); // what clients of one request send
        }
        for option in tokens(value) {
            match option.len() {
                5 if option.eq_ignore_ascii_case(b"close") => self.see(Sign::Close),
                7 if option.eq_ignore_ascii_case(b"upgrade") => self.see(Sign::UpgradeOption),
                10 if option.eq_ignore_ascii_case(b"keep-alive") => self.see(Sign::KeepAlive),
                _ => {}
            }
        }
    }

    /// Whether the sender lets the connection live (RFC 9112 §9.3).
    pub(crate) fn keep_alive(&self, version: Version) -> bool {
        !self.has(Sign::Close) && (version == Version::Http11 || self.has(Sign::KeepAlive))
    }

    /// Whether the sender offers to switch protocols (RFC 9110 §7.8).
    pub(crate) fn upgrade(&self, version: Version) -> bool {
        self.has(Sign::Upgrade) && self.has(Sign::UpgradeOption) && version == Version::Http11
    }

    /// Whether a `100 Continue` is waited for; HTTP/1.0 knows no expectations.
    pub(crate) fn expects_continue(&self, version: Version) -> Result<bool, ErrorKind> {
        match (version, self.expectation) {
            (Version::Http11, Expectation::Unknown) => Err(ErrorKind::Expectation),
            (Version::Http11, Expectation::Continue) => Ok(true),
            _ => Ok(false),
        }
    }

    /// How the body of a request ends.
    pub(crate) fn request_framing(&self, version: Version) -> Result<Framing, ErrorKind> {
        Ok(self.declared(version)?.unwrap_or(Framing::None))
    }

    /// How the body of the response to `method` ends.
    pub(crate) fn response_framing(
        &self,
        version: Version,
        status: StatusCode,
        method: Method,
    ) -> Result<Framing, ErrorKind> {
        let tunnel = method == Method::Connect && status.is_success();
        if method == Method::Head || status.forbids_body() || tunnel {
            return Ok(Framing::None);
        }
        Ok(self.declared(version)?.unwrap_or(Framing::UntilClose))
    }

    fn declared(&self, version: Version) -> Result<Option<Framing>, ErrorKind> {
        match (self.has(Sign::Chunked), self.content_length) {
            (true, Some(_)) => Err(ErrorKind::AmbiguousFraming),
            (true, None) if version == Version::Http10 => Err(ErrorKind::TransferEncoding),
            (true, None) => Ok(Some(Framing::Chunked)),
            (false, length) => Ok(length.map(Framing::Length)),
        }
    }
}

/// Whether a name or value is this one, in any case; `known` is lower-case letters and hyphens.
///
/// Setting one bit is enough to fold the case: but for control bytes, which neither has, no other byte becomes a
/// letter or a hyphen by it.
fn is<const LEN: usize>(text: &[u8], known: &[u8; LEN]) -> bool {
    let Ok(text) = <&[u8; LEN]>::try_from(text) else {
        return false;
    };
    let differing = text.iter().zip(known).fold(0, |bits, (byte, known)| bits | ((byte | 0x20) ^ known));
    differing == 0
}

/// Digits only, in decimal, whatever zeros stand in front.
fn content_length(value: &[u8]) -> Result<u64, ErrorKind> {
    if value.is_empty() {
        return Err(ErrorKind::ContentLength);
    }
    value
        .iter()
        .try_fold(0_u64, |length, byte| {
            let digit = byte.is_ascii_digit().then(|| u64::from(byte - b'0'))?;
            length.checked_mul(10)?.checked_add(digit)
        })
        .ok_or(ErrorKind::ContentLength)
}

/// Lets the single coding `chunked` pass; tells codings nobody here implements from nonsense.
fn only_chunked(value: &[u8]) -> Result<(), ErrorKind> {
    if value.eq_ignore_ascii_case(b"chunked") {
        return Ok(());
    }
    let mut codings = value.split(|&byte| byte == b',').map(trim).rev();
    let last = codings.next().unwrap_or_default();
    let others_ok = codings.all(|coding| is_token(coding) && !coding.eq_ignore_ascii_case(b"chunked"));
    if last.eq_ignore_ascii_case(b"chunked") && others_ok {
        Err(ErrorKind::UnknownCoding)
    } else {
        Err(ErrorKind::TransferEncoding)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn content_length_is_decimal_digits_that_fit() {
        let good: [(&[u8], u64); 4] = [(b"0", 0), (b"010", 10), (b"42", 42), (b"18446744073709551615", u64::MAX)];
        for (value, expect) in good {
            assert_eq!(content_length(value), Ok(expect));
        }
        for bad in ["", "+5", "-1", "0x5", "1_0", "5 5", "5Z", "5,5", "5, 7", "18446744073709551616"] {
            assert_eq!(content_length(bad.as_bytes()), Err(ErrorKind::ContentLength), "{bad:?}");
        }
    }

    #[test]
    fn one_chunked_and_nothing_else() {
        for good in ["chunked", "Chunked", "CHUNKED"] {
            assert_eq!(only_chunked(good.as_bytes()), Ok(()));
        }
        for unknown in ["gzip, chunked", "identity,chunked", "a , b,\tchunked"] {
            let got = only_chunked(unknown.as_bytes());
            assert_eq!(got, Err(ErrorKind::UnknownCoding), "{unknown}");
        }
        for bad in [
            "",
            ",",
            ",chunked",
            "chunked,",
            "xchunked",
            "chunkedchunked",
            "identity",
            "gzip",
            "chunked, gzip",
            "chunked, chunked",
            "chunked;x=1",
            "\u{b}chunked",
            "g zip, chunked",
            "chunked\u{a0}",
            "\"chunked\"",
        ] {
            let got = only_chunked(bad.as_bytes());
            assert_eq!(got, Err(ErrorKind::TransferEncoding), "{bad:?}");
        }
    }
}
