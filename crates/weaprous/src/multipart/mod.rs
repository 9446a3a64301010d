//! Forms with files (`multipart/form-data`, RFC 7578), read as they arrive: a file goes to disk while it is received,
//! and the client sends no faster than it is written.
//!
//! ```
//! use weaprous::multipart::{FormData, Multipart, MultipartError};
//! use weaprous::prelude::*;
//! use weaprous::testing::{Client, FormPart};
//!
//! async fn upload(multipart: Multipart) -> Result<String, MultipartError> {
//!     let form: FormData = multipart.collect().await?;
//!     let file = form.file("photo").ok_or(MultipartError::Missing("photo"))?;
//!     Ok(format!("{}: {} bytes in a file of ours", form.text("title").unwrap_or("untitled"), file.len()))
//! }
//!
//! let client = Client::new(App::new().route("/photos", [POST], upload));
//! let parts = [FormPart::text("title", "sea"), FormPart::file("photo", "../sea.jpg", "image/jpeg", vec![0; 7])];
//! assert_eq!(client.post("/photos").multipart(parts).send().text(), "sea: 7 bytes in a file of ours");
//! ```
//!
//! [`Multipart::next_part`] gives the parts one by one, for handlers that pass content on instead of keeping it.
//! Everything is limited ([`MultipartLimits`]), the whole by the route's
//! [`body_bytes_max`](crate::Route::body_bytes_max). A client's file name is text to be shown, and never becomes a
//! path: files have names of our own, are readable by us alone, and are deleted when they are dropped.

mod disk;
mod parser;

pub use disk::{UploadedFile, discard_leftovers};

use crate::extract::{FromRequest, ViaBody};
use crate::problem::Problem;
use crate::request::Request;
use crate::response::IntoResponse;
use bytes::{Bytes, BytesMut};
use engine::{Body, BodyError, Response, StatusCode};
use parser::{Parser, Piece};
use std::io;
use std::path::PathBuf;

/// How much of everything a form may have: see [`Multipart::limits`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MultipartLimits {
    /// Most parts: 413 beyond it. 256 unless it is changed.
    pub parts_max: usize,
    /// Longest name of a part and longest name of a file, in bytes: 400 beyond it. 256 unless it is changed.
    pub name_bytes_max: usize,
    /// Longest content of a part that is no file, in bytes: 413 beyond it. 64 KiB unless it is changed.
    pub field_bytes_max: u64,
    /// Longest file in bytes: 413 beyond it. No limit but that on the whole unless it is changed.
    pub file_bytes_max: u64,
}

impl Default for MultipartLimits {
    fn default() -> Self {
        Self { parts_max: 256, name_bytes_max: 256, field_bytes_max: 64 * 1024, file_bytes_max: u64::MAX }
    }
}

/// Why a form was not read, as a type that says which answer it is. As an answer it becomes the [`Problem`] that tells the client.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum MultipartError {
    /// The content is something else: 415.
    #[error("send the content as `Content-Type: multipart/form-data`")]
    NotMultipart,
    /// `Content-Type` has no boundary, or one that is none: 400.
    #[error("`Content-Type` needs a boundary of 1 to 70 characters")]
    Boundary,
    /// The content does not have the form its media type promises: 400.
    #[error("the form {0}")]
    Malformed(&'static str),
    /// A part's content is encoded, in base64 say: 415 (RFC 7578 §4.7).
    #[error("a part uses a transfer encoding; send it as it is")]
    Encoded,
    /// A part that must be text is none: 400.
    #[error("the part `{name}` is not UTF-8")]
    NotText {
        /// The part.
        name: String,
    },
    /// A part that is needed is not there: 422. For handlers.
    #[error("the part `{0}` is missing")]
    Missing(&'static str),
    /// More parts than [`MultipartLimits::parts_max`]: 413.
    #[error("the form has more than {max} parts")]
    TooManyParts {
        /// The limit.
        max: usize,
    },
    /// The head of a part is too long: 400.
    #[error("the head of a part is too long")]
    HeadTooLong,
    /// A name is longer than [`MultipartLimits::name_bytes_max`]: 400.
    #[error("a part's name is longer than {max} bytes")]
    NameTooLong {
        /// The limit.
        max: usize,
    },
    /// A part is longer than its limit: 413.
    #[error("the part `{name}` is longer than {max} bytes")]
    PartTooLarge {
        /// The part.
        name: String,
        /// The limit.
        max: u64,
    },
    /// The content could not be received; the whole is too long, for one: 413.
    #[error(transparent)]
    Content(#[from] BodyError),
    /// Our disk failed: 500.
    #[error("an upload could not be stored: {0}")]
    Disk(#[source] io::Error),
}

impl MultipartError {
    /// The status that tells the client.
    pub fn status(&self) -> StatusCode {
        match self {
            Self::NotMultipart | Self::Encoded => StatusCode::UNSUPPORTED_MEDIA_TYPE,
            Self::TooManyParts { .. } | Self::PartTooLarge { .. } => StatusCode::CONTENT_TOO_LARGE,
            Self::Content(error) => error.status(),
            Self::Disk(_) => StatusCode::INTERNAL_SERVER_ERROR,
            Self::Missing(_) => StatusCode::UNPROCESSABLE_CONTENT,
            Self::Boundary
            | Self::Malformed(_)
            | Self::NotText { .. }
            | Self::HeadTooLong
            | Self::NameTooLong { .. } => StatusCode::BAD_REQUEST,
        }
    }
}

impl From<MultipartError> for Problem {
    fn from(error: MultipartError) -> Self {
        match &error {
            MultipartError::Disk(cause) => Self::internal(cause),
            MultipartError::NotMultipart => {
                Self::new(error.status()).detail(error.to_string()).own_field("accept", "multipart/form-data")
            }
            _ => Self::new(error.status()).detail(error.to_string()),
        }
    }
}

impl IntoResponse for MultipartError {
    fn into_response(self) -> Response {
        Problem::from(self).into_response()
    }
}

/// What a part says about itself.
///
/// ```
/// use std::io::Read as _;
/// use weaprous::multipart::{Multipart, MultipartError, Part, PartHead, UploadedFile};
/// use weaprous::prelude::*;
/// use weaprous::testing::{Client, FormPart};
///
/// fn describe(head: &PartHead) -> String {
///     format!("{} {:?} {:?}", head.name, head.file_name, head.content_type)
/// }
///
/// async fn heads(mut form: Multipart) -> Result<String, MultipartError> {
///     let mut text = String::new();
///     while let Some(part) = form.next_part().await? {
///         let part: Part<'_> = part;
///         text += &(describe(part.head()) + ";");
///     }
///     Ok(text)
/// }
///
/// async fn first_byte(form: Multipart) -> Result<String, MultipartError> {
///     let files: Vec<UploadedFile> = form.collect().await?.into_files();
///     let mut byte = [0];
///     files[0].open().and_then(|mut file| file.read_exact(&mut byte)).map_err(MultipartError::Disk)?;
///     Ok(char::from(byte[0]).to_string())
/// }
///
/// let client = Client::new(App::new().route("/heads", [POST], heads).route("/byte", [POST], first_byte));
/// let form = [FormPart::file("photo", "sea.jpg", "image/jpeg", "x")];
/// assert_eq!(client.post("/heads").multipart(form.clone()).send().text(), r#"photo Some("sea.jpg") Some("image/jpeg");"#);
/// assert_eq!(client.post("/byte").multipart(form).send().text(), "x");
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PartHead {
    /// The name of the form's control.
    pub name: String,
    /// What the client calls the file; `None` where the part is no file. Text to be shown and escaped, never a path.
    pub file_name: Option<String>,
    /// The media type the client claims.
    pub content_type: Option<String>,
}

/// A form that is being received. As an extractor it stands last; 415 for other content.
#[derive(Debug)]
pub struct Multipart {
    body: Body,
    parser: Parser,
    /// Bytes the whole may still have.
    left: u64,
    total_max: u64,
    folder: Option<PathBuf>,
    is_inside_part: bool,
}

/// One part that is being received. Dropping it passes over the rest of it.
#[derive(Debug)]
pub struct Part<'a> {
    multipart: &'a mut Multipart,
    head: PartHead,
    received: u64,
}

/// A whole form: text in memory, files on disk.
///
/// ```
/// use weaprous::multipart::{Multipart, MultipartError};
/// use weaprous::prelude::*;
/// use weaprous::testing::{Client, FormPart};
///
/// async fn read(form: Multipart) -> Result<String, MultipartError> {
///     let form = form.collect().await?;
///     let tags: Vec<&str> = form.texts("tag").collect();
///     Ok(format!("{} {}", tags.join("+"), form.file("photo").is_some()))
/// }
///
/// let client = Client::new(App::new().route("/", [POST], read));
/// let parts = [FormPart::text("tag", "sea"), FormPart::text("tag", "wind"), FormPart::file("photo", "", "a/b", "")];
/// assert_eq!(client.post("/").multipart(parts).send().text(), "sea+wind false");
/// ```
#[derive(Debug, Default)]
pub struct FormData {
    texts: Vec<(String, String)>,
    files: Vec<UploadedFile>,
}

impl FromRequest<ViaBody> for Multipart {
    async fn from_request(request: Request) -> Result<Self, Problem> {
        Self::of(request).map_err(Problem::from)
    }
}

impl Multipart {
    /// The form of a request.
    ///
    /// ```
    /// use weaprous::multipart::Multipart;
    /// use weaprous::prelude::*;
    /// use weaprous::testing::{Client, FormPart};
    ///
    /// /// Takes text or a form, by what it is.
    /// async fn note(request: Request) -> Result<String, Problem> {
    ///     if request.media_type() == Some("text/plain") {
    ///         return request.read().await;
    ///     }
    ///     let form = Multipart::of(request)?.collect().await?;
    ///     form.text("note").map(str::to_owned).ok_or_else(|| Problem::unprocessable("`note` is missing"))
    /// }
    ///
    /// let client = Client::new(App::new().route("/notes", [POST], note));
    /// assert_eq!(client.post("/notes").multipart([FormPart::text("note", "buy bread")]).send().text(), "buy bread");
    /// assert_eq!(client.post("/notes").body("{}").send().status(), StatusCode::UNSUPPORTED_MEDIA_TYPE);
    /// ```
    ///
    /// # Errors
    /// The content is something else, or has no boundary.
    pub fn of(mut request: Request) -> Result<Self, MultipartError> {
        let boundary = parser::boundary_of(request.field("content-type").unwrap_or_default())?;
        let total_max = request.body_bytes_max();
        let parser = Parser::new(&boundary, MultipartLimits::default());
        let body = std::mem::take(&mut request.body);
        Ok(Self { body, parser, left: total_max, total_max, folder: None, is_inside_part: false })
    }

    /// Changes the limits: before the first part is read.
    ///
    /// ```
    /// use weaprous::multipart::{Multipart, MultipartError, MultipartLimits};
    ///
    /// async fn avatar(form: Multipart) -> Result<(), MultipartError> {
    ///     let limits = MultipartLimits { file_bytes_max: 100_000, parts_max: 1, ..MultipartLimits::default() };
    ///     let _form = form.limits(limits).collect().await?;
    ///     Ok(())
    /// }
    /// ```
    pub fn limits(mut self, limits: MultipartLimits) -> Self {
        self.parser.set_limits(limits);
        self
    }

    /// Keeps files in this folder, instead of the system's for temporary ones: where they can be moved from by
    /// renaming. They have hidden names there, `.weaprous-upload-…`, until they are kept or dropped; what a process
    /// that was killed has left is deleted when the folder is first used ([`discard_leftovers`]).
    pub fn store_in(mut self, folder: impl Into<PathBuf>) -> Self {
        self.folder = Some(folder.into());
        self
    }

    /// The next part; what is left of the one before is passed over. `None` at the end of the form.
    ///
    /// ```
    /// use weaprous::multipart::{Multipart, MultipartError};
    ///
    /// async fn lengths(mut form: Multipart) -> Result<String, MultipartError> {
    ///     let mut lengths = String::new();
    ///     while let Some(mut part) = form.next_part().await? {
    ///         let mut bytes = 0;
    ///         while let Some(chunk) = part.chunk().await? {
    ///             bytes += chunk.len();
    ///         }
    ///         lengths += &format!("{}: {bytes}\n", part.head().name);
    ///     }
    ///     Ok(lengths)
    /// }
    /// ```
    ///
    /// # Errors
    /// See [`MultipartError`].
    pub async fn next_part(&mut self) -> Result<Option<Part<'_>>, MultipartError> {
        loop {
            match self.next_piece().await? {
                Piece::Head(head) => {
                    self.is_inside_part = true;
                    return Ok(Some(Part { multipart: self, head, received: 0 }));
                }
                Piece::Data(_) => {}
                Piece::PartEnd => self.is_inside_part = false,
                Piece::End => return Ok(None),
            }
        }
    }

    /// The whole form: text in memory, files on disk. What was stored is deleted if anything goes wrong.
    ///
    /// # Errors
    /// See [`MultipartError`].
    pub async fn collect(mut self) -> Result<FormData, MultipartError> {
        let mut form = FormData::default();
        while let Some(part) = self.next_part().await? {
            if part.head.file_name.is_some() {
                form.files.push(part.save().await?);
            } else {
                let name = part.head.name.clone();
                form.texts.push((name, part.text().await?));
            }
        }
        Ok(form)
    }

    async fn next_piece(&mut self) -> Result<Piece, MultipartError> {
        loop {
            if let Some(piece) = self.parser.poll()? {
                return Ok(piece);
            }
            let chunk = self.body.chunk().await.transpose()?;
            let chunk = chunk.ok_or(MultipartError::Malformed("ends before its last boundary"))?;
            let too_large = BodyError::TooLarge { max: self.total_max };
            self.left = self.left.checked_sub(chunk.len() as u64).ok_or(too_large)?;
            self.parser.handle_bytes(&chunk);
        }
    }
}

impl Part<'_> {
    /// What the part says about itself.
    pub fn head(&self) -> &PartHead {
        &self.head
    }

    /// The next piece of the content, `None` at its end.
    ///
    /// # Errors
    /// See [`MultipartError`]; the limit is that for files or that for fields, by whether there is a file name.
    pub async fn chunk(&mut self) -> Result<Option<Bytes>, MultipartError> {
        if !self.multipart.is_inside_part {
            return Ok(None);
        }
        let Piece::Data(data) = self.multipart.next_piece().await? else {
            self.multipart.is_inside_part = false;
            return Ok(None);
        };
        self.received += data.len() as u64;
        let max = self.bytes_max();
        if self.received > max {
            return Err(MultipartError::PartTooLarge { name: self.head.name.clone(), max });
        }
        Ok(Some(data))
    }

    /// All of the content, in memory: never more than [`MultipartLimits::field_bytes_max`], also of a file.
    ///
    /// # Errors
    /// See [`MultipartError`].
    pub async fn bytes(mut self) -> Result<Bytes, MultipartError> {
        let max = self.multipart.parser.limits().field_bytes_max;
        let mut all = BytesMut::new();
        while let Some(chunk) = self.chunk().await? {
            if (all.len() + chunk.len()) as u64 > max {
                return Err(MultipartError::PartTooLarge { name: self.head.name, max });
            }
            all.extend_from_slice(&chunk);
        }
        Ok(all.freeze())
    }

    /// All of the content as text; limited as [`Part::bytes`].
    ///
    /// # Errors
    /// See [`MultipartError`].
    pub async fn text(self) -> Result<String, MultipartError> {
        let name = self.head.name.clone();
        let bytes = self.bytes().await?;
        String::from_utf8(bytes.into()).map_err(|_| MultipartError::NotText { name })
    }

    /// Writes the content to a new file, which is deleted when the result is dropped.
    ///
    /// # Errors
    /// See [`MultipartError`]; nothing is left behind then.
    pub async fn save(mut self) -> Result<UploadedFile, MultipartError> {
        let mut writer = disk::Writer::create(self.multipart.folder.clone()).await?;
        while let Some(chunk) = self.chunk().await? {
            writer.write(chunk).await?;
        }
        writer.finish(self.head).await
    }

    fn bytes_max(&self) -> u64 {
        let limits = self.multipart.parser.limits();
        if self.head.file_name.is_some() { limits.file_bytes_max } else { limits.field_bytes_max }
    }
}

impl FormData {
    /// The first text of this name.
    pub fn text(&self, name: &str) -> Option<&str> {
        self.texts(name).next()
    }

    /// All texts of this name, in order: of a list of checkboxes, say.
    pub fn texts(&self, name: &str) -> impl Iterator<Item = &str> {
        self.texts.iter().filter(move |(known, _)| known == name).map(|(_, text)| text.as_str())
    }

    /// The first file of this name that has content: a browser sends an empty one where none was chosen.
    pub fn file(&self, name: &str) -> Option<&UploadedFile> {
        self.files.iter().find(|file| file.head().name == name && !file.is_empty())
    }

    /// All files, to keep some of them.
    pub fn into_files(self) -> Vec<UploadedFile> {
        self.files
    }
}
