//! Request targets and authorities (RFC 9112 §3.2, RFC 3986 §3).

/// The four shapes a request target has (RFC 9112 §3.2).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum TargetForm {
    /// `/path?query`
    Origin,
    /// `http://host/path?query`
    Absolute,
    /// `host:port`, only with `CONNECT`
    Authority,
    /// `*`, only with `OPTIONS`
    Asterisk,
}
