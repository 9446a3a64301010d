//! Bad requests, as a table: each gets its status and a sentence that helps.

use crate::support::{Client, World};
use serde_json::{Value, json};

/// A world with `alice` (in `general`, and alone in the private `den`) and `bob`, who is in nothing.
fn world() -> (World, Client, Client) {
    let world = World::new();
    let (alice, bob) = (world.user("alice"), world.user("bob"));
    alice.create("general", "public");
    alice.create("den", "private");
    (world, alice, bob)
}

fn check(client: &Client, method: &str, path: &str, body: &Value, status: u16, detail: &str) {
    let reply = match method {
        "GET" => client.get(path),
        _ => client.json(method, path, body),
    };
    let problem = reply.problem(status);
    assert!(problem.contains(detail), "{method} {path} {body}: {problem}");
    assert!(problem.len() < 1000, "a long answer to {method} {path}");
}

#[test]
fn nobody_gets_in_without_a_session() {
    let (world, ..) = world();
    let (stranger, mut forger) = (world.stranger(), world.stranger());
    forger.token = Some("A".repeat(22));
    let paths = [
        ("GET", "/get-list"),
        ("POST", "/create-list"),
        ("POST", "/join-list"),
        ("POST", "/add-list"),
        ("POST", "/send-message"),
        ("GET", "/get-messages?channel=general"),
        ("GET", "/api/v1/events"),
        ("GET", "/api/v1/me"),
        ("POST", "/api/v1/presence"),
        ("DELETE", "/api/v1/presence"),
        ("GET", "/api/v1/channels"),
        ("POST", "/api/v1/channels"),
        ("POST", "/api/v1/channels/general/join"),
        ("POST", "/api/v1/channels/general/leave"),
        ("POST", "/api/v1/channels/general/invite"),
        ("POST", "/api/v1/channels/general/remove"),
        ("PUT", "/api/v1/channels/general/read"),
        ("POST", "/api/v1/channels/general/envelopes"),
        ("GET", "/api/v1/channels/general/roster"),
        ("GET", "/api/v1/channels/general/heads"),
        ("GET", "/api/v1/relay/AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"),
        ("GET", "/api/v1/relay/accept/x"),
    ];
    for (method, path) in paths {
        check(&stranger, method, path, &json!({}), 401, "log in first");
        check(&forger, method, path, &json!({}), 401, "log in first");
    }
    let by_old_cookie = stranger.send("GET", "/api/v1/me", "cookie: auth=true\r\n", b"");
    assert_eq!(by_old_cookie.status, 401);
}

#[test]
fn what_does_not_exist_is_404_and_what_is_not_yours_403() {
    let (world, alice, bob) = world();
    let none = json!({});
    let text = |channel: &str| json!({"channel": channel, "text": "x"});
    let cases = [
        (&bob, "GET", "/get-messages?channel=nowhere", none.clone(), 404, "does not exist"),
        (&bob, "GET", "/get-messages?channel=den", none.clone(), 403, "only members"),
        (&bob, "GET", "/get-messages?channel=@alice%2Bcarol", none.clone(), 403, "only members"),
        (&bob, "POST", "/send-message", text("nowhere"), 404, "does not exist"),
        (&bob, "POST", "/send-message", text("general"), 403, "only members"),
        (&bob, "POST", "/send-message", text("den"), 403, "only members"),
        (&bob, "POST", "/send-message", json!({"to": "nobody", "text": "x"}), 404, "nobody is called"),
        (&bob, "POST", "/send-message", json!({"to": "bob", "text": "x"}), 422, "to:"),
        (&bob, "POST", "/join-list", json!({"channel": "nowhere"}), 404, "does not exist"),
        (&bob, "POST", "/join-list", json!({"channel": "den"}), 403, "invite you"),
        (&bob, "POST", "/join-list", json!({"channel": "general", "username": "alice"}), 403, "only members"),
        (&alice, "POST", "/create-list", json!({"channel": "general"}), 409, "exists already"),
        (&alice, "POST", "/create-list", json!({"channel": "x", "visibility": "direct"}), 422, "does not fit"),
        (&alice, "POST", "/create-list", json!({"channel": "@alice+bob"}), 422, "does not fit"),
        (&alice, "POST", "/create-list", json!({"channel": "@bob+carol", "visibility": "direct"}), 404, "carol"),
        (&bob, "POST", "/api/v1/channels/general/leave", none.clone(), 403, "only members"),
        (&bob, "POST", "/api/v1/channels/nowhere/leave", none.clone(), 404, "does not exist"),
        (&alice, "POST", "/api/v1/channels/den/invite", json!({"user": "nobody"}), 404, "nobody is called"),
        (&bob, "POST", "/api/v1/channels/den/invite", json!({"user": "bob"}), 403, "only members"),
        (&bob, "POST", "/api/v1/channels/general/remove", json!({"user": "alice"}), 403, "only members"),
        (&bob, "PUT", "/api/v1/channels/den/read", json!({"seq": 1}), 403, "only members"),
        (&bob, "GET", "/api/v1/channels/den/roster", none.clone(), 403, "only members"),
        (&bob, "GET", "/api/v1/channels/nowhere/roster", none.clone(), 404, "does not exist"),
        (&bob, "GET", "/api/v1/channels/den/heads", none.clone(), 403, "only members"),
    ];
    for (client, method, path, body, status, detail) in cases {
        check(client, method, path, &body, status, detail);
    }
    assert_eq!(world.stranger().get("/nothing").status, 404);
    let wrong_method = alice.json("DELETE", "/send-message", &none);
    assert_eq!((wrong_method.status, wrong_method.field("allow").is_some()), (405, true));
}

#[test]
fn content_that_makes_no_sense_is_named() {
    let (_world, alice, _) = world();
    let long = "x".repeat(10_000);
    let text = |text: &str| json!({"channel": "general", "text": text});
    let cases = [
        ("POST", "/submit-info", json!({}), 422, "username"),
        ("POST", "/submit-info", json!({"username": 5}), 422, "invalid type"),
        ("POST", "/submit-info", json!({"username": "a\u{0}b"}), 422, "letters"),
        ("POST", "/submit-info", json!({"username": "a\r\nset-cookie: x"}), 422, "letters"),
        ("POST", "/submit-info", json!({"username": long}), 422, "letters"),
        ("POST", "/submit-info", json!([1]), 422, "invalid type"),
        ("POST", "/create-list", json!({"channel": long}), 422, "channel"),
        ("POST", "/create-list", json!({"channel": "a\u{1b}[2J"}), 422, "channel"),
        ("POST", "/create-list", json!({"channel": "x", "visibility": "secret"}), 422, "unknown variant"),
        ("POST", "/create-list", json!({"channel": null}), 422, "invalid type"),
        ("POST", "/send-message", json!({"text": "x"}), 422, "either"),
        ("POST", "/send-message", json!({"channel": "general", "to": "bob", "text": "x"}), 422, "either"),
        ("POST", "/send-message", json!({"channel": "general"}), 422, "text"),
        ("POST", "/send-message", text(""), 422, "some text"),
        ("POST", "/send-message", text(&"x".repeat(16 * 1024 + 1)), 422, "at most"),
        ("POST", "/send-message", json!({"channel": "general", "text": 5}), 422, "invalid type"),
        ("POST", "/send-message", json!({"channel": "general", "text": "x", "key": "short"}), 422, "key"),
        ("POST", "/send-message", json!({"channel": "general", "text": "x", "key": "spaces are no good"}), 422, "key"),
        ("PUT", "/api/v1/channels/general/read", json!({"seq": 2}), 422, "ends at 1"),
        ("PUT", "/api/v1/channels/general/read", json!({"seq": -1}), 422, "invalid value"),
        ("POST", "/api/v1/presence", json!({"addresses": ["x"]}), 422, "ip:port"),
        ("POST", "/api/v1/presence", json!({"device": chat::DeviceId([1; 32])}), 403, "not yours"),
        ("POST", "/api/v1/channels/general/envelopes", json!({"envelopes": [1]}), 422, "invalid type"),
        (
            "POST",
            "/api/v1/channels/general/envelopes",
            json!({"envelopes": vec![json!({"envelope": "", "signature": ""}); 257]}),
            422,
            "at most 256",
        ),
        ("POST", "/api/v1/channels/@b+a/join", json!({}), 400, "channel"),
        ("POST", "/api/v1/channels/%07/join", json!({}), 400, "channel"),
        ("GET", "/get-messages", json!({}), 400, "channel"),
        ("GET", "/get-messages?channel=general&after=x", json!({}), 400, "after"),
        ("GET", "/get-messages?channel=general&after=-1", json!({}), 400, "after"),
        ("GET", "/get-messages?channel=general&after=1&before=3", json!({}), 400, "either"),
        ("GET", "/get-messages?channel=%0a", json!({}), 422, "channel"),
        ("GET", "/api/v1/events?since=soon", json!({}), 400, "since"),
        ("GET", "/api/v1/relay/short", json!({}), 400, "32 bytes"),
    ];
    for (method, path, body, status, detail) in cases {
        check(&alice, method, path, &body, status, detail);
    }
}

#[test]
fn malformed_content_is_400_and_other_media_415() {
    let (_world, alice, _) = world();
    let json_field = "content-type: application/json\r\n";
    let cases: [(&str, &str, &[u8], u16); 8] = [
        ("/send-message", json_field, b"{", 400),
        ("/send-message", json_field, b"", 400),
        ("/send-message", json_field, b"\xff\xfe", 400),
        ("/send-message", "content-type: text/xml\r\n", b"<a/>", 415),
        ("/send-message", "content-type: application/x-www-form-urlencoded\r\n", b"{oops", 400),
        ("/send-message", "content-type: application/x-www-form-urlencoded\r\n", b"channel=%zz", 400),
        ("/api/v1/channels/general/invite", "", br#"{"user":"bob"}"#, 415),
        ("/api/v1/presence", "content-type: text/plain\r\n", b"{}", 415),
    ];
    for (path, fields, body, status) in cases {
        let reply = alice.send("POST", path, fields, body);
        assert_eq!(reply.status, status, "{path} {fields}{}: {}", body.escape_ascii(), reply.text);
    }
    let deep = format!("{{\"text\":{}{}}}", "[".repeat(50_000), "]".repeat(50_000));
    assert_eq!(alice.send("POST", "/send-message", json_field, deep.as_bytes()).status, 422);
}

#[test]
fn too_much_content_is_413() {
    let (_world, alice, _) = world();
    let reply = alice.post("/send-message", json!({"channel": "general", "text": "x".repeat(200_000)}));
    assert_eq!(reply.status, 413);
    assert_eq!(alice.texts("general"), ["channel.create"], "nothing was written, and the tracker goes on");
}

#[test]
fn cookies_need_proof_of_the_same_origin_and_tokens_do_not() {
    let (_world, alice, _) = world();
    let cookie = format!("cookie: auth=true; session={}\r\n", alice.token.clone().unwrap());
    let mut browser = alice.clone();
    browser.token = None;
    let body = br#"{"channel":"general","text":"by cookie"}"#;
    let cases = [
        ("", 403),
        ("origin: http://evil.test\r\n", 403),
        ("sec-fetch-site: cross-site\r\n", 403),
        ("sec-fetch-site: same-origin\r\n", 201),
        ("origin: http://tracker.test\r\n", 201),
    ];
    for (proof, status) in cases {
        for media in ["application/json", "application/x-www-form-urlencoded"] {
            let fields = format!("{cookie}{proof}content-type: {media}\r\n");
            let reply = browser.send("POST", "/send-message", &fields, body);
            assert_eq!(reply.status, status, "{proof}: {}", reply.text);
        }
    }
    assert_eq!(browser.send("GET", "/api/v1/me", &cookie, b"").status, 200, "reading needs no proof");
    assert_eq!(alice.texts("general").len(), 5);
}
