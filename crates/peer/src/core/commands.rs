//! What the user wants.

use chat::client::{Command, Notice};
use chat::{
    Arrival, Body, ChannelName, DeliveryState, DeviceId, Draft, Envelope, Inserted, OrderKey, Path, Sealed,
    TEXT_BYTES_MAX, Visibility,
};

use super::startup::READ_MARKS;
use super::{Core, unix_ms};
use crate::channel::{Channel, INTENTS_MAX, Standing, WAITING_MAX, Waiting};
use crate::event::Event;
use crate::membership::{self, Intent};
use crate::settings::DEFAULT_CHANNEL;
use crate::socket;
use std::collections::BTreeSet;

/// Messages given per answer to [`Command::Older`].
const OLDER_MESSAGES: usize = 100;
/// While there are links, own messages are handed to the tracker this much later, or as soon as all linked members have
/// them: so the straight way is first where there is one, and what is said in one breath is handed over together.
const HEAD_START_MS: u64 = 400;

impl Core {
    /// Carries out commands in order. Messages that follow each other are stored in one write.
    pub(super) async fn handle_commands(&mut self, commands: Vec<Command>) {
        let (mut drafts, mut waits) = (Vec::new(), BTreeSet::new());
        for command in commands {
            match command {
                Command::Say { channel, text } => self.say(channel, text, &mut drafts, &mut waits),
                Command::Message { user, text } => match ChannelName::direct(&self.user, &user) {
                    Ok(channel) => {
                        self.open_direct(&channel);
                        self.say(channel, text, &mut drafts, &mut waits);
                    }
                    Err(error) => self.trouble(error.to_string(), "write to somebody else"),
                },
                other => {
                    self.write(std::mem::take(&mut drafts)).await;
                    self.keep_all_waiting(std::mem::take(&mut waits)).await;
                    self.handle_command(other).await;
                }
            }
        }
        self.write(drafts).await;
        self.keep_all_waiting(waits).await;
    }

    async fn keep_all_waiting(&self, names: BTreeSet<ChannelName>) {
        for name in names {
            self.keep_waiting(&name).await;
        }
    }

    async fn handle_command(&mut self, command: Command) {
        match command {
            Command::Join { channel } if channel.is_direct() => self.open_direct(&channel),
            Command::Join { channel } => self.join(&channel),
            Command::Create { channel, visibility } => self.create(channel, visibility),
            Command::Leave { channel } => self.change(channel, Body::Leave),
            Command::Invite { channel, user } => self.change(channel, Body::Invite { user }),
            Command::Remove { channel, user } => self.change(channel, Body::Remove { user }),
            Command::Peers => self.tell(Notice::Peers(self.people.summaries())),
            Command::Channels => self.list_channels(),
            Command::Connect { address } => {
                self.tasks.spawn_local(socket::connect(address, self.tls.clone(), self.events.clone()));
            }
            Command::Older { channel, before } => self.show_older(channel, before).await,
            Command::Read { channel, up_to } => self.note_read(channel, up_to).await,
            Command::Typing { channel } => self.node.handle_typing(&channel, self.now_ms()),
            Command::Quit => self.quitting = true,
            Command::Say { .. } | Command::Message { .. } => {} // taken by `handle_commands`
        }
    }

    /// Makes a message ready to be written, or keeps it until its channel is ready.
    fn say(&mut self, name: ChannelName, text: String, drafts: &mut Vec<Draft>, waits: &mut BTreeSet<ChannelName>) {
        if text.is_empty() || text.len() > TEXT_BYTES_MAX {
            return self.trouble(format!("a message has 1 to {TEXT_BYTES_MAX} bytes"), "split it");
        }
        let author = self.user.clone();
        match self.channels.get_mut(&name) {
            Some(channel) if channel.is_ready() => {
                drafts.push(Draft { channel: name, author, sent_at_ms: unix_ms(), body: Body::Text { text } });
            }
            Some(channel) if channel.is_coming() && channel.waiting.len() < WAITING_MAX => {
                channel.waiting.push_back(Waiting { said_at_ms: unix_ms(), text });
                waits.insert(name);
            }
            Some(channel) if channel.is_coming() => {
                self.trouble(format!("too much waits for {name} already"), "wait until the tracker is back");
            }
            _ => self.trouble(format!("you are not in {name}"), format!("/join {name} first")),
        }
    }

    /// Seals, stores and sends what was said. Nothing is shown or sent before it is stored.
    pub(super) async fn write(&mut self, drafts: Vec<Draft>) {
        if drafts.is_empty() {
            return;
        }
        let mut sealed = Vec::with_capacity(drafts.len());
        for draft in drafts {
            match self.seal(draft) {
                Ok(one) => sealed.push(one),
                Err(error) => self.trouble(error.to_string(), "say it in another way"),
            }
        }
        let received_at_ms = unix_ms();
        let arrival = |sealed: &Sealed| Arrival { sealed: sealed.clone(), path: Path::Own, received_at_ms };
        let stored = self.history.insert(sealed.iter().map(arrival).collect()).await;
        let failed = match &stored {
            Ok(results) => results.iter().find_map(|result| result.as_ref().err().map(ToString::to_string)),
            Err(error) => Some(error.to_string()),
        };
        for (index, sealed) in sealed.iter().enumerate() {
            if let Ok(results) = &stored
                && let Some(Ok(Inserted::New | Inserted::Known)) = results.get(index)
            {
                self.send_own(sealed, received_at_ms);
            }
        }
        if let Some(error) = failed {
            self.trouble(
                format!("a message could not be stored and was not sent: {error}"),
                "check the disk, say it again",
            );
            self.reload_heads().await;
        }
    }

    /// The next envelope of this device in its channel. The chain goes on from it at once; if it is not stored after
    /// all, [`Core::reload_heads`] takes that back.
    pub(super) fn seal(&mut self, draft: Draft) -> Result<Sealed, chat::EnvelopeError> {
        let (key, device) = (self.key.clone(), self.device);
        let name = draft.channel.clone();
        let Some(channel) = self.channel_mut(&name) else { return Err(chat::EnvelopeError::OutOfRange("channel")) };
        let envelope: Envelope = draft.follow(device, channel.head.as_ref(), channel.lamport);
        let sealed = Sealed::seal(&key, &envelope)?;
        channel.handle_held(&sealed, &device);
        Ok(sealed)
    }

    fn send_own(&mut self, sealed: &Sealed, received_at_ms: u64) {
        let now_ms = self.now_ms();
        let name = &sealed.envelope().channel;
        if let Some(channel) = self.channel_mut(name) {
            channel.follow(sealed);
        }
        self.node.handle_local(sealed, now_ms);
        self.tell_new(sealed, None, Path::Own, received_at_ms);
        self.want_sync_after(name, if self.links.is_empty() { 0 } else { HEAD_START_MS });
    }

    /// Puts what is known of the own chains back to what is stored.
    async fn reload_heads(&mut self) {
        let Ok(heads) = self.history.heads().await else { return };
        let device = self.device;
        for channel in self.channels.values_mut() {
            channel.head = None;
        }
        for (name, head) in heads.into_iter().filter(|(_, head)| head.device == device) {
            if let Some(channel) = self.channel_mut(&name) {
                channel.head = Some(head);
            }
        }
    }

    /// Writes what was said while a channel was not ready.
    pub(super) async fn write_waiting(&mut self, name: &ChannelName) {
        let author = self.user.clone();
        let Some(channel) = self.channels.get_mut(name) else { return };
        if !channel.is_joined() || channel.is_held_up() {
            return;
        }
        let texts = std::mem::take(&mut channel.waiting);
        if texts.is_empty() {
            return;
        }
        let draft = |waiting: Waiting| Draft {
            channel: name.clone(),
            author: author.clone(),
            sent_at_ms: waiting.said_at_ms,
            body: Body::Text { text: waiting.text },
        };
        self.write(texts.into_iter().map(draft).collect()).await;
        self.keep_waiting(name).await;
    }

    fn join(&mut self, name: &ChannelName) {
        if self.channels.get(name).is_some_and(Channel::is_joined) {
            return self.tell_channels();
        }
        if let Some(channel) = self.channel_mut(name) {
            channel.standing = Standing::Wanted;
        }
        self.carry_out(name.clone(), Intent::Join { create: None });
    }

    fn create(&mut self, name: ChannelName, visibility: Visibility) {
        if let Some(channel) = self.channel_mut(&name).filter(|channel| channel.standing == Standing::Outside) {
            channel.standing = Standing::Wanted;
        }
        self.carry_out(name, Intent::Create(visibility));
    }

    /// Comes into a channel again that the user wants to be in. The default channel is made if nobody has.
    pub(super) fn join_wanted(&mut self, name: ChannelName) {
        let create = (name.as_str() == DEFAULT_CHANNEL).then_some(Visibility::Public);
        self.carry_out(name, Intent::Join { create });
    }

    /// A direct channel needs no joining, only its roster.
    fn open_direct(&mut self, name: &ChannelName) {
        if name.direct_partner(&self.user).is_none() {
            return self.trouble(format!("{name} is between others"), "write /msg USER TEXT");
        }
        if self.channels.get(name).is_none_or(|channel| !channel.is_joined() && !channel.is_coming()) {
            if let Some(channel) = self.channel_mut(name) {
                channel.standing = Standing::Wanted;
            }
            self.carry_out(name.clone(), Intent::Join { create: None });
        }
    }

    fn change(&mut self, channel: ChannelName, body: Body) {
        if self.channels.get(&channel).is_none_or(|channel| !channel.is_joined() && !channel.is_coming()) {
            return self.trouble(format!("you are not in {channel}"), format!("/join {channel} first"));
        }
        self.carry_out(channel, Intent::Change(body));
    }

    /// Starts a task that carries an intent out. One at a time per channel, the others wait.
    pub(super) fn carry_out(&mut self, name: ChannelName, intent: Intent) {
        let context = match &self.context {
            Some(context) if context.online.get() => context.clone(),
            Some(_) => {
                return self.trouble(format!("{name}: the tracker is away"), "it is needed for this; try again later");
            }
            None => return self.trouble(format!("{name}: there is no tracker"), "start with --tracker for this"),
        };
        let busy = |channel: &Channel| channel.changing || channel.unresolved.is_some();
        match self.channel_mut(&name) {
            Some(channel) if !busy(channel) => channel.changing = true,
            Some(channel) if channel.intents.len() < INTENTS_MAX => return channel.intents.push_back(intent),
            _ => return self.trouble(format!("{name}: another change is under way"), "try again in a moment"),
        }
        self.tasks.spawn_local(membership::carry_out(context, self.user.clone(), name, intent));
    }

    /// Answers from the tracker if it is there, else from what is known here.
    fn list_channels(&mut self) {
        let Some(context) = self.context.clone().filter(|context| context.online.get()) else {
            return self.tell_channels();
        };
        let events = self.events.clone();
        self.tasks.spawn_local(async move {
            // without an answer the core still tells what it knows
            let channels = context.tracker.channels().await.unwrap_or_default();
            let _ = events.send(Event::ChannelList(channels)).await;
        });
    }

    async fn show_older(&mut self, name: ChannelName, before: Option<OrderKey>) {
        match self.history.timeline(&name, before, OLDER_MESSAGES).await {
            Ok(entries) => {
                let more = entries.len() == OLDER_MESSAGES;
                let entries = entries.iter().map(|entry| self.message(entry)).collect();
                self.tell(Notice::History { channel: name, entries, more });
            }
            Err(error) => {
                self.tell(Notice::History { channel: name, entries: Vec::new(), more: false });
                self.trouble(format!("the history cannot be read: {error}"), "check the disk");
            }
        }
    }

    async fn note_read(&mut self, name: ChannelName, up_to: OrderKey) {
        let Some(channel) = self.channels.get_mut(&name) else { return };
        if channel.read.is_some_and(|read| read >= up_to) {
            return;
        }
        (channel.read, channel.unread) = (Some(up_to), 0);
        if let Some(seq) = up_to.seq() {
            self.reads_to_tell.insert(name.clone(), seq);
        }
        let mark = serde_json::to_vec(&up_to).expect("numbers and ids always serialise");
        if let Err(error) = self.history.put(&format!("{READ_MARKS}{name}"), mark).await {
            tracing::warn!(%error, "a read mark is not kept");
        }
    }

    /// The devices that are not this user's own: only what reached somebody else counts as delivered.
    pub(super) fn others_devices(&self, name: &ChannelName, devices: &[DeviceId]) -> Vec<DeviceId> {
        let channel = self.channels.get(name);
        let is_mine = |device: &DeviceId| channel.is_some_and(|channel| channel.is_device_of(device, &self.user));
        devices.iter().filter(|device| !is_mine(device)).copied().collect()
    }

    /// Tells that an own message has come further.
    pub(super) fn tell_state(&mut self, name: &ChannelName, id: chat::EnvelopeId) {
        let Some(own) = self.channels.get_mut(name).and_then(|channel| channel.own_mut(&id)).cloned() else { return };
        let key = OrderKey::new(own.seq, own.lamport, id);
        let state = DeliveryState::of(own.seq, &self.others_devices(name, &own.holders));
        self.tell(Notice::State { channel: name.clone(), id, key, state });
    }
}
