//! The device key on disk: made once, loaded ever after, never overwritten.
//!
//! One line of text in `<data_dir>/device.key`, readable by its owner alone. The open file is locked while a peer
//! runs: two processes that sign as one device would fork its chains, and no reader could tell which is right.

use std::fs::{self, DirBuilder, File, OpenOptions, TryLockError};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use chat::DeviceKey;

/// Name of the key file inside the data directory.
pub const KEY_FILE: &str = "device.key";

/// What the line in the file starts with; the number is the format's version.
const KEY_LABEL: &str = "weaprous-device-1 ";
/// Longest key file read, in bytes. A sound one has 62.
const KEY_FILE_BYTES_MAX: u64 = 256;
/// Length of the secret, in bytes.
const SEED_BYTES: usize = 32;

/// Why there is no device key to run with.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    /// The directory or the file cannot be read or written.
    #[error("cannot {what} {path}: {source}; check --data-dir and who owns it", path = path.display())]
    Io {
        /// What was tried.
        what: &'static str,
        /// On which file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// Others may read the key.
    #[error("{path} can be read by others (mode {mode:o}); run: chmod 600 {path}", path = path.display())]
    Exposed {
        /// The key file.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// The file does not hold a key.
    #[error("{path} does not hold a device key; restore it from a backup, or move it away to become a new device", path = path.display())]
    Corrupt {
        /// The key file.
        path: PathBuf,
    },
    /// Another process runs as this device.
    #[error("{path} is in use by another process; stop that one, or give --data-dir another directory", path = path.display())]
    InUse {
        /// The key file.
        path: PathBuf,
    },
    /// The system gave no random bytes.
    #[error("the system gave no random bytes for a new device key")]
    NoRandomness,
}

/// A device key and the lock on the file it came from.
#[derive(Debug)]
pub struct HeldKey {
    /// The key.
    pub key: DeviceKey,
    /// Held open: closing it gives the lock back.
    _lock: File,
}

/// Loads the device key of `data_dir`, making directory and key when there are none.
///
/// # Errors
/// Never replaces what is there: a file with wrong permissions or contents is an error that says what to do.
pub fn load_or_make(data_dir: &Path) -> Result<HeldKey, KeyError> {
    let path = data_dir.join(KEY_FILE);
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(data_dir)
        .map_err(|source| failed("create the directory", data_dir, source))?;
    match load(&path) {
        Err(KeyError::Io { source, .. }) if source.kind() == io::ErrorKind::NotFound => {
            make(data_dir, &path)?;
            load(&path)
        }
        other => other,
    }
}

fn load(path: &Path) -> Result<HeldKey, KeyError> {
    let mut file = File::open(path).map_err(|source| failed("read", path, source))?;
    let metadata = file.metadata().map_err(|source| failed("read", path, source))?;
    if !metadata.is_file() {
        return Err(KeyError::Corrupt { path: path.into() });
    }
    let mode = metadata.permissions().mode() & 0o777;
    if mode & 0o077 != 0 {
        return Err(KeyError::Exposed { path: path.into(), mode });
    }
    if metadata.size() > KEY_FILE_BYTES_MAX {
        return Err(KeyError::Corrupt { path: path.into() });
    }
    let mut text = String::new();
    (&mut file).take(KEY_FILE_BYTES_MAX).read_to_string(&mut text).map_err(|source| match source.kind() {
        io::ErrorKind::InvalidData => KeyError::Corrupt { path: path.into() },
        _ => failed("read", path, source),
    })?;
    let key = parse(&text).ok_or_else(|| KeyError::Corrupt { path: path.into() })?;
    match file.try_lock() {
        Ok(()) => Ok(HeldKey { key, _lock: file }),
        Err(TryLockError::WouldBlock) => Err(KeyError::InUse { path: path.into() }),
        Err(TryLockError::Error(source)) => Err(failed("lock", path, source)),
    }
}

fn parse(text: &str) -> Option<DeviceKey> {
    let encoded = text.strip_prefix(KEY_LABEL)?.strip_suffix('\n')?;
    let seed: [u8; SEED_BYTES] = URL_SAFE_NO_PAD.decode(encoded).ok()?.try_into().ok()?;
    Some(DeviceKey::from_seed(seed))
}

/// Writes a whole, synced file under another name, then links it in place: a crash leaves the key or nothing, and
/// an existing key makes the link fail instead of being replaced.
fn make(data_dir: &Path, path: &Path) -> Result<(), KeyError> {
    let mut seed = [0; SEED_BYTES];
    let mut nonce = [0; 8];
    getrandom::fill(&mut seed).map_err(|_| KeyError::NoRandomness)?;
    getrandom::fill(&mut nonce).map_err(|_| KeyError::NoRandomness)?;
    let draft = data_dir.join(format!("{KEY_FILE}.{}", URL_SAFE_NO_PAD.encode(nonce)));
    let written = write_synced(&draft, &format!("{KEY_LABEL}{}\n", URL_SAFE_NO_PAD.encode(seed)))
        .and_then(|()| fs::hard_link(&draft, path));
    let _ = fs::remove_file(&draft);
    match written {
        Err(source) if source.kind() != io::ErrorKind::AlreadyExists => return Err(failed("write", path, source)),
        _ => {} // made by us, or by another process a moment ago: either way it is there to load
    }
    File::open(data_dir).and_then(|directory| directory.sync_all()).map_err(|source| failed("sync", data_dir, source))
}

fn write_synced(path: &Path, text: &str) -> io::Result<()> {
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()
}

fn failed(what: &'static str, path: &Path, source: io::Error) -> KeyError {
    KeyError::Io { what, path: path.into(), source }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn is_made_once_and_loaded_ever_after() {
        let dir = tempfile::tempdir().unwrap();
        let data_dir = dir.path().join("alice");
        let made = load_or_make(&data_dir).unwrap().key.id();
        assert_eq!(load_or_make(&data_dir).unwrap().key.id(), made);
        let path = data_dir.join(KEY_FILE);
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(fs::read_dir(&data_dir).unwrap().count(), 1, "no draft is left behind");
    }

    #[test]
    fn a_second_holder_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let held = load_or_make(dir.path()).unwrap();
        assert!(matches!(load_or_make(dir.path()), Err(KeyError::InUse { .. })));
        drop(held);
        assert!(load_or_make(dir.path()).is_ok());
    }

    #[test]
    fn wrong_permissions_are_refused_with_the_cure() {
        let dir = tempfile::tempdir().unwrap();
        load_or_make(dir.path()).unwrap();
        let path = dir.path().join(KEY_FILE);
        fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
        let error = load_or_make(dir.path()).unwrap_err();
        assert!(matches!(error, KeyError::Exposed { mode: 0o644, .. }));
        assert!(error.to_string().contains("chmod 600"), "{error}");
    }

    #[test]
    fn damaged_files_are_refused_and_kept() {
        let sound = format!("{KEY_LABEL}{}\n", URL_SAFE_NO_PAD.encode([7; SEED_BYTES]));
        let long = format!("{sound}{}", "x".repeat(300));
        let damaged: [&[u8]; 6] = [
            b"",
            b"weaprous-device-1 \n",
            &sound.as_bytes()[..sound.len() - 1],
            &sound.as_bytes()[..30],
            b"\xff\xfe\x00",
            long.as_bytes(),
        ];
        for bytes in damaged {
            let dir = tempfile::tempdir().unwrap();
            let path = dir.path().join(KEY_FILE);
            fs::write(&path, bytes).unwrap();
            fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
            assert!(matches!(load_or_make(dir.path()), Err(KeyError::Corrupt { .. })), "{bytes:?}");
            assert_eq!(fs::read(&path).unwrap(), bytes);
        }
        assert!(parse(&sound).is_some());
    }

    #[test]
    fn a_directory_that_cannot_be_made_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("a-file");
        fs::write(&file, "x").unwrap();
        let error = load_or_make(&file.join("below")).unwrap_err();
        assert!(error.to_string().contains("a-file"), "{error}");
    }
}
