//! Requests that come, wait, are served, give up and vanish at random moments, over two configurations of one upstream:
//! nobody is served before who came first, nobody waits while there is room, and nothing is left behind.
#![allow(clippy::unwrap_used)]

use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering::SeqCst};
use std::sync::{Arc, Barrier};
use std::task::{Context, Poll, Wake};
use std::time::Duration;

use crate::balance::sticky::Sealer;
use crate::conf::Config;
use crate::group::{Ask, Group, Lease, Refusal, Registry};
use crate::health::Failure;

fn group(lines: &str, registry: &Registry) -> Arc<Group> {
    let text = format!("upstream app {{ {lines} }} host a {{ proxy_pass http://app; }}");
    let config = Config::parse("test", &text).unwrap_or_else(|errors| panic!("{errors:?}"));
    Group::new(Arc::clone(&config.upstreams[0]), registry)
}

fn run<T>(test: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
    runtime.block_on(test)
}

/// The places, in the list of members, of those that a request has tried.
type Tried = Vec<usize>;

/// How many requests of one configuration may wait.
const QUEUE: usize = 6;

/// A request that has not been answered.
struct Request {
    number: usize,
    group: usize,
    tried: Tried,
    future: Pin<Box<dyn Future<Output = Result<Lease, Refusal>>>>,
    woken: Arc<Woken>,
}

#[derive(Default)]
struct Woken(AtomicBool);

impl Wake for Woken {
    fn wake(self: Arc<Self>) {
        self.0.store(true, SeqCst);
    }
}

struct Simulation {
    seed: u64,
    random: u64,
    groups: Vec<Arc<Group>>,
    max_conns: [u32; 3],
    sealer: Arc<Sealer>,
    open: Vec<Request>,
    leases: Vec<Lease>,
    /// Of those served since the last look: number, group, tried.
    served: Vec<(usize, usize, Tried)>,
    arrived: usize,
}

impl Simulation {
    fn new(seed: u64) -> Self {
        let registry = Registry::default();
        let mut this = Self {
            seed,
            random: seed,
            groups: Vec::new(),
            max_conns: [1, 1, 2],
            sealer: Arc::new(Sealer::random()),
            open: Vec::new(),
            leases: Vec::new(),
            served: Vec::new(),
            arrived: 0,
        };
        for policy in ["round-robin", "least-conn"] {
            let servers: Vec<String> = (0..3)
                .map(|index| format!("server 127.0.0.1:{} max_conns={};", index + 1, this.max_conns[index]))
                .collect();
            let lines = format!("{} queue {QUEUE} wait=1s; dist_policy {policy};", servers.join(" "));
            this.groups.push(group(&lines, &registry));
        }
        this
    }

    /// A number below `bound`.
    fn below(&mut self, bound: usize) -> usize {
        self.random = self.random.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut bits = self.random;
        bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((bits ^ (bits >> 31)) % bound as u64) as usize
    }

    async fn step(&mut self) {
        match self.below(20) {
            0..7 => self.arrive(),
            7..13 => self.end(),
            13..15 => self.leave(),
            15 => tokio::time::advance(Duration::from_millis(self.below(400) as u64)).await,
            16 => self.turn_health(),
            _ => self.settle(),
        }
        for (index, max) in self.max_conns.iter().enumerate() {
            let count = self.groups[0].members()[index].upstream.in_flight();
            assert!(count <= *max, "seed {}: {count} requests where {max} may be", self.seed);
        }
    }

    fn arrive(&mut self) {
        let tried: Tried = match self.below(5) {
            0 => vec![self.below(3)],
            1 => vec![0, 2],
            _ => Vec::new(),
        };
        let index = self.below(2);
        let (group, sealer) = (Arc::clone(&self.groups[index]), Arc::clone(&self.sealer));
        let addresses: Vec<_> = tried.iter().map(|place| group.members()[*place].upstream.address).collect();
        let future =
            Box::pin(async move { group.acquire(&Ask { tried: &addresses, ..Ask::default() }, &sealer, || 0).await });
        self.arrived += 1;
        let woken = Arc::new(Woken(AtomicBool::new(true)));
        self.open.push(Request { number: self.arrived, group: index, tried, future, woken });
        let before = self.served.len();
        if self.poll(self.open.len() - 1) && self.served.len() == before {
            let waiting = self.open.iter().filter(|request| request.group == index).count();
            assert!(waiting >= QUEUE, "seed {}: {} is refused by a queue of {waiting}", self.seed, self.arrived);
        }
    }

    /// Polls one request, and takes its answer if there is one. Whether there was.
    fn poll(&mut self, index: usize) -> bool {
        let request = &mut self.open[index];
        request.woken.0.store(false, SeqCst);
        let waker = Arc::clone(&request.woken).into();
        let Poll::Ready(answer) = request.future.as_mut().poll(&mut Context::from_waker(&waker)) else { return false };
        let request = self.open.remove(index);
        if let Ok(lease) = answer {
            self.leases.push(lease);
            self.served.push((request.number, request.group, request.tried));
        }
        true
    }

    fn end(&mut self) {
        if !self.leases.is_empty() {
            let index = self.below(self.leases.len());
            drop(self.leases.swap_remove(index));
        }
    }

    /// Somebody is gone, perhaps just when an answer is there that nobody has seen.
    fn leave(&mut self) {
        if !self.open.is_empty() {
            let index = self.below(self.open.len());
            drop(self.open.remove(index));
        }
    }

    fn turn_health(&mut self) {
        let upstream = Arc::clone(&self.groups[0].members()[self.below(3)].upstream);
        if upstream.health.is_up() {
            self.groups[0].failed(&upstream, Failure::Connect, 0);
        } else if upstream.health.succeeded(|| 0) {
            self.groups[0].has_room_again();
        }
    }

    /// Polls all that were woken until none is left, and looks at what has become of them.
    fn settle(&mut self) {
        while let Some(index) = self.open.iter().position(|request| request.woken.0.load(SeqCst)) {
            self.poll(index);
        }
        let seed = self.seed;
        for waiting in &self.open {
            assert!(!self.has_room(waiting), "seed {seed}: {} waits while there is room", waiting.number);
            let is_before = self.served.iter().find(|(number, group, tried)| {
                *number > waiting.number && *group == waiting.group && *tried == waiting.tried
            });
            assert!(is_before.is_none(), "seed {seed}: {is_before:?} was served before {}", waiting.number);
        }
        self.served.clear();
    }

    fn has_room(&self, request: &Request) -> bool {
        let members = self.groups[0].members();
        let fresh: Vec<usize> = (0..3).filter(|place| !request.tried.contains(place)).collect();
        let is_up = |place: &usize| members[*place].upstream.health.is_up();
        let any_up = fresh.iter().any(is_up);
        let is_choice = |place: &&usize| !any_up || is_up(place);
        fresh.iter().filter(is_choice).any(|place| members[*place].upstream.in_flight() < self.max_conns[*place])
    }

    fn finish(mut self) {
        while !self.open.is_empty() || !self.leases.is_empty() {
            match self.below(3) {
                0 => self.leave(),
                1 => self.end(),
                _ => self.settle(),
            }
        }
        for member in self.groups[0].members().iter() {
            assert_eq!(member.upstream.in_flight(), 0, "seed {}: a place was not given back", self.seed);
        }
        assert!(self.groups.iter().all(|group| group.nobody_waits()), "seed {}: tickets are left", self.seed);
    }
}

#[test]
fn nobody_waits_while_there_is_room_and_nothing_is_left_behind() {
    for seed in 0..1000 {
        run(async {
            let mut simulation = Simulation::new(seed);
            for _ in 0..150 {
                simulation.step().await;
            }
            simulation.finish();
        });
    }
}

#[test]
fn who_cannot_use_the_room_does_not_keep_the_next_one_from_it() {
    run(async {
        let registry = Registry::default();
        let group =
            group("server 127.0.0.1:1 max_conns=1; server 127.0.0.1:2 max_conns=1; queue 9 wait=1s;", &registry);
        let sealer = Sealer::random();
        let ask = Ask::default();
        let leases =
            [group.acquire(&ask, &sealer, || 0).await.unwrap(), group.acquire(&ask, &sealer, || 0).await.unwrap()];
        let tried = [leases[0].upstream.address];
        let again = Ask { tried: &tried, ..Ask::default() };
        let mut first = std::pin::pin!(group.acquire(&again, &sealer, || 0));
        let mut second = std::pin::pin!(group.acquire(&ask, &sealer, || 0));
        tokio::select! {
            biased;
            _ = &mut first => panic!("all are busy"),
            _ = &mut second => panic!("all are busy"),
            () = std::future::ready(()) => {}
        }
        let [one, two] = leases;
        drop(one);
        let began = tokio::time::Instant::now();
        let second = second.await.unwrap();
        assert_eq!(second.upstream.address, tried[0]);
        drop(two);
        assert_ne!(first.await.unwrap().upstream.address, tried[0]);
        assert_eq!(began.elapsed(), Duration::ZERO);
    });
}

#[test]
fn whoever_comes_later_is_not_faster() {
    run(async {
        let registry = Registry::default();
        let group = group("server 127.0.0.1:1 max_conns=1; queue 9 wait=1s;", &registry);
        let (sealer, ask) = (Sealer::random(), Ask::default());
        let lease = group.acquire(&ask, &sealer, || 0).await.unwrap();
        let mut first = std::pin::pin!(group.acquire(&ask, &sealer, || 0));
        tokio::select! {
            biased;
            _ = &mut first => panic!("it is busy"),
            () = std::future::ready(()) => {}
        }
        drop(lease);
        let mut late = std::pin::pin!(group.acquire(&ask, &sealer, || 0));
        tokio::select! {
            biased;
            _ = &mut late => panic!("the room is for the one that waits"),
            () = std::future::ready(()) => {}
        }
        drop(first.await.unwrap());
        late.await.unwrap();
    });
}

/// The same with real threads: each request is served in the end, never more than may be at a time.
#[test]
fn threads_never_wait_for_each_other_in_vain() {
    const THREADS: usize = 4;
    let registry = Registry::default();
    let group = group("server 127.0.0.1:1 max_conns=1; server 127.0.0.1:2 max_conns=1; queue 99 wait=60s;", &registry);
    let (begin, most) = (Arc::new(Barrier::new(THREADS)), Arc::new(AtomicU32::new(0)));
    let work = |thread: usize| {
        let (group, begin, most) = (Arc::clone(&group), Arc::clone(&begin), Arc::clone(&most));
        move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
            begin.wait();
            runtime.block_on(async {
                let (sealer, ask) = (Sealer::random(), Ask::default());
                for round in 0..2000 {
                    let mut asked = std::pin::pin!(group.acquire(&ask, &sealer, || 0));
                    if (round + thread).is_multiple_of(7) {
                        // Gone as soon as it has to wait.
                        tokio::select! { biased; _ = &mut asked => {} () = tokio::task::yield_now() => {} }
                        continue;
                    }
                    let lease = asked.await.expect("nobody waits for a minute");
                    most.fetch_max(lease.upstream.in_flight(), SeqCst);
                    if round % 3 == 0 {
                        std::thread::yield_now();
                    }
                }
            });
        }
    };
    let threads: Vec<_> = (0..THREADS).map(|thread| std::thread::spawn(work(thread))).collect();
    for thread in threads {
        thread.join().unwrap();
    }
    assert_eq!(most.load(SeqCst), 1);
    assert!(group.nobody_waits());
    assert!(group.members().iter().all(|member| member.upstream.in_flight() == 0));
}
