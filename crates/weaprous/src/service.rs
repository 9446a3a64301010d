//! The prepared application as the engine's service: finds the target, runs it inside its layers, presents errors.

use crate::accept;
use crate::app::{Assembly, Target};
use crate::handler::{Endpoint, LocalBoxFuture};
use crate::layer::Next;
use crate::problem::{self, Problem};
use crate::request::Request;
use crate::response::IntoResponse;
use crate::router::{BadPath, Leaf};
use crate::sse;
use engine::{Method, RequestHead, Response, Service, StatusCode};
use std::fmt;
use std::rc::Rc;
use std::sync::Arc;

/// A checked application, shared by all workers.
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
    fn call(&self, mut request: engine::Request) -> impl Future<Output = Response> + 'static {
        let (target, params) = self.aim(&request.head);
        let prefers_html = request.head.field_str("accept").is_some_and(accept::prefers_html);
        request.body.set_limit(target.scope.body_bytes_max);
        let peer = Rc::clone(request.peer());
        let request = Request::new(request, params, Rc::clone(&target));
        sse::ending_with(peer, async move {
            let response = if target.scope.layers.is_empty() {
                target.deliver(request).await
            } else {
                Next::new(target).run(request).await
            };
            problem::present(response, prefers_html)
        })
    }
}

impl AppService {
    /// Where a request goes, with the values of its path parameters.
    fn aim(&self, head: &RequestHead) -> (Rc<Target>, Vec<String>) {
        let method = head.method();
        match (method, head.path()) {
            (Method::Options, "*") => return (self.within_root(Arc::new(Allowed(ALLOW_ALL.to_owned()))), Vec::new()),
            (Method::Connect, _) => return (self.within_root(Arc::new(NoTunnel)), Vec::new()),
            _ => {}
        }
        match self.shared.router.find(head.path()) {
            Err(bad) => (self.within_root(Arc::new(bad)), Vec::new()),
            Ok(None) => (self.not_found(head.path()), Vec::new()),
            Ok(Some(found)) => (self.of_leaf(found.leaf, method), found.params),
        }
    }

    /// The route of this method, or what the path says about the methods it has.
    fn of_leaf(&self, leaf: &Leaf<usize>, method: Method) -> Rc<Target> {
        if let Some(&route) = leaf.route(method) {
            return Rc::clone(&self.targets.routes[route]);
        }
        let allow = leaf.allow();
        let endpoint: Arc<dyn Endpoint> =
            if method == Method::Options { Arc::new(Allowed(allow)) } else { Arc::new(NotAllowed(allow)) };
        let neighbour = &self.targets.routes[*leaf.first()];
        Rc::new(Target { endpoint, ..Target::clone(neighbour) })
    }

    /// The fallback; where that is only our 404, it names the path that differs by the slash at its end.
    fn not_found(&self, path: &str) -> Rc<Target> {
        let target = self.fallback(path);
        if target.endpoint.acts() {
            return target;
        }
        let other = path.strip_suffix('/').map_or_else(|| format!("{path}/"), str::to_owned);
        match self.shared.router.find(&other) {
            Ok(Some(_)) => Rc::new(Target { endpoint: Arc::new(NotFoundBut(other)), ..Target::clone(&target) }),
            _ => target,
        }
    }

    fn fallback(&self, path: &str) -> Rc<Target> {
        let found = self.shared.fallback_router.find(path);
        let place = match &found {
            Ok(Some(found)) => *found.leaf.first(),
            Ok(None) => 0, // the root's: it is assembled first
            Err(bad) => return self.within_root(Arc::new(*bad)),
        };
        Rc::clone(&self.targets.fallbacks[place])
    }

    /// An answer of our own, inside the root application's layers.
    fn within_root(&self, endpoint: Arc<dyn Endpoint>) -> Rc<Target> {
        Rc::new(Target { endpoint, ..Target::clone(&self.targets.fallbacks[0]) })
    }
}

/// What `OPTIONS *` says: the methods applications use.
const ALLOW_ALL: &str = "GET, HEAD, POST, PUT, DELETE, OPTIONS, PATCH";

/// Answers 404.
pub(crate) struct NotFound;

/// Answers 404 where there is something at another path.
struct NotFoundBut(String);

/// Answers 405 with `Allow`.
struct NotAllowed(String);

/// Answers `OPTIONS`.
struct Allowed(String);

/// Answers 501 to `CONNECT`.
struct NoTunnel;

impl Endpoint for NotFound {
    fn call(&self, request: Request) -> LocalBoxFuture<'_, Response> {
        Box::pin(async move { Problem::not_found(format!("there is nothing at {}", request.path())).into_response() })
    }

    fn acts(&self) -> bool {
        false
    }
}

impl Endpoint for NotFoundBut {
    fn call(&self, request: Request) -> LocalBoxFuture<'_, Response> {
        Box::pin(async move {
            let detail = format!("there is nothing at {}, but there is at {}: mind the slash", request.path(), self.0);
            Problem::not_found(detail).into_response()
        })
    }

    fn acts(&self) -> bool {
        false
    }
}

impl Endpoint for NotAllowed {
    fn call(&self, request: Request) -> LocalBoxFuture<'_, Response> {
        Box::pin(async move {
            let detail = format!("{} is not possible here; use {}", request.method(), self.0);
            let problem = Problem::new(StatusCode::METHOD_NOT_ALLOWED).detail(detail);
            problem.own_field("allow", &self.0).into_response()
        })
    }

    fn acts(&self) -> bool {
        false
    }
}

impl Endpoint for Allowed {
    fn call(&self, _: Request) -> LocalBoxFuture<'_, Response> {
        Box::pin(async move { Response::new(StatusCode::NO_CONTENT).field("allow", &self.0) })
    }

    fn acts(&self) -> bool {
        false
    }
}

impl Endpoint for NoTunnel {
    fn call(&self, _: Request) -> LocalBoxFuture<'_, Response> {
        Box::pin(async move {
            Problem::new(StatusCode::NOT_IMPLEMENTED).detail("this server opens no tunnels").into_response()
        })
    }

    fn acts(&self) -> bool {
        false
    }
}

impl Endpoint for BadPath {
    fn call(&self, _: Request) -> LocalBoxFuture<'_, Response> {
        Box::pin(async move { Problem::bad_request(self.to_string()).into_response() })
    }

    fn acts(&self) -> bool {
        false
    }
}
