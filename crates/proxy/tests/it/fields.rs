//! Fields on their way through: rows H8 and H12 to H15 of the conformance table, over real sockets.

use crate::harness::*;

/// The lines an upstream saw after the client sent these fields.
fn seen(front: &Front, fields: &str) -> Vec<String> {
    let response = front.ask(&format!("GET / HTTP/1.1\r\nHost: app.local:8080\r\n{fields}\r\n"));
    assert_eq!(response.status, 200, "{}", response.text());
    response.text().lines().skip(1).map(str::to_owned).filter(|line| !line.is_empty()).collect()
}

fn value<'a>(lines: &'a [String], name: &str) -> Vec<&'a str> {
    lines.iter().filter_map(|line| line.strip_prefix(name)?.strip_prefix(": ")).collect()
}

#[test]
fn h12_connection_takes_away_what_it_lists_but_not_what_the_proxy_sets() {
    let mirror = mirror();
    let front = front_for(&[address(&mirror)]);
    let lines = seen(&front, "Connection: X-Secret, X-Forwarded-For, Host, Via\r\nX-Secret: 1\r\nX-Open: 2\r\n");
    assert!(value(&lines, "x-secret").is_empty(), "{lines:?}");
    assert_eq!(value(&lines, "x-open"), ["2"]);
    assert_eq!(value(&lines, "host"), ["app.local:8080"]);
    assert_eq!(value(&lines, "x-forwarded-for"), ["127.0.0.1"]);
    assert_eq!(value(&lines, "via").len(), 1);
}

#[test]
fn h13_fields_of_one_connection_end_at_the_proxy() {
    let mirror = mirror();
    let front = front_for(&[address(&mirror)]);
    let lines = seen(
        &front,
        "Keep-Alive: 5\r\nProxy-Connection: keep-alive\r\nTE: gzip\r\nTrailer: X\r\nUpgrade: x\r\n\
         Proxy-Authorization: Basic eDp5\r\nA: 1\r\n",
    );
    let names: Vec<&str> = lines.iter().filter_map(|line| Some(line.split_once(':')?.0)).collect();
    assert_eq!(names, ["host", "a", "x-forwarded-for", "x-forwarded-proto", "x-forwarded-host", "via", "x-request-id"]);
}

#[test]
fn h13_response_fields_of_one_connection_end_at_the_proxy() {
    let bad = answering(
        "HTTP/1.1 200 OK\r\nConnection: X-Hop\r\nX-Hop: 1\r\nKeep-Alive: timeout=5\r\nProxy-Authenticate: x\r\n\
         Upgrade: h2c\r\nContent-Length: 2\r\nSet-Cookie: a\r\nSet-Cookie: b\r\n\r\nok",
        false,
    );
    let front = front_for(&[bad.address()]);
    let response = front.get("x");
    assert_eq!(response.text(), "ok");
    let mut names: Vec<String> = response.fields.iter().map(|(name, _)| name.to_ascii_lowercase()).collect();
    names.retain(|name| name != "date");
    names.sort();
    assert_eq!(names, ["content-length", "set-cookie", "set-cookie", "x-request-id"]);
}

#[test]
fn a_request_has_one_name_on_all_its_way() {
    let mirror = mirror();
    let ask = |front: &Front, fields: &str| {
        let response = front.ask(&format!("GET / HTTP/1.1\r\nHost: a\r\n{fields}\r\n"));
        let passed_on =
            response.text().lines().find_map(|line| line.strip_prefix("x-request-id: ")).unwrap().to_owned();
        assert_eq!(response.fields_named("x-request-id").collect::<Vec<_>>(), [passed_on.as_str()]);
        passed_on
    };
    let strict = front_for(&[address(&mirror)]);
    let (first, second) = (ask(&strict, ""), ask(&strict, "X-Request-Id: forged\r\n"));
    assert!(first != second && second != "forged", "{first} {second}");
    let trusting = front(&format!("trusted_proxy 127.0.0.0/8;\n{}", everything_to(&[address(&mirror)], "")));
    assert_eq!(ask(&trusting, "X-Request-Id: from-the-front\r\n"), "from-the-front");
    assert_ne!(ask(&trusting, "X-Request-Id: two words\r\n"), "two words");
}

#[test]
fn h14_a_client_cannot_say_who_it_is() {
    let mirror = mirror();
    let front = front_for(&[address(&mirror)]);
    let lines = seen(
        &front,
        "X-Forwarded-For: 6.6.6.6\r\nX-Forwarded-Proto: https\r\nX-Forwarded-Host: evil\r\nX-Real-IP: 6.6.6.6\r\n\
         Forwarded: for=6.6.6.6\r\n",
    );
    assert_eq!(value(&lines, "x-forwarded-for"), ["127.0.0.1"]);
    assert_eq!(value(&lines, "x-forwarded-proto"), ["http"]);
    assert_eq!(value(&lines, "x-forwarded-host"), ["app.local:8080"]);
    assert!(value(&lines, "x-real-ip").is_empty() && value(&lines, "forwarded").is_empty(), "{lines:?}");
}

#[test]
fn h14_a_trusted_peer_can() {
    let mirror = mirror();
    let front = front(&format!("trusted_proxy 127.0.0.0/8;\n{}", everything_to(&[address(&mirror)], "")));
    let lines = seen(&front, "X-Forwarded-For: 6.6.6.6\r\nX-Forwarded-Proto: https\r\nX-Forwarded-Host: outer\r\n");
    assert_eq!(value(&lines, "x-forwarded-for"), ["6.6.6.6, 127.0.0.1"]);
    assert_eq!(value(&lines, "x-forwarded-proto"), ["https"]);
    assert_eq!(value(&lines, "x-forwarded-host"), ["outer"]);
}

#[test]
fn h8_names_that_turn_into_others_are_dropped() {
    let mirror = mirror();
    let front = front_for(&[address(&mirror)]);
    let lines = seen(&front, "Content_Length: 5\r\nTransfer_Encoding: chunked\r\nProxy: http://evil\r\nX-Ok.x: 1\r\n");
    assert!(!lines.iter().any(|line| line.contains('_') || line.starts_with("proxy:")), "{lines:?}");
    assert_eq!(value(&lines, "x-ok.x"), ["1"]);
}

#[test]
fn the_operators_fields_arrive() {
    let mirror = mirror();
    let more = "proxy_set_header Host inner.local; proxy_set_header X-Client \"$remote_addr over $scheme to $host\";\n\
                proxy_set_header Cookie \"\";";
    let front = front(&everything_to(&[address(&mirror)], more));
    let lines = seen(&front, "Cookie: a=b\r\nX-Client: forged\r\n");
    assert_eq!(value(&lines, "host"), ["inner.local"]);
    assert_eq!(value(&lines, "x-client"), ["127.0.0.1 over http to app.local:8080"]);
    assert!(value(&lines, "cookie").is_empty());
}

#[test]
fn h15_a_loop_is_found_at_its_second_turn() {
    let mirror = mirror();
    let outer = front_for(&[address(&mirror)]);
    let via = value(&seen(&outer, "Via: 1.0 front\r\n"), "via").join(", ");
    assert!(via.starts_with("1.0 front, 1.1 weaprous"), "{via}");
    // The upstream sends the request back, as a proxy_pass to oneself would.
    let back = outer.ask(&format!("GET / HTTP/1.1\r\nHost: x\r\nVia: {via}\r\n\r\n"));
    assert_eq!(back.status, 508);
    // Another proxy behind this one is no loop.
    let chained = front_for(&[outer.address()]);
    assert_eq!(chained.get("x").status, 200);
}

#[test]
fn h15_max_forwards_ends_or_counts_down() {
    let mirror = mirror();
    let front = front_for(&[address(&mirror)]);
    let ask = |method: &str, hops: &str| {
        front.ask(&format!("{method} / HTTP/1.1\r\nHost: x\r\nMax-Forwards: {hops}\r\n\r\n"))
    };
    let over = ask("OPTIONS", "0");
    assert_eq!(over.status, 204);
    assert!(over.field("allow").unwrap().contains("OPTIONS"));
    assert_eq!(front.counts().upstreams[0].requests, 0);
    assert!(ask("OPTIONS", "2").text().contains("\nmax-forwards: 1\n"));
    assert!(ask("GET", "0").text().contains("\nmax-forwards: 0\n"), "it does not concern GET");
}
