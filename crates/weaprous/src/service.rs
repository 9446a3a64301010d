//! The prepared application as the engine's service: finds the target, runs it inside its layers, presents errors.

use crate::app::{Assembly, SAID, Target};
use crate::handler::{Endpoint, LocalBoxFuture};
use crate::layer::Next;
use crate::problem::{self, Problem};
use crate::request::Request;
use crate::response::IntoResponse;
use crate::router::{BadPath, Leaf, Params};
use crate::sse;
use engine::{Method, Peer, RequestHead, Response, Service, StatusCode};
use std::fmt;
use std::future::ready;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll};

/// A checked application, shared by all workers.
///
/// ```
/// use weaprous::{AppService, Prepared, RouteError, prelude::*};
///
/// # fn main() -> Result<(), RouteError> {
/// let prepared: Prepared = App::new().route("/", [GET], async || "hello").prepare()?;
/// // Each worker makes a service of its own from what they share.
/// let service: AppService = prepared.service();
/// # Ok(()) }
/// ```
#[derive(Clone)]
pub struct Prepared(Arc<Assembly>);

/// One worker's view of the application.
#[derive(Clone)]
pub struct AppService {
    shared: Arc<Assembly>,
    /// The worker's own handles on the targets, so that workers do not fight over one counter at each request.
    targets: Rc<Targets>,
}

struct Targets {
    routes: Vec<Rc<Target>>,
    fallbacks: Vec<Rc<Target>>,
}

impl Prepared {
    pub(crate) fn new(assembly: Assembly) -> Self {
        Self(Arc::new(assembly))
    }

    /// The service for one worker.
    pub fn service(&self) -> AppService {
        let own = |targets: &[Target]| targets.iter().map(|target| Rc::new(target.clone())).collect();
        let targets = Targets { routes: own(&self.0.targets), fallbacks: own(&self.0.fallbacks) };
        AppService { shared: Arc::clone(&self.0), targets: Rc::new(targets) }
    }
}

impl fmt::Debug for Prepared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Prepared").field("routes", &self.0.targets.len()).finish_non_exhaustive()
    }
}

impl fmt::Debug for AppService {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AppService").field("routes", &self.targets.routes.len()).finish_non_exhaustive()
    }
}

impl Service for AppService {
    fn call(&self, mut request: engine::Request) -> impl Future<Output = Response> + use<> + 'static {
        let (target, params) = self.aim(&request.head);
        request.body.set_limit(target.scope.body_bytes_max);
        let (accept, peer) = (accept_of(&request.head), Rc::clone(request.peer()));
        let request = Request::new(request, params, Rc::clone(&target));
        let handling = if target.scope.layers.is_empty() {
            Target::deliver(&target, request)
        } else {
            Next::new(target).run(request)
        };
        Answering { handling, peer, accept }
    }
}

/// A request that is being answered.
struct Answering {
    handling: LocalBoxFuture<'static, Response>,
    peer: Rc<Peer>,
    accept: Option<Box<str>>,
}

impl Future for Answering {
    type Output = Response;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Response> {
        let Self { handling, peer, accept } = &mut *self;
        let mut polled = sse::ending_with(peer, || handling.as_mut().poll(cx));
        if let Poll::Ready(response) = &mut polled {
            problem::present(response, accept.as_deref());
        }
        polled
    }
}

/// What the client would rather have than JSON, kept for an error, when the request is gone. Programs say nothing
/// about it, or `*/*`, which is the same.
fn accept_of(head: &RequestHead) -> Option<Box<str>> {
    head.field_str("accept").filter(|accept| *accept != "*/*").map(Box::from)
}

impl AppService {
    /// Where a request goes, with the values of its path parameters.
    fn aim(&self, head: &RequestHead) -> (Rc<Target>, Params) {
        let (method, path) = (head.method(), head.path());
        let own = |answer| (self.within_root(answer), Params::default());
        match method {
            Method::Options if path == "*" => return own(OwnAnswer::Allowed(ALLOW_ALL.to_owned())),
            Method::Connect => return own(OwnAnswer::NoTunnel),
            _ => {}
        }
        match self.shared.router.find(path) {
            Ok(Some(found)) => (self.of_leaf(found.leaf, method), found.params),
            Ok(None) => (self.not_found(path), Params::default()),
            Err(bad) => own(OwnAnswer::BadPath(bad)),
        }
    }

    /// The route of this method, or what the path says about the methods it has.
    fn of_leaf(&self, leaf: &Leaf<usize>, method: Method) -> Rc<Target> {
        if let Some(&route) = leaf.route(method) {
            return Rc::clone(&self.targets.routes[route]);
        }
        let allow = leaf.allow();
        let answer = if method == Method::Options { OwnAnswer::Allowed(allow) } else { OwnAnswer::NotAllowed(allow) };
        answer.beside(&self.targets.routes[*leaf.first()])
    }

    /// The fallback; where that is only our 404, it names the path that differs by the slash at its end.
    fn not_found(&self, path: &str) -> Rc<Target> {
        let target = self.fallback(path);
        if target.endpoint.acts() {
            return target;
        }
        let other = path.strip_suffix('/').map_or_else(|| format!("{path}/"), str::to_owned);
        match self.shared.router.find(&other) {
            Ok(Some(_)) => OwnAnswer::NotFoundBut(other).beside(&target),
            _ => target,
        }
    }

    fn fallback(&self, path: &str) -> Rc<Target> {
        let found = self.shared.fallback_router.find(path);
        let place = match &found {
            Ok(Some(found)) => *found.leaf.route(SAID).unwrap_or_else(|| found.leaf.first()),
            Ok(None) => 0, // the root's: it is assembled first
            Err(bad) => return self.within_root(OwnAnswer::BadPath(*bad)),
        };
        Rc::clone(&self.targets.fallbacks[place])
    }

    /// An answer of our own, inside the root application's layers.
    fn within_root(&self, answer: OwnAnswer) -> Rc<Target> {
        answer.beside(&self.targets.fallbacks[0])
    }
}

/// What `OPTIONS *` says: the methods applications use.
const ALLOW_ALL: &str = "GET, HEAD, POST, PUT, DELETE, OPTIONS, PATCH";

/// What is answered where the application says nothing.
pub(crate) enum OwnAnswer {
    /// 404.
    NotFound,
    /// 404 where there is something at this other path.
    NotFoundBut(String),
    /// 405 with `Allow`.
    NotAllowed(String),
    /// What `OPTIONS` asks for.
    Allowed(String),
    /// 501 to `CONNECT`.
    NoTunnel,
    /// 400.
    BadPath(BadPath),
}

impl OwnAnswer {
    /// This answer, surrounded by what surrounds `target`.
    fn beside(self, target: &Target) -> Rc<Target> {
        Rc::new(Target { endpoint: Arc::new(self), ..target.clone() })
    }

    fn problem_or_allow(&self, request: &Request) -> Result<&str, Problem> {
        Err(match self {
            Self::NotFound => Problem::not_found(format!("there is nothing at {}", request.path())),
            Self::NotFoundBut(other) => {
                let path = request.path();
                Problem::not_found(format!("there is nothing at {path}, but there is at {other}: mind the slash"))
            }
            Self::NotAllowed(allow) => {
                let detail = format!("{} is not possible here; use {allow}", request.method());
                Problem::new(StatusCode::METHOD_NOT_ALLOWED).detail(detail).own_field("allow", allow)
            }
            Self::Allowed(allow) => return Ok(allow),
            Self::NoTunnel => Problem::new(StatusCode::NOT_IMPLEMENTED).detail("this server opens no tunnels"),
            Self::BadPath(bad) => Problem::bad_request(bad.to_string()),
        })
    }
}

impl Endpoint for OwnAnswer {
    fn call(&self, _: Rc<Target>, request: Request) -> LocalBoxFuture<'static, Response> {
        let response = match self.problem_or_allow(&request) {
            Ok(allow) => Response::new(StatusCode::NO_CONTENT).field("allow", allow),
            Err(problem) => problem.into_response(),
        };
        Box::pin(ready(response))
    }

    fn acts(&self) -> bool {
        false
    }
}
