//! What answers requests.

use crate::passing::Pass;
use crate::{Peer, Request, RequestHead, Response};
use std::rc::Rc;
use std::sync::Arc;

/// Answers requests. Every worker has its own instance, which never leaves its thread.
///
/// The future is polled inside the connection's: a service that blocks, blocks its worker. It is
/// dropped when the client is gone or the server's grace has passed.
pub trait Service: 'static {
    /// Whether [`Service::pass`] is to be asked: of whoever never passes anything on it is not.
    const PASSES: bool = false;

    /// Answers one request. The future borrows nothing of the service, which an implementation says as well:
    /// `-> impl Future<Output = Response> + use<> + 'static`, with the type's own parameters between the brackets.
    fn call(&self, request: Request) -> impl Future<Output = Response> + use<Self> + 'static;

    /// Passes a request on to another server, where that is all there is to do: then what the server is to be sent is
    /// appended to `out`, and no future is made of the request unless something unusual happens.
    ///
    /// Asked, where [`Service::PASSES`] says so, for requests of HTTP/1.1 without content, in plain text, whose connection
    /// lives on. With `None` nothing was written, and [`Service::call`] is asked.
    #[inline]
    fn pass(&self, head: &RequestHead, peer: &Peer, out: &mut Vec<u8>) -> Option<Box<Pass>> {
        let _ = (head, peer, out);
        None
    }
}

impl<F, Answer> Service for F
where
    F: Fn(Request) -> Answer + 'static,
    Answer: Future<Output = Response> + 'static,
{
    fn call(&self, request: Request) -> impl Future<Output = Response> + use<F, Answer> + 'static {
        self(request)
    }
}

impl<S: Service> Service for Rc<S> {
    const PASSES: bool = S::PASSES;

    fn call(&self, request: Request) -> impl Future<Output = Response> + use<S> + 'static {
        S::call(self, request)
    }

    fn pass(&self, head: &RequestHead, peer: &Peer, out: &mut Vec<u8>) -> Option<Box<Pass>> {
        S::pass(self, head, peer, out)
    }
}

impl<S: Service> Service for Arc<S> {
    const PASSES: bool = S::PASSES;

    fn call(&self, request: Request) -> impl Future<Output = Response> + use<S> + 'static {
        S::call(self, request)
    }

    fn pass(&self, head: &RequestHead, peer: &Peer, out: &mut Vec<u8>) -> Option<Box<Pass>> {
        S::pass(self, head, peer, out)
    }
}
