//! A server that says in frames whatever a test likes, in the tasks of the test.

use crate::tls_support::{Frame, frame};
pub(crate) use crate::tls_support::{GOAWAY, HEADERS, PING, SETTINGS, WINDOW_UPDATE};
use std::cell::Cell;
use std::net::SocketAddr;
use std::rc::Rc;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

/// One connection of it, after the preface.
pub(crate) struct FrameServer {
    pub(crate) stream: TcpStream,
}

impl FrameServer {
    /// Lets `talk` deal with each connection, which it counts from 0.
    pub(crate) async fn listen<Talk: Future<Output = ()> + 'static>(
        talk: impl Fn(usize, Self) -> Talk + 'static,
    ) -> (SocketAddr, Rc<Cell<usize>>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = listener.local_addr().unwrap();
        let count = Rc::new(Cell::new(0));
        let connections = Rc::clone(&count);
        tokio::task::spawn_local(async move {
            let talk = Rc::new(talk);
            loop {
                let (mut stream, _) = listener.accept().await.unwrap();
                let (talk, index) = (Rc::clone(&talk), connections.get());
                connections.set(index + 1);
                tokio::task::spawn_local(async move {
                    if stream.read_exact(&mut [0; 24]).await.is_ok() {
                        talk(index, Self { stream }).await;
                    }
                });
            }
        });
        (addr, count)
    }

    /// Sends a frame; whether there is somebody to send it to, the test finds out otherwise.
    pub(crate) async fn send(&mut self, kind: u8, flags: u8, stream: u32, payload: &[u8]) {
        self.send_bytes(&frame(kind, flags, stream, payload)).await;
    }

    pub(crate) async fn send_bytes(&mut self, bytes: &[u8]) {
        let _ = self.stream.write_all(bytes).await;
    }

    /// The next frame; nothing when the client has closed.
    pub(crate) async fn read(&mut self) -> Option<Frame> {
        let mut header = [0; 9];
        self.stream.read_exact(&mut header).await.ok()?;
        let [a, b, c, kind, flags, stream @ ..] = header;
        let mut payload = vec![0; u32::from_be_bytes([0, a, b, c]) as usize];
        self.stream.read_exact(&mut payload).await.ok()?;
        Some(Frame { kind, flags, stream: u32::from_be_bytes(stream), payload })
    }

    /// Reads on until there is such a frame; how many requests there were before it.
    pub(crate) async fn read_until(&mut self, is_it: impl Fn(&Frame) -> bool) -> usize {
        let mut requests = 0;
        loop {
            let frame = self.read().await.expect("the connection is open");
            if is_it(&frame) {
                return requests;
            }
            requests += usize::from(frame.kind == HEADERS);
        }
    }
}
