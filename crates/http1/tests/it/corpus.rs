//! Other people's cases, read where they lie: our answer agrees with theirs, or stands in a list with
//! its reason. Nothing of theirs is kept here.
//!
//! The folder is `../shared/corpus` beside the project, or `WEAPROUS_CORPUS`; without it the test says
//! loudly that it checked nothing. Requests without `Host` get one, since most of theirs lack it.

use crate::transcript::{Reader, transcript, without_fields};
use http1::{Limits, Method};
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use testkit::cases::unescape;

/// Answered there, refused here.
const REFUSED_HERE: [(&str, &str); 33] = [
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
];

const FRAGMENT: &str = "a target has no fragment (RFC 9112 §3.2)";
const NOT_ASCII: &str = "a target is ASCII (RFC 3986 §2)";
const TWO_SLASHES: &str = "`//` in front reads as an authority elsewhere (row S3)";
const USERINFO: &str = "userinfo is an error (RFC 9110 §4.2.4)";
const METHOD: &str = "a method nobody implements is a 501 (RFC 9110 §9.1)";
const PROTOCOL: &str = "not HTTP/1.x (RFC 9112 §2.3)";
const CODING: &str = "a coding nobody implements is a 501 (RFC 9112 §6.1)";
const TWO_LINES: &str = "Transfer-Encoding in two lines (row F6)";
const CHUNKED_NOT_LAST: &str = "a faulty coding is not read until close (row F18)";
const EMPTY_LINE: &str = "only a server ignores empty lines in front (RFC 9112 §2.2)";

/// Refused there, answered here: theirs has lower limits on lines.
const ANSWERED_HERE: [&str; 4] = ["invalid/006", "invalid/007", "invalid/008", "invalid/017"];

#[test]
fn gunicorn_cases_agree() {
    let Some(corpus) = corpus() else { return };
    let mut differences = Vec::new();
    for (folder, valid) in [("valid", true), ("invalid", false)] {
        for path in files(&corpus.join("gunicorn").join(folder), "http") {
            let text = fs::read_to_string(&path).unwrap().replace("\\x0D", "\\x0d");
            let name = format!("{folder}/{}", path.file_stem().unwrap().to_string_lossy());
            let got = read(&Reader::Requests, &with_host(&unescape(&text)));
            differences.extend(judge(&name, valid, &got));
        }
    }
    assert!(differences.is_empty(), "{}", differences.join("\n"));
}

#[test]
fn llhttp_cases_agree() {
    let Some(corpus) = corpus() else { return };
    let mut differences = Vec::new();
    for folder in ["request", "response"] {
        for path in files(&corpus.join("llhttp").join(folder), "md") {
            let text = fs::read_to_string(&path).unwrap();
            let file = format!("{folder}/{}", path.file_stem().unwrap().to_string_lossy());
            let cases = llhttp_cases(&text);
            assert!(!cases.is_empty(), "no cases in {file}");
            for case in cases {
                let got = match folder {
                    "request" => read(&Reader::Requests, &with_host(&case.input)),
                    _ => read(&Reader::Responses(vec![Method::Get; 4]), &case.input),
                };
                differences.extend(judge(&format!("{file} {}", case.title), case.valid, &got));
            }
        }
    }
    assert!(differences.is_empty(), "{}", differences.join("\n"));
}

/// What is wrong with our answer, if anything. An input that ends early is not thereby refused; one
/// that goes on after the connection closed is.
fn judge(name: &str, valid: bool, got: &str) -> Option<String> {
    let error = got.lines().last().filter(|line| line.starts_with("error"));
    let cut_short = |line: &str| line.ends_with("Incomplete") || line.ends_with("NoResponse");
    let agreed = if valid { error.is_none_or(cut_short) } else { error.is_some() || got.contains("idle left=") };
    let listed =
        if valid { REFUSED_HERE.iter().any(|(listed, _)| *listed == name) } else { ANSWERED_HERE.contains(&name) };
    match (agreed, listed) {
        (true, true) => Some(format!("{name} agrees and is listed as different")),
        (false, false) => Some(format!("{name} differs:\n{got}")),
        _ => None,
    }
}

fn corpus() -> Option<PathBuf> {
    let beside = concat!(env!("CARGO_MANIFEST_DIR"), "/../../../shared/corpus");
    let path = std::env::var_os("WEAPROUS_CORPUS").map_or_else(|| beside.into(), PathBuf::from);
    if path.is_dir() {
        return Some(path);
    }
    // Not by a print macro: the test runner would swallow it.
    let notice = format!("SKIPPED: no corpus in {}; set WEAPROUS_CORPUS\n", path.display());
    std::io::stderr().write_all(notice.as_bytes()).unwrap();
    None
}

fn files(folder: &Path, extension: &str) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).unwrap();
    let mut paths: Vec<_> = entries.map(|entry| entry.unwrap().path()).collect();
    paths.retain(|path| path.extension().is_some_and(|found| found == extension));
    paths.sort();
    assert!(!paths.is_empty(), "no cases in {}", folder.display());
    paths
}

fn read(reader: &Reader, input: &[u8]) -> String {
    let limits = Limits::default();
    let whole = transcript(reader, &limits, [input]);
    assert_eq!(whole, transcript(reader, &limits, testkit::byte_by_byte(input)));
    without_fields(&whole)
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

struct LlhttpCase {
    title: String,
    input: Vec<u8>,
    valid: bool,
}

/// The input blocks of a file with the outcome of the strict reader.
fn llhttp_cases(text: &str) -> Vec<LlhttpCase> {
    let mut cases: Vec<LlhttpCase> = Vec::new();
    let mut title = String::new();
    let mut lenient = false;
    let mut lines = text.lines();
    while let Some(line) = lines.next() {
        if let Some(heading) = line.strip_prefix("## ").or_else(|| line.strip_prefix("### ")) {
            heading.clone_into(&mut title);
        } else if line.starts_with("<!-- meta=") {
            lenient = line.contains("lenient");
        } else if line == "```http" {
            let block: Vec<_> = lines.by_ref().take_while(|line| *line != "```").collect();
            cases.push(LlhttpCase { title: title.clone(), input: llhttp_bytes(&block.join("\n")), valid: true });
        } else if line == "```log" {
            let mut block = lines.by_ref().take_while(|line| *line != "```");
            let failed = block.any(|line| line.contains("error code") && !line.contains("code=22"));
            cases.last_mut().unwrap().valid = !failed && !lenient;
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
    u8::from_str_radix(std::str::from_utf8(digits).unwrap(), radix).unwrap()
}
