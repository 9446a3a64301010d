//! The limits of HTTP/2 connections, each at its boundary: what is announced, what is kept, and when it is enough.

use crate::support::{settings, target_of};
use crate::tls_support::{
    Authority, DATA, END_HEADERS, END_STREAM, ENHANCE_YOUR_CALM, FrameClient, GOAWAY, HEADERS, PING, RST_STREAM,
    SETTINGS, WINDOW_UPDATE, frame, head, serve_tls,
};
use engine::{
    Body, BodyError, Connections, Request, Response, Running, Server, Service, Settings, StatusCode, Stop, Tls,
    TlsSettings,
};
use std::future::ready;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, mpsc};
use std::time::{Duration, Instant};

const SHORT: Duration = Duration::from_millis(200);
/// Longer than what is short, by far, and shorter than a hundred times that.
const SOON: Duration = Duration::from_secs(10);
const LONG: Duration = Duration::from_mins(1);
const NO_ERROR: u32 = 0;

fn get(stream: u32) -> Vec<u8> {
    frame(HEADERS, END_STREAM | END_HEADERS, stream, &head("GET", &[]))
}

fn odd(number: u32) -> u32 {
    2 * number + 1
}

/// Whether a PING is answered, so that all that was said before is known to have been dealt with.
fn is_alive(frames: &mut FrameClient) -> bool {
    frames.client.try_send(frame(PING, 0, 0, b"all here")).is_ok()
        && std::iter::from_fn(|| frames.read()).any(|frame| frame.kind == PING && frame.payload == b"all here")
}

fn until(is_so: impl Fn() -> bool, what: &str) {
    let begun = Instant::now();
    while !is_so() {
        assert!(begun.elapsed() < SOON, "{what}");
        std::thread::yield_now();
    }
}

#[test]
fn what_a_client_may_do_is_announced() {
    let (server, authority) = serve_tls(settings(), || |request: Request| ready(target_of(&request)));
    let setup = authority.client().with_alpn(&[b"h2"]);
    let mut frames = FrameClient { client: setup.connect(server.local_addrs()[0], "localhost").unwrap() };
    frames.client.send("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n");
    frames.send(SETTINGS, 0, 0, &[]);
    let announced = frames.read_until(SETTINGS, 0).payload;
    let value = |of: u16| {
        let setting = announced.chunks(6).find(|setting| setting[..2] == of.to_be_bytes());
        setting.map(|setting| u32::from_be_bytes(setting[2..].try_into().unwrap()))
    };
    assert_eq!(value(3), Some(100), "streams at a time");
    assert_eq!(value(4), Some(256 * 1024), "bytes ahead on a stream");
    assert_eq!(value(6), Some(32 * 1024), "bytes of a head");
    let more = frames.read_until(WINDOW_UPDATE, 0).payload;
    assert_eq!(u32::from_be_bytes(more.try_into().unwrap()) + 0xffff, 1024 * 1024, "bytes ahead on all streams");
}

#[test]
fn content_that_nobody_reads_is_taken_up_to_the_window() {
    let (server, authority) = serve_tls(settings(), || {
        |request: Request| async move {
            let _unread = request.body;
            std::future::pending::<Response>().await
        }
    });
    for (pieces, is_fine) in [(256, true), (257, false)] {
        let mut frames = FrameClient::connect(&server, &authority);
        frames.send(HEADERS, END_HEADERS, 1, &head("POST", &[]));
        for _ in 0..pieces {
            frames.send(DATA, 0, 1, &[b'x'; 1024]);
        }
        assert!(is_alive(&mut frames));
        frames.send(PING, 0, 0, &[0; 8]);
        let answer =
            std::iter::from_fn(|| frames.read()).find(|frame| [PING, RST_STREAM].contains(&frame.kind)).unwrap();
        let expect = if is_fine { (PING, vec![0; 8]) } else { (RST_STREAM, vec![0, 0, 0, 3]) };
        assert_eq!((answer.kind, answer.payload), expect, "{pieces} KiB");
    }
}

/// How a connection goes on after so many of these exchanges.
fn check_exchanges(server: &Running, authority: &Authority, count: u32, make: impl Fn(u32) -> Vec<u8>) -> bool {
    let mut frames = FrameClient::connect(server, authority);
    for number in 0..count {
        let stream = odd(number);
        if frames.client.try_send(make(stream)).is_err() {
            return false;
        }
        // One after the other, so that nothing else is too much.
        let answer = std::iter::from_fn(|| frames.read())
            .find(|frame| frame.kind == GOAWAY || frame.stream == stream && frame.kind != WINDOW_UPDATE);
        match answer {
            Some(frame) if frame.kind != GOAWAY => {}
            Some(frame) => {
                assert_eq!(frame.payload[4..8], ENHANCE_YOUR_CALM.to_be_bytes());
                return false;
            }
            None => panic!("closed without a word"),
        }
    }
    is_alive(&mut frames)
}

#[test]
fn requests_that_nobody_can_read_are_counted() {
    let patient = Settings { linger_timeout: LONG, ..settings() };
    let (server, authority) = serve_tls(patient, || |request: Request| ready(target_of(&request)));
    let malformed = |stream| frame(HEADERS, END_STREAM | END_HEADERS, stream, &head("GET", &[("host", "other")]));
    assert!(check_exchanges(&server, &authority, 100, malformed));
    assert!(!check_exchanges(&server, &authority, 101, malformed));
}

/// Content that fails at once.
struct Broken;

impl engine::Source for Broken {
    fn poll_chunk(
        &mut self,
        _: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Option<Result<bytes::Bytes, BodyError>>> {
        std::task::Poll::Ready(Some(Err(BodyError::Closed)))
    }
}

#[test]
fn answers_that_break_off_are_counted() {
    let patient = Settings { linger_timeout: LONG, ..settings() };
    let (server, authority) =
        serve_tls(patient, || |_: Request| ready(Response::new(StatusCode::OK).with_body(Body::from_source(Broken))));
    assert!(check_exchanges(&server, &authority, 500, get));
    assert!(!check_exchanges(&server, &authority, 501, get));
}

#[test]
fn requests_taken_back_before_they_were_looked_at_are_few() {
    let patient = Settings { linger_timeout: LONG, ..settings() };
    let (server, authority) = serve_tls(patient, || |request: Request| ready(target_of(&request)));
    // In one record, so all of them are here when the first is looked at.
    let burst = |count| {
        let pair = |stream| [get(stream), frame(RST_STREAM, 0, stream, &8_u32.to_be_bytes())].concat();
        (0..count).flat_map(|number| pair(odd(number))).collect::<Vec<u8>>()
    };
    for (count, is_fine) in [(20, true), (21, false)] {
        let mut frames = FrameClient::connect(&server, &authority);
        frames.client.send(burst(count));
        assert_eq!(is_alive(&mut frames), is_fine, "{count} of them");
    }
}

#[test]
fn many_requests_at_once_leave_others_their_turn() {
    let (tell, told) = mpsc::channel();
    let (server, authority) = serve_tls(settings(), move || {
        let (tell, calls) = (tell.clone(), std::rc::Rc::new(std::cell::Cell::new(0)));
        move |request: Request| {
            calls.set(calls.get() + 1);
            if calls.get() == 1 {
                let (tell, calls) = (tell.clone(), calls.clone());
                tokio::task::spawn_local(async move { tell.send(calls.get()).unwrap() });
            }
            ready(target_of(&request))
        }
    });
    let mut frames = FrameClient::connect(&server, &authority);
    frames.client.send((0..100).flat_map(|number| get(odd(number))).collect::<Vec<u8>>());
    assert_eq!(told.recv_timeout(SOON), Ok(64), "answers before another task had its turn");
    frames.read_until(DATA, odd(99));
}

/// A server and its count of open connections.
fn counted<S: Service>(
    settings: Settings,
    make: impl Fn() -> S + Send + Sync + 'static,
) -> (Running, Authority, Connections) {
    let folder = tempfile::tempdir().unwrap();
    let authority = Authority::new();
    let files = authority.write(folder.path(), "server", &["localhost"]);
    let tls = Tls::new(TlsSettings::many(vec![files])).unwrap();
    let server = Server::new(settings).listen_tls("127.0.0.1:0".parse().unwrap(), tls, make).unwrap();
    let connections = server.connections();
    (server.start(Stop::new(), crate::support::GRACE).unwrap(), authority, connections)
}

fn flood(frames: &mut FrameClient) {
    frames.flood(101, |_| frame(PING, 0, 0, &[0; 8]));
}

#[test]
fn who_was_refused_and_stays_is_left_in_time() {
    let impatient = Settings { linger_timeout: SHORT, ..settings() };
    let (server, authority, connections) = counted(impatient, || |request: Request| ready(target_of(&request)));
    let mut frames = FrameClient::connect(&server, &authority);
    flood(&mut frames);
    while frames.read().is_some_and(|frame| frame.kind != GOAWAY) {}
    until(|| connections.open() == 0, "it is still listened to");
    drop(frames);
}

#[test]
fn who_was_refused_and_goes_on_sending_is_listened_to_so_long() {
    const PIECE: usize = 16 * 1024;
    let patient = Settings { linger_timeout: LONG, ..settings() };
    let (server, authority) = serve_tls(patient, || |request: Request| ready(target_of(&request)));
    let mut frames = FrameClient::connect(&server, &authority);
    flood(&mut frames);
    // What is read away, and far more than sockets hold.
    let pieces = (16 << 20) / PIECE + (16 << 20) / PIECE;
    let piece = vec![0; PIECE];
    let sent = (0..pieces).take_while(|_| frames.client.try_send(&piece).is_ok()).count();
    assert!(sent >= (16 << 20) / PIECE && sent < pieces, "{sent} pieces were taken");
}

/// More answers than fit between the two ends, of which at most 12 MiB fit into sockets.
const ANSWERS: u32 = 500;
const ANSWER_BYTES: usize = 30 * 1024;

/// A connection whose answers fill all there is between the two ends, because its client reads none of them.
fn blocked(server: &Running, authority: &Authority, calls: &AtomicUsize) -> FrameClient {
    let mut frames = FrameClient::connect(server, authority);
    let endless = 0x7fff_ffff_u32.to_be_bytes();
    frames.send(SETTINGS, 0, 0, &[&[0, 4], &endless[..]].concat()); // SETTINGS_INITIAL_WINDOW_SIZE
    frames.send(WINDOW_UPDATE, 0, 0, &(0x7fff_ffff_u32 - 0xffff).to_be_bytes());
    for number in 0..ANSWERS {
        frames.send(HEADERS, END_STREAM | END_HEADERS, odd(number), &head("GET", &[]));
        until(|| calls.load(SeqCst) > number as usize, "a request is not heard");
    }
    frames
}

/// For connections that are to be blocked by answers.
fn roomy() -> Settings {
    Settings { http2_streams_max: ANSWERS, write_idle_timeout: 10 * SHORT, linger_timeout: SHORT, ..settings() }
}

/// Answers that fit into what waits for the socket, so that no task waits with them.
fn serve_filling(settings: Settings, calls: &Arc<AtomicUsize>) -> (Running, Authority, Connections) {
    let calls = Arc::clone(calls);
    counted(settings, move || {
        let calls = Arc::clone(&calls);
        move |_: Request| {
            calls.fetch_add(1, SeqCst);
            ready(Response::new(StatusCode::OK).with_body(vec![b'x'; ANSWER_BYTES]))
        }
    })
}

#[test]
fn a_client_that_takes_nothing_and_talks_on_is_left() {
    let calls = Arc::new(AtomicUsize::new(0));
    let (server, authority, connections) = serve_filling(roomy(), &calls);
    let mut frames = blocked(&server, &authority, &calls);
    let begun = Instant::now();
    while connections.open() > 0 {
        assert!(begun.elapsed() < SOON, "words keep it open");
        std::thread::sleep(Duration::from_millis(20)); // the attack itself, not a wait for the server
        let _ = frames.client.try_send(frame(WINDOW_UPDATE, 0, 1, &1_u32.to_be_bytes()));
    }
}

#[test]
fn a_client_that_takes_nothing_and_floods_is_not_waited_for_to_be_told() {
    let calls = Arc::new(AtomicUsize::new(0));
    let patient = Settings { write_idle_timeout: LONG, ..roomy() };
    let (server, authority, connections) = serve_filling(patient, &calls);
    let mut frames = blocked(&server, &authority, &calls);
    // What needs no answer: what does is not read any more.
    frames.flood(100 + 2 * ANSWERS + 1, |_| frame(0xfa, 0, 0, b"unknown"));
    until(|| connections.open() == 0, "it is still waited for");
}

#[test]
fn answers_whose_window_is_closed_behind_them_are_not_kept_for_ever() {
    let calls = Arc::new(AtomicUsize::new(0));
    let (server, authority, _) = serve_filling(roomy(), &calls);
    let mut frames = blocked(&server, &authority, &calls);
    // It holds when the socket takes something again; then nobody is at work, and nothing may be sent.
    frames.send(SETTINGS, 0, 0, &[0, 4, 0, 0, 0, 0]);
    assert_eq!(frames.read_goaway(), Some(NO_ERROR));
}
