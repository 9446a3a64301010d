//! Every directive there is: where it may stand, what follows it. The parser knows no other list.

/// Where a directive stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Place {
    /// Outside all blocks.
    Top,
    /// In the block of a `listen … tls`.
    Listen,
    /// In an `upstream` block.
    Upstream,
    /// In a `host` block.
    Host,
    /// In a `location` block.
    Location,
}

impl Place {
    /// What was expected there, for errors.
    pub(super) fn expected(self) -> &'static str {
        match self {
            Self::Top => "`host`, `upstream`, `listen` or `trusted_proxy`",
            Self::Listen => "`certificate`, `client_ca`, `http2` or `}`",
            Self::Upstream => "a directive of an `upstream` block, or `}`",
            Self::Host => "a directive of a `host` block, or `}`",
            Self::Location => "a directive of a `location` block, or `}`",
        }
    }

    /// Where such directives belong, for hints.
    fn whereabouts(self) -> &'static str {
        match self {
            Self::Top => "outside all blocks",
            Self::Listen => "inside the block of a `listen … tls`",
            Self::Upstream => "inside an `upstream` block",
            Self::Host => "inside a `host` block",
            Self::Location => "inside a `location` block",
        }
    }
}

/// What a directive is made of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Shape {
    /// Words and a `;`.
    Line,
    /// Words and a block.
    Block,
    /// Words, and `;` or a block.
    Either,
}

/// One directive.
#[derive(Debug)]
pub(super) struct Directive {
    pub(super) name: &'static str,
    pub(super) places: &'static [Place],
    pub(super) shape: Shape,
    /// Whether it may stand more than once in a block.
    pub(super) many: bool,
    /// The names of its `name=value` options and of the words that stand alone.
    pub(super) options: &'static [&'static str],
}

const TOP: &[Place] = &[Place::Top];
const LISTEN: &[Place] = &[Place::Listen];
const UPSTREAM: &[Place] = &[Place::Upstream];
const HOST: &[Place] = &[Place::Host];
const RULES: &[Place] = &[Place::Host, Place::Location];
const BALANCED: &[Place] = &[Place::Upstream, Place::Host, Place::Location];

const fn line(name: &'static str, places: &'static [Place]) -> Directive {
    Directive { name, places, shape: Shape::Line, many: false, options: &[] }
}

const fn many(name: &'static str, places: &'static [Place]) -> Directive {
    Directive { many: true, ..line(name, places) }
}

const fn block(name: &'static str, places: &'static [Place]) -> Directive {
    Directive { shape: Shape::Block, many: true, ..line(name, places) }
}

#[expect(clippy::needless_pass_by_value, reason = "a builder at compile time: the old value is gone")]
const fn with(directive: Directive, options: &'static [&'static str]) -> Directive {
    Directive { options, ..directive }
}

/// All of them, in the order of the reference.
pub(super) const DIRECTIVES: &[Directive] = &[
    Directive { shape: Shape::Either, ..many("listen", TOP) },
    many("certificate", LISTEN),
    with(line("client_ca", LISTEN), &["optional"]),
    line("http2", LISTEN),
    many("trusted_proxy", TOP),
    line("client_requests_max", TOP),
    line("defer_accept", TOP),
    line("sticky_key", TOP),
    block("upstream", TOP),
    with(many("server", UPSTREAM), &["weight", "max_conns", "backup"]),
    with(line("dist_policy", BALANCED), &POLICIES),
    with(line("health_check", UPSTREAM), &["status", "interval", "timeout", "rise", "fall"]),
    with(line("ejection", UPSTREAM), &["failures", "pause", "pause_max", "share_max"]),
    line("slow_start", UPSTREAM),
    with(line("queue", UPSTREAM), &["wait"]),
    line("resolve_interval", UPSTREAM),
    line("upstream_tls_ca", BALANCED),
    line("upstream_tls_name", BALANCED),
    line("upstream_tls_verify", BALANCED),
    line("upstream_http2", BALANCED),
    block("host", TOP),
    block("location", HOST),
    many("proxy_pass", RULES),
    line("redirect", RULES),
    line("respond", RULES),
    line("files", RULES),
    many("proxy_set_header", RULES),
    many("proxy_add_header", RULES),
    many("proxy_remove_header", RULES),
    many("set_header", RULES),
    many("add_header", RULES),
    many("remove_header", RULES),
    line("strip_prefix", RULES),
    line("rewrite", RULES),
    line("connect_timeout", RULES),
    line("response_timeout", RULES),
    line("try_timeout", RULES),
    line("idle_timeout", RULES),
    line("send_timeout", RULES),
    line("tunnel_timeout", RULES),
    line("keepalive_timeout", RULES),
    line("keepalive_connections", RULES),
    line("retries", RULES),
    line("body_bytes_max", RULES),
    many("allow", RULES),
    many("deny", RULES),
    line("basic_auth", RULES),
    with(line("forward_auth", RULES), &["copy"]),
    with(line("rate_limit", RULES), &["burst", "key"]),
    many("error_page", RULES),
    with(line("proxy_buffering", RULES), &["size"]),
    with(line("proxy_request_buffering", RULES), &["size"]),
    line("early_hints", RULES),
    with(line("compression", RULES), &["trusted"]),
    with(line("access_log", TOP), &["format", "query"]),
    line("admin", TOP),
];

/// The values of `dist_policy`.
pub(super) const POLICIES: [&str; 6] = ["round-robin", "least-conn", "random-two", "ip-hash", "hash", "sticky"];

/// What other servers call things, and what they are called here.
const ELSEWHERE: &[(&str, &str)] = &[
    ("server", "a site is a `host` block here"),
    ("server_name", "the names stand after `host`"),
    ("root", "write `files DIR;`"),
    ("return", "write `redirect 308 TARGET;` or `respond 200 \"text\";`"),
    ("proxy_read_timeout", "write `response_timeout` and `idle_timeout`"),
    ("proxy_connect_timeout", "write `connect_timeout`"),
    ("proxy_send_timeout", "write `send_timeout`"),
    ("client_max_body_size", "write `body_bytes_max`"),
    ("auth_basic", "write `basic_auth \"realm\" FILE;`"),
    ("auth_request", "write `forward_auth URL;`"),
    ("limit_req", "write `rate_limit 10/s burst=20;`"),
    ("limit_conn", "write `client_requests_max 100;` outside all blocks: requests at a time for each client"),
    ("reverse_proxy", "write `proxy_pass http://127.0.0.1:9000;`"),
    ("set_real_ip_from", "write `trusted_proxy`"),
    ("proxy_hide_header", "write `remove_header`"),
    ("proxy_ssl_trusted_certificate", "write `upstream_tls_ca FILE;`"),
    ("proxy_ssl_name", "write `upstream_tls_name NAME;`"),
    ("proxy_ssl_verify", "it is always verified, unless `upstream_tls_verify off;` says otherwise"),
    ("ssl_certificate", "write `listen 443 tls { certificate FILE key FILE; }`"),
    ("grpc_pass", "write `proxy_pass h2://127.0.0.1:9000;`"),
    ("proxy_http_version", "write `upstream_http2 on;`, or nothing for HTTP/1.1"),
    ("gzip", "write `compression on;`"),
    ("gzip_types", "write `compression on;`: it knows what is text"),
    ("try_files", "write `files DIR;`, and a `location` with `proxy_pass` for what a program answers"),
    ("index", "leave it out: `files DIR;` answers with the index.html of a folder"),
    ("expires", "write `set_header Cache-Control max-age=3600;`"),
    ("log_format", "write `access_log FILE format=json;`, or `clf` or `common`"),
    ("worker_processes", "leave it out: there is a worker for each processor"),
    ("events", "leave it out: connections need no settings"),
    ("http", "leave it out: what stands in it stands outside all blocks here"),
    ("ssl_certificate_key", "write `listen 443 tls { certificate FILE key FILE; }`"),
    ("include", "one file holds everything"),
];

/// What a word after `listen` is called here that other servers know.
pub(super) fn listen_elsewhere(word: &str) -> &'static str {
    match word {
        "ssl" => "write `listen 443 tls { certificate FILE key FILE; }`",
        "http2" => "with `tls` HTTP/2 is on without a word; `http2 off;` in its block turns it off",
        "deferred" => "connections are; `defer_accept off;` outside all blocks turns it off",
        "default_server" => "write `host default { … }`",
        _ => "",
    }
}

/// The directive of that name.
pub(super) fn find(name: &str) -> Option<&'static Directive> {
    DIRECTIVES.iter().find(|directive| directive.name == name)
}

/// The names of those that may stand at a place.
pub(super) fn allowed(place: Place) -> Vec<&'static str> {
    let stands_here = |directive: &&Directive| directive.places.contains(&place);
    DIRECTIVES.iter().filter(stands_here).map(|directive| directive.name).collect()
}

/// Why a word does not stand at a place: it belongs elsewhere, or is called differently here.
pub(super) fn belongs(name: &str, place: Place) -> Option<String> {
    let elsewhere = || ELSEWHERE.iter().find(|(other, _)| *other == name).map(|(_, hint)| (*hint).to_owned());
    let Some(directive) = find(name) else { return elsewhere() };
    if name == "server" && place != Place::Upstream {
        return elsewhere();
    }
    let first = directive.places.first()?;
    let nested = if name == "location" { ", and not inside another `location`" } else { "" };
    Some(format!("`{name}` belongs {}{nested}", first.whereabouts()))
}
