//! Ready-made layers: what many applications put around their handlers. Each is a value with settings, used as
//! `.layer(…)` of an application, a nested one, or a route.
//!
//! The first layer added is the outermost. A usual order: [`AccessLog`], [`RequestIds`], [`RateLimit`], [`Cors`],
//! compression, [`ETags`], [`Timeout`].

mod access_log;
mod basic_auth;
mod cors;
mod etag;
mod rate_limit;
mod request_id;
mod timeout;

pub use access_log::{AccessLog, LogFormat};
pub use basic_auth::BasicAuth;
pub use cors::Cors;
pub use etag::ETags;
pub use rate_limit::RateLimit;
pub use request_id::RequestIds;
pub use timeout::Timeout;

use engine::Response;

/// Adds names to `Vary`; a cache must not mix up answers that depend on them.
fn vary(response: &mut Response, names: &str) {
    response.fields.append("vary", names).expect("names of fields are visible ASCII");
}
