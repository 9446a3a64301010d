//! Runs of the simulator. Each prints its seed when it fails; `WEAPROUS_SIM_SEED` runs that one alone, and
//! `WEAPROUS_SIM_SEEDS` sets how many are run.

use crate::sim::{Weather, World};
use chat::{ChannelName, EnvelopeId};
use std::collections::BTreeSet;

const STORM: Weather = Weather { delay_max_ms: 80, disk_max_ms: 30, disk_failures: 3, pieces_max: 4 };
const CALM: Weather = Weather { delay_max_ms: 20, disk_max_ms: 3, disk_failures: 0, pieces_max: 1 };

fn channel(name: &str) -> ChannelName {
    name.parse().unwrap()
}

/// Runs `scenario` with many seeds and says which one failed.
fn with_seeds(count: u64, scenario: impl Fn(u64) + std::panic::RefUnwindSafe) {
    let number = |name: &str| std::env::var(name).ok().and_then(|text| text.parse::<u64>().ok());
    let seeds = match number("WEAPROUS_SIM_SEED") {
        Some(seed) => seed..seed + 1,
        None => 0..number("WEAPROUS_SIM_SEEDS").unwrap_or(count),
    };
    for seed in seeds {
        if let Err(panic) = std::panic::catch_unwind(|| scenario(seed)) {
            eprintln!("failed with WEAPROUS_SIM_SEED={seed}");
            std::panic::resume_unwind(panic);
        }
    }
}

/// A world whose members are in `general`, and every third of them in `club` as well.
struct Town {
    world: World,
    channels: Vec<(ChannelName, Vec<usize>)>,
}

impl Town {
    fn new(seed: u64, machines: usize, weather: Weather) -> Self {
        let mut world = World::new(seed, machines, weather);
        let everybody: Vec<_> = (0..machines).collect();
        let club: Vec<_> = (0..machines).step_by(3).collect();
        let channels = vec![(channel("general"), everybody), (channel("club"), club)];
        for (name, members) in &channels {
            let roster = world.roster(name, 1, members);
            for member in members {
                world.publish(*member, &roster);
            }
        }
        for machine in 0..machines {
            world.start(machine);
        }
        Self { world, channels }
    }

    fn speak(&mut self, bytes_max: u64) {
        let which = self.world.random.below(self.channels.len());
        let (name, members) = &self.channels[which];
        let speaker = members[self.world.random.below(members.len())];
        let length = self.world.random.between(1, bytes_max) as usize;
        if self.world.is_up(speaker) {
            self.world.say(speaker, name, "x".repeat(length));
        }
    }

    /// Keeps every machine linked with a few random others.
    fn mingle(&mut self, links: usize) {
        let machines = self.world.machines.len();
        for one in 0..machines {
            for _ in 0..links {
                let other = self.world.random.below(machines);
                self.world.dial(one, other);
            }
        }
    }

    /// Lets one bad thing happen.
    fn trouble(&mut self) {
        let machines = self.world.machines.len();
        match self.world.random.below(6) {
            0 | 1 => {
                let connections = self.world.connections();
                if !connections.is_empty() {
                    let broken = connections[self.world.random.below(connections.len())];
                    self.world.break_connection(broken);
                }
            }
            2 | 3 => {
                let machine = self.world.random.below(machines);
                if self.world.is_up(machine) {
                    self.world.crash(machine);
                }
            }
            4 => self.world.partition(2),
            _ => self.world.partition(1),
        }
    }

    fn revive(&mut self, percent: u64) {
        for machine in 0..self.world.machines.len() {
            if !self.world.is_up(machine) && self.world.random.chance(percent) {
                self.world.start(machine);
            }
        }
    }

    /// Makes everything whole: all machines run, and the members of every channel stand in a ring.
    fn heal(&mut self) {
        self.world.weather = CALM;
        self.world.partition(1);
        self.revive(100);
        let until_ms = self.world.now_ms + 40_000;
        while self.world.now_ms < until_ms {
            for (_, members) in self.channels.clone() {
                for (index, one) in members.iter().enumerate() {
                    self.world.dial(*one, members[(index + 1) % members.len()]);
                }
            }
            self.world.run(self.world.now_ms + 10_000);
        }
    }

    /// What was said in a channel, by the disks of those who said it.
    fn said(&self, name: &ChannelName) -> BTreeSet<EnvelopeId> {
        let own = |machine: &crate::sim::Machine| {
            let chain = machine.disk.chains.get(&(name.clone(), machine.id));
            chain.into_iter().flatten().map(chat::Sealed::id).collect::<Vec<_>>()
        };
        self.world.machines.iter().flat_map(own).collect()
    }

    fn assert_converged(&self) {
        for (name, members) in &self.channels {
            let said = self.said(name);
            let order = self.world.machines[members[0]].disk.display(name);
            assert_eq!(order.len(), said.len(), "{name}: something is missing or doubled");
            assert!(order.iter().all(|id| said.contains(id)), "{name}: something nobody said");
            for member in members {
                let shown = self.world.machines[*member].disk.display(name);
                assert!(shown == order, "{name}: {member} shows {} of {}", shown.len(), order.len());
            }
        }
        for machine in &self.world.machines {
            for ((name, device), chain) in &machine.disk.chains {
                let numbers = chain.iter().map(|sealed| sealed.envelope().n);
                assert!(numbers.eq(1..=chain.len() as u64), "{name}: a hole in the chain of {device:?}");
            }
            for (name, n, by) in &machine.acknowledged {
                let holder = self.world.machines.iter().find(|holder| holder.id == *by).unwrap();
                let held = holder.disk.head(name, machine.id).map_or(0, |head| head.n);
                assert!(held >= *n, "an acknowledged envelope was lost");
            }
        }
    }

    fn assert_quiet(&mut self) {
        let before = self.world.tally.bytes;
        self.world.run(self.world.now_ms + 30_000);
        let idle_bytes = self.world.tally.bytes - before;
        // a ping and a pong of five bytes, each way, every ten seconds or so
        let pings = self.world.connections().len() as u64 * 2 * 2 * 5 * 6;
        assert!(idle_bytes <= pings, "{idle_bytes} bytes although all is said, {pings} for pings");
    }
}

#[test]
fn nothing_is_lost_in_a_storm() {
    with_seeds(20, |seed| {
        let machines = 3 + seed as usize % 10;
        let mut town = Town::new(seed, machines, STORM);
        for _ in 0..40 {
            town.mingle(1);
            for _ in 0..town.world.random.below(5) {
                town.speak(300);
            }
            if town.world.random.chance(50) {
                town.trouble();
            }
            town.revive(30);
            let pause_ms = town.world.random.between(10, 400);
            town.world.run(town.world.now_ms + pause_ms);
        }
        town.heal();
        town.assert_converged();
        town.assert_quiet();
        let broken =
            town.world.tally.closed.iter().find(|reason| {
                matches!(reason, p2p::Reason::Protocol(_) | p2p::Reason::Flooded(_) | p2p::Reason::Forged)
            });
        assert_eq!(broken, None, "an honest node accuses another");
    });
}

#[test]
fn hundreds_of_nodes_converge() {
    with_seeds(1, |seed| {
        let mut town = Town::new(seed, 200, STORM);
        for _ in 0..12 {
            town.mingle(1);
            for _ in 0..6 {
                town.speak(200);
            }
            for _ in 0..5 {
                town.trouble();
            }
            town.revive(30);
            town.world.run(town.world.now_ms + 300);
        }
        town.heal();
        town.assert_converged();
    });
}

#[test]
fn bursts_larger_than_the_window_arrive_in_bounded_memory() {
    with_seeds(2, |seed| {
        let mut town = Town::new(seed, 4, Weather { disk_failures: 1, ..STORM });
        town.mingle(3);
        town.world.run(1_000);
        for round in 0..4 {
            for _ in 0..150 {
                town.world.say(round, &channel("general"), "y".repeat(4_000));
            }
            town.world.run(town.world.now_ms + 200);
            let connections = town.world.connections();
            town.world.break_connection(connections[0]);
            town.mingle(3);
        }
        town.heal();
        town.assert_converged();
        let in_flight_max = town.world.tally.in_flight_max;
        let bound = p2p::limits::WINDOW_BYTES + 64 * 1024;
        assert!(in_flight_max <= bound, "{in_flight_max} bytes under way on one link");
    });
}

#[test]
fn a_full_mesh_does_not_deliver_everything_from_everybody() {
    let mut town = Town::new(7, 20, CALM);
    for _ in 0..3 {
        for one in 0..20 {
            for other in 0..one {
                town.world.dial(one, other);
            }
        }
        town.world.run(town.world.now_ms + 1_000);
    }
    let general = channel("general");
    // the first messages teach everybody who gets what from whom
    for speaker in 0..20 {
        town.world.say(speaker, &general, "first".to_owned());
        town.world.run(town.world.now_ms + 2_000);
    }
    let before = town.world.tally.bytes;
    for _ in 0..50 {
        town.world.say(3, &general, "z".repeat(1_000));
        town.world.run(town.world.now_ms + 20);
    }
    town.world.run(town.world.now_ms + 2_000);
    let sent = town.world.tally.bytes - before;
    town.assert_converged();
    let needed = 50 * 19 * 1_300;
    assert!(sent < needed * 2, "{sent} bytes for what needs {needed}");
}

#[test]
fn a_newer_roster_travels_from_peer_to_peer() {
    with_seeds(10, |seed| {
        let mut world = World::new(seed, 3, STORM);
        world.weather.disk_failures = 0;
        let general = channel("general");
        let (old, new) = (world.roster(&general, 1, &[0, 1]), world.roster(&general, 2, &[0, 1, 2]));
        world.publish(0, &old);
        world.publish(1, &new);
        world.publish(2, &new);
        for machine in 0..3 {
            world.start(machine);
        }
        world.say(0, &general, "before".to_owned());
        world.dial(0, 1);
        world.dial(1, 2);
        world.say(2, &general, "from the new one".to_owned());
        world.run(5_000);
        assert_eq!(world.machines[0].rosters[&general].roster().version, 2);
        for machine in &world.machines {
            assert_eq!(machine.disk.display(&general).len(), 2);
        }
        assert!(world.dial(0, 2), "whom machine 0 did not know before");
        world.run(6_000);
        assert!(world.linked(0, 2));
    });
}
