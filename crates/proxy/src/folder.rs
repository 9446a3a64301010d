//! Files from a folder: the framework's own, mounted where a location says.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use weaprous::{App, AppService, Files, GET};

use crate::conf::{FilesAction, Rewrite};

/// A folder at work.
pub(crate) struct Folder {
    id: u64,
    make: Box<dyn Fn() -> AppService + Send + Sync>,
}

impl Folder {
    /// `None` when the folder cannot be opened, which the operator is told.
    pub(crate) fn open(action: &FilesAction) -> Option<Self> {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let report = |problem: &dyn std::fmt::Display| {
            tracing::error!(folder = %action.folder.display(), %problem, "files cannot be served");
        };
        let files = Files::dir(&action.folder).map_err(|error| report(&error)).ok()?;
        let mut app = App::new().route("/{path..}", [GET], files.clone());
        if let Some(Rewrite { prefix, replacement }) = &action.rewrite {
            let (prefix, replacement) = (prefix.trim_end_matches('/'), replacement.trim_matches('/'));
            let inner = match replacement {
                "" => files.clone(),
                inner => Files::dir(action.folder.join(inner)).map_err(|error| report(&error)).ok()?,
            };
            if prefix.is_empty() {
                app = App::new().route("/{path..}", [GET], inner);
            } else {
                app = app.route(&format!("{prefix}/{{path..}}"), [GET], inner);
            }
        }
        let make = app.into_service().map_err(|error| report(&error)).ok()?;
        Some(Self { id: NEXT.fetch_add(1, Relaxed), make: Box::new(make) })
    }

    /// Tells one folder from another.
    pub(crate) fn id(&self) -> u64 {
        self.id
    }

    /// The service for one worker.
    pub(crate) fn service(&self) -> AppService {
        (self.make)()
    }
}

impl std::fmt::Debug for Folder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Folder").field("id", &self.id).finish_non_exhaustive()
    }
}
