//! Backend, proxy and tracker, each alone; and the pieces `up` puts together.

use crate::args::{Backend, SiteDirs, Tracker};
use crate::data;
use crate::exit::Failure;
use crate::say::say;
use crate::stop::GRACE;
use crate::tls::with_files;
use accounts::{Accounts, StoreSessions};
use anyhow::Context as _;
use backend::{BackendSettings, Site};
use chat::Store;
use engine::{Server, Service, Settings, Tls};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use tracker::TrackerSettings;
use weaprous::App;
use weaprous::session::Sessions;

/// How long a login lasts.
const SESSION_TTL: Duration = Duration::from_hours(30 * 24);

/// `weaprous backend`.
pub(crate) fn backend(args: &Backend) -> Result<(), Failure> {
    let shared = Shared::open(args.data.data_dir.clone(), "server")?;
    data::block_on(data::refuse_demo_on_network(&shared.store, args.server_ip))??;
    let address = SocketAddr::new(args.server_ip, args.server_port);
    let tls = with_files(&args.tls)?;
    let app = trusting(shared.backend(&args.site, tls.is_some())?, &args.trusted_proxy);
    let server = listen_app_over(
        tls.as_ref(),
        Server::new(args.limits.over(Settings::default())),
        address,
        "--server-port",
        app,
    )?;
    serve_as(server, "backend", tls.is_some())
}

/// `weaprous tracker`.
pub(crate) fn tracker(args: &Tracker) -> Result<(), Failure> {
    let shared = Shared::open(args.data.data_dir.clone(), "server")?;
    let _only = data::only_tracker(&shared.folder)?;
    data::block_on(data::refuse_demo_on_network(&shared.store, args.server_ip))??;
    let address = SocketAddr::new(args.server_ip, args.server_port);
    let tls = with_files(&args.tls)?;
    let app = trusting(shared.tracker()?, &args.trusted_proxy);
    let server = listen_app_over(
        tls.as_ref(),
        Server::new(args.limits.over(Settings::default())),
        address,
        "--server-port",
        app,
    )?;
    serve_as(server, "tracker", tls.is_some())
}

/// What backend and tracker share: the store, and who is logged in.
pub(crate) struct Shared {
    pub(crate) store: Arc<dyn Store>,
    pub(crate) accounts: Accounts,
    pub(crate) folder: PathBuf,
    sessions: Arc<Sessions>,
}

impl Shared {
    /// Opens the data directory, or the default one called `name`.
    pub(crate) fn open(folder: Option<PathBuf>, name: &str) -> Result<Self, Failure> {
        let folder = match folder {
            Some(folder) => folder,
            None => data::home()?.join(name),
        };
        let store = data::open(&folder)?;
        let accounts = Accounts::new(Arc::clone(&store));
        let sessions = Arc::new(Sessions::new(Arc::new(StoreSessions::new(Arc::clone(&store))), SESSION_TTL));
        Ok(Self { store, accounts, folder, sessions })
    }

    /// The pages; whether cookies are for TLS only.
    pub(crate) fn backend(&self, site: &SiteDirs, secure_cookies: bool) -> Result<App, Failure> {
        let from = |folder: &Option<PathBuf>, embedded: fn() -> Site| match folder {
            Some(folder) => Site::dir(folder).map_err(|error| Failure::Usage(error.to_string())),
            None => Ok(embedded()),
        };
        Ok(backend::app(BackendSettings {
            accounts: self.accounts.clone(),
            sessions: Arc::clone(&self.sessions),
            www: from(&site.www, Site::embedded_www)?,
            static_files: from(&site.static_dir, Site::embedded_static)?,
            secure_cookies,
        }))
    }

    /// The tracker.
    pub(crate) fn tracker(&self) -> Result<App, Failure> {
        let settings = TrackerSettings::new(Arc::clone(&self.store), self.accounts.clone(), Arc::clone(&self.sessions));
        let app = data::block_on(tracker::app(settings))?.context("the tracker cannot start")?;
        Ok(app)
    }
}

/// Lets an application believe the proxies on this machine and these about who their clients are.
pub(crate) fn trusting(app: App, proxies: &[IpAddr]) -> App {
    let here = [IpAddr::V4(Ipv4Addr::LOCALHOST), IpAddr::V6(Ipv6Addr::LOCALHOST)];
    app.trust_proxies(here.iter().chain(proxies).copied())
}

/// Adds an application to a server.
pub(crate) fn listen_app(server: Server, address: SocketAddr, flag: &'static str, app: App) -> Result<Server, Failure> {
    listen_app_over(None, server, address, flag, app)
}

/// As [`listen_app`], over TLS if there is any.
pub(crate) fn listen_app_over(
    tls: Option<&Tls>,
    server: Server,
    address: SocketAddr,
    flag: &'static str,
    app: App,
) -> Result<Server, Failure> {
    let service = app.into_service().context("the routes of the application contradict each other")?;
    listen_over(tls, server, address, flag, service)
}

/// Adds a service to a server; `flag` is the argument that would choose another address.
pub(crate) fn listen<S: Service>(
    server: Server,
    address: SocketAddr,
    flag: &'static str,
    make: impl Fn() -> S + Send + Sync + 'static,
) -> Result<Server, Failure> {
    listen_over(None, server, address, flag, make)
}

/// As [`listen`], over TLS if there is any.
pub(crate) fn listen_over<S: Service>(
    tls: Option<&Tls>,
    server: Server,
    address: SocketAddr,
    flag: &'static str,
    make: impl Fn() -> S + Send + Sync + 'static,
) -> Result<Server, Failure> {
    let listening = match tls {
        Some(tls) => server.listen_tls(address, tls.clone(), make),
        None => server.listen(address, make),
    };
    listening.map_err(|error| Failure::Listen(format!("{error} ({flag})")))
}

/// The proxy passes bodies of any length on; its limits are rates and idle times, not sizes.
pub(crate) fn proxy_settings() -> Settings {
    Settings { body_bytes_max: u64::MAX, ..Settings::default() }
}

/// Serves a server, and prints its addresses.
fn serve_as(server: Server, name: &str, is_secure: bool) -> Result<(), Failure> {
    let addresses = server.local_addrs().to_vec();
    let scheme = if is_secure { "https" } else { "http" };
    serve(server, || {
        for address in addresses {
            say(format_args!("  {name:<8} {scheme}://{address}\n"));
        }
    })
}

/// Serves until a signal, after `announce` has said so.
pub(crate) fn serve(server: Server, announce: impl FnOnce()) -> Result<(), Failure> {
    let stop = weaprous::stop_at_signals().context("signals cannot be watched")?;
    announce();
    server.run(stop, GRACE).context("the server failed")?;
    Ok(())
}
