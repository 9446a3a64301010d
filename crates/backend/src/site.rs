//! Where the pages come from: the binary itself, or a folder.

use std::io;
use std::path::Path;
use weaprous::{EmbeddedFile, Files};

// `WWW` and `STATIC`: the files as they lay there when this was built, compressed where it pays.
include!(concat!(env!("OUT_DIR"), "/site.rs"));

/// The folder cannot be served.
#[derive(Debug, thiserror::Error)]
#[error("cannot serve files from {path}: {error}; give a folder that can be read")]
pub struct SiteError {
    path: String,
    #[source]
    error: io::Error,
}

/// A tree of files to serve.
#[derive(Debug, Clone)]
pub struct Site(pub(crate) Files);

impl Site {
    /// The pages in the binary.
    pub fn embedded_www() -> Self {
        Self(Files::embedded(WWW))
    }

    /// Images and shared styles in the binary.
    pub fn embedded_static() -> Self {
        Self(Files::embedded(STATIC))
    }

    /// The files of a folder, read as they are asked for: for those who change them.
    ///
    /// # Errors
    /// It is no folder, or it cannot be read.
    pub fn dir(path: impl AsRef<Path>) -> Result<Self, SiteError> {
        let path = path.as_ref();
        Files::dir(path).map(Self).map_err(|error| SiteError { path: path.display().to_string(), error })
    }
}
