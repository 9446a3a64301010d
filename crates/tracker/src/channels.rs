//! Channels as the tracker holds them: what its log adds up to, folded once and kept up to date by every write.

use crate::checkpoint;
use chat::{Body, ChannelName, DeviceId, Head, Logged, Membership, SignedRoster, Store, StoreError, UserName};
use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};

/// Entries read at a time while a log is folded.
const FOLD_ENTRIES: usize = 500;

/// One channel. Writes take turns; who is in it can be seen at any time.
pub(crate) struct Channel {
    pub(crate) name: ChannelName,
    /// Held while somebody writes. Never while anything else is waited for than the store.
    pub(crate) writing: tokio::sync::Mutex<Fold>,
    membership: RwLock<Arc<Membership>>,
}

/// What a channel's log adds up to.
pub(crate) struct Fold {
    pub(crate) membership: Membership,
    pub(crate) heads: HashMap<DeviceId, Head>,
    /// The highest Lamport time said.
    pub(crate) lamport: u64,
    /// Number of the last entry folded.
    pub(crate) last: u64,
    /// Numbers of the entries that say something about membership.
    pub(crate) events: Vec<u64>,
    /// Up to where a checkpoint is kept.
    pub(crate) kept_through: u64,
    /// The newest roster, with its version in the register.
    pub(crate) roster: Option<(SignedRoster, u64)>,
    /// The log may hold more than was folded: read it before the next write.
    pub(crate) behind: bool,
}

impl Channel {
    fn new(name: ChannelName) -> Self {
        let fold = Fold::new(&name);
        let membership = RwLock::new(Arc::new(fold.membership.clone()));
        Self { name, writing: tokio::sync::Mutex::new(fold), membership }
    }

    /// Who is in it and who may do what, as of the last write.
    pub(crate) fn membership(&self) -> Arc<Membership> {
        Arc::clone(&self.membership.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Shows what the fold has come to.
    pub(crate) fn show(&self, membership: &Membership) {
        let shown = Arc::new(membership.clone());
        *self.membership.write().unwrap_or_else(PoisonError::into_inner) = shown;
    }

    /// Reads what the log holds beyond the fold.
    pub(crate) async fn catch_up(&self, fold: &mut Fold, store: &dyn Store) -> Result<(), StoreError> {
        if fold.behind && fold.last == 0 {
            checkpoint::resume(&self.name, fold, store).await?;
        }
        while fold.behind {
            let page = store.read(&self.name, fold.last, FOLD_ENTRIES).await?;
            fold.behind = page.len() == FOLD_ENTRIES;
            for logged in &page {
                fold.add(logged);
            }
            checkpoint::keep_when_due(&self.name, fold, store).await;
        }
        self.show(&fold.membership);
        Ok(())
    }
}

impl Fold {
    /// Forgets everything but the roster, to fold the log again from its beginning.
    pub(crate) fn restart(&mut self, name: &ChannelName) {
        let roster = self.roster.take();
        *self = Self { roster, ..Self::new(name) };
    }

    fn new(name: &ChannelName) -> Self {
        Self {
            membership: Membership::new(name.clone()),
            heads: HashMap::new(),
            lamport: 0,
            last: 0,
            events: Vec::new(),
            kept_through: 0,
            roster: None,
            behind: true,
        }
    }

    /// Takes the next entry of the log in. The log is what it is: an entry that its author had no right to changes
    /// nothing.
    pub(crate) fn add(&mut self, logged: &Logged) {
        let envelope = logged.sealed.envelope();
        if let Err(denied) = self.membership.apply(envelope) {
            tracing::debug!(channel = %envelope.channel, seq = logged.seq, %denied, "an entry without effect");
        }
        self.heads.insert(envelope.device, Head::of(envelope, logged.sealed.id()));
        self.lamport = self.lamport.max(envelope.lamport);
        self.last = logged.seq;
        if !matches!(envelope.body, Body::Text { .. } | Body::Other { .. }) {
            self.events.push(logged.seq);
        }
    }
}

/// All channels met so far.
#[derive(Default)]
pub(crate) struct Channels(Mutex<BTreeMap<ChannelName, Arc<Channel>>>);

impl Channels {
    /// The channel, up to date. A name that nobody uses gives a channel that does not exist, and is not kept.
    pub(crate) async fn load(&self, store: &dyn Store, name: &ChannelName) -> Result<Arc<Channel>, StoreError> {
        if let Some(channel) = self.kept(name) {
            return Ok(channel);
        }
        let channel = Arc::new(Channel::new(name.clone()));
        let last = {
            let mut fold = channel.writing.lock().await;
            channel.catch_up(&mut fold, store).await?;
            fold.last
        };
        // Whoever was first keeps theirs: writers must share one lock.
        if last == 0 { Ok(channel) } else { Ok(Arc::clone(self.locked().entry(name.clone()).or_insert(channel))) }
    }

    /// The channel for writing: also one that does not exist yet, so that two who make it at once take turns.
    pub(crate) async fn load_to_write(
        &self,
        store: &dyn Store,
        name: &ChannelName,
    ) -> Result<Arc<Channel>, StoreError> {
        let channel = self.load(store, name).await?;
        Ok(Arc::clone(self.locked().entry(name.clone()).or_insert(channel)))
    }

    /// Forgets a channel that a writer asked for and that nobody made after all.
    pub(crate) fn forget_unmade(&self, channel: &Arc<Channel>) {
        let mut channels = self.locked();
        // Two owners are the map and the caller: nobody else is about to write.
        if Arc::strong_count(channel) == 2 && channel.writing.try_lock().is_ok_and(|fold| fold.last == 0) {
            channels.remove(&channel.name);
        }
    }

    /// Every channel of the log, up to date.
    pub(crate) async fn load_all(&self, store: &dyn Store) -> Result<Vec<(Arc<Channel>, u64)>, StoreError> {
        let mut all = Vec::new();
        for (name, last) in store.channels().await? {
            all.push((self.load(store, &name).await?, last));
        }
        Ok(all)
    }

    /// Whether a user may know of what is said in a channel as a member, without waiting. Channels of the log are kept
    /// from their first write on, and are loaded before anybody listens.
    pub(crate) fn is_member(&self, name: &ChannelName, user: &UserName) -> bool {
        self.kept(name).is_some_and(|channel| channel.membership().is_member(user))
    }

    /// Whether a user may read a channel, without waiting.
    pub(crate) fn may_read(&self, name: &ChannelName, user: &UserName) -> bool {
        self.kept(name).is_some_and(|channel| channel.membership().may_read(user))
    }

    fn kept(&self, name: &ChannelName) -> Option<Arc<Channel>> {
        self.locked().get(name).cloned()
    }

    fn locked(&self) -> MutexGuard<'_, BTreeMap<ChannelName, Arc<Channel>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::challenges::Challenges;
    use crate::settings::TrackerSettings;
    use crate::tracker::Tracker;
    use crate::writing::Hosted;
    use accounts::{Accounts, StoreSessions};
    use std::time::Duration;
    use weaprous::session::Sessions;

    async fn tracker_of(user: &UserName) -> Arc<Tracker> {
        let store: Arc<dyn Store> = Arc::new(store::MemoryStore::new());
        let accounts = Accounts::new(Arc::clone(&store));
        accounts.sign_up(user, None, [127, 0, 0, 1].into(), 0).await.unwrap();
        let sessions = StoreSessions::new(Arc::clone(&store));
        let sessions = Arc::new(Sessions::new(Arc::new(sessions), Duration::from_mins(1)));
        let settings = TrackerSettings::new(store, accounts, sessions);
        Arc::new(Tracker::new(settings, chat::TrackerKey::from_seed([1; 32]), Challenges::new().unwrap()))
    }

    #[test]
    fn a_channel_that_nobody_made_is_not_kept() {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(async {
            let alice: UserName = "alice".parse().unwrap();
            let tracker = tracker_of(&alice).await;
            for (name, status) in [("@alice+nobody", 404), ("nowhere", 404)] {
                let body = Body::Text { text: "hello".to_owned() };
                let hosted = Hosted { user: alice.clone(), body, once: None };
                let refused = tracker.say(&name.parse().unwrap(), hosted).await.unwrap_err();
                assert_eq!(refused.0.status().as_u16(), status, "{name}");
                let uploaded = tracker.upload(&name.parse().unwrap(), Vec::new()).await;
                assert_eq!(uploaded.is_err(), name.starts_with('@'), "{name}");
                assert!(tracker.channels.locked().is_empty(), "{name}");
            }
        });
    }
}
