//! A request while it is put together, and its way through the application.

use super::response::{AsyncResponse, Response};
use super::wired;
use super::{AsyncClient, Client, FormPart};
use crate::percent;
use engine::{Body, EncodeError, Fields, Method, Service};
use http1::{Framing, RequestSpec};
use serde::Serialize;
use std::rc::Rc;

/// A request that is put together and then sent.
///
/// ```
/// use weaprous::prelude::*;
/// use weaprous::testing::Client;
///
/// let app = App::new().route("/echo", [PUT], async |text: String| text);
/// let response = Client::new(app).put("/echo").field("x-trace", "7").body("hello").send();
/// assert_eq!(response.text(), "hello");
/// ```
#[derive(Debug)]
#[must_use = "a request does nothing until it is sent"]
pub struct RequestBuilder<'a, C> {
    client: &'a C,
    method: Method,
    target: String,
    fields: Fields,
    cookies: Vec<String>,
    body: Body,
}

impl<'a, C> RequestBuilder<'a, C> {
    pub(super) fn new(client: &'a C, method: Method, target: &str) -> Self {
        let (fields, cookies) = (Fields::new(), Vec::new());
        Self { client, method, target: target.to_owned(), fields, cookies, body: Body::Empty }
    }

    fn with<D>(self, client: &D) -> RequestBuilder<'_, D> {
        let Self { method, target, fields, cookies, body, .. } = self;
        RequestBuilder { client, method, target, fields, cookies, body }
    }

    /// Adds a field; `host` replaces the client's.
    ///
    /// # Panics
    /// If the name is no token or the value holds a control byte: such a request cannot be written.
    pub fn field(mut self, name: &str, value: impl AsRef<[u8]>) -> Self {
        self.fields.append(name, value).unwrap_or_else(|error| panic!("field `{name}`: {error}"));
        self
    }

    /// Sends a cookie, beside those that the client keeps.
    pub fn cookie(mut self, name: &str, value: &str) -> Self {
        self.cookies.push(format!("{name}={value}"));
        self
    }

    /// Sends `Authorization: Bearer`.
    ///
    /// ```
    /// use weaprous::prelude::*;
    /// use weaprous::testing::{Client, RequestBuilder};
    ///
    /// let app = App::new().route("/", [GET], async |request: Request| request.field("authorization").unwrap_or("").to_owned());
    /// let client = Client::new(app);
    /// let request: RequestBuilder<'_, Client> = client.get("/").bearer("secret");
    /// assert_eq!(request.send().text(), "Bearer secret");
    /// ```
    pub fn bearer(self, token: &str) -> Self {
        self.field("authorization", format!("Bearer {token}"))
    }

    /// Sends a value as JSON.
    ///
    /// # Panics
    /// If it cannot be serialised.
    pub fn json(self, value: &(impl Serialize + ?Sized)) -> Self {
        let text = serde_json::to_vec(value).expect("the value can be written as JSON");
        self.field("content-type", "application/json").body(text)
    }

    /// Sends names and values as a form.
    pub fn form<N: AsRef<str>, V: AsRef<str>>(self, pairs: impl IntoIterator<Item = (N, V)>) -> Self {
        let pairs: Vec<String> = pairs
            .into_iter()
            .map(|(name, value)| format!("{}={}", percent::encode(name.as_ref()), percent::encode(value.as_ref())))
            .collect();
        self.field("content-type", "application/x-www-form-urlencoded").body(pairs.join("&"))
    }

    /// Sends a form with files.
    pub fn multipart(self, parts: impl IntoIterator<Item = FormPart>) -> Self {
        let (content_type, content) = super::form::write(parts);
        self.field("content-type", content_type).body(content)
    }

    /// Sends this content: text, bytes, or a stream ([`Body::from_stream`], [`Body::channel`]), which goes in chunks
    /// unless its length is known.
    pub fn body(mut self, body: impl Into<Body>) -> Self {
        self.body = body.into();
        self
    }
}

impl RequestBuilder<'_, Client> {
    /// Sends the request and waits for the head of the answer.
    ///
    /// # Panics
    /// If the request cannot be written (a space in the target, say), or when the handler panics.
    pub fn send(self) -> Response {
        let Client { inner, runtime } = self.client;
        Response::new(runtime.block_on(self.with(inner).send()), Rc::clone(runtime))
    }
}

impl RequestBuilder<'_, AsyncClient> {
    /// Sends the request and waits for the head of the answer.
    ///
    /// # Panics
    /// As the blocking one.
    pub async fn send(mut self) -> AsyncResponse {
        let client = self.client;
        self.add_what_the_client_adds();
        let framing = match self.body.exact_len() {
            Some(0) => Framing::None,
            Some(length) => Framing::Length(length),
            None => Framing::Chunked,
        };
        let (method, target, fields) = (self.method, self.target.as_str(), &self.fields);
        let spec = RequestSpec { method, target, fields, framing, keep_alive: true };
        let mut wire = Vec::new();
        let encoder = http1::write_request_head(&mut wire, &spec)
            .unwrap_or_else(|error: EncodeError| panic!("{method} {target} cannot be sent: {error}"));
        let (head, body) = match wired::receive_request(&wire, encoder, self.body) {
            Ok(received) => received,
            Err(error) => return AsyncResponse::refused(error, method),
        };
        let request = engine::Request::new(head, body, Rc::new(client.peer.clone()));
        let response = client.service.call(request).await;
        let response = AsyncResponse::receive(response, method);
        if let Some(jar) = &client.jar {
            jar.borrow_mut().store(&self.target, response.fields_named("set-cookie"));
        }
        response
    }

    fn add_what_the_client_adds(&mut self) {
        let Self { client, fields, cookies, target, .. } = self;
        if !fields.contains("host") {
            fields.append("host", &client.host).expect("a host is a clean field value");
        }
        if let Some(jar) = &client.jar {
            if !fields.contains("sec-fetch-site") && !fields.contains("origin") {
                fields.append("sec-fetch-site", "same-origin").expect("a token");
            }
            cookies.splice(0..0, jar.borrow().pairs_for(target));
        }
        if !cookies.is_empty() {
            fields.append("cookie", cookies.join("; ")).expect("cookies in a test are clean field values");
        }
    }
}
