//! The storage traits over plain collections: for tests, and for trying things out. Nothing survives the process.

mod history;
mod store;

pub use history::MemoryHistory;
pub use store::MemoryStore;
