//! Counts the frames of a connection on their way in, so that none is too cheap to send and too dear to handle.
//!
//! `h2` bounds what it keeps; this bounds what it is made to do. It looks at frame headers only (RFC 9113 §4.1) and
//! decides nothing about their meaning. Limits hold per [`WINDOW`]; those on frames that belong to real work grow with
//! that work, so that a busy client never meets them:
//!
//! | frame | per window | besides | attack |
//! |---|---|---|---|
//! | `RST_STREAM` | 100 | 10 000 per connection | rapid reset (CVE-2023-44487) |
//! | `SETTINGS` | 50 | | SETTINGS flood (CVE-2019-9515) |
//! | `PING` | 100 | 1 per 16 KiB sent | PING flood (CVE-2019-9512) |
//! | `DATA` without content or end | 100 | | empty DATA flood (CVE-2019-9518) |
//! | `CONTINUATION` | 100 | 20 per head | CONTINUATION flood (CVE-2024-27316) |
//! | `WINDOW_UPDATE` | 1 000 | 1 per 512 bytes sent | |
//! | `PRIORITY` and unknown ones | 100 | 2 per `HEADERS` | resource loop (CVE-2019-9513) |

use std::cell::RefCell;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::Notify;
use tokio::time::Instant;

/// How long counts are summed up.
const WINDOW: Duration = Duration::from_secs(10);
const RESETS_MAX: u64 = 100;
const RESETS_PER_CONNECTION_MAX: u64 = 10_000;
const SETTINGS_MAX: u64 = 50;
const PINGS_MAX: u64 = 100;
const BYTES_PER_PING: u64 = 16 * 1024;
const EMPTY_DATA_MAX: u64 = 100;
const CONTINUATIONS_MAX: u64 = 100;
const CONTINUATIONS_PER_HEAD_MAX: u64 = 20;
const WINDOW_UPDATES_MAX: u64 = 1_000;
const BYTES_PER_WINDOW_UPDATE: u64 = 512;
const OTHERS_MAX: u64 = 100;
const OTHERS_PER_HEAD: u64 = 2;

const HEADER_BYTES: usize = 9;
const FLAG_END_STREAM: u8 = 0x1;
const FLAG_END_HEADERS: u8 = 0x4;
const FLAG_PADDED: u8 = 0x8;

/// What there was too much of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Flood {
    Resets,
    Settings,
    Pings,
    EmptyData,
    Continuations,
    WindowUpdates,
    Others,
}

/// The counts of one connection.
pub(crate) struct Meter {
    scan: Scan,
    window_since: Instant,
    counts: Counts,
    resets_of_connection: u64,
    continuations_of_head: u64,
    /// Since when a head is incomplete.
    head_since: Option<Instant>,
    /// When bytes last moved, either way.
    pub(crate) moved_at: Instant,
    /// Since when the client takes nothing.
    pub(crate) blocked_since: Option<Instant>,
    flood: Option<Flood>,
    /// Requests sent, where the other side is a server: each may be reset.
    asked: u64,
    has_settings: bool,
}

/// Sums of one window.
#[derive(Default)]
struct Counts {
    sent_bytes: u64,
    heads: u64,
    resets: u64,
    settings: u64,
    asked: u64,
    pings: u64,
    empty_data: u64,
    continuations: u64,
    window_updates: u64,
    others: u64,
}

/// Finds the frames in a stream of bytes.
struct Scan {
    /// Bytes to pass over: the preface first, then payloads.
    skip: usize,
    header: [u8; HEADER_BYTES],
    have: usize,
    /// The payload begins with its padding's length, which decides whether there is content.
    padded: Option<Frame>,
    /// A head ends with the payload that is being passed over.
    ends_head: bool,
}

#[derive(Debug, Clone, Copy)]
struct Frame {
    length: usize,
    kind: u8,
    flags: u8,
}

impl Scan {
    fn new() -> Self {
        let skip = http1::HTTP2_PREFACE.len();
        Self { skip, header: [0; HEADER_BYTES], have: 0, padded: None, ends_head: false }
    }
}

impl Meter {
    pub(super) fn new() -> Self {
        let now = Instant::now();
        Self {
            scan: Scan::new(),
            window_since: now,
            counts: Counts::default(),
            resets_of_connection: 0,
            continuations_of_head: 0,
            head_since: None,
            moved_at: now,
            blocked_since: None,
            flood: None,
            asked: 0,
            has_settings: false,
        }
    }

    /// For the frames of a server, which begin without a preface.
    pub(crate) fn of_server() -> Self {
        let mut meter = Self::new();
        meter.scan.skip = 0;
        meter
    }

    /// A request goes out: it may be reset.
    pub(crate) fn handle_asked(&mut self) {
        self.asked += 1;
        self.counts.asked += 1;
    }

    /// Whether the other side has said what it can do.
    pub(crate) fn has_settings(&self) -> bool {
        self.has_settings
    }

    pub(crate) fn flood(&self) -> Option<Flood> {
        self.flood
    }

    /// How long a head has been incomplete.
    pub(crate) fn head_age(&self) -> Duration {
        self.head_since.map_or(Duration::ZERO, |since| since.elapsed())
    }

    pub(crate) fn handle_sent(&mut self, bytes: usize, now: Instant) {
        self.counts.sent_bytes += bytes as u64;
        self.moved_at = now;
        self.blocked_since = None;
    }

    /// Looks at received bytes; false when there was too much of something.
    pub(crate) fn handle_received(&mut self, mut bytes: &[u8], now: Instant) -> bool {
        self.moved_at = now;
        if now.duration_since(self.window_since) >= WINDOW {
            self.window_since = now;
            self.counts = Counts::default();
        }
        while !bytes.is_empty() && self.flood.is_none() {
            bytes = self.step(bytes, now);
        }
        self.flood.is_none()
    }

    /// Takes the next piece of a frame; what is behind it.
    fn step<'a>(&mut self, bytes: &'a [u8], now: Instant) -> &'a [u8] {
        if let Some(frame) = self.scan.padded.take() {
            let padding = usize::from(bytes[0]) + 1;
            self.note(Frame { length: frame.length.saturating_sub(padding), ..frame }, now);
        }
        if self.scan.skip > 0 {
            let count = self.scan.skip.min(bytes.len());
            self.scan.skip -= count;
            self.end_head_if_due();
            return &bytes[count..];
        }
        let count = (HEADER_BYTES - self.scan.have).min(bytes.len());
        self.scan.header[self.scan.have..self.scan.have + count].copy_from_slice(&bytes[..count]);
        self.scan.have += count;
        if self.scan.have == HEADER_BYTES {
            self.begin_frame(now);
        }
        &bytes[count..]
    }

    fn begin_frame(&mut self, now: Instant) {
        let [a, b, c, kind, flags, ..] = self.scan.header;
        let length = usize::from(a) << 16 | usize::from(b) << 8 | usize::from(c);
        let frame = Frame { length, kind, flags };
        self.scan.have = 0;
        self.scan.skip = length;
        if kind == 0 && flags & FLAG_PADDED != 0 && length > 0 {
            self.scan.padded = Some(frame); // decided by the first byte of the payload
        } else {
            self.note(frame, now);
        }
        self.end_head_if_due();
    }

    fn end_head_if_due(&mut self) {
        if self.scan.skip == 0 && self.scan.ends_head {
            self.scan.ends_head = false;
            self.head_since = None;
        }
    }

    fn note(&mut self, frame: Frame, now: Instant) {
        let counts = &mut self.counts;
        let within = |count: &mut u64, max: u64| {
            *count += 1;
            *count <= max
        };
        let (is_fine, flood) = match frame.kind {
            0 => {
                let is_empty = frame.length == 0 && frame.flags & FLAG_END_STREAM == 0;
                (!is_empty || within(&mut counts.empty_data, EMPTY_DATA_MAX), Flood::EmptyData)
            }
            1 => {
                counts.heads += 1;
                self.continuations_of_head = 0;
                self.head_since = Some(now);
                self.scan.ends_head = frame.flags & FLAG_END_HEADERS != 0;
                (true, Flood::Others)
            }
            3 => {
                let max = RESETS_PER_CONNECTION_MAX + self.asked;
                let is_fine = within(&mut self.resets_of_connection, max);
                let max = RESETS_MAX + counts.asked;
                (within(&mut counts.resets, max) && is_fine, Flood::Resets)
            }
            4 => {
                self.has_settings = true;
                (within(&mut counts.settings, SETTINGS_MAX), Flood::Settings)
            }
            6 => {
                let max = PINGS_MAX + counts.sent_bytes / BYTES_PER_PING;
                (within(&mut counts.pings, max), Flood::Pings)
            }
            8 => {
                let max = WINDOW_UPDATES_MAX + counts.sent_bytes / BYTES_PER_WINDOW_UPDATE;
                (within(&mut counts.window_updates, max), Flood::WindowUpdates)
            }
            9 => {
                self.scan.ends_head = frame.flags & FLAG_END_HEADERS != 0;
                let is_fine = within(&mut self.continuations_of_head, CONTINUATIONS_PER_HEAD_MAX);
                (within(&mut counts.continuations, CONTINUATIONS_MAX) && is_fine, Flood::Continuations)
            }
            _ => {
                let max = OTHERS_MAX + counts.heads * OTHERS_PER_HEAD;
                (within(&mut counts.others, max), Flood::Others)
            }
        };
        if !is_fine {
            self.flood = Some(flood);
        }
    }
}

/// A connection and what is known about it, shared by whoever reads frames from it and by whoever judges.
pub(crate) struct Watched<IO> {
    pub(crate) io: RefCell<IO>,
    pub(crate) meter: RefCell<Meter>,
    /// Told when there is a flood: from then on nothing is read any more.
    pub(crate) flooded: Notify,
}

/// The end of a [`Watched`] connection that `h2` reads and writes.
pub(crate) struct Metered<IO>(pub(crate) Rc<Watched<IO>>);

impl<IO: AsyncRead + Unpin> AsyncRead for Metered<IO> {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let watched = &*self.0;
        if watched.meter.borrow().flood().is_some() {
            return Poll::Pending; // never woken for reading again
        }
        let before = buf.filled().len();
        let read = Pin::new(&mut *watched.io.borrow_mut()).poll_read(cx, buf);
        if let Poll::Ready(Ok(())) = read
            && buf.filled().len() > before
            && !watched.meter.borrow_mut().handle_received(&buf.filled()[before..], Instant::now())
        {
            buf.set_filled(before);
            watched.flooded.notify_one();
            return Poll::Pending;
        }
        read
    }
}

impl<IO: AsyncWrite + Unpin> Metered<IO> {
    fn note_write(&self, written: &Poll<io::Result<usize>>) {
        let meter = &mut *self.0.meter.borrow_mut();
        match written {
            Poll::Ready(Ok(count)) => meter.handle_sent(*count, Instant::now()),
            Poll::Ready(Err(_)) => {}
            Poll::Pending => {
                meter.blocked_since.get_or_insert_with(Instant::now);
            }
        }
    }
}

impl<IO: AsyncWrite + Unpin> AsyncWrite for Metered<IO> {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut *self.0.io.borrow_mut()).poll_write(cx, bytes);
        self.note_write(&written);
        written
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut *self.0.io.borrow_mut()).poll_write_vectored(cx, slices);
        self.note_write(&written);
        written
    }

    fn is_write_vectored(&self) -> bool {
        self.0.io.borrow().is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let flushed = Pin::new(&mut *self.0.io.borrow_mut()).poll_flush(cx);
        let meter = &mut *self.0.meter.borrow_mut();
        if flushed.is_pending() {
            meter.blocked_since.get_or_insert_with(Instant::now);
        } else {
            meter.blocked_since = None;
        }
        flushed
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut *self.0.io.borrow_mut()).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(kind: u8, flags: u8, payload: &[u8]) -> Vec<u8> {
        let length = payload.len() as u32;
        let mut bytes = length.to_be_bytes()[1..].to_vec();
        bytes.extend([kind, flags, 0, 0, 0, 1]);
        bytes.extend(payload);
        bytes
    }

    /// How many of these frames pass, fed in pieces of every size from 1 to 16.
    fn passes(frame: &[u8]) -> u64 {
        let mut results = (1..=16).map(|size| {
            let mut meter = Meter::new();
            let now = Instant::now();
            assert!(meter.handle_received(http1::HTTP2_PREFACE, now));
            let mut count = 0;
            while frame.chunks(size).all(|piece| meter.handle_received(piece, now)) {
                count += 1;
                if count > 20_000 {
                    return u64::MAX;
                }
            }
            count
        });
        let first = results.next().unwrap_or_default();
        assert!(results.all(|count| count == first), "the pieces make a difference");
        first
    }

    /// The numbers of the table at the top, spelled out: whoever moves a limit is to notice.
    #[test]
    fn cheap_frames_are_counted_however_they_are_cut() {
        assert_eq!(passes(&frame(3, 0, &[0; 4])), 100);
        assert_eq!(passes(&frame(4, 0, &[])), 50);
        assert_eq!(passes(&frame(6, 0, &[0; 8])), 100);
        assert_eq!(passes(&frame(0, 0, &[])), 100);
        assert_eq!(passes(&frame(0, FLAG_PADDED, &[4, 0, 0, 0, 0])), 100, "nothing but padding");
        assert_eq!(passes(&frame(8, 0, &[0; 4])), 1_000);
        assert_eq!(passes(&frame(9, 0, b"x")), 20);
        assert_eq!(passes(&frame(2, 0, &[0; 5])), 100);
        assert_eq!(passes(&frame(0xfa, 0, b"x")), 100);
    }

    /// How many of these frames pass after others, all within one window.
    fn passes_after(before: impl FnOnce(&mut Meter, Instant), frame: &[u8]) -> usize {
        let (mut meter, now) = (Meter::of_server(), Instant::now());
        before(&mut meter, now);
        (0..1_000_000).take_while(|_| meter.handle_received(frame, now)).count()
    }

    #[test]
    fn what_belongs_to_work_grows_with_it() {
        let sent = |bytes| move |meter: &mut Meter, now| meter.handle_sent(bytes, now);
        let ping = frame(6, 0, &[0; 8]);
        assert_eq!(passes_after(sent(16 * 1024 - 1), &ping), 100);
        assert_eq!(passes_after(sent(32 * 1024), &ping), 102);
        let update = frame(8, 0, &[0; 4]);
        assert_eq!(passes_after(sent(511), &update), 1_000);
        assert_eq!(passes_after(sent(1 << 20), &update), 1_000 + 2_048);
        let heads = |meter: &mut Meter, now| {
            assert!(meter.handle_received(&frame(1, FLAG_END_HEADERS, b"x").repeat(3), now));
        };
        assert_eq!(passes_after(heads, &frame(2, 0, &[0; 5])), 100 + 6);
        assert_eq!(passes_after(heads, &frame(3, 0, &[0; 4])), 100, "a request earns its sender no reset");
        let asked = |meter: &mut Meter, _| (0..7).for_each(|_| meter.handle_asked());
        assert_eq!(passes_after(asked, &frame(3, 0, &[0; 4])), 107, "a server may reset what it was asked");
    }

    #[test]
    fn continuations_of_many_heads_are_summed_up() {
        let (mut meter, now) = (Meter::of_server(), Instant::now());
        let head = [frame(1, 0, b"x"), frame(9, 0, b"x").repeat(19), frame(9, FLAG_END_HEADERS, b"x")].concat();
        assert!((0..5).all(|_| meter.handle_received(&head, now)), "20 each");
        assert!(meter.handle_received(&frame(1, 0, b"x"), now));
        assert!(!meter.handle_received(&frame(9, FLAG_END_HEADERS, b"x"), now));
        assert_eq!(meter.flood(), Some(Flood::Continuations));
    }

    #[test]
    fn resets_of_a_connection_are_summed_up_over_all_windows() {
        let (mut meter, now) = (Meter::of_server(), Instant::now());
        let resets = frame(3, 0, &[0; 4]).repeat(100);
        assert!((0..100).all(|number| meter.handle_received(&resets, now + WINDOW * number)));
        assert!(!meter.handle_received(&frame(3, 0, &[0; 4]), now + WINDOW * 100), "10 000 are all there are");
        assert_eq!(meter.flood(), Some(Flood::Resets));
    }

    #[test]
    fn frames_that_carry_something_are_not() {
        assert_eq!(passes(&frame(0, 0, b"x")), u64::MAX);
        assert_eq!(passes(&frame(0, FLAG_PADDED, &[1, b'x', 0])), u64::MAX);
        assert_eq!(passes(&frame(0, FLAG_END_STREAM, &[])), u64::MAX);
        assert_eq!(passes(&frame(1, FLAG_END_HEADERS, b"x")), u64::MAX);
    }

    #[test]
    fn counts_begin_anew_with_each_window() {
        let mut meter = Meter::new();
        let now = Instant::now();
        meter.handle_received(http1::HTTP2_PREFACE, now);
        let resets = frame(3, 0, &[0; 4]).repeat(100);
        let (last, next) = (now + Duration::from_millis(9_999), now + Duration::from_secs(10));
        assert!(meter.handle_received(&resets, now));
        assert!(meter.handle_received(&resets, next));
        assert!(!meter.handle_received(&resets, next), "within the same window");
        let mut meter = Meter::of_server();
        assert!(meter.handle_received(&resets, now));
        assert!(!meter.handle_received(&resets, last), "the window is not over");
    }

    #[test]
    fn a_head_is_under_way_until_its_last_byte() {
        let mut meter = Meter::new();
        let now = Instant::now();
        let age = |meter: &Meter| meter.head_since.is_some();
        meter.handle_received(http1::HTTP2_PREFACE, now);
        let last = frame(9, FLAG_END_HEADERS, b"xy");
        meter.handle_received(&frame(1, 0, b"x"), now);
        assert!(age(&meter), "no END_HEADERS");
        meter.handle_received(&last[..last.len() - 1], now);
        assert!(age(&meter), "a byte is missing");
        meter.handle_received(&last[last.len() - 1..], now);
        assert!(!age(&meter));
        meter.handle_received(&frame(1, FLAG_END_HEADERS, b""), now);
        assert!(!age(&meter), "a head without payload");
    }
}
