//! Which upstream gets a request, and what the client sees when none does.

use std::collections::BTreeMap;

use crate::harness::*;

#[test]
fn host_and_path_decide() {
    let (page, api, other) = (named("page"), named("api"), named("other"));
    let front = front(&format!(
        "host \"app.local:8080\" {{ proxy_pass http://{}; location /api/ {{ proxy_pass http://{}; }} }}\n\
         host default {{ proxy_pass http://{}; }}",
        address(&page),
        address(&api),
        address(&other),
    ));
    let check = |target: &str, host: &str, expect: &str| {
        let response = front.ask(&format!("GET {target} HTTP/1.1\r\nHost: {host}\r\n\r\n"));
        assert_eq!(response.text(), expect, "{target} {host}");
    };
    check("/", "app.local:8080", "page");
    check("/api/x?y", "APP.local:8080", "api");
    check("/api", "app.local:8080", "page");
    check("/api/x", "app.local:81", "other");
    check("/", "elsewhere", "other");
}

#[test]
fn an_absolute_target_wins_over_host() {
    let mirror = mirror();
    let front = front(&format!("host a.local {{ proxy_pass http://{}; }}", address(&mirror)));
    let check = |request: &str, first_line: &str| {
        let response = front.ask(request);
        let text = response.text();
        assert_eq!(text.lines().next(), Some(first_line));
        assert!(text.to_lowercase().contains("\nhost: a.local\n"), "{text}");
        assert_eq!(text.matches("\nhost:").count(), 1, "{text}");
    };
    check("GET http://a.local/x?y=%20 HTTP/1.1\r\nHost: a.local\r\n\r\n", "GET /x?y=%20");
    check("GET http://a.local HTTP/1.1\r\nHost: a.local\r\n\r\n", "GET /");
    check("GET http://A.local/x HTTP/1.1\r\nHost: other.local\r\n\r\n", "GET /x");
    check("OPTIONS http://a.local HTTP/1.1\r\nHost: a.local\r\n\r\n", "OPTIONS *");
    check("OPTIONS * HTTP/1.1\r\nHost: a.local\r\n\r\n", "OPTIONS *");
    check("GET /a%2Fb/../c?d=//e HTTP/1.1\r\nHost: a.local\r\n\r\n", "GET /a%2Fb/../c?d=//e");
}

#[test]
fn an_unknown_host_is_told_how_to_become_known() {
    let front = front("host a { location /x { proxy_pass http://127.0.0.1:9; } }");
    let json = front.get("nobody.local:81");
    assert_eq!(json.status, 404);
    assert_eq!(json.field("content-type"), Some("application/problem+json"));
    assert!(json.text().contains("“nobody.local:81”"), "{}", json.text());
    assert!(json.text().contains("host \\\"nobody.local:81\\\" {"), "{}", json.text());

    let html = front.ask("GET / HTTP/1.1\r\nHost: nobody.local\r\nAccept: text/html,*/*;q=0.8\r\n\r\n");
    assert_eq!(html.status, 404);
    assert_eq!(html.field("content-type"), Some("text/html; charset=utf-8"));
    assert!(html.text().contains("host &quot;nobody.local&quot; {"), "{}", html.text());

    let path = front.get("a");
    assert_eq!(path.status, 404);
    assert!(path.text().contains("this path of “a”"), "{}", path.text());

    let hostless = front.ask("GET / HTTP/1.0\r\n\r\n");
    assert_eq!(hostless.status, 404);
    assert!(hostless.text().contains("names no host"), "{}", hostless.text());
    assert_eq!(front.counts().unrouted, 4);

    let head = front.ask("HEAD / HTTP/1.1\r\nHost: nobody.local:81\r\n\r\n");
    assert_eq!((head.status, head.body.len()), (404, 0));
    assert_eq!(head.field("content-length"), json.field("content-length"));
}

#[test]
fn two_backends_take_turns_on_one_connection_and_on_many() {
    let (a, b) = (named("a"), named("b"));
    let front = front_for(&[address(&a), address(&b)]);
    let mut client = front.connect();
    let mut seen = String::new();
    for _ in 0..4 {
        client.send("GET / HTTP/1.1\r\nHost: x\r\n\r\n");
        seen.push_str(client.read_response().text());
    }
    for _ in 0..4 {
        seen.push_str(front.get("x").text());
    }
    assert_eq!(seen, "abababab");
    let counts = front.counts();
    assert_eq!(counts.requests, 8);
    assert_eq!(counts.upstreams.iter().map(|upstream| upstream.requests).collect::<Vec<_>>(), [4, 4]);
}

#[test]
fn turns_hold_across_workers_and_belong_to_a_location() {
    let (a, b) = (named("a"), named("b"));
    let (first, second) = (address(&a), address(&b));
    let pass = format!("proxy_pass http://{first}; proxy_pass http://{second}; dist_policy round-robin");
    let settings = engine::Settings { workers: Some(3), ..engine::Settings::default() };
    let front = front_with(&format!("host default {{ {pass} location /own {{ {pass} }} }}"), settings);
    let mut counts: BTreeMap<String, usize> = BTreeMap::new();
    for _ in 0..10 {
        *counts.entry(front.get("x").text().to_owned()).or_default() += 1;
        // A location of its own has turns of its own: it always meets the same backend first.
    }
    assert_eq!(counts, BTreeMap::from([("a".to_owned(), 5), ("b".to_owned(), 5)]));
    let own = front.ask("GET /own HTTP/1.1\r\nHost: x\r\n\r\n");
    front.get("x");
    let next = front.ask("GET /own HTTP/1.1\r\nHost: x\r\n\r\n");
    assert_eq!((own.text(), next.text()), ("a", "b"));
}

#[test]
fn pipelined_requests_are_answered_in_order() {
    let (a, b) = (named("a"), named("b"));
    let front = front(&format!(
        "host a {{ proxy_pass http://{}; }} host b {{ proxy_pass http://{}; }}",
        address(&a),
        address(&b)
    ));
    let mut client = front.connect();
    client.send("GET / HTTP/1.1\r\nHost: b\r\n\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\nGET / HTTP/1.1\r\nHost: c\r\n\r\n");
    assert_eq!(client.read_response().text(), "b");
    assert_eq!(client.read_response().text(), "a");
    assert_eq!(client.read_response().status, 404);
}

#[test]
fn tracing_and_tunnels_to_anywhere_are_refused() {
    let mirror = mirror();
    let front = front_for(&[address(&mirror)]);
    let trace = front.ask("TRACE / HTTP/1.1\r\nHost: x\r\nCookie: secret\r\n\r\n");
    assert_eq!(trace.status, 405);
    assert!(!trace.text().contains("secret"));
    assert!(matches!(front.ask("CONNECT a.local:443 HTTP/1.1\r\nHost: a.local:443\r\n\r\n").status, 405 | 501));
    assert_eq!(front.counts().upstreams[0].requests, 0);
}
