//! Hosted messages: pages, keys, and many at once.

use crate::support::{Client, World};
use chat::{MessageView, Sealed};
use serde_json::{Value, json};
use std::thread;

fn seqs(page: &Value) -> Vec<u64> {
    page["messages"].as_array().unwrap().iter().map(|message| message["seq"].as_u64().unwrap()).collect()
}

#[test]
fn pages_are_cut_where_the_client_says() {
    let world = World::new();
    let alice = world.user("alice");
    alice.create("general", "public");
    for i in 0..9 {
        alice.say("general", &format!("number {i}"));
    }
    let all: Vec<u64> = (1..=10).collect();
    let cases: [(&str, &[u64]); 9] = [
        ("", &all),
        ("&limit=3", &all[7..]),
        ("&after=0&limit=3", &all[..3]),
        ("&after=8", &all[8..]),
        ("&after=10", &[]),
        ("&after=18446744073709551615", &[]),
        ("&before=4&limit=2", &all[1..3]),
        ("&before=1", &[]),
        ("&limit=100000", &all),
    ];
    for (query, expected) in cases {
        let page = alice.get(&format!("/get-messages?channel=general{query}")).expect(200);
        assert_eq!(seqs(&page), expected, "{query}");
        assert_eq!(page["last"], 10, "{query}");
        assert_eq!(page["channel"], "general");
    }
}

#[test]
fn a_message_shows_its_envelope_and_that_it_is_hosted() {
    let world = World::new();
    let alice = world.user("alice");
    alice.create("general", "public");
    let sent = alice.say("general", "hello \u{1F44B}\u{1b}[2J");
    let page = alice.get("/get-messages?channel=general&after=1").expect(200);
    let view: MessageView = serde_json::from_value(page["messages"][0].clone()).unwrap();
    assert_eq!(view.text.as_deref(), Some("hello \u{1F44B}\u{1b}[2J"));
    assert!(view.hosted);
    assert_eq!(view.n, 2, "it follows the channel's making in the chain of the hosted device");
    assert_eq!(view.id.to_string(), sent["id"]);
    let opened: Sealed = view.open().unwrap();
    assert_eq!(opened.envelope().author.as_str(), "alice");
    assert_eq!(opened.id(), view.id);
}

#[test]
fn a_key_stores_one_message_however_often_it_is_sent() {
    let world = World::new();
    let (alice, bob) = (world.user("alice"), world.user("bob"));
    alice.create("general", "public");
    alice.create("other", "public");
    bob.join("general");
    let body = json!({"channel": "general", "text": "once", "key": "0123456789abcdef"});
    let first = alice.post("/send-message", body.clone()).expect(201);
    assert_eq!(alice.post("/send-message", body.clone()).expect(201), first);
    alice.say("general", "in between");
    let changed = json!({"channel": "general", "text": "changed", "key": "0123456789abcdef"});
    assert_eq!(alice.post("/send-message", changed).expect(201), first, "the key decides");
    let elsewhere = json!({"channel": "other", "text": "once", "key": "0123456789abcdef"});
    assert!(alice.post("/send-message", elsewhere).problem(409).contains("another channel"));
    assert_ne!(bob.post("/send-message", body.clone()).expect(201), first, "another user's key");
    alice.post("/api/v1/channels/general/leave", json!({})).expect(201);
    assert_eq!(alice.post("/send-message", body).expect(201), first, "it was stored, whatever came after");
    let texts = bob.texts("general");
    assert_eq!(texts, ["channel.create", "member.join", "once", "in between", "once", "member.leave"]);
}

#[test]
fn a_key_sent_many_times_at_once_stores_one_message() {
    let world = World::new();
    let alice = world.user("alice");
    alice.create("general", "public");
    let body = json!({"channel": "general", "text": "once", "key": "0123456789abcdef"});
    let sent: Vec<Value> = at_once((0..8).map(|_| {
        let (alice, body) = (alice.clone(), body.clone());
        move || alice.post("/send-message", body).expect(201)
    }));
    assert!(sent.iter().all(|answer| *answer == sent[0]), "{sent:?}");
    assert_eq!(alice.texts("general"), ["channel.create", "once"]);
}

#[test]
fn many_at_once_come_to_a_dense_log_without_forks() {
    const EACH: usize = 20;
    let world = World::new();
    let users: Vec<Client> = ["alice", "bob", "carol"].map(|name| world.user(name)).into();
    users[0].create("general", "public");
    users[1].join("general");
    users[2].join("general");
    // Two connections of each user at a time: both write through one hosted device.
    let sent: Vec<Vec<u64>> = at_once(users.iter().chain(&users).cloned().map(|user| {
        move || (0..EACH).map(|i| user.say("general", &format!("number {i}"))["seq"].as_u64().unwrap()).collect()
    }));
    let mut seqs: Vec<u64> = sent.into_iter().flatten().collect();
    seqs.sort_unstable();
    assert_eq!(seqs, (4..=6 * EACH as u64 + 3).collect::<Vec<_>>());
    let channel = "general".parse().unwrap();
    let log = crate::support::block_on(world.store.read(&channel, 0, usize::MAX)).unwrap();
    assert_eq!(log.len(), 6 * EACH + 3);
    for head in crate::support::block_on(world.store.heads(&channel)).unwrap() {
        let numbers: Vec<u64> =
            log.iter().map(|it| it.sealed.envelope()).filter(|it| it.device == head.device).map(|it| it.n).collect();
        assert_eq!(numbers, (1..=head.n).collect::<Vec<_>>());
    }
    assert_eq!(world.metric("weaprous_messages_stored_total "), 6 * EACH as u64 + 3);
}

#[test]
fn a_channel_made_many_times_at_once_is_made_once() {
    let world = World::new();
    let users: Vec<Client> = (0..6).map(|i| world.user(&format!("user{i}"))).collect();
    let statuses: Vec<u16> = at_once(
        users.iter().cloned().map(|user| move || user.post("/create-list", json!({"channel": "general"})).status),
    );
    assert_eq!(statuses.iter().filter(|status| **status == 201).count(), 1, "{statuses:?}");
    assert_eq!(statuses.iter().filter(|status| **status == 409).count(), 5, "{statuses:?}");
    assert_eq!(users[0].texts("general"), ["channel.create"]);
}

/// Runs all of them at the same time, on threads of their own.
fn at_once<T: Send + 'static, F: FnOnce() -> T + Send + 'static>(work: impl Iterator<Item = F>) -> Vec<T> {
    let work: Vec<F> = work.collect();
    let start = std::sync::Arc::new(std::sync::Barrier::new(work.len()));
    let threads: Vec<_> = work
        .into_iter()
        .map(|work| {
            let start = std::sync::Arc::clone(&start);
            thread::spawn(move || {
                start.wait();
                work()
            })
        })
        .collect();
    threads.into_iter().map(|thread| thread.join().unwrap()).collect()
}
