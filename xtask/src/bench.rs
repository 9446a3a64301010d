//! The measurements: plain requests against nginx, and what `weaprous up` costs to start and to keep.
//!
//! Prints a table and writes it to `bench/results`. Never a test: bench/README.md says what the figures mean.

use crate::shell;
use anyhow::{Context, Result, bail, ensure};
use std::fmt::Write as _;
use std::io::{BufRead, BufReader, Read, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};
use std::{env, fs, thread};

/// The core of the server, and that of the load.
const SERVER_CORE: &str = "0";
const LOAD_CORE: &str = "1";
/// What both servers answer.
const BODY: &str = "Hello, World!";
/// Load before the first measured round, so that caches, branch predictors and buffers are warm.
const WARM_UP: Duration = Duration::from_secs(1);
/// How long a server may take to answer for the first time.
const START_MAX: Duration = Duration::from_secs(20);
/// Starts of `weaprous up` whose median is reported.
const STARTS: usize = 5;
/// Rest before the resident memory is read.
const REST: Duration = Duration::from_secs(2);
/// Scratch files; ignored by git.
const OUT: &str = "bench/out";

/// Runs the measurements.
pub(crate) fn run(args: &[String]) -> Result<()> {
    let options = Options::parse(args)?;
    check_machine(&options)?;
    fs::create_dir_all(OUT).with_context(|| format!("cannot make {OUT}"))?;
    let mut report = String::new();
    if options.plain {
        shell::run("cargo build --release --quiet -p engine --example plain")?;
        report += &plain(&options)?;
    }
    if options.up {
        shell::run("cargo build --release --quiet")?;
        report += &up()?;
    }
    let report = format!("{}{report}", machine()?);
    println!("\n{report}");
    let path = record(&report)?;
    println!("written to {}", path.display());
    Ok(())
}

struct Options {
    rounds: usize,
    seconds: u64,
    connections: usize,
    plain: bool,
    up: bool,
}

impl Options {
    fn parse(args: &[String]) -> Result<Self> {
        let mut options = Self { rounds: 7, seconds: 3, connections: 64, plain: true, up: true };
        let mut args = args.iter();
        while let Some(name) = args.next() {
            let value = args.next().with_context(|| format!("{name} needs a value"))?;
            match name.as_str() {
                "--rounds" => options.rounds = value.parse::<usize>()?.max(1),
                "--seconds" => options.seconds = value.parse::<u64>()?.max(1),
                "--connections" => options.connections = value.parse::<usize>()?.max(1),
                "--only" if value == "plain" => options.up = false,
                "--only" if value == "up" => options.plain = false,
                _ => bail!("unknown option {name} {value}; see bench/README.md"),
            }
        }
        Ok(options)
    }
}

fn check_machine(options: &Options) -> Result<()> {
    let needed: &[(&str, &str)] =
        if options.plain { &[("nginx", "nginx-light"), ("wrk", "wrk"), ("taskset", "util-linux")] } else { &[] };
    let missing: Vec<_> = needed.iter().filter(|(program, _)| !is_installed(program)).collect();
    if !missing.is_empty() {
        let programs: Vec<_> = missing.iter().map(|(program, _)| *program).collect();
        let packages: Vec<_> = missing.iter().map(|(_, package)| *package).collect();
        bail!("missing: {}; on Debian: apt-get install {}", programs.join(", "), packages.join(" "));
    }
    let cores = thread::available_parallelism()?.get();
    ensure!(!options.plain || cores >= 2, "two cores are needed: one for the server, one for the load");
    ensure!(Path::new("/proc/self/schedstat").exists(), "this kernel does not tell the time of a task (schedstat)");
    Ok(())
}

/// Debian keeps nginx where only root looks.
fn is_installed(program: &str) -> bool {
    shell::is_installed(program) || Path::new("/usr/sbin").join(program).is_file()
}

/// A process that ends with its owner.
struct Server {
    child: Child,
    addr: SocketAddr,
}

impl Drop for Server {
    fn drop(&mut self) {
        // It may have ended by itself; either way nobody is left to tell.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// One measured round.
struct Round {
    per_second: f64,
    p99_ms: f64,
    cpu_us: f64,
}

fn plain(options: &Options) -> Result<String> {
    let servers = [start_plain()?, start_nginx()?];
    for server in &servers {
        let answer = await_answer(server.addr, "/", Instant::now())?;
        ensure!(answer.ends_with(BODY), "{} does not answer {BODY:?} but {answer:?}", server.addr);
        load(server, options.connections, WARM_UP)?;
    }
    let mut rounds = [Vec::new(), Vec::new()];
    for number in 0..options.rounds {
        for turn in 0..2 {
            let which = (number + turn) % 2;
            let round = load(&servers[which], options.connections, Duration::from_secs(options.seconds))?;
            eprintln!(
                "round {number} {:<7} {:>9.0} requests/s  p99 {:>6.2} ms  {:>6.2} us CPU/request",
                ["engine", "nginx"][which],
                round.per_second,
                round.p99_ms,
                round.cpu_us
            );
            rounds[which].push(round);
        }
    }
    Ok(plain_table(options, &rounds))
}

fn plain_table(options: &Options, [ours, nginx]: &[Vec<Round>; 2]) -> String {
    let mut table = format!(
        "\n## Plain GET, {} kept connections, {} rounds of {} s each\n\n\
         | median | engine | nginx | ratio |\n|---|---:|---:|---:|\n",
        options.connections, options.rounds, options.seconds
    );
    let mut row = |name: &str, digits: usize, of: fn(&Round) -> f64| {
        let mid = |rounds: &[Round]| median(rounds.iter().map(of).collect());
        let ratio = median(ours.iter().zip(nginx).map(|(ours, nginx)| of(ours) / of(nginx)).collect());
        let _ = writeln!(table, "| {name} | {:.digits$} | {:.digits$} | {ratio:.2} |", mid(ours), mid(nginx));
    };
    row("server CPU µs per request", 2, |round| round.cpu_us);
    row("requests/s", 0, |round| round.per_second);
    row("p99 in ms", 2, |round| round.p99_ms);
    table
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    let middle = values.len() / 2;
    if values.len().is_multiple_of(2) { f64::midpoint(values[middle - 1], values[middle]) } else { values[middle] }
}

fn start_plain() -> Result<Server> {
    let program = target().join("release/examples/plain");
    let mut child = pinned(SERVER_CORE, &program)
        .args(["127.0.0.1:0", "1"])
        .stdout(Stdio::piped())
        .spawn()
        .with_context(|| format!("cannot start {}", program.display()))?;
    let mut line = String::new();
    let stdout = child.stdout.take().expect("stdout was piped a line above");
    BufReader::new(stdout).read_line(&mut line)?;
    let addr = line.trim().strip_prefix("http://").context("the example prints its address")?.parse()?;
    Ok(Server { child, addr })
}

fn start_nginx() -> Result<Server> {
    let addr = TcpListener::bind("127.0.0.1:0")?.local_addr()?; // free again when it is dropped, at once
    let folder = env::current_dir()?.join(OUT);
    let config = fs::read_to_string("bench/nginx.conf")?
        .replace("PORT", &addr.port().to_string())
        .replace("FOLDER", &folder.display().to_string());
    let path = folder.join("nginx.conf");
    fs::write(&path, config)?;
    let child = pinned(SERVER_CORE, Path::new("nginx"))
        .env("PATH", format!("{}:/usr/sbin", env::var("PATH").unwrap_or_default()))
        .arg("-p")
        .arg(&folder)
        .arg("-c")
        .arg(&path)
        .spawn()
        .context("cannot start nginx")?;
    Ok(Server { child, addr })
}

fn pinned(core: &str, program: &Path) -> Command {
    let mut command = Command::new("taskset");
    command.args(["-c", core]).arg(program);
    command
}

/// Runs `wrk` once and reads what it cost the server.
fn load(server: &Server, connections: usize, duration: Duration) -> Result<Round> {
    let before = on_core(server.child.id())?;
    let output = pinned(LOAD_CORE, Path::new("wrk"))
        .args(["-t1", "--latency", &format!("-c{connections}"), &format!("-d{}s", duration.as_secs())])
        .arg(format!("http://{}/", server.addr))
        .output()
        .context("cannot start wrk")?;
    let spent = on_core(server.child.id())?.saturating_sub(before);
    let text = String::from_utf8_lossy(&output.stdout);
    ensure!(output.status.success(), "wrk failed: {}", String::from_utf8_lossy(&output.stderr));
    ensure!(
        !text.contains("Non-2xx") && !text.contains("Socket errors"),
        "not every request was answered with 200:\n{text}"
    );
    Round::parse(&text, spent).with_context(|| format!("wrk printed something unexpected:\n{text}"))
}

impl Round {
    fn parse(text: &str, spent: Duration) -> Option<Self> {
        let requests: f64 =
            text.lines().find(|line| line.contains(" requests in "))?.split_whitespace().next()?.parse().ok()?;
        let per_second =
            text.lines().find_map(|line| line.trim().strip_prefix("Requests/sec:"))?.trim().parse().ok()?;
        let p99_ms = milliseconds(text.lines().find_map(|line| line.trim().strip_prefix("99%"))?.trim())?;
        Some(Self { per_second, p99_ms, cpu_us: spent.as_secs_f64() * 1e6 / requests })
    }
}

/// Reads `1.23ms`, `45.60us` or `1.00s`.
fn milliseconds(text: &str) -> Option<f64> {
    for (unit, factor) in [("us", 0.001), ("ms", 1.0), ("s", 1000.0)] {
        if let Some(number) = text.strip_suffix(unit) {
            return Some(number.parse::<f64>().ok()? * factor);
        }
    }
    None
}

/// The time all threads of a process have been on a core.
fn on_core(process: u32) -> Result<Duration> {
    let mut nanoseconds = 0;
    for thread in fs::read_dir(format!("/proc/{process}/task")).context("the server has ended")? {
        let text = fs::read_to_string(thread?.path().join("schedstat"))?;
        nanoseconds += text.split_whitespace().next().context("schedstat has three numbers")?.parse::<u64>()?;
    }
    Ok(Duration::from_nanos(nanoseconds))
}

fn up() -> Result<String> {
    let mut starts = Vec::new();
    let mut memory = Vec::new();
    for number in 0..STARTS {
        let folder = env::current_dir()?.join(OUT).join(format!("data-{number}"));
        let _ = fs::remove_dir_all(&folder); // left by a run that was interrupted
        let started = Instant::now();
        let server = start_up(&folder)?;
        await_answer(server.addr, "/login.html", started)?;
        starts.push(started.elapsed().as_secs_f64() * 1000.0);
        thread::sleep(REST);
        memory.push(resident_mib(server.child.id())?);
        drop(server);
        fs::remove_dir_all(&folder)?;
    }
    Ok(format!(
        "\n## `weaprous up`, {STARTS} starts\n\n| median | |\n|---|---:|\n\
         | exec to the first 200 in ms | {:.0} |\n| resident memory at rest in MiB | {:.1} |\n",
        median(starts),
        median(memory)
    ))
}

fn start_up(folder: &Path) -> Result<Server> {
    let program = target().join("release/weaprous");
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

fn resident_mib(process: u32) -> Result<f64> {
    let status = fs::read_to_string(format!("/proc/{process}/status")).context("the server has ended")?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).context("no VmRSS")?;
    Ok(line.trim().trim_end_matches("kB").trim().parse::<f64>()? / 1024.0)
}

/// Asks until the answer is a 200, and returns it.
fn await_answer(addr: SocketAddr, target: &str, since: Instant) -> Result<String> {
    loop {
        let answer = ask(addr, target).unwrap_or_default();
        if answer.starts_with("HTTP/1.1 200 ") {
            return Ok(answer);
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

fn target() -> PathBuf {
    env::var_os("CARGO_TARGET_DIR").map_or_else(|| PathBuf::from("target"), PathBuf::from)
}

fn machine() -> Result<String> {
    let cpus = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = cpus.lines().find_map(|line| line.strip_prefix("model name")).unwrap_or("\t: unknown");
    let load = fs::read_to_string("/proc/loadavg").unwrap_or_default();
    Ok(format!(
        "# {}, commit {}\n\n- CPU: {}, {} cores\n- kernel: {}\n- load average at the end: {}\n- {}\n",
        said_by("date -u +%F")?,
        commit()?,
        model.trim_start_matches(['\t', ' ', ':']),
        thread::available_parallelism()?,
        said_by("uname -sr")?,
        load.split_whitespace().next().unwrap_or("unknown"),
        said_by("rustc --version")?,
    ))
}

/// The commit that was measured; `+` where files differ from it.
fn commit() -> Result<String> {
    let changed = !said_by("git status --porcelain --untracked-files=no")?.is_empty();
    Ok(said_by("git rev-parse --short HEAD")? + if changed { "+" } else { "" })
}

fn said_by(line: &str) -> Result<String> {
    let output = shell::command(line).output().with_context(|| format!("cannot start `{line}`"))?;
    ensure!(output.status.success(), "`{line}` failed");
    Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

fn record(report: &str) -> Result<PathBuf> {
    let name = format!("{}-{}.md", said_by("date -u +%F")?, commit()?.trim_end_matches('+'));
    let path = Path::new("bench/results").join(name);
    fs::create_dir_all("bench/results")?;
    fs::write(&path, report)?;
    Ok(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_wrk_prints_is_read() {
        let text = "  2 threads\n     99%    1.50ms\n  2000 requests in 1.00s, 1.0MB read\nRequests/sec:   1999.50\n";
        let round = Round::parse(text, Duration::from_millis(10)).expect("the text is complete");
        assert!((round.per_second - 1999.5).abs() < 1e-9);
        assert!((round.p99_ms - 1.5).abs() < 1e-9);
        assert!((round.cpu_us - 5.0).abs() < 1e-9);
        assert!(Round::parse("Requests/sec: 1", Duration::ZERO).is_none());
    }

    #[test]
    fn the_median_is_in_the_middle() {
        assert!((median(vec![3.0, 1.0, 2.0]) - 2.0).abs() < 1e-9);
        assert!((median(vec![4.0, 1.0, 2.0, 3.0]) - 2.5).abs() < 1e-9);
    }

    #[test]
    fn units_of_time_are_read() {
        assert_eq!(milliseconds("250.00us"), Some(0.25));
        assert_eq!(milliseconds("1.20s"), Some(1200.0));
        assert_eq!(milliseconds("soon"), None);
    }
}
