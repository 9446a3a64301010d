//! `bench proxy`: what a relayed request costs, beside other proxies and a bare relay that parses nothing.
//!
//! The backend is the bare loop, on the load's core; it counts the connections it accepts, so that each line tells how
//! many a proxy opened while it was measured.

use super::check::Ask;
use super::load::{self, Load};
use super::machine::{self, LOAD_CORE, pinned};
use super::options::Options;
use super::report::Report;
use super::servers::{self, CRATES, Server, behind, build_peer, built, configure, free_addr, scratch, spawn};
use super::{check, cost, count, table};
use crate::shell;
use anyhow::{Context, Result, ensure};
use rustix::process::Signal;
use std::fmt::Write as _;
use std::fs;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::thread;
use std::time::{Duration, Instant};

/// Load before the first measured round, in seconds: long enough for the pool of upstream connections to fill.
const WARM_UP_SECONDS: u64 = 2;
/// Shortest round where a thousand clients each wait for a mebibyte: none has it much earlier.
const CROWDED_SECONDS_MIN: u64 = 6;
/// How much of each second of a round passes before upstream connections are counted.
const SETTLING: Duration = Duration::from_millis(333);
/// What the slow client reads, and how fast.
const LARGE_BYTES: usize = 1024 * MIB;
/// The same in a smoke run.
const SMOKE_LARGE_BYTES: usize = 64 * MIB;
/// What a proxy may grow by meanwhile in a smoke run: a few buffers, and what the allocator keeps of them.
const SMOKE_GROWTH_MAX: f64 = 8.0 * MIB as f64;
const SLOW_BYTES_PER_SECOND: usize = 64 * MIB;
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
const MIB: usize = KIB * KIB;
/// Rows of a smoke run: small and large, kept and closed connections.
const SMOKE: [&str; 3] = ["13b", "1m", "new"];
const ROWS: [Row; 8] = [
    row("13b", "13 bytes", 13, None, false, false),
    row("13b-1000", "13 bytes, 1,000 clients", 13, Some(1000), false, false),
    row("1k", "1 KiB", KIB, None, false, false),
    row("1k-1000", "1 KiB, 1,000 clients", KIB, Some(1000), false, false),
    row("1m", "1 MiB", MIB, None, false, false),
    row("1m-1000", "1 MiB, 1,000 clients", MIB, Some(1000), false, false),
    row("new", "13 bytes, a new connection per request", 13, None, true, false),
    row("tls", "13 bytes, TLS in front", 13, None, false, true),
];
/// Rows that can be counted: small ones, kept and closed connections.
const COUNTED: [&str; 3] = ["13b", "1k", "new"];
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

impl Row {
    fn ask<'a>(&self, expected: &'a [u8]) -> Ask<'a> {
        Ask { target: "/", post: None, body: expected, close: self.close, tls: self.tls, http2: false }
    }
}

pub(crate) fn run(options: &Options) -> Result<()> {
    let rows: Vec<_> = ROWS.iter().map(|row| row.name).chain([SLOW]).collect();
    options.check_names(&rows, &Kind::ALL.map(Kind::name))?;
    let is_wanted = |kind: &Kind| options.wants_peer(kind.name()) && (!options.smoke || *kind == Kind::Ours);
    let kinds: Vec<_> = Kind::ALL.into_iter().filter(is_wanted).collect();
    let installed: Vec<_> = kinds.iter().filter_map(|kind| kind.installed()).collect();
    let generators: &[&str] = if options.smoke { &["taskset", "wrk"] } else { &["taskset", "wrk", "openssl", "curl"] };
    let programs = [generators, installed.as_slice()].concat();
    machine::require(&programs)?;
    servers::prepare(!options.smoke)?;
    if !options.built {
        build(&kinds, options.smoke)?;
    }
    let mut report = Report::default();
    for row in ROWS.iter().filter(|row| options.wants_row(row.name)) {
        if !options.smoke || SMOKE.contains(&row.name) {
            report.add(row.name, measure(row, &kinds, options));
        }
    }
    if options.wants_row(SLOW) {
        report.add(SLOW, slow(&kinds, options.smoke));
    }
    report.finish("proxy", options.smoke, &programs)
}

/// `bench proxy --count`: instructions and system calls per relayed request. The backend is not counted.
pub(crate) fn count(options: &Options) -> Result<()> {
    options.check_names(&COUNTED, &Kind::ALL.map(Kind::name))?;
    // haproxy does not start under valgrind.
    let is_wanted = |kind: &Kind| options.wants_peer(kind.name()) && *kind != Kind::Haproxy;
    let kinds: Vec<_> = Kind::ALL.into_iter().filter(is_wanted).collect();
    let installed: Vec<_> = kinds.iter().filter_map(|kind| kind.installed()).collect();
    let programs = [&count::PROGRAMS, installed.as_slice()].concat();
    machine::require(&programs)?;
    servers::prepare(false)?;
    if !options.built {
        build(&kinds, false)?;
    }
    let mut report = String::new();
    for row in ROWS.iter().filter(|row| COUNTED.contains(&row.name) && options.wants_row(row.name)) {
        report += &count::head(row.name);
        let body = relayed(row)?;
        let expected = servers::contents(row.bytes);
        for kind in &kinds {
            let backend = Backend::start(&body, row.close && *kind == Kind::Relay, false)?;
            let start = |wrapper: Option<&[String]>| start(*kind, row, backend.server.addr, false, wrapper);
            let ask = row.ask(&expected);
            // Pingora takes minutes over a graceful stop.
            let stop = if *kind == Kind::Pingora { Signal::INT } else { Signal::TERM };
            let (name, row) = (kind.name(), row.name);
            let subject = count::Subject { name, row, ask, script: None, depth: 1, stop, start: &start };
            report += &count::line(&subject, options);
        }
    }
    machine::record("proxy-count", &(machine::header(&programs, &CRATES)? + &report))
}

/// Writes the file that the backend of a row answers with.
fn relayed(row: &Row) -> Result<PathBuf> {
    let body = scratch()?.join("files").join(format!("relayed-{}", row.bytes));
    fs::write(&body, servers::contents(row.bytes))?;
    Ok(body)
}

fn build(kinds: &[Kind], smoke: bool) -> Result<()> {
    build_peer("bare", smoke)?;
    if kinds.contains(&Kind::Ours) {
        shell::run(&format!("cargo build{} --quiet -p cli", if smoke { "" } else { " --release" }))?;
    }
    if kinds.contains(&Kind::Pingora) {
        build_peer("pingora-peer", smoke)?;
    }
    Ok(())
}

/// The bare loop behind a proxy, and the address where it tells how many connections it has accepted.
struct Backend {
    server: Server,
    counter: SocketAddr,
}

impl Backend {
    fn start(body: &Path, announce_close: bool, smoke: bool) -> Result<Self> {
        let (addr, counter) = (free_addr()?, free_addr()?);
        let mut command = pinned(LOAD_CORE, &built(false, "bare", smoke));
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

fn start(kind: Kind, row: &Row, upstream: SocketAddr, smoke: bool, wrapper: Option<&[String]>) -> Result<Server> {
    let addr = free_addr()?;
    let upstream = upstream.to_string();
    let out = scratch()?;
    let (certificate, key) = (out.join("cert.pem"), out.join("key.pem"));
    let listen = if row.tls { format!("{addr} ssl") } else { addr.to_string() };
    let command = match kind {
        Kind::Relay => {
            let mut command = behind(wrapper, &built(false, "bare-relay", false));
            command.args([addr.to_string(), upstream]).args(row.close.then_some("--close"));
            command
        }
        Kind::Ours => {
            let tls = format!("tls {{ certificate {} key {}; }}", certificate.display(), key.display());
            let listen = if row.tls { format!("listen {addr} {tls}") } else { format!("listen {addr};") };
            let values = [("LISTEN", listen.as_str()), ("UPSTREAM", &upstream)];
            let config = configure("weaprous-proxy.conf", "weaprous", &values)?;
            let mut command = behind(wrapper, &built(true, "weaprous", smoke));
            command.args(["proxy", "--no-watch", "--config"]).arg(config);
            command
        }
        Kind::Pingora => {
            let mut command = behind(wrapper, &built(false, "pingora-peer", false));
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
            let mut command = behind(wrapper, Path::new("nginx"));
            command.arg("-p").arg(out.join("nginx-proxy")).arg("-c").arg(config);
            command
        }
        Kind::Haproxy => {
            let crt = if row.tls { format!(" crt {}", out.join("both.pem").display()) } else { String::new() };
            let values = [("LISTEN", format!("{listen}{crt}")), ("UPSTREAM", upstream)];
            let values: Vec<_> = values.iter().map(|(name, value)| (*name, value.as_str())).collect();
            let mut command = behind(wrapper, Path::new("haproxy"));
            command.arg("-f").arg(configure("haproxy-proxy.cfg", "haproxy-proxy", &values)?);
            command
        }
    };
    spawn(command, addr, kind.name())
}

fn measure(row: &Row, kinds: &[Kind], options: &Options) -> Result<String> {
    // A bare relay knows no TLS.
    let able = |kind: &&Kind| !(row.tls && **kind == Kind::Relay);
    let kinds: Vec<_> = kinds.iter().filter(able).copied().collect();
    if kinds.is_empty() {
        return Ok(String::new());
    }
    eprintln!("{}", row.title);
    let body = relayed(row)?;
    let mut running = Vec::new();
    for kind in &kinds {
        // Where the bare relay is to close, the client must be told so, and only the backend can.
        let backend = Backend::start(&body, row.close && *kind == Kind::Relay, options.smoke)?;
        let proxy = start(*kind, row, backend.server.addr, options.smoke, None)?;
        let expected = servers::contents(row.bytes);
        check::answer(proxy.addr, &row.ask(&expected)).with_context(|| format!("{} relays wrongly", kind.name()))?;
        running.push((backend, proxy));
    }
    let scheme = if row.tls { "https" } else { "http" };
    let connections = row.clients.unwrap_or(options.connections);
    let seconds =
        if connections * row.bytes >= 1000 * MIB { options.seconds.max(CROWDED_SECONDS_MIN) } else { options.seconds };
    let fire = |which: usize, seconds: u64| {
        let (_, proxy) = &running[which];
        let url = format!("{scheme}://{}/", proxy.addr);
        let fields: &[&str] = if row.close { &["Connection: close"] } else { &[] };
        Load { url: &url, connections, seconds, script: None, fields, http2: false, calls: None }.fire(proxy.child.id())
    };
    let mut opened = vec![Vec::new(); kinds.len()];
    let names: Vec<_> = kinds.iter().map(|kind| kind.name()).collect();
    let (columns, notes) = load::compete(&names, options.rounds, true, |which, is_warm_up| {
        if is_warm_up {
            return fire(which, if seconds > options.seconds { seconds } else { WARM_UP_SECONDS });
        }
        let backend = &running[which].0;
        // Clients of the round before left in the midst of an exchange, and took their upstream connections along.
        let (shot, settled) = thread::scope(|scope| {
            let settled = scope.spawn(|| {
                thread::sleep(SETTLING.mul_f64(seconds as f64));
                backend.accepted()
            });
            (fire(which, seconds), settled.join())
        });
        let settled = settled.map_err(|_| anyhow::anyhow!("the counting thread panicked"))??;
        let (shot, count) = (shot?, backend.accepted()? - settled);
        let is_steady = count == 0 || row.close || !options.smoke;
        ensure!(is_steady, "row {}: {count} upstream connections were opened in steady state", row.name);
        opened[which].push(count.to_string());
        Ok(shot)
    })?;
    let title = format!(
        "{} (`{}`; {connections} connections, {} rounds of {} s)",
        row.title, row.name, options.rounds, seconds
    );
    let mut text = table::table(&title, names[0], &columns);
    text += "\nUpstream connections opened in the last two thirds of each round:";
    for (name, opened) in names.iter().zip(&opened) {
        let _ = write!(text, " {name} {};", opened.join("+"));
    }
    text.push('\n');
    Ok(text + &notes)
}

/// Memory while one slow client reads much from a fast upstream.
fn slow(kinds: &[Kind], smoke: bool) -> Result<String> {
    let bytes = if smoke { SMOKE_LARGE_BYTES } else { LARGE_BYTES };
    let body = scratch()?.join("files").join("relayed-large");
    fs::write(&body, vec![b'a'; bytes])?;
    let mut text = format!(
        "\n## One client reads {} MiB at {} MiB/s from a fast upstream (`{SLOW}`)\n\n\
         | proxy | before, KiB | most, KiB | growth, KiB | seconds |\n|---|---:|---:|---:|---:|\n",
        bytes / MIB,
        SLOW_BYTES_PER_SECOND / MIB
    );
    for kind in kinds {
        eprintln!("slow client: {}", kind.name());
        match grown(*kind, &body, bytes, smoke).with_context(|| format!("reading slowly through {}", kind.name())) {
            Ok(line) => text += &line,
            Err(error) if *kind == Kind::Ours => return Err(error),
            Err(error) => {
                eprintln!("{error:#}");
                let _ = writeln!(text, "| {} | – | – | failed | – |", kind.name());
            }
        }
    }
    fs::remove_file(body)?;
    Ok(text)
}

/// The line of one proxy.
fn grown(kind: Kind, body: &Path, bytes: usize, smoke: bool) -> Result<String> {
    let backend = Backend::start(body, false, smoke)?;
    let proxy = start(kind, &ROWS[0], backend.server.addr, smoke, None)?;
    let process = proxy.child.id();
    let before = cost::resident_bytes(process)?;
    let done = AtomicBool::new(false);
    let started = Instant::now();
    let (read, most) = thread::scope(|scope| {
        let watcher = scope.spawn(|| watch(process, &done));
        let read = read_slowly(proxy.addr, bytes);
        done.store(true, Relaxed);
        (read, watcher.join())
    });
    read?;
    let most = most.map_err(|_| anyhow::anyhow!("the watcher panicked"))?.max(before);
    let growth = most - before;
    ensure!(!smoke || growth <= SMOKE_GROWTH_MAX, "a slow client makes the proxy grow by {growth:.0} bytes");
    Ok(format!(
        "| {} | {:.0} | {:.0} | {:.0} | {:.1} |\n",
        kind.name(),
        before / KIB as f64,
        most / KIB as f64,
        growth / KIB as f64,
        started.elapsed().as_secs_f64()
    ))
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

fn read_slowly(addr: SocketAddr, bytes: usize) -> Result<()> {
    let mut stream = TcpStream::connect(addr)?;
    stream.set_read_timeout(Some(READ_MAX))?;
    write!(stream, "GET / HTTP/1.1\r\nHost: {addr}\r\nConnection: close\r\n\r\n")?;
    let started = Instant::now();
    let mut chunk = vec![0; 256 * KIB];
    let mut total = 0;
    while total < bytes {
        let count = stream.read(&mut chunk)?;
        ensure!(count > 0, "only {total} bytes came");
        total += count;
        let due = Duration::from_secs_f64(total as f64 / SLOW_BYTES_PER_SECOND as f64);
        thread::sleep(due.saturating_sub(started.elapsed()));
    }
    Ok(())
}
