//! `bench http --count` and `bench proxy --count`: instructions in user code and system calls per request. Both stay the same on a busy machine,
//! so they tell what a change has done where time cannot.
//!
//! Instructions: the server runs under `valgrind --tool=callgrind` twice, with few requests and with many; the
//! difference is the requests' alone. The load is our own, since it must be counted exactly: 64 connections (1 per
//! request in the row `new`), all of which send before any is read. System calls: the kernel's tracepoints, counted by
//! `perf stat` while `wrk` runs against the server at full speed.

use super::check::{self, Ask};
use super::http::{self, PIPELINED, ROWS, Shape};
use super::load::Load;
use super::options::Options;
use super::servers::{self, CRATES, Kind, Server, Setup};
use super::{OUT, machine};
use anyhow::{Context, Result, ensure};
use rustix::process::{Pid, Signal, kill_process};
use std::collections::BTreeMap;
use std::io::{Read, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::time::Duration;
use std::{fs, thread};

/// Connections of our own load.
const CONNECTIONS: usize = 64;
/// Bursts of the short and of the long run: what differs between the runs are whole bursts.
const BURSTS_FEW: usize = 20;
const BURSTS_MANY: usize = 120;
/// How long a server under valgrind may take for one answer, or to end.
const SLOW_MAX: Duration = Duration::from_mins(1);
/// After so many hundredths of a second a server that was told to end gets a connection, and so an event.
const NUDGE_TURNS: u128 = 50;
/// Kinds of system calls that are named in the table.
const CALLS_SHOWN: usize = 7;
/// What counting needs.
pub(crate) const PROGRAMS: [&str; 4] = ["taskset", "wrk", "perf", "valgrind"];
/// Rows of `http` that can be counted: TLS needs another generator, and 10 MiB are the kernel's work alone.
const COUNTED: [&str; 6] = ["plain", "pipelined", "json", "new", "file-1k", "file-64k"];

/// One server in one row, as counting needs it.
pub(crate) struct Subject<'a> {
    pub(crate) name: &'static str,
    pub(crate) row: &'static str,
    pub(crate) ask: Ask<'a>,
    /// What `wrk` is to run, where the request is none that it makes by itself.
    pub(crate) script: Option<PathBuf>,
    /// Requests in one packet.
    pub(crate) depth: usize,
    /// What makes it end by itself, soon.
    pub(crate) stop: Signal,
    /// Starts it, with these words in front of its command if there are any.
    pub(crate) start: &'a dyn Fn(Option<&[String]>) -> Result<Server>,
}

/// `bench http --count`.
pub(crate) fn run(options: &Options) -> Result<()> {
    options.check_names(&COUNTED, &Kind::ALL.map(Kind::name))?;
    let kinds = http::chosen(options, &Kind::ALL);
    let installed: Vec<_> = kinds.iter().filter_map(|kind| kind.installed()).collect();
    let programs = [&PROGRAMS, installed.as_slice()].concat();
    machine::require(&programs)?;
    servers::prepare(false)?;
    servers::build(&kinds, options)?;
    let mut report = String::new();
    for row in ROWS.iter().filter(|row| COUNTED.contains(&row.name) && options.wants_row(row.name)) {
        report += &head(row.name);
        // haproxy does not start under valgrind.
        for kind in http::chosen(options, row.servers).into_iter().filter(|kind| *kind != Kind::Haproxy) {
            let (body, close, tls) = row.setup(options)?;
            let (target, expected) = (row.target(), row.body());
            let start = |wrapper: Option<&[String]>| {
                servers::start(kind, &Setup { body: &body, close, tls, smoke: false, wrapper })
            };
            let subject = Subject {
                name: kind.name(),
                row: row.name,
                ask: row.ask(&target, &expected),
                script: row.script()?,
                depth: if row.shape == Shape::Pipelined { PIPELINED } else { 1 },
                stop: Signal::TERM,
                start: &start,
            };
            report += &line(&subject, options);
        }
    }
    machine::record("count", &(machine::header(&programs, &CRATES)? + &report))
}

/// The head of one row's table.
pub(crate) fn head(row: &str) -> String {
    format!("\n## `{row}`: per request\n\n| server | user instructions | system calls | which |\n|---|---:|---:|---|\n")
}

/// One line of the table. A server that cannot be counted must not cost the others their figures.
pub(crate) fn line(subject: &Subject<'_>, options: &Options) -> String {
    eprintln!("counting {} of {}", subject.row, subject.name);
    let line = subject.count(options).unwrap_or_else(|error| {
        eprintln!("{error:#}");
        format!("| {} | – | – | not counted |\n", subject.name)
    });
    eprint!("{line}");
    line
}

impl Subject<'_> {
    fn count(&self, options: &Options) -> Result<String> {
        let instructions = self.instructions().context("counting instructions")?;
        let calls = self.system_calls(options).context("counting system calls")?;
        let total: f64 = calls.iter().map(|(_, count)| count).sum();
        let named: Vec<_> = calls.iter().take(CALLS_SHOWN).map(|(name, count)| format!("{name} {count:.2}")).collect();
        Ok(format!("| {} | {instructions:.0} | {total:.2} | {} |\n", self.name, named.join(", ")))
    }

    /// User instructions per request.
    fn instructions(&self) -> Result<f64> {
        let few = self.total_instructions(BURSTS_FEW)?;
        let many = self.total_instructions(BURSTS_MANY)?;
        Ok((many - few) / (CONNECTIONS * self.depth * (BURSTS_MANY - BURSTS_FEW)) as f64)
    }

    /// What callgrind counts from the server's start to its end.
    fn total_instructions(&self, bursts: usize) -> Result<f64> {
        let out = servers::scratch()?.join(format!("callgrind.{}.{}", self.name, self.row));
        let out_option = format!("--callgrind-out-file={}", out.display());
        let wrapper = ["valgrind", "--quiet", "--tool=callgrind", &out_option].map(str::to_owned);
        let mut server = (self.start)(Some(&wrapper))?;
        check::answer(server.addr, &self.ask)?;
        let request = check::request(server.addr, &self.ask);
        if self.ask.close {
            for _ in 0..bursts * CONNECTIONS {
                once(server.addr, &request)?;
            }
        } else {
            burst(server.addr, &request, self.depth, bursts)?;
        }
        let process = i32::try_from(server.child.id()).ok().and_then(Pid::from_raw).context("a process id")?;
        kill_process(process, self.stop)?;
        for turn in 1..=SLOW_MAX.as_millis() / 10 {
            if server.child.try_wait()?.is_some() {
                let text = fs::read_to_string(&out).context("callgrind has written its result")?;
                return summary(&text).context("callgrind's result has a summary");
            }
            if turn % NUDGE_TURNS == 0 {
                // nginx looks at its signals after an event only: without a connection and a timer there is none.
                drop(TcpStream::connect(server.addr));
            }
            thread::sleep(Duration::from_millis(10));
        }
        anyhow::bail!("the server does not end")
    }

    /// System calls per request by name, most frequent first.
    fn system_calls(&self, options: &Options) -> Result<Vec<(String, f64)>> {
        let server = (self.start)(None)?;
        check::answer(server.addr, &self.ask)?;
        let out = Path::new(OUT).join("calls.csv");
        let url = format!("http://{}{}", server.addr, self.ask.target);
        let shot = Load {
            url: &url,
            connections: options.connections,
            seconds: 1,
            script: self.script.as_deref(),
            fields: if self.ask.close { &["Connection: close"] } else { &[] },
            http2: false,
            calls: Some(&out),
        }
        .fire(server.child.id())?;
        let calls = parse_calls(&fs::read_to_string(&out)?);
        ensure!(!calls.is_empty(), "perf counted no system call; it needs root and the kernel's tracepoints");
        Ok(calls.into_iter().map(|(name, count)| (name, count / shot.requests)).collect())
    }
}

/// `summary: 123` or `totals: 123`, summed over the parts of the file.
fn summary(text: &str) -> Option<f64> {
    let totals: Vec<f64> = text.lines().filter_map(|line| line.strip_prefix("totals: ")?.trim().parse().ok()).collect();
    (!totals.is_empty()).then(|| totals.iter().sum())
}

fn once(addr: SocketAddr, request: &[u8]) -> Result<()> {
    let mut stream = connect(addr)?;
    stream.write_all(request)?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer)?;
    ensure!(answer.starts_with(b"HTTP/1.1 200"), "answered {:?}", String::from_utf8_lossy(&answer));
    Ok(())
}

/// Sends `depth` requests on every connection, then reads all answers; `bursts` times.
fn burst(addr: SocketAddr, request: &[u8], depth: usize, bursts: usize) -> Result<()> {
    let mut streams = (0..CONNECTIONS).map(|_| connect(addr)).collect::<Result<Vec<_>>>()?;
    let packet = request.repeat(depth);
    // All answers are equally long, since the head has no figure but the date: the first one tells how long.
    let mut length = 0;
    let mut buffer = Vec::new();
    for _ in 0..bursts {
        for stream in &mut streams {
            stream.write_all(&packet)?;
        }
        for stream in &mut streams {
            if length == 0 {
                length = first_length(stream, depth)?;
                continue;
            }
            buffer.resize(length * depth, 0);
            stream.read_exact(&mut buffer)?;
            ensure!(buffer.starts_with(b"HTTP/1.1 200"), "answered {:?}", String::from_utf8_lossy(&buffer));
        }
    }
    Ok(())
}

/// Reads `depth` answers of a length that is not known yet, and tells the length of one.
pub(crate) fn first_length(stream: &mut TcpStream, depth: usize) -> Result<usize> {
    let mut bytes = Vec::new();
    let mut chunk = vec![0; 256 * 1024];
    loop {
        let count = stream.read(&mut chunk)?;
        ensure!(count > 0, "the connection ended within an answer");
        bytes.extend_from_slice(&chunk[..count]);
        if let Some(length) = check::answer_bytes(&bytes)
            && bytes.len() >= length * depth
        {
            ensure!(bytes.len() == length * depth, "answers of different lengths");
            return Ok(length);
        }
    }
}

/// A connection that fails rather than wait for ever.
pub(crate) fn connect(addr: SocketAddr) -> Result<TcpStream> {
    let stream = TcpStream::connect(addr)?;
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(SLOW_MAX))?;
    Ok(stream)
}

fn parse_calls(text: &str) -> Vec<(String, f64)> {
    let mut calls = BTreeMap::new();
    for line in text.lines() {
        let mut parts = line.split(',');
        let (Some(count), Some(name)) = (parts.next(), parts.nth(1)) else { continue };
        let Some(name) = name.strip_prefix("syscalls:sys_enter_") else { continue };
        if let Ok(count @ 1.0..) = count.parse::<f64>() {
            calls.insert(name.to_owned(), count);
        }
    }
    let mut calls: Vec<_> = calls.into_iter().collect();
    calls.sort_by(|a, b| b.1.total_cmp(&a.1));
    calls
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_perf_and_callgrind_print_is_read() {
        let text = "# started\n26739,,syscalls:sys_enter_recvfrom,3,100.00,,\n0,,syscalls:sys_enter_read,3,100.00,,\n\
                    99999,,syscalls:sys_enter_sendto,3,100.00,,\n<not counted>,,syscalls:sys_enter_x,0,0,,\n";
        assert_eq!(parse_calls(text), [("sendto".to_owned(), 99999.0), ("recvfrom".to_owned(), 26739.0)]);
        assert_eq!(summary("events: Ir\ntotals: 12\n\ntotals: 30\n"), Some(42.0));
        assert_eq!(summary("events: Ir\n"), None);
    }
}
