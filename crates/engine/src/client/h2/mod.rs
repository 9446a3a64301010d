//! HTTP/2 towards servers (RFC 9113): many requests on one connection, behind the same calls as HTTP/1.1.
//!
//! ```text
//!   request ──▶ directory ──▶ connection with room, or a new one (more when all its streams are taken)
//!                  │                │ a task drives it: frames, deadlines, PING, GOAWAY, floods
//!                  ▼                ▼
//!               Slot ──▶ exchange: head and content out, head in ──▶ a body that goes on by itself
//! ```
//!
//! What a server has said that it did not look at (`REFUSED_STREAM`, streams above a GOAWAY's last one) is sent again by
//! itself, on another connection, whatever the method is (RFC 9113 §8.7). Framing, header compression and flow control
//! are the `h2` crate's; what it is made to do by a server is bounded by the same meter as for clients.

mod connection;
mod directory;
mod download;
mod exchange;
mod head;
mod queue;

pub(super) use directory::Directory;

use super::{Client, ClientError, ClientErrorKind, Failed, Failure, OutgoingRequest, Stage};
use crate::{Body, ResponseHead};
use directory::Taken;
use exchange::Exchange;
use std::net::SocketAddr;

/// How often one request is sent to a server that refuses it and stays, or goes away before the first request of a
/// connection: it has too much to do.
const REFUSALS_MAX: u32 = 4;
/// How often one request is put on a connection that goes away before it looks at it: a server that does so after every
/// few requests is met by many requests at once.
const ATTEMPTS_MAX: u32 = 20;

/// Requests under way on one connection, at most: so many at once are rare, and each may hold a stream's window of bytes
/// that its reader does not take.
const STREAMS_MAX: usize = 100;

/// What became of a request that was to go over HTTP/2.
pub(super) enum Sent {
    /// There is an answer, or there will be none.
    Done(Result<(ResponseHead, Body), Failed>),
    /// The server has chosen HTTP/1.1 in the handshake: the request is to go that way.
    Http1(OutgoingRequest),
}

/// What went wrong between two ends of an HTTP/2 connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Http2Error {
    /// What it says is no HTTP/2.
    #[error("it does not speak HTTP/2")]
    NotSpoken,
    /// It did not look at the request, and said so.
    #[error("it refused the request unread")]
    Refused,
    /// It ended this exchange, by this code (RFC 9113 §7).
    #[error("it reset the request (code {0})")]
    Reset(u32),
    /// Its frames are wrong, by this code (RFC 9113 §7).
    #[error("it broke the rules of HTTP/2 (code {0})")]
    Broken(u32),
    /// It allowed no more requests at a time than it had, or none at all, for as long as that was waited for.
    #[error("it has no room for another request")]
    NoRoom,
    /// It sent more frames that cost much and mean little than anybody needs.
    #[error("it floods the connection")]
    Flood,
    /// It did not answer when it was asked whether it is still there.
    #[error("the connection is dead")]
    Dead,
}

impl Client {
    /// Sends a request over HTTP/2, again where nobody looked at it.
    pub(super) async fn send_over_http2(&self, addr: SocketAddr, mut request: OutgoingRequest) -> Sent {
        let (mut attempts, mut refusals, mut has_repeated) = (0, 0, false);
        loop {
            attempts += 1;
            let slot = match self.shared.http2.take(self, addr, &mut refusals).await {
                Ok(Taken::Slot(slot)) => slot,
                Ok(Taken::Http1) => return Sent::Http1(request),
                Err(kind) => {
                    let error = ClientError { addr, stage: Stage::Connect, kind, can_retry: true };
                    return Sent::Done(Err(Failed { error, request: Some(request) }));
                }
            };
            let is_fresh = slot.is_fresh();
            let failed = match Exchange::begin(self, slot, &mut request) {
                Ok(mut exchange) => match exchange.head().await {
                    Ok(head) => return Sent::Done(Ok(exchange.into_response(head))),
                    Err(failure) => {
                        let outcome = exchange.outcome(&failure, &request);
                        refusals += u32::from(exchange.is_refused_for_now() || is_fresh && outcome == Outcome::Unseen);
                        exchange.restore(&mut request);
                        (failure, outcome)
                    }
                },
                Err(failed) => failed,
            };
            let (Failure { stage, kind }, outcome) = failed;
            let is_worth_it = match outcome {
                Outcome::Unseen => true,
                // A connection that was used before may have been closed at any moment: that is nobody's failure.
                Outcome::Repeatable => {
                    let is_gone = matches!(kind, ClientErrorKind::Closed | ClientErrorKind::Io(_));
                    is_gone && !is_fresh && !std::mem::replace(&mut has_repeated, true)
                }
                Outcome::Final => false,
            };
            if is_worth_it && attempts < ATTEMPTS_MAX && refusals < REFUSALS_MAX {
                continue;
            }
            let error = ClientError { addr, stage, kind, can_retry: outcome != Outcome::Final };
            return Sent::Done(Err(Failed { request: error.can_retry.then_some(request), error }));
        }
    }
}

/// What a failure leaves open.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Outcome {
    /// The server has not looked at the request: it may go anywhere, whatever it is.
    Unseen,
    /// The server may have worked on it, and working on it twice is the same as once.
    Repeatable,
    /// It must not be sent again.
    Final,
}
