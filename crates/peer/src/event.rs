//! What the tasks around the core tell it.

use std::net::SocketAddr;

use bytes::Bytes;
use chat::{Body, ChannelName, DeviceId, EnvelopeId, MessageView, Path, Sealed, SignedRoster, TrackerId};
use p2p::LinkId;
use tokio::sync::oneshot;

use crate::link::Authenticated;
use crate::wire::{ChannelEntry, PeerEntry};

/// Something that happened.
#[derive(Debug)]
pub(crate) enum Event {
    /// An authenticated stream with somebody's device.
    Connected {
        stream: Authenticated,
        path: Path,
        address: Option<SocketAddr>,
        /// Whether this side dialled.
        dialled: bool,
        /// Whether the user asked for it by address.
        asked: bool,
    },
    /// Dialling a known device came to nothing.
    DialFailed { device: DeviceId, why: String },
    /// Dialling an address that the user gave came to nothing.
    ConnectFailed { address: SocketAddr, why: String },
    /// Bytes of a link.
    Bytes { link: LinkId, bytes: Bytes },
    /// The stream of a link has ended.
    LinkLost { link: LinkId },
    /// Registered, and the event stream is open.
    Online { tracker: TrackerId },
    /// The tracker was lost, or was not reached.
    Offline { detail: String },
    /// The tracker does not take us.
    Refused { detail: String },
    /// An envelope has got its place in the tracker's log.
    Logged(Box<MessageView>),
    /// The tracker tells of a device.
    Presence(PeerEntry),
    /// All devices that the tracker tells of.
    PeerList(Vec<PeerEntry>),
    /// All channels that the tracker tells of.
    ChannelList(Vec<ChannelEntry>),
    /// The roster of a channel may have changed.
    RosterChanged { channel: ChannelName },
    /// A verified roster.
    Roster(SignedRoster),
    /// The tracker tells this user nothing of a channel (any more).
    ShutOut { channel: ChannelName },
    /// Somebody waits for us at the relay.
    RelayOffered { token: String },
    /// A page of the log; the answer is where the log is held up to.
    Fetched { channel: ChannelName, messages: Vec<MessageView>, reply: oneshot::Sender<u64> },
    /// The tracker has numbered envelopes.
    Sequenced { channel: ChannelName, numbers: Vec<(EnvelopeId, u64)>, reply: oneshot::Sender<()> },
    /// A channel's log is held up to its end.
    Synced { channel: ChannelName },
    /// A channel's log is not to be had.
    LogRefused { channel: ChannelName },
    /// A change of membership is to be sealed and kept until its way is known; no answer when that is impossible now.
    Seal { channel: ChannelName, body: Body, reply: oneshot::Sender<Sealed> },
    /// What became of a sealed change of membership.
    Changed { channel: ChannelName, sealed: Sealed, outcome: Outcome, reply: oneshot::Sender<()> },
    /// An attempt to come into a channel, or to change it, has ended.
    ChangeEnded {
        channel: ChannelName,
        /// Whether trying again would come to the same.
        hopeless: bool,
    },
    /// Something did not work.
    Trouble { what: String, hint: String },
}

/// What became of a sealed change of membership.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// It is in the log under this number.
    Accepted(u64),
    /// The tracker does not take it, and never will.
    Denied,
    /// The tracker went away: it is not known whether it took it.
    Unknown,
}
