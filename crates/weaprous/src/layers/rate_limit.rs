//! How often one client may ask: a token bucket for each, as the time at which it will be full again (GCRA).

use crate::handler::LocalBoxFuture;
use crate::layer::{Layer, Next};
use crate::problem::Problem;
use crate::request::Request;
use crate::response::IntoResponse;
use engine::Response;
use std::collections::HashMap;
use std::collections::hash_map::RandomState;
use std::fmt;
use std::hash::BuildHasher as _;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// Refuses requests of clients that ask too often: 429 with `Retry-After`. Every answer says how many more are good
/// (`RateLimit` and `RateLimit-Policy`, draft-ietf-httpapi-ratelimit-headers).
///
/// A client is an address behind trusted proxies, of IPv6 the first 64 bits, which is what one subscriber has; or
/// what [`RateLimit::by`] says. All workers share one table of bounded size.
///
/// ```
/// use std::time::Duration;
/// use weaprous::{layers::RateLimit, prelude::*};
/// let login = RateLimit::new(5, Duration::from_mins(1));
/// let search = RateLimit::new(100, Duration::from_mins(1)).by(|request| request.field("x-api-key").map(str::to_owned));
/// App::new()
///     .add_route(Route::new("/login", [POST], async || "in").layer(login))
///     .add_route(Route::new("/search", [GET], async || "found").layer(search));
/// ```
pub struct RateLimit {
    rule: Rule,
    policy: String,
    key: Option<Box<OwnKey>>,
    start: Instant,
    hasher: RandomState,
    shards: Vec<Mutex<HashMap<Key, Nanos>>>,
}

/// What a client is counted by, if not by its address.
type OwnKey = dyn Fn(&Request) -> Option<String> + Send + Sync;

/// Nanoseconds since the layer was made.
type Nanos = u64;

/// How many, how fast.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Rule {
    quota: u32,
    /// Between two requests at an even pace.
    interval: Nanos,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum Key {
    Addr(IpAddr),
    Own(String),
}

/// What a bucket says to a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Verdict {
    is_good: bool,
    /// Requests that are good right after this one.
    remaining: u32,
    /// Until one more is good, or until the bucket is full.
    reset_s: u64,
}

/// Clients remembered at a time; beyond it those with the most left are forgotten first.
const CLIENTS_MAX: usize = 64 * 1024;
/// So that workers seldom wait for each other.
const SHARDS: usize = 16;
/// Longest key of one's own, in bytes: the table's size is to be known.
const KEY_BYTES_MAX: usize = 128;

impl RateLimit {
    /// Lets each client ask `quota` times in `period`; all at once, if it was quiet before.
    ///
    /// # Panics
    /// If `quota` or `period` is zero.
    pub fn new(quota: u32, period: Duration) -> Self {
        assert!(quota > 0 && !period.is_zero(), "a limit of nothing would refuse everything");
        let interval = (period.as_nanos() / u128::from(quota)).clamp(1, u128::from(u32::MAX) << 24) as Nanos;
        Self {
            rule: Rule { quota, interval },
            policy: format!("\"default\";q={quota};w={}", period.as_secs().max(1)),
            key: None,
            start: Instant::now(),
            hasher: RandomState::new(),
            shards: (0..SHARDS).map(|_| Mutex::default()).collect(),
        }
    }

    /// Counts by a key of one's own; requests for which it gives none are counted by address. Must not be secret: a
    /// key stays in memory. Only its first 128 bytes count.
    pub fn by(mut self, key: impl Fn(&Request) -> Option<String> + Send + Sync + 'static) -> Self {
        self.key = Some(Box::new(key));
        self
    }

    fn key(&self, request: &Request) -> Key {
        let own = self.key.as_ref().and_then(|key| key(request));
        match own {
            Some(mut own) => {
                own.truncate(own.floor_char_boundary(KEY_BYTES_MAX));
                Key::Own(own)
            }
            None => Key::Addr(subscriber(request.client_addr())),
        }
    }

    fn now(&self) -> Nanos {
        self.start.elapsed().as_nanos() as Nanos
    }

    fn shard(&self, key: &Key) -> MutexGuard<'_, HashMap<Key, Nanos>> {
        let shard = &self.shards[self.hasher.hash_one(key) as usize % SHARDS];
        // A panic under the lock could only be one of the allocator; the table is still whole.
        shard.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Counts what this client did, for layers that count something else than requests.
    pub(super) fn count(&self, request: &Request) {
        self.ask(self.key(request), self.now());
    }

    /// How long this client has to wait; `None` if one more is good. Counts nothing.
    pub(super) fn wait_s(&self, request: &Request) -> Option<u64> {
        let key = self.key(request);
        let full_at = self.shard(&key).get(&key).copied().unwrap_or_default();
        let (verdict, _) = self.rule.judge(full_at, self.now());
        (!verdict.is_good).then_some(verdict.reset_s)
    }

    fn ask(&self, key: Key, now: Nanos) -> Verdict {
        let mut shard = self.shard(&key);
        let full_at = shard.get(&key).copied().unwrap_or_default();
        let (verdict, full_at) = self.rule.judge(full_at, now);
        if verdict.is_good {
            if shard.len() >= CLIENTS_MAX / SHARDS && !shard.contains_key(&key) {
                make_room(&mut shard, now);
            }
            shard.insert(key, full_at);
        }
        verdict
    }
}

impl Rule {
    /// What a bucket that will be full at `full_at` says, and when it will be full after that.
    fn judge(self, full_at: Nanos, now: Nanos) -> (Verdict, Nanos) {
        let capacity = self.interval.saturating_mul(u64::from(self.quota));
        let after = full_at.max(now).saturating_add(self.interval);
        let debt = after - now;
        if debt > capacity {
            let verdict = Verdict { is_good: false, remaining: 0, reset_s: seconds_up(debt - capacity) };
            return (verdict, full_at);
        }
        let remaining = ((capacity - debt) / self.interval) as u32;
        (Verdict { is_good: true, remaining, reset_s: seconds_up(debt) }, after)
    }
}

fn seconds_up(nanos: Nanos) -> u64 {
    nanos.div_ceil(1_000_000_000).max(1)
}

/// Forgets those whose buckets are full, and if that is nobody, the quarter that is nearest to it: so the work per
/// client stays the same however many come.
fn make_room(shard: &mut HashMap<Key, Nanos>, now: Nanos) {
    let before = shard.len();
    shard.retain(|_, full_at| *full_at > now);
    if shard.len() < before || shard.is_empty() {
        return;
    }
    let mut times: Vec<Nanos> = shard.values().copied().collect();
    let quarter = (times.len() - 1) / 4;
    let (_, nearest, _) = times.select_nth_unstable(quarter);
    shard.retain(|_, full_at| *full_at > *nearest);
}

fn subscriber(addr: IpAddr) -> IpAddr {
    match addr {
        IpAddr::V4(_) => addr,
        IpAddr::V6(v6) => IpAddr::V6(Ipv6Addr::from_bits(v6.to_bits() & (u128::MAX << 64))),
    }
}

impl Layer for RateLimit {
    fn call(&self, request: Request, next: Next) -> LocalBoxFuture<'_, Response> {
        Box::pin(async move {
            let verdict = self.ask(self.key(&request), self.now());
            let response = if verdict.is_good {
                next.run(request).await
            } else {
                Problem::too_many_requests("too many requests", verdict.reset_s).into_response()
            };
            response
                .field("ratelimit-policy", &self.policy)
                .field("ratelimit", format!("\"default\";r={};t={}", verdict.remaining, verdict.reset_s))
        })
    }
}

impl fmt::Debug for RateLimit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RateLimit").field("rule", &self.rule).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Nanos = 1_000_000_000;

    fn key(name: &str) -> Key {
        Key::Own(name.to_owned())
    }

    #[test]
    fn a_bucket_empties_at_once_and_fills_evenly() {
        let limit = RateLimit::new(3, Duration::from_secs(30));
        let check = |now: Nanos, is_good, remaining, reset_s| {
            assert_eq!(limit.ask(key("a"), now), Verdict { is_good, remaining, reset_s }, "at {now}");
        };
        check(0, true, 2, 10);
        check(0, true, 1, 20);
        check(0, true, 0, 30);
        check(0, false, 0, 10);
        check(9 * SECOND, false, 0, 1);
        check(10 * SECOND, true, 0, 30);
        check(10 * SECOND, false, 0, 10);
        check(100 * SECOND, true, 2, 10);
        assert!(limit.ask(key("b"), 0).is_good, "another client has a bucket of its own");
    }

    #[test]
    fn the_table_has_a_size() {
        let limit = RateLimit::new(2, Duration::from_secs(1000));
        for n in 0..CLIENTS_MAX * 2 {
            assert!(limit.ask(key(&n.to_string()), n as Nanos).is_good);
        }
        let held: usize = limit.shards.iter().map(|shard| shard.lock().expect("no panic").len()).sum();
        assert!(held <= CLIENTS_MAX, "{held}");
    }

    #[test]
    fn those_who_asked_most_are_remembered() {
        let mut shard = HashMap::from([(key("much"), 100), (key("little"), 50)]);
        make_room(&mut shard, 10);
        assert_eq!(shard.keys().collect::<Vec<_>>(), [&key("much")]);
        make_room(&mut shard, 200);
        assert!(shard.is_empty());
    }

    #[test]
    fn one_subscriber_has_one_bucket() {
        let check = |addr: &str, expect: &str| {
            assert_eq!(subscriber(addr.parse().expect("an address")), expect.parse::<IpAddr>().expect("an address"));
        };
        check("192.0.2.1", "192.0.2.1");
        check("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::");
    }
}
