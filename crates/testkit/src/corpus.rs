//! Other people's cases, read where they lie, with what is expected of them here: that we agree, but for the listed
//! exceptions. Nothing of theirs is kept in this repository.
//!
//! The folder is `../shared/corpus` beside the project, or `WEAPROUS_CORPUS`; without it a test says loudly that it
//! checked nothing. Requests without `Host` get one, since most of theirs lack it.

use crate::cases::unescape;
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};

/// One input and what is expected of it.
#[derive(Debug)]
pub struct CorpusCase {
    /// Folder and file, and the heading where a file holds several.
    pub name: String,
    /// Who reads it.
    pub role: Role,
    /// The bytes of the whole connection.
    pub input: Vec<u8>,
    /// Whether it is to be refused here; an input that only ends too early is not.
    pub is_refused: bool,
}

/// Who reads an input.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// A server: the input is requests.
    Server,
    /// A client that has sent `GET`: the input is responses.
    Client,
}

/// Accepted there, refused here: the case, and the clause that justifies it.
pub const REFUSED_HERE: [(&str, &str); 43] = [
    ("valid/005", FRAGMENT),
    ("valid/009", FRAGMENT),
    ("valid/025", TWO_LINES),
    ("valid/025_line", CODING),
    ("valid/027", NOT_ASCII),
    ("valid/029", TWO_LINES),
    ("valid/030", TWO_LINES),
    ("valid/031", METHOD),
    ("valid/100", TWO_SLASHES),
    ("valid/rfc9112_smuggle_gzip_chunked_01", CODING),
    ("valid/rfc9112_smuggle_te_identity_chunked_01", CODING),
    ("valid/rfc9112_target_absolute_userinfo_01", USERINFO),
    ("request/method M-SEARCH request", METHOD),
    ("request/method PURGE request", METHOD),
    ("request/method SOURCE request", METHOD),
    ("request/method SOURCE request with ICE", PROTOCOL),
    ("request/method OPTIONS request with RTSP", PROTOCOL),
    ("request/method ANNOUNCE request with RTSP", PROTOCOL),
    ("request/sample No HTTP version", PROTOCOL),
    ("request/transfer-encoding POST with `chunked` as last transfer-encoding", FRAGMENT),
    ("request/transfer-encoding POST with `chunked` as last transfer-encoding (multiple headers)", FRAGMENT),
    ("request/uri Fragment in URI", FRAGMENT),
    ("request/uri `host:port` and basic auth", USERINFO),
    ("response/connection HTTP 304 with Content-Length", EMPTY_LINE),
    ("response/connection HTTP 100 first, then 400", EMPTY_LINE),
    ("response/pipelining Should parse multiple events", EMPTY_LINE),
    ("response/sample Response starting with CRLF", EMPTY_LINE),
    ("response/sample RTSP response", PROTOCOL),
    ("response/sample ICE response", PROTOCOL),
    ("response/sample HTTP version 0.9", PROTOCOL),
    ("response/transfer-encoding `chunked` before other transfer-encoding", CHUNKED_NOT_LAST),
    ("response/transfer-encoding multiple transfer-encoding where chunked is not the last one", CHUNKED_NOT_LAST),
    (
        "response/transfer-encoding `chunkedchunked` transfer-encoding does not enable chunked enconding",
        CHUNKED_NOT_LAST,
    ),
    ("url Absolute URL", FRAGMENT),
    ("url Relative URL", FRAGMENT),
    ("url URL fragment", FRAGMENT),
    ("url Complex URL fragment", FRAGMENT),
    ("url Complex URL from node.js url parser doc", FRAGMENT),
    ("url Complex URL with basic auth from node.js url parser doc", USERINFO),
    ("url Proxy basic auth with url encoded space", USERINFO),
    ("url Proxy basic auth with unreserved chars", USERINFO),
    ("url IPv6 address with Zone ID", ZONE),
    ("url IPv6 address with Zone ID, but `%` is not percent-encoded", ZONE),
];

const FRAGMENT: &str = "a target has no fragment (RFC 9112 §3.2)";
const NOT_ASCII: &str = "a target is ASCII (RFC 3986 §2)";
const TWO_SLASHES: &str = "`//` in front reads as an authority elsewhere (row S3)";
const USERINFO: &str = "userinfo is an error (RFC 9110 §4.2.4)";
const ZONE: &str = "an address in a target has no zone (RFC 3986 §3.2.2)";
const METHOD: &str = "a method nobody implements is a 501 (RFC 9110 §9.1)";
const PROTOCOL: &str = "not HTTP/1.x (RFC 9112 §2.3)";
const CODING: &str = "a coding nobody implements is a 501 (RFC 9112 §6.1)";
const TWO_LINES: &str = "Transfer-Encoding in two lines (row F6)";
const CHUNKED_NOT_LAST: &str = "a faulty coding is not read until close (row F18)";
const EMPTY_LINE: &str = "only a server ignores empty lines in front (RFC 9112 §2.2)";

/// Refused there, accepted here.
pub const ACCEPTED_HERE: [(&str, &str); 4] =
    [("invalid/006", LIMITS), ("invalid/007", LIMITS), ("invalid/008", LIMITS), ("invalid/017", LIMITS)];

const LIMITS: &str = "limits are each recipient's own; theirs are lower here (RFC 9110 §5.4, RFC 9112 §3)";

/// Refused there; here it is neither refused nor ever complete, however it goes on: the case, and why that is as good.
pub const NEVER_COMPLETE: [(&str, &str); 1] =
    [("invalid/rfc9112_chunked_missing_final_crlf_01", "what is cut short is incomplete (RFC 9112 §8)")];

impl CorpusCase {
    /// The same with an empty line behind it. Many of theirs show a mistake in a head that does not end: only so is it
    /// the mistake that is refused, and not the missing end.
    pub fn with_an_end(&self) -> Vec<u8> {
        [&self.input[..], b"\r\n\r\n"].concat()
    }

    /// Whether it is one of [`NEVER_COMPLETE`].
    pub fn is_never_complete(&self) -> bool {
        NEVER_COMPLETE.iter().any(|(listed, _)| *listed == self.name)
    }
}

/// All cases, or nothing where there is no corpus.
///
/// # Panics
/// A listed exception names no case, or the corpus cannot be read.
pub fn corpus() -> Option<Vec<CorpusCase>> {
    let folder = folder()?;
    let mut cases = Vec::new();
    for (name, valid) in [("valid", true), ("invalid", false)] {
        for path in files(&folder.join("gunicorn").join(name), "http") {
            let text = read(&path).replace("\\x0D", "\\x0d");
            cases.push(case(format!("{name}/{}", stem(&path)), Role::Server, &unescape(&text), valid));
        }
    }
    for (name, role) in [("request", Role::Server), ("response", Role::Client)] {
        for path in files(&folder.join("llhttp").join(name), "md") {
            let file = format!("{name}/{}", stem(&path));
            let found = llhttp_cases(&read(&path), "```http");
            assert!(!found.is_empty(), "no cases in {file}");
            cases.extend(
                found.into_iter().map(|(title, input, valid)| case(format!("{file} {title}"), role, &input, valid)),
            );
        }
    }
    let urls = llhttp_cases(&read(&folder.join("llhttp/url.md")), "```url");
    assert!(!urls.is_empty(), "no targets in url.md");
    cases.extend(urls.into_iter().map(|(title, target, valid)| {
        let target = target.strip_suffix(b"\r\n").unwrap_or(&target);
        let input = [b"GET ", target, b" HTTP/1.1\r\n\r\n"].concat();
        case(format!("url {title}"), Role::Server, &input, valid)
    }));
    for (listed, _) in REFUSED_HERE.iter().chain(&ACCEPTED_HERE).chain(&NEVER_COMPLETE) {
        assert!(cases.iter().any(|case| case.name == *listed), "{listed} is an exception and no case");
    }
    Some(cases)
}

fn case(name: String, role: Role, input: &[u8], valid: bool) -> CorpusCase {
    let is_in = |list: &[(&str, &str)]| list.iter().any(|(listed, _)| *listed == name);
    let is_refused = if valid { is_in(&REFUSED_HERE) } else { !is_in(&ACCEPTED_HERE) };
    let input = if role == Role::Server { with_host(input) } else { input.to_vec() };
    CorpusCase { name, role, input, is_refused }
}

fn folder() -> Option<PathBuf> {
    let beside = concat!(env!("CARGO_MANIFEST_DIR"), "/../../../shared/corpus");
    let path = std::env::var_os("WEAPROUS_CORPUS").map_or_else(|| beside.into(), PathBuf::from);
    if path.is_dir() {
        return Some(path);
    }
    // Not by a print macro: the test runner would swallow it.
    let notice = format!("SKIPPED: no corpus in {}; set WEAPROUS_CORPUS\n", path.display());
    let _ = std::io::stderr().write_all(notice.as_bytes());
    None
}

fn files(folder: &Path, extension: &str) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).expect("the corpus can be read");
    let mut paths: Vec<_> = entries.map(|entry| entry.expect("the corpus can be read").path()).collect();
    paths.retain(|path| path.extension().is_some_and(|found| found == extension));
    paths.sort();
    assert!(!paths.is_empty(), "no cases in {}", folder.display());
    paths
}

fn read(path: &Path) -> String {
    fs::read_to_string(path).expect("the corpus can be read")
}

fn stem(path: &Path) -> String {
    path.file_stem().unwrap_or_default().to_string_lossy().into_owned()
}

/// Adds `Host` after every HTTP/1.1 request line of an input that has none at all.
fn with_host(input: &[u8]) -> Vec<u8> {
    const LINE_END: &[u8] = b" HTTP/1.1\r\n";
    let has_host = input.windows(6).any(|part| part.eq_ignore_ascii_case(b"\nHost:"));
    let mut output = Vec::new();
    let mut rest = input;
    while let Some(at) = rest.windows(LINE_END.len()).position(|part| part == LINE_END).filter(|_| !has_host) {
        output.extend_from_slice(&rest[..at + LINE_END.len()]);
        output.extend_from_slice(b"Host: corpus\r\n");
        rest = &rest[at + LINE_END.len()..];
    }
    output.extend_from_slice(rest);
    output
}

/// The input blocks of a file, which begin with this line, under their headings, and whether the strict reader accepts
/// them.
fn llhttp_cases(text: &str, begin: &str) -> Vec<(String, Vec<u8>, bool)> {
    let mut cases: Vec<(String, Vec<u8>, bool)> = Vec::new();
    let mut title = String::new();
    let mut lenient = false;
    let mut lines = text.lines();
    while let Some(line) = lines.next() {
        if let Some(heading) = line.strip_prefix("## ").or_else(|| line.strip_prefix("### ")) {
            heading.clone_into(&mut title);
        } else if line.starts_with("<!-- meta=") {
            lenient = line.contains("lenient");
        } else if line == begin {
            let block: Vec<_> = lines.by_ref().take_while(|line| *line != "```").collect();
            cases.push((title.clone(), llhttp_bytes(&block.join("\n")), true));
        } else if line == "```log" {
            let mut block = lines.by_ref().take_while(|line| *line != "```");
            let failed = block.any(|line| line.contains("error code") && !line.contains("code=22"));
            cases.last_mut().expect("an outcome follows an input").2 = !failed && !lenient;
        }
    }
    cases
}

/// A line end means CRLF unless a backslash stands before it.
fn llhttp_bytes(block: &str) -> Vec<u8> {
    let joined = format!("{block}\n").replace("\\\n", "");
    let marked = joined.strip_suffix('\n').unwrap_or(&joined).replace('\n', "\\r\\n");
    let mut bytes = Vec::new();
    let mut rest = marked.as_bytes();
    while let [byte, after @ ..] = rest {
        rest = match rest {
            [b'\\', b'r', after @ ..] => push(&mut bytes, b'\r', after),
            [b'\\', b'n', after @ ..] => push(&mut bytes, b'\n', after),
            [b'\\', b't', after @ ..] => push(&mut bytes, b'\t', after),
            [b'\\', b'f', after @ ..] => push(&mut bytes, 0x0c, after),
            [b'\\', b'x', a, b, after @ ..] => push(&mut bytes, number(&[*a, *b], 16), after),
            [b'\\', a @ b'0'..=b'3', b, c, after @ ..] if c.is_ascii_digit() => {
                push(&mut bytes, number(&[*a, *b, *c], 8), after)
            }
            [b'\\', a @ b'0'..=b'3', b, after @ ..] if b.is_ascii_digit() => {
                push(&mut bytes, number(&[*a, *b], 8), after)
            }
            _ => push(&mut bytes, *byte, after),
        };
    }
    bytes
}

fn push<'a>(bytes: &mut Vec<u8>, byte: u8, after: &'a [u8]) -> &'a [u8] {
    bytes.push(byte);
    after
}

fn number(digits: &[u8], radix: u32) -> u8 {
    std::str::from_utf8(digits).ok().and_then(|text| u8::from_str_radix(text, radix).ok()).expect("an escape is a byte")
}
