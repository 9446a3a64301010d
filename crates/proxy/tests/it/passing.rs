//! Plain requests go a shorter way than others. What reaches the upstream and the client is the same: each test asks by
//! both ways and compares.

use std::io::Read;
use std::sync::Barrier;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};

use bytes::BytesMut;
use http1::{Event, Limits, Method, ResponseDecoder};
use proxy::State;
use testkit::RawClient;
use testkit::corpus::{Role, corpus};

use crate::harness::*;

/// Two proxies of which the second passes nothing on by the shorter way, for a timeout that never matters.
fn both_ways(upstreams: &[std::net::SocketAddr], more: &str) -> [Front; 2] {
    [front(&everything_to(upstreams, more)), front(&everything_to(upstreams, &format!("{more} try_timeout 30s;")))]
}

/// A small generator: what matters is that a seed gives the same again.
struct Random(u64);

impl Random {
    fn below(&mut self, end: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) as usize % end
    }

    fn one_of<'a>(&mut self, all: &[&'a str]) -> &'a str {
        all[self.below(all.len())]
    }
}

const NAMES: [&str; 30] = [
    "Accept",
    "accept-encoding",
    "User-Agent",
    "Cookie",
    "X-A",
    "x-b",
    "Referer",
    "If-None-Match",
    "Range",
    "Date",
    "Connection",
    "Keep-Alive",
    "TE",
    "Trailer",
    "Upgrade",
    "Proxy-Connection",
    "Proxy-Authorization",
    "Proxy",
    "X-Forwarded-For",
    "x-forwarded-proto",
    "X-Forwarded-Host",
    "Forwarded",
    "X-Real-IP",
    "Via",
    "X-Request-Id",
    "Max-Forwards",
    "Expect-CT",
    "under_score",
    "HTTP2-Settings",
    "X-Forwarded-Port",
];

const VALUES: [&str; 14] = [
    "1",
    "a, b",
    "close",
    "keep-alive",
    "Keep-Alive, X-A",
    "x-b, cookie",
    "trailers",
    "websocket",
    "gzip;q=0.5",
    "203.0.113.9",
    "1.1 other",
    "a=b; c=d",
    "\t spaced \t",
    "\u{e9}t\u{e9}",
];

fn random_request(random: &mut Random) -> String {
    let method = random.one_of(&["GET", "GET", "GET", "GET", "HEAD", "DELETE", "OPTIONS"]);
    let target = random.one_of(&["/", "/a?b=c", "/a/../b", "/%41;x", "http://app.local/absolute", "/very/long/path?q"]);
    let version = random.one_of(&["1.1", "1.1", "1.1", "1.1", "1.0"]);
    let mut text = format!("{method} {target} HTTP/{version}\r\nHost: app.local:8080\r\n");
    for _ in 0..random.below(8) {
        let colon = random.one_of(&[": ", ":", ":  "]);
        text.extend([random.one_of(&NAMES), colon, random.one_of(&VALUES), "\r\n"]);
    }
    text + "\r\n"
}

/// What a client and, by the mirror's answer, the upstream have seen, without what differs from one request and one
/// proxy to the next.
fn shown(front: &Front, request: &str) -> Vec<String> {
    let mut client = front.connect();
    client.send(request);
    let response = client.read_response_to(request.split(' ').next().unwrap());
    let fields = response.fields.iter().map(|(name, value)| format!("{name}: {value}"));
    let mut lines: Vec<String> = fields.chain(response.text().lines().map(str::to_owned)).collect();
    lines.retain(|line| !line.to_ascii_lowercase().starts_with("date: ") && !line.starts_with("x-request-id: "));
    for line in &mut lines {
        if let Some(at) = line.find("weaprous-") {
            line.replace_range(at..at + "weaprous-01234567".len(), "us");
        }
    }
    lines.insert(0, response.status.to_string());
    lines
}

#[test]
fn requests_look_the_same_by_both_ways() {
    let mirror = mirror();
    let fronts = both_ways(&[address(&mirror)], "");
    for front in &fronts {
        front.get("warm");
    }
    let passed_before = fronts[0].counts().passed;
    let mut random = Random(testkit::seed());
    for _ in 0..400 {
        let request = random_request(&mut random);
        let [short, long] = [shown(&fronts[0], &request), shown(&fronts[1], &request)];
        assert_eq!(short, long, "{request}");
    }
    let passed = fronts[0].counts().passed - passed_before;
    assert!(passed > 20, "{passed} of 400 went the shorter way");
    assert_eq!(fronts[1].counts().passed, 0);
}

/// Those that a proxy answers itself, counts down, or must not send twice.
#[test]
fn other_methods_look_the_same_by_both_ways() {
    let mirror = mirror();
    let fronts = both_ways(&[address(&mirror)], "");
    for front in &fronts {
        front.get("warm");
    }
    for (line, fields) in [
        ("OPTIONS / HTTP/1.1", "Max-Forwards: 0\r\n"),
        ("OPTIONS / HTTP/1.1", "Max-Forwards: 2\r\n"),
        ("TRACE / HTTP/1.1", ""),
        ("POST / HTTP/1.1", "Content-Length: 0\r\n"),
        ("DELETE / HTTP/1.1", ""),
        ("GET http://app.local/a HTTP/1.1", ""),
        ("GET / HTTP/1.1", "Connection: upgrade\r\nUpgrade: x/1\r\n"),
        ("GET / HTTP/1.1", ""),
    ] {
        for host in ["app.local", ""] {
            let request = format!("{line}\r\nHost: {host}\r\n{fields}\r\n");
            let [short, long] = [shown(&fronts[0], &request), shown(&fronts[1], &request)];
            assert_eq!(short, long, "{request}");
        }
    }
}

/// What a trusted proxy says of its client is kept by both ways.
#[test]
fn requests_of_a_trusted_proxy_look_the_same_by_both_ways() {
    let mirror = mirror();
    let fronts = ["", "try_timeout 30s;"]
        .map(|more| front(&format!("trusted_proxy 127.0.0.0/8; {}", everything_to(&[address(&mirror)], more))));
    for front in &fronts {
        front.get("warm");
    }
    let request = "GET / HTTP/1.1\r\nHost: h\r\nX-Forwarded-For: 203.0.113.9\r\nX-Forwarded-Proto: https\r\n\r\n";
    let [short, long] = [shown(&fronts[0], request), shown(&fronts[1], request)];
    assert_eq!(short, long);
    assert!(short.iter().any(|line| line.contains("203.0.113.9")), "{short:?}");
}

/// An answer has one id, that of this proxy, whatever its upstream says.
#[test]
fn an_upstream_names_no_request_by_either_way() {
    let upstream = answering("HTTP/1.1 200 OK\r\nX-Request-Id: theirs\r\nContent-Length: 2\r\n\r\nok", false);
    for front in both_ways(&[upstream.address()], "") {
        for _ in 0..2 {
            let response = front.get("h");
            let is_id = |name: &str| name.eq_ignore_ascii_case("x-request-id");
            let ids: Vec<_> =
                response.fields.iter().filter(|(name, _)| is_id(name)).map(|(_, id)| id.clone()).collect();
            assert!(matches!(&ids[..], [id] if id.len() == 32), "{ids:?}");
        }
    }
}

/// What a client makes of the bytes it gets.
#[derive(Debug, PartialEq, Eq)]
enum Seen {
    Whole { status: u16, fields: Vec<String>, content: Vec<u8> },
    Broken { status: u16 },
    Nothing,
}

impl Seen {
    /// Reads until there is a whole response, or the end.
    fn read(client: &RawClient) -> Self {
        let mut decoder = ResponseDecoder::new(Limits::default());
        decoder.expect(Method::Get);
        let (mut input, mut content, mut final_head) = (BytesMut::new(), Vec::new(), None);
        let mut has_ended = false;
        loop {
            let event = match decoder.poll(&mut input) {
                Ok(None) if has_ended => decoder.handle_eof(),
                event => event,
            };
            match event {
                Ok(Some(Event::Head(head))) if head.is_interim() => {}
                Ok(Some(Event::Head(head))) => final_head = Some(head),
                Ok(Some(Event::Data(data))) => content.extend_from_slice(&data),
                Ok(Some(Event::Trailers(_))) => {}
                Ok(Some(Event::End)) => break,
                Ok(None) if !has_ended => {
                    let mut buffer = [0; 4096];
                    let count = client.stream().read(&mut buffer).unwrap_or(0);
                    has_ended = count == 0;
                    input.extend_from_slice(&buffer[..count]);
                }
                Ok(None) | Err(_) => {
                    return final_head.map_or(Self::Nothing, |head| Self::Broken { status: head.status().as_u16() });
                }
            }
        }
        let head = final_head.expect("an end follows a head");
        let is_told = |name: &str| !["date", "x-request-id"].contains(&name.to_ascii_lowercase().as_str());
        let fields = head.fields().iter().filter(|(name, _)| is_told(name));
        let fields = fields.map(|(name, value)| format!("{name}: {}", value.escape_ascii())).collect();
        // The pages of the proxy name the upstream's port.
        let content = if head.status().as_u16() == 502 { Vec::new() } else { content };
        Self::Whole { status: head.status().as_u16(), fields, content }
    }
}

/// What clients see of an upstream that has answered well before, and then says this and perhaps closes.
fn seen_both_ways(input: &[u8], then_close: bool) -> [Seen; 2] {
    asked_both_ways(input, then_close).map(|(seen, _)| seen)
}

/// The same, and how many requests were passed on.
fn asked_both_ways(input: &[u8], then_close: bool) -> [(Seen, u64); 2] {
    let input = input.to_vec();
    let upstream = hostile(move |_, mut wire| {
        let is_well = |answer: &[u8]| answer.starts_with(b"HTTP/1.1 200 OK\r\nContent-Length: 4");
        for answer in [&b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nwarm"[..], &input] {
            if wire.try_head().is_none() || wire.try_send(answer).is_err() || (!is_well(answer) && then_close) {
                return;
            }
        }
        wire.rest();
    });
    both_ways(&[upstream.address()], "response_timeout 6s;").map(|front| {
        assert_eq!(front.get("warm").text(), "warm");
        let mut client = front.connect();
        client.send("GET / HTTP/1.1\r\nHost: h\r\n\r\n");
        (Seen::read(&client), front.counts().passed)
    })
}

#[test]
fn the_shorter_way_is_really_another() {
    let [(_, short), (_, long)] = asked_both_ways(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok", false);
    assert_eq!((short, long), (1, 0));
}

#[test]
fn answers_look_the_same_by_both_ways() {
    for input in [
        "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok",
        "HTTP/1.1 404 Not There\r\nServer: x\r\nSet-Cookie: a\r\nset-cookie: b\r\nContent-Length: 3\r\nX-Request-Id: no\r\n\r\nno!",
        "HTTP/1.1 200 OK\r\nDate: then\r\nConnection: keep-alive\r\nKeep-Alive: timeout=5\r\nContent-Length: 0\r\n\r\n",
        "HTTP/1.1 200 OK\r\nConnection: X-Hop\r\nX-Hop: 1\r\nContent-Length: 2\r\n\r\nok",
        "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nok",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok junk behind it",
        "HTTP/1.1 103 Early Hints\r\nLink: a\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok",
        "HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n",
        "HTTP/1.1 204 No Content\r\n\r\n",
        "HTTP/1.1 304 Not Modified\r\nETag: \"a\"\r\nContent-Length: 5\r\n\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nContent-Length: 10\r\n\r\ndata: a\n\n\n",
        "HTTP/1.1 200 OK\r\nProxy-Authenticate: x\r\nTrailer: a\r\nUpgrade: h2c\r\nTE: a\r\nContent-Length: 0\r\n\r\n",
        "HTTP/1.1 426 Upgrade Required\r\nConnection: upgrade\r\nUpgrade: x/1\r\nContent-Length: 0\r\n\r\n",
        "HTTP/1.1 426 Upgrade Required\r\nUpgrade: x/1\r\nContent-Length: 2\r\n\r\nno",
        "HTTP/1.1 205 Reset Content\r\nContent-Length: 2\r\n\r\nno",
        "HTTP/1.1 204 No Content\r\nContent-Length: 0\r\n\r\n",
        "HTTP/1.0 200 OK\r\nConnection: keep-alive\r\nContent-Length: 2\r\n\r\nok",
        "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 2\r\n\r\nok",
        "HTTP/1.1 200 OK\r\nX-A: a\r\n b\r\nunder_score: 1\r\nEmpty:\r\nContent-Length: 2\r\n\r\nok",
    ] {
        let [short, long] = seen_both_ways(input.as_bytes(), false);
        assert_eq!(short, long, "{input}");
    }
}

#[test]
fn responses_of_the_corpus_look_the_same_by_both_ways() {
    let Some(cases) = corpus() else { return };
    for case in cases.iter().filter(|case| case.role == Role::Client) {
        let [short, long] = seen_both_ways(&case.input, true);
        assert_eq!(short, long, "{}", case.name);
    }
}

/// A request that was passed on is counted and logged like others.
#[test]
fn requests_are_counted_the_same_by_both_ways() {
    let upstream = named("ok");
    let mut passed = Vec::new();
    let counted = both_ways(&[address(&upstream)], "").map(|front| {
        let mut client = front.connect();
        for _ in 0..5 {
            client.send("GET / HTTP/1.1\r\nHost: h\r\n\r\n");
            assert_eq!(client.read_response().text(), "ok");
        }
        drop(client);
        eventually("all are over", || front.status().routes[0].in_flight == 0);
        passed.push(front.counts().passed);
        let status = front.status();
        assert_eq!(status.passed, front.counts().passed);
        let (route, server) = (&status.routes[0], &status.servers[0].counts);
        let counts = (status.requests, route.classes, route.bytes_out, route.took.count(), route.retries);
        (
            counts,
            (server.attempts, server.classes, server.took.count(), server.opened, server.failures, server.in_flight),
        )
    });
    assert_eq!(counted[0], counted[1]);
    assert_eq!(counted[0].0.0, 5);
    assert_eq!(passed, [4, 0], "for the first one there is no connection yet");
}

/// A request that the shorter way does not take is not logged there.
#[test]
fn every_request_is_logged_once() {
    let upstream = named("ok");
    let address = address(&upstream);
    let log = tempfile::NamedTempFile::new().unwrap();
    let front = front(&format!(
        "access_log {} format=json; upstream u {{ server {address}; }} host default {{ proxy_pass http://u; }}",
        log.path().display()
    ));
    for expect in [200, 200, 503] {
        if expect == 503 {
            front.proxy().order("u", address, State::Disabled).unwrap();
        }
        assert_eq!(front.get("h").status, expect);
    }
    assert_eq!(front.counts().passed, 1);
    eventually("all are over", || front.status().routes[0].requests() == 3);
    front.proxy().flush_log();
    let text = std::fs::read_to_string(log.path()).unwrap();
    let status = |line: &str| line.split_once("\"status\":").and_then(|(_, rest)| rest.get(..3)?.parse().ok());
    let logged: Vec<Option<u16>> = text.lines().map(status).collect();
    assert_eq!(logged, [Some(200), Some(200), Some(503)], "{text}");
}

/// Who belongs to one server comes to it by either way.
#[test]
fn what_is_hashed_leads_to_the_same_upstream_by_both_ways() {
    let (a, b, c) = (named("a"), named("b"), named("c"));
    let config = |more: &str| {
        let servers: String = [&a, &b, &c].map(|each| format!("server {}; ", address(each))).concat();
        front(&format!(
            "upstream u {{ {servers} dist_policy hash header X-User; }} host default {{ proxy_pass http://u; {more} }}"
        ))
    };
    let fronts = [config(""), config("try_timeout 30s;")];
    let mut seen = [Vec::new(), Vec::new()];
    for user in (0..20).chain(0..20) {
        for (front, seen) in fronts.iter().zip(&mut seen) {
            seen.push(front.ask(&format!("GET / HTTP/1.1\r\nHost: h\r\nX-User: {user}\r\n\r\n")).text().to_owned());
        }
    }
    assert_eq!(seen[0], seen[1]);
    assert!(["a", "b", "c"].iter().all(|name| seen[0].iter().any(|other| other == name)), "{seen:?}");
    assert_eq!(fronts.map(|front| front.counts().passed), [37, 0], "the first to each has no connection yet");
}

/// Streams of requests from many clients: nobody gets another's answer, whatever way it goes.
#[test]
fn many_clients_at_once_get_their_own_answers() {
    let mirror = mirror();
    let [front, _]: [Front; 2] = both_ways(&[address(&mirror)], "");
    std::thread::scope(|scope| {
        for number in 0..30 {
            let front = &front;
            scope.spawn(move || {
                let mut client = front.connect();
                for request in 0..30 {
                    let target = format!("/{number}/{request}");
                    client.send(format!("GET {target} HTTP/1.1\r\nHost: h\r\n\r\n"));
                    let answer = client.read_response();
                    assert_eq!(answer.text().lines().next(), Some(format!("GET {target}").as_str()));
                }
            });
        }
    });
}

/// An upstream that was ejected is well again when it answers, by whatever way.
#[test]
fn an_answer_by_the_shorter_way_brings_an_ejected_upstream_back() {
    let (asked, both) = (AtomicUsize::new(0), Barrier::new(2));
    let upstream = hostile(move |_, mut wire| {
        while wire.try_head().is_some() {
            let answer = match asked.fetch_add(1, SeqCst) {
                0 | 1 => {
                    both.wait(); // so that there are two connections, of which one outlives the failure
                    "HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nwarm"
                }
                2 => "nonsense\r\n\r\n",
                _ => "HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nback",
            };
            wire.send(answer);
        }
    });
    let address = upstream.address();
    let front = front(&format!(
        "upstream u {{ server {address}; ejection failures=1; }} host default {{ proxy_pass http://u; }}"
    ));
    let mut clients = [front.connect(), front.connect()];
    for client in &mut clients {
        client.send("GET / HTTP/1.1\r\nHost: h\r\n\r\n");
    }
    for client in &mut clients {
        assert_eq!(client.read_response().text(), "warm");
    }
    assert_eq!(front.get("h").status, 502);
    assert!(!front.counts().upstreams[0].up);
    assert_eq!(front.get("h").text(), "back");
    assert_eq!(front.counts().passed, 1);
    assert!(front.counts().upstreams[0].up);
}

/// A long pause of the upstream is kept to the deadline by the longer way, which takes over.
#[test]
fn a_request_that_waits_long_is_timed_out_all_the_same() {
    let [short, long] = {
        let upstream = hostile(|_, mut wire| {
            wire.head();
            wire.send("HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nwarm");
            wire.head();
            wire.rest();
        });
        both_ways(&[upstream.address()], "response_timeout 5s;").map(|front| {
            assert_eq!(front.get("warm").text(), "warm");
            let began = std::time::Instant::now();
            let status = front.get("late").status;
            assert!(began.elapsed() >= std::time::Duration::from_millis(4700), "{:?}", began.elapsed());
            status
        })
    };
    assert_eq!((short, long), (504, 504));
}
