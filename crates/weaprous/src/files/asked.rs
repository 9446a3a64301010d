//! What a request says about the file it wants, gathered in one pass over its fields.

use super::conditional::{Conditions, TagLines};
use crate::accept;
use crate::request::Request;
use engine::Method;

/// The fields that matter to files. Of a field that is no list and comes twice, the first line counts.
#[derive(Debug, Default)]
pub(crate) struct Asked<'a> {
    pub(crate) is_head: bool,
    pub(crate) conditions: Conditions<'a>,
    pub(crate) range: Option<&'a str>,
    pub(crate) accept_encoding: Option<&'a str>,
    pub(crate) accept: Option<&'a str>,
    fetch_mode: Option<&'a str>,
}

/// Where a field goes.
enum Slot<'s, 'a> {
    First(&'s mut Option<&'a str>),
    All(&'s mut TagLines<'a>),
}

impl<'a> Asked<'a> {
    pub(crate) fn of(request: &'a Request) -> Self {
        let mut asked = Self { is_head: request.method() == Method::Head, ..Self::default() };
        for (name, value) in request.head.fields().iter() {
            let Some((known, slot)) = asked.slot(name.len(), name.as_bytes().get(3).copied().unwrap_or_default())
            else {
                continue;
            };
            if !name.eq_ignore_ascii_case(known) {
                continue;
            }
            match slot {
                Slot::First(slot) if slot.is_none() => *slot = std::str::from_utf8(value).ok(),
                Slot::First(_) => {}
                Slot::All(lines) => lines.push(value),
            }
        }
        asked
    }

    /// Where a field of this length and fourth byte would go, and its name.
    fn slot(&mut self, len: usize, fourth: u8) -> Option<(&'static str, Slot<'_, 'a>)> {
        let conditions = &mut self.conditions;
        Some(match (len, fourth | 0x20) {
            (5, b'g') => ("range", Slot::First(&mut self.range)),
            (6, _) => ("accept", Slot::First(&mut self.accept)),
            (8, b'm') => ("if-match", Slot::All(&mut conditions.matches)),
            (8, b'r') => ("if-range", Slot::First(&mut conditions.range)),
            (13, b'n') => ("if-none-match", Slot::All(&mut conditions.none_match)),
            (14, b'-') => ("sec-fetch-mode", Slot::First(&mut self.fetch_mode)),
            (15, _) => ("accept-encoding", Slot::First(&mut self.accept_encoding)),
            (17, b'm') => ("if-modified-since", Slot::First(&mut conditions.modified_since)),
            (19, b'u') => ("if-unmodified-since", Slot::First(&mut conditions.unmodified_since)),
            _ => return None,
        })
    }

    /// Whether a person opens an address, rather than a page loading a part of itself.
    pub(crate) fn is_navigation(&self) -> bool {
        self.fetch_mode.is_none_or(|mode| mode == "navigate") && self.accept.is_some_and(accept::prefers_html)
    }
}
