//! Taking content ahead of those who take it slowly, so that nobody who could be free is kept waiting.
//!
//! ```text
//!   upstream ──(a task reads on)──▶ shelf, up to so many bytes ──▶ client, as slowly as it likes
//!        └── at the end of the content the lease and the connection are free
//! ```
//!
//! A shelf that is full waits, so a longer answer goes on with backpressure. All shelves of a worker, and the requests
//! that are taken before anybody is asked, together have a bound as well, and each client a smaller one: beyond it, nothing
//! is taken ahead any more. Event streams never come here.

use std::cell::{Cell, RefCell};
use std::collections::{HashMap, VecDeque};
use std::future::poll_fn;
use std::net::IpAddr;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

use bytes::{Bytes, BytesMut};
use engine::{Body, BodyError, Fields, Source};
use tokio::task::JoinHandle;

use crate::observe::Watch;
use crate::rate;

/// Bytes that all shelves and requests of a worker hold together, at most, but for the piece that each is about to take.
const WORKER_BYTES_MAX: u64 = 256 * 1024 * 1024;

/// Of that, what is held for one client (of IPv6 a /64): whoever asks for much and reads nothing is not to take the room
/// of all others.
const CLIENT_BYTES_MAX: u64 = WORKER_BYTES_MAX / 4;

/// Bytes taken in a row before others on the worker have their turn.
const TURN_BYTES: usize = 256 * 1024;

/// What a piece on a shelf costs beside its bytes: a backend that sends single bytes is not to take many times the room.
const PIECE_BYTES: u64 = 64;

thread_local! {
    static SHELVED: Cell<u64> = const { Cell::new(0) };
    /// The part of each client that has any.
    static CLIENTS: RefCell<HashMap<[u8; 8], u64>> = RefCell::default();
}

/// What one message holds of the room that a worker has for content taken ahead, until it is dropped.
#[derive(Debug)]
pub(crate) struct Held {
    client: [u8; 8],
    bytes: u64,
}

impl Held {
    /// Nothing so far.
    pub(crate) fn by(client: IpAddr) -> Self {
        Self { client: rate::client_key(client), bytes: 0 }
    }

    fn may_more(&self) -> bool {
        let of_client = || CLIENTS.with_borrow(|clients| clients.get(&self.client).copied().unwrap_or_default());
        SHELVED.get() < WORKER_BYTES_MAX && of_client() < CLIENT_BYTES_MAX
    }

    fn more(&mut self, bytes: u64) {
        self.bytes += bytes;
        SHELVED.set(SHELVED.get() + bytes);
        CLIENTS.with_borrow_mut(|clients| *clients.entry(self.client).or_default() += bytes);
    }

    fn less(&mut self, bytes: u64) {
        self.bytes -= bytes;
        SHELVED.set(SHELVED.get() - bytes);
        CLIENTS.with_borrow_mut(|clients| match clients.get_mut(&self.client) {
            Some(held) if *held > bytes => *held -= bytes,
            _ => drop(clients.remove(&self.client)),
        });
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        if self.bytes > 0 {
            self.less(self.bytes);
        }
    }
}

/// What was taken and not handed on.
struct Shelf {
    chunks: VecDeque<Bytes>,
    held: Held,
    bytes_max: u64,
    end: Option<End>,
    reader: Option<Waker>,
    writer: Option<Waker>,
}

enum End {
    Whole(Option<Fields>),
    Broken(BodyError),
}

impl Shelf {
    fn has_room(&self) -> bool {
        self.held.bytes == 0 || self.held.bytes < self.bytes_max && self.held.may_more()
    }

    fn put(&mut self, chunk: Bytes) {
        self.held.more(cost(&chunk));
        self.chunks.push_back(chunk);
        self.wake_reader();
    }

    fn wake_reader(&mut self) {
        if let Some(reader) = self.reader.take() {
            reader.wake();
        }
    }

    fn take(&mut self) -> Option<Bytes> {
        let chunk = self.chunks.pop_front()?;
        self.held.less(cost(&chunk));
        if let Some(writer) = self.writer.take() {
            writer.wake();
        }
        Some(chunk)
    }
}

fn cost(chunk: &Bytes) -> u64 {
    chunk.len() as u64 + PIECE_BYTES
}

/// An answer's content that is taken ahead of its client.
struct Ahead {
    shelf: Rc<RefCell<Shelf>>,
    left: Option<u64>,
    trailers: Option<Fields>,
    /// The task that takes; ended with its reader.
    filling: JoinHandle<()>,
    /// The request lasts until the client has all of it, and what it has is counted here.
    watch: Rc<Watch>,
    hand: u8,
}

impl Drop for Ahead {
    fn drop(&mut self) {
        self.filling.abort();
    }
}

/// Content that is read on while its reader, `client`, is slow, up to `bytes_max`.
pub(crate) fn ahead(body: Body, bytes_max: u64, client: IpAddr, watch: Rc<Watch>) -> Body {
    let left = body.exact_len();
    let shelf = Rc::new(RefCell::new(Shelf {
        chunks: VecDeque::new(),
        held: Held::by(client),
        bytes_max,
        end: None,
        reader: None,
        writer: None,
    }));
    let filling = tokio::task::spawn_local(fill(body, Rc::clone(&shelf)));
    Body::from_source(Ahead { shelf, left, trailers: None, filling, hand: watch.handed_on(), watch })
}

async fn fill(mut body: Body, shelf: Rc<RefCell<Shelf>>) {
    let mut in_turn = 0;
    loop {
        if in_turn > TURN_BYTES {
            in_turn = 0;
            tokio::task::yield_now().await;
        }
        poll_fn(|cx| {
            let mut shelf = shelf.borrow_mut();
            if shelf.has_room() {
                return Poll::Ready(());
            }
            shelf.writer = Some(cx.waker().clone());
            Poll::Pending
        })
        .await;
        let end = match body.chunk().await {
            Some(Ok(chunk)) => {
                in_turn += chunk.len();
                shelf.borrow_mut().put(chunk);
                continue;
            }
            Some(Err(error)) => End::Broken(error),
            None => End::Whole(body.trailers()),
        };
        drop(body); // the upstream is free from here on
        let mut shelf = shelf.borrow_mut();
        shelf.end = Some(end);
        return shelf.wake_reader();
    }
}

impl Source for Ahead {
    fn poll_chunk(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, BodyError>>> {
        let mut held = self.shelf.borrow_mut();
        if let Some(chunk) = held.take() {
            self.left = self.left.map(|left| left.saturating_sub(chunk.len() as u64));
            self.watch.sent_by(self.hand, chunk.len());
            return Poll::Ready(Some(Ok(chunk)));
        }
        match held.end.take() {
            Some(End::Whole(trailers)) => {
                self.trailers = trailers;
                Poll::Ready(None)
            }
            Some(End::Broken(error)) => Poll::Ready(Some(Err(error))),
            None => {
                held.reader = Some(cx.waker().clone());
                Poll::Pending
            }
        }
    }

    fn exact_len(&self) -> Option<u64> {
        self.left
    }

    fn trailers(&mut self) -> Option<Fields> {
        self.trailers.take()
    }
}

/// Takes a request's content before anybody is asked, up to `bytes_max` and as long as the worker has room: all of it
/// as bytes where it fits, and otherwise what has been taken and then the rest. What is taken counts as long as `held`
/// lives.
///
/// # Errors
/// The client did not send what it had announced.
pub(crate) async fn taken(mut body: Body, bytes_max: u64, held: &mut Held) -> Result<Body, BodyError> {
    let declared = body.exact_len();
    if declared.is_some_and(|length| length > bytes_max) {
        return Ok(body); // it would not fit: nothing is gained
    }
    let mut all = BytesMut::new();
    while let Some(chunk) = body.chunk().await.transpose()? {
        all.extend_from_slice(&chunk);
        held.more(chunk.len() as u64);
        if all.len() as u64 > bytes_max || !held.may_more() {
            return Ok(Body::from_source(Resumed { first: all.freeze(), rest: body }));
        }
    }
    let trailers = body.trailers();
    if trailers.is_some() {
        return Ok(Body::from_source(Kept { bytes: all.freeze(), trailers }));
    }
    Ok(all.freeze().into())
}

/// Content of which some was taken before.
struct Resumed {
    first: Bytes,
    rest: Body,
}

impl Source for Resumed {
    fn poll_chunk(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, BodyError>>> {
        if self.first.is_empty() {
            return self.rest.poll_chunk(cx);
        }
        Poll::Ready(Some(Ok(std::mem::take(&mut self.first))))
    }

    fn exact_len(&self) -> Option<u64> {
        self.rest.exact_len().map(|left| left + self.first.len() as u64)
    }

    fn trailers(&mut self) -> Option<Fields> {
        self.rest.trailers()
    }
}

/// Content that is all here, with fields behind it.
struct Kept {
    bytes: Bytes,
    trailers: Option<Fields>,
}

impl Source for Kept {
    fn poll_chunk(&mut self, _: &mut Context<'_>) -> Poll<Option<Result<Bytes, BodyError>>> {
        let bytes = std::mem::take(&mut self.bytes);
        Poll::Ready((!bytes.is_empty()).then_some(Ok(bytes)))
    }

    fn trailers(&mut self) -> Option<Fields> {
        self.trailers.take()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn run<T>(test: impl Future<Output = T>) -> T {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(test)
    }

    fn held() -> Held {
        Held::by([192, 0, 2, 1].into())
    }

    #[test]
    fn a_request_that_fits_is_whole_and_a_longer_one_goes_on() {
        run(async {
            for (count, fits) in [(3, true), (10, true), (11, false), (40, false)] {
                let (sender, body) = Body::channel();
                let send = async move {
                    for _ in 0..count {
                        sender.send("x").await.unwrap();
                    }
                };
                let check = async {
                    let body = taken(body, 10, &mut held()).await.unwrap();
                    assert_eq!(matches!(body, Body::Full(_)), fits, "{count}");
                    assert_eq!(body.collect(100).await.unwrap().len(), count);
                };
                tokio::join!(send, check);
            }
            let (_sender, body) = Body::sized_channel(11);
            assert!(matches!(taken(body, 10, &mut held()).await.unwrap(), Body::Stream(_)), "it is not even begun");
        });
    }

    #[test]
    fn requests_are_not_taken_beyond_what_the_worker_has_room_for() {
        run(async {
            let whole = async || {
                let (sender, body) = Body::channel();
                let send = async move {
                    for _ in 0..9 {
                        sender.send("x").await.unwrap();
                    }
                };
                let mut held = held();
                (tokio::join!(send, taken(body, 10, &mut held)).1.unwrap(), held)
            };
            let before = SHELVED.get();
            let (body, first) = whole().await;
            assert!(matches!(body, Body::Full(_)));
            assert_eq!(SHELVED.get(), before + 9);
            let mut others = Held::by([192, 0, 2, 2].into());
            others.more(WORKER_BYTES_MAX);
            let (body, second) = whole().await;
            assert!(matches!(body, Body::Stream(_)), "the rest goes on as it comes");
            assert_eq!(body.collect(100).await.unwrap().len(), 9);
            drop((first, second, others));
            assert_eq!(SHELVED.get(), before);
        });
    }

    #[test]
    fn one_client_does_not_take_the_room_of_others() {
        let (mut greedy, mut modest) = (Held::by("2001:db8::1".parse().unwrap()), held());
        greedy.more(CLIENT_BYTES_MAX);
        assert!(!greedy.may_more());
        assert!(!Held::by("2001:db8::2".parse().unwrap()).may_more(), "it is the same one");
        assert!(modest.may_more());
        modest.more(1);
        greedy.less(1);
        assert!(greedy.may_more());
        drop((greedy, modest));
        assert!(CLIENTS.with_borrow(HashMap::is_empty), "nothing is kept of those who have nothing");
    }

    #[test]
    fn what_is_held_is_given_back() {
        let shelf = |bytes_max| {
            let held = held();
            Shelf { chunks: VecDeque::new(), held, bytes_max, end: None, reader: None, writer: None }
        };
        let before = SHELVED.get();
        let mut one = shelf(10);
        assert!(one.has_room());
        one.put(Bytes::from_static(b"0123456789"));
        assert!(!one.has_room());
        let mut other = shelf(u64::MAX);
        other.put(Bytes::from_static(b"x"));
        assert_eq!(SHELVED.get(), before + 11 + 2 * PIECE_BYTES);
        assert_eq!(one.take().unwrap().len(), 10);
        assert!(one.has_room() && one.take().is_none());
        SHELVED.set(SHELVED.get() + WORKER_BYTES_MAX);
        assert!(!other.has_room(), "the worker has no room left");
        assert!(one.has_room(), "but each goes on piece by piece");
        SHELVED.set(SHELVED.get() - WORKER_BYTES_MAX);
        drop(other);
        assert_eq!(SHELVED.get(), before);
    }
}
