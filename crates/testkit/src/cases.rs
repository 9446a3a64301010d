//! Reads protocol cases from Markdown files a reviewer can read.
//!
//! A case is a `## ` heading with prose and fenced blocks under it. Before the colon the heading
//! names the rows of the rule table it covers: `## F1, F2: two lengths`. A block's info string is a
//! tag, then `name=value` attributes:
//!
//! ````text
//! ```request
//! GET /{} HTTP/1.1\r\n
//! ```
//! ````
//!
//! In a block read as bytes ([`Block::bytes`]) real line ends mean nothing; these escapes stand for
//! what cannot be seen: `\r` `\n` `\t` `\0` `\s` (space) `\\` `\xHH`, and `\{text*count}` for a
//! repetition.

use std::fs;
use std::path::Path;

/// One heading with its blocks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Case {
    /// The file's name.
    pub file: String,
    /// The line of the heading, from 1.
    pub line: usize,
    /// The heading without `## `.
    pub title: String,
    /// The fenced blocks in order.
    pub blocks: Vec<Block>,
}

/// One fenced block.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Block {
    /// The line of the opening fence, from 1.
    pub line: usize,
    /// The first word of the info string.
    pub tag: String,
    /// The other words; one without `=` has an empty value.
    pub attributes: Vec<(String, String)>,
    /// The lines between the fences, each ended by `\n`.
    pub text: String,
}

impl Case {
    /// The rows of the rule table this case covers.
    pub fn rows(&self) -> impl Iterator<Item = &str> {
        let rows = self.title.split_once(':').map_or("", |(rows, _)| rows);
        rows.split(',').map(str::trim).filter(|row| !row.is_empty())
    }

    /// File, line and heading: what a failing test prints.
    pub fn name(&self) -> String {
        format!("{}:{} {}", self.file, self.line, self.title)
    }
}

impl Block {
    /// The attribute's value.
    pub fn attribute(&self, name: &str) -> Option<&str> {
        self.attributes.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    /// The lines of the block.
    pub fn lines(&self) -> impl Iterator<Item = &str> {
        self.text.lines()
    }

    /// The text as bytes: real line ends removed, escapes resolved.
    ///
    /// # Panics
    /// If an escape is malformed.
    pub fn bytes(&self) -> Vec<u8> {
        unescape(&self.text)
    }
}

/// All cases of all `.md` files in a directory, in the order of their names.
///
/// # Panics
/// If the directory or a file cannot be read, a fence is not closed, or there is no case at all.
pub fn read_dir(dir: impl AsRef<Path>) -> Vec<Case> {
    let dir = dir.as_ref();
    let entries = fs::read_dir(dir).unwrap_or_else(|error| panic!("{}: {error}", dir.display()));
    let mut paths: Vec<_> = entries
        .map(|entry| entry.expect("a listed entry can be read").path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "md"))
        .collect();
    paths.sort();
    let cases: Vec<_> = paths.iter().flat_map(read_file).collect();
    assert!(!cases.is_empty(), "no cases in {}", dir.display());
    cases
}

/// All cases of one file.
///
/// # Panics
/// As [`read_dir`].
pub fn read_file(path: impl AsRef<Path>) -> Vec<Case> {
    let path = path.as_ref();
    let text = fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    parse(&name, &text)
}

/// All cases in a text; `file` is the name they carry.
///
/// # Panics
/// If a fence is not closed, or a block stands above the first heading.
pub fn parse(file: &str, text: &str) -> Vec<Case> {
    let mut cases: Vec<Case> = Vec::new();
    let mut open: Option<Block> = None;
    for (index, line) in text.lines().enumerate() {
        let number = index + 1;
        if let Some(block) = &mut open {
            if line.trim_end() == "```" {
                let case = cases.last_mut().unwrap_or_else(|| panic!("{file}:{number}: a block above the first case"));
                case.blocks.extend(open.take());
            } else {
                block.text.push_str(line);
                block.text.push('\n');
            }
        } else if let Some(info) = line.strip_prefix("```") {
            open = Some(open_block(number, info));
        } else if let Some(title) = line.strip_prefix("## ") {
            cases.push(Case {
                file: file.to_owned(),
                line: number,
                title: title.trim().to_owned(),
                blocks: Vec::new(),
            });
        }
    }
    if let Some(block) = open {
        panic!("{file}:{}: the block is not closed", block.line);
    }
    cases
}

/// Resolves the escapes of a block.
///
/// # Panics
/// If an escape is malformed.
pub fn unescape(text: &str) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some(character) = rest.chars().next() {
        rest = &rest[character.len_utf8()..];
        match character {
            '\n' | '\r' => {}
            '\\' => rest = escape(rest, &mut bytes),
            _ => bytes.extend_from_slice(character.encode_utf8(&mut [0; 4]).as_bytes()),
        }
    }
    bytes
}

/// Resolves one escape after its backslash and returns what follows it.
fn escape<'a>(rest: &'a str, bytes: &mut Vec<u8>) -> &'a str {
    let (kind, after) = rest.split_at_checked(1).expect("a backslash is followed by ASCII");
    bytes.push(match kind {
        "r" => b'\r',
        "n" => b'\n',
        "t" => b'\t',
        "0" => 0,
        "s" => b' ',
        "\\" => b'\\',
        "x" => {
            let (digits, after) = after.split_at_checked(2).expect("\\x has two digits");
            bytes.push(u8::from_str_radix(digits, 16).expect("\\x has two digits"));
            return after;
        }
        "{" => {
            let (inner, after) = after.split_once('}').expect("\\{ is closed by }");
            let (text, count) = inner.rsplit_once('*').expect("\\{text*count}");
            let count = count.parse().expect("\\{text*count} has a number");
            bytes.extend(unescape(text).repeat(count));
            return after;
        }
        _ => panic!("unknown escape \\{kind}"),
    });
    after
}

fn open_block(line: usize, info: &str) -> Block {
    let mut words = info.split_whitespace();
    let tag = words.next().unwrap_or_default().to_owned();
    let attributes = words
        .map(|word| word.split_once('=').unwrap_or((word, "")))
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .collect();
    Block { line, tag, attributes, text: String::new() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_case_is_a_heading_with_its_blocks() {
        let text = "# File\n\n## F1, F2: two\nwhy\n```request to=GET flag\na\\r\\n\nb\n```\n\n## none\n";
        let cases = parse("x.md", text);
        assert_eq!(cases.len(), 2);
        assert_eq!(cases[0].rows().collect::<Vec<_>>(), ["F1", "F2"]);
        assert_eq!(cases[0].name(), "x.md:3 F1, F2: two");
        let block = &cases[0].blocks[0];
        assert_eq!((block.line, block.tag.as_str()), (5, "request"));
        assert_eq!(block.attribute("to"), Some("GET"));
        assert_eq!(block.attribute("flag"), Some(""));
        assert_eq!(block.attribute("other"), None);
        assert_eq!(block.bytes(), b"a\r\nb");
        assert_eq!(cases[1].rows().count(), 0);
        assert!(cases[1].blocks.is_empty());
    }

    #[test]
    fn escapes_stand_for_what_cannot_be_seen() {
        let cases: [(&str, &[u8]); 6] = [
            ("a\nb", b"ab"),
            ("\\r\\n\\t\\0\\s\\\\", b"\r\n\t\0 \\"),
            ("\\x00\\xff", b"\x00\xff"),
            ("<\\{ab*3}>", b"<ababab>"),
            ("\\{\\r\\n*2}", b"\r\n\r\n"),
            ("\u{e9}", "\u{e9}".as_bytes()),
        ];
        for (text, bytes) in cases {
            assert_eq!(unescape(text), bytes, "{text:?}");
        }
    }

    #[test]
    #[should_panic(expected = "x.md:2: the block is not closed")]
    fn an_open_block_is_a_mistake() {
        parse("x.md", "## a\n```request\n");
    }
}
