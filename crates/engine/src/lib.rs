//! HTTP over sockets and TLS: a server (HTTP/1.1, HTTP/2) with one event loop per core, and a client for both with a
//! keep-alive pool.
//!
//! Knows no application: a [`Service`] turns a [`Request`] into a [`Response`], and everything that
//! can go wrong on a socket is answered or bounded here. The wire format of HTTP/1.1 is
//! `http1`'s alone, that of HTTP/2 is the `h2` crate's behind limits of ours.
//!
//! ```no_run
//! use engine::{Request, Response, Server, Settings, StatusCode, Stop};
//! use std::time::Duration;
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let hello = |_: Request| async { Response::text(StatusCode::OK, "Hello, world!") };
//! let server = Server::new(Settings::default()).listen("127.0.0.1:0".parse()?, move || hello)?;
//! println!("listening on http://{}", server.local_addrs()[0]);
//! server.run(Stop::new(), Duration::from_secs(10))?;
//! # Ok(()) }
//! ```

mod body;
mod buffers;
mod client;
mod file;
mod h2;
mod interim;
mod interop;
mod message;
mod passing;
mod pipes;
mod proxied;
mod server;
mod service;
mod settings;
mod stream;
mod tls;
mod upgraded;
mod wire;

pub use body::{Body, BodyError, BodySender, BodyStream, Gone, Source};
pub use client::{
    Answer, Begun, Client, ClientError, ClientErrorKind, ClientSettings, Failed, Http2Error, Kept, OutgoingRequest,
    Stage,
};
pub use http1::{
    EncodeError, ErrorKind, Fields, Framing, InvalidField, Limits, Method, ParseError, ReceivedFields, RequestHead,
    ResponseHead, StatusCode, TargetForm, Trailers, Version, is_hop_by_hop, tokens, write_passed_request,
    write_passed_response,
};
pub use interim::{EarlyHints, Hinting};
pub use interop::InvalidResponse;
pub use message::{Peer, Request, Response};
pub use passing::{Pass, Passage, Resumed};
pub use pipes::{Piece, Piped};
pub use proxied::TrustedProxies;
pub use server::{BindError, Connections, RunError, Running, Server, bind, coarse_now};
pub use service::Service;
pub use settings::Settings;
pub use tls::{
    CertificateFiles, ClientAuth, ClientTls, HandshakeError, InvalidServerName, Tls, TlsError, TlsInfo, TlsSettings,
    Trust,
};
pub use upgraded::{Breaker, Upgraded};

/// Fires once, when the program is to stop: no new connections, then an end of those that are open.
pub type Stop = tokio_util::sync::CancellationToken;
