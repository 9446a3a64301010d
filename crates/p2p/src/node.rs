//! All links of one device.
//!
//! This file holds the state and what comes in from the program around; what comes in from links is in the files below:
//! `channels` opens and shuts channels by roster, `sync` brings chains level, `clock` keeps the deadlines.

mod channels;
mod clock;
mod sync;

use crate::frame::{Frame, PROTOCOL_VERSION};
use crate::limits::{FRAME_BYTES_MAX, Limits};
use crate::link::{ChainKey, Link};
use crate::output::{Arrived, LinkId, Output, Reason};
use chat::{AppendError, ChannelName, DeviceId, Head, Inserted, Sealed, SignedRoster, StoreError, UserName};
use std::collections::{BTreeMap, VecDeque};

/// The peer protocol of one device, over all its links. Times are milliseconds of any clock that does not run backwards.
///
/// After every `handle_*` call, take the outputs until [`Node::poll_output`] gives `None`, and arrange for
/// [`Node::handle_timeout`] at [`Node::poll_timeout`].
///
/// What a node sends of its own accord is bounded per link by the window; what it answers is bounded by what it is asked.
/// So stop reading from a link while more than [`crate::limits::UNWRITTEN_BYTES_PAUSE`] of its bytes are unwritten, and
/// memory stays bounded whatever the other side does.
#[derive(Debug)]
pub struct Node {
    device: DeviceId,
    limits: Limits,
    channels: BTreeMap<ChannelName, Channel>,
    links: BTreeMap<LinkId, Link>,
    /// Who was asked for the next piece of a chain. One at a time.
    asks: BTreeMap<ChainKey, Ask>,
    /// Verified envelopes that wait for the outstanding store.
    arrivals: VecDeque<Arrived>,
    /// What the outstanding store holds.
    storing: Vec<Arrived>,
    /// Until when nothing is asked for, because the own storage failed.
    storage_retry_at_ms: Option<u64>,
    outputs: VecDeque<Output>,
}

/// What is known of one channel, whoever is linked.
#[derive(Debug, Default)]
struct Channel {
    roster: Option<SignedRoster>,
    /// The roster's devices, for looking up.
    devices: BTreeMap<DeviceId, UserName>,
    chains: BTreeMap<DeviceId, Chain>,
}

/// How far this device is in one chain.
#[derive(Debug, Default, Clone, Copy)]
struct Chain {
    /// Durable up to here.
    held: u64,
    /// On its way into the storage up to here; never below `held`.
    storing: u64,
}

/// A want that was sent.
#[derive(Debug, Clone, Copy)]
struct Ask {
    link: LinkId,
    from_n: u64,
    deadline_ms: u64,
    /// Whether it brought an envelope that continues the chain.
    brought: bool,
}

impl Node {
    /// A node that holds nothing and knows nobody. Tell it what the history holds by [`Node::handle_heads`] and the
    /// rosters by [`Node::handle_roster`] before the first link.
    pub fn new(device: DeviceId, limits: Limits) -> Self {
        Self {
            device,
            limits,
            channels: BTreeMap::new(),
            links: BTreeMap::new(),
            asks: BTreeMap::new(),
            arrivals: VecDeque::new(),
            storing: Vec::new(),
            storage_retry_at_ms: None,
            outputs: VecDeque::new(),
        }
    }

    /// What the history holds durably.
    pub fn handle_heads(&mut self, heads: Vec<(ChannelName, Head)>) {
        for (channel, head) in heads {
            self.chain_mut(&channel, head.device).hold(head.n);
        }
    }

    /// A roster that was opened with the tracker's id. One that is not newer than what is known is ignored.
    pub fn handle_roster(&mut self, roster: SignedRoster, now_ms: u64) {
        self.replace_roster(roster, now_ms);
        self.ask_all(now_ms);
    }

    /// The channel is no longer this device's business: it was put out, or left.
    pub fn handle_channel_lost(&mut self, channel: &ChannelName, now_ms: u64) {
        self.drop_roster(channel, now_ms);
        self.ask_all(now_ms);
    }

    /// A connection whose other end has proved to be `remote`.
    pub fn handle_link_up(&mut self, link: LinkId, remote: DeviceId, now_ms: u64) {
        let refusal = if remote == self.device {
            Some(Reason::SameDevice)
        } else if self.links.len() >= self.limits.links_max || self.links.contains_key(&link) {
            Some(Reason::TooManyLinks)
        } else if !self.shares_channel_with(&remote) {
            Some(Reason::UnknownDevice)
        } else {
            None
        };
        if let Some(reason) = refusal {
            self.send(link, &Frame::Bye { reason: reason.to_string() });
            self.outputs.push_back(Output::Close { link, reason });
            return;
        }
        let deadline_ms = now_ms.saturating_add(self.limits.hello_timeout_ms);
        self.links.insert(link, Link::new(remote, deadline_ms, now_ms));
        self.send(link, &Frame::Hello { v: PROTOCOL_VERSION, device: self.device });
        self.open_channels(link, now_ms);
    }

    /// Bytes from a link, in order, split anyhow. Bytes of a link that is not up are ignored.
    pub fn handle_bytes(&mut self, link: LinkId, bytes: &[u8], now_ms: u64) {
        let Some(state) = self.links.get_mut(&link) else { return };
        state.heard_ms = now_ms;
        state.pinged = false;
        // in pieces, so that the buffer stays small however much is read at once
        for piece in bytes.chunks(FRAME_BYTES_MAX) {
            let Some(state) = self.links.get_mut(&link) else { break };
            state.buffer.push(piece);
            self.handle_frames(link, now_ms);
        }
        self.store_arrivals();
        self.acknowledge(link);
        self.ask_all(now_ms); // what one link could not give, another may
    }

    /// The connection is gone. Does nothing for a link that [`Output::Close`] closed.
    pub fn handle_link_down(&mut self, link: LinkId, now_ms: u64) {
        self.remove_link(link);
        self.ask_all(now_ms);
    }

    /// An envelope that is durably stored now and did not come from a link: written here, or fetched from the tracker.
    pub fn handle_local(&mut self, sealed: &Sealed, now_ms: u64) {
        let envelope = sealed.envelope();
        let chain = self.chain_mut(&envelope.channel, envelope.device);
        let is_news = envelope.n > chain.held;
        chain.hold(envelope.n);
        if is_news {
            self.spread(sealed, None, now_ms);
        }
    }

    /// The outcome of the outstanding [`Output::Store`], one result per arrival, in order: what
    /// [`chat::History::insert`] gave.
    pub fn handle_stored(&mut self, results: Result<Vec<Result<Inserted, AppendError>>, StoreError>, now_ms: u64) {
        let batch = std::mem::take(&mut self.storing);
        match results {
            Ok(results) => self.settle(batch, &results, now_ms),
            Err(_) => self.unsettle(&batch, now_ms),
        }
        self.store_arrivals();
        for link in self.link_ids() {
            self.acknowledge(link);
        }
        self.ask_all(now_ms);
    }

    /// The outcome of the outstanding [`Output::Read`] of this link: what [`chat::History::chain`] gave.
    pub fn handle_read(&mut self, link: LinkId, sealed: Result<Vec<Sealed>, StoreError>, now_ms: u64) {
        self.give(link, sealed, now_ms);
        self.read_for(link);
    }

    /// The user here is writing in a channel.
    pub fn handle_typing(&mut self, channel: &ChannelName, now_ms: u64) {
        let until_ms = now_ms.saturating_add(self.limits.typing_interval_ms);
        for link in self.link_ids() {
            let Some(state) = self.links.get_mut(&link).filter(|state| state.is_open(channel)) else { continue };
            let Some(said) = state.channels.get_mut(channel) else { continue };
            if said.typing_sent_until_ms <= now_ms {
                said.typing_sent_until_ms = until_ms;
                self.send(link, &Frame::Typing { channel: channel.clone() });
            }
        }
    }

    /// Says goodbye on all links and closes them.
    pub fn handle_stop(&mut self) {
        for link in self.link_ids() {
            self.close(link, Reason::Stopping);
        }
    }

    /// The next thing to do.
    pub fn poll_output(&mut self) -> Option<Output> {
        self.outputs.pop_front()
    }

    /// The links on which both sides have said hello, with the device at the other end.
    pub fn links(&self) -> impl Iterator<Item = (LinkId, DeviceId)> {
        self.links.iter().filter(|(_, link)| link.is_ready()).map(|(id, link)| (*id, link.remote))
    }

    /// The user whose device this is, according to the channel's roster.
    pub fn user_of(&self, channel: &ChannelName, device: &DeviceId) -> Option<&UserName> {
        self.channels.get(channel)?.devices.get(device)
    }

    /// Bytes of envelopes and frames that wait here for something, over all links: bounded by [`crate::limits`].
    pub fn buffered_bytes(&self) -> usize {
        let arrivals = self.arrivals.iter().chain(&self.storing).map(|arrived| arrived.sealed.bytes().len());
        let links = self.links.values().map(|link| link.buffer.len() + link.inbound.bytes() + link.outbound.bytes());
        arrivals.chain(links).sum()
    }

    fn handle_frames(&mut self, link: LinkId, now_ms: u64) {
        while let Some(state) = self.links.get_mut(&link) {
            let handled = match state.buffer.next_frame() {
                Ok(None) => return,
                Ok(Some(frame)) => self.handle_frame(link, frame, now_ms),
                Err(_) => Err(Reason::Protocol("not a frame")),
            };
            if let Err(reason) = handled {
                self.close(link, reason);
            }
        }
    }

    fn handle_frame(&mut self, link: LinkId, frame: Frame, now_ms: u64) -> Result<(), Reason> {
        let Some(state) = self.links.get_mut(&link) else { return Ok(()) };
        match frame {
            Frame::Hello { v, device } => self.handle_hello(link, v, device)?,
            Frame::Bye { reason } => return Err(Reason::Bye(reason)),
            _ if !state.is_ready() => return Err(Reason::Protocol("a frame before hello")),
            Frame::Open { channel, version } => self.handle_open(link, &channel, version, now_ms)?,
            Frame::Shut { channel } => self.handle_shut(link, &channel),
            Frame::WantRoster { channel } => self.handle_want_roster(link, &channel),
            Frame::Roster { signature, bytes } => self.handle_roster_frame(link, signature, bytes)?,
            Frame::Marks { channel, marks } => self.handle_marks(link, &channel, &marks)?,
            Frame::Want { channel, device, from_n, limit } => {
                self.handle_want(link, (channel, device), from_n, limit)?;
            }
            Frame::Deliver { signature, bytes } => self.handle_deliver(link, signature, &bytes, now_ms)?,
            Frame::Given { channel, device, n, held } => self.handle_given(link, &(channel, device), n, held)?,
            Frame::Acknowledge { channel, device, n, taken, known } => {
                self.handle_acknowledge(link, &(channel, device), n, taken, known, now_ms)?;
            }
            Frame::Typing { channel } => self.heed_typing(link, channel, now_ms),
            Frame::Ping => self.send(link, &Frame::Pong),
            Frame::Pong => self.handle_pong(link, now_ms),
            Frame::Unknown => {}
        }
        Ok(())
    }

    fn handle_hello(&mut self, link: LinkId, v: u64, device: DeviceId) -> Result<(), Reason> {
        let Some(state) = self.links.get_mut(&link) else { return Ok(()) };
        if state.is_ready() {
            return Err(Reason::Protocol("a second hello"));
        }
        if v != PROTOCOL_VERSION {
            return Err(Reason::Version(v));
        }
        if device != state.remote {
            return Err(Reason::WrongDevice);
        }
        state.hello_deadline_ms = None;
        self.outputs.push_back(Output::Ready { link, device });
        Ok(())
    }

    fn heed_typing(&mut self, link: LinkId, channel: ChannelName, now_ms: u64) {
        let Some(state) = self.links.get_mut(&link).filter(|state| state.is_open(&channel)) else { return };
        let device = state.remote;
        let Some(said) = state.channels.get_mut(&channel) else { return };
        if said.typing_heeded_until_ms > now_ms {
            return;
        }
        said.typing_heeded_until_ms = now_ms.saturating_add(self.limits.typing_interval_ms);
        if let Some(user) = self.user_of(&channel, &device).cloned() {
            self.outputs.push_back(Output::Typing { channel, user, device });
        }
    }

    /// Queues a frame; several in a row for one link become one output.
    fn send(&mut self, link: LinkId, frame: &Frame) {
        if let Some(Output::Send { link: last, bytes }) = self.outputs.back_mut()
            && *last == link
            && bytes.len() < FRAME_BYTES_MAX
        {
            frame.encode(bytes);
            return;
        }
        self.outputs.push_back(Output::Send { link, bytes: frame.to_bytes() });
    }

    fn close(&mut self, link: LinkId, reason: Reason) {
        if !matches!(reason, Reason::Bye(_)) {
            self.send(link, &Frame::Bye { reason: reason.to_string() });
        }
        self.outputs.push_back(Output::Close { link, reason });
        self.remove_link(link);
    }

    /// Forgets a link and gives up what it was asked for, so that others are asked.
    fn remove_link(&mut self, link: LinkId) {
        if self.links.remove(&link).is_none() {
            return;
        }
        let given_up: Vec<_> =
            self.asks.iter().filter(|(_, ask)| ask.link == link).map(|(chain, _)| chain.clone()).collect();
        for chain in given_up {
            self.end_ask(&chain);
        }
    }

    fn link_ids(&self) -> Vec<LinkId> {
        self.links.keys().copied().collect()
    }

    fn chain(&self, chain: &ChainKey) -> Chain {
        self.channels.get(&chain.0).and_then(|channel| channel.chains.get(&chain.1)).copied().unwrap_or_default()
    }

    fn chain_mut(&mut self, channel: &ChannelName, device: DeviceId) -> &mut Chain {
        self.channels.entry(channel.clone()).or_default().chains.entry(device).or_default()
    }
}

impl Chain {
    /// Notes that the chain is durable up to `n`.
    fn hold(&mut self, n: u64) {
        self.held = self.held.max(n);
        self.storing = self.storing.max(self.held);
    }
}
