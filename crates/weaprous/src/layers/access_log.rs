//! One line per request, for people and programs that count. Written by a thread of its own: a slow disk or a full
//! pipe costs lines, which are counted, and never time of a request.

use crate::files::rfc3339;
use crate::handler::LocalBoxFuture;
use crate::layer::{Layer, Next};
use crate::request::Request;
use engine::Response;
use std::fmt::{self, Write as _};
use std::io::{BufWriter, Write};
use std::net::IpAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, TryRecvError, sync_channel};
use std::thread::JoinHandle;
use std::time::{Instant, SystemTime};

/// How lines are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum LogFormat {
    /// The Common Log Format with referrer and user agent ("combined"), as tools have read for decades.
    #[default]
    Combined,
    /// One JSON object per line, with the duration and the request's id.
    Json,
}

/// Writes one line for each request when its response begins. Where there is none, since the handler panicked or the
/// client left before, the line says 500 or 499, as nginx does.
///
/// The query is left out, as are all fields but `Referer` (without its query) and `User-Agent`: no line holds a token.
/// Characters that could forge a line are escaped.
///
/// ```
/// use weaprous::{layers::{AccessLog, LogFormat}, prelude::*};
/// App::new().layer(AccessLog::new(std::io::stdout(), LogFormat::Json));
/// ```
pub struct AccessLog {
    format: LogFormat,
    /// `None` only while it is dropped.
    lines: Option<SyncSender<String>>,
    lost: AtomicU64,
    writer: Option<JoinHandle<()>>,
}

/// Lines that wait for the writer; beyond it they are lost.
const LINES_MAX: usize = 8 * 1024;
/// Longest part of a line that a client chooses, in bytes.
const PART_BYTES_MAX: usize = 1024;

impl AccessLog {
    /// Writes to `sink` on a thread of its own, flushed whenever no line waits.
    pub fn new(sink: impl Write + Send + 'static, format: LogFormat) -> Self {
        let (lines, waiting) = sync_channel(LINES_MAX);
        let writer = std::thread::Builder::new().name("access-log".to_owned());
        let writer = writer.spawn(move || write_all(&waiting, BufWriter::new(sink)));
        if let Err(error) = &writer {
            tracing::error!(%error, "there will be no access log");
        }
        Self { format, lines: Some(lines), lost: AtomicU64::new(0), writer: writer.ok() }
    }

    fn log(&self, line: String) {
        let sent = self.lines.as_ref().is_some_and(|lines| lines.try_send(line).is_ok());
        if sent {
            let lost = if self.lost.load(Ordering::Relaxed) > 0 { self.lost.swap(0, Ordering::Relaxed) } else { 0 };
            if lost > 0 {
                tracing::warn!(lost, "lines of the access log could not be written in time");
            }
        } else {
            self.lost.fetch_add(1, Ordering::Relaxed);
        }
    }
}

/// Writes until all senders are gone. A sink that fails is given up; lines are then thrown away.
fn write_all(lines: &Receiver<String>, mut sink: impl Write) {
    let mut outcome = Ok(());
    while let Ok(first) = lines.recv() {
        let mut next = Ok(first);
        while let Ok(line) = next {
            outcome = outcome.and_then(|()| sink.write_all(line.as_bytes()));
            next = lines.try_recv();
        }
        if next == Err(TryRecvError::Empty) {
            outcome = outcome.and_then(|()| sink.flush());
        }
        if let Err(error) = &outcome {
            tracing::error!(%error, "the access log cannot be written");
            return;
        }
    }
    // Nobody is left to be told of a failure.
    let _ = sink.flush();
}

impl Drop for AccessLog {
    /// Waits until all lines are written.
    fn drop(&mut self) {
        self.lines = None;
        if let Some(writer) = self.writer.take() {
            let _ = writer.join();
        }
    }
}

impl fmt::Debug for AccessLog {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AccessLog").field("format", &self.format).finish_non_exhaustive()
    }
}

impl Layer for AccessLog {
    fn call(&self, request: Request, next: Next) -> LocalBoxFuture<'_, Response> {
        Box::pin(async move {
            let mut entry = Entry { log: self, begun: Instant::now(), line: Line::begin(&request) };
            let response = next.run(request).await;
            let line = &mut entry.line;
            line.status = response.status.as_u16();
            line.bytes = response.body.exact_len();
            line.id = response.fields.get_str("x-request-id").map(str::to_owned);
            drop(entry);
            response
        })
    }
}

/// A request that is under way: its line is written when this is dropped, also by a panic or by giving it up.
struct Entry<'a> {
    log: &'a AccessLog,
    begun: Instant,
    line: Line,
}

/// The client left before there was an answer; no status of HTTP, and on no wire.
const CLIENT_GONE: u16 = 499;

impl Drop for Entry<'_> {
    fn drop(&mut self) {
        if self.line.status == 0 {
            self.line.status = if std::thread::panicking() { 500 } else { CLIENT_GONE };
        }
        self.line.micros = self.begun.elapsed().as_micros() as u64;
        self.log.log(self.line.written(self.log.format));
    }
}

/// What a line says.
#[derive(Debug, Clone)]
struct Line {
    client: IpAddr,
    at: SystemTime,
    method: &'static str,
    path: String,
    version: &'static str,
    referrer: Option<String>,
    agent: Option<String>,
    status: u16,
    bytes: Option<u64>,
    micros: u64,
    id: Option<String>,
}

impl Line {
    fn begin(request: &Request) -> Self {
        let own = |text: &str| text.get(..text.floor_char_boundary(PART_BYTES_MAX)).unwrap_or_default().to_owned();
        let without_query = |text: &str| own(text.split(['?', '#']).next().unwrap_or_default());
        Self {
            client: request.client_addr(),
            at: SystemTime::now(),
            method: request.method().as_str(),
            path: own(request.path()),
            version: request.head.version().as_str(),
            referrer: request.field("referer").map(without_query),
            agent: request.field("user-agent").map(own),
            status: 0,
            bytes: None,
            micros: 0,
            id: None,
        }
    }

    fn written(&self, format: LogFormat) -> String {
        match format {
            LogFormat::Combined => self.combined(),
            LogFormat::Json => self.json(),
        }
    }

    fn combined(&self) -> String {
        let quoted = |text: &Option<String>| text.as_deref().map_or_else(|| "-".to_owned(), escaped);
        let bytes = self.bytes.map_or_else(|| "-".to_owned(), |bytes| bytes.to_string());
        format!(
            "{} - - [{}] \"{} {} {}\" {} {bytes} \"{}\" \"{}\"\n",
            self.client,
            clf_time(self.at),
            self.method,
            escaped(&self.path),
            self.version,
            self.status,
            quoted(&self.referrer),
            quoted(&self.agent),
        )
    }

    fn json(&self) -> String {
        let seconds = self.at.duration_since(SystemTime::UNIX_EPOCH).map_or(0, |since| since.as_secs().cast_signed());
        let mut object = serde_json::json!({
            "time": rfc3339(seconds),
            "client": self.client.to_string(),
            "method": self.method,
            "path": self.path,
            "status": self.status,
            "duration_us": self.micros,
        });
        let mut add = |name: &str, value: Option<serde_json::Value>| {
            if let Some(value) = value {
                object[name] = value;
            }
        };
        add("bytes", self.bytes.map(Into::into));
        add("referrer", self.referrer.clone().map(Into::into));
        add("user_agent", self.agent.clone().map(Into::into));
        add("id", self.id.clone().map(Into::into));
        format!("{object}\n")
    }
}

/// `22/Nov/2026:18:57:00 +0000`, made of `Sun, 22 Nov 2026 18:57:00 GMT`.
fn clf_time(at: SystemTime) -> String {
    let date = httpdate::fmt_http_date(at);
    let part = |range: std::ops::Range<usize>| date.get(range).unwrap_or_default();
    format!("{}/{}/{}:{} +0000", part(5..7), part(8..11), part(12..16), part(17..25))
}

/// Quotes, backslashes, control and non-ASCII characters as `\xHH`: a client cannot write a line of its own.
fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        if (byte.is_ascii_graphic() || byte == b' ') && !matches!(byte, b'"' | b'\\') {
            out.push(char::from(byte));
        } else {
            let _ = write!(out, "\\x{byte:02X}");
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    fn line() -> Line {
        Line {
            client: "2001:db8::1".parse().expect("an address"),
            at: SystemTime::UNIX_EPOCH + Duration::from_secs(784_111_777),
            method: "GET",
            path: "/a\"b".to_owned(),
            version: "HTTP/1.1",
            referrer: None,
            agent: Some("x\n127.0.0.1 \"forged\" é\\".to_owned()),
            status: 200,
            bytes: Some(5),
            micros: 42,
            id: Some("id".to_owned()),
        }
    }

    #[test]
    fn a_client_cannot_write_a_line_of_its_own() {
        let expect = "2001:db8::1 - - [06/Nov/1994:08:49:37 +0000] \"GET /a\\x22b HTTP/1.1\" 200 5 \"-\" \
                      \"x\\x0A127.0.0.1 \\x22forged\\x22 \\xC3\\xA9\\x5C\"\n";
        assert_eq!(line().written(LogFormat::Combined), expect);
        let json = line().written(LogFormat::Json);
        assert_eq!(json.matches('\n').count(), 1);
        let value: serde_json::Value = serde_json::from_str(&json).expect("valid JSON");
        assert_eq!((&value["path"], &value["time"]), (&"/a\"b".into(), &"1994-11-06T08:49:37Z".into()));
        assert_eq!((&value["bytes"], &value["duration_us"], &value["id"]), (&5.into(), &42.into(), &"id".into()));
    }

    #[test]
    fn a_sink_that_fails_stops_nobody() {
        struct Full;
        impl Write for Full {
            fn write(&mut self, _: &[u8]) -> std::io::Result<usize> {
                Err(std::io::ErrorKind::StorageFull.into())
            }
            fn flush(&mut self) -> std::io::Result<()> {
                Ok(())
            }
        }
        let log = AccessLog::new(Full, LogFormat::Combined);
        for _ in 0..LINES_MAX * 3 {
            log.log("line\n".to_owned());
        }
        drop(log); // returns
    }
}
