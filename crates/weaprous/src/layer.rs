//! Layers: what goes around handlers. An async function `async fn(Request, Next) -> impl IntoResponse` is one; those
//! that carry settings are values that implement [`Layer`].

use crate::app::Target;
use crate::handler::LocalBoxFuture;
use crate::request::Request;
use crate::response::IntoResponse;
use engine::Response;
use std::fmt;
use std::rc::Rc;

/// What lies inside a layer: the next layer, or the handler.
///
/// ```
/// use weaprous::prelude::*;
/// async fn no_sniff(request: Request, next: Next) -> Response {
///     next.run(request).await.field("x-content-type-options", "nosniff")
/// }
/// App::new().layer(no_sniff);
/// ```
pub struct Next {
    target: Rc<Target>,
    /// How many layers the request is inside of.
    depth: usize,
}

impl Next {
    pub(crate) fn new(target: Rc<Target>) -> Self {
        Self { target, depth: 0 }
    }

    /// Hands the request on and gives what comes back.
    pub fn run(self, request: Request) -> LocalBoxFuture<'static, Response> {
        let Self { target, depth } = self;
        if depth >= target.scope.layers.len() {
            return Target::deliver(&target, request);
        }
        Box::pin(async move {
            let next = Self { target: Rc::clone(&target), depth: depth + 1 };
            target.scope.layers[depth].call(request, next).await
        })
    }
}

impl fmt::Debug for Next {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Next").field("depth", &self.depth).finish_non_exhaustive()
    }
}

/// Something around handlers: it sees the request first and the response last, and may answer by itself.
///
/// Every `async fn(Request, Next) -> impl IntoResponse` is a layer. A layer with settings is a type that implements
/// this trait; `App`, `Route` and nested applications take both by `.layer(…)`.
///
/// ```
/// use weaprous::{Layer, LocalBoxFuture, prelude::*};
///
/// struct Stamp(&'static str);
///
/// impl Layer for Stamp {
///     fn call(&self, request: Request, next: Next) -> LocalBoxFuture<'_, Response> {
///         Box::pin(async move { next.run(request).await.field("x-served-by", self.0) })
///     }
/// }
///
/// App::new().layer(Stamp("one"));
/// ```
#[diagnostic::on_unimplemented(
    message = "this is not a layer",
    note = "a layer is an `async fn(Request, Next) -> impl IntoResponse`, or a value that implements `Layer`"
)]
pub trait Layer: Send + Sync + 'static {
    /// Handles a request: usually changes it, hands it to `next`, and changes what comes back.
    fn call(&self, request: Request, next: Next) -> LocalBoxFuture<'_, Response>;
}

impl<F, R> Layer for F
where
    F: AsyncFn(Request, Next) -> R + Send + Sync + 'static,
    R: IntoResponse,
{
    fn call(&self, request: Request, next: Next) -> LocalBoxFuture<'_, Response> {
        Box::pin(async move { self(request, next).await.into_response() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Own;

    // Compiles only as long as values and functions can both be layers.
    impl Layer for Own {
        fn call(&self, request: Request, next: Next) -> LocalBoxFuture<'_, Response> {
            next.run(request)
        }
    }

    #[test]
    fn values_and_functions_are_layers() {
        let layers: [Box<dyn Layer>; 2] =
            [Box::new(Own), Box::new(async |request: Request, next: Next| next.run(request).await)];
        assert_eq!(layers.len(), 2);
    }
}
