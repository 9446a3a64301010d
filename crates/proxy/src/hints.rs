//! Early hints on their way from an upstream to a client (103, RFC 8297).

use engine::{Client, EarlyHints, Fields, ResponseHead, StatusCode};

use crate::conf;
use crate::headers;

/// A way to hand hints on to this client, if this place does so.
pub(crate) fn allowed(hints: Option<EarlyHints>, conf: conf::EarlyHints) -> Option<EarlyHints> {
    hints.filter(|hints| match conf {
        conf::EarlyHints::Off => false,
        conf::EarlyHints::Http2 => hints.is_http2(),
        conf::EarlyHints::On => true,
    })
}

/// A client that hands on what an upstream says before its answer. Of other interim heads nobody has any use: `100
/// Continue` is said to the client when its content is read.
pub(crate) fn handing_on(client: &Client, hints: &EarlyHints) -> Client {
    let hints = hints.clone();
    client.hearing(move |head| hand_on(&hints, head))
}

fn hand_on(hints: &EarlyHints, head: &ResponseHead) {
    if head.status() != StatusCode::EARLY_HINTS {
        return;
    }
    // What cannot be handed on is only a hint.
    let Ok(received) = headers::to_client(head) else { return };
    let mut fields = Fields::new();
    for (name, value) in received.iter().filter(|(name, _)| is_hint(name)) {
        let _ = fields.append(name, value); // it was one of an answer
    }
    hints.send(&fields);
}

/// Whether browsers do anything with a field before the answer, whose fields alone the operator's rules are for: one that
/// `remove_header` keeps from clients is not to come this way, nor a cookie have an effect.
fn is_hint(name: &str) -> bool {
    const NAMES: [&str; 4] = ["link", "content-security-policy", "referrer-policy", "integrity-policy"];
    NAMES.iter().any(|hint| hint.eq_ignore_ascii_case(name))
}
