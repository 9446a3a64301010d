//! Opening a database file: permissions, whose file it is, damage, schema version. Every refusal
//! names the file and what a person can do about it.

use std::fs::{self, DirBuilder, OpenOptions, Permissions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rusqlite::{Connection, ErrorCode, OpenFlags};

use super::schema::{self, Schema};

/// How long a connection waits for another process's write transaction. Ours take milliseconds;
/// whoever holds the lock for longer is stuck.
pub(crate) const BUSY_TIMEOUT: Duration = Duration::from_secs(5);

/// Pause between attempts to switch a fresh file to WAL, which the busy handler does not cover.
const WAL_RETRY_PAUSE: Duration = Duration::from_millis(10);

/// Files up to this size are checked page by page when opened (about 10 ms); larger ones are
/// believed until a read says otherwise, so that start-up does not grow with the history.
const CHECKED_AT_OPEN_BYTES_MAX: u64 = 4 * 1024 * 1024;

/// Page cache of the writing connection, in KiB.
const WRITER_CACHE_KIB: i64 = 1024;
/// Page cache of each reading connection, in KiB: hot pages are in the system's cache anyway.
const READER_CACHE_KIB: i64 = 256;
/// The write-ahead log is cut back to this size after a checkpoint, in bytes.
const WAL_BYTES_KEPT: i64 = 4 * 1024 * 1024;
/// Prepared statements kept per connection; more than there are statements in this crate.
const STATEMENTS_KEPT: usize = 48;

/// Why a database file could not be opened, and what to do about it.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The directory is missing and could not be made.
    #[error(
        "cannot create the data directory {}: {source}; create it for this user or choose another with --data-dir",
        path.display()
    )]
    Directory {
        /// The directory.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The file, or its directory, may not be read or written by this user.
    #[error(
        "cannot open {} for reading and writing: {detail}; give this user the file and its directory (chown, chmod u+rwx) or choose another with --data-dir",
        path.display()
    )]
    Unusable {
        /// The file.
        path: PathBuf,
        /// What the system said.
        detail: String,
    },
    /// Somebody else's file, or one of ours of another kind.
    #[error(
        "{} is not a {kind} of weaprous: {detail}; move it away or choose another --data-dir",
        path.display()
    )]
    Foreign {
        /// The file.
        path: PathBuf,
        /// What was expected there.
        kind: &'static str,
        /// What was found.
        detail: String,
    },
    /// The file is damaged.
    #[error(
        "{} is damaged: {detail}; restore it from a backup, or move it and its -wal and -shm files away to start empty",
        path.display()
    )]
    Corrupt {
        /// The file.
        path: PathBuf,
        /// What the check said.
        detail: String,
    },
    /// Written by a newer version, whose tables this one does not understand.
    #[error(
        "{} was written by a newer weaprous (schema {found}, this one knows up to {known}); run that version, or choose another --data-dir",
        path.display()
    )]
    Newer {
        /// The file.
        path: PathBuf,
        /// Its schema version.
        found: i64,
        /// The newest this program knows.
        known: i64,
    },
    /// Another process holds the file's write lock and does not let go.
    #[error(
        "{} is locked by another process; end that process (fuser shows it) and start again",
        path.display()
    )]
    Busy {
        /// The file.
        path: PathBuf,
    },
    /// Anything else: disk full, no memory, no threads.
    #[error("cannot open {}: {detail}; check free disk space and the system's log", path.display())]
    Failed {
        /// The file.
        path: PathBuf,
        /// What went wrong.
        detail: String,
    },
}

/// Opens, checks and migrates the file for writing; makes it and its directory if missing
/// (0600 and 0700: nobody else on the machine reads it).
pub(crate) fn writer(path: &Path, schema: &Schema) -> Result<Connection, OpenError> {
    make_directory(path)?;
    make_file(path)?;
    let classify = |error| classify(path, schema, &error);
    let mut connection = connect(path, schema)?;
    if connection.is_readonly("main").map_err(classify)? {
        return Err(OpenError::Unusable { path: path.into(), detail: "the file is read-only".into() });
    }
    schema::check_owner(&connection, path, schema)?;
    switch_to_wal(&connection, path, schema)?;
    connection
        .pragma_update(None, "synchronous", "FULL")
        .and_then(|()| connection.pragma_update(None, "cache_size", -WRITER_CACHE_KIB))
        .and_then(|()| connection.query_row(&format!("PRAGMA journal_size_limit = {WAL_BYTES_KEPT}"), [], |_| Ok(())))
        .map_err(classify)?;
    check_pages(&connection, path, schema)?;
    schema::migrate(&mut connection, path, schema)?;
    Ok(connection)
}

/// Opens one more connection to a file that `writer` has prepared; it cannot write.
pub(crate) fn reader(path: &Path, schema: &Schema) -> Result<Connection, OpenError> {
    let connection = connect(path, schema)?;
    connection
        .pragma_update(None, "query_only", true)
        .and_then(|()| connection.pragma_update(None, "cache_size", -READER_CACHE_KIB))
        .map_err(|error| classify(path, schema, &error))?;
    Ok(connection)
}

/// Sorts a database error into what the reader of the message can do.
pub(crate) fn classify(path: &Path, schema: &Schema, error: &rusqlite::Error) -> OpenError {
    let path = path.to_path_buf();
    let detail = error.to_string();
    match error.sqlite_error_code() {
        Some(ErrorCode::NotADatabase) => OpenError::Foreign { path, kind: schema.kind, detail },
        Some(ErrorCode::DatabaseCorrupt) => OpenError::Corrupt { path, detail },
        Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => OpenError::Busy { path },
        Some(ErrorCode::CannotOpen | ErrorCode::PermissionDenied | ErrorCode::ReadOnly) => {
            OpenError::Unusable { path, detail }
        }
        _ => OpenError::Failed { path, detail },
    }
}

fn make_directory(path: &Path) -> Result<(), OpenError> {
    let Some(directory) = path.parent().filter(|it| !it.as_os_str().is_empty()) else {
        return Ok(());
    };
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(directory)
        .map_err(|source| OpenError::Directory { path: directory.into(), source })
}

/// Makes the file with tight permissions before `SQLite` would make it with the umask's.
///
/// An existing file is never opened here: closing a descriptor of it would drop the locks that
/// other connections of this process hold on it.
fn make_file(path: &Path) -> Result<(), OpenError> {
    let unusable = |error: io::Error| OpenError::Unusable { path: path.into(), detail: error.to_string() };
    let made = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path);
    match made {
        Ok(_) => return Ok(()),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
        Err(error) => return Err(unusable(error)),
    }
    let found = fs::metadata(path).map_err(unusable)?;
    if !found.is_file() {
        return Err(OpenError::Unusable { path: path.into(), detail: "it is not a regular file".into() });
    }
    if found.permissions().mode() & 0o077 != 0
        && let Err(error) = fs::set_permissions(path, Permissions::from_mode(0o600))
    {
        tracing::warn!(path = %path.display(), %error, "others on this machine may read the database");
    }
    Ok(())
}

fn connect(path: &Path, schema: &Schema) -> Result<Connection, OpenError> {
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(path, flags).map_err(|error| classify(path, schema, &error))?;
    connection.busy_timeout(BUSY_TIMEOUT).map_err(|error| classify(path, schema, &error))?;
    connection.set_prepared_statement_cache_capacity(STATEMENTS_KEPT);
    Ok(connection)
}

fn switch_to_wal(connection: &Connection, path: &Path, schema: &Schema) -> Result<(), OpenError> {
    let give_up = Instant::now() + BUSY_TIMEOUT;
    loop {
        let mode: Result<String, _> = connection.query_row("PRAGMA journal_mode = WAL", [], |row| row.get(0));
        match mode {
            Ok(mode) if mode.eq_ignore_ascii_case("wal") => return Ok(()),
            Ok(mode) => {
                return Err(OpenError::Failed {
                    path: path.into(),
                    detail: format!(
                        "no write-ahead log possible there (journal mode stays {mode}); use a local disk, not a network share"
                    ),
                });
            }
            Err(error) if error.sqlite_error_code() == Some(ErrorCode::DatabaseBusy) && Instant::now() < give_up => {
                std::thread::sleep(WAL_RETRY_PAUSE);
            }
            Err(error) => return Err(classify(path, schema, &error)),
        }
    }
}

fn check_pages(connection: &Connection, path: &Path, schema: &Schema) -> Result<(), OpenError> {
    if fs::metadata(path).map_or(0, |it| it.len()) > CHECKED_AT_OPEN_BYTES_MAX {
        return Ok(());
    }
    let verdict: String = connection
        .query_row("PRAGMA quick_check(1)", [], |row| row.get(0))
        .map_err(|error| classify(path, schema, &error))?;
    if verdict == "ok" {
        return Ok(());
    }
    Err(OpenError::Corrupt { path: path.into(), detail: verdict.replace('\n', " ") })
}
