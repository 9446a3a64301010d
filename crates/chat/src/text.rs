//! Making what strangers wrote safe to show.

use std::borrow::Cow;
use std::fmt::Write as _;

/// Makes text safe for a terminal or a page: keeps line feeds and tabs, drops carriage returns, and writes other
/// control characters and those that reorder or hide text as `\u{…}`, where everybody can see them.
///
/// ```
/// assert_eq!(chat::text::printable("a\u{1b}[2Jb"), r"a\u{1b}[2Jb");
/// ```
pub fn printable(text: &str) -> Cow<'_, str> {
    if !text.contains(is_unsafe) {
        return Cow::Borrowed(text);
    }
    let mut shown = String::with_capacity(text.len() + 16);
    for character in text.chars() {
        match character {
            '\r' => {}
            _ if is_unsafe(character) => {
                write!(shown, "\\u{{{:x}}}", u32::from(character)).expect("a string takes any text");
            }
            _ => shown.push(character),
        }
    }
    Cow::Owned(shown)
}

/// As [`printable`], on one line: line feeds and tabs become a space.
pub fn printable_line(text: &str) -> Cow<'_, str> {
    match printable(text) {
        shown if shown.contains(['\n', '\t']) => Cow::Owned(shown.replace(['\n', '\t'], " ")),
        shown => shown,
    }
}

/// Control characters, and format characters that change the order of what is shown or show nothing at all.
fn is_unsafe(character: char) -> bool {
    let control = character.is_control() && !matches!(character, '\n' | '\t');
    control || reorders(character) || breaks_lines(character) || is_invisible(character)
}

/// Bidirectional marks, embeddings, overrides and isolates (Unicode UAX #9).
fn reorders(character: char) -> bool {
    matches!(character, '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// Line and paragraph separators, at which some terminals break.
fn breaks_lines(character: char) -> bool {
    matches!(character, '\u{2028}' | '\u{2029}')
}

/// Zero-width space, word joiner and invisible operators, deprecated format characters, byte order mark, annotations and
/// tags. Not U+200C and U+200D, which Persian, Indic scripts and emoji need.
fn is_invisible(character: char) -> bool {
    matches!(
        character,
        '\u{200b}'
            | '\u{2060}'..='\u{2064}'
            | '\u{206a}'..='\u{206f}'
            | '\u{feff}'
            | '\u{fff9}'..='\u{fffb}'
            | '\u{e0000}'..='\u{e007f}'
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dangerous_characters_are_spelled_out() {
        let cases = [
            ("plain", "plain"),
            ("two\nlines\tand a tab", "two\nlines\tand a tab"),
            ("crlf\r\n", "crlf\n"),
            ("\u{1b}]0;title\u{7}", r"\u{1b}]0;title\u{7}"),
            ("\u{9b}31m", r"\u{9b}31m"),
            ("\0\u{7f}", r"\u{0}\u{7f}"),
            ("user\u{202e}gpj.exe", r"user\u{202e}gpj.exe"),
            ("\u{2067}x\u{2069}", r"\u{2067}x\u{2069}"),
            ("a\u{2028}b\u{200b}c\u{feff}", r"a\u{2028}b\u{200b}c\u{feff}"),
            ("👩\u{200d}💻 é 漢字 עברית", "👩\u{200d}💻 é 漢字 עברית"),
        ];
        for (text, shown) in cases {
            assert_eq!(printable(text), shown);
        }
    }

    #[test]
    fn a_line_stays_a_line() {
        assert_eq!(printable_line("a\nb\tc\r\nd"), "a b c d");
        assert_eq!(printable_line("same"), "same");
    }
}
