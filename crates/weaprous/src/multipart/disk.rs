//! Uploads on disk: written on the blocking pool, some at a time, so that no worker waits and memory stays small.

use super::{MultipartError, PartHead};
use bytes::{Bytes, BytesMut};
use std::fs::File;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use tempfile::{NamedTempFile, TempPath};

/// Bytes that are gathered before they are written: one trip to another thread for many small chunks.
const WRITE_BYTES: usize = 256 * 1024;

/// A file somebody sent. It lies in the folder for temporary files under a name of ours, readable by us alone, and is
/// deleted when this is dropped.
///
/// ```
/// use weaprous::multipart::{Multipart, MultipartError};
/// use weaprous::prelude::*;
///
/// async fn store(form: Multipart) -> Result<String, MultipartError> {
///     let form = form.store_in("uploads").collect().await?;
///     let mut stored = 0;
///     for (number, file) in form.into_files().into_iter().enumerate() {
///         // A name of our own; what the client calls it is only shown.
///         file.keep_at(format!("uploads/{number}.bin")).map_err(MultipartError::Disk)?;
///         stored += 1;
///     }
///     Ok(format!("{stored} files"))
/// }
/// App::new().route("/files", [POST], store);
/// ```
#[derive(Debug)]
pub struct UploadedFile {
    head: PartHead,
    /// Only its name: a form has many files, and a process few descriptors.
    path: TempPath,
    len: u64,
}

impl UploadedFile {
    /// What the client says about it. Believe none of it.
    pub fn head(&self) -> &PartHead {
        &self.head
    }

    /// Its length in bytes.
    pub fn len(&self) -> u64 {
        self.len
    }

    /// Whether nothing was sent: browsers do so where no file was chosen.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Where it lies now.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Opens it for reading, from its beginning.
    ///
    /// # Errors
    /// The system's.
    pub fn open(&self) -> io::Result<File> {
        File::open(&self.path)
    }

    /// Keeps it at this path, which must be on the same file system (see
    /// [`Multipart::store_in`](super::Multipart::store_in)) and not be made from what the client says. A file that
    /// is there already stays, and this is an error.
    ///
    /// # Errors
    /// The system's; the upload is deleted then.
    pub fn keep_at(self, path: impl AsRef<Path>) -> io::Result<()> {
        self.path.persist_noclobber(path).map_err(|error| error.error)
    }
}

/// A file while it is written.
pub(super) struct Writer {
    /// Away while a write is under way.
    file: Option<NamedTempFile>,
    waiting: BytesMut,
    len: u64,
}

impl Writer {
    /// Makes a file in the folder, or in the system's for temporary files.
    pub(super) async fn create(folder: Option<PathBuf>) -> Result<Self, MultipartError> {
        let made = on_disk(move || match folder {
            Some(folder) => NamedTempFile::new_in(folder),
            None => NamedTempFile::new(),
        });
        Ok(Self { file: Some(made.await?), waiting: BytesMut::new(), len: 0 })
    }

    /// Takes a chunk, waiting for the disk where enough has gathered.
    pub(super) async fn write(&mut self, chunk: Bytes) -> Result<(), MultipartError> {
        self.len += chunk.len() as u64;
        self.waiting.extend_from_slice(&chunk);
        if self.waiting.len() >= WRITE_BYTES { self.flush().await } else { Ok(()) }
    }

    pub(super) async fn finish(mut self, head: PartHead) -> Result<UploadedFile, MultipartError> {
        self.flush().await?;
        let file = self.file.ok_or_else(gone)?;
        Ok(UploadedFile { head, path: file.into_temp_path(), len: self.len })
    }

    async fn flush(&mut self) -> Result<(), MultipartError> {
        let Some(mut file) = self.file.take() else { return Err(gone()) };
        let bytes = self.waiting.split().freeze();
        let written = on_disk(move || {
            file.write_all(&bytes)?;
            Ok(file)
        });
        self.file = Some(written.await?);
        Ok(())
    }
}

async fn on_disk<T: Send + 'static>(
    work: impl FnOnce() -> io::Result<T> + Send + 'static,
) -> Result<T, MultipartError> {
    let done = tokio::task::spawn_blocking(work).await.map_err(io::Error::other);
    done.and_then(|result| result).map_err(MultipartError::Disk)
}

/// A write that was broken off took the file along.
fn gone() -> MultipartError {
    MultipartError::Disk(io::Error::other("an earlier write was broken off"))
}
