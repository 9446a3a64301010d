//! What every `chat::History` does. Each case gets an empty one.

use chat::{AppendError, Arrival, DeviceId, Entry, History, Inserted, OrderKey, Path, Sealed};

use crate::fixture::Chain;

macro_rules! contract {
    ($($case:ident),* $(,)?) => {
        mod memory {
            $(#[tokio::test] async fn $case() { super::$case(&store::MemoryHistory::new()).await; })*
        }
        mod sqlite {
            $(#[tokio::test] async fn $case() {
                let directory = tempfile::tempdir().unwrap();
                let history = store::SqliteHistory::open(directory.path()).unwrap();
                super::$case(&history).await;
            })*
        }
    };
}

contract!(
    the_first_arrival_counts,
    the_chain_rule_holds,
    the_cursor_stops_at_the_first_hole,
    the_cursor_crosses_what_is_passed_over,
    a_number_that_was_passed_over_can_still_be_given,
    passing_over_makes_no_channel,
    numbers_are_never_taken_back,
    the_timeline_shows_numbered_entries_before_pending_ones,
    the_timeline_pages_backwards,
    marks_name_the_holders_of_what_they_pass,
    pending_entries_are_listed_in_order,
    heads_and_chains_span_channels,
    settings_are_kept,
);

fn arrival(sealed: &Sealed, path: Path) -> Arrival {
    Arrival { sealed: sealed.clone(), path, received_at_ms: 1_000 + sealed.envelope().n }
}

async fn insert_all(history: &dyn History, entries: &[&Sealed]) {
    let arrivals = entries.iter().map(|sealed| arrival(sealed, Path::Direct)).collect();
    for inserted in history.insert(arrivals).await.unwrap() {
        assert_eq!(inserted, Ok(Inserted::New));
    }
}

fn keys(entries: &[Entry]) -> Vec<OrderKey> {
    entries.iter().map(Entry::order_key).collect()
}

fn pending(sealed: &Sealed) -> OrderKey {
    OrderKey::Pending { lamport: sealed.envelope().lamport, id: sealed.id() }
}

async fn the_first_arrival_counts(history: &dyn History) {
    let mut alice = Chain::new(1, "general");
    let (a, b) = (alice.say("a"), alice.say("b"));
    let arrivals = vec![arrival(&a, Path::Direct), arrival(&a, Path::Tracker), arrival(&b, Path::Own)];
    let results = history.insert(arrivals).await.unwrap();
    assert_eq!(results, [Ok(Inserted::New), Ok(Inserted::Known), Ok(Inserted::New)]);
    assert_eq!(history.insert(vec![arrival(&b, Path::Relayed)]).await.unwrap(), [Ok(Inserted::Known)]);
    let shown = history.timeline(alice.channel(), None, 10).await.unwrap();
    let ways: Vec<_> = shown.iter().map(|entry| (entry.path, entry.received_at_ms, entry.seq)).collect();
    assert_eq!(ways, [(Path::Direct, 1_001, None), (Path::Own, 1_002, None)]);
    assert_eq!(shown[0].sealed.bytes(), a.bytes());
    assert_eq!(shown[0].sealed.signature(), a.signature());
    assert_eq!(history.channels().await.unwrap(), [alice.channel().clone()]);
}

async fn the_chain_rule_holds(history: &dyn History) {
    let mut alice = Chain::new(1, "general");
    let fork = alice.fork("x");
    let chain = alice.say_many(3);
    let result = history.insert(vec![arrival(&chain[1], Path::Direct)]).await.unwrap();
    assert_eq!(result, [Err(AppendError::Gap { expected_n: 1 })]);
    assert!(history.channels().await.unwrap().is_empty());
    let arrivals = [&chain[0], &fork, &chain[2], &chain[1]].map(|sealed| arrival(sealed, Path::Direct));
    let results = history.insert(arrivals.into()).await.unwrap();
    let expected =
        [Ok(Inserted::New), Err(AppendError::Fork), Err(AppendError::Gap { expected_n: 2 }), Ok(Inserted::New)];
    assert_eq!(results, expected);
}

async fn the_cursor_stops_at_the_first_hole(history: &dyn History) {
    let mut alice = Chain::new(1, "general");
    let chain = alice.say_many(4);
    insert_all(history, &chain.iter().collect::<Vec<_>>()).await;
    let channel = alice.channel();
    assert_eq!(history.cursor(channel).await.unwrap(), 0);
    let steps: [(usize, u64, u64); 4] = [(1, 2, 0), (0, 1, 2), (3, 5, 2), (2, 3, 3)];
    for (index, seq, cursor) in steps {
        history.sequence(channel, vec![(chain[index].id(), seq)]).await.unwrap();
        assert_eq!(history.cursor(channel).await.unwrap(), cursor, "after {seq}");
    }
    let elsewhere = Chain::new(1, "random");
    assert_eq!(history.cursor(elsewhere.channel()).await.unwrap(), 0);
}

async fn the_cursor_crosses_what_is_passed_over(history: &dyn History) {
    let mut alice = Chain::new(1, "general");
    let chain = alice.say_many(3);
    insert_all(history, &chain.iter().collect::<Vec<_>>()).await;
    let channel = alice.channel();
    history.pass_over(channel, vec![4, 2, 7]).await.unwrap();
    assert_eq!(history.cursor(channel).await.unwrap(), 0);
    history.sequence(channel, vec![(chain[0].id(), 1)]).await.unwrap();
    assert_eq!(history.cursor(channel).await.unwrap(), 2);
    history.sequence(channel, vec![(chain[1].id(), 3), (chain[2].id(), 6)]).await.unwrap();
    assert_eq!(history.cursor(channel).await.unwrap(), 4);
    history.pass_over(channel, vec![1, 4, 5, 5]).await.unwrap();
    assert_eq!(history.cursor(channel).await.unwrap(), 7);
    let elsewhere = Chain::new(1, "random");
    assert_eq!(history.cursor(elsewhere.channel()).await.unwrap(), 0);
    let expected = [1, 3, 6].map(OrderKey::Logged);
    assert_eq!(keys(&history.timeline(channel, None, 10).await.unwrap()), expected);
}

async fn a_number_that_was_passed_over_can_still_be_given(history: &dyn History) {
    let mut alice = Chain::new(1, "general");
    let chain = alice.say_many(2);
    insert_all(history, &chain.iter().collect::<Vec<_>>()).await;
    let channel = alice.channel();
    history.pass_over(channel, vec![1, 3]).await.unwrap();
    history.sequence(channel, vec![(chain[0].id(), 1), (chain[1].id(), 3)]).await.unwrap();
    assert_eq!(keys(&history.timeline(channel, None, 10).await.unwrap()), [1, 3].map(OrderKey::Logged));
    assert!(history.unsequenced(channel, None, 10).await.unwrap().is_empty());
    assert_eq!(history.cursor(channel).await.unwrap(), 1);
    history.pass_over(channel, vec![2]).await.unwrap();
    assert_eq!(history.cursor(channel).await.unwrap(), 3);
}

async fn passing_over_makes_no_channel(history: &dyn History) {
    let mut alice = Chain::new(1, "general");
    history.pass_over(alice.channel(), vec![1, 2]).await.unwrap();
    assert_eq!(history.cursor(alice.channel()).await.unwrap(), 2);
    assert!(history.channels().await.unwrap().is_empty(), "nothing is held");
    let a = alice.say("a");
    insert_all(history, &[&a]).await;
    assert_eq!(history.channels().await.unwrap(), [alice.channel().clone()]);
    history.sequence(alice.channel(), vec![(a.id(), 3)]).await.unwrap();
    assert_eq!(history.cursor(alice.channel()).await.unwrap(), 3);
}

async fn numbers_are_never_taken_back(history: &dyn History) {
    let (mut alice, mut elsewhere) = (Chain::new(1, "general"), Chain::new(1, "random"));
    let (a, x, not_held) = (alice.say("a"), elsewhere.say("x"), alice.say("b"));
    insert_all(history, &[&a, &x]).await;
    let numbers = vec![(a.id(), 1), (not_held.id(), 2), (a.id(), 7), (x.id(), 3)];
    history.sequence(alice.channel(), numbers).await.unwrap();
    assert_eq!(keys(&history.timeline(alice.channel(), None, 10).await.unwrap()), [OrderKey::Logged(1)]);
    assert_eq!(keys(&history.timeline(elsewhere.channel(), None, 10).await.unwrap()), [pending(&x)]);
    assert_eq!(history.cursor(alice.channel()).await.unwrap(), 1);
}

async fn the_timeline_shows_numbered_entries_before_pending_ones(history: &dyn History) {
    let (mut alice, mut bob) = (Chain::new(1, "general"), Chain::new(2, "general"));
    let (a1, a2, b1, b2) = (alice.say("a1"), alice.say_at("a2", 9), bob.say("b1"), bob.say_at("b2", 9));
    insert_all(history, &[&a1, &a2, &b1, &b2]).await;
    history.sequence(alice.channel(), vec![(b1.id(), 1), (a1.id(), 2)]).await.unwrap();
    let mut expected = vec![OrderKey::Logged(1), OrderKey::Logged(2), pending(&a2), pending(&b2)];
    expected.sort();
    assert_eq!(expected[1], OrderKey::Logged(2), "pending entries of one Lamport time stand last, by id");
    assert_eq!(keys(&history.timeline(alice.channel(), None, 10).await.unwrap()), expected);
}

async fn the_timeline_pages_backwards(history: &dyn History) {
    let (mut alice, mut bob) = (Chain::new(1, "general"), Chain::new(2, "general"));
    let (said, echoed) = (alice.say_many(6), bob.say_many(6));
    insert_all(history, &said.iter().chain(&echoed).collect::<Vec<_>>()).await;
    let numbers = said.iter().take(3).chain(echoed.iter().take(2)).zip(1..).map(|(it, seq)| (it.id(), seq)).collect();
    history.sequence(alice.channel(), numbers).await.unwrap();
    let whole = keys(&history.timeline(alice.channel(), None, 100).await.unwrap());
    assert_eq!(whole.len(), 12);
    assert!(whole.is_sorted());
    for page in 1..=13 {
        let mut pages = Vec::new();
        let mut before = None;
        loop {
            let mut older = keys(&history.timeline(alice.channel(), before, page).await.unwrap());
            assert!(older.len() <= page);
            if older.is_empty() {
                break;
            }
            before = Some(older[0]);
            older.append(&mut pages);
            pages = older;
        }
        assert_eq!(pages, whole, "pages of {page}");
    }
    assert!(history.timeline(alice.channel(), None, 0).await.unwrap().is_empty());
}

async fn marks_name_the_holders_of_what_they_pass(history: &dyn History) {
    let (mut alice, bob) = (Chain::new(1, "general"), Chain::new(2, "general"));
    let (channel, device) = (alice.channel().clone(), alice.device());
    let (low, high) = (DeviceId([0; 32]), DeviceId([255; 32]));
    history.acknowledge(&channel, &device, 3, high).await.unwrap();
    assert!(history.channels().await.unwrap().is_empty(), "a mark alone is no channel");
    let chain = alice.say_many(4);
    insert_all(history, &chain.iter().collect::<Vec<_>>()).await;
    history.acknowledge(&channel, &device, 2, low).await.unwrap();
    history.acknowledge(&channel, &device, 1, high).await.unwrap();
    history.acknowledge(&channel, &bob.device(), 4, low).await.unwrap();
    let shown = history.timeline(&channel, None, 10).await.unwrap();
    let holders: Vec<_> = shown.iter().map(|entry| entry.holders.clone()).collect();
    assert_eq!(holders, [vec![low, high], vec![low, high], vec![high], vec![]]);
}

async fn pending_entries_are_listed_in_order(history: &dyn History) {
    let (mut alice, mut bob) = (Chain::new(1, "general"), Chain::new(2, "general"));
    let (said, echoed) = (alice.say_many(4), bob.say_many(4));
    insert_all(history, &said.iter().chain(&echoed).collect::<Vec<_>>()).await;
    history.sequence(alice.channel(), vec![(said[0].id(), 1)]).await.unwrap();
    let mut expected: Vec<_> = said[1..].iter().chain(&echoed).collect();
    expected.sort_by_key(|sealed| pending(sealed));
    let channel = alice.channel();
    let ids = |found: Vec<Sealed>| found.iter().map(Sealed::id).collect::<Vec<_>>();
    let all: Vec<_> = expected.iter().map(|sealed| sealed.id()).collect();
    assert_eq!(ids(history.unsequenced(channel, None, 100).await.unwrap()), all);
    assert_eq!(ids(history.unsequenced(channel, Some(OrderKey::Logged(9)), 2).await.unwrap()), all[..2]);
    let after = Some(pending(expected[2]));
    assert_eq!(ids(history.unsequenced(channel, after, 3).await.unwrap()), all[3..6]);
}

async fn heads_and_chains_span_channels(history: &dyn History) {
    let (mut here, mut there) = (Chain::new(1, "general"), Chain::new(1, "random"));
    let (a, b, x) = (here.say("a"), here.say("b"), there.say("x"));
    insert_all(history, &[&a, &b, &x]).await;
    let expected = [(&here, &b), (&there, &x)]
        .map(|(chain, newest)| (chain.channel().clone(), chat::Head::of(newest.envelope(), newest.id())));
    assert_eq!(history.heads().await.unwrap(), expected);
    assert_eq!(history.chain(here.channel(), &here.device(), 2, 10).await.unwrap(), [b]);
    assert_eq!(history.chain(here.channel(), &here.device(), 0, 1).await.unwrap(), [a]);
    assert!(history.chain(there.channel(), &there.device(), 2, 10).await.unwrap().is_empty());
}

async fn settings_are_kept(history: &dyn History) {
    assert_eq!(history.get("roster/general").await, Ok(None));
    history.put("roster/general", b"one".to_vec()).await.unwrap();
    history.put("roster/random", b"two".to_vec()).await.unwrap();
    history.put("tracker", b"key".to_vec()).await.unwrap();
    history.put("roster/general", b"newer".to_vec()).await.unwrap();
    assert_eq!(history.get("roster/general").await, Ok(Some(b"newer".to_vec())));
    let listed = history.list("roster/").await.unwrap();
    let expected = [("roster/general", "newer"), ("roster/random", "two")];
    assert_eq!(listed, expected.map(|(key, value)| (key.to_owned(), value.as_bytes().to_vec())));
}
