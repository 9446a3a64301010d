//! Random calls to both stores at once: they must not differ in a single answer.

use chat::{ChannelName, Expect, Sealed, Store};
use store::{MemoryStore, SqliteStore};

use crate::fixture::{Chain, Random};

const STEPS: usize = 400;
const CHANNELS: [&str; 3] = ["general", "random", "@alice+bob"];

struct World {
    random: Random,
    chains: Vec<Chain>,
    /// Everything ever written, also what no store has seen yet.
    written: Vec<Sealed>,
}

impl World {
    fn new() -> Self {
        let random = Random::new();
        let chains = (0..9).map(|i| Chain::new(i / 3, CHANNELS[usize::from(i % 3)])).collect();
        Self { random, chains, written: Vec::new() }
    }

    fn pick(&mut self, bound: usize) -> usize {
        self.random.below(bound as u64) as usize
    }

    /// New envelopes, some held back (which leaves a gap), some forked, some sent twice, now and then all of them again
    /// (which heals the gaps).
    fn batch(&mut self) -> Vec<Sealed> {
        if self.pick(10) == 0 {
            return self.written.clone();
        }
        let mut batch = Vec::new();
        for _ in 0..self.pick(6) {
            let chain = self.pick(self.chains.len());
            match self.pick(16) {
                0 => {
                    let fork = self.chains[chain].fork("fork");
                    let said = self.chains[chain].say("x");
                    self.written.push(said.clone());
                    batch.extend([said, fork]);
                }
                1 if !self.written.is_empty() => {
                    let index = self.pick(self.written.len());
                    batch.push(self.written[index].clone());
                }
                choice => {
                    let said = self.chains[chain].say("x");
                    self.written.push(said.clone());
                    if choice > 2 {
                        batch.push(said);
                    }
                }
            }
        }
        batch
    }

    fn number(&mut self) -> u64 {
        let edges = [0, 1, u64::MAX];
        match self.pick(6) {
            choice @ 0..3 => edges[choice],
            _ => self.random.below(60),
        }
    }

    fn expect(&mut self) -> Expect {
        match self.pick(3) {
            0 => Expect::Any,
            1 => Expect::Absent,
            _ => Expect::Version(self.random.below(5)),
        }
    }

    fn channel(&mut self) -> ChannelName {
        CHANNELS[self.pick(3)].parse().unwrap()
    }
}

#[tokio::test]
async fn sqlite_answers_as_memory_does() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path();
    let memory = MemoryStore::new();
    let mut sqlite = SqliteStore::open(path).unwrap();
    let mut world = World::new();
    for step in 0..STEPS {
        if step % 100 == 99 {
            drop(sqlite);
            sqlite = SqliteStore::open(path).unwrap();
        }
        compare(&mut world, &memory, &sqlite).await;
    }
    assert!(memory.last_position().await.unwrap() > 100, "the test appended too little to mean anything");
}

async fn compare(world: &mut World, memory: &MemoryStore, sqlite: &SqliteStore) {
    macro_rules! same {
        ($call:ident($($argument:expr),*)) => {
            assert_eq!(memory.$call($($argument),*).await, sqlite.$call($($argument),*).await)
        };
        ($call:ident($($argument:expr),*) shown) => {
            assert_eq!(
                format!("{:?}", memory.$call($($argument),*).await),
                format!("{:?}", sqlite.$call($($argument),*).await)
            )
        };
    }
    let (batch, channel, number, limit) = (world.batch(), world.channel(), world.number(), world.pick(20));
    let index = world.pick(world.chains.len());
    let device = world.chains[index].device();
    same!(append(batch.clone()));
    same!(read(&channel, number, limit) shown);
    same!(read_before(&channel, number, limit) shown);
    same!(read_all(number, limit) shown);
    same!(chain(&channel, &device, number, limit));
    same!(heads(&channel));
    same!(last(&channel));
    same!(last_position());
    same!(channels());
    let (key, expect) = (format!("k/{}", world.pick(4)), world.expect());
    same!(put(&key, vec![limit as u8], expect));
    let (key, expect) = (format!("k/{}", world.pick(4)), world.expect());
    same!(get(&key));
    same!(list("k/", Some(&key), limit));
    if world.pick(4) == 0 {
        same!(delete(&key, expect));
    }
}
