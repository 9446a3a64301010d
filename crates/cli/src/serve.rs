//! `weaprous serve`: a folder on the network, in one line.
//!
//! Reads only, unless `--upload` is given; never shows hidden files unless asked to; says plainly who can see what.

mod qr;
mod upload;

use crate::args::Serve;
use crate::exit::Failure;
use crate::servers::{listen_app_over, serve};
use crate::tls;
use anyhow::Context as _;
use engine::{Server, Settings};
use std::fmt::Write as _;
use std::io::{IsTerminal as _, stdout};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::path::Path;
use weaprous::Files;
use weaprous::layers::{AccessLog, BasicAuth, LogFormat};
use weaprous::prelude::*;

/// `weaprous serve`.
pub(crate) fn run(args: &Serve) -> Result<(), Failure> {
    let app = app(args)?;
    let address = SocketAddr::new(args.server_ip, args.port);
    let tls = match tls::with_files(&args.tls_files)? {
        None if args.tls => Some(tls::with_lan(&tls::lan(&tls::folder(None)?, &[])?)?),
        from_files => from_files,
    };
    let server = listen_app_over(tls.as_ref(), Server::new(Settings::default()), address, "--port", app)?;
    let bound = *server.local_addrs().first().context("a server listens somewhere")?;
    let greeting = Greeting { args, scheme: if tls.is_some() { "https" } else { "http" }, bound };
    serve(server, || print!("{}", greeting.text()))
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
    }
    if args.upload {
        if args.auth.is_none() && !args.server_ip.is_loopback() {
            return Err(Failure::Usage(
                "--upload would let everyone on this network write here: add --auth USER:PASSWORD, or \
                 --server-ip 127.0.0.1 to keep it to this machine"
                    .to_owned(),
            ));
        }
        files = files.upload_form(true);
        app = app.add_route(upload::route(folder, args.hidden, args.upload_mib_max));
    }
    Ok(app.route("/{path..}", [GET], files))
}

/// What is said at the start: where it is, who can see it, and a code for phones.
struct Greeting<'a> {
    args: &'a Serve,
    scheme: &'static str,
    bound: SocketAddr,
}

impl Greeting<'_> {
    fn text(&self) -> String {
        let mut text = String::new();
        let folder = self.args.dir.canonicalize().unwrap_or_else(|_| self.args.dir.clone());
        let _ = writeln!(text, "Serving {}\n", folder.display());
        let ip = self.bound.ip();
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

/// The address other machines reach this one at: the one the system would send from. Nothing is sent.
fn lan_addr(family: IpAddr) -> Option<IpAddr> {
    // Addresses for documentation (RFC 5737, RFC 3849): far away by every routing table.
    let (from, to): (IpAddr, IpAddr) = if family.is_ipv4() {
        (Ipv4Addr::UNSPECIFIED.into(), Ipv4Addr::new(192, 0, 2, 1).into())
    } else {
        (Ipv6Addr::UNSPECIFIED.into(), Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1).into())
    };
    let socket = UdpSocket::bind((from, 0)).ok()?;
    socket.connect((to, 9)).ok()?;
    socket.local_addr().ok().map(|address| address.ip()).filter(|ip| !ip.is_unspecified())
}
