//! Waits that double from try to try, with jitter, up to a limit.

use std::time::Duration;

/// How often something failed in a row, and how long to wait for the next try.
#[derive(Debug, Clone)]
pub(crate) struct Backoff {
    first: Duration,
    longest: Duration,
    failures: u32,
}

impl Backoff {
    /// Waits from about `first` up to about `longest`.
    pub(crate) fn new(first: Duration, longest: Duration) -> Self {
        Self { first, longest, failures: 0 }
    }

    /// The wait before the next try. `dice` is any random number: it spreads the waits between half and whole, so that
    /// clients of a server that comes back do not all knock in the same instant.
    pub(crate) fn failed(&mut self, dice: u32) -> Duration {
        let whole = self.first.saturating_mul(1 << self.failures.min(16)).min(self.longest);
        self.failures = self.failures.saturating_add(1);
        whole.mul_f64(0.5 + 0.5 * f64::from(dice) / f64::from(u32::MAX))
    }

    /// It worked: the next failure starts from the first wait again.
    pub(crate) fn worked(&mut self) {
        self.failures = 0;
    }
}

/// A random number for [`Backoff::failed`]. Where the system has none, the waits are just not spread.
pub(crate) fn dice() -> u32 {
    getrandom::u32().unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_up_to_the_limit_and_start_over() {
        let mut backoff = Backoff::new(Duration::from_millis(200), Duration::from_secs(1));
        let waits: Vec<u128> = (0..5).map(|_| backoff.failed(u32::MAX).as_millis()).collect();
        assert_eq!(waits, [200, 400, 800, 1000, 1000]);
        backoff.worked();
        assert_eq!(backoff.failed(u32::MAX).as_millis(), 200);
    }

    #[test]
    fn jitter_stays_between_half_and_whole() {
        for dice in [0, 1, u32::MAX / 2, u32::MAX] {
            let wait = Backoff::new(Duration::from_millis(200), Duration::from_secs(1)).failed(dice);
            assert!((100..=200).contains(&wait.as_millis()), "{wait:?}");
        }
    }
}
