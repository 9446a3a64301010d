//! Protection against requests that other sites make in a visitor's name (CSRF). It is on unless an application or a
//! route says otherwise.
//!
//! The proof is what browsers say and pages cannot forge: `Sec-Fetch-Site`, or `Origin` against the host the client
//! wrote. Programs with `Authorization: Bearer` need none, since no page can make a browser send that by itself. Safe
//! methods change nothing and need none either; an upgrade is no safe request, whatever its method.

use crate::problem::Problem;
use crate::request::Request;
use crate::session::bearer_token;

/// Which requests that change something are let through to handlers.
///
/// ```
/// use weaprous::{Csrf, prelude::*};
/// App::new()
///     .route("/transfer", [POST], async || "done") // protected
///     .add_route(Route::new("/hook", [POST], async || "heard").csrf(Csrf::Off)); // checks a signature of its own
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Csrf {
    /// A request with a cookie needs proof that it comes from a page of this very origin, and none may show another
    /// origin: otherwise 403.
    #[default]
    SameOrigin,
    /// Only a request that shows another origin is refused: for what does not act by the cookie, such as a login.
    NotCrossOrigin,
    /// Everything passes: for what never acts by a cookie, such as an API with tokens or a signed web hook.
    Off,
}

impl Csrf {
    /// Why a request is not let through; `None` if it is.
    pub(crate) fn refusal(self, request: &Request) -> Option<Problem> {
        if self == Self::Off || request.method().is_safe() {
            return None;
        }
        let detail = match (judge(request), self) {
            (Evidence::Foreign, _) => "this request comes from another site",
            (Evidence::None, Self::SameOrigin) if request.head.field("cookie").is_some() => {
                "a request with a cookie needs `Sec-Fetch-Site` or `Origin`; programs send `Authorization: Bearer`"
            }
            _ => return None,
        };
        Some(refuse(detail))
    }

    /// As [`Csrf::refusal`], for an upgrade: browsers always say where those come from.
    pub(crate) fn refusal_of_upgrade(self, request: &Request) -> Option<Problem> {
        let is_foreign = self != Self::Off && judge(request) == Evidence::Foreign;
        is_foreign.then(|| refuse("this request comes from another site"))
    }
}

/// What a request shows about where it was made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Evidence {
    Same,
    Foreign,
    None,
}

fn judge(request: &Request) -> Evidence {
    if request.is_origin_allowed() || bearer_token(request).is_some() {
        return Evidence::Same;
    }
    match (request.field("sec-fetch-site"), request.field("origin")) {
        (None, None) => Evidence::None,
        (site, origin) => weigh(site, origin, request.host()),
    }
}

/// `none` is what a browser says when the user acted, not a page.
fn weigh(sec_fetch_site: Option<&str>, origin: Option<&str>, host: &str) -> Evidence {
    match (sec_fetch_site, origin) {
        (Some("same-origin" | "none"), _) => Evidence::Same,
        (None, None) => Evidence::None,
        (None, Some(origin)) if is_origin_of(origin, host) => Evidence::Same,
        (Some(_), _) | (None, Some(_)) => Evidence::Foreign,
    }
}

/// Compares by host and port; an absent port is the scheme's own.
pub(crate) fn is_origin_of(origin: &str, host: &str) -> bool {
    let Some((scheme, authority)) = origin.split_once("://") else { return false };
    let port = match scheme {
        "http" => ":80",
        "https" => ":443",
        _ => return false,
    };
    let plain = |authority: &str| authority.strip_suffix(port).unwrap_or(authority).to_ascii_lowercase();
    !host.is_empty() && plain(authority) == plain(host)
}

fn refuse(detail: &'static str) -> Problem {
    tracing::debug!(detail, "cross-origin request refused");
    Problem::forbidden(detail)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(site: Option<&str>, origin: Option<&str>, expect: Evidence) {
        assert_eq!(weigh(site, origin, "chat.example:8080"), expect, "{site:?} {origin:?}");
    }

    #[test]
    fn browsers_say_where_a_request_was_made() {
        check(Some("same-origin"), None, Evidence::Same);
        check(Some("none"), Some("http://evil.example"), Evidence::Same);
        for site in ["cross-site", "same-site", "", "Same-Origin", "same-origin, none"] {
            check(Some(site), Some("http://chat.example:8080"), Evidence::Foreign);
        }
    }

    #[test]
    fn the_origin_must_be_the_host() {
        check(None, Some("http://chat.example:8080"), Evidence::Same);
        check(None, Some("http://CHAT.example:8080"), Evidence::Same);
        for origin in [
            "null",
            "",
            "http://chat.example",
            "http://chat.example:8081",
            "http://evil.example:8080",
            "ftp://chat.example:8080",
            "http://chat.example:8080.evil.example",
        ] {
            check(None, Some(origin), Evidence::Foreign);
        }
        check(None, None, Evidence::None);
    }

    #[test]
    fn the_scheme_s_own_port_may_be_left_out() {
        assert!(is_origin_of("http://a", "a:80"));
        assert!(is_origin_of("https://a", "a:443"));
        assert!(is_origin_of("http://a:80", "a"));
        assert!(!is_origin_of("https://a", "a:80"));
        assert!(!is_origin_of("http://", ""));
    }
}
