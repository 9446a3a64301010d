//! Smaller responses: gzip, Brotli and Zstandard by `Accept-Encoding` (RFC 9110 §12.5.3).
//!
//! ```
//! use weaprous::compress::Compress;
//! use weaprous::prelude::*;
//! use weaprous::testing::Client;
//!
//! let app = App::new().route("/", [GET], async || "hello ".repeat(1000)).layer(Compress::new());
//! let response = Client::new(app).get("/").field("accept-encoding", "gzip, br;q=0.5").send();
//! assert_eq!(response.field("content-encoding"), Some("gzip"));
//! assert_eq!(response.field("vary"), Some("Accept-Encoding"));
//! assert!(response.bytes().len() < 200);
//! ```
//!
//! **What is left alone**: event streams, what is encoded already, ranges and 206, `Cache-Control: no-transform` of either
//! side, what carries a digest of its bytes (`Content-Digest`, `Repr-Digest`, RFC 9530), media types that do not shrink (images, video, archives, fonts), and less than [`BYTES_MIN`] bytes.
//!
//! **Secrets beside what others wrote** are left alone too. Who sees the length of encrypted answers, and can put
//! words into them, finds out a secret in the same answer by compressing guesses with it (BREACH). So nothing is
//! compressed that sets a cookie, that is `Cache-Control: private` or `no-store`, or that answers a request with
//! `Cookie` or `Authorization`, unless the response says `Cache-Control: public` and so is the same for everybody.
//! [`Compress::trust_routes`] turns the rule off, for routes that are known to hold no secret.
//!
//! A stream is flushed whenever it pauses, so that no byte waits for the next. The work is done in slices on the
//! worker, each a fraction of a millisecond, so that other connections go on meanwhile. A strong `ETag` becomes a weak
//! one, since the bytes differ; `Accept-Ranges` goes, since ranges would be of other bytes.

mod encoder;

use crate::accept;
use crate::handler::LocalBoxFuture;
use crate::layer::{Layer, Next};
use crate::request::Request;
use encoder::Compressed;
use engine::{Body, BodyError, Fields, Method, RequestHead, Response, Source, StatusCode};
use std::task::{Context, Poll};

/// Shortest content that is compressed unless [`Compress::bytes_min`] says otherwise: below, a packet holds it anyway.
pub const BYTES_MIN: u64 = 1024;
/// Content up to this is compressed in one go, and sent with its length.
const AT_ONCE_BYTES_MAX: usize = 32 * 1024;

/// A way to write content smaller.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Coding {
    /// `gzip` (RFC 1952): every client has it.
    Gzip,
    /// `br` (RFC 7932): browsers have it.
    Brotli,
    /// `zstd` (RFC 8878): as small as Brotli at less work; newer browsers have it.
    Zstd,
}

impl Coding {
    /// The name in `Content-Encoding`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Gzip => "gzip",
            Self::Brotli => "br",
            Self::Zstd => "zstd",
        }
    }
}

/// Fields that hold a digest of the bytes as they are: of others it would be wrong.
const DIGESTS: [&str; 4] = ["content-digest", "repr-digest", "digest", "content-md5"];

/// The layer that compresses: see the module's text for when it does.
#[derive(Debug, Clone)]
pub struct Compress {
    codings: Vec<Coding>,
    bytes_min: u64,
    trusts_routes: bool,
}

impl Default for Compress {
    fn default() -> Self {
        Self::new()
    }
}

impl Compress {
    /// Compresses whatever is worth it and safe.
    pub fn new() -> Self {
        let codings = vec![Coding::Zstd, Coding::Brotli, Coding::Gzip];
        Self { codings, bytes_min: BYTES_MIN, trusts_routes: false }
    }

    /// Uses these only; of those that a client likes equally well, the first.
    ///
    /// ```
    /// use weaprous::compress::{Coding, Compress};
    /// use weaprous::prelude::*;
    /// use weaprous::testing::Client;
    ///
    /// let app = App::new().route("/", [GET], async || Json(vec![0; 1000]));
    /// let client = Client::new(app.layer(Compress::new().codings([Coding::Gzip]).bytes_min(100)));
    /// let response = client.get("/").field("accept-encoding", "br, gzip").send();
    /// assert_eq!(response.field("content-encoding"), Some("gzip"));
    /// ```
    pub fn codings(mut self, codings: impl IntoIterator<Item = Coding>) -> Self {
        self.codings = codings.into_iter().collect();
        self
    }

    /// Leaves shorter content alone, instead of what is shorter than [`BYTES_MIN`].
    pub fn bytes_min(mut self, bytes: u64) -> Self {
        self.bytes_min = bytes;
        self
    }

    /// Compresses answers that may hold secrets, too: for routes whose answers are known to have none, or nothing in
    /// them that others can choose.
    ///
    /// ```
    /// use weaprous::compress::Compress;
    /// use weaprous::prelude::*;
    ///
    /// async fn report() -> String {
    ///     "numbers, nothing else".repeat(1000)
    /// }
    /// App::new().add_route(Route::new("/report", [GET], report).layer(Compress::new().trust_routes()));
    /// ```
    pub fn trust_routes(mut self) -> Self {
        self.trusts_routes = true;
        self
    }

    /// Compresses an answer that no handler has made, such as one that a proxy passes on, by the same rules.
    pub fn compress(&self, request: &RequestHead, response: &mut Response) {
        self.apply(response, &Asked::of(request));
    }

    /// The coding that the client likes best, if it likes any as well as none.
    fn choose(&self, accept_encoding: &str) -> Option<Coding> {
        let weight = |coding: &Coding| accept::coding_weight(accept_encoding, coding.name());
        let best = self.codings.iter().copied().rev().max_by_key(weight)?; // of equal ones the last: the first of ours
        let identity = accept::coding_weight(accept_encoding, "identity");
        (weight(&best) > 0 && weight(&best) >= identity).then_some(best)
    }

    /// Whether this response may be sent compressed to anybody.
    fn suits(&self, response: &Response, method: Method, has_credentials: bool) -> bool {
        let fields = &response.fields;
        let is_whole = response.status != StatusCode::PARTIAL_CONTENT && !fields.contains("content-range");
        let is_plain = !fields.contains("content-encoding") && !says(fields, "no-transform");
        let is_plain = is_plain && !DIGESTS.iter().any(|name| fields.contains(name));
        let is_long = length(response, method).is_none_or(|length| length >= self.bytes_min.max(1));
        let has_content = !response.status.forbids_body();
        let is_safe = self.trusts_routes || !may_hold_secrets(fields, has_credentials);
        is_whole && is_plain && is_long && has_content && is_safe && shrinks(fields.get_str("content-type"))
    }

    fn apply(&self, response: &mut Response, asked: &Asked) {
        if response.status == StatusCode::NOT_MODIFIED {
            // As the 200 would have had them, as far as that can be told without its content.
            if self.choose(&asked.accept_encoding).is_some() {
                vary(&mut response.fields);
                weaken_etag(&mut response.fields);
            }
            return;
        }
        if !self.suits(response, asked.method, asked.has_credentials) {
            return;
        }
        vary(&mut response.fields);
        let Some(coding) = self.choose(&asked.accept_encoding) else { return };
        let body = std::mem::take(&mut response.body);
        response.body = match body {
            _ if asked.method == Method::Head => Body::from_source(Unsaid),
            Body::Full(bytes) if bytes.len() <= AT_ONCE_BYTES_MAX => match encoder::compress(coding, &bytes) {
                Some(small) if small.len() < bytes.len() => Body::from(small),
                _ => {
                    response.body = Body::Full(bytes);
                    return;
                }
            },
            body => match Compressed::new(coding, body) {
                Ok(compressed) => Body::from_source(compressed),
                Err(body) => {
                    response.body = body;
                    return;
                }
            },
        };
        let fields = &mut response.fields;
        fields.remove("content-length");
        fields.remove("accept-ranges");
        weaken_etag(fields);
        put(fields, "content-encoding", coding.name());
    }
}

/// What matters of a request.
struct Asked {
    method: Method,
    accept_encoding: String,
    has_credentials: bool,
}

impl Asked {
    fn of(head: &RequestHead) -> Self {
        let fields = head.fields_named("accept-encoding");
        let values: Vec<&str> = fields.filter_map(|value| std::str::from_utf8(value).ok()).collect();
        let mut listed = head.fields_named("cache-control").flat_map(engine::tokens);
        // Whoever wants the bytes as they are (RFC 9111 §5.2.1.6) takes no coding.
        let is_strict = listed.any(|directive| directive.eq_ignore_ascii_case(b"no-transform"));
        Self {
            method: head.method(),
            accept_encoding: if is_strict { String::new() } else { values.join(",") },
            has_credentials: ["cookie", "authorization"].iter().any(|name| head.field(name).is_some()),
        }
    }
}

impl Layer for Compress {
    fn call(&self, request: Request, next: Next) -> LocalBoxFuture<'_, Response> {
        Box::pin(async move {
            let asked = Asked::of(&request.head);
            let mut response = next.run(request).await;
            self.apply(&mut response, &asked);
            response
        })
    }
}

/// How long the content is, or, for `HEAD`, would be.
fn length(response: &Response, method: Method) -> Option<u64> {
    match response.body.exact_len() {
        Some(0) if method == Method::Head => response.fields.get_str("content-length")?.parse().ok(),
        length => length,
    }
}

fn says(fields: &Fields, directive: &str) -> bool {
    let mut listed = fields.get_all("cache-control").flat_map(engine::tokens);
    // `private="x-field"` restricts less than `private`; taking it for that is the safe reading.
    listed.any(|found| {
        found.split(|byte| *byte == b'=').next().is_some_and(|name| name.eq_ignore_ascii_case(directive.as_bytes()))
    })
}

fn may_hold_secrets(fields: &Fields, has_credentials: bool) -> bool {
    let is_personal = fields.contains("set-cookie") || says(fields, "private") || says(fields, "no-store");
    is_personal || has_credentials && !says(fields, "public")
}

/// Whether content of this type gets smaller. Event streams would, but must not wait for anything.
fn shrinks(content_type: Option<&str>) -> bool {
    let Some(content_type) = content_type else { return false };
    let media_type = content_type.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    match media_type.as_str() {
        "text/event-stream" => false,
        "application/json"
        | "application/javascript"
        | "application/manifest+json"
        | "application/wasm"
        | "application/x-ndjson"
        | "application/xml"
        | "application/yaml"
        | "application/toml"
        | "application/x-javascript"
        | "image/bmp"
        | "image/svg+xml"
        | "image/x-icon"
        | "image/vnd.microsoft.icon"
        | "font/ttf"
        | "font/otf" => true,
        other => other.starts_with("text/") || other.ends_with("+json") || other.ends_with("+xml"),
    }
}

/// Adds `Accept-Encoding` to what the response depends on.
fn vary(fields: &mut Fields) {
    let listed: Vec<&[u8]> = fields.get_all("vary").flat_map(engine::tokens).collect();
    if listed.iter().any(|name| name.eq_ignore_ascii_case(b"accept-encoding") || *name == b"*") {
        return;
    }
    let mut merged = listed.join(&b", "[..]);
    if !merged.is_empty() {
        merged.extend_from_slice(b", ");
    }
    merged.extend_from_slice(b"Accept-Encoding");
    put(fields, "vary", merged);
}

fn weaken_etag(fields: &mut Fields) {
    if let Some(tag) = fields.get_str("etag").filter(|tag| tag.starts_with('"')) {
        let weak = format!("W/{tag}");
        put(fields, "etag", weak);
    }
}

fn put(fields: &mut Fields, name: &str, value: impl AsRef<[u8]>) {
    fields.set(name, value).expect("made of what was a field's value before, and little more");
}

/// Content whose length nobody can say without producing it: what `HEAD` tells of a compressed response.
struct Unsaid;

impl Source for Unsaid {
    fn poll_chunk(&mut self, _: &mut Context<'_>) -> Poll<Option<Result<bytes::Bytes, BodyError>>> {
        Poll::Ready(None)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_client_chooses_and_then_we_do() {
        let check = |accept: &str, expect: Option<&str>| {
            assert_eq!(Compress::new().choose(accept).map(Coding::name), expect, "{accept:?}");
        };
        check("gzip, deflate, br, zstd", Some("zstd"));
        check("gzip, deflate, br", Some("br"));
        check("gzip", Some("gzip"));
        check("gzip;q=0.8, br;q=0.5", Some("gzip"));
        check("*", Some("zstd"));
        check("*;q=0.5, zstd;q=0, br;q=0", Some("gzip"));
        check("GZIP", Some("gzip"));
        check("", None);
        check("deflate", None);
        check("identity", None);
        check("gzip;q=0", None);
        check("identity, gzip;q=0.5", None);
        check("identity;q=0.5, gzip", Some("gzip"));
        check("gzip;q=x", None);
    }

    #[test]
    fn what_must_stay_as_it_is_does() {
        let asked = |accept_encoding: &str| Asked {
            method: Method::Get,
            accept_encoding: accept_encoding.to_owned(),
            has_credentials: false,
        };
        let encoded = |name: &str, value: &str| {
            let mut response = Response::text(StatusCode::OK, "words ".repeat(1000)).field(name, value);
            Compress::new().apply(&mut response, &asked("gzip"));
            response.fields.contains("content-encoding")
        };
        assert!(encoded("x-field", "1"));
        for (name, value) in [
            ("content-digest", "sha-256=:AAAA:"),
            ("repr-digest", "sha-256=:AAAA:"),
            ("digest", "sha-256=AAAA"),
            ("content-md5", "AAAA"),
            ("cache-control", "max-age=1, No-Transform"),
            ("content-encoding", "identity"),
            ("content-range", "bytes 0-1/2"),
        ] {
            let mut response = Response::text(StatusCode::OK, "words ".repeat(1000)).field(name, value);
            Compress::new().apply(&mut response, &asked("gzip"));
            assert_eq!(response.body.exact_len(), Some(6000), "{name}");
        }
    }

    #[test]
    fn a_304_says_what_its_200_would() {
        let mut response = Response::new(StatusCode::NOT_MODIFIED).field("etag", "\"a\"").field("vary", "Cookie");
        let asked = Asked { method: Method::Get, accept_encoding: "gzip".to_owned(), has_credentials: false };
        Compress::new().apply(&mut response, &asked);
        assert_eq!(response.fields.get_str("etag"), Some("W/\"a\""));
        assert_eq!(response.fields.get_str("vary"), Some("Cookie, Accept-Encoding"));
    }

    #[test]
    fn types_that_shrink_are_known() {
        let check = |media_type: &str, expect: bool| assert_eq!(shrinks(Some(media_type)), expect, "{media_type}");
        for shrinking in ["text/html; charset=utf-8", "TEXT/css", "application/problem+json", "image/svg+xml"] {
            check(shrinking, true);
        }
        for compact in ["image/png", "video/mp4", "application/zip", "font/woff2", "text/event-stream", ""] {
            check(compact, false);
        }
        assert!(!shrinks(None));
    }
}
