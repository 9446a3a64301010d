//! Who is online, and the end of it.

use crate::support::World;
use serde_json::{Value, json};
use std::sync::Arc;
use std::time::Duration;

fn online(list: &Value) -> Vec<(String, bool)> {
    let peers = list["peers"].as_array().unwrap();
    peers
        .iter()
        .map(|peer| (peer["username"].as_str().unwrap().to_owned(), peer["online"].as_bool().unwrap()))
        .collect()
}

fn pairs(expected: &[(&str, bool)]) -> Vec<(String, bool)> {
    expected.iter().map(|(name, online)| ((*name).to_owned(), *online)).collect()
}

#[test]
fn a_lease_that_nobody_renews_lapses_and_everybody_is_told() {
    let world = World::with(Arc::new(store::MemoryStore::new()), |settings| {
        settings.lease = Duration::from_millis(300);
        settings.sweep = Duration::from_millis(20);
    });
    let watcher = world.user("watcher");
    let mut events = watcher.events("", "");
    events.next_named("ready");
    let alice = world.peer("alice", 1);
    let told = |events: &mut crate::support::Events, user: &str| loop {
        let event = events.next_named("presence");
        if event.data["user"] == user {
            return event.data;
        }
    };
    let came = told(&mut events, "alice");
    assert_eq!((&came["online"], &came["device"]), (&json!(true), &json!(alice.device())));
    let went = told(&mut events, "alice");
    assert_eq!((&went["online"], &went["device"]), (&json!(false), &json!(alice.device())));
    let list = watcher.get("/get-list").expect(200);
    assert_eq!(online(&list)[0], ("alice".to_owned(), false));
    assert!(list["peers"][0]["last_seen_ms"].as_u64().unwrap() > 1_700_000_000_000);
    let back = alice.client.post("/api/v1/presence", json!({"addresses": ["192.0.2.1:7"]})).expect(200);
    assert_eq!(back, json!({"device": alice.device(), "lease_ms": 300}));
    let came_back = told(&mut events, "alice");
    assert_eq!((&came_back["online"], &came_back["addresses"]), (&json!(true), &json!(["192.0.2.1:7"])));
}

#[test]
fn a_renewal_keeps_the_device_of_its_session_online() {
    let world = World::new();
    let alice = world.peer("alice", 1);
    let bob = world.user("bob");
    assert_eq!(online(&bob.get("/get-list").expect(200)), pairs(&[("alice", true), ("bob", true)]));
    alice.client.json("DELETE", "/api/v1/presence", &json!({})).expect(204);
    assert_eq!(online(&bob.get("/get-list").expect(200)), pairs(&[("alice", false), ("bob", true)]));
    assert_eq!(world.metric("weaprous_online_devices "), 1);
    let renewed = alice.client.post("/api/v1/presence", json!({})).expect(200);
    assert_eq!(renewed["device"], alice.device().to_string());
    assert_eq!(online(&bob.get("/get-list").expect(200)), pairs(&[("alice", true), ("bob", true)]));
    let hosted = bob.post("/api/v1/presence", json!({"addresses": []})).expect(200);
    let list = bob.get("/get-list").expect(200);
    assert_eq!((&list["peers"][1]["device"], &list["peers"][1]["hosted"]), (&hosted["device"], &json!(true)));
}

#[test]
fn a_renewal_without_addresses_keeps_those_of_before() {
    let world = World::new();
    let alice = world.user("alice");
    let addresses = |body: Value| {
        alice.post("/api/v1/presence", body).expect(200);
        alice.get("/get-list").expect(200)["peers"][0]["addresses"].clone()
    };
    assert_eq!(
        addresses(json!({"addresses": ["192.0.2.1:7", "[2001:db8::1]:7"]})),
        json!(["192.0.2.1:7", "[2001:db8::1]:7"])
    );
    assert_eq!(addresses(json!({})), json!(["192.0.2.1:7", "[2001:db8::1]:7"]));
    assert_eq!(addresses(json!({"addresses": []})), json!([]));
}

#[test]
fn only_changes_are_told() {
    let world = World::new();
    let (alice, bob) = (world.user("alice"), world.user("bob"));
    let mut events = bob.events("", "");
    events.next_named("ready");
    for _ in 0..3 {
        alice.post("/api/v1/presence", json!({"addresses": ["192.0.2.1:7"]})).expect(200);
    }
    alice.json("DELETE", "/api/v1/presence", &json!({})).expect(204);
    let told: Vec<_> = (0..2).map(|_| events.next().data["online"].clone()).collect();
    assert_eq!(told, [json!(true), json!(false)], "three renewals are one change");
}

#[test]
fn a_session_speaks_for_its_device_also_after_the_tracker_started_again() {
    let store = Arc::new(store::MemoryStore::new());
    let world = World::with(store.clone(), |_| ());
    let alice = world.peer("alice", 1);
    drop(world);
    let world = World::with(store, |_| ());
    assert_eq!(world.metric("weaprous_online_devices "), 0);
    let again = crate::support::Client { address: world.address, ..alice.client.clone() };
    let renewed = again.post("/api/v1/presence", json!({"addresses": []})).expect(200);
    assert_eq!(renewed["device"], alice.device().to_string());
    assert_eq!(world.metric("weaprous_online_devices "), 1);
}
