//! Sign-up, login and logout, as forms and as JSON.

use crate::support::{Backend, PASSWORD, cookies};
use std::collections::BTreeSet;

#[test]
fn a_form_logs_in_and_leads_on() {
    let backend = Backend::start();
    backend.sign_up("alice");
    let login = backend.post_form("/login", &format!("username=alice&password={PASSWORD}"));
    assert_eq!((login.status, login.field("location")), (303, Some("/")));
    let set: Vec<&str> = login.fields_named("set-cookie").collect();
    assert_eq!(set[0], "auth=true; Path=/; SameSite=Lax");
    let attributes: BTreeSet<&str> = set[1].split("; ").skip(1).collect();
    assert_eq!(attributes, ["HttpOnly", "Max-Age=3600", "Path=/", "SameSite=Lax"].into());
    assert!(set[1].starts_with("session=") && set.len() == 2, "{set:?}");
    assert_eq!(backend.get("/index.html", &[&cookies(&login)]).text(), "<h1>members</h1>");
}

#[test]
fn names_are_one_in_any_case() {
    let backend = Backend::start();
    backend.sign_up("Alice");
    assert_eq!(backend.post_form("/login", &format!("username=ALICE&password={PASSWORD}")).status, 303);
    assert_eq!(backend.post_form("/signup", &format!("username=alice&password={PASSWORD}")).status, 409);
}

#[test]
fn a_login_leads_only_to_this_site() {
    let backend = Backend::start();
    backend.sign_up("alice");
    let check = |next: &str, expect| {
        let content = format!("username=alice&password={PASSWORD}&next={next}");
        assert_eq!(backend.post_form("/login", &content).field("location"), Some(expect), "{next}");
    };
    check("/chat.html%3Fc=general", "/chat.html?c=general");
    check("/a&next=/b", "/a");
    for next in ["//evil.example", "/%5Cevil.example", "https://evil.example", "/%09/evil.example", "%0d%0aX:y", ""] {
        check(next, "/");
    }
}

#[test]
fn programs_log_in_with_json() {
    let backend = Backend::start();
    let json = format!(r#"{{"username":"alice","password":"{PASSWORD}"}}"#);
    for target in ["/signup", "/login"] {
        let response = backend.post_json(target, &json);
        assert_eq!((response.status, response.field("content-type")), (200, Some("application/json")));
        assert_eq!(response.field("cache-control"), Some("no-store"));
        let text = response.text();
        let token = text.strip_prefix(r#"{"user":"alice","token":""#).and_then(|rest| rest.strip_suffix(r#""}"#));
        let bearer = format!("Authorization: Bearer {}", token.unwrap());
        assert_eq!(backend.get("/", &[&bearer]).status, 200);
    }
}

#[test]
fn a_failure_shows_the_form_again_with_the_reason() {
    let backend = Backend::start();
    backend.sign_up("alice");
    let check = |target: &str, content: &str, status: u16, part: &str| {
        let response = backend.post_form(target, content);
        let text = response.text();
        assert_eq!((response.status, response.field("content-type")), (status, Some("text/html; charset=utf-8")));
        assert!(text.contains("<form") && text.contains("role=\"alert\"") && text.contains(part), "{text}");
        assert_eq!(response.fields_named("set-cookie").count(), 0, "{target} {content}");
        assert_eq!(response.field("cache-control"), Some("no-store"));
    };
    let wrong = "the name or the password is wrong";
    check("/login", "username=alice&password=wrong", 401, wrong);
    check("/login", "username=nobody&password=wrong", 401, wrong);
    check("/login", "username=%01&password=wrong", 401, wrong);
}

#[test]
fn what_was_typed_comes_back_escaped() {
    let backend = Backend::start();
    let content = "username=%22%3E%3Cscript%3E&password=wrong&next=/chat.html%3Fa%3D%22";
    let text = backend.post_form("/login", content).text().to_owned();
    assert!(text.contains("own login") && text.contains("value=\"&quot;&gt;&lt;script&gt;\""), "{text}");
    assert!(!text.contains("<script"), "{text}");
    assert!(text.contains("name=\"next\" value=\"/chat.html?a=&quot;\""), "{text}");
}

#[test]
fn a_sign_up_says_what_is_wrong() {
    let backend = Backend::start();
    backend.sign_up("alice");
    let name = "a".repeat(10_000);
    for (user, password, status) in [
        ("alice", PASSWORD, 409),
        ("bob", "short", 422),
        ("bob", "", 422),
        ("bo b", PASSWORD, 422),
        ("%01bob", PASSWORD, 422),
        (&name, PASSWORD, 422),
        ("", PASSWORD, 422),
    ] {
        let response = backend.post_form("/signup", &format!("username={user}&password={password}"));
        assert_eq!(response.status, status, "{user:.20} {password}");
        assert!(response.text().contains("role=\"alert\""));
        assert_eq!(response.fields_named("set-cookie").count(), 0);
        let response = backend.post_json("/signup", &format!(r#"{{"username":"{user}","password":"{password}"}}"#));
        let json = response.field("content-type");
        assert_eq!((response.status, json), (status, Some("application/problem+json")), "{user:.20} {password}");
    }
}

#[test]
fn malformed_entries_are_refused() {
    let backend = Backend::start();
    let form = "application/x-www-form-urlencoded";
    let check = |content_type: &str, content: &str, status: u16| {
        let field = format!("Content-Type: {content_type}");
        assert_eq!(backend.ask("POST", "/login", &[&field], content).status, status, "{content_type} {content:.20}");
    };
    check("application/json", "{", 400);
    check("application/json", r#"{"username":1,"password":"x"}"#, 422);
    check("text/plain", "username=a&password=b", 415);
    check(form, "username=a", 422);
    check(form, "username=%zz&password=b", 400);
    check(form, "username=%00&password=b", 400);
    check(form, &"x".repeat(17 * 1024), 413);
    assert_eq!(backend.ask("PUT", "/login", &[], "").status, 405);
}

#[test]
fn guessing_is_slowed_down() {
    let backend = Backend::start();
    backend.sign_up("alice");
    // Far more than the ten that one address gets for one name.
    let refused =
        (0..40).map(|_| backend.post_form("/login", "username=alice&password=wrong")).find(|r| r.status == 429);
    let refused = refused.expect("the guesses are stopped");
    assert!(refused.field("retry-after").unwrap().parse::<u64>().unwrap() > 0);
    assert!(refused.text().contains("role=\"alert\""), "{}", refused.text());
    let json = backend.post_json("/login", r#"{"username":"alice","password":"wrong"}"#);
    assert_eq!((json.status, json.field("content-type")), (429, Some("application/problem+json")));
}

#[test]
fn a_logout_ends_the_session_and_takes_the_cookies() {
    let backend = Backend::start();
    let session = backend.sign_up("alice");
    assert_eq!(backend.ask("POST", "/logout", &[&session], "").status, 403, "another site's page cannot log out");
    assert_eq!(backend.get("/", &[&session]).status, 200);
    let logout = backend.ask("POST", "/logout", &[&session, "Sec-Fetch-Site: same-origin"], "");
    assert_eq!((logout.status, logout.field("location")), (303, Some("/login.html")));
    let set: Vec<&str> = logout.fields_named("set-cookie").collect();
    assert_eq!(set[0], "session=; Path=/; Max-Age=0; SameSite=Lax; HttpOnly");
    assert_eq!(set[1], "auth=; Path=/; Max-Age=0; SameSite=Lax");
    assert_eq!(backend.get("/", &[&session]).status, 401);
    let json = ["Origin: http://test", "Content-Type: application/json"];
    assert_eq!(backend.ask("POST", "/logout", &json, "{}").status, 204);
}

#[test]
fn a_new_login_ends_the_old_session() {
    let backend = Backend::start();
    let first = backend.sign_up("alice");
    let form = "Content-Type: application/x-www-form-urlencoded";
    let content = format!("username=alice&password={PASSWORD}");
    let second = cookies(&backend.ask("POST", "/login", &[&first, form], &content));
    assert_eq!(backend.get("/", &[&first]).status, 401);
    assert_eq!(backend.get("/", &[&second]).status, 200);
}

#[test]
fn other_sites_cannot_log_in() {
    let backend = Backend::start();
    backend.sign_up("alice");
    let content = format!("username=alice&password={PASSWORD}");
    for field in ["Sec-Fetch-Site: cross-site", "Origin: http://evil.example"] {
        let form = "Content-Type: application/x-www-form-urlencoded";
        assert_eq!(backend.ask("POST", "/login", &[field, form], &content).status, 403, "{field}");
    }
}

#[test]
fn the_store_never_sees_a_token() {
    let backend = Backend::start();
    let cookie = backend.sign_up("alice");
    let token = cookie.rsplit_once("session=").unwrap().1;
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let entries = runtime.block_on(backend.store.list("", None, 100)).unwrap();
    assert!(entries.iter().any(|(key, _)| key.starts_with("session/")));
    for (key, entry) in entries {
        assert!(!key.contains(token) && !String::from_utf8_lossy(&entry.value).contains(token), "{key}");
        assert!(!String::from_utf8_lossy(&entry.value).contains(PASSWORD), "{key}");
    }
}

#[test]
fn cookies_are_for_tls_only_where_that_is_said() {
    let backend = Backend::embedded(true);
    let response = backend.post_form("/signup", &format!("username=alice&password={PASSWORD}"));
    let set: Vec<&str> = response.fields_named("set-cookie").collect();
    assert!(set.len() == 2 && set.iter().all(|cookie| cookie.contains("; Secure")), "{set:?}");
}
