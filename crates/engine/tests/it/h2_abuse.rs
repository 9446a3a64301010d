//! Clients that mean harm: each attack ends its connection early, whoever else is there is served.

use crate::support::{settings, target_of};
use crate::tls_support::{
    Authority, CONTINUATION, DATA, END_HEADERS, END_STREAM, ENHANCE_YOUR_CALM, FrameClient, HEADERS, PING, RST_STREAM,
    SETTINGS, WINDOW_UPDATE, frame, head, serve_tls,
};
use engine::{Request, Running, Settings};
use std::future::pending;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

/// Frames a flood would like to send.
const FLOOD: u32 = 20_000;
/// Longer than any flood here takes. A client that still sends when nobody reads any more gets a reset, and a reset
/// takes away what it has not read yet: the reason. It ends with the client, so no test waits for it.
const LINGER: Duration = Duration::from_mins(1);

/// A server whose services count their calls; `/` is answered, everything else never.
struct Victim {
    server: Running,
    authority: Authority,
    calls: Arc<AtomicU32>,
}

impl Victim {
    fn new() -> Self {
        let calls = Arc::new(AtomicU32::new(0));
        let counted = calls.clone();
        let patient = Settings { linger_timeout: LINGER, ..settings() };
        let (server, authority) = serve_tls(patient, move || {
            let calls = counted.clone();
            move |request: Request| {
                calls.fetch_add(1, Ordering::Relaxed);
                async move {
                    if request.head.field("x-pending").is_some() {
                        pending::<()>().await;
                    }
                    target_of(&request)
                }
            }
        });
        Self { server, authority, calls }
    }

    fn connect(&self) -> FrameClient {
        FrameClient::connect(&self.server, &self.authority)
    }

    /// Sends frames without reading, and checks that the connection was ended for it and others are served.
    fn check(&self, attacker: FrameClient, make: impl Fn(u32) -> Vec<u8>) {
        self.check_reason(attacker, ENHANCE_YOUR_CALM, make);
    }

    fn check_reason(&self, mut attacker: FrameClient, reason: u32, make: impl Fn(u32) -> Vec<u8>) {
        attacker.flood(FLOOD, make);
        assert_eq!(attacker.read_goaway(), Some(reason));
        self.check_others();
    }

    fn check_others(&self) {
        let mut client = self.authority.client().connect(self.server.local_addrs()[0], "localhost").unwrap();
        assert_eq!(client.get("localhost", "/").status, 200);
    }

    fn calls(&self) -> u32 {
        self.calls.load(Ordering::Relaxed)
    }
}

fn get(stream: u32) -> Vec<u8> {
    frame(HEADERS, END_STREAM | END_HEADERS, stream, &head("GET", &[("x-pending", "1")]))
}

fn odd(number: u32) -> u32 {
    2 * number + 1
}

#[test]
fn rapid_reset() {
    let victim = Victim::new();
    victim.check(victim.connect(), |number| {
        let stream = odd(number);
        [get(stream), frame(RST_STREAM, 0, stream, &8_u32.to_be_bytes())].concat()
    });
    assert!(victim.calls() <= 102, "{} calls of the service", victim.calls());
}

#[test]
fn made_you_reset() {
    // The client breaks the rules of a stream, so that the server is the one who resets it (CVE-2025-8671).
    // An increment of nothing already ends the connection as a fault of the protocol.
    for (increment, reason) in [(0, 1), (u32::MAX >> 1, ENHANCE_YOUR_CALM)] {
        let victim = Victim::new();
        victim.check_reason(victim.connect(), reason, |number| {
            let stream = odd(number);
            [get(stream), frame(WINDOW_UPDATE, 0, stream, &increment.to_be_bytes())].concat()
        });
        assert!(victim.calls() <= 102, "{} calls of the service", victim.calls());
    }
}

#[test]
fn made_you_reset_by_content() {
    let victim = Victim::new();
    victim.check(victim.connect(), |number| {
        let stream = odd(number);
        let begin = frame(HEADERS, END_HEADERS, stream, &head("POST", &[("content-length", "1"), ("x-pending", "1")]));
        [begin, frame(DATA, END_STREAM, stream, b"two")].concat()
    });
    assert!(victim.calls() <= 102, "{} calls of the service", victim.calls());
}

#[test]
fn malformed_requests_without_end() {
    let victim = Victim::new();
    victim.check(victim.connect(), |number| {
        frame(HEADERS, END_STREAM | END_HEADERS, odd(number), &head("GET", &[("host", "other")]))
    });
    assert_eq!(victim.calls(), 1, "only the one who was served");
}

#[test]
fn continuation_flood() {
    let victim = Victim::new();
    let mut attacker = victim.connect();
    attacker.send(HEADERS, END_STREAM, 1, &head("GET", &[]));
    victim.check(attacker, |_| frame(CONTINUATION, 0, 1, &[]));
}

#[test]
fn continuation_flood_with_content() {
    let victim = Victim::new();
    let mut attacker = victim.connect();
    attacker.send(HEADERS, END_STREAM, 1, &head("GET", &[]));
    let fields: Vec<u8> = (0..100).flat_map(|_| crate::tls_support::field("x-filler", &"y".repeat(100))).collect();
    attacker.flood(FLOOD / 40, |_| frame(CONTINUATION, 0, 1, &fields));
    assert!(attacker.read_goaway().is_some_and(|code| code != 0));
    victim.check_others();
}

#[test]
fn settings_flood() {
    let victim = Victim::new();
    victim.check(victim.connect(), |_| frame(SETTINGS, 0, 0, &[]));
}

#[test]
fn ping_flood() {
    let victim = Victim::new();
    victim.check(victim.connect(), |_| frame(PING, 0, 0, &[0; 8]));
}

#[test]
fn empty_data_flood() {
    let victim = Victim::new();
    let mut attacker = victim.connect();
    attacker.send(HEADERS, END_HEADERS, 1, &head("POST", &[("x-pending", "1")]));
    victim.check(attacker, |_| frame(DATA, 0, 1, &[]));
}

#[test]
fn padding_flood() {
    const PADDED: u8 = 8;
    let victim = Victim::new();
    let mut attacker = victim.connect();
    attacker.send(HEADERS, END_HEADERS, 1, &head("POST", &[("x-pending", "1")]));
    victim.check(attacker, |_| frame(DATA, PADDED, 1, &[3, 0, 0, 0]));
}

#[test]
fn tiny_data_flood() {
    let victim = Victim::new();
    let mut attacker = victim.connect();
    attacker.send(HEADERS, END_HEADERS, 1, &head("POST", &[("x-pending", "1")]));
    victim.check(attacker, |_| frame(DATA, 0, 1, b"x"));
}

#[test]
fn window_update_flood() {
    let victim = Victim::new();
    victim.check(victim.connect(), |_| frame(WINDOW_UPDATE, 0, 0, &1_u32.to_be_bytes()));
}

#[test]
fn priority_and_unknown_frames() {
    let victim = Victim::new();
    victim.check(victim.connect(), |number| frame(2, 0, odd(number), &[0, 0, 0, 0, 16]));
    victim.check(victim.connect(), |_| frame(0xfa, 0, 0, b"unknown"));
}
