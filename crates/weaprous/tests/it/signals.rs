//! A server that ends at a signal.

use std::io::Write;
use std::net::TcpStream;
use std::process::Command;
use testkit::RawClient;
use weaprous::prelude::*;

/// Sends this process SIGTERM, as a service manager does, once the server answers: then signals are watched.
#[test]
fn a_server_ends_at_a_signal_and_finishes_what_it_began() {
    let hold = async || {
        tokio::task::yield_now().await;
        let me = std::process::id().to_string();
        assert!(Command::new("kill").args(["-TERM", &me]).status().unwrap().success());
        "answered"
    };
    let bound = App::new().route("/", [GET], hold).prepare_address("127.0.0.1", 0).unwrap();
    let addr = bound.local_addr();
    let serving = std::thread::spawn(move || bound.run_until_signal());
    let mut client = RawClient::connect(addr);
    client.send("GET / HTTP/1.1\r\nHost: test\r\n\r\n");
    assert_eq!(client.read_response().text(), "answered");
    client.expect_close();
    serving.join().unwrap().unwrap();
    let refused = TcpStream::connect(addr).and_then(|mut stream| stream.write_all(b"x"));
    assert!(refused.is_err(), "nobody listens any more");
}
