//! Files that people add to a folder by its page. Never replaces one, never writes outside, never by a hidden name.

use rustix::fs::Mode;
use rustix::process::umask;
use std::fs::Permissions;
use std::io;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path as FilePath, PathBuf};
use std::sync::Arc;
use weaprous::multipart::{Multipart, UploadedFile};
use weaprous::percent;
use weaprous::prelude::*;

/// What uploads need.
struct Uploads {
    /// Without symbolic links.
    root: PathBuf,
    hidden: bool,
    /// Who may read what is added: as with any file that this process makes.
    mode: u32,
}

/// Names tried for one file before it is given up: `a.txt`, `a (2).txt`, …
const NAMES_MAX: usize = 100;

/// The route that takes forms posted to a folder's address, `mib_max` MiB each at most.
pub(crate) fn route(root: PathBuf, hidden: bool, mib_max: u32) -> Route {
    let uploads = Arc::new(Uploads { root, hidden, mode: mode_of_new_files() });
    let add = async move |request: Request| add(&uploads, request).await;
    Route::new("/{path..}", [POST], add).body_bytes_max(u64::from(mib_max) * 1024 * 1024)
}

async fn add(uploads: &Arc<Uploads>, request: Request) -> Result<Redirect, Problem> {
    let path = request.param("path").unwrap_or_default().to_owned();
    let (known, wanted) = (Arc::clone(uploads), path.clone());
    let folder = blocking(move || Ok(known.folder(&wanted))).await?;
    let folder = folder.ok_or_else(|| Problem::not_found("there is no such folder"))?;
    let form = Multipart::of(request)?.store_in(&folder).collect().await?;
    let chosen: Vec<UploadedFile> = form
        .into_files()
        .into_iter()
        .filter(|file| file.head().file_name.as_deref().is_some_and(|name| !name.is_empty()))
        .collect();
    if chosen.is_empty() {
        return Err(Problem::unprocessable("choose a file first"));
    }
    for file in chosen {
        let name = uploads.name(file.head().file_name.as_deref().unwrap_or_default())?;
        let (folder, mode) = (folder.clone(), uploads.mode);
        blocking(move || {
            keep(file, &folder, &name, mode).map_err(|error| match error.kind() {
                io::ErrorKind::AlreadyExists => Problem::conflict(format!("there are too many files called {name}")),
                _ => Problem::internal(error),
            })
        })
        .await?;
    }
    let back: String = path
        .split('/')
        .filter(|segment| !segment.is_empty())
        .fold(String::from("/"), |all, segment| format!("{all}{}/", percent::encode(segment)));
    Ok(Redirect::see_other(back))
}

/// Runs file work on the blocking pool.
async fn blocking<T: Send + 'static>(work: impl FnOnce() -> Result<T, Problem> + Send + 'static) -> Result<T, Problem> {
    tokio::task::spawn_blocking(work).await.map_err(Problem::internal)?
}

impl Uploads {
    /// The folder on the disk that an address means. It must be one, below the root after all links are followed.
    fn folder(&self, path: &str) -> Option<PathBuf> {
        let is_plain = |segment: &&str| !segment.contains('\\') && (self.hidden || !segment.starts_with('.'));
        let segments: Vec<&str> = path.split('/').filter(|segment| !segment.is_empty()).collect();
        if segments.contains(&"..") || !segments.iter().all(is_plain) {
            return None;
        }
        let folder = segments.iter().fold(self.root.clone(), |all, segment| all.join(segment));
        let folder = folder.canonicalize().ok()?;
        (folder.starts_with(&self.root) && folder.is_dir()).then_some(folder)
    }

    /// The name a file is kept by: the last part of what the client calls it, without what a terminal or another
    /// system could take for something else.
    fn name(&self, given: &str) -> Result<String, Problem> {
        let last = given.rsplit(['/', '\\']).next().unwrap_or_default().trim();
        let is_hidden = last.starts_with('.') && (!self.hidden || matches!(last, "." | ".."));
        if last.is_empty() || is_hidden || last.chars().any(char::is_control) || last.len() > 255 {
            return Err(Problem::unprocessable("a file cannot be kept by this name"));
        }
        Ok(last.to_owned())
    }
}

/// What the user's `umask` leaves of reading and writing for everybody. It can only be asked for by setting it: to be
/// called before there are threads that make files.
#[allow(clippy::useless_conversion, reason = "modes are shorter on macOS")]
fn mode_of_new_files() -> u32 {
    let mask = umask(Mode::from_raw_mode(0o077));
    umask(mask);
    (Mode::from_raw_mode(0o666) - mask).as_raw_mode().into()
}

/// Keeps a file by its name, or by `name (2)` and so on where there is one already.
fn keep(file: UploadedFile, folder: &FilePath, name: &str, mode: u32) -> io::Result<()> {
    // While it is received it is nobody else's. A file system without modes has none to set.
    let _ = file.open().and_then(|file| file.set_permissions(Permissions::from_mode(mode)));
    let (stem, ending) =
        name.rsplit_once('.').map_or((name, String::new()), |(stem, ending)| (stem, format!(".{ending}")));
    let names = std::iter::once(name.to_owned()).chain((2..=NAMES_MAX).map(|n| format!("{stem} ({n}){ending}")));
    // A name that is taken in between is still not replaced: `keep_at` refuses.
    let free = names.map(|name| folder.join(name)).find(|path| path.symlink_metadata().is_err());
    file.keep_at(free.ok_or(io::ErrorKind::AlreadyExists)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_from_outside_are_only_names() {
        let uploads = Uploads { root: PathBuf::new(), hidden: false, mode: 0o600 };
        let check =
            |given: &str, expect: Option<&str>| assert_eq!(uploads.name(given).ok().as_deref(), expect, "{given:?}");
        check("a.txt", Some("a.txt"));
        check("C:\\Users\\x\\a.txt", Some("a.txt"));
        check("../../etc/passwd", Some("passwd"));
        check("a b é.txt", Some("a b é.txt"));
        for given in ["", "..", ".", ".bashrc", "a/", "a\nb", "x/.env", &"x".repeat(256)] {
            check(given, None);
        }
    }
}
