//! The `Date` field, formatted once a second.

use http::HeaderValue;
use std::cell::RefCell;
use std::time::{SystemTime, UNIX_EPOCH};

/// The value of the second it was last asked in.
#[derive(Default)]
pub(super) struct Dates {
    last: RefCell<Option<(u64, HeaderValue)>>,
}

impl Dates {
    /// The date, shared by all answers of the same second.
    pub(super) fn now(&self) -> HeaderValue {
        let now = SystemTime::now();
        let second = now.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
        if let Some((of, date)) = &*self.last.borrow()
            && *of == second
        {
            return date.clone();
        }
        let text = httpdate::fmt_http_date(now);
        let date = HeaderValue::try_from(text).expect("a date is visible ASCII and spaces");
        *self.last.borrow_mut() = Some((second, date.clone()));
        date
    }
}
