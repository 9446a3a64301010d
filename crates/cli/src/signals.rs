//! Signals as events, for a program that does more than stop.

use crate::exit::Failure;
use anyhow::Context as _;
use tokio::signal::unix::{Signal, SignalKind, signal};

/// What an operator asks for by a signal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Asked {
    /// SIGINT or SIGTERM: finish what is open and leave.
    Stop,
    /// SIGHUP: read the configuration again.
    Reload,
    /// SIGUSR1: open the log files again.
    Reopen,
    /// SIGUSR2: start the new version and hand the sockets over.
    Upgrade,
}

/// The signals of this process, from the moment it is made.
pub(crate) struct Signals {
    interrupt: Signal,
    terminate: Signal,
    hang_up: Signal,
    user_1: Signal,
    user_2: Signal,
}

impl Signals {
    /// Begins to listen; inside a runtime.
    pub(crate) fn new() -> Result<Self, Failure> {
        let listen = |kind| signal(kind).context("signals cannot be watched");
        Ok(Self {
            interrupt: listen(SignalKind::interrupt())?,
            terminate: listen(SignalKind::terminate())?,
            hang_up: listen(SignalKind::hangup())?,
            user_1: listen(SignalKind::user_defined1())?,
            user_2: listen(SignalKind::user_defined2())?,
        })
    }

    /// The next one. Cancelling loses none.
    pub(crate) async fn next(&mut self) -> Asked {
        tokio::select! {
            _ = self.interrupt.recv() => Asked::Stop,
            _ = self.terminate.recv() => Asked::Stop,
            _ = self.hang_up.recv() => Asked::Reload,
            _ = self.user_1.recv() => Asked::Reopen,
            _ = self.user_2.recv() => Asked::Upgrade,
        }
    }
}
