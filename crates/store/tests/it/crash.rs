//! A process that is killed in the middle of writing has lost nothing that it acknowledged.
//!
//! The test starts its own binary again as the writer, reads the acknowledgements that it prints, kills it with SIGKILL
//! at a random moment, and looks into the file.

use std::collections::HashSet;
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use chat::{Arrival, History, Store};
use store::{SqliteHistory, SqliteStore};

use crate::fixture::{Chain, Random};
use crate::sharing::count_up;

/// Lives of the writer per test, on one file.
const LIVES: u64 = 30;
/// The writer is killed after this many acknowledgements at most, plus up to a millisecond.
const ACKNOWLEDGED_BEFORE_KILL_MAX: u64 = 150;
const ROLE: &str = "STORE_TEST_ROLE";
const FILE: &str = "STORE_TEST_FILE";

/// This binary again, in another role.
pub(crate) fn child(role: &str, path: &Path) -> Command {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["crash::writer", "--exact", "--nocapture"]).env(ROLE, role).env(FILE, path);
    command.stdout(Stdio::piped());
    command
}

/// The other process of these tests. Run by itself, it counts in a file of its own.
#[test]
fn writer() {
    let alone = tempfile::tempdir().unwrap();
    let role = std::env::var(ROLE).unwrap_or_else(|_| "count".to_owned());
    let path = std::env::var(FILE).map_or_else(|_| alone.path().to_owned(), PathBuf::from);
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    match role.as_str() {
        "append" => runtime.block_on(append_for_ever(&path)),
        "insert" => runtime.block_on(insert_for_ever(&path)),
        _ => runtime.block_on(count_up(&path)),
    }
}

fn acknowledge(acknowledged: impl IntoIterator<Item = chat::EnvelopeId>) {
    let mut out = std::io::stdout().lock();
    for id in acknowledged {
        writeln!(out, "stored {id}").unwrap();
    }
    out.flush().unwrap();
}

/// Four devices in two channels, one to five envelopes at a time, all of them under way at once.
async fn append_for_ever(path: &Path) {
    let store = SqliteStore::open(path).unwrap();
    let writer = |seed: u8, channel: &'static str| {
        let store = &store;
        async move {
            let chain = Chain::new(seed, channel);
            let mut chain = store.heads(chain.channel()).await.map(|heads| chain.resume(&heads)).unwrap();
            for count in (1..=5).cycle() {
                let batch = chain.say_many(count);
                let ids: Vec<_> = batch.iter().map(chat::Sealed::id).collect();
                let results = store.append(batch).await.unwrap();
                assert!(results.iter().all(Result::is_ok), "{results:?}");
                acknowledge(ids);
            }
        }
    };
    tokio::join!(writer(1, "general"), writer(2, "general"), writer(3, "general"), writer(1, "random"));
}

async fn insert_for_ever(path: &Path) {
    let history = SqliteHistory::open(path).unwrap();
    let heads: Vec<_> = history.heads().await.unwrap().into_iter().map(|(_, head)| head).collect();
    let mut chain = Chain::new(1, "general").resume(&heads);
    for count in (1..=5).cycle() {
        let batch = chain.say_many(count);
        let ids: Vec<_> = batch.iter().map(chat::Sealed::id).collect();
        let arrivals = batch.into_iter().map(|sealed| Arrival { sealed, path: chat::Path::Own, received_at_ms: 0 });
        let results = history.insert(arrivals.collect()).await.unwrap();
        assert!(results.iter().all(Result::is_ok), "{results:?}");
        acknowledge(ids);
    }
}

/// Lets the writer live until a random moment; gives every acknowledgement that it got out.
fn one_life(role: &str, path: &Path, random: &mut Random) -> Vec<String> {
    let mut writer = child(role, path).spawn().unwrap();
    let mut lines = BufReader::new(writer.stdout.take().unwrap()).lines();
    let stored = |line: std::io::Result<String>| line.unwrap().strip_prefix("stored ").map(str::to_owned);
    let patience = random.below(ACKNOWLEDGED_BEFORE_KILL_MAX) as usize;
    let mut acknowledged: Vec<_> = lines.by_ref().filter_map(stored).take(patience).collect();
    // Not for order: spreads the moment of the kill over the steps of a commit.
    std::thread::sleep(Duration::from_micros(random.below(1000)));
    writer.kill().unwrap();
    writer.wait().unwrap();
    acknowledged.extend(lines.filter_map(stored));
    acknowledged
}

#[tokio::test]
async fn a_killed_store_keeps_what_it_acknowledged_once() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path();
    let mut random = Random::new();
    let mut acknowledged = HashSet::new();
    for life in 0..LIVES {
        acknowledged.extend(one_life("append", path, &mut random));
        let store = SqliteStore::open(path).unwrap();
        let all = store.read_all(0, usize::MAX).await.unwrap();
        let ids: HashSet<_> = all.iter().map(|entry| entry.sealed.id().to_string()).collect();
        assert_eq!(ids.len(), all.len(), "life {life}: something is there twice");
        let lost: Vec<_> = acknowledged.difference(&ids).collect();
        assert!(lost.is_empty(), "life {life}: lost {lost:?}");
        for (channel, last) in store.channels().await.unwrap() {
            let log = store.read(&channel, 0, usize::MAX).await.unwrap();
            let seqs: Vec<_> = log.iter().map(|entry| entry.seq).collect();
            assert_eq!(seqs, (1..=last).collect::<Vec<_>>(), "life {life}: {channel} has holes");
            for head in store.heads(&channel).await.unwrap() {
                let chain = store.chain(&channel, &head.device, 1, usize::MAX).await.unwrap();
                let numbers: Vec<_> = chain.iter().map(|sealed| sealed.envelope().n).collect();
                assert_eq!(numbers, (1..=head.n).collect::<Vec<_>>(), "life {life}: a chain has holes");
            }
        }
    }
    assert!(acknowledged.len() > 100, "the writer got too little done to prove anything");
}

#[tokio::test]
async fn a_killed_history_keeps_what_it_acknowledged_once() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path();
    let mut random = Random::new();
    let mut acknowledged = HashSet::new();
    for life in 0..LIVES {
        acknowledged.extend(one_life("insert", path, &mut random));
        let history = SqliteHistory::open(path).unwrap();
        let Some((channel, head)) = history.heads().await.unwrap().pop() else { continue };
        let all = history.timeline(&channel, None, usize::MAX).await.unwrap();
        let ids: HashSet<_> = all.iter().map(|entry| entry.sealed.id().to_string()).collect();
        assert_eq!(ids.len(), all.len(), "life {life}: something is there twice");
        assert_eq!(all.len() as u64, head.n, "life {life}: the chain has holes");
        let lost: Vec<_> = acknowledged.difference(&ids).collect();
        assert!(lost.is_empty(), "life {life}: lost {lost:?}");
    }
    assert!(acknowledged.len() > 100, "the writer got too little done to prove anything");
}
