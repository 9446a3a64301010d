//! Large content on its way through: whatever moves it, each byte arrives, and none that does not belong to it.

use crate::client::get as outgoing;
use crate::support::{GRACE, accept, connect, get, read_head, scripted, serve, settings};
use bytes::Bytes;
use engine::{
    Body, BodyError, Client, ClientSettings, Piece, Request, Response, Running, Server, Settings, Source, StatusCode,
    Stop,
};
use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};
use testkit::RawClient;

/// The shortest content that the system moves by itself.
const MIN: usize = 1024 * 1024;
/// Far more than all buffers on the way hold together.
const LARGE: usize = 64 * 1024 * 1024;

/// Content whose seed is printed.
fn random(len: usize) -> Vec<u8> {
    testkit::noise(testkit::seed(), len)
}

/// How many bytes went which way.
#[derive(Debug, Default)]
struct Tally {
    piped: AtomicUsize,
    copied: AtomicUsize,
}

impl Tally {
    fn take(&self) -> (usize, usize) {
        (self.piped.swap(0, SeqCst), self.copied.swap(0, SeqCst))
    }
}

/// Content that is counted on its way.
struct Tallied(Body, Arc<Tally>);

impl Source for Tallied {
    fn poll_chunk(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, BodyError>>> {
        let chunk = ready!(self.0.poll_chunk(cx));
        if let Some(Ok(chunk)) = &chunk {
            self.1.copied.fetch_add(chunk.len(), SeqCst);
        }
        Poll::Ready(chunk)
    }

    fn poll_piece(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Piece, BodyError>>> {
        let piece = ready!(self.0.poll_piece(cx));
        match &piece {
            Some(Ok(piece @ Piece::Piped(_))) => self.1.piped.fetch_add(piece.len(), SeqCst),
            Some(Ok(piece)) => self.1.copied.fetch_add(piece.len(), SeqCst),
            _ => 0,
        };
        Poll::Ready(piece)
    }

    fn exact_len(&self) -> Option<u64> {
        self.0.exact_len()
    }
}

type Relaying = Box<dyn Fn(Request) -> Pin<Box<dyn Future<Output = Response>>>>;

/// A service that fetches each target from another server and hands its content on.
fn relaying(upstream: SocketAddr, tally: Arc<Tally>, idle: Duration) -> impl Fn() -> Relaying + Send + Sync + 'static {
    move || {
        let client = Client::new(ClientSettings { body_idle_timeout: idle, ..ClientSettings::default() });
        let tally = tally.clone();
        Box::new(move |request: Request| {
            let (client, tally) = (client.clone(), tally.clone());
            Box::pin(async move {
                match client.send(upstream, outgoing(request.head.target())).await {
                    Ok((head, body)) => Response::new(head.status()).with_body(Body::from_source(Tallied(body, tally))),
                    Err(error) => Response::text(StatusCode::BAD_GATEWAY, error.to_string()),
                }
            })
        })
    }
}

const PATIENCE: Duration = Duration::from_secs(20);

fn relay_with(settings: Settings, upstream: SocketAddr) -> (Running, Arc<Tally>) {
    let tally = Arc::new(Tally::default());
    (serve(settings, relaying(upstream, tally.clone(), PATIENCE)), tally)
}

fn relay(upstream: SocketAddr) -> (Running, Arc<Tally>) {
    relay_with(settings(), upstream)
}

fn head_of(len: usize) -> String {
    format!("HTTP/1.1 200 OK\r\nContent-Length: {len}\r\n\r\n")
}

/// `/NUMBER` as a number.
fn number_in(head: &str) -> usize {
    head.split([' ', '/']).find_map(|word| word.parse().ok()).unwrap()
}

/// An upstream that answers each `/LENGTH` with so many of these bytes, connection after connection.
fn serve_lengths(bytes: Arc<Vec<u8>>) -> Running {
    serve(settings(), move || {
        let bytes = Bytes::from_owner(Shared(bytes.clone()));
        move |request: Request| {
            let len = number_in(&format!("{} ", request.head.target()));
            std::future::ready(Response::new(StatusCode::OK).with_body(Body::from(bytes.slice(..len))))
        }
    })
}

struct Shared(Arc<Vec<u8>>);

impl AsRef<[u8]> for Shared {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

/// Whether the system moved any of it.
fn is_moved(piped: usize) -> bool {
    piped > 0 || !cfg!(target_os = "linux")
}

#[test]
fn content_of_any_length_arrives_and_both_connections_go_on() {
    let bytes = Arc::new(random(5 * MIN + 3));
    let lengths = [MIN - 1, MIN, 0, MIN + 1, 1, 2 * MIN - 1, 2 * MIN + 255, 5 * MIN + 3, 4 * MIN, 70_000, MIN];
    let (expect, count) = (bytes.clone(), lengths.len());
    // It accepts once: whoever comes by a second connection waits in vain.
    let (addr, upstream) = scripted(move |listener| {
        let mut stream = accept(listener);
        for _ in 0..count {
            let len = number_in(&read_head(&mut stream));
            stream.write_all(head_of(len).as_bytes()).unwrap();
            stream.write_all(&expect[..len]).unwrap();
        }
    });
    let (server, tally) = relay(addr);
    let mut client = connect(&server);
    for len in lengths {
        client.send(get(&format!("/{len}")));
        let body = client.read_response().body;
        assert!(body == bytes[..len], "{len}: {} bytes, or others", body.len());
        let (piped, copied) = tally.take();
        assert!(len == 0 || piped + copied == len || copied == 0, "{len}: {piped} and {copied}");
        if len < MIN {
            assert_eq!(piped, 0, "{len}");
        } else {
            assert!(is_moved(piped), "{len}: none of it was moved by the system");
        }
    }
    drop(server);
    upstream.join().unwrap();
}

#[test]
fn many_at_once_get_what_is_theirs() {
    let bytes = Arc::new(random(4 * MIN));
    let upstream = serve_lengths(bytes.clone());
    let (server, _) = relay(upstream.local_addrs()[0]);
    std::thread::scope(|scope| {
        for number in 0..8_usize {
            let (server, bytes) = (&server, &bytes);
            scope.spawn(move || {
                let mut client = connect(server);
                for round in 0..4 {
                    let len = 2 * MIN + number * 77_777 + round * 1_234;
                    client.send(get(&format!("/{len}")));
                    assert!(client.read_response().body == bytes[..len], "{number} {round}");
                }
            });
        }
    });
}

#[test]
fn what_follows_the_content_is_never_content_and_ends_the_connection() {
    let bytes = Arc::new(random(MIN + 777));
    let expect = bytes.clone();
    let (addr, upstream) = scripted(move |listener| {
        let mut kept = Vec::new();
        for _ in 0..2 {
            let mut stream = accept(listener);
            read_head(&mut stream);
            stream.write_all(head_of(expect.len()).as_bytes()).unwrap();
            // In one call, so that it is there before the content has been taken.
            let smuggled = b"HTTP/1.1 200 OK\r\nContent-Length: 8\r\n\r\nsmuggled";
            stream.write_all(&[&expect[..], smuggled].concat()).unwrap();
            kept.push(stream);
        }
        for mut stream in kept {
            let ended = stream.read(&mut [0]);
            assert!(matches!(&ended, Ok(0)) || ended.is_err_and(|error| error.kind() == ErrorKind::ConnectionReset));
        }
    });
    let (server, tally) = relay(addr);
    let mut client = connect(&server);
    for _ in 0..2 {
        client.send(get("/"));
        assert!(client.read_response().body == *bytes, "the content and nothing else");
        assert!(is_moved(tally.take().0));
    }
    client.send("GET / HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n");
    drop(server);
    upstream.join().unwrap();
}

#[test]
fn an_upstream_that_dies_in_the_middle_is_seen_and_not_asked_again() {
    for is_reset in [false, true] {
        let bytes = Arc::new(random(3 * MIN));
        let expect = bytes.clone();
        let (told, wait) = std::sync::mpsc::channel::<()>();
        let (addr, upstream) = scripted(move |listener| {
            let mut stream = accept(listener);
            read_head(&mut stream);
            stream.write_all(head_of(expect.len()).as_bytes()).unwrap();
            stream.write_all(&expect[..2 * MIN]).unwrap();
            wait.recv_timeout(PATIENCE).unwrap(); // the client has all of that
            if is_reset {
                socket2::SockRef::from(&stream).set_linger(Some(Duration::ZERO)).unwrap();
            }
            drop(stream);
            let mut stream = accept(listener);
            read_head(&mut stream);
            stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nagain").unwrap();
        });
        let (server, tally) = relay(addr);
        let mut client = connect(&server);
        client.send(get("/"));
        client.read_until(b"\r\n\r\n");
        assert!(client.read_exact(2 * MIN) == bytes[..2 * MIN]);
        told.send(()).unwrap();
        client.expect_close();
        assert!(is_moved(tally.take().0));
        let mut client = connect(&server);
        client.send(get("/"));
        assert_eq!(client.read_response().text(), "again");
        drop(server);
        upstream.join().unwrap();
    }
}

/// Writes until nothing has been taken for a while; how much was.
fn flood(stream: &mut TcpStream, bytes: &[u8]) -> usize {
    stream.set_write_timeout(Some(Duration::from_millis(300))).unwrap();
    let mut sent = 0;
    while sent < bytes.len() {
        match stream.write(&bytes[sent..]) {
            Ok(count) => sent += count,
            Err(error) => {
                assert!(matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut), "{error}");
                break;
            }
        }
    }
    stream.set_write_timeout(Some(PATIENCE)).unwrap();
    sent
}

#[test]
fn a_client_that_does_not_read_stops_the_upstream_and_then_gets_everything() {
    let bytes = Arc::new(random(LARGE));
    let expect = bytes.clone();
    let (tell, told) = std::sync::mpsc::channel();
    let (addr, upstream) = scripted(move |listener| {
        let mut stream = accept(listener);
        read_head(&mut stream);
        stream.write_all(head_of(LARGE).as_bytes()).unwrap();
        let sent = flood(&mut stream, &expect);
        tell.send(sent).unwrap();
        stream.write_all(&expect[sent..]).unwrap();
    });
    let (server, tally) = relay(addr);
    let mut client = connect(&server);
    client.send(get("/"));
    let sent = told.recv_timeout(PATIENCE).unwrap();
    assert!(sent < LARGE / 2, "{sent} bytes went out although nobody reads");
    assert!(client.with_deadline(PATIENCE).read_response().body == *bytes, "every byte, in order");
    assert!(is_moved(tally.take().0));
    drop(server);
    upstream.join().unwrap();
}

#[test]
fn a_client_that_leaves_in_the_middle_ends_its_upstream_connection_alone() {
    let bytes = Arc::new(random(LARGE));
    let expect = bytes.clone();
    let (addr, upstream) = scripted(move |listener| {
        let mut stream = accept(listener);
        read_head(&mut stream);
        stream.write_all(head_of(LARGE).as_bytes()).unwrap();
        stream.set_write_timeout(Some(PATIENCE)).unwrap();
        let error = stream.write_all(&expect).expect_err("nobody wants it");
        assert!(matches!(error.kind(), ErrorKind::BrokenPipe | ErrorKind::ConnectionReset), "{error}");
        let mut stream = accept(listener);
        read_head(&mut stream);
        stream.write_all(head_of(2 * MIN).as_bytes()).unwrap();
        stream.write_all(&expect[..2 * MIN]).unwrap();
    });
    let (server, _) = relay(addr);
    let mut client = connect(&server);
    client.send(get("/"));
    client.read_exact(MIN);
    drop(client);
    let mut other = connect(&server);
    other.send(get("/"));
    // What the first one did not take is not among it.
    assert!(other.read_response().body == bytes[..2 * MIN]);
    drop(server);
    upstream.join().unwrap();
}

#[test]
fn with_more_slow_clients_than_pipes_the_rest_is_copied() {
    const CLIENTS: usize = 24;
    const LEN: usize = 12 * MIN;
    let bytes = Arc::new(random(LEN));
    let upstream = serve_lengths(bytes.clone());
    let patient = Settings { write_idle_timeout: PATIENCE * 10, rate_grace: PATIENCE * 10, ..settings() };
    let (server, tally) = relay_with(patient, upstream.local_addrs()[0]);
    let mut slow: Vec<RawClient> = (0..CLIENTS).map(|_| connect(&server).with_deadline(PATIENCE * 4)).collect();
    for client in &mut slow {
        client.send(get(&format!("/{LEN}")));
        // Its content is under way; from here on it takes nothing.
        client.read_until(b"\r\n\r\n");
    }
    for (number, client) in slow.iter_mut().enumerate() {
        client.send(get("/5"));
        assert!(client.read_exact(LEN) == bytes[..], "{number}");
        assert_eq!(client.read_response().body, bytes[..5]);
    }
    let (piped, copied) = tally.take();
    assert_eq!(piped + copied, CLIENTS * (LEN + 5));
    assert!(is_moved(piped) && copied > 2 * MIN, "{piped} {copied}");
}

#[test]
fn whoever_takes_nothing_is_dropped_and_so_is_whoever_sends_nothing() {
    let short = Duration::from_millis(200);
    // The client takes nothing.
    let bytes = Arc::new(random(LARGE));
    let upstream = serve_lengths(bytes.clone());
    let (server, tally) = relay_with(Settings { write_idle_timeout: short, ..settings() }, upstream.local_addrs()[0]);
    let mut client = connect(&server);
    client.send(get(&format!("/{LARGE}")));
    client.read_until(b"\r\n\r\n");
    let started = Instant::now();
    let mut probe = connect(&server);
    while started.elapsed() < 4 * short {
        probe.send(get("/1"));
        probe.read_response();
    }
    let taken = client.read_to_end().len();
    assert!(taken < LARGE && is_moved(tally.take().0), "{taken}");
    // The upstream sends nothing any more.
    let (addr, upstream) = scripted(move |listener| {
        let mut stream = accept(listener);
        read_head(&mut stream);
        stream.write_all(head_of(LARGE).as_bytes()).unwrap();
        stream.write_all(&bytes[..2 * MIN]).unwrap();
        assert_eq!(stream.read(&mut [0]).unwrap_or(0), 0, "it is given up");
    });
    let tally = Arc::new(Tally::default());
    let server = serve(settings(), relaying(addr, tally.clone(), short));
    let mut client = connect(&server);
    client.send(get("/"));
    client.read_until(b"\r\n\r\n");
    assert_eq!(client.read_to_end().len(), 2 * MIN);
    assert!(is_moved(tally.take().0));
    upstream.join().unwrap();
}

#[test]
fn a_stop_lets_what_is_under_way_arrive() {
    let bytes = Arc::new(random(LARGE));
    let upstream = serve_lengths(bytes.clone());
    let stop = Stop::new();
    let make = relaying(upstream.local_addrs()[0], Arc::default(), PATIENCE);
    let server = Server::new(settings()).listen("127.0.0.1:0".parse().unwrap(), make).unwrap();
    let server = server.start(stop.clone(), GRACE).unwrap();
    let mut client = connect(&server).with_deadline(PATIENCE);
    client.send(get(&format!("/{LARGE}")));
    let head = client.read_until(b"\r\n\r\n");
    assert!(head.starts_with(b"HTTP/1.1 200 "));
    stop.cancel();
    let addr = server.local_addrs()[0];
    assert!(client.read_exact(LARGE) == *bytes);
    client.expect_close();
    drop(server);
    assert!(TcpListener::bind(addr).is_ok(), "it has ended");
}

#[test]
fn old_clients_and_those_that_want_no_content_get_what_they_asked_for() {
    let bytes = Arc::new(random(2 * MIN));
    let upstream = serve_lengths(bytes.clone());
    let (server, tally) = relay(upstream.local_addrs()[0]);
    let mut client = connect(&server);
    client.send(format!("GET /{} HTTP/1.0\r\nHost: test\r\n\r\n", 2 * MIN));
    assert!(client.read_response().body == *bytes);
    client.expect_close();
    assert!(is_moved(tally.take().0));
    // The service asks for the content all the same, and nobody takes it.
    let mut client = connect(&server);
    client.send(format!("HEAD /{} HTTP/1.1\r\nHost: test\r\n\r\n", 2 * MIN) + &get("/3"));
    assert_eq!(client.read_response_to("HEAD").field("content-length"), Some((2 * MIN).to_string().as_str()));
    assert!(client.read_response().body == bytes[..3]);
    assert_eq!(tally.take().0, 0);
}
