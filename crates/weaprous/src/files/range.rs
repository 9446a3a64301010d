//! The `Range` field: parts of a file (RFC 9110 §14). Parts that overlap or nearly touch become one, and a request for
//! too many is answered with the whole file, which the RFC allows: no sum of ranges can turn into an attack.

use smallvec::SmallVec;

/// What a `Range` field asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Wanted {
    /// Everything: no range, one that is not understood, or too many.
    Whole,
    /// These parts, in the order they were asked for; none overlaps another.
    Parts(SmallVec<[Part; 1]>),
    /// Nothing that the file has: 416.
    Unsatisfiable,
}

/// Bytes `first..=last`, both inside the file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Part {
    /// Position of the first byte.
    pub(crate) first: u64,
    /// Position of the last byte.
    pub(crate) last: u64,
}

impl Part {
    pub(crate) fn len(self) -> u64 {
        self.last - self.first + 1
    }
}

/// Most ranges one request may ask for; readers of documents ask for a handful at a time.
pub(crate) const RANGES_MAX: usize = 16;

/// Parts with a smaller gap are sent as one: the head of a part alone is about as long.
const GAP_BYTES: u64 = 80;

/// Reads a `Range` field for a file of `len` bytes.
pub(crate) fn parse(field: &str, len: u64) -> Wanted {
    let Some((unit, set)) = field.split_once('=') else { return Wanted::Whole };
    if !unit.trim().eq_ignore_ascii_case("bytes") {
        return Wanted::Whole;
    }
    let mut parts = SmallVec::<[Part; 1]>::new();
    let mut seen = 0;
    for spec in set.split(',').map(str::trim).filter(|spec| !spec.is_empty()) {
        seen += 1;
        match single(spec, len) {
            _ if seen > RANGES_MAX => return Wanted::Whole,
            Spec::Malformed => return Wanted::Whole,
            Spec::Outside => {}
            Spec::Inside(part) => add(&mut parts, part),
        }
    }
    match (seen, parts.is_empty()) {
        (0, _) => Wanted::Whole,
        (_, true) => Wanted::Unsatisfiable,
        (_, false) => Wanted::Parts(parts),
    }
}

enum Spec {
    Malformed,
    Outside,
    Inside(Part),
}

fn single(spec: &str, len: u64) -> Spec {
    let Some((first, last)) = spec.split_once('-') else { return Spec::Malformed };
    match (position(first), position(last)) {
        (Some(Position::At(first)), Some(last)) => between(first, last, len),
        (Some(Position::Absent), Some(Position::At(length))) => suffix(length, len),
        _ => Spec::Malformed,
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

fn between(first: u64, last: Position, len: u64) -> Spec {
    let end = len.saturating_sub(1);
    let last = match last {
        Position::At(last) if last < first => return Spec::Malformed,
        Position::At(last) => last.min(end),
        Position::Absent => end,
    };
    if first >= len { Spec::Outside } else { Spec::Inside(Part { first, last }) }
}

fn suffix(length: u64, len: u64) -> Spec {
    if length == 0 || len == 0 {
        return Spec::Outside;
    }
    Spec::Inside(Part { first: len.saturating_sub(length), last: len - 1 })
}

/// Adds a part, merged with all it touches, at the place of the earliest of them.
fn add(parts: &mut SmallVec<[Part; 1]>, mut part: Part) {
    let mut place = parts.len();
    while let Some(near) = parts.iter().position(|known| is_near(*known, part)) {
        let known = parts.remove(near);
        part = Part { first: part.first.min(known.first), last: part.last.max(known.last) };
        place = place.min(near);
    }
    parts.insert(place.min(parts.len()), part);
}

fn is_near(a: Part, b: Part) -> bool {
    let (left, right) = if a.first <= b.first { (a, b) } else { (b, a) };
    right.first <= left.last.saturating_add(GAP_BYTES)
}

#[cfg(test)]
mod tests {
    use super::*;

    const HUGE: &str = "99999999999999999999999999";

    fn check_in(len: u64, field: &str, expect: &[(u64, u64)]) {
        let expect = expect.iter().map(|&(first, last)| Part { first, last }).collect();
        assert_eq!(parse(field, len), Wanted::Parts(expect), "{field:.80}");
    }

    #[test]
    fn single_ranges_are_cut_to_the_file() {
        let check = |field: &str, first, last| check_in(10, field, &[(first, last)]);
        check("bytes=0-", 0, 9);
        check("bytes=0-0", 0, 0);
        check("bytes=3-5", 3, 5);
        check("bytes=3-99", 3, 9);
        check(&format!("bytes=3-{HUGE}"), 3, 9);
        check("bytes=-5", 5, 9);
        check("bytes=-99", 0, 9);
        check(&format!("bytes=-{HUGE}"), 0, 9);
        check("Bytes= 3-5 ", 3, 5);
        check("bytes=,3-5,", 3, 5);
    }

    #[test]
    fn what_the_file_does_not_have_is_unsatisfiable() {
        for field in ["bytes=10-", "bytes=10-20", "bytes=-0", "bytes=10-,20-30,-0"] {
            assert_eq!(parse(field, 10), Wanted::Unsatisfiable, "{field}");
        }
        assert_eq!(parse(&format!("bytes={HUGE}-"), 10), Wanted::Unsatisfiable);
        assert_eq!(parse(&format!("bytes={HUGE}-{HUGE}"), 10), Wanted::Unsatisfiable);
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
            "bytes=0-1,x",
            "bytes=0-1,5-2",
            "bytes=,,",
            "",
        ] {
            assert_eq!(parse(field, 10), Wanted::Whole, "{field}");
        }
    }

    #[test]
    fn parts_keep_their_order_and_those_that_touch_become_one() {
        let check = |field: &str, expect: &[(u64, u64)]| check_in(1000, field, expect);
        check("bytes=0-9,500-509", &[(0, 9), (500, 509)]);
        check("bytes=500-509, 0-9", &[(500, 509), (0, 9)]);
        check("bytes=0-9,5-19", &[(0, 19)]);
        check("bytes=0-9,10-19", &[(0, 19)]);
        check("bytes=0-9,60-69", &[(0, 69)]);
        check("bytes=0-9,90-99", &[(0, 9), (90, 99)]);
        check("bytes=0-9,500-509,-1,5-495", &[(0, 509), (999, 999)]);
        check("bytes=700-709,0-9,5-695", &[(0, 709)]);
        check("bytes=0-0,2000-,999-", &[(0, 0), (999, 999)]);
        check("bytes=0-,0-,0-,0-", &[(0, 999)]);
    }

    #[test]
    fn too_many_ranges_are_answered_with_the_whole() {
        let many = |count: usize| {
            let ranges: Vec<String> = (0..count).map(|n| format!("{}-{}", n * 1000, n * 1000)).collect();
            format!("bytes={}", ranges.join(","))
        };
        assert!(matches!(parse(&many(RANGES_MAX), u64::MAX), Wanted::Parts(parts) if parts.len() == RANGES_MAX));
        assert_eq!(parse(&many(RANGES_MAX + 1), u64::MAX), Wanted::Whole);
        assert_eq!(parse(&format!("bytes={}", "0-,".repeat(500)), 10), Wanted::Whole);
    }
}
