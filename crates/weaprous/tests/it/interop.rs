//! An axum router, and tower services of our own, on the engine.

use crate::support::{GRACE, connect, serve};
use axum::extract::{DefaultBodyLimit, Path, Query, Request as AxumRequest, State};
use axum::routing::{any, get, post};
use axum::{Extension, Json as AxumJson, Router};
use bytes::Bytes;
use engine::{Running, Server, Settings, Stop};
use http_body::{Body as HttpBody, Frame};
use std::collections::HashMap;
use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll};
use testkit::RawResponse;
use weaprous::interop::{Connection, Content, Tower};
use weaprous::{Body, prelude::*};

fn start(router: Router) -> Running {
    let tower = Tower::new(router);
    let settings = Settings { workers: Some(1), ..Settings::default() };
    let server = Server::new(settings).listen("127.0.0.1:0".parse().unwrap(), move || tower.clone()).unwrap();
    server.start(Stop::new(), GRACE).unwrap()
}

fn ask(server: &Running, method: &str, target: &str, fields: &[&str], content: &str) -> RawResponse {
    crate::support::ask(server, method, target, fields, content)
}

#[test]
fn an_axum_router_routes_and_extracts() {
    let calls = Arc::new(AtomicUsize::new(0));
    let router = Router::new()
        .route("/hello/{name}", get(async |Path(name): Path<String>| format!("hello {name}")))
        .route("/query", get(async |Query(all): Query<HashMap<String, String>>| all["a"].clone()))
        .route("/json", post(async |AxumJson(list): AxumJson<Vec<i64>>| AxumJson(list.iter().sum::<i64>())))
        .route(
            "/state",
            get(async |State(calls): State<Arc<AtomicUsize>>| calls.fetch_add(1, Ordering::SeqCst).to_string()),
        )
        .with_state(calls);
    let server = start(router);
    assert_eq!(ask(&server, "GET", "/hello/w%20x", &[], "").text(), "hello w x");
    assert_eq!(ask(&server, "GET", "/query?a=b%26c", &[], "").text(), "b&c");
    let json = ask(&server, "POST", "/json", &["Content-Type: application/json"], "[1,2,3]");
    assert_eq!((json.status, json.text(), json.field("content-type")), (200, "6", Some("application/json")));
    assert_eq!(ask(&server, "GET", "/state", &[], "").text(), "0");
    assert_eq!(ask(&server, "GET", "/state", &[], "").text(), "1");
    assert_eq!(ask(&server, "GET", "/missing", &[], "").status, 404);
    assert_eq!(ask(&server, "PUT", "/json", &[], "").status, 405);
    assert_eq!(ask(&server, "POST", "/json", &["Content-Type: application/json"], "[1,").status, 400);
    let head = ask(&server, "HEAD", "/hello/x", &[], "");
    assert_eq!((head.status, head.field("content-length"), head.body.len()), (200, Some("7"), 0));
}

#[test]
fn requests_on_one_connection_are_answered_in_order() {
    let server = start(Router::new().route("/{n}", get(async |Path(n): Path<u32>| n.to_string())));
    let mut client = connect(&server);
    let requests: Vec<String> = (0..20).map(|n| format!("GET /{n} HTTP/1.1\r\nHost: test\r\n\r\n")).collect();
    client.send(requests.concat());
    for n in 0..20 {
        assert_eq!(client.read_response().text(), n.to_string());
    }
}

#[test]
fn content_streams_both_ways_at_once() {
    let echo = any(async |request: AxumRequest| axum::response::Response::new(request.into_body()));
    let server = start(Router::new().route("/", echo));
    let mut client = connect(&server);
    client.send("POST / HTTP/1.1\r\nHost: test\r\nTransfer-Encoding: chunked\r\n\r\n");
    let head = String::from_utf8(client.read_until(b"\r\n\r\n")).unwrap();
    assert!(head.to_ascii_lowercase().contains("transfer-encoding: chunked"), "{head}");
    for piece in ["one", "two", "three"] {
        let chunk = format!("{:x}\r\n{piece}\r\n", piece.len());
        client.send(&chunk);
        // Back before the next is sent: nothing is gathered on the way.
        assert_eq!(client.read_exact(chunk.len()), chunk.as_bytes());
    }
    client.send("0\r\n\r\n");
    assert_eq!(client.read_exact(5), b"0\r\n\r\n");
    // And the connection lives on.
    client.send("POST / HTTP/1.1\r\nHost: test\r\nContent-Length: 3\r\n\r\nabc");
    let whole = client.read_response();
    assert_eq!((whole.text(), whole.field("content-length")), ("abc", Some("3")));
}

#[test]
fn large_content_arrives_whole() {
    let sum = post(async |bytes: Bytes| bytes.iter().map(|byte| u64::from(*byte)).sum::<u64>().to_string());
    let large = get(async || vec![b'x'; 5_000_000]);
    let router = Router::new().route("/sum", sum).route("/large", large).layer(DefaultBodyLimit::disable());
    let tower = Tower::new(router);
    let server = serve(App::new().fallback(tower).body_bytes_max(10_000_000));
    assert_eq!(ask(&server, "POST", "/sum", &[], &"\u{1}".repeat(5_000_000)).text(), "5000000");
    let answer = ask(&server, "GET", "/large", &[], "");
    assert_eq!((answer.field("content-length"), answer.body.len()), (Some("5000000"), 5_000_000));
}

#[test]
fn content_is_asked_for_only_when_it_is_read() {
    let router = Router::new()
        .route("/read", post(async |text: String| text))
        .route("/refuse", post(async || axum::http::StatusCode::FORBIDDEN));
    let server = start(router);
    let mut client = connect(&server);
    client.send("POST /read HTTP/1.1\r\nHost: test\r\nExpect: 100-continue\r\nContent-Length: 2\r\n\r\n");
    assert_eq!(client.read_until(b"\r\n\r\n"), b"HTTP/1.1 100 Continue\r\n\r\n");
    client.send("hi");
    assert_eq!(client.read_response().text(), "hi");
    let mut client = connect(&server);
    client.send("POST /refuse HTTP/1.1\r\nHost: test\r\nExpect: 100-continue\r\nContent-Length: 2\r\n\r\n");
    assert_eq!(client.read_response().status, 403, "and no 100 before it");
}

#[test]
fn extensions_say_where_a_request_came_from() {
    let who = get(async |Extension(connection): Extension<Connection>| {
        format!("{} {} {}", connection.addr.ip(), connection.local_addr.port(), connection.is_secure)
    });
    let server = start(Router::new().route("/", who));
    let port = server.local_addrs()[0].port();
    assert_eq!(ask(&server, "GET", "/", &[], "").text(), format!("127.0.0.1 {port} false"));
}

#[test]
fn endless_answers_see_the_stop() {
    struct UntilStop(Pin<Box<dyn Future<Output = ()> + Send>>, bool);
    impl HttpBody for UntilStop {
        type Data = Bytes;
        type Error = Infallible;
        fn poll_frame(
            mut self: Pin<&mut Self>,
            cx: &mut Context<'_>,
        ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
            if !std::mem::replace(&mut self.1, true) {
                return Poll::Ready(Some(Ok(Frame::data(Bytes::from_static(b"first")))));
            }
            self.0.as_mut().poll(cx).map(|()| None)
        }
    }
    let endless = get(async |Extension(connection): Extension<Connection>| {
        let stop = connection.stop.clone();
        let body = UntilStop(Box::pin(async move { stop.cancelled().await }), false);
        axum::response::Response::new(axum::body::Body::new(body))
    });
    let server = start(Router::new().route("/", endless));
    let mut client = connect(&server);
    client.send("GET / HTTP/1.1\r\nHost: test\r\n\r\n");
    client.read_until(b"first\r\n");
    server.stop();
    client.read_until(b"0\r\n\r\n");
}

/// A service that is never ready, or fails, or whose content fails or ends with trailers.
#[derive(Clone)]
struct Odd;

#[derive(Debug, thiserror::Error)]
#[error("odd")]
struct OddError;

struct OddBody(Vec<Result<Frame<Bytes>, OddError>>);

impl HttpBody for OddBody {
    type Data = Bytes;
    type Error = OddError;
    fn poll_frame(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, OddError>>> {
        Poll::Ready((!self.0.is_empty()).then(|| self.0.remove(0)))
    }
}

impl tower_service::Service<http::Request<Content>> for Odd {
    type Response = http::Response<OddBody>;
    type Error = OddError;
    type Future = std::future::Ready<Result<Self::Response, OddError>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), OddError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<Content>) -> Self::Future {
        let data = |text: &'static str| Ok(Frame::data(Bytes::from_static(text.as_bytes())));
        let mut trailers = http::HeaderMap::new();
        trailers.insert("x-sum", http::HeaderValue::from_static("7"));
        std::future::ready(match request.uri().path() {
            "/fails" => Err(OddError),
            "/breaks" => Ok(http::Response::new(OddBody(vec![data("some"), Err(OddError)]))),
            "/status" => Ok(http::Response::builder().status(999).body(OddBody(vec![])).unwrap()),
            "/trailers" => Ok(http::Response::new(OddBody(vec![data("a"), data("b"), Ok(Frame::trailers(trailers))]))),
            _ => panic!("as asked for"),
        })
    }
}

#[test]
fn what_fails_is_ours_and_harms_nobody_else() {
    let server = serve(App::new().fallback(Tower::new(Odd)));
    let mut client = connect(&server);
    client.send("GET /fails HTTP/1.1\r\nHost: test\r\n\r\n");
    let failed = client.read_response();
    assert_eq!(failed.status, 500);
    assert!(!failed.text().contains("odd"), "the cause is for the log");
    client.send("GET /status HTTP/1.1\r\nHost: test\r\n\r\n");
    assert_eq!(client.read_response().status, 500);
    client.send("GET /trailers HTTP/1.1\r\nHost: test\r\nTE: trailers\r\n\r\n");
    let answer = client.read_response();
    assert_eq!(answer.text(), "ab");
    assert_eq!(answer.trailers, [("x-sum".to_owned(), "7".to_owned())]);
    client.send("GET /breaks HTTP/1.1\r\nHost: test\r\n\r\n");
    let rest = client.read_to_end();
    assert!(rest.ends_with(b"some\r\n"), "no last chunk: {}", rest.escape_ascii());
    let mut client = connect(&server);
    client.send("GET /panics HTTP/1.1\r\nHost: test\r\n\r\n");
    assert_eq!(client.read_response().status, 500);
    assert_eq!(ask(&server, "GET", "/trailers", &[], "").text(), "ab");
}

#[test]
fn messages_convert() {
    let app = App::new().route("/", [POST], async |request: Request| {
        let theirs = http::Request::<Body>::try_from(request).map_err(Problem::internal)?;
        let (parts, body) = theirs.into_parts();
        let answer = http::Response::builder().status(201).header("x-method", parts.method.as_str()).body(body);
        Response::try_from(answer.map_err(Problem::internal)?).map_err(Problem::internal)
    });
    let answer = ask(&serve(app), "POST", "/", &[], "abc");
    assert_eq!((answer.status, answer.text(), answer.field("x-method")), (201, "abc", Some("POST")));
}

/// The router of `examples/axum_app.rs`, as that starts it.
#[test]
fn the_example_answers() {
    let server = start(crate::axum_app::router());
    assert_eq!(ask(&server, "GET", "/hello/you?loud=true", &[], "").text(), "HELLO, YOU! YOU ARE NUMBER 1.\n");
    assert_eq!(ask(&server, "GET", "/hello/%C3%A9va", &[], "").text(), "Hello, éva! You are number 2.\n");
    assert_eq!(ask(&server, "GET", "/who", &[], "").text(), "127.0.0.1\n");
    let json = ["Content-Type: application/json"];
    assert_eq!(ask(&server, "POST", "/sum", &json, r#"{"values":[1,2,39]}"#).text(), "42");
    let over = format!(r#"{{"values":[1,{}]}}"#, i64::MAX);
    for (method, target, content, status) in [
        ("POST", "/sum", over.as_str(), 422),
        ("POST", "/sum", "{", 400),
        ("GET", "/sum", "", 405),
        ("GET", "/nothing", "", 404),
        ("HEAD", "/hello/you", "", 200),
    ] {
        assert_eq!(ask(&server, method, target, &json, content).status, status, "{method} {target} {content}");
    }
}
