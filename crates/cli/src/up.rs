//! `weaprous up`: proxy, backend and tracker in one process, on one set of workers and one store.

use crate::args::Up;
use crate::data::{self, DEMO_PASSWORD, DEMO_USER};
use crate::exit::Failure;
use crate::network::lan_addr;
use crate::say::{complain, say};
use crate::servers::{Shared, listen, listen_app, listen_over, proxy_settings, serve, trusting};
use crate::tls;
use anyhow::Context as _;
use certs::LanCertificate;
use engine::{Server, Service, Tls};
use std::fmt::Write as _;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;

/// What the tracker answers; everything else is the backend's.
const TRACKER_PATHS: [&str; 8] =
    ["/api/", "/submit-info", "/get-list", "/create-list", "/join-list", "/add-list", "/send-message", "/get-messages"];

/// Runs all three until a signal.
pub(crate) fn run(args: &Up) -> Result<(), Failure> {
    if args.demo && !args.server_ip.is_loopback() {
        return Err(Failure::Usage(format!(
            "--demo makes an account whose password everybody knows, so it listens on loopback only, not on {}: \
             leave --demo out, and sign up in the page",
            args.server_ip
        )));
    }
    let shared = Shared::open(args.data.data_dir.clone(), if args.demo { "demo" } else { "server" })?;
    let _only = data::only_tracker(&shared.folder)?;
    data::block_on(prepare(args, &shared))??;

    let secure = Secure::of(args)?;
    let at = |port| SocketAddr::new(args.server_ip, port);
    // Behind encryption nobody but the proxy reaches the backend, where passwords arrive.
    let backend_ip = if secure.is_some() { IpAddr::V4(Ipv4Addr::LOCALHOST) } else { args.server_ip };
    let proxy_ip = [args.server_ip]; // from which the proxy reaches the other two, unless that is loopback
    let server = Server::new(args.limits.over(proxy_settings()));
    let pages = trusting(shared.backend(&args.site, secure.is_some())?, &proxy_ip);
    let server = listen_app(server, SocketAddr::new(backend_ip, args.backend_port), "--backend-port", pages)?;
    let tracker = trusting(shared.tracker()?, &proxy_ip);
    let server = listen_app(server, at(args.tracker_port), "--tracker-port", tracker)?;
    let (backend, tracker) = (server.local_addrs()[0], server.local_addrs()[1]);
    let config = proxy::Config::parse("built-in configuration", &proxy_config(backend, tracker))
        .map_err(|errors| anyhow::anyhow!("the built-in proxy configuration is wrong: {errors:?}"))?;
    let service = proxy::service(Arc::new(config));
    let server = match &secure {
        None => listen(server, at(args.proxy_port), "--proxy-port", service)?,
        Some(secure) => secure.listen(args, server, service)?,
    };
    let page = Page { address: server.local_addrs()[2], beside: server.local_addrs().get(3).copied() };

    serve(server, || {
        let trust = page.beside.filter(|_| secure.as_ref().is_some_and(|secure| secure.lan.is_some()));
        say(greeting(args, &shared.folder, &page, trust, [backend, tracker]));
        if args.open {
            open_browser(&page.url());
        }
    })
}

/// What https is spoken with.
struct Secure {
    tls: Tls,
    /// The certificate for this network and its folder, if it is that one.
    lan: Option<(LanCertificate, PathBuf)>,
}

impl Secure {
    fn of(args: &Up) -> Result<Option<Self>, Failure> {
        if let Some(tls) = tls::with_files(&args.tls_files)? {
            return Ok(Some(Self { tls, lan: None }));
        }
        if !args.tls {
            return Ok(None);
        }
        let folder = tls::folder(args.data.data_dir.as_deref())?;
        let certificate = tls::lan(&folder, &[])?;
        Ok(Some(Self { tls: tls::with_lan(&certificate)?, lan: Some((certificate, folder)) }))
    }

    /// The service at the port for https, and the way there at the proxy's own.
    fn listen<S: Service>(
        &self,
        args: &Up,
        server: Server,
        service: impl Fn() -> S + Send + Sync + 'static,
    ) -> Result<Server, Failure> {
        let at = |port| SocketAddr::new(args.server_ip, port);
        let server = listen_over(Some(&self.tls), server, at(args.tls_port), "--tls-port", service)?;
        let tls_port = server.local_addrs()[2].port();
        let certificate = self.lan.as_ref().map(|(certificate, _)| certificate.clone());
        let server = listen(server, at(args.proxy_port), "--proxy-port", tls::beside(certificate, tls_port))?;
        Ok(match self.lan.clone() {
            Some((_, folder)) => server.on_one_worker(move || tls::keep_renewed(folder)),
            None => server,
        })
    }
}

/// Where the page is.
struct Page {
    address: SocketAddr,
    /// With https: the port without, which leads to the page.
    beside: Option<SocketAddr>,
}

impl Page {
    fn url(&self) -> String {
        let scheme = if self.beside.is_some() { "https" } else { "http" };
        format!("{scheme}://{}", named(self.address))
    }

    /// How the other machines reach the page, where that is not how this one does.
    fn network_url(&self) -> Option<String> {
        let scheme = if self.beside.is_some() { "https" } else { "http" };
        network_addr(self.address).map(|address| format!("{scheme}://{address}"))
    }
}

/// Where the other machines reach somebody who listens everywhere.
fn network_addr(address: SocketAddr) -> Option<SocketAddr> {
    let ip = address.ip().is_unspecified().then(|| lan_addr(address.ip()))??;
    Some(SocketAddr::new(ip, address.port()))
}

/// An address as people type it.
fn named(address: SocketAddr) -> String {
    if address.ip() == IpAddr::V4(Ipv4Addr::LOCALHOST) {
        format!("localhost:{}", address.port())
    } else {
        reachable(address).to_string()
    }
}

async fn prepare(args: &Up, shared: &Shared) -> Result<(), Failure> {
    if args.demo {
        data::fill_demo(&shared.store, &shared.accounts).await.context("cannot add the demonstration's account")?;
    }
    data::refuse_demo_on_network(&shared.store, args.server_ip).await
}

/// The same routes as in `config/proxy.conf`, with the real ports.
fn proxy_config(backend: SocketAddr, tracker: SocketAddr) -> String {
    let (backend, tracker) = (reachable(backend), reachable(tracker));
    let mut locations = String::new();
    for path in TRACKER_PATHS {
        writeln!(locations, "    location {path} {{ proxy_pass http://{tracker}; }}").expect("a string takes any text");
    }
    format!("host default {{\n    proxy_pass http://{backend};\n{locations}}}\n")
}

/// Where to connect to reach somebody who listens at `address`: the loopback address for "everywhere".
fn reachable(address: SocketAddr) -> SocketAddr {
    let ip = match address.ip() {
        ip if !ip.is_unspecified() => ip,
        IpAddr::V4(_) => IpAddr::V4(Ipv4Addr::LOCALHOST),
        IpAddr::V6(_) => IpAddr::V6(Ipv6Addr::LOCALHOST),
    };
    SocketAddr::new(ip, address.port())
}

/// The addresses, and the next thing to type.
fn greeting(
    args: &Up,
    folder: &Path,
    page: &Page,
    trust: Option<SocketAddr>,
    [backend, tracker]: [SocketAddr; 2],
) -> String {
    let network = page.network_url().map_or_else(String::new, |url| format!("  network  {url}\n"));
    let page = page.url();
    let trust = trust.map(|trust| network_addr(trust).map_or_else(|| named(trust), |address| address.to_string()));
    let trust = trust.map_or_else(String::new, |trust| format!("  trust    http://{trust}/trust\n"));
    let login = if args.demo {
        format!("Open the page and log in as {DEMO_USER} with {DEMO_PASSWORD}, or sign up. ")
    } else {
        "Open the page and sign up. ".to_owned()
    };
    let program = std::env::args().next().unwrap_or_else(|| "weaprous".to_owned());
    let option = if tracker.port() == 8000 && tracker.ip().is_loopback() {
        String::new()
    } else {
        format!(" --tracker http://{}", reachable(tracker))
    };
    format!(
        "WeApRous is up.\n\n  page     {page}\n{network}{trust}  backend  http://{backend}\n  tracker  http://{tracker}\n  \
         data     {}\n\n{login}Then, in two more terminals:\n\n  \
         {program} chat --username Alice --peer-port 9101{option}\n  \
         {program} chat --username Bob --peer-port 9102{option}\n\nCtrl-C stops it.\n",
        folder.display()
    )
}

/// Opens the page; a machine without a browser is told nothing it does not know.
fn open_browser(url: &str) {
    let opener = if cfg!(target_os = "macos") { "open" } else { "xdg-open" };
    let child = Command::new(opener).arg(url).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn();
    if let Err(error) = child {
        complain(format_args!("weaprous: cannot start {opener} ({error}); open {url} yourself"));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn other_machines_are_shown_an_address_that_is_theirs_too() {
        assert_eq!(network_addr("127.0.0.1:8080".parse().unwrap()), None, "nobody else reaches it");
        assert_eq!(network_addr("192.0.2.7:8080".parse().unwrap()), None, "it is shown already");
        let everywhere = network_addr("0.0.0.0:8080".parse().unwrap());
        assert!(everywhere.is_none_or(|address| !address.ip().is_unspecified() && address.port() == 8080));
    }

    #[test]
    fn the_built_in_proxy_configuration_is_accepted() {
        let config = proxy_config("0.0.0.0:9000".parse().unwrap(), "[::]:8000".parse().unwrap());
        assert!(config.contains("http://127.0.0.1:9000") && config.contains("http://[::1]:8000"), "{config}");
        assert!(proxy::Config::parse("test", &config).is_ok(), "{config}");
    }
}
