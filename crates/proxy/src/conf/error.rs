//! A mistake in a configuration file, shown with its line, a caret and what was expected.

use std::fmt;
use std::io::{self, Read};
use std::path::Path;

use super::CONFIG_BYTES_MAX;

/// Longest piece of a line shown in an error, in characters.
const SHOWN_CHARS_MAX: usize = 100;

/// A mistake as the parser sees it: a place in the text, not yet a line of a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Flaw {
    /// Byte offset into the text.
    pub(super) at: usize,
    pub(super) expected: String,
    pub(super) found: String,
    pub(super) hint: Option<String>,
}

impl Flaw {
    pub(super) fn new(at: usize, expected: impl Into<String>, found: impl Into<String>) -> Self {
        Self { at, expected: expected.into(), found: found.into(), hint: None }
    }

    pub(super) fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// As [`Flaw::locate`], for a warning: what is found is its sentence.
    pub(super) fn warning(self, file: &str, text: &str) -> ConfigWarning {
        let ConfigError { file, line, column, line_text, found, hint, .. } = self.locate(file, text);
        ConfigWarning { file, line, column, line_text, sentence: found, hint }
    }

    /// Turns the offset into a line and a column.
    pub(super) fn locate(self, file: &str, text: &str) -> ConfigError {
        let (line, column, line_text) = place(text, self.at);
        ConfigError {
            file: file.to_owned(),
            line,
            column,
            line_text: line_text.to_owned(),
            expected: self.expected,
            found: self.found,
            hint: self.hint,
        }
    }
}

/// The line number and the column, both from 1, and the text of the line that holds byte `at`.
fn place(text: &str, at: usize) -> (usize, usize, &str) {
    let before = text.get(..at).unwrap_or(text);
    let start = before.rfind('\n').map_or(0, |newline| newline + 1);
    let rest = text.get(start..).unwrap_or_default();
    let line_text = rest.split('\n').next().unwrap_or_default();
    let line = before.matches('\n').count() + 1;
    let column = before.get(start..).unwrap_or_default().chars().count() + 1;
    (line, column, line_text.trim_end_matches('\r'))
}

/// One mistake in a configuration file. Its `Display` shows the line with a caret under the place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigError {
    /// The file's name as it was given.
    pub file: String,
    /// From 1.
    pub line: usize,
    /// From 1, in characters.
    pub column: usize,
    /// The whole line, without its end.
    pub line_text: String,
    /// What would have been right there.
    pub expected: String,
    /// What stands there.
    pub found: String,
    /// How to put it right, when that can be guessed.
    pub hint: Option<String>,
}

impl std::error::Error for ConfigError {}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { file, line, column, expected, found, .. } = self;
        writeln!(f, "{file}:{line}:{column}: expected {expected}, found {found}")?;
        show_place(f, *line, *column, &self.line_text, self.hint.as_deref())
    }
}

/// Something in a configuration file that is allowed and hardly meant. Its `Display` looks like an error's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigWarning {
    /// The file's name as it was given.
    pub file: String,
    /// From 1.
    pub line: usize,
    /// From 1, in characters.
    pub column: usize,
    /// The whole line, without its end.
    pub line_text: String,
    /// What is odd.
    pub sentence: String,
    /// How to put it right, when that can be guessed.
    pub hint: Option<String>,
}

impl fmt::Display for ConfigWarning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { file, line, column, sentence, .. } = self;
        writeln!(f, "{file}:{line}:{column}: warning: {sentence}")?;
        show_place(f, *line, *column, &self.line_text, self.hint.as_deref())
    }
}

/// The line, a caret under the place, and the hint.
fn show_place(
    f: &mut fmt::Formatter<'_>,
    line: usize,
    column: usize,
    line_text: &str,
    hint: Option<&str>,
) -> fmt::Result {
    let (shown, caret) = excerpt(line_text, column);
    let number = line.to_string();
    let margin = " ".repeat(number.len());
    writeln!(f, " {number} | {shown}")?;
    write!(f, " {margin} | {caret}^")?;
    if let Some(hint) = hint {
        write!(f, "\n {margin} = {hint}")?;
    }
    Ok(())
}

/// The part of a line to show and the blanks that put a caret under `column`. Control characters, which
/// could move a terminal's cursor, are shown as `?`; a tab as one space.
fn excerpt(line: &str, column: usize) -> (String, String) {
    let skipped = column.saturating_sub(SHOWN_CHARS_MAX * 3 / 4);
    let shown = line
        .chars()
        .skip(skipped)
        .take(SHOWN_CHARS_MAX)
        .map(|c| match c {
            '\t' => ' ',
            c if c.is_control() => '?',
            c => c,
        })
        .collect();
    (shown, " ".repeat(column - 1 - skipped.min(column - 1)))
}

/// Why a configuration could not be had.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// The file cannot be read.
    #[error("cannot read the proxy configuration {file}: {source}")]
    Unreadable {
        /// The file's name as it was given.
        file: String,
        /// What the system said.
        source: io::Error,
    },
    /// The file is not a configuration; every mistake found.
    #[error("{}", Listed(.0))]
    Invalid(Vec<ConfigError>),
}

/// Mistakes one under the other.
struct Listed<'a>(&'a [ConfigError]);

impl fmt::Display for Listed<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, error) in self.0.iter().enumerate() {
            if index > 0 {
                writeln!(f)?;
            }
            write!(f, "{error}")?;
        }
        Ok(())
    }
}

pub(super) fn read_limited(path: &Path) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    std::fs::File::open(path)?.take(CONFIG_BYTES_MAX as u64 + 1).read_to_end(&mut bytes)?;
    if bytes.len() > CONFIG_BYTES_MAX {
        return Err(io::Error::new(
            io::ErrorKind::FileTooLarge,
            format!("longer than {CONFIG_BYTES_MAX} bytes, so hardly a proxy configuration"),
        ));
    }
    Ok(bytes)
}

pub(super) fn not_utf8(file: &str, error: &std::string::FromUtf8Error) -> ConfigError {
    let at = error.utf8_error().valid_up_to();
    let byte = error.as_bytes().get(at).copied().unwrap_or_default();
    let text = String::from_utf8_lossy(error.as_bytes());
    Flaw::new(at, "UTF-8 text", format!("the byte 0x{byte:02X}")).locate(file, &text)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, at: usize, line: usize, column: usize, shown: &str) {
        assert_eq!(place(text, at), (line, column, shown), "{text:?} at {at}");
    }

    #[test]
    fn a_place_is_a_line_and_a_column_in_characters() {
        check("", 0, 1, 1, "");
        check("host", 4, 1, 5, "host");
        check("a\nbc\n", 2, 2, 1, "bc");
        check("a\nbc\n", 3, 2, 2, "bc");
        check("a\nbc\n", 5, 3, 1, "");
        check("a\r\nbc\r\n", 4, 2, 2, "bc");
        check("é x", 3, 1, 3, "é x");
    }

    #[test]
    fn the_caret_stands_under_the_column_and_control_characters_are_harmless() {
        let error = Flaw::new(5, "`;`", "a word").locate("p.conf", "\tx\u{1b}[1 y");
        assert_eq!(error.to_string(), "p.conf:1:6: expected `;`, found a word\n 1 |  x?[1 y\n   |      ^");
    }

    #[test]
    fn a_long_line_is_cut_around_the_column() {
        let line = format!("{}!{}", "a".repeat(5000), "b".repeat(5000));
        let shown = Flaw::new(5000, "x", "y").locate("f", &line).to_string();
        let mut lines = shown.lines().skip(1);
        let text = lines.next().unwrap_or_default();
        let caret = lines.next().unwrap_or_default();
        assert!(text.chars().count() < 120, "{text}");
        // The margins differ in nothing but the number, which has as many characters as its blank.
        assert_eq!(text.find('!'), caret.find('^'), "{shown}");
    }
}
