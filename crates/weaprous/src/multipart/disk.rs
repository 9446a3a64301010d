//! Uploads on disk: written on the blocking pool, some at a time, so that no worker waits and memory stays small.

use super::{MultipartError, PartHead};
use bytes::{Bytes, BytesMut};
use std::collections::HashSet;
use std::fs::{File, read_dir, remove_file};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use tempfile::{Builder, NamedTempFile, TempPath};

/// Bytes that are gathered before they are written: one trip to another thread for many small chunks.
const WRITE_BYTES: usize = 256 * 1024;

/// How files are called while they are received in a folder of the application's.
const PREFIX: &str = ".weaprous-upload-";

/// Folders this process has cleared, and most of them that are remembered: what is beyond is not cleared.
static CLEARED: Mutex<Option<HashSet<PathBuf>>> = Mutex::new(None);
const CLEARED_MAX: usize = 4096;

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
            Some(folder) => {
                clear_once(&folder);
                let file = Builder::new().prefix(PREFIX).tempfile_in(folder)?;
                // Says that it is being written. Where there are no locks, nothing is cleared either.
                let _ = file.as_file().try_lock();
                Ok(file)
            }
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

/// Clears a folder before this process has files of its own there.
fn clear_once(folder: &Path) {
    let mut cleared = CLEARED.lock().unwrap_or_else(PoisonError::into_inner);
    let cleared = cleared.get_or_insert_default();
    if cleared.len() < CLEARED_MAX && cleared.insert(folder.to_owned()) {
        match clear(folder) {
            Ok(0) => {}
            Ok(count) => {
                tracing::info!(folder = %folder.display(), count, "unfinished uploads of an earlier run deleted");
            }
            Err(error) => tracing::warn!(folder = %folder.display(), %error, "unfinished uploads cannot be looked for"),
        }
    }
}

/// Deletes what processes that are gone have left: the system gives their locks back, however they ended.
fn clear(folder: &Path) -> io::Result<usize> {
    let mut count = 0;
    for entry in read_dir(folder)? {
        let entry = entry?;
        let is_upload = entry.file_name().as_encoded_bytes().starts_with(PREFIX.as_bytes());
        if !is_upload || !entry.file_type()?.is_file() {
            continue;
        }
        let is_left = File::open(entry.path()).is_ok_and(|file| file.try_lock().is_ok());
        count += usize::from(is_left && remove_file(entry.path()).is_ok());
    }
    Ok(count)
}

/// Deletes what an earlier process of this program has left unfinished in a folder: one that was killed could not do
/// so itself. [`Multipart::store_in`](super::Multipart::store_in) does the same when a folder is first used.
///
/// Files that somebody still writes are left alone, and so is a folder that this process has used already. Blocks.
///
/// ```
/// let folder = tempfile::tempdir().expect("a folder for files that come and go");
/// weaprous::multipart::discard_leftovers(folder.path());
/// ```
pub fn discard_leftovers(folder: impl AsRef<Path>) {
    clear_once(folder.as_ref());
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

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn only_what_nobody_writes_is_cleared_and_only_once() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        let written = File::create(path(".weaprous-upload-written")).unwrap();
        written.try_lock().unwrap();
        for name in [".weaprous-upload-left", ".hidden", "weaprous-upload-named-so"] {
            std::fs::write(path(name), "x").unwrap();
        }
        std::fs::create_dir(path(".weaprous-upload-folder")).unwrap();
        std::os::unix::fs::symlink(path(".hidden"), path(".weaprous-upload-link")).unwrap();
        discard_leftovers(folder.path());
        let there = |name: &str| path(name).symlink_metadata().is_ok();
        assert!(!there(".weaprous-upload-left"));
        for name in [".weaprous-upload-written", ".hidden", "weaprous-upload-named-so", ".weaprous-upload-folder"] {
            assert!(there(name), "{name}");
        }
        assert!(there(".weaprous-upload-link"), "what it points to is not ours");
        drop(written);
        discard_leftovers(folder.path());
        assert!(there(".weaprous-upload-written"), "it might be an upload of this process that waits to be kept");
    }
}
