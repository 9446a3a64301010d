//! Paths to handlers, layers around them.

use crate::support::{ask, connect, get, request, serve};
use std::sync::Arc;
use weaprous::{RouteError, prelude::*};

fn check(app: App, table: &[(&str, &str, u16, &str)]) {
    let server = serve(app);
    for (method, target, status, text) in table {
        let response = ask(&server, method, target, &[], "");
        assert_eq!((response.status, response.text()), (*status, *text), "{method} {target}");
    }
}

async fn say_id(Path(id): Path<u32>) -> String {
    format!("id {id}")
}

#[test]
fn parameters_reach_the_handler_typed() {
    let app = App::new()
        .route("/users/me", [GET], async || "me")
        .route("/users/{id}", [GET], say_id)
        .route("/pairs/{a}/{b}", [GET], async |Path((a, b)): Path<(String, u8)>| format!("{a} {b}"))
        .route("/files/{path..}", [GET], async |Path(path): Path<String>| path)
        .route("/named/{user}", [GET], async |request: Request| request.param("user").unwrap_or("-").to_owned());
    check(
        app,
        &[
            ("GET", "/users/me", 200, "me"),
            ("GET", "/users/7", 200, "id 7"),
            ("GET", "/pairs/x%2Fy/9?q", 200, "x/y 9"),
            ("GET", "/files/a/b%20c", 200, "a/b c"),
            ("GET", "/files/", 200, ""),
            ("GET", "/named/%C3%A9", 200, "é"),
        ],
    );
}

#[test]
fn a_parameter_of_the_wrong_type_is_named() {
    let server = serve(App::new().route("/users/{id}", [GET], say_id));
    let response = get(&server, "/users/seven", &[]);
    assert_eq!(response.status, 400);
    assert!(response.text().contains("path parameter `id`: invalid digit"), "{}", response.text());
}

#[test]
fn a_wrong_method_is_405_with_allow() {
    let server = serve(App::new().route("/a", [GET, DELETE], async || "a").route("/b", [POST], async || "b"));
    let check = |method, target, allow| {
        let response = ask(&server, method, target, &[], "");
        assert_eq!((response.status, response.field("allow")), (405, Some(allow)), "{method} {target}");
    };
    check("POST", "/a", "GET, HEAD, DELETE, OPTIONS");
    check("GET", "/b", "POST, OPTIONS");
    check("HEAD", "/b", "POST, OPTIONS");
}

#[test]
fn head_and_options_come_for_free() {
    let server = serve(App::new().route("/a", [GET], async || "12345"));
    let head = ask(&server, "HEAD", "/a", &[], "");
    assert_eq!((head.status, head.field("content-length"), head.text()), (200, Some("5"), ""));
    assert_eq!(head.field("content-type"), Some("text/plain; charset=utf-8"));
    let options = ask(&server, "OPTIONS", "/a", &[], "");
    assert_eq!((options.status, options.field("allow")), (204, Some("GET, HEAD, OPTIONS")));
    assert_eq!(ask(&server, "OPTIONS", "*", &[], "").status, 204);
    assert_eq!(ask(&server, "OPTIONS", "/b", &[], "").status, 404);
}

#[test]
fn a_head_handler_of_ones_own_is_used() {
    let app = App::new()
        .route("/a", [GET], async || "get")
        .route("/a", [Method::Head], async || ([("x-head", "own")], "get"));
    assert_eq!(ask(&serve(app), "HEAD", "/a", &[], "").field("x-head"), Some("own"));
}

#[test]
fn paths_that_cannot_be_are_refused_inside_the_layers() {
    let app = App::new()
        .layer(async |request: Request, next: Next| next.run(request).await.field("x-layer", "1"))
        .route("/{path..}", [GET], async |Path(path): Path<String>| path);
    let server = serve(app);
    for target in ["/..", "/a/%2e%2e/b", "/%00", "/%c0%ae", "/a%2fb", "/%zz", &"/a".repeat(4000)] {
        let response = get(&server, target, &[]);
        assert_eq!((response.status, response.field("x-layer")), (400, Some("1")), "{target:.20}");
    }
    assert_eq!(get(&server, "/%252e%252e", &[]).text(), "%2e%2e");
}

#[test]
fn layers_go_from_the_first_to_the_last() {
    let tag = |name: &'static str| {
        async move |request: Request, next: Next| {
            let mut response = next.run(request).await;
            response.fields.append("x-layer", name).unwrap();
            response
        }
    };
    let inner = App::new().layer(tag("inner")).add_route(Route::new("/a", [GET], async || "a").layer(tag("route")));
    let app = App::new().layer(tag("outer")).layer(tag("second")).nest("/n", inner).route("/b", [GET], async || "b");
    let server = serve(app);
    let check = |target, status, expect: &[&str]| {
        let response = get(&server, target, &[]);
        let layers: Vec<_> = response.fields_named("x-layer").collect();
        assert_eq!((response.status, layers), (status, expect.to_vec()), "{target}");
    };
    check("/n/a", 200, &["route", "inner", "second", "outer"]);
    check("/n/none", 404, &["inner", "second", "outer"]);
    check("/b", 200, &["second", "outer"]);
    check("/none", 404, &["second", "outer"]);
}

#[test]
fn a_layer_can_answer_by_itself() {
    let gate = async |request: Request, next: Next| match request.field("x-key") {
        Some("right") => Ok(next.run(request).await),
        _ => Err(Problem::forbidden("no key")),
    };
    let server = serve(App::new().layer(gate).route("/", [GET], async || "in"));
    assert_eq!(get(&server, "/", &[]).status, 403);
    assert_eq!(get(&server, "/", &["X-Key: right"]).text(), "in");
}

#[test]
fn nested_applications_keep_their_state_and_inherit_the_rest() {
    async fn both(State(number): State<u32>, State(text): State<str>) -> String {
        format!("{} {}", *number, &*text)
    }
    let inner = App::new().state(Arc::new(2_u32)).route("/x", [GET], both).fallback(async || "inner fallback");
    let app = App::new()
        .state(Arc::new(1_u32))
        .state(Arc::<str>::from("text"))
        .route("/x", [GET], both)
        .nest("/in/{id}", inner)
        .fallback(async || (StatusCode::NOT_FOUND, "outer fallback"));
    check(
        app,
        &[
            ("GET", "/x", 200, "1 text"),
            ("GET", "/in/7/x", 200, "2 text"),
            ("GET", "/in/7/y", 200, "inner fallback"),
            ("POST", "/y", 404, "outer fallback"),
        ],
    );
}

#[test]
fn conflicts_are_found_before_anything_is_served() {
    let nested = App::new().route("/{y}", [GET], async || ""); // line + 0
    let app = App::new().route("/a/{x}", [GET], async || "").nest("/a", nested); // line + 1
    let line = line!() - 2;
    let error = app.prepare().unwrap_err();
    let text = error.to_string();
    let RouteError::Conflict { first, second, method, first_place, second_place } = error else { panic!("a conflict") };
    assert_eq!((first.as_str(), second.as_str(), method), ("/a/{x}", "/a/{y}", GET));
    assert_eq!((first_place.line(), second_place.line()), (line + 1, line));
    let place = |at: u32| format!("{}:{at}:", file!());
    assert!(text.contains(&place(line)) && text.contains(&place(line + 1)), "{text}");
    assert!(App::new().route("a", [GET], async || "").prepare().is_err());
    assert!(App::new().route("/a", [], async || "").prepare().is_err());
}

#[test]
fn conflicts_of_fallbacks_name_the_lines_that_want_them() {
    let one = App::new().fallback(async || "one"); // line + 0
    let other = App::new().fallback(async || "other"); // line + 1
    let line = line!() - 2;
    let error = App::new().nest("/a", one).nest("/a/", other).prepare().unwrap_err();
    let text = error.to_string();
    let RouteError::Conflict { first_place, second_place, .. } = error else { panic!("a conflict: {text}") };
    let place = |at: u32| (file!(), at);
    assert_eq!((first_place.file(), first_place.line()), place(line), "{text}");
    assert_eq!((second_place.file(), second_place.line()), place(line + 1), "{text}");
    // One fallback below a shared prefix is no conflict, wherever it stands.
    let plain = || App::new().route("/x", [GET], async || "x");
    let only = || App::new().fallback(async || "only");
    check(
        App::new().nest("/a", plain()).nest("/a", only()),
        &[("GET", "/a/x", 200, "x"), ("GET", "/a/y", 200, "only")],
    );
    check(
        App::new().nest("/a", only()).nest("/a", plain()),
        &[("GET", "/a/x", 200, "x"), ("GET", "/a/y", 200, "only")],
    );
    check(App::new().nest("/", only()), &[("GET", "/y", 200, "only")]);
}

#[test]
fn a_pattern_that_cannot_be_read_is_named_with_its_line() {
    let app = App::new().route("/a/{b", [GET], async || "");
    let line = line!() - 1;
    let text = app.prepare().unwrap_err().to_string();
    assert!(text.starts_with("route pattern `/a/{b` (") && text.contains(&format!("{}:{line}:", file!())), "{text}");
    let nested = App::new().nest("api", App::new().route("/x", [GET], async || ""));
    let line = line!() - 1;
    let text = nested.prepare().unwrap_err().to_string();
    assert!(text.contains("must begin with `/`") && text.contains(&format!("{}:{line}:", file!())), "{text}");
}

#[test]
fn a_slash_at_the_end_makes_another_path() {
    let app = App::new()
        .route("/a", [GET], async || "a")
        .route("/b/", [GET], async || "b/")
        .route("/both", [GET], async || "both")
        .route("/both/", [GET], async || "both/")
        .nest("/n", App::new().route("/", [GET], async || "n/"));
    let server = serve(app);
    let check = |target: &str, expect: Result<&str, &str>| {
        let response = get(&server, target, &[]);
        match expect {
            Ok(text) => assert_eq!((response.status, response.text()), (200, text), "{target}"),
            Err(hint) => {
                assert_eq!((response.status, response.field("location")), (404, None), "{target}");
                assert!(response.text().contains(hint), "{}", response.text());
            }
        }
    };
    check("/a", Ok("a"));
    check("/a/", Err("there is nothing at /a/, but there is at /a:"));
    check("/b/", Ok("b/"));
    check("/b", Err("but there is at /b/:"));
    check("/both", Ok("both"));
    check("/both/", Ok("both/"));
    check("/n/", Ok("n/"));
    check("/n", Err("but there is at /n/:"));
    check("/c", Err("there is nothing at /c\""));
}

#[test]
fn a_stop_lets_a_request_that_has_begun_finish() {
    let app = App::new().route("/", [POST], async |content: String| content);
    let server = serve(app);
    let mut client = connect(&server);
    client.send("POST / HTTP/1.1\r\nHost: test\r\nContent-Length: 6\r\nExpect: 100-continue\r\n\r\n");
    client.read_until(b"100 Continue\r\n\r\n"); // so that the handler runs
    server.stop();
    client.send("abcdef");
    let response = client.read_response();
    assert_eq!((response.status, response.text()), (200, "abcdef"));
    client.expect_close();
}

#[test]
fn requests_on_one_connection_are_answered_in_order() {
    let server = serve(App::new().route("/{n}", [GET], async |Path(n): Path<u32>| n.to_string()));
    let mut client = connect(&server);
    client.send((0..50).map(|n| request("GET", &format!("/{n}"), &[], "")).collect::<String>());
    for n in 0..50 {
        assert_eq!(client.read_response().text(), n.to_string());
    }
}

#[test]
fn an_application_runs_alone() {
    let stop = Stop::new();
    let bound = App::new().route("/", [GET], async || "alone").prepare_address("localhost", 0).unwrap();
    let addr = bound.local_addr();
    let running = std::thread::spawn({
        let stop = stop.clone();
        move || bound.run(stop)
    });
    let mut client = testkit::RawClient::connect(addr);
    client.send(request("GET", "/", &["Connection: close"], ""));
    assert_eq!(client.read_response().text(), "alone");
    stop.cancel();
    running.join().unwrap().unwrap();
}

#[test]
fn an_address_in_use_or_none_is_an_error() {
    let bound = App::new().prepare_address("127.0.0.1", 0).unwrap();
    let error = App::new().prepare_address("127.0.0.1", bound.local_addr().port()).unwrap_err().to_string();
    assert!(error.contains("in use"), "{error}");
    let error = App::new().prepare_address("here", 0).unwrap_err().to_string();
    assert!(error.contains("`here` is no IP address"), "{error}");
}

#[test]
fn one_route_may_take_more_than_the_others() {
    async fn length(content: String) -> String {
        content.len().to_string()
    }
    let app = App::new()
        .body_bytes_max(10)
        .route("/small", [POST], length)
        .add_route(Route::new("/large", [POST], length).body_bytes_max(3_000_000));
    let server = serve(app);
    assert_eq!(ask(&server, "POST", "/small", &[], "0123456789").text(), "10");
    assert_eq!(ask(&server, "POST", "/small", &[], "0123456789a").status, 413);
    assert_eq!(ask(&server, "POST", "/large", &[], &"x".repeat(2_500_000)).text(), "2500000");
    let chunked = "POST /small HTTP/1.1\r\nHost: test\r\nTransfer-Encoding: chunked\r\n\r\n\
                   6\r\n012345\r\n6\r\n012345\r\n0\r\n\r\n";
    let mut client = connect(&server);
    client.send(chunked);
    assert_eq!(client.read_response().status, 413);
}
