//! Which channels are open on which links: those whose roster, on both sides, has both devices in it.

use super::{Channel, Node};
use crate::frame::Frame;
use crate::limits::{CHANNELS_PER_LINK_MAX, FRAME_BYTES_MAX};
use crate::output::{LinkId, Output, Reason};
use chat::{ChannelName, DeviceId, Signature, SignedRoster};

/// Type byte and signature, which stand before a roster in its frame.
const ROSTER_FRAME_OVERHEAD: usize = 65;

impl Channel {
    /// Version of the roster, 0 without one.
    fn version(&self) -> u64 {
        self.roster.as_ref().map_or(0, |roster| roster.roster().version)
    }

    /// Whether the roster has both devices in it.
    fn allows(&self, one: &DeviceId, other: &DeviceId) -> bool {
        self.devices.contains_key(one) && self.devices.contains_key(other)
    }
}

impl Node {
    pub(super) fn shares_channel_with(&self, remote: &DeviceId) -> bool {
        self.channels.values().any(|channel| channel.allows(&self.device, remote))
    }

    /// Opens, on a new link, every channel that the rosters allow.
    pub(super) fn open_channels(&mut self, link: LinkId, now_ms: u64) {
        let names: Vec<_> = self.channels.keys().cloned().collect();
        for name in names {
            self.open_or_shut(link, &name, now_ms);
        }
    }

    pub(super) fn replace_roster(&mut self, signed: SignedRoster, now_ms: u64) {
        let roster = signed.roster();
        let name = roster.channel.clone();
        let channel = self.channels.entry(name.clone()).or_default();
        if roster.version <= channel.version() {
            return;
        }
        channel.devices = roster.devices().map(|(user, device)| (device.device, user.clone())).collect();
        channel.roster = Some(signed);
        // what waits for the storage from a device that is out now was sent while it was in: it stays
        for link in self.link_ids() {
            self.open_or_shut(link, &name, now_ms);
        }
        self.close_strangers();
    }

    pub(super) fn drop_roster(&mut self, name: &ChannelName, now_ms: u64) {
        let Some(channel) = self.channels.get_mut(name) else { return };
        channel.roster = None;
        channel.devices.clear();
        for link in self.link_ids() {
            self.open_or_shut(link, name, now_ms);
        }
        self.close_strangers();
    }

    /// Says to the other side of a link what the roster says now, if that is news to it.
    fn open_or_shut(&mut self, link: LinkId, name: &ChannelName, now_ms: u64) {
        let (Some(channel), Some(state)) = (self.channels.get(name), self.links.get_mut(&link)) else { return };
        let version = channel.version();
        let allowed = channel.allows(&self.device, &state.remote);
        let opened = state.channels.values().filter(|said| said.ours.is_some()).count();
        let said = state.channels.entry(name.clone()).or_default();
        let before = said.ours;
        if allowed && before != Some(version) && (before.is_some() || opened < CHANNELS_PER_LINK_MAX) {
            said.ours = Some(version);
            self.send(link, &Frame::Open { channel: name.clone(), version });
            self.mark_all(link, name, now_ms);
        } else if !allowed && before.is_some() {
            said.ours = None;
            self.send(link, &Frame::Shut { channel: name.clone() });
            self.leave_channel(link, name);
        }
        self.tidy_channel(link, name);
    }

    /// Drops the entry of a channel that neither side has opened.
    fn tidy_channel(&mut self, link: LinkId, name: &ChannelName) {
        let Some(state) = self.links.get_mut(&link) else { return };
        if state.channels.get(name).is_some_and(|said| said.ours.is_none() && said.theirs.is_none()) {
            state.channels.remove(name);
        }
    }

    fn leave_channel(&mut self, link: LinkId, name: &ChannelName) {
        if let Some(state) = self.links.get_mut(&link) {
            state.forget_chains(name);
        }
        let given_up: Vec<_> = self
            .asks
            .iter()
            .filter(|(chain, ask)| ask.link == link && chain.0 == *name)
            .map(|(chain, _)| chain.clone())
            .collect();
        for chain in given_up {
            self.end_ask(&chain);
        }
    }

    /// Closes links with devices that no roster has together with this one any more.
    fn close_strangers(&mut self) {
        for link in self.link_ids() {
            let Some(state) = self.links.get(&link) else { continue };
            if !self.shares_channel_with(&state.remote) {
                self.close(link, Reason::UnknownDevice);
            }
        }
    }

    pub(super) fn handle_open(
        &mut self,
        link: LinkId,
        name: &ChannelName,
        version: u64,
        now_ms: u64,
    ) -> Result<(), Reason> {
        let mine = self.channels.get(name).map_or(0, Channel::version);
        let Some(state) = self.links.get_mut(&link) else { return Ok(()) };
        let opened = state.channels.values().filter(|said| said.theirs.is_some()).count();
        let said = state.channels.entry(name.clone()).or_default();
        if said.theirs.is_none() && opened >= CHANNELS_PER_LINK_MAX {
            return Err(Reason::Flooded("channels"));
        }
        said.theirs = Some(version);
        let ask = version > mine && version > said.asked_version;
        if ask {
            said.asked_version = version;
            state.rosters_asked += 1;
            self.send(link, &Frame::WantRoster { channel: name.clone() });
        }
        self.mark_all(link, name, now_ms);
        Ok(())
    }

    pub(super) fn handle_shut(&mut self, link: LinkId, name: &ChannelName) {
        let Some(state) = self.links.get_mut(&link) else { return };
        if let Some(said) = state.channels.get_mut(name) {
            said.theirs = None;
            self.leave_channel(link, name);
            self.tidy_channel(link, name);
        }
    }

    pub(super) fn handle_want_roster(&mut self, link: LinkId, name: &ChannelName) {
        let Some(roster) = self.channels.get(name).and_then(|channel| channel.roster.clone()) else { return };
        let Some(state) = self.links.get_mut(&link) else { return };
        let Some(said) = state.channels.get_mut(name).filter(|said| said.ours.is_some()) else { return };
        let version = roster.roster().version;
        // once per version, so that asking again and again is of no use to anybody
        if said.handed_version < version && roster.bytes().len() + ROSTER_FRAME_OVERHEAD <= FRAME_BYTES_MAX {
            said.handed_version = version;
            self.send(link, &Frame::Roster { signature: roster.signature(), bytes: roster.bytes().to_vec() });
        }
    }

    pub(super) fn handle_roster_frame(
        &mut self,
        link: LinkId,
        signature: Signature,
        bytes: Vec<u8>,
    ) -> Result<(), Reason> {
        let Some(state) = self.links.get_mut(&link) else { return Ok(()) };
        state.rosters_asked =
            state.rosters_asked.checked_sub(1).ok_or(Reason::Protocol("a roster that nobody asked for"))?;
        self.outputs.push_back(Output::Roster { link, bytes, signature });
        Ok(())
    }

    /// Has all marks of a channel told, once both sides have opened it. Told again whenever either side has a new roster,
    /// because what was told of devices that were not in the old one was ignored.
    fn mark_all(&mut self, link: LinkId, name: &ChannelName, now_ms: u64) {
        let (Some(channel), Some(state)) = (self.channels.get(name), self.links.get_mut(&link)) else { return };
        if !state.is_open(name) {
            return;
        }
        for device in channel.devices.keys() {
            if let Some(side) = state.side(name, *device) {
                side.told = 0;
                state.news.insert((name.clone(), *device));
            }
        }
        state.announce_at_ms = Some(now_ms);
        self.announce(link, now_ms);
    }
}
