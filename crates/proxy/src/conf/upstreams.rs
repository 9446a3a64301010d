//! The directives of `upstream` blocks.

use std::time::Duration;

use super::build::{Builder, Words};
use super::error::Flaw;
use super::model::RESOLVE_INTERVAL_DEFAULT;
use super::suggest::suggestion;
use super::table::POLICIES;
use super::tree::Statement;
use super::{Ejection, HealthCheck, Policy, Queue, ServerAddress, Upstream, UpstreamServer, tls, value};

const DURATION: &str = "a duration like `500ms`, `10s` or `2m`, at most an hour";

/// Reads the block of the upstream called `name`; `None` when it has no server.
pub(super) fn read(
    builder: &mut Builder<'_>,
    statement: &Statement,
    block: &[Statement],
    name: &str,
) -> Option<Upstream> {
    let mut upstream = Upstream {
        name: name.to_owned(),
        is_named: true,
        servers: Vec::new(),
        policy: Policy::default(),
        health_check: None,
        ejection: Ejection::default(),
        slow_start: None,
        queue: None,
        resolve_interval: RESOLVE_INTERVAL_DEFAULT,
        tls: None,
        http2: builder.http2.iter().any(|other| other == name),
    };
    let is_secure = builder.secure.iter().any(|other| other == name);
    let mut secure = tls::Draft::default();
    let mut tries_server = false;
    for line in block {
        if secure.directive(builder, line) {
            continue;
        }
        let duration =
            |builder: &mut Builder<'_>| builder.single(line, DURATION, |text| value::duration(text).ok_or(""));
        match line.name.text.as_str() {
            "server" => {
                tries_server = true;
                let server = read_server(builder, line, is_secure);
                upstream.servers.extend(server);
            }
            "dist_policy" => upstream.policy = policy(builder, line).unwrap_or_default(),
            "health_check" => upstream.health_check = health_check(builder, line),
            "ejection" => upstream.ejection = ejection(builder, line),
            "upstream_http2" => upstream.http2 |= tls::on_off(builder, line) == Some(true),
            "slow_start" => upstream.slow_start = duration(builder),
            "queue" => upstream.queue = queue(builder, line),
            "resolve_interval" => upstream.resolve_interval = duration(builder).unwrap_or(RESOLVE_INTERVAL_DEFAULT),
            _ => {}
        }
    }
    if let (Some(at), false) = (secure.at, is_secure) {
        builder.warn(at, "no `proxy_pass` speaks https with this upstream", "write `proxy_pass https://…`");
    }
    upstream.tls = is_secure.then(|| secure.finish());
    if upstream.servers.is_empty() && !tries_server {
        let flaw = Flaw::new(statement.name.start, "an `upstream` with a `server`", "one without");
        builder.note(flaw.hint("add `server 127.0.0.1:9000;` inside the block"));
    }
    let has_first_choice = upstream.servers.iter().any(|server| !server.backup);
    if !upstream.servers.is_empty() && !has_first_choice {
        let flaw = Flaw::new(statement.name.start, "a `server` that is no `backup`", "backups alone");
        builder.note(flaw.hint("leave out `backup`: all of them stand in for each other anyway"));
    }
    let has_limit = upstream.servers.iter().any(|server| server.max_conns.is_some());
    if let (Some(line), false) = (block.iter().find(|line| line.name.text == "queue"), has_limit) {
        builder.warn(line.name.start, "no server of this upstream has `max_conns`, so nothing ever waits", "");
    }
    (!upstream.servers.is_empty()).then_some(upstream)
}

/// A server that nothing is said about.
pub(super) fn server(address: ServerAddress) -> UpstreamServer {
    UpstreamServer { address, weight: 1, max_conns: None, backup: false }
}

fn read_server(builder: &mut Builder<'_>, statement: &Statement, is_secure: bool) -> Option<UpstreamServer> {
    let mut words = Words::of(statement);
    let expected = "an address like `127.0.0.1:9000` or `app.example.org:9000`";
    let mut server = server(builder.value(&mut words, expected, |text| value::server_address(text, is_secure))?);
    builder.options(&mut words, |name, text| {
        match name {
            "weight" => server.weight = number(text, "a weight from 1 to 1000", 1..=1000)?,
            "max_conns" => server.max_conns = Some(number(text, "a number from 1 to 1000000", 1..=1_000_000)?),
            _ if text.is_empty() => server.backup = true,
            _ => return Err(("`backup` alone", String::new())),
        }
        Ok(())
    });
    Some(server)
}

/// The value of `dist_policy`.
pub(super) fn policy(builder: &mut Builder<'_>, statement: &Statement) -> Option<Policy> {
    const EXPECTED: &str = "a policy: `round-robin`, `least-conn`, `random-two`, `ip-hash`, `hash header NAME`, \
                            `hash cookie NAME` or `sticky NAME`";
    let mut words = Words::of(statement);
    let name = builder.value(&mut words, EXPECTED, |text| {
        if POLICIES.contains(&text) {
            Ok(text.to_owned())
        } else {
            Err(suggestion(text, &POLICIES).unwrap_or_default())
        }
    })?;
    let field = |text: &str| value::field_name(text).map(|()| text.to_owned());
    let cookie = |text: &str| value::cookie_name(text).map(|()| text.to_owned());
    let policy = match name.as_str() {
        "round-robin" => Policy::RoundRobin,
        "least-conn" => Policy::LeastConn,
        "random-two" => Policy::RandomTwo,
        "ip-hash" => Policy::IpHash,
        "sticky" => Policy::Sticky(builder.value(&mut words, "a name for the cookie, like `route`", cookie)?),
        _ => {
            let of = builder.value(&mut words, "`header` or `cookie`", |text| match text {
                "header" | "cookie" => Ok(text.to_owned()),
                _ => Err(""),
            })?;
            if of == "header" {
                Policy::HashHeader(builder.value(&mut words, "a field name like `X-User`", field)?)
            } else {
                Policy::HashCookie(builder.value(&mut words, "a cookie's name", cookie)?)
            }
        }
    };
    builder.end(&mut words);
    Some(policy)
}

fn health_check(builder: &mut Builder<'_>, statement: &Statement) -> Option<HealthCheck> {
    let mut words = Words::of(statement);
    let path =
        builder.value(&mut words, "a path like `/healthz`", |text| value::target(text).map(|()| text.to_owned()))?;
    let mut check = HealthCheck {
        path,
        // A redirect to a login page still shows a program that works.
        status: (200, 399),
        // A dead backend is found within fall × interval, at a cost of one small request each.
        interval: Duration::from_secs(5),
        // One that takes longer for the smallest of answers is overloaded.
        timeout: Duration::from_secs(2),
        // One good answer may come from a program that is about to crash again.
        rise: 2,
        // One lost packet is no outage.
        fall: 3,
    };
    builder.options(&mut words, |name, text| {
        match name {
            "status" => {
                check.status =
                    value::status_range(text).ok_or(("a status or a range like `200-399`", String::new()))?;
            }
            "interval" => check.interval = duration(text)?,
            "timeout" => check.timeout = duration(text)?,
            "rise" => check.rise = number(text, "a number from 1 to 100", 1..=100)?,
            _ => check.fall = number(text, "a number from 1 to 100", 1..=100)?,
        }
        Ok(())
    });
    Some(check)
}

fn ejection(builder: &mut Builder<'_>, statement: &Statement) -> Ejection {
    let mut ejection = Ejection::default();
    builder.options(&mut Words::of(statement), |name, text| {
        match name {
            "failures" => ejection.failures = number(text, "a number from 1 to 1000", 1..=1000)?,
            "pause" => ejection.pause = duration(text)?,
            "pause_max" => ejection.pause_max = duration(text)?,
            _ => {
                let share = text.strip_suffix('%').and_then(|digits| digits.parse().ok());
                let share = share.filter(|share| (1..=100).contains(share));
                ejection.share_max = share.ok_or(("a share like `50%`", String::new()))?;
            }
        }
        Ok(())
    });
    if ejection.pause_max < ejection.pause {
        ejection.pause_max = ejection.pause;
        builder.warn(statement.name.start, "`pause_max` is shorter than `pause`, which is used for both", "");
    }
    ejection
}

fn queue(builder: &mut Builder<'_>, statement: &Statement) -> Option<Queue> {
    let mut words = Words::of(statement);
    let length = builder.value(&mut words, "a number from 1 to 100000", |text| value::number(text, 1..=100_000))?;
    // Whoever waits longer has gone away.
    let mut queue = Queue { length, wait: Duration::from_secs(5) };
    builder.options(&mut words, |_, text| {
        queue.wait = duration(text)?;
        Ok(())
    });
    Some(queue)
}

fn duration(text: &str) -> Result<Duration, (&'static str, String)> {
    value::duration(text).ok_or((DURATION, String::new()))
}

fn number(
    text: &str,
    expected: &'static str,
    range: std::ops::RangeInclusive<u32>,
) -> Result<u32, (&'static str, String)> {
    value::number(text, range).map_err(|hint| (expected, hint.to_owned()))
}
