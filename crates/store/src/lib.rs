//! Memory and SQLite behind the storage traits of the chat crate.
