//! HTTP/1.1 as bytes and events, both roles, no IO (RFC 9110, RFC 9112).
//!
//! Never opens a socket, never reads a clock, never spawns. The caller appends received bytes to a
//! `BytesMut` and polls a decoder for events; to send, it asks for heads and body framing to be
//! written into a buffer. Strict by default: what the RFC lets a recipient refuse is refused, and
//! after an error nothing more is parsed.
//!
//! ```text
//!   socket → BytesMut → RequestDecoder::poll  → Head, Data…, Trailers?, End, Head, …
//!   BodyEncoder ← write_response_head ← status, Fields, Framing          (server role)
//!   socket → BytesMut → ResponseDecoder::poll → Head (1xx…), Head, Data…, Trailers?, End
//!   BodyEncoder ← write_request_head ← method, target, Fields, Framing   (client role)
//! ```
//!
//! Where things are: `lines` cuts lines, `start_line` and `target` read the first one, `section` the
//! others into `received`; `framing` decides once how a body ends, `body` and `chunked` read it,
//! `decoder` drives them all; `fields`, `encode` and `outgoing` write. `passing` has what a proxy does in one go.

mod ascii;
mod assemble;
mod body;
mod chunked;
mod connection;
mod decoder;
mod encode;
mod error;
mod fields;
mod framing;
mod head;
#[cfg(feature = "http")]
mod interop;
mod limits;
mod lines;
mod media_types;
mod method;
mod outgoing;
mod passing;
mod received;
mod recycled;
mod response_parts;
mod scan;
mod section;
mod start_line;
mod status;
mod target;
mod trailers;
mod version;

pub use assemble::RequestParts;
pub use connection::{is_hop_by_hop, tokens};
pub use decoder::{Event, RequestDecoder, ResponseDecoder, Step};
pub use encode::{
    EncodeError, RequestSpec, ResponseSpec, Written, write_continue, write_request_head, write_response_head,
    write_usual_response,
};
pub use error::{ErrorKind, Fault, ParseError};
pub use fields::{Fields, InvalidField};
pub use framing::Framing;
pub use head::{RequestHead, ResponseHead};
pub use limits::Limits;
pub use method::{Method, UnknownMethod};
pub use outgoing::BodyEncoder;
pub use passing::{Whole, read_whole_response, write_passed_request, write_passed_response};
pub use received::{ReceivedFields, Trailers};
pub use response_parts::ResponseParts;
pub use status::{InvalidStatus, StatusCode};
pub use target::TargetForm;
pub use trailers::may_be_trailer;
pub use version::Version;

/// First bytes of an HTTP/2 connection with prior knowledge (RFC 9113 §3.4).
///
/// The request decoder answers them with [`ErrorKind::Http2Preface`]; a caller that speaks HTTP/2
/// looks for them before it polls.
pub const HTTP2_PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
