//! `upstream` blocks over real sockets: who is chosen, who is left out, who waits.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};

use engine::{Request, Response, Running, StatusCode};
use testkit::RawResponse;

use crate::harness::*;

/// A proxy with one upstream of these lines, `{0}`, `{1}` … being addresses.
fn front_of(lines: &str, servers: &[std::net::SocketAddr]) -> Front {
    let mut lines = lines.to_owned();
    for (index, server) in servers.iter().enumerate() {
        lines = lines.replace(&format!("{{{index}}}"), &server.to_string());
    }
    front(&format!("upstream app {{ {lines} }} host default {{ proxy_pass http://app; }}"))
}

fn seen(front: &Front, count: usize) -> String {
    (0..count).map(|_| front.get("a").text().to_owned()).collect()
}

fn ask_with(front: &Front, field: &str) -> RawResponse {
    front.ask(&format!("GET / HTTP/1.1\r\nHost: a\r\n{field}\r\n\r\n"))
}

#[test]
fn weights_share_out_smoothly() {
    let (a, b) = (named("a"), named("b"));
    let front = front_of("server {0} weight=3; server {1};", &[address(&a), address(&b)]);
    assert_eq!(seen(&front, 8), "aabaaaba");
}

#[test]
fn a_backup_waits_for_its_time() {
    let doomed = named("a");
    let place = address(&doomed);
    let b = named("b");
    let front = front_of("server {0}; server {1} backup;", &[place, address(&b)]);
    assert_eq!(seen(&front, 3), "aaa");
    drop(doomed);
    assert_eq!(seen(&front, 3), "bbb");
    let _back = upstream_at(place, || |_: Request| async { Response::text(StatusCode::OK, "a") });
    eventually("the first choice is found again", || front.get("a").text() == "a");
}

/// An upstream that holds requests until it is told to let them go.
fn holding(count: &Arc<AtomicUsize>, gate: &Arc<AtomicBool>) -> Running {
    let (count, gate) = (Arc::clone(count), Arc::clone(gate));
    upstream(move || {
        let (count, gate) = (Arc::clone(&count), Arc::clone(&gate));
        move |_: Request| {
            let (count, gate) = (Arc::clone(&count), Arc::clone(&gate));
            async move {
                count.fetch_add(1, SeqCst);
                while !gate.load(SeqCst) {
                    tokio::task::yield_now().await;
                }
                Response::text(StatusCode::OK, "held")
            }
        }
    })
}

#[test]
fn no_more_than_max_conns_and_the_rest_waits_or_is_refused() {
    let (count, gate) = (Arc::default(), Arc::default());
    let held = holding(&count, &gate);
    let front = front_of("server {0} max_conns=2; queue 1 wait=60s;", &[address(&held)]);
    let mut clients: Vec<_> = (0..2).map(|_| front.connect()).collect();
    for client in &mut clients {
        client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    }
    eventually("two are at work", || count.load(SeqCst) == 2);
    let mut waiting = front.connect();
    waiting.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    // The third waits; as soon as it does, a fourth is refused.
    let mut refused = None;
    eventually("the queue is full", || {
        let mut fourth = front.connect();
        fourth.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
        if front.counts().unavailable > 0 {
            refused = Some(fourth.read_response());
        } else {
            clients.push(fourth);
        }
        refused.is_some()
    });
    assert_eq!(count.load(SeqCst), 2, "nobody came through");
    assert_eq!(front.counts().upstreams[0].in_flight, 2);
    gate.store(true, SeqCst);
    let first: Vec<u16> = clients.iter_mut().take(2).map(|client| client.read_response().status).collect();
    assert_eq!(first, [200, 200]);
    eventually("all is given back", || front.counts().upstreams[0].in_flight == 0);
}

#[test]
fn without_a_queue_the_busy_upstream_is_503_at_once() {
    let (count, gate) = (Arc::default(), Arc::default());
    let held = holding(&count, &gate);
    let front = front_of("server {0} max_conns=1;", &[address(&held)]);
    let mut client = front.connect();
    client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    eventually("one is at work", || count.load(SeqCst) == 1);
    let refused = front.get("a");
    assert_eq!((refused.status, refused.field("retry-after")), (503, Some("1")));
    assert!(refused.text().contains("busy"), "{}", refused.text());
    gate.store(true, SeqCst);
    assert_eq!(client.read_response().status, 200);
    assert_eq!(front.get("a").status, 200);
}

#[test]
fn the_least_busy_is_chosen() {
    let (count, gate) = (Arc::default(), Arc::default());
    let (held, free) = (holding(&count, &gate), named("free"));
    let front = front_of("server {0}; server {1}; dist_policy least-conn;", &[address(&held), address(&free)]);
    let mut client = front.connect();
    // The turn may begin at either; the one that is held keeps its request.
    while count.load(SeqCst) == 0 {
        client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
        eventually("it has arrived somewhere", || {
            front.counts().upstreams.iter().any(|upstream| upstream.requests > 0)
        });
        if front.counts().upstreams[0].requests > 0 {
            eventually("it is held", || count.load(SeqCst) == 1);
        } else {
            client.read_response();
        }
    }
    assert_eq!(seen(&front, 5), "free".repeat(5));
    gate.store(true, SeqCst);
}

#[test]
fn equal_keys_meet_the_same_backend_and_others_stay_when_one_leaves() {
    let (a, b) = (named("a"), named("b"));
    let doomed = named("c");
    let servers = [address(&a), address(&b), address(&doomed)];
    let lines = "server {0}; server {1}; server {2}; dist_policy hash header X-User;";
    let front = front_of(lines, &servers);
    let ask = |user: usize| ask_with(&front, &format!("X-User: user{user}")).text().to_owned();
    let before: Vec<String> = (0..40).map(ask).collect();
    assert_eq!((0..40).map(ask).collect::<Vec<_>>(), before);
    let mut shares: BTreeMap<&str, usize> = BTreeMap::new();
    for owner in &before {
        *shares.entry(owner).or_default() += 1;
    }
    assert!(shares.len() == 3 && shares.values().all(|share| *share >= 3), "{shares:?}");
    drop(doomed);
    for (user, owner) in before.iter().enumerate() {
        let now = ask(user);
        assert!(now == *owner || owner == "c", "user{user} moved from {owner} to {now}");
    }
}

#[test]
fn a_cookie_keeps_a_client_at_its_backend_until_that_is_gone() {
    let a = named("a");
    let doomed = named("b");
    let front = front_of("server {0}; server {1}; dist_policy sticky route;", &[address(&a), address(&doomed)]);
    let mut cookies = BTreeMap::new();
    for _ in 0..2 {
        let response = front.get("x");
        let cookie = response.field("set-cookie").expect("the first answer ties").to_owned();
        assert!(cookie.ends_with("; Path=/; HttpOnly; SameSite=Lax"), "{cookie}");
        cookies.insert(response.text().to_owned(), cookie.split(';').next().unwrap().to_owned());
    }
    assert_eq!(cookies.keys().map(String::as_str).collect::<Vec<_>>(), ["a", "b"]);
    for (name, cookie) in &cookies {
        for _ in 0..3 {
            let response = ask_with(&front, &format!("Cookie: x=y; {cookie}"));
            assert_eq!((response.text(), response.field("set-cookie")), (name.as_str(), None));
        }
    }
    drop(doomed);
    let failed_over = ask_with(&front, &format!("Cookie: {}", cookies["b"]));
    assert_eq!(failed_over.text(), "a");
    assert!(failed_over.field("set-cookie").is_some_and(|cookie| cookie.starts_with(&cookies["a"])));
}

#[test]
fn names_are_looked_up() {
    let a = named("a");
    let port = address(&a).port();
    let front = front(&format!(
        "upstream app {{ server localtest:{port}; server localhost.:{port}; }} host default {{ proxy_pass http://app; }}"
    ));
    // `localhost.` with its dot is a name like any other to the resolver; `localtest` is unknown and does no harm.
    eventually("the name is found", || front.get("x").text() == "a");
    assert!(front.counts().upstreams.iter().any(|upstream| upstream.address == address(&a)));
}

#[test]
fn an_upstream_that_fails_its_checks_gets_nothing_until_it_passes_them() {
    let well = Arc::new(AtomicBool::new(false));
    let is_well = Arc::clone(&well);
    let sick = upstream(move || {
        let is_well = Arc::clone(&is_well);
        move |request: Request| {
            let status = match (request.head.path(), is_well.load(SeqCst)) {
                ("/healthz", false) => StatusCode::INTERNAL_SERVER_ERROR,
                _ => StatusCode::OK,
            };
            async move { Response::text(status, "sick") }
        }
    });
    let good = named("good");
    let front = front_of(
        "server {0}; server {1}; health_check /healthz interval=10ms rise=2 fall=2;",
        &[address(&sick), address(&good)],
    );
    eventually("the sick one is out", || !front.counts().upstreams[0].up);
    assert_eq!(seen(&front, 4), "good".repeat(4));
    well.store(true, SeqCst);
    eventually("it is well again", || front.counts().upstreams[0].up);
    assert!(seen(&front, 2).contains("sick"));
}

#[test]
fn when_all_fail_their_checks_clients_are_told_when_to_come_back() {
    let front = front_of("server {0}; health_check / interval=10ms fall=1 rise=1;", &[dead_address()]);
    eventually("it is out", || !front.counts().upstreams[0].up);
    let response = front.get("a");
    assert_eq!((response.status, response.field("retry-after")), (503, Some("1")));
    assert!(response.text().contains("No upstream of default is well"), "{}", response.text());
    assert_eq!(front.counts().upstreams[0].requests, 0, "it was not even asked");
}

#[test]
fn one_that_never_answers_is_left_out_after_some_failures() {
    let silent = hostile(|_, mut wire| {
        wire.rest();
    });
    let good = named("good");
    let front = front(&format!(
        "upstream app {{ server {}; server {}; ejection failures=2 pause=60s pause_max=60s; }}\n\
         host default {{ proxy_pass http://app; response_timeout 20ms; }}",
        silent.address(),
        address(&good)
    ));
    let statuses: Vec<u16> = (0..12).map(|_| front.get("a").status).collect();
    assert_eq!(statuses.iter().filter(|status| **status == 504).count(), 2, "{statuses:?}");
    assert_eq!(statuses[4..], [200; 8], "{statuses:?}");
}

#[test]
fn sticky_cookies_outlive_a_proxy_that_has_their_secret_in_a_file() {
    let folder = tempfile::tempdir().unwrap();
    let key = folder.path().join("sticky.key");
    std::fs::write(&key, [42; 32]).unwrap();
    let backends = [named("one"), named("two"), named("three")];
    let servers: Vec<String> = backends.iter().map(|backend| format!("server {};", address(backend))).collect();
    let config = format!(
        "sticky_key {}; upstream app {{ {} dist_policy sticky route; }} host default {{ proxy_pass http://app; }}",
        key.display(),
        servers.join(" ")
    );
    let first = front(&config).get("a");
    let cookie = first.field("set-cookie").unwrap().split(';').next().unwrap().to_owned();
    for _ in 0..2 {
        let restarted = front(&config);
        for _ in 0..4 {
            let again = restarted.ask(&format!("GET / HTTP/1.1\r\nHost: a\r\nCookie: {cookie}\r\n\r\n"));
            assert_eq!(again.text(), first.text());
        }
    }
}

#[test]
fn the_program_that_decides_is_asked_over_one_connection() {
    let connections = std::sync::Arc::new(std::sync::atomic::AtomicUsize::new(0));
    let count = std::sync::Arc::clone(&connections);
    let decider = hostile(move |_, mut wire| {
        count.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
        while wire.try_head().is_some() {
            wire.send("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n");
        }
    });
    let front =
        front(&format!("host default {{ forward_auth http://{}/verify; respond 200 \"in\"; }}", decider.address()));
    for _ in 0..5 {
        assert_eq!(front.get("a").text(), "in");
    }
    assert_eq!(connections.load(std::sync::atomic::Ordering::SeqCst), 1);
}
