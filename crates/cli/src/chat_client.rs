//! `weaprous chat`: a peer and a user interface, joined by two channels of messages.

use crate::args::Chat;
use crate::data;
use crate::exit::Failure;
use crate::tls;
use anyhow::Context as _;
use engine::Trust;
use peer::{PeerError, Settings, TrackerUrl};
use std::io::{IsTerminal as _, Read as _};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use tokio::sync::mpsc;
use tui::Outcome;

/// Commands waiting for the peer: more than a person types, fewer than a pipe can pour in at once.
const COMMANDS_WAITING: usize = 64;
/// Notices waiting for the interface: a burst of messages while the screen is drawn.
const NOTICES_WAITING: usize = 1024;
/// Longest password file, in bytes.
const PASSWORD_FILE_MAX: u64 = 4096;

/// Runs the peer on a thread of its own and the interface on this one.
pub(crate) fn run(args: Chat) -> Result<(), Failure> {
    let folder = folder(&args)?;
    let settings = settings(&args, &folder)?;
    let history = store::SqliteHistory::open(&folder).map_err(|error| Failure::Data(error.to_string()))?;
    let plain = !is_full_screen(&args);

    let (commands, commands_in) = mpsc::channel(COMMANDS_WAITING);
    let (notices_out, notices) = mpsc::channel(NOTICES_WAITING);
    let stop = weaprous::stop_at_signals().context("signals cannot be watched")?;
    let ending = stop.clone();
    let work = move || peer::run(settings, Arc::new(history), commands_in, notices_out, ending);
    let peer = std::thread::Builder::new().name("peer".to_owned()).spawn(work).context("cannot start a thread")?;

    let (verbose, listen) = (args.verbose, args.listen);
    let interface = tui::Settings { user: args.username, channel: args.channel, verbose, listen };
    let shown = if plain {
        tui::plain(interface, commands, notices)
    } else {
        tui::run(interface, commands, notices).map(|()| Outcome { unsettled: 0 })
    };
    stop.cancel();
    let ended = peer.join().map_err(|_| anyhow::anyhow!("the chat node failed"))?;
    ended.map_err(peer_failure)?;
    let Outcome { unsettled } = shown.context("the terminal cannot be used")?;
    if unsettled > 0 {
        return Err(Failure::Running(anyhow::anyhow!(
            "nobody could be reached for {unsettled} of the messages; they are kept here and go out at the next start"
        )));
    }
    Ok(())
}

/// Whether the interface takes the whole terminal.
pub(crate) fn is_full_screen(args: &Chat) -> bool {
    !args.plain && std::io::stdin().is_terminal() && std::io::stdout().is_terminal()
}

fn peer_failure(error: PeerError) -> Failure {
    match error {
        PeerError::Listen { .. } => Failure::Listen(error.to_string()),
        PeerError::Tracker(_) => Failure::Usage(format!("{error} (--tracker, --ca)")),
        PeerError::Key(_) | PeerError::History(_) => Failure::Data(error.to_string()),
        PeerError::Refused { .. } => Failure::Running(anyhow::anyhow!(
            "{error}\n  A password is read from the file of --password-file or from WEAPROUS_PASSWORD; the tracker is \
             the one of --tracker."
        )),
        PeerError::Start(_) => Failure::Running(error.into()),
    }
}

fn folder(args: &Chat) -> Result<PathBuf, Failure> {
    match &args.data_dir {
        Some(folder) => Ok(folder.clone()),
        None => Ok(data::home()?.join("chat").join(args.username.as_str())),
    }
}

fn settings(args: &Chat, folder: &Path) -> Result<Settings, Failure> {
    let tracker: TrackerUrl = args
        .tracker
        .parse()
        .map_err(|error| Failure::Usage(format!("--tracker {}: {error}", args.tracker.escape_debug())))?;
    let mut settings = Settings::new(args.username.clone(), folder.to_owned());
    settings.listen = SocketAddr::new(args.peer_ip, args.peer_port);
    settings.trust = trust(args);
    settings.tracker = Some(tracker);
    settings.channel = args.channel.clone();
    settings.password = password(args)?;
    settings.api = args.api_port.map(|port| SocketAddr::from(([127, 0, 0, 1], port)));
    Ok(settings)
}

/// Who vouches for a tracker behind https.
fn trust(args: &Chat) -> Trust {
    if let Some(file) = &args.ca {
        return Trust::File(file.clone());
    }
    // A machine without a place for data has no authority of its own either.
    let own = tls::folder(None).map(|folder| folder.join(certs::AUTHORITY_FILE));
    own.ok().filter(|file| file.exists()).map_or(Trust::Public, Trust::PublicAnd)
}

/// The password from its file or from `WEAPROUS_PASSWORD`; never an argument, which everybody on the machine can read.
fn password(args: &Chat) -> Result<Option<String>, Failure> {
    let Some(file) = &args.password_file else { return Ok(std::env::var("WEAPROUS_PASSWORD").ok()) };
    let mut text = String::new();
    let read = std::fs::File::open(file).and_then(|file| file.take(PASSWORD_FILE_MAX).read_to_string(&mut text));
    read.map_err(|error| Failure::Usage(format!("--password-file {}: {error}", file.display())))?;
    Ok(Some(text.trim_end_matches(['\r', '\n']).to_owned()))
}
