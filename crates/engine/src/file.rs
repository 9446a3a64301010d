//! Content that lies in a file. On a plain socket the system sends it by itself; elsewhere it is read in pieces on
//! the blocking pool, so that a slow disk holds up nobody else.

use crate::BodyError;
use bytes::Bytes;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use tokio::task::JoinHandle;

/// Bytes read at a time.
const READ_BYTES: u64 = 64 * 1024;

/// A part of a file, and how far it was taken.
#[derive(Debug)]
pub(crate) struct FileBody {
    pub(crate) file: Arc<File>,
    pub(crate) offset: u64,
    /// Bytes still to be taken.
    pub(crate) left: u64,
    reading: Option<JoinHandle<io::Result<Vec<u8>>>>,
}

impl FileBody {
    pub(crate) fn new(file: Arc<File>, offset: u64, len: u64) -> Self {
        Self { file, offset, left: len, reading: None }
    }

    /// Counts bytes that were taken.
    pub(crate) fn advance(&mut self, count: u64) {
        self.offset += count;
        self.left = self.left.saturating_sub(count);
    }

    pub(crate) fn poll_chunk(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, BodyError>>> {
        if self.left == 0 {
            return Poll::Ready(None);
        }
        let reading = self.reading.get_or_insert_with(|| {
            let (file, offset, count) = (self.file.clone(), self.offset, self.left.min(READ_BYTES));
            tokio::task::spawn_blocking(move || read_at(&file, offset, count))
        });
        let read = ready!(Pin::new(reading).poll(cx));
        self.reading = None;
        Poll::Ready(Some(match read {
            Ok(Ok(bytes)) => {
                self.advance(bytes.len() as u64);
                Ok(Bytes::from(bytes))
            }
            Ok(Err(error)) => Err(BodyError::Source(error.into())),
            Err(error) => Err(BodyError::Source(error.into())),
        }))
    }
}

/// Reads once, at most `count` bytes; a file that ends here is shorter than was promised.
fn read_at(file: &File, offset: u64, count: u64) -> io::Result<Vec<u8>> {
    let mut bytes = vec![0; count as usize];
    let read = loop {
        match file.read_at(&mut bytes, offset) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            read => break read?,
        }
    };
    if read == 0 {
        return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the file is shorter than it was"));
    }
    bytes.truncate(read);
    Ok(bytes)
}
