//! Fuzzing: builds the targets of `fuzz/` with coverage instrumentation on the stable toolchain, and runs them.

use crate::shell;
use anyhow::{Context, Result, bail};
use std::path::PathBuf;
use std::process::Command;

/// How long the smoke run spends on each target.
const SMOKE_SECONDS: u32 = 4;

/// Longest input tried; every limit worth meeting is lower.
const INPUT_BYTES_MAX: u32 = 4096;

/// One input that takes longer is a finding.
const INPUT_SECONDS_MAX: u32 = 10;

/// Where the instrumented build and what the fuzzer learns are kept.
const TARGET_DIR: &str = "target/fuzz";

/// What libFuzzer's driver needs to see of the code it runs. These are ordinary options of the compiler's back end.
const INSTRUMENTATION: &str = "-Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4 \
    -Cllvm-args=-sanitizer-coverage-inline-8bit-counters -Cllvm-args=-sanitizer-coverage-pc-table \
    -Cllvm-args=-sanitizer-coverage-trace-compares -Ccodegen-units=1";

const USAGE: &str = "\
usage: cargo xtask fuzz --smoke                  every target for some seconds
       cargo xtask fuzz TARGET [--minutes N]     one target for long (10 minutes)
What is found is written to target/fuzz; mend the fault and commit the input as a file in fuzz/cases/TARGET.";

/// `cargo xtask fuzz …`
pub(crate) fn run(arguments: &[String]) -> Result<()> {
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match words[..] {
        ["--smoke"] => smoke(),
        [target] if is_target(target) => long(target, 10),
        [target, "--minutes", minutes] if is_target(target) => long(target, minutes.parse().context(USAGE)?),
        _ => bail!("{USAGE}\ntargets: {}", TARGETS.join(", ")),
    }
}

/// All targets, as `fuzz/src/lib.rs` names them.
const TARGETS: [&str; 11] = [
    "request_head",
    "response_head",
    "chunked",
    "connection",
    "proxy_conf",
    "cookies",
    "ranges",
    "multipart",
    "resume_ids",
    "frames",
    "envelopes",
];

fn is_target(name: &str) -> bool {
    TARGETS.contains(&name)
}

/// Format and lints of the targets, which are a workspace of their own.
pub(crate) fn lint() -> Result<()> {
    shell::run("cargo fmt --manifest-path fuzz/Cargo.toml -- --check")?;
    let mut command =
        shell::command("cargo clippy --manifest-path fuzz/Cargo.toml --all-targets --quiet -- -D warnings");
    command.env("CARGO_TARGET_DIR", TARGET_DIR);
    shell::run_command(command, "clippy of the fuzz targets")
}

/// Every target for some seconds: what the gate runs.
pub(crate) fn smoke() -> Result<()> {
    let program = build()?;
    for target in TARGETS {
        fuzz(&program, target, SMOKE_SECONDS)?;
    }
    Ok(())
}

fn long(target: &str, minutes: u32) -> Result<()> {
    fuzz(&build()?, target, minutes * 60)
}

/// Builds for a named target, which is this machine's: build scripts are then left uninstrumented.
fn build() -> Result<PathBuf> {
    let triple = host_triple()?;
    let line = format!("cargo build --quiet --manifest-path fuzz/Cargo.toml --features driver --target {triple}");
    let mut command = shell::command(&line);
    command.env("RUSTFLAGS", INSTRUMENTATION).env("CARGO_TARGET_DIR", TARGET_DIR).env("CARGO_INCREMENTAL", "0");
    shell::run_command(command, "cargo build of the fuzz targets, instrumented")?;
    Ok([TARGET_DIR, &triple, "debug", "fuzz"].iter().collect())
}

fn host_triple() -> Result<String> {
    let output = shell::command("rustc -vV").output().context("cannot start rustc")?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let triple = text.lines().find_map(|line| line.strip_prefix("host: "));
    triple.map(str::to_owned).context("rustc names its host")
}

/// Runs one target, from its seeds, the kept cases, and what earlier runs here have learnt.
fn fuzz(program: &PathBuf, target: &str, seconds: u32) -> Result<()> {
    let learnt = format!("{TARGET_DIR}/corpus/{target}");
    let seeds = format!("{TARGET_DIR}/seeds/{target}");
    let cases = format!("fuzz/cases/{target}");
    for folder in [&learnt, &seeds] {
        std::fs::create_dir_all(folder).with_context(|| format!("cannot make {folder}"))?;
    }
    let mut command = Command::new(program);
    command.env("WEAPROUS_FUZZ_TARGET", target).env("WEAPROUS_FUZZ_SEEDS", &seeds);
    command.arg(format!("-max_total_time={seconds}"));
    command.arg(format!("-max_len={INPUT_BYTES_MAX}")).arg(format!("-timeout={INPUT_SECONDS_MAX}"));
    command.args(["-verbosity=0", "-print_final_stats=1", "-rss_limit_mb=2048"]);
    command.arg(format!("-artifact_prefix={TARGET_DIR}/found-{target}-"));
    command.args([&learnt, &seeds]);
    if std::path::Path::new(&cases).is_dir() {
        command.arg(&cases);
    }
    let outcome = shell::run_command(command, &format!("fuzz {target} for {seconds} s"));
    outcome.with_context(|| format!("the input is in {TARGET_DIR}/found-{target}-*: keep it in {cases}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_targets_are_those_of_the_fuzz_crate() {
        let source = concat!(env!("CARGO_MANIFEST_DIR"), "/../fuzz/src/lib.rs");
        let text = std::fs::read_to_string(source).expect("the fuzz crate is there");
        let names: Vec<_> =
            text.lines().filter_map(|line| line.split_once("Target { name: \"")?.1.split('"').next()).collect();
        assert_eq!(names, TARGETS);
    }

    #[test]
    fn kept_inputs_belong_to_a_target() {
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../fuzz/cases");
        for entry in std::fs::read_dir(folder).expect("the cases are there") {
            let name = entry.expect("the folder can be read").file_name();
            let name = name.to_string_lossy();
            assert!(is_target(&name) || name == "README.md", "no run begins with fuzz/cases/{name}");
        }
    }
}
