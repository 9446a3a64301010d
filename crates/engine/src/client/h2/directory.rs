//! Which connections there are, and who gets a stream on which.

use super::connection::{Connection, Look, State};
use super::queue::{Queue, Turn};
use super::{Http2Error, REFUSALS_MAX, STREAMS_MAX};
use crate::client::link::Link;
use crate::client::pool::Destination;
use crate::client::{Client, ClientErrorKind};
use crate::stream::Stream;
use bytes::Bytes;
use h2::client::SendRequest;
use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::net::SocketAddr;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;
use tokio::time::{Instant, timeout_at};

/// Connections to one server, at most, whatever it says about streams: beyond it requests wait.
const CONNECTIONS_MAX: usize = 256;
/// How long it is believed that a server speaks HTTP/1.1 only, once it has chosen that.
const HTTP1_BELIEVED: Duration = Duration::from_mins(1);

/// Nobody has given a stream back in time, or too many wait for that.
const NO_ROOM: ClientErrorKind = ClientErrorKind::Http2(Http2Error::NoRoom);

/// Open connections by server.
#[derive(Default)]
pub(in crate::client) struct Directory {
    known: RefCell<HashMap<Destination, Entry>>,
}

#[derive(Default)]
struct Entry {
    connections: Vec<Rc<Connection>>,
    /// Who waits for room on any of them.
    queue: Rc<Queue>,
    /// Until when the server is taken to speak HTTP/1.1 only.
    http1_until: Option<Instant>,
    /// Streams that the last connection had at a time.
    capacity: Option<usize>,
}

/// A stream on a connection; given back by its drop.
pub(super) struct Slot {
    connection: Rc<Connection>,
    pub(super) send: SendRequest<Bytes>,
    is_first: bool,
}

/// Where a request is to go.
pub(super) enum Taken {
    Slot(Slot),
    /// The server speaks HTTP/1.1.
    Http1,
}

enum Found {
    Taken(Taken),
    /// A connection that is being opened.
    Opening(Rc<Connection>),
    /// There are as many as there may be, and none has room, or others were here first: wait there.
    Full(Rc<Queue>),
}

impl Slot {
    /// Whether the connection had carried no request before.
    pub(super) fn is_fresh(&self) -> bool {
        self.is_first
    }

    /// Whether the connection takes no new streams any more.
    pub(super) fn is_going(&self) -> bool {
        let ready = self.send.clone().poll_ready(&mut Context::from_waker(Waker::noop()));
        matches!(ready, Poll::Ready(Err(_)))
    }

    pub(super) fn state(&self) -> &State {
        &self.connection.state
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        self.connection.state.leave();
    }
}

/// Counts one that waits for a connection to be open.
struct Waiting<'a>(&'a Cell<usize>);

impl<'a> Waiting<'a> {
    fn at(state: &'a State) -> Self {
        state.waiting.set(state.waiting.get() + 1);
        Self(&state.waiting)
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.set(self.0.get() - 1);
    }
}

impl Directory {
    /// A stream on a connection to this server, opening one where there is none with room. Connections that go away
    /// before they carry anything are counted among the refusals of this request.
    ///
    /// # Errors
    /// No connection can be opened, or none has room in time.
    pub(super) async fn take(
        &self,
        client: &Client,
        addr: SocketAddr,
        refusals: &mut u32,
    ) -> Result<Taken, ClientErrorKind> {
        let settings = &client.shared.settings;
        // Beyond the time for a connection: whoever opens it has a deadline of its own, and says why it failed.
        let deadline = Instant::now() + settings.connect_timeout * 2;
        if settings.pool_idle_max == 0 {
            return unkept(client, addr, deadline).await;
        }
        let mut turn: Option<Turn> = None;
        loop {
            match self.find(client, addr, turn.as_ref()) {
                Found::Taken(taken) => return Ok(taken),
                Found::Opening(connection) => {
                    turn = None; // there is a place for it; whoever is next may look for another
                    opened(&connection, deadline).await?;
                    *refusals += u32::from(connection.state.is_gone_unused());
                    if *refusals >= REFUSALS_MAX {
                        return Err(ClientErrorKind::Http2(Http2Error::Refused));
                    }
                }
                Found::Full(queue) => {
                    // Servers that were let go meanwhile and are back have another queue.
                    let mine = match turn.take().filter(|turn| turn.is_of(&queue)) {
                        Some(mine) => mine,
                        None => queue.enter().ok_or(NO_ROOM)?,
                    };
                    timeout_at(deadline, turn.insert(mine).come()).await.map_err(|_| NO_ROOM)?;
                }
            }
        }
    }

    fn find(&self, client: &Client, addr: SocketAddr, turn: Option<&Turn>) -> Found {
        let to = client.destination(addr);
        let mut known = self.known.borrow_mut();
        let entry = known.entry(to).or_default();
        if entry.http1_until.is_some_and(|until| Instant::now() < until) {
            return Found::Taken(Taken::Http1);
        }
        let is_next = turn.map_or_else(|| entry.queue.is_empty(), |turn| !turn.is_of(&entry.queue) || turn.is_next());
        if !is_next {
            return Found::Full(Rc::clone(&entry.queue));
        }
        entry.connections.retain(|connection| !connection.state.is_over());
        let mut is_shut = false;
        for connection in &entry.connections {
            match connection.state.look() {
                Look::Room(send, is_first) => {
                    entry.capacity = connection.state.capacity();
                    return Found::Taken(Taken::Slot(Slot { connection: Rc::clone(connection), send, is_first }));
                }
                Look::Http1(stream) => {
                    entry.http1_until = Some(Instant::now() + HTTP1_BELIEVED);
                    entry.connections.clear();
                    keep(client, to, stream);
                    return Found::Taken(Taken::Http1);
                }
                Look::Shut => is_shut = true,
                Look::Full | Look::Opening | Look::Over => {}
            }
        }
        let capacity = entry.capacity.unwrap_or(STREAMS_MAX);
        let has_place =
            |connection: &&Rc<Connection>| connection.state.is_opening() && connection.state.waiting.get() < capacity;
        if let Some(opening) = entry.connections.iter().find(has_place) {
            return Found::Opening(Rc::clone(opening));
        }
        // A server that allows no requests for now is not to be asked by more connections.
        if is_shut || entry.connections.len() >= CONNECTIONS_MAX {
            return Found::Full(Rc::clone(&entry.queue));
        }
        let connection = Connection::open(client, addr, Rc::clone(&entry.queue));
        entry.connections.push(Rc::clone(&connection));
        Found::Opening(connection)
    }

    /// Lets connections go to servers of which `is_wanted` says no; streams on them end in peace.
    pub(in crate::client) fn retain(&self, is_wanted: impl Fn(SocketAddr) -> bool) {
        self.known.borrow_mut().retain(|to, entry| {
            let stays = is_wanted(to.addr);
            if !stays {
                entry.connections.iter().for_each(|connection| connection.state.close());
            }
            stays
        });
    }

    /// How many connections wait for requests.
    pub(in crate::client) fn idle(&self) -> usize {
        let known = self.known.borrow();
        known.values().flat_map(|entry| &entry.connections).filter(|connection| connection.state.is_idle()).count()
    }
}

/// Waits until a connection is open, or cannot be.
async fn opened(connection: &Connection, deadline: Instant) -> Result<(), ClientErrorKind> {
    let state = &connection.state;
    let _waiting = Waiting::at(state);
    while state.is_opening() {
        timeout_at(deadline, state.changed.notified()).await.map_err(|_| ClientErrorKind::TimedOut)?;
    }
    state.failed().map_or(Ok(()), Err)
}

/// A connection for one request alone.
async fn unkept(client: &Client, addr: SocketAddr, deadline: Instant) -> Result<Taken, ClientErrorKind> {
    let queue = Rc::new(Queue::default());
    let connection = Connection::open(client, addr, Rc::clone(&queue));
    opened(&connection, deadline).await?;
    let mut turn = queue.enter().ok_or(NO_ROOM)?;
    loop {
        match connection.state.look() {
            Look::Room(send, is_first) => return Ok(Taken::Slot(Slot { connection, send, is_first })),
            Look::Http1(_) => return Ok(Taken::Http1),
            Look::Full | Look::Shut => timeout_at(deadline, turn.come()).await.map_err(|_| NO_ROOM)?,
            Look::Opening | Look::Over => return Err(ClientErrorKind::Closed),
        }
    }
}

/// Puts a connection that turned out to speak HTTP/1.1 where the next request finds it.
fn keep(client: &Client, to: Destination, stream: Option<Stream>) {
    let shared = &client.shared;
    if let Some(stream) = stream {
        let link = Link::new(to, stream, Rc::clone(&shared.settings), Rc::clone(&shared.buffers));
        shared.pool.borrow_mut().put(link, &shared.settings);
    }
}
