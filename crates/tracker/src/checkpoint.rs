//! Where the changes of membership lie in a long log, so that a tracker that starts again need not read all of it.
//!
//! A checkpoint is a hint about an append-only log: it is true for ever once it was, and one that cannot be right is
//! passed over.

use crate::channels::Fold;
use chat::{ChannelName, Expect, Store, StoreError};
use serde::{Deserialize, Serialize};

/// Entries after which a new checkpoint is kept: what a start has to read at most, per channel.
const CHECKPOINT_ENTRIES: u64 = 1000;

/// The checkpoint as it lies in the register.
#[derive(Debug, Serialize, Deserialize)]
struct Checkpoint {
    /// Number of the last entry looked at.
    through: u64,
    /// Numbers of the entries up to it that say something about membership, ascending.
    events: Vec<u64>,
}

/// Brings a fold that holds nothing to the channel's checkpoint, if there is one to believe.
pub(crate) async fn resume(name: &ChannelName, fold: &mut Fold, store: &dyn Store) -> Result<(), StoreError> {
    let Some(found) = store.get(&key(name)).await? else { return Ok(()) };
    let Ok(checkpoint) = serde_json::from_slice::<Checkpoint>(&found.value) else { return Ok(()) };
    let is_within = checkpoint.through <= store.last(name).await?;
    if !is_within || checkpoint.events.last().is_some_and(|seq| *seq > checkpoint.through) {
        tracing::warn!(channel = %name, "a checkpoint of another log is passed over");
        return Ok(());
    }
    for run in runs(&checkpoint.events) {
        let entries = store.read(name, run.start - 1, (run.end - run.start) as usize).await?;
        for entry in &entries {
            fold.add(entry);
        }
    }
    for head in store.heads(name).await? {
        fold.lamport = fold.lamport.max(head.lamport);
        fold.heads.insert(head.device, head);
    }
    fold.events = checkpoint.events;
    fold.last = checkpoint.through;
    fold.kept_through = checkpoint.through;
    Ok(())
}

/// Keeps a checkpoint when the last one is long ago. A failure costs time at the next start, and nothing else.
pub(crate) async fn keep_when_due(name: &ChannelName, fold: &mut Fold, store: &dyn Store) {
    if fold.last < fold.kept_through + CHECKPOINT_ENTRIES {
        return;
    }
    let checkpoint = Checkpoint { through: fold.last, events: fold.events.clone() };
    let value = serde_json::to_vec(&checkpoint).expect("numbers always serialise");
    match store.put(&key(name), value, Expect::Any).await {
        Ok(_) => fold.kept_through = fold.last,
        Err(error) => tracing::warn!(channel = %name, %error, "no checkpoint for now"),
    }
}

/// Neighbouring numbers as ranges, so that they are read together.
fn runs(numbers: &[u64]) -> Vec<std::ops::Range<u64>> {
    let mut runs: Vec<std::ops::Range<u64>> = Vec::new();
    for &number in numbers.iter().filter(|number| **number > 0) {
        match runs.last_mut() {
            Some(run) if run.end == number => run.end += 1,
            _ => runs.push(number..number + 1),
        }
    }
    runs
}

fn key(name: &ChannelName) -> String {
    format!("checkpoint/{name}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn neighbours_are_read_together() {
        let check = |numbers: &[u64], expect: &[(u64, u64)]| {
            let found: Vec<_> = runs(numbers).into_iter().map(|run| (run.start, run.end)).collect();
            assert_eq!(found, expect);
        };
        check(&[], &[]);
        check(&[1, 2, 3], &[(1, 4)]);
        check(&[1, 3, 4, 9], &[(1, 2), (3, 5), (9, 10)]);
        check(&[0, 1], &[(1, 2)]);
    }
}
