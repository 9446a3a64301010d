//! What failures are taken for, and what requests that go the shorter way leave behind; no socket is opened here.

use std::io;
use std::pin::pin;
use std::task::Waker;

use bytes::BytesMut;
use engine::{EncodeError, Http2Error, Stage};
use http1::{Event, Limits, RequestDecoder};

use super::*;
use crate::balance::sticky::Sealer;
use crate::conf::Config;
use crate::crowd::Seat;
use crate::proxy::Proxy;

/// A proxy of this configuration, and a worker of it.
fn proxy(config: &str) -> (Proxy, Rc<Worker>) {
    let config = Config::parse("test", config).unwrap_or_else(|errors| panic!("{errors:?}"));
    let proxy = Proxy::new(&config);
    let worker = proxy.service()().0.worker();
    (proxy, worker)
}

/// What stands for all hosts, behind an upstream with these lines.
fn worker(lines: &str) -> Rc<Worker> {
    proxy(&format!("upstream app {{ {lines} }} host default {{ proxy_pass http://app; }}")).1
}

fn group(worker: &Worker) -> Arc<Group> {
    Arc::clone(worker.shared.place_at(0).unwrap().group.as_ref().unwrap())
}

fn failure(stage: Stage, kind: ClientErrorKind) -> ClientError {
    ClientError { addr: ([127, 0, 0, 1], 1).into(), stage, kind, can_retry: true }
}

const TWO: &str = "server 127.0.0.1:1; server 127.0.0.1:2; ejection failures=3 pause=60s pause_max=60s;";

/// Checks after how many failures of this kind a server is left out.
fn check_left_out(stage: Stage, kind: impl Fn() -> ClientErrorKind, expect: Option<usize>) {
    let worker = worker(TWO);
    let group = group(&worker);
    let upstream = Arc::clone(&group.members()[0].upstream);
    let seen = (1..=10).find(|_| {
        worker.note_failure(&group, &upstream, &failure(stage, kind()));
        !upstream.health.is_up()
    });
    assert_eq!(seen, expect, "{}", failure(stage, kind()));
    assert_eq!(upstream.metrics.cells.mine().ejections.get(), u64::from(expect.is_some()));
}

#[test]
fn who_cannot_be_reached_is_left_out_at_once_and_who_does_not_answer_after_a_few_times() {
    let reset = || ClientErrorKind::Io(io::ErrorKind::ConnectionReset.into());
    check_left_out(Stage::Connect, || ClientErrorKind::Refused, Some(1));
    check_left_out(Stage::Connect, reset, Some(1));
    // Nobody got a place in all that time: the others are to be asked meanwhile. An answer brings it back.
    check_left_out(Stage::Connect, || ClientErrorKind::Http2(Http2Error::NoRoom), Some(1));
    check_left_out(Stage::Send, reset, Some(3));
    check_left_out(Stage::Head, || ClientErrorKind::TimedOut, Some(3));
    check_left_out(Stage::Head, || ClientErrorKind::Http2(Http2Error::Refused), Some(3));
}

#[test]
fn nobody_is_left_out_for_what_a_client_or_this_machine_lacks() {
    check_left_out(Stage::Head, || ClientErrorKind::Body(BodyError::Closed), None);
    check_left_out(Stage::Send, || ClientErrorKind::Request(EncodeError::Target), None);
    for number in [23, 24] {
        // ENFILE and EMFILE
        check_left_out(Stage::Connect, || ClientErrorKind::Io(io::Error::from_raw_os_error(number)), None);
    }
}

#[test]
fn who_waits_is_served_by_an_upstream_that_answers_again() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
    runtime.block_on(async {
        let lines = "server 127.0.0.1:1 max_conns=1; server 127.0.0.1:2 max_conns=1; queue 1 wait=2s;";
        let worker = worker(lines);
        let group = group(&worker);
        let (sealer, ask) = (Sealer::random(), Ask::default());
        let back = Arc::clone(&group.members()[1].upstream);
        worker.note_failure(&group, &back, &failure(Stage::Connect, ClientErrorKind::Refused));
        let first = group.acquire(&ask, &sealer, || 0).await.unwrap();
        assert_eq!(first.upstream.address.port(), 1);
        let mut second = pin!(group.acquire(&ask, &sealer, || 0));
        assert!(second.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending(), "it waits");
        worker.note_success(&group, &back);
        let began = tokio::time::Instant::now();
        assert_eq!(second.await.unwrap().upstream.address.port(), 2);
        assert_eq!(began.elapsed(), Duration::ZERO, "it did not wait for anything else");
    });
}

fn request(fields: &str) -> RequestHead {
    let text = format!("GET / HTTP/1.1\r\nHost: a\r\n{fields}\r\n");
    match RequestDecoder::new(Limits::default()).poll(&mut BytesMut::from(text.as_str())) {
        Ok(Some(Event::Head(head))) => head,
        other => panic!("{text}: {other:?}"),
    }
}

fn peer() -> Peer {
    Peer::new(([198, 51, 100, 7], 5000).into(), ([192, 0, 2, 1], 80).into(), Stop::new())
}

/// Whether a plain request goes the shorter way.
fn passes(worker: &Rc<Worker>) -> bool {
    passing::pass(worker, &request(""), &peer(), &mut Vec::new()).is_some()
}

/// One that its client has too many of is refused by the longer way, and logged there alone.
#[test]
fn a_request_in_a_crowd_does_not_pass_and_is_not_logged_for_that() {
    let log = tempfile::NamedTempFile::new().unwrap();
    let (proxy, worker) = proxy(&format!(
        "access_log {} format=json; client_requests_max 1; host default {{ proxy_pass http://127.0.0.1:1; }}",
        log.path().display()
    ));
    let logged = || {
        proxy.flush_log();
        std::fs::read_to_string(log.path()).unwrap().lines().count()
    };
    let seat: Seat = worker.crowd.enter(peer().addr.ip(), 1).unwrap();
    assert!(!passes(&worker));
    assert_eq!(logged(), 0);
    drop(seat);
    assert!(passes(&worker));
    assert_eq!(logged(), 1, "one that has passed and was let go");
}

/// Requests that pass make room for others to be sent again, as all do.
#[test]
fn requests_that_pass_count_for_the_budget_of_retries() {
    let worker = worker("server 127.0.0.1:1;");
    let group = group(&worker);
    while group.budget.withdraw(0) {}
    for _ in 0..5 {
        assert!(!group.budget.withdraw(0));
        assert!(passes(&worker));
    }
    assert!(group.budget.withdraw(0), "a fifth of those that were sent may be sent again");
    assert!(!group.budget.withdraw(0));
}
