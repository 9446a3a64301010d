//! The `Range` field: one part of a file (RFC 9110 §14). Several parts at once are answered with the whole file,
//! which the RFC allows and which no sum of overlapping ranges can turn into an attack.

/// What a `Range` field asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Wanted {
    /// Everything: no range, one that is not understood, or several.
    Whole,
    /// Bytes `first..=last`, both inside the file.
    Part {
        /// Position of the first byte.
        first: u64,
        /// Position of the last byte.
        last: u64,
    },
    /// Nothing that the file has: 416.
    Unsatisfiable,
}

/// Reads a `Range` field for a file of `len` bytes.
pub(crate) fn parse(field: &str, len: u64) -> Wanted {
    let Some((unit, set)) = field.split_once('=') else { return Wanted::Whole };
    let set = set.trim();
    if !unit.trim().eq_ignore_ascii_case("bytes") || set.contains(',') {
        return Wanted::Whole;
    }
    let Some((first, last)) = set.split_once('-') else { return Wanted::Whole };
    match (position(first), position(last)) {
        (Some(Position::At(first)), Some(last)) => part(first, last, len),
        (Some(Position::Absent), Some(Position::At(length))) => suffix(length, len),
        _ => Wanted::Whole,
    }
}

#[derive(Clone, Copy)]
enum Position {
    Absent,
    At(u64),
}

/// `None` for anything but digits. More than 64 bits is beyond every file, so it saturates.
fn position(text: &str) -> Option<Position> {
    if text.is_empty() {
        return Some(Position::Absent);
    }
    text.bytes().all(|byte| byte.is_ascii_digit()).then(|| Position::At(text.parse().unwrap_or(u64::MAX)))
}

fn part(first: u64, last: Position, len: u64) -> Wanted {
    let end = len.saturating_sub(1);
    let last = match last {
        Position::At(last) if last < first => return Wanted::Whole, // malformed, to be ignored
        Position::At(last) => last.min(end),
        Position::Absent => end,
    };
    if first >= len { Wanted::Unsatisfiable } else { Wanted::Part { first, last } }
}

fn suffix(length: u64, len: u64) -> Wanted {
    if length == 0 || len == 0 {
        return Wanted::Unsatisfiable;
    }
    Wanted::Part { first: len.saturating_sub(length), last: len - 1 }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HUGE: &str = "99999999999999999999999999";

    fn check(field: &str, expect: Wanted) {
        assert_eq!(parse(field, 10), expect, "{field}");
    }

    #[test]
    fn single_ranges_are_cut_to_the_file() {
        check("bytes=0-", Wanted::Part { first: 0, last: 9 });
        check("bytes=0-0", Wanted::Part { first: 0, last: 0 });
        check("bytes=3-5", Wanted::Part { first: 3, last: 5 });
        check("bytes=3-99", Wanted::Part { first: 3, last: 9 });
        check(&format!("bytes=3-{HUGE}"), Wanted::Part { first: 3, last: 9 });
        check("bytes=-5", Wanted::Part { first: 5, last: 9 });
        check("bytes=-99", Wanted::Part { first: 0, last: 9 });
        check(&format!("bytes=-{HUGE}"), Wanted::Part { first: 0, last: 9 });
        check("Bytes= 3-5 ", Wanted::Part { first: 3, last: 5 });
    }

    #[test]
    fn what_the_file_does_not_have_is_unsatisfiable() {
        check("bytes=10-", Wanted::Unsatisfiable);
        check("bytes=10-20", Wanted::Unsatisfiable);
        check("bytes=-0", Wanted::Unsatisfiable);
        check(&format!("bytes={HUGE}-"), Wanted::Unsatisfiable);
        check(&format!("bytes={HUGE}-{HUGE}"), Wanted::Unsatisfiable);
        assert_eq!(parse("bytes=0-", 0), Wanted::Unsatisfiable);
        assert_eq!(parse("bytes=-5", 0), Wanted::Unsatisfiable);
    }

    #[test]
    fn what_is_not_understood_is_ignored() {
        for field in [
            "bytes=5-2",
            "x=0-5",
            "bytes",
            "bytes=",
            "bytes=-",
            "bytes=a-b",
            "bytes=+1-2",
            "bytes=1--2",
            "bytes=1-2-3",
            "bytes=0x0-5",
            "bytes=1 -2",
            "",
        ] {
            check(field, Wanted::Whole);
        }
    }

    #[test]
    fn several_ranges_are_answered_with_the_whole() {
        check("bytes=0-1,3-4", Wanted::Whole);
        check(&format!("bytes={}", "0-,".repeat(500)), Wanted::Whole);
    }
}
