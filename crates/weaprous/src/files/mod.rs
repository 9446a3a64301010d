//! Static files, from a folder or from the binary: media type, validators, conditional requests, single ranges.
//!
//! Never serves what begins with a dot, never leaves its folder, never waits for a FIFO, and reads on the blocking
//! pool only.

mod beneath;
mod conditional;
mod range;
mod source;

use crate::accept;
use crate::percent;
use crate::problem::Problem;
use crate::request::Request;
use crate::response::{IntoResponse, Redirect};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use bytes::Bytes;
use conditional::{Conditions, Validators, Verdict};
use engine::{Body, Method, Response, StatusCode};
use range::Wanted;
use ring::digest;
use source::FileSource;
use std::collections::HashMap;
use std::fs::{File, Metadata};
use std::io::{self, Read};
use std::os::fd::AsFd;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

/// What a folder's address shows.
const INDEX: &str = "index.html";
/// Largest file [`Files::read`] reads whole.
pub const READ_BYTES_MAX: u64 = 4 * 1024 * 1024;

/// Longer than any tick of a kernel's clock for files; those are 1 to 10 ms.
const SETTLED: Duration = Duration::from_millis(100);

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

/// A tree of files. Cheap to clone.
///
/// ```
/// use weaprous::{Files, prelude::*};
/// async fn file(Path(path): Path<String>, State(files): State<Files>, request: Request) -> Response {
///     files.serve(&path, &request).await
/// }
/// # fn main() -> std::io::Result<()> {
/// let files = Files::dir(".")?;
/// App::new().state(std::sync::Arc::new(files)).route("/{path..}", [GET], file);
/// # Ok(()) }
/// ```
#[derive(Debug, Clone)]
pub struct Files {
    origin: Origin,
}

#[derive(Debug, Clone)]
enum Origin {
    Folder(Arc<File>),
    Embedded(Arc<HashMap<&'static str, Embedded>>),
}

#[derive(Debug)]
struct Embedded {
    file: EmbeddedFile,
    hash: String,
    modified: Option<SystemTime>,
}

/// A file that was found, ready to be described and sent.
struct Found {
    content: Content,
    len: u64,
    validators: Validators,
    /// The coding of the content, if it has one.
    gzip: bool,
    /// Whether another coding of it exists.
    varies: bool,
}

enum Content {
    Bytes(Bytes),
    File(Arc<File>),
}

/// What lies at a path of a folder.
enum Entry {
    File(File, Metadata),
    /// A folder that has an index.
    Folder,
}

impl Files {
    /// The files below a folder, read as they are asked for.
    ///
    /// # Errors
    /// It is no folder, or it cannot be opened.
    pub fn dir(path: impl AsRef<Path>) -> io::Result<Self> {
        let folder = File::open(path)?;
        if !folder.metadata()?.is_dir() {
            return Err(io::ErrorKind::NotADirectory.into());
        }
        Ok(Self { origin: Origin::Folder(Arc::new(folder)) })
    }

    /// Files that were compiled in. They count as changed when the binary was.
    pub fn embedded(files: &'static [EmbeddedFile]) -> Self {
        let binary = std::env::current_exe().and_then(std::fs::metadata);
        let modified = binary.and_then(|binary| binary.modified()).ok();
        let entry = |file: &EmbeddedFile| (file.path, Embedded { file: *file, hash: hash(file.bytes), modified });
        Self { origin: Origin::Embedded(Arc::new(files.iter().map(entry).collect())) }
    }

    /// Answers a `GET` or `HEAD` with the file at a decoded path without leading slash, such as a `{path..}`
    /// parameter gives. The empty path and paths that end in `/` mean their `index.html`; a folder without the slash
    /// is redirected to.
    pub async fn serve(&self, path: &str, request: &Request) -> Response {
        match self.try_serve(path, request).await {
            Ok(Some(response)) => response,
            Ok(None) => Problem::not_found("there is no such file").into_response(),
            Err(problem) => problem.into_response(),
        }
    }

    /// As [`Files::serve`], but leaves the answer to the caller when there is no such file.
    ///
    /// # Errors
    /// The method is none of `GET` and `HEAD`, or the file could not be opened for a reason of ours.
    pub async fn try_serve(&self, path: &str, request: &Request) -> Result<Option<Response>, Problem> {
        if !matches!(request.method(), Method::Get | Method::Head) {
            let problem = Problem::new(StatusCode::METHOD_NOT_ALLOWED).detail("files can only be read");
            return Err(problem.own_field("allow", "GET, HEAD"));
        }
        let Some(name) = file_name(path) else { return Ok(None) };
        let found = match &self.origin {
            Origin::Embedded(files) => match files.get(name.as_str()) {
                Some(file) => file.found(request),
                None if files.contains_key(format!("{name}/{INDEX}").as_str()) => return Ok(Some(to_folder(request))),
                None => return Ok(None),
            },
            Origin::Folder(root) => match look_up(Arc::clone(root), name.clone()).await? {
                Some(Entry::File(file, metadata)) => Found::from_file(file, &metadata),
                Some(Entry::Folder) => return Ok(Some(to_folder(request))),
                None => return Ok(None),
            },
        };
        Ok(Some(found.respond(&name, request)))
    }

    /// The content of a file, for programs that make a page of it; `None` if there is none.
    ///
    /// # Errors
    /// It could not be read, or is larger than [`READ_BYTES_MAX`].
    pub async fn read(&self, path: &str) -> io::Result<Option<Bytes>> {
        let Some(name) = file_name(path) else { return Ok(None) };
        let root = match &self.origin {
            Origin::Embedded(files) => {
                return Ok(files.get(name.as_str()).map(|file| Bytes::from_static(file.file.bytes)));
            }
            Origin::Folder(root) => Arc::clone(root),
        };
        blocking(move || {
            let Some(Entry::File(file, metadata)) = entry(&root, &name)? else { return Ok(None) };
            if metadata.len() > READ_BYTES_MAX {
                return Err(io::ErrorKind::FileTooLarge.into());
            }
            let mut bytes = Vec::with_capacity(metadata.len() as usize);
            file.take(READ_BYTES_MAX).read_to_end(&mut bytes)?;
            Ok(Some(bytes.into()))
        })
        .await
    }
}

/// The path of the file that an address means; `None` if no file is ever served there.
fn file_name(path: &str) -> Option<String> {
    let is_plain = |segment: &str| {
        !segment.is_empty() && !segment.starts_with('.') && !segment.contains(|c: char| c == '\\' || c.is_control())
    };
    let (folder, last) = path.rsplit_once('/').map_or((None, path), |(folder, last)| (Some(folder), last));
    if folder.is_some_and(|folder| !folder.split('/').all(is_plain)) || !last.is_empty() && !is_plain(last) {
        return None;
    }
    Some(if last.is_empty() { format!("{path}{INDEX}") } else { path.to_owned() })
}

/// Sends the client to the same path with a slash. Segments are encoded anew and none is empty, so that the target
/// never looks like another host.
fn to_folder(request: &Request) -> Response {
    let mut location = String::new();
    for segment in request.path().split('/').filter(|segment| !segment.is_empty()) {
        match percent::decode(segment) {
            Ok(segment) => location = format!("{location}/{}", percent::encode(&segment)),
            Err(_) => return Problem::not_found("there is no such file").into_response(),
        }
    }
    location.push('/');
    if let Some(query) = request.head.query() {
        location = format!("{location}?{query}");
    }
    Redirect::permanent(location).into_response()
}

/// Runs file work on the blocking pool.
async fn blocking<T: Send + 'static>(work: impl FnOnce() -> io::Result<T> + Send + 'static) -> io::Result<T> {
    tokio::task::spawn_blocking(work).await.map_err(io::Error::other)?
}

async fn look_up(root: Arc<File>, name: String) -> Result<Option<Entry>, Problem> {
    blocking(move || entry(&root, &name)).await.map_err(Problem::internal)
}

fn entry(root: &File, name: &str) -> io::Result<Option<Entry>> {
    let Some(file) = absent_is_none(beneath::open(root.as_fd(), name))? else { return Ok(None) };
    let metadata = file.metadata()?;
    if metadata.is_file() {
        return Ok(Some(Entry::File(file, metadata)));
    }
    if !metadata.is_dir() {
        return Ok(None); // a FIFO, a socket, a device
    }
    let index = absent_is_none(beneath::open(root.as_fd(), &format!("{name}/{INDEX}")))?;
    Ok(index.map(|_| Entry::Folder))
}

/// What a stranger may not tell apart: absent, outside, forbidden, a loop of links, a name no file can have.
fn absent_is_none(opened: io::Result<File>) -> io::Result<Option<File>> {
    use rustix::io::Errno;
    match opened {
        Ok(file) => Ok(Some(file)),
        Err(error) => match Errno::from_io_error(&error) {
            Some(
                Errno::NOENT
                | Errno::NOTDIR
                | Errno::XDEV
                | Errno::LOOP
                | Errno::NAMETOOLONG
                | Errno::ACCESS
                | Errno::NXIO
                | Errno::INVAL
                | Errno::ILSEQ,
            ) => Ok(None),
            _ => Err(error),
        },
    }
}

fn hash(bytes: &[u8]) -> String {
    URL_SAFE_NO_PAD.encode(&digest::digest(&digest::SHA256, bytes).as_ref()[..16])
}

impl Embedded {
    fn found(&self, request: &Request) -> Found {
        let accepted = request.field("accept-encoding").unwrap_or_default();
        let gzip = self.file.gzip.filter(|_| accept::accepts_coding(accepted, "gzip"));
        let bytes = gzip.unwrap_or(self.file.bytes);
        // Different bytes need different tags (RFC 9110 §8.8.3.3).
        let etag = if gzip.is_some() { format!("\"{}-gzip\"", self.hash) } else { format!("\"{}\"", self.hash) };
        Found {
            content: Content::Bytes(Bytes::from_static(bytes)),
            len: bytes.len() as u64,
            validators: Validators { etag, modified: self.modified },
            gzip: gzip.is_some(),
            varies: self.file.gzip.is_some(),
        }
    }
}

impl Found {
    /// The tag is made of everything the system changes with the content: the time of the last change of status
    /// cannot be set back. A file that changed just now may change again within the same tick of that clock, so its
    /// tag is of this moment and matches nothing later.
    fn from_file(file: File, metadata: &Metadata) -> Self {
        let changed = Duration::new(metadata.ctime().unsigned_abs(), metadata.ctime_nsec() as u32);
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        let is_settled = now.checked_sub(changed).is_some_and(|age| age >= SETTLED);
        let moment = if is_settled { String::new() } else { format!("-{:x}", now.as_nanos()) };
        let (inode, len, changed) = (metadata.ino(), metadata.len(), changed.as_nanos());
        let etag = format!("\"{inode:x}-{len:x}-{changed:x}{moment}\"");
        Self {
            content: Content::File(Arc::new(file)),
            len: metadata.len(),
            validators: Validators { etag, modified: metadata.modified().ok() },
            gzip: false,
            varies: false,
        }
    }

    fn respond(self, name: &str, request: &Request) -> Response {
        let conditions = Conditions {
            matches: request.field("if-match"),
            unmodified_since: request.field("if-unmodified-since"),
            none_match: request.field("if-none-match"),
            modified_since: request.field("if-modified-since"),
            range: request.field("if-range"),
        };
        match conditions.judge(&self.validators) {
            Verdict::Failed => {
                return Problem::new(StatusCode::PRECONDITION_FAILED).detail("the file has changed").into_response();
            }
            Verdict::NotModified => return self.head(StatusCode::NOT_MODIFIED),
            Verdict::Proceed => {}
        }
        let range = request.field("range").filter(|_| request.method() == Method::Get);
        let range = range.filter(|_| conditions.lets_range(&self.validators, SystemTime::now()));
        match range.map_or(Wanted::Whole, |field| range::parse(field, self.len)) {
            // Said outright, since there is no content to tell the length of an empty file from.
            Wanted::Whole if request.method() == Method::Head => {
                self.describe(StatusCode::OK, name).field("content-length", self.len.to_string())
            }
            Wanted::Whole => self.describe(StatusCode::OK, name).with_body(self.body(0, self.len)),
            Wanted::Part { first, last } => self
                .describe(StatusCode::PARTIAL_CONTENT, name)
                .field("content-range", format!("bytes {first}-{last}/{}", self.len))
                .with_body(self.body(first, last - first + 1)),
            Wanted::Unsatisfiable => Problem::new(StatusCode::RANGE_NOT_SATISFIABLE)
                .detail(format!("the file has {} bytes", self.len))
                .own_field("content-range", &format!("bytes */{}", self.len))
                .into_response(),
        }
    }

    /// What every answer about the file says, 304 included (RFC 9110 §15.4.5).
    fn head(&self, status: StatusCode) -> Response {
        let mut response = Response::new(status)
            .field("etag", &self.validators.etag)
            .field("cache-control", "no-cache") // may be kept, is asked about: a changed page shows at once
            .field("x-content-type-options", "nosniff");
        if let Some(modified) = self.validators.modified {
            response = response.field("last-modified", httpdate::fmt_http_date(modified));
        }
        if self.varies { response.field("vary", "Accept-Encoding") } else { response }
    }

    fn describe(&self, status: StatusCode, name: &str) -> Response {
        let response = self.head(status).field("content-type", media_type(name)).field("accept-ranges", "bytes");
        if self.gzip { response.field("content-encoding", "gzip") } else { response }
    }

    fn body(&self, start: u64, len: u64) -> Body {
        match &self.content {
            // The numbers are positions in memory, so they fit.
            Content::Bytes(bytes) => Body::Full(bytes.slice(start as usize..(start + len) as usize)),
            Content::File(file) => Body::from_source(FileSource::new(Arc::clone(file), start, len)),
        }
    }
}

/// By the name's ending; text is UTF-8 here.
fn media_type(name: &str) -> String {
    let guess = mime_guess::from_path(name).first_raw().unwrap_or("application/octet-stream");
    if guess.starts_with("text/") { format!("{guess}; charset=utf-8") } else { guess.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(path: &str, expect: Option<&str>) {
        assert_eq!(file_name(path).as_deref(), expect, "{path:?}");
    }

    #[test]
    fn addresses_mean_files() {
        check("", Some("index.html"));
        check("a/", Some("a/index.html"));
        check("a/b.css", Some("a/b.css"));
        check("a b/é.txt", Some("a b/é.txt"));
    }

    #[test]
    fn what_could_lead_elsewhere_is_nowhere() {
        for path in [
            ".env",
            ".git/config",
            "a/.b/c",
            "a/.b",
            "../x",
            "a/../x",
            "./x",
            "a//b",
            "//",
            "/etc/passwd",
            "/",
            "..\\x",
            "a\\b",
            "a\nb",
            "a\0",
            "a/\u{7f}",
        ] {
            check(path, None);
        }
    }

    #[test]
    fn media_types_follow_the_name() {
        let check = |name: &str, expect: &str| assert_eq!(media_type(name), expect);
        check("a.html", "text/html; charset=utf-8");
        check("a.css", "text/css; charset=utf-8");
        check("a.js", "text/javascript; charset=utf-8");
        check("a.PNG", "image/png");
        check("a.svg", "image/svg+xml");
        check("a.json", "application/json");
        check("a", "application/octet-stream");
        check("a.unheard-of", "application/octet-stream");
    }
}
