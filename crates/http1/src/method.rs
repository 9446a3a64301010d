//! Request methods (RFC 9110 §9, RFC 5789).

use std::fmt;

/// A method this implementation knows. Names are case-sensitive; any other token is answered 501.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Method {
    /// Transfers a current representation.
    Get,
    /// `GET` without the content.
    Head,
    /// Processes the request content.
    Post,
    /// Replaces the target's state.
    Put,
    /// Removes the target.
    Delete,
    /// Opens a tunnel.
    Connect,
    /// Describes the communication options.
    Options,
    /// Loops the request back.
    Trace,
    /// Applies partial modifications (RFC 5789).
    Patch,
}

impl Method {
    /// Every method, in the order of RFC 9110 §9.1.
    pub const ALL: [Self; 9] = [
        Self::Get,
        Self::Head,
        Self::Post,
        Self::Put,
        Self::Delete,
        Self::Connect,
        Self::Options,
        Self::Trace,
        Self::Patch,
    ];

    /// Reads a method name exactly as written; `None` for one that is not implemented.
    pub fn from_bytes(name: &[u8]) -> Option<Self> {
        Some(match name {
            b"GET" => Self::Get,
            b"HEAD" => Self::Head,
            b"POST" => Self::Post,
            b"PUT" => Self::Put,
            b"DELETE" => Self::Delete,
            b"CONNECT" => Self::Connect,
            b"OPTIONS" => Self::Options,
            b"TRACE" => Self::Trace,
            b"PATCH" => Self::Patch,
            _ => return None,
        })
    }

    /// The name as it goes on the wire.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Get => "GET",
            Self::Head => "HEAD",
            Self::Post => "POST",
            Self::Put => "PUT",
            Self::Delete => "DELETE",
            Self::Connect => "CONNECT",
            Self::Options => "OPTIONS",
            Self::Trace => "TRACE",
            Self::Patch => "PATCH",
        }
    }

    /// Whether repeating the request has the effect of sending it once (RFC 9110 §9.2.2).
    pub const fn is_idempotent(self) -> bool {
        !matches!(self, Self::Post | Self::Connect | Self::Patch)
    }

    /// Whether the request asks for no change (RFC 9110 §9.2.1).
    pub const fn is_safe(self) -> bool {
        matches!(self, Self::Get | Self::Head | Self::Options | Self::Trace)
    }
}

impl fmt::Display for Method {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl std::str::FromStr for Method {
    type Err = UnknownMethod;

    fn from_str(name: &str) -> Result<Self, UnknownMethod> {
        Self::from_bytes(name.as_bytes()).ok_or(UnknownMethod)
    }
}

/// The name is not one of [`Method::ALL`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("unknown method")]
pub struct UnknownMethod;

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn every_method_reads_back_what_it_writes() {
        for method in Method::ALL {
            assert_eq!(method.as_str().parse::<Method>().unwrap(), method);
        }
    }

    #[test]
    fn names_are_case_sensitive() {
        assert_eq!(Method::from_bytes(b"get"), None);
        assert_eq!(Method::from_bytes(b"GETS"), None);
        assert_eq!(Method::from_bytes(b""), None);
    }
}
