//! Who waits for a stream, in the order they came.
//!
//! Only the first of them is told of room, and it stays the first until it has a stream or gives up; then the next one
//! is told to look. So a wake-up cannot get lost with somebody who goes away, and nobody overtakes.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::rc::Rc;
use tokio::sync::Notify;

/// Requests that wait for one server, at most.
const WAITING_MAX: usize = 1024;

/// Those who wait for one server.
#[derive(Default)]
pub(super) struct Queue {
    turns: RefCell<VecDeque<Rc<Notify>>>,
}

/// A place in a queue; given up by its drop.
pub(super) struct Turn {
    queue: Rc<Queue>,
    told: Rc<Notify>,
}

impl Queue {
    /// A place behind all others, if there is one left.
    pub(super) fn enter(self: &Rc<Self>) -> Option<Turn> {
        let mut turns = self.turns.borrow_mut();
        if turns.len() >= WAITING_MAX {
            return None;
        }
        let told = Rc::new(Notify::new());
        turns.push_back(Rc::clone(&told));
        Some(Turn { queue: Rc::clone(self), told })
    }

    pub(super) fn is_empty(&self) -> bool {
        self.turns.borrow().is_empty()
    }

    /// Lets the first one look; remembered if it does not wait at the moment.
    pub(super) fn wake(&self) {
        if let Some(first) = self.turns.borrow().front() {
            first.notify_one();
        }
    }
}

impl Turn {
    /// Until there may be room for this one.
    pub(super) async fn come(&mut self) {
        self.told.notified().await;
    }

    pub(super) fn is_of(&self, queue: &Rc<Queue>) -> bool {
        Rc::ptr_eq(&self.queue, queue)
    }

    /// Whether nobody waits longer.
    pub(super) fn is_next(&self) -> bool {
        self.queue.turns.borrow().front().is_some_and(|first| Rc::ptr_eq(first, &self.told))
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        let was_next = self.is_next();
        self.queue.turns.borrow_mut().retain(|turn| !Rc::ptr_eq(turn, &self.told));
        if was_next {
            self.queue.wake();
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;
    use std::pin::pin;
    use std::task::{Context, Waker};

    /// Whether it has been told to look.
    fn is_told(turn: &mut Turn) -> bool {
        pin!(turn.come()).poll(&mut Context::from_waker(Waker::noop())).is_ready()
    }

    #[test]
    fn only_the_first_is_told_and_the_others_follow_in_order() {
        let queue = Rc::new(Queue::default());
        let mut turns: Vec<Turn> = (0..4).map(|_| queue.enter().unwrap()).collect();
        queue.wake();
        let told: Vec<bool> = turns.iter_mut().map(is_told).collect();
        assert_eq!(told, [true, false, false, false]);
        assert!(turns[0].is_next() && !turns[1].is_next());
        turns.remove(0);
        let told: Vec<bool> = turns.iter_mut().map(is_told).collect();
        assert_eq!(told, [true, false, false]);
        turns.clear();
        assert!(queue.is_empty());
    }

    #[test]
    fn whoever_goes_away_takes_no_wake_up_along() {
        let queue = Rc::new(Queue::default());
        let (first, between, mut last) = (queue.enter().unwrap(), queue.enter().unwrap(), queue.enter().unwrap());
        drop(between);
        assert!(!is_told(&mut last), "nothing has happened for it");
        queue.wake();
        drop(first); // told, and gone before it could look
        assert!(is_told(&mut last) && last.is_next());
    }

    #[test]
    fn no_more_wait_than_may() {
        let queue = Rc::new(Queue::default());
        let mut turns: Vec<Turn> = (0..WAITING_MAX).map(|_| queue.enter().unwrap()).collect();
        assert!(queue.enter().is_none());
        turns.pop();
        assert!(queue.enter().is_some());
    }
}
