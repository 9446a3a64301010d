//! A panic is one request's: 500, the connection closes, everybody else goes on.

use crate::support::{connect, get, request, serve};
use bytes::Bytes;
use engine::{BodyError, Source};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};
use tokio::sync::Notify;
use weaprous::{Body, FromParts, prelude::*};

struct Exploding;

impl FromParts for Exploding {
    async fn from_parts(_: &Request) -> Result<Self, Problem> {
        panic!("an extractor, as asked for");
    }
}

impl Source for Exploding {
    fn poll_chunk(&mut self, _: &mut Context<'_>) -> Poll<Option<Result<Bytes, BodyError>>> {
        panic!("a source, as asked for");
    }
}

fn app() -> App {
    App::new()
        .route("/fine", [GET], async || "fine")
        .route("/at-once", [GET], async || -> &'static str { panic!("as asked for") })
        .route("/later", [GET], async || -> &'static str {
            tokio::task::yield_now().await;
            panic!("as asked for")
        })
        .route("/extractor", [GET], async |_: Exploding| "never")
        .route("/source", [GET], async || Response::new(StatusCode::OK).with_body(Body::from_source(Exploding)))
        .nest(
            "/layer",
            App::new()
                .route("/", [GET], async || "never")
                .layer(async |_: Request, _: Next| -> Response { panic!("a layer, as asked for") }),
        )
}

#[test]
fn the_client_gets_a_500_and_the_connection_closes() {
    let server = serve(app());
    for target in ["/at-once", "/later", "/extractor", "/layer/"] {
        let mut client = connect(&server);
        client.send([request("GET", "/fine", &[], ""), request("GET", target, &[], "")].concat());
        assert_eq!(client.read_response().text(), "fine", "the request before {target}");
        let response = client.read_response();
        assert_eq!((response.status, response.field("connection")), (500, Some("close")), "{target}");
        assert!(!response.text().contains("asked for"), "the cause is for the log");
        client.expect_close();
        assert_eq!(get(&server, "/fine", &[]).text(), "fine", "after {target}");
    }
}

#[test]
fn content_that_breaks_off_has_no_proper_end() {
    let server = serve(app());
    let mut client = connect(&server);
    client.send(request("GET", "/source", &[], ""));
    let received = client.read_to_end();
    assert!(!received.ends_with(b"0\r\n\r\n"), "{}", received.escape_ascii());
    assert_eq!(get(&server, "/fine", &[]).text(), "fine");
}

#[test]
fn requests_in_the_middle_of_being_answered_go_on() {
    let (go, has_begun) = (Arc::new(Notify::new()), Arc::new(AtomicBool::new(false)));
    let (gate, begun) = (Arc::clone(&go), Arc::clone(&has_begun));
    let app = app().route("/waiting", [GET], async move || {
        begun.store(true, Ordering::SeqCst);
        gate.notified().await;
        "waited"
    });
    // One worker: both are answered by the same thread.
    let server = serve(app);
    let mut waiting = connect(&server);
    waiting.send(request("GET", "/waiting", &[], ""));
    while !has_begun.load(Ordering::SeqCst) {
        std::thread::yield_now();
    }
    for target in ["/at-once", "/later", "/extractor", "/layer/"] {
        assert_eq!(get(&server, target, &[]).status, 500);
    }
    go.notify_one();
    assert_eq!(waiting.read_response().text(), "waited");
}
