//! The binary `weaprous`: what was typed → what runs. Everything else lives in the crates it wires together.

mod args;
mod chat_client;
mod check;
mod data;
mod exit;
mod handover;
mod limits;
mod listeners;
mod network;
mod open_files;
mod reverse_proxy;
mod say;
mod serve;
mod servers;
mod signals;
mod stop;
mod systemd;
mod tls;
mod up;

use args::{Arguments, Command};
use clap::Parser as _;
use std::io::IsTerminal as _;
use std::process::ExitCode;
use tracing_subscriber::EnvFilter;

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let full_screen = matches!(&arguments.command, Command::Chat(args) if chat_client::is_full_screen(args));
    if !(full_screen && std::io::stderr().is_terminal()) {
        log_to_stderr(); // into a full screen it would write across the conversation
    }
    open_files::raise_limit();
    let outcome = match arguments.command {
        Command::Up(args) => up::run(&args),
        Command::Backend(args) => servers::backend(&args),
        Command::Proxy(args) => reverse_proxy::run(&args),
        Command::Tracker(args) => servers::tracker(&args),
        Command::Check(args) => check::run(&args),
        Command::Chat(args) => chat_client::run(args),
        Command::Serve(args) => serve::run(&args),
        Command::Cert(args) => tls::cert(&args),
    };
    exit::code(outcome)
}

/// What is shown when nobody says anything else: whoever sees a backend leave is to see it come back.
const LOG_DEFAULT: &str = "warn,proxy=info";

/// Warnings and errors go to standard error; `WEAPROUS_LOG=info` (or `debug`, or `engine=trace`) shows more.
fn log_to_stderr() {
    let wanted = std::env::var("WEAPROUS_LOG").ok().filter(|wanted| !wanted.is_empty());
    let filter = EnvFilter::builder()
        .with_default_directive(tracing::level_filters::LevelFilter::WARN.into())
        .parse_lossy(wanted.as_deref().unwrap_or(LOG_DEFAULT));
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).with_ansi(false).init();
}
