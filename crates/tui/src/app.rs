//! The state of the full screen: notices and keys go in, commands come out. Draws nothing, waits for nothing.

use std::collections::BTreeMap;

use chat::client::{Command, Message, Notice, PeerSummary};
use chat::text::printable_line;
use chat::{Body, ChannelName, DeviceId, UserName};
use ratatui::crossterm::event::{KeyCode, KeyEvent, KeyEventKind, KeyModifiers};

use crate::command::{self, Input};
use crate::conversation::Conversation;
use crate::editor::Editor;

/// Channels held at a time; more are not opened by what others do.
const CHANNELS_MAX: usize = 500;
/// Devices shown at a time.
const PEERS_MAX: usize = 2000;
/// A sign of writing is sent at most this often.
const TYPING_EVERY_MS: u64 = 3000;

/// Everything the screen shows.
#[derive(Debug)]
pub(crate) struct App {
    /// As whom the user speaks.
    pub(crate) me: UserName,
    /// The channels, in the order of the list; never empty.
    pub(crate) conversations: Vec<Conversation>,
    /// Which of them is open.
    pub(crate) open: usize,
    /// The devices known of.
    pub(crate) peers: BTreeMap<DeviceId, PeerSummary>,
    /// Whether the tracker is there; `None` before the first try.
    pub(crate) tracker_online: Option<bool>,
    /// What the line above the input says.
    pub(crate) news: Option<News>,
    /// The line being typed.
    pub(crate) editor: Editor,
    /// Whether the help is shown.
    pub(crate) help: bool,
    /// Whether the program is to end.
    pub(crate) quitting: bool,
    /// The clock, milliseconds since 1970; set by whoever drives this.
    pub(crate) now_ms: u64,
    /// Height of the message list when it was last drawn.
    pub(crate) page_rows: usize,
    typing_told_ms: u64,
    commands: Vec<Command>,
}

/// A line about something that happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct News {
    /// What, made printable.
    pub(crate) text: String,
    /// Whether something went wrong.
    pub(crate) is_trouble: bool,
}

impl App {
    /// The screen of `me`, with `channel` open.
    pub(crate) fn new(me: UserName, channel: ChannelName) -> Self {
        let mut app = Self {
            me,
            conversations: vec![Conversation::new(channel)],
            open: 0,
            peers: BTreeMap::new(),
            tracker_online: None,
            news: None,
            editor: Editor::default(),
            help: false,
            quitting: false,
            now_ms: 0,
            page_rows: 1,
            typing_told_ms: 0,
            commands: vec![Command::Channels, Command::Peers],
        };
        app.load_older();
        app
    }

    /// The channel that is open.
    pub(crate) fn current(&self) -> &Conversation {
        &self.conversations[self.open]
    }

    /// The channel that is open, to change it.
    pub(crate) fn current_mut(&mut self) -> &mut Conversation {
        &mut self.conversations[self.open]
    }

    /// Takes out what the node is to do.
    pub(crate) fn take_commands(&mut self) -> Vec<Command> {
        if let Some(up_to) = self.current_mut().newly_read() {
            let channel = self.current().name.clone();
            self.commands.push(Command::Read { channel, up_to });
        }
        std::mem::take(&mut self.commands)
    }

    /// Takes news of the node.
    pub(crate) fn handle_notice(&mut self, notice: Notice) {
        match notice {
            Notice::Ready { listening, .. } => self.say(&format!("listening for peers at {listening}")),
            Notice::Tracker { online, detail } => {
                self.tracker_online = Some(online);
                self.say(&if online {
                    format!("tracker: {detail}")
                } else {
                    format!("the tracker is away, direct links go on ({detail})")
                });
            }
            Notice::Message(message) => self.handle_message(message),
            Notice::State { channel, id, key, state } => {
                if let Some(conversation) = self.find(&channel) {
                    conversation.handle_state(id, key, state);
                }
            }
            Notice::Presence { user, device, online, path } => {
                let fresh = PeerSummary { user, device, path, address: None, online, hosted: false };
                if self.peers.len() < PEERS_MAX || self.peers.contains_key(&device) {
                    let peer = self.peers.entry(device).or_insert(fresh);
                    (peer.online, peer.path) = (online, path);
                }
            }
            Notice::Typing { channel, user } => {
                let now_ms = self.now_ms;
                if let Some(conversation) = self.find(&channel) {
                    conversation.handle_typing(user, now_ms);
                }
            }
            Notice::Channels(summaries) => self.handle_channels(&summaries),
            Notice::Peers(peers) => {
                self.peers = peers.into_iter().take(PEERS_MAX).map(|peer| (peer.device, peer)).collect();
            }
            Notice::History { channel, entries, more } => {
                if let Some(conversation) = self.find(&channel) {
                    conversation.handle_history(entries, more);
                }
            }
            Notice::Gap { channel, missing } => {
                if let Some(conversation) = self.find(&channel) {
                    conversation.missing = missing;
                }
            }
            Notice::Trouble { what, hint } => self.complain(&join_trouble(&what, &hint)),
            Notice::Stopped => self.quitting = true,
        }
    }

    /// Takes a pressed key.
    pub(crate) fn handle_key(&mut self, key: KeyEvent) {
        if key.kind == KeyEventKind::Release {
            return;
        }
        let control = key.modifiers.contains(KeyModifiers::CONTROL);
        let alt = key.modifiers.contains(KeyModifiers::ALT);
        match key.code {
            KeyCode::Char('c' | 'q') if control => self.quit(),
            KeyCode::Char(digit @ '1'..='9') if alt => self.open_at(digit as usize - '1' as usize),
            KeyCode::Char('n') if control => self.open_next(1),
            KeyCode::Char('p') if control => self.open_next(self.conversations.len() - 1),
            KeyCode::Tab => self.open_next(1),
            KeyCode::BackTab => self.open_next(self.conversations.len() - 1),
            KeyCode::F(1) => self.help = !self.help,
            _ if std::mem::take(&mut self.help) => self.handle_key_after_help(key),
            KeyCode::Esc => self.news = None,
            KeyCode::PageUp => self.scroll_up(self.page_rows.saturating_sub(1).max(1)),
            KeyCode::PageDown => self.scroll_down(self.page_rows.saturating_sub(1).max(1)),
            KeyCode::Up if control || alt => self.scroll_up(1),
            KeyCode::Down if control || alt => self.scroll_down(1),
            KeyCode::End if control => self.current_mut().scroll = 0,
            KeyCode::Enter if alt => self.editor.insert('\n'),
            KeyCode::Enter => self.submit(),
            // Enter as the terminal writes it while the screen is not ours yet: whoever types ahead sends lines.
            KeyCode::Char('j') if control => self.submit(),
            _ => self.edit(key.code, control, alt),
        }
    }

    /// A key that closed the help; what was typed is not lost.
    fn handle_key_after_help(&mut self, key: KeyEvent) {
        if !matches!(key.code, KeyCode::Esc | KeyCode::Enter) {
            self.handle_key(key);
        }
    }

    /// Takes pasted text.
    pub(crate) fn handle_paste(&mut self, text: &str) {
        self.editor.paste(text);
    }

    /// Asks for messages before those loaded, unless that is under way or there are none.
    pub(crate) fn load_older(&mut self) {
        let conversation = self.current_mut();
        if conversation.loading || !conversation.more {
            return;
        }
        conversation.loading = true;
        let (channel, before) = (conversation.name.clone(), conversation.timeline.first());
        self.commands.push(Command::Older { channel, before });
    }

    fn edit(&mut self, code: KeyCode, control: bool, alt: bool) {
        match code {
            KeyCode::Char('a') if control => self.editor.home(),
            KeyCode::Char('e') if control => self.editor.end(),
            KeyCode::Char('w') if control => self.editor.delete_word(),
            KeyCode::Char('u') if control => self.editor.delete_to_start(),
            KeyCode::Char(character) if !control && !alt => {
                self.editor.insert(character);
                self.tell_typing();
            }
            KeyCode::Backspace => self.editor.backspace(),
            KeyCode::Delete => self.editor.delete(),
            KeyCode::Left => self.editor.left(),
            KeyCode::Right => self.editor.right(),
            KeyCode::Home => self.editor.home(),
            KeyCode::End => self.editor.end(),
            KeyCode::Up => self.editor.earlier(),
            KeyCode::Down => self.editor.later(),
            _ => {}
        }
    }

    fn submit(&mut self) {
        let line = self.editor.submit();
        self.news = None; // what it was about is over
        match command::parse(&line, &self.me, &self.current().name.clone()) {
            Ok(Input::Nothing) => {}
            Ok(Input::Help) => self.help = true,
            Ok(Input::Open(channel)) => self.open_channel(&channel),
            Ok(Input::History(_)) => self.load_older(),
            Ok(Input::Command(command)) => self.command(command),
            Err(complaint) => {
                self.complain(&complaint);
                self.editor.paste(&line);
            }
        }
    }

    fn command(&mut self, command: Command) {
        match &command {
            Command::Join { channel } | Command::Create { channel, .. } => self.open_channel(&channel.clone()),
            Command::Message { user, .. } => {
                if let Ok(channel) = ChannelName::direct(&self.me, user) {
                    self.open_channel(&channel);
                }
            }
            Command::Say { .. } => self.current_mut().scroll = 0,
            Command::Leave { channel } => self.close(&channel.clone()),
            Command::Quit => return self.quit(),
            _ => {}
        }
        self.commands.push(command);
    }

    fn quit(&mut self) {
        self.commands.push(Command::Quit);
        self.quitting = true;
    }

    fn handle_message(&mut self, message: Message) {
        let Some(index) = self.position_or_new(&message.channel) else { return };
        let is_open = index == self.open;
        let (channel, author) = (message.channel.clone(), message.author.clone());
        let text = message.body.text().map(|text| printable_line(text).into_owned());
        let by_other = !message.mine;
        if matches!(message.body, Body::Create { .. } | Body::Join | Body::Leave | Body::Remove { .. }) {
            self.commands.push(Command::Channels); // members changed
        }
        let was_new = self.conversations[index].handle_message(message, is_open);
        if let Some(text) = text.filter(|_| was_new && by_other && !is_open) {
            self.say(&format!("{channel}: {author}: {text}"));
        }
    }

    fn handle_channels(&mut self, summaries: &[chat::client::ChannelSummary]) {
        let open = self.open;
        for summary in summaries.iter().filter(|summary| summary.member) {
            if let Some(index) = self.position_or_new(&summary.name) {
                self.conversations[index].handle_summary(summary, index == open);
            }
        }
        let joinable = summaries.iter().filter(|summary| !summary.member).map(|summary| summary.name.as_str());
        let joinable: Vec<&str> = joinable.take(JOINABLE_SHOWN).collect();
        if !joinable.is_empty() && self.news.is_none() {
            self.say(&format!("to /join: {}", joinable.join(" ")));
        }
    }

    fn find(&mut self, channel: &ChannelName) -> Option<&mut Conversation> {
        self.conversations.iter_mut().find(|conversation| conversation.name == *channel)
    }

    fn position_or_new(&mut self, channel: &ChannelName) -> Option<usize> {
        let known = self.conversations.iter().position(|conversation| conversation.name == *channel);
        if known.is_some() {
            return known;
        }
        if self.conversations.len() >= CHANNELS_MAX {
            return None;
        }
        self.conversations.push(Conversation::new(channel.clone()));
        Some(self.conversations.len() - 1)
    }

    fn open_channel(&mut self, channel: &ChannelName) {
        match self.position_or_new(channel) {
            Some(index) => self.open_at(index),
            None => self.complain("too many channels are open: /leave one first"),
        }
    }

    fn open_next(&mut self, step: usize) {
        self.open_at((self.open + step) % self.conversations.len());
    }

    fn open_at(&mut self, index: usize) {
        if index >= self.conversations.len() {
            return;
        }
        self.open = index;
        if self.current().timeline.len() < self.page_rows {
            self.load_older();
        }
    }

    fn close(&mut self, channel: &ChannelName) {
        if self.conversations.len() == 1 {
            return;
        }
        if let Some(index) = self.conversations.iter().position(|conversation| conversation.name == *channel) {
            self.conversations.remove(index);
            if self.open >= index && self.open > 0 {
                self.open -= 1;
            }
        }
    }

    fn scroll_up(&mut self, rows: usize) {
        self.current_mut().scroll += rows; // drawing takes it back to what there is
    }

    fn scroll_down(&mut self, rows: usize) {
        let conversation = self.current_mut();
        conversation.scroll = conversation.scroll.saturating_sub(rows);
    }

    fn tell_typing(&mut self) {
        let is_command = self.editor.before_cursor().starts_with('/');
        if !is_command && self.now_ms >= self.typing_told_ms + TYPING_EVERY_MS {
            self.typing_told_ms = self.now_ms;
            let channel = self.current().name.clone();
            self.commands.push(Command::Typing { channel });
        }
    }

    fn say(&mut self, text: &str) {
        self.news = Some(News { text: printable_line(text).into_owned(), is_trouble: false });
    }

    fn complain(&mut self, text: &str) {
        self.news = Some(News { text: printable_line(text).into_owned(), is_trouble: true });
    }
}

/// Channels to join that are named in one line.
const JOINABLE_SHOWN: usize = 12;

/// A trouble and what to do about it, as one sentence.
pub(crate) fn join_trouble(what: &str, hint: &str) -> String {
    if hint.is_empty() { what.to_owned() } else { format!("{what}: {hint}") }
}
