//! What open connections cost: memory while they are idle, and time of the busy ones beside them.

use super::cost;
use super::crowd::Crowd;
use super::http::ROWS as HTTP_ROWS;
use super::load::{Load, Shot, interleave};
use super::options::Options;
use super::servers::{self, HELLO, Kind, Server, Setup};
use anyhow::{Result, ensure};
use std::fmt::Write as _;
use std::thread;
use std::time::Duration;

/// Rows of this file.
pub(crate) const ROWS: [&str; 2] = ["idle", "open"];
/// Connections of the large measurements.
const MANY: usize = 10_000;
/// Connections of the small one that `open` compares with.
const FEW: usize = 100;
/// Connections opened, served and closed first, so that what a server keeps for good is not counted as theirs.
const FIRST: usize = 200;
/// Time for a server to give back what idle or closed connections no longer need.
const REST: Duration = Duration::from_secs(4);

pub(crate) fn run(options: &Options, kinds: &[Kind]) -> Result<String> {
    let kinds: Vec<_> = kinds.iter().copied().filter(|kind| *kind != Kind::NginxSendfile).collect();
    let mut report = String::new();
    if options.wants_row("idle") {
        report += &idle(options, &kinds)?;
    }
    if options.wants_row("open") {
        report += &open(options, &kinds)?;
    }
    Ok(report)
}

fn start(kind: Kind, options: &Options) -> Result<Server> {
    let row = &HTTP_ROWS[0];
    let (body, close, tls) = row.setup(options)?;
    let setup = Setup { body: &body, close, tls, smoke: options.smoke, wrapper: None };
    let mut running = servers::start_checked(&[kind], &setup, &row.ask("/", HELLO))?;
    Ok(running.remove(0))
}

fn idle(options: &Options, kinds: &[Kind]) -> Result<String> {
    let mut text = format!(
        "\n## Memory of {MANY} idle kept connections, each served once (`idle`)\n\n\
         | server | before, KiB | with them, KiB | after closing, KiB | bytes per connection | kept after closing |\n\
         |---|---:|---:|---:|---:|---:|\n"
    );
    for kind in kinds {
        eprintln!("idle connections: {}", kind.name());
        let server = start(*kind, options)?;
        let resident = || cost::resident_bytes(server.child.id());
        let ask = HTTP_ROWS[0].ask("/", HELLO);
        drop(Crowd::gather(server.addr, FIRST, &ask)?);
        thread::sleep(REST);
        let before = resident()?;
        let crowd = Crowd::gather(server.addr, MANY, &ask)?;
        thread::sleep(REST);
        let with = resident()?;
        ensure!(crowd.left() == 0, "{} closed {} of the idle connections", kind.name(), crowd.left());
        drop(crowd);
        thread::sleep(REST);
        let after = resident()?;
        let _ = writeln!(
            text,
            "| {} | {:.0} | {:.0} | {:.0} | {:.0} | {:.0} % |",
            kind.name(),
            before / 1024.0,
            with / 1024.0,
            after / 1024.0,
            (with - before) / MANY as f64,
            100.0 * (after - before) / (with - before).max(1.0),
        );
    }
    Ok(text)
}

fn open(options: &Options, kinds: &[Kind]) -> Result<String> {
    let mut text = format!(
        "\n## A request's cost with {MANY} connections open (`open`; {} rounds of {} s)\n\nThe ratio is that to \
         {FEW} connections open, all busy, in the same round.\n\n\
         | server | {FEW} busy, µs | {FEW} busy and {MANY} idle, µs | ratio | {MANY} busy, µs | ratio |\n\
         |---|---:|---:|---:|---:|---:|\n",
        options.rounds, options.seconds
    );
    for kind in kinds {
        eprintln!("open connections: {}", kind.name());
        let server = start(*kind, options)?;
        let url = format!("http://{}/", server.addr);
        let fire = |connections: usize| {
            let seconds = options.seconds;
            Load { url: &url, connections, seconds, script: None, fields: &[], http2: false, calls: None }
                .fire(server.child.id())
        };
        let names = ["few", "few and idle", "many"];
        let columns = interleave(&names, options.rounds, |which| match which {
            0 => fire(FEW),
            1 => {
                let crowd = Crowd::gather(server.addr, MANY, &HTTP_ROWS[0].ask("/", HELLO))?;
                let shot = fire(FEW);
                ensure!(crowd.left() == 0, "{} closed {} of the idle connections", kind.name(), crowd.left());
                shot
            }
            _ => fire(MANY),
        })?;
        let _ = writeln!(
            text,
            "| {} | {:.2} | {:.2} | {:.2} | {:.2} | {:.2} |",
            kind.name(),
            columns[0].median(Shot::cpu_us),
            columns[1].median(Shot::cpu_us),
            columns[1].ratio(&columns[0], Shot::cpu_us),
            columns[2].median(Shot::cpu_us),
            columns[2].ratio(&columns[0], Shot::cpu_us),
        );
    }
    Ok(text)
}
