//! What a tracker is made of, and how patient it is.

use accounts::Accounts;
use chat::Store;
use std::sync::Arc;
use std::time::Duration;
use weaprous::session::Sessions;

/// How long a device counts as online after its last sign of life.
const LEASE: Duration = Duration::from_secs(15);
/// How often lapsed leases are looked for: the most by which their end is told late.
const SWEEP: Duration = Duration::from_secs(1);
/// How long a relay's caller waits for the other side to come.
const RELAY_WAIT: Duration = Duration::from_secs(10);
/// Silence, both ways, after which a relayed stream is ended.
const RELAY_IDLE: Duration = Duration::from_mins(10);

/// A tracker's parts and times.
#[derive(Clone)]
#[non_exhaustive]
pub struct TrackerSettings {
    /// Where everything is kept.
    pub store: Arc<dyn Store>,
    /// Who there is.
    pub accounts: Accounts,
    /// Who is logged in.
    pub sessions: Arc<Sessions>,
    /// How long a device counts as online after its last sign of life.
    pub lease: Duration,
    /// How often lapsed leases are looked for.
    pub sweep: Duration,
    /// How long a relay's caller waits for the other side to come.
    pub relay_wait: Duration,
    /// Silence after which a relayed stream is ended.
    pub relay_idle: Duration,
}

impl TrackerSettings {
    /// The usual times.
    pub fn new(store: Arc<dyn Store>, accounts: Accounts, sessions: Arc<Sessions>) -> Self {
        Self { store, accounts, sessions, lease: LEASE, sweep: SWEEP, relay_wait: RELAY_WAIT, relay_idle: RELAY_IDLE }
    }
}

impl std::fmt::Debug for TrackerSettings {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("TrackerSettings").field("lease", &self.lease).finish_non_exhaustive()
    }
}
