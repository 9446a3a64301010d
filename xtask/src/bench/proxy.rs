//! `bench proxy`: what a relayed request costs, beside other proxies and a bare relay that parses nothing.
//!
//! The backend is the bare loop, on the load's core; it counts the connections it accepts, so that each line tells how
//! many a proxy opened while it was measured.

use super::check::Ask;
use super::load::{self, Load};
use super::machine::{self, LOAD_CORE, SERVER_CORE, pinned};
use super::options::Options;
use super::servers::{self, CRATES, Server, build_peer, built, configure, free_addr, scratch, spawn};
use super::{check, cost, table};
use crate::shell;
use anyhow::{Context, Result, ensure};
use std::fmt::Write as _;
use std::fs;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::thread;
use std::time::{Duration, Instant};

/// Load before the first measured round, in seconds: long enough for the pool of upstream connections to fill.
const WARM_UP_SECONDS: u64 = 2;
/// What the slow client reads, and how fast.
const LARGE_BYTES: usize = 1024 * 1024 * 1024;
const SLOW_BYTES_PER_SECOND: usize = 64 * 1024 * 1024;
/// How often the proxy's memory is looked at meanwhile.
const LOOK: Duration = Duration::from_millis(50);
/// How long the slow client may wait for bytes.
const READ_MAX: Duration = Duration::from_secs(20);

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Relay,
    Ours,
    Haproxy,
    Nginx,
    Pingora,
}

impl Kind {
    const ALL: [Self; 5] = [Self::Relay, Self::Ours, Self::Haproxy, Self::Nginx, Self::Pingora];

    fn name(self) -> &'static str {
        match self {
            Self::Relay => "bare-relay",
            Self::Ours => "weaprous",
            Self::Haproxy => "haproxy",
            Self::Nginx => "nginx",
            Self::Pingora => "pingora",
        }
    }

    /// The program that must be installed for it.
    fn installed(self) -> Option<&'static str> {
        matches!(self, Self::Haproxy | Self::Nginx).then(|| self.name())
    }
}

/// One line of the issue.
struct Row {
    name: &'static str,
    title: &'static str,
    bytes: usize,
    /// Clients; none means as many as the options say.
    clients: Option<usize>,
    close: bool,
    tls: bool,
}

const KIB: usize = 1024;
const ROWS: [Row; 8] = [
    row("13b", "13 bytes", 13, None, false, false),
    row("13b-1000", "13 bytes, 1,000 clients", 13, Some(1000), false, false),
    row("1k", "1 KiB", KIB, None, false, false),
    row("1k-1000", "1 KiB, 1,000 clients", KIB, Some(1000), false, false),
    row("1m", "1 MiB", KIB * KIB, None, false, false),
    row("1m-1000", "1 MiB, 1,000 clients", KIB * KIB, Some(1000), false, false),
    row("new", "13 bytes, a new connection per request", 13, None, true, false),
    row("tls", "13 bytes, TLS in front", 13, None, false, true),
];
/// The row about memory.
const SLOW: &str = "slow";

const fn row(
    name: &'static str,
    title: &'static str,
    bytes: usize,
    clients: Option<usize>,
    close: bool,
    tls: bool,
) -> Row {
    Row { name, title, bytes, clients, close, tls }
}

pub(crate) fn run(options: &Options) -> Result<()> {
    let rows: Vec<_> = ROWS.iter().map(|row| row.name).chain([SLOW]).collect();
    options.check_names(&rows, &Kind::ALL.map(Kind::name))?;
    let kinds: Vec<_> = Kind::ALL.into_iter().filter(|kind| options.wants_peer(kind.name())).collect();
    let installed: Vec<_> = kinds.iter().filter_map(|kind| kind.installed()).collect();
    let programs = [&["taskset", "wrk", "openssl"], installed.as_slice()].concat();
    machine::require(&programs)?;
    servers::prepare(true)?;
    if !options.built {
        build(&kinds)?;
    }
    let mut report = String::new();
    for row in ROWS.iter().filter(|row| options.wants_row(row.name)) {
        report += &measure(row, &kinds, options)?;
    }
    if options.wants_row(SLOW) {
        report += &slow(&kinds)?;
    }
    machine::record("proxy", &(machine::header(&programs, &CRATES)? + &report))
}

fn build(kinds: &[Kind]) -> Result<()> {
    build_peer("bare", false)?;
    if kinds.contains(&Kind::Ours) {
        shell::run("cargo build --release --quiet -p cli")?;
    }
    if kinds.contains(&Kind::Pingora) {
        build_peer("pingora-peer", false)?;
    }
    Ok(())
}

/// The bare loop behind a proxy, and the address where it tells how many connections it has accepted.
struct Backend {
    server: Server,
    counter: SocketAddr,
}

impl Backend {
    fn start(body: &Path, announce_close: bool) -> Result<Self> {
        let (addr, counter) = (free_addr()?, free_addr()?);
        let mut command = pinned(LOAD_CORE, &built(false, "bare", false));
        command.arg(addr.to_string()).arg("--counter").arg(counter.to_string()).arg("--body").arg(body);
        if announce_close {
            command.arg("--announce-close");
        }
        Ok(Self { server: spawn(command, addr, "backend")?, counter })
    }

    fn accepted(&self) -> Result<u64> {
        let mut text = String::new();
        TcpStream::connect(self.counter)?.read_to_string(&mut text)?;
        text.parse().context("the backend tells a number")
    }
}

fn start(kind: Kind, row: &Row, upstream: SocketAddr) -> Result<Server> {
    let addr = free_addr()?;
    let upstream = upstream.to_string();
    let out = scratch()?;
    let (certificate, key) = (out.join("cert.pem"), out.join("key.pem"));
    let listen = if row.tls { format!("{addr} ssl") } else { addr.to_string() };
    let command = match kind {
        Kind::Relay => {
            let mut command = pinned(SERVER_CORE, &built(false, "bare-relay", false));
            command.args([addr.to_string(), upstream]).args(row.close.then_some("--close"));
            command
        }
        Kind::Ours => {
            let config = configure("weaprous-proxy.conf", "weaprous", &[("UPSTREAM", &upstream)])?;
            let mut command = pinned(SERVER_CORE, &built(true, "weaprous", false));
            command.args(["proxy", "--server-port", &addr.port().to_string(), "--config"]).arg(config);
            command
        }
        Kind::Pingora => {
            let mut command = pinned(SERVER_CORE, &built(false, "pingora-peer", false));
            command.args([addr.to_string(), upstream]);
            if row.tls {
                command.arg(certificate).arg(key);
            }
            command
        }
        Kind::Nginx => {
            let tls = "ssl_certificate @OUT@/cert.pem; ssl_certificate_key @OUT@/key.pem;";
            let values =
                [("LISTEN", listen.as_str()), ("UPSTREAM", &upstream), ("CERTIFICATE", if row.tls { tls } else { "" })];
            let config = configure("nginx-proxy.conf", "nginx-proxy", &values)?;
            fs::create_dir_all(out.join("nginx-proxy"))?;
            let mut command = pinned(SERVER_CORE, Path::new("nginx"));
            command.arg("-p").arg(out.join("nginx-proxy")).arg("-c").arg(config);
            command
        }
        Kind::Haproxy => {
            let crt = if row.tls { format!(" crt {}", out.join("both.pem").display()) } else { String::new() };
            let values = [("LISTEN", format!("{listen}{crt}")), ("UPSTREAM", upstream)];
            let values: Vec<_> = values.iter().map(|(name, value)| (*name, value.as_str())).collect();
            let mut command = pinned(SERVER_CORE, Path::new("haproxy"));
            command.arg("-f").arg(configure("haproxy-proxy.cfg", "haproxy-proxy", &values)?);
            command
        }
    };
    spawn(command, addr, kind.name())
}

fn measure(row: &Row, kinds: &[Kind], options: &Options) -> Result<String> {
    // A bare relay knows no TLS; ours gets its certificate once its configuration has a directive for it.
    let able = |kind: &&Kind| !(row.tls && matches!(kind, Kind::Relay | Kind::Ours));
    let kinds: Vec<_> = kinds.iter().filter(able).copied().collect();
    if kinds.is_empty() {
        return Ok(String::new());
    }
    eprintln!("{}", row.title);
    let body = scratch()?.join("files").join(format!("relayed-{}", row.bytes));
    fs::write(&body, servers::contents(row.bytes))?;
    let mut running = Vec::new();
    for kind in &kinds {
        // Where the bare relay is to close, the client must be told so, and only the backend can.
        let backend = Backend::start(&body, row.close && *kind == Kind::Relay)?;
        let proxy = start(*kind, row, backend.server.addr)?;
        let expected = servers::contents(row.bytes);
        let ask = Ask { target: "/", post: None, body: &expected, close: row.close, tls: row.tls, http2: false };
        check::answer(proxy.addr, &ask).with_context(|| format!("{} relays wrongly", kind.name()))?;
        running.push((backend, proxy));
    }
    let scheme = if row.tls { "https" } else { "http" };
    let connections = row.clients.unwrap_or(options.connections);
    let fire = |which: usize, seconds: u64| {
        let (_, proxy) = &running[which];
        let url = format!("{scheme}://{}/", proxy.addr);
        let fields: &[&str] = if row.close { &["Connection: close"] } else { &[] };
        Load { url: &url, connections, seconds, script: None, fields, http2: false, calls: None }.fire(proxy.child.id())
    };
    for (which, kind) in kinds.iter().enumerate() {
        fire(which, WARM_UP_SECONDS).with_context(|| format!("while warming up {}", kind.name()))?;
    }
    let mut opened = vec![Vec::new(); kinds.len()];
    let names: Vec<_> = kinds.iter().map(|kind| kind.name()).collect();
    let columns = load::interleave(&names, options.rounds, |which| {
        let before = running[which].0.accepted()?;
        let shot = fire(which, options.seconds)?;
        opened[which].push((running[which].0.accepted()? - before).to_string());
        Ok(shot)
    })?;
    let title = format!(
        "{} (`{}`; {connections} connections, {} rounds of {} s)",
        row.title, row.name, options.rounds, options.seconds
    );
    let mut text = table::table(&title, names[0], &columns);
    text += "\nUpstream connections opened in the measured rounds:";
    for (name, opened) in names.iter().zip(&opened) {
        let _ = write!(text, " {name} {};", opened.join("+"));
    }
    text.push('\n');
    Ok(text)
}

/// Memory while one slow client reads 1 GiB from a fast upstream.
fn slow(kinds: &[Kind]) -> Result<String> {
    let body = scratch()?.join("files").join("relayed-1g");
    if !body.exists() {
        fs::write(&body, vec![b'a'; LARGE_BYTES])?;
    }
    let mut text = format!(
        "\n## One client reads 1 GiB at {} MiB/s from a fast upstream (`{SLOW}`)\n\n\
         | proxy | before, KiB | most, KiB | growth, KiB | seconds |\n|---|---:|---:|---:|---:|\n",
        SLOW_BYTES_PER_SECOND / KIB / KIB
    );
    for kind in kinds {
        eprintln!("slow client: {}", kind.name());
        let backend = Backend::start(&body, false)?;
        let proxy = start(*kind, &ROWS[0], backend.server.addr)?;
        let process = proxy.child.id();
        let before = cost::resident_bytes(process)?;
        let done = AtomicBool::new(false);
        let started = Instant::now();
        let (read, most) = thread::scope(|scope| {
            let watcher = scope.spawn(|| watch(process, &done));
            let read = read_slowly(proxy.addr);
            done.store(true, Relaxed);
            (read, watcher.join())
        });
        read.with_context(|| format!("reading through {}", kind.name()))?;
        let most = most.map_err(|_| anyhow::anyhow!("the watcher panicked"))?.max(before);
        let _ = writeln!(
            text,
            "| {} | {:.0} | {:.0} | {:.0} | {:.1} |",
            kind.name(),
            before / KIB as f64,
            most / KIB as f64,
            (most - before) / KIB as f64,
            started.elapsed().as_secs_f64()
        );
    }
    fs::remove_file(body)?;
    Ok(text)
}

/// The most memory that a process held until `done`.
fn watch(process: u32, done: &AtomicBool) -> f64 {
    let mut most = 0.0_f64;
    while !done.load(Relaxed) {
        most = most.max(cost::resident_bytes(process).unwrap_or_default());
        thread::sleep(LOOK);
    }
    most
}

fn read_slowly(addr: SocketAddr) -> Result<()> {
    let mut stream = TcpStream::connect(addr)?;
    stream.set_read_timeout(Some(READ_MAX))?;
    write!(stream, "GET / HTTP/1.1\r\nHost: {addr}\r\nConnection: close\r\n\r\n")?;
    let started = Instant::now();
    let mut chunk = vec![0; 256 * KIB];
    let mut total = 0;
    while total < LARGE_BYTES {
        let count = stream.read(&mut chunk)?;
        ensure!(count > 0, "only {total} bytes came");
        total += count;
        let due = Duration::from_secs_f64(total as f64 / SLOW_BYTES_PER_SECOND as f64);
        thread::sleep(due.saturating_sub(started.elapsed()));
    }
    Ok(())
}
