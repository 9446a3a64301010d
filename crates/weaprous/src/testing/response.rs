//! An answer, with content that is read as it comes.

use super::events::{EventReader, ReceivedEvent};
use super::wired;
use bytes::Bytes;
use engine::{Body, BodyError, Fields, Method, ParseError, ResponseHead, StatusCode};
use serde::de::DeserializeOwned;
use std::cell::RefCell;
use std::fmt;
use std::rc::Rc;
use tokio::runtime::LocalRuntime;

/// Most bytes that are collected of one answer; more is a stream, to be read by chunks.
pub const CONTENT_BYTES_MAX: u64 = 256 * 1024 * 1024;

/// An answer to a [`Client`](super::Client). Reading its content waits for it.
pub struct Response {
    head: ResponseHead,
    content: RefCell<Content>,
    runtime: Rc<LocalRuntime>,
}

/// An answer to an [`AsyncClient`](super::AsyncClient).
///
/// ```
/// use weaprous::prelude::*;
/// use weaprous::testing::{AsyncClient, AsyncResponse};
///
/// async fn twice() -> Result<impl IntoResponse, Problem> {
///     let cookies = vec![CookieBuilder::new("a", "1").build()?, CookieBuilder::new("b", "2").build()?];
///     Ok((cookies, "hello"))
/// }
///
/// # let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
/// # runtime.block_on(async {
/// let client = AsyncClient::new(App::new().route("/", [GET], twice));
/// let mut answer: AsyncResponse = client.get("/").send().await;
/// assert_eq!(answer.fields_named("set-cookie").collect::<Vec<_>>(), ["a=1", "b=2"]);
/// assert_eq!(answer.text().await, "hello");
/// assert!(answer.trailers().is_none());
/// # });
/// ```
pub struct AsyncResponse {
    head: ResponseHead,
    content: Content,
}

struct Content {
    body: Body,
    /// What was collected already: content can be looked at twice.
    collected: Option<Bytes>,
    events: EventReader,
}

macro_rules! heads {
    ($response:ident) => {
        impl $response {
            /// The status.
            pub fn status(&self) -> StatusCode {
                self.head.status()
            }

            /// The value of the first field of this name, as text.
            pub fn field(&self, name: &str) -> Option<&str> {
                self.head.field_str(name)
            }

            /// The values of all fields of this name that are text.
            pub fn fields_named(&self, name: &str) -> impl Iterator<Item = &str> {
                self.head.fields_named(name).filter_map(|value| std::str::from_utf8(value).ok())
            }

            /// The whole head.
            pub fn head(&self) -> &ResponseHead {
                &self.head
            }
        }

        impl fmt::Debug for $response {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.debug_struct(stringify!($response)).field("status", &self.head.status()).finish_non_exhaustive()
            }
        }
    };
}

heads!(Response);
heads!(AsyncResponse);

impl Response {
    pub(super) fn new(response: AsyncResponse, runtime: Rc<LocalRuntime>) -> Self {
        Self { head: response.head, content: RefCell::new(response.content), runtime }
    }

    /// All of the content. It can be asked for again.
    ///
    /// # Panics
    /// If it breaks off, or is longer than [`CONTENT_BYTES_MAX`].
    pub fn bytes(&self) -> Bytes {
        self.runtime.block_on(self.content.borrow_mut().bytes())
    }

    /// All of the content as text.
    ///
    /// # Panics
    /// As [`Response::bytes`], and if it is not UTF-8.
    pub fn text(&self) -> String {
        text(&self.bytes())
    }

    /// All of the content, parsed as JSON.
    ///
    /// # Panics
    /// As [`Response::bytes`], and if it is no JSON of this shape.
    pub fn json<T: DeserializeOwned>(&self) -> T {
        json(&self.bytes())
    }

    /// The next piece of the content, `None` at its end.
    pub fn chunk(&self) -> Option<Result<Bytes, BodyError>> {
        self.runtime.block_on(self.content.borrow_mut().body.chunk())
    }

    /// The next server-sent event, `None` at the end of the stream. Comments are passed over.
    ///
    /// ```
    /// use weaprous::prelude::*;
    /// use weaprous::testing::Client;
    ///
    /// let app = App::new().route("/", [GET], async || {
    ///     Sse::new(async |sender: SseSender| {
    ///         sender.send(Event::new().event("tick").id(1).data("one")).await?;
    ///         sender.send(Event::new().data("two")).await
    ///     })
    /// });
    /// let events = Client::new(app).get("/").send();
    /// let first = events.event().expect("one has come");
    /// assert_eq!((first.event.as_str(), first.id.as_deref(), first.data.as_str()), ("tick", Some("1"), "one"));
    /// assert_eq!(events.event().expect("another has come").data, "two");
    /// assert!(events.event().is_none());
    /// ```
    ///
    /// # Panics
    /// If the stream breaks off, or is no event stream.
    pub fn event(&self) -> Option<ReceivedEvent> {
        self.runtime.block_on(self.content.borrow_mut().event())
    }
}

impl AsyncResponse {
    pub(super) fn receive(response: engine::Response, method: Method) -> Self {
        match wired::receive_response(response, method) {
            Ok((head, body)) => Self { head, content: Content::new(body) },
            Err(error) => panic!("the application's answer cannot be read: {error}"),
        }
    }

    /// What the engine says of a request that cannot be parsed.
    pub(super) fn refused(error: ParseError, method: Method) -> Self {
        Self::receive(engine::Response::text(error.status(), format!("{error}\n")), method)
    }

    /// As [`Response::bytes`].
    pub async fn bytes(&mut self) -> Bytes {
        self.content.bytes().await
    }

    /// As [`Response::text`].
    pub async fn text(&mut self) -> String {
        text(&self.bytes().await)
    }

    /// As [`Response::json`].
    pub async fn json<T: DeserializeOwned>(&mut self) -> T {
        json(&self.bytes().await)
    }

    /// As [`Response::chunk`].
    pub async fn chunk(&mut self) -> Option<Result<Bytes, BodyError>> {
        self.content.body.chunk().await
    }

    /// As [`Response::event`].
    pub async fn event(&mut self) -> Option<ReceivedEvent> {
        self.content.event().await
    }

    /// The fields after the content, once it was read to its end.
    pub fn trailers(&mut self) -> Option<Fields> {
        self.content.body.trailers()
    }
}

impl Content {
    fn new(body: Body) -> Self {
        Self { body, collected: None, events: EventReader::default() }
    }

    async fn bytes(&mut self) -> Bytes {
        if self.collected.is_none() {
            let rest = std::mem::take(&mut self.body).collect(CONTENT_BYTES_MAX).await;
            self.collected = Some(rest.unwrap_or_else(|error| panic!("the content broke off: {error}")));
        }
        self.collected.clone().unwrap_or_default()
    }

    async fn event(&mut self) -> Option<ReceivedEvent> {
        loop {
            if let Some(event) = self.events.next() {
                return Some(event);
            }
            match self.body.chunk().await? {
                Ok(chunk) => self.events.push(&chunk),
                Err(error) => panic!("the event stream broke off: {error}"),
            }
        }
    }
}

fn text(bytes: &Bytes) -> String {
    String::from_utf8(bytes.to_vec()).expect("the content is text")
}

fn json<T: DeserializeOwned>(bytes: &Bytes) -> T {
    serde_json::from_slice(bytes)
        .unwrap_or_else(|error| panic!("{error} in the content: {}", String::from_utf8_lossy(bytes)))
}
