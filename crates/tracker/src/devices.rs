//! The devices of users, kept at hand: every message shown asks whether its device is hosted.
//!
//! Devices are added by this process alone, so what is kept is forgotten exactly when it changes.

use accounts::{AccountError, Accounts, Device};
use chat::{DeviceId, UserName};
use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Users kept at hand; past that, all are forgotten and read again.
const USERS_MAX: usize = 50_000;

/// A cache in front of [`Accounts::devices`].
#[derive(Default)]
pub(crate) struct Devices(Mutex<Kept>);

#[derive(Default)]
struct Kept {
    users: HashMap<UserName, Arc<[Device]>>,
    /// Counts what was forgotten: an answer read before must not be kept after.
    forgotten: u64,
}

impl Devices {
    pub(crate) async fn of(&self, accounts: &Accounts, user: &UserName) -> Result<Arc<[Device]>, AccountError> {
        let forgotten = {
            let kept = self.locked();
            if let Some(devices) = kept.users.get(user) {
                return Ok(Arc::clone(devices));
            }
            kept.forgotten
        };
        let devices: Arc<[Device]> = accounts.devices(user).await?.into();
        let mut kept = self.locked();
        if kept.forgotten == forgotten {
            if kept.users.len() >= USERS_MAX {
                kept.users.clear();
            }
            kept.users.insert(user.clone(), Arc::clone(&devices));
        }
        Ok(devices)
    }

    /// The device of a user, if it is one of theirs.
    pub(crate) async fn find(
        &self,
        accounts: &Accounts,
        user: &UserName,
        device: &DeviceId,
    ) -> Result<Option<Device>, AccountError> {
        Ok(self.of(accounts, user).await?.iter().find(|found| found.id == *device).cloned())
    }

    /// Says that a user's devices have changed.
    pub(crate) fn forget(&self, user: &UserName) {
        let mut kept = self.locked();
        kept.users.remove(user);
        kept.forgotten += 1;
    }

    fn locked(&self) -> MutexGuard<'_, Kept> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
