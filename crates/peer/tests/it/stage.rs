//! Puts peers on a stage: runs them on threads of their own, gives them commands, waits for what they notice.

use std::net::SocketAddr;
use std::path::Path as FilePath;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use chat::client::{Command, Message, Notice};
use chat::{
    ChannelName, DeliveryState, DeviceId, History, Path, Roster, RosterDevice, RosterMember, SignedRoster, TrackerKey,
    UserName,
};
use peer::{Pace, PeerError, Settings, Stop};
use tempfile::TempDir;
use tokio::sync::mpsc;
use tokio::time::{Instant, timeout_at};

/// How long a test waits for what must come.
const PATIENCE: Duration = Duration::from_secs(30);

pub(crate) fn channel(name: &str) -> ChannelName {
    name.parse().unwrap()
}

pub(crate) fn user(name: &str) -> UserName {
    name.parse().unwrap()
}

/// Times that suit tests: everything soon.
pub(crate) fn quick() -> Pace {
    Pace {
        presence: Duration::from_millis(500),
        retry_first: Duration::from_millis(50),
        retry_max: Duration::from_millis(300),
        redial_first: Duration::from_millis(50),
        redial_max: Duration::from_millis(400),
        courtesy: Duration::from_millis(100),
        answer: Duration::from_secs(5),
    }
}

/// A user's device before it runs: its directory with the key, and its history.
pub(crate) struct Actor {
    pub(crate) name: UserName,
    pub(crate) device: DeviceId,
    pub(crate) directory: TempDir,
    pub(crate) history: Arc<dyn History>,
}

impl Actor {
    /// With a history in memory.
    pub(crate) fn new(name: &str) -> Self {
        Self::with_history(name, |_| Arc::new(store::MemoryHistory::new()))
    }

    /// With a history on disk.
    pub(crate) fn on_disk(name: &str) -> Self {
        Self::with_history(name, |directory| Arc::new(store::SqliteHistory::open(directory).unwrap()))
    }

    fn with_history(name: &str, history: impl Fn(&FilePath) -> Arc<dyn History>) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let device = peer::key::load_or_make(directory.path()).unwrap().key.id();
        let history = history(directory.path());
        Self { name: user(name), device, directory, history }
    }

    pub(crate) fn settings(&self) -> Settings {
        Settings {
            listen: "127.0.0.1:0".parse().unwrap(),
            pace: quick(),
            ..Settings::new(self.name.clone(), self.directory.path().to_owned())
        }
    }

    /// Tells the history what an earlier meeting with a tracker would have left.
    pub(crate) async fn believe(&self, tracker: &TrackerKey, roster: &SignedRoster) {
        self.history.put("tracker", tracker.id().to_string().into_bytes()).await.unwrap();
        let value = serde_json::json!({ "roster": roster.text(), "signature": roster.signature() });
        let name = format!("roster/{}", roster.roster().channel);
        self.history.put(&name, value.to_string().into_bytes()).await.unwrap();
    }

    /// Tells the history where a device was last.
    pub(crate) async fn know_address(&self, device: DeviceId, address: SocketAddr) {
        let value = serde_json::to_vec(&[address]).unwrap();
        self.history.put(&format!("addresses/{device}"), value).await.unwrap();
    }

    pub(crate) async fn run(&self) -> Running {
        self.run_with(self.settings()).await
    }

    pub(crate) async fn run_with(&self, settings: Settings) -> Running {
        let (commands, command_receiver) = mpsc::channel(64);
        let (notice_sender, notices) = mpsc::channel(64);
        let stop = Stop::new();
        let (history, stopping) = (self.history.clone(), stop.clone());
        let thread =
            std::thread::spawn(move || peer::run(settings, history, command_receiver, notice_sender, stopping));
        let mut running = Running {
            name: self.name.clone(),
            device: self.device,
            listening: "0.0.0.0:0".parse().unwrap(),
            commands,
            notices,
            seen: Vec::new(),
            stop,
            thread: Some(thread),
        };
        running.listening = running
            .find(|notice| match notice {
                Notice::Ready { listening, .. } => Some(*listening),
                _ => None,
            })
            .await;
        running
    }
}

/// The roster of `general` with these devices.
pub(crate) fn roster(tracker: &TrackerKey, version: u64, members: &[&Actor]) -> SignedRoster {
    roster_of(tracker, "general", version, members)
}

pub(crate) fn roster_of(tracker: &TrackerKey, name: &str, version: u64, members: &[&Actor]) -> SignedRoster {
    let member = |actor: &&Actor| RosterMember {
        user: actor.name.clone(),
        devices: vec![RosterDevice { device: actor.device, hosted: false }],
    };
    let members = members.iter().map(member).collect();
    SignedRoster::sign(tracker, &Roster::new(tracker.id(), channel(name), version, members)).unwrap()
}

/// A peer that runs.
pub(crate) struct Running {
    pub(crate) name: UserName,
    pub(crate) device: DeviceId,
    pub(crate) listening: SocketAddr,
    pub(crate) commands: mpsc::Sender<Command>,
    notices: mpsc::Receiver<Notice>,
    /// All notices so far.
    pub(crate) seen: Vec<Notice>,
    pub(crate) stop: Stop,
    thread: Option<JoinHandle<Result<(), PeerError>>>,
}

impl Running {
    pub(crate) async fn command(&mut self, command: Command) {
        // a peer whose notices nobody takes takes no commands: do both
        loop {
            tokio::select! {
                permit = self.commands.reserve() => {
                    permit.unwrap().send(command);
                    return;
                }
                Some(notice) = self.notices.recv() => self.seen.push(notice),
            }
        }
    }

    pub(crate) async fn say(&mut self, text: &str) {
        self.command(Command::Say { channel: channel("general"), text: text.to_owned() }).await;
    }

    /// Waits for a notice for which `wanted` gives something; those seen already count.
    pub(crate) async fn find<T>(&mut self, mut wanted: impl FnMut(&Notice) -> Option<T>) -> T {
        if let Some(found) = self.seen.iter().find_map(&mut wanted) {
            return found;
        }
        let deadline = Instant::now() + PATIENCE;
        loop {
            match timeout_at(deadline, self.notices.recv()).await {
                Ok(Some(notice)) => {
                    let found = wanted(&notice);
                    self.seen.push(notice);
                    if let Some(found) = found {
                        return found;
                    }
                }
                Ok(None) => {
                    let end = self.end();
                    panic!("{} has stopped: {end:?}; seen: {:#?}", self.name, self.seen)
                }
                Err(late) => panic!("{} waits in vain ({late}); seen: {:#?}", self.name, self.seen),
            }
        }
    }

    /// Waits for a message with this text.
    pub(crate) async fn hears(&mut self, text: &str) -> Message {
        self.find(|notice| match notice {
            Notice::Message(message) if message.body.text() == Some(text) => Some(message.clone()),
            _ => None,
        })
        .await
    }

    /// Waits until a link with a device is up.
    pub(crate) async fn links_with(&mut self, other: DeviceId) -> Path {
        self.find(|notice| match notice {
            Notice::Presence { device, path: Some(path), .. } if *device == other => Some(*path),
            _ => None,
        })
        .await
    }

    /// Waits until an own message has been stored by a device.
    pub(crate) async fn delivers(&mut self, text: &str, to: DeviceId) {
        let wanted = self.hears(text).await.id;
        self.find(|notice| match notice {
            Notice::State { id, state: DeliveryState::Delivered { devices }, .. }
                if *id == wanted && devices.contains(&to) =>
            {
                Some(())
            }
            _ => None,
        })
        .await;
    }

    /// Forgets what was noticed.
    pub(crate) fn forget(&mut self) {
        while let Ok(notice) = self.notices.try_recv() {
            self.seen.push(notice);
        }
        self.seen.clear();
    }

    /// The texts of all messages noticed.
    pub(crate) fn texts(&self) -> Vec<String> {
        let texts = self.seen.iter().filter_map(|notice| match notice {
            Notice::Message(message) => message.body.text().map(str::to_owned),
            _ => None,
        });
        texts.collect()
    }

    /// Stops the peer and gives how it ended.
    pub(crate) fn end(&mut self) -> Result<(), PeerError> {
        self.stop.cancel();
        // a peer that cannot get rid of its last words gives up after a second
        self.thread.take().map_or(Ok(()), |thread| thread.join().unwrap())
    }
}

/// The texts of a channel as a history holds them, in display order.
pub(crate) async fn held(history: &Arc<dyn History>, name: &str) -> Vec<String> {
    let entries = history.timeline(&channel(name), None, 100_000).await.unwrap();
    entries.iter().filter_map(|entry| entry.sealed.envelope().body.text().map(str::to_owned)).collect()
}
