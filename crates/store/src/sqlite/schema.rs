//! The tables of each kind of file, and how an older file becomes a current one. A migration, once
//! released, never changes: a new step is appended.

use std::path::Path;

use rusqlite::{Connection, TransactionBehavior};

use super::open::{OpenError, classify};

/// One kind of database file.
pub(crate) struct Schema {
    /// What a person calls it.
    pub(crate) kind: &'static str,
    /// `PRAGMA application_id`: four letters that say whose file this is.
    pub(crate) application_id: i64,
    /// Step `i` takes a file from version `i` to `i + 1`.
    pub(crate) migrations: &'static [&'static str],
}

impl Schema {
    /// The version that this program reads and writes.
    fn newest(&self) -> i64 {
        i64::try_from(self.migrations.len()).expect("a handful of migrations")
    }
}

/// The tracker's and backend's file.
pub(crate) const STORE: Schema = Schema {
    kind: "store",
    application_id: i64::from_be_bytes(*b"\0\0\0\0WpSt"),
    migrations: &["
        CREATE TABLE channel (
            id INTEGER PRIMARY KEY,
            name TEXT NOT NULL UNIQUE,
            last_seq INTEGER NOT NULL
        );
        CREATE TABLE envelope (
            position INTEGER PRIMARY KEY,
            channel INTEGER NOT NULL REFERENCES channel (id),
            seq INTEGER NOT NULL,
            device BLOB NOT NULL,
            n INTEGER NOT NULL,
            id BLOB NOT NULL,
            bytes BLOB NOT NULL,
            signature BLOB NOT NULL
        );
        CREATE UNIQUE INDEX envelope_by_seq ON envelope (channel, seq);
        CREATE UNIQUE INDEX envelope_by_chain ON envelope (channel, device, n);
        CREATE TABLE head (
            channel INTEGER NOT NULL,
            device BLOB NOT NULL,
            n INTEGER NOT NULL,
            id BLOB NOT NULL,
            lamport INTEGER NOT NULL,
            PRIMARY KEY (channel, device)
        ) WITHOUT ROWID;
        CREATE TABLE register (
            key TEXT PRIMARY KEY,
            value BLOB NOT NULL,
            version INTEGER NOT NULL
        ) WITHOUT ROWID;
    "],
};

/// A peer's file.
pub(crate) const HISTORY: Schema = Schema {
    kind: "history",
    application_id: i64::from_be_bytes(*b"\0\0\0\0WpHi"),
    migrations: &[
        "
        CREATE TABLE channel (
            id INTEGER PRIMARY KEY,
            name TEXT NOT NULL UNIQUE,
            cursor INTEGER NOT NULL
        );
        CREATE TABLE entry (
            arrival INTEGER PRIMARY KEY,
            channel INTEGER NOT NULL REFERENCES channel (id),
            seq INTEGER,
            lamport INTEGER NOT NULL,
            id BLOB NOT NULL UNIQUE,
            device BLOB NOT NULL,
            n INTEGER NOT NULL,
            bytes BLOB NOT NULL,
            signature BLOB NOT NULL,
            path TEXT NOT NULL,
            received_at_ms INTEGER NOT NULL
        );
        CREATE UNIQUE INDEX entry_by_chain ON entry (channel, device, n);
        CREATE INDEX entry_by_seq ON entry (channel, seq, id) WHERE seq IS NOT NULL;
        CREATE INDEX entry_unsequenced ON entry (channel, lamport, id) WHERE seq IS NULL;
        CREATE TABLE head (
            channel INTEGER NOT NULL,
            device BLOB NOT NULL,
            n INTEGER NOT NULL,
            id BLOB NOT NULL,
            lamport INTEGER NOT NULL,
            PRIMARY KEY (channel, device)
        ) WITHOUT ROWID;
        CREATE TABLE mark (
            channel TEXT NOT NULL,
            device BLOB NOT NULL,
            holder BLOB NOT NULL,
            n INTEGER NOT NULL,
            PRIMARY KEY (channel, device, holder)
        ) WITHOUT ROWID;
        CREATE TABLE register (
            key TEXT PRIMARY KEY,
            value BLOB NOT NULL,
            version INTEGER NOT NULL
        ) WITHOUT ROWID;
    ",
        "
        CREATE TABLE passed (
            channel INTEGER NOT NULL REFERENCES channel (id),
            seq INTEGER NOT NULL,
            PRIMARY KEY (channel, seq)
        ) WITHOUT ROWID;
    ",
    ],
};

/// Refuses a file that is not of this kind: another program's, or one of ours with another job.
pub(crate) fn check_owner(connection: &Connection, path: &Path, schema: &Schema) -> Result<(), OpenError> {
    let classify = |error| classify(path, schema, &error);
    let foreign = |detail: String| OpenError::Foreign { path: path.into(), kind: schema.kind, detail };
    // One snapshot: another process may be making the tables right now.
    let snapshot = connection.unchecked_transaction().map_err(classify)?;
    let owner: i64 = pragma(&snapshot, "application_id").map_err(classify)?;
    if owner == schema.application_id {
        let found = pragma(&snapshot, "user_version").map_err(classify)?;
        let known = schema.newest();
        if found > known {
            return Err(OpenError::Newer { path: path.into(), found, known });
        }
        return Ok(());
    }
    if let Some(ours) = [STORE, HISTORY].iter().find(|it| it.application_id == owner) {
        return Err(foreign(format!("it is a {}", ours.kind)));
    }
    let tables: i64 =
        snapshot.query_row("SELECT count(*) FROM sqlite_schema", [], |row| row.get(0)).map_err(classify)?;
    if owner != 0 || tables != 0 {
        return Err(foreign("another program's database".into()));
    }
    Ok(())
}

/// Brings the file to the newest version, all steps in one transaction.
pub(crate) fn migrate(connection: &mut Connection, path: &Path, schema: &Schema) -> Result<(), OpenError> {
    let classify = |error| classify(path, schema, &error);
    let known = schema.newest();
    if pragma(connection, "user_version").map_err(classify)? == known {
        return Ok(());
    }
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate).map_err(classify)?;
    // Read again under the write lock: another process may have migrated it meanwhile.
    let found = pragma(&transaction, "user_version").map_err(classify)?;
    for step in schema.migrations.iter().skip(found as usize) {
        transaction.execute_batch(step).map_err(classify)?;
    }
    transaction
        .pragma_update(None, "application_id", schema.application_id)
        .and_then(|()| transaction.pragma_update(None, "user_version", known))
        .and_then(|()| transaction.commit())
        .map_err(classify)
}

fn pragma(connection: &Connection, name: &str) -> rusqlite::Result<i64> {
    connection.pragma_query_value(None, name, |row| row.get(0))
}
