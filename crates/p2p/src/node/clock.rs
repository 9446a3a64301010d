//! Deadlines: whoever is silent, slow or lost is asked, passed over or given up.

use super::Node;
use crate::frame::Frame;
use crate::limits::Limits;
use crate::link::Link;
use crate::output::{LinkId, Reason};

impl Node {
    /// The time asked for by [`Node::poll_timeout`] has come. Calling early or late does no harm.
    pub fn handle_timeout(&mut self, now_ms: u64) {
        if self.storage_retry_at_ms.is_some_and(|at_ms| at_ms <= now_ms) {
            self.storage_retry_at_ms = None;
        }
        for link in self.link_ids() {
            self.check_link(link, now_ms);
            self.announce(link, now_ms);
        }
        self.pass_over(now_ms);
        self.ask_all(now_ms);
    }

    /// When [`Node::handle_timeout`] wants to be called; `None` while nothing waits.
    pub fn poll_timeout(&self) -> Option<u64> {
        let links = self.links.values().flat_map(|link| {
            let deadlines = Deadlines::of(link, &self.limits);
            [Some(deadlines.close_ms), deadlines.ping_ms, link.announce_due_ms()].into_iter().flatten()
        });
        let asks = self.asks.values().map(|ask| ask.deadline_ms);
        links.chain(asks).chain(self.storage_retry_at_ms).min()
    }

    fn check_link(&mut self, link: LinkId, now_ms: u64) {
        let Some(state) = self.links.get_mut(&link) else { return };
        let deadlines = Deadlines::of(state, &self.limits);
        if deadlines.close_ms <= now_ms {
            let reason = if state.is_ready() { Reason::Stalled } else { Reason::NoHello };
            self.close(link, reason);
        } else if deadlines.ping_ms.is_some_and(|at_ms| at_ms <= now_ms) {
            state.pinged = true;
            self.send(link, &Frame::Ping);
        }
    }

    /// Gives up wants that brought nothing in time. The link keeps its place among the wants until it answers: one that
    /// never does is soon asked nothing any more.
    fn pass_over(&mut self, now_ms: u64) {
        let late: Vec<_> = self
            .asks
            .iter()
            .filter(|(_, ask)| ask.deadline_ms <= now_ms)
            .map(|(chain, ask)| (chain.clone(), ask.link))
            .collect();
        for (chain, link) in late {
            let level = self.chain(&chain).storing;
            let side = self.link_mut(link).and_then(|state| state.side(&chain.0, chain.1));
            if let Some(side) = side {
                side.theirs = side.theirs.min(level);
            }
            self.end_ask(&chain);
        }
    }

    fn link_mut(&mut self, link: LinkId) -> Option<&mut Link> {
        self.links.get_mut(&link)
    }
}

/// When something has to happen on a link.
struct Deadlines {
    /// When it is given up, unless something comes.
    close_ms: u64,
    /// When the other side is asked whether it is there.
    ping_ms: Option<u64>,
}

impl Deadlines {
    fn of(link: &Link, limits: &Limits) -> Self {
        if let Some(close_ms) = link.hello_deadline_ms {
            return Self { close_ms, ping_ms: None };
        }
        let silent_ms = link.heard_ms.saturating_add(limits.silent_max_ms);
        let stalled_ms = link.outbound.waiting_since_ms().map(|ms| ms.saturating_add(limits.acknowledge_timeout_ms));
        Self {
            close_ms: stalled_ms.map_or(silent_ms, |ms| ms.min(silent_ms)),
            ping_ms: (!link.pinged).then(|| link.heard_ms.saturating_add(limits.ping_after_ms)),
        }
    }
}
