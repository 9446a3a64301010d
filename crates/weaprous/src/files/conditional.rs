//! Conditional requests (RFC 9110 §13): preconditions in the order the RFC gives them.

use smallvec::SmallVec;
use std::time::{Duration, SystemTime};

/// What identifies the state of a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Validators {
    /// The entity tag, quotes included. Ours are always strong.
    pub(crate) etag: String,
    /// Time of the last change.
    pub(crate) modified: Option<SystemTime>,
}

/// The lines of a field that is a list of tags: the list may be spread over several (RFC 9110 §5.3).
pub(crate) type TagLines<'a> = SmallVec<[&'a [u8]; 1]>;

/// The conditional fields of a request, as they came: `If-Match`, `If-Unmodified-Since` and so on.
#[derive(Debug, Default)]
pub(crate) struct Conditions<'a> {
    pub(crate) matches: TagLines<'a>,
    pub(crate) unmodified_since: Option<&'a str>,
    pub(crate) none_match: TagLines<'a>,
    pub(crate) modified_since: Option<&'a str>,
    pub(crate) range: Option<&'a str>,
}

/// What the preconditions say to a `GET` or `HEAD`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// Send it.
    Proceed,
    /// The client has it already: 304.
    NotModified,
    /// It is not what the client wanted: 412.
    Failed,
}

impl Conditions<'_> {
    /// Evaluates all but `If-Range` (§13.2.2). A field that cannot be read is passed over.
    pub(crate) fn judge(&self, current: &Validators) -> Verdict {
        if !self.matches.is_empty() {
            if !lists(&self.matches, &current.etag, Comparison::Strong) {
                return Verdict::Failed;
            }
        } else if self.unmodified_since.and_then(date).is_some_and(|since| !is_unchanged(current, since)) {
            return Verdict::Failed;
        }
        if !self.none_match.is_empty() {
            if lists(&self.none_match, &current.etag, Comparison::Weak) {
                return Verdict::NotModified;
            }
        } else if self.modified_since.and_then(date).is_some_and(|since| is_unchanged(current, since)) {
            return Verdict::NotModified;
        }
        Verdict::Proceed
    }

    /// Whether a `Range` counts (§13.1.5): there is no `If-Range`, or it names exactly this state. A date does so only
    /// if the file has been still for a second since: before that, one date may stand for two states.
    pub(crate) fn lets_range(&self, current: &Validators, now: SystemTime) -> bool {
        let Some(condition) = self.range else { return true };
        let condition = condition.trim();
        if condition.starts_with('"') || condition.starts_with("W/") {
            return condition == current.etag;
        }
        let Some((wanted, modified)) = date(condition).zip(current.modified) else { return false };
        let is_old = now.duration_since(modified).is_ok_and(|age| age >= Duration::from_secs(1));
        is_old && whole_seconds(modified) == whole_seconds(wanted)
    }
}

#[derive(Clone, Copy)]
enum Comparison {
    Strong,
    Weak,
}

/// Whether a list of tags, or `*`, covers our strong tag (§8.8.3.2). Tags may hold bytes beyond ASCII; ours never do.
fn lists(lines: &[&[u8]], etag: &str, comparison: Comparison) -> bool {
    lines.iter().any(|line| {
        line.trim_ascii() == b"*"
            || tags(line).any(|tag| match comparison {
                Comparison::Strong => tag == etag.as_bytes(),
                Comparison::Weak => tag.strip_prefix(b"W/").unwrap_or(tag) == etag.as_bytes(),
            })
    })
}

/// The tags of a line. A comma inside the quotes belongs to the tag; the list ends at the first thing that is no tag.
fn tags(mut rest: &[u8]) -> impl Iterator<Item = &[u8]> {
    std::iter::from_fn(move || {
        let start = rest.iter().position(|byte| !matches!(byte, b' ' | b'\t' | b','))?;
        rest = &rest[start..];
        let quote = if rest.starts_with(b"W/\"") { 2 } else { 0 };
        let inside = rest.get(quote..)?.strip_prefix(b"\"")?;
        let end = quote + 1 + memchr::memchr(b'"', inside)? + 1;
        let (tag, after) = rest.split_at(end);
        rest = after;
        Some(tag)
    })
}

fn date(text: &str) -> Option<SystemTime> {
    httpdate::parse_http_date(text.trim()).ok()
}

/// Dates on the wire have whole seconds, so that is what is compared. Without a date of ours nothing is known.
fn is_unchanged(current: &Validators, since: SystemTime) -> bool {
    current.modified.is_some_and(|modified| whole_seconds(modified) <= whole_seconds(since))
}

fn whole_seconds(time: SystemTime) -> u64 {
    time.duration_since(SystemTime::UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

#[cfg(test)]
mod tests {
    use super::*;

    const OLDER: &str = "Sun, 06 Nov 1994 08:49:36 GMT";
    const SAME: &str = "Sun, 06 Nov 1994 08:49:37 GMT";
    const NEWER: &str = "Sun, 06 Nov 1994 08:49:38 GMT";

    fn current() -> Validators {
        let modified = SystemTime::UNIX_EPOCH + Duration::from_millis(784_111_777_900);
        Validators { etag: "\"a,b\"".to_owned(), modified: Some(modified) }
    }

    fn lines(tags: &[&'static str]) -> TagLines<'static> {
        tags.iter().map(|line| line.as_bytes()).collect()
    }

    #[allow(clippy::needless_pass_by_value, reason = "each is made for one check")]
    fn check(conditions: Conditions<'_>, expect: Verdict) {
        assert_eq!(conditions.judge(&current()), expect, "{conditions:?}");
    }

    #[test]
    fn tags_are_compared_as_each_field_wants() {
        let if_match = |tags| Conditions { matches: lines(&[tags]), ..Conditions::default() };
        for tags in ["\"a,b\"", "*", "\"x\", \"a,b\"", "\"x\",,\"a,b\""] {
            check(if_match(tags), Verdict::Proceed);
        }
        for tags in ["W/\"a,b\"", "\"x\"", "", "a,b", "\"a", "\"x\" junk \"a,b\""] {
            check(if_match(tags), Verdict::Failed);
        }
        let if_none_match = |tags| Conditions { none_match: lines(&[tags]), ..Conditions::default() };
        for tags in ["\"a,b\"", "W/\"a,b\"", "*", "\"x\", W/\"a,b\""] {
            check(if_none_match(tags), Verdict::NotModified);
        }
        for tags in ["\"x\"", "", "\"a\", \"b\""] {
            check(if_none_match(tags), Verdict::Proceed);
        }
    }

    #[test]
    fn dates_are_compared_by_the_second() {
        let modified = |since| Conditions { modified_since: Some(since), ..Conditions::default() };
        check(modified(OLDER), Verdict::Proceed);
        check(modified(SAME), Verdict::NotModified);
        check(modified(NEWER), Verdict::NotModified);
        check(modified("yesterday"), Verdict::Proceed);
        let unmodified = |since| Conditions { unmodified_since: Some(since), ..Conditions::default() };
        check(unmodified(OLDER), Verdict::Failed);
        check(unmodified(SAME), Verdict::Proceed);
        check(unmodified("yesterday"), Verdict::Proceed);
    }

    #[test]
    fn tags_go_before_dates_and_match_before_none_match() {
        let same = || lines(&["\"a,b\""]);
        let other = || lines(&["\"x\""]);
        let all = Conditions::default;
        check(Conditions { matches: same(), unmodified_since: Some(OLDER), ..all() }, Verdict::Proceed);
        check(Conditions { none_match: other(), modified_since: Some(NEWER), ..all() }, Verdict::Proceed);
        check(Conditions { matches: other(), none_match: same(), ..all() }, Verdict::Failed);
        check(Conditions { matches: same(), none_match: same(), ..all() }, Verdict::NotModified);
        check(Conditions { none_match: same(), unmodified_since: Some(OLDER), ..all() }, Verdict::Failed);
    }

    #[test]
    fn a_list_may_be_spread_over_lines() {
        let if_match = |tags: &[&'static str]| Conditions { matches: lines(tags), ..Conditions::default() };
        check(if_match(&["\"x\"", "\"a,b\""]), Verdict::Proceed);
        check(if_match(&["junk", "\"a,b\", \"x\""]), Verdict::Proceed);
        check(if_match(&["\"x\"", "\"y\""]), Verdict::Failed);
        let if_none_match = |tags: &[&'static str]| Conditions { none_match: lines(tags), ..Conditions::default() };
        check(if_none_match(&["\"x\"", "W/\"a,b\""]), Verdict::NotModified);
        check(if_none_match(&["\"a", "b\""]), Verdict::Proceed);
        let foreign = Conditions { matches: TagLines::from_slice(&[b"\"\xe9\""]), ..Conditions::default() };
        check(foreign, Verdict::Failed);
    }

    #[test]
    fn a_range_needs_exactly_this_state() {
        let later = current().modified.expect("set above") + Duration::from_secs(10);
        let check = |condition, now, expect| {
            let conditions = Conditions { range: Some(condition), ..Conditions::default() };
            assert_eq!(conditions.lets_range(&current(), now), expect, "{condition}");
        };
        check("\"a,b\"", later, true);
        check("W/\"a,b\"", later, false);
        check("\"x\"", later, false);
        check("\"x\", \"a,b\"", later, false);
        check(SAME, later, true);
        check(OLDER, later, false);
        check(NEWER, later, false);
        check("junk", later, false);
        check(SAME, current().modified.expect("set above"), false);
        assert!(Conditions::default().lets_range(&current(), later));
    }
}
