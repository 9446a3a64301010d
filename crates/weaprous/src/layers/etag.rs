//! Entity tags for answers that are made anew each time (RFC 9110 §8.8.3): who has the content already gets a 304.

use crate::files::conditional::{Conditions, Validators, Verdict};
use crate::handler::LocalBoxFuture;
use crate::layer::{Layer, Next};
use crate::request::Request;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use engine::{Body, Fields, Method, Response, StatusCode};
use ring::digest;

/// Gives answers to `GET` and `HEAD` a tag made of their content, and answers 304 where the client names it.
///
/// Only a 200 whose content is at hand and not too long, and which has no tag and no `Cache-Control: no-store`. It
/// saves the transfer, not the work of the handler.
///
/// ```
/// use weaprous::{layers::ETags, prelude::*};
/// App::new().layer(ETags::new()).route("/news", [GET], async || "nothing new");
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ETags {
    bytes_max: usize,
    is_strong: bool,
}

/// Longest content that is hashed: beyond it the hash costs more than the transfer is worth.
const BYTES_MAX: usize = 512 * 1024;
/// Bytes of the hash that make the tag.
const TAG_BYTES: usize = 12;

impl Default for ETags {
    fn default() -> Self {
        Self { bytes_max: BYTES_MAX, is_strong: false }
    }
}

impl ETags {
    /// Weak tags: right also where a layer outside of this one compresses.
    pub fn new() -> Self {
        Self::default()
    }

    /// Strong tags, which stand for the very bytes: only where nothing outside of this layer changes the content.
    ///
    /// ```
    /// use weaprous::{layers::ETags, prelude::*};
    /// use weaprous::testing::Client;
    ///
    /// let app = App::new().layer(ETags::new().strong().bytes_max(1024)).route("/", [GET], async || "news");
    /// let client = Client::new(app);
    /// let tag = client.get("/").send().field("etag").expect("short content has one").to_owned();
    /// assert_eq!(client.get("/").field("if-none-match", tag).send().status(), StatusCode::NOT_MODIFIED);
    /// ```
    pub fn strong(mut self) -> Self {
        self.is_strong = true;
        self
    }

    /// Tags content of up to this many bytes, instead of 512 KiB.
    pub fn bytes_max(mut self, max: usize) -> Self {
        self.bytes_max = max;
        self
    }

    /// The opaque tag of a response, quotes included; `None` if it gets none.
    fn tag(&self, response: &Response) -> Option<String> {
        let Body::Full(bytes) = &response.body else { return None };
        let is_kept = response.fields.get_all("cache-control").flat_map(engine::tokens);
        let is_kept = !is_kept.into_iter().any(|directive| directive.eq_ignore_ascii_case(b"no-store"));
        let is_tagged = response.status == StatusCode::OK
            && is_kept
            && bytes.len() <= self.bytes_max
            && !response.fields.contains("etag");
        is_tagged.then(|| {
            let hash = digest::digest(&digest::SHA256, bytes);
            format!("\"{}\"", URL_SAFE_NO_PAD.encode(&hash.as_ref()[..TAG_BYTES]))
        })
    }
}

impl Layer for ETags {
    fn call(&self, request: Request, next: Next) -> LocalBoxFuture<'_, Response> {
        Box::pin(async move {
            if !matches!(request.method(), Method::Get | Method::Head) {
                return next.run(request).await;
            }
            let none_match: Vec<Vec<u8>> = request.head.fields_named("if-none-match").map(<[u8]>::to_vec).collect();
            let response = next.run(request).await;
            let Some(opaque) = self.tag(&response) else { return response };
            let etag = if self.is_strong { opaque.clone() } else { format!("W/{opaque}") };
            let none_match = none_match.iter().map(Vec::as_slice).collect();
            let conditions = Conditions { none_match, ..Conditions::default() };
            // Compared weakly, so that the opaque tag alone counts.
            let verdict = conditions.judge(&Validators { etag: opaque, modified: None });
            let response = response.field("etag", etag);
            if verdict == Verdict::NotModified { unchanged(&response) } else { response }
        })
    }
}

/// All that a 200 would say but what describes content (RFC 9110 §15.4.5).
fn unchanged(full: &Response) -> Response {
    let mut response = Response::new(StatusCode::NOT_MODIFIED);
    for (name, value) in full.fields.iter() {
        let name_lower = name.to_ascii_lowercase();
        let describes = matches!(
            name_lower.as_str(),
            "content-type"
                | "content-encoding"
                | "content-language"
                | "content-length"
                | "content-range"
                | "content-md5"
        );
        if !describes {
            push(&mut response.fields, name, value);
        }
    }
    response
}

fn push(fields: &mut Fields, name: &str, value: &[u8]) {
    fields.append(name, value).expect("it was a field already");
}
