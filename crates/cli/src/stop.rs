//! How the program ends: how long it may take, and with what exit code at a second signal.

use std::time::Duration;

/// How long open connections may take to end after a stop.
pub(crate) const GRACE: Duration = Duration::from_secs(5);

/// Exit code after a second Ctrl-C: 128 + SIGINT, as a shell reports it.
pub(crate) const INTERRUPTED: i32 = 130;
