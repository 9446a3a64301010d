//! All links of one device.

use crate::limits::Limits;
use crate::output::{LinkId, Output};
use chat::{AppendError, ChannelName, DeviceId, Head, Inserted, Sealed, SignedRoster, StoreError};

/// The peer protocol of one device, over all its links. Times are milliseconds of any clock that does not run backwards.
///
/// After every `handle_*` call, take the outputs until [`Node::poll_output`] gives `None`, and arrange for
/// [`Node::handle_timeout`] at [`Node::poll_timeout`].
#[derive(Debug)]
pub struct Node;

#[allow(clippy::todo, unused_variables, clippy::needless_pass_by_value)]
impl Node {
    /// A node that holds nothing and knows nobody. Tell it what the history holds by [`Node::handle_heads`] and the
    /// rosters by [`Node::handle_roster`] before the first link.
    pub fn new(device: DeviceId, limits: Limits) -> Self {
        todo!()
    }
    /// What the history holds durably.
    pub fn handle_heads(&mut self, heads: Vec<(ChannelName, Head)>) {
        todo!()
    }
    /// A roster that was opened with the tracker's id. An older one than known is ignored.
    pub fn handle_roster(&mut self, roster: SignedRoster, now_ms: u64) {
        todo!()
    }
    /// The channel is no longer this device's business: it was put out, or left.
    pub fn handle_channel_lost(&mut self, channel: &ChannelName, now_ms: u64) {
        todo!()
    }
    /// A connection whose other end has proved to be `remote`.
    pub fn handle_link_up(&mut self, link: LinkId, remote: DeviceId, now_ms: u64) {
        todo!()
    }
    /// Bytes from a link, in order, split anyhow. Bytes of an unknown link are ignored.
    pub fn handle_bytes(&mut self, link: LinkId, bytes: &[u8], now_ms: u64) {
        todo!()
    }
    /// The connection is gone. Not to be called for links that [`Output::Close`] closed (harmless if so).
    pub fn handle_link_down(&mut self, link: LinkId, now_ms: u64) {
        todo!()
    }
    /// An envelope that is durably stored now and did not come from a link: written here, or fetched from the tracker.
    pub fn handle_local(&mut self, sealed: Sealed, now_ms: u64) {
        todo!()
    }
    /// The outcome of the outstanding [`Output::Store`], one result per arrival, in order: what
    /// [`chat::History::insert`] gave.
    pub fn handle_stored(&mut self, results: Result<Vec<Result<Inserted, AppendError>>, StoreError>, now_ms: u64) {
        todo!()
    }
    /// The outcome of the outstanding [`Output::Read`] of this link: what [`chat::History::chain`] gave.
    pub fn handle_read(&mut self, link: LinkId, sealed: Result<Vec<Sealed>, StoreError>, now_ms: u64) {
        todo!()
    }
    /// The user here is writing in a channel.
    pub fn handle_typing(&mut self, channel: &ChannelName, now_ms: u64) {
        todo!()
    }
    /// Says goodbye on all links and closes them.
    pub fn handle_stop(&mut self) {
        todo!()
    }
    /// The time asked for by [`Node::poll_timeout`] has come. Calling early or late does no harm.
    pub fn handle_timeout(&mut self, now_ms: u64) {
        todo!()
    }
    /// When [`Node::handle_timeout`] wants to be called; `None` while nothing waits.
    pub fn poll_timeout(&self) -> Option<u64> {
        todo!()
    }
    /// The next thing to do.
    pub fn poll_output(&mut self) -> Option<Output> {
        todo!()
    }
    /// The links on which both sides have said hello, with the device at the other end.
    pub fn links(&self) -> impl Iterator<Item = (LinkId, DeviceId)> {
        std::iter::empty()
    }
}
