//! The rows of the tracker's logs. Every function runs inside a transaction of its caller.

use chat::{AppendError, Appended, ChannelName, DeviceId, EnvelopeId, Head, Logged, Sealed, check_chain};
use rusqlite::{Connection, OptionalExtension, Row, params};

use super::value;

/// Appends in order; refused entries leave no trace.
pub(super) fn append(
    connection: &Connection,
    entries: &[Sealed],
) -> rusqlite::Result<Vec<Result<Appended, AppendError>>> {
    entries.iter().map(|sealed| append_one(connection, sealed)).collect()
}

fn append_one(connection: &Connection, sealed: &Sealed) -> rusqlite::Result<Result<Appended, AppendError>> {
    let envelope = sealed.envelope();
    let channel = channel(connection, &envelope.channel)?;
    let head = match channel {
        Some((channel, _)) => head(connection, channel, &envelope.device)?,
        None => None,
    };
    if let Some((channel, _)) = channel
        && head.as_ref().is_some_and(|head| envelope.n <= head.n)
        && let Some(known) = known(connection, channel, sealed)?
    {
        return Ok(Ok(known));
    }
    if let Err(refused) = check_chain(head.as_ref(), envelope) {
        return Ok(Err(refused));
    }
    let (channel, last_seq) = match channel {
        Some(found) => found,
        None => (make_channel(connection, &envelope.channel)?, 0),
    };
    let seq = last_seq + 1;
    let position = insert(connection, channel, seq, sealed)?;
    put_head(connection, channel, &Head::of(envelope, sealed.id()))?;
    connection.prepare_cached("UPDATE channel SET last_seq = ?2 WHERE id = ?1")?.execute([channel, value::int(seq)])?;
    Ok(Ok(Appended { seq, position, known: false }))
}

fn insert(connection: &Connection, channel: i64, seq: u64, sealed: &Sealed) -> rusqlite::Result<u64> {
    let envelope = sealed.envelope();
    connection
        .prepare_cached(
            "INSERT INTO envelope (channel, seq, device, n, id, bytes, signature) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
        )?
        .execute(params![
            channel,
            value::int(seq),
            envelope.device.as_bytes(),
            value::int(envelope.n),
            sealed.id().as_bytes(),
            sealed.bytes(),
            sealed.signature().as_bytes(),
        ])?;
    // Rows are never deleted, so the row id that SQLite gives is one above the highest there ever was.
    Ok(connection.last_insert_rowid() as u64)
}

fn known(connection: &Connection, channel: i64, sealed: &Sealed) -> rusqlite::Result<Option<Appended>> {
    let envelope = sealed.envelope();
    connection
        .prepare_cached("SELECT seq, position, id FROM envelope WHERE channel = ?1 AND device = ?2 AND n = ?3")?
        .query_row(params![channel, envelope.device.as_bytes(), value::int(envelope.n)], |row| {
            let appended = Appended { seq: value::number(row, 0)?, position: value::number(row, 1)?, known: true };
            Ok((value::envelope_id(row, 2)? == sealed.id()).then_some(appended))
        })
        .optional()
        .map(Option::flatten)
}

fn channel(connection: &Connection, name: &ChannelName) -> rusqlite::Result<Option<(i64, u64)>> {
    connection
        .prepare_cached("SELECT id, last_seq FROM channel WHERE name = ?1")?
        .query_row([name.as_str()], |row| Ok((row.get(0)?, value::number(row, 1)?)))
        .optional()
}

fn make_channel(connection: &Connection, name: &ChannelName) -> rusqlite::Result<i64> {
    connection.prepare_cached("INSERT INTO channel (name, last_seq) VALUES (?1, 0)")?.execute([name.as_str()])?;
    Ok(connection.last_insert_rowid())
}

/// The newest envelope of a device in a channel; the table is the same in the tracker's and the peer's file.
pub(super) fn head(connection: &Connection, channel: i64, device: &DeviceId) -> rusqlite::Result<Option<Head>> {
    connection
        .prepare_cached("SELECT device, n, id, lamport FROM head WHERE channel = ?1 AND device = ?2")?
        .query_row(params![channel, device.as_bytes()], |row| head_at(row, 0))
        .optional()
}

pub(super) fn put_head(connection: &Connection, channel: i64, head: &Head) -> rusqlite::Result<()> {
    connection
        .prepare_cached("INSERT OR REPLACE INTO head (channel, device, n, id, lamport) VALUES (?1, ?2, ?3, ?4, ?5)")?
        .execute(params![
            channel,
            head.device.as_bytes(),
            value::int(head.n),
            head.id.as_bytes(),
            value::int(head.lamport),
        ])
        .map(drop)
}

/// A head from four neighbouring columns: device, n, id, lamport.
pub(super) fn head_at(row: &Row<'_>, column: usize) -> rusqlite::Result<Head> {
    let id: EnvelopeId = value::envelope_id(row, column + 2)?;
    Ok(Head {
        device: value::device(row, column)?,
        n: value::number(row, column + 1)?,
        id,
        lamport: value::number(row, column + 3)?,
    })
}

pub(super) fn read(
    connection: &Connection,
    channel: &ChannelName,
    after_seq: u64,
    limit: usize,
) -> rusqlite::Result<Vec<Logged>> {
    connection
        .prepare_cached(
            "SELECT seq, position, bytes, signature FROM envelope
             WHERE channel = (SELECT id FROM channel WHERE name = ?1) AND seq > ?2 ORDER BY seq LIMIT ?3",
        )?
        .query_map(params![channel.as_str(), value::int(after_seq), value::limit(limit)], logged)?
        .collect()
}

pub(super) fn read_before(
    connection: &Connection,
    channel: &ChannelName,
    before_seq: u64,
    limit: usize,
) -> rusqlite::Result<Vec<Logged>> {
    let mut found: Vec<Logged> = connection
        .prepare_cached(
            "SELECT seq, position, bytes, signature FROM envelope
             WHERE channel = (SELECT id FROM channel WHERE name = ?1) AND seq < ?2 ORDER BY seq DESC LIMIT ?3",
        )?
        .query_map(params![channel.as_str(), value::int(before_seq), value::limit(limit)], logged)?
        .collect::<rusqlite::Result<_>>()?;
    found.reverse();
    Ok(found)
}

pub(super) fn read_all(connection: &Connection, after_position: u64, limit: usize) -> rusqlite::Result<Vec<Logged>> {
    connection
        .prepare_cached(
            "SELECT seq, position, bytes, signature FROM envelope WHERE position > ?1 ORDER BY position LIMIT ?2",
        )?
        .query_map([value::int(after_position), value::limit(limit)], logged)?
        .collect()
}

fn logged(row: &Row<'_>) -> rusqlite::Result<Logged> {
    Ok(Logged { seq: value::number(row, 0)?, position: value::number(row, 1)?, sealed: value::sealed(row, 2)? })
}

pub(super) fn chain(
    connection: &Connection,
    channel: &ChannelName,
    device: &DeviceId,
    from_n: u64,
    limit: usize,
) -> rusqlite::Result<Vec<Sealed>> {
    connection
        .prepare_cached(
            "SELECT bytes, signature FROM envelope
             WHERE channel = (SELECT id FROM channel WHERE name = ?1) AND device = ?2 AND n >= ?3 ORDER BY n LIMIT ?4",
        )?
        .query_map(params![channel.as_str(), device.as_bytes(), value::int(from_n), value::limit(limit)], |row| {
            value::sealed(row, 0)
        })?
        .collect()
}

pub(super) fn heads(connection: &Connection, channel: &ChannelName) -> rusqlite::Result<Vec<Head>> {
    connection
        .prepare_cached(
            "SELECT device, n, id, lamport FROM head
             WHERE channel = (SELECT id FROM channel WHERE name = ?1) ORDER BY device",
        )?
        .query_map([channel.as_str()], |row| head_at(row, 0))?
        .collect()
}

pub(super) fn last(connection: &Connection, channel: &ChannelName) -> rusqlite::Result<u64> {
    connection
        .prepare_cached("SELECT last_seq FROM channel WHERE name = ?1")?
        .query_row([channel.as_str()], |row| value::number(row, 0))
        .optional()
        .map(Option::unwrap_or_default)
}

pub(super) fn last_position(connection: &Connection) -> rusqlite::Result<u64> {
    connection
        .prepare_cached("SELECT ifnull(max(position), 0) FROM envelope")?
        .query_row([], |row| value::number(row, 0))
}

pub(super) fn channels(connection: &Connection) -> rusqlite::Result<Vec<(ChannelName, u64)>> {
    connection
        .prepare_cached("SELECT name, last_seq FROM channel ORDER BY name")?
        .query_map([], |row| Ok((value::channel_name(row, 0)?, value::number(row, 1)?)))?
        .collect()
}
