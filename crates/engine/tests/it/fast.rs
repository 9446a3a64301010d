//! What is answered at once and what goes on in a task look the same from outside.

use crate::support::{block_on, connect, get, serve, serve_lengths, serve_targets, settings, target_of};
use engine::{Body, Request, Response, Running, Server, Settings, StatusCode, Stop};
use std::future::poll_fn;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, mpsc};
use std::task::Poll;
use std::time::{Duration, Instant};
use testkit::RawClient;

const SHORT: Duration = Duration::from_millis(200);

/// Answers `/now…` at once, and everything else after others had their turn.
async fn sooner_or_later(request: Request) -> Response {
    if !request.head.path().starts_with("/now") {
        tokio::task::yield_now().await;
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    target_of(&request)
}

fn serve_both(settings: Settings) -> Running {
    serve(settings, || sooner_or_later)
}

#[test]
fn answers_keep_their_order_however_long_each_takes() {
    let server = serve_both(settings());
    let mut client = connect(&server);
    let targets: Vec<_> = (0..60).map(|number| format!("/{}/{number}", ["now", "later"][number % 3 / 2])).collect();
    client.send(targets.iter().map(|target| get(target)).collect::<String>());
    for target in targets {
        assert_eq!(client.read_response().text(), format!("GET {target}"));
    }
}

#[test]
fn a_request_and_the_end_may_come_together() {
    let server = serve_both(settings());
    for number in 0..200 {
        let target = ["/now", "/later"][number % 2];
        let mut client = connect(&server);
        if number % 3 == 0 {
            client.send(get("/now/first"));
            client.read_response();
        }
        client.send(get(target) + &get("/now/last"));
        client.half_close();
        assert_eq!(client.read_response().text(), format!("GET {target}"));
        assert_eq!(client.read_response().text(), "GET /now/last");
        client.expect_close();
    }
}

/// More than is received at a time, and more than a socket holds.
const MUCH: usize = 8 * 1024 * 1024;

/// Sends a last request and more behind it than belongs there; the answer, and how the connection ended.
fn ask_and_go_on_sending(server: &Running, request: &str, more: &[u8]) -> (String, std::io::Result<()>) {
    let mut stream = TcpStream::connect(server.local_addrs()[0]).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    stream.set_write_timeout(Some(Duration::from_secs(10))).unwrap();
    stream.write_all(&[request.as_bytes(), more].concat()).unwrap();
    let mut answer = Vec::new();
    let mut byte = [0];
    while !answer.ends_with(b"\r\n\r\nGET /now") && !answer.ends_with(b"\r\n\r\nGET /later") {
        assert_eq!(stream.read(&mut byte).unwrap(), 1, "{}", answer.escape_ascii());
        answer.push(byte[0]);
    }
    // It still sends, as it does not know better yet.
    let sent = stream.write_all(b"and more").and_then(|()| stream.read_to_end(&mut answer).map(|_| ()));
    (String::from_utf8(answer).unwrap(), sent)
}

#[test]
fn a_client_that_sends_more_than_was_asked_for_reads_the_answer_and_a_proper_end() {
    let server = serve_both(settings());
    for path in ["/now", "/later"] {
        let request = format!("GET {path} HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n");
        for more in [&b"\r\n"[..], b"GET / HTTP/1.1\r\n", &vec![b'x'; MUCH]] {
            let (answer, end) = ask_and_go_on_sending(&server, &request, more);
            assert!(answer.contains("Connection: close\r\n"), "{answer}");
            assert!(answer.ends_with(&format!("\r\n\r\nGET {path}")), "one answer and nothing behind it: {answer}");
            end.unwrap_or_else(|error| panic!("{path} with {} bytes more: {error}", more.len()));
        }
    }
}

#[test]
fn a_client_that_goes_on_sending_for_ever_is_cut_off() {
    let server = serve_both(Settings { linger_timeout: SHORT, ..settings() });
    let mut client = connect(&server);
    client.send("GET /now HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\nxx");
    assert_eq!(client.read_response().text(), "GET /now");
    let begun = Instant::now();
    while client.try_send("x").is_ok() && begun.elapsed() < Duration::from_secs(10) {
        std::thread::sleep(Duration::from_millis(10)); // the client's pace, not a wait for the server
    }
    assert!(begun.elapsed() < Duration::from_secs(10), "it is listened to without end");
}

#[test]
fn a_connection_that_has_rested_goes_on() {
    let server = serve_both(settings());
    let mut client = connect(&server);
    for target in ["/later/1", "/now/2", "/later/3"] {
        client.send(get(target));
        assert_eq!(client.read_response().text(), format!("GET {target}"));
        client.expect_silence(Duration::from_millis(1200)); // long enough for its task to end
    }
}

#[test]
fn a_connection_that_rests_is_closed_in_time() {
    let patience = Duration::from_millis(1500);
    let server = serve_both(Settings { keep_alive_timeout: patience, ..settings() });
    let mut client = connect(&server);
    client.send(get("/later"));
    client.read_response();
    let started = Instant::now();
    client.expect_close();
    assert!(started.elapsed() > patience / 2, "closed after {:?}", started.elapsed());
}

#[test]
fn requests_are_counted_on_both_ways() {
    let server = serve_both(Settings { requests_per_connection_max: 4, ..settings() });
    let mut client = connect(&server);
    for target in ["/now", "/later", "/now"] {
        client.send(get(target));
        assert_eq!(client.read_response().field("connection"), None, "{target}");
    }
    client.send(get("/now"));
    assert_eq!(client.read_response().field("connection"), Some("close"));
    client.expect_close();
}

#[test]
fn a_request_kept_by_its_service_stays_what_it_was() {
    // The worker's buffer and description of the connection are used again: not while somebody holds on to them.
    let (sender, kept) = mpsc::channel();
    let server = serve(settings(), move || {
        let sender = sender.clone();
        move |request: Request| {
            let answer = target_of(&request);
            let sender = sender.clone();
            tokio::task::spawn_local(async move {
                tokio::time::sleep(Duration::from_millis(50)).await;
                sender.send((request.head.target().to_owned(), request.peer_addr())).unwrap();
            });
            std::future::ready(answer)
        }
    });
    let mut clients: Vec<RawClient> = (0..20).map(|_| connect(&server)).collect();
    let mut expected = Vec::new();
    for (number, client) in clients.iter_mut().enumerate() {
        let target = format!("/{number}/{}", "x".repeat(number * 100));
        client.send(get(&target));
        client.read_response();
        expected.push((target, client.stream().local_addr().unwrap()));
    }
    let mut seen: Vec<_> = (0..expected.len()).map(|_| kept.recv_timeout(Duration::from_secs(10)).unwrap()).collect();
    seen.sort();
    expected.sort();
    assert_eq!(seen, expected);
}

#[test]
fn a_panic_among_pipelined_requests_ends_their_connection_and_no_other() {
    let server = serve(settings(), || {
        async |request: Request| {
            assert!(request.head.path() != "/panic", "as the test wants it");
            target_of(&request)
        }
    });
    let (mut client, mut other) = (connect(&server), connect(&server));
    other.send(get("/before"));
    assert_eq!(other.read_response().text(), "GET /before");
    let targets = (0..16).map(|number| if number == 2 { "/panic".to_owned() } else { format!("/{number}") });
    client.send(targets.map(|target| get(&target)).collect::<String>());
    assert_eq!(client.read_response().text(), "GET /0");
    assert_eq!(client.read_response().text(), "GET /1");
    assert_eq!(client.read_response().status, 500);
    client.expect_close();
    other.send(get("/after"));
    assert_eq!(other.read_response().text(), "GET /after");
    let mut late = connect(&server);
    late.send(get("/late"));
    assert_eq!(late.read_response().text(), "GET /late", "nothing of the others is left");
}

/// Heads are taken from where they were received as long as they are simple. What is not, stands here among them: empty
/// lines in front, content of both kinds, an unusual version, and spaces that a field may have.
const MIXED: &str = "GET /now/1 HTTP/1.1\r\nHost: test\r\n\r\n\
    \r\nGET /now/2 HTTP/1.1\r\nHost:test \r\n\r\n\
    POST /now/3 HTTP/1.1\r\nHost: test\r\nContent-Length: 16\r\n\r\nGET / HTTP/1.1\r\n\
    GET /now/4 HTTP/1.1\r\nHost: test\r\n\r\n\
    POST /now/5 HTTP/1.1\r\nHost: test\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n\
    GET http://test/now/6 HTTP/1.1\r\nHost: test\r\n\r\n\
    GET /later/7 HTTP/1.1\r\nHost: test\r\n\r\n\
    GET /now/8 HTTP/1.0\r\nHost: test\r\nConnection: keep-alive\r\n\r\n\
    GET /now/9 HTTP/1.1\r\nHost: test\r\n\r\n";

#[test]
fn simple_and_other_requests_of_one_packet_are_answered_in_order_wherever_it_is_cut() {
    let server = serve_both(settings());
    let addr = server.local_addrs()[0];
    let check = |pieces: &[&[u8]]| {
        let mut client = RawClient::connect(addr);
        client.stream().set_nodelay(true).unwrap();
        for piece in pieces {
            client.send(piece);
        }
        for number in 1..=9 {
            let (method, way) =
                (if matches!(number, 3 | 5) { "POST" } else { "GET" }, if number == 7 { "later" } else { "now" });
            let target = if number == 6 { "http://test/now/6".to_owned() } else { format!("/{way}/{number}") };
            assert_eq!(client.read_response().text(), format!("{method} {target}"), "cut behind {}", pieces[0].len());
        }
    };
    check(&[MIXED.as_bytes()]);
    testkit::at_every_byte(MIXED.as_bytes()).for_each(|pieces| check(&pieces));
}

#[test]
fn a_flood_starves_neither_others_nor_timers() {
    let server = serve_both(settings());
    let is_over = AtomicBool::new(false);
    let addr = server.local_addrs()[0];
    std::thread::scope(|scope| {
        for _ in 0..2 {
            let (mut reading, is_over) = (std::net::TcpStream::connect(addr).unwrap(), &is_over);
            let mut writing = reading.try_clone().unwrap();
            let flood = get("/now").repeat(400);
            scope.spawn(move || while std::io::Write::write_all(&mut writing, flood.as_bytes()).is_ok() {});
            scope.spawn(move || {
                let mut buffer = vec![0; 64 * 1024];
                while !is_over.load(Ordering::Relaxed) && std::io::Read::read(&mut reading, &mut buffer).unwrap() > 0 {}
                reading.shutdown(std::net::Shutdown::Both).unwrap();
            });
        }
        let mut client = connect(&server);
        let started = Instant::now();
        for _ in 0..20 {
            client.send(get("/later"));
            client.read_response();
        }
        let took = started.elapsed();
        is_over.store(true, Ordering::Relaxed);
        assert!(took < Duration::from_secs(8), "20 requests took {took:?}");
    });
}

#[test]
fn many_connections_come_and_go() {
    let server = Server::new(settings());
    let connections = server.connections();
    let server =
        server.listen("127.0.0.1:0".parse().unwrap(), || sooner_or_later).unwrap().start(Stop::new(), SHORT).unwrap();
    for round in 0..3 {
        let mut clients: Vec<RawClient> = (0..300).map(|_| connect(&server)).collect();
        for (number, client) in clients.iter_mut().enumerate() {
            client.send(get(["/now", "/later"][number % 2]));
        }
        for client in &mut clients {
            assert_eq!(client.read_response().status, 200, "round {round}");
        }
        assert_eq!(connections.open(), 300, "round {round}");
        clients.truncate(7);
        for client in &mut clients {
            client.send(get("/now"));
            assert_eq!(client.read_response().status, 200, "in a place between free ones, round {round}");
        }
        drop(clients);
        // The last ones are noticed as soon as the server has looked: ask until it has.
        let gone = (0..1000).any(|_| {
            let mut client = connect(&server);
            client.send(get("/now"));
            client.read_response();
            connections.open() <= 1
        });
        assert!(gone, "{} are still counted", connections.open());
    }
}

#[test]
fn connections_of_one_address_are_counted_on_all_workers() {
    let limited = Settings { workers: Some(2), connections_per_address_max: 3, counts_loopback: true, ..settings() };
    let server = serve_both(limited);
    let mut clients: Vec<RawClient> = (0..3).map(|_| connect(&server)).collect();
    for (number, client) in clients.iter_mut().enumerate() {
        client.send(get(["/now", "/later"][number % 2]));
        assert_eq!(client.read_response().status, 200);
    }
    let mut refused = connect(&server);
    assert_eq!(refused.read_response().status, 503);
    refused.expect_close();
    clients.pop();
    let admitted = (0..500).any(|_| {
        let mut client = connect(&server);
        let _ = client.try_send(get("/now"));
        client.read_response().status == 200
    });
    assert!(admitted, "the place of a closed connection is free again");
}

/// Many connections that are only to be refused take none of the worker's places from other addresses.
#[test]
fn one_address_cannot_fill_a_worker_with_refusals() {
    let patient = Settings { linger_timeout: Duration::from_mins(1), ..settings() };
    let server = serve_both(Settings { connections_per_address_max: 1, counts_loopback: true, ..patient });
    let mut admitted = connect(&server);
    admitted.send(get("/now"));
    assert_eq!(admitted.read_response().status, 200);
    let mut others: Vec<TcpStream> = (0..100).map(|_| TcpStream::connect(server.local_addrs()[0]).unwrap()).collect();
    let told = others.iter_mut().filter_map(|client| {
        client.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        let mut answer = String::new();
        client.read_to_string(&mut answer).ok().filter(|_| answer.starts_with("HTTP/1.1 503"))
    });
    assert_eq!(told.count(), 32, "the rest was dropped");
}

/// Has `busy` ask for one thing that blocks the worker and then for a thousand more, and `other` for one thing
/// meanwhile; how many of the thousand were answered before the other.
fn answered_before_the_other(first: &str) -> usize {
    let asked = Arc::new(Mutex::new(Vec::new()));
    let ((entered, is_entered), (release, is_released)) = (mpsc::channel(), mpsc::channel::<()>());
    let hold = Arc::new(Mutex::new((entered, is_released)));
    let seen = asked.clone();
    let server = serve(settings(), move || {
        let (seen, hold) = (seen.clone(), hold.clone());
        move |request: Request| {
            let (seen, hold) = (seen.clone(), hold.clone());
            async move {
                match request.head.path() {
                    "/later" => tokio::task::yield_now().await,
                    "/block" => {
                        let (entered, is_released) = &*hold.lock().unwrap();
                        entered.send(()).unwrap();
                        is_released.recv().unwrap();
                    }
                    path => seen.lock().unwrap().push(path.to_owned()),
                }
                target_of(&request)
            }
        }
    });
    let (mut busy, mut other) = (connect(&server), connect(&server));
    for client in [&mut busy, &mut other] {
        client.send(get("/hello"));
        client.read_response();
    }
    busy.send(get(first) + &get("/block") + &get("/more").repeat(700));
    is_entered.recv().unwrap();
    other.send(get("/other"));
    release.send(()).unwrap();
    assert_eq!(other.read_response().text(), "GET /other");
    let asked = asked.lock().unwrap();
    asked.iter().skip(2).position(|path| path == "/other").unwrap()
}

#[test]
fn a_client_that_sends_many_requests_at_once_does_not_hold_up_others() {
    let at_once = answered_before_the_other("/hello");
    assert!(at_once <= 2 * 64, "{at_once} answers by the front came first");
    let in_a_task = answered_before_the_other("/later");
    assert!(in_a_task <= 2 * 64, "{in_a_task} answers by a task came first");
}

#[test]
fn a_server_starts_inside_a_runtime() {
    block_on(async {
        let server = Server::new(Settings { workers: Some(2), ..settings() })
            .listen("127.0.0.1:0".parse().unwrap(), || sooner_or_later)
            .unwrap();
        let mut running = server.start(Stop::new(), SHORT).unwrap();
        running.stop();
        running.finished().await;
    });
}

/// Answers with a stream that says nothing; tells when nobody wants it any more.
fn serve_silence(settings: Settings) -> (Running, mpsc::Receiver<()>) {
    let (sender, gone) = mpsc::channel();
    let server = serve(settings, move || {
        let gone = sender.clone();
        move |_: Request| {
            let (sender, body) = Body::channel();
            let gone = gone.clone();
            tokio::task::spawn_local(async move {
                sender.closed().await;
                gone.send(()).unwrap();
            });
            std::future::ready(Response::new(StatusCode::OK).with_body(body))
        }
    });
    (server, gone)
}

#[test]
fn a_listener_of_events_that_leaves_silently_is_noticed() {
    let (server, gone) = serve_silence(Settings { half_closed_timeout: SHORT, ..settings() });
    let mut client = connect(&server);
    client.send(get("/events"));
    client.read_until(b"\r\n\r\n");
    gone.recv_timeout(2 * SHORT).expect_err("it is still there");
    drop(client);
    gone.recv_timeout(Duration::from_secs(10)).expect("it is noticed although nothing is written");
}

#[test]
fn a_reset_is_noticed_at_once() {
    let (server, gone) = serve_silence(settings());
    let mut client = connect(&server);
    client.send(get("/events"));
    client.read_until(b"\r\n\r\n");
    client.half_close();
    client.expect_silence(SHORT);
    socket2::SockRef::from(client.stream()).set_linger(Some(Duration::ZERO)).unwrap();
    drop(client);
    gone.recv_timeout(Duration::from_secs(5)).expect("long before any deadline");
}

#[test]
fn content_that_waits_for_its_reader_is_not_too_slow() {
    let (sender, begun) = mpsc::channel();
    let impatient = Settings {
        rate_min: 1_000_000,
        rate_grace: SHORT,
        linger_timeout: SHORT, // the shortest time sets how often the clock is advanced
        body_bytes_max: u64::MAX,
        ..settings()
    };
    let server = serve(impatient, move || {
        let begun = sender.clone();
        move |mut request: Request| {
            let begun = begun.clone();
            async move {
                // What comes is waited for, but then the upstream stalls for longer than a client may.
                assert!(poll_fn(|cx| Poll::Ready(request.body.poll_chunk(cx).is_pending())).await);
                begun.send(()).unwrap();
                tokio::time::sleep(5 * SHORT).await;
                match request.body.collect(u64::MAX).await {
                    Ok(bytes) => Response::text(StatusCode::OK, bytes.len().to_string()),
                    Err(error) => Response::text(error.status(), error.to_string()),
                }
            }
        }
    });
    let mut client = connect(&server);
    client.send("POST / HTTP/1.1\r\nHost: test\r\nContent-Length: 10\r\n\r\n");
    begun.recv_timeout(Duration::from_secs(10)).unwrap();
    client.send("0123456789");
    let response = client.read_response();
    assert_eq!((response.status, response.text()), (200, "10"));
}

#[test]
fn small_content_is_there_at_once() {
    let server = serve_lengths(settings());
    let mut client = connect(&server);
    let post = |body: &str| format!("POST / HTTP/1.1\r\nHost: test\r\nContent-Length: {}\r\n\r\n{body}", body.len());
    client.send(post("abc") + &post("") + &post(&"x".repeat(20_000)) + &get("/") + &post("z"));
    for length in ["3", "0", "20000", "0", "1"] {
        assert_eq!(client.read_response().text(), length);
    }
}

#[test]
fn a_malformed_request_leaves_no_trace_for_the_next_connection() {
    let server = serve_targets(settings());
    for bytes in [
        "GET / HTTP/1.1\r\nHost : x\r\n\r\n",
        "\r\n",
        "GET / HT",
        "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\n",
    ] {
        let mut bad = connect(&server);
        bad.send(bytes);
        let mut good = connect(&server);
        good.send(get("/good"));
        assert_eq!(good.read_response().text(), "GET /good", "{bytes:?}");
        drop(bad);
        good.send("\r\n".to_owned() + &get("/again"));
        assert_eq!(good.read_response().text(), "GET /again", "{bytes:?}");
    }
}
