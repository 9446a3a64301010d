//! Between Rust's types and `SQLite`'s columns.

use chat::{ChannelName, DeviceId, EnvelopeId, Sealed, Signature};
use rusqlite::Row;
use rusqlite::types::Type;

/// An unsigned number as a column holds it. What the protocol allows fits (`chat::NUMBER_MAX`); what a caller passes
/// as a bound may not, and then means "beyond everything".
pub(super) fn int(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

/// A `LIMIT`.
pub(super) fn limit(limit: usize) -> i64 {
    i64::try_from(limit).unwrap_or(i64::MAX)
}

pub(super) fn number(row: &Row<'_>, column: usize) -> rusqlite::Result<u64> {
    let value: i64 = row.get(column)?;
    u64::try_from(value).map_err(|error| unreadable(column, Type::Integer, error))
}

pub(super) fn optional_number(row: &Row<'_>, column: usize) -> rusqlite::Result<Option<u64>> {
    let value: Option<i64> = row.get(column)?;
    let number = value.map(u64::try_from).transpose();
    number.map_err(|error| unreadable(column, Type::Integer, error))
}

pub(super) fn device(row: &Row<'_>, column: usize) -> rusqlite::Result<DeviceId> {
    row.get(column).map(DeviceId)
}

pub(super) fn envelope_id(row: &Row<'_>, column: usize) -> rusqlite::Result<EnvelopeId> {
    row.get(column).map(EnvelopeId)
}

pub(super) fn channel_name(row: &Row<'_>, column: usize) -> rusqlite::Result<ChannelName> {
    let name = row.get_ref(column)?.as_str()?;
    name.parse().map_err(|error| unreadable(column, Type::Text, error))
}

/// An envelope from two neighbouring columns: its bytes, its signature.
pub(super) fn sealed(row: &Row<'_>, column: usize) -> rusqlite::Result<Sealed> {
    let signature = Signature(row.get(column + 1)?);
    Sealed::from_storage(row.get(column)?, signature).map_err(|error| unreadable(column, Type::Blob, error))
}

pub(super) fn unreadable(
    column: usize,
    kind: Type,
    error: impl std::error::Error + Send + Sync + 'static,
) -> rusqlite::Error {
    rusqlite::Error::FromSqlConversionFailure(column, kind, Box::new(error))
}
