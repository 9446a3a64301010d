//! Listeners that speak TLS: handshake, then the protocol both sides agreed upon.

use super::{Handshaken, Tls, handshake};
use crate::server::{BindError, LocalTask, Running, Server, Socket, Welcome, Worker, serve_stream};
use crate::stream::Stream;
use crate::{Peer, Request, Response, Service, StatusCode, h2};
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::rc::Rc;

impl Server {
    /// As [`Server::listen`], over TLS: HTTP/2 where the client offers it, HTTP/1.1 otherwise. The certificates are
    /// loaded again when their files change and on SIGHUP, see [`Tls::watch`].
    ///
    /// A request whose host is not the one the connection is for gets 421 and reaches no service: the presented
    /// certificate does not cover it, and the client asked for another name or another certificate does cover it.
    ///
    /// # Errors
    /// As [`Server::listen`].
    pub fn listen_tls<S: Service>(
        self,
        addr: SocketAddr,
        tls: Tls,
        make: impl Fn() -> S + Send + Sync + 'static,
    ) -> Result<Self, BindError> {
        let watched = tls.clone();
        let listening = self.listen_raw(addr, move || Secure::new(tls.clone(), make()))?;
        Ok(listening.on_one_worker(move || watched.watch()))
    }

    /// As [`Server::listen_tls`], on sockets that listen already: see [`Server::listen_on`].
    ///
    /// # Errors
    /// As [`Server::listen_on`].
    pub fn listen_tls_on<S: Service>(
        self,
        sockets: Vec<TcpListener>,
        tls: Tls,
        make: impl Fn() -> S + Send + Sync + 'static,
    ) -> io::Result<Self> {
        let watched = tls.clone();
        let make = move || Secure::new(tls.clone(), make());
        Ok(self.listen_raw_on(sockets, make)?.on_one_worker(move || watched.watch()))
    }
}

impl Running {
    /// As [`Running::listen_on`], over TLS with what another listener of this server watches already.
    ///
    /// # Errors
    /// As [`Running::listen_on`].
    pub async fn listen_tls_on<S: Service>(
        &mut self,
        sockets: Vec<TcpListener>,
        tls: Tls,
        make: impl Fn() -> S + Send + Sync + 'static,
    ) -> io::Result<()> {
        self.listen_raw_on(sockets, move || Secure::new(tls.clone(), make())).await
    }
}

/// Welcomes connections of one TLS listener on one worker.
pub(crate) struct Secure<S> {
    tls: Tls,
    service: Rc<Guard<S>>,
}

impl<S: Service> Secure<S> {
    pub(crate) fn new(tls: Tls, service: S) -> Self {
        Self { tls, service: Rc::new(Guard(service)) }
    }
}

impl<S: Service> Welcome for Secure<S> {
    fn welcome(&self, worker: &Rc<Worker>, socket: Socket, peer: Peer) -> LocalTask {
        let (worker, tls, service) = (worker.clone(), self.tls.clone(), self.service.clone());
        Box::pin(async move {
            let stop = peer.stop.clone();
            let patience = worker.settings.head_timeout;
            let shaken = tokio::select! {
                biased;
                shaken = handshake(&tls, socket, patience) => shaken,
                () = stop.cancelled() => return,
            };
            match shaken {
                Ok(shaken) => serve(&worker, shaken, peer, service).await,
                Err(error) => tracing::debug!(peer = %peer.addr, %error, "no TLS handshake"),
            }
        })
    }
}

async fn serve<S: Service>(worker: &Rc<Worker>, shaken: Handshaken<Socket>, mut peer: Peer, service: Rc<S>) {
    let Handshaken { stream, info, is_http2 } = shaken;
    peer.tls = Some(Rc::new(info));
    if is_http2 {
        h2::serve(stream, service, Rc::new(peer), worker.settings.clone()).await;
    } else {
        serve_stream(worker, Stream::Secure(Box::new(stream)), peer, &*service).await;
    }
}

/// Keeps misdirected requests from a service.
struct Guard<S>(S);

impl<S: Service> Service for Guard<S> {
    fn call(&self, request: Request) -> impl Future<Output = Response> + use<S> + 'static {
        let is_misdirected = request.peer().tls.as_ref().is_some_and(|tls| tls.is_misdirected(&request.head));
        let answer = (!is_misdirected).then(|| self.0.call(request));
        async move {
            match answer {
                Some(answer) => answer.await,
                None => misdirected(),
            }
        }
    }
}

fn misdirected() -> Response {
    let status = StatusCode::MISDIRECTED_REQUEST;
    Response::text(status, format!("{status} {}: this connection is for another host\n", status.reason()))
}
