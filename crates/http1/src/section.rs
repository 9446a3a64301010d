//! Reads field lines until the empty line that ends a head or a trailer section (RFC 9112 §5).

use crate::ErrorKind;
use crate::ReceivedFields;
use crate::ascii::{is_field_value, is_tchar, trim};
use crate::lines::{LineFault, LineScan};
use crate::received::FieldSpan;
use std::ops::Range;

/// Field lines read so far. All offsets count from the front of the input.
#[derive(Debug, Default)]
pub(crate) struct Section {
    pub(crate) lines: LineScan,
    pub(crate) fields: ReceivedFields,
}

/// How strictly a field name is read (RFC 9112 §5.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum NameRule {
    /// Requests: the colon follows the name at once.
    Strict,
    /// Responses: whitespace before the colon is cut away.
    TrimBeforeColon,
}

/// How much a section may hold.
#[derive(Debug, Clone, Copy)]
pub(crate) struct SectionLimits {
    pub(crate) bytes_max: usize,
    pub(crate) fields_max: usize,
}

impl Section {
    /// Reads on; true when the empty line was reached. `note` sees each field, first to last.
    pub(crate) fn read(
        &mut self,
        input: &[u8],
        limits: SectionLimits,
        rule: NameRule,
        mut note: impl FnMut(&[u8], FieldSpan) -> Result<(), ErrorKind>,
    ) -> Result<bool, ErrorKind> {
        while let Some(line) = self.lines.next(input, limits.bytes_max)? {
            if line.is_empty() {
                return Ok(true);
            }
            if self.fields.len() == limits.fields_max {
                return Err(ErrorKind::TooManyFields);
            }
            let span = field_line(input, line, rule)?;
            note(input, span)?;
            self.fields.spans_mut().push(span);
        }
        Ok(false)
    }
}

/// A line too long inside a section of fields, whichever it is, makes the section too long.
impl From<LineFault> for ErrorKind {
    fn from(fault: LineFault) -> Self {
        match fault {
            LineFault::TooLong => Self::HeadTooLong,
            LineFault::BareLineFeed => Self::LineEnd,
        }
    }
}

fn field_line(input: &[u8], range: Range<usize>, rule: NameRule) -> Result<FieldSpan, ErrorKind> {
    let line = &input[range.clone()];
    let name_len = line.iter().position(|&byte| !is_tchar(byte)).ok_or(ErrorKind::FieldName)?;
    if name_len == 0 {
        return Err(match line[0] {
            b' ' | b'\t' => ErrorKind::Fold,
            _ => ErrorKind::FieldName,
        });
    }
    let colon = match rule {
        NameRule::Strict => name_len,
        NameRule::TrimBeforeColon => name_len + blanks(&line[name_len..]),
    };
    if line.get(colon) != Some(&b':') {
        return Err(ErrorKind::FieldName);
    }
    let after = &line[colon + 1..];
    if !is_field_value(after) {
        return Err(ErrorKind::FieldValue);
    }
    let value = trim(after);
    let value_start = range.start + colon + 1 + blanks(after).min(after.len() - value.len());
    Ok(FieldSpan::new(range.start, range.start + name_len, value_start, value_start + value.len()))
}

/// How many SP and HTAB stand in front.
fn blanks(bytes: &[u8]) -> usize {
    bytes.iter().take_while(|&&byte| byte == b' ' || byte == b'\t').count()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(line: &str, rule: NameRule, expect: Result<(&str, &str), ErrorKind>) {
        let got = field_line(line.as_bytes(), 0..line.len(), rule);
        let got = got.map(|span| {
            let name = span.name(line.as_bytes()).escape_ascii().to_string();
            (name, span.value(line.as_bytes()).escape_ascii().to_string())
        });
        let expect = expect.map(|(name, value)| (name.to_owned(), value.to_owned()));
        assert_eq!(got, expect, "{line:?}");
    }

    #[test]
    fn whitespace_around_the_value_is_not_part_of_it() {
        check("a:b", NameRule::Strict, Ok(("a", "b")));
        check("a: \t b c\t ", NameRule::Strict, Ok(("a", "b c")));
        check("a:", NameRule::Strict, Ok(("a", "")));
        check("a: \t ", NameRule::Strict, Ok(("a", "")));
    }

    #[test]
    fn only_responses_may_have_whitespace_before_the_colon() {
        check("a : b", NameRule::Strict, Err(ErrorKind::FieldName));
        check("a \t: b", NameRule::TrimBeforeColon, Ok(("a", "b")));
        check("a b: c", NameRule::TrimBeforeColon, Err(ErrorKind::FieldName));
    }

    #[test]
    fn names_are_tokens() {
        for line in ["", ":", ": b", "a", "a@: b", "a\u{e9}: b", "(: b"] {
            check(line, NameRule::Strict, Err(ErrorKind::FieldName));
        }
        check(" a: b", NameRule::Strict, Err(ErrorKind::Fold));
        check("\ta: b", NameRule::TrimBeforeColon, Err(ErrorKind::Fold));
    }

    #[test]
    fn values_hold_no_control_bytes() {
        for byte in (0..=0x1f).chain([0x7f]).filter(|&byte| byte != b'\t') {
            let line = [b"a: b", &[byte][..], b"c"].concat();
            let got = field_line(&line, 0..line.len(), NameRule::Strict);
            assert_eq!(got, Err(ErrorKind::FieldValue), "{byte:#x}");
        }
    }
}
