//! Where messages end: rows F14 to F18 and F20 of the conformance table, from the proxy's side.

use std::sync::mpsc;

use engine::{Request, Response, StatusCode};

use crate::harness::*;

/// Sends `request` through a proxy and returns what the upstream received up to `end`.
fn relayed(request: &str, end: &str) -> String {
    let (tell, told) = mpsc::channel();
    let end = end.to_owned();
    let upstream = hostile(move |_, mut wire| {
        let Some(mut all) = wire.try_head() else { return };
        while !all.ends_with(&end) {
            all.push_str(&wire.exact(1));
        }
        wire.send("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n");
        let _ = tell.send(all);
        wire.rest();
    });
    let front = front_for(&[upstream.address()]);
    let mut client = front.connect();
    client.send(request);
    assert_eq!(client.read_response().status, 200);
    told.recv_timeout(DEADLINE).unwrap()
}

#[test]
fn f20_requests_are_written_anew() {
    let all = relayed(
        "POST /x HTTP/1.1\r\nhOST:  a \r\nTransfer-Encoding:  CHUNKED\r\nX-Odd:\tv \r\n\r\n\
         0005;ext=\"1\"\r\nhello\r\n1;x\r\n!\r\n000;y\r\nx-trailer:1 \r\nVia: 1.1 x\r\nX_Y: 1\r\n\r\n",
        "\r\nx-trailer: 1\r\n\r\n",
    );
    let (head, content) = all.split_once("\r\n\r\n").unwrap();
    assert!(head.starts_with("POST /x HTTP/1.1\r\n"), "{all}");
    assert!(head.contains("\r\nX-Odd: v\r\n"), "{all}");
    assert_eq!(head.to_ascii_lowercase().matches("transfer-encoding: chunked").count(), 1, "{all}");
    assert!(!head.to_ascii_lowercase().contains("content-length"), "{all}");
    let end = "0\r\nx-trailer: 1\r\n\r\n";
    assert!(
        [format!("5\r\nhello\r\n1\r\n!\r\n{end}"), format!("6\r\nhello!\r\n{end}")].contains(&content.to_owned()),
        "{all}"
    );
}

#[test]
fn f20_a_declared_length_stays_a_length() {
    let all = relayed("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello", "hello");
    let head = all.to_ascii_lowercase();
    assert_eq!(head.matches("content-length: 5\r\n").count(), 1, "{all}");
    assert!(!head.contains("transfer-encoding"), "{all}");
    assert!(all.ends_with("\r\n\r\nhello"), "{all}");
}

#[test]
fn f20_a_request_without_content_has_no_framing() {
    let all = relayed("GET / HTTP/1.1\r\nHost: a\r\n\r\n", "\r\n\r\n").to_ascii_lowercase();
    assert!(!all.contains("content-length") && !all.contains("transfer-encoding"), "{all}");
}

#[test]
fn f14_content_that_breaks_off_never_looks_complete_to_the_upstream() {
    for (request, end) in [
        ("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n", "0\r\n\r\n"),
        ("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 100000\r\n\r\nhello", "never"),
    ] {
        let (tell, told) = mpsc::channel();
        let upstream = hostile(move |_, mut wire| {
            wire.head();
            let mut content = String::new();
            while !content.ends_with("hello") {
                content.push_str(&wire.exact(1));
            }
            tell.send(content.clone()).unwrap();
            tell.send(content + &wire.rest()).unwrap();
        });
        let front = front_for(&[upstream.address()]);
        let mut client = front.connect();
        client.send(request);
        told.recv_timeout(DEADLINE).unwrap(); // the upstream is in the middle of it
        client.half_close();
        let content = told.recv_timeout(DEADLINE).unwrap();
        assert!(!content.ends_with(end), "{content}");
        assert!(content.len() < 100, "{content}");
        let answer = String::from_utf8(client.read_to_end()).unwrap();
        assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 400 "), "{answer}");
    }
}

#[test]
fn f15_an_upstream_that_ignores_the_content_does_not_mix_up_requests() {
    let upstream =
        upstream(|| |request: Request| async move { Response::text(StatusCode::OK, request.head.target().to_owned()) });
    let front = front_for(&[address(&upstream)]);
    let mut client = front.connect();
    let content = "GET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n";
    for method in ["POST", "GET", "OPTIONS", "DELETE"] {
        client
            .send(format!("{method} /first HTTP/1.1\r\nHost: a\r\nContent-Length: {}\r\n\r\n{content}", content.len()));
        assert_eq!(client.read_response().text(), "/first", "{method}");
        client.send("GET /second HTTP/1.1\r\nHost: a\r\n\r\n");
        assert_eq!(client.read_response().text(), "/second", "{method}");
    }
}

#[test]
fn f15_an_early_answer_to_unread_content_ends_the_upstream_connection() {
    let (tell, told) = mpsc::channel();
    let upstream = hostile(move |index, mut wire| {
        let Some(head) = wire.try_head() else { return };
        tell.send((index, head.lines().next().unwrap_or_default().to_owned())).unwrap();
        wire.send("HTTP/1.1 403 Forbidden\r\nContent-Length: 2\r\n\r\nno");
        if index == 0 {
            let rest = wire.rest();
            assert!(!rest.contains("GET /second"), "{rest}");
        } else {
            wire.rest();
        }
    });
    let front = front_for(&[upstream.address()]);
    let mut client = front.connect();
    client.send("POST /first HTTP/1.1\r\nHost: a\r\nContent-Length: 200000\r\n\r\n");
    client.send(vec![b'x'; 1000]);
    let early = client.read_response();
    assert_eq!((early.status, early.text()), (403, "no"));
    drop(client);
    assert_eq!(front.ask("GET /second HTTP/1.1\r\nHost: a\r\n\r\n").status, 403);
    assert_eq!(told.recv_timeout(DEADLINE).unwrap().0, 0);
    assert_eq!(told.recv_timeout(DEADLINE).unwrap(), (1, "GET /second HTTP/1.1".to_owned()));
}

#[test]
fn f16_the_proxy_answers_100_continue_itself() {
    let mirror = mirror();
    let front = front_for(&[address(&mirror)]);
    let mut client = front.connect();
    client.send("POST / HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\n");
    assert_eq!(client.read_response().status, 100);
    client.send("hello");
    let response = client.read_response();
    assert!(response.text().ends_with("\n\nhello"), "{}", response.text());
    assert!(!response.text().contains("\nexpect:"), "{}", response.text());
}

#[test]
fn f16_long_content_is_asked_for_by_the_upstream_alone() {
    let (go, wait) = mpsc::channel();
    let wait = std::sync::Mutex::new(wait);
    let upstream = hostile(move |_, mut wire| {
        let head = wire.head();
        assert!(head.contains("\r\nexpect: 100-continue\r\n"), "{head}");
        wait.lock().unwrap().recv_timeout(DEADLINE).unwrap(); // the client has been asked for nothing meanwhile
        wire.send("HTTP/1.1 100 Continue\r\n\r\n");
        assert_eq!(wire.exact(100_000), "x".repeat(100_000));
        wire.send("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok");
        wire.rest();
    });
    let front = front_for(&[upstream.address()]);
    let mut client = front.connect();
    client.send("POST / HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 100000\r\n\r\n");
    client.expect_silence(std::time::Duration::from_millis(100));
    go.send(()).unwrap();
    assert_eq!(client.read_response().status, 100);
    client.send("x".repeat(100_000));
    assert_eq!(client.read_response().text(), "ok");
}

#[test]
fn f16_an_upstream_that_never_asks_gets_the_content_all_the_same() {
    let upstream = hostile(|_, mut wire| {
        wire.head();
        assert_eq!(wire.exact(100_000), "x".repeat(100_000));
        wire.send("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok");
        wire.rest();
    });
    let front = front_for(&[upstream.address()]);
    let mut client = front.connect();
    client.send("POST / HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 100000\r\n\r\n");
    assert_eq!(client.read_response().status, 100);
    client.send("x".repeat(100_000));
    assert_eq!(client.read_response().text(), "ok");
}

#[test]
fn f16_a_final_answer_without_100_ends_both_connections() {
    let (tell, told) = mpsc::channel();
    let upstream = hostile(move |_, mut wire| {
        wire.head();
        wire.send("HTTP/1.1 413 Content Too Large\r\nContent-Length: 2\r\n\r\nno");
        tell.send(wire.rest()).unwrap();
    });
    let front = front_for(&[upstream.address()]);
    let mut client = front.connect();
    client.send("POST / HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 100000\r\n\r\n");
    let response = client.read_response();
    assert_eq!((response.status, response.text()), (413, "no"));
    client.expect_close();
    assert_eq!(told.recv_timeout(DEADLINE).unwrap(), "", "no content was sent, and no further request");
}

#[test]
fn f16_no_100_when_the_request_goes_nowhere() {
    let front = front("host a { proxy_pass http://127.0.0.1:9; }");
    let mut client = front.connect();
    client.send("POST / HTTP/1.1\r\nHost: b\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\n");
    assert_eq!(client.read_response().status, 404);
    // The content was never asked for, so what follows cannot be told from it: the connection ends.
    client.expect_close();
}

#[test]
fn f16_an_odd_expectation_is_refused() {
    let mirror = mirror();
    let front = front_for(&[address(&mirror)]);
    let response = front.ask("POST / HTTP/1.1\r\nHost: a\r\nExpect: y 100-continue\r\nContent-Length: 5\r\n\r\nhello");
    assert_eq!(response.status, 417);
    assert_eq!(front.counts().upstreams[0].requests, 0);
}

/// What a client gets when the upstream sends these bytes to a request with this method, and again on
/// the next request; `None` when the connection ends without a whole response.
fn through(method: &str, bytes: &str) -> (u16, String) {
    let upstream = answering(bytes.to_owned(), false);
    let front = front_for(&[upstream.address()]);
    let mut seen = Vec::new();
    for _ in 0..2 {
        let response = front.ask(&format!("{method} / HTTP/1.1\r\nHost: a\r\n\r\n"));
        seen.push((response.status, response.text().to_owned()));
    }
    assert_eq!(seen[0], seen[1], "both requests are answered alike: {bytes:?}");
    seen.swap_remove(0)
}

#[test]
fn f18_responses_with_broken_framing_are_502() {
    for fields in [
        "Content-Length: x",
        "Content-Length: 5\r\nContent-Length: 6",
        "Content-Length: +5",
        "Transfer-Encoding: xchunked",
        "Transfer-Encoding: chunked, gzip",
        "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked",
    ] {
        let (status, text) = through("GET", &format!("HTTP/1.1 200 OK\r\n{fields}\r\n\r\n5\r\nhello\r\n0\r\n\r\n"));
        assert_eq!(status, 502, "{fields}");
        assert!(text.contains("no valid response"), "{text}");
    }
    for bytes in
        ["garbage\r\n\r\n", "HTTP/1.1 2000 OK\r\n\r\n", "HTTP/1.1 200 OK\r\nA\r\n\r\n", "\x16\x03\x01\x02\r\n\r\n"]
    {
        assert_eq!(through("GET", bytes).0, 502, "{bytes:?}");
    }
}

#[test]
fn f18_both_framings_in_a_response_are_refused_or_chunks_win() {
    let (status, text) = through(
        "GET",
        "HTTP/1.1 200 OK\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
    );
    assert!(status == 502 || (status, text.as_str()) == (200, "hello"), "{status} {text}");
}

#[test]
fn f18_content_where_there_is_none_never_becomes_the_next_response() {
    let junk = "HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil";
    assert_eq!(through("GET", &format!("HTTP/1.1 204 No Content\r\n\r\n{junk}")), (204, String::new()));
    assert_eq!(through("GET", &format!("HTTP/1.1 204 No Content\r\nContent-Length: 4\r\n\r\n{junk}")).1, "");
    assert_eq!(through("GET", &format!("HTTP/1.1 304 Not Modified\r\n\r\n{junk}")), (304, String::new()));
    assert_eq!(through("HEAD", &format!("HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n{junk}")), (200, String::new()));
    assert_eq!(
        through("GET", &format!("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok{junk}")),
        (200, "ok".to_owned())
    );
}

#[test]
fn f18_junk_after_a_response_never_answers_anybody() {
    // The first client gets its own answer; the junk that follows must not become the second one's.
    let upstream = hostile(|index, mut wire| {
        while wire.try_head().is_some() {
            let text = format!("answer{index}");
            let junk = "HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil";
            wire.send(format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{text}{junk}", text.len()));
        }
    });
    let front = front_for(&[upstream.address()]);
    for _ in 0..10 {
        let response = front.get("a");
        assert!(response.text().starts_with("answer"), "{}", response.text());
    }
}

#[test]
fn trailers_of_a_response_reach_whoever_takes_them() {
    let (tell, told) = mpsc::channel();
    let upstream = hostile(move |_, mut wire| {
        while let Some(head) = wire.try_head() {
            let head = head.to_ascii_lowercase();
            tell.send(head.contains("\r\nte: trailers\r\n") && head.contains("\r\nconnection: te\r\n")).unwrap();
            wire.send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\nX-Sum: 7\r\n\r\n");
        }
    });
    let front = front_for(&[upstream.address()]);
    for (fields, expect) in [("Connection: TE\r\nTE: trailers\r\n", "0\r\nX-Sum: 7\r\n\r\n"), ("", "0\r\n\r\n")] {
        let mut client = front.connect();
        client.send(format!("GET / HTTP/1.1\r\nHost: a\r\n{fields}\r\n"));
        client.half_close();
        let all = String::from_utf8(client.read_to_end()).unwrap();
        assert!(all.ends_with(&format!("2\r\nok\r\n{expect}")), "{all}");
        assert_eq!(told.recv_timeout(DEADLINE).unwrap(), !fields.is_empty());
    }
}

#[test]
fn an_interim_response_is_not_the_answer() {
    let (status, text) = through(
        "GET",
        "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok",
    );
    assert_eq!((status, text.as_str()), (200, "ok"));
}

#[test]
fn head_and_304_tell_the_length_without_content() {
    let check = |request: &str, bytes: &str, length: Option<&str>| {
        let upstream = answering(bytes.to_owned(), false);
        let front = front_for(&[upstream.address()]);
        let mut client = front.connect();
        client.send(request);
        let response = client.read_response_to("HEAD");
        assert_eq!(response.field("content-length"), length, "{bytes}");
        assert_eq!(response.field("etag"), Some("\"1\""), "{bytes}");
        // The connection goes on right behind the head.
        client.send(request);
        assert_eq!(client.read_response_to("HEAD").status, response.status);
    };
    let head = "HEAD / HTTP/1.1\r\nHost: a\r\n\r\n";
    check(head, "HTTP/1.1 200 OK\r\nETag: \"1\"\r\nContent-Length: 12345\r\n\r\n", Some("12345"));
    check(head, "HTTP/1.1 200 OK\r\nETag: \"1\"\r\nTransfer-Encoding: chunked\r\n\r\n", None);
    let get = "GET / HTTP/1.1\r\nHost: a\r\nIf-None-Match: \"1\"\r\n\r\n";
    check(get, "HTTP/1.1 304 Not Modified\r\nETag: \"1\"\r\nContent-Length: 12345\r\n\r\n", Some("12345"));
    check(get, "HTTP/1.1 304 Not Modified\r\nETag: \"1\"\r\n\r\n", None);
}

#[test]
fn an_upstream_of_http_1_0_is_understood() {
    let upstream = answering("HTTP/1.0 200 OK\r\nContent-Type: text/plain\r\n\r\nuntil the end", true);
    let front = front_for(&[upstream.address()]);
    let mut client = front.connect();
    for _ in 0..2 {
        client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
        let response = client.read_response();
        assert_eq!(response.text(), "until the end");
        assert_eq!(response.field("transfer-encoding"), Some("chunked"));
    }
    let mut old = front.connect();
    old.send("GET / HTTP/1.0\r\n\r\n");
    assert!(old.read_to_end().ends_with(b"\r\n\r\nuntil the end"));
}
