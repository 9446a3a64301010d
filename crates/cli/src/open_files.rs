//! How many files and sockets this process may hold open. A proxied request takes two; the usual limit of 1024 is for
//! programs that cannot count further, and may be raised by whoever can.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// As many as Linux allows at all unless told otherwise.
const OPEN_FILES_MAX: u64 = 1 << 20;

/// Raises the soft limit as far as the hard one lets.
pub(crate) fn raise_limit() {
    let before = getrlimit(Resource::Nofile);
    let wanted = before.maximum.unwrap_or(OPEN_FILES_MAX).min(OPEN_FILES_MAX);
    if before.current.is_some_and(|current| current < wanted) {
        // Where that is refused the old limit holds, and whoever meets it is told.
        let _ = setrlimit(Resource::Nofile, Rlimit { current: Some(wanted), maximum: before.maximum });
    }
}
