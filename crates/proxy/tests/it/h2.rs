//! HTTP/2 over TLS in front of upstreams that speak HTTP/1.1: what is asked well arrives, and whatever a client makes up
//! never reaches an upstream as anything but one well-framed request.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::mpsc::{self, Receiver};
use std::time::Duration;

use bytes::Bytes;
use engine::{Running, Server, Stop, Tls, TlsSettings};
use h2::RecvStream;
use h2::client::SendRequest;
use http::{HeaderMap, Request as Asked};
use proxy::{Config, Proxy};
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConnection, StreamOwned};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio_rustls::TlsConnector;

use crate::harness::*;

/// A proxy behind TLS, and who signed for it.
struct Secure {
    running: Running,
    proxy: Proxy,
    certificate: CertificateDer<'static>,
    _folder: tempfile::TempDir,
}

fn secure(config: &str) -> Secure {
    let config = Config::parse("test", config).unwrap_or_else(|errors| panic!("{errors:?}"));
    let folder = tempfile::tempdir().unwrap();
    let signed = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
    let (chain, key) = (folder.path().join("server.crt"), folder.path().join("server.key"));
    std::fs::write(&chain, signed.cert.pem()).unwrap();
    std::fs::write(&key, signed.signing_key.serialize_pem()).unwrap();
    let tls = Tls::new(TlsSettings::new(chain, key)).unwrap();
    let proxy = Proxy::new(&config);
    let server = Server::new(one_worker()).listen_tls(([127, 0, 0, 1], 0).into(), tls, proxy.service()).unwrap();
    let running = server.start(Stop::new(), DEADLINE).unwrap();
    Secure { running, proxy, certificate: signed.cert.der().clone(), _folder: folder }
}

impl Secure {
    fn address(&self) -> SocketAddr {
        self.running.local_addrs()[0]
    }

    /// A client of the `h2` crate; its connection runs beside it.
    async fn client(&self) -> SendRequest<Bytes> {
        let socket = tokio::net::TcpStream::connect(self.address()).await.unwrap();
        let name = ServerName::try_from("localhost").unwrap();
        let stream =
            TlsConnector::from(testkit::tls::client(&self.certificate, b"h2")).connect(name, socket).await.unwrap();
        let (sender, connection) = h2::client::handshake(stream).await.unwrap();
        tokio::spawn(async move {
            let _ = connection.await; // tests look at what their streams say
        });
        sender.ready().await.unwrap()
    }

    fn connect(&self, alpn: &[u8]) -> StreamOwned<ClientConnection, TcpStream> {
        testkit::tls::connect(self.address(), &self.certificate, "localhost", alpn).unwrap()
    }
}

fn block_on<T>(future: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async { tokio::time::timeout(DEADLINE, future).await.expect("in time") })
}

fn asked(method: &str, target: &str) -> http::request::Builder {
    Asked::builder().method(method).uri(format!("https://localhost{target}"))
}

async fn text(mut stream: RecvStream) -> (String, Option<HeaderMap>) {
    let mut all = Vec::new();
    while let Some(data) = stream.data().await {
        let data = data.unwrap();
        stream.flow_control().release_capacity(data.len()).unwrap();
        all.extend_from_slice(&data);
    }
    (String::from_utf8(all).unwrap(), stream.trailers().await.unwrap())
}

#[test]
fn a_request_arrives_as_it_would_over_http1() {
    let mirror = mirror();
    let front = secure(&everything_to(&[address(&mirror)], ""));
    block_on(async {
        let mut client = front.client().await;
        let request = asked("POST", "/a?b=c").header("cookie", "a=1").header("cookie", "b=2").header("x-a", "1");
        let (answer, mut content) = client.send_request(request.body(()).unwrap(), false).unwrap();
        content.send_data(Bytes::from_static(b"hello"), true).unwrap();
        let answer = answer.await.unwrap();
        assert_eq!(answer.status(), 200);
        assert!(answer.headers().contains_key("x-request-id"));
        let text = text(answer.into_body()).await.0;
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines[0], "POST /a?b=c");
        for line in ["host: localhost", "cookie: a=1; b=2", "x-a: 1", "x-forwarded-proto: https"] {
            assert_eq!(lines.iter().filter(|other| **other == line).count(), 1, "{line}: {text}");
        }
        assert!(!text.contains("\n:") && text.ends_with("\n\nhello"), "{text}");
    });
}

#[test]
fn without_a_port_a_request_over_tls_is_for_443() {
    let (plain, tls) = (named("80"), named("443"));
    let front = secure(&format!(
        "host localhost:80 {{ proxy_pass http://{}; }} host localhost:443 {{ proxy_pass http://{}; }}",
        address(&plain),
        address(&tls)
    ));
    let mut stream = front.connect(b"http/1.1");
    stream.write_all(b"GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    assert!(answer.ends_with("\r\n\r\n443"), "{answer}");
}

#[test]
fn many_streams_share_a_connection_and_few_upstream_connections_serve_them() {
    let named = named("app");
    let front = secure(&everything_to(&[address(&named)], ""));
    block_on(async {
        let mut client = front.client().await;
        for _ in 0..20 {
            let answers: Vec<_> =
                (0..10).map(|_| client.send_request(asked("GET", "/").body(()).unwrap(), true).unwrap().0).collect();
            for answer in answers {
                assert_eq!(text(answer.await.unwrap().into_body()).await.0, "app");
            }
        }
    });
    let status = front.proxy.status();
    assert_eq!(status.servers[0].counts.attempts, 200);
    assert!(status.servers[0].counts.opened <= 10, "{:?}", status.servers[0].counts);
}

#[test]
fn content_of_unknown_length_and_trailers_go_both_ways() {
    let (tell, told) = mpsc::channel();
    let upstream = hostile(move |_, mut wire| {
        let Some(mut all) = wire.try_head() else { return };
        while !all.ends_with("0\r\nx-sum: 1\r\n\r\n") {
            all.push_str(&wire.exact(1));
        }
        tell.send(all).unwrap();
        wire.send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\nX-Sum: 2\r\n\r\n");
        wire.rest();
    });
    let front = secure(&everything_to(&[upstream.address()], ""));
    block_on(async {
        let mut client = front.client().await;
        let request = asked("POST", "/").header("te", "trailers").body(()).unwrap();
        let (answer, mut content) = client.send_request(request, false).unwrap();
        content.send_data(Bytes::from_static(b"hello"), false).unwrap();
        let mut trailers = HeaderMap::new();
        trailers.insert("x-sum", "1".parse().unwrap());
        trailers.insert("x-forwarded-for", "6.6.6.6".parse().unwrap());
        content.send_trailers(trailers).unwrap();
        let (text, trailers) = text(answer.await.unwrap().into_body()).await;
        assert_eq!((text.as_str(), trailers.unwrap()["x-sum"].to_str().unwrap()), ("ok", "2"));
    });
    let head = told.recv_timeout(DEADLINE).unwrap().to_ascii_lowercase();
    assert_eq!(head.matches("transfer-encoding: chunked\r\n").count(), 1, "{head}");
    assert!(head.contains("\r\nte: trailers\r\n") && !head.contains("content-length"), "{head}");
    assert!(!head.contains("6.6.6.6"), "{head}");
}

#[test]
fn an_event_stream_is_not_held_back() {
    let (go, wait) = mpsc::channel();
    let wait = std::sync::Mutex::new(wait);
    let upstream = hostile(move |_, mut wire| {
        wire.head();
        wire.send("HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n");
        for _ in 0..3 {
            wire.send("9\r\ndata: x\n\n\r\n");
            wait.lock().unwrap().recv_timeout(DEADLINE).unwrap(); // the client has seen it
        }
        wire.rest();
    });
    let front = secure(&everything_to(&[upstream.address()], ""));
    block_on(async {
        let mut client = front.client().await;
        let (answer, _) = client.send_request(asked("GET", "/").body(()).unwrap(), true).unwrap();
        let mut content = answer.await.unwrap().into_body();
        for _ in 0..3 {
            assert_eq!(content.data().await.unwrap().unwrap(), "data: x\n\n");
            go.send(()).unwrap();
        }
    });
}

/// What a browser does with `new WebSocket(…)` on a connection of HTTP/2 (RFC 8441): the upstream sees the switch of
/// HTTP/1.1 that it knows.
#[test]
fn f17_a_websocket_inside_http2_is_a_switch_to_the_upstream() {
    let upstream = upstream(|| {
        |request: engine::Request| async move {
            let head = &request.head;
            let key = head.field_str("sec-websocket-key").unwrap_or_default().len();
            let seen = format!("{} {} {} {key}", head.version(), head.method(), head.target());
            if head.path() == "/refused" {
                return engine::Response::text(engine::StatusCode::FORBIDDEN, seen);
            }
            let response = request.upgrade("websocket", async |mut stream| {
                let mut buffer = [0; 5];
                while stream.read_exact(&mut buffer).await.is_ok() {
                    buffer.make_ascii_uppercase();
                    stream.write_all(&buffer).await.unwrap();
                }
            });
            response.field("x-seen", seen).field("sec-websocket-accept", "x")
        }
    });
    let front = secure(&everything_to(&[address(&upstream)], ""));
    block_on(async {
        let mut sender = front.client().await;
        while !sender.is_extended_connect_protocol_enabled() {
            tokio::task::yield_now().await; // until the server's settings are here
        }
        let ask = |target: &str| {
            let asked = Asked::connect(format!("https://localhost{target}")).header("sec-websocket-version", "13");
            asked.extension(h2::ext::Protocol::from_static("websocket")).body(()).unwrap()
        };
        let (answer, mut stream) = sender.send_request(ask("/chat?a=b"), false).unwrap();
        let answer = answer.await.unwrap();
        assert_eq!(answer.status(), 200);
        assert_eq!(answer.headers()["x-seen"], "HTTP/1.1 GET /chat?a=b 24");
        for gone in ["sec-websocket-accept", "upgrade", "connection"] {
            assert!(!answer.headers().contains_key(gone), "{gone}");
        }
        let mut content = answer.into_body();
        for _ in 0..3 {
            stream.send_data(Bytes::from_static(b"hello"), false).unwrap();
            let data = content.data().await.unwrap().unwrap();
            content.flow_control().release_capacity(data.len()).unwrap();
            assert_eq!(data, "HELLO");
        }
        assert_eq!((front.proxy.snapshot().tunnels, front.proxy.snapshot().tunnels_open), (1, 1));
        stream.send_data(Bytes::new(), true).unwrap();
        while let Some(data) = content.data().await {
            assert!(data.expect("an end, not a reset").is_empty());
        }
        let (answer, _stream) = sender.send_request(ask("/refused"), false).unwrap();
        assert_eq!(answer.await.unwrap().status(), 403);
    });
    eventually("the tunnel is closed", || front.proxy.snapshot().tunnels_open == 0);
}

/// An upstream that says `hello` by another protocol, and then does as told.
fn greeting(then: impl Fn(&mut Wire) + Send + Sync + 'static) -> crate::harness::Hostile {
    hostile(move |_, mut wire| {
        if wire.try_head().is_some() {
            wire.send("HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\nhello");
            then(&mut wire);
        }
    })
}

/// Opens a tunnel, hears and says `hello`, does as told and says how the tunnel ended: `None` where it was no failure.
fn end_of_a_tunnel(front: &Secure, then: impl FnOnce()) -> Option<h2::Reason> {
    block_on(async {
        let mut sender = front.client().await;
        while !sender.is_extended_connect_protocol_enabled() {
            tokio::task::yield_now().await; // until the server's settings are here
        }
        let asked = Asked::connect("https://localhost/").header("sec-websocket-version", "13");
        let asked = asked.extension(h2::ext::Protocol::from_static("websocket")).body(()).unwrap();
        let (answer, mut stream) = sender.send_request(asked, false).unwrap();
        let mut content = answer.await.unwrap().into_body();
        assert_eq!(content.data().await.unwrap().unwrap(), "hello");
        stream.send_data(Bytes::from_static(b"hello"), false).unwrap();
        then();
        while let Some(data) = content.data().await {
            match data {
                Ok(data) => assert!(data.is_empty(), "{data:?}"),
                Err(error) => return Some(error.reason().expect("the stream is reset, not the connection")),
            }
        }
        None
    })
}

/// RFC 8441 §5: what a TCP connection would say by a reset, a stream says by one.
#[test]
fn a_tunnel_that_breaks_is_reset_and_one_that_ends_is_not() {
    for (linger, expect) in [(Some(Duration::ZERO), Some(h2::Reason::CANCEL)), (None, None)] {
        let upstream = greeting(move |wire| {
            assert_eq!(wire.exact(5), "hello");
            socket2::SockRef::from(wire.stream()).set_linger(linger).unwrap(); // for no time: it closes with a reset
        });
        let front = secure(&everything_to(&[upstream.address()], ""));
        assert_eq!(end_of_a_tunnel(&front, || {}), expect);
        eventually("the tunnel is closed", || front.proxy.snapshot().tunnels_open == 0);
    }
}

/// An operator who disables a server breaks off what is under way with it.
#[test]
fn a_tunnel_that_is_cut_is_reset() {
    let upstream = greeting(|wire| drop(wire.rest()));
    let address = upstream.address();
    let front = secure(&format!("upstream u {{ server {address}; }} host default {{ proxy_pass http://u; }}"));
    let ended = end_of_a_tunnel(&front, || front.proxy.order("u", address, proxy::State::Disabled).unwrap());
    assert_eq!(ended, Some(h2::Reason::CANCEL));
}

#[test]
fn an_upstream_that_breaks_off_never_looks_complete() {
    let upstream = answering("HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhello", true);
    let front = secure(&everything_to(&[upstream.address()], ""));
    block_on(async {
        let mut client = front.client().await;
        let (answer, _) = client.send_request(asked("GET", "/").body(()).unwrap(), true).unwrap();
        let mut content = match answer.await {
            Ok(answer) => answer.into_body(),
            Err(error) => return assert!(error.is_reset(), "{error}"),
        };
        let mut seen = Vec::new();
        while let Some(data) = content.data().await {
            match data {
                Ok(data) => seen.extend_from_slice(&data),
                Err(error) => return assert!(error.is_reset(), "{error}"),
            }
        }
        panic!("a clean end after {seen:?}");
    });
}

#[test]
fn whoever_is_gone_frees_the_upstream_over_tls_and_http2_as_well() {
    let (say, said) = mpsc::channel();
    let silent = hostile(move |_, mut wire| {
        if wire.try_head().is_some() {
            say.send("asked").unwrap();
            let _ = wire.rest();
            say.send("closed").unwrap();
        }
    });
    let front = secure(&everything_to(&[silent.address()], ""));
    let in_flight = || front.proxy.snapshot().upstreams[0].in_flight;
    let mut client = front.connect(b"http/1.1");
    client.write_all(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n").unwrap();
    assert_eq!(said.recv_timeout(DEADLINE), Ok("asked"));
    socket2::SockRef::from(&client.sock).set_linger(Some(Duration::ZERO)).unwrap();
    drop(client);
    eventually("the upstream is free", || in_flight() == 0);
    assert_eq!(said.recv_timeout(DEADLINE), Ok("closed"));
    block_on(async {
        let mut client = front.client().await;
        let (_answer, _) = client.send_request(asked("GET", "/").body(()).unwrap(), true).unwrap();
        while said.try_recv().is_err() {
            tokio::task::yield_now().await;
        }
        assert_eq!(in_flight(), 1);
    }); // and with it the client's connection ends
    eventually("the upstream is free", || in_flight() == 0);
    assert_eq!(said.recv_timeout(DEADLINE), Ok("closed"));
}

#[test]
fn http1_over_tls_reaches_the_same_place() {
    let mirror = mirror();
    let front = secure(&everything_to(&[address(&mirror)], ""));
    let mut stream = front.connect(b"http/1.1");
    stream.write_all(b"GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").unwrap();
    let mut all = String::new();
    stream.read_to_string(&mut all).unwrap();
    assert!(all.starts_with("HTTP/1.1 200 ") && all.contains("\nx-forwarded-proto: https\n"), "{all}");
}

/// What an upstream heard on one connection, until the proxy closed it or nothing more came for a moment.
fn listening() -> (SocketAddr, Receiver<Vec<u8>>) {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let (tell, told) = mpsc::channel();
    std::thread::spawn(move || {
        for mut stream in listener.incoming().map_while(Result::ok) {
            let tell = tell.clone();
            std::thread::spawn(move || {
                stream.set_read_timeout(Some(Duration::from_secs(1))).unwrap();
                let (mut heard, mut buffer) = (Vec::new(), [0; 4096]);
                while let Ok(count @ 1..) = stream.read(&mut buffer) {
                    heard.extend_from_slice(&buffer[..count]);
                    if heard.ends_with(b"\r\n\r\n") {
                        let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok");
                    }
                }
                let _ = tell.send(heard);
            });
        }
    });
    (address, told)
}

const DATA: u8 = 0;
const HEADERS: u8 = 1;
const SETTINGS: u8 = 4;
const END_STREAM: u8 = 1;
const END_HEADERS: u8 = 4;

/// A frame of HTTP/2 (RFC 9113 §4.1).
fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let mut bytes = u32::try_from(payload.len()).unwrap().to_be_bytes()[1..].to_vec();
    bytes.extend([kind, flags]);
    bytes.extend(stream.to_be_bytes());
    bytes.extend(payload);
    bytes
}

/// Fields that change no table of the compression (RFC 7541 §6.2.2).
fn fields(list: &[(&str, &str)]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for (name, value) in list {
        bytes.push(0);
        for part in [name, value] {
            assert!(part.len() < 127, "longer lengths need another form");
            bytes.push(u8::try_from(part.len()).unwrap());
            bytes.extend(part.as_bytes());
        }
    }
    bytes
}

/// Sends a head and content that a careful client would not send, then a good request on the same connection.
fn attack(front: &Secure, head: &[(&str, &str)], content: Option<&[u8]>) {
    let mut stream = front.connect(b"h2");
    stream.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").unwrap();
    let mut bytes = frame(SETTINGS, 0, 0, &[]);
    let end = if content.is_none() { END_STREAM } else { 0 };
    bytes.extend(frame(HEADERS, END_HEADERS | end, 1, &fields(head)));
    if let Some(content) = content {
        bytes.extend(frame(DATA, END_STREAM, 1, content));
    }
    let good = [(":method", "GET"), (":scheme", "https"), (":path", "/good"), (":authority", "localhost")];
    bytes.extend(frame(HEADERS, END_HEADERS | END_STREAM, 3, &fields(&good)));
    let _ = stream.write_all(&bytes); // the server may have closed
    stream.sock.set_read_timeout(Some(Duration::from_millis(300))).unwrap();
    let mut rest = Vec::new();
    let _ = stream.read_to_end(&mut rest);
}

/// Every byte an upstream hears is part of well-framed requests: as a strict server reads them.
fn check_heard(what: &str, heard: &[u8]) {
    let text = String::from_utf8_lossy(heard);
    let mut input = bytes::BytesMut::from(heard);
    let mut decoder = http1::RequestDecoder::new(http1::Limits::default());
    loop {
        match decoder.poll(&mut input) {
            Ok(Some(http1::Event::Head(request))) => {
                assert!(["/good", "/bad"].contains(&request.path()), "{what}: smuggled: {text}");
                assert!(request.field("x-smuggled").is_none(), "{what}: a smuggled field: {text}");
            }
            Ok(Some(_)) => {}
            Ok(None) => break,
            Err(error) => panic!("{what}: {error}: {text}"),
        }
    }
    assert!(input.is_empty(), "{what}: bytes behind the last request: {text}");
}

/// What it is, the fields, and the content.
type Hostile<'a> = (&'a str, Vec<(&'a str, &'a str)>, Option<&'a [u8]>);

#[test]
fn a_hostile_client_reaches_no_upstream_with_anything_but_one_well_framed_request() {
    const SMUGGLED: &[u8] = b"GET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n";
    const HEAD: [(&str, &str); 4] =
        [(":method", "POST"), (":scheme", "https"), (":path", "/bad"), (":authority", "localhost")];
    let with = |more: &[(&'static str, &'static str)]| [&HEAD[..], more].concat();
    let instead = |name: &str, value: &'static str| {
        HEAD.iter().map(|(known, old)| (*known, if *known == name { value } else { *old })).collect::<Vec<_>>()
    };
    let cases: Vec<Hostile<'_>> = vec![
        ("less content than declared", with(&[("content-length", "50")]), Some(b"abc")),
        ("more content than declared", with(&[("content-length", "1")]), Some(SMUGGLED)),
        ("content where none is declared", with(&[("content-length", "0")]), Some(SMUGGLED)),
        ("two lengths", with(&[("content-length", "3"), ("content-length", "40")]), Some(b"abc")),
        ("a list of lengths", with(&[("content-length", "3, 40")]), Some(b"abc")),
        ("a signed length", with(&[("content-length", "+3")]), Some(b"abc")),
        ("chunks", with(&[("transfer-encoding", "chunked")]), Some(b"0\r\n\r\nGET /smuggled HTTP/1.1\r\n\r\n")),
        ("chunks and a length", with(&[("content-length", "3"), ("transfer-encoding", "chunked")]), Some(b"abc")),
        ("a connection field", with(&[("connection", "upgrade"), ("upgrade", "websocket")]), None),
        ("a line end in a value", with(&[("x-a", "b\r\nx-smuggled: 1")]), None),
        ("a head's end in a value", with(&[("x-a", "b\r\n\r\nGET /smuggled HTTP/1.1\r\nHost: a")]), None),
        ("a bare LF in a value", with(&[("x-a", "b\nx-smuggled: 1")]), None),
        ("a NUL in a value", with(&[("x-a", "b\0")]), None),
        ("a line end in a name", with(&[("x-a: b\r\nx-smuggled", "1")]), None),
        ("a colon in a name", with(&[("x-smuggled:", "1")]), None),
        ("a space in a name", with(&[("x-smuggled ", "1")]), None),
        ("an empty name", with(&[("", "1")]), None),
        ("a capital in a name", with(&[("X-A", "1")]), None),
        ("a path with a version", instead(":path", "/smuggled HTTP/1.1\r\nHost: a\r\n\r\n"), None),
        ("a path with a space", instead(":path", "/smuggled HTTP/1.1"), None),
        ("an empty path", instead(":path", ""), None),
        ("a path without a slash", instead(":path", "smuggled"), None),
        ("a method with a request", instead(":method", "GET /smuggled HTTP/1.1\r\nx-a:"), None),
        ("an authority with a line end", instead(":authority", "localhost\r\nx-smuggled: 1"), None),
        ("two authorities", instead(":authority", "localhost, evil"), None),
        ("a user", instead(":authority", "user@localhost"), None),
        ("a scheme with a request", instead(":scheme", "https\r\nx-smuggled: 1"), None),
        ("another Host", with(&[("host", "evil")]), None),
        ("two paths", with(&[(":path", "/smuggled")]), None),
        ("a pseudo-header behind fields", [&[("x-a", "b")], &HEAD[..]].concat(), None),
        ("an unknown pseudo-header", with(&[(":smuggled", "1")]), None),
        ("a cookie with a line end", with(&[("cookie", "a=1"), ("cookie", "b=2\r\nx-smuggled: 1")]), None),
        ("an expectation of another kind", with(&[("expect", "x\r\nx-smuggled: 1")]), None),
    ];
    let (upstream, told) = listening();
    let front = secure(&everything_to(&[upstream], ""));
    for (what, head, content) in &cases {
        attack(&front, head, *content);
        // Connections that the proxy keeps are read until they are quiet.
        while let Ok(heard) = told.recv_timeout(Duration::from_millis(10)) {
            check_heard(what, &heard);
        }
    }
    drop(front);
    let mut count = 0;
    while let Ok(heard) = told.recv_timeout(Duration::from_millis(1500)) {
        check_heard("at the end", &heard);
        count += 1;
    }
    assert!(count > 0, "the good requests arrive");
}

#[test]
fn hints_reach_a_client_of_http_2_before_the_answer() {
    let (go_on, told) = mpsc::channel::<()>();
    let told = std::sync::Mutex::new(told);
    let upstream = hostile(move |_, mut wire| {
        if wire.try_head().is_some() {
            wire.send("HTTP/1.1 103 Early Hints\r\nLink: </a.css>\r\n\r\n");
            let _ = told.lock().unwrap().recv_timeout(DEADLINE);
            wire.send("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nfinal");
        }
    });
    let front = secure(&everything_to(&[upstream.address()], "early_hints http2;"));
    block_on(async {
        let mut client = front.client().await;
        let (mut answer, _) = client.send_request(asked("GET", "/").body(()).unwrap(), true).unwrap();
        let hint = std::future::poll_fn(|cx| answer.poll_informational(cx)).await.unwrap().unwrap();
        assert_eq!((hint.status().as_u16(), hint.headers().get("link").unwrap().as_bytes()), (103, &b"</a.css>"[..]));
        go_on.send(()).unwrap();
        assert_eq!(text(answer.await.unwrap().into_body()).await.0, "final");
    });
}

#[test]
fn messages_go_both_ways_at_once_and_the_verdict_comes_behind_them() {
    let upstream = crate::upstream_h2::answering_h2(|request, mut respond| async move {
        assert_eq!(request.headers().get("te").unwrap(), "trailers");
        assert_eq!(request.headers().get("content-type").unwrap(), "application/grpc");
        let mut content = request.into_body();
        let mut head = http::Response::new(());
        head.headers_mut().insert("content-type", http::HeaderValue::from_static("application/grpc"));
        let mut stream = respond.send_response(head, false).unwrap();
        while let Some(message) = content.data().await {
            let message = message.unwrap();
            content.flow_control().release_capacity(message.len()).unwrap();
            stream.send_data(message, false).unwrap();
        }
        let mut verdict = HeaderMap::new();
        verdict.insert("grpc-status", http::HeaderValue::from_static("0"));
        stream.send_trailers(verdict).unwrap();
    });
    let front = secure(&format!("host default {{ proxy_pass h2://{}; compression on; }}", upstream.address));
    block_on(async {
        let mut client = front.client().await;
        let request = asked("POST", "/echo").header("te", "trailers").header("content-type", "application/grpc");
        let (answer, mut messages) = client.send_request(request.body(()).unwrap(), false).unwrap();
        let mut echoed = answer.await.unwrap().into_body();
        for number in 0..5 {
            let message = Bytes::from(format!("message {number}"));
            messages.send_data(message.clone(), false).unwrap();
            assert_eq!(echoed.data().await.unwrap().unwrap(), message, "before the next one is sent");
        }
        messages.send_data(Bytes::new(), true).unwrap();
        let (rest, verdict) = text(echoed).await;
        assert_eq!((rest.as_str(), verdict.unwrap().get("grpc-status").unwrap().as_bytes()), ("", &b"0"[..]));
    });
}

#[test]
fn the_streams_of_one_connection_are_one_clients_and_those_it_gives_up_make_room() {
    let held = hostile(|_, mut wire| {
        if wire.try_head().is_some_and(|head| head.starts_with("GET /begun")) {
            wire.send("HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nsome");
        }
        wire.rest(); // until nobody waits for the others any more
    });
    let front = secure(&format!(
        "trusted_proxy 127.0.0.1; client_requests_max 3;\n\
         host default {{ proxy_pass http://{}; location = /free {{ respond 200 free; }} }}",
        held.address()
    ));
    block_on(async {
        let mut client = front.client().await;
        let mut ask = |target: &str| {
            let request = asked("GET", target).header("x-forwarded-for", "198.51.100.7").body(()).unwrap();
            client.send_request(request, true).unwrap().0
        };
        let begun = ask("/begun").await.unwrap();
        assert_eq!(begun.status(), 200);
        let stalled = [ask("/stalled"), ask("/stalled")];
        for _ in 0..20 {
            let refused = ask("/begun").await.unwrap();
            assert_eq!((refused.status().as_u16(), refused.headers()["retry-after"].as_bytes()), (429, &b"1"[..]));
        }
        drop(stalled);
        while ask("/free").await.unwrap().status() != 200 {} // a stream that ends before its answer begins
        let more = [ask("/stalled"), ask("/stalled")];
        while ask("/free").await.unwrap().status() != 429 {}
        drop(begun);
        while ask("/free").await.unwrap().status() != 200 {} // one in the middle of its answer
        drop(more);
    });
}
