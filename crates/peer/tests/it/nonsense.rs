//! Trackers that are none, or have lost their mind: peers go on without them.

use std::time::Duration;

use chat::client::{Command, Notice};
use chat::{DeviceKey, TrackerKey};
use peer::{PeerError, Settings};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;

use crate::stage::{Actor, roster};

fn tracker() -> TrackerKey {
    TrackerKey::from_seed([200; 32])
}

/// A server that answers every connection's first bytes with `answer` and closes; an empty answer is silence.
async fn pretender(answer: String) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        let mut silent = Vec::new();
        while let Ok((mut socket, _)) = listener.accept().await {
            let mut request = [0; 4096];
            let _ = socket.read(&mut request).await;
            if answer.is_empty() {
                silent.push(socket);
            } else {
                let _ = socket.write_all(answer.as_bytes()).await;
            }
        }
    });
    format!("http://{address}")
}

fn json(status: &str, content: &str) -> String {
    format!("HTTP/1.1 {status}\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{content}", content.len())
}

fn settings(actor: &Actor, url: &str) -> Settings {
    let mut settings = actor.settings();
    settings.tracker = Some(url.parse().unwrap());
    settings.pace.answer = Duration::from_millis(300);
    settings
}

#[tokio::test]
async fn whatever_a_tracker_answers_peers_talk_on() {
    let other = TrackerKey::from_seed([201; 32]).id();
    let deep = format!("{}1{}", "[".repeat(50_000), "]".repeat(50_000));
    let answers = [
        String::new(),
        "\0\0\0\0garbage\r\n\r\n".to_owned(),
        "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nab".to_owned(),
        format!("HTTP/1.1 200 OK\r\n{}", "X: y\r\n".repeat(20_000)),
        json("200 OK", "null"),
        json("200 OK", r#"{"nonce":5,"tracker":"x"}"#),
        json("200 OK", &deep),
        json("200 OK", &format!(r#"{{"nonce":"\u0000\r\n","tracker":"{}"}}"#, tracker().id())),
        json("200 OK", &format!(r#"{{"nonce":"n","tracker":"{other}"}}"#)),
        json("429 Too Many Requests", "{}"),
        json("500 Internal Server Error", "oops"),
        json("403 Forbidden", r#"{"title":"go away\u001b[2J"}"#),
        "HTTP/1.1 302 Found\r\nLocation: http://example.com/\r\nContent-Length: 0\r\n\r\n".to_owned(),
    ];
    for answer in answers {
        let (alice, bob) = (Actor::new("alice"), Actor::new("bob"));
        let roster = roster(&tracker(), 1, &[&alice, &bob]);
        alice.believe(&tracker(), &roster).await;
        bob.believe(&tracker(), &roster).await;
        let url = pretender(answer.clone()).await;
        let mut a = alice.run_with(settings(&alice, &url)).await;
        bob.know_address(a.device, a.listening).await;
        let mut b = bob.run_with(settings(&bob, &url)).await;
        let is_offline = |notice: &Notice| matches!(notice, Notice::Tracker { online: false, .. }).then_some(());
        b.find(is_offline).await;
        b.links_with(a.device).await;
        b.say("still here").await;
        a.hears("still here").await;
        a.find(is_offline).await;
        for notice in &a.seen {
            if let Notice::Tracker { detail: text, .. } | Notice::Trouble { what: text, .. } = notice {
                assert!(!text.contains(char::is_control), "{text:?}");
            }
        }
        a.end().unwrap();
        b.end().unwrap();
    }
}

#[tokio::test]
async fn who_never_met_a_tracker_is_told_when_it_refuses() {
    let alice = Actor::new("alice");
    let answer = json("401 Unauthorized", r#"{"title":"Unauthorized","detail":"this name is taken"}"#);
    let url = pretender(answer).await;
    let (_commands, command_receiver) = tokio::sync::mpsc::channel(1);
    let (notices, _notice_receiver) = tokio::sync::mpsc::channel(16);
    let (settings, history) = (settings(&alice, &url), alice.history.clone());
    let run = move || peer::run(settings, history, command_receiver, notices, peer::Stop::new());
    let error = tokio::task::spawn_blocking(run).await.unwrap().unwrap_err();
    assert!(matches!(error, PeerError::Refused { .. }), "{error}");
    assert_eq!(error.to_string(), "the tracker refuses alice: this name is taken");
}

#[tokio::test]
async fn messages_before_the_tracker_was_ever_met_wait_and_are_not_shown_as_said() {
    let alice = Actor::new("alice");
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    drop(listener); // nobody is there
    let mut a = alice.run_with(settings(&alice, &url)).await;
    a.say("too early").await;
    a.find(|notice| matches!(notice, Notice::Tracker { online: false, .. }).then_some(())).await;
    a.command(Command::Channels).await;
    a.find(|notice| matches!(notice, Notice::Channels(_)).then_some(())).await;
    assert!(a.texts().is_empty(), "nothing is shown as said that is not stored");
    a.end().unwrap();
}

#[tokio::test]
async fn a_device_key_of_another_run_is_still_that_device() {
    let alice = Actor::new("alice");
    let key: DeviceKey = peer::key::load_or_make(alice.directory.path()).unwrap().key;
    assert_eq!(key.id(), alice.device);
    let mut a = alice.run().await;
    assert_eq!(a.device, alice.device);
    a.end().unwrap();
}
