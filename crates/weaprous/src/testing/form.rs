//! `multipart/form-data` as a browser writes it.

/// Unlikely in any content; the same in every request, so that tests repeat.
const BOUNDARY: &str = "----weaprous-testing-7d0c3f5a91";

/// One part of a form: a field or a file. See [`RequestBuilder::multipart`](super::RequestBuilder::multipart).
#[derive(Debug, Clone)]
pub struct FormPart {
    head: String,
    content: Vec<u8>,
}

impl FormPart {
    /// A field with a text.
    pub fn text(name: &str, value: &str) -> Self {
        Self { head: format!("name=\"{}\"", quote(name)), content: value.as_bytes().to_vec() }
    }

    /// A file, with what the client calls it.
    pub fn file(name: &str, file_name: &str, content_type: &str, content: impl Into<Vec<u8>>) -> Self {
        let (name, file_name) = (quote(name), quote(file_name));
        let head = format!("name=\"{name}\"; filename=\"{file_name}\"\r\nContent-Type: {content_type}");
        Self { head, content: content.into() }
    }
}

/// The media type and the content of a form.
pub(super) fn write(parts: impl IntoIterator<Item = FormPart>) -> (String, Vec<u8>) {
    let mut content = Vec::new();
    for part in parts {
        let head = format!("--{BOUNDARY}\r\nContent-Disposition: form-data; {}\r\n\r\n", part.head);
        content.extend_from_slice(head.as_bytes());
        content.extend_from_slice(&part.content);
        content.extend_from_slice(b"\r\n");
    }
    content.extend_from_slice(format!("--{BOUNDARY}--\r\n").as_bytes());
    (format!("multipart/form-data; boundary={BOUNDARY}"), content)
}

/// As browsers do (HTML Living Standard, "multipart/form-data encoding algorithm").
fn quote(text: &str) -> String {
    text.replace('"', "%22").replace('\r', "%0D").replace('\n', "%0A")
}
