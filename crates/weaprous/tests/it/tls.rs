//! Applications behind TLS of their own, over HTTP/1.1 and HTTP/2.

use crate::support::GRACE;
use bytes::Bytes;
use engine::{Running, Server, Settings, Stop, Tls, TlsSettings};
use h2::client::SendRequest;
use h2::ext::Protocol;
use h2::{RecvStream, SendStream};
use rustls::pki_types::{CertificateDer, ServerName};
use std::io::{Read, Write};
use std::time::Duration;
use tokio_rustls::TlsConnector;
use tungstenite::protocol::Role;
use tungstenite::{Message as Frame, WebSocket as Peer};
use weaprous::prelude::*;
use weaprous::websocket::WebSocketUpgrade;

/// A server with a certificate for `localhost`, and that certificate.
fn secure(app: App) -> (Running, CertificateDer<'static>) {
    let folder = tempfile::tempdir().unwrap();
    let signed = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
    let (chain, key) = (folder.path().join("server.crt"), folder.path().join("server.key"));
    std::fs::write(&chain, signed.cert.pem()).unwrap();
    std::fs::write(&key, signed.signing_key.serialize_pem()).unwrap();
    let tls = Tls::new(TlsSettings::new(chain, key)).unwrap();
    let settings = Settings { workers: Some(1), ..Settings::default() };
    let any_port = "127.0.0.1:0".parse().unwrap();
    let server = Server::new(settings).listen_tls(any_port, tls, app.into_service().unwrap()).unwrap();
    (server.start(Stop::new(), GRACE).unwrap(), signed.cert.der().clone())
}

fn block_on<T>(future: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async { tokio::time::timeout(Duration::from_secs(20), future).await.expect("in time") })
}

/// A client over HTTP/2; its connection runs beside it.
async fn http2(server: &Running, certificate: &CertificateDer<'_>) -> SendRequest<Bytes> {
    let socket = tokio::net::TcpStream::connect(server.local_addrs()[0]).await.unwrap();
    let connector = TlsConnector::from(testkit::tls::client(certificate, b"h2"));
    let stream = connector.connect(ServerName::try_from("localhost").unwrap(), socket).await.unwrap();
    let (sender, connection) = h2::client::handshake(stream).await.unwrap();
    tokio::spawn(async move {
        let _ = connection.await; // tests look at what their streams say
    });
    sender.ready().await.unwrap()
}

async fn read(stream: &mut RecvStream) -> Option<Bytes> {
    let data = stream.data().await?.unwrap();
    stream.flow_control().release_capacity(data.len()).unwrap();
    Some(data)
}

/// What a handler knows of the connection; the proxy's word for it counts as well, that of strangers does not.
fn telling() -> App {
    App::new().route("/", [GET], async |request: Request| format!("{} {}", request.is_secure(), request.head.version()))
}

#[test]
fn a_handler_knows_that_its_connection_is_encrypted() {
    let (server, certificate) = secure(telling());
    let addr = server.local_addrs()[0];
    let mut client = testkit::tls::connect(addr, &certificate, "localhost", b"http/1.1").unwrap();
    client.write_all(b"GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").unwrap();
    let mut answer = String::new();
    client.read_to_string(&mut answer).unwrap();
    assert!(answer.ends_with("\r\n\r\ntrue HTTP/1.1"), "{answer}");
    block_on(async {
        let mut sender = http2(&server, &certificate).await;
        let asked = http::Request::get("https://localhost/").body(()).unwrap();
        let mut content = sender.send_request(asked, true).unwrap().0.await.unwrap().into_body();
        assert_eq!(read(&mut content).await.unwrap(), "true HTTP/2.0");
    });
    let plain = crate::support::serve(telling());
    assert_eq!(crate::support::get(&plain, "/", &[]).text(), "false HTTP/1.1");
    let told = crate::support::get(&plain, "/", &["X-Forwarded-Proto: https"]);
    assert_eq!(told.text(), "true HTTP/1.1", "loopback is a trusted proxy");
    let untrusting = crate::support::serve(telling().trust_proxies([]));
    let told = crate::support::get(&untrusting, "/", &["X-Forwarded-Proto: https"]);
    assert_eq!(told.text(), "false HTTP/1.1");
}

/// The frames of one message from a client.
fn frames(message: Frame) -> Vec<u8> {
    let mut peer = Peer::from_raw_socket(std::io::Cursor::new(Vec::new()), Role::Client, None);
    peer.send(message).unwrap();
    peer.into_inner().into_inner()
}

async fn open(
    sender: &mut SendRequest<Bytes>,
    fields: &[(&str, &str)],
) -> (http::Response<RecvStream>, SendStream<Bytes>) {
    while !sender.is_extended_connect_protocol_enabled() {
        tokio::task::yield_now().await; // until the server's settings are here
    }
    let mut asked = http::Request::connect("https://localhost/echo").extension(Protocol::from_static("websocket"));
    for (name, value) in fields {
        asked = asked.header(*name, *value);
    }
    let (answer, stream) = sender.send_request(asked.body(()).unwrap(), false).unwrap();
    (answer.await.unwrap(), stream)
}

#[test]
fn a_websocket_is_one_inside_http2_too() {
    let (server, certificate) = secure(App::new().route("/echo", [GET], async |upgrade: WebSocketUpgrade| {
        upgrade.protocols(["chat.v1"]).on_upgrade(async |mut socket| {
            while let Some(message) = socket.recv().await? {
                socket.send(message).await?;
            }
            Ok(())
        })
    }));
    let proper =
        [("sec-websocket-version", "13"), ("sec-websocket-protocol", "chat.v1"), ("origin", "https://localhost")];
    block_on(async {
        let mut sender = http2(&server, &certificate).await;
        let (answer, mut stream) = open(&mut sender, &proper).await;
        assert_eq!(
            (answer.status().as_u16(), &answer.headers()["sec-websocket-protocol"]),
            (200, &"chat.v1".parse().unwrap())
        );
        let mut content = answer.into_body();
        for size in [5_usize, 300, 70_000] {
            let text = "x".repeat(size);
            stream.send_data(frames(Frame::text(text.clone())).into(), false).unwrap();
            let mut echoed = Vec::new();
            while !echoed.ends_with(text.as_bytes()) {
                echoed.extend_from_slice(&read(&mut content).await.expect("an echo"));
            }
            assert_eq!(echoed[0], 0x81, "one frame of text");
        }
        stream.send_data(frames(Frame::Close(None)).into(), true).unwrap();
        assert_eq!(read(&mut content).await.unwrap(), [0x88, 0].as_slice(), "the close is answered");
        while let Some(rest) = read(&mut content).await {
            assert!(rest.is_empty(), "{rest:?}");
        }
        let other = [proper[0], ("origin", "https://evil.example")];
        assert_eq!(open(&mut sender, &other).await.0.status(), 403);
        assert_eq!(open(&mut sender, &[("sec-websocket-version", "8")]).await.0.status(), 426);
    });
}
