//! What a client sees when the proxy itself answers: HTML for browsers, a problem document (RFC 9457)
//! for everybody else. It may be anybody, so no page says more about what is behind the proxy than its configuration calls it.

use std::fmt::Write as _;
use std::io::Read as _;

use engine::{RequestHead, Response, StatusCode};

use crate::conf::ErrorPage;

/// Longest error page read, in bytes.
const PAGE_BYTES_MAX: u64 = 256 * 1024;

/// How soon a client may come back when no upstream accepts connections, in seconds.
const RETRY_AFTER_S: &str = "1";

/// An answer of the proxy's own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Page {
    pub(crate) status: StatusCode,
    /// What happened, as a sentence.
    pub(crate) detail: String,
    /// What the reader can do about it, as a sentence; may be empty.
    pub(crate) hint: String,
    /// Fields beside the usual ones.
    pub(crate) fields: Vec<(&'static str, String)>,
}

impl Page {
    pub(crate) fn new(status: StatusCode, detail: impl Into<String>) -> Self {
        Self { status, detail: detail.into(), hint: String::new(), fields: Vec::new() }
    }

    pub(crate) fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = hint.into();
        self
    }

    /// Adds a field; its value holds no control bytes.
    pub(crate) fn field(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.fields.push((name, value.into()));
        self
    }

    /// The response with the operator's own text in place of the usual one.
    pub(crate) fn respond_with(&self, content_type: &str, text: Vec<u8>) -> Response {
        self.finish(Response::bytes(self.status, content_type, text))
    }

    /// The response in the form the client prefers.
    pub(crate) fn respond(&self, head: &RequestHead) -> Response {
        let accept: Vec<&str> =
            head.fields_named("accept").filter_map(|value| std::str::from_utf8(value).ok()).collect();
        let (content_type, body) = if prefers_html(&accept.join(",")) {
            ("text/html; charset=utf-8", self.html())
        } else {
            ("application/problem+json", self.problem())
        };
        self.finish(Response::bytes(self.status, content_type, body).field("vary", "accept"))
    }

    fn finish(&self, response: Response) -> Response {
        let mut response = response.field("cache-control", "no-store").field("x-content-type-options", "nosniff");
        for (name, value) in &self.fields {
            response = response.field(name, value);
        }
        let says_when = self.fields.iter().any(|(name, _)| *name == "retry-after");
        if self.status == StatusCode::SERVICE_UNAVAILABLE && !says_when {
            response = response.field("retry-after", RETRY_AFTER_S);
        }
        response
    }

    fn html(&self) -> String {
        let title = format!("{} {}", self.status.as_u16(), self.status.reason());
        let mut html = format!(
            "<!doctype html>\n<html lang=\"en\">\n<head><meta charset=\"utf-8\"><title>{title}</title>\n\
             <meta name=\"viewport\" content=\"width=device-width\"><meta name=\"color-scheme\" content=\"light dark\">\n\
             <style>body{{font:1rem/1.5 system-ui,sans-serif;max-width:40rem;margin:10vh auto;padding:0 1rem}}</style></head>\n\
             <body><main><h1>{title}</h1>\n<p>{}</p>\n",
            escape_html(&self.detail)
        );
        if !self.hint.is_empty() {
            let _ = writeln!(html, "<p>{}</p>", escape_html(&self.hint));
        }
        html.push_str("</main></body>\n</html>\n");
        html
    }

    fn problem(&self) -> String {
        let detail = if self.hint.is_empty() { self.detail.clone() } else { format!("{} {}", self.detail, self.hint) };
        format!(
            "{{\"type\":\"about:blank\",\"title\":\"{}\",\"status\":{},\"detail\":\"{}\"}}\n",
            escape_json(self.status.reason()),
            self.status.as_u16(),
            escape_json(&detail)
        )
    }
}

/// The response to show at a place: the operator's page for this status, or else the usual one.
pub(crate) async fn of_place(page: &Page, pages: &[ErrorPage], head: &RequestHead) -> Response {
    let Some(own) = pages.iter().find(|own| own.status == page.status.as_u16()) else { return page.respond(head) };
    let file = own.file.clone();
    let read = tokio::task::spawn_blocking(move || {
        let mut text = Vec::new();
        std::fs::File::open(file)?.take(PAGE_BYTES_MAX).read_to_end(&mut text).map(|_| text)
    });
    match read.await {
        Ok(Ok(text)) => {
            let extension = own.file.extension().and_then(|extension| extension.to_str()).unwrap_or_default();
            let content_type = match extension {
                "json" => "application/json",
                "txt" => "text/plain; charset=utf-8",
                _ => "text/html; charset=utf-8",
            };
            page.respond_with(content_type, text)
        }
        Ok(Err(error)) => {
            tracing::error!(file = %own.file.display(), %error, "an error page cannot be read");
            page.respond(head)
        }
        Err(_) => page.respond(head),
    }
}

/// Whether an `Accept` value (RFC 9110 §12.5.1) ranks HTML above JSON. Only a browser names it.
fn prefers_html(accept: &str) -> bool {
    let mut html = 0;
    let mut json = 0;
    for range in accept.split(',') {
        let mut parts = range.split(';').map(str::trim);
        let media_type = parts.next().unwrap_or_default().to_ascii_lowercase();
        let rank = parts.find_map(|part| part.strip_prefix("q=")).map_or(1000, thousandths);
        match media_type.as_str() {
            "text/html" | "application/xhtml+xml" => html = html.max(rank),
            "application/json" | "application/problem+json" => json = json.max(rank),
            _ => {}
        }
    }
    html > 0 && html >= json
}

/// A quality value in thousandths; what is none counts as 0.
fn thousandths(quality: &str) -> u16 {
    quality.parse::<f32>().ok().filter(|value| (0.0..=1.0).contains(value)).map_or(0, |value| (value * 1000.0) as u16)
}

fn escape_html(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\'' => escaped.push_str("&#39;"),
            c => escaped.push(c),
        }
    }
    escaped
}

fn escape_json(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '"' => escaped.push_str("\\\""),
            '\\' => escaped.push_str("\\\\"),
            c if c.is_control() => {
                let _ = write!(escaped, "\\u{:04x}", u32::from(c));
            }
            c => escaped.push(c),
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn html_is_for_those_who_ask_for_it() {
        for (accept, expect) in [
            ("", false),
            ("*/*", false),
            ("text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8", true),
            ("Text/HTML", true),
            ("application/json, text/html;q=0.5", false),
            ("application/json;q=0.5, text/html", true),
            ("text/html;q=0", false),
            ("text/html;q=9", false),
        ] {
            assert_eq!(prefers_html(accept), expect, "{accept}");
        }
    }

    #[test]
    fn what_a_client_sent_is_escaped() {
        let page = Page::new(StatusCode::NOT_FOUND, "<b>\"\\\u{7}").hint("&'");
        assert!(page.html().contains("<p>&lt;b&gt;&quot;\\\u{7}</p>"), "{}", page.html());
        assert!(page.html().contains("<p>&amp;&#39;</p>"));
        assert_eq!(
            page.problem(),
            "{\"type\":\"about:blank\",\"title\":\"Not Found\",\"status\":404,\"detail\":\"<b>\\\"\\\\\\u0007 &'\"}\n"
        );
    }
}
