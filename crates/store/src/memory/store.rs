//! The tracker's store in memory.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use chat::{
    AppendError, Appended, BoxFuture, ChannelName, Conflict, DeviceId, Expect, Head, Logged, Sealed, Store, StoreError,
    Versioned, Watch, check_chain,
};
use tokio::sync::watch;

use crate::leases::Leases;
use crate::register::{expect_version, under};
use crate::watch::{PositionWatch, advance};

/// A [`Store`] in memory.
#[derive(Default)]
pub struct MemoryStore {
    contents: Mutex<Contents>,
    position: watch::Sender<u64>,
    leases: Leases,
}

#[derive(Default)]
struct Contents {
    /// Index = position - 1.
    all: Vec<Logged>,
    channels: BTreeMap<ChannelName, Channel>,
    register: BTreeMap<String, Versioned>,
}

#[derive(Default)]
struct Channel {
    /// Index = seq - 1; the value is an index into `Contents::all`.
    log: Vec<usize>,
    /// Index = n - 1; the value is an index into `Contents::all`.
    chains: HashMap<DeviceId, Vec<usize>>,
}

impl MemoryStore {
    /// An empty store.
    pub fn new() -> Self {
        Self::default()
    }

    fn contents(&self) -> MutexGuard<'_, Contents> {
        self.contents.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Contents {
    fn append(&mut self, sealed: Sealed) -> Result<Appended, AppendError> {
        let envelope = sealed.envelope();
        let chain = self.channels.get(&envelope.channel).and_then(|channel| channel.chains.get(&envelope.device));
        let head = chain.and_then(|chain| chain.last()).map(|&newest| head_of(&self.all[newest].sealed));
        let same_n = chain.and_then(|chain| chain.get(envelope.n as usize - 1)).map(|&index| &self.all[index]);
        if let Some(known) = same_n.filter(|known| known.sealed.id() == sealed.id()) {
            return Ok(Appended { seq: known.seq, position: known.position, known: true });
        }
        check_chain(head.as_ref(), envelope)?;
        let index = self.all.len();
        let channel = self.channels.entry(envelope.channel.clone()).or_default();
        channel.log.push(index);
        channel.chains.entry(envelope.device).or_default().push(index);
        let (seq, position) = (channel.log.len() as u64, index as u64 + 1);
        self.all.push(Logged { seq, position, sealed });
        Ok(Appended { seq, position, known: false })
    }

    /// Entries `from..to` of a channel's log, counted from 0; bounds beyond the log are cut.
    fn slice(&self, channel: &ChannelName, from: usize, to: usize) -> Vec<Logged> {
        let log = self.channels.get(channel).map_or(&[][..], |channel| &channel.log);
        let to = to.min(log.len());
        log[from.min(to)..to].iter().map(|&index| self.all[index].clone()).collect()
    }
}

fn head_of(sealed: &Sealed) -> Head {
    Head::of(sealed.envelope(), sealed.id())
}

/// A number as an index; beyond everything where it does not fit.
fn index(number: u64) -> usize {
    usize::try_from(number).unwrap_or(usize::MAX)
}

fn ready<T: Send + 'static>(value: T) -> BoxFuture<'static, Result<T, StoreError>> {
    Box::pin(std::future::ready(Ok(value)))
}

impl Store for MemoryStore {
    fn append(&self, entries: Vec<Sealed>) -> BoxFuture<'_, Result<Vec<Result<Appended, AppendError>>, StoreError>> {
        let results = {
            let mut contents = self.contents();
            entries.into_iter().map(|sealed| contents.append(sealed)).collect::<Vec<_>>()
        };
        advance(&self.position, &results);
        ready(results)
    }

    fn read(
        &self,
        channel: &ChannelName,
        after_seq: u64,
        limit: usize,
    ) -> BoxFuture<'_, Result<Vec<Logged>, StoreError>> {
        let from = index(after_seq);
        ready(self.contents().slice(channel, from, from.saturating_add(limit)))
    }

    fn read_before(
        &self,
        channel: &ChannelName,
        before_seq: u64,
        limit: usize,
    ) -> BoxFuture<'_, Result<Vec<Logged>, StoreError>> {
        let contents = self.contents();
        let length = contents.channels.get(channel).map_or(0, |channel| channel.log.len());
        let to = index(before_seq).saturating_sub(1).min(length);
        ready(contents.slice(channel, to.saturating_sub(limit), to))
    }

    fn read_all(&self, after_position: u64, limit: usize) -> BoxFuture<'_, Result<Vec<Logged>, StoreError>> {
        let contents = self.contents();
        ready(contents.all.iter().skip(index(after_position)).take(limit).cloned().collect())
    }

    fn chain(
        &self,
        channel: &ChannelName,
        device: &DeviceId,
        from_n: u64,
        limit: usize,
    ) -> BoxFuture<'_, Result<Vec<Sealed>, StoreError>> {
        let contents = self.contents();
        let chain = contents.channels.get(channel).and_then(|channel| channel.chains.get(device));
        let chain = chain.into_iter().flatten().skip(index(from_n).saturating_sub(1)).take(limit);
        ready(chain.map(|&index| contents.all[index].sealed.clone()).collect())
    }

    fn heads(&self, channel: &ChannelName) -> BoxFuture<'_, Result<Vec<Head>, StoreError>> {
        let contents = self.contents();
        let chains = contents.channels.get(channel).into_iter().flat_map(|channel| channel.chains.values());
        let newest = chains.filter_map(|chain| chain.last());
        let mut heads: Vec<_> = newest.map(|&index| head_of(&contents.all[index].sealed)).collect();
        heads.sort_by_key(|head| head.device);
        ready(heads)
    }

    fn last(&self, channel: &ChannelName) -> BoxFuture<'_, Result<u64, StoreError>> {
        ready(self.contents().channels.get(channel).map_or(0, |channel| channel.log.len() as u64))
    }

    fn last_position(&self) -> BoxFuture<'_, Result<u64, StoreError>> {
        ready(self.contents().all.len() as u64)
    }

    fn channels(&self) -> BoxFuture<'_, Result<Vec<(ChannelName, u64)>, StoreError>> {
        let contents = self.contents();
        ready(contents.channels.iter().map(|(name, channel)| (name.clone(), channel.log.len() as u64)).collect())
    }

    fn watch(&self) -> Box<dyn Watch> {
        Box::new(PositionWatch::of(&self.position))
    }

    fn get(&self, key: &str) -> BoxFuture<'_, Result<Option<Versioned>, StoreError>> {
        ready(self.contents().register.get(key).cloned())
    }

    fn put(
        &self,
        key: &str,
        value: Vec<u8>,
        expect: Expect,
    ) -> BoxFuture<'_, Result<Result<u64, Conflict>, StoreError>> {
        let register = &mut self.contents().register;
        let current = register.get(key).map(|found| found.version);
        let put = expect_version(expect, current).map(|()| {
            let version = current.unwrap_or(0) + 1;
            register.insert(key.to_owned(), Versioned { value, version });
            version
        });
        ready(put)
    }

    fn delete(&self, key: &str, expect: Expect) -> BoxFuture<'_, Result<Result<(), Conflict>, StoreError>> {
        let register = &mut self.contents().register;
        let current = register.get(key).map(|found| found.version);
        ready(expect_version(expect, current).map(|()| drop(register.remove(key))))
    }

    fn list(
        &self,
        prefix: &str,
        after: Option<&str>,
        limit: usize,
    ) -> BoxFuture<'_, Result<Vec<(String, Versioned)>, StoreError>> {
        let contents = self.contents();
        let beyond =
            under(&contents.register, prefix).filter(|(key, _)| after.is_none_or(|after| key.as_str() > after));
        ready(beyond.take(limit).map(|(key, found)| (key.clone(), found.clone())).collect())
    }

    fn lease(&self, key: &str, value: Vec<u8>, ttl: Duration) -> BoxFuture<'_, Result<(), StoreError>> {
        Box::pin(std::future::ready(self.leases.lease(key, value, ttl)))
    }

    fn release(&self, key: &str) -> BoxFuture<'_, Result<(), StoreError>> {
        self.leases.release(key);
        ready(())
    }

    fn leases(&self, prefix: &str) -> BoxFuture<'_, Result<Vec<(String, Vec<u8>)>, StoreError>> {
        ready(self.leases.live(prefix))
    }
}
