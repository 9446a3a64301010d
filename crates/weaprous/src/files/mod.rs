//! Static files, from a folder or from the binary.

use crate::request::Request;
use engine::Response;
use std::io;
use std::path::Path;

/// A file that was compiled into the binary.
#[derive(Debug, Clone, Copy)]
pub struct EmbeddedFile {
    /// Its path below the site's root, with `/` between segments and none in front.
    pub path: &'static str,
    /// Its content.
    pub bytes: &'static [u8],
    /// The content compressed by gzip, where that is worth it.
    pub gzip: Option<&'static [u8]>,
}

/// A tree of files.
#[derive(Debug, Clone)]
pub struct Files {}

impl Files {
    /// The files below a folder, read as they are asked for.
    ///
    /// # Errors
    /// It is no folder, or cannot be opened.
    pub fn dir(_path: impl AsRef<Path>) -> io::Result<Self> {
        Ok(Self {})
    }

    /// Files that were compiled in.
    pub fn embedded(_files: &'static [EmbeddedFile]) -> Self {
        Self {}
    }

    /// Answers with the file at a decoded relative path; the empty path and those that end in `/` mean `index.html`.
    pub async fn serve(&self, _path: &str, _request: &Request) -> Response {
        Response::new(engine::StatusCode::NOT_FOUND)
    }
}
