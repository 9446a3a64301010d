//! `bench up`: what `weaprous up` costs to start and to keep.

use super::servers::{self, Server};
use super::table::median;
use super::{OUT, cost, machine};
use crate::shell;
use anyhow::{Context, Result, ensure};
use std::io::{BufRead, BufReader, Read, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};
use std::{env, fs, thread};

/// How long it may take until its first answer.
const START_MAX: Duration = Duration::from_secs(20);
/// Starts whose median is reported.
const STARTS: usize = 5;
/// Rest before the resident memory is read.
const REST: Duration = Duration::from_secs(2);

pub(crate) fn run() -> Result<()> {
    shell::run("cargo build --release --quiet")?;
    let mut starts = Vec::new();
    let mut memory = Vec::new();
    for number in 0..STARTS {
        let folder = env::current_dir()?.join(OUT).join(format!("data-{number}"));
        let _ = fs::remove_dir_all(&folder); // left by a run that was interrupted
        let started = Instant::now();
        let server = start(&folder)?;
        await_answer(server.addr, "/login.html", started)?;
        starts.push(started.elapsed().as_secs_f64() * 1000.0);
        thread::sleep(REST);
        memory.push(cost::resident_bytes(server.child.id())? / 1024.0 / 1024.0);
        drop(server);
        fs::remove_dir_all(&folder)?;
    }
    let table = format!(
        "\n## `weaprous up`, {STARTS} starts\n\n| median | |\n|---|---:|\n\
         | exec to the first 200 in ms | {:.0} |\n| resident memory at rest in MiB | {:.1} |\n",
        median(starts),
        median(memory)
    );
    machine::record("up", &(machine::header(&[], &[])? + &table))
}

fn start(folder: &Path) -> Result<Server> {
    let program = servers::built(true, "weaprous", false);
    let mut child = Command::new(&program)
        .args(["up", "--proxy-port", "0", "--backend-port", "0", "--tracker-port", "0", "--data-dir"])
        .arg(folder)
        .stdout(Stdio::piped())
        .spawn()
        .with_context(|| format!("cannot start {}", program.display()))?;
    let stdout = child.stdout.take().expect("stdout was piped a line above");
    let mut lines = BufReader::new(stdout).lines();
    let page = loop {
        let line = lines.next().context("`up` ended before it named its page")??;
        if let Some(page) = line.trim().strip_prefix("page") {
            break page.trim().replace("http://localhost:", "127.0.0.1:").replace("http://", "");
        }
    };
    // It goes on printing; a full pipe would stop it.
    thread::spawn(move || lines.for_each(drop));
    Ok(Server { child, addr: page.trim_end_matches('/').parse().with_context(|| format!("address {page:?}"))? })
}

/// Asks until the answer is a 200.
fn await_answer(addr: SocketAddr, target: &str, since: Instant) -> Result<()> {
    loop {
        let answer = ask(addr, target).unwrap_or_default();
        if answer.starts_with("HTTP/1.1 200 ") {
            return Ok(());
        }
        ensure!(since.elapsed() < START_MAX, "no 200 from http://{addr}{target}; last answer: {answer:?}");
        thread::sleep(Duration::from_micros(500));
    }
}

fn ask(addr: SocketAddr, target: &str) -> Result<String> {
    let mut stream = TcpStream::connect(addr)?;
    stream.set_read_timeout(Some(START_MAX))?;
    stream.write_all(format!("GET {target} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").as_bytes())?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer)?;
    Ok(String::from_utf8_lossy(&answer).into_owned())
}
