//! `weaprous serve`: a folder on the network.

use crate::support::http::get;
use crate::support::process::Weaprous;
use rustls::pki_types::CertificateDer;
use std::fs;
use std::io::{Read as _, Write as _};
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::time::{Duration, Instant};
use tempfile::TempDir;
use testkit::{RawClient, RawResponse};

struct Shown {
    process: Weaprous,
    addr: SocketAddr,
}

/// A folder with a page, a folder, a hidden file.
fn folder() -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    fs::create_dir(folder.path().join("photos")).unwrap();
    fs::write(folder.path().join("photos/one.txt"), "one").unwrap();
    fs::write(folder.path().join("notes.txt"), "notes").unwrap();
    fs::write(folder.path().join(".secret"), "secret").unwrap();
    folder
}

fn serve(folder: &Path, args: &[&str]) -> Shown {
    let folder = folder.to_str().expect("a temporary folder's name is text");
    let mut process = Weaprous::start(["serve", folder, "--port", "0"].iter().chain(args));
    let addr = process.address("here");
    Shown { process, addr }
}

impl Shown {
    fn ask(&self, method: &str, target: &str, fields: &[&str], content: &[u8]) -> RawResponse {
        let fields: String = fields.iter().flat_map(|field| [field, "\r\n"]).collect();
        let mut client = RawClient::connect(self.addr);
        let length = content.len();
        let host = self.addr;
        client.send(format!("{method} {target} HTTP/1.1\r\nHost: {host}\r\nContent-Length: {length}\r\n{fields}\r\n"));
        client.send(content);
        client.read_response_to(method)
    }

    fn get(&self, target: &str, fields: &[&str]) -> RawResponse {
        self.ask("GET", target, fields, b"")
    }

    /// Posts a file as the page's form does.
    fn upload(&self, target: &str, name: &str, content: &str, fields: &[&str]) -> RawResponse {
        let form = format!(
            "--xyz\r\nContent-Disposition: form-data; name=\"file\"; filename=\"{name}\"\r\n\
             Content-Type: text/plain\r\n\r\n{content}\r\n--xyz--\r\n"
        );
        let fields: Vec<&str> =
            ["Content-Type: multipart/form-data; boundary=xyz"].iter().chain(fields).copied().collect();
        self.ask("POST", target, &fields, form.as_bytes())
    }
}

#[test]
fn a_folder_is_listed_and_its_files_are_sent() {
    let folder = folder();
    let mut shown = serve(folder.path(), &["--server-ip", "127.0.0.1"]);
    shown.process.wait_for_text("Only this machine can see it");
    let page = shown.get("/", &["Accept: text/html"]);
    assert_eq!(page.status, 200);
    assert!(page.text().contains("href=\"notes.txt\"") && page.text().contains("href=\"photos/\""), "{}", page.text());
    assert!(!page.text().contains("secret") && !page.text().contains("<form"), "{}", page.text());
    assert_eq!(shown.get("/photos/one.txt", &[]).text(), "one");
    assert_eq!(shown.get("/photos", &[]).field("location"), Some("/photos/"));
    for target in ["/.secret", "/../notes.txt", "/none"] {
        assert!(matches!(shown.get(target, &[]).status, 400 | 404), "{target}");
    }
    assert_eq!(shown.ask("POST", "/", &[], b"").status, 405);
    let line = shown.process.wait_for_text("GET /photos/one.txt HTTP/1.1\" 200 3");
    assert!(line.starts_with("127.0.0.1 - - ["), "{line}");
    shown.process.signal("TERM");
    assert_eq!(shown.process.end().0.code(), Some(0));
}

#[test]
fn who_can_see_it_is_said_plainly() {
    let folder = folder();
    let mut shown = serve(folder.path(), &["--qr", "--quiet"]);
    let warning = shown.process.wait_for_text("on this network can");
    assert!(
        warning.starts_with("EVERYONE on this network can read ") && warning.contains("--server-ip 127.0.0.1"),
        "{warning}"
    );
    let lines = shown.process.lines().join("\n");
    // A machine without any network has no address to show a code of.
    assert_eq!(lines.contains("  network  http://"), lines.contains('█'), "{lines}");
    assert_eq!(shown.get("/notes.txt", &[]).text(), "notes");
}

#[test]
fn its_own_certificate_lies_where_the_data_does_and_is_explained() {
    let (folder, data) = (folder(), tempfile::tempdir().unwrap());
    let data_dir = data.path().to_str().expect("a temporary folder's name is text");
    let served = folder.path().to_str().expect("a temporary folder's name is text");
    let args = ["serve", served, "--port", "0", "--tls", "--data-dir", data_dir, "--server-ip", "127.0.0.1"];
    let mut process = Weaprous::start(args.iter());
    let here = process.wait_for_text("  here     https://127.0.0.1:");
    let secure: SocketAddr = here.split("https://").nth(1).unwrap().trim().parse().unwrap();
    let line = process.wait_for_text("/trust says how");
    let trust: SocketAddr = line.split("http://").nth(1).unwrap().split('/').next().unwrap().parse().unwrap();

    let page = get(trust, "/trust", &[]);
    assert_eq!(page.status, 200);
    assert!(page.text().contains("/trust/ca.crt"), "{}", page.text());
    let authority = CertificateDer::from(get(trust, "/trust/ca.crt", &[]).body);
    let moved = get(trust, "/notes.txt", &[]);
    let expect = format!("https://127.0.0.1:{}/notes.txt", secure.port());
    assert_eq!((moved.status, moved.field("location")), (308, Some(expect.as_str())));
    let mut client = testkit::tls::connect(secure, &authority, "127.0.0.1", b"http/1.1").unwrap();
    write!(client, "GET /notes.txt HTTP/1.1\r\nHost: {secure}\r\nConnection: close\r\n\r\n").unwrap();
    let mut answer = String::new();
    client.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 200") && answer.ends_with("notes"), "{answer}");
}

#[test]
fn choices_are_obeyed() {
    let folder = folder();
    fs::write(folder.path().join("home.htm"), "home").unwrap();
    let local = ["--server-ip", "127.0.0.1", "--quiet"];
    let with = |args: &[&str]| serve(folder.path(), &[&local, args].concat());
    assert_eq!(with(&["--hidden"]).get("/.secret", &[]).text(), "secret");
    assert_eq!(with(&["--no-listing"]).get("/", &[]).status, 404);
    let app = with(&["--index", "home.htm", "--spa"]);
    assert_eq!(app.get("/", &[]).text(), "home");
    assert_eq!(app.get("/some/where", &["Accept: text/html"]).text(), "home");
    assert_eq!(app.get("/some/where.js", &["Accept: text/html"]).status, 404);
    let mut json = serve(folder.path(), &["--server-ip", "127.0.0.1", "--json-log"]);
    json.get("/notes.txt?token=hidden", &[]);
    let line: serde_json::Value = serde_json::from_str(&json.process.wait_for_text("\"path\"")).unwrap();
    assert_eq!((&line["path"], &line["status"]), (&"/notes.txt".into(), &200.into()));
}

#[test]
fn a_password_is_asked_for() {
    let folder = folder();
    let shown = serve(folder.path(), &["--server-ip", "127.0.0.1", "--auth", "alice:pass:word"]);
    assert_eq!(shown.get("/", &[]).field("www-authenticate"), Some("Basic realm=\"files\", charset=\"UTF-8\""));
    assert_eq!(shown.get("/notes.txt", &["Authorization: Basic YWxpY2U6cGFzcw=="]).status, 401);
    assert_eq!(shown.get("/notes.txt", &["Authorization: Basic YWxpY2U6cGFzczp3b3Jk"]).text(), "notes");
}

#[test]
fn files_can_be_added_and_none_is_replaced() {
    let folder = folder();
    let outside = tempfile::tempdir().unwrap();
    std::os::unix::fs::symlink(outside.path(), folder.path().join("out")).unwrap();
    let shown = serve(folder.path(), &["--server-ip", "127.0.0.1", "--upload", "--upload-mib-max", "1", "--quiet"]);
    assert!(shown.get("/", &[]).text().contains("<form method=\"post\""));
    let added = shown.upload("/photos/", "two.txt", "two", &[&format!("Origin: http://{}", shown.addr)]);
    assert_eq!((added.status, added.field("location")), (303, Some("/photos/")));
    assert_eq!(fs::read_to_string(folder.path().join("photos/two.txt")).unwrap(), "two");
    let mode = |name: &str| fs::metadata(folder.path().join(name)).unwrap().permissions().mode();
    fs::write(folder.path().join("own"), "").unwrap();
    assert_eq!(mode("photos/two.txt"), mode("own"), "who may read other files of this folder may read this one");
    fs::remove_file(folder.path().join("own")).unwrap();
    assert_eq!(shown.upload("/", "notes.txt", "other", &[]).status, 303);
    assert_eq!(fs::read_to_string(folder.path().join("notes.txt")).unwrap(), "notes");
    assert_eq!(fs::read_to_string(folder.path().join("notes (2).txt")).unwrap(), "other");
    assert_eq!(shown.upload("/", "../../up.txt", "x", &[]).status, 303);
    assert!(folder.path().join("up.txt").exists(), "only the last part of a name counts");
    // From another site, outside, hidden, too long, none.
    assert_eq!(shown.upload("/", "evil.txt", "x", &["Origin: http://evil.example"]).status, 403);
    assert_eq!(shown.upload("/out/", "a.txt", "x", &[]).status, 404);
    assert_eq!(shown.upload("/none/", "a.txt", "x", &[]).status, 404);
    assert_eq!(shown.upload("/", ".bashrc", "x", &[]).status, 422);
    assert_eq!(shown.upload("/", "", "", &[]).status, 422);
    assert_eq!(shown.upload("/", "long.txt", &"x".repeat(1_100_000), &[]).status, 413);
    let names = |path: &Path| {
        let mut names: Vec<_> =
            fs::read_dir(path).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    };
    assert_eq!(
        names(folder.path()),
        [".secret", "notes (2).txt", "notes.txt", "out", "photos", "up.txt"],
        "no leftovers"
    );
    assert!(names(outside.path()).is_empty());
}

/// What a killed server had received so far lies there under a hidden name, until a server is there again.
#[test]
fn an_upload_that_a_kill_broke_off_leaves_nothing() {
    let folder = folder();
    let leftovers = |below: &str| {
        let entries = fs::read_dir(folder.path().join(below)).unwrap();
        entries.filter(|entry| entry.as_ref().unwrap().file_name().to_str().unwrap().contains("upload")).count()
    };
    let begin = |shown: &Shown, target: &str| {
        let mut client = RawClient::connect(shown.addr);
        client.send(format!(
            "POST {target} HTTP/1.1\r\nHost: {}\r\nContent-Length: 900000\r\n\
             Content-Type: multipart/form-data; boundary=xyz\r\n\r\n--xyz\r\n\
             Content-Disposition: form-data; name=\"file\"; filename=\"big\"\r\n\r\n{}",
            shown.addr,
            "x".repeat(600_000)
        ));
        client
    };
    let arguments = ["--server-ip", "127.0.0.1", "--upload"];
    let mut shown = serve(folder.path(), &arguments);
    let clients = [begin(&shown, "/"), begin(&shown, "/photos/")];
    let deadline = Instant::now() + Duration::from_secs(20);
    while leftovers("") + leftovers("photos") < 2 {
        assert!(Instant::now() < deadline, "the uploads do not begin");
        std::thread::yield_now();
    }
    shown.process.kill_9();
    drop(clients);
    assert_eq!((leftovers(""), leftovers("photos")), (1, 1), "nobody was there to delete them");
    let shown = serve(folder.path(), &arguments);
    assert_eq!(leftovers(""), 0, "the next one does, before it listens");
    assert_eq!(shown.upload("/photos/", "two.txt", "two", &[]).status, 303);
    assert_eq!(leftovers("photos"), 0, "and in other folders when they are used");
}

/// A page that has its own name point at this machine reads and adds nothing.
#[test]
fn a_foreign_name_that_points_here_is_refused() {
    let folder = folder();
    let shown = serve(folder.path(), &["--server-ip", "127.0.0.1", "--upload"]);
    for (method, host) in [("GET", "evil.example"), ("POST", "evil.example:8080"), ("GET", "localhost.evil.example")] {
        let mut client = RawClient::connect(shown.addr);
        client.send(format!("{method} /notes.txt HTTP/1.1\r\nHost: {host}\r\n\r\n"));
        assert_eq!(client.read_response().status, 421, "{host}");
    }
    let mut client = RawClient::connect(shown.addr);
    client.send("GET /notes.txt HTTP/1.1\r\nHost: localhost:1\r\n\r\n");
    assert_eq!(client.read_response().text(), "notes");
}

/// Whoever may add files cannot have them sent in place of others.
#[test]
fn an_added_file_is_never_sent_for_another() {
    let folder = folder();
    let shown = serve(folder.path(), &["--server-ip", "127.0.0.1", "--upload"]);
    for name in ["notes.txt.gz", "notes.txt.br", "notes.txt.zst"] {
        assert_eq!(shown.upload("/", name, "forged", &[]).status, 303, "{name}");
    }
    let answer = shown.get("/notes.txt", &["Accept-Encoding: gzip, br, zstd"]);
    assert_eq!((answer.field("content-encoding"), answer.text()), (None, "notes"));
    assert_eq!(shown.get("/notes.txt.gz", &[]).text(), "forged");
}

#[test]
fn wrong_arguments_end_it_with_a_hint() {
    let folder = folder();
    let path = folder.path().to_str().unwrap();
    let check = |args: &[&str], code: i32, hint: &str| {
        let (status, text) = Weaprous::start(["serve"].iter().chain(args)).end();
        assert_eq!(status.code(), Some(code), "{args:?}: {text}");
        assert!(text.contains(hint), "{args:?}: {text}");
    };
    check(&["/no/such/folder"], 2, "give a folder that can be read");
    check(&[&format!("{path}/notes.txt")], 2, "give a folder that can be read");
    check(&[path, "--upload", "--port", "0"], 2, "add --auth USER:PASSWORD");
    check(&[path, "--auth", "alice", "--port", "0"], 2, "--auth takes USER:PASSWORD");
    let nowhere = ["--tls-cert", "/no/such.pem", "--tls-key", "/no/such.key"];
    check(&[&[path, "--port", "0"][..], &nowhere].concat(), 2, "cannot speak TLS: /no/such.pem: No such file");
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port().to_string();
    check(&[path, "--server-ip", "127.0.0.1", "--port", &port], 3, "--port");
}
