//! The proxy as operators handle it, with real processes and signals: reloaded, upgraded, stopped, watched, under load.
//! The load is a few clients that keep their connections and do not forgive one failed request.

use crate::support::http::{get, json, request};
use crate::support::process::Weaprous;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};
use testkit::RawClient;

/// Clients that ask all the time.
const CLIENTS: usize = 4;
/// How long anything may take before a test fails.
const DEADLINE: Duration = Duration::from_secs(30);

/// An upstream in this process: `/stream` is an endless event stream, `/tunnel` switches protocols and echoes, all
/// else says its name.
struct Upstream {
    address: SocketAddr,
    _running: engine::Running,
}

impl Upstream {
    fn start(name: &'static str) -> Self {
        let settings = engine::Settings { workers: Some(1), ..engine::Settings::default() };
        let service = move || move |request: engine::Request| std::future::ready(answer(name, request));
        let server = engine::Server::new(settings).listen(([127, 0, 0, 1], 0).into(), service).unwrap();
        let running = server.start(engine::Stop::new(), Duration::from_secs(1)).unwrap();
        Self { address: running.local_addrs()[0], _running: running }
    }
}

fn answer(name: &'static str, request: engine::Request) -> engine::Response {
    match request.head.path() {
        "/tunnel" => request.upgrade("echo", |stream| async move {
            let (mut read, mut write) = tokio::io::split(stream);
            // The end of either side is the end of the echo.
            let _ = tokio::io::copy(&mut read, &mut write).await;
        }),
        "/stream" => {
            let (sender, body) = engine::Body::channel();
            tokio::task::spawn_local(async move {
                while sender.send("data: tick\n\n").await.is_ok() {
                    tokio::time::sleep(Duration::from_millis(20)).await;
                }
            });
            engine::Response::new(engine::StatusCode::OK).field("content-type", "text/event-stream").with_body(body)
        }
        _ => engine::Response::text(engine::StatusCode::OK, name),
    }
}

/// A proxy process with its configuration file.
struct Front {
    process: Weaprous,
    address: SocketAddr,
    admin: SocketAddr,
    config: PathBuf,
}

impl Front {
    fn start(folder: &Path, config: &str, more: &[&str]) -> Self {
        let file = folder.join("proxy.conf");
        std::fs::write(&file, config).unwrap();
        let path = file.to_str().unwrap();
        let args = ["proxy", "--config", path, "--server-port", "0", "--admin-port", "0", "--no-watch"];
        let mut process = Weaprous::start(args.iter().chain(more));
        let address = process.address("proxy");
        let admin = process.address("admin");
        Self { process, address, admin, config: file }
    }

    fn write(&self, config: &str) {
        std::fs::write(&self.config, config).unwrap();
    }

    /// Reloads a configuration and waits for what the process says about it.
    fn reload(&mut self, config: &str) -> String {
        self.write(config);
        self.process.signal("HUP");
        self.process.wait_for("word about the reload", |line| line.contains("reload"))
    }

    fn status(&self) -> serde_json::Value {
        json(&get(self.admin, "/api/status", &[]))
    }

    fn metrics(&self) -> String {
        get(self.admin, "/metrics", &[]).text().to_owned()
    }
}

fn to(upstreams: &[&Upstream], more: &str) -> String {
    let servers: Vec<String> = upstreams.iter().map(|upstream| format!("server {};", upstream.address)).collect();
    format!("upstream app {{ {} }}\nhost default {{ proxy_pass http://app; {more} }}\n", servers.concat())
}

/// Clients that ask until they are told to stop.
struct Load {
    is_over: Arc<AtomicBool>,
    asked: Arc<AtomicU64>,
    threads: Vec<JoinHandle<u64>>,
}

impl Load {
    fn start(address: SocketAddr) -> Self {
        let (is_over, asked) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let threads = (0..CLIENTS)
            .map(|_| {
                let (is_over, asked) = (Arc::clone(&is_over), Arc::clone(&asked));
                std::thread::spawn(move || ask_until(address, &is_over, &asked))
            })
            .collect();
        Self { is_over, asked, threads }
    }

    /// Waits until so many more requests have been answered.
    fn wait_for(&self, more: u64) {
        let wanted = self.asked.load(Relaxed) + more;
        let end = Instant::now() + DEADLINE;
        while self.asked.load(Relaxed) < wanted {
            assert!(
                Instant::now() < end && self.threads.iter().all(|thread| !thread.is_finished()),
                "the load is stuck"
            );
            std::thread::yield_now();
        }
    }

    /// Requests answered; a failed one has failed its client, and so the test.
    fn end(self) -> u64 {
        self.is_over.store(true, Relaxed);
        self.threads.into_iter().map(|thread| thread.join().expect("no request failed")).sum()
    }
}

/// Asks again and again; a new connection only when the answer before said that it was the last one.
fn ask_until(address: SocketAddr, is_over: &AtomicBool, asked: &AtomicU64) -> u64 {
    let mut answered = 0;
    let mut client = RawClient::connect(address);
    while !is_over.load(Relaxed) {
        client.send(format!("GET /load HTTP/1.1\r\nHost: {address}\r\n\r\n"));
        let response = client.read_response();
        assert_eq!(response.status, 200, "request {answered}: {}", response.text());
        answered += 1;
        asked.fetch_add(1, Relaxed);
        if response.field("connection") == Some("close") {
            client = RawClient::connect(address);
        }
    }
    answered
}

/// An open tunnel through the proxy that echoes.
struct Tunnel(TcpStream);

impl Tunnel {
    fn open(address: SocketAddr) -> Self {
        let mut stream = TcpStream::connect(address).unwrap();
        stream.set_read_timeout(Some(DEADLINE)).unwrap();
        let head = "GET /tunnel HTTP/1.1\r\nHost: test\r\nConnection: upgrade\r\nUpgrade: echo\r\n\r\n";
        stream.write_all(head.as_bytes()).unwrap();
        let mut answer = Vec::new();
        while !answer.ends_with(b"\r\n\r\n") {
            let mut byte = [0];
            stream.read_exact(&mut byte).unwrap();
            answer.extend(byte);
        }
        assert!(answer.starts_with(b"HTTP/1.1 101 "), "{}", String::from_utf8_lossy(&answer));
        Self(stream)
    }

    /// Whether what is said comes back.
    fn echoes(&mut self) -> bool {
        let mut heard = [0; 4];
        self.0.write_all(b"ping").is_ok() && self.0.read_exact(&mut heard).is_ok() && &heard == b"ping"
    }

    fn is_closed(&mut self) -> bool {
        matches!(self.0.read(&mut [0; 16]), Ok(0) | Err(_))
    }
}

/// An open event stream; every read is to bring more of it.
fn open_stream(address: SocketAddr) -> TcpStream {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(DEADLINE)).unwrap();
    stream.write_all(b"GET /stream HTTP/1.1\r\nHost: test\r\n\r\n").unwrap();
    stream
}

fn ticks(stream: &mut TcpStream) -> bool {
    matches!(stream.read(&mut [0; 4096]), Ok(1..))
}

#[test]
fn twenty_reloads_under_load_fail_no_request_and_cut_no_stream() {
    let folder = tempfile::tempdir().unwrap();
    let (one, two) = (Upstream::start("one"), Upstream::start("two"));
    let mut front = Front::start(folder.path(), &to(&[&one], ""), &["--drain-timeout", "1"]);
    let mut tunnel = Tunnel::open(front.address);
    let mut stream = open_stream(front.address);
    let load = Load::start(front.address);
    for round in 0..20 {
        load.wait_for(20);
        // The route of the tunnel stays; servers come and go, weights and other routes change.
        let more = format!("location /other{round} {{ respond 200 \"{round}\"; }}");
        let config = if round % 2 == 0 { to(&[&one, &two], &more) } else { to(&[&one], &more) };
        let said = front.reload(&config);
        assert!(said.contains("reloaded 1 route added"), "{said}");
        assert_eq!(get(front.address, &format!("/other{round}"), &[]).text(), round.to_string());
    }
    load.wait_for(100);
    assert!(tunnel.echoes() && ticks(&mut stream));
    let answered = load.end();
    let status = front.status();
    assert_eq!(status["reloads"], 20);
    println!("20 reloads, {CLIENTS} clients: {answered} requests, 0 failed; the tunnel and the stream are open");
}

#[test]
fn a_file_with_mistakes_changes_nothing_and_says_why_as_check_does() {
    let folder = tempfile::tempdir().unwrap();
    let one = Upstream::start("one");
    let mut front = Front::start(folder.path(), &to(&[&one], ""), &[]);
    front.write("host default { proxy_pas http://127.0.0.1:1; }\n");
    let path = front.config.to_str().unwrap().to_owned();
    let (_, checked) = Weaprous::start(["check", &path].iter()).end();
    front.process.signal("HUP");
    front.process.wait_for_text("is not reloaded");
    let mistake = checked.lines().find(|line| line.contains("proxy.conf:1:16")).expect("check names the place");
    front.process.wait_for_text(mistake);
    assert_eq!(get(front.address, "/", &[]).text(), "one");
    assert_eq!((front.status()["reloads"].as_u64(), front.status()["reloads_refused"].as_u64()), (Some(0), Some(1)));
}

#[test]
fn a_changed_file_is_noticed_and_addresses_come_and_go() {
    let folder = tempfile::tempdir().unwrap();
    let one = Upstream::start("one");
    let (a, b) = (free_port(), free_port());
    let with = |ports: &[u16]| {
        let listen: Vec<String> = ports.iter().map(|port| format!("listen 127.0.0.1:{port};\n")).collect();
        format!("{}{}", listen.concat(), to(&[&one], ""))
    };
    let file = folder.path().join("proxy.conf");
    std::fs::write(&file, with(&[a])).unwrap();
    let mut process = Weaprous::start(["proxy", "--config", file.to_str().unwrap()].iter());
    process.address("proxy");
    let at = |port: u16| SocketAddr::from(([127, 0, 0, 1], port));
    let mut kept = RawClient::connect(at(a));
    let ask = |client: &mut RawClient| {
        client.send("GET / HTTP/1.1\r\nHost: test\r\n\r\n");
        assert_eq!(client.read_response().text(), "one");
    };
    ask(&mut kept);
    std::fs::write(&file, with(&[a, b])).unwrap();
    process.wait_for_text("1 address added");
    assert_eq!(get(at(b), "/", &[]).text(), "one");
    std::fs::write(&file, with(&[b])).unwrap();
    process.wait_for_text("1 address removed");
    ask(&mut kept);
    let end = Instant::now() + DEADLINE;
    while TcpStream::connect(at(a)).is_ok() {
        assert!(Instant::now() < end, "the address is still listened on");
    }
    assert_eq!(get(at(b), "/", &[]).text(), "one");
}

#[test]
fn the_admin_page_comes_moves_and_goes_at_a_reload() {
    let folder = tempfile::tempdir().unwrap();
    let one = Upstream::start("one");
    let config = to(&[&one], "");
    let file = folder.path().join("proxy.conf");
    let (before, after) = (free_port(), free_port());
    let write = |top: &str| std::fs::write(&file, format!("{top}\n{config}")).unwrap();
    write("");
    let args = ["proxy", "--no-watch", "--server-port", "0", "--config", file.to_str().unwrap()];
    let mut process = Weaprous::start(args.iter());
    let front = process.address("proxy");
    let at = |port: u16| SocketAddr::from(([127, 0, 0, 1], port));
    let mut kept = RawClient::connect(front);
    kept.send("GET / HTTP/1.1\r\nHost: test\r\n\r\n");
    assert_eq!(kept.read_response().text(), "one");
    let gone = |port: u16| {
        let end = Instant::now() + DEADLINE;
        while TcpStream::connect(at(port)).is_ok() {
            assert!(Instant::now() < end, "the admin page is still there");
        }
    };
    for (number, port) in [before, after].into_iter().enumerate() {
        write(&format!("admin 127.0.0.1:{port};"));
        process.signal("HUP");
        process.wait_for_text(&format!("admin    http://127.0.0.1:{port}"));
        assert_eq!(get(at(port), "/healthz", &[]).status, 200);
        let status = json(&get(at(port), "/api/status", &[]));
        assert_eq!(status["reloads"].as_u64(), Some(number as u64 + 1));
        assert!(status["connections"].as_u64() > Some(0), "{status}");
    }
    gone(before);

    for (top, why) in [
        ("admin 0.0.0.0:9900;".to_owned(), "can be reached from other machines"),
        (format!("admin {front};"), "something else is served there"),
    ] {
        write(&top);
        process.signal("HUP");
        process.wait_for_text("is not reloaded");
        process.wait_for_text(why);
        assert_eq!(get(at(after), "/healthz", &[]).status, 200, "it stays where it was");
        assert_eq!(get(front, "/", &[]).text(), "one");
    }
    write("");
    process.signal("HUP");
    gone(after);
    assert_eq!(get(front, "/", &[]).text(), "one");
}

#[test]
fn what_only_the_next_start_can_change_is_named_by_every_reload() {
    let folder = tempfile::tempdir().unwrap();
    let one = Upstream::start("one");
    let key = folder.path().join("sticky.key");
    std::fs::write(&key, [7; 32]).unwrap();
    let with = |top: &str| format!("{top}\n{}", to(&[&one], ""));
    let mut front = Front::start(folder.path(), &with("defer_accept 2s;"), &[]);
    let changed = with(&format!("defer_accept off; sticky_key {};", key.display()));
    for _ in 0..2 {
        let said = front.reload(&changed);
        assert!(said.contains("`defer_accept` and `sticky_key` as changed: not before the next start"), "{said}");
        front.process.wait_for_text("`defer_accept` and `sticky_key` stays as it is until the next start");
    }
    assert_eq!(front.reload(&with("defer_accept 2s;")), "  reloaded nothing has changed");
}

#[test]
fn silent_connections_are_taken_at_once_only_where_the_configuration_says_so() {
    let open = |front: &Front| front.status()["connections"].as_u64().unwrap();
    let folder = tempfile::tempdir().unwrap();
    let at_once = Front::start(folder.path(), "defer_accept off;\nhost default { respond 200 here; }\n", &[]);
    let before = open(&at_once);
    let silent = TcpStream::connect(at_once.address).unwrap();
    let end = Instant::now() + DEADLINE;
    while open(&at_once) <= before {
        assert!(Instant::now() < end, "the silent connection is not known");
    }
    drop((silent, at_once));

    let deferred = Front::start(folder.path(), "defer_accept 2m;\nhost default { respond 200 here; }\n", &[]);
    let before = open(&deferred);
    let mut silent = TcpStream::connect(deferred.address).unwrap();
    for _ in 0..20 {
        assert_eq!(get(deferred.address, "/", &[]).text(), "here");
    }
    assert_eq!(open(&deferred), before, "a silent connection is none of the proxy's yet");
    silent.write_all(b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n").unwrap();
    let mut answer = String::new();
    silent.read_to_string(&mut answer).unwrap();
    assert!(answer.ends_with("here"), "{answer}");
}

#[test]
fn a_removed_server_finishes_within_its_deadline_and_is_cut_after_it() {
    let folder = tempfile::tempdir().unwrap();
    let (one, two) = (Upstream::start("one"), Upstream::start("two"));
    let mut front = Front::start(folder.path(), &to(&[&one], ""), &["--drain-timeout", "1"]);
    let mut tunnel = Tunnel::open(front.address);
    front.reload(&to(&[&two], ""));
    assert!(tunnel.echoes(), "it has a second left");
    assert_eq!(get(front.address, "/", &[]).text(), "two");
    assert!(tunnel.is_closed());
}

#[test]
fn upgrades_under_load_fail_no_request_and_leave_streams_to_the_old_one() {
    let folder = tempfile::tempdir().unwrap();
    let one = Upstream::start("one");
    let control = folder.path().join("control");
    let control = control.to_str().unwrap();
    let mut front = Front::start(folder.path(), &to(&[&one], ""), &["--control", control, "--drain-timeout", "20"]);
    let mut tunnel = Tunnel::open(front.address);
    let mut stream = open_stream(front.address);
    let load = Load::start(front.address);
    load.wait_for(200);

    // The next one is started by a person; it says its addresses itself.
    let path = front.config.to_str().unwrap().to_owned();
    let args =
        ["proxy", "--config", &path, "--server-port", "0", "--admin-port", "0", "--control", control, "--upgrade"];
    let mut second = Weaprous::start(args.iter());
    assert_eq!(second.address("proxy"), front.address);
    assert_eq!(second.address("admin"), front.admin);
    load.wait_for(200);
    assert!(tunnel.echoes() && ticks(&mut stream), "the first one still looks after them");
    drop(tunnel);
    drop(stream);
    let (status, said) = std::mem::replace(&mut front.process, second).end();
    assert_eq!(status.code(), Some(0), "{said}");
    load.wait_for(200);

    // And the one after that by a signal; it writes where the one before wrote.
    front.process.signal("USR2");
    assert_eq!(front.process.address("proxy"), front.address);
    load.wait_for(200);
    let answered = load.end();
    assert_eq!(get(front.address, "/", &[]).text(), "one");
    let third = pid_of_listener(control);
    println!("2 upgrades, {CLIENTS} clients: {answered} requests, 0 failed");
    signal(third, "TERM");
}

#[test]
fn an_upgrade_keeps_sticky_sessions_and_what_the_operator_has_ordered() {
    let folder = tempfile::tempdir().unwrap();
    let names = ["one", "two", "three"].map(Upstream::start);
    let control = folder.path().join("control");
    let servers: Vec<String> = names.iter().map(|upstream| format!("server {};", upstream.address)).collect();
    let config = format!(
        "upstream app {{ {} dist_policy sticky route; }}\nhost default {{ proxy_pass http://app; }}\n",
        servers.concat()
    );
    let mut front = Front::start(folder.path(), &config, &["--control", control.to_str().unwrap()]);
    let drain = serde_json::json!({ "upstream": "app", "server": names[2].address.to_string(), "state": "draining" });
    let json_type = [("Content-Type", "application/json")];
    let ordered = request(front.admin, "POST", "/api/servers", &json_type, &drain.to_string());
    assert_eq!(ordered.status, 200, "{}", ordered.text());
    let sessions: Vec<(String, String)> = (0..4)
        .map(|_| {
            let first = get(front.address, "/", &[]);
            let cookie = first.field("set-cookie").expect("a sticky cookie").split(';').next().unwrap().to_owned();
            (cookie, first.text().to_owned())
        })
        .collect();

    front.process.signal("USR2");
    front.process.wait_for_text("  proxy    http://");
    let end = Instant::now() + DEADLINE;
    while front.process.try_end().is_none() {
        assert!(Instant::now() < end, "the first one is still there");
        std::thread::sleep(Duration::from_millis(10));
    }
    for _ in 0..3 {
        for (cookie, who) in &sessions {
            assert_eq!(get(front.address, "/", &[("Cookie", cookie)]).text(), who, "{cookie}");
        }
    }
    let shown = front.status();
    let servers = shown["upstreams"][0]["servers"].as_array().unwrap();
    let states: Vec<&str> = servers.iter().filter_map(|server| server["state"].as_str()).collect();
    assert_eq!(states, ["up", "up", "draining"]);
    signal(pid_of_listener(control.to_str().unwrap()), "TERM");
}

#[test]
fn a_next_version_that_cannot_start_changes_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let one = Upstream::start("one");
    let mut front = Front::start(folder.path(), &to(&[&one], ""), &[]);
    front.write("nonsense\n");
    front.process.signal("USR2");
    front.process.wait_for_text("the next version does not take over");
    assert_eq!(get(front.address, "/", &[]).text(), "one");
}

#[test]
fn a_stop_ends_streams_and_tunnels_and_lets_requests_finish() {
    let folder = tempfile::tempdir().unwrap();
    let one = Upstream::start("one");
    let front = Front::start(folder.path(), &to(&[&one], ""), &[]);
    let mut tunnel = Tunnel::open(front.address);
    let mut stream = open_stream(front.address);
    assert!(tunnel.echoes() && ticks(&mut stream));
    let begun = Instant::now();
    front.process.signal("TERM");
    let (status, said) = front.process.end();
    assert_eq!(status.code(), Some(0), "{said}");
    assert!(tunnel.is_closed());
    while ticks(&mut stream) {}
    assert!(begun.elapsed() < Duration::from_secs(15), "{:?}", begun.elapsed());
}

#[test]
fn metrics_and_log_tell_what_happened_and_an_operator_takes_a_server_out() {
    let folder = tempfile::tempdir().unwrap();
    let (one, two) = (Upstream::start("one"), Upstream::start("two"));
    let log = folder.path().join("access.log");
    let more = ["--access-log", log.to_str().unwrap(), "--log-format", "json"];
    let front = Front::start(folder.path(), &to(&[&one, &two], ""), &more);
    for _ in 0..10 {
        assert_eq!(get(front.address, "/page?secret=1", &[]).status, 200);
    }
    let metrics = front.metrics();
    let expect = r#"weaprous_proxy_route_requests_total{route="default",class="2xx"} 10"#;
    assert!(metrics.lines().any(|line| line == expect), "{metrics}");
    assert!(metrics.contains("weaprous_proxy_server_connections_opened_total"), "{metrics}");

    let order = |state: &str, fields: &[(&str, &str)]| {
        let server = one.address;
        let body = format!("{{\"upstream\":\"app\",\"server\":\"{server}\",\"state\":\"{state}\"}}");
        let fields = [&[("Content-Type", "application/json")], fields].concat();
        request(front.admin, "POST", "/api/servers", &fields, &body).status
    };
    assert_eq!(order("draining", &[("Origin", "http://elsewhere.example")]), 403);
    assert_eq!(order("draining", &[("Sec-Fetch-Site", "cross-site")]), 403);
    assert_eq!(order("draining", &[]), 200);
    for _ in 0..6 {
        assert_eq!(get(front.address, "/", &[]).text(), "two");
    }
    assert_eq!(order("up", &[]), 200);
    let names: Vec<String> = (0..4).map(|_| get(front.address, "/", &[]).text().to_owned()).collect();
    assert!(names.contains(&"one".to_owned()), "{names:?}");

    let rotated = folder.path().join("access.log.1");
    std::fs::rename(&log, &rotated).unwrap();
    front.process.signal("USR1");
    let end = Instant::now() + DEADLINE;
    while !log.exists() {
        assert!(Instant::now() < end, "the log is not opened again");
    }
    assert_eq!(get(front.address, "/after", &[]).status, 200);
    front.process.signal("TERM");
    front.process.end();
    let before = std::fs::read_to_string(&rotated).unwrap();
    let after = std::fs::read_to_string(&log).unwrap();
    assert_eq!(before.lines().count() + after.lines().count(), 21, "{before}{after}");
    assert!(!before.contains("secret=1") && before.contains("secret=*"), "{before}");
    let last: serde_json::Value = serde_json::from_str(after.lines().last().unwrap()).unwrap();
    assert_eq!((last["target"].as_str(), last["status"].as_u64()), (Some("/after"), Some(200)));
}

#[test]
fn the_admin_page_answers_to_this_machine_alone() {
    let folder = tempfile::tempdir().unwrap();
    let one = Upstream::start("one");
    let front = Front::start(folder.path(), &to(&[&one], ""), &[]);
    let mut client = RawClient::connect(front.admin);
    client.send("GET /api/status HTTP/1.1\r\nHost: evil.example\r\n\r\n");
    assert_eq!(client.read_response().status, 421);
    let page = get(front.admin, "/", &[]);
    assert!(page.field("content-security-policy").is_some_and(|policy| policy.contains("default-src 'none'")));
    assert_eq!(get(front.address, "/metrics", &[]).text(), "one", "clients see no metrics of the proxy");

    let path = front.config.to_str().unwrap();
    let args = ["proxy", "--config", path, "--server-port", "0", "--admin-port", "0", "--admin-ip", "0.0.0.0"];
    let (status, said) = Weaprous::start(args.iter()).end();
    assert_eq!(status.code(), Some(2), "{said}");
    assert!(said.contains("can be reached from other machines"), "{said}");
}

#[test]
fn systemd_hears_about_each_state() {
    let folder = tempfile::tempdir().unwrap();
    let one = Upstream::start("one");
    let manager = UnixDatagram::bind(folder.path().join("notify")).unwrap();
    manager.set_read_timeout(Some(DEADLINE)).unwrap();
    let heard = || {
        let mut buffer = [0; 256];
        let count = manager.recv(&mut buffer).expect("a state is told");
        String::from_utf8_lossy(&buffer[..count]).into_owned()
    };
    let file = folder.path().join("proxy.conf");
    std::fs::write(&file, to(&[&one], "")).unwrap();
    let args = ["proxy", "--config", file.to_str().unwrap(), "--server-port", "0", "--no-watch"];
    let notify = folder.path().join("notify");
    let process =
        Weaprous::start_with(args.iter(), &[("NOTIFY_SOCKET", notify.to_str().unwrap()), ("WATCHDOG_USEC", "300000")]);
    assert!(heard().starts_with("READY=1\n"));
    while heard() != "WATCHDOG=1" {}
    process.signal("HUP");
    while !heard().starts_with("RELOADING=1\n") {}
    while !heard().starts_with("READY=1\n") {}
    process.signal("TERM");
    while !heard().starts_with("STOPPING=1\n") {}
    assert_eq!(process.end().0.code(), Some(0));
}

#[test]
fn a_socket_that_systemd_has_opened_is_served() {
    let folder = tempfile::tempdir().unwrap();
    let one = Upstream::start("one");
    let file = folder.path().join("proxy.conf");
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::fs::write(&file, format!("listen {address};\n{}", to(&[&one], ""))).unwrap();
    let mut early = RawClient::connect(address); // before anybody serves: it waits in the queue
    early.send("GET / HTTP/1.1\r\nHost: test\r\n\r\n");
    // The third descriptor, and the variables that name it, as sd_listen_fds(3) wants them.
    let script = "LISTEN_PID=$$ LISTEN_FDS=1 exec \"$0\" proxy --config \"$1\" 3<&0 0</dev/null";
    let mut shell = std::process::Command::new("sh");
    shell.args(["-c", script, env!("CARGO_BIN_EXE_weaprous"), file.to_str().unwrap()]);
    let stdin = std::process::Stdio::from(std::os::fd::OwnedFd::from(listener));
    let mut child = shell.stdin(stdin).stdout(std::process::Stdio::null()).spawn().unwrap();
    assert_eq!(early.read_response().text(), "one");
    assert_eq!(get(address, "/", &[]).text(), "one");
    signal(child.id(), "TERM");
    assert_eq!(child.wait().unwrap().code(), Some(0));
}

/// A port that was free a moment ago: for addresses that a file has to name beforehand.
fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

/// The process that listens at a control socket.
fn pid_of_listener(path: &str) -> u32 {
    let stream = std::os::unix::net::UnixStream::connect(path).unwrap();
    let credentials = rustix::net::sockopt::socket_peercred(&stream).unwrap();
    credentials.pid.as_raw_nonzero().get().unsigned_abs()
}

fn signal(pid: u32, name: &str) {
    let status = std::process::Command::new("kill").args(["-s", name, &pid.to_string()]).status();
    assert!(status.unwrap().success());
}
