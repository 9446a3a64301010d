//! Requests that hide others, against the file server and the proxy as people start them (rows F1 to F20, H8, S1).

use crate::support::process::Weaprous;
use std::fs;
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::sync::{Arc, Mutex};
use testkit::RawClient;

/// What must never be answered, nor reach an upstream.
const EVIL: &str = "GET /evil.txt HTTP/1.1\r\nHost: evil\r\n\r\n";

fn files(folder: &Path) -> (Weaprous, SocketAddr) {
    fs::write(folder.join("a.txt"), "hello").unwrap();
    fs::write(folder.join("evil.txt"), "evil").unwrap();
    fs::create_dir(folder.join("docs")).unwrap();
    fs::write(folder.join("docs/index.html"), "docs").unwrap();
    let arguments = ["serve", folder.to_str().unwrap(), "--server-ip", "127.0.0.1", "--port", "0", "--quiet"];
    let mut process = Weaprous::start(arguments.iter());
    let address = process.address("here");
    (process, address)
}

#[test]
fn content_that_the_file_server_has_no_use_for_is_no_request() {
    let folder = tempfile::tempdir().unwrap();
    let (_process, address) = files(folder.path());
    let mut client = RawClient::connect(address);
    let chunked = format!("{:x}\r\n{EVIL}\r\n0\r\n\r\n", EVIL.len());
    for (start, fields, status) in [
        ("GET /a.txt", "", 200),
        ("HEAD /a.txt", "", 200),
        ("GET /a.txt", "Range: bytes=9-\r\n", 416),
        ("GET /a.txt", "If-None-Match: *\r\n", 304),
        ("GET /docs", "", 308),
        ("GET /docs/", "", 200),
        ("GET /missing", "", 404),
        ("GET /..%2fa.txt", "", 400),
        ("POST /a.txt", "", 405),
        ("DELETE /a.txt", "", 405),
        ("OPTIONS /a.txt", "", 204),
        ("TRACE /a.txt", "", 405),
    ] {
        for (framing, content) in
            [(format!("Content-Length: {}", EVIL.len()), EVIL), ("Transfer-Encoding: chunked".to_owned(), &chunked)]
        {
            client.send(format!("{start} HTTP/1.1\r\nHost: localhost\r\n{fields}{framing}\r\n\r\n{content}"));
            let method = start.split(' ').next().unwrap();
            assert_eq!(client.read_response_to(method).status, status, "{start} {framing}");
            client.send("GET /a.txt HTTP/1.1\r\nHost: localhost\r\n\r\n");
            assert_eq!(client.read_response().text(), "hello", "after {start} {framing}");
        }
    }
}

/// An upstream that notes all it receives and answers every head.
fn noting() -> (SocketAddr, Arc<Mutex<String>>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let (address, seen) = (listener.local_addr().unwrap(), Arc::new(Mutex::new(String::new())));
    let notes = Arc::clone(&seen);
    std::thread::spawn(move || {
        for stream in listener.incoming().map_while(Result::ok) {
            let notes = Arc::clone(&notes);
            std::thread::spawn(move || answer(stream, &notes));
        }
    });
    (address, seen)
}

fn answer(mut stream: TcpStream, notes: &Mutex<String>) {
    let mut buffer = [0; 4096];
    while let Ok(count @ 1..) = stream.read(&mut buffer) {
        let text = String::from_utf8_lossy(&buffer[..count]).into_owned();
        let heads = text.matches("\r\n\r\n").count();
        notes.lock().unwrap().push_str(&text);
        if stream.write_all("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok".repeat(heads).as_bytes()).is_err() {
            return;
        }
    }
}

/// Heads and the beginnings of content behind which a request is hidden; none of it may be understood by anybody.
const HIDING: [(&str, u16); 38] = [
    ("Content-Length: 6\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\nG", 400),
    ("Content-Length: 3\r\nContent-Length: 3\r\n\r\nabc", 400),
    ("Content-Length: 3, 3\r\n\r\nabc", 400),
    ("Content-Length: +3\r\n\r\nabc", 400),
    ("Content-Length: 0x3\r\n\r\nabc", 400),
    ("Content-Length:\r\n 3\r\n\r\nabc", 400),
    ("Content-Length : 3\r\n\r\nabc", 400),
    ("Transfer-Encoding : chunked\r\n\r\n0\r\n\r\n", 400),
    ("Transfer-Encoding:\x0bchunked\r\n\r\n0\r\n\r\n", 400),
    ("Transfer-Encoding: chunked\r\n ,x\r\n\r\n0\r\n\r\n", 400),
    ("Transfer-Encoding: chunked,\r\n\r\n0\r\n\r\n", 400),
    ("Transfer-Encoding: \"chunked\"\r\n\r\n0\r\n\r\n", 400),
    ("Transfer-Encoding: x\r\nContent-Length: 3\r\n\r\nabc", 400),
    ("Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n", 501),
    ("Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n\r\n0\r\n\r\n", 400),
    ("Transfer-Encoding: chunked\r\n\r\n0x1\r\na\r\n0\r\n\r\n", 400),
    ("Transfer-Encoding: chunked\r\n\r\n+1\r\na\r\n0\r\n\r\n", 400),
    ("Transfer-Encoding: chunked\r\n\r\n1 \r\na\r\n0\r\n\r\n", 400),
    ("Transfer-Encoding: chunked\r\n\r\n00000000000000001\r\na\r\n0\r\n\r\n", 400),
    ("Transfer-Encoding: chunked\r\n\r\n1;\na\r\n0\r\n\r\n", 400),
    ("Transfer-Encoding: chunked\r\n\r\n1;x\rX\r\na\r\n0\r\n\r\n", 400),
    ("Transfer-Encoding: chunked\r\n\r\n1;x=\"\r\n\"\r\na\r\n0\r\n\r\n", 400),
    ("Transfer-Encoding: chunked\r\n\r\n1\na\r\n0\r\n\r\n", 400),
    ("Transfer-Encoding: chunked\r\n\r\n1\r\na\r0\r\n\r\n", 400),
    ("Transfer-Encoding: chunked\r\n\r\n1\r\naXX0\r\n\r\n", 400),
    ("Transfer-Encoding: chunked\r\n\r\n1\r\na\r\n0\n\n", 400),
    ("Transfer-Encoding: chunked\r\n\r\n0\r\nContent-Length: 5\r\n\r\n", 400),
    ("Transfer-Encoding: chunked\r\n\r\n0\r\nX: 1\r\n 2\r\n\r\n", 400),
    ("Expect: y 100-continue\r\nContent-Length: 3\r\n\r\nabc", 417),
    ("Expect: 100-continue\r\nExpect: 100-continue\r\nContent-Length: 3\r\n\r\nabc", 417),
    ("Expect: 100-continue\nContent-Length: 3\r\n\r\nabc", 400),
    ("Host: b\r\n\r\n", 400),
    ("X Y: 1\r\n\r\n", 400),
    ("X\0: 1\r\n\r\n", 400),
    ("X: \0\r\n\r\n", 400),
    ("X: 1\r\n\tb\r\n\r\n", 400),
    ("X: 1\n\r\n", 400),
    ("X\r\n\r\n", 400),
];

#[test]
fn what_hides_a_request_is_refused_and_reaches_nobody() {
    let folder = tempfile::tempdir().unwrap();
    let (upstream, seen) = noting();
    let config = folder.path().join("proxy.conf");
    fs::write(&config, format!("host default {{ proxy_pass http://{upstream}; }}\n")).unwrap();
    let mut process = Weaprous::start(["proxy", "--config", config.to_str().unwrap(), "--server-port", "0"].iter());
    let proxy = process.address("proxy");
    for (hiding, status) in HIDING {
        let mut client = RawClient::connect(proxy);
        client.send(format!("POST /a.txt HTTP/1.1\r\nHost: a\r\n{hiding}{EVIL}"));
        assert_eq!(client.read_response().status, status, "{hiding:?}");
        client.expect_close();
    }
    // What looks like framing and is none hides nothing: two requests, and so two are answered.
    let mut client = RawClient::connect(proxy);
    client.send("POST / HTTP/1.1\r\nHost: a\r\nContent_Length: 40\r\nContent-Length-: 40\r\n\r\nGET /next HTTP/1.1\r\nHost: a\r\n\r\n");
    assert_eq!((client.read_response().status, client.read_response().status), (200, 200));
    let seen = seen.lock().unwrap();
    assert!(!seen.contains("evil") && seen.contains("GET /next "), "{seen}");
    assert!(!seen.contains("Content_Length"), "{seen}");
}
