//! The stores from outside: one contract for all of them, opening, sharing a file, and being killed.
#![allow(clippy::unwrap_used)]

mod crash;
mod fixture;
mod history_contract;
mod model;
mod opening;
mod sharing;
mod store_contract;
