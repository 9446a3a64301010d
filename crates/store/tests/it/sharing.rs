//! Two processes on one file, as when backend and tracker run separately with one data directory.

use std::path::Path;

use chat::{Expect, Store};
use store::SqliteStore;

use crate::crash::child;
use crate::fixture::Chain;

const INCREMENTS: u32 = 150;

/// Counts up by compare-and-set; every lost race is tried again.
pub(crate) async fn count_up(path: &Path) {
    let store = SqliteStore::open(path).unwrap();
    let mut counted = 0;
    while counted < INCREMENTS {
        let found = store.get("counter").await.unwrap();
        let (count, expect) = match &found {
            Some(found) => {
                (u32::from_be_bytes(found.value.as_slice().try_into().unwrap()), Expect::Version(found.version))
            }
            None => (0, Expect::Absent),
        };
        let put = store.put("counter", (count + 1).to_be_bytes().to_vec(), expect).await.unwrap();
        counted += u32::from(put.is_ok());
    }
}

#[tokio::test]
async fn two_processes_count_without_losing_one() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path();
    let mut other = child("count", path).spawn().unwrap();
    count_up(path).await;
    assert!(other.wait().unwrap().success());
    let store = SqliteStore::open(path).unwrap();
    let found = store.get("counter").await.unwrap().unwrap();
    assert_eq!(found.value, (2 * INCREMENTS).to_be_bytes());
    assert_eq!(found.version, u64::from(2 * INCREMENTS));
}

#[tokio::test]
async fn two_openers_append_to_one_dense_log() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path();
    let (one, other) = (SqliteStore::open(path).unwrap(), SqliteStore::open(path).unwrap());
    let (mut alice, mut bob) = (Chain::new(1, "general"), Chain::new(2, "general"));
    for _ in 0..50 {
        let (mine, theirs) = tokio::join!(one.append(alice.say_many(2)), other.append(bob.say_many(2)));
        assert!(mine.unwrap().iter().all(Result::is_ok) && theirs.unwrap().iter().all(Result::is_ok));
    }
    let log = one.read(alice.channel(), 0, usize::MAX).await.unwrap();
    let places: Vec<_> = log.iter().map(|entry| (entry.seq, entry.position)).collect();
    assert_eq!(places, (1..=200).map(|i| (i, i)).collect::<Vec<_>>());
}
