//! What a peer knows of one channel beside its messages.

use std::collections::{HashMap, HashSet, VecDeque};

use crate::membership::Intent;
use chat::client::ChannelSummary;
use chat::{ChannelName, DeviceId, EnvelopeId, Head, OrderKey, Sealed, SignedRoster, UserName, Visibility};
use serde::{Deserialize, Serialize};

/// Texts that wait for a channel to be ready.
pub(crate) const WAITING_MAX: usize = 1000;
/// Changes that wait for the one under way.
pub(crate) const INTENTS_MAX: usize = 32;
/// Own messages whose way is told as it changes, per channel.
const OWN_FOLLOWED_MAX: usize = 10_000;
/// Devices remembered as hosted, per channel.
const HOSTED_MAX: usize = 10_000;

/// One channel.
#[derive(Debug, Default)]
pub(crate) struct Channel {
    /// The newest roster held.
    pub(crate) roster: Option<SignedRoster>,
    /// Whether this user is in it.
    pub(crate) standing: Standing,
    pub(crate) visibility: Option<Visibility>,
    /// As the tracker lists them, for channels without a roster.
    pub(crate) members_listed: usize,
    /// The end of this device's chain.
    pub(crate) head: Option<Head>,
    /// The highest Lamport time seen.
    pub(crate) lamport: u64,
    /// Up to where the tracker's log is held.
    pub(crate) cursor: u64,
    /// The highest number of the log heard of.
    pub(crate) heard: u64,
    /// Whether a gap was told and not yet taken back.
    pub(crate) gap_told: bool,
    /// Whether a task is at work on who is in it.
    pub(crate) changing: bool,
    /// Whether the tracker's log is read before the first words: it may hold what this device said in a history that is
    /// lost, and the chain must go on from there.
    pub(crate) log_first: bool,
    /// A change whose way is not known.
    pub(crate) unresolved: Option<Sealed>,
    /// What else the user wants of who is in it, one after the other.
    pub(crate) intents: VecDeque<Intent>,
    /// What the user said meanwhile. It is on disk, too, until its envelopes are.
    pub(crate) waiting: VecDeque<Waiting>,
    pub(crate) unread: u64,
    /// Up to where the user has read.
    pub(crate) read: Option<OrderKey>,
    /// When to hand others' messages over, if their authors do not.
    pub(crate) sync_at_ms: Option<u64>,
    /// Devices whose key the tracker holds, beside those of the roster.
    hosted: HashSet<DeviceId>,
    own: HashMap<EnvelopeId, Own>,
    /// Their numbers and ids, ascending.
    own_order: VecDeque<(u64, EnvelopeId)>,
    /// Up to where each device has acknowledged them.
    acknowledged: HashMap<DeviceId, u64>,
}

/// Whether the user is in a channel.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Standing {
    /// No.
    #[default]
    Outside,
    /// Not yet, but it is tried.
    Wanted,
    /// Yes.
    Joined,
}

/// How far an own message has come.
#[derive(Debug, Default, Clone)]
pub(crate) struct Own {
    pub(crate) lamport: u64,
    pub(crate) seq: Option<u64>,
    pub(crate) holders: Vec<DeviceId>,
}

/// Something said before its channel was ready.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Waiting {
    /// When it was said; with the text it tells whether an envelope says it already.
    pub(crate) said_at_ms: u64,
    pub(crate) text: String,
}

impl Channel {
    /// Whether the user is in it.
    pub(crate) fn is_joined(&self) -> bool {
        self.standing == Standing::Joined
    }

    /// Whether it belongs into a list for people: a direct channel in which nothing was ever said does not.
    pub(crate) fn is_listed(&self, name: &ChannelName) -> bool {
        if name.is_direct() {
            self.is_joined() && self.lamport > 0
        } else {
            self.is_joined() || self.members_listed > 0
        }
    }

    /// Whether something can be said in it at once.
    pub(crate) fn is_ready(&self) -> bool {
        self.is_joined() && !self.is_held_up() && self.waiting.is_empty()
    }

    /// Whether nothing can be said in it before something else has ended.
    pub(crate) fn is_held_up(&self) -> bool {
        self.changing || self.log_first || self.unresolved.is_some()
    }

    /// Whether it will become ready by itself.
    pub(crate) fn is_coming(&self) -> bool {
        match self.standing {
            Standing::Wanted => true,
            Standing::Joined => self.is_held_up() || !self.waiting.is_empty(),
            Standing::Outside => false,
        }
    }

    /// An envelope is part of the history now.
    pub(crate) fn handle_held(&mut self, sealed: &Sealed, me: &DeviceId) {
        let envelope = sealed.envelope();
        self.lamport = self.lamport.max(envelope.lamport);
        if envelope.device == *me && self.head.as_ref().is_none_or(|head| head.n < envelope.n) {
            self.head = Some(Head::of(envelope, sealed.id()));
        }
    }

    /// Follows an own message from now on.
    pub(crate) fn follow(&mut self, sealed: &Sealed) {
        let own = Own { lamport: sealed.envelope().lamport, ..Own::default() };
        if self.own.insert(sealed.id(), own).is_none() {
            self.own_order.push_back((sealed.envelope().n, sealed.id()));
        }
        if self.own_order.len() > OWN_FOLLOWED_MAX
            && let Some((_, oldest)) = self.own_order.pop_front()
        {
            self.own.remove(&oldest);
        }
    }

    /// A device has stored the own messages up to number `n`. Gives those for which that is news.
    pub(crate) fn handle_acknowledged(&mut self, n: u64, by: DeviceId) -> Vec<EnvelopeId> {
        let known = self.acknowledged.entry(by).or_insert(0);
        let first = self.own_order.partition_point(|(number, _)| *number <= *known);
        *known = n.max(*known);
        let news = self.own_order.range(first..).take_while(|(number, _)| *number <= n).map(|(_, id)| *id);
        let news: Vec<EnvelopeId> = news.collect();
        for id in &news {
            if let Some(own) = self.own.get_mut(id) {
                own.holders.push(by);
            }
        }
        news
    }

    /// Whether the roster has a device as one of a user's.
    pub(crate) fn is_device_of(&self, device: &DeviceId, user: &UserName) -> bool {
        self.roster.as_ref().and_then(|roster| roster.roster().allows(device)).is_some_and(|of| of == user)
    }

    /// Whether the roster has a device.
    pub(crate) fn has_member(&self, device: &DeviceId) -> bool {
        self.roster.as_ref().is_some_and(|roster| roster.roster().allows(device).is_some())
    }

    /// Whether a device has acknowledged everything that was said here.
    pub(crate) fn has_all(&self, device: &DeviceId) -> bool {
        self.acknowledged.get(device).copied().unwrap_or(0) >= self.head.as_ref().map_or(0, |head| head.n)
    }

    /// A followed message.
    pub(crate) fn own_mut(&mut self, id: &EnvelopeId) -> Option<&mut Own> {
        self.own.get_mut(id)
    }

    /// The channel as a line of a list.
    pub(crate) fn summary(&self, name: &ChannelName) -> ChannelSummary {
        let members = self.roster.as_ref().map_or(self.members_listed, |roster| roster.roster().members.len());
        let direct = if name.is_direct() { Visibility::Direct } else { Visibility::Public };
        ChannelSummary {
            name: name.clone(),
            visibility: self.visibility.unwrap_or(direct),
            member: self.is_joined(),
            members,
            unread: self.unread,
        }
    }

    /// The tracker says that it holds the key of this device.
    pub(crate) fn handle_hosted(&mut self, device: DeviceId) {
        if self.hosted.len() < HOSTED_MAX {
            self.hosted.insert(device);
        }
    }

    /// Whether the tracker holds the key of this device.
    pub(crate) fn is_hosted(&self, device: &DeviceId) -> bool {
        self.hosted.contains(device) || self.roster.as_ref().is_some_and(|roster| roster.roster().is_hosted(device))
    }

    /// Whether a device that the roster knows is another user's than an envelope says.
    pub(crate) fn contradicts(&self, device: &DeviceId, author: &UserName) -> bool {
        self.roster.as_ref().and_then(|roster| roster.roster().allows(device)).is_some_and(|user| user != author)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use chat::{Body, DeviceKey, Draft};

    /// The channel after `count` own messages, with their ids.
    fn spoken(count: usize) -> (Channel, Vec<EnvelopeId>) {
        let key = DeviceKey::from_seed([1; 32]);
        let mut channel = Channel::default();
        let ids = (0..count).map(|_| {
            let draft = Draft {
                channel: "general".parse().unwrap(),
                author: "alice".parse().unwrap(),
                sent_at_ms: 0,
                body: Body::Text { text: "x".to_owned() },
            };
            let envelope = draft.follow(key.id(), channel.head.as_ref(), channel.lamport);
            let sealed = Sealed::seal(&key, &envelope).unwrap();
            channel.handle_held(&sealed, &key.id());
            channel.follow(&sealed);
            sealed.id()
        });
        let ids = ids.collect();
        (channel, ids)
    }

    #[test]
    fn each_acknowledgement_is_told_once_per_device() {
        let (mut channel, ids) = spoken(4);
        let (bob, carol) = (DeviceId([2; 32]), DeviceId([3; 32]));
        assert_eq!(channel.handle_acknowledged(2, bob), ids[..2]);
        assert_eq!(channel.handle_acknowledged(1, bob), []);
        assert_eq!(channel.handle_acknowledged(3, carol), ids[..3]);
        assert_eq!(channel.handle_acknowledged(9, bob), ids[2..]);
        assert_eq!(channel.own_mut(&ids[2]).unwrap().holders, [carol, bob]);
        assert!(channel.has_all(&bob) && !channel.has_all(&carol));
    }
}
