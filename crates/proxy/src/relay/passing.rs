//! Plain requests, passed on as they are: no future is made of them unless something unusual happens. What reaches the
//! upstream and the client is the same as by the other way (`Worker::answer`), which all others go.

use std::rc::Rc;

use engine::{
    Begun, Method, Pass, Passage, Peer, Request, RequestHead, Response, ResponseHead, Resumed, StatusCode, TargetForm,
    write_passed_request, write_passed_response,
};

use super::{Started, Worker};
use crate::affinity;
use crate::conf::Action;
use crate::group::{Ask, Lease};
use crate::headers::{self, Onward};
use crate::observe::Watch;

/// A request on its way, until it is resumed.
struct Passed(Option<Parts>);

struct Parts {
    worker: Rc<Worker>,
    /// Whose turn it is in the table of places.
    place: usize,
    lease: Lease,
    watch: Watch,
}

/// Passes a request on, if it and its place are plain and somebody has a connection open for it.
pub(super) fn pass(worker: &Rc<Worker>, head: &RequestHead, peer: &Peer, out: &mut Vec<u8>) -> Option<Box<Pass>> {
    let shared = &worker.shared;
    if head.method() != Method::Get || head.form() != TargetForm::Origin {
        return None;
    }
    let onward = worker.onward(head, peer);
    if onward.trusted || peer.is_secure() || !headers::is_plain(head) {
        return None;
    }
    let index = match shared.only_index() {
        Some(index) => index,
        None => shared.place_index(head.host_name(), head.port(), head.path()).ok()?,
    };
    let place = shared.place_at(index)?;
    let (true, Some(group), Action::Pass(pass)) = (place.is_plain, &place.group, &place.rules.action) else {
        return None;
    };
    let watch = Watch::new(head, peer, worker.log.as_ref(), &shared.trusted);
    if !worker.seat(&onward, &watch) {
        watch.withdraw(); // the other way says so
        return None;
    }
    let key = affinity::key(&group.conf.policy, &onward);
    let ask = Ask { key, ..Ask::default() };
    let Some(lease) = group.acquire_now(&ask, &shared.sealer, || shared.now_ms()) else {
        watch.withdraw();
        return None;
    };
    shared.counters.requests.up();
    watch.routed(&place.label, &place.metrics);
    group.budget.deposit();
    let mut connection = worker.client(&pass.timeouts).take_kept(lease.upstream.address);
    if connection.is_some() && write(&onward, &watch, &shared.via, out).is_none() {
        connection = None; // closed unused; the other way says what is wrong
    }
    let parts = Parts { worker: Rc::clone(worker), place: index, lease, watch };
    Some(Pass::new(Passed(Some(parts)), connection))
}

fn write(onward: &Onward<'_>, watch: &Watch, via: &str, out: &mut Vec<u8>) -> Option<()> {
    let host = onward.head.host().as_bytes();
    let address = headers::AddressText::of(onward.peer);
    let own: [(&str, &[u8]); 5] = [
        ("x-forwarded-for", address.as_ref()),
        ("x-forwarded-proto", onward.scheme.as_bytes()),
        ("x-forwarded-host", host),
        ("via", via.as_bytes()),
        ("x-request-id", watch.id(onward.head, onward.trusted)),
    ];
    let keep = |name: &[u8]| headers::passes_to_upstream(name) && !is_request_id(name);
    write_passed_request(out, onward.head, host, keep, &own).ok()
}

fn is_request_id(name: &[u8]) -> bool {
    name.eq_ignore_ascii_case(b"x-request-id")
}

impl Passage for Passed {
    fn answer(&mut self, head: &ResponseHead, content: &[u8], date: &[u8; 29], out: &mut Vec<u8>) -> bool {
        let Some(Parts { worker, place, lease, watch }) = &self.0 else { return false };
        // Its `Upgrade` is for the client, as no other's is.
        if head.status() == StatusCode::UPGRADE_REQUIRED || headers::lists_fields(head.connection_tokens()) {
            return false;
        }
        let Some(id) = watch.known_id() else { return false };
        let keep = |name: &[u8]| !engine::is_hop_by_hop(name) && !is_request_id(name);
        if write_passed_response(out, head, date, keep, &[("x-request-id", id)], content).is_err() {
            return false;
        }
        worker.shared.counters.passed.up();
        watch.answered_at_once(&lease.upstream, head.status().as_u16(), content.len());
        if let Some(group) = worker.shared.place_at(*place).and_then(|place| place.group.as_ref()) {
            worker.note_success(group, &lease.upstream);
        }
        true
    }

    fn resume(&mut self, request: Request, begun: Option<Box<Begun>>) -> Resumed {
        let parts = self.0.take();
        Box::pin(async move {
            let Some(Parts { worker, lease, watch, .. }) = parts else {
                return Response::new(StatusCode::INTERNAL_SERVER_ERROR); // it is resumed once
            };
            let watch = Rc::new(watch);
            let response = worker.answer(request, &watch, Some(Started { lease, begun })).await;
            watch.answered(&response);
            response
        })
    }
}
