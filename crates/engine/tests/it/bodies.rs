//! Content in both directions: lengths, chunks, 100 Continue, what is left unread.

use crate::support::{connect, get, length_of, serve, serve_lengths, settings, target_of};
use bytes::Bytes;
use engine::{Body, Request, Response, Settings, StatusCode};
use std::time::Duration;

fn post(fields: &str, body: &str) -> String {
    format!("POST / HTTP/1.1\r\nHost: test\r\n{fields}\r\n{body}")
}

#[test]
fn a_length_ends_a_body() {
    let server = serve_lengths(settings());
    let mut client = connect(&server);
    client.send(post("Content-Length: 5\r\n", "hello") + &post("Content-Length: 0\r\n", "") + &post("", ""));
    assert_eq!(client.read_response().text(), "5");
    assert_eq!(client.read_response().text(), "0");
    assert_eq!(client.read_response().text(), "0");
}

#[test]
fn chunks_end_a_body_however_they_are_cut() {
    let server = serve_lengths(settings());
    let request = post("Transfer-Encoding: chunked\r\n", "3\r\nabc\r\n2;x=y\r\nde\r\n0\r\nX-T: 1\r\n\r\n");
    for size in [1, 3, 7, request.len()] {
        let mut client = connect(&server);
        client.send_split(&request, size);
        assert_eq!(client.read_response().text(), "5", "pieces of {size}");
    }
}

#[test]
fn broken_chunks_are_refused_and_the_connection_closed() {
    let server = serve_lengths(settings());
    for body in ["xyz\r\n", "5\r\nabcdefg\r\n", "3\r\nabc\n0\r\n\r\n"] {
        let mut client = connect(&server);
        client.send(post("Transfer-Encoding: chunked\r\n", body));
        let response = client.read_response();
        assert_eq!((response.status, response.field("connection")), (400, Some("close")), "{body:?}");
        client.expect_close();
    }
}

#[test]
fn a_body_cut_short_is_never_complete() {
    let server = serve_lengths(settings());
    for request in [post("Content-Length: 10\r\n", "hello"), post("Transfer-Encoding: chunked\r\n", "5\r\nhello\r\n")] {
        let mut client = connect(&server);
        client.send(&request);
        client.half_close();
        assert_eq!(client.read_response().status, 400, "{request}");
        client.expect_close();
    }
}

#[test]
fn a_large_body_arrives_complete() {
    let server = serve_lengths(Settings { body_bytes_max: u64::MAX, ..settings() });
    let mut client = connect(&server);
    let size = 8 * 1024 * 1024;
    client.send(post(&format!("Content-Length: {size}\r\n"), ""));
    client.send(vec![b'x'; size]);
    assert_eq!(client.read_response().text(), size.to_string());
    client.send(get("/"));
    assert_eq!(client.read_response().text(), "0");
}

#[test]
fn continue_is_sent_when_the_body_is_first_read() {
    let server = serve_lengths(settings());
    let mut client = connect(&server);
    client.send(post("Content-Length: 5\r\nExpect: 100-continue\r\n", ""));
    assert_eq!(client.read_response().status, 100);
    client.send("hello");
    assert_eq!(client.read_response().text(), "5");
    client.send(get("/"));
    assert_eq!(client.read_response().text(), "0");
}

#[test]
fn continue_is_not_sent_when_the_body_is_not_read() {
    let server = serve(settings(), || |request: Request| async move { target_of(&request) });
    let mut client = connect(&server);
    client.send(post("Content-Length: 5\r\nExpect: 100-continue\r\n", ""));
    let response = client.read_response();
    assert_eq!((response.status, response.field("connection")), (200, Some("close")));
    client.send("hello"); // whether this is a body or a request nobody can tell
    client.expect_close();
}

#[test]
fn continue_never_comes_in_the_middle_of_an_answer() {
    // The content is first asked for when the head of the answer is already written.
    let server =
        serve(settings(), || |request: Request| async move { Response::new(StatusCode::OK).with_body(request.body) });
    for framing in ["Content-Length: 5\r\n", "Transfer-Encoding: chunked\r\n"] {
        let mut client = connect(&server);
        client.send(post(&format!("{framing}Expect: 100-continue\r\n"), ""));
        assert_eq!(client.read_response().status, 100, "{framing}");
        client.send(if framing.starts_with('C') { "hello" } else { "5\r\nhello\r\n0\r\n\r\n" });
        let response = client.read_response();
        assert_eq!((response.status, response.text()), (200, "hello"), "{framing}");
        client.send(get("/"));
        assert_eq!(client.read_response().status, 200);
    }
}

#[test]
fn an_unread_body_is_not_taken_for_a_request() {
    let server = serve(settings(), || |request: Request| async move { target_of(&request) });
    let mut client = connect(&server);
    let smuggled = get("/smuggled");
    client.send(post(&format!("Content-Length: {}\r\n", smuggled.len()), &smuggled) + &get("/next"));
    assert_eq!(client.read_response().text(), "POST /");
    assert_eq!(client.read_response().text(), "GET /next");
}

#[test]
fn an_unread_body_on_get_is_framed_too() {
    let server = serve(settings(), || |request: Request| async move { target_of(&request) });
    let mut client = connect(&server);
    client.send("GET /a HTTP/1.1\r\nHost: test\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nGET\r\n0\r\n\r\n");
    client.send(get("/b"));
    assert_eq!(client.read_response().text(), "GET /a");
    assert_eq!(client.read_response().text(), "GET /b");
}

#[test]
fn an_early_answer_to_a_large_upload_is_seen_by_the_client() {
    let server = serve(settings(), || |_: Request| async { Response::text(StatusCode::FORBIDDEN, "not for you") });
    let mut client = connect(&server);
    client.send(post("Content-Length: 100000000\r\n", ""));
    let response = client.read_response();
    assert_eq!((response.status, response.field("connection")), (403, Some("close")));
    // The client goes on sending for a while; it must not be reset before it has read the answer.
    for _ in 0..16 {
        client.try_send(vec![b'x'; 64 * 1024]).unwrap();
    }
    client.half_close();
    client.expect_close();
}

#[test]
fn a_body_kept_beyond_the_answer_reads_as_closed() {
    let (sender, kept) = std::sync::mpsc::channel();
    let server = serve(settings(), move || {
        let sender = sender.clone();
        move |request: Request| {
            let sender = sender.clone();
            async move {
                let answer = target_of(&request);
                let mut body = request.body;
                tokio::task::spawn_local(async move {
                    tokio::task::yield_now().await;
                    sender.send(body.chunk().await.map(|chunk| chunk.map_err(|error| error.to_string()))).unwrap();
                });
                answer
            }
        }
    });
    let mut client = connect(&server);
    client.send(post("Content-Length: 5\r\n", "hell"));
    assert_eq!(client.read_response().status, 200);
    client.send("o");
    let chunk = kept.recv_timeout(Duration::from_secs(10)).unwrap();
    assert!(matches!(chunk, Some(Err(_)) | None), "{chunk:?}");
    client.send(get("/next"));
    assert_eq!(client.read_response().text(), "GET /next");
}

#[test]
fn a_reader_in_another_task_is_told_when_the_answer_is_out() {
    let (sender, told) = std::sync::mpsc::channel();
    let server = serve(settings(), move || {
        let sender = sender.clone();
        move |request: Request| {
            let sender = sender.clone();
            async move {
                let mut body = request.body;
                let reader = tokio::task::spawn_local(async move {
                    let chunk = body.chunk().await;
                    sender.send(matches!(chunk, Some(Err(_)))).unwrap();
                });
                tokio::task::yield_now().await; // the reader waits by now
                drop(reader);
                Response::new(StatusCode::OK)
            }
        }
    });
    let mut client = connect(&server);
    client.send(post("Content-Length: 5\r\n", ""));
    assert_eq!(client.read_response().status, 200);
    assert!(told.recv_timeout(Duration::from_secs(10)).unwrap(), "the body reads as closed");
}

#[test]
fn continue_is_sent_for_a_reader_in_another_task() {
    let server = serve(settings(), || {
        |request: Request| async move {
            let length = tokio::task::spawn_local(async move { request.body.collect(u64::MAX).await.unwrap().len() });
            Response::text(StatusCode::OK, length.await.unwrap().to_string())
        }
    });
    let mut client = connect(&server);
    client.send(post("Content-Length: 5\r\nExpect: 100-continue\r\n", ""));
    assert_eq!(client.read_response().status, 100);
    client.send("hello");
    assert_eq!(client.read_response().text(), "5");
}

#[test]
fn one_task_may_read_while_another_writes() {
    let server = serve(settings(), || {
        |request: Request| async move {
            let (sender, answer) = Body::channel();
            tokio::task::spawn_local(async move {
                let big = Bytes::from(vec![b'x'; 4_000_000]);
                sender.send(big.clone()).await.unwrap();
                // Read in this task, while the connection's own writes what was sent.
                let length = request.body.collect(u64::MAX).await.unwrap().len();
                sender.send(format!("{length:8}")).await.unwrap();
            });
            Response::new(StatusCode::OK).with_body(answer)
        }
    });
    let mut client = connect(&server);
    client.send(post("Transfer-Encoding: chunked\r\n", ""));
    client.read_until(b"\r\n\r\n");
    for _ in 0..50 {
        client.send("3\r\nabc\r\n");
        std::thread::sleep(Duration::from_millis(2)); // wakes the reader again and again while the writer waits
    }
    client.send("0\r\n\r\n");
    let big = client.read_exact("3d0900\r\n".len() + 4_000_000 + "\r\n".len());
    assert!(big.starts_with(b"3d0900\r\nxxx") && big.ends_with(b"xxx\r\n"));
    assert_eq!(client.read_until(b"0\r\n\r\n"), b"8\r\n     150\r\n0\r\n\r\n");
}

#[test]
fn streams_are_sent_in_chunks() {
    let server = serve(settings(), || {
        |_: Request| async {
            let (sender, body) = Body::channel();
            tokio::task::spawn_local(async move {
                for number in 0..20 {
                    sender.send(format!("{number};")).await.unwrap();
                }
            });
            Response::new(StatusCode::OK).with_body(body)
        }
    });
    let mut client = connect(&server);
    client.send(get("/"));
    let response = client.read_response();
    assert_eq!(response.field("transfer-encoding"), Some("chunked"));
    let expected = (0..20).map(|number| number.to_string() + ";").collect::<String>();
    assert_eq!(response.text(), expected);
    client.send(get("/again"));
    assert_eq!(client.read_response().text(), expected);
}

#[test]
fn each_chunk_leaves_when_it_is_there() {
    let (ask, asked) = std::sync::mpsc::channel::<&'static str>();
    let asked = std::sync::Mutex::new(Some(asked));
    let server = serve(settings(), move || {
        let asked = std::sync::Arc::new(std::sync::Mutex::new(asked.lock().unwrap().take()));
        move |_: Request| {
            let asked = asked.clone();
            async move {
                let (sender, body) = Body::channel();
                tokio::task::spawn_blocking(move || {
                    let asked = asked.lock().unwrap().take().unwrap();
                    while let Ok(text) = asked.recv() {
                        sender.blocking_send(text).unwrap();
                    }
                });
                Response::new(StatusCode::OK).with_body(body)
            }
        }
    });
    let mut client = connect(&server);
    client.send(get("/"));
    client.read_until(b"\r\n\r\n");
    for text in ["one", "two", "three"] {
        ask.send(text).unwrap();
        client.read_until(format!("{text}\r\n").as_bytes());
    }
    drop(ask);
    assert_eq!(client.read_until(b"0\r\n\r\n"), b"0\r\n\r\n");
}

#[test]
fn an_old_client_gets_a_stream_that_ends_with_the_connection() {
    let server = serve(settings(), || {
        |_: Request| async {
            let (sender, body) = Body::channel();
            sender.send("until the end").await.unwrap();
            Response::new(StatusCode::OK).with_body(body)
        }
    });
    let mut client = connect(&server);
    client.send("GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n");
    let response = client.read_response();
    assert_eq!(response.field("transfer-encoding"), None);
    assert_eq!(response.text(), "until the end");
}

#[test]
fn large_content_arrives_complete_in_either_framing() {
    let server = serve(settings(), || {
        |request: Request| async move {
            let bytes = Bytes::from((0..4_000_000_u32).map(|at| at as u8).collect::<Vec<_>>());
            if request.head.path() == "/full" {
                return Response::new(StatusCode::OK).with_body(bytes);
            }
            let (sender, body) = Body::channel();
            tokio::task::spawn_local(async move {
                for start in (0..bytes.len()).step_by(100_000) {
                    sender.send(bytes.slice(start..start + 100_000)).await.unwrap();
                }
            });
            Response::new(StatusCode::OK).with_body(body)
        }
    });
    let mut client = connect(&server);
    client.send(get("/full") + &get("/chunks"));
    for _ in 0..2 {
        let body = client.read_response().body;
        assert_eq!(body.len(), 4_000_000);
        assert!(body.iter().enumerate().all(|(at, &byte)| byte == at as u8));
    }
}

#[test]
fn content_that_fails_has_no_proper_end() {
    let server = serve(settings(), || {
        |request: Request| async move {
            let (sender, body) =
                if request.head.path() == "/sized" { Body::sized_channel(100) } else { Body::channel() };
            sender.send("some").await.unwrap();
            if request.head.path() == "/chunked" {
                sender.fail("the disk is on fire").await;
            }
            Response::new(StatusCode::OK).with_body(body)
        }
    });
    for path in ["/chunked", "/sized"] {
        let mut client = connect(&server);
        client.send(get(path));
        let bytes = client.read_to_end();
        let text = String::from_utf8(bytes).unwrap();
        assert!(text.contains("some") && !text.ends_with("0\r\n\r\n"), "{text}");
    }
    let mut old = connect(&server);
    old.send("GET /chunked HTTP/1.0\r\n\r\n");
    let mut byte = [0; 1024];
    let error = loop {
        match std::io::Read::read(&mut old.stream(), &mut byte) {
            Ok(0) => panic!("a clean end"),
            Ok(_) => {}
            Err(error) => break error,
        }
    };
    assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset);
}

#[test]
fn content_echoes_while_it_still_arrives() {
    let server =
        serve(settings(), || |request: Request| async move { Response::new(StatusCode::OK).with_body(request.body) });
    let mut client = connect(&server);
    client.send(post("Transfer-Encoding: chunked\r\n", "3\r\none\r\n"));
    client.read_until(b"3\r\none\r\n");
    client.send("3\r\ntwo\r\n");
    client.read_until(b"3\r\ntwo\r\n");
    client.send("0\r\n\r\n");
    client.read_until(b"0\r\n\r\n");
    client.send(post("Content-Length: 2\r\n", "ok"));
    assert_eq!(client.read_response().text(), "ok");
}

#[test]
fn trailers_are_sent_to_who_asks_for_them() {
    let server =
        serve(settings(), || |request: Request| async move { Response::new(StatusCode::OK).with_body(request.body) });
    let body = "3\r\none\r\n0\r\nX-Checksum: 7\r\n\r\n";
    let mut client = connect(&server);
    client.send(post("Transfer-Encoding: chunked\r\nTE: trailers\r\nConnection: TE\r\n", body));
    assert_eq!(client.read_response().trailers, [("X-Checksum".to_owned(), "7".to_owned())]);
    client.send(post("Transfer-Encoding: chunked\r\n", body));
    assert_eq!(client.read_response().trailers, []);
}

#[test]
fn a_slow_reader_slows_the_producer_down() {
    let (sender, produced) = std::sync::mpsc::channel();
    let server = serve(settings(), move || {
        let sender = sender.clone();
        move |_: Request| {
            let produced = sender.clone();
            async move {
                let (sender, body) = Body::channel();
                tokio::task::spawn_local(async move {
                    let chunk = Bytes::from(vec![b'x'; 64 * 1024]);
                    for number in 0..10_000 {
                        if sender.send(chunk.clone()).await.is_err() {
                            break;
                        }
                        produced.send(number).unwrap();
                    }
                });
                Response::new(StatusCode::OK).with_body(body)
            }
        }
    });
    let mut client = connect(&server);
    client.send(get("/"));
    client.read_until(b"\r\n\r\n");
    let mut last = 0;
    while let Ok(number) = produced.recv_timeout(Duration::from_millis(500)) {
        last = number;
    }
    assert!(last < 9_000, "{last} chunks were produced although nobody reads");
    assert!(last > 1, "the first chunks do not wait");
}

#[test]
fn length_of_reads_what_is_there() {
    let server = serve(settings(), || |request: Request| async move { length_of(request).await });
    let mut client = connect(&server);
    client.send(post("Content-Length: 3\r\n", "abc"));
    assert_eq!(client.read_response().text(), "3");
}
