//! The client without sockets asks as a real one does.

use crate::support;
use bytes::Bytes;
use std::time::Duration;
use weaprous::testing::{AsyncClient, Client};
use weaprous::{Body, prelude::*};

#[test]
fn answers_are_the_same_as_over_a_socket() {
    let app = || {
        App::new()
            .route("/json", [GET], async || Json(vec![1, 2]))
            .route("/nothing", [GET], async || ())
            .route("/cached", [GET], async || StatusCode::NOT_MODIFIED)
            .route("/stream", [GET], async || {
                let (sender, body) = engine::Body::channel();
                tokio::task::spawn_local(async move {
                    sender.send("one").await?;
                    sender.send("two").await
                });
                Response::new(StatusCode::OK).with_body(body)
            })
            .layer(async |request: Request, next: Next| next.run(request).await.field("x-layer", "yes"))
    };
    let server = support::serve(app());
    let client = Client::new(app());
    for (method, target) in [
        (Method::Get, "/json"),
        (Method::Head, "/json"),
        (Method::Get, "/nothing"),
        (Method::Get, "/cached"),
        (Method::Get, "/stream"),
        (Method::Options, "/json"),
        (Method::Delete, "/json"),
        (Method::Get, "/missing"),
        (Method::Get, "/%zz"),
    ] {
        let real = support::ask(&server, method.as_str(), target, &[], "");
        let ours = client.request(method, target).send();
        assert_eq!(ours.status().as_u16(), real.status, "{method} {target}");
        assert_eq!(ours.bytes(), real.body, "{method} {target}");
        let names = ["content-type", "content-length", "transfer-encoding", "allow", "x-layer", "vary"];
        for name in names {
            assert_eq!(ours.field(name), real.field(name), "{name} of {method} {target}");
        }
    }
}

#[test]
fn content_of_every_kind_arrives() {
    let app = App::new().route("/", [POST], async |content: Bytes| content).route(
        "/form",
        [POST],
        async |Form(pairs): Form<std::collections::HashMap<String, String>>| pairs["a b"].clone(),
    );
    let client = Client::new(app.body_bytes_max(1000));
    assert_eq!(client.post("/").body("text").send().text(), "text");
    assert_eq!(client.post("/").body(vec![0, 255]).send().bytes(), vec![0, 255]);
    assert_eq!(client.post("/form").form([("a b", "c&d=é")]).send().text(), "c&d=é");
    assert_eq!(client.post("/").body("x".repeat(1001)).send().status(), StatusCode::CONTENT_TOO_LARGE);
    let (sender, body) = Body::channel();
    let sending = std::thread::spawn(move || {
        for piece in ["in ", "three ", "pieces"] {
            sender.blocking_send(piece).unwrap();
        }
    });
    assert_eq!(client.post("/").body(body).send().text(), "in three pieces");
    sending.join().unwrap();
}

#[test]
fn what_cannot_be_parsed_is_answered_as_on_a_connection() {
    let client = Client::new(App::new());
    let response = client.get("/").field("transfer-encoding", "x").field("x", "y".repeat(40_000)).send();
    assert_eq!(response.status().as_u16(), 431);
    assert_eq!(client.get("/").field("host", "a b").send().status(), StatusCode::BAD_REQUEST);
}

#[test]
fn streams_are_read_as_they_come() {
    let (give, take) = std::sync::mpsc::channel();
    let app = App::new().route("/", [GET], async move || {
        let (sender, body) = Body::channel();
        give.send(sender).unwrap();
        Response::new(StatusCode::OK).with_body(body)
    });
    let response = Client::new(app).get("/").send();
    let sender = take.recv().unwrap();
    sender.blocking_send("first").unwrap();
    assert_eq!(response.chunk().unwrap().unwrap(), "first");
    sender.blocking_send("second").unwrap();
    assert_eq!(response.chunk().unwrap().unwrap(), "second");
    drop(sender);
    assert!(response.chunk().is_none());
}

#[test]
fn event_streams_end_with_the_stop() {
    let app = App::new().route("/", [GET], async || {
        Sse::new(|sender| async move {
            sender.send(Event::new().data("only")).await?;
            std::future::pending().await
        })
    });
    let client = Client::new(app);
    let response = client.get("/").send();
    assert_eq!(response.event().unwrap().data, "only");
    client.stop();
    assert_eq!(response.event(), None);
}

#[test]
fn an_async_test_uses_its_own_clock() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let app = App::new().route("/", [GET], async || {
            tokio::time::sleep(Duration::from_millis(1)).await;
            "late"
        });
        let mut response = AsyncClient::new(app).get("/").send().await;
        assert_eq!(response.text().await, "late");
    });
}

#[test]
fn the_address_decides_whom_to_believe() {
    let app = || App::new().route("/", [GET], async |ClientAddr(addr): ClientAddr| addr.to_string());
    let ask = |client: Client| client.get("/").field("x-forwarded-for", "192.0.2.7").send().text();
    assert_eq!(ask(Client::new(app())), "192.0.2.7");
    assert_eq!(ask(Client::new(app()).from_addr("198.51.100.1:99".parse().unwrap())), "198.51.100.1");
}
