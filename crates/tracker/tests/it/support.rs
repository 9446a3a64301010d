//! A tracker on a free port, and clients with and without a key.

use accounts::{Accounts, StoreSessions};
use chat::auth::challenge_text;
use chat::{Body, ChannelName, DeviceId, DeviceKey, Draft, EnvelopeId, Head, Sealed, Store, TrackerId};
use engine::{Server, Settings, Stop};
use serde_json::{Value, json};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use testkit::{RawClient, RawResponse};
use tracker::TrackerSettings;
use weaprous::session::Sessions;

/// How long open connections may take when a test is over: nobody waits for anything then.
const GRACE: Duration = Duration::from_millis(200);
/// More than one, so that handlers meet on different threads.
const WORKERS: usize = 2;

/// A running tracker. Dropping it stops it.
pub(crate) struct World {
    pub(crate) address: SocketAddr,
    pub(crate) store: Arc<dyn Store>,
    _running: engine::Running,
}

impl World {
    /// On a fresh memory store.
    pub(crate) fn new() -> Self {
        Self::with(Arc::new(store::MemoryStore::new()), |_| ())
    }

    /// On a store, with changed settings.
    pub(crate) fn with(store: Arc<dyn Store>, change: impl FnOnce(&mut TrackerSettings)) -> Self {
        let accounts = Accounts::new(Arc::clone(&store));
        let storage = StoreSessions::new(Arc::clone(&store));
        let sessions = Arc::new(Sessions::new(Arc::new(storage), Duration::from_hours(1)));
        let mut settings = TrackerSettings::new(Arc::clone(&store), accounts, sessions);
        change(&mut settings);
        let app = block_on(tracker::app(settings)).unwrap();
        let server = Server::new(Settings { workers: Some(WORKERS), ..Settings::default() });
        let server = server.listen("127.0.0.1:0".parse().unwrap(), app.into_service().unwrap()).unwrap();
        let address = server.local_addrs()[0];
        Self { address, store, _running: server.start(Stop::new(), GRACE).unwrap() }
    }

    /// A client that nobody knows yet.
    pub(crate) fn stranger(&self) -> Client {
        Client { address: self.address, user: String::new(), token: None }
    }

    /// A user who writes through the hosted device.
    pub(crate) fn user(&self, name: &str) -> Client {
        let reply = self.stranger().post("/submit-info", json!({"username": name})).expect(200);
        Client {
            address: self.address,
            user: name.to_owned(),
            token: Some(reply["token"].as_str().unwrap().to_owned()),
        }
    }

    /// A user with a device of their own.
    pub(crate) fn peer(&self, name: &str, seed: u8) -> Peer {
        let key = DeviceKey::from_seed([seed; 32]);
        let reply = self.stranger().register(name, &key, json!({})).expect(200);
        let token = Some(reply["token"].as_str().unwrap().to_owned());
        Peer { client: Client { address: self.address, user: name.to_owned(), token }, key, chains: Vec::new() }
    }

    /// A number of `/metrics`.
    pub(crate) fn metric(&self, name: &str) -> u64 {
        let text = self.stranger().get("/metrics").text;
        let line = text.lines().find_map(|line| line.strip_prefix(name)).unwrap_or_else(|| panic!("{name} in {text}"));
        line.trim().parse().unwrap()
    }
}

pub(crate) fn block_on<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(future)
}

/// What came back.
#[derive(Debug)]
pub(crate) struct Reply {
    pub(crate) status: u16,
    pub(crate) text: String,
    pub(crate) json: Value,
    raw: RawResponse,
}

impl Reply {
    /// The JSON, if the status is this one.
    #[track_caller]
    pub(crate) fn expect(self, status: u16) -> Value {
        assert_eq!(self.status, status, "{}", self.text);
        self.json
    }

    /// The problem's detail, if the status is this one and it is a problem document.
    #[track_caller]
    pub(crate) fn problem(self, status: u16) -> String {
        assert_eq!(self.status, status, "{}", self.text);
        assert_eq!(self.field("content-type"), Some("application/problem+json"), "{}", self.text);
        assert_eq!(self.json["status"], status);
        self.json["detail"].as_str().unwrap_or_else(|| panic!("no detail in {}", self.text)).to_owned()
    }

    pub(crate) fn field(&self, name: &str) -> Option<&str> {
        self.raw.field(name)
    }
}

/// Somebody who sends requests, each on a connection of its own.
#[derive(Clone)]
pub(crate) struct Client {
    pub(crate) address: SocketAddr,
    pub(crate) user: String,
    pub(crate) token: Option<String>,
}

impl Client {
    pub(crate) fn get(&self, path: &str) -> Reply {
        self.send("GET", path, "", b"")
    }

    #[track_caller]
    pub(crate) fn post(&self, path: &str, json: Value) -> Reply {
        self.json("POST", path, &json)
    }

    pub(crate) fn json(&self, method: &str, path: &str, json: &Value) -> Reply {
        self.send(method, path, "content-type: application/json\r\n", json.to_string().as_bytes())
    }

    /// Sends a request with these fields, each ending in CRLF.
    pub(crate) fn send(&self, method: &str, path: &str, fields: &str, body: &[u8]) -> Reply {
        let mut raw = RawClient::connect(self.address);
        raw.send(self.head(method, path, &format!("connection: close\r\ncontent-length: {}\r\n{fields}", body.len())));
        raw.send(body);
        let raw = raw.read_response_to(method);
        let text = String::from_utf8_lossy(&raw.body).into_owned();
        let json = serde_json::from_str(&text).unwrap_or(Value::Null);
        Reply { status: raw.status, text, json, raw }
    }

    /// A request's head with the client's token.
    pub(crate) fn head(&self, method: &str, path: &str, fields: &str) -> String {
        let authorization = self.token.as_ref().map(|token| format!("authorization: Bearer {token}\r\n"));
        format!("{method} {path} HTTP/1.1\r\nhost: tracker.test\r\n{}{fields}\r\n", authorization.unwrap_or_default())
    }

    /// Registers a device, with more members or others than the usual ones.
    pub(crate) fn register(&self, name: &str, key: &DeviceKey, more: Value) -> Reply {
        let mut body = self.registration(name, key);
        body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        self.post("/submit-info", body)
    }

    /// What a device sends to register.
    pub(crate) fn registration(&self, name: &str, key: &DeviceKey) -> Value {
        let challenge = self.get("/api/v1/challenge").expect(200);
        let (nonce, tracker) = (challenge["nonce"].as_str().unwrap(), challenge["tracker"].as_str().unwrap());
        let tracker: TrackerId = tracker.parse().unwrap();
        let text = challenge_text(&tracker, nonce, &name.parse().unwrap(), &key.id());
        json!({"username": name, "device": key.id(), "nonce": nonce, "signature": key.sign(&text)})
    }

    #[track_caller]
    pub(crate) fn create(&self, channel: &str, visibility: &str) {
        self.post("/create-list", json!({"channel": channel, "visibility": visibility})).expect(201);
    }

    #[track_caller]
    pub(crate) fn join(&self, channel: &str) {
        self.post("/join-list", json!({"channel": channel})).expect(201);
    }

    #[track_caller]
    pub(crate) fn say(&self, channel: &str, text: &str) -> Value {
        self.post("/send-message", json!({"channel": channel, "text": text})).expect(201)
    }

    /// The texts of a channel's messages; events are shown by their kind.
    #[track_caller]
    pub(crate) fn texts(&self, channel: &str) -> Vec<String> {
        let page = self.get(&format!("/get-messages?channel={}&after=0&limit=200", percent(channel))).expect(200);
        let shown = |message: &Value| message["text"].as_str().or(message["kind"].as_str()).unwrap().to_owned();
        page["messages"].as_array().unwrap().iter().map(shown).collect()
    }

    pub(crate) fn events(&self, query: &str, fields: &str) -> Events {
        let mut raw = RawClient::connect(self.address);
        raw.send(self.head("GET", &format!("/api/v1/events{query}"), fields));
        let head = String::from_utf8(raw.read_until(b"\r\n\r\n")).unwrap();
        assert!(head.starts_with("HTTP/1.1 200 "), "{head}");
        assert!(head.to_ascii_lowercase().contains("content-type: text/event-stream"), "{head}");
        Events { raw, text: String::new() }
    }
}

/// Somebody with a device of their own.
pub(crate) struct Peer {
    pub(crate) client: Client,
    pub(crate) key: DeviceKey,
    chains: Vec<(ChannelName, Head)>,
}

impl Peer {
    pub(crate) fn device(&self) -> DeviceId {
        self.key.id()
    }

    /// The next envelope of the device in a channel.
    pub(crate) fn seal(&mut self, channel: &str, body: Body) -> Sealed {
        let sealed = self.draft(channel, body);
        self.chains.retain(|(name, _)| *name != sealed.envelope().channel);
        self.chains.push((sealed.envelope().channel.clone(), Head::of(sealed.envelope(), sealed.id())));
        sealed
    }

    /// As `seal`, without going on: the next one contradicts it.
    pub(crate) fn draft(&self, channel: &str, body: Body) -> Sealed {
        let channel: ChannelName = channel.parse().unwrap();
        let head = self.chains.iter().find(|(name, _)| *name == channel).map(|(_, head)| head);
        let draft = Draft { channel, author: self.client.user.parse().unwrap(), sent_at_ms: 1_700_000_000_000, body };
        Sealed::seal(&self.key, &draft.follow(self.key.id(), head, 0)).unwrap()
    }

    pub(crate) fn text(&mut self, channel: &str, text: &str) -> Sealed {
        self.seal(channel, Body::Text { text: text.to_owned() })
    }

    /// Uploads envelopes; gives the results.
    #[track_caller]
    pub(crate) fn upload(&self, channel: &str, entries: &[&Sealed]) -> Vec<Value> {
        self.client.upload(channel, entries)
    }

    /// Uploads envelopes that must all be stored.
    #[track_caller]
    pub(crate) fn store(&self, channel: &str, entries: &[&Sealed]) {
        for result in self.upload(channel, entries) {
            assert_eq!(result["state"], "stored", "{result}");
        }
    }
}

impl Client {
    #[track_caller]
    pub(crate) fn upload(&self, channel: &str, entries: &[&Sealed]) -> Vec<Value> {
        let entries: Vec<_> = entries.iter().map(|sealed| signed(sealed)).collect();
        let path = format!("/api/v1/channels/{}/envelopes", percent(channel));
        let reply = self.post(&path, json!({"envelopes": entries})).expect(200);
        reply["results"].as_array().unwrap().clone()
    }
}

pub(crate) fn signed(sealed: &Sealed) -> Value {
    json!({"envelope": sealed.text(), "signature": sealed.signature()})
}

pub(crate) fn id_of(value: &Value) -> EnvelopeId {
    value["id"].as_str().unwrap().parse().unwrap()
}

/// Text fit for a path segment or a query value.
pub(crate) fn percent(text: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~".contains(&byte);
    text.bytes().map(|byte| if plain(byte) { char::from(byte).to_string() } else { format!("%{byte:02X}") }).collect()
}

/// An event of a stream.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Received {
    pub(crate) name: String,
    pub(crate) id: Option<u64>,
    pub(crate) data: Value,
}

/// An open event stream, read chunk by chunk.
pub(crate) struct Events {
    raw: RawClient,
    text: String,
}

impl Events {
    /// The next event; fails the test if none comes.
    pub(crate) fn next(&mut self) -> Received {
        loop {
            if let Some((event, rest)) = self.text.split_once("\n\n") {
                let received = parse(event);
                self.text = rest.to_owned();
                if let Some(received) = received {
                    return received;
                }
            } else {
                assert!(self.read_chunk(), "the stream ended");
            }
        }
    }

    /// The next event of this name; others are passed over.
    pub(crate) fn next_named(&mut self, name: &str) -> Received {
        loop {
            let event = self.next();
            if event.name == name {
                return event;
            }
        }
    }

    /// The texts of the messages up to and including `last`; events are shown by their kind.
    pub(crate) fn messages_until(&mut self, last: &str) -> Vec<String> {
        let mut texts = Vec::new();
        while texts.last().map(String::as_str) != Some(last) {
            let data = self.next_named("message").data;
            texts.push(data["text"].as_str().or(data["kind"].as_str()).unwrap().to_owned());
        }
        texts
    }

    /// Reads to the stream's orderly end.
    pub(crate) fn end(mut self) {
        while self.read_chunk() {}
    }

    fn read_chunk(&mut self) -> bool {
        let line = self.raw.read_until(b"\r\n");
        let size = usize::from_str_radix(std::str::from_utf8(&line).unwrap().trim(), 16).unwrap();
        let chunk = self.raw.read_exact(size + 2);
        self.text.push_str(std::str::from_utf8(&chunk[..size]).unwrap());
        size > 0
    }
}

fn parse(event: &str) -> Option<Received> {
    let mut received = Received { name: "message".to_owned(), id: None, data: Value::Null };
    for line in event.lines() {
        match line.split_once(": ") {
            Some(("event", name)) => name.clone_into(&mut received.name),
            Some(("id", id)) => received.id = Some(id.parse().unwrap()),
            Some(("data", data)) => received.data = serde_json::from_str(data).unwrap(),
            _ => {}
        }
    }
    (received.data != Value::Null).then_some(received)
}
