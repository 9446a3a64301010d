//! What a new configuration changes. Pure: two configurations in, a list out.
//!
//! Whatever is the same in both goes on as if nothing had happened. Routes are compared by their name and everything
//! they say, upstreams by their name and everything they say, servers by their address.

use std::collections::BTreeSet;
use std::fmt;
use std::net::SocketAddr;

use crate::conf::{Config, Rules};
use crate::group::shown_name;
use crate::route::Routes;

/// What changed from one configuration to the next.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Diff {
    /// Host and location.
    pub routes: Changes<String>,
    /// Upstreams by name.
    pub upstreams: Changes<String>,
    /// Servers of upstreams, as `upstream address`.
    pub servers: Changes<String>,
    /// Addresses to listen on.
    pub listen: Changes<SocketAddr>,
    /// Whether the access log is another one.
    pub log: bool,
}

/// How one kind of things changed. Each list is in the order of its configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Changes<T> {
    /// Only in the new one.
    pub added: Vec<T>,
    /// In both, saying different things.
    pub changed: Vec<T>,
    /// Only in the old one.
    pub removed: Vec<T>,
    /// How many are the same.
    pub same: usize,
}

impl<T> Default for Changes<T> {
    fn default() -> Self {
        Self { added: Vec::new(), changed: Vec::new(), removed: Vec::new(), same: 0 }
    }
}

impl<T> Changes<T> {
    fn is_empty(&self) -> bool {
        self.added.is_empty() && self.changed.is_empty() && self.removed.is_empty()
    }
}

impl Diff {
    /// Whether both say the same.
    pub fn is_empty(&self) -> bool {
        self.routes.is_empty()
            && self.upstreams.is_empty()
            && self.servers.is_empty()
            && self.listen.is_empty()
            && !self.log
    }
}

impl fmt::Display for Diff {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_empty() {
            return write!(f, "nothing has changed");
        }
        let mut parts = Vec::new();
        say(&mut parts, "route", &self.routes);
        say(&mut parts, "upstream", &self.upstreams);
        say(&mut parts, "server", &self.servers);
        say(&mut parts, "address", &self.listen);
        if self.log {
            parts.push("another access log".to_owned());
        }
        write!(f, "{}", parts.join(", "))
    }
}

fn say<T>(parts: &mut Vec<String>, name: &str, changes: &Changes<T>) {
    for (list, verb) in [(&changes.added, "added"), (&changes.changed, "changed"), (&changes.removed, "removed")] {
        if !list.is_empty() {
            parts.push(format!("{} {name}{} {verb}", list.len(), if list.len() == 1 { "" } else { "s" }));
        }
    }
}

/// What `new` changes of `old`.
pub fn diff(old: &Config, new: &Config) -> Diff {
    Diff {
        routes: compare(&routes(old), &routes(new)),
        upstreams: compare(&upstreams(old), &upstreams(new)),
        servers: compare(&servers(old), &servers(new)),
        listen: compare(&listen(old), &listen(new)),
        log: old.access_log != new.access_log,
    }
}

/// Keys with what stands under them, compared. A key that stands twice is compared as often.
fn compare<K: Clone + PartialEq, V: PartialEq>(old: &[(K, V)], new: &[(K, V)]) -> Changes<K> {
    let mut changes = Changes::default();
    let mut left: Vec<&(K, V)> = old.iter().collect();
    for (key, value) in new {
        match left.iter().position(|(other, _)| other == key) {
            None => changes.added.push(key.clone()),
            Some(at) if left.remove(at).1 == *value => changes.same += 1,
            Some(_) => changes.changed.push(key.clone()),
        }
    }
    changes.removed = left.into_iter().map(|(key, _)| key.clone()).collect();
    changes
}

fn routes(config: &Config) -> Vec<(String, Rules)> {
    Routes::new(config).1
}

fn upstreams(config: &Config) -> Vec<(String, &crate::conf::Upstream)> {
    config.upstreams.iter().filter(|upstream| upstream.is_named).map(|each| (each.name.clone(), &**each)).collect()
}

fn servers(config: &Config) -> Vec<(String, ())> {
    let all: BTreeSet<String> = config
        .upstreams
        .iter()
        .flat_map(|upstream| upstream.servers.iter().map(move |server| (upstream, server)))
        .map(|(upstream, server)| format!("{} {}", shown_name(upstream), server.address))
        .collect();
    all.into_iter().map(|name| (name, ())).collect()
}

fn listen(config: &Config) -> Vec<(SocketAddr, crate::conf::Listen)> {
    config.listen.iter().map(|listen| (listen.address, listen.clone())).collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    const OLD: &str = r#"
        listen 127.0.0.1:8080;
        upstream app { server 10.0.0.1:1; server 10.0.0.2:1; }
        host "a.local" {
            proxy_pass http://app;
            location /api/ { proxy_pass http://10.0.0.3:1; }
        }
        host "b.local" { respond 200 "here"; }
    "#;

    /// Says how `OLD` differs once `from` is replaced by `to`.
    fn check(from: &str, to: &str, expect: &str) -> Diff {
        let parse = |text: &str| Config::parse("test", text).unwrap_or_else(|errors| panic!("{errors:?}"));
        assert!(OLD.contains(from), "{from}");
        let diff = diff(&parse(OLD), &parse(&OLD.replace(from, to)));
        assert_eq!(diff.to_string(), expect, "{from} → {to}");
        diff
    }

    #[test]
    fn what_says_the_same_is_the_same() {
        let diff = check("", "", "nothing has changed");
        assert!(diff.is_empty());
        assert_eq!((diff.routes.same, diff.upstreams.same, diff.servers.same, diff.listen.same), (3, 1, 3, 1));
        check("respond 200 \"here\";", "\n\n    respond 200 here; # as before\n", "nothing has changed");
    }

    #[test]
    fn each_kind_of_change_is_named() {
        for (from, to, expect) in [
            ("respond 200 \"here\"", "respond 404 \"gone\"", "1 route changed"),
            ("host \"b.local\" { respond 200 \"here\"; }", "", "1 route removed"),
            ("location /api/ {", "location /api/v2/ { respond 204; } location /api/ {", "1 route added"),
            ("10.0.0.2:1;", "10.0.0.2:1 weight=3;", "1 route changed, 1 upstream changed"),
            ("server 10.0.0.2:1;", "", "1 route changed, 1 upstream changed, 1 server removed"),
            (
                "server 10.0.0.2:1;",
                "server 10.0.0.4:1;",
                "1 route changed, 1 upstream changed, 1 server added, 1 server removed",
            ),
            ("http://10.0.0.3:1", "http://10.0.0.9:1", "1 route changed, 1 server added, 1 server removed"),
            ("127.0.0.1:8080", "127.0.0.1:8081", "1 address added, 1 address removed"),
            ("listen 127.0.0.1:8080;", "listen 127.0.0.1:8080; listen 127.0.0.1:8081;", "1 address added"),
        ] {
            check(from, to, expect);
        }
    }

    #[test]
    fn a_route_that_is_renamed_is_another_one() {
        let diff = check("location /api/", "location /API/", "1 route added, 1 route removed");
        assert_eq!(diff.routes.added, ["a.local/API/"]);
        assert_eq!(diff.routes.removed, ["a.local/api/"]);
        assert_eq!(diff.routes.same, 2);
    }
}
