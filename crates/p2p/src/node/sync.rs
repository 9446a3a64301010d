//! Bringing chains level: marks tell who is behind, whoever is behind wants, envelopes are stored before they are
//! acknowledged. News goes at once to those who are level; the others are told of it and want it when they are ready.

use super::{Ask, Node};
use crate::frame::Frame;
use crate::limits::{
    ANNOUNCE_MARKS_MAX, MARKS_PER_FRAME_MAX, STORE_ENVELOPES_MAX, WANT_ENVELOPES, WANT_ENVELOPES_MAX, WANTS_MAX,
    WINDOW_BYTES,
};
use crate::link::{ChainKey, Delivery, Link, Want};
use crate::output::{Arrived, LinkId, Output, Reason};
use chat::{
    AppendError, ChannelName, DeviceId, EnvelopeError, Inserted, NUMBER_MAX, Sealed, Signature, StoreError, Unverified,
};
use std::collections::{BTreeMap, BTreeSet};

/// Length, type byte and signature, which stand before an envelope in its frame.
const DELIVER_OVERHEAD: usize = 4 + 1 + 64;

impl Node {
    /// Tells the marks that are due, if the other side has read the last ones.
    pub(super) fn announce(&mut self, link: LinkId, now_ms: u64) {
        let Some(state) = self.links.get_mut(&link) else { return };
        if state.announced || state.announce_at_ms.is_none_or(|at_ms| at_ms > now_ms) {
            return;
        }
        let mut frames: BTreeMap<ChannelName, Vec<(DeviceId, u64)>> = BTreeMap::new();
        let mut told = 0;
        while told < ANNOUNCE_MARKS_MAX {
            let Some((name, device)) = state.news.pop_first() else { break };
            let held = self.channels.get(&name).and_then(|channel| channel.chains.get(&device)).map_or(0, |it| it.held);
            let is_author = device == state.remote;
            let Some(side) = state.side(&name, device) else { continue };
            // the first mark is told in any case: it is what acknowledges after a broken link; to the author every mark
            // is, because it is what acknowledges what came another way
            let has_it = side.theirs >= held || (side.sent >= held && side.in_flight > 0);
            if held > side.told && (is_author || !(has_it && side.told > 0)) {
                side.told = held;
                frames.entry(name).or_default().push((device, held));
                told += 1;
            }
        }
        state.announce_at_ms = (!state.news.is_empty()).then_some(now_ms);
        if told == 0 {
            return;
        }
        state.announced = true;
        for (channel, marks) in frames {
            for marks in marks.chunks(MARKS_PER_FRAME_MAX) {
                self.send(link, &Frame::Marks { channel: channel.clone(), marks: marks.to_vec() });
            }
        }
        self.send(link, &Frame::Ping);
    }

    pub(super) fn handle_pong(&mut self, link: LinkId, now_ms: u64) {
        if let Some(state) = self.links.get_mut(&link) {
            state.announced = false;
        }
        self.announce(link, now_ms);
    }

    pub(super) fn handle_marks(
        &mut self,
        link: LinkId,
        name: &ChannelName,
        marks: &[(DeviceId, u64)],
    ) -> Result<(), Reason> {
        if marks.len() > MARKS_PER_FRAME_MAX {
            return Err(Reason::Flooded("marks"));
        }
        for (device, n) in marks {
            self.learn_mark(link, &(name.clone(), *device), *n);
        }
        Ok(())
    }

    /// Notes that the other side holds a chain up to `n`. Says nothing about chains that are none of its business.
    fn learn_mark(&mut self, link: LinkId, chain: &ChainKey, n: u64) {
        let level = self.chain(chain);
        if n > NUMBER_MAX || self.user_of(&chain.0, &chain.1).is_none() {
            return;
        }
        let own = chain.1 == self.device;
        let Some(state) = self.links.get_mut(&link) else { return };
        let by = state.remote;
        let Some(side) = state.side(&chain.0, chain.1) else { return };
        let acknowledged = (own && n.min(level.held) > side.theirs).then_some(n.min(level.held));
        side.theirs = side.theirs.max(n);
        side.sent = side.sent.max(side.theirs);
        if side.theirs > level.storing && !side.forked {
            state.behind.insert(chain.clone());
        }
        if let Some(n) = acknowledged {
            let (channel, device) = chain.clone();
            self.outputs.push_back(Output::Acknowledged { channel, device, n, by });
        }
    }

    /// Asks a link for chains that it holds more of, as far as the protocol allows at once.
    pub(super) fn ask(&mut self, link: LinkId, now_ms: u64) {
        if self.storage_retry_at_ms.is_some() {
            return;
        }
        while let Some(state) = self.links.get_mut(&link) {
            if state.asked >= WANTS_MAX {
                return;
            }
            let Some(chain) = state.behind.pop_first() else { return };
            let level = self.chain(&chain).storing;
            let Some(state) = self.links.get_mut(&link) else { return };
            let Some(side) = state.side(&chain.0, chain.1) else { continue };
            // if somebody else is being asked, the end of that brings the chain back here
            if side.theirs <= level || side.forked || self.asks.contains_key(&chain) {
                continue;
            }
            state.asked += 1;
            let deadline_ms = now_ms.saturating_add(self.limits.want_timeout_ms);
            let from_n = level + 1;
            let (channel, device) = chain.clone();
            self.asks.insert(chain, Ask { link, from_n, deadline_ms, brought: false });
            self.send(link, &Frame::Want { channel, device, from_n, limit: WANT_ENVELOPES as u64 });
        }
    }

    pub(super) fn ask_all(&mut self, now_ms: u64) {
        for link in self.link_ids() {
            self.ask(link, now_ms);
        }
    }

    /// Forgets who was asked for a chain, and puts it back to everybody who holds more of it.
    pub(super) fn end_ask(&mut self, chain: &ChainKey) {
        self.asks.remove(chain);
        let level = self.chain(chain).storing;
        for state in self.links.values_mut() {
            let ahead = state.side(&chain.0, chain.1).is_some_and(|side| side.theirs > level && !side.forked);
            if ahead {
                state.behind.insert(chain.clone());
            }
        }
    }

    pub(super) fn handle_want(&mut self, link: LinkId, chain: ChainKey, from_n: u64, limit: u64) -> Result<(), Reason> {
        let known = self.user_of(&chain.0, &chain.1).is_some();
        let Some(state) = self.links.get_mut(&link) else { return Ok(()) };
        if !(1..=NUMBER_MAX).contains(&from_n) || limit == 0 {
            return Err(Reason::Protocol("a want of nothing"));
        }
        if state.wants.len() + usize::from(state.reading.is_some()) >= WANTS_MAX {
            return Err(Reason::Flooded("wants"));
        }
        if !known || !state.is_open(&chain.0) {
            let (channel, device) = chain;
            self.send(link, &Frame::Given { channel, device, n: from_n - 1, held: 0 });
            return Ok(());
        }
        if let Some(side) = state.side(&chain.0, chain.1) {
            side.lazy = false;
        }
        let limit = limit.min(WANT_ENVELOPES_MAX as u64) as usize;
        // What comes before `from_n` may still be on its way into the other side's storage: no acknowledgement.
        state.wants.push_back(Want { chain, from_n, limit });
        self.read_for(link);
        Ok(())
    }

    /// Starts on the next want of a link, once half the window is free: fewer, larger reads.
    pub(super) fn read_for(&mut self, link: LinkId) {
        let Some(state) = self.links.get_mut(&link) else { return };
        if state.reading.is_some() || state.outbound.bytes() > WINDOW_BYTES / 2 {
            return;
        }
        let Some(want) = state.wants.pop_front() else { return };
        let Want { chain: (channel, device), from_n, limit } = want.clone();
        state.reading = Some(want);
        self.outputs.push_back(Output::Read { link, channel, device, from_n, limit });
    }

    /// Answers the want that was read for.
    pub(super) fn give(&mut self, link: LinkId, sealed: Result<Vec<Sealed>, StoreError>, now_ms: u64) {
        let Some(want) = self.links.get_mut(&link).and_then(|state| state.reading.take()) else { return };
        let held = self.chain(&want.chain).held;
        let failed = sealed.is_err();
        let mut next_n = want.from_n;
        for sealed in sealed.unwrap_or_default().iter().take(want.limit) {
            let envelope = sealed.envelope();
            let fits = envelope.n == next_n && envelope.channel == want.chain.0 && envelope.device == want.chain.1;
            if !fits || !self.deliver(link, sealed, now_ms) {
                break;
            }
            next_n += 1;
        }
        let (channel, device) = want.chain.clone();
        self.send(link, &Frame::Given { channel, device, n: next_n - 1, held });
        let retry_ms = now_ms.saturating_add(self.limits.storage_retry_ms);
        let Some(state) = self.links.get_mut(&link) else { return };
        let Some(side) = state.side(&want.chain.0, want.chain.1) else { return };
        side.sent = next_n - 1;
        side.told = held;
        if failed {
            // the other side takes it that there is nothing; it is told again when the storage may work again
            side.told = 0;
            state.news.insert(want.chain);
            state.announce_at_ms = Some(retry_ms);
        }
    }

    /// Sends an envelope if the window has room for it and the channel is still open.
    fn deliver(&mut self, link: LinkId, sealed: &Sealed, now_ms: u64) -> bool {
        let envelope = sealed.envelope();
        let bytes = DELIVER_OVERHEAD + sealed.bytes().len();
        let Some(state) = self.links.get_mut(&link) else { return false };
        if state.outbound.bytes() + bytes > WINDOW_BYTES {
            return false;
        }
        let Some(side) = state.side(&envelope.channel, envelope.device) else { return false };
        side.in_flight += 1;
        side.sent = envelope.n;
        state.outbound.push((envelope.channel.clone(), envelope.device), bytes, now_ms);
        self.send(link, &Frame::Deliver { signature: sealed.signature(), bytes: sealed.bytes().to_vec() });
        true
    }

    pub(super) fn handle_given(&mut self, link: LinkId, chain: &ChainKey, n: u64, held: u64) -> Result<(), Reason> {
        let level = self.chain(chain).storing;
        let Some(state) = self.links.get_mut(&link) else { return Ok(()) };
        state.asked = state.asked.checked_sub(1).ok_or(Reason::Protocol("given without want"))?;
        let Some(ask) = self.asks.get(chain).copied().filter(|ask| ask.link == link) else {
            // late: it was passed over, and may be asked again now that it answers
            self.learn_mark(link, chain, held);
            return Ok(());
        };
        if let Some(side) = state.side(&chain.0, chain.1) {
            // Whoever gives nothing, or nothing of use, is not asked again until it speaks of the chain anew.
            let useful = n >= ask.from_n && ask.brought;
            side.theirs = if useful { held.min(NUMBER_MAX) } else { side.theirs.min(level) };
        }
        self.end_ask(chain);
        Ok(())
    }

    pub(super) fn handle_deliver(
        &mut self,
        link: LinkId,
        signature: Signature,
        bytes: &[u8],
        now_ms: u64,
    ) -> Result<(), Reason> {
        let size = DELIVER_OVERHEAD + bytes.len();
        let Some(state) = self.links.get_mut(&link) else { return Ok(()) };
        if state.inbound.bytes() + size > WINDOW_BYTES {
            return Err(Reason::Flooded("deliveries"));
        }
        let unverified = Unverified::parse(bytes, signature).map_err(|_| Reason::Protocol("not an envelope"))?;
        let envelope = unverified.envelope();
        let (chain, n) = ((envelope.channel.clone(), envelope.device), envelope.n);
        let believed = state.is_open(&chain.0) && self.user_of(&chain.0, &chain.1) == Some(&envelope.author);
        let level = self.chain(&chain).storing;
        let known = believed && n <= level;
        if believed && n == level + 1 {
            let sealed = unverified.verify().map_err(|error| match error {
                EnvelopeError::Forged(_) => Reason::Forged,
                _ => Reason::Protocol("not an envelope"),
            })?;
            self.chain_mut(&chain.0, chain.1).storing = n;
            self.arrivals.push_back(Arrived { link, sealed });
        }
        if believed {
            // it holds what it delivers, and what is missing before that is wanted
            self.learn_mark(link, &chain, n);
            if let Some(ask) = self.asks.get_mut(&chain).filter(|ask| ask.link == link) {
                ask.deadline_ms = now_ms.saturating_add(self.limits.want_timeout_ms);
                ask.brought |= n >= ask.from_n && n <= level + 1;
            }
        }
        if let Some(state) = self.links.get_mut(&link) {
            state.inbound.push(Delivery { chain, n, bytes: size, known });
        }
        Ok(())
    }

    /// Gives the arrivals to the storage, if it has done with the last ones.
    pub(super) fn store_arrivals(&mut self) {
        if !self.storing.is_empty() || self.arrivals.is_empty() {
            return;
        }
        let count = self.arrivals.len().min(STORE_ENVELOPES_MAX);
        self.storing = self.arrivals.drain(..count).collect();
        self.outputs.push_back(Output::Store { arrivals: self.storing.clone() });
    }

    /// Draws the conclusions from a store that worked.
    pub(super) fn settle(&mut self, batch: Vec<Arrived>, results: &[Result<Inserted, AppendError>], now_ms: u64) {
        let mut broken = BTreeSet::new();
        // an arrival without a result counts as not stored
        let missing = std::iter::repeat(&Err(AppendError::Gap { expected_n: NUMBER_MAX }));
        for (arrived, result) in batch.into_iter().zip(results.iter().chain(missing)) {
            let envelope = arrived.sealed.envelope();
            let chain = (envelope.channel.clone(), envelope.device);
            match result {
                Ok(inserted) => {
                    let is_news = *inserted == Inserted::New;
                    self.chain_mut(&chain.0, chain.1).hold(envelope.n);
                    if is_news {
                        self.spread(&arrived.sealed, Some(arrived.link), now_ms);
                    }
                }
                Err(error) => {
                    self.note_refusal(&arrived, *error);
                    broken.insert(chain);
                }
            }
        }
        self.restart_chains(&broken);
    }

    fn note_refusal(&mut self, arrived: &Arrived, error: AppendError) {
        let envelope = arrived.sealed.envelope();
        let (channel, device) = (envelope.channel.clone(), envelope.device);
        match error {
            AppendError::Gap { expected_n } => {
                let chain = self.chain_mut(&channel, device);
                chain.held = chain.held.min(expected_n.saturating_sub(1));
            }
            AppendError::Fork => {
                let link = arrived.link;
                let side = self.links.get_mut(&link).and_then(|state| state.side(&channel, device));
                if let Some(side) = side {
                    side.forked = true;
                    self.outputs.push_back(Output::Forked { link, channel, device });
                }
            }
        }
    }

    /// Draws the conclusions from a store that failed: what it held did not come.
    pub(super) fn unsettle(&mut self, batch: &[Arrived], now_ms: u64) {
        self.storage_retry_at_ms = Some(now_ms.saturating_add(self.limits.storage_retry_ms));
        let chain = |arrived: &Arrived| {
            let envelope = arrived.sealed.envelope();
            (envelope.channel.clone(), envelope.device)
        };
        let broken: BTreeSet<_> = batch.iter().map(chain).collect();
        self.restart_chains(&broken);
    }

    /// Drops what waits of these chains, because what comes before it is not stored, and wants it anew.
    fn restart_chains(&mut self, broken: &BTreeSet<ChainKey>) {
        if broken.is_empty() {
            return;
        }
        self.arrivals.retain(|arrived| {
            let envelope = arrived.sealed.envelope();
            !broken.contains(&(envelope.channel.clone(), envelope.device))
        });
        for chain in broken {
            let level = self.chain_mut(&chain.0, chain.1);
            level.storing = level.held;
            if !self.asks.contains_key(chain) {
                self.end_ask(chain);
            }
        }
    }

    /// Acknowledges what this side is done with: stored, known or refused.
    pub(super) fn acknowledge(&mut self, link: LinkId) {
        let channels = &self.channels;
        let level = |chain: &ChainKey| {
            channels.get(&chain.0).and_then(|channel| channel.chains.get(&chain.1)).copied().unwrap_or_default()
        };
        let Some(state) = self.links.get_mut(&link) else { return };
        let done = state.inbound.take_done(|delivery| {
            let level = level(&delivery.chain);
            delivery.n <= level.held || delivery.n > level.storing
        });
        let taken = state.inbound.taken();
        for (chain, delivery) in done {
            let n = if self.user_of(&chain.0, &chain.1).is_some() { self.chain(&chain).held } else { 0 };
            if let Some(side) = self.links.get_mut(&link).and_then(|state| state.side(&chain.0, chain.1)) {
                side.told = side.told.max(n);
            }
            let (channel, device) = chain;
            self.send(link, &Frame::Acknowledge { channel, device, n, taken, known: delivery.known });
        }
    }

    pub(super) fn handle_acknowledge(
        &mut self,
        link: LinkId,
        chain: &ChainKey,
        n: u64,
        taken: u64,
        known: bool,
        now_ms: u64,
    ) -> Result<(), Reason> {
        let own = chain.1 == self.device;
        let Some(state) = self.links.get_mut(&link) else { return Ok(()) };
        let done = state.outbound.take(taken, now_ms).ok_or(Reason::Protocol("acknowledged what was not sent"))?;
        for (channel, device) in done {
            if let Some(side) = state.side(&channel, device) {
                side.in_flight = side.in_flight.saturating_sub(1);
            }
        }
        self.learn_mark(link, chain, n);
        let side = self.links.get_mut(&link).and_then(|state| state.side(&chain.0, chain.1));
        if let Some(side) = side {
            side.lazy = known && !own;
            if side.in_flight == 0 && side.sent > side.theirs {
                side.sent = side.theirs;
            }
        }
        self.read_for(link);
        Ok(())
    }

    /// Brings what is stored now to those who may have it and do not: at once to who is level and counts on it, by a mark
    /// to the others.
    pub(super) fn spread(&mut self, sealed: &Sealed, from: Option<LinkId>, now_ms: u64) {
        let envelope = sealed.envelope();
        let (name, device, n) = (&envelope.channel, envelope.device, envelope.n);
        if self.user_of(name, &device).is_none() {
            return;
        }
        let announce_at_ms = now_ms.saturating_add(self.limits.announce_delay_ms);
        for link in self.link_ids() {
            let Some(state) = self.links.get_mut(&link) else { continue };
            let wanted = state.is_wanted(name, &device);
            let is_author = device == state.remote;
            let Some(side) = state.side(name, device) else { continue };
            if side.forked {
                continue;
            }
            if side.theirs >= n || (side.sent >= n && side.in_flight > 0) {
                if is_author {
                    self.note_news(link, (name.clone(), device), announce_at_ms);
                }
                continue;
            }
            let eager = device == self.device || (from.is_some() && !side.lazy);
            let level = side.sent + 1 == n && !wanted;
            if !(eager && level && self.deliver(link, sealed, now_ms)) {
                self.note_news(link, (name.clone(), device), announce_at_ms);
            }
        }
    }

    fn note_news(&mut self, link: LinkId, chain: ChainKey, announce_at_ms: u64) {
        let Some(state) = self.links.get_mut(&link) else { return };
        state.news.insert(chain);
        state.announce_at_ms.get_or_insert(announce_at_ms);
    }
}

impl Link {
    /// When the next marks are due, if they may be told.
    pub(super) fn announce_due_ms(&self) -> Option<u64> {
        self.announce_at_ms.filter(|_| !self.announced)
    }
}
