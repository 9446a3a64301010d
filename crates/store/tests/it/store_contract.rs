//! What every `chat::Store` does. Each case gets an empty store.

use std::time::Duration;

use chat::{AppendError, Appended, Conflict, Expect, Sealed, Store, Versioned};

use crate::fixture::Chain;

macro_rules! contract {
    ($($case:ident),* $(,)?) => {
        mod memory {
            $(#[tokio::test] async fn $case() { super::$case(&store::MemoryStore::new()).await; })*
        }
        mod sqlite {
            $(#[tokio::test] async fn $case() {
                let directory = tempfile::tempdir().unwrap();
                let store = store::SqliteStore::open(directory.path()).unwrap();
                super::$case(&store).await;
            })*
        }
    };
}

contract!(
    numbers_are_dense_per_channel_and_positions_rise_over_all,
    appending_again_changes_nothing,
    a_gap_says_what_is_missing,
    a_fork_is_refused_whatever_its_shape,
    a_refused_entry_leaves_the_others_and_no_trace,
    an_empty_append_is_nothing,
    reading_has_bounds_on_both_sides,
    reading_all_follows_positions,
    what_is_read_is_what_was_written,
    chains_are_read_by_device,
    heads_are_the_newest_of_each_device,
    unknown_channels_are_empty,
    concurrent_appends_are_all_there_once,
    a_watch_sees_appends_after_it,
    an_append_that_nobody_waits_for_happens,
    the_register_compares_versions,
    the_register_deletes_by_version,
    the_register_lists_by_prefix,
    of_racing_writers_exactly_one_wins_each_version,
    leases_lapse_and_are_released,
);

#[allow(clippy::unnecessary_wraps, reason = "compared with a result")]
fn stored(seq: u64, position: u64) -> Result<Appended, AppendError> {
    Ok(Appended { seq, position, known: false })
}

#[allow(clippy::unnecessary_wraps, reason = "compared with a result")]
fn known(seq: u64, position: u64) -> Result<Appended, AppendError> {
    Ok(Appended { seq, position, known: true })
}

async fn append_one(store: &dyn Store, sealed: Sealed) -> Result<Appended, AppendError> {
    store.append(vec![sealed]).await.unwrap().remove(0)
}

async fn numbers_are_dense_per_channel_and_positions_rise_over_all(store: &dyn Store) {
    let (mut alice, mut bob) = (Chain::new(1, "general"), Chain::new(2, "random"));
    let mixed = vec![alice.say("a"), bob.say("b"), alice.say("c")];
    assert_eq!(store.append(mixed).await.unwrap(), [stored(1, 1), stored(1, 2), stored(2, 3)]);
    assert_eq!(append_one(store, bob.say("d")).await, stored(2, 4));
    assert_eq!(store.last(alice.channel()).await.unwrap(), 2);
    assert_eq!(store.last_position().await.unwrap(), 4);
    let channels = store.channels().await.unwrap();
    assert_eq!(channels, [(alice.channel().clone(), 2), (bob.channel().clone(), 2)]);
}

async fn appending_again_changes_nothing(store: &dyn Store) {
    let mut alice = Chain::new(1, "general");
    let (first, second) = (alice.say("a"), alice.say("b"));
    assert_eq!(append_one(store, first.clone()).await, stored(1, 1));
    let again = vec![first.clone(), second.clone(), second.clone(), first];
    assert_eq!(store.append(again).await.unwrap(), [known(1, 1), stored(2, 2), known(2, 2), known(1, 1)]);
    assert_eq!(store.read(alice.channel(), 0, 10).await.unwrap().len(), 2);
}

async fn a_gap_says_what_is_missing(store: &dyn Store) {
    let mut alice = Chain::new(1, "general");
    let chain = alice.say_many(4);
    assert_eq!(append_one(store, chain[2].clone()).await, Err(AppendError::Gap { expected_n: 1 }));
    assert!(store.channels().await.unwrap().is_empty(), "a refused entry makes no channel");
    assert_eq!(append_one(store, chain[0].clone()).await, stored(1, 1));
    assert_eq!(append_one(store, chain[3].clone()).await, Err(AppendError::Gap { expected_n: 2 }));
    let rest = vec![chain[1].clone(), chain[2].clone(), chain[3].clone()];
    assert_eq!(store.append(rest).await.unwrap(), [stored(2, 2), stored(3, 3), stored(4, 4)]);
}

async fn a_fork_is_refused_whatever_its_shape(store: &dyn Store) {
    let mut alice = Chain::new(1, "general");
    let other_first = alice.fork("another first");
    let mut other_history = Chain::new(1, "general");
    other_history.say("a different beginning");
    append_one(store, alice.say("a")).await.unwrap();
    assert_eq!(append_one(store, other_first).await, Err(AppendError::Fork), "a number that is taken");
    let other_prev = other_history.say("b");
    assert_eq!(append_one(store, other_prev).await, Err(AppendError::Fork), "a prev that is not there");
    assert_eq!(append_one(store, alice.say("b")).await, stored(2, 2), "the chain itself goes on");
}

async fn a_refused_entry_leaves_the_others_and_no_trace(store: &dyn Store) {
    let (mut alice, mut bob) = (Chain::new(1, "general"), Chain::new(2, "general"));
    let fork = alice.fork("x");
    let (first, skipped, third) = (alice.say("a"), alice.say("b"), alice.say("c"));
    let entries = vec![first, fork, third, bob.say("b"), skipped];
    let results = store.append(entries).await.unwrap();
    let expected =
        [stored(1, 1), Err(AppendError::Fork), Err(AppendError::Gap { expected_n: 2 }), stored(2, 2), stored(3, 3)];
    assert_eq!(results, expected);
    assert_eq!(store.last(alice.channel()).await.unwrap(), 3);
}

async fn an_empty_append_is_nothing(store: &dyn Store) {
    assert_eq!(store.append(Vec::new()).await.unwrap(), []);
    assert_eq!(store.last_position().await.unwrap(), 0);
}

async fn reading_has_bounds_on_both_sides(store: &dyn Store) {
    let mut alice = Chain::new(1, "general");
    store.append(alice.say_many(10)).await.unwrap();
    let seqs = |logged: Vec<chat::Logged>| logged.iter().map(|entry| entry.seq).collect::<Vec<_>>();
    let cases: [(u64, usize, &[u64]); 6] = [
        (0, 3, &[1, 2, 3]),
        (7, 100, &[8, 9, 10]),
        (7, usize::MAX, &[8, 9, 10]),
        (10, 5, &[]),
        (u64::MAX, 5, &[]),
        (0, 0, &[]),
    ];
    for (after, limit, expected) in cases {
        assert_eq!(seqs(store.read(alice.channel(), after, limit).await.unwrap()), expected, "after {after}");
    }
    let cases: [(u64, usize, &[u64]); 6] =
        [(4, 2, &[2, 3]), (4, 100, &[1, 2, 3]), (u64::MAX, 2, &[9, 10]), (1, 5, &[]), (0, 5, &[]), (4, 0, &[])];
    for (before, limit, expected) in cases {
        assert_eq!(seqs(store.read_before(alice.channel(), before, limit).await.unwrap()), expected, "before {before}");
    }
}

async fn reading_all_follows_positions(store: &dyn Store) {
    let (mut alice, mut bob) = (Chain::new(1, "general"), Chain::new(2, "random"));
    store.append(vec![alice.say("a"), bob.say("b"), alice.say("c")]).await.unwrap();
    let places = |logged: Vec<chat::Logged>| {
        logged.iter().map(|it| (it.position, it.seq, it.sealed.envelope().channel.to_string())).collect::<Vec<_>>()
    };
    let (general, random) = ("general".to_owned(), "random".to_owned());
    assert_eq!(
        places(store.read_all(0, 10).await.unwrap()),
        [(1, 1, general.clone()), (2, 1, random.clone()), (3, 2, general)]
    );
    assert_eq!(places(store.read_all(1, 1).await.unwrap()), [(2, 1, random)]);
    assert!(store.read_all(3, 10).await.unwrap().is_empty());
    assert!(store.read_all(u64::MAX, 10).await.unwrap().is_empty());
}

async fn what_is_read_is_what_was_written(store: &dyn Store) {
    let mut alice = Chain::new(1, "general");
    let written = alice.say("tabs\t, \"quotes\", \u{1F980}, \u{0}");
    append_one(store, written.clone()).await.unwrap();
    let read = store.read(alice.channel(), 0, 1).await.unwrap().remove(0).sealed;
    assert_eq!(read.bytes(), written.bytes());
    assert_eq!(read.signature(), written.signature());
    assert_eq!(read.envelope(), written.envelope());
    assert_eq!(read.id(), written.id());
}

async fn chains_are_read_by_device(store: &dyn Store) {
    let (mut alice, mut bob) = (Chain::new(1, "general"), Chain::new(2, "general"));
    let mut elsewhere = Chain::new(1, "random");
    store.append(vec![alice.say("a"), bob.say("b"), elsewhere.say("x"), alice.say("c")]).await.unwrap();
    let numbers = |chain: Vec<Sealed>| chain.iter().map(|sealed| sealed.envelope().n).collect::<Vec<_>>();
    let cases: [(&Chain, u64, usize, &[u64]); 6] = [
        (&alice, 0, 10, &[1, 2]),
        (&alice, 1, 10, &[1, 2]),
        (&alice, 2, 10, &[2]),
        (&alice, 1, 1, &[1]),
        (&alice, u64::MAX, 10, &[]),
        (&bob, 1, 10, &[1]),
    ];
    for (chain, from_n, limit, expected) in cases {
        let read = store.chain(chain.channel(), &chain.device(), from_n, limit).await.unwrap();
        assert_eq!(numbers(read), expected, "from {from_n}");
    }
}

async fn heads_are_the_newest_of_each_device(store: &dyn Store) {
    let (mut alice, mut bob) = (Chain::new(1, "general"), Chain::new(2, "general"));
    let (first, newest, only) = (alice.say("a"), alice.say("b"), bob.say_at("c", 40));
    store.append(vec![first, newest.clone(), only.clone()]).await.unwrap();
    let mut expected = [&newest, &only].map(|sealed| chat::Head::of(sealed.envelope(), sealed.id()));
    expected.sort_by_key(|head| head.device);
    assert_eq!(store.heads(alice.channel()).await.unwrap(), expected);
    assert!(expected.iter().any(|head| head.lamport == 41 && head.n == 1));
}

async fn unknown_channels_are_empty(store: &dyn Store) {
    let nobody = Chain::new(1, "nowhere");
    assert!(store.read(nobody.channel(), 0, 10).await.unwrap().is_empty());
    assert!(store.read_before(nobody.channel(), 10, 10).await.unwrap().is_empty());
    assert!(store.chain(nobody.channel(), &nobody.device(), 1, 10).await.unwrap().is_empty());
    assert!(store.heads(nobody.channel()).await.unwrap().is_empty());
    assert_eq!(store.last(nobody.channel()).await.unwrap(), 0);
    assert!(store.channels().await.unwrap().is_empty());
}

async fn concurrent_appends_are_all_there_once(store: &dyn Store) {
    const DEVICES: u8 = 8;
    const EACH: usize = 25;
    let mut chains: Vec<_> = (0..DEVICES).map(|seed| Chain::new(seed, "general")).collect();
    // All futures are made before any is awaited: the stores see them at once.
    let rounds: Vec<Vec<Sealed>> = (0..EACH).map(|_| chains.iter_mut().map(|chain| chain.say("x")).collect()).collect();
    let mut appends = Vec::new();
    for sealed in rounds.into_iter().flatten() {
        appends.push(store.append(vec![sealed]));
    }
    for append in join_all(appends).await {
        append.unwrap().remove(0).unwrap();
    }
    let log = store.read(chains[0].channel(), 0, usize::MAX).await.unwrap();
    let seqs: Vec<_> = log.iter().map(|entry| entry.seq).collect();
    assert_eq!(seqs, (1..=u64::from(DEVICES) * EACH as u64).collect::<Vec<_>>());
    for chain in &chains {
        let read = store.chain(chain.channel(), &chain.device(), 1, usize::MAX).await.unwrap();
        assert_eq!(read.len(), EACH);
    }
}

/// Polls all futures in turn until all are done.
async fn join_all<F: Future>(futures: Vec<F>) -> Vec<F::Output> {
    let mut pending: Vec<_> = futures.into_iter().map(|future| (Box::pin(future), None)).collect();
    std::future::poll_fn(|context| {
        let mut all = true;
        for (future, output) in &mut pending {
            if output.is_none() {
                match future.as_mut().poll(context) {
                    std::task::Poll::Ready(ready) => *output = Some(ready),
                    std::task::Poll::Pending => all = false,
                }
            }
        }
        if all { std::task::Poll::Ready(()) } else { std::task::Poll::Pending }
    })
    .await;
    pending.into_iter().map(|(_, output)| output.unwrap()).collect()
}

async fn a_watch_sees_appends_after_it(store: &dyn Store) {
    let mut alice = Chain::new(1, "general");
    append_one(store, alice.say("before")).await.unwrap();
    let mut watch = store.watch();
    append_one(store, alice.say("after")).await.unwrap();
    assert_eq!(watch.changed().await, Ok(2));
    append_one(store, alice.say("a")).await.unwrap();
    append_one(store, alice.say("b")).await.unwrap();
    assert_eq!(watch.changed().await, Ok(4), "several appends may be one change");
    let waiting = tokio::time::timeout(Duration::from_millis(20), watch.changed());
    assert!(waiting.await.is_err(), "nothing new");
}

async fn an_append_that_nobody_waits_for_happens(store: &dyn Store) {
    let mut alice = Chain::new(1, "general");
    let mut watch = store.watch();
    {
        let mut append = store.append(vec![alice.say("a")]);
        // Polled once, so that it is under way, then dropped.
        std::future::poll_fn(|context| {
            let _ = append.as_mut().poll(context);
            std::task::Poll::Ready(())
        })
        .await;
    }
    assert_eq!(watch.changed().await, Ok(1));
    assert_eq!(store.last(alice.channel()).await.unwrap(), 1);
}

async fn the_register_compares_versions(store: &dyn Store) {
    let conflict = |current| Ok(Err(Conflict { current }));
    assert_eq!(store.get("k").await, Ok(None));
    assert_eq!(store.put("k", b"x".to_vec(), Expect::Version(1)).await, conflict(None));
    assert_eq!(store.put("k", b"a".to_vec(), Expect::Absent).await, Ok(Ok(1)));
    assert_eq!(store.put("k", b"x".to_vec(), Expect::Absent).await, conflict(Some(1)));
    assert_eq!(store.put("k", b"b".to_vec(), Expect::Version(1)).await, Ok(Ok(2)));
    assert_eq!(store.put("k", b"x".to_vec(), Expect::Version(1)).await, conflict(Some(2)));
    assert_eq!(store.put("k", b"c".to_vec(), Expect::Any).await, Ok(Ok(3)));
    assert_eq!(store.put("other", Vec::new(), Expect::Any).await, Ok(Ok(1)));
    assert_eq!(store.get("k").await, Ok(Some(Versioned { value: b"c".to_vec(), version: 3 })));
    assert_eq!(store.get("other").await, Ok(Some(Versioned { value: Vec::new(), version: 1 })));
}

async fn the_register_deletes_by_version(store: &dyn Store) {
    let conflict = |current| Ok(Err(Conflict { current }));
    assert_eq!(store.delete("k", Expect::Any).await, Ok(Ok(())));
    assert_eq!(store.delete("k", Expect::Version(1)).await, conflict(None));
    store.put("k", b"a".to_vec(), Expect::Any).await.unwrap().unwrap();
    assert_eq!(store.delete("k", Expect::Version(2)).await, conflict(Some(1)));
    assert_eq!(store.delete("k", Expect::Version(1)).await, Ok(Ok(())));
    assert_eq!(store.get("k").await, Ok(None));
    assert_eq!(store.put("k", b"b".to_vec(), Expect::Absent).await, Ok(Ok(1)));
}

async fn the_register_lists_by_prefix(store: &dyn Store) {
    for key in ["a/1", "a/2", "a/3", "a", "b/1", "a0", "a/\u{10ffff}"] {
        store.put(key, key.into(), Expect::Absent).await.unwrap().unwrap();
    }
    let cases: [(&str, Option<&str>, usize, &[&str]); 8] = [
        ("a/", None, 10, &["a/1", "a/2", "a/3", "a/\u{10ffff}"]),
        ("a/", None, 2, &["a/1", "a/2"]),
        ("a/", Some("a/2"), 10, &["a/3", "a/\u{10ffff}"]),
        ("a/", Some("a/25"), 1, &["a/3"]),
        ("a/", Some("b"), 10, &[]),
        ("", None, 100, &["a", "a/1", "a/2", "a/3", "a/\u{10ffff}", "a0", "b/1"]),
        ("c", None, 10, &[]),
        ("a/", None, 0, &[]),
    ];
    for (prefix, after, limit, expected) in cases {
        let found = store.list(prefix, after, limit).await.unwrap();
        let keys: Vec<_> = found.iter().map(|(key, _)| key.as_str()).collect();
        assert_eq!(keys, expected, "{prefix} after {after:?}");
        assert!(found.iter().all(|(key, it)| it.value == key.as_bytes() && it.version == 1));
    }
}

async fn of_racing_writers_exactly_one_wins_each_version(store: &dyn Store) {
    for version in 0..20_u64 {
        let expect = if version == 0 { Expect::Absent } else { Expect::Version(version) };
        let race = (0..5_u8).map(|writer| store.put("k", vec![writer], expect)).collect();
        let results = join_all(race).await;
        let won: Vec<_> = results.into_iter().filter_map(|result| result.unwrap().ok()).collect();
        assert_eq!(won, [version + 1]);
    }
}

async fn leases_lapse_and_are_released(store: &dyn Store) {
    let long = Duration::from_hours(1);
    store.lease("p/a", vec![1], long).await.unwrap();
    store.lease("p/b", vec![2], long).await.unwrap();
    store.lease("q/c", vec![3], long).await.unwrap();
    store.lease("p/gone", vec![4], Duration::ZERO).await.unwrap();
    store.lease("p/a", vec![5], long).await.unwrap();
    let live = |pairs: &[(&str, u8)]| pairs.iter().map(|(key, value)| ((*key).to_owned(), vec![*value])).collect();
    let expected: Vec<(String, Vec<u8>)> = live(&[("p/a", 5), ("p/b", 2)]);
    assert_eq!(store.leases("p/").await.unwrap(), expected);
    store.release("p/a").await.unwrap();
    store.release("p/never").await.unwrap();
    let expected: Vec<(String, Vec<u8>)> = live(&[("p/b", 2)]);
    assert_eq!(store.leases("p/").await.unwrap(), expected);
}
