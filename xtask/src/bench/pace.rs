//! Normal clients at a pace of their own: each asks so many times per second, whatever the server can do beyond that.
//!
//! A generator that asks as fast as it is answered tells of a saturated machine, where a latency is mostly the length of
//! a queue. Here the load is the same with and without whatever else the server has to bear, so that latencies compare.
//! One that must wait for an answer longer than until its next request counts that one from when it was due.

use super::check::{self, Ask};
use super::cost::Cost;
use super::count::{connect, first_length};
use super::load::Shot;
use super::machine;
use anyhow::{Context, Result, ensure};
use std::io::{Read as _, Write as _};
use std::net::SocketAddr;
use std::thread;
use std::time::{Duration, Instant};

/// Requests per second of one client: with 64 of them less than a tenth of what a core can answer.
pub(crate) const PER_SECOND: u32 = 100;

/// What to ask, of whom, and for how long.
pub(crate) struct Pace<'a> {
    pub(crate) addr: SocketAddr,
    pub(crate) ask: &'a Ask<'a>,
    pub(crate) connections: usize,
    pub(crate) seconds: u64,
}

impl Pace<'_> {
    /// Fails unless every request was answered well.
    pub(crate) fn fire(&self, process: u32) -> Result<Shot> {
        let before = Cost::of(process)?;
        let begun = Instant::now();
        let times: Result<Vec<Vec<f64>>> = thread::scope(|scope| {
            let clients: Vec<_> =
                (0..self.connections).map(|number| scope.spawn(move || self.converse(number, begun))).collect();
            let times = clients.into_iter().map(|client| client.join().ok().context("a normal client panicked")?);
            times.collect()
        });
        let spent = Cost::of(process)?.since(before);
        let mut times = times.context("a normal client is not answered well")?.concat();
        ensure!(!times.is_empty(), "not one request was answered");
        times.sort_by(f64::total_cmp);
        let requests = times.len() as f64;
        let percentile = |share: f64| times[((requests * share) as usize).min(times.len() - 1)];
        Ok(Shot {
            requests,
            per_second: requests / begun.elapsed().as_secs_f64(),
            p50_ms: percentile(0.5),
            p99_ms: percentile(0.99),
            spent,
        })
    }

    /// How long each request of one client took, in milliseconds. The clients' turns are spread evenly.
    fn converse(&self, number: usize, begun: Instant) -> Result<Vec<f64>> {
        machine::stay_on_load_core();
        let interval = Duration::from_secs(1) / PER_SECOND;
        let end = Duration::from_secs(self.seconds);
        let mut stream = connect(self.addr)?;
        let request = check::request(self.addr, self.ask);
        stream.write_all(&request)?;
        let mut answer = vec![0; first_length(&mut stream, 1)?];
        let mut due = interval.mul_f64(number as f64 / self.connections as f64);
        let mut times = Vec::new();
        while due < end {
            let since = match due.checked_sub(begun.elapsed()) {
                Some(early) => {
                    thread::sleep(early);
                    begun.elapsed()
                }
                None => due,
            };
            stream.write_all(&request)?;
            stream.read_exact(&mut answer)?;
            ensure!(
                answer.starts_with(b"HTTP/1.1 200") && answer.ends_with(self.ask.body),
                "answered {:?}",
                String::from_utf8_lossy(&answer)
            );
            times.push((begun.elapsed().saturating_sub(since)).as_secs_f64() * 1000.0);
            due += interval;
        }
        Ok(times)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use std::net::TcpListener;

    const ANSWER: &str = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi";
    const ASK: Ask<'_> = Ask { target: "/", post: None, body: b"hi", close: false, tls: false, http2: false };

    /// Answers `count` requests of one client, the one numbered `late` after `pause`.
    fn shot(count: usize, late: usize, pause: Duration, answer: &'static str) -> Result<Shot> {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let addr = listener.local_addr().unwrap();
        let server = thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            for number in 0..count {
                let mut byte = [0];
                let mut head = Vec::new();
                while !head.ends_with(b"\r\n\r\n") && stream.read(&mut byte).unwrap_or(0) == 1 {
                    head.push(byte[0]);
                }
                if number == late {
                    thread::sleep(pause);
                }
                let _ = stream.write_all(if number == 0 { ANSWER } else { answer }.as_bytes());
            }
        });
        let shot = Pace { addr, ask: &ASK, connections: 1, seconds: 1 }.fire(std::process::id());
        server.join().unwrap();
        shot
    }

    #[test]
    fn the_load_is_the_same_however_fast_the_server_is_and_a_pause_counts_for_all_who_wait() {
        let all = PER_SECOND as usize + 1;
        assert!((shot(all, all, Duration::ZERO, ANSWER).unwrap().requests - f64::from(PER_SECOND)).abs() < 1e-9);
        let paused = shot(all, 20, Duration::from_millis(200), ANSWER).unwrap();
        assert!(
            (paused.requests - f64::from(PER_SECOND)).abs() < 1e-9,
            "those that were due meanwhile are made up for"
        );
        assert!(paused.p99_ms > 150.0, "several waited, not one: {}", paused.p99_ms);
    }

    #[test]
    fn a_wrong_answer_is_none() {
        let wrong = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nho";
        assert!(shot(3, 9, Duration::ZERO, wrong).is_err());
    }
}
