//! The limit of a reverse proxy on epoll: it parses nothing and hands bytes on, both ways.
//!
//! `bare-relay ADDRESS UPSTREAM [--close]`
//!
//! Every client has one upstream connection of its own; when a client leaves, its upstream connection is kept for the
//! next one. With `--close`, a client is closed behind the first bytes that came back for it (small answers only).

use anyhow::{Context as _, Result};
use bare::{EVENTS_MAX, LISTENER, READ_BYTES, listen, wait};
use rustix::event::epoll::{self, EventData, EventFlags};
use rustix::io::Errno;
use rustix::net::{RecvFlags, SendFlags, SocketFlags, accept_with, recv, send};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::fd::{AsRawFd as _, OwnedFd};

fn main() -> Result<()> {
    let mut args = std::env::args().skip(1);
    let usage = "usage: bare-relay ADDRESS UPSTREAM [--close]";
    let listener = listen(args.next().context(usage)?.parse()?)?;
    let upstream = args.next().context(usage)?.parse()?;
    let close = args.next().is_some_and(|option| option == "--close");
    let poll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
    epoll::add(&poll, &listener, EventData::new_u64(LISTENER), EventFlags::IN)?;
    let mut relay = Relay { poll, ends: Vec::new(), free: Vec::new(), upstream, close };
    let mut input = vec![0; READ_BYTES];
    let mut events = Vec::with_capacity(EVENTS_MAX);
    loop {
        wait(&relay.poll, &mut events)?;
        for event in &events {
            let flags = event.flags; // a copy: the kernel's struct is packed
            match event.data.u64() {
                LISTENER => relay.accept(&listener)?,
                fd if flags.contains(EventFlags::OUT) => relay.flush(usize::try_from(fd)?)?,
                fd => relay.hand_on(usize::try_from(fd)?, &mut input)?,
            }
        }
    }
}

/// One of the two sockets of a relayed connection.
struct End {
    fd: OwnedFd,
    is_upstream: bool,
    /// The other socket; none while an upstream connection waits for a client.
    mate: Option<usize>,
    /// What the socket did not take yet. Nothing is read from the mate meanwhile.
    pending: Vec<u8>,
}

struct Relay {
    poll: OwnedFd,
    ends: Vec<Option<End>>,
    free: Vec<usize>,
    upstream: SocketAddr,
    close: bool,
}

impl Relay {
    fn accept(&mut self, listener: &TcpListener) -> Result<()> {
        let fd = match accept_with(listener, SocketFlags::NONBLOCK | SocketFlags::CLOEXEC) {
            Ok(fd) => fd,
            Err(Errno::AGAIN | Errno::CONNABORTED) => return Ok(()),
            Err(error) => return Err(error.into()),
        };
        let upstream = match self.free.pop() {
            Some(slot) => slot,
            None => self.connect()?,
        };
        let client = self.insert(fd, false)?;
        self.marry(client, upstream);
        Ok(())
    }

    fn connect(&mut self) -> Result<usize> {
        let stream = TcpStream::connect(self.upstream)?;
        stream.set_nodelay(true)?;
        stream.set_nonblocking(true)?;
        self.insert(stream.into(), true)
    }

    fn insert(&mut self, fd: OwnedFd, is_upstream: bool) -> Result<usize> {
        let slot = usize::try_from(fd.as_raw_fd())?;
        epoll::add(&self.poll, &fd, EventData::new_u64(slot as u64), EventFlags::IN)?;
        if self.ends.len() <= slot {
            self.ends.resize_with(slot + 1, || None);
        }
        self.ends[slot] = Some(End { fd, is_upstream, mate: None, pending: Vec::new() });
        Ok(slot)
    }

    fn marry(&mut self, client: usize, upstream: usize) {
        for (slot, mate) in [(client, upstream), (upstream, client)] {
            if let Some(end) = &mut self.ends[slot] {
                end.mate = Some(mate);
            }
        }
    }

    fn hand_on(&mut self, slot: usize, input: &mut [u8]) -> Result<()> {
        let Some(Some(end)) = self.ends.get(slot) else { return Ok(()) };
        let count = match recv(&end.fd, &mut *input, RecvFlags::empty()) {
            Ok((0, _)) | Err(Errno::CONNRESET) => return Ok(self.part(slot)),
            Ok((count, _)) => count,
            Err(Errno::AGAIN) => return Ok(()),
            Err(error) => return Err(error.into()),
        };
        let Some(mate) = end.mate else { return Ok(self.part(slot)) };
        let from_upstream = end.is_upstream;
        let Some(Some(target)) = self.ends.get_mut(mate) else { return Ok(()) };
        let sent = match send(&target.fd, &input[..count], SendFlags::NOSIGNAL) {
            Ok(sent) => sent,
            Err(Errno::AGAIN) => 0,
            Err(_) => return Ok(self.part(mate)),
        };
        if sent < count {
            target.pending.extend_from_slice(&input[sent..count]);
            self.watch(slot, EventFlags::empty())?;
            self.watch(mate, EventFlags::OUT)?;
        } else if self.close && from_upstream {
            self.part(mate);
        }
        Ok(())
    }

    fn flush(&mut self, slot: usize) -> Result<()> {
        let Some(Some(end)) = self.ends.get_mut(slot) else { return Ok(()) };
        match send(&end.fd, &end.pending, SendFlags::NOSIGNAL) {
            Ok(sent) => drop(end.pending.drain(..sent)),
            Err(Errno::AGAIN) => return Ok(()),
            Err(_) => return Ok(self.part(slot)),
        }
        if end.pending.is_empty() {
            let mate = end.mate;
            self.watch(slot, EventFlags::IN)?;
            if let Some(mate) = mate {
                self.watch(mate, EventFlags::IN)?;
            }
        }
        Ok(())
    }

    fn watch(&self, slot: usize, flags: EventFlags) -> Result<()> {
        if let Some(end) = &self.ends[slot] {
            epoll::modify(&self.poll, &end.fd, EventData::new_u64(slot as u64), flags)?;
        }
        Ok(())
    }

    /// Closes `slot`. The upstream connection of a client that left between two requests is kept.
    fn part(&mut self, slot: usize) {
        let Some(end) = self.ends[slot].take() else { return };
        let Some(mate) = end.mate else {
            self.free.retain(|free| *free != slot);
            return;
        };
        match &mut self.ends[mate] {
            Some(upstream) if upstream.is_upstream && upstream.pending.is_empty() => {
                upstream.mate = None;
                self.free.push(mate);
            }
            other => *other = None,
        }
    }
}
