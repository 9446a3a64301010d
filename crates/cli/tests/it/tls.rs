//! https as the programs speak it: with an authority made on the spot, and with certificates from files.

use crate::support::chat;
use crate::support::http::get;
use crate::support::http2::Http2;
use crate::support::process::Weaprous;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use serde_json::Value;
use std::io::{self, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// How long anything may take here; far above what is needed.
const PATIENCE: Duration = Duration::from_secs(30);
/// Files of this length tell nothing by their length.
const PADDED_BYTES: usize = 16 * 1024;

/// One HTTP/1.1 exchange over TLS with a server whose authority this is; the whole answer as text.
fn exchange(authority: &CertificateDer<'_>, addr: SocketAddr, name: &str, request: &str) -> io::Result<String> {
    let mut stream = testkit::tls::connect(addr, authority, name, b"http/1.1")?;
    stream.write_all(request.as_bytes())?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer)?;
    Ok(String::from_utf8_lossy(&answer).into_owned())
}

fn request(method: &str, path: &str, host: &str, fields: &str, body: &str) -> String {
    format!(
        "{method} {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n{fields}Content-Length: {}\r\n\r\n{body}",
        body.len()
    )
}

/// The content of an answer, which has a declared length, as JSON.
fn json(answer: &str) -> Value {
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    assert!(head.starts_with("HTTP/1.1 20"), "{answer}");
    serde_json::from_str(body).unwrap_or_else(|error| panic!("{error}: {answer}"))
}

/// `weaprous up --demo --tls`, and where it is.
struct SecureUp {
    _process: Weaprous,
    authority: CertificateDer<'static>,
    beside: SocketAddr,
    secure: SocketAddr,
}

impl SecureUp {
    fn start(folder: &Path) -> Self {
        let ports = ["--proxy-port", "0", "--tls-port", "0", "--backend-port", "0", "--tracker-port", "0"];
        let arguments = ["up", "--demo", "--tls", "--data-dir", folder.to_str().unwrap()];
        let mut process = Weaprous::start(arguments.iter().chain(&ports));
        let page = process.wait_for_text("  page     https://localhost:");
        let secure = page.trim().rsplit(':').next().unwrap().parse().unwrap();
        let trust = process.wait_for_text("  trust    http://localhost:");
        let beside = trust.trim().trim_end_matches("/trust").rsplit(':').next().unwrap().parse().unwrap();
        let at = |port: u16| SocketAddr::from(([127, 0, 0, 1], port));
        let (beside, secure) = (at(beside), at(secure));
        let download = get(beside, "/trust/ca.crt", &[]);
        assert_eq!((download.status, download.field("content-type")), (200, Some("application/x-x509-ca-cert")));
        Self { _process: process, authority: CertificateDer::from(download.body), beside, secure }
    }

    fn exchange(&self, method: &str, path: &str, fields: &str, body: &str) -> String {
        let host = format!("localhost:{}", self.secure.port());
        let request = request(method, path, &host, fields, body);
        exchange(&self.authority, self.secure, "localhost", &request).unwrap()
    }
}

#[test]
fn the_port_beside_explains_how_to_trust_and_leads_to_https() {
    let folder = tempfile::tempdir().unwrap();
    let up = SecureUp::start(folder.path());
    let explained = get(up.beside, "/trust", &[]);
    assert_eq!(explained.status, 200);
    assert!(explained.text().contains("/trust/ca.crt"), "{}", explained.text());
    let pem = get(up.beside, "/trust/ca.pem", &[]);
    assert_eq!(CertificateDer::from_pem_slice(&pem.body).unwrap(), up.authority, "the same, for Linux");
    let moved = get(up.beside, "/login?a=b", &[]);
    assert_eq!(moved.status, 308);
    let to = moved.field("location").unwrap();
    assert!(to.starts_with("https://") && to.ends_with(&format!(":{}/login?a=b", up.secure.port())), "{to}");
}

#[test]
fn a_login_over_https_sets_cookies_that_stay_there() {
    let folder = tempfile::tempdir().unwrap();
    let up = SecureUp::start(folder.path());
    let fields = format!(
        "Origin: https://localhost:{}\r\nContent-Type: application/x-www-form-urlencoded\r\n",
        up.secure.port()
    );
    let answer = up.exchange("POST", "/login", &fields, "username=admin&password=password");
    assert!(answer.starts_with("HTTP/1.1 303"), "{answer}");
    let session = answer.lines().find(|line| line.to_ascii_lowercase().starts_with("set-cookie: session="));
    let session = session.expect("a login sets the session cookie");
    assert!(session.contains("; Secure"), "{session}");
    let cookie = session.split_once(": ").and_then(|(_, value)| value.split(';').next()).unwrap();

    let cookie = format!("Cookie: {cookie}\r\n");
    let index = up.exchange("GET", "/", &cookie, "");
    assert!(index.starts_with("HTTP/1.1 200"), "{index}");
    assert!(up.exchange("GET", "/", "", "").starts_with("HTTP/1.1 401"), "without the cookie");
    let by_address = request("GET", "/", &up.secure.to_string(), &cookie, "");
    let by_address = exchange(&up.authority, up.secure, "127.0.0.1", &by_address).unwrap();
    assert!(by_address.starts_with("HTTP/1.1 200"), "the certificate is for the address as well: {by_address}");
}

#[tokio::test]
async fn the_chat_runs_through_tls_and_http2() {
    let folder = tempfile::tempdir().unwrap();
    let up = SecureUp::start(folder.path());
    let kind = "Content-Type: application/json\r\n";
    let claimed = json(&up.exchange("POST", "/submit-info", kind, r#"{"username":"alice"}"#));
    let bearer = format!("Bearer {}", claimed["token"].as_str().unwrap());
    let fields = format!("{kind}Authorization: {bearer}\r\n");
    json(&up.exchange("POST", "/join-list", &fields, r#"{"channel":"general"}"#));
    let sent = json(&up.exchange("POST", "/send-message", &fields, r#"{"channel":"general","text":"over TLS"}"#));
    assert!(sent["id"].is_string(), "{sent}");

    let client = Http2::connect(&up.authority, up.secure).await;
    let target = "/get-messages?channel=general&after=0&limit=100";
    let (status, text) = client.ask("GET", target, &[("authorization", &bearer)], "").await.text().await;
    assert_eq!(status, 200, "{text}");
    let log: Value = serde_json::from_str(&text).unwrap();
    let texts: Vec<&str> = log["messages"].as_array().unwrap().iter().filter_map(|m| m["text"].as_str()).collect();
    assert_eq!(texts, ["over TLS"]);
    let (status, text) = client.ask("GET", target, &[("authorization", "Bearer wrong")], "").await.text().await;
    assert_eq!(status, 401, "{text}");
}

fn cert(folder: &Path, further: &[&str]) -> String {
    let arguments = ["cert", "--lan", "--data-dir", folder.to_str().unwrap()];
    let (status, text) = Weaprous::start(arguments.iter().chain(further)).end();
    assert!(status.success(), "{text}");
    text
}

#[test]
fn a_certificate_is_made_once() {
    let folder = tempfile::tempdir().unwrap();
    let first = cert(folder.path(), &[]);
    assert!(first.contains("Certificate made") && first.contains("localhost"), "{first}");
    assert!(folder.path().join("tls/ca.crt").exists() && folder.path().join("tls/trust.html").exists());
    let chain = std::fs::read(folder.path().join("tls/lan.crt")).unwrap();
    let second = cert(folder.path(), &[]);
    assert!(second.contains("Certificate still good"), "{second}");
    assert_eq!(std::fs::read(folder.path().join("tls/lan.crt")).unwrap(), chain);
}

#[test]
fn names_asked_for_once_are_kept_by_whoever_renews() {
    let folder = tempfile::tempdir().unwrap();
    cert(folder.path(), &["--name", "files.home.arpa"]);
    // The certificate is lost, so that the server has to make another; nobody tells it the name again.
    std::fs::remove_file(folder.path().join("tls/lan.crt")).unwrap();
    let up = SecureUp::start(folder.path());
    let host = format!("files.home.arpa:{}", up.secure.port());
    let answer = exchange(&up.authority, up.secure, "files.home.arpa", &request("GET", "/login", &host, "", ""));
    assert!(answer.unwrap().starts_with("HTTP/1.1 200"));
}

/// What `weaprous cert` made in a folder.
struct Made {
    authority: CertificateDer<'static>,
    chain: Vec<u8>,
    key: Vec<u8>,
}

fn made() -> Made {
    made_for(&[])
}

fn made_for(further: &[&str]) -> Made {
    let folder = tempfile::tempdir().unwrap();
    cert(folder.path(), further);
    let tls = folder.path().join("tls");
    let padded = |name| {
        let mut text = std::fs::read(tls.join(name)).unwrap();
        assert!(text.len() <= PADDED_BYTES);
        text.resize(PADDED_BYTES, b'\n');
        text
    };
    let authority = CertificateDer::from_pem_file(tls.join("ca.crt")).unwrap();
    Made { authority, chain: padded("lan.crt"), key: padded("lan.key") }
}

/// Starts a program with a certificate from files, replaces the files so that only SIGHUP can tell, and insists that
/// the new certificate is presented after the signal and the old one is not.
fn check_certificate_files(program: &str, further: &[&str], path: &str) {
    let folder = tempfile::tempdir().unwrap();
    let (old, new) = (made(), made());
    let (chain, key) = (folder.path().join("site.crt"), folder.path().join("site.key"));
    std::fs::write(&chain, &old.chain).unwrap();
    std::fs::write(&key, &old.key).unwrap();
    let files = ["--tls-cert", chain.to_str().unwrap(), "--tls-key", key.to_str().unwrap(), "--server-port", "0"];
    let process = Weaprous::start([program].iter().chain(further).chain(&files));
    check_reload(program, process, path, [&old, &new], [&chain, &key]);
}

/// See [`check_certificate_files`]: the rest of it, for a program that has begun with the first of two certificates.
fn check_reload(program: &str, mut process: Weaprous, path: &str, [old, new]: [&Made; 2], [chain, key]: [&PathBuf; 2]) {
    let line = process.wait_for_text("https://");
    let addr: SocketAddr = line.split("https://").nth(1).unwrap().trim().parse().unwrap();
    let host = format!("localhost:{}", addr.port());
    let ask = |by: &Made| exchange(&by.authority, addr, "localhost", &request("GET", path, &host, "", ""));

    let answer = ask(old).unwrap();
    assert!(answer.starts_with("HTTP/1.1 200"), "{program}: {answer}");
    assert!(ask(new).is_err(), "{program}: nobody else is believed");

    let presented = |wanted: &Made, other: &Made| {
        let end = Instant::now() + PATIENCE;
        while ask(wanted).is_err() {
            assert!(Instant::now() < end, "{program}: the new certificate is not presented");
        }
        assert!(ask(wanted).unwrap().starts_with("HTTP/1.1 200"), "{program}");
        assert!(ask(other).is_err(), "{program}: the old certificate is gone");
    };
    replace_unseen(&[(chain, &new.chain), (key, &new.key)]);
    process.signal("HUP");
    presented(new, old);

    // Seen without a signal as well; a key that does not fit yet changes nothing.
    std::fs::write(chain, &old.chain).unwrap();
    process.wait_for_text("those loaded before stay in use");
    assert!(ask(new).unwrap().starts_with("HTTP/1.1 200"), "{program}");
    std::fs::write(key, &old.key).unwrap();
    presented(old, new);
}

/// Writes into files without a change of length, time or inode.
fn replace_unseen(files: &[(&PathBuf, &Vec<u8>)]) {
    for (path, text) in files {
        let mut file = std::fs::OpenOptions::new().write(true).open(path).unwrap();
        let modified = file.metadata().unwrap().modified().unwrap();
        file.write_all(text).unwrap();
        file.set_modified(modified).unwrap();
    }
}

#[test]
fn the_backend_speaks_tls_with_files_and_reloads_them() {
    let data = tempfile::tempdir().unwrap();
    check_certificate_files("backend", &["--data-dir", data.path().to_str().unwrap()], "/login.html");
}

#[test]
fn the_tracker_speaks_tls_with_files_and_reloads_them() {
    let data = tempfile::tempdir().unwrap();
    check_certificate_files("tracker", &["--data-dir", data.path().to_str().unwrap()], "/healthz");
}

#[test]
fn the_proxy_speaks_tls_with_files_and_reloads_them() {
    let folder = tempfile::tempdir().unwrap();
    let config = folder.path().join("proxy.conf");
    std::fs::write(&config, "host default {\n    respond 200 \"here\";\n}\n").unwrap();
    check_certificate_files("proxy", &["--config", config.to_str().unwrap()], "/");
}

#[test]
fn certificates_that_the_configuration_names_are_loaded_again_by_signal_and_by_change() {
    let folder = tempfile::tempdir().unwrap();
    let (old, new) = (made(), made());
    let (chain, key) = (folder.path().join("site.crt"), folder.path().join("site.key"));
    std::fs::write(&chain, &old.chain).unwrap();
    std::fs::write(&key, &old.key).unwrap();
    let config = folder.path().join("proxy.conf");
    let tls = format!("tls {{ certificate {} key {}; }}", chain.display(), key.display());
    let text = format!("listen 127.0.0.1:{} {tls}\nhost default {{ respond 200 here; }}\n", free_port());
    std::fs::write(&config, text).unwrap();
    let process = Weaprous::start(["proxy", "--config", config.to_str().unwrap()].iter());
    check_reload("proxy.conf", process, "/", [&old, &new], [&chain, &key]);
}

#[test]
fn two_terminals_chat_over_https_and_a_stranger_is_told_why_not() {
    let folder = tempfile::tempdir().unwrap();
    let up = SecureUp::start(folder.path());
    let url = format!("https://localhost:{}", up.secure.port());
    let ca = folder.path().join("tls/ca.crt");
    let ca = ["--ca", ca.to_str().unwrap()];
    let mut alice = chat("Alice", &url, folder.path(), &ca);
    let mut bob = chat("Bob", &url, folder.path(), &ca);
    alice.linked_to("bob");
    alice.process.type_line("over TLS");
    bob.sees("general", "alice", "over TLS");

    let mut stranger = chat("Mallory", &url, folder.path(), &[]);
    stranger.process.wait_for_text("its certificate is not signed by a trusted authority");
}

#[test]
fn a_tracker_without_anybody_to_vouch_for_it_is_not_asked() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().to_str().unwrap();
    let arguments = ["chat", "--username", "alice", "--plain", "--peer-port", "0", "--data-dir", data];
    let further = ["--server", "https://localhost:1", "--ca", "/nowhere/ca.crt"];
    let (status, text) = Weaprous::start(arguments.iter().chain(&further)).end();
    assert!(!status.success() && text.contains("/nowhere/ca.crt"), "{text}");
}

/// Two certificates in a folder, and the authorities behind them.
struct Sites {
    folder: tempfile::TempDir,
    one: Made,
    other: Made,
}

impl Sites {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let (one, other) = (made_for(&["--name", "one.test"]), made_for(&["--name", "other.test"]));
        for (name, made) in [("one", &one), ("other", &other)] {
            std::fs::write(folder.path().join(format!("{name}.crt")), &made.chain).unwrap();
            std::fs::write(folder.path().join(format!("{name}.key")), &made.key).unwrap();
        }
        Self { folder, one, other }
    }

    fn file(&self, name: &str) -> String {
        self.folder.path().join(name).display().to_string()
    }

    /// The lines of a `tls` block with this certificate.
    fn tls(&self, name: &str) -> String {
        let (chain, key) = (self.file(&format!("{name}.crt")), self.file(&format!("{name}.key")));
        format!("tls {{ certificate {chain} key {key}; }}")
    }

    fn write(&self, config: &str) -> String {
        let path = self.folder.path().join("proxy.conf");
        std::fs::write(&path, config).unwrap();
        path.display().to_string()
    }
}

/// A port that was free a moment ago: a configuration cannot ask for any free one.
fn free_port() -> u16 {
    std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

#[test]
fn listen_with_tls_serves_and_changes_its_certificate_at_a_reload() {
    let sites = Sites::new();
    let (plain, secure) = (free_port(), free_port());
    let config = |tls: &str| {
        format!(
            "listen 127.0.0.1:{plain};\nlisten 127.0.0.1:{secure} {tls}\nhost default {{ respond 200 \"$scheme\"; }}\n"
        )
    };
    let path = sites.write(&config(&sites.tls("one")));
    let mut process = Weaprous::start(["proxy", "--no-watch", "--config", &path].iter());
    process.wait_for_text(&format!("http://127.0.0.1:{plain}"));
    process.wait_for_text(&format!("https://127.0.0.1:{secure}"));
    let addr = SocketAddr::from(([127, 0, 0, 1], secure));
    let host = format!("localhost:{secure}");
    let ask = |by: &Made| exchange(&by.authority, addr, "localhost", &request("GET", "/", &host, "", ""));
    assert!(ask(&sites.one).unwrap().starts_with("HTTP/1.1 200"));
    assert!(ask(&sites.other).is_err());
    assert_eq!(get(SocketAddr::from(([127, 0, 0, 1], plain)), "/", &[]).status, 200);

    sites.write(&config(&sites.tls("other")));
    process.signal("HUP");
    process.wait_for_text("reloaded");
    let end = Instant::now() + PATIENCE;
    while ask(&sites.other).is_err() {
        assert!(Instant::now() < end, "the new certificate is not presented");
    }
    assert!(ask(&sites.one).is_err(), "the old certificate is gone");

    sites.write(&config("tls { certificate /nowhere.crt key /nowhere.key; }"));
    process.signal("HUP");
    process.wait_for_text("the configuration is not reloaded");
    assert!(ask(&sites.other).unwrap().starts_with("HTTP/1.1 200"), "what was there goes on");
}

#[test]
fn two_names_at_one_address_have_a_certificate_each() {
    let sites = Sites::new();
    let port = free_port();
    let pair = |name: &str| {
        format!("certificate {} key {};", sites.file(&format!("{name}.crt")), sites.file(&format!("{name}.key")))
    };
    let path = sites.write(&format!(
        "listen 127.0.0.1:{port} tls {{ {} {} }}\nhost one.test {{ respond 200 first; }}\nhost other.test {{ respond 200 \
         second; }}\nhost default {{ respond 200 neither; }}\n",
        pair("one"),
        pair("other")
    ));
    let mut process = Weaprous::start(["proxy", "--no-watch", "--config", &path].iter());
    process.wait_for_text(&format!("https://127.0.0.1:{port}"));
    let addr = SocketAddr::from(([127, 0, 0, 1], port));
    let ask = |by: &Made, name: &str| {
        exchange(&by.authority, addr, name, &request("GET", "/", &format!("{name}:{port}"), "", ""))
    };
    for (by, name, content) in [
        (&sites.one, "one.test", "first"),
        (&sites.other, "other.test", "second"),
        (&sites.one, "localhost", "neither"),
    ] {
        let answer = ask(by, name).unwrap_or_else(|error| panic!("{name}: {error}"));
        assert!(answer.starts_with("HTTP/1.1 200") && answer.ends_with(content), "{name}: {answer}");
    }
    assert!(ask(&sites.one, "other.test").is_err(), "each name has its own certificate");
    assert!(ask(&sites.other, "one.test").is_err());
}

#[test]
fn the_proxy_protocol_says_who_the_client_is() {
    let sites = Sites::new();
    let (plain, secure, distrusting) = (free_port(), free_port(), free_port());
    let config = |trusted: &str| {
        format!(
            "trusted_proxy {trusted};\nlisten 127.0.0.1:{plain} proxy_protocol;\nlisten 127.0.0.1:{secure} \
             proxy_protocol {}\nhost default {{ redirect 307 /$remote_addr; }}\n",
            sites.tls("one")
        )
    };
    let path = sites.write(&config("127.0.0.1"));
    let mut process = Weaprous::start(["proxy", "--no-watch", "--config", &path].iter());
    process.wait_for_text(&format!("https://127.0.0.1:{secure}"));
    let at = |port: u16| SocketAddr::from(([127, 0, 0, 1], port));
    let get = "GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n";
    let say = |port: u16, start: &[u8]| {
        let mut socket = TcpStream::connect(at(port)).unwrap();
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        // Whoever is not trusted may find the connection closed already.
        let _ = socket.write_all(&[start, get.as_bytes()].concat());
        let mut answer = Vec::new();
        let _ = socket.read_to_end(&mut answer);
        String::from_utf8(answer).unwrap()
    };
    let line = b"PROXY TCP4 192.0.2.7 192.0.2.1 4711 80\r\n";
    let answer = say(plain, line);
    assert!(answer.contains("location: /192.0.2.7\r\n"), "{answer}");
    let binary = b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c\xc0\0\x02\x08\xc0\0\x02\x01\x12\x67\0\x50";
    let answer = say(plain, binary);
    assert!(answer.contains("location: /192.0.2.8\r\n"), "{answer}");
    let answer = say(plain, b"PROXY UNKNOWN\r\n");
    assert!(answer.contains("location: /127.0.0.1\r\n"), "{answer}");
    assert_eq!(say(plain, b""), "", "a client that says nothing of the kind gets nothing");
    assert_eq!(say(plain, b"PROXY TCP4 nonsense\r\n"), "");

    let mut socket = TcpStream::connect(at(secure)).unwrap();
    socket.write_all(line).unwrap();
    let mut stream = testkit::tls::over(socket, &sites.one.authority, "localhost", b"http/1.1").unwrap();
    stream.write_all(get.replace("Host: a", "Host: localhost").as_bytes()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    assert!(answer.contains("location: /192.0.2.7\r\n"), "{answer}");

    sites.write(&config("10.9.8.7").replace(&format!(":{plain} "), &format!(":{distrusting} ")));
    process.signal("HUP");
    process.wait_for_text("reloaded");
    let end = Instant::now() + PATIENCE;
    while TcpStream::connect(at(distrusting)).is_err() {
        assert!(Instant::now() < end, "nobody listens");
    }
    assert_eq!(say(distrusting, line), "", "this machine is no trusted proxy any more");
}
