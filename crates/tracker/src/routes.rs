//! Every route of the tracker.

use crate::api::{channels, entry, events, messages, operations, people, relay};
use crate::tracker::Tracker;
use std::sync::Arc;
use weaprous::prelude::*;
use weaprous::same_origin;

/// Content accepted where nothing else is said: a text of the longest kind, every byte of it escaped.
const BODY_BYTES_MAX: u64 = 128 * 1024;

/// The routes, with their methods.
pub(crate) fn routes() -> Vec<Route> {
    vec![
        // as in the original
        Route::new("/submit-info", [POST], entry::submit_info),
        Route::new("/get-list", [GET], people::get_list),
        Route::new("/create-list", [POST], channels::create),
        Route::new("/join-list", [POST], channels::join_list),
        Route::new("/add-list", [POST], channels::join_list),
        Route::new("/send-message", [POST], messages::send),
        Route::new("/get-messages", [GET], messages::get),
        // who
        Route::new("/api/v1/challenge", [GET], entry::challenge),
        Route::new("/api/v1/me", [GET], entry::me),
        Route::new("/api/v1/presence", [POST], people::renew),
        Route::new("/api/v1/presence", [DELETE], people::depart),
        // what is said
        Route::new("/api/v1/events", [GET], events::events),
        Route::new("/api/v1/channels", [GET], channels::list),
        Route::new("/api/v1/channels", [POST], channels::create),
        Route::new("/api/v1/channels/{channel}/join", [POST], channels::join),
        Route::new("/api/v1/channels/{channel}/leave", [POST], channels::leave),
        Route::new("/api/v1/channels/{channel}/invite", [POST], channels::invite),
        Route::new("/api/v1/channels/{channel}/remove", [POST], channels::remove),
        Route::new("/api/v1/channels/{channel}/read", [PUT], channels::read),
        Route::new("/api/v1/channels/{channel}/envelopes", [POST], messages::upload)
            .body_bytes_max(messages::ENVELOPES_BYTES_MAX),
        Route::new("/api/v1/channels/{channel}/roster", [GET], channels::roster),
        Route::new("/api/v1/channels/{channel}/heads", [GET], channels::heads),
        // for devices that cannot reach each other
        Route::new("/api/v1/relay/{device}", [GET], relay::call),
        Route::new("/api/v1/relay/accept/{token}", [GET], relay::accept),
        // for operators and tools
        Route::new("/healthz", [GET], operations::healthz),
        Route::new("/metrics", [GET], operations::metrics),
        Route::new("/api/v1/openapi.yaml", [GET], operations::openapi),
    ]
}

/// The application.
pub(crate) fn app(tracker: Arc<Tracker>) -> App {
    let sessions = Arc::clone(&tracker.settings.sessions);
    let beginning = Arc::clone(&tracker);
    let app = App::new()
        .state(tracker)
        .sessions(sessions)
        .body_bytes_max(BODY_BYTES_MAX)
        .layer(move |request: Request, next: Next| {
            beginning.begin(request.stop());
            next.run(request)
        })
        .layer(same_origin);
    routes().into_iter().fold(app, App::add_route)
}
