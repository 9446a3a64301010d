//! Drives line mode: standard input on a thread of its own, the node by channel, standard output as it comes.

use std::collections::VecDeque;
use std::io::{self, BufRead, Read, Write};
use std::thread;
use std::time::Duration;

use chat::client::{Command, Notice};
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep_until};

use crate::Settings;
use crate::plain::Plain;

/// Longest line taken, in bytes: the longest message and a command before it.
const LINE_BYTES_MAX: usize = chat::TEXT_BYTES_MAX + 64;
/// Lines read ahead of what the node takes.
const LINES_AHEAD_MAX: usize = 64;
/// After the end of the input: how long to wait without any progress for what was said to be stored.
const SETTLE_TIMEOUT: Duration = Duration::from_secs(10);
/// After quitting: how long the node may take to say that it has stopped.
const STOP_TIMEOUT: Duration = Duration::from_secs(3);

/// How line mode ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Outcome {
    /// Own messages that were neither stored by the tracker nor by a peer. They are kept and sent at the next start.
    pub unsettled: usize,
}

/// A line of the input, or what stands for one that was too long.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Line {
    /// Its text.
    Text(String),
    /// More than [`LINE_BYTES_MAX`] bytes.
    TooLong,
}

/// Reads lines on a thread of its own. It ends with the input, or with the program: a thread that waits for a person
/// cannot be called back.
pub(crate) fn read(input: impl BufRead + Send + 'static) -> mpsc::Receiver<Line> {
    let (sender, receiver) = mpsc::channel(LINES_AHEAD_MAX);
    thread::spawn(move || {
        let mut input = input;
        while let Ok(Some(line)) = read_line(&mut input) {
            if sender.blocking_send(line).is_err() {
                break;
            }
        }
    });
    receiver
}

fn read_line(input: &mut impl BufRead) -> io::Result<Option<Line>> {
    let mut bytes = Vec::new();
    input.by_ref().take(LINE_BYTES_MAX as u64 + 1).read_until(b'\n', &mut bytes)?;
    if bytes.is_empty() {
        return Ok(None);
    }
    if bytes.ends_with(b"\n") || bytes.len() <= LINE_BYTES_MAX {
        return Ok(Some(Line::Text(String::from_utf8_lossy(&bytes).into_owned())));
    }
    while !bytes.is_empty() && !bytes.ends_with(b"\n") {
        bytes.clear();
        input.by_ref().take(LINE_BYTES_MAX as u64).read_until(b'\n', &mut bytes)?;
    }
    Ok(Some(Line::TooLong))
}

/// Runs until the user quits, the node stops, or the input has ended and nothing is left to wait for.
pub(crate) async fn converse(
    settings: Settings,
    mut lines: mpsc::Receiver<Line>,
    output: &mut impl Write,
    commands: mpsc::Sender<Command>,
    mut notices: mpsc::Receiver<Notice>,
) -> io::Result<Outcome> {
    let listen = settings.listen;
    let mut plain = Plain::new(settings);
    let mut pending: VecDeque<Command> = VecDeque::new();
    let mut input_ended = false;
    let mut deadline = Instant::now();
    loop {
        pending.extend(plain.take_commands());
        if let Err(error) = print(&mut plain, output) {
            // whoever read our lines has gone: nothing is left to do for them
            return if error.kind() == io::ErrorKind::BrokenPipe { Ok(outcome(&plain)) } else { Err(error) };
        }
        let settled = pending.is_empty() && plain.unsettled() == 0 && !plain.is_collecting();
        if plain.is_quitting() || (input_ended && !listen && (settled || Instant::now() >= deadline)) {
            break;
        }
        tokio::select! {
            permit = commands.reserve(), if !pending.is_empty() => {
                let Ok(permit) = permit else { break };
                if let Some(command) = pending.pop_front() {
                    permit.send(command);
                }
            }
            line = lines.recv(), if pending.is_empty() && !input_ended => match line {
                Some(Line::Text(line)) => plain.handle_line(&line),
                Some(Line::TooLong) => plain.handle_overlong_line(LINE_BYTES_MAX),
                None => {
                    input_ended = true;
                    deadline = Instant::now() + SETTLE_TIMEOUT;
                }
            },
            notice = notices.recv() => {
                let Some(notice) = notice else { break };
                let before = plain.unsettled();
                plain.handle_notice(notice);
                if plain.unsettled() != before {
                    deadline = Instant::now() + SETTLE_TIMEOUT;
                }
            }
            () = sleep_until(deadline), if input_ended && !listen => {}
        }
    }
    stop(&mut plain, pending, output, &commands, &mut notices).await;
    Ok(outcome(&plain))
}

/// Hands the node what is left for it, tells it to stop, and prints what it still says.
async fn stop(
    plain: &mut Plain,
    mut pending: VecDeque<Command>,
    output: &mut impl Write,
    commands: &mpsc::Sender<Command>,
    notices: &mut mpsc::Receiver<Notice>,
) {
    if pending.back() != Some(&Command::Quit) {
        pending.push_back(Command::Quit);
    }
    let deadline = Instant::now() + STOP_TIMEOUT;
    loop {
        tokio::select! {
            permit = commands.reserve(), if !pending.is_empty() => match (permit, pending.pop_front()) {
                (Ok(permit), Some(command)) => permit.send(command),
                _ => pending.clear(),
            },
            notice = notices.recv() => match notice {
                None | Some(Notice::Stopped) => break,
                Some(notice) => plain.handle_notice(notice),
            },
            () = sleep_until(deadline) => break,
        }
        if print(plain, output).is_err() {
            break;
        }
    }
    let _ = print(plain, output);
}

fn print(plain: &mut Plain, output: &mut impl Write) -> io::Result<()> {
    let lines = plain.take_output();
    if lines.is_empty() {
        return Ok(());
    }
    let mut text = lines.join("\n");
    text.push('\n');
    output.write_all(text.as_bytes())?;
    output.flush()
}

fn outcome(plain: &Plain) -> Outcome {
    Outcome { unsettled: plain.unsettled() }
}
