//! TLS listeners: handshakes, certificates by name, reloading, client certificates.

use crate::support::{connect, settings, target_of};
use crate::tls_support::{Answer, Authority, Setup, TlsClient, serve_tls, serve_with};
use engine::{ClientAuth, Request, Response, Running, Settings, StatusCode, Tls, TlsSettings};
use std::future::ready;
use std::net::SocketAddr;
use std::time::Duration;

const SHORT: Duration = Duration::from_millis(200);
/// The deadline for heads holds for the handshake too, which takes a busy machine a while.
const HANDSHAKE: Duration = Duration::from_secs(1);

/// Tells what the service knows about the connection.
fn about(request: &Request) -> Response {
    let peer = request.peer();
    let Some(tls) = &peer.tls else { return Response::text(StatusCode::OK, "plain") };
    let name = tls.server_name.as_deref().unwrap_or("-");
    let alpn = tls.alpn.as_deref().map_or("-".into(), String::from_utf8_lossy);
    let client = tls.client_certificate.is_some();
    Response::text(StatusCode::OK, format!("{name} {alpn} {client} {}", peer.is_secure()))
}

fn serve_about(tls: &Tls) -> Running {
    serve_with(settings(), tls, || |request: Request| ready(about(&request)))
}

fn addr(server: &Running) -> SocketAddr {
    server.local_addrs()[0]
}

#[test]
fn http1_is_spoken_over_both_versions_of_tls() {
    let (server, authority) = serve_tls(settings(), || |request: Request| ready(about(&request)));
    for version in [&rustls::version::TLS12, &rustls::version::TLS13] {
        let setup = authority.client().with_version(version).with_alpn(&[b"http/1.1"]);
        let mut client = setup.connect(addr(&server), "localhost").unwrap();
        assert_eq!(client.get("localhost", "/").text(), "localhost http/1.1 false true");
        assert_eq!(client.get("localhost", "/").status, 200, "the connection lives on");
    }
    let mut without_alpn = authority.client().connect(addr(&server), "127.0.0.1").unwrap();
    assert_eq!(without_alpn.get("127.0.0.1", "/").text(), "- - false true");
}

#[test]
fn content_is_streamed_both_ways() {
    let (server, authority) = serve_tls(settings(), || {
        |request: Request| async move {
            match request.body.collect(4 << 20).await {
                Ok(content) => Response::new(StatusCode::OK).with_body(content),
                Err(error) => Response::text(error.status(), error.to_string()),
            }
        }
    });
    let mut client = authority.client().connect(addr(&server), "localhost").unwrap();
    let content: Vec<u8> = (0..1_500_000_u32).map(|number| (number % 251) as u8).collect();
    client.send(format!("POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: {}\r\n\r\n", content.len()));
    client.send(&content);
    assert!(client.read_answer().unwrap().body == content, "the content comes back as it was");
}

#[test]
fn the_certificate_is_chosen_by_name() {
    let folder = tempfile::tempdir().unwrap();
    let authority = Authority::new();
    let files = [
        authority.write(folder.path(), "default", &["default.test", "127.0.0.1"]),
        authority.write(folder.path(), "exact", &["exact.test", "also.test"]),
        authority.write(folder.path(), "wild", &["*.wild.test"]),
        authority.write(folder.path(), "special", &["special.wild.test"]),
    ];
    let tls = Tls::new(TlsSettings::many(files.to_vec())).unwrap();
    let server = serve_about(&tls);
    // The client verifies the name, so that a connection shows that the right certificate came.
    for name in
        ["default.test", "exact.test", "also.test", "EXACT.test", "a.wild.test", "special.wild.test", "127.0.0.1"]
    {
        authority.client().connect(addr(&server), name).unwrap_or_else(|error| panic!("{name}: {error}"));
    }
    for name in ["unknown.test", "wild.test", "a.b.wild.test"] {
        assert!(authority.client().connect(addr(&server), name).is_err(), "{name} got the default certificate");
    }
    let presented = |name| authority.client().connect(addr(&server), name).unwrap().certificate();
    assert_ne!(presented("special.wild.test"), presented("a.wild.test"), "an exact name goes before a wildcard");
}

#[test]
fn a_host_that_is_not_the_server_name_is_421() {
    let folder = tempfile::tempdir().unwrap();
    let authority = Authority::new();
    let files = [
        authority.write(folder.path(), "one", &["one.test", "alias.test", "127.0.0.1"]),
        authority.write(folder.path(), "two", &["two.test"]),
    ];
    let tls = Tls::new(TlsSettings::many(files.to_vec())).unwrap();
    let server = serve_about(&tls);
    let check = |server_name: &str, host: &str, expect: u16| {
        let mut client = authority.client().connect(addr(&server), server_name).unwrap();
        assert_eq!(client.get(host, "/").status, expect, "{server_name} → {host}");
        assert_eq!(client.get(server_name, "/").status, 200, "the connection is still good for its own name");
    };
    check("one.test", "one.test", 200);
    check("one.test", "ONE.test:8443", 200);
    check("one.test", "alias.test", 200); // the same certificate covers it
    check("one.test", "two.test", 421); // another certificate covers it
    check("one.test", "nowhere.test", 421);
    check("two.test", "one.test", 421);
    check("two.test", "127.0.0.1", 421);
    check("127.0.0.1", "127.0.0.1:8443", 200);
    check("127.0.0.1", "two.test", 421); // no name was asked for, but another certificate covers the host
    check("127.0.0.1", "nowhere.test", 200); // nobody here knows better
}

#[test]
fn changed_files_are_loaded_and_open_connections_go_on() {
    let folder = tempfile::tempdir().unwrap();
    let authority = Authority::new();
    let files = authority.write(folder.path(), "server", &["localhost"]);
    let tls =
        Tls::new(TlsSettings { reload_period: Duration::from_millis(20), ..TlsSettings::many(vec![files]) }).unwrap();
    let server = serve_about(&tls);
    let mut before = authority.client().connect(addr(&server), "localhost").unwrap();
    let old = before.certificate();
    authority.write(folder.path(), "server", &["localhost"]);
    until(|| authority.client().connect(addr(&server), "localhost").unwrap().certificate() != old);
    assert_eq!(before.get("localhost", "/").status, 200);
}

#[tokio::test]
async fn whoever_watches_files_for_nobody_stops() {
    let folder = tempfile::tempdir().unwrap();
    let files = Authority::new().write(folder.path(), "server", &["localhost"]);
    let settings = TlsSettings { reload_period: Duration::from_millis(5), ..TlsSettings::many(vec![files]) };
    let tls = Tls::new(settings).unwrap();
    let mut watching = Box::pin(tls.clone().watch());
    let some_periods = Duration::from_millis(50);
    assert!(tokio::time::timeout(some_periods, &mut watching).await.is_err(), "it goes on while somebody has them");
    drop(tls);
    tokio::time::timeout(Duration::from_secs(10), watching).await.expect("it ends");
}

#[test]
fn sighup_loads_the_files_again() {
    let folder = tempfile::tempdir().unwrap();
    let authority = Authority::new();
    let files = authority.write(folder.path(), "server", &["localhost"]);
    let tls =
        Tls::new(TlsSettings { reload_period: Duration::from_hours(1), ..TlsSettings::many(vec![files]) }).unwrap();
    let server = serve_about(&tls);
    let presented = || authority.client().connect(addr(&server), "localhost").unwrap().certificate();
    let old = presented(); // answered: the server runs, and so does what waits for the signal
    authority.write(folder.path(), "server", &["localhost"]);
    until(|| {
        rustix::process::kill_process(rustix::process::getpid(), rustix::process::Signal::HUP).unwrap();
        presented() != old
    });
}

#[test]
fn a_bad_new_file_changes_nothing_and_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let authority = Authority::new();
    let files = authority.write(folder.path(), "server", &["localhost"]);
    let tls = Tls::new(TlsSettings::many(vec![files.clone()])).unwrap();
    let server = serve_about(&tls);
    let presented = || authority.client().connect(addr(&server), "localhost").unwrap().certificate();
    let old = presented();
    let (other_chain, other_key) = authority.sign(&["localhost"]);
    let good_key = std::fs::read(&files.key).unwrap();
    let check = |path: &std::path::Path, content: &[u8], expect: &str| {
        std::fs::write(path, content).unwrap();
        let error = tls.reload().unwrap_err().to_string();
        assert!(error.contains(expect) && error.contains(&path.display().to_string()), "{error}");
        assert_eq!(presented(), old);
    };
    check(&files.key, other_key.as_bytes(), "is not the key of the certificate");
    check(&files.key, b"nonsense", "holds no private key");
    check(&files.key, b"", "holds no private key");
    std::fs::write(&files.key, good_key).unwrap();
    check(&files.chain, b"nonsense", "holds no certificate");
    std::fs::remove_file(&files.chain).unwrap();
    assert!(tls.reload().unwrap_err().to_string().contains("server.crt"));
    assert_eq!(presented(), old);
    std::fs::write(&files.chain, other_chain).unwrap();
    std::fs::write(&files.key, other_key).unwrap();
    tls.reload().unwrap();
    assert_ne!(presented(), old);
}

#[test]
fn clients_prove_who_they_are_where_that_is_asked_for() {
    let folder = tempfile::tempdir().unwrap();
    let (authority, strangers) = (Authority::new(), Authority::new());
    let files = authority.write(folder.path(), "server", &["localhost"]);
    let clients = Authority::new();
    let authorities = folder.path().join("clients.crt");
    std::fs::write(&authorities, &clients.pem).unwrap();
    let known = || authority.client().with_own(clients.sign(&["alice"]));
    let unknown = || authority.client().with_own(strangers.sign(&["mallory"]));
    let check = |client_auth: ClientAuth, setup: Setup, expect: Option<&str>| {
        let tls = Tls::new(TlsSettings { client_auth, ..TlsSettings::many(vec![files.clone()]) }).unwrap();
        let server = serve_about(&tls);
        // With TLS 1.3 the client learns that it was refused when it reads.
        let answer = setup.connect(addr(&server), "localhost").and_then(|mut client| {
            client.try_send("GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")?;
            client.read_answer()
        });
        assert_eq!(answer.ok().as_ref().map(Answer::text), expect);
    };
    let optional = || ClientAuth::Optional { authorities: authorities.clone() };
    let required = || ClientAuth::Required { authorities: authorities.clone() };
    check(ClientAuth::None, known(), Some("localhost - false true"));
    check(optional(), authority.client(), Some("localhost - false true"));
    check(optional(), known(), Some("localhost - true true"));
    check(optional(), unknown(), None);
    check(required(), authority.client(), None);
    check(required(), known(), Some("localhost - true true"));
    check(required(), unknown(), None);
}

#[test]
fn sessions_are_resumed() {
    let (server, authority) = serve_tls(settings(), || |request: Request| ready(about(&request)));
    for version in [&rustls::version::TLS12, &rustls::version::TLS13] {
        let setup = authority.client().with_version(version).remembering();
        let shake = || {
            let mut client = setup.connect(addr(&server), "localhost").unwrap();
            assert_eq!(client.get("localhost", "/").status, 200);
            client.stream.conn.handshake_kind()
        };
        assert_eq!(shake(), Some(rustls::HandshakeKind::Full));
        assert_eq!(shake(), Some(rustls::HandshakeKind::Resumed));
    }
}

#[test]
fn a_handshake_has_a_deadline() {
    let (server, _) =
        serve_tls(Settings { head_timeout: SHORT, ..settings() }, || |request: Request| ready(about(&request)));
    connect(&server).expect_close();
    let mut begun = connect(&server);
    begun.send([0x16, 3, 1, 2, 0, 1]);
    begun.expect_close();
}

#[test]
fn who_forgets_the_s_is_told() {
    let (server, _) = serve_tls(settings(), || |request: Request| ready(about(&request)));
    let mut client = connect(&server);
    client.send("GET / HTTP/1.1\r\nHost: localhost\r\n\r\n");
    let response = client.read_response();
    assert_eq!(response.status, 400);
    assert!(response.text().contains("https://"), "{}", response.text());
    client.expect_close();
}

#[test]
fn the_limits_of_http1_hold_over_tls() {
    let (server, authority) =
        serve_tls(Settings { head_timeout: HANDSHAKE, ..settings() }, || |request: Request| ready(target_of(&request)));
    let mut slow = authority.client().connect(addr(&server), "localhost").unwrap();
    slow.send("GET / HTTP/1.1\r\nHost: localhost\r\nX-Slow: ");
    assert_eq!(slow.read_answer().unwrap().status, 408);
    let mut malformed = authority.client().connect(addr(&server), "localhost").unwrap();
    malformed.send("GET / HTTP/1.1\r\nHost: localhost\r\nBroken : x\r\n\r\n");
    assert_eq!(malformed.read_answer().unwrap().status, 400);
    malformed.expect_close();
}

#[test]
fn a_stop_ends_idle_connections_and_handshakes_at_once() {
    let (server, authority) = serve_tls(settings(), || |request: Request| ready(about(&request)));
    let mut idle = authority.client().connect(addr(&server), "localhost").unwrap();
    assert_eq!(idle.get("localhost", "/").status, 200);
    let mut begun = connect(&server);
    begun.send([0x16, 3, 1]);
    server.stop();
    idle.expect_close();
    begun.expect_close();
    server.join().unwrap();
}

#[test]
fn several_requests_at_once_are_answered_in_order() {
    let (server, authority) = serve_tls(settings(), || |request: Request| ready(target_of(&request)));
    let mut client: TlsClient = authority.client().connect(addr(&server), "localhost").unwrap();
    client.send("GET /1 HTTP/1.1\r\nHost: localhost\r\n\r\nGET /2 HTTP/1.1\r\nHost: localhost\r\n\r\n");
    assert_eq!(client.read_answer().unwrap().text(), "GET /1");
    assert_eq!(client.read_answer().unwrap().text(), "GET /2");
}

/// Tries again until it is so; each try is a whole connection.
fn until(is_so: impl Fn() -> bool) {
    let started = std::time::Instant::now();
    while !is_so() {
        assert!(started.elapsed() < Duration::from_secs(10), "it never came to be so");
    }
}
