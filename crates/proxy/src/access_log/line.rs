//! One line of the access log. Whatever a client sent is escaped: a line stays one line, and a quote ends nothing.

use std::io::Write as _;
use std::net::IpAddr;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use super::{LogFormat, LogSettings};

/// Longest piece of a client's text in a line, in bytes; the rest is left out.
const TEXT_BYTES_MAX: usize = 2048;

/// One answer.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Entry<'a> {
    pub(crate) client: IpAddr,
    pub(crate) method: &'a str,
    /// As the client sent it.
    pub(crate) target: &'a str,
    pub(crate) version: &'a str,
    pub(crate) host: &'a str,
    pub(crate) referer: Option<&'a [u8]>,
    pub(crate) agent: Option<&'a [u8]>,
    pub(crate) request_id: &'a str,
    /// 0: the client was gone before there was one.
    pub(crate) status: u16,
    pub(crate) bytes_in: u64,
    pub(crate) bytes_out: u64,
    /// Host and location; none for what is not configured.
    pub(crate) route: Option<&'a str>,
    /// The last one asked.
    pub(crate) upstream: Option<&'a str>,
    /// Upstreams asked.
    pub(crate) tries: u32,
    /// From the request's head to the end of the answer.
    pub(crate) took: Duration,
    /// From the last attempt to the head of its answer.
    pub(crate) upstream_took: Option<Duration>,
}

/// The status a log shows when the client left before there was one: what nginx has made customary.
const GONE: u16 = 499;

/// Writes a line with its end.
pub(super) fn write(out: &mut Vec<u8>, clock: &Clock, entry: &Entry<'_>, settings: &LogSettings) {
    match settings.format {
        LogFormat::Common => {
            common(out, clock, entry, settings.query);
            out.push(b'\n');
        }
        LogFormat::Clf => clf(out, clock, entry, settings.query),
        LogFormat::Json => json(out, clock, entry, settings.query),
    }
}

fn common(out: &mut Vec<u8>, clock: &Clock, entry: &Entry<'_>, query: bool) {
    put(out, format_args!("{} - - [{}] \"{} ", entry.client, clock.clf, entry.method));
    escaped(out, shown_target(entry.target, query).as_bytes(), Escape::Clf);
    put(out, format_args!(" {}\" {} ", entry.version, entry.shown_status()));
    if entry.bytes_out == 0 {
        out.push(b'-');
    } else {
        put(out, format_args!("{}", entry.bytes_out));
    }
}

fn clf(out: &mut Vec<u8>, clock: &Clock, entry: &Entry<'_>, query: bool) {
    common(out, clock, entry, query);
    out.extend_from_slice(b" \"");
    referer(out, entry, query, Escape::Clf);
    out.extend_from_slice(b"\" \"");
    escaped(out, entry.agent.unwrap_or(b"-"), Escape::Clf);
    put(
        out,
        format_args!(
            "\" {} {} {} {:.6}\n",
            entry.request_id,
            entry.upstream.unwrap_or("-"),
            entry.tries,
            entry.took.as_secs_f64()
        ),
    );
}

fn json(out: &mut Vec<u8>, clock: &Clock, entry: &Entry<'_>, query: bool) {
    put(out, format_args!("{{\"time\":\"{}.{:03}Z\",\"client\":\"{}\"", clock.rfc3339, clock.millis, entry.client));
    text(out, "id", entry.request_id.as_bytes());
    text(out, "method", entry.method.as_bytes());
    text(out, "host", entry.host.as_bytes());
    text(out, "target", shown_target(entry.target, query).as_bytes());
    text(out, "version", entry.version.as_bytes());
    put(out, format_args!(",\"status\":{}", entry.shown_status()));
    put(out, format_args!(",\"bytes_in\":{},\"bytes_out\":{}", entry.bytes_in, entry.bytes_out));
    put(out, format_args!(",\"seconds\":{:.6}", entry.took.as_secs_f64()));
    if let Some(route) = entry.route {
        text(out, "route", route.as_bytes());
    }
    if let Some(upstream) = entry.upstream {
        text(out, "upstream", upstream.as_bytes());
        put(out, format_args!(",\"tries\":{}", entry.tries));
    }
    if let Some(took) = entry.upstream_took {
        put(out, format_args!(",\"upstream_seconds\":{:.6}", took.as_secs_f64()));
    }
    if entry.referer.is_some() {
        out.extend_from_slice(b",\"referer\":\"");
        referer(out, entry, query, Escape::Json);
        out.push(b'"');
    }
    if let Some(agent) = entry.agent {
        text(out, "agent", agent);
    }
    out.extend_from_slice(b"}\n");
}

impl Entry<'_> {
    fn shown_status(&self) -> u16 {
        if self.status == 0 { GONE } else { self.status }
    }

    #[cfg(test)]
    pub(super) fn example() -> Self {
        Entry {
            client: IpAddr::from([192, 0, 2, 1]),
            method: "GET",
            target: "/",
            version: "HTTP/1.1",
            host: "app.local",
            referer: None,
            agent: None,
            request_id: "00000000000000ab",
            status: 200,
            bytes_in: 0,
            bytes_out: 13,
            route: Some("app.local/"),
            upstream: Some("127.0.0.1:9000"),
            tries: 1,
            took: Duration::from_micros(1_500),
            upstream_took: Some(Duration::from_millis(1)),
        }
    }
}

/// A target without its authority part and with its query as far as it may be seen.
fn shown_target(target: &str, query: bool) -> std::borrow::Cow<'_, str> {
    let target = without_user(target);
    if query {
        return target;
    }
    match target.split_once('?') {
        Some((path, query)) => format!("{path}?{}", names_of(query)).into(),
        None => target,
    }
}

/// `http://name:password@host/` without the name and the password.
fn without_user(target: &str) -> std::borrow::Cow<'_, str> {
    let Some((scheme, rest)) = target.split_once("://").filter(|(scheme, _)| !scheme.contains(['/', '?'])) else {
        return target.into();
    };
    let end = rest.find(['/', '?']).unwrap_or(rest.len());
    match rest[..end].rfind('@') {
        Some(at) => format!("{scheme}://{}", &rest[at + 1..]).into(),
        None => target.into(),
    }
}

/// A query whose values are replaced by `*`: it may hold tokens and what people looked for.
fn names_of(query: &str) -> String {
    let pair = |pair: &str| match pair.split_once('=') {
        Some((name, _)) => format!("{name}=*"),
        None => "*".to_owned(), // a value without a name, for all we know
    };
    query.split('&').map(pair).collect::<Vec<_>>().join("&")
}

fn referer(out: &mut Vec<u8>, entry: &Entry<'_>, query: bool, escape: Escape) {
    let referer = entry.referer.unwrap_or(b"-");
    let shown = shown_target(std::str::from_utf8(referer).unwrap_or("?"), query);
    let shown = shown.split_once('#').map_or(&*shown, |(page, _)| page);
    escaped(out, shown.as_bytes(), escape);
}

fn text(out: &mut Vec<u8>, name: &str, value: &[u8]) {
    put(out, format_args!(",\"{name}\":\""));
    escaped(out, value, Escape::Json);
    out.push(b'"');
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Escape {
    Clf,
    Json,
}

/// Text as it may stand between quotes: in CLF everything but visible ASCII as `\xNN`, in JSON as `\u00NN`.
fn escaped(out: &mut Vec<u8>, text: &[u8], escape: Escape) {
    for byte in &text[..text.len().min(TEXT_BYTES_MAX)] {
        match byte {
            b'"' | b'\\' => out.extend_from_slice(&[b'\\', *byte]),
            b' '..=b'~' => out.push(*byte),
            byte if escape == Escape::Clf => put(out, format_args!("\\x{byte:02x}")),
            byte => put(out, format_args!("\\u{byte:04x}")),
        }
    }
}

fn put(out: &mut Vec<u8>, text: std::fmt::Arguments<'_>) {
    out.write_fmt(text).expect("a vector takes any bytes");
}

/// The time of a line, written out once per second.
#[derive(Debug)]
pub(super) struct Clock {
    second: u64,
    millis: u32,
    /// As in `10/Oct/2000:13:55:36 +0000`.
    clf: String,
    /// As in `2000-10-10T13:55:36`.
    rfc3339: String,
}

impl Default for Clock {
    fn default() -> Self {
        let mut clock = Self { second: u64::MAX, millis: 0, clf: String::new(), rfc3339: String::new() };
        clock.set(UNIX_EPOCH);
        clock
    }
}

impl Clock {
    pub(super) fn set(&mut self, now: SystemTime) {
        const MONTHS: [&str; 12] = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
        let since = now.duration_since(UNIX_EPOCH).unwrap_or_default();
        self.millis = since.subsec_millis();
        if self.second == since.as_secs() {
            return;
        }
        self.second = since.as_secs();
        let (year, month, day) = date(self.second / 86_400);
        let rest = self.second % 86_400;
        let (hour, minute, second) = (rest / 3600, rest / 60 % 60, rest % 60);
        let name = MONTHS[month as usize - 1];
        self.clf = format!("{day:02}/{name}/{year}:{hour:02}:{minute:02}:{second:02} +0000");
        self.rfc3339 = format!("{year}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}");
    }
}

/// Year, month and day of a day since 1970-01-01. Years begin in March here, so that the leap day is the last one.
fn date(days: u64) -> (u64, u64, u64) {
    const DAYS_PER_ERA: u64 = 146_097; // of 400 years
    let days = days + 719_468; // since 0000-03-01
    let (era, day) = (days / DAYS_PER_ERA, days % DAYS_PER_ERA);
    let year = (day - day / 1460 + day / 36_524 - day / 146_096) / 365;
    let day = day - (365 * year + year / 4 - year / 100);
    let month = (5 * day + 2) / 153; // from March, 0
    let day = day - (153 * month + 2) / 5 + 1;
    let month = if month < 10 { month + 3 } else { month - 9 };
    (era * 400 + year + u64::from(month <= 2), month, day)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::super::LogTarget;
    use super::*;

    fn written(format: LogFormat, query: bool, entry: &Entry<'_>) -> String {
        let mut clock = Clock::default();
        clock.set(UNIX_EPOCH + Duration::from_millis(971_186_136_789));
        let mut out = Vec::new();
        write(&mut out, &clock, entry, &LogSettings { format, target: LogTarget::Stdout, query });
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn a_common_line_has_seven_fields() {
        assert_eq!(
            written(LogFormat::Common, false, &Entry::example()),
            "192.0.2.1 - - [10/Oct/2000:13:55:36 +0000] \"GET / HTTP/1.1\" 200 13\n"
        );
    }

    #[test]
    fn a_clf_line_ends_with_what_the_proxy_did() {
        let entry = Entry { agent: Some(b"curl/8"), ..Entry::example() };
        assert_eq!(
            written(LogFormat::Clf, false, &entry),
            "192.0.2.1 - - [10/Oct/2000:13:55:36 +0000] \"GET / HTTP/1.1\" 200 13 \"-\" \"curl/8\" \
             00000000000000ab 127.0.0.1:9000 1 0.001500\n"
        );
    }

    #[test]
    fn a_json_line_is_an_object() {
        let line = written(LogFormat::Json, false, &Entry { agent: Some(b"a\"\x01\xe9"), ..Entry::example() });
        let value: serde_json::Value = serde_json::from_str(&line).unwrap();
        assert_eq!(value["time"], "2000-10-10T13:55:36.789Z");
        assert_eq!(value["status"], 200);
        assert_eq!(value["seconds"], 0.0015);
        assert_eq!(value["agent"], "a\"\u{1}é");
        assert_eq!(value["upstream"], "127.0.0.1:9000");
        assert_eq!(line.matches('\n').count(), 1);
    }

    #[test]
    fn a_client_that_left_has_499_and_no_upstream_is_a_dash() {
        let entry = Entry { status: 0, bytes_out: 0, upstream: None, tries: 0, ..Entry::example() };
        assert!(written(LogFormat::Clf, false, &entry).contains("\" 499 - \"-\" \"-\" 00000000000000ab - 0 "));
    }

    #[test]
    fn values_of_a_query_are_secrets_until_somebody_asks() {
        let target = "/x?token=s3cret&q=a%20b&flag&=y";
        let entry = Entry { target, referer: Some(b"http://u:p@app.local/?session=abc#frag=1"), ..Entry::example() };
        for format in [LogFormat::Clf, LogFormat::Json] {
            let line = written(format, false, &entry);
            assert!(line.contains("/x?token=*&q=*&*&=*"), "{line}");
            assert!(line.contains("http://app.local/?session=*"), "{line}");
            for secret in ["s3cret", "a%20b", "flag", "abc", "frag", "u:p"] {
                assert!(!line.contains(secret), "{secret} in {line}");
            }
        }
        assert!(written(LogFormat::Clf, true, &entry).contains(target));
        assert!(!written(LogFormat::Clf, true, &entry).contains("u:p"), "never a password");
    }

    #[test]
    fn what_a_client_sends_cannot_break_a_line() {
        let entry = Entry { agent: Some(b"x\"\n127.0.0.1 - - \\"), ..Entry::example() };
        let line = written(LogFormat::Clf, false, &entry);
        assert!(line.contains(r#""x\"\x0a127.0.0.1 - - \\" "#), "{line}");
        assert_eq!(line.matches('\n').count(), 1);
    }

    #[test]
    fn every_day_has_its_date() {
        for (days, expect) in [
            (0, (1970, 1, 1)),
            (11_016, (2000, 2, 29)),
            (11_017, (2000, 3, 1)),
            (20_514, (2026, 3, 2)),
            (47_540, (2100, 2, 28)),
            (47_541, (2100, 3, 1)),
            (19_722, (2023, 12, 31)),
            (19_723, (2024, 1, 1)),
        ] {
            assert_eq!(date(days), expect, "{days}");
        }
    }
}
