//! What a request says about the file it wants, gathered in one pass over its fields.

use super::conditional::Conditions;
use crate::accept;
use crate::request::Request;
use engine::Method;

/// The fields that matter to files. Of a field that comes twice the first line counts.
#[derive(Debug, Default)]
pub(crate) struct Asked<'a> {
    pub(crate) is_head: bool,
    pub(crate) conditions: Conditions<'a>,
    pub(crate) range: Option<&'a str>,
    pub(crate) accept_encoding: Option<&'a str>,
    pub(crate) accept: Option<&'a str>,
    fetch_mode: Option<&'a str>,
}

impl<'a> Asked<'a> {
    pub(crate) fn of(request: &'a Request) -> Self {
        let mut asked = Self { is_head: request.method() == Method::Head, ..Self::default() };
        for (name, value) in request.head.fields().iter() {
            if let Some((known, slot)) = asked.slot(name.len(), name.as_bytes().get(3).copied().unwrap_or_default())
                && name.eq_ignore_ascii_case(known)
                && slot.is_none()
            {
                *slot = std::str::from_utf8(value).ok();
            }
        }
        asked
    }

    /// Where a field of this length and fourth byte would go, and its name.
    fn slot(&mut self, len: usize, fourth: u8) -> Option<(&'static str, &mut Option<&'a str>)> {
        Some(match (len, fourth | 0x20) {
            (5, b'g') => ("range", &mut self.range),
            (6, _) => ("accept", &mut self.accept),
            (8, b'm') => ("if-match", &mut self.conditions.matches),
            (8, b'r') => ("if-range", &mut self.conditions.range),
            (13, b'n') => ("if-none-match", &mut self.conditions.none_match),
            (14, b'-') => ("sec-fetch-mode", &mut self.fetch_mode),
            (15, _) => ("accept-encoding", &mut self.accept_encoding),
            (17, b'm') => ("if-modified-since", &mut self.conditions.modified_since),
            (19, b'u') => ("if-unmodified-since", &mut self.conditions.unmodified_since),
            _ => return None,
        })
    }

    /// Whether a person opens an address, rather than a page loading a part of itself.
    pub(crate) fn is_navigation(&self) -> bool {
        self.fetch_mode.is_none_or(|mode| mode == "navigate") && self.accept.is_some_and(accept::prefers_html)
    }
}
