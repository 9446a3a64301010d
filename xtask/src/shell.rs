//! Running other programs: with a headline, with retries, with their output counted.

use anyhow::{Context, Result, bail};
use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// Makes the repository's root the working directory, whichever folder the task was started in.
pub(crate) fn enter_root() -> Result<()> {
    let manifest = std::path::Path::new(env!("CARGO_MANIFEST_DIR"));
    let root = manifest.parent().context("xtask lies in the repository's root")?;
    std::env::set_current_dir(root).with_context(|| format!("cannot enter {}", root.display()))
}

/// Splits `line` at spaces into a command; no quoting, since no task needs it.
pub(crate) fn command(line: &str) -> Command {
    let mut words = line.split_whitespace();
    let mut command = Command::new(words.next().expect("a command line has a first word"));
    command.args(words);
    command
}

/// Runs `line` and fails unless it succeeds.
pub(crate) fn run(line: &str) -> Result<()> {
    run_command(command(line), line)
}

/// Runs a prepared command under the headline `name`.
pub(crate) fn run_command(mut command: Command, name: &str) -> Result<()> {
    println!("\n==> {name}");
    let started = Instant::now();
    let status = command.status().with_context(|| format!("cannot start `{name}`"))?;
    println!("    {:.0} s", started.elapsed().as_secs_f32());
    if !status.success() {
        bail!("`{name}` failed: {status}");
    }
    Ok(())
}

/// Runs `line` up to `tries` times, for steps that reach a package registry.
pub(crate) fn run_retrying(line: &str, tries: u32) -> Result<()> {
    let mut pause = Duration::from_secs(3);
    for attempt in 1.. {
        match run(line) {
            Ok(()) => return Ok(()),
            Err(error) if attempt == tries => return Err(error),
            Err(error) => eprintln!("{error}; trying again in {} s", pause.as_secs()),
        }
        std::thread::sleep(pause);
        pause *= 2;
    }
    unreachable!("the loop ends by returning")
}

/// Runs a command, passes its standard output on line by line, and shows each line to `see`.
pub(crate) fn run_watched(mut command: Command, name: &str, mut see: impl FnMut(&str)) -> Result<bool> {
    println!("\n==> {name}");
    let started = Instant::now();
    let mut child = command.stdout(Stdio::piped()).spawn().with_context(|| format!("cannot start `{name}`"))?;
    let stdout = child.stdout.take().expect("stdout was piped a line above");
    for line in BufReader::new(stdout).split(b'\n') {
        let line = String::from_utf8_lossy(&line?).into_owned();
        println!("{line}");
        see(&line);
    }
    let status = child.wait()?;
    println!("    {:.0} s", started.elapsed().as_secs_f32());
    Ok(status.success())
}

/// Whether `program` is found on the PATH.
pub(crate) fn is_installed(program: &str) -> bool {
    std::env::var_os("PATH")
        .is_some_and(|path| std::env::split_paths(&path).any(|folder| folder.join(program).is_file()))
}
