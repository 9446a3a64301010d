//! Uploads that take long: a steady one passes however long it takes, one that crawls is given up on.

use std::sync::mpsc;
use std::time::{Duration, Instant};

use engine::Settings;

use crate::harness::*;

/// The longest silence allowed inside of a request's content.
const IDLE: Duration = Duration::from_millis(150);
/// Bytes per second that content must have on average.
const RATE_MIN: u64 = 1000;

fn settings() -> Settings {
    Settings { body_idle_timeout: IDLE, rate_min: RATE_MIN, rate_grace: Duration::from_millis(300), ..one_worker() }
}

const PIECE: &str =
    "0123456789012345678901234567890123456789012345678901234567890123456789012345678901234567890123456789";

#[test]
fn a_slow_and_steady_upload_that_lasts_ten_times_the_idle_limit_passes() {
    let mirror = mirror();
    let front = front_with(&everything_to(&[address(&mirror)], ""), settings());
    for is_chunked in [true, false] {
        let mut client = front.connect();
        let count = 60;
        let begun = Instant::now();
        if is_chunked {
            client.send("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n");
        } else {
            client.send(format!("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: {}\r\n\r\n", count * PIECE.len()));
        }
        for _ in 0..count {
            let piece = if is_chunked { format!("64\r\n{PIECE}\r\n") } else { PIECE.to_owned() };
            client.send(piece);
            std::thread::sleep(IDLE / 6); // slowness is what is tested here
        }
        if is_chunked {
            client.send("0\r\n\r\n");
        }
        assert!(begun.elapsed() >= 10 * IDLE, "{:?}", begun.elapsed());
        let response = client.read_response();
        assert_eq!(response.status, 200);
        assert!(response.text().ends_with(&PIECE.repeat(count)), "all of it arrives");
    }
}

#[test]
fn an_upload_below_the_minimum_rate_is_408_and_its_upstream_connection_is_not_used_again() {
    let (tell, told) = mpsc::channel();
    let upstream = hostile(move |index, mut wire| {
        let Some(head) = wire.try_head() else { return };
        if head.starts_with("POST ") {
            tell.send((index, wire.rest())).unwrap();
        } else {
            wire.send("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok");
            tell.send((index, head)).unwrap();
            wire.rest();
        }
    });
    let front = front_with(&everything_to(&[upstream.address()], ""), settings());
    let mut client = front.connect();
    client.send("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n");
    client.stream().set_read_timeout(Some(Duration::from_millis(1))).unwrap();
    for _ in 0..200 {
        // Never silent for long, and never fast enough.
        if client.try_send("1\r\nx\r\n").is_err() {
            break;
        }
        std::thread::sleep(IDLE / 6);
        if client.stream().peek(&mut [0]).is_ok() {
            break; // it has been answered
        }
    }
    client.stream().set_read_timeout(Some(DEADLINE)).unwrap();
    assert_eq!(client.read_response().status, 408);
    let (index, content) = told.recv_timeout(DEADLINE).unwrap();
    assert_eq!(index, 0);
    assert!(content.starts_with("1\r\nx\r\n") && !content.ends_with("0\r\n\r\n"), "{content}");
    assert_eq!(front.get("a").text(), "ok");
    assert_eq!(told.recv_timeout(DEADLINE).unwrap().0, 1, "on another connection");
    assert!(front.counts().upstreams[0].up, "that was not the upstream's fault");
}
