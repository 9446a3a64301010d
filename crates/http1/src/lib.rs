//! HTTP/1.1 as bytes and events, both roles, no IO (RFC 9110, RFC 9112).
