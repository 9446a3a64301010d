//! Which device a session speaks for: the one that registered with it. Kept under the hash of the token, beside the
//! session itself; no token is stored.

use chat::{DeviceId, Expect, Store, StoreError};
use serde::{Deserialize, Serialize};
use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// SHA-256 of a session's token.
pub(crate) type TokenHash = [u8; 32];

/// Where bindings lie in the register.
pub(crate) const BINDING_PREFIX: &str = "binding/";

/// Sessions kept at hand; past that, all are forgotten and read again.
const SESSIONS_MAX: usize = 50_000;

/// The binding as it lies in the register.
#[derive(Debug, Serialize, Deserialize)]
struct Binding {
    device: DeviceId,
    /// When the session ends, and with it the binding.
    expires_ms: u64,
}

/// Devices by session.
#[derive(Default)]
pub(crate) struct Bindings(Mutex<HashMap<TokenHash, Option<DeviceId>>>);

impl Bindings {
    /// The device that registered with this session, if one did.
    pub(crate) async fn of(&self, store: &dyn Store, token: &TokenHash) -> Result<Option<DeviceId>, StoreError> {
        if let Some(known) = self.locked().get(token) {
            return Ok(*known);
        }
        let found = store.get(&key(token)).await?;
        let device = found.and_then(|found| serde_json::from_slice::<Binding>(&found.value).ok()).map(|it| it.device);
        self.keep(*token, device);
        Ok(device)
    }

    pub(crate) async fn bind(
        &self,
        store: &dyn Store,
        token: TokenHash,
        device: DeviceId,
        expires_ms: u64,
    ) -> Result<(), StoreError> {
        if self.of(store, &token).await? == Some(device) {
            return Ok(());
        }
        let value = serde_json::to_vec(&Binding { device, expires_ms }).expect("an id and a number always serialise");
        // Whatever was bound before, the newest registration counts: there is no condition that could fail.
        let _ = store.put(&key(&token), value, Expect::Any).await?;
        self.keep(token, Some(device));
        Ok(())
    }

    fn keep(&self, token: TokenHash, device: Option<DeviceId>) {
        let mut kept = self.locked();
        if kept.len() >= SESSIONS_MAX {
            kept.clear();
        }
        kept.insert(token, device);
    }

    fn locked(&self) -> MutexGuard<'_, HashMap<TokenHash, Option<DeviceId>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// When the binding in this value ends.
pub(crate) fn expires_ms(value: &[u8]) -> Option<u64> {
    serde_json::from_slice::<Binding>(value).ok().map(|binding| binding.expires_ms)
}

fn key(token: &TokenHash) -> String {
    format!("{BINDING_PREFIX}{}", DeviceId(*token)) // the same text form: 32 bytes as base64url
}
