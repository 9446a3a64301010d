//! What answers requests.

use crate::{Request, Response};
use std::rc::Rc;
use std::sync::Arc;

/// Answers requests. Every worker has its own instance, which never leaves its thread.
///
/// The future is polled inside the connection's: a service that blocks, blocks its worker. It is
/// dropped when the client is gone or the server's grace has passed.
pub trait Service: 'static {
    /// Answers one request.
    fn call(&self, request: Request) -> impl Future<Output = Response> + 'static;
}

impl<F, Answer> Service for F
where
    F: Fn(Request) -> Answer + 'static,
    Answer: Future<Output = Response> + 'static,
{
    fn call(&self, request: Request) -> impl Future<Output = Response> + 'static {
        self(request)
    }
}

impl<S: Service> Service for Rc<S> {
    fn call(&self, request: Request) -> impl Future<Output = Response> + 'static {
        S::call(self, request)
    }
}

impl<S: Service> Service for Arc<S> {
    fn call(&self, request: Request) -> impl Future<Output = Response> + 'static {
        S::call(self, request)
    }
}
