//! Rows P1–P4 and R1–R3 of the HTTP rules: files on a disk and in the binary.

use crate::support::{ask, connect, get, serve};
use engine::Running;
use rustix::fs::{CWD, FileType, Mode, mknodat};
use std::fs;
use std::future::poll_fn;
use std::os::unix::fs::symlink;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::task::Poll;
use std::time::{Duration, SystemTime};
use tempfile::TempDir;
use weaprous::files::{FileCache, Freshness};
use weaprous::prelude::*;
use weaprous::{EmbeddedFile, Files};

fn app(files: Files) -> App {
    App::new().route("/{path..}", [GET], files)
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
    let server = serve(app(uncached(&root)));
    validators(&server, "/text.txt");
    (outer, server)
}

/// Every change shows at once.
fn uncached(root: &std::path::Path) -> Files {
    Files::dir(root).unwrap().cache(FileCache::OFF)
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
    check("bytes=0-1,3-4", 206, Some("bytes 0-4/10"), "01234");
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
    check(&[field("If-None-Match", "\"x\""), field("If-None-Match", &etag)], 304);
    check(&[field("If-Match", "\"x\""), field("If-Match", &etag)], 200);
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

/// The parts of a `multipart/byteranges` answer: `Content-Range` and content of each.
fn parts(response: &testkit::RawResponse) -> Vec<(String, Vec<u8>)> {
    let media_type = response.field("content-type").unwrap();
    let boundary = media_type.strip_prefix("multipart/byteranges; boundary=").unwrap();
    let (mut rest, mut parts) = (&response.body[..], Vec::new());
    let delimiter = format!("\r\n--{boundary}");
    loop {
        rest = rest.strip_prefix(delimiter.as_bytes()).expect("a delimiter");
        if rest == b"--\r\n" {
            return parts;
        }
        let head_end = rest.windows(4).position(|window| window == b"\r\n\r\n").unwrap();
        let head = String::from_utf8(rest[..head_end].to_vec()).unwrap();
        let range = head.lines().find_map(|line| line.strip_prefix("content-range: ")).unwrap().to_owned();
        assert!(head.contains("content-type: "), "{head}");
        let (first, last) = range.strip_prefix("bytes ").unwrap().split_once('/').unwrap().0.split_once('-').unwrap();
        let len = last.parse::<usize>().unwrap() - first.parse::<usize>().unwrap() + 1;
        parts.push((range, rest[head_end + 4..head_end + 4 + len].to_vec()));
        rest = &rest[head_end + 4 + len..];
    }
}

#[test]
fn r1_several_ranges_are_sent_as_parts() {
    let (outer, server) = site();
    fs::write(outer.path().join("root/small.bin"), &large()[..1000]).unwrap();
    let all = large();
    for (target, total) in [("/large.bin", LARGE), ("/small.bin", 1000)] {
        let response = get(&server, target, &["Range: bytes=900-999,0-9, 5-14"]);
        assert_eq!((response.status, response.field("content-range")), (206, None), "{target}");
        let expect = [
            (format!("bytes 900-999/{total}"), all[900..1000].to_vec()),
            (format!("bytes 0-14/{total}"), all[..15].to_vec()),
        ];
        assert_eq!(parts(&response), expect, "{target}");
        let length: usize = response.field("content-length").unwrap().parse().unwrap();
        assert_eq!(length, response.body.len());
        assert_eq!(get(&server, target, &["Range: bytes=0-1,999999-"]).body, all[..2], "one is left: no parts");
        assert_eq!(get(&server, target, &["Range: bytes=999999-,-0"]).status, 416);
    }
    let seventeen: Vec<String> = (0..17).map(|n| format!("{}-{}", n * 1000, n * 1000)).collect();
    assert_eq!(get(&server, "/large.bin", &[&format!("Range: bytes={}", seventeen.join(","))]).status, 200);
}

#[test]
fn r1_ranges_of_embedded_files_are_those_of_files_on_a_disk() {
    let server = serve(app(Files::embedded(EMBEDDED)));
    let check = |range: &str, status: u16, content_range: Option<&str>| {
        let response = get(&server, "/css/a.css", &[&format!("Range: {range}")]);
        assert_eq!((response.status, response.field("content-range")), (status, content_range), "{range}");
    };
    check("bytes=0-", 206, Some("bytes 0-18/19"));
    check("bytes=-5", 206, Some("bytes 14-18/19"));
    check("bytes=5-2", 200, None);
    check("bytes=-0", 416, Some("bytes */19"));
    check("bytes=0-0,99999999999999999999999-", 206, Some("bytes 0-0/19"));
    check("x=0-1", 200, None);
    check(&format!("bytes={}0-", "0-,".repeat(100)), 200, None);
    assert_eq!(ask(&server, "HEAD", "/css/a.css", &["Range: bytes=0-1"], "").status, 200);
    let tag = get(&server, "/css/a.css", &[]).field("etag").unwrap().to_owned();
    let ranged =
        |if_range: &str| get(&server, "/css/a.css", &["Range: bytes=0-1", &format!("If-Range: {if_range}")]).status;
    assert_eq!((ranged(&tag), ranged(&format!("W/{tag}")), ranged("\"x\"")), (206, 200, 200));
    let packed = get(&server, "/css/a.css", &["Accept-Encoding: gzip"]).field("etag").unwrap().to_owned();
    assert_eq!(ranged(&packed), 200, "another coding's tag");
    let if_match =
        |value: &str| get(&server, "/css/a.css", &[&format!("If-Match: {value}"), "If-None-Match: *"]).status;
    assert_eq!((if_match("\"x\""), if_match(&tag)), (412, 304));
}

#[test]
fn p1_embedded_files_have_no_other_spelling() {
    static SECRETS: &[EmbeddedFile] = &[
        EmbeddedFile { path: "a.txt", bytes: b"a", gzip: None },
        EmbeddedFile { path: ".env", bytes: b"secret", gzip: None },
        EmbeddedFile { path: "docs/.git/config", bytes: b"secret", gzip: None },
    ];
    let server = serve(app(Files::embedded(SECRETS)));
    for target in
        ["/../a.txt", "/%2e%2e/a.txt", "/..%2fa.txt", "//a.txt", "/a.txt/", "/a.txt%00", "/./a.txt", "/x/../a.txt"]
    {
        assert!(matches!(get(&server, target, &[]).status, 400 | 404), "{target}");
    }
    for target in ["/.env", "/%2eenv", "/docs/.git/config"] {
        assert_eq!(get(&server, target, &[]).status, 404, "{target}");
    }
    assert_eq!(get(&server, "/a.txt", &[]).text(), "a");
}

#[test]
fn p2_a_listing_shows_nothing_that_leads_out() {
    let (outer, _) = site();
    let root = outer.path().join("root");
    fs::remove_file(root.join("index.html")).unwrap();
    let server = serve(app(uncached(&root).listing(true)));
    let json = get(&server, "/", &["Accept: application/json"]);
    assert_eq!(json.field("content-type"), Some("application/json"));
    let listing: serde_json::Value = serde_json::from_slice(&json.body).unwrap();
    let names: Vec<_> =
        listing["entries"].as_array().unwrap().iter().map(|entry| entry["name"].as_str().unwrap()).collect();
    for absent in ["link.html", "absolute.html", "outside", "pipe", ".env", ".git"] {
        assert!(!names.contains(&absent), "{absent} in {names:?}");
    }
    for present in ["docs", "a b", "text.txt", "large.bin", "linked-index"] {
        assert!(names.contains(&present), "{present} not in {names:?}");
    }
    assert_eq!(get(&server, "/linked-index/", &[]).status, 200, "its index leads out, so that it has none");
    assert!(!get(&server, "/linked-index/", &[]).text().contains("secret"));
    assert_eq!(get(&server, "/outside/", &[]).status, 404);
    assert_eq!(get(&server, "/empty", &[]).field("location"), Some("/empty/"));
}

#[test]
fn p3_hidden_files_show_by_choice_alone() {
    let (outer, _) = site();
    let root = outer.path().join("root");
    fs::create_dir(root.join(".well-known")).unwrap();
    fs::write(root.join(".well-known/security.txt"), "contact").unwrap();
    let statuses = |files: Files| {
        let server = serve(app(files));
        ["/.env", "/.git/config", "/.well-known/security.txt"].map(|target| get(&server, target, &[]).status)
    };
    assert_eq!(statuses(uncached(&root)), [404, 404, 404]);
    assert_eq!(statuses(uncached(&root).well_known(true)), [404, 404, 200]);
    assert_eq!(statuses(uncached(&root).hidden(true)), [200, 200, 200]);
}

#[test]
fn p4_names_in_a_listing_are_text() {
    let folder = tempfile::tempdir().unwrap();
    for name in ["<script>alert(1)<", "a\"b'&.txt", "line\nend", "back\\slash", "\u{202e}gpj.exe", "a:b", "100%"] {
        fs::write(folder.path().join(name), "").unwrap();
    }
    let server = serve(app(uncached(folder.path()).listing(true)));
    let page = get(&server, "/", &["Accept: text/html"]);
    let text = page.text();
    assert_eq!(page.field("content-type"), Some("text/html; charset=utf-8"));
    assert_eq!((page.field("vary"), page.field("x-content-type-options")), (Some("Accept"), Some("nosniff")));
    assert!(page.field("content-security-policy").unwrap().starts_with("default-src 'none'; style-src 'sha256-"));
    for absent in ["<script", "line\nend", "\u{202e}", "href=\"a:b"] {
        assert!(!text.contains(absent), "{absent:?}");
    }
    for present in
        ["&lt;script&gt;alert(1)&lt;", "href=\"%3Cscript%3E", "a&quot;b&#39;&amp;.txt", "line\u{fffd}end", "./"]
    {
        assert!(present == "./" || text.contains(present), "{present:?}");
    }
    assert!(text.contains("<td class=\"none\" title=\"No address can mean this name\">back\\slash"), "no dead link");
    // What is linked is there.
    for link in text.split("<td><a href=\"").skip(1).map(|rest| rest.split('"').next().unwrap()) {
        assert_eq!(get(&server, &format!("/{link}"), &[]).status, 200, "{link}");
    }
    let head = ask(&server, "HEAD", "/", &["Accept: text/html"], "");
    assert_eq!((head.status, head.field("content-length")), (200, page.field("content-length")));
}

#[test]
fn a_listing_is_sorted_as_asked() {
    let folder = tempfile::tempdir().unwrap();
    for (name, size) in [("a10", 1), ("a9", 30), ("B", 2)] {
        fs::write(folder.path().join(name), "x".repeat(size)).unwrap();
    }
    fs::create_dir(folder.path().join("zoo")).unwrap();
    let server = serve(app(uncached(folder.path()).listing(true)));
    let check = |query: &str, expect: [&str; 4]| {
        let json = get(&server, &format!("/{query}"), &["Accept: application/json"]);
        let listing: serde_json::Value = serde_json::from_slice(&json.body).unwrap();
        let names: Vec<_> =
            listing["entries"].as_array().unwrap().iter().map(|entry| entry["name"].as_str().unwrap()).collect();
        assert_eq!(names, expect, "{query}");
    };
    check("", ["zoo", "a9", "a10", "B"]);
    check("?sort=name&order=desc", ["zoo", "B", "a10", "a9"]);
    check("?sort=size", ["zoo", "a10", "B", "a9"]);
    check("?sort=size&order=desc", ["zoo", "a9", "B", "a10"]);
    check("?sort=nonsense", ["zoo", "a9", "a10", "B"]);
    assert_eq!(get(&server, "/", &["Accept: */*"]).field("content-type"), Some("text/html; charset=utf-8"));
}

#[test]
fn r3_files_that_lie_compressed_beside_are_sent_to_who_takes_them() {
    let folder = tempfile::tempdir().unwrap();
    let put = |name: &str, text: &str, age_s: u64| {
        let path = folder.path().join(name);
        fs::write(&path, text).unwrap();
        let time = SystemTime::now() - Duration::from_secs(age_s);
        fs::File::options().write(true).open(path).unwrap().set_modified(time).unwrap();
    };
    for name in ["a.js", "a.js.gz", "a.js.br", "a.js.zst", "old.js", "old.js.gz", "alone.js"] {
        put(name, name, if name == "old.js.gz" { 7200 } else { 3600 });
    }
    fs::create_dir(folder.path().join("alone.js.gz")).unwrap();
    put("only.css.gz", "x", 3600);
    let server = serve(app(uncached(folder.path())));
    let check = |target: &str, accept: &str, text: &str, coding: Option<&str>| {
        let response = get(&server, target, &[&format!("Accept-Encoding: {accept}")]);
        assert_eq!((response.text(), response.field("content-encoding")), (text, coding), "{target} {accept}");
        response
    };
    let mut tags: Vec<String> =
        [("", None), ("gzip", Some("gzip")), ("gzip, br, zstd", Some("br")), ("zstd, br;q=0.1", Some("zstd"))]
            .into_iter()
            .map(|(accept, coding)| {
                let ending = match coding {
                    None => "",
                    Some("gzip") => ".gz",
                    Some("zstd") => ".zst",
                    Some(other) => &format!(".{other}"),
                };
                let response = check("/a.js", accept, &format!("a.js{ending}"), coding);
                assert_eq!(response.field("vary"), Some("Accept-Encoding"));
                assert_eq!(response.field("content-type"), Some("text/javascript; charset=utf-8"));
                response.field("etag").unwrap().to_owned()
            })
            .collect();
    tags.sort();
    tags.dedup();
    assert_eq!(tags.len(), 4, "a tag for each coding");
    check("/a.js", "gzip;q=0, br;q=0", "a.js", None);
    check("/old.js", "gzip", "old.js", None);
    check("/alone.js", "gzip", "alone.js", None);
    assert_eq!(get(&server, "/only.css", &["Accept-Encoding: gzip"]).status, 404);
    // Asked for by its own name, the packed file is what it is.
    let packed = get(&server, "/a.js.gz", &["Accept-Encoding: gzip"]);
    assert_eq!((packed.text(), packed.field("content-encoding")), ("a.js.gz", None));
    assert_eq!(packed.field("content-type"), Some("application/gzip"));
    let plain = serve(app(uncached(folder.path()).precompressed(false)));
    assert_eq!(get(&plain, "/a.js", &["Accept-Encoding: gzip"]).text(), "a.js");
}

#[test]
fn names_with_a_hash_are_kept_for_good_and_pages_are_asked_about() {
    let folder = tempfile::tempdir().unwrap();
    for name in ["app.3f9a1c2b.js", "app.js", "index.html", "data.json"] {
        fs::write(folder.path().join(name), "x").unwrap();
    }
    let check = |server: &Running, target, expect| {
        assert_eq!(get(server, target, &[]).field("cache-control"), Some(expect), "{target}");
    };
    let server = serve(app(uncached(folder.path())));
    check(&server, "/app.3f9a1c2b.js", "public, max-age=31536000, immutable");
    for target in ["/app.js", "/", "/data.json"] {
        check(&server, target, "no-cache");
    }
    let own = uncached(folder.path()).freshness(|name| match name {
        "data.json" => Freshness::NoStore,
        "app.js" | "app.3f9a1c2b.js" => Freshness::Seconds(60),
        name => Freshness::by_name(name),
    });
    let server = serve(app(own));
    check(&server, "/app.3f9a1c2b.js", "public, max-age=60");
    check(&server, "/data.json", "no-store");
    check(&server, "/", "no-cache");
}

static APP: &[EmbeddedFile] = &[
    EmbeddedFile { path: "index.html", bytes: b"app", gzip: None },
    EmbeddedFile { path: "a.js", bytes: b"script", gzip: None },
];

#[test]
fn one_page_stands_for_addresses_that_people_open() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("index.html"), "app").unwrap();
    fs::write(folder.path().join("a.js"), "script").unwrap();
    for files in [uncached(folder.path()).spa("index.html"), Files::embedded(APP).spa("index.html")] {
        let server = serve(app(files));
        let check = |target: &str, fields: &[&str], status: u16, text: Option<&str>| {
            let response = get(&server, target, fields);
            assert_eq!(response.status, status, "{target} {fields:?}");
            assert!(text.is_none_or(|text| response.text() == text), "{target} {fields:?}");
        };
        let html = "Accept: text/html,*/*;q=0.8";
        check("/users/7", &[html], 200, Some("app"));
        check("/users/7/", &[html, "Sec-Fetch-Mode: navigate"], 200, Some("app"));
        check("/a.js", &[html], 200, Some("script"));
        check("/missing.js", &[html], 404, None);
        check("/users/7", &["Accept: */*"], 404, None);
        check("/users/7", &["Accept: application/json"], 404, None);
        check("/users/7", &[html, "Sec-Fetch-Mode: cors"], 404, None);
        check("/.git/config", &[html], 404, None);
        assert_eq!(get(&server, "/users/7", &[html]).field("vary"), Some("Accept, Sec-Fetch-Mode"));
        assert_eq!(ask(&server, "POST", "/users/7", &[html], "x").status, 405);
    }
}

#[test]
fn what_is_kept_in_memory_is_compared_with_the_disk() {
    let (outer, _) = site();
    let root = outer.path().join("root");
    let often = FileCache { check_every: Duration::from_millis(20), ..FileCache::default() };
    let rarely = FileCache { check_every: Duration::from_hours(1), ..FileCache::default() };
    let (often, rarely) =
        (serve(app(Files::dir(&root).unwrap().cache(often))), serve(app(Files::dir(&root).unwrap().cache(rarely))));
    for server in [&often, &rarely] {
        for target in ["/text.txt", "/large.bin"] {
            validators(server, target); // settled, so that it is kept
        }
    }
    fs::write(root.join("text.txt"), "9876543210").unwrap();
    fs::remove_file(root.join("large.bin")).unwrap();
    let deadline = std::time::Instant::now() + Duration::from_secs(20);
    while get(&often, "/text.txt", &[]).text() == TEXT || get(&often, "/large.bin", &[]).status != 404 {
        assert!(std::time::Instant::now() < deadline, "a change is never seen");
    }
    assert_eq!(get(&rarely, "/text.txt", &[]).text(), TEXT, "kept whole");
    assert!(get(&rarely, "/large.bin", &[]).body == large(), "kept open");
}

/// Reading a folder and writing its page each wait for the blocking pool: a worker does neither.
#[test]
fn a_listing_is_no_work_of_the_worker() {
    let folder = tempfile::tempdir().unwrap();
    for number in 0..100 {
        fs::write(folder.path().join(format!("{number}.txt")), "x").unwrap();
    }
    let app = App::new().route("/{path..}", [GET], Files::dir(folder.path()).unwrap().listing(true));
    let service = app.into_service().unwrap()();
    let asked = http::Request::get("http://test/").body(()).unwrap().into_parts().0;
    let head = engine::RequestHead::from_http(&asked, false, &engine::Limits::default()).unwrap();
    let at = "127.0.0.1:1".parse().unwrap();
    let request = engine::Request::new(head, engine::Body::Empty, Rc::new(engine::Peer::new(at, at, Stop::new())));
    let pool_of_one = tokio::runtime::Builder::new_current_thread().max_blocking_threads(1).build().unwrap();
    let (tell, told) = std::sync::mpsc::channel();
    // Holds the pool's one thread until it is told to go on.
    let hold = || {
        let (go, gate) = std::sync::mpsc::channel::<()>();
        let tell = tell.clone();
        drop(tokio::task::spawn_blocking(move || {
            tell.send(()).unwrap();
            let _ = gate.recv();
        }));
        go
    };
    pool_of_one.block_on(async {
        let before_reading = hold();
        let mut answer = pin!(engine::Service::call(&service, request));
        assert!(poll_once(&mut answer).await.is_none(), "the folder is read on the worker");
        let before_writing = hold();
        told.recv().unwrap();
        drop(before_reading);
        told.recv().unwrap(); // and so it has been read
        assert!(poll_once(&mut answer).await.is_none(), "the page is written on the worker");
        drop(before_writing);
        let response = answer.await;
        assert!(response.body.exact_len().unwrap() > 100 * 20, "{response:?}");
    });
}

async fn poll_once<T>(future: &mut Pin<&mut impl Future<Output = T>>) -> Option<T> {
    poll_fn(|cx| match future.as_mut().poll(cx) {
        Poll::Ready(value) => Poll::Ready(Some(value)),
        Poll::Pending => Poll::Ready(None),
    })
    .await
}
