//! What survives a crash: the chains of one device, as a history keeps them.

use chat::{AppendError, ChannelName, DeviceId, EnvelopeId, Head, Inserted, OrderKey, Sealed, check_chain};
use std::collections::{BTreeMap, HashSet};

/// The durable state of one device.
#[derive(Default)]
pub(crate) struct Disk {
    pub(crate) chains: BTreeMap<(ChannelName, DeviceId), Vec<Sealed>>,
    ids: HashSet<EnvelopeId>,
}

impl Disk {
    pub(crate) fn insert(&mut self, sealed: &Sealed) -> Result<Inserted, AppendError> {
        if self.ids.contains(&sealed.id()) {
            return Ok(Inserted::Known);
        }
        let envelope = sealed.envelope();
        check_chain(self.head(&envelope.channel, envelope.device).as_ref(), envelope)?;
        self.ids.insert(sealed.id());
        self.chains.entry((envelope.channel.clone(), envelope.device)).or_default().push(sealed.clone());
        Ok(Inserted::New)
    }

    pub(crate) fn head(&self, channel: &ChannelName, device: DeviceId) -> Option<Head> {
        let last = self.chains.get(&(channel.clone(), device))?.last()?;
        Some(Head::of(last.envelope(), last.id()))
    }

    pub(crate) fn heads(&self) -> Vec<(ChannelName, Head)> {
        let last = |chain: &Vec<Sealed>| chain.last().map(|last| Head::of(last.envelope(), last.id()));
        self.chains.iter().filter_map(|((channel, _), chain)| Some((channel.clone(), last(chain)?))).collect()
    }

    pub(crate) fn read(&self, channel: &ChannelName, device: DeviceId, from_n: u64, limit: usize) -> Vec<Sealed> {
        let chain = self.chains.get(&(channel.clone(), device)).map_or(&[][..], Vec::as_slice);
        chain.iter().skip(from_n as usize - 1).take(limit).cloned().collect()
    }

    pub(crate) fn lamport(&self, channel: &ChannelName) -> u64 {
        let of =
            |((_, _), chain): (&(ChannelName, DeviceId), &Vec<Sealed>)| chain.last().map(|it| it.envelope().lamport);
        self.chains.iter().filter(|((name, _), _)| name == channel).filter_map(of).max().unwrap_or(0)
    }

    /// The ids of a channel in display order.
    pub(crate) fn display(&self, channel: &ChannelName) -> Vec<EnvelopeId> {
        let chains = self.chains.iter().filter(|((name, _), _)| name == channel);
        let mut entries: Vec<_> = chains
            .flat_map(|(_, chain)| chain)
            .map(|sealed| (OrderKey::new(None, sealed.envelope().lamport, sealed.id()), sealed.id()))
            .collect();
        entries.sort();
        entries.into_iter().map(|(_, id)| id).collect()
    }
}
