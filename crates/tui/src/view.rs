//! The state, drawn. Works at every size: what does not fit is left out, the input line last.

use std::collections::BTreeMap;

use chat::client::{Message, PeerSummary};
use chat::text::{printable, printable_line};
use chat::{Body, DeliveryState, Path, UserName};
use ratatui::Frame;
use ratatui::layout::{Alignment, Constraint, Layout, Position, Rect};
use ratatui::style::{Color, Modifier, Style};
use ratatui::text::{Line, Span};
use ratatui::widgets::{Block, Clear, Paragraph, Wrap};

use crate::app::App;
use crate::command::COMMANDS;
use crate::conversation::Conversation;

/// Below this width the people are left out.
const PEOPLE_FROM_COLUMNS: u16 = 72;
/// Below this width the channels are left out too.
const CHANNELS_FROM_COLUMNS: u16 = 48;
/// Width of the channel list and of the people list.
const SIDE_COLUMNS: u16 = 22;
/// Rows that one piece of news may take.
const NEWS_ROWS_MAX: usize = 3;
/// Rows a single message may take; the rest of it is told, not shown.
const MESSAGE_ROWS_MAX: usize = 200;

const DIM: Style = Style::new().fg(Color::DarkGray);
const BOLD: Style = Style::new().add_modifier(Modifier::BOLD);
const BAR: Style = Style::new().add_modifier(Modifier::REVERSED);
const TROUBLE: Style = Style::new().fg(Color::Red).add_modifier(Modifier::BOLD);

/// Draws everything. Takes the scroll position back to what there is, and asks for older messages at the top.
pub(crate) fn draw(app: &mut App, frame: &mut Frame<'_>) {
    let area = frame.area();
    if area.width == 0 || area.height == 0 {
        return;
    }
    let [top, body, news, input] = Layout::vertical([
        Constraint::Length(u16::from(area.height > 3)),
        Constraint::Min(0),
        Constraint::Length(news_rows(app, area)),
        Constraint::Length(1),
    ])
    .areas(area);
    let channels = if area.width >= CHANNELS_FROM_COLUMNS { SIDE_COLUMNS } else { 0 };
    let people = if area.width >= PEOPLE_FROM_COLUMNS { SIDE_COLUMNS } else { 0 };
    let [left, middle, right] =
        Layout::horizontal([Constraint::Length(channels), Constraint::Min(0), Constraint::Length(people)]).areas(body);
    draw_top(app, frame, top);
    draw_channels(app, frame, left);
    draw_messages(app, frame, middle);
    draw_people(app, frame, right);
    draw_news(app, frame, news);
    draw_input(app, frame, input);
    if app.help {
        draw_help(frame, area);
    }
}

fn draw_top(app: &App, frame: &mut Frame<'_>, area: Rect) {
    let tracker = match app.tracker_online {
        None => "tracker …",
        Some(true) => "tracker online",
        Some(false) => "tracker OFFLINE",
    };
    let linked = app.peers.values().filter(|peer| peer.path.is_some()).count();
    let conversation = app.current();
    let missing = match conversation.missing {
        0 => String::new(),
        count => format!(" · fetching {count} missing"),
    };
    let text = format!(
        " {} · {} · {tracker} · {}{missing} · {} · F1 help",
        app.me,
        shown_name(conversation, &app.me),
        counted(conversation.members, "member"),
        counted(linked, "direct link"),
    );
    frame.render_widget(Paragraph::new(text).style(BAR), area);
}

fn counted(count: usize, what: &str) -> String {
    format!("{count} {what}{}", if count == 1 { "" } else { "s" })
}

fn draw_channels(app: &App, frame: &mut Frame<'_>, area: Rect) {
    let rows = usize::from(area.height);
    let first = (app.open + 1).saturating_sub(rows);
    let lines = app.conversations.iter().enumerate().skip(first).take(rows).map(|(index, conversation)| {
        let mark = if index == app.open { '▸' } else { ' ' };
        let number = if index < 9 { (index + 1).to_string() } else { " ".to_owned() };
        let unread = if conversation.unread > 0 { format!(" ({})", conversation.unread) } else { String::new() };
        let style = if index == app.open || conversation.unread > 0 { BOLD } else { Style::new() };
        let room = usize::from(area.width).saturating_sub(4 + unread.len());
        let name = shortened(&shown_name(conversation, &app.me), room);
        Line::styled(format!("{mark}{number} {name}{unread}"), style)
    });
    frame.render_widget(Paragraph::new(lines.collect::<Vec<_>>()), area);
}

/// A direct channel is shown by the name of the other one.
fn shown_name(conversation: &Conversation, me: &UserName) -> String {
    match conversation.name.direct_partner(me) {
        Some(partner) => format!("@{partner}"),
        None => format!("#{}", conversation.name),
    }
}

fn draw_people(app: &App, frame: &mut Frame<'_>, area: Rect) {
    let mut people: BTreeMap<&UserName, Vec<&PeerSummary>> = BTreeMap::new();
    for peer in app.peers.values() {
        people.entry(&peer.user).or_default().push(peer);
    }
    let mut lines: Vec<(bool, Line<'_>)> = people
        .into_iter()
        .map(|(user, devices)| {
            let online = devices.iter().any(|device| device.online || device.path.is_some());
            let path = devices.iter().filter_map(|device| device.path).min_by_key(|path| path_rank(*path));
            let mark = if online { '●' } else { '○' };
            let style = if online { Style::new() } else { DIM };
            let path = path.map_or(String::new(), |path| format!(" {}", path.as_str()));
            let room = usize::from(area.width).saturating_sub(3 + path.len());
            let name = Span::styled(format!(" {mark} {}", shortened(user.as_str(), room)), style);
            (online, Line::from(vec![name, Span::styled(path, DIM)]))
        })
        .collect();
    lines.sort_by_key(|(online, _)| !online);
    let lines: Vec<Line<'_>> = lines.into_iter().take(usize::from(area.height)).map(|(_, line)| line).collect();
    frame.render_widget(Paragraph::new(lines), area);
}

fn path_rank(path: Path) -> u8 {
    match path {
        Path::Own => 0,
        Path::Direct => 1,
        Path::Relayed => 2,
        Path::Tracker => 3,
    }
}

/// As many rows as the news needs, so that the advice at its end can be read; one is always there, so that news does
/// not move the messages.
fn news_rows(app: &App, area: Rect) -> u16 {
    if area.height <= 2 {
        return 0;
    }
    let text = app.news.as_ref().map_or("", |news| &news.text);
    let room = if usize::from(area.height) >= 4 * NEWS_ROWS_MAX { NEWS_ROWS_MAX } else { 1 };
    (Span::raw(text).width() + 2).div_ceil(usize::from(area.width)).clamp(1, room) as u16
}

fn draw_news(app: &App, frame: &mut Frame<'_>, area: Rect) {
    let typing: Vec<&str> = app.current().typing(app.now_ms).map(UserName::as_str).collect();
    let line = match &app.news {
        Some(news) if news.is_trouble => Line::styled(format!("! {}", news.text), TROUBLE),
        _ if !typing.is_empty() => Line::styled(format!("{} …", typing.join(", ")), DIM),
        Some(news) => Line::styled(format!("* {}", news.text), DIM),
        None => Line::default(),
    };
    frame.render_widget(Paragraph::new(line).wrap(Wrap { trim: false }), area);
}

fn draw_input(app: &App, frame: &mut Frame<'_>, area: Rect) {
    let visible = |text: &str| printable(text).replace('\n', "⏎").replace('\t', " ");
    let before = visible(&app.editor.before_cursor());
    let whole = visible(&app.editor.text());
    let room = usize::from(area.width).saturating_sub(3);
    let column = Span::raw(&before).width();
    let hidden = column.saturating_sub(room);
    let line = Paragraph::new(whole).scroll((0, u16::try_from(hidden).unwrap_or(u16::MAX)));
    let [prompt, text] = Layout::horizontal([Constraint::Length(2), Constraint::Min(0)]).areas(area);
    frame.render_widget(Paragraph::new("> "), prompt);
    frame.render_widget(line, text);
    let cursor = u16::try_from(column - hidden).unwrap_or(0);
    if text.width > 0 {
        frame.set_cursor_position(Position::new(text.x + cursor.min(text.width - 1), text.y));
    }
}

fn draw_help(frame: &mut Frame<'_>, area: Rect) {
    let keys = [
        ("Tab, Shift-Tab, Alt-1…9", "next, previous, nth channel"),
        ("PageUp, PageDown, Ctrl-End", "scroll, back to the newest"),
        ("Up, Down", "lines typed before"),
        ("Alt-Enter", "a new line in the message"),
        ("Esc, F1", "close this"),
        ("Ctrl-C", "leave the program"),
    ];
    let row = |(what, does): &(&str, &str)| {
        Line::from(vec![Span::styled(format!(" {what:<28} "), BOLD), Span::raw((*does).to_owned())])
    };
    let mut lines: Vec<Line<'_>> = COMMANDS.iter().map(row).collect();
    lines.push(Line::default());
    lines.extend(keys.iter().map(row));
    lines.push(Line::raw(" … queued   ✓ stored   ✓✓ delivered"));
    lines.push(Line::raw(" What the tracker stores it can read; direct links are encrypted end to end."));
    let width = area.width.min(80);
    let height = area.height.min(lines.len() as u16 + 2);
    let popup = Rect::new((area.width - width) / 2, (area.height - height) / 2, width, height);
    frame.render_widget(Clear, popup);
    let block = Block::bordered().title(" help ").title_alignment(Alignment::Center);
    frame.render_widget(Paragraph::new(lines).block(block), popup);
}

fn draw_messages(app: &mut App, frame: &mut Frame<'_>, area: Rect) {
    app.page_rows = usize::from(area.height);
    let (width, height) = (usize::from(area.width), usize::from(area.height));
    if width == 0 || height == 0 {
        return;
    }
    let me = app.me.clone();
    let conversation = app.current_mut();
    let mut rows = rows_from_bottom(conversation, &me, width, height + conversation.scroll);
    let at_top = rows.len() <= height + conversation.scroll;
    if at_top {
        conversation.scroll = rows.len().saturating_sub(height);
    }
    let hint = match (at_top, rows.is_empty(), conversation.loading) {
        (true, true, false) => Some("nothing here yet: type a message and press Enter"),
        (true, _, true) => Some("…"),
        _ => None,
    };
    let scroll = conversation.scroll;
    rows.drain(..scroll.min(rows.len()));
    rows.truncate(height);
    rows.reverse();
    if let Some(hint) = hint.filter(|_| rows.len() < height) {
        rows.insert(0, Line::styled(hint, DIM));
    }
    let blank = height - rows.len();
    let below = Rect::new(area.x, area.y + blank as u16, area.width, area.height - blank as u16);
    frame.render_widget(Paragraph::new(rows), below);
    if scroll > 0 && height > 1 {
        let note = Rect::new(area.x, area.bottom() - 1, area.width, 1);
        frame.render_widget(Clear, note);
        frame.render_widget(Paragraph::new("↓ newer messages below (Ctrl-End)").style(DIM), note);
    }
    if at_top {
        app.load_older();
    }
}

/// The rows of the newest messages, newest first, at least `wanted` of them where there are as many. Only what can be
/// seen is wrapped, so a long history costs nothing.
fn rows_from_bottom(conversation: &Conversation, me: &UserName, width: usize, wanted: usize) -> Vec<Line<'static>> {
    let mut rows: Vec<Line<'static>> = Vec::new();
    let mut newer_seq: Option<u64> = None;
    for (key, message) in conversation.timeline.iter().rev() {
        if let (Some(seq), Some(newer)) = (key.seq(), newer_seq)
            && newer > seq + 1
        {
            rows.push(Line::styled(format!("── {} missing, being fetched ──", newer - seq - 1), TROUBLE));
        }
        newer_seq = key.seq().or(newer_seq);
        let mut lines = message_lines(message, me, width);
        lines.reverse();
        rows.append(&mut lines);
        if rows.len() > wanted {
            break;
        }
    }
    rows
}

fn message_lines(message: &Message, me: &UserName, width: usize) -> Vec<Line<'static>> {
    let Body::Text { text } = &message.body else {
        return event_text(message).map_or_else(Vec::new, |text| wrap(vec![Span::styled(text, DIM)], width));
    };
    let name_style = if message.author == *me { BOLD.fg(Color::Cyan) } else { BOLD.fg(name_color(&message.author)) };
    let mut spans = vec![
        Span::styled(format!("{} ", clock(message.sent_at_ms)), DIM),
        Span::styled(message.author.as_str().to_owned(), name_style),
        Span::raw(": "),
        Span::raw(printable(text).replace('\t', "    ")),
    ];
    let note = note(message);
    if !note.is_empty() {
        spans.push(Span::styled(format!(" {note}"), DIM));
    }
    wrap(spans, width)
}

/// How far an own message has come; how another's came, unless it came the straight way.
fn note(message: &Message) -> String {
    let hosted = if message.hosted { ", hosted" } else { "" };
    match (message.mine, message.path) {
        (true, Path::Own) => match &message.state {
            DeliveryState::Queued => "…".to_owned(),
            DeliveryState::Stored { .. } => "✓".to_owned(),
            DeliveryState::Delivered { .. } | DeliveryState::Read => "✓✓".to_owned(),
        },
        (false, Path::Direct) if !message.hosted => String::new(),
        (_, path) => format!("({}{hosted})", path.as_str()),
    }
}

/// What a membership event says; `None` for what this version does not show.
pub(crate) fn event_text(message: &Message) -> Option<String> {
    let author = &message.author;
    match &message.body {
        Body::Create { .. } => Some(format!("— {author} made this channel")),
        Body::Join => Some(format!("— {author} came in")),
        Body::Leave => Some(format!("— {author} left")),
        Body::Invite { user } => Some(format!("— {author} invited {user}")),
        Body::Remove { user } => Some(format!("— {author} removed {user}")),
        Body::Text { .. } | Body::Other { .. } => None,
    }
}

/// The time of day, UTC.
fn clock(at_ms: u64) -> String {
    let minutes = at_ms / 60_000 % (24 * 60);
    format!("{:02}:{:02}", minutes / 60, minutes % 60)
}

fn name_color(user: &UserName) -> Color {
    const COLORS: [Color; 5] = [Color::Green, Color::Yellow, Color::Blue, Color::Magenta, Color::LightGreen];
    let sum: usize = user.as_str().bytes().map(usize::from).sum();
    COLORS[sum % COLORS.len()]
}

/// Cuts styled text into rows of at most `width` columns, at spaces where there are some, keeping line feeds. Later rows
/// are indented, so that a message that contains lines cannot pass for several messages.
fn wrap(spans: Vec<Span<'_>>, width: usize) -> Vec<Line<'static>> {
    let indent = if width > 24 { INDENT } else { "" };
    let mut rows = Rows { width: width.max(1), indent, done: Vec::new(), row: Vec::new(), column: 0 };
    for span in spans {
        for (index, line) in span.content.split('\n').enumerate() {
            if index > 0 {
                rows.end_row();
            }
            for word in line.split_inclusive(' ') {
                rows.push_word(word, span.style);
            }
        }
    }
    rows.end_row();
    if rows.done.len() > MESSAGE_ROWS_MAX {
        let left = rows.done.len() - MESSAGE_ROWS_MAX;
        rows.done.truncate(MESSAGE_ROWS_MAX);
        rows.done.push(Line::styled(format!("{INDENT}… {left} more rows"), DIM));
    }
    rows.done
}

/// What later rows of a message start with.
const INDENT: &str = "      ";

struct Rows {
    width: usize,
    indent: &'static str,
    done: Vec<Line<'static>>,
    row: Vec<Span<'static>>,
    column: usize,
}

impl Rows {
    fn push_word(&mut self, word: &str, style: Style) {
        let visible = Span::raw(word.trim_end_matches(' ')).width();
        if self.column > self.start() && self.column + visible > self.width && self.start() + visible <= self.width {
            self.end_row();
        }
        let mut piece = String::new();
        for character in word.chars() {
            let columns = Span::raw(character.to_string()).width();
            if self.column + columns > self.width && self.column > self.start() {
                self.row.push(Span::styled(std::mem::take(&mut piece), style));
                self.end_row();
            }
            piece.push(character);
            self.column += columns;
        }
        self.row.push(Span::styled(piece, style));
    }

    fn end_row(&mut self) {
        self.done.push(Line::from(std::mem::take(&mut self.row)));
        if !self.indent.is_empty() {
            self.row.push(Span::raw(self.indent));
        }
        self.column = self.indent.len();
    }

    /// The column at which the present row's text starts.
    fn start(&self) -> usize {
        if self.done.is_empty() { 0 } else { self.indent.len() }
    }
}

fn shortened(text: &str, columns: usize) -> String {
    let text = printable_line(text);
    if Span::raw(text.as_ref()).width() <= columns {
        return text.into_owned();
    }
    let mut short: String = text.chars().take(columns.saturating_sub(1)).collect();
    short.push('…');
    short
}
