//! What the log is told about a request: which one it was, and no secret.

use std::fmt::{self, Write};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Metadata, Subscriber};
use weaprous::layers::RequestIds;
use weaprous::prelude::*;
use weaprous::testing::Client;

/// Writes a line for each event: the spans around it, then what it says.
#[derive(Clone, Default)]
struct Lines {
    all: Arc<Mutex<Vec<String>>>,
    spans: Arc<Mutex<Vec<String>>>,
    inside: Arc<Mutex<Vec<u64>>>,
    count: Arc<AtomicU64>,
}

struct Text(String);

impl Visit for Text {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        let _ = write!(self.0, " {}={value:?}", field.name());
    }
}

impl Subscriber for Lines {
    fn enabled(&self, _: &Metadata<'_>) -> bool {
        true
    }

    fn new_span(&self, span: &Attributes<'_>) -> Id {
        let mut text = Text(span.metadata().name().to_owned());
        span.record(&mut text);
        self.spans.lock().unwrap().push(text.0);
        Id::from_u64(self.count.fetch_add(1, Ordering::Relaxed) + 1)
    }

    fn record(&self, _: &Id, _: &Record<'_>) {}

    fn record_follows_from(&self, _: &Id, _: &Id) {}

    fn event(&self, event: &Event<'_>) {
        let mut text = Text(String::new());
        let spans = self.spans.lock().unwrap();
        for id in &*self.inside.lock().unwrap() {
            let _ = write!(text.0, "[{}] ", spans[*id as usize - 1]);
        }
        text.0 += &event.metadata().level().to_string();
        event.record(&mut text);
        self.all.lock().unwrap().push(text.0);
    }

    fn enter(&self, span: &Id) {
        self.inside.lock().unwrap().push(span.into_u64());
    }

    fn exit(&self, _: &Id) {
        self.inside.lock().unwrap().pop();
    }
}

/// The lines that are written while an application is asked.
fn logged(app: App, ask: impl FnOnce(&Client)) -> Vec<String> {
    let lines = Lines::default();
    tracing::subscriber::with_default(lines.clone(), || ask(&Client::new(app)));
    let all = lines.all.lock().unwrap().clone();
    assert!(lines.inside.lock().unwrap().is_empty(), "every span is left");
    all
}

#[test]
fn what_a_handler_logs_says_which_request_it_was() {
    async fn handler() {
        tokio::task::yield_now().await; // the span is entered again with each turn
        tracing::info!(rows = 7, "looked up");
    }
    let app = App::new().layer(RequestIds).route("/tasks/{id}", [GET, PUT], handler);
    let lines = logged(app, |client| {
        client.get("/tasks/1?token=hidden").field("x-request-id", "one").send();
        client.put("/tasks/2").field("x-request-id", "two").field("authorization", "Bearer hidden").send();
    });
    let own: Vec<&String> = lines.iter().filter(|line| line.contains("looked up")).collect();
    let span = |id: &str, method: &str, path: &str| {
        format!("[request id={id:?} method={method:?} path={path:?}] INFO message=looked up rows=7")
    };
    assert_eq!(own, [&span("one", "GET", "/tasks/1"), &span("two", "PUT", "/tasks/2")]);
    assert!(!lines.iter().any(|line| line.contains("hidden")), "{lines:?}");
}

#[test]
fn the_cause_of_a_500_is_in_the_log_alone() {
    let failing = async || Problem::internal("the disk is on fire");
    let app = App::new().layer(RequestIds).route("/", [GET], failing);
    let lines = logged(app, |client| {
        let answer = client.get("/").field("x-request-id", "one").send();
        assert_eq!(answer.status(), StatusCode::INTERNAL_SERVER_ERROR);
        assert!(!answer.text().contains("fire"));
    });
    assert_eq!(
        lines,
        ["[request id=\"one\" method=\"GET\" path=\"/\"] ERROR message=request failed cause=the disk is on fire"]
    );
}
