//! Who waits for a stream of a connection over HTTP/2, and how many connections there may be.

use crate::client::{get, request};
use crate::client_h2::{answering, client, client_with, fetch, local, local_in_no_time, say, server};
use crate::h2_frames::{FrameServer, GOAWAY, HEADERS, SETTINGS};
use bytes::Bytes;
use engine::{ClientError, ClientErrorKind, Http2Error, Method};
use h2::server::SendResponse;
use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::pin::Pin;
use std::rc::Rc;
use std::task::Poll;
use std::time::Duration;
use tokio::sync::Notify;

#[test]
fn another_connection_is_opened_when_all_streams_are_taken() {
    local(async {
        let mut builder = h2::server::Builder::new();
        builder.max_concurrent_streams(3);
        let (all_here, count) = (Rc::new(Notify::new()), Rc::new(Cell::new(0)));
        let (addr, connections) = answering(builder, move |(_, mut respond)| {
            let (all_here, count) = (Rc::clone(&all_here), Rc::clone(&count));
            async move {
                count.set(count.get() + 1);
                let told = all_here.notified();
                if count.get() == 9 {
                    all_here.notify_waiters();
                } else {
                    told.await;
                }
                say(&mut respond, "x");
            }
        })
        .await;
        let client = client();
        // The first one learns how many there may be.
        let tasks: Vec<_> = (0..9)
            .map(|_| {
                let client = client.clone();
                tokio::task::spawn_local(async move { fetch(&client, addr, get("/")).await.unwrap() })
            })
            .collect();
        for task in tasks {
            assert_eq!(task.await.unwrap(), "x");
        }
        assert_eq!(connections.get(), 3);
    });
}

#[test]
fn a_server_that_allows_no_requests_is_waited_for_and_not_for_ever() {
    local(async {
        let mut builder = h2::server::Builder::new();
        builder.max_concurrent_streams(0);
        let asked = Rc::new(Cell::new(0));
        let count = Rc::clone(&asked);
        let (addr, connections) = answering(builder, move |(_, mut respond)| {
            count.set(count.get() + 1);
            async move { say(&mut respond, "x") }
        })
        .await;
        for kept in [0, 8] {
            connections.set(0);
            let client = client_with(|settings| {
                settings.connect_timeout = Duration::from_millis(300);
                settings.pool_idle_max = kept;
            });
            let error = fetch(&client, addr, request(Method::Post, "/", "x")).await.unwrap_err();
            assert!(matches!(error.kind, ClientErrorKind::Http2(Http2Error::NoRoom)), "{error}");
            assert!(error.can_retry, "{error}");
            assert_eq!((asked.get(), connections.get()), (0, 1), "nothing was sent, by one connection");
        }
    });
}

/// A request under way that is only looked after when the test does so.
type Fetching = Pin<Box<dyn Future<Output = Result<String, ClientError>>>>;

fn fetching(client: &engine::Client, addr: std::net::SocketAddr, target: &str) -> Fetching {
    let (client, request) = (client.clone(), get(target));
    Box::pin(async move { fetch(&client, addr, request).await })
}

/// Gives each of them its turn once, in this order.
async fn look(fetching: &mut [Fetching]) {
    poll_fn(|cx| {
        assert!(fetching.iter_mut().all(|fetching| fetching.as_mut().poll(cx).is_pending()), "it has ended early");
        Poll::Ready(())
    })
    .await;
}

const NOTHING: [u8; 6] = [0, 3, 0, 0, 0, 0];
const PLENTY: [u8; 6] = [0, 3, 0, 0, 0, 100];

/// A server that allows nothing until it is told to, and keeps in mind what it was asked.
struct Shut {
    addr: std::net::SocketAddr,
    /// The client has understood that nothing is allowed, or that something is.
    understood: Rc<Notify>,
    open: Rc<Notify>,
    /// How long their heads are: a test tells requests apart by long targets.
    asked: Rc<RefCell<Vec<usize>>>,
}

impl Shut {
    async fn new() -> Self {
        let (understood, open, asked) = <(Rc<Notify>, Rc<Notify>, Rc<RefCell<Vec<usize>>>)>::default();
        let (understanding, opening, asking) = (understood.clone(), open.clone(), asked.clone());
        let (addr, _) = FrameServer::listen(move |_, mut server| {
            let (understood, open, asked) = (understanding.clone(), opening.clone(), asking.clone());
            async move {
                server.send(SETTINGS, 0, 0, &NOTHING).await;
                server.read_until(|frame| frame.kind == SETTINGS && frame.flags == 1).await;
                understood.notify_one();
                open.notified().await;
                server.send(SETTINGS, 0, 0, &PLENTY).await;
                let is_ack = |frame: &crate::tls_support::Frame| frame.kind == SETTINGS && frame.flags == 1;
                let early = server.read_until(is_ack).await;
                assert_eq!(early, 0, "nothing is asked before it is allowed");
                understood.notify_one();
                while let Some(frame) = server.read().await {
                    if frame.kind == HEADERS {
                        asked.borrow_mut().push(frame.payload.len());
                        server.send(HEADERS, 5, frame.stream, &[0x88]).await;
                    }
                }
            }
        })
        .await;
        Self { addr, understood, open, asked }
    }
}

#[test]
fn who_waits_for_a_server_that_allows_nothing_goes_on_when_it_does_in_order() {
    local(async {
        let shut = Shut::new().await;
        let client = client();
        let mut waiting: Vec<Fetching> =
            (1..=5).map(|number| fetching(&client, shut.addr, &format!("/{}", "x".repeat(200 * number)))).collect();
        look(&mut waiting).await; // they ask for a connection
        shut.understood.notified().await;
        look(&mut waiting).await; // and now all are in the queue
        shut.open.notify_one();
        let tasks: Vec<_> = waiting.into_iter().rev().map(tokio::task::spawn_local).collect();
        for task in tasks {
            task.await.unwrap().unwrap();
        }
        let asked = shut.asked.borrow();
        assert!(asked.len() == 5 && asked.is_sorted(), "in the order they came: {asked:?}");
    });
}

#[test]
fn nobody_overtakes_who_waits() {
    local(async {
        let shut = Shut::new().await;
        let client = client();
        let mut waiting = [fetching(&client, shut.addr, "/first")];
        look(&mut waiting).await;
        shut.understood.notified().await;
        look(&mut waiting).await;
        shut.open.notify_one();
        shut.understood.notified().await;
        // There is room now, and the one whose turn it is has not looked yet.
        let mut late = [fetching(&client, shut.addr, &format!("/{}", "x".repeat(500)))];
        look(&mut late).await;
        look(&mut waiting).await;
        let ([first], [late]) = (waiting, late);
        let late = tokio::task::spawn_local(late);
        first.await.unwrap();
        late.await.unwrap().unwrap();
        let asked = shut.asked.borrow();
        assert!(asked.len() == 2 && asked.is_sorted(), "{asked:?}");
    });
}

#[test]
fn who_waits_looks_elsewhere_when_the_connection_goes() {
    local_in_no_time(async {
        let leave = Rc::new(Notify::new());
        let leaving = Rc::clone(&leave);
        let (addr, connections) = FrameServer::listen(move |index, mut server| {
            let leave = Rc::clone(&leaving);
            async move {
                server.send(SETTINGS, 0, 0, if index == 0 { &NOTHING } else { &PLENTY }).await;
                if index == 0 {
                    return leave.notified().await;
                }
                while let Some(frame) = server.read().await {
                    if frame.kind == HEADERS {
                        server.send(HEADERS, 5, frame.stream, &[0x88]).await;
                    }
                }
            }
        })
        .await;
        let client = client();
        let waiting = tokio::task::spawn_local(fetching(&client, addr, "/"));
        // The clock leaps when all wait, and no further than this.
        tokio::time::sleep(Duration::from_millis(100)).await;
        leave.notify_one();
        waiting.await.unwrap().unwrap();
        assert_eq!(connections.get(), 2);
    });
}

#[test]
fn no_more_streams_are_taken_of_a_connection_than_is_sensible_whatever_it_allows() {
    local(async {
        let mut builder = h2::server::Builder::new();
        builder.max_concurrent_streams(10_000);
        let held: Rc<RefCell<Vec<Vec<SendResponse<Bytes>>>>> = Rc::default();
        let (all_here, holding) = (Rc::new(Notify::new()), Rc::clone(&held));
        let told = Rc::clone(&all_here);
        let (addr, connections) = server(builder, move |_, mut connection| {
            let (held, all_here) = (Rc::clone(&holding), Rc::clone(&told));
            async move {
                let mine = held.borrow().len();
                held.borrow_mut().push(Vec::new());
                while let Some(Ok((_, respond))) = connection.accept().await {
                    held.borrow_mut()[mine].push(respond);
                    if held.borrow().iter().flatten().count() == 150 {
                        all_here.notify_one();
                    }
                }
            }
        })
        .await;
        let client = client();
        let tasks: Vec<_> = (0..150).map(|_| tokio::task::spawn_local(fetching(&client, addr, "/"))).collect();
        all_here.notified().await;
        assert!(held.borrow().iter().all(|held| held.len() <= 100), "too many on one connection");
        assert_eq!(connections.get(), 2);
        held.borrow_mut().iter_mut().flatten().for_each(|respond| say(respond, "x"));
        for task in tasks {
            assert_eq!(task.await.unwrap().unwrap(), "x");
        }
    });
}

#[test]
fn who_would_not_find_room_on_a_connection_that_is_being_opened_opens_another() {
    local(async {
        let (shake, answered) = (Rc::new(Notify::new()), Rc::new(Cell::new(0)));
        let (shaking, answering) = (Rc::clone(&shake), Rc::clone(&answered));
        let (addr, connections) = FrameServer::listen(move |index, mut server| {
            let (shake, answered) = (Rc::clone(&shaking), Rc::clone(&answering));
            async move {
                if index == 0 {
                    shake.notified().await; // slow to begin
                }
                server.send(SETTINGS, 0, 0, &PLENTY).await;
                while let Some(frame) = server.read().await {
                    if frame.kind == HEADERS {
                        answered.set(answered.get() + 1);
                        server.send(HEADERS, 5, frame.stream, &[0x88]).await;
                        if answered.get() == 50 {
                            shake.notify_one();
                        }
                    }
                }
            }
        })
        .await;
        let client = client();
        let tasks: Vec<_> = (0..150).map(|_| tokio::task::spawn_local(fetching(&client, addr, "/"))).collect();
        for task in tasks {
            task.await.unwrap().unwrap();
        }
        assert_eq!(connections.get(), 2);
    });
}

/// 256 connections of one stream, all taken: the next request waits, and goes on when one is given back.
#[test]
fn connections_to_one_server_are_bounded_and_the_next_one_waits() {
    local_in_no_time(async {
        let mut builder = h2::server::Builder::new();
        builder.max_concurrent_streams(1);
        let held: Rc<RefCell<Vec<SendResponse<Bytes>>>> = Rc::default();
        let holding = Rc::clone(&held);
        let (addr, connections) = answering(builder, move |(_, respond)| {
            holding.borrow_mut().push(respond);
            std::future::ready(())
        })
        .await;
        let client = client();
        let mut tasks: Vec<_> = (0..256).map(|_| tokio::task::spawn_local(fetching(&client, addr, "/"))).collect();
        while held.borrow().len() < 256 {
            tokio::task::yield_now().await;
        }
        tasks.push(tokio::task::spawn_local(fetching(&client, addr, "/")));
        tokio::time::sleep(Duration::from_secs(1)).await; // the clock leaps when all wait
        assert_eq!((held.borrow().len(), connections.get()), (256, 256));
        let mut first = held.borrow_mut().remove(0);
        say(&mut first, "x");
        tokio::time::sleep(Duration::from_millis(1)).await;
        assert_eq!(held.borrow().len(), 256, "the one who waited is not there");
        held.borrow_mut().iter_mut().for_each(|respond| say(respond, "x"));
        for task in tasks {
            assert_eq!(task.await.unwrap().unwrap(), "x");
        }
        assert_eq!(connections.get(), 256);
    });
}

/// The same, where all of them are given up because answers are late: they are used again when the server turns out to
/// be there.
#[test]
fn who_waits_goes_on_when_a_suspicion_was_wrong() {
    local_in_no_time(async {
        let mut builder = h2::server::Builder::new();
        builder.max_concurrent_streams(1);
        let count = Rc::new(Cell::new(0));
        let counting = Rc::clone(&count);
        let (addr, connections) = answering(builder, move |(_, mut respond)| {
            counting.set(counting.get() + 1);
            let is_late = counting.get() <= 256;
            async move {
                if is_late {
                    return poll_fn(|cx| respond.poll_reset(cx).map(drop)).await;
                }
                say(&mut respond, "x");
            }
        })
        .await;
        let client = client_with(|settings| settings.head_timeout = Duration::from_secs(1));
        let tasks: Vec<_> = (0..256).map(|_| tokio::task::spawn_local(fetching(&client, addr, "/"))).collect();
        while count.get() < 256 {
            tokio::task::yield_now().await;
        }
        let next = tokio::task::spawn_local(fetching(&client, addr, "/"));
        for task in tasks {
            assert!(task.await.unwrap().unwrap_err().is_timeout());
        }
        assert_eq!(next.await.unwrap().unwrap(), "x");
        assert_eq!(connections.get(), 256);
    });
}

#[test]
fn a_request_is_put_on_so_many_connections_that_go_away_and_no_more() {
    local(async {
        // On each connection a first request is kept; the second one is not looked at, when there is a next connection.
        let (opened, asked) = (Rc::new(Notify::new()), Rc::new(Cell::new(0)));
        let (opening, asking) = (Rc::clone(&opened), Rc::clone(&asked));
        let (addr, _) = FrameServer::listen(move |index, mut server| {
            let (opened, asked) = (Rc::clone(&opening), Rc::clone(&asking));
            async move {
                server.send(SETTINGS, 0, 0, &[0, 3, 0, 0, 0, 2]).await;
                let mut first = None;
                while let Some(frame) = server.read().await {
                    match (frame.kind, first) {
                        (HEADERS, None) => {
                            first = Some(frame.stream);
                            opened.notify_one();
                        }
                        (HEADERS, Some(first)) => {
                            asked.set(asked.get() + 1);
                            assert_eq!(asked.get(), index + 1);
                            opened.notified().await;
                            server.send(GOAWAY, 0, 0, &[first.to_be_bytes(), [0; 4]].concat()).await;
                        }
                        _ => {}
                    }
                }
            }
        })
        .await;
        let client = client();
        let mut keeping = vec![tokio::task::spawn_local(fetching(&client, addr, "/kept"))];
        opened.notified().await;
        let unlucky = {
            let client = client.clone();
            tokio::task::spawn_local(async move { fetch(&client, addr, request(Method::Post, "/", "x")).await })
        };
        while !unlucky.is_finished() {
            if asked.get() == keeping.len() {
                keeping.push(tokio::task::spawn_local(fetching(&client, addr, "/kept")));
            }
            tokio::task::yield_now().await;
            assert!(keeping.len() < 50, "it is put on ever more connections");
        }
        let error = unlucky.await.unwrap().unwrap_err();
        assert!(matches!(error.kind, ClientErrorKind::Http2(Http2Error::Refused)) && error.can_retry, "{error}");
        assert_eq!(asked.get(), 20);
        keeping.iter().for_each(tokio::task::JoinHandle::abort);
    });
}
