//! Login sessions in the register, under the hash of their token. Those that have expired are swept as new ones come.

use crate::AccountError;
use crate::register::Register;
use chat::{Expect, Store};
use std::fmt::Write as _;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use weaprous::session::{BoxFuture, SessionIdHash, SessionRecord, SessionStorage, StorageError};

/// Where sessions lie in the register.
const PREFIX: &str = "session/";
/// A sweep happens once in so many new sessions.
const SAVES_PER_SWEEP: u32 = 16;
/// Sessions looked at in a sweep: more than come between two sweeps, so that the number of dead ones shrinks.
const SWEEP_MAX: usize = 64;

/// Sessions kept in a [`Store`], for [`weaprous::session::Sessions`].
pub struct StoreSessions {
    register: Register,
    saves: AtomicU32,
    swept_to: Mutex<Option<String>>,
}

impl StoreSessions {
    /// Sessions kept in this store.
    pub fn new(store: Arc<dyn Store>) -> Self {
        Self { register: Register(store), saves: AtomicU32::new(0), swept_to: Mutex::new(None) }
    }

    /// Removes the expired ones among the next few sessions, going round.
    async fn sweep(&self, now_ms: u64) -> Result<(), AccountError> {
        let after = self.swept_to.lock().unwrap_or_else(PoisonError::into_inner).take();
        let page = self.register.0.list(PREFIX, after.as_deref(), SWEEP_MAX).await?;
        let last = (page.len() == SWEEP_MAX).then(|| page.last().map(|(key, _)| key.clone())).flatten();
        for (key, versioned) in page {
            let record = serde_json::from_slice::<SessionRecord>(&versioned.value);
            if record.is_ok_and(|record| record.expires_ms <= now_ms) {
                let _ = self.register.0.delete(&key, Expect::Version(versioned.version)).await?;
            }
        }
        *self.swept_to.lock().unwrap_or_else(PoisonError::into_inner) = last;
        Ok(())
    }
}

impl SessionStorage for StoreSessions {
    fn save(&self, id_hash: SessionIdHash, record: SessionRecord) -> BoxFuture<'_, Result<(), StorageError>> {
        Box::pin(async move {
            if self.saves.fetch_add(1, Ordering::Relaxed).is_multiple_of(SAVES_PER_SWEEP) {
                self.sweep(record.created_ms).await.map_err(failed)?;
            }
            let _ = self.register.put(&key(&id_hash), &record, Expect::Any).await.map_err(failed)?;
            Ok(())
        })
    }

    fn load(&self, id_hash: SessionIdHash) -> BoxFuture<'_, Result<Option<SessionRecord>, StorageError>> {
        Box::pin(async move {
            let found = self.register.get::<SessionRecord>(&key(&id_hash)).await.map_err(failed)?;
            Ok(found.map(|(record, _)| record))
        })
    }

    fn remove(&self, id_hash: SessionIdHash) -> BoxFuture<'_, Result<(), StorageError>> {
        Box::pin(async move {
            let _ = self.register.0.delete(&key(&id_hash), Expect::Any).await.map_err(|error| failed(error.into()))?;
            Ok(())
        })
    }
}

fn failed(error: AccountError) -> StorageError {
    StorageError(Box::new(error))
}

fn key(id_hash: &SessionIdHash) -> String {
    let mut key = PREFIX.to_owned();
    for byte in id_hash {
        write!(key, "{byte:02x}").expect("writing to a string cannot fail");
    }
    key
}
