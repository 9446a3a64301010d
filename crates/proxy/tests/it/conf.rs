//! The configuration grammar: what is understood, and how every mistake is shown.

use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use proptest::prelude::*;
use proxy::conf::{
    Action, CONFIG_BYTES_MAX, ERRORS_MAX, HeaderChange, HostPattern, Part, Pass, Rules, ServerAddress, Template,
    Variable,
};
use proxy::{Config, LoadError};

fn parse(text: &str) -> Config {
    Config::parse("proxy.conf", text).unwrap_or_else(|errors| panic!("{}", LoadError::Invalid(errors)))
}

fn name(name: &str, port: Option<u16>) -> HostPattern {
    HostPattern::Name { name: name.to_owned(), port }
}

fn addresses(ports: &[&str]) -> Vec<SocketAddr> {
    ports.iter().map(|address| address.parse().unwrap()).collect()
}

fn pass(rules: &Rules) -> &Pass {
    match &rules.action {
        Action::Pass(pass) => pass,
        other => panic!("{other:?}"),
    }
}

fn backends(rules: &Rules) -> Vec<SocketAddr> {
    let address = |server: &proxy::conf::UpstreamServer| match server.address {
        ServerAddress::Ip(address) => address,
        ServerAddress::Name { .. } => panic!("{server:?}"),
    };
    pass(rules).upstream.servers.iter().map(address).collect()
}

/// What a field is set to.
fn set_to(pass: &Pass, index: usize) -> &Template {
    match &pass.request_headers[index].change {
        HeaderChange::Set(template) => template,
        other => panic!("{other:?}"),
    }
}

#[test]
fn the_original_files_are_understood() {
    let config = parse(
        r#"
# the first host
host "192.168.56.103:8080" {
    proxy_pass http://192.168.56.103:9000;
}

host "app2.local" {
    proxy_pass http://192.168.56.103:9002;
    proxy_pass http://192.168.56.103:9003;
    proxy_set_header Host $host;
    dist_policy round-robin
}
"#,
    );
    let [first, second] = &config.hosts[..] else { panic!("{config:?}") };
    assert_eq!(first.names, [name("192.168.56.103", Some(8080))]);
    assert_eq!(backends(first.root.as_ref().unwrap()), addresses(&["192.168.56.103:9000"]));
    assert_eq!(second.names, [name("app2.local", None)]);
    let rules = second.root.as_ref().unwrap();
    assert_eq!(backends(rules), addresses(&["192.168.56.103:9002", "192.168.56.103:9003"]));
    let pass = pass(rules);
    assert_eq!(pass.request_headers.len(), 1);
    assert_eq!(pass.request_headers[0].name, "Host");
    assert_eq!(set_to(pass, 0).parts, [Part::Variable(Variable::Host)]);
}

#[test]
fn the_semicolon_after_the_policy_may_be_missing_anywhere() {
    for text in [
        "host a { dist_policy round-robin proxy_pass http://1.2.3.4:5; }",
        "host a { proxy_pass http://1.2.3.4:5; dist_policy round-robin }",
        "host a { proxy_pass http://1.2.3.4:5; dist_policy round-robin; }",
        "host a{proxy_pass http://1.2.3.4:5;dist_policy round-robin}",
        "host a {\n dist_policy round-robin\n proxy_pass http://1.2.3.4:5;\n}",
    ] {
        assert_eq!(parse(text).backends(), addresses(&["1.2.3.4:5"]), "{text}");
    }
}

#[test]
fn names_and_addresses_come_in_all_their_forms() {
    let config =
        parse("host LocalHost. \"B:1\" [::1]:8080 default { proxy_pass http://[::1]:9; proxy_pass http://localhost; }");
    let expect = [name("localhost", None), name("b", Some(1)), name("[::1]", Some(8080)), HostPattern::Default];
    assert_eq!(config.hosts[0].names, expect);
    assert_eq!(config.backends(), addresses(&["[::1]:9", "127.0.0.1:80"]));
}

#[test]
fn a_location_inherits_what_it_does_not_say() {
    let config = parse(
        r#"host a {
            location /own { proxy_pass http://1.1.1.1:1; response_timeout 5s; proxy_set_header x-a ""; }
            location /all {}
            proxy_pass http://2.2.2.2:2;
            proxy_set_header X-A "for $remote_addr, $scheme!";
            proxy_set_header X-B b;
            connect_timeout 100ms;
            response_timeout 2m;
            body_bytes_max 3k;
        }"#,
    );
    let host = &config.hosts[0];
    let rules = &host.locations[0].rules;
    let own = pass(rules);
    assert_eq!(backends(rules), addresses(&["1.1.1.1:1"]));
    assert_eq!(own.timeouts.response, Duration::from_secs(5));
    assert_eq!(own.timeouts.connect, Duration::from_millis(100));
    assert_eq!(rules.body_bytes_max, Some(3 * 1024));
    let edits: Vec<_> =
        own.request_headers.iter().map(|edit| (edit.name.as_str(), edit.change == HeaderChange::Remove)).collect();
    assert_eq!(edits, [("x-a", true), ("X-B", false)]);
    let all = pass(&host.locations[1].rules);
    assert_eq!(all.upstream.servers, pass(host.root.as_ref().unwrap()).upstream.servers);
    assert_eq!(all.timeouts.response, Duration::from_mins(2));
    assert_eq!(
        set_to(all, 0).parts,
        [
            Part::Literal("for ".to_owned()),
            Part::Variable(Variable::RemoteAddr),
            Part::Literal(", ".to_owned()),
            Part::Variable(Variable::Scheme),
            Part::Literal("!".to_owned()),
        ]
    );
}

#[test]
fn blank_files_and_stray_semicolons_are_harmless() {
    for text in ["", "\n\n", "# nothing", "\u{feff}\r\n;;", ";"] {
        assert_eq!(parse(text), Config::default(), "{text:?}");
    }
    assert_eq!(parse("host a {;;proxy_pass http://1.2.3.4:5;;}").backends().len(), 1);
}

/// Feeds a corrupt file and compares the first line of each error, and whether a hint contains a word.
fn check(text: &str, expect: &[(&str, &str)]) {
    let errors = Config::parse("p.conf", text).expect_err(text);
    let shown: Vec<String> = errors.iter().map(|error| error.to_string().lines().next().unwrap().to_owned()).collect();
    let lines: Vec<&str> = expect.iter().map(|(line, _)| *line).collect();
    assert_eq!(shown, lines, "{text}");
    for (error, (_, hint)) in errors.iter().zip(expect) {
        let found = error.hint.as_deref().unwrap_or_default();
        assert!(if hint.is_empty() { found.is_empty() } else { found.contains(hint) }, "{error}\nwants {hint:?}");
    }
}

const AT_TOP: &str = "`host`, `upstream`, `listen` or `trusted_proxy`";
const IN_HOST: &str = "a directive of a `host` block, or `}`";

#[test]
fn a_mistake_is_shown_with_its_line_and_a_caret() {
    let text = "host \"a\" {\n\tproxy_pas http://1.2.3.4:5;\n}\n";
    let errors = Config::parse("config/proxy.conf", text).unwrap_err();
    let expect = format!(
        "config/proxy.conf:2:2: expected {IN_HOST}, found `proxy_pas`\n 2 |  proxy_pas http://1.2.3.4:5;\n   |  ^\n   = did you mean `proxy_pass`?"
    );
    assert_eq!(errors[0].to_string(), expect);
    assert_eq!((errors[0].line, errors[0].column), (2, 2));
    assert_eq!(errors[0].line_text, "\tproxy_pas http://1.2.3.4:5;");
}

#[test]
fn misspelt_and_misplaced_directives() {
    check(
        "hots \"a\" {\n  proxy_pass http://1.2.3.4:5;\n}",
        &[(&format!("p.conf:1:1: expected {AT_TOP}, found `hots`"), "did you mean `host`?")],
    );
    check(
        "proxy_pass http://1.2.3.4:5;",
        &[(&format!("p.conf:1:1: expected {AT_TOP}, found `proxy_pass`"), "inside a `host` block")],
    );
    check(
        "host a { proxy_pass http://1.2.3.4:5; trusted_proxy 10.0.0.1; }",
        &[(&format!("p.conf:1:39: expected {IN_HOST}, found `trusted_proxy`"), "outside all blocks")],
    );
    check(
        "host a { location / { location /x { proxy_pass http://1.2.3.4:5; } proxy_pass http://1.2.3.4:5; } }",
        &[(
            &format!("p.conf:1:23: expected {}, found `location`", IN_HOST.replace("host", "location")),
            "not inside another",
        )],
    );
    check(
        "server {\n listen 80;\n}\n}",
        &[
            (&format!("p.conf:1:1: expected {AT_TOP}, found `server`"), "a site is a `host` block"),
            (&format!("p.conf:4:1: expected {AT_TOP}, found `}}`"), ""),
        ],
    );
}

#[test]
fn missing_punctuation_is_looked_for_where_it_belongs() {
    check(
        "host a {\n  proxy_pass http://1.2.3.4:5\n  dist_policy round-robin\n}",
        &[("p.conf:2:30: expected `;`, found the end of the line", "")],
    );
    check("host a { proxy_pass http://1.2.3.4:5 }", &[("p.conf:1:38: expected `;`, found `}`", "")]);
    check(
        "host a {\n  proxy_pass http://1.2.3.4:5;\n",
        &[("p.conf:3:1: expected `}`, found the end of the file", "begins on line 1")],
    );
    check(
        "host a {\n  proxy_pass http://1.2.3.4:5;\nhost b { proxy_pass http://1.2.3.4:5; }",
        &[("p.conf:3:1: expected `}`, found `host`", "begins on line 1")],
    );
    check(
        "host a\n  proxy_pass http://1.2.3.4:5;\n}",
        &[("p.conf:2:3: expected `{` after the host's name, found `proxy_pass`", "host … { … }")],
    );
    check(
        "host \"a {\n  proxy_pass http://1.2.3.4:5;\n}",
        &[("p.conf:1:6: expected a closing `\"` on the same line, found the end of the line", "")],
    );
    check(
        "host a { proxy_pass http://1.2.3.4:5 http://1.2.3.4:6; }",
        &[("p.conf:1:38: expected `;`, found `http://1.2.3.4:6`", "")],
    );
}

#[test]
fn backends_that_are_none() {
    let backend = "an address like `http://127.0.0.1:9000`";
    for (value, hint) in [
        ("127.0.0.1:9000", "begins with `http://`"),
        ("h2c://127.0.0.1:9000", "is written `h2://`"),
        ("http://127.0.0.1:9000/app", "without a path"),
        ("http://127.0.0.1:0", "1 to 65535"),
        ("http://127.0.0.1:65536", "1 to 65535"),
        ("http://127.0.0.1:+80", "1 to 65535"),
        ("http://1.2.3:80", "an IP address"),
        ("ftp://1.2.3.4", "only `http://`, `https://` and `h2://`"),
    ] {
        let text = format!("host a {{\n  proxy_pass {value};\n  proxy_pass http://1.2.3.4:5;\n}}");
        check(&text, &[(&format!("p.conf:2:14: expected {backend}, found `{value}`"), hint)]);
    }
}

#[test]
fn host_names_that_are_none() {
    for (value, hint) in [
        ("http://a", "leave out the scheme"),
        ("a:0", "1 to 65535"),
        ("a:http", "1 to 65535"),
        ("a.*", "only at the beginning"),
        ("*a", "only at the beginning"),
        ("*.", "only at the beginning"),
        ("::1", "brackets"),
        ("a..b", "letters"),
        ("a/b", "letters"),
    ] {
        let text = format!("host {value} {{ proxy_pass http://1.2.3.4:5; }}");
        let line = format!("p.conf:1:6: expected a host name like \"localhost:8080\", or `default`, found `{value}`");
        check(&text, &[(&line, hint)]);
    }
}

const POLICY: &str = "a policy: `round-robin`, `least-conn`, `random-two`, `ip-hash`, `hash header NAME`, \
                      `hash cookie NAME` or `sticky NAME`";

#[test]
fn other_values_that_are_none() {
    for (line, column, expect, hint) in [
        ("dist_policy fastest;", 13, format!("{POLICY}, found `fastest`").as_str(), ""),
        (
            "dist_policy round_robin;",
            13,
            format!("{POLICY}, found `round_robin`").as_str(),
            "did you mean `round-robin`?",
        ),
        ("dist_policy;", 12, format!("{POLICY}, found `;`").as_str(), ""),
        ("dist_policy hash;", 17, "`header` or `cookie`, found `;`", ""),
        ("dist_policy sticky \"a b\";", 20, "a name for the cookie, like `route`, found \"a b\"", "letters"),
        ("connect_timeout soon;", 17, "a duration like `500ms`, `10s` or `2m`, at most an hour, found `soon`", ""),
        ("response_timeout 0;", 18, "a duration like `500ms`, `10s` or `2m`, at most an hour, found `0`", ""),
        ("response_timeout 61m;", 18, "a duration like `500ms`, `10s` or `2m`, at most an hour, found `61m`", ""),
        ("body_bytes_max 1t;", 16, "a size like `64k`, `10m` or `2g`, found `1t`", ""),
        ("location api { }", 10, "a path prefix like `/api/`, found `api`", "begins with `/`"),
        ("location /a?b { }", 10, "a path prefix like `/api/`, found `/a?b`", "without `?`"),
        ("location /é { }", 10, "a path prefix like `/api/`, found `/é`", "%C3%A9"),
        ("location { }", 10, "a path prefix like `/api/`, found `{`", "begins with `/`"),
        ("proxy_set_header \"a b\" c;", 18, "a field name like `Host`, found \"a b\"", "letters"),
        (
            "proxy_set_header Upgrade $http_upgrade;",
            18,
            "a field name like `Host`, found `Upgrade`",
            "the proxy itself",
        ),
        ("proxy_set_header Host;", 22, "the field's value, found `;`", "in quotes"),
        ("proxy_set_header Host \"\";", 23, "a value for `Host`, found \"\"", "pass on the client's"),
        (
            "proxy_set_header A $hots;",
            20,
            "one of `$host`, `$host_name`, `$remote_addr`, `$realip_remote_addr`, `$scheme`, `$request_uri`, \
             `$uri`, `$proxy_add_x_forwarded_for`, found `$hots`",
            "no variable `$hots`",
        ),
        ("proxy_set_header A é;", 20, "a value of visible ASCII characters, found `é`", ""),
        ("proxy_set_header A b c;", 22, "`;`, found `c`", ""),
        ("proxy_pass;", 11, "an address like `http://127.0.0.1:9000`, found `;`", ""),
        (
            "\u{a0}proxy_pass http://1.2.3.4:6;",
            1,
            "visible characters and plain spaces, found the character U+00A0",
            "",
        ),
    ] {
        let text = format!("host a {{ proxy_pass http://1.2.3.4:5;\n{line}\n}}");
        check(&text, &[(&format!("p.conf:2:{column}: expected {expect}"), hint)]);
    }
    check(
        "trusted_proxy 10.0.0.0/33;",
        &[("p.conf:1:15: expected an address like `10.0.0.1` or a network like `10.0.0.0/8`, found `10.0.0.0/33`", "")],
    );
}

#[test]
fn an_upstream_block_is_read_wherever_it_stands() {
    use proxy::conf::{HealthCheck, Policy, Queue};
    let config = parse(
        "host a { proxy_pass http://app; location /b { proxy_pass http://backend:81; } }
         upstream app {
            server [::1]:9000 backup max_conns=7;
            server App.Example.org weight=3;
            dist_policy hash cookie user;
            health_check /healthz?x status=204 rise=1;
            ejection share_max=40%;
            slow_start 30s;
            queue 9;
         }",
    );
    let upstream = &config.upstreams[0];
    assert_eq!((upstream.name.as_str(), upstream.is_named), ("app", true));
    let servers: Vec<_> = upstream.servers.iter().map(|server| (server.address.to_string(), server.weight)).collect();
    assert_eq!(servers, [("[::1]:9000".to_owned(), 1), ("app.example.org:80".to_owned(), 3)]);
    assert_eq!((upstream.servers[0].backup, upstream.servers[0].max_conns), (true, Some(7)));
    assert_eq!(upstream.policy, Policy::HashCookie("user".to_owned()));
    let check = HealthCheck {
        path: "/healthz?x".to_owned(),
        status: (204, 204),
        interval: Duration::from_secs(5),
        timeout: Duration::from_secs(2),
        rise: 1,
        fall: 3,
    };
    assert_eq!(upstream.health_check, Some(check));
    assert_eq!((upstream.ejection.share_max, upstream.ejection.failures), (40, 3));
    assert_eq!(upstream.queue, Some(Queue { length: 9, wait: Duration::from_secs(5) }));
    assert!(std::sync::Arc::ptr_eq(&pass(config.hosts[0].root.as_ref().unwrap()).upstream, upstream));
    let inline = &pass(&config.hosts[0].locations[0].rules).upstream;
    assert_eq!((inline.name.as_str(), inline.is_named), ("a/b", false));
    assert_eq!(inline.servers[0].address.to_string(), "backend:81");
}

#[test]
fn a_change_in_one_place_leaves_the_others_equal() {
    let text = "upstream app { server 127.0.0.1:1; } host a { proxy_pass http://app; location /x { proxy_pass http://1.1.1.1:1; } }";
    let (before, same) = (parse(text), parse(text));
    assert_eq!(before, same);
    let after = parse(&text.replace("1.1.1.1:1", "1.1.1.1:2"));
    assert_ne!(before, after);
    assert_eq!(before.upstreams[0], after.upstreams[0]);
    assert_eq!(before.hosts[0].root, after.hosts[0].root);
}

#[test]
fn mistakes_in_upstream_blocks() {
    let all =
        |line: &str| format!("upstream app {{ server 127.0.0.1:1;\n{line}\n}} host a {{ proxy_pass http://app; }}");
    for (line, column, expect, hint) in [
        (
            "server http://a:1;",
            8,
            "an address like `127.0.0.1:9000` or `app.example.org:9000`, found `http://a:1`",
            "without a scheme",
        ),
        (
            "server 1.2.3:80;",
            8,
            "an address like `127.0.0.1:9000` or `app.example.org:9000`, found `1.2.3:80`",
            "an IP address or a name",
        ),
        ("server 1.2.3.4:80 weight=0;", 26, "a weight from 1 to 1000, found `0`", ""),
        ("server 1.2.3.4:80 backup=yes;", 26, "`backup` alone, found `yes`", ""),
        ("server 1.2.3.4:80 weight=1 weight=2;", 28, "each option once, found `weight=2`", "remove one"),
        ("health_check;", 13, "a path like `/healthz`, found `;`", ""),
        ("health_check / status=399-200;", 23, "a status or a range like `200-399`, found `399-200`", ""),
        ("ejection share_max=0%;", 20, "a share like `50%`, found `0%`", ""),
        ("queue 0;", 7, "a number from 1 to 100000, found `0`", ""),
        ("slow_start;", 11, "a duration like `500ms`, `10s` or `2m`, at most an hour, found `;`", ""),
        (
            "proxy_pass http://1.2.3.4;",
            1,
            "a directive of an `upstream` block, or `}`, found `proxy_pass`",
            "inside a `host` block",
        ),
        ("slow_start 1s; slow_start 1s;", 16, "each of these once in a block, found `slow_start`", "remove one"),
    ] {
        check(&all(line), &[(&format!("p.conf:2:{column}: expected {expect}"), hint)]);
    }
    check(
        "upstream app { }\nhost a { proxy_pass http://app; }",
        &[("p.conf:1:1: expected an `upstream` with a `server`, found one without", "add `server")],
    );
    check(
        "upstream app { server 1.2.3.4:1 backup; }\nhost a { proxy_pass http://app; }",
        &[("p.conf:1:1: expected a `server` that is no `backup`, found backups alone", "leave out `backup`")],
    );
    check(
        "upstream app { server 1.2.3.4:1; }\nupstream app { server 1.2.3.4:1; }\nhost a { proxy_pass http://app; }",
        &[("p.conf:2:10: expected a name that no other `upstream` has, found `app`", "on line 1")],
    );
    check(
        "upstream localhost { server 1.2.3.4:1; }",
        &[("p.conf:1:10: expected a name for the upstream, found `localhost`", "is an address")],
    );
}

#[test]
#[expect(clippy::too_many_lines, reason = "one table")]
fn mistakes_in_what_answers() {
    let of_host = |line: &str| format!("upstream app {{ server 127.0.0.1:1; }} host a {{\n{line}\n}}");
    for (line, column, expect, hint) in [
        (
            "proxy_pass http://ap;",
            12,
            "an address, or the name of an `upstream` block, found `http://ap`",
            "did you mean `app`?",
        ),
        (
            "proxy_pass http://other;",
            12,
            "an address, or the name of an `upstream` block, found `http://other`",
            "needs a port",
        ),
        (
            "proxy_pass http://app; proxy_pass http://1.2.3.4;",
            35,
            "one `proxy_pass` when it names an upstream, found `http://1.2.3.4`",
            "put all servers",
        ),
        (
            "proxy_pass http://app; dist_policy ip-hash;",
            24,
            "the policy inside the `upstream` block, found `dist_policy`",
            "move this line",
        ),
        (
            "respond 200; redirect /x;",
            14,
            "one of `proxy_pass`, `redirect`, `respond` and `files` in a block, found `redirect`",
            "remove one",
        ),
        ("redirect 304 /x;", 10, "301, 302, 303, 307 or 308, or where to, found `304`", ""),
        ("redirect //evil;", 10, "where to, like `https://example.org$request_uri`, found `//evil`", "begins with"),
        ("redirect 301;", 13, "where to, like `https://example.org$request_uri`, found `;`", ""),
        ("respond 199;", 9, "a status from 200 to 599, found `199`", ""),
        ("respond 200 a b;", 15, "`;`, found `b`", ""),
        ("respond 200 { }", 13, "`;`, found `{`", "has no block"),
        (
            "respond 200; allow 10.0.0.0/33;",
            20,
            "an address, a network like `10.0.0.0/8`, or `all`, found `10.0.0.0/33`",
            "",
        ),
        (
            "respond 200; rate_limit 10;",
            25,
            "a rate like `10/s`, `600/m` or `1000/h`, or `off`, found `10`",
            "a number, `/`",
        ),
        ("respond 200; rate_limit 10/s key=cookie;", 34, "`address` or `header:NAME`, found `cookie`", ""),
        ("respond 200; error_page 200 x;", 25, "a status from 400 to 599, found `200`", ""),
        (
            "respond 200; forward_auth grpc://a/;",
            27,
            "a URL like `http://127.0.0.1:9001/verify`, or `off`, found `grpc://a/`",
            "is written `h2://`",
        ),
        ("respond 200; proxy_remove_header Host;", 34, "another field than `Host`, found `Host`", "exactly one"),
        (
            "respond 200; set_header Content-Length 5;",
            25,
            "a field name like `Host`, found `Content-Length`",
            "the proxy itself",
        ),
        ("files /srv; rewrite /a /b/../..;", 13, "a path inside of the folder, found `..`", ""),
        ("respond 200; early_hints 103;", 26, "`off`, `http2` or `on`, found `103`", ""),
        ("respond 200; compression gzip;", 26, "`on` or `off`, found `gzip`", ""),
        ("respond 200; compression on trusted=1;", 37, "`trusted` alone, found `1`", ""),
        ("respond 200; proxy_buffering on size=2g;", 38, "a size like `64k` or `1m`, at most 1g, found `2g`", ""),
        ("respond 200; access_log json;", 14, format!("{IN_HOST}, found `access_log`").as_str(), "outside all blocks"),
        (
            "proxy_pass http://app; proxy_read_timeout 5s;",
            24,
            format!("{IN_HOST}, found `proxy_read_timeout`").as_str(),
            "`response_timeout`",
        ),
    ] {
        check(&of_host(line), &[(&format!("p.conf:2:{column}: expected {expect}"), hint)]);
    }
    check(
        "listen 80 tls;\nhost a { respond 200; }",
        &[("p.conf:1:11: expected `tls` and a block with a `certificate`, found `tls` alone", "certificate site.crt")],
    );
    check(
        "listen 80 h2;\nhost a { respond 200; }",
        &[("p.conf:1:11: expected `tls`, `proxy_protocol` or `;`, found `h2`", "")],
    );
    check(
        "listen 80 tls { http2 maybe; }\nhost a { respond 200; }",
        &[
            ("p.conf:1:11: expected a `tls` block with a `certificate`, found one without", "certificate site.crt"),
            ("p.conf:1:23: expected `on` or `off`, found `maybe`", ""),
        ],
    );
    check(
        "listen 80 tls { certificate a.crt with a.key; }\nhost a { respond 200; }",
        &[("p.conf:1:35: expected `key` and the file with the private key, found `with`", "key site.key")],
    );
    check(
        "listen 80 { certificate a.crt key a.key; }\nhost a { respond 200; }",
        &[("p.conf:1:11: expected `;`, or `tls` before the block, found `{`", "")],
    );
    check(
        "listen 80 proxy_protocol;\nhost a { respond 200; }",
        &[("p.conf:1:11: expected `proxy_protocol` together with a `trusted_proxy`, found `proxy_protocol`", "add")],
    );
    check(
        "listen 80;\nlisten 0.0.0.0:80;\nhost a { respond 200; }",
        &[("p.conf:2:8: expected each address once, found `0.0.0.0:80`", "remove one")],
    );
}

#[test]
fn what_is_said_twice_or_not_at_all() {
    check(
        "host a { proxy_pass http://1.2.3.4:5; }\nhost \"A.\" { proxy_pass http://1.2.3.4:5; }",
        &[("p.conf:2:6: expected a name that no other `host` block has, found \"A.\"", "on line 1")],
    );
    check(
        "host a {\nlocation / { proxy_pass http://1.2.3.4:5; }\nlocation / { proxy_pass http://1.2.3.4:5; }\n}",
        &[("p.conf:3:10: expected a prefix that this host does not have yet, found `/`", "on line 2")],
    );
    check(
        "host a { proxy_pass http://1.2.3.4:5; connect_timeout 1s; connect_timeout 1s; }",
        &[("p.conf:1:59: expected each of these once in a block, found `connect_timeout`", "remove one")],
    );
    check(
        "host a { proxy_pass http://1.2.3.4:5; proxy_set_header A a; proxy_set_header a b; }",
        &[("p.conf:1:78: expected each field once, found `a`", "only one")],
    );
    check(
        "host a { }",
        &[("p.conf:1:1: expected a `host` block with a `proxy_pass`, found one without", "add `proxy_pass")],
    );
    check(
        "host a {\n location /x { }\n location /y { proxy_pass http://1.2.3.4:5; }\n}",
        &[(
            "p.conf:2:2: expected a `location` with a `proxy_pass`, its own or its host's, found neither",
            "add `proxy_pass",
        )],
    );
    check(
        "host { proxy_pass http://1.2.3.4:5; }",
        &[("p.conf:1:6: expected a host name like \"localhost:8080\", or `default`, found `{`", "host default")],
    );
}

#[test]
fn all_mistakes_are_shown_at_once_but_not_endlessly() {
    check(
        "host a {\n proxy_pas x;\n proxy_pass y;\n}\nhost b { proxy_pass http://1.2.3.4:5 }\n",
        &[
            (&format!("p.conf:2:2: expected {IN_HOST}, found `proxy_pas`"), "did you mean"),
            ("p.conf:3:13: expected an address like `http://127.0.0.1:9000`, found `y`", "begins with"),
            ("p.conf:5:38: expected `;`, found `}`", ""),
        ],
    );
    let errors = Config::parse("p.conf", &"x;\n".repeat(1000)).unwrap_err();
    assert_eq!(errors.len(), ERRORS_MAX);
}

#[test]
fn files_that_cannot_be_read() {
    let missing = Config::load(Path::new("no/such/proxy.conf")).unwrap_err();
    assert!(matches!(missing, LoadError::Unreadable { .. }));
    assert!(missing.to_string().contains("no/such/proxy.conf"), "{missing}");

    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("proxy.conf");
    std::fs::write(&path, b"host a {\n  # caf\xe9\n}").unwrap();
    let latin1 = Config::load(&path).unwrap_err();
    assert!(latin1.to_string().contains("proxy.conf:2:8: expected UTF-8 text, found the byte 0xE9"), "{latin1}");

    std::fs::write(&path, vec![b'#'; CONFIG_BYTES_MAX + 1]).unwrap();
    let long = Config::load(&path).unwrap_err();
    assert!(long.to_string().contains("longer than"), "{long}");

    std::fs::write(&path, "host a { proxy_pass http://1.2.3.4:5; }").unwrap();
    assert_eq!(Config::load(&path).unwrap().hosts.len(), 1);
}

#[test]
fn the_file_that_comes_with_the_project_routes_tracker_and_backend() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../config/proxy.conf");
    let config = Config::load(&path).unwrap_or_else(|error| panic!("{error}"));
    let host = &config.hosts[0];
    for pattern in [name("localhost", Some(8080)), name("127.0.0.1", Some(8080)), HostPattern::Default] {
        assert!(host.names.contains(&pattern), "{pattern:?}");
    }
    assert_eq!(backends(host.root.as_ref().unwrap()), addresses(&["127.0.0.1:9000"]));
    let mut prefixes: Vec<&str> = host.locations.iter().map(|location| location.path.as_str()).collect();
    prefixes.sort_unstable();
    assert_eq!(
        prefixes,
        [
            "/add-list",
            "/api/",
            "/create-list",
            "/get-list",
            "/get-messages",
            "/join-list",
            "/send-message",
            "/submit-info"
        ]
    );
    for location in &host.locations {
        assert_eq!(backends(&location.rules), addresses(&["127.0.0.1:8000"]), "{:?}", location.path);
    }
}

/// Pieces a file is made of, right and wrong, so that random files get deep into the parser.
const PIECES: &[&str] = &[
    "host",
    "location",
    "proxy_pass",
    "proxy_set_header",
    "dist_policy",
    "trusted_proxy",
    "connect_timeout",
    "body_bytes_max",
    "{",
    "}",
    ";",
    "\"",
    "\"a:1\"",
    "default",
    "/",
    "/api",
    "http://1.2.3.4:5",
    "round-robin",
    "Host",
    "$host",
    "10s",
    "# c",
    "\n",
    " ",
    "\t",
    "\\",
    "\0",
    "é",
    "\u{a0}",
    "*",
    "[::1]:1",
    "upstream",
    "app",
    "server",
    "127.0.0.1:9",
    "weight=2",
    "backup",
    "health_check",
    "ejection",
    "queue",
    "redirect",
    "respond",
    "308",
    "=",
    "add_header",
    "rewrite",
    "rate_limit",
    "10/s",
    "forward_auth",
    "error_page",
    "deny",
    "all",
    "http://app",
    "$",
    "10.0.0.0/8",
];

/// Whatever comes in, the parser ends, and its errors point into the file and can be shown.
fn survives(text: &str) {
    let Err(errors) = Config::parse("p.conf", text) else { return };
    assert!(!errors.is_empty() && errors.len() <= ERRORS_MAX);
    for error in errors {
        let line = text.split('\n').nth(error.line - 1).expect("the line exists");
        assert_eq!(error.line_text, line.trim_end_matches('\r'));
        assert!(error.column <= line.chars().count() + 1, "{error}");
        assert!(error.to_string().starts_with(&format!("p.conf:{}:{}: expected ", error.line, error.column)));
    }
}

proptest! {
    #[test]
    fn no_text_makes_the_parser_panic(text in any::<String>()) {
        survives(&text);
    }

    #[test]
    fn no_mix_of_its_own_pieces_makes_the_parser_panic(
        pieces in prop::collection::vec((prop::sample::select(PIECES), any::<bool>()), 0..80)
    ) {
        let text: String = pieces.iter().flat_map(|(piece, space)| [*piece, if *space { " " } else { "" }]).collect();
        survives(&text);
    }

    #[test]
    fn damage_to_a_good_file_is_survived(at in 0usize..600, cut in 0usize..40, junk in ".{0,5}") {
        let good = include_str!("../../../../config/proxy.conf");
        let body = &good[good.find("\nhost").unwrap()..];
        let text: String = body.chars().take(at).chain(junk.chars()).chain(body.chars().skip(at + cut)).collect();
        survives(&text);
    }
}

#[test]
fn how_long_silent_connections_are_left_alone_is_said_in_seconds_that_the_system_can_count() {
    let text = |value: &str| format!("defer_accept {value}; host a {{ respond 200; }}");
    for (value, expect) in [("off", 0), ("1s", 1), ("30s", 30), ("2m", 120)] {
        assert_eq!(parse(&text(value)).defer_accept, Some(Duration::from_secs(expect)), "{value}");
    }
    assert_eq!(parse("host a { respond 200; }").defer_accept, None);
    for wrong in ["on", "0s", "500ms", "3m"] {
        let expect = format!("p.conf:1:14: expected a duration from `1s` to `2m`, or `off`, found `{wrong}`");
        check(&text(wrong), &[(&expect, "")]);
    }
    check(
        "listen 80 deferred;",
        &[("p.conf:1:11: expected `tls`, `proxy_protocol` or `;`, found `deferred`", "defer_accept off")],
    );
}

#[test]
fn the_access_log_and_the_admin_page_are_told_once_outside_all_blocks() {
    let text = "access_log /var/log/a.log format=json query=full; admin 127.0.0.1:9900; host a { respond 200; }";
    let config = Config::parse("test", text).unwrap();
    let log = config.access_log.unwrap();
    assert_eq!((log.format, log.query), (proxy::LogFormat::Json, true));
    assert_eq!(log.target, proxy::LogTarget::File("/var/log/a.log".into()));
    assert_eq!(config.admin, Some(([127, 0, 0, 1], 9900).into()));
    let short = Config::parse("test", "access_log stdout; host a { respond 200; }").unwrap().access_log.unwrap();
    assert_eq!((short.format, short.target, short.query), (proxy::LogFormat::Clf, proxy::LogTarget::Stdout, false));
    for wrong in
        ["access_log;", "access_log a format=xml;", "access_log a query=some;", "access_log a b;", "admin here;"]
    {
        let errors = Config::parse("test", &format!("{wrong} host a {{ respond 200; }}")).unwrap_err();
        assert_eq!(errors.len(), 1, "{wrong}: {errors:?}");
    }
}

#[test]
fn tls_on_both_sides() {
    let text = "trusted_proxy 10.0.0.0/8;
listen 80;
listen 443 proxy_protocol tls {
    certificate a.crt key a.key;
    certificate b.crt key b.key;
    client_ca ca.crt optional;
    http2 off;
}
upstream app { server 10.0.0.1; server app.example; upstream_tls_ca ca.crt; upstream_tls_name inner.example; }
host a { proxy_pass https://app; }
host b {
    upstream_tls_verify off;
    proxy_pass https://10.0.0.2;
    location /x/ { upstream_tls_ca other.crt; }
    location /y/ { proxy_pass http://10.0.0.3; }
}";
    let config = Config::parse("p.conf", text).unwrap_or_else(|errors| panic!("{errors:?}"));
    assert_eq!((config.listen[0].tls.as_ref(), config.listen[0].proxy_protocol), (None, false));
    let tls = config.listen[1].tls.as_ref().unwrap();
    assert!(config.listen[1].proxy_protocol && !tls.http2);
    let keys: Vec<_> = tls.certificates.iter().map(|files| files.key.to_str().unwrap()).collect();
    assert_eq!(keys, ["a.key", "b.key"]);
    assert_eq!(tls.client_auth, engine::ClientAuth::Optional { authorities: "ca.crt".into() });

    let shown: Vec<_> = config.upstreams.iter().map(|upstream| (&upstream.servers[0].address, &upstream.tls)).collect();
    let shown: Vec<String> = shown.iter().map(|(address, tls)| format!("{address} {tls:?}")).collect();
    let with = |trust: &str, name: &str| format!("Some(UpstreamTls {{ trust: {trust}, name: {name} }})");
    assert_eq!(
        shown,
        [
            format!("10.0.0.1:443 {}", with("File(\"ca.crt\")", "Some(\"inner.example\")")),
            format!("10.0.0.2:443 {}", with("File(\"other.crt\")", "None")),
            "10.0.0.3:80 None".to_owned(),
            format!("10.0.0.2:443 {}", with("Anybody", "None")),
        ]
    );
    assert_eq!(config.upstreams[0].servers[1].address.to_string(), "app.example:443");
}

#[test]
fn tls_to_backends_is_all_or_nothing() {
    check(
        "upstream app { server 10.0.0.1; }\nhost a { proxy_pass https://app; }\nhost b { proxy_pass http://app; }",
        &[("p.conf:3:21: expected one scheme for an upstream, found `http://app`", "all do, or none")],
    );
    check(
        "host a { proxy_pass https://10.0.0.1; proxy_pass http://10.0.0.2; }",
        &[("p.conf:1:50: expected one scheme for all backends of a block, found `http://10.0.0.2`", "")],
    );
    check(
        "host a { proxy_pass https://10.0.0.1; upstream_tls_ca a; upstream_tls_verify off; }",
        &[(
            "p.conf:1:58: expected one of `upstream_tls_ca` and `upstream_tls_verify off`, found `upstream_tls_verify`",
            "nothing to say",
        )],
    );
    check(
        "upstream app { server 10.0.0.1; }\nhost a { upstream_tls_ca a; proxy_pass https://app; }",
        &[(
            "p.conf:2:10: expected what is said about certificates inside the `upstream` block, found `upstream_tls_…`",
            "move this line",
        )],
    );
    check(
        "host a { proxy_pass https://10.0.0.1; upstream_tls_name a:1; }",
        &[("p.conf:1:57: expected the name or address in the backends' certificate, found `a:1`", "without a port")],
    );
}

#[test]
fn http_2_to_backends_is_all_or_nothing() {
    let upstream_of = |text: &str| {
        let config = Config::parse("p.conf", text).unwrap_or_else(|errors| panic!("{errors:?}"));
        config.upstreams.iter().map(|upstream| (upstream.http2, upstream.tls.is_some())).collect::<Vec<_>>()
    };
    assert_eq!(upstream_of("host a { proxy_pass h2://1.2.3.4:5; }"), [(true, false)]);
    assert_eq!(upstream_of("host a { proxy_pass http://1.2.3.4:5; upstream_http2 on; }"), [(true, false)]);
    assert_eq!(upstream_of("host a { proxy_pass https://1.2.3.4; upstream_http2 on; }"), [(true, true)]);
    assert_eq!(upstream_of("host a { proxy_pass http://1.2.3.4:5; }"), [(false, false)]);
    let app = "upstream app { server 1.2.3.4:5; }";
    assert_eq!(upstream_of(&format!("{app} host a {{ proxy_pass h2://app; }}")), [(true, false)]);
    let with = app.replace('}', "upstream_http2 on; }");
    assert_eq!(upstream_of(&format!("{with} host a {{ proxy_pass https://app; }}")), [(true, true)]);
    check(
        &format!("{app}\nhost a {{ proxy_pass h2://app; }}\nhost b {{ proxy_pass http://app; }}"),
        &[("p.conf:3:21: expected one scheme for an upstream, found `http://app`", "speaks h2")],
    );
    check(
        &format!("{app}\nhost a {{ proxy_pass http://app; upstream_http2 on; }}"),
        &[(
            "p.conf:2:33: expected `upstream_http2` inside the `upstream` block, found `upstream_http2`",
            "move this line",
        )],
    );
    check(
        "host a { proxy_pass http://1.2.3.4:5; proxy_pass h2://1.2.3.4:6; }",
        &[("p.conf:1:50: expected one scheme for all backends of a block, found `h2://1.2.3.4:6`", "")],
    );
}
