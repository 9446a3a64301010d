//! What clients send: JSON, or a form where the original's clients may send one.

use serde::de::DeserializeOwned;
use weaprous::extract::{FromRequest, ViaBody};
use weaprous::prelude::*;

/// JSON or a form. `curl -d '{…}'` says that its JSON is a form; what begins with a brace is read as JSON all the same.
///
/// A page of another site could send such a request without asking: that it cannot act in a visitor's name is the
/// same-origin layer's doing.
#[derive(Debug)]
pub(crate) struct Input<T>(pub(crate) T);

impl<T: DeserializeOwned> FromRequest<ViaBody> for Input<T> {
    async fn from_request(mut request: Request) -> Result<Self, Problem> {
        let media_type = request.field("content-type").and_then(|field| field.split(';').next()).unwrap_or_default();
        let is_unsaid = media_type.is_empty();
        let is_loose = is_unsaid || media_type.eq_ignore_ascii_case("application/x-www-form-urlencoded");
        if !is_loose {
            return request.read::<Json<T>>().await.map(|Json(value)| Self(value));
        }
        let max = request.body_bytes_max();
        let bytes = std::mem::take(&mut request.body).collect(max).await?;
        if bytes.trim_ascii_start().first() == Some(&b'{') || is_unsaid {
            return serde_json::from_slice(&bytes).map(Self).map_err(|error| {
                if error.is_data() {
                    Problem::unprocessable(format!("JSON: {error}"))
                } else {
                    Problem::bad_request(format!("malformed JSON: {error}"))
                }
            });
        }
        request.body = bytes.into();
        request.read::<Form<T>>().await.map(|Form(value)| Self(value))
    }
}
