//! Cookies (RFC 6265): read leniently as user agents send them, written strictly so that no value can smuggle an
//! attribute or a header in.

use std::fmt;
use std::time::Duration;

/// Longest name and value together, in bytes: user agents drop what is longer (RFC 6265 §6.1).
pub const COOKIE_BYTES_MAX: usize = 4096;
/// Longest lifetime that is sent; browsers cap it near here too (RFC 6265bis §5.5).
pub const MAX_AGE_MAX: Duration = Duration::from_hours(400 * 24);

/// Which cross-site requests carry the cookie.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SameSite {
    /// None.
    Strict,
    /// Only top-level navigation by a safe method.
    Lax,
    /// All; the cookie must be `Secure`.
    None,
}

/// Why a cookie was refused. It is the application's mistake, or an attack through it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CookieError {
    /// The name is no token.
    #[error("cookie name is empty or holds a character no token has")]
    Name,
    /// The value holds a control, a space, a quote, a comma, a semicolon, a backslash or a non-ASCII character.
    #[error("cookie value holds a character that is not allowed; encode it first")]
    Value,
    /// Path or domain holds a control or a semicolon.
    #[error("cookie attribute holds a control character or a semicolon")]
    Attribute,
    /// Name and value are longer than [`COOKIE_BYTES_MAX`].
    #[error("cookie is longer than {COOKIE_BYTES_MAX} bytes")]
    TooLong,
    /// `SameSite=None` or a name prefix that promises `Secure` without it (RFC 6265bis §4.1.3).
    #[error("cookie needs Secure (and, for __Host-, Path=/ and no Domain)")]
    NotSecure,
}

/// Describes a cookie to set; [`CookieBuilder::build`] checks it.
///
/// ```
/// use weaprous::cookie::{CookieBuilder, SameSite};
/// let cookie = CookieBuilder::new("theme", "dark").path("/").same_site(SameSite::Lax).build().expect("plain ASCII");
/// assert_eq!(cookie.as_str(), "theme=dark; Path=/; SameSite=Lax");
/// assert!(CookieBuilder::new("theme", "dark; HttpOnly").build().is_err());
/// ```
#[derive(Debug, Clone)]
pub struct CookieBuilder {
    name: String,
    value: String,
    path: Option<String>,
    domain: Option<String>,
    max_age: Option<Duration>,
    same_site: Option<SameSite>,
    http_only: bool,
    secure: bool,
}

impl CookieBuilder {
    /// A cookie for this session of the user agent, for the folder of the current path.
    pub fn new(name: impl Into<String>, value: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            value: value.into(),
            path: None,
            domain: None,
            max_age: None,
            same_site: None,
            http_only: false,
            secure: false,
        }
    }

    /// A cookie that removes the one of this name and path from the user agent.
    ///
    /// ```
    /// use std::time::Duration;
    /// use weaprous::cookie::{COOKIE_BYTES_MAX, CookieBuilder, CookieError, MAX_AGE_MAX, SetCookie};
    ///
    /// let cookie = CookieBuilder::new("seen", "7").domain("example.org").max_age(MAX_AGE_MAX * 2).secure(true);
    /// let cookie: SetCookie = cookie.build()?;
    /// assert_eq!(cookie.as_str(), "seen=7; Domain=example.org; Max-Age=34560000; Secure");
    /// assert_eq!(CookieBuilder::removal("seen").build()?.as_str(), "seen=; Path=/; Max-Age=0");
    ///
    /// let long = "x".repeat(COOKIE_BYTES_MAX);
    /// assert_eq!(CookieBuilder::new("seen", long).build().unwrap_err(), CookieError::TooLong);
    /// # Ok::<(), CookieError>(())
    /// ```
    pub fn removal(name: impl Into<String>) -> Self {
        Self::new(name, "").path("/").max_age(Duration::ZERO)
    }

    /// Sends the cookie for this path and below.
    pub fn path(mut self, path: impl Into<String>) -> Self {
        self.path = Some(path.into());
        self
    }

    /// Sends the cookie to this domain and below, instead of to this host alone.
    pub fn domain(mut self, domain: impl Into<String>) -> Self {
        self.domain = Some(domain.into());
        self
    }

    /// Keeps the cookie this long, at most [`MAX_AGE_MAX`].
    pub fn max_age(mut self, max_age: Duration) -> Self {
        self.max_age = Some(max_age.min(MAX_AGE_MAX));
        self
    }

    /// Limits cross-site use.
    pub fn same_site(mut self, same_site: SameSite) -> Self {
        self.same_site = Some(same_site);
        self
    }

    /// Hides the cookie from scripts.
    pub fn http_only(mut self) -> Self {
        self.http_only = true;
        self
    }

    /// Sends the cookie over TLS only, if `secure`.
    pub fn secure(mut self, secure: bool) -> Self {
        self.secure = secure;
        self
    }

    /// Checks everything and renders the field value.
    ///
    /// # Errors
    /// See [`CookieError`].
    pub fn build(self) -> Result<SetCookie, CookieError> {
        if self.name.is_empty() || !self.name.bytes().all(is_token_byte) {
            return Err(CookieError::Name);
        }
        if !self.value.bytes().all(is_cookie_octet) {
            return Err(CookieError::Value);
        }
        if self.name.len() + self.value.len() > COOKIE_BYTES_MAX {
            return Err(CookieError::TooLong);
        }
        let attribute_is_clean = |value: &String| value.bytes().all(|b| (b' '..=b'~').contains(&b) && b != b';');
        if ![&self.path, &self.domain].into_iter().flatten().all(attribute_is_clean) {
            return Err(CookieError::Attribute);
        }
        if self.must_be_secure() && !self.secure || self.breaks_host_prefix() {
            return Err(CookieError::NotSecure);
        }
        Ok(SetCookie(self.to_string()))
    }

    fn must_be_secure(&self) -> bool {
        self.same_site == Some(SameSite::None) || self.has_prefix("__Secure-") || self.has_prefix("__Host-")
    }

    fn breaks_host_prefix(&self) -> bool {
        self.has_prefix("__Host-") && (self.domain.is_some() || self.path.as_deref() != Some("/"))
    }

    fn has_prefix(&self, prefix: &str) -> bool {
        self.name.get(..prefix.len()).is_some_and(|start| start.eq_ignore_ascii_case(prefix))
    }
}

impl fmt::Display for CookieBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}={}", self.name, self.value)?;
        if let Some(path) = &self.path {
            write!(f, "; Path={path}")?;
        }
        if let Some(domain) = &self.domain {
            write!(f, "; Domain={domain}")?;
        }
        if let Some(age) = self.max_age {
            write!(f, "; Max-Age={}", age.as_secs())?;
        }
        match self.same_site {
            Some(SameSite::Strict) => f.write_str("; SameSite=Strict")?,
            Some(SameSite::Lax) => f.write_str("; SameSite=Lax")?,
            Some(SameSite::None) => f.write_str("; SameSite=None")?,
            None => {}
        }
        if self.secure {
            f.write_str("; Secure")?;
        }
        if self.http_only {
            f.write_str("; HttpOnly")?;
        }
        Ok(())
    }
}

/// A checked value for `Set-Cookie`. As part of a response it adds the field: `(cookie, "welcome")`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SetCookie(String);

impl SetCookie {
    /// The field value.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// The cookies of a request. As an extractor it never fails.
///
/// ```
/// use weaprous::prelude::*;
/// use weaprous::testing::Client;
///
/// let app = App::new().route("/", [GET], async |cookies: Cookies| cookies.get("theme").unwrap_or("light").to_owned());
/// assert_eq!(Client::new(app).get("/").cookie("theme", "dark").send().text(), "dark");
/// ```
///
/// Of several cookies of one name the first counts: user agents send the most specific path first
/// (RFC 6265 §5.4).
#[derive(Debug, Clone, Default)]
pub struct Cookies {
    pairs: Vec<(String, String)>,
}

impl Cookies {
    /// Reads all `Cookie` field values. Parts without `=` are passed over; quotes around a value are taken off.
    pub fn parse<'a>(values: impl IntoIterator<Item = &'a [u8]>) -> Self {
        let pairs = values
            .into_iter()
            .filter_map(|value| std::str::from_utf8(value).ok())
            .flat_map(|value| value.split(';'))
            .filter_map(parse_pair)
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .collect();
        Self { pairs }
    }

    /// The value of the cookie of this name.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.iter().find(|(key, _)| *key == name).map(|(_, value)| value)
    }

    /// Names and values in the order sent.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.pairs.iter().map(|(name, value)| (name.as_str(), value.as_str()))
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.pairs.is_empty()
    }
}

/// The first cookie of this name, found without allocating.
pub(crate) fn find<'a>(values: impl IntoIterator<Item = &'a [u8]>, name: &str) -> Option<&'a str> {
    values
        .into_iter()
        .filter_map(|value| std::str::from_utf8(value).ok())
        .flat_map(|value| value.split(';'))
        .filter_map(parse_pair)
        .find(|(key, _)| *key == name)
        .map(|(_, value)| value)
}

fn parse_pair(part: &str) -> Option<(&str, &str)> {
    let (name, value) = part.split_once('=')?;
    let value = value.trim();
    let unquoted = value.strip_prefix('"').and_then(|rest| rest.strip_suffix('"')).unwrap_or(value);
    let name = name.trim();
    (!name.is_empty()).then_some((name, unquoted))
}

/// `tchar` of RFC 9110 §5.6.2.
pub(crate) fn is_token_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

/// `cookie-octet` of RFC 6265 §4.1.1.
fn is_cookie_octet(byte: u8) -> bool {
    byte.is_ascii_graphic() && !b"\",;\\".contains(&byte)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn refuse(builder: CookieBuilder, expect: &CookieError) {
        assert_eq!(builder.build().as_ref(), Err(expect));
    }

    #[test]
    fn attributes_are_written_in_order() {
        let cookie = CookieBuilder::new("session", "abc")
            .path("/")
            .max_age(Duration::from_mins(1))
            .same_site(SameSite::Lax)
            .secure(true)
            .http_only()
            .build()
            .unwrap();
        assert_eq!(cookie.as_str(), "session=abc; Path=/; Max-Age=60; SameSite=Lax; Secure; HttpOnly");
        assert_eq!(CookieBuilder::removal("auth").build().unwrap().as_str(), "auth=; Path=/; Max-Age=0");
    }

    #[test]
    fn nothing_can_be_smuggled_in() {
        for value in ["a;b", "a\r\nSet-Cookie: x=y", "a b", "a,b", "\"a\"", "a\\b", "é", "a\0"] {
            refuse(CookieBuilder::new("n", value), &CookieError::Value);
        }
        for name in ["", "a b", "a=b", "a;b", "a\r\n", "é"] {
            refuse(CookieBuilder::new(name, "v"), &CookieError::Name);
        }
        for path in ["/;HttpOnly", "/\r\nX: y", "/\0", "/é"] {
            refuse(CookieBuilder::new("n", "v").path(path), &CookieError::Attribute);
            refuse(CookieBuilder::new("n", "v").domain(path), &CookieError::Attribute);
        }
        refuse(CookieBuilder::new("n", "v".repeat(COOKIE_BYTES_MAX)), &CookieError::TooLong);
    }

    #[test]
    fn huge_lifetimes_are_clamped() {
        let cookie = CookieBuilder::new("n", "v").max_age(Duration::MAX).build().unwrap();
        assert_eq!(cookie.as_str(), "n=v; Max-Age=34560000");
    }

    #[test]
    fn promises_of_security_are_kept() {
        refuse(CookieBuilder::new("n", "v").same_site(SameSite::None), &CookieError::NotSecure);
        refuse(CookieBuilder::new("__Secure-n", "v"), &CookieError::NotSecure);
        refuse(CookieBuilder::new("__Host-n", "v").secure(true), &CookieError::NotSecure);
        refuse(CookieBuilder::new("__host-n", "v").secure(true).path("/").domain("x"), &CookieError::NotSecure);
        assert!(CookieBuilder::new("__Host-n", "v").secure(true).path("/").build().is_ok());
    }

    #[test]
    fn requests_are_read_leniently() {
        let check = |fields: &[&str], expect: &[(&str, &str)]| {
            let cookies = Cookies::parse(fields.iter().map(|field| field.as_bytes()));
            assert_eq!(cookies.iter().collect::<Vec<_>>(), expect, "{fields:?}");
            for (name, _) in expect {
                assert_eq!(find(fields.iter().map(|field| field.as_bytes()), name), cookies.get(name));
            }
        };
        check(&["a=1; b=2"], &[("a", "1"), ("b", "2")]);
        check(&["a=1", "b=2"], &[("a", "1"), ("b", "2")]);
        check(&["a=1;b=\"2\";;junk; =x;a=3"], &[("a", "1"), ("b", "2"), ("a", "3")]);
        check(&["a=b=c"], &[("a", "b=c")]);
        check(&[""], &[]);
    }

    #[test]
    fn the_first_of_two_counts() {
        assert_eq!(Cookies::parse([b"a=1; a=2".as_slice()]).get("a"), Some("1"));
        assert_eq!(Cookies::parse([b"A=1".as_slice()]).get("a"), None);
    }
}
