//! Servers on free ports, and servers that misbehave on purpose.

use engine::{Request, Response, Running, Server, Service, Settings, StatusCode, Stop};
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::thread::JoinHandle;
use std::time::Duration;
use testkit::RawClient;

/// Longer than any test waits, so that a test that relies on the abort fails.
pub(crate) const GRACE: Duration = Duration::from_secs(30);

/// How long a scripted server waits for the client.
const PATIENCE: Duration = Duration::from_secs(10);

/// One worker, so that tests see what connections of one worker do to each other.
pub(crate) fn settings() -> Settings {
    Settings { workers: Some(1), ..Settings::default() }
}

/// Starts a server that stops when the returned value is dropped.
pub(crate) fn serve<S: Service>(settings: Settings, make: impl Fn() -> S + Send + Sync + 'static) -> Running {
    let any_port = "127.0.0.1:0".parse().unwrap();
    Server::new(settings).listen(any_port, make).unwrap().start(Stop::new(), GRACE).unwrap()
}

pub(crate) fn connect(server: &Running) -> RawClient {
    RawClient::connect(server.local_addrs()[0])
}

/// A server that reads the request's content and answers with its length, or with why it failed.
pub(crate) fn serve_lengths(settings: Settings) -> Running {
    serve(settings, || |request: Request| async move { length_of(request).await })
}

pub(crate) async fn length_of(request: Request) -> Response {
    let mut body = request.body;
    let mut length = 0;
    while let Some(chunk) = body.chunk().await {
        match chunk {
            Ok(chunk) => length += chunk.len(),
            Err(error) => return Response::text(error.status(), error.to_string()),
        }
    }
    Response::text(StatusCode::OK, length.to_string())
}

/// A server that answers with method and target.
pub(crate) fn serve_targets(settings: Settings) -> Running {
    serve(settings, || |request: Request| async move { target_of(&request) })
}

pub(crate) fn target_of(request: &Request) -> Response {
    Response::text(StatusCode::OK, format!("{} {}", request.head.method(), request.head.target()))
}

/// A `GET` of this target on a connection that stays open.
pub(crate) fn get(target: &str) -> String {
    format!("GET {target} HTTP/1.1\r\nHost: test\r\n\r\n")
}

/// Runs a future on a runtime of its own.
pub(crate) fn block_on<T>(future: impl Future<Output = T>) -> T {
    let deadline = Duration::from_secs(20);
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap()
        .block_on(async { tokio::time::timeout(deadline, future).await.expect("the future ends in time") })
}

/// A server that does exactly what `script` says, connection after connection.
pub(crate) fn scripted(script: impl FnOnce(&TcpListener) + Send + 'static) -> (SocketAddr, JoinHandle<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = listener.local_addr().unwrap();
    socket2::SockRef::from(&listener).set_read_timeout(Some(PATIENCE)).unwrap(); // bounds `accept`
    (addr, std::thread::spawn(move || script(&listener)))
}

/// Accepts one connection, reads one head, answers with these bytes.
pub(crate) fn answer_once(listener: &TcpListener, answer: &[u8]) -> TcpStream {
    let mut stream = accept(listener);
    read_head(&mut stream);
    stream.write_all(answer).unwrap();
    stream
}

pub(crate) fn accept(listener: &TcpListener) -> TcpStream {
    let (stream, _) = listener.accept().unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream
}

/// Reads up to the end of a head; the text with it.
pub(crate) fn read_head(stream: &mut impl Read) -> String {
    let mut head = Vec::new();
    let mut byte = [0];
    while !head.ends_with(b"\r\n\r\n") {
        assert_eq!(stream.read(&mut byte).unwrap(), 1, "closed after {:?}", String::from_utf8_lossy(&head));
        head.push(byte[0]);
    }
    String::from_utf8(head).unwrap()
}
