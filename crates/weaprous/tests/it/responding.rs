//! What handlers return and what leaves.

use crate::support::{ask, get, serve};
use serde_json::Value;
use weaprous::prelude::*;

const BROWSER: &str = "Accept: text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8";

fn failing() -> App {
    App::new().route("/{status}", [GET], async |Path(status): Path<u16>| {
        Problem::new(StatusCode::new(status).unwrap()).detail("<b>why</b>").member("code", 7)
    })
}

#[test]
fn problems_are_documents_for_programs() {
    let server = serve(failing());
    for status in [400, 401, 403, 404, 405, 408, 409, 413, 415, 422, 429, 500, 501, 502, 503, 504] {
        for accept in [&[][..], &["Accept: */*"], &["Accept: application/json"]] {
            let response = get(&server, &format!("/{status}"), accept);
            assert_eq!(response.status, status);
            assert_eq!(response.field("content-type"), Some("application/problem+json"));
            assert_eq!(response.field("vary"), Some("Accept"));
            let document: Value = serde_json::from_slice(&response.body).unwrap();
            assert_eq!(document["status"], status);
            assert_eq!(document["title"], StatusCode::new(status).unwrap().reason());
            assert_eq!((document["detail"].as_str(), document["code"].as_u64()), (Some("<b>why</b>"), Some(7)));
        }
    }
}

#[test]
fn problems_are_pages_for_people() {
    let server = serve(failing());
    for status in [400, 401, 403, 404, 405, 408, 409, 413, 415, 422, 429, 500, 501, 502, 503, 504] {
        let response = get(&server, &format!("/{status}"), &[BROWSER]);
        assert_eq!((response.status, response.field("content-type")), (status, Some("text/html; charset=utf-8")));
        assert_eq!(response.field("vary"), Some("Accept"));
        let title = format!("<h1>{status} {}</h1>", StatusCode::new(status).unwrap().reason());
        assert!(response.text().contains(&title), "{}", response.text());
        assert!(response.text().contains("&lt;b&gt;why&lt;/b&gt;") && !response.text().contains("<b>"));
    }
}

#[test]
fn errors_of_the_framework_are_pages_too() {
    let server = serve(failing());
    assert!(get(&server, "/", &[BROWSER]).text().contains("<h1>404 Not Found</h1>"));
    assert!(get(&server, "/x", &[BROWSER]).text().contains("<h1>400 Bad Request</h1>"));
    let wrong_method = ask(&server, "DELETE", "/500", &[BROWSER], "");
    assert!(wrong_method.text().contains("<h1>405 Method Not Allowed</h1>"));
    assert!(wrong_method.field("allow").is_some());
}

#[test]
fn results_become_responses() {
    let app = App::new()
        .route("/text", [GET], async || "text")
        .route("/json", [GET], async || Json(vec![1, 2]))
        .route("/html", [GET], async || Html("<p>"))
        .route("/nothing", [GET], async || ())
        .route("/status", [GET], async || StatusCode::ACCEPTED)
        .route("/missing", [GET], async || StatusCode::NOT_FOUND)
        .route("/to", [GET], async || Redirect::see_other("/é?a=b"))
        .route("/bytes", [GET], async || vec![0_u8, 255])
        .route("/created", [GET], async || (StatusCode::CREATED, [("location", "/x")], Json("x")));
    let server = serve(app);
    let check = |target: &str, status: u16, content_type: Option<&str>, body: &[u8]| {
        let response = get(&server, target, &[]);
        assert_eq!((response.status, response.field("content-type")), (status, content_type), "{target}");
        assert_eq!(response.body, body, "{target}");
    };
    check("/text", 200, Some("text/plain; charset=utf-8"), b"text");
    check("/json", 200, Some("application/json"), b"[1,2]");
    check("/html", 200, Some("text/html; charset=utf-8"), b"<p>");
    check("/nothing", 204, None, b"");
    check("/status", 202, None, b"");
    check("/bytes", 200, Some("application/octet-stream"), &[0, 255]);
    check("/created", 201, Some("application/json"), b"\"x\"");
    check("/to", 303, None, b"");
    assert_eq!(get(&server, "/to", &[]).field("location"), Some("/%C3%A9?a=b"));
    assert_eq!(get(&server, "/missing", &[]).field("content-type"), Some("application/problem+json"));
}

#[test]
fn what_the_client_wrote_cannot_split_the_response() {
    async fn echo(Query(value): Query<Value>) -> Result<impl IntoResponse, Problem> {
        let value = value["v"].as_str().unwrap_or_default().to_owned();
        let cookie =
            CookieBuilder::new("v", value.clone()).build().map_err(|e| Problem::unprocessable(e.to_string()))?;
        Ok((cookie, [("x-v", value)], "ok"))
    }
    let app = App::new()
        .route("/echo", [GET], echo)
        .route("/field", [GET], async |Query(v): Query<Value>| ([("x-v", v["v"].as_str().unwrap().to_owned())], "ok"))
        .route("/to", [GET], async |Query(v): Query<Value>| Redirect::to(v["v"].as_str().unwrap()));
    let server = serve(app);
    assert_eq!(get(&server, "/echo?v=fine", &[]).field("set-cookie"), Some("v=fine"));
    for value in ["a%0d%0aX-Evil:1", "a%0aX-Evil:1", "a%0dX-Evil:1"] {
        assert_eq!(get(&server, &format!("/echo?v={value}"), &[]).status, 422, "{value}");
        assert_eq!(get(&server, &format!("/field?v={value}"), &[]).status, 500, "{value}");
        let redirect = get(&server, &format!("/to?v={value}"), &[]);
        assert_eq!((redirect.status, redirect.field("x-evil")), (302, None), "{value}");
    }
    assert_eq!(get(&server, "/echo?v=a;Path=/", &[]).status, 422);
}
