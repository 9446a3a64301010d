//! The pages for requests that no upstream has answered: what went wrong, and what to do about it.
//!
//! Whoever asks may be anybody: a page names an upstream as the configuration does, never by its address, and not what
//! it said that was wrong. Both are in the log, which operators read.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::{SystemTime, UNIX_EPOCH};

use engine::{BodyError, ClientError, ClientErrorKind, Http2Error, StatusCode};

use crate::group::{Group, Refusal};
use crate::pages::Page;
use crate::proxy::Place;
use crate::upstream::Upstream;

/// What visitors are told where only operators may know more.
const SEE_LOG: &str = "The administrator finds the reason in the proxy's log.";

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
    if let Some(untold) = may_tell() {
        tracing::warn!(place = place.label, upstream = %upstream.address, problem, untold, "an answer cannot be passed on");
    }
    Page::new(StatusCode::BAD_GATEWAY, format!("{} gave an answer that cannot be passed on.", name(place)))
        .hint(SEE_LOG)
}

/// The page for a request that no upstream answered; `error` is that of the last attempt.
pub(crate) fn failed(place: &Place, error: Option<&ClientError>) -> Page {
    let Some(error) = error else {
        let detail = format!("No upstream is left for {}.", place.label);
        return Page::new(StatusCode::SERVICE_UNAVAILABLE, detail);
    };
    if let ClientErrorKind::Body(error) = &error.kind {
        return body_failed(error);
    }
    if let Some(untold) = may_tell() {
        let ClientError { addr, stage, kind, .. } = error;
        tracing::warn!(place = place.label, upstream = %addr, %stage, error = %kind, untold, "a request got no answer");
    }
    if error.is_connect() {
        return unreachable(place, error);
    }
    let who = name(place);
    match &error.kind {
        ClientErrorKind::TimedOut => Page::new(StatusCode::GATEWAY_TIMEOUT, format!("{who} did not answer in time.")),
        ClientErrorKind::Unasked => {
            Page::new(StatusCode::BAD_GATEWAY, format!("{who} switched to a protocol that was not asked for."))
        }
        ClientErrorKind::Request(problem) => {
            Page::new(StatusCode::BAD_GATEWAY, format!("The request cannot be sent on: {problem}."))
        }
        ClientErrorKind::Http2(Http2Error::Refused) => {
            Page::new(StatusCode::SERVICE_UNAVAILABLE, format!("{who} takes no more requests."))
                .hint("Try again in a moment.")
                .field("retry-after", "1")
        }
        ClientErrorKind::Protocol(_) | ClientErrorKind::Http2(_) => {
            Page::new(StatusCode::BAD_GATEWAY, format!("{who} sent no valid response.")).hint(SEE_LOG)
        }
        ClientErrorKind::Closed => {
            Page::new(StatusCode::BAD_GATEWAY, format!("{who} closed the connection before it answered."))
        }
        _ => Page::new(StatusCode::BAD_GATEWAY, format!("{who} cannot be talked to any more: its connection failed.")),
    }
}

fn unreachable(place: &Place, error: &ClientError) -> Page {
    let what = match &error.kind {
        ClientErrorKind::Refused => "refused the connection",
        ClientErrorKind::TimedOut => "did not accept a connection in time",
        ClientErrorKind::Tls(_) => "cannot be talked to over TLS",
        ClientErrorKind::Http2(Http2Error::NoRoom | Http2Error::Refused) => "takes no more requests",
        ClientErrorKind::Http2(_) => "cannot be talked to in HTTP/2",
        _ => "cannot be reached",
    };
    let members = place.group.as_ref().map(|group| group.members());
    let has_others = members.iter().flat_map(|all| all.iter()).any(|other| other.upstream.address != error.addr);
    let all = if has_others { ", and none of the others can be reached either" } else { "" };
    Page::new(StatusCode::SERVICE_UNAVAILABLE, format!("{} {what}{all}.", name(place)))
        .hint("The program behind it may be starting or stopped. Try again in a moment.")
}

/// The upstream of a place as its configuration calls it.
fn name(place: &Place) -> String {
    match place.group.as_ref().map(|group| &group.conf) {
        Some(conf) if conf.is_named => format!("The upstream “{}” of {}", conf.name, place.label),
        _ => format!("The upstream of {}", place.label),
    }
}

/// Lines of the log per second about requests without an answer: when all fail, more would tell nothing more.
const TOLD_PER_SECOND: u64 = 10;

/// Whether one may be told, and how many were not since the last one.
fn may_tell() -> Option<u64> {
    /// The second and, in the lowest bits, how many were told in it.
    static TOLD: AtomicU64 = AtomicU64::new(0);
    static UNTOLD: AtomicU64 = AtomicU64::new(0);
    let second = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
    let next = |told: u64| match (told >> 8, told & 0xff) {
        (told_at, count) if told_at == second => (count < TOLD_PER_SECOND).then_some(told + 1),
        _ => Some(second << 8 | 1),
    };
    if TOLD.fetch_update(Relaxed, Relaxed, next).is_ok() {
        return Some(UNTOLD.swap(0, Relaxed));
    }
    UNTOLD.fetch_add(1, Relaxed);
    None
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::sync::Arc;

    use engine::Stage;

    use super::*;
    use crate::conf::Config;
    use crate::proxy::{Proxy, Shared};

    /// What knows of one place, `default`, with one upstream.
    fn shared() -> Arc<Shared> {
        let config = Config::parse("test", "host default { proxy_pass http://127.0.0.1:1; }").unwrap();
        Proxy::new(&config).shared()
    }

    fn error(stage: Stage, kind: ClientErrorKind) -> ClientError {
        ClientError { addr: ([127, 0, 0, 1], 1).into(), stage, kind, can_retry: false }
    }

    /// Checks what is said of a failure with the only upstream of `default`.
    fn check(stage: Stage, kind: ClientErrorKind, status: StatusCode, expect: &str) -> Page {
        let page = failed(shared().place_at(0).unwrap(), Some(&error(stage, kind)));
        assert_eq!((page.status, page.detail.as_str()), (status, expect));
        page
    }

    #[test]
    fn a_page_says_what_went_wrong_and_when_to_come_back() {
        const BAD: StatusCode = StatusCode::BAD_GATEWAY;
        const BUSY: StatusCode = StatusCode::SERVICE_UNAVAILABLE;
        let switched = "The upstream of default switched to a protocol that was not asked for.";
        check(Stage::Head, ClientErrorKind::Unasked, BAD, switched);
        let full = "The upstream of default takes no more requests.";
        for (stage, error) in [
            (Stage::Connect, Http2Error::NoRoom),
            (Stage::Connect, Http2Error::Refused),
            (Stage::Head, Http2Error::Refused),
        ] {
            let page = check(stage, ClientErrorKind::Http2(error), BUSY, full);
            let soon = ("retry-after", "1".to_owned());
            assert_eq!(page.fields.contains(&soon), stage == Stage::Head, "for the others it is said of all 503");
        }
        let invalid = "The upstream of default sent no valid response.";
        check(Stage::Head, ClientErrorKind::Http2(Http2Error::Broken(1)), BAD, invalid);
        let unspoken = "The upstream of default cannot be talked to in HTTP/2.";
        check(Stage::Connect, ClientErrorKind::Http2(Http2Error::NotSpoken), BUSY, unspoken);
    }

    #[test]
    fn who_was_refused_after_a_failure_is_told_of_the_failure() {
        let shared = shared();
        let place = shared.place_at(0).unwrap();
        let group = place.group.as_ref().unwrap();
        let closed = error(Stage::Head, ClientErrorKind::Closed);
        for (refusal, alone) in
            [(Refusal::Full, "All upstreams of default are busy."), (Refusal::Gone, "No upstream of default is well.")]
        {
            let page = refused(place, group, refusal, None);
            assert_eq!((page.status, page.detail.as_str()), (StatusCode::SERVICE_UNAVAILABLE, alone));
            assert_eq!(page.fields, [("retry-after", "1".to_owned())]);
            assert_eq!(refused(place, group, refusal, Some(&closed)), failed(place, Some(&closed)));
        }
    }

    #[test]
    fn when_everything_fails_the_log_says_so_a_few_times() {
        let told = (0..10_000).filter(|_| may_tell().is_some()).count();
        assert!((1..=2 * TOLD_PER_SECOND as usize).contains(&told), "{told}: within a second or two");
    }
}
