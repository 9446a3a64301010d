//! What may be sent again after a failure, and what is kept for it.
//!
//! A request may go to another upstream when the first one cannot have acted on it, or when acting twice
//! is the same as once:
//!
//! | failed while | method | content | sent again |
//! |---|---|---|---|
//! | connecting, or before any byte was sent | any | untouched | yes |
//! | sending, or before any byte of the response | idempotent | kept whole | yes |
//! | the same | any other | | no: 502 |
//! | waiting for the response longer than `try_timeout` | idempotent | kept whole | yes |
//! | waiting longer than `response_timeout` | any | | no: 504, a second wait would not help |
//! | after the first byte of the response | any | | no |
//!
//! And only within a [`Budget`], so that an upstream that fails everything is not asked for everything many times.

use std::cell::RefCell;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::task::{Context, Poll};

use bytes::Bytes;
use engine::{Body, BodyError, ClientError, Fields, Source};

use crate::headers;
use crate::metrics::PerThread;

/// Longest request body that is kept whole before it is sent, in bytes, so that it can be sent again.
/// Forms and messages fit; a longer one streams.
const KEPT_BYTES_MAX: u64 = 64 * 1024;

/// A request's content, in a form that can be lent more than once.
#[derive(Debug)]
pub(crate) enum Content {
    /// All of it is here.
    Whole(Bytes),
    /// It is read from the client as the upstream takes it.
    Streaming(Rc<RefCell<Shared>>),
}

/// A body between two attempts.
#[derive(Debug)]
pub(crate) struct Shared {
    body: Body,
    /// Whether anything was taken from it.
    touched: bool,
    /// Names that its trailers may not have.
    reserved: Vec<String>,
}

impl Content {
    /// Reads a short body of known length from the client; leaves any other where it is: a longer one that waits for
    /// `100 Continue` is asked for when the upstream wants it. `reserved` are the fields that the proxy decides about:
    /// the content's trailers may not bring them.
    ///
    /// # Errors
    /// The client did not send what it had announced.
    pub(crate) async fn take(body: Body, reserved: impl FnOnce() -> Vec<String>) -> Result<Self, BodyError> {
        match body.exact_len() {
            Some(0) => Ok(Self::Whole(Bytes::new())),
            Some(length) if length <= KEPT_BYTES_MAX => Ok(Self::Whole(body.collect(KEPT_BYTES_MAX).await?)),
            _ => Ok(Self::Streaming(Rc::new(RefCell::new(Shared { body, touched: false, reserved: reserved() })))),
        }
    }

    /// The content for one attempt.
    pub(crate) fn lend(&self) -> Body {
        match self {
            Self::Whole(bytes) => bytes.clone().into(),
            Self::Streaming(shared) => Body::from_source(Lent(Rc::clone(shared))),
        }
    }

    /// Whether it is still with the client.
    pub(crate) fn is_streaming(&self) -> bool {
        matches!(self, Self::Streaming(_))
    }

    fn is_untouched(&self) -> bool {
        match self {
            Self::Whole(_) => true,
            Self::Streaming(shared) => !shared.borrow().touched,
        }
    }
}

/// One attempt's view of a [`Shared`] body.
struct Lent(Rc<RefCell<Shared>>);

impl Source for Lent {
    fn poll_chunk(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, BodyError>>> {
        let mut shared = self.0.borrow_mut();
        let polled = shared.body.poll_chunk(cx);
        shared.touched |= polled.is_ready();
        polled
    }

    fn exact_len(&self) -> Option<u64> {
        self.0.borrow().body.exact_len()
    }

    fn trailers(&mut self) -> Option<Fields> {
        let mut shared = self.0.borrow_mut();
        let fields = shared.body.trailers()?;
        Some(headers::trailers_to_upstream(&fields, &shared.reserved))
    }
}

/// Whether the request may be sent again after `error`, `tried` being the upstreams so far, `retries` the most that
/// may follow the first one. `is_patient` says that the response was waited for as long as a response may take.
pub(crate) fn may_try_again(
    error: &ClientError,
    content: &Content,
    tried: &[SocketAddr],
    retries: u32,
    is_patient: bool,
) -> bool {
    let was_waited_for = error.is_timeout() && !error.is_connect() && is_patient;
    tried.len() <= retries as usize && error.can_retry && !was_waited_for && content.is_untouched()
}

/// Requests sent again for each that is sent at all, in thousandths: enough for one dead backend in five.
const RETRIES_PER_1000: u64 = 200;
/// Requests per second that may be sent again however few there are.
const RETRIES_PER_SECOND: u64 = 10;
/// Requests that may be sent again at once: as many as a busy backend has in flight when it dies.
const RETRIES_AT_ONCE: u64 = 256;

/// Bounds the requests that are sent again though an upstream may have worked on them: a share of all requests, and a
/// few per second. What no upstream has seen costs nothing. Each worker has a budget of its own.
#[derive(Debug)]
pub(crate) struct Budget(PerThread<Purse>);

/// A worker's budget, in thousandths of a request.
#[derive(Debug, Default)]
struct Purse {
    spent: AtomicU64,
    /// Until when time has been counted, in milliseconds.
    counted_ms: AtomicU64,
}

impl Default for Budget {
    fn default() -> Self {
        Self(PerThread::new())
    }
}

impl Budget {
    /// A request is sent for the first time.
    pub(crate) fn deposit(&self) {
        let purse = self.0.mine();
        let spent = purse.spent.load(Relaxed);
        if spent > 0 {
            purse.spent.store(spent.saturating_sub(RETRIES_PER_1000), Relaxed);
        }
    }

    /// Whether one may be sent again.
    pub(crate) fn withdraw(&self, now_ms: u64) -> bool {
        let purse = self.0.mine();
        let passed_ms = now_ms.saturating_sub(purse.counted_ms.swap(now_ms, Relaxed));
        let spent = purse.spent.load(Relaxed).saturating_sub(passed_ms.saturating_mul(RETRIES_PER_SECOND));
        let may = spent + 1000 <= RETRIES_AT_ONCE * 1000;
        purse.spent.store(if may { spent + 1000 } else { spent }, Relaxed);
        may
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::future::{Future, poll_fn};
    use std::pin::pin;
    use std::task::Waker;

    use engine::{ClientErrorKind, Stage};

    use super::*;

    fn now<F: Future>(future: F) -> F::Output {
        match pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(output) => output,
            Poll::Pending => panic!("it should not have to wait"),
        }
    }

    fn error(stage: Stage, kind: ClientErrorKind, can_retry: bool) -> ClientError {
        ClientError { addr: ([127, 0, 0, 1], 1).into(), stage, kind, can_retry }
    }

    fn check(error: &ClientError, expect: bool) {
        let content = Content::Whole(Bytes::from_static(b"x"));
        assert_eq!(may_try_again(error, &content, &[error.addr], 7, true), expect, "{error}");
    }

    #[test]
    fn what_never_reached_an_upstream_goes_to_another() {
        check(&error(Stage::Connect, ClientErrorKind::Refused, true), true);
        check(&error(Stage::Connect, ClientErrorKind::TimedOut, true), true);
    }

    #[test]
    fn what_may_have_been_acted_upon_goes_to_another_only_if_that_is_harmless() {
        check(&error(Stage::Head, ClientErrorKind::Closed, true), true);
        check(&error(Stage::Head, ClientErrorKind::Closed, false), false);
    }

    #[test]
    fn a_slow_upstream_is_not_waited_for_twice() {
        check(&error(Stage::Head, ClientErrorKind::TimedOut, true), false);
        check(&error(Stage::Send, ClientErrorKind::TimedOut, true), false);
    }

    #[test]
    fn one_that_got_little_time_is_not_the_only_one_that_is_asked() {
        let content = Content::Whole(Bytes::new());
        let error = error(Stage::Head, ClientErrorKind::TimedOut, true);
        assert!(may_try_again(&error, &content, &[error.addr], 7, false));
        let posted = ClientError { can_retry: false, ..error };
        assert!(!may_try_again(&posted, &content, &[posted.addr], 7, false));
    }

    #[test]
    fn the_budget_is_a_share_of_the_requests_and_a_few_per_second() {
        let budget = Budget::default();
        let withdraw = |now_ms| (0..10_000).take_while(|_| budget.withdraw(now_ms)).count();
        assert_eq!(withdraw(5), RETRIES_AT_ONCE as usize, "a burst");
        assert_eq!(withdraw(5), 0);
        (0..100).for_each(|_| budget.deposit());
        assert_eq!(withdraw(5), 20, "a fifth");
        assert_eq!(withdraw(2005), 20, "ten per second");
        (0..10_000).for_each(|_| budget.deposit());
        assert_eq!(withdraw(2005), RETRIES_AT_ONCE as usize, "not saved up for ever");
    }

    #[test]
    fn attempts_end() {
        let error = error(Stage::Connect, ClientErrorKind::Refused, true);
        let content = Content::Whole(Bytes::new());
        assert!(may_try_again(&error, &content, &[error.addr; 7], 7, true));
        assert!(!may_try_again(&error, &content, &[error.addr; 8], 7, true));
        assert!(!may_try_again(&error, &content, &[error.addr], 0, true));
    }

    #[test]
    fn a_streamed_body_can_be_lent_until_it_is_read_from() {
        let (sender, body) = Body::channel();
        now(sender.send("abc")).unwrap();
        let content = now(Content::take(body, Vec::new)).unwrap();
        let refused = error(Stage::Connect, ClientErrorKind::Refused, true);
        drop(content.lend());
        assert!(may_try_again(&refused, &content, &[], 7, true));
        let mut lent = content.lend();
        assert_eq!(now(poll_fn(|cx| lent.poll_chunk(cx))).unwrap().unwrap(), "abc");
        assert!(!may_try_again(&refused, &content, &[], 7, true));
    }

    #[test]
    fn a_short_body_is_kept_whole_and_a_long_one_is_not() {
        let (sender, body) = Body::sized_channel(3);
        now(sender.send("abc")).unwrap();
        drop(sender);
        assert!(matches!(now(Content::take(body, Vec::new)).unwrap(), Content::Whole(bytes) if bytes == "abc"));
        let (_sender, body) = Body::sized_channel(KEPT_BYTES_MAX + 1);
        assert!(matches!(now(Content::take(body, Vec::new)).unwrap(), Content::Streaming(_)));
    }
}
