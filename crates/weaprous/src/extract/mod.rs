//! Extractors: what a handler wants to know, said by the types of its arguments.
//!
//! Each answers for itself when the request lacks it, with the status that fits and a sentence that says what to
//! change. Errors are [`Problem`]s; `Result<T, Problem>` as an argument leaves the decision to the handler.

mod content;
mod parts;

pub use content::Form;
pub use parts::{ClientAddr, LastEventId, Path, Query, State};

use crate::problem::Problem;
use crate::request::Request;

/// An extractor that leaves the content alone.
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot be extracted here",
    note = "extractors of the content (`Json`, `Form`, `Bytes`, `String`, `Request`) come last"
)]
pub trait FromParts: Sized {
    /// Extracts, or says what is wrong with the request.
    fn from_parts(request: &Request) -> impl Future<Output = Result<Self, Problem>>;
}

/// An extractor that takes the whole request; only the last argument can. `Via` tells it from [`FromParts`], which
/// may stand last too.
#[diagnostic::on_unimplemented(message = "`{Self}` is not an extractor")]
pub trait FromRequest<Via = ViaBody>: Sized {
    /// Extracts, or says what is wrong with the request.
    fn from_request(request: Request) -> impl Future<Output = Result<Self, Problem>>;
}

/// Marks extractors that read the content.
#[derive(Debug, Clone, Copy)]
pub enum ViaBody {}

/// Marks extractors that do not.
#[derive(Debug, Clone, Copy)]
pub enum ViaParts {}

impl<T: FromParts> FromRequest<ViaParts> for T {
    async fn from_request(request: Request) -> Result<Self, Problem> {
        T::from_parts(&request).await
    }
}

impl<T: FromParts> FromParts for Result<T, Problem> {
    async fn from_parts(request: &Request) -> Result<Self, Problem> {
        Ok(T::from_parts(request).await)
    }
}

impl<T: FromRequest<ViaBody>> FromRequest<ViaBody> for Result<T, Problem> {
    async fn from_request(request: Request) -> Result<Self, Problem> {
        Ok(T::from_request(request).await)
    }
}
