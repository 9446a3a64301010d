//! Who is told about readiness: the worker's own event queue, and a place in it for each listener and connection.
//!
//! ```text
//!   idle (a few words, no task, no buffer) ──readable──▶ taken by the front ──answered──▶ idle
//!        ▲                                   passed on ──┤        └── not at once ──▶ held by a task
//!        │◀── answered ── passing (no task, no buffer) ◀─┘                                 ▲  │
//!        │                   └─────────────── not that simple ─────────────────────────────┘  │
//!        └────────────────────────────── quiet for a while ◀──────────────────────────────────┘
//! ```
//!
//! Events are edge-triggered. A token carries the generation of its place, so that an event of a connection that is
//! gone never reaches the next one in the same place.

use super::Connections;
use super::addresses::Counted;
use super::clock::Millis;
use super::passing::Pass;
use mio::unix::SourceFd;
use mio::{Interest, Registry, Token};
use rustix::fd::{AsRawFd, OwnedFd};
use std::cell::{Cell, RefCell};
use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::atomic::Ordering::Relaxed;
use std::task::{Context, Waker};
use tokio::sync::Notify;

/// Bits of a token that number the place; the rest is its generation.
const PLACE_BITS: u32 = usize::BITS / 2;
/// Free places at the end of the table that are kept for the next connections.
const SPARE_PLACES_MAX: usize = 256;

/// The event queue of a worker, and what its tokens mean.
pub(crate) struct Reactor {
    registry: Registry,
    places: RefCell<Places>,
    /// Told when the first connection comes and when the last one goes.
    pub(super) changed: Notify,
    /// Connections whose answer takes longer than the front waits, and who tells the front of them.
    late: RefCell<Vec<Key>>,
    front: Waiter,
    /// Where others see how many connections there are, and at which place.
    gauge: (Connections, usize),
}

/// Names a place and its generation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Key(usize);

/// What is at a place.
#[derive(Debug)]
pub(super) enum Occupant {
    Nobody,
    /// A listener, by its number.
    Listener(usize),
    /// A connection between two requests.
    Idle(Idle),
    /// A connection the front is looking after at this moment.
    Taken,
    /// A connection whose request was passed on, and waits for its answer.
    Passing(Idle, Box<Pass>),
    /// A connection that a task looks after.
    Held(Rc<Readiness>),
}

/// A connection between two requests. Ten thousand of them are to cost next to nothing: in the table itself, whose memory
/// goes back to the system with them, as that of as many boxes does not.
#[derive(Debug)]
pub(super) struct Idle {
    pub(super) fd: OwnedFd,
    /// The listener it came by.
    pub(super) site: u32,
    pub(super) requests_left: u32,
    /// Whether readiness to write is told as well.
    pub(super) tells_writable: bool,
    pub(super) deadline: Millis,
    pub(super) addr: SocketAddr,
    pub(super) local_addr: SocketAddr,
    pub(super) counted: Option<Box<Counted>>,
}

#[derive(Default)]
struct Places {
    table: Vec<Place>,
    free: Vec<u32>,
    connections: usize,
    generation: u32,
    /// Where the search for overdue connections goes on.
    cursor: usize,
}

struct Place {
    generation: u32,
    occupant: Occupant,
}

impl Reactor {
    pub(super) fn new(registry: Registry, gauge: (Connections, usize)) -> Self {
        Self {
            registry,
            places: RefCell::default(),
            changed: Notify::new(),
            late: RefCell::default(),
            front: Waiter::default(),
            gauge,
        }
    }

    fn tell(&self, connections: usize) {
        let (Connections(workers), number) = &self.gauge;
        workers[*number].store(connections, Relaxed);
    }

    /// How many connections are open.
    pub(super) fn connections(&self) -> usize {
        self.places.borrow().connections
    }

    /// Gives a listener its place.
    pub(super) fn add_listener(&self, listener: &impl AsRawFd, number: usize) -> io::Result<Key> {
        let key = self.places.borrow_mut().insert(Occupant::Listener(number));
        self.register(key, listener)?;
        Ok(key)
    }

    /// Gives a connection its place; until it is put there it counts as taken.
    pub(super) fn add_connection(&self, fd: &OwnedFd) -> io::Result<Key> {
        let key = {
            let places = &mut *self.places.borrow_mut();
            places.connections += 1;
            self.tell(places.connections);
            places.insert(Occupant::Taken)
        };
        if self.connections() == 1 {
            self.changed.notify_waiters();
        }
        self.register(key, fd).inspect_err(|_| self.remove_connection(key))?;
        Ok(key)
    }

    /// Gives a connection of ours to another server its place. It does not count: nobody waits for its end.
    pub(super) fn add_outgoing(self: &Rc<Self>, fd: &OwnedFd) -> io::Result<Held> {
        let key = self.places.borrow_mut().insert(Occupant::Taken);
        let held = Held::at(self, key, Readiness::default(), true, Direction::Out);
        let both = Interest::READABLE | Interest::WRITABLE;
        self.registry.register(&mut SourceFd(&fd.as_raw_fd()), Token(key.0), both)?;
        Ok(held)
    }

    fn register(&self, key: Key, fd: &impl AsRawFd) -> io::Result<()> {
        self.registry.register(&mut SourceFd(&fd.as_raw_fd()), Token(key.0), Interest::READABLE)
    }

    /// Asks to be told also when the connection can be written to; tells at once if it can.
    fn tell_writable(&self, key: Key, fd: &OwnedFd) -> io::Result<()> {
        let both = Interest::READABLE | Interest::WRITABLE;
        self.registry.reregister(&mut SourceFd(&fd.as_raw_fd()), Token(key.0), both)
    }

    pub(super) fn remove_listener(&self, key: Key, listener: &impl AsRawFd) {
        // It is closed right after: then the system forgets it anyway.
        let _ = self.registry.deregister(&mut SourceFd(&listener.as_raw_fd()));
        self.places.borrow_mut().remove(key);
    }

    /// Frees the place of a connection. Closing its descriptor is what makes the system forget it.
    pub(super) fn remove_connection(&self, key: Key) {
        let left = {
            let places = &mut *self.places.borrow_mut();
            places.connections -= 1;
            self.tell(places.connections);
            places.remove(key);
            places.connections
        };
        if left == 0 {
            self.changed.notify_waiters();
        }
    }

    #[inline]
    pub(super) fn put(&self, key: Key, occupant: Occupant) {
        self.places.borrow_mut().put(key, occupant);
    }

    /// Who an event is for. A connection that nobody holds is taken out.
    pub(super) fn take(&self, token: Token) -> (Key, Occupant) {
        let key = Key(token.0);
        let places = &mut *self.places.borrow_mut();
        let occupant = match places.at(key) {
            Some(occupant @ (Occupant::Idle(_) | Occupant::Passing(..))) => {
                std::mem::replace(occupant, Occupant::Taken)
            }
            Some(Occupant::Held(readiness)) => Occupant::Held(readiness.clone()),
            Some(Occupant::Listener(number)) => Occupant::Listener(*number),
            None | Some(Occupant::Nobody | Occupant::Taken) => Occupant::Nobody,
        };
        (key, occupant)
    }

    /// Looks at the next `count` places and closes the idle connections whose deadline has passed. Those whose answer is
    /// late are the front's.
    pub(super) fn close_overdue(&self, now: Millis, count: usize) {
        let mut overdue = Vec::new();
        {
            let places = &mut *self.places.borrow_mut();
            for _ in 0..count.min(places.table.len()) {
                let number = places.cursor % places.table.len();
                places.cursor = number + 1;
                let place = &places.table[number];
                match &place.occupant {
                    Occupant::Idle(idle) if idle.deadline <= now => overdue.push(Key::new(number, place.generation)),
                    Occupant::Passing(_, passing) if passing.is_late(now) => {
                        self.late.borrow_mut().push(Key::new(number, place.generation));
                    }
                    _ => {}
                }
            }
            places.shrink();
        }
        for key in overdue {
            drop(self.take(Token(key.0)));
            self.remove_connection(key);
        }
        if !self.late.borrow().is_empty() {
            wake(&self.front);
        }
    }

    /// The connections whose answer is late. If there is none, the front is woken when there is.
    pub(super) fn take_late(&self, cx: &Context<'_>) -> Vec<Key> {
        wait(&self.front, cx);
        std::mem::take(&mut *self.late.borrow_mut())
    }

    /// Takes out the connection at this place, if its request was passed on.
    pub(super) fn take_passing(&self, key: Key) -> Option<(Idle, Box<Pass>)> {
        let places = &mut *self.places.borrow_mut();
        let occupant = places.at(key).filter(|occupant| matches!(occupant, Occupant::Passing(..)))?;
        match std::mem::replace(occupant, Occupant::Taken) {
            Occupant::Passing(idle, passing) => Some((idle, passing)),
            _ => None,
        }
    }

    /// Lets go of the requests that were passed on, whose connections hold on to this queue.
    pub(super) fn abandon(&self) {
        let mut passing = Vec::new();
        for place in &mut self.places.borrow_mut().table {
            if let Occupant::Passing(..) = place.occupant {
                passing.push(std::mem::replace(&mut place.occupant, Occupant::Taken));
            }
        }
    }

    /// How many places there are, used or not.
    pub(super) fn places(&self) -> usize {
        self.places.borrow().table.len()
    }

    /// The idle connections, all of them.
    pub(super) fn idle(&self) -> Vec<Token> {
        let places = self.places.borrow();
        let idle = places.table.iter().enumerate().filter(|(_, place)| matches!(place.occupant, Occupant::Idle(_)));
        idle.map(|(number, place)| Token(Key::new(number, place.generation).0)).collect()
    }
}

impl Key {
    fn new(number: usize, generation: u32) -> Self {
        Self(((generation as usize) << PLACE_BITS) | number)
    }

    fn number(self) -> usize {
        self.0 & ((1 << PLACE_BITS) - 1)
    }
}

impl Places {
    fn insert(&mut self, occupant: Occupant) -> Key {
        self.generation = self.generation.wrapping_add(1) & (u32::MAX >> (u32::BITS - PLACE_BITS.min(u32::BITS)));
        let place = Place { generation: self.generation, occupant };
        let number = if let Some(number) = self.free.pop() {
            self.table[number as usize] = place;
            number as usize
        } else {
            self.table.push(place);
            self.table.len() - 1
        };
        Key::new(number, self.generation)
    }

    #[inline]
    fn at(&mut self, key: Key) -> Option<&mut Occupant> {
        let place = self.table.get_mut(key.number())?;
        (Key::new(key.number(), place.generation) == key).then_some(&mut place.occupant)
    }

    #[inline]
    fn put(&mut self, key: Key, occupant: Occupant) {
        if let Some(at) = self.at(key) {
            *at = occupant;
        }
    }

    fn remove(&mut self, key: Key) {
        if let Some(at) = self.at(key) {
            *at = Occupant::Nobody;
            self.free.push(key.number() as u32);
        }
    }

    /// Gives back the memory of a crowd that has gone.
    fn shrink(&mut self) {
        let empty = |place: &Place| matches!(place.occupant, Occupant::Nobody);
        if self.free.len() < SPARE_PLACES_MAX || !self.table.last().is_some_and(empty) {
            return;
        }
        while self.table.len() > SPARE_PLACES_MAX && self.table.last().is_some_and(empty) {
            self.table.pop();
        }
        let len = self.table.len();
        self.free.retain(|&number| (number as usize) < len);
        self.table.shrink_to_fit();
        self.free.shrink_to_fit();
        self.cursor = 0;
    }
}

/// A connection's place while a task holds it. Dropping it frees the place.
#[derive(Debug)]
pub(super) struct Held {
    reactor: Rc<Reactor>,
    key: Key,
    pub(super) readiness: Rc<Readiness>,
    tells_writable: Cell<bool>,
    is_kept: Cell<bool>,
    direction: Direction,
}

/// Who has opened a connection.
#[derive(Debug, PartialEq, Eq)]
enum Direction {
    In,
    Out,
}

impl Held {
    fn at(reactor: &Rc<Reactor>, key: Key, readiness: Readiness, tells_writable: bool, direction: Direction) -> Self {
        let readiness = Rc::new(readiness);
        reactor.put(key, Occupant::Held(readiness.clone()));
        let (tells_writable, is_kept) = (Cell::new(tells_writable), Cell::new(false));
        Self { reactor: reactor.clone(), key, readiness, tells_writable, is_kept, direction }
    }

    /// Takes the place over for a task; `bits` is what is known of reading.
    pub(super) fn new(reactor: &Rc<Reactor>, key: Key, bits: u8, tells_writable: bool) -> Self {
        let readiness = Readiness::default();
        readiness.bits.set(bits | WRITABLE);
        Self::at(reactor, key, readiness, tells_writable, Direction::In)
    }

    /// Waits for room to write after there was none.
    pub(super) fn wait_writable(&self, fd: &OwnedFd) -> io::Result<()> {
        self.readiness.clear(WRITABLE);
        if !self.tells_writable.replace(true) {
            self.reactor.tell_writable(self.key, fd)?;
        }
        Ok(())
    }

    pub(super) fn tells_writable(&self) -> bool {
        self.tells_writable.get()
    }

    /// Ends the task's part: the connection goes on in the front.
    pub(super) fn put_back(self, idle: Idle) {
        self.is_kept.set(true);
        self.reactor.put(self.key, Occupant::Idle(idle));
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        if self.direction == Direction::Out {
            self.reactor.places.borrow_mut().remove(self.key);
        } else if !self.is_kept.get() {
            self.reactor.remove_connection(self.key);
        }
    }
}

impl std::fmt::Debug for Reactor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Reactor").finish_non_exhaustive()
    }
}

/// There may be something to read, the end included.
pub(super) const READABLE: u8 = 1;
/// There may be room to write.
pub(super) const WRITABLE: u8 = 2;
/// The other side has closed its sending side; what it sent before may still be unread.
pub(super) const READ_CLOSED: u8 = 4;
/// The connection is gone in both directions.
pub(super) const HUNG_UP: u8 = 8;

/// What the events have said about a connection, and who waits for them: one reader and one writer.
#[derive(Debug, Default)]
pub(crate) struct Readiness {
    bits: Cell<u8>,
    /// When it became readable last.
    pub(super) readable_at: Cell<Millis>,
    /// When it became writable last.
    pub(super) writable_at: Cell<Millis>,
    reader: Waiter,
    writer: Waiter,
    /// The place of the client whose answer comes by this connection, if the front itself looks after it.
    pub(super) passes_for: Cell<Option<Key>>,
}

/// Who waits for something.
type Waiter = RefCell<Option<Waker>>;

impl Readiness {
    pub(super) fn is(&self, bit: u8) -> bool {
        self.bits.get() & bit != 0
    }

    pub(super) fn clear(&self, bit: u8) {
        self.bits.set(self.bits.get() & !bit);
    }

    /// Notes an event and wakes whoever waits for it.
    pub(super) fn handle_event(&self, bits: u8, now: Millis) {
        self.bits.set(self.bits.get() | bits);
        if bits & (READABLE | READ_CLOSED | HUNG_UP) != 0 {
            self.readable_at.set(now);
            wake(&self.reader);
        }
        if bits & (WRITABLE | HUNG_UP) != 0 {
            self.writable_at.set(now);
            wake(&self.writer);
        }
    }

    pub(super) fn wait_read(&self, cx: &Context<'_>) {
        wait(&self.reader, cx);
    }

    pub(super) fn wait_write(&self, cx: &Context<'_>) {
        wait(&self.writer, cx);
    }
}

fn wake(waiting: &Waiter) {
    let waker = waiting.borrow_mut().take();
    if let Some(waker) = waker {
        waker.wake();
    }
}

fn wait(waiting: &Waiter, cx: &Context<'_>) {
    let mut waiting = waiting.borrow_mut();
    match &*waiting {
        Some(waker) if waker.will_wake(cx.waker()) => {}
        _ => *waiting = Some(cx.waker().clone()),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    /// A crowd, of which those stay for whom `stays` holds.
    fn after_a_crowd(stays: impl Fn(usize) -> bool) -> (Places, Vec<Key>) {
        let mut places = Places::default();
        let keys: Vec<Key> = (0..10_000).map(|_| places.insert(Occupant::Taken)).collect();
        for (_, key) in keys.iter().enumerate().filter(|(number, _)| !stays(*number)) {
            places.remove(*key);
        }
        places.shrink();
        (places, keys)
    }

    #[test]
    fn the_memory_of_a_crowd_is_given_back() {
        let (mut places, keys) = after_a_crowd(|number| number == 3);
        assert_eq!(places.table.len(), SPARE_PLACES_MAX);
        assert!(places.table.capacity() < 2 * SPARE_PLACES_MAX, "{}", places.table.capacity());
        assert!(places.free.capacity() < 2 * SPARE_PLACES_MAX, "{}", places.free.capacity());
        assert!(places.at(keys[3]).is_some(), "whoever is still there stays");
        let again: Vec<Key> = (0..1000).map(|_| places.insert(Occupant::Taken)).collect();
        assert!(
            keys.iter().filter(|key| **key != keys[3]).all(|key| places.at(*key).is_none()),
            "no old name is anybody's"
        );
        assert!(again.iter().all(|key| places.at(*key).is_some()));
    }

    #[test]
    fn places_in_use_and_some_to_spare_are_kept() {
        let (mut places, keys) = after_a_crowd(|number| number == 5000);
        assert_eq!(places.table.len(), 5001);
        assert!(places.at(keys[5000]).is_some());
        let (places, _) = after_a_crowd(|number| number + 1 == 10_000);
        assert_eq!(places.table.len(), 10_000, "the last of them is still there");
    }
}
