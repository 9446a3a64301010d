//! A file ready to be sent: its codings, each with its content, validators and the fields of its answers, made once.

use super::asked::Asked;
use super::conditional::{Validators, Verdict};
use super::parts::Content;
use super::range::{self, Wanted};
use super::{Freshness, Rules};
use crate::accept;
use crate::problem::Problem;
use crate::response::IntoResponse;
use engine::{Fields, Response, StatusCode};
use std::time::SystemTime;

/// How the bytes of a representation are coded (RFC 9110 §8.4.1), best first where a client likes several alike.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Coding {
    Brotli,
    Zstd,
    Gzip,
    Identity,
}

impl Coding {
    /// Those that lie beside a file.
    pub(crate) const BESIDE: [Self; 3] = [Self::Brotli, Self::Zstd, Self::Gzip];

    pub(crate) fn token(self) -> &'static str {
        match self {
            Self::Brotli => "br",
            Self::Zstd => "zstd",
            Self::Gzip => "gzip",
            Self::Identity => "identity",
        }
    }

    /// What the name of the file beside ends in.
    pub(crate) fn ending(self) -> &'static str {
        match self {
            Self::Brotli => ".br",
            Self::Zstd => ".zst",
            Self::Gzip => ".gz",
            Self::Identity => "",
        }
    }
}

/// One coding of a file as it was found.
#[derive(Debug)]
pub(crate) struct Found {
    pub(crate) coding: Coding,
    pub(crate) content: Content,
    pub(crate) len: u64,
    /// The entity tag, quotes included; different bytes have different ones (RFC 9110 §8.8.3.3).
    pub(crate) etag: String,
    pub(crate) modified: Option<SystemTime>,
    /// Whether the tag will stand for these bytes in the future, too.
    pub(crate) is_settled: bool,
}

/// A file with all its codings.
#[derive(Debug)]
pub(crate) struct Resource {
    media_type: String,
    variants: Vec<Variant>,
    is_settled: bool,
}

#[derive(Debug)]
struct Variant {
    coding: Coding,
    content: Content,
    len: u64,
    validators: Validators,
    /// Of a 200.
    fields: Fields,
    /// Of a 304.
    unchanged: Fields,
}

impl Resource {
    /// `name` decides about media type and freshness. There is at least one coding.
    pub(crate) fn new(name: &str, rules: &Rules, found: Vec<Found>) -> Self {
        let media_type = media_type(name);
        let freshness = rules.freshness.as_ref().map_or_else(|| Freshness::by_name(name), |rule| rule(name));
        let cache_control = freshness.field();
        let varies = found.len() > 1;
        let is_settled = found.iter().all(|found| found.is_settled);
        let variants =
            found.into_iter().map(|found| Variant::new(found, &media_type, &cache_control, varies)).collect();
        Self { media_type, variants, is_settled }
    }

    #[cfg(test)]
    pub(crate) fn of_bytes(name: &str, bytes: Vec<u8>) -> Self {
        let found = Found {
            coding: Coding::Identity,
            len: bytes.len() as u64,
            content: Content::Bytes(bytes.into()),
            etag: "\"test\"".to_owned(),
            modified: None,
            is_settled: true,
        };
        Self::new(name, &Rules::default(), vec![found])
    }

    /// Whether it may be kept.
    pub(crate) fn is_settled(&self) -> bool {
        self.is_settled
    }

    /// Whether these are the codings and tags it was made of.
    pub(crate) fn is_made_of<'a>(&self, tags: impl ExactSizeIterator<Item = &'a str>) -> bool {
        self.variants.len() == tags.len()
            && self.variants.iter().zip(tags).all(|(known, tag)| known.validators.etag == tag)
    }

    pub(crate) fn bytes_in_memory(&self) -> u64 {
        let bytes = |variant: &Variant| match variant.content {
            Content::Bytes(_) => variant.len,
            Content::File(_) => 0,
        };
        self.variants.iter().map(bytes).sum()
    }

    pub(crate) fn open_files(&self) -> usize {
        self.variants.iter().filter(|variant| matches!(variant.content, Content::File(_))).count()
    }

    /// Longest of its codings that is not in memory.
    pub(crate) fn open_bytes_max(&self) -> u64 {
        let open = self.variants.iter().filter(|variant| matches!(variant.content, Content::File(_)));
        open.map(|variant| variant.len).max().unwrap_or_default()
    }

    /// The content without a coding, with its length.
    pub(crate) fn plain(&self) -> Option<(&Content, u64)> {
        let plain = self.variants.iter().find(|variant| variant.coding == Coding::Identity)?;
        Some((&plain.content, plain.len))
    }

    /// Answers a `GET` or `HEAD`.
    pub(crate) fn respond(&self, asked: &Asked<'_>) -> Response {
        let variant = self.select(asked.accept_encoding.unwrap_or_default());
        match asked.conditions.judge(&variant.validators) {
            Verdict::Proceed => {}
            Verdict::NotModified => return with_fields(StatusCode::NOT_MODIFIED, &variant.unchanged),
            Verdict::Failed => {
                return Problem::new(StatusCode::PRECONDITION_FAILED).detail("the file has changed").into_response();
            }
        }
        match asked.range {
            Some(range) if !asked.is_head => self.respond_range(variant, range, asked),
            _ => variant.whole(asked.is_head),
        }
    }

    fn respond_range(&self, variant: &Variant, range: &str, asked: &Asked<'_>) -> Response {
        if !asked.conditions.lets_range(&variant.validators, SystemTime::now()) {
            return variant.whole(false);
        }
        let len = variant.len;
        match range::parse(range, len) {
            Wanted::Whole => variant.whole(false),
            Wanted::Unsatisfiable => Problem::new(StatusCode::RANGE_NOT_SATISFIABLE)
                .detail(format!("the file has {len} bytes"))
                .own_field("content-range", &format!("bytes */{len}"))
                .into_response(),
            Wanted::Parts(parts) if parts.len() == 1 => with_fields(StatusCode::PARTIAL_CONTENT, &variant.fields)
                .field("content-range", format!("bytes {}-{}/{len}", parts[0].first, parts[0].last))
                .with_body(variant.content.part(parts[0])),
            Wanted::Parts(parts) => {
                let multipart = variant.content.parts(&parts, &self.media_type, len);
                let mut response = with_fields(StatusCode::PARTIAL_CONTENT, &variant.fields);
                let media_type = format!("multipart/byteranges; boundary={}", multipart.boundary);
                response.fields.set("content-type", media_type).expect("a boundary is hexadecimal");
                response.with_body(multipart.body)
            }
        }
    }

    /// The coding the client likes best; among equals the one that is usually the shortest.
    fn select(&self, accept_encoding: &str) -> &Variant {
        let plain = &self.variants[0];
        if self.variants.len() == 1 || accept_encoding.is_empty() {
            return self.variants.iter().find(|variant| variant.coding == Coding::Identity).unwrap_or(plain);
        }
        let weight = |variant: &Variant| accept::coding_weight(accept_encoding, variant.coding.token());
        let mut best = (self.variants.last().unwrap_or(plain), 0);
        for variant in &self.variants {
            let weight = weight(variant);
            if weight > best.1 {
                best = (variant, weight);
            }
        }
        best.0
    }
}

impl Variant {
    fn new(found: Found, media_type: &str, cache_control: &str, varies: bool) -> Self {
        let mut fields = Fields::new();
        let mut add = |name, value: &str| fields.append(name, value).expect("made of visible ASCII");
        add("etag", &found.etag);
        add("cache-control", cache_control);
        add("x-content-type-options", "nosniff");
        if let Some(modified) = found.modified {
            add("last-modified", &httpdate::fmt_http_date(modified));
        }
        if varies {
            add("vary", "Accept-Encoding");
        }
        let unchanged = fields.clone();
        let mut add = |name, value: &str| fields.append(name, value).expect("made of visible ASCII");
        add("content-type", media_type);
        add("accept-ranges", "bytes");
        if found.coding != Coding::Identity {
            add("content-encoding", found.coding.token());
        }
        Self {
            coding: found.coding,
            content: found.content,
            len: found.len,
            validators: Validators { etag: found.etag, modified: found.modified },
            fields,
            unchanged,
        }
    }

    fn whole(&self, is_head: bool) -> Response {
        let response = with_fields(StatusCode::OK, &self.fields);
        if is_head {
            // Said outright, since there is no content to tell the length of an empty file from.
            return response.field("content-length", self.len.to_string());
        }
        response.with_body(self.content.whole(self.len))
    }
}

fn with_fields(status: StatusCode, fields: &Fields) -> Response {
    let mut response = Response::new(status);
    response.fields = fields.clone();
    response
}

/// By the name's ending; text is UTF-8 here.
fn media_type(name: &str) -> String {
    let guess = mime_guess::from_path(name).first_raw().unwrap_or("application/octet-stream");
    if guess.starts_with("text/") { format!("{guess}; charset=utf-8") } else { guess.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn media_types_follow_the_name() {
        let check = |name: &str, expect: &str| assert_eq!(media_type(name), expect);
        check("a.html", "text/html; charset=utf-8");
        check("a.css", "text/css; charset=utf-8");
        check("a.js", "text/javascript; charset=utf-8");
        check("a.PNG", "image/png");
        check("a.svg", "image/svg+xml");
        check("a.json", "application/json");
        check("a", "application/octet-stream");
        check("a.unheard-of", "application/octet-stream");
    }

    #[test]
    fn the_coding_is_the_one_the_client_likes_best() {
        let found = |coding: Coding| Found {
            coding,
            content: Content::Bytes(bytes::Bytes::new()),
            len: 0,
            etag: format!("\"{}\"", coding.token()),
            modified: None,
            is_settled: true,
        };
        let all = [Coding::Brotli, Coding::Zstd, Coding::Gzip, Coding::Identity].map(found).into();
        let resource = Resource::new("a.js", &Rules::default(), all);
        let check = |field: &str, expect: &str| assert_eq!(resource.select(field).coding.token(), expect, "{field}");
        check("", "identity");
        check("gzip", "gzip");
        check("gzip, deflate, br, zstd", "br");
        check("gzip, zstd", "zstd");
        check("br;q=0.5, gzip", "gzip");
        check("br;q=0, *", "zstd");
        check("*", "br");
        check("*;q=0", "identity");
        check("identity, br;q=0.9", "identity");
        check("identity;q=0.5, br;q=0.5", "br");
        check("identity;q=0", "identity");
        check("br;q=0, gzip;q=0", "identity");
        check("deflate", "identity");
        check("GZIP;Q=0.3", "gzip");
    }
}
