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

#[cfg(test)]
mod tests {
    use super::*;
    use std::future::poll_fn;
    use std::task::Waker;
    use tokio::time::advance;

    const IDLE: Duration = Duration::from_secs(30);
    const GRACE: Duration = Duration::from_secs(5);

    fn is_over(patience: &mut Patience) -> bool {
        patience.poll_wait(&mut Context::from_waker(Waker::noop())).is_ready()
    }

    async fn wait(patience: &mut Patience, time: Duration) -> bool {
        let is_over_before = is_over(patience);
        advance(time).await;
        is_over_before || is_over(patience)
    }

    #[tokio::test(start_paused = true)]
    async fn silence_may_last_so_long_and_begins_anew_with_every_byte() {
        let mut patience = Patience::new(IDLE, 0, GRACE);
        for _ in 0..5 {
            assert!(!wait(&mut patience, IDLE * 9 / 10).await);
            assert_eq!(patience.handle_progress(1), Ok(()));
        }
        let begun = Instant::now();
        assert_eq!(poll_fn(|cx| patience.poll_wait(cx)).await, TooSlow, "and whoever waits is woken");
        assert!((IDLE..IDLE + Duration::from_millis(5)).contains(&begun.elapsed()), "{:?}", begun.elapsed());
    }

    #[tokio::test(start_paused = true)]
    async fn the_rate_is_that_of_all_time_waited_after_a_grace() {
        let mut patience = Patience::new(IDLE, 100, GRACE);
        assert!(!wait(&mut patience, GRACE).await);
        assert_eq!(patience.handle_progress(1), Ok(()), "within the grace");
        assert!(!wait(&mut patience, Duration::from_secs(1)).await);
        assert_eq!(patience.handle_progress(599), Ok(()), "600 bytes in 6 s are enough");
        assert!(!wait(&mut patience, Duration::from_secs(1)).await);
        assert_eq!(patience.handle_progress(99), Err(TooSlow), "699 bytes in 7 s are not");
    }

    #[tokio::test(start_paused = true)]
    async fn time_that_nobody_waited_for_the_client_does_not_count() {
        let mut patience = Patience::new(IDLE, 100, GRACE);
        for _ in 0..10 {
            assert!(!wait(&mut patience, Duration::from_millis(100)).await);
            assert_eq!(patience.handle_progress(0), Ok(()));
            advance(IDLE * 2).await; // a slow service
            assert_eq!(patience.handle_progress(0), Ok(()));
        }
        assert!(!is_over(&mut patience), "nor as silence");
    }
}
