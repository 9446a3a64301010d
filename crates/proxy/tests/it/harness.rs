//! A proxy on a free port, and upstreams to put behind it: good ones built on the engine, bad ones that
//! send exactly the bytes they are told to.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use engine::{Request, Response, Running, Server, Service, Settings, StatusCode, Stop};
use proxy::{Config, Proxy, Snapshot};
use testkit::{RawClient, RawResponse};

/// How long anything may take before a test fails.
pub(crate) const DEADLINE: Duration = Duration::from_secs(10);

/// How long a server may take to stop.
const GRACE: Duration = Duration::from_secs(5);

/// A running proxy.
pub(crate) struct Front {
    running: Running,
    proxy: Proxy,
    pub(crate) stop: Stop,
}

/// Starts a proxy with this configuration.
pub(crate) fn front(config: &str) -> Front {
    front_with(config, one_worker())
}

pub(crate) fn front_with(config: &str, settings: Settings) -> Front {
    let config = Config::parse("test", config).unwrap_or_else(|errors| panic!("{errors:?}"));
    let proxy = Proxy::new(&config);
    let stop = Stop::new();
    let server = proxy.listen(Server::new(settings), ([127, 0, 0, 1], 0).into()).unwrap();
    Front { running: server.start(stop.clone(), GRACE).unwrap(), proxy, stop }
}

/// A proxy that sends every host to these addresses in turn.
pub(crate) fn front_for(upstreams: &[SocketAddr]) -> Front {
    front(&everything_to(upstreams, ""))
}

/// A configuration that sends every host to these addresses in turn.
pub(crate) fn everything_to(upstreams: &[SocketAddr], more: &str) -> String {
    let pass: Vec<String> = upstreams.iter().map(|address| format!("proxy_pass http://{address};")).collect();
    format!("host default {{\n{}\n{more}\n}}", pass.join("\n"))
}

pub(crate) fn one_worker() -> Settings {
    Settings { workers: Some(1), ..Settings::default() }
}

impl Front {
    pub(crate) fn address(&self) -> SocketAddr {
        self.running.local_addrs()[0]
    }

    pub(crate) fn connect(&self) -> RawClient {
        RawClient::connect(self.address())
    }

    /// Sends one request on a connection of its own.
    pub(crate) fn ask(&self, request: &str) -> RawResponse {
        let method = request.split(' ').next().unwrap_or_default();
        let mut client = self.connect();
        client.send(request);
        client.read_response_to(method)
    }

    /// `GET /` for a host on a connection of its own.
    pub(crate) fn get(&self, host: &str) -> RawResponse {
        self.ask(&format!("GET / HTTP/1.1\r\nHost: {host}\r\n\r\n"))
    }

    pub(crate) fn status(&self) -> proxy::Status {
        self.proxy.status()
    }

    pub(crate) fn proxy(&self) -> &Proxy {
        &self.proxy
    }

    pub(crate) fn counts(&self) -> Snapshot {
        self.proxy.snapshot()
    }
}

/// Starts a well-behaved upstream on a free port.
pub(crate) fn upstream<S: Service>(make: impl Fn() -> S + Send + Sync + 'static) -> Running {
    upstream_at(([127, 0, 0, 1], 0).into(), make)
}

pub(crate) fn upstream_at<S: Service>(address: SocketAddr, make: impl Fn() -> S + Send + Sync + 'static) -> Running {
    let server = Server::new(one_worker()).listen(address, make).unwrap();
    server.start(Stop::new(), GRACE).unwrap()
}

/// An upstream that answers every request with its name.
pub(crate) fn named(name: &'static str) -> Running {
    upstream(move || move |_: Request| async move { Response::text(StatusCode::OK, name) })
}

/// An upstream that answers with what it received: start line, fields, content.
pub(crate) fn mirror() -> Running {
    upstream(|| {
        |request: Request| async move {
            let head = &request.head;
            let mut lines = vec![format!("{} {}", head.method(), head.target())];
            for (name, value) in head.fields().iter() {
                lines.push(format!("{}: {}", name.to_ascii_lowercase(), String::from_utf8_lossy(value)));
            }
            lines.push(String::new());
            match request.body.collect(1024 * 1024).await {
                Ok(content) => lines.push(String::from_utf8_lossy(&content).into_owned()),
                Err(error) => lines.push(error.to_string()),
            }
            Response::text(StatusCode::OK, lines.join("\n"))
        }
    })
}

pub(crate) fn address(running: &Running) -> SocketAddr {
    running.local_addrs()[0]
}

/// An address on which nobody listens, and nobody will as long as the tests run.
pub(crate) fn dead_address() -> SocketAddr {
    let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
    socket.bind(&SocketAddr::from(([127, 0, 0, 1], 0)).into()).unwrap();
    let address = socket.local_addr().unwrap().as_socket().unwrap();
    std::mem::forget(socket); // bound and not listening: it refuses, and nobody else gets the port
    address
}

/// An upstream that does with each connection what a test says. Dropped after the proxy, it waits until
/// its connections have ended and passes on their panics.
pub(crate) struct Hostile {
    address: SocketAddr,
    ended: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

/// Runs `talk` for every connection, each in a thread of its own; its first argument counts them from 0.
pub(crate) fn hostile(talk: impl Fn(usize, Wire) + Send + Sync + 'static) -> Hostile {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let ended = Arc::new(AtomicBool::new(false));
    let has_ended = Arc::clone(&ended);
    let thread = std::thread::spawn(move || {
        std::thread::scope(|scope| {
            for (index, stream) in listener.incoming().enumerate() {
                if has_ended.load(SeqCst) {
                    return;
                }
                let talk = &talk;
                scope.spawn(move || talk(index, Wire::new(stream.unwrap())));
            }
        });
    });
    Hostile { address, ended, thread: Some(thread) }
}

/// An upstream that answers every request of every connection with these bytes, then goes on or closes.
pub(crate) fn answering(bytes: impl Into<Vec<u8>>, then_close: bool) -> Hostile {
    let bytes = bytes.into();
    hostile(move |_, mut wire| {
        while wire.try_head().is_some() {
            if wire.try_send(&bytes).is_err() || then_close {
                return;
            }
        }
    })
}

impl Hostile {
    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }
}

impl Drop for Hostile {
    fn drop(&mut self) {
        self.ended.store(true, SeqCst);
        let _ = TcpStream::connect(self.address); // wakes the thread from `accept`
        let joined = self.thread.take().map(JoinHandle::join);
        let has_panicked = matches!(joined, Some(Err(_))) && !std::thread::panicking();
        assert!(!has_panicked, "the upstream of this test panicked");
    }
}

/// The upstream's end of one connection.
pub(crate) struct Wire {
    stream: TcpStream,
    received: Vec<u8>,
}

impl Wire {
    fn new(stream: TcpStream) -> Self {
        stream.set_read_timeout(Some(DEADLINE)).unwrap();
        stream.set_write_timeout(Some(DEADLINE)).unwrap();
        stream.set_nodelay(true).unwrap();
        Self { stream, received: Vec::new() }
    }

    pub(crate) fn stream(&self) -> &TcpStream {
        &self.stream
    }

    /// Reads a request head; `None` when the proxy closes instead.
    pub(crate) fn try_head(&mut self) -> Option<String> {
        loop {
            if let Some(end) = self.received.windows(4).position(|bytes| bytes == b"\r\n\r\n") {
                return Some(String::from_utf8(self.received.drain(..end + 4).collect()).unwrap());
            }
            if self.fill() == 0 {
                return None;
            }
        }
    }

    pub(crate) fn head(&mut self) -> String {
        self.try_head().expect("the proxy sends a request")
    }

    pub(crate) fn exact(&mut self, length: usize) -> String {
        while self.received.len() < length {
            assert!(self.fill() > 0, "closed after {:?}", self.received.escape_ascii().to_string());
        }
        String::from_utf8(self.received.drain(..length).collect()).unwrap()
    }

    /// Everything until the proxy closes.
    pub(crate) fn rest(&mut self) -> String {
        while self.fill() > 0 {}
        String::from_utf8(std::mem::take(&mut self.received)).unwrap()
    }

    pub(crate) fn send(&mut self, bytes: impl AsRef<[u8]>) {
        self.try_send(bytes).unwrap();
    }

    pub(crate) fn try_send(&mut self, bytes: impl AsRef<[u8]>) -> io::Result<()> {
        self.stream.write_all(bytes.as_ref())
    }

    fn fill(&mut self) -> usize {
        let mut buffer = [0; 4096];
        match self.stream.read(&mut buffer) {
            Ok(count) => {
                self.received.extend_from_slice(&buffer[..count]);
                count
            }
            Err(error) if error.kind() == io::ErrorKind::ConnectionReset => 0,
            Err(error) => panic!("the upstream waits in vain: {error}"),
        }
    }
}

/// Asks again and again until it is so; fails after [`DEADLINE`].
pub(crate) fn eventually(what: &str, mut is_so: impl FnMut() -> bool) {
    let deadline = Instant::now() + DEADLINE;
    while !is_so() {
        assert!(Instant::now() < deadline, "{what}: not within {DEADLINE:?}");
        std::thread::yield_now();
    }
}
