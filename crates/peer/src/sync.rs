//! Bringing channels level with the tracker's log: what it lacks is handed over, what is missing here is fetched.
//!
//! Only talks HTTP and reads the history; every write is the core's, which is asked by [`Event`].

use std::cell::{Cell, RefCell};
use std::collections::{BTreeSet, HashSet};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use chat::{ChannelName, DeviceId, EnvelopeId, History, OrderKey, Sealed, StoreError, TrackerId};
use tokio::sync::{Notify, mpsc, oneshot};
use tokio::time::sleep;

use crate::event::Event;
use crate::tracker::{PAGE_MESSAGES, Tracker, TrackerError, is_final};
use crate::wire::UploadResult;

/// Envelopes handed over in one request.
const UPLOAD_ENVELOPES_MAX: usize = 64;
/// Their bytes together; as JSON inside JSON they at most double, and a request may have 2 MiB.
const UPLOAD_BYTES_MAX: usize = 512 * 1024;
/// How often one batch is sent again after the tracker asked for something before it.
const GAP_ROUNDS_MAX: usize = 4;
/// Wait before a channel is tried again after the tracker failed in the middle.
const RETRY_PAUSE: Duration = Duration::from_secs(1);
/// Envelopes remembered as refused.
const REFUSED_MAX: usize = 100_000;

/// What tasks that talk to the tracker share.
pub(crate) struct Context {
    pub(crate) tracker: Rc<Tracker>,
    pub(crate) history: Arc<dyn History>,
    pub(crate) events: mpsc::Sender<Event>,
    /// This device.
    device: DeviceId,
    /// Whose word rosters are; known once the tracker was met.
    pub(crate) tracker_id: Cell<Option<TrackerId>>,
    pub(crate) online: Cell<bool>,
    wanted: RefCell<BTreeSet<ChannelName>>,
    wake: Notify,
    refused: RefCell<HashSet<EnvelopeId>>,
    /// Channels of which the tracker takes nothing, and of which that was told.
    refused_channels: RefCell<HashSet<ChannelName>>,
}

/// Why a channel is not level.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SyncError {
    /// The tracker failed or said no.
    #[error(transparent)]
    Tracker(#[from] TrackerError),
    /// The own history failed.
    #[error(transparent)]
    History(#[from] StoreError),
    /// This peer stops.
    #[error("this peer stops")]
    Stopping,
}

impl Context {
    pub(crate) fn new(
        tracker: Rc<Tracker>,
        history: Arc<dyn History>,
        events: mpsc::Sender<Event>,
        device: DeviceId,
    ) -> Self {
        Self {
            tracker,
            history,
            events,
            device,
            tracker_id: Cell::default(),
            online: Cell::default(),
            wanted: RefCell::default(),
            wake: Notify::new(),
            refused: RefCell::default(),
            refused_channels: RefCell::default(),
        }
    }

    /// Asks for a channel to be brought level soon. Asking twice does no harm.
    pub(crate) fn want_sync(&self, channel: &ChannelName) {
        self.wanted.borrow_mut().insert(channel.clone());
        self.wake.notify_one();
    }

    /// Brings the wanted channels level, one after the other, for ever.
    pub(crate) async fn run(self: Rc<Self>) {
        loop {
            let next = self.wanted.borrow_mut().pop_first();
            let Some(channel) = next.filter(|_| self.online.get()) else {
                self.wake.notified().await;
                continue;
            };
            match self.sync(&channel).await {
                Ok(()) => drop(self.refused_channels.borrow_mut().remove(&channel)),
                Err(SyncError::Stopping) => return,
                Err(SyncError::Tracker(TrackerError::Refused { status, detail })) if is_final(status) => {
                    self.note_refused_channel(channel, &detail).await;
                }
                Err(error) => {
                    tracing::debug!(%channel, %error, "not level yet");
                    self.wanted.borrow_mut().insert(channel);
                    sleep(RETRY_PAUSE).await;
                }
            }
        }
    }

    /// Tells once that the tracker takes nothing of a channel and gives nothing of it.
    async fn note_refused_channel(&self, channel: ChannelName, detail: &str) {
        if self.refused_channels.borrow_mut().insert(channel.clone()) {
            let what = format!("the tracker takes no messages of {channel}: {detail}");
            let hint = "they stay here and with the peers that have them".to_owned();
            let _ = self.tell(Event::Trouble { what, hint }).await;
        }
        let _ = self.tell(Event::LogRefused { channel }).await;
    }

    async fn sync(&self, channel: &ChannelName) -> Result<(), SyncError> {
        self.hand_over(channel).await?;
        self.fetch(channel).await?;
        self.tell(Event::Synced { channel: channel.clone() }).await
    }

    /// Hands over everything that the tracker has not numbered, own and others', in chain order.
    pub(crate) async fn hand_over(&self, channel: &ChannelName) -> Result<(), SyncError> {
        let mut after: Option<OrderKey> = None;
        loop {
            let batch = self.history.unsequenced(channel, after, UPLOAD_ENVELOPES_MAX).await?;
            let Some(last) = batch.last() else { return Ok(()) };
            after = Some(OrderKey::new(None, last.envelope().lamport, last.id()));
            let mut rest = batch;
            rest.retain(|sealed| !self.refused.borrow().contains(&sealed.id()));
            while !rest.is_empty() {
                let later = rest.split_off(fitting(&rest));
                self.hand_over_batch(channel, rest).await?;
                rest = later;
            }
        }
    }

    async fn hand_over_batch(&self, channel: &ChannelName, batch: Vec<Sealed>) -> Result<(), SyncError> {
        let mut batch = batch;
        for _ in 0..GAP_ROUNDS_MAX {
            let results = self.tracker.upload(channel, &batch).await?;
            self.note_numbers(channel, &batch, &results).await?;
            let missing = self.what_goes_before(channel, &batch, &results).await?;
            if missing.is_empty() {
                self.note_refused(channel, &batch, &results).await?;
                return Ok(());
            }
            let left = batch.into_iter().zip(&results).filter(|(_, result)| result.seq.is_none());
            batch = missing.into_iter().chain(left.map(|(sealed, _)| sealed)).collect();
            batch.truncate(UPLOAD_ENVELOPES_MAX);
            batch.truncate(fitting(&batch));
        }
        Ok(())
    }

    /// Hands a chain over from a number on, also what was refused before: who is in the channel may have changed since.
    /// Gives the tracker's words if it still refuses.
    pub(crate) async fn hand_over_chain(
        &self,
        channel: &ChannelName,
        device: &DeviceId,
        from_n: u64,
    ) -> Result<Option<String>, SyncError> {
        let mut from_n = from_n;
        loop {
            let mut batch = self.history.chain(channel, device, from_n, UPLOAD_ENVELOPES_MAX).await?;
            batch.truncate(fitting(&batch));
            let Some(last) = batch.last() else { return Ok(None) };
            from_n = last.envelope().n + 1;
            let results = self.tracker.upload(channel, &batch).await?;
            self.note_numbers(channel, &batch, &results).await?;
            if let Some(refused) = results.iter().find(|result| result.seq.is_none()) {
                return Ok(Some(refused.why()));
            }
        }
    }

    async fn note_numbers(
        &self,
        channel: &ChannelName,
        batch: &[Sealed],
        results: &[UploadResult],
    ) -> Result<(), SyncError> {
        let numbered =
            batch.iter().zip(results).filter(|(sealed, result)| result.id.is_none_or(|id| id == sealed.id()));
        let numbers: Vec<_> = numbered.filter_map(|(sealed, result)| Some((sealed.id(), result.seq?))).collect();
        if numbers.is_empty() {
            return Ok(());
        }
        self.ask(|reply| Event::Sequenced { channel: channel.clone(), numbers, reply }).await
    }

    /// The tracker may lack what it once numbered, if it was restored from an older copy: it says from where on.
    async fn what_goes_before(
        &self,
        channel: &ChannelName,
        batch: &[Sealed],
        results: &[UploadResult],
    ) -> Result<Vec<Sealed>, SyncError> {
        let mut asked: HashSet<DeviceId> = HashSet::new();
        let mut missing = Vec::new();
        for (sealed, result) in batch.iter().zip(results) {
            let Some(from_n) = result.expected_n else { continue };
            let device = sealed.envelope().device;
            if from_n < sealed.envelope().n && asked.insert(device) {
                missing.extend(self.history.chain(channel, &device, from_n, UPLOAD_ENVELOPES_MAX).await?);
            }
        }
        missing.retain(|sealed| !batch.contains(sealed));
        Ok(missing)
    }

    async fn note_refused(
        &self,
        channel: &ChannelName,
        batch: &[Sealed],
        results: &[UploadResult],
    ) -> Result<(), SyncError> {
        let (mut why, mut is_own_fork) = (None, false);
        for (sealed, result) in batch.iter().zip(results).filter(|(_, result)| result.seq.is_none()) {
            let mut refused = self.refused.borrow_mut();
            if refused.len() < REFUSED_MAX && refused.insert(sealed.id()) {
                why = Some(result.why());
                is_own_fork |= sealed.envelope().device == self.device && result.error.as_deref() == Some("fork");
            }
        }
        match why {
            None => Ok(()),
            Some(_) if is_own_fork => {
                let what = format!(
                    "{channel}: the history of this device was lost or is older than what it said before: \
                     the tracker does not take what it says now"
                );
                let hint = "stop, move history.db away and start while the tracker is there: what was said before is \
                            fetched, what was not taken has to be said again"
                    .to_owned();
                self.tell(Event::Trouble { what, hint }).await
            }
            Some(why) => {
                let what = format!("the tracker does not take messages of {channel}: {why}");
                let hint = "they stay here and with the peers that have them".to_owned();
                self.tell(Event::Trouble { what, hint }).await
            }
        }
    }

    /// Fetches the log from where it is held to its end.
    pub(crate) async fn fetch(&self, channel: &ChannelName) -> Result<(), SyncError> {
        let mut after = self.history.cursor(channel).await?;
        loop {
            let page = self.tracker.messages(channel, after).await?;
            let Some(last) = page.messages.iter().filter_map(|view| view.seq).max() else { return Ok(()) };
            let whole = page.messages.len() >= PAGE_MESSAGES || last < page.last;
            let messages = page.messages;
            let cursor = self.ask(|reply| Event::Fetched { channel: channel.clone(), messages, reply }).await?;
            if !whole || last <= after {
                return Ok(());
            }
            after = last.max(cursor);
        }
    }

    /// Tells the core something.
    pub(crate) async fn tell(&self, event: Event) -> Result<(), SyncError> {
        self.events.send(event).await.map_err(|_| SyncError::Stopping)
    }

    /// Tells the core something and waits for its answer.
    pub(crate) async fn ask<T>(&self, event: impl FnOnce(oneshot::Sender<T>) -> Event) -> Result<T, SyncError> {
        let (reply, answer) = oneshot::channel();
        self.tell(event(reply)).await?;
        answer.await.map_err(|_| SyncError::Stopping)
    }
}

/// How many from the start fit into one request; at least one.
fn fitting(batch: &[Sealed]) -> usize {
    let mut bytes = 0;
    let fits = batch.iter().take_while(|sealed| {
        bytes += sealed.bytes().len();
        bytes <= UPLOAD_BYTES_MAX
    });
    fits.count().max(1)
}
