//! A kept connection in the hands of the front, which passes plain requests on by it.

use super::link::{Failure, Link};
use super::{Client, ClientError, Failed, Fresh, OutgoingRequest, Shared};
use crate::server::{Key, Socket};
use crate::{Body, ResponseHead};
use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::rc::Rc;

/// A kept connection for one request that is passed on: see [`Client::take_kept`]. Dropping it closes it.
pub struct Kept {
    link: Box<Link>,
    client: Rc<Shared>,
}

/// A connection on which a request was begun by other means than [`Client::send`].
pub struct Begun {
    kept: Kept,
    /// The part of the request that was not sent.
    unsent: Vec<u8>,
    /// Whether any of it was.
    has_sent: bool,
    /// What has come of the response.
    received: Vec<u8>,
}

impl Client {
    /// A kept connection to this server for a request that is passed on; `None` where there is none, or where it is not
    /// a plain one of this worker.
    pub fn take_kept(&self, addr: SocketAddr) -> Option<Kept> {
        if self.tls.is_some() || self.http2 {
            return None;
        }
        let link =
            self.shared.pool.borrow_mut().take(self.destination(addr), self.shared.settings.pool_idle_timeout)?;
        if link.socket().is_none() {
            self.shared.pool.borrow_mut().put(link, &self.shared.settings);
            return None;
        }
        Some(Kept { link, client: Rc::clone(&self.shared) })
    }

    /// As [`Client::send_or_return`], for a request that was begun on a connection already: `request` is what was
    /// written there.
    ///
    /// # Errors
    /// As [`Client::send`].
    pub async fn send_begun(
        &self,
        begun: Box<Begun>,
        mut request: OutgoingRequest,
    ) -> Result<(ResponseHead, Body), Failed> {
        let addr = begun.kept.link.addr();
        let mut link = begun.kept.link;
        link.take_up(request.method, (self.head_timeout, self.now), begun.has_sent, &begun.unsent, &begun.received);
        self.hear_interims(&mut link);
        let heard = match link.head().await {
            Ok(head) => Ok((head, link)),
            Err(Failure { stage, kind }) => {
                let can_retry = link.may_repeat(&request);
                let error = ClientError { addr, stage, kind, can_retry };
                // A kept connection may have been closed at any moment: that is nobody's failure.
                if error.can_retry && !error.is_timeout() {
                    drop(link);
                    self.exchange(addr, &mut request, Fresh::Yes).await
                } else {
                    Err(error)
                }
            }
        };
        let opened = self.open_response(addr, heard);
        opened.map_err(|error| Failed { request: error.can_retry.then_some(request), error })
    }
}

impl Kept {
    /// Whether its end is here, and is still to be read.
    pub(crate) fn is_ending(&self) -> bool {
        self.link.socket().is_none_or(Socket::is_ending)
    }

    /// Whose answer waits for it; nobody's with `None`.
    pub(crate) fn passes_for(&self, key: Option<Key>) {
        if let Some(socket) = self.link.socket() {
            socket.passes_for(key);
        }
    }

    pub(crate) fn send(&self, bytes: &[u8]) -> io::Result<usize> {
        self.link.socket().ok_or(io::ErrorKind::NotConnected)?.send_now(bytes)
    }

    /// Receives once; 0 is the end.
    pub(crate) fn recv(&self, buffer: &mut [u8]) -> io::Result<usize> {
        self.link.socket().ok_or(io::ErrorKind::NotConnected)?.recv_now(buffer)
    }

    pub(crate) fn limits(&self) -> &http1::Limits {
        &self.client.settings.limits
    }

    /// Keeps it for the next request: its response has come whole, and nothing behind it.
    pub(crate) fn keep(self) {
        self.passes_for(None);
        self.client.pool.borrow_mut().put(self.link, &self.client.settings);
    }

    /// Hands it to whoever resumes the request.
    pub(crate) fn begun(self, has_sent: bool, unsent: Vec<u8>, received: Vec<u8>) -> Begun {
        self.passes_for(None);
        Begun { kept: self, unsent, has_sent, received }
    }
}

impl fmt::Debug for Kept {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Kept").field("addr", &self.link.addr()).finish_non_exhaustive()
    }
}

impl fmt::Debug for Begun {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Begun").field("kept", &self.kept).finish_non_exhaustive()
    }
}
