//! Requests that the front passes on by itself: whatever the upstream and the client do, the answer is what the longer
//! way would have given.

use crate::support::{accept, answer_once, connect, get, read_head, scripted, serve, settings};
use engine::{
    Begun, Body, Client, ClientSettings, Fields, OutgoingRequest, Pass, Passage, Peer, Request, RequestHead, Response,
    ResponseHead, Resumed, Running, Service, Settings, StatusCode, write_passed_request, write_passed_response,
};
use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::rc::Rc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;
use testkit::RawClient;

/// More than the system takes for a connection whose other side does not read.
pub(crate) const LARGE: usize = 24 * 1024 * 1024;

/// Which way requests went.
#[derive(Debug, Default)]
pub(crate) struct Ways {
    answered: AtomicUsize,
    resumed: AtomicUsize,
}

impl Ways {
    pub(crate) fn counts(&self) -> (usize, usize) {
        (self.answered.load(SeqCst), self.resumed.load(SeqCst))
    }
}

/// Passes everything on to one upstream. What the target says it does wrong.
#[derive(Clone)]
struct Passer {
    upstream: SocketAddr,
    client: Client,
    ways: Arc<Ways>,
}

struct Passed {
    passer: Rc<Passer>,
    target: String,
}

impl Service for Passer {
    const PASSES: bool = true;

    fn call(&self, request: Request) -> impl Future<Output = Response> + use<> + 'static {
        let passer = self.clone();
        async move { passer.ask(request, None).await }
    }

    fn pass(&self, head: &RequestHead, _: &Peer, out: &mut Vec<u8>) -> Option<Box<Pass>> {
        assert_ne!(head.target(), "/panic-passing");
        if head.target() == "/not" {
            return None;
        }
        let connection = self.client.take_kept(self.upstream);
        let added = if head.target() == "/large" { vec![b'x'; LARGE] } else { b"yes".to_vec() };
        write_passed_request(out, head, b"upstream", |_| true, &[("x-passed", &added)]).unwrap();
        let passed = Passed { passer: Rc::new(self.clone()), target: head.target().to_owned() };
        Some(Pass::new(passed, connection))
    }
}

impl Passer {
    async fn ask(&self, request: Request, begun: Option<Box<Begun>>) -> Response {
        let mut fields = Fields::new();
        fields.append("host", "upstream").unwrap();
        let head = &request.head;
        let (method, target) = (head.method(), head.target().to_owned());
        let outgoing = OutgoingRequest { method, target, fields, body: Body::Empty };
        let sent = match begun {
            Some(begun) => self.client.send_begun(begun, outgoing).await.map_err(|failed| failed.error),
            None => self.client.send(self.upstream, outgoing).await,
        };
        match sent {
            Ok((head, body)) => {
                let mut response = Response::new(head.status());
                response.body = body;
                response
            }
            Err(error) => Response::text(StatusCode::BAD_GATEWAY, format!("{:?}", error.kind)),
        }
    }
}

impl Passage for Passed {
    fn answer(&mut self, head: &ResponseHead, content: &[u8], date: &[u8; 29], out: &mut Vec<u8>) -> bool {
        assert_ne!(self.target, "/panic-answering");
        if self.target == "/refuse" {
            return false;
        }
        self.passer.ways.answered.fetch_add(1, SeqCst);
        write_passed_response(out, head, date, |_| true, &[], content).is_ok()
    }

    fn resume(&mut self, request: Request, begun: Option<Box<Begun>>) -> Resumed {
        assert_ne!(self.target, "/panic-resuming");
        self.passer.ways.resumed.fetch_add(1, SeqCst);
        let passer = Rc::clone(&self.passer);
        Box::pin(async move { passer.ask(request, begun).await })
    }
}

pub(crate) fn passing_to(upstream: SocketAddr, settings: Settings) -> (Running, Arc<Ways>) {
    let ways = Arc::new(Ways::default());
    let shown = Arc::clone(&ways);
    let head_timeout = Duration::from_secs(3);
    let server = serve(settings, move || Passer {
        upstream,
        client: Client::new(ClientSettings { head_timeout, ..ClientSettings::default() }),
        ways: Arc::clone(&ways),
    });
    (server, shown)
}

pub(crate) const OK: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";

/// An upstream that answers once and then does what `script` says with the same connection.
pub(crate) fn warm(script: impl FnOnce(TcpStream, &TcpListener) + Send + 'static) -> (SocketAddr, JoinHandle<()>) {
    scripted(move |listener| {
        let stream = answer_once(listener, OK);
        script(stream, listener);
    })
}

/// Has a connection to the upstream kept: the first request opens it.
pub(crate) fn warm_up(server: &Running) {
    let mut client = connect(server);
    client.send(get("/warm"));
    assert_eq!(client.read_response().text(), "ok");
}

/// What a client is told when the upstream answers with these parts, and which ways that went.
fn told(target: &str, parts: &[&[u8]]) -> (u16, String, (usize, usize)) {
    let parts: Vec<Vec<u8>> = parts.iter().map(|part| part.to_vec()).collect();
    let (addr, upstream) = warm(move |mut stream, _| {
        read_head(&mut stream);
        for part in parts {
            stream.write_all(&part).unwrap();
            std::thread::yield_now();
        }
    });
    let (server, ways) = passing_to(addr, settings());
    warm_up(&server);
    let mut client = connect(&server);
    client.send(get(target));
    let response = client.read_response();
    upstream.join().unwrap();
    let (answered, resumed) = ways.counts();
    (response.status, response.text().to_owned(), (answered, resumed - 1)) // the first one had no connection yet
}

#[test]
fn a_whole_answer_goes_straight_back() {
    assert_eq!(told("/", &[OK]), (200, "ok".into(), (1, 0)));
    assert_eq!(told("/", &[b"HTTP/1.1 404 No\r\nContent-Length: 0\r\n\r\n"]), (404, String::new(), (1, 0)));
}

#[test]
fn answers_that_are_not_so_simple_arrive_all_the_same() {
    for (parts, status, content) in [
        (
            &[&b"HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"[..]][..],
            200,
            "ok",
        ),
        (&[b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n"], 200, "ok"),
        (&[b"HTTP/1.1 200 OK\r\n\r\nuntil the end"], 200, "until the end"),
        (&[b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nok"], 200, "ok"),
        (&[b"HTTP/1.1 204 No Content\r\n\r\n"], 204, ""),
        (&[b"nonsense\r\n\r\n"], 502, "Protocol"),
        (&[b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nok"], 502, "Protocol"),
        (&[b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok junk behind it"], 200, "ok"),
    ] {
        let (told_status, told_content, ways) = told("/", parts);
        assert_eq!(told_status, status, "{}", parts[0].escape_ascii());
        assert!(told_content.contains(content) && (status == 502 || told_content == content), "{told_content}");
        assert_eq!(ways, (0, 1), "{}", parts[0].escape_ascii());
    }
}

#[test]
fn an_answer_in_parts_is_put_together() {
    for parts in [
        &[&b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n"[..], b"ok"][..],
        &[b"HTTP/1.1 200 OK\r\nConte", b"nt-Length: 2\r\n\r\no", b"k"],
        &[b"H", b"TTP/1.1 2", b"00 OK\r\nC", b"ontent-Le", b"ngth: 2", b"\r\n\r", b"\n", b"o", b"k"],
    ] {
        let (status, content, (answered, resumed)) = told("/", parts);
        assert_eq!((status, content.as_str(), answered + resumed), (200, "ok", 1));
    }
}

#[test]
fn an_answer_that_is_longer_than_the_desk_arrives_whole() {
    let length = 300_000;
    let (addr, upstream) = warm(move |mut stream, _| {
        read_head(&mut stream);
        write!(stream, "HTTP/1.1 200 OK\r\nContent-Length: {length}\r\n\r\n{}", "x".repeat(length)).unwrap();
        read_head(&mut stream); // the connection is used again
        stream.write_all(OK).unwrap();
    });
    let (server, ways) = passing_to(addr, settings());
    warm_up(&server);
    let mut client = connect(&server);
    client.send(get("/"));
    assert_eq!(client.read_response().text().len(), length);
    client.send(get("/"));
    assert_eq!(client.read_response().text(), "ok");
    assert_eq!(ways.counts(), (0, 2), "a task keeps a connection with such answers");
    upstream.join().unwrap();
}

#[test]
fn a_service_may_want_to_answer_itself_after_all() {
    assert_eq!(told("/refuse", &[OK]), (200, "ok".into(), (0, 1)));
    assert_eq!(told("/not", &[OK]), (200, "ok".into(), (0, 0)));
}

#[test]
fn a_panic_ends_this_request_alone() {
    for (target, is_sent) in [("/panic-passing", false), ("/panic-answering", true), ("/panic-resuming", true)] {
        let (addr, upstream) = warm(move |mut stream, listener| {
            if is_sent {
                read_head(&mut stream);
                stream.write_all(if target == "/panic-resuming" { b"?\r\n\r\n" } else { OK }).unwrap();
                drop(stream);
                stream = accept(listener);
            }
            read_head(&mut stream);
            stream.write_all(OK).unwrap();
        });
        let (server, _) = passing_to(addr, settings());
        warm_up(&server);
        let mut client = connect(&server);
        client.send(get(target));
        assert_eq!(client.read_response().status, 500, "{target}");
        client.expect_close();
        warm_up(&server);
        upstream.join().unwrap();
    }
}

/// The upstream ends a kept connection at some moment, and answers on the next one.
#[test]
fn a_connection_that_ends_is_replaced() {
    for reads_first in [false, true] {
        let (addr, upstream) = warm(move |mut stream, listener| {
            if reads_first {
                read_head(&mut stream);
            }
            stream.shutdown(Shutdown::Both).unwrap();
            drop(stream);
            drop(answer_once(listener, b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nfresh"));
        });
        let (server, _) = passing_to(addr, settings());
        warm_up(&server);
        let mut client = connect(&server);
        client.send(get("/"));
        assert_eq!(client.read_response().text(), "fresh", "{reads_first}");
        upstream.join().unwrap();
    }
}

#[test]
fn an_answer_that_breaks_off_is_no_answer() {
    for (part, is_error) in
        [(&b"HTTP/1.1 200 OK\r\nContent-Le"[..], true), (b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nok", false)]
    {
        let (addr, upstream) = warm(move |mut stream, _| {
            read_head(&mut stream);
            stream.write_all(part).unwrap();
        });
        let (server, _) = passing_to(addr, settings());
        warm_up(&server);
        let mut client = connect(&server);
        client.send(get("/"));
        if is_error {
            assert_eq!(client.read_response().status, 502);
        } else {
            let told = String::from_utf8(client.read_to_end()).unwrap();
            assert!(told.contains("Content-Length: 5") && told.ends_with("\r\n\r\nok"), "{told}");
        }
        upstream.join().unwrap();
    }
}

#[test]
fn an_upstream_that_takes_its_time_is_waited_for_and_one_that_says_nothing_is_not() {
    let (addr, upstream) = warm(|mut stream, listener| {
        read_head(&mut stream);
        std::thread::sleep(Duration::from_millis(1800)); // the upstream's pace
        stream.write_all(OK).unwrap();
        read_head(&mut stream);
        let _ = stream.read(&mut [0]); // the client of it gives up
        drop(listener.try_clone());
    });
    let (server, ways) = passing_to(addr, settings());
    warm_up(&server);
    let mut client = connect(&server);
    client.send(get("/"));
    assert_eq!(client.read_response().text(), "ok");
    assert_eq!(ways.counts(), (0, 2), "the front does not wait so long");
    client.send(get("/"));
    let response = client.read_response();
    assert_eq!((response.status, response.text()), (502, "TimedOut"));
    upstream.join().unwrap();
}

#[test]
fn what_a_client_sends_meanwhile_is_answered_in_its_turn() {
    let (addr, upstream) = warm(|mut stream, _| {
        for content in ["first", "second"] {
            let head = read_head(&mut stream);
            assert!(head.starts_with(&format!("GET /{content} ")), "{head}");
            write!(stream, "HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{content}", content.len()).unwrap();
        }
    });
    let (server, ways) = passing_to(addr, settings());
    warm_up(&server);
    let mut client = connect(&server);
    client.send(get("/first") + &get("/second"));
    assert_eq!(client.read_response().text(), "first");
    assert_eq!(client.read_response().text(), "second");
    assert_eq!(ways.counts().0, 0, "a client that sends ahead is a task's");
    upstream.join().unwrap();
}

#[test]
fn a_client_that_speaks_while_it_waits_is_answered_in_order() {
    let (said, heard) = std::sync::mpsc::channel();
    let (go, goes) = std::sync::mpsc::channel();
    let (addr, upstream) = warm(move |mut stream, _| {
        for content in ["first", "second"] {
            read_head(&mut stream);
            if content == "first" {
                said.send(()).unwrap();
                goes.recv().unwrap();
            }
            write!(stream, "HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{content}", content.len()).unwrap();
        }
    });
    let (server, _) = passing_to(addr, settings());
    warm_up(&server);
    let mut client = connect(&server);
    client.send(get("/"));
    heard.recv().unwrap();
    client.send(get("/"));
    go.send(()).unwrap();
    assert_eq!(client.read_response().text(), "first");
    assert_eq!(client.read_response().text(), "second");
    upstream.join().unwrap();
}

#[test]
fn a_client_that_closes_its_half_is_answered_and_one_that_leaves_frees_the_upstream() {
    let (said, heard) = std::sync::mpsc::channel();
    let (go, goes) = std::sync::mpsc::channel();
    let (addr, upstream) = warm(move |mut stream, listener| {
        read_head(&mut stream);
        said.send(()).unwrap();
        goes.recv().unwrap();
        stream.write_all(OK).unwrap();
        let mut other = stream;
        read_head(&mut other);
        said.send(()).unwrap();
        assert_eq!(other.read(&mut [0]).unwrap(), 0, "nobody waits for the answer any more");
        drop(answer_once(listener, OK));
    });
    let (server, _) = passing_to(addr, settings());
    warm_up(&server);
    let mut client = connect(&server);
    client.send(get("/"));
    heard.recv().unwrap();
    client.half_close();
    go.send(()).unwrap();
    assert_eq!(client.read_response().text(), "ok");
    client.expect_close();
    let mut leaving = connect(&server);
    leaving.send(get("/"));
    heard.recv().unwrap();
    socket2::SockRef::from(leaving.stream()).set_linger(Some(Duration::ZERO)).unwrap();
    drop(leaving);
    warm_up(&server); // needs a fresh connection
    upstream.join().unwrap();
}

#[test]
fn a_server_that_stops_answers_what_it_passed_on() {
    let (said, heard) = std::sync::mpsc::channel();
    let (go, goes) = std::sync::mpsc::channel();
    let (addr, upstream) = warm(move |mut stream, _| {
        read_head(&mut stream);
        said.send(()).unwrap();
        goes.recv().unwrap();
        stream.write_all(OK).unwrap();
    });
    let (server, _) = passing_to(addr, settings());
    warm_up(&server);
    let mut client = connect(&server);
    client.send(get("/"));
    heard.recv().unwrap();
    let addr = server.local_addrs()[0];
    server.stop();
    while TcpStream::connect(addr).is_ok() {
        std::thread::yield_now();
    }
    go.send(()).unwrap();
    let response = client.read_response();
    assert_eq!((response.text(), response.field("connection")), ("ok", Some("close")));
    client.expect_close();
    upstream.join().unwrap();
}

/// A service that holds its worker up until it is told to go on, so that several events come at once.
#[derive(Clone)]
struct HeldUp {
    passer: Passer,
    said: Sender<()>,
    go: Arc<Mutex<Receiver<()>>>,
}

impl Service for HeldUp {
    const PASSES: bool = true;

    fn call(&self, request: Request) -> impl Future<Output = Response> + use<> + 'static {
        let passer = self.passer.clone();
        async move {
            match request.head.target() {
                "/here" | "/hold-up" => Response::text(StatusCode::OK, "here"),
                _ => passer.ask(request, None).await,
            }
        }
    }

    fn pass(&self, head: &RequestHead, peer: &Peer, out: &mut Vec<u8>) -> Option<Box<Pass>> {
        match head.target() {
            "/here" => None,
            "/hold-up" => {
                self.said.send(()).unwrap();
                self.go.lock().unwrap().recv().unwrap();
                None
            }
            _ => self.passer.pass(head, peer, out),
        }
    }
}

/// Such a server, how to learn that it is held up, and how to end that.
fn held_up(upstream: SocketAddr) -> (Running, Receiver<()>, Sender<()>) {
    let (server, _, is_held_up, go) = held_up_counted(upstream);
    (server, is_held_up, go)
}

/// As [`held_up`], and which ways requests went.
pub(crate) fn held_up_counted(upstream: SocketAddr) -> (Running, Arc<Ways>, Receiver<()>, Sender<()>) {
    let ((said, is_held_up), (go, goes)) = (channel(), channel());
    let (ways, goes) = (Arc::new(Ways::default()), Arc::new(Mutex::new(goes)));
    let shown = Arc::clone(&ways);
    let server = serve(settings(), move || HeldUp {
        passer: Passer { upstream, client: Client::new(ClientSettings::default()), ways: Arc::clone(&ways) },
        said: said.clone(),
        go: Arc::clone(&goes),
    });
    warm_up(&server);
    (server, shown, is_held_up, go)
}

/// A client whose connection the server knows already.
pub(crate) fn known_client(server: &Running) -> RawClient {
    let mut client = connect(server);
    client.send(get("/here"));
    assert_eq!(client.read_response().text(), "here");
    client
}

/// What an upstream says between two requests is nobody's answer, also when the next one is on its way already.
#[test]
fn what_comes_before_the_request_is_sent_is_not_its_answer() {
    let (speak, speaks) = channel();
    let (spoke, spoken) = channel();
    let (addr, upstream) = warm(move |mut stream, listener| {
        speaks.recv().unwrap();
        stream.write_all(b"HTTP/1.1 408 Request Timeout\r\nContent-Length: 4\r\n\r\njunk").unwrap();
        spoke.send(()).unwrap();
        drop(answer_once(listener, OK));
    });
    let (server, is_held_up, go) = held_up(addr);
    let (mut client, mut other) = (known_client(&server), known_client(&server));
    other.send(get("/hold-up"));
    is_held_up.recv().unwrap();
    client.send(get("/"));
    speak.send(()).unwrap();
    spoken.recv().unwrap();
    go.send(()).unwrap();
    let response = client.read_response();
    assert_eq!((response.status, response.text()), (200, "ok"));
    upstream.join().unwrap();
}

/// A client that speaks while its answer is written but not sent is heard: nothing tells of its bytes again.
#[test]
fn what_a_client_sends_while_its_answer_waits_in_the_outbox_is_answered() {
    let (asked, is_asked) = channel();
    let (speak, speaks) = channel();
    let (spoke, spoken) = channel();
    let (addr, upstream) = warm(move |mut stream, _| {
        read_head(&mut stream);
        asked.send(()).unwrap();
        speaks.recv().unwrap();
        stream.write_all(OK).unwrap();
        spoke.send(()).unwrap();
        read_head(&mut stream);
        stream.write_all(OK).unwrap();
    });
    let (server, is_held_up, go) = held_up(addr);
    let (mut client, mut other) = (known_client(&server), known_client(&server));
    client.send(get("/"));
    is_asked.recv().unwrap();
    other.send(get("/hold-up"));
    is_held_up.recv().unwrap();
    speak.send(()).unwrap();
    spoken.recv().unwrap();
    client.send(get("/"));
    go.send(()).unwrap();
    assert_eq!(client.read_response().text(), "ok");
    assert_eq!(client.read_response().text(), "ok");
    upstream.join().unwrap();
}

/// Many clients at once, each of which checks that it gets its own answers.
#[test]
fn nobody_gets_the_answer_of_another() {
    const CLIENTS: usize = 40;
    const REQUESTS: usize = 50;
    let echo = serve(settings(), || {
        |request: Request| async move { Response::text(StatusCode::OK, request.head.target().to_owned()) }
    });
    let (server, ways) = passing_to(echo.local_addrs()[0], settings());
    std::thread::scope(|scope| {
        for client_number in 0..CLIENTS {
            let server = &server;
            scope.spawn(move || {
                let mut client = connect(server);
                for request in 0..REQUESTS {
                    let target = format!("/{client_number}/{request}");
                    client.send(get(&target));
                    assert_eq!(client.read_response().text(), target);
                }
            });
        }
    });
    let (answered, resumed) = ways.counts();
    assert_eq!(answered + resumed, CLIENTS * REQUESTS);
    assert!(answered > CLIENTS * REQUESTS / 2, "{answered} of {}", CLIENTS * REQUESTS);
}

/// A client that does not read: its answers are held back, and arrive when it does.
#[test]
fn a_client_that_does_not_read_gets_all_of_it_later() {
    const REQUESTS: usize = 300;
    let length = 20_000;
    let large =
        serve(settings(), move || move |_: Request| async move { Response::text(StatusCode::OK, "x".repeat(length)) });
    let (server, _) = passing_to(large.local_addrs()[0], settings());
    warm_up_with(&server);
    let mut client = connect(&server);
    for _ in 0..REQUESTS {
        client.send(get("/"));
    }
    for _ in 0..REQUESTS {
        assert_eq!(client.read_response().text().len(), length);
    }
}

fn warm_up_with(server: &Running) {
    let mut client = connect(server);
    client.send(get("/warm"));
    assert_eq!(client.read_response().status, 200);
}
