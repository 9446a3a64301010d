//! The access log: one line per answer, written off the hot path.
//!
//! ```text
//!   worker ── line ──▶ its own buffer ──┐
//!   worker ── line ──▶ its own buffer ──┼─ swapped out every quarter of a second, or when one is half full
//!   worker ── line ──▶ its own buffer ──┘      └──▶ writer thread ──▶ file or standard output
//! ```
//!
//! A worker never waits for a disk: it takes the lock of a buffer that only the writer looks at, for as long as two
//! pointers are swapped. A full buffer takes nothing more until it is written: such lines are counted and lost, and
//! that is said. Cookies, credentials and the values of a query never get here unless somebody asks for the last.

mod line;
mod writer;

use std::fmt;
use std::path::PathBuf;
use std::rc::Rc;
use std::str::FromStr;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, SystemTime};

pub(crate) use line::Entry;

use crate::metrics::PerThread;
use line::Clock;
use writer::{Counts, Orders, Writer};

/// Most bytes a worker's lines may take before they are written: about a quarter of a second of forty thousand
/// requests per second.
const BUFFER_BYTES_MAX: usize = 2 * 1024 * 1024;

/// How long the end of a program waits for the log's target.
const FLUSH_TIMEOUT: Duration = Duration::from_secs(2);

/// How long a log that nobody uses any more is waited for: a reload may end it on a worker, which has other things to do
/// than to wait for a target that takes nothing.
const CLOSE_TIMEOUT: Duration = Duration::from_millis(250);

/// How a line looks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum LogFormat {
    /// The Common Log Format, and nothing else.
    Common,
    /// The same with Referer and User-Agent, then request id, upstream, tries and seconds.
    #[default]
    Clf,
    /// One JSON object per line.
    Json,
}

impl FromStr for LogFormat {
    type Err = UnknownFormat;

    fn from_str(text: &str) -> Result<Self, UnknownFormat> {
        match text {
            "common" => Ok(Self::Common),
            "clf" => Ok(Self::Clf),
            "json" => Ok(Self::Json),
            _ => Err(UnknownFormat),
        }
    }
}

/// The word names no format.
#[derive(Debug, thiserror::Error)]
#[error("expected `clf`, `common` or `json`")]
pub struct UnknownFormat;

/// Where lines go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LogTarget {
    /// Standard output.
    Stdout,
    /// A file, appended to; made with mode 0640 if it is not there.
    File(PathBuf),
}

impl fmt::Display for LogTarget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Stdout => write!(f, "standard output"),
            Self::File(path) => write!(f, "{}", path.display()),
        }
    }
}

/// What an operator wants of the access log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogSettings {
    /// How a line looks.
    pub format: LogFormat,
    /// Where it goes.
    pub target: LogTarget,
    /// Whether the values of a query are shown, which may be secrets; otherwise only its names are.
    pub query: bool,
}

/// The log cannot be written.
#[derive(Debug, thiserror::Error)]
#[error("cannot write the access log {target}: {error}")]
pub struct LogError {
    target: LogTarget,
    #[source]
    error: std::io::Error,
}

/// A log that is being written. Dropping it writes what is left, and waits [`CLOSE_TIMEOUT`] for that at most.
#[derive(Debug)]
pub(crate) struct AccessLog {
    shared: Arc<Shared>,
    writer: Option<JoinHandle<()>>,
}

/// One worker's hold on a log: each request takes one along without a word to other workers.
#[derive(Debug, Clone)]
pub(crate) struct WorkerLog(Rc<Held>);

#[derive(Debug)]
struct Held(Arc<AccessLog>);

impl WorkerLog {
    pub(crate) fn new(log: Arc<AccessLog>) -> Self {
        Self(Rc::new(Held(log)))
    }
}

impl std::ops::Deref for WorkerLog {
    type Target = AccessLog;

    fn deref(&self) -> &AccessLog {
        &self.0.0
    }
}

/// What the workers and the writer have in common.
#[derive(Debug)]
struct Shared {
    settings: LogSettings,
    buffers: PerThread<Mutex<Buffer>>,
    orders: Orders,
    counts: Counts,
}

/// One worker's lines that are not yet written.
#[derive(Debug, Default)]
struct Buffer {
    bytes: Vec<u8>,
    lines: u64,
    clock: Clock,
}

impl AccessLog {
    /// Opens the target and starts the writer.
    ///
    /// # Errors
    /// The file cannot be opened, or there is no thread for the writer.
    pub(crate) fn open(settings: &LogSettings) -> Result<Self, LogError> {
        let failed = |error| LogError { target: settings.target.clone(), error };
        let shared = Arc::new(Shared {
            settings: settings.clone(),
            buffers: PerThread::new(),
            orders: Orders::default(),
            counts: Counts::default(),
        });
        let writer = Writer::open(Arc::clone(&shared)).map_err(failed)?;
        let thread = std::thread::Builder::new().name("access-log".to_owned()).spawn(move || writer.run());
        Ok(Self { shared, writer: Some(thread.map_err(failed)?) })
    }

    pub(crate) fn settings(&self) -> &LogSettings {
        &self.shared.settings
    }

    /// Adds a line. Never waits for the disk; a line without room is counted as lost.
    pub(crate) fn add(&self, entry: &Entry<'_>) {
        let mut buffer = self.shared.buffers.mine().lock().unwrap_or_else(PoisonError::into_inner);
        if buffer.bytes.len() >= BUFFER_BYTES_MAX {
            drop(buffer);
            self.shared.counts.lose();
            return;
        }
        let Buffer { bytes, lines, clock } = &mut *buffer;
        clock.set(SystemTime::now());
        line::write(bytes, clock, entry, &self.shared.settings);
        *lines += 1;
        let is_half_full = bytes.len() >= BUFFER_BYTES_MAX / 2;
        drop(buffer);
        if is_half_full {
            self.shared.orders.hurry();
        }
    }

    /// Lets go of the file and opens it again: for those who have renamed it.
    pub(crate) fn reopen(&self) {
        self.shared.orders.reopen();
    }

    /// Waits until all lines up to now are written, but not for ever.
    pub(crate) fn flush(&self) {
        self.shared.orders.flush(FLUSH_TIMEOUT);
    }

    /// Lines written, and lines lost.
    pub(crate) fn counts(&self) -> (u64, u64) {
        self.shared.counts.get()
    }
}

impl Drop for AccessLog {
    fn drop(&mut self) {
        let is_over = self.shared.orders.end(CLOSE_TIMEOUT);
        match self.writer.take() {
            // It ends by itself; had it panicked, the log would have nothing more to say.
            Some(writer) if is_over => drop(writer.join()),
            _ => tracing::warn!(target = %self.shared.settings.target, "the end of an access log is not yet written"),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn settings(folder: &std::path::Path) -> LogSettings {
        LogSettings { format: LogFormat::Json, target: LogTarget::File(folder.join("access.log")), query: false }
    }

    fn entry(target: &str) -> Entry<'_> {
        Entry { target, status: 200, ..Entry::example() }
    }

    fn lines(path: &std::path::Path) -> usize {
        std::fs::read_to_string(path).unwrap().lines().count()
    }

    #[test]
    fn lines_of_all_threads_are_there_when_the_log_is_closed() {
        let folder = tempfile::tempdir().unwrap();
        let log = Arc::new(AccessLog::open(&settings(folder.path())).unwrap());
        let threads: Vec<_> = (0..4)
            .map(|_| {
                let log = Arc::clone(&log);
                std::thread::spawn(move || (0..500).for_each(|_| log.add(&entry("/"))))
            })
            .collect();
        for thread in threads {
            thread.join().unwrap();
        }
        drop(Arc::try_unwrap(log).unwrap());
        assert_eq!(lines(&folder.path().join("access.log")), 2000);
    }

    #[test]
    fn a_flush_waits_until_all_lines_are_there() {
        let folder = tempfile::tempdir().unwrap();
        let log = AccessLog::open(&settings(folder.path())).unwrap();
        for count in 1..=20 {
            log.add(&entry("/"));
            log.flush();
            assert_eq!(lines(&folder.path().join("access.log")), count);
        }
    }

    #[test]
    fn a_renamed_file_is_left_alone_after_a_reopen() {
        let folder = tempfile::tempdir().unwrap();
        let (path, old) = (folder.path().join("access.log"), folder.path().join("access.log.1"));
        let log = AccessLog::open(&settings(folder.path())).unwrap();
        log.add(&entry("/before"));
        while log.counts().0 < 1 {
            std::thread::yield_now();
        }
        std::fs::rename(&path, &old).unwrap();
        log.reopen();
        while !path.exists() {
            std::thread::yield_now();
        }
        log.add(&entry("/after"));
        drop(log);
        assert!(std::fs::read_to_string(&old).unwrap().contains("/before"));
        assert!(std::fs::read_to_string(&path).unwrap().contains("/after"));
        assert_eq!((lines(&old), lines(&path)), (1, 1));
    }

    #[test]
    fn a_renamed_file_is_noticed_without_being_told() {
        let folder = tempfile::tempdir().unwrap();
        let (path, old) = (folder.path().join("access.log"), folder.path().join("access.log.1"));
        let log = AccessLog::open(&settings(folder.path())).unwrap();
        std::fs::rename(&path, &old).unwrap();
        while !path.exists() {
            log.add(&entry("/"));
            std::thread::yield_now();
        }
        drop(log);
    }

    #[test]
    fn what_finds_no_room_is_counted_and_holds_nobody_up() {
        let (reader, pipe) = std::io::pipe().unwrap();
        let path = format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(&pipe));
        let target = LogTarget::File(path.into());
        let log = AccessLog::open(&LogSettings { target, ..settings(std::path::Path::new("")) }).unwrap();
        let target = format!("/{}", "x".repeat(4000));
        // Nobody reads the pipe: the writer is stuck, and the buffer fills.
        while log.counts().1 < 10 {
            log.add(&entry(&target));
        }
        drop(reader); // the writer gets an error instead, and ends
        drop(pipe);
        drop(log);
    }

    #[test]
    fn a_target_that_takes_nothing_holds_nobody_up_at_its_end() {
        let (reader, pipe) = std::io::pipe().unwrap();
        let path = format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(&pipe));
        let target = LogTarget::File(path.into());
        let log = AccessLog::open(&LogSettings { target, ..settings(std::path::Path::new("")) }).unwrap();
        let target = format!("/{}", "x".repeat(2000));
        (0..100).for_each(|_| log.add(&entry(&target))); // more than the pipe takes
        let (tell, told) = std::sync::mpsc::channel();
        std::thread::spawn(move || {
            drop(log);
            tell.send(()).unwrap();
        });
        told.recv_timeout(Duration::from_secs(10)).expect("the log is let go of");
        drop(pipe);
        let written = std::io::read_to_string(reader).unwrap();
        assert_eq!(written.lines().count(), 100, "what is left is written as soon as it is taken");
    }

    #[test]
    fn a_folder_that_is_not_there_is_said() {
        let error = AccessLog::open(&settings(std::path::Path::new("/nowhere/at/all"))).unwrap_err();
        assert!(error.to_string().starts_with("cannot write the access log /nowhere/at/all/access.log: "), "{error}");
    }
}
