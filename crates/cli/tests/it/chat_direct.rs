//! What one terminal client writes reaches the others directly.

use crate::support::http::{Caller, get, request};
use crate::support::{Tracker, Up, chat, chat_folder};
use std::path::Path;

#[test]
fn a_line_of_alices_reaches_bob_and_carol_without_a_relay() {
    let folder = tempfile::tempdir().unwrap();
    let tracker = Tracker::start(folder.path(), 0);
    let url = format!("http://{}", tracker.addr);
    let mut alice = chat("Alice", &url, folder.path(), &[]);
    let mut bob = chat("Bob", &url, folder.path(), &[]);
    let mut carol = chat("Carol", &url, folder.path(), &[]);
    alice.linked_to("bob");
    alice.linked_to("carol");

    for client in [&mut bob, &mut carol] {
        client.linked_to("alice");
    }

    // With the tracker frozen, whatever arrives came directly; the line says so, too.
    tracker.process.signal("STOP");
    alice.process.type_line("hello from alice");
    for reader in [&mut bob, &mut carol] {
        let line = reader.sees("general", "alice", "hello from alice");
        assert!(line.ends_with("(direct)"), "{line}");
    }
    bob.process.type_line("hello from bob");
    assert!(alice.sees("general", "bob", "hello from bob").ends_with("(direct)"));
    tracker.process.signal("CONT");

    let metrics = get(tracker.addr, "/metrics", &[]);
    for counter in ["weaprous_relay_streams_total", "weaprous_relay_bytes_total"] {
        let line = metrics.text().lines().find(|line| line.starts_with(counter)).map(str::to_owned);
        assert_eq!(line.as_deref(), Some(format!("{counter} 0").as_str()), "{}", metrics.text());
    }
}

#[test]
fn a_private_word_reaches_the_one_it_is_for() {
    let folder = tempfile::tempdir().unwrap();
    let tracker = Tracker::start(folder.path(), 0);
    let url = format!("http://{}", tracker.addr);
    let mut alice = chat("Alice", &url, folder.path(), &[]);
    let mut bob = chat("Bob", &url, folder.path(), &[]);
    let mut carol = chat("Carol", &url, folder.path(), &[]);
    alice.linked_to("bob");
    alice.linked_to("carol");

    alice.process.type_line("/msg bob only for you");
    bob.sees("@alice+bob", "alice", "only for you");
    alice.process.type_line("for all");
    carol.sees("general", "alice", "for all");
    assert!(!carol.process.lines().iter().any(|line| line.contains("only for you")), "carol saw a private word");
}

#[test]
fn terminals_take_the_proxys_address_as_well() {
    let folder = tempfile::tempdir().unwrap();
    let up = Up::start(folder.path());
    let url = format!("http://{}", up.proxy);
    let mut alice = chat("Alice", &url, folder.path(), &[]);
    let mut bob = chat("Bob", &url, folder.path(), &[]);
    alice.linked_to("bob");
    alice.process.type_line("hello through the proxy");
    bob.sees("general", "alice", "hello through the proxy");
    let reader = Caller::claim(up.proxy, "reader");
    reader.join("general");
    assert!(reader.log("general").iter().any(|(_, author, _)| author == "alice"));
}

#[test]
fn a_program_speaks_through_the_local_api() {
    let folder = tempfile::tempdir().unwrap();
    let tracker = Tracker::start(folder.path(), 0);
    let url = format!("http://{}", tracker.addr);
    let mut alice = chat("Alice", &url, folder.path(), &["--api-port", "0"]);
    let mut bob = chat("Bob", &url, folder.path(), &[]);
    alice.linked_to("bob");

    let file = Path::new(&chat_folder(folder.path(), "Alice")).join("local-api");
    let told = std::fs::read_to_string(file).unwrap();
    let (address, token) = told.trim().split_once('\n').expect("the file has an address and a token");
    let address = address.trim_start_matches("http://").parse().expect("the first line is an address");
    let body = r#"{"message":"said by a program"}"#;
    let authorization = format!("Bearer {token}");
    let fields = [("Content-Type", "application/json"), ("Authorization", authorization.as_str())];
    assert_eq!(request(address, "POST", "/broadcast-peer", &fields[..1], body).status, 401, "not without the token");
    let response = request(address, "POST", "/broadcast-peer", &fields, body);
    assert!((200..300).contains(&response.status), "{}", response.text());
    bob.sees("general", "alice", "said by a program");
}
