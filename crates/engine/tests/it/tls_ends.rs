//! How TLS connections end, and what comes of those that never begin well.

use crate::support::{connect, settings, target_of};
use crate::tls_support::{Authority, END_HEADERS, END_STREAM, FrameClient, HEADERS, TlsClient, head, serve_tls};
use engine::{Request, Response, Running, StatusCode};
use std::io::{Read as _, Write as _};
use std::net::{Shutdown, SocketAddr};
use std::time::{Duration, Instant};

/// A good handshake record whose content is none (RFC 8446 §5.1).
const NO_HELLO: [u8; 13] = [0x16, 3, 1, 0, 8, 0xff, 0, 0, 4, 1, 2, 3, 4];
/// A fatal alert (RFC 8446 §6).
const ALERT: u8 = 0x15;

fn addr(server: &Running) -> SocketAddr {
    server.local_addrs()[0]
}

/// Answers when the end of what the client sends has had time to arrive.
fn serve_late() -> (Running, Authority) {
    serve_tls(settings(), || {
        |request: Request| async move {
            tokio::time::sleep(Duration::from_millis(20)).await;
            target_of(&request)
        }
    })
}

/// Reads to the end; panics where the server ends without saying so.
fn text_to_the_end(client: &mut TlsClient) -> String {
    let mut text = String::new();
    client.stream.read_to_string(&mut text).expect("the end is told by close_notify");
    text
}

/// Two requests and an end that `ends` tells.
fn check_half_closed(ends: impl Fn(&mut TlsClient)) {
    let (server, authority) = serve_late();
    for version in [&rustls::version::TLS12, &rustls::version::TLS13] {
        let setup = authority.client().with_version(version).with_alpn(&[b"http/1.1"]);
        let mut client = setup.connect(addr(&server), "localhost").unwrap();
        client.send("GET /1 HTTP/1.1\r\nHost: localhost\r\n\r\nGET /2 HTTP/1.1\r\nHost: localhost\r\n\r\n");
        ends(&mut client);
        let text = text_to_the_end(&mut client);
        assert!(text.contains("GET /1") && text.ends_with("GET /2"), "{version:?}: {text}");
    }
}

fn close_notify(client: &mut TlsClient) {
    client.stream.conn.send_close_notify();
    client.stream.flush().unwrap();
}

#[test]
fn a_client_that_says_close_notify_is_answered_then_told_the_same() {
    check_half_closed(close_notify);
}

#[test]
fn so_is_one_that_closes_its_sending_side_too() {
    check_half_closed(|client| {
        close_notify(client);
        client.stream.sock.shutdown(Shutdown::Write).unwrap();
    });
}

#[test]
fn over_http2_who_ends_the_connection_has_left() {
    let (server, authority) = serve_late();
    let mut frames = FrameClient::connect(&server, &authority);
    frames.send(HEADERS, END_STREAM | END_HEADERS, 1, &head("GET", &[]));
    close_notify(&mut frames.client);
    let answer = std::iter::from_fn(|| frames.read()).find(|frame| frame.kind == HEADERS);
    assert_eq!(answer, None, "RFC 9113 §9.1: both sides leave by GOAWAY");
    assert_eq!(authority.client().connect(addr(&server), "localhost").unwrap().get("localhost", "/").status, 200);
}

#[test]
fn a_request_cut_short_by_close_notify_is_none() {
    let (server, authority) = serve_tls(settings(), || {
        |request: Request| async move {
            match request.body.collect(100).await {
                Ok(_) => Response::text(StatusCode::OK, "complete"),
                Err(error) => Response::text(error.status(), "cut short"),
            }
        }
    });
    for request in [
        "POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 10\r\n\r\nhello",
        "POST / HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n",
        "GET / HTTP/1.1\r\nHost: localhost",
    ] {
        let mut client = authority.client().connect(addr(&server), "localhost").unwrap();
        client.send(request);
        close_notify(&mut client);
        let text = text_to_the_end(&mut client);
        assert!(!text.contains("complete") && !text.starts_with("HTTP/1.1 2"), "{request}: {text}");
    }
}

#[test]
fn who_begins_with_nonsense_is_told_and_closed_at_once_and_harms_nobody() {
    let (server, authority) = serve_late();
    let mut before = authority.client().connect(addr(&server), "localhost").unwrap();
    let started = Instant::now();
    for nonsense in [&NO_HELLO[..], b"\x16\xff\xff\xff\xff nonsense", b"\x16\x03\x01\xff\xff nonsense"] {
        for _ in 0..50 {
            let mut client = connect(&server);
            client.send(nonsense);
            let told = client.read_to_end();
            assert_eq!(told.first(), Some(&ALERT), "{:?}", nonsense.escape_ascii().to_string());
        }
    }
    // Far below the deadline of a handshake, which would be waited for by somebody who is not refused.
    assert!(started.elapsed() < settings().head_timeout, "nobody waits for more of it");
    assert_eq!(before.get("localhost", "/").text(), "GET /");
    assert_eq!(authority.client().connect(addr(&server), "localhost").unwrap().get("localhost", "/").status, 200);
}
