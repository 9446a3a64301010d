//! A log that holds what a peer must refuse: it is passed over, and the log is still followed to its end.

use std::sync::Arc;
use std::time::Duration;

use chat::client::{Command, Notice};
use chat::{Appended, Arrival, Body, DeliveryState, DeviceKey, Draft, Head, Path, Sealed, Store};
use engine::{Server, Stop};
use store::MemoryStore;
use tracker::TrackerSettings;
use weaprous::session::Sessions;

use crate::stage::{Actor, Running, channel, held, user};

/// A device whose envelopes get into the log, or into a history, by the test's hand.
struct Writer {
    key: DeviceKey,
    name: &'static str,
    head: Option<Head>,
}

impl Writer {
    fn new(seed: u8, name: &'static str) -> Self {
        Self { key: DeviceKey::from_seed([seed; 32]), name, head: None }
    }

    fn say(&mut self, text: &str) -> Sealed {
        let body = Body::Text { text: text.to_owned() };
        let draft = Draft { channel: channel("general"), author: user(self.name), sent_at_ms: 0, body };
        let sealed = Sealed::seal(&self.key, &draft.follow(self.key.id(), self.head.as_ref(), 0)).unwrap();
        self.head = Some(Head::of(sealed.envelope(), sealed.id()));
        sealed
    }
}

async fn append(store: &Arc<dyn Store>, entries: Vec<Sealed>) {
    for result in store.append(entries).await.unwrap() {
        assert!(matches!(result, Ok(Appended { .. })), "{result:?}");
    }
}

/// Waits until a peer has followed the log of `general` to its end, and has told what there was to tell of that.
async fn until_level(actor: &Actor, peer: &mut Running, store: &Arc<dyn Store>) {
    let general = channel("general");
    let deadline = tokio::time::Instant::now() + Duration::from_secs(20);
    loop {
        peer.forget();
        peer.command(Command::Peers).await; // any answer is a sign of life to wait for
        peer.find(|notice| matches!(notice, Notice::Peers(_)).then_some(())).await;
        let (cursor, last) = (actor.history.cursor(&general).await.unwrap(), store.last(&general).await.unwrap());
        if cursor == last {
            return;
        }
        assert!(tokio::time::Instant::now() < deadline, "the cursor stays at {cursor} of {last}");
    }
}

#[tokio::test]
async fn a_fork_in_the_log_does_not_stop_the_cursor() {
    let store: Arc<dyn Store> = Arc::new(MemoryStore::new());
    let accounts = accounts::Accounts::new(store.clone());
    let sessions = Arc::new(accounts::StoreSessions::new(store.clone()));
    let sessions = Arc::new(Sessions::new(sessions, Duration::from_hours(1)));
    let service = tracker::app(TrackerSettings::new(store.clone(), accounts, sessions)).await.unwrap();
    let service = service.into_service().unwrap();
    let start = move || {
        let workers = engine::Settings { workers: Some(1), ..engine::Settings::default() };
        let server = Server::new(workers).listen("127.0.0.1:0".parse().unwrap(), service).unwrap();
        server.start(Stop::new(), Duration::ZERO).unwrap()
    };
    let serving = tokio::task::spawn_blocking(start).await.unwrap();
    let url = format!("http://{}", serving.local_addrs()[0]);

    let alice = Actor::new("alice");
    let mut settings = alice.settings();
    settings.tracker = Some(url.parse().unwrap());
    let mut a = alice.run_with(settings.clone()).await;
    a.say("hello").await;
    a.find(stored).await;
    a.end().unwrap();

    // mallory told alice one thing and the tracker another; what follows there, alice cannot even put in its place
    let (mut told_alice, mut told_all) = (Writer::new(66, "mallory"), Writer::new(66, "mallory"));
    let mut carol = Writer::new(67, "carol");
    let sealed = told_alice.say("to alice");
    alice.history.insert(vec![Arrival { sealed, path: Path::Direct, received_at_ms: 0 }]).await.unwrap();
    append(&store, ["fork 1", "fork 2", "fork 3", "fork 4"].map(|text| told_all.say(text)).into()).await;
    append(&store, vec![carol.say("before")]).await;
    let mut a = alice.run_with(settings).await;
    a.hears("before").await;
    until_level(&alice, &mut a, &store).await;
    a.forget();

    append(&store, vec![carol.say("after"), told_all.say("fork 5")]).await;
    a.hears("after").await;
    a.say("mine").await;
    a.find(stored).await;
    for text in ["later", "last"] {
        append(&store, vec![carol.say(text)]).await;
        a.hears(text).await; // and everything about what was before it
    }
    assert!(!a.seen.iter().any(|notice| matches!(notice, Notice::Gap { .. })), "{:#?}", a.seen);
    until_level(&alice, &mut a, &store).await;
    let texts = held(&alice.history, "general").await;
    for text in ["hello", "to alice", "before", "after", "mine", "later", "last"] {
        assert!(texts.iter().any(|held| held == text), "{text} is not in {texts:?}");
    }
    assert_eq!(texts.len(), 7, "{texts:?}");
    a.end().unwrap();
    tokio::task::spawn_blocking(move || drop(serving)).await.unwrap();
}

/// An own message is in the log.
fn stored(notice: &Notice) -> Option<()> {
    matches!(notice, Notice::State { state: DeliveryState::Stored { .. }, .. }).then_some(())
}
