//! What a tracker needs of its storage: a log per channel and a register. No implementation lives here.

use crate::BoxFuture;
use crate::chain::{AppendError, Head};
use crate::ids::DeviceId;
use crate::names::ChannelName;
use crate::sealed::Sealed;
use std::time::Duration;

/// The tracker's storage. All writes except leases are durable (fsynced) when their future resolves; dropping the
/// future does not undo a write. Methods take copies of their arguments: a future borrows the store alone.
pub trait Store: Send + Sync {
    /// Appends envelopes to the logs of their channels, in the order given. Idempotent by id. Refuses what does not
    /// continue its device's chain, see [`crate::check_chain`]. One result per entry, in order.
    fn append(&self, entries: Vec<Sealed>) -> BoxFuture<'_, Result<Vec<Result<Appended, AppendError>>, StoreError>>;

    /// Reads up to `limit` entries of a channel with a sequence number above `after_seq`, ascending.
    fn read(
        &self,
        channel: &ChannelName,
        after_seq: u64,
        limit: usize,
    ) -> BoxFuture<'_, Result<Vec<Logged>, StoreError>>;

    /// Reads the newest `limit` entries of a channel with a sequence number below `before_seq`, ascending.
    fn read_before(
        &self,
        channel: &ChannelName,
        before_seq: u64,
        limit: usize,
    ) -> BoxFuture<'_, Result<Vec<Logged>, StoreError>>;

    /// Reads up to `limit` entries of all channels with a position above `after_position`, ascending.
    fn read_all(&self, after_position: u64, limit: usize) -> BoxFuture<'_, Result<Vec<Logged>, StoreError>>;

    /// Reads up to `limit` envelopes of one device in one channel, from number `from_n` on, ascending.
    fn chain(
        &self,
        channel: &ChannelName,
        device: &DeviceId,
        from_n: u64,
        limit: usize,
    ) -> BoxFuture<'_, Result<Vec<Sealed>, StoreError>>;

    /// The newest envelope of every device in a channel.
    fn heads(&self, channel: &ChannelName) -> BoxFuture<'_, Result<Vec<Head>, StoreError>>;

    /// The highest sequence number of a channel, 0 when it is empty.
    fn last(&self, channel: &ChannelName) -> BoxFuture<'_, Result<u64, StoreError>>;

    /// The highest position of all, 0 when nothing is stored.
    fn last_position(&self) -> BoxFuture<'_, Result<u64, StoreError>>;

    /// All channels that hold anything, with their highest sequence number.
    fn channels(&self) -> BoxFuture<'_, Result<Vec<(ChannelName, u64)>, StoreError>>;

    /// Watches for appends.
    fn watch(&self) -> Box<dyn Watch>;

    /// Reads a key of the register.
    fn get(&self, key: &str) -> BoxFuture<'_, Result<Option<Versioned>, StoreError>>;

    /// Writes a key of the register if its version is as expected; gives the new version (the first one is 1).
    fn put(
        &self,
        key: &str,
        value: Vec<u8>,
        expect: Expect,
    ) -> BoxFuture<'_, Result<Result<u64, Conflict>, StoreError>>;

    /// Removes a key of the register if its version is as expected. Removing what is absent is not an error unless a
    /// version was expected.
    fn delete(&self, key: &str, expect: Expect) -> BoxFuture<'_, Result<Result<(), Conflict>, StoreError>>;

    /// Lists up to `limit` keys that start with `prefix` and come after `after`, ascending.
    fn list(
        &self,
        prefix: &str,
        after: Option<&str>,
        limit: usize,
    ) -> BoxFuture<'_, Result<Vec<(String, Versioned)>, StoreError>>;

    /// Sets a volatile value that lapses after `ttl` unless set again. Gone after a restart.
    fn lease(&self, key: &str, value: Vec<u8>, ttl: Duration) -> BoxFuture<'_, Result<(), StoreError>>;

    /// Ends a lease early.
    fn release(&self, key: &str) -> BoxFuture<'_, Result<(), StoreError>>;

    /// The live leases whose key starts with `prefix`, ascending.
    fn leases(&self, prefix: &str) -> BoxFuture<'_, Result<KeyValues, StoreError>>;
}

/// Keys with their values, ascending by key.
pub type KeyValues = Vec<(String, Vec<u8>)>;

/// A subscription to a store's appends.
pub trait Watch: Send {
    /// Waits until the latest position differs from the one this watch gave last, then gives it. A watch starts at the
    /// position current when it was made. Several appends may be seen as one change.
    fn changed(&mut self) -> BoxFuture<'_, Result<u64, Closed>>;
}

/// Where an appended envelope lies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Appended {
    /// Number in its channel's log, dense from 1.
    pub seq: u64,
    /// Number over all channels, increasing from 1.
    pub position: u64,
    /// Whether the store held it already; nothing was written then.
    pub known: bool,
}

/// An entry of a log.
#[derive(Debug, Clone)]
pub struct Logged {
    /// Number in its channel's log, dense from 1.
    pub seq: u64,
    /// Number over all channels, increasing.
    pub position: u64,
    /// The envelope.
    pub sealed: Sealed,
}

/// A value of the register.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Versioned {
    /// The value.
    pub value: Vec<u8>,
    /// Rises by one with every write of the key, from 1.
    pub version: u64,
}

/// The condition of a write to the register.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Expect {
    /// Whatever is there.
    Any,
    /// The key does not exist.
    Absent,
    /// The key has exactly this version.
    Version(u64),
}

/// A conditional write that did not happen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the key has version {current:?} by now")]
pub struct Conflict {
    /// The version that is there; `None` when the key does not exist.
    pub current: Option<u64>,
}

/// The store has stopped.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the store is closed")]
pub struct Closed;

/// A store that cannot do what was asked. Whether a write of the call happened is unknown; sending it again is
/// harmless.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StoreError {
    /// It has stopped.
    #[error("the store is closed")]
    Closed,
    /// Too much waits already; try again later.
    #[error("the store is busy")]
    Busy,
    /// The disk or the database refused.
    #[error("the store failed: {0}")]
    Failed(String),
    /// What lies on disk is not what was written.
    #[error("the store is damaged: {0}")]
    Damaged(String),
}

impl From<Closed> for StoreError {
    fn from(_: Closed) -> Self {
        Self::Closed
    }
}
