//! Applications behind real sockets.
#![allow(clippy::unwrap_used)]

/// The example itself, so that what it shows is what is tested.
#[allow(dead_code)]
#[path = "../../examples/axum_app.rs"]
mod axum_app;
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
mod signals;
mod signatures;
mod spans;
mod support;
mod testing;
mod tls;
mod uploads;
mod websockets;
