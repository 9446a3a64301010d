//! One channel as the screen holds it: its loaded messages, and how far the reader has scrolled.

use chat::client::{ChannelSummary, Message};
use chat::{Body, ChannelName, DeliveryState, Merged, OrderKey, Timeline, UserName, Visibility};

/// Messages kept in memory per channel. Beyond it the oldest go; scrolling back loads them again.
pub(crate) const LOADED_MAX: usize = 4000;
/// How many are left after that.
const LOADED_AFTER_TRIM: usize = 2000;
/// How long somebody is shown as writing after the last sign of it.
const TYPING_SHOWN_MS: u64 = 6000;
/// People shown as writing at a time.
const TYPING_MAX: usize = 8;

/// One channel.
#[derive(Debug)]
pub(crate) struct Conversation {
    /// Its name.
    pub(crate) name: ChannelName,
    /// Who may come in; `None` while unknown.
    pub(crate) visibility: Option<Visibility>,
    /// Whether the user is in it.
    pub(crate) member: bool,
    /// How many are in it.
    pub(crate) members: usize,
    /// Messages the user has not seen.
    pub(crate) unread: u64,
    /// The loaded messages.
    pub(crate) timeline: Timeline<Message>,
    /// Rows between the bottom of the screen and the newest message.
    pub(crate) scroll: usize,
    /// Whether there may be earlier messages than those loaded.
    pub(crate) more: bool,
    /// Whether earlier messages were asked for and have not come.
    pub(crate) loading: bool,
    /// How many messages the node knows to be missing.
    pub(crate) missing: u64,
    typing: Vec<(UserName, u64)>,
    told_read: Option<OrderKey>,
}

impl Conversation {
    /// An empty one: what there is of it has to be asked for.
    pub(crate) fn new(name: ChannelName) -> Self {
        Self {
            name,
            visibility: None,
            member: false,
            members: 0,
            unread: 0,
            timeline: Timeline::new(),
            scroll: 0,
            more: true,
            loading: false,
            missing: 0,
            typing: Vec::new(),
            told_read: None,
        }
    }

    /// Takes over what a list of channels says.
    pub(crate) fn handle_summary(&mut self, summary: &ChannelSummary, is_open: bool) {
        self.visibility = Some(summary.visibility);
        self.member = summary.member;
        self.members = summary.members;
        if !is_open {
            self.unread = summary.unread;
        }
    }

    /// Takes a new message. Gives whether it was new to the screen.
    pub(crate) fn handle_message(&mut self, message: Message, is_open: bool) -> bool {
        self.typing.retain(|(user, _)| *user != message.author);
        let counts = !message.mine && matches!(message.body, Body::Text { .. });
        let at_bottom = self.scroll == 0;
        let merged = self.timeline.merge(message.id, message.key, message);
        if merged == Merged::New && counts && !(is_open && at_bottom) {
            self.unread += 1;
        }
        self.trim();
        merged == Merged::New
    }

    /// Takes earlier messages.
    pub(crate) fn handle_history(&mut self, entries: Vec<Message>, more: bool) {
        self.loading = false;
        self.more = more;
        for message in entries {
            self.timeline.merge(message.id, message.key, message);
        }
    }

    /// Takes news of how far a message has come.
    pub(crate) fn handle_state(&mut self, id: chat::EnvelopeId, key: OrderKey, state: DeliveryState) {
        self.timeline.place(id, key);
        if let Some(message) = self.timeline.get_mut(&id) {
            message.key = key;
            message.state = state;
        }
    }

    /// Somebody writes.
    pub(crate) fn handle_typing(&mut self, user: UserName, now_ms: u64) {
        self.typing.retain(|(known, _)| *known != user);
        if self.typing.len() < TYPING_MAX {
            self.typing.push((user, now_ms + TYPING_SHOWN_MS));
        }
    }

    /// Who is writing now.
    pub(crate) fn typing(&self, now_ms: u64) -> impl Iterator<Item = &UserName> {
        self.typing.iter().filter(move |(_, until_ms)| now_ms < *until_ms).map(|(user, _)| user)
    }

    /// Called while the channel is open: if the newest message is in view and was not reported as read, gives its place.
    pub(crate) fn newly_read(&mut self) -> Option<OrderKey> {
        if self.scroll != 0 {
            return None;
        }
        self.unread = 0;
        let newest = self.timeline.iter().next_back().map(|(key, _)| key)?;
        if self.told_read == Some(newest) {
            return None;
        }
        self.told_read = Some(newest);
        Some(newest)
    }

    /// Lets go of the oldest messages when too many are loaded and the reader is not among them.
    fn trim(&mut self) {
        if self.timeline.len() <= LOADED_MAX || self.scroll != 0 {
            return;
        }
        let old = std::mem::take(&mut self.timeline);
        let skipped = old.len() - LOADED_AFTER_TRIM;
        for (key, message) in old.iter().skip(skipped) {
            self.timeline.merge(message.id, key, message.clone());
        }
        self.more = true;
    }
}
