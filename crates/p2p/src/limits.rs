//! Every limit of the protocol. Those marked *protocol* are part of it: both sides count on them. The others are one
//! side's own and may differ.

/// Longest frame, type byte and payload together, in bytes (*protocol*). Holds an envelope with its signature and bounds
/// what a receiver buffers.
pub const FRAME_BYTES_MAX: usize = 64 * 1024;
/// Most bytes of *deliver* frames sent and not yet acknowledged (*protocol*). Covers 100 ms at 20 Mbit/s.
pub const WINDOW_BYTES: usize = 256 * 1024;
/// Most channels that one link serves (*protocol*).
pub const CHANNELS_PER_LINK_MAX: usize = 512;
/// Most entries in one *marks* frame (*protocol*): 512 of them fill less than a frame.
pub const MARKS_PER_FRAME_MAX: usize = 512;
/// Most *want* frames without their *given* (*protocol*).
pub const WANTS_MAX: usize = 4;
/// Most envelopes that one *want* may ask for (*protocol*).
pub const WANT_ENVELOPES_MAX: usize = 256;
/// Most marks told in one go, until the other side shows by a *pong* that it has read them.
pub const ANNOUNCE_MARKS_MAX: usize = 4 * MARKS_PER_FRAME_MAX;
/// How many envelopes one *want* of this node asks for: less than [`WANT_ENVELOPES_MAX`], so that many chains take turns.
pub const WANT_ENVELOPES: usize = 128;
/// Most envelopes in one store: a commit that takes a disk a few milliseconds.
pub const STORE_ENVELOPES_MAX: usize = 512;
/// While more than this many bytes of a link are unwritten, the program should not read from it: whoever does not listen
/// is not listened to. Far above what a node sends unasked, so that two of them never wait for each other.
pub const UNWRITTEN_BYTES_PAUSE: usize = 4 * 1024 * 1024;
/// Longest reason in a *bye*, in bytes; the rest is cut off.
pub const REASON_BYTES_MAX: usize = 200;

/// The limits of one node that others need not know.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Most links at once.
    pub links_max: usize,
    /// How long the other side has for its *hello*.
    pub hello_timeout_ms: u64,
    /// After this long without a byte from the other side, it is pinged.
    pub ping_after_ms: u64,
    /// After this long without a byte from the other side, the link is given up.
    pub silent_max_ms: u64,
    /// How long the other side has to acknowledge what was delivered. A disk may be slow; a link must not hang for ever.
    pub acknowledge_timeout_ms: u64,
    /// How long a *want* may bring nothing before somebody else is asked.
    pub want_timeout_ms: u64,
    /// How long news is collected before it is announced to those who probably have it.
    pub announce_delay_ms: u64,
    /// How long after a failed write or read of the own storage the next attempt is made.
    pub storage_retry_ms: u64,
    /// Least time between two *typing* frames of one channel, sent or heeded.
    pub typing_interval_ms: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            links_max: 512,
            hello_timeout_ms: 5_000,
            ping_after_ms: 10_000,
            silent_max_ms: 30_000,
            acknowledge_timeout_ms: 60_000,
            want_timeout_ms: 10_000,
            announce_delay_ms: 100,
            storage_retry_ms: 1_000,
            typing_interval_ms: 2_000,
        }
    }
}
