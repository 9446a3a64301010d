//! Who is online. A device holds a lease that it renews; when the lease lapses, everybody is told.

use crate::hub::News;
use crate::tracker::{Tracker, now_ms};
use crate::trouble::Trouble;
use chat::{DeviceId, UserName};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, HashSet};
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use weaprous::Problem;

/// Devices remembered after they went; past that, those gone longest are forgotten.
const DEVICES_MAX: usize = 20_000;
/// Addresses one device may have.
pub(crate) const ADDRESSES_MAX: usize = 16;
/// Where leases lie.
const LEASE_PREFIX: &str = "presence/";

/// A device as `/get-list` and the event `presence` show it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct PeerView {
    pub(crate) username: UserName,
    /// The same again, under the name that the rest of the API uses.
    pub(crate) user: UserName,
    pub(crate) device: DeviceId,
    pub(crate) hosted: bool,
    pub(crate) online: bool,
    /// The first address, taken apart.
    pub(crate) ip: Option<IpAddr>,
    pub(crate) port: Option<u16>,
    pub(crate) addresses: Vec<SocketAddr>,
    pub(crate) last_seen_ms: u64,
}

/// A device that says it is there.
#[derive(Debug, Clone)]
pub(crate) struct Sign {
    pub(crate) user: UserName,
    pub(crate) device: DeviceId,
    pub(crate) hosted: bool,
    pub(crate) addresses: Vec<SocketAddr>,
}

/// What is known of devices.
#[derive(Default)]
pub(crate) struct Presence(Mutex<BTreeMap<DeviceId, Known>>);

struct Known {
    view: PeerView,
    /// Before that it counts as online, whatever a list of leases says that was read meanwhile.
    until: Instant,
}

impl Presence {
    /// All devices seen, online ones or not, by name.
    pub(crate) fn list(&self) -> Vec<PeerView> {
        let mut views: Vec<_> = self.locked().values().map(|known| known.view.clone()).collect();
        views.sort_by(|one, other| (&one.username, one.device).cmp(&(&other.username, other.device)));
        views
    }

    /// The device, if it is online.
    pub(crate) fn online(&self, device: &DeviceId) -> Option<PeerView> {
        self.locked().get(device).map(|known| &known.view).filter(|view| view.online).cloned()
    }

    /// The addresses a device gave last.
    pub(crate) fn addresses(&self, device: &DeviceId) -> Vec<SocketAddr> {
        self.locked().get(device).map(|known| known.view.addresses.clone()).unwrap_or_default()
    }

    pub(crate) fn online_count(&self) -> usize {
        self.locked().values().filter(|known| known.view.online).count()
    }

    /// Notes what is true of a device; gives it back if others should hear of it.
    fn note(&self, view: PeerView, until: Instant) -> Option<PeerView> {
        let mut known = self.locked();
        let shown = |view: &PeerView| (view.online, view.addresses.clone());
        let news = known.get(&view.device).is_none_or(|known| shown(&known.view) != shown(&view));
        known.insert(view.device, Known { view: view.clone(), until });
        if known.len() > DEVICES_MAX {
            let longest_gone =
                known.values().filter(|known| !known.view.online).min_by_key(|known| known.view.last_seen_ms);
            if let Some(device) = longest_gone.map(|known| known.view.device) {
                known.remove(&device);
            }
        }
        news.then_some(view)
    }

    /// Marks devices as gone; gives those that were not yet.
    fn gone(&self, now: Instant, is_gone: impl Fn(&DeviceId, Instant) -> bool) -> Vec<PeerView> {
        let mut went = Vec::new();
        for (device, known) in self.locked().iter_mut() {
            if known.view.online && is_gone(device, known.until) {
                known.view.online = false;
                known.until = now;
                went.push(known.view.clone());
            }
        }
        went
    }

    fn locked(&self) -> MutexGuard<'_, BTreeMap<DeviceId, Known>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Tracker {
    /// Takes or renews a device's lease.
    pub(crate) async fn renew(&self, sign: Sign) -> Result<(), Trouble> {
        let first = sign.addresses.first();
        let view = PeerView {
            username: sign.user.clone(),
            user: sign.user,
            device: sign.device,
            hosted: sign.hosted,
            online: true,
            ip: first.map(SocketAddr::ip),
            port: first.map(SocketAddr::port),
            addresses: sign.addresses,
            last_seen_ms: now_ms(),
        };
        let value = serde_json::to_vec(&view).map_err(Problem::internal)?;
        self.store().lease(&lease_key(&view.device), value, self.settings.lease).await?;
        let until = Instant::now() + self.settings.lease;
        self.tell_presence(self.presence.note(view, until));
        Ok(())
    }

    /// Gives a device's lease up.
    pub(crate) async fn depart(&self, device: &DeviceId) -> Result<(), Trouble> {
        self.store().release(&lease_key(device)).await?;
        self.tell_presence(self.presence.gone(Instant::now(), |other, _| other == device));
        Ok(())
    }

    /// Finds leases that have lapsed, and those that another tracker on this store gave.
    pub(crate) async fn sweep(&self) -> Result<(), Trouble> {
        let leases = self.store().leases(LEASE_PREFIX).await?;
        let live: HashSet<DeviceId> =
            leases.iter().filter_map(|(key, _)| key.strip_prefix(LEASE_PREFIX)?.parse().ok()).collect();
        let now = Instant::now();
        self.tell_presence(self.presence.gone(now, |device, until| until <= now && !live.contains(device)));
        for (_, value) in leases {
            if let Ok(view) = serde_json::from_slice::<PeerView>(&value)
                && self.presence.online(&view.device).is_none()
            {
                self.tell_presence(self.presence.note(view, now + Duration::ZERO));
            }
        }
        Ok(())
    }

    fn tell_presence(&self, views: impl IntoIterator<Item = PeerView>) {
        for view in views {
            tracing::info!(user = %view.user, online = view.online, "presence");
            self.hub.tell(News::Presence(Arc::new(view)));
        }
    }
}

fn lease_key(device: &DeviceId) -> String {
    format!("{LEASE_PREFIX}{device}")
}

/// Whether others could dial this address.
pub(crate) fn is_dialable(address: &SocketAddr) -> bool {
    let ip = address.ip().to_canonical();
    let broadcast = matches!(ip, IpAddr::V4(ip) if ip.is_broadcast());
    address.port() != 0 && !ip.is_unspecified() && !ip.is_multicast() && !broadcast
}
