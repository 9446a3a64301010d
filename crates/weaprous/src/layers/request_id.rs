//! A name for each request, by which log lines of several programs are found together.

use crate::handler::LocalBoxFuture;
use crate::layer::{Layer, Next};
use crate::request::Request;
use engine::Response;
use std::cell::Cell;
use std::rc::Rc;
use tracing::Instrument as _;

/// Names every request: in the response field `X-Request-Id`, in [`Request::id`](crate::Request::id), and in the span
/// `request` around everything that is logged meanwhile. A trusted proxy's own name for it is taken over.
///
/// ```
/// use weaprous::{layers::RequestIds, prelude::*};
/// App::new()
///     .layer(RequestIds)
///     .route("/", [GET], async |request: Request| request.id().unwrap_or_default().to_owned());
/// ```
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct RequestIds;

const NAME: &str = "x-request-id";
/// Longest name taken over from a proxy.
const ID_BYTES_MAX: usize = 64;

impl Layer for RequestIds {
    fn call(&self, mut request: Request, next: Next) -> LocalBoxFuture<'_, Response> {
        let given = request.field(NAME).filter(|id| request.is_from_trusted_proxy() && is_plain(id));
        let id: Rc<str> = given.map_or_else(|| Rc::from(fresh()), Rc::from);
        request.set_id(Rc::clone(&id));
        // Without the query, which may hold what nobody is to read in a log.
        let span = tracing::info_span!("request", id = &*id, method = request.method().as_str(), path = request.path());
        let answer = async move {
            let mut response = next.run(request).await;
            response.fields.set(NAME, id.as_bytes()).expect("plain characters");
            response
        };
        Box::pin(answer.instrument(span))
    }
}

/// Nothing that could be mistaken for something else in a log.
fn is_plain(id: &str) -> bool {
    (1..=ID_BYTES_MAX).contains(&id.len())
        && id.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.'))
}

/// A worker's random prefix and a count: never twice, and no secret.
fn fresh() -> String {
    thread_local! {
        static PREFIX: u64 = random();
        static COUNT: Cell<u64> = const { Cell::new(0) };
    }
    let count = COUNT.get();
    COUNT.set(count.wrapping_add(1));
    PREFIX.with(|prefix| format!("{prefix:016x}-{count:x}"))
}

fn random() -> u64 {
    let mut bytes = [0; 8];
    // Without randomness the names are still unique on this worker.
    let _ = getrandom::fill(&mut bytes);
    u64::from_ne_bytes(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_plain_names_are_taken_over() {
        for id in ["a", "0f-1E_2.3", &"x".repeat(64)] {
            assert!(is_plain(id), "{id}");
        }
        for id in ["", " ", "a b", "a\"", "a\n", "é", &"x".repeat(65)] {
            assert!(!is_plain(id), "{id}");
        }
    }

    #[test]
    fn no_two_requests_have_one_name() {
        let names: std::collections::HashSet<String> = (0..1000).map(|_| fresh()).collect();
        assert_eq!(names.len(), 1000);
        assert!(names.iter().all(|name| is_plain(name)));
    }
}
