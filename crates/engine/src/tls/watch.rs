//! Reloading: when a file changes, and when the process gets SIGHUP.

use super::{Tls, TlsError, TlsSettings, lock};
use std::fs::Metadata;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

/// What tells one version of a file from another.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Version {
    path: PathBuf,
    modified: Option<SystemTime>,
    bytes: Option<u64>,
    inode: Option<u64>,
}

impl Tls {
    /// Reloads whenever a file has changed or SIGHUP comes, for as long as it is polled and somebody else has this `Tls`
    /// or a clone. A server that listens with it does it by itself; from then on SIGHUP does not end the process any
    /// more.
    pub async fn watch(self) {
        let mut hangup = Hangup::new();
        let (period, shared) = (self.shared.settings.reload_period, Arc::downgrade(&self.shared));
        drop(self);
        loop {
            let is_asked = tokio::select! {
                () = hangup.recv() => true,
                () = tokio::time::sleep(period) => false,
            };
            let Some(shared) = shared.upgrade() else { return };
            let tls = Self { shared };
            // A worker that ends takes its blocking work with it: then nobody waits for the answer.
            let _ = tokio::task::spawn_blocking(move || tls.reload_if(is_asked)).await;
        }
    }

    fn reload_if(&self, is_asked: bool) {
        let has_changed = || *lock(&self.shared.seen) != Version::of_all(&self.shared.settings);
        if is_asked || has_changed() {
            match self.reload() {
                Ok(()) => tracing::info!("certificates loaded again"),
                Err(error) => say(&error),
            }
        }
    }
}

fn say(error: &TlsError) {
    tracing::error!(%error, "the new certificates cannot be used; those loaded before stay in use");
}

impl Version {
    /// The versions of all files. Taken before they are read, so that a change in between is seen the next time.
    pub(super) fn of_all(settings: &TlsSettings) -> Vec<Self> {
        settings.files().map(Self::of).collect()
    }

    /// That of one file.
    pub(super) fn of(path: &Path) -> Self {
        let metadata = std::fs::metadata(path).ok();
        Self {
            modified: metadata.as_ref().and_then(|metadata| metadata.modified().ok()),
            bytes: metadata.as_ref().map(Metadata::len),
            inode: metadata.as_ref().map(inode),
            path: path.to_owned(),
        }
    }
}

#[cfg(unix)]
fn inode(metadata: &Metadata) -> u64 {
    std::os::unix::fs::MetadataExt::ino(metadata)
}

#[cfg(not(unix))]
fn inode(_: &Metadata) -> u64 {
    0
}

/// SIGHUP, where there is such a thing.
struct Hangup {
    #[cfg(unix)]
    signal: Option<tokio::signal::unix::Signal>,
}

impl Hangup {
    fn new() -> Self {
        Self {
            #[cfg(unix)]
            signal: tokio::signal::unix::signal(tokio::signal::unix::SignalKind::hangup())
                .inspect_err(|error| tracing::warn!(%error, "SIGHUP cannot be watched; changed files are still seen"))
                .ok(),
        }
    }

    async fn recv(&mut self) {
        #[cfg(unix)]
        if let Some(signal) = &mut self.signal
            && signal.recv().await.is_some()
        {
            return;
        }
        std::future::pending::<()>().await;
    }
}
