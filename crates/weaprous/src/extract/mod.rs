//! Extractors: what a handler wants to know, said by the types of its arguments.
//!
//! Each answers for itself when the request lacks it, with the status that fits and a sentence that says what to
//! change. Errors are [`Problem`]s; `Result<T, Problem>` as an argument leaves the decision to the handler.
//!
//! ```
//! use weaprous::prelude::*;
//! use weaprous::testing::Client;
//!
//! async fn save(Path(id): Path<u64>, cookies: Cookies, Json(words): Json<Vec<String>>) -> String {
//!     format!("{id} {} {}", cookies.get("theme").unwrap_or("light"), words.join(" "))
//! }
//!
//! let client = Client::new(App::new().route("/notes/{id}", [PUT], save));
//! let request = client.put("/notes/7").field("sec-fetch-site", "same-origin").cookie("theme", "dark");
//! assert_eq!(request.json(&["one", "two"]).send().text(), "7 dark one two");
//! assert_eq!(client.put("/notes/x").json(&["one"]).send().status().as_u16(), 400);
//! ```
//!
//! | extractor | what it is |
//! |---|---|
//! | [`Path`], [`Query`] | parameters of the path and of the query, parsed |
//! | [`State`] | what the application shares |
//! | [`Cookies`](crate::Cookies), [`Session`](crate::Session), [`ClientAddr`], [`LastEventId`], [`Method`](crate::Method) | what else the head says |
//! | [`Stop`](crate::Stop) | the server's stop, for handlers that take long |
//! | [`Json`](crate::Json), [`Form`], [`Multipart`](crate::multipart), `String`, [`Bytes`](crate::Bytes) | the content |
//! | [`WebSocketUpgrade`](crate::websocket) | the connection, from now on a WebSocket |
//! | [`Request`] | everything, with the content unread; a field is `request.field("accept")` |
//!
//! Those of the last three lines stand last. One's own are [`FromParts`] and [`FromRequest`].

mod content;
mod parts;

pub use content::Form;
pub use parts::{ClientAddr, LastEventId, Path, Query, State};

use crate::problem::Problem;
use crate::request::Request;

/// An extractor that leaves the content alone.
///
/// ```
/// use weaprous::testing::Client;
/// use weaprous::{FromParts, prelude::*};
///
/// /// The languages a client asks for.
/// struct Languages(Vec<String>);
///
/// impl FromParts for Languages {
///     async fn from_parts(request: &Request) -> Result<Self, Problem> {
///         let field = request.field("accept-language");
///         let field = field.ok_or_else(|| Problem::bad_request("say which language you read"))?;
///         Ok(Self(field.split(',').map(|tag| tag.trim().to_owned()).collect()))
///     }
/// }
///
/// let app = App::new().route("/", [GET], async |Languages(all): Languages| all.join("+"));
/// let client = Client::new(app);
/// assert_eq!(client.get("/").field("accept-language", "vi, en").send().text(), "vi+en");
/// assert_eq!(client.get("/").send().status().as_u16(), 400);
/// ```
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot be extracted here",
    note = "extractors of the content (`Json`, `Form`, `Bytes`, `String`, `Request`) come last"
)]
pub trait FromParts: Sized {
    /// Extracts, or says what is wrong with the request.
    fn from_parts(request: &Request) -> impl Future<Output = Result<Self, Problem>>;
}

/// An extractor that takes the whole request; only the last argument can. `Via` tells it from [`FromParts`], which
/// may stand last too.
///
/// ```
/// use weaprous::extract::ViaBody;
/// use weaprous::testing::Client;
/// use weaprous::{FromRequest, prelude::*};
///
/// /// Content as lines of text.
/// struct Lines(Vec<String>);
///
/// impl FromRequest<ViaBody> for Lines {
///     async fn from_request(request: Request) -> Result<Self, Problem> {
///         let text: String = request.read().await?;
///         Ok(Self(text.lines().map(str::to_owned).collect()))
///     }
/// }
///
/// let app = App::new().route("/", [POST], async |Lines(lines): Lines| lines.len().to_string());
/// assert_eq!(Client::new(app).post("/").body("a\nb\nc").send().text(), "3");
/// ```
#[diagnostic::on_unimplemented(message = "`{Self}` is not an extractor")]
pub trait FromRequest<Via = ViaBody>: Sized {
    /// Extracts, or says what is wrong with the request.
    fn from_request(request: Request) -> impl Future<Output = Result<Self, Problem>>;
}

/// Marks extractors that read the content.
#[derive(Debug, Clone, Copy)]
pub enum ViaBody {}

/// Marks extractors that do not.
#[derive(Debug, Clone, Copy)]
pub enum ViaParts {}

impl<T: FromParts> FromRequest<ViaParts> for T {
    async fn from_request(request: Request) -> Result<Self, Problem> {
        T::from_parts(&request).await
    }
}

impl<T: FromParts> FromParts for Result<T, Problem> {
    async fn from_parts(request: &Request) -> Result<Self, Problem> {
        Ok(T::from_parts(request).await)
    }
}

impl<T: FromRequest<ViaBody>> FromRequest<ViaBody> for Result<T, Problem> {
    async fn from_request(request: Request) -> Result<Self, Problem> {
        Ok(T::from_request(request).await)
    }
}
