//! `bench attack`: what normal clients notice of thousands of slow ones beside them.
//!
//! Each round measures a server's normal clients (`pace`: a fixed load) without slow ones, then lets the slow ones come,
//! and measures again once their deadlines have begun to expire and they have begun to come back. Slow ones share the
//! load's core at a lower priority: a bare loop, which keeps no state that could suffer, shows in the same rounds how
//! much of the difference is the machine's own.

use super::http::{self, ROWS};
use super::load::Shot;
use super::options::Options;
use super::pace::{PER_SECOND, Pace};
use super::report::Report;
use super::servers::{self, HELLO, Kind, Server, Setup};
use super::table::{Column, median};
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
/// Parts of a beat: strangers do not act at once, so 10,000 of them come in groups of 25.
const SLICES: u32 = 400;
/// Time over which they come, so that their deadlines are spread as well.
const JOINING: Duration = Duration::from_secs(8);
const SMOKE_JOINING: Duration = Duration::from_secs(1);
/// How long the attack runs before the normal clients are measured: longer than all of them need to come and a usual
/// deadline for a head, so that cutting and coming back are in full swing.
const LEAD: Duration = Duration::from_secs(20);
const SMOKE_LEAD: Duration = Duration::from_secs(2);
/// Shortest round, in seconds: enough requests behind its 99th percentile.
const SECONDS_MIN: u64 = 5;
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
/// Rounds at most: each takes half a minute per server.
const ROUNDS_MAX: usize = 5;
/// Memory that a slow client may cost in a smoke run, in bytes; the engine's debug build needs a third of it.
const SMOKE_MEMORY_MAX: f64 = 128.0 * 1024.0;

const DEFAULT: [Kind; 5] = [Kind::Bare, Kind::Engine, Kind::App, Kind::Hyper, Kind::Nginx];
const SMOKE: [Kind; 2] = [Kind::Engine, Kind::App];

pub(crate) fn run(options: &Options) -> Result<()> {
    options.check_names(&[], &Kind::ALL.map(Kind::name))?;
    let among: &[Kind] = match (options.smoke, options.names_peers()) {
        (true, _) => &SMOKE,
        (false, false) => &DEFAULT,
        (false, true) => &Kind::ALL,
    };
    let kinds = http::chosen(options, among);
    let installed: Vec<_> = kinds.iter().filter_map(|kind| kind.installed()).collect();
    let programs = [&["taskset"], installed.as_slice()].concat();
    machine::require(&programs)?;
    servers::prepare(false)?;
    servers::build(&kinds, options)?;
    let mut rows = Report::default();
    rows.add("head", Ok(head(options)));
    if options.smoke {
        for kind in kinds {
            rows.add(kind.name(), judged(kind, options).with_context(|| format!("while {} was attacked", kind.name())));
        }
    } else {
        compare(&kinds, options, &mut rows);
    }
    rows.finish("attack", options.smoke, &programs)
}

fn head(options: &Options) -> String {
    format!(
        "\n## Normal clients beside {} slow ones\n\n{} normal connections, each of which asks for 13 bytes {PER_SECOND} \
         times per second; {} rounds of {} s without the slow ones and then as long with them. A quarter each of the slow \
         ones sends its head by a byte every {} s, sends its body so, asks for much and hardly reads, says nothing at all; \
         who is cut comes back. Ratios are those within a round: their median, the least and the greatest, and the median \
         of what they are as a multiple of the bare loop's in the same round.\n\n\
         | server | answered/s | under attack | p50 ms | under attack | p99 ms | under attack | ratio | least–greatest \
         | × bare | CPU µs | under attack | slow ones cut | refused | memory per slow one |\n\
         |---|---:|---:|---:|---:|---:|---:|---:|---:|---:|---:|---:|---:|---:|---:|\n",
        options.clients,
        options.connections,
        rounds(options),
        seconds(options),
        BEAT.as_secs(),
    )
}

fn rounds(options: &Options) -> usize {
    options.rounds.min(ROUNDS_MAX)
}

fn seconds(options: &Options) -> u64 {
    if options.smoke { options.seconds } else { options.seconds.max(SECONDS_MIN) }
}

/// All servers, round by round; one that fails does not cost the others their figures.
fn compare(kinds: &[Kind], options: &Options, rows: &mut Report) {
    let mut attacked: Vec<_> = kinds.iter().map(|kind| Attacked::start(*kind, options)).collect();
    for number in 0..rounds(options) {
        for (kind, attacked) in kinds.iter().zip(&mut attacked) {
            let Ok(running) = attacked else { continue };
            if let Err(error) = running.round(number, options) {
                *attacked = Err(error);
            }
            if let Err(error) = attacked {
                eprintln!("{} fails: {error:#}", kind.name());
            }
        }
    }
    let bare = attacked.iter().flatten().find(|attacked| attacked.kind == Kind::Bare).map(Attacked::p99_ratios);
    for (kind, attacked) in kinds.iter().zip(attacked) {
        let line = attacked.map(|attacked| attacked.line(bare.as_deref()));
        rows.add(kind.name(), line.with_context(|| format!("while {} was attacked", kind.name())));
    }
}

/// The line of one server in a smoke run, which judges it.
fn judged(kind: Kind, options: &Options) -> Result<String> {
    let mut best: Option<Judged> = None;
    for tries in 1.. {
        let mut attacked = Attacked::start(kind, options)?;
        attacked.round(0, options)?;
        attacked.judge(options.clients)?;
        let judged = best.map_or(attacked.judged(), |best| best.with(attacked.judged()));
        match judged.verdict(kind) {
            Ok(()) => return Ok(attacked.line(None)),
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

/// One server, and what was measured of it.
struct Attacked {
    kind: Kind,
    server: Server,
    quiet: Column,
    /// Beside slow clients.
    beside: Column,
    cut: usize,
    refused: usize,
    bytes_per_client: f64,
}

impl Attacked {
    fn start(kind: Kind, options: &Options) -> Result<Self> {
        let row = &ROWS[0];
        let (body, close, tls) = row.setup(options)?;
        let setup = Setup { body: &body, close, tls, smoke: options.smoke, wrapper: None };
        let server = servers::start_checked(&[kind], &setup, &row.ask("/", HELLO))?.remove(0);
        let column = || Column { name: kind.name(), shots: Vec::new() };
        let (quiet, beside) = (column(), column());
        let mut started = Self { kind, server, quiet, beside, cut: 0, refused: 0, bytes_per_client: 0.0 };
        started.fire(options)?; // to warm up
        Ok(started)
    }

    fn fire(&mut self, options: &Options) -> Result<Shot> {
        let ask = ROWS[0].ask("/", HELLO);
        let (connections, seconds) = (options.connections, seconds(options));
        Pace { addr: self.server.addr, ask: &ask, connections, seconds }.fire(self.server.child.id())
    }

    /// Once without slow clients and once with them.
    fn round(&mut self, number: usize, options: &Options) -> Result<()> {
        let quiet = self.fire(options)?;
        let before = cost::resident_bytes(self.server.child.id())?;
        let joining = if options.smoke { SMOKE_JOINING } else { JOINING };
        let attack = Attack::begin(self.server.addr, options.clients, joining, large_file(self.kind))?;
        thread::sleep(if options.smoke { SMOKE_LEAD } else { LEAD });
        let attacked = self.fire(options);
        let grown = cost::resident_bytes(self.server.child.id())? - before;
        let (cut, refused) = attack.end();
        let attacked = attacked?;
        eprintln!(
            "  round {number} {:<8} p99 {:>7.3} ms, under attack {:>7.3} ms, {cut} cut",
            self.kind.name(),
            quiet.p99_ms,
            attacked.p99_ms
        );
        self.quiet.shots.push(quiet);
        self.beside.shots.push(attacked);
        self.cut += cut;
        self.refused += refused;
        self.bytes_per_client = self.bytes_per_client.max(grown / options.clients as f64);
        Ok(())
    }

    /// What the attack does to the 99th percentile, round by round.
    fn p99_ratios(&self) -> Vec<f64> {
        self.quiet
            .shots
            .iter()
            .zip(&self.beside.shots)
            .map(|(quiet, attacked)| attacked.p99_ms / quiet.p99_ms)
            .collect()
    }

    fn line(&self, bare: Option<&[f64]>) -> String {
        let (quiet, attacked) = (&self.quiet, &self.beside);
        let ratios = self.p99_ratios();
        let (least, greatest) =
            ratios.iter().fold((f64::INFINITY, 0.0_f64), |(low, high), ratio| (low.min(*ratio), high.max(*ratio)));
        let times_bare = bare.map_or_else(
            || "–".to_owned(),
            |bare| format!("{:.2}", median(ratios.iter().zip(bare).map(|(own, bare)| own / bare).collect())),
        );
        let mut text = String::new();
        let _ = writeln!(
            text,
            "| {} | {:.0} | {:.0} | {:.3} | {:.3} | {:.3} | {:.3} | {:.2} | {least:.2}–{greatest:.2} | {times_bare} \
             | {:.2} | {:.2} | {} | {} | {:.0} B |",
            self.kind.name(),
            quiet.median(|shot| shot.per_second),
            attacked.median(|shot| shot.per_second),
            quiet.median(|shot| shot.p50_ms),
            attacked.median(|shot| shot.p50_ms),
            quiet.median(|shot| shot.p99_ms),
            attacked.median(|shot| shot.p99_ms),
            median(ratios),
            quiet.median(Shot::cpu_us),
            attacked.median(Shot::cpu_us),
            self.cut,
            self.refused,
            self.bytes_per_client,
        );
        text
    }

    fn judged(&self) -> Judged {
        let (quiet, attacked) = (&self.quiet, &self.beside);
        Judged {
            quiet_p99_ms: quiet.median(|shot| shot.p99_ms),
            attacked_p99_ms: attacked.median(|shot| shot.p99_ms),
            throughput_kept: attacked.ratio(quiet, |shot| shot.per_second),
        }
    }

    /// What a short run can tell whatever else the machine does.
    fn judge(&self, clients: usize) -> Result<()> {
        let name = self.kind.name();
        ensure!(self.refused == 0, "{name}: {} of {clients} slow clients could not connect", self.refused);
        let memory = self.bytes_per_client;
        ensure!(memory <= SMOKE_MEMORY_MAX, "{name}: a slow client costs {memory:.0} bytes of memory");
        Ok(())
    }
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
    /// Has them come within `joining`, each slow from then on, until [`Attack::end`].
    fn begin(addr: SocketAddr, clients: usize, joining: Duration, file: bool) -> Result<Self> {
        let (stop, fate) = (Arc::new(AtomicBool::new(false)), Arc::new(Fate::default()));
        let manners = [Manner::Head, Manner::Body, Manner::Reader { file }, Manner::Silent];
        let mut slow: Vec<_> =
            (0..clients).map(|number| Slow { manner: manners[number % manners.len()], stream: None }).collect();
        let thread = {
            let (stop, fate) = (stop.clone(), fate.clone());
            let work = move || {
                machine::stay_on_load_core();
                let _ = rustix::process::nice(NICENESS); // where it is not allowed, the figures are the worse for it
                turns(addr, &mut slow, joining, &stop, &fate);
                while !stop.load(Relaxed) {
                    turns(addr, &mut slow, BEAT, &stop, &fate);
                }
            };
            thread::Builder::new().name("slow clients".to_owned()).spawn(work)?
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

/// Gives each client its turn, spread evenly over `time`.
fn turns(addr: SocketAddr, slow: &mut [Slow], time: Duration, stop: &AtomicBool, fate: &Fate) {
    let slice = slow.len().div_ceil(SLICES as usize);
    let begun = Instant::now();
    for (number, part) in (1..).zip(slow.chunks_mut(slice)) {
        for client in part {
            client.act(addr, fate);
        }
        if stop.load(Relaxed) {
            return;
        }
        thread::sleep((time * number / SLICES).saturating_sub(begun.elapsed()));
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
