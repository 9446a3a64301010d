//! Fields as they came: one buffer and offsets into it, order and duplicates kept.

use crate::head::Judged;
use crate::recycled::{Recycle, Recycled, Spares};

/// The fields of a received head or trailer section.
#[derive(Debug, Clone, Default)]
pub struct ReceivedFields {
    section: Recycled<Section>,
}

/// The fields after the last chunk of a body. They are never merged into the head's, and those that
/// would change framing, routing or authentication never appear here (RFC 9110 §6.5.1).
pub type Trailers = ReceivedFields;

/// The bytes of a section, and where its fields stand in them.
#[derive(Debug, Clone, Default)]
struct Section {
    bytes: Vec<u8>,
    spans: Vec<FieldSpan>,
    /// What the head of a request says beside its fields: here, so that a head is one pointer to whoever hands it on.
    /// Means nothing where there is none.
    request: Judged,
}

/// A section longer than this, or with more fields, is not kept for the next message: browsers send about 1 KiB.
const SPARE_BYTES_MAX: usize = 4 * 1024;
const SPARE_SPANS_MAX: usize = 128;

impl Recycle for Section {
    #[inline]
    fn with_spares<R>(look: impl FnOnce(&Spares<Self>) -> R) -> Option<R> {
        thread_local!(static SPARES: Spares<Section> = const { Spares::new() });
        SPARES.try_with(look).ok()
    }

    #[inline]
    fn clear(&mut self) -> bool {
        self.bytes.clear();
        self.spans.clear();
        self.bytes.capacity() <= SPARE_BYTES_MAX && self.spans.capacity() <= SPARE_SPANS_MAX
    }
}

/// Where one field stands in its buffer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct FieldSpan {
    name_start: u16,
    name_end: u16,
    value_start: u16,
    value_end: u16,
}

impl FieldSpan {
    /// Offsets fit: no section is longer than [`crate::Limits::HEAD_BYTES_CEILING`].
    pub(crate) fn new(name_start: usize, name_end: usize, value_start: usize, value_end: usize) -> Self {
        Self {
            name_start: name_start as u16,
            name_end: name_end as u16,
            value_start: value_start as u16,
            value_end: value_end as u16,
        }
    }

    pub(crate) fn name(self, bytes: &[u8]) -> &[u8] {
        &bytes[usize::from(self.name_start)..usize::from(self.name_end)]
    }

    pub(crate) fn value(self, bytes: &[u8]) -> &[u8] {
        &bytes[usize::from(self.value_start)..usize::from(self.value_end)]
    }

    pub(crate) fn value_range(self) -> std::ops::Range<u16> {
        self.value_start..self.value_end
    }
}

impl ReceivedFields {
    /// Where to put the fields as they are found.
    #[inline]
    pub(crate) fn spans_mut(&mut self) -> &mut Vec<FieldSpan> {
        &mut self.section.get_mut().spans
    }

    /// Keeps a copy of the whole section, to which the fields' places refer: short as it is, it costs less than to
    /// share a buffer, and leaves the buffer to its owner.
    #[inline]
    pub(crate) fn set_bytes(&mut self, bytes: &[u8]) {
        let own = &mut self.section.get_mut().bytes;
        own.clear();
        own.extend_from_slice(bytes);
    }

    /// As [`ReceivedFields::set_bytes`], and what was made of them: then these are the fields of a request.
    #[inline]
    pub(crate) fn set_request(&mut self, bytes: &[u8], request: Judged) {
        let section = self.section.get_mut();
        section.bytes.clear();
        section.bytes.extend_from_slice(bytes);
        section.request = request;
    }

    /// What a request says beside these fields, which are one's.
    #[inline]
    pub(crate) fn request(&self) -> &Judged {
        &self.section.get().expect("a request's fields were put into a box with what else it says").request
    }

    /// To change what a request says beside these fields.
    pub(crate) fn request_mut(&mut self) -> &mut Judged {
        &mut self.section.get_mut().request
    }

    /// The whole section these fields came in, start line included.
    #[inline]
    pub(crate) fn bytes(&self) -> &[u8] {
        self.section.get().map_or(&[], |section| &section.bytes)
    }

    #[inline]
    fn spans(&self) -> &[FieldSpan] {
        self.section.get().map_or(&[], |section| &section.spans)
    }

    /// How many field lines there are.
    pub fn len(&self) -> usize {
        self.spans().len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.spans().is_empty()
    }

    /// Every field line in order: the name as on the wire, the value without surrounding whitespace.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = (&str, &[u8])> {
        let bytes = self.bytes();
        self.spans().iter().map(move |span| {
            let name = std::str::from_utf8(span.name(bytes));
            (name.expect("names are tokens"), span.value(bytes))
        })
    }

    /// As [`ReceivedFields::iter`], names as bytes: for those who look at every field of every message.
    pub fn iter_bytes(&self) -> impl ExactSizeIterator<Item = (&[u8], &[u8])> {
        let bytes = self.bytes();
        self.spans().iter().map(move |span| (span.name(bytes), span.value(bytes)))
    }

    /// As [`ReceivedFields::iter_bytes`], and the whole line where it came as we would write it: with one space behind the
    /// colon and none behind the value.
    pub(crate) fn iter_lines(&self) -> impl Iterator<Item = (&[u8], &[u8], Option<&[u8]>)> {
        let bytes = self.bytes();
        self.spans().iter().map(move |span| {
            let line = bytes.get(usize::from(span.name_start)..usize::from(span.value_end) + 2);
            let is_usual = span.value_start == span.name_end + 2;
            let line = line.filter(|line| {
                is_usual && line[usize::from(span.name_end - span.name_start) + 1] == b' ' && line.ends_with(b"\r\n")
            });
            (span.name(bytes), span.value(bytes), line)
        })
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
        let bytes = self.bytes();
        self.spans()
            .iter()
            .filter(move |span| span.name(bytes).eq_ignore_ascii_case(name.as_bytes()))
            .map(move |span| span.value(bytes))
    }

    /// Whether there is a field of this name.
    pub fn contains(&self, name: &str) -> bool {
        self.get(name).is_some()
    }

    /// The members of all comma-separated lists of this name, trimmed. Compare ignoring case.
    pub fn tokens(&self, name: &str) -> impl Iterator<Item = &[u8]> {
        self.get_all(name).flat_map(crate::tokens)
    }
}
