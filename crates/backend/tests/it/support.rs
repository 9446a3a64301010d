//! A backend on a free port, and requests written out.

use accounts::{Accounts, StoreSessions};
use backend::{BackendSettings, Site};
use chat::Store;
use engine::{Running, Server, Settings, Stop};
use std::fs;
use std::sync::Arc;
use std::time::Duration;
use tempfile::TempDir;
use testkit::{RawClient, RawResponse};
use weaprous::Sessions;

/// A password that no rule refuses.
pub(crate) const PASSWORD: &str = "correct horse battery";

/// A running backend and the folder of its site.
pub(crate) struct Backend {
    server: Running,
    pub(crate) store: Arc<dyn Store>,
    pub(crate) folder: TempDir,
}

impl Backend {
    /// Serves a small site with a login page of its own.
    pub(crate) fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        for (path, text) in [
            ("www/index.html", "<h1>members</h1>"),
            ("www/chat.html", "<h1>chat</h1>"),
            ("www/login.html", "<h1>own login</h1><form method=\"post\"><input name=\"username\"></form>"),
            ("www/app.js", "export {}"),
            ("static/css/base.css", "body {}"),
        ] {
            let file = folder.path().join(path);
            fs::create_dir_all(file.parent().unwrap()).unwrap();
            fs::write(file, text).unwrap();
        }
        let (www, static_files) = (folder.path().join("www"), folder.path().join("static"));
        Self::with(folder, Site::dir(www).unwrap(), Site::dir(static_files).unwrap(), false)
    }

    /// Serves what is in the binary.
    pub(crate) fn embedded(secure_cookies: bool) -> Self {
        Self::with(tempfile::tempdir().unwrap(), Site::embedded_www(), Site::embedded_static(), secure_cookies)
    }

    fn with(folder: TempDir, www: Site, static_files: Site, secure_cookies: bool) -> Self {
        let store: Arc<dyn Store> = Arc::new(store::MemoryStore::new());
        let accounts = Accounts::new(Arc::clone(&store));
        let storage = Arc::new(StoreSessions::new(Arc::clone(&store)));
        let sessions = Arc::new(Sessions::new(storage, Duration::from_hours(1)));
        let app = backend::app(BackendSettings { accounts, sessions, www, static_files, secure_cookies });
        let any_port = "127.0.0.1:0".parse().unwrap();
        let settings = Settings { workers: Some(1), ..Settings::default() };
        let server = Server::new(settings).listen(any_port, app.into_service().unwrap()).unwrap();
        Self { server: server.start(Stop::new(), Duration::from_secs(10)).unwrap(), store, folder }
    }

    /// Sends one request. `fields` are whole lines without CRLF.
    pub(crate) fn ask(&self, method: &str, target: &str, fields: &[&str], content: &str) -> RawResponse {
        let mut client = RawClient::connect(self.server.local_addrs()[0]);
        let fields: String = fields.iter().flat_map(|field| [field, "\r\n"]).collect();
        let length = content.len();
        client.send(format!(
            "{method} {target} HTTP/1.1\r\nHost: test\r\nContent-Length: {length}\r\n{fields}\r\n{content}"
        ));
        client.read_response_to(method)
    }

    pub(crate) fn get(&self, target: &str, fields: &[&str]) -> RawResponse {
        self.ask("GET", target, fields, "")
    }

    pub(crate) fn post_form(&self, target: &str, content: &str) -> RawResponse {
        self.ask("POST", target, &["Content-Type: application/x-www-form-urlencoded"], content)
    }

    pub(crate) fn post_json(&self, target: &str, content: &str) -> RawResponse {
        self.ask("POST", target, &["Content-Type: application/json"], content)
    }

    /// Signs a user up; the cookies as a browser sends them back.
    pub(crate) fn sign_up(&self, user: &str) -> String {
        let response = self.post_form("/signup", &format!("username={user}&password={PASSWORD}"));
        assert_eq!(response.status, 303, "{}", response.text());
        cookies(&response)
    }
}

/// The line that sends the cookies of a response back.
pub(crate) fn cookies(response: &RawResponse) -> String {
    let pairs: Vec<&str> = response.fields_named("set-cookie").filter_map(|cookie| cookie.split(';').next()).collect();
    format!("Cookie: {}", pairs.join("; "))
}
