//! The client over TLS: whom it believes, what it says otherwise, and that connections are kept as without.

use crate::client::{get, request};
use crate::support::{accept, block_on, scripted, settings, target_of};
use crate::tls_support::{Authority, serve_tls, serve_with};
use bytes::Bytes;
use engine::{
    Answer, Body, CertificateFiles, Client, ClientAuth, ClientErrorKind, ClientSettings, ClientTls, HandshakeError,
    Method, Request, Response, Running, StatusCode, Tls, TlsSettings, Trust,
};
use rcgen::{CertificateParams, KeyPair};
use std::io::{Read as _, Write as _};
use std::net::SocketAddr;
use std::time::Duration;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

fn believing(authority: &Authority) -> ClientTls {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("ca.crt");
    std::fs::write(&file, &authority.pem).unwrap();
    ClientTls::new(&Trust::File(file)).unwrap()
}

fn client(tls: &ClientTls) -> Client {
    Client::new(ClientSettings::default()).over_tls(tls.clone())
}

/// Asks the server for a host that its certificate is for.
async fn fetch(client: &Client, addr: SocketAddr, target: &str) -> String {
    let mut request = get(target);
    request.fields.set("host", "localhost").unwrap();
    let (_, body) = client.send(addr, request).await.unwrap();
    String::from_utf8(body.collect(u64::MAX).await.unwrap().to_vec()).unwrap()
}

async fn refusal(client: &Client, addr: SocketAddr) -> HandshakeError {
    let error = client.send(addr, get("/")).await.expect_err("nobody is to be talked to");
    assert!(error.is_connect() && error.can_retry, "{error}");
    match error.kind {
        ClientErrorKind::Tls(error) => error,
        other => panic!("{other}"),
    }
}

/// Answers with the client's address, so that connections can be told apart, and the name it asked for.
fn who(settings: engine::Settings) -> (Running, Authority) {
    serve_tls(settings, || {
        |request: Request| async move {
            let name = request.peer().tls.as_ref().and_then(|tls| tls.server_name.clone());
            Response::text(StatusCode::OK, format!("{} {}", request.peer_addr(), name.unwrap_or_default()))
        }
    })
}

#[test]
fn a_connection_is_used_again_and_only_for_the_same_name() {
    let (server, authority) = who(settings());
    let addr = server.local_addrs()[0];
    block_on(async {
        let tls = believing(&authority);
        let client = client(&tls);
        let first = fetch(&client, addr, "/").await;
        assert!(first.ends_with(' '), "an address is no server name: {first}");
        for _ in 0..5 {
            assert_eq!(fetch(&client, addr, "/").await, first, "another connection");
        }
        let by_name = client.over_tls(tls.named("localhost").unwrap());
        let named = fetch(&by_name, addr, "/").await;
        assert!(named.ends_with(" localhost"), "{named}");
        let again = client.over_tls(tls.named("localhost").unwrap());
        assert_eq!(fetch(&again, addr, "/").await, named, "the same name, the same connection");
        assert_eq!(fetch(&client, addr, "/").await, first);
        assert_eq!(client.idle_connections(), 2);
    });
}

#[test]
fn large_content_goes_both_ways() {
    let (server, authority) = serve_tls(settings(), || {
        |mut request: Request| async move {
            request.body.set_limit(u64::MAX);
            Response::new(StatusCode::OK).with_body(request.body)
        }
    });
    let addr = server.local_addrs()[0];
    block_on(async {
        let client = client(&believing(&authority));
        for size in [0, 1, 20_000, 3_000_000] {
            let bytes = Bytes::from((0..size).map(|at| (at % 251) as u8).collect::<Vec<_>>());
            let (_, body) = client.send(addr, request(Method::Post, "/", bytes.clone())).await.unwrap();
            assert_eq!(body.collect(u64::MAX).await.unwrap(), bytes, "{size} bytes");
        }
        assert_eq!(client.idle_connections(), 1);
    });
}

#[test]
fn a_protocol_may_be_switched_to() {
    let (server, authority) = serve_tls(settings(), || {
        |request: Request| async move {
            request.upgrade("echo/1", |mut stream| async move {
                let mut word = [0; 5];
                stream.read_exact(&mut word).await.unwrap();
                stream.write_all(&word).await.unwrap();
                stream.shutdown().await.unwrap();
            })
        }
    });
    let addr = server.local_addrs()[0];
    block_on(async {
        let mut offer = get("/");
        offer.fields.append("upgrade", "echo/1").unwrap();
        let Answer::Upgraded(head, mut stream) = client(&believing(&authority)).upgrade(addr, offer).await.unwrap()
        else {
            panic!("no upgrade");
        };
        assert_eq!(head.status().as_u16(), 101);
        stream.write_all(b"hello").await.unwrap();
        stream.flush().await.unwrap();
        let mut echo = String::new();
        stream.read_to_string(&mut echo).await.unwrap();
        assert_eq!(echo, "hello");
    });
}

#[test]
fn a_kept_connection_that_was_closed_is_replaced() {
    let quick = engine::Settings { keep_alive_timeout: Duration::from_millis(50), ..settings() };
    let (server, authority) = who(quick);
    let addr = server.local_addrs()[0];
    block_on(async {
        let client = client(&believing(&authority));
        let first = fetch(&client, addr, "/").await;
        let mut last = first.clone();
        while last == first {
            tokio::task::yield_now().await;
            tokio::time::sleep(Duration::from_millis(100)).await; // until the server has closed it
            last = fetch(&client, addr, "/").await;
        }
    });
}

#[test]
fn a_server_is_believed_only_for_a_reason() {
    let (server, authority) = who(settings());
    let addr = server.local_addrs()[0];
    block_on(async {
        let stranger = refusal(&client(&believing(&Authority::new())), addr).await;
        assert!(matches!(stranger, HandshakeError::Untrusted), "{stranger}");
        let public = refusal(&client(&ClientTls::new(&Trust::Public).unwrap()), addr).await;
        assert!(matches!(public, HandshakeError::Untrusted), "{public}");
        let other = refusal(&client(&believing(&authority).named("other.example").unwrap()), addr).await;
        assert_eq!(other.to_string(), "its certificate is not for other.example");
        let anybody = client(&ClientTls::new(&Trust::Anybody).unwrap().named("other.example").unwrap());
        assert!(fetch(&anybody, addr, "/").await.ends_with(" other.example"));
    });
}

/// A server with a certificate of these days; the years are of the common era.
fn dated(authority: &Authority, from: i32, until: i32) -> Running {
    let folder = tempfile::tempdir().unwrap();
    let files = CertificateFiles { chain: folder.path().join("crt"), key: folder.path().join("key") };
    let key = KeyPair::generate().unwrap();
    let mut params = CertificateParams::new(vec!["127.0.0.1".to_owned()]).unwrap();
    params.not_before = rcgen::date_time_ymd(from, 1, 1);
    params.not_after = rcgen::date_time_ymd(until, 1, 1);
    std::fs::write(&files.chain, authority.sign_with(&params, &key)).unwrap();
    std::fs::write(&files.key, key.serialize_pem()).unwrap();
    let tls = Tls::new(TlsSettings::many(vec![files])).unwrap();
    serve_with(settings(), &tls, || |request: Request| async move { target_of(&request) })
}

#[test]
fn a_certificate_out_of_its_time_is_refused() {
    let authority = Authority::new();
    let (past, future) = (dated(&authority, 2000, 2001), dated(&authority, 2900, 2901));
    block_on(async {
        let client = client(&believing(&authority));
        let past = refusal(&client, past.local_addrs()[0]).await;
        assert!(matches!(past, HandshakeError::Expired), "{past}");
        let future = refusal(&client, future.local_addrs()[0]).await;
        assert!(matches!(future, HandshakeError::NotYetValid), "{future}");
    });
}

#[test]
fn servers_without_tls_and_servers_that_say_nothing_are_named() {
    let (plain, script) = scripted(|listener| {
        let mut socket = accept(listener);
        socket.read_exact(&mut [0; 16]).unwrap();
        socket.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n").unwrap();
    });
    let (silent, other) = scripted(|listener| {
        let mut socket = accept(listener);
        let mut hello = Vec::new();
        let _ = socket.read_to_end(&mut hello);
    });
    block_on(async {
        let authority = Authority::new();
        let error = refusal(&client(&believing(&authority)), plain).await;
        assert!(matches!(error, HandshakeError::NotTls), "{error}");
        let settings = ClientSettings { connect_timeout: Duration::from_millis(100), ..ClientSettings::default() };
        let hasty = Client::new(settings).over_tls(believing(&authority));
        let error = hasty.send(silent, get("/")).await.expect_err("nobody answers");
        assert!(error.is_timeout() && error.is_connect(), "{error}");
    });
    script.join().unwrap();
    other.join().unwrap();
}

#[test]
fn a_server_that_wants_a_certificate_of_ours_is_named() {
    let (authority, folder) = (Authority::new(), tempfile::tempdir().unwrap());
    let authorities = folder.path().join("ca.crt");
    std::fs::write(&authorities, &authority.pem).unwrap();
    let mut settings_of_tls = TlsSettings::many(vec![authority.write(folder.path(), "server", &["127.0.0.1"])]);
    settings_of_tls.client_auth = ClientAuth::Required { authorities };
    let tls = Tls::new(settings_of_tls).unwrap();
    let server = serve_with(settings(), &tls, || |request: Request| async move { target_of(&request) });
    block_on(async {
        // With TLS 1.3 the refusal comes after the client's part is done: in place of the answer.
        let error = client(&believing(&authority)).send(server.local_addrs()[0], get("/")).await;
        let error = error.expect_err("it wants a certificate");
        assert!(error.to_string().contains("CertificateRequired"), "{error}");
    });
}

#[test]
fn what_is_no_name_is_refused_and_files_are_named() {
    let tls = ClientTls::new(&Trust::Anybody).unwrap();
    for name in ["", "a b", "*.example.org", "http://x", "[::1"] {
        assert!(tls.named(name).is_err(), "{name}");
    }
    for name in ["a.example", "localhost", "127.0.0.1", "::1", "[::1]"] {
        assert!(tls.named(name).is_ok(), "{name}");
    }
    let missing = ClientTls::new(&Trust::File("/nowhere/ca.crt".into())).expect_err("there is no such file");
    assert!(missing.to_string().contains("/nowhere/ca.crt"), "{missing}");
    let empty = tempfile::NamedTempFile::new().unwrap();
    let empty = ClientTls::new(&Trust::File(empty.path().to_owned())).expect_err("it is empty");
    assert!(empty.to_string().contains("holds no certificate"), "{empty}");
}

#[test]
fn the_last_answer_of_a_connection_ends_with_a_goodbye() {
    let (server, authority) = who(settings());
    let mut client = authority.client().connect(server.local_addrs()[0], "localhost").unwrap();
    client.send("GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
    assert_eq!(client.read_answer().unwrap().status, 200);
    let mut rest = Vec::new();
    client.stream.read_to_end(&mut rest).expect("TLS says that this is the end");
    assert!(rest.is_empty());
}

#[test]
fn a_response_cut_short_is_no_whole_response() {
    let (server, authority) = serve_tls(settings(), || {
        |_: Request| async move {
            let (sender, body) = Body::channel();
            tokio::task::spawn_local(async move {
                sender.send("half").await.unwrap();
                sender.fail("it breaks").await;
            });
            Response::new(StatusCode::OK).with_body(body)
        }
    });
    block_on(async {
        let client = client(&believing(&authority));
        let (_, body) = client.send(server.local_addrs()[0], get("/")).await.unwrap();
        assert!(body.collect(u64::MAX).await.is_err());
        assert_eq!(client.idle_connections(), 0);
    });
}
