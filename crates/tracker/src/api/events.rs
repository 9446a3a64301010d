//! The event stream: what happens in the caller's channels, who is online, who waits at the relay.

use super::Answer;
use crate::caller::Caller;
use crate::hub::{Line, News};
use crate::tracker::Tracker;
use crate::trouble::Trouble;
use chat::{ChannelName, DeviceId, UserName};
use serde::{Deserialize, Serialize};
use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::broadcast::error::RecvError;
use tokio::time::{MissedTickBehavior, interval};
use weaprous::prelude::*;
use weaprous::sse::SendError;

/// Streams one user may have open: every tab and every device has one.
const STREAMS_PER_USER_MAX: usize = 32;
/// Entries read at a time while a stream catches up.
const CATCH_UP_ENTRIES: usize = 200;
/// How often a stream looks whether its session still holds: a logout ends it after this time at most.
const SESSION_CHECK_EVERY: Duration = Duration::from_secs(10);

/// Where to go on.
#[derive(Deserialize)]
pub(crate) struct Since {
    since: Option<u64>,
}

/// `GET /api/v1/events`
pub(crate) async fn events(
    State(tracker): State<Tracker>,
    caller: Caller,
    LastEventId(last_id): LastEventId,
    Query(Since { since }): Query<Since>,
) -> Answer<Response> {
    let resumed = last_id.map(|id| id.parse::<u64>()).transpose();
    let resumed = resumed.map_err(|_| Problem::bad_request("Last-Event-ID: the position of an event"))?;
    let place = tracker.streams.enter(&caller.user)?;
    let device = tracker.bound_device(&caller).await?;
    let news = tracker.hub.listen();
    tracker.channels.load_all(tracker.store()).await?;
    let last = tracker.store().last_position().await?;
    // A position beyond the log is of another log: that client has missed whatever there is from now on at most.
    let position = resumed.or(since).unwrap_or(last).min(last);
    let sse = Sse::new(move |sender| async move {
        let _place = place;
        let mut stream = Stream { tracker, caller, device, sender, position };
        match stream.run(news).await {
            Err(Ended::Client(ended)) => Err(ended),
            Err(Ended::Failed(Trouble(problem))) => {
                tracing::warn!(%problem, "an event stream ended early");
                Ok(())
            }
            Ok(()) => Ok(()),
        }
    });
    Ok(sse.into_response())
}

/// One client's stream.
struct Stream {
    tracker: Arc<Tracker>,
    caller: Caller,
    device: Option<DeviceId>,
    sender: SseSender,
    /// Everything up to here was sent, as far as the user may read it.
    position: u64,
}

/// Why a stream ends before the server does.
enum Ended {
    Client(SendError),
    Failed(Trouble),
}

impl From<SendError> for Ended {
    fn from(error: SendError) -> Self {
        Self::Client(error)
    }
}

impl From<Trouble> for Ended {
    fn from(trouble: Trouble) -> Self {
        Self::Failed(trouble)
    }
}

impl From<chat::StoreError> for Ended {
    fn from(error: chat::StoreError) -> Self {
        Self::Failed(error.into())
    }
}

#[derive(Serialize)]
struct Ready {
    position: u64,
}

#[derive(Serialize)]
struct ChannelEvent<'a> {
    channel: &'a ChannelName,
    version: u64,
}

#[derive(Serialize)]
struct ReadEvent<'a> {
    channel: &'a ChannelName,
    seq: u64,
}

#[derive(Serialize)]
struct RelayEvent<'a> {
    token: &'a str,
    from: DeviceId,
}

impl Stream {
    /// Sends until the session ends, or the client falls too far behind: it comes back with its position.
    async fn run(&mut self, mut news: tokio::sync::broadcast::Receiver<News>) -> Result<(), Ended> {
        let position = self.position;
        self.sender.send(Event::new().event("ready").id(position).json(&Ready { position })).await?;
        self.catch_up().await?;
        let mut check = interval(SESSION_CHECK_EVERY);
        check.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                received = news.recv() => match received {
                    Ok(news) => self.pass_on(news).await?,
                    Err(RecvError::Lagged(_) | RecvError::Closed) => return Ok(()),
                },
                _ = check.tick() => if !self.session_holds().await? {
                    return Ok(());
                },
            }
        }
    }

    /// Sends what the log holds beyond the position.
    async fn catch_up(&mut self) -> Result<(), Ended> {
        loop {
            let entries = self.tracker.store().read_all(self.position, CATCH_UP_ENTRIES).await?;
            if entries.is_empty() {
                return Ok(());
            }
            self.tracker.level_with(&entries).await?;
            for line in self.tracker.lines(&entries).await? {
                self.send_line(&line).await?;
            }
        }
    }

    async fn pass_on(&mut self, news: News) -> Result<(), Ended> {
        let user = &self.caller.user;
        let event = match news {
            News::Logged(lines) => {
                for line in &*lines {
                    self.send_line(line).await?;
                }
                return Ok(());
            }
            News::Presence(view) => Event::new().event("presence").json(&*view),
            News::Channel { channel, version, gone } => {
                if !self.tracker.channels.may_read(&channel, user) && !gone.contains(user) {
                    return Ok(());
                }
                Event::new().event("channel").json(&ChannelEvent { channel: &channel, version })
            }
            News::Read { user: reader, channel, seq } if reader == *user => {
                Event::new().event("read").json(&ReadEvent { channel: &channel, seq })
            }
            News::Relay { to, token, from } if Some(to) == self.device => {
                Event::new().event("relay").json(&RelayEvent { token: &token, from })
            }
            News::Read { .. } | News::Relay { .. } => return Ok(()),
        };
        Ok(self.sender.send(event).await?)
    }

    /// Sends an entry to a member of its channel, and to whom it put out.
    async fn send_line(&mut self, line: &Line) -> Result<(), Ended> {
        if line.position <= self.position {
            return Ok(());
        }
        self.position = line.position;
        let user = &self.caller.user;
        if self.tracker.channels.is_member(&line.channel, user) || line.puts_out.as_ref() == Some(user) {
            self.sender.send(Event::new().event("message").id(line.position).data(&line.json)).await?;
        }
        Ok(())
    }

    async fn session_holds(&self) -> Result<bool, Ended> {
        let session = self.tracker.settings.sessions.check(&self.caller.token.0).await;
        Ok(session.map_err(|error| Trouble::from(Problem::internal(error)))?.is_some())
    }
}

/// How many streams each user has open.
#[derive(Default)]
pub(crate) struct Streams(Arc<Mutex<HashMap<UserName, usize>>>);

/// A user's place, given up when dropped.
struct Place {
    streams: Arc<Mutex<HashMap<UserName, usize>>>,
    user: UserName,
}

impl Streams {
    fn enter(&self, user: &UserName) -> Answer<Place> {
        let mut streams = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let open = streams.entry(user.clone()).or_default();
        if *open >= STREAMS_PER_USER_MAX {
            let detail = format!("you have {STREAMS_PER_USER_MAX} event streams open, the most there may be");
            return Err(Problem::too_many_requests(detail, 5).into());
        }
        *open += 1;
        Ok(Place { streams: Arc::clone(&self.0), user: user.clone() })
    }

    pub(crate) fn count(&self) -> usize {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).values().sum()
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut streams = self.streams.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(open) = streams.get_mut(&self.user) {
            *open -= 1;
            if *open == 0 {
                streams.remove(&self.user);
            }
        }
    }
}
