//! What strangers are told, and what only operators see: pages without addresses, counts of what was refused, tried again
//! and really sent.

use std::io::Write as _;

use engine::{Request, Response, StatusCode};
use proxy::RouteCounts;

use crate::harness::*;

fn text(front: &Front) -> String {
    let page = front.get("a");
    assert!(page.status >= 500, "{page:?}");
    let fields: Vec<String> = page.fields.iter().map(|(name, value)| format!("{name}: {value}")).collect();
    format!("{}\n{}", fields.join("\n"), page.text())
}

#[test]
fn no_page_tells_where_an_upstream_is() {
    let dead = dead_address();
    let bad = [
        answering("SSH-2.0-secret\r\n\r\n", true),
        answering("HTTP/1.1 200 OK\r\nContent-Length: x-secret\r\n\r\n", true),
        answering("HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: secret\r\n\r\n", true),
        answering("", true),
    ];
    let silent = hostile(|_, mut wire| {
        wire.head();
        wire.rest();
    });
    let more = "response_timeout 50ms; retries 0;";
    let mut addresses = vec![(dead, ""), (silent.address(), "")];
    addresses.extend(bad.iter().map(|upstream| (upstream.address(), "")));
    addresses.push((bad[0].address(), "s"));
    for (address, s) in addresses {
        let inline = front(&format!("host default {{ proxy_pass http{s}://{address}; {more} }}"));
        let block = format!("upstream app {{ server {address}; }} host default {{ proxy_pass http{s}://app; {more} }}");
        let named = front(&block);
        for (front, who) in [(inline, "The upstream of default "), (named, "The upstream “app” of default ")] {
            let text = text(&front);
            assert!(text.contains(who), "{text}");
            for hidden in ["127.0.0.1", &address.port().to_string(), "secret"] {
                assert!(!text.contains(hidden), "{hidden} in {text}");
            }
        }
    }
}

fn route<'a>(status: &'a proxy::Status, name: &str) -> &'a RouteCounts {
    status.routes.iter().find(|route| route.name == name).unwrap_or_else(|| panic!("{status:?}"))
}

#[test]
fn what_is_refused_is_counted_by_the_reason() {
    let mut passwords = tempfile::NamedTempFile::new().unwrap();
    writeln!(passwords, "nobody:x").unwrap();
    let no = upstream(|| |_: Request| async { Response::new(StatusCode::FORBIDDEN) });
    let front = front(&format!(
        "host default {{ respond 200;
            location /rate {{ rate_limit 1/h burst=2; }}
            location /far {{ deny all; }}
            location /closed {{ basic_auth \"x\" {}; }}
            location /asked {{ forward_auth http://{}/; }} }}",
        passwords.path().display(),
        address(&no)
    ));
    let ask = |path: &str| front.ask(&format!("GET {path} HTTP/1.1\r\nHost: a\r\n\r\n")).status;
    assert_eq!([(); 5].map(|()| ask("/rate")), [200, 200, 429, 429, 429]);
    assert_eq!([ask("/far"), ask("/closed"), ask("/asked"), ask("/asked")], [403, 401, 403, 403]);
    let status = front.proxy().status();
    for (name, expect) in [
        ("default", [0, 0, 0, 0, 0]),
        ("default/rate", [0, 3, 0, 0, 0]),
        ("default/far", [0, 0, 1, 0, 0]),
        ("default/closed", [0, 0, 0, 1, 0]),
        ("default/asked", [0, 0, 0, 0, 2]),
    ] {
        assert_eq!(route(&status, name).refused, expect, "{name}");
    }
    let asked = status.servers.iter().find(|server| server.server == address(&no).to_string()).unwrap();
    assert_eq!((asked.counts.attempts, asked.counts.classes[3]), (2, 2), "whoever is asked first is counted as well");
}

#[test]
fn who_is_asked_first_may_be_down_as_long_as_another_is_up() {
    let yes = upstream(|| |_: Request| async { Response::new(StatusCode::NO_CONTENT) });
    let front = front(&format!(
        "upstream gate {{ server {}; server {}; }}
         host default {{ respond 200; forward_auth http://gate/; }}",
        dead_address(),
        address(&yes)
    ));
    let statuses: Vec<u16> = (0..6).map(|_| front.get("a").status).collect();
    assert_eq!(statuses, [200; 6]);
}

#[test]
fn retries_are_counted_for_the_server_that_gets_them() {
    let (dead, other) = (dead_address(), named("other"));
    let front = front(&format!(
        "upstream app {{ server {dead}; server {}; }} host default {{ proxy_pass http://app; }}",
        address(&other)
    ));
    for _ in 0..4 {
        assert_eq!(front.get("a").text(), "other");
    }
    let status = front.proxy().status();
    let retries = |server: std::net::SocketAddr| {
        let found = status.servers.iter().find(|found| found.server == server.to_string());
        found.map(|found| found.counts.retries)
    };
    assert_eq!(retries(dead), Some(0));
    assert_eq!(retries(address(&other)), Some(route(&status, "default").retries));
    assert!(route(&status, "default").retries >= 1);
}

#[test]
fn what_is_sent_is_counted_as_it_is_sent() {
    let long = upstream(|| {
        |request: Request| async move {
            let text = "a word and another ".repeat(20_000);
            let response = Response::text(StatusCode::OK, text.clone());
            if request.head.path() != "/stream" {
                return response;
            }
            let (sender, body) = engine::Body::channel();
            tokio::task::spawn_local(async move {
                for chunk in text.as_bytes().chunks(10_000) {
                    if sender.send(chunk.to_vec()).await.is_err() {
                        return;
                    }
                }
            });
            response.with_body(body)
        }
    });
    let upstream = address(&long);
    let front = front(&format!(
        "host default {{ compression on; proxy_pass http://{upstream};
            location /stream {{ }}
            location /ahead {{ proxy_buffering on; }}
            location /plain {{ compression off; }} }}"
    ));
    for (path, name) in
        [("/", "default"), ("/stream", "default/stream"), ("/ahead", "default/ahead"), ("/plain", "default/plain")]
    {
        let got = front.ask(&format!("GET {path} HTTP/1.1\r\nHost: a\r\nAccept-Encoding: gzip\r\n\r\n"));
        assert_eq!(got.field("content-encoding").is_some(), path != "/plain", "{got:?}");
        let sent = got.body.len() as u64;
        assert_eq!(sent < 100_000, path != "/plain", "{sent}");
        eventually("it is counted", || route(&front.proxy().status(), name).requests() == 1);
        assert_eq!(route(&front.proxy().status(), name).bytes_out, sent, "{path}");
    }
}

#[test]
fn an_exact_location_and_a_prefix_are_two_routes() {
    let front = front("host a { respond 404; location = /x { respond 200; } location /x { respond 204; } }");
    let ask = |path: &str| front.ask(&format!("GET {path} HTTP/1.1\r\nHost: a\r\n\r\n")).status;
    assert_eq!([ask("/x"), ask("/x/y"), ask("/x/z")], [200, 204, 204]);
    let status = front.proxy().status();
    assert_eq!([route(&status, "a=/x").requests(), route(&status, "a/x").requests()], [1, 2]);
}
