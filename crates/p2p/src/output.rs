//! What a node wants done.

use chat::{ChannelName, DeviceId, Sealed, Signature, UserName};

/// Names a link; the program around the node chooses the number and never uses one twice.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LinkId(pub u64);

/// One thing to do or to know.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Output {
    /// Write these bytes to the link, after those of earlier outputs.
    Send {
        /// Which link.
        link: LinkId,
        /// One or more whole frames.
        bytes: Vec<u8>,
    },
    /// Store these durably, in this order, then call [`crate::Node::handle_stored`]. At most one is outstanding.
    Store {
        /// Verified envelopes that nothing is known against.
        arrivals: Vec<Arrived>,
    },
    /// Read up to `limit` envelopes of a chain from number `from_n` on, then call [`crate::Node::handle_read`]. At most
    /// one per link is outstanding.
    Read {
        /// For which link.
        link: LinkId,
        /// Which channel.
        channel: ChannelName,
        /// Whose chain.
        device: DeviceId,
        /// The first number.
        from_n: u64,
        /// Most envelopes.
        limit: usize,
    },
    /// `by` has this device's own chain in the channel durably stored up to number `n`.
    Acknowledged {
        /// Which channel.
        channel: ChannelName,
        /// Whose chain: always this device.
        device: DeviceId,
        /// The last number stored.
        n: u64,
        /// The device that stored it.
        by: DeviceId,
    },
    /// A newer roster, not believed yet: open it with the tracker's id and, if it is good, keep it and call
    /// [`crate::Node::handle_roster`].
    Roster {
        /// From which link.
        link: LinkId,
        /// The roster's bytes.
        bytes: Vec<u8>,
        /// The tracker's signature, unchecked.
        signature: Signature,
    },
    /// The user of the other side is writing.
    Typing {
        /// Where.
        channel: ChannelName,
        /// Who.
        user: UserName,
        /// On which device.
        device: DeviceId,
    },
    /// The other side has said hello: the link works.
    Ready {
        /// Which link.
        link: LinkId,
        /// The device at its other end.
        device: DeviceId,
    },
    /// The link's other side holds a chain of `device` that contradicts the one held here. Nothing of it is taken from
    /// there any more.
    Forked {
        /// Which link.
        link: LinkId,
        /// Which channel.
        channel: ChannelName,
        /// Whose chain.
        device: DeviceId,
    },
    /// Write what is left to write, then close the link. The node has forgotten it.
    Close {
        /// Which link.
        link: LinkId,
        /// Why.
        reason: Reason,
    },
}

/// An envelope that came over a link.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Arrived {
    /// Over which link.
    pub link: LinkId,
    /// The envelope.
    pub sealed: Sealed,
}

/// Why a link is closed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Reason {
    /// The other end is this very device.
    #[error("this is the same device")]
    SameDevice,
    /// No roster known here has the other device in it together with this one.
    #[error("no channel is shared with this device")]
    UnknownDevice,
    /// There are as many links as there may be.
    #[error("too many links")]
    TooManyLinks,
    /// The hello names another device than the one that the connection proved.
    #[error("the hello names another device")]
    WrongDevice,
    /// The hello speaks another version of the protocol.
    #[error("version {0} of the protocol is not known here")]
    Version(u64),
    /// What came is not a frame, or not one that may come now.
    #[error("protocol broken: {0}")]
    Protocol(&'static str),
    /// An envelope that its device did not sign.
    #[error("forged envelope")]
    Forged,
    /// More came than the limits of the protocol allow.
    #[error("limit exceeded: {0}")]
    Flooded(&'static str),
    /// No hello in time.
    #[error("no hello in time")]
    NoHello,
    /// Silence, or deliveries left without acknowledgement.
    #[error("no answer in time")]
    Stalled,
    /// The other side said goodbye.
    #[error("the other side said goodbye: {0}")]
    Bye(String),
    /// This side stops.
    #[error("going away")]
    Stopping,
}
