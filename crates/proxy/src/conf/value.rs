//! The values directives take, each from one word.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::time::Duration;

use super::lexer::shorten;
use super::{HostPattern, Part, ServerAddress, Template, Variable};

/// Longest host name, in bytes (RFC 1035 §2.3.4).
const HOST_BYTES_MAX: usize = 253;

/// Longest timeout that makes sense.
const TIMEOUT_MAX: Duration = Duration::from_hours(1);

/// Fields that belong to one connection or to framing; the proxy and the engine write them.
const OWN_FIELDS: [&str; 9] =
    ["connection", "content-length", "expect", "keep-alive", "te", "trailer", "transfer-encoding", "upgrade", "via"];

/// What is wrong with a template.
pub(super) struct TemplateProblem {
    pub(super) expected: &'static str,
    pub(super) hint: String,
}

/// `name`, `name:port` or `default`. The error is a hint.
pub(super) fn host_pattern(text: &str) -> Result<HostPattern, String> {
    if text == "default" {
        return Ok(HostPattern::Default);
    }
    if text.contains("://") {
        return Err("leave out the scheme: only the name and the port".to_owned());
    }
    let (name, port) = split_port(text).ok_or("a port is a number from 1 to 65535")?;
    let name = normal_name(name);
    if let Some(suffix) = name.strip_prefix("*.")
        && is_host_name(suffix)
        && !suffix.starts_with('[')
    {
        return Ok(HostPattern::Below { suffix: suffix.to_owned(), port });
    }
    if name.contains('*') {
        let hint = "a `*` stands only at the beginning: `*.example.org`; `host default { … }` takes every other name";
        return Err(hint.to_owned());
    }
    if !is_host_name(&name) {
        return Err(
            "a name is made of letters, digits, `-`, `_` and `.`; an IPv6 address stands in brackets".to_owned()
        );
    }
    Ok(HostPattern::Name { name, port })
}

/// A host name as it is compared: lower case, without a final dot, an IPv6 address in its shortest form.
pub(crate) fn normal_name(name: &str) -> String {
    let inner = name.strip_prefix('[').and_then(|rest| rest.strip_suffix(']'));
    match inner.and_then(|inner| inner.parse::<Ipv6Addr>().ok()) {
        Some(address) => format!("[{address}]"),
        None => name.strip_suffix('.').unwrap_or(name).to_ascii_lowercase(),
    }
}

/// The name and the port, if there is one; `None` when what follows the colon is no port.
fn split_port(text: &str) -> Option<(&str, Option<u16>)> {
    let (name, port) = match text.rfind(':') {
        Some(colon) if !text[colon..].contains(']') => (&text[..colon], &text[colon + 1..]),
        _ => return Some((text, None)),
    };
    Some((name, Some(port_number(port)?)))
}

fn port_number(digits: &str) -> Option<u16> {
    let plain = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
    digits.parse().ok().filter(|port| plain && *port != 0)
}

fn is_host_name(name: &str) -> bool {
    if let Some(inner) = name.strip_prefix('[') {
        return inner.strip_suffix(']').is_some_and(|address| address.parse::<Ipv6Addr>().is_ok());
    }
    let label = |label: &str| {
        !label.is_empty() && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_')
    };
    name.len() <= HOST_BYTES_MAX && name.split('.').all(label)
}

/// What the host of a URL is, before it is known which upstreams there are.
pub(super) enum PassTarget {
    /// An address, or a name with a port, which is to be looked up.
    Address(ServerAddress),
    /// A name alone: that of an `upstream` block, or one to look up.
    Bare(String),
}

/// How a backend is spoken to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Scheme {
    /// HTTP/1.1 in plain text, unless `upstream_http2` says otherwise.
    Http,
    /// Over TLS.
    Https,
    /// HTTP/2 in plain text, without asking first.
    H2,
}

impl Scheme {
    pub(super) fn is_secure(self) -> bool {
        self == Self::Https
    }
}

/// `http[s]://host[:port]` or `h2://host[:port]`, `localhost` standing for 127.0.0.1. The error is a hint.
pub(super) fn pass_target(text: &str) -> Result<(PassTarget, Scheme), &'static str> {
    let (rest, scheme) = after_scheme(text)?;
    if rest.contains('/') {
        return Err("without a path: the request's own path is passed on; `rewrite` changes it");
    }
    Ok((authority(rest, scheme.is_secure())?, scheme))
}

/// The same with a path. The error is a hint.
pub(super) fn pass_url(text: &str) -> Result<(PassTarget, Scheme, String), &'static str> {
    let (rest, scheme) = after_scheme(text)?;
    let slash = rest.find('/').unwrap_or(rest.len());
    let (host, path) = rest.split_at(slash);
    let path = if path.is_empty() { "/" } else { path };
    target(path)?;
    Ok((authority(host, scheme.is_secure())?, scheme, path.to_owned()))
}

fn after_scheme(text: &str) -> Result<(&str, Scheme), &'static str> {
    match text.split_once("://") {
        Some(("http", rest)) => Ok((rest, Scheme::Http)),
        Some(("https", rest)) => Ok((rest, Scheme::Https)),
        Some(("h2", rest)) => Ok((rest, Scheme::H2)),
        Some(("h2c" | "grpc", _)) => Err("HTTP/2 in plain text is written `h2://`"),
        Some(_) => Err("only `http://`, `https://` and `h2://` are supported"),
        None => Err("it begins with `http://`"),
    }
}

fn authority(text: &str, is_secure: bool) -> Result<PassTarget, &'static str> {
    const ADDRESS: &str = "an IP address or a name, and a port from 1 to 65535";
    let (host, port) = split_port(text).ok_or(ADDRESS)?;
    if let Some(ip) = ip_address(host) {
        return Ok(PassTarget::Address(ServerAddress::Ip(SocketAddr::new(
            ip,
            port.unwrap_or(default_port(is_secure)),
        ))));
    }
    let host = checked_name(host).ok_or(ADDRESS)?;
    Ok(match port {
        Some(port) => PassTarget::Address(ServerAddress::Name { host, port }),
        None => PassTarget::Bare(host),
    })
}

/// The address of a server in an `upstream` block. The error is a hint.
pub(super) fn server_address(text: &str, is_secure: bool) -> Result<ServerAddress, &'static str> {
    if text.contains("://") {
        return Err("without a scheme: only the address and the port");
    }
    match authority(text, is_secure)? {
        PassTarget::Address(address) => Ok(address),
        PassTarget::Bare(host) => Ok(ServerAddress::Name { host, port: default_port(is_secure) }),
    }
}

fn ip_address(host: &str) -> Option<IpAddr> {
    if host.eq_ignore_ascii_case("localhost") {
        return Some(IpAddr::V4(Ipv4Addr::LOCALHOST));
    }
    if let Some(inner) = host.strip_prefix('[') {
        return Some(IpAddr::V6(inner.strip_suffix(']')?.parse().ok()?));
    }
    host.parse().ok().map(IpAddr::V4)
}

/// A name to look up. What looks like an address and is none is no name.
fn checked_name(host: &str) -> Option<String> {
    let name = normal_name(host);
    let has_letter = name.bytes().any(|byte| byte.is_ascii_alphabetic());
    (has_letter && !name.starts_with('[') && is_host_name(&name)).then_some(name)
}

/// `8080`, `0.0.0.0:8080`, `[::]:8080`. The error is a hint.
pub(super) fn listen(text: &str) -> Result<SocketAddr, &'static str> {
    const HINT: &str = "an address and a port from 1 to 65535; the port alone means every IPv4 address";
    let (host, port) = match text.rsplit_once(':') {
        Some((host, port)) => (host, port),
        None => ("*", text),
    };
    let port = port_number(port).ok_or(HINT)?;
    let ip = if host == "*" { Some(IpAddr::V4(Ipv4Addr::UNSPECIFIED)) } else { ip_address(host) };
    Ok(SocketAddr::new(ip.ok_or(HINT)?, port))
}

/// The port of a URL or a server that names none.
pub(super) fn default_port(is_secure: bool) -> u16 {
    if is_secure { 443 } else { 80 }
}

/// A name or an address as it stands in a certificate. The error is a hint.
pub(super) fn certificate_name(text: &str) -> Result<String, &'static str> {
    let name = ip_address(text).map(|ip| ip.to_string()).or_else(|| checked_name(text));
    name.ok_or("a host name or an IP address, without a port")
}

/// The name of an `upstream` block. The error is a hint.
pub(super) fn upstream_name(text: &str) -> Result<(), &'static str> {
    let plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-' || byte == b'_';
    let is_name =
        text.len() <= HOST_BYTES_MAX && text.bytes().all(plain) && text.bytes().any(|b| b.is_ascii_lowercase());
    if text == "localhost" {
        return Err("`localhost` is an address");
    }
    is_name.then_some(()).ok_or("small letters, digits, `-` and `_`")
}

/// A path and perhaps a query. The error is a hint.
pub(super) fn target(text: &str) -> Result<(), &'static str> {
    let is_plain = text.bytes().all(|byte| byte.is_ascii_graphic()) && !text.contains(['#', '\\', '"']);
    (text.starts_with('/') && is_plain).then_some(()).ok_or("it begins with `/`")
}

/// The name of a cookie (RFC 6265 §4.1.1). The error is a hint.
pub(super) fn cookie_name(text: &str) -> Result<(), String> {
    field_name(text).map_err(|_| "a cookie's name is made of letters, digits and `-`".to_owned())
}

/// A file or a folder. The error is a hint.
pub(super) fn file(text: &str) -> Result<PathBuf, &'static str> {
    if text.is_empty() || text.contains('\0') {
        return Err("a path in the file system");
    }
    Ok(PathBuf::from(text))
}

/// A number in a range. The error is a hint.
pub(super) fn number(text: &str, range: RangeInclusive<u32>) -> Result<u32, &'static str> {
    let plain = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    text.parse().ok().filter(|number| plain && range.contains(number)).ok_or("")
}

/// `10/s`, `600/m`, `1000/h`: how many in what time. The error is a hint.
pub(super) fn rate(text: &str) -> Result<(u32, Duration), &'static str> {
    let (requests, period) = text.split_once('/').ok_or("a number, `/`, and `s`, `m` or `h`")?;
    let requests = number(requests, 1..=1_000_000)?;
    let period = match period {
        "s" => Duration::from_secs(1),
        "m" => Duration::from_mins(1),
        "h" => Duration::from_hours(1),
        _ => return Err("per `s`, `m` or `h`"),
    };
    Ok((requests, period))
}

/// `200` or `200-399`.
pub(super) fn status_range(text: &str) -> Option<(u16, u16)> {
    let (low, high) = text.split_once('-').unwrap_or((text, text));
    let status = |text| number(text, 100..=599).ok().map(|status| status as u16);
    Some((status(low)?, status(high)?)).filter(|(low, high)| low <= high)
}

/// A path prefix. The error is a hint.
pub(super) fn prefix(text: &str) -> Result<(), &'static str> {
    if !text.starts_with('/') {
        return Err("it begins with `/`; `location = /path` takes one path alone, patterns are not supported");
    }
    if text.contains(['?', '#']) {
        return Err("only the path is compared, without `?` and what follows");
    }
    if !text.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err("write other characters as they stand in a request: `%C3%A9`");
    }
    Ok(())
}

/// `500ms`, `10s`, `2m`; a bare number counts seconds.
pub(super) fn duration(text: &str) -> Option<Duration> {
    let unit_at = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (digits, unit) = text.split_at(unit_at);
    let number: u32 = digits.parse().ok()?;
    let duration = match unit {
        "ms" => Duration::from_millis(number.into()),
        "s" | "" => Duration::from_secs(number.into()),
        "m" => Duration::from_mins(number.into()),
        _ => return None,
    };
    (!duration.is_zero() && duration <= TIMEOUT_MAX).then_some(duration)
}

/// `512`, `64k`, `10m`, `2g`: bytes, by powers of 1024.
pub(super) fn size(text: &str) -> Option<u64> {
    let unit_at = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (digits, unit) = text.split_at(unit_at);
    let number: u32 = digits.parse().ok()?;
    let shift = match unit {
        "" => 0,
        "k" | "K" => 10,
        "m" | "M" => 20,
        "g" | "G" => 30,
        _ => return None,
    };
    Some(u64::from(number) << shift)
}

/// The name of a field that the operator may set. The error is a hint.
pub(super) fn field_name(name: &str) -> Result<(), String> {
    let token = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
    if name.is_empty() || !name.bytes().all(token) {
        return Err("a field name is made of letters, digits and `-`".to_owned());
    }
    if OWN_FIELDS.iter().any(|own| own.eq_ignore_ascii_case(name)) {
        return Err(format!(
            "`{}` is written by the proxy itself, upgrades included; leave this line out",
            shorten(name)
        ));
    }
    Ok(())
}

/// A value with `$variables`.
pub(super) fn template(text: &str) -> Result<Template, TemplateProblem> {
    if !text.bytes().all(|byte| byte.is_ascii_graphic() || byte == b' ' || byte == b'\t') {
        return Err(TemplateProblem { expected: "a value of visible ASCII characters", hint: String::new() });
    }
    let mut parts = Vec::new();
    let mut rest = text;
    while let Some(dollar) = rest.find('$') {
        if dollar > 0 {
            parts.push(Part::Literal(rest[..dollar].to_owned()));
        }
        let after = &rest[dollar + 1..];
        let end = after.find(|c: char| !(c.is_ascii_alphanumeric() || c == '_')).unwrap_or(after.len());
        parts.push(Part::Variable(variable(&after[..end])?));
        rest = &after[end..];
    }
    if !rest.is_empty() {
        parts.push(Part::Literal(rest.to_owned()));
    }
    Ok(Template { parts })
}

fn variable(name: &str) -> Result<Variable, TemplateProblem> {
    Variable::NAMES.iter().find(|(known, _)| *known == name).map(|(_, variable)| *variable).ok_or_else(|| {
        TemplateProblem {
            expected: "one of `$host`, `$host_name`, `$remote_addr`, `$realip_remote_addr`, `$scheme`, `$request_uri`, \
                       `$uri`, `$proxy_add_x_forwarded_for`",
            hint: format!("there is no variable `${}`", shorten(name)),
        }
    })
}
