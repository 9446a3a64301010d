//! Servers that are away, slow or wrong: each is an error of its own, never a clean end.

use crate::client::{get, request};
use crate::support::{accept, answer_once, block_on, read_head, scripted};
use engine::{Body, BodyError, Client, ClientError, ClientErrorKind, ClientSettings, Method, OutgoingRequest, Stage};
use std::net::{SocketAddr, TcpListener};
use std::time::Duration;

const SHORT: Duration = Duration::from_millis(100);

fn impatient() -> Client {
    Client::new(ClientSettings {
        connect_timeout: SHORT,
        head_timeout: SHORT,
        body_idle_timeout: SHORT,
        write_idle_timeout: SHORT,
        ..ClientSettings::default()
    })
}

fn fails(client: &Client, addr: SocketAddr, request: OutgoingRequest) -> ClientError {
    block_on(async { client.send(addr, request).await.expect_err("there is no proper response") })
}

/// The error of reading the body of what `answer` begins.
fn body_fails(answer: &'static [u8]) -> BodyError {
    let (addr, upstream) = scripted(move |listener| drop(answer_once(listener, answer)));
    let error = block_on(async {
        let client = Client::new(ClientSettings::default());
        let (_, body) = client.send(addr, get("/")).await.unwrap();
        let error = body.collect(u64::MAX).await.expect_err("the body has no proper end");
        assert_eq!(client.idle_connections(), 0);
        error
    });
    upstream.join().unwrap();
    error
}

#[test]
fn nobody_listening_is_refused_and_gives_the_request_back() {
    let addr = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let (sender, body) = Body::channel();
    let failed = block_on(async {
        sender.send("kept").await.unwrap();
        drop(sender);
        impatient().send_or_return(addr, request(Method::Post, "/", body)).await.expect_err("nobody is there")
    });
    assert!(matches!(failed.error.kind, ClientErrorKind::Refused), "{:?}", failed.error);
    assert!(failed.error.is_connect() && failed.error.can_retry);
    let body = failed.request.expect("nothing was sent").body;
    assert_eq!(block_on(body.collect(100)).unwrap(), "kept");
}

#[test]
fn a_server_that_says_nothing_is_timed_out() {
    let (addr, upstream) = scripted(|listener| {
        let mut stream = accept(listener);
        read_head(&mut stream);
        assert_eq!(std::io::Read::read(&mut stream, &mut [0]).unwrap(), 0, "the client gives up");
    });
    let error = fails(&impatient(), addr, get("/"));
    assert!(error.is_timeout() && error.stage == Stage::Head, "{error:?}");
    assert!(error.can_retry, "a GET does no harm elsewhere");
    upstream.join().unwrap();
}

#[test]
fn a_post_that_was_sent_is_never_repeated() {
    let (addr, upstream) = scripted(|listener| {
        let mut stream = answer_once(listener, b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n");
        read_head(&mut stream);
        std::io::Read::read_exact(&mut stream, &mut [0; 4]).unwrap();
        drop(stream);
        listener.set_nonblocking(true).unwrap();
        assert!(listener.accept().is_err(), "the request came again");
    });
    let client = impatient();
    block_on(async {
        client.send(addr, get("/")).await.unwrap();
        let failed = client.send_or_return(addr, request(Method::Post, "/", "once")).await.expect_err("no answer");
        assert!(matches!(failed.error.kind, ClientErrorKind::Closed), "{:?}", failed.error);
        assert!(!failed.error.can_retry && failed.request.is_none());
    });
    upstream.join().unwrap();
}

#[test]
fn garbage_is_a_protocol_error() {
    for garbage in [
        &b"SSH-2.0-OpenSSH_9\r\n\r\n"[..],
        b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n",
        b"HTTP/1.1 99 Low\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nNo colon here\r\n\r\n",
    ] {
        let (addr, upstream) = scripted(move |listener| drop(answer_once(listener, garbage)));
        let error = fails(&Client::new(ClientSettings::default()), addr, get("/"));
        assert!(matches!(error.kind, ClientErrorKind::Protocol(_)), "{}: {error:?}", garbage.escape_ascii());
        assert!(!error.can_retry);
        upstream.join().unwrap();
    }
}

#[test]
fn a_head_cut_short_is_closed() {
    let (addr, upstream) = scripted(|listener| drop(answer_once(listener, b"HTTP/1.1 200 OK\r\nConte")));
    let error = fails(&Client::new(ClientSettings::default()), addr, get("/"));
    assert!(matches!(error.kind, ClientErrorKind::Closed), "{error:?}");
    assert!(!error.can_retry, "part of a response was seen");
    upstream.join().unwrap();
}

#[test]
fn a_body_cut_short_is_an_error() {
    let cut = body_fails(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhello");
    assert!(matches!(cut, BodyError::Closed), "{cut:?}");
    let cut = body_fails(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n");
    assert!(matches!(cut, BodyError::Closed), "{cut:?}");
    let broken = body_fails(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhelloXX0\r\n\r\n");
    assert!(matches!(broken, BodyError::Malformed(_)), "{broken:?}");
}

#[test]
fn a_body_that_stops_is_timed_out() {
    let (addr, upstream) = scripted(|listener| {
        let mut stream = answer_once(listener, b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhello");
        assert_eq!(std::io::Read::read(&mut stream, &mut [0]).unwrap(), 0, "the client gives up");
    });
    let error = block_on(async {
        let (_, body) = impatient().send(addr, get("/")).await.unwrap();
        body.collect(u64::MAX).await.expect_err("the rest does not come")
    });
    assert!(matches!(error, BodyError::TimedOut), "{error:?}");
    upstream.join().unwrap();
}

#[test]
fn bytes_after_a_response_end_the_connection() {
    let (addr, upstream) = scripted(|listener| {
        let smuggled =
            b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nokHTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil";
        let first = answer_once(listener, smuggled);
        let second = answer_once(listener, b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\ngood");
        drop((first, second));
    });
    block_on(async {
        let client = Client::new(ClientSettings::default());
        for expected in ["ok", "good"] {
            let (_, body) = client.send(addr, get("/")).await.unwrap();
            assert_eq!(body.collect(100).await.unwrap(), expected);
        }
    });
    upstream.join().unwrap();
}

#[test]
fn a_protocol_nobody_asked_for_is_refused() {
    let (addr, upstream) = scripted(|listener| {
        drop(answer_once(listener, b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n"));
    });
    let error = fails(&Client::new(ClientSettings::default()), addr, get("/"));
    assert!(matches!(error.kind, ClientErrorKind::Unasked | ClientErrorKind::Protocol(_)), "{error:?}");
    upstream.join().unwrap();
}

#[test]
fn an_early_refusal_of_an_upload_is_read() {
    let (addr, upstream) = scripted(|listener| {
        let stream = answer_once(
            listener,
            b"HTTP/1.1 413 Content Too Large\r\nConnection: close\r\nContent-Length: 3\r\n\r\nbig",
        );
        std::io::copy(&mut &stream, &mut std::io::sink()).unwrap(); // until the client closes
    });
    block_on(async {
        let client = Client::new(ClientSettings::default());
        let (_sender, body) = Body::channel(); // never ends
        let (head, body) = client.send(addr, request(Method::Post, "/", body)).await.unwrap();
        assert_eq!(head.status().as_u16(), 413);
        assert_eq!(body.collect(100).await.unwrap(), "big");
        assert_eq!(client.idle_connections(), 0);
    });
    upstream.join().unwrap();
}

#[test]
fn content_of_ours_that_fails_ends_the_request() {
    let (addr, upstream) = scripted(|listener| {
        let mut stream = accept(listener);
        let mut all = Vec::new();
        std::io::Read::read_to_end(&mut stream, &mut all).unwrap();
        assert!(!all.ends_with(b"0\r\n\r\n"), "the request has no proper end: {}", all.escape_ascii());
    });
    let error = block_on(async {
        let (sender, body) = Body::channel();
        sender.send("some").await.unwrap();
        sender.fail("no more").await;
        Client::new(ClientSettings::default()).send(addr, request(Method::Post, "/", body)).await.expect_err("no end")
    });
    assert!(matches!(error.kind, ClientErrorKind::Body(_)) && !error.can_retry, "{error:?}");
    upstream.join().unwrap();
}

#[test]
fn a_request_that_cannot_be_sent_is_our_mistake() {
    let (addr, upstream) = scripted(|listener| drop(accept(listener)));
    let error = fails(&Client::new(ClientSettings::default()), addr, get("/with space"));
    assert!(matches!(error.kind, ClientErrorKind::Request(_)), "{error:?}");
    upstream.join().unwrap();
}
