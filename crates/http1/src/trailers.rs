//! Which fields may stand after the last chunk (RFC 9110 §6.5.1).

/// Whether a field of this name may stand behind content (RFC 9110 §6.5.1), however the message is framed: others would
/// change how it is understood.
pub fn may_be_trailer(name: &[u8]) -> bool {
    judge(name) == Verdict::Keep
}

/// What to do with a trailer field of some name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// It goes to the application, apart from the head's fields.
    Keep,
    /// It would change how the message is understood had it stood in the head: left out.
    Drop,
    /// It would change framing or routing: nobody sends that without evil intent.
    Refuse,
}

/// Judges a trailer field by its name.
pub(crate) fn judge(name: &[u8]) -> Verdict {
    let is_any = |names: &[&str]| names.iter().any(|listed| listed.as_bytes().eq_ignore_ascii_case(name));
    if is_any(&REFUSED) {
        Verdict::Refuse
    } else if is_any(&DROPPED) {
        Verdict::Drop
    } else {
        Verdict::Keep
    }
}

const REFUSED: [&str; 3] = ["content-length", "transfer-encoding", "host"];

/// Fields for framing, routing, request modifiers, authentication, response control, or for how to
/// process the content.
const DROPPED: [&str; 42] = [
    "accept-encoding",
    "age",
    "authorization",
    "cache-control",
    "connection",
    "content-encoding",
    "content-location",
    "content-range",
    "content-security-policy",
    "content-type",
    "cookie",
    "date",
    "expect",
    "expires",
    "forwarded",
    "if-match",
    "if-modified-since",
    "if-none-match",
    "if-range",
    "if-unmodified-since",
    "keep-alive",
    "location",
    "max-forwards",
    "origin",
    "pragma",
    "proxy-authenticate",
    "proxy-authorization",
    "proxy-connection",
    "range",
    "referer",
    "retry-after",
    "set-cookie",
    "te",
    "trailer",
    "upgrade",
    "vary",
    "via",
    "www-authenticate",
    "x-forwarded-for",
    "x-forwarded-host",
    "x-forwarded-proto",
    "x-real-ip",
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn trailers_are_judged_ignoring_case() {
        assert_eq!(judge(b"X-Checksum"), Verdict::Keep);
        assert_eq!(judge(b"Server-Timing"), Verdict::Keep);
        assert_eq!(judge(b"AUTHORIZATION"), Verdict::Drop);
        assert_eq!(judge(b"Content-Type"), Verdict::Drop);
        assert_eq!(judge(b"Content-Length"), Verdict::Refuse);
        assert_eq!(judge(b"hOst"), Verdict::Refuse);
        assert!(may_be_trailer(b"X-Checksum") && !may_be_trailer(b"Authorization") && !may_be_trailer(b"Host"));
    }
}
