//! What all handlers and background tasks share.

use crate::api::events::Streams;
use crate::bindings::Bindings;
use crate::challenges::Challenges;
use crate::channels::{Channel, Channels};
use crate::devices::Devices;
use crate::hub::{Hub, Line};
use crate::limits::Limits;
use crate::metrics::Metrics;
use crate::presence::Presence;
use crate::relay::Relays;
use crate::settings::TrackerSettings;
use crate::trouble::Trouble;
use accounts::{Accounts, Device};
use chat::{ChannelName, DeviceId, Logged, Store, TrackerId, TrackerKey, UserName};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::{SystemTime, UNIX_EPOCH};

/// The tracker's state.
pub(crate) struct Tracker {
    pub(crate) settings: TrackerSettings,
    pub(crate) key: TrackerKey,
    pub(crate) channels: Channels,
    pub(crate) devices: Devices,
    pub(crate) presence: Presence,
    pub(crate) bindings: Bindings,
    pub(crate) challenges: Challenges,
    pub(crate) hub: Hub,
    pub(crate) relays: Arc<Relays>,
    pub(crate) streams: Streams,
    pub(crate) limits: Limits,
    pub(crate) metrics: Metrics,
    /// Whether the background work has begun.
    pub(crate) begun: AtomicBool,
}

impl Tracker {
    pub(crate) fn new(settings: TrackerSettings, key: TrackerKey, challenges: Challenges) -> Self {
        Self {
            settings,
            key,
            channels: Channels::default(),
            devices: Devices::default(),
            presence: Presence::default(),
            bindings: Bindings::default(),
            challenges,
            hub: Hub::new(),
            relays: Arc::default(),
            streams: Streams::default(),
            limits: Limits::default(),
            metrics: Metrics::default(),
            begun: AtomicBool::new(false),
        }
    }

    pub(crate) fn store(&self) -> &dyn Store {
        &*self.settings.store
    }

    pub(crate) fn accounts(&self) -> &Accounts {
        &self.settings.accounts
    }

    pub(crate) fn id(&self) -> TrackerId {
        self.key.id()
    }

    pub(crate) async fn channel(&self, name: &ChannelName) -> Result<Arc<Channel>, Trouble> {
        Ok(self.channels.load(self.store(), name).await?)
    }

    /// Waits until what is known of the channels of these entries includes the entries: a writer's are in the log a
    /// moment before.
    pub(crate) async fn level_with(&self, entries: &[Logged]) -> Result<(), Trouble> {
        let mut last: Option<&ChannelName> = None;
        for entry in entries {
            let name = &entry.sealed.envelope().channel;
            if last != Some(name) {
                let channel = self.channel(name).await?;
                let mut fold = channel.writing.lock().await;
                channel.catch_up(&mut fold, self.store()).await?;
                last = Some(name);
            }
        }
        Ok(())
    }

    /// A channel that the user may read, or why not.
    pub(crate) async fn readable(&self, name: &ChannelName, user: &UserName) -> Result<Arc<Channel>, Trouble> {
        let channel = self.channel(name).await?;
        let membership = channel.membership();
        if membership.may_read(user) {
            return Ok(channel);
        }
        let denied = if membership.exists() { chat::Denied::NotMember } else { chat::Denied::NoSuchChannel };
        Err(denied.into())
    }

    /// The device of a user, if it is one of theirs.
    pub(crate) async fn device(&self, user: &UserName, device: &DeviceId) -> Result<Option<Device>, Trouble> {
        Ok(self.devices.find(self.accounts(), user, device).await?)
    }

    /// Renders entries of the log for event streams and answers.
    pub(crate) async fn lines(&self, entries: &[Logged]) -> Result<Vec<Line>, Trouble> {
        let mut lines = Vec::with_capacity(entries.len());
        for logged in entries {
            lines.push(Line::new(logged, self.is_hosted(logged).await?));
        }
        Ok(lines)
    }

    /// Whether an entry was signed by a key that this tracker holds.
    pub(crate) async fn is_hosted(&self, logged: &Logged) -> Result<bool, Trouble> {
        let envelope = logged.sealed.envelope();
        let device = self.device(&envelope.author, &envelope.device).await?;
        Ok(device.is_some_and(|device| device.hosted))
    }
}

/// Milliseconds since 1970.
pub(crate) fn now_ms() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |elapsed| elapsed.as_millis() as u64)
}
