//! Percent-encoding (RFC 3986 §2.1): decoded exactly once, never twice.
//!
//! ```
//! use weaprous::percent;
//!
//! assert_eq!(percent::encode("a b/ä"), "a%20b%2F%C3%A4");
//! assert_eq!(percent::decode("a%20b%2F%C3%A4").as_deref(), Ok("a b/ä"));
//! assert_eq!(percent::decode("%2520").as_deref(), Ok("%20"));
//! assert_eq!(percent::decode_form("a+b").as_deref(), Ok("a b"));
//! assert!(percent::decode("%zz").is_err());
//! ```

/// Why a string could not be decoded.
///
/// ```
/// use weaprous::percent::{PercentError, decode};
/// assert_eq!(decode("100%"), Err(PercentError::Incomplete));
/// assert_eq!(decode("%ff"), Err(PercentError::NotUtf8));
/// assert_eq!(decode("%00"), Err(PercentError::Nul));
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum PercentError {
    /// A `%` without two hexadecimal digits after it.
    #[error("a `%` needs two hexadecimal digits after it")]
    Incomplete,
    /// The decoded bytes are no UTF-8.
    #[error("percent-encoded bytes are not UTF-8")]
    NotUtf8,
    /// The decoded text holds a NUL.
    #[error("percent-encoded NUL")]
    Nul,
}

/// Decodes `%xx` in a path segment. `+` stays `+`.
///
/// # Errors
/// A broken escape, bytes that are no UTF-8, or a NUL.
pub fn decode(text: &str) -> Result<String, PercentError> {
    decode_bytes(text.as_bytes(), false)
}

/// Decodes `%xx` and `+` as in a query or a form (`application/x-www-form-urlencoded`).
///
/// # Errors
/// As [`decode`].
pub fn decode_form(text: &str) -> Result<String, PercentError> {
    decode_bytes(text.as_bytes(), true)
}

/// Encodes everything but unreserved characters (RFC 3986 §2.3): fit for one path segment or one query value.
pub fn encode(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for &byte in text.as_bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            out.push(char::from(byte));
        } else {
            push_escape(&mut out, byte);
        }
    }
    out
}

/// Escapes what no header may carry as a URI reference: controls, spaces, quotes and non-ASCII bytes. What is
/// escaped already stays as it is.
pub(crate) fn escape_reference(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for &byte in text.as_bytes() {
        if byte.is_ascii_graphic() && !b"\"<>\\^`{|}".contains(&byte) {
            out.push(char::from(byte));
        } else {
            push_escape(&mut out, byte);
        }
    }
    out
}

fn push_escape(out: &mut String, byte: u8) {
    const DIGITS: &[u8; 16] = b"0123456789ABCDEF";
    out.push('%');
    out.push(char::from(DIGITS[usize::from(byte >> 4)]));
    out.push(char::from(DIGITS[usize::from(byte & 15)]));
}

fn decode_bytes(text: &[u8], plus_is_space: bool) -> Result<String, PercentError> {
    let mut out = Vec::with_capacity(text.len());
    let mut rest = text.iter().copied();
    while let Some(byte) = rest.next() {
        out.push(match byte {
            b'%' => {
                let mut digit = || rest.next().and_then(hex).ok_or(PercentError::Incomplete);
                digit()? << 4 | digit()?
            }
            b'+' if plus_is_space => b' ',
            other => other,
        });
    }
    if out.contains(&0) {
        return Err(PercentError::Nul);
    }
    String::from_utf8(out).map_err(|_| PercentError::NotUtf8)
}

fn hex(digit: u8) -> Option<u8> {
    char::from(digit).to_digit(16).map(|value| value as u8)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(input: &str, expect: Result<&str, PercentError>) {
        assert_eq!(decode(input).as_deref().map_err(|error| *error), expect, "{input}");
    }

    #[test]
    fn escapes_are_decoded_once() {
        check("a%20b", Ok("a b"));
        check("%252e", Ok("%2e"));
        check("%C3%A9+", Ok("é+"));
        check("", Ok(""));
    }

    #[test]
    fn broken_escapes_are_refused() {
        for input in ["%", "%2", "a%zz", "%+1", "% 1"] {
            check(input, Err(PercentError::Incomplete));
        }
        check("%c0%ae", Err(PercentError::NotUtf8));
        check("%ff", Err(PercentError::NotUtf8));
        check("a%00", Err(PercentError::Nul));
    }

    #[test]
    fn forms_know_the_plus() {
        assert_eq!(decode_form("a+b%2Bc"), Ok("a b+c".to_owned()));
    }

    #[test]
    fn encoding_reverses_decoding() {
        for text in ["a b/c", "é%", "~-._", "\r\n", "@alice+bob"] {
            assert_eq!(decode(&encode(text)).as_deref(), Ok(text));
        }
        assert_eq!(encode("a/b c"), "a%2Fb%20c");
    }

    #[test]
    fn references_keep_their_structure() {
        assert_eq!(escape_reference("/a b?x=é#f\r\n"), "/a%20b?x=%C3%A9#f%0D%0A");
        assert_eq!(escape_reference("/a%20b"), "/a%20b");
    }
}
