//! What the tracker does by itself: tells new entries of the log to the event streams, finds lapsed leases, and clears
//! away what has expired.

use crate::bindings::{self, BINDING_PREFIX};
use crate::hub::News;
use crate::tracker::{Tracker, now_ms};
use crate::trouble::Trouble;
use crate::writing::{ONCE_PREFIX, kept_at_ms};
use chat::Expect;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;
use weaprous::{Problem, Stop};

/// Entries told at a time.
const LINES_AT_ONCE: usize = 256;
/// Pause after the store failed.
const FAILURE_PAUSE: Duration = Duration::from_secs(1);
/// How often what has expired is cleared away.
const TIDY_EVERY: Duration = Duration::from_mins(10);
/// Keys looked at in one tidying of one key space.
const TIDY_KEYS_MAX: usize = 10_000;
/// Keys read at a time.
const TIDY_PAGE: usize = 500;
/// How long a message's key protects it from being stored twice, in milliseconds: longer than any client tries.
const ONCE_KEPT_MS: u64 = 7 * 24 * 60 * 60 * 1000;

impl Tracker {
    /// Begins the background work on this worker, if nobody has. It ends with the server.
    pub(crate) fn begin(self: &Arc<Self>, stop: &Stop) {
        if self.begun.load(Ordering::Relaxed) || self.begun.swap(true, Ordering::Relaxed) {
            return;
        }
        for work in [Work::Tell, Work::Sweep, Work::Tidy] {
            let (tracker, stop) = (Arc::clone(self), stop.clone());
            // Owned by the worker's event loop, which the server ends after the stop.
            tokio::spawn(async move {
                tokio::select! {
                    () = tracker.work(work) => {}
                    () = stop.cancelled() => {}
                }
            });
        }
    }

    /// Does one kind of work for ever; a failure is a pause.
    async fn work(&self, work: Work) {
        let mut position = None;
        loop {
            let done = match work {
                Work::Tell => self.tell_entries(&mut position).await,
                Work::Sweep => {
                    tokio::time::sleep(self.settings.sweep).await;
                    self.sweep().await
                }
                Work::Tidy => {
                    tokio::time::sleep(TIDY_EVERY).await;
                    self.tidy(now_ms()).await
                }
            };
            if let Err(Trouble(problem)) = done {
                tracing::warn!(?work, %problem, "background work failed; it is tried again");
                tokio::time::sleep(FAILURE_PAUSE).await;
            }
        }
    }

    /// Follows the log from `told` on, or from where it is now.
    async fn tell_entries(&self, told: &mut Option<u64>) -> Result<(), Trouble> {
        let mut watch = self.store().watch();
        let mut position = match *told {
            Some(position) => position,
            None => self.store().last_position().await?,
        };
        loop {
            *told = Some(position);
            let entries = self.store().read_all(position, LINES_AT_ONCE).await?;
            let Some(newest) = entries.last().map(|entry| entry.position) else {
                watch.changed().await.map_err(chat::StoreError::from)?;
                continue;
            };
            self.level_with(&entries).await?; // so that listeners see who is in a channel now
            self.hub.tell(News::Logged(self.lines(&entries).await?.into()));
            position = newest;
        }
    }

    /// Clears away bindings of sessions that have ended, and keys of messages sent long ago.
    async fn tidy(&self, now_ms: u64) -> Result<(), Trouble> {
        let ended = |value: &[u8]| bindings::expires_ms(value).is_none_or(|end| end <= now_ms);
        self.remove_where(BINDING_PREFIX, ended).await?;
        let old = |value: &[u8]| kept_at_ms(value).is_none_or(|at| at.saturating_add(ONCE_KEPT_MS) <= now_ms);
        self.remove_where(ONCE_PREFIX, old).await
    }

    async fn remove_where(&self, prefix: &str, is_done: impl Fn(&[u8]) -> bool) -> Result<(), Trouble> {
        let mut after: Option<String> = None;
        for _ in 0..TIDY_KEYS_MAX / TIDY_PAGE {
            let page = self.store().list(prefix, after.as_deref(), TIDY_PAGE).await?;
            for (key, found) in &page {
                if is_done(&found.value) {
                    // Whoever changed it meanwhile still needs it.
                    let _ = self.store().delete(key, Expect::Version(found.version)).await?;
                }
            }
            match page.last() {
                Some((last, _)) if page.len() == TIDY_PAGE => after = Some(last.clone()),
                _ => break,
            }
        }
        Ok(())
    }
}

/// The kinds of background work.
#[derive(Debug, Clone, Copy)]
enum Work {
    Tell,
    Sweep,
    Tidy,
}

impl From<chat::Closed> for Trouble {
    fn from(closed: chat::Closed) -> Self {
        Problem::unavailable(closed.to_string(), 1).into()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::challenges::Challenges;
    use crate::settings::TrackerSettings;
    use accounts::{Accounts, StoreSessions};
    use chat::{Store, TrackerKey};
    use weaprous::session::Sessions;

    fn tracker() -> Tracker {
        let store: Arc<dyn Store> = Arc::new(store::MemoryStore::new());
        let sessions = Sessions::new(Arc::new(StoreSessions::new(Arc::clone(&store))), Duration::from_mins(1));
        let settings = TrackerSettings::new(Arc::clone(&store), Accounts::new(store), Arc::new(sessions));
        Tracker::new(settings, TrackerKey::from_seed([1; 32]), Challenges::new().unwrap())
    }

    #[tokio::test]
    async fn what_has_expired_is_cleared_away_and_nothing_else() {
        let (tracker, now_ms) = (tracker(), 10 * ONCE_KEPT_MS);
        let put = async |key: String, value: String| {
            tracker.store().put(&key, value.into_bytes(), Expect::Absent).await.unwrap().unwrap();
        };
        let device = chat::DeviceId([1; 32]);
        let signature = chat::Signature([1; 64]);
        let binding = |end_ms: u64| format!(r#"{{"device":"{device}","expires_ms":{end_ms}}}"#);
        let kept = |at_ms: u64| format!(r#"{{"envelope":"{{}}","signature":"{signature}","at_ms":{at_ms}}}"#);
        for number in 0..TIDY_PAGE + 10 {
            put(format!("{BINDING_PREFIX}old{number:04}"), binding(now_ms)).await;
        }
        put(format!("{BINDING_PREFIX}valid"), binding(now_ms + 1)).await;
        put(format!("{ONCE_PREFIX}alice/old"), kept(now_ms - ONCE_KEPT_MS)).await;
        put(format!("{ONCE_PREFIX}alice/recent"), kept(now_ms - ONCE_KEPT_MS + 1)).await;
        put("account/alice".to_owned(), "untouched".to_owned()).await;
        tracker.tidy(now_ms).await.unwrap();
        let left: Vec<_> = tracker.store().list("", None, usize::MAX).await.unwrap();
        let left: Vec<_> = left.iter().map(|(key, _)| key.as_str()).collect();
        assert_eq!(left, ["account/alice", "binding/valid", "once/alice/recent"]);
    }
}
