//! Ctrl-C and SIGTERM: the first one asks everything to end, the second one ends the process.

use crate::exit::Failure;
use anyhow::Context as _;
use engine::Stop;
use std::time::Duration;
use tokio::signal::unix::{Signal, SignalKind, signal};

/// How long open connections may take to end after a stop.
pub(crate) const GRACE: Duration = Duration::from_secs(5);

/// Exit code after a second Ctrl-C: 128 + SIGINT, as a shell reports it.
pub(crate) const INTERRUPTED: i32 = 130;

/// Watches for signals, from before this returns until the process ends, on a thread of its own.
pub(crate) fn on_signals(stop: Stop) -> Result<(), Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().context("no event loop")?;
    let context = runtime.enter();
    let mut interrupt = signal(SignalKind::interrupt()).context("signals cannot be watched")?;
    let mut terminate = signal(SignalKind::terminate()).context("signals cannot be watched")?;
    drop(context);
    let watch = async move {
        either(&mut interrupt, &mut terminate).await;
        stop.cancel();
        either(&mut interrupt, &mut terminate).await;
        std::process::exit(INTERRUPTED);
    };
    let thread = std::thread::Builder::new().name("signals".to_owned()).spawn(move || runtime.block_on(watch));
    thread.context("cannot start a thread")?;
    Ok(())
}

async fn either(interrupt: &mut Signal, terminate: &mut Signal) {
    tokio::select! {
        _ = interrupt.recv() => {}
        _ = terminate.recv() => {}
    }
}
