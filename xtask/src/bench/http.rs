//! `bench http`: what a request costs, row by row, beside other servers and a bare epoll loop.

use super::check::Ask;
use super::load::{self, Load};
use super::options::Options;
use super::report::Report;
use super::servers::{self, FILES, HELLO, JSON, Kind, Server, Setup};
use super::{OUT, machine, memory, table};
use anyhow::{Result, ensure};
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Load before the first measured round, so that caches, branch predictors and buffers are warm.
const WARM_UP: Duration = Duration::from_secs(1);
/// Requests in one packet of the pipelined row.
pub(crate) const PIPELINED: usize = 16;

/// One kind of request.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Shape {
    Get,
    Pipelined,
    Post,
    Close,
    Tls,
    Http2,
}

/// One line of the issue: what is asked for, and who can answer it.
pub(crate) struct Row {
    pub(crate) name: &'static str,
    title: &'static str,
    pub(crate) shape: Shape,
    /// The file below `/files/`, for rows about files.
    pub(crate) file: Option<(&'static str, usize)>,
    pub(crate) servers: &'static [Kind],
    /// The server whose figures are 1.00.
    base: Kind,
}

const ALL: &[Kind] =
    &[Kind::Bare, Kind::Engine, Kind::App, Kind::May, Kind::Hyper, Kind::Actix, Kind::Axum, Kind::Nginx, Kind::Haproxy];
const JSON_SERVERS: &[Kind] = &[Kind::Bare, Kind::Engine, Kind::App, Kind::May, Kind::Hyper, Kind::Actix, Kind::Axum];
const CLOSE_SERVERS: &[Kind] =
    &[Kind::Bare, Kind::Engine, Kind::App, Kind::Hyper, Kind::Actix, Kind::Axum, Kind::Nginx, Kind::Haproxy];
const FILE_SERVERS: &[Kind] = &[Kind::Bare, Kind::App, Kind::Actix, Kind::Axum, Kind::Nginx, Kind::NginxSendfile];
const TLS_SERVERS: &[Kind] =
    &[Kind::Engine, Kind::App, Kind::Hyper, Kind::Actix, Kind::Axum, Kind::Nginx, Kind::Haproxy];

pub(crate) const ROWS: [Row; 9] = [
    row("plain", "Plain GET, kept connections", Shape::Get, None, ALL, Kind::Bare),
    row("pipelined", "Plain GET, 16 in one packet", Shape::Pipelined, None, ALL, Kind::Bare),
    row("json", "JSON POST, parsed and written again", Shape::Post, None, JSON_SERVERS, Kind::Bare),
    row("new", "A new connection per request", Shape::Close, None, CLOSE_SERVERS, Kind::Bare),
    row("file-1k", "File of 1 KiB", Shape::Get, Some(FILES[0]), FILE_SERVERS, Kind::Nginx),
    row("file-64k", "File of 64 KiB", Shape::Get, Some(FILES[1]), FILE_SERVERS, Kind::Nginx),
    row("file-10m", "File of 10 MiB", Shape::Get, Some(FILES[2]), FILE_SERVERS, Kind::NginxSendfile),
    row("tls", "Plain GET over TLS, kept connections", Shape::Tls, None, TLS_SERVERS, Kind::Nginx),
    row("h2", "Plain GET over HTTP/2 and TLS, one request at a time", Shape::Http2, None, TLS_SERVERS, Kind::Nginx),
];

const fn row(
    name: &'static str,
    title: &'static str,
    shape: Shape,
    file: Option<(&'static str, usize)>,
    servers: &'static [Kind],
    base: Kind,
) -> Row {
    Row { name, title, shape, file, servers, base }
}

/// Rows of a smoke run: one of each way through a server.
const SMOKE: [&str; 4] = ["plain", "pipelined", "json", "new"];
const SMOKE_SERVERS: [Kind; 3] = [Kind::Bare, Kind::Engine, Kind::App];

pub(crate) fn run(options: &Options) -> Result<()> {
    let rows: Vec<_> = ROWS.iter().map(|row| row.name).chain(memory::ROWS).collect();
    options.check_names(&rows, &Kind::ALL.map(Kind::name))?;
    let kinds = chosen(options, &Kind::ALL);
    let installed: Vec<_> = kinds.iter().filter_map(|kind| kind.installed()).collect();
    let generators: &[&str] =
        if options.smoke { &["taskset", "wrk"] } else { &["taskset", "wrk", "h2load", "openssl"] };
    machine::require(&[generators, &installed].concat())?;
    servers::prepare(!options.smoke)?;
    servers::build(&kinds, options)?;
    let mut report = Report::default();
    for row in ROWS.iter().filter(|row| options.wants_row(row.name)) {
        if !options.smoke || SMOKE.contains(&row.name) {
            report.add(row.name, measure(row, options));
        }
    }
    if !options.smoke {
        memory::run(options, &kinds, &mut report);
    }
    let programs = [generators, &installed].concat();
    report.finish("http", options.smoke, &programs)
}

/// The servers that are wanted among those that can do the row.
pub(crate) fn chosen(options: &Options, among: &[Kind]) -> Vec<Kind> {
    let wanted = |kind: &&Kind| options.wants_peer(kind.name()) && (!options.smoke || SMOKE_SERVERS.contains(kind));
    among.iter().filter(wanted).copied().collect()
}

impl Row {
    pub(crate) fn setup(&self, options: &Options) -> Result<(PathBuf, bool, bool)> {
        let scratch = servers::scratch()?.join("files");
        let body = match (self.shape, self.file) {
            (_, Some((name, _))) => scratch.join(name),
            (Shape::Post, None) => scratch.join("echo.json"),
            _ => scratch.join("hello.txt"),
        };
        let tls = matches!(self.shape, Shape::Tls | Shape::Http2) && !options.smoke;
        Ok((body, self.shape == Shape::Close, tls))
    }

    pub(crate) fn target(&self) -> String {
        match (self.shape, self.file) {
            (_, Some((name, _))) => format!("/files/{name}"),
            (Shape::Post, None) => "/echo".to_owned(),
            _ => "/".to_owned(),
        }
    }

    /// The right answer's body.
    pub(crate) fn body(&self) -> Vec<u8> {
        match (self.shape, self.file) {
            (_, Some((_, size))) => servers::contents(size),
            (Shape::Post, None) => JSON.to_vec(),
            _ => HELLO.to_vec(),
        }
    }

    pub(crate) fn ask<'a>(&self, target: &'a str, body: &'a [u8]) -> Ask<'a> {
        Ask {
            target,
            post: (self.shape == Shape::Post).then_some(JSON),
            body,
            close: self.shape == Shape::Close,
            tls: matches!(self.shape, Shape::Tls | Shape::Http2),
            http2: self.shape == Shape::Http2,
        }
    }

    /// The script that makes wrk send what it does not send by itself.
    pub(crate) fn script(&self) -> Result<Option<PathBuf>> {
        let (name, text) = match self.shape {
            Shape::Pipelined => ("pipelined.lua", pipelined_script()),
            Shape::Post => ("post.lua", post_script()),
            _ => return Ok(None),
        };
        let path = Path::new(OUT).join(name);
        fs::write(&path, text)?;
        Ok(Some(path))
    }
}

fn pipelined_script() -> String {
    format!(
        "init = function(args)\n  local one = wrk.format('GET', '/')\n  all = string.rep(one, {PIPELINED})\nend\n\
         request = function() return all end\n"
    )
}

fn post_script() -> String {
    format!(
        "wrk.method = 'POST'\nwrk.body = '{}'\nwrk.headers['Content-Type'] = 'application/json'\n",
        String::from_utf8_lossy(JSON)
    )
}

fn measure(row: &Row, options: &Options) -> Result<String> {
    let kinds = chosen(options, row.servers);
    if kinds.is_empty() {
        return Ok(String::new());
    }
    eprintln!("{}", row.title);
    let (body, close, tls) = row.setup(options)?;
    let setup = Setup { body: &body, close, tls, smoke: options.smoke, wrapper: None };
    let (target, expected) = (row.target(), row.body());
    let running = servers::start_checked(&kinds, &setup, &row.ask(&target, &expected))?;
    let script = row.script()?;
    let scheme = if tls { "https" } else { "http" };
    let urls: Vec<_> = running.iter().map(|server| format!("{scheme}://{}{target}", server.addr)).collect();
    let fire = |which: usize, seconds: u64| {
        let load = Load {
            url: &urls[which],
            connections: options.connections,
            seconds,
            script: script.as_deref(),
            fields: if close { &["Connection: close"] } else { &[] },
            http2: row.shape == Shape::Http2,
            calls: None,
        };
        load.fire(running[which].child.id())
    };
    let names: Vec<_> = kinds.iter().map(|kind| kind.name()).collect();
    let (columns, notes) = load::compete(&names, options.rounds, !options.smoke, |which, is_warm_up| {
        fire(which, if is_warm_up { WARM_UP.as_secs() } else { options.seconds })
    })?;
    for (server, kind) in running.iter().zip(&kinds) {
        ensure!(is_alive(server), "{} ended during the measurement", kind.name());
    }
    let base = if kinds.contains(&row.base) { row.base } else { kinds[0] };
    let title = format!(
        "{} (`{}`; {} connections, {} rounds of {} s)",
        row.title, row.name, options.connections, options.rounds, options.seconds
    );
    Ok(table::table(&title, base.name(), &columns) + &notes)
}

fn is_alive(server: &Server) -> bool {
    Path::new("/proc").join(server.child.id().to_string()).join("schedstat").exists()
}
