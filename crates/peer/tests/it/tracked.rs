//! Peers with a tracker: meeting each other through it, talking on without it, agreeing with it afterwards.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use chat::client::{Command, Notice};
use chat::{Body, ChannelName, DeliveryState, History as _, OrderKey, Path, Store, Visibility};
use engine::{Running as Serving, Server, Stop, Tls, TlsSettings, Trust};
use peer::Settings;
use store::MemoryStore;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tracker::TrackerSettings;
use weaprous::session::Sessions;

use crate::stage::{Actor, Running, channel, held, user};

/// A tracker in this process. Its store outlives it, so that it can be killed and started again.
struct Tracker {
    store: Arc<dyn Store>,
    address: SocketAddr,
    serving: Option<Serving>,
}

impl Tracker {
    async fn start() -> Self {
        let store: Arc<dyn Store> = Arc::new(MemoryStore::new());
        let serving = serve(store.clone(), "127.0.0.1:0".parse().unwrap()).await;
        Self { store, address: serving.local_addrs()[0], serving: Some(serving) }
    }

    /// Ends it without a goodbye to anybody.
    async fn kill(&mut self) {
        let serving = self.serving.take();
        tokio::task::spawn_blocking(move || drop(serving)).await.unwrap();
    }

    async fn start_again(&mut self) {
        self.serving = Some(serve(self.store.clone(), self.address).await);
    }

    fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    async fn run(&self, actor: &Actor) -> Running {
        actor.run_with(self.settings(actor)).await
    }

    fn settings(&self, actor: &Actor) -> Settings {
        let mut settings = actor.settings();
        settings.tracker = Some(self.url().parse().unwrap());
        settings
    }

    /// The texts of a channel's log, in order.
    async fn log(&self, name: &str) -> Vec<String> {
        let entries = self.store.read(&channel(name), 0, 100_000).await.unwrap();
        assert!(entries.iter().map(|entry| entry.seq).eq(1..=entries.len() as u64), "numbers without holes");
        entries.iter().filter_map(|entry| entry.sealed.envelope().body.text().map(str::to_owned)).collect()
    }

    /// Waits until a channel's log holds so many texts.
    async fn log_of(&self, name: &str, count: usize) -> Vec<String> {
        let mut watch = self.store.watch();
        let waiting = async {
            loop {
                let log = self.log(name).await;
                if log.len() >= count {
                    return log;
                }
                watch.changed().await.unwrap();
            }
        };
        tokio::time::timeout(Duration::from_secs(30), waiting).await.expect("the log grows")
    }

    /// A counter of `/metrics`.
    async fn counter(&self, name: &str) -> u64 {
        let text = self.http("GET /metrics", "", "").await;
        let line = text.lines().find(|line| line.starts_with(name)).unwrap_or_else(|| panic!("no {name} in {text}"));
        line.rsplit(' ').next().unwrap().parse().unwrap()
    }

    /// One request of a client without a key; gives head and content.
    async fn http(&self, line: &str, token: &str, json: &str) -> String {
        let mut socket = TcpStream::connect(self.address).await.unwrap();
        let authorization = if token.is_empty() { String::new() } else { format!("Authorization: Bearer {token}\r\n") };
        let request = format!(
            "{line} HTTP/1.1\r\nHost: {}\r\n{authorization}Connection: close\r\nContent-Type: application/json\r\n\
             Content-Length: {}\r\n\r\n{json}",
            self.address,
            json.len()
        );
        socket.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        socket.read_to_string(&mut answer).await.unwrap();
        answer
    }

    /// Registers a client without a key; gives its token.
    async fn register_hosted(&self, name: &str) -> String {
        let answer = self.http("POST /submit-info", "", &format!(r#"{{"username":"{name}"}}"#)).await;
        let content = answer.split_once("\r\n\r\n").unwrap().1;
        let json: serde_json::Value = serde_json::from_str(content).unwrap();
        json["token"].as_str().unwrap_or_else(|| panic!("{answer}")).to_owned()
    }
}

impl Drop for Tracker {
    fn drop(&mut self) {
        // dropping it waits for its threads, which this thread's event loop must not do
        let serving = self.serving.take();
        let _ = std::thread::spawn(move || drop(serving)).join();
    }
}

async fn serve(store: Arc<dyn Store>, address: SocketAddr) -> Serving {
    serve_over(None, store, address).await
}

async fn serve_over(tls: Option<Tls>, store: Arc<dyn Store>, address: SocketAddr) -> Serving {
    let accounts = accounts::Accounts::new(store.clone());
    let sessions = accounts::StoreSessions::new(store.clone());
    let sessions = Arc::new(Sessions::new(Arc::new(sessions), Duration::from_hours(1)));
    let mut settings = TrackerSettings::new(store, accounts, sessions);
    settings.lease = Duration::from_secs(2);
    settings.sweep = Duration::from_millis(100);
    let service = tracker::app(settings).await.unwrap().into_service().unwrap();
    let start = move || {
        let workers = engine::Settings { workers: Some(1), ..engine::Settings::default() };
        let server = match tls {
            Some(tls) => Server::new(workers).listen_tls(address, tls, service).unwrap(),
            None => Server::new(workers).listen(address, service).unwrap(),
        };
        server.start(Stop::new(), Duration::ZERO).unwrap()
    };
    tokio::task::spawn_blocking(start).await.unwrap() // it makes event loops of its own
}

/// Waits until a peer is in `general` and has the tracker.
async fn in_general(peer: &mut Running) {
    peer.find(|notice| match notice {
        Notice::Channels(channels) => {
            channels.iter().any(|one| one.member && one.name.as_str() == "general").then_some(())
        }
        _ => None,
    })
    .await;
}

async fn trouble(peer: &mut Running, start: &str) {
    peer.find(|notice| match notice {
        Notice::Trouble { what, .. } if what.starts_with(start) => Some(()),
        _ => None,
    })
    .await;
}

#[tokio::test]
async fn three_strangers_meet_talk_directly_and_the_tracker_has_it_all() {
    let tracker = Tracker::start().await;
    let (alice, bob, carol) = (Actor::new("alice"), Actor::new("bob"), Actor::new("carol"));
    let mut a = tracker.run(&alice).await;
    a.say("first, said before anything was ready").await;
    let mut b = tracker.run(&bob).await;
    let mut c = tracker.run(&carol).await;
    for (peer, others) in [(&mut a, [&bob, &carol]), (&mut b, [&alice, &carol]), (&mut c, [&alice, &bob])] {
        for other in others {
            assert_eq!(peer.links_with(other.device).await, Path::Direct);
        }
    }
    // once everybody has the first words, everybody is level, and what is said next goes straight
    a.delivers("first, said before anything was ready", bob.device).await;
    a.delivers("first, said before anything was ready", carol.device).await;
    a.say("hello all").await;
    assert_eq!(b.hears("hello all").await.path, Path::Direct);
    assert_eq!(c.hears("hello all").await.path, Path::Direct);
    a.delivers("hello all", bob.device).await;
    a.delivers("hello all", carol.device).await;
    c.hears("first, said before anything was ready").await;
    assert_eq!(tracker.log_of("general", 2).await, ["first, said before anything was ready", "hello all"]);
    assert_eq!(tracker.counter("weaprous_relay_streams_total").await, 0);
    assert_eq!(tracker.counter("weaprous_relay_bytes_total").await, 0);
}

#[tokio::test]
async fn two_who_make_the_default_channel_at_once_share_it() {
    for _ in 0..5 {
        let tracker = Tracker::start().await;
        let (alice, bob) = (Actor::new("alice"), Actor::new("bob"));
        let (mut a, mut b) = tokio::join!(tracker.run(&alice), tracker.run(&bob));
        a.say("from alice").await;
        b.say("from bob").await;
        a.hears("from bob").await;
        b.hears("from alice").await;
        assert_eq!(tracker.log_of("general", 2).await.len(), 2);
    }
}

#[tokio::test]
async fn the_tracker_dies_and_comes_back_and_everybody_agrees() {
    let mut tracker = Tracker::start().await;
    let (alice, bob, carol) = (Actor::new("alice"), Actor::on_disk("bob"), Actor::new("carol"));
    let mut a = tracker.run(&alice).await;
    let mut b = tracker.run(&bob).await;
    let mut c = tracker.run(&carol).await;
    for (peer, others) in [(&mut a, [&bob, &carol]), (&mut b, [&alice, &carol]), (&mut c, [&alice, &bob])] {
        for other in others {
            peer.links_with(other.device).await;
        }
    }
    a.say("before").await;
    tracker.log_of("general", 1).await;
    tracker.kill().await;
    for peer in [&mut a, &mut b, &mut c] {
        peer.find(|notice| matches!(notice, Notice::Tracker { online: false, .. }).then_some(())).await;
    }
    for number in 0..10 {
        a.say(&format!("alice {number}")).await;
        b.say(&format!("bob {number}")).await;
    }
    c.say("carol goes").await;
    for peer in [&mut a, &mut b] {
        peer.hears("carol goes").await;
    }
    a.hears("bob 9").await;
    b.hears("alice 9").await;
    c.end().unwrap(); // what she said is with the others only
    tracker.start_again().await;
    let log = tracker.log_of("general", 22).await;
    let mut sorted = log.clone();
    sorted.sort();
    sorted.dedup();
    assert_eq!((log.len(), sorted.len()), (22, 22), "everything once");
    for (actor, peer) in [(&alice, &mut a), (&bob, &mut b)] {
        until_held(actor, peer, &log).await;
    }
    let mut c = tracker.run(&carol).await;
    until_held(&carol, &mut c, &log).await;
}

/// Waits until an actor's history shows exactly the log.
async fn until_held(actor: &Actor, peer: &mut Running, log: &[String]) {
    let deadline = tokio::time::Instant::now() + Duration::from_secs(30);
    while held(&actor.history, "general").await != log {
        assert!(tokio::time::Instant::now() < deadline, "{:?}", held(&actor.history, "general").await);
        peer.command(Command::Peers).await; // any answer is a sign of life to wait for
        peer.forget();
        peer.find(|notice| matches!(notice, Notice::Peers(_)).then_some(())).await;
    }
}

/// Waits until an actor's history says that a device holds something.
async fn until_holder(actor: &Actor, peer: &mut Running, device: chat::DeviceId) {
    let deadline = tokio::time::Instant::now() + Duration::from_secs(30);
    loop {
        let entries = actor.history.timeline(&channel("general"), None, 100).await.unwrap();
        if entries.iter().any(|entry| entry.holders.contains(&device)) {
            return;
        }
        assert!(tokio::time::Instant::now() < deadline, "{entries:?}");
        tokio::time::sleep(Duration::from_millis(10)).await; // the deadline above decides, not this pause
        peer.command(Command::Peers).await;
    }
}

/// Waits until a peer knows that somebody listens at an address.
async fn knows_address(peer: &mut Running, address: SocketAddr) {
    let deadline = tokio::time::Instant::now() + Duration::from_secs(30);
    loop {
        peer.forget();
        peer.command(Command::Peers).await;
        let peers =
            peer.find(|notice| if let Notice::Peers(peers) = notice { Some(peers.clone()) } else { None }).await;
        if peers.iter().any(|peer| peer.address == Some(address)) {
            return;
        }
        assert!(tokio::time::Instant::now() < deadline, "{peers:?}");
    }
}

#[tokio::test]
async fn links_are_made_again_while_the_tracker_is_away() {
    let mut tracker = Tracker::start().await;
    let (alice, bob) = (Actor::new("alice"), Actor::on_disk("bob"));
    let mut a = tracker.run(&alice).await;
    let mut b = tracker.run(&bob).await;
    b.links_with(alice.device).await;
    a.links_with(bob.device).await;
    knows_address(&mut b, a.listening).await;
    tracker.kill().await;
    b.end().unwrap();
    for number in 0..20 {
        a.say(&format!("m{number}")).await;
    }
    let mut again = tracker.run(&bob).await;
    again.links_with(alice.device).await;
    again.hears("m19").await;
    again.say("got them").await;
    a.hears("got them").await;
    tracker.start_again().await;
    assert_eq!(tracker.log_of("general", 21).await.len(), 21);
}

/// Two who give addresses at which nobody listens find each other all the same, and one hears the other. Both go on.
async fn speak_through_the_relay(settings: impl Fn(&Actor) -> Settings, text: &str) -> (Running, Running) {
    let (alice, bob) = (Actor::new("alice"), Actor::new("bob"));
    let hidden = |actor: &Actor| {
        let mut settings = settings(actor);
        settings.advertise = vec!["127.0.0.1:1".parse().unwrap()];
        settings
    };
    let mut a = alice.run_with(hidden(&alice)).await;
    let mut b = bob.run_with(hidden(&bob)).await;
    assert_eq!(a.links_with(bob.device).await, Path::Relayed);
    assert_eq!(b.links_with(alice.device).await, Path::Relayed);
    a.say(text).await;
    a.delivers(text, bob.device).await;
    // the tracker also tells it by itself: either way may be first, the link is what acknowledges
    b.hears(text).await;
    (a, b)
}

#[tokio::test]
async fn who_cannot_be_reached_is_reached_through_the_relay() {
    let tracker = Tracker::start().await;
    let _both = speak_through_the_relay(|actor| tracker.settings(actor), "through the middle").await;
    assert!(tracker.counter("weaprous_relay_streams_total").await >= 1);
    assert!(tracker.counter("weaprous_relay_bytes_total").await > 0);
}

#[tokio::test]
async fn a_tracker_behind_https_carries_everything_the_relay_included() {
    let folder = tempfile::tempdir().unwrap();
    let signed = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
    let (chain, key) = (folder.path().join("tracker.crt"), folder.path().join("tracker.key"));
    std::fs::write(&chain, signed.cert.pem()).unwrap();
    std::fs::write(&key, signed.signing_key.serialize_pem()).unwrap();
    let tls = Tls::new(TlsSettings::new(&chain, key)).unwrap();
    let store: Arc<dyn Store> = Arc::new(MemoryStore::new());
    let serving = serve_over(Some(tls), store.clone(), "127.0.0.1:0".parse().unwrap()).await;
    let address = serving.local_addrs()[0];
    let tracker = Tracker { store, address, serving: Some(serving) };

    let over_tls = |actor: &Actor| {
        let mut settings = actor.settings();
        settings.tracker = Some(format!("https://localhost:{}", address.port()).parse().unwrap());
        settings.trust = Trust::File(chain.clone());
        settings
    };
    let _both = speak_through_the_relay(over_tls, "through TLS").await;
    assert_eq!(tracker.log_of("general", 1).await, ["through TLS"]);
}

#[tokio::test]
async fn clients_without_a_key_are_heard_and_marked_as_hosted() {
    let tracker = Tracker::start().await;
    let alice = Actor::new("alice");
    let mut a = tracker.run(&alice).await;
    in_general(&mut a).await;
    let token = tracker.register_hosted("harry").await;
    let joined = tracker.http("POST /join-list", &token, r#"{"channel":"general"}"#).await;
    assert!(joined.starts_with("HTTP/1.1 20"), "{joined}");
    let sent = tracker.http("POST /send-message", &token, r#"{"channel":"general","text":"by curl"}"#).await;
    assert!(sent.starts_with("HTTP/1.1 201"), "{sent}");
    let heard = a.hears("by curl").await;
    assert_eq!((heard.author, heard.path, heard.hosted), (user("harry"), Path::Tracker, true));
    assert!(matches!(heard.key, OrderKey::Logged(_)));
    a.say("hello curl").await;
    tracker.log_of("general", 2).await;
    let messages = tracker.http("GET /get-messages?channel=general&after=0", &token, "").await;
    assert!(messages.contains("hello curl"), "{messages}");
}

#[tokio::test]
async fn a_late_comer_gets_the_whole_log() {
    let tracker = Tracker::start().await;
    let (alice, bob) = (Actor::new("alice"), Actor::on_disk("bob"));
    let mut a = tracker.run(&alice).await;
    for number in 0..350 {
        a.say(&format!("m{number}")).await;
    }
    let log = tracker.log_of("general", 350).await;
    a.end().unwrap();
    let mut b = tracker.run(&bob).await;
    b.hears("m349").await;
    until_held(&bob, &mut b, &log).await;
}

#[tokio::test]
async fn what_was_said_before_the_tracker_was_met_goes_out_later_also_after_a_restart() {
    let mut tracker = Tracker::start().await;
    let alice = Actor::on_disk("alice");
    tracker.kill().await;
    let mut a = tracker.run(&alice).await;
    a.say("early").await;
    a.find(|notice| matches!(notice, Notice::Tracker { online: false, .. }).then_some(())).await;
    a.end().unwrap();
    tracker.start_again().await;
    let mut a = tracker.run(&alice).await;
    a.say("late").await;
    assert_eq!(tracker.log_of("general", 2).await, ["early", "late"]);
    a.end().unwrap();
    let mut a = tracker.run(&alice).await;
    a.say("later").await;
    assert_eq!(tracker.log_of("general", 3).await, ["early", "late", "later"]);
}

#[tokio::test]
async fn own_messages_tell_when_they_are_stored() {
    let tracker = Tracker::start().await;
    let alice = Actor::new("alice");
    let mut a = tracker.run(&alice).await;
    a.say("alone").await;
    let id = a.hears("alone").await.id;
    let seq = a
        .find(|notice| match notice {
            Notice::State { id: of, state: DeliveryState::Stored { seq }, .. } if *of == id => Some(*seq),
            _ => None,
        })
        .await;
    assert_eq!(seq, Some(2), "after the making of the channel");
}

#[tokio::test]
async fn channels_are_made_joined_left_and_kept_private() {
    let tracker = Tracker::start().await;
    let (alice, bob) = (Actor::new("alice"), Actor::new("bob"));
    let mut a = tracker.run(&alice).await;
    let mut b = tracker.run(&bob).await;
    in_general(&mut a).await;
    in_general(&mut b).await;
    let news: ChannelName = channel("news");
    b.command(Command::Join { channel: news.clone() }).await;
    trouble(&mut b, "news: cannot come in").await;
    a.command(Command::Create { channel: news.clone(), visibility: Visibility::Private }).await;
    let joined = |notice: &Notice| match notice {
        Notice::Channels(channels) => {
            channels.iter().any(|one| one.member && one.name.as_str() == "news").then_some(())
        }
        _ => None,
    };
    a.find(joined).await;
    b.forget();
    b.command(Command::Join { channel: news.clone() }).await;
    trouble(&mut b, "news: cannot come in").await;
    a.command(Command::Invite { channel: news.clone(), user: user("bob") }).await;
    a.find(|notice| match notice {
        Notice::Message(message) if matches!(message.body, Body::Invite { .. }) => Some(()),
        _ => None,
    })
    .await;
    b.forget();
    b.command(Command::Join { channel: news.clone() }).await;
    b.find(joined).await;
    a.command(Command::Say { channel: news.clone(), text: "between us".to_owned() }).await;
    assert_eq!(b.hears("between us").await.channel, news);
    b.forget();
    b.command(Command::Leave { channel: news.clone() }).await;
    b.find(|notice| match notice {
        Notice::Channels(channels) => {
            (!channels.iter().any(|one| one.member && one.name.as_str() == "news")).then_some(())
        }
        _ => None,
    })
    .await;
    b.command(Command::Say { channel: news.clone(), text: "too late".to_owned() }).await;
    trouble(&mut b, "you are not in news").await;
    a.command(Command::Create { channel: news, visibility: Visibility::Public }).await;
    trouble(&mut a, "news: cannot be made").await;
    a.say("the default channel still works").await;
    b.hears("the default channel still works").await;
}

#[tokio::test]
async fn what_was_said_after_being_put_out_does_not_bar_the_way_back() {
    let tracker = Tracker::start().await;
    let (alice, bob) = (Actor::new("alice"), Actor::new("bob"));
    let general = channel("general");
    let mut a = tracker.run(&alice).await;
    in_general(&mut a).await; // so it is hers
    let mut b = tracker.run(&bob).await;
    in_general(&mut b).await;
    b.end().unwrap();
    a.command(Command::Remove { channel: general.clone(), user: user("bob") }).await;
    a.find(|notice| match notice {
        Notice::Message(message) if matches!(message.body, Body::Remove { .. }) => Some(()),
        _ => None,
    })
    .await;
    let mut b = bob.run().await; // where there is no tracker that could tell him
    b.say("unaware").await;
    b.hears("unaware").await;
    b.end().unwrap();
    let mut b = tracker.run(&bob).await;
    trouble(&mut b, "you are no longer in general").await;
    b.command(Command::Join { channel: general.clone() }).await;
    trouble(&mut b, "general: cannot come in: only members").await;
    a.command(Command::Invite { channel: general.clone(), user: user("bob") }).await;
    a.find(|notice| match notice {
        Notice::Message(message) if matches!(message.body, Body::Invite { .. }) => Some(()),
        _ => None,
    })
    .await;
    b.forget();
    b.command(Command::Join { channel: general.clone() }).await;
    in_general(&mut b).await;
    assert_eq!(tracker.log_of("general", 1).await, ["unaware"]);
}

#[tokio::test]
async fn direct_messages_need_no_joining() {
    let tracker = Tracker::start().await;
    let (alice, bob, carol) = (Actor::new("alice"), Actor::new("bob"), Actor::new("carol"));
    let mut a = tracker.run(&alice).await;
    let mut b = tracker.run(&bob).await;
    let mut c = tracker.run(&carol).await;
    in_general(&mut a).await;
    in_general(&mut c).await;
    b.links_with(alice.device).await;
    a.command(Command::Message { user: user("bob"), text: "psst".to_owned() }).await;
    assert_eq!(b.hears("psst").await.channel, channel("@alice+bob"));
    a.delivers("psst", bob.device).await;
    b.command(Command::Message { user: user("alice"), text: "what".to_owned() }).await;
    assert_eq!(a.hears("what").await.path, Path::Direct);
    tracker.log_of("@alice+bob", 2).await;
    a.say("in public").await;
    c.hears("in public").await;
    assert!(!c.texts().contains(&"psst".to_owned()));
    a.command(Command::Message { user: user("nobody"), text: "hello?".to_owned() }).await;
    a.find(|notice| match notice {
        Notice::Trouble { what, .. } if what.contains("nobody") => Some(()),
        _ => None,
    })
    .await;
}

#[tokio::test]
async fn the_first_direct_message_may_come_when_the_tracker_is_away() {
    let mut tracker = Tracker::start().await;
    let (alice, bob) = (Actor::new("alice"), Actor::new("bob"));
    let mut a = tracker.run(&alice).await;
    let mut b = tracker.run(&bob).await;
    a.links_with(bob.device).await;
    b.links_with(alice.device).await;
    for (actor, peer) in [(&alice, &mut a), (&bob, &mut b)] {
        let deadline = tokio::time::Instant::now() + Duration::from_secs(30);
        while actor.history.get("roster/@alice+bob").await.unwrap().is_none() {
            assert!(tokio::time::Instant::now() < deadline, "no roster for direct messages");
            peer.forget();
            peer.command(Command::Peers).await;
            peer.find(|notice| matches!(notice, Notice::Peers(_)).then_some(())).await;
        }
        peer.command(Command::Channels).await;
        let channels =
            peer.find(|notice| if let Notice::Channels(all) = notice { Some(all.clone()) } else { None }).await;
        assert!(channels.iter().all(|channel| !channel.name.is_direct()), "nothing was said there: {channels:?}");
    }
    tracker.kill().await;
    a.find(|notice| matches!(notice, Notice::Tracker { online: false, .. }).then_some(())).await;
    a.command(Command::Message { user: user("bob"), text: "psst".to_owned() }).await;
    let heard = b.hears("psst").await;
    assert_eq!((heard.channel, heard.path), (channel("@alice+bob"), Path::Direct));
    tracker.start_again().await;
    assert_eq!(tracker.log_of("@alice+bob", 1).await, ["psst"]);
}

/// The same device with nothing remembered.
fn without_history(actor: Actor) -> Actor {
    Actor { history: Arc::new(store::MemoryHistory::new()), ..actor }
}

#[tokio::test]
async fn a_device_that_lost_its_history_goes_on_from_what_it_said_before() {
    let mut tracker = Tracker::start().await;
    let alice = Actor::new("alice");
    let mut a = tracker.run(&alice).await;
    a.say("before").await;
    tracker.log_of("general", 1).await;
    a.end().unwrap();
    let alice = without_history(alice);
    let mut a = tracker.run(&alice).await;
    a.say("after").await; // before the channel is known, so that it goes out as soon as that is possible
    assert_eq!(tracker.log_of("general", 2).await, ["before", "after"]);
    assert!(a.hears("before").await.mine);
    tracker.kill().await;
}

#[tokio::test]
async fn a_device_with_an_older_history_is_told_so() {
    let mut tracker = Tracker::start().await;
    let alice = Actor::new("alice");
    let mut a = tracker.run(&alice).await;
    in_general(&mut a).await;
    a.end().unwrap();
    let older = store::MemoryHistory::new();
    for key in ["tracker", "roster/general"] {
        older.put(key, alice.history.get(key).await.unwrap().unwrap()).await.unwrap();
    }
    let alice = Actor { history: Arc::new(older), ..alice };
    tracker.kill().await;
    let mut a = tracker.run(&alice).await;
    a.say("another first word").await;
    a.hears("another first word").await;
    tracker.start_again().await;
    trouble(&mut a, "general: the history of this device was lost or is older").await;
}

#[tokio::test]
async fn a_name_that_is_taken_needs_its_password() {
    let tracker = Tracker::start().await;
    let first = Actor::new("alice");
    let mut a = tracker.run(&first).await;
    in_general(&mut a).await;
    let thief = Actor::new("alice"); // without the key and without the password
    let (_commands, command_receiver) = tokio::sync::mpsc::channel(1);
    let (notices, _notice_receiver) = tokio::sync::mpsc::channel(16);
    let (settings, history) = (tracker.settings(&thief), thief.history.clone());
    let run = move || peer::run(settings, history, command_receiver, notices, peer::Stop::new());
    let error = tokio::task::spawn_blocking(run).await.unwrap().unwrap_err();
    assert!(error.to_string().starts_with("the tracker refuses alice: the name alice is taken"), "{error}");
}

#[tokio::test]
async fn a_user_has_several_devices_by_password_and_they_hear_each_other() {
    let tracker = Tracker::start().await;
    let signed_up = r#"{"username":"alice","password":"correct horse battery"}"#;
    let answer = tracker.http("POST /submit-info", "", signed_up).await;
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    let (desk, phone, bob) = (Actor::new("alice"), Actor::new("alice"), Actor::new("bob"));
    let with_password = |actor: &Actor| {
        let mut settings = tracker.settings(actor);
        settings.password = Some("correct horse battery".to_owned());
        settings
    };
    let mut d = desk.run_with(with_password(&desk)).await;
    in_general(&mut d).await;
    let mut p = phone.run_with(with_password(&phone)).await;
    let mut b = tracker.run(&bob).await;
    for (peer, others) in [(&mut d, [&phone, &bob]), (&mut p, [&desk, &bob]), (&mut b, [&desk, &phone])] {
        for other in others {
            peer.links_with(other.device).await;
        }
    }
    d.say("from the desk").await;
    let heard = p.hears("from the desk").await;
    assert!(heard.mine && heard.device == desk.device);
    p.say("from the phone").await;
    assert!(!b.hears("from the phone").await.mine);
    b.hears("from the desk").await;
    d.delivers("from the desk", bob.device).await;
    until_holder(&desk, &mut d, phone.device).await;
    d.command(Command::Older { channel: channel("general"), before: None }).await;
    d.find(|notice| matches!(notice, Notice::History { .. }).then_some(())).await;
    let told = d.seen.iter().flat_map(|notice| match notice {
        Notice::State { state, .. } => vec![state],
        Notice::History { entries, .. } => entries.iter().map(|message| &message.state).collect(),
        _ => Vec::new(),
    });
    let delivered = told.filter(|state| matches!(state, DeliveryState::Delivered { .. }));
    let only_to_bob = DeliveryState::Delivered { devices: vec![bob.device] };
    assert!(delivered.clone().count() >= 2 && delivered.clone().all(|state| *state == only_to_bob), "{:?}", d.seen);
}
