//! What is kept about an account.

use chat::{DeviceId, UserName};
use serde::{Deserialize, Serialize};
use std::fmt;

/// An account as it lies in the register.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Account {
    /// Its name.
    pub user: UserName,
    /// When it was made, in milliseconds since 1970.
    pub created_ms: u64,
    /// The argon2id hash of its password as a PHC string; none for an account that has devices only.
    pub(crate) password_hash: Option<String>,
    /// Its devices, oldest first.
    pub devices: Vec<Device>,
}

impl Account {
    /// Whether one can log in with a password.
    pub fn has_password(&self) -> bool {
        self.password_hash.is_some()
    }

    /// The device with this key.
    pub fn device(&self, id: &DeviceId) -> Option<&Device> {
        self.devices.iter().find(|device| device.id == *id)
    }
}

impl fmt::Debug for Account {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Account").field("user", &self.user).field("devices", &self.devices).finish_non_exhaustive()
    }
}

/// A device of an account.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Device {
    /// Its public key.
    pub id: DeviceId,
    /// Whether the tracker holds its secret key.
    pub hosted: bool,
    /// When it was added, in milliseconds since 1970.
    pub added_ms: u64,
}

pub(crate) fn account_key(user: &UserName) -> String {
    format!("account/{user}")
}

pub(crate) fn device_key(device: &DeviceId) -> String {
    format!("device/{device}")
}
