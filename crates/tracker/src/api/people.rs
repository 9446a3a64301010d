//! Who is online.

use super::Answer;
use super::entry::parse_addresses;
use crate::caller::Caller;
use crate::presence::{PeerView, Sign};
use crate::tracker::Tracker;
use chat::DeviceId;
use serde::{Deserialize, Serialize};
use weaprous::prelude::*;

#[derive(Serialize)]
pub(crate) struct PeerList {
    peers: Vec<PeerView>,
}

/// `GET /get-list`
pub(crate) async fn get_list(State(tracker): State<Tracker>, _: Caller) -> Json<PeerList> {
    Json(PeerList { peers: tracker.presence.list() })
}

/// A sign of life.
#[derive(Deserialize)]
pub(crate) struct Renewal {
    /// Those of before, if it is left out.
    addresses: Option<Vec<String>>,
    /// The session's device, if it is left out; the hosted one, if the session has none.
    device: Option<DeviceId>,
}

#[derive(Serialize)]
pub(crate) struct Lease {
    device: DeviceId,
    lease_ms: u64,
}

/// `POST /api/v1/presence`
pub(crate) async fn renew(
    State(tracker): State<Tracker>,
    caller: Caller,
    Json(renewal): Json<Renewal>,
) -> Answer<Json<Lease>> {
    let addresses = renewal.addresses.as_deref().map(parse_addresses).transpose()?;
    let device = match renewal.device {
        Some(device) => device,
        None => speaking_device(&tracker, &caller).await?,
    };
    let Some(device) = tracker.device(&caller.user, &device).await? else {
        return Err(Problem::forbidden("this device is not yours; register it at /submit-info").into());
    };
    let addresses = addresses.unwrap_or_else(|| tracker.presence.addresses(&device.id));
    let sign = Sign { user: caller.user, device: device.id, hosted: device.hosted, addresses };
    tracker.renew(sign).await?;
    Ok(Json(Lease { device: device.id, lease_ms: tracker.lease_ms() }))
}

/// `DELETE /api/v1/presence`
pub(crate) async fn depart(State(tracker): State<Tracker>, caller: Caller) -> Answer<()> {
    let device = speaking_device(&tracker, &caller).await?;
    tracker.depart(&device).await
}

/// The device that the session registered, or else the one that the tracker keeps for the user.
async fn speaking_device(tracker: &std::sync::Arc<Tracker>, caller: &Caller) -> Answer<DeviceId> {
    match tracker.bound_device(caller).await? {
        Some(device) => Ok(device),
        None => Ok(tracker.hosted_key(&caller.user).await?.id()),
    }
}
