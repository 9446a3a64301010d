//! Reloading: when a file changes, and when the process gets SIGHUP.

use super::{Tls, TlsError};
use std::fs::Metadata;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

/// What tells one version of a file from another.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Version {
    path: PathBuf,
    modified: Option<SystemTime>,
    bytes: Option<u64>,
    inode: Option<u64>,
}

impl Tls {
    /// Reloads whenever a file has changed or SIGHUP comes, for as long as it is polled. A server that listens with this `Tls`
    /// does it by itself; from then on SIGHUP does not end the process any more.
    pub async fn watch(self) {
        let mut hangup = Hangup::new();
        let mut seen = self.versions().await;
        loop {
            let is_asked = tokio::select! {
                () = hangup.recv() => true,
                () = tokio::time::sleep(self.shared.settings.reload_period) => false,
            };
            // Looked at before they are read: a change in between is seen the next time.
            let now = self.versions().await;
            if is_asked || now != seen {
                seen = now;
                self.reload_and_say().await;
            }
        }
    }

    async fn reload_and_say(&self) {
        let tls = self.clone();
        match tokio::task::spawn_blocking(move || tls.reload()).await {
            Ok(Ok(())) => tracing::info!("certificates loaded again"),
            Ok(Err(error)) => say(&error),
            Err(_) => {} // the worker ends
        }
    }

    async fn versions(&self) -> Vec<Version> {
        let paths: Vec<PathBuf> = self.files().map(Path::to_owned).collect();
        let look = move || paths.into_iter().map(Version::of).collect();
        tokio::task::spawn_blocking(look).await.unwrap_or_default()
    }
}

fn say(error: &TlsError) {
    tracing::error!(%error, "the new certificates cannot be used; those loaded before stay in use");
}

impl Version {
    fn of(path: PathBuf) -> Self {
        let metadata = std::fs::metadata(&path).ok();
        Self {
            modified: metadata.as_ref().and_then(|metadata| metadata.modified().ok()),
            bytes: metadata.as_ref().map(Metadata::len),
            inode: metadata.as_ref().map(inode),
            path,
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
        std::future::pending().await
    }
}
