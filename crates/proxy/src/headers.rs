//! Fields on their way through: what is dropped, what is passed on, what is set (RFC 9110 §7.6).
//!
//! Towards the upstream: fields of one connection and those that `Connection` lists are dropped, framing
//! is left to the engine, and only then the proxy sets its own, so that no client can have them removed
//! or forge them. Never looks at a body.

use std::net::{IpAddr, SocketAddr};

use engine::{Fields, InvalidField, Method, RequestHead, ResponseHead, StatusCode, Version, is_hop_by_hop};

use crate::conf::{Part, SetHeader, Template, Variable};

/// A request on its way, with all that its new fields depend on.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Onward<'a> {
    pub(crate) head: &'a RequestHead,
    /// The other end of the client's connection.
    pub(crate) peer: IpAddr,
    /// Whether `peer` is a proxy whose word counts.
    pub(crate) trusted: bool,
    /// `http` or `https`.
    pub(crate) scheme: &'static str,
    /// What this proxy calls itself in `Via`.
    pub(crate) name: &'a str,
    pub(crate) set: &'a [SetHeader],
    pub(crate) upstream: SocketAddr,
    /// The protocols to offer, if the client wants to switch.
    pub(crate) upgrade: Option<&'a str>,
    pub(crate) hops: Hops,
}

/// What `Max-Forwards` says (RFC 9110 §7.6.2).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Hops {
    /// Nothing, or nothing that counts for this method.
    Unlimited,
    /// So many more, this proxy not counted.
    Left(u64),
    /// This is where the request is to be answered.
    Over,
}

/// Reads `Max-Forwards`, which concerns only `OPTIONS` and `TRACE`.
pub(crate) fn hops(head: &RequestHead) -> Hops {
    if !matches!(head.method(), Method::Options | Method::Trace) {
        return Hops::Unlimited;
    }
    let Some(value) = head.field_str("max-forwards") else { return Hops::Unlimited };
    if value.is_empty() || !value.bytes().all(|byte| byte.is_ascii_digit()) {
        return Hops::Unlimited;
    }
    match value.parse::<u64>().unwrap_or(u64::MAX).checked_sub(1) {
        Some(left) => Hops::Left(left),
        None => Hops::Over,
    }
}

/// Whether the request has passed through the proxy of this name before (RFC 9110 §7.6.3).
pub(crate) fn has_passed(head: &RequestHead, name: &str) -> bool {
    head.fields().tokens("via").any(|hop| {
        let mut words = hop.split(|byte| *byte == b' ').filter(|word| !word.is_empty());
        words.nth(1) == Some(name.as_bytes())
    })
}

/// The protocols a client offers to switch to, as one value; none when it sends a body as well.
/// `h2c` is never among them (RFC 9113 §3.1).
pub(crate) fn upgrade(head: &RequestHead) -> Option<String> {
    let offers: Vec<&str> = head.upgrade().filter(|offer| !offer.eq_ignore_ascii_case("h2c")).collect();
    (!offers.is_empty() && head.framing().is_empty()).then(|| offers.join(", "))
}

/// The fields of the request that goes to the upstream.
pub(crate) fn to_upstream(onward: &Onward<'_>) -> Result<Fields, InvalidField> {
    let head = onward.head;
    let mut fields = Fields::new();
    fields.append("host", host(onward))?;
    let listed = listed(head.connection_tokens());
    for (name, value) in head.fields().iter() {
        let dropped = is_hop_by_hop(name)
            || is_rewritten(name)
            || name.contains('_')
            || (is_about_the_way(name) && !onward.trusted)
            || is_listed(&listed, name);
        if !dropped {
            fields.append(name, value)?;
        }
    }
    add_own(&mut fields, onward)?;
    for header in onward.set {
        apply(&mut fields, header, onward)?;
    }
    Ok(fields)
}

/// What the proxy itself says about the way a request came.
fn add_own(fields: &mut Fields, onward: &Onward<'_>) -> Result<(), InvalidField> {
    let head = onward.head;
    fields.set("x-forwarded-for", forwarded_for(onward))?;
    if !fields.contains("x-forwarded-proto") {
        fields.append("x-forwarded-proto", onward.scheme)?;
    }
    if !fields.contains("x-forwarded-host") && !head.host().is_empty() {
        fields.append("x-forwarded-host", head.host())?;
    }
    if fields.contains("forwarded") {
        fields.append("forwarded", forwarded(onward))?;
    }
    let version = if head.version() == Version::Http10 { "1.0" } else { "1.1" };
    fields.append("via", format!("{version} {}", onward.name))?;
    match onward.hops {
        Hops::Left(left) => fields.set("max-forwards", left.to_string())?,
        Hops::Unlimited | Hops::Over => {}
    }
    if let Some(offers) = onward.upgrade {
        fields.append("upgrade", offers)?;
    }
    Ok(())
}

fn apply(fields: &mut Fields, header: &SetHeader, onward: &Onward<'_>) -> Result<(), InvalidField> {
    let value = expand(&header.value, onward);
    if !value.is_empty() {
        return fields.set(&header.name, value);
    }
    if !header.name.eq_ignore_ascii_case("host") {
        fields.remove(&header.name);
    }
    Ok(())
}

fn expand(template: &Template, onward: &Onward<'_>) -> String {
    let mut value = String::new();
    for part in &template.parts {
        match part {
            Part::Literal(text) => value.push_str(text),
            Part::Variable(Variable::Host) => value.push_str(onward.head.host()),
            Part::Variable(Variable::RemoteAddr) => value.push_str(&onward.peer.to_string()),
            Part::Variable(Variable::Scheme) => value.push_str(onward.scheme),
            Part::Variable(Variable::ForwardedFor) => value.push_str(&forwarded_for(onward)),
        }
    }
    value
}

/// The client's `Host`; an HTTP/1.0 client without one gets the upstream's address.
fn host(onward: &Onward<'_>) -> String {
    match onward.head.host() {
        "" => onward.upstream.to_string(),
        host => host.to_owned(),
    }
}

/// What a trusted peer says, and then the peer itself.
fn forwarded_for(onward: &Onward<'_>) -> String {
    let mut chain = String::new();
    if onward.trusted {
        for value in onward.head.fields_named("x-forwarded-for").filter_map(|value| std::str::from_utf8(value).ok()) {
            if !value.is_empty() {
                chain.push_str(value);
                chain.push_str(", ");
            }
        }
    }
    chain.push_str(&onward.peer.to_string());
    chain
}

/// One element of `Forwarded`: an IPv6 address stands in brackets and quotes (RFC 7239 §6).
fn forwarded(onward: &Onward<'_>) -> String {
    let node = match onward.peer {
        IpAddr::V4(address) => address.to_string(),
        IpAddr::V6(address) => format!("\"[{address}]\""),
    };
    format!("for={node};host=\"{}\";proto={}", onward.head.host().replace(['"', '\\'], ""), onward.scheme)
}

/// The fields of the response that goes to the client.
pub(crate) fn to_client(head: &ResponseHead) -> Result<Fields, InvalidField> {
    let mut fields = Fields::new();
    let listed = listed(head.connection_tokens());
    let keeps_upgrade = matches!(head.status(), StatusCode::SWITCHING_PROTOCOLS | StatusCode::UPGRADE_REQUIRED);
    for (name, value) in head.fields().iter() {
        let is_upgrade = name.eq_ignore_ascii_case("upgrade") && keeps_upgrade;
        let dropped = is_hop_by_hop(name) || name.eq_ignore_ascii_case("content-length") || is_listed(&listed, name);
        if is_upgrade || !dropped {
            fields.append(name, value)?;
        }
    }
    Ok(fields)
}

/// Fields of a request that never travel as they are: the proxy or the engine writes them anew, or
/// they must not reach a program behind a gateway (`Proxy` would become `HTTP_PROXY` there).
fn is_rewritten(name: &str) -> bool {
    const NAMES: [&str; 5] = ["host", "content-length", "expect", "proxy", "http2-settings"];
    NAMES.iter().any(|other| other.eq_ignore_ascii_case(name))
}

/// Fields that say who the client is. Only a proxy may, and only one that is trusted.
fn is_about_the_way(name: &str) -> bool {
    let prefix = "x-forwarded-";
    name.get(..prefix.len()).is_some_and(|start| start.eq_ignore_ascii_case(prefix))
        || ["forwarded", "x-real-ip", "x-forwarded"].iter().any(|other| other.eq_ignore_ascii_case(name))
}

/// The names in a `Connection` field, without the options everybody knows.
fn listed<'a>(tokens: impl Iterator<Item = &'a [u8]>) -> Vec<&'a [u8]> {
    tokens
        .filter(|token| {
            !["close", "keep-alive", "upgrade", "te"].iter().any(|known| token.eq_ignore_ascii_case(known.as_bytes()))
        })
        .collect()
}

/// Whether `Connection` takes this field away. What the proxy reads or writes itself is beyond its reach.
fn is_listed(listed: &[&[u8]], name: &str) -> bool {
    !listed.is_empty()
        && listed.iter().any(|other| other.eq_ignore_ascii_case(name.as_bytes()))
        && !name.eq_ignore_ascii_case("via")
        && !is_about_the_way(name)
}
