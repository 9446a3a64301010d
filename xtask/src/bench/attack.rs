//! `bench attack`: what normal clients notice of thousands of slow ones beside them.
//!
//! The slow clients come first; the normal ones (`wrk`) are measured without them, and with them once their deadlines
//! have begun to expire and they have begun to come back. They share the load's core with `wrk`, at a lower priority:
//! a bare loop, which keeps no state that could suffer, shows how much of the difference is the load generator's own.

use super::http::{self, ROWS};
use super::load::{Load, Shot, interleave};
use super::options::Options;
use super::report::Report;
use super::servers::{self, HELLO, Kind, Setup};
use super::table::Column;
use super::{cost, machine};
use anyhow::{Context, Result, ensure};
use std::fmt::Write as _;
use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

/// Each slow client does one thing in this time.
const BEAT: Duration = Duration::from_secs(2);
/// Parts of a beat, so that not all act at once.
const SLICES: u32 = 20;
/// How long the attack runs before the normal clients are measured: longer than a usual deadline for a head, so that
/// cutting and coming back are in full swing.
const LEAD: Duration = Duration::from_secs(12);
const SMOKE_LEAD: Duration = Duration::from_secs(2);
/// How long a slow client may take to connect.
const CONNECT_MAX: Duration = Duration::from_secs(1);
/// What a slow reader lets its socket hold, and how much it takes in one beat.
const READER_BUFFER_BYTES: usize = 4096;
const READER_BYTES: usize = 256;
/// Requests that a slow reader sends at once where there is no large file to ask for.
const READER_REQUESTS: usize = 200;
/// The load's own threads have priority over the slow clients by this much.
const NICENESS: i32 = 5;
/// Normal clients may be slowed this much, in their 99th percentile, by the attack.
const P99_RATIO_MAX: f64 = 2.0;
/// Differences below this are the noise of a short run on a busy machine, in milliseconds.
const SMOKE_SLACK_MS: f64 = 10.0;
/// Share of the throughput that a smoke run must keep under attack.
const SMOKE_THROUGHPUT_MIN: f64 = 0.5;
/// Tries of a smoke run at most.
const SMOKE_TRIES: u32 = 5;
/// Rounds under attack, at most: each takes a quarter of a minute, and its figures hardly differ from one to the next.
const ROUNDS_MAX: usize = 3;
/// Memory that a slow client may cost in a smoke run, in bytes; the engine's debug build needs a third of it.
const SMOKE_MEMORY_MAX: f64 = 128.0 * 1024.0;

const DEFAULT: [Kind; 5] = [Kind::Bare, Kind::Engine, Kind::App, Kind::Hyper, Kind::Nginx];
const SMOKE: [Kind; 2] = [Kind::Engine, Kind::App];

pub(crate) fn run(options: &Options) -> Result<()> {
    options.check_names(&[], &Kind::ALL.map(Kind::name))?;
    let among: &[Kind] = if options.smoke { &SMOKE } else { &DEFAULT };
    let kinds = http::chosen(options, among);
    let installed: Vec<_> = kinds.iter().filter_map(|kind| kind.installed()).collect();
    let programs = [&["taskset", "wrk"], installed.as_slice()].concat();
    machine::require(&programs)?;
    servers::prepare(false)?;
    servers::build(&kinds, options)?;
    let head = format!(
        "\n## Normal clients beside {} slow ones\n\n{} normal connections asking for 13 bytes; {} rounds of {} s each \
         way. A quarter each of the slow ones sends its head by a byte every {} s, sends its body so, asks for much \
         and hardly reads, says nothing at all; who is cut comes back.\n\n\
         | server | requests/s | under attack | ratio | p99 ms | under attack | ratio | CPU µs | under attack \
         | slow ones cut | refused | memory per slow one |\n|---|---:|---:|---:|---:|---:|---:|---:|---:|---:|---:|---:|\n",
        options.clients,
        options.connections,
        options.rounds.min(ROUNDS_MAX),
        options.seconds,
        BEAT.as_secs(),
    );
    let mut rows = Report::default();
    rows.add("head", Ok(head));
    for kind in kinds {
        rows.add(kind.name(), attack(kind, options).with_context(|| format!("while {} was attacked", kind.name())));
    }
    rows.finish("attack", options.smoke, &programs)
}

/// The line of one server; a smoke run judges it.
fn attack(kind: Kind, options: &Options) -> Result<String> {
    let mut best: Option<Judged> = None;
    for tries in 1.. {
        eprintln!("attack on {}", kind.name());
        let outcome = measure(kind, options)?;
        if !options.smoke {
            return Ok(outcome.line(kind));
        }
        outcome.judge(kind, options.clients)?;
        let judged = best.map_or(outcome.judged(), |best| best.with(outcome.judged()));
        match judged.verdict(kind) {
            Ok(()) => return Ok(outcome.line(kind)),
            Err(error) if tries == SMOKE_TRIES => return Err(error),
            Err(error) => eprintln!("{error}; once more"),
        }
        best = Some(judged);
    }
    unreachable!("the loop ends by returning")
}

/// What other load on the machine may spoil, over all tries: the worst without an attack, the best under it. A server
/// that suffers does so every time.
#[derive(Clone, Copy)]
struct Judged {
    quiet_p99_ms: f64,
    attacked_p99_ms: f64,
    throughput_kept: f64,
}

impl Judged {
    fn with(self, other: Self) -> Self {
        Self {
            quiet_p99_ms: self.quiet_p99_ms.max(other.quiet_p99_ms),
            attacked_p99_ms: self.attacked_p99_ms.min(other.attacked_p99_ms),
            throughput_kept: self.throughput_kept.max(other.throughput_kept),
        }
    }

    fn verdict(self, kind: Kind) -> Result<()> {
        let Self { quiet_p99_ms, attacked_p99_ms, throughput_kept } = self;
        let (name, allowed) = (kind.name(), (quiet_p99_ms * P99_RATIO_MAX).max(quiet_p99_ms + SMOKE_SLACK_MS));
        ensure!(
            attacked_p99_ms <= allowed,
            "{name}: p99 of normal clients is {attacked_p99_ms:.1} ms under attack, at most {allowed:.1}"
        );
        ensure!(
            throughput_kept >= SMOKE_THROUGHPUT_MIN,
            "{name}: only {throughput_kept:.2} of the throughput is left under attack"
        );
        Ok(())
    }
}

/// What was measured of one server.
struct Outcome {
    quiet: Column,
    attacked: Column,
    cut: usize,
    refused: usize,
    bytes_per_client: f64,
}

impl Outcome {
    fn line(&self, kind: Kind) -> String {
        let (quiet, attacked) = (&self.quiet, &self.attacked);
        let mut text = String::new();
        let _ = writeln!(
            text,
            "| {} | {:.0} | {:.0} | {:.2} | {:.2} | {:.2} | {:.2} | {:.2} | {:.2} | {} | {} | {:.0} B |",
            kind.name(),
            quiet.median(|shot| shot.per_second),
            attacked.median(|shot| shot.per_second),
            attacked.ratio(quiet, |shot| shot.per_second),
            quiet.median(|shot| shot.p99_ms),
            attacked.median(|shot| shot.p99_ms),
            attacked.ratio(quiet, |shot| shot.p99_ms),
            quiet.median(Shot::cpu_us),
            attacked.median(Shot::cpu_us),
            self.cut,
            self.refused,
            self.bytes_per_client,
        );
        text
    }

    fn judged(&self) -> Judged {
        let (quiet, attacked) = (&self.quiet, &self.attacked);
        Judged {
            quiet_p99_ms: quiet.median(|shot| shot.p99_ms),
            attacked_p99_ms: attacked.median(|shot| shot.p99_ms),
            throughput_kept: attacked.ratio(quiet, |shot| shot.per_second),
        }
    }

    /// What a short run can tell whatever else the machine does.
    fn judge(&self, kind: Kind, clients: usize) -> Result<()> {
        let name = kind.name();
        ensure!(self.refused == 0, "{name}: {} of {clients} slow clients could not connect", self.refused);
        let memory = self.bytes_per_client;
        ensure!(memory <= SMOKE_MEMORY_MAX, "{name}: a slow client costs {memory:.0} bytes of memory");
        Ok(())
    }
}

fn measure(kind: Kind, options: &Options) -> Result<Outcome> {
    let row = &ROWS[0];
    let (body, close, tls) = row.setup(options)?;
    let setup = Setup { body: &body, close, tls, smoke: options.smoke, wrapper: None };
    let server = servers::start_checked(&[kind], &setup, &row.ask("/", HELLO))?.remove(0);
    let url = format!("http://{}/", server.addr);
    let fire = || {
        let (connections, seconds) = (options.connections, options.seconds);
        Load { url: &url, connections, seconds, script: None, fields: &[], http2: false, calls: None }
            .fire(server.child.id())
    };
    fire()?;
    let resident = || cost::resident_bytes(server.child.id());
    let (mut cut, mut refused, mut bytes) = (0, 0, 0.0_f64);
    let mut columns = interleave(&["quiet", "attacked"], options.rounds.min(ROUNDS_MAX), |which| {
        if which == 0 {
            return fire();
        }
        let before = resident()?;
        let attack = Attack::begin(server.addr, options.clients, large_file(kind))?;
        thread::sleep(if options.smoke { SMOKE_LEAD } else { LEAD });
        let shot = fire();
        bytes = bytes.max(resident()? - before);
        let told = attack.end();
        cut += told.0;
        refused += told.1;
        shot
    })?;
    let attacked = columns.remove(1);
    let bytes_per_client = bytes / options.clients as f64;
    Ok(Outcome { quiet: columns.remove(0), attacked, cut, refused, bytes_per_client })
}

/// Whether a server has the large file to ask for.
fn large_file(kind: Kind) -> bool {
    !matches!(kind, Kind::Bare | Kind::Engine | Kind::Hyper | Kind::May | Kind::Haproxy)
}

#[derive(Clone, Copy)]
enum Manner {
    Head,
    Body,
    Reader { file: bool },
    Silent,
}

struct Slow {
    manner: Manner,
    stream: Option<TcpStream>,
}

/// What happened to all of them.
#[derive(Default)]
struct Fate {
    /// Connections that the server ended.
    cut: AtomicUsize,
    /// Connections that it did not accept.
    refused: AtomicUsize,
}

/// Slow clients at work on a thread of their own.
struct Attack {
    stop: Arc<AtomicBool>,
    fate: Arc<Fate>,
    thread: JoinHandle<()>,
}

impl Attack {
    /// Connects all of them, then lets them be slow until [`Attack::end`].
    fn begin(addr: SocketAddr, clients: usize, file: bool) -> Result<Self> {
        let (stop, fate) = (Arc::new(AtomicBool::new(false)), Arc::new(Fate::default()));
        let manners = [Manner::Head, Manner::Body, Manner::Reader { file }, Manner::Silent];
        let mut slow: Vec<_> =
            (0..clients).map(|number| Slow { manner: manners[number % manners.len()], stream: None }).collect();
        for client in &mut slow {
            client.act(addr, &fate);
        }
        let thread = {
            let (stop, fate) = (stop.clone(), fate.clone());
            thread::Builder::new().name("slow clients".to_owned()).spawn(move || beat(addr, &mut slow, &stop, &fate))?
        };
        Ok(Self { stop, fate, thread })
    }

    /// Ends it; how many were cut and how many refused.
    fn end(self) -> (usize, usize) {
        self.stop.store(true, Relaxed);
        let _ = self.thread.join(); // it does not panic, and if it did there is nothing to clean up
        (self.fate.cut.load(Relaxed), self.fate.refused.load(Relaxed))
    }
}

fn beat(addr: SocketAddr, slow: &mut [Slow], stop: &AtomicBool, fate: &Fate) {
    // Where it is not allowed, the figures are the worse for it, never the better.
    let mut core = rustix::thread::CpuSet::new();
    core.set(1);
    let _ = rustix::thread::sched_setaffinity(None, &core);
    let _ = rustix::process::nice(NICENESS);
    let slice = slow.len().div_ceil(SLICES as usize);
    loop {
        for part in slow.chunks_mut(slice) {
            let started = Instant::now();
            for client in part {
                client.act(addr, fate);
            }
            if stop.load(Relaxed) {
                return;
            }
            thread::sleep((BEAT / SLICES).saturating_sub(started.elapsed()));
        }
    }
}

impl Slow {
    /// One beat: join if outside, otherwise do the least that this manner does.
    fn act(&mut self, addr: SocketAddr, fate: &Fate) {
        let Some(stream) = &mut self.stream else {
            match Self::join(addr, self.manner) {
                Ok(stream) => self.stream = Some(stream),
                Err(_) => drop(fate.refused.fetch_add(1, Relaxed)),
            }
            return;
        };
        if step(stream, self.manner).is_err() {
            self.stream = None;
            fate.cut.fetch_add(1, Relaxed);
        }
    }

    fn join(addr: SocketAddr, manner: Manner) -> std::io::Result<TcpStream> {
        let mut stream = TcpStream::connect_timeout(&addr, CONNECT_MAX)?;
        if let Manner::Reader { .. } = manner {
            rustix::net::sockopt::set_socket_recv_buffer_size(&stream, READER_BUFFER_BYTES)?;
        }
        let first = match manner {
            Manner::Head => "GET / HTTP/1.1\r\nHost: a\r\nX-Slow: ".to_owned(),
            Manner::Body => "POST /echo HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\n\
                             Content-Length: 100000\r\n\r\n"
                .to_owned(),
            Manner::Reader { file: true } => "GET /files/10m.bin HTTP/1.1\r\nHost: a\r\n\r\n".to_owned(),
            Manner::Reader { file: false } => "GET / HTTP/1.1\r\nHost: a\r\n\r\n".repeat(READER_REQUESTS),
            Manner::Silent => String::new(),
        };
        stream.write_all(first.as_bytes())?;
        stream.set_nonblocking(true)?;
        Ok(stream)
    }
}

/// Fails when the server has ended the connection.
fn step(stream: &mut TcpStream, manner: Manner) -> std::io::Result<()> {
    let mut bytes = [0; READER_BYTES];
    match stream.read(&mut bytes) {
        Ok(0) => return Err(ErrorKind::UnexpectedEof.into()),
        Ok(_) => {} // a refusal, whose end will be seen at the next beat, or what a reader asked for
        Err(error) if error.kind() == ErrorKind::WouldBlock => {}
        Err(error) => return Err(error),
    }
    if matches!(manner, Manner::Head | Manner::Body)
        && let Err(error) = stream.write(b"a")
        && error.kind() != ErrorKind::WouldBlock
    {
        return Err(error);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_busy_machine_spoils_a_try_and_a_server_that_suffers_all() {
        let judged =
            |quiet_p99_ms, attacked_p99_ms, throughput_kept| Judged { quiet_p99_ms, attacked_p99_ms, throughput_kept };
        let (spoilt, good) = (judged(9.0, 150.0, 0.4), judged(8.0, 15.0, 0.9));
        assert!(spoilt.verdict(Kind::App).is_err() && spoilt.with(good).verdict(Kind::App).is_ok());
        let suffering = judged(9.0, 80.0, 0.8);
        assert!(suffering.with(suffering).with(judged(12.0, 60.0, 0.9)).verdict(Kind::App).is_err());
        assert!(judged(9.0, 9.0, 0.4).with(judged(9.0, 9.0, 0.3)).verdict(Kind::App).is_err());
    }
}
