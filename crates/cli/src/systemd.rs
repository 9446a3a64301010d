//! What systemd wants to know, and what it hands over (`sd_notify(3)`, `sd_listen_fds(3)`). Without systemd nothing of
//! this does anything.

use std::env;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::os::unix::net::UnixDatagram;
use std::time::Duration;

/// A share of the watchdog's time after which it is told again.
const WATCHDOG_SHARE: u32 = 3;

/// Where states are reported to. Cheap to have when nobody listens.
#[derive(Debug, Default)]
pub(crate) struct Notify {
    socket: Option<UnixDatagram>,
    watchdog: Option<Duration>,
}

impl Notify {
    /// The socket that the environment names.
    pub(crate) fn from_env() -> Self {
        let name = env::var("NOTIFY_SOCKET").unwrap_or_default();
        let watchdog_us = variable("WATCHDOG_USEC").and_then(|text| text.parse().ok()).filter(|us| *us > 0);
        let is_ours = variable("WATCHDOG_PID").is_none_or(|pid| pid == std::process::id().to_string());
        let watchdog = watchdog_us.filter(|_| is_ours).map(Duration::from_micros);
        Self { socket: connect(&name), watchdog }
    }

    /// How often [`Notify::alive`] is to be said; none when nobody listens for it.
    pub(crate) fn alive_interval(&self) -> Option<Duration> {
        self.watchdog.map(|timeout| timeout / WATCHDOG_SHARE)
    }

    /// This process serves. It also names itself, because the one that was started may have been another.
    pub(crate) fn ready(&self) {
        self.say(&format!("READY=1\nMAINPID={}\nSTATUS=serving", std::process::id()));
    }

    /// The configuration is read again; [`Notify::ready`] follows.
    pub(crate) fn reloading(&self) {
        let now = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
        let now_us = now.tv_sec.unsigned_abs() * 1_000_000 + now.tv_nsec.unsigned_abs() / 1_000;
        self.say(&format!("RELOADING=1\nMONOTONIC_USEC={now_us}\nSTATUS=reloading"));
    }

    /// No new connections; what is open is finished.
    pub(crate) fn stopping(&self) {
        self.say("STOPPING=1\nSTATUS=draining");
    }

    /// Another process serves now, and this one finishes what it has: the service itself goes on.
    pub(crate) fn handed_over(&self) {
        self.say("STATUS=draining the connections of the version before");
    }

    /// The main loop still turns.
    pub(crate) fn alive(&self) {
        self.say("WATCHDOG=1");
    }

    fn say(&self, state: &str) {
        if let Some(socket) = &self.socket {
            // There is nobody to tell that nobody listens.
            let _ = socket.send(state.as_bytes());
        }
    }
}

/// A path, or with `@` in front a name in Linux' abstract namespace.
fn connect(name: &str) -> Option<UnixDatagram> {
    let socket = UnixDatagram::unbound().ok()?;
    let connected = match name.strip_prefix('@') {
        Some(name) => connect_abstract(&socket, name),
        None if name.starts_with('/') => socket.connect(name),
        None => return None,
    };
    match connected {
        Ok(()) => Some(socket),
        Err(error) => {
            tracing::warn!(%error, "NOTIFY_SOCKET cannot be reached");
            None
        }
    }
}

#[cfg(target_os = "linux")]
fn connect_abstract(socket: &UnixDatagram, name: &str) -> io::Result<()> {
    use std::os::linux::net::SocketAddrExt as _;
    let address = std::os::unix::net::SocketAddr::from_abstract_name(name)?;
    socket.connect_addr(&address)
}

#[cfg(not(target_os = "linux"))]
fn connect_abstract(_: &UnixDatagram, _: &str) -> io::Result<()> {
    Err(io::ErrorKind::Unsupported.into())
}

/// The listening sockets that systemd opened for this process, with their addresses.
pub(crate) fn sockets() -> io::Result<Vec<(SocketAddr, TcpListener)>> {
    let mut given = listenfd::ListenFd::from_env();
    let mut sockets = Vec::new();
    for index in 0..given.len() {
        if let Some(socket) = given.take_tcp_listener(index)? {
            socket.set_nonblocking(true)?;
            sockets.push((socket.local_addr()?, socket));
        }
    }
    Ok(sockets)
}

fn variable(name: &str) -> Option<String> {
    env::var(name).ok().filter(|text| !text.is_empty())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn heard(socket: &UnixDatagram) -> String {
        let mut buffer = [0; 256];
        let count = socket.recv(&mut buffer).unwrap();
        String::from_utf8_lossy(&buffer[..count]).into_owned()
    }

    #[test]
    fn states_reach_the_socket_that_is_named_by_its_path() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("notify");
        let manager = UnixDatagram::bind(&path).unwrap();
        let notify = Notify { socket: connect(path.to_str().unwrap()), watchdog: None };
        notify.ready();
        assert_eq!(heard(&manager), format!("READY=1\nMAINPID={}\nSTATUS=serving", std::process::id()));
        notify.reloading();
        let reloading = heard(&manager);
        let stamp = reloading.lines().find_map(|line| line.strip_prefix("MONOTONIC_USEC=")).unwrap();
        assert!(reloading.starts_with("RELOADING=1\n") && stamp.parse::<u64>().unwrap() > 0, "{reloading}");
        notify.stopping();
        assert!(heard(&manager).starts_with("STOPPING=1\n"));
        notify.alive();
        assert_eq!(heard(&manager), "WATCHDOG=1");
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn an_abstract_name_is_reached_too() {
        use std::os::linux::net::SocketAddrExt as _;
        let name = format!("weaprous-test-{}", std::process::id());
        let address = std::os::unix::net::SocketAddr::from_abstract_name(&name).unwrap();
        let manager = UnixDatagram::bind_addr(&address).unwrap();
        Notify { socket: connect(&format!("@{name}")), watchdog: None }.alive();
        assert_eq!(heard(&manager), "WATCHDOG=1");
    }

    #[test]
    fn without_a_manager_nothing_happens() {
        for name in ["", "relative", "/nowhere/at/all"] {
            Notify { socket: connect(name), watchdog: None }.ready();
        }
    }

    #[test]
    fn the_watchdog_is_told_three_times_as_often_as_it_asks() {
        let notify = Notify { socket: None, watchdog: Some(Duration::from_secs(30)) };
        assert_eq!(notify.alive_interval(), Some(Duration::from_secs(10)));
    }
}
