//! Bad input gets a clear error with the right status or exit code; nothing panics, hangs or is lost.

use crate::support::Up;
use crate::support::http::{Caller, get, json, post_form};
use crate::support::process::Weaprous;
use serde_json::json;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::time::Duration;
use testkit::RawClient;

/// After whatever a test did, all three servers still answer and what was written is there.
fn still_well(up: &mut Up, caller: &Caller, texts: usize) {
    for addr in [up.proxy, up.backend] {
        assert_eq!(get(addr, "/login.html", &[]).status, 200);
    }
    assert_eq!(get(up.tracker, "/healthz", &[]).status, 200);
    assert_eq!(caller.log("general").len(), texts);
    let lines = up.process.lines().join("\n");
    assert!(!lines.contains("panicked"), "{lines}");
}

/// A member of general with one message there.
fn member(up: &Up) -> Caller {
    let caller = Caller::claim(up.tracker, "dave");
    caller.join("general");
    assert_eq!(caller.post("/send-message", &json!({ "channel": "general", "text": "here before" })).status, 201);
    caller
}

#[test]
fn malformed_requests_are_refused_by_all_three() {
    let folder = tempfile::tempdir().unwrap();
    let mut up = Up::start(folder.path());
    let caller = member(&up);
    let cases: [(&str, u16); 9] = [
        ("GET / HTTP/1.1\r\n\r\n", 400),
        ("GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", 400),
        ("GET /\x01 HTTP/1.1\r\nHost: a\r\n\r\n", 400),
        ("POST /login HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n", 400),
        ("POST /login HTTP/1.1\r\nHost: a\r\nContent-Length: -1\r\n\r\n", 400),
        ("GET / HTTP/3.0\r\nHost: a\r\n\r\n", 505),
        ("BREW / HTTP/1.1\r\nHost: a\r\n\r\n", 501),
        ("no http at all\r\n\r\n", 400),
        ("GET / HTTP/1.1\r\nHost: a\r\nX: \0\r\n\r\n", 400),
    ];
    for addr in [up.proxy, up.backend, up.tracker] {
        for (bytes, status) in cases {
            let mut client = RawClient::connect(addr);
            client.send(bytes);
            assert_eq!(client.read_response().status, status, "{bytes:?} at {addr}");
            client.expect_close();
        }
        let mut client = RawClient::connect(addr);
        client.send(format!("GET /{} HTTP/1.1\r\nHost: a\r\n\r\n", "a".repeat(10_000)));
        assert_eq!(client.read_response().status, 414);
    }
    still_well(&mut up, &caller, 1);
}

#[test]
fn wrong_json_and_impossible_names_are_named() {
    let folder = tempfile::tempdir().unwrap();
    let mut up = Up::start(folder.path());
    let caller = member(&up);
    let long = "n".repeat(10_000);
    let cases: [(&str, String); 14] = [
        ("/send-message", "{".to_owned()),
        ("/send-message", "[]".to_owned()),
        ("/send-message", r#"{"channel":5,"text":"x"}"#.to_owned()),
        ("/send-message", r#"{"channel":"general","text":7}"#.to_owned()),
        ("/send-message", r#"{"channel":"general"}"#.to_owned()),
        ("/send-message", r#"{"channel":"gen\u0000eral","text":"x"}"#.to_owned()),
        ("/send-message", json!({ "channel": long, "text": "x" }).to_string()),
        ("/send-message", json!({ "channel": "general", "text": "x".repeat(100_000) }).to_string()),
        ("/send-message", r#"{"channel":"nowhere","text":"x"}"#.to_owned()),
        ("/create-list", r#"{"channel":"two words"}"#.to_owned()),
        ("/create-list", json!({ "channel": long }).to_string()),
        ("/join-list", r#"{"channel":"\u001b[31mred"}"#.to_owned()),
        ("/submit-info", r#"{"username":"a\nb"}"#.to_owned()),
        ("/submit-info", json!({ "username": long }).to_string()),
    ];
    for (path, body) in cases {
        let response = caller.post_raw(path, &body);
        let shown: String = body.chars().take(80).collect();
        assert!((400..500).contains(&response.status), "{path} {shown} → {}", response.status);
        let problem = json(&response);
        assert_eq!(problem["status"], response.status, "{path} {shown}: a problem document");
        assert!(problem["detail"].as_str().is_some_and(|detail| !detail.is_empty()), "{path} {shown}: {problem}");
        assert!(!response.text().contains('\x1b') && response.body.len() < 2000, "what was sent is not echoed whole");
    }
    let long_form = format!("username={long}&password=long+enough+to+be+one");
    for form in ["username=a%00b&password=long+enough+to+be+one", long_form.as_str(), "password=x", ""] {
        let response = post_form(up.proxy, "/signup", form);
        assert!((400..500).contains(&response.status), "sign-up with {:.40} → {}", form, response.status);
    }
    still_well(&mut up, &caller, 1);
}

#[test]
fn a_forged_signature_is_refused_and_nothing_is_stored() {
    let folder = tempfile::tempdir().unwrap();
    let mut up = Up::start(folder.path());
    let caller = member(&up);
    let page = caller.get("/get-messages?channel=general&after=0");
    let genuine = page["messages"].as_array().unwrap().last().unwrap().clone();
    let forged = genuine["envelope"].as_str().unwrap().replace("here before", "never said this");
    let body = json!({ "envelopes": [{ "envelope": forged, "signature": genuine["signature"] }] });
    let response = caller.post("/api/v1/channels/general/envelopes", &body);
    let answer = json(&response);
    assert!(
        response.status >= 400 || answer["results"][0]["error"].is_string(),
        "a forged signature is refused: {} {answer}",
        response.status
    );
    still_well(&mut up, &caller, 1);
}

#[test]
fn a_peer_that_speaks_garbage_or_stalls_does_not_disturb_a_client() {
    let folder = tempfile::tempdir().unwrap();
    let mut up = Up::start(folder.path());
    let caller = member(&up);
    let mut alice = crate::support::chat("Alice", &format!("http://{}", up.tracker), folder.path(), &[]);
    let listening = alice.listening();

    let mut garbage = TcpStream::connect(listening).unwrap();
    garbage.write_all(&vec![0x41; 70_000]).ok();
    garbage.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    let mut rest = Vec::new();
    let _ = garbage.read_to_end(&mut rest);
    let _stalled: Vec<TcpStream> = (0..20).map(|_| TcpStream::connect(listening).unwrap()).collect();

    alice.process.type_line("still here");
    caller_sees(&caller, "still here");
    still_well(&mut up, &caller, 2);
}

/// Polls the log until `text` is there.
fn caller_sees(caller: &Caller, text: &str) {
    let end = std::time::Instant::now() + Duration::from_secs(20);
    while !caller.log("general").iter().any(|(_, _, logged)| logged == text) {
        assert!(std::time::Instant::now() < end, "{text:?} never reached the log");
        std::thread::yield_now();
    }
}

#[test]
fn a_port_in_use_is_named() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port().to_string();
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().to_str().unwrap();
    for command in ["backend", "tracker"] {
        let (status, printed) = Weaprous::start([command, "--data-dir", data, "--server-port", &port].iter()).end();
        assert_eq!(status.code(), Some(3), "{command}: {printed}");
        assert!(printed.contains(&port) && printed.contains("--server-port"), "{command}: {printed}");
    }
    let args = ["up", "--data-dir", data, "--proxy-port", &port, "--backend-port", "0", "--tracker-port", "0"];
    let (status, printed) = Weaprous::start(args.iter()).end();
    assert_eq!(status.code(), Some(3), "{printed}");
    assert!(printed.contains(&port) && printed.contains("--proxy-port"), "{printed}");
}

#[test]
fn an_unusable_data_directory_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("a-file");
    std::fs::write(&file, "not a folder").unwrap();
    let corrupt = folder.path().join("corrupt");
    std::fs::create_dir(&corrupt).unwrap();
    for name in ["weaprous.db", "store.db", "tracker.db"] {
        std::fs::write(corrupt.join(name), "this is not a database, but longer than a header would be".repeat(50))
            .unwrap();
    }
    for path in [file.as_path(), corrupt.as_path()] {
        let shown = path.to_str().unwrap();
        let (status, printed) = Weaprous::start(["tracker", "--data-dir", shown, "--server-port", "0"].iter()).end();
        assert_eq!(status.code(), Some(4), "{printed}");
        assert!(printed.contains(shown), "{printed}");
    }
}

#[test]
fn a_second_tracker_on_one_data_directory_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().to_str().unwrap();
    let first = crate::support::Tracker::start(folder.path(), 0);
    let (status, printed) = Weaprous::start(["tracker", "--data-dir", data, "--server-port", "0"].iter()).end();
    assert_eq!(status.code(), Some(4), "{printed}");
    assert!(printed.contains("another tracker") && printed.contains(data), "{printed}");
    assert_eq!(get(first.addr, "/healthz", &[]).status, 200, "the first one goes on");
}

#[test]
fn a_corrupt_config_line_is_shown_with_its_place() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("proxy.conf");
    std::fs::write(&file, "host \"a.local\" {\n    proxy_pas http://127.0.0.1:9000;\n}\n").unwrap();
    let args = ["proxy", "--server-port", "0", "--config", file.to_str().unwrap()];
    let (status, printed) = Weaprous::start(args.iter()).end();
    assert_eq!(status.code(), Some(2), "{printed}");
    assert!(printed.contains("proxy.conf:2:5"), "{printed}");
    assert!(printed.contains("expected") && printed.contains("proxy_pass"), "{printed}");
}

#[test]
fn wrong_arguments_are_explained() {
    let cases: [&[&str]; 5] = [
        &["chat", "--username", "two words"],
        &["chat", "--username", "Alice", "--tracker", "not a url"],
        &["up", "--demo", "--server-ip", "0.0.0.0"],
        &["up", "--proxy-port", "70000"],
        &["uup"],
    ];
    for args in cases {
        let (status, printed) = Weaprous::start(args.iter()).end();
        assert_eq!(status.code(), Some(2), "{args:?}: {printed}");
        assert!(!printed.is_empty() && !printed.contains("panicked"), "{args:?}: {printed}");
    }
}

#[test]
fn a_server_that_is_no_tracker_is_called_that() {
    let folder = tempfile::tempdir().unwrap();
    let up = Up::start(folder.path());
    let backend = format!("http://{}", up.backend);
    let mut alice = crate::support::chat("Alice", &backend, folder.path(), &[]);
    alice.process.wait_for_text("is not a tracker");
    assert_eq!(alice.process.end().0.code(), Some(1));
}

#[test]
fn demo_refuses_the_network_and_its_data_elsewhere() {
    let folder = tempfile::tempdir().unwrap();
    drop(Up::start(folder.path()));
    let data = folder.path().to_str().unwrap();
    let (status, printed) = Weaprous::start(["up", "--data-dir", data, "--server-ip", "0.0.0.0"].iter()).end();
    assert_eq!(status.code(), Some(2), "{printed}");
    assert!(printed.contains("--demo"), "a folder with the demo account is not served to a network: {printed}");
}

#[test]
fn a_stop_is_orderly() {
    let folder = tempfile::tempdir().unwrap();
    let up = Up::start(folder.path());
    let _idle: SocketAddr = RawClient::connect(up.proxy).stream().peer_addr().unwrap();
    up.process.signal("TERM");
    let (status, printed) = up.process.end();
    assert_eq!(status.code(), Some(0), "{printed}");
}
