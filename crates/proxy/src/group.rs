//! An upstream at work: its members, who of them may take a request, and who has to wait.
//!
//! ```text
//!   members ── not tried, up, with room ──► balance ──► Lease ── dropped ──► the first one waiting
//!      │ all have their `max_conns` ──────► `queue` ──(a lease is dropped)──► Lease
//!      │ all ejected ─────────────────────► tried all the same: a wrong guess must never be the reason for an error
//!      └ all fail their checks ───────────► 503
//! ```
//!
//! Backups take part when nobody else can. A member that is ejected is asked again by a single request when its
//! pause is over.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError, RwLock, Weak};
use std::time::Duration;

use engine::{ClientTls, Trust};
use smallvec::SmallVec;
use tokio::time::{Instant, sleep_until};

use crate::balance::sticky::Sealer;
use crate::balance::{Balance, Candidate};
use crate::conf::{self, Policy, ServerAddress, UpstreamServer};
use crate::health::Failure;
use crate::metrics::Metrics;
use crate::queue::{Entered, Queue};
use crate::retry::Budget;
use crate::upstream::Upstream;

/// An upstream at work.
#[derive(Debug)]
pub(crate) struct Group {
    pub(crate) conf: Arc<conf::Upstream>,
    members: Members,
    security: Security,
    balance: Balance,
    /// Requests waiting for a member with room, those of other configurations among them.
    queue: Arc<Queue>,
    /// Whether any member has a limit, so that somebody may wait for a lease to be dropped.
    is_limited: bool,
    /// How many requests may be sent again.
    pub(crate) budget: Budget,
}

/// Who belongs to a group.
#[derive(Debug)]
enum Members {
    /// Addresses alone: they never change.
    Fixed(Arc<[Member]>),
    /// Names among them: they change with each look-up.
    Resolved(RwLock<Arc<[Member]>>),
}

/// A backend as a member of a group.
#[derive(Debug, Clone)]
pub(crate) struct Member {
    pub(crate) upstream: Arc<Upstream>,
    weight: u32,
    max_conns: Option<u32>,
    backup: bool,
    /// `None`: in plain text.
    pub(crate) tls: Option<ClientTls>,
    /// Whether HTTP/2 is spoken in plain text.
    pub(crate) http2: bool,
}

impl Member {
    fn has_room(&self) -> bool {
        self.max_conns.is_none_or(|max| self.upstream.in_flight() < max)
    }

    /// Has it take a request, if it has room.
    fn lease(&self) -> Option<Lease> {
        let Self { upstream, tls, http2, .. } = self;
        let leased = || Lease { upstream: Arc::clone(upstream), tls: tls.clone(), http2: *http2 };
        upstream.enter(self.max_conns).then(leased)
    }
}

/// How the members of a group are spoken to.
#[derive(Debug)]
enum Security {
    Plain,
    Tls(ClientTls),
    /// The authorities cannot be read: nobody can be believed.
    Broken,
}

impl Security {
    fn of(conf: &conf::Upstream) -> Self {
        match conf.tls.as_ref().map(|tls| ClientTls::new(&tls.trust)) {
            None => Self::Plain,
            Some(Ok(tls)) => Self::Tls(if conf.http2 { tls.with_http2() } else { tls }),
            Some(Err(error)) => {
                tracing::error!(upstream = conf.name, %error, "the upstream cannot be used");
                Self::Broken
            }
        }
    }

    /// Reads the authorities again if their file has changed.
    fn reload(&self, conf: &conf::Upstream) {
        let Self::Tls(tls) = self else { return };
        match tls.reload() {
            Ok(true) => tracing::info!(upstream = conf.name, "authorities loaded again"),
            Ok(false) => {}
            Err(error) => tracing::error!(
                upstream = conf.name, %error, "the new authorities cannot be used; those loaded before stay in use"
            ),
        }
    }

    /// For a server, whose certificate is for the name it is given by.
    fn for_server(&self, conf: &conf::Upstream, server: &UpstreamServer) -> Result<Option<ClientTls>, Unusable> {
        let tls = match self {
            Self::Plain => return Ok(None),
            Self::Tls(tls) => tls,
            Self::Broken => return Err(Unusable),
        };
        let name = match (conf.tls.as_ref().and_then(|tls| tls.name.as_ref()), &server.address) {
            (Some(name), _) | (None, ServerAddress::Name { host: name, .. }) => name,
            (None, ServerAddress::Ip(_)) => return Ok(Some(tls.clone())),
        };
        tls.named(name).map(Some).map_err(|error| {
            tracing::error!(upstream = conf.name, %error, "no certificate can be for this server");
            Unusable
        })
    }
}

/// A server that cannot be spoken to at all; why is in the log.
struct Unusable;

/// Every backend there is, so that those of equal name and address are one.
#[derive(Debug, Default)]
pub(crate) struct Registry {
    known: Mutex<Known>,
    /// By the name of an `upstream` block: who waits for its members.
    queues: Mutex<HashMap<String, Weak<Queue>>>,
    metrics: Arc<Metrics>,
}

impl Registry {
    fn member(
        &self,
        conf: &conf::Upstream,
        server: &UpstreamServer,
        address: SocketAddr,
        tls: Option<ClientTls>,
    ) -> Member {
        // What stands in `proxy_pass` lines is the same wherever it stands; a block is a world of its own.
        let key = (conf.is_named.then(|| conf.name.clone()), address);
        let counted = || self.metrics.server(shown_name(conf), &address.to_string());
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        // Only what has a block of its own has limits, and so somebody who waits.
        let queue = || conf.is_named.then(|| self.queue(conf));
        let upstream = Arc::clone(known.entry(key).or_insert_with(|| Upstream::new(address, counted(), queue())));
        let http2 = conf.http2 && tls.is_none();
        Member { upstream, weight: server.weight, max_conns: server.max_conns, backup: server.backup, tls, http2 }
    }

    /// Those nobody has yet, counted by `metrics`.
    pub(crate) fn new(metrics: Arc<Metrics>) -> Self {
        Self { metrics, ..Self::default() }
    }

    /// Where requests for this upstream wait.
    fn queue(&self, conf: &conf::Upstream) -> Arc<Queue> {
        if !conf.is_named {
            return Arc::default();
        }
        let mut queues = self.queues.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(queue) = queues.get(&conf.name).and_then(Weak::upgrade) {
            return queue;
        }
        let queue = Arc::default();
        queues.insert(conf.name.clone(), Arc::downgrade(&queue));
        queue
    }

    /// Forgets those that no group has any more.
    pub(crate) fn tidy(&self) {
        self.known.lock().unwrap_or_else(PoisonError::into_inner).retain(|_, upstream| Arc::strong_count(upstream) > 1);
        self.queues.lock().unwrap_or_else(PoisonError::into_inner).retain(|_, queue| queue.strong_count() > 0);
    }
}

/// The name by which operators know an upstream: its own, or one for all that stand in `proxy_pass` lines.
pub(crate) fn shown_name(conf: &conf::Upstream) -> &str {
    if conf.is_named { &conf.name } else { INLINE }
}

/// The name for backends that stand in `proxy_pass` lines themselves, wherever that is.
pub(crate) const INLINE: &str = "proxy_pass";

/// By the name of an `upstream` block, if there is one, and by address.
type Known = HashMap<(Option<String>, SocketAddr), Arc<Upstream>>;

/// What a request asks of a group.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Ask<'a> {
    /// Who has been tried for it.
    pub(crate) tried: &'a [SocketAddr],
    /// The hash of what the policy looks at.
    pub(crate) key: Option<u64>,
    /// The cookie that says whom it belongs to.
    pub(crate) cookie: Option<&'a str>,
    pub(crate) now_ms: u64,
}

/// What a request asks of a group, without what it takes to find that out.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Wish<'a> {
    pub(crate) tried: &'a [SocketAddr],
    pub(crate) key: Option<u64>,
    /// The member that its cookie is for.
    pub(crate) home: Option<SocketAddr>,
    pub(crate) now_ms: u64,
}

/// A member that has taken a request. Dropped when the request is over.
#[derive(Debug)]
pub(crate) struct Lease {
    pub(crate) upstream: Arc<Upstream>,
    /// `None`: in plain text.
    pub(crate) tls: Option<ClientTls>,
    /// Whether HTTP/2 is spoken in plain text.
    pub(crate) http2: bool,
}

impl Drop for Lease {
    fn drop(&mut self) {
        self.upstream.leave();
        if let Some(queue) = &self.upstream.queue {
            queue.handle_room();
        }
    }
}

/// Why no member takes a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// All have been tried.
    Exhausted,
    /// All have as many requests as they may, and so has the queue, or the wait was too long.
    Full,
    /// All fail their checks, or no name has an address.
    Gone,
}

/// What comes of looking for a member now.
pub(crate) enum Pick {
    One(Lease),
    Full,
    None(Refusal),
}

type Candidates = SmallVec<[Candidate; 8]>;

impl Group {
    /// Whether its backends are believed for what a file says.
    pub(crate) fn has_authorities(&self) -> bool {
        let trust = self.conf.tls.as_ref().map(|tls| &tls.trust);
        matches!(self.security, Security::Tls(_)) && matches!(trust, Some(Trust::File(_) | Trust::PublicAnd(_)))
    }

    /// Reads the file with the authorities again if it has changed. Blocks.
    pub(crate) fn reload_authorities(&self) {
        self.security.reload(&self.conf);
    }

    pub(crate) fn new(conf: Arc<conf::Upstream>, registry: &Registry) -> Arc<Self> {
        let has_names = conf.servers.iter().any(|server| matches!(server.address, ServerAddress::Name { .. }));
        let security = Security::of(&conf);
        let fixed = members(&conf, registry, &HashMap::new(), &security);
        Arc::new(Self {
            is_limited: conf.servers.iter().any(|server| server.max_conns.is_some()),
            members: if has_names { Members::Resolved(RwLock::new(fixed)) } else { Members::Fixed(fixed) },
            queue: registry.queue(&conf),
            conf,
            security,
            balance: Balance::default(),
            budget: Budget::default(),
        })
    }

    /// The names that are to be looked up.
    pub(crate) fn names(&self) -> impl Iterator<Item = (&str, u16)> {
        self.conf.servers.iter().filter_map(|server| match &server.address {
            ServerAddress::Name { host, port } => Some((host.as_str(), *port)),
            ServerAddress::Ip(_) => None,
        })
    }

    /// Takes what look-ups brought. Members that stay keep their health and their requests.
    pub(crate) fn resolved(&self, registry: &Registry, found: &HashMap<(String, u16), Vec<SocketAddr>>) -> bool {
        let Members::Resolved(lock) = &self.members else { return false };
        let new = members(&self.conf, registry, found, &self.security);
        let mut old = lock.write().unwrap_or_else(PoisonError::into_inner);
        let addresses = |members: &[Member]| members.iter().map(|member| member.upstream.address).collect::<Vec<_>>();
        if addresses(&old) == addresses(&new) {
            return false;
        }
        *old = new;
        drop(old);
        registry.tidy();
        self.queue.handle_room();
        true
    }

    pub(crate) fn members(&self) -> Arc<[Member]> {
        match &self.members {
            Members::Fixed(members) => Arc::clone(members),
            Members::Resolved(lock) => Arc::clone(&lock.read().unwrap_or_else(PoisonError::into_inner)),
        }
    }

    /// A member for a request, waiting for one if all are busy and the queue is not full. Dropped meanwhile, it takes
    /// nobody's room.
    ///
    /// # Errors
    /// Nobody takes it.
    pub(crate) async fn acquire(
        self: &Arc<Self>,
        ask: &Ask<'_>,
        sealer: &Sealer,
        now_ms: impl Fn() -> u64,
    ) -> Result<Lease, Refusal> {
        // Nearly always nobody waits and somebody has room.
        if self.queue.is_empty() {
            match self.pick_now(ask, sealer, &now_ms) {
                Pick::One(lease) => return Ok(lease),
                Pick::None(refusal) => return Err(refusal),
                Pick::Full if self.conf.queue.is_none() => return Err(Refusal::Full),
                Pick::Full => {}
            }
        }
        Box::pin(self.wait_for_room(self.wish(&Ask { now_ms: now_ms(), ..*ask }, sealer))).await
    }

    async fn wait_for_room(self: &Arc<Self>, wish: Wish<'_>) -> Result<Lease, Refusal> {
        let (length, patience) =
            self.conf.queue.as_ref().map_or_else(Default::default, |queue| (queue.length, queue.wait));
        let mut waiting = match self.queue.enter(self, &wish, length) {
            Entered::Served(result) => return result,
            Entered::Waiting(waiting) => waiting,
        };
        let since = Instant::now();
        loop {
            let mut paused = std::pin::pin!(self.queue.paused());
            paused.as_mut().enable(); // before looking, so that no pause begins unseen in between
            let waited = since.elapsed();
            if waited >= patience {
                break;
            }
            // Nobody gives room back when a pause ends: whoever waits is there to probe.
            let pause_end = self.next_pause_end(wish.now_ms + waited.as_millis() as u64);
            let look_at = pause_end.map_or(patience, |end| patience.min(Duration::from_millis(end - wish.now_ms)));
            tokio::select! {
                biased;
                answered = &mut waiting.answer => return answered.unwrap_or(Err(Refusal::Full)),
                () = paused => {}
                () = sleep_until(since + look_at) => self.queue.handle_room(),
            }
        }
        waiting.answer.close(); // from here on nothing is given any more
        waiting.answer.try_recv().unwrap_or(Err(Refusal::Full))
    }

    /// When the next of the members that are ejected may be asked again.
    fn next_pause_end(&self, now_ms: u64) -> Option<u64> {
        self.members().iter().filter_map(|member| member.upstream.health.out_until(now_ms)).min()
    }

    /// Picks with the time of now, which is asked for only where it makes a difference.
    fn pick_now(self: &Arc<Self>, ask: &Ask<'_>, sealer: &Sealer, now_ms: &impl Fn() -> u64) -> Pick {
        let members = self.members();
        if let ([only], [], false) = (&*members, ask.tried, matches!(self.conf.policy, Policy::Sticky(_)))
            && only.upstream.health.is_up()
            && only.upstream.control.takes_requests()
            && let Some(lease) = only.lease()
        {
            return Pick::One(lease);
        }
        let is_timeless = self.conf.slow_start.is_none() && members.iter().all(|member| member.upstream.health.is_up());
        let now_ms = if is_timeless { 0 } else { now_ms() };
        self.pick(&self.wish(&Ask { now_ms, ..*ask }, sealer))
    }

    /// What is asked for, the member that the cookie is for being found out.
    fn wish<'a>(&self, ask: &Ask<'a>, sealer: &Sealer) -> Wish<'a> {
        let home = match (&self.conf.policy, ask.cookie) {
            (Policy::Sticky(_), Some(cookie)) => self.members().iter().find_map(|member| {
                let address = member.upstream.address;
                sealer.is_for(cookie, &self.conf.name, &address.to_string()).then_some(address)
            }),
            _ => None,
        };
        Wish { tried: ask.tried, key: ask.key, home, now_ms: ask.now_ms }
    }

    #[cfg(test)]
    pub(crate) fn nobody_waits(&self) -> bool {
        self.queue.is_empty()
    }

    /// A member for a request, where one takes it at once. For groups whose members have no limits.
    pub(crate) fn acquire_now(
        self: &Arc<Self>,
        ask: &Ask<'_>,
        sealer: &Sealer,
        now_ms: impl Fn() -> u64,
    ) -> Option<Lease> {
        match self.pick_now(ask, sealer, &now_ms) {
            Pick::One(lease) => Some(lease),
            Pick::Full | Pick::None(_) => None,
        }
    }

    /// Whether a request may have to wait for a member with room.
    pub(crate) fn is_limited(&self) -> bool {
        self.is_limited
    }

    /// The member that takes a request now, if one does.
    pub(crate) fn pick(self: &Arc<Self>, wish: &Wish<'_>) -> Pick {
        let members = self.members();
        let is_fresh = |member: &Member| {
            !wish.tried.contains(&member.upstream.address) && member.upstream.control.takes_requests()
        };
        if let Some(lease) = probe(&members, wish) {
            return Pick::One(lease);
        }
        let mut is_full = false;
        for backup in [false, true] {
            let in_tier = |member: &&Member| member.backup == backup && is_fresh(member);
            let up = || members.iter().filter(in_tier).filter(|member| member.upstream.health.is_up());
            if let Some(lease) =
                self.choose(&members, wish, |member| in_tier(&member) && member.upstream.health.is_up())
            {
                return Pick::One(lease);
            }
            is_full |= up().next().is_some();
        }
        if is_full {
            return Pick::Full;
        }
        // Nobody is up. Those that are only ejected may be back.
        if let Some(lease) =
            self.choose(&members, wish, |member| is_fresh(member) && !member.upstream.health.is_failing())
        {
            return Pick::One(lease);
        }
        let is_gone = wish.tried.is_empty();
        let ejected = members.iter().any(|member| is_fresh(member) && !member.upstream.health.is_failing());
        match (ejected, is_gone) {
            (true, _) => Pick::Full,
            (false, true) => Pick::None(Refusal::Gone),
            (false, false) => Pick::None(Refusal::Exhausted),
        }
    }

    /// The member that the policy chooses among those that are eligible and have room.
    fn choose(
        self: &Arc<Self>,
        members: &[Member],
        wish: &Wish<'_>,
        is_eligible: impl Fn(&Member) -> bool,
    ) -> Option<Lease> {
        let mut candidates: Candidates = members
            .iter()
            .enumerate()
            .filter(|(_, member)| is_eligible(member) && member.has_room())
            .map(|(index, member)| self.candidate(index, member, wish.now_ms))
            .collect();
        let own = candidates.iter().find(|candidate| Some(members[candidate.index].upstream.address) == wish.home);
        if let Some(lease) = own.and_then(|candidate| members[candidate.index].lease()) {
            return Some(lease);
        }
        // Another worker may take the last room of the chosen one in between: then the next best is asked.
        while let Some(chosen) = self.balance.choose(&self.conf.policy, &candidates, wish.key) {
            if let Some(lease) = members[candidates.remove(chosen).index].lease() {
                return Some(lease);
            }
        }
        None
    }

    fn candidate(&self, index: usize, member: &Member, now_ms: u64) -> Candidate {
        let upstream = &member.upstream;
        let weight = member.weight * upstream.health.share(self.conf.slow_start, now_ms);
        Candidate { index, id: upstream.id, weight, in_flight: upstream.in_flight() }
    }

    /// Other members than before may take requests: whoever waits is served by them.
    pub(crate) fn has_room_again(&self) {
        self.queue.handle_room();
    }

    /// Notes that a request to a member failed. Whether it is ejected now and was not before.
    pub(crate) fn failed(&self, upstream: &Upstream, failure: Failure, now_ms: u64) -> bool {
        let members = self.members();
        let out = members.iter().filter(|member| !member.upstream.health.is_up()).count();
        let may_eject = (out + 1) * 100 <= members.len() * usize::from(self.conf.ejection.share_max);
        let is_news = upstream.health.failed(failure, &self.conf.ejection, may_eject, now_ms);
        if is_news {
            self.queue.handle_room(); // when it was the last one that is up, whoever waits may try the others
        }
        self.queue.handle_pause();
        is_news
    }

    /// How long to stay away when nobody is left.
    pub(crate) fn retry_after(&self) -> Duration {
        /// When nothing is known: as long as a restart takes.
        const DEFAULT: Duration = Duration::from_secs(1);
        self.conf.health_check.as_ref().map_or(DEFAULT, |check| check.interval * check.rise).max(DEFAULT)
    }
}

/// A member whose pause is over and that nobody else asks just now.
fn probe(members: &[Member], wish: &Wish<'_>) -> Option<Lease> {
    let may = |member: &&Member| {
        !wish.tried.contains(&member.upstream.address)
            && member.upstream.control.takes_requests()
            && member.has_room() // or else nobody would probe for a while
            && member.upstream.health.may_probe(wish.now_ms)
    };
    // A backup is not worth finding out about while others are up.
    let others_up = members.iter().any(|member| !member.backup && member.upstream.health.is_up());
    let member = members.iter().filter(|member| !(member.backup && others_up)).find(may)?;
    member.lease()
}

/// The members that the configuration and the look-ups make, in the order of the file.
fn members(
    conf: &conf::Upstream,
    registry: &Registry,
    found: &HashMap<(String, u16), Vec<SocketAddr>>,
    security: &Security,
) -> Arc<[Member]> {
    let mut members: Vec<Member> = Vec::new();
    for server in &conf.servers {
        let Ok(tls) = security.for_server(conf, server) else { continue };
        let member = |address| registry.member(conf, server, address, tls.clone());
        match &server.address {
            ServerAddress::Ip(address) => members.push(member(*address)),
            ServerAddress::Name { host, port } => {
                for address in found.get(&(host.clone(), *port)).into_iter().flatten() {
                    if members.iter().all(|member| member.upstream.address != *address) {
                        members.push(member(*address));
                    }
                }
            }
        }
    }
    members.into()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use crate::conf::{Config, Ejection, HealthCheck};

    use super::*;

    /// A group from the lines of an `upstream` block.
    fn group(lines: &str) -> (Arc<Group>, Registry) {
        let text = format!("upstream app {{ {lines} }} host a {{ proxy_pass http://app; }}");
        let config = Config::parse("test", &text).unwrap_or_else(|errors| panic!("{errors:?}"));
        let registry = Registry::default();
        (Group::new(Arc::clone(&config.upstreams[0]), &registry), registry)
    }

    fn port_of(pick: &Pick) -> Option<u16> {
        match pick {
            Pick::One(lease) => Some(lease.upstream.address.port()),
            _ => None,
        }
    }

    fn pick(group: &Arc<Group>, ask: &Ask<'_>) -> Pick {
        group.pick(&group.wish(ask, &Sealer::random()))
    }

    /// The ports of so many picks, each over before the next.
    fn picks(group: &Arc<Group>, now_ms: u64, count: usize) -> Vec<u16> {
        (0..count).filter_map(|_| port_of(&pick(group, &Ask { now_ms, ..Ask::default() }))).collect()
    }

    fn upstream(group: &Group, index: usize) -> Arc<Upstream> {
        Arc::clone(&group.members()[index].upstream)
    }

    fn refuse(group: &Group, index: usize) -> bool {
        group.failed(&upstream(group, index), Failure::Connect, 0)
    }

    const THREE: &str = "server 127.0.0.1:1; server 127.0.0.1:2; server 127.0.0.1:3;";

    #[test]
    fn one_that_is_out_is_left_out_and_the_others_share_its_turns() {
        let (group, _) = group(THREE);
        assert!(refuse(&group, 1));
        assert_eq!(picks(&group, 0, 6), [1, 3, 1, 3, 1, 3]);
    }

    #[test]
    fn one_request_probes_after_the_pause() {
        let (group, _) = group("server 127.0.0.1:1; server 127.0.0.1:2;");
        refuse(&group, 1);
        assert_eq!(picks(&group, 10_000, 3), [2, 1, 1]);
        upstream(&group, 1).health.succeeded(|| 10_000);
        let mut both = picks(&group, 10_000, 2);
        both.sort_unstable();
        assert_eq!(both, [1, 2]);
    }

    #[test]
    fn when_all_are_ejected_all_are_tried() {
        let (group, _) = group("server 127.0.0.1:1; server 127.0.0.1:2;");
        assert!(refuse(&group, 0) && refuse(&group, 1));
        let mut tried = picks(&group, 0, 4);
        tried.sort_unstable();
        assert_eq!(tried, [1, 1, 2, 2]);
    }

    #[test]
    fn what_was_tried_is_not_tried_again() {
        let (group, _) = group("server 127.0.0.1:1; server 127.0.0.1:2; server 127.0.0.1:2;");
        let (one, two) = (upstream(&group, 0).address, upstream(&group, 1).address);
        assert_eq!(port_of(&pick(&group, &Ask { tried: &[two], ..Ask::default() })), Some(1));
        let all = pick(&group, &Ask { tried: &[one, two], ..Ask::default() });
        assert!(matches!(all, Pick::None(Refusal::Exhausted)));
    }

    #[test]
    fn weights_count() {
        let (group, _) = group("server 127.0.0.1:1 weight=3; server 127.0.0.1:2;");
        assert_eq!(picks(&group, 0, 8), [1, 1, 2, 1, 1, 1, 2, 1]);
    }

    #[test]
    fn a_backup_is_used_when_nobody_else_can_be() {
        let (group, _) = group("server 127.0.0.1:1 max_conns=1; server 127.0.0.1:2 backup;");
        assert_eq!(picks(&group, 0, 3), [1, 1, 1]);
        let busy = pick(&group, &Ask::default());
        assert_eq!(picks(&group, 0, 2), [2, 2]);
        drop(busy);
        refuse(&group, 0);
        assert_eq!(picks(&group, 0, 2), [2, 2]);
    }

    #[test]
    fn nobody_gets_more_than_max_conns() {
        let (group, _) = group("server 127.0.0.1:1 max_conns=2; server 127.0.0.1:2 max_conns=1;");
        let leases: Vec<Pick> = (0..3).map(|_| pick(&group, &Ask::default())).collect();
        let mut ports: Vec<_> = leases.iter().filter_map(port_of).collect();
        ports.sort_unstable();
        assert_eq!(ports, [1, 1, 2]);
        assert!(matches!(pick(&group, &Ask::default()), Pick::Full));
        drop(leases);
        assert_eq!(picks(&group, 0, 1).len(), 1);
    }

    #[test]
    fn all_that_fail_their_checks_get_nothing() {
        let (group, _) = group("server 127.0.0.1:1; health_check / fall=1;");
        let check: HealthCheck = group.conf.health_check.clone().unwrap();
        upstream(&group, 0).health.checked(false, &check, 0);
        assert!(matches!(pick(&group, &Ask::default()), Pick::None(Refusal::Gone)));
        assert_eq!(group.retry_after(), Duration::from_secs(10));
    }

    #[test]
    fn no_more_than_the_largest_share_is_ejected() {
        let (group, _) = group(&format!("{THREE} server 127.0.0.1:4; ejection share_max=50%;"));
        let ejected: Vec<bool> = (0..4).map(|index| refuse(&group, index)).collect();
        assert_eq!(ejected, [true, true, false, false]);
        assert_eq!(picks(&group, 0, 4), [3, 4, 3, 4]);
        assert_eq!(Ejection::default().share_max, 100);
    }

    #[test]
    fn one_that_comes_back_gets_less_for_a_while() {
        let (group, _) = group("server 127.0.0.1:1; server 127.0.0.1:2; slow_start 10s;");
        refuse(&group, 1);
        upstream(&group, 1).health.succeeded(|| 1000);
        let count = |now_ms| picks(&group, now_ms, 110).iter().filter(|port| **port == 2).count();
        assert_eq!([count(2000), count(6000), count(11_000)], [10, 37, 55]);
    }

    #[test]
    fn a_cookie_keeps_a_client_at_its_backend_until_that_is_gone() {
        let (group, _) = group(&format!("{THREE} dist_policy sticky route;"));
        let sealer = Sealer::random();
        let cookie = sealer.seal("app", "127.0.0.1:2");
        let ask = Ask { cookie: Some(&cookie), ..Ask::default() };
        let ports =
            |ask: &Ask<'_>| (0..3).filter_map(|_| port_of(&group.pick(&group.wish(ask, &sealer)))).collect::<Vec<_>>();
        assert_eq!(ports(&ask), [2, 2, 2]);
        let forged = Ask { cookie: Some("127.0.0.1:2"), ..Ask::default() };
        assert_eq!(ports(&forged), [1, 2, 3]);
        refuse(&group, 1);
        assert!(!ports(&ask).contains(&2));
    }

    #[test]
    fn equal_keys_meet_the_same_backend() {
        let (group, _) = group(&format!("{THREE} dist_policy ip-hash;"));
        for key in 0..20 {
            let ask = Ask { key: Some(crate::balance::key_of(&[key])), ..Ask::default() };
            let first = port_of(&pick(&group, &ask));
            assert!((0..5).all(|_| port_of(&pick(&group, &ask)) == first));
        }
    }

    #[test]
    fn names_bring_members_and_those_that_stay_keep_their_record() {
        let (group, registry) = group("server app.test:80 max_conns=5; server 127.0.0.1:9 backup;");
        assert_eq!(group.names().collect::<Vec<_>>(), [("app.test", 80)]);
        assert_eq!(picks(&group, 0, 1), [9], "until the first look-up only the address is known");
        let found = |ports: &[u16]| {
            let addresses = ports.iter().map(|port| SocketAddr::from(([127, 0, 0, 1], *port))).collect();
            HashMap::from([(("app.test".to_owned(), 80), addresses)])
        };
        assert!(group.resolved(&registry, &found(&[1, 2])));
        assert!(!group.resolved(&registry, &found(&[1, 2])), "nothing new");
        refuse(&group, 0);
        let kept = upstream(&group, 0);
        assert!(group.resolved(&registry, &found(&[3, 1])));
        assert!(Arc::ptr_eq(&kept, &upstream(&group, 1)));
        assert!(!kept.health.is_up());
        assert_eq!(picks(&group, 0, 2), [3, 3]);
    }

    fn run<T>(test: impl Future<Output = T>) -> T {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
        runtime.block_on(test)
    }

    #[test]
    fn requests_wait_in_a_queue_with_an_end() {
        run(async {
            let (group, _) = group("server 127.0.0.1:1 max_conns=1; queue 1 wait=2s;");
            let sealer = Sealer::random();
            let ask = Ask::default();
            let first = group.acquire(&ask, &sealer, || 0).await.unwrap();
            let mut second = std::pin::pin!(group.acquire(&ask, &sealer, || 0));
            assert!(futures_now(second.as_mut()).is_none(), "it waits");
            assert_eq!(group.acquire(&ask, &sealer, || 0).await.unwrap_err(), Refusal::Full, "the queue is full");
            drop(first);
            let second = second.await.unwrap();
            let began = tokio::time::Instant::now();
            assert_eq!(group.acquire(&ask, &sealer, || 0).await.unwrap_err(), Refusal::Full);
            assert_eq!(began.elapsed(), Duration::from_secs(2), "it waited as long as it may");
            drop(second);
            assert!(group.nobody_waits());
        });
    }

    #[test]
    fn who_waits_gets_an_upstream_that_is_well_again() {
        run(async {
            let (group, _) = group(
                "server 127.0.0.1:1 max_conns=1; server 127.0.0.1:2 max_conns=1; queue 1 wait=2s; health_check / fall=1 rise=1;",
            );
            let (sealer, ask) = (Sealer::random(), Ask::default());
            let check = group.conf.health_check.clone().unwrap();
            upstream(&group, 1).health.checked(false, &check, 0);
            let _first = group.acquire(&ask, &sealer, || 0).await.unwrap();
            let mut second = std::pin::pin!(group.acquire(&ask, &sealer, || 0));
            assert!(futures_now(second.as_mut()).is_none(), "it waits");
            upstream(&group, 1).health.checked(true, &check, 0);
            group.has_room_again();
            let began = tokio::time::Instant::now();
            assert_eq!(second.await.unwrap().upstream.address.port(), 2);
            assert_eq!(began.elapsed(), Duration::ZERO, "it did not wait for anything else");
        });
    }

    const TWO_FOR_ONE_EACH: &str = "server 127.0.0.1:1 max_conns=1; server 127.0.0.1:2 max_conns=1; queue 1 wait=2s;";

    #[test]
    fn who_waits_probes_when_a_pause_is_over() {
        run(async {
            let (group, _) = group(TWO_FOR_ONE_EACH);
            let (sealer, ask) = (Sealer::random(), Ask::default());
            refuse(&group, 1);
            let _first = group.acquire(&ask, &sealer, || 0).await.unwrap();
            let began = Instant::now();
            assert_eq!(group.acquire(&ask, &sealer, || 0).await.unwrap().upstream.address.port(), 2);
            assert_eq!(began.elapsed().as_millis(), 500, "the pause after one refusal");
        });
    }

    /// The pause begins while it waits, and is followed by another one.
    #[test]
    fn who_waits_learns_of_pauses_that_begin_meanwhile() {
        run(async {
            let (group, _) = group(TWO_FOR_ONE_EACH);
            let (sealer, ask) = (Sealer::random(), Ask::default());
            let _first = group.acquire(&ask, &sealer, || 0).await.unwrap();
            let failing = group.acquire(&ask, &sealer, || 0).await.unwrap();
            let mut third = std::pin::pin!(group.acquire(&ask, &sealer, || 0));
            assert!(futures_now(third.as_mut()).is_none(), "all are busy");
            let began = Instant::now();
            assert!(refuse(&group, 1));
            drop(failing);
            assert_eq!(third.await.unwrap().upstream.address.port(), 2);
            assert_eq!(began.elapsed().as_millis(), 500);
        });
    }

    /// Time alone has made room: who comes just then is not faster than who waits.
    #[test]
    fn the_end_of_a_pause_is_for_who_came_first() {
        run(async {
            let (group, _) = group(&TWO_FOR_ONE_EACH.replace("queue 1", "queue 2"));
            let (sealer, ask) = (Sealer::random(), Ask::default());
            refuse(&group, 1);
            let _busy = group.acquire(&ask, &sealer, || 0).await.unwrap();
            let mut first = std::pin::pin!(group.acquire(&ask, &sealer, || 0));
            assert!(futures_now(first.as_mut()).is_none(), "it waits");
            tokio::time::advance(Duration::from_millis(600)).await;
            let mut late = std::pin::pin!(group.acquire(&ask, &sealer, || 600));
            assert!(futures_now(late.as_mut()).is_none(), "it is behind the first");
            assert_eq!(futures_now(first.as_mut()).unwrap().unwrap().upstream.address.port(), 2);
        });
    }

    #[test]
    fn nobody_is_chosen_to_probe_where_there_is_no_room() {
        let (group, _) = group(TWO_FOR_ONE_EACH);
        let ask = Ask { now_ms: 600, ..Ask::default() };
        let [_first, second] = [pick(&group, &ask), pick(&group, &ask)];
        refuse(&group, 1);
        assert!(matches!(pick(&group, &ask), Pick::Full));
        drop(second);
        assert_eq!(port_of(&pick(&group, &ask)), Some(2));
    }

    #[test]
    fn who_waits_gets_a_server_that_a_look_up_brings() {
        run(async {
            let (group, registry) =
                group("server app.test:80 max_conns=1; server 127.0.0.1:9 max_conns=1; queue 1 wait=2s;");
            let (sealer, ask) = (Sealer::random(), Ask::default());
            let _busy = group.acquire(&ask, &sealer, || 0).await.unwrap();
            let mut waiting = std::pin::pin!(group.acquire(&ask, &sealer, || 0));
            assert!(futures_now(waiting.as_mut()).is_none(), "it waits");
            let found = HashMap::from([(("app.test".to_owned(), 80), vec![SocketAddr::from(([127, 0, 0, 1], 1))])]);
            assert!(group.resolved(&registry, &found));
            assert_eq!(futures_now(waiting.as_mut()).unwrap().unwrap().upstream.address.port(), 1);
        });
    }

    /// What a future gives without waiting.
    fn futures_now<F: Future>(future: std::pin::Pin<&mut F>) -> Option<F::Output> {
        let mut context = std::task::Context::from_waker(std::task::Waker::noop());
        match future.poll(&mut context) {
            std::task::Poll::Ready(output) => Some(output),
            std::task::Poll::Pending => None,
        }
    }
}
