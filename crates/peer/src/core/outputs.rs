//! What the protocol wants done: bytes written, envelopes stored and read, news told.

use bytes::Bytes;
use chat::client::Notice;
use chat::{AppendError, Arrival, ChannelName, DeviceId, Inserted, SignedRoster, StoreError};
use p2p::{Arrived, LinkId, Output, Reason};

use super::{Core, unix_ms};
use crate::backoff::dice;
use crate::channel::Channel;
use crate::membership::{self, is_member};

/// How long others' messages are left to their authors to hand to the tracker.
const HAND_OVER_DELAY_MS: u64 = 3000;
/// Direct channels prepared for one channel: in larger ones nobody writes to everybody.
const DIRECT_PREPARED_MAX: usize = 64;
/// Forks told to the user; each is somebody's copied key.
const FORKS_TOLD_MAX: usize = 10;

impl Core {
    /// Does all that the protocol asks for.
    pub(super) async fn carry_out_outputs(&mut self) {
        while let Some(output) = self.node.poll_output() {
            match output {
                Output::Send { link, bytes } => self.send(link, bytes.into()),
                Output::Store { arrivals } => self.store(arrivals).await,
                Output::Read { link, channel, device, from_n, limit } => {
                    let sealed = self.history.chain(&channel, &device, from_n, limit).await;
                    self.node.handle_read(link, sealed, self.now_ms());
                }
                Output::Acknowledged { channel, n, by, .. } => {
                    if let Err(error) = self.note_acknowledged(&channel, n, by).await {
                        tracing::warn!(%error, "an acknowledgement is not kept");
                    }
                }
                Output::Roster { bytes, signature, .. } => {
                    let opened = self.tracker_id.map(|id| SignedRoster::open(&bytes, signature, &id));
                    if let Some(Ok(roster)) = opened {
                        self.keep_roster(roster).await;
                    }
                }
                Output::Typing { channel, user, .. } => self.tell(Notice::Typing { channel, user }),
                Output::Ready { link, device } => self.handle_ready(link, device),
                Output::Forked { channel, device, .. } => self.tell_fork(&channel, &device),
                Output::Close { link, reason } => self.close(link, &reason),
            }
        }
    }

    fn send(&mut self, link: LinkId, bytes: Bytes) {
        let Some(known) = self.links.get(&link) else { return };
        known.unwritten.add(bytes.len());
        if known.writes.try_send(bytes).is_err() {
            // so slow that even the protocol's window overflows the queue, or gone already
            self.drop_link(link);
            self.node.handle_link_down(link, self.now_ms());
        }
    }

    /// Stores what came over links, then shows it.
    async fn store(&mut self, arrivals: Vec<Arrived>) {
        let received_at_ms = unix_ms();
        let path_of = |link| self.links.get(&link).map_or(chat::Path::Direct, |link| link.path);
        let arrivals: Vec<Arrival> = arrivals
            .into_iter()
            .map(|Arrived { link, sealed }| Arrival { path: path_of(link), sealed, received_at_ms })
            .collect();
        let results = self.history.insert(arrivals.clone()).await;
        match &results {
            Ok(results) => self.note_stored(&arrivals, results),
            Err(error) => self.trouble(format!("what peers sent could not be stored: {error}"), "check the disk"),
        }
        self.node.handle_stored(results, self.now_ms());
    }

    fn note_stored(&mut self, arrivals: &[Arrival], results: &[Result<Inserted, AppendError>]) {
        for (arrival, result) in arrivals.iter().zip(results) {
            if !matches!(result, Ok(Inserted::New)) {
                continue;
            }
            let me = self.device;
            let name = &arrival.sealed.envelope().channel;
            if let Some(channel) = self.channel_mut(name) {
                channel.handle_held(&arrival.sealed, &me);
            }
            self.want_sync_after(name, HAND_OVER_DELAY_MS);
            self.tell_new(&arrival.sealed, None, arrival.path, arrival.received_at_ms);
        }
    }

    /// Notes who holds the own messages up to number `n`.
    async fn note_acknowledged(&mut self, name: &ChannelName, n: u64, by: DeviceId) -> Result<(), StoreError> {
        self.history.acknowledge(name, &self.device, n, by).await?;
        let delivered = self.channels.get_mut(name).map(|channel| channel.handle_acknowledged(n, by));
        if !self.channels.get(name).is_some_and(|channel| channel.is_device_of(&by, &self.user)) {
            for id in delivered.unwrap_or_default() {
                self.tell_state(name, id);
            }
        }
        if self.all_linked_have_all(name) {
            self.want_sync_after(name, 0);
        }
        Ok(())
    }

    /// Whether every linked member of a channel has acknowledged everything that was said here, and something waits to be
    /// handed to the tracker.
    fn all_linked_have_all(&self, name: &ChannelName) -> bool {
        let Some(channel) = self.channels.get(name).filter(|channel| channel.sync_at_ms.is_some()) else {
            return false;
        };
        let mut linked = self.links.values().map(|link| &link.device).filter(|device| channel.has_member(device));
        linked.all(|device| channel.has_all(device))
    }

    fn handle_ready(&mut self, link: LinkId, device: DeviceId) {
        tracing::debug!(link = link.0, ?device, "link works");
        self.people.handle_link_ready(&device);
        self.tell_presence(&device);
    }

    fn tell_fork(&mut self, channel: &ChannelName, device: &DeviceId) {
        self.forks_told += 1;
        if self.forks_told <= FORKS_TOLD_MAX {
            let user = self.people.get(device).map_or_else(|| device.to_string(), |person| person.user.to_string());
            let what = format!("{channel}: a device of {user} has signed two different histories");
            self.trouble(what, "its key was copied: they should use a new device, only the history seen first is kept");
        }
    }

    /// The protocol is done with a link: what waits is still written.
    fn close(&mut self, link: LinkId, reason: &Reason) {
        let asked = self.links.get(&link).is_some_and(|link| link.asked);
        tracing::debug!(link = link.0, %reason, "link closed");
        if asked && !matches!(reason, Reason::Stopping) {
            self.trouble(format!("no link there: {reason}"), "only members of a common channel are linked");
        }
        self.drop_link(link);
    }

    /// Forgets a link; its task ends by itself once the last words are written.
    pub(super) fn drop_link(&mut self, link: LinkId) {
        let Some(known) = self.links.remove(&link) else { return };
        if self.people.handle_link_lost(&known.device, link, self.now_ms(), dice()) {
            self.tell_presence(&known.device);
        }
    }

    /// Believes a roster and keeps it for the time when the tracker is away.
    pub(super) async fn keep_roster(&mut self, roster: SignedRoster) {
        let name = roster.roster().channel.clone();
        let joined = self.channels.get(&name).is_some_and(Channel::is_joined);
        if !joined && !is_member(&roster, &self.user) {
            return; // none of our business
        }
        let held = self.channels.get(&name).and_then(|channel| channel.roster.as_ref());
        if held.is_some_and(|held| held.bytes() == roster.bytes()) {
            return self.write_waiting(&name).await;
        }
        self.take_roster(roster.clone());
        let text = crate::wire::RosterText { roster: roster.text().to_owned(), signature: roster.signature() };
        let value = serde_json::to_vec(&text).expect("text always serialises");
        if let Err(error) = self.history.put(&format!("{}{name}", super::startup::ROSTERS), value).await {
            tracing::warn!(%error, "a roster is not kept");
        }
        self.write_waiting(&name).await;
        if let Some(context) = self.context.as_ref().filter(|_| !joined) {
            context.want_sync(&name);
        }
        if self.channels.get(&name).is_some_and(|channel| channel.is_listed(&name)) {
            self.tell_channels();
        }
        self.prepare_direct_channels(&name);
        self.apply_peer_list().await;
        self.peers_wanted = true;
    }

    /// Fetches the rosters of the direct channels with those in a channel, so that its members can write to each other
    /// alone also when the tracker is away before they ever did.
    fn prepare_direct_channels(&mut self, name: &ChannelName) {
        let Some(context) = self.context.clone().filter(|context| context.online.get() && !name.is_direct()) else {
            return;
        };
        let Some(roster) = self.channels.get(name).and_then(|channel| channel.roster.clone()) else { return };
        let others = roster.roster().members.iter().map(|member| &member.user);
        let direct = others.filter_map(|other| ChannelName::direct(&self.user, other).ok());
        let missing = direct.filter(|name| self.channels.get(name).is_none_or(|channel| channel.roster.is_none()));
        let missing: Vec<ChannelName> = missing.take(DIRECT_PREPARED_MAX).collect();
        self.tasks.spawn_local(async move {
            for name in missing {
                membership::fetch_roster(context.clone(), name).await;
            }
        });
    }
}
