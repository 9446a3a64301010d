//! The client over HTTP/2, against servers of the `h2` crate that do what a test says, against our own, and against
//! bytes that are no HTTP/2 at all.

use crate::client::{get, request};
use crate::support::{accept, scripted, settings};
use crate::tls_support::{Authority, frame, serve_with};
use bytes::Bytes;
use engine::{
    Body, BodyError, Client, ClientError, ClientErrorKind, ClientSettings, ClientTls, Fields, Http2Error, Method,
    Request, Response, Running, Service, StatusCode, Tls, TlsSettings, Trust,
};
use h2::server::{Connection, SendResponse};
use h2::{Reason, RecvStream};
use std::cell::{Cell, RefCell};
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::time::Duration;
use tokio::net::TcpStream;
use tokio::sync::Notify;

/// Longer than any of these tests takes on a busy machine.
pub(crate) const DEADLINE: Duration = Duration::from_secs(30);

/// As [`local`], where the clock stands while anybody has something to do, and leaps when nobody has.
pub(crate) fn local_in_no_time<T>(future: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build().unwrap();
    let tasks = tokio::task::LocalSet::new();
    let an_age = Duration::from_hours(24);
    tasks.block_on(&runtime, async { tokio::time::timeout(an_age, future).await.expect("it ends in time") })
}

/// Runs a future where tasks of this thread can be spawned, as on a worker.
pub(crate) fn local<T>(future: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let tasks = tokio::task::LocalSet::new();
    tasks.block_on(&runtime, async { tokio::time::timeout(DEADLINE, future).await.expect("it ends in time") })
}

pub(crate) type H2 = Connection<TcpStream, Bytes>;
pub(crate) type Asked = (http::Request<RecvStream>, SendResponse<Bytes>);

/// A server that does what `talk` says with each connection, which it counts from 0. It lives in the tasks of the test.
pub(crate) async fn server<Talk: Future<Output = ()> + 'static>(
    builder: h2::server::Builder,
    talk: impl Fn(usize, H2) -> Talk + 'static,
) -> (SocketAddr, Rc<Cell<usize>>) {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = listener.local_addr().unwrap();
    let count = Rc::new(Cell::new(0));
    let connections = Rc::clone(&count);
    tokio::task::spawn_local(async move {
        let talk = Rc::new(talk);
        loop {
            let (socket, _) = listener.accept().await.unwrap();
            let (talk, builder, index) = (Rc::clone(&talk), builder.clone(), connections.get());
            connections.set(index + 1);
            tokio::task::spawn_local(async move {
                if let Ok(connection) = builder.handshake(socket).await {
                    talk(index, connection).await;
                }
            });
        }
    });
    (addr, count)
}

/// A server that lets `answer` deal with each request in a task of its own.
pub(crate) async fn answering<Answer: Future<Output = ()> + 'static>(
    builder: h2::server::Builder,
    answer: impl Fn(Asked) -> Answer + 'static,
) -> (SocketAddr, Rc<Cell<usize>>) {
    let answer = Rc::new(answer);
    server(builder, move |_, mut connection| {
        let answer = Rc::clone(&answer);
        async move {
            while let Some(Ok(asked)) = connection.accept().await {
                tokio::task::spawn_local(answer(asked));
            }
        }
    })
    .await
}

pub(crate) fn ok() -> http::Response<()> {
    http::Response::new(())
}

pub(crate) fn say(respond: &mut SendResponse<Bytes>, text: impl Into<Bytes>) {
    respond.send_response(ok(), false).unwrap().send_data(text.into(), true).unwrap();
}

async fn content(mut stream: RecvStream) -> Vec<u8> {
    let mut all = Vec::new();
    while let Some(data) = stream.data().await {
        let data = data.unwrap();
        stream.flow_control().release_capacity(data.len()).unwrap();
        all.extend_from_slice(&data);
    }
    all
}

pub(crate) fn client() -> Client {
    Client::new(ClientSettings::default()).over_http2()
}

pub(crate) fn client_with(change: impl FnOnce(&mut ClientSettings)) -> Client {
    let mut settings = ClientSettings::default();
    change(&mut settings);
    Client::new(settings).over_http2()
}

pub(crate) async fn fetch(
    client: &Client,
    addr: SocketAddr,
    request: engine::OutgoingRequest,
) -> Result<String, ClientError> {
    let (_, body) = client.send(addr, request).await?;
    Ok(String::from_utf8(body.collect(u64::MAX).await.unwrap().to_vec()).unwrap())
}

#[test]
fn many_requests_share_a_connection_and_none_waits_for_another() {
    local(async {
        let held = Rc::new(RefCell::new(Vec::new()));
        let (addr, connections) = answering(h2::server::Builder::new(), move |(request, mut respond)| {
            let held = Rc::clone(&held);
            async move {
                let path = request.uri().path().to_owned();
                assert_eq!(request.uri().authority().unwrap(), "upstream");
                if path == "/last" {
                    say(&mut respond, path);
                    let waiting: Vec<(String, SendResponse<Bytes>)> = held.borrow_mut().drain(..).collect();
                    waiting.into_iter().rev().for_each(|(path, mut respond)| say(&mut respond, path));
                } else {
                    held.borrow_mut().push((path, respond));
                }
            }
        })
        .await;
        let client = client();
        let tasks: Vec<_> = (0..50)
            .map(|number| {
                let client = client.clone();
                tokio::task::spawn_local(async move { fetch(&client, addr, get(&format!("/{number}"))).await.unwrap() })
            })
            .collect();
        while client.idle_connections() == 0 && connections.get() == 0 {
            tokio::task::yield_now().await;
        }
        // Asked after the others: all of them are under way when it is.
        assert_eq!(fetch(&client, addr, get("/last")).await.unwrap(), "/last");
        for (number, task) in tasks.into_iter().enumerate() {
            assert_eq!(task.await.unwrap(), format!("/{number}"));
        }
        assert_eq!(connections.get(), 1);
        assert_eq!(client.idle_connections(), 1);
    });
}

#[test]
fn content_and_trailers_go_both_ways() {
    local(async {
        let (addr, connections) = answering(h2::server::Builder::new(), |(request, mut respond)| async move {
            let mut stream = request.into_body();
            let mut send = respond.send_response(ok(), false).unwrap();
            while let Some(data) = stream.data().await {
                let mut data = data.unwrap();
                stream.flow_control().release_capacity(data.len()).unwrap();
                while !data.is_empty() {
                    send.reserve_capacity(data.len());
                    let room = std::future::poll_fn(|cx| send.poll_capacity(cx)).await.unwrap().unwrap();
                    send.send_data(data.split_to(room.min(data.len())), false).unwrap();
                }
            }
            let trailers = stream.trailers().await.unwrap().unwrap_or_default();
            send.send_trailers(trailers).unwrap();
        })
        .await;
        let client = client();
        for size in [0, 1, 10_000, 3_000_000] {
            let bytes = Bytes::from((0..size).map(|at| (at % 251) as u8).collect::<Vec<_>>());
            let (_, body) = client.send(addr, request(Method::Post, "/", bytes.clone())).await.unwrap();
            assert_eq!(body.collect(u64::MAX).await.unwrap(), bytes, "{size} bytes at once");

            let mut fields = Fields::new();
            fields.append("x-sum", size.to_string()).unwrap();
            let with_trailers = Body::from_source(Chunks { rest: bytes.clone(), trailers: Some(fields) });
            let (_, mut body) = client.send(addr, request(Method::Post, "/", with_trailers)).await.unwrap();
            let mut received = Vec::new();
            while let Some(chunk) = body.chunk().await {
                received.extend_from_slice(&chunk.unwrap());
            }
            assert!(received == bytes, "{size} bytes in chunks");
            assert_eq!(body.trailers().unwrap().get_str("x-sum"), Some(size.to_string().as_str()));
        }
        assert_eq!(connections.get(), 1);
    });
}

/// Content in pieces, and fields behind it.
struct Chunks {
    rest: Bytes,
    trailers: Option<Fields>,
}

impl engine::Source for Chunks {
    fn poll_chunk(&mut self, _: &mut std::task::Context<'_>) -> std::task::Poll<Option<Result<Bytes, BodyError>>> {
        let chunk = self.rest.split_to(self.rest.len().min(50_000));
        std::task::Poll::Ready((!chunk.is_empty()).then_some(Ok(chunk)))
    }

    fn trailers(&mut self) -> Option<Fields> {
        self.trailers.take()
    }
}

#[test]
fn a_server_that_goes_away_after_every_few_requests_fails_none() {
    local(async {
        let seen = Rc::new(Cell::new(0));
        let answered = Rc::clone(&seen);
        let (addr, connections) = server(h2::server::Builder::new(), move |_, mut connection| {
            let answered = Rc::clone(&answered);
            async move {
                for _ in 0..7 {
                    let Some(Ok((request, mut respond))) = connection.accept().await else { return };
                    answered.set(answered.get() + 1);
                    let sent = respond.send_response(ok(), false);
                    let path = request.uri().path().to_owned();
                    let _ = sent.and_then(|mut stream| stream.send_data(path.into(), true));
                }
                // What has come since is above the last stream: unread.
                connection.graceful_shutdown();
                while let Some(Ok((_, mut respond))) = connection.accept().await {
                    respond.send_reset(Reason::REFUSED_STREAM);
                }
            }
        })
        .await;
        let client = client();
        let mut tasks = Vec::new();
        for number in 0..30 {
            let client = client.clone();
            let method = if number % 2 == 0 { Method::Get } else { Method::Post };
            tasks.push(tokio::task::spawn_local(async move {
                for round in 0..5 {
                    let target = format!("/{number}/{round}");
                    let text = fetch(&client, addr, request(method, &target, Body::Empty)).await;
                    assert_eq!(text.unwrap(), target);
                }
            }));
        }
        for task in tasks {
            task.await.unwrap();
        }
        assert_eq!(seen.get(), 150, "none was answered twice");
        assert!(connections.get() >= 150 / 7, "{} connections", connections.get());
    });
}

#[test]
fn connections_that_have_gone_are_forgotten() {
    local(async {
        let (addr, connections) = server(h2::server::Builder::new(), |_, mut connection| async move {
            if let Some(Ok((_, mut respond))) = connection.accept().await {
                say(&mut respond, "x");
                connection.graceful_shutdown();
                while connection.accept().await.is_some() {}
            }
        })
        .await;
        let client = client();
        // More than there may be at a time.
        for _ in 0..300 {
            assert_eq!(fetch(&client, addr, get("/")).await.unwrap(), "x");
        }
        assert!(connections.get() > 256, "{} connections", connections.get());
    });
}

#[test]
fn what_a_server_refuses_unread_is_sent_again_whatever_it_is() {
    local(async {
        let refusals = Rc::new(Cell::new(2));
        let (addr, _) = answering(h2::server::Builder::new(), move |(request, mut respond)| {
            let refusals = Rc::clone(&refusals);
            async move {
                if refusals.get() > 0 {
                    refusals.set(refusals.get() - 1);
                    return respond.send_reset(Reason::REFUSED_STREAM);
                }
                let content = content(request.into_body()).await;
                say(&mut respond, content);
            }
        })
        .await;
        assert_eq!(fetch(&client(), addr, request(Method::Post, "/", "once")).await.unwrap(), "once");
    });
}

#[test]
fn one_that_always_refuses_is_given_up_and_the_request_may_go_elsewhere() {
    local(async {
        let asked = Rc::new(Cell::new(0));
        let count = Rc::clone(&asked);
        let (addr, _) = answering(h2::server::Builder::new(), move |(_, mut respond)| {
            count.set(count.get() + 1);
            async move { respond.send_reset(Reason::REFUSED_STREAM) }
        })
        .await;
        let error = fetch(&client(), addr, request(Method::Post, "/", "x")).await.unwrap_err();
        assert!(matches!(error.kind, ClientErrorKind::Http2(Http2Error::Refused)), "{error}");
        assert!(error.can_retry && asked.get() == 4, "{} times", asked.get());
    });
}

#[test]
fn one_that_goes_away_before_every_first_request_costs_few_connections() {
    // At once, and when the request is there.
    for is_told_first in [true, false] {
        let (addr, thread) = scripted_goodbyes(is_told_first);
        let error = local(async move { fetch(&client(), addr, request(Method::Post, "/", "x")).await.unwrap_err() });
        assert!(error.can_retry, "{error}");
        let connections = thread.load(SeqCst);
        assert!((1..=4).contains(&connections), "{connections} connections for one request ({error})");
    }
}

/// A server that says goodbye on each of its connections, which it counts, without having looked at a request.
fn scripted_goodbyes(is_told_first: bool) -> (SocketAddr, Arc<AtomicUsize>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = listener.local_addr().unwrap();
    let count = Arc::new(AtomicUsize::new(0));
    let counting = Arc::clone(&count);
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            counting.fetch_add(1, SeqCst);
            std::thread::spawn(move || {
                let goodbye = frame(7, 0, 0, &[0; 8]);
                let mut hello = frame(4, 0, 0, &[]);
                if is_told_first {
                    hello.extend_from_slice(&goodbye);
                }
                stream.read_exact(&mut [0; 24]).unwrap();
                stream.write_all(&hello).unwrap();
                loop {
                    let mut header = [0; 9];
                    if stream.read_exact(&mut header).is_err() {
                        return;
                    }
                    let length = usize::from(header[1]) << 8 | usize::from(header[2]);
                    stream.read_exact(&mut vec![0; length]).unwrap();
                    if header[3] == 1 && !is_told_first {
                        let _ = stream.write_all(&goodbye);
                    }
                }
            });
        }
    });
    (addr, count)
}

#[test]
fn a_reset_is_no_end_and_what_was_begun_is_not_repeated() {
    local(async {
        let (addr, _) = answering(h2::server::Builder::new(), |(request, mut respond)| async move {
            let code = if request.uri().path() == "/polite" { Reason::NO_ERROR } else { Reason::INTERNAL_ERROR };
            if request.method() == http::Method::POST {
                return respond.send_reset(code);
            }
            let mut stream = respond.send_response(ok(), false).unwrap();
            stream.send_data("half".into(), false).unwrap();
            tokio::task::yield_now().await;
            stream.send_reset(code);
        })
        .await;
        let client = client();
        for target in ["/", "/polite"] {
            // The reset may overtake the answer: then there is no answer at all, but never a whole one.
            match client.send(addr, get(target)).await {
                Ok((_, body)) => drop(body.collect(u64::MAX).await.unwrap_err()),
                Err(error) => assert!(matches!(error.kind, ClientErrorKind::Http2(Http2Error::Reset(_))), "{error}"),
            }
            let error = client.send(addr, request(Method::Post, target, "x")).await.unwrap_err();
            assert!(!error.can_retry, "{error}");
        }
    });
}

#[test]
fn a_used_connection_that_ends_without_a_word_is_replaced_once_where_that_is_harmless() {
    local(async {
        let asked = Rc::new(Cell::new(0));
        let count = Rc::clone(&asked);
        let (addr, connections) = server(h2::server::Builder::new(), move |_, mut connection| {
            let count = Rc::clone(&count);
            async move {
                // The first request of each connection is answered; the second one finds it closed.
                for _ in 0..2 {
                    let Some(Ok((request, mut respond))) = connection.accept().await else { return };
                    count.set(count.get() + 1);
                    match request.uri().path() {
                        "/reset" => respond.send_reset(Reason::INTERNAL_ERROR),
                        _ if count.get() % 2 == 1 => say(&mut respond, "x"),
                        _ => return,
                    }
                }
                while let Some(Ok((_, mut respond))) = connection.accept().await {
                    count.set(count.get() + 1);
                    respond.send_reset(Reason::INTERNAL_ERROR);
                }
            }
        })
        .await;
        let client = client();
        assert_eq!(fetch(&client, addr, get("/")).await.unwrap(), "x");
        assert_eq!(fetch(&client, addr, get("/")).await.unwrap(), "x", "asked again on a new connection");
        assert_eq!((asked.get(), connections.get()), (3, 2));
        let error = fetch(&client, addr, request(Method::Post, "/", Body::Empty)).await.unwrap_err();
        assert!(matches!(error.kind, ClientErrorKind::Closed) && !error.can_retry, "{error}");
        assert_eq!((asked.get(), connections.get()), (4, 2));
        assert_eq!(fetch(&client, addr, get("/")).await.unwrap(), "x");
        let error = fetch(&client, addr, get("/reset")).await.unwrap_err();
        assert!(error.can_retry, "another server may know better: {error}");
        assert_eq!((asked.get(), connections.get()), (6, 3), "this one has answered and is not asked again");
    });
}

#[test]
fn interim_answers_are_heard_and_endless_ones_are_not() {
    local(async {
        let (addr, _) = answering(h2::server::Builder::new(), |(request, mut respond)| async move {
            let hints = || http::Response::builder().status(103).header("link", "</a.css>; rel=preload");
            let count = if request.uri().path() == "/endless" { 1000 } else { 2 };
            for _ in 0..count {
                if respond.send_informational(hints().body(()).unwrap()).is_err() {
                    return;
                }
            }
            say(&mut respond, "final");
        })
        .await;
        let heard = Rc::new(RefCell::new(Vec::new()));
        let hearing = Rc::clone(&heard);
        let client = client().hearing(move |head| {
            let link = head.field_str("link").unwrap_or_default().to_owned();
            hearing.borrow_mut().push((head.status().as_u16(), link));
        });
        assert_eq!(fetch(&client, addr, get("/")).await.unwrap(), "final");
        assert_eq!(*heard.borrow(), vec![(103, "</a.css>; rel=preload".to_owned()); 2]);
        let error = fetch(&client, addr, get("/endless")).await.unwrap_err();
        assert!(matches!(error.kind, ClientErrorKind::Http2(Http2Error::Flood)), "{error}");
        assert!(!error.can_retry);
    });
}

#[test]
fn content_that_is_to_be_asked_for_waits() {
    local(async {
        let (addr, _) = answering(h2::server::Builder::new(), |(request, mut respond)| async move {
            if request.uri().path() == "/no" {
                let mut refusal = ok();
                *refusal.status_mut() = http::StatusCode::FORBIDDEN;
                respond.send_response(refusal, true).unwrap();
                return;
            }
            let mut go_on = ok();
            *go_on.status_mut() = http::StatusCode::CONTINUE;
            respond.send_informational(go_on).unwrap();
            let content = content(request.into_body()).await;
            say(&mut respond, content);
        })
        .await;
        let client = client();
        for (target, expect) in [("/no", (403, false)), ("/yes", (200, true))] {
            let was_read = Rc::new(Cell::new(false));
            let reading = Rc::clone(&was_read);
            let body = Body::from_source(Told { text: Some("content".into()), reading });
            let mut request = request(Method::Post, target, body);
            request.fields.append("expect", "100-continue").unwrap();
            let (head, body) = client.send(addr, request).await.unwrap();
            let text = body.collect(u64::MAX).await.unwrap();
            assert_eq!((head.status().as_u16(), was_read.get()), expect);
            assert_eq!(text, if expect.1 { "content" } else { "" });
        }
    });
}

/// Content that tells when it is taken.
struct Told {
    text: Option<Bytes>,
    reading: Rc<Cell<bool>>,
}

impl engine::Source for Told {
    fn poll_chunk(&mut self, _: &mut std::task::Context<'_>) -> std::task::Poll<Option<Result<Bytes, BodyError>>> {
        self.reading.set(true);
        std::task::Poll::Ready(self.text.take().map(Ok))
    }
}

#[test]
fn a_reader_who_takes_nothing_holds_up_nobody_else_and_not_the_memory() {
    local(async {
        let sent = Rc::new(Cell::new(0));
        let sending = Rc::clone(&sent);
        let (addr, connections) = answering(h2::server::Builder::new(), move |(request, mut respond)| {
            let sending = Rc::clone(&sending);
            async move {
                if request.uri().path() == "/short" {
                    return say(&mut respond, "short");
                }
                let mut stream = respond.send_response(ok(), false).unwrap();
                loop {
                    stream.reserve_capacity(16 * 1024);
                    let Some(Ok(room)) = std::future::poll_fn(|cx| stream.poll_capacity(cx)).await else { return };
                    if stream.send_data(Bytes::from(vec![0; room]), false).is_err() {
                        return;
                    }
                    sending.set(sending.get() + room);
                }
            }
        })
        .await;
        let client = client();
        let mut unread = Vec::new();
        for _ in 0..20 {
            unread.push(client.send(addr, get("/endless")).await.unwrap());
        }
        for _ in 0..50 {
            assert_eq!(fetch(&client, addr, get("/short")).await.unwrap(), "short");
        }
        assert_eq!(connections.get(), 1);
        assert!(sent.get() <= 20 * 128 * 1024, "{} bytes ahead of their readers", sent.get());
        drop(unread);
        assert_eq!(fetch(&client, addr, get("/short")).await.unwrap(), "short");
    });
}

#[test]
fn a_server_that_does_not_answer_is_waited_for_so_long_and_then_avoided() {
    local(async {
        // The first connection is never served again once its request is there: not even PINGs are answered.
        let (addr, connections) = server(h2::server::Builder::new(), |index, mut connection| async move {
            while let Some(Ok((_, mut respond))) = connection.accept().await {
                if index == 0 {
                    return std::future::pending().await;
                }
                say(&mut respond, "second");
            }
        })
        .await;
        let client = client_with(|settings| settings.head_timeout = Duration::from_millis(100));
        let error = fetch(&client, addr, get("/")).await.unwrap_err();
        assert!(error.is_timeout() && error.can_retry, "{error}");
        let client = client.waiting(DEADLINE);
        assert_eq!(fetch(&client, addr, get("/")).await.unwrap(), "second");
        assert_eq!(connections.get(), 2);
    });
}

#[test]
fn an_unused_connection_is_closed_in_time() {
    local_in_no_time(async {
        let gone = Rc::new(Notify::new());
        let telling = Rc::clone(&gone);
        let (addr, _) = server(h2::server::Builder::new(), move |_, mut connection| {
            let telling = Rc::clone(&telling);
            async move {
                while let Some(Ok((_, mut respond))) = connection.accept().await {
                    say(&mut respond, "x");
                }
                telling.notify_one();
            }
        })
        .await;
        let client = client_with(|settings| settings.pool_idle_timeout = Duration::from_millis(50));
        assert_eq!(fetch(&client, addr, get("/")).await.unwrap(), "x");
        let begun = tokio::time::Instant::now();
        gone.notified().await;
        assert!(begun.elapsed() < Duration::from_secs(2), "after {:?}", begun.elapsed());
        assert_eq!(client.idle_connections(), 0);
        assert_eq!(fetch(&client, addr, get("/")).await.unwrap(), "x", "a new one is opened");
    });
}

#[test]
fn servers_nobody_wants_any_more_are_let_go() {
    local(async {
        let (addr, connections) =
            answering(h2::server::Builder::new(), |(_, mut respond)| async move { say(&mut respond, "x") }).await;
        let client = client();
        assert_eq!(fetch(&client, addr, get("/")).await.unwrap(), "x");
        client.retain(|other| other == addr);
        assert_eq!(client.idle_connections(), 1);
        client.retain(|_| false);
        assert_eq!(client.idle_connections(), 0);
        assert_eq!(fetch(&client, addr, get("/")).await.unwrap(), "x");
        assert_eq!(connections.get(), 2);
    });
}

#[test]
fn a_connection_of_its_own_where_none_is_to_be_kept() {
    local(async {
        let (addr, connections) =
            answering(h2::server::Builder::new(), |(_, mut respond)| async move { say(&mut respond, "x") }).await;
        let client = client_with(|settings| settings.pool_idle_max = 0);
        for expect in 1..4 {
            assert_eq!(fetch(&client, addr, get("/")).await.unwrap(), "x");
            assert_eq!(connections.get(), expect);
        }
    });
}

/// What becomes of a request to a server that says `hello`, `then` when the request is there, and then `endless` again
/// and again if there is any.
fn against(hello: Vec<u8>, then: Vec<u8>, endless: Option<Vec<u8>>) -> ClientError {
    let (addr, thread) = scripted(move |listener: &TcpListener| {
        let mut stream = accept(listener);
        let mut preface = [0; 24];
        stream.read_exact(&mut preface).unwrap();
        let mut sent = stream.write_all(&hello);
        while sent.is_ok() && !then.is_empty() {
            let mut header = [0; 9];
            stream.read_exact(&mut header).unwrap();
            let length = usize::from(header[1]) << 8 | usize::from(header[2]);
            stream.read_exact(&mut vec![0; length]).unwrap();
            if header[3] == 1 {
                sent = stream.write_all(&then);
                break;
            }
        }
        while let (Ok(()), Some(more)) = (&sent, &endless) {
            sent = stream.write_all(more);
        }
        if sent.is_ok() {
            // Until the client has had enough.
            let _ = stream.read_to_end(&mut Vec::new());
        }
    });
    let error = local(async move {
        let client = client_with(|settings| settings.head_timeout = Duration::from_secs(10));
        client.send(addr, request(Method::Post, "/", "x")).await.map(|_| ()).unwrap_err()
    });
    thread.join().unwrap();
    error
}

#[test]
fn what_is_no_http_2_is_said_to_be_none() {
    for text in ["HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\r\n", "SSH-2.0-x\r\nanything at all\r\n"] {
        let error = against(text.into(), Vec::new(), None);
        assert!(matches!(error.kind, ClientErrorKind::Http2(Http2Error::NotSpoken)), "{error}");
        assert!(error.is_connect() && error.can_retry, "nothing of the request was sent");
    }
}

#[test]
fn hostile_frames_end_the_connection_and_not_the_client() {
    let hello = frame(4, 0, 0, &[]);
    // A head that never ends, in pieces.
    let error = against(hello.clone(), frame(1, 0, 1, &[0x88]), Some(frame(9, 0, 1, &[0; 100])));
    assert!(matches!(error.kind, ClientErrorKind::Http2(_)), "{error}");
    // PINGs and SETTINGS without end.
    for flood in [frame(6, 0, 0, &[0; 8]), frame(4, 0, 0, &[])] {
        let error = against(hello.clone(), flood.clone(), Some(flood));
        assert!(matches!(error.kind, ClientErrorKind::Http2(Http2Error::Flood)), "{error}");
        assert!(!error.can_retry, "it may have worked on the request");
    }
    // Content before a head; a frame of a stream nobody opened; a push nobody wants.
    for wrong in [frame(0, 1, 1, b"x"), frame(1, 5, 2, &[0x88]), frame(5, 4, 1, &[0, 0, 0, 2, 0x82])] {
        let error = against(hello.clone(), wrong.clone(), None);
        assert!(matches!(error.kind, ClientErrorKind::Http2(Http2Error::Broken(_))), "{wrong:?}: {error}");
    }
}

/// A server that offers HTTP/2 or not, and its authority as PEM.
fn serve_offering<S: Service>(http2: bool, make: impl Fn() -> S + Send + Sync + 'static) -> (Running, String) {
    let folder = tempfile::tempdir().unwrap();
    let authority = Authority::new();
    let files = authority.write(folder.path(), "server", &["localhost", "127.0.0.1"]);
    let mut offered = TlsSettings::many(vec![files]);
    offered.http2 = http2;
    (serve_with(settings(), &Tls::new(offered).unwrap(), make), authority.pem)
}

#[test]
fn the_handshake_decides_over_tls() {
    let seen = Arc::new(AtomicUsize::new(0));
    for (http2, shared) in [(true, true), (false, false)] {
        let count = Arc::clone(&seen);
        let (server, authority) = serve_offering(http2, move || {
            let count = Arc::clone(&count);
            move |request: Request| {
                count.fetch_add(1, SeqCst);
                async move { Response::text(StatusCode::OK, request.peer_addr().to_string()) }
            }
        });
        let addr = server.local_addrs()[0];
        local(async move {
            let folder = tempfile::tempdir().unwrap();
            let file = folder.path().join("ca.crt");
            std::fs::write(&file, &authority).unwrap();
            let tls = ClientTls::new(&Trust::File(file)).unwrap().with_http2();
            let client = Client::new(ClientSettings::default()).over_tls(tls);
            let tasks: Vec<_> = (0..10)
                .map(|_| {
                    let client = client.clone();
                    tokio::task::spawn_local(async move {
                        let mut request = get("/");
                        request.fields.set("host", "localhost").unwrap();
                        fetch(&client, addr, request).await.unwrap()
                    })
                })
                .collect();
            let mut answers = Vec::new();
            for task in tasks {
                answers.push(task.await.unwrap());
            }
            answers.sort_unstable();
            answers.dedup();
            assert_eq!(answers.len() == 1, shared, "{answers:?}");
        });
    }
    assert_eq!(seen.load(SeqCst), 20);
}
