//! Connections of ours to other servers, opened on a worker: they wait in the worker's own event queue, so that a
//! relayed request is woken by one queue and not by two.

use super::Socket;
use super::reactor::{HUNG_UP, Reactor, WRITABLE};
use rustix::fd::OwnedFd;
use socket2::{Domain, Protocol, SockAddr, Type};
use std::cell::RefCell;
use std::future::poll_fn;
use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::task::Poll;

thread_local! {
    /// The event queue of the worker that runs on this thread.
    static CURRENT: RefCell<Option<Rc<Reactor>>> = const { RefCell::new(None) };
}

/// Says that a worker runs on this thread, until it is dropped.
pub(super) struct OnThread(Rc<Reactor>);

impl OnThread {
    pub(super) fn new(reactor: &Rc<Reactor>) -> Self {
        CURRENT.set(Some(reactor.clone()));
        Self(reactor.clone())
    }
}

impl Drop for OnThread {
    fn drop(&mut self) {
        CURRENT.set(None);
        self.0.abandon();
    }
}

/// Opens a connection that waits in the worker's event queue; `None` where no worker runs on this thread. The caller
/// has a deadline for it.
pub(crate) async fn connect(addr: SocketAddr) -> Option<io::Result<Socket>> {
    let reactor = CURRENT.with_borrow(Clone::clone)?;
    Some(open(&reactor, addr).await)
}

async fn open(reactor: &Rc<Reactor>, addr: SocketAddr) -> io::Result<Socket> {
    let socket = socket2::Socket::new(Domain::for_address(addr), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_nonblocking(true)?;
    // Without the option small requests are late by a round trip: slower, not wrong.
    let _ = socket.set_tcp_nodelay(true);
    match socket.connect(&SockAddr::from(addr)) {
        Err(error) if !is_under_way(&error) => return Err(error),
        _ => {}
    }
    let fd = OwnedFd::from(socket);
    let held = reactor.add_outgoing(&fd)?;
    let readiness = held.readiness.clone();
    let socket = Socket::new(fd, held, None, 0);
    poll_fn(|cx| {
        if readiness.is(WRITABLE | HUNG_UP) {
            return Poll::Ready(());
        }
        readiness.wait_write(cx);
        Poll::Pending
    })
    .await;
    socket.take_error()?;
    Ok(socket)
}

fn is_under_way(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::WouldBlock
        || error.raw_os_error() == Some(rustix::io::Errno::INPROGRESS.raw_os_error())
}
