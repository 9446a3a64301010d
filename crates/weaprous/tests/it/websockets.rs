//! Sockets opened by upgrade, spoken with by a client that is not ours.

use crate::support::{connect, get, serve};
use engine::Running;
use std::net::TcpStream;
use std::time::Duration;
use tungstenite::handshake::client::{Response as Answer, generate_key};
use tungstenite::http::Request as HttpRequest;
use tungstenite::protocol::CloseFrame;
use tungstenite::{Error, Message as Frame, WebSocket as Client};
use weaprous::prelude::*;
use weaprous::websocket::{Closed, Message, WebSocketError, WebSocketLimits, WebSocketUpgrade, close_code};

fn echo_with(limits: WebSocketLimits) -> App {
    App::new().route("/", [GET], async move |upgrade: WebSocketUpgrade| {
        upgrade.limits(limits.clone()).protocols(["chat.v2", "chat.v1"]).on_upgrade(async |mut socket| {
            while let Some(message) = socket.recv().await? {
                socket.send(message).await?;
            }
            Ok(())
        })
    })
}

fn echo() -> App {
    echo_with(WebSocketLimits::default())
}

/// Opens a socket, with these fields beside the usual ones.
fn open(server: &Running, fields: &[(&str, &str)]) -> Result<(Client<TcpStream>, Answer), Error> {
    let addr = server.local_addrs()[0];
    let stream = TcpStream::connect(addr).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    stream.set_nodelay(true).unwrap();
    let mut request = HttpRequest::get(format!("ws://{addr}/"))
        .header("Host", addr.to_string())
        .header("Connection", "Upgrade")
        .header("Upgrade", "websocket")
        .header("Sec-WebSocket-Version", "13")
        .header("Sec-WebSocket-Key", generate_key());
    for (name, value) in fields {
        request = request.header(*name, *value);
    }
    tungstenite::client::client(request.body(()).unwrap(), stream).map_err(|error| match error {
        tungstenite::HandshakeError::Failure(error) => error,
        tungstenite::HandshakeError::Interrupted(_) => panic!("the server did not answer in time"),
    })
}

fn refused(server: &Running, fields: &[(&str, &str)]) -> u16 {
    match open(server, fields) {
        Err(Error::Http(answer)) => answer.status().as_u16(),
        Ok(_) => panic!("{fields:?} got in"),
        Err(error) => panic!("{error}"),
    }
}

fn code_of(frame: Frame) -> u16 {
    match frame {
        Frame::Close(Some(CloseFrame { code, .. })) => code.into(),
        other => panic!("{other:?} is no close with a code"),
    }
}

#[test]
fn messages_of_every_size_come_back() {
    let server = serve(echo());
    let (mut client, _) = open(&server, &[]).unwrap();
    for size in [0, 1, 125, 126, 65_535, 65_536, 1024 * 1024] {
        client.send(Frame::text("é".repeat(size / 2))).unwrap();
        assert_eq!(client.read().unwrap(), Frame::text("é".repeat(size / 2)));
        client.send(Frame::binary(vec![7; size])).unwrap();
        assert_eq!(client.read().unwrap(), Frame::binary(vec![7; size]));
    }
    client.send(Frame::Ping("hello".into())).unwrap();
    assert_eq!(client.read().unwrap(), Frame::Pong("hello".into()));
    client.close(None).unwrap();
    assert_eq!(client.read().unwrap(), Frame::Close(None));
    assert!(matches!(client.read(), Err(Error::ConnectionClosed)));
}

#[test]
fn only_proper_handshakes_get_in() {
    let server = serve(echo());
    let good = ["Connection: Upgrade", "Upgrade: websocket", "Sec-WebSocket-Version: 13"];
    let key = "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==";
    let check = |fields: &[&str], status| assert_eq!(get(&server, "/", fields).status, status, "{fields:?}");
    check(&[good[0], good[1], good[2], key], 101);
    check(&[], 426);
    check(&[good[1], good[2], key], 426);
    check(&[good[0], "Upgrade: other", good[2], key], 426);
    check(&[good[0], good[1], "Sec-WebSocket-Version: 8", key], 426);
    check(&[good[0], good[1], key], 426);
    check(&[good[0], good[1], good[2]], 400);
    check(&[good[0], good[1], good[2], key, key], 400);
    check(&[good[0], good[1], good[2], "Sec-WebSocket-Key: c2hvcnQ="], 400);
    check(&[good[0], good[1], good[2], "Sec-WebSocket-Key: !"], 400);
    check(&[good[0], good[1], good[2], key, "Origin: http://evil.example"], 403);
    check(&[good[0], good[1], good[2], key, "Origin: null"], 403);
    check(&[good[0], good[1], good[2], key, "Origin: http://test"], 101);
    // The example of RFC 6455 §1.3.
    let answer = get(&server, "/", &[good[0], good[1], good[2], key]);
    assert_eq!(answer.field("sec-websocket-accept"), Some("s3pPLMBiTxaQ9kYGzzhZRbK+xOo="));
    assert_eq!(answer.field("sec-websocket-extensions"), None);
    assert_eq!(get(&server, "/", &[]).field("sec-websocket-version"), Some("13"));
}

#[test]
fn pages_of_other_sites_are_let_in_when_they_are_named() {
    let app = App::new()
        .route("/", [GET], async |upgrade: WebSocketUpgrade| {
            upgrade.allow_origins(["https://friend.example"]).on_upgrade(async |_| Ok(()))
        })
        .route("/any", [GET], async |upgrade: WebSocketUpgrade| {
            upgrade.allow_any_origin().on_upgrade(async |_| Ok(()))
        });
    let server = serve(app);
    assert!(open(&server, &[("Origin", "https://friend.example")]).is_ok());
    assert_eq!(refused(&server, &[("Origin", "https://enemy.example")]), 403);
}

#[test]
fn the_first_of_our_protocols_is_chosen() {
    let server = serve(echo());
    let chosen = |offers: &[&str]| {
        let proper = ["Connection: Upgrade", "Upgrade: websocket", "Sec-WebSocket-Version: 13"];
        let key = ["Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ=="];
        let answer = get(&server, "/", &[&proper, &key[..], offers].concat());
        assert_eq!(answer.status, 101);
        answer.field("sec-websocket-protocol").map(str::to_owned)
    };
    assert_eq!(chosen(&["Sec-WebSocket-Protocol: chat.v1, chat.v2"]).as_deref(), Some("chat.v2"));
    assert_eq!(chosen(&["Sec-WebSocket-Protocol: x", "Sec-WebSocket-Protocol: chat.v1"]).as_deref(), Some("chat.v1"));
    assert_eq!(chosen(&["Sec-WebSocket-Protocol: x"]), None);
    assert_eq!(chosen(&[]), None);
    let (_, answer) = open(&server, &[("Sec-WebSocket-Protocol", "chat.v1")]).unwrap();
    assert_eq!(answer.headers()["sec-websocket-protocol"], "chat.v1");
}

#[test]
fn what_is_too_long_or_malformed_is_told_so() {
    let limits = WebSocketLimits { message_bytes_max: 1000, frame_bytes_max: 600, ..WebSocketLimits::default() };
    let server = serve(echo_with(limits));
    let (mut client, _) = open(&server, &[]).unwrap();
    client.send(Frame::text("x".repeat(601))).unwrap();
    assert_eq!(code_of(client.read().unwrap()), close_code::TOO_LARGE);

    let raw = |bytes: &[u8]| {
        let (mut client, _) = open(&server, &[]).unwrap();
        std::io::Write::write_all(client.get_mut(), bytes).unwrap();
        code_of(client.read().unwrap())
    };
    // Two frames of 600 make a message of 1200: masked with zeros, FIN only in the second.
    let frame = |first: u8| {
        [&[first, 0xfe, 600_u16.to_be_bytes()[0], 600_u16.to_be_bytes()[1], 0, 0, 0, 0][..], &[b'x'; 600]].concat()
    };
    assert_eq!(raw(&[frame(0x01), frame(0x80)].concat()), close_code::TOO_LARGE);
    assert_eq!(raw(&[0x81, 0x01, b'x']), close_code::PROTOCOL_ERROR, "not masked");
    assert_eq!(raw(&[0x83, 0x80, 0, 0, 0, 0]), close_code::PROTOCOL_ERROR, "a reserved opcode");
    assert_eq!(raw(&[0xc1, 0x80, 0, 0, 0, 0]), close_code::PROTOCOL_ERROR, "a reserved bit");
    assert_eq!(raw(&[0x81, 0x81, 0, 0, 0, 0, 0xff]), close_code::INVALID_DATA, "no UTF-8");
}

#[test]
fn closes_go_both_ways_with_their_codes() {
    let (tell, told) = std::sync::mpsc::channel();
    let app = App::new().route("/", [GET], async move |upgrade: WebSocketUpgrade| {
        let tell = tell.clone();
        upgrade.on_upgrade(async move |mut socket| {
            if let Some(message) = socket.recv().await? {
                socket.send(message).await?;
                socket.close(4000, "enough").await?;
            }
            tell.send(socket.closed()).unwrap();
            let after = socket.send("too late").await;
            assert!(matches!(after, Err(WebSocketError::Closed)), "{after:?}");
            Ok(())
        })
    });
    let server = serve(app);
    let (mut client, _) = open(&server, &[]).unwrap();
    client.send(Frame::text("x")).unwrap();
    assert_eq!(client.read().unwrap(), Frame::text("x"));
    assert_eq!(client.read().unwrap(), Frame::Close(Some(CloseFrame { code: 4000.into(), reason: "enough".into() })));
    assert!(matches!(client.read(), Err(Error::ConnectionClosed)));
    assert_eq!(told.recv().unwrap(), Some(Closed { code: 4000, reason: "enough".to_owned() }), "the client's echo");

    let (mut client, _) = open(&server, &[]).unwrap();
    client.close(Some(CloseFrame { code: 4001.into(), reason: "bye".into() })).unwrap();
    assert_eq!(code_of(client.read().unwrap()), 4001);
    assert_eq!(told.recv().unwrap(), Some(Closed { code: 4001, reason: "bye".to_owned() }));
}

#[test]
fn a_stop_closes_with_1001() {
    let server = serve(echo());
    let (mut client, _) = open(&server, &[]).unwrap();
    client.send(Frame::text("x")).unwrap();
    client.read().unwrap();
    server.stop();
    assert_eq!(code_of(client.read().unwrap()), close_code::GOING_AWAY);
    assert!(matches!(client.read(), Err(Error::ConnectionClosed)));
    server.join().unwrap();
}

#[test]
fn silence_is_met_with_pings_and_then_given_up() {
    let (tell, told) = std::sync::mpsc::channel();
    let limits = WebSocketLimits {
        ping_after: Duration::from_millis(10),
        idle_timeout: Duration::from_secs(1),
        ..WebSocketLimits::default()
    };
    let app = App::new().route("/", [GET], async move |upgrade: WebSocketUpgrade| {
        let tell = tell.clone();
        upgrade.limits(limits.clone()).on_upgrade(async move |mut socket| {
            let result = socket.recv().await;
            tell.send(matches!(result, Err(WebSocketError::TimedOut))).unwrap();
            result.map(drop)
        })
    });
    let server = serve(app);
    let (mut client, _) = open(&server, &[]).unwrap();
    // Each answer, sent with the next read, earns another ping: for longer than the deadline.
    for _ in 0..150 {
        assert!(matches!(client.read().unwrap(), Frame::Ping(_)));
    }
    assert!(told.try_recv().is_err(), "a client that answers is kept");
    // From here on nobody answers.
    assert!(told.recv_timeout(Duration::from_secs(10)).unwrap());
}

#[test]
fn a_client_that_leaves_is_noticed() {
    let (tell, told) = std::sync::mpsc::channel();
    let app = App::new().route("/", [GET], async move |upgrade: WebSocketUpgrade| {
        let tell = tell.clone();
        upgrade.on_upgrade(async move |mut socket| {
            tell.send(matches!(socket.recv().await, Err(WebSocketError::Gone))).unwrap();
            Ok(())
        })
    });
    let server = serve(app);
    drop(open(&server, &[]).unwrap());
    assert!(told.recv_timeout(Duration::from_secs(10)).unwrap());
}

#[test]
fn a_slow_client_holds_the_sender_back() {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};
    let sent = Arc::new(AtomicUsize::new(0));
    let counter = Arc::clone(&sent);
    let app = App::new().route("/", [GET], async move |upgrade: WebSocketUpgrade| {
        let counter = Arc::clone(&counter);
        upgrade.on_upgrade(async move |mut socket| {
            for _ in 0..1000 {
                socket.send(Message::Binary(vec![0; 100_000].into())).await?;
                counter.fetch_add(1, Ordering::SeqCst);
            }
            Ok(())
        })
    });
    let server = serve(app);
    let (mut client, _) = open(&server, &[]).unwrap();
    for read in 0..1000 {
        assert_eq!(client.read().unwrap().len(), 100_000);
        let ahead = sent.load(Ordering::SeqCst).saturating_sub(read);
        assert!(ahead < 200, "{ahead} messages ahead");
    }
    assert_eq!(code_of(client.read().unwrap()), close_code::NORMAL);
}

#[test]
fn one_task_sends_while_another_receives() {
    let app = App::new().route("/", [GET], async |upgrade: WebSocketUpgrade| {
        upgrade.on_upgrade(async |mut socket| {
            let sender = socket.sender();
            let sending = tokio::task::spawn_local(async move {
                for number in 0..100 {
                    sender.send(number.to_string()).await?;
                }
                Ok::<_, WebSocketError>(())
            });
            let mut sum = 0;
            while let Some(message) = socket.recv().await? {
                sum += message.as_text().and_then(|text| text.parse::<u32>().ok()).unwrap_or(0);
                if sum == 4950 {
                    sending.await.expect("it does not panic")?;
                    return socket.send("all").await;
                }
            }
            Ok(())
        })
    });
    let server = serve(app);
    let (mut client, _) = open(&server, &[]).unwrap();
    for number in 0..100 {
        client.send(Frame::text(number.to_string())).unwrap();
    }
    for number in 0..100 {
        assert_eq!(client.read().unwrap(), Frame::text(number.to_string()));
    }
    assert_eq!(client.read().unwrap(), Frame::text("all"));
}

#[test]
fn a_panic_harms_its_own_socket_alone() {
    let app = App::new().route("/", [GET], async |upgrade: WebSocketUpgrade| {
        upgrade.on_upgrade(async |mut socket| {
            while let Some(message) = socket.recv().await? {
                assert_ne!(message, Message::from("panic"), "as asked for");
                socket.send(message).await?;
            }
            Ok(())
        })
    });
    let server = serve(app);
    let (mut first, _) = open(&server, &[]).unwrap();
    let (mut second, _) = open(&server, &[]).unwrap();
    first.send(Frame::text("panic")).unwrap();
    assert!(first.read().is_err());
    second.send(Frame::text("still here")).unwrap();
    assert_eq!(second.read().unwrap(), Frame::text("still here"));
    assert!(open(&server, &[]).is_ok());
}

#[test]
fn frames_sent_with_the_handshake_are_not_lost() {
    let server = serve(echo());
    let mut client = connect(&server);
    client.send(
        [
            &b"GET / HTTP/1.1\r\nHost: test\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
               Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"[..],
            &[0x81, 0x82, 0, 0, 0, 0, b'h', b'i'],
        ]
        .concat(),
    );
    client.read_until(b"\r\n\r\n");
    assert_eq!(client.read_exact(4), b"\x81\x02hi");
}
