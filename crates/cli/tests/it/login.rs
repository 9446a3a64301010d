//! Login with the form opens the pages; nothing else does.

use crate::support::Up;
use crate::support::http::{get, post_form, session_cookie};

#[test]
fn only_a_session_opens_the_index() {
    let folder = tempfile::tempdir().unwrap();
    let up = Up::start(folder.path());
    for addr in [up.backend, up.proxy] {
        let login = post_form(addr, "/login", "username=admin&password=password");
        assert_eq!(login.status, 303, "{}", login.text());
        assert!(login.fields_named("set-cookie").any(|cookie| cookie.starts_with("auth=true")));
        let cookie = session_cookie(&login);

        for path in ["/index.html", "/"] {
            assert_eq!(get(addr, path, &[("Cookie", &cookie)]).status, 200, "{path} with a session");
            let refused = get(addr, path, &[]);
            assert_eq!(refused.status, 401, "{path} without a cookie");
            assert!(refused.text().contains("/login"), "the 401 page links to the login");
            assert_eq!(get(addr, path, &[("Cookie", "auth=true")]).status, 401, "{path} with a forged cookie");
            assert_eq!(get(addr, path, &[("Cookie", "auth=true; session=AAAAAAAAAAAAAAAAAAAAAA")]).status, 401);
        }
    }
}

#[test]
fn a_wrong_password_and_a_logout_close_the_door() {
    let folder = tempfile::tempdir().unwrap();
    let up = Up::start(folder.path());
    let wrong = post_form(up.backend, "/login", "username=admin&password=passwort");
    assert_eq!(wrong.status, 401);
    assert!(
        !wrong.fields_named("set-cookie").any(|cookie| cookie.starts_with("session=") && !cookie.contains("Max-Age=0"))
    );

    let cookie = session_cookie(&post_form(up.backend, "/login", "username=admin&password=password"));
    let fields = [("Cookie", cookie.as_str()), ("Sec-Fetch-Site", "same-origin")];
    let logout = crate::support::http::request(up.backend, "POST", "/logout", &fields, "");
    assert!(matches!(logout.status, 200 | 303), "{}", logout.text());
    assert_eq!(get(up.backend, "/index.html", &[("Cookie", &cookie)]).status, 401, "the old cookie is worth nothing");
}

#[test]
fn another_site_cannot_act_with_the_cookie() {
    let folder = tempfile::tempdir().unwrap();
    let up = Up::start(folder.path());
    let cookie = session_cookie(&post_form(up.proxy, "/login", "username=admin&password=password"));
    let fields = [
        ("Cookie", cookie.as_str()),
        ("Origin", "https://evil.example"),
        ("Sec-Fetch-Site", "cross-site"),
        ("Content-Type", "application/json"),
    ];
    let body = r#"{"channel":"general","text":"forged"}"#;
    let response = crate::support::http::request(up.proxy, "POST", "/send-message", &fields, body);
    assert_eq!(response.status, 403, "{}", response.text());
}
