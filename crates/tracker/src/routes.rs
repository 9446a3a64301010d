//! Every route of the tracker.

use crate::api::{channels, entry, events, messages, operations, people, relay};
use crate::tracker::Tracker;
use std::sync::Arc;
use weaprous::Handler;
use weaprous::prelude::*;

/// Content accepted where nothing else is said: a text of the longest kind, every byte of it escaped.
const BODY_BYTES_MAX: u64 = 128 * 1024;

/// One method of one path.
pub(crate) struct Operation {
    /// As `GET /path/{parameter}`.
    pub(crate) name: String,
    route: Route,
}

#[track_caller]
fn on<Args: 'static>(method: Method, pattern: &str, handler: impl Handler<Args>) -> Operation {
    Operation { name: format!("{} {pattern}", method.as_str()), route: Route::new(pattern, [method], handler) }
}

impl Operation {
    fn body_bytes_max(self, max: u64) -> Self {
        Self { route: self.route.body_bytes_max(max), ..self }
    }
}

/// The routes, with their methods.
pub(crate) fn operations() -> Vec<Operation> {
    vec![
        // as in the original
        on(POST, "/submit-info", entry::submit_info),
        on(GET, "/get-list", people::get_list),
        on(POST, "/create-list", channels::create),
        on(POST, "/join-list", channels::join_list),
        on(POST, "/add-list", channels::join_list),
        on(POST, "/send-message", messages::send),
        on(GET, "/get-messages", messages::get),
        // who
        on(GET, "/api/v1/challenge", entry::challenge),
        on(GET, "/api/v1/me", entry::me),
        on(POST, "/api/v1/presence", people::renew),
        on(DELETE, "/api/v1/presence", people::depart),
        // what is said
        on(GET, "/api/v1/events", events::events),
        on(GET, "/api/v1/channels", channels::list),
        on(POST, "/api/v1/channels", channels::create),
        on(POST, "/api/v1/channels/{channel}/join", channels::join),
        on(POST, "/api/v1/channels/{channel}/leave", channels::leave),
        on(POST, "/api/v1/channels/{channel}/invite", channels::invite),
        on(POST, "/api/v1/channels/{channel}/remove", channels::remove),
        on(PUT, "/api/v1/channels/{channel}/read", channels::read),
        on(POST, "/api/v1/channels/{channel}/envelopes", messages::upload)
            .body_bytes_max(messages::ENVELOPES_BYTES_MAX),
        on(GET, "/api/v1/channels/{channel}/roster", channels::roster),
        on(GET, "/api/v1/channels/{channel}/heads", channels::heads),
        // for devices that cannot reach each other
        on(GET, "/api/v1/relay/{device}", relay::call),
        on(GET, "/api/v1/relay/accept/{token}", relay::accept),
        // for operators and tools
        on(GET, "/healthz", operations::healthz),
        on(GET, "/metrics", operations::metrics),
        on(GET, "/api/v1/openapi.yaml", operations::openapi),
    ]
}

/// The application.
pub(crate) fn app(tracker: Arc<Tracker>) -> App {
    let sessions = Arc::clone(&tracker.settings.sessions);
    let beginning = Arc::clone(&tracker);
    let app = App::new().state(tracker).sessions(sessions).body_bytes_max(BODY_BYTES_MAX).layer(
        move |request: Request, next: Next| {
            beginning.begin(request.stop());
            next.run(request)
        },
    );
    operations().into_iter().fold(app, |app, operation| app.add_route(operation.route))
}
