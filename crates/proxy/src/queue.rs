//! Requests that wait for a member with room, served in the order in which they came.
//!
//! ```text
//!   request ── nobody waits, somebody has room ──► Lease
//!      │ otherwise
//!      └─► ticket, behind the others ── room given back: the first one that can use it ──► Lease
//!               └── its request is gone, or has waited too long: the ticket is taken away
//! ```
//!
//! Whoever gives room back chooses for those who wait and hands them a lease: so nobody who comes later is faster,
//! a wake-up cannot be lost on a request that has no use for it, and one that is gone leaves nothing behind.
//!
//! All groups of one name share a queue, since they share their members: after a reload, requests of the configuration
//! before give room to those of the new one.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU32, Ordering::SeqCst};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use smallvec::SmallVec;
use tokio::sync::Notify;
use tokio::sync::futures::Notified;
use tokio::sync::oneshot::{Receiver, Sender, channel};
use tokio::time::Instant;

use crate::group::{Group, Lease, Pick, Refusal, Wish};

/// Those who wait for the members of one name.
#[derive(Debug, Default)]
pub(crate) struct Queue {
    /// How many wait: looked at without the lock with every lease that ends. It and the members' counts of requests are
    /// changed and read in one order that all threads agree about (`SeqCst`): either who gives room back sees who waits,
    /// or who waits sees the room.
    waiting: AtomicU32,
    lines: Mutex<Lines>,
    /// Wakes those who wait for the end of a pause when another pause has begun.
    paused: Notify,
}

#[derive(Debug, Default)]
struct Lines {
    /// One for each configuration whose requests wait, the oldest first; never empty ones.
    lines: SmallVec<[Line; 1]>,
    next: u64,
}

#[derive(Debug)]
struct Line {
    group: Arc<Group>,
    /// In the order of their numbers.
    tickets: VecDeque<Ticket>,
    /// How many of them have tried somebody, and so want something else than the others.
    tried: usize,
}

#[derive(Debug)]
struct Ticket {
    number: u64,
    wish: Kept,
    answer: Sender<Served>,
}

/// What a request that waits asks for.
#[derive(Debug)]
struct Kept {
    tried: SmallVec<[SocketAddr; 2]>,
    key: Option<u64>,
    home: Option<SocketAddr>,
    now_ms: u64,
    since: Instant,
}

type Served = Result<Lease, Refusal>;

/// What becomes of a request that cannot be served at once.
pub(crate) enum Entered {
    Served(Served),
    Waiting(Waiting),
}

/// A request that waits. Dropped, it does so no more, and what it was just given goes to the next.
pub(crate) struct Waiting {
    queue: Arc<Queue>,
    group: Arc<Group>,
    number: u64,
    pub(crate) answer: Receiver<Served>,
}

impl Drop for Waiting {
    fn drop(&mut self) {
        self.queue.lock().leave(&self.group, self.number, &self.queue.waiting);
    }
}

impl Queue {
    /// Whether nobody waits.
    pub(crate) fn is_empty(&self) -> bool {
        self.waiting.load(SeqCst) == 0
    }

    /// There may be room where there was none.
    pub(crate) fn handle_room(&self) {
        if !self.is_empty() {
            let served = self.lock().serve(&self.waiting);
            hand_over(served);
        }
    }

    /// A member is out until some time from now on: those who wait look when that is.
    pub(crate) fn handle_pause(&self) {
        if !self.is_empty() {
            self.paused.notify_waiters();
        }
    }

    /// Ends at the next [`Queue::handle_pause`] after it was enabled or polled.
    pub(crate) fn paused(&self) -> Notified<'_> {
        self.paused.notified()
    }

    /// Serves a request after those who have waited for longer, or has it wait behind them, unless `length` of its group
    /// do so already.
    pub(crate) fn enter(self: &Arc<Self>, group: &Arc<Group>, wish: &Wish<'_>, length: u32) -> Entered {
        self.waiting.fetch_add(1, SeqCst); // before looking, so that room given back from now on is given to this one
        let mut lines = self.lock();
        let served = lines.serve(&self.waiting);
        // What is left now none of those who wait can use.
        let entered = match group.pick(wish) {
            Pick::One(lease) => Entered::Served(Ok(lease)),
            Pick::None(refusal) => Entered::Served(Err(refusal)),
            Pick::Full if lines.length(group) >= length as usize => Entered::Served(Err(Refusal::Full)),
            Pick::Full => {
                let (answer, receiver) = channel();
                let number = lines.join(group, Kept::of(wish), answer);
                Entered::Waiting(Waiting {
                    queue: Arc::clone(self),
                    group: Arc::clone(group),
                    number,
                    answer: receiver,
                })
            }
        };
        if let Entered::Served(_) = entered {
            self.waiting.fetch_sub(1, SeqCst);
        }
        drop(lines);
        hand_over(served);
        entered
    }

    fn lock(&self) -> MutexGuard<'_, Lines> {
        self.lines.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Tells those who were served, without the lock. A lease for somebody who has just gone is dropped, and so serves the
/// next one.
fn hand_over(served: SmallVec<[(Sender<Served>, Served); 1]>) {
    for (answer, result) in served {
        drop(answer.send(result));
    }
}

impl Lines {
    /// Serves whoever can be, in order; they wait no more.
    fn serve(&mut self, waiting: &AtomicU32) -> SmallVec<[(Sender<Served>, Served); 1]> {
        let mut served = SmallVec::new();
        for line in &mut self.lines {
            // What others before have tried and found no room beside: whoever has tried the same finds none either.
            let mut in_vain: SmallVec<[SmallVec<[SocketAddr; 2]>; 1]> = SmallVec::new();
            let mut index = 0;
            while let Some(Ticket { wish, .. }) = line.tickets.get(index) {
                let is_in_vain = in_vain.contains(&wish.tried);
                let result = match if is_in_vain { Pick::Full } else { line.group.pick(&wish.now()) } {
                    Pick::One(lease) => Ok(lease),
                    Pick::None(refusal) => Err(refusal),
                    Pick::Full if line.tried == 0 => break,
                    Pick::Full => {
                        if !is_in_vain {
                            in_vain.push(wish.tried.clone());
                        }
                        index += 1;
                        continue;
                    }
                };
                served.extend(line.take(index).map(|ticket| (ticket.answer, result)));
                waiting.fetch_sub(1, SeqCst);
            }
        }
        self.lines.retain(|line| !line.tickets.is_empty());
        served
    }

    fn length(&self, group: &Arc<Group>) -> usize {
        self.lines.iter().find(|line| Arc::ptr_eq(&line.group, group)).map_or(0, |line| line.tickets.len())
    }

    fn join(&mut self, group: &Arc<Group>, wish: Kept, answer: Sender<Served>) -> u64 {
        let number = self.next;
        self.next += 1;
        let at = self.lines.iter().position(|line| Arc::ptr_eq(&line.group, group)).unwrap_or_else(|| {
            self.lines.push(Line { group: Arc::clone(group), tickets: VecDeque::new(), tried: 0 });
            self.lines.len() - 1
        });
        let line = &mut self.lines[at];
        line.tried += usize::from(!wish.tried.is_empty());
        line.tickets.push_back(Ticket { number, wish, answer });
        number
    }

    fn leave(&mut self, group: &Arc<Group>, number: u64, waiting: &AtomicU32) {
        let Some(at) = self.lines.iter().position(|line| Arc::ptr_eq(&line.group, group)) else { return };
        let line = &mut self.lines[at];
        let Ok(index) = line.tickets.binary_search_by_key(&number, |ticket| ticket.number) else { return };
        line.take(index);
        waiting.fetch_sub(1, SeqCst);
        if line.tickets.is_empty() {
            self.lines.remove(at);
        }
    }
}

impl Line {
    fn take(&mut self, index: usize) -> Option<Ticket> {
        let ticket = self.tickets.remove(index)?;
        self.tried -= usize::from(!ticket.wish.tried.is_empty());
        Some(ticket)
    }
}

impl Kept {
    fn of(wish: &Wish<'_>) -> Self {
        let Wish { tried, key, home, now_ms } = *wish;
        Self { tried: tried.into(), key, home, now_ms, since: Instant::now() }
    }

    fn now(&self) -> Wish<'_> {
        let now_ms = self.now_ms + self.since.elapsed().as_millis() as u64;
        Wish { tried: &self.tried, key: self.key, home: self.home, now_ms }
    }
}

#[cfg(test)]
mod tests;
