//! A message acknowledged as *stored* survives `kill -9` of the tracker at any moment.

use crate::support::Tracker;
use crate::support::http::{Caller, json};
use serde_json::json;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// How many times the tracker is killed.
const KILLS: u32 = 200;
/// The latest moment of a kill after the first message of a round was acknowledged, in microseconds. Some 20 commits
/// fit into it, so that kills fall before, within and after a commit.
const KILL_WITHIN_US: u64 = 20_000;
/// Writers at once, so that commits hold several messages.
const WRITERS: usize = 3;

#[test]
fn stored_means_stored_at_200_random_kills() {
    let folder = tempfile::tempdir().unwrap();
    let mut random = testkit::seed();
    let mut tracker = Tracker::start(folder.path(), 0);
    let reader = Caller::claim(tracker.addr, "reader");
    assert_eq!(reader.post("/create-list", &json!({ "channel": "general" })).status, 201);
    let writers: Vec<Caller> = (0..WRITERS).map(|i| Caller::claim(tracker.addr, &format!("writer{i}"))).collect();
    for writer in &writers {
        writer.join("general");
    }

    let mut acknowledged: Vec<(u64, String)> = Vec::new();
    for round in 0..KILLS {
        random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let moment = Duration::from_micros((random >> 33) % KILL_WITHIN_US);
        acknowledged.extend(write_until_killed(&mut tracker, &writers, round, moment));
        tracker = tracker.kill_and_restart(folder.path());
    }

    let log = reader.log("general");
    for (seq, text) in &acknowledged {
        let times = log.iter().filter(|(_, _, logged)| logged == text).count();
        assert_eq!(times, 1, "{text:?} was acknowledged and is there {times} times");
        assert!(log.iter().any(|(logged, _, other)| logged == seq && other == text), "{text:?} has moved from {seq}");
    }
    println!("{KILLS} kills, {} messages acknowledged, none lost", acknowledged.len());
    assert!(acknowledged.len() >= KILLS as usize, "each round acknowledges at least one message");
}

/// Writes from all writers at once, kills the tracker `moment` after the first acknowledgement, and returns what was
/// acknowledged.
fn write_until_killed(tracker: &mut Tracker, writers: &[Caller], round: u32, moment: Duration) -> Vec<(u64, String)> {
    let stop = AtomicBool::new(false);
    let (first, seen) = std::sync::mpsc::channel();
    std::thread::scope(|scope| {
        let threads: Vec<_> = writers
            .iter()
            .enumerate()
            .map(|(i, writer)| {
                let (stop, first) = (&stop, first.clone());
                scope.spawn(move || {
                    let mut stored = Vec::new();
                    for k in 0.. {
                        if stop.load(Ordering::Relaxed) {
                            break;
                        }
                        let text = format!("round {round} writer {i} message {k}");
                        let Some(seq) = try_send(writer, &text) else { break };
                        stored.push((seq, text));
                        let _ = first.send(());
                    }
                    stored
                })
            })
            .collect();
        seen.recv_timeout(Duration::from_secs(20)).expect("a first message is stored");
        let kill_at = std::time::Instant::now() + moment;
        while std::time::Instant::now() < kill_at {
            std::hint::spin_loop();
        }
        tracker.process.kill_9();
        stop.store(true, Ordering::Relaxed);
        threads.into_iter().flat_map(|thread| thread.join().expect("a writer does not panic")).collect()
    })
}

/// Sends a text; the seq if the answer says *stored*, nothing if the tracker died before it answered.
fn try_send(writer: &Caller, text: &str) -> Option<u64> {
    let response = writer.try_post("/send-message", &json!({ "channel": "general", "text": text }))?;
    assert_eq!(response.status, 201, "{}", response.text());
    let answer = json(&response);
    assert_eq!(answer["state"], "stored");
    answer["seq"].as_u64()
}
