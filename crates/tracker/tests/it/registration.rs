//! Registering at `/submit-info`, with a key and without.

use crate::support::World;
use chat::{DeviceKey, Signature};
use serde_json::json;

#[test]
fn a_device_that_proves_its_key_makes_an_account() {
    let world = World::new();
    let key = DeviceKey::from_seed([1; 32]);
    let reply = world.stranger().register("Alice", &key, json!({"port": 9101})).expect(200);
    assert_eq!(reply["user"], "alice");
    assert_eq!(reply["device"], key.id().to_string());
    assert_eq!(reply["hosted"], false);
    assert_eq!(reply["lease_ms"], 15_000);
    assert_eq!(reply["you"], "127.0.0.1");
    let challenge = world.stranger().get("/api/v1/challenge").expect(200);
    assert_eq!(reply["tracker"], challenge["tracker"]);
    let mut client = world.stranger();
    client.token = reply["token"].as_str().map(str::to_owned);
    let me = client.get("/api/v1/me").expect(200);
    assert_eq!((&me["user"], &me["device"]), (&json!("alice"), &json!(key.id())));
    assert_eq!(me["devices"][0]["hosted"], false);
    assert_eq!(me["position"], 0);
    client.register("alice", &key, json!({})).expect(200);
    assert_eq!(client.get("/api/v1/me").expect(200)["devices"].as_array().unwrap().len(), 1);
}

#[test]
fn a_taken_name_takes_a_known_device_its_password_or_its_session() {
    let world = World::new();
    let (first, second, third) = (1, 2, 3);
    let key = |seed: u8| DeviceKey::from_seed([seed; 32]);
    let stranger = world.stranger();
    let password = json!({"password": "four words of mine"});
    stranger.register("alice", &key(first), password.clone()).expect(200);
    stranger.register("alice", &key(first), json!({})).expect(200);
    assert!(stranger.register("alice", &key(second), json!({})).problem(401).contains("taken"));
    let wrong = stranger.register("alice", &key(second), json!({"password": "four other words"}));
    assert!(wrong.problem(401).contains("wrong"));
    let reply = stranger.register("alice", &key(second), password.clone()).expect(200);
    let mut alice = stranger.clone();
    alice.token = reply["token"].as_str().map(str::to_owned);
    let again = alice.register("alice", &key(third), json!({})).expect(200);
    assert_eq!(again["token"], reply["token"], "the session goes on");
    assert_eq!(alice.get("/api/v1/me").expect(200)["device"], key(third).id().to_string());
    assert_eq!(alice.get("/api/v1/me").expect(200)["devices"].as_array().unwrap().len(), 3);
    let bob = world.user("bob");
    assert!(bob.register("alice", &key(9), json!({})).problem(401).contains("taken"), "somebody else's session");
    let stolen = stranger.register("carol", &key(first), json!({})).problem(409);
    assert!(stolen.contains("another account"), "{stolen}");
}

#[test]
fn a_challenge_is_answered_once_by_the_one_who_holds_the_key() {
    let world = World::new();
    let stranger = world.stranger();
    let (key, other) = (DeviceKey::from_seed([1; 32]), DeviceKey::from_seed([2; 32]));
    let good = stranger.registration("alice", &key);
    let with = |name: &str, value: serde_json::Value| {
        let mut body = good.clone();
        body[name] = value;
        body
    };
    let foreign = stranger.registration("alice", &other);
    let cases = [
        (with("username", json!("bob")), 401, "signature"),
        (with("device", json!(other.id())), 401, "signature"),
        (with("nonce", foreign["nonce"].clone()), 401, "signature"),
        (with("signature", json!(Signature([7; 64]))), 401, "signature"),
        (with("signature", json!("short")), 422, "64 bytes"),
        (with("signature", json!(null)), 422, "signature"),
        (with("nonce", json!(null)), 422, "nonce"),
        (with("device", json!("???")), 422, "32 bytes"),
    ];
    for (body, status, detail) in cases {
        let problem = stranger.post("/submit-info", body.clone()).problem(status);
        assert!(problem.contains(detail), "{problem} for {body}");
    }
    stranger.post("/submit-info", good.clone()).expect(200);
    assert!(stranger.post("/submit-info", good).problem(401).contains("used already"));
}

#[test]
fn a_nonce_of_another_tracker_is_refused() {
    let (here, there) = (World::new(), World::new());
    let key = DeviceKey::from_seed([1; 32]);
    let mut body = there.stranger().registration("alice", &key);
    assert!(here.stranger().post("/submit-info", body.clone()).problem(401).contains("signature"));
    let challenge = here.stranger().get("/api/v1/challenge").expect(200);
    let tracker = challenge["tracker"].as_str().unwrap().parse().unwrap();
    let nonce = body["nonce"].as_str().unwrap().to_owned();
    let text = chat::auth::challenge_text(&tracker, &nonce, &"alice".parse().unwrap(), &key.id());
    body["signature"] = json!(key.sign(&text));
    assert!(here.stranger().post("/submit-info", body).problem(401).contains("none of this tracker's"));
}

#[test]
fn a_client_without_a_key_gets_a_hosted_device() {
    let world = World::new();
    let stranger = world.stranger();
    let first =
        stranger.post("/submit-info", json!({"username": "alice", "password": "four words of mine"})).expect(200);
    assert_eq!(first["hosted"], true);
    assert!(stranger.post("/submit-info", json!({"username": "ALICE"})).problem(401).contains("taken"));
    let proved =
        stranger.post("/submit-info", json!({"username": "alice", "password": "four words of mine"})).expect(200);
    assert_eq!(proved["device"], first["device"]);
    assert_ne!(proved["token"], first["token"]);
    let mut alice = stranger.clone();
    alice.token = first["token"].as_str().map(str::to_owned);
    let renewed = alice.post("/submit-info", json!({"username": "alice"})).expect(200);
    assert_eq!(renewed["token"], first["token"]);
    let weak = stranger.post("/submit-info", json!({"username": "bob", "password": "x"})).problem(422);
    assert!(weak.contains("characters"), "{weak}");
}

#[test]
fn clients_of_old_may_send_forms_and_json_that_says_it_is_a_form() {
    let world = World::new();
    let form = "content-type: application/x-www-form-urlencoded\r\n";
    let cases: [(&str, &[u8]); 5] = [
        (form, b"username=alice&ip=127.0.0.1&port=9101"),
        (form, br#" {"username":"bob","ip":"127.0.0.1","port":9101}"#),
        (form, br#"{"username":"carol","ip":"localhost","port":"9101"}"#),
        ("", br#"{"username":"dave","ip":"0.0.0.0","port":9101}"#),
        ("content-type: application/json; charset=utf-8\r\n", br#"{"username":"erin","port":9101}"#),
    ];
    for (fields, body) in cases {
        let reply = world.stranger().send("POST", "/submit-info", fields, body);
        assert_eq!(reply.status, 200, "{} for {}", reply.text, body.escape_ascii());
    }
    let list = world.user("reader").get("/get-list").expect(200);
    let addresses: Vec<_> = list["peers"].as_array().unwrap().iter().map(|peer| &peer["addresses"]).collect();
    assert_eq!(addresses[..5], [&json!(["127.0.0.1:9101"]); 5]);
}

#[test]
fn addresses_are_checked() {
    let world = World::new();
    let many: Vec<_> = (1..=17).map(|port| format!("127.0.0.1:{port}")).collect();
    let cases = [
        (json!({"port": 0}), "nobody can be reached"),
        (json!({"port": 70_000}), "port"),
        (json!({"port": -1}), "port"),
        (json!({"port": [9101]}), "port"),
        (json!({"ip": "example.org", "port": 1}), "ip"),
        (json!({"ip": "224.0.0.1", "port": 1}), "nobody can be reached"),
        (json!({"addresses": ["127.0.0.1"]}), "ip:port"),
        (json!({"addresses": ["0.0.0.0:1"]}), "nobody can be reached"),
        (json!({"addresses": ["[::]:1"]}), "nobody can be reached"),
        (json!({"addresses": "127.0.0.1:1"}), "sequence"),
        (json!({"addresses": many}), "at most 16"),
    ];
    for (mut body, detail) in cases {
        body["username"] = json!("alice");
        let problem = world.stranger().post("/submit-info", body.clone()).problem(422);
        assert!(problem.contains(detail), "{problem} for {body}");
    }
    let good =
        json!({"username": "alice", "ip": "192.0.2.7", "port": 5, "addresses": ["[2001:db8::1]:6", "192.0.2.7:5"]});
    world.stranger().post("/submit-info", good).expect(200);
    let peers = world.user("bob").get("/get-list").expect(200);
    let alice = &peers["peers"][0];
    assert_eq!(alice["addresses"], json!(["192.0.2.7:5", "[2001:db8::1]:6"]));
    assert_eq!((&alice["ip"], &alice["port"]), (&json!("192.0.2.7"), &json!(5)));
}
