//! Static files, from a folder or from the binary: media type, codings that lie beside a file, validators, conditional
//! requests, ranges, folders with an index or a listing, one page for applications that route in the browser.
//!
//! Never serves what begins with a dot unless asked to, never leaves its folder, never waits for a FIFO, and reads on
//! the blocking pool only.
//!
//! ```text
//!   path ── is_servable ──▶ hot (this worker's memory) ──▶ Resource::respond
//!                             └─ absent or due ──▶ disk (blocking pool) ──▶ kept in hot
//! ```

mod address;
mod asked;
mod beneath;
pub(crate) mod conditional;
mod disk;
mod freshness;
mod hot;
mod listing;
mod parts;
mod range;
mod resource;

use crate::handler::Handler;
use crate::percent;
use crate::problem::Problem;
use crate::request::Request;
use crate::response::IntoResponse;
use asked::Asked;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use bytes::Bytes;
use disk::Entry;
use engine::{Method, Response, StatusCode};
pub(crate) use listing::rfc3339;
use listing::{Listing, View};
use parts::Content;
use resource::{Coding, Found, Resource};
use ring::digest;
use std::borrow::Cow;
use std::collections::HashMap;
use std::fmt;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::SystemTime;

pub use freshness::Freshness;
pub use hot::FileCache;

/// What a folder's address shows.
const INDEX: &str = "index.html";
/// Largest file [`Files::read`] reads whole.
pub const READ_BYTES_MAX: u64 = 4 * 1024 * 1024;

/// A file that was compiled into the binary.
///
/// ```
/// use weaprous::testing::Client;
/// use weaprous::{EmbeddedFile, Files, prelude::*};
///
/// static SITE: [EmbeddedFile; 2] = [
///     // `include_bytes!("../www/index.html")`, in a program
///     EmbeddedFile { path: "start.html", bytes: b"<h1>Hello</h1>", gzip: None },
///     EmbeddedFile { path: "app.js", bytes: b"import './x.js'", gzip: None },
/// ];
///
/// // Addresses that the page itself routes lead to the page.
/// let files = Files::embedded(&SITE).index("start.html").spa("start.html");
/// let client = Client::new(App::new().route("/{path..}", [GET], files));
/// assert_eq!(client.get("/").send().text(), "<h1>Hello</h1>");
/// assert_eq!(client.get("/tasks/7").field("accept", "text/html").send().text(), "<h1>Hello</h1>");
/// assert_eq!(client.get("/missing.js").send().status(), StatusCode::NOT_FOUND);
/// ```
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
/// It is a handler of its own: the last path parameter says which file is wanted.
///
/// ```
/// use weaprous::{Files, prelude::*};
/// # fn main() -> std::io::Result<()> {
/// let site = Files::dir(".")?.listing(true);
/// App::new().route("/{path..}", [GET], site);
/// # Ok(()) }
/// ```
///
/// Where more is to be decided, a handler calls [`Files::serve`] or [`Files::try_serve`]:
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
    rules: Arc<Rules>,
}

#[derive(Debug, Clone)]
enum Origin {
    Folder(Arc<File>),
    Embedded(&'static [EmbeddedFile], Arc<HashMap<&'static str, Arc<Resource>>>),
}

/// How a tree is served.
#[derive(Clone)]
#[allow(clippy::struct_excessive_bools, reason = "each is one choice of whoever serves the tree")]
pub(crate) struct Rules {
    /// Tells one tree from another in the workers' memory.
    id: u64,
    index: String,
    spa: Option<String>,
    hidden: bool,
    well_known: bool,
    listing: bool,
    upload_form: bool,
    precompressed: bool,
    freshness: Option<Arc<FreshnessRule>>,
    cache: FileCache,
}

/// How long a file may be kept, by its name.
type FreshnessRule = dyn Fn(&str) -> Freshness + Send + Sync;

impl Default for Rules {
    fn default() -> Self {
        Self {
            id: next_id(),
            index: INDEX.to_owned(),
            spa: None,
            hidden: false,
            well_known: false,
            listing: false,
            upload_form: false,
            precompressed: true,
            freshness: None,
            cache: FileCache::default(),
        }
    }
}

fn next_id() -> u64 {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    NEXT.fetch_add(1, Ordering::Relaxed)
}

impl fmt::Debug for Rules {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Rules").field("index", &self.index).field("spa", &self.spa).finish_non_exhaustive()
    }
}

/// What an address leads to.
enum Target {
    File(Arc<Resource>),
    /// A folder whose address lacks the slash.
    Folder,
    Listing(Listing),
    Nothing,
}

impl Files {
    /// The files below a folder, read as they are asked for. Beside `app.js` may lie `app.js.br`, `app.js.zst` and
    /// `app.js.gz`, no older than it: clients that take them get them.
    ///
    /// # Errors
    /// It is no folder, or it cannot be opened.
    pub fn dir(path: impl AsRef<Path>) -> io::Result<Self> {
        let folder = File::open(path)?;
        if !folder.metadata()?.is_dir() {
            return Err(io::ErrorKind::NotADirectory.into());
        }
        Ok(Self { origin: Origin::Folder(Arc::new(folder)), rules: Arc::default() })
    }

    /// Files that were compiled in. They count as changed when the binary was.
    pub fn embedded(files: &'static [EmbeddedFile]) -> Self {
        let rules = Arc::new(Rules::default());
        Self { origin: Origin::Embedded(files, embed(files, &rules)), rules }
    }

    /// What a folder's address shows, instead of `index.html`.
    pub fn index(self, name: impl Into<String>) -> Self {
        self.with(|rules| rules.index = name.into())
    }

    /// Answers with this file where a person opens an address that leads to nothing: for applications that route in
    /// the browser. Only for navigations: the client prefers HTML, and the last segment has no ending. Everything
    /// else stays a 404, so that a missing script is seen as missing.
    pub fn spa(self, page: impl Into<String>) -> Self {
        self.with(|rules| rules.spa = Some(page.into()))
    }

    /// Serves files and folders whose name begins with a dot, too.
    pub fn hidden(self, shown: bool) -> Self {
        self.with(|rules| rules.hidden = shown)
    }

    /// Serves the folder `.well-known` (RFC 8615), though it begins with a dot.
    pub fn well_known(self, shown: bool) -> Self {
        self.with(|rules| rules.well_known = shown)
    }

    /// Lists folders on a disk that have no index: as a page, or as JSON where `Accept` prefers it.
    pub fn listing(self, shown: bool) -> Self {
        self.with(|rules| rules.listing = shown)
    }

    /// Puts a form into listings that posts files to the folder's address; what answers it is the application's.
    pub fn upload_form(self, shown: bool) -> Self {
        self.with(|rules| rules.upload_form = shown)
    }

    /// Whether compressed files beside a file are used. They are unless this says otherwise.
    pub fn precompressed(self, used: bool) -> Self {
        self.with(|rules| rules.precompressed = used)
    }

    /// Decides by the name how long a file may be kept, instead of [`Freshness::by_name`].
    pub fn freshness(self, rule: impl Fn(&str) -> Freshness + Send + Sync + 'static) -> Self {
        self.with(|rules| rules.freshness = Some(Arc::new(rule)))
    }

    /// How files on a disk are kept in memory.
    pub fn cache(self, cache: FileCache) -> Self {
        self.with(|rules| rules.cache = cache)
    }

    fn with(mut self, change: impl FnOnce(&mut Rules)) -> Self {
        let mut rules = Rules::clone(&self.rules);
        change(&mut rules);
        rules.id = next_id();
        if let Origin::Embedded(files, resources) = &mut self.origin {
            *resources = embed(files, &rules);
        }
        self.rules = Arc::new(rules);
        self
    }

    /// Answers a `GET` or `HEAD` with the file at a decoded path without leading slash, such as a `{path..}`
    /// parameter gives. The empty path and paths that end in `/` mean their index; a folder without the slash is
    /// redirected to.
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
    ///
    /// ```
    /// use weaprous::{Files, prelude::*};
    ///
    /// async fn file_or_else(State(files): State<Files>, request: Request) -> Result<Response, Problem> {
    ///     let path = request.param("path").unwrap_or_default().to_owned();
    ///     let found = files.try_serve(&path, &request).await?;
    ///     Ok(found.unwrap_or_else(|| (StatusCode::NOT_FOUND, Html("<h1>Lost?</h1>".to_owned())).into_response()))
    /// }
    /// # fn main() -> std::io::Result<()> {
    /// // No hidden files but `/.well-known`, and no `.br` or `.gz` in place of a file.
    /// let files = Files::dir(".")?.hidden(false).well_known(true).precompressed(false).upload_form(false);
    /// App::new().state(std::sync::Arc::new(files)).route("/{path..}", [GET], file_or_else);
    /// # Ok(()) }
    /// ```
    pub async fn try_serve(&self, path: &str, request: &Request) -> Result<Option<Response>, Problem> {
        if !is_read(request) {
            let problem = Problem::new(StatusCode::METHOD_NOT_ALLOWED).detail("files can only be read");
            return Err(problem.own_field("allow", "GET, HEAD"));
        }
        let asked = Asked::of(request);
        if let Some(resource) = self.at_hand(path) {
            return Ok(Some(resource.respond(&asked)));
        }
        if !address::is_servable(path, &self.rules) {
            return Ok(None);
        }
        match self.find(path).await? {
            Target::File(resource) => Ok(Some(resource.respond(&asked))),
            Target::Folder => Ok(Some(address::to_folder(request))),
            Target::Listing(listing) => {
                let (view, path) = (View::of(request, self.rules.upload_form), path.to_owned());
                let written = blocking(move || Ok(view.write(listing, &path))).await;
                Ok(Some(view.respond(written.map_err(Problem::internal)?)))
            }
            Target::Nothing => self.fall_back(path, &asked).await,
        }
    }

    /// What needs no look at the disk.
    fn at_hand(&self, path: &str) -> Option<Arc<Resource>> {
        match &self.origin {
            Origin::Folder(_) => hot::find(&self.rules, path),
            Origin::Embedded(_, resources) => resources.get(self.file_name(path).as_ref()).cloned(),
        }
    }

    /// The file an address means: that of a folder is its index.
    fn file_name<'a>(&self, path: &'a str) -> Cow<'a, str> {
        if path.is_empty() || path.ends_with('/') {
            Cow::Owned(format!("{path}{}", self.rules.index))
        } else {
            Cow::Borrowed(path)
        }
    }

    async fn find(&self, path: &str) -> Result<Target, Problem> {
        let root = match &self.origin {
            Origin::Folder(root) => Arc::clone(root),
            Origin::Embedded(_, resources) => {
                let index = format!("{path}/{}", self.rules.index);
                return Ok(if resources.contains_key(index.as_str()) { Target::Folder } else { Target::Nothing });
            }
        };
        let (known, rules) = (hot::claim(&self.rules, path), Arc::clone(&self.rules));
        let (before, name, folder) = (known.clone(), self.file_name(path).into_owned(), path.to_owned());
        let looked = blocking(move || {
            let entry = disk::look(&root, &name, &rules, before.as_deref())?;
            let is_folder = folder.is_empty() || folder.ends_with('/');
            let is_listed = rules.listing && is_folder && matches!(entry, Entry::Nothing);
            let listing = if is_listed { listing::read(&root, &folder, &rules)? } else { None };
            Ok((entry, listing))
        });
        let (entry, listing) = looked.await.map_err(Problem::internal)?;
        match (entry, known, listing) {
            (Entry::Unchanged, Some(known), _) => Ok(Target::File(known)),
            (Entry::File(resource), ..) => {
                let resource = Arc::new(resource);
                self.keep(path, &resource);
                Ok(Target::File(resource))
            }
            (other, _, listing) => {
                hot::forget(&self.rules, path);
                Ok(match (other, listing) {
                    (_, Some(listing)) => Target::Listing(listing),
                    (Entry::Folder, _) => Target::Folder,
                    (Entry::Bare, _) if self.rules.listing => Target::Folder,
                    _ => Target::Nothing,
                })
            }
        }
    }

    /// A file whose tag is of this moment only is not kept, nor one so long that its space might be missed.
    fn keep(&self, path: &str, resource: &Arc<Resource>) {
        if resource.is_settled() && resource.open_bytes_max() <= hot::OPEN_FILE_BYTES_MAX {
            hot::keep(&self.rules, path, Arc::clone(resource));
        } else {
            hot::forget(&self.rules, path);
        }
    }

    async fn fall_back(&self, path: &str, asked: &Asked<'_>) -> Result<Option<Response>, Problem> {
        let Some(page) = &self.rules.spa else { return Ok(None) };
        let has_ending = path.rsplit('/').next().is_some_and(|last| last.contains('.'));
        if has_ending || !asked.is_navigation() {
            return Ok(None);
        }
        let found = match self.at_hand(page) {
            Some(resource) => Target::File(resource),
            None => self.find(page).await?,
        };
        let Target::File(resource) = found else { return Ok(None) };
        // A cache must not give the page to who asks for the same address as a program.
        Ok(Some(resource.respond(asked).field("vary", "Accept, Sec-Fetch-Mode")))
    }

    /// The content of a file, for programs that make a page of it; `None` if there is none.
    ///
    /// # Errors
    /// It could not be read, or is larger than [`READ_BYTES_MAX`].
    pub async fn read(&self, path: &str) -> io::Result<Option<Bytes>> {
        if !address::is_servable(path, &self.rules) {
            return Ok(None);
        }
        let resource = match self.at_hand(path) {
            Some(resource) => resource,
            None => match self.find(path).await {
                Ok(Target::File(resource)) => resource,
                Ok(_) => return Ok(None),
                Err(problem) => return Err(io::Error::other(problem)),
            },
        };
        let Some((content, len)) = resource.plain() else { return Ok(None) };
        if len > READ_BYTES_MAX {
            return Err(io::ErrorKind::FileTooLarge.into());
        }
        match content {
            Content::Bytes(bytes) => Ok(Some(bytes.clone())),
            Content::File(file) => {
                let file = Arc::clone(file);
                blocking(move || {
                    let mut bytes = vec![0; len as usize];
                    file.read_exact_at(&mut bytes, 0)?;
                    Ok(Some(bytes.into()))
                })
                .await
            }
        }
    }
}

fn is_read(request: &Request) -> bool {
    matches!(request.method(), Method::Get | Method::Head)
}

/// What tells `Files` apart from handlers that are functions.
#[derive(Debug, Clone, Copy)]
pub enum ServesFiles {}

#[diagnostic::do_not_recommend]
impl Handler<ServesFiles> for Files {
    /// Serves the file that the last path parameter names, or the whole path where there is none.
    async fn call(&self, request: Request) -> Response {
        match wanted(&request) {
            Some(path) => self.serve(&path, &request).await,
            None => Problem::not_found("there is no such file").into_response(),
        }
    }
}

/// The decoded path that a request names; `None` if it cannot be decoded.
fn wanted(request: &Request) -> Option<Cow<'_, str>> {
    if let Some(path) = request.params().1.next_back() {
        return Some(Cow::Borrowed(path));
    }
    let path = request.path().trim_start_matches('/');
    if path.contains('%') {
        // A slash that was encoded is no separator, and no file's name holds one.
        let has_slash = path.to_ascii_lowercase().contains("%2f");
        return percent::decode(path).ok().filter(|_| !has_slash).map(Cow::Owned);
    }
    Some(Cow::Borrowed(path))
}

/// Runs file work on the blocking pool.
async fn blocking<T: Send + 'static>(work: impl FnOnce() -> io::Result<T> + Send + 'static) -> io::Result<T> {
    tokio::task::spawn_blocking(work).await.map_err(io::Error::other)?
}

fn embed(files: &'static [EmbeddedFile], rules: &Rules) -> Arc<HashMap<&'static str, Arc<Resource>>> {
    let binary = std::env::current_exe().and_then(std::fs::metadata);
    let modified = binary.and_then(|binary| binary.modified()).ok();
    let servable = files.iter().filter(|file| address::is_servable(file.path, rules));
    servable.map(|file| (file.path, Arc::new(embedded(file, modified, rules)))).collect::<HashMap<_, _>>().into()
}

fn embedded(file: &EmbeddedFile, modified: Option<SystemTime>, rules: &Rules) -> Resource {
    let hash = URL_SAFE_NO_PAD.encode(&digest::digest(&digest::SHA256, file.bytes).as_ref()[..16]);
    let found = |coding: Coding, bytes: &'static [u8]| {
        let etag =
            if coding == Coding::Identity { format!("\"{hash}\"") } else { format!("\"{hash}-{}\"", coding.token()) };
        let content = Content::Bytes(Bytes::from_static(bytes));
        Found { coding, content, len: bytes.len() as u64, etag, modified, is_settled: true }
    };
    let packed = file.gzip.map(|bytes| found(Coding::Gzip, bytes));
    Resource::new(file.path, rules, packed.into_iter().chain([found(Coding::Identity, file.bytes)]).collect())
}
