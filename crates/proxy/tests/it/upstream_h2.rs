//! Upstreams that speak HTTP/2: what is asked arrives, what they break off is seen to be, and one that goes away takes no
//! request with it.

use std::future::Future;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};

use bytes::Bytes;
use engine::{Request, Response, Running, Server, StatusCode, Stop, Tls, TlsSettings};
use h2::server::{Connection, SendResponse};
use h2::{Reason, RecvStream};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::harness::*;

/// An upstream of the `h2` crate, in a thread of its own.
pub(crate) struct H2Upstream {
    pub(crate) address: SocketAddr,
    connections: Arc<AtomicUsize>,
    _stop: tokio::sync::oneshot::Sender<()>,
}

/// Lets `talk` deal with each connection; its first argument counts them from 0.
fn h2_upstream<Talk>(talk: impl Fn(usize, Connection<TcpStream, Bytes>) -> Talk + Send + 'static) -> H2Upstream
where
    Talk: Future<Output = ()> + 'static,
{
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    listener.set_nonblocking(true).unwrap();
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let connections = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&connections);
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let tasks = tokio::task::LocalSet::new();
        let accepting = async {
            let talk = std::rc::Rc::new(talk);
            let listener = tokio::net::TcpListener::from_std(listener).unwrap();
            loop {
                let (socket, _) = listener.accept().await.unwrap();
                let index = count.fetch_add(1, SeqCst);
                let talk = std::rc::Rc::clone(&talk);
                tokio::task::spawn_local(async move {
                    if let Ok(connection) = h2::server::handshake(socket).await {
                        talk(index, connection).await;
                    }
                });
            }
        };
        tasks.block_on(&runtime, async {
            tokio::select! { _ = stopped => {}, () = accepting => {} }
        });
    });
    H2Upstream { address, connections, _stop: stop }
}

/// Lets `answer` deal with each request, all of a connection at a time.
pub(crate) fn answering_h2<Answer>(
    answer: impl Fn(http::Request<RecvStream>, SendResponse<Bytes>) -> Answer + Send + Sync + 'static,
) -> H2Upstream
where
    Answer: Future<Output = ()> + 'static,
{
    let answer = Arc::new(answer);
    h2_upstream(move |_, mut connection| {
        let answer = Arc::clone(&answer);
        async move {
            while let Some(Ok((request, respond))) = connection.accept().await {
                tokio::task::spawn_local(answer(request, respond));
            }
        }
    })
}

fn say(respond: &mut SendResponse<Bytes>, text: impl Into<Bytes>) {
    let sent = respond.send_response(http::Response::new(()), false);
    // A stream that is gone is for the test to notice.
    let _ = sent.and_then(|mut stream| stream.send_data(text.into(), true));
}

/// Answers with what it received, as lines.
fn mirror_h2() -> H2Upstream {
    answering_h2(|request, mut respond| async move {
        let (parts, mut stream) = request.into_parts();
        let mut lines = vec![format!("{} {}", parts.method, parts.uri)];
        lines.extend(parts.headers.iter().map(|(name, value)| format!("{name}: {}", value.to_str().unwrap())));
        let mut length = 0;
        while let Some(data) = stream.data().await {
            let data = data.unwrap();
            stream.flow_control().release_capacity(data.len()).unwrap();
            length += data.len();
        }
        lines.push(format!("content: {length}"));
        let trailers = stream.trailers().await.unwrap().unwrap_or_default();
        lines.extend(trailers.iter().map(|(name, value)| format!("trailer {name}: {}", value.to_str().unwrap())));
        say(&mut respond, lines.join("\n"));
    })
}

fn front_to_h2(upstream: &H2Upstream, more: &str) -> Front {
    front(&format!("host default {{ proxy_pass h2://{}; {more} }}", upstream.address))
}

#[test]
fn a_request_arrives_whole_and_without_anything_of_its_connection() {
    let upstream = mirror_h2();
    let front = front_to_h2(&upstream, "proxy_set_header X-Set $host;");
    let response = front.ask(
        "POST /a?b=c HTTP/1.1\r\nHost: app.test\r\nConnection: x-hop, te\r\nX-Hop: 1\r\nKeep-Alive: 5\r\nTE: trailers\r\n\
         Cookie: a=1; b=2\r\nX-Case: Kept\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\nX-Sum: 5\r\n\r\n",
    );
    assert_eq!(response.status, 200, "{}", response.text());
    let lines: Vec<&str> = response.text().lines().collect();
    assert_eq!(lines[0], "POST http://app.test/a?b=c");
    for line in
        ["cookie: a=1; b=2", "x-case: Kept", "x-set: app.test", "te: trailers", "content: 5", "trailer x-sum: 5"]
    {
        assert_eq!(lines.iter().filter(|other| **other == line).count(), 1, "{line}: {lines:#?}");
    }
    assert!(lines.iter().any(|line| line.starts_with("x-forwarded-for: 127.0.0.1")), "{lines:#?}");
    for name in ["connection", "keep-alive", "transfer-encoding", "x-hop", "host", "upgrade"] {
        assert!(!lines.iter().any(|line| line.starts_with(&format!("{name}: "))), "{name}: {lines:#?}");
    }
}

#[test]
fn content_of_any_length_goes_and_requests_share_a_connection() {
    let upstream = mirror_h2();
    let front = front_to_h2(&upstream, "");
    for length in [0_usize, 1, 70_000, 2_000_000] {
        let content = "x".repeat(length);
        let request = format!("PUT / HTTP/1.1\r\nHost: a\r\nContent-Length: {length}\r\n\r\n{content}");
        let response = front.ask(&request);
        assert!(response.text().contains(&format!("\ncontent: {length}")), "{length}: {}", response.text());
    }
    for _ in 0..20 {
        assert_eq!(front.get("a").status, 200);
    }
    assert_eq!(upstream.connections.load(SeqCst), 1);
    let head = front.ask("HEAD / HTTP/1.1\r\nHost: a\r\n\r\n");
    assert_eq!((head.status, head.text()), (200, ""));
}

#[test]
fn an_upstream_that_goes_away_again_and_again_fails_no_request() {
    let upstream = h2_upstream(|_, mut connection| async move {
        for _ in 0..5 {
            let Some(Ok((_, mut respond))) = connection.accept().await else { return };
            say(&mut respond, "x");
        }
        connection.graceful_shutdown();
        while let Some(Ok((_, mut respond))) = connection.accept().await {
            respond.send_reset(Reason::REFUSED_STREAM);
        }
    });
    let front = front_to_h2(&upstream, "");
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                let mut client = front.connect();
                for number in 0..25 {
                    let method = if number % 2 == 0 { "GET" } else { "POST" };
                    client.send(format!("{method} / HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n"));
                    let response = client.read_response();
                    assert_eq!((response.status, response.text()), (200, "x"));
                }
            });
        }
    });
    assert!(upstream.connections.load(SeqCst) >= 200 / 5);
}

#[test]
fn what_is_broken_off_has_no_clean_end_and_what_is_wrong_is_a_502() {
    let upstream = answering_h2(|request, mut respond| async move {
        let mut head = http::Response::new(());
        match request.uri().path() {
            "/half" => {
                let mut stream = respond.send_response(head, false).unwrap();
                stream.send_data("half".into(), false).unwrap();
                stream.reserve_capacity(1);
                tokio::time::sleep(std::time::Duration::from_millis(20)).await; // the head is to go first
                stream.send_reset(Reason::NO_ERROR);
            }
            "/reset" => respond.send_reset(Reason::INTERNAL_ERROR),
            "/refused" => respond.send_reset(Reason::REFUSED_STREAM),
            "/wrong" => {
                head.headers_mut().insert("content-length", http::HeaderValue::from_static("+5"));
                drop(respond.send_response(head, false));
            }
            _ => say(&mut respond, "fine"),
        }
    });
    let front = front_to_h2(&upstream, "");
    let mut client = front.connect();
    client.send("GET /half HTTP/1.1\r\nHost: a\r\n\r\n");
    let bytes = String::from_utf8(client.read_to_end()).unwrap();
    assert!(bytes.starts_with("HTTP/1.1 200 ") && !bytes.ends_with("0\r\n\r\n"), "{bytes}");
    for (path, status) in [("/reset", 502), ("/wrong", 502), ("/refused", 503)] {
        let response = front.ask(&format!("POST {path} HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n"));
        assert_eq!(response.status, status, "{path}: {}", response.text());
        assert_eq!(response.field("retry-after").is_some(), status == 503);
    }
    assert_eq!(front.get("a").text(), "fine");
}

#[test]
fn an_upstream_that_speaks_http_1_is_named_and_another_answers() {
    let (old, good) = (named("old"), mirror_h2());
    let config = format!(
        "upstream app {{ server {}; server {}; upstream_http2 on; }} host default {{ proxy_pass http://app; }}",
        address(&old),
        good.address
    );
    let front_both = front(&config);
    for _ in 0..4 {
        assert_eq!(front_both.get("a").status, 200);
    }
    let alone = front(&format!("host default {{ proxy_pass h2://{}; }}", address(&old)));
    let response = alone.get("a");
    assert_eq!(response.status, 503, "{}", response.text());
    assert!(response.text().contains("cannot be talked to in HTTP/2"), "{}", response.text());
}

#[test]
fn checks_are_made_in_http_2() {
    let upstream = mirror_h2();
    let config = format!(
        "upstream app {{ server {}; health_check /healthz interval=50ms rise=1 fall=1; }}
         host default {{ proxy_pass h2://app; }}",
        upstream.address
    );
    let front = front(&config);
    // Each check opens a connection of its own; more than one is made, and none takes the server out.
    eventually("checks are made", || upstream.connections.load(SeqCst) >= 3);
    assert_eq!(front.get("a").status, 200);
}

/// An upstream behind TLS that says how it was spoken to, and its certificate's file. It echoes to whoever switches.
fn secure(http2: bool) -> (Running, tempfile::TempDir, String) {
    let folder = tempfile::tempdir().unwrap();
    let signed = rcgen::generate_simple_self_signed(vec!["127.0.0.1".to_owned()]).unwrap();
    let (chain, key) = (folder.path().join("a.crt"), folder.path().join("a.key"));
    std::fs::write(&chain, signed.cert.pem()).unwrap();
    std::fs::write(&key, signed.signing_key.serialize_pem()).unwrap();
    let mut settings = TlsSettings::new(&chain, key);
    settings.http2 = http2;
    let server = Server::new(one_worker()).listen_tls(([127, 0, 0, 1], 0).into(), Tls::new(settings).unwrap(), || {
        |request: Request| async move {
            if request.head.upgrades_to("echo") {
                return request.upgrade("echo", |mut stream| async move {
                    let mut bytes = [0; 4];
                    while stream.read_exact(&mut bytes).await.is_ok() && stream.write_all(&bytes).await.is_ok() {}
                });
            }
            Response::text(StatusCode::OK, format!("{:?} {}", request.head.version(), request.peer_addr()))
        }
    });
    let running = server.unwrap().start(Stop::new(), DEADLINE).unwrap();
    let file = chain.display().to_string();
    (running, folder, file)
}

#[test]
fn over_tls_the_handshake_decides_and_who_switches_gets_http_1() {
    for (http2, version) in [(true, "Http2 "), (false, "Http11 ")] {
        let (backend, _folder, ca) = secure(http2);
        let config = format!(
            "host default {{ proxy_pass https://{}; upstream_tls_ca {ca}; upstream_http2 on; }}",
            address(&backend)
        );
        let front = front(&config);
        let mut answers: Vec<String> = (0..5).map(|_| front.get("127.0.0.1").text().to_owned()).collect();
        assert!(answers[0].starts_with(version), "{answers:?}");
        answers.dedup();
        assert_eq!(answers.len(), 1, "one connection carries all: {answers:?}");
        let mut client = front.connect();
        client.send("GET / HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: upgrade\r\nUpgrade: echo\r\n\r\n");
        let switched = String::from_utf8(client.read_until(b"\r\n\r\n")).unwrap();
        assert!(switched.starts_with("HTTP/1.1 101 "), "{switched}");
        client.send("ping");
        assert_eq!(client.read_exact(4), b"ping");
    }
}
