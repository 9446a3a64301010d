//! What a location does beside passing requests on: each directive once, over real sockets.

use std::io::Write as _;

use engine::{Request, Response, StatusCode};

use crate::harness::*;

fn get(front: &Front, target: &str) -> testkit::RawResponse {
    front.ask(&format!("GET {target} HTTP/1.1\r\nHost: a:8080\r\n\r\n"))
}

#[test]
fn wildcard_hosts_and_exact_paths_decide() {
    let (wild, exact, name) = (named("wild"), named("exact"), named("name"));
    let front = front(&format!(
        "host \"*.example.org\" {{ proxy_pass http://{}; location = /x {{ proxy_pass http://{}; }} }}\n\
         host \"example.org\" {{ proxy_pass http://{}; }}",
        address(&wild),
        address(&exact),
        address(&name)
    ));
    let ask = |host: &str, target: &str| {
        front.ask(&format!("GET {target} HTTP/1.1\r\nHost: {host}\r\n\r\n")).text().to_owned()
    };
    assert_eq!(ask("a.b.example.org:81", "/x/y"), "wild");
    assert_eq!(ask("a.example.org", "/x?q"), "exact");
    assert_eq!(ask("example.org", "/x"), "name");
}

#[test]
fn redirects_keep_what_they_are_told_to() {
    let front = front(
        "host default {
            redirect https://example.org$request_uri;
            location /gone/ { redirect 308 /new; }
            location /path { redirect 301 $request_uri; }
            location /see { redirect 303 http://$host_name/; }
        }",
    );
    for (target, status, location) in [
        ("/a%20b?c=d", 307, "https://example.org/a%20b?c=d"),
        ("/gone/x", 308, "/new"),
        ("/path?x", 301, "/path?x"),
        ("/see", 303, "http://a/"),
    ] {
        let response = get(&front, target);
        assert_eq!((response.status, response.field("location")), (status, Some(location)), "{target}");
    }
}

#[test]
fn a_redirect_to_the_path_never_leads_to_another_host() {
    let front = front("host default { redirect 308 $request_uri; }");
    let response = get(&front, "//evil.example/x");
    assert!(matches!(response.field("location"), Some("/evil.example/x") | None), "{response:?}");
}

#[test]
fn rules_of_a_location_hold_however_its_path_is_written() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::create_dir(folder.path().join("inner")).unwrap();
    std::fs::write(folder.path().join("inner/secret"), "secret").unwrap();
    let mirror = mirror();
    let front = front(&format!(
        "host a {{ proxy_pass http://{}; location /inner/ {{ deny all; }} }}\n\
         host b {{ files {}; location /inner/ {{ deny all; }} }}",
        address(&mirror),
        folder.path().display()
    ));
    for (path, expect) in [
        ("/inner/secret", 403),
        ("/%69nner/secret", 400),
        ("/inner%2fsecret", 400),
        ("/./inner/secret", 400),
        ("/x/../inner/secret", 400),
        ("/x/%2E%2E/inner/secret", 400),
        ("/x/..;/inner/secret", 400),
        ("/inner;x/secret", 400),
        ("http://HOST//inner/secret", 400),
    ] {
        for host in ["a", "b"] {
            let target = path.replace("HOST", host);
            let response = front.ask(&format!("GET {target} HTTP/1.1\r\nHost: {host}\r\n\r\n"));
            assert_eq!(response.status, expect, "{host} {target}: {}", response.text());
        }
    }
    assert_eq!(front.counts().upstreams[0].requests, 0);
    let other = front.ask("GET /a/../%C3%A9;v=1//x HTTP/1.1\r\nHost: a\r\n\r\n");
    assert_eq!(other.text().lines().next(), Some("GET /a/../%C3%A9;v=1//x"), "what is no matter goes on as it is");
}

#[test]
fn a_fixed_answer_needs_no_backend() {
    let front = front(
        "host default { respond 200 \"all well\"; location /no { respond 204; } location /gone { respond 410 gone; } }",
    );
    assert_eq!(get(&front, "/").text(), "all well");
    assert_eq!(get(&front, "/no").status, 204);
    let gone = front.ask("POST /gone HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabc");
    assert_eq!((gone.status, gone.text()), (410, "gone"));
}

#[test]
fn fields_are_changed_both_ways() {
    let mirror = upstream(|| {
        |request: Request| async move {
            let mut text = String::new();
            for name in ["x-set", "x-add", "x-gone"] {
                let values: Vec<String> =
                    request.head.fields_named(name).map(|value| String::from_utf8_lossy(value).into_owned()).collect();
                text.extend([name, "=", &values.join("|"), "\n"]);
            }
            Response::text(StatusCode::OK, text).field("server", "secret/1.0").field("x-one", "1")
        }
    });
    let front = front(&format!(
        "host default {{
            proxy_pass http://{};
            proxy_set_header X-Set \"$scheme $uri\"; proxy_add_header X-Add b; proxy_remove_header X-Gone;
            set_header X-One 2; add_header X-Many a; add_header X-Many b; remove_header Server;
            location /own {{ remove_header X-One; }}
            location /here {{ respond 200 here; }}
        }}",
        address(&mirror)
    ));
    let response =
        front.ask("GET /p?q HTTP/1.1\r\nHost: a\r\nX-Set: client\r\nX-Add: a\r\nX-Gone: 1\r\nX-Gone: 2\r\n\r\n");
    assert_eq!(response.text(), "x-set=http /p\nx-add=a|b\nx-gone=\n");
    assert_eq!(response.field("server"), None);
    assert_eq!(response.field("x-one"), Some("2"));
    let head = format!("{response:?}").to_ascii_lowercase();
    assert_eq!(head.matches("x-many").count(), 2, "{head}");
    let own = get(&front, "/own");
    assert_eq!((own.field("x-one"), own.field("server")), (None, None), "the others are inherited");
    assert_eq!(get(&front, "/here").field("x-one"), Some("2"), "the proxy's own answers as well");
}

#[test]
fn paths_are_rewritten_on_the_way() {
    let mirror = mirror();
    let front = front(&format!(
        "host default {{
            proxy_pass http://{};
            location /api {{ strip_prefix /api; }}
            location /v1/ {{ rewrite /v1 /v2; }}
        }}",
        address(&mirror)
    ));
    for (target, expect) in
        [("/api/x?y=/api", "GET /x?y=/api"), ("/api", "GET /"), ("/v1/x", "GET /v2/x"), ("/apis", "GET /apis")]
    {
        assert_eq!(get(&front, target).text().lines().next(), Some(expect), "{target}");
    }
}

#[test]
fn addresses_are_let_in_or_not() {
    let front = front(
        "trusted_proxy 127.0.0.1;
         host default {
            respond 200 in;
            location /nobody { respond 200 in; deny all; }
            location /inner { respond 200 in; allow 10.0.0.0/8; deny all; }
         }",
    );
    assert_eq!(get(&front, "/").status, 200);
    assert_eq!(get(&front, "/nobody").status, 403);
    let inner =
        |from: &str| front.ask(&format!("GET /inner HTTP/1.1\r\nHost: a\r\nX-Forwarded-For: {from}\r\n\r\n")).status;
    assert_eq!([inner("10.1.2.3"), inner("11.1.2.3"), inner("10.1.2.3, 11.1.2.3")], [200, 403, 403]);
}

#[test]
fn a_client_that_asks_too_often_is_told_when_to_come_back() {
    let front = front(
        "host default {
            respond 200 in; rate_limit 1/h burst=2;
            location /free { respond 200 in; rate_limit off; }
            location /key { respond 200 in; rate_limit 1/m key=header:X-Key; }
         }",
    );
    let statuses: Vec<u16> = (0..4).map(|_| get(&front, "/").status).collect();
    assert_eq!(statuses, [200, 200, 429, 429]);
    let wait: u64 = get(&front, "/").field("retry-after").unwrap().parse().unwrap();
    assert!((3590..=3600).contains(&wait), "{wait}");
    assert!((0..9).all(|_| get(&front, "/free").status == 200));
    let key = |key: &str| front.ask(&format!("GET /key HTTP/1.1\r\nHost: a\r\nX-Key: {key}\r\n\r\n")).status;
    assert_eq!([key("a"), key("a"), key("b"), key("b")], [200, 429, 200, 429]);
}

#[test]
fn names_and_passwords_are_asked_for() {
    use argon2::password_hash::PasswordHasher as _;
    let params = argon2::Params::new(64, 1, 1, None).unwrap();
    let hasher = argon2::Argon2::new(argon2::Algorithm::Argon2id, argon2::Version::V0x13, params);
    let hash = hasher.hash_password(b"secret").unwrap().to_string();
    let mut file = tempfile::NamedTempFile::new().unwrap();
    writeln!(file, "alice:{hash}").unwrap();
    let front = front(&format!(
        "host default {{
            respond 200 in; basic_auth \"members only\" {};
            location /open {{ respond 200 in; basic_auth off; }}
            location /broken {{ respond 200 in; basic_auth x no/such/file; }}
         }}",
        file.path().display()
    ));
    let refused = get(&front, "/");
    assert_eq!(refused.status, 401);
    assert_eq!(refused.field("www-authenticate"), Some("Basic realm=\"members only\", charset=\"UTF-8\""));
    let ask = |target: &str, token: &str| {
        front.ask(&format!("GET {target} HTTP/1.1\r\nHost: a\r\nAuthorization: Basic {token}\r\n\r\n")).status
    };
    assert_eq!(ask("/", "YWxpY2U6c2VjcmV0"), 200);
    assert_eq!(ask("/", "YWxpY2U6d3Jvbmc="), 401);
    assert_eq!(get(&front, "/open").status, 200);
    assert_eq!(ask("/broken", "YWxpY2U6c2VjcmV0"), 500, "without the file nobody gets in");
}

#[test]
fn another_program_decides() {
    let judge = upstream(|| {
        |request: Request| async move {
            let uri = request.head.field_str("x-forwarded-uri").unwrap_or_default().to_owned();
            match request.head.field_str("cookie") {
                Some("user=alice") => Response::new(StatusCode::NO_CONTENT).field("x-user", format!("alice {uri}")),
                _ => Response::text(StatusCode::UNAUTHORIZED, "who are you?").field("www-authenticate", "Cookie"),
            }
        }
    });
    let mirror = mirror();
    let front = front(&format!(
        "host default {{
            proxy_pass http://{};
            forward_auth http://{}/verify copy=X-User,X-Role;
            location /open {{ forward_auth off; }}
            location /broken {{ forward_auth http://{}/; }}
         }}",
        address(&mirror),
        address(&judge),
        dead_address()
    ));
    let allowed =
        front.ask("GET /p?q HTTP/1.1\r\nHost: a\r\nCookie: user=alice\r\nX-User: root\r\nX-Role: root\r\n\r\n");
    let text = allowed.text().to_lowercase();
    assert!(text.contains("x-user: alice /p?q\n") && !text.contains("root"), "{text}");
    let refused = get(&front, "/p");
    assert_eq!((refused.status, refused.text()), (401, "who are you?"));
    assert_eq!(refused.field("www-authenticate"), Some("Cookie"));
    assert_eq!(get(&front, "/open").status, 200);
    assert_eq!(get(&front, "/broken").status, 503, "without its word nobody gets in");
}

#[test]
fn the_program_that_is_asked_knows_the_request_by_its_name_and_believes_no_client() {
    let judge = hostile(|_, mut wire| {
        let head = wire.head().to_lowercase();
        let id = head.lines().find_map(|line| line.strip_prefix("x-request-id: ")).unwrap_or_default().to_owned();
        let ids = head.matches("x-request-id: ").count();
        assert!(id.len() == 32 && ids == 1 && !id.contains("forged"), "{head}");
        assert!(!head.contains("root"), "what the client calls as the program's answer does is not asked: {head}");
        assert!(head.contains("x-forwarded-for: 127.0.0.1\r\n"), "what the proxy itself says stays: {head}");
        // What clients prove themselves with is the question, also where the answer replaces it.
        assert!(head.contains("authorization: bearer client\r\n") && head.contains("cookie: c=1\r\n"), "{head}");
        wire.send(format!("HTTP/1.1 204 No Content\r\nX-User: {id}\r\nAuthorization: Bearer inner\r\n\r\n"));
        wire.rest();
    });
    let mirror = mirror();
    let front = front(&format!(
        "host default {{ proxy_pass http://{}; forward_auth http://{}/ copy=X-User,X-Role,Authorization,Cookie,X-Forwarded-For; }}",
        address(&mirror),
        judge.address()
    ));
    let answer = front.ask(
        "GET / HTTP/1.1\r\nHost: a\r\nX-Request-Id: forged\r\nX-User: root\r\nx-role: root\r\n\
         Authorization: Bearer client\r\nCookie: c=1\r\n\r\n",
    );
    let id = answer.field("x-request-id").unwrap().to_owned();
    let text = answer.text().to_lowercase();
    assert_eq!(answer.status, 200, "{text}");
    assert!(text.contains(&format!("x-request-id: {id}\n")), "the backend has the same: {text}");
    assert!(text.contains(&format!("x-user: {id}\n")), "and so has the program: {text}");
    assert!(text.contains("authorization: bearer inner\n") && !text.contains("cookie:"), "{text}");
}

#[test]
fn trailers_cannot_say_what_the_program_or_the_operator_decides() {
    let judge = upstream(|| |_: Request| async { Response::new(StatusCode::NO_CONTENT).field("x-user", "alice") });
    let backend = hostile(|_, mut wire| {
        let head = wire.head().to_lowercase();
        assert!(head.contains("x-user: alice\r\n") && head.contains("x-zone: inner\r\n"), "{head}");
        let content = wire.exact("1\r\nx\r\n0\r\nX-Sum: 1\r\n\r\n".len());
        assert_eq!(content, "1\r\nx\r\n0\r\nX-Sum: 1\r\n\r\n");
        wire.send("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n");
    });
    let front = front(&format!(
        "host default {{
            proxy_pass http://{};
            proxy_set_header X-Zone inner;
            forward_auth http://{}/verify copy=X-User,X-Role;
         }}",
        backend.address(),
        address(&judge)
    ));
    let answer = front.ask(
        "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nx\r\n0\r\n\
         X-User: root\r\nx-role: root\r\nX-Zone: outer\r\nX-Sum: 1\r\n\r\n",
    );
    assert_eq!(answer.status, 200, "{}", answer.text());
}

#[test]
fn the_access_log_names_the_client_that_a_trusted_proxy_names() {
    let folder = tempfile::tempdir().unwrap();
    for (trusted, expect) in [("trusted_proxy 127.0.0.0/8;", "192.0.2.9"), ("", "127.0.0.1")] {
        let file = folder.path().join(expect);
        let front =
            front(&format!("access_log {} format=json; {trusted} host default {{ respond 200; }}", file.display()));
        front.ask("GET / HTTP/1.1\r\nHost: a\r\nX-Forwarded-For: 6.6.6.6, 192.0.2.9\r\n\r\n");
        let line = || std::fs::read_to_string(&file).unwrap_or_default();
        eventually("a line", || line().ends_with('\n'));
        assert!(line().contains(&format!("\"client\":\"{expect}\"")), "{}", line());
    }
}

#[test]
fn the_operators_pages_take_the_place_of_the_proxys_own() {
    let mut file = tempfile::Builder::new().suffix(".html").tempfile().unwrap();
    write!(file, "<h1>back soon</h1>").unwrap();
    let front = front(&format!(
        "host default {{ proxy_pass http://{}; error_page 503 504 {}; location /none {{ error_page 503 no/such.html; }} }}",
        dead_address(),
        file.path().display()
    ));
    let page = get(&front, "/");
    assert_eq!((page.status, page.text()), (503, "<h1>back soon</h1>"));
    assert_eq!(page.field("content-type"), Some("text/html; charset=utf-8"));
    assert_eq!(page.field("retry-after"), Some("1"));
    let usual = get(&front, "/none");
    assert_eq!(usual.status, 503);
    assert!(usual.text().contains("refused the connection"), "{}", usual.text());
}

#[test]
fn files_are_served_from_a_folder() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("a.css"), "body {}").unwrap();
    // A file that changed a moment ago may change again within the same second.
    let an_hour_ago = std::time::SystemTime::now() - std::time::Duration::from_hours(1);
    std::fs::File::options().write(true).open(folder.path().join("a.css")).unwrap().set_modified(an_hour_ago).unwrap();
    std::fs::write(folder.path().join(".hidden"), "secret").unwrap();
    std::fs::create_dir(folder.path().join("static")).unwrap();
    std::fs::write(folder.path().join("static/b.txt"), "b").unwrap();
    let folder = folder.path().display().to_string();
    let front = front(&format!(
        "host default {{
            files {folder};
            location /static/ {{ strip_prefix /static; files {folder}; }}
            location /none/ {{ files no/such/folder; }}
         }}"
    ));
    let css = get(&front, "/a.css");
    assert_eq!((css.status, css.text()), (200, "body {}"));
    assert!(css.field("content-type").is_some_and(|media_type| media_type.starts_with("text/css")));
    assert_eq!(get(&front, "/static/a.css").text(), "body {}");
    assert_eq!(get(&front, "/.hidden").status, 404);
    assert!(matches!(get(&front, "/%2e%2e/%2e%2e/etc/passwd").status, 400 | 404));
    assert_eq!(front.ask("POST /a.css HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n").status, 405);
    assert_eq!(get(&front, "/none/x").status, 500);
    let modified = css.field("last-modified").unwrap();
    let again = front.ask(&format!("GET /a.css HTTP/1.1\r\nHost: a\r\nIf-Modified-Since: {modified}\r\n\r\n"));
    assert_eq!(again.status, 304);
}

#[test]
fn retries_can_be_switched_off_for_a_place() {
    let good = named("good");
    let pass = format!("proxy_pass http://{}; proxy_pass http://{};", dead_address(), address(&good));
    let front = front(&format!("host default {{ {pass} retries 0; location /more {{ {pass} retries 1; }} }}"));
    assert_eq!(get(&front, "/").status, 503);
    assert_eq!(get(&front, "/more").text(), "good");
}

#[test]
fn silence_in_a_response_has_its_own_limit() {
    let silent = hostile(|_, mut wire| {
        wire.head();
        wire.send("HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhello");
        wire.rest();
    });
    let front = front(&everything_to(&[silent.address()], "idle_timeout 50ms;"));
    let mut client = front.connect();
    client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    let seen = String::from_utf8(client.read_to_end()).unwrap();
    assert!(!seen.contains("hello.") && seen.len() < 400, "{seen}");
    assert_eq!(front.counts().broken_off, 1);
}
