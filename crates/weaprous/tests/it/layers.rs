//! Ready-made layers.

use crate::support::{ask, get, request, serve};
use engine::Running;
use std::io::{self, Read as _, Write};
use std::net::TcpStream;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::Duration;
use testkit::RawResponse;
use weaprous::layers::{AccessLog, BasicAuth, Cors, ETags, LogFormat, RateLimit, RequestIds, Timeout};
use weaprous::prelude::*;

fn vary(response: &RawResponse) -> String {
    response.fields_named("vary").collect::<Vec<_>>().join("; ")
}

#[test]
fn cors_answers_preflights_of_allowed_origins_alone() {
    let cors = Cors::origins(["https://app.example"]).credentials().headers(["content-type", "x-own"]);
    let app = App::new().layer(cors.max_age(Duration::from_mins(1))).route("/a", [GET, PUT], async || "a");
    let server = serve(app);
    let preflight = |origin: &str| {
        ask(&server, "OPTIONS", "/a", &[&format!("Origin: {origin}"), "Access-Control-Request-Method: PUT"], "")
    };
    let allowed = preflight("https://app.example");
    assert_eq!(allowed.status, 204);
    for (name, value) in [
        ("access-control-allow-origin", "https://app.example"),
        ("access-control-allow-credentials", "true"),
        ("access-control-allow-methods", "GET, POST, PUT, PATCH, DELETE"),
        ("access-control-allow-headers", "content-type, x-own"),
        ("access-control-max-age", "60"),
    ] {
        assert_eq!(allowed.field(name), Some(value), "{name}");
    }
    assert_eq!(vary(&allowed), "Origin, Access-Control-Request-Method, Access-Control-Request-Headers");
    for origin in ["https://evil.example", "http://app.example", "https://app.example.evil.example", "null"] {
        let refused = preflight(origin);
        assert_eq!(
            (refused.field("access-control-allow-origin"), vary(&refused).as_str()),
            (None, "Origin"),
            "{origin}"
        );
    }
    // An OPTIONS that is no preflight is the application's.
    assert_eq!(ask(&server, "OPTIONS", "/a", &[], "").field("allow"), Some("GET, HEAD, PUT, OPTIONS"));
}

#[test]
fn cors_marks_answers_for_caches_and_for_the_origin() {
    let with_credentials = Cors::origins(["https://app.example"]).credentials().expose(["x-total"]);
    let app = App::new()
        .nest("/ours", App::new().layer(with_credentials).route("/", [GET, POST], async || "a"))
        .nest("/named", App::new().layer(Cors::origins(["https://app.example"])).route("/", [GET, POST], async || "a"))
        .nest("/all", App::new().layer(Cors::any_origin()).route("/", [GET, POST], async || "a"));
    let server = serve(app);
    let check = |target: &str, fields: &[&str], allow_origin: Option<&str>, expect_vary: &str| {
        let response = get(&server, target, fields);
        assert_eq!(response.status, 200);
        assert_eq!(response.field("access-control-allow-origin"), allow_origin, "{target} {fields:?}");
        assert_eq!(vary(&response), expect_vary, "{target} {fields:?}");
        response
    };
    let ours = check("/ours/", &["Origin: https://app.example"], Some("https://app.example"), "Origin");
    assert_eq!(ours.field("access-control-expose-headers"), Some("x-total"));
    assert_eq!(ours.field("access-control-allow-credentials"), Some("true"));
    check("/ours/", &["Origin: https://evil.example"], None, "Origin");
    check("/ours/", &[], None, "Origin");
    let all = check("/all/", &["Origin: https://any.example"], Some("*"), "");
    assert_eq!(all.field("access-control-allow-credentials"), None);
    // Whoever is allowed passes the protection against cross-site requests, with a cookie only by `credentials`.
    let post = |target: &str, fields: &[&str]| ask(&server, "POST", target, fields, "").status;
    let (ours, evil, cookie) = ("Origin: https://app.example", "Origin: https://evil.example", "Cookie: session=x");
    assert_eq!(
        (post("/ours/", &[ours, cookie]), post("/ours/", &[evil, cookie]), post("/ours/", &[evil])),
        (200, 403, 403)
    );
    assert_eq!((post("/named/", &[ours]), post("/named/", &[ours, cookie])), (200, 403));
    assert_eq!((post("/all/", &[evil]), post("/all/", &[evil, cookie])), (200, 403));
}

#[test]
#[should_panic(expected = "credentials for every origin")]
fn cors_never_gives_credentials_to_everybody() {
    let _ = Cors::any_origin().credentials();
}

#[test]
fn dynamic_answers_are_tagged_by_their_content() {
    let app = App::new()
        .layer(ETags::new().bytes_max(100))
        .route("/text", [GET, POST], async || ([("cache-control", "private"), ("x-own", "1")], "text"))
        .route("/other", [GET], async || "other")
        .route("/long", [GET], async || "x".repeat(101))
        .route("/secret", [GET], async || ([("cache-control", "private, No-Store")], "secret"))
        .route("/own", [GET], async || ([("etag", "\"own\"")], "text"))
        .route("/created", [GET], async || (StatusCode::CREATED, "text"))
        .add_route(Route::new("/strong", [GET], async || "text").layer(ETags::new().strong()));
    let server = serve(app);
    let tag = |target: &str| get(&server, target, &[]).field("etag").map(str::to_owned);
    let weak = tag("/text").unwrap();
    assert!(weak.starts_with("W/\"") && tag("/text").as_ref() == Some(&weak) && tag("/other").as_ref() != Some(&weak));
    assert!(tag("/strong").unwrap().starts_with('"'));
    assert_eq!((tag("/long"), tag("/secret"), tag("/created")), (None, None, None));
    assert_eq!(tag("/own").as_deref(), Some("\"own\""));
    assert_eq!(ask(&server, "POST", "/text", &[], "").field("etag"), None);
    let condition = format!("If-None-Match: \"x\", {weak}");
    for method in ["GET", "HEAD"] {
        let unchanged = ask(&server, method, "/text", &[&condition], "");
        assert_eq!((unchanged.status, unchanged.body.len()), (304, 0), "{method}");
        let field = |name| unchanged.field(name);
        assert_eq!((field("etag"), field("cache-control"), field("x-own")), (Some(&*weak), Some("private"), Some("1")));
        assert_eq!(field("content-type"), None);
    }
    assert_eq!(get(&server, "/text", &["If-None-Match: \"x\""]).status, 200);
    assert_eq!(get(&server, "/other", &[&condition]).status, 200);
}

#[test]
fn who_asks_too_often_is_told_when_to_come_back() {
    let limit = RateLimit::new(2, Duration::from_hours(1));
    let by_key = RateLimit::new(1, Duration::from_hours(1)).by(|request| request.field("x-key").map(str::to_owned));
    let app = App::new()
        .add_route(Route::new("/a", [GET], async || "a").layer(limit))
        .add_route(Route::new("/b", [GET], async || "b").layer(by_key))
        .route("/free", [GET], async || "free");
    let server = serve(app);
    let first = get(&server, "/a", &[]);
    assert_eq!((first.status, first.field("ratelimit-policy")), (200, Some("\"default\";q=2;w=3600")));
    assert_eq!(first.field("ratelimit"), Some("\"default\";r=1;t=1800"));
    assert_eq!(get(&server, "/a", &[]).status, 200);
    let refused = get(&server, "/a", &[]);
    assert_eq!((refused.status, refused.field("content-type")), (429, Some("application/problem+json")));
    let wait: u64 = refused.field("retry-after").unwrap().parse().unwrap();
    assert!((1790..=1800).contains(&wait), "{wait}");
    // A client behind the trusted proxy is another one; behind a stranger it could say anything.
    assert_eq!(get(&server, "/a", &["X-Forwarded-For: 192.0.2.1"]).status, 200);
    let with_key = |key: &str| get(&server, "/b", &[&format!("X-Key: {key}")]).status;
    assert_eq!((with_key("one"), with_key("one"), with_key("two")), (200, 429, 200));
    assert_eq!(get(&server, "/free", &[]).field("ratelimit"), None);
}

#[test]
fn requests_have_names() {
    let app =
        || App::new().layer(RequestIds).route("/", [GET], async |request: Request| request.id().unwrap().to_owned());
    let server = serve(app());
    let id = |server: &Running, fields: &[&str]| {
        let response = get(server, "/", fields);
        assert_eq!(response.field("x-request-id"), Some(response.text()));
        response.text().to_owned()
    };
    assert_ne!(id(&server, &[]), id(&server, &[]));
    assert_eq!(id(&server, &["X-Request-Id: from-the-proxy.1"]), "from-the-proxy.1");
    assert_ne!(id(&server, &["X-Request-Id: not plain"]), "not plain");
    let nobody_trusted = serve(app().trust_proxies([]));
    assert_ne!(id(&nobody_trusted, &["X-Request-Id: mine"]), "mine");
    assert!(get(&server, "/none", &[]).field("x-request-id").is_some(), "a 404 has one, too");
}

/// Hands what is written to the test.
struct Lines(Sender<Vec<u8>>);

impl Write for Lines {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.send(bytes.to_owned()).map_err(io::Error::other)?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn logged(format: LogFormat) -> (Running, Receiver<Vec<u8>>) {
    let (sender, lines) = channel();
    let app =
        App::new().layer(AccessLog::new(Lines(sender), format)).layer(RequestIds).route("/a", [GET], async || "12345");
    (serve(app), lines)
}

fn next(lines: &Receiver<Vec<u8>>) -> String {
    String::from_utf8(lines.recv_timeout(Duration::from_secs(20)).expect("a line")).unwrap()
}

#[test]
fn the_access_log_has_a_line_for_each_request_and_no_secret() {
    let (server, lines) = logged(LogFormat::Combined);
    let fields = ["Referer: http://test/b?token=hidden", "User-Agent: curl/8 \"x\"", "Authorization: Bearer hidden"];
    get(&server, "/a?token=hidden", &fields);
    let line = next(&lines);
    assert!(line.starts_with("127.0.0.1 - - [") && line.ends_with('\n'), "{line}");
    assert!(line.contains("\"GET /a HTTP/1.1\" 200 5 \"http://test/b\" \"curl/8 \\x22x\\x22\""), "{line}");
    assert!(!line.contains("hidden"), "{line}");
    get(&server, "/none", &["X-Forwarded-For: 192.0.2.1"]);
    let line = next(&lines);
    assert!(line.starts_with("192.0.2.1 - - [") && line.contains("\"GET /none HTTP/1.1\" 404 "), "{line}");
}

#[test]
fn the_access_log_speaks_json() {
    let (server, lines) = logged(LogFormat::Json);
    let id = get(&server, "/a?x", &[]).field("x-request-id").unwrap().to_owned();
    let line: serde_json::Value = serde_json::from_str(&next(&lines)).unwrap();
    assert_eq!((&line["method"], &line["path"], &line["status"]), (&"GET".into(), &"/a".into(), &200.into()));
    assert_eq!((&line["bytes"], &line["id"]), (&5.into(), &id.into()));
    assert!(line["duration_us"].is_u64() && line["time"].as_str().unwrap().ends_with('Z'), "{line}");
}

#[test]
fn requests_without_an_answer_have_a_line_too() {
    let (sender, lines) = channel();
    let (begun, has_begun) = channel();
    let never = async move || {
        let _ = begun.send(());
        std::future::pending::<()>().await;
    };
    let app = App::new()
        .layer(AccessLog::new(Lines(sender), LogFormat::Combined))
        .route("/panics", [GET], async || -> &'static str { panic!("as asked for") })
        .route("/fine", [GET], async || "fine")
        .route("/never", [GET], never);
    let server = serve(app);
    assert_eq!(get(&server, "/panics", &[]).status, 500);
    let line = next(&lines);
    assert!(line.contains("\"GET /panics HTTP/1.1\" 500 - "), "{line}");
    let mut client = TcpStream::connect(server.local_addrs()[0]).unwrap();
    let both = [request("GET", "/fine", &[], ""), request("GET", "/never", &[], "")].concat();
    client.write_all(both.as_bytes()).unwrap();
    client.read_exact(&mut [0]).unwrap();
    has_begun.recv_timeout(Duration::from_secs(20)).unwrap();
    drop(client); // with an answer it has not read: that is a reset, not only the end of what it sends
    let mut both = next(&lines);
    if both.lines().count() == 1 {
        both += &next(&lines); // lines are written together where one does not wait for the other
    }
    let (fine, never) = both.split_once('\n').unwrap();
    assert!(fine.contains("\"GET /fine HTTP/1.1\" 200 4 "), "{both}");
    assert!(never.contains("\"GET /never HTTP/1.1\" 499 - "), "{both}");
}

#[test]
fn a_handler_that_takes_too_long_is_given_up() {
    struct Dropped(Sender<Vec<u8>>);
    impl Drop for Dropped {
        fn drop(&mut self) {
            let _ = self.0.send(b"dropped".to_vec());
        }
    }
    let (sender, dropped) = channel();
    let slow = async move || {
        let _dropped = Dropped(sender.clone());
        std::future::pending::<()>().await;
    };
    let app = App::new()
        .add_route(Route::new("/slow", [GET], slow).layer(Timeout::new(Duration::from_millis(10))))
        .add_route(Route::new("/quick", [GET], async || "quick").layer(Timeout::new(Duration::from_hours(1))));
    let server = serve(app);
    let response = get(&server, "/slow", &[]);
    assert_eq!((response.status, response.field("retry-after")), (503, Some("5")));
    assert_eq!(next(&dropped), "dropped");
    assert_eq!(get(&server, "/quick", &[]).text(), "quick");
}

#[test]
fn a_password_opens_and_too_many_wrong_ones_do_not() {
    let app = App::new().layer(BasicAuth::new("my \"files\"", "al", "pa:ss")).route("/", [GET], async || "in");
    let server = serve(app);
    let status = |field: &str| get(&server, "/", &[field]).status;
    let asked = get(&server, "/", &[]);
    assert_eq!(asked.status, 401);
    assert_eq!(asked.field("www-authenticate"), Some("Basic realm=\"my files\", charset=\"UTF-8\""));
    assert_eq!(status("Authorization: Basic YWw6cGE6c3M="), 200); // al:pa:ss
    assert_eq!(status("Authorization: basic YWw6cGE6c3M="), 200);
    for wrong in ["Basic YWw6cGE6c3MK", "Basic YWw6", "Basic !", "Basic", "Bearer YWw6cGE6c3M=", ""] {
        assert_eq!(status(&format!("Authorization: {wrong}")), 401, "{wrong}");
    }
    let tried: Vec<u16> = (0..40).map(|_| status("Authorization: Basic YWw6eA==")).collect();
    assert_eq!(
        (tried.last(), status("Authorization: Basic YWw6cGE6c3M=")),
        (Some(&429), 429),
        "also with the right one"
    );
    // Somebody else is not locked out.
    assert_eq!(get(&server, "/", &["X-Forwarded-For: 192.0.2.1", "Authorization: Basic YWw6cGE6c3M="]).status, 200);
}
