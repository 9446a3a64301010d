//! The backend behind real sockets, on a store in memory.
#![allow(clippy::unwrap_used)]

mod entrance;
mod pages;
mod support;
