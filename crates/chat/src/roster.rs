//! The roster: who is in a channel and by which devices, signed by the tracker. Peers cache it, so that they know whom
//! to believe when the tracker is away.

use crate::envelope::NUMBER_MAX;
use crate::ids::{DeviceId, Signature, TrackerId};
use crate::keys::{BadSignature, TrackerKey};
use crate::names::{ChannelName, UserName};
use serde::{Deserialize, Serialize};
use std::sync::Arc;

/// Longest roster, in bytes: what a member of a channel accepts at most from a tracker.
pub const ROSTER_BYTES_MAX: usize = 4 * 1024 * 1024;
/// Most devices in one roster.
pub const ROSTER_DEVICES_MAX: usize = 20_000;
/// What the signature covers before the roster's bytes; no other signature of this project starts with it.
pub const ROSTER_PREFIX: &[u8] = b"weaprous-roster/1\n";

/// The only version of the format.
const VERSION: u64 = 1;

/// Why bytes are not a roster to believe.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RosterError {
    /// More than [`ROSTER_BYTES_MAX`] bytes or [`ROSTER_DEVICES_MAX`] devices.
    #[error("the roster is too large")]
    TooLarge,
    /// Not the JSON that a roster is; says what was expected.
    #[error("not a roster: {0}")]
    Malformed(String),
    /// A roster, but not in its one canonical form.
    #[error("the roster is not in canonical form")]
    NotCanonical,
    /// From another tracker than the one expected.
    #[error("the roster is of another tracker")]
    WrongTracker,
    /// Not signed by the tracker that it names.
    #[error(transparent)]
    Forged(#[from] BadSignature),
}

/// Who is in a channel.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Roster {
    v: u64,
    /// Whose word this is.
    pub tracker: TrackerId,
    /// Of which channel.
    pub channel: ChannelName,
    /// Rises with every change; a higher one replaces a lower one.
    pub version: u64,
    /// The members, sorted by name.
    pub members: Vec<RosterMember>,
}

/// A user in a roster.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RosterMember {
    /// Their name.
    pub user: UserName,
    /// Their devices, sorted by id.
    pub devices: Vec<RosterDevice>,
}

/// A device in a roster.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RosterDevice {
    /// Its public key.
    pub device: DeviceId,
    /// Whether the tracker holds the secret key.
    pub hosted: bool,
}

impl Roster {
    /// Makes a roster, bringing members and devices into their order.
    pub fn new(tracker: TrackerId, channel: ChannelName, version: u64, mut members: Vec<RosterMember>) -> Self {
        members.sort_by(|one, other| one.user.cmp(&other.user));
        for member in &mut members {
            member.devices.sort();
        }
        Self { v: VERSION, tracker, channel, version, members }
    }

    /// The user whose device this is, if it may speak in the channel.
    pub fn allows(&self, device: &DeviceId) -> Option<&UserName> {
        self.find(device).map(|(user, _)| user)
    }

    /// Whether the tracker holds the key of this device.
    pub fn is_hosted(&self, device: &DeviceId) -> bool {
        self.find(device).is_some_and(|(_, device)| device.hosted)
    }

    /// All devices with their users.
    pub fn devices(&self) -> impl Iterator<Item = (&UserName, RosterDevice)> {
        self.members.iter().flat_map(|member| member.devices.iter().map(|device| (&member.user, *device)))
    }

    fn find(&self, device: &DeviceId) -> Option<(&UserName, RosterDevice)> {
        self.devices().find(|(_, candidate)| candidate.device == *device)
    }

    fn to_bytes(&self) -> Vec<u8> {
        serde_json::to_vec(self).expect("names and ids always serialise")
    }

    fn parse(bytes: &[u8]) -> Result<Self, RosterError> {
        if bytes.len() > ROSTER_BYTES_MAX {
            return Err(RosterError::TooLarge);
        }
        let roster: Self = serde_json::from_slice(bytes).map_err(|error| RosterError::Malformed(error.to_string()))?;
        roster.check()?;
        if roster.to_bytes() == bytes { Ok(roster) } else { Err(RosterError::NotCanonical) }
    }

    /// Checks what the types do not: version, order, and that no user and no device stands there twice.
    fn check(&self) -> Result<(), RosterError> {
        if self.v != VERSION || !(1..=NUMBER_MAX).contains(&self.version) {
            return Err(RosterError::Malformed("version out of range".to_owned()));
        }
        let mut devices: Vec<_> = self.devices().map(|(_, device)| device.device).collect();
        if devices.len() > ROSTER_DEVICES_MAX {
            return Err(RosterError::TooLarge);
        }
        let sorted = self.members.is_sorted_by(|one, other| one.user < other.user)
            && self.members.iter().all(|member| member.devices.is_sorted_by(|one, other| one.device < other.device));
        devices.sort_unstable();
        let unique = devices.is_sorted_by(|one, other| one < other);
        if sorted && unique { Ok(()) } else { Err(RosterError::NotCanonical) }
    }
}

/// A roster with its signature: what travels and what is cached. Cheap to clone.
#[derive(Debug, Clone)]
pub struct SignedRoster {
    bytes: Arc<[u8]>,
    signature: Signature,
    roster: Arc<Roster>,
}

impl SignedRoster {
    /// Signs a roster with the key of the tracker that it names.
    ///
    /// # Errors
    /// The roster is too large, holds a user or device twice, or names another tracker.
    pub fn sign(key: &TrackerKey, roster: &Roster) -> Result<Self, RosterError> {
        if roster.tracker != key.id() {
            return Err(RosterError::WrongTracker);
        }
        let bytes = roster.to_bytes();
        let roster = Roster::parse(&bytes)?;
        let signature = key.sign(&[ROSTER_PREFIX, &bytes].concat());
        Ok(Self { bytes: bytes.into(), signature, roster: Arc::new(roster) })
    }

    /// Reads a roster and verifies that it is the word of `tracker`.
    pub fn open(bytes: &[u8], signature: Signature, tracker: &TrackerId) -> Result<Self, RosterError> {
        let roster = Roster::parse(bytes)?;
        if roster.tracker != *tracker {
            return Err(RosterError::WrongTracker);
        }
        tracker.verify(&[ROSTER_PREFIX, bytes].concat(), &signature)?;
        Ok(Self { bytes: bytes.into(), signature, roster: Arc::new(roster) })
    }

    /// The canonical bytes.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// The canonical bytes as text, as they stand in JSON answers.
    pub fn text(&self) -> &str {
        std::str::from_utf8(&self.bytes).expect("canonical bytes are JSON, which is UTF-8")
    }

    /// The tracker's signature.
    pub fn signature(&self) -> Signature {
        self.signature
    }

    /// What the bytes say.
    pub fn roster(&self) -> &Roster {
        &self.roster
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn member(user: &str, devices: &[u8]) -> RosterMember {
        let devices =
            devices.iter().map(|byte| RosterDevice { device: DeviceId([*byte; 32]), hosted: *byte > 100 }).collect();
        RosterMember { user: user.parse().unwrap(), devices }
    }

    fn roster(key: &TrackerKey, members: Vec<RosterMember>) -> Roster {
        Roster::new(key.id(), "general".parse().unwrap(), 3, members)
    }

    #[test]
    fn a_signed_roster_says_whom_to_believe() {
        let key = TrackerKey::from_seed([1; 32]);
        let unsorted = vec![member("carol", &[]), member("bob", &[101, 3]), member("alice", &[2])];
        let signed = SignedRoster::sign(&key, &roster(&key, unsorted)).unwrap();
        let opened = SignedRoster::open(signed.bytes(), signed.signature(), &key.id()).unwrap();
        let roster = opened.roster();
        assert_eq!(roster.allows(&DeviceId([2; 32])).map(UserName::as_str), Some("alice"));
        assert_eq!(roster.allows(&DeviceId([3; 32])).map(UserName::as_str), Some("bob"));
        assert_eq!(roster.allows(&DeviceId([9; 32])), None);
        assert!(roster.is_hosted(&DeviceId([101; 32])) && !roster.is_hosted(&DeviceId([3; 32])));
        assert_eq!(roster.devices().count(), 3);
        assert!(signed.text().starts_with(r#"{"v":1,"tracker":""#));
    }

    #[test]
    fn only_the_trackers_word_counts() {
        let (key, other) = (TrackerKey::from_seed([1; 32]), TrackerKey::from_seed([2; 32]));
        let signed = SignedRoster::sign(&key, &roster(&key, vec![member("alice", &[2])])).unwrap();
        let open = |bytes: &[u8], signature, tracker: &TrackerKey| {
            SignedRoster::open(bytes, signature, &tracker.id()).map(|_| ()).unwrap_err()
        };
        assert_eq!(open(signed.bytes(), signed.signature(), &other), RosterError::WrongTracker);
        assert_eq!(open(signed.bytes(), Signature([0; 64]), &key), RosterError::Forged(BadSignature));
        let changed = signed.text().replace("alice", "mally");
        assert_eq!(open(changed.as_bytes(), signed.signature(), &key), RosterError::Forged(BadSignature));
        let error = SignedRoster::sign(&other, signed.roster()).map(|_| ()).unwrap_err();
        assert_eq!(error, RosterError::WrongTracker);
    }

    #[test]
    fn disorder_and_doubles_are_refused() {
        let key = TrackerKey::from_seed([1; 32]);
        let sign = |members| SignedRoster::sign(&key, &roster(&key, members)).map(|_| ());
        assert_eq!(sign(vec![member("a", &[1]), member("a", &[2])]), Err(RosterError::NotCanonical));
        assert_eq!(sign(vec![member("a", &[1, 1])]), Err(RosterError::NotCanonical));
        assert_eq!(sign(vec![member("a", &[1]), member("b", &[1])]), Err(RosterError::NotCanonical));
        let mut unsorted = roster(&key, vec![member("a", &[1]), member("b", &[2])]);
        unsorted.members.reverse();
        assert_eq!(SignedRoster::sign(&key, &unsorted).map(|_| ()), Err(RosterError::NotCanonical));
        let mut zero = roster(&key, vec![]);
        zero.version = 0;
        assert!(matches!(SignedRoster::sign(&key, &zero), Err(RosterError::Malformed(_))));
        let crowd = (0..=ROSTER_DEVICES_MAX as u32).map(|number| {
            let mut device = [0; 32];
            device[..4].copy_from_slice(&number.to_be_bytes());
            RosterDevice { device: DeviceId(device), hosted: false }
        });
        let crowd = RosterMember { user: "a".parse().unwrap(), devices: crowd.collect() };
        assert_eq!(sign(vec![crowd]), Err(RosterError::TooLarge));
    }

    #[test]
    fn hostile_bytes_are_refused() {
        let key = TrackerKey::from_seed([1; 32]);
        let good = SignedRoster::sign(&key, &roster(&key, vec![member("alice", &[2])])).unwrap();
        let cases = [
            ("\"v\":1", "\"v\":2"),
            ("\"v\":1", "\"v\":1,\"v\":1"),
            ("\"v\":1,", "\"v\":1, "),
            ("\"version\":3", "\"version\":3.0"),
            ("\"version\":3", "\"version\":9007199254740992"),
            ("alice", "Alice"),
            ("alice", "al ice"),
            ("\"hosted\":false", "\"hosted\":0"),
            ("\"hosted\":false", "\"hosted\":false,\"x\":1"),
            ("[{\"user\"", "{\"user\""),
        ];
        for (old, new) in cases {
            assert!(good.text().contains(old));
            let bytes = good.text().replacen(old, new, 1).into_bytes();
            // signed by the very tracker: even it must keep to the form
            let signature = key.sign(&[ROSTER_PREFIX, &bytes].concat());
            assert!(SignedRoster::open(&bytes, signature, &key.id()).is_err(), "{new}");
        }
        for end in 0..good.bytes().len() {
            assert!(SignedRoster::open(&good.bytes()[..end], good.signature(), &key.id()).is_err());
        }
    }
}
