//! The gate: every check in the order of how fast it fails, then one line that counts the tests.

use crate::{fuzz, setup, shell, tidy};
use anyhow::{Context, Result, bail};
use std::path::PathBuf;
use std::process::Command;

/// Runs everything a change must pass. Ends with `N passed, N failed`.
pub(crate) fn run() -> Result<()> {
    setup::run()?;
    shell::run("cargo fmt --all -- --check")?;
    tidy::run()?;
    let deny = setup::deny_program().context("cargo-deny was installed by the setup step")?;
    shell::run(&format!("{deny} check --hide-inclusion-graph licenses bans sources"))?;
    shell::run("cargo clippy --workspace --all-targets --quiet -- -D warnings")?;
    let mut counts = Counts::default();
    let rust_passes = rust_tests(&mut counts)?;
    #[cfg(target_os = "linux")]
    crate::bench::smoke()?;
    docs()?;
    fuzz::lint()?;
    fuzz::smoke()?;
    shell::run("npm --prefix browser run --silent types")?;
    let browser_passes = browser_tests(&mut counts)?;
    if !has_corpora() {
        println!("\nNOT RUN: other people's corpora; there are none in ../shared/corpus or $WEAPROUS_CORPUS");
    }
    println!("\n{} passed, {} failed", counts.passed, counts.failed);
    if !(rust_passes && browser_passes) {
        bail!("tests failed");
    }
    Ok(())
}

/// Whether the cases are there that are not kept in this repository; without them their tests pass and say so. As
/// `testkit::corpus` looks for them.
fn has_corpora() -> bool {
    let beside = concat!(env!("CARGO_MANIFEST_DIR"), "/../../shared/corpus");
    std::env::var_os("WEAPROUS_CORPUS").map_or_else(|| beside.into(), PathBuf::from).is_dir()
}

/// Tests run so far, over all runners.
#[derive(Default)]
struct Counts {
    passed: u32,
    failed: u32,
}

impl Counts {
    /// Adds `test result: ok. 12 passed; 0 failed; …`, cargo's line for one test binary.
    fn add_cargo_line(&mut self, line: &str) {
        let Some(result) = line.strip_prefix("test result: ") else { return };
        for part in result.split([';', '.']) {
            match part.trim().split_once(' ') {
                Some((count, "passed")) => self.passed += count.parse::<u32>().unwrap_or(0),
                Some((count, "failed")) => self.failed += count.parse::<u32>().unwrap_or(0),
                _ => {}
            }
        }
    }

    /// Adds `ℹ pass 12` or `# pass 12`, node's lines at the end of a run.
    fn add_node_line(&mut self, line: &str) {
        let words: Vec<&str> = line.split_whitespace().collect();
        match words[..] {
            ["ℹ" | "#", "pass", count] => self.passed += count.parse::<u32>().unwrap_or(0),
            ["ℹ" | "#", "fail", count] => self.failed += count.parse::<u32>().unwrap_or(0),
            _ => {}
        }
    }
}

fn rust_tests(counts: &mut Counts) -> Result<bool> {
    let line = "cargo test --workspace --no-fail-fast --quiet";
    shell::run_watched(shell::command(line), line, |line| counts.add_cargo_line(line))
}

fn docs() -> Result<()> {
    let mut command = shell::command("cargo doc --workspace --no-deps --all-features --quiet");
    command.env("RUSTDOCFLAGS", "-D warnings");
    shell::run_command(command, "cargo doc, warnings denied")
}

/// The page in real Chromium, against the binary that the tests above built.
fn browser_tests(counts: &mut Counts) -> Result<bool> {
    shell::run("cargo build --quiet -p cli")?;
    let mut command = Command::new("npm");
    command.args(["--prefix", "browser", "run", "--silent", "test"]);
    command.env("WEAPROUS_BIN", format!("{}/debug/weaprous", target_directory()?));
    shell::run_watched(command, "browser tests", |line| counts.add_node_line(line))
}

/// Where cargo builds: the clone's own folder, unless the environment says otherwise.
fn target_directory() -> Result<String> {
    let output = shell::command("cargo metadata --format-version 1 --no-deps").output()?;
    let metadata: serde_json::Value = serde_json::from_slice(&output.stdout).context("cargo metadata is JSON")?;
    Ok(metadata["target_directory"].as_str().context("metadata names the target directory")?.to_owned())
}

#[cfg(test)]
mod tests {
    use super::Counts;

    #[test]
    fn counts_add_up_over_runners() {
        let mut counts = Counts::default();
        counts.add_cargo_line(
            "test result: ok. 12 passed; 1 failed; 0 ignored; 0 measured; 3 filtered out; finished in 0.1s",
        );
        counts.add_cargo_line("test result: FAILED. 2 passed; 3 failed; 0 ignored");
        counts.add_node_line("ℹ pass 7");
        counts.add_node_line("# fail 1");
        counts.add_node_line("ok 1 - a pass 9");
        assert_eq!((counts.passed, counts.failed), (21, 5));
    }
}
