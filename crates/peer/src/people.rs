//! The devices a peer has to do with: whose they are, where they are, how they are linked, and when to dial them next.
//! Pure: the time is an argument.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use chat::client::PeerSummary;
use chat::{DeviceId, Path, UserName};
use p2p::LinkId;

use crate::backoff::Backoff;
use crate::settings::Pace;
use crate::wire::ADDRESSES_MAX;

/// Devices known at a time.
const PEOPLE_MAX: usize = 20_000;
/// Links sought at a time; beyond it devices are reached through the others and the tracker.
const LINKS_SOUGHT_MAX: usize = 256;

/// One device of somebody.
#[derive(Debug)]
#[allow(clippy::struct_excessive_bools)] // independent facts: every combination occurs
pub(crate) struct Person {
    pub(crate) user: UserName,
    pub(crate) hosted: bool,
    /// Whether a roster of ours has it.
    pub(crate) member: bool,
    /// Whether the tracker says that it is there.
    pub(crate) online: bool,
    pub(crate) addresses: Vec<SocketAddr>,
    pub(crate) link: Option<Linked>,
    dialling: bool,
    /// How long this side leaves the dialling to the other one.
    courtesy_ms: u64,
    /// Not before this time.
    dial_at_ms: u64,
    backoff: Backoff,
    /// Whether the tracker's list had it: if that gave no address, there is none.
    listed: bool,
    /// How often dialling failed in a row.
    failures: u32,
}

/// The link with a device.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Linked {
    pub(crate) link: LinkId,
    pub(crate) path: Path,
    pub(crate) address: Option<SocketAddr>,
    /// Whether this side dialled.
    pub(crate) dialled: bool,
    pub(crate) since_ms: u64,
}

/// All of them.
#[derive(Debug)]
pub(crate) struct People {
    me: DeviceId,
    pace: Pace,
    by_device: BTreeMap<DeviceId, Person>,
    /// Whether the tracker is there: then its word on who is online counts.
    tracker_online: bool,
}

/// A relayed link is kept this long before a direct one is tried again.
const RELAYED_REDIAL_MS: u64 = 30_000;
/// What the tracker's word changed.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(crate) struct News {
    /// Whether the device is there or not.
    pub(crate) presence: bool,
    /// Where it is.
    pub(crate) addresses: bool,
}

/// Two links with one device, one of them must go: a link younger than this is taken for the other half of a
/// simultaneous dial.
const YOUNG_MS: u64 = 3000;

/// Decides whether a second link with the same device replaces the first. Both ends come to the same answer: a direct
/// link beats a relayed one; of two dialled at once, the one dialled by the smaller id stays; otherwise whoever dials
/// again has lost the old one.
pub(crate) fn replaces(me: DeviceId, other: DeviceId, old: &Linked, new: &Linked) -> bool {
    let rank = |path: Path| u8::from(path != Path::Direct);
    if rank(old.path) != rank(new.path) {
        return rank(new.path) < rank(old.path);
    }
    let by_smaller = |link: &Linked| link.dialled == (me < other);
    if new.since_ms.saturating_sub(old.since_ms) < YOUNG_MS && by_smaller(old) != by_smaller(new) {
        return by_smaller(new);
    }
    true
}

impl People {
    pub(crate) fn new(me: DeviceId, pace: Pace) -> Self {
        Self { me, pace, by_device: BTreeMap::new(), tracker_online: false }
    }

    pub(crate) fn get(&self, device: &DeviceId) -> Option<&Person> {
        self.by_device.get(device)
    }

    /// The tracker was reached or lost. Without it nobody's presence is known; gives the devices that seem gone for that.
    pub(crate) fn handle_tracker(&mut self, online: bool, now_ms: u64) -> Vec<DeviceId> {
        self.tracker_online = online;
        let mut gone = Vec::new();
        for (device, person) in &mut self.by_device {
            if !online && std::mem::take(&mut person.online) && person.link.is_none() {
                gone.push(*device);
            }
            if person.link.is_none() {
                person.retry(now_ms);
            }
        }
        gone
    }

    /// A roster of ours has this device.
    pub(crate) fn handle_member(&mut self, user: &UserName, device: DeviceId, hosted: bool, now_ms: u64) {
        if let Some(person) = self.entry(user, device, now_ms) {
            person.user = user.clone();
            person.hosted = hosted;
            if !person.member {
                person.member = true;
                person.retry(now_ms);
            }
        }
    }

    /// Rosters changed: only `members` are in them now.
    pub(crate) fn retain_members(&mut self, is_member: impl Fn(&DeviceId) -> bool) {
        for (device, person) in &mut self.by_device {
            person.member = is_member(device);
        }
        self.by_device.retain(|_, person| person.member || person.link.is_some());
    }

    /// The tracker tells of a device.
    pub(crate) fn handle_presence(
        &mut self,
        device: DeviceId,
        online: bool,
        addresses: Vec<SocketAddr>,
        now_ms: u64,
    ) -> News {
        let Some(person) = self.by_device.get_mut(&device) else { return News::default() };
        let was_there = person.is_there();
        let came = online && !person.online;
        person.online = online;
        let moved = !addresses.is_empty() && person.addresses != addresses;
        if moved {
            person.addresses = addresses;
        }
        if moved || (came && person.link.is_none()) {
            person.retry(now_ms);
        }
        News { presence: was_there != person.is_there(), addresses: moved }
    }

    /// Addresses kept from an earlier run.
    pub(crate) fn handle_known_addresses(&mut self, device: &DeviceId, mut addresses: Vec<SocketAddr>) {
        addresses.truncate(ADDRESSES_MAX);
        if let Some(person) = self.by_device.get_mut(device).filter(|person| person.addresses.is_empty()) {
            person.addresses = addresses;
        }
    }

    /// A link with a device is up.
    pub(crate) fn handle_link(&mut self, device: DeviceId, linked: Linked) {
        if let Some(person) = self.by_device.get_mut(&device) {
            person.dialling = false;
            if let (true, Some(address)) = (linked.dialled, linked.address) {
                person.addresses.retain(|known| *known != address);
                person.addresses.insert(0, address);
                person.addresses.truncate(ADDRESSES_MAX);
            }
            person.link = Some(linked);
            person.dial_at_ms = linked.since_ms + RELAYED_REDIAL_MS;
        }
    }

    /// Both sides have said hello over it.
    pub(crate) fn handle_link_ready(&mut self, device: &DeviceId) {
        if let Some(person) = self.by_device.get_mut(device) {
            person.backoff.worked();
            person.failures = 0;
        }
    }

    /// The link is gone. Gives whether it was the one in use.
    pub(crate) fn handle_link_lost(&mut self, device: &DeviceId, link: LinkId, now_ms: u64, dice: u32) -> bool {
        let Some(person) = self.by_device.get_mut(device) else { return false };
        if person.link.is_none_or(|linked| linked.link != link) {
            return false;
        }
        person.link = None;
        person.dial_at_ms = now_ms + person.backoff.failed(dice).as_millis() as u64;
        true
    }

    /// Dialling came to nothing, or to a link that was not needed.
    pub(crate) fn handle_dial_ended(&mut self, device: &DeviceId, now_ms: u64, dice: u32) {
        if let Some(person) = self.by_device.get_mut(device) {
            person.dialling = false;
            person.failures = person.failures.saturating_add(1);
            person.dial_at_ms = now_ms + person.backoff.failed(dice).as_millis() as u64;
        }
    }

    /// The devices to dial now; each is marked as being dialled.
    pub(crate) fn take_due(&mut self, now_ms: u64) -> Vec<DeviceId> {
        let links = self.by_device.values().filter(|person| person.link.is_some() || person.dialling).count();
        let room = LINKS_SOUGHT_MAX.saturating_sub(links);
        let (me, tracker_online) = (self.me, self.tracker_online);
        let due = self.by_device.iter_mut().filter(|(device, person)| {
            **device != me && person.wants_link(tracker_online) && person.dial_at_ms <= now_ms
        });
        due.take(room)
            .map(|(device, person)| {
                person.dialling = true;
                *device
            })
            .collect()
    }

    /// When [`People::take_due`] has something next.
    pub(crate) fn next_dial_ms(&self) -> Option<u64> {
        let waiting = self
            .by_device
            .iter()
            .filter(|(device, person)| **device != self.me && person.wants_link(self.tracker_online));
        waiting.map(|(_, person)| person.dial_at_ms).min()
    }

    /// All as a list for people, own device left out.
    pub(crate) fn summaries(&self) -> Vec<PeerSummary> {
        let others = self.by_device.iter().filter(|(device, person)| **device != self.me && person.member);
        others
            .map(|(device, person)| PeerSummary {
                user: person.user.clone(),
                device: *device,
                path: person.link.map(|linked| linked.path),
                address: person.address(),
                online: person.is_there(),
                hosted: person.hosted,
            })
            .collect()
    }

    /// Whether this dial may end at the relay. The straight ways come first: the smaller id turns to the relay after one
    /// failure, the larger one after two; at once only where the tracker knows no address.
    pub(crate) fn may_relay(&self, device: &DeviceId) -> bool {
        let failures_needed = if self.me < *device { 1 } else { 2 };
        self.tracker_online
            && self.get(device).is_some_and(|person| {
                let straight_failed = person.failures >= failures_needed || person.addresses.is_empty();
                person.online && person.link.is_none() && straight_failed
            })
    }

    /// The tracker's list has this device.
    pub(crate) fn handle_listed(&mut self, device: &DeviceId) {
        if let Some(person) = self.by_device.get_mut(device) {
            person.listed = true;
        }
    }

    fn entry(&mut self, user: &UserName, device: DeviceId, now_ms: u64) -> Option<&mut Person> {
        if self.by_device.len() >= PEOPLE_MAX && !self.by_device.contains_key(&device) {
            return None;
        }
        let courtesy_ms = if self.me < device { 0 } else { self.pace.courtesy.as_millis() as u64 };
        let fresh = || Person {
            user: user.clone(),
            hosted: false,
            member: false,
            online: false,
            addresses: Vec::new(),
            link: None,
            dialling: false,
            courtesy_ms,
            dial_at_ms: now_ms + courtesy_ms,
            backoff: Backoff::new(self.pace.redial_first, self.pace.redial_max),
            listed: false,
            failures: 0,
        };
        Some(self.by_device.entry(device).or_insert_with(fresh))
    }
}

impl Person {
    /// Whether it is there, by the tracker's word or by a link.
    pub(crate) fn is_there(&self) -> bool {
        self.online || self.link.is_some()
    }

    /// Where it can be dialled, as far as is known; the far end of a link that it dialled is no such address.
    fn address(&self) -> Option<SocketAddr> {
        let dialled = self.link.filter(|linked| linked.dialled).and_then(|linked| linked.address);
        dialled.or(self.addresses.first().copied())
    }

    fn wants_link(&self, tracker_online: bool) -> bool {
        if !self.member || self.hosted || self.dialling {
            return false;
        }
        let has_address = !self.addresses.is_empty();
        match self.link {
            None => (has_address && (self.online || !tracker_online)) || (tracker_online && self.online && self.listed),
            Some(linked) => has_address && linked.path != Path::Direct, // a straight way may have opened
        }
    }

    /// Something changed for the better: dial soon, and start the waits anew.
    fn retry(&mut self, now_ms: u64) {
        self.backoff.worked();
        self.failures = 0;
        self.dial_at_ms = self.dial_at_ms.min(now_ms + self.courtesy_ms);
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    const SMALL: DeviceId = DeviceId([1; 32]);
    const LARGE: DeviceId = DeviceId([2; 32]);

    fn linked(path: Path, dialled: bool, since_ms: u64) -> Linked {
        Linked { link: LinkId(since_ms), path, address: None, dialled, since_ms }
    }

    #[test]
    fn both_ends_keep_the_same_one_of_two_links() {
        // (old, new) as the smaller id sees them: path, dialled by the smaller id, age in ms when the new one comes
        let cases = [
            ((Path::Direct, true), (Path::Direct, false), 100, false),
            ((Path::Direct, false), (Path::Direct, true), 100, true),
            ((Path::Direct, true), (Path::Direct, false), 9000, true),
            ((Path::Direct, true), (Path::Direct, true), 100, true),
            ((Path::Direct, true), (Path::Relayed, true), 9000, false),
            ((Path::Relayed, false), (Path::Direct, false), 100, true),
            ((Path::Relayed, true), (Path::Relayed, false), 100, false),
        ];
        for ((old_path, old_by_small), (new_path, new_by_small), age, expect) in cases {
            let (old, new) = (linked(old_path, old_by_small, 0), linked(new_path, new_by_small, age));
            assert_eq!(replaces(SMALL, LARGE, &old, &new), expect, "{old:?} {new:?}");
            let (old, new) = (linked(old_path, !old_by_small, 0), linked(new_path, !new_by_small, age));
            assert_eq!(replaces(LARGE, SMALL, &old, &new), expect, "seen from the other end");
        }
    }

    fn people(me: DeviceId, other: DeviceId) -> People {
        let mut people = People::new(me, Pace::default());
        people.handle_member(&"bob".parse().unwrap(), other, false, 1000);
        people.handle_presence(other, false, vec!["127.0.0.1:9".parse().unwrap()], 1000);
        people
    }

    #[test]
    fn the_smaller_id_dials_first() {
        assert_eq!(people(SMALL, LARGE).take_due(1000), [LARGE]);
        let mut people = people(LARGE, SMALL);
        assert_eq!(people.take_due(1000), []);
        let at_ms = people.next_dial_ms().unwrap();
        assert!(at_ms > 1000);
        assert_eq!(people.take_due(at_ms), [SMALL]);
        assert_eq!(people.take_due(at_ms), [], "once at a time");
    }

    #[test]
    fn failures_wait_longer_and_good_news_starts_over() {
        let mut people = people(SMALL, LARGE);
        let mut now_ms = 1000;
        let mut waits = Vec::new();
        for _ in 0..4 {
            assert_eq!(people.take_due(now_ms), [LARGE]);
            people.handle_dial_ended(&LARGE, now_ms, u32::MAX);
            let next_ms = people.next_dial_ms().unwrap();
            waits.push(next_ms - now_ms);
            now_ms = next_ms;
        }
        assert_eq!(waits, [500, 1000, 2000, 4000]);
        people.take_due(now_ms);
        people.handle_dial_ended(&LARGE, now_ms, u32::MAX);
        assert!(people.handle_presence(LARGE, true, Vec::new(), now_ms + 1).presence);
        assert_eq!(people.next_dial_ms(), Some(now_ms + 1));
    }

    #[test]
    fn who_is_not_worth_dialling_is_not_dialled() {
        let mut people = people(SMALL, LARGE);
        people.handle_tracker(true, 1000);
        assert_eq!(people.take_due(1000), [], "the tracker says that it is not there");
        people.handle_tracker(false, 1000);
        assert_eq!(people.next_dial_ms(), Some(1000), "nobody says so");
        people.handle_member(&"bob".parse().unwrap(), LARGE, true, 1000);
        assert_eq!(people.take_due(1000), [], "a hosted device does not listen");
        people.retain_members(|_| false);
        assert!(people.get(&LARGE).is_none());
    }

    #[test]
    fn a_lost_link_is_dialled_again() {
        let mut people = people(SMALL, LARGE);
        people.take_due(1000);
        let up = linked(Path::Direct, true, 1000);
        people.handle_link(LARGE, up);
        people.handle_link_ready(&LARGE);
        assert_eq!(people.next_dial_ms(), None);
        assert!(!people.handle_link_lost(&LARGE, LinkId(77), 2000, 0), "another link");
        assert!(people.handle_link_lost(&LARGE, up.link, 2000, 0));
        assert!(people.next_dial_ms().is_some_and(|at_ms| at_ms > 2000));
    }
}
