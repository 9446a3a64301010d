//! Two backends for one host take turns; when one is killed, nobody notices.

use crate::support::http::get;
use crate::support::process::Weaprous;
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::Path;
use testkit::RawClient;

/// Requests made in each part.
const REQUESTS: usize = 60;

/// `weaprous backend` with a public file that says which one it is.
fn backend(folder: &Path, name: &str) -> (Weaprous, SocketAddr) {
    let site = folder.join(name);
    std::fs::create_dir_all(&site).unwrap();
    std::fs::write(site.join("who.txt"), name).unwrap();
    let (site, data) = (site.to_str().unwrap().to_owned(), folder.join("data").to_str().unwrap().to_owned());
    let args = ["backend", "--data-dir", &data, "--server-port", "0", "--static", &site];
    let mut process = Weaprous::start(args.iter());
    let addr = process.address("backend");
    (process, addr)
}

/// `weaprous proxy` with this configuration.
fn proxy(folder: &Path, config: &str) -> (Weaprous, SocketAddr) {
    let file = folder.join("proxy.conf");
    std::fs::write(&file, config).unwrap();
    let mut process = Weaprous::start(["proxy", "--config", file.to_str().unwrap(), "--server-port", "0"].iter());
    let addr = process.address("proxy");
    (process, addr)
}

/// Who answers, how often; every answer must be 200.
fn answers(addr: SocketAddr) -> BTreeMap<String, usize> {
    let mut counts = BTreeMap::new();
    for _ in 0..REQUESTS {
        let response = get(addr, "/static/who.txt", &[]);
        assert_eq!(response.status, 200, "{}", response.text());
        *counts.entry(response.text().to_owned()).or_default() += 1;
    }
    counts
}

#[test]
fn two_backends_alternate_and_a_dead_one_is_not_noticed() {
    let folder = tempfile::tempdir().unwrap();
    let (mut first, first_addr) = backend(folder.path(), "first");
    let (_second, second_addr) = backend(folder.path(), "second");
    let config = format!(
        "host default {{\n    proxy_pass http://{first_addr};\n    proxy_pass http://{second_addr};\n    \
         dist_policy round-robin\n}}\n"
    );
    let (_proxy, addr) = proxy(folder.path(), &config);

    let counts = answers(addr);
    assert_eq!(counts.len(), 2, "{counts:?}");
    for (name, count) in &counts {
        // Each worker takes turns on its own, so that the counts differ by a few.
        assert!((REQUESTS / 2 - 5..=REQUESTS / 2 + 5).contains(count), "{name} answered {count} of {REQUESTS}");
    }

    first.kill_9();
    let counts = answers(addr);
    assert_eq!(counts, BTreeMap::from([("second".to_owned(), REQUESTS)]));
}

#[test]
fn an_unknown_host_gets_a_404_that_says_so_and_dead_upstreams_a_503() {
    let folder = tempfile::tempdir().unwrap();
    let (mut only, only_addr) = backend(folder.path(), "only");
    let (_proxy, addr) =
        proxy(folder.path(), &format!("host \"app.local\" {{\n    proxy_pass http://{only_addr};\n}}\n"));

    let mut client = testkit::RawClient::connect(addr);
    client.send("GET / HTTP/1.1\r\nHost: stranger.local\r\n\r\n");
    let response = client.read_response();
    assert_eq!(response.status, 404);
    assert!(response.text().contains("stranger.local"), "{}", response.text());

    only.kill_9();
    client.send("GET / HTTP/1.1\r\nHost: app.local\r\n\r\n");
    let response = client.read_response();
    assert_eq!(response.status, 503);
    assert!(response.text().contains("The upstream of app.local refused the connection."), "{}", response.text());
    assert!(!response.text().contains(&only_addr.to_string()), "strangers need not know where: {}", response.text());
}

#[test]
fn the_soft_limit_on_open_files_is_no_limit_on_clients() {
    const SOFT_LIMIT: u32 = 64;
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("proxy.conf");
    std::fs::write(&file, "host default { respond 200 \"ok\"; }").unwrap();
    let args = ["proxy", "--config", file.to_str().unwrap(), "--server-port", "0"];
    let mut process = Weaprous::start_with_files(args.iter(), SOFT_LIMIT);
    let addr = process.address("proxy");
    let mut clients: Vec<RawClient> = (0..2 * SOFT_LIMIT).map(|_| RawClient::connect(addr)).collect();
    for client in &mut clients {
        client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
        assert_eq!(client.read_response().status, 200);
    }
}

#[test]
fn operators_see_a_backend_leave_and_come_back_without_asking_for_more() {
    let folder = tempfile::tempdir().unwrap();
    // Bound and not listening: it refuses, and nobody else gets the port.
    let socket = tokio::net::TcpSocket::new_v4().unwrap();
    socket.bind(([127, 0, 0, 1], 0).into()).unwrap();
    let backend = socket.local_addr().unwrap();
    let config = format!("host default {{ proxy_pass http://{backend}; }}");
    let (mut process, addr) = proxy(folder.path(), &config);
    assert_eq!(get(addr, "/", &[]).status, 503);
    process.wait_for_text("upstream is left out for a while");
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let listener = runtime.block_on(async { socket.listen(16).unwrap().into_std().unwrap() });
    listener.set_nonblocking(false).unwrap();
    let answering = std::thread::spawn(move || {
        use std::io::{Read as _, Write as _};
        let (mut stream, _) = listener.accept().unwrap();
        let _ = stream.read(&mut [0; 4096]).unwrap();
        stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n").unwrap();
    });
    assert_eq!(get(addr, "/", &[]).status, 200);
    process.wait_for_text("upstream is back");
    answering.join().unwrap();
    assert!(process.lines().iter().all(|line| !line.contains("DEBUG")), "nothing for developers");
}
