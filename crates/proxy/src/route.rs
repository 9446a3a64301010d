//! From a host and a path to a location.
//!
//! Host: without regard to case and to a final dot; a name wins over `*.suffix`, the longest suffix over
//! shorter ones, all of them over `default`; and of the same name the one with the very port. A request that
//! names no port means the scheme's (80, over TLS 443).
//!
//! Path: `= /path` wins, then the longest prefix, compared byte by byte with the path as the client sent it; the query
//! takes no part. A prefix that ends with `/` matches everything that begins with it; any other only whole segments,
//! so `/api` matches `/api` and `/api/x` and not `/apis`.
//!
//! What answers in the end may decode a path, resolve its dots, or drop `;parameters`. A path that would then belong to
//! another location is refused: `/x/../admin/` must not pass by the rules of `/admin/`. See `readings`.

use std::collections::HashMap;

use crate::conf::{Config, HostPattern, PathPattern, Rules, normal_name};
use crate::readings::{is_plain, readings};

/// The port of plain http, meant when a request names none (RFC 9110 §4.2.1).
const HTTP_PORT: u16 = 80;
/// The same for one that came over TLS (RFC 9110 §4.2.2).
pub(crate) const HTTPS_PORT: u16 = 443;

/// Index of a location: see [`Routes::new`].
pub(crate) type Place = usize;

/// Why a request has no location.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum NoRoute {
    /// No block names the host and there is no `default`.
    UnknownHost,
    /// The host has locations only, and none of them matches.
    UnknownPath,
    /// The path belongs to one location as it was sent, and to another as somebody else may read it.
    Ambiguous,
}

/// All hosts and locations, made for looking up.
#[derive(Debug)]
pub(crate) struct Routes {
    hosts: Vec<HostRoutes>,
    by_name: HashMap<String, Ports>,
    /// By what stands after `*.`.
    by_suffix: HashMap<String, Ports>,
    default: Option<usize>,
}

/// The blocks of one name, by port; `None` takes every port.
type Ports = Vec<(Option<u16>, usize)>;

#[derive(Debug)]
struct HostRoutes {
    root: Option<Place>,
    exact: HashMap<String, Place>,
    /// Longest prefix first.
    prefixes: Vec<(String, Place)>,
}

impl Routes {
    /// The table, and what stands at each [`Place`]: the rules and how to name them to an operator.
    pub(crate) fn new(config: &Config) -> (Self, Vec<(String, Rules)>) {
        let mut routes = Self { hosts: Vec::new(), by_name: HashMap::new(), by_suffix: HashMap::new(), default: None };
        let mut places: Vec<(String, Rules)> = Vec::new();
        for (index, host) in config.hosts.iter().enumerate() {
            let label = host.names.first().map_or_else(String::new, ToString::to_string);
            // Where counts and logs are kept by this name, no two places may have the same.
            let mut add = |sign: &str, path: &str, rules: &Rules| {
                places.push((format!("{label}{sign}{path}"), rules.clone()));
                places.len() - 1
            };
            let root = host.root.as_ref().map(|rules| add("", "", rules));
            let (mut exact, mut prefixes) = (HashMap::new(), Vec::new());
            for location in &host.locations {
                let sign = if matches!(location.path, PathPattern::Exact(_)) { "=" } else { "" };
                let place = add(sign, location.path.as_str(), &location.rules);
                match &location.path {
                    PathPattern::Exact(path) => drop(exact.insert(path.clone(), place)),
                    PathPattern::Prefix(prefix) => prefixes.push((prefix.clone(), place)),
                }
            }
            prefixes.sort_by_key(|(prefix, _)| std::cmp::Reverse(prefix.len()));
            routes.hosts.push(HostRoutes { root, exact, prefixes });
            for pattern in &host.names {
                routes.name(pattern, index);
            }
        }
        (routes, places)
    }

    fn name(&mut self, pattern: &HostPattern, index: usize) {
        let (names, name, port) = match pattern {
            HostPattern::Default => {
                self.default = Some(index);
                return;
            }
            HostPattern::Name { name, port } => (&mut self.by_name, name, port),
            HostPattern::Below { suffix, port } => (&mut self.by_suffix, suffix, port),
        };
        names.entry(name.clone()).or_default().push((*port, index));
    }

    /// The location of all requests, where no host and no path is told from another.
    pub(crate) fn only(&self) -> Option<Place> {
        let is_default = self.by_name.is_empty() && self.by_suffix.is_empty();
        let host = self.hosts.get(self.default.filter(|_| is_default)?)?;
        host.root.filter(|_| !host.has_locations())
    }

    /// The location for a host as the client named it (`port` if it did) and the path it sent.
    pub(crate) fn find(&self, name: &str, port: Option<u16>, path: &str) -> Result<Place, NoRoute> {
        let host = self.host(name, port.unwrap_or(HTTP_PORT)).ok_or(NoRoute::UnknownHost)?;
        let place = host.place(path);
        if host.has_locations() && !is_plain(path) && readings(path).iter().any(|other| host.place(other) != place) {
            return Err(NoRoute::Ambiguous);
        }
        place.ok_or(NoRoute::UnknownPath)
    }

    fn host(&self, name: &str, port: u16) -> Option<&HostRoutes> {
        if self.by_name.is_empty() && self.by_suffix.is_empty() {
            return self.hosts.get(self.default?); // whatever it is called
        }
        let name = normal_name(name);
        let named = self.by_name.get(&name).and_then(|ports| of_port(ports, port));
        let index = named.or_else(|| self.below(&name, port)).or(self.default)?;
        self.hosts.get(index)
    }

    /// The block of the longest suffix: `a.b.c` is looked for as `b.c`, then as `c`.
    fn below(&self, name: &str, port: u16) -> Option<usize> {
        if self.by_suffix.is_empty() {
            return None;
        }
        name.match_indices('.')
            .filter(|(dot, _)| *dot > 0)
            .find_map(|(dot, _)| of_port(self.by_suffix.get(&name[dot + 1..])?, port))
    }
}

impl HostRoutes {
    fn has_locations(&self) -> bool {
        !(self.exact.is_empty() && self.prefixes.is_empty())
    }

    fn place(&self, path: &str) -> Option<Place> {
        let exact = if self.exact.is_empty() { None } else { self.exact.get(path).copied() };
        let prefix = || self.prefixes.iter().find(|(prefix, _)| matches(prefix, path)).map(|(_, place)| *place);
        exact.or_else(prefix).or(self.root)
    }
}

/// The block with the very port, or else the one that takes every port.
fn of_port(ports: &Ports, port: u16) -> Option<usize> {
    let exact = ports.iter().find(|(other, _)| *other == Some(port));
    exact.or_else(|| ports.iter().find(|(other, _)| other.is_none())).map(|(_, index)| *index)
}

/// Whether a path begins with a prefix, by whole segments.
pub(crate) fn matches(prefix: &str, path: &str) -> bool {
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
        routes.find(name, port, path).map(|place| match &places[place].1.action {
            crate::conf::Action::Pass(pass) => pass.upstream.servers[0].address.to_string().replace(":1", ""),
            other => format!("{other:?}"),
        })
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

    const WILD: &str = r#"
        host "example.org" { proxy_pass http://10.0.0.1:1; }
        host "*.example.org" {
            proxy_pass http://10.0.0.2:1;
            location = /api { proxy_pass http://10.0.0.6:1; }
            location /api { proxy_pass http://10.0.0.7:1; }
            location = / { proxy_pass http://10.0.0.8:1; }
        }
        host "*.deep.example.org" { proxy_pass http://10.0.0.3:1; }
        host "www.example.org" { proxy_pass http://10.0.0.4:1; }
        host "*.example.org:8080" { proxy_pass http://10.0.0.5:1; }
    "#;

    #[test]
    fn a_wildcard_takes_every_name_below_and_the_longest_wins() {
        for (name, port, expect) in [
            ("example.org", None, Ok("10.0.0.1")),
            ("a.example.org", None, Ok("10.0.0.2")),
            ("A.B.Example.ORG.", None, Ok("10.0.0.2")),
            ("a.deep.example.org", None, Ok("10.0.0.3")),
            ("deep.example.org", None, Ok("10.0.0.2")),
            ("www.example.org", None, Ok("10.0.0.4")),
            ("a.www.example.org", None, Ok("10.0.0.2")),
            ("a.example.org", Some(8080), Ok("10.0.0.5")),
            ("aexample.org", None, Err(NoRoute::UnknownHost)),
            (".example.org", None, Err(NoRoute::UnknownHost)),
        ] {
            assert_eq!(find(WILD, name, port, "/x"), expect.map(str::to_owned), "{name}");
        }
    }

    #[test]
    fn an_exact_path_wins_over_every_prefix() {
        for (path, expect) in
            [("/api", "10.0.0.6"), ("/api/", "10.0.0.7"), ("/api/x", "10.0.0.7"), ("/", "10.0.0.8"), ("/x", "10.0.0.2")]
        {
            assert_eq!(find(WILD, "a.example.org", None, path).unwrap(), expect, "{path}");
        }
    }

    #[test]
    fn a_path_that_others_may_read_as_another_location_is_refused() {
        let config = r#"host "a" {
            proxy_pass http://10.0.0.1:1;
            location /admin/ { proxy_pass http://10.0.0.2:1; }
            location = /exact { proxy_pass http://10.0.0.3:1; }
        }"#;
        for path in [
            "/%61dmin/x",
            "/admin%2Fx",
            "/admin%5cx",
            "//admin/x",
            "/./admin/x",
            "/x/../admin/x",
            "/x/%2e%2e/admin/x",
            "/x/..;/admin/x",
            "/admin;a=b/x",
            "/admin%3Ba=b/x",
            "/x/..%3b/admin/x",
            "/;/admin/x",
            "/x//../admin/x",
            "/x//../../admin/x",
            "/../admin/x",
            "/admin/../x",
            "/admin/%2e%2e",
            "/%61dmin/../x",
            "/%65xact",
            "/exact;x",
            "/exact%00x",
            "/./exact",
        ] {
            assert_eq!(find(config, "a", None, path), Err(NoRoute::Ambiguous), "{path}");
        }
        for (path, expect) in [
            ("/caf%C3%A9/a%2Fb/../c;v=1//d/.", "10.0.0.1"),
            ("/.well-known/x", "10.0.0.1"),
            ("/%2561dmin/x", "10.0.0.1"),
            ("/%zz/%", "10.0.0.1"),
            ("/admin/a%20b/./c;d", "10.0.0.2"),
            ("/admin/x/../y", "10.0.0.2"),
        ] {
            assert_eq!(find(config, "a", None, path).as_deref(), Ok(expect), "{path}");
        }
    }

    #[test]
    fn where_there_is_one_location_every_reading_leads_to_it() {
        let config = r#"host "a" { proxy_pass http://10.0.0.1:1; }"#;
        assert_eq!(find(config, "a", None, "/x/../%2e%2e//y").as_deref(), Ok("10.0.0.1"));
    }

    #[test]
    fn the_default_block_takes_every_other_host() {
        let config = format!("{CONFIG} host default {{ proxy_pass http://10.0.0.9:1; }}");
        assert_eq!(find(&config, "elsewhere", Some(1), "/").unwrap(), "10.0.0.9");
        assert_eq!(find(&config, "", None, "/").unwrap(), "10.0.0.9");
        assert_eq!(find(&config, "app.local", None, "/").unwrap(), "10.0.0.1");
    }
}
