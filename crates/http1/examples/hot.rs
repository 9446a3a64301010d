//! The paths that every request takes, many times over, for counting instructions:
//!
//! ```text
//! cargo build --release -p http1 --example hot
//! valgrind --tool=callgrind --toggle-collect='hot::*decode' target/release/examples/hot wrk 1000
//! ```

use bytes::{BufMut, BytesMut};
use http1::{Fields, Framing, Limits, Method, RequestDecoder, ResponseSpec, StatusCode, Step, Version};
use std::hint::black_box;

const WRK: &[u8] = b"GET / HTTP/1.1\r\nHost: 127.0.0.1:8080\r\n\r\n";

const BROWSER: &[u8] = b"GET /static/app.css?v=3 HTTP/1.1\r\nHost: 127.0.0.1:8080\r\nConnection: keep-alive\r\n\
    sec-ch-ua-platform: \"Linux\"\r\n\
    User-Agent: Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/140.0.0.0 Safari/537.36\r\n\
    Accept: text/css,*/*;q=0.1\r\nSec-Fetch-Site: same-origin\r\nReferer: http://127.0.0.1:8080/index.html\r\n\
    Accept-Encoding: gzip, deflate, br, zstd\r\nAccept-Language: en-GB,en;q=0.9\r\n\
    Cookie: auth=true; session=0123456789abcdef0123456789abcdef\r\n\r\n";

fn main() {
    let mut arguments = std::env::args().skip(1);
    let what = arguments.next().unwrap_or_default();
    let rounds = arguments.next().and_then(|rounds| rounds.parse().ok()).unwrap_or(1000);
    match what.as_str() {
        "wrk" => decode_all(WRK, rounds),
        "browser" => decode_all(BROWSER, rounds),
        "respond" => respond_all(rounds),
        _ => eprintln!("usage: hot wrk|browser|respond [ROUNDS]"),
    }
}

fn decode_all(request: &[u8], rounds: usize) {
    let mut decoder = RequestDecoder::new(Limits::default());
    let mut input = BytesMut::with_capacity(16 * 1024);
    for _ in 0..rounds {
        input.reserve(4096);
        input.put_slice(request);
        decode(&mut decoder, &mut input);
    }
}

/// One request from head to end, and the head's drop.
#[inline(never)]
fn decode(decoder: &mut RequestDecoder, input: &mut BytesMut) {
    let mut head = None;
    let step = decoder.poll_into(input, &mut head).expect("the request is good");
    assert!(matches!(step, Some(Step::Head)) && decoder.take_end(), "the request is complete");
    black_box(&head);
}

fn respond_all(rounds: usize) {
    let mut fields = Fields::new();
    fields.append("Content-Type", "text/plain; charset=utf-8").expect("a good field");
    let mut out = BytesMut::with_capacity(16 * 1024);
    for _ in 0..rounds {
        out.clear();
        respond(&mut out, &fields);
    }
}

/// The head of a small answer.
#[inline(never)]
fn respond(out: &mut BytesMut, fields: &Fields) {
    let spec = ResponseSpec {
        request_method: Method::Get,
        request_version: Version::Http11,
        status: StatusCode::OK,
        fields,
        framing: Framing::Length(13),
        keep_alive: true,
        date: Some(b"Sun, 06 Nov 1994 08:49:37 GMT"),
    };
    black_box(http1::write_response_head(out, &spec));
}
