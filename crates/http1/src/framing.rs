//! How a message body ends, decided once (RFC 9112 §6.3).

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
