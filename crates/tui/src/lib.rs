//! The terminal client: chat notices to a screen, keys to commands.
//!
//! Two faces on the same conversation: [`run`] fills a terminal, [`plain`] reads and writes lines. Neither knows a network:
//! commands leave and notices arrive by channel. All text that others wrote is shown through [`chat::text::printable`].

use std::io;

use chat::client::{Command, Notice};
use chat::{ChannelName, UserName};
use tokio::sync::mpsc;

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
    let _ = (settings, commands, notices);
    todo!()
}

/// Reads lines from standard input and writes one line per event to standard output, until the user quits, the node
/// stops, or the input has ended and all that was said has been stored or delivered.
///
/// # Errors
/// Standard output cannot be written.
pub fn plain(settings: Settings, commands: mpsc::Sender<Command>, notices: mpsc::Receiver<Notice>) -> io::Result<()> {
    let _ = (settings, commands, notices);
    todo!()
}
