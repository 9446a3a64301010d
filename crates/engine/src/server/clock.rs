//! The worker's coarse clock: read for free, advanced a few times a second, so that no request costs
//! a system call for the time, a timer registration or the formatting of a date.

use std::cell::{Cell, RefCell};
use std::task::{Context, Waker};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// Milliseconds since the worker started.
pub(super) type Millis = u64;

/// Length of an IMF-fixdate such as `Sun, 06 Nov 1994 08:49:37 GMT` (RFC 9110 §5.6.7).
const DATE_BYTES: usize = 29;

thread_local! {
    /// The time as of the last tick of the worker that runs on this thread.
    static TICK: Cell<Option<Instant>> = const { Cell::new(None) };
}

/// The time as of the last tick of this thread's worker, without a system call: for deadlines and for what is counted
/// in seconds.
///
/// It never goes backwards, and is up to 250 ms late while the worker has connections of clients. While it has none, it
/// stands still: what runs beside them ([`Server::on_each_worker`](crate::Server::on_each_worker)) asks
/// [`Instant::now`]. On a thread without a worker it is that.
pub fn coarse_now() -> Instant {
    TICK.get().unwrap_or_else(Instant::now)
}

/// The time as of the last [`Clock::refresh`].
pub(super) struct Clock {
    started: Instant,
    now: Cell<Millis>,
    date: Cell<[u8; DATE_BYTES]>,
    date_second: Cell<u64>,
}

impl Clock {
    pub(super) fn new() -> Self {
        let clock = Self {
            started: Instant::now(),
            now: Cell::new(0),
            date: Cell::new([b' '; DATE_BYTES]),
            date_second: Cell::new(u64::MAX),
        };
        clock.refresh();
        clock
    }

    pub(super) fn refresh(&self) {
        let tick = Instant::now();
        TICK.set(Some(tick));
        self.now.set(millis(tick.duration_since(self.started)));
        let now = SystemTime::now();
        let second = now.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
        if self.date_second.replace(second) != second {
            let text = httpdate::fmt_http_date(now);
            if let Ok(date) = text.as_bytes().try_into() {
                self.date.set(date);
            }
        }
    }

    pub(super) fn now(&self) -> Millis {
        self.now.get()
    }

    pub(super) fn after(&self, delay: Duration) -> Millis {
        self.now.get().saturating_add(millis(delay))
    }

    pub(super) fn date(&self) -> [u8; DATE_BYTES] {
        self.date.get()
    }
}

impl Drop for Clock {
    fn drop(&mut self) {
        TICK.set(None);
    }
}

fn millis(duration: Duration) -> Millis {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// One deadline of one connection. Arming it is a store; the worker's tick finds it when it is due.
#[derive(Default)]
pub(super) struct Timer {
    at: Cell<Option<Millis>>,
    waker: RefCell<Option<Waker>>,
}

impl Timer {
    pub(super) fn arm(&self, at: Millis) {
        self.at.set(Some(at));
    }

    pub(super) fn arm_once(&self, at: impl FnOnce() -> Millis) {
        if self.at.get().is_none() {
            self.at.set(Some(at()));
        }
    }

    pub(super) fn disarm(&self) {
        self.at.set(None);
    }

    fn is_due(&self, now: Millis) -> bool {
        self.at.get().is_some_and(|at| at <= now)
    }

    /// Whether the deadline has passed; if not, the task is woken when it does.
    pub(super) fn poll_expired(&self, clock: &Clock, cx: &Context<'_>) -> bool {
        if self.is_due(clock.now()) {
            return true;
        }
        let mut waker = self.waker.borrow_mut();
        match &mut *waker {
            Some(waker) if waker.will_wake(cx.waker()) => {}
            _ => *waker = Some(cx.waker().clone()),
        }
        false
    }

    pub(super) fn wake_if_due(&self, now: Millis) {
        if self.is_due(now) {
            self.wake();
        }
    }

    pub(super) fn wake(&self) {
        if let Some(waker) = &*self.waker.borrow() {
            waker.wake_by_ref();
        }
    }
}

/// Holds one direction of a transfer to a minimum rate. Only time spent waiting for the other side
/// counts, and only after a grace, so that neither a slow handler nor one lost packet breaks it.
#[derive(Default)]
pub(super) struct Pace {
    waiting_since: Cell<Option<Millis>>,
    waited: Cell<Millis>,
    moved: Cell<u64>,
}

impl Pace {
    pub(super) fn reset(&self) {
        self.waiting_since.set(None);
        self.waited.set(0);
        self.moved.set(0);
    }

    pub(super) fn handle_wait(&self, now: Millis) {
        if self.waiting_since.get().is_none() {
            self.waiting_since.set(Some(now));
        }
    }

    /// Counts bytes that moved; false when the transfer is slower than it may be.
    pub(super) fn handle_progress(&self, bytes: usize, now: Millis, rate_min: u64, grace: Duration) -> bool {
        self.moved.set(self.moved.get() + bytes as u64);
        let Some(since) = self.waiting_since.take() else { return true };
        let waited = self.waited.get() + now.saturating_sub(since);
        self.waited.set(waited);
        waited <= millis(grace) || self.moved.get().saturating_mul(1000) >= rate_min.saturating_mul(waited)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GRACE: Duration = Duration::from_secs(1);

    #[test]
    fn a_trickle_is_too_slow_after_the_grace() {
        let pace = Pace::default();
        pace.handle_wait(0);
        assert!(pace.handle_progress(1, 900, 100, GRACE), "within the grace");
        pace.handle_wait(900);
        assert!(!pace.handle_progress(1, 1_900, 100, GRACE), "2 bytes in 1.9 s");
    }

    #[test]
    fn only_waiting_counts() {
        let pace = Pace::default();
        assert!(pace.handle_progress(1, 100_000, 100, GRACE), "nobody waited for the other side");
        pace.handle_wait(100_000);
        assert!(pace.handle_progress(500, 102_000, 100, GRACE), "501 bytes in 2 s");
    }

    #[test]
    fn a_worker_knows_the_time_of_its_last_tick() {
        let before = Instant::now();
        assert!(coarse_now() >= before, "without a worker it is the time");
        let clock = Clock::new();
        let tick = coarse_now();
        assert!(tick >= before && coarse_now() == tick, "it stands still between two ticks");
        clock.refresh();
        assert!(coarse_now() > tick);
        drop(clock);
        let after = Instant::now();
        assert!(coarse_now() >= after);
    }

    #[test]
    fn the_date_is_an_imf_fixdate() {
        let date = Clock::new().date();
        let text = std::str::from_utf8(&date).expect("dates are ASCII");
        assert!(httpdate::parse_http_date(text).is_ok(), "{text}");
        assert!(text.ends_with(" GMT"));
    }
}
