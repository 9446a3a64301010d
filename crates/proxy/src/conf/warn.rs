//! What is allowed and still hardly meant: blocks that no request reaches, lines without an effect.

use super::build::Builder;
use super::rules::Draft;
use super::tree::Statement;
use super::{Config, HostPattern, Listen, Network, PathPattern, ServerAddress, value};
use std::net::{IpAddr, SocketAddr};

/// The host's own rules when a location takes every path.
pub(super) fn root(builder: &mut Builder<'_>, host: &Draft, locations: &[(PathPattern, &Statement, Draft)]) {
    of_block(builder, host);
    let everything = locations.iter().find(|(path, ..)| *path == PathPattern::Prefix("/".to_owned()));
    let is_inherited = locations.iter().any(|(.., own)| !own.has_action());
    if let Some((_, statement, _)) = everything
        && host.has_action()
        && !is_inherited
    {
        let hint = "put its directives into the host, or remove what the host does itself";
        builder.warn(
            statement.name.start,
            "this location takes every path, so what its host does itself is never reached",
            hint,
        );
    }
}

/// One location.
pub(super) fn location(builder: &mut Builder<'_>, path: &PathPattern, statement: &Statement, own: &Draft) {
    of_block(builder, own);
    let at = statement.words.last().map_or(statement.name.start, |token| token.start);
    if path.as_str().split('/').any(|segment| segment == "." || segment == "..") {
        let hint = "browsers resolve `.` and `..` before they ask";
        builder.warn(at, "hardly any request has such a path, so this location is never reached", hint);
    }
    if path.as_str().contains("//") {
        let hint = "a path with two slashes may be read as one of another location, which is refused";
        builder.warn(at, "no request reaches this location", hint);
    }
    if let Some((rewrite, at)) = &own.rewrite {
        let ours = path.as_str().trim_end_matches('/');
        let theirs = rewrite.prefix.trim_end_matches('/');
        if !ours.starts_with(theirs) && !theirs.starts_with(ours) {
            let sentence =
                format!("no path of this location begins with `{}`, so nothing is rewritten", rewrite.prefix);
            builder.warn(*at, sentence, "");
        }
    }
}

fn of_block(builder: &mut Builder<'_>, draft: &Draft) {
    if let Some(last) = draft.access.iter().position(|(rule, _)| rule.network.is_none())
        && let Some((_, at)) = draft.access.get(last + 1)
    {
        let hint = "the first rule that matches decides; put `all` last";
        builder.warn(*at, "this rule is never looked at: one for `all` stands before it", hint);
    }
    if let Some((_, at)) = draft.access.last()
        && draft.access.iter().all(|(rule, _)| rule.allow)
    {
        let hint = "end with `deny all;` to keep all others out";
        builder.warn(*at, "this keeps nobody out: without a match everybody is allowed", hint);
    }
    if draft.answers_itself() {
        for (name, at) in &draft.only_for_backends {
            builder.warn(*at, format!("`{name}` has no effect here: nothing is passed on to a backend"), "");
        }
    }
}

/// Everybody in the place of the proxies in front.
pub(super) fn trust(builder: &mut Builder<'_>, statement: &Statement, network: Option<Network>) {
    if let (Some(word), true) = (statement.words.first(), network.is_some_and(|network| network.is_everything())) {
        let hint = "give the addresses of the proxies in front";
        builder.warn(
            word.start,
            "everybody is believed here: anybody may say to be any client, and passes every rule",
            hint,
        );
    }
}

/// Hosts whose port is not among those listened on.
pub(super) fn ports(builder: &mut Builder<'_>, config: &Config, known: &[(HostPattern, usize)]) {
    if config.listen.is_empty() {
        return; // the command line says where
    }
    for (pattern, at) in known {
        let (HostPattern::Name { port: Some(port), .. } | HostPattern::Below { port: Some(port), .. }) = pattern else {
            continue;
        };
        if !config.listen.iter().any(|listen| listen.address.port() == *port) {
            let sentence =
                format!("no `listen` has port {port}, so clients ask for it only through another port that leads here");
            builder.warn(*at, sentence, "");
        }
    }
}

/// Backends that are this proxy: it refuses what has passed through it before, so none of them ever answers.
pub(super) fn loops(builder: &mut Builder<'_>, listen: &[Listen], statements: &[Statement]) {
    for statement in statements {
        if let Some(block) = &statement.block {
            loops(builder, listen, block);
        }
        let Some(word) = statement.words.first() else { continue };
        let backend = match statement.name.text.as_str() {
            "proxy_pass" => match value::pass_target(&word.text) {
                Ok((value::PassTarget::Address(address), _)) => address,
                _ => continue,
            },
            "server" => match value::server_address(&word.text, false) {
                Ok(address) => address,
                Err(_) => continue,
            },
            _ => continue,
        };
        let ServerAddress::Ip(backend) = backend else { continue };
        if let Some(own) = listen.iter().find(|listen| is_heard(listen.address, backend)) {
            let sentence =
                format!("this leads back to this proxy, which listens on {}: no request gets through", own.address);
            builder.warn(word.start, sentence, "give the address of the program that is to answer");
        }
    }
}

/// Whether whoever listens there hears who connects here. Of other machines' addresses only equal ones are known to be its own.
fn is_heard(listen: SocketAddr, target: SocketAddr) -> bool {
    let (ours, theirs) = (listen.ip(), target.ip().to_canonical());
    // Connecting to no address in particular means this machine.
    let theirs = match theirs {
        IpAddr::V4(address) if address.is_unspecified() => IpAddr::from([127, 0, 0, 1]),
        IpAddr::V6(address) if address.is_unspecified() => IpAddr::V6(std::net::Ipv6Addr::LOCALHOST),
        address => address,
    };
    let is_any = ours.is_unspecified() && ours.is_ipv4() == theirs.is_ipv4() && theirs.is_loopback();
    listen.port() == target.port() && (ours.to_canonical() == theirs || is_any)
}
