//! A deadline that is moved far more often than it passes, so moving it is a store.

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::time::{Instant, Sleep};

/// One deadline, which also works outside of a server's worker.
#[derive(Default)]
pub(super) struct Deadline {
    at: Option<Instant>,
    /// Set to some deadline of the past or present; corrected when it fires too early.
    sleep: Option<Pin<Box<Sleep>>>,
}

impl Deadline {
    pub(super) fn clear(&mut self) {
        self.at = None;
    }

    /// Sets the deadline unless there is one.
    pub(super) fn arm_once(&mut self, delay: Duration) {
        self.arm_once_from(None, delay);
    }

    /// As [`Deadline::arm_once`], where it may be known what time it is.
    pub(super) fn arm_once_from(&mut self, now: Option<Instant>, delay: Duration) {
        if self.at.is_none() {
            self.at = Some(now.unwrap_or_else(Instant::now) + delay);
        }
    }

    /// Whether the deadline has passed; if not, the task is woken when it does.
    pub(super) fn poll_expired(&mut self, cx: &mut Context<'_>) -> bool {
        let Some(at) = self.at else { return false };
        let sleep = self.sleep.get_or_insert_with(|| Box::pin(tokio::time::sleep_until(at)));
        if sleep.deadline() > at {
            sleep.as_mut().reset(at);
        }
        while let Poll::Ready(()) = sleep.as_mut().poll(cx) {
            if sleep.deadline() >= at {
                return true;
            }
            sleep.as_mut().reset(at);
        }
        false
    }
}
