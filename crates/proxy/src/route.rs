//! From a host and a path to a location.
//!
//! Host: without regard to case and to a final dot; a name with the very port wins over the name alone,
//! both win over `default`. A request that names no port means the scheme's (80).
//!
//! Path: the longest prefix wins, compared byte by byte with the path as the client sent it (nothing is
//! decoded, dots are not resolved, the query takes no part). A prefix that ends with `/` matches
//! everything that begins with it; any other only whole segments, so `/api` matches `/api` and `/api/x`
//! and not `/apis`.

use std::collections::HashMap;

use crate::conf::{Config, HostPattern, Pass, normal_name};

/// The port of plain http, meant when a request names none (RFC 9110 §4.2.1).
const HTTP_PORT: u16 = 80;

/// Index of a location: see [`Routes::new`].
pub(crate) type Place = usize;

/// Why a request has no location.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum NoRoute {
    /// No block names the host and there is no `default`.
    UnknownHost,
    /// The host has locations only, and none of them matches.
    UnknownPath,
}

/// All hosts and locations, made for looking up.
#[derive(Debug)]
pub(crate) struct Routes {
    hosts: Vec<HostRoutes>,
    by_name: HashMap<String, Vec<(Option<u16>, usize)>>,
    default: Option<usize>,
}

#[derive(Debug)]
struct HostRoutes {
    root: Option<Place>,
    /// Longest prefix first.
    locations: Vec<(String, Place)>,
}

impl Routes {
    /// The table, and what stands at each [`Place`]: the pass and how to name it to an operator.
    pub(crate) fn new(config: &Config) -> (Self, Vec<(String, Pass)>) {
        let mut routes = Self { hosts: Vec::new(), by_name: HashMap::new(), default: None };
        let mut places: Vec<(String, Pass)> = Vec::new();
        for (index, host) in config.hosts.iter().enumerate() {
            let label = host.names.first().map_or_else(String::new, label);
            let mut add = |prefix: &str, pass: &Pass| {
                places.push((format!("{label}{prefix}"), pass.clone()));
                places.len() - 1
            };
            let root = host.root.as_ref().map(|pass| add("", pass));
            let mut locations: Vec<(String, Place)> = host
                .locations
                .iter()
                .map(|location| (location.prefix.clone(), add(&location.prefix, &location.pass)))
                .collect();
            locations.sort_by_key(|(prefix, _)| std::cmp::Reverse(prefix.len()));
            routes.hosts.push(HostRoutes { root, locations });
            for pattern in &host.names {
                match pattern {
                    HostPattern::Default => routes.default = Some(index),
                    HostPattern::Name { name, port } => {
                        routes.by_name.entry(name.clone()).or_default().push((*port, index));
                    }
                }
            }
        }
        (routes, places)
    }

    /// The location for a host as the client named it (`port` if it did) and the path it sent.
    pub(crate) fn find(&self, name: &str, port: Option<u16>, path: &str) -> Result<Place, NoRoute> {
        let host = self.host(name, port.unwrap_or(HTTP_PORT)).ok_or(NoRoute::UnknownHost)?;
        host.locations
            .iter()
            .find(|(prefix, _)| matches(prefix, path))
            .map(|(_, place)| *place)
            .or(host.root)
            .ok_or(NoRoute::UnknownPath)
    }

    fn host(&self, name: &str, port: u16) -> Option<&HostRoutes> {
        let named = self.by_name.get(&normal_name(name)).and_then(|ports| {
            let exact = ports.iter().find(|(other, _)| *other == Some(port));
            exact.or_else(|| ports.iter().find(|(other, _)| other.is_none()))
        });
        let index = named.map(|(_, index)| *index).or(self.default)?;
        self.hosts.get(index)
    }
}

fn label(pattern: &HostPattern) -> String {
    match pattern {
        HostPattern::Default => "default".to_owned(),
        HostPattern::Name { name, port: None } => name.clone(),
        HostPattern::Name { name, port: Some(port) } => format!("{name}:{port}"),
    }
}

fn matches(prefix: &str, path: &str) -> bool {
    path.strip_prefix(prefix).is_some_and(|rest| prefix.ends_with('/') || rest.is_empty() || rest.starts_with('/'))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    const CONFIG: &str = r#"
        host "app.local" { proxy_pass http://10.0.0.1:1; }
        host "app.local:8080" "[::1]:8080" {
            proxy_pass http://10.0.0.2:1;
            location /api { proxy_pass http://10.0.0.3:1; }
            location /api/deep/ { proxy_pass http://10.0.0.4:1; }
        }
        host "paths.local:80" { location /only/ { proxy_pass http://10.0.0.5:1; } }
    "#;

    fn find(config: &str, name: &str, port: Option<u16>, path: &str) -> Result<String, NoRoute> {
        let (routes, places) = Routes::new(&Config::parse("test", config).unwrap());
        routes.find(name, port, path).map(|place| places[place].1.backends[0].ip().to_string())
    }

    fn check(name: &str, port: Option<u16>, path: &str, expect: Result<&str, NoRoute>) {
        let found = find(CONFIG, name, port, path);
        assert_eq!(found, expect.map(str::to_owned), "{name} {port:?} {path}");
    }

    #[test]
    fn the_very_port_wins_over_the_name_alone() {
        check("app.local", Some(8080), "/", Ok("10.0.0.2"));
        check("app.local", Some(9999), "/", Ok("10.0.0.1"));
        check("app.local", None, "/", Ok("10.0.0.1"));
    }

    #[test]
    fn a_host_is_compared_without_case_and_final_dot() {
        check("APP.Local.", Some(8080), "/", Ok("10.0.0.2"));
        check("[0:0::1]", Some(8080), "/", Ok("10.0.0.2"));
        check("app.localx", Some(8080), "/", Err(NoRoute::UnknownHost));
        check("", None, "/", Err(NoRoute::UnknownHost));
    }

    #[test]
    fn no_port_means_port_80() {
        check("paths.local", None, "/only/x", Ok("10.0.0.5"));
        check("paths.local", Some(80), "/only/x", Ok("10.0.0.5"));
        check("paths.local", Some(81), "/only/x", Err(NoRoute::UnknownHost));
    }

    #[test]
    fn the_longest_prefix_wins_and_matches_whole_segments() {
        for (path, expect) in [
            ("/", "10.0.0.2"),
            ("/api", "10.0.0.3"),
            ("/api/", "10.0.0.3"),
            ("/api/x", "10.0.0.3"),
            ("/apis", "10.0.0.2"),
            ("/API", "10.0.0.2"),
            ("/api/deep", "10.0.0.3"),
            ("/api/deep/x", "10.0.0.4"),
            ("*", "10.0.0.2"),
            ("", "10.0.0.2"),
        ] {
            check("app.local", Some(8080), path, Ok(expect));
        }
        check("paths.local", None, "/other", Err(NoRoute::UnknownPath));
    }

    #[test]
    fn the_default_block_takes_every_other_host() {
        let config = format!("{CONFIG} host default {{ proxy_pass http://10.0.0.9:1; }}");
        assert_eq!(find(&config, "elsewhere", Some(1), "/").unwrap(), "10.0.0.9");
        assert_eq!(find(&config, "", None, "/").unwrap(), "10.0.0.9");
        assert_eq!(find(&config, "app.local", None, "/").unwrap(), "10.0.0.1");
    }
}
