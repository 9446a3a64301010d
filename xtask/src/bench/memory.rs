//! What open connections cost: memory while they are idle, and time of the busy ones beside them.

use super::cost;
use super::crowd::Crowd;
use super::http::ROWS as HTTP_ROWS;
use super::load::{Load, Shot, interleave};
use super::options::Options;
use super::report::Report;
use super::servers::{self, HELLO, Kind, Server, Setup};
use anyhow::{Context as _, Result, ensure};
use std::fmt::Write as _;
use std::thread;
use std::time::Duration;

/// Rows of this file.
pub(crate) const ROWS: [&str; 2] = ["idle", "open"];
/// Connections of the large measurements.
const MANY: usize = 10_000;
const MANY_OF_HAPROXY: usize = 9_600;
/// Connections of the small one that `open` compares with.
const FEW: usize = 100;
/// Connections opened, served and closed first, so that what a server keeps for good is not counted as theirs.
const FIRST: usize = 200;
/// Time for a server to give back what idle or closed connections no longer need.
const REST: Duration = Duration::from_secs(4);
/// Shortest round with thousands of busy connections: opening them takes a while.
const CROWDED_SECONDS_MIN: u64 = 4;

pub(crate) fn run(options: &Options, kinds: &[Kind], report: &mut Report) {
    let kinds: Vec<_> = kinds.iter().copied().filter(|kind| *kind != Kind::NginxSendfile).collect();
    if options.wants_row("idle") {
        report.add("idle", idle(options, &kinds));
    }
    if options.wants_row("open") {
        report.add("open", open(options, &kinds));
    }
}

fn start(kind: Kind, options: &Options) -> Result<Server> {
    let row = &HTTP_ROWS[0];
    let (body, close, tls) = row.setup(options)?;
    let setup = Setup { body: &body, close, tls, smoke: options.smoke, wrapper: None };
    let mut running = servers::start_checked(&[kind], &setup, &row.ask("/", HELLO))?;
    Ok(running.remove(0))
}

/// A line for each server. Only ours must not fail: another one that does says so in its line.
fn lines(kinds: &[Kind], line: impl Fn(Kind) -> Result<String>) -> Result<String> {
    let mut text = String::new();
    for kind in kinds {
        eprintln!("open connections: {}", kind.name());
        match line(*kind).with_context(|| format!("with the connections of {}", kind.name())) {
            Ok(line) => text += &line,
            Err(error) if matches!(kind, Kind::Engine | Kind::App) => return Err(error),
            Err(error) => {
                eprintln!("{error:#}");
                let _ = writeln!(text, "| {} | failed: {} |", kind.name(), error.root_cause());
            }
        }
    }
    Ok(text)
}

/// Connections of the large measurements with this server. haproxy reserves two files for each, more than twice ten
/// thousand are often forbidden.
fn many(kind: Kind) -> usize {
    if kind == Kind::Haproxy { MANY_OF_HAPROXY } else { MANY }
}

fn idle(options: &Options, kinds: &[Kind]) -> Result<String> {
    let head = format!(
        "\n## Memory of {MANY} idle kept connections, each served once (`idle`)\n\nhaproxy has {MANY_OF_HAPROXY}.\n\n\
         | server | before, KiB | with them, KiB | after closing, KiB | bytes per connection | kept after closing |\n\
         |---|---:|---:|---:|---:|---:|\n"
    );
    let line = |kind: Kind| {
        let server = start(kind, options)?;
        let resident = || cost::resident_bytes(server.child.id());
        let ask = HTTP_ROWS[0].ask("/", HELLO);
        drop(Crowd::gather(server.addr, FIRST, &ask)?);
        thread::sleep(REST);
        let before = resident()?;
        let crowd = Crowd::gather(server.addr, many(kind), &ask)?;
        thread::sleep(REST);
        let with = resident()?;
        ensure!(crowd.left() == 0, "{} of the idle connections were closed", crowd.left());
        drop(crowd);
        thread::sleep(REST);
        let after = resident()?;
        Ok(format!(
            "| {} | {:.0} | {:.0} | {:.0} | {:.0} | {:.0} % |\n",
            kind.name(),
            before / 1024.0,
            with / 1024.0,
            after / 1024.0,
            (with - before) / many(kind) as f64,
            100.0 * (after - before) / (with - before).max(1.0),
        ))
    };
    Ok(head + &lines(kinds, line)?)
}

fn open(options: &Options, kinds: &[Kind]) -> Result<String> {
    let head = format!(
        "\n## A request's cost with {MANY} connections open (`open`; {} rounds of {} s)\n\nThe ratio is that to \
         {FEW} connections open, all busy, in the same round. haproxy has {MANY_OF_HAPROXY}.\n\n\
         | server | {FEW} busy, µs | {FEW} busy and {MANY} idle, µs | ratio | {MANY} busy, µs | ratio |\n\
         |---|---:|---:|---:|---:|---:|\n",
        options.rounds, options.seconds
    );
    let line = |kind: Kind| {
        let server = start(kind, options)?;
        let url = format!("http://{}/", server.addr);
        let fire = |connections: usize| {
            let seconds = if connections > FEW { options.seconds.max(CROWDED_SECONDS_MIN) } else { options.seconds };
            Load { url: &url, connections, seconds, script: None, fields: &[], http2: false, calls: None }
                .fire(server.child.id())
        };
        let names = ["few", "few and idle", "many"];
        let columns = interleave(&names, options.rounds, |which| match which {
            0 => fire(FEW),
            1 => {
                let crowd = Crowd::gather(server.addr, many(kind) - FEW, &HTTP_ROWS[0].ask("/", HELLO))?;
                let shot = fire(FEW);
                ensure!(crowd.left() == 0, "{} of the idle connections were closed", crowd.left());
                shot
            }
            _ => fire(many(kind)),
        })?;
        Ok(format!(
            "| {} | {:.2} | {:.2} | {:.2} | {:.2} | {:.2} |\n",
            kind.name(),
            columns[0].median(Shot::cpu_us),
            columns[1].median(Shot::cpu_us),
            columns[1].ratio(&columns[0], Shot::cpu_us),
            columns[2].median(Shot::cpu_us),
            columns[2].ratio(&columns[0], Shot::cpu_us),
        ))
    };
    Ok(head + &lines(kinds, line)?)
}
