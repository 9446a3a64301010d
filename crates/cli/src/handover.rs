//! Handing listening sockets from one process to the next, so that no connection is refused or reset meanwhile.
//!
//! ```text
//!   old                                     new
//!    │◄── starts it, or it connects ─────────│   over a Unix socket, of the same user only
//!    ├── addresses and descriptors ─────────►│   the very sockets: what waits in their queues stays there
//!    ├── what else it should know ──────────►│   the key of sticky cookies, operators' orders
//!    │                                       │   reads its configuration, starts its workers
//!    │◄───────────────── "ready" ────────────┤
//!    stops accepting, drains, leaves         serves
//! ```
//!
//! Anything else than *ready* (an end, silence, a line that begins with `failed`) and the old one goes on as if nobody
//! had asked.

use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage, SendFlags,
    recvmsg, sendmsg,
};
use std::io::{self, BufReader, IoSlice, IoSliceMut, Read, Write};
use std::mem::MaybeUninit;
use std::net::{SocketAddr, TcpListener};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::time::Duration;

/// Descriptors per message; the system takes 253.
const BATCH: usize = 64;
/// Sockets handed over at most: sixteen addresses on as many cores as machines have.
const SOCKETS_MAX: usize = 4096;
/// Longest text of one batch, in bytes: an address has fewer than 64.
const TEXT_BYTES_MAX: usize = BATCH * 64;
/// Longest text beside the sockets, in bytes: a key, and a line for each server that an operator has stopped.
const LEGACY_BYTES_MAX: usize = 1024 * 1024;
/// How long each step may take on the side that waits for data.
const STEP_TIMEOUT: Duration = Duration::from_secs(10);
/// How long the new process may take until it is ready: it reads its configuration and starts its threads.
const READY_TIMEOUT: Duration = Duration::from_mins(1);
/// Said when the new process serves.
const READY: &[u8] = b"ready\n";
/// Longest report of the new process, in bytes.
const REPORT_BYTES_MAX: u64 = 4096;

/// Sends every socket and a text for the other process, then waits until it serves.
///
/// # Errors
/// It does not: the caller goes on as before.
pub(crate) fn give(channel: &UnixStream, sockets: &[TcpListener], legacy: &str) -> io::Result<()> {
    channel.set_write_timeout(Some(STEP_TIMEOUT))?;
    channel.set_read_timeout(Some(READY_TIMEOUT))?;
    for batch in sockets.chunks(BATCH) {
        send_batch(channel, batch)?;
    }
    send_batch(channel, &[])?;
    send_text(channel, legacy)?;
    let mut report = Vec::new();
    for byte in BufReader::new(channel.take(REPORT_BYTES_MAX)).bytes() {
        report.push(byte?);
        if report.ends_with(b"\n") {
            break;
        }
    }
    if report == READY {
        return Ok(());
    }
    let report = String::from_utf8_lossy(&report).trim().escape_debug().to_string();
    Err(io::Error::other(if report.is_empty() { "it ended before it was ready".to_owned() } else { report }))
}

/// What the other process has handed over.
#[derive(Debug, Default)]
pub(crate) struct Taken {
    pub(crate) sockets: Vec<(SocketAddr, TcpListener)>,
    /// What it says beside.
    pub(crate) legacy: String,
}

/// Receives the sockets of the other process with their addresses, and its text.
pub(crate) fn take(channel: &UnixStream) -> io::Result<Taken> {
    channel.set_read_timeout(Some(STEP_TIMEOUT))?;
    channel.set_write_timeout(Some(STEP_TIMEOUT))?;
    let mut sockets = Vec::new();
    while let Some(batch) = receive_batch(channel)? {
        for (address, descriptor) in batch {
            let listener = TcpListener::from(descriptor);
            // What is no listening socket at this address would be served without a word: ask the system.
            if listener.local_addr()? != address || !rustix::net::sockopt::socket_acceptconn(&listener)? {
                return Err(invalid(&format!("the socket for {address} is not that socket")));
            }
            listener.set_nonblocking(true)?;
            sockets.push((address, listener));
        }
        if sockets.len() > SOCKETS_MAX {
            return Err(invalid("too many sockets"));
        }
    }
    Ok(Taken { sockets, legacy: receive_text(channel)? })
}

/// Tells the other process that this one serves.
pub(crate) fn say_ready(mut channel: &UnixStream) -> io::Result<()> {
    channel.write_all(READY)
}

/// Tells the other process that this one does not.
pub(crate) fn say_failed(mut channel: &UnixStream, why: &str) {
    let line = format!("failed: {}\n", why.replace('\n', " | "));
    // Whoever waits there notices the end as well.
    let _ = channel.write_all(line.as_bytes());
}

/// One batch: the length of the text, the text with one address per line, and one descriptor for each.
fn send_batch(channel: &UnixStream, sockets: &[TcpListener]) -> io::Result<()> {
    let mut text = String::new();
    for socket in sockets {
        text.push_str(&socket.local_addr()?.to_string());
        text.push('\n');
    }
    let length = u32::try_from(text.len()).map_err(|_| invalid("too long"))?.to_be_bytes();
    let descriptors: Vec<BorrowedFd<'_>> = sockets.iter().map(AsFd::as_fd).collect();
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(BATCH))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    if !descriptors.is_empty() && !control.push(SendAncillaryMessage::ScmRights(&descriptors)) {
        return Err(invalid("too many descriptors"));
    }
    // The descriptors travel with the first bytes: these four are taken whole or not at all.
    let sent = sendmsg(channel, &[IoSlice::new(&length)], &mut control, SendFlags::NOSIGNAL)?;
    if sent != length.len() {
        return Err(io::ErrorKind::WriteZero.into());
    }
    (&*channel).write_all(text.as_bytes())
}

/// One batch; none after the last.
fn receive_batch(channel: &UnixStream) -> io::Result<Option<Vec<(SocketAddr, OwnedFd)>>> {
    let mut length = [0; 4];
    let mut descriptors: Vec<OwnedFd> = Vec::new();
    let mut filled = 0;
    while filled < length.len() {
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(BATCH))];
        let mut control = RecvAncillaryBuffer::new(&mut space);
        let mut slices = [IoSliceMut::new(&mut length[filled..])];
        let received = recvmsg(channel, &mut slices, &mut control, RecvFlags::CMSG_CLOEXEC)?;
        for message in control.drain() {
            if let RecvAncillaryMessage::ScmRights(sent) = message {
                descriptors.extend(sent);
            }
        }
        if received.bytes == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        filled += received.bytes;
    }
    let length = u32::from_be_bytes(length) as usize;
    if length == 0 {
        return Ok(None);
    }
    if length > TEXT_BYTES_MAX {
        return Err(invalid("too long"));
    }
    let mut text = vec![0; length];
    (&*channel).read_exact(&mut text)?;
    let text = String::from_utf8(text).map_err(|_| invalid("no text"))?;
    let addresses: Result<Vec<SocketAddr>, _> = text.lines().map(str::parse).collect();
    let addresses = addresses.map_err(|_| invalid("no address"))?;
    if addresses.len() != descriptors.len() {
        return Err(invalid("fewer sockets than addresses"));
    }
    Ok(Some(addresses.into_iter().zip(descriptors).collect()))
}

fn send_text(mut channel: &UnixStream, text: &str) -> io::Result<()> {
    if text.len() > LEGACY_BYTES_MAX {
        return Err(invalid("too much to say"));
    }
    let length = u32::try_from(text.len()).map_err(|_| invalid("too long"))?.to_be_bytes();
    channel.write_all(&length)?;
    channel.write_all(text.as_bytes())
}

fn receive_text(mut channel: &UnixStream) -> io::Result<String> {
    let mut length = [0; 4];
    channel.read_exact(&mut length)?;
    let length = u32::from_be_bytes(length) as usize;
    if length > LEGACY_BYTES_MAX {
        return Err(invalid("too long"));
    }
    let mut text = vec![0; length];
    channel.read_exact(&mut text)?;
    String::from_utf8(text).map_err(|_| invalid("no text"))
}

fn invalid(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what.to_owned())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use std::net::TcpStream;

    fn listeners(count: usize) -> Vec<TcpListener> {
        (0..count).map(|_| TcpListener::bind("127.0.0.1:0").unwrap()).collect()
    }

    #[test]
    fn the_very_sockets_arrive_with_what_waits_in_their_queues() {
        let (old, new) = UnixStream::pair().unwrap();
        let sockets = listeners(BATCH + 3);
        let addresses: Vec<SocketAddr> = sockets.iter().map(|socket| socket.local_addr().unwrap()).collect();
        let mut waiting = TcpStream::connect(addresses[BATCH + 1]).unwrap();
        waiting.write_all(b"early").unwrap();
        let giver = std::thread::spawn(move || give(&old, &sockets, "the rest\n")); // and closes them at its end
        let Taken { sockets: taken, legacy } = take(&new).unwrap();
        assert_eq!(legacy, "the rest\n");
        say_ready(&new).unwrap();
        giver.join().unwrap().unwrap();
        assert_eq!(taken.iter().map(|(address, _)| *address).collect::<Vec<_>>(), addresses);
        taken[BATCH + 1].1.set_nonblocking(false).unwrap();
        let (mut accepted, _) = taken[BATCH + 1].1.accept().unwrap();
        let mut heard = [0; 5];
        accepted.read_exact(&mut heard).unwrap();
        assert_eq!(&heard, b"early");
    }

    #[test]
    fn a_new_process_that_fails_or_ends_leaves_the_old_one_as_it_was() {
        for report in [Some("no such file\nat all"), None] {
            let (old, new) = UnixStream::pair().unwrap();
            let sockets = listeners(1);
            let address = sockets[0].local_addr().unwrap();
            let taker = std::thread::spawn(move || {
                drop(take(&new).unwrap());
                if let Some(report) = report {
                    say_failed(&new, report);
                }
            });
            let error = give(&old, &sockets, "").unwrap_err().to_string();
            taker.join().unwrap();
            let expect = report.map_or("it ended before it was ready", |_| "failed: no such file | at all");
            assert_eq!(error, expect);
            TcpStream::connect(address).unwrap();
        }
    }

    #[test]
    fn a_socket_that_is_not_what_its_address_says_is_refused() {
        let (old, new) = UnixStream::pair().unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let text = b"127.0.0.1:1\n";
        let descriptors = [listener.as_fd()];
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut control = SendAncillaryBuffer::new(&mut space);
        assert!(control.push(SendAncillaryMessage::ScmRights(&descriptors)));
        let length = (text.len() as u32).to_be_bytes();
        sendmsg(&old, &[IoSlice::new(&length)], &mut control, SendFlags::empty()).unwrap();
        (&old).write_all(text).unwrap();
        assert_eq!(take(&new).unwrap_err().to_string(), "the socket for 127.0.0.1:1 is not that socket");
    }

    #[test]
    fn nonsense_is_refused() {
        for nonsense in [
            &b"\xff\xff\xff\xff"[..],
            b"\0\0\0\x04abc\n",
            b"\0\0\0\x0c127.0.0.1:1\n",
            b"\0\0",
            b"\0\0\0\0\0\0\0\x01",
            b"\0\0\0\0\xff\0\0\0",
        ] {
            let (old, new) = UnixStream::pair().unwrap();
            (&old).write_all(nonsense).unwrap();
            drop(old);
            assert!(take(&new).is_err(), "{nonsense:?}");
        }
    }
}
