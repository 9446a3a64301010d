//! Pipes by which the system itself moves content from one socket to another (`splice`), so that it is never copied into
//! this process.
//!
//! ```text
//!   shelf ──taken, empty──▶ Piped ──filled from one socket──▶ Piece::Piped ──emptied into the other──▶ shelf
//!                             └──────────────── dropped with bytes in it ────────────────▶ closed
//! ```
//!
//! A pipe is taken only when there is something to move and given back when that is gone, so that a few of them serve
//! all connections of a worker: only a client that is slower than its upstream keeps one. Where there is none, content
//! is copied.

use bytes::Bytes;
use rustix::fd::OwnedFd;
use std::cell::RefCell;
use std::io;

/// Content of a declared length is moved by pipes from this many bytes on: there it saves half of the work, and below it
/// was not measured.
pub(crate) const SPLICED_BYTES_MIN: u64 = 1024 * 1024;
/// What a pipe holds. A user without privileges may have 256 of this size.
const PIPE_BYTES: usize = 256 * 1024;
/// Bytes moved into a pipe at a time, so that other connections have their turn.
pub(crate) const SPLICE_BYTES_MAX: usize = 256 * 1024;
/// Pipes a worker has at once, used or not: two descriptors each.
const PIPES_MAX: usize = 16;
/// Pipes that are not asked for after the system had none.
const PAUSE: u32 = 1024;

/// A part of content, on its way from whoever produces it to whoever sends it.
#[derive(Debug)]
pub enum Piece {
    /// Bytes at hand.
    Chunk(Bytes),
    /// Bytes that lie in the system and that nobody looks at.
    Piped(Piped),
}

impl Piece {
    /// How many bytes it has.
    pub fn len(&self) -> usize {
        match self {
            Self::Chunk(bytes) => bytes.len(),
            Self::Piped(piped) => piped.left,
        }
    }

    /// Whether it has none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// A pipe and what is in it. Dropped while there is something left, the content is lost and the pipe is closed.
#[derive(Debug)]
pub struct Piped {
    /// `None` only while it is dropped.
    pipe: Option<Pipe>,
    left: usize,
}

#[derive(Debug)]
struct Pipe {
    reader: OwnedFd,
    writer: OwnedFd,
}

impl Piped {
    /// An empty pipe of this thread; `None` where there are enough, or the system gives none.
    pub(crate) fn take() -> Option<Self> {
        SHELF.with_borrow_mut(|shelf| shelf.take(PIPE_BYTES)).map(|pipe| Self { pipe: Some(pipe), left: 0 })
    }

    /// Where it is filled.
    pub(crate) fn writer(&self) -> Option<&OwnedFd> {
        self.pipe.as_ref().map(|pipe| &pipe.writer)
    }

    /// Where it is emptied.
    pub(crate) fn reader(&self) -> Option<&OwnedFd> {
        self.pipe.as_ref().map(|pipe| &pipe.reader)
    }

    /// How many bytes are in it.
    pub(crate) fn left(&self) -> usize {
        self.left
    }

    pub(crate) fn handle_filled(&mut self, count: usize) {
        self.left += count;
    }

    pub(crate) fn handle_emptied(&mut self, count: usize) {
        self.left -= count;
    }
}

impl Drop for Piped {
    fn drop(&mut self) {
        let pipe = self.pipe.take().filter(|_| self.left == 0);
        // A thread that ends has closed its pipes.
        let _ = SHELF.try_with(|shelf| shelf.borrow_mut().put(pipe));
    }
}

/// The system does not move what was to be moved: for a while nothing is.
pub(crate) fn give_up() {
    SHELF.with_borrow_mut(|shelf| shelf.pause = PAUSE);
}

thread_local! {
    static SHELF: RefCell<Shelf> = RefCell::default();
}

/// The pipes of a thread.
#[derive(Default)]
struct Shelf {
    free: Vec<Pipe>,
    lent: usize,
    /// How often still to say no without asking the system.
    pause: u32,
}

impl Shelf {
    fn take(&mut self, size: usize) -> Option<Pipe> {
        if self.pause > 0 {
            self.pause -= 1;
            return None;
        }
        if self.lent >= PIPES_MAX {
            return None;
        }
        let pipe = match self.free.pop() {
            Some(pipe) => pipe,
            None => open(size)
                .inspect_err(|error| {
                    tracing::debug!(%error, "no pipe: content is copied");
                    self.pause = PAUSE;
                })
                .ok()?,
        };
        self.lent += 1;
        Some(pipe)
    }

    fn put(&mut self, pipe: Option<Pipe>) {
        self.lent -= 1;
        self.free.extend(pipe);
    }
}

/// A pipe of this size. A smaller one would be no use: each call would move too little.
#[cfg(target_os = "linux")]
fn open(size: usize) -> io::Result<Pipe> {
    use rustix::pipe::{PipeFlags, fcntl_getpipe_size, fcntl_setpipe_size, pipe_with};
    let (reader, writer) = pipe_with(PipeFlags::CLOEXEC | PipeFlags::NONBLOCK)?;
    fcntl_setpipe_size(&writer, size)?;
    if fcntl_getpipe_size(&writer)? < size {
        return Err(io::ErrorKind::QuotaExceeded.into());
    }
    Ok(Pipe { reader, writer })
}

#[cfg(not(target_os = "linux"))]
fn open(_: usize) -> io::Result<Pipe> {
    Err(io::ErrorKind::Unsupported.into())
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;

    #[test]
    fn an_empty_pipe_is_used_again_and_a_full_one_is_not() {
        use rustix::fd::AsRawFd;
        let first = Piped::take().expect("the system has pipes");
        let number = first.reader().expect("it is not dropped").as_raw_fd();
        drop(first);
        let mut again = Piped::take().expect("the system has pipes");
        assert_eq!(again.reader().map(AsRawFd::as_raw_fd), Some(number), "the same one");
        again.handle_filled(7);
        again.handle_emptied(6);
        drop(again);
        assert_eq!(SHELF.with_borrow(|shelf| (shelf.free.len(), shelf.lent)), (0, 0), "closed");
    }

    #[test]
    fn a_thread_has_only_so_many() {
        let all: Vec<Piped> = std::iter::from_fn(Piped::take).take(2 * PIPES_MAX).collect();
        assert_eq!(all.len(), PIPES_MAX);
        drop(all);
        assert!(Piped::take().is_some());
        assert_eq!(SHELF.with_borrow(|shelf| shelf.free.len()), PIPES_MAX);
    }

    #[test]
    fn where_the_system_gives_none_it_is_not_asked_each_time() {
        let mut shelf = Shelf::default();
        assert!(shelf.take(usize::MAX).is_none(), "no system gives one of this size");
        assert_eq!((shelf.pause, shelf.lent), (PAUSE, 0));
        assert_eq!((0..PAUSE).filter_map(|_| shelf.take(PIPE_BYTES)).count(), 0);
        assert!(shelf.take(PIPE_BYTES).is_some(), "asked again");
    }
}
