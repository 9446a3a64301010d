//! The limits and deadlines of the client over HTTP/2, against servers that say in frames what they like. Time leaps, so
//! that half an hour is no wait.

use crate::client::{get, request};
use crate::client_h2::{client, client_with, fetch, local, local_in_no_time};
use crate::h2_frames::{FrameServer, GOAWAY, HEADERS, PING, SETTINGS, WINDOW_UPDATE};
use crate::tls_support::{field, frame};
use bytes::Bytes;
use engine::{Body, BodyError, ClientErrorKind, Http2Error, Method};
use std::cell::Cell;
use std::future::pending;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;
use tokio::time::Instant;

const HOUR: Duration = Duration::from_hours(1);
const ENDLESS: [u8; 4] = 0x7fff_ffff_u32.to_be_bytes();

fn seconds(since: Instant) -> u64 {
    since.elapsed().as_secs()
}

/// Reads until there is a request; its stream.
async fn asked(server: &mut FrameServer) -> u32 {
    loop {
        let frame = server.read().await.expect("the connection is open");
        if frame.kind == HEADERS {
            return frame.stream;
        }
    }
}

async fn begin(server: &mut FrameServer) -> u32 {
    server.send(SETTINGS, 0, 0, &[]).await;
    asked(server).await
}

#[test]
fn what_a_server_may_do_is_announced() {
    local(async {
        let (addr, _) = FrameServer::listen(|_, mut server| async move {
            let announced = server.read().await.unwrap();
            assert_eq!(announced.kind, SETTINGS);
            let value = |of: u16| {
                let setting = announced.payload.chunks(6).find(|setting| setting[..2] == of.to_be_bytes());
                setting.map(|setting| u32::from_be_bytes(setting[2..].try_into().unwrap()))
            };
            let more = server.read().await.unwrap();
            let more =
                (more.kind == WINDOW_UPDATE).then(|| u32::from_be_bytes(more.payload.try_into().unwrap()) + 0xffff);
            let expect = [Some(0), Some(128 * 1024), Some(32 * 1024), Some(100 * 128 * 1024)];
            let is_so = [value(2), value(4), value(6), more] == expect; // push, a stream's bytes, a head's, all bytes
            let stream = begin(&mut server).await;
            server.send(HEADERS, 5, stream, if is_so { &[0x88] } else { &[0x8d] }).await;
        })
        .await;
        assert_eq!(client().send(addr, get("/")).await.unwrap().0.status().as_u16(), 200);
    });
}

#[test]
fn a_server_that_falls_silent_is_asked_whether_it_is_there_and_given_up() {
    local_in_no_time(async {
        let (addr, _) = FrameServer::listen(|_, mut server| async move {
            begin(&mut server).await;
            pending::<()>().await;
        })
        .await;
        let begun = Instant::now();
        let error = client().waiting(HOUR).send(addr, get("/")).await.map(|_| ()).unwrap_err();
        assert!(matches!(error.kind, ClientErrorKind::Http2(Http2Error::Dead)), "{error}");
        assert!((40..43).contains(&seconds(begun)), "after {} s: 30 s of silence, and 10 s to say so", seconds(begun));
    });
}

#[test]
fn a_server_that_is_there_may_take_its_time_and_is_not_asked_often() {
    local_in_no_time(async {
        let pings = Rc::new(Cell::new(0));
        let counting = Rc::clone(&pings);
        let (addr, _) = FrameServer::listen(move |_, mut server| {
            let pings = Rc::clone(&counting);
            async move {
                let stream = begin(&mut server).await;
                let mut answer = Box::pin(tokio::time::sleep(Duration::from_mins(20)));
                loop {
                    tokio::select! {
                        frame = server.read() => match frame {
                            Some(frame) if frame.kind == PING => {
                                pings.set(pings.get() + 1);
                                server.send(PING, 1, 0, &frame.payload).await;
                            }
                            Some(_) => {}
                            None => return,
                        },
                        () = &mut answer => server.send(HEADERS, 5, stream, &[0x88]).await,
                    }
                }
            }
        })
        .await;
        assert_eq!(client().waiting(HOUR).send(addr, get("/")).await.unwrap().0.status().as_u16(), 200);
        assert_eq!(pings.get(), 4, "every 310 s, in 20 min");
    });
}

#[test]
fn a_late_answer_is_not_held_against_a_server_that_is_there() {
    local_in_no_time(async {
        let (addr, connections) = FrameServer::listen(|_, mut server| async move {
            server.send(SETTINGS, 0, 0, &[]).await;
            let mut is_first = true;
            while let Some(frame) = server.read().await {
                match frame.kind {
                    PING => server.send(PING, 1, 0, &frame.payload).await,
                    HEADERS if !std::mem::replace(&mut is_first, false) => {
                        server.send(HEADERS, 5, frame.stream, &[0x88]).await;
                    }
                    _ => {}
                }
            }
        })
        .await;
        let client = client_with(|settings| settings.head_timeout = Duration::from_secs(1));
        assert!(client.send(addr, get("/")).await.map(|_| ()).unwrap_err().is_timeout());
        tokio::time::sleep(Duration::from_secs(1)).await; // a PING comes and goes
        client.send(addr, get("/")).await.unwrap();
        assert_eq!(connections.get(), 1);
    });
}

#[test]
fn a_head_that_does_not_end_is_not_waited_for_longer_than_the_setting_says() {
    local_in_no_time(async {
        let (addr, _) = FrameServer::listen(|_, mut server| async move {
            let stream = begin(&mut server).await;
            server.send(HEADERS, 0, stream, &[0x88]).await;
            pending::<()>().await;
        })
        .await;
        let begun = Instant::now();
        let client = client_with(|settings| settings.head_timeout = Duration::from_secs(5)).waiting(HOUR);
        let error = client.send(addr, get("/")).await.map(|_| ()).unwrap_err();
        assert!(matches!(error.kind, ClientErrorKind::Http2(Http2Error::Dead)), "{error}");
        assert!((5..8).contains(&seconds(begun)), "after {} s", seconds(begun));
    });
}

/// Content without end that counts what is taken of it.
struct Endless(Rc<Cell<usize>>);

impl engine::Source for Endless {
    fn poll_chunk(&mut self, _: &mut std::task::Context<'_>) -> std::task::Poll<Option<Result<Bytes, BodyError>>> {
        const CHUNK: Bytes = Bytes::from_static(&[b'x'; 16 * 1024]);
        self.0.set(self.0.get() + CHUNK.len());
        std::task::Poll::Ready(Some(Ok(CHUNK)))
    }
}

fn endless(taken: &Rc<Cell<usize>>) -> Body {
    Body::from_source(Endless(Rc::clone(taken)))
}

/// A server that allows everything, and reads nothing after the first request.
async fn deaf() -> SocketAddr {
    let (addr, _) = FrameServer::listen(|_, mut server| async move {
        server.send(SETTINGS, 0, 0, &[&[0, 4], &ENDLESS[..]].concat()).await;
        server.send(WINDOW_UPDATE, 0, 0, &(0x7fff_ffff_u32 - 0xffff).to_be_bytes()).await;
        asked(&mut server).await;
        pending::<()>().await;
    })
    .await;
    addr
}

#[test]
fn content_that_waits_for_the_socket_is_bounded_and_given_up_in_time() {
    const UPLOADS: usize = 32;
    /// What `h2` buffers, and the chunk in hand.
    const PER_UPLOAD: usize = (32 + 2 * 16) * 1024;
    /// The kernel's buffers on both sides, far beyond what they are by default.
    const OF_SOCKETS: usize = 12 << 20;
    local_in_no_time(async {
        let (addr, taken) = (deaf().await, Rc::new(Cell::new(0)));
        let client = client_with(|settings| settings.write_idle_timeout = Duration::from_secs(5)).waiting(HOUR);
        let begun = Instant::now();
        let waiting = {
            let client = client.clone();
            tokio::task::spawn_local(async move { client.send(addr, get("/")).await.map(|_| ()).unwrap_err() })
        };
        let tasks: Vec<_> = (0..UPLOADS)
            .map(|_| {
                let (client, body) = (client.clone(), endless(&taken));
                let upload = async move { client.send(addr, request(Method::Post, "/", body)).await.is_err() };
                tokio::task::spawn_local(upload)
            })
            .collect();
        let error = waiting.await.unwrap();
        assert!(matches!(error.kind, ClientErrorKind::Http2(Http2Error::Dead)), "{error}");
        assert!((5..8).contains(&seconds(begun)), "after {} s", seconds(begun));
        for task in tasks {
            assert!(task.await.unwrap());
        }
        assert!(taken.get() < UPLOADS * PER_UPLOAD + OF_SOCKETS, "{} bytes for one that reads nothing", taken.get());
    });
}

#[test]
fn resets_forced_by_broken_frames_are_counted() {
    local(async {
        let (addr, connections) = FrameServer::listen(|_, mut server| async move {
            server.send(SETTINGS, 0, 0, &[]).await;
            while let Some(frame) = server.read().await {
                if frame.kind == HEADERS {
                    // A field that HTTP/2 does not have.
                    let head = [vec![0x88], field("connection", "close")].concat();
                    server.send(HEADERS, 5, frame.stream, &head).await;
                }
            }
        })
        .await;
        let client = client();
        for number in 1..=150 {
            let error = client.send(addr, get("/")).await.map(|_| ()).unwrap_err();
            assert!(matches!(error.kind, ClientErrorKind::Http2(Http2Error::Broken(_))), "{number}: {error}");
        }
        assert_eq!(connections.get(), 2, "one hundred on each connection");
    });
}

#[test]
fn a_server_may_reset_every_request_it_was_asked() {
    local(async {
        let (addr, connections) = FrameServer::listen(|_, mut server| async move {
            server.send(SETTINGS, 0, 0, &[]).await;
            while let Some(frame) = server.read().await {
                if frame.kind == HEADERS {
                    server.send(crate::tls_support::RST_STREAM, 0, frame.stream, &[0, 0, 0, 2]).await;
                }
            }
        })
        .await;
        let client = client();
        for number in 1..=250 {
            let error = client.send(addr, get("/")).await.map(|_| ()).unwrap_err();
            assert!(matches!(error.kind, ClientErrorKind::Http2(Http2Error::Reset(2))), "{number}: {error}");
        }
        assert_eq!(connections.get(), 1);
    });
}

#[test]
fn a_fresh_connection_that_ends_without_a_word_is_not_replaced() {
    local(async {
        let (addr, connections) = FrameServer::listen(|_, mut server| async move {
            begin(&mut server).await;
        })
        .await;
        let error = fetch(&client(), addr, get("/")).await.unwrap_err();
        assert!(error.can_retry, "another server may do better: {error}");
        assert_eq!(connections.get(), 1, "this one has shown what it does");
    });
}

/// What stands between its first word and its goodbye decides when the client sees the latter: while it opens the
/// connection, before a request is put on it, or after that. Sooner or later is no reason to go on for ever.
#[test]
fn one_that_goes_away_at_once_costs_few_connections_whenever_that_is_seen() {
    for fillers in 0..40 {
        local(async move {
            let (addr, connections) = FrameServer::listen(move |_, mut server| async move {
                let filler = frame(0xfa, 0, 0, &[0; 16 * 1024]).repeat(fillers);
                let all = [frame(SETTINGS, 0, 0, &[]), filler, frame(GOAWAY, 0, 0, &[0; 8])].concat();
                server.send_bytes(&all).await;
                while server.read().await.is_some() {}
            })
            .await;
            let error = fetch(&client(), addr, request(Method::Post, "/", "x")).await.unwrap_err();
            assert!(error.can_retry, "{error}");
            let count = connections.get();
            assert!((1..=4).contains(&count), "{count} connections for one request, with {fillers} frames between");
        });
    }
}
