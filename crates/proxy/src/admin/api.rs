//! The admin listener's JSON.

use std::net::SocketAddr;
use std::time::{SystemTime, UNIX_EPOCH};

use serde_json::{Map, Value, json};

use crate::metrics::{Durations, REASONS, RouteCounts, ServerStatus, State, Status};

/// An order for one server.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Order {
    pub(super) upstream: String,
    pub(super) server: SocketAddr,
    pub(super) state: State,
}

/// Reads `{"upstream": …, "server": …, "state": "up" | "draining" | "disabled"}`.
pub(super) fn order(content: &[u8]) -> Result<Order, &'static str> {
    let value: Value = serde_json::from_slice(content).map_err(|_| "an order is a JSON object")?;
    let text = |name: &str| value.get(name).and_then(Value::as_str);
    let upstream = text("upstream").ok_or("`upstream` is missing: the name of an upstream")?.to_owned();
    let server = text("server").and_then(|server| server.parse().ok()).ok_or("`server` is to be an address")?;
    let state = match text("state") {
        Some("up") => State::Up,
        Some("draining") => State::Draining,
        Some("disabled") => State::Disabled,
        _ => return Err("`state` is to be `up`, `draining` or `disabled`"),
    };
    Ok(Order { upstream, server, state })
}

/// The answer to an order that was carried out.
pub(super) fn done(order: &Order) -> String {
    json!({ "upstream": order.upstream, "server": order.server.to_string(), "state": order.state.as_str() }).to_string()
}

/// Everything at one moment.
pub(super) fn status(status: &Status) -> String {
    let now_ms = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as u64);
    let mut upstreams: Vec<(&str, Vec<Value>)> = Vec::new();
    for each in &status.servers {
        match upstreams.iter_mut().find(|(name, _)| *name == each.upstream) {
            Some((_, servers)) => servers.push(server(each)),
            None => upstreams.push((&each.upstream, vec![server(each)])),
        }
    }
    let upstreams: Vec<Value> =
        upstreams.into_iter().map(|(name, servers)| json!({ "name": name, "servers": servers })).collect();
    let edges_ms: Vec<f64> = Durations::edges_ms().collect();
    let value = json!({
        "version": status.version,
        "now_ms": now_ms,
        "started_at_s": status.started_at_s,
        "connections": status.connections,
        "requests": status.requests,
        "passed": status.passed,
        "unrouted": status.unrouted,
        "reloads": status.reloads,
        "reloads_refused": status.reloads_refused,
        "reloaded_at_s": status.reloaded_at_s,
        "log_lines": status.log_lines,
        "log_dropped": status.log_dropped,
        "edges_ms": edges_ms,
        "routes": status.routes.iter().map(route).collect::<Vec<_>>(),
        "upstreams": upstreams,
    });
    value.to_string()
}

fn route(route: &RouteCounts) -> Value {
    json!({
        "name": route.name,
        "classes": route.classes,
        "in_flight": route.in_flight,
        "retries": route.retries,
        "refused": REASONS.iter().zip(route.refused).map(|(reason, count)| ((*reason).to_owned(), json!(count))).collect::<Map<_, _>>(),
        "bytes_in": route.bytes_in,
        "bytes_out": route.bytes_out,
        "tunnels": route.tunnels,
        "tunnels_open": route.tunnels_open,
        "broken_off": route.broken_off,
        "took": durations(&route.took),
    })
}

fn server(status: &ServerStatus) -> Value {
    let counts = &status.counts;
    json!({
        "server": status.server,
        "state": status.state.as_str(),
        "classes": counts.classes,
        "attempts": counts.attempts,
        "retries": counts.retries,
        "failures": counts.failures,
        "in_flight": counts.in_flight,
        "opened": counts.opened,
        "reused": counts.reused,
        "ejections": counts.ejections,
        "took": durations(&counts.took),
    })
}

/// The counts by bucket, and what they come to since the start.
fn durations(took: &Durations) -> Value {
    let mut value = Map::new();
    value.insert("counts".to_owned(), json!(took.counts()));
    value.insert("seconds".to_owned(), json!(took.sum_seconds()));
    for (name, share) in [("p50_ms", 0.5), ("p99_ms", 0.99)] {
        value.insert(name.to_owned(), json!(took.quantile_ms(share)));
    }
    Value::Object(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_order_names_a_server_and_a_state() {
        let text = r#"{"upstream": "app", "server": "127.0.0.1:9000", "state": "draining"}"#;
        let expect = Order {
            upstream: "app".to_owned(),
            server: SocketAddr::from(([127, 0, 0, 1], 9000)),
            state: State::Draining,
        };
        assert_eq!(order(text.as_bytes()), Ok(expect));
        for wrong in
            ["", "[]", "{}", r#"{"upstream":"a","server":"b","state":"up"}"#, &text.replace("draining", "down")]
        {
            assert!(order(wrong.as_bytes()).is_err(), "{wrong}");
        }
    }

    #[test]
    fn each_count_stands_under_its_name() {
        let counts = Status {
            version: "v".to_owned(),
            started_at_s: 1,
            connections: 2,
            requests: 3,
            passed: 4,
            unrouted: 5,
            reloads: 6,
            reloads_refused: 7,
            reloaded_at_s: 8,
            log_lines: 9,
            log_dropped: 10,
            ..Status::default()
        };
        let value: Value = serde_json::from_str(&status(&counts)).expect("it is JSON");
        assert_eq!(value["version"], "v");
        for (index, name) in [
            "started_at_s",
            "connections",
            "requests",
            "passed",
            "unrouted",
            "reloads",
            "reloads_refused",
            "reloaded_at_s",
            "log_lines",
            "log_dropped",
        ]
        .iter()
        .enumerate()
        {
            assert_eq!(value[name], index + 1, "{name}");
        }
    }

    #[test]
    fn servers_stand_below_their_upstreams() {
        let server = |upstream: &str, server: &str| ServerStatus {
            upstream: upstream.to_owned(),
            server: server.to_owned(),
            ..ServerStatus::default()
        };
        let servers = vec![server("a", "1"), server("b", "2"), server("a", "3")];
        let text = status(&Status { servers, ..Status::default() });
        let value: Value = serde_json::from_str(&text).expect("it is JSON");
        assert_eq!(value["upstreams"][0]["servers"][1]["server"], "3");
        assert_eq!(value["upstreams"][1]["name"], "b");
        assert_eq!(value["upstreams"][1]["servers"][0]["state"], "up");
        assert_eq!(value["edges_ms"][0], 0.1);
    }
}
