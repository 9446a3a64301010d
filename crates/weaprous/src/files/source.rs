//! A part of a file as a body: read chunk by chunk on the blocking pool, no faster than it is taken.

use bytes::Bytes;
use engine::{BodyError, Source};
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use tokio::task::JoinHandle;

/// Bytes per read: enough that the hop to the blocking pool does not count.
const CHUNK_BYTES: u64 = 128 * 1024;

pub(crate) struct FileSource {
    file: Arc<File>,
    at: u64,
    left: u64,
    reading: Option<JoinHandle<io::Result<Vec<u8>>>>,
}

impl FileSource {
    /// `len` bytes from `start`.
    pub(crate) fn new(file: Arc<File>, start: u64, len: u64) -> Self {
        Self { file, at: start, left: len, reading: None }
    }

    fn read(&self) -> JoinHandle<io::Result<Vec<u8>>> {
        let (file, at, len) = (Arc::clone(&self.file), self.at, self.left.min(CHUNK_BYTES));
        tokio::task::spawn_blocking(move || {
            let mut chunk = vec![0; len as usize];
            // A file that became shorter fails here: the message is broken off rather than made up.
            file.read_exact_at(&mut chunk, at)?;
            Ok(chunk)
        })
    }
}

impl Source for FileSource {
    fn poll_chunk(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, BodyError>>> {
        if self.left == 0 {
            return Poll::Ready(None);
        }
        let mut reading = self.reading.take().unwrap_or_else(|| self.read());
        let Poll::Ready(outcome) = Pin::new(&mut reading).poll(cx) else {
            self.reading = Some(reading);
            return Poll::Pending;
        };
        let chunk = match outcome.map_err(io::Error::other).flatten() {
            Ok(chunk) => chunk,
            Err(error) => return Poll::Ready(Some(Err(BodyError::Source(error.into())))),
        };
        self.at += chunk.len() as u64;
        self.left -= chunk.len() as u64;
        Poll::Ready(Some(Ok(chunk.into())))
    }

    fn exact_len(&self) -> Option<u64> {
        Some(self.left)
    }
}
