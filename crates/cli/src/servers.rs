//! Backend, proxy and tracker, each alone; and the pieces `up` puts together.

use crate::args::{Backend, Proxy, SiteDirs, Tracker};
use crate::data;
use crate::exit::Failure;
use crate::stop::{GRACE, on_signals};
use accounts::{Accounts, StoreSessions};
use anyhow::Context as _;
use backend::{BackendSettings, Site};
use chat::Store;
use engine::{Server, Service, Settings, Stop};
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
    let server = listen_app(
        Server::new(Settings::default()),
        address,
        "--server-port",
        trusting(shared.backend(&args.site)?, &args.trusted_proxy),
    )?;
    serve_as(server, "backend")
}

/// `weaprous tracker`.
pub(crate) fn tracker(args: &Tracker) -> Result<(), Failure> {
    let shared = Shared::open(args.data.data_dir.clone(), "server")?;
    let _only = data::only_tracker(&shared.folder)?;
    data::block_on(data::refuse_demo_on_network(&shared.store, args.server_ip))??;
    let address = SocketAddr::new(args.server_ip, args.server_port);
    let server = listen_app(
        Server::new(Settings::default()),
        address,
        "--server-port",
        trusting(shared.tracker()?, &args.trusted_proxy),
    )?;
    serve_as(server, "tracker")
}

/// `weaprous proxy`.
pub(crate) fn proxy(args: &Proxy) -> Result<(), Failure> {
    let config = proxy::Config::load(&args.config).map_err(|error| Failure::Usage(error.to_string()))?;
    let address = SocketAddr::new(args.server_ip, args.server_port);
    let service = proxy::service(Arc::new(config));
    let server = listen(Server::new(proxy_settings()), address, "--server-port", service)?;
    serve_as(server, "proxy")
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

    /// The pages.
    pub(crate) fn backend(&self, site: &SiteDirs) -> Result<App, Failure> {
        let from = |folder: &Option<PathBuf>, embedded: fn() -> Site| match folder {
            Some(folder) => Site::dir(folder).map_err(|error| Failure::Usage(error.to_string())),
            None => Ok(embedded()),
        };
        Ok(backend::app(BackendSettings {
            accounts: self.accounts.clone(),
            sessions: Arc::clone(&self.sessions),
            www: from(&site.www, Site::embedded_www)?,
            static_files: from(&site.static_dir, Site::embedded_static)?,
            secure_cookies: false,
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
    let service = app.into_service().context("the routes of the application contradict each other")?;
    listen(server, address, flag, service)
}

/// Adds a service to a server; `flag` is the argument that would choose another address.
pub(crate) fn listen<S: Service>(
    server: Server,
    address: SocketAddr,
    flag: &'static str,
    make: impl Fn() -> S + Send + Sync + 'static,
) -> Result<Server, Failure> {
    server.listen(address, make).map_err(|error| Failure::Listen(format!("{error} ({flag})")))
}

/// The proxy passes bodies of any length on; its limits are rates and idle times, not sizes.
pub(crate) fn proxy_settings() -> Settings {
    Settings { body_bytes_max: u64::MAX, ..Settings::default() }
}

/// Serves a server that has one address, and prints it.
fn serve_as(server: Server, name: &str) -> Result<(), Failure> {
    let address = *server.local_addrs().first().context("a server listens somewhere")?;
    serve(server, || println!("  {name:<8} http://{address}"))
}

/// Serves until a signal, after `announce` has said so.
pub(crate) fn serve(server: Server, announce: impl FnOnce()) -> Result<(), Failure> {
    let stop = Stop::new();
    on_signals(stop.clone())?;
    announce();
    server.run(stop, GRACE).context("the server failed")?;
    Ok(())
}
