//! The thread that writes lines to their target.

use std::fs::{File, Metadata, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::{LogTarget, Shared};

/// How long a line may lie in its buffer.
const PAUSE: Duration = Duration::from_millis(250);
/// Trouble is logged once in this time.
const COMPLAINT_PAUSE: Duration = Duration::from_secs(10);
/// Buffers are kept from one round to the next unless they have grown beyond this.
const KEPT_BYTES_MAX: usize = 256 * 1024;

/// What the writer is asked to do.
#[derive(Debug, Default)]
pub(super) struct Orders {
    given: Mutex<Given>,
    news: Condvar,
    /// Told after each round.
    done: Condvar,
}

#[derive(Debug, Default, Clone, Copy)]
struct Given {
    hurry: bool,
    reopen: bool,
    end: Option<End>,
    /// Rounds of writing that are over.
    rounds: u64,
}

/// The log is not used any more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    Wanted,
    /// All is written, and the writer has ended.
    Reached,
}

/// Lines written and lines lost.
#[derive(Debug, Default)]
pub(super) struct Counts {
    written: AtomicU64,
    lost: AtomicU64,
}

impl Counts {
    pub(super) fn lose(&self) {
        self.lost.fetch_add(1, Relaxed);
    }

    pub(super) fn get(&self) -> (u64, u64) {
        (self.written.load(Relaxed), self.lost.load(Relaxed))
    }
}

impl Orders {
    pub(super) fn hurry(&self) {
        let mut given = self.lock();
        if !std::mem::replace(&mut given.hurry, true) {
            self.news.notify_one();
        }
    }

    pub(super) fn reopen(&self) {
        self.lock().reopen = true;
        self.news.notify_one();
    }

    /// Has everything written and waits for that, so long at most.
    pub(super) fn flush(&self, patience: Duration) {
        let mut given = self.lock();
        let awaited = given.rounds + 2; // the round under way may have passed a buffer already
        let is_missing = |given: &mut Given| {
            given.hurry = true;
            given.rounds < awaited
        };
        given.hurry = true;
        self.news.notify_all();
        // What is not written by then is lost: there is nobody left to tell.
        drop(self.done.wait_timeout_while(given, patience, is_missing));
    }

    /// Has everything written and the writer end; whether it has within so long.
    pub(super) fn end(&self, patience: Duration) -> bool {
        let mut given = self.lock();
        given.end = Some(End::Wanted);
        self.news.notify_one();
        let waited = self.done.wait_timeout_while(given, patience, |given| given.end != Some(End::Reached));
        waited.unwrap_or_else(PoisonError::into_inner).0.end == Some(End::Reached)
    }

    fn over(&self) {
        self.lock().end = Some(End::Reached);
        self.done.notify_all();
    }

    /// Waits for an order, [`PAUSE`] at most.
    fn wait(&self) -> Given {
        let idle = |given: &mut Given| !(given.hurry || given.reopen || given.end.is_some());
        let waited = self.news.wait_timeout_while(self.lock(), PAUSE, idle);
        let (mut given, _) = waited.unwrap_or_else(PoisonError::into_inner);
        let rounds = given.rounds;
        std::mem::replace(&mut *given, Given { rounds, ..Given::default() })
    }

    fn round_over(&self) {
        self.lock().rounds += 1;
        self.done.notify_all();
    }

    fn lock(&self) -> MutexGuard<'_, Given> {
        self.given.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Takes lines out of the buffers and writes them.
pub(super) struct Writer {
    shared: Arc<Shared>,
    sink: Sink,
    /// Swapped with each worker's buffer in turn.
    spare: Vec<u8>,
    /// Whether the target ends in the middle of a line, as a full disk leaves it.
    is_torn: bool,
    complained: Option<Instant>,
    lost_said: u64,
}

enum Sink {
    Stdout,
    File { file: File, identity: Option<(u64, u64)> },
}

impl Writer {
    pub(super) fn open(shared: Arc<Shared>) -> io::Result<Self> {
        let sink = Sink::open(&shared.settings.target)?;
        Ok(Self { shared, sink, spare: Vec::new(), is_torn: false, complained: None, lost_said: 0 })
    }

    pub(super) fn run(mut self) {
        loop {
            let Given { reopen, end, .. } = self.shared.orders.wait();
            if end.is_some() {
                self.write_all();
                return self.shared.orders.over();
            }
            if reopen || self.is_renamed() {
                self.write_all(); // what was said before belongs to the old file
                self.reopen();
            }
            self.write_all();
            self.shared.orders.round_over();
            self.say_what_was_lost();
        }
    }

    fn write_all(&mut self) {
        let shared = Arc::clone(&self.shared);
        for buffer in shared.buffers.all() {
            let lines = {
                let mut buffer = buffer.lock().unwrap_or_else(PoisonError::into_inner);
                std::mem::swap(&mut buffer.bytes, &mut self.spare);
                std::mem::take(&mut buffer.lines)
            };
            if lines > 0 {
                let (whole, outcome) = self.sink.write(&self.spare, &mut self.is_torn);
                shared.counts.written.fetch_add(whole, Relaxed);
                if let Err(error) = outcome {
                    let lost = lines.saturating_sub(whole);
                    self.complain(&format!("{lost} lines could not be written: {error}"));
                    shared.counts.lost.fetch_add(lost, Relaxed);
                }
            }
            self.spare.clear();
            self.spare.shrink_to(KEPT_BYTES_MAX);
        }
    }

    /// Whether the path leads elsewhere by now.
    fn is_renamed(&self) -> bool {
        match (&self.sink, &self.shared.settings.target) {
            (Sink::File { identity: Some(identity), .. }, LogTarget::File(path)) => {
                std::fs::metadata(path).map_or(true, |now| identity_of(&now) != Some(*identity))
            }
            _ => false,
        }
    }

    fn reopen(&mut self) {
        match Sink::open(&self.shared.settings.target) {
            Ok(sink) => {
                self.sink = sink;
                self.is_torn = false;
            }
            Err(error) => self.complain(&format!("cannot be opened again: {error}")),
        }
    }

    fn say_what_was_lost(&mut self) {
        let (_, lost) = self.shared.counts.get();
        if lost > self.lost_said && self.may_complain() {
            let target = &self.shared.settings.target;
            tracing::warn!(%target, lines = lost - self.lost_said, "access log is too slow: lines are lost");
            self.lost_said = lost;
        }
    }

    fn complain(&mut self, what: &str) {
        if self.may_complain() {
            tracing::error!(target = %self.shared.settings.target, "access log: {what}");
        }
    }

    fn may_complain(&mut self) -> bool {
        let may = self.complained.is_none_or(|at| at.elapsed() >= COMPLAINT_PAUSE);
        if may {
            self.complained = Some(Instant::now());
        }
        may
    }
}

impl Sink {
    fn open(target: &LogTarget) -> io::Result<Self> {
        let LogTarget::File(path) = target else { return Ok(Self::Stdout) };
        let file = OpenOptions::new().append(true).create(true).mode(0o640).open(path)?;
        let identity = file.metadata().ok().and_then(|metadata| identity_of(&metadata));
        Ok(Self::File { file, identity })
    }

    /// Writes lines; how many of them are there whole.
    fn write(&mut self, bytes: &[u8], is_torn: &mut bool) -> (u64, io::Result<()>) {
        match self {
            Self::Stdout => {
                let mut out = io::stdout().lock();
                let (whole, outcome) = write_lines(&mut out, bytes, is_torn);
                (whole, outcome.and_then(|()| out.flush()))
            }
            Self::File { file, .. } => write_lines(file, bytes, is_torn),
        }
    }
}

/// Writes lines as far as they are taken. Where the last one before is torn, they begin on a new one: a program that
/// reads them loses that one alone.
fn write_lines(out: &mut impl Write, bytes: &[u8], is_torn: &mut bool) -> (u64, io::Result<()>) {
    let mut written = 0;
    let outcome = loop {
        let next = if *is_torn { &b"\n"[..] } else { &bytes[written..] };
        if next.is_empty() {
            break Ok(());
        }
        match out.write(next) {
            Ok(0) => break Err(io::ErrorKind::WriteZero.into()),
            Ok(_) if *is_torn => *is_torn = false,
            Ok(count) => written += count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => break Err(error),
        }
    };
    if let Some(last) = bytes[..written].last() {
        *is_torn = *last != b'\n';
    }
    (bytes[..written].split(|byte| *byte == b'\n').skip(1).count() as u64, outcome)
}

/// What stays the same when a regular file is renamed; none for a pipe or a device.
fn identity_of(metadata: &Metadata) -> Option<(u64, u64)> {
    metadata.is_file().then(|| (metadata.dev(), metadata.ino()))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A disk with so much room.
    struct Disk {
        bytes: Vec<u8>,
        room: usize,
    }

    impl Write for Disk {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            let count = bytes.len().min(self.room).min(3);
            if count == 0 {
                return Err(io::ErrorKind::StorageFull.into());
            }
            self.room -= count;
            self.bytes.extend_from_slice(&bytes[..count]);
            Ok(count)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_disk_that_was_full_has_one_torn_line_and_no_more() {
        for room in 0..=12 {
            let (mut disk, mut is_torn) = (Disk { bytes: Vec::new(), room }, false);
            let (whole, outcome) = write_lines(&mut disk, b"one\ntwo\nthree\n", &mut is_torn);
            assert!(outcome.is_err(), "{room}");
            assert_eq!(whole, [4, 8, 14].iter().filter(|end| **end <= room).count() as u64);
            let (_, outcome) = write_lines(&mut disk, b"lost\n", &mut is_torn);
            assert!(outcome.is_err());
            disk.room = 100;
            let (more, outcome) = write_lines(&mut disk, b"four\nfive\n", &mut is_torn);
            assert_eq!((more, outcome.is_ok()), (2, true), "{room}");
            let text = String::from_utf8_lossy(&disk.bytes);
            assert!(text.ends_with("four\nfive\n") && text.lines().any(|line| line == "four"), "{room}: {text:?}");
            assert!(!text.contains("\n\n") && !text.starts_with('\n'), "{room}: {text:?}");
        }
    }
}
