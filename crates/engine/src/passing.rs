//! Requests that are passed on to another server without a task or a future: what the service decides, and what it
//! says when the answer is there.
//!
//! ```text
//!   Service::pass ── None ─────────────────────────────▶ Service::call, as always
//!        │ Pass: the request is written, on a kept connection
//!        ▼
//!   waits at its place ── whole answer, of the usual kind ──▶ Passage::answer: written, sent, over
//!        └── anything else: the answer is long, late, odd, or none; the client speaks or leaves
//!                                                        ──▶ Passage::resume: a future like that of Service::call
//! ```

use crate::client::Begun;
use crate::{Request, Response, ResponseHead};
use std::pin::Pin;

pub use crate::server::Pass;

/// A request on its way. Dropped, it is over.
pub trait Passage: 'static {
    /// Appends the whole answer, head and content, to `out`, for a client of HTTP/1.1 whose connection lives on. `head`
    /// is that of a final response with content of this length; `date` is the time of now, as a `Date` field wants it.
    ///
    /// False, with nothing written, where the answer is to be made in another way: then the request is resumed.
    fn answer(&mut self, head: &ResponseHead, content: &[u8], date: &[u8; 29], out: &mut Vec<u8>) -> bool;

    /// Goes on as [`Service::call`](crate::Service::call) would; called once, and nothing after it. `begun` is the
    /// connection that the request was written for: see [`Client::send_begun`](crate::Client::send_begun).
    fn resume(&mut self, request: Request, begun: Option<Box<Begun>>) -> Resumed;
}

/// The answer of a request that was resumed.
pub type Resumed = Pin<Box<dyn Future<Output = Response>>>;
