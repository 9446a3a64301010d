//! The pages for requests that no upstream has answered: what went wrong, and what to do about it.

use engine::{BodyError, ClientError, ClientErrorKind, Http2Error, StatusCode};

use crate::group::{Group, Refusal};
use crate::pages::Page;
use crate::proxy::Place;
use crate::upstream::Upstream;

/// The page for a request that no upstream may be asked about now.
pub(crate) fn refused(place: &Place, group: &Group, refusal: Refusal, last: Option<&ClientError>) -> Page {
    let label = &place.label;
    if let Some(error) = last {
        return failed(place, Some(error));
    }
    let (what, seconds) = match refusal {
        Refusal::Full => (format!("All upstreams of {label} are busy."), 1),
        _ => (format!("No upstream of {label} is well."), group.retry_after().as_secs()),
    };
    Page::new(StatusCode::SERVICE_UNAVAILABLE, what)
        .hint("Try again in a moment.")
        .field("retry-after", seconds.max(1).to_string())
}

/// The page for a request whose content cannot be read.
pub(crate) fn body_failed(error: &BodyError) -> Page {
    Page::new(error.status(), format!("The request's content could not be read: {error}."))
}

/// The page for a request whose answer cannot be passed on.
pub(crate) fn unfit(place: &Place, upstream: &Upstream, problem: &str) -> Page {
    let detail =
        format!("{} gave an answer for {} that cannot be passed on: {problem}.", upstream.address, place.label);
    Page::new(StatusCode::BAD_GATEWAY, detail)
}

/// The page for a request that no upstream answered; `error` is that of the last attempt.
pub(crate) fn failed(place: &Place, error: Option<&ClientError>) -> Page {
    let label = &place.label;
    let Some(error) = error else {
        return Page::new(StatusCode::SERVICE_UNAVAILABLE, format!("No upstream is left for {label}."));
    };
    if error.is_connect() {
        return unreachable(place, error);
    }
    let who = format!("The upstream {} of {label}", error.addr);
    match &error.kind {
        ClientErrorKind::Body(error) => body_failed(error),
        ClientErrorKind::TimedOut => Page::new(StatusCode::GATEWAY_TIMEOUT, format!("{who} did not answer in time.")),
        ClientErrorKind::Protocol(problem) => {
            Page::new(StatusCode::BAD_GATEWAY, format!("{who} sent no valid response: {problem}."))
        }
        ClientErrorKind::Unasked => {
            Page::new(StatusCode::BAD_GATEWAY, format!("{who} switched to a protocol that was not asked for."))
        }
        ClientErrorKind::Request(problem) => {
            Page::new(StatusCode::BAD_GATEWAY, format!("The request cannot be sent on to {}: {problem}.", error.addr))
        }
        ClientErrorKind::Http2(Http2Error::Refused) => {
            Page::new(StatusCode::SERVICE_UNAVAILABLE, format!("{who} takes no more requests."))
                .hint("Try again in a moment.")
                .field("retry-after", "1")
        }
        ClientErrorKind::Http2(problem) => {
            Page::new(StatusCode::BAD_GATEWAY, format!("{who} sent no valid response: {problem}."))
        }
        ClientErrorKind::Closed => {
            Page::new(StatusCode::BAD_GATEWAY, format!("{who} closed the connection before it answered."))
        }
        _ => Page::new(
            StatusCode::BAD_GATEWAY,
            format!("The connection to the upstream {} of {label} failed.", error.addr),
        ),
    }
}

fn unreachable(place: &Place, error: &ClientError) -> Page {
    let what = match &error.kind {
        ClientErrorKind::Refused => "refused the connection".to_owned(),
        ClientErrorKind::TimedOut => "did not accept a connection in time".to_owned(),
        ClientErrorKind::Tls(problem) => format!("cannot be talked to over TLS ({problem})"),
        ClientErrorKind::Http2(problem) => format!("cannot be talked to in HTTP/2 ({problem})"),
        _ => "cannot be reached".to_owned(),
    };
    let members = place.group.as_ref().map(|group| group.members());
    let has_others = members.iter().flat_map(|all| all.iter()).any(|other| other.upstream.address != error.addr);
    let all = if has_others { ", and none of the others can be reached either" } else { "" };
    Page::new(StatusCode::SERVICE_UNAVAILABLE, format!("The upstream {} of {} {what}{all}.", error.addr, place.label))
        .hint("The program behind it may be starting or stopped. Try again in a moment.")
}
