//! Fields as they came: one buffer and offsets into it, order and duplicates kept.

use bytes::Bytes;
use smallvec::SmallVec;

/// The fields of a received head or trailer section. Cloning shares the bytes.
#[derive(Debug, Clone, Default)]
pub struct ReceivedFields {
    bytes: Bytes,
    spans: Spans,
}

/// The fields after the last chunk of a body. They are never merged into the head's, and those that
/// would change framing, routing or authentication never appear here (RFC 9110 §6.5.1).
pub type Trailers = ReceivedFields;

/// Fields kept without allocating: what programs send. More would make every move of a head dearer than the one
/// allocation that a browser's 10 to 16 fields cost.
const SPANS_INLINE: usize = 4;

/// Room made when the inline one is used up.
const SPANS_SPILLED: usize = 16;

/// Where the fields of a section stand.
#[derive(Debug, Clone, Default)]
pub(crate) struct Spans(SmallVec<[FieldSpan; SPANS_INLINE]>);

impl Spans {
    #[inline]
    pub(crate) fn push(&mut self, span: FieldSpan) {
        if self.0.len() == SPANS_INLINE && !self.0.spilled() {
            self.spill();
        }
        self.0.push(span);
    }

    #[cold]
    fn spill(&mut self) {
        let mut spilled = Vec::with_capacity(SPANS_SPILLED);
        spilled.extend_from_slice(&self.0);
        self.0 = SmallVec::from_vec(spilled);
    }

    pub(crate) fn retain(&mut self, mut keep: impl FnMut(FieldSpan) -> bool) {
        self.0.retain(|span| keep(*span));
    }
}

impl std::ops::Deref for Spans {
    type Target = [FieldSpan];

    fn deref(&self) -> &[FieldSpan] {
        &self.0
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
    pub(crate) fn new(bytes: Bytes, spans: Spans) -> Self {
        Self { bytes, spans }
    }

    pub(crate) fn spans_mut(&mut self) -> &mut Spans {
        &mut self.spans
    }

    pub(crate) fn set_bytes(&mut self, bytes: Bytes) {
        self.bytes = bytes;
    }

    /// The whole section these fields came in, start line included.
    pub(crate) fn bytes(&self) -> &Bytes {
        &self.bytes
    }

    /// How many field lines there are.
    pub fn len(&self) -> usize {
        self.spans.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.spans.is_empty()
    }

    /// Every field line in order: the name as on the wire, the value without surrounding whitespace.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = (&str, &[u8])> {
        self.spans.iter().map(|span| {
            let name = std::str::from_utf8(span.name(&self.bytes));
            (name.expect("names are tokens"), span.value(&self.bytes))
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
        self.spans
            .iter()
            .filter(move |span| span.name(&self.bytes).eq_ignore_ascii_case(name.as_bytes()))
            .map(|span| span.value(&self.bytes))
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
