//! Who sees which page, and what is sent with it.

use crate::support::Backend;
use std::fs;

/// The pages for members only.
const MEMBERS: [&str; 3] = ["/", "/index.html", "/chat.html"];

#[test]
fn only_a_session_opens_the_pages() {
    let backend = Backend::start();
    let session = backend.sign_up("alice");
    for page in MEMBERS {
        let open = backend.get(page, &[&session]);
        assert_eq!((open.status, open.field("cache-control")), (200, Some("private, no-cache")), "{page}");
        assert!(open.field("vary").unwrap().contains("Cookie"));
        for cookie in ["X: y", "Cookie: auth=true", "Cookie: auth=true; session=AAAAAAAAAAAAAAAAAAAAAA"] {
            let closed = backend.get(page, &[cookie]);
            assert_eq!(
                (closed.status, closed.field("content-type")),
                (401, Some("text/html; charset=utf-8")),
                "{page}"
            );
            assert!(closed.text().contains("href=\"/login.html"), "{}", closed.text());
            assert!(closed.field("www-authenticate").is_some());
            assert_eq!(closed.field("cache-control"), Some("no-store"));
        }
    }
}

#[test]
fn no_spelling_of_a_page_opens_it() {
    let backend = Backend::start();
    for target in ["/chat%2ehtml", "/%63hat.html", "/index.html?x=y", "/index%2Ehtml", "/?"] {
        assert_eq!(backend.get(target, &[]).status, 401, "{target}");
    }
    for target in
        ["//", "//chat.html", "/./chat.html", "/x/../chat.html", "/chat.html/", "/CHAT.HTML", "/static/../chat.html"]
    {
        let response = backend.get(target, &[]);
        assert!(matches!(response.status, 400 | 404), "{target}: {}", response.status);
        assert!(!response.text().contains("<h1>chat"), "{target}");
    }
}

#[test]
fn the_401_page_leads_back() {
    let backend = Backend::start();
    assert!(backend.get("/chat.html", &[]).text().contains("\"/login.html?next=%2Fchat.html\""));
    let login = backend.get("/login.html?next=%2Fchat.html", &[]);
    assert!(login.text().contains("<input type=\"hidden\" name=\"next\" value=\"/chat.html\">"), "{}", login.text());
    let login = backend.get("/login.html?next=%2F%2Fevil.example", &[]);
    assert!(!login.text().contains("evil"), "{}", login.text());
    fs::write(backend.folder.path().join("www/401.html"), "own <a href=\"/login.html\">").unwrap();
    assert_eq!(backend.get("/chat.html", &[]).text(), "own <a href=\"/login.html?next=%2Fchat.html\">");
}

#[test]
fn everything_else_is_public() {
    let backend = Backend::start();
    let check = |target, status, content_type| {
        let response = backend.get(target, &[]);
        assert_eq!((response.status, response.field("content-type")), (status, Some(content_type)), "{target}");
    };
    check("/login", 200, "text/html; charset=utf-8");
    check("/login.html", 200, "text/html; charset=utf-8");
    check("/signup", 200, "text/html; charset=utf-8");
    check("/app.js", 200, "text/javascript; charset=utf-8");
    check("/static/css/base.css", 200, "text/css; charset=utf-8");
    check("/css/base.css", 200, "text/css; charset=utf-8");
    check("/healthz", 200, "text/plain; charset=utf-8");
    check("/missing", 404, "application/problem+json");
    assert!(backend.get("/missing", &["Accept: text/html"]).text().contains("<h1>404 Not Found</h1>"));
    assert!(backend.get("/signup", &[]).text().contains("action=\"/signup\""), "built in, where the site has none");
}

#[test]
fn every_answer_is_fenced_in() {
    let backend = Backend::start();
    let session = backend.sign_up("alice");
    let policy = "default-src 'self'; object-src 'none'; frame-ancestors 'none'; base-uri 'none'; form-action 'self'";
    for (target, field) in
        [("/", session.as_str()), ("/", "X: y"), ("/missing", "X: y"), ("/app.js", "X: y"), ("/..", "X: y")]
    {
        let response = backend.get(target, &[field]);
        assert_eq!(response.field("content-security-policy"), Some(policy), "{target}");
        assert_eq!(response.fields_named("x-content-type-options").collect::<Vec<_>>(), ["nosniff"], "{target}");
        assert_eq!(response.field("referrer-policy"), Some("same-origin"), "{target}");
        assert_eq!(response.field("x-frame-options"), Some("DENY"), "{target}");
    }
}

#[test]
fn the_binary_holds_the_site() {
    let backend = Backend::embedded(false);
    let login = backend.get("/login.html", &[]);
    assert_eq!(login.status, 200);
    assert!(login.text().contains("action=\"/login\""), "{}", login.text());
    let packed = backend.get("/static/css/base.css", &["Accept-Encoding: gzip"]);
    assert_eq!((packed.status, packed.field("content-encoding")), (200, Some("gzip")));
    assert!(packed.body.starts_with(&[0x1f, 0x8b]), "a gzip member");
    let plain = backend.get("/static/css/base.css", &[]);
    assert_eq!((plain.field("content-encoding"), plain.field("vary")), (None, Some("Accept-Encoding")));
    assert!(packed.body.len() < plain.body.len());
    let wrong = backend.post_form("/login", "username=a&password=b");
    assert!(wrong.text().contains("the name or the password is wrong"), "{}", wrong.text());
    assert_eq!(backend.get("/chat.html", &[]).status, 401);
}

#[test]
fn a_folder_that_is_none_says_what_to_do() {
    let error = backend::Site::dir("no/such/folder").unwrap_err().to_string();
    assert!(error.contains("no/such/folder") && error.contains("give a folder"), "{error}");
}
