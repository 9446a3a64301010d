//! What an address means below the root: a file, a folder, or nothing that is ever served.

use super::Rules;
use crate::percent;
use crate::problem::Problem;
use crate::request::Request;
use crate::response::{IntoResponse, Redirect};
use engine::Response;

/// The one folder with a dot that is meant for strangers (RFC 8615).
const WELL_KNOWN: &str = ".well-known";

/// Whether a decoded path without leading slash may be served at all. An empty last segment means a folder.
pub(crate) fn is_servable(path: &str, rules: &Rules) -> bool {
    let mut segments = path.split('/').enumerate().peekable();
    while let Some((depth, segment)) = segments.next() {
        let is_last = segments.peek().is_none();
        if !(is_last && segment.is_empty() || is_plain(segment, depth, rules)) {
            return false;
        }
    }
    true
}

/// Whether a name is neither hidden nor able to mean anything but itself.
pub(crate) fn is_plain(segment: &str, depth: usize, rules: &Rules) -> bool {
    let is_shown = !segment.starts_with('.')
        || rules.hidden && !matches!(segment, "." | "..")
        || rules.well_known && depth == 0 && segment == WELL_KNOWN;
    is_shown && !segment.is_empty() && !segment.contains(|c: char| c == '\\' || c.is_control())
}

/// Sends the client to the same path with a slash. Segments are encoded anew and none is empty, so that the target
/// never looks like another host.
pub(crate) fn to_folder(request: &Request) -> Response {
    let mut location = String::new();
    for segment in request.path().split('/').filter(|segment| !segment.is_empty()) {
        match percent::decode(segment) {
            Ok(segment) => location = format!("{location}/{}", percent::encode(&segment)),
            Err(_) => return Problem::not_found("there is no such file").into_response(),
        }
    }
    location.push('/');
    if let Some(query) = request.head.query() {
        location = format!("{location}?{query}");
    }
    Redirect::permanent(location).into_response()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(rules: &Rules, path: &str, expect: bool) {
        assert_eq!(is_servable(path, rules), expect, "{path:?}");
    }

    #[test]
    fn addresses_mean_files_and_folders() {
        for path in ["", "a/", "a/b.css", "a b/é.txt"] {
            check(&Rules::default(), path, true);
        }
    }

    #[test]
    fn what_could_lead_elsewhere_is_nowhere() {
        let everything = Rules { hidden: true, well_known: true, ..Rules::default() };
        for path in [
            "../x",
            "a/../x",
            "./x",
            "a//b",
            "//",
            "/etc/passwd",
            "/",
            "..\\x",
            "a\\b",
            "a\nb",
            "a\0",
            "a/\u{7f}",
            "..",
            ".",
        ] {
            check(&Rules::default(), path, false);
            check(&everything, path, false);
        }
    }

    #[test]
    fn hidden_files_are_shown_by_choice() {
        let well_known = Rules { well_known: true, ..Rules::default() };
        let hidden = Rules { hidden: true, ..Rules::default() };
        for (path, by_choice) in [
            (".env", false),
            (".git/config", false),
            ("a/.b", false),
            (".well-known/acme", true),
            ("a/.well-known/b", false),
        ] {
            check(&Rules::default(), path, false);
            check(&well_known, path, by_choice);
            check(&hidden, path, true);
        }
    }
}
