//! Limits and deadlines of a server, as an operator sets them: `--limit NAME=VALUE`.

use clap::Args;
use engine::Settings;
use std::fmt::Write as _;
use std::str::FromStr;
use std::time::Duration;

/// Longest deadline that can be asked for.
const TIME_MAX: Duration = Duration::from_hours(24);
/// Most of anything that is merely counted.
const COUNT_MAX: u64 = 1_000_000_000;

/// `--limit`, as often as wanted.
#[derive(Debug, Clone, Default, Args)]
pub(crate) struct Limits {
    /// Sets a limit or a deadline of the server; may be repeated (--help lists them)
    #[arg(long, value_name = "NAME=VALUE", long_help = help())]
    limit: Vec<Limit>,
}

impl Limits {
    /// These settings, but for what was asked for. Of two values for one limit the later holds.
    pub(crate) fn over(&self, mut settings: Settings) -> Settings {
        for Limit { row, value } in &self.limit {
            row.place.set(&mut settings, *value);
        }
        settings
    }
}

/// One limit with its value, in milliseconds, bytes or pieces.
#[derive(Debug, Clone)]
pub(crate) struct Limit {
    row: &'static Row,
    value: u64,
}

/// A limit that can be set.
#[derive(Debug)]
struct Row {
    name: &'static str,
    place: Place,
    /// What it bounds, and what happens beyond it.
    meaning: &'static str,
}

/// Where it is kept, and what can be said of it.
#[derive(Debug)]
enum Place {
    Time(fn(&mut Settings) -> &mut Duration),
    /// Bytes or pieces: how it is read and written, and from where to where it may be.
    Number(fn(&Settings) -> u64, fn(&mut Settings, u64), u64, u64),
}

/// A head is never longer.
const HEAD_MAX: u64 = engine::Limits::HEAD_BYTES_CEILING as u64;

const ROWS: [Row; 15] = [
    Row {
        name: "head-bytes",
        place: Place::Number(
            |it| it.limits.head_bytes_max as u64,
            |it, to| it.limits.head_bytes_max = size(to),
            256,
            HEAD_MAX,
        ),
        meaning: "head of a request, all fields together: 431",
    },
    Row {
        name: "fields",
        place: Place::Number(|it| it.limits.fields_max as u64, |it, to| it.limits.fields_max = size(to), 1, 10_000),
        meaning: "fields in a head: 431",
    },
    Row {
        name: "target-bytes",
        place: Place::Number(
            |it| it.limits.target_bytes_max as u64,
            |it, to| it.limits.target_bytes_max = size(to),
            1,
            HEAD_MAX,
        ),
        meaning: "path with query: 414",
    },
    Row {
        name: "head-timeout",
        place: Place::Time(|it| &mut it.head_timeout),
        meaning: "a whole head, or a TLS handshake, from its first byte on: 408",
    },
    Row {
        name: "body-idle-timeout",
        place: Place::Time(|it| &mut it.body_idle_timeout),
        meaning: "silence inside of a request's content: 408",
    },
    Row {
        name: "write-idle-timeout",
        place: Place::Time(|it| &mut it.write_idle_timeout),
        meaning: "an answer of which nothing is taken: cut off",
    },
    Row {
        name: "keep-alive-timeout",
        place: Place::Time(|it| &mut it.keep_alive_timeout),
        meaning: "silence between two requests: closed",
    },
    Row {
        name: "rate",
        place: Place::Number(|it| it.rate_min, |it, to| it.rate_min = to, 0, COUNT_MAX),
        meaning: "bytes per second that content, either way, must reach on average: 408, or cut off; 0 for any",
    },
    Row {
        name: "rate-grace",
        place: Place::Time(|it| &mut it.rate_grace),
        meaning: "how long a transfer is waited for before its rate counts",
    },
    Row {
        name: "half-closed-timeout",
        place: Place::Time(|it| &mut it.half_closed_timeout),
        meaning: "silence in an answer without an end to a client that has closed its sending side: cut off",
    },
    Row {
        name: "drain-bytes",
        place: Place::Number(|it| it.drain_bytes_max, |it, to| it.drain_bytes_max = to, 0, COUNT_MAX),
        meaning: "content nobody wants that is read away to keep a connection: closed",
    },
    Row {
        name: "requests",
        place: Place::Number(
            |it| it.requests_per_connection_max.into(),
            |it, to| it.requests_per_connection_max = count(to),
            1,
            COUNT_MAX,
        ),
        meaning: "requests on one connection: closed after the last",
    },
    Row {
        name: "streams",
        place: Place::Number(|it| it.http2_streams_max.into(), |it, to| it.http2_streams_max = count(to), 1, 10_000),
        meaning: "requests at a time on one connection of HTTP/2",
    },
    Row {
        name: "connections",
        place: Place::Number(
            |it| it.connections_per_worker_max as u64,
            |it, to| it.connections_per_worker_max = size(to),
            1,
            COUNT_MAX,
        ),
        meaning: "connections at a time per worker, of which there is one per core: 503",
    },
    Row {
        name: "connections-per-address",
        place: Place::Number(
            |it| it.connections_per_address_max as u64,
            |it, to| it.connections_per_address_max = size(to),
            1,
            COUNT_MAX,
        ),
        meaning: "connections at a time from one address, or /64 of IPv6; this machine is not counted: 503",
    },
];

fn size(value: u64) -> usize {
    usize::try_from(value).unwrap_or(usize::MAX)
}

fn count(value: u64) -> u32 {
    u32::try_from(value).unwrap_or(u32::MAX)
}

impl Place {
    fn set(&self, settings: &mut Settings, value: u64) {
        match self {
            Self::Time(place) => *place(settings) = Duration::from_millis(value),
            Self::Number(_, set, ..) => set(settings, value),
        }
    }

    /// The value in settings, as it would be typed.
    fn shown(&self, settings: &Settings) -> String {
        match self {
            Self::Time(place) => {
                let time = *place(&mut settings.clone());
                match (time.as_secs(), time.subsec_millis()) {
                    (seconds, 0) => format!("{seconds}s"),
                    _ => format!("{}ms", time.as_millis()),
                }
            }
            Self::Number(value, ..) => match value(settings) {
                kibi if kibi >= 1024 && kibi % 1024 == 0 => format!("{}k", kibi / 1024),
                other => other.to_string(),
            },
        }
    }

    /// What was typed, or what could have been.
    fn read(&self, text: &str) -> Result<u64, String> {
        match self {
            Self::Time(_) => {
                let wanted = || {
                    format!("a time is wanted, such as 500ms, 10s or 2m, at most {} hours", TIME_MAX.as_secs() / 3600)
                };
                let value = number(text, &[("ms", 1), ("s", 1000), ("m", 60 * 1000), ("h", 60 * 60 * 1000)])
                    .ok_or_else(wanted)?;
                if value > 0 && u128::from(value) <= TIME_MAX.as_millis() { Ok(value) } else { Err(wanted()) }
            }
            Self::Number(_, _, least, most) => {
                let wanted = || format!("a number from {least} to {most} is wanted; k stands for 1024");
                let value = number(text, &[("", 1), ("k", 1024), ("m", 1024 * 1024)]).ok_or_else(wanted)?;
                if (*least..=*most).contains(&value) { Ok(value) } else { Err(wanted()) }
            }
        }
    }
}

/// Digits and one of these units.
fn number(text: &str, units: &[(&str, u64)]) -> Option<u64> {
    let (digits, unit) = text.split_at(text.find(|letter: char| !letter.is_ascii_digit()).unwrap_or(text.len()));
    let (_, factor) = units.iter().find(|(name, _)| *name == unit)?;
    digits.parse::<u64>().ok()?.checked_mul(*factor)
}

impl FromStr for Limit {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (name, value) = text.split_once('=').ok_or("NAME=VALUE is wanted, such as head-timeout=5s")?;
        let row = ROWS.iter().find(|row| row.name == name).ok_or_else(|| {
            let names: Vec<&str> = ROWS.iter().map(|row| row.name).collect();
            format!("there is no limit {name:?}, but there are {}", names.join(", "))
        })?;
        Ok(Self { row, value: row.place.read(value)? })
    }
}

/// All limits with what they are without being set.
fn help() -> String {
    let defaults = Settings::default();
    let mut text = "Sets a limit or a deadline of the server; may be repeated:\n".to_owned();
    for Row { name, place, meaning } in &ROWS {
        // Writing to a string cannot fail.
        let _ = write!(text, "\n  {name}={}: {meaning}", place.shown(&defaults));
    }
    text
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn over(limits: &[&str]) -> Settings {
        Limits { limit: limits.iter().map(|text| text.parse().unwrap()).collect() }.over(Settings::default())
    }

    #[test]
    fn every_limit_can_be_set_and_is_what_was_typed() {
        for Row { name, place, .. } in &ROWS {
            let value = match place {
                Place::Time(_) => "1234ms",
                Place::Number(..) => "321",
            };
            let before = format!("{:?}", Settings::default());
            let after = over(&[&format!("{name}={value}")]);
            assert_eq!(place.shown(&after), value, "{name}");
            assert_ne!(format!("{after:?}"), before, "{name}");
            let again = over(&[&format!("{name}={value}"), &format!("{name}={}", place.shown(&Settings::default()))]);
            assert_eq!(format!("{again:?}"), before, "{name}: the default can be typed, and the later value holds");
        }
    }

    #[test]
    fn units_are_understood() {
        assert_eq!(over(&["head-bytes=16k"]).limits.head_bytes_max, 16 * 1024);
        assert_eq!(over(&["head-timeout=2m"]).head_timeout, Duration::from_mins(2));
        assert_eq!(over(&["rate=0"]).rate_min, 0);
        assert_eq!(over(&["drain-bytes=1m"]).drain_bytes_max, 1024 * 1024);
    }

    #[test]
    fn what_makes_no_sense_is_refused_with_what_would() {
        let check = |text: &str, expect: &str| {
            let error = text.parse::<Limit>().unwrap_err();
            assert!(error.contains(expect), "{text}: {error}");
        };
        check("head-timeout", "NAME=VALUE");
        check("heads=3", "connections-per-address");
        for time in ["", "0s", "-1s", "10", "1.5s", "25h", "99999999999999999999s", "18446744073709551615h", "5 s"] {
            check(&format!("head-timeout={time}"), "500ms");
        }
        for number in ["", "0", "-1", "+1", "1g", "0x10", "18446744073709551616", "18446744073709551615m"] {
            check(&format!("fields={number}"), "from 1 to 10000");
        }
        check("head-bytes=64k", "to 65535");
    }

    #[test]
    fn the_page_for_operators_lists_them_all_with_their_defaults() {
        let page = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/operations.md");
        let page = std::fs::read_to_string(page).unwrap();
        for Row { name, place, meaning } in &ROWS {
            let line = format!("| `{name}` | {} | {meaning} |", place.shown(&Settings::default()));
            assert!(page.contains(&line), "docs/operations.md lacks: {line}");
        }
    }
}
