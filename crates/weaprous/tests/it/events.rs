//! Event streams on the wire.

use crate::support::{connect, get, request, serve};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::Notify;
use weaprous::prelude::*;
use weaprous::sse::{HEARTBEAT, SendError};

#[test]
fn events_are_written_line_by_line() {
    let app = App::new().route("/", [GET], async || {
        Sse::new(|sender| async move {
            sender.send(Event::new().event("message").id(12).json(&["a\nb"])).await?;
            sender.send(Event::new().data("one\r\ntwo\rthree\n")).await?;
            sender.send(Event::new().retry(Duration::from_secs(2))).await
        })
    });
    let response = get(&serve(app), "/", &[]);
    assert_eq!(response.field("content-type"), Some("text/event-stream"));
    assert_eq!(response.field("cache-control"), Some("no-store"));
    let expect = "event: message\nid: 12\ndata: [\"a\\nb\"]\n\n\
                  data: one\ndata: two\ndata: three\ndata: \n\nretry: 2000\n\n";
    assert_eq!(response.text(), expect);
}

#[test]
fn an_event_cannot_carry_another_one() {
    let app = App::new().route("/", [GET], async || {
        Sse::new(|sender| async move {
            for bad in ["a\nb", "a\rb", "a\0b"] {
                assert_eq!(sender.send(Event::new().id(bad).data("x")).await, Err(SendError::Invalid));
                assert_eq!(sender.send(Event::new().event(bad).data("x")).await, Err(SendError::Invalid));
            }
            sender.send(Event::new().data("a\n\nid: 7")).await
        })
    });
    assert_eq!(get(&serve(app), "/", &[]).text(), "data: a\ndata: \ndata: id: 7\n\n");
}

#[test]
fn a_client_resumes_where_it_was() {
    let app = App::new().route("/", [GET], async |LastEventId(last): LastEventId| {
        let first = last.and_then(|id| id.parse::<u64>().ok()).map_or(0, |id| id + 1);
        Sse::new(move |sender| async move {
            for id in first..3 {
                sender.send(Event::new().id(id)).await?;
            }
            Ok(())
        })
    });
    let server = serve(app);
    assert_eq!(get(&server, "/", &[]).text(), "id: 0\n\nid: 1\n\nid: 2\n\n");
    assert_eq!(get(&server, "/", &["Last-Event-ID: 1"]).text(), "id: 2\n\n");
}

/// An application with one endless stream, which speaks once or all the time, and what is told when its producer is
/// dropped.
fn endless(is_silent: bool) -> (App, Arc<Notify>) {
    struct Dropped(Arc<Notify>);
    impl Drop for Dropped {
        fn drop(&mut self) {
            self.0.notify_one();
        }
    }
    let gone = Arc::new(Notify::new());
    let told = Arc::clone(&gone);
    let app = App::new().route("/", [GET], async move || {
        let dropped = Dropped(Arc::clone(&told));
        Sse::new(move |sender| async move {
            let _dropped = dropped;
            sender.send(Event::new().data("first")).await?;
            if is_silent {
                std::future::pending::<()>().await;
            }
            loop {
                sender.send(Event::new().data("more")).await?;
                tokio::task::yield_now().await;
            }
        })
        .into_response()
    });
    (app, gone)
}

fn wait(gone: &Notify) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    let waited = runtime.block_on(async { tokio::time::timeout(Duration::from_secs(10), gone.notified()).await });
    waited.expect("the producer is dropped in time");
}

#[test]
fn silence_is_filled_with_comments() {
    async fn stream(Path(first): Path<bool>) -> Sse {
        let producing = async move |sender: SseSender| {
            if first {
                sender.send(Event::new().data("first")).await?;
            }
            std::future::pending().await
        };
        Sse::new(producing).heartbeat(Duration::from_millis(5))
    }
    let server = serve(App::new().route("/{first}", [GET], stream));
    for target in ["/true", "/false"] {
        let begun = Instant::now();
        let mut client = connect(&server);
        client.send(request("GET", target, &[], ""));
        for _ in 0..3 {
            client.read_until(b":\n\n");
        }
        assert!(begun.elapsed() < HEARTBEAT, "also before the first event it is the silence that was asked for");
    }
}

#[test]
fn a_stream_ends_when_the_server_stops() {
    let (app, _) = endless(true);
    let server = serve(app);
    let mut client = connect(&server);
    client.send(request("GET", "/", &[], ""));
    client.read_until(b"data: first\n\n");
    server.stop();
    // The end is a clean one: the last chunk, long before the grace is over.
    client.read_until(b"0\r\n\r\n");
}

#[test]
fn a_client_that_leaves_takes_its_producer_along() {
    let (app, gone) = endless(false);
    let server = serve(app);
    let mut client = connect(&server);
    client.send(request("GET", "/", &[], ""));
    client.read_until(b"data: first\n\n");
    drop(client);
    wait(&gone);
}

#[test]
fn head_asks_for_no_events() {
    let (app, gone) = endless(true);
    let server = serve(app);
    let mut client = connect(&server);
    client.send(request("HEAD", "/", &[], ""));
    assert_eq!(client.read_response_to("HEAD").field("content-type"), Some("text/event-stream"));
    wait(&gone);
}

#[test]
fn a_slow_client_holds_the_producer_back() {
    use std::sync::atomic::{AtomicUsize, Ordering};
    let sent = Arc::new(AtomicUsize::new(0));
    let counter = Arc::clone(&sent);
    let app = App::new().route("/", [GET], async move || {
        let counter = Arc::clone(&counter);
        Sse::new(|sender| async move {
            let large = "x".repeat(1024 * 1024);
            for _ in 0..1000 {
                sender.send(Event::new().data(&large)).await?;
                counter.fetch_add(1, Ordering::SeqCst);
            }
            Ok(())
        })
    });
    let server = serve(app);
    let mut client = connect(&server);
    client.send(request("GET", "/", &[], ""));
    client.read_until(b"data: x");
    // Reads on until far more has come than the socket's buffers and the queue hold together.
    let before = sent.load(Ordering::SeqCst);
    client.read_exact(100 * 1024 * 1024);
    let after = sent.load(Ordering::SeqCst);
    assert!(before < 200 && (100..300).contains(&after), "{before} and {after} events were ahead of the client");
}
