//! Whether a server answers as it should, before it is measured: a fast wrong answer is worth nothing.

use anyhow::{Context, Result, bail, ensure};
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::process::Command;
use std::time::Duration;

/// How long an answer may take.
const ANSWER_MAX: Duration = Duration::from_secs(20);
/// Largest answer that is looked at: a file of 10 MiB and its head.
const ANSWER_BYTES_MAX: usize = 11 * 1024 * 1024;

/// A request and the body that is the right answer to it.
pub(crate) struct Ask<'a> {
    pub(crate) target: &'a str,
    /// Sent as JSON with POST; GET without.
    pub(crate) post: Option<&'a [u8]>,
    pub(crate) body: &'a [u8],
    /// `Connection: close` is asked for and must be granted.
    pub(crate) close: bool,
    pub(crate) tls: bool,
    pub(crate) http2: bool,
}

/// One answer, taken apart.
#[derive(Debug)]
pub(crate) struct Answer {
    status: String,
    fields: Vec<(String, String)>,
    body: Vec<u8>,
}

/// Asks once (twice on the same connection where it is to be kept) and compares.
pub(crate) fn answer(addr: SocketAddr, ask: &Ask<'_>) -> Result<()> {
    if ask.tls {
        let answer = over_tls(addr, ask)?;
        return fits(&answer, ask);
    }
    let mut stream = TcpStream::connect(addr)?;
    stream.set_read_timeout(Some(ANSWER_MAX))?;
    for _ in 0..if ask.close { 1 } else { 2 } {
        stream.write_all(&request(addr, ask))?;
        fits(&read_answer(&mut stream)?, ask)?;
    }
    if ask.close {
        ensure!(stream.read(&mut [0; 1])? == 0, "bytes behind the last answer");
    }
    Ok(())
}

/// The bytes of one request.
pub(crate) fn request(addr: SocketAddr, ask: &Ask<'_>) -> Vec<u8> {
    let close = if ask.close { "Connection: close\r\n" } else { "" };
    let method = if ask.post.is_some() { "POST" } else { "GET" };
    let content = ask.post.map_or_else(String::new, |body| {
        format!("Content-Type: application/json\r\nContent-Length: {}\r\n", body.len())
    });
    let head = format!("{method} {} HTTP/1.1\r\nHost: {addr}\r\n{content}{close}\r\n", ask.target);
    [head.as_bytes(), ask.post.unwrap_or_default()].concat()
}

/// Reads one answer that has a Content-Length.
pub(crate) fn read_answer(stream: &mut impl Read) -> Result<Answer> {
    let mut bytes = Vec::new();
    let mut chunk = vec![0; 64 * 1024];
    loop {
        let count = stream.read(&mut chunk)?;
        ensure!(count > 0, "the connection ended within an answer: {:?}", String::from_utf8_lossy(&bytes));
        bytes.extend_from_slice(&chunk[..count]);
        ensure!(bytes.len() <= ANSWER_BYTES_MAX, "the answer does not end");
        let Some(end) = bytes.windows(4).position(|bytes| bytes == b"\r\n\r\n") else { continue };
        let mut answer = parse_head(&bytes[..end])?;
        let length: usize = answer.field("content-length").context("no Content-Length")?.parse()?;
        if bytes.len() >= end + 4 + length {
            answer.body = bytes.split_off(end + 4);
            return Ok(answer);
        }
    }
}

/// The length of the first answer in `bytes`, head and body, once its head is there.
pub(crate) fn answer_bytes(bytes: &[u8]) -> Option<usize> {
    let end = bytes.windows(4).position(|bytes| bytes == b"\r\n\r\n")?;
    let length: usize = parse_head(&bytes[..end]).ok()?.field("content-length")?.parse().ok()?;
    Some(end + 4 + length)
}

/// `curl` speaks TLS and HTTP/2 for this check.
fn over_tls(addr: SocketAddr, ask: &Ask<'_>) -> Result<Answer> {
    let protocol = if ask.http2 { "--http2" } else { "--http1.1" };
    let output = Command::new("curl")
        .args(["-sSki", protocol])
        .arg(format!("https://{addr}{}", ask.target))
        .output()
        .context("cannot start curl")?;
    ensure!(output.status.success(), "curl failed: {}", String::from_utf8_lossy(&output.stderr));
    let bytes = output.stdout;
    let version: &[u8] = if ask.http2 { b"HTTP/2 " } else { b"HTTP/1.1 " };
    ensure!(bytes.starts_with(version), "another protocol was spoken: {:?}", String::from_utf8_lossy(&bytes));
    let end = bytes.windows(4).position(|bytes| bytes == b"\r\n\r\n").context("no end of the head")?;
    let mut answer = parse_head(&bytes[..end])?;
    answer.body = bytes[end + 4..].to_vec();
    Ok(answer)
}

fn parse_head(head: &[u8]) -> Result<Answer> {
    let text = String::from_utf8_lossy(head);
    let mut lines = text.split("\r\n");
    let status = lines.next().and_then(|line| line.split(' ').nth(1)).context("no status")?.to_owned();
    let field = |line: &str| {
        let (name, value) = line.split_once(':').with_context(|| format!("no field: {line:?}"))?;
        Ok((name.to_ascii_lowercase(), value.trim().to_owned()))
    };
    Ok(Answer { status, fields: lines.map(field).collect::<Result<_>>()?, body: Vec::new() })
}

impl Answer {
    fn field(&self, name: &str) -> Option<&str> {
        self.fields.iter().find(|(found, _)| found == name).map(|(_, value)| value.as_str())
    }
}

fn fits(answer: &Answer, ask: &Ask<'_>) -> Result<()> {
    ensure!(answer.status == "200", "status {}", answer.status);
    let date = answer.field("date").context("no Date")?;
    ensure!(date.ends_with(" GMT") && date.len() == 29, "Date is {date:?}");
    ensure!(answer.field("content-type").is_some(), "no Content-Type");
    let closes = answer.field("connection").is_some_and(|value| value.eq_ignore_ascii_case("close"));
    ensure!(closes == ask.close, "Connection is {:?}", answer.field("connection"));
    if answer.body != ask.body {
        let (got, wanted) = (answer.body.len(), ask.body.len());
        bail!("another body than the one wanted ({got} bytes, wanted {wanted}, or the same number of others)");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = "HTTP/1.1 200 OK\r\nDate: Sun, 22 Nov 2026 19:03:45 GMT\r\nContent-Type: text/plain\r\n\
                        Content-Length: 2\r\n\r\nhi";

    fn check(answer: &str, close: bool) -> Result<()> {
        let ask = Ask { target: "/", post: None, body: b"hi", close, tls: false, http2: false };
        fits(&read_answer(&mut answer.as_bytes())?, &ask)
    }

    #[test]
    fn a_wrong_answer_is_not_measured() {
        assert!(check(GOOD, false).is_ok());
        assert!(check(GOOD, true).is_err(), "close was not granted");
        assert!(check(&GOOD.replace("200", "404"), false).is_err());
        assert!(check(&GOOD.replace("Date", "Fate"), false).is_err());
        assert!(check(&GOOD.replace("hi", "ho"), false).is_err());
        assert!(check(&GOOD.replace("Content-Length: 2", "Content-Length: 3"), false).is_err());
        assert!(check(&GOOD.replace("\r\n\r\n", "\r\nConnection: close\r\n\r\n"), false).is_err());
    }
}
