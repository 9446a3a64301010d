//! A client for tests that needs no socket and no runtime: requests are written, parsed, answered and read back in
//! memory.
//!
//! Every request passes through [`http1`] both ways, exactly as on a connection, and through the whole application:
//! routing, layers, extractors, the presentation of problems. What a connection adds is not there: deadlines,
//! `100 Continue`, upgrades (a 101 is seen, but there is no stream behind it), and the catching of panics: a handler
//! that panics fails the test where it stands.
//!
//! ```
//! use weaprous::prelude::*;
//! use weaprous::testing::Client;
//!
//! async fn add(Json(numbers): Json<Vec<i64>>) -> Json<i64> {
//!     Json(numbers.iter().sum())
//! }
//!
//! // In a plain `#[test]`:
//! let client = Client::new(App::new().route("/sum", [POST], add));
//! let response = client.post("/sum").json(&[1, 2, 3]).send();
//! assert_eq!(response.status(), StatusCode::OK);
//! assert_eq!(response.json::<i64>(), 6);
//! ```
//!
//! Streams are read as they come, with [`Response::chunk`] and, for server-sent events, [`Response::event`].
//! [`Client`] blocks and brings its own runtime; inside an async test use [`AsyncClient`].

mod events;
mod form;
mod jar;
mod request;
mod response;
mod wired;

pub use events::ReceivedEvent;
pub use form::FormPart;
pub use request::RequestBuilder;
pub use response::{AsyncResponse, CONTENT_BYTES_MAX, Response};

use crate::app::App;
use crate::service::AppService;
use engine::{Method, Peer, Stop};
use jar::Jar;
use std::cell::RefCell;
use std::fmt;
use std::net::{Ipv4Addr, SocketAddr};
use std::rc::Rc;
use tokio::runtime::{Builder, LocalOptions, LocalRuntime};

/// The host that requests are for, unless [`Client::host`] says otherwise.
pub const HOST: &str = "test";
/// Where requests seem to come from, unless [`Client::from_addr`] says otherwise.
const PEER_PORT: u16 = 49_152;
/// Where they seem to arrive.
const LOCAL_PORT: u16 = 80;

/// Asks an application in memory and waits for each answer. Not for async tests: see [`AsyncClient`].
///
/// It panics, with the reason, wherever a test would have to.
pub struct Client {
    inner: AsyncClient,
    runtime: Rc<LocalRuntime>,
}

/// As [`Client`], for tests that are async themselves, with the clock and the tasks of their own runtime.
///
/// ```
/// use weaprous::prelude::*;
/// use weaprous::testing::AsyncClient;
///
/// # let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
/// # runtime.block_on(async {
/// let client = AsyncClient::new(App::new().route("/", [GET], async || "hello"));
/// assert_eq!(client.get("/").send().await.text().await, "hello");
/// # });
/// ```
pub struct AsyncClient {
    service: AppService,
    peer: Peer,
    host: String,
    jar: Option<RefCell<Jar>>,
}

impl Client {
    /// A client of this application.
    ///
    /// # Panics
    /// If its routes are wrong, saying which, or when the system gives no event loop.
    pub fn new(app: App) -> Self {
        let runtime = Builder::new_current_thread().enable_all().build_local(LocalOptions::default());
        let runtime = runtime.expect("the system gives an event loop");
        Self { inner: AsyncClient::new(app), runtime: Rc::new(runtime) }
    }

    /// Keeps the cookies it is given and sends them back, as a browser does; also as a browser, it says
    /// `Sec-Fetch-Site: same-origin`, unless the request has that field or `Origin`.
    ///
    /// ```
    /// use weaprous::prelude::*;
    /// use weaprous::testing::Client;
    ///
    /// let app = App::new()
    ///     .route("/in", [POST], async || Ok::<_, Problem>((CookieBuilder::new("name", "ann").path("/").build()?, "hello")))
    ///     .route("/", [GET], async |cookies: Cookies| cookies.get("name").unwrap_or("nobody").to_owned());
    /// let client = Client::new(app).keep_cookies();
    /// assert_eq!(client.get("/").send().text(), "nobody");
    /// client.post("/in").send();
    /// assert_eq!(client.get("/").send().text(), "ann");
    /// ```
    pub fn keep_cookies(mut self) -> Self {
        self.inner = self.inner.keep_cookies();
        self
    }

    /// Names the host in every request, instead of [`HOST`].
    ///
    /// ```
    /// use weaprous::prelude::*;
    /// use weaprous::testing::{AsyncClient, Client, HOST};
    ///
    /// let app = || App::new().route("/", [GET], async |request: Request| request.host().to_owned());
    /// assert_eq!(Client::new(app()).get("/").send().text(), HOST);
    /// assert_eq!(Client::new(app()).host("example.org").get("/").send().text(), "example.org");
    /// assert_eq!(Client::new(app()).block_on(AsyncClient::new(app()).host("a").get("/").send()).status(), StatusCode::OK);
    /// ```
    pub fn host(mut self, host: &str) -> Self {
        self.inner = self.inner.host(host);
        self
    }

    /// Seems to come from this address: by default from loopback, where `X-Forwarded-*` is believed.
    pub fn from_addr(mut self, addr: SocketAddr) -> Self {
        self.inner = self.inner.from_addr(addr);
        self
    }

    /// Fires the stop that handlers and event streams see as the server's.
    pub fn stop(&self) {
        self.inner.stop();
    }

    /// Waits for a future, on the runtime the application runs on: for what a test has to await beside its requests.
    pub fn block_on<F: Future>(&self, future: F) -> F::Output {
        self.runtime.block_on(future)
    }

    /// Begins a request. `target` is a path, with a query if there is one, percent-encoded.
    ///
    /// ```
    /// use weaprous::prelude::*;
    /// use weaprous::testing::Client;
    ///
    /// let client = Client::new(App::new().route("/", [PATCH], async |text: String| text));
    /// assert_eq!(client.request(PATCH, "/?a=b").body("one").send().text(), "one");
    /// assert_eq!(client.patch("/").body("two").send().text(), "two");
    /// assert_eq!(client.options("/").send().field("allow"), Some("OPTIONS, PATCH"));
    /// ```
    pub fn request(&self, method: Method, target: &str) -> RequestBuilder<'_, Self> {
        RequestBuilder::new(self, method, target)
    }
}

impl AsyncClient {
    /// A client of this application.
    ///
    /// # Panics
    /// If its routes are wrong, saying which.
    pub fn new(app: App) -> Self {
        let prepared = app.prepare().unwrap_or_else(|error| panic!("{error}"));
        let at = |port| SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        let peer = Peer::new(at(PEER_PORT), at(LOCAL_PORT), Stop::new());
        Self { service: prepared.service(), peer, host: HOST.to_owned(), jar: None }
    }

    /// As [`Client::keep_cookies`].
    pub fn keep_cookies(mut self) -> Self {
        self.jar = Some(RefCell::default());
        self
    }

    /// As [`Client::host`].
    pub fn host(mut self, host: &str) -> Self {
        host.clone_into(&mut self.host);
        self
    }

    /// As [`Client::from_addr`].
    pub fn from_addr(mut self, addr: SocketAddr) -> Self {
        self.peer.addr = addr;
        self
    }

    /// As [`Client::stop`].
    pub fn stop(&self) {
        self.peer.stop.cancel();
    }

    /// As [`Client::request`].
    pub fn request(&self, method: Method, target: &str) -> RequestBuilder<'_, Self> {
        RequestBuilder::new(self, method, target)
    }
}

macro_rules! methods {
    ($client:ident: $($name:ident $method:ident)*) => {
        impl $client {
            $(
                #[doc = concat!("Begins a request of this method: see [`", stringify!($client), "::request`].")]
                pub fn $name(&self, target: &str) -> RequestBuilder<'_, Self> {
                    self.request(Method::$method, target)
                }
            )*
        }
    };
}

methods!(Client: get Get head Head post Post put Put patch Patch delete Delete options Options);
methods!(AsyncClient: get Get head Head post Post put Put patch Patch delete Delete options Options);

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client").field("host", &self.inner.host).finish_non_exhaustive()
    }
}

impl fmt::Debug for AsyncClient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AsyncClient").field("host", &self.host).finish_non_exhaustive()
    }
}
