//! Tokens to a configuration. Goes on after a mistake, so that one run shows them all.
//!
//! ```text
//!   top ── host names { ──► host ── location prefix { ──► location
//!    ▲                      │  ▲                           │
//!    └────────── } ─────────┘  └──────────── } ────────────┘
//! ```

use std::time::Duration;

use super::error::Flaw;
use super::lexer::{Kind, Lexer, Token};
use super::model::{CONNECT_TIMEOUT_DEFAULT, RESPONSE_TIMEOUT_DEFAULT};
use super::{Config, ERRORS_MAX, Host, HostPattern, Location, Network, Pass, Policy, SetHeader, value};

const TOP: &[&str] = &["host", "trusted_proxy"];
const IN_HOST: &[&str] = &[
    "proxy_pass",
    "proxy_set_header",
    "dist_policy",
    "location",
    "connect_timeout",
    "response_timeout",
    "body_bytes_max",
];
const IN_LOCATION: &[&str] =
    &["proxy_pass", "proxy_set_header", "dist_policy", "connect_timeout", "response_timeout", "body_bytes_max"];

/// The configuration as far as it could be understood, and the mistakes in the order of the text.
pub(super) fn parse(text: &str) -> (Config, Vec<Flaw>) {
    let mut parser = Parser::new(text);
    let config = parser.file();
    parser.flaws.sort_by_key(|flaw| flaw.at);
    (config, parser.flaws)
}

/// Stands for a mistake that is already noted.
struct Noted;

struct Parser<'a> {
    text: &'a str,
    lexer: Lexer<'a>,
    /// The token to look at next.
    token: Token,
    /// Where the token before it ended.
    last_end: usize,
    flaws: Vec<Flaw>,
}

/// What a block says itself, before it inherits.
#[derive(Default)]
struct Block {
    backends: Vec<std::net::SocketAddr>,
    /// Whether there is a `proxy_pass`, or a mistake that may have been meant as one.
    passes: bool,
    set_headers: Vec<SetHeader>,
    policy: Option<Policy>,
    connect_timeout: Option<Duration>,
    response_timeout: Option<Duration>,
    body_bytes_max: Option<u64>,
}

impl Block {
    fn inherit(mut self, host: &Self) -> Self {
        if self.backends.is_empty() {
            self.backends.clone_from(&host.backends);
        }
        for header in &host.set_headers {
            if !has_header(&self.set_headers, &header.name) {
                self.set_headers.push(header.clone());
            }
        }
        self.policy = self.policy.or(host.policy);
        self.connect_timeout = self.connect_timeout.or(host.connect_timeout);
        self.response_timeout = self.response_timeout.or(host.response_timeout);
        self.body_bytes_max = self.body_bytes_max.or(host.body_bytes_max);
        self
    }

    /// `None` when it names no backend.
    fn pass(self) -> Option<Pass> {
        (!self.backends.is_empty()).then(|| Pass {
            backends: self.backends,
            policy: self.policy.unwrap_or_default(),
            set_headers: self.set_headers,
            connect_timeout: self.connect_timeout.unwrap_or(CONNECT_TIMEOUT_DEFAULT),
            response_timeout: self.response_timeout.unwrap_or(RESPONSE_TIMEOUT_DEFAULT),
            body_bytes_max: self.body_bytes_max,
        })
    }
}

fn has_header(headers: &[SetHeader], name: &str) -> bool {
    headers.iter().any(|header| header.name.eq_ignore_ascii_case(name))
}

/// A location as read: its prefix, where it stands, what it says.
struct RawLocation {
    prefix: String,
    at: usize,
    block: Block,
}

impl<'a> Parser<'a> {
    fn new(text: &'a str) -> Self {
        let mut parser = Self {
            text,
            lexer: Lexer::new(text),
            token: Token { kind: Kind::End, text: String::new(), start: 0, end: 0 },
            last_end: 0,
            flaws: Vec::new(),
        };
        parser.advance();
        parser.last_end = 0;
        parser
    }

    fn file(&mut self) -> Config {
        let mut config = Config::default();
        // (pattern, where): to tell the second of two equal names where the first stands
        let mut known: Vec<(HostPattern, usize)> = Vec::new();
        while self.token.kind != Kind::End && self.flaws.len() < ERRORS_MAX {
            let at = self.token.start;
            match self.keyword() {
                Some("host") => {
                    let host = self.host(&mut known);
                    config.hosts.extend(host);
                }
                Some("trusted_proxy") => {
                    let network =
                        self.argument("an address like `10.0.0.1` or a network like `10.0.0.0/8`", Network::parse);
                    if let Ok(network) = network {
                        config.trusted.push(network);
                    }
                }
                _ if self.token.kind == Kind::Semicolon => self.advance(),
                _ => self.misplaced(TOP),
            }
            debug_assert!(self.token.start > at || self.token.kind == Kind::End, "every round takes a token");
        }
        config
    }

    fn host(&mut self, known: &mut Vec<(HostPattern, usize)>) -> Option<Host> {
        let at = self.token.start;
        self.advance();
        let names = self.host_names(known);
        self.open("host", "after the host's name").ok()?;
        let mut block = Block::default();
        let mut locations: Vec<RawLocation> = Vec::new();
        while self.inside(at) {
            match self.keyword() {
                Some("location") => {
                    if let Some(location) = self.location(&locations) {
                        locations.push(location);
                    }
                }
                _ => self.directive(&mut block, IN_HOST),
            }
        }
        Some(self.finish_host(at, names, block, locations))
    }

    /// Lets the locations inherit, and insists that every one knows where to send a request.
    fn finish_host(&mut self, at: usize, names: Vec<HostPattern>, block: Block, raw: Vec<RawLocation>) -> Host {
        const HINT: &str = "add `proxy_pass http://127.0.0.1:9000;` inside the block";
        if !block.passes && raw.is_empty() {
            self.note(Flaw::new(at, "a `host` block with a `proxy_pass`", "one without").hint(HINT));
        }
        let mut locations = Vec::new();
        for RawLocation { prefix, at, block: own } in raw {
            let passes = own.passes || block.passes;
            match own.inherit(&block).pass() {
                Some(pass) => locations.push(Location { prefix, pass }),
                None if passes => {} // its mistake is already noted
                None => self.note(
                    Flaw::new(at, "a `location` with a `proxy_pass`, its own or its host's", "neither").hint(HINT),
                ),
            }
        }
        let root = block.pass();
        Host { names, root, locations }
    }

    fn host_names(&mut self, known: &mut Vec<(HostPattern, usize)>) -> Vec<HostPattern> {
        const EXPECTED: &str = "a host name like \"localhost:8080\", or `default`";
        let mut names = Vec::new();
        let noted = self.flaws.len();
        while self.token.is_text() && !self.begins_statement() {
            match value::host_pattern(&self.token.text) {
                Ok(pattern) => {
                    if let Some((_, first)) = known.iter().find(|(other, _)| *other == pattern) {
                        let line = self.line(*first);
                        self.flaw_here("a name that no other `host` block has", &format!("it is also on line {line}"));
                    } else {
                        known.push((pattern.clone(), self.token.start));
                    }
                    names.push(pattern);
                }
                Err(hint) => self.flaw_here(EXPECTED, &hint),
            }
            self.advance();
        }
        if names.is_empty() && self.flaws.len() == noted {
            self.flaw_here(EXPECTED, "write `host default {` for every host that no block names");
        }
        names
    }

    fn location(&mut self, others: &[RawLocation]) -> Option<RawLocation> {
        const EXPECTED: &str = "a path prefix like `/api/`";
        let at = self.token.start;
        self.advance();
        let prefix = self.token.text.clone();
        match value::prefix(&prefix) {
            Err(hint) => self.flaw_here(EXPECTED, hint),
            Ok(()) => {
                if let Some(first) = others.iter().find(|other| other.prefix == prefix) {
                    let line = self.line(first.at);
                    self.flaw_here("a prefix that this host does not have yet", &format!("it is also on line {line}"));
                }
            }
        }
        if self.token.is_text() {
            self.advance();
        }
        self.open("location", "after the prefix").ok()?;
        let mut block = Block::default();
        while self.inside(at) {
            self.directive(&mut block, IN_LOCATION);
        }
        Some(RawLocation { prefix, at, block })
    }

    /// One directive of a host or a location, or the note that there is none.
    fn directive(&mut self, block: &mut Block, allowed: &[&str]) {
        match self.keyword() {
            Some("proxy_pass") => {
                block.passes = true;
                let address = self.argument("an address like `http://127.0.0.1:9000`", value::backend);
                block.backends.extend(address.ok());
            }
            Some("proxy_set_header") => {
                let header = self.set_header(&block.set_headers);
                block.set_headers.extend(header);
            }
            Some("dist_policy") => self.policy(&mut block.policy),
            Some("connect_timeout") => self.timeout(&mut block.connect_timeout),
            Some("response_timeout") => self.timeout(&mut block.response_timeout),
            Some("body_bytes_max") => {
                self.once(block.body_bytes_max.is_some());
                let bytes = self.argument("a size like `64k`, `10m` or `2g`", value::size);
                block.body_bytes_max = bytes.ok().or(block.body_bytes_max);
            }
            _ if self.token.kind == Kind::Semicolon => self.advance(),
            _ => {
                block.passes = true;
                self.misplaced(allowed);
            }
        }
    }

    fn timeout(&mut self, slot: &mut Option<Duration>) {
        self.once(slot.is_some());
        let timeout = self.argument("a duration like `500ms`, `10s` or `2m`, at most an hour", value::duration);
        *slot = timeout.ok().or(*slot);
    }

    /// The one directive whose `;` may be missing.
    fn policy(&mut self, slot: &mut Option<Policy>) {
        const EXPECTED: &str = "a policy: `round-robin`";
        self.once(slot.is_some());
        self.advance();
        if !self.token.is_text() {
            self.flaw_here(EXPECTED, "");
            return self.recover();
        }
        if value::policy(&self.token.text).is_none() {
            let hint = suggestion(&self.token.text, &["round-robin"]).unwrap_or_default();
            self.flaw_here(EXPECTED, &hint);
        }
        *slot = Some(Policy::RoundRobin);
        self.advance();
        if self.token.kind == Kind::Semicolon {
            self.advance();
        }
    }

    fn set_header(&mut self, others: &[SetHeader]) -> Option<SetHeader> {
        self.advance();
        let name = self.token.text.clone();
        if !self.token.is_text() || value::field_name(&name).is_err() {
            let hint = value::field_name(&name).err().unwrap_or_default();
            self.flaw_here("a field name like `Host`", &hint);
            self.recover();
            return None;
        }
        if has_header(others, &name) {
            self.flaw_here("each field once", "only one `proxy_set_header` for a field makes sense in one block");
        }
        self.advance();
        if !self.token.is_text() {
            self.flaw_here("the field's value", "a value with spaces is written in quotes: \"a b\"");
            self.recover();
            return None;
        }
        let value = match value::template(&self.token.text) {
            Ok(template) if template.is_empty() && name.eq_ignore_ascii_case("host") => {
                self.flaw_here(
                    "a value for `Host`",
                    "every request has one; leave this line out to pass on the client's",
                );
                None
            }
            Ok(template) => Some(template),
            Err(problem) => {
                self.flaw_here(problem.expected, &problem.hint);
                None
            }
        };
        self.advance();
        self.semicolon();
        value.map(|value| SetHeader { name, value })
    }

    /// The single argument of the directive under the cursor, and its `;`.
    fn argument<T>(&mut self, expected: &str, parse: impl FnOnce(&str) -> Option<T>) -> Result<T, Noted> {
        self.advance();
        if !self.token.is_text() {
            self.flaw_here(expected, "");
            self.recover();
            return Err(Noted);
        }
        let parsed = parse(&self.token.text);
        if parsed.is_none() {
            let hint = value::why_no_backend(expected, &self.token.text);
            self.flaw_here(expected, hint);
        }
        self.advance();
        self.semicolon();
        parsed.ok_or(Noted)
    }

    fn once(&mut self, again: bool) {
        if again {
            self.flaw_here("each of these once in a block", "remove one of them");
        }
    }

    fn semicolon(&mut self) {
        if self.token.kind == Kind::Semicolon {
            return self.advance();
        }
        // On a later line the eye looks for the `;` at the end of the directive, not before the next one.
        let flaw = if self.token_on_later_line() {
            Flaw::new(self.last_end, "`;`", "the end of the line")
        } else {
            Flaw::new(self.token.start, "`;`", self.token.describe())
        };
        self.note(flaw);
        self.recover();
    }

    fn open(&mut self, block: &str, place: &str) -> Result<(), Noted> {
        if self.token.kind == Kind::Open {
            self.advance();
            return Ok(());
        }
        self.flaw_here(&format!("`{{` {place}"), &format!("a `{block}` block is `{block} … {{ … }}`"));
        self.recover();
        // Only the brace was forgotten: what follows still belongs to the block.
        if self.begins_statement() && self.keyword().is_some_and(|word| !TOP.contains(&word)) {
            Ok(())
        } else {
            Err(Noted)
        }
    }

    /// Whether the block that began at `at` goes on; if not, its end has been taken or noted as missing.
    fn inside(&mut self, at: usize) -> bool {
        let missing = match self.token.kind {
            Kind::Close => {
                self.advance();
                return false;
            }
            Kind::End => true,
            _ => self.keyword() == Some("host"),
        };
        if self.flaws.len() >= ERRORS_MAX {
            return false;
        }
        if missing {
            let line = self.line(at);
            self.flaw_here("`}`", &format!("the block that begins on line {line} is not closed"));
        }
        !missing
    }

    /// Notes that what stands here is none of `allowed`, and passes over it.
    fn misplaced(&mut self, allowed: &[&str]) {
        let list = allowed.iter().map(|word| format!("`{word}`")).collect::<Vec<_>>().join(", ");
        let word = self.token.text.as_str();
        let hint = if self.token.kind != Kind::Word {
            String::new()
        } else if IN_HOST.contains(&word) {
            format!(
                "`{word}` belongs inside a `host` block{}",
                if word == "location" { ", and not inside another `location`" } else { "" }
            )
        } else if TOP.contains(&word) {
            format!("`{word}` stands outside all blocks")
        } else {
            suggestion(word, allowed).unwrap_or_default()
        };
        let end = if allowed == TOP { "" } else { " or `}`" };
        self.flaw_here(&format!("{list}{end}"), &hint);
        match self.token.kind {
            Kind::Open => self.skip_block(),
            Kind::Close | Kind::Semicolon | Kind::End => self.advance(),
            Kind::Word | Kind::Quoted => {
                self.advance();
                self.recover();
            }
        }
    }

    /// Goes to where a new statement may begin: after a `;` or a whole block, before a `}` or before a
    /// directive that begins a line. Stays where it is if that is such a place.
    fn recover(&mut self) {
        loop {
            match self.token.kind {
                Kind::End | Kind::Close => return,
                Kind::Semicolon => return self.advance(),
                Kind::Open => return self.skip_block(),
                Kind::Word if self.begins_statement() => return,
                Kind::Word | Kind::Quoted => self.advance(),
            }
        }
    }

    fn skip_block(&mut self) {
        let mut depth = 0usize;
        loop {
            match self.token.kind {
                Kind::Open => depth += 1,
                Kind::Close => depth -= 1,
                Kind::End => return,
                _ => {}
            }
            self.advance();
            if depth == 0 {
                return;
            }
        }
    }

    fn keyword(&self) -> Option<&'static str> {
        if self.token.kind != Kind::Word {
            return None;
        }
        TOP.iter().chain(IN_HOST).find(|word| **word == self.token.text).copied()
    }

    /// Takes the next token, noting what is none.
    fn advance(&mut self) {
        self.last_end = self.token.end;
        loop {
            match self.lexer.next() {
                Ok(token) => {
                    self.token = token;
                    return;
                }
                Err(flaw) => self.note(flaw),
            }
        }
    }

    fn flaw_here(&mut self, expected: &str, hint: &str) {
        let flaw = Flaw::new(self.token.start, expected, self.token.describe());
        self.note(if hint.is_empty() { flaw } else { flaw.hint(hint) });
    }

    /// Keeps a mistake; beyond the limit only counts would grow, so it is dropped.
    fn note(&mut self, flaw: Flaw) {
        if self.flaws.len() < ERRORS_MAX {
            self.flaws.push(flaw);
        }
    }

    /// Whether a directive begins a line here.
    fn begins_statement(&self) -> bool {
        if self.keyword().is_none() {
            return false;
        }
        let before = self.text.get(..self.token.start).unwrap_or_default();
        let line = before.rsplit('\n').next().unwrap_or_default();
        line.chars().all(char::is_whitespace)
    }

    fn token_on_later_line(&self) -> bool {
        self.text.get(self.last_end..self.token.start).is_some_and(|between| between.contains('\n'))
            || self.token.kind == Kind::End
    }

    fn line(&self, at: usize) -> usize {
        self.text.get(..at).unwrap_or_default().matches('\n').count() + 1
    }
}

/// "did you mean", when one of `words` is close to `word`.
fn suggestion(word: &str, words: &[&str]) -> Option<String> {
    /// Most letters that may be wrong, missing or too many.
    const DISTANCE_MAX: usize = 3;
    /// Longest word looked at, in characters: the comparison takes time with its square.
    const CHARS_MAX: usize = 40;
    if word.chars().count() > CHARS_MAX {
        return None;
    }
    let (distance, best) = words.iter().map(|other| (distance(word, other), other)).min()?;
    (distance <= DISTANCE_MAX.min(best.len() / 2)).then(|| format!("did you mean `{best}`?"))
}

/// How many letters must be changed, put in or taken out to get from one word to the other (Levenshtein).
fn distance(from: &str, to: &str) -> usize {
    let to: Vec<char> = to.chars().collect();
    let mut row: Vec<usize> = (0..=to.len()).collect();
    for (index, from) in from.chars().enumerate() {
        let mut diagonal = index;
        let mut left = index + 1;
        if let Some(first) = row.first_mut() {
            *first = left;
        }
        for (cell, to) in row.iter_mut().skip(1).zip(&to) {
            let up = *cell;
            let same = usize::from(!from.eq_ignore_ascii_case(to));
            left = (diagonal + same).min(up + 1).min(left + 1);
            diagonal = up;
            *cell = left;
        }
    }
    row.last().copied().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn distance_counts_changed_missing_and_extra_letters() {
        for (from, to, expect) in [
            ("", "", 0),
            ("a", "", 1),
            ("", "abc", 3),
            ("proxy_pas", "proxy_pass", 1),
            ("loaction", "location", 2),
            ("HOST", "host", 0),
        ] {
            assert_eq!(distance(from, to), expect, "{from} {to}");
        }
    }

    #[test]
    fn only_a_close_word_is_suggested() {
        assert_eq!(suggestion("proxypass", IN_HOST).as_deref(), Some("did you mean `proxy_pass`?"));
        assert_eq!(suggestion("hots", TOP).as_deref(), Some("did you mean `host`?"));
        assert_eq!(suggestion("server", TOP), None);
        assert_eq!(suggestion(&"x".repeat(100_000), TOP), None);
    }
}
