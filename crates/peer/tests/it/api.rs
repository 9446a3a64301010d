//! The local API, as a script on the same machine uses it.

use std::os::unix::fs::PermissionsExt as _;

use chat::TrackerKey;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::stage::{Actor, roster, roster_of};

/// Sends one request with a token; gives status and JSON.
async fn ask(address: &str, token: &str, line: &str, json: &str) -> (u16, Value) {
    let mut socket = TcpStream::connect(address).await.unwrap();
    let request = format!(
        "{line} HTTP/1.1\r\nHost: {address}\r\nAuthorization: Bearer {token}\r\nConnection: close\r\n\
         Content-Length: {}\r\n\r\n{json}",
        json.len()
    );
    socket.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    socket.read_to_string(&mut answer).await.unwrap();
    let status = answer.split(' ').nth(1).unwrap().parse().unwrap();
    let content = answer.split_once("\r\n\r\n").unwrap().1;
    (status, serde_json::from_str(content).unwrap())
}

#[tokio::test]
async fn a_script_speaks_through_the_running_peer() {
    let tracker = TrackerKey::from_seed([200; 32]);
    let (alice, bob) = (Actor::new("alice"), Actor::new("bob"));
    for actor in [&alice, &bob] {
        actor.believe(&tracker, &roster(&tracker, 1, &[&alice, &bob])).await;
        actor.believe(&tracker, &roster_of(&tracker, "@alice+bob", 1, &[&alice, &bob])).await;
    }
    let mut b = bob.run().await;
    let mut settings = alice.settings();
    settings.api = Some("127.0.0.1:0".parse().unwrap());
    let mut a = alice.run_with(settings).await;
    let file = alice.directory.path().join(peer::API_FILE);
    assert_eq!(std::fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
    let text = std::fs::read_to_string(&file).unwrap();
    let (url, token) = text.trim_end().split_once('\n').unwrap();
    let address = url.strip_prefix("http://").unwrap();

    let connect = json!({ "ip": b.listening.ip(), "port": b.listening.port() }).to_string();
    assert_eq!(ask(address, token, "POST /connect-peer", &connect).await.0, 202);
    a.links_with(b.device).await;
    let (status, answer) = ask(address, token, "POST /broadcast-peer", r#"{"message":"from a script"}"#).await;
    assert_eq!((status, &answer["channel"]), (201, &json!("general")));
    b.hears("from a script").await;
    let (status, answer) = ask(address, token, "POST /send-peer", r#"{"to":"bob","message":"psst"}"#).await;
    assert_eq!((status, &answer["channel"]), (201, &json!("@alice+bob")));
    b.hears("psst").await;
    let (status, answer) = ask(address, token, "GET /get-list", "").await;
    assert_eq!((status, &answer["peers"][0]["path"]), (200, &json!("direct")));

    for (token, line, json, expected) in [
        ("wrong", "GET /get-list", "", 401),
        ("", "POST /broadcast-peer", r#"{"message":"x"}"#, 401),
        (token, "GET /send-peer", "", 405),
        (token, "GET /nothing", "", 404),
        (token, "POST /send-peer", "{", 400),
        (token, "POST /send-peer", r#"{"message":"x"}"#, 400),
        (token, "POST /send-peer", r#"{"to":"b\u0000b","message":"x"}"#, 400),
        (token, "POST /broadcast-peer", r#"{"message":5}"#, 400),
        (token, "POST /broadcast-peer", r#"{"channel":"nowhere","message":"x"}"#, 409),
    ] {
        assert_eq!(ask(address, token, line, json).await.0, expected, "{line} {json}");
    }
    a.end().unwrap();
    assert!(!file.exists(), "the token ends with the peer");
}

#[tokio::test]
async fn only_loopback_is_served() {
    let alice = Actor::new("alice");
    let mut settings = alice.settings();
    settings.api = Some("0.0.0.0:0".parse().unwrap());
    let (_commands, command_receiver) = tokio::sync::mpsc::channel(1);
    let (notices, _notice_receiver) = tokio::sync::mpsc::channel(16);
    let history = alice.history.clone();
    let run = move || peer::run(settings, history, command_receiver, notices, peer::Stop::new());
    let error = std::thread::spawn(run).join().unwrap().unwrap_err();
    assert!(error.to_string().contains("loopback"), "{error}");
}
