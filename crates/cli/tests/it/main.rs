//! The promises, each against the real binary: started, talked to over its sockets, killed.
#![allow(clippy::unwrap_used)]

mod bad_input;
mod behind_tls;
mod chat_direct;
mod check;
mod durability;
mod hostile;
mod limits;
mod login;
mod must_hold;
mod operation;
mod outage;
mod proxying;
mod serve;
mod support;
mod tls;
