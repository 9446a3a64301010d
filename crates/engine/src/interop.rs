//! Whole messages from and to the types of the `http` crate; heads are converted in [`http1`].

use crate::{Body, InvalidField, ParseError, Peer, Request, Response};
use http1::{Fields, InvalidStatus, Limits, RequestHead};
use std::rc::Rc;

/// An `http` response that cannot be sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum InvalidResponse {
    /// Its status is none of HTTP's.
    #[error(transparent)]
    Status(#[from] InvalidStatus),
    /// A field that must not be sent.
    #[error(transparent)]
    Field(#[from] InvalidField),
}

impl TryFrom<Request> for http::Request<Body> {
    type Error = http::Error;

    fn try_from(request: Request) -> Result<Self, http::Error> {
        let head = http::Request::<()>::try_from(&request.head)?;
        Ok(head.map(|()| request.body))
    }
}

impl TryFrom<(http::Request<Body>, Rc<Peer>)> for Request {
    type Error = ParseError;

    /// The request is judged as if it had been received.
    fn try_from((request, peer): (http::Request<Body>, Rc<Peer>)) -> Result<Self, ParseError> {
        let (parts, body) = request.into_parts();
        let head = RequestHead::from_http(&parts, !body.is_empty(), &Limits::default())?;
        Ok(Self::new(head, body, peer))
    }
}

impl TryFrom<Response> for http::Response<Body> {
    type Error = http::Error;

    /// What an upgrade would do is lost.
    fn try_from(response: Response) -> Result<Self, http::Error> {
        let mut converted = Self::new(response.body);
        *converted.status_mut() = response.status.into();
        *converted.headers_mut() = (&response.fields).try_into()?;
        Ok(converted)
    }
}

impl TryFrom<http::Response<Body>> for Response {
    type Error = InvalidResponse;

    fn try_from(response: http::Response<Body>) -> Result<Self, InvalidResponse> {
        let (parts, body) = response.into_parts();
        let mut converted = Self::new(parts.status.try_into()?).with_body(body);
        converted.fields = Fields::try_from(&parts.headers)?;
        Ok(converted)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::{StatusCode, Stop};

    #[test]
    fn messages_go_both_ways() {
        let any = "127.0.0.1:1".parse().unwrap();
        let peer = Rc::new(Peer::new(any, any, Stop::new()));
        let request = http::Request::post("http://example.org/a?b").header("x", "y").body(Body::from("abc")).unwrap();
        let ours = Request::try_from((request, peer)).unwrap();
        assert_eq!((ours.head.host(), ours.head.target(), ours.body.exact_len()), ("example.org", "/a?b", Some(3)));
        let back = http::Request::<Body>::try_from(ours).unwrap();
        assert_eq!(back.headers()["x"], "y");
        assert_eq!(back.into_body().exact_len(), Some(3));

        let response = http::Response::builder().status(201).header("x", "y").body(Body::from("abc")).unwrap();
        let ours = Response::try_from(response).unwrap();
        assert_eq!(
            (ours.status, ours.fields.get("x"), ours.body.exact_len()),
            (StatusCode::CREATED, Some(&b"y"[..]), Some(3))
        );
        let back = http::Response::<Body>::try_from(ours).unwrap();
        assert_eq!((back.status().as_u16(), back.headers()["x"].as_bytes()), (201, &b"y"[..]));
    }

    #[test]
    fn what_cannot_be_received_or_sent_is_refused() {
        let any = "127.0.0.1:1".parse().unwrap();
        let convert = |request: http::request::Builder| {
            let request = request.body(Body::Empty).unwrap();
            Request::try_from((request, Rc::new(Peer::new(any, any, Stop::new())))).is_ok()
        };
        assert!(convert(http::Request::get("/").header("host", "a")));
        assert!(!convert(http::Request::get("/")), "no host");
        assert!(!convert(http::Request::get("/").header("host", "a").header("transfer-encoding", "chunked")));
        let response = http::Response::builder().status(999).body(Body::Empty).unwrap();
        assert!(Response::try_from(response).is_err());
    }
}
