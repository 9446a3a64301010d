//! Envelopes that devices signed themselves.

use crate::support::{World, id_of, signed};
use chat::{Body, Signature, Visibility};
use serde_json::{Value, json};

fn check(result: &Value, error: &str, detail: &str) {
    assert_eq!(result["error"], error, "{result}");
    assert!(result["detail"].as_str().unwrap().contains(detail), "{result}");
    assert_eq!((result.get("state"), result.get("seq")), (None, None), "{result}");
}

#[test]
fn a_device_makes_a_channel_and_another_comes_in() {
    let world = World::new();
    let (mut alice, mut bob) = (world.peer("alice", 1), world.peer("bob", 2));
    let made = alice.seal("general", Body::Create { visibility: Visibility::Public });
    let said = alice.text("general", "hello");
    let results = alice.upload("general", &[&made, &said]);
    for (result, (sealed, seq)) in results.iter().zip([(&made, 1), (&said, 2)]) {
        assert_eq!(result, &json!({"id": sealed.id(), "seq": seq, "state": "stored"}));
    }
    let joined = bob.seal("general", Body::Join);
    bob.store("general", &[&joined]);
    assert_eq!(bob.client.texts("general"), ["channel.create", "hello", "member.join"]);
    let page = bob.client.get("/get-messages?channel=general").expect(200);
    assert_eq!(page["messages"][1]["hosted"], false);
    let heads = bob.client.get("/api/v1/channels/general/heads").expect(200);
    assert_eq!(heads["last"], 3);
    let of_alice = heads["heads"].as_array().unwrap().iter().find(|head| head["device"] == alice.device().to_string());
    assert_eq!(of_alice.unwrap(), &json!({"device": alice.device(), "n": 2, "id": said.id(), "lamport": 2}));
}

#[test]
fn sending_again_changes_nothing_also_for_those_who_have_gone() {
    let world = World::new();
    let mut alice = world.peer("alice", 1);
    let made = alice.seal("general", Body::Create { visibility: Visibility::Public });
    let said = alice.text("general", "hello");
    let left = alice.seal("general", Body::Leave);
    let first = alice.upload("general", &[&made, &said, &left]);
    assert_eq!(alice.upload("general", &[&said, &made, &left, &said])[0], first[1]);
    assert_eq!(alice.client.texts("general").len(), 3);
}

#[test]
fn gaps_and_forks_are_told_per_envelope() {
    let world = World::new();
    let mut alice = world.peer("alice", 1);
    let made = alice.seal("general", Body::Create { visibility: Visibility::Public });
    let fork = alice.draft("general", Body::Text { text: "another second".to_owned() });
    let (second, third) = (alice.text("general", "second"), alice.text("general", "third"));
    let results = alice.upload("general", &[&made, &third, &second, &fork, &third]);
    assert_eq!(results[0]["seq"], 1);
    check(&results[1], "gap", "from number 2");
    assert_eq!(results[1]["expected_n"], 2);
    assert_eq!(results[2]["seq"], 2);
    check(&results[3], "fork", "contradicts");
    assert_eq!(results[4]["seq"], 3);
    assert_eq!(
        results.iter().map(id_of).collect::<Vec<_>>(),
        [&made, &third, &second, &fork, &third].map(chat::Sealed::id)
    );
}

#[test]
fn what_nobody_signed_or_may_say_is_refused_alone() {
    let world = World::new();
    let (mut alice, mut bob, mut mallory) = (world.peer("alice", 1), world.peer("bob", 2), world.peer("mallory", 3));
    let made = alice.seal("den", Body::Create { visibility: Visibility::Private });
    alice.store("den", &[&made]);
    let forged = json!({"envelope": alice.draft("den", Body::Join).text(), "signature": Signature([9; 64])});
    let not_json = json!({"envelope": "hello", "signature": made.signature()});
    let no_signature = json!({"envelope": made.text(), "signature": "?"});
    let mut loose: Value = serde_json::from_str(made.text()).unwrap();
    loose["extra"] = json!(1);
    let loose = json!({"envelope": loose.to_string(), "signature": made.signature()});
    let elsewhere = signed(&alice.draft("other", Body::Create { visibility: Visibility::Public }));
    let uninvited = signed(&bob.draft("den", Body::Join));
    let impostor = {
        mallory.client.user = "alice".to_owned(); // a key that is not alice's, in her name
        signed(&mallory.draft("den", Body::Text { text: "i am alice".to_owned() }))
    };
    let good = alice.text("den", "still here");
    let entries = [forged, not_json, no_signature, loose, elsewhere, uninvited, impostor, signed(&good)];
    let reply = alice.client.post("/api/v1/channels/den/envelopes", json!({"envelopes": entries})).expect(200);
    let results = reply["results"].as_array().unwrap();
    check(&results[0], "forged", "does not match");
    check(&results[1], "malformed", "not an envelope");
    check(&results[2], "malformed", "signature");
    assert!(matches!(results[3]["error"].as_str(), Some("forged" | "malformed")), "{}", results[3]);
    check(&results[4], "wrong_channel", "another channel");
    check(&results[5], "denied", "private");
    check(&results[6], "unknown_device", "does not belong");
    assert_eq!(results[7]["state"], "stored");
    let joined = bob.seal("den", Body::Join);
    check(&bob.upload("den", &[&joined])[0], "denied", "private");
    let invited = alice.seal("den", Body::Invite { user: "bob".parse().unwrap() });
    alice.store("den", &[&invited]);
    bob.store("den", &[&joined]);
    assert_eq!(bob.client.texts("den"), ["channel.create", "still here", "member.invite", "member.join"]);
}

#[test]
fn members_bring_what_others_wrote_and_strangers_may_not() {
    let world = World::new();
    let (mut alice, mut bob, carol) = (world.peer("alice", 1), world.peer("bob", 2), world.peer("carol", 3));
    let made = alice.seal("general", Body::Create { visibility: Visibility::Public });
    alice.store("general", &[&made]);
    let joined = bob.seal("general", Body::Join);
    bob.store("general", &[&joined]);
    let said = alice.text("general", "said to bob alone");
    let by_stranger = carol.client.post("/api/v1/channels/general/envelopes", json!({"envelopes": [signed(&said)]}));
    assert!(by_stranger.problem(403).contains("only members"));
    bob.store("general", &[&said]);
    assert_eq!(alice.upload("general", &[&said])[0]["seq"], 3);
    let nowhere = alice.text("nowhere", "x");
    check(&alice.upload("nowhere", &[&nowhere])[0], "denied", "does not exist");
}

#[test]
fn a_batch_takes_its_own_changes_of_membership_into_account() {
    let world = World::new();
    let (mut alice, mut bob) = (world.peer("alice", 1), world.peer("bob", 2));
    let made = alice.seal("den", Body::Create { visibility: Visibility::Private });
    let invited = alice.seal("den", Body::Invite { user: "bob".parse().unwrap() });
    let (joined, said) = (bob.seal("den", Body::Join), bob.text("den", "hello"));
    let removed = alice.seal("den", Body::Remove { user: "bob".parse().unwrap() });
    let too_late = bob.text("den", "one more thing");
    let other_first = bob.draft("den", Body::Leave);
    alice.store("den", &[&made]);
    let results = alice.upload("den", &[&invited, &joined, &said, &removed, &too_late, &other_first]);
    let states: Vec<_> = results.iter().map(|it| it["state"].as_str().or(it["error"].as_str()).unwrap()).collect();
    assert_eq!(states, ["stored", "stored", "stored", "stored", "denied", "gap"]);
}

#[test]
fn what_was_said_before_one_knew_to_be_out_does_not_bar_the_way_back() {
    let world = World::new();
    let (mut alice, mut bob) = (world.peer("alice", 1), world.peer("bob", 2));
    let made = alice.seal("general", Body::Create { visibility: Visibility::Public });
    alice.store("general", &[&made]);
    let joined = bob.seal("general", Body::Join);
    bob.store("general", &[&joined]);
    let removed = alice.seal("general", Body::Remove { user: "bob".parse().unwrap() });
    alice.store("general", &[&removed]);
    let (unaware, again) = (bob.text("general", "said offline"), bob.seal("general", Body::Join));
    let results = bob.upload("general", &[&unaware, &again]);
    check(&results[0], "denied", "only members");
    check(&results[1], "gap", "from number 2");
    let invited = alice.seal("general", Body::Invite { user: "bob".parse().unwrap() });
    alice.store("general", &[&invited]);
    bob.store("general", &[&unaware, &again]);
    assert_eq!(alice.client.texts("general")[4..], ["said offline", "member.join"]);
    let mut carol = world.peer("carol", 3);
    let never_in = carol.text("general", "not even once");
    check(&carol.upload("general", &[&never_in])[0], "denied", "only members");
}

#[test]
fn hosted_and_own_devices_of_a_user_write_side_by_side() {
    let world = World::new();
    let mut alice = world.peer("alice", 1);
    let made = alice.seal("general", Body::Create { visibility: Visibility::Public });
    alice.store("general", &[&made]);
    alice.client.say("general", "through the tracker");
    let own = alice.text("general", "by my own device");
    alice.store("general", &[&own]);
    let page = alice.client.get("/get-messages?channel=general").expect(200);
    let hosted: Vec<_> =
        page["messages"].as_array().unwrap().iter().map(|it| it["hosted"].as_bool().unwrap()).collect();
    assert_eq!(hosted, [false, true, false]);
    let lamports: Vec<_> =
        page["messages"].as_array().unwrap().iter().map(|it| it["lamport"].as_u64().unwrap()).collect();
    assert_eq!(lamports, [1, 2, 2], "the hosted device has seen what the log holds");
}

#[test]
fn many_envelopes_in_one_request_are_verified_and_stored_in_order() {
    let world = World::new();
    let mut alice = world.peer("alice", 1);
    let made = alice.seal("general", Body::Create { visibility: Visibility::Public });
    let said: Vec<_> = (0..255).map(|i| alice.text("general", &format!("number {i}"))).collect();
    let all: Vec<_> = std::iter::once(&made).chain(&said).collect();
    let results = alice.upload("general", &all);
    let seqs: Vec<_> = results.iter().map(|result| result["seq"].as_u64().unwrap()).collect();
    assert_eq!(seqs, (1..=256).collect::<Vec<_>>());
}
