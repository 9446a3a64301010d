//! From and to the types of the `http` crate. What one side cannot say is an error, never dropped.

use crate::{
    Fields, InvalidField, InvalidStatus, Limits, Method, ParseError, ReceivedFields, RequestHead, RequestParts,
    StatusCode, UnknownMethod, Version,
};
use http::header::{HeaderMap, HeaderName, HeaderValue};

impl From<Method> for http::Method {
    fn from(method: Method) -> Self {
        Self::from_bytes(method.as_str().as_bytes()).expect("the name of a method is a token")
    }
}

impl TryFrom<&http::Method> for Method {
    type Error = UnknownMethod;

    fn try_from(method: &http::Method) -> Result<Self, UnknownMethod> {
        method.as_str().parse()
    }
}

impl From<StatusCode> for http::StatusCode {
    fn from(status: StatusCode) -> Self {
        Self::from_u16(status.as_u16()).expect("100 to 599 are status codes there too")
    }
}

impl TryFrom<http::StatusCode> for StatusCode {
    type Error = InvalidStatus;

    /// 600 to 999 exist there and not here (RFC 9110 §15).
    fn try_from(status: http::StatusCode) -> Result<Self, InvalidStatus> {
        Self::try_from(status.as_u16())
    }
}

impl From<Version> for http::Version {
    fn from(version: Version) -> Self {
        match version {
            Version::Http10 => Self::HTTP_10,
            Version::Http11 => Self::HTTP_11,
            Version::Http2 => Self::HTTP_2,
        }
    }
}

impl TryFrom<&Fields> for HeaderMap {
    type Error = http::Error;

    fn try_from(fields: &Fields) -> Result<Self, http::Error> {
        headers(fields.iter())
    }
}

impl TryFrom<&ReceivedFields> for HeaderMap {
    type Error = http::Error;

    fn try_from(fields: &ReceivedFields) -> Result<Self, http::Error> {
        headers(fields.iter())
    }
}

impl TryFrom<&HeaderMap> for Fields {
    type Error = InvalidField;

    fn try_from(headers: &HeaderMap) -> Result<Self, InvalidField> {
        let mut fields = Self::new();
        for (name, value) in headers {
            fields.append(name.as_str(), value.as_bytes())?;
        }
        Ok(fields)
    }
}

impl TryFrom<&RequestHead> for http::Uri {
    type Error = http::uri::InvalidUri;

    /// The target in the form it came in, usually path and query alone: the host is in the field `Host`.
    fn try_from(head: &RequestHead) -> Result<Self, http::uri::InvalidUri> {
        head.target().parse()
    }
}

impl TryFrom<&RequestHead> for http::Request<()> {
    type Error = http::Error;

    fn try_from(head: &RequestHead) -> Result<Self, http::Error> {
        let mut request = Self::new(());
        *request.method_mut() = head.method().into();
        *request.uri_mut() = http::Uri::try_from(head)?;
        *request.version_mut() = head.version().into();
        *request.headers_mut() = head.fields().try_into()?;
        Ok(request)
    }
}

impl RequestHead {
    /// Makes a head of the `http` crate's parts, as [`RequestHead::assemble`] does: judged by the same rules as one
    /// that was received.
    ///
    /// # Errors
    /// As [`RequestHead::assemble`].
    pub fn from_http(parts: &http::request::Parts, has_content: bool, limits: &Limits) -> Result<Self, ParseError> {
        let fields = parts.headers.iter().map(|(name, value)| (name.as_str().as_bytes(), value.as_bytes()));
        // An authority is the `Host` of HTTP/1.1, and wins over one among the fields.
        let authority = parts.uri.authority().map(|authority| authority.as_str().as_bytes());
        let is_host = |(name, _): &(&[u8], &[u8])| *name == b"host";
        let fields: Vec<(&[u8], &[u8])> = fields.filter(|field| authority.is_none() || !is_host(field)).collect();
        let target = parts.uri.path_and_query().map_or("/", |target| target.as_str());
        let (method, target) = (parts.method.as_str().as_bytes(), target.as_bytes());
        let version = if parts.version >= http::Version::HTTP_2 { Version::Http2 } else { Version::Http11 };
        let fields = fields.iter().copied();
        let parts = RequestParts { method, target, authority, protocol: None, fields, has_content, version };
        Self::assemble(&parts, limits)
    }
}

fn headers<'a>(fields: impl Iterator<Item = (&'a str, &'a [u8])>) -> Result<HeaderMap, http::Error> {
    let mut headers = HeaderMap::new();
    for (name, value) in fields {
        headers.try_append(HeaderName::from_bytes(name.as_bytes())?, HeaderValue::from_bytes(value)?)?;
    }
    Ok(headers)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::{Event, RequestDecoder};
    use bytes::BytesMut;

    #[test]
    fn methods_and_statuses_go_both_ways() {
        for method in Method::ALL.iter().copied() {
            assert_eq!(Method::try_from(&http::Method::from(method)), Ok(method));
        }
        assert!(Method::try_from(&http::Method::from_bytes(b"BREW").unwrap()).is_err());
        for code in 100..=599 {
            let status = StatusCode::new(code).unwrap();
            assert_eq!(StatusCode::try_from(http::StatusCode::from(status)), Ok(status));
        }
        assert!(StatusCode::try_from(http::StatusCode::from_u16(600).unwrap()).is_err());
    }

    #[test]
    fn fields_keep_their_order_within_a_name() {
        let mut fields = Fields::new();
        for (name, value) in [("A", "1"), ("b", "x, y"), ("a", "2"), ("c", "\u{e9}")] {
            fields.append(name, value).unwrap();
        }
        let headers = HeaderMap::try_from(&fields).unwrap();
        assert_eq!(headers.get_all("a").iter().collect::<Vec<_>>(), ["1", "2"]);
        let back = Fields::try_from(&headers).unwrap();
        for name in ["a", "b", "c"] {
            assert!(back.get_all(name).eq(fields.get_all(name)), "{name}");
        }
    }

    #[test]
    fn heads_go_both_ways() {
        let text = b"POST /a%20b?c=d HTTP/1.1\r\nHost: example.org:81\r\nX: y\r\nContent-Length: 3\r\n\r\n";
        let mut wire = BytesMut::from(&text[..]);
        let Some(Event::Head(head)) = RequestDecoder::new(Limits::default()).poll(&mut wire).unwrap() else {
            panic!("a whole head")
        };
        let request = http::Request::<()>::try_from(&head).unwrap();
        assert_eq!((request.method(), request.version()), (&http::Method::POST, http::Version::HTTP_11));
        assert_eq!((request.uri().path(), request.uri().query()), ("/a%20b", Some("c=d")));
        assert_eq!(request.headers()["host"], "example.org:81");
        let (parts, ()) = request.into_parts();
        let back = RequestHead::from_http(&parts, true, &Limits::default()).unwrap();
        assert_eq!((back.method(), back.target(), back.host()), (head.method(), head.target(), head.host()));
        assert_eq!((back.framing(), back.field("x")), (head.framing(), head.field("x")));
    }

    #[test]
    fn an_authority_becomes_the_host() {
        let request = http::Request::get("http://example.org/x").header("host", "other").body(()).unwrap();
        let head = RequestHead::from_http(&request.into_parts().0, false, &Limits::default()).unwrap();
        assert_eq!((head.host(), head.path(), head.fields_named("host").count()), ("example.org", "/x", 1));
    }
}
