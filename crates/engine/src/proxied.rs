//! The PROXY protocol, versions 1 and 2, in front of connections: a proxy that passes bytes on says first who the client
//! is. Read before anything else, from proxies that are trusted, within the deadline for a head; whatever is not
//! exactly that ends the connection without an answer.
//!
//! Source: "The PROXY protocol", sections 2.1 and 2.2.

use crate::server::{LocalTask, Running, Server, Socket, Welcome, Worker, serve_stream};
use crate::stream::Stream;
use crate::tls::Secure;
use crate::{Peer, Service, Tls};
use std::fmt;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener};
use std::rc::Rc;
use std::sync::Arc;
use tokio::io::{AsyncRead, AsyncReadExt as _};
use tokio::time::timeout;

/// Longest line of version 1 with its end, in bytes: the longest that its grammar allows.
const LINE_BYTES_MAX: usize = 107;
/// Longest announcement of version 2 after its first 16 bytes. Two addresses need 216 at most; the rest are extensions
/// such as the client's certificate names, which are passed over.
const EXTENSIONS_BYTES_MAX: usize = 4096;
/// How version 2 begins.
const SIGNATURE: [u8; 12] = *b"\r\n\r\n\0\r\nQUIT\n";

/// Which proxies may say who a client is.
#[derive(Clone)]
pub struct TrustedProxies(Arc<dyn Fn(IpAddr) -> bool + Send + Sync>);

impl TrustedProxies {
    /// Those of which `is_trusted` says yes. Addresses of IPv4 never come as IPv6.
    pub fn new(is_trusted: impl Fn(IpAddr) -> bool + Send + Sync + 'static) -> Self {
        Self(Arc::new(is_trusted))
    }

    pub(crate) fn include(&self, address: IpAddr) -> bool {
        (self.0)(address)
    }
}

impl fmt::Debug for TrustedProxies {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("TrustedProxies")
    }
}

impl Server {
    /// As [`Server::listen_on`], or [`Server::listen_tls_on`] where there is `tls`, behind proxies that speak the PROXY
    /// protocol: every connection begins with their word about who the client is, and [`Peer::addr`] follows it.
    ///
    /// # Errors
    /// As [`Server::listen_on`].
    pub fn listen_behind_on<S: Service>(
        self,
        sockets: Vec<TcpListener>,
        proxies: TrustedProxies,
        tls: Option<Tls>,
        make: impl Fn() -> S + Send + Sync + 'static,
    ) -> io::Result<Self> {
        match tls {
            None => self.listen_raw_on(sockets, move || Announced::new(&proxies, Plain(Rc::new(make())))),
            Some(tls) => {
                let watched = tls.clone();
                let make = move || Announced::new(&proxies, Secure::new(tls.clone(), make()));
                Ok(self.listen_raw_on(sockets, make)?.on_one_worker(move || watched.watch()))
            }
        }
    }
}

impl Running {
    /// As [`Server::listen_behind_on`]; `tls` is not watched.
    ///
    /// # Errors
    /// As [`Running::listen_on`].
    pub async fn listen_behind_on<S: Service>(
        &mut self,
        sockets: Vec<TcpListener>,
        proxies: TrustedProxies,
        tls: Option<Tls>,
        make: impl Fn() -> S + Send + Sync + 'static,
    ) -> io::Result<()> {
        match tls {
            None => self.listen_raw_on(sockets, move || Announced::new(&proxies, Plain(Rc::new(make())))).await,
            Some(tls) => {
                let make = move || Announced::new(&proxies, Secure::new(tls.clone(), make()));
                self.listen_raw_on(sockets, make).await
            }
        }
    }
}

/// Hears the announcement, then lets `inner` welcome the connection.
struct Announced<W> {
    proxies: TrustedProxies,
    inner: Rc<W>,
}

impl<W: Welcome> Announced<W> {
    fn new(proxies: &TrustedProxies, inner: W) -> Self {
        Self { proxies: proxies.clone(), inner: Rc::new(inner) }
    }
}

impl<W: Welcome> Welcome for Announced<W> {
    fn welcome(&self, worker: &Rc<Worker>, mut socket: Socket, mut peer: Peer) -> LocalTask {
        let proxy = peer.addr.ip().to_canonical();
        let (worker, inner, is_trusted) = (worker.clone(), self.inner.clone(), self.proxies.include(proxy));
        if is_trusted {
            // All of its clients come from one address: only theirs are counted, once they are known.
            socket.count_for(&worker, None);
        }
        Box::pin(async move {
            if !is_trusted {
                tracing::debug!(%proxy, "not trusted to say who a client is");
                return;
            }
            let stop = peer.stop.clone();
            let announced = tokio::select! {
                biased;
                announced = timeout(worker.settings.head_timeout, announcement(&mut socket)) => announced,
                () = stop.cancelled() => return,
            };
            match announced.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into())) {
                Ok(client) => {
                    if let Some((addr, local_addr)) = client {
                        (peer.addr, peer.local_addr) = (addr, local_addr);
                        if !socket.count_for(&worker, Some(addr)) {
                            tracing::debug!(client = %addr, "too many connections of one address");
                            return;
                        }
                    }
                    inner.welcome(&worker, socket, peer).await;
                }
                Err(error) => tracing::debug!(%proxy, %error, "no PROXY protocol"),
            }
        })
    }
}

/// HTTP/1.1 after an announcement. Such a connection never rests in the front, which would wait for another one.
struct Plain<S>(Rc<S>);

impl<S: Service> Welcome for Plain<S> {
    fn welcome(&self, worker: &Rc<Worker>, socket: Socket, peer: Peer) -> LocalTask {
        let (worker, service) = (worker.clone(), self.0.clone());
        Box::pin(async move { serve_stream(&worker, Stream::Secure(Box::new(socket)), peer, &*service).await })
    }
}

/// The client and the address it connected to, as announced; nothing where the proxy speaks for itself. Reads not one
/// byte more.
async fn announcement(from: &mut (impl AsyncRead + Unpin)) -> io::Result<Option<(SocketAddr, SocketAddr)>> {
    let mut start = [0; SIGNATURE.len()];
    from.read_exact(&mut start).await?;
    if start == SIGNATURE {
        let mut rest = [0; 4];
        from.read_exact(&mut rest).await?;
        let [command, family, high, low] = rest;
        let length = usize::from(u16::from_be_bytes([high, low]));
        if length > EXTENSIONS_BYTES_MAX {
            return Err(malformed("an announcement that is too long"));
        }
        let mut addresses = vec![0; length];
        from.read_exact(&mut addresses).await?;
        return binary(command, family, &addresses);
    }
    let mut line = start.to_vec();
    // One byte at a time: what follows the line is the client's. It is short, and comes once per connection.
    while !line.ends_with(b"\r\n") {
        if line.len() >= LINE_BYTES_MAX || !line.starts_with(b"PROXY ") {
            return Err(malformed("neither version of the protocol"));
        }
        line.push(from.read_u8().await?);
    }
    text(&line[..line.len() - 2])
}

/// Version 1, without the end of the line.
fn text(line: &[u8]) -> io::Result<Option<(SocketAddr, SocketAddr)>> {
    let line = std::str::from_utf8(line).map_err(|_| malformed("no text"))?;
    let mut words = line.split(' ');
    let (Some("PROXY"), Some(family)) = (words.next(), words.next()) else { return Err(malformed("no family")) };
    if family == "UNKNOWN" {
        return Ok(None);
    }
    let addresses: [&str; 4] =
        words.collect::<Vec<_>>().try_into().map_err(|_| malformed("not two addresses and two ports"))?;
    let [source, destination, source_port, destination_port] = addresses;
    let ip = |text: &str| -> io::Result<IpAddr> {
        let parsed = match family {
            "TCP4" => text.parse::<Ipv4Addr>().ok().map(IpAddr::V4),
            "TCP6" => text.parse::<Ipv6Addr>().ok().map(IpAddr::V6),
            _ => return Err(malformed("an unknown family")),
        };
        parsed.ok_or_else(|| malformed("no address of its family"))
    };
    let port = |text: &str| -> io::Result<u16> {
        let is_plain = text == "0" || !text.starts_with('0') && text.bytes().all(|byte| byte.is_ascii_digit());
        text.parse().ok().filter(|_| is_plain).ok_or_else(|| malformed("no port"))
    };
    let client = SocketAddr::new(ip(source)?, port(source_port)?);
    Ok(Some((client, SocketAddr::new(ip(destination)?, port(destination_port)?))))
}

/// Version 2, after its length.
fn binary(command: u8, family: u8, addresses: &[u8]) -> io::Result<Option<(SocketAddr, SocketAddr)>> {
    const LOCAL: u8 = 0x20;
    const PROXY: u8 = 0x21;
    const TCP4: u8 = 0x11;
    const TCP6: u8 = 0x21;
    let too_short = || malformed("addresses that are cut short");
    match (command, family) {
        (LOCAL, _) => Ok(None),
        (PROXY, TCP4) => {
            let (source, rest) = addresses.split_first_chunk::<4>().ok_or_else(too_short)?;
            let (destination, rest) = rest.split_first_chunk::<4>().ok_or_else(too_short)?;
            pair(IpAddr::from(*source), IpAddr::from(*destination), rest).ok_or_else(too_short).map(Some)
        }
        (PROXY, TCP6) => {
            let (source, rest) = addresses.split_first_chunk::<16>().ok_or_else(too_short)?;
            let (destination, rest) = rest.split_first_chunk::<16>().ok_or_else(too_short)?;
            pair(IpAddr::from(*source), IpAddr::from(*destination), rest).ok_or_else(too_short).map(Some)
        }
        // Other families are to be passed over, and the connection taken for what it is.
        (PROXY, _) if family >> 4 <= 3 && family & 0xf <= 2 => Ok(None),
        _ => Err(malformed("an unknown command or family")),
    }
}

fn pair(source: IpAddr, destination: IpAddr, ports: &[u8]) -> Option<(SocketAddr, SocketAddr)> {
    let (source_port, rest) = ports.split_first_chunk::<2>()?;
    let (destination_port, _) = rest.split_first_chunk::<2>()?;
    let at = |ip, port: &[u8; 2]| SocketAddr::new(ip, u16::from_be_bytes(*port));
    Some((at(source, source_port), at(destination, destination_port)))
}

fn malformed(what: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    /// The outcome for these bytes, and what is left of them.
    fn check(bytes: &[u8], expect: Result<Option<&str>, ()>, left: &[u8]) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let mut input = bytes;
        let heard = runtime.block_on(announcement(&mut input));
        let shown = heard.map(|client| client.map(|(from, to)| format!("{from} {to}"))).map_err(drop);
        assert_eq!(shown, expect.map(|client| client.map(str::to_owned)), "{}", bytes.escape_ascii());
        if expect.is_ok() {
            assert_eq!(input, left, "{}", bytes.escape_ascii());
        }
    }

    fn binary_of(command: u8, family: u8, addresses: &[u8]) -> Vec<u8> {
        let length = u16::try_from(addresses.len()).unwrap().to_be_bytes();
        [&SIGNATURE[..], &[command, family], &length, addresses].concat()
    }

    #[test]
    fn lines_of_version_1() {
        check(b"PROXY TCP4 1.2.3.4 5.6.7.8 90 443\r\nGET", Ok(Some("1.2.3.4:90 5.6.7.8:443")), b"GET");
        check(b"PROXY TCP6 ::1 2001:db8::2 0 65535\r\n", Ok(Some("[::1]:0 [2001:db8::2]:65535")), b"");
        check(b"PROXY UNKNOWN\r\nx", Ok(None), b"x");
        check(b"PROXY UNKNOWN what ever it is\r\nx", Ok(None), b"x");
        for line in [
            "GET / HTTP/1.1\r\n\r\n",
            "PROXY TCP4 1.2.3.4 5.6.7.8 90\r\n",
            "PROXY TCP4 1.2.3.4 5.6.7.8 90 443 1\r\n",
            "PROXY TCP4 1.2.3.4  5.6.7.8 90 443\r\n",
            "PROXY TCP4 ::1 ::1 90 443\r\n",
            "PROXY TCP4 01.2.3.4 5.6.7.8 90 443\r\n",
            "PROXY TCP4 1.2.3.4 5.6.7.8 +9 443\r\n",
            "PROXY TCP4 1.2.3.4 5.6.7.8 09 443\r\n",
            "PROXY TCP4 1.2.3.4 5.6.7.8 90 65536\r\n",
            "PROXY UDP4 1.2.3.4 5.6.7.8 90 443\r\n",
            "PROXY\tTCP4 1.2.3.4 5.6.7.8 90 443\r\n",
            "proxy TCP4 1.2.3.4 5.6.7.8 90 443\r\n",
            "PROXY TCP4 1.2.3.4 5.6.7.8 90 443\n\n\n",
            "PROXY TCP4 1.2.3.4",
        ] {
            check(line.as_bytes(), Err(()), b"");
        }
        check(format!("PROXY UNKNOWN {}\r\n", "x".repeat(91)).as_bytes(), Ok(None), b"");
        check(format!("PROXY UNKNOWN {}\r\n", "x".repeat(92)).as_bytes(), Err(()), b"");
    }

    #[test]
    fn bytes_of_version_2() {
        let four = [1, 2, 3, 4, 5, 6, 7, 8, 0, 90, 1, 187];
        let with_more = |more: &[u8]| [&four[..], more].concat();
        check(&binary_of(0x21, 0x11, &four), Ok(Some("1.2.3.4:90 5.6.7.8:443")), b"");
        check(
            &[&binary_of(0x21, 0x11, &with_more(&[4, 0, 1, 9]))[..], b"GET"].concat(),
            Ok(Some("1.2.3.4:90 5.6.7.8:443")),
            b"GET",
        );
        let six = [[0; 15].as_slice(), &[1], &[0; 15], &[2], &[0, 1, 0, 2]].concat();
        check(&binary_of(0x21, 0x21, &six), Ok(Some("[::1]:1 [::2]:2")), b"");
        check(&[&binary_of(0x20, 0x00, &[])[..], b"GET"].concat(), Ok(None), b"GET");
        check(&binary_of(0x21, 0x00, &[1, 2]), Ok(None), b"");
        check(&binary_of(0x21, 0x31, &[0; 216]), Ok(None), b"");
        for (command, family) in [(0x11, 0x11), (0x22, 0x11), (0x00, 0x00), (0x21, 0x41), (0x21, 0x13)] {
            check(&binary_of(command, family, &four), Err(()), b"");
        }
        check(&binary_of(0x21, 0x11, &four[..11]), Err(()), b"");
        check(&binary_of(0x21, 0x21, &six[..35]), Err(()), b"");
        check(&binary_of(0x21, 0x11, &[0; 4097]), Err(()), b"");
        check(&binary_of(0x21, 0x11, &four)[..20], Err(()), b"");
    }
}
