//! Statements to a configuration. Goes on after a mistake, so that one run shows them all.
//!
//! Upstreams are read first, since a `proxy_pass` may name one that stands further down.

use std::ops::RangeInclusive;
use std::sync::Arc;
use std::time::Duration;

use crate::access_log::{LogFormat, LogSettings, LogTarget};

use super::error::Flaw;
use super::lexer::{Kind, Token};
use super::suggest::suggestion;
use super::table::{self, Place, Shape};
use super::tree::{self, Statement};
use super::{
    Config, ERRORS_MAX, Host, Listen, Location, Network, PathPattern, Upstream, rules, tls, upstreams, value, warn,
};

/// What became of a text.
#[derive(Debug, Default)]
pub(super) struct Built {
    pub(super) config: Config,
    /// In the order of the text.
    pub(super) flaws: Vec<Flaw>,
    /// In the order of the text; what is found is a whole sentence.
    pub(super) warnings: Vec<Flaw>,
}

/// Reads a text as far as it can be understood.
pub(super) fn build(text: &str) -> Built {
    let (statements, flaws) = tree::read(text);
    let mut builder = Builder {
        text,
        flaws,
        warnings: Vec::new(),
        declared: Vec::new(),
        inline: Vec::new(),
        secure: Vec::new(),
        http2: Vec::new(),
    };
    let config = builder.file(&statements);
    builder.flaws.sort_by_key(|flaw| flaw.at);
    builder.warnings.sort_by_key(|flaw| flaw.at);
    Built { config, flaws: builder.flaws, warnings: builder.warnings }
}

/// An `upstream` block.
pub(super) struct Declared {
    pub(super) name: String,
    pub(super) at: usize,
    /// `None` when its mistakes are already noted.
    pub(super) upstream: Option<Arc<Upstream>>,
    pub(super) is_used: bool,
}

pub(super) struct Builder<'a> {
    text: &'a str,
    flaws: Vec<Flaw>,
    warnings: Vec<Flaw>,
    pub(super) declared: Vec<Declared>,
    /// Upstreams made of the `proxy_pass` lines of one place.
    pub(super) inline: Vec<Arc<Upstream>>,
    /// What stands behind `https://`.
    pub(super) secure: Vec<String>,
    /// What stands behind `h2://`.
    pub(super) http2: Vec<String>,
}

/// The words of a statement, one after the other.
pub(super) struct Words<'s> {
    pub(super) statement: &'s Statement,
    next: usize,
}

impl<'s> Words<'s> {
    pub(super) fn of(statement: &'s Statement) -> Self {
        Self { statement, next: 0 }
    }

    pub(super) fn peek(&self) -> Option<&'s Token> {
        self.statement.words.get(self.next)
    }

    pub(super) fn next(&mut self) -> Option<&'s Token> {
        let token = self.peek()?;
        self.next += 1;
        Some(token)
    }
}

/// What `defer_accept` may say: the system counts in seconds, and no further than two minutes.
const DEFER_ACCEPT: RangeInclusive<Duration> = Duration::from_secs(1)..=Duration::from_mins(2);

impl Builder<'_> {
    fn file(&mut self, statements: &[Statement]) -> Config {
        let mut config = Config::default();
        self.check_places(statements, Place::Top);
        tls::names_with("https", statements, &mut self.secure);
        tls::names_with("h2", statements, &mut self.http2);
        for statement in statements.iter().filter(|statement| statement.name.text == "upstream") {
            self.upstream(statement);
        }
        // (pattern, where): to tell the second of two equal names where the first stands
        let mut known = Vec::new();
        for statement in statements {
            match statement.name.text.as_str() {
                "host" => {
                    let host = self.host(statement, &mut known);
                    config.hosts.extend(host);
                }
                "trusted_proxy" => {
                    let expected = "an address like `10.0.0.1` or a network like `10.0.0.0/8`";
                    let network = self.single(statement, expected, |text| Network::parse(text).ok_or(""));
                    warn::trust(self, statement, network);
                    config.trusted.extend(network);
                }
                "listen" => {
                    let listen = self.listen(statement, &config.listen);
                    config.listen.extend(listen);
                }
                "client_requests_max" => {
                    let expected = "a number from 1 to 1000000, or `off`";
                    let max = self.single(statement, expected, |text| match text {
                        "off" => Ok(None),
                        number => value::number(number, 1..=1_000_000).map(Some),
                    });
                    config.client_requests_max = max.flatten();
                }
                "defer_accept" => {
                    let expected = "a duration from `1s` to `2m`, or `off`";
                    config.defer_accept = self.single(statement, expected, |text| match text {
                        "off" => Ok(Duration::ZERO),
                        text => value::duration(text).filter(|time| DEFER_ACCEPT.contains(time)).ok_or(""),
                    });
                }
                "sticky_key" => {
                    config.sticky_key = self.single(statement, "a file with a secret", value::file);
                }
                "access_log" => config.access_log = self.access_log(statement),
                "admin" => {
                    let expected = "an address on this machine like `127.0.0.1:9900`";
                    config.admin = self.single(statement, expected, value::listen);
                }
                _ => {}
            }
        }
        self.check_proxy_protocol(statements, &config);
        self.warn_of_unused();
        warn::ports(self, &config, &known);
        warn::loops(self, &config.listen, statements);
        config.upstreams = self.declared.iter().filter_map(|declared| declared.upstream.clone()).collect();
        config.upstreams.append(&mut self.inline);
        config
    }

    fn listen(&mut self, statement: &Statement, others: &[Listen]) -> Option<Listen> {
        let mut words = Words::of(statement);
        let token = words.peek()?.clone();
        let address = self.value(&mut words, "a port like `8080` or an address like `0.0.0.0:8080`", value::listen)?;
        let (mut secure_at, mut proxy_protocol) = (None, false);
        while let Some(word) = words.next() {
            match word.text.as_str() {
                "tls" if secure_at.is_none() => secure_at = Some(word.start),
                "proxy_protocol" if !proxy_protocol => proxy_protocol = true,
                _ => {
                    self.flaw_at(word, "`tls`, `proxy_protocol` or `;`", table::listen_elsewhere(&word.text));
                    return None;
                }
            }
        }
        let tls = match secure_at {
            Some(at) => Some(tls::listen(self, statement, at)?),
            None => None,
        };
        if tls.is_none() && statement.block.is_some() {
            self.flaw_at(&statement.end, "`;`, or `tls` before the block", "");
            return None;
        }
        if others.iter().any(|other| other.address == address) {
            self.flaw_at(&token, "each address once", "remove one of them");
        }
        Some(Listen { address, tls, proxy_protocol })
    }

    /// Whoever may say who a client is has to be named: everybody else could be anybody.
    fn check_proxy_protocol(&mut self, statements: &[Statement], config: &Config) {
        if !config.trusted.is_empty() {
            return;
        }
        let is_told = |word: &&Token| word.text == "proxy_protocol";
        let listens = statements.iter().filter(|statement| statement.name.text == "listen");
        if let Some(word) = listens.flat_map(|statement| &statement.words).find(is_told) {
            let hint = "add `trusted_proxy ADDRESS;` with the address of the proxy in front";
            self.flaw_at(word, "`proxy_protocol` together with a `trusted_proxy`", hint);
        }
    }

    fn access_log(&mut self, statement: &Statement) -> Option<LogSettings> {
        let mut words = Words::of(statement);
        let target = self.value(&mut words, "a file, or `stdout`", |text| match text {
            "" => Err("where the lines go"),
            "stdout" => Ok(LogTarget::Stdout),
            path => Ok(LogTarget::File(path.into())),
        })?;
        let mut settings = LogSettings { format: LogFormat::default(), target, query: false };
        self.options(&mut words, |name, value| {
            match (name, value) {
                ("format", format) => {
                    settings.format = format.parse().map_err(|_| ("`clf`, `common` or `json`", String::new()))?;
                }
                ("query", "names") => settings.query = false,
                ("query", "full") => settings.query = true,
                _ => return Err(("`names` or `full`", "a query may hold secrets".to_owned())),
            }
            Ok(())
        });
        Some(settings)
    }

    fn upstream(&mut self, statement: &Statement) {
        let mut words = Words::of(statement);
        let expected = "a name for the upstream";
        let name = self.value(&mut words, expected, |text| value::upstream_name(text).map(|()| text.to_owned()));
        self.end(&mut words);
        let Some(block) = &statement.block else { return };
        self.check_places(block, Place::Upstream);
        let noted = self.flaws.len();
        let mut upstream = upstreams::read(self, statement, block, name.as_deref().unwrap_or_default());
        if self.flaws.len() > noted || statement.is_damaged {
            upstream = None;
        }
        let Some(name) = name else { return };
        if let Some(first) = self.declared.iter().find(|declared| declared.name == name) {
            let line = self.line(first.at);
            if let Some(token) = statement.words.first() {
                self.flaw_at(token, "a name that no other `upstream` has", &format!("it is also on line {line}"));
            }
            return;
        }
        let at = statement.name.start;
        self.declared.push(Declared { name, at, upstream: upstream.map(Arc::new), is_used: false });
    }

    fn host(&mut self, statement: &Statement, known: &mut Vec<(super::HostPattern, usize)>) -> Option<Host> {
        let names = self.host_names(statement, known);
        let block = statement.block.as_ref()?;
        self.check_places(block, Place::Host);
        let label = names.first().map_or_else(String::new, ToString::to_string);
        let draft = rules::read(self, block);
        let mut raw = Vec::new();
        for location in block.iter().filter(|statement| statement.name.text == "location") {
            if let Some(path) = self.location_path(location, &raw) {
                let inner = location.block.as_deref().unwrap_or_default();
                self.check_places(inner, Place::Location);
                raw.push((path, location, rules::read(self, inner)));
            }
        }
        if !draft.has_action() && raw.is_empty() {
            self.note(
                Flaw::new(statement.name.start, "a `host` block with a `proxy_pass`", "one without")
                    .hint("add `proxy_pass http://127.0.0.1:9000;` inside the block"),
            );
        }
        warn::root(self, &draft, &raw);
        let mut locations = Vec::new();
        for (path, location, own) in raw {
            warn::location(self, &path, location, &own);
            let at = location.name.start;
            if let Some(rules) = rules::finish(self, own.inherit(&draft), &label, path.as_str(), at) {
                locations.push(Location { path, rules });
            }
        }
        let root = if draft.has_action() { rules::finish(self, draft, &label, "", statement.name.start) } else { None };
        Some(Host { names, root, locations })
    }

    fn host_names(
        &mut self,
        statement: &Statement,
        known: &mut Vec<(super::HostPattern, usize)>,
    ) -> Vec<super::HostPattern> {
        const EXPECTED: &str = "a host name like \"localhost:8080\", or `default`";
        let mut names = Vec::new();
        for token in &statement.words {
            match value::host_pattern(&token.text) {
                Ok(pattern) => {
                    if let Some((_, first)) = known.iter().find(|(other, _)| *other == pattern) {
                        let line = self.line(*first);
                        let hint = format!("it is also on line {line}");
                        self.flaw_at(token, "a name that no other `host` block has", &hint);
                    } else {
                        known.push((pattern.clone(), token.start));
                    }
                    names.push(pattern);
                }
                Err(hint) => self.flaw_at(token, EXPECTED, &hint),
            }
        }
        if statement.words.is_empty() && !statement.is_damaged && statement.block.is_some() {
            self.flaw_at(&statement.end, EXPECTED, "write `host default {` for every host that no block names");
        }
        names
    }

    fn location_path(
        &mut self,
        statement: &Statement,
        others: &[(PathPattern, &Statement, rules::Draft)],
    ) -> Option<PathPattern> {
        const EXPECTED: &str = "a path prefix like `/api/`";
        let mut words = Words::of(statement);
        let is_exact = words.peek().is_some_and(|token| token.text == "=" && token.kind == Kind::Word);
        if is_exact {
            words.next();
        }
        let Some(token) = words.next() else {
            if !statement.is_damaged {
                self.flaw_at(&statement.end, EXPECTED, "it begins with `/`");
            }
            return None;
        };
        if let Err(hint) = value::prefix(&token.text) {
            self.flaw_at(token, EXPECTED, hint);
            return None;
        }
        self.end(&mut words);
        let path = token.text.clone();
        let path = if is_exact { PathPattern::Exact(path) } else { PathPattern::Prefix(path) };
        if let Some((_, first, _)) = others.iter().find(|(other, ..)| *other == path) {
            let line = self.line(first.name.start);
            self.flaw_at(token, "a prefix that this host does not have yet", &format!("it is also on line {line}"));
        }
        Some(path)
    }

    /// Notes every statement that may not stand here, or stands here twice.
    pub(super) fn check_places(&mut self, statements: &[Statement], place: Place) {
        let mut seen: Vec<&str> = Vec::new();
        for statement in statements {
            let name = &statement.name;
            let known = table::find(&name.text).filter(|_| name.kind == Kind::Word);
            match known {
                Some(directive) if directive.places.contains(&place) => {
                    if seen.contains(&directive.name) {
                        self.flaw_at(name, "each of these once in a block", "remove one of them");
                    } else if directive.shape == Shape::Line && statement.end.kind == Kind::Open {
                        self.flaw_at(&statement.end, "`;`", &format!("`{}` has no block", name.text));
                    }
                    if !directive.many {
                        seen.push(directive.name);
                    }
                }
                _ => {
                    let hint = table::belongs(&name.text, place)
                        .or_else(|| suggestion(&name.text, &table::allowed(place)))
                        .unwrap_or_default();
                    self.flaw_at(name, place.expected(), &hint);
                }
            }
        }
    }

    fn warn_of_unused(&mut self) {
        let unused: Vec<_> = self.declared.iter().filter(|declared| !declared.is_used).collect();
        let warnings: Vec<Flaw> = unused
            .iter()
            .map(|declared| {
                Flaw::new(declared.at, "", format!("no `proxy_pass` names the upstream `{}`", declared.name))
            })
            .collect();
        self.warnings.extend(warnings);
    }

    /// The only word of a statement.
    pub(super) fn single<T, H: AsRef<str>>(
        &mut self,
        statement: &Statement,
        expected: &str,
        parse: impl FnOnce(&str) -> Result<T, H>,
    ) -> Option<T> {
        let mut words = Words::of(statement);
        let value = self.value(&mut words, expected, parse);
        self.end(&mut words);
        value
    }

    /// The next word. What `parse` fails with is a hint.
    pub(super) fn value<T, H: AsRef<str>>(
        &mut self,
        words: &mut Words<'_>,
        expected: &str,
        parse: impl FnOnce(&str) -> Result<T, H>,
    ) -> Option<T> {
        let Some(token) = words.next() else {
            if !words.statement.is_damaged {
                self.flaw_at(&words.statement.end, expected, "");
            }
            return None;
        };
        match parse(&token.text) {
            Ok(value) => Some(value),
            Err(hint) => {
                self.flaw_at(token, expected, hint.as_ref());
                None
            }
        }
    }

    /// Insists that no word is left.
    pub(super) fn end(&mut self, words: &mut Words<'_>) {
        if let Some(token) = words.next() {
            let is_block = table::find(&words.statement.name.text).is_some_and(|found| found.shape == Shape::Block);
            self.flaw_at(token, if is_block { "`{`" } else { "`;`" }, "");
        }
    }

    /// The words that are left as `name=value` options, or names alone. Tells `take` the name, the value and where
    /// the value stands; it says what was expected, if it was not that, and a hint.
    pub(super) fn options(
        &mut self,
        words: &mut Words<'_>,
        mut take: impl FnMut(&str, &str) -> Result<(), (&'static str, String)>,
    ) {
        let known = table::find(&words.statement.name.text).map_or(&[][..], |directive| directive.options);
        let mut seen: Vec<&str> = Vec::new();
        while let Some(token) = words.next() {
            let (name, value) = token.text.split_once('=').unwrap_or((&token.text, ""));
            if !known.contains(&name) {
                let list: Vec<String> = known.iter().map(|name| format!("`{name}`")).collect();
                let hint = suggestion(name, known).unwrap_or_default();
                self.flaw_at(token, &format!("{} or `;`", list.join(", ")), &hint);
            } else if seen.contains(&name) {
                self.flaw_at(token, "each option once", "remove one of them");
            } else if let Err((expected, hint)) = take(name, value) {
                let shown = if value.is_empty() { format!("`{}`", token.text) } else { format!("`{value}`") };
                let at = if value.is_empty() { token.start } else { token.start + name.len() + 1 };
                let flaw = Flaw::new(at, expected, shown);
                self.note(if hint.is_empty() { flaw } else { flaw.hint(hint) });
            }
            seen.push(name);
        }
    }

    pub(super) fn flaw_at(&mut self, token: &Token, expected: &str, hint: &str) {
        let flaw = Flaw::new(token.start, expected, token.describe());
        self.note(if hint.is_empty() { flaw } else { flaw.hint(hint) });
    }

    /// Keeps a mistake; beyond the limit only counts would grow, so it is dropped.
    pub(super) fn note(&mut self, flaw: Flaw) {
        if self.flaws.len() < 2 * ERRORS_MAX {
            self.flaws.push(flaw);
        }
    }

    /// Keeps a warning: a whole sentence about a place.
    pub(super) fn warn(&mut self, at: usize, sentence: impl Into<String>, hint: &str) {
        if self.warnings.len() < ERRORS_MAX {
            let flaw = Flaw::new(at, "", sentence);
            self.warnings.push(if hint.is_empty() { flaw } else { flaw.hint(hint) });
        }
    }

    pub(super) fn line(&self, at: usize) -> usize {
        self.text.get(..at).unwrap_or_default().matches('\n').count() + 1
    }
}
