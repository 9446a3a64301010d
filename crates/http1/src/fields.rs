//! Outgoing fields: checked when they are added, kept in wire form, written with one copy.

use crate::ReceivedFields;
use crate::ascii::{is_field_value, is_token, trim};
use crate::media_types::MediaType;
use crate::recycled::{Recycle, Recycled, Spares};
use std::fmt;

/// Ordered outgoing fields. A name or value that could break the message never gets in.
#[derive(Clone, Default)]
pub struct Fields {
    text: Recycled<Text>,
    special: u8,
    /// A `Content-Type` that stands before the fields of `text`.
    media_type: Option<MediaType>,
}

/// The fields as they are written, and where each stands.
#[derive(Clone, Default)]
struct Text {
    /// Complete lines: `name: value` CRLF.
    wire: Vec<u8>,
    lines: Vec<Line>,
}

/// Fields longer than this, or more of them, are not kept for the next message; a typical response has 4 to 8.
const SPARE_BYTES_MAX: usize = 4 * 1024;
const SPARE_LINES_MAX: usize = 64;

impl Text {
    /// Writes the value behind the name that begins at `start`. Offsets fit: see [`Fields::BYTES_MAX`].
    #[inline]
    fn end_line(&mut self, start: usize, name_len: usize, value: &[u8]) {
        self.wire.extend_from_slice(value);
        let (name_end, end) = (start + name_len, self.wire.len());
        self.lines.push(Line { start: start as u32, name_end: name_end as u32, end: end as u32 });
        self.wire.extend_from_slice(b"\r\n");
    }
}

impl Recycle for Text {
    #[inline]
    fn with_spares<R>(look: impl FnOnce(&Spares<Self>) -> R) -> Option<R> {
        thread_local!(static SPARES: Spares<Text> = const { Spares::new() });
        SPARES.try_with(look).ok()
    }

    #[inline]
    fn clear(&mut self) -> bool {
        self.wire.clear();
        self.lines.clear();
        self.wire.capacity() <= SPARE_BYTES_MAX && self.lines.capacity() <= SPARE_LINES_MAX
    }
}

/// Where one line stands in `wire`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Line {
    start: u32,
    name_end: u32,
    /// Before the CRLF.
    end: u32,
}

impl Line {
    /// The same line that far behind.
    #[inline]
    fn shifted(self, by: u32) -> Self {
        Self { start: self.start + by, name_end: self.name_end + by, end: self.end + by }
    }
}

/// Fields the encoder has an opinion about; a bit each in [`Fields::has`], so that a message
/// without them is written with one copy.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Special {
    /// `Content-Length`, `Transfer-Encoding`, `Keep-Alive`, `Proxy-Connection`: never copied.
    Framing = 1,
    Connection = 2,
    Upgrade = 4,
    Date = 8,
    Te = 16,
    Host = 32,
}

impl Special {
    const NONE: u8 = 0;

    /// The bits of a field name.
    pub(crate) fn of(name: &[u8]) -> u8 {
        let is = |known: &[u8], special: Self| {
            if name.eq_ignore_ascii_case(known) { special as u8 } else { Self::NONE }
        };
        match name.len() {
            2 => is(b"te", Self::Te),
            4 => is(b"date", Self::Date) | is(b"host", Self::Host),
            7 => is(b"upgrade", Self::Upgrade),
            10 => is(b"connection", Self::Connection) | is(b"keep-alive", Self::Framing),
            14 => is(b"content-length", Self::Framing),
            16 => is(b"proxy-connection", Self::Framing),
            17 => is(b"transfer-encoding", Self::Framing),
            _ => Self::NONE,
        }
    }
}

/// A field that must not be sent: adding it would change the message around it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum InvalidField {
    /// The name is empty or no token.
    #[error("invalid field name")]
    Name,
    /// The value holds CR, LF, NUL or another control byte.
    #[error("control byte in a field value")]
    Value,
    /// More than [`Fields::BYTES_MAX`] bytes of fields.
    #[error("too many field bytes")]
    TooLong,
}

impl Fields {
    /// Most bytes of fields one message carries; no recipient takes nearly as many.
    pub const BYTES_MAX: usize = 1024 * 1024;

    /// No fields, nothing allocated.
    pub const fn new() -> Self {
        Self { text: Recycled::EMPTY, special: Special::NONE, media_type: None }
    }

    /// Adds a field line after the others, keeping any of the same name. The value is written
    /// without surrounding whitespace.
    ///
    /// # Errors
    /// The name is no token, or the value holds a control byte: nothing was added.
    pub fn append(&mut self, name: &str, value: impl AsRef<[u8]>) -> Result<(), InvalidField> {
        let (name, value) = (name.as_bytes(), trim(value.as_ref()));
        self.check(name, value)?;
        self.push(name, value);
        Ok(())
    }

    /// Adds a `Content-Type`: what [`Fields::append`] does for the field that nearly every message has. Where it is the
    /// first one and of the usual media types, nothing is allocated and nothing written.
    ///
    /// # Errors
    /// As [`Fields::append`].
    #[inline]
    pub fn append_content_type(&mut self, value: &str) -> Result<(), InvalidField> {
        match MediaType::of(value) {
            Some(known) if self.is_empty() => self.media_type = Some(known),
            _ => return self.append(MediaType::NAME, value),
        }
        Ok(())
    }

    /// The `Content-Type`, where it is the first field and one of those that are known by name: for those who can do
    /// with it better than with a copy.
    pub fn known_content_type(&self) -> Option<&'static str> {
        self.media_type.map(MediaType::value)
    }

    /// Replaces all fields of this name by one at the end.
    ///
    /// # Errors
    /// As [`Fields::append`]: nothing was changed.
    pub fn set(&mut self, name: &str, value: impl AsRef<[u8]>) -> Result<(), InvalidField> {
        let (name_bytes, value) = (name.as_bytes(), trim(value.as_ref()));
        self.check(name_bytes, value)?;
        self.remove(name);
        self.push(name_bytes, value);
        Ok(())
    }

    /// Removes all fields of this name; whether there were any.
    pub fn remove(&mut self, name: &str) -> bool {
        if !self.may_have(name.as_bytes()) || !self.contains(name) {
            return false;
        }
        let is_other = |other: &[u8]| !other.eq_ignore_ascii_case(name.as_bytes());
        let mut kept = Self::new();
        kept.media_type = self.media_type.filter(|_| is_other(MediaType::NAME.as_bytes()));
        for (line_name, value) in self.own_lines() {
            if is_other(line_name) {
                kept.push(line_name, value);
            }
        }
        *self = kept;
        true
    }

    /// Whether there is a field of this name, in any case.
    pub fn contains(&self, name: &str) -> bool {
        self.get(name).is_some()
    }

    /// The value of the first field of this name, in any case.
    pub fn get(&self, name: &str) -> Option<&[u8]> {
        self.get_all(name).next()
    }

    /// The value of the first field of this name as text; `None` also when it is not UTF-8.
    pub fn get_str(&self, name: &str) -> Option<&str> {
        self.get(name).and_then(|value| std::str::from_utf8(value).ok())
    }

    /// The values of all fields of this name, in order.
    pub fn get_all(&self, name: &str) -> impl Iterator<Item = &[u8]> {
        self.lines_raw()
            .filter(move |(line_name, _)| line_name.eq_ignore_ascii_case(name.as_bytes()))
            .map(|(_, value)| value)
    }

    /// Every field line in order.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = (&str, &[u8])> {
        self.lines_raw().map(|(name, value)| {
            let name = std::str::from_utf8(name);
            (name.expect("only tokens get in"), value)
        })
    }

    /// Adds all of another's fields after these.
    ///
    /// # Errors
    /// Together they are longer than [`Fields::BYTES_MAX`]: nothing was added.
    pub fn extend(&mut self, other: &Self) -> Result<(), InvalidField> {
        if self.bytes() + other.bytes() > Self::BYTES_MAX {
            return Err(InvalidField::TooLong);
        }
        match other.media_type {
            Some(known) if self.is_empty() => self.media_type = Some(known),
            Some(known) => self.push(MediaType::NAME.as_bytes(), known.value().as_bytes()),
            None => {}
        }
        let Some(added) = other.text.get() else { return Ok(()) };
        let text = self.text.get_mut();
        let shift = text.wire.len() as u32;
        text.wire.extend_from_slice(&added.wire);
        text.lines.extend(added.lines.iter().map(|line| line.shifted(shift)));
        self.special |= other.special;
        Ok(())
    }

    /// Adds those received fields for which `keep` holds, as they came: what a proxy forwards. They were judged when
    /// they were received, so they are only copied.
    ///
    /// # Errors
    /// Together they are longer than [`Fields::BYTES_MAX`]: nothing was added.
    pub fn extend_received(
        &mut self,
        received: &ReceivedFields,
        mut keep: impl FnMut(&[u8]) -> bool,
    ) -> Result<(), InvalidField> {
        // Written anew a line has a space after its colon that it may not have had.
        if self.bytes() + received.bytes().len() + received.len() > Self::BYTES_MAX {
            return Err(InvalidField::TooLong);
        }
        for (name, value) in received.iter_bytes() {
            if keep(name) {
                self.push(name, value);
            }
        }
        Ok(())
    }

    /// How many field lines there are.
    pub fn len(&self) -> usize {
        self.lines().len() + usize::from(self.media_type.is_some())
    }

    /// Whether there is none.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.media_type.is_none() && self.lines().is_empty()
    }

    /// Removes all.
    pub fn clear(&mut self) {
        *self = Self::new();
    }

    /// Whether a field of this name may be there: false only where that is certain without looking.
    #[inline]
    fn may_have(&self, name: &[u8]) -> bool {
        let special = Special::of(name);
        special == Special::NONE || self.special & special != 0
    }

    /// Whether any field of this kind is there.
    pub(crate) fn has(&self, special: Special) -> bool {
        self.special & special as u8 != 0
    }

    /// Whether the encoder has no opinion about any of them.
    #[inline]
    pub(crate) fn has_nothing_special(&self) -> bool {
        self.special == Special::NONE
    }

    /// All lines in wire form, in two pieces.
    #[inline]
    pub(crate) fn wire(&self) -> [&[u8]; 2] {
        [self.media_type.map_or(&[], |known| known.line().as_bytes()), self.own_wire()]
    }

    #[inline]
    fn own_wire(&self) -> &[u8] {
        self.text.get().map_or(&[], |text| &text.wire)
    }

    /// How long they are together.
    fn bytes(&self) -> usize {
        self.wire().map(<[u8]>::len).into_iter().sum()
    }

    #[inline]
    fn lines(&self) -> &[Line] {
        self.text.get().map_or(&[], |text| &text.lines)
    }

    /// Lines in wire form without those of any of these kinds.
    pub(crate) fn wire_without(&self, unwanted: &[Special]) -> impl Iterator<Item = &[u8]> {
        let unwanted = unwanted.iter().fold(0, |bits, &special| bits | special as u8);
        let own = self.lines().iter().filter(move |line| Special::of(self.name(line)) & unwanted == 0);
        let own = own.map(|line| &self.own_wire()[line.start as usize..line.end as usize + 2]);
        self.media_type.map(|known| known.line().as_bytes()).into_iter().chain(own)
    }

    fn check(&self, name: &[u8], value: &[u8]) -> Result<(), InvalidField> {
        if !is_token(name) {
            return Err(InvalidField::Name);
        }
        if !is_field_value(value) {
            return Err(InvalidField::Value);
        }
        if self.bytes() + name.len() + value.len() + 4 > Self::BYTES_MAX {
            return Err(InvalidField::TooLong);
        }
        Ok(())
    }

    /// Adds a checked line.
    fn push(&mut self, name: &[u8], value: &[u8]) {
        let text = self.text.get_mut();
        let start = text.wire.len();
        text.wire.reserve(name.len() + value.len() + 4);
        text.wire.extend_from_slice(name);
        text.wire.extend_from_slice(b": ");
        text.end_line(start, name.len(), value);
        self.special |= Special::of(name);
    }

    fn name(&self, line: &Line) -> &[u8] {
        &self.own_wire()[line.start as usize..line.name_end as usize]
    }

    fn lines_raw(&self) -> Lines<'_> {
        Lines { media_type: self.media_type, own: self.own_lines() }
    }

    fn own_lines(&self) -> OwnLines<'_> {
        OwnLines { wire: self.own_wire(), lines: self.lines().iter() }
    }
}

/// Names and values, in order.
struct Lines<'a> {
    media_type: Option<MediaType>,
    own: OwnLines<'a>,
}

/// Those that are in the text.
struct OwnLines<'a> {
    wire: &'a [u8],
    lines: std::slice::Iter<'a, Line>,
}

impl<'a> Iterator for Lines<'a> {
    type Item = (&'a [u8], &'a [u8]);

    fn next(&mut self) -> Option<Self::Item> {
        match self.media_type.take() {
            Some(known) => Some((MediaType::NAME.as_bytes(), known.value().as_bytes())),
            None => self.own.next(),
        }
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        let count = self.own.lines.len() + usize::from(self.media_type.is_some());
        (count, Some(count))
    }
}

impl ExactSizeIterator for Lines<'_> {}

impl<'a> Iterator for OwnLines<'a> {
    type Item = (&'a [u8], &'a [u8]);

    #[inline]
    fn next(&mut self) -> Option<Self::Item> {
        let line = self.lines.next()?;
        let (start, name_end, end) = (line.start as usize, line.name_end as usize, line.end as usize);
        Some((&self.wire[start..name_end], &self.wire[name_end + 2..end]))
    }
}

impl PartialEq for Fields {
    /// The same lines in the same order.
    fn eq(&self, other: &Self) -> bool {
        match (self.media_type, other.media_type) {
            (known, same) if known == same => self.own_wire() == other.own_wire(),
            _ => self.bytes() == other.bytes() && self.lines_raw().eq(other.lines_raw()),
        }
    }
}

impl Eq for Fields {}

impl fmt::Debug for Fields {
    /// Names only: values may be secrets.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.iter().map(|(name, _)| name)).finish()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn nothing_that_could_split_a_message_gets_in() {
        let mut fields = Fields::new();
        for byte in (0..=0x1f_u8).chain([0x7f]).filter(|&byte| byte != b'\t') {
            let value = [b'a', byte, b'b'];
            assert_eq!(fields.append("Location", value), Err(InvalidField::Value), "{byte:#x}");
            assert_eq!(fields.set("Location", value), Err(InvalidField::Value), "{byte:#x}");
        }
        assert_eq!(fields.append("X", "\r\n"), Err(InvalidField::Value));
        for name in ["", "a b", "a:", "a\r\n", "\u{e9}", " a"] {
            assert_eq!(fields.append(name, "v"), Err(InvalidField::Name), "{name:?}");
        }
        assert!(fields.is_empty());
        assert_eq!(fields.wire().concat(), b"");
    }

    #[test]
    fn values_are_written_without_surrounding_whitespace() {
        let mut fields = Fields::new();
        fields.append("A", " \tx y\t ").unwrap();
        fields.append("B", "").unwrap();
        assert_eq!(fields.wire().concat(), b"A: x y\r\nB: \r\n");
        assert_eq!(fields.get("b"), Some(&b""[..]));
    }

    #[test]
    fn a_content_type_is_a_field_like_others() {
        let (mut quick, mut plain) = (Fields::new(), Fields::new());
        for value in ["text/plain", " a/b; c=d\t", "", "a\rb", "\0"] {
            assert_eq!(quick.append_content_type(value), plain.append("content-type", value), "{value:?}");
        }
        assert_eq!(quick, plain);
        assert_eq!(quick.get("Content-Type"), Some(&b"text/plain"[..]));
    }

    /// Whatever is done to fields, they are the same as if the first had been text like the others.
    #[test]
    fn a_usual_content_type_is_a_field_like_others() {
        type Change = fn(&mut Fields);
        let changes: [(&str, Change); 9] = [
            ("nothing", |_| {}),
            ("append", |fields| fields.append("x", "y").unwrap()),
            ("append again", |fields| fields.append_content_type("application/json").unwrap()),
            ("set", |fields| fields.set("Content-Type", "a/b").unwrap()),
            ("set another", |fields| fields.set("x", "y").unwrap()),
            ("remove", |fields| _ = fields.remove("CONTENT-TYPE")),
            ("remove another", |fields| _ = fields.remove("x")),
            ("extend itself", |fields| fields.extend(&fields.clone()).unwrap()),
            ("clear", Fields::clear),
        ];
        for (first_name, first) in changes {
            for (second_name, second) in changes {
                let mut fields = [Fields::new(), Fields::new()];
                fields[0].append_content_type("text/plain").unwrap();
                fields[1].append("content-type", "text/plain").unwrap();
                assert!(fields[0].media_type.is_some() && fields[1].media_type.is_none());
                for fields in &mut fields {
                    first(fields);
                    second(fields);
                }
                let [known, text] = fields;
                let case = format!("{first_name}, {second_name}");
                assert_eq!(known.wire().concat(), text.wire().concat(), "{case}");
                assert_eq!(known.wire_without(&[]).collect::<Vec<_>>().concat(), text.wire().concat(), "{case}");
                assert!(known.iter().eq(text.iter()), "{case}");
                assert_eq!((&known, &text), (&text, &known), "{case}");
                assert_eq!((known.len(), known.is_empty()), (text.len(), text.is_empty()), "{case}");
                assert_eq!((known.iter().len(), known.bytes()), (text.iter().len(), text.bytes()), "{case}");
                assert_eq!(known.get("Content-Type"), text.get("Content-Type"), "{case}");
                let mut both = Fields::new();
                both.extend(&known).unwrap();
                assert_eq!(both, text, "{case}");
                assert_ne!(
                    known,
                    {
                        both.append("z", "").unwrap();
                        both
                    },
                    "{case}"
                );
            }
        }
    }

    #[test]
    fn order_and_duplicates_are_kept() {
        let mut fields = Fields::new();
        fields.append("Set-Cookie", "a=1").unwrap();
        fields.append("Vary", "x").unwrap();
        fields.append("set-cookie", "b=2").unwrap();
        let cookies: Vec<_> = fields.get_all("SET-COOKIE").collect();
        assert_eq!(cookies, [b"a=1", b"b=2"]);
        fields.set("Set-Cookie", "c=3").unwrap();
        let lines: Vec<_> = fields.iter().collect();
        assert_eq!(lines, [("Vary", &b"x"[..]), ("Set-Cookie", b"c=3")]);
        assert!(fields.remove("vary") && !fields.remove("vary"));
        assert_eq!(fields.len(), 1);
    }

    #[test]
    fn special_fields_are_noticed_and_forgotten() {
        let mut fields = Fields::new();
        fields.append("content-length", "5").unwrap();
        assert!(fields.has(Special::Framing) && !fields.has(Special::Connection));
        fields.remove("Content-Length");
        assert!(!fields.has(Special::Framing));
    }

    #[test]
    fn a_message_cannot_grow_without_bound() {
        let mut fields = Fields::new();
        let value = vec![b'x'; Fields::BYTES_MAX];
        assert_eq!(fields.append("a", &value), Err(InvalidField::TooLong));
    }
}
