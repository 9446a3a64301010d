//! Drives the full screen: the terminal's keys from a thread of their own, the node by channel, drawing after each change.

use std::collections::VecDeque;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use chat::client::{Command, Notice};
use ratatui::crossterm::event::{self, DisableBracketedPaste, EnableBracketedPaste, Event};
use ratatui::crossterm::execute;
use tokio::sync::mpsc;

use crate::Settings;
use crate::app::App;
use crate::view;

/// Keys read ahead of what is shown.
const KEYS_AHEAD_MAX: usize = 256;
/// Notices taken before the screen is drawn again.
const NOTICES_PER_DRAW_MAX: usize = 512;
/// Commands that wait for a busy node.
const COMMANDS_PENDING_MAX: usize = 256;
/// The screen is drawn at least this often: what fades by itself must fade.
const TICK: Duration = Duration::from_secs(1);
/// How soon the key thread notices that the program ends.
const KEY_POLL: Duration = Duration::from_millis(100);
/// After quitting: how long the node may take to take what was still said.
const QUIT_TIMEOUT: Duration = Duration::from_secs(1);

/// Gives the terminal back when dropped; `ratatui` does the same on a panic.
struct Restore {
    ended: Arc<AtomicBool>,
}

impl Drop for Restore {
    fn drop(&mut self) {
        self.ended.store(true, Ordering::Relaxed);
        let _ = execute!(io::stdout(), DisableBracketedPaste);
        ratatui::restore();
    }
}

/// Runs until the user quits or the node stops.
pub(crate) async fn converse(
    settings: Settings,
    commands: mpsc::Sender<Command>,
    mut notices: mpsc::Receiver<Notice>,
) -> io::Result<()> {
    let mut terminal = ratatui::try_init()?;
    let restore = Restore { ended: Arc::new(AtomicBool::new(false)) };
    let _ = execute!(io::stdout(), EnableBracketedPaste);
    let mut keys = read_keys(restore.ended.clone());
    let mut app = App::new(settings.user, settings.channel);
    let mut pending: VecDeque<Command> = VecDeque::new();
    while !app.quitting {
        app.now_ms = now_ms();
        terminal.draw(|frame| view::draw(&mut app, frame))?;
        pending.extend(app.take_commands());
        pending.truncate(COMMANDS_PENDING_MAX);
        tokio::select! {
            permit = commands.reserve(), if !pending.is_empty() => {
                let Ok(mut permit) = permit else { break };
                while let Some(command) = pending.pop_front() {
                    permit.send(command);
                    match commands.try_reserve() {
                        Ok(next) => permit = next,
                        Err(_) => break,
                    }
                }
            }
            event = keys.recv() => match event {
                Some(event) => handle_event(&mut app, event),
                None => break, // the terminal is gone
            },
            notice = notices.recv() => {
                let Some(notice) = notice else { break };
                app.handle_notice(notice);
                for _ in 0..NOTICES_PER_DRAW_MAX {
                    let Ok(notice) = notices.try_recv() else { break };
                    app.handle_notice(notice);
                }
            }
            () = tokio::time::sleep(TICK) => {}
        }
    }
    drop(restore);
    pending.extend(app.take_commands());
    pending.push_back(Command::Quit);
    let hand_over = async {
        for command in pending {
            if commands.send(command).await.is_err() {
                break;
            }
        }
    };
    let _ = tokio::time::timeout(QUIT_TIMEOUT, hand_over).await;
    Ok(())
}

fn handle_event(app: &mut App, event: Event) {
    match event {
        Event::Key(key) => app.handle_key(key),
        Event::Paste(text) => app.handle_paste(&text),
        _ => {} // a new size is drawn in the next turn
    }
}

fn read_keys(ended: Arc<AtomicBool>) -> mpsc::Receiver<Event> {
    let (sender, receiver) = mpsc::channel(KEYS_AHEAD_MAX);
    thread::spawn(move || {
        while !ended.load(Ordering::Relaxed) {
            let event = match event::poll(KEY_POLL) {
                Ok(false) => continue,
                Ok(true) => event::read(),
                Err(error) => Err(error),
            };
            let Ok(event) = event else { break };
            if sender.blocking_send(event).is_err() {
                break;
            }
        }
    });
    receiver
}

fn now_ms() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as u64)
}
