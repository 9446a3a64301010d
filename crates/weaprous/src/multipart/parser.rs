//! Cuts `multipart/form-data` into parts, however the bytes arrive (RFC 7578, RFC 2046 §5.1.1). No IO.
//!
//! ```text
//!   Preamble ──delimiter──▶ AfterDelimiter ──CRLF──▶ Head ──empty line──▶ Data ──delimiter──▶ AfterDelimiter
//!                                 └──"--"──▶ Epilogue
//! ```

use super::{MultipartError, MultipartLimits, PartHead};
use crate::cookie::is_token_byte;
use bytes::{Buf, Bytes, BytesMut};
use memchr::memmem;

/// Most bytes before the first delimiter: nobody sends any, mail programs did.
const PREAMBLE_BYTES_MAX: usize = 1024;
/// Longest head of a part in bytes. Its two or three fields take 200.
const HEAD_BYTES_MAX: usize = 4 * 1024;
/// Longest boundary (RFC 2046 §5.1.1).
const BOUNDARY_BYTES_MAX: usize = 70;
/// Most blanks between a delimiter and its line end ("transport padding").
const PADDING_BYTES_MAX: usize = 64;

/// What comes next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Piece {
    /// A part begins.
    Head(PartHead),
    /// Some of its content.
    Data(Bytes),
    /// The part has ended.
    PartEnd,
    /// There are no more parts.
    End,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Preamble,
    AfterDelimiter,
    Head,
    Data,
    Epilogue,
}

/// Parser of one message.
#[derive(Debug)]
pub(super) struct Parser {
    state: State,
    input: BytesMut,
    /// CRLF, two dashes, the boundary.
    delimiter: memmem::Finder<'static>,
    parts: usize,
    limits: MultipartLimits,
}

impl Parser {
    /// A parser for the boundary of a `Content-Type`.
    pub(super) fn new(boundary: &str, limits: MultipartLimits) -> Self {
        let delimiter = memmem::Finder::new(&format!("\r\n--{boundary}")).into_owned();
        // The first delimiter may stand at the very beginning, without a line end of its own.
        let input = BytesMut::from(&b"\r\n"[..]);
        Self { state: State::Preamble, input, delimiter, parts: 0, limits }
    }

    pub(super) fn set_limits(&mut self, limits: MultipartLimits) {
        self.limits = limits;
    }

    pub(super) fn limits(&self) -> &MultipartLimits {
        &self.limits
    }

    /// Takes in received bytes.
    pub(super) fn handle_bytes(&mut self, bytes: &[u8]) {
        if self.state != State::Epilogue {
            self.input.extend_from_slice(bytes);
        }
    }

    /// The next piece; `None` when more bytes are needed.
    pub(super) fn poll(&mut self) -> Result<Option<Piece>, MultipartError> {
        loop {
            let progress = match self.state {
                State::Preamble => self.preamble()?,
                State::AfterDelimiter => self.after_delimiter()?,
                State::Head => return self.head(),
                State::Data => return Ok(self.data()),
                State::Epilogue => return Ok(Some(Piece::End)),
            };
            if !progress {
                return Ok(None);
            }
        }
    }

    fn preamble(&mut self) -> Result<bool, MultipartError> {
        if let Some(start) = self.delimiter.find(&self.input) {
            self.input.advance(start + self.delimiter.needle().len());
            self.state = State::AfterDelimiter;
            return Ok(true);
        }
        if self.input.len() > PREAMBLE_BYTES_MAX {
            return Err(MultipartError::Malformed("does not begin with its boundary"));
        }
        Ok(false)
    }

    fn after_delimiter(&mut self) -> Result<bool, MultipartError> {
        let blanks = self.input.iter().take_while(|byte| matches!(byte, b' ' | b'\t')).count();
        match &self.input[blanks..] {
            [b'-', b'-', ..] if blanks == 0 => {
                self.state = State::Epilogue;
                self.input.clear();
                Ok(true)
            }
            [b'\r', b'\n', ..] => {
                self.input.advance(blanks + 2);
                self.state = State::Head;
                self.count_part()?;
                Ok(true)
            }
            [] | [b'\r'] if blanks <= PADDING_BYTES_MAX => Ok(false),
            [b'-'] if blanks == 0 => Ok(false),
            _ => Err(MultipartError::Malformed("has something else behind a boundary")),
        }
    }

    fn count_part(&mut self) -> Result<(), MultipartError> {
        self.parts += 1;
        if self.parts > self.limits.parts_max {
            return Err(MultipartError::TooManyParts { max: self.limits.parts_max });
        }
        Ok(())
    }

    fn head(&mut self) -> Result<Option<Piece>, MultipartError> {
        if self.input.starts_with(b"\r\n") {
            return Err(MultipartError::Malformed("has a part without Content-Disposition"));
        }
        let Some(end) = memmem::find(&self.input, b"\r\n\r\n") else {
            return if self.input.len() > HEAD_BYTES_MAX { Err(MultipartError::HeadTooLong) } else { Ok(None) };
        };
        if end > HEAD_BYTES_MAX {
            return Err(MultipartError::HeadTooLong);
        }
        let head = self.input.split_to(end);
        self.input.advance(b"\r\n\r\n".len());
        self.state = State::Data;
        Ok(Some(Piece::Head(parse_head(&head, self.limits.name_bytes_max)?)))
    }

    fn data(&mut self) -> Option<Piece> {
        if let Some(end) = self.delimiter.find(&self.input) {
            if end > 0 {
                return Some(Piece::Data(self.input.split_to(end).freeze()));
            }
            self.input.advance(self.delimiter.needle().len());
            self.state = State::AfterDelimiter;
            return Some(Piece::PartEnd);
        }
        let safe = self.input.len() - self.partial_delimiter();
        (safe > 0).then(|| Piece::Data(self.input.split_to(safe).freeze()))
    }

    /// How many of the last bytes may be the beginning of a delimiter.
    fn partial_delimiter(&self) -> usize {
        let needle = self.delimiter.needle();
        let longest = self.input.len().min(needle.len() - 1);
        (1..=longest).rev().find(|&length| self.input.ends_with(&needle[..length])).unwrap_or(0)
    }
}

/// The boundary of a `Content-Type`, if it is `multipart/form-data` with a usable one.
pub(super) fn boundary_of(content_type: &str) -> Result<String, MultipartError> {
    let (media_type, parameters) = content_type.split_once(';').unwrap_or((content_type, ""));
    if !media_type.trim().eq_ignore_ascii_case("multipart/form-data") {
        return Err(MultipartError::NotMultipart);
    }
    let found = Parameters(parameters).find(|parameter| !matches!(parameter, Some((name, _)) if name != "boundary"));
    match found {
        Some(Some((_, boundary))) if is_boundary(&boundary) => Ok(boundary),
        _ => Err(MultipartError::Boundary),
    }
}

/// `boundary` of RFC 2046 §5.1.1.
fn is_boundary(text: &str) -> bool {
    let is_char = |byte: u8| byte.is_ascii_alphanumeric() || b"'()+_,-./:=? ".contains(&byte);
    (1..=BOUNDARY_BYTES_MAX).contains(&text.len()) && text.bytes().all(is_char) && !text.ends_with(' ')
}

fn parse_head(head: &[u8], name_bytes_max: usize) -> Result<PartHead, MultipartError> {
    let head =
        std::str::from_utf8(head).map_err(|_| MultipartError::Malformed("has a part's head that is not UTF-8"))?;
    let (mut disposition, mut content_type) = (None, None);
    for line in head.split("\r\n") {
        let (name, value) = line.split_once(':').ok_or(MultipartError::Malformed("has a field without a colon"))?;
        if name.is_empty() || !name.bytes().all(is_token_byte) || value.contains(['\r', '\n', '\0']) {
            return Err(MultipartError::Malformed("has a malformed field in a part's head"));
        }
        let value = value.trim_matches([' ', '\t']);
        match name.to_ascii_lowercase().as_str() {
            "content-disposition" if disposition.is_none() => disposition = Some(parse_disposition(value)?),
            "content-type" if content_type.is_none() => content_type = Some(value.to_owned()),
            "content-disposition" | "content-type" => {
                return Err(MultipartError::Malformed("says something twice in a part's head"));
            }
            "content-transfer-encoding" if !is_identity(value) => return Err(MultipartError::Encoded),
            _ => {}
        }
    }
    let (name, file_name) = disposition.ok_or(MultipartError::Malformed("has a part without Content-Disposition"))?;
    if name.len() > name_bytes_max || file_name.as_ref().is_some_and(|name| name.len() > name_bytes_max) {
        return Err(MultipartError::NameTooLong { max: name_bytes_max });
    }
    Ok(PartHead { name, file_name, content_type })
}

/// Transfer encodings that change nothing; RFC 7578 §4.7 wants none at all.
fn is_identity(encoding: &str) -> bool {
    ["7bit", "8bit", "binary"].iter().any(|known| known.eq_ignore_ascii_case(encoding))
}

/// `form-data; name="a"; filename="b"`: the name, and the file name if there is one.
fn parse_disposition(value: &str) -> Result<(String, Option<String>), MultipartError> {
    const MALFORMED: MultipartError = MultipartError::Malformed("has a Content-Disposition that cannot be read");
    let (kind, parameters) = value.split_once(';').unwrap_or((value, ""));
    if !kind.trim().eq_ignore_ascii_case("form-data") {
        return Err(MALFORMED);
    }
    let (mut name, mut file_name) = (None, None);
    for parameter in Parameters(parameters) {
        let (key, value) = parameter.ok_or(MALFORMED)?;
        let slot = match key.as_str() {
            "name" => &mut name,
            "filename" => &mut file_name,
            _ => continue, // among them `filename*`, which RFC 7578 §4.2 forbids
        };
        if slot.replace(value).is_some() {
            return Err(MALFORMED);
        }
    }
    Ok((name.ok_or(MALFORMED)?, file_name))
}

/// The parameters of a field value: names in lower case, values without quotes. `None` is one that cannot be read,
/// and the last.
struct Parameters<'a>(&'a str);

impl Iterator for Parameters<'_> {
    type Item = Option<(String, String)>;

    fn next(&mut self) -> Option<Self::Item> {
        let rest = self.0.trim_start_matches([' ', '\t', ';']);
        if rest.is_empty() {
            return None;
        }
        self.0 = "";
        Some(self.read(rest))
    }
}

impl<'a> Parameters<'a> {
    fn read(&mut self, rest: &'a str) -> Option<(String, String)> {
        let (name, rest) = rest.split_once('=')?;
        let name = name.trim().to_ascii_lowercase();
        if name.is_empty() || !name.bytes().all(is_token_byte) {
            return None;
        }
        let rest = rest.trim_start_matches([' ', '\t']);
        if let Some(quoted) = rest.strip_prefix('"') {
            let (value, rest) = unquote(quoted)?;
            let rest = rest.trim_start_matches([' ', '\t']);
            self.0 = if rest.is_empty() { "" } else { rest.strip_prefix(';')? };
            return Some((name, value));
        }
        let (value, rest) = rest.split_once(';').unwrap_or((rest, ""));
        self.0 = rest;
        let value = value.trim_end();
        (!value.is_empty() && !value.contains('"')).then(|| (name, value.to_owned()))
    }
}

/// The text up to the closing quote. Only quotes and backslashes are escaped: other backslashes are meant as such
/// (old browsers sent whole Windows paths).
fn unquote(text: &str) -> Option<(String, &str)> {
    let mut value = String::new();
    let mut characters = text.char_indices().peekable();
    while let Some((place, character)) = characters.next() {
        match character {
            '"' => return Some((value, &text[place + 1..])),
            '\\' => match characters.next_if(|(_, next)| matches!(next, '"' | '\\')) {
                Some((_, escaped)) => value.push(escaped),
                None => value.push('\\'),
            },
            other => value.push(other),
        }
    }
    None
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    /// Name, file name, content.
    type Expected<'a> = (&'a str, Option<&'a str>, &'a str);

    /// The parts and their content, from bytes in pieces of `size`.
    fn read(bytes: &[u8], size: usize) -> Result<Vec<(PartHead, String)>, MultipartError> {
        let mut parser = Parser::new("XX", MultipartLimits::default());
        let mut parts: Vec<(PartHead, String)> = Vec::new();
        for chunk in bytes.chunks(size) {
            parser.handle_bytes(chunk);
            while let Some(piece) = parser.poll()? {
                match piece {
                    Piece::Head(head) => parts.push((head, String::new())),
                    Piece::Data(data) => {
                        assert!(!data.is_empty());
                        parts.last_mut().unwrap().1 += std::str::from_utf8(&data).unwrap();
                    }
                    Piece::PartEnd => {}
                    Piece::End => return Ok(parts),
                }
            }
        }
        Err(MultipartError::Malformed("test: no end"))
    }

    /// Whole, and split at every size.
    fn check(bytes: &str, expect: Result<&[Expected<'_>], &str>) {
        for size in (1..=bytes.len()).rev() {
            let found = read(bytes.as_bytes(), size).map_err(|error| error.to_string());
            let found = found.as_ref().map(|parts| {
                let part = |(head, content): &'_ (PartHead, String)| (head.clone(), content.clone());
                parts.iter().map(part).collect::<Vec<_>>()
            });
            match (found, expect) {
                (Ok(found), Ok(expect)) => {
                    let found: Vec<_> = found
                        .iter()
                        .map(|(head, content)| (head.name.as_str(), head.file_name.as_deref(), content.as_str()))
                        .collect();
                    assert_eq!(found, expect, "pieces of {size}");
                }
                (Err(error), Err(expect)) => assert!(error.contains(expect), "{error}, not {expect}"),
                (found, expect) => panic!("{found:?}, not {expect:?}, of {bytes:?} in pieces of {size}"),
            }
        }
    }

    const FIELD: &str = "Content-Disposition: form-data; name=";

    #[test]
    fn parts_are_found_wherever_the_bytes_are_split() {
        check(&format!("--XX\r\n{FIELD}\"a\"\r\n\r\none\r\n--XX--"), Ok(&[("a", None, "one")]));
        let two = format!(
            "--XX\r\n{FIELD}\"a\"\r\n\r\n\r\n--XX \t\r\nContent-Type: text/x\r\n{FIELD}b; filename=\"c d.txt\"\r\n\r\n\
             \r\n--X\r\n--Y\r\n\r\r\n--XX--\r\nepilogue"
        );
        check(&two, Ok(&[("a", None, ""), ("b", Some("c d.txt"), "\r\n--X\r\n--Y\r\n\r")]));
        check(&format!("preamble\r\n--XX\r\n{FIELD}a\r\n\r\nx\r\n--XX--\r\n"), Ok(&[("a", None, "x")]));
        check("--XX--\r\n", Ok(&[]));
    }

    #[test]
    fn broken_messages_are_refused() {
        let whole = |head: &str| format!("--XX\r\n{head}\r\n\r\nx\r\n--XX--");
        check(&whole("Content-Type: a/b"), Err("without Content-Disposition"));
        check(&whole("Content-Disposition: attachment; name=a"), Err("cannot be read"));
        check(&whole("Content-Disposition: form-data"), Err("cannot be read"));
        check(&whole(&format!("{FIELD}a; name=b")), Err("cannot be read"));
        check(&whole(&format!("{FIELD}\"a")), Err("cannot be read"));
        check(&whole(&format!("{FIELD}a\r\n{FIELD}b")), Err("twice"));
        check(&whole(&format!("{FIELD}a\r\nno colon")), Err("colon"));
        check(&whole(&format!("{FIELD}a\r\nx y: z")), Err("malformed field"));
        check(&whole(&format!("{FIELD}a\r\nContent-Transfer-Encoding: base64")), Err("transfer encoding"));
        check(&whole(&format!("{FIELD}{}", "n".repeat(257))), Err("name"));
        check(&format!("--XX\r\n{FIELD}a\r\n\r\nx\r\n--XXY\r\n"), Err("behind a boundary"));
        check("--XX\r\n\r\nno head\r\n--XX--", Err("without Content-Disposition"));
        assert!(matches!(read(&[b'x'; 2000], 2000), Err(MultipartError::Malformed(_))));
        let long = format!("--XX\r\n{FIELD}a\r\nx: {}", "y".repeat(5000));
        assert!(matches!(read(long.as_bytes(), 9), Err(MultipartError::HeadTooLong)));
        let many = format!("--XX\r\n{FIELD}a\r\n\r\n\r\n").repeat(300) + "--XX--";
        assert!(matches!(read(many.as_bytes(), 999), Err(MultipartError::TooManyParts { .. })));
    }

    #[test]
    fn names_are_read_as_senders_write_them() {
        let check = |value: &str, expect: (&str, Option<&str>)| {
            let (name, file) = parse_disposition(value).unwrap();
            assert_eq!((name.as_str(), file.as_deref()), expect, "{value}");
        };
        check("form-data; name=\"a \\\"b\\\" ;c\"", ("a \"b\" ;c", None));
        check("Form-Data;name=a;filename=\"C:\\dir\\f.txt\"", ("a", Some("C:\\dir\\f.txt")));
        check("form-data; name=\"é\"; filename=\"../../etc\"", ("é", Some("../../etc")));
        check("form-data; name=\"\"; filename*=UTF-8''x; filename=\"\"", ("", Some("")));
    }

    #[test]
    fn boundaries_are_taken_from_the_media_type() {
        let check = |value: &str, expect: Option<&str>| {
            assert_eq!(boundary_of(value).ok().as_deref(), expect, "{value}");
        };
        check("multipart/form-data; boundary=abc", Some("abc"));
        check("Multipart/Form-Data; charset=utf-8; Boundary=\"a b:c\"", Some("a b:c"));
        check("multipart/form-data", None);
        check("multipart/form-data; boundary=", None);
        check("multipart/form-data; boundary=\"\"", None);
        check("multipart/form-data; boundary=\"a \"", None);
        check(&format!("multipart/form-data; boundary={}", "a".repeat(71)), None);
        check("multipart/mixed; boundary=abc", None);
        check("text/plain", None);
    }
}
