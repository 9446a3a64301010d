//! Each limit of a decoder where it lies: what is exactly as long is read, what is one longer is refused by its status.

use bytes::BytesMut;
use http1::{Event, Limits, RequestDecoder, StatusCode};

fn small() -> Limits {
    Limits {
        head_bytes_max: 200,
        fields_max: 3,
        target_bytes_max: 20,
        chunk_line_max: 8,
        trailer_bytes_max: 40,
        body_bytes_max: 10,
    }
}

/// What becomes of a whole request, and of the same with its head's usual shape spoilt, which another reader takes.
fn check(text: &str, expect: Option<u16>) {
    let unusual = text.replacen("Host: a", "Host:\ta", 1);
    assert_ne!(unusual, text);
    for text in [text, &unusual] {
        for piece in [text.len(), 1, 7] {
            assert_eq!(outcome(text, piece).map(StatusCode::as_u16), expect, "{text:?} in pieces of {piece}");
        }
    }
}

fn outcome(text: &str, piece: usize) -> Option<StatusCode> {
    let (mut decoder, mut input) = (RequestDecoder::new(small()), BytesMut::new());
    for bytes in text.as_bytes().chunks(piece) {
        input.extend_from_slice(bytes);
        loop {
            match decoder.poll(&mut input) {
                Ok(Some(Event::End)) => return None,
                Ok(Some(_)) => {}
                Ok(None) => break,
                Err(error) => return Some(error.status()),
            }
        }
    }
    panic!("{text:?} has no end");
}

fn padded(length: usize) -> String {
    let (begin, end) = ("GET / HTTP/1.1\r\nHost: a\r\nX: ", "\r\n\r\n");
    [begin, &"x".repeat(length - begin.len() - end.len()), end].concat()
}

#[test]
fn a_head() {
    check(&padded(200), None);
    check(&padded(201), Some(431));
}

#[test]
fn fields() {
    check("GET / HTTP/1.1\r\nHost: a\r\nX: 1\r\nX: 2\r\n\r\n", None);
    check("GET / HTTP/1.1\r\nHost: a\r\nX: 1\r\nX: 2\r\nX: 3\r\n\r\n", Some(431));
}

#[test]
fn a_target() {
    let request = |length: usize| format!("GET /{} HTTP/1.1\r\nHost: a\r\n\r\n", "x".repeat(length - 1));
    check(&request(20), None);
    check(&request(21), Some(414));
}

fn chunked(rest: &str) -> String {
    format!("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n{rest}")
}

#[test]
fn a_body() {
    let declared =
        |length: usize| format!("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: {length}\r\n\r\n{}", "x".repeat(length));
    check(&declared(10), None);
    check(&declared(11), Some(413));
    check(&chunked("5\r\nabcde\r\n5\r\nfghij\r\n0\r\n\r\n"), None);
    check(&chunked("5\r\nabcde\r\n6\r\nfghijk\r\n0\r\n\r\n"), Some(413));
}

#[test]
fn a_chunk_line() {
    check(&chunked("1;abcdef\r\nx\r\n0\r\n\r\n"), None);
    check(&chunked("1;abcdefg\r\nx\r\n0\r\n\r\n"), Some(400));
}

#[test]
fn trailers() {
    let with = |length: usize| chunked(&format!("0\r\nX: {}\r\n\r\n", "x".repeat(length - "X: \r\n\r\n".len())));
    check(&with(40), None);
    check(&with(41), Some(431));
    check(&chunked("0\r\nX: 1\r\nX: 2\r\nX: 3\r\n\r\n"), None);
    check(&chunked("0\r\nX: 1\r\nX: 2\r\nX: 3\r\nX: 4\r\n\r\n"), Some(431));
}
