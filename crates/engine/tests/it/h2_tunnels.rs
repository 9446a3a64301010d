//! Other protocols inside a stream of HTTP/2, opened by an extended `CONNECT` (RFC 8441).

use crate::h2::{ask, client, text};
use crate::support::{block_on, settings};
use crate::tls_support::{Authority, serve_tls};
use bytes::Bytes;
use engine::{Fields, Request, Response, Running, StatusCode, Upgraded};
use h2::client::SendRequest;
use h2::ext::Protocol;
use h2::{Reason, RecvStream, SendStream};
use http::Method;
use std::future::{poll_fn, ready};
use std::io;
use std::sync::mpsc;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt, copy, split};

const SHORT: Duration = Duration::from_millis(200);

/// Sends everything back that comes, until it ends.
async fn echo(io: Upgraded) {
    let (mut from, mut to) = split(io);
    let _ = copy(&mut from, &mut to).await;
}

/// What this target does with a client that wants to speak `websocket`.
fn answer(request: Request) -> Response {
    match request.head.path() {
        "/plain" => Response::text(StatusCode::OK, "a page"),
        "/missing" => Response::text(StatusCode::NOT_FOUND, "nothing"),
        "/panic" => request.upgrade("websocket", async |mut io| {
            io.read_u8().await.unwrap();
            panic!("meant");
        }),
        "/panic-at-once" => request.upgrade("websocket", panic_at_once),
        "/reset" => request.upgrade("websocket", async |mut io: Upgraded| {
            io.read_u8().await.unwrap();
            io.reset();
        }),
        "/broken" => request.upgrade("websocket", async |mut io: Upgraded| {
            let breaker = io.breaker();
            io.read_u8().await.unwrap();
            breaker.break_off();
        }),
        "/greet" => request.upgrade("websocket", async |mut io| io.write_all(b"hello").await.unwrap()),
        "/head" => {
            let mut fields = Fields::new();
            let head = &request.head;
            let key = head.field_str("sec-websocket-key").unwrap_or_default();
            let seen = format!("{} {} {} {key}", head.version(), head.method(), head.target());
            for (name, value) in
                [("x-seen", seen.as_str()), ("upgrade", "websocket"), ("sec-websocket-accept", "x"), ("x-own", "y")]
            {
                fields.append(name, value).unwrap();
            }
            Response::upgrade(fields, echo)
        }
        _ => request.upgrade("websocket", echo),
    }
}

fn panic_at_once(_: Upgraded) -> std::future::Ready<()> {
    panic!("meant")
}

fn serve() -> (Running, Authority) {
    serve_tls(settings(), || |request: Request| ready(answer(request)))
}

async fn open(
    sender: &mut SendRequest<Bytes>,
    target: &str,
    protocol: &'static str,
) -> (http::Response<RecvStream>, SendStream<Bytes>) {
    while !sender.is_extended_connect_protocol_enabled() {
        tokio::task::yield_now().await; // until the server's settings are here
    }
    let asked = ask(Method::CONNECT, target).extension(Protocol::from_static(protocol));
    let asked = asked.header("sec-websocket-version", "13").body(()).unwrap();
    let (answer, stream) = sender.send_request(asked, false).unwrap();
    (answer.await.unwrap(), stream)
}

async fn read_exactly(stream: &mut RecvStream, length: usize) -> Vec<u8> {
    let mut all = Vec::new();
    while all.len() < length {
        let data = stream.data().await.expect("more is to come").unwrap();
        stream.flow_control().release_capacity(data.len()).unwrap();
        all.extend_from_slice(&data);
    }
    all
}

/// There is nothing more, and it ends as a stream that was not reset.
async fn expect_end(stream: &mut RecvStream) {
    while let Some(data) = stream.data().await {
        assert!(data.expect("an end, not a reset").is_empty());
    }
}

#[test]
fn bytes_go_both_ways_by_flow_control_until_an_end() {
    const BYTES: usize = 3 << 20;
    let (server, authority) = serve();
    block_on(async {
        let mut sender = client(&server, &authority).await;
        let (answer, mut stream) = open(&mut sender, "/", "websocket").await;
        assert_eq!(answer.status(), 200);
        let mut receive = answer.into_body();
        stream.send_data(Bytes::from_static(b"first"), false).unwrap();
        assert_eq!(read_exactly(&mut receive, 5).await, b"first", "each way while the other is open");
        let upload = async {
            let mut content = Bytes::from(vec![b'x'; BYTES]);
            while !content.is_empty() {
                stream.reserve_capacity(content.len().min(64 * 1024));
                let room = poll_fn(|cx| stream.poll_capacity(cx)).await.unwrap().unwrap();
                stream.send_data(content.split_to(room.min(content.len())), false).unwrap();
            }
            stream.send_data(Bytes::new(), true).unwrap();
        };
        let (content, ()) = tokio::join!(read_exactly(&mut receive, BYTES), upload);
        assert!(content.iter().all(|byte| *byte == b'x'));
        expect_end(&mut receive).await;
    });
}

#[test]
fn the_server_may_end_first() {
    let (server, authority) = serve();
    block_on(async {
        let mut sender = client(&server, &authority).await;
        let (answer, _stream) = open(&mut sender, "/greet", "websocket").await;
        let mut receive = answer.into_body();
        assert_eq!(read_exactly(&mut receive, 5).await, b"hello");
        expect_end(&mut receive).await;
        assert_eq!(open(&mut sender, "/", "websocket").await.0.status(), 200, "the connection goes on");
    });
}

/// A connection that was broken off is a reset stream, not an ended one (RFC 8441 §5).
#[test]
fn what_breaks_is_cancelled() {
    let (server, authority) = serve();
    block_on(async {
        let mut sender = client(&server, &authority).await;
        for target in ["/panic", "/reset", "/broken"] {
            let (answer, mut stream) = open(&mut sender, target, "websocket").await;
            assert_eq!(answer.status(), 200, "{target}");
            let mut receive = answer.into_body();
            let _ = stream.send_data(Bytes::from_static(b"x"), false); // may be too late
            let broken = receive.data().await.expect("a reset, not an end").unwrap_err();
            assert_eq!(broken.reason(), Some(Reason::CANCEL), "{target}");
        }
        let asked = ask(Method::CONNECT, "/panic-at-once").extension(Protocol::from_static("websocket"));
        let (answer, _stream) = sender.send_request(asked.body(()).unwrap(), false).unwrap();
        assert_eq!(answer.await.unwrap_err().reason(), Some(Reason::CANCEL), "with the answer still unsent");
        assert_eq!(open(&mut sender, "/", "websocket").await.0.status(), 200, "the connection goes on");
    });
}

#[test]
fn a_service_sees_the_switch_of_http1() {
    let (server, authority) = serve();
    block_on(async {
        let mut sender = client(&server, &authority).await;
        let mut keys = Vec::new();
        for _ in 0..2 {
            let (answer, _stream) = open(&mut sender, "/head", "websocket").await;
            let fields = answer.headers();
            for gone in ["upgrade", "connection", "sec-websocket-accept", "content-length"] {
                assert!(!fields.contains_key(gone), "{gone}");
            }
            assert!(fields.contains_key("date") && fields["x-own"] == "y");
            let seen = fields["x-seen"].to_str().unwrap();
            let key = seen.strip_prefix("HTTP/2.0 GET /head ").expect(seen).to_owned();
            let is_base64 = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'+' || byte == b'/';
            let (digits, padding) = key.split_at(22);
            assert!(digits.bytes().all(is_base64) && digits.ends_with(['A', 'Q', 'g', 'w']), "{key}");
            assert_eq!(padding, "==");
            keys.push(key);
        }
        assert_ne!(keys[0], keys[1]);
    });
}

#[test]
fn what_opens_no_tunnel_is_no_success() {
    let (server, authority) = serve();
    block_on(async {
        let mut sender = client(&server, &authority).await;
        for (target, protocol, status) in [
            ("/plain", "websocket", 501), // a 200 would be taken for the tunnel
            ("/plain", "connect-udp", 501),
            ("/missing", "websocket", 404),
            ("/", "connect-udp", 426),
        ] {
            let (answer, _stream) = open(&mut sender, target, protocol).await;
            assert_eq!(answer.status(), status, "{target} {protocol}");
            assert_eq!(text(answer).await.1.is_empty(), status == 426);
        }
        let plain = http::Request::builder().method(Method::CONNECT).uri("localhost:443").body(()).unwrap();
        let (answer, _stream) = sender.send_request(plain, false).unwrap();
        assert_eq!(answer.await.unwrap().status(), 501, "no tunnel to elsewhere");
    });
}

/// Serves a socket that tells how reading ended; a stop ends it as well.
fn serve_told() -> (Running, Authority, mpsc::Receiver<Result<usize, io::ErrorKind>>) {
    let (tell, told) = mpsc::channel();
    let (server, authority) = serve_tls(engine::Settings { write_idle_timeout: SHORT, ..settings() }, move || {
        let tell = tell.clone();
        move |request: Request| {
            let (tell, stop) = (tell.clone(), request.stop().clone());
            ready(request.upgrade("websocket", async move |mut io| {
                let mut buffer = [0; 16];
                let read = tokio::select! {
                    read = io.read(&mut buffer) => read.map_err(|error| error.kind()),
                    () = stop.cancelled() => Ok(0),
                };
                tell.send(read).unwrap();
            }))
        }
    });
    (server, authority, told)
}

#[test]
fn a_reset_is_an_error_and_an_end_is_none() {
    let (server, authority, told) = serve_told();
    block_on(async {
        let mut sender = client(&server, &authority).await;
        let (_answer, mut stream) = open(&mut sender, "/", "websocket").await;
        // Longer than any deadline of content: a tunnel may be silent.
        assert_eq!(told.recv_timeout(SHORT * 3), Err(mpsc::RecvTimeoutError::Timeout));
        stream.send_reset(Reason::CANCEL);
        // The client's connection runs beside this.
        tokio::task::yield_now().await;
        let ended = tokio::task::spawn_blocking(move || (told.recv_timeout(Duration::from_secs(10)), told)).await;
        let (read, told) = ended.unwrap();
        assert_eq!(read, Ok(Err(io::ErrorKind::ConnectionReset)));
        let (_answer, mut stream) = open(&mut sender, "/", "websocket").await;
        stream.send_data(Bytes::new(), true).unwrap();
        let ended = tokio::task::spawn_blocking(move || told.recv_timeout(Duration::from_secs(10))).await;
        assert_eq!(ended.unwrap(), Ok(Ok(0)));
    });
}

#[test]
fn a_stop_is_told_to_tunnels_and_waits_for_them() {
    let (server, authority, told) = serve_told();
    block_on(async {
        let mut sender = client(&server, &authority).await;
        let (answer, _stream) = open(&mut sender, "/", "websocket").await;
        server.stop();
        expect_end(&mut answer.into_body()).await;
    });
    assert_eq!(told.recv_timeout(Duration::from_secs(10)), Ok(Ok(0)));
    server.join().unwrap();
}
