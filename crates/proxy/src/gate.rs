//! What a request has to pass before anything answers it: addresses, rate, password, another program's word.
//! In this order, so that whoever is refused costs as little as possible.

use std::cell::Cell;
use std::net::{IpAddr, SocketAddr};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Instant;

use engine::{
    Body, Client, ClientError, ClientErrorKind, Fields, Method, OutgoingRequest, RequestHead, Response, ResponseHead,
    StatusCode,
};
use smallvec::SmallVec;

use crate::access;
use crate::conf::{ForwardAuth, RateKey};
use crate::group::{Ask, Group, Lease};
use crate::headers::{self, Onward};
use crate::health::Failure;
use crate::metrics::{Reason, class};
use crate::observe::Watch;
use crate::pages::Page;
use crate::passwords::Verdict;
use crate::proxy::{Place, Shared};
use crate::rate;

/// Members of a `forward_auth` upstream that are asked for one request at most.
const ASKED_MAX: usize = 3;

/// Longest answer of a `forward_auth` program that is shown to a client, in bytes: a login page.
const ANSWER_BYTES_MAX: u64 = 256 * 1024;

/// Why a request does not pass.
pub(crate) enum Refused {
    /// The proxy says so.
    Page(Page),
    /// The program that was asked says so, and what.
    Answer(Response),
}

impl From<Page> for Refused {
    fn from(page: Page) -> Self {
        Self::Page(page)
    }
}

/// Lets a request pass, with the fields that it gets on its way. `connections` gives this worker's.
pub(crate) async fn pass(
    shared: &Shared,
    place: &Place,
    onward: &Onward<'_>,
    watch: &Watch,
    connections: &impl Fn() -> Client,
) -> Result<Vec<(String, Vec<u8>)>, Refused> {
    let rules = &place.rules;
    if rules.access.is_empty() && place.limiter.is_none() && place.passwords.is_none() && place.asked.is_none() {
        return Ok(Vec::new());
    }
    let head = onward.head;
    let client = onward.client;
    if !access::is_allowed(&rules.access, client) {
        tracing::debug!(%client, place = place.label, "refused by its address");
        watch.refused(Reason::Access);
        return Err(Page::new(StatusCode::FORBIDDEN, "This address may not ask for this.").into());
    }
    within_rate(shared, place, head, client).inspect_err(|_| watch.refused(Reason::RateLimit))?;
    if let (Some(auth), Some(passwords)) = (&rules.basic_auth, &place.passwords) {
        let authorization = head.field_str("authorization");
        match passwords.verify(authorization, rate::client_key(client)).await {
            Verdict::Right => {}
            verdict => {
                watch.refused(Reason::BasicAuth);
                return Err(no_password(verdict, &auth.realm).into());
            }
        }
    }
    match (&rules.forward_auth, &place.asked) {
        (Some(auth), Some(group)) => {
            let asked = ask(shared, auth, group, onward, watch, connections()).await;
            asked.inspect_err(|_| watch.refused(Reason::ForwardAuth))
        }
        _ => Ok(Vec::new()),
    }
}

fn within_rate(shared: &Shared, place: &Place, head: &RequestHead, client: IpAddr) -> Result<(), Page> {
    let (Some(limit), Some(limiter)) = (&place.rules.rate_limit, &place.limiter) else { return Ok(()) };
    let now_us = shared.now_us();
    let taken = match &limit.key {
        RateKey::Address => limiter.take(&rate::client_key(client), now_us),
        RateKey::Header(name) => limiter.take(head.field(name).unwrap_or_default(), now_us),
    };
    taken.map_err(|early_us| {
        let seconds = early_us.div_ceil(1_000_000).max(1);
        let page = Page::new(StatusCode::TOO_MANY_REQUESTS, "Too many requests have come from here.");
        page.hint("Wait a moment and try again.").field("retry-after", seconds.to_string())
    })
}

fn no_password(verdict: Verdict, realm: &str) -> Page {
    match verdict {
        Verdict::Busy => Page::new(StatusCode::SERVICE_UNAVAILABLE, "Too many others are logging in just now."),
        Verdict::Broken => Page::new(StatusCode::INTERNAL_SERVER_ERROR, "Nobody can log in here at the moment.")
            .hint("The administrator finds the reason in the proxy's log."),
        Verdict::Right | Verdict::Wrong => Page::new(StatusCode::UNAUTHORIZED, "This needs a name and a password.")
            .field("www-authenticate", format!("Basic realm=\"{realm}\", charset=\"UTF-8\"")),
    }
}

/// Asks another program. With 2xx the request passes with fields of the answer; any other answer is the client's.
async fn ask(
    shared: &Shared,
    auth: &ForwardAuth,
    group: &Arc<Group>,
    onward: &Onward<'_>,
    watch: &Watch,
    client: Client,
) -> Result<Vec<(String, Vec<u8>)>, Refused> {
    let broken = |why: &str| {
        tracing::warn!(place = auth.upstream.name, why, "the program that decides who may ask gives no answer");
        Page::new(StatusCode::SERVICE_UNAVAILABLE, "It cannot be found out at the moment whether you may ask for this.")
    };
    let fields = question(auth, onward, watch).map_err(|error| broken(&error.to_string()))?;
    group.budget.deposit();
    let mut tried: SmallVec<[SocketAddr; ASKED_MAX]> = SmallVec::new();
    let (head, body) = loop {
        let ask = Ask { tried: &tried, now_ms: shared.now_ms(), ..Ask::default() };
        let lease = group.acquire(&ask, &shared.sealer, || shared.now_ms()).await;
        let lease =
            lease.map_err(|_| broken(if tried.is_empty() { "nobody is up" } else { "nobody can be reached" }))?;
        tried.push(lease.upstream.address);
        let error = match put(&client, auth, fields.clone(), &lease).await {
            Ok(answer) => {
                if lease.upstream.health.succeeded(|| shared.now_ms()) {
                    group.has_room_again();
                }
                break answer;
            }
            Err(error) => error,
        };
        note_failure(shared, group, &lease, &error);
        let was_waited_for = error.is_timeout() && !error.is_connect();
        let may_again = error.is_connect() || !was_waited_for && group.budget.withdraw(shared.now_ms());
        if tried.len() >= ASKED_MAX || !may_again {
            return Err(broken(&error.to_string()).into());
        }
    };
    if (200..300).contains(&head.status().as_u16()) {
        let copied = auth.copy.iter().map(|name| (name.clone(), head.field(name).unwrap_or_default().to_vec()));
        return Ok(copied.collect());
    }
    let fields = headers::to_client(&head).map_err(|error| broken(&error.to_string()))?;
    let body = body.collect(ANSWER_BYTES_MAX).await.map_err(|error| broken(&error.to_string()))?;
    let mut response = Response::new(head.status()).with_body(body);
    response.fields = fields;
    Err(Refused::Answer(response))
}

/// Puts the question to one member.
async fn put(
    client: &Client,
    auth: &ForwardAuth,
    fields: Fields,
    lease: &Lease,
) -> Result<(ResponseHead, Body), ClientError> {
    let request = OutgoingRequest { method: Method::Get, target: auth.path.clone(), fields, body: Body::Empty };
    let mut client = client.clone();
    if let Some(tls) = &lease.tls {
        client = client.over_tls(tls.clone());
    } else if lease.http2 {
        client = client.over_http2();
    }
    let opened = Rc::new(Cell::new(0));
    let begun = Instant::now();
    let answered = client.counting(Rc::clone(&opened)).send(lease.upstream.address, request).await;
    let cells = lease.upstream.metrics.cells.mine();
    cells.attempts.up();
    cells.opened.add(u64::from(opened.get()));
    match &answered {
        Ok((head, _)) => {
            cells.took.record(begun.elapsed());
            cells.classes[class(head.status().as_u16())].up();
        }
        Err(error) => {
            cells.failures.up();
            if error.is_connect() {
                cells.refused.up();
            }
        }
    }
    answered
}

fn note_failure(shared: &Shared, group: &Group, lease: &Lease, error: &ClientError) {
    if error.is_shortage() || matches!(error.kind, ClientErrorKind::Request(_)) {
        return; // not the program's fault
    }
    let failure = if error.is_connect() { Failure::Connect } else { Failure::Answer };
    if group.failed(&lease.upstream, failure, shared.now_ms()) {
        lease.upstream.metrics.cells.mine().ejections.up();
        tracing::warn!(upstream = %lease.upstream.address, error = %error.kind, "upstream is left out for a while");
    }
}

/// The fields of the question: the client's own, and what it asks for. What only the program may say is not among them,
/// except what it judges by: the proof of who the client is, and what this proxy says itself.
fn question(auth: &ForwardAuth, onward: &Onward<'_>, watch: &Watch) -> Result<Fields, engine::InvalidField> {
    let mut fields = headers::to_upstream(&Onward { edits: &[], granted: &[], upgrade: None, ..*onward })?;
    for name in ["expect", "range", "if-range", "if-match", "if-none-match", "if-modified-since", "content-type"] {
        fields.remove(name);
    }
    for name in &auth.copy {
        let is_asked = ["host", "authorization", "cookie"].iter().any(|asked| asked.eq_ignore_ascii_case(name));
        if !is_asked && !headers::is_about_the_way(name.as_bytes()) {
            fields.remove(name);
        }
    }
    fields.set("x-request-id", watch.id(onward.head, onward.trusted))?;
    fields.set("x-forwarded-method", onward.head.method().to_string())?;
    let target = onward
        .head
        .query()
        .map_or_else(|| onward.head.path().to_owned(), |query| format!("{}?{query}", onward.head.path()));
    fields.set("x-forwarded-uri", target)?;
    Ok(fields)
}
