//! What the tasks around the core bring, and what is due by the clock.

use std::net::SocketAddr;
use std::rc::Rc;

use chat::client::Notice;
use chat::{ChannelName, DeviceId, TrackerId};
use p2p::LinkId;
use tokio::sync::mpsc;

use super::startup::ADDRESSES;
use super::{Core, Link};
use crate::PeerError;
use crate::backoff::dice;
use crate::channel::{Channel, Standing};
use crate::event::Event;
use crate::link::Authenticated;
use crate::membership::{self, Intent};
use crate::people::{Linked, replaces};
use crate::socket::{self, Unwritten, WRITES_MAX};
use crate::sync::Context;
use crate::wire::{ChannelEntry, PeerEntry};

/// The tracker's list of devices is asked for again after this long.
const PEERS_EVERY_MS: u64 = 30_000;
/// And not more often than this, whatever happens.
const PEERS_PAUSE_MS: u64 = 300;

impl Core {
    /// Takes events in order. What the tracker's log says in a row is stored in one write.
    pub(super) async fn handle_events(&mut self, events: Vec<Event>) {
        let mut logged = Vec::new();
        for event in events {
            if let Event::Logged(view) = event {
                logged.push(*view);
                continue;
            }
            if !logged.is_empty() && !matches!(event, Event::Bytes { .. }) {
                self.take_log(std::mem::take(&mut logged)).await;
            }
            self.handle_event(event).await;
        }
        if !logged.is_empty() {
            self.take_log(logged).await;
        }
    }

    async fn handle_event(&mut self, event: Event) {
        match event {
            Event::Connected { stream, path, address, dialled, asked } => {
                let linked = Linked { link: self.new_link(), path, address, dialled, since_ms: self.now_ms() };
                self.handle_connected(stream, linked, asked);
            }
            Event::DialFailed { device, why } => {
                tracing::debug!(?device, why, "no link");
                self.people.handle_dial_ended(&device, self.now_ms(), dice());
            }
            Event::ConnectFailed { address, why } => {
                self.trouble(format!("no link with {address}: {why}"), "is a peer listening there?");
            }
            Event::Bytes { link, bytes } => self.node.handle_bytes(link, &bytes, self.now_ms()),
            Event::LinkLost { link } => {
                self.drop_link(link);
                self.node.handle_link_down(link, self.now_ms());
            }
            Event::RelayOffered { token } => self.accept_relay(token),
            Event::Trouble { what, hint } => self.trouble(what, hint),
            other => self.handle_tracker_event(other).await,
        }
    }

    async fn handle_tracker_event(&mut self, event: Event) {
        match event {
            Event::Online { tracker } => self.handle_online(tracker),
            Event::Offline { detail } => {
                self.handle_offline(detail);
                self.speak_without_log().await;
            }
            Event::Refused { detail } => {
                self.handle_refused(detail);
                self.speak_without_log().await;
            }
            Event::Presence(entry) => {
                self.peer_list.retain(|known| known.device != entry.device);
                self.peer_list.push(entry.clone());
                self.peers_wanted |= entry.online && entry.addresses.is_empty();
                self.handle_presence(&entry, false).await;
            }
            Event::PeerList(entries) => {
                self.peer_list = entries;
                self.apply_peer_list().await;
            }
            Event::ChannelList(entries) => self.handle_channel_list(&entries),
            Event::RosterChanged { channel } => self.fetch_roster(channel),
            Event::Roster(roster) => self.keep_roster(roster).await,
            Event::ShutOut { channel } => self.handle_shut_out(&channel).await,
            Event::Fetched { channel, messages, reply } => self.handle_fetched(channel, messages, reply).await,
            Event::Sequenced { channel, numbers, reply } => self.handle_sequenced(&channel, numbers, reply).await,
            Event::Synced { channel } => {
                self.handle_synced(&channel);
                self.speak(&channel).await;
            }
            Event::LogRefused { channel } => self.speak(&channel).await,
            Event::Seal { channel, body, reply } => self.seal_change(channel, body, reply).await,
            Event::Changed { channel, sealed, outcome, reply } => {
                self.resolve_change(&channel, &sealed, outcome, reply).await;
            }
            Event::ChangeEnded { channel, hopeless } => self.handle_change_ended(&channel, hopeless).await,
            _ => {} // taken by `handle_event`
        }
    }

    /// Nothing more is to be learned from a channel's log: what waited for it goes out.
    async fn speak(&mut self, name: &ChannelName) {
        if let Some(channel) = self.channels.get_mut(name)
            && std::mem::take(&mut channel.log_first)
        {
            self.write_waiting(name).await;
            self.want_sync_after(name, 0);
        }
    }

    /// The tracker is away, and with it its log: peers are spoken to all the same.
    async fn speak_without_log(&mut self) {
        let held_up = self.channels.iter().filter(|(_, channel)| channel.log_first);
        let names: Vec<ChannelName> = held_up.map(|(name, _)| name.clone()).collect();
        for name in names {
            self.speak(&name).await;
        }
    }

    async fn handle_shut_out(&mut self, name: &ChannelName) {
        if self.channels.get(name).is_some_and(Channel::is_joined) {
            self.leave(name).await;
            self.trouble(format!("you are no longer in {name}"), "somebody in it has to invite you");
        }
    }

    fn new_link(&mut self) -> LinkId {
        let link = LinkId(self.next_link);
        self.next_link += 1;
        link
    }

    /// Somebody's device is there. Of two links with one device, both ends keep the same one.
    fn handle_connected(&mut self, stream: Authenticated, linked: Linked, asked: bool) {
        let device = stream.device;
        let old = self.people.get(&device).and_then(|person| person.link);
        if let Some(old) = old {
            if !replaces(self.device, device, &old, &linked) {
                return self.people.handle_dial_ended(&device, self.now_ms(), dice());
            }
            self.links.remove(&old.link);
            self.node.handle_link_down(old.link, self.now_ms());
        }
        let (writes, waiting) = mpsc::channel(WRITES_MAX);
        let unwritten = Rc::new(Unwritten::default());
        let link = linked.link;
        self.links.insert(link, Link { device, path: linked.path, writes, unwritten: unwritten.clone(), asked });
        self.people.handle_link(device, linked);
        self.link_tasks.spawn_local(socket::drive(link, stream.stream, waiting, unwritten, self.events.clone()));
        self.node.handle_link_up(link, device, self.now_ms());
    }

    fn accept_relay(&mut self, token: String) {
        if let Some(context) = &self.context {
            let (tracker, tls, events) = (context.tracker.clone(), self.tls.clone(), self.events.clone());
            self.tasks.spawn_local(socket::accept_relay(token, tracker, tls, events));
        }
    }

    fn handle_online(&mut self, tracker: TrackerId) {
        let Some(context) = self.context.clone() else { return };
        self.tracker_id = Some(tracker);
        context.tracker_id.set(Some(tracker));
        context.online.set(true);
        self.online = Some(true);
        self.people.handle_tracker(true, self.now_ms());
        self.tell(Notice::Tracker { online: true, detail: "connected".to_owned() });
        self.peers_wanted = true;
        let names: Vec<ChannelName> = self.channels.keys().cloned().collect();
        for name in names {
            self.resume(name);
        }
        let events = self.events.clone();
        self.tasks.spawn_local(async move {
            if let Ok(channels) = context.tracker.channels().await {
                let _ = events.send(Event::ChannelList(channels)).await;
            }
        });
    }

    /// Takes up in a channel what the tracker's absence interrupted.
    fn resume(&mut self, name: ChannelName) {
        let (Some(context), Some(channel)) = (self.context.clone(), self.channels.get_mut(&name)) else { return };
        if channel.changing {
            return;
        }
        if let Some(sealed) = channel.unresolved.clone() {
            channel.changing = true;
            self.tasks.spawn_local(membership::resume(context, name, sealed));
        } else if channel.is_joined() {
            context.want_sync(&name);
            self.fetch_roster(name);
        } else if channel.standing == Standing::Wanted {
            self.join_wanted(name);
        }
    }

    fn handle_offline(&mut self, detail: String) {
        if let Some(context) = &self.context {
            context.online.set(false);
        }
        if self.online == Some(false) {
            return;
        }
        self.online = Some(false);
        self.peer_list.clear();
        let gone = self.people.handle_tracker(false, self.now_ms());
        self.tell(Notice::Tracker { online: false, detail });
        for device in gone {
            self.tell_presence(&device);
        }
        let waiting: usize = self.channels.values().map(|channel| channel.waiting.len()).sum();
        if waiting > 0 {
            self.trouble(
                format!("{waiting} messages wait for the tracker"),
                "they go out when it is back, also after a restart",
            );
        }
    }

    /// The tracker does not take this user. Whoever has channels already can go on talking to peers; others cannot.
    fn handle_refused(&mut self, detail: String) {
        if self.channels.values().any(Channel::is_joined) {
            let was_told = self.online == Some(false);
            self.handle_offline(detail.clone());
            if !was_told {
                self.trouble(format!("the tracker refuses this device: {detail}"), "peers are still reached directly");
            }
        } else {
            self.failure = Some(PeerError::Refused { user: self.user.to_string(), detail });
        }
    }

    async fn handle_presence(&mut self, entry: &PeerEntry, listed: bool) {
        if entry.device == self.device {
            return;
        }
        let addresses = entry.sockets();
        let news = self.people.handle_presence(entry.device, entry.online, addresses.clone(), self.now_ms());
        if listed {
            self.people.handle_listed(&entry.device);
        }
        if news.presence {
            self.tell_presence(&entry.device);
        }
        if news.addresses {
            self.keep_addresses(&entry.device, &addresses).await;
        }
    }

    /// Takes in what the tracker's last list says of devices; those that no roster had then may be known by now.
    pub(super) async fn apply_peer_list(&mut self) {
        let entries = std::mem::take(&mut self.peer_list);
        for entry in &entries {
            self.handle_presence(entry, true).await;
        }
        self.peer_list = entries;
    }

    /// Keeps addresses, so that links can be made again while the tracker is away.
    async fn keep_addresses(&mut self, device: &DeviceId, addresses: &[SocketAddr]) {
        let value = serde_json::to_vec(addresses).expect("addresses always serialise");
        if let Err(error) = self.history.put(&format!("{ADDRESSES}{device}"), value).await {
            tracing::warn!(%error, "addresses are not kept");
        }
    }

    fn handle_channel_list(&mut self, entries: &[ChannelEntry]) {
        for entry in entries {
            let Some(channel) = self.channel_mut(&entry.name) else { break };
            channel.visibility = Some(entry.visibility);
            channel.members_listed = entry.members().max(1);
            if entry.member && !channel.is_joined() && !channel.changing {
                self.fetch_roster(entry.name.clone());
            }
        }
        self.tell_channels();
    }

    async fn handle_change_ended(&mut self, name: &ChannelName, hopeless: bool) {
        let Some(channel) = self.channels.get_mut(name) else { return };
        channel.changing = false;
        if channel.is_joined() {
            self.write_waiting(name).await;
            if let Some(context) = &self.context {
                context.want_sync(name);
            }
        } else if hopeless || channel.standing == Standing::Outside {
            channel.standing = Standing::Outside;
            channel.intents.retain(|intent| !matches!(intent, Intent::Change(_)));
            let lost = std::mem::take(&mut channel.waiting).len();
            if lost > 0 {
                self.keep_waiting(name).await;
                self.trouble(format!("{lost} messages for {name} were not sent"), "say them again in another channel");
            }
        }
        let next = self.channels.get_mut(name).and_then(|channel| channel.intents.pop_front());
        if let Some(next) = next {
            self.carry_out(name.clone(), next);
        }
    }

    /// Does what is due.
    pub(super) fn handle_time(&mut self) {
        let now_ms = self.now_ms();
        if self.node.poll_timeout().is_some_and(|at_ms| at_ms <= now_ms) {
            self.node.handle_timeout(now_ms);
        }
        for device in self.people.take_due(now_ms) {
            self.dial(device);
        }
        let Some(context) = self.context.clone().filter(|context| context.online.get()) else { return };
        self.start_due_syncs(&context, now_ms);
        for (name, seq) in std::mem::take(&mut self.reads_to_tell) {
            let context = context.clone();
            self.tasks.spawn_local(async move {
                let _ = context.tracker.mark_read(&name, seq).await; // only other devices of this user miss it
            });
        }
        if now_ms >= self.peers_at_ms
            || (self.peers_wanted && now_ms + PEERS_EVERY_MS >= self.peers_at_ms + PEERS_PAUSE_MS)
        {
            self.peers_wanted = false;
            self.peers_at_ms = now_ms + PEERS_EVERY_MS;
            let events = self.events.clone();
            self.tasks.spawn_local(async move {
                if let Ok(peers) = context.tracker.peers().await {
                    let _ = events.send(Event::PeerList(peers)).await;
                }
            });
        }
    }

    fn start_due_syncs(&mut self, context: &Context, now_ms: u64) {
        if self.next_sync_ms > now_ms {
            return;
        }
        for (name, channel) in &mut self.channels {
            if channel.sync_at_ms.take_if(|at_ms| *at_ms <= now_ms).is_some() {
                context.want_sync(name);
            }
        }
        self.next_sync_ms = self.channels.values().filter_map(|channel| channel.sync_at_ms).min().unwrap_or(u64::MAX);
    }

    fn dial(&mut self, device: DeviceId) {
        let Some(person) = self.people.get(&device) else { return };
        let addresses = person.addresses.clone();
        let relay = self.context.as_ref().filter(|_| self.people.may_relay(&device));
        let relay = relay.map(|context| context.tracker.clone());
        self.tasks.spawn_local(socket::dial(device, addresses, relay, self.tls.clone(), self.events.clone()));
    }
}
