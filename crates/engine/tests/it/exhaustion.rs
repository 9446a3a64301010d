//! A server that runs out of descriptors. The limit belongs to a process, so the server is a child: this very test,
//! started again with a variable that tells it which part to play.

use crate::support::{get, serve_targets, settings};
use rustix::process::{Resource, Rlimit, setrlimit};
use std::io::{BufRead, BufReader, Read};
use std::process::{Child, Command, Stdio};
use std::time::Duration;
use testkit::RawClient;

const ROLE: &str = "ENGINE_TEST_EXHAUSTED_SERVER";
/// Descriptors of the child; some are taken by its runtime.
const DESCRIPTORS: u64 = 40;

#[test]
fn descriptors_that_run_out_are_waited_for() {
    if std::env::var_os(ROLE).is_some() {
        return serve_until_stdin_closes();
    }
    let mut child = start_child();
    let addr = addr_of(&mut child);
    let mut clients: Vec<_> = (0..DESCRIPTORS).map(|_| RawClient::connect(addr)).collect();
    for client in &mut clients {
        client.send(get("/"));
    }
    assert_eq!(clients[0].read_response().status, 200);
    let before = cpu_time(child.id());
    let mut last = clients.pop().unwrap();
    last.expect_silence(Duration::from_millis(500)); // it is in the queue, and there it stays
    let spent = cpu_time(child.id()).checked_sub(before).unwrap();
    assert!(spent < Duration::from_millis(250), "the server spins: {spent:?}");
    drop(clients);
    assert_eq!(last.read_response().status, 200, "served as soon as there are descriptors again");
    drop(child.stdin.take());
    assert!(child.wait().unwrap().success());
}

fn start_child() -> Child {
    Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "--nocapture", "exhaustion::descriptors_that_run_out_are_waited_for"])
        .env(ROLE, "1")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap()
}

fn addr_of(child: &mut Child) -> std::net::SocketAddr {
    let lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let mut addrs = lines.map_while(Result::ok).filter_map(|line| line.rsplit_once("listening on ")?.1.parse().ok());
    let addr = addrs.next().expect("the child names its address");
    std::thread::spawn(move || addrs.for_each(drop)); // what else the child prints must not block it
    addr
}

fn serve_until_stdin_closes() {
    let limit = Rlimit { current: Some(DESCRIPTORS), maximum: Some(DESCRIPTORS) };
    setrlimit(Resource::Nofile, limit).unwrap();
    let server = serve_targets(settings());
    println!("listening on {}", server.local_addrs()[0]);
    std::io::stdin().read_to_end(&mut Vec::new()).unwrap();
}

fn cpu_time(process: u32) -> Duration {
    let tasks = std::fs::read_dir(format!("/proc/{process}/task")).unwrap();
    let nanoseconds = tasks.map(|task| {
        let text = std::fs::read_to_string(task.unwrap().path().join("schedstat")).unwrap();
        text.split_whitespace().next().unwrap().parse::<u64>().unwrap()
    });
    Duration::from_nanos(nanoseconds.sum())
}
