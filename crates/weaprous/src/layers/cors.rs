//! What pages of other origins may do here (CORS: Fetch standard §3.2).

use crate::handler::LocalBoxFuture;
use crate::layer::{Layer, Next};
use crate::layers::vary;
use crate::request::Request;
use engine::{Method, Response, StatusCode};
use std::time::Duration;

/// Lets pages of other origins read answers and send requests that change something.
///
/// Nothing is allowed that is not named. Requests of allowed origins also pass the protection against cross-site
/// requests ([`Csrf`](crate::Csrf)): with a cookie only where [`Cors::credentials`] allows that.
///
/// ```
/// use weaprous::{layers::Cors, prelude::*};
/// let public = App::new().layer(Cors::any_origin()).route("/weather", [GET], async || "mild");
/// let ours = Cors::origins(["https://app.example"]).credentials().expose(["x-total"]);
/// App::new().nest("/public", public).nest("/api", App::new().layer(ours));
/// ```
#[derive(Debug, Clone)]
pub struct Cors {
    /// `None` allows all of them.
    origins: Option<Vec<String>>,
    methods: String,
    headers: String,
    exposed: String,
    credentials: bool,
    max_age: Duration,
}

/// Browsers ask again after two hours at the latest.
const MAX_AGE: Duration = Duration::from_hours(1);
const METHODS: [Method; 5] = [Method::Get, Method::Post, Method::Put, Method::Patch, Method::Delete];
const HEADERS: &str = "authorization, content-type";
/// What the answer to a preflight depends on.
const PREFLIGHT_VARY: &str = "Origin, Access-Control-Request-Method, Access-Control-Request-Headers";

impl Cors {
    /// Allows these origins, written as browsers do: `https://app.example`, with the port if it is not the usual one.
    pub fn origins(origins: impl IntoIterator<Item = impl Into<String>>) -> Self {
        Self::with(Some(origins.into_iter().map(|origin| origin.into().to_ascii_lowercase()).collect()))
    }

    /// Allows every origin, never with credentials: for what everybody may read anyway.
    pub fn any_origin() -> Self {
        Self::with(None)
    }

    fn with(origins: Option<Vec<String>>) -> Self {
        Self {
            origins,
            methods: String::new(),
            headers: HEADERS.to_owned(),
            exposed: String::new(),
            credentials: false,
            max_age: MAX_AGE,
        }
        .methods(METHODS)
    }

    /// Allows these methods, instead of `GET`, `POST`, `PUT`, `PATCH` and `DELETE`.
    ///
    /// ```
    /// use std::time::Duration;
    /// use weaprous::{layers::Cors, prelude::*};
    ///
    /// let cors = Cors::origins(["https://app.example"]).methods([GET, PATCH]).headers(["x-token"]);
    /// App::new().layer(cors.max_age(Duration::from_mins(10))).route("/", [PATCH], async || "changed");
    /// ```
    pub fn methods(mut self, methods: impl IntoIterator<Item = Method>) -> Self {
        self.methods = joined(methods.into_iter().map(Method::as_str));
        self
    }

    /// Allows these request fields, instead of `Authorization` and `Content-Type`.
    pub fn headers(mut self, names: impl IntoIterator<Item = &'static str>) -> Self {
        self.headers = joined(names);
        self
    }

    /// Lets pages read these fields of answers beside the usual ones.
    pub fn expose(mut self, names: impl IntoIterator<Item = &'static str>) -> Self {
        self.exposed = joined(names);
        self
    }

    /// Lets requests carry cookies and passwords the browser knows, and lets them act by those.
    ///
    /// # Panics
    /// With [`Cors::any_origin`]: then every page could act as whoever visits it.
    pub fn credentials(mut self) -> Self {
        assert!(self.origins.is_some(), "credentials for every origin would let any page act as its visitors");
        self.credentials = true;
        self
    }

    /// How long browsers may remember what is allowed, instead of an hour.
    pub fn max_age(mut self, max_age: Duration) -> Self {
        self.max_age = max_age;
        self
    }

    fn allows(&self, origin: &str) -> bool {
        match &self.origins {
            Some(origins) => origins.iter().any(|known| known.eq_ignore_ascii_case(origin)),
            None => true,
        }
    }

    fn preflight(&self, origin: &str) -> Response {
        let mut response = Response::new(StatusCode::NO_CONTENT);
        self.describe(&mut response, origin);
        vary(&mut response, PREFLIGHT_VARY);
        response
            .field("access-control-allow-methods", &self.methods)
            .field("access-control-allow-headers", &self.headers)
            .field("access-control-max-age", self.max_age.as_secs().to_string())
    }

    /// Says that this origin may read the answer.
    fn describe(&self, response: &mut Response, origin: &str) {
        let origin = if self.origins.is_some() { origin } else { "*" };
        let mut set = |name, value: &str| {
            // The origin came as a field, so that it can be sent as one; the rest is the program's own.
            let _ = response.fields.set(name, value);
        };
        set("access-control-allow-origin", origin);
        if self.credentials {
            set("access-control-allow-credentials", "true");
        }
    }
}

impl Layer for Cors {
    fn call(&self, mut request: Request, next: Next) -> LocalBoxFuture<'_, Response> {
        Box::pin(async move {
            let origin = request.field("origin").filter(|origin| self.allows(origin)).map(str::to_owned);
            let is_preflight =
                request.method() == Method::Options && request.field("access-control-request-method").is_some();
            if let Some(origin) = origin.as_deref().filter(|_| is_preflight) {
                return self.preflight(origin);
            }
            let has_credentials = request.field("cookie").is_some() || request.field("authorization").is_some();
            if origin.is_some() && (self.credentials || !has_credentials) {
                request.allow_origin();
            }
            let mut response = next.run(request).await;
            if let Some(origin) = origin {
                self.describe(&mut response, &origin);
                if !self.exposed.is_empty() {
                    response = response.field("access-control-expose-headers", &self.exposed);
                }
            }
            // Also without an origin: a cache must not give this answer to a page that sends one.
            if self.origins.is_some() {
                vary(&mut response, "Origin");
            }
            response
        })
    }
}

fn joined<'a>(names: impl IntoIterator<Item = &'a str>) -> String {
    names.into_iter().collect::<Vec<_>>().join(", ")
}
