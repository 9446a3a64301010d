//! Rows P1–P4 and R1–R3 of the HTTP rules: files on a disk and in the binary.

use crate::support::{ask, connect, get, serve};
use engine::Running;
use rustix::fs::{CWD, FileType, Mode, mknodat};
use std::fs;
use std::os::unix::fs::symlink;
use std::sync::Arc;
use std::time::{Duration, SystemTime};
use tempfile::TempDir;
use weaprous::prelude::*;
use weaprous::{EmbeddedFile, Files};

async fn file(Path(path): Path<String>, State(files): State<Files>, request: Request) -> Response {
    files.serve(&path, &request).await
}

fn app(files: Files) -> App {
    App::new().state(Arc::new(files)).route("/{path..}", [GET], file)
}

const TEXT: &str = "0123456789";
/// Larger than one read of the disk.
const LARGE: usize = 300_000;

/// A folder beside things it must not show, and a server of it.
fn site() -> (TempDir, Running) {
    let outer = tempfile::tempdir().unwrap();
    fs::write(outer.path().join("secret.html"), "secret").unwrap();
    fs::create_dir(outer.path().join("private")).unwrap();
    fs::write(outer.path().join("private/index.html"), "secret").unwrap();
    let root = outer.path().join("root");
    for folder in ["docs", "empty", "linked-index", ".git", "a b"] {
        fs::create_dir_all(root.join(folder)).unwrap();
    }
    fs::write(root.join("index.html"), "<h1>root</h1>").unwrap();
    fs::write(root.join("docs/index.html"), "<h1>docs</h1>").unwrap();
    fs::write(root.join("a b/index.html"), "spaced").unwrap();
    fs::write(root.join("none.txt"), "").unwrap();
    fs::write(root.join("large.bin"), large()).unwrap();
    fs::write(root.join(".env"), "secret").unwrap();
    fs::write(root.join(".git/config"), "secret").unwrap();
    symlink("../secret.html", root.join("link.html")).unwrap();
    symlink(outer.path().join("secret.html"), root.join("absolute.html")).unwrap();
    symlink("../private", root.join("outside")).unwrap();
    symlink("../../secret.html", root.join("linked-index/index.html")).unwrap();
    symlink("text.txt", root.join("inside.txt")).unwrap();
    mknodat(CWD, root.join("pipe"), FileType::Fifo, Mode::RUSR | Mode::WUSR, 0).unwrap();
    fs::write(root.join("text.txt"), TEXT).unwrap(); // last, so that all tags are settled when its is
    let server = serve(app(Files::dir(&root).unwrap()));
    validators(&server, "/text.txt");
    (outer, server)
}

fn large() -> Vec<u8> {
    (0..LARGE).map(|n| (n * 7 % 251) as u8).collect()
}

#[test]
fn p1_no_spelling_of_a_path_leaves_the_folder() {
    let (_outer, server) = site();
    let mut targets: Vec<String> = [
        "/../secret.html",
        "/%2e%2e/secret.html",
        "/..%2fsecret.html",
        "/%2e%2e%5csecret.html",
        "/..\\secret.html",
        "/%252e%252e/secret.html",
        "/%c0%ae%c0%ae/secret.html",
        "/docs/%00",
        "/text.txt%00.html",
        "//etc/passwd",
        "/./../secret.html",
        "/docs/../../secret.html",
        "/%2fetc%2fpasswd",
        "/docs/..;/../secret.html",
        "http://test/../secret.html",
        "/..",
        "/%2e",
        "/docs//index.html",
        "/..%5c..%5csecret.html",
        "/text.txt/",
    ]
    .map(str::to_owned)
    .to_vec();
    targets.push("/a".repeat(4000));
    targets.push(format!("/{}", "a".repeat(300)));
    for target in targets {
        let response = get(&server, &target, &[]);
        assert!(matches!(response.status, 400 | 404 | 414), "{target:.60}: {}", response.status);
        assert!(!response.text().contains("secret\n") && response.body != b"secret", "{target:.60}");
    }
}

#[test]
fn p2_links_that_lead_out_are_not_there() {
    let (_outer, server) = site();
    for target in ["/link.html", "/absolute.html", "/outside/index.html", "/outside/", "/outside", "/linked-index/"] {
        assert_eq!(get(&server, target, &[]).status, 404, "{target}");
    }
    assert_eq!(get(&server, "/linked-index", &[]).status, 404, "an index that leads out is none");
    if cfg!(target_os = "linux") {
        assert_eq!(get(&server, "/inside.txt", &[]).text(), TEXT);
    }
}

#[test]
fn p3_dotfiles_are_not_there() {
    let (_outer, server) = site();
    for target in ["/.env", "/.git/config", "/.git/", "/%2eenv", "/.git"] {
        assert_eq!(get(&server, target, &[]).status, 404, "{target}");
    }
}

#[test]
fn p4_only_files_and_their_folders_answer() {
    let (_outer, server) = site();
    assert_eq!(get(&server, "/pipe", &[]).status, 404, "a FIFO is not waited for");
    assert_eq!(get(&server, "/empty", &[]).status, 404);
    assert_eq!(get(&server, "/empty/", &[]).status, 404);
    let check = |target, location| {
        let response = get(&server, target, &[]);
        assert_eq!((response.status, response.field("location")), (308, Some(location)), "{target}");
    };
    check("/docs", "/docs/");
    check("/docs?a=b", "/docs/?a=b");
    check("/a%20b", "/a%20b/");
    check("/%64ocs", "/docs/");
    assert_eq!(get(&server, "/docs/", &[]).text(), "<h1>docs</h1>");
    assert_eq!(get(&server, "/", &[]).text(), "<h1>root</h1>");
    // Two slashes never make another host of it.
    for target in ["//evil.example", "//evil.example/..", "/\\evil.example", "//docs"] {
        let response = get(&server, target, &[]);
        assert_eq!(response.field("location"), None, "{target}");
    }
    assert_eq!(ask(&server, "POST", "/text.txt", &[], "x").status, 405);
}

#[test]
fn r1_a_range_is_sent_or_refused_or_ignored() {
    let (_outer, server) = site();
    let check = |range: &str, status: u16, content_range: Option<&str>, text: &str| {
        let response = get(&server, "/text.txt", &[&format!("Range: {range}")]);
        assert_eq!((response.status, response.field("content-range")), (status, content_range), "{range}");
        if status != 416 {
            assert_eq!(response.text(), text, "{range}");
        }
    };
    check("bytes=0-", 206, Some("bytes 0-9/10"), TEXT);
    check("bytes=2-4", 206, Some("bytes 2-4/10"), "234");
    check("bytes=-3", 206, Some("bytes 7-9/10"), "789");
    check("bytes=-99", 206, Some("bytes 0-9/10"), TEXT);
    check("bytes=8-99999999999999999999999", 206, Some("bytes 8-9/10"), "89");
    check("bytes=10-", 416, Some("bytes */10"), "");
    check("bytes=-0", 416, Some("bytes */10"), "");
    check("bytes=99999999999999999999999-", 416, Some("bytes */10"), "");
    check("bytes=5-2", 200, None, TEXT);
    check("x=0-1", 200, None, TEXT);
    check("bytes=0-1,3-4", 200, None, TEXT);
    check(&format!("bytes={}0-", "0-,".repeat(1000)), 200, None, TEXT);
    assert_eq!(get(&server, "/none.txt", &["Range: bytes=0-"]).status, 416);
    assert_eq!(get(&server, "/text.txt", &[]).field("accept-ranges"), Some("bytes"));
    let head = ask(&server, "HEAD", "/text.txt", &["Range: bytes=0-1"], "");
    assert_eq!((head.status, head.field("content-length")), (200, Some("10")), "a range is for GET only");
}

#[test]
fn r1_ranges_of_large_files_are_exact() {
    let (_outer, server) = site();
    let all = large();
    assert_eq!(get(&server, "/large.bin", &[]).body, all);
    for (first, last) in [(0, 0), (131_071, 131_072), (1, LARGE - 2), (LARGE - 1, LARGE - 1)] {
        let response = get(&server, "/large.bin", &[&format!("Range: bytes={first}-{last}")]);
        assert_eq!((response.status, &response.body[..]), (206, &all[first..=last]), "{first}-{last}");
    }
}

/// The validators of a file, once it counts as settled: until then every answer has a tag of its own.
fn validators(server: &Running, target: &str) -> (String, String) {
    let ask = || {
        let response = get(server, target, &[]);
        let field = |name| response.field(name).unwrap().to_owned();
        (field("etag"), field("last-modified"))
    };
    let mut before = ask();
    for _ in 0..100_000 {
        let now = ask();
        if now == before {
            return now;
        }
        before = now;
    }
    panic!("the tag of {target} never settles");
}

#[test]
fn r2_preconditions_are_taken_in_their_order() {
    let (_outer, server) = site();
    let (etag, date) = validators(&server, "/text.txt");
    assert!(etag.starts_with('"'), "strong: {etag}");
    let weak = format!("W/{etag}");
    let check = |fields: &[String], status: u16| {
        let fields: Vec<&str> = fields.iter().map(String::as_str).collect();
        assert_eq!(get(&server, "/text.txt", &fields).status, status, "{fields:?}");
    };
    let field = |name: &str, value: &str| format!("{name}: {value}");
    let (past, future) = ("Sun, 06 Nov 1994 08:49:37 GMT", "Fri, 06 Nov 2099 08:49:37 GMT");
    check(&[field("If-None-Match", &etag)], 304);
    check(&[field("If-None-Match", &weak)], 304);
    check(&[field("If-None-Match", "*")], 304);
    check(&[field("If-None-Match", "\"x\"")], 200);
    check(&[field("If-Modified-Since", &date)], 304);
    check(&[field("If-Modified-Since", past)], 200);
    check(&[field("If-Match", &etag)], 200);
    check(&[field("If-Match", &weak)], 412);
    check(&[field("If-Unmodified-Since", past)], 412);
    check(&[field("If-Unmodified-Since", &date)], 200);
    // Tags outrank dates; the first pair outranks the second; all of them outrank the range.
    check(&[field("If-None-Match", "\"x\""), field("If-Modified-Since", future)], 200);
    check(&[field("If-Match", &etag), field("If-Unmodified-Since", past)], 200);
    check(&[field("If-Match", "\"x\""), field("If-None-Match", &etag)], 412);
    check(&[field("If-None-Match", &etag), field("Range", "bytes=0-1")], 304);
    check(&[field("If-Match", "\"x\""), field("Range", "bytes=0-1")], 412);
}

#[test]
fn r2_a_range_on_condition_needs_the_same_state() {
    let (outer, server) = site();
    let past = SystemTime::now() - Duration::from_hours(1);
    fs::File::options().write(true).open(outer.path().join("root/text.txt")).unwrap().set_modified(past).unwrap();
    let (etag, date) = validators(&server, "/text.txt");
    let check = |if_range: &str, status| {
        let fields = ["Range: bytes=0-1".to_owned(), format!("If-Range: {if_range}")];
        let response = get(&server, "/text.txt", &[&fields[0], &fields[1]]);
        assert_eq!(response.status, status, "{if_range}");
        assert_eq!(response.text(), if status == 206 { "01" } else { TEXT });
    };
    check(&etag, 206);
    check(&date, 206);
    check(&format!("W/{etag}"), 200);
    check("\"x\"", 200);
    check("Fri, 06 Nov 2099 08:49:37 GMT", 200);
}

#[test]
fn r3_a_304_says_what_a_200_says() {
    let (_outer, server) = site();
    let full = get(&server, "/text.txt", &[]);
    let etag = full.field("etag").unwrap();
    let mut client = connect(&server);
    client.send(format!("GET /text.txt HTTP/1.1\r\nHost: test\r\nIf-None-Match: {etag}\r\n\r\n"));
    let unchanged = client.read_response();
    assert_eq!(unchanged.status, 304);
    for name in ["etag", "last-modified", "cache-control", "vary"] {
        assert_eq!(unchanged.field(name), full.field(name), "{name}");
    }
    assert!(unchanged.field("date").is_some());
    assert!(matches!(unchanged.field("content-length"), None | Some("10")), "{unchanged:?}");
    // The connection is still in step.
    client.send("GET /text.txt HTTP/1.1\r\nHost: test\r\n\r\n");
    assert_eq!(client.read_response().text(), TEXT);
}

#[test]
fn r3_head_mirrors_get_without_the_content() {
    let (_outer, server) = site();
    for target in ["/text.txt", "/large.bin", "/none.txt", "/docs/", "/missing", "/docs"] {
        let (mut full, mut head) = (get(&server, target, &[]), ask(&server, "HEAD", target, &[], ""));
        assert!(head.body.is_empty(), "{target}");
        for response in [&mut full, &mut head] {
            // Without content there is no length to mirror.
            response.fields.retain(|(name, value)| !(name.eq_ignore_ascii_case("date") || value == "0"));
        }
        assert_eq!((full.status, full.fields), (head.status, head.fields), "{target}");
    }
}

#[test]
fn r3_a_change_makes_a_new_tag() {
    let (outer, server) = site();
    let (first, _) = validators(&server, "/text.txt");
    fs::write(outer.path().join("root/text.txt"), "changed!!!").unwrap();
    for _ in 0..3 {
        // As long and perhaps within the same tick of the clock: still another tag each time.
        let changed = get(&server, "/text.txt", &[&format!("If-None-Match: {first}")]);
        assert_eq!((changed.status, changed.text()), (200, "changed!!!"));
    }
    let (second, _) = validators(&server, "/text.txt");
    assert_ne!(first, second);
}

static EMBEDDED: &[EmbeddedFile] = &[
    EmbeddedFile { path: "index.html", bytes: b"<h1>home</h1>", gzip: None },
    EmbeddedFile { path: "css/a.css", bytes: b"body { color: red }", gzip: Some(b"squeezed") },
    EmbeddedFile { path: "docs/index.html", bytes: b"docs", gzip: None },
];

#[test]
fn r3_each_coding_has_its_own_tag() {
    let server = serve(app(Files::embedded(EMBEDDED)));
    let plain = get(&server, "/css/a.css", &[]);
    let packed = get(&server, "/css/a.css", &["Accept-Encoding: gzip, br"]);
    assert_eq!((plain.text(), plain.field("content-encoding")), ("body { color: red }", None));
    assert_eq!((packed.text(), packed.field("content-encoding")), ("squeezed", Some("gzip")));
    for response in [&plain, &packed] {
        assert_eq!(response.field("vary"), Some("Accept-Encoding"));
        assert_eq!(response.field("content-type"), Some("text/css; charset=utf-8"));
        assert_eq!(response.field("x-content-type-options"), Some("nosniff"));
    }
    let (plain_tag, packed_tag) = (plain.field("etag").unwrap(), packed.field("etag").unwrap());
    assert_ne!(plain_tag, packed_tag);
    let check = |tag: &str, fields: &[&str], status| {
        let condition = format!("If-None-Match: {tag}");
        let fields: Vec<&str> = fields.iter().copied().chain([condition.as_str()]).collect();
        let response = get(&server, "/css/a.css", &fields);
        assert_eq!((response.status, response.field("vary")), (status, Some("Accept-Encoding")), "{fields:?}");
    };
    check(plain_tag, &[], 304);
    check(plain_tag, &["Accept-Encoding: gzip"], 200);
    check(packed_tag, &["Accept-Encoding: gzip"], 304);
    check(packed_tag, &["Accept-Encoding: gzip;q=0"], 200);
}

#[test]
fn embedded_files_answer_as_those_on_a_disk() {
    let server = serve(app(Files::embedded(EMBEDDED)));
    let home = get(&server, "/", &[]);
    assert_eq!((home.text(), home.field("content-type")), ("<h1>home</h1>", Some("text/html; charset=utf-8")));
    assert_eq!((home.field("vary"), home.field("cache-control")), (None, Some("no-cache")));
    assert!(home.field("last-modified").is_some());
    assert_eq!(get(&server, "/docs", &[]).field("location"), Some("/docs/"));
    assert_eq!(get(&server, "/docs/", &[]).text(), "docs");
    assert_eq!(get(&server, "/css/", &[]).status, 404);
    assert_eq!(get(&server, "/css/a.css", &["Range: bytes=0-3"]).text(), "body");
}

#[test]
fn a_folder_that_is_none_is_an_error() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("file"), "").unwrap();
    assert!(Files::dir(folder.path().join("file")).is_err());
    assert!(Files::dir(folder.path().join("none")).is_err());
}
