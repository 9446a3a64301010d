//! HTTP/2 behind the same service as HTTP/1.1.

use crate::support::{GRACE, block_on, length_of, settings, target_of};
use crate::tls_support::{
    Authority, DATA, END_HEADERS, END_STREAM, FrameClient, GOAWAY, HEADERS, RST_STREAM, SETTINGS, WINDOW_UPDATE, field,
    head, serve_tls, serve_with,
};
use bytes::Bytes;
use engine::{Body, BodySender, Fields, Request, Response, Running, Settings, StatusCode, Tls, TlsSettings};
use h2::client::SendRequest;
use h2::{Reason, RecvStream};
use http::{HeaderMap, Method, Request as Asked};
use rustls::pki_types::ServerName;
use std::future::{pending, poll_fn, ready};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, mpsc};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

const SHORT: Duration = Duration::from_millis(200);
/// The deadline for heads holds for the handshake too, which takes a busy machine a while.
const HANDSHAKE: Duration = Duration::from_secs(1);

/// A client of the `h2` crate; its connection runs beside it.
pub(crate) async fn client(server: &Running, authority: &Authority) -> SendRequest<Bytes> {
    client_of(server, authority, "localhost").await
}

async fn client_of(server: &Running, authority: &Authority, name: &str) -> SendRequest<Bytes> {
    let connector = TlsConnector::from(authority.client().with_alpn(&[b"h2", b"http/1.1"]).config());
    let socket = TcpStream::connect(server.local_addrs()[0]).await.unwrap();
    let stream = connector.connect(ServerName::try_from(name.to_owned()).unwrap(), socket).await.unwrap();
    assert_eq!(stream.get_ref().1.alpn_protocol(), Some(&b"h2"[..]));
    let (sender, connection) = h2::client::handshake(stream).await.unwrap();
    tokio::spawn(async move {
        let _ = connection.await; // tests look at what their streams say
    });
    sender.ready().await.unwrap()
}

pub(crate) fn ask(method: Method, target: &str) -> http::request::Builder {
    Asked::builder().method(method).uri(format!("https://localhost{target}"))
}

/// Sends a request with this content and gives the answer.
async fn send(
    sender: &mut SendRequest<Bytes>,
    asked: http::request::Builder,
    content: &[&'static str],
) -> Result<http::Response<RecvStream>, h2::Error> {
    let (answer, mut stream) = sender.send_request(asked.body(()).unwrap(), content.is_empty())?;
    for (number, piece) in content.iter().enumerate() {
        stream.send_data(Bytes::from_static(piece.as_bytes()), number + 1 == content.len())?;
    }
    answer.await
}

async fn read(mut stream: RecvStream) -> Result<(Vec<u8>, Option<HeaderMap>), h2::Error> {
    let mut all = Vec::new();
    while let Some(data) = stream.data().await {
        let data = data?;
        stream.flow_control().release_capacity(data.len())?;
        all.extend_from_slice(&data);
    }
    Ok((all, stream.trailers().await?))
}

pub(crate) async fn text(answer: http::Response<RecvStream>) -> (u16, String) {
    let status = answer.status().as_u16();
    (status, String::from_utf8(read(answer.into_body()).await.unwrap().0).unwrap())
}

#[test]
fn a_request_is_what_it_would_be_over_http1() {
    let (server, authority) = serve_tls(settings(), || {
        |request: Request| {
            let head = &request.head;
            let cookies: Vec<_> = head.fields_named("cookie").map(String::from_utf8_lossy).collect();
            let alpn = request.peer().tls.as_ref().and_then(|tls| tls.alpn.clone()).unwrap();
            ready(Response::text(
                StatusCode::OK,
                format!(
                    "{} {} {} {:?} {} {cookies:?} {}",
                    head.version(),
                    head.method(),
                    head.path(),
                    head.query(),
                    head.host(),
                    String::from_utf8_lossy(&alpn)
                ),
            ))
        }
    });
    block_on(async {
        let mut sender = client(&server, &authority).await;
        let asked = ask(Method::GET, "/a%20b?c=d").header("cookie", "a=1").header("cookie", "b=2");
        let answer = send(&mut sender, asked, &[]).await.unwrap();
        assert_eq!(answer.headers()["content-type"], "text/plain; charset=utf-8");
        assert!(answer.headers().contains_key("date"));
        let expect = r#"HTTP/2.0 GET /a%20b Some("c=d") localhost ["a=1; b=2"] h2"#;
        assert_eq!(answer.headers()["content-length"], expect.len().to_string());
        assert_eq!(text(answer).await, (200, expect.to_owned()));
    });
}

#[test]
fn content_is_streamed_both_ways_by_flow_control() {
    const CHUNKS: usize = 64;
    let (server, authority) = serve_tls(Settings { body_bytes_max: 64 << 20, ..settings() }, || {
        |request: Request| {
            let (sender, body) = Body::channel();
            let mut content = request.body;
            tokio::task::spawn_local(async move {
                while let Some(Ok(chunk)) = content.chunk().await {
                    if sender.send(chunk).await.is_err() {
                        return;
                    }
                }
            });
            ready(Response::new(StatusCode::OK).with_body(body))
        }
    });
    block_on(async {
        let mut sender = client(&server, &authority).await;
        let (answer, mut stream) = sender.send_request(ask(Method::POST, "/").body(()).unwrap(), false).unwrap();
        let chunk = Bytes::from(vec![b'x'; 64 * 1024]);
        let upload = async {
            for _ in 0..CHUNKS {
                let mut chunk = chunk.clone();
                while !chunk.is_empty() {
                    stream.reserve_capacity(chunk.len());
                    let room = poll_fn(|cx| stream.poll_capacity(cx)).await.unwrap().unwrap();
                    stream.send_data(chunk.split_to(room.min(chunk.len())), false).unwrap();
                }
            }
            stream.send_data(Bytes::new(), true).unwrap();
        };
        let download = async {
            let answer = answer.await.unwrap();
            assert!(!answer.headers().contains_key("content-length"), "the length is not known");
            read(answer.into_body()).await.unwrap().0.len()
        };
        let ((), length) = tokio::join!(upload, download);
        assert_eq!(length, CHUNKS * 64 * 1024);
    });
}

#[test]
fn a_reader_that_pauses_holds_the_sender_up() {
    let (reports, sent) = mpsc::channel();
    let (server, authority) = serve_tls(settings(), move || {
        let reports = reports.clone();
        move |_: Request| {
            let reports = reports.clone();
            let (sender, body) = Body::channel();
            tokio::task::spawn_local(async move {
                let chunk = Bytes::from(vec![b'x'; 64 * 1024]);
                while sender.send(chunk.clone()).await.is_ok() {
                    reports.send(chunk.len()).unwrap();
                }
            });
            ready(Response::new(StatusCode::OK).with_body(body))
        }
    });
    block_on(async {
        let mut sender = client(&server, &authority).await;
        let answer = send(&mut sender, ask(Method::GET, "/"), &[]).await.unwrap();
        let mut body = answer.into_body();
        let first = body.data().await.unwrap().unwrap();
        assert!(!first.is_empty());
        // The client's window is 64 KiB; beside it there are the channel and the buffers of this connection.
        tokio::time::sleep(Duration::from_millis(300)).await;
        let total: usize = sent.try_iter().sum();
        assert!(total < 2 << 20, "{total} bytes were produced for a client that took {}", first.len());
    });
}

#[test]
fn trailers_go_both_ways() {
    struct WithTrailers(Option<Bytes>, Option<Fields>);
    impl engine::Source for WithTrailers {
        fn poll_chunk(
            &mut self,
            _: &mut std::task::Context<'_>,
        ) -> std::task::Poll<Option<Result<Bytes, engine::BodyError>>> {
            std::task::Poll::Ready(self.0.take().map(Ok))
        }
        fn trailers(&mut self) -> Option<Fields> {
            self.1.take()
        }
    }
    let (server, authority) = serve_tls(settings(), || {
        |mut request: Request| async move {
            let mut length = 0;
            while let Some(chunk) = request.body.chunk().await {
                length += chunk.unwrap().len();
            }
            let received = request.body.trailers().unwrap_or_default();
            assert!(received.get("content-length").is_none(), "never a field of framing");
            let mut fields = Fields::new();
            fields.append("x-sum", received.get("x-sum").unwrap_or(b"-")).unwrap();
            let source = WithTrailers(Some(Bytes::from(length.to_string())), Some(fields));
            Response::new(StatusCode::OK).with_body(Body::from_source(source))
        }
    });
    block_on(async {
        let mut sender = client(&server, &authority).await;
        let asked = ask(Method::POST, "/").header("te", "trailers").body(()).unwrap();
        let (answer, mut stream) = sender.send_request(asked, false).unwrap();
        stream.send_data(Bytes::from_static(b"content"), false).unwrap();
        let mut trailers = HeaderMap::new();
        trailers.insert("x-sum", "42".parse().unwrap());
        stream.send_trailers(trailers).unwrap();
        let (content, trailers) = read(answer.await.unwrap().into_body()).await.unwrap();
        assert_eq!((&content[..], &trailers.unwrap()["x-sum"]), (&b"7"[..], &"42".parse().unwrap()));
    });
}

#[test]
fn head_has_the_length_and_no_content() {
    let (server, authority) = serve_tls(settings(), || |request: Request| ready(target_of(&request)));
    block_on(async {
        let mut sender = client(&server, &authority).await;
        let answer = send(&mut sender, ask(Method::HEAD, "/x"), &[]).await.unwrap();
        assert_eq!(answer.headers()["content-length"], "7");
        assert_eq!(text(answer).await, (200, String::new()));
    });
}

#[test]
fn fields_of_a_connection_do_not_leave() {
    let (server, authority) = serve_tls(settings(), || {
        |_: Request| {
            let response = Response::text(StatusCode::OK, "x");
            ready(
                response
                    .field("connection", "close, x-a")
                    .field("keep-alive", "5")
                    .field("upgrade", "x")
                    .field("x-b", "1"),
            )
        }
    });
    block_on(async {
        let mut sender = client(&server, &authority).await;
        let answer = send(&mut sender, ask(Method::GET, "/"), &[]).await.unwrap();
        for name in ["connection", "keep-alive", "upgrade", "transfer-encoding"] {
            assert!(!answer.headers().contains_key(name), "{name}");
        }
        assert_eq!(answer.headers()["x-b"], "1");
        assert_eq!(text(answer).await.1, "x");
    });
}

#[test]
fn methods_no_service_gets_to_see_are_refused() {
    let (server, authority) = serve_tls(settings(), || |request: Request| ready(target_of(&request)));
    block_on(async {
        let mut sender = client(&server, &authority).await;
        let connect = Asked::builder().method(Method::CONNECT).uri("localhost:80");
        assert_eq!(send(&mut sender, connect, &[]).await.unwrap().status(), 501);
        let trace = send(&mut sender, ask(Method::TRACE, "/"), &[]).await.unwrap();
        assert_eq!(trace.status(), 405);
        assert!(trace.headers().contains_key("allow"));
        let unknown = ask(Method::from_bytes(b"BREW").unwrap(), "/");
        assert_eq!(send(&mut sender, unknown, &[]).await.unwrap().status(), 501);
        let answer = send(&mut sender, ask(Method::GET, "/still"), &[]).await.unwrap();
        assert_eq!(text(answer).await.1, "GET /still");
    });
}

#[test]
fn a_host_that_is_not_the_server_name_is_421() {
    let folder = tempfile::tempdir().unwrap();
    let authority = Authority::new();
    let files = [
        authority.write(folder.path(), "one", &["one.test", "alias.test"]),
        authority.write(folder.path(), "two", &["two.test"]),
    ];
    let tls = Tls::new(TlsSettings::many(files.to_vec())).unwrap();
    let server = serve_with(settings(), &tls, || |request: Request| ready(target_of(&request)));
    block_on(async {
        let mut sender = client_of(&server, &authority, "one.test").await;
        for (host, expect) in [("one.test", 200), ("alias.test", 200), ("two.test", 421), ("other.test", 421)] {
            let asked = Asked::builder().uri(format!("https://{host}/"));
            assert_eq!(send(&mut sender, asked, &[]).await.unwrap().status(), expect, "{host}");
        }
    });
}

#[test]
fn heads_keep_to_the_limits_of_http1() {
    let (server, authority) = serve_tls(settings(), || |request: Request| ready(target_of(&request)));
    block_on(async {
        let mut sender = client(&server, &authority).await;
        let long = "/".to_owned() + &"a".repeat(9_000);
        assert_eq!(send(&mut sender, ask(Method::GET, &long), &[]).await.unwrap().status(), 414);
        let many = (0..101).fold(ask(Method::GET, "/"), |asked, number| asked.header(format!("x-{number}"), "y"));
        assert_eq!(send(&mut sender, many, &[]).await.unwrap().status(), 431);
        let twice = ask(Method::GET, "/").header("host", "other");
        assert_eq!(send(&mut sender, twice, &[]).await.unwrap().status(), 400);
        // Beyond the announced size of a head `h2` answers 431 itself.
        let huge = ask(Method::GET, "/").header("x", "y".repeat(40_000));
        assert_eq!(send(&mut sender, huge, &[]).await.unwrap().status(), 431);
        assert_eq!(send(&mut sender, ask(Method::GET, "/"), &[]).await.unwrap().status(), 200);
    });
}

#[test]
fn malformed_heads_reach_no_service() {
    let (server, authority) = serve_tls(settings(), || |_: Request| async { unreachable!("malformed") });
    let check = |fields: &[(&str, &str)], what: &str| {
        let mut frames = FrameClient::connect(&server, &authority);
        frames.send(HEADERS, END_STREAM | END_HEADERS, 1, &head("GET", fields));
        loop {
            match frames.read() {
                Some(frame) if frame.kind == RST_STREAM => break,
                Some(frame) if frame.kind == HEADERS => {
                    assert_eq!(frame.payload[0], 0x8c, "{what}: the status is 400 by its place in the static table");
                    break;
                }
                Some(frame) if frame.kind == GOAWAY => break,
                Some(_) => {}
                None => panic!("{what}: closed without a word"),
            }
        }
    };
    check(&[("connection", "close")], "a field of the connection");
    check(&[("transfer-encoding", "chunked")], "a field of framing");
    check(&[("te", "gzip")], "TE other than trailers");
    check(&[("X-Upper", "x")], "a name in upper case");
    check(&[("x", "a\r\nb: c")], "a line break");
    check(&[("x", "a\0b")], "NUL");
    check(&[("x", " a")], "white space before a value");
    check(&[("x", "a ")], "white space behind a value");
    check(&[("x", "a\t")], "a tab behind a value");
    check(&[("x", "a\rb")], "CR alone");
    check(&[("x", "a\nb")], "LF alone");
    check(&[("", "a")], "an empty name");
    check(&[("x:y", "a")], "a colon in a name");
    check(&[("x\r\ny", "a")], "a line break in a name");
    check(&[(":unknown", "a")], "a pseudo-field nobody knows");
    check(&[("host", "other")], "another host than the authority");
    check(&[("proxy-connection", "close")], "another field of the connection");
    check(&[("keep-alive", "1")], "and another");
    check(&[("upgrade", "websocket")], "and another");
    check(&[("content-length", "+0")], "a length with a sign");
    check(&[("content-length", "0, 0")], "a list of lengths");
    check(&[("x y", "a")], "a space in a name");
    check(&[("content-length", "5")], "content that does not come");
    check(&[("content-length", "5"), ("content-length", "6")], "two lengths");
    check(&[(":path", "/twice")], "a pseudo-field after others");
}

#[test]
fn malformed_targets_reach_no_service() {
    let (server, authority) = serve_tls(settings(), || |_: Request| async { unreachable!("malformed") });
    let crafted = |path: &str, authority: &str| -> Vec<u8> {
        [(":method", "GET"), (":scheme", "https"), (":path", path), (":authority", authority)]
            .iter()
            .flat_map(|(name, value)| field(name, value))
            .collect()
    };
    for (path, host) in [
        ("/a b", "localhost"),
        ("/a\r\nb", "localhost"),
        ("/a\tb", "localhost"),
        ("", "localhost"),
        ("a", "localhost"),
        ("http://localhost/", "localhost"),
        ("//x", "localhost"),
        ("/", "a,b"),
        ("/", "u@localhost"),
        ("/", "localhost/"),
        ("/", "local host"),
        ("/", "localhost\r\nx: y"),
        ("/", "localhost:x"),
        ("/", ""),
    ] {
        let mut frames = FrameClient::connect(&server, &authority);
        frames.send(HEADERS, END_STREAM | END_HEADERS, 1, &crafted(path, host));
        let frame =
            std::iter::from_fn(|| frames.read()).find(|frame| [HEADERS, RST_STREAM, GOAWAY].contains(&frame.kind));
        let frame = frame.expect("an answer");
        assert!(frame.kind != HEADERS || frame.payload[0] == 0x8c, "{path:?} {host:?}: {frame:?}");
    }
}

#[test]
fn content_keeps_to_its_declared_length() {
    let (server, authority) = serve_tls(settings(), || |request: Request| length_of(request));
    for content in ["1234", "123456"] {
        let mut frames = FrameClient::connect(&server, &authority);
        frames.send(HEADERS, END_HEADERS, 1, &head("POST", &[("content-length", "5")]));
        frames.send(DATA, END_STREAM, 1, content.as_bytes());
        frames.read_until(RST_STREAM, 1);
    }
}

#[test]
fn content_beyond_the_limit_is_413() {
    let (server, authority) = serve_tls(Settings { body_bytes_max: 10, ..settings() }, || {
        |mut request: Request| async move {
            if request.head.path() == "/raised" {
                request.body.set_limit(20);
            }
            length_of(request).await
        }
    });
    block_on(async {
        let mut sender = client(&server, &authority).await;
        let declared = ask(Method::POST, "/").header("content-length", "11");
        assert_eq!(send(&mut sender, declared, &["01234567890"]).await.unwrap().status(), 413);
        let counted = send(&mut sender, ask(Method::POST, "/"), &["012345", "67890"]).await.unwrap();
        assert_eq!(counted.status(), 413);
        let raised = send(&mut sender, ask(Method::POST, "/raised"), &["012345", "67890"]).await.unwrap();
        assert_eq!(text(raised).await, (200, "11".to_owned()));
    });
}

#[test]
fn content_that_does_not_go_on_is_timed_out() {
    let short = Settings { body_idle_timeout: SHORT, ..settings() };
    let (server, authority) = serve_tls(short, || |request: Request| length_of(request));
    block_on(async {
        let mut sender = client(&server, &authority).await;
        let (answer, mut stream) = sender.send_request(ask(Method::POST, "/").body(()).unwrap(), false).unwrap();
        stream.send_data(Bytes::from_static(b"he"), false).unwrap();
        assert_eq!(answer.await.unwrap().status(), 408);
    });
}

/// Slower than a megabyte a second is too slow, and an idle time is never reached.
fn hasty() -> Settings {
    let (rate_min, never) = (1_000_000, Duration::from_mins(1));
    Settings { rate_min, rate_grace: SHORT, body_idle_timeout: never, write_idle_timeout: never, ..settings() }
}

#[test]
fn content_that_trickles_is_timed_out() {
    let (server, authority) = serve_tls(hasty(), || |request: Request| length_of(request));
    block_on(async {
        let mut sender = client(&server, &authority).await;
        let (mut answer, mut stream) = sender.send_request(ask(Method::POST, "/").body(()).unwrap(), false).unwrap();
        let mut drops = tokio::time::interval(Duration::from_millis(20)); // the attack itself
        let answer = loop {
            tokio::select! {
                answer = &mut answer => break answer.unwrap(),
                _ = drops.tick() => drop(stream.send_data(Bytes::from_static(b"x"), false)),
            }
        };
        assert_eq!(answer.status(), 408);
    });
}

#[test]
fn an_answer_taken_in_drops_is_given_up() {
    let (server, authority) =
        serve_tls(hasty(), || |_: Request| ready(Response::new(StatusCode::OK).with_body(vec![b'x'; 1 << 20])));
    let mut frames = FrameClient::connect(&server, &authority);
    frames.send(HEADERS, END_STREAM | END_HEADERS, 1, &head("GET", &[]));
    let mut taken = 0;
    while taken < 0xffff {
        taken += frames.read_until(DATA, 1).payload.len(); // the first window
    }
    let started = Instant::now();
    let reset = loop {
        assert!(started.elapsed() < Duration::from_secs(8), "drops keep the stream open");
        std::thread::sleep(Duration::from_millis(20)); // the attack itself, not a wait for the server
        for stream in [0, 1] {
            frames.send(WINDOW_UPDATE, 0, stream, &1_u32.to_be_bytes());
        }
        match frames.read().expect("the connection stays open") {
            frame if frame.kind == RST_STREAM => break frame,
            frame => assert_eq!((frame.kind, frame.payload.len()), (DATA, 1)),
        }
    };
    assert_eq!(reset.payload, 11_u32.to_be_bytes(), "ENHANCE_YOUR_CALM");
}

/// Content without end that counts what is taken of it, and tells when it is dropped.
struct Endless {
    taken: Arc<AtomicUsize>,
    _told: Told,
}

impl engine::Source for Endless {
    fn poll_chunk(&mut self, _: &mut Context<'_>) -> Poll<Option<Result<Bytes, engine::BodyError>>> {
        const CHUNK: Bytes = Bytes::from_static(&[b'x'; 16 * 1024]);
        self.taken.fetch_add(CHUNK.len(), Ordering::Relaxed);
        Poll::Ready(Some(Ok(CHUNK)))
    }
}

/// Endless windows and a socket that nobody reads: what waits for it then is bounded per stream.
#[test]
fn answers_that_wait_for_the_socket_are_bounded() {
    const STREAMS: u32 = 64;
    /// Of a stream: what `h2` buffers, and the chunk in hand.
    const PER_STREAM: usize = (32 + 16) * 1024;
    /// The kernel's buffers on both sides, far beyond what they are by default.
    const OF_SOCKETS: usize = 12 << 20;
    let (tell, told) = mpsc::channel();
    let taken = Arc::new(AtomicUsize::new(0));
    let counter = taken.clone();
    let impatient = Settings { write_idle_timeout: HANDSHAKE, ..settings() };
    let (server, authority) = serve_tls(impatient, move || {
        let (tell, taken) = (tell.clone(), counter.clone());
        move |_: Request| {
            let endless = Endless { taken: taken.clone(), _told: Told(tell.clone()) };
            ready(Response::new(StatusCode::OK).with_body(Body::from_source(endless)))
        }
    });
    let mut frames = FrameClient::connect(&server, &authority);
    let endless = 0x7fff_ffff_u32.to_be_bytes();
    frames.send(SETTINGS, 0, 0, &[&[0, 4], &endless[..]].concat()); // SETTINGS_INITIAL_WINDOW_SIZE
    frames.send(WINDOW_UPDATE, 0, 0, &(0x7fff_ffff_u32 - 0xffff).to_be_bytes());
    for number in 0..STREAMS {
        frames.send(HEADERS, END_STREAM | END_HEADERS, 2 * number + 1, &head("GET", &[]));
    }
    for _ in 0..STREAMS {
        assert_eq!(told.recv_timeout(Duration::from_secs(15)), Ok("dropped"));
    }
    let taken = taken.load(Ordering::Relaxed);
    assert!(taken > STREAMS as usize * 16 * 1024, "only {taken} bytes: not every stream began");
    assert!(taken < STREAMS as usize * PER_STREAM + OF_SOCKETS, "{taken} bytes for a client that takes nothing");
}

#[test]
fn an_answer_nobody_takes_is_given_up() {
    let (server, authority) = serve_tls(Settings { write_idle_timeout: SHORT, ..settings() }, || {
        |_: Request| ready(Response::new(StatusCode::OK).with_body(vec![b'x'; 1 << 20]))
    });
    let mut frames = FrameClient::connect(&server, &authority);
    frames.send(HEADERS, END_STREAM | END_HEADERS, 1, &head("GET", &[]));
    // The window of 64 KiB is never opened again.
    let reset = frames.read_until(RST_STREAM, 1);
    assert_eq!(reset.payload, 11_u32.to_be_bytes(), "ENHANCE_YOUR_CALM");
}

#[test]
fn continue_is_sent_when_the_content_is_wanted() {
    let (server, authority) = serve_tls(settings(), || {
        |request: Request| async move {
            if request.head.path() == "/" {
                return length_of(request).await;
            }
            Response::new(StatusCode::FORBIDDEN)
        }
    });
    let mut frames = FrameClient::connect(&server, &authority);
    frames.send(HEADERS, END_HEADERS, 1, &head("POST", &[("expect", "100-continue")]));
    let interim = frames.read_until(HEADERS, 1);
    assert_eq!(interim.flags & END_STREAM, 0);
    assert!(interim.payload.windows(3).any(|bytes| bytes == b"100") || interim.payload.len() < 8, "{interim:?}");
    frames.send(DATA, END_STREAM, 1, b"hello");
    assert_eq!(frames.read_until(DATA, 1).payload, b"5");
}

#[test]
fn a_panic_ends_one_stream() {
    let (server, authority) = serve_tls(settings(), || {
        |request: Request| async move {
            match request.head.path() {
                "/panic" => panic!("on purpose"),
                "/content" => {
                    let (sender, body) = Body::sized_channel(10);
                    tokio::task::spawn_local(async move { sender.send("short").await });
                    Response::new(StatusCode::OK).with_body(body)
                }
                _ => target_of(&request),
            }
        }
    });
    block_on(async {
        let mut sender = client(&server, &authority).await;
        assert_eq!(send(&mut sender, ask(Method::GET, "/panic"), &[]).await.unwrap().status(), 500);
        let broken = send(&mut sender, ask(Method::GET, "/content"), &[]).await.unwrap();
        let error = read(broken.into_body()).await.unwrap_err();
        assert_eq!(error.reason(), Some(Reason::INTERNAL_ERROR), "no clean end of content that is not complete");
        let answer = send(&mut sender, ask(Method::GET, "/fine"), &[]).await.unwrap();
        assert_eq!(text(answer).await.1, "GET /fine");
    });
}

/// Tells when it is dropped.
struct Told(mpsc::Sender<&'static str>);

impl Drop for Told {
    fn drop(&mut self) {
        let _ = self.0.send("dropped");
    }
}

fn serve_pending(settings: Settings) -> (Running, Authority, mpsc::Receiver<&'static str>) {
    let (tell, told) = mpsc::channel();
    let (server, authority) = serve_tls(settings, move || {
        let tell = tell.clone();
        move |_: Request| {
            let told = Told(tell.clone());
            tell.send("called").unwrap();
            async move {
                let _told = told;
                pending::<Response>().await
            }
        }
    });
    (server, authority, told)
}

#[test]
fn a_reset_drops_the_service_s_future() {
    let (server, authority, told) = serve_pending(settings());
    let mut frames = FrameClient::connect(&server, &authority);
    frames.send(HEADERS, END_STREAM | END_HEADERS, 1, &head("GET", &[]));
    assert_eq!(told.recv_timeout(Duration::from_secs(10)), Ok("called"));
    frames.send(RST_STREAM, 0, 1, &8_u32.to_be_bytes());
    assert_eq!(told.recv_timeout(Duration::from_secs(10)), Ok("dropped"));
}

#[test]
fn a_closed_connection_drops_the_services_futures() {
    let (server, authority, told) = serve_pending(settings());
    let mut frames = FrameClient::connect(&server, &authority);
    for stream in [1, 3] {
        frames.send(HEADERS, END_STREAM | END_HEADERS, stream, &head("GET", &[]));
        assert_eq!(told.recv_timeout(Duration::from_secs(10)), Ok("called"));
    }
    drop(frames);
    for _ in 0..2 {
        assert_eq!(told.recv_timeout(Duration::from_secs(10)), Ok("dropped"));
    }
}

#[test]
fn streams_under_way_are_bounded() {
    let (server, authority, told) = serve_pending(Settings { http2_streams_max: 3, ..settings() });
    let mut frames = FrameClient::connect(&server, &authority);
    for stream in [1, 3, 5, 7] {
        frames.send(HEADERS, END_STREAM | END_HEADERS, stream, &head("GET", &[]));
    }
    let refused = frames.read_until(RST_STREAM, 7);
    assert_eq!(refused.payload, 7_u32.to_be_bytes(), "REFUSED_STREAM");
    for _ in 0..3 {
        assert_eq!(told.recv_timeout(Duration::from_secs(10)), Ok("called"));
    }
    assert!(told.try_recv().is_err(), "the fourth reached the service");
}

#[test]
fn a_stop_finishes_streams_under_way() {
    let (reports, senders) = mpsc::channel::<BodySender>();
    let (server, authority) = serve_tls(settings(), move || {
        let reports = reports.clone();
        move |_: Request| {
            let (sender, body) = Body::channel();
            reports.send(sender).unwrap();
            ready(Response::new(StatusCode::OK).with_body(body))
        }
    });
    let mut frames = FrameClient::connect(&server, &authority);
    frames.send(HEADERS, END_STREAM | END_HEADERS, 1, &head("GET", &[]));
    let sender = senders.recv_timeout(Duration::from_secs(10)).unwrap();
    let mut idle = FrameClient::connect(&server, &authority);
    server.stop();
    assert_eq!(idle_end(&mut idle), Some(0), "GOAWAY with NO_ERROR");
    frames.read_until(GOAWAY, 0);
    block_on(async { sender.send("the rest").await.unwrap() });
    drop(sender);
    assert_eq!(frames.read_until(DATA, 1).payload, b"the rest");
    drop(frames);
    server.join().unwrap();
}

/// Answers the ping of a graceful end, as real clients do.
fn idle_end(frames: &mut FrameClient) -> Option<u32> {
    let mut code = None;
    while let Some(frame) = frames.read() {
        match frame.kind {
            6 if frame.flags == 0
                && frames.client.try_send(crate::tls_support::frame(6, 1, 0, &frame.payload)).is_ok() => {}
            GOAWAY => code = Some(u32::from_be_bytes(frame.payload[4..8].try_into().unwrap())),
            _ => {}
        }
    }
    code
}

#[test]
fn idle_connections_are_closed() {
    let short = Settings { keep_alive_timeout: SHORT, linger_timeout: SHORT, ..settings() };
    let (server, authority) = serve_tls(short, || |request: Request| ready(target_of(&request)));
    let mut frames = FrameClient::connect(&server, &authority);
    frames.send(HEADERS, END_STREAM | END_HEADERS, 1, &head("GET", &[]));
    frames.read_until(DATA, 1);
    assert_eq!(frames.read_goaway(), Some(0));
}

#[test]
fn a_head_that_does_not_end_is_timed_out() {
    let short = Settings { head_timeout: HANDSHAKE, linger_timeout: SHORT, ..settings() };
    let (server, authority) = serve_tls(short, || |request: Request| ready(target_of(&request)));
    let mut frames = FrameClient::connect(&server, &authority);
    frames.send(HEADERS, END_STREAM, 1, &head("GET", &[]));
    assert_eq!(frames.read_goaway(), Some(1), "PROTOCOL_ERROR");
}

#[test]
fn a_connection_that_says_nothing_is_closed() {
    let short = Settings { head_timeout: HANDSHAKE, linger_timeout: SHORT, ..settings() };
    let (server, authority) = serve_tls(short, || |request: Request| ready(target_of(&request)));
    let mut client = authority.client().with_alpn(&[b"h2"]).connect(server.local_addrs()[0], "localhost").unwrap();
    let mut all = Vec::new();
    let ended = std::io::Read::read_to_end(&mut client.stream, &mut all);
    assert!(!ended.is_err_and(|error| crate::tls_support::is_timeout(&error)), "still open");
    let mut silent = FrameClient::connect(&server, &authority);
    assert_eq!(silent.read_goaway(), Some(0), "settings and then nothing");
}

#[test]
fn requests_per_connection_are_counted() {
    let few = Settings { requests_per_connection_max: 2, ..settings() };
    let (server, authority) = serve_tls(few, || |request: Request| ready(target_of(&request)));
    let mut frames = FrameClient::connect(&server, &authority);
    frames.send(HEADERS, END_STREAM | END_HEADERS, 1, &head("GET", &[]));
    frames.read_until(DATA, 1);
    frames.send(HEADERS, END_STREAM | END_HEADERS, 3, &head("GET", &[]));
    assert_eq!(idle_end(&mut frames), Some(0));
}

#[test]
fn a_stop_has_a_deadline() {
    fn never(_: Request) -> impl Future<Output = Response> {
        pending()
    }
    let folder = tempfile::tempdir().unwrap();
    let authority = Authority::new();
    let files = authority.write(folder.path(), "server", &["localhost"]);
    let tls = Tls::new(TlsSettings::many(vec![files])).unwrap();
    let server = engine::Server::new(settings())
        .listen_tls("127.0.0.1:0".parse().unwrap(), tls, || never)
        .unwrap()
        .start(engine::Stop::new(), SHORT)
        .unwrap();
    let mut frames = FrameClient::connect(&server, &authority);
    frames.send(HEADERS, END_STREAM | END_HEADERS, 1, &head("GET", &[]));
    let started = std::time::Instant::now();
    server.stop();
    while frames.read().is_some() {}
    server.join().unwrap();
    assert!(started.elapsed() < GRACE / 3, "took {:?}", started.elapsed());
}
