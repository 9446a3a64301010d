//! What ties a client to an upstream: the key that is hashed, the cookie that is kept.

use engine::RequestHead;

use crate::balance::key_of;
use crate::conf::Policy;
use crate::group::{Group, Lease};
use crate::headers::Onward;
use crate::proxy::Shared;
use crate::rate::client_key;

/// The hash of what the policy looks at; `None` when the request does not have it.
pub(crate) fn key(policy: &Policy, onward: &Onward<'_>) -> Option<u64> {
    match policy {
        Policy::IpHash => Some(key_of(&client_key(onward.client))),
        Policy::HashHeader(name) => onward.head.field(name).map(key_of),
        Policy::HashCookie(name) => cookie_value(onward.head, name).map(|value| key_of(value.as_bytes())),
        _ => None,
    }
}

/// The value of a cookie.
pub(crate) fn cookie_value<'a>(head: &'a RequestHead, name: &str) -> Option<&'a str> {
    head.fields_named("cookie")
        .filter_map(|value| std::str::from_utf8(value).ok())
        .flat_map(|value| value.split(';'))
        .filter_map(|pair| pair.trim().split_once('='))
        .find(|(other, _)| *other == name)
        .map(|(_, value)| value)
}

/// The `Set-Cookie` that ties the client to the upstream that answered, unless it is tied to it already.
pub(crate) fn cookie(
    shared: &Shared,
    group: &Group,
    lease: &Lease,
    onward: &Onward<'_>,
    secure: bool,
) -> Option<String> {
    let Policy::Sticky(name) = &group.conf.policy else { return None };
    let address = lease.upstream.address.to_string();
    let has_it =
        cookie_value(onward.head, name).is_some_and(|value| shared.sealer.is_for(value, &group.conf.name, &address));
    let secure = if secure { "; Secure" } else { "" };
    let value = shared.sealer.seal(&group.conf.name, &address);
    (!has_it).then(|| format!("{name}={value}; Path=/; HttpOnly; SameSite=Lax{secure}"))
}
