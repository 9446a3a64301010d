//! What a user interface and a running chat node say to each other. Neither knows a socket through this.

use crate::delivery::DeliveryState;
use crate::envelope::{Body, Visibility};
use crate::history::Path;
use crate::ids::{DeviceId, EnvelopeId};
use crate::names::{ChannelName, UserName};
use crate::order::OrderKey;
use std::net::SocketAddr;

/// What the user wants.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Command {
    /// Say something in a channel.
    Say {
        /// Where.
        channel: ChannelName,
        /// What.
        text: String,
    },
    /// Say something to one user.
    Message {
        /// To whom.
        user: UserName,
        /// What.
        text: String,
    },
    /// Come into a channel.
    Join {
        /// Which.
        channel: ChannelName,
    },
    /// Make a channel.
    Create {
        /// Its name.
        channel: ChannelName,
        /// Who may come in.
        visibility: Visibility,
    },
    /// Go from a channel.
    Leave {
        /// Which.
        channel: ChannelName,
    },
    /// Let somebody into a channel.
    Invite {
        /// Which.
        channel: ChannelName,
        /// Whom.
        user: UserName,
    },
    /// Put somebody out of a channel.
    Remove {
        /// Which.
        channel: ChannelName,
        /// Whom.
        user: UserName,
    },
    /// Tell who is there: answered by [`Notice::Peers`].
    Peers,
    /// Tell which channels there are: answered by [`Notice::Channels`].
    Channels,
    /// Connect to a peer at an address.
    Connect {
        /// Where it listens.
        address: SocketAddr,
    },
    /// Show what came before: answered by [`Notice::History`].
    Older {
        /// Where.
        channel: ChannelName,
        /// Before which message; `None` asks for the newest.
        before: Option<OrderKey>,
    },
    /// The user has read everything up to here.
    Read {
        /// Where.
        channel: ChannelName,
        /// The last message that was read.
        up_to: OrderKey,
    },
    /// The user is writing.
    Typing {
        /// Where.
        channel: ChannelName,
    },
    /// Stop.
    Quit,
}

/// What the user should learn.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Notice {
    /// The node runs.
    Ready {
        /// As whom.
        user: UserName,
        /// On which device.
        device: DeviceId,
        /// Where it listens for peers.
        listening: SocketAddr,
    },
    /// The tracker was reached or lost.
    Tracker {
        /// Whether it is there.
        online: bool,
        /// What happened, for people.
        detail: String,
    },
    /// A new message or membership event.
    Message(Message),
    /// A message has come further, or got its place in the log.
    State {
        /// Where.
        channel: ChannelName,
        /// Which message.
        id: EnvelopeId,
        /// Its place now.
        key: OrderKey,
        /// How far it has come.
        state: DeliveryState,
    },
    /// Somebody's device came or went, or is reached another way.
    Presence {
        /// Who.
        user: UserName,
        /// Which device.
        device: DeviceId,
        /// Whether it is there.
        online: bool,
        /// How this node is linked with it; `None` when it is not.
        path: Option<Path>,
    },
    /// Somebody is writing.
    Typing {
        /// Where.
        channel: ChannelName,
        /// Who.
        user: UserName,
    },
    /// The channels the user may see.
    Channels(Vec<ChannelSummary>),
    /// The devices known of.
    Peers(Vec<PeerSummary>),
    /// Earlier messages, ascending.
    History {
        /// Where.
        channel: ChannelName,
        /// The messages.
        entries: Vec<Message>,
        /// Whether there are still earlier ones.
        more: bool,
    },
    /// Messages of the log are missing here and being fetched, or have been found (`missing` 0).
    Gap {
        /// Where.
        channel: ChannelName,
        /// How many are missing.
        missing: u64,
    },
    /// Something did not work.
    Trouble {
        /// What.
        what: String,
        /// What the user can do about it.
        hint: String,
    },
    /// The node has stopped; nothing follows.
    Stopped,
}

/// A message as a user interface shows it. Its text is as it was sent: see [`crate::text::printable`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    /// Where it was said.
    pub channel: ChannelName,
    /// Its id.
    pub id: EnvelopeId,
    /// Its place.
    pub key: OrderKey,
    /// Who said it.
    pub author: UserName,
    /// On which device.
    pub device: DeviceId,
    /// What.
    pub body: Body,
    /// The author's clock, milliseconds since 1970.
    pub sent_at_ms: u64,
    /// When it came here, milliseconds since 1970.
    pub received_at_ms: u64,
    /// How it came here.
    pub path: Path,
    /// Whether the tracker holds the device's key.
    pub hosted: bool,
    /// Whether this user wrote it (on any device).
    pub mine: bool,
    /// How far it has come.
    pub state: DeliveryState,
}

/// A channel in a list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChannelSummary {
    /// Its name.
    pub name: ChannelName,
    /// Who may come in.
    pub visibility: Visibility,
    /// Whether this user is in it.
    pub member: bool,
    /// How many users are in it.
    pub members: usize,
    /// How many messages the user has not read.
    pub unread: u64,
}

/// A device in a list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PeerSummary {
    /// Whose.
    pub user: UserName,
    /// Which.
    pub device: DeviceId,
    /// How this node is linked with it; `None` when it is not.
    pub path: Option<Path>,
    /// Where it is reached.
    pub address: Option<SocketAddr>,
    /// Whether it is there, as far as the tracker or a link knows.
    pub online: bool,
    /// Whether its key is held by the tracker, so that no link with it is possible.
    pub hosted: bool,
}
