//! The versions a message can have come in (RFC 9112 §2.3, RFC 9113).

use std::fmt;

/// The version of a received message. `HTTP/1.2` and later minor versions are read as 1.1.
///
/// A head of [`Version::Http2`] is never decoded here: it was put together from parts
/// ([`RequestHead::assemble`](crate::RequestHead::assemble)) and is otherwise as one of HTTP/1.1. So code that asks
/// whether a client is *old* compares with [`Version::Http10`], logs write [`Version::as_str`], and who wants to know
/// by what a request came matches all three.
///
/// ```
/// use http1::Version;
/// assert!(Version::Http10 < Version::Http11 && Version::Http11 < Version::Http2);
/// assert_eq!(Version::Http2.to_string(), "HTTP/2.0");
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Version {
    /// `HTTP/1.0`: one message per connection unless both sides say `keep-alive`, never chunked.
    Http10,
    /// `HTTP/1.1`.
    Http11,
    /// HTTP/2: one stream of a connection, framed by it.
    Http2,
}

impl Version {
    /// `HTTP/1.0`, `HTTP/1.1`, or `HTTP/2.0` as other servers' logs have it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Http10 => "HTTP/1.0",
            Self::Http11 => "HTTP/1.1",
            Self::Http2 => "HTTP/2.0",
        }
    }

    /// `1.0`, `1.1` or `2.0`: what `Via` says (RFC 9110 §7.6.3).
    pub const fn number(self) -> &'static str {
        match self {
            Self::Http10 => "1.0",
            Self::Http11 => "1.1",
            Self::Http2 => "2.0",
        }
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}
