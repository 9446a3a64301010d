//! Words to whoever started the program. A terminal that has gone, or a pipe whose reader has seen enough, is no reason
//! to stop serving, nor to end a check with anything but its own outcome.

use std::io::Write as _;

/// Writes to standard output. Nobody listening is no fault.
pub(crate) fn say(text: impl std::fmt::Display) {
    let mut out = std::io::stdout().lock();
    // The outcome is told by the exit code, and by what is served.
    let _ = write!(out, "{text}").and_then(|()| out.flush());
}

/// Writes to standard error. Nobody listening is no fault.
pub(crate) fn complain(text: impl std::fmt::Display) {
    let _ = writeln!(std::io::stderr().lock(), "{text}"); // as above
}
