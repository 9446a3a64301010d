//! The servers that are measured: how each is built and started, bound to its core, all answering the same.

use super::machine::{SERVER_CORE, pinned, target};
use super::options::Options;
use super::{OUT, check};
use crate::shell;
use anyhow::{Context, Result, ensure};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};
use std::{env, fs, thread};

/// How long a server may take until it accepts.
const START_MAX: Duration = Duration::from_secs(30);
/// The manifest of the peers, a workspace of its own.
const PEERS: &str = "bench/peers/Cargo.toml";
/// Crates whose versions a result names.
pub(crate) const CRATES: [&str; 10] = [
    "hyper",
    "actix-web",
    "actix-files",
    "axum",
    "tower-http",
    "may_minihttp",
    "tokio",
    "rustls",
    "pingora-proxy",
    "rustix",
];

/// What every server answers to `GET /`.
pub(crate) const HELLO: &[u8] = b"Hello, World!";
/// What is sent to `POST /echo` and comes back.
pub(crate) const JSON: &[u8] = br#"{"message":"Hello, World!","n":42}"#;
/// Files below `/files/`, with their sizes.
pub(crate) const FILES: [(&str, usize); 3] = [("1k.txt", 1024), ("64k.bin", 64 * 1024), ("10m.bin", 10 * 1024 * 1024)];

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Kind {
    Bare,
    Engine,
    App,
    Hyper,
    Actix,
    Axum,
    May,
    Nginx,
    NginxSendfile,
    Haproxy,
}

impl Kind {
    pub(crate) const ALL: [Self; 10] = [
        Self::Bare,
        Self::Engine,
        Self::App,
        Self::May,
        Self::Hyper,
        Self::Actix,
        Self::Axum,
        Self::Nginx,
        Self::NginxSendfile,
        Self::Haproxy,
    ];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Bare => "bare",
            Self::Engine => "engine",
            Self::App => "app",
            Self::Hyper => "hyper",
            Self::Actix => "actix",
            Self::Axum => "axum",
            Self::May => "may",
            Self::Nginx => "nginx",
            Self::NginxSendfile => "nginx-sendfile",
            Self::Haproxy => "haproxy",
        }
    }

    /// The program that must be installed for it.
    pub(crate) fn installed(self) -> Option<&'static str> {
        match self {
            Self::Nginx | Self::NginxSendfile => Some("nginx"),
            Self::Haproxy => Some("haproxy"),
            _ => None,
        }
    }
}

/// How a server is to answer in one row.
pub(crate) struct Setup<'a> {
    /// What the bare loop sends; the others are asked for it.
    pub(crate) body: &'a Path,
    /// The bare loop closes behind each answer; the others are asked to.
    pub(crate) close: bool,
    pub(crate) tls: bool,
    pub(crate) smoke: bool,
    /// Put in front of the program, to count its instructions.
    pub(crate) wrapper: Option<&'a [String]>,
}

/// A process that ends with its owner.
pub(crate) struct Server {
    pub(crate) child: Child,
    pub(crate) addr: SocketAddr,
}

impl Drop for Server {
    fn drop(&mut self) {
        // It may have ended by itself; either way nobody is left to tell.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Builds what the servers need: ours in the profile that ships, the others only if they are asked for.
pub(crate) fn build(kinds: &[Kind], options: &Options) -> Result<()> {
    let smoke = options.smoke;
    if options.built {
        return Ok(());
    }
    let release = if smoke { "" } else { " --release" };
    if kinds.iter().any(|kind| matches!(kind, Kind::Engine | Kind::App)) {
        shell::run(&format!("cargo build{release} --quiet -p engine -p weaprous --example plain --example bench"))?;
    }
    if kinds.contains(&Kind::Bare) {
        build_peer("bare", smoke)?;
    }
    if kinds.iter().any(|kind| matches!(kind, Kind::Hyper | Kind::Actix | Kind::Axum | Kind::May)) {
        build_peer("peers", smoke)?;
    }
    Ok(())
}

/// Builds one package of the peers' workspace.
pub(crate) fn build_peer(package: &str, smoke: bool) -> Result<()> {
    let release = if smoke { "" } else { " --release" };
    let folder = target().join("peers");
    shell::run(&format!(
        "cargo build{release} --quiet --locked --manifest-path {PEERS} --target-dir {} -p {package}",
        folder.display()
    ))
}

/// A program that cargo built: `ours` in the main workspace, otherwise of the peers.
pub(crate) fn built(ours: bool, name: &str, smoke: bool) -> PathBuf {
    let folder = if ours { target() } else { target().join("peers") };
    folder.join(if smoke { "debug" } else { "release" }).join(name)
}

/// A port that was free a moment ago.
pub(crate) fn free_addr() -> Result<SocketAddr> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?) // free again when it is dropped, at once
}

/// The scratch folder, absolute.
pub(crate) fn scratch() -> Result<PathBuf> {
    Ok(env::current_dir()?.join(OUT))
}

/// Makes the files that are served, the body that is posted and, with `openssl`, a certificate for this machine alone.
pub(crate) fn prepare(tls: bool) -> Result<()> {
    let folder = scratch()?.join("files");
    fs::create_dir_all(&folder)?;
    for (name, size) in FILES {
        fs::write(folder.join(name), contents(size))?;
    }
    fs::write(folder.join("hello.txt"), HELLO)?;
    fs::write(folder.join("echo.json"), JSON)?;
    if tls && !scratch()?.join("key.pem").exists() {
        let command = "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 30 -subj \
                       /CN=localhost -addext subjectAltName=DNS:localhost,IP:127.0.0.1 -keyout bench/out/key.pem -out \
                       bench/out/cert.pem";
        let output = shell::command(command).output().context("cannot start openssl")?;
        ensure!(output.status.success(), "openssl failed: {}", String::from_utf8_lossy(&output.stderr));
        let both =
            fs::read_to_string(Path::new(OUT).join("cert.pem"))? + &fs::read_to_string(Path::new(OUT).join("key.pem"))?;
        fs::write(Path::new(OUT).join("both.pem"), both)?; // as haproxy wants it
    }
    Ok(())
}

/// Bytes that no compression would make light of, the same at each call.
pub(crate) fn contents(size: usize) -> Vec<u8> {
    let mut state = 0x9e37_79b9_u32;
    let letters = std::iter::repeat_with(|| {
        state ^= state << 13;
        state ^= state >> 17;
        state ^= state << 5;
        b'!' + (state % 90) as u8
    });
    letters.take(size).collect()
}

/// Starts a server and waits until it accepts.
pub(crate) fn start(kind: Kind, setup: &Setup<'_>) -> Result<Server> {
    let addr = free_addr()?;
    let files = scratch()?.join("files");
    let mut command = match kind {
        Kind::Bare => {
            let mut command = wrapped(setup, &built(false, "bare", setup.smoke));
            command.arg(addr.to_string()).arg("--body").arg(setup.body);
            if setup.close {
                command.arg("--close");
            }
            command
        }
        Kind::Engine => {
            let mut command = wrapped(setup, &built(true, "examples/plain", setup.smoke));
            command.arg(addr.to_string()).arg("1");
            command
        }
        Kind::App => {
            let mut command = wrapped(setup, &built(true, "examples/bench", setup.smoke));
            command.arg(addr.to_string()).arg(&files);
            command
        }
        Kind::Hyper | Kind::Actix | Kind::Axum | Kind::May => {
            let program = built(false, &format!("{}-peer", kind.name()), setup.smoke);
            let mut command = wrapped(setup, &program);
            command.arg(addr.to_string()).arg(&files);
            command
        }
        Kind::Nginx | Kind::NginxSendfile => nginx(kind, addr, setup)?,
        Kind::Haproxy => haproxy(addr, setup)?,
    };
    if setup.tls && !matches!(kind, Kind::Nginx | Kind::NginxSendfile | Kind::Haproxy) {
        command.arg(scratch()?.join("cert.pem")).arg(scratch()?.join("key.pem"));
    }
    spawn(command, addr, kind.name())
}

/// Starts a prepared command and waits until its address accepts.
pub(crate) fn spawn(mut command: Command, addr: SocketAddr, name: &str) -> Result<Server> {
    let log = fs::File::create(scratch()?.join(format!("{name}.stderr.log")))?;
    let child = command.stdout(Stdio::null()).stderr(log).spawn().with_context(|| format!("cannot start {name}"))?;
    let mut server = Server { child, addr };
    let started = Instant::now();
    while TcpStream::connect(addr).is_err() {
        let ended = server.child.try_wait()?;
        ensure!(ended.is_none(), "{name} ended at once: see bench/out/{name}.stderr.log");
        ensure!(started.elapsed() < START_MAX, "{name} does not accept connections on {addr}");
        thread::sleep(Duration::from_millis(5));
    }
    Ok(server)
}

fn wrapped(setup: &Setup<'_>, program: &Path) -> Command {
    behind(setup.wrapper, program)
}

/// A command bound to the server's core, with the words of `wrapper` in front of it.
pub(crate) fn behind(wrapper: Option<&[String]>, program: &Path) -> Command {
    let Some([first, rest @ ..]) = wrapper else { return pinned(SERVER_CORE, program) };
    let mut command = pinned(SERVER_CORE, Path::new(first));
    command.args(rest).arg(program);
    command
}

fn nginx(kind: Kind, addr: SocketAddr, setup: &Setup<'_>) -> Result<Command> {
    let listen = if setup.tls { format!("{addr} ssl http2") } else { addr.to_string() };
    let sendfile = if kind == Kind::NginxSendfile { "on" } else { "off" };
    let folder = scratch()?.join(kind.name());
    fs::create_dir_all(&folder)?;
    let certificate = "ssl_certificate @OUT@/cert.pem; ssl_certificate_key @OUT@/key.pem;";
    let values = [
        ("LISTEN", listen.as_str()),
        ("SENDFILE", sendfile),
        ("CERTIFICATE", if setup.tls { certificate } else { "" }),
    ];
    let config = configure("nginx.conf", kind.name(), &values)?;
    let mut command = wrapped(setup, Path::new("nginx"));
    command.arg("-p").arg(folder).arg("-c").arg(config);
    Ok(command)
}

fn haproxy(addr: SocketAddr, setup: &Setup<'_>) -> Result<Command> {
    let tls = format!("{addr} ssl crt {} alpn h2,http/1.1", scratch()?.join("both.pem").display());
    let listen = if setup.tls { tls } else { addr.to_string() };
    let config = configure("haproxy.cfg", "haproxy", &[("LISTEN", &listen)])?;
    let mut command = wrapped(setup, Path::new("haproxy"));
    command.arg("-f").arg(config);
    Ok(command)
}

/// Fills the placeholders of `bench/<template>` and returns where the result lies.
pub(crate) fn configure(template: &str, name: &str, values: &[(&str, &str)]) -> Result<PathBuf> {
    let scratch = scratch()?;
    let mut text = fs::read_to_string(Path::new("bench").join(template))?;
    for (placeholder, value) in values {
        text = text.replace(&format!("@{placeholder}@"), value);
    }
    text = text.replace("@OUT@", &scratch.display().to_string());
    text = text.replace("@FOLDER@", &scratch.join(name).display().to_string());
    let path = scratch.join(format!("{name}-{template}"));
    fs::write(&path, text)?;
    Ok(path)
}

/// Starts the servers of a row, each of which must answer as it should before it is measured.
pub(crate) fn start_checked(kinds: &[Kind], setup: &Setup<'_>, ask: &check::Ask<'_>) -> Result<Vec<Server>> {
    let start = |kind: &Kind| {
        let server = start(*kind, setup)?;
        check::answer(server.addr, ask).with_context(|| format!("{} does not answer as it should", kind.name()))?;
        Ok(server)
    };
    kinds.iter().map(start).collect()
}
