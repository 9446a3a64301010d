//! Counts as text for Prometheus (exposition format 0.0.4).

use std::fmt::Write as _;

use super::{CLASSES, Durations, REASONS, ServerStatus, Status};

/// The media type of what [`write`] makes.
pub(crate) const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// States a server may be in; exactly one of them is 1.
const STATES: [&str; 4] = ["up", "down", "draining", "disabled"];

type OfRoute = fn(&super::RouteCounts) -> u64;
type OfServer = fn(&super::ServerCounts) -> u64;

/// All counts of a proxy.
pub(crate) fn write(status: &Status) -> String {
    let mut page = Page::default();
    process(&mut page, status);
    routes(&mut page, status);
    servers(&mut page, status);
    page.0
}

fn process(page: &mut Page, status: &Status) {
    page.family("build_info", "gauge", "Always 1; says which version runs.");
    page.line("build_info", &[("version", &status.version)], 1.0);
    let started =
        [("start_time_seconds", "gauge", "When this process began, in seconds since 1970.", status.started_at_s)];
    let totals = [
        ("connections_open", "gauge", "Connections of clients that are open.", status.connections),
        ("requests_total", "counter", "Requests received.", status.requests),
        ("passed_total", "counter", "Those of them that went the short way: passed on without a task.", status.passed),
        ("unrouted_total", "counter", "Requests for a host or a path that is not configured.", status.unrouted),
        ("reloads_total", "counter", "Configurations put to work after the first one.", status.reloads),
        (
            "reloads_refused_total",
            "counter",
            "Configurations that had mistakes and changed nothing.",
            status.reloads_refused,
        ),
        ("last_reload_time_seconds", "gauge", "When the last reload took effect; 0 before.", status.reloaded_at_s),
        ("access_log_lines_total", "counter", "Lines written to the access log.", status.log_lines),
        (
            "access_log_dropped_total",
            "counter",
            "Lines lost because the access log could not be written in time.",
            status.log_dropped,
        ),
    ];
    for (name, kind, help, value) in started.into_iter().chain(totals) {
        page.family(name, kind, help);
        page.line(name, &[], value as f64);
    }
}

fn routes(page: &mut Page, status: &Status) {
    let routes = &status.routes;
    page.family(
        "route_requests_total",
        "counter",
        "Requests answered, by class of the status; gone: the client left first.",
    );
    for route in routes {
        for (class, count) in CLASSES.iter().zip(route.classes) {
            page.line("route_requests_total", &[("route", &route.name), ("class", class)], count as f64);
        }
    }
    page.family("route_refused_total", "counter", "Requests that were not let pass, by the directive that did not.");
    for route in routes {
        for (reason, count) in REASONS.iter().zip(route.refused) {
            page.line("route_refused_total", &[("route", &route.name), ("reason", reason)], count as f64);
        }
    }
    let help = "Content, tunnels included, in bytes: in from clients, out to them, compressed where it is.";
    page.family("route_bytes_total", "counter", help);
    for route in routes {
        for (direction, bytes) in [("in", route.bytes_in), ("out", route.bytes_out)] {
            page.line("route_bytes_total", &[("route", &route.name), ("direction", direction)], bytes as f64);
        }
    }
    let singles: [(&str, &str, &str, OfRoute); 5] = [
        ("route_in_flight", "gauge", "Requests being answered, tunnels included.", |route| route.in_flight),
        ("route_retries_total", "counter", "Attempts after the first one.", |route| route.retries),
        ("route_broken_off_total", "counter", "Answers that an upstream broke off in the middle.", |route| {
            route.broken_off
        }),
        ("route_tunnels_total", "counter", "Connections that switched to another protocol.", |route| route.tunnels),
        ("route_tunnels_open", "gauge", "Those of them that are still open.", |route| route.tunnels_open),
    ];
    for (name, kind, help, pick) in singles {
        page.family(name, kind, help);
        for route in routes {
            page.line(name, &[("route", &route.name)], pick(route) as f64);
        }
    }
    let help = "From a request's head to the end of its answer; tunnels and event streams left out.";
    page.family("route_duration_seconds", "histogram", help);
    for route in routes {
        page.histogram("route_duration_seconds", &[("route", &route.name)], &route.took);
    }
}

fn servers(page: &mut Page, status: &Status) {
    let servers = &status.servers;
    let labels = |server: &'_ ServerStatus| [("upstream", server.upstream.clone()), ("server", server.server.clone())];
    page.family("server_state", "gauge", "1 for the state a server is in.");
    for server in servers {
        let [upstream, address] = labels(server);
        for state in STATES {
            let is = f64::from(u8::from(server.state.as_str() == state));
            page.line("server_state", &[(upstream.0, &upstream.1), (address.0, &address.1), ("state", state)], is);
        }
    }
    page.family("server_answers_total", "counter", "Answers, by class of the status; gone: nobody waited any more.");
    for server in servers {
        let [upstream, address] = labels(server);
        for (class, count) in CLASSES.iter().zip(server.counts.classes) {
            let labels = [(upstream.0, upstream.1.as_str()), (address.0, &address.1), ("class", class)];
            page.line("server_answers_total", &labels, count as f64);
        }
    }
    let singles: [(&str, &str, &str, OfServer); 7] = [
        ("server_attempts_total", "counter", "Requests handed to it, retries included.", |counts| counts.attempts),
        ("server_retries_total", "counter", "Those of them that came after a failed attempt.", |counts| counts.retries),
        ("server_failures_total", "counter", "Attempts without an answer.", |counts| counts.failures),
        ("server_in_flight", "gauge", "Requests with it now.", |counts| counts.in_flight),
        ("server_ejections_total", "counter", "How often it was taken out after failures.", |counts| counts.ejections),
        ("server_connections_opened_total", "counter", "Connections opened to it.", |counts| counts.opened),
        ("server_connections_reused_total", "counter", "Requests over a connection that was open already.", |counts| {
            counts.reused
        }),
    ];
    for (name, kind, help, pick) in singles {
        page.family(name, kind, help);
        for server in servers {
            let [upstream, address] = labels(server);
            let labels = [(upstream.0, upstream.1.as_str()), (address.0, &address.1)];
            page.line(name, &labels, pick(&server.counts) as f64);
        }
    }
    page.family("server_duration_seconds", "histogram", "From an attempt to the head of its answer.");
    for server in servers {
        let [upstream, address] = labels(server);
        let labels = [(upstream.0, upstream.1.as_str()), (address.0, &address.1)];
        page.histogram("server_duration_seconds", &labels, &server.counts.took);
    }
}

/// The text so far.
#[derive(Default)]
struct Page(String);

impl Page {
    fn family(&mut self, name: &str, kind: &str, help: &str) {
        self.put(format_args!("# HELP {PREFIX}{name} {help}\n# TYPE {PREFIX}{name} {kind}\n"));
    }

    fn line(&mut self, name: &str, labels: &[(&str, &str)], value: f64) {
        self.put(format_args!("{PREFIX}{name}"));
        for (index, (label, text)) in labels.iter().enumerate() {
            self.put(format_args!("{}{label}=\"", if index == 0 { '{' } else { ',' }));
            for c in text.chars() {
                match c {
                    '\\' => self.0.push_str("\\\\"),
                    '"' => self.0.push_str("\\\""),
                    '\n' => self.0.push_str("\\n"),
                    c => self.0.push(c),
                }
            }
            self.0.push('"');
        }
        let end = if labels.is_empty() { "" } else { "}" };
        self.put(format_args!("{end} {value}\n"));
    }

    fn histogram(&mut self, name: &str, labels: &[(&str, &str)], took: &Durations) {
        for (edge, count) in took.cumulative() {
            let edge = if edge.is_finite() { edge.to_string() } else { "+Inf".to_owned() };
            let labels = [labels, &[("le", edge.as_str())]].concat();
            self.line(&format!("{name}_bucket"), &labels, count as f64);
        }
        self.line(&format!("{name}_sum"), labels, took.sum_seconds());
        self.line(&format!("{name}_count"), labels, took.count() as f64);
    }

    fn put(&mut self, text: std::fmt::Arguments<'_>) {
        self.0.write_fmt(text).expect("a string takes any text");
    }
}

/// In front of every name.
const PREFIX: &str = "weaprous_proxy_";

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::super::Metrics;
    use super::*;
    use crate::metrics::State;

    #[test]
    fn every_line_is_a_comment_or_a_name_labels_and_a_number() {
        let metrics = Metrics::new();
        let (route, server) = (metrics.route("r"), metrics.server("u", "s"));
        route.cells.mine().ended(204, Some(Duration::from_millis(2)));
        server.cells.mine().attempts.up();
        let status = Status {
            routes: vec![route.counts("app \"quoted\"\\\n/api")],
            servers: vec![ServerStatus {
                upstream: "app".to_owned(),
                server: "127.0.0.1:9000".to_owned(),
                state: State::Draining,
                counts: server.counts(),
            }],
            version: "1".to_owned(),
            requests: 9,
            passed: 7,
            unrouted: 1,
            ..Status::default()
        };
        let text = write(&status);
        for line in text.lines().filter(|line| !line.starts_with('#')) {
            let (name, value) = line.rsplit_once(' ').expect("a value stands at the end");
            assert!(name.starts_with(PREFIX), "{line}");
            assert!(value.parse::<f64>().is_ok(), "{line}");
        }
        for expect in [
            "weaprous_proxy_requests_total 9",
            "weaprous_proxy_passed_total 7",
            "weaprous_proxy_unrouted_total 1",
            r#"weaprous_proxy_route_requests_total{route="app \"quoted\"\\\n/api",class="2xx"} 1"#,
            r#"weaprous_proxy_route_duration_seconds_bucket{route="app \"quoted\"\\\n/api",le="0.0025"} 1"#,
            r#"weaprous_proxy_route_duration_seconds_bucket{route="app \"quoted\"\\\n/api",le="+Inf"} 1"#,
            r#"weaprous_proxy_route_duration_seconds_sum{route="app \"quoted\"\\\n/api"} 0.002"#,
            r#"weaprous_proxy_server_state{upstream="app",server="127.0.0.1:9000",state="draining"} 1"#,
            r#"weaprous_proxy_server_state{upstream="app",server="127.0.0.1:9000",state="up"} 0"#,
            "# TYPE weaprous_proxy_server_duration_seconds histogram",
        ] {
            assert!(text.lines().any(|line| line == expect), "{expect} is not in\n{text}");
        }
    }
}
