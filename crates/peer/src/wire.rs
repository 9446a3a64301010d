//! What the tracker's HTTP API says, as far as a peer needs it. Fields that are not known are passed over.

use std::net::{IpAddr, SocketAddr};

use chat::{ChannelName, DeviceId, EnvelopeId, MessageView, Signature, TrackerId, UserName, Visibility};
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// Addresses taken per device; more are no help.
pub(crate) const ADDRESSES_MAX: usize = 8;

/// `GET /api/v1/challenge`.
#[derive(Debug, Deserialize)]
pub(crate) struct Challenge {
    pub(crate) nonce: String,
    pub(crate) tracker: TrackerId,
}

/// `POST /submit-info`.
#[derive(Debug, Serialize)]
pub(crate) struct Registration<'a> {
    pub(crate) username: &'a UserName,
    pub(crate) port: u16,
    pub(crate) addresses: &'a [SocketAddr],
    pub(crate) device: DeviceId,
    pub(crate) nonce: &'a str,
    pub(crate) signature: Signature,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) password: Option<&'a str>,
}

/// The answer to it.
#[derive(Debug, Deserialize)]
pub(crate) struct Registered {
    pub(crate) token: String,
    pub(crate) tracker: TrackerId,
    /// The address we come from, as the tracker sees it.
    #[serde(default)]
    pub(crate) you: Option<IpAddr>,
}

/// `GET /api/v1/me`.
#[derive(Debug, Deserialize)]
pub(crate) struct Me {
    #[serde(default)]
    pub(crate) position: u64,
}

/// `GET /get-list`.
#[derive(Debug, Deserialize)]
pub(crate) struct PeerList {
    pub(crate) peers: Vec<Value>,
}

/// A device as the tracker knows it.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub(crate) struct PeerEntry {
    pub(crate) user: UserName,
    pub(crate) device: DeviceId,
    #[serde(default)]
    pub(crate) online: bool,
    #[serde(default)]
    pub(crate) addresses: Vec<Value>,
}

impl PeerEntry {
    /// The addresses that can be dialled.
    pub(crate) fn sockets(&self) -> Vec<SocketAddr> {
        let parsed = self.addresses.iter().filter_map(Value::as_str).filter_map(|text| text.parse().ok());
        parsed.filter(is_dialable).take(ADDRESSES_MAX).collect()
    }
}

/// Whether an address can be somebody's.
pub(crate) fn is_dialable(address: &SocketAddr) -> bool {
    let ip = address.ip();
    let broadcast = matches!(ip, IpAddr::V4(ip) if ip.is_broadcast());
    address.port() != 0 && !ip.is_unspecified() && !ip.is_multicast() && !broadcast
}

/// `GET /api/v1/channels`.
#[derive(Debug, Clone, Deserialize)]
pub(crate) struct ChannelEntry {
    pub(crate) name: ChannelName,
    pub(crate) visibility: Visibility,
    #[serde(default)]
    pub(crate) member: bool,
    #[serde(default)]
    members: Value,
}

impl ChannelEntry {
    /// How many are in it.
    pub(crate) fn members(&self) -> usize {
        match &self.members {
            Value::Array(members) => members.len(),
            other => other.as_u64().map_or(0, |count| count as usize),
        }
    }
}

/// `GET /get-messages`.
#[derive(Debug, Deserialize)]
pub(crate) struct Page {
    pub(crate) messages: Vec<MessageView>,
    #[serde(default)]
    pub(crate) last: u64,
}

/// `POST /api/v1/channels/{channel}/envelopes`.
#[derive(Debug, Serialize)]
pub(crate) struct Upload<'a> {
    pub(crate) envelopes: Vec<UploadEntry<'a>>,
}

/// One of them.
#[derive(Debug, Serialize)]
pub(crate) struct UploadEntry<'a> {
    pub(crate) envelope: &'a str,
    pub(crate) signature: Signature,
}

/// The answer to it.
#[derive(Debug, Deserialize)]
pub(crate) struct Uploaded {
    pub(crate) results: Vec<UploadResult>,
}

/// What became of one of them.
#[derive(Debug, Clone, Deserialize)]
pub(crate) struct UploadResult {
    #[serde(default)]
    pub(crate) id: Option<EnvelopeId>,
    #[serde(default)]
    pub(crate) seq: Option<u64>,
    /// A word that programs tell it by.
    #[serde(default)]
    pub(crate) error: Option<String>,
    /// The same for people.
    #[serde(default)]
    detail: Option<String>,
    #[serde(default)]
    pub(crate) expected_n: Option<u64>,
}

impl UploadResult {
    /// Why it was refused, for people.
    pub(crate) fn why(&self) -> String {
        let why = self.detail.as_deref().or(self.error.as_deref()).unwrap_or("no reason given");
        chat::text::printable_line(why).into_owned()
    }
}

/// `GET /api/v1/channels/{channel}/roster`.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct RosterText {
    pub(crate) roster: String,
    pub(crate) signature: Signature,
}

/// An envelope with its signature, as it is kept while its way is not known.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct EnvelopeText {
    pub(crate) envelope: String,
    pub(crate) signature: Signature,
}

/// The event `channel`: its roster changed.
#[derive(Debug, Deserialize)]
pub(crate) struct ChannelEvent {
    pub(crate) channel: ChannelName,
}

/// The event `relay`: somebody waits for us there.
#[derive(Debug, Deserialize)]
pub(crate) struct RelayEvent {
    pub(crate) token: String,
}

/// An error as RFC 9457 has it.
#[derive(Debug, Default, Deserialize)]
pub(crate) struct Problem {
    #[serde(default)]
    pub(crate) title: Option<String>,
    #[serde(default)]
    pub(crate) detail: Option<String>,
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn only_addresses_that_can_be_somebodys_are_taken() {
        let entry: PeerEntry = serde_json::from_value(serde_json::json!({
            "username": "bob", "user": "bob", "device": DeviceId([1; 32]), "online": true, "ip": null,
            "addresses": ["127.0.0.1:9", "0.0.0.0:9", "1.2.3.4:0", "224.0.0.1:9", "255.255.255.255:1", "x", 5, "[::1]:7"],
        }))
        .unwrap();
        let expected: Vec<SocketAddr> = vec!["127.0.0.1:9".parse().unwrap(), "[::1]:7".parse().unwrap()];
        assert_eq!(entry.sockets(), expected);
        let many = PeerEntry { addresses: vec!["1.1.1.1:1".into(); 100], ..entry };
        assert_eq!(many.sockets().len(), ADDRESSES_MAX);
    }

    #[test]
    fn members_may_be_a_number_or_a_list() {
        let entry = |members: &str| {
            let json = format!(r#"{{"name":"general","visibility":"public","member":true{members}}}"#);
            serde_json::from_str::<ChannelEntry>(&json).unwrap().members()
        };
        assert_eq!([entry(r#","members":3"#), entry(r#","members":["a","b"]"#), entry("")], [3, 2, 0]);
    }
}
