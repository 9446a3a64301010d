//! `SQLite` behind the storage traits: WAL, `synchronous = FULL`, one writer with group commit.
//!
//! Several processes may have one file open at once: every write decides under the file's write lock, from what lies in
//! the file. Only leases and [`chat::Watch`] are of one process.

mod database;
mod entries;
mod history;
mod log;
mod open;
mod register;
mod schema;
mod store;
mod value;

pub use history::SqliteHistory;
pub use open::OpenError;
pub use store::SqliteStore;
