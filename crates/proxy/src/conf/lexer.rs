//! Text to tokens: words, quoted words, braces, semicolons. Knows no directive.

use super::error::Flaw;

/// What a token is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Word,
    Quoted,
    Open,
    Close,
    Semicolon,
    End,
}

/// A piece of the text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Token {
    pub(super) kind: Kind,
    /// What it says; for a quoted word without quotes and escapes.
    pub(super) text: String,
    /// Where it begins and where it ends, as byte offsets.
    pub(super) start: usize,
    pub(super) end: usize,
}

impl Token {
    /// How an error names it.
    pub(super) fn describe(&self) -> String {
        match self.kind {
            Kind::Word => format!("`{}`", shorten(&self.text)),
            Kind::Quoted => format!("\"{}\"", shorten(&self.text)),
            Kind::Open => "`{`".to_owned(),
            Kind::Close => "`}`".to_owned(),
            Kind::Semicolon => "`;`".to_owned(),
            Kind::End => "the end of the file".to_owned(),
        }
    }

    pub(super) fn is_text(&self) -> bool {
        matches!(self.kind, Kind::Word | Kind::Quoted)
    }
}

/// A text short and harmless enough to stand inside a message.
pub(super) fn shorten(text: &str) -> String {
    /// Longest piece of the file repeated inside a message, in characters.
    const CHARS_MAX: usize = 40;
    let mut short: String = text.chars().take(CHARS_MAX).map(|c| if c.is_control() { '?' } else { c }).collect();
    if text.chars().nth(CHARS_MAX).is_some() {
        short.push('…');
    }
    short
}

/// Gives the tokens of a text one after the other.
pub(super) struct Lexer<'a> {
    text: &'a str,
    at: usize,
}

impl<'a> Lexer<'a> {
    pub(super) fn new(text: &'a str) -> Self {
        let at = if text.starts_with('\u{feff}') { 3 } else { 0 };
        Self { text, at }
    }

    /// The next token. At the end of the text: [`Kind::End`], again and again.
    ///
    /// # Errors
    /// A character or a quoted word that cannot be; the next call goes on after it.
    pub(super) fn next(&mut self) -> Result<Token, Flaw> {
        self.skip_blanks();
        let start = self.at;
        let Some(first) = self.peek() else {
            return Ok(self.token(Kind::End, start, String::new()));
        };
        let kind = match first {
            '{' => Kind::Open,
            '}' => Kind::Close,
            ';' => Kind::Semicolon,
            '"' => return self.quoted(start),
            c if is_stray(c) => {
                self.at += c.len_utf8();
                let found = format!("the character U+{:04X}", u32::from(c));
                return Err(Flaw::new(start, "visible characters and plain spaces", found));
            }
            _ => return Ok(self.word(start)),
        };
        self.at += 1;
        Ok(self.token(kind, start, String::new()))
    }

    fn peek(&self) -> Option<char> {
        self.text.get(self.at..)?.chars().next()
    }

    fn skip_blanks(&mut self) {
        while let Some(c) = self.peek() {
            match c {
                ' ' | '\t' | '\r' | '\n' => self.at += 1,
                '#' => self.at += self.rest_of_line(),
                _ => break,
            }
        }
    }

    /// How many bytes remain before the next line feed.
    fn rest_of_line(&self) -> usize {
        let rest = self.text.get(self.at..).unwrap_or_default();
        rest.find('\n').unwrap_or(rest.len())
    }

    fn word(&mut self, start: usize) -> Token {
        while let Some(c) = self.peek() {
            if c.is_ascii_whitespace() || matches!(c, '{' | '}' | ';' | '"') || is_stray(c) {
                break;
            }
            self.at += c.len_utf8();
        }
        let text = self.text.get(start..self.at).unwrap_or_default().to_owned();
        self.token(Kind::Word, start, text)
    }

    fn quoted(&mut self, start: usize) -> Result<Token, Flaw> {
        let mut text = String::new();
        self.at += 1;
        while let Some(c) = self.peek() {
            match c {
                '\n' => break,
                '"' => {
                    self.at += 1;
                    return Ok(self.token(Kind::Quoted, start, text));
                }
                '\\' => {
                    self.at += 1;
                    match self.peek() {
                        Some(escaped @ ('"' | '\\')) => {
                            self.at += 1;
                            text.push(escaped);
                        }
                        _ => text.push('\\'),
                    }
                }
                c => {
                    self.at += c.len_utf8();
                    text.push(c);
                }
            }
        }
        Err(Flaw::new(start, "a closing `\"` on the same line", "the end of the line"))
    }

    fn token(&self, kind: Kind, start: usize, text: String) -> Token {
        Token { kind, text, start, end: self.at }
    }
}

/// Characters that stand for nothing here, mostly pasted by accident: control characters, and blanks that
/// look like a space and are none.
fn is_stray(c: char) -> bool {
    let plain_blank = matches!(c, ' ' | '\t' | '\r' | '\n');
    (c.is_control() || c.is_whitespace() || c == '\u{feff}' || c == '\u{200b}') && !plain_blank
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, expect: &[&str]) {
        let mut lexer = Lexer::new(text);
        let mut seen = Vec::new();
        loop {
            match lexer.next() {
                Ok(token) if token.kind == Kind::End => break,
                Ok(token) => seen.push(token.describe()),
                Err(flaw) => seen.push(format!("{}! {}", flaw.at, flaw.found)),
            }
        }
        assert_eq!(seen, expect, "{text:?}");
    }

    #[test]
    fn words_end_at_blanks_braces_and_semicolons() {
        check("a b;c{d}", &["`a`", "`b`", "`;`", "`c`", "`{`", "`d`", "`}`"]);
        check("http://127.0.0.1:80/a#b", &["`http://127.0.0.1:80/a#b`"]);
        check("", &[]);
        check("\u{feff}a", &["`a`"]);
    }

    #[test]
    fn a_comment_ends_with_its_line() {
        check("# x { \" ;\na # b\r\nc#d", &["`a`", "`c#d`"]);
    }

    #[test]
    fn a_quoted_word_may_hold_anything_but_a_line_end() {
        check(r#""a b;{}#" "\"\\\n""#, &["\"a b;{}#\"", "\"\"\\\\n\""]);
        check("\"ab\nc", &["0! the end of the line", "`c`"]);
        check("\"", &["0! the end of the line"]);
        check("\"\\", &["0! the end of the line"]);
    }

    #[test]
    fn stray_characters_are_named_and_passed_over() {
        check("a\u{a0}b", &["`a`", "1! the character U+00A0", "`b`"]);
        check("\0", &["0! the character U+0000"]);
        check("é", &["`é`"]);
    }
}
