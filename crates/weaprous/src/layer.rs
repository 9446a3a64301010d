//! Layers: async functions around handlers, `async fn(Request, Next) -> impl IntoResponse`.

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
        Box::pin(async move {
            let Self { target, depth } = self;
            match target.scope.layers.get(depth) {
                Some(layer) => {
                    let next = Self { target: Rc::clone(&target), depth: depth + 1 };
                    layer.call(request, next).await
                }
                None => target.endpoint.call(request).await,
            }
        })
    }
}

impl fmt::Debug for Next {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Next").field("depth", &self.depth).finish_non_exhaustive()
    }
}

/// A layer without its type.
pub(crate) trait Layer: Send + Sync {
    fn call(&self, request: Request, next: Next) -> LocalBoxFuture<'_, Response>;
}

impl<F, R> Layer for F
where
    F: AsyncFn(Request, Next) -> R + Send + Sync,
    R: IntoResponse,
{
    fn call(&self, request: Request, next: Next) -> LocalBoxFuture<'_, Response> {
        Box::pin(async move { self(request, next).await.into_response() })
    }
}
