//! Handlers: async functions whose arguments are extractors and whose result is a response.

use crate::app::Target;
use crate::extract::{FromParts, FromRequest};
use crate::request::Request;
use crate::response::IntoResponse;
use engine::Response;
use std::any::Any;
use std::marker::PhantomData;
use std::pin::Pin;
use std::rc::Rc;

/// A future that stays on its worker.
pub type LocalBoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + 'a>>;

/// An async function of up to eight extractors. All but the last leave the content alone; the last may read it.
///
/// An extractor that fails answers in the handler's stead. `Args` only tells the shapes of functions apart.
///
/// ```
/// use weaprous::prelude::*;
/// async fn show(Path(id): Path<u64>, text: String) -> Result<String, Problem> {
///     if text.is_empty() { Err(Problem::bad_request("say something")) } else { Ok(format!("{id}: {text}")) }
/// }
/// App::new().route("/{id}", [POST], show);
/// ```
///
/// The usual mistakes do not compile, and the compiler says why. Content must come last:
///
/// ```compile_fail,E0277
/// use weaprous::prelude::*;
/// async fn show(text: String, Path(id): Path<u64>) {}
/// App::new().route("/{id}", [POST], show);
/// ```
///
/// The function must be `async`:
///
/// ```compile_fail
/// use weaprous::prelude::*;
/// App::new().route("/", [GET], || "text");
/// ```
///
/// Arguments are extractors, the result is a response:
///
/// ```compile_fail,E0277
/// use weaprous::prelude::*;
/// App::new().route("/{id}", [GET], async |id: u64| "text");
/// ```
///
/// ```compile_fail,E0277
/// use weaprous::prelude::*;
/// App::new().route("/", [GET], async || 7_u64);
/// ```
#[diagnostic::on_unimplemented(
    message = "this is not a handler",
    note = "a handler is an `async fn` of up to eight extractors, where only the last one may read the content \
            (`Json`, `Form`, `Bytes`, `String`, `Multipart`, `Request`), and whose result implements `IntoResponse`; it \
            owns its arguments: `Request`, not `&Request`",
    note = "the `T` of `Json<T>`, `Form<T>`, `Query<T>`, `Path<T>` as an argument needs `serde::Deserialize`, that of a \
            `Json<T>` as the result `serde::Serialize`",
    note = "the error of a `Result` is an answer, too: return `Problem`, and turn others into one, as by \
            `.map_err(Problem::internal)`"
)]
pub trait Handler<Args>: Send + Sync + 'static {
    /// Extracts, runs, responds.
    fn call(&self, request: Request) -> impl Future<Output = Response>;
}

macro_rules! handlers {
    ($($argument:ident)*; $last:ident) => {
        impl<F, R, M, $($argument,)* $last> Handler<(M, $($argument,)* $last)> for F
        where
            F: AsyncFn($($argument,)* $last) -> R + Send + Sync + 'static,
            R: IntoResponse,
            $($argument: FromParts,)*
            $last: FromRequest<M>,
        {
            #[allow(non_snake_case, reason = "arguments are named after their types")]
            async fn call(&self, request: Request) -> Response {
                $(let $argument = match $argument::from_parts(&request).await {
                    Ok(value) => value,
                    Err(problem) => return problem.into_response(),
                };)*
                match $last::from_request(request).await {
                    Ok($last) => self($($argument,)* $last).await.into_response(),
                    Err(problem) => problem.into_response(),
                }
            }
        }
    };
}

impl<F, R> Handler<()> for F
where
    F: AsyncFn() -> R + Send + Sync + 'static,
    R: IntoResponse,
{
    async fn call(&self, _: Request) -> Response {
        self().await.into_response()
    }
}

handlers!(; T1);
handlers!(T1; T2);
handlers!(T1 T2; T3);
handlers!(T1 T2 T3; T4);
handlers!(T1 T2 T3 T4; T5);
handlers!(T1 T2 T3 T4 T5; T6);
handlers!(T1 T2 T3 T4 T5 T6; T7);
handlers!(T1 T2 T3 T4 T5 T6 T7; T8);

/// A handler without its type, as routes hold it.
pub(crate) trait Endpoint: Any + Send + Sync {
    /// Answers a request; `target` is what holds this endpoint. The future is the only allocation on the way to a
    /// handler, so it keeps the target itself.
    fn call(&self, target: Rc<Target>, request: Request) -> LocalBoxFuture<'static, Response>;

    /// Whether the application acts here; otherwise it is an answer of our own, which changes nothing.
    fn acts(&self) -> bool {
        true
    }
}

/// Forgets the arguments of a handler.
pub(crate) struct Erased<H, Args> {
    handler: H,
    arguments: PhantomData<fn(Args)>,
}

impl<H, Args> Erased<H, Args> {
    pub(crate) fn new(handler: H) -> Self {
        Self { handler, arguments: PhantomData }
    }
}

impl<Args: 'static, H: Handler<Args>> Endpoint for Erased<H, Args> {
    fn call(&self, target: Rc<Target>, request: Request) -> LocalBoxFuture<'static, Response> {
        Box::pin(async move {
            let endpoint: &dyn Any = &*target.endpoint;
            let this = endpoint.downcast_ref::<Self>().expect("a target is called by its own endpoint");
            this.handler.call(request).await
        })
    }
}
