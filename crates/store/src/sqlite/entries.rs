//! The rows of a peer's history. Every function runs inside a transaction of its caller.

use chat::{
    AppendError, Arrival, ChannelName, DeviceId, Entry, Envelope, EnvelopeId, Head, Inserted, OrderKey, Path, Sealed,
    check_chain,
};
use rusqlite::types::Type;
use rusqlite::{Connection, OptionalExtension, Row, params};

use super::{log, value};

/// Inserts in order; refused arrivals leave no trace.
pub(super) fn insert(
    connection: &Connection,
    arrivals: &[Arrival],
) -> rusqlite::Result<Vec<Result<Inserted, AppendError>>> {
    arrivals.iter().map(|arrival| insert_one(connection, arrival)).collect()
}

fn insert_one(connection: &Connection, arrival: &Arrival) -> rusqlite::Result<Result<Inserted, AppendError>> {
    let sealed = &arrival.sealed;
    let envelope = sealed.envelope();
    if is_held(connection, &sealed.id())? {
        return Ok(Ok(Inserted::Known));
    }
    let channel = channel(connection, &envelope.channel)?;
    let head = match channel {
        Some(channel) => log::head(connection, channel, &envelope.device)?,
        None => None,
    };
    if let Err(refused) = check_chain(head.as_ref(), envelope) {
        return Ok(Err(refused));
    }
    let channel = match channel {
        Some(found) => found,
        None => make_channel(connection, &envelope.channel)?,
    };
    connection
        .prepare_cached(
            "INSERT INTO entry (channel, lamport, id, device, n, bytes, signature, path, received_at_ms)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)",
        )?
        .execute(params![
            channel,
            value::int(envelope.lamport),
            sealed.id().as_bytes(),
            envelope.device.as_bytes(),
            value::int(envelope.n),
            sealed.bytes(),
            sealed.signature().as_bytes(),
            arrival.path.as_str(),
            value::int(arrival.received_at_ms),
        ])?;
    log::put_head(connection, channel, &Head::of(envelope, sealed.id()))?;
    Ok(Ok(Inserted::New))
}

/// Notes numbers for what is held and has none, and moves the cursor over what has become contiguous.
pub(super) fn sequence(
    connection: &Connection,
    name: &ChannelName,
    numbers: &[(EnvelopeId, u64)],
) -> rusqlite::Result<()> {
    let Some(channel) = channel(connection, name)? else { return Ok(()) };
    let mut number =
        connection.prepare_cached("UPDATE entry SET seq = ?3 WHERE id = ?1 AND channel = ?2 AND seq IS NULL")?;
    for (id, seq) in numbers {
        number.execute(params![id.as_bytes(), channel, value::int(*seq)])?;
    }
    move_cursor(connection, name, channel)
}

/// Notes numbers that are seen and not held, and moves the cursor over what has become contiguous.
pub(super) fn pass_over(connection: &Connection, name: &ChannelName, seqs: &[u64]) -> rusqlite::Result<()> {
    let channel = match channel(connection, name)? {
        Some(found) => found,
        None => make_channel(connection, name)?,
    };
    let before = cursor(connection, name)?;
    let mut pass = connection.prepare_cached("INSERT OR IGNORE INTO passed (channel, seq) VALUES (?1, ?2)")?;
    for seq in seqs.iter().filter(|seq| **seq > before) {
        pass.execute([channel, value::int(*seq)])?;
    }
    move_cursor(connection, name, channel)
}

/// Moves the cursor to the first hole. The numbers that it has crossed need no rows in `passed` any more.
fn move_cursor(connection: &Connection, name: &ChannelName, channel: i64) -> rusqlite::Result<()> {
    let mut seen = connection.prepare_cached(
        "SELECT 1 FROM entry WHERE channel = ?1 AND seq = ?2
         UNION ALL SELECT 1 FROM passed WHERE channel = ?1 AND seq = ?2",
    )?;
    let before = cursor(connection, name)?;
    let mut cursor = before;
    while seen.exists(params![channel, value::int(cursor + 1)])? {
        cursor += 1;
    }
    if cursor > before {
        connection
            .prepare_cached("UPDATE channel SET cursor = ?2 WHERE id = ?1")?
            .execute([channel, value::int(cursor)])?;
        connection
            .prepare_cached("DELETE FROM passed WHERE channel = ?1 AND seq <= ?2")?
            .execute([channel, value::int(cursor)])?;
    }
    Ok(())
}

pub(super) fn cursor(connection: &Connection, name: &ChannelName) -> rusqlite::Result<u64> {
    connection
        .prepare_cached("SELECT cursor FROM channel WHERE name = ?1")?
        .query_row([name.as_str()], |row| value::number(row, 0))
        .optional()
        .map(Option::unwrap_or_default)
}

/// Moves a holder's mark forward, never back. What it marks need not be held here yet.
pub(super) fn acknowledge(
    connection: &Connection,
    name: &ChannelName,
    device: &DeviceId,
    n: u64,
    holder: &DeviceId,
) -> rusqlite::Result<()> {
    connection
        .prepare_cached(
            "INSERT INTO mark (channel, device, holder, n) VALUES (?1, ?2, ?3, ?4)
             ON CONFLICT (channel, device, holder) DO UPDATE SET n = max(n, excluded.n)",
        )?
        .execute(params![name.as_str(), device.as_bytes(), holder.as_bytes(), value::int(n)])
        .map(drop)
}

/// The newest entries before `before`, ascending: what the log has not numbered stands after what it has.
pub(super) fn timeline(
    connection: &Connection,
    name: &ChannelName,
    before: Option<OrderKey>,
    limit: usize,
) -> rusqlite::Result<Vec<Entry>> {
    let Some(channel) = channel(connection, name)? else { return Ok(Vec::new()) };
    let mut found = match before {
        Some(OrderKey::Logged(_)) => Vec::new(),
        Some(OrderKey::Pending { lamport, id }) => pending_before(connection, channel, Some((lamport, id)), limit)?,
        None => pending_before(connection, channel, None, limit)?,
    };
    let before_seq = before.and_then(|key| key.seq()).unwrap_or(u64::MAX);
    found.extend(logged_before(connection, channel, before_seq, limit - found.len())?);
    found.reverse();
    for entry in &mut found {
        entry.holders = holders(connection, entry.sealed.envelope())?;
    }
    Ok(found)
}

fn pending_before(
    connection: &Connection,
    channel: i64,
    before: Option<(u64, EnvelopeId)>,
    limit: usize,
) -> rusqlite::Result<Vec<Entry>> {
    let (lamport, id) = before.map_or((i64::MAX, [255; 32]), |(lamport, id)| (value::int(lamport), id.0));
    connection
        .prepare_cached(
            "SELECT seq, path, received_at_ms, bytes, signature FROM entry
             WHERE channel = ?1 AND seq IS NULL AND (lamport, id) < (?2, ?3) ORDER BY lamport DESC, id DESC LIMIT ?4",
        )?
        .query_map(params![channel, lamport, id, value::limit(limit)], entry)?
        .collect()
}

fn logged_before(connection: &Connection, channel: i64, before_seq: u64, limit: usize) -> rusqlite::Result<Vec<Entry>> {
    connection
        .prepare_cached(
            "SELECT seq, path, received_at_ms, bytes, signature FROM entry
             WHERE channel = ?1 AND seq IS NOT NULL AND seq < ?2 ORDER BY seq DESC, id DESC LIMIT ?3",
        )?
        .query_map(params![channel, value::int(before_seq), value::limit(limit)], entry)?
        .collect()
}

fn entry(row: &Row<'_>) -> rusqlite::Result<Entry> {
    Ok(Entry {
        sealed: value::sealed(row, 3)?,
        seq: value::optional_number(row, 0)?,
        path: path(row, 1)?,
        received_at_ms: value::number(row, 2)?,
        holders: Vec::new(),
    })
}

fn path(row: &Row<'_>, column: usize) -> rusqlite::Result<Path> {
    let text = row.get_ref(column)?.as_str()?;
    let paths = [Path::Direct, Path::Relayed, Path::Tracker, Path::Own];
    paths.into_iter().find(|path| path.as_str() == text).ok_or_else(|| {
        let unknown = std::io::Error::new(std::io::ErrorKind::InvalidData, "unknown path");
        value::unreadable(column, Type::Text, unknown)
    })
}

fn holders(connection: &Connection, envelope: &Envelope) -> rusqlite::Result<Vec<DeviceId>> {
    let (channel, device) = (envelope.channel.as_str(), envelope.device.as_bytes());
    connection
        .prepare_cached("SELECT holder FROM mark WHERE channel = ?1 AND device = ?2 AND n >= ?3 ORDER BY holder")?
        .query_map(params![channel, device, value::int(envelope.n)], |row| value::device(row, 0))?
        .collect()
}

pub(super) fn chain(
    connection: &Connection,
    name: &ChannelName,
    device: &DeviceId,
    from_n: u64,
    limit: usize,
) -> rusqlite::Result<Vec<Sealed>> {
    connection
        .prepare_cached(
            "SELECT bytes, signature FROM entry
             WHERE channel = (SELECT id FROM channel WHERE name = ?1) AND device = ?2 AND n >= ?3 ORDER BY n LIMIT ?4",
        )?
        .query_map(params![name.as_str(), device.as_bytes(), value::int(from_n), value::limit(limit)], |row| {
            value::sealed(row, 0)
        })?
        .collect()
}

pub(super) fn heads(connection: &Connection) -> rusqlite::Result<Vec<(ChannelName, Head)>> {
    connection
        .prepare_cached(
            "SELECT name, device, n, head.id, lamport FROM head JOIN channel ON channel.id = head.channel
             ORDER BY name, device",
        )?
        .query_map([], |row| Ok((value::channel_name(row, 0)?, log::head_at(row, 1)?)))?
        .collect()
}

pub(super) fn unsequenced(
    connection: &Connection,
    name: &ChannelName,
    after: Option<OrderKey>,
    limit: usize,
) -> rusqlite::Result<Vec<Sealed>> {
    let (lamport, id) = match after {
        Some(OrderKey::Pending { lamport, id }) => (value::int(lamport), id.0),
        // Everything numbered stands before everything that is not.
        Some(OrderKey::Logged(_)) | None => (0, [0; 32]),
    };
    connection
        .prepare_cached(
            "SELECT bytes, signature FROM entry
             WHERE channel = (SELECT id FROM channel WHERE name = ?1) AND seq IS NULL AND (lamport, id) > (?2, ?3)
             ORDER BY lamport, id LIMIT ?4",
        )?
        .query_map(params![name.as_str(), lamport, id, value::limit(limit)], |row| value::sealed(row, 0))?
        .collect()
}

pub(super) fn channels(connection: &Connection) -> rusqlite::Result<Vec<ChannelName>> {
    connection
        .prepare_cached(
            "SELECT name FROM channel WHERE EXISTS (SELECT 1 FROM head WHERE head.channel = channel.id) ORDER BY name",
        )?
        .query_map([], |row| value::channel_name(row, 0))?
        .collect()
}

fn channel(connection: &Connection, name: &ChannelName) -> rusqlite::Result<Option<i64>> {
    connection
        .prepare_cached("SELECT id FROM channel WHERE name = ?1")?
        .query_row([name.as_str()], |row| row.get(0))
        .optional()
}

fn make_channel(connection: &Connection, name: &ChannelName) -> rusqlite::Result<i64> {
    connection.prepare_cached("INSERT INTO channel (name, cursor) VALUES (?1, 0)")?.execute([name.as_str()])?;
    Ok(connection.last_insert_rowid())
}

fn is_held(connection: &Connection, id: &EnvelopeId) -> rusqlite::Result<bool> {
    connection.prepare_cached("SELECT 1 FROM entry WHERE id = ?1")?.exists([id.as_bytes()])
}
