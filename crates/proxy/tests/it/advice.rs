//! What whoever comes from another server is told, and what is warned of since it can never work.

use proxy::Config;

/// The hint for the only mistake of a text.
fn hint(text: &str) -> String {
    let errors = Config::parse("p.conf", text).expect_err(text);
    assert_eq!(errors.len(), 1, "{text}: {errors:?}");
    errors[0].hint.clone().unwrap_or_default()
}

#[test]
fn directives_of_nginx_lead_to_those_of_here() {
    for (directive, expect) in [
        ("try_files $uri /index.html;", "`files DIR;`"),
        ("index index.html;", "index.html"),
        ("gzip on;", "`compression on;`"),
        ("gzip_types text/css;", "`compression on;`"),
        ("log_format main \"$remote_addr\";", "`access_log FILE format=json;`"),
        ("ssl_certificate_key /x;", "certificate FILE key FILE"),
        ("limit_conn addr 10;", "`client_requests_max 100;`"),
        ("expires 30d;", "`set_header Cache-Control"),
    ] {
        let found = hint(&format!("host a {{ respond 200; {directive} }}"));
        assert!(found.contains(expect), "{directive}: {found}");
    }
    for (text, expect) in [
        ("listen 443 ssl;", "`listen 443 tls { certificate FILE key FILE; }`"),
        ("listen 443 ssl http2;", "`listen 443 tls { certificate FILE key FILE; }`"),
        ("listen 443 http2;", "on without a word"),
        ("listen 80 default_server;", "`host default"),
        ("log_format main x;", "`access_log FILE format=json;`"),
        ("worker_processes auto;", "leave it out"),
    ] {
        let found = hint(&format!("{text} host a {{ respond 200; }}"));
        assert!(found.contains(expect), "{text}: {found}");
    }
    let found = hint("http { }\nhost a { respond 200; }");
    assert!(found.contains("outside all blocks"), "{found}");
}

/// Where a text is warned of a loop, as `line:column`.
fn loops(text: &str) -> Vec<String> {
    let checked = Config::check("p.conf", text);
    assert!(checked.outcome.is_ok(), "{text}: {:?}", checked.outcome);
    let is_loop = |warning: &&proxy::ConfigWarning| warning.sentence.contains("leads back to this proxy");
    checked.warnings.iter().filter(is_loop).map(|warning| format!("{}:{}", warning.line, warning.column)).collect()
}

#[test]
fn a_proxy_pass_to_the_proxy_itself_is_warned_of() {
    let nothing: [&str; 0] = [];
    for (listen, backend, is_loop) in [
        ("8080", "127.0.0.1:8080", true),
        ("8080", "localhost:8080", true),
        ("8080", "127.0.0.9:8080", true),
        ("8080", "0.0.0.0:8080", true),
        ("8080", "10.0.0.1:8080", false),
        ("8080", "127.0.0.1:8081", false),
        ("127.0.0.1:8080", "127.0.0.1:8080", true),
        ("127.0.0.1:8080", "127.0.0.2:8080", false),
        ("10.0.0.1:8080", "10.0.0.1:8080", true),
        ("10.0.0.1:8080", "127.0.0.1:8080", false),
        ("[::]:8080", "[::1]:8080", true),
        ("[::1]:8080", "[::1]:8080", true),
        ("[::1]:8080", "127.0.0.1:8080", false),
        ("80", "127.0.0.1", true),
    ] {
        let found = loops(&format!("listen {listen};\nhost a {{ proxy_pass http://{backend}; }}"));
        assert_eq!(found, if is_loop { &["2:21"][..] } else { &nothing[..] }, "{listen} {backend}");
    }
    let found = loops(
        "listen 9000;\nupstream app {\n  server 127.0.0.1:9001;\n  server 127.0.0.1:9000 backup;\n}\n\
         host a { proxy_pass http://app;\n  location /x { proxy_pass https://127.0.0.1:9000; }\n}",
    );
    assert_eq!(found, ["4:10", "7:28"]);
    assert_eq!(loops("host a { proxy_pass http://127.0.0.1:8080; }"), nothing, "the command line says where");
}

#[test]
fn trusting_everybody_is_warned_of() {
    for (network, expect) in [("0.0.0.0/0", true), ("::/0", true), ("10.0.0.0/8", false), ("::1", false)] {
        let checked = Config::check("p.conf", &format!("trusted_proxy {network};\nhost a {{ respond 200; }}"));
        assert!(checked.outcome.is_ok());
        let warnings: Vec<String> = checked.warnings.into_iter().map(|warning| warning.sentence).collect();
        assert_eq!(warnings.iter().any(|warning| warning.contains("everybody is believed")), expect, "{warnings:?}");
    }
}
