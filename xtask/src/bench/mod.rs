//! The measurements: what a request costs beside other servers, beside a bare loop and under attack; what `weaprous up`
//! costs to start and to keep. Never a test, except for what `--smoke` checks: bench/README.md says what each figure
//! means.

mod attack;
mod check;
mod cost;
mod count;
mod crowd;
mod http;
mod load;
mod machine;
mod memory;
mod options;
mod pace;
mod proxy;
mod report;
mod servers;
mod table;
mod up;

use anyhow::{Context, Result, bail};
use options::Options;
use std::fs;

/// Scratch files; ignored by git.
const OUT: &str = "bench/out";

/// Runs the measurement that is named first.
pub(crate) fn run(args: &[String]) -> Result<()> {
    let Some((what, rest)) = args.split_first() else { bail!("{USAGE}") };
    let options = Options::parse(rest)?;
    fs::create_dir_all(OUT).with_context(|| format!("cannot make {OUT}"))?;
    machine::raise_file_limit()?;
    match what.as_str() {
        "http" if options.count => count::run(&options),
        "http" => http::run(&options),
        "attack" => attack::run(&options),
        "proxy" if options.count => proxy::count(&options),
        "proxy" => proxy::run(&options),
        "up" => up::run(),
        _ => bail!("{USAGE}"),
    }
}

/// The short runs that belong to the gate: right answers under load, normal clients unharmed by slow ones, and a proxy
/// that keeps its upstream connections and its memory.
pub(crate) fn smoke() -> Result<()> {
    for what in ["http", "attack", "proxy"] {
        println!("\n==> bench {what} --smoke");
        run(&[what.to_owned(), "--smoke".to_owned()])?;
    }
    Ok(())
}

const USAGE: &str = "\
usage: cargo xtask bench <what> [options]
  http     a request's cost beside other servers and a bare loop
  attack   normal clients beside thousands of slow ones
  proxy    a relayed request's cost beside other proxies and a bare relay
  up       what `weaprous up` costs to start and to keep
http and proxy with --count: instructions and system calls instead of time
options: --rounds N  --seconds S  --connections C  --only ROW,ROW  --peers NAME,NAME  --clients N  --smoke  --built
see bench/README.md";
