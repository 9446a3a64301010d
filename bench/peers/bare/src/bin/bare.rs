//! The limit of an HTTP server on epoll: it parses nothing and sends a constant answer.
//!
//! `bare ADDRESS [--body FILE] [--announce-close] [--close] [--counter ADDRESS]`
//!
//! How it counts pipelined requests without looking at them: all requests of a load generator's connection are equal,
//! so the length of one is learnt from the first bytes that a connection sends (up to the end of the head; for a POST,
//! everything that came), and after that the answers owed are *bytes received / bytes of one request*. The plain
//! accept loop of the issue: one `accept4` per readiness, `epoll_ctl`, `epoll_wait`, `recv`, `send` and, with
//! `--close`, `close`. With `--counter`, whoever connects to that address is told how many connections were accepted.

use anyhow::{Context as _, Result, bail};
use bare::{EVENTS_MAX, LISTENER, READ_BYTES, listen, wait};
use rustix::event::epoll::{self, EventData, EventFlags};
use rustix::io::Errno;
use rustix::net::{RecvFlags, SendFlags, SocketFlags, accept_with, recv, send};
use std::fs;
use std::io::Write as _;
use std::net::{SocketAddr, TcpListener};
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::time::SystemTime;

/// The token of the socket that tells the count of accepted connections.
const COUNTER: u64 = LISTENER - 1;
/// Answers laid out one behind the other, so that many leave with one `send`.
const STREAM_BYTES: usize = 64 * 1024;

fn main() -> Result<()> {
    let options = Options::parse()?;
    let listener = listen(options.addr)?;
    let counter = options.counter.map(listen).transpose()?;
    let poll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
    epoll::add(&poll, &listener, EventData::new_u64(LISTENER), EventFlags::IN)?;
    if let Some(counter) = &counter {
        epoll::add(&poll, counter, EventData::new_u64(COUNTER), EventFlags::IN)?;
    }
    let mut server = Server {
        poll,
        open: Vec::new(),
        accepted: 0,
        answer_bytes: options.answer.len(),
        stream: options.answer.repeat((STREAM_BYTES / options.answer.len()).max(1)),
        close: options.close,
    };
    let mut input = vec![0; READ_BYTES];
    let mut events = Vec::with_capacity(EVENTS_MAX);
    loop {
        wait(&server.poll, &mut events)?;
        for event in &events {
            let flags = event.flags; // a copy: the kernel's struct is packed
            match (event.data.u64(), &counter) {
                (LISTENER, _) => server.accept(&listener)?,
                (COUNTER, Some(counter)) => server.tell(counter)?,
                (fd, _) if flags.contains(EventFlags::OUT) => server.flush(usize::try_from(fd)?)?,
                (fd, _) => server.receive(usize::try_from(fd)?, &mut input)?,
            }
        }
    }
}

struct Options {
    addr: SocketAddr,
    counter: Option<SocketAddr>,
    answer: Vec<u8>,
    close: bool,
}

impl Options {
    fn parse() -> Result<Self> {
        let mut args = std::env::args().skip(1);
        let addr = args.next().context("usage: bare ADDRESS [--body FILE] [--close]")?.parse()?;
        let (mut body, mut announce, mut close, mut counter) = (b"Hello, World!".to_vec(), false, false, None);
        while let Some(name) = args.next() {
            let mut value = || args.next().with_context(|| format!("{name} needs a value"));
            match name.as_str() {
                "--body" => body = fs::read(value()?)?,
                "--counter" => counter = Some(value()?.parse()?),
                "--announce-close" => announce = true,
                "--close" => (announce, close) = (true, true),
                _ => bail!("unknown option {name}"),
            }
        }
        Ok(Self { addr, counter, answer: answer(&body, announce), close })
    }
}

/// The whole answer; its Date is that of the start.
fn answer(body: &[u8], announce_close: bool) -> Vec<u8> {
    let close = if announce_close { "Connection: close\r\n" } else { "" };
    let head = format!(
        "HTTP/1.1 200 OK\r\nDate: {}\r\nContent-Type: text/plain\r\nContent-Length: {}\r\n{close}\r\n",
        httpdate::fmt_http_date(SystemTime::now()),
        body.len()
    );
    [head.as_bytes(), body].concat()
}

struct Connection {
    fd: OwnedFd,
    /// The length of one request; 0 until the first bytes have come.
    request_bytes: usize,
    /// Bytes of a request that has not come whole.
    partial: usize,
    /// Bytes of answers still to be sent.
    owed: usize,
    /// Where in the answer the next byte lies.
    position: usize,
    /// Whether the kernel was asked to tell when there is room.
    waiting: bool,
}

struct Server {
    poll: OwnedFd,
    open: Vec<Option<Connection>>,
    accepted: u64,
    answer_bytes: usize,
    stream: Vec<u8>,
    close: bool,
}

impl Server {
    fn accept(&mut self, listener: &TcpListener) -> Result<()> {
        let fd = match accept_with(listener, SocketFlags::NONBLOCK | SocketFlags::CLOEXEC) {
            Ok(fd) => fd,
            Err(Errno::AGAIN | Errno::CONNABORTED) => return Ok(()),
            Err(error) => return Err(error.into()),
        };
        self.accepted += 1;
        let slot = usize::try_from(fd.as_raw_fd())?;
        epoll::add(&self.poll, &fd, EventData::new_u64(slot as u64), EventFlags::IN)?;
        if self.open.len() <= slot {
            self.open.resize_with(slot + 1, || None);
        }
        self.open[slot] = Some(Connection { fd, request_bytes: 0, partial: 0, owed: 0, position: 0, waiting: false });
        Ok(())
    }

    fn tell(&self, counter: &TcpListener) -> Result<()> {
        let (mut stream, _) = counter.accept()?;
        stream.set_nonblocking(false)?;
        // Whoever asked and left does not need the answer.
        let _ = write!(stream, "{}", self.accepted);
        Ok(())
    }

    fn receive(&mut self, slot: usize, input: &mut [u8]) -> Result<()> {
        let Some(Some(connection)) = self.open.get_mut(slot) else { return Ok(()) };
        let count = match recv(&connection.fd, &mut *input, RecvFlags::empty()) {
            Ok((0, _)) | Err(Errno::CONNRESET) => {
                self.open[slot] = None;
                return Ok(());
            }
            Ok((count, _)) => count,
            Err(Errno::AGAIN) => return Ok(()),
            Err(error) => return Err(error.into()),
        };
        if connection.request_bytes == 0 {
            connection.request_bytes = request_bytes(&input[..count]);
        }
        connection.partial += count;
        let requests = connection.partial / connection.request_bytes;
        connection.partial %= connection.request_bytes;
        connection.owed += requests * self.answer_bytes;
        if requests == 0 { Ok(()) } else { self.flush(slot) }
    }

    fn flush(&mut self, slot: usize) -> Result<()> {
        let Some(Some(connection)) = self.open.get_mut(slot) else { return Ok(()) };
        while connection.owed > 0 {
            let end = self.stream.len().min(connection.position + connection.owed);
            match send(&connection.fd, &self.stream[connection.position..end], SendFlags::NOSIGNAL) {
                Ok(sent) => {
                    connection.owed -= sent;
                    connection.position = (connection.position + sent) % self.answer_bytes;
                }
                Err(Errno::AGAIN) if connection.waiting => return Ok(()),
                Err(Errno::AGAIN) => {
                    connection.waiting = true;
                    let event = EventData::new_u64(slot as u64);
                    return Ok(epoll::modify(&self.poll, &connection.fd, event, EventFlags::OUT)?);
                }
                Err(_) => {
                    self.open[slot] = None;
                    return Ok(());
                }
            }
        }
        if self.close {
            self.open[slot] = None;
        } else if connection.waiting {
            connection.waiting = false;
            epoll::modify(&self.poll, &connection.fd, EventData::new_u64(slot as u64), EventFlags::IN)?;
        }
        Ok(())
    }
}

/// The length of the first request among the first bytes of a connection.
fn request_bytes(input: &[u8]) -> usize {
    let head_end = input.windows(4).position(|bytes| bytes == b"\r\n\r\n").map(|at| at + 4);
    match head_end {
        Some(end) if !input.starts_with(b"POST") => end,
        _ => input.len(),
    }
}
