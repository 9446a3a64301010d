//! The conversation outlives the server, and a client that dies in the middle of it.

use crate::support::http::Caller;
use crate::support::{Chat, Tracker, chat, chat_folder};
use chat::{ChannelName, History};
use std::collections::BTreeMap;
use std::path::Path;
use std::time::{Duration, Instant};

/// Lines in the burst in whose middle Bob dies.
const BURST: usize = 200;

/// Reads the log until it holds as many texts as `wanted`, then checks that it is exactly these, each once.
fn log_holds(tracker: &Tracker, reader: &Caller, wanted: &[String]) {
    let end = Instant::now() + Duration::from_secs(30);
    let mut texts: Vec<String>;
    loop {
        texts = reader.log("general").into_iter().map(|(_, _, text)| text).collect();
        if texts.len() >= wanted.len() {
            break;
        }
        assert!(Instant::now() < end, "the log at {} has only {texts:?}", tracker.addr);
        std::thread::yield_now();
    }
    texts.sort();
    let mut wanted = wanted.to_vec();
    wanted.sort();
    assert_eq!(texts, wanted);
}

fn three(url: &str, folder: &Path) -> [Chat; 3] {
    let mut clients = ["Alice", "Bob", "Carol"].map(|name| chat(name, url, folder, &[]));
    for (i, client) in clients.iter_mut().enumerate() {
        for (_, other) in ["alice", "bob", "carol"].iter().enumerate().filter(|(k, _)| *k != i) {
            client.linked_to(other);
        }
    }
    clients
}

#[test]
fn the_conversation_goes_on_without_the_tracker_and_the_log_has_it_once_afterwards() {
    let folder = tempfile::tempdir().unwrap();
    let mut tracker = Tracker::start(folder.path(), 0);
    let [mut alice, mut bob, mut carol] = three(&format!("http://{}", tracker.addr), folder.path());
    alice.process.type_line("before the outage");
    bob.sees("general", "alice", "before the outage");
    carol.sees("general", "alice", "before the outage");

    tracker.process.kill_9();
    alice.process.type_line("are you there?");
    bob.sees("general", "alice", "are you there?");
    bob.process.type_line("yes, and the tracker is not");
    alice.sees("general", "bob", "yes, and the tracker is not");
    carol.sees("general", "bob", "yes, and the tracker is not");
    carol.process.type_line("me too");
    alice.sees("general", "carol", "me too");
    bob.sees("general", "carol", "me too");

    let tracker = tracker.kill_and_restart(folder.path());
    let reader = Caller::claim(tracker.addr, "reader");
    reader.join("general");
    let said = ["before the outage", "are you there?", "yes, and the tracker is not", "me too"];
    log_holds(&tracker, &reader, &said.map(str::to_owned));

    alice.process.type_line("after the outage");
    bob.sees("general", "alice", "after the outage");
    let said = [said.as_slice(), &["after the outage"]].concat();
    log_holds(&tracker, &reader, &said.into_iter().map(str::to_owned).collect::<Vec<_>>());
}

#[test]
fn bob_killed_in_the_middle_of_a_burst_has_all_of_it_once() {
    let folder = tempfile::tempdir().unwrap();
    let tracker = Tracker::start(folder.path(), 0);
    let url = format!("http://{}", tracker.addr);
    let [mut alice, mut bob, _carol] = three(&url, folder.path());
    for i in 0..BURST {
        alice.process.type_line(&format!("line {i}"));
    }
    bob.sees("general", "alice", &format!("line {}", BURST / 4));
    bob.process.kill_9();

    let mut bob = chat("Bob", &url, folder.path(), &[]);
    bob.linked_to("alice");
    alice.process.type_line("the end");
    bob.sees("general", "alice", "the end");
    wait_for_all(&tracker);
    bob.process.signal("TERM");
    let (status, printed) = bob.process.end();
    assert_eq!(status.code(), Some(0), "{printed}");

    let counts = texts_of("Bob", folder.path());
    for i in 0..BURST {
        assert_eq!(counts.get(&format!("line {i}")), Some(&1), "line {i} is there once");
    }
    assert_eq!(counts.get("the end"), Some(&1));
}

#[test]
fn what_was_said_before_the_tracker_was_ever_there_survives_a_kill() {
    let folder = tempfile::tempdir().unwrap();
    let mut tracker = Tracker::start(folder.path(), 0);
    let url = format!("http://{}", tracker.addr);
    tracker.process.kill_9();
    let mut alice = chat("Alice", &url, folder.path(), &[]);
    alice.process.wait_for_text("tracker");
    alice.process.type_line("said into the void");
    alice.process.type_line("/peers"); // answered after what came before it was taken care of
    alice.process.wait_for_text("nobody");
    alice.process.kill_9();

    let tracker = tracker.kill_and_restart(folder.path());
    for _ in 0..2 {
        let mut alice = chat("Alice", &url, folder.path(), &[]);
        let reader = Caller::claim(tracker.addr, &format!("reader-{}", alice.listening().port()));
        alice.process.wait_for("the channel", |line| line.contains("general"));
        reader.join("general");
        log_holds(&tracker, &reader, &["said into the void".to_owned()]);
        alice.process.kill_9();
    }
}

/// Waits until the tracker has the whole burst, so that the peers have nothing left to exchange.
fn wait_for_all(tracker: &Tracker) {
    let reader = Caller::claim(tracker.addr, "reader");
    reader.join("general");
    let wanted: Vec<String> = (0..BURST).map(|i| format!("line {i}")).chain(["the end".to_owned()]).collect();
    log_holds(tracker, &reader, &wanted);
}

/// How often each text is in somebody's own history.
fn texts_of(name: &str, folder: &Path) -> BTreeMap<String, usize> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let history = store::SqliteHistory::open(Path::new(&chat_folder(folder, name))).expect("the history opens");
    let channel: ChannelName = "general".parse().unwrap();
    let entries = runtime.block_on(history.timeline(&channel, None, 2 * BURST)).expect("the history can be read");
    let mut counts = BTreeMap::new();
    for entry in entries {
        if let chat::Body::Text { text } = &entry.sealed.envelope().body {
            *counts.entry(text.clone()).or_default() += 1;
        }
    }
    counts
}
