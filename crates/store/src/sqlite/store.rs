//! The tracker's store in one `SQLite` file.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use chat::{
    AppendError, Appended, BoxFuture, ChannelName, Conflict, DeviceId, Expect, Head, Logged, Sealed, Store, StoreError,
    Versioned, Watch,
};
use tokio::sync::watch;

use super::database::Database;
use super::open::OpenError;
use super::{log, register, schema};
use crate::leases::Leases;
use crate::watch::{PositionWatch, advance};

/// The file's name in its data directory.
const FILE: &str = "store.db";

/// A [`Store`] in one `SQLite` file, `store.db` (and its `-wal` and `-shm` beside it), of a data directory.
///
/// Dropping it finishes the queued writes and closes the file.
pub struct SqliteStore {
    // Declared first, so that writes queued at the end can still be announced.
    database: Database,
    position: Arc<watch::Sender<u64>>,
    leases: Leases,
}

impl SqliteStore {
    /// Opens the store of a data directory, making the directory (0700) and the file (0600) if they are missing.
    ///
    /// Blocks for some milliseconds: a start-up call.
    ///
    /// # Errors
    /// Names the file, what is wrong with it, and what to do.
    pub fn open(directory: impl AsRef<Path>) -> Result<Self, OpenError> {
        let (database, last_position) =
            Database::open(&directory.as_ref().join(FILE), &schema::STORE, log::last_position)?;
        let position = Arc::new(watch::Sender::new(last_position));
        Ok(Self { database, position, leases: Leases::default() })
    }
}

impl Store for SqliteStore {
    fn append(&self, entries: Vec<Sealed>) -> BoxFuture<'_, Result<Vec<Result<Appended, AppendError>>, StoreError>> {
        let position = Arc::clone(&self.position);
        Box::pin(
            self.database
                .write(move |connection| log::append(connection, &entries), move |results| advance(&position, results)),
        )
    }

    fn read(
        &self,
        channel: &ChannelName,
        after_seq: u64,
        limit: usize,
    ) -> BoxFuture<'_, Result<Vec<Logged>, StoreError>> {
        let channel = channel.clone();
        Box::pin(self.database.read(move |connection| log::read(connection, &channel, after_seq, limit)))
    }

    fn read_before(
        &self,
        channel: &ChannelName,
        before_seq: u64,
        limit: usize,
    ) -> BoxFuture<'_, Result<Vec<Logged>, StoreError>> {
        let channel = channel.clone();
        Box::pin(self.database.read(move |connection| log::read_before(connection, &channel, before_seq, limit)))
    }

    fn read_all(&self, after_position: u64, limit: usize) -> BoxFuture<'_, Result<Vec<Logged>, StoreError>> {
        Box::pin(self.database.read(move |connection| log::read_all(connection, after_position, limit)))
    }

    fn chain(
        &self,
        channel: &ChannelName,
        device: &DeviceId,
        from_n: u64,
        limit: usize,
    ) -> BoxFuture<'_, Result<Vec<Sealed>, StoreError>> {
        let (channel, device) = (channel.clone(), *device);
        Box::pin(self.database.read(move |connection| log::chain(connection, &channel, &device, from_n, limit)))
    }

    fn heads(&self, channel: &ChannelName) -> BoxFuture<'_, Result<Vec<Head>, StoreError>> {
        let channel = channel.clone();
        Box::pin(self.database.read(move |connection| log::heads(connection, &channel)))
    }

    fn last(&self, channel: &ChannelName) -> BoxFuture<'_, Result<u64, StoreError>> {
        let channel = channel.clone();
        Box::pin(self.database.read(move |connection| log::last(connection, &channel)))
    }

    fn last_position(&self) -> BoxFuture<'_, Result<u64, StoreError>> {
        Box::pin(self.database.read(log::last_position))
    }

    fn channels(&self) -> BoxFuture<'_, Result<Vec<(ChannelName, u64)>, StoreError>> {
        Box::pin(self.database.read(log::channels))
    }

    fn watch(&self) -> Box<dyn Watch> {
        Box::new(PositionWatch::of(&self.position))
    }

    fn get(&self, key: &str) -> BoxFuture<'_, Result<Option<Versioned>, StoreError>> {
        let key = key.to_owned();
        Box::pin(self.database.read(move |connection| register::get(connection, &key)))
    }

    fn put(
        &self,
        key: &str,
        value: Vec<u8>,
        expect: Expect,
    ) -> BoxFuture<'_, Result<Result<u64, Conflict>, StoreError>> {
        let key = key.to_owned();
        Box::pin(self.database.write(move |connection| register::put(connection, &key, &value, expect), |_| ()))
    }

    fn delete(&self, key: &str, expect: Expect) -> BoxFuture<'_, Result<Result<(), Conflict>, StoreError>> {
        let key = key.to_owned();
        Box::pin(self.database.write(move |connection| register::delete(connection, &key, expect), |_| ()))
    }

    fn list(
        &self,
        prefix: &str,
        after: Option<&str>,
        limit: usize,
    ) -> BoxFuture<'_, Result<Vec<(String, Versioned)>, StoreError>> {
        let (prefix, after) = (prefix.to_owned(), after.map(str::to_owned));
        Box::pin(self.database.read(move |connection| register::list(connection, &prefix, after.as_deref(), limit)))
    }

    fn lease(&self, key: &str, value: Vec<u8>, ttl: Duration) -> BoxFuture<'_, Result<(), StoreError>> {
        let taken = self.leases.lease(key, value, ttl);
        Box::pin(std::future::ready(taken))
    }

    fn release(&self, key: &str) -> BoxFuture<'_, Result<(), StoreError>> {
        self.leases.release(key);
        Box::pin(std::future::ready(Ok(())))
    }

    fn leases(&self, prefix: &str) -> BoxFuture<'_, Result<Vec<(String, Vec<u8>)>, StoreError>> {
        Box::pin(std::future::ready(Ok(self.leases.live(prefix))))
    }
}
