//! What extractors make of good and bad requests.

use crate::support::{ask, get, serve};
use serde::Deserialize;
use weaprous::prelude::*;

const JSON: &str = "Content-Type: application/json";
const FORM: &str = "Content-Type: application/x-www-form-urlencoded";

#[derive(Debug, Deserialize)]
struct Task {
    text: String,
    count: Option<u32>,
}

fn app() -> App {
    App::new()
        .route("/json", [POST], async |Json(task): Json<Task>| format!("{} {:?}", task.text, task.count))
        .route("/any", [POST], async |Json(any): Json<serde_json::Value>| any.to_string())
        .route("/form", [POST], async |Form(task): Form<Task>| format!("{} {:?}", task.text, task.count))
        .route("/query", [GET], async |Query(task): Query<Task>| format!("{} {:?}", task.text, task.count))
        .route("/text", [POST], async |text: String| text)
        .route("/maybe", [POST], async |task: Result<Json<Task>, Problem>| match task {
            Ok(Json(task)) => task.text,
            Err(problem) => format!("own answer to {}", problem.status()),
        })
        .route("/none", [GET], async |State(_): State<u8>| "")
        .route("/last", [GET], async |LastEventId(last): LastEventId| last.unwrap_or_default())
        .route("/cookie", [GET], async |cookies: Cookies| cookies.get("a").unwrap_or("-").to_owned())
        .route("/client", [GET], async |ClientAddr(addr): ClientAddr| addr.to_string())
        .body_bytes_max(1000)
}

/// Asks for the status and a part of the text.
fn check(method: &str, table: &[(&str, &[&str], &str, u16, &str)]) {
    let server = serve(app());
    for (target, fields, content, status, part) in table {
        let response = ask(&server, method, target, fields, content);
        let text = response.text();
        assert_eq!(response.status, *status, "{target} {content:.40}: {text}");
        assert!(text.contains(part), "{target} {content:.40}: {text}");
    }
}

#[test]
fn json_is_refused_with_the_status_that_fits() {
    let long = format!(r#"{{"text":"{}"}}"#, "x".repeat(1000));
    check(
        "POST",
        &[
            ("/json", &[JSON], r#"{"text":"a","count":3}"#, 200, "a Some(3)"),
            ("/json", &["Content-Type: application/json; charset=utf-8"], r#"{"text":"a"}"#, 200, "a None"),
            ("/json", &["Content-Type: application/vnd.x+json"], r#"{"text":"a"}"#, 200, "a None"),
            ("/json", &[JSON], r#"{"text":"#, 400, "malformed JSON: EOF"),
            ("/json", &[JSON], "", 400, "malformed JSON"),
            ("/json", &[JSON], r#"{"text":1}"#, 422, "invalid type: integer `1`, expected a string"),
            ("/json", &[JSON], r#"{"count":1}"#, 422, "missing field `text`"),
            ("/json", &[JSON], r#"{"text":"a","count":-1}"#, 422, "invalid value"),
            ("/json", &[JSON], "\u{1}", 400, "malformed JSON"),
            ("/json", &[], r#"{"text":"a"}"#, 415, "application/json"),
            ("/json", &[FORM], "text=a", 415, "application/json"),
            ("/json", &["Content-Type: text/json"], r#"{"text":"a"}"#, 415, "application/json"),
            ("/json", &[JSON], &long, 413, "1000 bytes"),
            ("/any", &[JSON], &"[".repeat(900), 400, "recursion"),
            ("/maybe", &[JSON], "{", 200, "own answer to 400"),
            ("/maybe", &[JSON], r#"{"text":"fine"}"#, 200, "fine"),
        ],
    );
}

#[test]
fn forms_are_refused_with_the_status_that_fits() {
    check(
        "POST",
        &[
            ("/form", &[FORM], "text=a+b%21&count=3", 200, "a b! Some(3)"),
            ("/form", &[FORM], "text=a&count=", 200, "a None"),
            ("/form", &[FORM], "count=3", 422, "missing field `text`"),
            ("/form", &[FORM], "text=a&count=x", 422, "`count`: invalid digit"),
            ("/form", &[FORM], "text=%zz", 400, "hexadecimal"),
            ("/form", &[JSON], "text=a", 415, "x-www-form-urlencoded"),
            ("/text", &[], "é", 200, "é"),
        ],
    );
}

#[test]
fn parts_say_what_is_wrong() {
    check(
        "GET",
        &[
            ("/query?text=a&count=7", &[], "", 200, "a Some(7)"),
            ("/query", &[], "", 400, "query: missing field `text`"),
            ("/query?text=a&count=x", &[], "", 400, "query: `count`"),
            ("/query?text=a&text=b", &[], "", 400, "more than once"),
            ("/query?text=%ff", &[], "", 400, "UTF-8"),
            ("/last", &["Last-Event-ID: 12"], "", 200, "12"),
            ("/last", &[], "", 200, ""),
            ("/cookie", &["Cookie: b=1; a=2"], "", 200, "2"),
            ("/none", &[], "", 500, "its log says why"),
        ],
    );
}

#[test]
fn content_that_is_no_text_is_refused() {
    let server = serve(app());
    let mut client = crate::support::connect(&server);
    client.send(b"POST /text HTTP/1.1\r\nHost: test\r\nContent-Length: 2\r\n\r\n\xff\xfe");
    assert_eq!(client.read_response().status, 400);
}

#[test]
fn forwarded_addresses_are_believed_as_far_as_they_are_trusted() {
    let check = |app: App, fields: &[&str], expect: &str| {
        assert_eq!(get(&serve(app), "/client", fields).text(), expect, "{fields:?}");
    };
    check(app(), &[], "127.0.0.1");
    check(app(), &["X-Forwarded-For: 192.0.2.1"], "192.0.2.1");
    // The first was written by the client itself.
    check(app(), &["X-Forwarded-For: 198.51.100.9, 192.0.2.1"], "192.0.2.1");
    check(app(), &["X-Forwarded-For: 198.51.100.9", "X-Forwarded-For: 192.0.2.1, 127.0.0.1"], "192.0.2.1");
    check(app(), &["X-Forwarded-For: 192.0.2.1, junk"], "127.0.0.1");
    check(app(), &["X-Forwarded-For: ::ffff:192.0.2.1"], "192.0.2.1");
    check(app().trust_proxies([]), &["X-Forwarded-For: 192.0.2.1"], "127.0.0.1");
    let chain = ["127.0.0.1".parse().unwrap(), "192.0.2.1".parse().unwrap()];
    check(app().trust_proxies(chain), &["X-Forwarded-For: 203.0.113.5, 192.0.2.1"], "203.0.113.5");
}
