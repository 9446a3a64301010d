//! The relay: two devices meet at the tracker.

use crate::support::{Client, Peer, World};
use serde_json::json;
use std::sync::Arc;
use std::time::Duration;
use testkit::RawClient;

const UPGRADE: &str = "connection: upgrade\r\nupgrade: weaprous-relay/1\r\n";

fn start(client: &Client, path: &str) -> RawClient {
    let mut raw = RawClient::connect(client.address);
    raw.send(client.head("GET", path, UPGRADE));
    raw
}

/// Alice calls Bob, who comes: both ends of the joined stream.
fn joined(alice: &Peer, bob: &Peer) -> (RawClient, RawClient) {
    let mut events = bob.client.events("", "");
    events.next_named("ready");
    let mut calling = start(&alice.client, &format!("/api/v1/relay/{}", bob.device()));
    let call = events.next_named("relay").data;
    assert_eq!(call["from"], alice.device().to_string());
    let mut coming = start(&bob.client, &format!("/api/v1/relay/accept/{}", call["token"].as_str().unwrap()));
    for raw in [&mut coming, &mut calling] {
        let answer = raw.read_response();
        assert_eq!((answer.status, answer.field("upgrade")), (101, Some("weaprous-relay/1")));
    }
    (calling, coming)
}

#[test]
fn two_devices_talk_through_the_tracker() {
    let world = World::new();
    let (alice, bob) = (world.peer("alice", 1), world.peer("bob", 2));
    let (mut one, mut other) = joined(&alice, &bob);
    one.send("from alice");
    assert_eq!(other.read_exact(10), b"from alice");
    let large = b"0123456789abcdef".repeat(20_000);
    other.send(&large);
    assert_eq!(one.read_exact(large.len()), large);
    assert_eq!(world.metric("weaprous_relay_streams_total "), 1);
    assert_eq!(world.metric("weaprous_relay_bytes_total "), 10 + large.len() as u64);
    assert_eq!(world.metric("weaprous_relay_streams_open "), 1);
    one.half_close();
    other.expect_close();
    other.send("still hears");
    assert_eq!(one.read_exact(11), b"still hears");
    drop((one, other));
}

#[test]
fn bytes_sent_before_the_answer_are_not_lost() {
    let world = World::new();
    let (alice, bob) = (world.peer("alice", 1), world.peer("bob", 2));
    let mut events = bob.client.events("", "");
    events.next_named("ready");
    let mut calling = start(&alice.client, &format!("/api/v1/relay/{}", bob.device()));
    calling.send("early");
    let token = events.next_named("relay").data["token"].as_str().unwrap().to_owned();
    let mut coming = start(&bob.client, &format!("/api/v1/relay/accept/{token}"));
    coming.send("also early");
    assert_eq!((coming.read_response().status, calling.read_response().status), (101, 101));
    assert_eq!(coming.read_exact(5), b"early");
    assert_eq!(calling.read_exact(10), b"also early");
}

#[test]
fn a_call_that_nobody_answers_is_a_504() {
    let world = World::with(Arc::new(store::MemoryStore::new()), |settings| {
        settings.relay_wait = Duration::from_millis(50);
    });
    let (alice, bob) = (world.peer("alice", 1), world.peer("bob", 2));
    let answer = start(&alice.client, &format!("/api/v1/relay/{}", bob.device())).read_response();
    assert_eq!(answer.status, 504);
    assert!(answer.text().contains("did not come"), "{}", answer.text());
    assert_eq!(world.metric("weaprous_relay_streams_open "), 0);
    assert_eq!(world.metric("weaprous_relay_streams_total "), 0);
}

#[test]
fn a_token_is_for_one_device_and_one_time() {
    let world = World::new();
    let (alice, bob, carol) = (world.peer("alice", 1), world.peer("bob", 2), world.peer("carol", 3));
    let mut events = bob.client.events("", "");
    events.next_named("ready");
    let mut calling = start(&alice.client, &format!("/api/v1/relay/{}", bob.device()));
    let token = events.next_named("relay").data["token"].as_str().unwrap().to_owned();
    let path = format!("/api/v1/relay/accept/{token}");
    assert_eq!(start(&carol.client, &path).read_response().status, 404);
    assert_eq!(start(&alice.client, &path).read_response().status, 404);
    let second = world.stranger().register("bob", &bob.key, json!({})).expect(200);
    let mut elsewhere = bob.client.clone();
    elsewhere.token = second["token"].as_str().map(str::to_owned);
    assert_eq!(start(&elsewhere, &path).read_response().status, 101, "the same device by another session");
    assert_eq!(calling.read_response().status, 101);
    assert_eq!(start(&bob.client, &path).read_response().status, 404);
}

#[test]
fn the_relay_is_for_devices_that_are_there() {
    let world = World::new();
    let (alice, bob) = (world.peer("alice", 1), world.peer("bob", 2));
    let plain = alice.client.get(&format!("/api/v1/relay/{}", bob.device()));
    assert_eq!((plain.status, plain.field("upgrade")), (426, Some("weaprous-relay/1")));
    let nobody = format!("/api/v1/relay/{}", chat::DeviceId([9; 32]));
    assert_eq!(start(&alice.client, &nobody).read_response().status, 404);
    bob.client.json("DELETE", "/api/v1/presence", &json!({})).expect(204);
    let gone = start(&alice.client, &format!("/api/v1/relay/{}", bob.device())).read_response();
    assert!(gone.text().contains("not online"), "{}", gone.text());
}

#[test]
fn so_many_wait_for_one_device_and_no_more() {
    let world = World::with(Arc::new(store::MemoryStore::new()), |settings| {
        settings.relay_wait = Duration::from_secs(1);
    });
    let (alice, bob) = (world.peer("alice", 1), world.peer("bob", 2));
    let mut events = bob.client.events("", "");
    events.next_named("ready");
    let path = format!("/api/v1/relay/{}", bob.device());
    let mut waiting: Vec<_> = (0..8).map(|_| start(&alice.client, &path)).collect();
    for _ in 0..8 {
        events.next_named("relay");
    }
    let refused = start(&alice.client, &path).read_response();
    assert_eq!((refused.status, refused.field("retry-after")), (503, Some("5")));
    assert!(waiting.iter_mut().all(|raw| raw.read_response().status == 504));
    assert_eq!(start(&alice.client, &path).read_response().status, 504, "the places are free again");
}

#[test]
fn a_silent_stream_is_ended() {
    let world = World::with(Arc::new(store::MemoryStore::new()), |settings| {
        settings.relay_idle = Duration::from_millis(100);
    });
    let (alice, bob) = (world.peer("alice", 1), world.peer("bob", 2));
    let (mut one, mut other) = joined(&alice, &bob);
    one.send("x");
    assert_eq!(other.read_exact(1), b"x");
    one.expect_close();
    other.expect_close();
}
