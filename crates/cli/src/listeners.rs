//! The listening sockets of a proxy: bound here, or taken over from the process before or from systemd. Clones are kept
//! so that they can be handed on.

use crate::exit::Failure;
use std::io;
use std::net::{SocketAddr, TcpListener};

/// All sockets, by address.
#[derive(Debug, Default)]
pub(crate) struct Listeners {
    /// What nobody has asked for yet.
    inherited: Vec<(SocketAddr, TcpListener)>,
    /// What is served, in the order in which it was asked for.
    open: Vec<Open>,
    workers: usize,
}

#[derive(Debug)]
struct Open {
    /// As configured; its port may be 0.
    wanted: SocketAddr,
    bound: SocketAddr,
    sockets: Vec<TcpListener>,
}

impl Listeners {
    /// With what others have opened, for so many workers.
    pub(crate) fn new(inherited: Vec<(SocketAddr, TcpListener)>, workers: usize) -> Self {
        Self { inherited, open: Vec::new(), workers }
    }

    /// The sockets of an address: those that are there already, or new ones. The caller serves them; clones stay here.
    pub(crate) fn get(&mut self, wanted: SocketAddr, origin: &str) -> Result<Vec<TcpListener>, Failure> {
        let mut sockets = self.take_inherited(wanted);
        if sockets.is_empty() {
            let bound = engine::bind(wanted, self.workers);
            sockets = bound.map_err(|error| Failure::Listen(format!("{error} ({origin})")))?;
        }
        self.keep(wanted, sockets).map_err(|error| Failure::Listen(format!("{wanted}: {error} ({origin})")))
    }

    /// Addresses that others have opened and nobody has asked for.
    pub(crate) fn unclaimed(&self) -> Vec<SocketAddr> {
        let mut addresses: Vec<SocketAddr> = self.inherited.iter().map(|(address, _)| *address).collect();
        addresses.dedup();
        addresses
    }

    /// Closes what others have opened and nobody has asked for.
    pub(crate) fn forget_unclaimed(&mut self) {
        self.inherited.clear();
    }

    /// Whether an address is listened on already. The system would let us do so twice.
    pub(crate) fn has(&self, address: SocketAddr) -> bool {
        self.open.iter().any(|open| open.wanted == address || open.bound == address)
    }

    /// The sockets of an address that is open, once more, and where it is bound.
    pub(crate) fn again(&self, wanted: SocketAddr) -> io::Result<Option<(SocketAddr, Vec<TcpListener>)>> {
        let Some(open) = self.open.iter().find(|open| open.wanted == wanted) else { return Ok(None) };
        let sockets: io::Result<Vec<TcpListener>> = open.sockets.iter().map(TcpListener::try_clone).collect();
        Ok(Some((open.bound, sockets?)))
    }

    /// Lets go of an address; where it was bound.
    pub(crate) fn close(&mut self, wanted: SocketAddr) -> Option<SocketAddr> {
        let at = self.open.iter().position(|open| open.wanted == wanted)?;
        Some(self.open.remove(at).bound)
    }

    /// Lets go of everything, so that nothing waits in a queue that nobody serves.
    pub(crate) fn close_all(&mut self) {
        self.open.clear();
        self.inherited.clear();
    }

    /// Every socket, for another process.
    pub(crate) fn clones(&self) -> io::Result<Vec<TcpListener>> {
        self.open.iter().flat_map(|open| &open.sockets).map(TcpListener::try_clone).collect()
    }

    fn keep(&mut self, wanted: SocketAddr, sockets: Vec<TcpListener>) -> io::Result<Vec<TcpListener>> {
        let clones: io::Result<Vec<TcpListener>> = sockets.iter().map(TcpListener::try_clone).collect();
        let bound = sockets.first().map_or(Ok(wanted), TcpListener::local_addr)?;
        self.open.push(Open { wanted, bound, sockets: clones? });
        Ok(sockets)
    }

    /// The inherited sockets of an address. Port 0 takes what comes first at that IP address.
    fn take_inherited(&mut self, wanted: SocketAddr) -> Vec<TcpListener> {
        let is_meant = |address: SocketAddr| address == wanted || (wanted.port() == 0 && address.ip() == wanted.ip());
        let Some(meant) = self.inherited.iter().map(|(address, _)| *address).find(|address| is_meant(*address)) else {
            return Vec::new();
        };
        let (taken, left) = self.inherited.drain(..).partition(|(address, _)| *address == meant);
        self.inherited = left;
        let taken: Vec<(SocketAddr, TcpListener)> = taken;
        taken.into_iter().map(|(_, socket)| socket).collect()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn bound(count: usize) -> Vec<(SocketAddr, TcpListener)> {
        let sockets = engine::bind("127.0.0.1:0".parse().unwrap(), count).unwrap();
        sockets.into_iter().map(|socket| (socket.local_addr().unwrap(), socket)).collect()
    }

    #[test]
    fn inherited_sockets_are_taken_before_any_is_bound() {
        let (first, second) = (bound(2), bound(3));
        let (one, two) = (first[0].0, second[0].0);
        let mut listeners = Listeners::new(first.into_iter().chain(second).collect(), 1);
        assert_eq!(listeners.unclaimed(), [one, two]);
        assert_eq!(listeners.get(two, "test").unwrap().len(), 3);
        let any_port = SocketAddr::new(two.ip(), 0);
        let sockets = listeners.get(any_port, "test").unwrap();
        assert_eq!(sockets.len(), 2, "port 0 takes what is left");
        assert_eq!(sockets[0].local_addr().unwrap(), one);
        assert_eq!(listeners.clones().unwrap().len(), 5);
        let again = |wanted| listeners.again(wanted).unwrap().map(|(bound, sockets)| (bound, sockets.len()));
        assert_eq!((again(two), again(any_port)), (Some((two, 3)), Some((one, 2))));
        assert!(listeners.has(one) && listeners.has(any_port) && listeners.has(two));
        assert_eq!(listeners.close(any_port), Some(one));
        assert!(!listeners.has(one) && !listeners.has(any_port));
        assert_eq!(listeners.clones().unwrap().len(), 3);
    }

    #[test]
    fn a_port_in_use_says_where_it_was_asked_for() {
        let taken = bound(1);
        let error = Listeners::new(Vec::new(), 1).get(taken[0].0, "`listen`");
        assert!(matches!(error, Err(Failure::Listen(text)) if text.ends_with("(`listen`)")));
    }
}
