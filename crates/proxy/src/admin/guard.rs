//! Who may ask the admin listener, as the head of a request shows it.

use std::net::IpAddr;

use engine::{RequestHead, StatusCode};

/// Why a request gets no answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Refusal {
    pub(super) status: StatusCode,
    pub(super) why: &'static str,
}

/// Whether the request names a loopback address or `localhost`. A page whose name was made to lead to this machine
/// names itself.
pub(super) fn names_loopback(head: &RequestHead) -> Result<(), Refusal> {
    let name = head.host_name();
    let bare = name.trim_start_matches('[').trim_end_matches(']');
    let is_loopback = bare.parse::<IpAddr>().is_ok_and(|ip| ip.to_canonical().is_loopback());
    if is_loopback || name.eq_ignore_ascii_case("localhost") {
        return Ok(());
    }
    Err(Refusal { status: StatusCode::MISDIRECTED_REQUEST, why: "ask for 127.0.0.1 or localhost" })
}

/// Whether the request brings the token.
pub(super) fn has_token(head: &RequestHead, token: &str) -> Result<(), Refusal> {
    let given = head.field_str("authorization").and_then(|value| {
        let (scheme, given) = value.split_once(' ')?;
        scheme.eq_ignore_ascii_case("bearer").then_some(given.trim())
    });
    // As long whether the first letter differs or the last.
    let differs = given.is_none_or(|given| {
        given.len() != token.len() || given.bytes().zip(token.bytes()).fold(0, |sum, (a, b)| sum | (a ^ b)) != 0
    });
    if differs {
        return Err(Refusal { status: StatusCode::UNAUTHORIZED, why: "the token is missing or wrong" });
    }
    Ok(())
}

/// Whether an order comes from this page or from a program, and not from a page elsewhere.
pub(super) fn is_own_order(head: &RequestHead) -> Result<(), Refusal> {
    let is_json = head.field_str("content-type").is_some_and(|value| {
        value.split(';').next().unwrap_or_default().trim().eq_ignore_ascii_case("application/json")
    });
    if !is_json {
        return Err(Refusal { status: StatusCode::UNSUPPORTED_MEDIA_TYPE, why: "an order is application/json" });
    }
    let is_own = match (head.field_str("sec-fetch-site"), head.field_str("origin")) {
        (Some(site), _) if site != "same-origin" => false,
        (_, Some(origin)) => origin.split_once("://").is_some_and(|(_, host)| host.eq_ignore_ascii_case(head.host())),
        _ => true,
    };
    if is_own { Ok(()) } else { Err(Refusal { status: StatusCode::FORBIDDEN, why: "another page sent this order" }) }
}
