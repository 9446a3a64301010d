//! Heads between `h2`'s types and ours (RFC 9113 §8.2, §8.3).

use crate::{Fields, ParseError, RequestHead, Response, StatusCode};
use bytes::Bytes;
use http::header::{CONTENT_LENGTH, CONTENT_TYPE, DATE, HeaderMap, HeaderName, HeaderValue};
use http1::{Limits, Method, RequestParts, Version, may_be_trailer};
use std::collections::hash_map::RandomState;
use std::hash::BuildHasher;

/// A request's head. `:authority` becomes `Host`; what HTTP/1.1 would refuse is refused. An extended `CONNECT`
/// (RFC 8441) becomes the `GET` with `Upgrade` that a client would have sent over HTTP/1.1, so that services and
/// upstreams know one kind of WebSocket.
pub(super) fn request_head(
    parts: &http::request::Parts,
    has_content: bool,
    limits: &Limits,
) -> Result<RequestHead, ParseError> {
    let mut fields: Vec<_> =
        parts.headers.iter().map(|(name, value)| (name.as_str().as_bytes(), value.as_bytes())).collect();
    let protocol = tunnel_protocol(parts).map(str::as_bytes);
    let lacks_key = protocol == Some(b"websocket") && !parts.headers.contains_key(WEBSOCKET_KEY);
    let key = lacks_key.then(websocket_key);
    fields.extend(key.as_ref().map(|key| (WEBSOCKET_KEY.as_bytes(), key.as_bytes())));
    let fields = fields.iter().copied();
    let target = parts.uri.path_and_query().map_or("/", |target| target.as_str());
    let authority = parts.uri.authority().map(|authority| authority.as_str().as_bytes());
    let method = parts.method.as_str().as_bytes();
    let parts = RequestParts {
        method,
        target: target.as_bytes(),
        authority,
        protocol,
        fields,
        has_content,
        version: Version::Http2,
    };
    RequestHead::assemble(&parts, limits)
}

/// What an extended `CONNECT` asks for (RFC 8441 §4).
pub(super) fn tunnel_protocol(parts: &http::request::Parts) -> Option<&str> {
    parts.extensions.get::<h2::ext::Protocol>().map(h2::ext::Protocol::as_str)
}

/// The nonce that HTTP/1.1 has and HTTP/2 has not (RFC 6455 §4.1, RFC 8441 §5): 16 bytes in base64, never the same. It
/// is no secret; whoever answers it is dropped with the answer.
fn websocket_key() -> String {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let random = || RandomState::new().hash_one(());
    let (high, low) = (random(), random());
    let bits = u128::from(high) << 64 | u128::from(low);
    // 128 bits are 21 digits of six, and two bits that stand high in the last one.
    let digits = (0..21).map(|number| bits >> (122 - 6 * number) & 0x3f).chain([(bits & 0x3) << 4]);
    let digits = digits.map(|digit| ALPHABET[usize::try_from(digit).expect("six bits")]);
    digits.map(char::from).chain(['=', '=']).collect()
}

/// The head that accepts a tunnel: a 200 of unknown length, without what only a switch of HTTP/1.1 says.
pub(super) fn tunnel_head(response: &Response, date: HeaderValue) -> http::Response<()> {
    let mut head = http::Response::new(());
    let headers = head.headers_mut();
    copy_fields(&response.fields, headers);
    headers.remove("sec-websocket-accept");
    headers.entry(DATE).or_insert(date);
    head
}

/// A response's head, and how long its content is if that is known.
pub(super) fn response_head(
    response: &Response,
    method: Method,
    date: HeaderValue,
) -> (http::Response<()>, Option<u64>) {
    let status =
        http::StatusCode::from_u16(response.status.as_u16()).unwrap_or(http::StatusCode::INTERNAL_SERVER_ERROR);
    let length = content_length(response, method);
    let mut head = http::Response::new(());
    *head.status_mut() = status;
    let headers = head.headers_mut();
    copy_fields(&response.fields, headers);
    if let Some(length) = length {
        headers.append(CONTENT_LENGTH, HeaderValue::from(length));
    }
    if !response.fields.contains("date") {
        headers.append(DATE, date);
    }
    (head, length)
}

/// The length to declare: as for HTTP/1.1, where it is known, also in answer to `HEAD` and with 304.
fn content_length(response: &Response, method: Method) -> Option<u64> {
    let declared = || response.fields.get_str("content-length")?.parse().ok();
    match response.body.exact_len() {
        Some(0) if method == Method::Head || response.status == StatusCode::NOT_MODIFIED => declared(),
        Some(0) if response.status.forbids_body() => None,
        length => length,
    }
}

/// Trailers to send, without those that would change what came before (RFC 9110 §6.5.1).
pub(crate) fn trailers(fields: &Fields) -> HeaderMap {
    let mut headers = HeaderMap::new();
    for (name, value) in fields.iter().filter(|(name, _)| may_be_trailer(name.as_bytes())) {
        copy_field(name, value, &mut headers);
    }
    headers
}

/// Received trailers, without those that would change what came before (RFC 9110 §6.5.1).
pub(crate) fn received_trailers(headers: &HeaderMap) -> Fields {
    let mut fields = Fields::new();
    for (name, value) in headers.iter().filter(|(name, _)| may_be_trailer(name.as_str().as_bytes())) {
        // Names and values were checked on their way in, and the section is shorter than `Fields` may be.
        let _ = fields.append(name.as_str(), value.as_bytes());
    }
    fields
}

/// Fields of the connection stay behind: HTTP/2 frames by itself (RFC 9113 §8.2.2).
pub(crate) fn copy_fields(fields: &Fields, headers: &mut HeaderMap) {
    let known = fields.known_content_type();
    if let Some(media_type) = known {
        headers.append(CONTENT_TYPE, HeaderValue::from_static(media_type));
    }
    for (name, value) in fields.iter().skip(known.iter().len()) {
        if !OF_CONNECTION.iter().any(|known| name.eq_ignore_ascii_case(known)) {
            copy_field(name, value, headers);
        }
    }
}

fn copy_field(name: &str, value: &[u8], headers: &mut HeaderMap) {
    let name = HeaderName::from_bytes(name.as_bytes());
    // `Fields` holds tokens and values without control bytes only; what is not taken all the same cannot be sent.
    if let (Ok(name), Ok(value)) = (name, HeaderValue::from_maybe_shared(Bytes::copy_from_slice(value))) {
        let _ = headers.try_append(name, value);
    }
}

const WEBSOCKET_KEY: &str = "sec-websocket-key";

const OF_CONNECTION: [&str; 6] =
    ["connection", "keep-alive", "proxy-connection", "transfer-encoding", "upgrade", "content-length"];

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    const TRAILERS: [(&str, bool); 7] = [
        ("x-sum", true),
        ("server-timing", true),
        ("cache-control", false),
        ("expires", false),
        ("vary", false),
        ("set-cookie", false),
        ("content-length", false),
    ];

    #[test]
    fn trailers_are_judged_as_those_of_http1_both_ways() {
        let (mut fields, mut headers) = (Fields::new(), HeaderMap::new());
        for (name, _) in TRAILERS {
            fields.append(name, "1").unwrap();
            headers.append(name, HeaderValue::from_static("1"));
        }
        let (sent, received) = (trailers(&fields), received_trailers(&headers));
        for (name, is_kept) in TRAILERS {
            assert_eq!((sent.contains_key(name), received.contains(name)), (is_kept, is_kept), "{name}");
        }
    }

    #[test]
    fn a_head_has_the_fields_of_the_answer_once_each() {
        let date = HeaderValue::from_static("Sun, 06 Nov 1994 08:49:37 GMT");
        let response =
            Response::text(StatusCode::OK, "abc").field("X-A", "1").field("x-a", "2").field("connection", "x");
        let (head, length) = response_head(&response, Method::Get, date.clone());
        let fields: Vec<_> =
            head.headers().iter().map(|(name, value)| (name.as_str(), value.to_str().unwrap())).collect();
        let expect = [
            ("content-type", "text/plain; charset=utf-8"),
            ("x-a", "1"),
            ("x-a", "2"),
            ("content-length", "3"),
            ("date", "Sun, 06 Nov 1994 08:49:37 GMT"),
        ];
        assert_eq!((fields.as_slice(), length), (expect.as_slice(), Some(3)));
        let (head, _) = response_head(&response.field("Date", "own").field("content-length", "9"), Method::Get, date);
        assert_eq!(head.headers().get_all("date").iter().collect::<Vec<_>>(), ["own"]);
        assert_eq!(head.headers().get_all("content-length").iter().collect::<Vec<_>>(), ["3"]);
    }
}
