//! What idle connections cost. The server is a child, so that its memory is its own: this very test, started again
//! with a variable that tells it which part to play.

use crate::support::{get, serve_targets, settings};
use rustix::process::{Resource, getrlimit, setrlimit};
use std::io::{BufRead, BufReader, Read};
use std::process::{Child, Command, Stdio};
use std::time::Duration;
use testkit::RawClient;

const ROLE: &str = "ENGINE_TEST_IDLE_SERVER";
const CONNECTIONS: usize = 3000;
const BYTES_PER_CONNECTION_MAX: usize = 1024;

#[test]
fn an_idle_connection_costs_less_than_a_kibibyte() {
    raise_descriptor_limit();
    if std::env::var_os(ROLE).is_some() {
        return serve_until_stdin_closes();
    }
    let (mut child, addr) = start_child();
    let served = || {
        let mut client = RawClient::connect(addr);
        client.send(get("/"));
        assert_eq!(client.read_response().status, 200);
        client
    };
    let warm: Vec<_> = (0..100).map(|_| served()).collect();
    let before = resident_bytes(child.id());
    let clients: Vec<_> = (0..CONNECTIONS).map(|_| served()).collect();
    let each = resident_bytes(child.id()).saturating_sub(before) / CONNECTIONS;
    assert!(each <= BYTES_PER_CONNECTION_MAX, "{each} bytes for each connection");
    drop((warm, clients, child.stdin.take()));
    assert!(child.wait().unwrap().success());
}

/// The soft limit is often 1,024, whatever the system could do.
fn raise_descriptor_limit() {
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    setrlimit(Resource::Nofile, limit).unwrap();
}

fn start_child() -> (Child, std::net::SocketAddr) {
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "--nocapture", "memory::an_idle_connection_costs_less_than_a_kibibyte"])
        .env(ROLE, "1")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let mut addrs = lines.map_while(Result::ok).filter_map(|line| line.rsplit_once("listening on ")?.1.parse().ok());
    let addr = addrs.next().expect("the child names its address");
    std::thread::spawn(move || addrs.for_each(drop)); // what else the child prints must not block it
    (child, addr)
}

fn serve_until_stdin_closes() {
    let patient = engine::Settings { keep_alive_timeout: Duration::from_mins(10), ..settings() };
    let server = serve_targets(patient);
    println!("listening on {}", server.local_addrs()[0]);
    std::io::stdin().read_to_end(&mut Vec::new()).unwrap();
}

fn resident_bytes(process: u32) -> usize {
    let text = std::fs::read_to_string(format!("/proc/{process}/status")).unwrap();
    let line = text.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().trim_end_matches(" kB").parse::<usize>().unwrap() * 1024
}
