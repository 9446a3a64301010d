//! How a path is changed on the way, and templates made into text. Pure.

use std::net::IpAddr;

use engine::RequestHead;

use crate::conf::{Part, Rewrite, Template, Variable};
use crate::route;

/// A target (path and query) with its beginning replaced; unchanged where the prefix does not match.
pub(crate) fn rewritten(rewrite: Option<&Rewrite>, target: String) -> String {
    let Some(rewrite) = rewrite else { return target };
    let path_end = target.find('?').unwrap_or(target.len());
    let (path, query) = target.split_at(path_end);
    if !route::matches(&rewrite.prefix, path) {
        return target;
    }
    let rest = &path[rewrite.prefix.len()..];
    let mut new = rewrite.replacement.clone();
    if new.ends_with('/') && rest.starts_with('/') {
        new.pop();
    }
    if !new.is_empty() && !new.ends_with('/') && !rest.starts_with('/') && !rest.is_empty() {
        new.push('/');
    }
    new.push_str(rest);
    // What is left must be a path, and `//host` is none to many programs.
    let trimmed = new.trim_start_matches('/');
    format!("/{trimmed}{query}")
}

/// What a template takes from a request.
#[derive(Clone, Copy)]
pub(crate) struct Values<'a> {
    pub(crate) head: &'a RequestHead,
    /// Who asks, as trusted proxies say.
    pub(crate) client: IpAddr,
    /// The other end of the connection.
    pub(crate) peer: IpAddr,
    /// `http` or `https`.
    pub(crate) scheme: &'static str,
    /// What the proxy itself would give `X-Forwarded-For`.
    pub(crate) forwarded_for: &'a dyn Fn() -> String,
}

impl Values<'_> {
    /// The text a template stands for.
    pub(crate) fn expand(&self, template: &Template) -> String {
        let mut value = String::new();
        for part in &template.parts {
            match part {
                Part::Literal(text) => value.push_str(text),
                Part::Variable(Variable::Host) => value.push_str(self.head.host()),
                Part::Variable(Variable::HostName) => value.push_str(self.head.host_name()),
                Part::Variable(Variable::RemoteAddr) => value.push_str(&self.client.to_string()),
                Part::Variable(Variable::PeerAddr) => value.push_str(&self.peer.to_string()),
                Part::Variable(Variable::Scheme) => value.push_str(self.scheme),
                Part::Variable(Variable::Uri) => value.push_str(self.head.path()),
                Part::Variable(Variable::RequestUri) => {
                    value.push_str(self.head.path());
                    if let Some(query) = self.head.query() {
                        value.push('?');
                        value.push_str(query);
                    }
                }
                Part::Variable(Variable::ForwardedFor) => value.push_str(&(self.forwarded_for)()),
            }
        }
        value
    }

    /// The target of a redirect. One that begins with a path stays on this site: `//elsewhere`, which a client may
    /// have asked for, would be another one.
    pub(crate) fn location(&self, template: &Template) -> String {
        let value = self.expand(template);
        if value.starts_with("//") { format!("/{}", value.trim_start_matches('/')) } else { value }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(prefix: &str, replacement: &str, target: &str, expect: &str) {
        let rewrite = Rewrite { prefix: prefix.to_owned(), replacement: replacement.to_owned() };
        assert_eq!(rewritten(Some(&rewrite), target.to_owned()), expect, "{prefix} → {replacement}: {target}");
    }

    #[test]
    fn a_prefix_is_taken_away_by_whole_segments() {
        check("/api", "", "/api", "/");
        check("/api", "", "/api/x?y=/api", "/x?y=/api");
        check("/api", "", "/api?y", "/?y");
        check("/api", "", "/apis", "/apis");
        check("/api/", "", "/api/x/", "/x/");
        check("/api", "", "/other", "/other");
        check("/", "", "/x", "/x");
        check("/api", "", "*", "*");
    }

    #[test]
    fn a_prefix_is_replaced() {
        check("/api", "/v1", "/api/x", "/v1/x");
        check("/api", "/v1", "/api", "/v1");
        check("/api/", "/v1", "/api/x", "/v1/x");
        check("/api", "/v1/", "/api/x", "/v1/x");
        check("/api/", "/v1/", "/api/", "/v1/");
        check("/", "/app/", "/x?q", "/app/x?q");
        check("/api", "/", "/api/x", "/x");
    }

    #[test]
    fn a_path_never_becomes_a_host() {
        check("/api", "", "/api//evil.example/x", "/evil.example/x");
        check("/api/", "", "/api//evil.example", "/evil.example");
    }

    #[test]
    fn without_a_rule_nothing_changes() {
        assert_eq!(rewritten(None, "//x?y".to_owned()), "//x?y");
    }
}
