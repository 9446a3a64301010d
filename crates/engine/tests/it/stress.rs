//! Random traffic from a seed, checked against what each request must be answered with: many connections at once,
//! pipelined, cut anywhere, some of which leave early.

use crate::support::{serve, settings};
use engine::{Body, Request, Response, Running, Settings, StatusCode};
use std::fs::File;
use std::io::Write;
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::sync::Arc;
use std::time::Duration;
use testkit::RawClient;

const CONNECTIONS: u64 = 90;
const AT_ONCE: u64 = 6;

/// A small generator, good enough to vary traffic.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound
    }

    fn one_in(&mut self, count: u64) -> bool {
        self.below(count) == 0
    }
}

/// What a request is and what its answer must be.
struct Exchange {
    request: Vec<u8>,
    status: u16,
    body: Vec<u8>,
    is_last: bool,
}

fn pattern(size: usize) -> Vec<u8> {
    (0..size).map(|at| (at % 253) as u8).collect()
}

async fn answer(request: Request, file: Arc<File>) -> Response {
    let path = request.head.path().to_owned();
    let (kind, size) = path[1..].split_once('/').unwrap();
    let size: usize = size.parse().unwrap();
    let ok = Response::new(StatusCode::OK);
    match kind {
        "now" | "unread" => ok.with_body(pattern(size)),
        "later" => {
            for _ in 0..size % 5 {
                tokio::task::yield_now().await;
            }
            ok.with_body(pattern(size))
        }
        "timer" => {
            tokio::time::sleep(Duration::from_millis(size as u64 % 4)).await;
            ok.with_body(pattern(size))
        }
        "close" => ok.field("connection", "close").with_body(pattern(size)),
        "panic" => panic!("as the test wants it"),
        "file" => ok.with_body(Body::from_file(file, 0, size as u64)),
        "stream" => {
            let (sender, body) = Body::channel();
            tokio::task::spawn_local(async move {
                for chunk in pattern(size).chunks(7000) {
                    if sender.send(bytes::Bytes::copy_from_slice(chunk)).await.is_err() {
                        return;
                    }
                }
            });
            ok.with_body(body)
        }
        "echo" => match request.body.collect(u64::MAX).await {
            Ok(bytes) => ok.with_body(bytes),
            Err(error) => Response::new(error.status()),
        },
        other => panic!("{other}"),
    }
}

fn size(random: &mut Random) -> usize {
    let bound = [1, 20, 500, 20_000, 300_000][random.below(5) as usize];
    random.below(bound) as usize
}

fn exchange(random: &mut Random) -> Exchange {
    let kinds = ["now", "now", "now", "later", "timer", "file", "stream", "echo", "echo", "unread", "close", "panic"];
    let mut kind = kinds[random.below(kinds.len() as u64) as usize];
    if matches!(kind, "close" | "panic") && !random.one_in(4) {
        kind = "now";
    }
    let size = size(random);
    let mut request = format!("POST /{kind}/{size} HTTP/1.1\r\nHost: test\r\n").into_bytes();
    // What nobody reads is drained up to a bound only.
    let content = pattern(match kind {
        "echo" => size,
        "unread" => size % 30_000,
        _ => 0,
    });
    if random.one_in(2) {
        request.extend_from_slice(format!("Content-Length: {}\r\n\r\n", content.len()).as_bytes());
        request.extend_from_slice(&content);
    } else {
        request.extend_from_slice(b"Transfer-Encoding: chunked\r\n\r\n");
        for chunk in content.chunks(1 + random.below(9000) as usize) {
            request.extend_from_slice(format!("{:x}\r\n", chunk.len()).as_bytes());
            request.extend_from_slice(chunk);
            request.extend_from_slice(b"\r\n");
        }
        request.extend_from_slice(b"0\r\n\r\n");
    }
    let is_panic = kind == "panic";
    let body = if is_panic {
        b"500 Internal Server Error: this request could not be answered\n".to_vec()
    } else {
        pattern(size)
    };
    Exchange { request, status: if is_panic { 500 } else { 200 }, body, is_last: is_panic || kind == "close" }
}

/// Sends in pieces of any size, and closes early or its own side where the plan says so.
fn send(mut stream: TcpStream, bytes: &[u8], mut random: Random, half_close: bool) {
    let mut rest = bytes;
    while !rest.is_empty() {
        let bound = [3, 200, 5000, 100_000][random.below(4) as usize];
        let (piece, left) = rest.split_at(rest.len().min(1 + random.below(bound) as usize));
        if stream.write_all(piece).is_err() {
            return; // the server had a reason to close, which the answers show
        }
        rest = left;
        if random.one_in(6) {
            std::thread::yield_now();
        }
    }
    if half_close {
        // Nothing is lost when the other side was faster.
        let _ = stream.shutdown(Shutdown::Write);
    }
}

fn converse(addr: SocketAddr, seed: u64) {
    let mut random = Random(seed);
    let plan: Vec<Exchange> = (0..=random.below(12)).map(|_| exchange(&mut random)).collect();
    let mut bytes: Vec<u8> = plan.iter().flat_map(|exchange| exchange.request.clone()).collect();
    let leaves_early = random.one_in(5);
    if leaves_early {
        bytes.truncate(random.below(bytes.len() as u64 + 1) as usize);
    }
    let half_close = random.one_in(3);
    let mut client = RawClient::connect(addr);
    let stream = client.stream().try_clone().unwrap();
    std::thread::scope(|scope| {
        let sending = scope.spawn(move || send(stream, &bytes, Random(seed ^ 1), half_close));
        if leaves_early {
            sending.join().unwrap();
            return; // in the middle of whatever is under way
        }
        for (number, exchange) in plan.iter().enumerate() {
            let response = client.read_response();
            let name = || format!("connection {seed}, request {number}: {}", response.status_line);
            assert_eq!(response.status, exchange.status, "{}", name());
            assert!(response.body == exchange.body, "{}: {} bytes", name(), response.body.len());
            if exchange.is_last {
                let _ = client.stream().shutdown(Shutdown::Write);
                return;
            }
        }
        if half_close {
            client.expect_close();
        }
    });
}

fn start(workers: usize) -> Running {
    let mut file = tempfile::tempfile().unwrap();
    file.write_all(&pattern(300_000)).unwrap();
    let file = Arc::new(file);
    serve(Settings { workers: Some(workers), body_bytes_max: u64::MAX, ..settings() }, move || {
        let file = file.clone();
        move |request: Request| answer(request, file.clone())
    })
}

#[test]
fn random_traffic_is_answered_as_it_must_be() {
    let seed = testkit::seed();
    for workers in [1, 2] {
        let server = start(workers);
        let addr = server.local_addrs()[0];
        std::thread::scope(|scope| {
            for part in 0..AT_ONCE {
                scope.spawn(move || {
                    for number in (part..CONNECTIONS).step_by(AT_ONCE as usize) {
                        converse(addr, seed.wrapping_add(number * 1000));
                    }
                });
            }
        });
        let mut last = RawClient::connect(addr);
        last.send("GET /now/5 HTTP/1.1\r\nHost: test\r\n\r\n");
        assert_eq!(last.read_response().body, pattern(5), "the server is as it was");
        server.stop();
        server.join().unwrap();
    }
}
