//! Who is let in: sessions by cookie and token, requests of other sites refused.

use crate::support::{ask, get, serve};
use std::sync::Arc;
use std::time::Duration;
use weaprous::prelude::*;
use weaprous::session::{BoxFuture, SessionIdHash, SessionRecord, SessionStorage, StorageError};
use weaprous::{Csrf, MemorySessions};

fn app_with(sessions: Sessions) -> App {
    async fn log_in(
        old: Option<Session>,
        State(sessions): State<Sessions>,
        user: String,
    ) -> Result<impl IntoResponse, Problem> {
        let new = sessions.rotate(old.as_ref(), &user).await.map_err(Problem::internal)?;
        Ok((new.cookie, new.token))
    }
    let sessions = Arc::new(sessions);
    App::new()
        .state(Arc::clone(&sessions))
        .sessions(sessions)
        .route("/login", [POST], log_in)
        .route("/me", [GET], async |session: Session| session.user)
        .route("/maybe", [GET], async |session: Option<Session>| session.map_or("nobody".to_owned(), |s| s.user))
        .route("/logout", [POST], async |session: Session, State(sessions): State<Sessions>| {
            sessions.end(&session).await.map_err(Problem::internal)
        })
}

fn app() -> App {
    app_with(Sessions::new(Arc::new(MemorySessions::new()), Duration::from_mins(1)))
}

#[test]
fn a_session_opens_by_cookie_and_by_token() {
    let server = serve(app());
    let login = ask(&server, "POST", "/login", &[], "alice");
    let token = login.text().to_owned();
    assert_eq!(token.len(), 22);
    let cookie = login.field("set-cookie").unwrap();
    assert_eq!(cookie, format!("session={token}; Path=/; Max-Age=60; SameSite=Lax; HttpOnly"));
    assert_eq!(get(&server, "/me", &[&format!("Cookie: x=y; session={token}")]).text(), "alice");
    assert_eq!(get(&server, "/me", &[&format!("Authorization: Bearer {token}")]).text(), "alice");
    assert_eq!(get(&server, "/me", &[&format!("Authorization: bearer  {token}")]).text(), "alice");
}

#[test]
fn nothing_else_opens() {
    let server = serve(app());
    let token = ask(&server, "POST", "/login", &[], "alice").text().to_owned();
    let with_both = format!("Cookie: session={token}");
    let fields: [&[&str]; 8] = [
        &[],
        &["Cookie: auth=true"],
        &["Cookie: session="],
        &["Cookie: session=AAAAAAAAAAAAAAAAAAAAAA"],
        &["Cookie: session=%00; auth=true"],
        &["Authorization: Bearer AAAAAAAAAAAAAAAAAAAAAA"],
        &["Authorization: Basic YWxpY2U6eA=="],
        // A wrong token is not made good by a cookie.
        &[&with_both, "Authorization: Bearer AAAAAAAAAAAAAAAAAAAAAA"],
    ];
    for fields in fields {
        let response = get(&server, "/me", fields);
        assert_eq!((response.status, response.field("www-authenticate")), (401, Some("Bearer")), "{fields:?}");
        assert_eq!(get(&server, "/maybe", fields).text(), "nobody", "{fields:?}");
    }
}

/// What a browser says about a form of this very site.
const OWN_ORIGIN: &str = "Origin: http://test";

#[test]
fn a_login_ends_the_session_before_it() {
    let server = serve(app());
    let first = format!("Cookie: session={}", ask(&server, "POST", "/login", &[], "alice").text());
    let second = format!("Cookie: session={}", ask(&server, "POST", "/login", &[&first, OWN_ORIGIN], "bob").text());
    assert_ne!(first, second);
    assert_eq!(get(&server, "/me", &[&first]).status, 401);
    assert_eq!(get(&server, "/me", &[&second]).text(), "bob");
    assert_eq!(ask(&server, "POST", "/logout", &[&second, OWN_ORIGIN], "").status, 204);
    assert_eq!(get(&server, "/me", &[&second]).status, 401);
}

#[test]
fn a_session_expires() {
    let server = serve(app_with(Sessions::new(Arc::new(MemorySessions::new()), Duration::ZERO)));
    let token = ask(&server, "POST", "/login", &[], "alice").text().to_owned();
    assert_eq!(get(&server, "/me", &[&format!("Cookie: session={token}")]).status, 401);
}

#[test]
fn a_storage_that_fails_is_our_fault_not_the_client_s() {
    struct Broken;
    fn broken<T: Send + 'static>() -> BoxFuture<'static, Result<T, StorageError>> {
        Box::pin(async { Err(StorageError("disk on fire".into())) })
    }
    impl SessionStorage for Broken {
        fn save(&self, _: SessionIdHash, _: SessionRecord) -> BoxFuture<'_, Result<(), StorageError>> {
            broken()
        }
        fn load(&self, _: SessionIdHash) -> BoxFuture<'_, Result<Option<SessionRecord>, StorageError>> {
            broken()
        }
        fn remove(&self, _: SessionIdHash) -> BoxFuture<'_, Result<(), StorageError>> {
            broken()
        }
    }
    let server = serve(app_with(Sessions::new(Arc::new(Broken), Duration::from_mins(1))));
    let response = get(&server, "/me", &["Cookie: session=AAAAAAAAAAAAAAAAAAAAAA"]);
    assert_eq!(response.status, 500);
    assert!(!response.text().contains("fire"), "the cause is for the log");
    assert_eq!(ask(&server, "POST", "/login", &[], "alice").status, 500);
}

#[test]
fn only_the_hash_of_a_token_is_stored() {
    #[derive(Default)]
    struct Watched(std::sync::Mutex<Vec<(SessionIdHash, SessionRecord)>>);
    impl SessionStorage for Watched {
        fn save(&self, id_hash: SessionIdHash, record: SessionRecord) -> BoxFuture<'_, Result<(), StorageError>> {
            self.0.lock().unwrap().push((id_hash, record));
            Box::pin(async { Ok(()) })
        }
        fn load(&self, _: SessionIdHash) -> BoxFuture<'_, Result<Option<SessionRecord>, StorageError>> {
            Box::pin(async { Ok(None) })
        }
        fn remove(&self, _: SessionIdHash) -> BoxFuture<'_, Result<(), StorageError>> {
            Box::pin(async { Ok(()) })
        }
    }
    let storage = Arc::new(Watched::default());
    let server = serve(app_with(Sessions::new(Arc::clone(&storage) as _, Duration::from_mins(1))));
    let token = ask(&server, "POST", "/login", &[], "alice").text().to_owned();
    let stored = storage.0.lock().unwrap().clone();
    let [(hash, record)] = &stored[..] else { panic!("one session is stored") };
    let digest = ring::digest::digest(&ring::digest::SHA256, token.as_bytes());
    assert_eq!(hash, digest.as_ref());
    assert_eq!((record.user.as_str(), record.expires_ms - record.created_ms), ("alice", 60_000));
}

#[test]
fn requests_of_other_sites_are_refused() {
    let app = App::new()
        .route("/act", [GET, POST, PUT, PATCH, DELETE], async || "done")
        .add_route(Route::new("/login", [POST], async || "done").csrf(Csrf::NotCrossOrigin))
        .add_route(Route::new("/hook", [POST], async || "done").csrf(Csrf::Off))
        .nest("/api", App::new().csrf(Csrf::Off).route("/act", [POST], async || "done"))
        .nest("/inner", App::new().fallback(async || "done"))
        .add_route(Route::new("/talk", [GET], async |request: Request| request.upgrade("echo", async |_| ())));
    let server = serve(app);
    let check = |method, target, fields: &[&str], status| {
        assert_eq!(ask(&server, method, target, fields, "").status, status, "{method} {target} {fields:?}");
    };
    let (cookie, foreign) = ("Cookie: session=x", "Sec-Fetch-Site: cross-site");
    check("POST", "/act", &[cookie, "Sec-Fetch-Site: same-origin"], 200);
    check("POST", "/act", &[cookie, "Sec-Fetch-Site: none"], 200);
    check("POST", "/act", &[cookie, "Origin: http://test"], 200);
    check("POST", "/act", &[], 200);
    check("POST", "/act", &[cookie, foreign, "Authorization: Bearer x"], 200);
    check("GET", "/act", &[cookie, foreign], 200);
    check("POST", "/act", &[cookie], 403);
    check("POST", "/act", &[cookie, foreign], 403);
    check("POST", "/act", &[foreign], 403);
    check("POST", "/act", &[cookie, "Sec-Fetch-Site: same-site"], 403);
    check("POST", "/act", &[cookie, "Origin: http://evil.example"], 403);
    check("POST", "/act", &[cookie, "Origin: null"], 403);
    check("POST", "/act", &[cookie, "Authorization: Basic x"], 403);
    for method in ["PUT", "PATCH", "DELETE"] {
        check(method, "/act", &[cookie], 403);
        check(method, "/act", &[foreign], 403);
    }
    // An opt-out for one route, and for one nested application.
    for target in ["/hook", "/api/act"] {
        check("POST", target, &[cookie, foreign], 200);
    }
    check("POST", "/inner/anything", &[cookie], 403);
    // What changes nothing keeps its own answer.
    check("POST", "/talk", &[cookie], 405);
    check("POST", "/none", &[cookie, foreign], 404);
    // A page of another site cannot open a stream in a visitor's name either.
    let upgrade = ["Connection: upgrade", "Upgrade: echo"];
    check("GET", "/talk", &[upgrade[0], upgrade[1], cookie, "Origin: http://evil.example"], 403);
    check("GET", "/talk", &[upgrade[0], upgrade[1], cookie, "Origin: http://test"], 101);
    check("GET", "/talk", &[upgrade[0], upgrade[1], "Authorization: Bearer x"], 101);
    check("POST", "/login", &[cookie], 200);
    check("POST", "/login", &[foreign], 403);
    check("POST", "/login", &["Origin: http://evil.example"], 403);
    // Behind the proxy the client's host comes in another field.
    check("POST", "/act", &[cookie, "Origin: http://chat.example", "X-Forwarded-Host: chat.example"], 200);
    check("POST", "/act", &[cookie, "Origin: http://evil.example", "X-Forwarded-Host: chat.example"], 403);
}
