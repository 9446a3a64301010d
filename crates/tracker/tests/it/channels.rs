//! Channels: who comes in, who sees what, rosters, read marks.

use crate::support::{Client, Peer, World, block_on, percent};
use chat::{DeviceKey, Roster, SignedRoster, TrackerId};
use serde_json::{Value, json};

/// The caller's view of one channel.
fn view(client: &Client, channel: &str) -> Option<Value> {
    let list = client.get("/api/v1/channels").expect(200);
    list["channels"].as_array().unwrap().iter().find(|view| view["name"] == channel).cloned()
}

/// A channel's roster, verified.
fn roster(world: &World, client: &Client, channel: &str) -> Roster {
    let tracker = world.stranger().get("/api/v1/challenge").expect(200)["tracker"].clone();
    let tracker: TrackerId = serde_json::from_value(tracker).unwrap();
    let text = client.get(&format!("/api/v1/channels/{}/roster", percent(channel))).expect(200);
    let signature = serde_json::from_value(text["signature"].clone()).unwrap();
    let signed = SignedRoster::open(text["roster"].as_str().unwrap().as_bytes(), signature, &tracker).unwrap();
    signed.roster().clone()
}

fn members(roster: &Roster) -> Vec<&str> {
    roster.members.iter().map(|member| member.user.as_str()).collect()
}

#[test]
fn a_public_channel_is_open_to_all_and_written_by_members() {
    let world = World::new();
    let (alice, bob) = (world.user("alice"), world.user("bob"));
    let created = alice.post("/create-list", json!({"channel": "General"})).expect(201);
    assert_eq!((&created["channel"], &created["seq"]), (&json!("general"), &json!(1)));
    assert_eq!((&created["state"], &created["hosted"]), (&json!("stored"), &json!(true)));
    assert_eq!(bob.texts("general"), ["channel.create"], "all may read");
    bob.join("general");
    let again = bob.post("/join-list", json!({"channel": "general"})).expect(200);
    assert_eq!(again["state"], "unchanged");
    bob.say("general", "hello");
    assert_eq!(alice.texts("general"), ["channel.create", "member.join", "hello"]);
    let seen = view(&bob, "general").unwrap();
    let expected = json!({
        "name": "general", "visibility": "public", "member": true, "invited": false, "members": 2,
        "owner": "alice", "last_seq": 3, "read_seq": 0,
    });
    assert_eq!(seen, expected);
    bob.post("/api/v1/channels/general/leave", json!({})).expect(201);
    assert_eq!(view(&bob, "general").unwrap()["member"], false);
    bob.post("/send-message", json!({"channel": "general", "text": "x"})).problem(403);
}

#[test]
fn a_private_channel_is_seen_by_those_who_were_invited() {
    let world = World::new();
    let (alice, bob, carol) = (world.user("alice"), world.user("bob"), world.user("carol"));
    alice.post("/api/v1/channels", json!({"channel": "den", "visibility": "private"})).expect(201);
    assert_eq!(view(&bob, "den"), None);
    alice.post("/add-list", json!({"channel": "den", "username": "bob"})).expect(201);
    let again = alice.post("/api/v1/channels/den/invite", json!({"user": "bob"})).expect(200);
    assert_eq!(again["state"], "unchanged");
    let invited = view(&bob, "den").unwrap();
    assert_eq!((&invited["member"], &invited["invited"]), (&json!(false), &json!(true)));
    bob.get("/get-messages?channel=den").problem(403);
    bob.post("/api/v1/channels/den/join", json!({})).expect(201);
    bob.say("den", "hello");
    bob.post("/api/v1/channels/den/invite", json!({"user": "carol"})).expect(201);
    carol.join("den");
    assert!(bob.post("/api/v1/channels/den/remove", json!({"user": "carol"})).problem(403).contains("owner"));
    alice.post("/api/v1/channels/den/remove", json!({"user": "carol"})).expect(201);
    carol.get("/get-messages?channel=den").problem(403);
    assert_eq!(view(&carol, "den"), None);
    assert!(carol.post("/join-list", json!({"channel": "den"})).problem(403).contains("removed"));
}

#[test]
fn a_direct_channel_is_there_for_its_two_users() {
    let world = World::new();
    let (alice, bob, carol) = (world.user("alice"), world.user("bob"), world.user("carol"));
    let sent = bob.post("/send-message", json!({"to": "alice", "message": "psst"})).expect(201);
    assert_eq!(sent["channel"], "@alice+bob");
    alice.say("@alice+bob", "yes?");
    assert_eq!(alice.texts("@alice+bob"), ["psst", "yes?"]);
    let raw_plus = alice.get("/get-messages?channel=@alice+bob").expect(200);
    assert_eq!(raw_plus["messages"].as_array().unwrap().len(), 2, "a plus that was not escaped");
    assert_eq!(view(&bob, "@alice+bob").unwrap()["visibility"], "direct");
    assert_eq!(view(&carol, "@alice+bob"), None);
    carol.get("/get-messages?channel=@alice%2Bbob").problem(403);
    assert_eq!(members(&roster(&world, &bob, "@alice+bob")), ["alice", "bob"]);
    bob.post("/api/v1/channels/@alice+bob/leave", json!({})).problem(403);
}

#[test]
fn a_name_that_nobody_made_leaves_nothing_behind() {
    let world = World::new();
    let alice = world.user("alice");
    for _ in 0..3 {
        alice.post("/send-message", json!({"channel": "nowhere", "text": "x"})).problem(404);
        alice.post("/join-list", json!({"channel": "nowhere"})).problem(404);
    }
    assert_eq!(world.metric("weaprous_channels "), 0);
    alice.create("nowhere", "public");
    alice.say("nowhere", "now it is somewhere");
}

#[test]
fn the_roster_changes_its_version_exactly_when_members_or_devices_change() {
    let world = World::new();
    let alice = world.user("alice");
    alice.create("general", "public");
    let first = roster(&world, &alice, "general");
    assert_eq!((first.version, members(&first)), (1, vec!["alice"]));
    assert!(first.members[0].devices[0].hosted);
    alice.say("general", "no change");
    assert_eq!(roster(&world, &alice, "general"), first);
    let bob = world.user("bob");
    bob.join("general");
    let second = roster(&world, &alice, "general");
    assert_eq!((second.version, members(&second)), (2, vec!["alice", "bob"]));
    let key = DeviceKey::from_seed([7; 32]);
    bob.register("bob", &key, json!({})).expect(200);
    let third = roster(&world, &alice, "general");
    assert_eq!(third.version, 3);
    assert_eq!(third.allows(&key.id()).unwrap().as_str(), "bob");
    assert!(!third.is_hosted(&key.id()));
    bob.register("bob", &key, json!({})).expect(200);
    assert_eq!(roster(&world, &alice, "general"), third);
    bob.post("/api/v1/channels/general/leave", json!({})).expect(201);
    let fourth = roster(&world, &alice, "general");
    assert_eq!((fourth.version, members(&fourth), fourth.allows(&key.id())), (4, vec!["alice"], None));
}

#[test]
fn a_tracker_that_starts_again_goes_on_where_it_was() {
    let store = std::sync::Arc::new(store::MemoryStore::new());
    let world = World::with(store.clone(), |_| ());
    let alice = world.user("alice");
    alice.create("den", "private");
    alice.say("den", "before");
    let before = roster(&world, &alice, "den");
    drop(world);
    let world = World::with(store, |_| ());
    let alice = Client { address: world.address, ..alice };
    let bob = world.user("bob");
    assert_eq!(roster(&world, &alice, "den"), before);
    bob.get("/get-messages?channel=den").problem(403);
    assert_eq!(alice.say("den", "after")["seq"], 3);
    assert_eq!(alice.texts("den"), ["channel.create", "before", "after"]);
}

#[test]
fn read_marks_go_forward_only_and_belong_to_one_user() {
    let world = World::new();
    let (alice, bob) = (world.user("alice"), world.user("bob"));
    alice.create("general", "public");
    bob.join("general");
    for text in ["a", "b", "c"] {
        alice.say("general", text);
    }
    let mark = |client: &Client, seq: u64| {
        client.json("PUT", "/api/v1/channels/general/read", &json!({"seq": seq})).expect(200)
    };
    let steps = [(2, 2), (1, 2), (5, 5), (0, 5)];
    for (sent, kept) in steps {
        assert_eq!(mark(&bob, sent), json!({"seq": kept}));
    }
    assert_eq!(view(&bob, "general").unwrap()["read_seq"], 5);
    assert_eq!(view(&alice, "general").unwrap()["read_seq"], 0);
}

#[test]
fn a_long_log_is_taken_up_from_its_checkpoint_with_the_same_members() {
    let store = std::sync::Arc::new(store::MemoryStore::new());
    let world = World::with(store.clone(), |_| ());
    let mut alice = world.peer("alice", 1);
    let (bob, carol, dave) = (world.user("bob"), world.user("carol"), world.user("dave"));
    let made = alice.seal("den", chat::Body::Create { visibility: chat::Visibility::Private });
    let invite = |peer: &mut Peer, user: &str| peer.seal("den", chat::Body::Invite { user: user.parse().unwrap() });
    let invited = [invite(&mut alice, "bob"), invite(&mut alice, "carol")];
    alice.store("den", &[&made, &invited[0], &invited[1]]);
    bob.join("den");
    carol.join("den");
    let chatter = |peer: &mut Peer, count: usize| {
        let said: Vec<_> = (0..count).map(|i| peer.text("den", &format!("number {i}"))).collect();
        for part in said.chunks(200) {
            peer.store("den", &part.iter().collect::<Vec<_>>());
        }
    };
    chatter(&mut alice, 1100);
    let removed = alice.seal("den", chat::Body::Remove { user: "carol".parse().unwrap() });
    alice.store("den", &[&removed]);
    chatter(&mut alice, 50);
    let before = roster(&world, &bob, "den");
    let checkpoint = block_on(chat::Store::get(&*store, "checkpoint/den")).unwrap().unwrap();
    let text = String::from_utf8(checkpoint.value).unwrap();
    assert_eq!(text, r#"{"through":1005,"events":[1,2,3,4,5]}"#);
    drop(world);
    for planted in [None, Some(r#"{"through":99999,"events":[1]}"#), Some("nonsense")] {
        if let Some(planted) = planted {
            let put = chat::Store::put(&*store, "checkpoint/den", planted.into(), chat::Expect::Any);
            block_on(put).unwrap().unwrap();
        }
        let world = World::with(store.clone(), |_| ());
        let at = |client: &Client| Client { address: world.address, ..client.clone() };
        assert_eq!(roster(&world, &at(&bob), "den"), before);
        at(&carol).get("/get-messages?channel=den").problem(403);
        at(&dave).post("/join-list", json!({"channel": "den"})).problem(403);
        at(&bob).say("den", "still in");
        assert_eq!(view(&at(&bob), "den").unwrap()["members"], 2);
    }
    let log = block_on(chat::Store::read(&*store, &"den".parse().unwrap(), 0, usize::MAX)).unwrap();
    assert_eq!(log.len(), 5 + 1100 + 1 + 50 + 3, "every chain went on where it was");
}
