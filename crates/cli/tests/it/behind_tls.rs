//! The chat of `weaprous up` behind a reverse proxy of its own, a separate process with TLS and HTTP/2 in front: nothing
//! of the chat knows.

use crate::support::http::get;
use crate::support::http2::Http2;
use crate::support::process::Weaprous;
use crate::support::{Up, chat};
use chat::client::{Command, Notice};
use chat::{Body, Path as Way};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use serde_json::Value;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use store::MemoryHistory;
use tokio::sync::mpsc;
use tokio::time::timeout;

/// How long any single thing may take. Far above what is needed: it ends a broken run, it measures nothing.
const PATIENCE: Duration = Duration::from_mins(1);
/// What the tracker answers, as in `config/proxy.conf`.
const TRACKER_PATHS: [&str; 8] =
    ["/api/", "/submit-info", "/get-list", "/create-list", "/join-list", "/add-list", "/send-message", "/get-messages"];

/// `weaprous up --demo`, and `weaprous proxy` in front of it.
struct Stage {
    up: Up,
    proxy: Weaprous,
    at: SocketAddr,
    authority: CertificateDer<'static>,
    /// The same, as `--ca` takes it.
    authority_file: PathBuf,
}

impl Stage {
    fn start(folder: &Path) -> Self {
        let up = Up::start(folder);
        let (status, text) = Weaprous::start(["cert", "--lan", "--data-dir", folder.to_str().unwrap()].iter()).end();
        assert!(status.success(), "{text}");
        let tls = folder.join("tls");
        let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let (chain, key) = (tls.join("lan.crt"), tls.join("lan.key"));
        let locations: Vec<_> = TRACKER_PATHS
            .iter()
            .map(|path| format!("    location {path} {{ proxy_pass http://{}; }}\n", up.tracker))
            .collect();
        let text = format!(
            "listen 127.0.0.1:{port} tls {{ certificate {} key {}; }}\nhost default {{\n    proxy_pass http://{};\n{}}}\n",
            chain.display(),
            key.display(),
            up.backend,
            locations.concat()
        );
        let config = folder.join("front.conf");
        std::fs::write(&config, text).unwrap();
        let config = config.display().to_string();
        let mut proxy = Weaprous::start(["proxy", "--no-watch", "--access-log", "-", "--config", &config].iter());
        proxy.wait_for_text(&format!("https://127.0.0.1:{port}"));
        let authority_file = tls.join("ca.crt");
        let authority = CertificateDer::from_pem_file(&authority_file).unwrap();
        Self { up, proxy, at: SocketAddr::from(([127, 0, 0, 1], port)), authority, authority_file }
    }

    fn url(&self) -> String {
        format!("https://localhost:{}", self.at.port())
    }

    /// The value of one of the tracker's counters.
    fn counter(&self, name: &str) -> u64 {
        let metrics = get(self.up.tracker, "/metrics", &[]);
        let metrics = metrics.text();
        let line = metrics.lines().find_map(|line| line.strip_prefix(name)?.trim().parse().ok());
        line.unwrap_or_else(|| panic!("no {name}: {metrics}"))
    }
}

#[tokio::test]
async fn a_page_over_http2_and_a_terminal_over_tls_talk() {
    let folder = tempfile::tempdir().unwrap();
    let mut stage = Stage::start(folder.path());
    let page = Http2::connect(&stage.authority, stage.at).await;
    let origin = stage.url();

    assert_eq!(page.ask("GET", "/login.html", &[], "").await.status, 200);
    assert_eq!(page.ask("GET", "/", &[], "").await.status, 401, "nobody is logged in");
    let form = [("content-type", "application/x-www-form-urlencoded"), ("origin", origin.as_str())];
    let login = page.ask("POST", "/login", &form, "username=admin&password=password").await;
    assert_eq!(login.status, 303);
    let cookies = login.fields.get_all("set-cookie").iter().filter_map(|value| value.to_str().ok());
    let session = cookies.filter_map(|cookie| cookie.split(';').next()).find(|cookie| cookie.starts_with("session="));
    let session = session.expect("a login sets the session cookie").to_owned();
    let cookie = ("cookie", session.as_str());
    assert_eq!(page.ask("GET", "/", &[cookie], "").await.status, 200);

    let json = [("content-type", "application/json"), ("origin", origin.as_str()), cookie];
    let joined = page.ask("POST", "/join-list", &json, r#"{"channel":"general"}"#).await.text().await;
    assert!(matches!(joined.0, 200 | 201), "{joined:?}");
    let mut events = page.ask("GET", "/api/v1/events", &[cookie], "").await;
    assert_eq!((events.status, events.fields["content-type"].to_str().unwrap()), (200, "text/event-stream"));
    events.sees("event: ready").await;

    let ca = stage.authority_file.display().to_string();
    let mut alice = chat("Alice", &origin, folder.path(), &["--ca", &ca]);
    alice.process.type_line("from the terminal");
    events.sees("from the terminal").await;
    let said = page.ask("POST", "/send-message", &json, r#"{"channel":"general","text":"from the page"}"#).await;
    assert_eq!(said.text().await.0, 201);
    events.sees("from the page").await;
    alice.sees("general", "admin", "from the page");

    let log = page.ask("GET", "/get-messages?channel=general&after=0&limit=100", &[cookie], "").await.text().await;
    let log: Value = serde_json::from_str(&log.1).unwrap();
    let texts: Vec<&str> = log["messages"].as_array().unwrap().iter().filter_map(|m| m["text"].as_str()).collect();
    assert_eq!(texts, ["from the terminal", "from the page"]);
    stage.proxy.wait_for_text("\"POST /send-message HTTP/2.0\" 201");
    stage.proxy.wait_for_text("\"GET /login.html HTTP/2.0\" 200");
}

/// A peer that runs in this process, at an address where nobody can reach it.
struct Hidden {
    commands: mpsc::Sender<Command>,
    notices: mpsc::Receiver<Notice>,
    stop: engine::Stop,
}

impl Hidden {
    fn start(name: &str, folder: &Path, stage: &Stage) -> Self {
        let data = folder.join(name);
        peer::key::load_or_make(&data).unwrap();
        let mut settings = peer::Settings::new(name.parse().unwrap(), data);
        settings.listen = "127.0.0.1:0".parse().unwrap();
        settings.advertise = vec!["127.0.0.1:1".parse().unwrap()];
        settings.tracker = Some(stage.url().parse().unwrap());
        settings.trust = engine::Trust::File(stage.authority_file.clone());
        let (commands, receiver) = mpsc::channel(64);
        let (sender, notices) = mpsc::channel(64);
        let stop = engine::Stop::new();
        let stopping = stop.clone();
        std::thread::spawn(move || peer::run(settings, Arc::new(MemoryHistory::new()), receiver, sender, stopping));
        Self { commands, notices, stop }
    }

    async fn hears(&mut self, what: &str, is_it: impl Fn(&Notice) -> bool) {
        let heard = async {
            while let Some(notice) = self.notices.recv().await {
                if is_it(&notice) {
                    return true;
                }
            }
            false
        };
        assert!(timeout(PATIENCE, heard).await.unwrap_or_else(|_| panic!("never hears {what}")), "ends before {what}");
    }
}

impl Drop for Hidden {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

#[tokio::test]
async fn who_cannot_be_reached_is_reached_through_the_relay_behind_tls() {
    let folder = tempfile::tempdir().unwrap();
    let stage = Stage::start(folder.path());
    let mut alice = Hidden::start("alice", folder.path(), &stage);
    let mut bob = Hidden::start("bob", folder.path(), &stage);
    let is_relayed = |notice: &Notice| matches!(notice, Notice::Presence { path: Some(Way::Relayed), .. });
    alice.hears("a relayed link", is_relayed).await;
    bob.hears("a relayed link", is_relayed).await;
    let line = Command::Say { channel: "general".parse().unwrap(), text: "through the tunnel".to_owned() };
    alice.commands.send(line).await.unwrap();
    let is_line = |notice: &Notice| {
        matches!(notice, Notice::Message(message)
            if matches!(&message.body, Body::Text { text, .. } if text == "through the tunnel"))
    };
    bob.hears("the line", is_line).await;
    assert!(stage.counter("weaprous_relay_streams_total ") >= 1);
    assert!(stage.counter("weaprous_relay_bytes_total ") > 0);
}
