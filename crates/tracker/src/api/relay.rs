//! Both ends of the relay.

use super::Answer;
use crate::caller::Caller;
use crate::hub::News;
use crate::limits::Action;
use crate::relay::{RELAY_PROTOCOL, RelayError, bring, join};
use crate::tracker::Tracker;
use crate::trouble::Trouble;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use chat::DeviceId;
use weaprous::prelude::*;

impl From<RelayError> for Trouble {
    fn from(error: RelayError) -> Self {
        let detail = error.to_string();
        match error {
            RelayError::Crowded | RelayError::Full => Problem::unavailable(detail, 5),
            RelayError::Unknown => Problem::not_found(detail),
        }
        .into()
    }
}

/// `GET /api/v1/relay/{device}`
pub(crate) async fn call(
    State(tracker): State<Tracker>,
    caller: Caller,
    Path(target): Path<DeviceId>,
    request: Request,
) -> Answer<Response> {
    if !request.head.upgrades_to(RELAY_PROTOCOL) {
        return Ok(request.upgrade(RELAY_PROTOCOL, |_| async {})); // 426, naming the protocol
    }
    let from = own_device(&tracker, &caller).await?;
    tracker.limits.spend(&caller.user, Action::Relay, 1)?;
    let Some(peer) = tracker.presence.online(&target) else {
        return Err(Problem::not_found("this device is not online").into());
    };
    let open = tracker.relays.open([from, target])?;
    let token = random_token()?;
    let mut place = tracker.relays.wait(token.clone(), target, peer.user)?;
    tracker.hub.tell(News::Relay { to: target, token: token.into(), from });
    let Ok(Ok(brings)) = tokio::time::timeout(tracker.settings.relay_wait, &mut place.answer).await else {
        let problem = Problem::new(StatusCode::GATEWAY_TIMEOUT).detail("the other device did not come to the relay");
        return Err(problem.into());
    };
    drop(place);
    tracker.metrics.relay_streams.add(1);
    let stop = request.stop().clone();
    Ok(request.upgrade(RELAY_PROTOCOL, move |stream| async move {
        let _open = open;
        join(stream, brings, tracker.settings.relay_idle, &tracker.metrics.relay_bytes, stop).await;
    }))
}

/// `GET /api/v1/relay/accept/{token}`
pub(crate) async fn accept(
    State(tracker): State<Tracker>,
    caller: Caller,
    Path(token): Path<String>,
    request: Request,
) -> Answer<Response> {
    if !request.head.upgrades_to(RELAY_PROTOCOL) {
        return Ok(request.upgrade(RELAY_PROTOCOL, |_| async {}));
    }
    let device = own_device(&tracker, &caller).await?;
    let stream = tracker.relays.accept(&token, &caller.user, &device)?;
    Ok(request.upgrade(RELAY_PROTOCOL, move |accepted| bring(accepted, stream)))
}

/// The device that registered with this session: the relay is for devices.
async fn own_device(tracker: &Tracker, caller: &Caller) -> Answer<DeviceId> {
    let device = tracker.bound_device(caller).await?;
    Ok(device.ok_or_else(|| Problem::forbidden("the relay is for devices; register this one at /submit-info"))?)
}

fn random_token() -> Answer<String> {
    let mut random = [0; 16];
    getrandom::fill(&mut random).map_err(Problem::internal)?;
    Ok(URL_SAFE_NO_PAD.encode(random))
}
