//! Cookies as a user agent keeps them (RFC 6265 §5), for one host that is trusted with `Secure` ones.

use std::time::SystemTime;

/// Most cookies that are kept; the oldest make room.
const COOKIES_MAX: usize = 300;

#[derive(Debug, Default)]
pub(super) struct Jar {
    cookies: Vec<Kept>,
}

#[derive(Debug, PartialEq, Eq)]
struct Kept {
    name: String,
    value: String,
    path: String,
}

impl Jar {
    /// Takes in the `Set-Cookie` values of an answer to `target`.
    pub(super) fn store<'a>(&mut self, target: &str, values: impl Iterator<Item = &'a str>) {
        for value in values {
            let Some((kept, is_over)) = read(value, default_path(target)) else { continue };
            self.cookies.retain(|old| (&old.name, &old.path) != (&kept.name, &kept.path));
            if !is_over {
                self.cookies.push(kept);
            }
            if self.cookies.len() > COOKIES_MAX {
                self.cookies.remove(0);
            }
        }
    }

    /// The cookies for a target as `name=value`, longest paths first (RFC 6265 §5.4).
    pub(super) fn pairs_for(&self, target: &str) -> Vec<String> {
        let path = path_of(target);
        let mut found: Vec<&Kept> = self.cookies.iter().filter(|kept| covers(&kept.path, path)).collect();
        found.sort_by_key(|kept| std::cmp::Reverse(kept.path.len()));
        found.iter().map(|kept| format!("{}={}", kept.name, kept.value)).collect()
    }
}

/// The cookie, and whether it only removes one.
fn read(value: &str, default_path: &str) -> Option<(Kept, bool)> {
    let mut parts = value.split(';');
    let (name, value) = parts.next()?.split_once('=')?;
    let mut kept = Kept { name: name.trim().to_owned(), value: value.trim().to_owned(), path: default_path.to_owned() };
    let (mut max_age, mut expires) = (None, None);
    for part in parts {
        let (name, value) = part.split_once('=').unwrap_or((part, ""));
        match name.trim().to_ascii_lowercase().as_str() {
            "path" if value.starts_with('/') => value.trim().clone_into(&mut kept.path),
            "max-age" => max_age = value.trim().parse::<i64>().ok(),
            "expires" => expires = httpdate::parse_http_date(value.trim()).ok(),
            _ => {}
        }
    }
    // `Max-Age` wins (RFC 6265 §5.3).
    let is_over = match max_age {
        Some(seconds) => seconds <= 0,
        None => expires.is_some_and(|at| at <= SystemTime::now()),
    };
    (!kept.name.is_empty()).then_some((kept, is_over))
}

fn path_of(target: &str) -> &str {
    target.split('?').next().unwrap_or_default()
}

/// The folder of the target (RFC 6265 §5.1.4).
fn default_path(target: &str) -> &str {
    match path_of(target).rfind('/') {
        None | Some(0) => "/",
        Some(end) => &target[..end],
    }
}

fn covers(cookie_path: &str, path: &str) -> bool {
    path.strip_prefix(cookie_path)
        .is_some_and(|rest| rest.is_empty() || rest.starts_with('/') || cookie_path.ends_with('/'))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(set: &[(&str, &str)], target: &str, expect: &[&str]) {
        let mut jar = Jar::default();
        for (target, value) in set {
            jar.store(target, std::iter::once(*value));
        }
        assert_eq!(jar.pairs_for(target), expect, "{set:?} for {target}");
    }

    #[test]
    fn cookies_go_to_their_path_and_below() {
        let set = [("/a/b", "x=1"), ("/", "y=2; Path=/a; Secure; HttpOnly"), ("/c", "z=3")];
        check(&set, "/a/c?q=/", &["x=1", "y=2", "z=3"]);
        check(&set, "/ab", &["z=3"]);
        check(&set, "/", &["z=3"]);
    }

    #[test]
    fn later_ones_replace_and_remove() {
        check(&[("/", "x=1"), ("/", "x=2")], "/", &["x=2"]);
        check(&[("/", "x=1"), ("/", "x=; Max-Age=0")], "/", &[]);
        check(&[("/", "x=1"), ("/", "x=; Expires=Thu, 01 Jan 1970 00:00:00 GMT")], "/", &[]);
        check(&[("/", "x=1; Max-Age=9; Expires=Thu, 01 Jan 1970 00:00:00 GMT")], "/", &["x=1"]);
        check(&[("/", "nothing"), ("/", "=x")], "/", &[]);
    }
}
