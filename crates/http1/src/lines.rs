//! Cuts received bytes into lines that end in CRLF, remembering what was already searched, so that
//! a line arriving byte by byte is looked at once.

use memchr::memchr;
use std::ops::Range;

/// Where the current line starts and how far it has been searched, as offsets into the input.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct LineScan {
    start: usize,
    searched: usize,
}

/// Why there is no line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum LineFault {
    /// No line end within the limit.
    TooLong,
    /// The LF has no CR before it.
    BareLineFeed,
}

impl LineScan {
    /// Where the next line starts: everything before is complete lines.
    pub(crate) fn start(&self) -> usize {
        self.start
    }

    /// The next line without its CRLF, if it is complete and ends before `end_max`.
    ///
    /// The answer depends on the bytes alone, not on how they were cut.
    pub(crate) fn next(&mut self, input: &[u8], end_max: usize) -> Result<Option<Range<usize>>, LineFault> {
        let window = &input[..input.len().min(end_max)];
        let Some(unseen) = window.get(self.searched..) else {
            return Err(LineFault::TooLong);
        };
        let Some(offset) = memchr(b'\n', unseen) else {
            self.searched = window.len();
            return if input.len() >= end_max { Err(LineFault::TooLong) } else { Ok(None) };
        };
        let line_feed = self.searched + offset;
        let line = self.start..line_feed.saturating_sub(1);
        if line_feed == self.start || input[line.end] != b'\r' {
            return Err(LineFault::BareLineFeed);
        }
        self.start = line_feed + 1;
        self.searched = self.start;
        Ok(Some(line))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_needs_both_cr_and_lf() {
        assert_eq!(LineScan::default().next(b"a\r\nb", 9), Ok(Some(0..1)));
        assert_eq!(LineScan::default().next(b"\r\n", 9), Ok(Some(0..0)));
        assert_eq!(LineScan::default().next(b"a\r", 9), Ok(None));
        for bare in [&b"\n"[..], b"a\n", b"a\r\r\n\n"] {
            let mut scan = LineScan::default();
            let last = loop {
                match scan.next(bare, 9) {
                    Ok(Some(_)) => {}
                    other => break other,
                }
            };
            assert_eq!(last, Err(LineFault::BareLineFeed), "{}", bare.escape_ascii());
        }
    }

    #[test]
    fn a_line_may_end_exactly_at_the_limit() {
        assert_eq!(LineScan::default().next(b"abc\r\n", 5), Ok(Some(0..3)));
        assert_eq!(LineScan::default().next(b"abc\r\n", 4), Err(LineFault::TooLong));
        let mut scan = LineScan::default();
        assert_eq!(scan.next(b"abc\r", 5), Ok(None));
        assert_eq!(scan.next(b"abc\r\n", 5), Ok(Some(0..3)));
        assert_eq!(scan.next(b"abc\r\n", 5), Err(LineFault::TooLong));
    }
}
