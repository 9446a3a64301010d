//! One request through the proxy: find the place, pick an upstream, send, stream the answer back.

use std::cell::RefCell;
use std::collections::HashMap;
use std::net::SocketAddr;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use engine::{
    Answer, Body, BodyError, Client, ClientError, ClientErrorKind, ClientSettings, Fields, Method, OutgoingRequest,
    Peer, Request, RequestHead, Response, ResponseHead, Service, Source, StatusCode, Stop, TargetForm, Upgraded,
};

use crate::headers::{self, Hops, Onward};
use crate::pages::Page;
use crate::proxy::{Place, Shared};
use crate::retry::{self, Content};
use crate::route::NoRoute;
use crate::tunnel;
use crate::upstream::Upstream;

/// The proxy on one worker: what all workers share, and this worker's connections to upstreams.
#[derive(Clone)]
pub struct Relay(Rc<Worker>);

struct Worker {
    shared: Arc<Shared>,
    /// One pool for each pair of timeouts that the configuration names.
    clients: RefCell<HashMap<(Duration, Duration), Client>>,
}

impl Relay {
    pub(crate) fn new(shared: Arc<Shared>) -> Self {
        Self(Rc::new(Worker { shared, clients: RefCell::new(HashMap::new()) }))
    }
}

impl Service for Relay {
    fn call(&self, request: Request) -> impl Future<Output = Response> + 'static {
        let worker = Rc::clone(&self.0);
        async move { worker.answer(request).await }
    }
}

/// A request on its way: all that the attempts have in common.
struct Errand<'a> {
    head: &'a RequestHead,
    peer: &'a Rc<Peer>,
    place: &'a Place,
    content: Content,
    upgrade: Option<String>,
    hops: Hops,
}

/// An upstream's answer, and whose it is.
struct Answered {
    upstream: Arc<Upstream>,
    answer: Answer,
}

impl Worker {
    async fn answer(&self, request: Request) -> Response {
        self.shared.counters.requests.up();
        let peer = Rc::clone(request.peer());
        let Request { head, body, .. } = request;
        match self.forward(&head, body, &peer).await {
            Ok(response) => response,
            Err(page) => {
                self.count(&page);
                tracing::debug!(status = page.status.as_u16(), detail = page.detail, "answered by the proxy itself");
                page.respond(&head)
            }
        }
    }

    async fn forward(&self, head: &RequestHead, mut body: Body, peer: &Rc<Peer>) -> Result<Response, Page> {
        if let Some(response) = self.answer_here(head)? {
            return Ok(response);
        }
        let place = self.place(head)?;
        if let Some(max) = place.pass.body_bytes_max {
            body.set_limit(max);
        }
        let content = Content::take(body).await.map_err(|error| body_failed(&error))?;
        let (upgrade, hops) = (headers::upgrade(head), headers::hops(head));
        let errand = Errand { head, peer, place, content, upgrade, hops };
        let Answered { upstream, answer } = self.ask(&errand).await?;
        match answer {
            Answer::Response(response, body) => self.pass_back(&errand, &upstream, &response, body),
            Answer::Upgraded(response, stream) => self.switch(&errand, &upstream, &response, stream),
        }
    }

    /// The requests that end at the proxy itself.
    fn answer_here(&self, head: &RequestHead) -> Result<Option<Response>, Page> {
        const ALLOW: &str = "GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS";
        if headers::has_passed(head, &self.shared.name) {
            let page = Page::new(StatusCode::LOOP_DETECTED, "This request has passed through this proxy before.");
            return Err(page.hint("A `proxy_pass` leads back to the proxy: correct it in the proxy's configuration."));
        }
        if matches!(head.method(), Method::Connect | Method::Trace) {
            let page = Page::new(StatusCode::METHOD_NOT_ALLOWED, format!("{} is not supported here.", head.method()));
            return Ok(Some(page.respond(head).field("allow", ALLOW)));
        }
        let ends_here = headers::hops(head) == Hops::Over;
        Ok(ends_here.then(|| Response::new(StatusCode::NO_CONTENT).field("allow", ALLOW)))
    }

    fn place(&self, head: &RequestHead) -> Result<&Place, Page> {
        let host = head.host();
        self.shared.place(head.host_name(), head.port(), head.path()).map_err(|reason| {
            self.shared.counters.unrouted.up();
            match reason {
                NoRoute::UnknownHost if host.is_empty() => {
                    Page::new(StatusCode::NOT_FOUND, "The request names no host, and this proxy has no default one.")
                }
                NoRoute::UnknownHost => {
                    Page::new(StatusCode::NOT_FOUND, format!("This proxy knows no host named “{host}”.")).hint(format!(
                        "To add it, write `host \"{host}\" {{ proxy_pass http://127.0.0.1:9000; }}` in the proxy's \
                         configuration, with the address of the program that is to answer."
                    ))
                }
                NoRoute::UnknownPath => {
                    Page::new(StatusCode::NOT_FOUND, format!("Nothing is configured for this path of “{host}”."))
                        .hint("Its `host` block needs a `proxy_pass` of its own, or a `location` for this path.")
                }
            }
        })
    }

    /// Sends the request to one upstream after the other until one answers.
    async fn ask(&self, errand: &Errand<'_>) -> Result<Answered, Page> {
        let mut tried: Vec<SocketAddr> = Vec::new();
        let mut last: Option<ClientError> = None;
        loop {
            let place = errand.place;
            let Some(upstream) = place.balance.pick(&place.upstreams, &tried, self.shared.now_ms()) else {
                return Err(failed(place, last.as_ref()));
            };
            if !tried.is_empty() {
                self.shared.counters.retries.up();
            }
            tried.push(upstream.address);
            upstream.requests.up();
            match self.attempt(errand, upstream).await? {
                Ok(answer) => {
                    if upstream.health.succeeded() {
                        tracing::info!(upstream = %upstream.address, "upstream is back");
                    }
                    return Ok(Answered { upstream: Arc::clone(upstream), answer });
                }
                Err(error) => {
                    self.note_failure(upstream, &error);
                    if !retry::may_try_again(&error, &errand.content, &tried) {
                        return Err(failed(place, Some(&error)));
                    }
                    last = Some(error);
                }
            }
        }
    }

    async fn attempt(&self, errand: &Errand<'_>, upstream: &Upstream) -> Result<Result<Answer, ClientError>, Page> {
        let fields = headers::to_upstream(&self.onward(errand, upstream)).map_err(|error| {
            Page::new(StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE, format!("The request cannot be passed on: {error}."))
        })?;
        let request = OutgoingRequest {
            method: errand.head.method(),
            target: target(errand.head),
            fields,
            body: errand.content.lend(),
        };
        let client = self.client(errand.place);
        Ok(if errand.upgrade.is_some() {
            client.upgrade(upstream.address, request).await
        } else {
            client.send(upstream.address, request).await.map(|(head, body)| Answer::Response(head, body))
        })
    }

    fn onward<'a>(&'a self, errand: &'a Errand<'_>, upstream: &Upstream) -> Onward<'a> {
        let peer = errand.peer.addr.ip().to_canonical();
        Onward {
            head: errand.head,
            peer,
            trusted: self.shared.trusted.iter().any(|network| network.contains(peer)),
            scheme: "http",
            name: &self.shared.name,
            set: &errand.place.pass.set_headers,
            upstream: upstream.address,
            upgrade: errand.upgrade.as_deref(),
            hops: errand.hops,
        }
    }

    fn client(&self, place: &Place) -> Client {
        let (connect_timeout, head_timeout) = (place.pass.connect_timeout, place.pass.response_timeout);
        let mut clients = self.clients.borrow_mut();
        let make = || Client::new(ClientSettings { connect_timeout, head_timeout, ..ClientSettings::default() });
        clients.entry((connect_timeout, head_timeout)).or_insert_with(make).clone()
    }

    /// An ordinary response on its way back.
    fn pass_back(
        &self,
        errand: &Errand<'_>,
        upstream: &Arc<Upstream>,
        head: &ResponseHead,
        body: Body,
    ) -> Result<Response, Page> {
        let fields = headers::to_client(head).map_err(|error| unfit(errand.place, upstream, &error.to_string()))?;
        let mut response = Response::new(head.status());
        let endless = is_event_stream(&fields);
        response.fields = fields;
        response.body = if errand.head.method() == Method::Head || head.status() == StatusCode::NOT_MODIFIED {
            // No content follows, but its length is told as the upstream told it.
            if let Some(length) = head.content_length() {
                let told = response.fields.set("content-length", length.to_string());
                told.map_err(|error| unfit(errand.place, upstream, &error.to_string()))?;
            }
            Body::Empty
        } else if body.is_empty() {
            Body::Empty
        } else {
            let stop = endless.then(|| errand.peer.stop.clone());
            Body::from_source(Returning::new(body, stop, Arc::clone(&self.shared), upstream.address))
        };
        Ok(response)
    }

    /// The upstream has switched protocols: so does the client's connection.
    fn switch(
        &self,
        errand: &Errand<'_>,
        upstream: &Arc<Upstream>,
        head: &ResponseHead,
        stream: Upgraded,
    ) -> Result<Response, Page> {
        let fields = headers::to_client(head).map_err(|error| unfit(errand.place, upstream, &error.to_string()))?;
        let shared = Arc::clone(&self.shared);
        let stop = errand.peer.stop.clone();
        Ok(Response::upgrade(fields, |client| async move {
            let _open = shared.tunnel_opened();
            tunnel::splice(client, stream, &stop).await;
        }))
    }

    fn note_failure(&self, upstream: &Upstream, error: &ClientError) {
        if matches!(error.kind, ClientErrorKind::Body(_)) {
            return; // the client's fault, not the upstream's
        }
        upstream.failures.up();
        if error.is_connect() && upstream.health.failed(self.shared.now_ms()) {
            tracing::warn!(upstream = %upstream.address, error = %error.kind, "upstream does not accept connections");
        } else {
            tracing::debug!(upstream = %upstream.address, stage = %error.stage, error = %error.kind, "attempt failed");
        }
    }

    fn count(&self, page: &Page) {
        let counters = &self.shared.counters;
        match page.status {
            StatusCode::BAD_GATEWAY => counters.bad_gateway.up(),
            StatusCode::SERVICE_UNAVAILABLE => counters.unavailable.up(),
            StatusCode::GATEWAY_TIMEOUT => counters.timed_out.up(),
            _ => {}
        }
    }
}

/// The target in the form an origin server expects (RFC 9112 §3.2).
fn target(head: &RequestHead) -> String {
    if head.form() != TargetForm::Absolute {
        return head.target().to_owned();
    }
    let authority_on = head.target().split_once("://").map_or("", |(_, rest)| rest);
    if head.method() == Method::Options && !authority_on.contains(['/', '?']) {
        return "*".to_owned();
    }
    match head.query() {
        Some(query) => format!("{}?{query}", head.path()),
        None => head.path().to_owned(),
    }
}

fn is_event_stream(fields: &Fields) -> bool {
    fields.get("content-type").is_some_and(|value| {
        let media_type = value.split(|byte| *byte == b';').next().unwrap_or_default();
        media_type.trim_ascii().eq_ignore_ascii_case(b"text/event-stream")
    })
}

fn body_failed(error: &BodyError) -> Page {
    Page::new(error.status(), format!("The request's content could not be read: {error}."))
}

fn unfit(place: &Place, upstream: &Upstream, problem: &str) -> Page {
    let detail =
        format!("{} gave an answer for {} that cannot be passed on: {problem}.", upstream.address, place.label);
    Page::new(StatusCode::BAD_GATEWAY, detail)
}

/// The page for a request that no upstream answered; `error` is that of the last attempt.
fn failed(place: &Place, error: Option<&ClientError>) -> Page {
    let label = &place.label;
    let Some(error) = error else {
        return Page::new(StatusCode::SERVICE_UNAVAILABLE, format!("No upstream is left for {label}."));
    };
    if error.is_connect() {
        return unreachable(place, error);
    }
    let who = format!("The upstream {} of {label}", error.addr);
    match &error.kind {
        ClientErrorKind::Body(error) => body_failed(error),
        ClientErrorKind::TimedOut => Page::new(StatusCode::GATEWAY_TIMEOUT, format!("{who} did not answer in time.")),
        ClientErrorKind::Protocol(problem) => {
            Page::new(StatusCode::BAD_GATEWAY, format!("{who} sent no valid response: {problem}."))
        }
        ClientErrorKind::Unasked => {
            Page::new(StatusCode::BAD_GATEWAY, format!("{who} switched to a protocol that was not asked for."))
        }
        ClientErrorKind::Request(problem) => {
            Page::new(StatusCode::BAD_GATEWAY, format!("The request cannot be sent on to {}: {problem}.", error.addr))
        }
        ClientErrorKind::Closed => {
            Page::new(StatusCode::BAD_GATEWAY, format!("{who} closed the connection before it answered."))
        }
        _ => Page::new(
            StatusCode::BAD_GATEWAY,
            format!("The connection to the upstream {} of {label} failed.", error.addr),
        ),
    }
}

fn unreachable(place: &Place, error: &ClientError) -> Page {
    let what = match error.kind {
        ClientErrorKind::Refused => "refused the connection",
        ClientErrorKind::TimedOut => "did not accept a connection in time",
        _ => "cannot be reached",
    };
    let has_others = place.upstreams.iter().any(|other| other.address != error.addr);
    let all = if has_others { ", and none of the others can be reached either" } else { "" };
    Page::new(StatusCode::SERVICE_UNAVAILABLE, format!("The upstream {} of {} {what}{all}.", error.addr, place.label))
        .hint("The program behind it may be starting or stopped. Try again in a moment.")
}

/// A response's content on its way back. An event stream ends when the proxy stops: it would never end
/// by itself, and its reader comes back.
struct Returning {
    body: Body,
    stopped: Option<Pin<Box<dyn Future<Output = ()>>>>,
    shared: Arc<Shared>,
    upstream: SocketAddr,
}

impl Returning {
    fn new(body: Body, stop: Option<Stop>, shared: Arc<Shared>, upstream: SocketAddr) -> Self {
        let stopped = stop.map(|stop| Box::pin(stop.cancelled_owned()) as Pin<Box<dyn Future<Output = ()>>>);
        Self { body, stopped, shared, upstream }
    }
}

impl Source for Returning {
    fn poll_chunk(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, BodyError>>> {
        if let Poll::Ready(chunk) = self.body.poll_chunk(cx) {
            if let Some(Err(error)) = &chunk {
                self.shared.counters.broken_off.up();
                tracing::debug!(upstream = %self.upstream, %error, "upstream broke off its response");
            }
            return Poll::Ready(chunk);
        }
        match &mut self.stopped {
            Some(stopped) => stopped.as_mut().poll(cx).map(|()| None),
            None => Poll::Pending,
        }
    }

    fn exact_len(&self) -> Option<u64> {
        self.body.exact_len()
    }

    fn trailers(&mut self) -> Option<Fields> {
        self.body.trailers()
    }
}
