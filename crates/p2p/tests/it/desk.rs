//! One node on a desk: its other sides are frames written by hand.

use crate::disk::Disk;
use chat::{
    Body, ChannelName, DeviceId, DeviceKey, Draft, Roster, RosterDevice, RosterMember, Sealed, SignedRoster, TrackerKey,
};
use p2p::frame::{Frame, FrameBuffer};
use p2p::{Limits, LinkId, Node, Output, Reason};

/// A person with a device, and what the device holds.
pub(crate) struct Person {
    pub(crate) name: &'static str,
    pub(crate) key: DeviceKey,
    pub(crate) disk: Disk,
}

impl Person {
    pub(crate) fn new(name: &'static str, seed: u8) -> Self {
        Self { name, key: DeviceKey::from_seed([seed; 32]), disk: Disk::default() }
    }

    pub(crate) fn id(&self) -> DeviceId {
        self.key.id()
    }

    /// Writes and keeps the next envelope of this person's chain.
    pub(crate) fn write(&mut self, channel: &str, text: &str) -> Sealed {
        let sealed = self.draft(channel, text);
        self.disk.insert(&sealed).unwrap();
        sealed
    }

    /// Writes the next envelope of this person's chain and forgets it.
    pub(crate) fn draft(&self, channel: &str, text: &str) -> Sealed {
        let channel: ChannelName = channel.parse().unwrap();
        let draft = Draft {
            channel: channel.clone(),
            author: self.name.parse().unwrap(),
            sent_at_ms: 0,
            body: Body::Text { text: text.to_owned() },
        };
        let head = self.disk.head(&channel, self.id());
        Sealed::seal(&self.key, &draft.follow(self.id(), head.as_ref(), self.disk.lamport(&channel))).unwrap()
    }
}

/// Signs a roster of these people.
pub(crate) fn roster(channel: &str, version: u64, people: &[&Person]) -> SignedRoster {
    let tracker = TrackerKey::from_seed([200; 32]);
    let member = |person: &&Person| RosterMember {
        user: person.name.parse().unwrap(),
        devices: vec![RosterDevice { device: person.id(), hosted: false }],
    };
    let members = people.iter().map(member).collect();
    SignedRoster::sign(&tracker, &Roster::new(tracker.id(), channel.parse().unwrap(), version, members)).unwrap()
}

/// A node and the time.
pub(crate) struct Desk {
    pub(crate) node: Node,
    pub(crate) now_ms: u64,
}

impl Desk {
    pub(crate) fn new(person: &Person, rosters: &[SignedRoster]) -> Self {
        let mut node = Node::new(person.id(), Limits::default());
        node.handle_heads(person.disk.heads());
        for roster in rosters {
            node.handle_roster(roster.clone(), 0);
        }
        Self { node, now_ms: 0 }
    }

    pub(crate) fn outputs(&mut self) -> Vec<Output> {
        std::iter::from_fn(|| self.node.poll_output()).collect()
    }

    /// Everything that the node wants, with what it sends taken apart into frames.
    pub(crate) fn take(&mut self) -> (Vec<Frame>, Vec<Output>) {
        let mut frames = Vec::new();
        let mut rest = Vec::new();
        for output in self.outputs() {
            match output {
                Output::Send { bytes, .. } => {
                    let mut buffer = FrameBuffer::default();
                    buffer.push(&bytes);
                    while let Some(frame) = buffer.next_frame().unwrap() {
                        frames.push(frame);
                    }
                    assert!(buffer.is_empty(), "outputs hold whole frames");
                }
                other => rest.push(other),
            }
        }
        (frames, rest)
    }

    pub(crate) fn up(&mut self, link: u64, remote: &Person) {
        self.node.handle_link_up(LinkId(link), remote.id(), self.now_ms);
    }

    pub(crate) fn feed(&mut self, link: u64, frame: &Frame) {
        self.node.handle_bytes(LinkId(link), &frame.to_bytes(), self.now_ms);
    }

    /// Brings a link up to where its channel is open on both sides and the first marks are told.
    pub(crate) fn open(&mut self, link: u64, remote: &Person, channel: &str) {
        self.up(link, remote);
        self.feed(link, &Frame::Hello { v: 1, device: remote.id() });
        self.feed(link, &Frame::Open { channel: channel.parse().unwrap(), version: 1 });
        self.feed(link, &Frame::Pong);
        self.outputs();
    }

    /// Stores what the node wants stored and tells it so.
    pub(crate) fn store(&mut self, disk: &mut Disk, outputs: &[Output]) {
        for output in outputs {
            if let Output::Store { arrivals } = output {
                let results = arrivals.iter().map(|arrived| disk.insert(&arrived.sealed)).collect();
                self.node.handle_stored(Ok(results), self.now_ms);
            }
        }
    }
}

/// Why the link was closed, if it was.
pub(crate) fn closed(outputs: &[Output]) -> Option<Reason> {
    outputs.iter().find_map(|output| match output {
        Output::Close { reason, .. } => Some(reason.clone()),
        _ => None,
    })
}

pub(crate) fn deliver(sealed: &Sealed) -> Frame {
    Frame::Deliver { signature: sealed.signature(), bytes: sealed.bytes().to_vec() }
}
