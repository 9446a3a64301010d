//! Many connections that were served once and then say nothing: what idle keep-alive clients are.

use super::check::{self, Ask};
use anyhow::{Context, Result};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

/// How long one of them may wait for its only answer.
const ANSWER_MAX: Duration = Duration::from_secs(20);

/// Open connections; closed when dropped.
pub(crate) struct Crowd(Vec<TcpStream>);

impl Crowd {
    /// Opens `count` connections, one after another; each asks once and reads the whole answer.
    pub(crate) fn gather(addr: SocketAddr, count: usize, ask: &Ask<'_>) -> Result<Self> {
        let request = check::request(addr, ask);
        let mut streams = Vec::with_capacity(count);
        for number in 0..count {
            let stream = Self::join(addr, &request).with_context(|| format!("connection {number} of {count}"))?;
            streams.push(stream);
        }
        Ok(Self(streams))
    }

    fn join(addr: SocketAddr, request: &[u8]) -> Result<TcpStream> {
        use std::io::Write as _;
        let mut stream = TcpStream::connect(addr)?;
        stream.set_read_timeout(Some(ANSWER_MAX))?;
        stream.write_all(request)?;
        check::read_answer(&mut stream)?;
        Ok(stream)
    }

    /// How many of them the server has closed meanwhile.
    pub(crate) fn left(&self) -> usize {
        let ended = |stream: &&TcpStream| {
            let mut byte = [0];
            stream.set_nonblocking(true).is_err() || stream.peek(&mut byte).is_ok()
        };
        self.0.iter().filter(ended).count()
    }
}
