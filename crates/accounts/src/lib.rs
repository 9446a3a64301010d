//! Accounts, their passwords, devices and login sessions, kept in the register of a [`chat::Store`].
//!
//! Backend and tracker share it, in one process or in two on one data directory: every change is a compare-and-set, so
//! neither overwrites the other. Never logs a password, a token or a key, and never hashes on a worker thread.
//!
//! Keys in the register: `account/<user>`, `device/<device>`, `hosted/<user>`, `session/<hash>`, `tracker/key`.

mod account;
mod error;
mod limiter;
mod password;
mod register;
mod sessions;

pub use account::{Account, Device};
pub use error::AccountError;
pub use password::{PASSWORD_BYTES_MAX, PASSWORD_BYTES_MIN};
pub use sessions::StoreSessions;

use account::{account_key, device_key};
use chat::{DeviceId, DeviceKey, Expect, Store, TrackerKey, UserName};
use limiter::Limiter;
use password::Hasher;
use register::Register;
use std::net::IpAddr;
use std::sync::Arc;

/// Most devices one account may have.
pub const DEVICES_MAX: usize = 32;

/// Accounts in a store. Cheap to clone; clones share their limits.
#[derive(Clone)]
pub struct Accounts {
    register: Register,
    hasher: Arc<Hasher>,
    limiter: Arc<Limiter>,
}

impl Accounts {
    /// Accounts kept in this store.
    pub fn new(store: Arc<dyn Store>) -> Self {
        Self { register: Register(store), hasher: Arc::default(), limiter: Arc::default() }
    }

    /// Makes an account. Without a password it can only be used by the devices and tokens it is given now or later.
    ///
    /// # Errors
    /// `NameTaken`, `WeakPassword`, `RateLimited` when `from` made many accounts lately, `Busy`, `Store`.
    pub async fn sign_up(
        &self,
        user: &UserName,
        password: Option<String>,
        from: IpAddr,
        now_ms: u64,
    ) -> Result<Account, AccountError> {
        if let Some(password) = &password {
            password::check_strength(user, password)?;
        }
        if self.find(user).await?.is_some() {
            return Err(AccountError::NameTaken);
        }
        self.limiter.sign_up(from, now_ms)?;
        let password_hash = match password {
            Some(password) => Some(self.hasher.hash(password).await?),
            None => None,
        };
        let account = Account { user: user.clone(), created_ms: now_ms, password_hash, devices: Vec::new() };
        match self.register.put(&account_key(user), &account, Expect::Absent).await? {
            Ok(_) => Ok(account),
            Err(_) => Err(AccountError::NameTaken),
        }
    }

    /// Checks a password. Takes as long for a name that nobody has, and as long for one without a password.
    ///
    /// # Errors
    /// `WrongPassword`, also for an unknown name; `RateLimited` after many failures for this name or from this
    /// address; `Busy`, `Store`.
    pub async fn check_password(
        &self,
        user: &UserName,
        password: String,
        from: IpAddr,
        now_ms: u64,
    ) -> Result<Account, AccountError> {
        let attempt = self.limiter.login(user, from, now_ms)?;
        let outcome = self.look_at_password(user, password).await;
        // A server that is busy or broken has not looked at the password, so nobody has failed either.
        if !matches!(outcome, Err(AccountError::WrongPassword)) {
            self.limiter.take_back(attempt);
        }
        outcome
    }

    async fn look_at_password(&self, user: &UserName, password: String) -> Result<Account, AccountError> {
        let account = self.find(user).await?;
        let hash = account.as_ref().and_then(|account| account.password_hash.clone());
        let matches = self.hasher.verify(password, hash).await?;
        account.filter(|_| matches).ok_or(AccountError::WrongPassword)
    }

    /// The account of this name.
    pub async fn find(&self, user: &UserName) -> Result<Option<Account>, AccountError> {
        Ok(self.register.get::<Account>(&account_key(user)).await?.map(|(account, _)| account))
    }

    /// Adds a device to an account; adding it again changes nothing.
    ///
    /// # Errors
    /// `DeviceTaken` when the key belongs to another account, `TooManyDevices`, `NoAccount`, `Busy`, `Store`.
    pub async fn add_device(
        &self,
        user: &UserName,
        device: DeviceId,
        hosted: bool,
        now_ms: u64,
    ) -> Result<(), AccountError> {
        let Some(account) = self.find(user).await? else { return Err(AccountError::NoAccount) };
        if account.devices.len() >= DEVICES_MAX && account.device(&device).is_none() {
            return Err(AccountError::TooManyDevices);
        }
        if self.register.put(&device_key(&device), user, Expect::Absent).await?.is_err()
            && self.owner_of(&device).await?.as_ref() != Some(user)
        {
            return Err(AccountError::DeviceTaken);
        }
        let added = Device { id: device, hosted, added_ms: now_ms };
        let key = account_key(user);
        let add = |account: &mut Account| {
            if account.device(&device).is_none() {
                account.devices.push(added.clone());
            }
        };
        self.register.update(&key, add).await?.ok_or(AccountError::NoAccount).map(drop)
    }

    /// The devices of an account; none for an unknown name.
    pub async fn devices(&self, user: &UserName) -> Result<Vec<Device>, AccountError> {
        Ok(self.find(user).await?.map(|account| account.devices).unwrap_or_default())
    }

    /// Whose device this is.
    pub async fn owner_of(&self, device: &DeviceId) -> Result<Option<UserName>, AccountError> {
        Ok(self.register.get(&device_key(device)).await?.map(|(user, _)| user))
    }

    /// The key with which the tracker signs for clients of `user` that have none; made, and listed as a hosted
    /// device, at its first use.
    ///
    /// # Errors
    /// As [`Self::add_device`].
    pub async fn hosted_key(&self, user: &UserName, now_ms: u64) -> Result<DeviceKey, AccountError> {
        let seed = self.register.get_or_make(&format!("hosted/{user}")).await?;
        let key = DeviceKey::from_seed(seed);
        let listed = self.find(user).await?.is_some_and(|account| account.device(&key.id()).is_some());
        if !listed {
            self.add_device(user, key.id(), true, now_ms).await?;
        }
        Ok(key)
    }

    /// The key with which this tracker signs rosters; made at its first use.
    pub async fn tracker_key(&self) -> Result<TrackerKey, AccountError> {
        Ok(TrackerKey::from_seed(self.register.get_or_make("tracker/key").await?))
    }
}
