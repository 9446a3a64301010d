//! Ctrl-C and SIGTERM: the first one asks everything to end, the second one ends the process.

use engine::Stop;
use std::time::Duration;
use tokio::signal::unix::{Signal, SignalKind, signal};

/// How long open connections may take to end after a stop.
pub(crate) const GRACE: Duration = Duration::from_secs(5);

/// Exit code after a second Ctrl-C: 128 + SIGINT, as a shell reports it.
const INTERRUPTED: i32 = 130;

/// Watches for signals until the process ends.
pub(crate) async fn on_signals(stop: Stop) {
    let (Ok(mut interrupt), Ok(mut terminate)) = (signal(SignalKind::interrupt()), signal(SignalKind::terminate()))
    else {
        tracing::warn!("signals cannot be watched; stop this process with SIGKILL");
        return;
    };
    either(&mut interrupt, &mut terminate).await;
    stop.cancel();
    either(&mut interrupt, &mut terminate).await;
    std::process::exit(INTERRUPTED);
}

async fn either(interrupt: &mut Signal, terminate: &mut Signal) {
    tokio::select! {
        _ = interrupt.recv() => {}
        _ = terminate.recv() => {}
    }
}
