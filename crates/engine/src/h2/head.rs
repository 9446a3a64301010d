//! Heads between `h2`'s types and ours (RFC 9113 §8.2, §8.3).

use crate::{Fields, ParseError, RequestHead, Response, StatusCode};
use bytes::Bytes;
use http::header::{CONTENT_LENGTH, DATE, HeaderMap, HeaderName, HeaderValue};
use http1::{Limits, Method, RequestParts, Version};

/// A request's head. `:authority` becomes `Host`; what HTTP/1.1 would refuse is refused.
pub(super) fn request_head(
    parts: &http::request::Parts,
    has_content: bool,
    limits: &Limits,
) -> Result<RequestHead, ParseError> {
    let fields: Vec<_> =
        parts.headers.iter().map(|(name, value)| (name.as_str().as_bytes(), value.as_bytes())).collect();
    let fields = fields.iter().copied();
    let target = parts.uri.path_and_query().map_or("/", |target| target.as_str());
    let authority = parts.uri.authority().map(|authority| authority.as_str().as_bytes());
    let method = parts.method.as_str().as_bytes();
    let parts = RequestParts {
        method,
        target: target.as_bytes(),
        authority,
        protocol: None,
        fields,
        has_content,
        version: Version::Http2,
    };
    RequestHead::assemble(&parts, limits)
}

/// A response's head, and how long its content is if that is known.
pub(super) fn response_head(response: &Response, method: Method, date: &[u8]) -> (http::Response<()>, Option<u64>) {
    let status =
        http::StatusCode::from_u16(response.status.as_u16()).unwrap_or(http::StatusCode::INTERNAL_SERVER_ERROR);
    let length = content_length(response, method);
    let mut head = http::Response::new(());
    *head.status_mut() = status;
    let headers = head.headers_mut();
    copy_fields(&response.fields, headers);
    if let Some(length) = length {
        headers.insert(CONTENT_LENGTH, HeaderValue::from(length));
    }
    if !headers.contains_key(DATE)
        && let Ok(date) = HeaderValue::from_bytes(date)
    {
        headers.insert(DATE, date);
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

/// Trailers to send.
pub(crate) fn trailers(fields: &Fields) -> HeaderMap {
    let mut headers = HeaderMap::new();
    copy_fields(fields, &mut headers);
    headers
}

/// Received trailers, without those that would change what came before (RFC 9110 §6.5.1).
pub(crate) fn received_trailers(headers: &HeaderMap) -> Fields {
    let mut fields = Fields::new();
    for (name, value) in headers {
        if !NEVER_TRAILERS.contains(&name.as_str()) {
            // Names and values were checked on their way in, and the section is shorter than `Fields` may be.
            let _ = fields.append(name.as_str(), value.as_bytes());
        }
    }
    fields
}

/// Fields of the connection stay behind: HTTP/2 frames by itself (RFC 9113 §8.2.2).
pub(crate) fn copy_fields(fields: &Fields, headers: &mut HeaderMap) {
    for (name, value) in fields.iter() {
        if OF_CONNECTION.iter().any(|known| name.eq_ignore_ascii_case(known)) {
            continue;
        }
        let name = HeaderName::from_bytes(name.as_bytes());
        // `Fields` holds tokens and values without control bytes only; what is not taken all the same cannot be sent.
        if let (Ok(name), Ok(value)) = (name, HeaderValue::from_maybe_shared(Bytes::copy_from_slice(value))) {
            let _ = headers.try_append(name, value);
        }
    }
}

const OF_CONNECTION: [&str; 6] =
    ["connection", "keep-alive", "proxy-connection", "transfer-encoding", "upgrade", "content-length"];

const NEVER_TRAILERS: [&str; 9] = [
    "content-length",
    "transfer-encoding",
    "host",
    "authorization",
    "content-type",
    "content-encoding",
    "content-range",
    "set-cookie",
    "cookie",
];
