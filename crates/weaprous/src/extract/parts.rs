//! Extractors of everything but the content.

use super::FromParts;
use crate::cookie::Cookies;
use crate::pairs;
use crate::problem::Problem;
use crate::request::Request;
use engine::{Method, Stop};
use serde::de::DeserializeOwned;
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
        let value = pairs::from_params(names, values);
        value.map(Self).map_err(|error| Problem::bad_request(format!("path parameter {error}")))
    }
}

/// The query as a struct: `?after=7&limit=50`. Missing and empty values are `None` for an `Option`, a repeated name
/// fills a `Vec`. 400 if it does not fit.
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
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ClientAddr(pub IpAddr);

impl FromParts for ClientAddr {
    async fn from_parts(request: &Request) -> Result<Self, Problem> {
        Ok(Self(request.client_addr()))
    }
}

/// The id of the last event a reconnecting event stream saw: the `Last-Event-ID` field.
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
