//! Accepts connections for one listener on one worker.

use super::conn::Conn;
use super::exchange::{serve_stream, turn_away};
use super::worker::{LocalTask, Worker};
use super::{Socket, Welcome};
use crate::stream::Stream;
use crate::{Peer, Service};
use std::future::{Future, poll_fn};
use std::io;
use std::net::SocketAddr;
use std::pin::pin;
use std::rc::Rc;
use std::task::Poll;
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};
use tokio::time::Instant;

/// Connections that are told 503 at a time, beyond the limit; further ones are dropped.
const TURNED_AWAY_MAX: usize = 64;
/// Connections accepted after the stop, because they were queued before it.
const LAST_ONES_MAX: usize = 1024;
/// Pause after the system has no descriptor or memory for another connection.
const EXHAUSTED_PAUSE: Duration = Duration::from_millis(100);
/// The same trouble is logged once in this time.
const LOG_PAUSE: Duration = Duration::from_mins(1);

/// Accepts until the worker stops, then takes what is still queued.
pub(super) async fn accept<W: Welcome>(worker: Rc<Worker>, listener: TcpListener, host: W) {
    let mut trouble = Trouble::default();
    let stop = worker.stop.clone();
    let mut stopped = pin!(stop.cancelled());
    let mut last_ones = LAST_ONES_MAX;
    while last_ones > 0 {
        if worker.stop.is_cancelled() {
            last_ones -= 1;
        }
        let accepted = poll_fn(|cx| match listener.poll_accept(cx) {
            Poll::Ready(accepted) => Poll::Ready(Some(accepted)),
            Poll::Pending => stopped.as_mut().poll(cx).map(|()| None),
        });
        match accepted.await {
            Some(Ok((socket, addr))) => welcome(&worker, &listener, &host, socket, addr),
            Some(Err(error)) if is_exhausted(&error) => {
                trouble.log(&error, worker.open());
                tokio::time::sleep(EXHAUSTED_PAUSE).await;
                if worker.stop.is_cancelled() {
                    break;
                }
            }
            Some(Err(_)) => {} // the client gave up before it was accepted
            None => break,
        }
    }
    worker.handle_stop(); // before clients can see that the listener is gone
}

/// HTTP/1.1 without encryption.
pub(super) struct Plain<S> {
    service: Rc<S>,
}

impl<S> Plain<S> {
    pub(super) fn new(service: S) -> Self {
        Self { service: Rc::new(service) }
    }
}

impl<S: Service> Welcome for Plain<S> {
    fn welcome(&self, worker: &Rc<Worker>, socket: Socket, peer: Peer) -> LocalTask {
        let (worker, service) = (worker.clone(), self.service.clone());
        Box::pin(async move { serve_stream(&worker, Stream::Plain(socket), peer, &*service).await })
    }
}

fn welcome<W: Welcome>(worker: &Rc<Worker>, listener: &TcpListener, host: &W, socket: TcpStream, addr: SocketAddr) {
    let limit = worker.settings.connections_per_worker_max;
    let open = worker.open();
    if open >= limit.saturating_add(TURNED_AWAY_MAX) {
        return;
    }
    let Ok(local_addr) = socket.local_addr().or_else(|_| listener.local_addr()) else { return };
    let peer = Peer::new(addr, local_addr, worker.stop.clone());
    let socket = Socket::new(socket);
    if open >= limit {
        let conn = Rc::new(Conn::new(Stream::Plain(socket), peer, worker.clone()));
        let registered = worker.register(&conn);
        tokio::task::spawn_local(async move {
            turn_away(&conn).await;
            drop(registered);
        });
        return;
    }
    tokio::task::spawn_local(host.welcome(worker, socket, peer));
}

/// No descriptor or memory left: accepting again at once would only spin.
fn is_exhausted(error: &io::Error) -> bool {
    use rustix::io::Errno;
    error.raw_os_error().is_some_and(|code| {
        [Errno::MFILE, Errno::NFILE, Errno::NOBUFS, Errno::NOMEM].iter().any(|errno| errno.raw_os_error() == code)
    })
}

/// Says once a minute what is wrong instead of once a try.
#[derive(Default)]
struct Trouble {
    logged: Option<Instant>,
    unlogged: u64,
}

impl Trouble {
    fn log(&mut self, error: &io::Error, open: usize) {
        if self.logged.is_some_and(|at| at.elapsed() < LOG_PAUSE) {
            self.unlogged += 1;
            return;
        }
        tracing::error!(%error, open, unlogged = self.unlogged, "cannot accept connections; raise the open file limit");
        self.logged = Some(Instant::now());
        self.unlogged = 0;
    }
}
