//! A peer's history in memory.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::{Mutex, MutexGuard, PoisonError};

use chat::{
    AppendError, Arrival, BoxFuture, ChannelName, DeviceId, Entry, EnvelopeId, Head, History, Inserted, OrderKey,
    Sealed, StoreError, check_chain,
};

use crate::register::under;

/// A [`History`] in memory.
#[derive(Default)]
pub struct MemoryHistory {
    contents: Mutex<Contents>,
}

#[derive(Default)]
struct Contents {
    entries: HashMap<EnvelopeId, Entry>,
    channels: BTreeMap<ChannelName, Channel>,
    /// How far each holder has the chain of a device in a channel.
    marks: HashMap<(ChannelName, DeviceId), BTreeMap<DeviceId, u64>>,
    settings: BTreeMap<String, Vec<u8>>,
}

#[derive(Default)]
struct Channel {
    /// Every entry's place. Ids make places unique even if two trackers numbered differently.
    order: BTreeSet<(OrderKey, EnvelopeId)>,
    /// Index = n - 1.
    chains: BTreeMap<DeviceId, Vec<EnvelopeId>>,
    cursor: u64,
    /// Numbers above the cursor that are seen and not held.
    passed: BTreeSet<u64>,
}

impl Channel {
    fn move_cursor(&mut self) {
        loop {
            let next = self.cursor + 1;
            let key = OrderKey::Logged(next);
            let mut held = self.order.range((key, EnvelopeId([0; 32]))..=(key, EnvelopeId([255; 32])));
            if held.next().is_none() && !self.passed.contains(&next) {
                return;
            }
            self.passed.remove(&next);
            self.cursor = next;
        }
    }
}

impl MemoryHistory {
    /// An empty history.
    pub fn new() -> Self {
        Self::default()
    }

    fn contents(&self) -> MutexGuard<'_, Contents> {
        self.contents.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Contents {
    fn insert(&mut self, arrival: Arrival) -> Result<Inserted, AppendError> {
        let Arrival { sealed, path, received_at_ms } = arrival;
        let (id, envelope) = (sealed.id(), sealed.envelope());
        if self.entries.contains_key(&id) {
            return Ok(Inserted::Known);
        }
        let chain = self.channels.get(&envelope.channel).and_then(|channel| channel.chains.get(&envelope.device));
        let head = chain.and_then(|chain| chain.last()).map(|newest| self.head(newest));
        check_chain(head.as_ref(), envelope)?;
        let channel = self.channels.entry(envelope.channel.clone()).or_default();
        channel.chains.entry(envelope.device).or_default().push(id);
        channel.order.insert((OrderKey::new(None, envelope.lamport, id), id));
        self.entries.insert(id, Entry { sealed, seq: None, path, received_at_ms, holders: Vec::new() });
        Ok(Inserted::New)
    }

    fn head(&self, newest: &EnvelopeId) -> Head {
        Head::of(self.entries[newest].sealed.envelope(), *newest)
    }

    /// The entry with the devices whose marks have passed it.
    fn entry(&self, id: &EnvelopeId) -> Entry {
        let mut entry = self.entries[id].clone();
        let envelope = entry.sealed.envelope();
        let marks = self.marks.get(&(envelope.channel.clone(), envelope.device)).into_iter().flatten();
        entry.holders = marks.filter(|(_, n)| **n >= envelope.n).map(|(holder, _)| *holder).collect();
        entry
    }

    fn sequence(&mut self, name: &ChannelName, numbers: &[(EnvelopeId, u64)]) {
        let Some(channel) = self.channels.get_mut(name) else { return };
        for (id, seq) in numbers {
            let Some(entry) = self.entries.get_mut(id) else { continue };
            if entry.seq.is_some() || entry.sealed.envelope().channel != *name {
                continue;
            }
            channel.order.remove(&(entry.order_key(), *id));
            entry.seq = Some(*seq);
            channel.order.insert((entry.order_key(), *id));
        }
        channel.move_cursor();
    }

    fn pass_over(&mut self, name: &ChannelName, seqs: &[u64]) {
        let channel = self.channels.entry(name.clone()).or_default();
        channel.passed.extend(seqs.iter().filter(|seq| **seq > channel.cursor));
        channel.move_cursor();
    }
}

fn ready<T: Send + 'static>(value: T) -> BoxFuture<'static, Result<T, StoreError>> {
    Box::pin(std::future::ready(Ok(value)))
}

impl History for MemoryHistory {
    fn insert(&self, arrivals: Vec<Arrival>) -> BoxFuture<'_, Result<Vec<Result<Inserted, AppendError>>, StoreError>> {
        let mut contents = self.contents();
        ready(arrivals.into_iter().map(|arrival| contents.insert(arrival)).collect())
    }

    fn sequence(
        &self,
        channel: &ChannelName,
        numbers: Vec<(EnvelopeId, u64)>,
    ) -> BoxFuture<'_, Result<(), StoreError>> {
        self.contents().sequence(channel, &numbers);
        ready(())
    }

    fn pass_over(&self, channel: &ChannelName, seqs: Vec<u64>) -> BoxFuture<'_, Result<(), StoreError>> {
        self.contents().pass_over(channel, &seqs);
        ready(())
    }

    fn cursor(&self, channel: &ChannelName) -> BoxFuture<'_, Result<u64, StoreError>> {
        ready(self.contents().channels.get(channel).map_or(0, |channel| channel.cursor))
    }

    fn acknowledge(
        &self,
        channel: &ChannelName,
        device: &DeviceId,
        n: u64,
        holder: DeviceId,
    ) -> BoxFuture<'_, Result<(), StoreError>> {
        let mut contents = self.contents();
        let mark = contents.marks.entry((channel.clone(), *device)).or_default().entry(holder).or_default();
        *mark = n.max(*mark);
        ready(())
    }

    fn timeline(
        &self,
        channel: &ChannelName,
        before: Option<OrderKey>,
        limit: usize,
    ) -> BoxFuture<'_, Result<Vec<Entry>, StoreError>> {
        let contents = self.contents();
        let order = contents.channels.get(channel).into_iter().flat_map(|channel| channel.order.iter().rev());
        let earlier = order.filter(|(key, _)| before.is_none_or(|before| *key < before));
        let mut found: Vec<_> = earlier.take(limit).map(|(_, id)| contents.entry(id)).collect();
        found.reverse();
        ready(found)
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
        let skip = usize::try_from(from_n).unwrap_or(usize::MAX).saturating_sub(1);
        let ids = chain.into_iter().flatten().skip(skip).take(limit);
        ready(ids.map(|id| contents.entries[id].sealed.clone()).collect())
    }

    fn heads(&self) -> BoxFuture<'_, Result<Vec<(ChannelName, Head)>, StoreError>> {
        let contents = self.contents();
        let mut heads = Vec::new();
        for (name, channel) in &contents.channels {
            let newest = channel.chains.values().filter_map(|chain| chain.last());
            heads.extend(newest.map(|newest| (name.clone(), contents.head(newest))));
        }
        ready(heads)
    }

    fn unsequenced(
        &self,
        channel: &ChannelName,
        after: Option<OrderKey>,
        limit: usize,
    ) -> BoxFuture<'_, Result<Vec<Sealed>, StoreError>> {
        let contents = self.contents();
        let order = contents.channels.get(channel).into_iter().flat_map(|channel| channel.order.iter());
        let pending = order.filter(|(key, _)| key.seq().is_none() && after.is_none_or(|after| *key > after));
        ready(pending.take(limit).map(|(_, id)| contents.entries[id].sealed.clone()).collect())
    }

    fn channels(&self) -> BoxFuture<'_, Result<Vec<ChannelName>, StoreError>> {
        let contents = self.contents();
        let holding = contents.channels.iter().filter(|(_, channel)| !channel.chains.is_empty());
        ready(holding.map(|(name, _)| name.clone()).collect())
    }

    fn get(&self, key: &str) -> BoxFuture<'_, Result<Option<Vec<u8>>, StoreError>> {
        ready(self.contents().settings.get(key).cloned())
    }

    fn put(&self, key: &str, value: Vec<u8>) -> BoxFuture<'_, Result<(), StoreError>> {
        self.contents().settings.insert(key.to_owned(), value);
        ready(())
    }

    fn list(&self, prefix: &str) -> BoxFuture<'_, Result<Vec<(String, Vec<u8>)>, StoreError>> {
        let contents = self.contents();
        ready(under(&contents.settings, prefix).map(|(key, value)| (key.clone(), value.clone())).collect())
    }
}
