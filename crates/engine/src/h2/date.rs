//! The `Date` field, formatted once a second.

use std::cell::Cell;
use std::time::{SystemTime, UNIX_EPOCH};

/// The line of the second it was last asked in.
#[derive(Default)]
pub(super) struct Dates {
    last: Cell<Option<(u64, [u8; DATE_BYTES])>>,
}

/// Length of an IMF-fixdate (RFC 9110 §5.6.7).
const DATE_BYTES: usize = 29;

impl Dates {
    pub(super) fn now(&self) -> [u8; DATE_BYTES] {
        let now = SystemTime::now();
        let second = now.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
        match self.last.get() {
            Some((of, date)) if of == second => date,
            _ => {
                let mut date = [b' '; DATE_BYTES];
                let text = httpdate::fmt_http_date(now);
                if text.len() == DATE_BYTES {
                    date.copy_from_slice(text.as_bytes());
                }
                self.last.set(Some((second, date)));
                date
            }
        }
    }
}
