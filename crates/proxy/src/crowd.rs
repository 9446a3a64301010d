//! How many requests each client has at a time: so that none of them, with many connections of many streams each, takes
//! every connection to an upstream and all memory.
//!
//! Counted on each worker by itself, since workers share nothing on a request's way: a client whose connections are
//! spread over all of them may have so many on each. A client without a request has no entry.

use std::cell::RefCell;
use std::collections::HashMap;
use std::net::IpAddr;
use std::rc::Rc;

use engine::StatusCode;

use crate::pages::Page;
use crate::rate;

/// What a client is known by.
type Key = [u8; 8];

/// Entries for which memory is kept when there is no client any more.
const CLIENTS_KEPT: usize = 1024;

/// The clients of a worker that have requests; cloning shares them.
#[derive(Debug, Clone, Default)]
pub(crate) struct Crowd(Rc<RefCell<HashMap<Key, u32>>>);

/// One request of a client, until it is dropped.
#[derive(Debug)]
pub(crate) struct Seat {
    crowd: Crowd,
    key: Key,
}

impl Crowd {
    /// One more request of this client, unless it has `max` already.
    pub(crate) fn enter(&self, client: IpAddr, max: u32) -> Option<Seat> {
        let key = rate::client_key(client);
        let mut counts = self.0.borrow_mut();
        match counts.get_mut(&key) {
            Some(count) if *count >= max => return None,
            Some(count) => *count += 1,
            None => drop(counts.insert(key, 1)),
        }
        Some(Seat { crowd: self.clone(), key })
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        let mut counts = self.crowd.0.borrow_mut();
        match counts.get_mut(&self.key) {
            Some(count) if *count > 1 => *count -= 1,
            _ => drop(counts.remove(&self.key)),
        }
        if counts.is_empty() && counts.capacity() > CLIENTS_KEPT {
            counts.shrink_to(CLIENTS_KEPT / 2);
        }
    }
}

/// What one is told who has as many as there may be.
pub(crate) fn refusal() -> Page {
    let page = Page::new(StatusCode::TOO_MANY_REQUESTS, "Too many requests from here are under way at the same time.");
    page.hint("Wait for one of them to end and try again.").field("retry-after", "1")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clients_without_requests_leave_nothing_behind() {
        let crowd = Crowd::default();
        let address = |index: u32| IpAddr::V4((0x0A00_0000 + index).into());
        let seats: Vec<Option<Seat>> = (0..10_000).map(|index| crowd.enter(address(index % 5_000), 2)).collect();
        assert!(seats.iter().all(Option::is_some));
        assert!(crowd.enter(address(1), 2).is_none(), "a third one");
        assert_eq!(crowd.0.borrow().len(), 5_000);
        drop(seats);
        assert_eq!(crowd.0.borrow().len(), 0);
        assert!(crowd.0.borrow().capacity() <= 2 * CLIENTS_KEPT, "{}", crowd.0.borrow().capacity());
        assert!(crowd.enter(address(1), 1).is_some());
    }

    #[test]
    fn a_smaller_maximum_holds_at_once_and_counts_go_on() {
        let crowd = Crowd::default();
        let client = IpAddr::V4([10, 0, 0, 1].into());
        let seats = [crowd.enter(client, 3), crowd.enter(client, 3), crowd.enter(client, 3)];
        assert!(crowd.clone().enter(client, 1).is_none(), "as after a reload");
        drop(seats);
        assert!(crowd.enter(client, 1).is_some());
    }
}
