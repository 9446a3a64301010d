//! How long one direction of one stream may keep us waiting: an idle time and a minimum rate, as for HTTP/1.1.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::time::{Instant, Sleep, sleep};

/// The client is slower than it may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct TooSlow;

/// Watches one direction of a transfer. Only time spent waiting for the client counts.
pub(super) struct Patience {
    idle_max: Duration,
    rate_min: u64,
    rate_grace: Duration,
    alarm: Option<Pin<Box<Sleep>>>,
    waiting_since: Option<Instant>,
    waited: Duration,
    moved: u64,
}

impl Patience {
    pub(super) fn new(idle_max: Duration, rate_min: u64, rate_grace: Duration) -> Self {
        Self { idle_max, rate_min, rate_grace, alarm: None, waiting_since: None, waited: Duration::ZERO, moved: 0 }
    }

    /// Nothing has come: ready when that has lasted too long.
    pub(super) fn poll_wait(&mut self, cx: &mut Context<'_>) -> Poll<TooSlow> {
        self.waiting_since.get_or_insert_with(Instant::now);
        let idle_max = self.idle_max;
        let alarm = self.alarm.get_or_insert_with(|| Box::pin(sleep(idle_max)));
        alarm.as_mut().poll(cx).map(|()| TooSlow)
    }

    /// Counts bytes that moved.
    pub(super) fn handle_progress(&mut self, bytes: usize) -> Result<(), TooSlow> {
        self.alarm = None;
        self.moved += bytes as u64;
        if let Some(since) = self.waiting_since.take() {
            self.waited += since.elapsed();
        }
        let needed = u128::from(self.rate_min) * self.waited.as_millis() / 1000;
        if self.waited <= self.rate_grace || u128::from(self.moved) >= needed { Ok(()) } else { Err(TooSlow) }
    }
}
