//! What an operator wants of one backend, whatever its health.
//!
//! ```text
//!   up ◄──────────────► draining: what it has goes on, nothing new comes
//!    ▲                      │
//!    └────► disabled ◄──────┘ nothing new comes, and what would go on for long is cut
//! ```

use std::sync::atomic::{AtomicU8, Ordering::Relaxed};
use std::sync::{Mutex, PoisonError};

use engine::Stop;

use crate::metrics::State;

/// The orders for one backend. They outlive a reload that keeps it.
#[derive(Debug, Default)]
pub(crate) struct Control {
    order: AtomicU8,
    /// Ends tunnels and answers that are under way. Replaced when it has fired.
    cut: Mutex<Stop>,
}

const UP: u8 = 0;
const DRAINING: u8 = 1;
const DISABLED: u8 = 2;

impl Control {
    /// Whether it may get requests.
    pub(crate) fn takes_requests(&self) -> bool {
        self.order.load(Relaxed) == UP
    }

    /// Its state, `is_up` being what its health says.
    pub(crate) fn state(&self, is_up: bool) -> State {
        match self.order.load(Relaxed) {
            DRAINING => State::Draining,
            DISABLED => State::Disabled,
            _ if is_up => State::Up,
            _ => State::Down,
        }
    }

    /// Passes an order on; [`State::Down`] is none.
    pub(crate) fn order(&self, state: State) {
        let order = match state {
            State::Up | State::Down => UP,
            State::Draining => DRAINING,
            State::Disabled => DISABLED,
        };
        self.order.store(order, Relaxed);
        if order == DISABLED {
            self.cut_now();
        }
    }

    /// Fires when what is under way has to end.
    pub(crate) fn cut(&self) -> Stop {
        self.cut.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Ends what is under way.
    pub(crate) fn cut_now(&self) {
        let mut cut = self.cut.lock().unwrap_or_else(PoisonError::into_inner);
        std::mem::take(&mut *cut).cancel();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn orders_come_before_health() {
        let control = Control::default();
        assert_eq!([control.state(true), control.state(false)], [State::Up, State::Down]);
        control.order(State::Draining);
        assert_eq!([control.state(true), control.state(false)], [State::Draining; 2]);
        assert!(!control.takes_requests());
        control.order(State::Up);
        assert!(control.takes_requests());
    }

    #[test]
    fn disabling_cuts_what_is_there_and_not_what_comes_after() {
        let control = Control::default();
        let before = control.cut();
        control.order(State::Draining);
        assert!(!before.is_cancelled(), "draining cuts nothing");
        control.order(State::Disabled);
        assert!(before.is_cancelled());
        control.order(State::Up);
        assert!(!control.cut().is_cancelled());
    }
}
