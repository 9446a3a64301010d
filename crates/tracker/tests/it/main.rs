//! The tracker behind real sockets.
#![allow(clippy::unwrap_used)]
#![allow(clippy::needless_pass_by_value, reason = "`json!` in place reads better than a reference to it")]

mod channels;
mod events;
mod messages;
mod presence;
mod refusals;
mod registration;
mod relay;
mod support;
mod uploads;
mod whole;
