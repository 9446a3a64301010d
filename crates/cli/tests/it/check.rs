//! `weaprous check`: what it prints, to the letter, and how it ends.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// Runs it in `folder`.
fn check_in(folder: &Path, args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_weaprous")).arg("check").args(args).current_dir(folder).output().unwrap()
}

/// Writes `text` into `p.conf` and runs it there: exit code, standard output, standard error.
fn check(text: &str, args: &[&str]) -> (Option<i32>, String, String) {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("p.conf"), text).unwrap();
    let output = check_in(folder.path(), &[&["p.conf"], args].concat());
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    (output.status.code(), text(output.stdout), text(output.stderr))
}

#[test]
fn a_reader_who_has_seen_enough_changes_nothing() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("p.conf"), "host a { respond 200; }").unwrap();
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let mut command = Command::new(env!("CARGO_BIN_EXE_weaprous"));
    command.args(["check", "p.conf"]).current_dir(folder.path()).stdout(writer);
    let output = command.output().unwrap();
    assert_eq!((output.status.code(), String::from_utf8_lossy(&output.stderr).as_ref()), (Some(0), ""));
}

#[test]
fn a_fine_file_is_summed_up() {
    let text = "\
listen 8080;
upstream app {
    server 127.0.0.1:9000 weight=3 max_conns=50;
    server app.example.org:9000;
    server 127.0.0.1:9002 backup;
    dist_policy sticky route;
}
host example.org \"*.example.org\" {
    proxy_pass http://app;
    location = /healthz { respond 200 ok; }
    location /api { proxy_pass http://10.0.0.1:80; proxy_pass http://10.0.0.2:80; rate_limit 10/s; }
    location /old/ { redirect 308 https://example.org$request_uri; }
    location /admin { allow 10.0.0.0/8; deny all; }
}
";
    let expect = "\
p.conf is fine.

listen  0.0.0.0:8080

host    example.org, *.example.org
  = /healthz       respond 200
  /api             → 10.0.0.1:80, 10.0.0.2:80, at a limited rate
  /old/            redirect 308
  /admin           → upstream app, by address
  everything else  → upstream app

upstream app (sticky route)
  127.0.0.1:9000 weight=3 max_conns=50
  app.example.org:9000
  127.0.0.1:9002 backup
";
    assert_eq!(check(text, &[]), (Some(0), expect.to_owned(), String::new()));
}

#[test]
fn every_mistake_is_shown_with_its_line_a_caret_and_a_suggestion() {
    let text = "\
upstream app {
    servr 127.0.0.1:9000;
    server 127.0.0.1:9001 wieght=2;
    health_check healthz intervall=1s;
}
host a {
    proxy_pass http://ap;
    response_timeout 1d;
    location /x { proxy_pas http://app; listen 80; }
    compression on;
    respond 200;
";
    let expect = "\
p.conf:2:5: expected a directive of an `upstream` block, or `}`, found `servr`
 2 |     servr 127.0.0.1:9000;
   |     ^
   = did you mean `server`?

p.conf:3:27: expected `weight`, `max_conns`, `backup` or `;`, found `wieght=2`
 3 |     server 127.0.0.1:9001 wieght=2;
   |                           ^
   = did you mean `weight`?

p.conf:4:18: expected a path like `/healthz`, found `healthz`
 4 |     health_check healthz intervall=1s;
   |                  ^
   = it begins with `/`

p.conf:7:16: expected an address, or the name of an `upstream` block, found `http://ap`
 7 |     proxy_pass http://ap;
   |                ^
   = did you mean `app`?

p.conf:8:22: expected a duration like `500ms`, `10s` or `2m`, at most an hour, found `1d`
 8 |     response_timeout 1d;
   |                      ^

p.conf:9:19: expected a directive of a `location` block, or `}`, found `proxy_pas`
 9 |     location /x { proxy_pas http://app; listen 80; }
   |                   ^
   = did you mean `proxy_pass`?

p.conf:9:41: expected a directive of a `location` block, or `}`, found `listen`
 9 |     location /x { proxy_pas http://app; listen 80; }
   |                                         ^
   = `listen` belongs outside all blocks

p.conf:12:1: expected `}`, found the end of the file
 12 | \n    | ^
    = the block that begins on line 6 is not closed

weaprous: p.conf has 8 mistakes
";
    assert_eq!(check(text, &[]), (Some(2), String::new(), expect.to_owned()));
}

#[test]
fn what_is_never_reached_or_has_no_effect_is_a_warning() {
    let text = "\
listen 8080;
upstream idle { server 127.0.0.1:9; queue 5; }
host a:81 {
    proxy_pass http://127.0.0.1:1;
    location / { proxy_pass http://127.0.0.1:2; deny all; allow 10.0.0.1; }
}
host b {
    respond 200; connect_timeout 1s;
    location /api { strip_prefix /apo; proxy_pass http://127.0.0.1:3; }
    location /../x { respond 404; }
    location /x//y { respond 404; allow 10.0.0.0/8; }
}
";
    let expect = "\
p.conf:2:1: warning: no `proxy_pass` names the upstream `idle`
 2 | upstream idle { server 127.0.0.1:9; queue 5; }
   | ^

p.conf:2:37: warning: no server of this upstream has `max_conns`, so nothing ever waits
 2 | upstream idle { server 127.0.0.1:9; queue 5; }
   |                                     ^

p.conf:3:6: warning: no `listen` has port 81, so clients ask for it only through another port that leads here
 3 | host a:81 {
   |      ^

p.conf:5:5: warning: this location takes every path, so what its host does itself is never reached
 5 |     location / { proxy_pass http://127.0.0.1:2; deny all; allow 10.0.0.1; }
   |     ^
   = put its directives into the host, or remove what the host does itself

p.conf:5:59: warning: this rule is never looked at: one for `all` stands before it
 5 |     location / { proxy_pass http://127.0.0.1:2; deny all; allow 10.0.0.1; }
   |                                                           ^
   = the first rule that matches decides; put `all` last

p.conf:8:18: warning: `connect_timeout` has no effect here: nothing is passed on to a backend
 8 |     respond 200; connect_timeout 1s;
   |                  ^

p.conf:9:21: warning: no path of this location begins with `/apo`, so nothing is rewritten
 9 |     location /api { strip_prefix /apo; proxy_pass http://127.0.0.1:3; }
   |                     ^

p.conf:10:14: warning: hardly any request has such a path, so this location is never reached
 10 |     location /../x { respond 404; }
    |              ^
    = browsers resolve `.` and `..` before they ask

p.conf:11:14: warning: no request reaches this location
 11 |     location /x//y { respond 404; allow 10.0.0.0/8; }
    |              ^
    = a path with two slashes may be read as one of another location, which is refused

p.conf:11:35: warning: this keeps nobody out: without a match everybody is allowed
 11 |     location /x//y { respond 404; allow 10.0.0.0/8; }
    |                                   ^
    = end with `deny all;` to keep all others out

";
    let (code, stdout, stderr) = check(text, &[]);
    assert_eq!(stderr, expect);
    assert_eq!(code, Some(0));
    assert!(stdout.starts_with("p.conf is fine.\n"), "{stdout}");
}

#[test]
fn editors_get_json() {
    let (code, stdout, stderr) = check("host a {\n  proxy_pas x;\n  respond 200 é }", &["--json"]);
    let seen: serde_json::Value = serde_json::from_str(&stdout).unwrap();
    let expect = serde_json::json!({
        "file": "p.conf",
        "errors": [
            {
                "line": 2, "column": 3, "hint": "did you mean `proxy_pass`?",
                "message": "expected a directive of a `host` block, or `}`, found `proxy_pas`",
            },
            { "line": 3, "column": 17, "hint": null, "message": "expected `;`, found `}`" },
        ],
        "warnings": [],
    });
    assert_eq!(seen, expect);
    assert_eq!((code, stderr.as_str()), (Some(2), "weaprous: p.conf has 2 mistakes\n"));
}

/// A folder with certificates of all kinds, a password file, and no more.
fn folder_with_files() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    let days_ago = |count: u64| now.checked_sub(Duration::from_hours(24 * count)).unwrap();
    for (name, made_at) in [("good", now), ("ending", days_ago(53)), ("ended", days_ago(100))] {
        let names = vec!["localhost".parse().unwrap()];
        let made = certs::lan_certificate(&folder.path().join(name), names, &[], made_at).unwrap();
        std::fs::copy(made.chain, folder.path().join(format!("{name}.crt"))).unwrap();
        std::fs::copy(made.key, folder.path().join(format!("{name}.key"))).unwrap();
    }
    std::fs::write(
        folder.path().join("people"),
        "# us\n\nalice:$argon2id$v=19$m=64,t=1,p=1$c2FsdHNhbHQ$QUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUE\nbob:bob\n",
    )
    .unwrap();
    folder
}

#[test]
fn files_that_are_named_are_looked_at() {
    let folder = folder_with_files();
    let text = "\
listen 443 tls {
    certificate good.crt key good.key;
    certificate none.crt key good.key;
    certificate good.crt key none.key;
    certificate good.crt key ended.key;
    certificate people key good.key;
    client_ca people;
}
host a {
    basic_auth \"members\" nobody;
    error_page 503 no/such.html;
    location /x { files nowhere; }
    proxy_pass https://10.0.0.1;
    upstream_tls_ca none.crt;
}
";
    std::fs::write(folder.path().join("p.conf"), text).unwrap();
    let output = check_in(folder.path(), &["p.conf"]);
    let stderr = String::from_utf8(output.stderr).unwrap();
    let mistakes: Vec<&str> = stderr.lines().filter(|line| line.starts_with("p.conf:")).collect();
    let missing = "No such file or directory (os error 2)";
    let expect = [
        format!("3:17: expected a file with a certificate and its chain (PEM), found none.crt: {missing}"),
        format!("4:30: expected the private key of this certificate (PEM), found none.key: {missing}"),
        "5:30: expected the private key of this certificate (PEM), found ended.key: is not the key of the certificate in \
         good.crt"
            .to_owned(),
        "6:17: expected a file with a certificate and its chain (PEM), found people: holds no certificate in PEM form"
            .to_owned(),
        "7:15: expected a file with authorities (PEM), found people: holds no certificate in PEM form".to_owned(),
        format!("10:26: expected a file with lines of `name:hash`, found nobody: {missing}"),
        format!("11:20: expected an error page, found no/such.html: {missing}"),
        format!("12:25: expected a folder, found nowhere: {missing}"),
        format!("14:21: expected a file with authorities (PEM), found none.crt: {missing}"),
    ];
    assert_eq!(mistakes, expect.map(|line| format!("p.conf:{line}")));
    assert!(stderr.contains("\n   |                              ^\n"), "a caret stands under the key: {stderr}");
    assert_eq!(output.status.code(), Some(2));
    let elsewhere = check_in(folder.path(), &["p.conf", "--no-files"]);
    assert_eq!(elsewhere.status.code(), Some(0), "they may lie on another machine: {elsewhere:?}");
}

#[test]
fn certificates_that_end_and_passwords_that_open_nothing_are_warned_of() {
    let folder = folder_with_files();
    let text = "\
listen 443 tls {
    certificate good.crt key good.key;
    certificate ending.crt key ending.key;
    certificate ended.crt key ended.key;
}
host a { basic_auth \"members\" people; respond 200; }
";
    std::fs::write(folder.path().join("p.conf"), text).unwrap();
    let output = check_in(folder.path(), &["p.conf"]);
    let stderr = String::from_utf8(output.stderr).unwrap();
    let warnings: Vec<&str> = stderr.lines().filter(|line| line.starts_with("p.conf:")).collect();
    let expect = [
        "p.conf:3:17: warning: this certificate expires in 6 days",
        "p.conf:4:17: warning: this certificate has expired 40 days ago",
        "p.conf:6:31: warning: line 4 of people lets nobody in",
    ];
    assert_eq!(warnings, expect);
    assert_eq!(output.status.code(), Some(0));
}

#[test]
fn the_files_that_come_with_the_project_are_fine() {
    for file in ["config/proxy.conf", "config/proxy.reference.conf"] {
        let output = check_in(&root(), &[file, "--no-files"]);
        assert_eq!(output.status.code(), Some(0), "{output:?}");
        assert!(String::from_utf8(output.stdout).unwrap().starts_with(&format!("{file} is fine.\n")));
    }
}

#[test]
fn a_file_that_is_not_there_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let output = check_in(folder.path(), &["no.conf"]);
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(2));
    assert!(stderr.starts_with("weaprous: cannot read the proxy configuration no.conf: "), "{stderr}");
}
