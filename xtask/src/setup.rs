//! Installs what the gate needs beside the Rust toolchain, by package name: Debian's packages with apt, the browser
//! tests' packages with npm, cargo-deny with cargo. What is there already is left alone.

use crate::shell;
use anyhow::{Result, bail};

/// Program looked for → Debian package that has it.
const DEBIAN: [(&str, &str); 7] = [
    ("cc", "build-essential"),
    ("c++", "build-essential"),
    ("chromium", "chromium"),
    ("node", "nodejs"),
    ("npm", "npm"),
    ("git", "git"),
    ("wrk", "wrk"),
];

/// Where cargo installs tools of the gate: inside the target folder, so that nothing outside the clone changes.
const TOOLS: &str = "target/tools";

/// The version of cargo-deny the configuration `deny.toml` is written for.
const DENY_VERSION: &str = "0.20.2";

pub(crate) fn run() -> Result<()> {
    debian_packages()?;
    npm_packages()?;
    cargo_deny()
}

fn debian_packages() -> Result<()> {
    let missing: Vec<&str> =
        DEBIAN.iter().filter(|(program, _)| !shell::is_installed(program)).map(|(_, package)| *package).collect();
    if missing.is_empty() {
        return Ok(());
    }
    if !shell::is_installed("apt-get") {
        bail!("missing: {}; install them with this system's package manager, then run again", missing.join(", "));
    }
    let sudo = if is_root() { "" } else { "sudo " };
    shell::run_retrying(&format!("{sudo}apt-get update -qq"), 4)?;
    let packages = missing.join(" ");
    shell::run_retrying(&format!("{sudo}apt-get install -y -qq --no-install-recommends {packages}"), 4)
}

fn is_root() -> bool {
    std::process::Command::new("id").arg("-u").output().is_ok_and(|output| output.stdout == b"0\n")
}

fn npm_packages() -> Result<()> {
    shell::run_retrying("npm ci --prefix browser --no-audit --no-fund --loglevel=error", 4)
}

fn cargo_deny() -> Result<()> {
    if deny_program().is_some() {
        return Ok(());
    }
    shell::run_retrying(
        &format!(
            "cargo install --quiet --locked --root {TOOLS} --target-dir {TOOLS}/build \
             cargo-deny --version {DENY_VERSION}"
        ),
        3,
    )
}

/// The cargo-deny of the version wanted: on the PATH, or the gate's own.
pub(crate) fn deny_program() -> Option<String> {
    let wanted = format!("cargo-deny {DENY_VERSION}");
    ["cargo-deny".to_owned(), format!("{TOOLS}/bin/cargo-deny")].into_iter().find(|program| {
        let found = std::process::Command::new(program).arg("--version").output();
        found.is_ok_and(|output| String::from_utf8_lossy(&output.stdout).trim() == wanted)
    })
}
