//! How much one user may do: each action has a bucket that fills at a steady rate.

use chat::UserName;
use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::Instant;
use weaprous::Problem;

use crate::trouble::Trouble;

/// Buckets kept at once; past that, the full ones are forgotten, which changes nothing.
const BUCKETS_MAX: usize = 50_000;

/// What is limited.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Action {
    /// Making a channel: each one costs memory for ever.
    Create,
    /// One envelope, hosted or uploaded. A peer that comes back after a day brings thousands.
    Write,
    /// A session that the tracker makes: each one is a row in the store.
    Register,
    /// Asking for a relayed stream.
    Relay,
}

impl Action {
    /// How much may be done at once, and how much more per second.
    fn rate(self) -> (f64, f64) {
        match self {
            Self::Create => (100.0, 0.2),
            Self::Write => (50_000.0, 500.0),
            Self::Register => (200.0, 1.0),
            Self::Relay => (200.0, 5.0),
        }
    }
}

/// The buckets of all users.
#[derive(Default)]
pub(crate) struct Limits(Mutex<HashMap<(UserName, Action), Bucket>>);

struct Bucket {
    left: f64,
    at: Instant,
}

impl Limits {
    /// Takes `count` out of a user's bucket, or says when there is enough in it.
    pub(crate) fn spend(&self, user: &UserName, action: Action, count: usize) -> Result<(), Trouble> {
        self.spend_at(Instant::now(), user, action, count).map_err(|retry_after_s| {
            Problem::too_many_requests("that is too much at once; wait a little", retry_after_s).into()
        })
    }

    fn spend_at(&self, now: Instant, user: &UserName, action: Action, count: usize) -> Result<(), u64> {
        let (most, per_second) = action.rate();
        let filled = |bucket: &Bucket, most: f64, per_second: f64| {
            most.min(bucket.left + per_second * now.saturating_duration_since(bucket.at).as_secs_f64())
        };
        let mut buckets = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if buckets.len() >= BUCKETS_MAX {
            buckets.retain(|(_, action), bucket| {
                let (most, per_second) = action.rate();
                filled(bucket, most, per_second) < most
            });
        }
        let bucket = buckets.entry((user.clone(), action)).or_insert(Bucket { left: most, at: now });
        let left = filled(bucket, most, per_second);
        *bucket = Bucket { left, at: now };
        let missing = count as f64 - left;
        if missing > 0.0 {
            return Err((missing / per_second).ceil().max(1.0) as u64);
        }
        bucket.left -= count as f64;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use std::time::Duration;

    #[test]
    fn a_bucket_empties_and_fills_again_for_each_user_alone() {
        let limits = Limits::default();
        let (alice, bob): (UserName, UserName) = ("alice".parse().unwrap(), "bob".parse().unwrap());
        let start = Instant::now();
        assert_eq!(limits.spend_at(start, &alice, Action::Create, 100), Ok(()));
        assert_eq!(limits.spend_at(start, &alice, Action::Create, 1), Err(5));
        assert_eq!(limits.spend_at(start, &alice, Action::Write, 1), Ok(()));
        assert_eq!(limits.spend_at(start, &bob, Action::Create, 1), Ok(()));
        let later = start + Duration::from_secs(5);
        assert_eq!(limits.spend_at(later, &alice, Action::Create, 1), Ok(()));
        assert_eq!(limits.spend_at(later, &alice, Action::Create, 1), Err(5));
        assert_eq!(limits.spend_at(start + Duration::from_hours(1), &alice, Action::Create, 101), Err(5));
    }
}
