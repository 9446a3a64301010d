//! One file, one writing thread, a few reading threads. Workers never touch the disk: they hand a
//! closure over and await its answer.
//!
//! ```text
//! write ──► queue ──► writer: BEGIN IMMEDIATE, every closure waiting, COMMIT (one fsync) ──► answers
//! read  ──► queue ──► reader: one closure on its own connection ──────────────────────────► answer
//! ```
//!
//! Whoever stops waiting for a write does not stop the write.

use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;

use chat::StoreError;
use rusqlite::{Connection, ErrorCode};
use tokio::sync::{mpsc, oneshot};

use super::open::{self, OpenError};
use super::schema::Schema;

/// Writes waiting for the writer; the next one waits for room. A few commits' worth.
const WRITES_QUEUED_MAX: usize = 1024;
/// Writes in one transaction: enough to spread an fsync thin, few enough to answer in milliseconds.
const WRITES_PER_COMMIT_MAX: usize = 512;
/// Reads waiting for a reader; the next one waits for room.
const READS_QUEUED_MAX: usize = 256;
/// Reading threads, each with a connection: one long catch-up does not hold up the short reads.
const READERS: usize = 2;

/// Sorts a database error by what a caller can do about it.
fn store_error(error: &rusqlite::Error) -> StoreError {
    match error.sqlite_error_code() {
        Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => StoreError::Busy,
        // without a code it is a row that is not what this program writes
        Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase) | None => StoreError::Damaged(error.to_string()),
        Some(_) => StoreError::Failed(error.to_string()),
    }
}

/// An open file with its threads. Dropping it finishes what is queued, then closes the file.
pub(crate) struct Database {
    writes: Option<mpsc::Sender<Box<dyn Write>>>,
    reads: Option<mpsc::Sender<Read>>,
    writer: Option<JoinHandle<()>>,
    readers: Vec<JoinHandle<()>>,
}

impl Database {
    /// Opens the file, and hands its fresh writing connection to `first` before anybody else.
    pub(crate) fn open<T>(
        path: &Path,
        schema: &'static Schema,
        first: impl FnOnce(&Connection) -> rusqlite::Result<T>,
    ) -> Result<(Self, T), OpenError> {
        let classify = |error| open::classify(path, schema, &error);
        let no_thread = |error: std::io::Error| OpenError::Failed {
            path: path.into(),
            detail: format!("no thread for it: {error}"),
        };
        let connection = open::writer(path, schema)?;
        let first = first(&connection).map_err(classify)?;

        let (writes, queue) = mpsc::channel(WRITES_QUEUED_MAX);
        let thread = std::thread::Builder::new().name(format!("{}-writer", schema.kind));
        let committer = thread.spawn(move || write_all(connection, queue)).map_err(no_thread)?;
        let (reads, queue) = mpsc::channel(READS_QUEUED_MAX);
        let mut database = Self {
            writes: Some(writes),
            reads: Some(reads),
            writer: Some(committer),
            readers: Vec::with_capacity(READERS),
        };
        let queue = Arc::new(Mutex::new(queue));
        for _ in 0..READERS {
            let connection = open::reader(path, schema)?;
            let queue = Arc::clone(&queue);
            let thread = std::thread::Builder::new().name(format!("{}-reader", schema.kind));
            database.readers.push(thread.spawn(move || read_all(&connection, &queue)).map_err(no_thread)?);
        }
        Ok((database, first))
    }

    /// Applies a change; resolves when it is on disk, or when nothing of it is.
    ///
    /// `committed` runs on the writing thread right after the commit, also when nobody waits for
    /// the answer any more.
    pub(crate) async fn write<T: Send + 'static>(
        &self,
        apply: impl FnOnce(&Connection) -> rusqlite::Result<T> + Send + 'static,
        committed: impl FnOnce(&T) + Send + 'static,
    ) -> Result<T, StoreError> {
        let (answer, answered) = oneshot::channel();
        let change = Change { apply: Some(apply), outcome: None, committed, answer };
        let writes = self.writes.as_ref().ok_or(StoreError::Closed)?;
        let sent = writes.send(Box::new(change)).await;
        sent.map_err(|_| StoreError::Closed)?;
        answered.await.map_err(|_| StoreError::Closed)?
    }

    /// Reads from one consistent state that holds every write resolved before the call.
    pub(crate) async fn read<T: Send + 'static>(
        &self,
        query: impl FnOnce(&Connection) -> rusqlite::Result<T> + Send + 'static,
    ) -> Result<T, StoreError> {
        let (answer, answered) = oneshot::channel();
        let job: Read = Box::new(move |connection| {
            let _ = answer.send(in_snapshot(connection, query).map_err(|error| store_error(&error)));
        });
        let reads = self.reads.as_ref().ok_or(StoreError::Closed)?;
        reads.send(job).await.map_err(|_| StoreError::Closed)?;
        answered.await.map_err(|_| StoreError::Closed)?
    }
}

impl Drop for Database {
    fn drop(&mut self) {
        self.reads = None;
        join(self.readers.drain(..));
        // Last, because the connection that closes last moves the write-ahead log into the file.
        self.writes = None;
        join(self.writer.take());
    }
}

fn join(threads: impl IntoIterator<Item = JoinHandle<()>>) {
    for thread in threads {
        if thread.join().is_err() {
            tracing::error!("a thread of the database panicked");
        }
    }
}

type Read = Box<dyn FnOnce(&Connection) + Send>;

/// A change in the writer's queue.
trait Write: Send {
    fn apply(&mut self, connection: &Connection) -> rusqlite::Result<()>;
    fn answer(self: Box<Self>, commit: Result<(), StoreError>);
}

struct Change<F, T, C> {
    apply: Option<F>,
    outcome: Option<T>,
    committed: C,
    answer: oneshot::Sender<Result<T, StoreError>>,
}

impl<F, T, C> Write for Change<F, T, C>
where
    F: FnOnce(&Connection) -> rusqlite::Result<T> + Send,
    T: Send,
    C: FnOnce(&T) + Send,
{
    fn apply(&mut self, connection: &Connection) -> rusqlite::Result<()> {
        if let Some(apply) = self.apply.take() {
            self.outcome = Some(apply(connection)?);
        }
        Ok(())
    }

    fn answer(self: Box<Self>, commit: Result<(), StoreError>) {
        let Self { outcome, committed, answer, .. } = *self;
        let outcome = commit.and_then(|()| outcome.ok_or(StoreError::Closed));
        if let Ok(outcome) = &outcome {
            committed(outcome);
        }
        let _ = answer.send(outcome);
    }
}

fn write_all(connection: Connection, mut queue: mpsc::Receiver<Box<dyn Write>>) {
    let mut group = Vec::new();
    while let Some(first) = queue.blocking_recv() {
        group.push(first);
        let commit = commit_group(&connection, &mut queue, &mut group);
        if let Err(failure) = &commit {
            tracing::error!(?failure, writes = group.len(), "nothing of a commit was stored");
        }
        for change in group.drain(..) {
            change.answer(commit.clone());
        }
    }
    // Closing the last connection moves the write-ahead log into the file.
    if let Err((_, error)) = connection.close() {
        tracing::warn!(%error, "the database was not closed cleanly");
    }
}

/// One transaction over everything that waits; all of it or nothing.
fn commit_group(
    connection: &Connection,
    queue: &mut mpsc::Receiver<Box<dyn Write>>,
    group: &mut Vec<Box<dyn Write>>,
) -> Result<(), StoreError> {
    let run = |statement: &str| connection.prepare_cached(statement)?.execute([]).map(drop);
    run("BEGIN IMMEDIATE").map_err(|error| store_error(&error))?;
    let mut applied = 0;
    let mut apply_waiting = || -> rusqlite::Result<()> {
        loop {
            while applied < group.len() {
                group[applied].apply(connection)?;
                applied += 1;
            }
            if group.len() == WRITES_PER_COMMIT_MAX {
                return Ok(());
            }
            match queue.try_recv() {
                Ok(next) => group.push(next),
                Err(_) => return Ok(()),
            }
        }
    };
    let done = apply_waiting().and_then(|()| run("COMMIT"));
    if done.is_err() && !connection.is_autocommit() {
        // A failing rollback leaves the transaction open; the next BEGIN then fails and says so.
        if let Err(error) = run("ROLLBACK") {
            tracing::error!(%error, "a failed commit could not be rolled back");
        }
    }
    done.map_err(|error| store_error(&error))
}

fn read_all(connection: &Connection, queue: &Mutex<mpsc::Receiver<Read>>) {
    loop {
        // One reader waits in the queue, the others for its turn.
        let next = queue.lock().unwrap_or_else(PoisonError::into_inner).blocking_recv();
        let Some(read) = next else { return };
        read(connection);
    }
}

fn in_snapshot<T>(
    connection: &Connection,
    query: impl FnOnce(&Connection) -> rusqlite::Result<T>,
) -> rusqlite::Result<T> {
    let run = |statement: &str| connection.prepare_cached(statement)?.execute([]).map(drop);
    run("BEGIN")?;
    let found = query(connection);
    run("COMMIT")?;
    found
}
