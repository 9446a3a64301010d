//! A client that sends exactly the bytes it is given and never waits past its deadline.

use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::time::{Duration, Instant};

/// How long any single wait of a client may take before the test fails.
const DEADLINE: Duration = Duration::from_secs(10);

/// Most bytes a client reads before it gives up on finding an end.
const READ_BYTES_MAX: usize = 256 * 1024 * 1024;

/// One raw connection. Panics with the address and what was awaited when a deadline passes or the
/// connection breaks: in a test that is the clearest failure there is.
#[derive(Debug)]
pub struct RawClient {
    stream: TcpStream,
    received: Vec<u8>,
    deadline: Duration,
}

/// A response, taken apart just far enough to be asserted upon.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RawResponse {
    /// The status code.
    pub status: u16,
    /// The whole status line without CRLF.
    pub status_line: String,
    /// Names as received and trimmed values, in order.
    pub fields: Vec<(String, String)>,
    /// The body, chunks removed.
    pub body: Vec<u8>,
    /// Fields after the last chunk.
    pub trailers: Vec<(String, String)>,
}

impl RawResponse {
    /// The value of the first field of this name, in any case.
    pub fn field(&self, name: &str) -> Option<&str> {
        self.fields_named(name).next()
    }

    /// The values of all fields of this name.
    pub fn fields_named(&self, name: &str) -> impl Iterator<Item = &str> {
        self.fields.iter().filter(move |(field, _)| field.eq_ignore_ascii_case(name)).map(|(_, value)| value.as_str())
    }

    /// The body as text.
    ///
    /// # Panics
    /// If it is not UTF-8.
    pub fn text(&self) -> &str {
        std::str::from_utf8(&self.body).expect("the body is text")
    }
}

impl RawClient {
    /// Connects, or panics after ten seconds.
    pub fn connect(addr: SocketAddr) -> Self {
        let stream = TcpStream::connect_timeout(&addr, DEADLINE)
            .unwrap_or_else(|error| panic!("cannot connect to {addr}: {error}"));
        stream.set_nodelay(true).expect("TCP_NODELAY is always there");
        Self { stream, received: Vec::new(), deadline: DEADLINE }
    }

    /// Changes how long each wait may take.
    pub fn with_deadline(mut self, deadline: Duration) -> Self {
        self.deadline = deadline;
        self
    }

    /// The socket, for options and addresses.
    pub fn stream(&self) -> &TcpStream {
        &self.stream
    }

    /// Sends all of `bytes`.
    pub fn send(&mut self, bytes: impl AsRef<[u8]>) {
        self.try_send(bytes).expect("the server takes the bytes in time");
    }

    /// Sends all of `bytes`, or says why not: for tests where the server may have closed already.
    pub fn try_send(&mut self, bytes: impl AsRef<[u8]>) -> io::Result<()> {
        self.stream.set_write_timeout(Some(self.deadline))?;
        self.stream.write_all(bytes.as_ref())
    }

    /// Sends `bytes` in pieces of `size`, each in a write of its own.
    pub fn send_split(&mut self, bytes: impl AsRef<[u8]>, size: usize) {
        for piece in bytes.as_ref().chunks(size.max(1)) {
            self.send(piece);
        }
    }

    /// Closes the sending side; the receiving side stays open.
    pub fn half_close(&mut self) {
        self.stream.shutdown(Shutdown::Write).expect("the connection is still open");
    }

    /// Reads one response to a request that is not `HEAD`, interim responses included.
    pub fn read_response(&mut self) -> RawResponse {
        self.read_response_to("GET")
    }

    /// Reads one response to a request with this method.
    pub fn read_response_to(&mut self, method: &str) -> RawResponse {
        let head = self.read_until(b"\r\n\r\n");
        let mut response = parse_head(&head);
        if method == "HEAD" || response.status < 200 || matches!(response.status, 204 | 304) {
            return response;
        }
        let coding = response.field("transfer-encoding").map(str::to_ascii_lowercase);
        let length = response.field("content-length").map(str::to_owned);
        match (coding.as_deref(), length) {
            (Some(_), Some(_)) => panic!("both framing fields in {head:?}"),
            (Some("chunked"), None) => self.read_chunks(&mut response),
            (Some(other), None) => panic!("transfer coding {other}"),
            (None, Some(length)) => {
                let length = length.parse().expect("Content-Length is a number");
                response.body = self.read_exact(length);
            }
            (None, None) => response.body = self.read_to_end(),
        }
        response
    }

    /// Reads exactly `length` bytes.
    pub fn read_exact(&mut self, length: usize) -> Vec<u8> {
        let deadline = Instant::now() + self.deadline;
        while self.received.len() < length {
            assert!(
                self.fill(deadline) > 0,
                "connection closed after {} of {length} bytes: {:?}",
                self.received.len(),
                self.received.escape_ascii().to_string(),
            );
        }
        self.received.drain(..length).collect()
    }

    /// Reads until the server closes. A reset counts as a close.
    pub fn read_to_end(&mut self) -> Vec<u8> {
        let deadline = Instant::now() + self.deadline;
        while self.fill(deadline) > 0 {}
        std::mem::take(&mut self.received)
    }

    /// Asserts that the server closes without sending anything more.
    pub fn expect_close(&mut self) {
        let rest = self.read_to_end();
        assert!(rest.is_empty(), "bytes before the close: {}", rest.escape_ascii());
    }

    /// Asserts that nothing arrives for `quiet`: use it only where silence is the behaviour.
    pub fn expect_silence(&mut self, quiet: Duration) {
        assert!(self.received.is_empty(), "unread: {}", self.received.escape_ascii());
        self.stream.set_read_timeout(Some(quiet)).expect("a timeout above zero is accepted");
        let mut byte = [0];
        match self.stream.read(&mut byte) {
            Err(error) if is_timeout(&error) => {}
            other => panic!("expected silence, got {other:?} {byte:?}"),
        }
    }

    /// Reads up to and including `end`.
    pub fn read_until(&mut self, end: &[u8]) -> Vec<u8> {
        let deadline = Instant::now() + self.deadline;
        loop {
            if let Some(at) = self.received.windows(end.len()).position(|part| part == end) {
                return self.received.drain(..at + end.len()).collect();
            }
            assert!(
                self.fill(deadline) > 0,
                "connection closed before {:?}: {:?}",
                end.escape_ascii().to_string(),
                self.received.escape_ascii().to_string(),
            );
        }
    }

    fn read_chunks(&mut self, response: &mut RawResponse) {
        loop {
            let line = self.read_until(b"\r\n");
            let digits = std::str::from_utf8(&line[..line.len() - 2]).expect("a chunk size is text");
            let size = usize::from_str_radix(digits, 16).unwrap_or_else(|_| panic!("chunk size {digits:?}"));
            if size == 0 {
                break;
            }
            response.body.extend(self.read_exact(size));
            assert_eq!(self.read_exact(2), b"\r\n", "a chunk ends in CRLF");
        }
        loop {
            let line = self.read_until(b"\r\n");
            if line == b"\r\n" {
                return;
            }
            response.trailers.push(parse_field(&line[..line.len() - 2]));
        }
    }

    /// Reads once; 0 means closed.
    fn fill(&mut self, deadline: Instant) -> usize {
        assert!(self.received.len() < READ_BYTES_MAX, "endless response");
        let left = deadline.saturating_duration_since(Instant::now());
        assert!(!left.is_zero(), "deadline passed after receiving {:?}", self.received.escape_ascii().to_string());
        self.stream.set_read_timeout(Some(left)).expect("a timeout above zero is accepted");
        let mut buffer = [0; 16 * 1024];
        match self.stream.read(&mut buffer) {
            Ok(count) => {
                self.received.extend_from_slice(&buffer[..count]);
                count
            }
            Err(error) if error.kind() == io::ErrorKind::ConnectionReset => 0,
            Err(error) if is_timeout(&error) => {
                panic!("nothing for {left:?} after receiving {:?}", self.received.escape_ascii().to_string())
            }
            Err(error) => panic!("reading failed: {error}"),
        }
    }
}

fn is_timeout(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut)
}

fn parse_head(head: &[u8]) -> RawResponse {
    let text = head.strip_suffix(b"\r\n\r\n").expect("a head ends in an empty line");
    let mut lines = text.split(|&byte| byte == b'\n').map(|line| {
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        assert!(!line.contains(&b'\r'), "bare CR in {}", line.escape_ascii());
        line
    });
    let first = String::from_utf8_lossy(lines.next().expect("split yields one line")).into_owned();
    let mut parts = first.splitn(3, ' ');
    assert_eq!(parts.next(), Some("HTTP/1.1"), "status line {first:?}");
    let code = parts.next().unwrap_or_default();
    assert!(parts.next().is_some(), "no space after the code in {first:?}");
    assert_eq!(code.len(), 3, "status line {first:?}");
    RawResponse {
        status: code.parse().unwrap_or_else(|_| panic!("status line {first:?}")),
        status_line: first,
        fields: lines.map(parse_field).collect(),
        body: Vec::new(),
        trailers: Vec::new(),
    }
}

fn parse_field(line: &[u8]) -> (String, String) {
    let line = String::from_utf8_lossy(line);
    let (name, value) = line.split_once(':').unwrap_or_else(|| panic!("no colon in {line:?}"));
    assert!(!name.is_empty() && !name.contains([' ', '\t']), "field name {name:?}");
    (name.to_owned(), value.trim_matches([' ', '\t']).to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::TcpListener;
    use std::thread;

    /// A server that sends `bytes` to the first client and closes.
    fn server(bytes: &'static [u8]) -> SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let addr = listener.local_addr().expect("a bound socket has an address");
        thread::spawn(move || {
            let (mut socket, _) = listener.accept().expect("the client connects");
            socket.write_all(bytes).expect("the client reads");
        });
        addr
    }

    #[test]
    fn responses_are_read_one_after_the_other() {
        let mut client = RawClient::connect(server(
            b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nA: b\r\n\r\nhi\
              HTTP/1.1 204 No Content\r\n\r\n\
              HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\nX: y\r\n\r\n\
              HTTP/1.1 200 OK\r\n\r\nrest",
        ));
        let first = client.read_response();
        assert_eq!((first.status, first.text(), first.field("a")), (200, "hi", Some("b")));
        assert_eq!(client.read_response().status, 204);
        let third = client.read_response();
        assert_eq!((third.text(), third.trailers.len()), ("abc", 1));
        assert_eq!(client.read_response().text(), "rest");
        client.expect_close();
    }

    #[test]
    #[should_panic(expected = "nothing for")]
    fn a_silent_server_fails_the_test_instead_of_hanging_it() {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let addr = listener.local_addr().expect("a bound socket has an address");
        RawClient::connect(addr).with_deadline(Duration::from_millis(20)).read_response();
    }

    #[test]
    #[should_panic(expected = "both framing fields")]
    fn ambiguous_framing_is_not_read_kindly() {
        let bytes = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nTransfer-Encoding: chunked\r\n\r\n";
        RawClient::connect(server(bytes)).read_response();
    }
}
