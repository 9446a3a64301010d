//! One stream: its request, the service, its answer. A panic or a reset ends this stream only.

use super::Shared;
use super::content::{self, Incoming};
use super::head::{request_head, response_head, tunnel_protocol};
use super::tunnel;
use crate::interim::Hinting;
use crate::{Body, Request, RequestHead, Response, Service, StatusCode};
use bytes::Bytes;
use h2::server::SendResponse;
use h2::{Reason, RecvStream};
use http1::{Framing, Method};
use std::cell::RefCell;
use std::future::poll_fn;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::pin;
use std::rc::Rc;
use std::task::Poll;

/// What a server that refuses `TRACE` allows.
const ALLOWED_METHODS: &str = "GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS";

type Respond = Rc<RefCell<SendResponse<Bytes>>>;

/// Answers one request.
pub(super) async fn answer<S: Service>(
    shared: Rc<Shared<S>>,
    (request, respond): (http::Request<RecvStream>, SendResponse<Bytes>),
) {
    let (parts, stream) = request.into_parts();
    let respond = Rc::new(RefCell::new(respond));
    let method = Method::from_bytes(parts.method.as_str().as_bytes()).unwrap_or(Method::Get);
    let is_tunnel = tunnel_protocol(&parts).is_some();
    if method == Method::Connect && !is_tunnel {
        let refusal = refusal(StatusCode::NOT_IMPLEMENTED, "this server is no tunnel");
        return send(&shared, &respond, method, false, refusal).await;
    }
    let head = match request_head(&parts, !is_tunnel && !stream.is_end_stream(), &shared.settings.limits) {
        Ok(head) => head,
        Err(error) => {
            tracing::debug!(peer = %shared.peer.addr, %error, "malformed request");
            shared.malformed.set(shared.malformed.get() + 1);
            return send(&shared, &respond, method, false, refusal(error.status(), error.reason())).await;
        }
    };
    drop(parts);
    if is_tunnel {
        return open(&shared, &respond, head, stream).await;
    }
    let wants_trailers = head.fields().tokens("te").any(|token| token.eq_ignore_ascii_case(b"trailers"));
    if let Some(response) = refused(&head) {
        return send(&shared, &respond, method, false, response).await;
    }
    let body = if stream.is_end_stream() {
        Body::Empty
    } else {
        let length = match head.framing() {
            Framing::Length(length) => Some(length),
            _ => None,
        };
        let to_continue = head.expects_continue().then(|| respond.clone());
        Body::from_source(Incoming::new(stream, length, to_continue, &shared.settings))
    };
    if let Some(response) = call(&shared, &respond, head, body).await {
        send(&shared, &respond, method, wants_trailers, response).await;
    }
}

/// Answers a request for a tunnel. Any 2xx would be taken for its beginning (RFC 9110 §9.3.6): a service that knows
/// nothing of the protocol has said 501.
async fn open<S: Service>(shared: &Rc<Shared<S>>, respond: &Respond, head: RequestHead, stream: RecvStream) {
    let Some(response) = call(shared, respond, head, Body::Empty).await else { return };
    if response.on_upgrade.is_some() {
        tracing::debug!(peer = %shared.peer.addr, "tunnel opened");
        return tunnel::talk(shared, respond, stream, response).await;
    }
    let is_success = response.status.as_u16() / 100 == 2;
    let unknown = || refusal(StatusCode::NOT_IMPLEMENTED, "nothing here speaks this protocol");
    let response = if is_success { unknown() } else { response };
    send(shared, respond, Method::Get, false, response).await;
}

/// Requests no service gets to see.
fn refused(head: &RequestHead) -> Option<Response> {
    (head.method() == Method::Trace)
        .then(|| refusal(StatusCode::METHOD_NOT_ALLOWED, "requests are not echoed").field("allow", ALLOWED_METHODS))
}

/// Runs the service; nothing when the client has lost interest, in which case the service's future is dropped.
async fn call<S: Service>(shared: &Shared<S>, respond: &Respond, head: RequestHead, body: Body) -> Option<Response> {
    let mut request = Request::new(head, body, shared.peer.clone());
    request.hinting = Hinting::by(respond.clone());
    let Ok(answer) = catch_unwind(AssertUnwindSafe(|| shared.service.call(request))) else {
        return Some(panicked(shared));
    };
    let mut answer = pin!(answer);
    poll_fn(|cx| match catch_unwind(AssertUnwindSafe(|| answer.as_mut().poll(cx))) {
        Ok(Poll::Ready(response)) => Poll::Ready(Some(response)),
        Ok(Poll::Pending) => respond.borrow_mut().poll_reset(cx).map(|_| None),
        Err(_) => Poll::Ready(Some(panicked(shared))),
    })
    .await
}

fn panicked<S>(shared: &Shared<S>) -> Response {
    tracing::error!(peer = %shared.peer.addr, "the service panicked");
    refusal(StatusCode::INTERNAL_SERVER_ERROR, "this request could not be answered")
}

async fn send<S: Service>(
    shared: &Shared<S>,
    respond: &Respond,
    method: Method,
    wants_trailers: bool,
    mut response: Response,
) {
    if response.status.is_interim() || response.on_upgrade.is_some() {
        tracing::error!(status = response.status.as_u16(), "HTTP/2 has no such final answer (RFC 9113 §8.6)");
        response = refusal(StatusCode::INTERNAL_SERVER_ERROR, "this request could not be answered");
    }
    let (head, declared) = response_head(&response, method, shared.dates.now());
    let is_empty = method == Method::Head || response.status.forbids_body() || response.body.exact_len() == Some(0);
    tracing::debug!(peer = %shared.peer.addr, %method, status = response.status.as_u16(), "answered");
    let sent = respond.borrow_mut().send_response(head, is_empty);
    let Ok(mut stream) = sent else { return };
    if is_empty {
        return;
    }
    if let Err(reason) =
        content::send(&mut stream, &mut response.body, declared, wants_trailers, &shared.settings).await
    {
        if reason != Reason::CANCEL {
            shared.broken_off.set(shared.broken_off.get() + 1);
        }
        stream.send_reset(reason);
    }
}

fn refusal(status: StatusCode, detail: &str) -> Response {
    Response::text(status, format!("{status} {}: {detail}\n", status.reason()))
}
