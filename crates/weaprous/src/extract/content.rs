//! Extractors of the content.

use super::{FromRequest, ViaBody};
use crate::pairs;
use crate::problem::Problem;
use crate::request::Request;
use crate::response::Json;
use bytes::Bytes;
use engine::{Body, StatusCode};
use serde::de::DeserializeOwned;
use serde_json::error::Category;

/// A form (`application/x-www-form-urlencoded`). 415 for another media type, 400 for broken escapes, 422 if it does
/// not fit.
///
/// ```
/// use serde::Deserialize;
/// use weaprous::prelude::*;
/// use weaprous::testing::Client;
///
/// #[derive(Deserialize)]
/// struct Task {
///     title: String,
///     urgent: Option<bool>,
/// }
///
/// async fn add(Form(task): Form<Task>) -> String {
///     format!("{}{}", task.title, if task.urgent == Some(true) { "!" } else { "" })
/// }
///
/// let client = Client::new(App::new().route("/tasks", [POST], add));
/// assert_eq!(client.post("/tasks").form([("title", "buy bread"), ("urgent", "true")]).send().text(), "buy bread!");
/// assert_eq!(client.post("/tasks").form([("urgent", "true")]).send().status().as_u16(), 422);
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Form<T>(pub T);

impl FromRequest<ViaBody> for Request {
    async fn from_request(request: Request) -> Result<Self, Problem> {
        Ok(request)
    }
}

impl FromRequest<ViaBody> for engine::Request {
    async fn from_request(request: Request) -> Result<Self, Problem> {
        Ok(request.into_engine())
    }
}

impl FromRequest<ViaBody> for Bytes {
    async fn from_request(mut request: Request) -> Result<Self, Problem> {
        let max = request.body_bytes_max();
        match std::mem::take(&mut request.body) {
            // Mostly all of it has arrived, and its length was looked at.
            Body::Full(bytes) if bytes.len() as u64 <= max => Ok(bytes),
            body => Ok(body.collect(max).await?),
        }
    }
}

impl FromRequest<ViaBody> for String {
    async fn from_request(request: Request) -> Result<Self, Problem> {
        let bytes = Bytes::from_request(request).await?;
        String::from_utf8(bytes.into()).map_err(|_| Problem::bad_request("content is not UTF-8"))
    }
}

impl<T: DeserializeOwned> FromRequest<ViaBody> for Json<T> {
    async fn from_request(request: Request) -> Result<Self, Problem> {
        if !request.has_json() {
            return Err(unsupported("application/json"));
        }
        let bytes = Bytes::from_request(request).await?;
        serde_json::from_slice(&bytes).map(Self).map_err(|error| match error.classify() {
            Category::Data => Problem::unprocessable(format!("JSON: {error}")),
            Category::Syntax | Category::Eof | Category::Io => Problem::bad_request(format!("malformed JSON: {error}")),
        })
    }
}

impl<T: DeserializeOwned> FromRequest<ViaBody> for Form<T> {
    async fn from_request(request: Request) -> Result<Self, Problem> {
        const FORM: &str = "application/x-www-form-urlencoded";
        if !request.media_type().is_some_and(|found| found.eq_ignore_ascii_case(FORM)) {
            return Err(unsupported(FORM));
        }
        let text = String::from_request(request).await?;
        let parsed = pairs::parse(&text).map_err(|error| Problem::bad_request(format!("form: {error}")))?;
        let value = pairs::from_pairs(&parsed);
        value.map(Self).map_err(|error| Problem::unprocessable(format!("form: {error}")))
    }
}

fn unsupported(wanted: &str) -> Problem {
    let detail = format!("send the content as `Content-Type: {wanted}`");
    Problem::new(StatusCode::UNSUPPORTED_MEDIA_TYPE).detail(detail).own_field("accept", wanted)
}
