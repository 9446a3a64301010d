//! For operators and tools.

use super::Answer;
use crate::metrics::{Gauges, PROMETHEUS_TEXT};
use crate::tracker::Tracker;
use serde::Serialize;
use std::time::Duration;
use weaprous::prelude::*;

/// The API's description, as it lies in `docs/`.
pub(crate) const OPENAPI: &str = include_str!("../../../../docs/openapi.yaml");

/// A store that does not answer within this time is not healthy.
const HEALTH_TIMEOUT: Duration = Duration::from_secs(2);

#[derive(Serialize)]
pub(crate) struct Health {
    status: &'static str,
    position: u64,
}

/// `GET /healthz`
pub(crate) async fn healthz(State(tracker): State<Tracker>) -> Answer<Json<Health>> {
    let position = tokio::time::timeout(HEALTH_TIMEOUT, tracker.store().last_position()).await;
    match position {
        Ok(Ok(position)) => Ok(Json(Health { status: "ok", position })),
        Ok(Err(error)) => Err(Problem::unavailable(error.to_string(), 5).into()),
        Err(_) => Err(Problem::unavailable("the store does not answer", 5).into()),
    }
}

/// `GET /metrics`
pub(crate) async fn metrics(State(tracker): State<Tracker>) -> Answer<impl IntoResponse> {
    let gauges = Gauges {
        online_devices: tracker.presence.online_count(),
        event_streams: tracker.streams.count(),
        relay_open: tracker.relays.open_count(),
        channels: tracker.store().channels().await?.len(),
        position: tracker.store().last_position().await?,
    };
    Ok(([("content-type", PROMETHEUS_TEXT)], tracker.metrics.render(gauges)))
}

/// `GET /api/v1/openapi.yaml`
pub(crate) async fn openapi() -> impl IntoResponse {
    ([("content-type", "application/yaml")], OPENAPI)
}
