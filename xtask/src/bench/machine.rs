//! The machine: what is installed, how many files may be open, and what a result says of where it was measured.

use crate::shell;
use anyhow::{Context, Result, bail, ensure};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::{env, fs, thread};

/// The core of the server, and that of the load.
pub(crate) const SERVER_CORE: &str = "0";
pub(crate) const LOAD_CORE: &str = "1";
/// Files that the largest measurement opens in one process: 10,000 connections, those of the load, and some more.
const FILES_NEEDED: u64 = 12_000;
/// Results of one measurement of one commit on one day that are kept apart.
const RESULTS_MAX: usize = 99;

/// Programs and the Debian packages that have them.
const PACKAGES: [(&str, &str); 9] = [
    ("nginx", "nginx-light"),
    ("haproxy", "haproxy"),
    ("wrk", "wrk"),
    ("h2load", "nghttp2-client"),
    ("taskset", "util-linux"),
    ("openssl", "openssl"),
    ("curl", "curl"),
    ("perf", "linux-perf"),
    ("valgrind", "valgrind"),
];

/// Lifts this process's soft limit of open files to the hard one; what it starts inherits it.
pub(crate) fn raise_file_limit() -> Result<()> {
    let limit = getrlimit(Resource::Nofile);
    setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, maximum: limit.maximum })?;
    if limit.maximum.is_some_and(|maximum| maximum < FILES_NEEDED) {
        eprintln!("open files: the hard limit is below {FILES_NEEDED}; rows with 10,000 connections will fail");
    }
    Ok(())
}

/// Fails unless all of `programs` are installed and there is a core for each side.
pub(crate) fn require(programs: &[&str]) -> Result<()> {
    let missing: Vec<_> = programs.iter().filter(|program| !is_installed(program)).collect();
    if !missing.is_empty() {
        let packages: Vec<_> =
            PACKAGES.iter().filter(|(program, _)| missing.contains(&program)).map(|(_, package)| *package).collect();
        bail!("missing: {missing:?}; on Debian: apt-get install {}", packages.join(" "));
    }
    ensure!(thread::available_parallelism()?.get() >= 2, "two cores are needed: one for the server, one for the load");
    ensure!(Path::new("/proc/self/schedstat").exists(), "this kernel does not tell the time of a task (schedstat)");
    Ok(())
}

/// Debian keeps servers where only root looks.
pub(crate) fn is_installed(program: &str) -> bool {
    shell::is_installed(program) || Path::new("/usr/sbin").join(program).is_file()
}

/// The PATH with the folder that only root's has.
fn path() -> String {
    format!("{}:/usr/sbin", env::var("PATH").unwrap_or_default())
}

/// A command bound to one core.
pub(crate) fn pinned(core: &str, program: &Path) -> Command {
    let mut command = Command::new("taskset");
    command.env("PATH", path());
    command.args(["-c", core]).arg(program);
    command
}

/// Binds this thread to the core of the load. Where it is not allowed, the figures are the worse for it, never the
/// better.
pub(crate) fn stay_on_load_core() {
    let mut core = rustix::thread::CpuSet::new();
    core.set(1);
    let _ = rustix::thread::sched_setaffinity(None, &core);
}

/// Where cargo builds.
pub(crate) fn target() -> PathBuf {
    env::var_os("CARGO_TARGET_DIR").map_or_else(|| PathBuf::from("target"), PathBuf::from)
}

/// The head of a result: when, what, where, with which versions, by which command.
pub(crate) fn header(programs: &[&str], crates: &[&str]) -> Result<String> {
    let cpus = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = cpus.lines().find_map(|line| line.strip_prefix("model name")).unwrap_or("\t: unknown");
    let load = fs::read_to_string("/proc/loadavg").unwrap_or_default();
    let versions: Vec<_> = programs.iter().filter_map(|program| version(program)).chain(locked(crates)).collect();
    let args: Vec<_> = env::args().skip(1).collect();
    Ok(format!(
        "# {}, commit {}\n\n- command: `cargo xtask {}`\n- CPU: {}, {} cores\n- kernel: {}\n\
         - load average at the end: {}\n- {}\n- {}\n",
        said_by("date -u +%F")?,
        commit()?,
        args.join(" "),
        model.trim_start_matches(['\t', ' ', ':']),
        thread::available_parallelism()?,
        said_by("uname -sr")?,
        load.split_whitespace().next().unwrap_or("unknown"),
        said_by("rustc --version")?,
        versions.join(", "),
    ))
}

/// The first line a program prints about its version, on either output.
fn version(program: &str) -> Option<String> {
    let flag = if program == "h2load" { "--version" } else { "-v" };
    let output = pinned(LOAD_CORE, Path::new(program)).arg(flag).output().ok()?;
    let text = [output.stdout, output.stderr].concat();
    let line = String::from_utf8_lossy(&text).lines().find(|line| line.chars().any(|c| c.is_ascii_digit()))?.to_owned();
    let end = line.find(" Copyright").or_else(|| line.find(" - ")).unwrap_or(line.len());
    Some(line[..end].trim_start_matches("nginx version: ").to_owned())
}

/// `name version` of crates in the peers' lock file.
fn locked(crates: &[&str]) -> Vec<String> {
    let text = fs::read_to_string("bench/peers/Cargo.lock").unwrap_or_default();
    let version = |name: &str| {
        let entry = text.split("[[package]]").find(|entry| entry.contains(&format!("name = \"{name}\"\n")))?;
        let version = entry.split("version = \"").nth(1)?.split('"').next()?;
        Some(format!("{name} {version}"))
    };
    crates.iter().filter_map(|name| version(name)).collect()
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

/// Prints a result and writes it to `bench/results/<date>-<commit>-<what>.md`; one that is there already stays, and the
/// new one gets a number: `…-<what>-2.md`.
pub(crate) fn record(what: &str, report: &str) -> Result<()> {
    println!("\n{report}");
    let name = format!("{}-{}-{what}", said_by("date -u +%F")?, commit()?.trim_end_matches('+'));
    let path = write_new(Path::new("bench/results"), &name, report)?;
    println!("written to {}", path.display());
    Ok(())
}

/// Writes `folder/name.md`, or the first of `name-2.md`, `name-3.md`… that is not there.
fn write_new(folder: &Path, name: &str, text: &str) -> Result<PathBuf> {
    fs::create_dir_all(folder)?;
    for number in 1..=RESULTS_MAX {
        let path = folder.join(if number == 1 { format!("{name}.md") } else { format!("{name}-{number}.md") });
        match fs::File::create_new(&path) {
            Ok(mut file) => {
                file.write_all(text.as_bytes())?;
                return Ok(path);
            }
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            Err(error) => return Err(error).with_context(|| format!("cannot write {}", path.display())),
        }
    }
    bail!("{RESULTS_MAX} results of {name} are there already")
}

#[cfg(test)]
mod tests {
    use super::write_new;

    #[test]
    fn a_result_never_takes_the_place_of_another() {
        let folder = tempfile::tempdir().expect("a temporary folder can be made");
        for (text, expect) in [("a", "run.md"), ("b", "run-2.md"), ("c", "run-3.md")] {
            let path = write_new(folder.path(), "run", text).expect("the folder can be written to");
            assert_eq!(path, folder.path().join(expect));
        }
        let first = std::fs::read_to_string(folder.path().join("run.md")).expect("it was written");
        assert_eq!(first, "a");
    }
}
