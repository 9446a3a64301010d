//! A deadline for handlers.

use crate::handler::LocalBoxFuture;
use crate::layer::{Layer, Next};
use crate::problem::Problem;
use crate::request::Request;
use crate::response::IntoResponse;
use engine::Response;
use std::time::Duration;

/// Answers 503 when the handler has not answered in time, and drops it. The deadline ends with the head of the
/// response: content that streams has the engine's own limits.
///
/// ```
/// use std::time::Duration;
/// use weaprous::{layers::Timeout, prelude::*};
/// let slow = Route::new("/report", [GET], async || "done").layer(Timeout::new(Duration::from_secs(30)));
/// App::new().layer(Timeout::new(Duration::from_mins(1))).add_route(slow);
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Timeout {
    limit: Duration,
}

/// When to come back after a 503.
const RETRY_AFTER_S: u64 = 5;

impl Timeout {
    /// Gives handlers this long.
    pub fn new(limit: Duration) -> Self {
        Self { limit }
    }
}

impl Layer for Timeout {
    fn call(&self, request: Request, next: Next) -> LocalBoxFuture<'_, Response> {
        Box::pin(async move {
            match tokio::time::timeout(self.limit, next.run(request)).await {
                Ok(response) => response,
                Err(_) => Problem::unavailable("this took too long", RETRY_AFTER_S).into_response(),
            }
        })
    }
}
