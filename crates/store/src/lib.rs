//! Memory and `SQLite` behind the storage traits of the chat crate.
//!
//! What is written is on disk (fsynced) before its future resolves. Nothing here knows an application: envelopes come
//! in verified, register keys are text, values are bytes. Workers never block: the disk has threads of its own.

mod leases;
mod memory;
mod register;
mod sqlite;
mod watch;

pub use memory::{MemoryHistory, MemoryStore};
pub use sqlite::{OpenError, SqliteHistory, SqliteStore};
