//! The core: one task that owns all state. Commands, events and deadlines come in; notices, bytes and writes go out.
//!
//! Everything is written to the history before it is acknowledged or shown, and only here, so the order of writes is the
//! order of this loop. When the user interface does not keep up with the notices, the core stops taking input until it
//! does: slow readers slow the senders, and nothing is dropped.

mod commands;
mod incoming;
mod log;
mod outputs;
mod startup;

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::rc::Rc;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use chat::client::{Command, Message, Notice};
use chat::{ChannelName, DeliveryState, DeviceId, DeviceKey, Entry, History, Path, TrackerId, UserName};
use p2p::{LinkId, Node};
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::{Duration, Instant, sleep_until, timeout};

use crate::api::Call;
use crate::channel::Channel;
use crate::event::Event;
use crate::link::Tls;
use crate::people::People;
use crate::socket::Unwritten;
use crate::sync::Context;
use crate::wire::PeerEntry;
use crate::{PeerError, Settings, Stop};

/// Notices that wait for the user interface before the core stops taking input.
const NOTICES_PENDING_MAX: usize = 4096;
/// Events taken in one turn: what they bring is stored in one write.
const EVENTS_PER_TURN_MAX: usize = 256;
/// Commands taken in one turn.
const COMMANDS_PER_TURN_MAX: usize = 256;
/// Events that tasks may be ahead of the core.
pub(crate) const EVENTS_AHEAD_MAX: usize = 512;
/// Devices and channels beyond those of the user's own rosters are not kept.
const CHANNELS_MAX: usize = 2000;
/// Things to do now and then are looked at this often at least.
const TICK_MS: u64 = 500;
/// Time for goodbyes.
const STOP_TIMEOUT: Duration = Duration::from_secs(1);

/// A link as the core sees it.
struct Link {
    device: DeviceId,
    path: Path,
    /// Dropped means: write what waits, then close.
    writes: mpsc::Sender<Bytes>,
    unwritten: Rc<Unwritten>,
    /// Whether the user asked for it, and so wants to know what became of it.
    asked: bool,
}

/// All state of a running peer.
pub(crate) struct Core {
    user: UserName,
    key: DeviceKey,
    device: DeviceId,
    tls: Tls,
    settings: Settings,
    history: Arc<dyn History>,
    node: Node,
    people: People,
    channels: BTreeMap<ChannelName, Channel>,
    links: HashMap<LinkId, Link>,
    next_link: u64,
    tracker_id: Option<TrackerId>,
    /// What tasks that talk to the tracker share; `None` without a tracker.
    context: Option<Rc<Context>>,
    online: Option<bool>,
    reads_to_tell: BTreeMap<ChannelName, u64>,
    /// The tracker's last list of devices.
    peer_list: Vec<PeerEntry>,
    /// When the first channel wants to be brought level.
    next_sync_ms: u64,
    peers_wanted: bool,
    peers_at_ms: u64,
    forks_told: usize,
    pending: VecDeque<Notice>,
    events: mpsc::Sender<Event>,
    /// Owned: dropped with the core means stopped.
    tasks: JoinSet<()>,
    /// Those that move the bytes of links: they end by themselves when their link is forgotten.
    link_tasks: JoinSet<()>,
    started: Instant,
    quitting: bool,
    failure: Option<PeerError>,
}

impl Core {
    /// Runs until stopped; ends with the reason if running became pointless.
    pub(crate) async fn run(
        mut self,
        listener: TcpListener,
        mut calls: Option<mpsc::Receiver<Call>>,
        mut inbox: mpsc::Receiver<Event>,
        mut commands: mpsc::Receiver<Command>,
        notices: mpsc::Sender<Notice>,
        stop: Stop,
    ) -> Result<(), PeerError> {
        self.start(listener).await?;
        while !self.quitting && self.failure.is_none() {
            self.carry_out_outputs().await;
            let room = self.pending.len() < NOTICES_PENDING_MAX;
            let wake = self.wake();
            tokio::select! {
                () = stop.cancelled() => break,
                permit = notices.reserve(), if !self.pending.is_empty() => match permit {
                    Ok(permit) => self.hand_notices(permit, &notices),
                    Err(_) => break, // the user interface is gone
                },
                command = commands.recv(), if room => match command {
                    Some(command) => {
                        let mut batch = vec![command];
                        while batch.len() < COMMANDS_PER_TURN_MAX && let Ok(command) = commands.try_recv() {
                            batch.push(command);
                        }
                        self.handle_commands(batch).await;
                    }
                    None => break,
                },
                Some(event) = inbox.recv(), if room => {
                    let mut batch = vec![event];
                    while batch.len() < EVENTS_PER_TURN_MAX && let Ok(event) = inbox.try_recv() {
                        batch.push(event);
                    }
                    self.handle_events(batch).await;
                }
                Some(call) = next_call(&mut calls), if room && calls.is_some() => self.handle_call(call).await,
                Some(_) = self.tasks.join_next(), if !self.tasks.is_empty() => {}
                Some(_) = self.link_tasks.join_next(), if !self.link_tasks.is_empty() => {}
                () = sleep_until(wake) => {}
            }
            self.handle_time();
        }
        // what was handed over before the stop is still stored
        let mut left = Vec::new();
        while left.len() < COMMANDS_PER_TURN_MAX
            && let Ok(command) = commands.try_recv()
        {
            left.push(command);
        }
        self.handle_commands(left).await;
        self.stop(&notices).await;
        self.failure.map_or(Ok(()), Err)
    }

    /// Carries out what a program asks by the local API; it learns what the user interface learns from that.
    async fn handle_call(&mut self, call: Call) {
        let before = self.pending.len();
        self.handle_commands(vec![call.command]).await;
        let _ = call.reply.send(self.pending.range(before..).cloned().collect());
    }

    /// Hands over what waits, as far as there is room.
    fn hand_notices(&mut self, permit: mpsc::Permit<'_, Notice>, notices: &mpsc::Sender<Notice>) {
        let mut permit = Some(permit);
        while let (Some(ready), false) = (permit.take(), self.pending.is_empty()) {
            if let Some(notice) = self.pending.pop_front() {
                ready.send(notice);
            }
            permit = notices.try_reserve().ok();
        }
    }

    /// When something is to be done although nothing comes in.
    fn wake(&self) -> Instant {
        let now_ms = self.now_ms();
        let sync_ms = self.context.as_ref().filter(|context| context.online.get()).map(|_| self.next_sync_ms);
        let next = [self.node.poll_timeout(), self.people.next_dial_ms(), sync_ms].into_iter().flatten().min();
        let at_ms = next.unwrap_or(u64::MAX).clamp(now_ms + 1, now_ms + TICK_MS);
        self.started + Duration::from_millis(at_ms)
    }

    /// Says goodbye everywhere, within a limit.
    async fn stop(&mut self, notices: &mpsc::Sender<Notice>) {
        self.quitting = true;
        self.tasks.abort_all(); // a presence renewed after the goodbye would undo it
        self.node.handle_stop();
        self.carry_out_outputs().await;
        self.links.clear(); // the tasks write what waits, then close
        let farewell = async { while self.link_tasks.join_next().await.is_some() {} };
        let _ = timeout(STOP_TIMEOUT, farewell).await;
        let goodbye = async {
            if let Some(context) = self.context.as_ref().filter(|context| context.online.get()) {
                let _ = context.tracker.leave_presence().await;
            }
        };
        let _ = timeout(STOP_TIMEOUT, goodbye).await;
        self.pending.push_back(Notice::Stopped);
        let last_words = async {
            while let Some(notice) = self.pending.pop_front() {
                if notices.send(notice).await.is_err() {
                    return;
                }
            }
        };
        let _ = timeout(STOP_TIMEOUT, last_words).await;
    }

    /// Milliseconds since the start: a clock that never runs backwards.
    fn now_ms(&self) -> u64 {
        self.started.elapsed().as_millis() as u64
    }

    fn tell(&mut self, notice: Notice) {
        self.pending.push_back(notice);
    }

    fn trouble(&mut self, what: impl Into<String>, hint: impl Into<String>) {
        self.tell(Notice::Trouble { what: what.into(), hint: hint.into() });
    }

    /// The channel, made if it was not known. `None` when there are too many.
    fn channel_mut(&mut self, name: &ChannelName) -> Option<&mut Channel> {
        if self.channels.len() >= CHANNELS_MAX && !self.channels.contains_key(name) {
            return None;
        }
        Some(self.channels.entry(name.clone()).or_default())
    }

    /// Tells where a device stands now. The end of all links when this peer stops says nothing of the others.
    fn tell_presence(&mut self, device: &DeviceId) {
        if let Some(person) = self.people.get(device).filter(|_| !self.quitting) {
            let notice = Notice::Presence {
                user: person.user.clone(),
                device: *device,
                online: person.is_there(),
                path: person.link.map(|linked| linked.path),
            };
            self.tell(notice);
        }
    }

    /// Tells the channels as they are known here.
    fn tell_channels(&mut self) {
        let summaries = self.channels.iter().filter(|(name, channel)| channel.is_listed(name));
        let summaries = summaries.map(|(name, channel)| channel.summary(name)).collect();
        self.tell(Notice::Channels(summaries));
    }

    /// A held envelope as a user interface shows it.
    fn message(&self, entry: &Entry) -> Message {
        let envelope = entry.sealed.envelope();
        let channel = self.channels.get(&envelope.channel);
        Message {
            channel: envelope.channel.clone(),
            id: entry.sealed.id(),
            key: entry.order_key(),
            author: envelope.author.clone(),
            device: envelope.device,
            body: envelope.body.clone(),
            sent_at_ms: envelope.sent_at_ms,
            received_at_ms: entry.received_at_ms,
            path: entry.path,
            hosted: channel.is_some_and(|channel| channel.is_hosted(&envelope.device)),
            mine: envelope.author == self.user,
            state: DeliveryState::of(entry.seq, &self.others_devices(&envelope.channel, &entry.holders)),
        }
    }
}

/// The next call of the local API, if it is served.
async fn next_call(calls: &mut Option<mpsc::Receiver<Call>>) -> Option<Call> {
    match calls {
        Some(calls) => calls.recv().await,
        None => None,
    }
}

/// Milliseconds since 1970.
fn unix_ms() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as u64)
}
