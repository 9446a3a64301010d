//! From nothing to a running peer: what an earlier run left in the history, then the tasks.

use std::collections::{HashMap, VecDeque};
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;

use chat::client::Notice;
use chat::{ChannelName, DeviceId, History, OrderKey, Sealed, SignedRoster, StoreError, TrackerId};
use p2p::{Limits, Node};
use serde::de::DeserializeOwned;
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::Core;
use crate::channel::{Channel, Standing, WAITING_MAX, Waiting};
use crate::event::Event;
use crate::key::HeldKey;
use crate::link::{HANDSHAKE_TIMEOUT, Tcp, Tls};
use crate::membership::is_member;
use crate::people::People;
use crate::session::{Session, TRACKER_SETTING};
use crate::socket;
use crate::sync::Context;
use crate::tracker::Tracker;
use crate::wire::{EnvelopeText, RosterText, is_dialable};
use crate::{PeerError, Settings};

/// Settings that hold rosters, by channel.
pub(super) const ROSTERS: &str = "roster/";
/// Settings that hold the last addresses of devices.
pub(super) const ADDRESSES: &str = "addresses/";
/// Settings that hold read marks, by channel.
pub(super) const READ_MARKS: &str = "read/";
/// Settings that hold changes whose way is not known, by channel.
pub(super) const UNRESOLVED: &str = "unresolved/";
/// Settings that hold what was said in channels that were not ready when the peer stopped.
const WAITING: &str = "waiting/";
/// Messages looked at to count the unread ones.
const UNREAD_LOOKED_AT: usize = 500;

impl Core {
    /// A core that knows nothing yet.
    pub(crate) fn new(
        settings: Settings,
        held: &HeldKey,
        history: Arc<dyn History>,
        events: mpsc::Sender<Event>,
    ) -> Result<Self, PeerError> {
        let key = held.key.clone();
        let tls = Tls::new(&key, HANDSHAKE_TIMEOUT).map_err(|error| PeerError::Start(error.to_string()))?;
        let context = settings.tracker.clone().map(|url| -> Result<_, PeerError> {
            let tracker = Tracker::new(url, &settings.trust, settings.pace.answer).map_err(PeerError::Tracker)?;
            Ok(Rc::new(Context::new(Rc::new(tracker), history.clone(), events.clone(), key.id())))
        });
        let context = context.transpose()?;
        Ok(Self {
            user: settings.user.clone(),
            device: key.id(),
            node: Node::new(key.id(), Limits::default()),
            people: People::new(key.id(), settings.pace.clone()),
            channels: std::collections::BTreeMap::new(),
            links: HashMap::new(),
            next_link: 1,
            tracker_id: None,
            context,
            online: None,
            reads_to_tell: std::collections::BTreeMap::new(),
            peer_list: Vec::new(),
            next_sync_ms: u64::MAX,
            peers_wanted: false,
            peers_at_ms: 0,
            forks_told: 0,
            pending: std::collections::VecDeque::new(),
            events,
            tasks: JoinSet::new(),
            link_tasks: JoinSet::new(),
            started: Instant::now(),
            quitting: false,
            failure: None,
            key,
            tls,
            settings,
            history,
        })
    }

    /// Loads what an earlier run left, tells it, and starts the tasks.
    pub(super) async fn start(&mut self, listener: TcpListener) -> Result<(), PeerError> {
        let address = listener.local_addr();
        let listening = address.map_err(|source| PeerError::Listen { address: self.settings.listen, source })?;
        self.load().await?;
        self.tell(Notice::Ready { user: self.user.clone(), device: self.device, listening });
        self.tell_channels();
        let tcp = Tcp::new(self.tls.clone());
        self.tasks.spawn_local(socket::listen(listener, tcp, self.events.clone()));
        let wanted = self.settings.channel.clone();
        let has_tracker = self.context.is_some();
        if let Some(channel) = self.channel_mut(&wanted).filter(|channel| !channel.is_joined()) {
            channel.standing = if has_tracker { Standing::Wanted } else { Standing::Outside };
            if !has_tracker {
                self.trouble(
                    format!("{wanted} is not known here"),
                    "the first time a --tracker is needed to come into a channel",
                );
            }
        }
        let names: Vec<ChannelName> = self.channels.keys().cloned().collect();
        for name in names {
            self.write_waiting(&name).await;
        }
        self.start_session(listening);
        Ok(())
    }

    fn start_session(&mut self, listening: SocketAddr) {
        let Some(context) = self.context.clone() else { return };
        let session = Session {
            tracker: context.tracker.clone(),
            history: self.history.clone(),
            key: self.key.clone(),
            user: self.user.clone(),
            password: self.settings.password.take(),
            listening,
            advertise: self.settings.advertise.clone(),
            pace: self.settings.pace.clone(),
            events: self.events.clone(),
        };
        self.tasks.spawn_local(session.run());
        self.tasks.spawn_local(context.run());
    }

    async fn load(&mut self) -> Result<(), StoreError> {
        let history = self.history.clone();
        let tracker_id = history.get(TRACKER_SETTING).await?;
        self.tracker_id = tracker_id.and_then(|text| String::from_utf8(text).ok()?.parse().ok());
        if let Some(context) = &self.context {
            context.tracker_id.set(self.tracker_id);
        }
        let heads = history.heads().await?;
        for (name, head) in &heads {
            let me = self.device;
            if let Some(channel) = self.channel_mut(name) {
                channel.lamport = channel.lamport.max(head.lamport);
                if head.device == me {
                    channel.head = Some(head.clone());
                }
            }
        }
        self.node.handle_heads(heads);
        if let Some(tracker_id) = self.tracker_id {
            self.load_rosters(&tracker_id).await?;
        }
        for (device, addresses) in self.load_setting::<DeviceId, Vec<SocketAddr>>(ADDRESSES).await? {
            let addresses = addresses.into_iter().filter(is_dialable).collect();
            self.people.handle_known_addresses(&device, addresses);
        }
        for (name, text) in self.load_setting::<ChannelName, EnvelopeText>(UNRESOLVED).await? {
            let sealed = Sealed::open(text.envelope.as_bytes(), text.signature).ok();
            if let Some(channel) = self.channel_mut(&name) {
                channel.unresolved = sealed.filter(|sealed| sealed.envelope().channel == name);
                if channel.unresolved.is_some() && !channel.is_joined() {
                    channel.standing = Standing::Wanted;
                }
            }
        }
        for (name, mut texts) in self.load_setting::<ChannelName, VecDeque<Waiting>>(WAITING).await? {
            self.leave_out_said(&name, &mut texts).await?;
            if let Some(channel) = self.channel_mut(&name).filter(|_| !texts.is_empty()) {
                channel.waiting = texts;
                if !channel.is_joined() {
                    channel.standing = Standing::Wanted;
                }
            }
        }
        self.load_read_marks().await
    }

    /// Takes out what was put into envelopes just before the last run ended, so that nothing is said twice.
    async fn leave_out_said(&self, name: &ChannelName, texts: &mut VecDeque<Waiting>) -> Result<(), StoreError> {
        let heads = self.history.heads().await?;
        let own = heads.into_iter().find(|(channel, head)| channel == name && head.device == self.device);
        let Some((_, head)) = own else { return Ok(()) };
        let from_n = head.n.saturating_sub(WAITING_MAX as u64).max(1);
        let newest = self.history.chain(name, &self.device, from_n, WAITING_MAX + 1).await?;
        texts.retain(|waiting| {
            !newest.iter().any(|sealed| {
                let envelope = sealed.envelope();
                envelope.sent_at_ms == waiting.said_at_ms && envelope.body.text() == Some(&waiting.text)
            })
        });
        Ok(())
    }

    /// Keeps on disk what waits in a channel that is not ready, as it is now.
    pub(super) async fn keep_waiting(&self, name: &ChannelName) {
        let Some(channel) = self.channels.get(name) else { return };
        let value = if channel.waiting.is_empty() {
            Vec::new()
        } else {
            serde_json::to_vec(&channel.waiting).expect("text always serialises")
        };
        if let Err(error) = self.history.put(&format!("{WAITING}{name}"), value).await {
            tracing::warn!(%error, "what waits is not kept");
        }
    }

    async fn load_rosters(&mut self, tracker_id: &TrackerId) -> Result<(), StoreError> {
        for (_, text) in self.load_setting::<ChannelName, RosterText>(ROSTERS).await? {
            match SignedRoster::open(text.roster.as_bytes(), text.signature, tracker_id) {
                Ok(roster) => self.take_roster(roster),
                Err(error) => tracing::warn!(%error, "a cached roster is not believed"),
            }
        }
        Ok(())
    }

    async fn load_read_marks(&mut self) -> Result<(), StoreError> {
        let marks: HashMap<_, _> = self.load_setting::<ChannelName, OrderKey>(READ_MARKS).await?.into_iter().collect();
        let names: Vec<ChannelName> = self.channels.keys().cloned().collect();
        for name in names {
            let newest = self.history.timeline(&name, None, UNREAD_LOOKED_AT).await?;
            let cursor = self.history.cursor(&name).await?;
            let mark = marks.get(&name).copied();
            let unread = newest.iter().filter(|entry| {
                let envelope = entry.sealed.envelope();
                let is_new = mark.is_none_or(|mark| entry.order_key() > mark);
                is_new && envelope.author != self.user && envelope.body.text().is_some()
            });
            let unread = unread.count() as u64;
            if let Some(channel) = self.channel_mut(&name) {
                (channel.read, channel.unread) = (mark, unread);
                (channel.cursor, channel.heard) = (cursor, cursor);
            }
        }
        Ok(())
    }

    /// All settings of a kind that can be read; others are passed over, an empty one means none.
    async fn load_setting<K: std::str::FromStr, V: DeserializeOwned>(
        &self,
        prefix: &str,
    ) -> Result<Vec<(K, V)>, StoreError> {
        let settings = self.history.list(prefix).await?.into_iter();
        let readable = settings.filter_map(|(key, value)| {
            let key = key.strip_prefix(prefix)?.parse().ok()?;
            Some((key, serde_json::from_slice(&value).ok()?))
        });
        Ok(readable.collect())
    }

    /// Believes a verified roster, unless a newer one is held. Tells the protocol and the people.
    pub(super) fn take_roster(&mut self, roster: SignedRoster) {
        let (me, now_ms) = (self.user.clone(), self.now_ms());
        let name = roster.roster().channel.clone();
        let member = is_member(&roster, &me) && roster.roster().allows(&self.device).is_some();
        let online = self.online == Some(true);
        let Some(channel) = self.channel_mut(&name) else { return };
        let held = channel.roster.as_ref().map_or(0, |held| held.roster().version);
        if held > roster.roster().version {
            return;
        }
        let was_joined = channel.is_joined();
        channel.standing = match (member, channel.standing) {
            (true, _) => Standing::Joined,
            (false, Standing::Joined) => Standing::Outside,
            (false, before) => before,
        };
        channel.log_first |= online && member && !was_joined && channel.head.is_none();
        channel.roster = Some(roster.clone());
        if member {
            for (user, device) in roster.roster().devices() {
                self.people.handle_member(user, device.device, device.hosted, now_ms);
            }
            self.node.handle_roster(roster, now_ms);
        } else if was_joined {
            self.node.handle_channel_lost(&name, now_ms);
        }
        self.forget_strangers();
    }

    /// Lets go of devices that no roster of a joined channel has any more.
    pub(super) fn forget_strangers(&mut self) {
        let joined = self.channels.values().filter(|channel: &&Channel| channel.is_joined());
        let rosters = joined.filter_map(|channel| channel.roster.as_ref());
        let members: std::collections::HashSet<DeviceId> =
            rosters.flat_map(|roster| roster.roster().devices().map(|(_, device)| device.device)).collect();
        self.people.retain_members(|device| members.contains(device));
    }
}
