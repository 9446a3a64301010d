//! Tasks of this repository: the gate (`ci`), the structure checks (`tidy`), the packages both need (`setup`), and
//! the measurements (`bench`, on Linux).

#[cfg(target_os = "linux")]
mod bench;
mod ci;
mod fuzz;
mod setup;
mod shell;
mod tidy;

use anyhow::{Result, bail};
use std::process::ExitCode;

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<()> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    shell::enter_root()?;
    match args.first().map(String::as_str) {
        Some("ci") => ci::run(),
        Some("tidy") => tidy::run(),
        Some("setup") => setup::run(),
        Some("fuzz") => fuzz::run(&args[1..]),
        #[cfg(target_os = "linux")]
        Some("bench") => bench::run(&args[1..]),
        _ => bail!("{USAGE}"),
    }
}

const USAGE: &str = "\
usage: cargo xtask <task>
  ci      everything a change must pass: fmt, clippy, tests, docs, tidy, licences, the page in a browser
  tidy    the structure checks alone
  setup   installs what ci needs (Debian packages, npm packages, cargo-deny)
  fuzz    every reader of foreign bytes against random ones; see fuzz/src/lib.rs
  bench   measures: http, attack, proxy, up; see bench/README.md";
