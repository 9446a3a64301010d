//! Being known to the tracker: registers, keeps the presence lease alive, follows the event stream, and starts over with
//! longer and longer waits when any of it fails.

use std::convert::Infallible;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket};
use std::rc::Rc;
use std::sync::Arc;

use chat::auth::challenge_text;
use chat::{DeviceKey, History, TrackerId, UserName};
use engine::Body;
use serde::de::DeserializeOwned;
use tokio::sync::mpsc;
use tokio::time::{Duration, Instant, MissedTickBehavior, interval, sleep};

use crate::backoff::{Backoff, dice};
use crate::event::Event;
use crate::settings::Pace;
use crate::sse;
use crate::tracker::{Tracker, TrackerError, UNAUTHORIZED, is_final};
use crate::wire::{ChannelEvent, PeerEntry, Registration, RelayEvent, is_dialable};

/// The setting that holds the key of the tracker met first.
pub(crate) const TRACKER_SETTING: &str = "tracker";

/// An event stream that lasted this long is opened again when it ends; one that ends at once is no stream.
const REOPEN_AFTER: Duration = Duration::from_secs(1);

/// Everything the session needs.
pub(crate) struct Session {
    pub(crate) tracker: Rc<Tracker>,
    pub(crate) history: Arc<dyn History>,
    pub(crate) key: DeviceKey,
    pub(crate) user: UserName,
    pub(crate) password: Option<String>,
    /// Where we listen.
    pub(crate) listening: SocketAddr,
    /// What the user wants told instead of what is found out.
    pub(crate) advertise: Vec<SocketAddr>,
    pub(crate) pace: Pace,
    pub(crate) events: mpsc::Sender<Event>,
}

/// What lasts from one registration to the next.
struct Progress {
    backoff: Backoff,
    /// The last position seen in the event stream.
    position: Option<u64>,
}

/// At which point the tracker failed: a refusal counts as its last word only at the registration.
enum Failure {
    Registration(TrackerError),
    Later(TrackerError),
}

impl Session {
    /// Runs for ever.
    pub(crate) async fn run(self) {
        let backoff = Backoff::new(self.pace.retry_first, self.pace.retry_max);
        let mut progress = Progress { backoff, position: None };
        loop {
            let Err(error) = self.follow(&mut progress).await;
            let event = match error {
                Failure::Registration(TrackerError::Refused { status, detail })
                    if is_final(status) || status == UNAUTHORIZED =>
                {
                    Event::Refused { detail }
                }
                Failure::Registration(error) | Failure::Later(error) => Event::Offline { detail: error.to_string() },
            };
            if self.events.send(event).await.is_err() {
                return;
            }
            sleep(progress.backoff.failed(dice())).await;
        }
    }

    /// Registers and follows the events until something fails.
    async fn follow(&self, progress: &mut Progress) -> Result<Infallible, Failure> {
        let (tracker, you) = self.register().await.map_err(Failure::Registration)?;
        self.follow_as(tracker, you, progress).await.map_err(Failure::Later)
    }

    async fn follow_as(
        &self,
        tracker: TrackerId,
        you: Option<IpAddr>,
        progress: &mut Progress,
    ) -> Result<Infallible, TrackerError> {
        let addresses = self.addresses(you);
        self.tracker.renew_presence(&addresses).await?;
        let since = match progress.position {
            Some(position) => position,
            None => self.tracker.me().await?.position,
        };
        let mut stream = self.tracker.events(since).await?;
        progress.backoff.worked();
        self.tell(Event::Online { tracker }).await?;
        let mut renewal = interval(self.pace.presence);
        renewal.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let (mut parser, mut opened) = (sse::Parser::default(), Instant::now());
        loop {
            tokio::select! {
                _ = renewal.tick() => self.tracker.renew_presence(&addresses).await?,
                events = next_events(&mut stream, &mut parser) => match events {
                    Ok(events) => {
                        for event in events {
                            self.handle_event(&event, &mut progress.position).await?;
                        }
                    }
                    // whoever falls behind is cut off by the tracker, and comes back with the position reached
                    Err(_) if opened.elapsed() > REOPEN_AFTER => {
                        stream = self.tracker.events(progress.position.unwrap_or(since)).await?;
                        (parser, opened) = (sse::Parser::default(), Instant::now());
                        renewal.reset_immediately();
                    }
                    Err(error) => return Err(error),
                }
            }
        }
    }

    async fn register(&self) -> Result<(TrackerId, Option<IpAddr>), TrackerError> {
        let challenge = self.tracker.challenge().await?;
        self.check_tracker(challenge.tracker).await?;
        let device = self.key.id();
        let text = challenge_text(&challenge.tracker, &challenge.nonce, &self.user, &device);
        let registration = Registration {
            username: &self.user,
            port: self.listening.port(),
            addresses: &self.addresses(None),
            device,
            nonce: &challenge.nonce,
            signature: self.key.sign(&text),
            password: self.password.as_deref(),
        };
        let registered = self.tracker.register(&registration).await?;
        if registered.tracker != challenge.tracker {
            return Err(TrackerError::Nonsense("two different trackers answered".to_owned()));
        }
        Ok((registered.tracker, registered.you))
    }

    /// Compares the tracker with the one met first, and remembers it if it is the first.
    async fn check_tracker(&self, id: TrackerId) -> Result<(), TrackerError> {
        let failed = |error: chat::StoreError| TrackerError::Away(error.to_string());
        match self.history.get(TRACKER_SETTING).await.map_err(failed)? {
            None => self.history.put(TRACKER_SETTING, id.to_string().into_bytes()).await.map_err(failed),
            Some(known) if known == id.to_string().as_bytes() => Ok(()),
            Some(_) => Err(TrackerError::Refused {
                status: 400,
                detail: "this is not the tracker that this data directory knows: use another --data-dir for it"
                    .to_owned(),
            }),
        }
    }

    async fn handle_event(&self, event: &sse::Event, position: &mut Option<u64>) -> Result<(), TrackerError> {
        if let Some(id) = event.id.as_deref().and_then(|id| id.parse().ok()) {
            *position = Some(id);
        }
        let told = match event.name.as_str() {
            "message" => parsed(event).map(|view| Event::Logged(Box::new(view))),
            "presence" => parsed::<PeerEntry>(event).map(Event::Presence),
            "channel" => parsed(event).map(|ChannelEvent { channel }| Event::RosterChanged { channel }),
            "relay" => parsed(event).map(|RelayEvent { token }| Event::RelayOffered { token }),
            _ => None,
        };
        match told {
            Some(told) => self.tell(told).await,
            None => Ok(()),
        }
    }

    async fn tell(&self, event: Event) -> Result<(), TrackerError> {
        self.events.send(event).await.map_err(|_| TrackerError::Away("this peer stops".to_owned()))
    }

    /// The addresses at which others may find us.
    fn addresses(&self, you: Option<IpAddr>) -> Vec<SocketAddr> {
        if !self.advertise.is_empty() {
            return self.advertise.clone();
        }
        if !self.listening.ip().is_unspecified() {
            return vec![self.listening];
        }
        let near = self.tracker.address().and_then(source_towards);
        let far = source_towards(SocketAddr::from((ELSEWHERE, 9)));
        let mut found: Vec<SocketAddr> = Vec::new();
        for ip in [near, far, you].into_iter().flatten() {
            let address = SocketAddr::new(ip, self.listening.port());
            if is_dialable(&address) && !found.contains(&address) {
                found.push(address);
            }
        }
        found
    }
}

/// An address that is nobody's (RFC 5737): the way to it is the way to everywhere. Nothing is ever sent there.
const ELSEWHERE: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 1);

/// Our own address on the way to `target`. Connecting a UDP socket asks the routing table and sends nothing.
fn source_towards(target: SocketAddr) -> Option<IpAddr> {
    let any: SocketAddr = if target.is_ipv4() { ([0, 0, 0, 0], 0).into() } else { ([0; 8], 0).into() };
    let socket = UdpSocket::bind(any).ok()?;
    socket.connect(target).ok()?;
    socket.local_addr().ok().map(|address| address.ip())
}

fn parsed<T: DeserializeOwned>(event: &sse::Event) -> Option<T> {
    serde_json::from_str(&event.data)
        .inspect_err(|error| tracing::debug!(event = event.name, %error, "an event makes no sense"))
        .ok()
}

async fn next_events(stream: &mut Body, parser: &mut sse::Parser) -> Result<Vec<sse::Event>, TrackerError> {
    let mut events = Vec::new();
    match stream.chunk().await {
        None => Err(TrackerError::Away("the tracker ended the event stream".to_owned())),
        Some(Err(error)) => Err(TrackerError::Away(error.to_string())),
        Some(Ok(bytes)) => match parser.handle_bytes(&bytes, &mut events) {
            Ok(()) => Ok(events),
            Err(error) => Err(TrackerError::Nonsense(error.to_string())),
        },
    }
}
