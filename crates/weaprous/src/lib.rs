//! A web framework: routes, extractors, responses, cookies, sessions, files and event streams over [`engine`].
//!
//! Knows no application. An [`App`] is put together from async functions, checked once, and shared by all workers;
//! handlers stay on the worker their connection belongs to, so their futures need not be `Send`.
//!
//! ```
//! use serde::{Deserialize, Serialize};
//! use weaprous::prelude::*;
//!
//! #[derive(Deserialize)]
//! struct Greeting {
//!     name: String,
//! }
//!
//! #[derive(Serialize)]
//! struct Answer {
//!     text: String,
//! }
//!
//! async fn greet(Json(greeting): Json<Greeting>) -> Result<Json<Answer>, Problem> {
//!     if greeting.name.is_empty() {
//!         return Err(Problem::unprocessable("`name` must not be empty"));
//!     }
//!     Ok(Json(Answer { text: format!("Hello, {}!", greeting.name) }))
//! }
//!
//! fn main() -> Result<(), Box<dyn std::error::Error>> {
//!     let bound = App::new().route("/greet", [POST], greet).prepare_address("127.0.0.1", 0)?;
//!     println!("http://{}/greet", bound.local_addr());
//!     let stop = Stop::new(); // whoever cancels it, ends the server in order
//! #   stop.cancel();
//!     bound.run(stop)?;
//!     Ok(())
//! }
//! ```
//!
//! Tests ask an application without a socket, in plain `#[test]` functions: see [`testing`].
//!
//! A program of its own names it by its path, or by the address of its repository, and brings `serde`:
//!
//! ```toml
//! [dependencies]
//! weaprous = { path = "../weaprous/crates/weaprous", features = ["compression"] }
//! serde = { version = "1", features = ["derive"] }
//! tokio = { version = "1", features = ["rt", "time"] } # for what a handler does beside its answer
//! ```
//!
//! Handlers run on [Tokio](https://docs.rs/tokio): its timers, channels and sockets work in them, `tokio::task::spawn_local`
//! starts what goes on beside, and what blocks (disk, hashing) belongs into `tokio::task::spawn_blocking`, since a
//! worker that is blocked answers nobody:
//!
//! ```
//! use weaprous::prelude::*;
//! use weaprous::testing::Client;
//!
//! async fn lines() -> Result<String, Problem> {
//!     let text = tokio::task::spawn_blocking(|| std::fs::read_to_string("Cargo.toml")).await;
//!     let text = text.map_err(Problem::internal)?.map_err(Problem::internal)?;
//!     Ok(text.lines().count().to_string())
//! }
//! let answer = Client::new(App::new().route("/", [GET], lines)).get("/").send();
//! assert!(answer.text().parse::<usize>().is_ok_and(|lines| lines > 0));
//! ```
//!
//! # Where things are
//!
//! | to | look at |
//! |---|---|
//! | add routes, nest applications, answer 404 in one's own way | [`App`] |
//! | know what a handler may ask for, and what it may answer | [`extract`], [`IntoResponse`] |
//! | write a page, with what others wrote in it | [`html!`] |
//! | refuse a request | [`Problem`] |
//! | do something around handlers | [`Layer`]; ready-made ones, such as CORS and rate limits: [`layers`], [`compress`] |
//! | read and set cookies, sign or encrypt them, log people in | [`cookie`], [`sealed`], [`session`] |
//! | know why a form is refused with 403 | [`Csrf`] |
//! | send files, take files | [`Files`], [`multipart`] |
//! | talk on after the answer | [`sse`], [`websocket`] |
//! | set deadlines, several addresses, TLS | [`App::into_service`], [`engine::Settings`], [`engine::Tls`] |
//! | stop in order, at Ctrl-C for one | [`Bound::run_until_signal`], [`Bound::run`], [`stop_at_signals`] |
//! | test | [`testing`] |
//!
//! What goes wrong, the causes of 500s above all, is told to [`tracing`](https://docs.rs/tracing), and to clients only that
//! it did: a program prints it once it has a subscriber, such as `tracing_subscriber::fmt::init()`.
//!
//! # Features
//!
//! | feature | what it adds |
//! |---|---|
//! | `multipart` (on) | the module `multipart`: forms with files, received to disk |
//! | `websocket` (on) | the module `websocket` |
//! | `compression` | the module `compress`: gzip, Brotli, Zstandard; links their encoders |
//! | `tower` | the module `interop`: `tower` services and axum routers; the types of the `http` crate |
//! | `full` | all of them |

#![deny(missing_docs)]

/// What the README shows, and what it points to, compiles as a program of its own would.
#[cfg(doctest)]
mod readme {
    #[doc = include_str!("../../../README.md")]
    struct Shown;

    #[doc = concat!("```no_run\n", include_str!("../examples/todo.rs"), "\n```")]
    struct PointedTo;
}

mod accept;
mod app;
#[cfg(feature = "compression")]
pub mod compress;
pub mod cookie;
mod csrf;
pub mod extract;
pub mod files;
mod handler;
pub mod html;
#[cfg(feature = "tower")]
pub mod interop;
mod layer;
pub mod layers;
#[cfg(feature = "multipart")]
pub mod multipart;
mod pairs;
pub mod percent;
pub mod problem;
mod request;
pub mod response;
mod router;
pub mod sealed;
mod service;
pub mod session;
mod signals;
pub mod sse;
pub mod testing;
#[cfg(feature = "websocket")]
pub mod websocket;

pub use app::{App, Bound, GRACE, Route, ServeError};
pub use bytes::Bytes;
pub use cookie::{CookieBuilder, Cookies, SetCookie};
pub use csrf::Csrf;
#[doc(inline)]
pub use engine::{self, Body, Method, Response, StatusCode, Stop};
pub use extract::{ClientAddr, Form, FromParts, FromRequest, LastEventId, Path, Query, State};
pub use files::{EmbeddedFile, FileCache, Files, Freshness};
pub use handler::{Handler, LocalBoxFuture};
pub use layer::{Layer, Next};
pub use pairs::PAIRS_MAX;
pub use problem::Problem;
pub use request::{Parts, Request};
pub use response::{Html, IntoResponse, Json, Redirect, ResponsePart};
pub use router::{RouteError, SEGMENTS_MAX};
pub use service::{AppService, Prepared};
pub use session::{MemorySessions, Session, Sessions};
pub use signals::stop_at_signals;
pub use sse::{Event, Sse, SseSender};

/// `GET`, for [`App::route`].
pub const GET: Method = Method::Get;
/// `HEAD`, which `GET` routes answer by themselves.
pub const HEAD: Method = Method::Head;
/// `POST`, for [`App::route`].
pub const POST: Method = Method::Post;
/// `PUT`, for [`App::route`].
pub const PUT: Method = Method::Put;
/// `PATCH`, for [`App::route`].
pub const PATCH: Method = Method::Patch;
/// `DELETE`, for [`App::route`].
pub const DELETE: Method = Method::Delete;
/// `OPTIONS`, which all routes answer by themselves.
pub const OPTIONS: Method = Method::Options;

/// What most applications use.
pub mod prelude {
    pub use crate::{
        App, ClientAddr, CookieBuilder, Cookies, DELETE, Event, Form, GET, Html, IntoResponse, Json, LastEventId,
        Method, Next, OPTIONS, PATCH, POST, PUT, Path, Problem, Query, Redirect, Request, Response, Route, Session,
        Sessions, Sse, SseSender, State, StatusCode, Stop,
    };
}
