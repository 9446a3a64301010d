//! Listeners that are taken over from elsewhere, and listeners that come and go while the server runs.

use crate::support::{GRACE, block_on, connect, get, serve_targets, settings, target_of};
use engine::{Request, Server, Settings, Stop, bind};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::time::{Duration, Instant};
use testkit::RawClient;

fn any_port() -> SocketAddr {
    ([127, 0, 0, 1], 0).into()
}

fn targets() -> impl Fn() -> fn(Request) -> std::future::Ready<engine::Response> + Send + Sync + 'static {
    || |request: Request| std::future::ready(target_of(&request))
}

fn check_sharing(sockets: Vec<TcpListener>, workers: usize) {
    let settings = Settings { workers: Some(workers), ..settings() };
    let server = Server::new(settings).listen_on(sockets, targets()).unwrap();
    let connections = server.connections();
    let server = server.start(Stop::new(), GRACE).unwrap();
    let mut clients: Vec<RawClient> = (0..16).map(|_| connect(&server)).collect();
    for client in &mut clients {
        client.send(get("/here"));
        assert_eq!(client.read_response().text(), "GET /here");
    }
    // A connection is counted behind its first answer.
    let begun = Instant::now();
    while connections.open() < 16 && begun.elapsed() < Duration::from_secs(10) {
        std::thread::yield_now();
    }
    assert_eq!(connections.open(), 16);
}

#[test]
fn one_socket_serves_several_workers_and_several_sockets_one() {
    check_sharing(bind(any_port(), 1).unwrap(), 3);
    check_sharing(bind(any_port(), 3).unwrap(), 1);
    check_sharing(bind(any_port(), 3).unwrap(), 2);
}

#[test]
fn no_socket_at_all_is_refused() {
    assert!(Server::new(settings()).listen_on(Vec::new(), targets()).is_err());
}

#[test]
fn what_waits_in_the_queue_of_a_socket_is_served_by_the_one_that_takes_it_over() {
    let sockets = bind(any_port(), 1).unwrap();
    let kept = sockets[0].try_clone().unwrap();
    let first = Server::new(settings()).listen_on(sockets, targets()).unwrap().start(Stop::new(), GRACE).unwrap();
    let addr = first.local_addrs()[0];
    first.stop();
    first.join().unwrap();
    let mut early = RawClient::connect(addr); // nobody serves, and nobody is refused
    early.send(get("/early"));
    let second = Server::new(settings()).listen_on(vec![kept], targets()).unwrap().start(Stop::new(), GRACE).unwrap();
    assert_eq!(early.read_response().text(), "GET /early");
    drop(second);
}

/// Longer than any test: silent connections stay with the system.
const FOR_EVER: Duration = Duration::from_mins(1);

#[cfg(target_os = "linux")]
#[test]
fn the_server_hears_only_of_connections_that_say_something() {
    let server = Server::new(Settings { defer_accept: FOR_EVER, ..settings() });
    let server = server.listen(any_port(), targets()).unwrap();
    let connections = server.connections();
    let server = server.start(Stop::new(), GRACE).unwrap();
    let mut silent = connect(&server);
    let mut speaking = connect(&server);
    speaking.send(get("/first"));
    assert_eq!(speaking.read_response().text(), "GET /first");
    speaking.send(get("/second")); // whoever came before the first answer was sent is counted now
    assert_eq!(speaking.read_response().text(), "GET /second");
    assert_eq!(connections.open(), 1);
    silent.send(get("/third"));
    assert_eq!(silent.read_response().text(), "GET /third");
}

#[cfg(target_os = "linux")]
#[test]
fn a_silent_connection_is_heard_of_after_the_deferral() {
    let server = serve_targets(Settings { head_timeout: Duration::from_millis(50), ..settings() });
    let mut silent = connect(&server);
    silent.expect_close(); // its deadline began when it was accepted
}

#[cfg(target_os = "linux")]
#[test]
fn a_silent_connection_goes_over_with_its_listener() {
    let sockets = bind(any_port(), 1).unwrap();
    let kept = sockets[0].try_clone().unwrap();
    let settings = Settings { defer_accept: FOR_EVER, ..settings() };
    let first = Server::new(settings.clone()).listen_on(sockets, targets()).unwrap();
    let first = first.start(Stop::new(), GRACE).unwrap();
    let mut silent = connect(&first);
    first.stop();
    first.join().unwrap();
    let second = Server::new(settings).listen_on(vec![kept], targets()).unwrap().start(Stop::new(), GRACE).unwrap();
    silent.send(get("/late"));
    assert_eq!(silent.read_response().text(), "GET /late");
    drop(second);
}

#[test]
fn a_listener_that_was_deferred_before_is_not_where_that_is_not_wanted() {
    let sockets = bind(any_port(), 1).unwrap();
    let kept = sockets[0].try_clone().unwrap();
    let deferred = Settings { defer_accept: FOR_EVER, ..settings() };
    drop(Server::new(deferred).listen_on(sockets, targets()).unwrap());
    let at_once = Settings { defer_accept: Duration::ZERO, ..settings() };
    let server = Server::new(at_once).listen_on(vec![kept], targets()).unwrap();
    let connections = server.connections();
    let server = server.start(Stop::new(), GRACE).unwrap();
    let mut silent = connect(&server);
    while connections.open() == 0 {
        std::thread::yield_now();
    }
    server.stop();
    silent.expect_close(); // it is known, and so is told
    server.join().unwrap();
}

#[test]
fn a_listener_comes_and_goes_and_its_connections_stay() {
    let mut server = serve_targets(settings());
    let first = server.local_addrs()[0];
    let sockets = bind(any_port(), 2).unwrap();
    let second = sockets[0].local_addr().unwrap();
    block_on(server.listen_on(sockets, targets())).unwrap();
    assert_eq!(server.local_addrs(), [first, second]);
    let mut client = RawClient::connect(second);
    client.send(get("/one"));
    assert_eq!(client.read_response().text(), "GET /one");
    block_on(server.close(second));
    while TcpStream::connect(second).is_ok() {
        std::thread::yield_now(); // until the order has reached every worker
    }
    client.send(get("/two"));
    assert_eq!(client.read_response().text(), "GET /two");
    let mut other = connect(&server);
    other.send(get("/three"));
    assert_eq!(other.read_response().text(), "GET /three");
    server.stop();
    client.expect_close();
    server.join().unwrap();
}

#[test]
fn an_idle_connection_may_ask_once_more_after_the_stop_where_that_is_allowed() {
    let server = serve_targets(Settings { idle_grace: Duration::from_secs(5), ..settings() });
    let addr = server.local_addrs()[0];
    let mut client = connect(&server);
    client.send(get("/before"));
    assert_eq!(client.read_response().text(), "GET /before");
    server.stop();
    while TcpStream::connect(addr).is_ok() {
        std::thread::yield_now();
    }
    client.send(get("/after"));
    let last = client.read_response();
    assert_eq!((last.text(), last.field("connection")), ("GET /after", Some("close")));
    client.expect_close();
    server.join().unwrap();
}

#[test]
fn an_idle_connection_that_asks_nothing_more_is_closed_when_that_time_is_over() {
    let server = serve_targets(Settings { idle_grace: Duration::from_millis(50), ..settings() });
    let mut client = connect(&server);
    client.send(get("/before"));
    client.read_response();
    server.stop();
    client.expect_close();
    server.join().unwrap();
}
