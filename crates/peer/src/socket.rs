//! Streams as tasks: one listens, one per link moves its bytes to and from the core, one per device dials.

use std::cell::Cell;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use chat::{DeviceId, Path};
use p2p::LinkId;
use p2p::limits::UNWRITTEN_BYTES_PAUSE;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, split};
use tokio::net::TcpListener;
use tokio::sync::{Notify, mpsc};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

use crate::event::Event;
use crate::link::{Authenticated, ByteStream, LinkError, Tcp, Tls, Transport};
use crate::tracker::Tracker;

/// Handshakes under way at a time with those who dialled us.
const HANDSHAKES_MAX: usize = 64;
/// Pause after the system refused to accept (out of files), so that the loop does not spin.
const ACCEPT_PAUSE: Duration = Duration::from_millis(200);
/// Bytes read at a time.
const READ_BYTES: usize = 64 * 1024;
/// Writes that wait for a slow link; the protocol's own window keeps them few and small.
pub(crate) const WRITES_MAX: usize = 16 * 1024;
/// Longest time a link may take no byte.
const WRITE_TIMEOUT: Duration = Duration::from_secs(30);
/// Time for the last words over a link that is being closed.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(2);
/// The next address is tried this long after the one before, even if that has not failed yet.
const DIAL_STAGGER: Duration = Duration::from_millis(250);

/// Accepts connections for ever. The handshakes run beside each other, so that one who stalls holds up nobody.
pub(crate) async fn listen(listener: TcpListener, tcp: Tcp, events: mpsc::Sender<Event>) {
    let mut handshakes = JoinSet::new();
    loop {
        while handshakes.try_join_next().is_some() {} // reap
        if handshakes.len() >= HANDSHAKES_MAX {
            handshakes.join_next().await;
        }
        let (socket, address) = match listener.accept().await {
            Ok(accepted) => accepted,
            Err(error) => {
                tracing::warn!(%error, "cannot accept a connection");
                sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        let (tcp, events) = (tcp.clone(), events.clone());
        handshakes.spawn_local(async move {
            match tcp.accept(socket).await {
                Ok(stream) => {
                    let event = Event::Connected {
                        stream,
                        path: Path::Direct,
                        address: Some(address),
                        dialled: false,
                        asked: false,
                    };
                    let _ = events.send(event).await;
                }
                Err(error) => tracing::debug!(%address, %error, "no link with a caller"),
            }
        });
    }
}

/// Bytes of a link that were handed over for writing and are not written. While there are too many, nothing is read
/// from the link: whoever does not listen is not listened to.
#[derive(Debug, Default)]
pub(crate) struct Unwritten {
    bytes: Cell<usize>,
    fewer: Notify,
}

impl Unwritten {
    /// More bytes were handed over.
    pub(crate) fn add(&self, bytes: usize) {
        self.bytes.set(self.bytes.get() + bytes);
    }

    fn remove(&self, bytes: usize) {
        self.bytes.set(self.bytes.get().saturating_sub(bytes));
        self.fewer.notify_waiters();
    }

    async fn until_few(&self) {
        while self.bytes.get() > UNWRITTEN_BYTES_PAUSE {
            self.fewer.notified().await;
        }
    }
}

/// Moves the bytes of one link until its stream ends or the sender of `writes` is dropped.
pub(crate) async fn drive(
    link: LinkId,
    stream: Box<dyn ByteStream>,
    writes: mpsc::Receiver<Bytes>,
    unwritten: Rc<Unwritten>,
    events: mpsc::Sender<Event>,
) {
    let (source, sink) = split(stream);
    tokio::select! {
        () = read(link, source, &unwritten, &events) => {}
        () = write(sink, writes, &unwritten) => {}
    }
    let _ = events.send(Event::LinkLost { link }).await;
}

async fn read(link: LinkId, mut reader: impl AsyncRead + Unpin, unwritten: &Unwritten, events: &mpsc::Sender<Event>) {
    let mut buffer = BytesMut::new();
    loop {
        unwritten.until_few().await;
        buffer.reserve(READ_BYTES);
        match reader.read_buf(&mut buffer).await {
            Ok(count) if count > 0 => {}
            _ => return,
        }
        let bytes = buffer.split().freeze();
        if events.send(Event::Bytes { link, bytes }).await.is_err() {
            return;
        }
    }
}

async fn write(mut sink: impl AsyncWrite + Unpin, mut writes: mpsc::Receiver<Bytes>, unwritten: &Unwritten) {
    while let Some(mut bytes) = writes.recv().await {
        let round = async {
            loop {
                let count = bytes.len();
                sink.write_all_buf(&mut bytes).await?;
                unwritten.remove(count);
                match writes.try_recv() {
                    Ok(more) => bytes = more,
                    Err(_) => break sink.flush().await,
                }
            }
        };
        if !matches!(timeout(WRITE_TIMEOUT, round).await, Ok(Ok(()))) {
            return;
        }
    }
    let _ = timeout(CLOSE_TIMEOUT, sink.shutdown()).await;
}

/// Tries all addresses of a device, each a little after the one before, then the relay; reports the first that answers.
pub(crate) async fn dial(
    device: DeviceId,
    addresses: Vec<SocketAddr>,
    relay: Option<Rc<Tracker>>,
    tls: Tls,
    events: mpsc::Sender<Event>,
) {
    let event = match dial_any(device, addresses, &tls).await {
        Ok((stream, address)) => {
            Event::Connected { stream, path: Path::Direct, address: Some(address), dialled: true, asked: false }
        }
        Err(direct) => match dial_relay(device, relay, &tls).await {
            Some(Ok(stream)) => {
                Event::Connected { stream, path: Path::Relayed, address: None, dialled: true, asked: false }
            }
            Some(Err(relayed)) => Event::DialFailed { device, why: format!("{direct}; {relayed}") },
            None => Event::DialFailed { device, why: direct.to_string() },
        },
    };
    let _ = events.send(event).await;
}

async fn dial_any(
    device: DeviceId,
    addresses: Vec<SocketAddr>,
    tls: &Tls,
) -> Result<(Authenticated, SocketAddr), LinkError> {
    let mut attempts = JoinSet::new(); // dropped with the winner's return: the others are aborted
    for (index, address) in addresses.into_iter().enumerate() {
        let tcp = Tcp::new(tls.clone());
        attempts.spawn_local(async move {
            sleep(DIAL_STAGGER * u32::try_from(index).unwrap_or(u32::MAX)).await;
            tcp.dial(address, Some(device)).await.map(|stream| (stream, address))
        });
    }
    let mut failure = LinkError::Relay("no address is known".to_owned());
    while let Some(attempt) = attempts.join_next().await {
        match attempt {
            Ok(Ok(found)) => return Ok(found),
            Ok(Err(error)) => failure = error,
            Err(_) => {}
        }
    }
    Err(failure)
}

async fn dial_relay(
    device: DeviceId,
    relay: Option<Rc<Tracker>>,
    tls: &Tls,
) -> Option<Result<Authenticated, LinkError>> {
    let relay = Relay { tracker: relay?, tls: tls.clone() };
    Some(relay.dial(device, Some(device)).await)
}

/// Dials an address that the user gave, whoever is there.
pub(crate) async fn connect(address: SocketAddr, tls: Tls, events: mpsc::Sender<Event>) {
    let event = match Tcp::new(tls).dial(address, None).await {
        Ok(stream) => {
            Event::Connected { stream, path: Path::Direct, address: Some(address), dialled: true, asked: true }
        }
        Err(error) => Event::ConnectFailed { address, why: error.to_string() },
    };
    let _ = events.send(event).await;
}

/// Takes the other end of a relayed stream that somebody opened to us.
pub(crate) async fn accept_relay(token: String, tracker: Rc<Tracker>, tls: Tls, events: mpsc::Sender<Event>) {
    match (Relay { tracker, tls }).accept(token).await {
        Ok(stream) => {
            let event = Event::Connected { stream, path: Path::Relayed, address: None, dialled: false, asked: false };
            let _ = events.send(event).await;
        }
        Err(error) => tracing::debug!(%error, "no link through the relay"),
    }
}

/// Links through the tracker: the same handshake inside an upgraded stream, so that the tracker sees ciphertext alone.
struct Relay {
    tracker: Rc<Tracker>,
    tls: Tls,
}

impl Transport for Relay {
    type Address = DeviceId;
    type Incoming = String;

    async fn dial(&self, device: DeviceId, expect: Option<DeviceId>) -> Result<Authenticated, LinkError> {
        let stream = self.tracker.relay_to(&device).await.map_err(|error| LinkError::Relay(error.to_string()))?;
        self.tls.dial(stream, expect).await
    }

    async fn accept(&self, token: String) -> Result<Authenticated, LinkError> {
        let stream = self.tracker.relay_accept(&token).await.map_err(|error| LinkError::Relay(error.to_string()))?;
        self.tls.accept(stream).await
    }
}
