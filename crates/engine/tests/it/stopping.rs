//! How a server ends: what is under way is finished, nothing new is begun, nothing lasts for ever.

use crate::support::{GRACE, block_on, connect, get, serve, serve_targets, settings, target_of};
use engine::{Body, Request, Response, Server, Settings, StatusCode, Stop};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::Semaphore;

#[test]
fn a_request_under_way_is_answered_and_its_connection_closed() {
    let go = Arc::new(Semaphore::new(0));
    let begun = Arc::new(Semaphore::new(0));
    let gates = (go.clone(), begun.clone());
    let server = serve(settings(), move || {
        let (go, begun) = gates.clone();
        move |request: Request| {
            let (go, begun) = (go.clone(), begun.clone());
            async move {
                if request.head.path() == "/at-once" {
                    return target_of(&request);
                }
                begun.add_permits(1);
                go.acquire().await.unwrap().forget();
                Response::text(StatusCode::OK, "done")
            }
        }
    });
    let mut client = connect(&server);
    client.send(get("/"));
    block_on(async { begun.acquire().await.unwrap().forget() });
    let mut idle = connect(&server);
    idle.send(get("/at-once"));
    idle.read_response();
    server.stop();
    idle.expect_close(); // the stop has arrived
    go.add_permits(1);
    let response = client.read_response();
    assert_eq!((response.text(), response.field("connection")), ("done", Some("close")));
    client.expect_close();
    drop(client);
    server.join().unwrap();
}

#[test]
fn idle_connections_are_closed_at_once() {
    let server = serve_targets(settings());
    let mut client = connect(&server);
    client.send(get("/"));
    client.read_response();
    let started = Instant::now();
    server.stop();
    client.expect_close();
    server.join().unwrap();
    assert!(started.elapsed() < GRACE / 2, "waited for the grace");
}

#[cfg(target_os = "linux")]
#[test]
fn a_client_that_the_server_has_not_heard_of_is_refused_when_it_asks() {
    let server = serve_targets(Settings { defer_accept: Duration::from_mins(1), ..settings() });
    let mut silent = connect(&server);
    server.stop();
    server.join().unwrap();
    silent.send(get("/"));
    silent.expect_close();
}

#[test]
fn endless_responses_end_on_the_signal() {
    let server = serve(settings(), || {
        |request: Request| async move {
            let (sender, body) = Body::channel();
            let stop = request.stop().clone();
            tokio::task::spawn_local(async move {
                sender.send("first").await.unwrap();
                stop.cancelled().await;
                sender.send("last").await.unwrap();
            });
            Response::new(StatusCode::OK).with_body(body)
        }
    });
    let mut client = connect(&server);
    client.send(get("/"));
    client.read_until(b"first\r\n");
    server.stop();
    client.read_until(b"last\r\n0\r\n\r\n");
    client.expect_close();
    server.join().unwrap();
}

#[test]
fn who_does_not_end_is_aborted_after_the_grace() {
    let any_port = "127.0.0.1:0".parse().unwrap();
    let server = Server::new(settings())
        .listen(any_port, || |_: Request| std::future::pending::<Response>())
        .unwrap()
        .start(Stop::new(), Duration::from_millis(100))
        .unwrap();
    let mut client = connect(&server);
    client.send(get("/"));
    let started = Instant::now();
    server.stop();
    client.expect_close();
    server.join().unwrap();
    assert!(started.elapsed() < Duration::from_secs(8), "took {:?}", started.elapsed());
}

#[test]
fn the_end_can_be_awaited() {
    let mut server = serve_targets(settings());
    block_on(async {
        let early = tokio::time::timeout(Duration::from_millis(50), server.finished()).await;
        assert!(early.is_err(), "it has not been stopped yet");
        server.stop();
        server.finished().await;
    });
    server.join().unwrap();
}
