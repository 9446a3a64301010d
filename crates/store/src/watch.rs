//! Telling readers that a log grew.

use chat::{AppendError, Appended, BoxFuture, Closed, Watch};
use tokio::sync::watch;

/// A [`Watch`] over the latest position of one process's store.
pub(crate) struct PositionWatch(watch::Receiver<u64>);

impl PositionWatch {
    pub(crate) fn of(position: &watch::Sender<u64>) -> Self {
        Self(position.subscribe())
    }
}

impl Watch for PositionWatch {
    fn changed(&mut self) -> BoxFuture<'_, Result<u64, Closed>> {
        Box::pin(async move {
            self.0.changed().await.map_err(|_| Closed)?;
            Ok(*self.0.borrow_and_update())
        })
    }
}

/// Announces what an append stored, if it stored anything.
pub(crate) fn advance(position: &watch::Sender<u64>, results: &[Result<Appended, AppendError>]) {
    let stored = results.iter().flatten().filter(|it| !it.known).map(|it| it.position).max();
    if let Some(stored) = stored {
        position.send_if_modified(|latest| {
            let newer = stored > *latest;
            *latest = stored.max(*latest);
            newer
        });
    }
}
