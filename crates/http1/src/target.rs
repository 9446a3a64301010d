//! Request targets and authorities (RFC 9112 §3.2, RFC 3986 §3).

use crate::ascii::{is_reg_char, is_visible_except};
use crate::{ErrorKind, Method};
use std::ops::Range;

/// The four shapes a request target has (RFC 9112 §3.2).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum TargetForm {
    /// `/path?query`
    Origin,
    /// `http://host/path?query`
    Absolute,
    /// `host:port`, only with `CONNECT`
    Authority,
    /// `*`, only with `OPTIONS`
    Asterisk,
}

/// A target taken apart, with offsets from the front of the input.
#[derive(Debug, Clone)]
pub(crate) struct Target {
    pub(crate) form: TargetForm,
    pub(crate) whole: Range<u16>,
    /// Host and port in absolute and authority form, otherwise empty.
    pub(crate) authority: Range<u16>,
    /// Empty in absolute form without a path.
    pub(crate) path: Range<u16>,
    pub(crate) query: Option<Range<u16>>,
}

/// Takes a target apart; `start` is where it stands in the input.
///
/// More bytes are let through than RFC 3986 allows where browsers send them as they are
/// (`"`, `|`, `{`, and `\` in a query), because no two readers disagree about those.
pub(crate) fn parse(method: Method, target: &[u8], start: usize) -> Result<Target, ErrorKind> {
    if !is_visible(target) {
        return Err(ErrorKind::Target);
    }
    if method == Method::Connect {
        return authority_form(target, start);
    }
    match target {
        b"*" if method == Method::Options => Ok(Target::new(TargetForm::Asterisk, target, start, 0..0, 0..1)),
        [b'/', b'/', ..] => Err(ErrorKind::Target),
        [b'/', ..] => with_query(TargetForm::Origin, target, start, 0..0),
        _ => absolute_form(target, start),
    }
}

/// Whether the bytes are visible ASCII without `#`: fragments are never sent.
pub(crate) fn is_visible(target: &[u8]) -> bool {
    !target.is_empty() && is_visible_except(target, b'#')
}

/// Where the host name ends in `host` or `host:port`, if the whole is well-formed
/// (RFC 3986 §3.2.2, §3.2.3). A comma, though RFC 3986 allows it, is refused: it is how two hosts
/// hide in one.
pub(crate) fn host_name_end(authority: &[u8]) -> Option<usize> {
    let end = judged_host_name_end(authority)?;
    let (name, port) = authority.split_at(end);
    let name_ok = match name {
        [b'[', address @ .., b']'] => is_ip_literal(address),
        _ => is_reg_name(name),
    };
    (name_ok && is_port_suffix(port)).then_some(end)
}

/// Where the host name ends in an authority that was judged before.
pub(crate) fn judged_host_name_end(authority: &[u8]) -> Option<usize> {
    Some(match authority {
        [b'[', ..] => memchr::memchr(b']', authority)? + 1,
        _ => memchr::memchr(b':', authority).unwrap_or(authority.len()),
    })
}

/// The number after the colon, if there is one.
pub(crate) fn port(suffix: &str) -> Option<u16> {
    suffix.strip_prefix(':')?.parse().ok()
}

impl Target {
    /// What stands where there is none.
    pub(crate) const EMPTY: Self =
        Self { form: TargetForm::Origin, whole: 0..0, authority: 0..0, path: 0..0, query: None };

    /// An origin-form target; the query begins after `path_end` if `end` is beyond it.
    pub(crate) fn origin(start: usize, path_end: usize, end: usize) -> Self {
        Self {
            form: TargetForm::Origin,
            whole: start as u16..end as u16,
            authority: 0..0,
            path: start as u16..path_end as u16,
            query: (path_end < end).then(|| path_end as u16 + 1..end as u16),
        }
    }

    fn new(form: TargetForm, target: &[u8], start: usize, authority: Range<usize>, path: Range<usize>) -> Self {
        Self {
            form,
            whole: shift(0..target.len(), start),
            authority: shift(authority, start),
            path: shift(path, start),
            query: None,
        }
    }
}

fn authority_form(target: &[u8], start: usize) -> Result<Target, ErrorKind> {
    let name_end = host_name_end(target).ok_or(ErrorKind::Target)?;
    if target.len() - name_end < ":0".len() {
        return Err(ErrorKind::Target); // CONNECT names the port (RFC 9110 §9.3.6)
    }
    let whole = 0..target.len();
    Ok(Target::new(TargetForm::Authority, target, start, whole, 0..0))
}

fn absolute_form(target: &[u8], start: usize) -> Result<Target, ErrorKind> {
    let scheme_end = [&b"http://"[..], b"https://"]
        .into_iter()
        .find(|scheme| target.get(..scheme.len()).is_some_and(|prefix| prefix.eq_ignore_ascii_case(scheme)))
        .map(<[u8]>::len)
        .ok_or(ErrorKind::Target)?;
    let after = &target[scheme_end..];
    let authority_len = after.iter().position(|&byte| byte == b'/' || byte == b'?').unwrap_or(after.len());
    host_name_end(&after[..authority_len]).ok_or(ErrorKind::Target)?;
    let authority = scheme_end..scheme_end + authority_len;
    with_query(TargetForm::Absolute, target, start, authority)
}

/// Splits what follows the authority at the first `?`.
fn with_query(form: TargetForm, target: &[u8], start: usize, authority: Range<usize>) -> Result<Target, ErrorKind> {
    let path_start = authority.end;
    let mark = memchr::memchr(b'?', &target[path_start..]).map(|at| path_start + at);
    let path = path_start..mark.unwrap_or(target.len());
    if memchr::memchr(b'\\', &target[path.clone()]).is_some() {
        return Err(ErrorKind::Target); // some file systems take it for a slash
    }
    let mut parsed = Target::new(form, target, start, authority, path);
    parsed.query = mark.map(|mark| shift(mark + 1..target.len(), start));
    Ok(parsed)
}

/// Offsets fit: no head is longer than [`crate::Limits::HEAD_BYTES_CEILING`].
fn shift(range: Range<usize>, by: usize) -> Range<u16> {
    (range.start + by) as u16..(range.end + by) as u16
}

fn is_reg_name(name: &[u8]) -> bool {
    !name.is_empty() && (name.iter().all(|&byte| is_reg_char(byte)) || is_escaped_reg_name(name))
}

/// A name with percent-encoded bytes: rare, so it is looked at twice.
fn is_escaped_reg_name(name: &[u8]) -> bool {
    let mut parts = name.split(|&byte| byte == b'%');
    let plain = |part: &[u8]| part.iter().all(|&byte| is_reg_char(byte));
    parts.next().is_some_and(plain)
        && parts.all(|part| match part {
            [a, b, rest @ ..] => a.is_ascii_hexdigit() && b.is_ascii_hexdigit() && plain(rest),
            _ => false,
        })
}

fn is_ip_literal(address: &[u8]) -> bool {
    std::str::from_utf8(address).is_ok_and(|text| text.parse::<std::net::Ipv6Addr>().is_ok())
}

/// Nothing, or a colon and at most a port's worth of digits.
fn is_port_suffix(suffix: &[u8]) -> bool {
    match suffix {
        [] | [b':'] => true,
        [b':', digits @ ..] => {
            digits.iter().all(u8::is_ascii_digit)
                && std::str::from_utf8(digits).is_ok_and(|text| text.parse::<u16>().is_ok())
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use Method::{Connect, Get, Options};

    /// Form, authority, path and query, or nothing for a malformed target.
    type Parts<'a> = Option<(TargetForm, &'a str, &'a str, Option<&'a str>)>;

    fn check(method: Method, target: &str, expect: Parts<'_>) {
        let text = |range: &Range<u16>| &target[usize::from(range.start)..usize::from(range.end)];
        let parsed = parse(method, target.as_bytes(), 0);
        let got = parsed.as_ref().ok().map(|parsed| {
            let query = parsed.query.as_ref().map(text);
            (parsed.form, text(&parsed.authority), text(&parsed.path), query)
        });
        assert_eq!(got, expect, "{method} {target:?}");
    }

    #[test]
    fn origin_form_starts_with_one_slash() {
        check(Get, "/", Some((TargetForm::Origin, "", "/", None)));
        check(Get, "/a//b?c=?d", Some((TargetForm::Origin, "", "/a//b", Some("c=?d"))));
        check(Get, "/?", Some((TargetForm::Origin, "", "/", Some(""))));
        check(Get, "/q?\\", Some((TargetForm::Origin, "", "/q", Some("\\"))));
        for bad in ["", "//host", "a/b", "@host/", "/a\\b", "/a#b", "/a\tb", "/\u{e9}", "/\0", "?q"] {
            check(Get, bad, None);
        }
    }

    #[test]
    fn absolute_form_names_a_host() {
        check(Get, "http://h/p?q", Some((TargetForm::Absolute, "h", "/p", Some("q"))));
        check(Get, "HTTPS://h:8/", Some((TargetForm::Absolute, "h:8", "/", None)));
        check(Get, "http://h?q", Some((TargetForm::Absolute, "h", "", Some("q"))));
        check(Get, "http://[::1]:80", Some((TargetForm::Absolute, "[::1]:80", "", None)));
        for bad in ["http:///p", "http://u@h/", "http://h:x/", "ftp://h/", "http:/h", "http://[::1", "http://h\\/"] {
            check(Get, bad, None);
        }
    }

    #[test]
    fn asterisk_and_authority_belong_to_one_method_each() {
        check(Options, "*", Some((TargetForm::Asterisk, "", "*", None)));
        check(Connect, "h:443", Some((TargetForm::Authority, "h:443", "", None)));
        check(Get, "*", None);
        check(Get, "h:443", None);
        for bad in ["h", "h:", "/", "*", "http://h:1/", "h:70000", ":1"] {
            check(Connect, bad, None);
        }
    }

    #[test]
    fn authorities_are_a_host_and_perhaps_a_port() {
        for good in ["a", "a:", "a:0", "a_b.c-d:65535", "1.2.3.4", "[::1]", "[fe80::1]:9", "%41", "0.0.0.0=5000"] {
            assert!(host_name_end(good.as_bytes()).is_some(), "{good}");
        }
        for bad in [
            "", ":1", "a, b", "a,b", "u@h", "h/p", "a b", "h:65536", "h:+1", "h:1:2", "[::1", "[]", "[::1]x", "[h]",
            "%4", "h?", "::1",
        ] {
            assert_eq!(host_name_end(bad.as_bytes()), None, "{bad}");
        }
    }
}
