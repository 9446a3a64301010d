//! The tracker's HTTP API as typed calls. Every answer is bounded in size and time, and is not believed beyond its types.

use std::cell::RefCell;
use std::fmt::Write as _;
use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use chat::text::printable_line;
use chat::{ChannelName, DeviceId, Sealed, SignedRoster, TrackerId};
use engine::{
    Answer, Body, Client, ClientError, ClientSettings, ClientTls, Fields, Method, OutgoingRequest, Trust, Upgraded,
};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use crate::settings::TrackerUrl;
use crate::wire::{
    Challenge, ChannelEntry, Me, Page, PeerEntry, PeerList, Problem, Registered, Registration, RosterText, Upload,
    UploadEntry, UploadResult, Uploaded,
};

/// Longest answer taken, in bytes: a full page of the longest messages, or the largest roster, as JSON.
const ANSWER_BYTES_MAX: u64 = 16 * 1024 * 1024;
/// Messages asked for at a time.
pub(crate) const PAGE_MESSAGES: usize = 100;
/// Devices and channels taken from one list.
const LIST_ENTRIES_MAX: usize = 20_000;
/// Silence after which the event stream counts as dead; the tracker sends a heartbeat every 15 s.
const EVENTS_IDLE_TIMEOUT: Duration = Duration::from_secs(40);
/// Wait for the other side of a relay; the tracker itself gives up after 10 s.
const RELAY_TIMEOUT: Duration = Duration::from_secs(15);
/// The protocol that relayed streams switch to.
const RELAY_PROTOCOL: &str = "weaprous-relay/1";
/// Longest detail of an error repeated to a person, in characters.
const DETAIL_CHARS_MAX: usize = 200;

/// The status of a request whose session is over; at the registration, of one without the right key or password.
pub(crate) const UNAUTHORIZED: u16 = 401;

/// Why the tracker did not do what was asked.
#[derive(Debug, thiserror::Error)]
pub(crate) enum TrackerError {
    /// It cannot be reached, or went away in the middle.
    #[error("{0}")]
    Away(String),
    /// It said no.
    #[error("{detail}")]
    Refused {
        /// The HTTP status.
        status: u16,
        /// Its words, made printable.
        detail: String,
    },
    /// What it said is not what it should say.
    #[error("the tracker's answer is not understood: {0}")]
    Nonsense(String),
}

/// Whether a status says that the same request will be refused again. An expired session is not that: the next renewal
/// of the presence notices it too, and registers again.
pub(crate) fn is_final(status: u16) -> bool {
    (400..500).contains(&status) && !matches!(status, UNAUTHORIZED | 408 | 429)
}

/// The tracker as seen from here.
#[derive(Debug)]
pub(crate) struct Tracker {
    url: TrackerUrl,
    http: Client,
    /// For streams: other deadlines.
    events_http: Client,
    relay_http: Client,
    address: RefCell<Option<SocketAddr>>,
    token: RefCell<Option<String>>,
}

impl Tracker {
    /// The tracker at `url`. Waits at most `answer` for each answer. Over TLS if the URL says so, with servers that
    /// `trust` vouches for.
    ///
    /// # Errors
    /// Nobody can vouch for the tracker: the file with authorities cannot be read, or no certificate can have its name.
    pub(crate) fn new(url: TrackerUrl, trust: &Trust, answer: Duration) -> Result<Self, String> {
        let tls = if url.is_secure() {
            let tls = ClientTls::new(trust).map_err(|error| error.to_string())?;
            Some(tls.named(url.host()).map_err(|error| error.to_string())?)
        } else {
            None
        };
        let client = |settings| match &tls {
            Some(tls) => Client::new(settings).over_tls(tls.clone()),
            None => Client::new(settings),
        };
        let settings = || ClientSettings { connect_timeout: answer, head_timeout: answer, ..ClientSettings::default() };
        let http = client(ClientSettings { body_idle_timeout: answer, ..settings() });
        let events_http = client(ClientSettings { body_idle_timeout: EVENTS_IDLE_TIMEOUT, ..settings() });
        let relay_http = client(ClientSettings { head_timeout: RELAY_TIMEOUT, ..settings() });
        Ok(Self { url, http, events_http, relay_http, address: RefCell::default(), token: RefCell::default() })
    }

    /// The socket address used, once known.
    pub(crate) fn address(&self) -> Option<SocketAddr> {
        *self.address.borrow()
    }

    /// Asks for something to sign.
    pub(crate) async fn challenge(&self) -> Result<Challenge, TrackerError> {
        match self.get("/api/v1/challenge").await {
            Err(TrackerError::Refused { status: 404, .. }) => Err(TrackerError::Refused {
                status: 404,
                detail: format!("what answers at {} is not a tracker", self.url),
            }),
            answer => answer,
        }
    }

    /// Registers this device; later calls carry the token that comes back.
    pub(crate) async fn register(&self, registration: &Registration<'_>) -> Result<Registered, TrackerError> {
        self.token.replace(None);
        let registered: Registered = self.call(Method::Post, "/submit-info", Some(json!(registration))).await?;
        self.token.replace(Some(registered.token.clone()));
        Ok(registered)
    }

    /// Where the log of all channels stands.
    pub(crate) async fn me(&self) -> Result<Me, TrackerError> {
        self.get("/api/v1/me").await
    }

    /// All devices that the tracker tells of. Entries that make no sense are left out.
    pub(crate) async fn peers(&self) -> Result<Vec<PeerEntry>, TrackerError> {
        let list: PeerList = self.get("/get-list").await?;
        let entries = list.peers.into_iter().take(LIST_ENTRIES_MAX);
        Ok(entries.filter_map(|entry| serde_json::from_value(entry).ok()).collect())
    }

    /// All channels that the user may see.
    pub(crate) async fn channels(&self) -> Result<Vec<ChannelEntry>, TrackerError> {
        let answer: Value = self.get("/api/v1/channels").await?;
        let Value::Array(entries) = (if answer.is_array() { answer } else { answer["channels"].clone() }) else {
            return Err(TrackerError::Nonsense("expected a list of channels".to_owned()));
        };
        let entries = entries.into_iter().take(LIST_ENTRIES_MAX);
        Ok(entries.filter_map(|entry| serde_json::from_value(entry).ok()).collect())
    }

    /// The roster of a channel, verified to be the word of `tracker`.
    pub(crate) async fn roster(
        &self,
        channel: &ChannelName,
        tracker: &TrackerId,
    ) -> Result<SignedRoster, TrackerError> {
        let path = format!("/api/v1/channels/{}/roster", percent(channel.as_str()));
        let text: RosterText = self.get(&path).await?;
        let roster = SignedRoster::open(text.roster.as_bytes(), text.signature, tracker)
            .map_err(|error| TrackerError::Nonsense(error.to_string()))?;
        if roster.roster().channel == *channel {
            Ok(roster)
        } else {
            Err(TrackerError::Nonsense("the roster of another channel".to_owned()))
        }
    }

    /// Hands envelopes over; one result each, in order.
    pub(crate) async fn upload(
        &self,
        channel: &ChannelName,
        sealed: &[Sealed],
    ) -> Result<Vec<UploadResult>, TrackerError> {
        let entry = |sealed| UploadEntry { envelope: Sealed::text(sealed), signature: sealed.signature() };
        let upload = Upload { envelopes: sealed.iter().map(entry).collect() };
        let path = format!("/api/v1/channels/{}/envelopes", percent(channel.as_str()));
        let uploaded: Uploaded = self.call(Method::Post, &path, Some(json!(upload))).await?;
        if uploaded.results.len() == sealed.len() {
            Ok(uploaded.results)
        } else {
            Err(TrackerError::Nonsense("another number of results than of envelopes".to_owned()))
        }
    }

    /// The messages of a channel after a number in its log.
    pub(crate) async fn messages(&self, channel: &ChannelName, after: u64) -> Result<Page, TrackerError> {
        let channel = percent(channel.as_str());
        self.get(&format!("/get-messages?channel={channel}&after={after}&limit={PAGE_MESSAGES}")).await
    }

    /// Says that this device is still there.
    pub(crate) async fn renew_presence(&self, addresses: &[SocketAddr]) -> Result<(), TrackerError> {
        let _: Value = self.call(Method::Post, "/api/v1/presence", Some(json!({ "addresses": addresses }))).await?;
        Ok(())
    }

    /// Says that this device goes.
    pub(crate) async fn leave_presence(&self) -> Result<(), TrackerError> {
        self.exchange(Method::Delete, "/api/v1/presence", None).await.map(drop)
    }

    /// Tells up to where the user has read.
    pub(crate) async fn mark_read(&self, channel: &ChannelName, seq: u64) -> Result<(), TrackerError> {
        let path = format!("/api/v1/channels/{}/read", percent(channel.as_str()));
        self.exchange(Method::Put, &path, Some(json!({ "seq": seq }))).await.map(drop)
    }

    /// Opens the event stream after a position.
    pub(crate) async fn events(&self, since: u64) -> Result<Body, TrackerError> {
        let address = self.resolve().await?;
        let mut request = self.request(Method::Get, &format!("/api/v1/events?since={since}"), None)?;
        append(&mut request.fields, "accept", "text/event-stream")?;
        let (head, body) = self.events_http.send(address, request).await.map_err(|error| self.away(&error))?;
        if !head.status().is_success() {
            return Err(refusal(head.status().as_u16(), body).await);
        }
        if !head.field_str("content-type").is_some_and(|kind| kind.starts_with("text/event-stream")) {
            return Err(TrackerError::Nonsense("expected an event stream".to_owned()));
        }
        Ok(body)
    }

    /// Opens a relayed stream to a device.
    pub(crate) async fn relay_to(&self, device: &DeviceId) -> Result<Upgraded, TrackerError> {
        self.upgrade(&format!("/api/v1/relay/{device}")).await
    }

    /// Takes the other end of a relayed stream.
    pub(crate) async fn relay_accept(&self, token: &str) -> Result<Upgraded, TrackerError> {
        self.upgrade(&format!("/api/v1/relay/accept/{}", percent(token))).await
    }

    async fn upgrade(&self, path: &str) -> Result<Upgraded, TrackerError> {
        let address = self.resolve().await?;
        let mut request = self.request(Method::Get, path, None)?;
        append(&mut request.fields, "upgrade", RELAY_PROTOCOL)?;
        match self.relay_http.upgrade(address, request).await.map_err(|error| self.away(&error))? {
            Answer::Upgraded(_, stream) => Ok(stream),
            Answer::Response(head, body) => Err(refusal(head.status().as_u16(), body).await),
        }
    }

    async fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T, TrackerError> {
        self.call(Method::Get, path, None).await
    }

    async fn call<T: DeserializeOwned>(
        &self,
        method: Method,
        path: &str,
        json: Option<Value>,
    ) -> Result<T, TrackerError> {
        let bytes = self.exchange(method, path, json).await?;
        serde_json::from_slice(&bytes).map_err(|error| TrackerError::Nonsense(error.to_string()))
    }

    async fn exchange(&self, method: Method, path: &str, json: Option<Value>) -> Result<Bytes, TrackerError> {
        let address = self.resolve().await?;
        let request = self.request(method, path, json)?;
        let (head, body) = self.http.send(address, request).await.map_err(|error| self.away(&error))?;
        if !head.status().is_success() {
            return Err(refusal(head.status().as_u16(), body).await);
        }
        body.collect(ANSWER_BYTES_MAX).await.map_err(|error| TrackerError::Away(error.to_string()))
    }

    fn request(&self, method: Method, path: &str, json: Option<Value>) -> Result<OutgoingRequest, TrackerError> {
        let mut fields = Fields::new();
        append(&mut fields, "host", &self.url.authority())?;
        if let Some(token) = &*self.token.borrow() {
            append(&mut fields, "authorization", &format!("Bearer {token}"))?;
        }
        let body = match json {
            None => Body::Empty,
            Some(json) => {
                append(&mut fields, "content-type", "application/json")?;
                Body::from(json.to_string())
            }
        };
        Ok(OutgoingRequest { method, target: path.to_owned(), fields, body })
    }

    /// Finds the tracker's address, once; after a failure it is looked up again.
    async fn resolve(&self) -> Result<SocketAddr, TrackerError> {
        if let Some(address) = self.address() {
            return Ok(address);
        }
        let found = tokio::net::lookup_host((self.url.host(), self.url.port())).await;
        let address = found.and_then(|mut all| all.next().ok_or_else(|| io::Error::other("no address for this name")));
        let address = address.map_err(|error| TrackerError::Away(format!("{}: {error}", self.url)))?;
        self.address.replace(Some(address));
        Ok(address)
    }

    fn away(&self, error: &ClientError) -> TrackerError {
        if error.is_connect() {
            self.address.replace(None);
        }
        TrackerError::Away(error.to_string())
    }
}

async fn refusal(status: u16, body: Body) -> TrackerError {
    let bytes = body.collect(ANSWER_BYTES_MAX).await.unwrap_or_default();
    let problem: Problem = serde_json::from_slice(&bytes).unwrap_or_default();
    let detail = problem.detail.or(problem.title).unwrap_or_else(|| format!("status {status}"));
    let detail = printable_line(&detail).chars().take(DETAIL_CHARS_MAX).collect();
    TrackerError::Refused { status, detail }
}

fn append(fields: &mut Fields, name: &str, value: &str) -> Result<(), TrackerError> {
    // a token is the tracker's own text: one with a line feed in it must not become a header of ours
    fields.append(name, value).map_err(|error| TrackerError::Nonsense(error.to_string()))
}

/// Text fit for one segment of a path or one value of a query (RFC 3986 §2.3).
fn percent(text: &str) -> String {
    text.bytes().fold(String::new(), |mut encoded, byte| {
        if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~') {
            encoded.push(byte as char);
        } else {
            write!(encoded, "%{byte:02X}").expect("a string takes any text");
        }
        encoded
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_expired_session_is_no_last_word() {
        let last_words: Vec<u16> = (100..600).filter(|status| is_final(*status)).collect();
        let expected: Vec<u16> = (400..500).filter(|status| ![401, 408, 429].contains(status)).collect();
        assert_eq!(last_words, expected);
    }

    #[test]
    fn names_fit_into_urls() {
        assert_eq!(percent("@alice+bob.x-y_z"), "%40alice%2Bbob.x-y_z");
        assert_eq!(percent("a/b\r\n"), "a%2Fb%0D%0A");
    }
}
