//! Errors as responses: problem documents (RFC 9457) for programs, pages for people.
//!
//! A handler returns a [`Problem`]. It leaves as `application/problem+json`, unless the client's `Accept` prefers
//! HTML: then the application turns it into a page at the very end, whoever made it.
//!
//! ```
//! use weaprous::prelude::*;
//! use weaprous::testing::Client;
//!
//! let app = App::new().route("/", [GET], async || Problem::conflict("somebody was faster").member("by", "ann"));
//! let client = Client::new(app);
//! let document = client.get("/").send();
//! assert_eq!(document.field("content-type"), Some("application/problem+json"));
//! assert_eq!(document.text(), r#"{"by":"ann","detail":"somebody was faster","status":409,"title":"Conflict"}"#);
//! let page = client.get("/").field("accept", "text/html").send();
//! assert!(page.text().contains("<h1>409 Conflict</h1>"));
//! ```

use crate::accept;
use crate::response::IntoResponse;
use engine::{Body, BodyError, Fields, InvalidField, Response, StatusCode};
use serde_json::{Map, Value};
use std::fmt::{self, Write};

/// Media type of problem documents (RFC 9457 §3).
pub const PROBLEM_JSON: &str = "application/problem+json";

/// Why a request failed, in words for the one who sent it.
///
/// ```
/// use weaprous::prelude::*;
/// let problem = Problem::new(StatusCode::NOT_FOUND).detail("no task has this number").member("task", 7);
/// assert_eq!(problem.to_string(), "404 Not Found: no task has this number");
/// ```
#[derive(Debug, Clone, PartialEq)]
pub struct Problem {
    status: StatusCode,
    title: String,
    detail: Option<String>,
    members: Map<String, Value>,
    fields: Fields,
}

impl Problem {
    /// A problem titled with the customary phrase of its status.
    pub fn new(status: StatusCode) -> Self {
        Self { status, title: title_of(status), detail: None, members: Map::new(), fields: Fields::new() }
    }

    /// 400: the request cannot be understood.
    pub fn bad_request(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST).detail(detail)
    }

    /// 401: no valid credentials came with the request. Names the scheme that programs use (RFC 9110 §15.5.2).
    ///
    /// ```
    /// use weaprous::prelude::*;
    ///
    /// let problem = Problem::unauthorized("log in first");
    /// assert_eq!((problem.status().as_u16(), problem.detail_text()), (401, Some("log in first")));
    /// assert_eq!(problem.fields().get_str("www-authenticate"), Some("Bearer"));
    /// assert_eq!(Problem::too_many_requests("slower, please", 30).fields().get_str("retry-after"), Some("30"));
    /// assert_eq!(Problem::unavailable("back in a minute", 60).status(), StatusCode::SERVICE_UNAVAILABLE);
    /// ```
    pub fn unauthorized(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::UNAUTHORIZED).detail(detail).own_field("www-authenticate", "Bearer")
    }

    /// 403: the credentials are fine and do not suffice.
    pub fn forbidden(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::FORBIDDEN).detail(detail)
    }

    /// 404: there is no such thing.
    pub fn not_found(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::NOT_FOUND).detail(detail)
    }

    /// 409: it clashes with what is there.
    pub fn conflict(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::CONFLICT).detail(detail)
    }

    /// 422: well-formed, but what it says makes no sense here.
    pub fn unprocessable(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::UNPROCESSABLE_CONTENT).detail(detail)
    }

    /// 429: too much, too fast; says when to come back.
    pub fn too_many_requests(detail: impl Into<String>, retry_after_s: u64) -> Self {
        let problem = Self::new(StatusCode::TOO_MANY_REQUESTS).detail(detail);
        problem.own_field("retry-after", &retry_after_s.to_string())
    }

    /// 503: not now; says when to come back.
    pub fn unavailable(detail: impl Into<String>, retry_after_s: u64) -> Self {
        let problem = Self::new(StatusCode::SERVICE_UNAVAILABLE).detail(detail);
        problem.own_field("retry-after", &retry_after_s.to_string())
    }

    /// 500: our fault. The cause goes to the log; the client learns only that there is one.
    pub fn internal(cause: impl fmt::Display) -> Self {
        tracing::error!(cause = %cause, "request failed");
        Self::new(StatusCode::INTERNAL_SERVER_ERROR).detail("the server could not do this; its log says why")
    }

    /// Replaces the title: the kind of problem, the same for every occurrence.
    pub fn title(mut self, title: impl Into<String>) -> Self {
        self.title = title.into();
        self
    }

    /// Says what happened this time and what to do about it.
    pub fn detail(mut self, detail: impl Into<String>) -> Self {
        self.detail = Some(detail.into());
        self
    }

    /// Adds an extension member for programs (RFC 9457 §3.2). The standard members cannot be replaced this way.
    pub fn member(mut self, name: &str, value: impl Into<Value>) -> Self {
        if !matches!(name, "type" | "title" | "status" | "detail") {
            self.members.insert(name.to_owned(), value.into());
        }
        self
    }

    /// Adds a header field to the response.
    ///
    /// # Errors
    /// The name is no token, or the value holds a control byte.
    pub fn field(mut self, name: &str, value: impl AsRef<[u8]>) -> Result<Self, InvalidField> {
        self.fields.append(name, value)?;
        Ok(self)
    }

    /// A field whose name and value are known to be clean.
    pub(crate) fn own_field(mut self, name: &str, value: &str) -> Self {
        self.fields.append(name, value).expect("a token and visible ASCII");
        self
    }

    /// The status of the response.
    pub fn status(&self) -> StatusCode {
        self.status
    }

    /// What happened this time.
    pub fn detail_text(&self) -> Option<&str> {
        self.detail.as_deref()
    }

    /// The fields added to it.
    pub fn fields(&self) -> &Fields {
        &self.fields
    }

    fn document(&self) -> Value {
        let mut document = Map::new();
        document.insert("title".to_owned(), Value::from(self.title.as_str()));
        document.insert("status".to_owned(), Value::from(self.status.as_u16()));
        if let Some(detail) = &self.detail {
            document.insert("detail".to_owned(), Value::from(detail.as_str()));
        }
        document.extend(self.members.clone());
        Value::Object(document)
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.status, self.title)?;
        self.detail.as_ref().map_or(Ok(()), |detail| write!(f, ": {detail}"))
    }
}

impl std::error::Error for Problem {}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let mut response = Response::bytes(self.status, PROBLEM_JSON, self.document().to_string());
        match response.fields.extend(&self.fields) {
            Ok(()) => response,
            Err(error) => Problem::internal(error).into_response(), // has no fields of its own
        }
    }
}

impl From<BodyError> for Problem {
    fn from(error: BodyError) -> Self {
        Self::new(error.status()).detail(error.to_string())
    }
}

impl From<InvalidField> for Problem {
    fn from(error: InvalidField) -> Self {
        Self::internal(error)
    }
}

impl From<crate::cookie::CookieError> for Problem {
    fn from(error: crate::cookie::CookieError) -> Self {
        Self::internal(error)
    }
}

/// A whole HTML page for a status: heading, detail, nothing else. Everything is escaped.
///
/// ```
/// use weaprous::{StatusCode, problem};
/// let page = problem::error_page(StatusCode::NOT_FOUND, "Not Found", Some("no <task> has this number"));
/// assert!(page.contains("<h1>404 Not Found</h1>\n<p>no &lt;task&gt; has this number</p>"));
/// ```
pub fn error_page(status: StatusCode, title: &str, detail: Option<&str>) -> String {
    let mut page = String::with_capacity(512);
    let title = escape_html(title);
    let _ = write!(
        page,
        "<!doctype html>\n<html lang=\"en\">\n<meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width\">\n\
         <meta name=\"color-scheme\" content=\"light dark\">\n<title>{status} {title}</title>\n\
         <h1>{status} {title}</h1>\n"
    );
    if let Some(detail) = detail {
        let _ = writeln!(page, "<p>{}</p>", escape_html(detail));
    }
    page.push_str("<p><a href=\"/\">Home</a></p>\n</html>\n");
    page
}

/// Makes text fit for HTML content and for quoted attribute values.
///
/// ```
/// use weaprous::problem::escape_html;
/// assert_eq!(escape_html("<b title='x'>Q&A</b>"), "&lt;b title=&#39;x&#39;&gt;Q&amp;A&lt;/b&gt;");
/// ```
///
/// [`html!`](crate::html!) does it by itself.
pub fn escape_html(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let _ = write_escaped(&mut out, text); // a string takes everything
    out
}

/// As [`escape_html`], to where it is wanted.
pub(crate) fn write_escaped(out: &mut dyn Write, text: &str) -> fmt::Result {
    let mut rest = text;
    while let Some(at) = rest.find(['&', '<', '>', '"', '\'']) {
        out.write_str(&rest[..at])?;
        out.write_str(match rest.as_bytes()[at] {
            b'&' => "&amp;",
            b'<' => "&lt;",
            b'>' => "&gt;",
            b'"' => "&quot;",
            _ => "&#39;",
        })?;
        rest = &rest[at + 1..];
    }
    out.write_str(rest)
}

/// Turns a problem document into a page if the client's `Accept` prefers one. Other responses pass untouched.
pub(crate) fn present(response: &mut Response, accept: Option<&str>) {
    if response.status.as_u16() < ERROR_MIN || response.fields.get("content-type") != Some(PROBLEM_JSON.as_bytes()) {
        return;
    }
    // The same address answers both ways, so caches must not mix them up (RFC 9110 §12.5.5).
    if response.fields.append("vary", "Accept").is_err() || !accept.is_some_and(accept::prefers_html) {
        return;
    }
    let Some(page) = page_of(response) else { return };
    if response.fields.set("content-type", "text/html; charset=utf-8").is_ok() {
        response.body = Body::from(page);
    }
}

/// Lowest status that says that something went wrong (RFC 9110 §15).
const ERROR_MIN: u16 = 400;

fn page_of(response: &Response) -> Option<String> {
    let Body::Full(bytes) = &response.body else { return None };
    let document: Value = serde_json::from_slice(bytes).ok()?;
    let title = document["title"].as_str().map_or_else(|| title_of(response.status), str::to_owned);
    Some(error_page(response.status, &title, document["detail"].as_str()))
}

fn title_of(status: StatusCode) -> String {
    if status.reason().is_empty() { "Error".to_owned() } else { status.reason().to_owned() }
}
