//! A network of nodes inside one thread, driven by one seed: delays, splits, broken links, partitions, crashes, disks
//! that fail and clocks that disagree. Only what lies on a [`Disk`] survives a crash.

use crate::disk::Disk;
use crate::random::Random;
use chat::{
    AppendError, Body, ChannelName, DeviceId, DeviceKey, Draft, Roster, RosterDevice, RosterMember, Sealed,
    SignedRoster, StoreError, TrackerKey, UserName,
};
use p2p::limits::WINDOW_BYTES;
use p2p::{Arrived, Limits, LinkId, Node, Output, Reason};
use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, BinaryHeap};

/// How rough the world is.
#[derive(Clone, Copy)]
pub(crate) struct Weather {
    pub(crate) delay_max_ms: u64,
    pub(crate) disk_max_ms: u64,
    /// Stores and reads out of a hundred that fail.
    pub(crate) disk_failures: u64,
    /// Most pieces that a send is split into.
    pub(crate) pieces_max: usize,
}

/// A device and what surrounds it.
pub(crate) struct Machine {
    pub(crate) user: UserName,
    pub(crate) key: DeviceKey,
    pub(crate) id: DeviceId,
    pub(crate) disk: Disk,
    /// Rosters are kept on disk as well.
    pub(crate) rosters: BTreeMap<ChannelName, SignedRoster>,
    /// `None` while crashed.
    node: Option<Node>,
    /// Counts starts, so that what was meant for a process that died does not reach the next one.
    life: u64,
    /// The clock: milliseconds ahead, and how fast it runs in thousandths.
    skew: (u64, u64),
    timer_at: Option<u64>,
    pub(crate) acknowledged: BTreeSet<(ChannelName, u64, DeviceId)>,
}

/// A connection between two machines.
struct Connection {
    ends: [usize; 2],
    /// Which of the ends still have it up.
    up: [bool; 2],
    /// When the last piece sent arrives, per direction: order is kept.
    arrives_at: [u64; 2],
    in_flight: [usize; 2],
}

#[derive(Debug)]
enum Event {
    Bytes { connection: u64, to: usize, bytes: Vec<u8> },
    Gone { connection: u64, end: usize },
    Timer { machine: usize, life: u64 },
    Stored { machine: usize, life: u64, arrivals: Vec<Arrived> },
    Read { machine: usize, life: u64, link: LinkId, request: (ChannelName, DeviceId, u64, usize) },
}

/// All machines, connections and what is going to happen.
pub(crate) struct World {
    pub(crate) random: Random,
    pub(crate) weather: Weather,
    pub(crate) now_ms: u64,
    pub(crate) machines: Vec<Machine>,
    pub(crate) tracker: TrackerKey,
    connections: BTreeMap<u64, Connection>,
    next_connection: u64,
    /// Events by time, then by number, so that equal times keep their order.
    agenda: BinaryHeap<Reverse<(u64, u64)>>,
    events: BTreeMap<u64, Event>,
    next_event: u64,
    /// Groups that cannot reach each other; empty when all can.
    pub(crate) group_of: Vec<usize>,
    pub(crate) tally: Tally,
}

/// What happened, for assertions about cost.
#[derive(Debug, Default, Clone)]
pub(crate) struct Tally {
    pub(crate) bytes: u64,
    pub(crate) stored: u64,
    pub(crate) closed: Vec<Reason>,
    pub(crate) in_flight_max: usize,
    pub(crate) buffered_max: usize,
}

impl World {
    pub(crate) fn new(seed: u64, machines: usize, weather: Weather) -> Self {
        let mut random = Random::new(seed);
        let machines: Vec<_> = (0..machines).map(|index| Machine::new(index, &mut random)).collect();
        let group_of = vec![0; machines.len()];
        Self {
            random,
            weather,
            now_ms: 0,
            machines,
            tracker: TrackerKey::from_seed([99; 32]),
            connections: BTreeMap::new(),
            next_connection: 0,
            agenda: BinaryHeap::new(),
            events: BTreeMap::new(),
            next_event: 0,
            group_of,
            tally: Tally::default(),
        }
    }

    /// Signs a roster of these machines.
    pub(crate) fn roster(&self, channel: &ChannelName, version: u64, members: &[usize]) -> SignedRoster {
        let member = |index: &usize| RosterMember {
            user: self.machines[*index].user.clone(),
            devices: vec![RosterDevice { device: self.machines[*index].id, hosted: false }],
        };
        let members = members.iter().map(member).collect();
        let roster = Roster::new(self.tracker.id(), channel.clone(), version, members);
        SignedRoster::sign(&self.tracker, &roster).unwrap()
    }

    /// Hands a roster to a machine, as a tracker does.
    pub(crate) fn publish(&mut self, machine: usize, roster: &SignedRoster) {
        self.machines[machine].rosters.insert(roster.roster().channel.clone(), roster.clone());
        self.act(machine, |node, now_ms| node.handle_roster(roster.clone(), now_ms));
    }

    pub(crate) fn start(&mut self, machine: usize) {
        let state = &mut self.machines[machine];
        state.life += 1;
        state.timer_at = None;
        let mut node = Node::new(state.id, Limits::default());
        node.handle_heads(state.disk.heads());
        state.node = Some(node);
        let rosters: Vec<_> = state.rosters.values().cloned().collect();
        for roster in rosters {
            self.act(machine, |node, now_ms| node.handle_roster(roster, now_ms));
        }
    }

    /// Kills a machine. A store under way either finished just before, without anybody being told, or never happened.
    pub(crate) fn crash(&mut self, machine: usize) {
        let lucky = self.random.chance(50);
        let life = self.machines[machine].life;
        let under_way = self.events.values().find_map(|event| match event {
            Event::Stored { machine: whose, life: when, arrivals } if *whose == machine && *when == life => {
                Some(arrivals)
            }
            _ => None,
        });
        if lucky && let Some(arrivals) = under_way {
            for arrived in arrivals {
                let _ = self.machines[machine].disk.insert(&arrived.sealed);
            }
        }
        self.machines[machine].node = None;
        let broken: Vec<_> = self.connections_of(machine);
        for connection in broken {
            self.break_connection(connection);
        }
    }

    pub(crate) fn is_up(&self, machine: usize) -> bool {
        self.machines[machine].node.is_some()
    }

    /// Writes an envelope: durable first, then told to the node.
    pub(crate) fn say(&mut self, machine: usize, channel: &ChannelName, text: String) {
        let state = &mut self.machines[machine];
        let draft = Draft {
            channel: channel.clone(),
            author: state.user.clone(),
            sent_at_ms: self.now_ms + state.skew.0,
            body: Body::Text { text },
        };
        let head = state.disk.head(channel, state.id);
        let envelope = draft.follow(state.id, head.as_ref(), state.disk.lamport(channel));
        let sealed = Sealed::seal(&state.key, &envelope).unwrap();
        state.disk.insert(&sealed).unwrap();
        self.act(machine, |node, now_ms| node.handle_local(&sealed, now_ms));
    }

    /// Connects two machines, if they can reach each other and are not connected.
    pub(crate) fn dial(&mut self, one: usize, other: usize) -> bool {
        let reachable = one != other && self.group_of[one] == self.group_of[other];
        if !reachable || !self.is_up(one) || !self.is_up(other) || self.linked(one, other) {
            return false;
        }
        let connection = self.next_connection;
        self.next_connection += 1;
        let state = Connection { ends: [one, other], up: [true, true], arrives_at: [0, 0], in_flight: [0, 0] };
        self.connections.insert(connection, state);
        for (machine, remote) in [(one, other), (other, one)] {
            let remote = self.machines[remote].id;
            self.act(machine, |node, now_ms| node.handle_link_up(LinkId(connection), remote, now_ms));
        }
        true
    }

    pub(crate) fn linked(&self, one: usize, other: usize) -> bool {
        self.connections
            .values()
            .any(|it| it.up == [true, true] && (it.ends == [one, other] || it.ends == [other, one]))
    }

    pub(crate) fn connections(&self) -> Vec<u64> {
        self.connections.keys().copied().collect()
    }

    fn connections_of(&self, machine: usize) -> Vec<u64> {
        self.connections.iter().filter(|(_, it)| it.ends.contains(&machine)).map(|(number, _)| *number).collect()
    }

    /// Breaks a connection: what is under way is lost, and each end learns of it in its own time.
    pub(crate) fn break_connection(&mut self, connection: u64) {
        self.events.retain(|_, event| !matches!(event, Event::Bytes { connection: which, .. } if *which == connection));
        for end in [0, 1] {
            let delay_ms = self.random.between(0, self.weather.delay_max_ms * 5);
            self.schedule(delay_ms, Event::Gone { connection, end });
        }
        if let Some(state) = self.connections.get_mut(&connection) {
            state.in_flight = [usize::MAX / 2; 2]; // nothing passes any more
        }
    }

    /// Cuts the world into groups, or makes it whole with one group.
    pub(crate) fn partition(&mut self, groups: usize) {
        self.group_of = (0..self.machines.len()).map(|_| self.random.below(groups)).collect();
        let cut: Vec<_> = self
            .connections
            .iter()
            .filter(|(_, it)| self.group_of[it.ends[0]] != self.group_of[it.ends[1]])
            .map(|(number, _)| *number)
            .collect();
        for connection in cut {
            self.break_connection(connection);
        }
    }

    /// Runs until `until_ms`.
    pub(crate) fn run(&mut self, until_ms: u64) {
        while let Some(Reverse((at_ms, number))) = self.agenda.peek().copied() {
            if at_ms > until_ms {
                break;
            }
            self.agenda.pop();
            let Some(event) = self.events.remove(&number) else { continue };
            self.now_ms = at_ms;
            self.happen(event);
        }
        self.now_ms = until_ms;
    }

    fn schedule(&mut self, delay_ms: u64, event: Event) {
        let number = self.next_event;
        self.next_event += 1;
        self.agenda.push(Reverse((self.now_ms + delay_ms, number)));
        self.events.insert(number, event);
    }

    fn happen(&mut self, event: Event) {
        match event {
            Event::Bytes { connection, to, bytes } => {
                let Some(state) = self.connections.get_mut(&connection) else { return };
                state.in_flight[to] = state.in_flight[to].saturating_sub(bytes.len());
                if state.up[to] {
                    let machine = state.ends[to];
                    self.act(machine, |node, now_ms| node.handle_bytes(LinkId(connection), &bytes, now_ms));
                }
            }
            Event::Gone { connection, end } => self.end_gone(connection, end),
            Event::Timer { machine, life } => {
                if self.machines[machine].life == life && self.is_up(machine) {
                    self.machines[machine].timer_at = None;
                    self.act(machine, Node::handle_timeout);
                }
            }
            Event::Stored { machine, life, arrivals } => self.stored(machine, life, &arrivals),
            Event::Read { machine, life, link, request: (channel, device, from_n, limit) } => {
                if self.machines[machine].life == life && self.is_up(machine) {
                    let failed = self.random.chance(self.weather.disk_failures);
                    let read = self.machines[machine].disk.read(&channel, device, from_n, limit);
                    let read = if failed { Err(StoreError::Busy) } else { Ok(read) };
                    self.act(machine, |node, now_ms| node.handle_read(link, read, now_ms));
                }
            }
        }
    }

    fn end_gone(&mut self, connection: u64, end: usize) {
        let Some(state) = self.connections.get_mut(&connection) else { return };
        let was_up = std::mem::replace(&mut state.up[end], false);
        let machine = state.ends[end];
        if state.up == [false, false] {
            self.connections.remove(&connection);
        }
        if was_up {
            self.act(machine, |node, now_ms| node.handle_link_down(LinkId(connection), now_ms));
        }
    }

    fn stored(&mut self, machine: usize, life: u64, arrivals: &[Arrived]) {
        if self.machines[machine].life != life || !self.is_up(machine) {
            return;
        }
        if self.random.chance(self.weather.disk_failures) {
            // the write may have happened all the same
            if self.random.chance(50) {
                for arrived in arrivals {
                    let _ = self.machines[machine].disk.insert(&arrived.sealed);
                }
            }
            self.act(machine, |node, now_ms| node.handle_stored(Err(StoreError::Busy), now_ms));
            return;
        }
        let disk = &mut self.machines[machine].disk;
        let results: Vec<_> = arrivals.iter().map(|arrived| disk.insert(&arrived.sealed)).collect();
        let gap = results.iter().any(|result| matches!(result, Err(AppendError::Gap { .. })));
        assert!(!gap, "a node stores nothing whose predecessor it lacks");
        self.tally.stored += results.len() as u64;
        self.act(machine, |node, now_ms| node.handle_stored(Ok(results), now_ms));
    }

    /// Lets something happen to a node, then does what it wants.
    pub(crate) fn act(&mut self, machine: usize, what: impl FnOnce(&mut Node, u64)) {
        let now_ms = self.machines[machine].clock(self.now_ms);
        if let Some(node) = &mut self.machines[machine].node {
            what(node, now_ms);
        }
        while let Some(output) = self.machines[machine].node.as_mut().and_then(Node::poll_output) {
            self.perform(machine, output);
        }
        self.set_timer(machine);
    }

    fn perform(&mut self, machine: usize, output: Output) {
        let life = self.machines[machine].life;
        let disk_ms = self.random.between(0, self.weather.disk_max_ms);
        match output {
            Output::Send { link, bytes } => self.transmit(machine, link, &bytes),
            Output::Store { arrivals } => self.schedule(disk_ms, Event::Stored { machine, life, arrivals }),
            Output::Read { link, channel, device, from_n, limit } => {
                let request = (channel, device, from_n, limit);
                self.schedule(disk_ms, Event::Read { machine, life, link, request });
            }
            Output::Acknowledged { channel, device, n, by } => {
                assert_eq!(device, self.machines[machine].id, "only own chains are spoken of");
                let holder = self.machines.iter().find(|holder| holder.id == by).unwrap();
                let durable = holder.disk.head(&channel, device).map_or(0, |head| head.n);
                assert!(durable >= n, "{by:?} acknowledged {n} and holds {durable}");
                self.machines[machine].acknowledged.insert((channel, n, by));
            }
            Output::Roster { bytes, signature, .. } => {
                let roster = SignedRoster::open(&bytes, signature, &self.tracker.id()).unwrap();
                self.publish(machine, &roster);
            }
            Output::Close { link, reason } => {
                self.tally.closed.push(reason);
                self.hang_up(machine, link);
            }
            Output::Forked { .. } => panic!("nobody here signs two histories"),
            Output::Typing { .. } | Output::Ready { .. } => {}
        }
    }

    fn transmit(&mut self, machine: usize, link: LinkId, bytes: &[u8]) {
        let Some(state) = self.connections.get_mut(&link.0) else { return };
        let to = usize::from(state.ends[0] == machine);
        if state.in_flight[to] >= usize::MAX / 2 || !state.up[1 - to] {
            return;
        }
        state.in_flight[to] += bytes.len();
        self.tally.in_flight_max = self.tally.in_flight_max.max(state.in_flight[to]);
        self.tally.bytes += bytes.len() as u64;
        let pieces = 1 + self.random.below(self.weather.pieces_max);
        for piece in bytes.chunks(bytes.len().div_ceil(pieces).max(1)) {
            let at_ms = self.now_ms + self.random.between(1, self.weather.delay_max_ms);
            let Some(state) = self.connections.get_mut(&link.0) else { return };
            state.arrives_at[to] = state.arrives_at[to].max(at_ms);
            let delay_ms = state.arrives_at[to] - self.now_ms;
            self.schedule(delay_ms, Event::Bytes { connection: link.0, to, bytes: piece.to_vec() });
        }
    }

    /// Closes a connection from one end: what was written still arrives, then the other end learns of it.
    fn hang_up(&mut self, machine: usize, link: LinkId) {
        let Some(state) = self.connections.get_mut(&link.0) else { return };
        let end = usize::from(state.ends[1] == machine);
        state.up[end] = false;
        let delay_ms = state.arrives_at[1 - end].saturating_sub(self.now_ms) + 1;
        self.schedule(delay_ms, Event::Gone { connection: link.0, end: 1 - end });
    }

    fn set_timer(&mut self, machine: usize) {
        let state = &mut self.machines[machine];
        let Some(node) = &state.node else { return };
        self.tally.buffered_max = self.tally.buffered_max.max(node.buffered_bytes());
        let links = node.links().count();
        assert!(
            node.buffered_bytes() <= (links + 8) * 3 * WINDOW_BYTES,
            "{} bytes for {links} links",
            node.buffered_bytes()
        );
        let Some(at_ms) = node.poll_timeout() else { return };
        let at_ms = state.world_time(at_ms).max(self.now_ms);
        if state.timer_at.is_some_and(|set_ms| set_ms <= at_ms) {
            return;
        }
        state.timer_at = Some(at_ms);
        let life = state.life;
        self.schedule(at_ms - self.now_ms, Event::Timer { machine, life });
    }
}

impl Machine {
    fn new(index: usize, random: &mut Random) -> Self {
        let mut seed = [0; 32];
        seed[..8].copy_from_slice(&(index as u64 + 1).to_be_bytes());
        let key = DeviceKey::from_seed(seed);
        Self {
            user: format!("user{index}").parse().unwrap(),
            id: key.id(),
            key,
            disk: Disk::default(),
            rosters: BTreeMap::new(),
            node: None,
            life: 0,
            skew: (random.between(0, 1_000_000), random.between(900, 1_100)),
            timer_at: None,
            acknowledged: BTreeSet::new(),
        }
    }

    /// What this machine's clock shows.
    fn clock(&self, world_ms: u64) -> u64 {
        self.skew.0 + world_ms * self.skew.1 / 1_000
    }

    /// When this machine's clock shows at least `clock_ms`.
    fn world_time(&self, clock_ms: u64) -> u64 {
        (clock_ms.saturating_sub(self.skew.0) * 1_000).div_ceil(self.skew.1)
    }
}
