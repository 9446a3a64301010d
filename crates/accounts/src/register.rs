//! JSON values in the store's register, changed by compare-and-set only.

use crate::AccountError;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use chat::{Conflict, Expect, Store, StoreError};
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::sync::Arc;

/// How often a change is tried when others change the same key at the same time.
const TRIES_MAX: u32 = 32;

#[derive(Clone)]
pub(crate) struct Register(pub(crate) Arc<dyn Store>);

impl Register {
    /// A value with its version.
    pub(crate) async fn get<T: DeserializeOwned>(&self, key: &str) -> Result<Option<(T, u64)>, AccountError> {
        let Some(found) = self.0.get(key).await? else { return Ok(None) };
        let value = serde_json::from_slice(&found.value);
        let value = value.map_err(|error| StoreError::Damaged(format!("{key} in the register: {error}")))?;
        Ok(Some((value, found.version)))
    }

    /// Writes a value under a condition.
    pub(crate) async fn put<T: Serialize>(
        &self,
        key: &str,
        value: &T,
        expect: Expect,
    ) -> Result<Result<u64, Conflict>, AccountError> {
        let bytes = serde_json::to_vec(value).map_err(|error| StoreError::Failed(error.to_string()))?;
        Ok(self.0.put(key, bytes, expect).await?)
    }

    /// Changes a value that is there; `None` when it is not.
    pub(crate) async fn update<T: DeserializeOwned + Serialize>(
        &self,
        key: &str,
        change: impl Fn(&mut T),
    ) -> Result<Option<T>, AccountError> {
        for _ in 0..TRIES_MAX {
            let Some((mut value, version)) = self.get::<T>(key).await? else { return Ok(None) };
            change(&mut value);
            if self.put(key, &value, Expect::Version(version)).await?.is_ok() {
                return Ok(Some(value));
            }
        }
        Err(StoreError::Busy.into())
    }

    /// The 32 secret bytes under `key`, made from the system's randomness if they are not there yet.
    pub(crate) async fn get_or_make(&self, key: &str) -> Result<[u8; 32], AccountError> {
        if let Some((text, _)) = self.get::<String>(key).await? {
            return seed(key, &text);
        }
        let mut fresh = [0; 32];
        getrandom::fill(&mut fresh).map_err(|error| StoreError::Failed(format!("no randomness: {error}")))?;
        if self.put(key, &URL_SAFE_NO_PAD.encode(fresh), Expect::Absent).await?.is_ok() {
            return Ok(fresh);
        }
        // Somebody else made it in between; theirs is the one that counts.
        match self.get::<String>(key).await? {
            Some((text, _)) => seed(key, &text),
            None => Err(StoreError::Busy.into()),
        }
    }
}

fn seed(key: &str, text: &str) -> Result<[u8; 32], AccountError> {
    let mut bytes = [0; 32];
    match URL_SAFE_NO_PAD.decode_slice(text, &mut bytes) {
        Ok(32) => Ok(bytes),
        _ => Err(StoreError::Damaged(format!("{key} in the register is not a key")).into()),
    }
}
