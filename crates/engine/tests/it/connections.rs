//! Connections that live on, are shared by many requests, and end.

use crate::support::{GRACE, block_on, connect, get, serve, serve_targets, settings, target_of};
use engine::{BindError, Body, Method, Request, Response, Server, Settings, StatusCode, Stop};
use std::cell::Cell;
use std::rc::Rc;
use std::time::Duration;
use testkit::RawClient;

#[test]
fn a_connection_carries_many_requests() {
    let server = serve_targets(settings());
    let mut client = connect(&server);
    for number in 0..100 {
        client.send(get(&format!("/{number}")));
        let response = client.read_response();
        assert_eq!(response.status, 200);
        assert_eq!(response.text(), format!("GET /{number}"));
        assert!(response.field("date").is_some_and(|date| date.ends_with(" GMT")));
    }
}

#[test]
fn requests_may_come_byte_by_byte() {
    let server = serve_targets(settings());
    let mut client = connect(&server);
    client.send_split(get("/slowly"), 1);
    assert_eq!(client.read_response().text(), "GET /slowly");
}

#[test]
fn pipelined_requests_are_answered_in_order() {
    let server = serve_targets(settings());
    let mut client = connect(&server);
    let many: String = (0..500).map(|number| get(&format!("/{number}"))).collect();
    client.send(many);
    for number in 0..500 {
        assert_eq!(client.read_response().text(), format!("GET /{number}"));
    }
}

#[test]
fn pipelined_answers_leave_while_a_later_one_is_awaited() {
    let server = serve(settings(), || {
        |request: Request| async move {
            if request.head.path() == "/long" {
                request.stop().cancelled().await;
            }
            target_of(&request)
        }
    });
    let mut client = connect(&server);
    client.send(get("/1") + &get("/long"));
    assert_eq!(client.read_response().text(), "GET /1");
}

#[test]
fn a_valid_request_is_answered_before_an_invalid_one_is_refused() {
    let server = serve_targets(settings());
    let mut client = connect(&server);
    client.send(get("/good") + "GET /bad HTTP/1.1\r\nHost : test\r\n\r\n" + &get("/never-seen"));
    assert_eq!(client.read_response().text(), "GET /good");
    let refused = client.read_response();
    assert_eq!(refused.status, 400);
    assert_eq!(refused.field("connection"), Some("close"));
    client.expect_close();
}

#[test]
fn a_malformed_request_gets_its_own_status() {
    let server = serve_targets(settings());
    let long_target = format!("GET /{} HTTP/1.1\r\nHost: test\r\n\r\n", "x".repeat(9000));
    let long_fields = format!("GET / HTTP/1.1\r\nHost: test\r\nX: {}\r\n\r\n", "x".repeat(40_000));
    let cases = [
        ("GET / HTTP/1.1\r\n\r\n", 400),
        ("GET / HTTP/2.0\r\nHost: test\r\n\r\n", 505),
        ("BREW / HTTP/1.1\r\nHost: test\r\n\r\n", 501),
        ("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 505),
        ("POST / HTTP/1.1\r\nHost: test\r\nExpect: tea\r\nContent-Length: 3\r\n\r\nabc", 417),
        (&long_target, 414),
        (&long_fields, 431),
    ];
    for (bytes, status) in cases {
        let mut client = connect(&server);
        client.send(bytes);
        assert_eq!(client.read_response().status, status, "{}", &bytes[..bytes.len().min(60)]);
        client.expect_close();
    }
}

#[test]
fn tunnels_and_echoes_are_refused() {
    let server = serve_targets(settings());
    let mut client = connect(&server);
    client.send("TRACE / HTTP/1.1\r\nHost: test\r\nCookie: secret=1\r\n\r\n");
    let response = client.read_response();
    assert_eq!(response.status, 405);
    assert!(response.field("allow").is_some_and(|allow| allow.contains("GET") && !allow.contains("TRACE")));
    assert!(!response.text().contains("secret"));
    client.send(get("/after"));
    assert_eq!(client.read_response().text(), "GET /after");
    // What follows a CONNECT may come from whoever was to use the tunnel: it is never a request.
    client.send(
        "CONNECT example.org:443 HTTP/1.1\r\nHost: example.org:443\r\n\r\n".to_owned() + &get("/meant-for-the-tunnel"),
    );
    let response = client.read_response();
    assert_eq!((response.status, response.field("connection")), (501, Some("close")));
    client.expect_close();
}

#[test]
fn close_is_obeyed_whoever_says_it() {
    let server = serve(settings(), || {
        |request: Request| async move {
            let response = target_of(&request);
            if request.head.path() == "/close" { response.field("connection", "close") } else { response }
        }
    });
    for request in
        ["GET / HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n", &get("/close"), "GET / HTTP/1.0\r\n\r\n"]
    {
        let mut client = connect(&server);
        client.send(request);
        assert_eq!(client.read_response().field("connection"), Some("close"), "{request}");
        client.expect_close();
    }
}

#[test]
fn an_old_client_may_ask_for_keep_alive() {
    let server = serve_targets(settings());
    let mut client = connect(&server);
    for _ in 0..2 {
        client.send("GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n");
        assert_eq!(client.read_response().field("connection"), Some("keep-alive"));
    }
}

#[test]
fn a_half_closed_client_is_answered_then_closed() {
    let server = serve(settings(), || {
        |request: Request| async move {
            tokio::time::sleep(Duration::from_millis(20)).await; // the end arrives while the answer is made
            target_of(&request)
        }
    });
    let mut client = connect(&server);
    client.send(get("/1") + &get("/2"));
    client.half_close();
    assert_eq!(client.read_response().text(), "GET /1");
    assert_eq!(client.read_response().text(), "GET /2");
    client.expect_close();
}

#[test]
fn an_end_inside_a_head_is_no_request() {
    let server = serve_targets(settings());
    let mut client = connect(&server);
    client.send("GET / HTTP/1.1\r\nHost: te");
    client.half_close();
    client.expect_close();
}

#[test]
fn head_is_answered_without_content() {
    let server = serve_targets(settings());
    let mut client = connect(&server);
    client.send("HEAD /x HTTP/1.1\r\nHost: test\r\n\r\n");
    let response = client.read_response_to("HEAD");
    assert_eq!(response.field("content-length"), Some("7"));
    client.send(get("/after"));
    assert_eq!(client.read_response().text(), "GET /after");
}

#[test]
fn a_length_without_content_is_told_for_head_and_304() {
    let server = serve(settings(), || {
        |request: Request| async move {
            let status = if request.head.method() == Method::Head { StatusCode::OK } else { StatusCode::NOT_MODIFIED };
            Response::new(status).field("content-length", "1234")
        }
    });
    let mut client = connect(&server);
    client.send("HEAD / HTTP/1.1\r\nHost: test\r\n\r\n");
    assert_eq!(client.read_response_to("HEAD").field("content-length"), Some("1234"));
    client.send(get("/"));
    let response = client.read_response();
    assert_eq!((response.status, response.field("content-length")), (304, Some("1234")));
    client.send("HEAD / HTTP/1.1\r\nHost: test\r\n\r\n");
    assert_eq!(client.read_response_to("HEAD").status, 200);
}

#[test]
fn a_panic_ends_one_request_only() {
    let server = serve(settings(), || {
        |request: Request| async move {
            assert!(request.head.path() != "/panic", "as the test wants it");
            target_of(&request)
        }
    });
    let mut bystander = connect(&server);
    bystander.send(get("/before"));
    bystander.read_response();
    for path in ["/panic", "/panic"] {
        let mut client = connect(&server);
        client.send(get(path));
        let response = client.read_response();
        assert_eq!((response.status, response.field("connection")), (500, Some("close")));
        client.expect_close();
    }
    bystander.send(get("/after"));
    assert_eq!(bystander.read_response().text(), "GET /after");
}

#[test]
fn a_panic_before_the_first_wait_is_caught_too() {
    let server = serve(settings(), || |_: Request| -> std::future::Ready<Response> { panic!("as the test wants it") });
    let mut client = connect(&server);
    client.send(get("/"));
    assert_eq!(client.read_response().status, 500);
}

#[test]
fn a_panic_inside_content_breaks_the_connection_off() {
    struct Bomb;
    impl engine::Source for Bomb {
        fn poll_chunk(
            &mut self,
            _: &mut std::task::Context<'_>,
        ) -> std::task::Poll<Option<Result<bytes::Bytes, engine::BodyError>>> {
            panic!("as the test wants it")
        }
    }
    let server =
        serve(settings(), || |_: Request| async { Response::new(StatusCode::OK).with_body(Body::from_source(Bomb)) });
    let mut client = connect(&server);
    client.send(get("/"));
    let bytes = client.read_to_end();
    assert!(!bytes.ends_with(b"0\r\n\r\n"), "{}", bytes.escape_ascii());
    // Where the end of the connection is the end of the content, only a reset tells them apart.
    let mut old = connect(&server);
    old.send("GET / HTTP/1.0\r\n\r\n");
    let end = std::io::Read::read(&mut old.stream(), &mut [0; 1024]);
    assert_eq!(end.map_err(|error| error.kind()), Err(std::io::ErrorKind::ConnectionReset));
}

#[test]
fn a_vanished_client_drops_its_handler() {
    struct Told(std::sync::mpsc::Sender<()>);
    impl Drop for Told {
        fn drop(&mut self) {
            self.0.send(()).unwrap();
        }
    }
    let (sender, dropped) = std::sync::mpsc::channel();
    let server = serve(settings(), move || {
        let sender = sender.clone();
        move |_: Request| {
            let told = Told(sender.clone());
            async move {
                std::future::pending::<()>().await;
                drop(told);
                Response::new(StatusCode::OK)
            }
        }
    });
    let mut client = connect(&server);
    client.send(get("/"));
    client.expect_silence(Duration::from_millis(50));
    socket2::SockRef::from(client.stream()).set_linger(Some(Duration::ZERO)).unwrap(); // a reset, as of a crash
    drop(client);
    dropped.recv_timeout(Duration::from_secs(10)).expect("the handler is dropped");
}

#[test]
fn a_service_stays_on_its_worker() {
    let server = serve(settings(), || {
        let count = Rc::new(Cell::new(0)); // neither Send nor Sync
        move |_: Request| {
            let count = count.clone();
            async move {
                count.set(count.get() + 1);
                Response::text(StatusCode::OK, count.get().to_string())
            }
        }
    });
    for number in 1..4 {
        let mut client = connect(&server);
        client.send(get("/"));
        assert_eq!(client.read_response().text(), number.to_string());
    }
}

#[test]
fn one_set_of_workers_serves_several_listeners() {
    let any_port = "127.0.0.1:0".parse().unwrap();
    let named = |name: &'static str| move || move |_: Request| async move { Response::text(StatusCode::OK, name) };
    let server = Server::new(Settings { workers: Some(2), ..Settings::default() })
        .listen(any_port, named("first"))
        .unwrap()
        .listen(any_port, named("second"))
        .unwrap()
        .start(Stop::new(), GRACE)
        .unwrap();
    let addrs = server.local_addrs().to_vec();
    assert_eq!(addrs.len(), 2);
    for (addr, name) in addrs.into_iter().zip(["first", "second"]) {
        for _ in 0..8 {
            let mut client = RawClient::connect(addr);
            client.send(get("/"));
            assert_eq!(client.read_response().text(), name);
        }
    }
}

#[test]
fn a_port_in_use_is_named() {
    let server = serve_targets(settings());
    let addr = server.local_addrs()[0];
    let refused = Server::new(settings()).listen(addr, || |request: Request| async move { target_of(&request) });
    let Err(error) = refused else { panic!("two servers share {addr}") };
    assert!(matches!(error, BindError::InUse { .. }), "{error}");
    assert!(error.to_string().contains(&addr.to_string()), "{error}");
}

#[test]
fn a_port_is_free_again_after_the_stop() {
    let server = serve_targets(settings());
    let addr = server.local_addrs()[0];
    let mut client = connect(&server);
    client.send(get("/"));
    client.read_response();
    drop(server);
    Server::new(settings()).listen(addr, || |request: Request| async move { target_of(&request) }).unwrap();
}

#[test]
fn background_tasks_run_on_workers() {
    let (sender, mut ran) = tokio::sync::mpsc::unbounded_channel();
    let each = sender.clone();
    let server = Server::new(Settings { workers: Some(2), ..Settings::default() })
        .on_each_worker(move || {
            let each = each.clone();
            async move { each.send("each").unwrap() }
        })
        .on_one_worker(move || async move {
            tokio::task::spawn_blocking(|| ()).await.unwrap();
            sender.send("one").unwrap();
        })
        .start(Stop::new(), GRACE)
        .unwrap();
    let mut seen = block_on(async {
        let mut seen = Vec::new();
        for _ in 0..3 {
            seen.push(ran.recv().await.unwrap());
        }
        seen
    });
    seen.sort_unstable();
    assert_eq!(seen, ["each", "each", "one"]);
    drop(server);
}
