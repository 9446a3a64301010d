//! What a handler may return, and how it becomes a response.
//!
//! Text, bytes, [`Json`], [`Html`], [`Redirect`], [`Problem`], a status, a whole [`Response`], a `Result` of two of
//! them, and a tuple of parts (a status, cookies, fields) with one of them last:
//!
//! ```
//! use weaprous::prelude::*;
//! use weaprous::testing::Client;
//!
//! async fn create(Json(title): Json<String>) -> Result<impl IntoResponse, Problem> {
//!     if title.is_empty() {
//!         return Err(Problem::unprocessable("give it a title"));
//!     }
//!     Ok((StatusCode::CREATED, [("location", "/tasks/7")], Json(title)))
//! }
//!
//! let client = Client::new(App::new().route("/tasks", [POST], create));
//! let created = client.post("/tasks").json("buy bread").send();
//! assert_eq!((created.status().as_u16(), created.field("location")), (201, Some("/tasks/7")));
//! assert_eq!(client.post("/tasks").json("").send().status().as_u16(), 422);
//! ```

use crate::cookie::SetCookie;
use crate::percent;
use crate::problem::Problem;
use bytes::Bytes;
use engine::{InvalidField, Response, StatusCode};
use serde::Serialize;
use std::cell::Cell;

/// Turns a handler's result into a response.
///
/// Text, bytes, [`Json`], [`Html`], [`Redirect`], a `StatusCode`, a [`Problem`], a `Result` of two of them are ready; so
/// are tuples, with status, fields and cookies before the content:
/// `(StatusCode::CREATED, [("location", "/tasks/7")], Json(7))`. One's own types implement it:
///
/// ```
/// use weaprous::prelude::*;
/// use weaprous::testing::Client;
///
/// enum Answer {
///     Number(u64),
///     Unknown,
/// }
///
/// impl IntoResponse for Answer {
///     fn into_response(self) -> Response {
///         match self {
///             Self::Number(number) => number.to_string().into_response(),
///             Self::Unknown => Problem::not_found("nobody knows").into_response(),
///         }
///     }
/// }
///
/// let app = App::new()
///     .route("/7", [GET], async || Answer::Number(7))
///     .route("/x", [GET], async || Answer::Unknown);
/// let client = Client::new(app);
/// assert_eq!(client.get("/7").send().text(), "7");
/// assert_eq!(client.get("/x").send().status(), StatusCode::NOT_FOUND);
/// ```
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot be a response",
    note = "return text, `Json`, `Html`, `Redirect`, `StatusCode`, `Problem`, `Response`, a `Result` of these, or a \
            tuple of parts with one of these last"
)]
pub trait IntoResponse {
    /// The response. It never fails: what cannot be sent becomes a [`Problem`].
    fn into_response(self) -> Response;
}

/// Something that changes a response: a status, cookies, fields. Stands before the content in a tuple.
///
/// ```
/// use weaprous::prelude::*;
/// async fn create() -> impl IntoResponse {
///     (StatusCode::CREATED, [("location", "/tasks/7")], "created")
/// }
/// # App::new().route("/tasks", [POST], create);
/// ```
///
/// One's own types implement it:
///
/// ```
/// use weaprous::engine::InvalidField;
/// use weaprous::testing::Client;
/// use weaprous::{ResponsePart, prelude::*};
///
/// struct CacheFor(u32);
///
/// impl ResponsePart for CacheFor {
///     fn apply(self, response: &mut Response) -> Result<(), InvalidField> {
///         response.fields.set("cache-control", format!("max-age={}", self.0))
///     }
/// }
///
/// let client = Client::new(App::new().route("/", [GET], async || (CacheFor(60), "news")));
/// assert_eq!(client.get("/").send().field("cache-control"), Some("max-age=60"));
/// ```
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot stand before the content of a response",
    note = "parts are `StatusCode`, `SetCookie`, fields as `[(name, value)]`, and an `Option` or `Vec` of one of these"
)]
pub trait ResponsePart {
    /// Changes the response.
    ///
    /// # Errors
    /// A field that must not be sent; the whole response is then a 500.
    fn apply(self, response: &mut Response) -> Result<(), InvalidField>;
}

impl IntoResponse for Response {
    fn into_response(self) -> Response {
        self
    }
}

impl IntoResponse for () {
    fn into_response(self) -> Response {
        Response::new(StatusCode::NO_CONTENT)
    }
}

impl IntoResponse for StatusCode {
    fn into_response(self) -> Response {
        if self.as_u16() < 400 { Response::new(self) } else { Problem::new(self).into_response() }
    }
}

impl IntoResponse for &'static str {
    fn into_response(self) -> Response {
        Response::bytes(StatusCode::OK, TEXT, self)
    }
}

impl IntoResponse for String {
    fn into_response(self) -> Response {
        Response::bytes(StatusCode::OK, TEXT, self)
    }
}

impl IntoResponse for Bytes {
    fn into_response(self) -> Response {
        Response::bytes(StatusCode::OK, "application/octet-stream", self)
    }
}

impl IntoResponse for Vec<u8> {
    fn into_response(self) -> Response {
        Bytes::from(self).into_response()
    }
}

impl<T: IntoResponse, E: IntoResponse> IntoResponse for Result<T, E> {
    fn into_response(self) -> Response {
        match self {
            Ok(value) => value.into_response(),
            Err(error) => error.into_response(),
        }
    }
}

/// The media type of text.
const TEXT: &str = "text/plain; charset=utf-8";

/// JSON: as a result, the value serialised; as an extractor, the content parsed.
///
/// The extractor answers 415 without a JSON `Content-Type`, 400 for malformed JSON, 422 for JSON of the wrong shape
/// and 413 for too much of it.
///
/// ```
/// use weaprous::prelude::*;
/// use weaprous::testing::Client;
///
/// let app = App::new().route("/double", [POST], async |Json(number): Json<u32>| Json(number * 2));
/// let client = Client::new(app);
/// assert_eq!(client.post("/double").json(&21).send().json::<u32>(), 42);
/// assert_eq!(client.post("/double").json("x").send().status().as_u16(), 422);
/// assert_eq!(client.post("/double").body("21").send().status().as_u16(), 415);
/// ```
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Json<T>(pub T);

impl<T: Serialize> IntoResponse for Json<T> {
    fn into_response(self) -> Response {
        match json_bytes(&self.0) {
            Ok(bytes) => Response::bytes(StatusCode::OK, "application/json", bytes),
            Err(error) => Problem::internal(error).into_response(),
        }
    }
}

/// Longest JSON that is written into the worker's own buffer first: it is then copied into an allocation of just its
/// length, which is cheaper than one that grows.
const JSON_SCRATCH_BYTES: usize = 8 * 1024;

thread_local! {
    static JSON_SCRATCH: Cell<Vec<u8>> = const { Cell::new(Vec::new()) };
}

fn json_bytes(value: &impl Serialize) -> serde_json::Result<Bytes> {
    // Whatever is serialised inside of this value finds an empty one in its place.
    let mut scratch = JSON_SCRATCH.take();
    scratch.clear();
    serde_json::to_writer(&mut scratch, value)?;
    if scratch.len() > JSON_SCRATCH_BYTES {
        return Ok(scratch.into());
    }
    let bytes = Bytes::copy_from_slice(&scratch);
    JSON_SCRATCH.set(scratch);
    Ok(bytes)
}

/// A page, as it is sent. [`html!`](crate::html!) writes one and escapes what goes into it; around text of one's own
/// making, escaped already (see [`escape_html`](crate::problem::escape_html)), stands `Html(text)`.
///
/// ```
/// use weaprous::{html, prelude::*};
/// use weaprous::testing::Client;
///
/// async fn greet(Path(name): Path<String>) -> Html {
///     html!("<!doctype html><title>Hello</title><p>Hello, {}!", name)
/// }
///
/// let page = Client::new(App::new().route("/{name}", [GET], greet)).get("/%3Cb%3E").send();
/// assert_eq!(page.field("content-type"), Some("text/html; charset=utf-8"));
/// assert!(page.text().ends_with("Hello, &lt;b&gt;!"));
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Html<T = String>(pub T);

impl<T: Into<String>> IntoResponse for Html<T> {
    fn into_response(self) -> Response {
        Response::bytes(StatusCode::OK, "text/html; charset=utf-8", self.0.into())
    }
}

/// Sends the client elsewhere.
///
/// ```
/// use weaprous::prelude::*;
/// use weaprous::testing::Client;
///
/// let app = App::new().route("/tasks", [POST], async || Redirect::see_other("/tasks/7"));
/// let response = Client::new(app).post("/tasks").send();
/// assert_eq!((response.status().as_u16(), response.field("location")), (303, Some("/tasks/7")));
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Redirect {
    status: StatusCode,
    location: String,
}

impl Redirect {
    /// 303: look there with `GET`; the answer to a form.
    pub fn see_other(location: impl AsRef<str>) -> Self {
        Self::with(StatusCode::SEE_OTHER, location)
    }

    /// 302: for now, the page is there.
    pub fn to(location: impl AsRef<str>) -> Self {
        Self::with(StatusCode::FOUND, location)
    }

    /// 307: for now, send the same request there.
    ///
    /// ```
    /// use weaprous::{Redirect, prelude::*};
    /// let status = |redirect: Redirect| redirect.into_response().status.as_u16();
    /// assert_eq!((status(Redirect::to("/now")), status(Redirect::see_other("/done"))), (302, 303));
    /// assert_eq!((status(Redirect::temporary("/new")), status(Redirect::permanent("/new"))), (307, 308));
    /// ```
    pub fn temporary(location: impl AsRef<str>) -> Self {
        Self::with(StatusCode::TEMPORARY_REDIRECT, location)
    }

    /// 308: for good, send the same request there.
    pub fn permanent(location: impl AsRef<str>) -> Self {
        Self::with(StatusCode::PERMANENT_REDIRECT, location)
    }

    fn with(status: StatusCode, location: impl AsRef<str>) -> Self {
        Self { status, location: percent::escape_reference(location.as_ref()) }
    }
}

impl IntoResponse for Redirect {
    fn into_response(self) -> Response {
        Response::new(self.status).field("location", self.location)
    }
}

/// The target if it leads to a path on this very site, for `?next=` parameters: anything that a browser could read
/// as another host, and anything unprintable, is `None`.
///
/// ```
/// use weaprous::response::local_target;
/// assert_eq!(local_target("/chat.html?c=general"), Some("/chat.html?c=general"));
/// assert_eq!(local_target("//evil.example"), None);
/// assert_eq!(local_target("/\\evil.example"), None);
/// assert_eq!(local_target("https://evil.example"), None);
/// ```
pub fn local_target(target: &str) -> Option<&str> {
    let is_path = target.starts_with('/') && !target.starts_with("//");
    // Browsers read a backslash as a slash, and drop tabs and line ends before they parse.
    let is_clean = target.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'\\');
    (is_path && is_clean).then_some(target)
}

impl ResponsePart for StatusCode {
    fn apply(self, response: &mut Response) -> Result<(), InvalidField> {
        response.status = self;
        Ok(())
    }
}

impl ResponsePart for SetCookie {
    fn apply(self, response: &mut Response) -> Result<(), InvalidField> {
        response.fields.append("set-cookie", self.as_str())
    }
}

impl<V: AsRef<[u8]>, const N: usize> ResponsePart for [(&str, V); N] {
    fn apply(self, response: &mut Response) -> Result<(), InvalidField> {
        self.into_iter().try_for_each(|(name, value)| response.fields.set(name, value))
    }
}

impl<P: ResponsePart> ResponsePart for Option<P> {
    fn apply(self, response: &mut Response) -> Result<(), InvalidField> {
        self.map_or(Ok(()), |part| part.apply(response))
    }
}

impl<P: ResponsePart> ResponsePart for Vec<P> {
    fn apply(self, response: &mut Response) -> Result<(), InvalidField> {
        self.into_iter().try_for_each(|part| part.apply(response))
    }
}

macro_rules! tuples {
    ($($part:ident)*) => {
        impl<$($part: ResponsePart,)* T: IntoResponse> IntoResponse for ($($part,)* T) {
            #[allow(non_snake_case, reason = "parts are named after their types")]
            fn into_response(self) -> Response {
                let ($($part,)* content) = self;
                let mut response = content.into_response();
                $(if let Err(error) = $part.apply(&mut response) {
                    return Problem::internal(error).into_response();
                })*
                response
            }
        }
    };
}

tuples!(P1);
tuples!(P1 P2);
tuples!(P1 P2 P3);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_paths_of_this_site_are_local() {
        for target in ["/", "/a?b=c#d", "/a//b", "/@evil.example"] {
            assert_eq!(local_target(target), Some(target));
        }
        for target in ["", "a", "//a", "///a", "/\\a", "/\t/a", "/a\r\nX: y", "javascript:alert(1)", "/é", "/a b"] {
            assert_eq!(local_target(target), None, "{target:?}");
        }
    }

    #[test]
    fn locations_cannot_split_the_response() {
        let response = Redirect::see_other("/a\r\nSet-Cookie: x=y").into_response();
        assert_eq!(response.fields.get("location"), Some(b"/a%0D%0ASet-Cookie:%20x=y".as_slice()));
    }

    #[test]
    fn a_field_with_a_line_end_is_a_500_and_never_sent() {
        let response = ([("x-name", "a\r\nSet-Cookie: x=y")], "text").into_response();
        assert_eq!(response.status, StatusCode::INTERNAL_SERVER_ERROR);
        assert_eq!(response.fields.get("x-name"), None);
        assert_eq!(response.fields.get("set-cookie"), None);
    }

    #[test]
    fn parts_change_the_content_s_response() {
        let response = (StatusCode::CREATED, [("content-type", "text/x")], "text").into_response();
        assert_eq!(response.status, StatusCode::CREATED);
        assert_eq!(response.fields.get_all("content-type").collect::<Vec<_>>(), [b"text/x"]);
    }
}
