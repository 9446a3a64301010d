//! What a peer is told when it starts.

use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use chat::{ChannelName, UserName};
use engine::Trust;

/// Where and as whom a peer runs.
#[derive(Clone)]
pub struct Settings {
    /// As whom.
    pub user: UserName,
    /// The account's password: proves a new device of a name that is taken. Not needed by a device already listed.
    pub password: Option<String>,
    /// Where to listen for peers; port 0 takes any free one.
    pub listen: SocketAddr,
    /// The tracker; without one only known peers are reached.
    pub tracker: Option<TrackerUrl>,
    /// Who vouches for a tracker behind https.
    pub trust: Trust,
    /// The channel to come into at the start.
    pub channel: ChannelName,
    /// Where the device key lives. The history is handed over separately.
    pub data_dir: PathBuf,
    /// Addresses to tell the tracker; empty means: found out from where we listen.
    pub advertise: Vec<SocketAddr>,
    /// Where to offer the local API; `None` means not at all. Loopback only.
    pub api: Option<SocketAddr>,
    /// How often and how long things happen.
    pub pace: Pace,
}

impl Settings {
    /// The least there is to say; the rest has defaults.
    pub fn new(user: UserName, data_dir: PathBuf) -> Self {
        Self {
            user,
            password: None,
            listen: SocketAddr::from(([0, 0, 0, 0], 0)),
            tracker: None,
            trust: Trust::default(),
            channel: DEFAULT_CHANNEL.parse().expect("a constant, well-formed name"),
            data_dir,
            advertise: Vec::new(),
            api: None,
            pace: Pace::default(),
        }
    }
}

impl fmt::Debug for Settings {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("Settings")
            .field("user", &self.user)
            .field("listen", &self.listen)
            .field("tracker", &self.tracker)
            .field("trust", &self.trust)
            .field("channel", &self.channel)
            .field("data_dir", &self.data_dir)
            .field("advertise", &self.advertise)
            .field("api", &self.api)
            .finish_non_exhaustive() // the password stays out of every log
    }
}

/// The channel that is made when nobody has made it yet.
pub const DEFAULT_CHANNEL: &str = "general";

/// Times of a peer. Tests shorten them; people have no reason to.
#[derive(Debug, Clone)]
pub struct Pace {
    /// Presence is renewed this often. The tracker's lease is three times as long.
    pub presence: Duration,
    /// First wait after the tracker was lost; doubles up to `retry_max`.
    pub retry_first: Duration,
    /// Longest wait between two tries to reach the tracker.
    pub retry_max: Duration,
    /// First wait before a device is dialled again; doubles up to `redial_max`.
    pub redial_first: Duration,
    /// Longest wait between two tries to reach a device.
    pub redial_max: Duration,
    /// The device with the larger id lets the other one dial first for this long.
    pub courtesy: Duration,
    /// Longest wait for one answer of the tracker.
    pub answer: Duration,
}

impl Default for Pace {
    fn default() -> Self {
        Self {
            presence: Duration::from_secs(5),
            retry_first: Duration::from_millis(500),
            retry_max: Duration::from_secs(10),
            redial_first: Duration::from_millis(500),
            redial_max: Duration::from_secs(30),
            courtesy: Duration::from_millis(400),
            answer: Duration::from_secs(10),
        }
    }
}

/// The address of a tracker, as `http://host[:port]` or `https://host[:port]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TrackerUrl {
    is_secure: bool,
    host: String,
    port: u16,
}

impl TrackerUrl {
    /// The name or address in it, without brackets.
    pub fn host(&self) -> &str {
        self.host.trim_start_matches('[').trim_end_matches(']')
    }

    /// The port.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Whether it is spoken to over TLS.
    pub fn is_secure(&self) -> bool {
        self.is_secure
    }

    /// What stands in the `Host` field.
    pub fn authority(&self) -> String {
        if self.port == default_port(self.is_secure) {
            self.host.clone()
        } else {
            format!("{}:{}", self.host, self.port)
        }
    }
}

impl fmt::Display for TrackerUrl {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = if self.is_secure { "https" } else { "http" };
        write!(formatter, "{scheme}://{}", self.authority())
    }
}

/// The port of a URL that names none.
fn default_port(is_secure: bool) -> u16 {
    if is_secure { 443 } else { 80 }
}

/// Longest host name (RFC 1035 §2.3.4).
const HOST_BYTES_MAX: usize = 253;

/// Text that is not the address of a tracker.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TrackerUrlError {
    /// It does not look like one.
    #[error("expected the tracker as http://host:port or https://host:port, for example http://127.0.0.1:8000")]
    Malformed,
}

impl FromStr for TrackerUrl {
    type Err = TrackerUrlError;

    fn from_str(text: &str) -> Result<Self, TrackerUrlError> {
        let (rest, is_secure) = match text.split_once("://") {
            Some(("http", rest)) => (rest, false),
            Some(("https", rest)) => (rest, true),
            _ => return Err(TrackerUrlError::Malformed),
        };
        let authority = rest.strip_suffix('/').unwrap_or(rest);
        let (host, port) = split_port(authority, is_secure).ok_or(TrackerUrlError::Malformed)?;
        if !is_host(host) {
            return Err(TrackerUrlError::Malformed);
        }
        Ok(Self { is_secure, host: host.to_owned(), port })
    }
}

fn split_port(authority: &str, is_secure: bool) -> Option<(&str, u16)> {
    let after_bracket = authority.rfind(']').map_or(0, |at| at + 1);
    match authority[after_bracket..].find(':') {
        None => Some((authority, default_port(is_secure))),
        Some(colon) => {
            let (host, port) = authority.split_at(after_bracket + colon);
            let port = port[1..].parse().ok().filter(|port| *port != 0)?;
            Some((host, port))
        }
    }
}

fn is_host(host: &str) -> bool {
    if let Some(inner) = host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
        return inner.parse::<std::net::Ipv6Addr>().is_ok();
    }
    let fits = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b'_');
    !host.is_empty() && host.len() <= HOST_BYTES_MAX && host.bytes().all(fits)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn tracker_urls() {
        for (text, host, port, shown) in [
            ("http://127.0.0.1:8000", "127.0.0.1", 8000, "http://127.0.0.1:8000"),
            ("http://chat.example/", "chat.example", 80, "http://chat.example"),
            ("http://[::1]:9", "::1", 9, "http://[::1]:9"),
            ("http://localhost:8080/", "localhost", 8080, "http://localhost:8080"),
            ("https://chat.example", "chat.example", 443, "https://chat.example"),
            ("https://127.0.0.1:8443", "127.0.0.1", 8443, "https://127.0.0.1:8443"),
            ("https://chat.example:80/", "chat.example", 80, "https://chat.example:80"),
        ] {
            let url: TrackerUrl = text.parse().unwrap();
            assert_eq!((url.host(), url.port(), url.to_string().as_str()), (host, port, shown), "{text}");
        }
        for text in
            ["", "http://", "127.0.0.1:8000", "http://a b", "http://a:0", "http://a:99999", "http://a:", "http://a/x"]
        {
            assert_eq!(text.parse::<TrackerUrl>(), Err(TrackerUrlError::Malformed), "{text}");
        }
        for text in ["http://user@host", "http://[::1", "http://[x]:1", "http://a\r\nHost: b", "ftp://a"] {
            assert_eq!(text.parse::<TrackerUrl>(), Err(TrackerUrlError::Malformed), "{text}");
        }
    }

    #[test]
    fn debug_hides_the_password() {
        let mut settings = Settings::new("alice".parse().unwrap(), PathBuf::new());
        settings.password = Some("open sesame".to_owned());
        assert!(!format!("{settings:?}").contains("sesame"));
    }
}
