//! How long a file may be kept without asking: `Cache-Control`, by the file's name.

/// What a cache may do with a file (RFC 9111 §5.2.2).
///
/// ```
/// use weaprous::{App, Files, Freshness, prelude::GET};
///
/// assert_eq!(Freshness::by_name("app.3f9a1c2b.js"), Freshness::Immutable);
/// assert_eq!(Freshness::by_name("index.html"), Freshness::Revalidate);
///
/// let files = Files::dir(".")?.freshness(|name| match name.ends_with(".png") {
///     true => Freshness::Seconds(3600),
///     false => Freshness::by_name(name),
/// });
/// App::new().route("/{path..}", [GET], files);
/// # Ok::<(), std::io::Error>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Freshness {
    /// It may be kept, and is asked about each time: `no-cache`. A changed page shows at once.
    Revalidate,
    /// It is good for this many seconds: `max-age`.
    Seconds(u32),
    /// It never changes under this name: `max-age` of a year and `immutable` (RFC 8246).
    Immutable,
    /// It is not kept at all: `no-store`.
    NoStore,
}

impl Freshness {
    /// The rule unless another is given: [`Freshness::Immutable`] for names that carry a hash of the content, such as
    /// `app.3f9a1c2b.js` or `index-BkD3f9a1.css`, and [`Freshness::Revalidate`] for all others, pages always.
    pub fn by_name(name: &str) -> Self {
        let file = name.rsplit('/').next().unwrap_or(name);
        if is_hashed(file) { Self::Immutable } else { Self::Revalidate }
    }

    pub(crate) fn field(self) -> String {
        match self {
            Self::Revalidate => "no-cache".to_owned(),
            Self::Seconds(seconds) => format!("public, max-age={seconds}"),
            Self::Immutable => format!("public, max-age={YEAR_S}, immutable"),
            Self::NoStore => "no-store".to_owned(),
        }
    }
}

const YEAR_S: u32 = 365 * 24 * 60 * 60;
/// Shortest hash that bundlers write into names.
const HASH_CHARS_MIN: usize = 8;
/// Longest: SHA-256 in hexadecimal.
const HASH_CHARS_MAX: usize = 64;
/// Endings of files that only bundlers name so; for others eight mixed characters are no proof (`Image001.jpg`).
const BUNDLED: [&str; 7] = ["js", "mjs", "css", "map", "wasm", "woff", "woff2"];
/// Endings of pages: whatever their names look like, people come back to the same address.
const PAGES: [&str; 4] = ["html", "htm", "xhtml", "pdf"];

/// Whether a part of the name, before its ending, is a hash. A date (`report-20240131`) is none: a hash is taken for
/// one only with digits and letters both.
fn is_hashed(file: &str) -> bool {
    let Some((stem, ending)) = file.rsplit_once('.') else { return false };
    let ending = ending.to_ascii_lowercase();
    if PAGES.contains(&ending.as_str()) {
        return false;
    }
    let is_bundled = BUNDLED.contains(&ending.as_str());
    // `app.3f9a1c2b.min.js`: the hash need not stand last. What stands first is the name itself.
    let by_dots = stem.split('.').skip(1).any(|part| is_hash(part, is_bundled));
    let by_dash = stem.split_once('-').is_some_and(|_| {
        // Vite's alphabet has `-` itself, so its eight characters are cut off by length.
        let tail = stem.len().checked_sub(HASH_CHARS_MIN + 1).and_then(|at| stem.get(at..));
        tail.and_then(|tail| tail.strip_prefix('-')).is_some_and(|part| is_hash(part, is_bundled))
            || stem.rsplit('-').next().is_some_and(|part| is_hash(part, is_bundled))
    });
    by_dots || by_dash
}

fn is_hash(part: &str, is_bundled: bool) -> bool {
    if !(HASH_CHARS_MIN..=HASH_CHARS_MAX).contains(&part.len()) {
        return false;
    }
    let has = |kind: fn(&u8) -> bool| part.as_bytes().iter().any(kind);
    let is_hex = part.bytes().all(|byte| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte));
    if is_hex {
        return has(u8::is_ascii_digit) && has(u8::is_ascii_alphabetic);
    }
    let is_base64 = part.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'));
    let is_mixed = has(u8::is_ascii_uppercase) && has(u8::is_ascii_lowercase) && has(u8::is_ascii_digit);
    is_bundled && part.len() == HASH_CHARS_MIN && is_base64 && is_mixed
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_names_with_a_hash_never_change() {
        for name in [
            "app.3f9a1c2b.js",
            "assets/app.3f9a1c2b.min.css",
            "index-BkD3f9a1.js",
            "index-B-D3f9_1.js",
            "photo.0123456789abcdef0123456789abcdef.jpg",
            "chunk-3f9a1c2b4d.mjs",
        ] {
            assert_eq!(Freshness::by_name(name), Freshness::Immutable, "{name}");
        }
        for name in [
            "index.html",
            "index.3f9a1c2b.html",
            "report-20240131.csv",
            "holiday-Image001.jpg",
            "app.js",
            "app.min.js",
            "deadbeef.js",
            "jquery-3.7.1.js",
            "background.js",
            "3f9a1c2b.js",
            "my-component.js",
            "a.3f9a1c2.js",
            "noending-3f9a1c2b",
        ] {
            assert_eq!(Freshness::by_name(name), Freshness::Revalidate, "{name}");
        }
    }
}
