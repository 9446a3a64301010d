//! What a request has to pass before anything answers it: addresses, rate, password, another program's word.
//! In this order, so that whoever is refused costs as little as possible.

use engine::{Answer, Body, Client, Fields, Method, OutgoingRequest, RequestHead, Response, StatusCode};
use std::net::IpAddr;

use crate::access;
use crate::conf::{ForwardAuth, RateKey};
use crate::group::{Ask, Group};
use crate::headers::{self, Onward};
use crate::observe::Watch;
use crate::pages::Page;
use crate::passwords::Verdict;
use crate::proxy::{Place, Shared};
use crate::rate;
use std::sync::Arc;

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
    let client = access::client(head, onward.peer, &shared.trusted);
    if !access::is_allowed(&rules.access, client) {
        tracing::debug!(%client, place = place.label, "refused by its address");
        return Err(Page::new(StatusCode::FORBIDDEN, "This address may not ask for this.").into());
    }
    within_rate(shared, place, head, client)?;
    if let (Some(auth), Some(passwords)) = (&rules.basic_auth, &place.passwords) {
        let authorization = head.field_str("authorization");
        match passwords.verify(authorization, rate::client_key(client)).await {
            Verdict::Right => {}
            verdict => return Err(no_password(verdict, &auth.realm).into()),
        }
    }
    match (&rules.forward_auth, &place.asked) {
        (Some(auth), Some(group)) => ask(shared, auth, group, onward, watch, connections()).await,
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
    mut client: Client,
) -> Result<Vec<(String, Vec<u8>)>, Refused> {
    let broken = |why: &str| {
        tracing::warn!(place = auth.upstream.name, why, "the program that decides who may ask gives no answer");
        Page::new(StatusCode::SERVICE_UNAVAILABLE, "It cannot be found out at the moment whether you may ask for this.")
    };
    let ask = Ask { now_ms: shared.now_ms(), ..Ask::default() };
    let lease = group.acquire(&ask, &shared.sealer, || shared.now_ms()).await.map_err(|_| broken("nobody is up"))?;
    let fields = question(auth, onward, watch).map_err(|error| broken(&error.to_string()))?;
    let request = OutgoingRequest { method: Method::Get, target: auth.path.clone(), fields, body: Body::Empty };
    if let Some(tls) = &lease.tls {
        client = client.over_tls(tls.clone());
    } else if lease.http2 {
        client = client.over_http2();
    }
    let answer = client.send(lease.upstream.address, request).await.map(|(head, body)| Answer::Response(head, body));
    let Ok(Answer::Response(head, body)) = answer else {
        group.failed(&lease.upstream, crate::health::Failure::Connect, shared.now_ms());
        return Err(broken("it cannot be reached").into());
    };
    lease.upstream.health.succeeded(|| shared.now_ms());
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
