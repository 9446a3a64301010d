//! `weaprous up`: proxy, backend and tracker in one process, on one set of workers and one store.

use crate::args::Up;
use crate::data::{self, DEMO_PASSWORD, DEMO_USER};
use crate::exit::Failure;
use crate::servers::{Shared, listen, listen_app, proxy_settings, serve, trusting};
use anyhow::Context as _;
use engine::Server;
use std::fmt::Write as _;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::Path;
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

    let at = |port| SocketAddr::new(args.server_ip, port);
    let proxy_ip = [args.server_ip]; // from which the proxy reaches the other two, unless that is loopback
    let server = Server::new(proxy_settings());
    let server =
        listen_app(server, at(args.backend_port), "--backend-port", trusting(shared.backend(&args.site)?, &proxy_ip))?;
    let server = listen_app(server, at(args.tracker_port), "--tracker-port", trusting(shared.tracker()?, &proxy_ip))?;
    let (backend, tracker) = (server.local_addrs()[0], server.local_addrs()[1]);
    let config = proxy::Config::parse("built-in configuration", &proxy_config(backend, tracker))
        .map_err(|errors| anyhow::anyhow!("the built-in proxy configuration is wrong: {errors:?}"))?;
    let server = listen(server, at(args.proxy_port), "--proxy-port", proxy::service(Arc::new(config)))?;
    let page = server.local_addrs()[2];

    serve(server, || {
        print!("{}", greeting(args, &shared.folder, [page, backend, tracker]));
        if args.open {
            open_browser(page);
        }
    })
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
fn greeting(args: &Up, folder: &Path, [page, backend, tracker]: [SocketAddr; 3]) -> String {
    let page = if page.ip() == IpAddr::V4(Ipv4Addr::LOCALHOST) {
        format!("localhost:{}", page.port())
    } else {
        reachable(page).to_string()
    };
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
        "WeApRous is up.\n\n  page     http://{page}\n  backend  http://{backend}\n  tracker  http://{tracker}\n  \
         data     {}\n\n{login}Then, in two more terminals:\n\n  \
         {program} chat --username Alice --peer-port 9101{option}\n  \
         {program} chat --username Bob --peer-port 9102{option}\n\nCtrl-C stops it.\n",
        folder.display()
    )
}

/// Opens the page; a machine without a browser is told nothing it does not know.
fn open_browser(page: SocketAddr) {
    let opener = if cfg!(target_os = "macos") { "open" } else { "xdg-open" };
    let url = format!("http://{}", reachable(page));
    let child = Command::new(opener).arg(&url).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn();
    if let Err(error) = child {
        eprintln!("weaprous: cannot start {opener} ({error}); open {url} yourself");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_built_in_proxy_configuration_is_accepted() {
        let config = proxy_config("0.0.0.0:9000".parse().unwrap(), "[::]:8000".parse().unwrap());
        assert!(config.contains("http://127.0.0.1:9000") && config.contains("http://[::1]:8000"), "{config}");
        assert!(proxy::Config::parse("test", &config).is_ok(), "{config}");
    }
}
