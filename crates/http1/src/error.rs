//! Why received bytes are not a message, and what to do about it.

use crate::StatusCode;
use std::fmt;

/// Received bytes that this decoder refuses. Nothing after them is parsed; the connection is to be
/// closed, after the answer where there is somebody to answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ParseError {
    kind: ErrorKind,
    fault: Fault,
}

/// Who sent what could not be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Fault {
    /// A request was wrong: tell the client, see [`ParseError::status`].
    Client,
    /// A response was wrong: to whoever waits for it, this is a 502.
    Upstream,
}

impl ParseError {
    pub(crate) fn request(kind: ErrorKind) -> Self {
        Self { kind, fault: Fault::Client }
    }

    pub(crate) fn response(kind: ErrorKind) -> Self {
        Self { kind, fault: Fault::Upstream }
    }

    /// What was wrong.
    pub fn kind(&self) -> ErrorKind {
        self.kind
    }

    /// Who sent it.
    pub fn fault(&self) -> Fault {
        self.fault
    }

    /// The status to answer the waiting client with: 4xx or 5xx for its own request, 502 when an
    /// upstream's response was wrong.
    pub fn status(&self) -> StatusCode {
        match self.fault {
            Fault::Client => self.kind.request_status(),
            Fault::Upstream => StatusCode::BAD_GATEWAY,
        }
    }

    /// A short phrase for the log and the error page; holds nothing of what was received.
    pub fn reason(&self) -> &'static str {
        self.kind.reason()
    }
}

impl fmt::Display for ParseError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.reason())
    }
}

impl std::error::Error for ParseError {}

/// Kinds, statuses and phrases from one list, so that none is forgotten.
macro_rules! kinds {
    ($($(#[$doc:meta])* $name:ident $status:ident $reason:literal)*) => {
        /// What was wrong with the received bytes.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub enum ErrorKind { $($(#[$doc])* $name,)* }

        impl ErrorKind {
            fn request_status(self) -> StatusCode {
                match self { $(Self::$name => StatusCode::$status,)* }
            }

            fn reason(self) -> &'static str {
                match self { $(Self::$name => $reason,)* }
            }
        }
    };
}

kinds! {
    /// The start line does not have its parts, or they are not separated by exactly one space.
    StartLine BAD_REQUEST "malformed start line"
    /// The method is no token.
    Method BAD_REQUEST "malformed method"
    /// The method is a token nobody here implements.
    UnknownMethod NOT_IMPLEMENTED "method not implemented"
    /// The target has the wrong form for the method, or bytes that no target has.
    Target BAD_REQUEST "malformed request target"
    /// The target is longer than the limit.
    TargetTooLong URI_TOO_LONG "request target too long"
    /// The version is not written `HTTP/1.x`.
    Version BAD_REQUEST "malformed HTTP version"
    /// Another major version.
    UnsupportedVersion HTTP_VERSION_NOT_SUPPORTED "HTTP version not supported"
    /// The client speaks HTTP/2 with prior knowledge.
    Http2Preface HTTP_VERSION_NOT_SUPPORTED "HTTP/2 preface on an HTTP/1.1 connection"
    /// The status code is not three digits from 100 to 599, or the reason has control bytes.
    Status BAD_REQUEST "malformed status line"
    /// A line ends in a bare LF, or a CR stands alone.
    LineEnd BAD_REQUEST "line does not end in CRLF"
    /// More empty lines before the start line than any client sends.
    LeadingLines BAD_REQUEST "too many empty lines before the start line"
    /// A field name is empty, is no token, or has no colon right after it.
    FieldName BAD_REQUEST "malformed field name"
    /// A field value holds a control byte.
    FieldValue BAD_REQUEST "control byte in a field value"
    /// A field line starts with whitespace: an obsolete fold, or space before the first field.
    Fold BAD_REQUEST "field line starts with whitespace"
    /// The head is longer than the limit.
    HeadTooLong REQUEST_HEADER_FIELDS_TOO_LARGE "fields too large"
    /// More fields than the limit.
    TooManyFields REQUEST_HEADER_FIELDS_TOO_LARGE "too many fields"
    /// No `Host` in an HTTP/1.1 request.
    HostMissing BAD_REQUEST "Host is missing"
    /// More than one `Host`, or one that is no host with an optional port.
    Host BAD_REQUEST "malformed Host"
    /// `Content-Type` twice in a request: two readers would choose differently.
    ContentType BAD_REQUEST "more than one Content-Type"
    /// `Content-Length` is not one number, or there are two of them.
    ContentLength BAD_REQUEST "malformed Content-Length"
    /// `Transfer-Encoding` does not end in one `chunked`, is repeated, or comes with HTTP/1.0.
    TransferEncoding BAD_REQUEST "malformed Transfer-Encoding"
    /// A transfer coding before `chunked` that nobody here implements.
    UnknownCoding NOT_IMPLEMENTED "transfer coding not implemented"
    /// `Content-Length` and `Transfer-Encoding` together.
    AmbiguousFraming BAD_REQUEST "both Content-Length and Transfer-Encoding"
    /// A field that concerns one connection, where the connection is framed otherwise (RFC 9113 §8.2.2).
    ConnectionField BAD_REQUEST "field of a connection"
    /// An expectation other than `100-continue`.
    Expectation EXPECTATION_FAILED "unknown expectation"
    /// The chunk size is not 1 to 16 hexadecimal digits.
    ChunkSize BAD_REQUEST "malformed chunk size"
    /// The chunk extension breaks the grammar.
    ChunkExtension BAD_REQUEST "malformed chunk extension"
    /// The chunk-size line is longer than the limit, or many tiny chunks carry long extensions.
    ChunkOverhead BAD_REQUEST "too much chunk framing"
    /// The chunk's data is not followed by CRLF.
    ChunkEnd BAD_REQUEST "chunk does not end in CRLF"
    /// A trailer field that would change framing or routing.
    ForbiddenTrailer BAD_REQUEST "forbidden trailer field"
    /// The body is longer than the limit.
    BodyTooLong CONTENT_TOO_LARGE "content too large"
    /// The connection ended in the middle of a message.
    Incomplete BAD_REQUEST "connection closed in the middle of a message"
    /// The connection ended before the first byte of a response: worth a retry elsewhere.
    NoResponse BAD_REQUEST "connection closed before the response"
    /// Bytes came for which no request was sent.
    UnexpectedBytes BAD_REQUEST "bytes nobody asked for"
    /// More interim (1xx) responses than any server sends.
    TooManyInterim BAD_REQUEST "too many interim responses"
}
