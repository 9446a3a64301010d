//! The register's rows: a value and a version per key, changed only by whoever knows the version that is there.

use chat::{Conflict, Expect, Versioned};
use rusqlite::{Connection, OptionalExtension, params};

use super::value;
use crate::register::expect_version;

pub(super) fn get(connection: &Connection, key: &str) -> rusqlite::Result<Option<Versioned>> {
    connection
        .prepare_cached("SELECT value, version FROM register WHERE key = ?1")?
        .query_row([key], |row| Ok(Versioned { value: row.get(0)?, version: value::number(row, 1)? }))
        .optional()
}

pub(super) fn put(
    connection: &Connection,
    key: &str,
    value: &[u8],
    expect: Expect,
) -> rusqlite::Result<Result<u64, Conflict>> {
    let current = version(connection, key)?;
    if let Err(conflict) = expect_version(expect, current) {
        return Ok(Err(conflict));
    }
    let next = current.unwrap_or(0) + 1;
    connection
        .prepare_cached("INSERT OR REPLACE INTO register (key, value, version) VALUES (?1, ?2, ?3)")?
        .execute(params![key, value, value::int(next)])?;
    Ok(Ok(next))
}

pub(super) fn delete(connection: &Connection, key: &str, expect: Expect) -> rusqlite::Result<Result<(), Conflict>> {
    if let Err(conflict) = expect_version(expect, version(connection, key)?) {
        return Ok(Err(conflict));
    }
    connection.prepare_cached("DELETE FROM register WHERE key = ?1")?.execute([key])?;
    Ok(Ok(()))
}

pub(super) fn list(
    connection: &Connection,
    prefix: &str,
    after: Option<&str>,
    limit: usize,
) -> rusqlite::Result<Vec<(String, Versioned)>> {
    let mut statement = connection.prepare_cached(
        "SELECT key, value, version FROM register
         WHERE key >= ?1 AND (?2 IS NULL OR key > ?2) ORDER BY key LIMIT ?3",
    )?;
    let mut rows = statement.query(params![prefix, after, value::limit(limit)])?;
    let mut found = Vec::new();
    while let Some(row) = rows.next()? {
        let key: String = row.get(0)?;
        if !key.starts_with(prefix) {
            break;
        }
        found.push((key, Versioned { value: row.get(1)?, version: value::number(row, 2)? }));
    }
    Ok(found)
}

fn version(connection: &Connection, key: &str) -> rusqlite::Result<Option<u64>> {
    connection
        .prepare_cached("SELECT version FROM register WHERE key = ?1")?
        .query_row([key], |row| value::number(row, 0))
        .optional()
}
