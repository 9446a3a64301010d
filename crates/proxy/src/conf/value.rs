//! The values directives take, each from one word.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use super::lexer::shorten;
use super::{HostPattern, Part, Policy, Template, Variable};

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
    if name.contains('*') {
        return Err("patterns are not supported; `host default { … }` takes every other name".to_owned());
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

/// `http://ip[:port]`; `localhost` stands for 127.0.0.1.
pub(super) fn backend(text: &str) -> Option<SocketAddr> {
    let authority = text.strip_prefix("http://")?;
    let (host, port) = split_port(authority)?;
    let address = if host.eq_ignore_ascii_case("localhost") {
        IpAddr::V4(Ipv4Addr::LOCALHOST)
    } else if let Some(inner) = host.strip_prefix('[') {
        IpAddr::V6(inner.strip_suffix(']')?.parse().ok()?)
    } else {
        IpAddr::V4(host.parse().ok()?)
    };
    Some(SocketAddr::new(address, port.unwrap_or(80)))
}

/// A hint for a word that is no backend; empty for other directives.
pub(super) fn why_no_backend(expected: &str, text: &str) -> &'static str {
    if !expected.contains("http://") {
        return "";
    }
    match text.split_once("://") {
        None => "it begins with `http://`",
        Some(("https", _)) => "backends are spoken to in plain http",
        Some(("http", rest)) if rest.contains('/') => "without a path: the request's own path is passed on unchanged",
        Some(("http", rest)) if rest.starts_with(|c: char| c.is_ascii_alphabetic()) => {
            "an IP address; names are not looked up"
        }
        Some(("http", _)) => "an IP address and a port from 1 to 65535",
        Some(_) => "only `http://` is supported",
    }
}

/// A path prefix. The error is a hint.
pub(super) fn prefix(text: &str) -> Result<(), &'static str> {
    if !text.starts_with('/') {
        return Err("it begins with `/`; patterns are not supported");
    }
    if text.contains(['?', '#']) {
        return Err("only the path is compared, without `?` and what follows");
    }
    if !text.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err("write other characters as they stand in a request: `%C3%A9`");
    }
    Ok(())
}

pub(super) fn policy(text: &str) -> Option<Policy> {
    (text == "round-robin").then_some(Policy::RoundRobin)
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
            expected: "one of `$host`, `$remote_addr`, `$scheme`, `$proxy_add_x_forwarded_for`",
            hint: format!("there is no variable `${}`", shorten(name)),
        }
    })
}
