//! The terminal client: chat notices to a screen, keys to commands.
//!
//! Two faces on the same conversation: [`run`] fills a terminal, [`plain`] reads and writes lines. Neither knows a network:
//! commands leave and notices arrive by channel. All text that others wrote is shown through [`chat::text::printable`].

mod app;
mod command;
mod conversation;
mod editor;
mod lines;
mod plain;
mod screen;
#[cfg(test)]
mod script;
mod view;

use std::io;

use chat::client::{Command, Notice};
use chat::{ChannelName, UserName};
use tokio::runtime;
use tokio::sync::mpsc;

pub use lines::Outcome;

/// What both faces are told.
#[derive(Debug, Clone)]
pub struct Settings {
    /// As whom the user speaks.
    pub user: UserName,
    /// The channel shown, and written to, at first.
    pub channel: ChannelName,
    /// Line mode: also say how far own messages have come.
    pub verbose: bool,
    /// Line mode: keep listening when the input has ended.
    pub listen: bool,
}

/// Fills the terminal until the user quits or the node stops. The terminal is put back as it was, also on a panic.
///
/// # Errors
/// The terminal cannot be read or written.
pub fn run(settings: Settings, commands: mpsc::Sender<Command>, notices: mpsc::Receiver<Notice>) -> io::Result<()> {
    local_runtime()?.block_on(screen::converse(settings, commands, notices))
}

/// Reads lines from standard input and writes one line per event to standard output, until the user quits, the node
/// stops, or the input has ended and all that was said has been stored or delivered.
///
/// # Errors
/// Standard output cannot be written. A reader that went away is no error, it ends the program.
pub fn plain(
    settings: Settings,
    commands: mpsc::Sender<Command>,
    notices: mpsc::Receiver<Notice>,
) -> io::Result<Outcome> {
    let input = lines::read(io::BufReader::new(io::stdin()));
    local_runtime()?.block_on(lines::converse(settings, input, &mut io::stdout().lock(), commands, notices))
}

fn local_runtime() -> io::Result<runtime::Runtime> {
    runtime::Builder::new_current_thread().enable_time().build()
}
