//! Tests of the full screen and of line mode: notices told, keys typed into a pretended terminal, the picture read.
#![allow(clippy::unwrap_used)]

use chat::client::{ChannelSummary, Command, Message, Notice, PeerSummary};
use chat::{
    Body, ChannelName, DeliveryState, DeviceId, EnvelopeId, OrderKey, Path, TEXT_BYTES_MAX, UserName, Visibility,
};
use ratatui::Terminal;
use ratatui::backend::TestBackend;
use ratatui::crossterm::event::{KeyCode, KeyEvent, KeyModifiers};
use tokio::sync::mpsc;

use crate::app::App;
use crate::conversation::LOADED_MAX;
use crate::lines::{self, Line, Outcome};
use crate::plain::Plain;
use crate::{Settings, view};

fn channel(name: &str) -> ChannelName {
    name.parse().unwrap()
}

fn user(name: &str) -> UserName {
    name.parse().unwrap()
}

fn device(name: &str) -> DeviceId {
    DeviceId([name.as_bytes()[0]; 32])
}

fn id(number: u64) -> EnvelopeId {
    let mut bytes = [0; 32];
    bytes[..8].copy_from_slice(&number.to_be_bytes());
    EnvelopeId(bytes)
}

/// A message of `author` in `general`, numbered in the log.
fn message(seq: u64, author: &str, text: &str) -> Message {
    Message {
        channel: channel("general"),
        id: id(seq),
        key: OrderKey::Logged(seq),
        author: user(author),
        device: device(author),
        body: Body::Text { text: text.to_owned() },
        sent_at_ms: 45_240_000,
        received_at_ms: 45_240_000,
        path: if author == "alice" { Path::Own } else { Path::Direct },
        hosted: false,
        mine: author == "alice",
        state: DeliveryState::Queued,
    }
}

fn summary(name: &str, unread: u64) -> ChannelSummary {
    ChannelSummary { name: channel(name), visibility: Visibility::Public, member: true, members: 3, unread }
}

/// Alice's screen.
struct Stage {
    app: App,
    terminal: Terminal<TestBackend>,
}

impl Stage {
    fn new(width: u16, height: u16) -> Self {
        let mut stage = Self {
            app: App::new(user("alice"), channel("general")),
            terminal: Terminal::new(TestBackend::new(width, height)).unwrap(),
        };
        stage.commands();
        stage.app.handle_notice(Notice::History { channel: channel("general"), entries: Vec::new(), more: false });
        stage
    }

    fn tell(&mut self, message: Message) {
        self.app.handle_notice(Notice::Message(message));
    }

    fn key(&mut self, code: KeyCode) {
        self.app.handle_key(KeyEvent::new(code, KeyModifiers::NONE));
    }

    fn chord(&mut self, modifiers: KeyModifiers, character: char) {
        self.app.handle_key(KeyEvent::new(KeyCode::Char(character), modifiers));
    }

    /// Types a line and presses Enter; gives what the node is asked to do, signs of writing left out.
    fn enter(&mut self, line: &str) -> Vec<Command> {
        line.chars().for_each(|character| self.key(KeyCode::Char(character)));
        self.key(KeyCode::Enter);
        self.commands()
    }

    fn commands(&mut self) -> Vec<Command> {
        let commands = self.app.take_commands();
        commands.into_iter().filter(|command| !matches!(command, Command::Typing { .. })).collect()
    }

    /// The screen as lines of text.
    fn picture(&mut self) -> Vec<String> {
        self.terminal.draw(|frame| view::draw(&mut self.app, frame)).unwrap();
        let buffer = self.terminal.backend().buffer();
        let row = |y| (0..buffer.area.width).map(|x| buffer[(x, y)].symbol()).collect::<String>();
        (0..buffer.area.height).map(|y| row(y).trim_end().to_owned()).collect()
    }

    fn shows(&mut self, text: &str) -> bool {
        self.picture().iter().any(|row| row.contains(text))
    }
}

#[test]
fn the_screen_has_channels_messages_people_and_the_line() {
    let mut stage = Stage::new(80, 8);
    stage.app.handle_notice(Notice::Channels(vec![summary("general", 0), summary("rust", 4)]));
    stage.app.handle_notice(Notice::Tracker { online: true, detail: "welcome".to_owned() });
    stage.app.handle_notice(Notice::Peers(vec![PeerSummary {
        user: user("bob"),
        device: device("bob"),
        path: Some(Path::Direct),
        address: None,
        online: true,
        hosted: false,
    }]));
    stage.tell(message(1, "bob", "hello"));
    stage.tell(message(2, "alice", "hi"));
    stage.key(KeyCode::Char('y'));
    let expected = [
        " alice · #general · tracker online · 3 members · 1 direct link · F1 help",
        "▸1 #general                                                ● bob direct",
        " 2 #rust (4)",
        "",
        "                      12:34 bob: hello",
        "                      12:34 alice: hi …",
        "* tracker: welcome",
        "> y",
    ];
    assert_eq!(stage.picture(), expected);
}

#[test]
fn own_messages_show_how_far_they_came() {
    let mut stage = Stage::new(60, 8);
    stage.tell(message(1, "alice", "mine"));
    let mut tell = |state| {
        let key = OrderKey::Logged(1);
        stage.app.handle_notice(Notice::State { channel: channel("general"), id: id(1), key, state });
        stage.picture().join("\n")
    };
    assert!(tell(DeliveryState::Queued).contains("mine …"));
    assert!(tell(DeliveryState::Stored { seq: Some(1) }).contains("mine ✓"));
    assert!(tell(DeliveryState::Delivered { devices: vec![device("bob")] }).contains("mine ✓✓"));
}

#[test]
fn other_paths_than_direct_are_named() {
    let mut stage = Stage::new(60, 12);
    for (seq, path, hosted) in [(1, Path::Relayed, false), (2, Path::Tracker, true), (3, Path::Direct, false)] {
        stage.tell(Message { path, hosted, ..message(seq, "bob", &format!("m{seq}")) });
    }
    assert!(stage.shows("m1 (relayed)") && stage.shows("m2 (tracker, hosted)"));
    assert!(stage.shows("m3") && !stage.shows("m3 ("));
}

#[test]
fn a_line_typed_before_the_screen_was_there_is_a_line_of_its_own() {
    let mut stage = Stage::new(80, 10);
    "hello".chars().for_each(|character| stage.key(KeyCode::Char(character)));
    stage.chord(KeyModifiers::CONTROL, 'j');
    assert_eq!(stage.commands().len(), 1);
    assert_eq!(stage.enter("again").len(), 1);
}

#[test]
fn typed_lines_become_commands_for_the_open_channel() {
    let mut stage = Stage::new(80, 8);
    let say = |name: &str, text: &str| Command::Say { channel: channel(name), text: text.to_owned() };
    assert_eq!(stage.enter("hello"), [say("general", "hello")]);
    let joined = stage.enter("/join rust");
    assert!(joined.contains(&Command::Join { channel: channel("rust") }), "{joined:?}");
    assert_eq!(stage.enter("about rust"), [say("rust", "about rust")]);
    stage.enter("/msg bob psst");
    assert_eq!(stage.app.current().name, channel("@alice+bob"));
    stage.chord(KeyModifiers::ALT, '1');
    assert_eq!(stage.enter("back"), [say("general", "back")]);
    stage.key(KeyCode::BackTab);
    assert_eq!(stage.app.current().name, channel("@alice+bob"));
    assert!(stage.enter("/nonsense").is_empty());
    assert!(stage.shows("! there is no command /nonsense: type /help"));
    assert!(stage.shows("> /nonsense"), "what was typed can be mended");
}

#[test]
fn news_shows_all_of_its_advice_and_ends_with_the_next_line() {
    let mut stage = Stage::new(40, 12);
    let (what, hint) = ("a name that is rather long: nobody has it".to_owned(), "choose another one".to_owned());
    stage.app.handle_notice(Notice::Trouble { what, hint });
    assert!(stage.shows("! a name that is rather long: nobody has"));
    assert!(stage.shows("choose another one"), "{:?}", stage.picture());
    stage.enter("hello");
    assert!(!stage.shows("choose another one"), "{:?}", stage.picture());
}

#[test]
fn signs_of_writing_are_sent_sparingly_and_never_for_commands() {
    let mut stage = Stage::new(80, 8);
    let mut typed = |now_ms: u64, text: &str| {
        stage.app.now_ms = now_ms;
        text.chars().for_each(|character| stage.key(KeyCode::Char(character)));
        stage.app.take_commands().len()
    };
    assert_eq!(typed(10_000, "hello"), 1);
    assert_eq!(typed(11_000, " there"), 0);
    assert_eq!(typed(13_000, "!"), 1);
    stage.enter("");
    stage.app.now_ms = 20_000;
    "/msg b".chars().for_each(|character| stage.key(KeyCode::Char(character)));
    assert_eq!(stage.app.take_commands(), []);
    stage.app.handle_notice(Notice::Typing { channel: channel("general"), user: user("bob") });
    assert!(stage.shows("bob …"));
    stage.app.now_ms += 60_000;
    assert!(!stage.shows("bob …"));
}

#[test]
fn messages_elsewhere_are_counted_and_announced_until_read() {
    let mut stage = Stage::new(80, 8);
    stage.tell(Message { channel: channel("rust"), ..message(1, "bob", "news") });
    stage.tell(Message { channel: channel("rust"), ..message(1, "bob", "news") });
    assert!(stage.shows("#rust (1)"), "the second was the same message");
    assert!(stage.shows("* rust: bob: news"));
    assert!(!stage.commands().iter().any(|command| matches!(command, Command::Read { .. })));
    stage.key(KeyCode::Tab);
    assert!(stage.commands().contains(&Command::Read { channel: channel("rust"), up_to: OrderKey::Logged(1) }));
    assert!(stage.commands().is_empty(), "told once");
    assert!(!stage.shows("(1)"));
}

#[test]
fn the_list_scrolls_and_loads_what_came_before() {
    let mut stage = Stage::new(40, 8);
    stage.app.current_mut().more = true;
    for seq in 101..=150 {
        stage.tell(message(seq, "bob", &format!("m{seq}")));
    }
    assert!(stage.shows("m150") && !stage.shows("m140"));
    stage.commands();
    stage.key(KeyCode::PageUp);
    assert!(stage.shows("m145") && !stage.shows("m150") && stage.shows("newer messages below"));
    assert!(stage.commands().is_empty(), "enough is loaded");
    for _ in 0..30 {
        stage.key(KeyCode::PageUp);
    }
    assert!(stage.shows("m101"));
    let before = Some(OrderKey::Logged(101));
    assert_eq!(stage.commands(), [Command::Older { channel: channel("general"), before }]);
    assert!(stage.shows("m101"));
    assert!(stage.commands().is_empty(), "asked for once");
    let entries = (90..=100).map(|seq| message(seq, "bob", &format!("m{seq}"))).collect();
    stage.app.handle_notice(Notice::History { channel: channel("general"), entries, more: false });
    for _ in 0..10 {
        stage.key(KeyCode::PageUp);
    }
    assert!(stage.shows("m90"));
    stage.app.handle_key(KeyEvent::new(KeyCode::End, KeyModifiers::CONTROL));
    assert!(stage.shows("m150"));
}

#[test]
fn new_messages_do_not_move_what_is_being_read_to_read() {
    let mut stage = Stage::new(60, 6);
    (1..=20).for_each(|seq| stage.tell(message(seq, "bob", "x")));
    stage.commands();
    stage.picture();
    stage.key(KeyCode::PageUp);
    stage.tell(message(21, "bob", "below"));
    assert!(stage.commands().is_empty(), "what was not in view is not read");
    assert!(stage.shows("#general (1)"));
}

#[test]
fn gaps_of_the_log_are_shown_where_they_are() {
    let mut stage = Stage::new(60, 10);
    stage.tell(message(7, "bob", "seven"));
    stage.tell(message(10, "bob", "ten"));
    let picture = stage.picture();
    let at = |text: &str| picture.iter().position(|row| row.contains(text)).unwrap();
    assert!(at("seven") < at("2 missing, being fetched") && at("2 missing") < at("ten"));
    stage.tell(message(9, "bob", "nine"));
    stage.tell(message(8, "bob", "eight"));
    assert!(!stage.shows("missing"));
}

#[test]
fn foreign_text_cannot_drive_the_terminal_nor_pass_for_more_messages() {
    let mut stage = Stage::new(70, 12);
    stage.tell(message(1, "bob", "\u{1b}[2J\u{202e}evil\n12:34 carol: forged\u{7}"));
    stage.app.handle_notice(Notice::Trouble { what: "\u{1b}]0;x\u{7}".to_owned(), hint: "\u{9b}1m".to_owned() });
    let picture = stage.picture();
    assert!(picture.iter().all(|row| !row.contains(|character: char| character.is_control())), "{picture:?}");
    assert!(picture.iter().any(|row| row.contains(r"bob: \u{1b}[2J\u{202e}evil")), "{picture:?}");
    let forged = picture.iter().find(|row| row.contains("carol: forged")).unwrap();
    assert!(forged[22..].starts_with("      12:34 carol"), "later rows are indented: {forged}");
}

#[test]
fn every_size_is_drawn() {
    for width in [0, 1, 2, 5, 22, 47, 48, 71, 72, 200] {
        for height in [0, 1, 2, 3, 4, 5, 50] {
            let mut stage = Stage::new(width, height);
            stage.app.help = width % 2 == 0;
            stage.tell(message(1, "bob", "漢字漢字 e\u{301} 👩‍💻 words and words\n\nlines"));
            stage.tell(message(2, "carol", &"x".repeat(TEXT_BYTES_MAX)));
            stage.app.handle_paste("a line that is longer than the screen is wide 漢字\nand has two rows");
            stage.picture();
            stage.key(KeyCode::PageUp);
            stage.picture();
            stage.terminal.backend_mut().resize(width / 2 + 1, height / 2 + 1);
            stage.picture();
        }
    }
}

#[test]
fn long_histories_are_let_go_at_the_far_end() {
    let mut stage = Stage::new(60, 8);
    for seq in 1..=LOADED_MAX as u64 + 1 {
        stage.tell(message(seq, "bob", "x"));
    }
    assert!(stage.app.current().timeline.len() <= LOADED_MAX);
    assert!(stage.app.current().more);
    assert_eq!(stage.app.current().timeline.iter().next_back().unwrap().0, OrderKey::Logged(LOADED_MAX as u64 + 1));
}

#[test]
fn help_opens_and_closes_and_quitting_quits() {
    let mut stage = Stage::new(80, 30);
    stage.enter("/help");
    assert!(stage.shows("/create [--private] CHANNEL") && stage.shows("Ctrl-C"));
    stage.key(KeyCode::Esc);
    assert!(!stage.shows("/create"));
    stage.key(KeyCode::F(1));
    assert!(stage.shows("/create"));
    assert!(!stage.enter("typing closes it").is_empty());
    assert!(!stage.shows("/create"));
    stage.chord(KeyModifiers::CONTROL, 'c');
    assert!(stage.app.quitting && stage.commands().contains(&Command::Quit));
    let mut stage = Stage::new(80, 30);
    stage.app.handle_notice(Notice::Stopped);
    assert!(stage.app.quitting);
}

fn settings(verbose: bool) -> Settings {
    Settings { user: user("alice"), channel: channel("general"), verbose, listen: false }
}

fn printed(verbose: bool, notices: Vec<Notice>) -> Vec<String> {
    let mut plain = Plain::new(settings(verbose));
    for notice in notices {
        plain.handle_notice(notice);
    }
    plain.take_output()
}

#[test]
fn line_mode_prints_one_line_per_event() {
    let presence = |online, path| Notice::Presence { user: user("bob"), device: device("bob"), online, path };
    let notices = vec![
        Notice::Message(message(1, "bob", "hello")),
        Notice::Message(Message { path: Path::Relayed, ..message(2, "bob", "a\nb\u{1b}") }),
        Notice::Message(Message { path: Path::Tracker, hosted: true, ..message(3, "carol", "hi") }),
        Notice::Message(Message { mine: true, path: Path::Tracker, ..message(4, "alice", "from my phone") }),
        Notice::Message(message(5, "alice", "typed here")),
        Notice::Message(Message { body: Body::Join, ..message(6, "bob", "") }),
        Notice::Message(Message {
            body: Body::Other { kind: "x".to_owned(), raw: "{}".into() },
            ..message(7, "bob", "")
        }),
        presence(false, None),
        presence(true, None),
        presence(true, None),
        presence(true, Some(Path::Direct)),
        presence(true, None),
        presence(false, None),
        Notice::Tracker { online: false, detail: "connection refused".to_owned() },
        Notice::Gap { channel: channel("general"), missing: 2 },
        Notice::Gap { channel: channel("general"), missing: 0 },
        Notice::Trouble { what: "no such channel".to_owned(), hint: "/create it\u{7}".to_owned() },
        Notice::Typing { channel: channel("general"), user: user("bob") },
    ];
    // the first "offline" says nothing: nobody thought bob was there
    let expected = [
        "[general] bob: hello (direct)",
        r"[general] bob: a\nb\u{1b} (relayed)",
        "[general] carol: hi (tracker, hosted)",
        "[general] alice: from my phone (tracker)",
        "* general: bob came in",
        "* bob is online",
        "* bob is online (direct)",
        "* bob is online, the link is gone",
        "* bob is offline",
        "* tracker offline: connection refused",
        "* general: 2 missing, being fetched",
        "* general: nothing is missing any more",
        r"* trouble: no such channel: /create it\u{7}",
    ];
    assert_eq!(printed(false, notices), expected);
}

#[test]
fn verbose_line_mode_tells_how_far_own_messages_came() {
    let state = |state| Notice::State { channel: channel("general"), id: id(1), key: OrderKey::Logged(12), state };
    let delivered =
        |names: &[&str]| DeliveryState::Delivered { devices: names.iter().map(|name| device(name)).collect() };
    let notices = || {
        vec![
            Notice::Presence { user: user("bob"), device: device("bob"), online: true, path: None },
            Notice::Message(Message {
                key: OrderKey::Pending { lamport: 8, id: id(1) },
                ..message(1, "alice", "hello")
            }),
            state(DeliveryState::Stored { seq: Some(12) }),
            state(DeliveryState::Stored { seq: Some(12) }),
            state(delivered(&["bob"])),
            state(delivered(&["bob", "carol"])),
            Notice::Message(Message {
                key: OrderKey::Pending { lamport: 9, id: id(2) },
                ..message(2, "alice", "more")
            }),
            Notice::State {
                channel: channel("general"),
                id: id(2),
                key: OrderKey::Logged(13),
                state: delivered(&["bob"]),
            },
        ]
    };
    let carol = device("carol");
    let expected = [
        "* bob is online".to_owned(),
        "* #1 queued for general".to_owned(),
        "* #1 stored as 12".to_owned(),
        "* #1 delivered to bob".to_owned(),
        format!("* #1 delivered to {carol}"),
        "* #2 queued for general".to_owned(),
        "* #2 stored as 13".to_owned(),
        "* #2 delivered to bob".to_owned(),
    ];
    assert_eq!(printed(true, notices()), expected);
    assert_eq!(printed(false, notices()), ["* bob is online"]);
}

#[test]
fn line_mode_lists_channels_when_asked_and_else_tells_comings_and_goings() {
    let mut plain = Plain::new(settings(false));
    let mut told = |summaries: Vec<ChannelSummary>, ask: bool| {
        if ask {
            plain.handle_line("/channels");
            assert_eq!(plain.take_commands(), [Command::Channels]);
        }
        plain.handle_notice(Notice::Channels(summaries));
        plain.take_output()
    };
    let other = ChannelSummary { member: false, visibility: Visibility::Private, ..summary("rust", 0) };
    assert_eq!(told(vec![], false), Vec::<String>::new());
    assert_eq!(told(vec![summary("general", 2), other.clone()], false), ["* you are in general"]);
    assert_eq!(told(vec![summary("general", 3), other.clone()], false), Vec::<String>::new());
    let expected = ["* general (public, 3 members, 2 unread, in)", "* rust (private, 3 members, 0 unread, to /join)"];
    assert_eq!(told(vec![summary("general", 2), other], true), expected);
    assert_eq!(told(vec![], true), ["* no channels yet: /create CHANNEL makes one"]);
    assert_eq!(told(vec![summary("general", 0)], false), ["* you are in general"]);
    assert_eq!(told(vec![], false), ["* you are no longer in general"]);
}

#[test]
fn line_mode_collects_history_over_several_pages() {
    let mut plain = Plain::new(settings(false));
    plain.handle_line("/history 3");
    assert_eq!(plain.take_commands(), [Command::Older { channel: channel("general"), before: None }]);
    let page = |from: u64, more| Notice::History {
        channel: channel("general"),
        entries: (from..from + 2).map(|seq| message(seq, "bob", &format!("m{seq}"))).collect(),
        more,
    };
    plain.handle_notice(page(9, true));
    let before = Some(OrderKey::Logged(9));
    assert_eq!(plain.take_commands(), [Command::Older { channel: channel("general"), before }]);
    assert!(plain.take_output().is_empty());
    plain.handle_notice(page(7, true));
    let expected = [
        "* history of general, 3 messages:",
        "[general] bob: m8 (direct)",
        "[general] bob: m9 (direct)",
        "[general] bob: m10 (direct)",
        "* end of history",
    ];
    assert_eq!(plain.take_output(), expected);
}

/// Runs line mode on `input` against a node that answers each command by `node`; gives what was printed and the outcome.
async fn run_lines(
    input: &str,
    listen: bool,
    node: impl Fn(Command) -> Vec<Notice>,
) -> (String, Outcome, Vec<Command>) {
    let input = lines::read(std::io::Cursor::new(input.to_owned().into_bytes()));
    let (command_sender, mut commands) = mpsc::channel::<Command>(4);
    let (notices, notice_receiver) = mpsc::channel(4);
    let answering = async move {
        let mut seen = Vec::new();
        while let Some(command) = commands.recv().await {
            let quit = command == Command::Quit;
            seen.push(command.clone());
            for notice in node(command) {
                notices.send(notice).await.unwrap();
            }
            if quit {
                notices.send(Notice::Stopped).await.unwrap();
                break;
            }
        }
        seen
    };
    let mut output = Vec::new();
    let settings = Settings { listen, ..settings(false) };
    let talking = lines::converse(settings, input, &mut output, command_sender, notice_receiver);
    let (outcome, seen) = tokio::join!(talking, answering);
    (String::from_utf8(output).unwrap(), outcome.unwrap(), seen)
}

fn own(text: &str, number: u64, state: DeliveryState) -> Notice {
    Notice::Message(Message { state, ..message(number, "alice", text) })
}

#[tokio::test(start_paused = true)]
async fn the_end_of_the_input_waits_until_all_is_stored() {
    let node = |command| match command {
        Command::Say { text, .. } => {
            let number = text.len() as u64;
            let state = DeliveryState::Stored { seq: Some(number) };
            let news =
                Notice::State { channel: channel("general"), id: id(number), key: OrderKey::Logged(number), state };
            vec![own(&text, number, DeliveryState::Queued), news]
        }
        _ => Vec::new(),
    };
    let (output, outcome, commands) = run_lines("one\nthree\r\n/nope\n", false, node).await;
    assert_eq!(outcome, Outcome { unsettled: 0 });
    assert_eq!(output, "* there is no command /nope: type /help for those there are\n");
    assert_eq!(commands.len(), 3);
    assert_eq!(commands.last(), Some(&Command::Quit));
}

#[tokio::test(start_paused = true)]
async fn a_node_that_stores_nothing_does_not_hold_the_program_for_ever() {
    let node = |command| match command {
        Command::Say { text, .. } => vec![own(&text, 1, DeliveryState::Queued)],
        _ => Vec::new(),
    };
    let (_, outcome, commands) = run_lines("hello", false, node).await;
    assert_eq!(outcome, Outcome { unsettled: 1 });
    assert_eq!(commands.last(), Some(&Command::Quit));
}

#[tokio::test(start_paused = true)]
async fn asked_to_listen_it_stays_until_the_node_stops() {
    let node = |command| match command {
        Command::Peers => vec![Notice::Message(message(1, "bob", "late")), Notice::Stopped],
        _ => Vec::new(),
    };
    let (output, _, _) = run_lines("/peers\n", true, node).await;
    assert_eq!(output, "[general] bob: late (direct)\n");
}

#[tokio::test(start_paused = true)]
async fn overlong_lines_are_refused_whole() {
    let long = format!("{}\nshort\n", "x".repeat(100_000));
    let node = |command| match command {
        Command::Say { text, .. } => vec![own(&text, 1, DeliveryState::Stored { seq: Some(1) })],
        _ => Vec::new(),
    };
    let (output, _, commands) = run_lines(&long, false, node).await;
    assert!(output.starts_with("* a line of more than "), "{output}");
    assert_eq!(commands[0], Command::Say { channel: channel("general"), text: "short".to_owned() });
}

#[test]
fn lines_are_cut_at_line_feeds_alone() {
    let mut received = lines::read(&b"a\r\nb\xff\n\nlast"[..]);
    let mut seen = Vec::new();
    while let Some(line) = received.blocking_recv() {
        seen.push(line);
    }
    let text = |text: &str| Line::Text(text.to_owned());
    assert_eq!(seen, [text("a\r\n"), text("b\u{fffd}\n"), text("\n"), text("last")]);
}
