//! The client against our own server, and against servers that close whenever they like.

use crate::support::{accept, answer_once, block_on, read_head, scripted, serve, settings, target_of};
use bytes::Bytes;
use engine::{Answer, Body, Client, ClientSettings, Fields, Method, OutgoingRequest, Request, Response, StatusCode};
use std::io::{Read, Write};
use std::net::SocketAddr;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

pub(crate) fn request(method: Method, target: &str, body: impl Into<Body>) -> OutgoingRequest {
    let mut fields = Fields::new();
    fields.append("host", "upstream").unwrap();
    OutgoingRequest { method, target: target.to_owned(), fields, body: body.into() }
}

pub(crate) fn get(target: &str) -> OutgoingRequest {
    request(Method::Get, target, Body::Empty)
}

async fn fetch(client: &Client, addr: SocketAddr, request: OutgoingRequest) -> String {
    let (_, body) = client.send(addr, request).await.unwrap();
    String::from_utf8(body.collect(u64::MAX).await.unwrap().to_vec()).unwrap()
}

#[test]
fn a_connection_is_used_again() {
    let server = serve(settings(), || {
        |request: Request| async move { Response::text(StatusCode::OK, request.peer_addr().to_string()) }
    });
    let addr = server.local_addrs()[0];
    block_on(async {
        let client = Client::new(ClientSettings::default());
        let first = fetch(&client, addr, get("/")).await;
        assert_eq!(client.idle_connections(), 1);
        for _ in 0..5 {
            assert_eq!(fetch(&client.clone(), addr, get("/")).await, first, "another connection");
        }
        assert_eq!(client.idle_connections(), 1);
    });
}

#[test]
fn every_kind_of_body_goes_both_ways() {
    let server = serve(settings(), || {
        |mut request: Request| async move {
            request.body.set_limit(u64::MAX);
            Response::new(StatusCode::OK).with_body(request.body)
        }
    });
    let addr = server.local_addrs()[0];
    block_on(async {
        let client = Client::new(ClientSettings::default());
        for size in [0, 1, 10_000, 20_000, 3_000_000] {
            let bytes = Bytes::from((0..size).map(|at| (at % 251) as u8).collect::<Vec<_>>());
            let (_, body) = client.send(addr, request(Method::Post, "/", bytes.clone())).await.unwrap();
            assert_eq!(body.collect(u64::MAX).await.unwrap(), bytes, "{size} bytes at once");

            let (sender, body) = Body::channel();
            let ((), received) = tokio::join!(
                async {
                    for chunk in bytes.chunks(50_000) {
                        sender.send(Bytes::copy_from_slice(chunk)).await.unwrap();
                    }
                    drop(sender);
                },
                async {
                    let (_, body) = client.send(addr, request(Method::Post, "/", body)).await.unwrap();
                    body.collect(u64::MAX).await.unwrap()
                }
            );
            assert_eq!(received, bytes, "{size} bytes in chunks");
        }
        assert_eq!(client.idle_connections(), 1);
    });
}

#[test]
fn a_response_may_come_before_the_request_has_ended() {
    let server =
        serve(settings(), || |request: Request| async move { Response::new(StatusCode::OK).with_body(request.body) });
    let addr = server.local_addrs()[0];
    block_on(async {
        let client = Client::new(ClientSettings::default());
        let (sender, body) = Body::channel();
        sender.send("one").await.unwrap();
        let (_, mut echo) = client.send(addr, request(Method::Post, "/", body)).await.unwrap();
        assert_eq!(echo.chunk().await.unwrap().unwrap(), "one");
        sender.send("two").await.unwrap();
        assert_eq!(echo.chunk().await.unwrap().unwrap(), "two");
        drop(sender);
        assert!(echo.chunk().await.is_none());
        assert_eq!(client.idle_connections(), 1);
    });
}

#[test]
fn head_has_a_length_but_no_content() {
    let server = serve(settings(), || |request: Request| async move { target_of(&request) });
    let addr = server.local_addrs()[0];
    block_on(async {
        let client = Client::new(ClientSettings::default());
        let (head, body) = client.send(addr, request(Method::Head, "/", Body::Empty)).await.unwrap();
        assert_eq!(head.content_length(), Some(6));
        assert!(body.is_empty());
        assert_eq!(fetch(&client, addr, get("/next")).await, "GET /next");
        assert_eq!(client.idle_connections(), 1);
    });
}

#[test]
fn interim_responses_are_skipped() {
    let (addr, upstream) = scripted(|listener| {
        answer_once(
            listener,
            b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok",
        );
    });
    block_on(async {
        assert_eq!(fetch(&Client::new(ClientSettings::default()), addr, get("/")).await, "ok");
    });
    upstream.join().unwrap();
}

#[test]
fn a_stale_connection_is_replaced_without_an_error() {
    const OK: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";
    let (addr, upstream) = scripted(|listener| {
        let mut first = answer_once(listener, OK);
        read_head(&mut first); // takes the second request too, and closes without a word
        drop(first);
        let mut second = answer_once(listener, OK);
        let head = read_head(&mut second);
        assert!(head.starts_with("PUT /3 "), "{head}");
        drop(second); // before the body, and again the request is sent anew
        let mut third = accept(listener);
        read_head(&mut third);
        let mut body = [0; 5];
        third.read_exact(&mut body).unwrap();
        assert_eq!(&body, b"again");
        third.write_all(OK).unwrap();
    });
    block_on(async {
        let client = Client::new(ClientSettings::default());
        assert_eq!(fetch(&client, addr, get("/1")).await, "ok");
        assert_eq!(fetch(&client, addr, get("/2")).await, "ok");
        assert_eq!(fetch(&client, addr, request(Method::Put, "/3", "again")).await, "ok");
    });
    upstream.join().unwrap();
}

#[test]
fn a_closed_connection_is_not_used_for_what_cannot_be_repeated() {
    let (closed, was_closed) = std::sync::mpsc::channel();
    let (addr, upstream) = scripted(move |listener| {
        for _ in 0..4 {
            drop(answer_once(listener, b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"));
            closed.send(()).unwrap();
        }
    });
    block_on(async {
        let client = Client::new(ClientSettings::default());
        for _ in 0..4 {
            // The runtime is not polled between the close and the next request: only asking the system helps.
            assert_eq!(fetch(&client, addr, request(Method::Post, "/", "once")).await, "ok");
            was_closed.recv().unwrap();
        }
    });
    upstream.join().unwrap();
}

#[test]
fn connections_that_say_close_are_not_kept() {
    let (addr, upstream) = scripted(|listener| {
        for _ in 0..2 {
            answer_once(listener, b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nok");
        }
    });
    block_on(async {
        let client = Client::new(ClientSettings::default());
        for _ in 0..2 {
            assert_eq!(fetch(&client, addr, get("/")).await, "ok");
            assert_eq!(client.idle_connections(), 0);
        }
    });
    upstream.join().unwrap();
}

#[test]
fn kept_connections_are_limited_and_expire() {
    let server = serve(settings(), || {
        |request: Request| async move {
            tokio::task::yield_now().await;
            target_of(&request)
        }
    });
    let addr = server.local_addrs()[0];
    block_on(async {
        let client = Client::new(ClientSettings { pool_idle_max: 2, ..ClientSettings::default() });
        tokio::join!(
            fetch(&client, addr, get("/1")),
            fetch(&client, addr, get("/2")),
            fetch(&client, addr, get("/3")),
            fetch(&client, addr, get("/4")),
        );
        assert_eq!(client.idle_connections(), 2);
        let forgetful =
            Client::new(ClientSettings { pool_idle_timeout: std::time::Duration::ZERO, ..ClientSettings::default() });
        fetch(&forgetful, addr, get("/1")).await;
        fetch(&forgetful, addr, get("/2")).await;
        assert_eq!(forgetful.idle_connections(), 1, "the expired one is closed");
    });
}

/// Many at once, twice: those of the second time find the connections of the first.
#[test]
fn a_second_burst_opens_no_connection() {
    const BURST: usize = 300;
    let all_there = std::sync::Arc::new(tokio::sync::Barrier::new(BURST));
    let server = serve(settings(), move || {
        let all_there = all_there.clone();
        move |request: Request| {
            let all_there = all_there.clone();
            async move {
                all_there.wait().await;
                target_of(&request)
            }
        }
    });
    let addr = server.local_addrs()[0];
    block_on(tokio::task::LocalSet::new().run_until(async {
        let opened = std::rc::Rc::new(std::cell::Cell::new(0));
        let client = Client::new(ClientSettings::default()).counting(opened.clone());
        for _ in 0..2 {
            let mut burst = tokio::task::JoinSet::new();
            for _ in 0..BURST {
                let client = client.clone();
                burst.spawn_local(async move { fetch(&client, addr, get("/")).await });
            }
            assert_eq!(burst.join_all().await.len(), BURST);
            assert_eq!((opened.get() as usize, client.idle_connections()), (BURST, BURST));
        }
    }));
}

#[test]
fn dropping_a_body_drops_its_connection() {
    let server =
        serve(settings(), || |_: Request| async { Response::new(StatusCode::OK).with_body(vec![b'x'; 1_000_000]) });
    let addr = server.local_addrs()[0];
    block_on(async {
        let client = Client::new(ClientSettings::default());
        let (_, mut body) = client.send(addr, get("/")).await.unwrap();
        body.chunk().await.unwrap().unwrap();
        drop(body);
        assert_eq!(client.idle_connections(), 0);
        let (_, body) = client.send(addr, get("/")).await.unwrap();
        assert_eq!(body.collect(u64::MAX).await.unwrap().len(), 1_000_000);
    });
}

#[test]
fn a_switched_connection_keeps_early_bytes() {
    let server = serve(settings(), || {
        |request: Request| async move {
            request.upgrade("echo/1", |mut stream| async move {
                stream.write_all(b"hello").await.unwrap();
                let mut buffer = [0; 5];
                stream.read_exact(&mut buffer).await.unwrap();
                stream.write_all(&buffer).await.unwrap();
            })
        }
    });
    let addr = server.local_addrs()[0];
    block_on(async {
        let client = Client::new(ClientSettings::default());
        let mut offer = get("/");
        offer.fields.append("upgrade", "echo/1").unwrap();
        let Answer::Upgraded(head, mut stream) = client.upgrade(addr, offer).await.unwrap() else {
            panic!("the server switches")
        };
        assert_eq!(head.status(), StatusCode::SWITCHING_PROTOCOLS);
        stream.write_all(b"world").await.unwrap();
        let mut all = String::new();
        stream.read_to_string(&mut all).await.unwrap();
        assert_eq!(all, "helloworld");

        let mut unwanted = get("/");
        unwanted.fields.append("upgrade", "other").unwrap();
        let Answer::Response(head, _) = client.upgrade(addr, unwanted).await.unwrap() else {
            panic!("the server does not know this protocol")
        };
        assert_eq!(head.status(), StatusCode::UPGRADE_REQUIRED);
    });
}

#[test]
fn a_relayed_body_streams_both_ways() {
    let upstream =
        serve(settings(), || |request: Request| async move { Response::new(StatusCode::OK).with_body(request.body) });
    let upstream_addr = upstream.local_addrs()[0];
    let relay = serve(settings(), move || {
        let client = Client::new(ClientSettings::default());
        move |incoming: Request| {
            let client = client.clone();
            async move {
                let outgoing = request(incoming.head.method(), incoming.head.target(), incoming.body);
                match client.send(upstream_addr, outgoing).await {
                    Ok((head, body)) => Response::new(head.status()).with_body(body),
                    Err(error) => Response::text(StatusCode::BAD_GATEWAY, error.to_string()),
                }
            }
        }
    });
    let mut client = crate::support::connect(&relay);
    for _ in 0..3 {
        client.send("POST / HTTP/1.1\r\nHost: test\r\nTransfer-Encoding: chunked\r\n\r\n3\r\none\r\n");
        client.read_until(b"3\r\none\r\n");
        client.send("3\r\ntwo\r\n");
        client.read_until(b"3\r\ntwo\r\n");
        client.send("0\r\n\r\n");
        client.read_until(b"0\r\n\r\n");
        client.send("POST / HTTP/1.1\r\nHost: test\r\nContent-Length: 5\r\n\r\nhello");
        assert_eq!(client.read_response().text(), "hello");
    }
}
