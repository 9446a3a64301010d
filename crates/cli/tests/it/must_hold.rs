//! Under steady load, whatever happens behind the proxy or to the proxy itself fails no idempotent request and cuts no
//! tunnel and no event stream of a route that it does not concern.
//!
//! 64 clients ask all the time while, one after another, a backend is killed, comes back, stalls, closes its kept
//! connections at random, the configuration is reloaded twenty times, a backend comes and goes, and the proxy itself
//! is replaced by another process.

use crate::support::process::Weaprous;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

/// Clients that ask all the time.
const CLIENTS: usize = 64;
/// The pause of a client between two requests: the load is steady, not as much as goes.
const PAUSE: Duration = Duration::from_millis(50);
/// Requests answered in each phase.
const PHASE_REQUESTS: usize = 1000;
/// Reloads in that phase.
const RELOADS: usize = 20;
/// How long one phase may take. It measures nothing.
const DEADLINE: Duration = Duration::from_secs(30);
/// Longer than any client waits for an answer while a backend stalls.
const ANSWER_DEADLINE: Duration = Duration::from_secs(10);

/// What all clients have seen.
#[derive(Default)]
struct Seen {
    answered: AtomicUsize,
    connections: AtomicUsize,
    failures: Mutex<Vec<String>>,
    phase: Mutex<&'static str>,
    is_over: AtomicBool,
    echoes: AtomicUsize,
    events: AtomicUsize,
}

impl Seen {
    fn fail(&self, what: impl std::fmt::Display) {
        let phase = *self.phase.lock().unwrap();
        self.failures.lock().unwrap().push(format!("{phase}: {what}"));
    }

    /// Waits until `count` more requests are answered, and both streams have gone on.
    fn wait_for(&self, count: usize) {
        let before = self.answered.load(SeqCst);
        let streams = (self.echoes.load(SeqCst), self.events.load(SeqCst));
        self.until("answers", || {
            self.answered.load(SeqCst) >= before + count
                && self.echoes.load(SeqCst) > streams.0
                && self.events.load(SeqCst) > streams.1
        });
    }

    fn until(&self, what: &str, mut is_so: impl FnMut() -> bool) {
        let end = Instant::now() + DEADLINE;
        while !is_so() {
            let failures = self.failures.lock().unwrap();
            assert!(Instant::now() < end, "{what}: not in time while {}; {failures:?}", self.phase.lock().unwrap());
            drop(failures);
            thread::sleep(Duration::from_millis(5));
        }
    }
}

/// One connection of a client, which is opened again when the proxy said that it closes.
struct Client {
    addr: SocketAddr,
    stream: Option<BufReader<TcpStream>>,
}

impl Client {
    fn get(&mut self, seen: &Seen) -> io::Result<(u16, String)> {
        let stream = match &mut self.stream {
            Some(stream) => stream,
            none => {
                let stream = TcpStream::connect(self.addr)?;
                stream.set_read_timeout(Some(ANSWER_DEADLINE))?;
                stream.set_nodelay(true)?;
                seen.connections.fetch_add(1, SeqCst);
                none.insert(BufReader::new(stream))
            }
        };
        stream.get_mut().write_all(b"GET /static/who.txt HTTP/1.1\r\nHost: app.local\r\n\r\n")?;
        let head = read_head(stream)?;
        let field =
            |name: &str| head.lines().find_map(|line| line.to_ascii_lowercase().strip_prefix(name).map(str::to_owned));
        let length: usize = field("content-length: ").and_then(|length| length.parse().ok()).unwrap_or(0);
        let mut content = vec![0; length];
        stream.read_exact(&mut content)?;
        if field("connection: close").is_some() {
            self.stream = None;
        }
        let status = head.get(9..12).and_then(|status| status.parse().ok()).unwrap_or(0);
        Ok((status, String::from_utf8_lossy(&content).into_owned()))
    }
}

fn read_head(stream: &mut impl BufRead) -> io::Result<String> {
    let mut head = String::new();
    while !head.ends_with("\r\n\r\n") {
        if stream.read_line(&mut head)? == 0 {
            return Err(io::Error::new(io::ErrorKind::UnexpectedEof, format!("closed after {head:?}")));
        }
    }
    Ok(head)
}

/// Asks until all is over; every failure is noted.
fn load(addr: SocketAddr, seen: &Seen, answered_by: &Mutex<Vec<String>>) {
    let mut client = Client { addr, stream: None };
    while !seen.is_over.load(SeqCst) {
        match client.get(seen) {
            Ok((200, who)) => {
                let mut names = answered_by.lock().unwrap();
                if !names.contains(&who) {
                    names.push(who);
                }
                seen.answered.fetch_add(1, SeqCst);
            }
            Ok((status, text)) => seen.fail(format!("{status} {text}")),
            Err(error) => {
                seen.fail(error);
                client.stream = None;
            }
        }
        thread::sleep(PAUSE);
    }
}

/// A tunnel on which every line comes back.
fn tunnel(addr: SocketAddr, seen: &Seen) -> io::Result<()> {
    let mut stream = BufReader::new(TcpStream::connect(addr)?);
    stream.get_ref().set_read_timeout(Some(ANSWER_DEADLINE))?;
    let ask = "GET /live/socket HTTP/1.1\r\nHost: app.local\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n";
    stream.get_mut().write_all(ask.as_bytes())?;
    let head = read_head(&mut stream)?;
    assert!(head.starts_with("HTTP/1.1 101 "), "{head}");
    for number in 0.. {
        if seen.is_over.load(SeqCst) {
            break;
        }
        let line = format!("{number}\n");
        stream.get_mut().write_all(line.as_bytes())?;
        let mut echo = String::new();
        stream.read_line(&mut echo)?;
        if echo != line {
            return Err(io::Error::other(format!("{echo:?} instead of {line:?}")));
        }
        seen.echoes.fetch_add(1, SeqCst);
        thread::sleep(PAUSE);
    }
    Ok(())
}

/// An event stream whose events are numbered.
fn events(addr: SocketAddr, seen: &Seen) -> io::Result<()> {
    let mut stream = BufReader::new(TcpStream::connect(addr)?);
    stream.get_ref().set_read_timeout(Some(ANSWER_DEADLINE))?;
    stream.get_mut().write_all(b"GET /live/events HTTP/1.1\r\nHost: app.local\r\n\r\n")?;
    let head = read_head(&mut stream)?;
    assert!(head.starts_with("HTTP/1.1 200 "), "{head}");
    let mut next = 0;
    while !seen.is_over.load(SeqCst) {
        let mut line = String::new();
        if stream.read_line(&mut line)? == 0 {
            return Err(io::Error::other(format!("the events end after {next}")));
        }
        if let Some(number) = line.trim_end().strip_prefix("data: ") {
            if number != next.to_string() {
                return Err(io::Error::other(format!("event {number} instead of {next}")));
            }
            next += 1;
            seen.events.fetch_add(1, SeqCst);
        }
    }
    Ok(())
}

/// A backend inside of this process: every connection is given to `talk`, in a thread of its own.
fn backend(talk: impl Fn(BufReader<TcpStream>, usize) -> io::Result<()> + Send + Sync + 'static) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = listener.local_addr().unwrap();
    let talk = Arc::new(talk);
    thread::spawn(move || {
        for (number, stream) in listener.incoming().map_while(Result::ok).enumerate() {
            let talk = Arc::clone(&talk);
            thread::spawn(move || {
                let _ = stream.set_nodelay(true);
                talk(BufReader::new(stream), number) // however it ends: the clients notice, or not
            });
        }
    });
    addr
}

/// Answers with `name`; while `is_fickle`, connections are closed at random: after an answer, or in place of one.
fn answering(name: &'static str, is_fickle: Arc<AtomicBool>) -> SocketAddr {
    backend(move |mut stream, connection| {
        for request in 0.. {
            read_head(&mut stream)?;
            // Any mixing will do: every third answer is the last one, and every fifth request gets none.
            let random = ((connection * 31 + request * 17) * 0x9E37) >> 7;
            if is_fickle.load(SeqCst) && request > 0 && random % 5 == 0 {
                return Ok(());
            }
            write!(stream.get_mut(), "HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{name}", name.len())?;
            if is_fickle.load(SeqCst) && random % 3 == 0 {
                return Ok(());
            }
        }
        Ok(())
    })
}

/// Where the streams come from that nothing is to touch.
fn live() -> SocketAddr {
    backend(|mut stream, _| {
        let head = read_head(&mut stream)?;
        if head.starts_with("GET /live/socket ") {
            let switch = "HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n";
            stream.get_mut().write_all(switch.as_bytes())?;
            let mut line = String::new();
            while stream.read_line(&mut line)? > 0 {
                stream.get_mut().write_all(line.as_bytes())?;
                line.clear();
            }
            return Ok(());
        }
        let stream = stream.get_mut();
        stream
            .write_all(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n")?;
        for number in 0.. {
            let event = format!("data: {number}\n\n");
            write!(stream, "{:x}\r\n{event}\r\n", event.len())?;
            thread::sleep(PAUSE);
        }
        Ok(())
    })
}

/// `weaprous backend` at this port, with a public file that says its name.
fn process(folder: &Path, name: &str, port: u16) -> (Weaprous, SocketAddr) {
    let site = folder.join(name);
    std::fs::create_dir_all(&site).unwrap();
    std::fs::write(site.join("who.txt"), name).unwrap();
    let (site, data) = (site.display().to_string(), folder.join("data").display().to_string());
    let port = port.to_string();
    let args = ["backend", "--data-dir", &data, "--server-port", &port, "--static", &site];
    let mut process = Weaprous::start(args.iter());
    let addr = process.address("backend");
    (process, addr)
}

/// Where the proxy under test finds its configuration.
struct Setup {
    config: PathBuf,
    control: PathBuf,
    live: SocketAddr,
}

impl Setup {
    fn proxy(&self, port: u16, more: &[&str]) -> (Weaprous, SocketAddr) {
        let (config, control) = (self.config.display().to_string(), self.control.display().to_string());
        let port = port.to_string();
        let args = ["proxy", "--no-watch", "--config", &config, "--control", &control, "--server-port", &port];
        let mut process = Weaprous::start(args.iter().chain(more));
        let addr = process.address("proxy");
        (process, addr)
    }

    /// Writes the configuration; `version` makes it another one.
    fn write(&self, servers: &[SocketAddr], version: usize) {
        let servers: Vec<_> = servers.iter().map(|addr| format!("    server {addr};\n")).collect();
        let servers = servers.concat();
        let live = self.live;
        let text = format!(
            "upstream app {{\n{servers}}}\n\
             host \"app.local\" {{\n    proxy_pass http://app;\n    try_timeout 300ms;\n    \
             proxy_set_header X-Version {version};\n    \
             location /live/ {{ proxy_pass http://{live}; proxy_set_header X-Version 0; }}\n}}\n"
        );
        std::fs::write(&self.config, text).unwrap();
    }

    fn reload(&self, proxy: &mut Weaprous, servers: &[SocketAddr], version: usize) {
        self.write(servers, version);
        proxy.signal("HUP");
        proxy.wait_for_text("reloaded");
    }
}

#[test]
fn nothing_that_happens_fails_an_idempotent_request_or_cuts_a_stream() {
    let dir = tempfile::tempdir().unwrap();
    let (folder, mut later) = (dir.path(), Vec::new()); // the latter: processes that are to outlive the clients
    let (mut first, first_addr) = process(folder, "first", 0);
    let (second, second_addr) = process(folder, "second", 0);
    let is_fickle = Arc::new(AtomicBool::new(false));
    let third_addr = answering("third", Arc::clone(&is_fickle));
    let servers = [first_addr, second_addr, third_addr];
    let setup = Setup { config: folder.join("proxy.conf"), control: folder.join("control"), live: live() };
    setup.write(&servers, 0);
    let (mut proxy, addr) = setup.proxy(0, &[]);
    let seen = Seen::default();
    let answered_by = Mutex::new(Vec::new());
    let begin = |phase: &'static str| {
        answered_by.lock().unwrap().clear();
        *seen.phase.lock().unwrap() = phase;
        println!("{:6} answered so far; {phase}", seen.answered.load(SeqCst));
    };
    let hears_of = |name: &str| seen.until(name, || answered_by.lock().unwrap().iter().any(|who| who == name));

    thread::scope(|scope| {
        let over = Over(&seen);
        for _ in 0..CLIENTS {
            scope.spawn(|| load(addr, &seen, &answered_by));
        }
        scope.spawn(|| tunnel(addr, &seen).unwrap_or_else(|error| seen.fail(format!("the tunnel: {error}"))));
        scope.spawn(|| events(addr, &seen).unwrap_or_else(|error| seen.fail(format!("the events: {error}"))));

        begin("nothing happens");
        seen.wait_for(PHASE_REQUESTS);

        begin("a backend is killed");
        first.kill_9();
        seen.wait_for(PHASE_REQUESTS);

        begin("it comes back");
        later.push(process(folder, "first", first_addr.port()).0);
        hears_of("first");
        seen.wait_for(PHASE_REQUESTS);

        begin("a backend stalls");
        second.signal("STOP");
        seen.wait_for(PHASE_REQUESTS);

        begin("it goes on");
        second.signal("CONT");
        hears_of("second");

        begin("a backend closes kept connections at random");
        is_fickle.store(true, SeqCst);
        seen.wait_for(PHASE_REQUESTS);
        is_fickle.store(false, SeqCst);

        begin("the configuration is reloaded twenty times");
        for version in 1..=RELOADS {
            setup.reload(&mut proxy, &servers, version);
        }
        seen.wait_for(PHASE_REQUESTS);

        begin("a backend is added");
        let fourth = answering("fourth", Arc::default());
        setup.reload(&mut proxy, &[first_addr, second_addr, third_addr, fourth], RELOADS);
        hears_of("fourth");
        seen.wait_for(PHASE_REQUESTS);

        begin("it is taken away again");
        setup.reload(&mut proxy, &servers, RELOADS);
        seen.wait_for(PHASE_REQUESTS);
        answered_by.lock().unwrap().clear();
        seen.wait_for(PHASE_REQUESTS);
        assert!(!answered_by.lock().unwrap().iter().any(|who| who == "fourth"), "nobody asks it any more");

        begin("the proxy is replaced");
        let connections = seen.connections.load(SeqCst);
        let (next, next_addr) = setup.proxy(addr.port(), &["--upgrade"]);
        assert_eq!(next_addr, addr);
        later.push(next);
        seen.until("all clients meet the new one", || seen.connections.load(SeqCst) >= connections + CLIENTS);
        seen.wait_for(PHASE_REQUESTS);

        drop(over);
    });
    report(&seen);
}

/// Tells everybody that it is over, however it ends.
struct Over<'a>(&'a Seen);

impl Drop for Over<'_> {
    fn drop(&mut self) {
        self.0.is_over.store(true, SeqCst);
    }
}

fn report(seen: &Seen) {
    let failures = seen.failures.lock().unwrap();
    println!(
        "{} requests answered over {} connections, {} failed; {} echoes, {} events",
        seen.answered.load(SeqCst),
        seen.connections.load(SeqCst),
        failures.len(),
        seen.echoes.load(SeqCst),
        seen.events.load(SeqCst),
    );
    assert!(
        failures.is_empty(),
        "{} failures, first of all: {:#?}",
        failures.len(),
        &failures[..failures.len().min(20)]
    );
}
