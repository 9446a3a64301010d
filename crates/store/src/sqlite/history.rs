//! A peer's history in one `SQLite` file.

use std::path::Path as FilePath;

use chat::{
    AppendError, Arrival, BoxFuture, ChannelName, DeviceId, Entry, EnvelopeId, Expect, Head, History, Inserted,
    OrderKey, Sealed, StoreError,
};

use super::database::Database;
use super::open::OpenError;
use super::{entries, register, schema};

/// The file's name in its data directory.
const FILE: &str = "history.db";

/// A [`History`] in one `SQLite` file, `history.db` (and its `-wal` and `-shm` beside it), of a data directory.
///
/// Dropping it finishes the queued writes and closes the file.
pub struct SqliteHistory {
    database: Database,
}

impl SqliteHistory {
    /// Opens the history of a data directory, making the directory (0700) and the file (0600) if they are missing.
    ///
    /// Blocks for some milliseconds: a start-up call.
    ///
    /// # Errors
    /// Names the file, what is wrong with it, and what to do.
    pub fn open(directory: impl AsRef<FilePath>) -> Result<Self, OpenError> {
        let (database, ()) = Database::open(&directory.as_ref().join(FILE), &schema::HISTORY, |_| Ok(()))?;
        Ok(Self { database })
    }
}

impl History for SqliteHistory {
    fn insert(&self, arrivals: Vec<Arrival>) -> BoxFuture<'_, Result<Vec<Result<Inserted, AppendError>>, StoreError>> {
        Box::pin(self.database.write(move |connection| entries::insert(connection, &arrivals), |_| ()))
    }

    fn sequence(
        &self,
        channel: &ChannelName,
        numbers: Vec<(EnvelopeId, u64)>,
    ) -> BoxFuture<'_, Result<(), StoreError>> {
        let channel = channel.clone();
        Box::pin(self.database.write(move |connection| entries::sequence(connection, &channel, &numbers), |()| ()))
    }

    fn pass_over(&self, channel: &ChannelName, seqs: Vec<u64>) -> BoxFuture<'_, Result<(), StoreError>> {
        let channel = channel.clone();
        Box::pin(self.database.write(move |connection| entries::pass_over(connection, &channel, &seqs), |()| ()))
    }

    fn cursor(&self, channel: &ChannelName) -> BoxFuture<'_, Result<u64, StoreError>> {
        let channel = channel.clone();
        Box::pin(self.database.read(move |connection| entries::cursor(connection, &channel)))
    }

    fn acknowledge(
        &self,
        channel: &ChannelName,
        device: &DeviceId,
        n: u64,
        holder: DeviceId,
    ) -> BoxFuture<'_, Result<(), StoreError>> {
        let (channel, device) = (channel.clone(), *device);
        let acknowledge = move |connection: &_| entries::acknowledge(connection, &channel, &device, n, &holder);
        Box::pin(self.database.write(acknowledge, |()| ()))
    }

    fn timeline(
        &self,
        channel: &ChannelName,
        before: Option<OrderKey>,
        limit: usize,
    ) -> BoxFuture<'_, Result<Vec<Entry>, StoreError>> {
        let channel = channel.clone();
        Box::pin(self.database.read(move |connection| entries::timeline(connection, &channel, before, limit)))
    }

    fn chain(
        &self,
        channel: &ChannelName,
        device: &DeviceId,
        from_n: u64,
        limit: usize,
    ) -> BoxFuture<'_, Result<Vec<Sealed>, StoreError>> {
        let (channel, device) = (channel.clone(), *device);
        Box::pin(self.database.read(move |connection| entries::chain(connection, &channel, &device, from_n, limit)))
    }

    fn heads(&self) -> BoxFuture<'_, Result<Vec<(ChannelName, Head)>, StoreError>> {
        Box::pin(self.database.read(entries::heads))
    }

    fn unsequenced(
        &self,
        channel: &ChannelName,
        after: Option<OrderKey>,
        limit: usize,
    ) -> BoxFuture<'_, Result<Vec<Sealed>, StoreError>> {
        let channel = channel.clone();
        Box::pin(self.database.read(move |connection| entries::unsequenced(connection, &channel, after, limit)))
    }

    fn channels(&self) -> BoxFuture<'_, Result<Vec<ChannelName>, StoreError>> {
        Box::pin(self.database.read(entries::channels))
    }

    fn get(&self, key: &str) -> BoxFuture<'_, Result<Option<Vec<u8>>, StoreError>> {
        let key = key.to_owned();
        Box::pin(self.database.read(move |connection| Ok(register::get(connection, &key)?.map(|found| found.value))))
    }

    fn put(&self, key: &str, value: Vec<u8>) -> BoxFuture<'_, Result<(), StoreError>> {
        let key = key.to_owned();
        let put = move |connection: &_| register::put(connection, &key, &value, Expect::Any).map(drop);
        Box::pin(self.database.write(put, |()| ()))
    }

    fn list(&self, prefix: &str) -> BoxFuture<'_, Result<Vec<(String, Vec<u8>)>, StoreError>> {
        let prefix = prefix.to_owned();
        Box::pin(self.database.read(move |connection| {
            let found = register::list(connection, &prefix, None, usize::MAX)?;
            Ok(found.into_iter().map(|(key, setting)| (key, setting.value)).collect())
        }))
    }
}
