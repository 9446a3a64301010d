//! Line mode: what is typed or piped in goes out as messages and commands; every event is one line.
//!
//! Messages read `[general] alice: hello (direct)`, everything else starts with `* `. Own messages are not echoed.

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};

use chat::client::{ChannelSummary, Command, Message, Notice, PeerSummary};
use chat::text::{printable, printable_line};
use chat::{Body, ChannelName, DeliveryState, DeviceId, EnvelopeId, OrderKey, Path, UserName, Visibility};

use crate::Settings;
use crate::app::join_trouble;
use crate::command::{self, COMMANDS, Input};
use crate::view::event_text;

/// Own messages whose way is followed at a time; older ones are no longer reported on.
const FOLLOWED_MAX: usize = 10_000;

/// The state of line mode: lines and notices go in, lines and commands come out.
#[derive(Debug)]
pub(crate) struct Plain {
    settings: Settings,
    channel: ChannelName,
    users: HashMap<DeviceId, UserName>,
    presence: BTreeMap<DeviceId, (bool, Option<Path>)>,
    /// Texts handed to the node that have not come back as own messages.
    unseen: usize,
    /// Own messages by id, with their number and what is known of them.
    own: HashMap<EnvelopeId, Own>,
    own_order: VecDeque<EnvelopeId>,
    own_count: usize,
    history: Option<History>,
    /// Whether the user wants the next list of channels whole.
    channels_asked: bool,
    /// Channels the user is known to be in.
    joined: BTreeSet<ChannelName>,
    quitting: bool,
    output: Vec<String>,
    commands: Vec<Command>,
}

#[derive(Debug)]
struct Own {
    number: usize,
    settled: bool,
    seq: Option<u64>,
    told: Vec<DeviceId>,
}

/// Earlier messages being collected, page by page.
#[derive(Debug)]
struct History {
    channel: ChannelName,
    wanted: usize,
    entries: VecDeque<Message>,
}

impl Plain {
    /// Line mode as `settings` say.
    pub(crate) fn new(settings: Settings) -> Self {
        let channel = settings.channel.clone();
        Self {
            settings,
            channel,
            users: HashMap::new(),
            presence: BTreeMap::new(),
            unseen: 0,
            own: HashMap::new(),
            own_order: VecDeque::new(),
            own_count: 0,
            history: None,
            channels_asked: false,
            joined: BTreeSet::new(),
            quitting: false,
            output: Vec::new(),
            commands: Vec::new(),
        }
    }

    /// Takes a typed line.
    pub(crate) fn handle_line(&mut self, line: &str) {
        match command::parse(line, &self.settings.user, &self.channel) {
            Ok(Input::Nothing) => {}
            Ok(Input::Help) => {
                for (form, does) in COMMANDS {
                    self.event(&format!("{form:<28} {does}"));
                }
            }
            Ok(Input::Open(channel)) => self.turn_to(channel),
            Ok(Input::History(wanted)) => {
                let channel = self.channel.clone();
                self.commands.push(Command::Older { channel: channel.clone(), before: None });
                self.history = Some(History { channel, wanted, entries: VecDeque::new() });
            }
            Ok(Input::Command(Command::Channels)) => {
                self.channels_asked = true;
                self.commands.push(Command::Channels);
            }
            Ok(Input::Command(command)) => self.command(command),
            Err(complaint) => self.event(&complaint),
        }
    }

    /// Says something about a line that could not be taken.
    pub(crate) fn handle_overlong_line(&mut self, bytes_max: usize) {
        self.event(&format!("a line of more than {bytes_max} bytes was not sent: split it"));
    }

    /// Takes news of the node.
    pub(crate) fn handle_notice(&mut self, notice: Notice) {
        match notice {
            Notice::Ready { user, device, listening } => {
                self.event(&format!("{user} listens for peers at {listening} as device {device}"));
            }
            Notice::Tracker { online, detail } => {
                let state = if online { "online" } else { "offline" };
                self.event(&format!("tracker {state}: {detail}"));
            }
            Notice::Message(message) => self.handle_message(&message),
            Notice::State { id, key, state, .. } => self.handle_state(id, key, &state),
            Notice::Presence { user, device, online, path } => self.handle_presence(user, device, online, path),
            Notice::Typing { .. } => {}
            Notice::Channels(channels) => self.handle_channels(&channels),
            Notice::Peers(peers) => self.handle_peers(&peers),
            Notice::History { channel, entries, more } => self.handle_history(&channel, entries, more),
            Notice::Gap { channel, missing: 0 } => self.event(&format!("{channel}: nothing is missing any more")),
            Notice::Gap { channel, missing } => self.event(&format!("{channel}: {missing} missing, being fetched")),
            Notice::Trouble { what, hint } => self.event(&format!("trouble: {}", join_trouble(&what, &hint))),
            Notice::Stopped => self.quitting = true,
        }
    }

    /// Takes out the lines to print.
    pub(crate) fn take_output(&mut self) -> Vec<String> {
        std::mem::take(&mut self.output)
    }

    /// Takes out what the node is to do.
    pub(crate) fn take_commands(&mut self) -> Vec<Command> {
        std::mem::take(&mut self.commands)
    }

    /// Whether the program is to end.
    pub(crate) fn is_quitting(&self) -> bool {
        self.quitting
    }

    /// How many own messages are neither stored nor delivered yet.
    pub(crate) fn unsettled(&self) -> usize {
        self.unseen + self.own.values().filter(|own| !own.settled).count()
    }

    /// Whether an answer to `/history` is under way.
    pub(crate) fn is_collecting(&self) -> bool {
        self.history.is_some()
    }

    fn command(&mut self, command: Command) {
        match &command {
            Command::Say { .. } | Command::Message { .. } => self.unseen += 1,
            Command::Join { channel } | Command::Create { channel, .. } => self.turn_to(channel.clone()),
            Command::Quit => self.quitting = true,
            _ => {}
        }
        self.commands.push(command);
    }

    fn turn_to(&mut self, channel: ChannelName) {
        if channel != self.channel {
            self.event(&format!("writing to {channel} now"));
            self.channel = channel;
        }
    }

    fn handle_message(&mut self, message: &Message) {
        self.users.insert(message.device, message.author.clone());
        if message.path == Path::Own {
            return self.handle_own(message);
        }
        let line = message_line(message);
        self.output.extend(line);
    }

    fn handle_own(&mut self, message: &Message) {
        if message.body.text().is_none() {
            return;
        }
        self.unseen = self.unseen.saturating_sub(1);
        self.own_count += 1;
        let own = Own { number: self.own_count, settled: false, seq: None, told: Vec::new() };
        self.own.insert(message.id, own);
        self.own_order.push_back(message.id);
        if self.own_order.len() > FOLLOWED_MAX
            && let Some(oldest) = self.own_order.pop_front()
        {
            self.own.remove(&oldest);
        }
        if self.settings.verbose {
            self.event(&format!("#{} queued for {}", self.own_count, message.channel));
        }
        self.handle_state(message.id, message.key, &message.state);
    }

    fn handle_state(&mut self, id: EnvelopeId, key: OrderKey, state: &DeliveryState) {
        let Some(own) = self.own.get_mut(&id) else { return };
        let number = own.number;
        let mut news = Vec::new();
        if let Some(seq) = key.seq().filter(|_| own.seq.is_none()) {
            own.seq = Some(seq);
            news.push(format!("#{number} stored as {seq}"));
        }
        match state {
            DeliveryState::Queued => return,
            DeliveryState::Stored { .. } => {}
            DeliveryState::Delivered { devices } => {
                for device in devices.iter().filter(|device| !own.told.contains(device)).copied().collect::<Vec<_>>() {
                    own.told.push(device);
                    let user = self.users.get(&device).map_or_else(|| device.to_string(), ToString::to_string);
                    news.push(format!("#{number} delivered to {user}"));
                }
            }
            DeliveryState::Read => news.push(format!("#{number} read")),
        }
        own.settled = true;
        if self.settings.verbose {
            for line in &news {
                self.event(line);
            }
        }
    }

    fn handle_presence(&mut self, user: UserName, device: DeviceId, online: bool, path: Option<Path>) {
        let before = self.presence.insert(device, (online, path));
        if before != Some((online, path)) && (online || before.is_some()) {
            let had_link = before.is_some_and(|(_, path)| path.is_some());
            let link = match path {
                Some(path) => format!(" ({})", path.as_str()),
                None if online && had_link => ", the link is gone".to_owned(),
                None => String::new(),
            };
            self.event(&format!("{user} is {}{link}", if online { "online" } else { "offline" }));
        }
        self.users.insert(device, user);
    }

    /// Lists the channels if that was asked for; otherwise tells where the user has come in or gone.
    fn handle_channels(&mut self, channels: &[ChannelSummary]) {
        let joined = channels.iter().filter(|channel| channel.member).map(|channel| channel.name.clone());
        let before = std::mem::replace(&mut self.joined, joined.collect());
        if !std::mem::take(&mut self.channels_asked) {
            let came: Vec<String> = self.joined.difference(&before).map(ToString::to_string).collect();
            let went: Vec<String> = before.difference(&self.joined).map(ToString::to_string).collect();
            for name in came {
                self.event(&format!("you are in {name}"));
            }
            for name in went {
                self.event(&format!("you are no longer in {name}"));
            }
            return;
        }
        for channel in channels {
            let mark = if channel.member { "in" } else { "to /join" };
            let kind = match channel.visibility {
                Visibility::Public => "public",
                Visibility::Private => "private",
                Visibility::Direct => "direct",
            };
            self.event(&format!(
                "{} ({kind}, {} members, {} unread, {mark})",
                channel.name, channel.members, channel.unread
            ));
        }
        if channels.is_empty() {
            self.event("no channels yet: /create CHANNEL makes one");
        }
    }

    fn handle_peers(&mut self, peers: &[PeerSummary]) {
        for peer in peers {
            self.users.insert(peer.device, peer.user.clone());
            let state = if peer.online { "online" } else { "offline" };
            let path = peer.path.map_or(String::new(), |path| format!(", {}", path.as_str()));
            let hosted = if peer.hosted { ", hosted" } else { "" };
            let address = peer.address.map_or(String::new(), |address| format!(", {address}"));
            self.event(&format!("{} {state}{path}{hosted}{address}", peer.user));
        }
        if peers.is_empty() {
            self.event("nobody else is known here yet");
        }
    }

    fn handle_history(&mut self, channel: &ChannelName, entries: Vec<Message>, more: bool) {
        let Some(mut history) = self.history.take_if(|history| history.channel == *channel) else { return };
        let before = entries.first().map(|message| message.key);
        for message in entries.into_iter().rev() {
            history.entries.push_front(message);
        }
        if more && before.is_some() && history.entries.len() < history.wanted {
            self.commands.push(Command::Older { channel: channel.clone(), before });
            self.history = Some(history);
            return;
        }
        let surplus = history.entries.len().saturating_sub(history.wanted);
        history.entries.drain(..surplus);
        self.event(&format!("history of {channel}, {} messages:", history.entries.len()));
        let lines: Vec<String> = history.entries.iter().filter_map(message_line).collect();
        self.output.extend(lines);
        self.event("end of history");
    }

    fn event(&mut self, text: &str) {
        self.output.push(format!("* {}", printable_line(text)));
    }
}

/// A message as a line; `None` for what this version does not show.
fn message_line(message: &Message) -> Option<String> {
    let channel = &message.channel;
    let Body::Text { text } = &message.body else {
        let event = event_text(message)?;
        return Some(format!("* {channel}: {}", event.trim_start_matches("— ")));
    };
    let text = printable(text).replace('\n', "\\n").replace('\t', " ");
    let hosted = if message.hosted { ", hosted" } else { "" };
    Some(format!("[{channel}] {}: {text} ({}{hosted})", message.author, message.path.as_str()))
}
