//! What the framework reads in requests: cookies, ranges, forms with files, the ids of resumed event streams. Through a
//! whole application, in memory.

use super::pieces;
use bytes::Bytes;
use std::collections::VecDeque;
use std::fmt::Write;
use std::sync::LazyLock;
use std::task::{Context, Poll};
use weaprous::engine::{BodyError, Source};
use weaprous::multipart::{Multipart, MultipartError};
use weaprous::prelude::*;
use weaprous::testing::Client;
use weaprous::{Body, EmbeddedFile, Files};

/// The content that ranges are asked of.
static CONTENT: [u8; 1000] = {
    let mut content = [0; 1000];
    let mut at = 0;
    while at < content.len() {
        content[at] = b'a' + (at % 23) as u8;
        at += 1;
    }
    content
};

static FILES: [EmbeddedFile; 1] = [EmbeddedFile { path: "file.bin", bytes: &CONTENT, gzip: None }];

/// The boundary of the forms.
const FORM: &str = "multipart/form-data; boundary=b";

thread_local! {
    static CLIENT: Client = Client::new(
        App::new()
            .route("/files/{path..}", [GET], Files::embedded(&FILES))
            .route("/form", [POST], parts)
            .route("/resume", [GET], resume)
            .route("/event", [GET], event),
    );
}

/// Everything in a form, in words.
async fn parts(mut form: Multipart) -> Result<String, MultipartError> {
    let mut seen = String::new();
    while let Some(part) = form.next_part().await? {
        let head = part.head().clone();
        let content = part.bytes().await?;
        let _ = write!(seen, "{head:?} {content:?} ");
    }
    Ok(seen)
}

/// The id that came back.
async fn resume(LastEventId(id): LastEventId) -> String {
    id.unwrap_or_default()
}

/// An event with the id that came back.
async fn event(LastEventId(id): LastEventId) -> Sse {
    Sse::new(async move |sender: SseSender| sender.send(Event::new().id(id.unwrap_or_default()).data("x")).await)
}

/// A `Cookie` field, and a cookie of ours with the same bytes in all its parts.
pub(crate) fn cookies(data: &[u8]) {
    let cookies = Cookies::parse([data]);
    for (name, value) in cookies.iter() {
        assert!(!name.is_empty() && !name.contains(['=', ';']) && !value.contains(';'), "{name:?} {value:?}");
        assert!(cookies.get(name).is_some());
    }
    let Ok(text) = std::str::from_utf8(data) else { return };
    let (name, value) = text.split_once('=').unwrap_or(("name", text));
    if let Ok(cookie) = CookieBuilder::new(name, value).http_only().path("/").build() {
        let line = cookie.as_str();
        assert!(!line.bytes().any(|byte| byte.is_ascii_control()), "{line:?}");
        assert_eq!(line.split(';').count(), 3, "nothing is smuggled in: {line:?}");
        let returned = line.split(';').next().unwrap_or_default();
        assert_eq!(Cookies::parse([returned.as_bytes()]).iter().next().map(|(name, _)| name), Some(name), "{line:?}");
    }
    let odd = CookieBuilder::new("name", "value").path(text).domain(text).build();
    if let Ok(cookie) = odd {
        assert_eq!(cookie.as_str().split(';').count(), 3, "{cookie:?}");
    }
}

/// A `Range` field.
pub(crate) fn ranges(data: &[u8]) {
    if data.iter().any(|&byte| byte.is_ascii_control()) || data.len() > 8000 {
        return; // such a field is never received
    }
    let response = CLIENT.with(|client| client.get("/files/file.bin").field("range", data).send());
    let field = |name: &str| response.field(name).map(str::to_owned);
    let (content_range, content_type) = (field("content-range"), field("content-type").unwrap_or_default());
    let content = response.bytes();
    match response.status().as_u16() {
        200 => assert_eq!(content[..], CONTENT[..]),
        206 if content_type.starts_with("multipart/byteranges") => {
            assert!(content.len() < 2 * CONTENT.len() + 16 * 256, "ranges do not multiply the file");
            check_parts(&content, &content_type);
        }
        206 => {
            let range = content_range.expect("a part says which");
            assert_eq!(content[..], *part_of_content(&range));
        }
        416 => assert_eq!(content_range.as_deref(), Some("bytes */1000")),
        other => panic!("{other} for {}", data.escape_ascii()),
    }
}

/// What a `Content-Range` says that it is.
fn part_of_content(range: &str) -> &'static [u8] {
    let (first, last) = range
        .strip_prefix("bytes ")
        .and_then(|range| range.strip_suffix("/1000"))
        .and_then(|range| range.split_once('-'))
        .unwrap_or_else(|| panic!("{range:?}"));
    let (first, last): (usize, usize) = (first.parse().expect("a number"), last.parse().expect("a number"));
    &CONTENT[first..=last]
}

/// Several ranges: each part is what its head says, and nothing stands between or behind them (RFC 9110 §14.6). The
/// file has no line ends, so that none of it looks like a boundary.
fn check_parts(content: &[u8], content_type: &str) {
    let boundary = content_type.split_once("boundary=").expect("parts have a boundary").1;
    let text = std::str::from_utf8(content).expect("the file is text");
    // The line end that belongs to a boundary may stand before the first one, too (RFC 2046 §5.1.1).
    let between = format!("\r\n--{boundary}\r\n");
    let inner = text.strip_prefix(&between).or_else(|| text.strip_prefix(&between[2..])).expect("a part comes first");
    let inner = inner.strip_suffix(&format!("\r\n--{boundary}--\r\n")).expect("the end is told");
    for part in inner.split(&between) {
        let (head, content) = part.split_once("\r\n\r\n").expect("a part has a head");
        let range =
            head.lines().find_map(|line| line.to_ascii_lowercase().strip_prefix("content-range: ").map(str::to_owned));
        assert_eq!(content.as_bytes(), part_of_content(&range.expect("a part says which")));
    }
}

/// A form; the first byte says how it arrives.
pub(crate) fn multipart(data: &[u8]) {
    let Some((&seed, bytes)) = data.split_first() else { return };
    let ask = |body: Body| CLIENT.with(|client| client.post("/form").field("content-type", FORM).body(body).send());
    let whole = ask(bytes.to_vec().into());
    let cut: VecDeque<_> = pieces(seed, bytes).into_iter().map(Bytes::copy_from_slice).collect();
    let pieces = ask(Body::from_source(Pieces(cut)));
    assert!(!whole.status().is_server_error(), "{}", whole.status());
    assert_eq!(whole.status(), pieces.status(), "however it arrives");
    if whole.status() == StatusCode::OK {
        assert_eq!(whole.text(), pieces.text());
    }
}

/// Content that comes in these pieces.
struct Pieces(VecDeque<Bytes>);

impl Source for Pieces {
    fn poll_chunk(&mut self, _: &mut Context<'_>) -> Poll<Option<Result<Bytes, BodyError>>> {
        Poll::Ready(self.0.pop_front().map(Ok))
    }
}

/// The `Last-Event-ID` of a client that comes back: what it says is what the application gets.
pub(crate) fn resume_ids(data: &[u8]) {
    if data.iter().any(|&byte| byte.is_ascii_control() && byte != b'\t') || data.len() > 8000 {
        return; // such a field is never received
    }
    let response = CLIENT.with(|client| client.get("/resume").field("last-event-id", data).send());
    assert_eq!(response.status(), StatusCode::OK);
    let expected = std::str::from_utf8(data).unwrap_or_default().trim_matches([' ', '\t']);
    assert_eq!(response.text(), expected);
    // Given to an event it is one line of it, and adds nothing to it.
    let stream = CLIENT.with(|client| client.get("/event").field("last-event-id", data).send());
    assert_eq!(stream.text(), format!("id: {expected}\ndata: x\n\n"));
}

fn texts(texts: &[&str]) -> Vec<Vec<u8>> {
    texts.iter().map(|text| text.as_bytes().to_vec()).collect()
}

pub(crate) fn cookie_seeds() -> Vec<Vec<u8>> {
    texts(&["a=b", "auth=true; session=0123", "a=\"b c\"; ;=x; b", "__Host-a=b", "a=b; a=c; $Version=1", "a=\u{e9}"])
}

pub(crate) fn range_seeds() -> Vec<Vec<u8>> {
    texts(&[
        "bytes=0-",
        "bytes=-5",
        "bytes=5-2",
        "bytes=-0",
        "bytes=0-0,2-2",
        "bytes=0-9,500-509,-1",
        "bytes=999-",
        "bytes=1000-",
        "x=0-1",
        "bytes=18446744073709551616-",
        "bytes=0-18446744073709551615",
        "bytes=0-,0-,0-,0-,0-",
        "bytes= 1-2 , 4-5",
    ])
}

pub(crate) fn multipart_seeds() -> Vec<Vec<u8>> {
    static ALL: LazyLock<Vec<Vec<u8>>> = LazyLock::new(|| {
        texts(&[
            " --b\r\nContent-Disposition: form-data; name=\"a\"\r\n\r\nvalue\r\n--b--\r\n",
            " --b\r\nContent-Disposition: form-data; name=\"f\"; filename=\"x.txt\"\r\nContent-Type: text/plain\r\n\r\n\
             one\r\ntwo\r\n--b\r\nContent-Disposition: form-data; name=\"g\"\r\n\r\n\r\n--b--",
            " preamble\r\n--b  \r\ncontent-disposition:form-data;name=a;filename*=UTF-8''%e2%82%ac\r\n\r\n--b-\r\n--b--x",
        ])
    });
    ALL.clone()
}

pub(crate) fn resume_seeds() -> Vec<Vec<u8>> {
    texts(&["0", "42", "18446744073709551615", "18446744073709551616", "-1", "+1", "a\tb", "\u{e9}"])
}
