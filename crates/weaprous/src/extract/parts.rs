//! Extractors of everything but the content.

use super::FromParts;
use crate::cookie::Cookies;
use crate::pairs;
use crate::problem::Problem;
use crate::request::Request;
use engine::{Method, Stop};
use serde::de::DeserializeOwned;
use smallvec::SmallVec;
use std::net::IpAddr;
use std::ops::Deref;
use std::sync::Arc;

/// The path parameters: one as a scalar, several as a tuple in order or a struct by name. 400 if they do not parse.
///
/// ```
/// use weaprous::prelude::*;
/// async fn show(Path((user, task)): Path<(String, u64)>) -> String {
///     format!("{user} {task}")
/// }
/// App::new().route("/users/{user}/tasks/{task}", [GET], show);
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Path<T>(pub T);

impl<T: DeserializeOwned> FromParts for Path<T> {
    async fn from_parts(request: &Request) -> Result<Self, Problem> {
        let (names, values) = request.params();
        let values: SmallVec<[&str; 4]> = values.collect();
        let value = pairs::from_params(names, &values);
        value.map(Self).map_err(|error| Problem::bad_request(format!("path parameter {error}")))
    }
}

/// The query as a struct: `?after=7&limit=50`. Missing and empty values are `None` for an `Option`, a repeated name
/// fills a `Vec`. 400 if it does not fit.
///
/// ```
/// use serde::Deserialize;
/// use weaprous::prelude::*;
/// use weaprous::testing::Client;
///
/// #[derive(Deserialize)]
/// struct Page {
///     after: u64,
///     limit: Option<u64>,
///     #[serde(default)]
///     tag: Vec<String>,
/// }
///
/// async fn list(Query(page): Query<Page>) -> String {
///     format!("{} {} {}", page.after, page.limit.unwrap_or(50), page.tag.join("+"))
/// }
///
/// let client = Client::new(App::new().route("/list", [GET], list));
/// assert_eq!(client.get("/list?after=7&limit=&tag=a&tag=b").send().text(), "7 50 a+b");
/// assert_eq!(client.get("/list?after=x").send().status().as_u16(), 400);
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Query<T>(pub T);

impl<T: DeserializeOwned> FromParts for Query<T> {
    async fn from_parts(request: &Request) -> Result<Self, Problem> {
        let parsed = pairs::parse(request.query()).map_err(|error| Problem::bad_request(format!("query: {error}")))?;
        let value = pairs::from_pairs(&parsed);
        value.map(Self).map_err(|error| Problem::bad_request(format!("query: {error}")))
    }
}

/// What [`App::state`](crate::App::state) shares, by its type. 500 if the application has none of this type.
///
/// ```
/// use std::sync::Arc;
/// use std::sync::atomic::{AtomicU64, Ordering};
/// use weaprous::prelude::*;
/// use weaprous::testing::Client;
///
/// async fn count(State(visits): State<AtomicU64>) -> String {
///     (visits.fetch_add(1, Ordering::Relaxed) + 1).to_string()
/// }
///
/// let app = App::new().state(Arc::new(AtomicU64::new(0))).route("/", [GET], count);
/// let client = Client::new(app);
/// assert_eq!(client.get("/").send().text(), "1");
/// assert_eq!(client.get("/").send().text(), "2");
/// ```
#[derive(Debug)]
pub struct State<T: ?Sized>(pub Arc<T>);

impl<T: ?Sized> Deref for State<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.0
    }
}

impl<T: ?Sized> Clone for State<T> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<T: ?Sized + Send + Sync + 'static> FromParts for State<T> {
    async fn from_parts(request: &Request) -> Result<Self, Problem> {
        let missing = || format!("the application has no state of type {}", std::any::type_name::<T>());
        request.scope().state::<T>().map(Self).ok_or_else(|| Problem::internal(missing()))
    }
}

/// The client's address: see [`Request::client_addr`].
///
/// ```
/// use weaprous::prelude::*;
/// use weaprous::testing::Client;
///
/// let app = App::new().route("/", [GET], async |ClientAddr(addr): ClientAddr| addr.to_string());
/// // Through a proxy on this machine, which is believed:
/// assert_eq!(Client::new(app).get("/").field("x-forwarded-for", "192.0.2.7").send().text(), "192.0.2.7");
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ClientAddr(pub IpAddr);

impl FromParts for ClientAddr {
    async fn from_parts(request: &Request) -> Result<Self, Problem> {
        Ok(Self(request.client_addr()))
    }
}

/// The id of the last event a reconnecting event stream saw: the `Last-Event-ID` field.
///
/// ```
/// use weaprous::prelude::*;
/// use weaprous::testing::Client;
///
/// let app = App::new().route("/", [GET], async |LastEventId(last): LastEventId| last.unwrap_or("none".to_owned()));
/// let client = Client::new(app);
/// assert_eq!(client.get("/").send().text(), "none");
/// assert_eq!(client.get("/").field("last-event-id", "7").send().text(), "7");
/// ```
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LastEventId(pub Option<String>);

impl FromParts for LastEventId {
    async fn from_parts(request: &Request) -> Result<Self, Problem> {
        Ok(Self(request.field("last-event-id").filter(|id| !id.is_empty()).map(str::to_owned)))
    }
}

impl FromParts for Cookies {
    async fn from_parts(request: &Request) -> Result<Self, Problem> {
        Ok(request.cookies())
    }
}

impl FromParts for Method {
    async fn from_parts(request: &Request) -> Result<Self, Problem> {
        Ok(request.method())
    }
}

impl FromParts for Stop {
    async fn from_parts(request: &Request) -> Result<Self, Problem> {
        Ok(request.stop().clone())
    }
}
