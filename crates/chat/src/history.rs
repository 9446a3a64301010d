//! What a peer needs of its own storage: every envelope it holds, who else holds it, and what the tracker calls it.
//! No implementation lives here.

use crate::BoxFuture;
use crate::chain::{AppendError, Head};
use crate::delivery::DeliveryState;
use crate::ids::{DeviceId, EnvelopeId};
use crate::names::ChannelName;
use crate::order::OrderKey;
use crate::sealed::Sealed;
use crate::store::{KeyValues, StoreError};
use serde::{Deserialize, Serialize};

/// A peer's own history. All writes are durable (fsynced) when their future resolves; dropping the future does not undo
/// a write. Methods take copies of their arguments: a future borrows the history alone.
pub trait History: Send + Sync {
    /// Adds envelopes, in the order given. Idempotent by id. Refuses what does not continue its device's chain, see
    /// [`crate::check_chain`]. One result per arrival, in order.
    fn insert(&self, arrivals: Vec<Arrival>) -> BoxFuture<'_, Result<Vec<Result<Inserted, AppendError>>, StoreError>>;

    /// Notes the sequence numbers that the tracker gave. An id that is not held is passed over.
    fn sequence(&self, channel: &ChannelName, numbers: Vec<(EnvelopeId, u64)>)
    -> BoxFuture<'_, Result<(), StoreError>>;

    /// Notes sequence numbers that were seen but are not held, since what has them was refused: the cursor crosses them.
    /// A number that [`History::sequence`] gives to a held envelope is that envelope's all the same.
    fn pass_over(&self, channel: &ChannelName, seqs: Vec<u64>) -> BoxFuture<'_, Result<(), StoreError>>;

    /// The highest sequence number up to which everything in the channel's log is held or passed over.
    fn cursor(&self, channel: &ChannelName) -> BoxFuture<'_, Result<u64, StoreError>>;

    /// Notes that `holder`, a device of somebody, has stored the chain of `device` in a channel up to number `n`. Never
    /// takes a mark back: a lower number than noted before changes nothing.
    fn acknowledge(
        &self,
        channel: &ChannelName,
        device: &DeviceId,
        n: u64,
        holder: DeviceId,
    ) -> BoxFuture<'_, Result<(), StoreError>>;

    /// The newest `limit` entries of a channel that come before `before` (or of all), ascending in display order.
    fn timeline(
        &self,
        channel: &ChannelName,
        before: Option<OrderKey>,
        limit: usize,
    ) -> BoxFuture<'_, Result<Vec<Entry>, StoreError>>;

    /// Reads up to `limit` envelopes of one device in one channel, from number `from_n` on, ascending.
    fn chain(
        &self,
        channel: &ChannelName,
        device: &DeviceId,
        from_n: u64,
        limit: usize,
    ) -> BoxFuture<'_, Result<Vec<Sealed>, StoreError>>;

    /// The newest envelope of every device in every channel.
    fn heads(&self) -> BoxFuture<'_, Result<Vec<(ChannelName, Head)>, StoreError>>;

    /// Up to `limit` envelopes of a channel without a sequence number, in display order (which is also chain order)
    /// after `after`.
    fn unsequenced(
        &self,
        channel: &ChannelName,
        after: Option<OrderKey>,
        limit: usize,
    ) -> BoxFuture<'_, Result<Vec<Sealed>, StoreError>>;

    /// All channels that hold anything.
    fn channels(&self) -> BoxFuture<'_, Result<Vec<ChannelName>, StoreError>>;

    /// Reads a setting: a roster, the tracker's key, a read mark.
    fn get(&self, key: &str) -> BoxFuture<'_, Result<Option<Vec<u8>>, StoreError>>;

    /// Writes a setting.
    fn put(&self, key: &str, value: Vec<u8>) -> BoxFuture<'_, Result<(), StoreError>>;

    /// All settings whose key starts with `prefix`, ascending.
    fn list(&self, prefix: &str) -> BoxFuture<'_, Result<KeyValues, StoreError>>;
}

/// The way an envelope came.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Path {
    /// Over a direct connection between two devices.
    Direct,
    /// Over a connection that the tracker relays; it sees ciphertext only.
    Relayed,
    /// From the tracker's log (store and forward).
    Tracker,
    /// Written here.
    Own,
}

impl Path {
    /// The word that user interfaces and storage use.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Direct => "direct",
            Self::Relayed => "relayed",
            Self::Tracker => "tracker",
            Self::Own => "own",
        }
    }
}

/// An envelope on its way into the history.
#[derive(Debug, Clone)]
pub struct Arrival {
    /// The envelope.
    pub sealed: Sealed,
    /// How it came.
    pub path: Path,
    /// When it came, milliseconds since 1970.
    pub received_at_ms: u64,
}

/// What became of an arrival.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Inserted {
    /// It is stored now.
    New,
    /// It was stored before; nothing was written.
    Known,
}

/// A line of a channel as a peer holds it.
#[derive(Debug, Clone)]
pub struct Entry {
    /// The envelope.
    pub sealed: Sealed,
    /// Its number in the tracker's log, once known.
    pub seq: Option<u64>,
    /// How it came here first.
    pub path: Path,
    /// When it came here first, milliseconds since 1970.
    pub received_at_ms: u64,
    /// The devices known to have stored it: those whose acknowledged mark reaches its number.
    pub holders: Vec<DeviceId>,
}

impl Entry {
    /// Its place in the channel.
    pub fn order_key(&self) -> OrderKey {
        OrderKey::new(self.seq, self.sealed.envelope().lamport, self.sealed.id())
    }

    /// How far it has come, as far as this peer knows.
    pub fn state(&self) -> DeliveryState {
        DeliveryState::of(self.seq, &self.holders)
    }
}
