//! Applications behind real sockets.
#![allow(clippy::unwrap_used)]

mod compressing;
mod events;
mod extracting;
mod files;
mod interop;
mod layers;
mod panics;
mod responding;
mod routing;
mod sessions;
mod signatures;
mod support;
mod testing;
mod uploads;
mod websockets;
