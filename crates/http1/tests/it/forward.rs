//! Writes received heads anew, as a proxy does. Shared by the case files here and the targets of `fuzz/`.

use http1::{
    BodyEncoder, Fields, Framing, Method, RequestHead, RequestSpec, ResponseHead, ResponseSpec, Version, Written,
    write_request_head, write_response_head,
};
use std::error::Error;

/// Writes a request's head for `target`, with the fields that `keeps` says; `Host` comes first, from what the request
/// is for.
pub(crate) fn request(
    out: &mut Vec<u8>,
    head: &RequestHead,
    target: &str,
    keeps: impl Fn(&[u8]) -> bool,
) -> Result<BodyEncoder, Box<dyn Error>> {
    let mut fields = Fields::new();
    fields.append("Host", if head.host().is_empty() { "none" } else { head.host() })?;
    fields.extend_received(head.fields(), |name| !name.eq_ignore_ascii_case(b"host") && keeps(name))?;
    let spec =
        RequestSpec { method: head.method(), target, fields: &fields, framing: head.framing(), keep_alive: true };
    Ok(write_request_head(out, &spec)?)
}

/// Writes a response's head for an HTTP/1.1 client that asked by `method`, with the fields that `keeps` says.
pub(crate) fn response(
    out: &mut Vec<u8>,
    head: &ResponseHead,
    method: Method,
    keeps: impl Fn(&[u8]) -> bool,
) -> Result<Written, Box<dyn Error>> {
    let mut fields = Fields::new();
    fields.extend_received(head.fields(), keeps)?;
    let framing = match (head.framing(), head.content_length()) {
        (Framing::None, Some(length)) => Framing::Length(length),
        (Framing::UntilClose, _) => Framing::Chunked,
        (framing, _) => framing,
    };
    let spec = ResponseSpec {
        request_method: method,
        request_version: Version::Http11,
        status: head.status(),
        fields: &fields,
        framing,
        keep_alive: true,
        date: None,
    };
    Ok(write_response_head(out, &spec))
}
