//! What a node knows about one link: how far the other side is in every chain, and what is on its way in either
//! direction. Decides nothing; `node` does.

use crate::frame::FrameBuffer;
use chat::{ChannelName, DeviceId};
use std::collections::{BTreeMap, BTreeSet, VecDeque};

/// A chain: whose, and where.
pub(crate) type ChainKey = (ChannelName, DeviceId);

/// One link.
#[derive(Debug)]
pub(crate) struct Link {
    /// The device that the connection proved.
    pub(crate) remote: DeviceId,
    /// What arrived of an unfinished frame.
    pub(crate) buffer: FrameBuffer,
    /// Until when the hello has to come; `None` once it has.
    pub(crate) hello_deadline_ms: Option<u64>,
    /// When bytes came last.
    pub(crate) heard_ms: u64,
    /// Whether a ping went out since.
    pub(crate) pinged: bool,
    /// What is said about channels, by either side.
    pub(crate) channels: BTreeMap<ChannelName, LinkChannel>,
    /// How many rosters were asked for and have not come.
    pub(crate) rosters_asked: usize,
    /// Deliveries that wait for their acknowledgement.
    pub(crate) outbound: Outbound,
    /// Deliveries that wait to be acknowledged.
    pub(crate) inbound: Inbound,
    /// What the other side wants, in its order.
    pub(crate) wants: VecDeque<Want>,
    /// The want that the storage is being read for.
    pub(crate) reading: Option<Want>,
    /// How many wants of ours have no *given* yet.
    pub(crate) asked: usize,
    /// Chains of which the other side holds more than this one.
    pub(crate) behind: BTreeSet<ChainKey>,
    /// Chains whose mark is to be told.
    pub(crate) news: BTreeSet<ChainKey>,
    /// When to tell them; `None` while there are none.
    pub(crate) announce_at_ms: Option<u64>,
    /// Whether the pong after the last marks is still to come; the next ones wait for it, so that a slow reader is told
    /// the newest mark once instead of every mark.
    pub(crate) announced: bool,
}

/// What is said about one channel on one link.
#[derive(Debug, Default)]
pub(crate) struct LinkChannel {
    /// The version of the roster that this side opened it with.
    pub(crate) ours: Option<u64>,
    /// The version of the roster that the other side opened it with.
    pub(crate) theirs: Option<u64>,
    /// The version of the roster that was asked for.
    pub(crate) asked_version: u64,
    /// The version of the roster that was handed over.
    pub(crate) handed_version: u64,
    /// How far the other side is.
    pub(crate) sides: BTreeMap<DeviceId, Side>,
    /// Until when no *typing* is sent.
    pub(crate) typing_sent_until_ms: u64,
    /// Until when no *typing* is heeded.
    pub(crate) typing_heeded_until_ms: u64,
}

/// How far the other side is in one chain.
#[derive(Debug, Default)]
pub(crate) struct Side {
    /// It says that it holds this much.
    pub(crate) theirs: u64,
    /// It will hold this much once it has stored what is on its way. Falls back to `theirs` when it did not take that, so
    /// that nothing more is pushed until it is level again.
    pub(crate) sent: u64,
    /// It was told that this side holds this much.
    pub(crate) told: u64,
    /// Deliveries on their way.
    pub(crate) in_flight: usize,
    /// It gets news from somebody else first: announce, do not push.
    pub(crate) lazy: bool,
    /// Its chain contradicts the one held here.
    pub(crate) forked: bool,
}

/// A piece of a chain that the other side asked for.
#[derive(Debug, Clone)]
pub(crate) struct Want {
    pub(crate) chain: ChainKey,
    pub(crate) from_n: u64,
    pub(crate) limit: usize,
}

impl Link {
    pub(crate) fn new(remote: DeviceId, hello_deadline_ms: u64, now_ms: u64) -> Self {
        Self {
            remote,
            buffer: FrameBuffer::default(),
            hello_deadline_ms: Some(hello_deadline_ms),
            heard_ms: now_ms,
            pinged: false,
            channels: BTreeMap::new(),
            rosters_asked: 0,
            outbound: Outbound::default(),
            inbound: Inbound::default(),
            wants: VecDeque::new(),
            reading: None,
            asked: 0,
            behind: BTreeSet::new(),
            news: BTreeSet::new(),
            announce_at_ms: None,
            announced: false,
        }
    }

    /// Whether both sides have said hello.
    pub(crate) fn is_ready(&self) -> bool {
        self.hello_deadline_ms.is_none()
    }

    /// Whether envelopes of the channel may go over the link.
    pub(crate) fn is_open(&self, channel: &ChannelName) -> bool {
        self.is_ready() && self.channels.get(channel).is_some_and(LinkChannel::is_open)
    }

    /// How far the other side is in a chain of an open channel.
    pub(crate) fn side(&mut self, channel: &ChannelName, device: DeviceId) -> Option<&mut Side> {
        let channel = self.channels.get_mut(channel).filter(|channel| channel.is_open())?;
        Some(channel.sides.entry(device).or_default())
    }

    /// Whether the other side has a want for this chain that is not answered.
    pub(crate) fn is_wanted(&self, channel: &ChannelName, device: &DeviceId) -> bool {
        let same = |want: &Want| want.chain.0 == *channel && want.chain.1 == *device;
        self.reading.as_ref().is_some_and(same) || self.wants.iter().any(same)
    }

    /// Forgets a channel that is no longer open. What is on its way still counts.
    pub(crate) fn forget_chains(&mut self, channel: &ChannelName) {
        self.behind.retain(|chain| chain.0 != *channel);
        self.news.retain(|chain| chain.0 != *channel);
        if let Some(channel) = self.channels.get_mut(channel) {
            channel.sides.clear();
        }
    }
}

impl LinkChannel {
    pub(crate) fn is_open(&self) -> bool {
        self.ours.is_some() && self.theirs.is_some()
    }
}

/// Deliveries that the other side has not done with yet, oldest first.
#[derive(Debug, Default)]
pub(crate) struct Outbound {
    frames: VecDeque<(ChainKey, usize)>,
    bytes: usize,
    /// How many the other side is done with.
    taken: u64,
    /// Since when the oldest one has been waiting.
    waiting_since_ms: u64,
}

impl Outbound {
    /// Bytes on their way.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Since when the other side has acknowledged nothing, although there is something.
    pub(crate) fn waiting_since_ms(&self) -> Option<u64> {
        (!self.frames.is_empty()).then_some(self.waiting_since_ms)
    }

    pub(crate) fn push(&mut self, chain: ChainKey, bytes: usize, now_ms: u64) {
        if self.frames.is_empty() {
            self.waiting_since_ms = now_ms;
        }
        self.frames.push_back((chain, bytes));
        self.bytes += bytes;
    }

    /// Drops what the other side is done with and tells which chains it was of, one entry per delivery. `None` if it
    /// claims what cannot be.
    pub(crate) fn take(&mut self, taken: u64, now_ms: u64) -> Option<Vec<ChainKey>> {
        let count = taken.checked_sub(self.taken).filter(|count| *count <= self.frames.len() as u64)?;
        self.taken = taken;
        if count > 0 {
            self.waiting_since_ms = now_ms;
        }
        let done: Vec<_> = self.frames.drain(..count as usize).collect();
        self.bytes -= done.iter().map(|(_, bytes)| bytes).sum::<usize>();
        Some(done.into_iter().map(|(chain, _)| chain).collect())
    }
}

/// Deliveries that this side has not done with yet, oldest first.
#[derive(Debug, Default)]
pub(crate) struct Inbound {
    frames: VecDeque<Delivery>,
    bytes: usize,
    /// How many this side is done with.
    taken: u64,
}

/// A delivery that arrived.
#[derive(Debug, Clone)]
pub(crate) struct Delivery {
    pub(crate) chain: ChainKey,
    pub(crate) n: u64,
    pub(crate) bytes: usize,
    /// Whether it was known when it came.
    pub(crate) known: bool,
}

impl Inbound {
    /// Bytes not acknowledged yet.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    /// How many deliveries this side is done with since the link came up.
    pub(crate) fn taken(&self) -> u64 {
        self.taken
    }

    pub(crate) fn push(&mut self, delivery: Delivery) {
        self.bytes += delivery.bytes;
        self.frames.push_back(delivery);
    }

    /// Takes the oldest deliveries as long as they are `done`; gives the last one of each chain.
    pub(crate) fn take_done(&mut self, done: impl Fn(&Delivery) -> bool) -> BTreeMap<ChainKey, Delivery> {
        let mut last = BTreeMap::new();
        while let Some(delivery) = self.frames.pop_front_if(|delivery| done(delivery)) {
            self.taken += 1;
            self.bytes -= delivery.bytes;
            last.insert(delivery.chain.clone(), delivery);
        }
        last
    }
}
