//! `weaprous serve`: a folder on the network, in one line.
//!
//! Reads only, unless `--upload` is given; never shows hidden files unless asked to; says plainly who can see what.

mod host;
mod qr;
mod upload;

use crate::args::Serve;
use crate::exit::Failure;
use crate::network::lan_addr;
use crate::say::say;
use crate::servers::{listen, listen_app_over, serve};
use crate::tls;
use anyhow::Context as _;
use engine::{Server, Settings};
use std::fmt::Write as _;
use std::io::{IsTerminal as _, stdout};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::Path;
use weaprous::Files;
use weaprous::layers::{AccessLog, BasicAuth, LogFormat};
use weaprous::prelude::*;

/// `weaprous serve`.
pub(crate) fn run(args: &Serve) -> Result<(), Failure> {
    let app = app(args)?;
    let address = SocketAddr::new(args.server_ip, args.port);
    let (tls, own) = match tls::with_files(&args.tls_files)? {
        None if args.tls => {
            let folder = tls::folder(args.data_dir.as_deref())?;
            let own = tls::lan(&folder, &[])?;
            (Some(tls::with_lan(&own)?), Some((own, folder)))
        }
        from_files => (from_files, None),
    };
    let server = Server::new(args.limits.over(Settings::default()));
    let mut server = listen_app_over(tls.as_ref(), server, address, "--port", app)?;
    let bound = *server.local_addrs().first().context("a server listens somewhere")?;
    if let Some((certificate, folder)) = &own {
        let beside = tls::beside(Some(certificate.clone()), bound.port());
        let folder = folder.clone();
        server = listen(server, SocketAddr::new(args.server_ip, args.trust_port), "--trust-port", beside)?
            .on_one_worker(move || tls::keep_renewed(folder));
    }
    let scheme = if tls.is_some() { "https" } else { "http" };
    let trust = server.local_addrs().get(1).map(SocketAddr::port);
    let greeting = Greeting { args, scheme, bound, trust };
    serve(server, || say(greeting.text()))
}

fn app(args: &Serve) -> Result<App, Failure> {
    let wrong =
        |error| Failure::Usage(format!("cannot serve {}: {error}; give a folder that can be read", args.dir.display()));
    let folder = args.dir.canonicalize().map_err(wrong)?;
    let index = args.index.clone().unwrap_or_else(|| "index.html".to_owned());
    let mut files = Files::dir(&folder).map_err(wrong)?.index(&index).listing(!args.no_listing).hidden(args.hidden);
    if args.spa {
        files = files.spa(index);
    }
    let mut app = App::new();
    if !args.quiet {
        app = app.layer(AccessLog::new(stdout(), if args.json_log { LogFormat::Json } else { LogFormat::Combined }));
    }
    if let Some(credentials) = &args.auth {
        let (user, password) = credentials
            .split_once(':')
            .filter(|(user, password)| !user.is_empty() && !password.is_empty())
            .ok_or_else(|| Failure::Usage("--auth takes USER:PASSWORD".to_owned()))?;
        app = app.layer(BasicAuth::new("files", user, password));
    } else {
        app = app.layer(host::own_names_only);
    }
    if args.upload {
        if args.auth.is_none() && !args.server_ip.is_loopback() {
            return Err(Failure::Usage(
                "--upload would let everyone on this network write here: add --auth USER:PASSWORD, or \
                 --server-ip 127.0.0.1 to keep it to this machine"
                    .to_owned(),
            ));
        }
        // What is added must not be sent in place of what was there: `a.txt.gz` would be, for `a.txt`.
        files = files.upload_form(true).precompressed(false);
        weaprous::multipart::discard_leftovers(&folder);
        app = app.add_route(upload::route(folder, args.hidden, args.upload_mib_max));
    }
    Ok(app.route("/{path..}", [GET], files))
}

/// What is said at the start: where it is, who can see it, and a code for phones.
struct Greeting<'a> {
    args: &'a Serve,
    scheme: &'static str,
    bound: SocketAddr,
    /// The port with the page that explains how to trust the certificate, if that is this machine's own.
    trust: Option<u16>,
}

impl Greeting<'_> {
    fn text(&self) -> String {
        let mut text = String::new();
        let folder = self.args.dir.canonicalize().unwrap_or_else(|_| self.args.dir.clone());
        let _ = writeln!(text, "Serving {}\n", folder.display());
        let ip = self.bound.ip();
        if let Some(port) = self.trust {
            let shown = if ip.is_unspecified() { lan_addr(ip).unwrap_or(loopback(ip)) } else { ip };
            let page = SocketAddr::new(shown, port);
            let _ =
                writeln!(text, "Browsers warn of its certificate until they trust it: http://{page}/trust says how.\n");
        }
        let _ = writeln!(text, "  here     {}", self.url(if ip.is_unspecified() { loopback(ip) } else { ip }));
        if ip.is_loopback() {
            let _ = writeln!(text, "\nOnly this machine can see it. --server-ip 0.0.0.0 shows it to the network.");
            return text + "Ctrl-C stops it.\n";
        }
        if let Some(lan) = if ip.is_unspecified() { lan_addr(ip) } else { Some(ip) } {
            let lan = self.url(lan);
            let _ = writeln!(text, "  network  {lan}\n");
            let is_terminal = stdout().is_terminal();
            if self.args.qr || is_terminal && !self.args.no_qr {
                let _ = writeln!(text, "{}", qr::code(&lan, is_terminal));
            }
        }
        text + &self.warning(&folder) + "Ctrl-C stops it.\n"
    }

    fn warning(&self, folder: &Path) -> String {
        let args = self.args;
        let has_password = args.auth.is_some();
        let who =
            if has_password { "Everyone on this network who knows the password" } else { "EVERYONE on this network" };
        let what = if args.upload { "read and add to" } else { "read" };
        let hidden = if args.hidden { ", hidden files included" } else { "" };
        let travels = if has_password && self.scheme == "http" { " The password travels unencrypted." } else { "" };
        let folder = folder.display();
        format!("{who} can {what} {folder}{hidden}.{travels} --server-ip 127.0.0.1 keeps it to this machine.\n")
    }

    fn url(&self, ip: IpAddr) -> String {
        format!("{}://{}", self.scheme, SocketAddr::new(ip, self.bound.port()))
    }
}

fn loopback(ip: IpAddr) -> IpAddr {
    if ip.is_ipv4() { IpAddr::V4(Ipv4Addr::LOCALHOST) } else { IpAddr::V6(Ipv6Addr::LOCALHOST) }
}
