//! Fields that concern one connection only (RFC 9110 §7.6.1).

/// The members of a comma-separated list of tokens, trimmed, empty members left out
/// (RFC 9110 §5.6.1). Compare them ignoring case.
pub fn tokens(value: &[u8]) -> impl Iterator<Item = &[u8]> {
    value.split(|&byte| byte == b',').map(crate::ascii::trim).filter(|token| !token.is_empty())
}

/// Whether a field of this name is never forwarded, whatever `Connection` lists
/// (RFC 9110 §7.6.1, §10.1.4, §11.7).
///
/// `TE` is among them: forward it only as `TE: trailers`, which the sender writes anew.
pub fn is_hop_by_hop(name: impl AsRef<[u8]>) -> bool {
    let name = name.as_ref();
    let is = |known: &str| name.eq_ignore_ascii_case(known.as_bytes());
    match name.len() {
        2 => is("te"),
        7 => is("trailer") || is("upgrade"),
        10 => is("connection") || is("keep-alive"),
        16 => is("proxy-connection"),
        17 => is("transfer-encoding"),
        18 => is("proxy-authenticate"),
        19 => is("proxy-authorization"),
        25 => is("proxy-authentication-info"),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_are_trimmed_and_empty_ones_left_out() {
        let list: Vec<_> = tokens(b" close ,, \tX-A,").collect();
        assert_eq!(list, [&b"close"[..], b"X-A"]);
    }

    #[test]
    fn hop_by_hop_names_ignore_case() {
        for name in [
            "connection",
            "KEEP-Alive",
            "proxy-connection",
            "te",
            "Trailer",
            "transfer-encoding",
            "Upgrade",
            "proxy-authenticate",
            "Proxy-Authorization",
            "proxy-authentication-info",
        ] {
            assert!(is_hop_by_hop(name), "{name}");
        }
        assert!(is_hop_by_hop("TE"));
        assert!(!is_hop_by_hop("Host"));
        assert!(!is_hop_by_hop("Content-Length"));
    }
}
