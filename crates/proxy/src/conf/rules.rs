//! The directives of hosts and locations: what a block says itself, what it inherits, what it comes to.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use super::build::{Builder, Words};
use super::error::Flaw;
use super::lexer::Token;
use super::model::{RESOLVE_INTERVAL_DEFAULT, RETRIES_DEFAULT};
use super::suggest::suggestion;
use super::table;
use super::tree::Statement;
use super::value::{self, PassTarget, Scheme};
use super::{
    AccessRule, Action, BasicAuth, Ejection, ErrorPage, FilesAction, ForwardAuth, HeaderChange, HeaderEdit, Network,
    Pass, Policy, RateKey, RateLimit, Redirect, Respond, Rewrite, Rules, Template, Timeouts, Upstream, UpstreamServer,
    UpstreamTls, delivery, tls, upstreams,
};

const DURATION: &str = "a duration like `500ms`, `10s` or `2m`, at most an hour";
const BACKEND: &str = "an address like `http://127.0.0.1:9000`";

/// What a block says itself, before it inherits.
#[derive(Debug, Default, Clone)]
pub(super) struct Draft {
    action: Option<Answerer>,
    /// Whether there is an action, or a mistake that may have been meant as one.
    attempted: bool,
    /// Names and places of what only makes sense on the way to a backend.
    pub(super) only_for_backends: Vec<(String, usize)>,
    policy: Option<(Policy, usize)>,
    tls: tls::Draft,
    delivery: delivery::Draft,
    http2: Option<bool>,
    request_headers: Vec<HeaderEdit>,
    response_headers: Vec<HeaderEdit>,
    pub(super) rewrite: Option<(Rewrite, usize)>,
    timeouts: Vec<(&'static str, Duration)>,
    keepalive_connections: Option<usize>,
    retries: Option<u32>,
    body_bytes_max: Option<u64>,
    pub(super) access: Vec<(AccessRule, usize)>,
    basic_auth: Option<Switch<BasicAuth>>,
    forward_auth: Option<Switch<ForwardAuth>>,
    rate_limit: Option<Switch<RateLimit>>,
    error_pages: Vec<ErrorPage>,
}

/// What can be lifted where it is inherited.
#[derive(Debug, Clone, Copy)]
pub(super) enum Switch<T> {
    On(T),
    Off,
}

impl<T> Switch<T> {
    pub(super) fn on(self) -> Option<T> {
        match self {
            Self::On(value) => Some(value),
            Self::Off => None,
        }
    }
}

/// What a block says about who answers.
#[derive(Debug, Clone)]
enum Answerer {
    Named(Arc<Upstream>),
    /// Backends by address, and how they are spoken to.
    Inline(Vec<UpstreamServer>, Scheme),
    Redirect(Redirect),
    Respond(Respond),
    Files(PathBuf),
}

impl Draft {
    pub(super) fn has_action(&self) -> bool {
        self.attempted || self.action.is_some()
    }

    /// Whether requests are answered here and not passed on.
    pub(super) fn answers_itself(&self) -> bool {
        matches!(self.action, Some(Answerer::Redirect(_) | Answerer::Respond(_)))
    }

    /// Takes from the host what the block does not say itself.
    pub(super) fn inherit(mut self, host: &Self) -> Self {
        if !self.has_action() {
            self.action.clone_from(&host.action);
            self.attempted = host.attempted;
        }
        self.policy = self.policy.or_else(|| host.policy.clone());
        self.tls.inherit(&host.tls);
        self.delivery.inherit(&host.delivery);
        self.http2 = self.http2.or(host.http2);
        inherit_headers(&mut self.request_headers, &host.request_headers);
        inherit_headers(&mut self.response_headers, &host.response_headers);
        self.rewrite = self.rewrite.or_else(|| host.rewrite.clone());
        for (name, timeout) in &host.timeouts {
            if !self.timeouts.iter().any(|(own, _)| own == name) {
                self.timeouts.push((name, *timeout));
            }
        }
        self.keepalive_connections = self.keepalive_connections.or(host.keepalive_connections);
        self.retries = self.retries.or(host.retries);
        self.body_bytes_max = self.body_bytes_max.or(host.body_bytes_max);
        if self.access.is_empty() {
            self.access.clone_from(&host.access);
        }
        self.basic_auth = self.basic_auth.or_else(|| host.basic_auth.clone());
        self.forward_auth = self.forward_auth.or_else(|| host.forward_auth.clone());
        self.rate_limit = self.rate_limit.or_else(|| host.rate_limit.clone());
        for page in &host.error_pages {
            if !self.error_pages.iter().any(|own| own.status == page.status) {
                self.error_pages.push(page.clone());
            }
        }
        self
    }

    fn timeouts(&self) -> Timeouts {
        let defaults = Timeouts::default();
        let of = |name: &str, default| {
            self.timeouts.iter().find(|(other, _)| *other == name).map_or(default, |(_, timeout)| *timeout)
        };
        Timeouts {
            connect: of("connect_timeout", defaults.connect),
            response: of("response_timeout", defaults.response),
            attempt: self.timeouts.iter().find(|(other, _)| *other == "try_timeout").map(|(_, timeout)| *timeout),
            idle: of("idle_timeout", defaults.idle),
            send: of("send_timeout", defaults.send),
            keepalive: of("keepalive_timeout", defaults.keepalive),
            keepalive_connections: self.keepalive_connections.unwrap_or(defaults.keepalive_connections),
            tunnel: of("tunnel_timeout", defaults.tunnel),
        }
    }
}

fn inherit_headers(own: &mut Vec<HeaderEdit>, inherited: &[HeaderEdit]) {
    let said = own.len();
    for edit in inherited {
        if !own.iter().take(said).any(|other| other.name.eq_ignore_ascii_case(&edit.name)) {
            own.push(edit.clone());
        }
    }
}

/// Reads the directives of a block; nested blocks are left to the caller.
pub(super) fn read(builder: &mut Builder<'_>, block: &[Statement]) -> Draft {
    let mut draft = Draft::default();
    for statement in block {
        draft.directive(builder, statement);
    }
    if let (Some(Answerer::Named(upstream)), Some((_, at))) = (&draft.action, &draft.policy) {
        builder.note(
            Flaw::new(*at, "the policy inside the `upstream` block", "`dist_policy`")
                .hint(format!("move this line into `upstream {} {{ … }}`", upstream.name)),
        );
    }
    if let (Some(Answerer::Named(upstream)), Some(line)) =
        (&draft.action, block.iter().find(|line| line.name.text == "upstream_http2"))
    {
        builder.note(
            Flaw::new(line.name.start, "`upstream_http2` inside the `upstream` block", "`upstream_http2`")
                .hint(format!("move this line into `upstream {} {{ … }}`", upstream.name)),
        );
    }
    match (&draft.action, draft.tls.at) {
        (Some(Answerer::Named(upstream)), Some(at)) => builder.note(
            Flaw::new(at, "what is said about certificates inside the `upstream` block", "`upstream_tls_…`")
                .hint(format!("move this line into `upstream {} {{ … }}`", upstream.name)),
        ),
        (Some(Answerer::Inline(_, Scheme::Http | Scheme::H2)), Some(at)) => {
            builder.warn(at, "the backends of this block are spoken to without TLS", "write `proxy_pass https://…`");
        }
        _ => {}
    }
    draft
}

impl Draft {
    fn directive(&mut self, builder: &mut Builder<'_>, statement: &Statement) {
        let name = statement.name.text.as_str();
        match name {
            _ if self.tls.directive(builder, statement) => {}
            _ if self.delivery.directive(builder, statement) => {}
            "upstream_http2" => self.http2 = tls::on_off(builder, statement),
            "proxy_pass" | "redirect" | "respond" | "files" => {
                self.attempted = true;
                self.answerer(builder, statement);
            }
            "dist_policy" => {
                self.policy = upstreams::policy(builder, statement).map(|policy| (policy, statement.name.start));
            }
            "proxy_set_header" | "proxy_add_header" | "proxy_remove_header" => {
                header(builder, statement, &mut self.request_headers);
            }
            "set_header" | "add_header" | "remove_header" => header(builder, statement, &mut self.response_headers),
            "strip_prefix" | "rewrite" => self.rewrite(builder, statement),
            "keepalive_connections" => {
                let count =
                    builder.single(statement, "a number from 0 to 10000", |text| value::number(text, 0..=10_000));
                self.keepalive_connections = count.map(|count| count as usize);
            }
            "retries" => {
                self.retries = builder.single(statement, "a number from 0 to 20", |text| value::number(text, 0..=20));
            }
            "body_bytes_max" => {
                self.body_bytes_max =
                    builder.single(statement, "a size like `64k`, `10m` or `2g`", |text| value::size(text).ok_or(""));
            }
            "allow" | "deny" => {
                let expected = "an address, a network like `10.0.0.0/8`, or `all`";
                let network = builder.single(statement, expected, |text| match text {
                    "all" => Ok(None),
                    text => Network::parse(text).map(Some).ok_or(""),
                });
                let at = statement.name.start;
                self.access.extend(network.map(|network| (AccessRule { network, allow: name == "allow" }, at)));
            }
            "basic_auth" => self.basic_auth = basic_auth(builder, statement),
            "forward_auth" => self.forward_auth = forward_auth(builder, statement),
            "rate_limit" => self.rate_limit = rate_limit(builder, statement),
            "error_page" => error_page(builder, statement, &mut self.error_pages),
            _ => match table::find(name) {
                Some(directive) if name.ends_with("_timeout") => {
                    let timeout = builder.single(statement, DURATION, |text| value::duration(text).ok_or(""));
                    self.timeouts.extend(timeout.map(|timeout| (directive.name, timeout)));
                }
                Some(_) => {}
                None => self.attempted = true,
            },
        }
        let is_for_backends = name.starts_with("proxy_") && name != "proxy_pass"
            || name.starts_with("upstream_")
            || name.ends_with("_timeout");
        if is_for_backends || ["dist_policy", "retries", "keepalive_connections"].contains(&name) {
            self.only_for_backends.push((name.to_owned(), statement.name.start));
        }
    }

    fn answerer(&mut self, builder: &mut Builder<'_>, statement: &Statement) {
        let name = statement.name.text.as_str();
        let new = match name {
            "proxy_pass" => return self.proxy_pass(builder, statement),
            "redirect" => redirect(builder, statement).map(Answerer::Redirect),
            "respond" => respond(builder, statement).map(Answerer::Respond),
            _ => builder.single(statement, "a folder", value::file).map(Answerer::Files),
        };
        self.set_action(builder, &statement.name, new);
    }

    fn set_action(&mut self, builder: &mut Builder<'_>, token: &Token, new: Option<Answerer>) {
        if self.action.is_some() {
            let expected = "one of `proxy_pass`, `redirect`, `respond` and `files` in a block";
            return builder.flaw_at(token, expected, "remove one of them");
        }
        self.action = new;
    }

    fn proxy_pass(&mut self, builder: &mut Builder<'_>, statement: &Statement) {
        let Some((target, scheme)) = builder.single(statement, BACKEND, value::pass_target) else { return };
        let Some(token) = statement.words.first() else { return };
        match resolve(builder, token, target, scheme) {
            Some(Resolved::Upstream(upstream)) => match &self.action {
                Some(Answerer::Named(_) | Answerer::Inline(..)) => builder.flaw_at(
                    token,
                    "one `proxy_pass` when it names an upstream",
                    "put all servers into the `upstream` block",
                ),
                _ => self.set_action(builder, &statement.name, Some(Answerer::Named(upstream))),
            },
            Some(Resolved::Server(server)) => match &mut self.action {
                Some(Answerer::Inline(_, others)) if *others != scheme => {
                    builder.flaw_at(token, "one scheme for all backends of a block", "");
                }
                Some(Answerer::Inline(servers, _)) => servers.push(server),
                Some(Answerer::Named(_)) => builder.flaw_at(
                    token,
                    "one `proxy_pass` when it names an upstream",
                    "put all servers into the `upstream` block",
                ),
                _ => self.set_action(builder, &statement.name, Some(Answerer::Inline(vec![server], scheme))),
            },
            None => {}
        }
    }

    fn rewrite(&mut self, builder: &mut Builder<'_>, statement: &Statement) {
        let mut words = Words::of(statement);
        let expected = "the beginning of a path, like `/api`";
        let prefix = builder.value(&mut words, expected, |text| value::prefix(text).map(|()| text.to_owned()));
        let replacement = if statement.name.text == "strip_prefix" {
            Some(String::new())
        } else {
            let expected = "what stands there instead, like `/v1`";
            builder.value(&mut words, expected, |text| value::prefix(text).map(|()| text.to_owned()))
        };
        builder.end(&mut words);
        if self.rewrite.is_some() {
            builder.flaw_at(&statement.name, "one of `strip_prefix` and `rewrite`", "`rewrite` can do both");
        }
        if let (Some(prefix), Some(replacement)) = (prefix, replacement) {
            self.rewrite = Some((Rewrite { prefix, replacement }, statement.name.start));
        }
    }
}

/// What a host in a URL stands for.
enum Resolved {
    Upstream(Arc<Upstream>),
    Server(UpstreamServer),
}

/// An `upstream` block of that name, or else an address or a name to look up.
fn resolve(builder: &mut Builder<'_>, token: &Token, target: PassTarget, scheme: Scheme) -> Option<Resolved> {
    let name = match target {
        PassTarget::Address(address) => return Some(Resolved::Server(upstreams::server(address))),
        PassTarget::Bare(name) => name,
    };
    if let Some(declared) = builder.declared.iter_mut().find(|declared| declared.name == name) {
        declared.is_used = true;
        let upstream = declared.upstream.clone()?;
        if upstream.tls.is_some() != scheme.is_secure() {
            let hint = "another line speaks https with this upstream: all do, or none";
            builder.flaw_at(token, "one scheme for an upstream", hint);
        } else if upstream.http2 && scheme == Scheme::Http && builder.http2.contains(&upstream.name) {
            let hint = "another line speaks h2 with this upstream: all do, or none";
            builder.flaw_at(token, "one scheme for an upstream", hint);
        }
        return Some(Resolved::Upstream(upstream));
    }
    if name.contains('.') {
        let port = value::default_port(scheme.is_secure());
        return Some(Resolved::Server(upstreams::server(super::ServerAddress::Name { host: name, port })));
    }
    let names: Vec<&str> = builder.declared.iter().map(|declared| declared.name.as_str()).collect();
    let hint = suggestion(&name, &names).unwrap_or_else(|| {
        format!("there is no `upstream {name} {{ … }}`; a name to look up needs a port: `http://{name}:80`")
    });
    builder.flaw_at(token, "an address, or the name of an `upstream` block", &hint);
    None
}

fn header(builder: &mut Builder<'_>, statement: &Statement, edits: &mut Vec<HeaderEdit>) {
    let mut words = Words::of(statement);
    let directive = statement.name.text.as_str();
    let expected = "a field name like `Host`";
    let is_response = !directive.starts_with("proxy_");
    let token = words.peek().cloned();
    let Some(name) = builder.value(&mut words, expected, |text| value::field_name(text).map(|()| text.to_owned()))
    else {
        return;
    };
    let Some(token) = token else { return };
    let is_host = name.eq_ignore_ascii_case("host") && !is_response;
    let same = |edit: &&HeaderEdit| edit.name.eq_ignore_ascii_case(&name);
    let is_add = directive.ends_with("add_header");
    if edits.iter().find(same).is_some_and(|edit| !(is_add && matches!(edit.change, HeaderChange::Add(_)))) {
        let hint = format!("only one `{directive}` for a field makes sense in one block");
        builder.flaw_at(&token, "each field once", &hint);
    }
    if is_host && directive != "proxy_set_header" {
        return builder.flaw_at(&token, "another field than `Host`", "every request has exactly one");
    }
    if directive.ends_with("remove_header") {
        builder.end(&mut words);
        return edits.push(HeaderEdit { name, change: HeaderChange::Remove });
    }
    let Some(value) = header_value(builder, &mut words) else { return };
    let is_empty = value.is_empty();
    if is_empty && is_host {
        let hint = "every request has one; leave this line out to pass on the client's";
        if let Some(token) = statement.words.get(1) {
            builder.flaw_at(token, "a value for `Host`", hint);
        }
        return;
    }
    let change = match (is_add, is_empty) {
        (true, _) => HeaderChange::Add(value),
        (false, true) => HeaderChange::Remove,
        (false, false) => HeaderChange::Set(value),
    };
    edits.push(HeaderEdit { name, change });
}

fn header_value(builder: &mut Builder<'_>, words: &mut Words<'_>) -> Option<Template> {
    if words.peek().is_none() && !words.statement.is_damaged {
        let hint = "a value with spaces is written in quotes: \"a b\"";
        builder.flaw_at(&words.statement.end, "the field's value", hint);
        return None;
    }
    let value = template(builder, words)?;
    builder.end(words);
    Some(value)
}

fn template(builder: &mut Builder<'_>, words: &mut Words<'_>) -> Option<Template> {
    let token = words.next()?;
    match value::template(&token.text) {
        Ok(template) => Some(template),
        Err(problem) => {
            builder.flaw_at(token, problem.expected, &problem.hint);
            None
        }
    }
}

fn redirect(builder: &mut Builder<'_>, statement: &Statement) -> Option<Redirect> {
    const STATUSES: [u16; 5] = [301, 302, 303, 307, 308];
    const EXPECTED: &str = "301, 302, 303, 307 or 308, or where to";
    // One that is wrong is not remembered by browsers for ever, and a POST stays one.
    const DEFAULT: u16 = 307;
    let mut words = Words::of(statement);
    let first = words.peek();
    let mut status = DEFAULT;
    if let Some(token) = first
        && token.text.bytes().all(|byte| byte.is_ascii_digit())
    {
        status = builder.value(&mut words, EXPECTED, |text| {
            text.parse().ok().filter(|status| STATUSES.contains(status)).ok_or("")
        })?;
    }
    let Some(token) = words.peek() else {
        if !statement.is_damaged {
            builder.flaw_at(&statement.end, "where to, like `https://example.org$request_uri`", "");
        }
        return None;
    };
    let target = template(builder, &mut words)?;
    builder.end(&mut words);
    if token.text.starts_with("//") || !(token.text.starts_with(['/', '$']) || token.text.contains("://")) {
        let hint = "it begins with `https://`, `http://`, `/` or a variable";
        builder.flaw_at(token, "where to, like `https://example.org$request_uri`", hint);
        return None;
    }
    Some(Redirect { status, target })
}

fn respond(builder: &mut Builder<'_>, statement: &Statement) -> Option<Respond> {
    let mut words = Words::of(statement);
    let status = builder.value(&mut words, "a status from 200 to 599", |text| value::number(text, 200..=599))?;
    let text = words.next().map(|token| token.text.clone()).unwrap_or_default();
    builder.end(&mut words);
    Some(Respond { status: status as u16, text })
}

fn basic_auth(builder: &mut Builder<'_>, statement: &Statement) -> Option<Switch<BasicAuth>> {
    if is_off(statement) {
        return Some(Switch::Off);
    }
    let mut words = Words::of(statement);
    let expected = "what the browser shows, like \"members only\", or `off`";
    let realm = builder.value(&mut words, expected, |text| {
        let plain = text.bytes().all(|byte| (b' '..=b'~').contains(&byte)) && !text.contains(['"', '\\']);
        if plain { Ok(text.to_owned()) } else { Err("letters, digits and spaces") }
    })?;
    let file = builder.value(&mut words, "a file with lines of `name:hash`", value::file)?;
    builder.end(&mut words);
    Some(Switch::On(BasicAuth { realm, file }))
}

fn forward_auth(builder: &mut Builder<'_>, statement: &Statement) -> Option<Switch<ForwardAuth>> {
    const EXPECTED: &str = "a URL like `http://127.0.0.1:9001/verify`, or `off`";
    if is_off(statement) {
        return Some(Switch::Off);
    }
    let mut words = Words::of(statement);
    let token = words.peek().cloned();
    let (target, scheme, path) = builder.value(&mut words, EXPECTED, value::pass_url)?;
    let mut copy: Vec<String> = Vec::new();
    builder.options(&mut words, |_, names| {
        for name in names.split(',') {
            value::field_name(name).map_err(|hint| ("field names like `X-User,X-Role`", hint))?;
            copy.push(name.to_owned());
        }
        Ok(())
    });
    let upstream = match resolve(builder, &token?, target, scheme)? {
        Resolved::Upstream(upstream) => upstream,
        Resolved::Server(server) => {
            let name = format!("forward_auth {}", server.address);
            let tls = scheme.is_secure().then(UpstreamTls::default);
            let upstream = inline(name, vec![server], Policy::default(), tls, scheme == Scheme::H2);
            if !builder.inline.contains(&upstream) {
                builder.inline.push(Arc::clone(&upstream));
            }
            upstream
        }
    };
    Some(Switch::On(ForwardAuth { upstream, path, copy }))
}

fn rate_limit(builder: &mut Builder<'_>, statement: &Statement) -> Option<Switch<RateLimit>> {
    if is_off(statement) {
        return Some(Switch::Off);
    }
    let mut words = Words::of(statement);
    let (requests, period) =
        builder.value(&mut words, "a rate like `10/s`, `600/m` or `1000/h`, or `off`", value::rate)?;
    let (mut burst, mut key) = (requests, RateKey::Address);
    builder.options(&mut words, |name, text| {
        if name == "burst" {
            let expected = "a number from 1 to 1000000";
            burst = value::number(text, 1..=1_000_000).map_err(|hint| (expected, hint.to_owned()))?;
            return Ok(());
        }
        let expected = "`address` or `header:NAME`";
        key = match text.strip_prefix("header:") {
            Some(name) => {
                RateKey::Header(value::field_name(name).map(|()| name.to_owned()).map_err(|hint| (expected, hint))?)
            }
            None if text == "address" => RateKey::Address,
            None => return Err((expected, String::new())),
        };
        Ok(())
    });
    Some(Switch::On(RateLimit { requests, period, burst, key }))
}

fn error_page(builder: &mut Builder<'_>, statement: &Statement, pages: &mut Vec<ErrorPage>) {
    let (file, statuses) = match statement.words.split_last() {
        Some((file, statuses)) if !statuses.is_empty() => (file, statuses),
        _ if statement.is_damaged => return,
        _ => return builder.flaw_at(&statement.end, "statuses and a file, like `502 503 /srv/busy.html`", ""),
    };
    for token in statuses {
        match value::number(&token.text, 400..=599) {
            Ok(status) if pages.iter().any(|page| u32::from(page.status) == status) => {
                builder.flaw_at(token, "each status once", "remove one of them");
            }
            Ok(status) => pages.push(ErrorPage { status: status as u16, file: PathBuf::from(&file.text) }),
            Err(_) => builder.flaw_at(token, "a status from 400 to 599", ""),
        }
    }
}

fn is_off(statement: &Statement) -> bool {
    matches!(&statement.words[..], [word] if word.text == "off")
}

fn inline(
    name: String,
    servers: Vec<UpstreamServer>,
    policy: Policy,
    tls: Option<UpstreamTls>,
    http2: bool,
) -> Arc<Upstream> {
    Arc::new(Upstream {
        name,
        is_named: false,
        servers,
        policy,
        health_check: None,
        ejection: Ejection::default(),
        slow_start: None,
        queue: None,
        resolve_interval: RESOLVE_INTERVAL_DEFAULT,
        tls,
        http2,
    })
}

/// What a block comes to after it has inherited; `None` when it says nothing that answers a request.
pub(super) fn finish(builder: &mut Builder<'_>, draft: Draft, label: &str, path: &str, at: usize) -> Option<Rules> {
    let timeouts = draft.timeouts();
    let rewrite = draft.rewrite.as_ref().map(|(rewrite, _)| rewrite.clone());
    let action = match draft.action {
        Some(Answerer::Redirect(redirect)) => Action::Redirect(redirect),
        Some(Answerer::Respond(respond)) => Action::Respond(respond),
        Some(Answerer::Files(folder)) => {
            if let Some((rewrite, at)) = &draft.rewrite
                && rewrite.replacement.split('/').any(|segment| segment == "..")
            {
                builder.note(Flaw::new(*at, "a path inside of the folder", "`..`"));
            }
            Action::Files(FilesAction { folder, rewrite })
        }
        Some(passing @ (Answerer::Named(_) | Answerer::Inline(..))) => {
            let upstream = match passing {
                Answerer::Inline(servers, scheme) => {
                    let policy = draft.policy.map(|(policy, _)| policy).unwrap_or_default();
                    let tls = scheme.is_secure().then(|| draft.tls.finish());
                    let http2 = scheme == Scheme::H2 || draft.http2 == Some(true);
                    let upstream = inline(format!("{label}{path}"), servers, policy, tls, http2);
                    builder.inline.push(Arc::clone(&upstream));
                    upstream
                }
                Answerer::Named(upstream) => upstream,
                _ => return None,
            };
            let retries = draft.retries.unwrap_or(RETRIES_DEFAULT);
            Action::Pass(Pass {
                upstream,
                request_headers: draft.request_headers,
                rewrite,
                timeouts,
                retries,
                response_buffer: draft.delivery.response_buffer(),
                request_buffer: draft.delivery.request_buffer(),
            })
        }
        None if draft.attempted => return None, // its mistake is already noted
        None => {
            let flaw = Flaw::new(at, "a `location` with a `proxy_pass`, its own or its host's", "neither");
            builder.note(flaw.hint("add `proxy_pass http://127.0.0.1:9000;` inside the block"));
            return None;
        }
    };
    Some(Rules {
        action,
        access: draft.access.into_iter().map(|(rule, _)| rule).collect(),
        basic_auth: draft.basic_auth.and_then(Switch::on),
        forward_auth: draft.forward_auth.and_then(Switch::on),
        rate_limit: draft.rate_limit.and_then(Switch::on),
        response_headers: draft.response_headers,
        error_pages: draft.error_pages,
        body_bytes_max: draft.body_bytes_max,
        early_hints: draft.delivery.early_hints(),
        compression: draft.delivery.compression(),
    })
}
