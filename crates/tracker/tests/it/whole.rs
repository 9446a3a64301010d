//! The tracker as a whole: its description, its health, and that *stored* means on disk.

use crate::support::{Client, World};
use serde_json::json;
use std::collections::BTreeSet;
use std::sync::Arc;

#[test]
fn what_was_called_stored_is_on_disk() {
    let directory = tempfile::tempdir().unwrap();
    let open = || Arc::new(store::SqliteStore::open(directory.path()).unwrap());
    let world = World::with(open(), |_| ());
    let alice = world.user("alice");
    alice.create("general", "public");
    for i in 0..20 {
        assert_eq!(alice.say("general", &format!("number {i}"))["state"], "stored");
    }
    // A copy of the files as they are now, as after a power cut: nothing is closed or flushed before.
    let copy = tempfile::tempdir().unwrap();
    for file in ["store.db", "store.db-wal"] {
        std::fs::copy(directory.path().join(file), copy.path().join(file)).unwrap();
    }
    let copied = World::with(Arc::new(store::SqliteStore::open(copy.path()).unwrap()), |_| ());
    let alice = Client { address: copied.address, ..alice };
    let texts = alice.texts("general");
    assert_eq!(texts.len(), 21);
    assert_eq!(texts[20], "number 19");
    assert_eq!(alice.say("general", "on")["seq"], 22);
}

#[test]
fn healthz_and_metrics_are_open_to_all() {
    let world = World::new();
    assert_eq!(world.stranger().get("/healthz").expect(200), json!({"status": "ok", "position": 0}));
    world.user("alice").create("general", "public");
    let metrics = world.stranger().get("/metrics");
    assert_eq!(metrics.field("content-type"), Some("text/plain; version=0.0.4; charset=utf-8"));
    for line in metrics.text.lines() {
        let plain = line
            .split_once(' ')
            .is_some_and(|(name, value)| name.starts_with("weaprous_") && value.parse::<u64>().is_ok());
        assert!(plain || line.starts_with("# HELP weaprous_") || line.starts_with("# TYPE weaprous_"), "{line}");
    }
    assert_eq!(world.metric("weaprous_log_position "), 1);
    assert_eq!(world.metric("weaprous_registrations_total "), 1);
}

/// The operations of `docs/openapi.yaml`, as `GET /path`.
fn described(yaml: &str) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    let mut path = None;
    for line in yaml.lines() {
        if let Some(name) = line.strip_prefix("  /") {
            path = Some(format!("/{}", name.trim_end_matches(':')));
        } else if let Some(method) = line.strip_prefix("    ").filter(|rest| !rest.starts_with(' ')) {
            let method = method.trim_end_matches(':');
            if let Some(path) = path.as_ref().filter(|_| ["get", "post", "put", "delete"].contains(&method)) {
                found.insert(format!("{} {path}", method.to_ascii_uppercase()));
            }
        } else if !line.starts_with(' ') {
            path = None;
        }
    }
    found
}

#[test]
fn the_description_names_every_route_and_no_other() {
    let world = World::new();
    let served = world.stranger().get("/api/v1/openapi.yaml");
    assert_eq!((served.status, served.field("content-type")), (200, Some("application/yaml")));
    let routes: BTreeSet<String> = tracker::operations().into_iter().collect();
    assert_eq!(described(&served.text), routes);
    assert!(served.text.starts_with("openapi: 3.1."));
    for operation in routes {
        let (method, path) = operation.split_once(' ').unwrap();
        let path = path.replace(['{', '}'], "");
        let status = world.stranger().send(method, &path, "", b"").status;
        assert!(![404, 405].contains(&status), "{operation} answers {status}");
    }
}
