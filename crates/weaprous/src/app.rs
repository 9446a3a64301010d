//! The application: routes, state and layers, put together once and then shared by all workers.

use crate::csrf::Csrf;
use crate::handler::{Endpoint, Erased, Handler, LocalBoxFuture};
use crate::layer::Layer;
use crate::request::Request;
use crate::response::IntoResponse;
use crate::router::{self, RouteError, Router};
use crate::service::{AppService, OwnAnswer, Prepared};
use crate::session::Sessions;
use engine::{BindError, Method, Response, RunError, Server, Settings, Stop};
use std::any::{Any, TypeId};
use std::collections::HashMap;
use std::fmt;
use std::future::ready;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::panic::Location;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

/// How long [`Bound::run`] lets open connections finish after the stop.
pub const GRACE: Duration = Duration::from_secs(10);

/// A web application.
///
/// ```
/// use weaprous::prelude::*;
///
/// async fn hello(Path(name): Path<String>) -> String {
///     format!("Hello, {name}!")
/// }
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let bound = App::new().route("/hello/{name}", [GET], hello).prepare_address("127.0.0.1", 0)?;
/// println!("http://{}", bound.local_addr());
/// # let stop = Stop::new();
/// # stop.cancel();
/// # bound.run(stop)?;
/// # Ok(()) }
/// ```
///
/// Everything may be said in any order; it is checked by [`App::prepare`] and its relatives.
#[derive(Default)]
pub struct App {
    routes: Vec<Route>,
    nested: Vec<(String, App)>,
    fallback: Option<Fallback>,
    state: StateMap,
    layers: Vec<Arc<dyn Layer>>,
    sessions: Option<Arc<Sessions>>,
    trusted: Option<Arc<[IpAddr]>>,
    body_bytes_max: Option<u64>,
    csrf: Option<Csrf>,
}

/// One pattern with its methods and handler. [`App::route`] makes the plain ones.
///
/// ```
/// use weaprous::prelude::*;
/// use weaprous::testing::Client;
///
/// async fn no_store(request: Request, next: Next) -> Response {
///     next.run(request).await.field("cache-control", "no-store")
/// }
///
/// let upload = Route::new("/upload", [PUT], async |text: String| text.len().to_string());
/// let app = App::new().add_route(upload.body_bytes_max(50_000_000).layer(no_store));
/// let response = Client::new(app).put("/upload").body("x".repeat(3_000_000)).send();
/// assert_eq!((response.text().as_str(), response.field("cache-control")), ("3000000", Some("no-store")));
/// ```
pub struct Route {
    pattern: String,
    methods: Vec<Method>,
    endpoint: Arc<dyn Endpoint>,
    layers: Vec<Arc<dyn Layer>>,
    body_bytes_max: Option<u64>,
    csrf: Option<Csrf>,
    /// Where it was made, for messages about conflicts.
    place: &'static Location<'static>,
}

/// Who answers what no route covers, and the line that said so.
type Fallback = (Arc<dyn Endpoint>, &'static Location<'static>);

type StateMap = HashMap<TypeId, Arc<dyn Any + Send + Sync>>;

/// What the routes of one [`App`] share, with what its parents gave.
#[derive(Clone)]
pub(crate) struct Scope {
    pub(crate) layers: Vec<Arc<dyn Layer>>,
    pub(crate) sessions: Option<Arc<Sessions>>,
    pub(crate) body_bytes_max: u64,
    pub(crate) csrf: Csrf,
    trusted: Option<Arc<[IpAddr]>>,
    state: StateMap,
}

/// Where a request goes, and what surrounds that.
#[derive(Clone)]
pub(crate) struct Target {
    pub(crate) endpoint: Arc<dyn Endpoint>,
    pub(crate) scope: Arc<Scope>,
    pub(crate) parameter_names: Arc<[String]>,
}

/// The application could not be prepared or bound.
///
/// ```
/// use weaprous::{ServeError, prelude::*};
///
/// let error = App::new().prepare_address("everywhere", 8001).unwrap_err();
/// assert!(matches!(error, ServeError::Address(_)), "{error}");
/// ```
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// A route is wrong.
    #[error(transparent)]
    Route(#[from] RouteError),
    /// The address cannot be read.
    #[error("`{0}` is no IP address; try 127.0.0.1, or 0.0.0.0 for all interfaces")]
    Address(String),
    /// The address cannot be bound.
    #[error(transparent)]
    Bind(#[from] BindError),
}

impl App {
    /// An application that answers 404 to everything.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a route. `/users/{id}` takes one segment, `/files/{path..}` the rest of the path; the most specific
    /// pattern wins. `HEAD` comes with `GET`, and `OPTIONS` with every route.
    ///
    /// ```
    /// use weaprous::prelude::*;
    /// use weaprous::testing::Client;
    ///
    /// let app = App::new()
    ///     .route("/users/me", [GET], async || "you")
    ///     .route("/users/{id}", [GET], async |Path(id): Path<u64>| format!("number {id}"))
    ///     .route("/files/{path..}", [GET], async |Path(path): Path<String>| path);
    /// let client = Client::new(app);
    /// assert_eq!(client.get("/users/me").send().text(), "you");
    /// assert_eq!(client.get("/users/7").send().text(), "number 7");
    /// assert_eq!(client.get("/files/a/b").send().text(), "a/b");
    /// assert_eq!(client.delete("/users/7").send().field("allow"), Some("GET, HEAD, OPTIONS"));
    /// ```
    ///
    /// `/a` and `/a/` are two paths: each is answered only if it has a route, and nobody is redirected from one to the
    /// other. A 404 at one of them says so if the other is there.
    #[track_caller]
    pub fn route<Args: 'static>(
        self,
        pattern: &str,
        methods: impl IntoIterator<Item = Method>,
        handler: impl Handler<Args>,
    ) -> Self {
        self.add_route(Route::new(pattern, methods, handler))
    }

    /// Adds a route with settings of its own.
    pub fn add_route(mut self, route: Route) -> Self {
        self.routes.push(route);
        self
    }

    /// Puts another application below a prefix such as `/api`. It keeps its layers, inside ours, and its state
    /// before ours; what it does not set, it takes from us.
    ///
    /// ```
    /// use weaprous::prelude::*;
    /// use weaprous::testing::Client;
    ///
    /// let api = App::new().route("/tasks", [GET], async || Json(["buy bread"]));
    /// let client = Client::new(App::new().nest("/api", api));
    /// assert_eq!(client.get("/api/tasks").send().json::<Vec<String>>(), ["buy bread"]);
    /// ```
    pub fn nest(mut self, prefix: &str, app: App) -> Self {
        self.nested.push((prefix.to_owned(), app));
        self
    }

    /// Answers what no route covers, instead of a 404. Of nested applications the one with the longest prefix that
    /// covers the path counts.
    ///
    /// ```
    /// use weaprous::prelude::*;
    /// use weaprous::testing::Client;
    ///
    /// let app = App::new().fallback(async |request: Request| format!("nothing at {}", request.path()));
    /// assert_eq!(Client::new(app).get("/x").send().text(), "nothing at /x");
    /// ```
    #[track_caller]
    pub fn fallback<Args: 'static>(mut self, handler: impl Handler<Args>) -> Self {
        self.fallback = Some((Arc::new(Erased::new(handler)), Location::caller()));
        self
    }

    /// Shares a value with all handlers: [`State<T>`](crate::State) extracts it by its type.
    pub fn state<T: ?Sized + Send + Sync + 'static>(mut self, state: Arc<T>) -> Self {
        self.state.insert(TypeId::of::<Arc<T>>(), Arc::new(state));
        self
    }

    /// Wraps everything, also 404 and 405. The first layer added is the outermost.
    ///
    /// ```
    /// use weaprous::prelude::*;
    /// use weaprous::testing::Client;
    ///
    /// /// Lets in who knows the word.
    /// async fn guard(request: Request, next: Next) -> Result<Response, Problem> {
    ///     if request.field("x-word") == Some("please") {
    ///         Ok(next.run(request).await)
    ///     } else {
    ///         Err(Problem::forbidden("say the word"))
    ///     }
    /// }
    ///
    /// let client = Client::new(App::new().route("/", [GET], async || "come in").layer(guard));
    /// assert_eq!(client.get("/").field("x-word", "please").send().text(), "come in");
    /// assert_eq!(client.get("/").send().status(), StatusCode::FORBIDDEN);
    /// ```
    pub fn layer(mut self, layer: impl Layer) -> Self {
        self.layers.push(Arc::new(layer));
        self
    }

    /// Makes [`Session`](crate::session::Session) work.
    pub fn sessions(mut self, sessions: Arc<Sessions>) -> Self {
        self.sessions = Some(sessions);
        self
    }

    /// Believes `X-Forwarded-*` from these addresses. Unless it is called, from loopback.
    ///
    /// ```
    /// use weaprous::prelude::*;
    /// use weaprous::testing::Client;
    ///
    /// let app = App::new()
    ///     .trust_proxies(["192.0.2.1".parse().expect("an address")])
    ///     .route("/", [GET], async |ClientAddr(addr): ClientAddr| addr.to_string());
    /// let client = Client::new(app).from_addr("192.0.2.1:4711".parse().expect("an address"));
    /// assert_eq!(client.get("/").field("x-forwarded-for", "198.51.100.7").send().text(), "198.51.100.7");
    /// ```
    pub fn trust_proxies(mut self, proxies: impl IntoIterator<Item = IpAddr>) -> Self {
        self.trusted = Some(proxies.into_iter().map(|addr| addr.to_canonical()).collect());
        self
    }

    /// Which state-changing requests are let through, instead of [`Csrf::SameOrigin`].
    pub fn csrf(mut self, csrf: Csrf) -> Self {
        self.csrf = Some(csrf);
        self
    }

    /// Accepts this many bytes of content, instead of [`engine`]'s default of 2 MiB: beyond it 413.
    ///
    /// ```
    /// use weaprous::prelude::*;
    /// use weaprous::testing::Client;
    ///
    /// let app = App::new().body_bytes_max(10).route("/", [POST], async |text: String| text);
    /// let client = Client::new(app);
    /// assert_eq!(client.post("/").body("0123456789").send().status(), StatusCode::OK);
    /// assert_eq!(client.post("/").body("0123456789a").send().status(), StatusCode::CONTENT_TOO_LARGE);
    /// ```
    pub fn body_bytes_max(mut self, max: u64) -> Self {
        self.body_bytes_max = Some(max);
        self
    }

    /// Checks the routes and makes the application ready to be shared.
    ///
    /// ```
    /// use weaprous::prelude::*;
    ///
    /// let twice = App::new().route("/{id}", [GET], async || "one").route("/{name}", [GET], async || "two");
    /// let error = twice.prepare().expect_err("both answer the same requests").to_string();
    /// assert!(error.contains("`/{id}`") && error.contains("`/{name}`"), "{error}");
    /// ```
    ///
    /// # Errors
    /// A malformed pattern, or two routes that answer the same requests: both patterns are named, and where they
    /// were added.
    pub fn prepare(self) -> Result<Prepared, RouteError> {
        let mut assembly = Assembly {
            router: Router::default(),
            targets: vec![],
            fallback_router: Router::default(),
            fallbacks: vec![],
        };
        self.assemble("", None, &mut assembly)?;
        Ok(Prepared::new(assembly))
    }

    /// As [`App::prepare`], in the form that [`Server::listen`] takes: for limits and deadlines of one's own, several
    /// addresses, or TLS.
    ///
    /// ```
    /// use std::time::Duration;
    /// use weaprous::engine::{Server, Settings};
    /// use weaprous::prelude::*;
    ///
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let service = App::new().route("/", [GET], async || "hello").into_service()?;
    /// let settings = Settings { keep_alive_timeout: Duration::from_secs(5), ..Settings::default() };
    /// let server = Server::new(settings).listen("127.0.0.1:0".parse()?, service)?;
    /// let stop = Stop::new();
    /// # stop.cancel();
    /// server.run(stop, weaprous::GRACE)?;
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// As [`App::prepare`].
    pub fn into_service(self) -> Result<impl Fn() -> AppService + Clone + Send + Sync + 'static, RouteError> {
        let prepared = Arc::new(self.prepare()?);
        Ok(move || prepared.service())
    }

    /// Binds an address, so that the application can run by itself. Port 0 takes a free port.
    ///
    /// # Errors
    /// The routes are wrong, the address is none, or somebody else listens there.
    pub fn prepare_address(self, ip: &str, port: u16) -> Result<Bound, ServeError> {
        let addr = match ip {
            "localhost" => IpAddr::V4(Ipv4Addr::LOCALHOST),
            _ => ip.parse().map_err(|_| ServeError::Address(ip.to_owned()))?,
        };
        let service = self.into_service()?;
        Ok(Bound { server: Server::new(Settings::default()).listen(SocketAddr::new(addr, port), service)? })
    }

    fn assemble(self, prefix: &str, parent: Option<&Scope>, assembly: &mut Assembly) -> Result<(), RouteError> {
        let mut scope = parent.cloned().unwrap_or_default();
        scope.layers.extend(self.layers);
        scope.state.extend(self.state);
        scope.sessions = self.sessions.or(scope.sessions);
        scope.trusted = self.trusted.or(scope.trusted);
        scope.body_bytes_max = self.body_bytes_max.unwrap_or(scope.body_bytes_max);
        scope.csrf = self.csrf.unwrap_or(scope.csrf);
        let scope = Arc::new(scope);
        for route in self.routes {
            assembly.add(prefix, route, &scope)?;
        }
        assembly.add_fallback(prefix, self.fallback, &scope)?;
        for (inner, app) in self.nested {
            let prefix = format!("{prefix}{}", inner.trim_end_matches('/'));
            app.assemble(&prefix, Some(&scope), assembly)?;
        }
        Ok(())
    }
}

impl fmt::Debug for App {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let patterns = self.routes.iter().map(|route| &route.pattern);
        f.debug_list().entries(patterns).finish()
    }
}

impl Route {
    /// A route: see [`App::route`].
    #[track_caller]
    pub fn new<Args: 'static>(
        pattern: &str,
        methods: impl IntoIterator<Item = Method>,
        handler: impl Handler<Args>,
    ) -> Self {
        Self {
            pattern: pattern.to_owned(),
            methods: methods.into_iter().collect(),
            endpoint: Arc::new(Erased::new(handler)),
            layers: Vec::new(),
            body_bytes_max: None,
            csrf: None,
            place: Location::caller(),
        }
    }

    /// Accepts this many bytes of content here, whatever the application says.
    pub fn body_bytes_max(mut self, max: u64) -> Self {
        self.body_bytes_max = Some(max);
        self
    }

    /// Which state-changing requests are let through here, whatever the application says.
    pub fn csrf(mut self, csrf: Csrf) -> Self {
        self.csrf = Some(csrf);
        self
    }

    /// Wraps this route alone, inside the application's layers.
    pub fn layer(mut self, layer: impl Layer) -> Self {
        self.layers.push(Arc::new(layer));
        self
    }
}

impl fmt::Debug for Route {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Route").field("pattern", &self.pattern).field("methods", &self.methods).finish_non_exhaustive()
    }
}

/// An application on its address.
///
/// ```
/// use weaprous::prelude::*;
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let bound = App::new().route("/", [GET], async || "hello").prepare_address("127.0.0.1", 0)?;
/// assert_ne!(bound.local_addr().port(), 0);
/// let stop = Stop::new();
/// let serving = std::thread::spawn({
///     let stop = stop.clone();
///     move || bound.run(stop)
/// });
/// stop.cancel(); // from a signal handler, say
/// serving.join().expect("it does not panic")?;
/// # Ok(()) }
/// ```
pub struct Bound {
    server: Server,
}

impl Bound {
    /// The address, with the port that was free if 0 was asked for.
    pub fn local_addr(&self) -> SocketAddr {
        self.server.local_addrs()[0]
    }

    /// Serves until `stop` fires and open connections have ended, at most [`GRACE`] later. Blocks this thread.
    ///
    /// # Errors
    /// The workers could not be started, or one of them panicked.
    pub fn run(self, stop: Stop) -> Result<(), RunError> {
        self.server.run(stop, GRACE)
    }

    /// Serves until Ctrl-C or SIGTERM, then as [`run`](Self::run) does once its stop has fired. A second signal ends the
    /// process at once: see [`stop_at_signals`](crate::stop_at_signals).
    ///
    /// ```no_run
    /// use weaprous::prelude::*;
    ///
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// App::new().route("/", [GET], async || "hello").prepare_address("127.0.0.1", 8001)?.run_until_signal()?;
    /// println!("everybody was answered");
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// As [`run`](Self::run), and if the system does not let signals be watched.
    pub fn run_until_signal(self) -> Result<(), RunError> {
        let stop = crate::stop_at_signals().map_err(RunError::Signals)?;
        let _ends = stop.clone().drop_guard(); // whatever the program does next, one Ctrl-C ends it
        self.run(stop)
    }
}

impl fmt::Debug for Bound {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Bound").field(&self.local_addr()).finish()
    }
}

impl Default for Scope {
    fn default() -> Self {
        Self {
            layers: Vec::new(),
            sessions: None,
            body_bytes_max: Settings::default().body_bytes_max,
            csrf: Csrf::default(),
            trusted: None,
            state: HashMap::new(),
        }
    }
}

impl Scope {
    /// The state of this type, if there is one.
    pub(crate) fn state<T: ?Sized + Send + Sync + 'static>(&self) -> Option<Arc<T>> {
        self.state.get(&TypeId::of::<Arc<T>>())?.downcast_ref::<Arc<T>>().cloned()
    }

    /// Whether `X-Forwarded-*` from this address is believed.
    pub(crate) fn trusts(&self, addr: IpAddr) -> bool {
        self.trusted.as_ref().map_or_else(|| addr.is_loopback(), |trusted| trusted.contains(&addr))
    }
}

impl Target {
    /// Hands a request that has passed all layers to the endpoint, unless another site made it.
    pub(crate) fn deliver(target: &Rc<Self>, request: Request) -> LocalBoxFuture<'static, Response> {
        if !request.method().is_safe()
            && target.endpoint.acts()
            && let Some(problem) = target.scope.csrf.refusal(&request)
        {
            return Box::pin(ready(problem.into_response()));
        }
        target.endpoint.call(Rc::clone(target), request)
    }
}

impl fmt::Debug for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Target").field("parameter_names", &self.parameter_names).finish_non_exhaustive()
    }
}

/// How the router of fallbacks tells those that an application has asked for from our own 404s.
pub(crate) const SAID: Method = Method::Get;
const UNSAID: Method = Method::Options;

/// An application while it is put together.
pub(crate) struct Assembly {
    pub(crate) router: Router<usize>,
    pub(crate) targets: Vec<Target>,
    /// Who answers what no route covers, by prefix.
    pub(crate) fallback_router: Router<usize>,
    pub(crate) fallbacks: Vec<Target>,
}

impl Assembly {
    fn add(&mut self, prefix: &str, route: Route, scope: &Arc<Scope>) -> Result<(), RouteError> {
        let pattern = format!("{prefix}{}", route.pattern);
        let malformed = |reason| router::malformed(&pattern, reason, route.place);
        let parameter_names = router::parameter_names(&pattern).map_err(malformed)?.into();
        if route.methods.is_empty() {
            return Err(malformed("answers no method; list at least one"));
        }
        let scope = if route.layers.is_empty() && route.body_bytes_max.is_none() && route.csrf.is_none() {
            Arc::clone(scope)
        } else {
            let mut own = Scope::clone(scope);
            own.layers.extend(route.layers);
            own.body_bytes_max = route.body_bytes_max.unwrap_or(own.body_bytes_max);
            own.csrf = route.csrf.unwrap_or(own.csrf);
            Arc::new(own)
        };
        for method in route.methods {
            self.router.insert_from(&pattern, method, self.targets.len(), route.place)?;
        }
        self.targets.push(Target { endpoint: route.endpoint, scope, parameter_names });
        Ok(())
    }

    /// Every application answers below its prefix, if only with a 404 inside its own layers. Where several share a
    /// prefix, it is the one that says how; if none does, the first; two that do are a conflict.
    fn add_fallback(&mut self, prefix: &str, fallback: Option<Fallback>, scope: &Arc<Scope>) -> Result<(), RouteError> {
        let said = fallback.as_ref().map(|(_, place)| *place);
        let endpoint = fallback.map_or_else(|| Arc::new(OwnAnswer::NotFound) as _, |(endpoint, _)| endpoint);
        let parameter_names = Vec::new().into();
        self.fallbacks.push(Target { endpoint, scope: Arc::clone(scope), parameter_names });
        let at = self.fallbacks.len() - 1;
        let below = format!("{prefix}/{{fallback_path..}}");
        match said {
            Some(place) => self.fallback_router.insert_from(&below, SAID, at, place),
            None => self.fallback_router.insert(&below, UNSAID, at).or(Ok(())),
        }
    }
}
