//! Heads between our types and `h2`'s, in the client's role (RFC 9113 §8.2, §8.3).

use crate::client::{ClientErrorKind, OutgoingRequest};
use crate::h2::head::copy_fields;
use crate::{EncodeError, ResponseHead};
use http::header::{CONTENT_LENGTH, HOST, HeaderValue, TE};
use http::uri::{PathAndQuery, Scheme};
use http1::{Limits, Method, ParseError, ResponseParts};

/// The head of a request: `Host` becomes `:authority`, fields of a connection stay behind, and of `TE` only `trailers`
/// is said.
pub(super) fn request_head(
    request: &OutgoingRequest,
    is_secure: bool,
    length: Option<u64>,
) -> Result<http::Request<()>, ClientErrorKind> {
    let host = || ClientErrorKind::Request(EncodeError::Host);
    let mut hosts = request.fields.get_all("host");
    let authority = hosts.next().filter(|authority| !authority.is_empty()).ok_or_else(host)?;
    if hosts.next().is_some() {
        return Err(host());
    }
    let target = PathAndQuery::try_from(request.target.as_str());
    let target = target.map_err(|_| ClientErrorKind::Request(EncodeError::Target))?;
    let uri = http::Uri::builder()
        .scheme(if is_secure { Scheme::HTTPS } else { Scheme::HTTP })
        .authority(authority)
        .path_and_query(target)
        .build();
    let mut head = http::Request::new(());
    *head.method_mut() = request.method.into();
    *head.uri_mut() = uri.map_err(|_| host())?;
    *head.version_mut() = http::Version::HTTP_2;
    let headers = head.headers_mut();
    copy_fields(&request.fields, headers);
    headers.remove(HOST);
    if headers.contains_key(TE) {
        let wants_trailers = request.fields.get_all("te").flat_map(crate::tokens).any(|token| {
            let name = token.split(|byte| *byte == b';').next().unwrap_or_default();
            name.trim_ascii().eq_ignore_ascii_case(b"trailers")
        });
        headers.remove(TE);
        if wants_trailers {
            headers.insert(TE, HeaderValue::from_static("trailers"));
        }
    }
    if let Some(length) = length {
        headers.insert(CONTENT_LENGTH, HeaderValue::from(length));
    }
    Ok(head)
}

/// The head of an answer, judged as one that came over HTTP/1.1.
pub(super) fn response_head(
    parts: &http::response::Parts,
    has_content: bool,
    answers: Method,
    limits: &Limits,
) -> Result<ResponseHead, ParseError> {
    let fields = parts.headers.iter().map(|(name, value)| (name.as_str().as_bytes(), value.as_bytes()));
    ResponseHead::assemble(ResponseParts { status: parts.status.as_u16(), fields, has_content, answers }, limits)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::{Body, Fields};

    fn request(method: Method, target: &str, lines: &[(&str, &str)]) -> OutgoingRequest {
        let mut fields = Fields::new();
        for (name, value) in lines {
            fields.append(name, value).unwrap();
        }
        OutgoingRequest { method, target: target.to_owned(), fields, body: Body::Empty }
    }

    #[test]
    fn host_becomes_the_authority_and_nothing_of_the_connection_goes_along() {
        let lines = [
            ("Host", "app.example:8080"),
            ("Accept", "*/*"),
            ("Connection", "x-hop"),
            ("Keep-Alive", "5"),
            ("Transfer-Encoding", "chunked"),
            ("Upgrade", "websocket"),
            ("TE", "gzip, trailers;q=0.5"),
            ("Cookie", "a=1; b=2"),
            ("Set-X", "1"),
        ];
        let head = request_head(&request(Method::Post, "/a?b=c", &lines), true, Some(7)).unwrap();
        assert_eq!(head.uri().to_string(), "https://app.example:8080/a?b=c");
        let mut found: Vec<(&str, &[u8])> =
            head.headers().iter().map(|(name, value)| (name.as_str(), value.as_bytes())).collect();
        found.sort_unstable();
        let expect: [(&str, &[u8]); 5] = [
            ("accept", b"*/*"),
            ("content-length", b"7"),
            ("cookie", b"a=1; b=2"),
            ("set-x", b"1"),
            ("te", b"trailers"),
        ];
        assert_eq!(found, expect);
    }

    #[test]
    fn te_says_trailers_or_nothing() {
        let head = request_head(&request(Method::Get, "/", &[("Host", "a"), ("TE", "gzip")]), false, None).unwrap();
        assert!(head.headers().get(TE).is_none());
    }

    #[test]
    fn options_asks_about_the_server_as_a_whole() {
        let head = request_head(&request(Method::Options, "*", &[("Host", "a")]), false, None).unwrap();
        assert_eq!(head.uri().path(), "*");
    }

    #[test]
    fn what_has_no_authority_is_not_sent() {
        for lines in [&[][..], &[("Host", "")], &[("Host", "a"), ("Host", "b")], &[("Host", "a b")]] {
            let refused = request_head(&request(Method::Get, "/", lines), false, None).err();
            assert!(matches!(refused, Some(ClientErrorKind::Request(EncodeError::Host))), "{lines:?}: {refused:?}");
        }
        let refused = request_head(&request(Method::Get, "/a b", &[("Host", "a")]), false, None).err();
        assert!(matches!(refused, Some(ClientErrorKind::Request(EncodeError::Target))), "{refused:?}");
    }
}
