//! `weaprous proxy`: starts, reloads, hands over, leaves.
//!
//! ```text
//!   SIGHUP, file changed ──► another configuration, or none of it
//!   SIGUSR1 ───────────────► log files are opened again
//!   SIGUSR2, --upgrade ────► sockets to the next process ──ready──► accept nothing, drain (--drain-timeout), leave
//!   SIGTERM, SIGINT ───────► accept nothing, end streams, drain (5 s), leave; again: leave at once
//! ```

use crate::args::{Operation, Proxy as Arguments};
use crate::exit::Failure;
use crate::handover::{self, Taken};
use crate::listeners::Listeners;
use crate::say::{complain, say};
use crate::servers::proxy_settings;
use crate::signals::{Asked, Signals};
use crate::stop::{GRACE, INTERRUPTED};
use crate::systemd::{self, Notify};
use crate::tls::with_files;
use anyhow::Context as _;
use engine::{Connections, Running, Server, Stop, Tls, TrustedProxies};
use proxy::conf::{Listen, ListenTls, Network};
use proxy::{Admin, Config, Legacy, LogSettings, LogTarget, Proxy, Token};
use std::ffi::OsString;
use std::io;
use std::net::SocketAddr;
use std::os::fd::AsFd as _;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, SystemTime};
use tokio::net::UnixListener;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::{Instant, MissedTickBehavior, interval, sleep_until};

/// Names the environment variable that tells a process where its sockets come from.
const HANDOVER: &str = "WEAPROUS_HANDOVER";
/// Its only value: the channel is standard input.
const BY_STDIN: &str = "stdin";
/// How often the configuration file is looked at.
const WATCH_PERIOD: Duration = Duration::from_secs(1);
/// How long idle clients may still ask for something after the stop, so that no request crosses the closing.
const IDLE_GRACE: Duration = Duration::from_secs(2);
/// The servers' own grace: the main loop ends earlier, with a deadline that depends on why.
const GRACE_MAX: Duration = Duration::from_hours(24);
/// How long streams may take to end once they are told to.
const LAST_WORDS: Duration = Duration::from_secs(1);
/// Longest token file, in bytes.
const TOKEN_FILE_BYTES_MAX: u64 = 4096;

/// Runs the proxy until it is told to stop, or another process has taken over.
pub(crate) fn run(args: &Arguments) -> Result<(), Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().context("no event loop")?;
    let channel = channel(&args.operation)?;
    let started = runtime.block_on(async { start(args, channel.as_ref()) }); // signals need a runtime around them
    if let (Err(failure), Some(channel)) = (&started, &channel) {
        handover::say_failed(channel, &failure.to_string());
    }
    let mut operator = started?;
    if let Some(channel) = channel {
        handover::say_ready(&channel).context("the process before this one has gone")?;
    }
    let outcome = runtime.block_on(operator.serve());
    operator.proxy.flush_log();
    // What has outlasted its deadline would be waited for by a drop: it ends with the process.
    std::mem::forget(operator);
    outcome
}

/// Where the sockets of a process before this one come from, if there is one.
fn channel(operation: &Operation) -> Result<Option<UnixStream>, Failure> {
    if std::env::var(HANDOVER).is_ok_and(|value| value == BY_STDIN) {
        let stdin = io::stdin().as_fd().try_clone_to_owned().context("standard input cannot be used")?;
        return Ok(Some(UnixStream::from(stdin)));
    }
    let Some(path) = operation.control.as_ref().filter(|_| operation.upgrade) else { return Ok(None) };
    let failed = |error| Failure::Usage(format!("--upgrade: no proxy answers at {}: {error}", path.display()));
    UnixStream::connect(path).map(Some).map_err(failed)
}

/// What the process before this one or systemd has opened already.
fn inherited(channel: Option<&UnixStream>) -> Result<Taken, Failure> {
    let taken = match channel {
        Some(channel) => handover::take(channel).context("the sockets of the process before cannot be taken over")?,
        None => Taken {
            sockets: systemd::sockets().context("the sockets of systemd cannot be used")?,
            legacy: String::new(),
        },
    };
    Ok(taken)
}

fn settings(args: &Arguments, proxy: &Proxy, config: &Config) -> engine::Settings {
    let (proxy, usual) = (proxy.clone(), args.limits.over(proxy_settings()));
    engine::Settings {
        idle_grace: IDLE_GRACE,
        uncounted: Some(TrustedProxies::new(move |ip| proxy.trusts(ip))),
        defer_accept: config.defer_accept.unwrap_or(usual.defer_accept),
        ..usual
    }
}

fn start(args: &Arguments, channel: Option<&UnixStream>) -> Result<Operator, Failure> {
    let signals = Signals::new()?;
    let Taken { sockets: inherited, legacy } = inherited(channel)?;
    let legacy: Legacy = legacy.parse().context("the process before has left something unknown")?;
    let tls = with_files(&args.tls)?;
    let config = load(args)?;
    let proxy = Proxy::open_after(&config, &legacy).map_err(|error| Failure::Usage(error.to_string()))?;
    let (stop, streams_end) = (Stop::new(), Stop::new());
    proxy.streams_end_with(streams_end.clone());
    let beside = proxy.clone();
    let mut server = Server::new(settings(args, &proxy, &config)).on_one_worker(move || beside.background());
    let mut listeners = Listeners::new(inherited, server.workers());
    let mut fronts = fronts(args, &config);
    let mut secure = SecureFronts::new(tls);
    for front in &fronts {
        let sockets = listeners.get(front.address, front.origin)?;
        server = add_front(server, sockets, front, &mut secure, &proxy)?;
    }
    let connections = server.connections();
    let admin = match config.admin {
        Some(address) => {
            let admin = admin(args, &proxy, address)?.counting(connections.clone());
            let sockets = listeners.get(address, "--admin-port")?;
            server = server.listen_on(sockets, admin.service()).context("the admin page cannot be served")?;
            server.local_addrs().last().copied()
        }
        None => None,
    };
    if channel.is_none() {
        for address in listeners.unclaimed() {
            let sockets = listeners.get(address, "systemd")?;
            let front = Front { address, origin: "systemd", tls: None, behind: None };
            server = add_front(server, sockets, &front, &mut secure, &proxy)?;
            fronts.push(front);
        }
    }
    listeners.forget_unclaimed();
    let addresses = server.local_addrs().to_vec();
    let schemes = schemes(&fronts, &secure, &addresses, admin);
    let running = server.start(stop.clone(), GRACE_MAX).context("the server cannot start")?;
    announce(&schemes, admin);
    let (handed_over, handed) = mpsc::channel(1);
    let control = args.operation.control.as_deref().map(Control::open).transpose()?;
    Ok(Operator {
        args: args.clone(),
        proxy,
        secure,
        running,
        listeners,
        fronts,
        admin_at: config.admin,
        connections,
        at_start: AtStart::of(&config),
        signals,
        notify: Notify::from_env(),
        stop,
        streams_end,
        control,
        seen: Seen::now(&args.config),
        program: std::env::current_exe().context("this program's own file cannot be found")?,
        cut_at: None,
        is_handing_over: false,
        handed_over,
        handed,
    })
}

/// Each address for clients with its scheme: the servers' addresses are in the order of the fronts.
fn schemes(
    fronts: &[Front],
    secure: &SecureFronts,
    addresses: &[SocketAddr],
    admin: Option<SocketAddr>,
) -> Vec<(&'static str, SocketAddr)> {
    let addresses = addresses.iter().filter(|address| admin != Some(**address));
    let scheme = |front: &Front| if secure.has(front) { "https" } else { "http" };
    fronts.iter().map(scheme).zip(addresses.copied()).collect()
}

fn announce(schemes: &[(&'static str, SocketAddr)], admin: Option<SocketAddr>) {
    for (scheme, address) in schemes {
        say(format_args!("  proxy    {scheme}://{address}\n"));
    }
    if let Some(address) = admin {
        say(format_args!("  admin    http://{address}\n"));
    }
}

/// The configuration as the file and the command line say it together.
fn load(args: &Arguments) -> Result<Config, Failure> {
    let mut config = Config::load(&args.config).map_err(|error| Failure::Usage(error.to_string()))?;
    let operation = &args.operation;
    if let Some(path) = &operation.access_log {
        let target = if path.as_os_str() == "-" { LogTarget::Stdout } else { LogTarget::File(path.clone()) };
        let (format, query) = (operation.log_format, operation.log_query);
        config.access_log = Some(LogSettings { format, target, query });
    }
    if let Some(port) = operation.admin_port {
        config.admin = Some(SocketAddr::new(operation.admin_ip, port));
    }
    Ok(config)
}

/// Where to listen, and who says so.
fn fronts(args: &Arguments, config: &Config) -> Vec<Front> {
    if config.listen.is_empty() {
        let address = SocketAddr::new(args.server_ip, args.server_port);
        return vec![Front { address, origin: "--server-port", tls: None, behind: None }];
    }
    let front = |listen: &Listen| Front {
        address: listen.address,
        origin: "`listen`",
        tls: listen.tls.clone(),
        behind: listen.proxy_protocol.then(|| config.trusted.clone()),
    };
    config.listen.iter().map(front).collect()
}

/// Where clients are listened to, and what is spoken there.
#[derive(Debug, Clone, PartialEq)]
struct Front {
    address: SocketAddr,
    /// Who asked for it.
    origin: &'static str,
    /// What the configuration says; without it the command line may say something.
    tls: Option<ListenTls>,
    /// Who says with the PROXY protocol who the client is, if that is spoken.
    behind: Option<Vec<Network>>,
}

impl Front {
    fn trusted(&self) -> Option<TrustedProxies> {
        let networks = self.behind.clone()?;
        Some(TrustedProxies::new(move |ip| networks.iter().any(|network| network.contains(ip))))
    }
}

/// The certificates of the fronts, and whoever watches their files.
struct SecureFronts {
    /// That of the command line.
    common: Option<Tls>,
    /// Those of fronts with their own. Where no worker watches the files, a task does.
    own: Vec<(SocketAddr, Tls, JoinSet<()>)>,
}

impl SecureFronts {
    fn new(common: Option<Tls>) -> Self {
        Self { common, own: Vec::new() }
    }

    fn has(&self, front: &Front) -> bool {
        front.tls.is_some() || self.common.is_some()
    }

    /// Reads what a front presents.
    fn load(&self, front: &Front) -> Result<Option<Tls>, Failure> {
        let Some(tls) = &front.tls else { return Ok(self.common.clone()) };
        let loaded = Tls::new(tls.settings());
        loaded.map(Some).map_err(|error| Failure::Usage(format!("listen {}: {error}", front.address)))
    }

    /// Keeps what was opened for a front while the proxy runs.
    fn watch(&mut self, front: &Front, tls: Option<&Tls>) {
        self.own.retain(|(address, ..)| *address != front.address);
        if let (Some(tls), Some(_)) = (tls, &front.tls) {
            let mut tasks = JoinSet::new();
            tasks.spawn(tls.clone().watch());
            self.own.push((front.address, tls.clone(), tasks));
        }
    }

    fn forget(&mut self, address: SocketAddr) {
        self.own.retain(|(other, ..)| *other != address);
    }
}

fn add_front(
    server: Server,
    sockets: Vec<std::net::TcpListener>,
    front: &Front,
    secure: &mut SecureFronts,
    proxy: &Proxy,
) -> Result<Server, Failure> {
    let tls = secure.load(front)?;
    let added = match (front.trusted(), tls) {
        (Some(proxies), tls) => server.listen_behind_on(sockets, proxies, tls, proxy.service()),
        (None, Some(tls)) => server.listen_tls_on(sockets, tls, proxy.service()),
        (None, None) => server.listen_on(sockets, proxy.service()),
    };
    Ok(added.context("a socket cannot be served")?)
}

fn admin(args: &Arguments, proxy: &Proxy, address: SocketAddr) -> Result<Admin, Failure> {
    let operation = &args.operation;
    let token = match &operation.admin_token_file {
        None => None,
        Some(path) => {
            let named = |error: &dyn std::fmt::Display| {
                Failure::Usage(format!("--admin-token-file {}: {error}", path.display()))
            };
            let text = read_short(path).map_err(|error| named(&error))?;
            Some(text.parse::<Token>().map_err(|error| named(&error))?)
        }
    };
    Admin::new(proxy.clone(), address, token, operation.admin_exposed)
        .map_err(|error| Failure::Usage(format!("{error} (--admin-exposed, --admin-token-file)")))
}

fn read_short(path: &Path) -> io::Result<String> {
    use std::io::Read as _;
    let mut text = String::new();
    std::fs::File::open(path)?.take(TOKEN_FILE_BYTES_MAX).read_to_string(&mut text)?;
    Ok(text)
}

/// What the configuration said when this process began and only the next one can do otherwise.
#[derive(Debug, Clone, PartialEq, Eq)]
struct AtStart {
    defer_accept: Option<Duration>,
    sticky_key: Option<PathBuf>,
}

impl AtStart {
    fn of(config: &Config) -> Self {
        Self { defer_accept: config.defer_accept, sticky_key: config.sticky_key.clone() }
    }

    /// The directives that say something else now.
    fn changed(&self, config: &Config) -> Vec<&'static str> {
        let now = Self::of(config);
        let all = [
            ("defer_accept", self.defer_accept == now.defer_accept),
            ("sticky_key", self.sticky_key == now.sticky_key),
        ];
        all.into_iter().filter(|(_, is_same)| !is_same).map(|(name, _)| name).collect()
    }
}

/// Looks after a running proxy.
struct Operator {
    args: Arguments,
    proxy: Proxy,
    secure: SecureFronts,
    running: Running,
    listeners: Listeners,
    /// What is served to clients, as it is configured.
    fronts: Vec<Front>,
    /// Where the admin page is configured to be.
    admin_at: Option<SocketAddr>,
    connections: Connections,
    at_start: AtStart,
    signals: Signals,
    notify: Notify,
    stop: Stop,
    /// Ends event streams and tunnels.
    streams_end: Stop,
    control: Option<Control>,
    seen: Seen,
    /// This program's file, under which a newer version may lie by now.
    program: PathBuf,
    /// When what is under way with removed servers is cut.
    cut_at: Option<Instant>,
    is_handing_over: bool,
    handed_over: mpsc::Sender<io::Result<()>>,
    handed: mpsc::Receiver<io::Result<()>>,
}

impl Operator {
    async fn serve(&mut self) -> Result<(), Failure> {
        if let Some(control) = &mut self.control {
            control.publish()?;
        }
        self.notify.ready();
        let mut looks = interval(WATCH_PERIOD);
        looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let alive_period = self.notify.alive_interval();
        let mut alive = interval(alive_period.unwrap_or(GRACE_MAX));
        loop {
            let cut_at = self.cut_at;
            tokio::select! {
                asked = self.signals.next() => match asked {
                    Asked::Stop => return self.leave(GRACE, true).await,
                    Asked::Reload => self.reload().await,
                    Asked::Reopen => self.proxy.reopen_log(),
                    Asked::Upgrade => self.spawn_next(),
                },
                _ = looks.tick() => {
                    if !self.args.operation.no_watch && self.seen.has_changed(&self.args.config) {
                        self.reload().await;
                    }
                }
                _ = alive.tick() => {
                    if alive_period.is_some() {
                        self.notify.alive();
                    }
                }
                asked = next_connection(self.control.as_ref()) => self.give_to(asked),
                Some(outcome) = self.handed.recv() => {
                    self.is_handing_over = false;
                    match outcome {
                        Ok(()) => {
                            self.notify.handed_over();
                            let patience = Duration::from_secs(self.args.operation.drain_timeout);
                            return self.leave(patience, false).await;
                        }
                        Err(error) => complain(format_args!(
                            "weaprous: the next version does not take over: {error}; this one goes on"
                        )),
                    }
                }
                () = until(cut_at) => {
                    self.cut_at = None;
                    self.proxy.cut_removed();
                }
                () = self.running.finished() => return Err(Failure::Running(anyhow::anyhow!("the server has ended"))),
            }
        }
    }

    /// Puts the configuration file to work, or says why not and changes nothing.
    async fn reload(&mut self) {
        self.notify.reloading();
        self.seen = Seen::now(&self.args.config);
        match self.try_reload().await {
            Ok((diff, waiting)) if waiting.is_empty() => say(format_args!("  reloaded {diff}\n")),
            Ok((diff, waiting)) => {
                let waiting = waiting.join("` and `");
                say(format_args!("  reloaded {diff}; `{waiting}` as changed: not before the next start\n"));
                complain(format_args!(
                    "weaprous: `{waiting}` stays as it is until the next start, which SIGUSR2 makes as well"
                ));
            }
            Err(failure) => {
                self.proxy.reload_refused();
                complain(format_args!(
                    "weaprous: the configuration is not reloaded, the one before goes on\n{failure}"
                ));
            }
        }
        self.notify.ready();
    }

    /// What has changed, and which changed directives wait for the next start.
    async fn try_reload(&mut self) -> Result<(proxy::Diff, Vec<&'static str>), Failure> {
        let config = load(&self.args)?;
        let wanted = fronts(&self.args, &config);
        let mut added = Vec::new();
        let others: Vec<&Front> = wanted.iter().filter(|front| !self.fronts.contains(front)).collect();
        for front in others {
            match self.prepare(front) {
                Ok(opening) => added.push(opening),
                Err(failure) => return Err(self.give_back(&added, failure)),
            }
        }
        let admin = match self.prepare_admin(config.admin) {
            Ok(admin) => admin,
            Err(failure) => return Err(self.give_back(&added, failure)),
        };
        let diff = match self.proxy.reload(&config) {
            Ok(diff) => diff,
            Err(error) => {
                if admin.is_some() {
                    config.admin.and_then(|address| self.listeners.close(address));
                }
                return Err(self.give_back(&added, Failure::Usage(error.to_string())));
            }
        };
        self.move_admin(config.admin, admin).await?;
        for Opening { front, tls, sockets, before } in added {
            if let Some(bound) = before {
                self.running.close(bound).await;
            }
            self.secure.watch(&front, tls.as_ref());
            let (running, service) = (&mut self.running, self.proxy.service());
            let opened = match (front.trusted(), tls) {
                (Some(proxies), tls) => running.listen_behind_on(sockets, proxies, tls, service).await,
                (None, Some(tls)) => running.listen_tls_on(sockets, tls, service).await,
                (None, None) => running.listen_on(sockets, service).await,
            };
            opened.context("an address cannot be served")?;
        }
        let mut kept = wanted;
        for front in std::mem::take(&mut self.fronts) {
            if kept.iter().any(|other| other.address == front.address) {
                continue;
            }
            if config.listen.is_empty() && front.origin == "systemd" {
                kept.push(front);
            } else if let Some(bound) = self.listeners.close(front.address) {
                self.secure.forget(front.address);
                self.running.close(bound).await;
            }
        }
        self.fronts = kept;
        self.cut_at = Some(Instant::now() + Duration::from_secs(self.args.operation.drain_timeout));
        Ok((diff, self.at_start.changed(&config)))
    }

    /// Gets what a new or a changed front needs. One that only speaks otherwise keeps its sockets, so that nobody is
    /// refused meanwhile.
    fn prepare(&mut self, front: &Front) -> Result<Opening, Failure> {
        let tls = self.secure.load(front)?;
        let again = self.listeners.again(front.address).context("a socket cannot be shared")?;
        let (sockets, before) = match again {
            Some((bound, sockets)) => (sockets, Some(bound)),
            None => (self.listeners.get(front.address, front.origin)?, None),
        };
        Ok(Opening { front: front.clone(), tls, sockets, before })
    }

    /// Gets what the admin page needs at another address than before, if it is to have one.
    fn prepare_admin(&mut self, wanted: Option<SocketAddr>) -> Result<Option<AdminOpening>, Failure> {
        let Some(address) = wanted.filter(|_| wanted != self.admin_at) else { return Ok(None) };
        let admin = admin(&self.args, &self.proxy, address)?.counting(self.connections.clone());
        if self.listeners.has(address) {
            return Err(Failure::Usage(format!("admin {address}: something else is served there")));
        }
        Ok(Some((admin, self.listeners.get(address, "`admin`")?)))
    }

    /// Serves the admin page where it is to be from now on, and no longer where it was.
    async fn move_admin(&mut self, wanted: Option<SocketAddr>, opening: Option<AdminOpening>) -> Result<(), Failure> {
        if wanted == self.admin_at {
            return Ok(());
        }
        if let Some((admin, sockets)) = opening {
            let bound = sockets.first().and_then(|socket| socket.local_addr().ok());
            self.running.listen_on(sockets, admin.service()).await.context("the admin page cannot be served")?;
            announce(&[], bound);
        }
        let before = std::mem::replace(&mut self.admin_at, wanted);
        if let Some(bound) = before.and_then(|address| self.listeners.close(address)) {
            self.running.close(bound).await;
        }
        Ok(())
    }

    /// Closes what was opened for a configuration that is refused after all.
    fn give_back(&mut self, added: &[Opening], failure: Failure) -> Failure {
        for opening in added.iter().filter(|opening| opening.before.is_none()) {
            self.listeners.close(opening.front.address);
        }
        failure
    }

    /// Starts the file under which this program lies, with the same arguments, and hands the sockets over.
    fn spawn_next(&mut self) {
        let spawned = UnixStream::pair().and_then(|(ours, theirs)| {
            let arguments: Vec<OsString> = std::env::args_os().skip(1).filter(|word| word != "--upgrade").collect();
            let mut next = Command::new(&self.program);
            next.args(arguments).env(HANDOVER, BY_STDIN).stdin(Stdio::from(std::os::fd::OwnedFd::from(theirs)));
            next.spawn().map(|child| (ours, child))
        });
        match spawned {
            Ok((channel, mut child)) => {
                std::thread::spawn(move || child.wait()); // nobody else would, and it would stay as a zombie
                self.give_to(Ok(channel));
            }
            Err(error) => complain(format_args!("weaprous: the next version cannot be started: {error}")),
        }
    }

    /// Hands the sockets over to whoever is at the other end.
    fn give_to(&mut self, channel: io::Result<UnixStream>) {
        if std::mem::replace(&mut self.is_handing_over, true) {
            complain("weaprous: the sockets are being handed over already");
            return;
        }
        let begun = channel.and_then(|channel| Ok((channel, self.listeners.clones()?)));
        let (done, legacy) = (self.handed_over.clone(), self.proxy.legacy().to_text());
        match begun {
            Ok((channel, sockets)) => {
                std::thread::spawn(move || done.blocking_send(handover::give(&channel, &sockets, &legacy)));
            }
            Err(error) => {
                self.is_handing_over = false;
                complain(format_args!("weaprous: the sockets cannot be handed over: {error}"));
            }
        }
    }

    /// Accepts nothing more and waits until everything has ended, so long at most. Streams end at once, or with the
    /// deadline.
    async fn leave(&mut self, patience: Duration, streams_end_now: bool) -> Result<(), Failure> {
        if streams_end_now {
            self.notify.stopping();
            self.streams_end.cancel();
            if let Some(control) = self.control.take() {
                control.remove();
            }
        }
        self.listeners.close_all();
        self.stop.cancel();
        tokio::select! {
            () = self.running.finished() => return Ok(()),
            () = tokio::time::sleep(patience) => {}
            Asked::Stop = self.signals.next() => {
                if streams_end_now {
                    std::process::exit(INTERRUPTED);
                }
            }
        }
        self.streams_end.cancel();
        tokio::select! {
            () = self.running.finished() => {}
            () = tokio::time::sleep(LAST_WORDS) => tracing::warn!("connections still open after the deadline are cut"),
        }
        Ok(())
    }
}

/// The admin page at an address that it did not have before.
type AdminOpening = (Admin, Vec<std::net::TcpListener>);

/// A front that is to be served from now on.
struct Opening {
    front: Front,
    tls: Option<Tls>,
    sockets: Vec<std::net::TcpListener>,
    /// Where the same address is served in another way until then.
    before: Option<SocketAddr>,
}

async fn until(at: Option<Instant>) {
    match at {
        Some(at) => sleep_until(at).await,
        None => std::future::pending().await,
    }
}

async fn next_connection(control: Option<&Control>) -> io::Result<UnixStream> {
    match control {
        Some(control) => control.next().await,
        None => std::future::pending().await,
    }
}

/// The socket by which a next version asks for the listening sockets.
struct Control {
    listener: UnixListener,
    path: PathBuf,
    /// Where it lies until this process serves: the one before may still listen at `path`.
    hidden: Option<PathBuf>,
}

impl Control {
    fn open(path: &Path) -> Result<Self, Failure> {
        let mut hidden = path.as_os_str().to_owned();
        hidden.push(format!(".{}", std::process::id()));
        let hidden = PathBuf::from(hidden);
        let failed = |error: io::Error| Failure::Listen(format!("--control {}: {error}", path.display()));
        let listener = UnixListener::bind(&hidden).map_err(failed)?;
        Ok(Self { listener, path: path.to_owned(), hidden: Some(hidden) })
    }

    /// Takes the place of the process before.
    fn publish(&mut self) -> Result<(), Failure> {
        let Some(hidden) = self.hidden.take() else { return Ok(()) };
        let moved = std::fs::rename(&hidden, &self.path);
        moved.map_err(|error| Failure::Listen(format!("--control {}: {error}", self.path.display())))
    }

    /// The next process of the same user that asks.
    async fn next(&self) -> io::Result<UnixStream> {
        let (stream, _) = self.listener.accept().await?;
        let user = stream.peer_cred()?.uid();
        if user != rustix::process::geteuid().as_raw() {
            return Err(io::Error::other(format!("user {user} may not ask for them")));
        }
        let stream = stream.into_std()?;
        stream.set_nonblocking(false)?;
        Ok(stream)
    }

    fn remove(self) {
        // Whoever starts next replaces what is left.
        let _ = std::fs::remove_file(&self.path);
    }
}

/// A configuration file as it was last looked at.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Seen {
    used: Option<(SystemTime, u64)>,
    last: Option<(SystemTime, u64)>,
}

impl Seen {
    fn now(path: &Path) -> Self {
        let now = Self::look(path);
        Self { used: now, last: now }
    }

    /// Whether the file is another one than that in use and has stayed so since the last look: whoever writes it may
    /// not be done before. A file that is gone is waited for.
    fn has_changed(&mut self, path: &Path) -> bool {
        let now = Self::look(path);
        let is_still = now == std::mem::replace(&mut self.last, now);
        is_still && now.is_some() && now != self.used
    }

    fn look(path: &Path) -> Option<(SystemTime, u64)> {
        let metadata = std::fs::metadata(path).ok()?;
        Some((metadata.modified().ok()?, metadata.len()))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_file_has_changed_when_it_has_stayed_changed_for_one_look() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("proxy.conf");
        std::fs::write(&path, "one").unwrap();
        let mut seen = Seen::now(&path);
        assert!(!seen.has_changed(&path));
        std::fs::write(&path, "another").unwrap();
        assert!(!seen.has_changed(&path), "it may not be complete");
        assert!(seen.has_changed(&path));
        seen = Seen::now(&path);
        std::fs::remove_file(&path).unwrap();
        assert!(!seen.has_changed(&path) && !seen.has_changed(&path), "one that is gone is waited for");
        std::fs::write(&path, "a third").unwrap();
        assert!(!seen.has_changed(&path));
        assert!(seen.has_changed(&path));
    }
}
