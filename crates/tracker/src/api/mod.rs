//! The HTTP API, one file per subject. What clients send is parsed here; what it means is decided further in.

pub(crate) mod channels;
pub(crate) mod entry;
pub(crate) mod events;
pub(crate) mod messages;
pub(crate) mod operations;
pub(crate) mod people;
pub(crate) mod relay;

use crate::trouble::Trouble;
use weaprous::prelude::*;

/// What every handler gives.
pub(crate) type Answer<T> = Result<T, Trouble>;

/// A channel's name from a query or a body. In a query a `+` that was not escaped arrives as a space, which no name
/// has.
fn channel_name(text: &str) -> Answer<chat::ChannelName> {
    let text = text.replace(' ', "+");
    text.parse().map_err(|error| Problem::unprocessable(format!("channel: {error}")).into())
}
