//! How other programs may read a path: they decode it, end it at a NUL, merge its slashes, resolve its dots, drop the
//! parameters of its segments, or do only some of that. Pure.

/// Whether there is one way only to read a path: without escapes, parameters, doubled slashes and segments that begin
/// with a dot.
pub(crate) fn is_plain(path: &str) -> bool {
    let mut before = 0;
    path.bytes().all(|byte| {
        let follows_slash = std::mem::replace(&mut before, byte) == b'/';
        !(matches!(byte, b'%' | b';' | b'\\') || follows_slash && matches!(byte, b'/' | b'.'))
    })
}

/// All readings of a path that differ from it: each step is one that some program takes and another does not.
pub(crate) fn readings(path: &str) -> Vec<String> {
    let mut found: Vec<String> = vec![path.to_owned()];
    // Parameters may be looked for before or after escapes are decoded.
    for step in [without_parameters, decoded, without_parameters, before_nul, with_single_slashes, without_dots] {
        for index in 0..found.len() {
            let other = step(&found[index]);
            if !found.contains(&other) {
                found.push(other);
            }
        }
    }
    found.swap_remove(0);
    found
}

/// Each segment up to its `;`, as servlet containers take it.
fn without_parameters(path: &str) -> String {
    let segments = path.split('/').map(|segment| segment.split(';').next().unwrap_or_default());
    segments.collect::<Vec<_>>().join("/")
}

/// Every escape decoded once, those of slashes as well, and backslashes made slashes, as on Windows.
fn decoded(path: &str) -> String {
    let mut bytes = Vec::with_capacity(path.len());
    let mut rest = path.as_bytes();
    while let [first, behind @ ..] = rest {
        let escaped = match rest {
            [b'%', high, low, ..] => hex(*high).zip(hex(*low)).map(|(high, low)| high << 4 | low),
            _ => None,
        };
        let byte = escaped.unwrap_or(*first);
        bytes.push(if byte == b'\\' { b'/' } else { byte });
        rest = if escaped.is_some() { &rest[3..] } else { behind };
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

fn hex(digit: u8) -> Option<u8> {
    char::from(digit).to_digit(16).map(|value| value as u8)
}

/// What a program in C may take for the whole.
fn before_nul(path: &str) -> String {
    path.split('\0').next().unwrap_or_default().to_owned()
}

fn with_single_slashes(path: &str) -> String {
    let mut single = String::with_capacity(path.len());
    for c in path.chars() {
        if c != '/' || !single.ends_with('/') {
            single.push(c);
        }
    }
    single
}

/// RFC 3986 §5.2.4.
fn without_dots(path: &str) -> String {
    let mut kept: Vec<&str> = Vec::new();
    let mut segments = path.strip_prefix('/').unwrap_or(path).split('/').peekable();
    while let Some(segment) = segments.next() {
        let is_last = segments.peek().is_none();
        match segment {
            "." if is_last => kept.push(""),
            "." => {}
            ".." => {
                kept.pop();
                if is_last {
                    kept.push("");
                }
            }
            segment => kept.push(segment),
        }
    }
    format!("/{}", kept.join("/"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_plain_path_has_no_other_reading() {
        for path in ["/", "/a/b.c/d-e_f~g", "/a.b/", "/a./b..", "*", ""] {
            assert!(is_plain(path), "{path}");
        }
        for path in ["/a%20b", "/a;b", "//", "/a//b", "/./a", "/.a", "/..", "/a\\b"] {
            assert!(!is_plain(path), "{path}");
        }
    }

    #[test]
    fn each_step_does_one_thing() {
        assert_eq!(without_parameters("/a;b=c/..;/d;;e"), "/a/../d");
        assert_eq!(decoded("/%61%2F%5c%2525%zz%"), "/a//%25%zz%");
        assert_eq!(decoded("/%c3%a9%ff"), "/\u{e9}\u{fffd}");
        assert_eq!(with_single_slashes("//a///b/"), "/a/b/");
        for (path, expect) in [
            ("/a/b/c/./../../g", "/a/g"),
            ("/../../a", "/a"),
            ("/a/..", "/"),
            ("/a/b/..", "/a/"),
            ("/a/.", "/a/"),
            ("/a//../b", "/a/b"),
            ("/.a/..b/", "/.a/..b/"),
        ] {
            assert_eq!(without_dots(path), expect, "{path}");
        }
    }

    #[test]
    fn steps_are_taken_together_and_one_by_one() {
        let all = readings("/x;y/%2e%2e//admin");
        for expect in ["/x/%2e%2e//admin", "/x;y/../admin", "//admin", "/admin", "/x;y/..//admin"] {
            assert!(all.iter().any(|reading| reading == expect), "{expect}: {all:?}");
        }
        assert!(all.len() < 16, "{all:?}");
        assert!(readings("/admin%3bx/y").iter().any(|reading| reading == "/admin/y"));
        assert!(readings("/.well-known/a").is_empty());
    }
}
