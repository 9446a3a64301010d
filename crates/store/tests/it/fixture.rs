//! Devices that write envelopes, and random numbers that can be had again.

use chat::{Body, ChannelName, DeviceId, DeviceKey, Draft, Head, Sealed};

/// A device's chain in one channel.
pub(crate) struct Chain {
    key: DeviceKey,
    channel: ChannelName,
    head: Option<Head>,
}

impl Chain {
    pub(crate) fn new(seed: u8, channel: &str) -> Self {
        Self { key: DeviceKey::from_seed([seed; 32]), channel: channel.parse().unwrap(), head: None }
    }

    /// Goes on where the store is.
    pub(crate) fn resume(mut self, heads: &[Head]) -> Self {
        self.head = heads.iter().find(|head| head.device == self.key.id()).cloned();
        self
    }

    pub(crate) fn device(&self) -> DeviceId {
        self.key.id()
    }

    pub(crate) fn channel(&self) -> &ChannelName {
        &self.channel
    }

    /// The next envelope of the chain.
    pub(crate) fn say(&mut self, text: &str) -> Sealed {
        self.say_at(text, 0)
    }

    /// As `say`, with everything up to `lamport_seen` seen.
    pub(crate) fn say_at(&mut self, text: &str, lamport_seen: u64) -> Sealed {
        let sealed = self.draft(text, lamport_seen);
        self.head = Some(Head::of(sealed.envelope(), sealed.id()));
        sealed
    }

    /// What `say` would give, without going on: the next `say` contradicts it.
    pub(crate) fn fork(&self, text: &str) -> Sealed {
        self.draft(text, 0)
    }

    pub(crate) fn say_many(&mut self, count: usize) -> Vec<Sealed> {
        (0..count).map(|i| self.say(&format!("number {i}"))).collect()
    }

    fn draft(&self, text: &str, lamport_seen: u64) -> Sealed {
        let draft = Draft {
            channel: self.channel.clone(),
            author: "alice".parse().unwrap(),
            sent_at_ms: 1_700_000_000_000,
            body: Body::Text { text: text.to_owned() },
        };
        Sealed::seal(&self.key, &draft.follow(self.key.id(), self.head.as_ref(), lamport_seen)).unwrap()
    }
}

/// xorshift64*: enough for choosing test inputs.
pub(crate) struct Random(u64);

impl Random {
    /// Starts from the seed that `testkit` chose and printed.
    pub(crate) fn new() -> Self {
        Self(testkit::seed() | 1)
    }

    pub(crate) fn below(&mut self, bound: u64) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33) % bound
    }
}
