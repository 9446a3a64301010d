//! What is sent smaller, what is left alone, and that it is the same content afterwards.

use crate::support::serve;
use std::io::{Read, Write};
use std::time::Duration;
use weaprous::compress::{Coding, Compress};
use weaprous::testing::{Client, Response as Answer};
use weaprous::{Body, prelude::*};

fn decode(coding: Option<&str>, bytes: &[u8]) -> Vec<u8> {
    let mut plain = Vec::new();
    match coding {
        Some("gzip") => flate2::read::GzDecoder::new(bytes).read_to_end(&mut plain).map(drop),
        Some("br") => brotli::Decompressor::new(bytes, 4096).read_to_end(&mut plain).map(drop),
        Some("zstd") => zstd::stream::read::Decoder::new(bytes).unwrap().read_to_end(&mut plain).map(drop),
        None => return bytes.to_vec(),
        other => panic!("{other:?}"),
    }
    .unwrap();
    plain
}

fn text(seed: usize, len: usize) -> String {
    let words = ["sea ", "wind ", "sail ", "harbour ", "<p>", "7", "é", "\n"];
    let mut state = seed;
    let mut text = String::new();
    while text.len() < len {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        text += words[(state >> 33) % words.len()];
    }
    text
}

/// An application whose every answer is this.
fn answering(answer: impl Fn() -> Response + Send + Sync + 'static) -> Client {
    Client::new(App::new().route("/", [GET, POST], async move || answer()).layer(Compress::new()))
}

fn html(text: impl Into<Body>) -> Response {
    Response::new(StatusCode::OK).field("content-type", "text/html").with_body(text)
}

fn ask(client: &Client, accept_encoding: &str) -> Answer {
    client.get("/").field("accept-encoding", accept_encoding).send()
}

#[test]
fn content_is_the_same_afterwards() {
    for len in [1024, 5_000, 32 * 1024, 32 * 1024 + 1, 3_000_000] {
        let whole = text(len, len);
        let original = whole.clone();
        let client = answering(move || html(whole.clone()));
        for coding in ["gzip", "br", "zstd"] {
            let answer = ask(&client, coding);
            assert_eq!(answer.field("content-encoding"), Some(coding));
            assert_eq!(answer.field("vary"), Some("Accept-Encoding"));
            assert_eq!(answer.field("content-length").is_some(), original.len() <= 32 * 1024, "{len}");
            assert!(answer.bytes().len() < len / 2);
            assert!(decode(Some(coding), &answer.bytes()) == original.as_bytes(), "{coding} of {len} bytes");
        }
        let plain = ask(&client, "identity");
        assert_eq!((plain.field("content-encoding"), plain.field("vary")), (None, Some("Accept-Encoding")));
        assert!(plain.text() == original);
    }
}

#[test]
fn streams_are_the_same_afterwards() {
    for coding in ["gzip", "br", "zstd"] {
        for size in [1, 100, 10_000, 100_000] {
            let whole = text(size, 200_000.min(size * 500));
            let pieces: Vec<Vec<u8>> = whole.as_bytes().chunks(size).map(<[u8]>::to_vec).collect();
            let client = answering(move || {
                let (sender, body) = Body::channel();
                let pieces = pieces.clone();
                tokio::task::spawn_local(async move {
                    for piece in pieces {
                        sender.send(piece).await.unwrap();
                    }
                });
                html(body)
            });
            let answer = ask(&client, coding);
            assert_eq!(answer.field("content-encoding"), Some(coding));
            assert!(decode(Some(coding), &answer.bytes()) == whole.as_bytes(), "{coding} in pieces of {size}");
        }
    }
}

#[test]
fn a_slow_stream_is_not_held_back() {
    for coding in ["gzip", "br", "zstd"] {
        let (give, take) = std::sync::mpsc::channel();
        let client = answering(move || {
            let (sender, body) = Body::channel();
            give.send(sender).unwrap();
            html(body)
        });
        let answer = ask(&client, coding);
        let sender = take.recv().unwrap();
        let mut received = Vec::new();
        let mut sent = String::new();
        for word in ["one ", "two ", "three "] {
            sender.blocking_send(word).unwrap();
            sent += word;
            // All of it is there before the next is sent; a decoder that wants more would fail.
            while partly_decoded(coding, &received) != sent.as_bytes() {
                received.extend_from_slice(&answer.chunk().unwrap().unwrap());
            }
        }
        drop(sender);
        while let Some(chunk) = answer.chunk() {
            received.extend_from_slice(&chunk.unwrap());
        }
        assert_eq!(decode(Some(coding), &received), sent.as_bytes());
    }
}

/// What a decoder gives before it asks for more.
fn partly_decoded(coding: &str, bytes: &[u8]) -> Vec<u8> {
    let mut plain = Vec::new();
    let mut byte = [0];
    let mut reader: Box<dyn Read> = match coding {
        "gzip" => Box::new(flate2::read::GzDecoder::new(bytes)),
        "br" => Box::new(brotli::Decompressor::new(bytes, 1)),
        _ => Box::new(zstd::stream::read::Decoder::new(bytes).unwrap()),
    };
    while let Ok(1) = reader.read(&mut byte) {
        plain.push(byte[0]);
    }
    plain
}

#[test]
fn a_source_that_fails_breaks_the_answer_off() {
    let client = answering(|| {
        let (sender, body) = Body::channel();
        tokio::task::spawn_local(async move {
            sender.send(text(1, 5000)).await.unwrap();
            sender.fail("the disk is gone").await;
        });
        html(body)
    });
    let answer = ask(&client, "gzip");
    let end = std::iter::from_fn(|| answer.chunk()).find(Result::is_err);
    assert!(end.is_some(), "the client sees no clean end");
}

#[test]
fn some_things_are_left_alone() {
    let check = |what: &str, answer: fn() -> Response| {
        let client = answering(answer);
        let answer = ask(&client, "gzip, br, zstd");
        let encoding = answer.field("content-encoding").filter(|coding| *coding != "br-of-its-own");
        assert_eq!((encoding, answer.field("vary")), (None, None), "{what}");
        assert!(answer.bytes().len() >= 1000);
    };
    check("short content", || html(text(1, 1000)[..1000].to_owned()));
    check("an image", || Response::bytes(StatusCode::OK, "image/png", text(1, 5000)));
    check("no type", || Response::new(StatusCode::OK).with_body(text(1, 5000)));
    check("encoded content", || html(text(1, 5000)).field("content-encoding", "br-of-its-own"));
    check("no-transform", || html(text(1, 5000)).field("cache-control", "max-age=5, No-Transform"));
    check("a range", || (StatusCode::PARTIAL_CONTENT, html(text(1, 5000))).into_response());
    check("a cookie", || html(text(1, 5000)).field("set-cookie", "a=b"));
    check("private", || html(text(1, 5000)).field("cache-control", "private"));
    check("no-store", || html(text(1, 5000)).field("cache-control", "no-store"));
    check("events", || {
        let events = Sse::new(async |sender: SseSender| sender.send(Event::new().data(text(1, 5000))).await);
        Response::new(StatusCode::OK).field("content-type", "text/event-stream").with_body(events.into_response().body)
    });
}

#[test]
fn secrets_are_left_alone_unless_the_route_is_trusted() {
    let app = || {
        App::new()
            .route("/mine", [GET], async || html(text(1, 5000)))
            .route("/everybody-s", [GET], async || html(text(1, 5000)).field("cache-control", "public, max-age=60"))
    };
    let is_compressed = |client: &Client, target: &str, name: &str, value: &str| {
        let answer = client.get(target).field("accept-encoding", "gzip").field(name, value).send();
        answer.field("content-encoding").is_some()
    };
    let client = Client::new(app().layer(Compress::new()));
    assert!(is_compressed(&client, "/mine", "x-nothing", "a"));
    for (name, value) in [("cookie", "session=a"), ("authorization", "Bearer a")] {
        assert!(!is_compressed(&client, "/mine", name, value), "{name}");
        assert!(is_compressed(&client, "/everybody-s", name, value), "{name}");
    }
    let client = Client::new(app().layer(Compress::new().trust_routes()));
    assert!(is_compressed(&client, "/mine", "cookie", "session=a"));
}

#[test]
fn caches_and_conditional_requests_are_told_the_truth() {
    let client = answering(|| {
        html(text(1, 5000)).field("etag", "\"v1\"").field("vary", "Accept, Cookie").field("accept-ranges", "bytes")
    });
    let answer = ask(&client, "gzip");
    assert_eq!(answer.field("etag"), Some("W/\"v1\""));
    assert_eq!(answer.fields_named("vary").collect::<Vec<_>>(), ["Accept, Cookie, Accept-Encoding"]);
    assert_eq!(answer.field("accept-ranges"), None);
    let plain = ask(&client, "");
    assert_eq!((plain.field("etag"), plain.field("accept-ranges")), (Some("\"v1\""), Some("bytes")));
    assert_eq!(plain.field("vary"), Some("Accept, Cookie, Accept-Encoding"));
    let client = answering(|| html(text(1, 5000)).field("vary", "accept-encoding").field("etag", "W/\"v1\""));
    assert_eq!(ask(&client, "gzip").field("vary"), Some("accept-encoding"));
    assert_eq!(ask(&client, "gzip").field("etag"), Some("W/\"v1\""));
    let client = answering(|| Response::new(StatusCode::NOT_MODIFIED).field("etag", "\"v1\""));
    assert_eq!(ask(&client, "gzip").field("etag"), Some("W/\"v1\""));
}

#[test]
fn head_says_what_get_does() {
    for len in [2000, 100_000] {
        let client = answering(move || html(text(1, len)).field("etag", "\"v1\""));
        let get = ask(&client, "br");
        let head = client.head("/").field("accept-encoding", "br").send();
        for name in ["content-encoding", "etag", "vary", "content-type"] {
            assert_eq!(head.field(name), get.field(name), "{name}");
        }
        let length = head.field("content-length").map(str::to_owned);
        assert!(length.is_none() || length.as_deref() == get.field("content-length"), "{length:?}");
        assert!(head.bytes().is_empty());
    }
}

#[test]
fn the_order_of_codings_is_ours_where_the_client_does_not_mind() {
    let app = App::new().route("/", [GET], async || html(text(1, 5000)));
    let layer = Compress::new().codings([Coding::Gzip, Coding::Zstd]).bytes_min(1);
    let client = Client::new(app.layer(layer));
    assert_eq!(ask(&client, "br, zstd, gzip").field("content-encoding"), Some("gzip"));
    assert_eq!(ask(&client, "br, zstd").field("content-encoding"), Some("zstd"));
    assert_eq!(ask(&client, "br").field("content-encoding"), None);
}

#[test]
fn incompressible_content_is_sent_as_it_is() {
    // 30 KB that no coding makes smaller, under a type that usually shrinks.
    let mut state = 1_u64;
    let noise: Vec<u8> = (0..30_000)
        .map(|_| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 56) as u8
        })
        .collect();
    let client = answering(move || html(noise.clone()));
    let answer = ask(&client, "gzip");
    assert_eq!((answer.field("content-encoding"), answer.field("vary")), (None, Some("Accept-Encoding")));
    assert_eq!(answer.bytes().len(), 30_000);
}

#[test]
fn large_content_leaves_others_their_turn() {
    // One worker compresses 10 MB; meanwhile it answers another connection many times.
    let app = App::new()
        .route("/large", [GET], async || html(text(1, 10_000_000)))
        .route("/small", [GET], async || "x")
        .layer(Compress::new().codings([Coding::Brotli]));
    let server = serve(app);
    let mut large = std::net::TcpStream::connect(server.local_addrs()[0]).unwrap();
    large.set_read_timeout(Some(Duration::from_mins(1))).unwrap();
    large.write_all(b"GET /large HTTP/1.1\r\nHost: test\r\nConnection: close\r\nAccept-Encoding: br\r\n\r\n").unwrap();
    let mut first = [0; 1000];
    large.read_exact(&mut first).unwrap();
    let reading = std::thread::spawn(move || {
        let mut rest = Vec::new();
        large.read_to_end(&mut rest).unwrap();
        assert!(rest.ends_with(b"\r\n0\r\n\r\n"), "the answer is whole");
    });
    let mut small = crate::support::connect(&server);
    let mut meanwhile = 0;
    while !reading.is_finished() {
        small.send("GET /small HTTP/1.1\r\nHost: test\r\n\r\n");
        assert_eq!(small.read_response().text(), "x");
        meanwhile += 1;
    }
    reading.join().unwrap();
    assert!(meanwhile > 20, "{meanwhile} answers while 10 MB were compressed");
}
