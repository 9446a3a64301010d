//! Load generators: `wrk` for HTTP/1.1, `h2load` for HTTP/2; what they print; what it cost the server.

use super::cost::{Cost, Spent};
use super::machine::{LOAD_CORE, pinned};
use super::{OUT, table};
use anyhow::{Context, Result, ensure};
use std::fmt::Write as _;
use std::fs;
use std::path::Path;
use std::process::Command;

/// One burst of load and what came of it.
#[derive(Clone, Copy)]
pub(crate) struct Shot {
    pub(crate) requests: f64,
    pub(crate) per_second: f64,
    pub(crate) p50_ms: f64,
    pub(crate) p99_ms: f64,
    pub(crate) spent: Spent,
}

/// Servers of ours: if one fails, something is wrong here.
const OURS: [&str; 3] = ["engine", "app", "weaprous"];

impl Shot {
    fn tell(&self, round: usize, name: &str) {
        eprintln!(
            "  round {round} {name:<15} {:>9.0} requests/s  p99 {:>7.2} ms  {:>7.2} us CPU/request",
            self.per_second,
            self.p99_ms,
            self.cpu_us()
        );
    }

    /// The server's time on a core per answered request, in microseconds.
    pub(crate) fn cpu_us(&self) -> f64 {
        self.spent.nanoseconds / 1000.0 / self.requests
    }
}

/// What to send.
pub(crate) struct Load<'a> {
    pub(crate) url: &'a str,
    pub(crate) connections: usize,
    pub(crate) seconds: u64,
    pub(crate) script: Option<&'a Path>,
    pub(crate) fields: &'a [&'a str],
    pub(crate) http2: bool,
    /// Where the server's system calls are written by `perf`, if they are to be counted.
    pub(crate) calls: Option<&'a Path>,
}

impl Load<'_> {
    /// Sends it to the server that runs as `process`. Fails unless every request was answered well.
    pub(crate) fn fire(&self, process: u32) -> Result<Shot> {
        let before = Cost::of(process)?;
        let text = if self.http2 { self.h2load()? } else { self.wrk(process)? };
        let spent = Cost::of(process)?.since(before);
        let shot = if self.http2 { parse_h2load(&text, spent) } else { parse_wrk(&text, spent) };
        let shot = shot.with_context(|| format!("the load generator printed something unexpected:\n{text}"))?;
        ensure!(shot.requests > 0.0, "not one request was answered:\n{text}");
        Ok(shot)
    }

    fn wrk(&self, process: u32) -> Result<String> {
        let mut command = match self.calls {
            None => pinned(LOAD_CORE, Path::new("wrk")),
            Some(out) => {
                // perf attaches to the server first, then starts the load: not one call of it is missed.
                let mut command = Command::new("perf");
                command.args(["stat", "-x", ",", "-e", "syscalls:sys_enter_*", "-p", &process.to_string(), "-o"]);
                command.arg(out).args(["--", "taskset", "-c", LOAD_CORE, "wrk"]);
                command
            }
        };
        command.args(["-t1", "--latency", "--timeout", "10s"]);
        command.args([format!("-c{}", self.connections), format!("-d{}s", self.seconds)]);
        if let Some(script) = self.script {
            command.arg("-s").arg(script);
        }
        for field in self.fields {
            command.args(["-H", field]);
        }
        let output = command.arg(self.url).output().context("cannot start wrk")?;
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        ensure!(output.status.success(), "wrk failed: {text}{}", String::from_utf8_lossy(&output.stderr));
        ensure!(
            !text.contains("Non-2xx") && !text.contains("Socket errors"),
            "{}: not every request was answered with 200:\n{text}",
            self.url
        );
        Ok(text)
    }

    /// Its summary and then, behind a line `---`, its log: start, status and microseconds of each request.
    fn h2load(&self) -> Result<String> {
        let log = Path::new(OUT).join("h2load.log");
        let _ = fs::remove_file(&log); // it appends
        let output = pinned(LOAD_CORE, Path::new("h2load"))
            .args([format!("-c{}", self.connections), format!("-D{}", self.seconds)])
            .args(["-t1", "-m1"])
            .arg(format!("--log-file={}", log.display()))
            .arg(self.url)
            .output()
            .context("cannot start h2load")?;
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        ensure!(output.status.success(), "h2load failed: {text}");
        ensure!(
            text.contains(" 0 failed, 0 errored, 0 timeout") && text.contains("Application protocol: h2"),
            "{}: not every request was answered over HTTP/2:\n{text}",
            self.url
        );
        Ok(format!("{text}---\n{}", fs::read_to_string(&log).context("h2load has written its log")?))
    }
}

fn parse_wrk(text: &str, spent: Spent) -> Option<Shot> {
    let requests = text.lines().find(|line| line.contains(" requests in "))?.split_whitespace().next()?.parse().ok()?;
    let per_second = text.lines().find_map(|line| line.trim().strip_prefix("Requests/sec:"))?.trim().parse().ok()?;
    let percentile = |name| milliseconds(text.lines().find_map(|line| line.trim().strip_prefix(name))?.trim());
    Some(Shot { requests, per_second, p50_ms: percentile("50%")?, p99_ms: percentile("99%")?, spent })
}

fn parse_h2load(text: &str, spent: Spent) -> Option<Shot> {
    let (summary, log) = text.split_once("---\n")?;
    let finished = summary.lines().find_map(|line| line.strip_prefix("finished in "))?;
    let per_second = finished.split(", ").nth(1)?.strip_suffix(" req/s")?.trim().parse().ok()?;
    let succeeded = summary.lines().find_map(|line| line.strip_prefix("requests: "))?;
    let requests =
        succeeded.split(", ").find_map(|part| part.strip_suffix(" succeeded"))?.trim().parse::<f64>().ok()?;
    let mut times: Vec<f64> = log.lines().filter_map(|line| line.split('\t').nth(2)?.parse().ok()).collect();
    times.sort_by(f64::total_cmp);
    let percentile = |share: f64| Some(times.get((times.len() as f64 * share) as usize)? / 1000.0);
    Some(Shot { requests, per_second, p50_ms: percentile(0.5)?, p99_ms: percentile(0.99)?, spent })
}

/// Reads `1.23ms`, `45.60us`, `1.00s` or `1.50m`.
fn milliseconds(text: &str) -> Option<f64> {
    for (unit, factor) in [("us", 0.001), ("ms", 1.0), ("s", 1000.0), ("m", 60_000.0)] {
        if let Some(number) = text.strip_suffix(unit) {
            return Some(number.parse::<f64>().ok()? * factor);
        }
    }
    None
}

/// Interleaves the rounds of several servers: who begins changes from round to round, so that what else the machine
/// does falls on all of them.
pub(crate) fn interleave(
    names: &[&'static str],
    rounds: usize,
    mut fire: impl FnMut(usize) -> Result<Shot>,
) -> Result<Vec<table::Column>> {
    let mut columns: Vec<_> = names.iter().map(|name| table::Column { name, shots: Vec::new() }).collect();
    for number in 0..rounds {
        for turn in 0..names.len() {
            let which = (number + turn) % names.len();
            let shot = fire(which).with_context(|| format!("while measuring {}", names[which]))?;
            shot.tell(number, names[which]);
            columns[which].shots.push(shot);
        }
    }
    Ok(columns)
}

/// As [`interleave`], among servers of which only ours must not fail: another one that does loses its column, and a
/// sentence says so. `fire` is told whether it is to warm up only, which it is first of all if `warms_up`.
pub(crate) fn compete(
    names: &[&'static str],
    rounds: usize,
    warms_up: bool,
    mut fire: impl FnMut(usize, bool) -> Result<Shot>,
) -> Result<(Vec<table::Column>, String)> {
    let mut columns: Vec<_> = names.iter().map(|name| Some(table::Column { name, shots: Vec::new() })).collect();
    let mut notes = String::new();
    for number in usize::from(!warms_up)..=rounds {
        for turn in 0..names.len() {
            let which = (number + turn) % names.len();
            let Some(column) = &mut columns[which] else { continue };
            match fire(which, number == 0) {
                Ok(_) if number == 0 => {}
                Ok(shot) => {
                    shot.tell(number, names[which]);
                    column.shots.push(shot);
                }
                Err(error) if OURS.contains(&names[which]) => {
                    return Err(error).with_context(|| format!("while measuring {}", names[which]));
                }
                Err(error) => {
                    eprintln!("{} is left out: {error:#}", names[which]);
                    let why = error.to_string();
                    let why = why.lines().next().unwrap_or_default();
                    let _ = writeln!(notes, "\n{} failed and is left out: {why}", names[which]);
                    columns[which] = None;
                }
            }
        }
    }
    Ok((columns.into_iter().flatten().collect(), notes))
}

#[cfg(test)]
mod tests {
    use super::*;
    use anyhow::bail;

    const SPENT: Spent = Spent { nanoseconds: 1e7, user_ticks: 0.0, system_ticks: 0.0 };

    #[test]
    fn what_wrk_prints_is_read() {
        let text = "  2 threads\n     50%  900.00us\n     99%    1.50ms\n  2000 requests in 1.00s, 1.0MB read\n\
                    Requests/sec:   1999.50\n";
        let shot = parse_wrk(text, SPENT).expect("the text is complete");
        assert!((shot.per_second - 1999.5).abs() < 1e-9);
        assert!((shot.p50_ms - 0.9).abs() < 1e-9 && (shot.p99_ms - 1.5).abs() < 1e-9);
        assert!((shot.cpu_us() - 5.0).abs() < 1e-9);
        assert!(parse_wrk("Requests/sec: 1", SPENT).is_none());
    }

    #[test]
    fn what_h2load_prints_is_read() {
        let text = "finished in 1.00s, 4.00 req/s, 1.0KB/s\nrequests: 5 total, 4 started, 4 done, 4 succeeded, \
                    0 failed, 0 errored, 0 timeout\n---\n1\t200\t400\n2\t200\t100\n3\t200\t300\n4\t200\t200\n";
        let shot = parse_h2load(text, SPENT).expect("the text is complete");
        assert!((shot.requests - 4.0).abs() < 1e-9 && (shot.per_second - 4.0).abs() < 1e-9);
        assert!((shot.p50_ms - 0.3).abs() < 1e-9 && (shot.p99_ms - 0.4).abs() < 1e-9);
    }

    #[test]
    fn only_ours_must_not_fail() {
        let shot = Shot { requests: 1.0, per_second: 1.0, p50_ms: 1.0, p99_ms: 1.0, spent: SPENT };
        let names = ["nginx", "engine", "hyper"];
        let mut calls = Vec::new();
        let (columns, notes) = compete(&names, 2, true, |which, is_warm_up| {
            calls.push((which, is_warm_up));
            if which == 2 && !is_warm_up { Err(anyhow::anyhow!("no\nmore")) } else { Ok(shot) }
        })
        .expect("ours has not failed");
        let shown: Vec<_> = columns.iter().map(|column| (column.name, column.shots.len())).collect();
        assert_eq!(shown, [("nginx", 2), ("engine", 2)]);
        assert_eq!(notes, "\nhyper failed and is left out: no\n");
        assert_eq!(calls[..3], [(0, true), (1, true), (2, true)]);
        assert!(compete(&names, 1, false, |which, _| if which == 1 { bail!("no") } else { Ok(shot) }).is_err());
    }

    #[test]
    fn units_of_time_are_read() {
        assert_eq!(milliseconds("250.00us"), Some(0.25));
        assert_eq!(milliseconds("1.20s"), Some(1200.0));
        assert_eq!(milliseconds("soon"), None);
    }
}
