//! Protection against requests that other sites make in a visitor's name (CSRF).
//!
//! The proof is what browsers say and pages cannot forge: `Sec-Fetch-Site`, or `Origin` against the host the client
//! wrote. Programs with `Authorization: Bearer` need none, since no page can make a browser send that by itself.

use crate::layer::Next;
use crate::problem::Problem;
use crate::request::Request;
use crate::response::IntoResponse;
use crate::session::bearer_token;
use engine::Response;

/// A layer: state-changing requests that carry a cookie need proof of the same origin, and none may show another
/// origin; otherwise 403. Safe methods and Bearer requests pass.
pub async fn same_origin(request: Request, next: Next) -> Response {
    match judge(&request) {
        Evidence::Foreign => refuse("this request comes from another site"),
        Evidence::None if request.head.field("cookie").is_some() => {
            refuse("a request with a cookie needs `Sec-Fetch-Site` or `Origin`; programs send `Authorization: Bearer`")
        }
        Evidence::None | Evidence::Same => next.run(request).await,
    }
}

/// A layer for what does not act by the cookie, such as a login: only a request that shows another origin is refused.
pub async fn not_cross_origin(request: Request, next: Next) -> Response {
    match judge(&request) {
        Evidence::Foreign => refuse("this request comes from another site"),
        Evidence::None | Evidence::Same => next.run(request).await,
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
    if request.method().is_safe() || bearer_token(request).is_some() {
        return Evidence::Same;
    }
    weigh(request.field("sec-fetch-site"), request.field("origin"), request.host())
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
fn is_origin_of(origin: &str, host: &str) -> bool {
    let Some((scheme, authority)) = origin.split_once("://") else { return false };
    let port = match scheme {
        "http" => ":80",
        "https" => ":443",
        _ => return false,
    };
    let plain = |authority: &str| authority.strip_suffix(port).unwrap_or(authority).to_ascii_lowercase();
    !host.is_empty() && plain(authority) == plain(host)
}

fn refuse(detail: &str) -> Response {
    tracing::debug!(detail, "cross-origin request refused");
    Problem::forbidden(detail).into_response()
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
