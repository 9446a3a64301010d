//! The event stream.

use crate::support::{Received, World};
use chat::{Body, MessageView, Visibility};
use serde_json::{Value, json};

fn text(event: &Received) -> &str {
    event.data["text"].as_str().or(event.data["kind"].as_str()).unwrap()
}

#[test]
fn messages_arrive_with_their_position_and_envelope() {
    let world = World::new();
    let (alice, bob) = (world.user("alice"), world.user("bob"));
    alice.create("general", "public");
    bob.join("general");
    let mut events = bob.events("", "");
    let ready = events.next();
    assert_eq!((ready.name.as_str(), ready.id, ready.data), ("ready", Some(2), json!({"position": 2})));
    let sent = alice.say("general", "hello");
    let event = events.next_named("message");
    assert_eq!((event.id, text(&event)), (Some(3), "hello"));
    let view: MessageView = serde_json::from_value(event.data).unwrap();
    assert_eq!((view.seq, view.hosted, json!(view.id)), (Some(3), true, sent["id"].clone()));
    view.open().unwrap();
}

#[test]
fn a_stream_goes_on_where_the_last_one_ended() {
    let world = World::new();
    let (alice, bob) = (world.user("alice"), world.user("bob"));
    alice.create("general", "public");
    bob.join("general");
    for text in ["a", "b", "c"] {
        alice.say("general", text);
    }
    let cases = [
        ("?since=0", "", vec!["channel.create", "member.join", "a", "b", "c", "end"], 0),
        ("?since=3", "", vec!["b", "c", "end"], 3),
        ("", "last-event-id: 4\r\n", vec!["c", "end"], 4),
        ("?since=1", "last-event-id: 4\r\n", vec!["c", "end"], 4),
        ("?since=5", "", vec!["end"], 5),
        ("", "", vec!["end"], 5),
        ("?since=900", "", vec!["end"], 5),
    ];
    let mut streams: Vec<_> = cases.iter().map(|(query, fields, ..)| bob.events(query, fields)).collect();
    for (events, (query, fields, _, position)) in streams.iter_mut().zip(&cases) {
        assert_eq!(events.next().data, json!({"position": position}), "{query} {fields}");
    }
    alice.say("general", "end");
    for (events, (query, fields, expected, _)) in streams.iter_mut().zip(&cases) {
        assert_eq!(&events.messages_until("end"), expected, "{query} {fields}");
    }
    assert_eq!(bob.send("GET", "/api/v1/events", "last-event-id: x\r\n", b"").status, 400);
}

#[test]
fn a_long_absence_is_caught_up_without_loss_while_more_comes_in() {
    let world = World::new();
    let mut alice = world.peer("alice", 1);
    let made = alice.seal("general", Body::Create { visibility: Visibility::Public });
    let mut batch = vec![made];
    let mut expected = vec!["channel.create".to_owned()];
    for i in 0..700 {
        batch.push(alice.text("general", &format!("number {i}")));
        expected.push(format!("number {i}"));
    }
    let (before, after) = batch.split_at(450);
    for part in before.chunks(200) {
        alice.store("general", &part.iter().collect::<Vec<_>>());
    }
    let mut events = alice.client.events("?since=0", "");
    for part in after.chunks(50) {
        alice.store("general", &part.iter().collect::<Vec<_>>());
    }
    assert_eq!(events.messages_until("number 699"), expected);
}

#[test]
fn only_members_hear_and_the_one_put_out_hears_that_last() {
    let world = World::new();
    let (alice, bob) = (world.user("alice"), world.user("bob"));
    alice.create("den", "private");
    alice.create("open", "public");
    bob.create("lobby", "public");
    let mut events = bob.events("?since=0", "");
    alice.say("den", "not for bob");
    alice.say("open", "bob has not come in");
    bob.say("lobby", "so far");
    assert_eq!(events.messages_until("so far"), ["channel.create", "so far"]);
    alice.post("/api/v1/channels/den/invite", json!({"user": "bob"})).expect(201);
    bob.say("lobby", "invited");
    assert_eq!(events.messages_until("invited"), ["invited"]);
    bob.join("den");
    assert_eq!(events.messages_until("member.join"), ["member.join"]);
    alice.say("den", "for bob");
    assert_eq!(events.messages_until("for bob"), ["for bob"]);
    alice.post("/api/v1/channels/den/remove", json!({"user": "bob"})).expect(201);
    alice.say("den", "no longer for bob");
    bob.join("open");
    assert_eq!(events.messages_until("member.join"), ["member.remove", "member.join"]);
}

#[test]
fn changes_of_a_roster_are_told_to_those_whom_they_concern() {
    let world = World::new();
    let (alice, bob, carol) = (world.user("alice"), world.user("bob"), world.user("carol"));
    alice.create("den", "private");
    let (mut of_bob, mut of_carol) = (bob.events("", ""), carol.events("", ""));
    of_bob.next_named("ready");
    of_carol.next_named("ready");
    alice.post("/api/v1/channels/den/invite", json!({"user": "bob"})).expect(201);
    bob.join("den");
    assert_eq!(of_bob.next_named("channel").data, json!({"channel": "den", "version": 2}));
    bob.register("bob", &chat::DeviceKey::from_seed([5; 32]), json!({})).expect(200);
    assert_eq!(of_bob.next_named("channel").data, json!({"channel": "den", "version": 3}));
    alice.post("/api/v1/channels/den/remove", json!({"user": "bob"})).expect(201);
    assert_eq!(of_bob.next_named("channel").data, json!({"channel": "den", "version": 4}));
    alice.create("open", "public");
    assert_eq!(of_carol.next_named("channel").data, json!({"channel": "open", "version": 1}), "and not of den");
}

#[test]
fn read_marks_reach_the_other_streams_of_the_same_user() {
    let world = World::new();
    let (alice, bob) = (world.user("alice"), world.user("bob"));
    alice.create("general", "public");
    let (mut own, mut others) = (alice.events("", ""), bob.events("", ""));
    own.next_named("ready");
    others.next_named("ready");
    alice.json("PUT", "/api/v1/channels/general/read", &json!({"seq": 1})).expect(200);
    assert_eq!(own.next().data, json!({"channel": "general", "seq": 1}));
    bob.join("general");
    let next: Value = others.next().data;
    assert_eq!(next["version"], 2, "bob hears of the roster, and nothing of alice's reading: {next}");
}

#[test]
fn a_user_has_so_many_streams_and_no_more() {
    let world = World::new();
    let alice = world.user("alice");
    let mut streams: Vec<_> = (0..32).map(|_| alice.events("", "")).collect();
    for events in &mut streams {
        events.next_named("ready");
    }
    assert_eq!(world.metric("weaprous_event_streams "), 32);
    let reply = alice.get("/api/v1/events");
    assert_eq!(reply.field("retry-after"), Some("5"));
    assert!(reply.problem(429).contains("32 event streams"));
    world.user("bob").events("", "").next_named("ready");
}

#[test]
fn streams_end_when_the_tracker_stops() {
    let world = World::new();
    let alice = world.user("alice");
    let mut events = alice.events("", "");
    events.next_named("ready");
    drop(world);
    events.end();
}
