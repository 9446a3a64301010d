//! One request through the proxy: find the place, pick an upstream, send, stream the answer back. Plain ones go a shorter
//! way: see `passing`.

mod passing;

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::net::SocketAddr;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use bytes::Bytes;
use engine::{
    Answer, Begun, Body, BodyError, Client, ClientError, ClientErrorKind, ClientSettings, Fields, Method,
    OutgoingRequest, Peer, Piece, Request, RequestHead, Response, ResponseHead, Service, Source, StatusCode, Stop,
    TargetForm, Upgraded,
};
use smallvec::SmallVec;
use weaprous::AppService;

use crate::access_log::WorkerLog;
use crate::conf::{Action, EarlyHints, Pass, Policy, Redirect, Respond, Timeouts};
use crate::crowd::Crowd;
use crate::gate::{self, Refused};
use crate::group::{Ask, Group, Lease, Refusal};
use crate::headers::{self, Hops, Onward};
use crate::health::Failure;
use crate::metrics::Reason;
use crate::observe::{Attempt, Watch};
use crate::pages::{self, Page};
use crate::proxy::{Live, Place, Shared};
use crate::refusals::{body_failed, failed, refused, unfit};
use crate::retry::{self, Content};
use crate::route::{HTTPS_PORT, NoRoute};
use crate::upstream::Upstream;
use crate::{access, affinity, buffering, compressing, crowd, hints, rewrite, tunnel};

/// The proxy on one worker: what all workers share, and this worker's connections to upstreams.
#[derive(Clone)]
pub struct Relay(Rc<Desk>);

/// A worker's place in a proxy whose configuration may be replaced.
struct Desk {
    live: Arc<Live>,
    version: Cell<u64>,
    worker: RefCell<Rc<Worker>>,
}

/// A worker with one configuration. Requests that have begun with it end with it.
struct Worker {
    shared: Arc<Shared>,
    log: Option<WorkerLog>,
    /// One pool for each set of timeouts that the configuration names.
    clients: Clients,
    /// How many requests each client has on this worker, whatever the configuration.
    crowd: Crowd,
    /// This worker's services of folders.
    folders: RefCell<HashMap<u64, AppService>>,
}

/// Pools of connections; the next configuration takes them over.
type Clients = Rc<RefCell<Vec<(Timeouts, Client)>>>;

impl Relay {
    pub(crate) fn new(live: Arc<Live>) -> Self {
        let (version, shared) = live.current();
        let worker = RefCell::new(Worker::new(shared, Clients::default(), Crowd::default()));
        Self(Rc::new(Desk { live, version: Cell::new(version), worker }))
    }
}

impl Service for Relay {
    const PASSES: bool = true;

    fn call(&self, request: Request) -> impl Future<Output = Response> + use<> + 'static {
        let worker = self.0.worker();
        let watch = Rc::new(Watch::new(&request.head, request.peer(), worker.log.as_ref(), &worker.shared.trusted));
        async move {
            let response = worker.answer(request, &watch, None).await;
            watch.answered(&response);
            response
        }
    }

    fn pass(&self, head: &RequestHead, peer: &Peer, out: &mut Vec<u8>) -> Option<Box<engine::Pass>> {
        passing::pass(&self.0.worker(), head, peer, out)
    }
}

impl Desk {
    /// The worker with the configuration of now.
    fn worker(&self) -> Rc<Worker> {
        if self.version.get() != self.live.version() {
            let (version, shared) = self.live.current();
            let before = Rc::clone(&self.worker.borrow());
            *self.worker.borrow_mut() = Worker::new(shared, Rc::clone(&before.clients), before.crowd.clone());
            self.version.set(version);
        }
        Rc::clone(&self.worker.borrow())
    }
}

/// A request on its way: all that the attempts have in common.
struct Errand<'a> {
    onward: Onward<'a>,
    place: &'a Place,
    pass: &'a Pass,
    group: &'a Arc<Group>,
    peer: &'a Rc<Peer>,
    content: Content,
    watch: &'a Rc<Watch>,
    /// The time of now, where the first attempt knows it.
    begun: Cell<Option<Instant>>,
    /// The first attempt, where it was begun already.
    started: Cell<Option<Started>>,
}

/// An attempt that was begun by the short way: its server, and the connection it was written for if there was one.
struct Started {
    lease: Lease,
    begun: Option<Box<Begun>>,
}

/// An upstream's answer, and whose it is.
struct Answered {
    lease: Lease,
    answer: Answer,
}

impl Worker {
    /// Takes over the pools that this configuration still has a use for.
    fn new(shared: Arc<Shared>, clients: Clients, crowd: Crowd) -> Rc<Self> {
        if !clients.borrow().is_empty() {
            let servers = shared.servers();
            let is_wanted = |address| servers.iter().any(|server| server.address == address);
            let mut clients = clients.borrow_mut();
            clients.retain(|(timeouts, _)| shared.has_timeouts(|other| pooled_by(other) == *timeouts));
            clients.iter().for_each(|(_, client)| client.retain(is_wanted));
        }
        let log = shared.log.clone().map(WorkerLog::new);
        Rc::new(Self { shared, log, clients, crowd, folders: RefCell::default() })
    }

    /// Answers a request. One that was `started` by the short way is counted already.
    async fn answer(&self, request: Request, watch: &Rc<Watch>, started: Option<Started>) -> Response {
        if started.is_none() {
            self.shared.counters.requests.up();
        }
        let (head, body, peer, hinting) = request.into_parts();
        match self.answer_here(&head) {
            Ok(Some(response)) => return response,
            Ok(None) => {}
            Err(page) => return page.respond(&head),
        }
        let place = match self.place(&head, peer.is_secure()) {
            Ok(place) => place,
            Err(page) => return page.respond(&head),
        };
        if started.is_none() {
            watch.routed(&place.label, &place.metrics);
        }
        if place.rules.early_hints != EarlyHints::Off {
            watch.hint_by(hints::allowed(hinting.open(&head, &peer), place.rules.early_hints));
        }
        let onward = self.onward(&head, &peer);
        let mut response = match self.admit(&onward, place, body, &peer, watch, started).await {
            Ok(response) | Err(Refused::Answer(response)) => response,
            Err(Refused::Page(page)) => {
                self.count(&page);
                watch.is_answered_here();
                tracing::debug!(status = page.status.as_u16(), detail = page.detail, "answered by the proxy itself");
                Box::pin(pages::of_place(&page, &place.rules.error_pages, &head)).await
            }
        };
        // Only sound names are taken from clients, and those of our own are.
        let _ = response.fields.set("x-request-id", watch.id(&head, onward.trusted));
        let edits = &place.rules.response_headers;
        if !edits.is_empty() && response.status != StatusCode::SWITCHING_PROTOCOLS {
            let edited =
                headers::edit(&mut response.fields, edits, &onward.values(&|| headers::forwarded_for(&onward)));
            if let Err(error) = edited {
                tracing::warn!(place = place.label, %error, "a field could not be set on a response");
            }
        }
        if let Some(compress) = &place.compress {
            compressing::compress(compress, &head, &mut response, watch);
        }
        response
    }

    /// Lets the request pass the gate, and has it answered.
    async fn admit(
        &self,
        onward: &Onward<'_>,
        place: &Place,
        body: Body,
        peer: &Rc<Peer>,
        watch: &Rc<Watch>,
        started: Option<Started>,
    ) -> Result<Response, Refused> {
        if started.is_none() && !self.seat(onward, watch) {
            watch.refused(Reason::ClientRequestsMax);
            return Err(crowd::refusal().into());
        }
        let granted = if place.has_gate() {
            Box::pin(gate::pass(&self.shared, place, onward, watch, &|| self.client(&Timeouts::default()))).await?
        } else {
            Vec::new()
        };
        match &place.rules.action {
            Action::Pass(pass) => {
                let upgrade = headers::upgrade(onward.head);
                let onward =
                    Onward { granted: &granted, edits: &pass.request_headers, upgrade: upgrade.as_deref(), ..*onward };
                Ok(self.forward(onward, place, pass, (body, started), peer, watch).await?)
            }
            Action::Redirect(redirect) => Ok(redirected(redirect, onward)?),
            Action::Respond(respond) => Ok(responded(respond)),
            Action::Files(_) => Ok(Box::pin(self.file(place, onward.head, body, peer)).await?),
        }
    }

    /// Counts the request among those of its client; false where it has too many.
    fn seat(&self, onward: &Onward<'_>, watch: &Watch) -> bool {
        let Some(max) = self.shared.client_requests_max else { return true };
        let is_trusted = onward.trusted && onward.client == onward.peer;
        if is_trusted || onward.client.is_loopback() {
            return true;
        }
        self.crowd.enter(onward.client, max).map(|seat| watch.seated(seat)).is_some()
    }

    async fn file(&self, place: &Place, head: &RequestHead, body: Body, peer: &Rc<Peer>) -> Result<Response, Page> {
        let Some(folder) = &place.files else {
            let page = Page::new(StatusCode::INTERNAL_SERVER_ERROR, "The files of this place cannot be read.");
            return Err(page.hint("The administrator finds the reason in the proxy's log."));
        };
        let service = self.folders.borrow_mut().entry(folder.id()).or_insert_with(|| folder.service()).clone();
        Ok(service.call(Request::new(head.clone(), body, Rc::clone(peer))).await)
    }

    async fn forward(
        &self,
        onward: Onward<'_>,
        place: &Place,
        pass: &Pass,
        (mut body, started): (Body, Option<Started>),
        peer: &Rc<Peer>,
        watch: &Rc<Watch>,
    ) -> Result<Response, Page> {
        let Some(group) = &place.group else { return Err(failed(place, None)) };
        if let Some(max) = place.rules.body_bytes_max {
            body.set_limit(max);
        }
        // As long as nobody has waited for anything, it is still when the request came.
        let has_not_waited = body.is_empty() && !place.has_gate() && !group.is_limited();
        let begun = (has_not_waited || started.is_some()).then_some(watch.started);
        let mut held = buffering::Held::by(onward.client);
        let content = match body {
            Body::Empty => Content::Whole(Bytes::new()),
            body => {
                let body = watch.count_content(body);
                let taken = async {
                    let body = match pass.request_buffer {
                        Some(size) => buffering::taken(body, size, &mut held).await?,
                        None => body,
                    };
                    match body {
                        Body::Full(bytes) => Ok(Content::Whole(bytes)), // so it can be sent again
                        body => Content::take(body, || onward.decided_names()).await,
                    }
                };
                Box::pin(taken).await.map_err(|error| body_failed(&error))?
            }
        };
        let errand = Errand {
            onward,
            place,
            pass,
            group,
            peer,
            content,
            watch,
            begun: Cell::new(begun),
            started: Cell::new(started),
        };
        let Answered { lease, answer } = self.ask(&errand).await?;
        let cookie = affinity::cookie(&self.shared, group, &lease, &errand.onward, peer.is_secure());
        let mut response = match answer {
            Answer::Response(response, body) => self.pass_back(&errand, lease, &response, body)?,
            Answer::Upgraded(response, stream) => self.switch(&errand, lease, &response, stream)?,
        };
        if let Some(cookie) = cookie {
            let set = response.fields.append("set-cookie", cookie);
            set.map_err(|_| failed(place, None))?;
        }
        Ok(response)
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

    fn place(&self, head: &RequestHead, is_secure: bool) -> Result<&Place, Page> {
        let host = head.host();
        let port = head.port().or(is_secure.then_some(HTTPS_PORT));
        self.shared.place(head.host_name(), port, head.path()).map_err(|reason| {
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
                NoRoute::Ambiguous => {
                    Page::new(StatusCode::BAD_REQUEST, "This path can be read in more than one way, to different ends.")
                        .hint("Write it without escapes, dots, double slashes and parameters that it can do without.")
                }
            }
        })
    }

    /// Sends the request to one upstream after the other until one answers.
    async fn ask(&self, errand: &Errand<'_>) -> Result<Answered, Page> {
        let (place, group) = (errand.place, errand.group);
        let mut started = errand.started.take();
        if started.is_none() {
            group.budget.deposit();
        }
        let mut tried: SmallVec<[SocketAddr; TRIED_USUAL]> = SmallVec::new();
        let mut last: Option<ClientError> = None;
        let key = affinity::key(&group.conf.policy, &errand.onward);
        let cookie = match &group.conf.policy {
            Policy::Sticky(name) => affinity::cookie_value(errand.onward.head, name),
            _ => None,
        };
        loop {
            let ask = Ask { tried: &tried, key, cookie, now_ms: 0 };
            let acquired = if let Some(started) = started.take() {
                Ok(started)
            } else {
                let acquired = group.acquire(&ask, &self.shared.sealer, || self.shared.now_ms()).await;
                acquired.map(|lease| Started { lease, begun: None })
            };
            let Started { lease, begun } = match acquired {
                Ok(started) => started,
                Err(Refusal::Exhausted) => return Err(failed(place, last.as_ref())),
                Err(refusal) => return Err(refused(place, group, refusal, last.as_ref())),
            };
            let upstream = &lease.upstream;
            if !tried.is_empty() {
                self.shared.counters.retries.up();
            }
            tried.push(upstream.address);
            let try_timeout = try_timeout(errand, &tried);
            match self.attempt(errand, &lease, begun, try_timeout).await? {
                Ok(answer) => {
                    self.note_success(group, upstream);
                    return Ok(Answered { lease, answer });
                }
                Err(error) => {
                    self.note_failure(group, upstream, &error);
                    let (retries, is_patient) = (errand.pass.retries, try_timeout.is_none());
                    if !retry::may_try_again(&error, &errand.content, &tried, retries, is_patient) {
                        return Err(failed(place, Some(&error)));
                    }
                    if !error.is_connect() && !group.budget.withdraw(self.shared.now_ms()) {
                        tracing::debug!(upstream = group.conf.name, "not tried again: too many requests are");
                        return Err(failed(place, Some(&error)));
                    }
                    last = Some(error);
                }
            }
        }
    }

    async fn attempt(
        &self,
        errand: &Errand<'_>,
        lease: &Lease,
        begun_by: Option<Box<Begun>>,
        try_timeout: Option<Duration>,
    ) -> Result<Result<Answer, ClientError>, Page> {
        let upstream = &*lease.upstream;
        let onward = Onward { upstream: upstream.address, ..errand.onward };
        let fields = headers::to_upstream(&onward).and_then(|mut fields| {
            fields.set("x-request-id", errand.watch.id(onward.head, onward.trusted))?;
            if onward.head.expects_continue() && errand.content.is_streaming() {
                fields.set("expect", "100-continue")?;
            }
            Ok(fields)
        });
        let fields = fields.map_err(|error| {
            Page::new(StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE, format!("The request cannot be passed on: {error}."))
        })?;
        let request = OutgoingRequest {
            method: onward.head.method(),
            target: rewrite::rewritten(errand.pass.rewrite.as_ref(), target(onward.head)),
            fields,
            body: errand.content.lend(),
        };
        let begun = errand.begun.take().unwrap_or_else(Instant::now);
        let mut client = self.client(&errand.pass.timeouts).counting(Rc::clone(errand.watch.opened())).asking_at(begun);
        if let Some(timeout) = try_timeout {
            client = client.waiting(timeout);
        }
        if let Some(tls) = &lease.tls {
            client = client.over_tls(tls.clone());
        } else if lease.http2 {
            client = client.over_http2();
        }
        if let Some(hints) = errand.watch.hints.get() {
            client = hints::handing_on(&client, hints);
        }
        let attempt = Attempt::begin(errand.watch, upstream, begun);
        let outcome = if let Some(begun) = begun_by {
            let sent = Box::pin(client.send_begun(begun, request)).await;
            sent.map(|(head, body)| Answer::Response(head, body)).map_err(|failed| failed.error)
        } else if onward.upgrade.is_some() {
            Box::pin(client.upgrade(upstream.address, request)).await
        } else {
            client.send(upstream.address, request).await.map(|(head, body)| Answer::Response(head, body))
        };
        attempt.end(&outcome);
        Ok(outcome)
    }

    fn onward<'a>(&'a self, head: &'a RequestHead, peer: &Peer) -> Onward<'a> {
        let address = peer.addr.ip().to_canonical();
        Onward {
            head,
            peer: address,
            trusted: self.shared.trusted.iter().any(|network| network.contains(address)),
            client: access::client(head, address, &self.shared.trusted),
            scheme: if peer.is_secure() { "https" } else { "http" },
            name: &self.shared.name,
            edits: &[],
            granted: &[],
            upstream: peer.local_addr,
            upgrade: None,
            hops: headers::hops(head),
        }
    }

    fn client(&self, timeouts: &Timeouts) -> Client {
        let mut clients = self.clients.borrow_mut();
        let wanted = pooled_by(timeouts);
        if let Some((_, client)) = clients.iter().find(|(known, _)| *known == wanted) {
            return client.clone();
        }
        let client = Client::new(ClientSettings {
            connect_timeout: timeouts.connect,
            head_timeout: timeouts.response,
            body_idle_timeout: timeouts.idle,
            write_idle_timeout: timeouts.send,
            pool_idle_timeout: timeouts.keepalive,
            pool_idle_max: timeouts.keepalive_connections,
            ..ClientSettings::default()
        });
        clients.push((wanted, client.clone()));
        client
    }

    /// An ordinary response on its way back.
    fn pass_back(&self, errand: &Errand<'_>, lease: Lease, head: &ResponseHead, body: Body) -> Result<Response, Page> {
        let upstream = &lease.upstream;
        let fields = headers::to_client(head).map_err(|error| unfit(errand.place, upstream, &error.to_string()))?;
        let mut response = Response::new(head.status());
        let endless = is_event_stream(&fields);
        response.fields = fields;
        response.body = if errand.onward.head.method() == Method::Head || head.status() == StatusCode::NOT_MODIFIED {
            // No content follows, but its length is told as the upstream told it.
            if let Some(length) = head.content_length() {
                let told = response.fields.set("content-length", length.to_string());
                told.map_err(|error| unfit(errand.place, upstream, &error.to_string()))?;
            }
            Body::Empty
        } else if let Body::Empty | Body::Full(_) = body {
            body // the upstream has no part in it any more
        } else if body.is_empty() {
            Body::Empty
        } else {
            let end = endless.then(|| self.shared.streams_end(&errand.peer.stop));
            if endless {
                errand.watch.is_endless();
            }
            let watch = Rc::clone(errand.watch);
            let body = Body::from_source(Returning::new(body, end, Arc::clone(&self.shared), lease, watch));
            match errand.pass.response_buffer {
                Some(size) if !endless => buffering::ahead(body, size, errand.onward.client, Rc::clone(errand.watch)),
                _ => body,
            }
        };
        Ok(response)
    }

    /// The upstream has switched protocols: so does the client's connection.
    fn switch(
        &self,
        errand: &Errand<'_>,
        lease: Lease,
        head: &ResponseHead,
        stream: Upgraded,
    ) -> Result<Response, Page> {
        let fields =
            headers::to_client(head).map_err(|error| unfit(errand.place, &lease.upstream, &error.to_string()))?;
        let shared = Arc::clone(&self.shared);
        let end = self.shared.streams_end(&errand.peer.stop);
        let cut = lease.upstream.control.cut();
        let idle_timeout = errand.pass.timeouts.tunnel;
        let watch = Rc::clone(errand.watch);
        watch.becomes_tunnel();
        Ok(Response::upgrade(fields, move |client| async move {
            let (_open, _lease) = (shared.tunnel_opened(), lease);
            let breaker = client.breaker();
            let mut client = watch.measured(client);
            let spliced = tokio::select! {
                spliced = tunnel::splice(&mut client, stream, idle_timeout, &end) => spliced.is_ok(),
                () = cut.cancelled() => false,
            };
            if !spliced {
                breaker.break_off(); // what the client has is not all
            }
        }))
    }

    fn note_success(&self, group: &Group, upstream: &Upstream) {
        if upstream.health.succeeded(|| self.shared.now_ms()) {
            group.has_room_again();
            tracing::info!(upstream = %upstream.address, "upstream is back");
        }
    }

    fn note_failure(&self, group: &Group, upstream: &Upstream, error: &ClientError) {
        if matches!(error.kind, ClientErrorKind::Body(_) | ClientErrorKind::Request(_)) {
            return; // the client's fault, not the upstream's
        }
        if error.is_shortage() {
            return tell_shortage(&error.kind, self.shared.now_ms());
        }
        let failure = if error.is_connect() { Failure::Connect } else { Failure::Answer };
        if group.failed(upstream, failure, self.shared.now_ms()) {
            upstream.metrics.cells.mine().ejections.up();
            tracing::warn!(upstream = %upstream.address, error = %error.kind, "upstream is left out for a while");
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

/// Says that this machine lacks something, not more often than anybody reads it.
fn tell_shortage(error: &ClientErrorKind, now_ms: u64) {
    const PAUSE_MS: u64 = 1000;
    static TOLD_MS: AtomicU64 = AtomicU64::new(0);
    let told_ms = TOLD_MS.load(Relaxed);
    let is_due = told_ms == 0 || now_ms >= told_ms + PAUSE_MS;
    if is_due && TOLD_MS.compare_exchange(told_ms, now_ms.max(1), Relaxed, Relaxed).is_ok() {
        tracing::warn!(%error, "no connection to an upstream can be opened; raise the open file limit");
    }
}

fn redirected(redirect: &Redirect, onward: &Onward<'_>) -> Result<Response, Page> {
    let location = onward.values(&|| headers::forwarded_for(onward)).location(&redirect.target);
    let status = StatusCode::new(redirect.status).unwrap_or(StatusCode::TEMPORARY_REDIRECT);
    let mut response = Response::new(status);
    let set = response.fields.append("location", location);
    set.map_err(|_| Page::new(StatusCode::BAD_REQUEST, "There is no address to send this request to."))?;
    Ok(response)
}

fn responded(respond: &Respond) -> Response {
    let status = StatusCode::new(respond.status).unwrap_or(StatusCode::OK);
    if respond.text.is_empty() || status.forbids_body() {
        return Response::new(status);
    }
    Response::text(status, respond.text.clone())
}

/// Servers that are tried for one request without an allocation.
const TRIED_USUAL: usize = 2;

/// What a pool depends on. Those that differ only in what a client is not told share one.
fn pooled_by(timeouts: &Timeouts) -> Timeouts {
    Timeouts { tunnel: Duration::ZERO, attempt: None, ..timeouts.clone() }
}

/// How long the next attempt may take, if another may follow it.
fn try_timeout(errand: &Errand<'_>, tried: &[SocketAddr]) -> Option<Duration> {
    let timeout = errand.pass.timeouts.attempt?;
    let is_last = tried.len() > errand.pass.retries as usize || tried.len() >= errand.group.members().len();
    (!is_last && errand.onward.head.method().is_idempotent()).then_some(timeout)
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

/// A response's content on its way back. An event stream ends when the proxy stops: it would never end
/// by itself, and its reader comes back.
struct Returning {
    body: Body,
    /// The end of an endless one.
    end: Option<Fired>,
    /// Fires when an operator or a reload ends what is under way with this upstream; waited for only by an answer
    /// that is not there at once.
    cut: Option<Fired>,
    shared: Arc<Shared>,
    lease: Lease,
    watch: Rc<Watch>,
}

type Fired = Pin<Box<dyn Future<Output = ()>>>;

impl Returning {
    fn new(body: Body, end: Option<Stop>, shared: Arc<Shared>, lease: Lease, watch: Rc<Watch>) -> Self {
        let end = end.map(|end| Box::pin(end.cancelled_owned()) as Fired);
        Self { body, end, cut: None, shared, lease, watch }
    }
}

impl Returning {
    /// Counts what has come, and ends what does not.
    fn handle_polled<T>(
        &mut self,
        cx: &mut Context<'_>,
        polled: Poll<Option<Result<T, BodyError>>>,
        len: impl FnOnce(&T) -> usize,
    ) -> Poll<Option<Result<T, BodyError>>> {
        if let Poll::Ready(piece) = polled {
            match &piece {
                Some(Ok(piece)) => self.watch.sent_by(0, len(piece)),
                Some(Err(error)) => {
                    self.shared.counters.broken_off.up();
                    self.watch.broken_off();
                    tracing::debug!(upstream = %self.lease.upstream.address, %error, "upstream broke off its response");
                }
                None => {}
            }
            return Poll::Ready(piece);
        }
        let control = &self.lease.upstream.control;
        let cut = self.cut.get_or_insert_with(|| Box::pin(control.cut().cancelled_owned()));
        let is_cut = cut.as_mut().poll(cx).is_ready();
        match &mut self.end {
            Some(_) if is_cut => Poll::Ready(None),
            Some(end) => end.as_mut().poll(cx).map(|()| None),
            None if is_cut => Poll::Ready(Some(Err(BodyError::Closed))),
            None => Poll::Pending,
        }
    }
}

impl Source for Returning {
    fn poll_chunk(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, BodyError>>> {
        let polled = self.body.poll_chunk(cx);
        self.handle_polled(cx, polled, Bytes::len)
    }

    fn poll_piece(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Piece, BodyError>>> {
        let polled = self.body.poll_piece(cx);
        self.handle_polled(cx, polled, Piece::len)
    }

    fn exact_len(&self) -> Option<u64> {
        self.body.exact_len()
    }

    fn trailers(&mut self) -> Option<Fields> {
        self.body.trailers()
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests;
